"""The equations of one instant of the token clock: `instant.py` has their order."""

from __future__ import annotations

from collections.abc import Sequence

from nldsl.core.nodes import Node
from nldsl.core.program import ENDS, Clock, Level, Program
from nldsl.core.timing import lookahead
from nldsl.schedule import instant
from nldsl.schedule.cells import Cell, Cells
from nldsl.schedule.documents import carried, ended


class Instants:
    """Equations of the cells of a program, and of their copies, of one instant."""

    def __init__(self, cells: Cells, roots: Sequence[Node]) -> None:
        self.cells, self.program, self.al = cells, cells.program, cells.al
        slopes = [x for s in cells.slopes for x in (s.objective, *s.streams.values())]
        terms = [s.term for s in cells.sums.values()]
        gathered = [node for c in cells.cells.values() for node in (c.next, c.start)]
        self.lag = lookahead(*roots, *slopes, *terms, *gathered)
        for cell in list(cells.cells.values()):  # what counts documents is a cell, too
            for clock in cell.restarts:
                self.flag(cell, clock)
        for name, clock in cells.copies.values():
            self.flag(cells.cells[name], clock)
        self._settled: dict[str, Node] = {}

    def after(self, cell: Cell) -> Node:
        """The tick: the equation where the clock ticks, hidden from those who see no tick."""
        new = self.hidden(cell, cell.next, "none")
        late = self.late(cell)
        if (cell.clock.period, cell.clock.phase, cell.first, late) == (1, 0, 0, 0):
            return new
        before = self.al.make("read", type=cell.type, memory=cell.name)
        return self.when(cell, cell.clock, new, before, cell.first, late)

    def late(self, cell: Cell) -> int:
        """Tokens at the end of a sequence at which it does not tick: what it learns from is not
        there yet."""
        if cell.name in self.cells.sums:
            return self.lag[self.cells.sums[cell.name].term]
        level = self.program.levels.get(cell.level)
        found = 0
        while level is not None:
            lags = [lookahead(o)[o] for o in level.objectives]
            found = max(found, min(lags, default=0))
            level = self.program.levels.get(level.parent or "")
        return found

    def settled(self, cell: Cell) -> Node:
        if cell.name not in self._settled:
            now = self.al.make("now", type=cell.type, memory=cell.name)
            self._settled[cell.name] = instant.settled(
                self.cut(cell, now), cell.restarts, lambda: self.begun(cell), self.clocks(cell)
            )
        return self._settled[cell.name]

    def copy(self, cell: Cell, clock: Clock, before: Node) -> Node:
        before, left = self.cut(cell, before), self.settled(cell)
        return instant.copied(left, before, cell.restarts, clock, self.clocks(cell))

    def begun(self, cell: Cell) -> Node:
        """The start, from what other memories hold by then."""

        def newest(node: Node) -> Node:
            if node.op == "weight":
                return node
            other = self.cells.cells[self.cells.source(node["memory"])]
            now = self.al.make("now", type=other.type, memory=other.name)
            return self.cut(other, now) if self.slower(cell, other) else self.settled(other)

        return instant.begun(self.al, cell.start, newest)

    def slower(self, a: Cell, b: Cell) -> bool:
        levels = self.program.levels
        return self.program.slower(levels[a.level], levels[b.level])

    # -- who sees

    def cut(self, cell: Cell, value: Node) -> Node:
        """Constant, at the ticks of a clock, for those who see no further back."""
        if not cell.memory:
            return value
        root = self.program.root(self.program.levels[cell.level])
        for clock in dict.fromkeys(b.depth for b in root.bptt if isinstance(b.depth, Clock)):
            hidden = self.hidden(cell, value, clock)
            value = value if hidden is value else self.clocks(cell)(clock, hidden, value)
        return value

    def hidden(self, cell: Cell, value: Node, far: str | Clock) -> Node:
        """Constant for the learners that see so far and no further."""
        if not cell.memory:
            return value
        level = self.program.levels[cell.level]
        blind = tuple(
            viewer.name
            for viewer in learners(self.program)
            if viewer.name != cell.level and self.program.horizon(viewer, level) == far
        )
        if not blind:
            return value
        return self.al.make("constant_for", value, type=value.type, learners=blind)

    # -- clocks

    def clocks(self, cell: Cell) -> instant.When:
        """What happens to a cell after its tick, where a clock ticks."""

        def when(clock: Clock, a: Node, b: Node) -> Node:
            return self.when(cell, clock, a, b, cell.kept)

        return when

    def when(
        self, cell: Cell, clock: Clock, a: Node, b: Node, first: int = 0, late: int = 0
    ) -> Node:
        flags = self.flag(cell, clock)
        return self.al.make("when", a, b, *flags, type=a.type, clock=clock, first=first, late=late)

    def flag(self, cell: Cell, clock: Clock) -> tuple[Node, ...]:
        """Of a clock of documents, the stream that tells where it ticks; carried, of what goes on
        until then."""
        if clock.unit != ENDS:
            return ()
        return ((carried if clock == cell.life else ended)(self.cells, clock),)


def learners(program: Program) -> list[Level]:
    return [level for level in program.levels.values() if level.objectives]
