"""Where documents end, as streams and states.

    recall.M, reset every document        next: when(every document, start, .., input(document))

Documents end in each lane where they will, so what counts them is a stream of the data and no fact
of the schedule. Whether one ended with the last token is a state too: what starts anew there begins
with the next sequence, after the step in between.
"""

from __future__ import annotations

from nldsl.core.nodes import Node
from nldsl.core.program import ENDS, NEVER, SEQUENCE, TOKEN, Clock
from nldsl.schedule.cells import Cell, Cells


def flag(clock: Clock) -> str:
    """The state that holds whether so many documents had ended with the last token."""
    return f"{ENDS}.{clock.period}.{clock.phase}"


def carried(cells: Cells, clock: Clock) -> Node:
    """`ended`, and carried."""
    name = flag(clock)
    if name not in cells.cells:
        cells.cells[name] = Cell(
            name,
            (),
            "",
            TOKEN,
            NEVER,
            cells.al.const(0),
            ended(cells, clock),
            life=NEVER,
        )
    return cells.al.make("now", type=(), memory=name)


def ended(cells: Cells, clock: Clock) -> Node:
    """1 at the tokens with which so many documents have ended in the lane, else 0."""
    al, ends = cells.al, cells.al.make("input", type=(), name=ENDS)
    if (clock.period, clock.phase) == (1, 0):
        return ends
    if ENDS not in cells.cells:
        lasting = any(
            level.clock.unit == "token" and level.reset.outlives
            for level in cells.program.levels.values()
        )
        before = al.make("read", type=(), memory=ENDS)
        cells.cells[ENDS] = Cell(
            ENDS,
            (),
            "",
            TOKEN,
            NEVER,
            al.const(0),
            al.add(before, ends),
            life=NEVER if lasting else SEQUENCE,
        )
    n = al.sub(al.make("now", type=(), memory=ENDS), al.const(clock.phase))
    whole = al.mul(al.const(clock.period), al.apply("floor", al.div(n, al.const(clock.period))))
    return al.mul(
        ends,
        al.mul(al.apply("eq", n, whole), al.apply("ge", n, al.const(clock.period))),
    )
