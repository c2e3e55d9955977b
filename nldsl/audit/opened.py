"""A run -> its step as it is written, its state, and sequences of its held-out data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nldsl.core.program import Memory, Program
from nldsl.step.compile import CompiledStep
from nldsl.step.reading import Module
from nldsl.step.state import State
from nldsl.train import checkpoint, faults
from nldsl.train import run as runs
from nldsl.train.data.dataset import slices
from nldsl.train.data.sequences import Extent, Places, planned
from nldsl.train.run import Run
from nldsl.train.score import batch, boundary_of

LEAST = 2  # sequences, so that one can be held beside another
SHORTEST = 4  # tokens of one, so that there is something behind a change


@dataclass(frozen=True, eq=False)
class Opened:
    """`batch` is held-out data, [sequence, token, ..] by input."""

    run: Run
    step: CompiledStep
    state: State
    batch: dict[str, Tensor]

    @property
    def program(self) -> Program:
        return self.run.program

    @property
    def tokens(self) -> int:
        return next(iter(self.batch.values())).shape[1]

    def part(self, sequences: int, tokens: int) -> dict[str, Tensor]:
        """The first of both."""
        return {name: x[:sequences, :tokens] for name, x in self.batch.items()}

    def streams(self) -> Module:
        """Emitted source of what is scored, and of what scores the next token."""
        logits = self.step.reading.logits()
        scored = {self.step.reading.scored[0]: self.step.reading.scored[1]}
        return self.step.reading.emitted(scored | ({"logits": logits} if logits else {}))


def opened(run: Run, limit: int) -> Opened:
    """With at most `limit` held-out tokens, but at least two sequences, shorter than the run's
    where there is too little. Raises N704 if there is less still, N716 if nothing was saved.
    """
    if checkpoint.manifest(run.folder) is None:
        raise faults.nothing_saved(run.folder)
    s, data = run.settings, run.data
    step = runs.step_of(run)
    state = replace(runs.last_saved(run, step), lanes={})  # each sequence begins anew
    documents = data.extents(data.held_out)
    absent = step.reading.extent(step.reading.scored[1])[1]
    starts, length = sequences(documents, s.length, limit, absent)
    if len(starts) < LEAST or length < SHORTEST:
        has = max((end - begin for begin, end in documents), default=0)
        raise faults.too_little_to_audit(data.name, has, LEAST * SHORTEST, data.unit)
    tokens = slices(data.held_out, starts[:, None] + np.arange(length))
    return Opened(run, step, state, step.place(batch(run.program, tokens, boundary_of(data))))


def sequences(documents: list[Extent], length: int, limit: int, absent: int) -> tuple[Places, int]:
    """Starts [count], and the length: that of the run, or half of the longest document where not
    two of the run's are there.
    """
    longest = max((end - begin for begin, end in documents), default=0)
    for chosen in (length, max(1, min(length, longest // LEAST))):
        wanted = max(LEAST, limit // chosen)
        plan = planned(documents, wanted, chosen, wanted * chosen, False, absent)
        starts = plan.starts.reshape(-1)[plan.counts.reshape(-1)]
        if len(starts) >= LEAST:
            break
    return starts, chosen


def families(program: Program, memories: Iterable[Memory]) -> list[list[Memory]]:
    """Memories of one line of the text and one clock, in the order of the first of each."""
    found: dict[object, list[Memory]] = {}
    for memory in memories:
        level = program.levels[memory.level]
        clock = level.clock.unit, level.clock.period, level.clock.phase
        found.setdefault((re.sub(r"\[[^]]*\]", "[]", memory.name), clock), []).append(memory)
    return [*found.values()]


def carried(memory: Memory, names: Iterable[str]) -> list[str]:
    """What sequences carry of a memory: its arrays, and its copies behind an `@`."""
    return [n for n in names if re.match(rf"{re.escape(memory.name)}(\.[^@]*)?(@.*)?$", n)]


def read_by_the_score(opened: Opened) -> dict[str, list[str]]:
    """The memories that what is scored depends on, each with the names of its arrays: those that
    sequences carry, and those of the step clock that are asked for.
    """
    module, asked = opened.streams(), Asked(opened.state.views)
    reading, batch = opened.step.reading, opened.part(1, 4)
    with torch.no_grad():
        carry = module["start"](asked, 1, reading.like(), reading.seats(1))
        module["forward"](asked, batch, carry, 0, "loop")
    found: dict[str, list[str]] = {}
    for memory in opened.program.memories.values():
        own = [name for name in asked.names if owner(opened, name) == memory.name]
        names = own if opened.program.slow(memory.name) else carried(memory, carry)
        if names and opened.program.levels[memory.level].parent is None:
            found[memory.name] = names
    return found


def owner(opened: Opened, array: str) -> str:
    """The memory that an array of the state is part of."""
    place = opened.state.places.get(array)
    return place[0].partition("@")[0] if place else ""


class Asked(dict[str, Tensor]):
    """Arrays; `names` are those that were asked for."""

    def __init__(self, arrays: Mapping[str, Tensor]) -> None:
        super().__init__(arrays)
        self.names: dict[str, None] = {}

    def __getitem__(self, name: str) -> Tensor:
        self.names[name] = None
        return super().__getitem__(name)


def moved(before: Tensor, now: Tensor) -> bool:
    """Does a bit differ?"""
    kinds = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}
    kind = kinds[before.element_size()]
    return before.shape != now.shape or not torch.equal(
        before.contiguous().view(kind), now.contiguous().view(kind)
    )
