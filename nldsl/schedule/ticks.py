"""PROGRAM -> what each memory of the step clock becomes at a tick: an equation over its old value
and what the step provides.

    grad(mean(loss over period)) in W     read "grad W|loss|training" / read "terms loss|training"
    sum(g over period), g once a tick     now "fold 1", a memory that adds g at each tick of its
                                          caller
    held(M, c)                            read "M@c", a copy

Inner gradients become their derivatives. What an equation reads under such a name is a `Given`.
"""

from __future__ import annotations

from dataclasses import dataclass

from nldsl.core.build import Builder, number
from nldsl.core.nodes import Node, walk
from nldsl.core.ops import OPS
from nldsl.core.program import READS, STATE, Clock, Level, Program
from nldsl.schedule.cells import Unsupported
from nldsl.schedule.differentiate import gradient
from nldsl.schedule.timetable import spoken

ELSEWHERE = ("held_stream", "input", "random", "load", "window", "grad_stream", "ahead")


@dataclass(frozen=True)
class Given:
    """`grad`: of the sum of a stream over a stretch, in a memory.

    `sum`: that sum. `terms`: their number. `copy`: of a memory.
    """

    kind: str
    memory: str = ""
    stream: str = ""
    since: str | Clock = ""  # a level: since its own tick or restart

    @property
    def name(self) -> str:
        if self.kind == "copy":
            return f"{self.memory}@{spoken(self.since)}"
        return f"{self.kind} " + "|".join(
            filter(None, (self.memory, self.stream, spoken(self.since)))
        )


@dataclass(frozen=True)
class Fold:
    """A memory that adds a value at each tick of `level` and restarts after the stretch `since`."""

    level: str
    since: str | Clock


