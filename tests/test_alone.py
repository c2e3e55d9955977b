"""An emitted file runs by itself: with torch alone it trains, and its losses are those of the
compiled step.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest
import torch
from family import tiny

from nldsl.pipeline import compile_program
from nldsl.step.compile import CompiledStep
from nldsl.step.layout import WIDTH

STEPS, TOKENS = 5, 12
TOLERANCE = 1e-6  # of printed losses; both are float64

# Runs files as programs, one after the other, where nothing of this package can be imported.
RUN = """
import runpy, sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "nldsl":
            raise ImportError(name)

sys.meta_path.insert(0, Forbidden())
steps, tokens, *files = sys.argv[1:]
for file in files:
    print("file", file)
    sys.argv = [file, "--steps", steps, "--tokens", tokens, "--dtype", "float64"]
    runpy.run_path(file, run_name="__main__")
"""
NAMES = ("hope", "titans", "ttt_e2e", "cms", "mesa", "lifelong", "series", "tnt")


@cache
def step_of(name: str) -> CompiledStep:
    return compile_program(tiny(name), precision="float64", capture="eager")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[float]]]:
    """By spec, the losses of each step that its file prints."""
    folder = tmp_path_factory.mktemp("alone")
    for name in NAMES:
        (folder / f"{name}.py").write_text(step_of(name).source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "-c", RUN, str(STEPS), str(TOKENS), *(f"{x}.py" for x in NAMES)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for part in done.stdout.split("file ")[1:]:
        file, *lines = part.splitlines()
        found[file.removesuffix(".py")] = [[float(x) for x in s.split()[3::2]] for s in lines]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_file_trains_by_itself(name: str, alone: dict[str, list[list[float]]]) -> None:
    step = step_of(name)
    state = step.init(0)
    batch = step.module["random_batch"](0, 2, TOKENS, torch.float64)
    expected = [[float(x) for x in step(state, [batch]).values()] for _ in range(STEPS)]
    assert len(alone[name]) == STEPS
    for a, b in zip(alone[name], expected, strict=True):
        assert a == pytest.approx(b, rel=TOLERANCE)
    assert not [line for line in step.source.splitlines() if len(line) > WIDTH]
