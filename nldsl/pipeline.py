"""The compiler, each stage called once, top to bottom.

text -> syntax tree -> program (core equations, levels) -> checked -> schedule -> step source ->
compiled step
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nldsl.core.program import Program
from nldsl.frontend.parse import parse
from nldsl.graph.desugar import elaborate
from nldsl.rules import check
from nldsl.source import Source, decoded

if TYPE_CHECKING:
    from nldsl.step.compile import CompiledStep
    from nldsl.step.loading import Files

STANDARD = Path(__file__).parent / "std"


def load(path: str | Path, sets: Mapping[str, str] | None = None) -> Program:
    """Reads, elaborates and checks a spec. Raises Diagnostics with every finding."""
    path = Path(path)
    return load_text(decoded(path.read_bytes()), path.name, sets, [path.parent])


def load_text(
    text: str,
    name: str = "spec.nl",
    sets: Mapping[str, str] | None = None,
    search: list[Path] | None = None,
) -> Program:
    source = Source(name, text)
    program = elaborate(
        parse(source), source, sets=dict(sets or {}), search=[*(search or []), STANDARD]
    )
    return check(program)


def compile_program(
    program: Program,
    device: str = "cpu",
    precision: str = "float32",
    capture: str = "auto",
    planned_steps: int = 1000,
    accumulate: int = 1,
    files: Files | None = None,
) -> CompiledStep:
    """The training step of a checked program; `files` holds what it loads.

    Raises Diagnostics (N8xx) for what has no lowering yet.
    """
    from nldsl.schedule.faults import told  # torch is imported where something is to run
    from nldsl.step.compile import CompiledStep

    with told(program):
        return CompiledStep(program, device, precision, capture, planned_steps, accumulate, files)
