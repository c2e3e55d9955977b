"""PROGRAM -> STATES AND EQUATIONS of the step clock: what one step leaves of each memory, copy,
count and total.

    training.W            after  when(silent, read(W), add(read(W), ..now(total)..))
                          next   now(training.W)
    grad F|loss|ffn       after  add(read(grad F|loss|ffn), input(grad F|loss))
                          next   when(every 16 step, 0, now(grad F|loss|ffn))
    training.W@4 step     next   when(every 4 step, now(training.W), read(training.W@4 step))

Memories stay whole trees here. `at` is what a step of one kind leaves: the equations with every
`when` decided.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

from nldsl.core.nodes import Node, Type, walk
from nldsl.core.program import NEVER, Clock, Level, Memory, Program
from nldsl.core.shapes import behind
from nldsl.schedule import instant
from nldsl.schedule.named import (
    Copy,
    Counter,
    Draw,
    Fold,
    Heard,
    Input,
    Name,
    Stretch,
    Total,
    owner,
)
from nldsl.schedule.ticks import Ticks
from nldsl.schedule.timetable import Kind, Timetable
from nldsl.schedule.token_states import States, check_states

State = instant.State[Name]
# what no equation of a state may hold
GONE = ("grad", "grad_stream", "fold", "held", "tick", "plain")


@dataclass(frozen=True, eq=False)
class StepStates:
    """`silent`: a test of whether one of some numbers of terms is 0, and which. A level that hears
    streams, and what it calls, does not tick without terms.
    """

    program: Program
    table: Timetable
    ticks: Ticks
    states: Mapping[Name, State]
    silent: Mapping[Node, Collection[Heard]]

    def roots(self) -> list[Node]:
        return [node for s in self.states.values() for node in (s.start, s.after, s.next)]


def check_step_states(made: StepStates) -> None:
    """Raise AssertionError at the first equation that breaks a law."""
    instant.check(made.states.values(), made.roots(), GONE)


def check_clocks(made: tuple[States, StepStates]) -> None:
    """The laws of both clocks."""
    check_states(made[0])
    check_step_states(made[1])


def step_states(
    ticks: Ticks, table: Timetable, needs: Mapping[str, Collection[Heard]], totals: Iterable[Total]
) -> StepStates:
    """`needs`: the numbers of terms without which a level that no other calls does not tick."""
    made = Instants(ticks, needs)
    states: dict[Name, State] = {}
    order = [name for level in ticks.roots for name in ticks.memories(level.name)]
    program = ticks.program
    slow = [m for m in program.memories if not program.level(m).clock.inner]
    for name in dict.fromkeys([*order, *slow]):
        states[name] = made.fold(name) if isinstance(name, Fold) else made.memory(name)
    counters = [Counter(m.name) for root in ticks.roots for m in ticks.family(root)]
    rest = [made.counter(c) for c in counters] + [made.total(t) for t in totals]
    rest += [made.copy(c) for c in ticks.copies]
    states |= {state.name: state for state in rest}
    return StepStates(ticks.program, table, ticks, states, made.silent)


class Instants:
    """The equations of the states of a program at one step."""

    def __init__(self, ticks: Ticks, needs: Mapping[str, Collection[Heard]]) -> None:
        self.ticks, self.program, self.al = ticks, ticks.program, ticks.al
        self.needs = needs
        self.silent: dict[Node, Collection[Heard]] = {}
        self.viewers = [level for level in ticks.roots if level.objectives]
        self._settled: dict[str, Node] = {}

    # -- states

    def memory(self, name: str) -> State:
        memory = self.program.memories[name]
        assert not self.program.restart(name).inner, name
        start = self.start(memory)
        drawn = any(n.op == "random" or n.op == "input" for n in walk(start))
        assert memory.reset is None or not drawn, "limits, restart_apart"
        return State(name, memory.type, memory.level, start, self.after(name), self.settled(name))

    def fold(self, fold: Fold) -> State:
        type = self.ticks.next[fold].type
        zero, now = self.al.const(0, type), self.now(fold, type)
        left = self.since(fold.since, zero, now)
        return State(fold, type, fold.level, zero, self.after(fold), left)

    def counter(self, counter: Counter) -> State:
        al, level = self.al, self.program.levels[counter.level]
        more = instant.grown(al, counter, al.const(1))
        after = self.ticked(level.name, more, self.read(counter, ()))
        left = self.when(level.reset, al.const(0), self.now(counter, ()))
        return State(counter, (), level.name, al.const(0), after, left)

    def total(self, total: Total) -> State:
        al, type, level = self.al, self.type_of(total.input), self.level_of(total)
        after = instant.grown(al, total, self.ticks.taken(total.input, type))
        left = self.since(total.since, al.const(0, type), self.now(total, type))
        return State(total, type, level, al.const(0, type), after, left)

    def copy(self, copy: Copy) -> State:
        memory = self.program.memories[copy.memory]
        before = self.read(copy, memory.type)
        kept, left = self.cut(memory.level, before), self.settled(memory.name)
        left = instant.copied(left, kept, self.restarts(memory), copy.clock, self.when)
        start = self.read(memory.name, memory.type)
        return State(copy, memory.type, memory.level, start, before, left)

    def type_of(self, given: Input) -> Type:
        if given.what == "terms":
            return ()
        if given.what == "sum":
            workers = self.program.workers
            apart = given.lanes == "each" and workers is not None
            return behind(
                (workers,) if apart and workers else (), self.ticks.streams[given.stream].type
            )
        return self.program.memories[given.memory].type

    def level_of(self, total: Total) -> str:
        if isinstance(total.since, str):
            return total.since
        memory = total.input.memory
        return self.program.memories[memory].level if memory else ""

    # -- one instant

    def start(self, memory: Memory) -> Node:
        if memory.start is None:
            return self.al.make("input", type=memory.type, name=Draw(memory.name))
        return instant.begun(self.al, memory.start, self.born)

    def born(self, node: Node) -> Node:
        """What a start reads of another memory at birth: its start."""
        if node.op == "weight":
            return node
        return self.read(node["memory"], node.type)

    def after(self, name: str | Fold) -> Node:
        """The tick: the equation where the clock ticks, if its level has heard something."""
        if name not in self.ticks.next:
            return self.read(name, self.program.memories[str(name)].type)
        level, equation = self.ticks.level_of(name), self.ticks.next[name]
        before = self.read(name, equation.type)
        if isinstance(name, Fold):  # its value may be there though the level does not tick
            new = self.unless_silent(self.ticks.terms[name], equation, before)
            return self.when(self.program.levels[level].clock, new, before)
        return self.ticked(level, self.hidden(level, equation, "none"), before)

    def ticked(self, level: str, new: Node, before: Node) -> Node:
        value = self.unless_silent(self.needs[self.ticks.root_of(level)], new, before)
        return self.when(self.program.levels[level].clock, value, before)

    def unless_silent(self, needs: Collection[Heard], new: Node, before: Node) -> Node:
        """What it was where one of the numbers of terms is 0."""
        if not needs:
            return new
        al = self.al
        zero = [al.apply("le", self.ticks.taken(terms, ()), al.const(0)) for terms in needs]
        test = reduce(lambda a, b: al.apply("max", a, b), zero)
        self.silent[test] = needs
        return al.where(test, before, new)

    def settled(self, name: str) -> Node:
        if name not in self._settled:
            memory = self.program.memories[name]
            value = self.cut(memory.level, self.now(name, memory.type))
            self._settled[name] = instant.settled(
                value, self.restarts(memory), lambda: self.begun(memory), self.when
            )
        return self._settled[name]

    def restarts(self, memory: Memory) -> list[Clock]:
        reset = self.program.restart(memory.name)
        return [] if reset == NEVER else [reset]

    def begun(self, memory: Memory) -> Node:
        """The start, from what other memories hold by then: of two that restart at one instant the
        slow one comes first.
        """
        level = self.program.levels[memory.level]

        def newest(node: Node) -> Node:
            other = self.program.memories[str(owner(self.program, node))]
            if node.op != "weight" and self.program.slower(level, self.program.level(other.name)):
                return self.cut(other.level, self.now(other.name, other.type))
            left = self.settled(other.name)
            if node.op != "weight" or other.slots is None:
                return left
            path = next(p for p, slot in other.slots.items() if slot == node["name"])
            return self.al.make("leaf", left, type=node.type, path=path) if path else left

        return instant.begun(self.al, memory.start or self.start(memory), newest)

    def since(self, stretch: Stretch, new: Node, now: Node) -> Node:
        """`new` where a stretch ends: at its clock's tick, or at a level's tick or restart."""
        if not isinstance(stretch, str):
            return self.when(stretch, new, now)
        ended = self.ticked(stretch, new, now)
        return self.when(self.program.levels[stretch].reset, new, ended)

    # -- who sees

    def cut(self, level: str, value: Node) -> Node:
        """Constant, at the ticks of a clock, for those who see no further back."""
        root = self.program.root(self.program.levels[level])
        for clock in dict.fromkeys(b.depth for b in root.bptt if isinstance(b.depth, Clock)):
            hidden = self.hidden(level, value, clock)
            value = value if hidden is value else self.when(clock, hidden, value)
        return value

    def hidden(self, level: str, value: Node, far: str | Clock) -> Node:
        """Constant for the learners that see so far through a level and no further."""
        blind = tuple(
            viewer.name
            for viewer in self.viewers
            if viewer.name != self.ticks.root_of(level)
            and self.program.horizon(viewer, self.program.levels[level]) == far
        )
        if not blind:
            return value
        return self.al.make("constant_for", value, type=value.type, learners=blind)

    # -- nodes

    def read(self, name: Name, type: Type) -> Node:
        return self.al.make("read", type=type, memory=name)

    def now(self, name: Name, type: Type) -> Node:
        return self.al.make("now", type=type, memory=name)

    def when(self, clock: Clock, a: Node, b: Node) -> Node:
        if clock == NEVER:
            return b
        if (clock.period, clock.phase) == (1, 0):
            return a
        return self.al.make("when", a, b, type=a.type, clock=clock, first=0, late=0)


# -- a step of one kind


@dataclass(frozen=True, eq=False)
class Moved:
    """What a step leaves of a state, with every `when` decided."""

    after: Node
    next: Node


class At:
    """A step of one kind. `moved`: the states that it changes. As a viewer sees it, what is
    constant for the viewer is in `stop`, and its own memories are as the step leaves them.
    """

    def __init__(self, made: StepStates, kind: Kind, viewer: Level | None = None) -> None:
        self.made, self.kind, self.al = made, kind, made.ticks.al
        table = made.table
        self._ticking = {table.clocks[name] for name in (*kind.fired, *kind.silent)}
        self._ticking |= {*kind.clocks, *(table.resets[name] for name in kind.restarted)}
        self._silent = {
            test: any(terms in kind.unheard for terms in needs)
            for test, needs in made.silent.items()
        }
        self._viewer = viewer.name if viewer else ""
        own = [made.states[name] for name in viewer.memories] if viewer else []
        self._own = {state.next: self.before(state) for state in own}
        self._done: dict[Node, Node] = {}
        self.moved = {
            state.name: Moved(self.decide(state.after), self.decide(state.next))
            for state in made.states.values()
            if self.ticks(state.name) or self.chosen(state.next) is not self.before(state)
        }

    def ticks(self, name: Name) -> bool:
        """Is its value after the tick another one than before it?"""
        state = self.made.states[name]
        return self.chosen(state.after) is not self.before(state)

    def needed(self) -> list[Name]:
        """The states whose value after the tick something takes: another's, or what is left."""
        found: set[Name] = set()
        stack = [moved.next for moved in self.moved.values()]
        while stack:
            new = {n["memory"] for n in walk(*stack) if n.op == "now"} - found
            found |= new
            stack = [self.moved[name].after for name in new]
        return [name for name in self.moved if name in found]

    def before(self, state: State) -> Node:
        return self.al.make("read", type=state.type, memory=state.name)

    def chosen(self, node: Node) -> Node:
        """The branch of a choice that is taken in this kind of step."""
        while True:
            if node in self._own:
                return self._own[node]
            if node.op == "constant_for":
                if self._viewer in node["learners"]:
                    return node
                node = node.args[0]
            elif node.op == "when":
                node = node.args[node["clock"] not in self._ticking]
            elif node.op == "where" and node.args[0] in self._silent:
                node = node.args[1 if self._silent[node.args[0]] else 2]
            elif node.op == "now" and not self.ticks(node["memory"]):
                node = self.before(self.made.states[node["memory"]])
            else:
                return node

    def decide(self, root: Node) -> Node:
        """The equation with every choice taken."""
        stack = [root]
        while stack:
            node = stack[-1]
            chosen = self.chosen(node)
            waiting = [a for a in chosen.args if a not in self._done]
            if waiting:
                stack += reversed(waiting)
                continue
            self._done[node] = self._remade(chosen, [self._done[a] for a in chosen.args])
            stack.pop()
        return self._done[root]

    def _remade(self, node: Node, args: list[Node]) -> Node:
        if node.op != "constant_for" and all(a is b for a, b in zip(args, node.args, strict=True)):
            return node
        self.al.span = node.span
        if node.op == "constant_for":
            return self.al.make("stop", *args, type=node.type)
        made = self.al.remake(node, args)
        if name := self.al.names.get(node):
            self.al.called(made, name)
        return made
