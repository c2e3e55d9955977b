"""STATE -> THE PART OF IT THAT EACH RANK HOLDS, and back.

Each array of a memory, of what optimizers keep of it and of what a period adds up of its gradient
is flat, in as many parts of one size as there are ranks; rank r holds part r. What is missing in
the last ones is filled up, and never read. A tensor of many arrays holds its parts of them one
after the other, so that what is worked out entry by entry needs no message.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nldsl.core.nodes import Shape, Tree, Type, numel
from nldsl.core.program import Level, Program
from nldsl.diagnostic import Diagnostic, Diagnostics

RANK = "this rank"  # beside what `planned` says of levels: the number of the rank, [1]


def arrays(type: Type) -> list[Shape]:
    """Of a tree, and of an array, which is one."""
    return [shape for _, shape in type.leaves] if isinstance(type, Tree) else [type]


@dataclass(frozen=True)
class Shards:
    """A state in `count` parts; in one, it is whole."""

    count: int = 1

    @property
    def are(self) -> bool:
        return self.count > 1

    def part(self, numbers: int) -> int:
        """How many numbers of an array a rank holds."""
        return -(-numbers // self.count)

    def filled(self, numbers: int) -> int:
        """How many numbers all ranks hold of an array."""
        return self.count * self.part(numbers)

    def size(self, type: Type) -> int:
        """How many numbers of a value a rank holds."""
        return sum(self.part(numel(shape)) for shape in arrays(type))

    def even(self, type: Type) -> bool:
        """Is nothing filled up?"""
        return self.size(type) * self.count == sum(map(numel, arrays(type)))

    def of(self, x: Tensor, type: Type, rank: int) -> Tensor:
        """The part of a rank, [size]; `x` is whole, in any shape."""
        found = []
        for flat in x.reshape(-1).split_with_sizes([*map(numel, arrays(type))]):
            part = self.part(len(flat))
            own = flat[rank * part : (rank + 1) * part]
            found.append(torch.cat([own, own.new_zeros(part - len(own))]))
        return torch.cat(found)

    def whole(self, parts: Tensor, type: Type) -> Tensor:
        """The numbers of a value, flat, from the parts of all ranks, [rank, size]."""
        sizes = [numel(shape) for shape in arrays(type)]
        columns = parts.split_with_sizes([self.part(n) for n in sizes], 1)
        return torch.cat([x.reshape(-1)[:n] for x, n in zip(columns, sizes, strict=True)])


def require_divisible(program: Program, viewers: Iterable[Level]) -> None:
    """Raises N725 for what reads whole memories at a tick: `viewers`, which learn through the ticks
    of other levels, and workers, each with an entry of the weights.
    """
    found = [
        (level, "learns through the ticks of other levels, and the way back through them")
        for level in viewers
    ]
    if program.workers is not None:
        apart = {memory for memory in entries_of(program)}
        found += [
            (program.level(memory), "is `per worker`, and a worker") for memory in sorted(apart)
        ]
    if found:
        level, does = found[0]
        raise Diagnostics(
            [
                Diagnostic(
                    "N725",
                    f"`{level.name.rpartition('.')[2]}` {does} reads whole memories: with "
                    "`--shard` no rank has them",
                    level.span,
                    help="train without `--shard`: each rank then holds all of the state",
                )
            ]
        )


def entries_of(program: Program) -> set[str]:
    """The memories that workers have entries of."""
    return {weight.worker for weight in program.weights.values() if weight.worker is not None}


def groups(
    reads: Mapping[str, int], often: Collection[str], places: Mapping[str, list[int]]
) -> list[dict[str, list[int]]]:
    """The arrays that a forward pass reads, name -> sizes: first those that are read `often`, then
    those of each block together. `reads`: the number of the block that reads an array first.
    """
    found: dict[int, dict[str, list[int]]] = {}
    for name, block in reads.items():
        if name not in often:
            found.setdefault(block, {})[name] = places[name]
    staying = {name: places[name] for name in reads if name in often}
    return [staying, *(found[block] for block in sorted(found))]
