"""Where documents end, told to each memory that counts them.

    recall.M, reset every document        next: ended(.., input(document)), and body.py lets it
                                          start anew in the lanes where that is 1

Documents end in each lane where they will, so what counts them is a stream of the data and no fact
of the schedule. Whether one ended with the last token is carried too: what starts anew there begins
with the next sequence, after the step in between.
"""

from __future__ import annotations

from collections.abc import Iterable

from nldsl.core.nodes import Node, walk
from nldsl.core.program import ENDS, NEVER, TOKEN, Clock
from nldsl.schedule.cells import Cell, Cells
from nldsl.schedule.timetable import outlives


def mark_ends(cells: Cells, roots: Iterable[Node]) -> None:
    """Tells each memory at which of the documents that it counts it starts anew, or is copied."""
    if not cells.program.counts(ENDS):
        return
    copied: dict[str, set[Clock]] = {}
    for node in walk(*roots, *(c.next for c in cells.cells.values())):
        if node.op == "held" and node["clock"].unit == ENDS:
            copied.setdefault(node["memory"], set()).add(node["clock"])
    for cell in list(cells.cells.values()):
        clocks = sorted(
            copied.get(cell.name, set()) | ({cell.ends} if cell.ends else set()),
            key=lambda c: (c.period, c.phase),
        )
        if clocks:
            ticks = [
                carried(cells, clock) if clock == cell.life else ended(cells, clock)
                for clock in clocks
            ]
            cell.next = cells.al.make(
                "ended", cell.next, *ticks, type=cell.shape, clocks=tuple(clocks)
            )


def flag(clock: Clock) -> str:
    """The cell that holds whether so many documents had ended with the last token."""
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
            level.clock.unit == "token" and outlives(level.reset)
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
            life=NEVER if lasting else Clock("sequence", 1),
        )
    n = al.sub(al.make("now", type=(), memory=ENDS), al.const(clock.phase))
    whole = al.mul(al.const(clock.period), al.apply("floor", al.div(n, al.const(clock.period))))
    return al.mul(
        ends,
        al.mul(al.apply("eq", n, whole), al.apply("ge", n, al.const(clock.period))),
    )