class Ticks:
    """`next`: memory or fold -> equation.

    `streams`: the token streams that levels hear, by name.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.al = Builder(OPS)
        self.next: dict[str, Node] = {}
        self.given: dict[str, Given] = {}
        self.folds: dict[str, Fold] = {}
        self.streams: dict[str, Node] = {}
        self._folded: dict[tuple[int, str | Clock], Node] = {}
        self._local: dict[int, bool] = {}
        self._varied: dict[tuple[int, str], Node] = {}
        self.roots = [
            level
            for level in program.levels.values()
            if level.clock.unit == "step" and level.parent is None
        ]
        for level in self.roots:
            for member in self.family(level):
                for name in member.memories:
                    after = program.memories[name].next
                    assert after is not None
                    self.next[name] = self.rewrite(after)
        for node in walk(
            *program.outputs.values(),
            *(m.next for m in program.memories.values() if m.next is not None),
        ):
            if node.op == "held" and self.slow(node["memory"]) and node["clock"].unit == "step":
                self.held(node)  # streams read copies too

    def family(self, level: Level) -> list[Level]:
        out = [level]
        for member in out:
            out += [level for level in self.program.levels.values() if level.parent == member.name]
        return out

    def level_of(self, name: str) -> str:
        """The level at whose ticks a memory or fold moves."""
        return self.folds[name].level if name in self.folds else self.program.memories[name].level

    def root_of(self, level: str) -> str:
        return self.program.root(self.program.levels[level]).name

    def memories(self, root: str) -> list[str]:
        """Everything that moves in the ticks of a level and of the optimizers that it calls."""
        return [name for name in self.next if self.root_of(self.level_of(name)) == root]

    # -- equations

    def rewrite(self, root: Node) -> Node:
        done: dict[int, Node] = {}
        for node in self.near(root):
            self.al.span = node.span
            if node.op == "grad":
                done[id(node)] = self.gradient(node, done)
            elif node.op == "fold":
                done[id(node)] = self.fold(node, done)
            elif node.op == "held":
                done[id(node)] = self.held(node)
            elif node.op in ELSEWHERE:
                raise Unsupported(f"`{node.op}` in the update of a level on the step clock", node)
            else:
                done[id(node)] = self.al.remake(node, [done[id(a)] for a in node.args])
            if node.name:
                self.al.called(done[id(node)], node.name)
        return done[id(root)]

    def near(self, root: Node) -> list[Node]:
        """Nodes of an equation, arguments first, without the network below a fold of one of its
        streams.
        """
        seen: set[int] = set()
        out, stack = [], [(root, False)]
        while stack:
            node, ready = stack.pop()
            if ready:
                out.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((node, True))
                if node.op != "fold" or self.local(node.args[0]):
                    stack.extend((a, False) for a in reversed(node.args))
        return out

    def local(self, root: Node) -> bool:
        """Is the value made at ticks of the step clock, not at every token?"""
        for node in walk(root):
            if id(node) not in self._local:
                self._local[id(node)] = (
                    node.op == "fold"
                    and self.since_step(node["since"])
                    or not (
                        node.op in ("input", "ahead", "rope")
                        or node.op in READS
                        and not self.slow(node["memory"])
                        or any(not self._local[id(a)] for a in node.args)
                    )
                )
        return self._local[id(root)]

    def since_step(self, span: str | Clock) -> bool:
        return (self.program.levels[span].clock if isinstance(span, str) else span).unit == "step"

    def slow(self, memory: str) -> bool:
        return not self.program.level(memory).clock.inner

    def give(self, given: Given, node: Node) -> Node:
        self.given[given.name] = given
        return self.al.make("read", type=node.type, memory=given.name)

    def held(self, node: Node) -> Node:
        if node["clock"].unit != "step" or not self.slow(node["memory"]):
            raise Unsupported(
                "a level on the step clock reads a copy taken within a sequence", node
            )
        return self.give(Given("copy", node["memory"], since=node["clock"]), node)

    # -- folds

    def fold(self, node: Node, done: dict[int, Node]) -> Node:
        term, since, al = node.args[0], node["since"], self.al
        if not self.local(term):
            stream = self.stream(
                self.variant(term)
            )  # its value: memories as they were held, also those of this level
            total = self.give(Given("sum", stream=stream, since=since), node)
            return total if node["how"] == "sum" else al.div(total, self.terms(stream, since))
        value = done[id(term)]
        if any(n.op == "plain" for n in walk(value)):  # waits for a gradient
            return al.make(
                "fold", value, type=node.type, span=node.span, how=node["how"], since=since
            )
        return self.accumulate(value, term, node)

    def terms(self, stream: str, since: str | Clock) -> Node:
        return self.give(Given("terms", stream=stream, since=since), self.al.const(0))

    def accumulate(self, value: Node, term: Node, node: Node) -> Node:
        """The fold of `value`, made at the ticks at which `term` is."""
        pulse = self.pulse(term)
        if len({self.root_of(p) for p in pulse if p}) != 1 or "" in pulse:
            raise Unsupported(
                "a fold on the step clock of a value that is not made at the ticks of one level",
                node,
            )
        level = max(
            pulse,
            key=lambda p: (
                self.program.levels[p].parent is None,
                -self.program.levels[p].clock.period,
            ),
        )
        total = self._accumulator(value, Fold(level, node["since"]))
        return (
            total
            if node["how"] == "sum"
            else self.al.div(total, self._accumulator(self.al.const(1), Fold(level, node["since"])))
        )

    def _accumulator(self, value: Node, fold: Fold) -> Node:
        key = (id(value), fold.since)
        if key not in self._folded:
            name = f"fold {len(self.folds) + 1}"
            self.folds[name] = fold
            self.next[name] = self.al.add(self.al.make("read", type=value.type, memory=name), value)
            self._folded[key] = self.al.make("now", type=value.type, memory=name)
        return self._folded[key]

    def pulse(self, root: Node) -> set[str]:
        """The levels at whose ticks a value is made; "" if at every step."""
        out: set[str] = set()
        seen: set[int] = set()
        stack = [root]
        while stack:
            node = stack.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if node.op in STATE:
                out.add(self.program.memories[node["memory"]].level)
            elif node.op == "fold" and isinstance(node["since"], str):
                out.add(node["since"])
            elif node.op == "fold" and not self.local(node.args[0]):
                out.add("")
            else:
                stack.extend(node.args[:1] if node.op == "grad" else node.args)
        return out

    # -- gradients

    def gradient(self, node: Node, done: dict[int, Node]) -> Node:
        """In the plain reads inside the objective, at the point; and in those of the streams that
        it folds, where they were read.
        """
        al, memory = self.al, self.program.memories[node["memory"]]
        objective, point = (done[id(a)] for a in node.args)
        here = al.make("read", type=memory.type, memory=memory.name)
        plain = next(
            (n for n in walk(objective) if n.op == "plain" and n["memory"] == memory.name), None
        ) or al.make("plain", type=memory.type, memory=memory.name)
        constant = frozenset(done[id(c)] for c in node["context"] if id(c) in done)
        reached = self.reached(objective, constant)
        sums = [
            n
            for n in reached
            if n.op == "read"
            and n["memory"] in self.given
            and self.given[n["memory"]].kind == "sum"
        ]
        waiting = [n for n in reached if n.op == "fold"]
        direct, *slopes = gradient(al, objective, [plain, *sums, *waiting], constant)
        folded = [(f, slope) for f, slope in zip([*sums, *waiting], slopes) if number(slope) != 0]
        if folded and point is not here:
            raise Unsupported(
                "the gradient of a fold elsewhere than at the value the memory has held",
                node,
                "grad of the memory itself",
            )
        if any(n.op == "fold" for n in walk(direct, *slopes)):
            raise Unsupported(
                "an objective that is not a linear function of its fold over ticks", node
            )
        bind = {id(plain): point}
        total = self.substitute(direct, bind)
        for fold, slope in folded:
            if fold.op == "fold":
                (inner,) = gradient(al, fold.args[0], [plain], constant)
                part = self.accumulate(
                    self.substitute(inner, {id(plain): here}), self.original(node, fold, done), fold
                )
            else:
                given = self.given[fold["memory"]]
                part = self.give(
                    Given(
                        "grad",
                        memory.name,
                        self.stream(self.variant(self.streams[given.stream], memory.level)),
                        given.since,
                    ),
                    node,
                )
            total = al.add(total, al.mul(self.number(self.substitute(slope, bind), node), part))
        return total

    @staticmethod
    def reached(root: Node, constant: frozenset[Node]) -> list[Node]:
        seen: set[Node] = set(constant)
        out, stack = [], [root]
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                out.append(node)
                if node.op != "fold":
                    stack.extend(reversed(node.args))
        return out

    @staticmethod
    def original(node: Node, fold: Node, done: dict[int, Node]) -> Node:
        return next(
            n.args[0] for n in walk(node.args[0]) if n.op == "fold" and done.get(id(n)) is fold
        )

    def number(self, slope: Node, node: Node) -> Node:
        """A slope in the sum of a stream, which is one number, or the same for all numbers of the
        stream.
        """
        if slope.type == ():
            return slope
        value = number(slope)
        if value is None:
            raise Unsupported(
                "an objective that weighs the numbers of a folded stream differently",
                node,
                "fold one number: `mean(sum(..) over period)`",
            )
        return self.al.const(value)

    def substitute(self, root: Node, bind: dict[int, Node]) -> Node:
        done: dict[int, Node] = {}
        for node in walk(root):
            done[id(node)] = (
                bind[id(node)]
                if id(node) in bind
                else self.al.remake(node, [done[id(a)] for a in node.args])
            )
        return done[id(root)]

    # -- streams

    def stream(self, node: Node) -> str:
        for name, found in self.streams.items():
            if found is node:
                return name
        name = next(
            (n for n, out in self.program.outputs.items() if out is node),
            f"stream{len(self.streams) + 1}",
        )
        self.streams[name] = node
        return name

    def variant(self, root: Node, level: str = "") -> Node:
        """The stream as the gradient of a level sees it: its memories are read plainly, its context
        is constant. Without a level, as it is.
        """
        if (id(root), level) in self._varied:
            return self._varied[id(root), level]
        constant = (
            {id(c) for c in self.program.levels[level].context if c.op != "input"}
            if level
            else set()
        )
        done: dict[int, Node] = {}

        def again(node: Node, args: list[Node]) -> Node:
            attrs = dict(node.attrs)
            if node.op == "grad":
                attrs["context"] = tuple(done.get(id(c), c) for c in attrs["context"])
            if node.op == "plain":
                attrs = {"memory": node["memory"]}
            return self.al.make(
                "read" if node.op == "plain" else node.op,
                *args,
                type=node.type,
                span=node.span,
                turn=node.turn,
                called=node.name,
                **attrs,
            )

        for node in walk(root):
            args = [done[id(a)] for a in node.args]
            own = node.op == "plain" and level in ("", self.program.memories[node["memory"]].level)
            made = (
                again(node, args)
                if own or any(a is not b for a, b in zip(args, node.args))
                else node
            )
            done[id(node)] = (
                self.al.make("stop", made, type=made.type) if id(node) in constant else made
            )
        self._varied[id(root), level] = done[id(root)]
        return done[id(root)]
