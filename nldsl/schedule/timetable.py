"""Tick kinds: what happens together at the end of a step, and when.

Periods 1, 4, 16, 64 have hyperperiod 64 and four kinds: {1}, {1, 4}, {1, 4, 16}, {1, 4, 16, 64}.
Restarts, and clocks that take copies, begin windows or cut gradients, split kinds as levels do.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field

from nldsl.core.nodes import walk
from nldsl.core.program import Clock, Program

MAX_HYPERPERIOD = 1_000_000


@dataclass(frozen=True)
class Kind:
    """The levels that tick, those that restart, the other clocks that tick, and levels that would
    tick and have heard no term. `unheard`: the numbers of terms that are 0.
    """

    fired: tuple[str, ...]
    restarted: tuple[str, ...] = ()
    clocks: tuple[Clock, ...] = ()
    silent: tuple[str, ...] = ()
    unheard: frozenset[Hashable] = frozenset()

    def at(self, span: str | Clock) -> bool:
        """Does a stretch since a level's own tick, or since a clock's, end here?"""
        return span in self.fired or span in self.restarted or span in self.clocks


@dataclass(frozen=True)
class Timetable:
    """`events[i]` is what happens at one step; `first[i]` the first step at which it does
    (from 1).
    """

    clocks: Mapping[str, Clock]
    resets: Mapping[str, Clock]
    others: tuple[Clock, ...]
    hyperperiod: int
    start: int  # the first step from which the pattern repeats
    events: tuple[Kind, ...] = ()
    first: tuple[int, ...] = ()
    places: Mapping[Kind, int] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[tuple[str, ...], ...]:
        """The levels that fire in each tick kind."""
        return tuple(event.fired for event in self.events)

    def event(self, step: int) -> Kind:
        return Kind(
            self.fired(step),
            tuple(n for n, c in self.resets.items() if c.ticks(step)),
            tuple(c for c in self.others if c.ticks(step)),
        )

    def fired(self, step: int) -> tuple[str, ...]:
        """Names of the levels that tick at `step`, counted from 1."""
        return tuple(name for name, clock in self.clocks.items() if clock.ticks(step))

    def kind(self, step: int) -> int:
        return self.places[self.event(step)]

    @property
    def turn(self) -> list[int]:
        """The kind of each step of one turn of the pattern, counted from 1."""
        first = self.start + 1
        return [self.kind(n) + 1 for n in range(first, first + self.hyperperiod)]


def timetable(
    clocks: Mapping[str, Clock],
    resets: Mapping[str, Clock] | None = None,
    others: Collection[Clock] = (),
) -> Timetable:
    """The tick kinds of step clocks, in the order in which they first occur."""
    resets, every = dict(resets or {}), [*clocks.values(), *(resets or {}).values(), *others]
    periods = [c.period for c in every if c.period] or [1]
    hyper = math.lcm(*periods)
    if hyper > MAX_HYPERPERIOD:
        raise OverflowError(f"the periods {sorted(set(periods))} repeat only after {hyper} steps")
    start = max((c.phase for c in every), default=0)
    table = Timetable(dict(clocks), resets, tuple(dict.fromkeys(others)), hyper, start)
    marks = sorted(
        {
            c.phase + i * c.period
            for c in set(every)
            if c.period
            for i in range(1, (hyper + start) // c.period + 2)
        }
        | {1}
    )
    seen: dict[Kind, int] = {}
    for step in sorted(
        {m for m in marks if m <= start + hyper} | {m + 1 for m in marks if m + 1 <= start + hyper}
    ):
        seen.setdefault(table.event(step), step)
    return Timetable(
        table.clocks,
        resets,
        table.others,
        hyper,
        start,
        tuple(seen),
        tuple(seen.values()),
        {k: i for i, k in enumerate(seen)},
    )


def timetable_of(program: Program) -> Timetable:
    """The tick kinds of a program's levels on the step clock, those of the optimizers that they
    call included.
    """
    steps = {name: level for name, level in program.levels.items() if level.clock.unit == "step"}
    nodes = walk(
        *program.outputs.values(),
        *(m.next for m in program.memories.values() if m.next is not None),
    )
    others: list[str | Clock] = [
        n["clock" if n.op == "held" else "since"] for n in nodes if n.op in ("held", "fold")
    ]
    others += [b.depth for level in steps.values() for b in level.bptt]
    others += [m.reset for m in program.memories.values() if m.reset is not None]
    return timetable(
        {n: level.clock for n, level in steps.items()},
        {n: level.reset for n, level in steps.items() if level.reset.unit == "step"},
        [c for c in others if isinstance(c, Clock) and c.unit == "step"],
    )


def spoken(span: str | Clock) -> str:
    """A stretch, or a clock, as a part of a name."""
    return (
        span
        if isinstance(span, str)
        else f"{span.period} {span.unit}" + (f" phase {span.phase}" if span.phase else "")
    )
