"""Levels that never tick in a run: their first tick lies behind its last step, or behind the end of
a sequence.
"""

from __future__ import annotations

from collections.abc import Iterator

from nldsl.core.program import Level, Program
from nldsl.diagnostic import Diagnostic


def findings(program: Program, steps: int, length: int) -> Iterator[Diagnostic]:
    """One for each text of a level and first tick, however often it is called."""
    told = set()
    for level in program.levels.values():
        last = end(level, steps, length)
        if last is None or level.rate is None or level.parent is not None:
            continue
        first = level.clock.phase + level.clock.period
        if first > last and (place := (level.rate.source, level.rate.start, first)) not in told:
            told.add(place)
            yield idle(level, first, last)


def end(level: Level, steps: int, length: int) -> int | None:
    """The last unit that the level's clock counts, None if the run does not bound it."""
    if level.clock.unit == "step":
        return steps
    return length if level.clock.unit == "token" and not level.reset.outlives else None


def idle(level: Level, first: int, last: int) -> Diagnostic:
    unit = level.clock.unit
    whole, option = ("the run", "--steps") if unit == "step" else ("a sequence", "--length")
    return Diagnostic(
        "N742",
        f"`{level.name}` never ticks: its first tick is at {unit} {first:,}, {whole} has {last:,}",
        level.rate,
        help=f"a shorter period, or `{option}` of {first} or more",
        severity="warning",
    )
