"""LAUNCHES -> seconds that they take on a GPU, by its roofline; a prediction, nothing was measured.

A launch takes as long as its bytes or its FLOPs do at the rates of a large one (see `Gpu`), and at
least what a launch costs. What runs step by step within, such as a triangular solve, has a least
time of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from nldsl.target.count import Launch
from nldsl.target.devices import Gpu
from nldsl.target.rehearse import Rehearsal

Bound = Literal["launches", "memory", "products", "latency"]
Launched = Iterable[tuple[Launch, float]]  # with the times of a step

FLOORS = {"as it is": 4e-6, "in CUDA graphs": 1.5e-6, "if launches were free": 0.0}
LATENCY = {"linalg_solve_triangular": 25e-6, "linalg_cholesky_ex": 25e-6, "cholesky_solve": 25e-6}


def seconds(launch: Launch, gpu: Gpu, floor: float) -> float:
    return max(floor, *limits(launch, gpu).values())


def limits(launch: Launch, gpu: Gpu) -> dict[Bound, float]:
    """The least time of a launch, by what bounds it."""
    return {
        "memory": launch.bytes / gpu.streamed,
        "products": launch.flops / gpu.peak(launch.dtype),
        "latency": LATENCY.get(launch.name, 0.0),
    }


def launched(made: Rehearsal) -> Launched:
    """All that a step launches."""
    for part in made.parts:
        for launch in part.graph.launches:
            yield launch, part.times
    yield from made.eager.items()


def sums(some: Launched) -> tuple[float, float, float, float]:
    """Kernels, library calls, bytes and FLOPs."""
    rows = [(n, x.library, x.bytes, x.flops) for x, n in some]
    kernels, library = (sum(n for n, of, *_ in rows if of == which) for which in (False, True))
    size, flops = (sum(row[0] * row[i] for row in rows) for i in (2, 3))
    return kernels, library, size, flops


def total(some: Launched, gpu: Gpu, floor: float) -> float:
    return sum(times * seconds(launch, gpu, floor) for launch, times in some)


def step_seconds(made: Rehearsal, gpu: Gpu) -> dict[str, float]:
    """Of a step, by how it is launched. Operators that no CUDA graph holds are launched alone."""
    held: list[tuple[Launch, float]] = []
    alone: list[tuple[Launch, float]] = []
    for part in made.parts:
        for launch in part.graph.launches:
            here = alone if part.graph.loops or launch.name in part.graph.refused else held
            here.append((launch, part.times))
    held += made.eager.items()
    return {
        how: total(held, gpu, floor) + total(alone, gpu, FLOORS["as it is"] if floor else 0.0)
        for how, floor in FLOORS.items()
    }


def bounds(some: Launched, gpu: Gpu, floor: float) -> dict[Bound, float]:
    """Seconds of a step by what bounds each launch."""
    found: Counter[Bound] = Counter()
    for launch, times in some:
        by: dict[Bound, float] = {"launches": floor, **limits(launch, gpu)}
        longest = max(by, key=lambda bound: by[bound])
        found[longest] += times * by[longest]  # type: ignore[assignment]
    return dict(found.most_common())
