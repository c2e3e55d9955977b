"""Tells the workers in turn, so that all see the same machine, and writes the table."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks import peers
from benchmarks.systems import (
    BATCH,
    LENGTH,
    NEAR,
    PRODUCT,
    TABLES,
    TRANSFORMER,
    loaded,
    parameters_of,
)

ROOT = Path(__file__).parent.parent
TOKENS = BATCH * LENGTH
COLUMNS = (
    "system",
    "parameters",
    "ms a step (quartiles)",
    "tokens/s",
    "times the transformer",
    "GFLOP a step",
    "share of the peak",
    "peak GB",
    "s to build",
    "s to build again",
)


@dataclass(frozen=True)
class First:
    """What a system said of itself where nothing that it compiles was kept on the disk."""

    parameters: int
    flops: float  # a step
    built: float  # seconds


@dataclass
class Worker:
    """A system that waits in its own process; what it compiles is kept in a folder."""

    name: str
    kept: Path
    parameters: int = 0  # that it is to have
    built: float = 0.0
    seconds: list[float] = field(default_factory=list)
    peak: int = 0

    def start(self) -> Worker:
        command = [sys.executable, "-m", "benchmarks.worker", self.name, str(self.parameters)]
        folders = {
            "XDG_CACHE_HOME": str(self.kept),
            "TORCHINDUCTOR_CACHE_DIR": str(self.kept / "inductor"),
        }
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | folders,
        )
        told = self.heard()
        self.parameters, self.built = told["parameters"], told["built"]
        return self

    def told(self, order: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        return self.heard()

    def heard(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with {self.process.wait()}")
        return dict(json.loads(line))

    def step(self) -> None:
        told = self.told("step")
        self.seconds.append(told["seconds"])
        self.peak = max(self.peak, told["peak"])

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def first(self) -> First:
        """Built once, if it was not yet."""
        known = self.kept / "first.json"
        if not known.exists():
            self.kept.mkdir(parents=True, exist_ok=True)
            made = Worker(self.name, self.kept, self.parameters).start()
            first = First(made.parameters, made.told("flops")["flops"], made.built)
            made.end()
            known.write_text(json.dumps(asdict(first)))
        return First(**json.loads(known.read_text()))


def workers(name: str, kept: Path) -> list[Worker]:
    """A spec and what is installed of what stands beside it, between two transformers with as many
    parameters; each has been built once.
    """
    here = [x for x in (name, *TABLES[name]) if peers.is_installed(x)]
    names = [TRANSFORMER, *here, TRANSFORMER]
    parameters = parameters_of(loaded(name))
    found = [Worker(x, kept / folder(name) / folder(x), parameters) for x in names]
    for worker in found:
        near = worker.first.parameters / parameters - 1
        assert abs(near) <= NEAR, f"{worker.name} is {100 * near:+.1f} % as large"
    return found


def folder(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


def interleaved(workers: Sequence[Worker], rounds: int) -> None:
    """So many steps of each, in turn."""
    try:
        for worker in workers:
            worker.start()
        for _ in range(rounds):
            for worker in workers:
                worker.step()
    finally:
        for worker in workers:
            worker.end()


def rows(name: str, rounds: int, kept: Path) -> list[str]:
    """The table of a spec."""
    found, product = workers(name, kept), Worker(PRODUCT, kept / folder(PRODUCT))
    interleaved([product, *found], rounds)
    rate = product.first.flops / product.median
    absent = [x for x in TABLES[name] if not peers.is_installed(x)]
    return [
        *(row(worker, found[0], rate) for worker in found[:-1]),
        *(line(x, f"not installed: {peers.INSTALL}", *[""] * (len(COLUMNS) - 2)) for x in absent),
        row(found[-1], found[0], rate),
    ]


def row(worker: Worker, beside: Worker, rate: float) -> str:
    """`rate`: FLOPs a second of a product of large matrices."""
    low, _, high = statistics.quantiles(worker.seconds, n=4)
    return line(
        f"{worker.name} {peers.version(worker.name)}".strip(),
        f"{worker.parameters / 1e6:.2f} M",
        f"{1000 * worker.median:,.0f} ({1000 * low:,.0f} to {1000 * high:,.0f})",
        f"{TOKENS / worker.median:,.0f}",
        f"{beside.median / worker.median:.2f}",
        f"{worker.first.flops / 1e9:,.0f}",
        f"{worker.first.flops / worker.median / rate:.2f}",
        f"{worker.peak / 1e9:.2f}",
        f"{worker.first.built:.0f}",
        f"{worker.built:.0f}",
    )


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def head(*columns: str) -> list[str]:
    return ["", line(*columns), f"|{'---|' * len(columns)}"]


def machine() -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    names = [s for s in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in s]
    cpu = names[0].partition(": ")[2] if names else platform.machine()
    cores = len(os.sched_getaffinity(0))
    return f"{commit}; {cpu}, {cores} cores; torch {torch.__version__}, float32"
