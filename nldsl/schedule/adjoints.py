"""A slower level of the step clock that learns through the ticks of faster ones: which states move
it, what must be kept of them, and how a derivative goes back over their steps.

    O  ->  update of W reads O, or W starts from O  ->  W  ->  a stream that O hears
           W is moved by O

Between two ticks of the learner O, a memory W takes the values W_1, W_2, ..; each is a function of
O (its update reads O, or its start does). The streams that O hears read W_k, so

    d L / d O  =  what O itself was read for  +  sum over k of < d L / d W_k , d W_k / d O >

`tape` keeps d L / d W_k for each value that W took, and for each step between two values what the
derivative of that step reads: heard gradients (constants: they stand in `stop`), buffers, counters.
At the tick of O the steps are passed backwards, last first. A step that leaves every derivative as
it is takes no row: the values on both sides of it share one.

What a step leaves of each state is its equation (step_states.py), constant for those who do not see
through it; nothing else is said of ticks, restarts, copies and the end of sight here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nldsl.core.build import number
from nldsl.core.nodes import Node, Tree, reach, walk
from nldsl.core.ops import active
from nldsl.core.program import Level
from nldsl.schedule.differentiate import gradient, sum_of
from nldsl.schedule.faults import Unsupported
from nldsl.schedule.named import (
    Bar,
    Fold,
    Held,
    Total,
    heard,
    input_of,
    name_of,
    owner,
)
from nldsl.schedule.step_states import At
from nldsl.schedule.timetable import Kind

if TYPE_CHECKING:
    from nldsl.schedule.step_clock import StepClock

LONG = 20_000  # steps of a hyperperiod beyond which rows are counted roughly


@dataclass
class Back:
    """The transposed derivative of a step: new bars and what reaches the learner's memories. A bar
    that stays is not there.
    """

    bars: dict[Held, Node] = field(default_factory=dict)
    found: dict[Held, Node] = field(default_factory=dict)

    @property
    def roots(self) -> list[Node]:
        return [*self.bars.values(), *self.found.values()]

    @property
    def ends(self) -> bool:
        """Does sight end here and nothing else happen? Then a second one right behind says nothing
        new, and takes no row.
        """
        return not self.found and all(number(bar) == 0 for bar in self.bars.values())


class Adjoint:
    """One viewer.

    `targets`: states that its streams read. `moved`: those and all that carry a derivative between
    them. `backs`: the transposed derivative of each kind of step that has one.
    """

    def __init__(self, clock: StepClock, viewer: Level) -> None:
        self.clock, self.viewer, self.program = clock, viewer, clock.program
        self.states, self.al = clock.states.states, clock.ticks.al
        self.heard = [
            h
            for h in clock.heard
            if isinstance(h, Total)
            and h.input.what == "grad"
            and self.program.memories[h.input.memory].level == viewer.name
        ]
        self.stretches = list(dict.fromkeys((h.input.stream, h.since) for h in self.heard))
        self.streams = list(dict.fromkeys(stream for stream, _ in self.stretches))
        streams = [clock.ticks.streams[s] for s in self.streams]
        candidates = self.depending() if self.heard else []
        self.targets = [
            n
            for n in candidates
            if not isinstance(n, Fold) and any(self.reaches(s, {n}) for s in streams)
        ]
        self.moved = self.carrying(candidates)
        self.backs: list[Back] = []
        self._codes: dict[Kind, int] = {}
        if self.moved:
            self.refuse()
            self._record()

    def _record(self) -> None:
        """Numbers the steps that can occur, and counts the rows of the tape. An end of sight in a
        period without a term is kept.
        """
        needs = self.clock.needs
        self.birth = self.number(self.born())
        for kind in self.clock.table.events:
            silent = [n for n in kind.fired if needs.get(self.clock.ticks.root_of(n))]
            quiet = replace(
                kind,
                fired=tuple(n for n in kind.fired if n not in silent),
                silent=tuple(silent),
                unheard=frozenset(h for terms in needs.values() for h in terms),
            )
            for each in (kind, quiet):
                self.number(self.first(each) if self.anew(each) else self.back(each))
        self.rows = self.count() + any(back.ends for back in self.backs)

    # -- who depends on the viewer

    def owner(self, node: Node) -> Held | None:
        return owner(self.program, node)

    def candidates(self) -> list[Held]:
        """States of faster levels."""
        return [
            name
            for name, state in self.states.items()
            if isinstance(name, Held)
            and self.program.slower(self.viewer, self.program.levels[state.level])
        ]

    def depending(self) -> list[Held]:
        """States whose value is a function of what the viewer holds."""
        found: set[Held] = set()
        names = self.candidates()
        while True:
            known = found | set(self.viewer.memories)
            new = {n for n in names if n not in found and self.reads(n, known)}
            if not new:
                return [n for n in names if n in found]
            found |= new

    def reads(self, name: Held, known: Collection[Held]) -> bool:
        """Has its value a derivative in what is known to depend on the viewer?"""
        found = self.moving(name)
        return any(self.owner(n) in known or self.hears(n, known) for n in found)

    def moving(self, name: Held) -> Iterator[Node]:
        """What a state has a derivative in, as the viewer sees it."""
        state = self.states[name]
        seen: set[Node] = set()
        stack = [state.start, state.after, state.next]
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                yield node
                if node.op != "constant_for" or self.viewer.name not in node["learners"]:
                    stack.extend(active(node))

    def hears(self, node: Node, known: Collection[Held]) -> bool:
        """Is it the sum of a stream, or a gradient of that, which one of the memories reaches?"""
        found = heard(node)
        return (
            found is not None
            and input_of(found).what != "terms"
            and self.reaches(self.clock.ticks.streams[input_of(found).stream], known)
        )

    def reaches(self, stream: Node, names: Collection[Held]) -> bool:
        """Does a stream read one of the states, directly or in the past of a memory on the token
        clock?
        """
        memories, levels = self.program.memories, self.program.levels

        def into(node: Node) -> tuple[Node, ...]:
            name = self.owner(node)
            memory = memories.get(name) if isinstance(name, str) else None
            inner = memory is not None and levels[memory.level].clock.inner
            return (*node.args, *(memory.equations if memory is not None and inner else ()))

        return any(self.owner(node) in names for node in reach([stream], into=into))

    def carrying(self, candidates: list[Held]) -> list[Held]:
        """Of the candidates, those from whose values the targets follow."""
        out: set[Held] = set(self.targets)
        while True:
            read = {self.owner(n) for name in out for n in self.moving(name)}
            new = {n for n in candidates if n not in out and n in read}
            if not new:
                return [n for n in candidates if n in out]
            out |= new

    def refuse(self) -> None:
        known: set[Held] = {*self.moved, *self.viewer.memories}
        for name in self.moved:  # the limit `second_derivative`
            assert not any(self.hears(n, known) for n in self.moving(name)), name

    # -- steps

    def number(self, back: Back) -> int:
        """Gives the derivative of a step its place on the tape, 0 if it changes nothing."""
        if back.roots and back not in self.backs:
            self.backs.append(back)
        return self.place(back)

    def place(self, back: Back) -> int:
        if not back.roots:
            return 0
        if back not in self.backs:
            raise Unsupported(
                "a step in which some of the levels that a slower one sees through tick without a "
                "term",
                span=self.viewer.span,
            )
        return self.backs.index(back) + 1

    def code(self, kind: Kind) -> int:
        """The number of a step on the tape: where that begins anew, of how it begins."""
        if kind not in self._codes:
            back = self.first(kind) if self.anew(kind) else self.back(kind)
            self._codes[kind] = self.place(back)
        return self._codes[kind]

    def shares(self, code: int, before: int) -> bool:
        """Do the values before and after a step share a row, whose event is `before`?"""
        return not code or self.backs[code - 1].ends and code == before

    def count(self) -> int:
        """Rows of the tape: the most steps between two ticks of the viewer, and one."""
        table, most, here = self.clock.table, 0, 0
        if table.hyperperiod > LONG:
            return self.viewer.clock.period + self.viewer.clock.phase
        codes = {kind: self.code(kind) for kind in table.events}
        last = self.birth
        for step in range(1, table.start + table.hyperperiod + self.viewer.clock.period + 1):
            kind = table.event(step)
            if self.anew(kind):
                here, last = 0, codes[kind]
            else:
                here += not self.shares(codes[kind], last)
                last = codes[kind] or last
            most = max(most, here)
        return most + 1

    # -- derivatives

    def bar(self, name: Held) -> Node:
        return self.al.make("read", type=self.states[name].type, memory=Bar(name))

    def back(self, kind: Kind) -> Back:
        """Of a step between two ticks of the viewer."""
        at = At(self.clock.states, kind, self.viewer)
        after = {n: at.moved[n].next for n in self.moved if n in at.moved}
        new = {n: at.moved[n].after for n in self.moved if n in at.moved}
        return self.transposed({n: self.closed(x, new) for n, x in after.items()}, self.moved)

    def first(self, kind: Kind) -> Back:
        """Of a step at which the tape begins anew: only what starts from the viewer follows from
        what it holds now.
        """
        at = At(self.clock.states, kind, self.viewer)
        return self.transposed({n: at.moved[n].next for n in self.moved if n in at.moved}, [])

    def born(self) -> Back:
        """Of the first values."""
        starts = {n: self.states[n].start for n in self.moved}
        return self.transposed({n: self.closed(x, {}, starts) for n, x in starts.items()}, [])

    def closed(
        self, root: Node, now: Mapping[Held, Node], read: Mapping[Held, Node] | None = None
    ) -> Node:
        """An equation without the new values of `now`, and the values of `read`."""
        done: dict[Node, Node] = {}
        for node in walk(root):
            known = {"now": now, "read": read or {}}.get(node.op, {})
            name = self.owner(node)
            if name is not None and name in known:
                done[node] = self.closed(known[name], now, read)
            else:
                done[node] = self.al.remake(node, [done[a] for a in node.args])
        return done[root]

    def transposed(self, after: Mapping[Held, Node], moved: list[Held]) -> Back:
        """Bars of new values -> bars of what they were made from, and of the viewer."""
        out = Back()
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
            new = slope if name in after else self.al.add(self.bar(name), slope)
            if new is not self.bar(name):
                out.bars[name] = new
        for node, slope in zip(atoms, found[len(old) :]):
            if number(slope) != 0:
                name, part = self.held(node), self.placed(node, slope)
                known = out.found.get(name)
                out.found[name] = part if known is None else sum_of(self.al, known, part)
        return out

    def product(self, after: Mapping[Held, Node]) -> Node:
        """The inner product of new values with their bars."""
        al, objective = self.al, self.al.const(0)
        for name, value in after.items():
            part = al.mul(self.bar(name), value)
            tree = isinstance(part.type, Tree)
            whole = al.total(part, 0, ()) if tree else al.sum(part, range(len(part.shape)))
            objective = al.add(objective, whole)
        return objective

    def held(self, node: Node) -> Held:
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

    # -- what the tape keeps

    @property
    def learners(self) -> list[str]:
        return list(dict.fromkeys(h.input.memory for h in self.heard))

    def leaves(self) -> list[Node]:
        """What the derivatives read that changes between two ticks of the viewer."""
        return [
            n
            for n in walk(*(root for back in self.backs for root in back.roots))
            if n.op in ("read", "now", "weight", "input")
            and not isinstance(name_of(n), Bar)
            and self.owner(n) not in self.viewer.memories
        ]

    def anew(self, kind: Kind) -> bool:
        """Does the tape begin anew? At the viewer's tick; where it would tick and has heard no
        term, if all it sees through restarts.
        """
        if kind.at(self.viewer.name):
            return True
        silent = self.viewer.name in kind.silent and len(self.stretches) == 1
        return silent and all(
            not isinstance(n, Fold) and self.states[n].level in kind.restarted for n in self.moved
        )

    def fits(self, kind: Kind, row: float) -> bool:
        """Is there room on the tape, which stands at `row`, for one more period of the viewer after
        this step?
        """
        if self.viewer.name not in kind.silent or self.anew(kind):
            return True
        code = self.code(kind)
        return row + (code > 0 and not self.backs[code - 1].ends) + self.count() <= self.rows
