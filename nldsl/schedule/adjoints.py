"""A slower level of the step clock that learns through the ticks of faster ones: which memories
move it, what must be kept of them, and how a derivative goes back over their events.

    O  ->  update of W reads O, or W starts from O  ->  W  ->  a stream that O hears
           W is moved by O

Between two ticks of the learner O, a faster memory W takes the values W_1, W_2, ..; each is a
function of O (its update reads O, or its start does). The streams that O hears read W_k, so

    d L / d O  =  what O itself was read for  +  sum over k of < d L / d W_k , d W_k / d O >

`tape` keeps d L / d W_k for each value that W took, and for each event between two values (a tick,
a restart, the end of `bptt`) what the derivative of that event reads: heard gradients (constants:
they stand in `stop`), buffers, counters. At the tick of O the events are passed backwards, last
first. An event that leaves every derivative as it is takes no row: the values on both sides of it
share one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nldsl.core.build import number
from nldsl.core.nodes import Node, Tree, walk
from nldsl.core.ops import active
from nldsl.core.program import Clock, Level
from nldsl.schedule.differentiate import gradient, sum_of
from nldsl.schedule.faults import Unsupported
from nldsl.schedule.named import Bar, Counter, Fold, Memory, Total, heard, input_of, owner
from nldsl.schedule.timetable import Kind

if TYPE_CHECKING:
    from nldsl.schedule.step_clock import StepClock

LONG = 20_000  # steps of a hyperperiod beyond which rows are counted roughly


@dataclass(frozen=True)
class Event:
    """Between two values: the levels that tick, those that begin anew, and those that are no longer
    seen past.
    """

    fired: frozenset[str]
    restarted: frozenset[str]
    cut: frozenset[str]


@dataclass
class Back:
    """The transposed derivative of an event: new bars and what reaches the learners, both by
    memory. A bar that stays is not there.
    """

    bars: dict[Memory, Node] = field(default_factory=dict)
    found: dict[Memory, Node] = field(default_factory=dict)


def ends(event: Event) -> bool:
    """Does sight end here and nothing else happen? Then a second one right behind says nothing new,
    and takes no row.
    """
    return bool(event.cut) and not event.fired and not event.restarted


class Adjoint:
    """One viewer.

    `targets`: memories that its streams read. `moved`: those and all that carry a derivative
    between them. `backs`: the transposed derivative of each kind of event that has one.
    """

    def __init__(self, clock: StepClock, viewer: Level) -> None:
        self.clock, self.viewer, self.program = clock, viewer, clock.program
        self.al = clock.ticks.al
        self.heard = [
            h
            for h in clock.heard
            if isinstance(h, Total)
            and h.input.what == "grad"
            and self.program.memories[h.input.memory].level == viewer.name
        ]
        self.streams = list(dict.fromkeys(h.input.stream for h in self.heard))
        self.levels = [level for level in clock.ticks.roots if self.program.slower(viewer, level)]
        candidates = self.depending() if self.heard else []
        streams = [clock.ticks.streams[s] for s in self.streams]
        self.targets = [
            n
            for n in candidates
            if isinstance(n, str) and any(self.reaches(s, {n}) for s in streams)
        ]
        self.moved = self.carrying(candidates)
        self.codes: dict[Event, int] = {}
        self.backs: list[Back] = []
        if self.moved:
            self.refuse()
            self._record()

    def _record(self) -> None:
        """Numbers the events that can occur, and counts the rows of the tape. An end of sight in a
        period without a term is kept.
        """
        begun = frozenset(self.level_of(n) for n in self.moved)
        birth = Event(frozenset(), begun, frozenset())
        self.number(birth)
        self.birth = self.codes[birth]
        for kind in self.clock.table.events:
            for fired in (kind, Kind((), kind.restarted, kind.clocks)):
                self.number(self.event(fired))
                self.number(Event(frozenset(), self.event(fired).restarted, frozenset()))
        self.rows = self.count() + any(map(ends, self.codes))

    def depth(self, level: Level) -> str | Clock:
        return self.program.horizon(self.viewer, level)

    def level_of(self, name: Memory) -> str:
        return self.clock.ticks.level_of(name)

    def root(self, name: Memory) -> Level:
        return self.program.levels[self.clock.ticks.root_of(self.level_of(name))]

    def owner(self, node: Node) -> Memory | None:
        return owner(self.program, node)

    def depending(self) -> list[Memory]:
        """Memories of faster levels whose value is a function of what the viewer holds, by their
        updates or starts.
        """
        found: set[Memory] = set()
        names = [n for level in self.levels for n in self.clock.ticks.memories(level.name)]
        while True:
            known = found | set(self.viewer.memories)
            new = {
                n
                for n in names
                if n not in found
                and (self.starts_from(n, known) or self.sees(n) and self.reads(n, known))
            }
            if not new:
                return [n for n in names if n in found]
            found |= new

    def sees(self, name: Memory) -> bool:
        return self.depth(self.root(name)) != "none"

    def start(self, name: Memory) -> Node | None:
        return None if isinstance(name, Fold) else self.program.memories[name].start

    def starts_from(self, name: Memory, known: set[Memory]) -> bool:
        start = self.start(name)
        return start is not None and any(self.owner(n) in known for n in walk(start))

    def reads(self, name: Memory, known: set[Memory]) -> bool:
        """Has the update a derivative in what is known to depend on the viewer?"""
        found = self.moving(name)
        return any(self.owner(n) in known or self.hears(n, known) for n in found)

    def moving(self, name: Memory) -> set[Node]:
        """What an update has a derivative in."""
        seen: set[Node] = set()
        stack = [self.clock.ticks.next[name]]
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                stack.extend(active(node))
        return seen

    def hears(self, node: Node, known: set[Memory]) -> bool:
        """Is it the sum of a stream, or a gradient of that, which one of the memories reaches?"""
        found = heard(node)
        return (
            found is not None
            and input_of(found).what != "terms"
            and self.reaches(self.clock.ticks.streams[input_of(found).stream], known)
        )

    def reaches(self, stream: Node, names: set[Memory]) -> bool:
        """Does a stream read one of the memories, directly or in the past of a memory on the token
        clock?
        """
        seen: set[Node] = set()
        stack = [stream]
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            stack.extend(node.args)
            name = self.owner(node)
            if name in names:
                return True
            memory = self.program.memories.get(name) if isinstance(name, str) else None
            if memory is not None and self.program.levels[memory.level].clock.inner:
                stack.extend(memory.equations)
        return False

    def carrying(self, candidates: list[Memory]) -> list[Memory]:
        """Of the candidates, those from whose values the targets follow."""
        out: set[Memory] = set(self.targets)
        while True:
            new = {
                n
                for n in candidates
                if n not in out
                and any(self.owner(x) == n for m in out for x in walk(self.clock.ticks.next[m]))
            }
            if not new:
                return [n for n in candidates if n in out]
            out |= new

    def refuse(self) -> None:
        known: set[Memory] = {*self.moved, *self.viewer.memories}
        for name in self.moved:
            assert not isinstance(name, Fold), name  # the limit `stretch_seen_through`
            # the limit `second_derivative`
            assert not self.sees(name) or not any(self.hears(n, known) for n in self.moving(name))
        if any(h.since != self.viewer.name for h in self.heard):
            short = self.viewer.name.rsplit(".", 1)[-1]
            raise Unsupported(
                f"`{short}` sees through faster ticks over another stretch than its own period",
                span=self.viewer.span,
                help="over period",
            )

    # -- events

    def event(self, kind: Kind) -> Event:
        families = {m.name for n in self.moved for m in self.clock.ticks.family(self.root(n))}
        depth = {self.level_of(n): self.depth(self.root(n)) for n in self.moved}
        cut = frozenset(
            level
            for level, far in depth.items()
            if (level in kind.fired if far == "none" else far in kind.clocks)
        )
        restarted = frozenset(depth.keys() & set(kind.restarted))
        return Event(frozenset(families & set(kind.fired)), restarted, cut)

    def number(self, event: Event) -> None:
        """Gives an event its place on the tape: that of its derivative, 0 if it changes nothing."""
        if event not in self.codes:
            back = self.back(event)
            self.codes[event] = 0
            if back.bars or back.found:
                if back not in self.backs:
                    self.backs.append(back)
                self.codes[event] = self.backs.index(back) + 1

    def code(self, event: Event) -> int:
        """The number of an event on the tape; 0 if it changes nothing."""
        if event in self.codes:
            return self.codes[event]
        back = self.back(event)
        if not back.bars and not back.found:
            return 0
        if back not in self.backs:
            raise Unsupported(
                "a step in which some of the levels that a slower one sees through tick without a "
                "term",
                span=self.viewer.span,
            )
        return self.backs.index(back) + 1

    def count(self) -> int:
        """Rows of the tape: the most events between two ticks of the viewer, and one."""
        table, most, here = self.clock.table, 0, 0
        if table.hyperperiod > LONG:
            return self.viewer.clock.period + self.viewer.clock.phase
        for step in range(1, table.start + table.hyperperiod + self.viewer.clock.period + 1):
            kind = table.event(step)
            here = 0 if kind.at(self.viewer.name) else here + (self.code(self.event(kind)) > 0)
            most = max(most, here)
        return most + 1

    # -- derivatives

    def bar(self, name: Memory) -> Node:
        return self.al.make("read", type=self.clock.ticks.next[name].type, memory=Bar(name))

    def back(self, event: Event) -> Back:
        """Restarts are the last to happen at an instant, so the first to be passed; then the end of
        sight; then the ticks.
        """
        out = Back()
        ended = [n for n in self.moved if self.level_of(n) in event.restarted | event.cut]
        starts = {n: self.start(n) for n in ended if self.level_of(n) in event.restarted}
        started = {n: self.closed(s, frozenset()) for n, s in starts.items() if s is not None}
        # the limit `start_seen_through`
        assert all(self.owner(x) not in self.moved for s in started.values() for x in walk(s))
        self.transpose(started, [], out)
        for name in ended:
            out.bars[name] = self.al.const(0, self.bar(name).type)
        ticking = {
            n: self.closed(self.clock.ticks.next[n], event.fired)
            for n in self.moved
            if self.level_of(n) in event.fired and n not in ended
        }
        self.transpose(ticking, self.moved, out)
        return out

    def transpose(self, after: Mapping[Memory, Node], moved: list[Memory], out: Back) -> None:
        """Bars of new values -> bars of what they were made from."""
        if not after:
            return
        objective = self.product(after)
        old = [self.al.make("read", type=self.bar(n).type, memory=n) for n in moved]
        met = [n for n in walk(objective) if n.op in ("weight", "read")]
        atoms = [n for n in met if self.owner(n) in self.viewer.memories]
        slots = [n for n in met if n.op == "weight" and self.owner(n) in moved]
        found = gradient(self.al, objective, [*old, *atoms, *slots])
        parts = dict(zip(moved, found[: len(old)]))
        for node, slope in zip(slots, found[len(old) + len(atoms) :]):
            name = self.held(node)
            parts[name] = sum_of(self.al, parts[name], self.placed(node, slope))
        for name, slope in parts.items():
            stays = name not in after and name not in out.bars
            new = self.al.add(self.bar(name), slope) if stays else slope
            if new is not self.bar(name):
                out.bars[name] = new
        for node, slope in zip(atoms, found[len(old) :]):
            if number(slope) != 0:
                name, part = self.held(node), self.placed(node, slope)
                known = out.found.get(name)
                out.found[name] = part if known is None else sum_of(self.al, known, part)

    def product(self, after: Mapping[Memory, Node]) -> Node:
        """The inner product of new values with their bars."""
        al, objective = self.al, self.al.const(0)
        for name, value in after.items():
            part = al.mul(self.bar(name), value)
            tree = isinstance(part.type, Tree)
            whole = al.total(part, 0, ()) if tree else al.sum(part, range(len(part.shape)))
            objective = al.add(objective, whole)
        return objective

    def held(self, node: Node) -> Memory:
        name = self.owner(node)
        assert name is not None, node
        return name

    def placed(self, node: Node, slope: Node) -> Node:
        """The cotangent of one weight as one of the memory that owns it."""
        if node.op == "read":
            return slope
        memory, path = self.clock.owners[node["name"]]
        if not isinstance(memory.type, Tree):
            return slope
        return self.al.make(
            "tree",
            *(slope if p == path else self.al.const(0, shape) for p, shape in memory.type.leaves),
            type=memory.type,
        )

    def closed(self, root: Node, fired: frozenset[str]) -> Node:
        """An equation over old values, and what the steps give."""
        done: dict[Node, Node] = {}
        for node in walk(root):
            if node.op != "now" or isinstance(node["memory"], Total | Counter):
                done[node] = self.al.remake(node, [done[a] for a in node.args])
            elif self.level_of(node["memory"]) in fired:
                done[node] = self.closed(self.clock.ticks.next[node["memory"]], fired)
            else:
                done[node] = self.al.make("read", type=node.type, memory=node["memory"])
        return done[root]

    # -- what the tape keeps

    @property
    def learners(self) -> list[str]:
        return list(dict.fromkeys(h.input.memory for h in self.heard))

    def leaves(self) -> list[Node]:
        """What the derivatives read that changes between two ticks of the viewer."""
        roots = [n for b in self.backs for n in (*b.bars.values(), *b.found.values())]
        return [
            n
            for n in walk(*roots)
            if n.op in ("read", "now", "weight", "input")
            and not isinstance(dict(n.attrs).get("memory"), Bar)
            and self.owner(n) not in self.viewer.memories
        ]

    def anew(self, kind: Kind) -> bool:
        """Does the tape begin anew? At the viewer's tick; where it would tick and has heard no
        term, if all it sees through restarts.
        """
        restarts = len(self.streams) == 1 and {self.level_of(n) for n in self.moved} <= set(
            kind.restarted
        )
        return kind.at(self.viewer.name) or (self.viewer.name in kind.silent and restarts)

    def fits(self, kind: Kind, row: float) -> bool:
        """Is there room on the tape, which stands at `row`, for one more period of the viewer after
        this step?
        """
        if self.viewer.name not in kind.silent or self.anew(kind):
            return True
        event = self.event(kind)
        return row + (self.code(event) > 0 and not ends(event)) + self.count() <= self.rows
