"""A text of any size is trained on in the same memory, and its batches take next to no time."""

from __future__ import annotations

import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_data_text import SPEC
from test_data_tokens import bpe

from nldsl.train import run as runs
from nldsl.train.records import Settings

ROOT = Path(__file__).parent.parent
WORDS = [path.stem for path in sorted((ROOT / "nldsl").rglob("*.py"))] * 3 + ["a", "in", "of\n"]
GROWTH = 1.1  # anonymous memory of a large text over that of a small one
SHARE = 0.02  # of a step's time, that its batch may take
pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="memory is told by /proc")


def text(path: Path, size: int) -> Path:
    draw = random.Random(0)
    with path.open("w") as file:
        while file.tell() < size:
            file.write(" ".join(draw.choices(WORDS, k=20_000)) + "\n")
    return path


def documents(path: Path, size: int) -> Path:
    draw = random.Random(0)
    with path.open("w") as file:
        while file.tell() < size:
            file.write(json.dumps({"text": " ".join(draw.choices(WORDS, k=200))}) + "\n")
    return path


def peak(folder: Path, data: Path, *more: object) -> int:
    """The most anonymous memory of a short training, in KiB."""
    name = f"{data.stem}-{len(more)}"
    command = [sys.executable, "-m", "nldsl", "train", folder / "spec.nl", data, *more]
    command += ["--steps", "20", "--length", "64", "--capture", "eager", "--out", folder / name]
    most = 0
    with (folder / f"{name}.log").open("w") as log:
        child = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log)
        while child.poll() is None:
            try:
                told = Path(f"/proc/{child.pid}/status").read_text()
            except OSError:
                break
            most = max([most, *map(int, re.findall(r"RssAnon:\s+(\d+)", told))])
            time.sleep(0.02)
    assert child.wait() == 0, (folder / f"{name}.log").read_text()
    return most


def grown(folder: Path, make: Callable[[Path, int], Path], sizes: tuple[int, int]) -> float:
    (folder / "spec.nl").write_text(SPEC)
    small, large = (
        peak(folder, make(folder / f"{make.__name__}{size}.jsonl", size))
        if make is documents
        else peak(folder, make(folder / f"{make.__name__}{size}.txt", size))
        for size in sizes
    )
    return large / small


@pytest.mark.parametrize("make", [text, documents])
def test_memory_does_not_grow_with_a_text(
    make: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    """Measured again if it does: what a process takes beside the text varies."""
    sizes = (8_000_000, 48_000_000)
    assert any(grown(tmp_path, make, sizes) <= GROWTH for _ in range(2))


@pytest.mark.soak
@pytest.mark.parametrize("make", [text, documents])
def test_memory_does_not_grow_with_a_gigabyte(
    make: Callable[[Path, int], Path],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    growth = grown(tmp_path, make, (10_000_000, 1_000_000_000))
    record_property(f"memory of 1 GB of {make.__name__} over that of 10 MB", f"{growth:.3f}")
    assert growth <= GROWTH


@pytest.mark.soak
def test_memory_does_not_grow_with_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "spec.nl").write_text(SPEC)
    own = ("--tokenizer", bpe(tmp_path / "own.json"), "--set", "vocab=600")
    small, large = (
        peak(tmp_path, text(tmp_path / f"{size}.txt", size), *own)
        for size in (10_000_000, 100_000_000)
    )
    assert large / small <= GROWTH


def test_a_batch_takes_next_to_no_time(tmp_path: Path) -> None:
    """Of a step of examples/titans.nl, run as it is written."""
    settings = Settings(data=str(text(tmp_path / "a.txt", 60_000_000)), steps=3, capture="eager")
    run = runs.begin(ROOT / "examples" / "titans.nl", settings, tmp_path / "run")
    step, state = runs.compiled(run)
    loads, steps = [], []
    for n in range(1, 4):
        began = time.perf_counter()
        batches = run.batches(n)
        loads.append(time.perf_counter() - began)
        step(state, batches)
        steps.append(time.perf_counter() - began)
    assert statistics.median(loads) <= SHARE * statistics.median(steps), os.getloadavg()
