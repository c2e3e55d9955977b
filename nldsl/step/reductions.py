"""UPDATES -> what its ranks send each other, and what each of them keeps to itself.

Every sum over lanes leaves a step as a gradient or as the sum of a stream (`Heard`); nothing else
of the network reads more than one lane. A rank adds up those of its own lanes. A tick takes the
sums over all lanes (`Updates.whole`), so a rank sends a sum when a level takes it: after every
step, or once in a period, since sums are linear. What is not taken yet stays the part of one rank.

A worker is one rank's: its entries, its gradient and the sum of its lanes are never sent. What all
workers make together is sent when a tick takes it (`Updates.met`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nldsl.core.nodes import Axis, Tree, Type, has, numel
from nldsl.schedule.named import Heard, Met, Total, input_of
from nldsl.step.flat import shape_of
from nldsl.step.updates import Updates, counts


def parts(updates: Updates) -> list[str]:
    """The names of the tensors of a state whose sum over all ranks is what one process would hold:
    what a period adds up, and what a tape heard.
    """
    totals = (n for n in updates.states if isinstance(n, Total))
    sums = [str(n) for n in totals if not counts(n) and not updates.own(n)]
    heard = [
        tape.heard(name, *stretch)
        for tape in updates.tapes
        for stretch in tape.adjoint.stretches
        for name in tape.adjoint.targets
    ]
    return sums + heard


def entries(updates: Updates) -> dict[str, Type]:
    """The tensors of a state that hold entries of a rank's own workers, and nobody else's."""
    workers = updates.program.workers
    if updates.ranks == 1 or workers is None:
        return {}
    return {name: type for name, type in updates.types.items() if has(type, workers)}


def joined(parts: Sequence[Tensor], type: Type, workers: Axis) -> Tensor:
    """What ranks hold, each for its own workers -> what one process holds for all of them."""
    shapes = [shape for _, shape in type.leaves] if isinstance(type, Tree) else [type]
    sizes = [numel(shape) for shape in shapes]
    rows = [torch.split(part.reshape(-1), sizes) for part in parts]
    whole = [
        torch.cat([x.view([a.size for a in shape]) for x in some], shape.index(workers))
        for shape, some in zip(shapes, zip(*rows))
    ]
    return torch.cat([x.reshape(-1) for x in whole]) if isinstance(type, Tree) else whole[0]


def size_of(updates: Updates, heard: Heard | Met) -> int:
    """How many numbers a sum holds."""
    if isinstance(heard, Met):
        return heard.size
    given = input_of(heard)
    if given.what == "sum":
        return math.prod(shape_of(updates.ticks.streams[given.stream].type))
    return math.prod(shape_of(updates.program.memories[given.memory].type))


def level_of(updates: Updates, heard: Heard | Met) -> str:
    """Whose gradient a sum is; of the sum of a stream, the level that adds it up; of what workers
    make, the level that takes it.
    """
    if isinstance(heard, Met):
        return heard.level
    given = input_of(heard)
    if given.memory:
        return updates.program.memories[given.memory].level
    since = heard.since if isinstance(heard, Total) else ""
    return since if isinstance(since, str) and since else given.stream


@dataclass(frozen=True)
class Traffic:
    """What one level sends: so many bytes, of `sums` sums, in each step of one turn of the
    timetable; `at_each` bytes if each of its gradients were sent in every step.
    """

    level: str
    bytes: tuple[int, ...]
    sums: tuple[int, ...]
    at_each: int

    @property
    def mean(self) -> float:
        """Bytes of a step."""
        return sum(self.bytes) / len(self.bytes)

    @property
    def period(self) -> float:
        """Steps between two sends, in the mean."""
        return len(self.bytes) / max(1, sum(n > 0 for n in self.sums))


def traffic(updates: Updates, entry: int) -> list[Traffic]:
    """What each level of a step on ranks sends, of numbers of `entry` bytes. The updates are
    emitted.
    """
    kinds = updates.clock.table.turn
    every = dict.fromkeys(heard for some in updates.sent.values() for heard in some)
    found: list[Traffic] = []
    for level in dict.fromkeys(level_of(updates, heard) for heard in every):
        own = [heard for heard in every if level_of(updates, heard) == level]
        sizes = {heard: entry * size_of(updates, heard) for heard in own}
        sent = {
            kind: [sizes[heard] for heard in own if heard in updates.sent[kind]]
            for kind in set(kinds)
        }
        at_each = {
            heard if isinstance(heard, Met) else input_of(heard): size
            for heard, size in sizes.items()
        }
        found.append(
            Traffic(
                level,
                tuple(sum(sent[kind]) for kind in kinds),
                tuple(len(sent[kind]) for kind in kinds),
                sum(at_each.values()),
            )
        )
    return found


def at_ticks(updates: Updates, entry: int) -> list[list[int]]:
    """The bytes of each message that ranks send at the end of each step of one turn of the
    timetable: what levels take then is one, and what workers make of each other one each.
    """

    def messages(kind: int) -> list[int]:
        sent = [heard for heard in updates.sent[kind] if heard not in updates.early]
        met = [entry * heard.size for heard in sent if isinstance(heard, Met)]
        sums = [entry * size_of(updates, heard) for heard in sent if not isinstance(heard, Met)]
        return [sum(sums), *met] if sums else met

    return [messages(kind) for kind in updates.clock.table.turn]
