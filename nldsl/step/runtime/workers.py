"""A step whose lanes are divided over workers, each of which reads its own entry of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from nldsl.step.runtime.emitted import HEARD, LASTING, WORKERS, one_worker


def fresh_at_workers(
    W: dict[str, Tensor], inputs: dict[str, Tensor], mode: str, lanes: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, int], dict[str, Tensor]]:
    """`fresh` of each worker here, over its lanes under its own entry. Every sum has the workers as
    its first axis; numbers of terms are those of all of them.
    """
    entries = {name: W[entry].unbind(0) for name, entry in WORKERS.items()}
    count, sequences = len(next(iter(entries.values()))), len(next(iter(inputs.values())))
    if sequences % count:
        raise ValueError(f"{sequences} sequences, which {count} workers cannot share alike")
    found = [
        one_worker(
            {**W, **{name: of[worker] for name, of in entries.items()}},
            part_of(inputs, worker, count),
            mode,
            part_of(lanes, worker, count),
        )
        for worker in range(count)
    ]
    sums = {name: torch.stack([here[name] for here, _, _ in found]) for name in HEARD}
    terms = {name: sum(here[name] for _, here, _ in found) for name in HEARD}
    lasting = {name: torch.cat([here[name] for _, _, here in found]) for name in LASTING}
    return sums, terms, lasting


def part_of(lanes: dict[str, Tensor], worker: int, count: int) -> dict[str, Tensor]:
    """What belongs to the lanes of one of so many workers."""
    return {name: x.chunk(count)[worker] for name, x in lanes.items()}


def sum_of_workers(x: Tensor, axis: int) -> Tensor:
    """The sum over all workers, which stand along one axis."""
    return x.sum(axis)


def mean_of_workers(x: Tensor, axis: int) -> Tensor:
    """The mean over all workers, which stand along one axis."""
    return x.mean(axis)
