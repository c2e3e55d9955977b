"""An emitted file runs by itself: with torch alone it trains, and its losses are those of the
compiled step.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from family import tiny

from nldsl.pipeline import compile_program
from nldsl.step.layout import WIDTH

STEPS, TOKENS = 5, 12
TOLERANCE = 1e-6  # of printed losses; both are float64

# Runs a file as a program where nothing of this package can be imported.
RUN = """
import runpy, sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "nldsl":
            raise ImportError(name)

sys.meta_path.insert(0, Forbidden())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def alone(path: Path) -> list[list[float]]:
    """The losses of each step that a file prints."""
    given = ["--steps", str(STEPS), "--tokens", str(TOKENS), "--dtype", "float64"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", RUN, str(path), *given],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [[float(x) for x in line.split()[3::2]] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "name", ["hope", "titans", "ttt_e2e", "cms", "mesa", "lifelong", "series", "tnt"]
)
def test_a_file_trains_by_itself(name: str, tmp_path: Path) -> None:
    step = compile_program(tiny(name), precision="float64", capture="eager")
    path = tmp_path / "step.py"
    path.write_text(step.source, encoding="utf-8")
    state = step.init(0)
    batch = step.module["random_batch"](0, 2, TOKENS, torch.float64)
    expected = [[float(x) for x in step(state, [batch]).values()] for _ in range(STEPS)]
    found = alone(path)
    assert len(found) == STEPS
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, rel=TOLERANCE)
    assert not [line for line in step.source.splitlines() if len(line) > WIDTH]
