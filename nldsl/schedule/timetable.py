"""Tick kinds: which step-clock levels fire together, and when.

Periods 1, 4, 16, 64 have hyperperiod 64 and four kinds: {1}, {1, 4}, {1, 4, 16}, {1, 4, 16, 64}.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nldsl.graph.equations import Clock

MAX_HYPERPERIOD = 1_000_000


@dataclass(frozen=True)
class Timetable:
    """`kinds[i]` is a set of levels that fire at one step; `first[i]` the first step at which it occurs (from 1)."""

    clocks: Mapping[str, Clock]
    hyperperiod: int
    start: int                       # the first step from which the pattern repeats
    kinds: tuple[tuple[str, ...], ...]
    first: tuple[int, ...]

    def fired(self, step: int) -> tuple[str, ...]:
        """Names of the levels that tick at `step`, counted from 1."""
        return tuple(name for name, clock in self.clocks.items() if clock.ticks(step))

    def kind(self, step: int) -> int:
        return self.kinds.index(self.fired(step))


def timetable(clocks: Mapping[str, Clock]) -> Timetable:
    """The tick kinds of step clocks, in the order in which they first occur."""
    periods = [c.period for c in clocks.values() if c.period] or [1]
    hyper = math.lcm(*periods)
    if hyper > MAX_HYPERPERIOD:
        raise OverflowError(f"the periods {sorted(set(periods))} repeat only after {hyper} steps")
    start = max((c.phase for c in clocks.values()), default=0)
    marks = sorted({c.phase + i * c.period for c in clocks.values() if c.period
                    for i in range(1, (hyper + start) // c.period + 2)} | {1})
    seen: dict[tuple[str, ...], int] = {}
    interesting = sorted({m for m in marks if m <= start + hyper} | {m + 1 for m in marks if m + 1 <= start + hyper})
    for step in interesting:
        fired = tuple(name for name, clock in clocks.items() if clock.ticks(step))
        seen.setdefault(fired, step)
    return Timetable(dict(clocks), hyper, start, tuple(seen), tuple(seen.values()))
