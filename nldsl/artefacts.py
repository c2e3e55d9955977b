"""A compiled step -> files to keep: its source, its picture, and a manifest of every number it was
made with.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from nldsl import writing
from nldsl.source import Source
from nldsl.step.compile import CompiledStep
from nldsl.train import faults
from nldsl.train.records import Compiled, written
from nldsl.view.families import family_graph
from nldsl.view.level_table import levels_text
from nldsl.view.mermaid import mermaid
from nldsl.view.page import svg


def write(step: CompiledStep, source: Source, folder: Path) -> list[str]:
    """Write step.py, levels.svg, levels.mmd, levels.txt and manifest.json; returns their names.

    Raises N713 if the disk refuses.
    """
    graph = family_graph(step.program)
    manifest = Compiled.model_validate(
        {
            "spec": source.name,
            "spec_sha256": hashlib.sha256(source.text.encode()).hexdigest(),
            "dims": dict(step.program.dims),
            "sets": {name: str(value) for name, value in step.program.sets.items()},
            "device": step.device,
            "precision": step.precision,
            "capture": step.capture,
            "why": step.why,
            "torch": torch.__version__,
            "tick_kinds": [list(kind) for kind in step.schedule.table.kinds],
            "lowerings": dict(step.emitted.lowering),
            "compile_seconds": {
                name: round(seconds, 2) for name, seconds in step.compile_seconds.items()
            },
        }
    )
    files = {
        "step.py": step.source,
        "levels.svg": svg(graph, Path(source.name).stem),
        "levels.mmd": mermaid(graph),
        "levels.txt": levels_text(step.program),
        "manifest.json": written(manifest),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            writing.replace(folder / name, text)
    except OSError as error:
        raise faults.cannot_write(folder, error) from None
    return sorted(files)
