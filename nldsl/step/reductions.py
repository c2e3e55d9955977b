"""COMPILED STEP -> what its ranks send each other, and what each of them keeps to itself.

Every sum over lanes leaves a step as a gradient or as the sum of a stream (`Heard`); nothing else of
the network reads more than one lane. A rank adds up those of its own lanes. A tick takes the sums
over all lanes (`Updates.whole`), so a rank sends a sum when a level takes it: after every step, or
once in a period, since sums are linear. What is not taken yet stays the part of one rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nldsl.schedule.named import Heard, Total, input_of
from nldsl.step.compile import PRECISION, CompiledStep
from nldsl.step.flat import shape_of
from nldsl.step.updates import Updates, counts

RING = 2  # times a number passes a wire in a ring: to be summed, and as a sum


def parts(updates: Updates) -> list[str]:
    """The names of the tensors of a state whose sum over all ranks is what one process would hold:
    what a period adds up, and what a tape heard.
    """
    sums = [str(n) for n in updates.states if isinstance(n, Total) and not counts(n)]
    heard = [
        tape.heard(name, *stretch)
        for tape in updates.tapes
        for stretch in tape.adjoint.stretches
        for name in tape.adjoint.targets
    ]
    return sums + heard


def size_of(updates: Updates, heard: Heard) -> int:
    """How many numbers a sum holds."""
    given = input_of(heard)
    if given.what == "sum":
        return math.prod(shape_of(updates.ticks.streams[given.stream].type))
    return math.prod(shape_of(updates.program.memories[given.memory].type))


def level_of(updates: Updates, heard: Heard) -> str:
    """Whose gradient a sum is; of the sum of a stream, the level that adds it up."""
    given = input_of(heard)
    if given.memory:
        return updates.program.memories[given.memory].level
    since = heard.since if isinstance(heard, Total) else ""
    return since if isinstance(since, str) and since else given.stream


@dataclass(frozen=True)
class Traffic:
    """What one level sends: `sends` times in `steps` steps, `size` bytes each time."""

    level: str
    sends: int
    steps: int
    size: int

    @property
    def bytes(self) -> float:
        """Of a step, in the mean."""
        return self.sends * self.size / self.steps


def traffic(step: CompiledStep) -> list[Traffic]:
    """What each level of a step on ranks sends, over one turn of the timetable."""
    updates, table = step.updates, step.schedule.table
    entry = PRECISION[step.precision].itemsize
    turn = range(table.start + 1, table.start + 1 + table.hyperperiod)
    kinds = [table.kind(n) for n in turn]
    every = dict.fromkeys(h for heard in updates.sent.values() for h in heard)
    found: dict[str, Traffic] = {}
    for heard in every:
        level, size = level_of(updates, heard), entry * size_of(updates, heard)
        times = sum(heard in updates.sent[kind + 1] for kind in kinds)
        before = found.get(level)
        found[level] = Traffic(
            level, times, len(kinds), size + (before.size if before is not None else 0)
        )
    return list(found.values())


def at_every_step(traffic: Mapping[str, Traffic]) -> float:
    """Bytes of a step of a trainer that sums every gradient over all ranks after each step."""
    return float(sum(one.size for one in traffic.values()))
