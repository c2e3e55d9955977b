"""GRADIENTS AS THEY COME -> their sums over ranks, on their way while those of earlier layers are
still worked out.

What levels take after every step (`Updates.early`) is sent so, a block or some at once: those of
the last blocks first, a group as soon as it is whole. All ranks send the same groups in the same
order, whatever comes first. What a period adds up is sent by the tick that takes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

GROUP = 1 << 20  # bytes, at least
Slopes = Callable[[Tensor, list[Tensor]], list[Tensor]]
# stream -> the memories that learn from it: their arrays, and whether they are one vector
Learners = Mapping[str, Mapping[str, tuple[Sequence[str], bool]]]


class Array(NamedTuple):
    """One of those that a memory is made of; `key` is that of its gradient, `at` where it begins
    there.
    """

    name: str
    key: str
    at: int
    numel: int


def arrays_of(learners: Learners, stream: str, W: Mapping[str, Tensor]) -> Iterator[Array]:
    """Those whose gradient a stream gives, as they lie in it."""
    for owner, (names, _) in learners[stream].items():
        at = 0
        for name in names:
            yield Array(name, f"{owner}|{stream}", at, W[name].numel())
            at += W[name].numel()


def groups(arrays: Iterable[Array], reads: Mapping[str, int], entry: int) -> Iterator[list[Array]]:
    """Those of whole blocks, the last ones first, of `GROUP` bytes or more; what is left."""

    def turn(array: Array) -> int:
        return -reads.get(array.name, 0)

    group: list[Array] = []
    for _, block in groupby(sorted(arrays, key=turn), turn):
        group += block
        if entry * sum(array.numel for array in group) >= GROUP:
            yield group
            group = []
    if group:
        yield group


def messages(
    learners: Learners,
    W: Mapping[str, Tensor],
    early: frozenset[str],
    reads: Mapping[str, int],
    entry: int,
) -> list[int]:
    """The bytes of what a step sends as it comes, a message each, of numbers of `entry` bytes."""
    return [
        entry * sum(array.numel for array in group)
        for stream in learners
        for group in groups(
            (array for array in arrays_of(learners, stream, W) if array.key in early), reads, entry
        )
    ]


def hooked(leaf: Tensor, hears: Callable[[Tensor], None]) -> RemovableHandle:
    found: RemovableHandle = leaf.register_hook(hears)  # type: ignore[no-untyped-call]
    return found


class Sending:
    """Takes derivatives, and sends those of `early`, by the keys of their memories; `reads`: of
    each array the number of the block that reads it first; `before`: what earlier micro-batches
    gave.
    """

    def __init__(
        self,
        learners: Learners,
        W: Mapping[str, Tensor],
        early: frozenset[str],
        reads: Mapping[str, int],
        before: Mapping[str, Tensor],
        slopes: Slopes,
        send: Callable[[Tensor], Tensor],
    ) -> None:
        self.learners, self.W, self.early, self.reads = learners, W, early, reads
        self.before, self.slopes, self.send = before, slopes, send
        self.sent: list[tuple[list[Array], Tensor]] = []

    def derive(self, stream: str, total: Tensor, leaves: list[Tensor]) -> list[Tensor]:
        """The derivatives of a stream's sum, in the place of `slopes`."""
        every = list(arrays_of(self.learners, stream, self.W))
        own = (array for array in every if array.key in self.early)
        queue = deque(groups(own, self.reads, leaves[0].element_size()))
        there: dict[Array, Tensor] = {}
        hooks = [
            hooked(leaf, partial(self.came, queue, there, array))
            for array, leaf in zip(every, leaves, strict=True)
            if array.key in self.early and leaf.requires_grad
        ]
        found = self.slopes(total, leaves)
        for hook in hooks:
            hook.remove()
        there |= dict(zip(every, found, strict=True))
        self.push(queue, there)
        return found

    def came(
        self, queue: deque[list[Array]], there: dict[Array, Tensor], array: Array, g: Tensor
    ) -> None:
        there[array] = g
        self.push(queue, there)

    def push(self, queue: deque[list[Array]], there: Mapping[Array, Tensor]) -> None:
        """Sends the groups that are whole, up to the first that is not."""
        while queue and all(array in there for array in queue[0]):
            group = queue.popleft()
            with torch.no_grad():
                parts = [self.added(array, there[array]) for array in group]
                self.sent.append((group, self.send(torch.cat(parts))))

    def added(self, array: Array, g: Tensor) -> Tensor:
        before = self.before.get(array.key)
        if before is None:
            return g.reshape(-1)
        return g.reshape(-1) + before.view(-1)[array.at : array.at + array.numel]

    def wholes(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The sums over all ranks, laid out as the gradients that this one has."""
        parts: dict[str, list[tuple[int, Tensor]]] = {}
        for group, message in self.sent:
            for array, part in zip(group, torch.split(message, [one.numel for one in group])):
                parts.setdefault(array.key, []).append((array.at, part))
        return {
            key: torch.cat([part for _, part in sorted(some, key=lambda one: one[0])]).view_as(
                own[key]
            )
            for key, some in parts.items()
        }
