"""Pairs of texts with one meaning, timed in turn.

    python -m benchmarks.pairs [NAME..] [--rounds 9] [--capture eager] [--out FILE]

The texts are those of tests/pairs.py, which are held to equal values and equal work there. A number
is the median of a step over the rounds, both texts in each; the ratio is that of the medians.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.systems import System
from benchmarks.table import machine
from nldsl import pipeline
from nldsl.core.nodes import numel
from nldsl.train.bench import random_batch
from tests.pairs import PAIRS

BATCH, LENGTH = 4, 256
SIZES = {"d": "128", "head": "4", "vocab": "256", "depth": "2", "chunk": "64"}


def system(text: str, capture: str) -> System:
    sets = {name: size for name, size in SIZES.items() if f"{name} = " in text}
    program = pipeline.load_text(text, sets=sets)
    step = pipeline.compile_program(program, capture=capture)
    state, batch = step.init(0), random_batch(program, BATCH, LENGTH, "cpu")
    step.warm(state, batch)
    parameters = sum(numel(weight.shape) for weight in program.weights.values())
    once = partial(step, state, [batch])
    return System(parameters, once, once)


def medians(systems: list[System], rounds: int) -> list[float]:
    """Of a step of each, in turn."""
    seconds: list[list[float]] = [[] for _ in systems]
    for i in range(rounds + 1):
        for found, each in zip(seconds, systems, strict=True):
            began = time.perf_counter()
            each.step()
            found += [time.perf_counter() - began] if i else []  # the first warms up
    return [statistics.median(found) for found in seconds]


def row(name: str, rounds: int, capture: str) -> str:
    first, then = medians([system(text, capture) for text in PAIRS[name].texts], rounds)
    return f"| {name} | {1000 * first:.0f} | {1000 * then:.0f} | {first / then:.2f} |"


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Names of pairs; all if none.")] = None,
    rounds: int = 9,
    capture: str = "split",
    out: Annotated[Path | None, typer.Option(help="Append the table to this file.")] = None,
) -> None:
    sizes = ", ".join(f"{name} {size}" for name, size in SIZES.items())
    lines = [
        f"## {machine()}",
        "",
        f"{BATCH} sequences of {LENGTH} tokens a step; {sizes}; capture {capture}.",
        "",
        "| pair | ms a step, as at first | ms a step, as then | ratio |",
        "|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for name in names or PAIRS:
        lines.append(row(name, rounds, capture))
        print(lines[-1], flush=True)
    if out is not None:
        with out.open("a") as file:
            file.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    typer.run(main)
