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

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nldsl.core.build import number
from nldsl.core.nodes import Node, Tree, walk
from nldsl.core.ops import active
from nldsl.core.program import Clock, Level
from nldsl.schedule.differentiate import gradient, sum_of
from nldsl.schedule.faults import Unsupported
from nldsl.schedule.timetable import Kind

if TYPE_CHECKING:
    from nldsl.schedule.step_clock import StepClock
    from nldsl.schedule.ticks import Given

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

    bars: dict[str, Node] = field(default_factory=dict)
    found: dict[str, Node] = field(default_factory=dict)


def ends(event: Event) -> bool:
    """Does sight end here and nothing else happen? Then a second one right behind says nothing new,
    and takes no row.
    """
    return bool(event.cut) and not event.fired and not event.restarted


class Adjoint:
    """One viewer.

    `targets`: memories that its streams read; `moved`: those and all that carry a derivative
    between them. `backs`: the transposed derivative of each kind of event that has one.
    """

    def __init__(self, clock: StepClock, viewer: Level) -> None:
        self.clock, self.viewer, self.program = clock, viewer, clock.program
        self.al = clock.ticks.al
        self.heard = [
            g
            for g in clock.given
            if g.kind == "grad" and self.program.memories[g.memory].level == viewer.name
        ]
        self.streams = list(dict.fromkeys(g.stream for g in self.heard))
        self.levels = [level for level in clock.ticks.roots if self.program.slower(viewer, level)]
        self._second: dict[
            str, Given
        ] = {}  # updates that read a gradient which depends on the viewer in turn
        candidates = self.depending()
        streams = [clock.ticks.streams[s] for s in self.streams]
        self.targets = [n for n in candidates if any(self.reaches(s, {n}) for s in streams)]
        self.moved = self.carrying(candidates)
        self.codes: dict[Event, int] = {}
        self.backs: list[Back] = []
        if self.moved:
            self.refuse()
            self._record()

    def _record(self) -> None:
        """Numbers the events that can occur, and counts the rows of the tape."""
        begun = frozenset(self.level_of(n) for n in self.moved)
        birth = Event(frozenset(), begun, frozenset())
        self.number(birth)
        self.birth = self.codes[birth]
        for kind in self.clock.table.events:
            for fired in (kind, Kind((), kind.restarted, kind.clocks)):
                self.number(self.event(fired))
                self.number(Event(frozenset(), self.event(fired).restarted, frozenset()))
        self.rows = self.count() + any(
            map(ends, self.codes)
        )  # an end of sight in a period without a term is kept

    def depth(self, level: Level) -> str | Clock:
        return self.program.horizon(self.viewer, level)

    def level_of(self, name: str) -> str:
        return self.clock.ticks.level_of(name)

    def root(self, name: str) -> Level:
        return self.program.levels[self.clock.ticks.root_of(self.level_of(name))]

    def owner(self, node: Node) -> str | None:
        return self.program.owner(node)

    def depending(self) -> list[str]:
        """Memories of faster levels whose value is a function of what the viewer holds, by their
        updates or starts.
        """
        found: set[str] = set()
        names = [n for level in self.levels for n in self.clock.ticks.memories(level.name)]
        while True:
            known = found | set(self.viewer.memories)
            new = {
                n
                for n in names
                if n not in found
                and (self.starts_from(n, known) or self.sees(n) and self.read(n, known))
            }
            if not new:
                return [n for n in names if n in found]
            found |= new

    def sees(self, name: str) -> bool:
        return self.depth(self.root(name)) != "none"

    def starts_from(self, name: str, known: set[str]) -> bool:
        memory = self.program.memories.get(name)
        return (
            memory is not None
            and memory.start is not None
            and any(self.owner(n) in known for n in walk(memory.start))
        )

    def read(self, name: str, known: set[str]) -> bool:
        """Has the update a derivative in what is known to depend on the viewer?"""
        seen: set[int] = set()
        stack, hit = [self.clock.ticks.next[name]], False
        while stack:
            node = stack.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            given = self.clock.ticks.given.get(node["memory"]) if node.op == "read" else None
            if (
                given is not None
                and given.kind in ("grad", "sum")
                and self.reaches(self.clock.ticks.streams[given.stream], known)
            ):
                self._second.setdefault(name, given)
                hit = True
            hit = hit or self.owner(node) in known
            stack.extend(active(node))
        return hit

    def reaches(self, stream: Node, names: set[str]) -> bool:
        """Does a stream read one of the memories, directly or in the past of a memory on the token
        clock?
        """
        seen: set[int] = set()
        stack = [stream]
        while stack:
            node = stack.pop()
            if id(node) not in seen:
                seen.add(id(node))
                stack.extend(node.args)
                owner = self.owner(node)
                if owner in names:
                    return True
                memory = self.program.memories.get(owner or "")
                if memory is not None and self.program.levels[memory.level].clock.inner:
                    stack.extend(n for n in (memory.next, memory.start) if n is not None)
        return False

    def carrying(self, candidates: list[str]) -> list[str]:
        """Of the candidates, those from whose values the targets follow."""
        out = set(self.targets)
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
        short, known = self.viewer.name.rsplit(".", 1)[-1], {*self.moved, *self.viewer.memories}
        for name in self.moved:
            if (
                self.sees(name)
                and self.read(name, known)
                and (given := self._second.get(name)) is not None
            ):
                after = self.program.memories[given.memory or name].next
                node = next(
                    (
                        n
                        for n in walk(*[after] if after else [])
                        if n.op == "grad" and n["memory"] == given.memory
                    ),
                    after,
                )
                raise Unsupported(
                    f"a second derivative of the whole network, by which `{short}` would see "
                    "through this update",
                    node,
                    "`stop(grad(..))` for the first order, or `bptt none`",
                )
            if name in self.clock.ticks.folds:
                raise Unsupported(
                    f"a fold over ticks that `{short}` sees through",
                    self.clock.ticks.next[name],
                    "`bptt none`",
                )
        if any(g.since != self.viewer.name for g in self.heard):
            raise Unsupported(
                f"`{short}` sees through faster ticks over another stretch than its own period",
                span=self.viewer.span,
                help="over period",
            )

    # -- events

    def event(self, kind: Kind) -> Event:
        families = {m.name for n in self.moved for m in self.clock.ticks.family(self.root(n))}
        levels, depth = (
            {self.level_of(n) for n in self.moved},
            {self.level_of(n): self.depth(self.root(n)) for n in self.moved},
        )
        cut = frozenset(
            x
            for x in levels
            if (x in kind.fired if depth[x] == "none" else depth[x] in kind.clocks)
        )
        return Event(
            frozenset(families & set(kind.fired)), frozenset(levels & set(kind.restarted)), cut
        )

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

    def bar(self, name: str) -> Node:
        return self.al.make("read", type=self.clock.ticks.next[name].type, memory=f"bar {name}")

    def back(self, event: Event) -> Back:
        """Restarts are the last to happen at an instant, so the first to be passed; then the end of
        sight; then the ticks.
        """
        out, ended = (
            Back(),
            [n for n in self.moved if self.level_of(n) in event.restarted | event.cut],
        )
        starts = {
            n: self.program.memories[n].start for n in ended if self.level_of(n) in event.restarted
        }
        started = {n: self.closed(s, frozenset()) for n, s in starts.items() if s is not None}
        for node in (x for s in started.values() for x in walk(s)):
            if self.owner(node) in self.moved:
                raise Unsupported(
                    f"a start from a memory that `{self.viewer.name.rsplit('.', 1)[-1]}` sees "
                    "through",
                    node,
                )
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

    def transpose(self, after: dict[str, Node], moved: list[str], out: Back) -> None:
        """Bars of new values -> bars of what they were made from."""
        if not after:
            return
        al, objective = self.al, self.al.const(0)
        for name, value in after.items():
            product = al.mul(self.bar(name), value)
            objective = al.add(
                objective,
                al.total(product, 0, ())
                if isinstance(product.type, Tree)
                else al.sum(product, range(len(product.type))),
            )
        old = [al.make("read", type=self.bar(n).type, memory=n) for n in moved]
        atoms = [
            n
            for n in dict.fromkeys(walk(objective))
            if self.owner(n) in self.viewer.memories and n.op in ("weight", "read")
        ]
        slots = [
            n for n in dict.fromkeys(walk(objective)) if n.op == "weight" and self.owner(n) in moved
        ]
        found = gradient(al, objective, [*old, *atoms, *slots])
        parts = dict(zip(moved, found[: len(old)]))
        for node, slope in zip(slots, found[len(old) + len(atoms) :]):
            name = self.owner(node) or ""
            parts[name] = sum_of(al, parts[name], self.placed(node, slope))
        for name, slope in parts.items():
            stays = name not in after and name not in out.bars
            new = al.add(self.bar(name), slope) if stays else slope
            if new is not self.bar(name):
                out.bars[name] = new
        for node, slope in zip(atoms, found[len(old) :]):
            if number(slope) != 0:
                owner, part = self.owner(node) or "", self.placed(node, slope)
                out.found[owner] = (
                    sum_of(al, out.found[owner], part) if owner in out.found else part
                )

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
        """An equation over old values alone."""
        done: dict[int, Node] = {}
        for node in walk(root):
            if node.op == "now" and self.level_of(node["memory"]) in fired:
                done[id(node)] = self.closed(self.clock.ticks.next[node["memory"]], fired)
            elif node.op == "now":
                done[id(node)] = self.al.make("read", type=node.type, memory=node["memory"])
            else:
                done[id(node)] = self.al.remake(node, [done[id(a)] for a in node.args])
        return done[id(root)]

    # -- what the tape keeps

    @property
    def learners(self) -> list[str]:
        return list(dict.fromkeys(g.memory for g in self.heard))

    def leaves(self) -> list[Node]:
        """What the derivatives read that changes between two ticks of the viewer."""
        roots = [n for b in self.backs for n in (*b.bars.values(), *b.found.values())]
        return [
            n
            for n in walk(*roots)
            if n.op in ("read", "weight", "tick")
            and not (n.op == "read" and n["memory"].startswith("bar "))
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
