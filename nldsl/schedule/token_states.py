"""PROGRAM -> STATES AND EQUATIONS of the token clock: the flat text between core and schedule.

    recall.M        after  add(mul(..), ..)                        what `now(recall.M)` is
                    next   when(every sequence, start, now(recall.M))
    recall.M@chunk  next   when(every 64 token, now(recall.M), read(recall.M@chunk))

No `grad`, `fold`, held copy, reset or `bptt` is left: a copy, a count, a sum since a tick and the
documents that have ended are states like any other. `when(clock, a, b)` is a where the clock ticks,
else b; `constant_for(learners, x)` is x, with derivative zero for these learners. Every value is of
one instant: `read` is a state before it, `now` after its tick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nldsl.core.build import Builder
from nldsl.core.flow import learners_through
from nldsl.core.nodes import Node, Shape, walk
from nldsl.core.ops import OPS
from nldsl.core.program import ENDS, NEVER, TOKEN, Clock, Level, Program
from nldsl.core.timing import ValidFrom, lookahead
from nldsl.schedule import instant
from nldsl.schedule.cells import Cell, Cells
from nldsl.schedule.documents import carried, ended
from nldsl.schedule.objectives import Slope, Sum, plains

# what no equation of a state may hold
GONE = ("grad", "grad_stream", "fold", "held", "tick")


@dataclass(frozen=True, eq=False)
class State(instant.State[str]):
    """An array of the token clock. `memory`: the one of the text of which it is a leaf, none of
    sums and counts. `copies`: of a copy, the state that it copies, at the ticks of `at`.
    """

    type: Shape
    memory: str = ""
    copies: str = ""
    at: Clock = NEVER

    @property
    def tick(self) -> Node:
        """Its equation at a tick; of a copy, which has no ticks, itself."""
        return self.after.args[0] if self.after.op == "when" else self.after

    @property
    def clock(self) -> Clock:
        """At whose ticks it moves."""
        return self.after["clock"] if self.after.op == "when" else TOKEN

    @property
    def first(self) -> int:
        """The first token at which it may tick."""
        return self.after["first"] if self.after.op == "when" else 0

    @property
    def seldom(self) -> bool:
        """Does it stand still for more than a token, so that a tick ends a piece of tokens?"""
        return (self.clock.period, self.clock.phase) != (1, 0)

    @property
    def ends(self) -> tuple[Node, ...]:
        """What happens to it at clocks after its tick, the last first."""
        found, node = [], self.next
        while node.op == "when":
            found.append(node)
            node = node.args[1]
        return tuple(found)

    @property
    def life(self) -> Clock:
        """What ends it: so many sequences or documents, or nothing."""
        ends = self.ends[1:] if self.copies else self.ends
        clocks = [node["clock"] for node in ends]
        return next((c for c in clocks if c.unit in ("sequence", ENDS)), NEVER)

    @property
    def settles(self) -> list[Clock]:
        """The clocks of tokens at whose ticks something happens to it after its own."""
        clocks = (node["clock"] for node in walk(self.next) if node.op == "when")
        return list(dict.fromkeys(c for c in clocks if c.unit == "token"))

    @property
    def instants(self) -> list[Clock]:
        """Its own clock too, if it ticks seldom."""
        return [*([self.clock] if self.seldom else []), *self.settles]

    @property
    def restarts(self) -> bool:
        """Does it start anew within a sequence?"""
        return any(n["clock"].unit in ("token", ENDS) for n in self.ends if not self.copies)

    @property
    def equations(self) -> tuple[Node, ...]:
        """What an instant works out for it: its tick, and whether documents end."""
        flags = dict.fromkeys(n.args[2] for n in walk(self.next) if n.op == "when" and n.args[2:])
        return (*(() if self.copies else (self.tick,)), *flags)


@dataclass(frozen=True, eq=False)
class States:
    """Of one clock, the token: `outputs` by name, over `states`. `slopes`: inputs that are
    derivatives of what a run of the network gives; `sums`: the states that add up terms.
    """

    program: Program
    states: Mapping[str, State]
    outputs: Mapping[str, Node]
    slopes: tuple[Slope, ...]
    sums: Mapping[str, Sum]
    names: Mapping[Node, str]  # what the text calls a value
    valid_from: ValidFrom

    def roots(self) -> list[Node]:
        """Every equation."""
        found = [node for s in self.states.values() for node in (s.start, s.after, s.next)]
        found += [x for s in self.slopes for x in s.streams.values()]
        return [*self.outputs.values(), *found, *(s.objective for s in self.slopes)]


def states(program: Program, outputs: Mapping[str, Node]) -> States:
    """The states that named nodes of a program reach, those that have a value at each token."""
    cells = Cells(program)
    roots = {name: cells.array(node) for name, node in outputs.items()}
    at = Instants(cells, [*roots.values()])
    made = {
        c.name: State(c.name, c.type, c.level, c.start, at.after(c), at.settled(c), c.memory)
        for c in list(cells.cells.values())
    }
    for name, (cell, clock) in cells.held().items():
        before = cells.al.make("read", type=cell.type, memory=name)
        made[name] = State(
            name,
            cell.type,
            cell.level,
            cell.start,
            before,
            at.copy(cell, clock, before),
            cell.memory,
            cell.name,
            clock,
        )
    names = cells.al.names
    slopes = tuple(cells.slopes)
    return States(program, made, roots, slopes, cells.sums, names, cells.valid_from)


def check_states(made: States) -> None:
    """Raise AssertionError at the first equation that breaks a law."""
    for root in made.roots():
        assert not plains(root), f"{plains(root)[0]!r} has no value"
    instant.check(made.states.values(), made.roots(), GONE)


def seen_by_steps(made: States) -> dict[str, State]:
    """The states as the learners of the step clock see them, who see equally far: what is constant
    for them is `stop`, what is constant for others is as it is.
    """
    al, levels = Builder(OPS), made.program.levels
    hidden: dict[Node, bool] = {}
    for state in (s for s in made.states.values() if s.memory):
        viewers = {x.name for x in learners_through(made.program, levels[state.level])}
        for node in (state.tick, *(when.args[0] for when in state.ends)):
            if node.op == "constant_for":
                hidden[node] = viewers <= set(node["learners"])
    done: dict[Node, Node] = {}
    for node in walk(*(x for s in made.states.values() for x in (s.after, s.next))):
        args = [done[a] for a in node.args]
        if node.op == "constant_for":
            done[node] = al.make("stop", *args, type=node.type) if hidden[node] else args[0]
        else:
            same = all(a is b for a, b in zip(args, node.args, strict=True))
            done[node] = node if same else al.remake(node, args)
    return {
        name: replace(state, after=done[state.after], next=done[state.next])
        for name, state in made.states.items()
    }


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
        for cell, clock in cells.held().values():
            self.flag(cell, clock)
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
