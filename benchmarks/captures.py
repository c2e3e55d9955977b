"""Each shipped spec, compiled beside the same step as it is written: rows by name.

A spec that needs weights from a file is left out.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.systems import EXAMPLES
from benchmarks.table import ROOT, line

BATCH, LENGTH = 4, 256
SIZES = {"d": 192, "depth": 2, "head": 4}  # those of them that a spec has
SIZES_SAID = (
    f"{BATCH} sequences of {LENGTH} tokens a step; "
    f"{', '.join(f'{key} {value}' for key, value in SIZES.items())} where a spec has them. "
    "At least 0.95 is asked for."
)
COLUMNS = ("spec", "as written, ms", "compiled, ms", "times as fast", "s to compile")
SPECS = [
    path.stem for path in sorted(EXAMPLES.glob("*.nl")) if "load(" not in path.read_text("utf-8")
]


def rows(name: str, rounds: int, kept: Path) -> list[str]:
    """Measured in a process of its own; only built if there are no rounds."""
    command = [sys.executable, "-m", "benchmarks.captures", name, str(rounds)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"XDG_CACHE_HOME": str(kept)},
    )
    return done.stdout.splitlines()


def sizes(name: str) -> dict[str, str]:
    text = (EXAMPLES / f"{name}.nl").read_text("utf-8")
    return {key: str(value) for key, value in SIZES.items() if re.search(rf"\b{key} = ", text)}


def main(name: str, rounds: int) -> None:
    import time

    from nldsl import pipeline
    from nldsl.train.bench import random_batch

    program = pipeline.load(EXAMPLES / f"{name}.nl", sizes(name))
    batch = random_batch(program, BATCH, LENGTH, "cpu")
    began = time.perf_counter()
    steps = [pipeline.compile_program(program, capture=how) for how in ("eager", "auto")]
    states = [step.init(0) for step in steps]
    for step, state in zip(steps, states):
        step.warm(state, batch)
    compiled = time.perf_counter() - began
    seconds: list[list[float]] = []
    for _ in range(rounds + 1 if rounds else 0):
        seconds.append([])
        for step, state in zip(steps, states):
            began = time.perf_counter()
            step(state, [batch])
            seconds[-1].append(time.perf_counter() - began)
    if rounds:
        written, fast = (1000 * statistics.median(s) for s in zip(*seconds[1:]))
        ratio = statistics.median(a / b for a, b in seconds[1:])
        print(line(name, f"{written:,.1f}", f"{fast:,.1f}", f"{ratio:.2f}", f"{compiled:.0f}"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
