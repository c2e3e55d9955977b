"""A slower level that learns through the ticks of faster ones: what it must keep of them, and how
it goes back over them.

Between two ticks of the learner O, a faster memory W takes the values W_1, W_2, ..; each is a
function of O (its update reads O, or its start does). The streams that O hears read W_k, so

    d L / d O  =  what O itself was read for  +  sum over k of < d L / d W_k , d W_k / d O >

`tape` keeps d L / d W_k for each value that W took, and for each event between two values (a tick,
a restart, the end of `bptt`) what the derivative of that event reads: heard gradients (constants:
they stand in `stop`), buffers, counters. At the tick of O the events are passed backwards, last
first:

    back_i(bar.., kept..) -> bar.., d O           the transposed derivative of one kind of event
    seen_i(carry, row, held)                      one row of the tape: whichever kind of event it
                                                  holds

An event that leaves every derivative as it is takes no row: the values on both sides of it share
one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nldsl.core.build import number
from nldsl.core.nodes import Node, Tree, walk
from nldsl.core.program import Level
from nldsl.schedule.cells import Unsupported
from nldsl.schedule.differentiate import gradient, sum_of
from nldsl.schedule.timetable import Kind
from nldsl.step.flat import shape_of
from nldsl.step.listing import Draft, Label
from nldsl.step.names import last
from nldsl.step.sight import Sight
from nldsl.step.source import parts

if TYPE_CHECKING:
    from nldsl.step.updates import Updates

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


class Replay(Sight):
    """The tape of one viewer."""

    def __init__(self, updates: Updates, viewer: Level, index: int) -> None:
        super().__init__(updates, viewer)
        self.name, self.al = f"seen {index}", updates.ticks.al
        self.codes: dict[Event, int] = {}
        self.backs: list[Back] = []
        if self.moved:
            self.birth = self.code(
                Event(frozenset(), frozenset(self.level_of(n) for n in self.moved), frozenset())
            )
            for kind in updates.table.events:
                for fired in (kind, Kind((), kind.restarted, kind.clocks)):
                    self.code(self.event(fired))
            self.rows = self.count() + any(
                map(ends, self.codes)
            )  # an end of sight in a period without a term is kept

    # -- events

    def event(self, kind: Kind) -> Event:
        families = {m.name for n in self.moved for m in self.updates.ticks.family(self.root(n))}
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

    def code(self, event: Event) -> int:
        """The number of an event on the tape; 0 if it changes nothing."""
        if event not in self.codes:
            back = self.back(event)
            self.codes[event] = 0
            if back.bars or back.found:
                if back not in self.backs:
                    self.backs.append(back)
                self.codes[event] = self.backs.index(back) + 1
        return self.codes[event]

    def count(self) -> int:
        """Rows of the tape: the most events between two ticks of the viewer, and one."""
        table, most, here = self.updates.table, 0, 0
        if table.hyperperiod > LONG:
            return self.viewer.clock.period + self.viewer.clock.phase
        for step in range(1, table.start + table.hyperperiod + self.viewer.clock.period + 1):
            kind = table.event(step)
            here = 0 if kind.at(self.viewer.name) else here + (self.code(self.event(kind)) > 0)
            most = max(most, here)
        return most + 1

    # -- derivatives

    def bar(self, name: str) -> Node:
        return self.al.make("read", type=self.updates.ticks.next[name].type, memory=f"bar {name}")

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
            n: self.closed(self.updates.ticks.next[n], event.fired)
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
        memory, path = self.updates.owners[node["name"]]
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
                done[id(node)] = self.closed(self.updates.ticks.next[node["memory"]], fired)
            elif node.op == "now":
                done[id(node)] = self.al.make("read", type=node.type, memory=node["memory"])
            else:
                done[id(node)] = self.al.remake(node, [done[id(a)] for a in node.args])
        return done[id(root)]

    # -- source

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

    def state(self) -> dict[str, tuple[int, ...] | None]:
        out: dict[str, tuple[int, ...] | None] = {
            f"{self.name}|row": None,
            f"{self.name}|event": (self.rows,),
        }
        for stream in self.streams:
            out |= {
                f"{self.name}|{n}|{stream}": (self.rows, *shape_of(self.bar(n).type))
                for n in self.targets
            }
        return out | {
            f"{self.name}|kept {i + 1}": (self.rows, *(shape_of(n.type) if n.type else ()))
            for i, n in enumerate(self.leaves())
        }

    def write(self) -> None:
        """Defines the functions of the tape."""
        names, kept = self.moved, self.leaves()
        bars, found = (
            [f"b{i + 1}" for i in range(len(names))],
            [f"o{i + 1}" for i in range(len(self.learners))],
        )
        self.held: list[str] = []
        stack = [f"s{i + 1}" for i in range(len(self.targets))]
        lines = [
            "".join(f"{x}, " for x in [*bars, *found]) + "= carry",
            "".join(f"{x}, " for x in ["event", *stack, *(f"x{i + 1}" for i in range(len(kept)))])
            + "= row",
        ]
        given = [*bars, *found]
        for i, n in enumerate(names):
            if n in self.targets:
                lines.append(f"r{i + 1} = {bars[i]} + {stack[self.targets.index(n)]}")
                bars[i] = f"r{i + 1}"

        def text(node: Node) -> str | None:
            if node.op == "read" and node["memory"].startswith("bar "):
                return bars[names.index(node["memory"][4:])]
            if node in kept:
                return f"x{kept.index(node) + 1}"
            value = self.updates.text(node, Kind(()), lambda _: None)
            if value is not None and value not in self.held:
                self.held.append(value)
            return value and f"h{self.held.index(value) + 1}"

        chosen = {x: x for x in [*bars, *found]}
        for code, back in enumerate(self.backs, 1):
            roots = {
                **{f"bar {n}": x for n, x in back.bars.items()},
                **{f"out {n}": x for n, x in back.found.items()},
            }
            call = self.updates.function(
                "back",
                roots,
                text,
                lambda fn, keys, made=roots: [
                    fn.vector(fn.value(made[k]), made[k].type) for k in keys
                ],
                bars[0],
            )
            lines.append(f"c{code} = {call}")
            for i, key in enumerate(roots):
                kind, _, name = key.partition(" ")
                at = bars[names.index(name)] if kind == "bar" else found[self.learners.index(name)]
                value = f"c{code}[{i}]" if kind == "bar" else f"{at} + c{code}[{i}]"
                chosen[at] = f"torch.where(event == {code}, {value}, {chosen[at]})"
        self.written = len(self.backs)
        if self.held:
            lines.insert(0, "".join(f"h{i + 1}, " for i in range(len(self.held))) + "= held")
        labels = {
            **{x: Label(f"bar_{last(n)}") for x, n in zip(given, [*names, *self.learners])},
            **{x: Label(f"heard_{last(n)}") for x, n in zip(stack, self.targets)},
        }
        draft = Draft(("carry", "row", "held"), lines, parts(list(chosen.values())), labels, {})
        self.body = self.updates.define("seen", draft)

    def hear(self, kind: Kind) -> list[str]:
        """Lines before a tick: the step's part of the tape, and at the viewer's tick the way
        back.
        """
        lines = [f'at = S["{self.name}|row"].long().view(1)']
        lines += [
            f'S["{self.name}|{n}|{s}"].index_add_(0, at, G["{n}|{s}"][None])'
            for s in self.streams
            for n in self.targets
        ]
        if self.viewer.name in kind.fired:
            for stream in self.streams:
                tapes = [
                    f'S["{self.name}|event"]',
                    *(f'S["{self.name}|{n}|{stream}"]' for n in self.targets),
                    *(f'S["{self.name}|kept {i + 1}"]' for i in range(len(self.leaves()))),
                ]
                carry = [f'zeros(S["{n}"])' for n in [*self.moved, *self.learners]]
                lines.append(
                    f"found = replay({self.body}, ({', '.join(carry)},), ({', '.join(tapes)},), "
                    f"({''.join(h + ', ' for h in self.held)}), mode)"
                )
                for i, name in enumerate(self.learners):
                    given = next(
                        (g for g in self.heard if g.memory == name and g.stream == stream), None
                    )
                    lines += (
                        [f'S["{given.name}"].add_(found[{len(self.moved) + i}])'] if given else []
                    )
        return lines

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

    def record(self, kind: Kind) -> list[str]:
        """Lines of a tick that note its event, before anything is written: or begin the tape anew,
        at the viewer's own tick.
        """
        event = self.event(kind)
        if self.anew(kind):
            names = [n for n in self.state() if not n.endswith("|row")]
            code = self.code(Event(frozenset(), event.restarted, frozenset()))
            return [f'S["{n}"].zero_()' for n in names] + (
                [f'S["{self.name}|event"][0] = {float(code)}'] if code else []
            )
        code = self.code(event)
        if not code:
            return []
        if code > self.written:
            raise Unsupported(
                "a step in which some of the levels that a slower one sees through tick without a "
                "term",
                span=self.viewer.span,
            )
        roots = [
            n for x in (self.backs[code - 1].bars, self.backs[code - 1].found) for n in x.values()
        ]
        used = set(walk(*roots))
        lines = [
            f'at = S["{self.name}|row"].long().view(1)',
            f'at = at + (S["{self.name}|event"][at] != {float(code)})'
            if ends(event)
            else "at = at + 1",
            f'note(S["{self.name}|event"], at, {float(code)})',
        ]
        return lines + [
            f'note(S["{self.name}|kept {i + 1}"], at, {self.updates.text(n, kind, lambda _: None)})'
            for i, n in enumerate(self.leaves())
            if n in used
        ]

    def after(self, kind: Kind) -> list[str]:
        if self.anew(kind):
            return [f'S["{self.name}|row"].zero_()']
        event, row = self.event(kind), f'S["{self.name}|row"]'
        if not (code := self.code(event)):
            return []
        return [
            f'{row}.add_(S["{self.name}|event"][{row}.long()] != {float(code)})'
            if ends(event)
            else f"{row}.add_(1)"
        ]
