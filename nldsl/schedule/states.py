"""CHECKED PROGRAM -> STATES AND EQUATIONS: the flat text between the core and the schedule.

    recall.M        after  add(mul(..), ..)                        what `now(recall.M)` is
                    next   when(every sequence, start, now(recall.M))
    recall.M@chunk  next   when(every 64 token, now(recall.M), read(recall.M@chunk))

No `grad`, `fold`, held copy, reset or `bptt` is left: a copy, a count, a sum since a tick and the
documents that have ended are states like any other. `when(clock, a, b)` is a where the clock ticks,
else b; `constant_for(learners, x)` is x, with derivative zero for these learners. Every value is of
one instant: `read` is a state before it, `now` after its tick.

The order within one instant is written in `settled` alone: ticks, then cuts, then resets, then
copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nldsl.core.build import Builder
from nldsl.core.laws import check_node
from nldsl.core.nodes import Node, Tree, Type, walk
from nldsl.core.ops import OPS
from nldsl.core.program import ENDS, NEVER, STATE, Clock, Level, Program
from nldsl.core.timing import at_tokens, lookahead
from nldsl.schedule.cells import Cell, Cells
from nldsl.schedule.documents import ended
from nldsl.schedule.objectives import plains
from nldsl.schedule.timetable import spoken

# what no equation of a state may hold
GONE = ("grad", "grad_stream", "fold", "held", "ended", "tick")


@dataclass(frozen=True, eq=False)
class State:
    """`after`: its value after this instant's tick, which `now` reads; `next`: its value when the
    instant is finished, which the next instant reads. Before the first instant it is `start`.
    """

    name: str
    type: Type
    start: Node
    after: Node
    next: Node


@dataclass(frozen=True, eq=False)
class Slope:
    """Inputs that are derivatives of `objective` at this instant: in what is read of a state since
    its level's last tick, or in a stream. `inputs`: their names, and what each is a derivative in.
    """

    objective: Node
    inputs: Mapping[str, str | Node]
    level: str


@dataclass(frozen=True, eq=False)
class States:
    """Of one clock, the token: `outputs` by name, over `states`."""

    program: Program
    states: Mapping[str, State]
    outputs: Mapping[str, Node]
    slopes: tuple[Slope, ...]

    def roots(self) -> list[Node]:
        found = [node for s in self.states.values() for node in (s.start, s.after, s.next)]
        found += [x for s in self.slopes for x in s.inputs.values() if isinstance(x, Node)]
        return [*self.outputs.values(), *found, *(s.objective for s in self.slopes)]


def states(program: Program) -> States:
    """The states that the outputs of a program reach, those that have a value at each token.

    Raises Unsupported for what has no array form.
    """
    cells = Cells(program)
    roots = {
        name: cells.array(node)
        for name, node in program.outputs.items()
        if not isinstance(node.type, Tree) and at_tokens(program, node)
    }
    return Instants(cells, roots).states(roots)


def check_states(made: States) -> None:
    """Raise AssertionError at the first equation that breaks a law: an operator that must be gone,
    a read of what is not a state, types that do not fit.
    """
    for root in made.roots():
        assert not plains(root), f"{plains(root)[0]!r} has no value"
    for node in walk(*made.roots()):
        check_node(node)
        assert node.op not in GONE, f"{node!r} is left"
        if node.op in STATE:
            assert node["memory"] in made.states, node
            assert node.type == made.states[node["memory"]].type, node
    for state in made.states.values():
        for value in (state.start, state.after, state.next):
            assert value.type == state.type, state.name


class Instants:
    """Equations of the cells of a program, with their copies."""

    def __init__(self, cells: Cells, roots: Mapping[str, Node]) -> None:
        self.cells, self.program, self.al = cells, cells.program, Builder(OPS)
        slopes = [x for s in cells.slopes for x in (s.objective, *s.streams.values())]
        everything = [*roots.values(), *slopes]
        everything += [node for c in cells.cells.values() for node in (c.next, c.start)]
        self.copies = dict.fromkeys(
            (n["memory"], n["clock"]) for n in walk(*everything) if n.op == "held"
        )
        for clock in self._documents():  # the count of documents is a state, too
            ended(cells, clock)
        self.lag = lookahead(*everything, *(term for term, _, _ in cells.terms.values()))
        self._flat: dict[Node, Node] = {}
        self._settled: dict[str, Node] = {}

    def _documents(self) -> list[Clock]:
        found = [c for cell in self.cells.cells.values() for c in (cell.reset, cell.life)]
        found += [clock for _, clock in self.copies]
        return [clock for clock in dict.fromkeys(found) if clock.unit == ENDS]

    def states(self, roots: Mapping[str, Node]) -> States:
        made = {}
        for cell in list(self.cells.cells.values()):
            start = self.flat(cell.start)
            made[cell.name] = State(
                cell.name, cell.shape, start, self.after(cell), self.settled(cell)
            )
        for name, clock in self.copies:
            cell, copy = self.cells.cells[name], copied(name, clock)
            before = self.al.make("read", type=cell.shape, memory=copy)
            held = self.copy(cell, clock, before)
            made[copy] = State(copy, cell.shape, made[name].start, before, held)
        slopes = tuple(
            Slope(
                self.flat(s.objective),
                {a["name"]: of for of, a in s.atoms.items() if of not in s.streams}
                | {s.atoms[name]["name"]: self.flat(x) for name, x in s.streams.items()},
                s.level,
            )
            for s in self.cells.slopes
        )
        return States(self.program, made, {n: self.flat(x) for n, x in roots.items()}, slopes)

    # -- one instant

    def after(self, cell: Cell) -> Node:
        """The tick: the equation where the clock ticks, hidden from those who see no tick."""
        equation = cell.next
        if cell.level in self.cells.horizons and self.cells.horizons[cell.level] == "none":
            if cell.name not in self.cells.terms and not cell.name.startswith("tick."):
                equation = equation.args[0]  # `stop`, for the learners of the step clock
        new = self.hidden(cell, self.flat(equation), "none")
        if (
            (cell.clock.period, cell.clock.phase) == (1, 0)
            and not cell.first
            and not self.late(cell)
        ):
            return new
        before = self.al.make("read", type=cell.shape, memory=cell.name)
        return self.when(cell.clock, new, before, cell.first, self.late(cell))

    def late(self, cell: Cell) -> int:
        """Tokens at the end of a sequence at which it does not tick: what it learns from is not
        there yet."""
        if cell.name in self.cells.terms:
            return self.lag[self.cells.terms[cell.name][0]]
        level = self.program.levels.get(cell.level)
        found = 0
        while level is not None:
            lags = [lookahead(o)[o] for o in level.objectives]
            found = max(found, min(lags, default=0))
            level = self.program.levels.get(level.parent or "")
        return found

    def settled(self, cell: Cell) -> Node:
        """Ticks, then cuts, then resets."""
        if cell.name not in self._settled:
            now = self.al.make("now", type=cell.shape, memory=cell.name)
            value = self.cut(cell, now)
            for clock in self.restarts(cell):
                value = self.when(clock, self.begun(cell), value, cell.kept)
            self._settled[cell.name] = value
        return self._settled[cell.name]

    def copy(self, cell: Cell, clock: Clock, before: Node) -> Node:
        """Then copies, which hold what has restarted, too."""
        value = self.cut(cell, before)
        for at in (*self.restarts(cell), clock):
            value = self.when(at, self.settled(cell), value)
        return value

    def restarts(self, cell: Cell) -> list[Clock]:
        return [c for c in dict.fromkeys((cell.reset, cell.life)) if c != NEVER]

    def begun(self, cell: Cell) -> Node:
        """The start, from what other memories hold by then: of two that restart at one instant the
        slow one comes first."""
        bind = {}
        for node in walk(cell.start):
            if node.op in STATE:
                other = self.cells.cells[node["memory"]]
                now = self.al.make("now", type=other.shape, memory=other.name)
                value = self.settled(other)
                if self.slower(cell, other):
                    value = self.cut(other, now)
                bind[node] = value
        return substituted(self.al, self.flat(cell.start), bind)

    def slower(self, a: Cell, b: Cell) -> bool:
        levels = self.program.levels
        return self.program.slower(levels[a.level], levels[b.level])

    # -- who sees

    def cut(self, cell: Cell, value: Node) -> Node:
        level = self.program.levels.get(cell.level)
        if level is None or cell.name in self.cells.terms:
            return value
        for clock in dict.fromkeys(
            b.depth for b in self.program.root(level).bptt if isinstance(b.depth, Clock)
        ):
            hidden = self.hidden(cell, value, clock)
            value = value if hidden is value else self.when(clock, hidden, value)
        return value

    def hidden(self, cell: Cell, value: Node, far: str | Clock) -> Node:
        """Constant for the learners that see so far and no further."""
        level = self.program.levels.get(cell.level)
        if level is None or cell.name in self.cells.terms:
            return value
        blind = tuple(
            viewer.name
            for viewer in learners(self.program)
            if viewer.name != cell.level and self.program.horizon(viewer, level) == far
        )
        if not blind:
            return value
        return self.al.make("constant_for", value, type=value.type, learners=blind)

    # -- nodes

    def when(self, clock: Clock, a: Node, b: Node, first: int = 0, late: int = 0) -> Node:
        if clock.unit == ENDS:
            return self.al.make("where", self.flat(ended(self.cells, clock)), a, b, type=a.type)
        return self.al.make("when", a, b, type=a.type, clock=clock, first=first, late=late)

    def flat(self, root: Node) -> Node:
        """The equation with its copies read as states."""
        bind = {
            n: self.al.make("read", type=n.type, memory=copied(n["memory"], n["clock"]))
            for n in walk(root)
            if n.op == "held"
        }
        if root not in self._flat:
            self._flat[root] = substituted(self.al, root, bind)
        return self._flat[root]


def copied(memory: str, clock: Clock) -> str:
    return f"{memory}@{spoken(clock)}"


def learners(program: Program) -> list[Level]:
    return [level for level in program.levels.values() if level.objectives]


def substituted(al: Builder, root: Node, bind: Mapping[Node, Node]) -> Node:
    """The equation with some nodes replaced, made anew as it stands."""
    done: dict[Node, Node] = {}
    for node in walk(root):
        args = [done[a] for a in node.args]
        done[node] = bind.get(node) or al.make(
            node.op,
            *args,
            type=node.type,
            span=node.span,
            turn=node.turn,
            called=node.name,
            **dict(node.attrs),
        )
    return done[root]
