"""What the ranks of a program send each other, and the time of it: `nldsl compile --ranks`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from statistics import mean
from typing import NamedTuple

import torch
from rich.console import Group
from rich.table import Table

from nldsl import pipeline
from nldsl.core.program import Program
from nldsl.schedule.shares import share
from nldsl.step.compile import PRECISION
from nldsl.step.module import StepSource, emit, learners
from nldsl.step.reductions import Traffic, at_ticks, traffic
from nldsl.step.sending import messages
from nldsl.step.state import layout

HOP = 10e-6  # seconds that a message waits at each rank of a ring
BACKWARD = 2 / 3  # of the work of a step


def communication(
    program: Program, precision: str, ranks: int, bandwidth: float, takes: Mapping[str, float]
) -> Group:
    """`bandwidth`: bytes a second that each rank sends and receives. `takes`: seconds of a step on
    one rank, by how that is known. Raises N722 or N724 if ranks cannot take it.
    """
    source = emit(pipeline.scheduled(share(program, ranks)), precision, 1000, ranks)
    entry = PRECISION[precision].itemsize
    found = traffic(source.updates, entry)
    ring = Ring(ranks, bandwidth)
    early, late = as_they_come(source, entry), at_ticks(source.updates, entry)
    every = [*early, *(one.at_each for one in found if one.period > 1)]
    sent, each = sum(one.mean for one in found), float(sum(one.at_each for one in found))
    ticks = [sum(map(ring.seconds, step)) for step in late]
    wire = sum(map(ring.seconds, early))
    lines = [
        f"a step sends {size(sent)}; where every gradient is summed over ranks after each step, "
        f"{size(each)}" + (f": {sent / each:.3f} of it" if each else ""),
        f"on the wire: {ms(wire + mean(ticks))} a step, at most {ms(wire + max(ticks))}; after "
        f"each step alike, {ms(sum(map(ring.seconds, every)))}",
        *(
            predicted(how, work, ring.waits(early, work) + mean(ticks), ring.waits(every, work))
            for how, work in takes.items()
        ),
        f"assumed: a ring, in which {2 * (ranks - 1)} / {ranks} of a sum pass each rank at "
        f"{size(bandwidth)}/s; {1e6 * HOP:g} us for each of the {2 * (ranks - 1)} hops of a "
        f"message; {len(early)} messages that come at even distances in the backward pass, which "
        f"is {BACKWARD:.2f} of the work, and go one after another meanwhile; then what is left of "
        "them, and in one message what slow levels take; all ranks equally fast.",
    ]
    columns = ("level", "sends", "bytes a time", "bytes a step", "if at each step")
    return Group(table(f"Sums over {ranks} ranks", columns, rows(found)), "\n".join(lines))


def predicted(how: str, work: float, waits: float, alike: float) -> str:
    return (
        f"predicted: {ms(work + waits)} a step, {ms(work)} of it work ({how}), {ms(waits)} waiting "
        f"for others; after each step alike, {ms(work + alike)}"
    )


def as_they_come(source: StepSource, entry: int) -> list[int]:
    """The bytes of each message that goes while a step is worked out."""
    updates = source.updates
    slots = layout(updates.program, updates.state)
    arrays = {name: torch.empty(sizes, device="meta") for name, (*_, sizes) in slots.items()}
    early = frozenset(heard.key for heard in updates.early)
    heard = learners(updates.program, updates)
    return messages(heard, arrays, early, source.emitted.reads, entry)


class Ring:
    """The time that sums over ranks take."""

    def __init__(self, ranks: int, bandwidth: float) -> None:
        self.ranks, self.bandwidth = ranks, bandwidth

    def seconds(self, size: float) -> float:
        """Of a message."""
        hops = 2 * (self.ranks - 1)
        return hops / self.ranks * size / self.bandwidth + hops * HOP

    def waits(self, sizes: Sequence[int], work: float) -> float:
        """Until all have come, behind a step of so many seconds in whose backward pass they go."""
        back, free = BACKWARD * work, 0.0
        for i, one in enumerate(sizes, 1):
            free = max(free, back * i / len(sizes)) + self.seconds(one)
        return max(0.0, free - back)


# -- tables of levels


class Row(NamedTuple):
    """Of a level: equal ones have one name, `kind` and `words`; their numbers are bytes, summed."""

    level: str
    kind: tuple[float, ...]
    words: tuple[str, ...]
    numbers: tuple[float, ...]


def rows(found: Iterable[Traffic]) -> list[Row]:
    """The fastest first."""

    def often(one: Traffic) -> str:
        return "each step" if one.period == 1 else f"once in {one.period:.3g} steps"

    made = (
        Row(
            last(one.level),
            (one.period, max(one.bytes)),
            (often(one),),
            (max(one.bytes), one.mean, one.at_each),
        )
        for one in found
    )
    return sorted(made, key=lambda row: (row.kind[0], row.level, row.kind))


def table(title: str, columns: Sequence[str], rows: Iterable[Row]) -> Table:
    """A line for each level, equal ones together."""
    made = Table(title=title, title_justify="left")
    for column in columns:
        made.add_column(column, justify="left" if column in ("level", "sends") else "right")
    for (name, _, words), some in groupby(rows, key=lambda row: row[:3]):
        same = [row.numbers for row in some]
        made.add_row(
            name + (f" x {len(same)}" if len(same) > 1 else ""),
            *words,
            *(size(sum(column)) for column in zip(*same, strict=True)),
        )
    return made


def last(level: str) -> str:
    return level.rpartition(".")[2]


def size(count: float) -> str:
    """Bytes, for people."""
    for unit, many in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= many:
            return f"{count / many:.3g} {unit}"
    return f"{count:.0f} B"


def ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"
