"""Tells the workers in turn, and writes the table."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.systems import BATCH, LENGTH, NEAR, SIZES, SPECS, TRANSFORMER

ROOT = Path(__file__).parent.parent
TOKENS = BATCH * LENGTH


@dataclass
class Worker:
    """A system that waits in its own process."""

    name: str
    parameters: int = 0
    built: float = 0.0
    cold: float = 0.0  # to build it where nothing was kept on the disk
    seconds: list[float] = field(default_factory=list)
    peak: int = 0

    def start(self, kept: Path) -> Worker:
        command = [sys.executable, "-m", "benchmarks.worker", self.name]
        command += [str(self.parameters)] if self.parameters else []
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"XDG_CACHE_HOME": str(kept), "TORCHINDUCTOR_CACHE_DIR": str(kept / "inductor")},
        )
        told = self.heard()
        self.parameters, self.built = told["parameters"], told["built"]
        return self

    def heard(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with {self.process.wait()}")
        return dict(json.loads(line))

    def step(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        told = self.heard()
        self.seconds.append(told["seconds"])
        self.peak = max(self.peak, told["peak"])

    def end(self) -> None:
        self.process.kill()

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def row(self, beside: Worker) -> str:
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (
            f"| {self.name} | {self.parameters / 1e6:.2f} M | {1000 * self.median:,.0f} "
            f"({1000 * low:,.0f} to {1000 * high:,.0f}) | {TOKENS / self.median:,.0f} | "
            f"{beside.median / self.median:.2f} | {self.peak / 1e9:.2f} | "
            f"{self.cold:.0f} | {self.built:.0f} |"
        )


def measured(name: str, rounds: int) -> list[str]:
    """A spec between two transformers with as many parameters: the rows of a table."""
    with tempfile.TemporaryDirectory() as kept:  # what is compiled, of each system once
        own = twice(name, 0, Path(kept) / "own")
        first = twice(TRANSFORMER, own.parameters, Path(kept) / "first")
        last = twice(TRANSFORMER, own.parameters, Path(kept) / "last")
        return interleaved([first, own, last], rounds)


def twice(name: str, parameters: int, kept: Path) -> Worker:
    """A system that found what it had compiled the first time."""
    first = Worker(name, parameters).start(kept)
    first.end()
    second = Worker(name, parameters).start(kept)
    second.cold = first.built
    return second


def interleaved(workers: list[Worker], rounds: int) -> list[str]:
    """The rows of a table."""
    first, own, _ = workers
    try:
        for _ in range(rounds):
            for worker in workers:
                worker.step()
    finally:
        for worker in workers:
            worker.end()
    assert abs(first.parameters / own.parameters - 1) <= NEAR, own.name
    return [worker.row(first) for worker in workers]


def machine() -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    names = [s for s in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in s]
    cpu = names[0].partition(": ")[2] if names else platform.machine()
    cores = len(os.sched_getaffinity(0))
    return f"{commit}; {cpu}, {cores} cores; torch {torch.__version__}, float32"


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(SPECS)}.")] = None,
    rounds: int = 9,
    out: Annotated[Path | None, typer.Option(help="Append the tables to this file.")] = None,
) -> None:
    sizes = ", ".join(f"{key} {value}" for key, value in SIZES.items())
    lines = [f"## {machine()}", "", f"{BATCH} sequences of {LENGTH} bytes a step; {sizes}."]
    for name in names or SPECS:
        lines += [
            "",
            "| system | parameters | ms a step (quartiles) | tokens/s | times the transformer | "
            "peak GB | s to build | s to build again |",
            "|---|---|---|---|---|---|---|---|",
            *measured(name, rounds),
        ]
        print("\n".join(lines[-6:]), flush=True)
    if out is not None:
        with out.open("a") as file:
            file.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    typer.run(main)
