"""PROGRAM -> what each memory of the step clock becomes at a tick: an equation over its old value
and what the steps give.

    grad(mean(loss over period)) in W     now "grad W|loss|training" / now "terms loss|training"
    sum(g over period), g once a tick     now "fold 1", a memory that adds g at each tick of its
                                          caller
    held(M, c)                            read "M@c", a copy

Inner gradients become their derivatives. A stretch of one step has no total: the equation reads
what the step gives, `input "grad W|loss"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nldsl.core.build import Builder, number, rank
from nldsl.core.flow import AtSteps
from nldsl.core.nodes import Node, Shape, Tree, Type, walk
from nldsl.core.ops import OPS
from nldsl.core.program import ENDS, Level, Program, per_worker
from nldsl.core.timing import ValidFrom, lookahead
from nldsl.schedule import instant
from nldsl.schedule.differentiate import gradient
from nldsl.schedule.named import (
    Copy,
    Counter,
    Fold,
    Heard,
    Input,
    Memory,
    Stretch,
    Total,
    heard,
    input_of,
    taken,
    terms_of,
)
from nldsl.schedule.products import product

ELSEWHERE = ("held_stream", "input", "random", "load", "window", "grad_stream", "ahead")


@dataclass(frozen=True, eq=False)
class Ticks:
    """`next`: memory or fold -> equation. `terms`: of a fold, the numbers of terms without which it
    takes nothing. `copies`: those that equations or streams read. `streams`: the token streams that
    levels hear, by name. `roots`: the levels that no other calls. `grads`: memory -> its gradient.
    """

    program: Program
    al: Builder
    roots: tuple[Level, ...]
    next: Mapping[Memory, Node]
    terms: Mapping[Fold, tuple[Heard, ...]]
    copies: tuple[Copy, ...]
    streams: Mapping[str, Node]
    grads: Mapping[str, Node]

    def family(self, level: Level) -> list[Level]:
        """A level and the optimizers that it calls."""
        return family(self.program, level)

    def level_of(self, name: Memory) -> str:
        """The level at whose ticks a memory or fold moves."""
        return name.level if isinstance(name, Fold) else self.program.memories[name].level

    def root_of(self, level: str) -> str:
        return root_of(self.program, level)

    def memories(self, root: str) -> list[Memory]:
        """Everything that moves in the ticks of a level and of the optimizers that it calls."""
        return [name for name in self.next if self.root_of(self.level_of(name)) == root]

    def taken(self, what: Heard, type: Type) -> Node:
        """What one step gives, or the steps of a stretch."""
        return given(self.al, what, type)


def ticks(program: Program) -> Ticks:
    """The equations of the levels that tick with the steps."""
    made = Equations(program)
    levels = program.levels.values()
    roots = tuple(x for x in levels if x.clock.unit == "step" and x.parent is None)
    for level in roots:
        made.note(level)
        for member in family(program, level):
            for name in member.memories:
                after = program.memories[name].next
                assert after is not None
                made.next[name] = made.rewrite(after, level.name)
    after_all = (m.next for m in program.memories.values() if m.next is not None)
    for node in walk(*program.outputs.values(), *after_all):
        if node.op == "held" and program.slow(node["memory"]) and node["clock"].unit == "step":
            made.held(node)  # streams read copies too
    copies = tuple(made.copies)
    said = made.next, made.terms, copies, made.streams, made.grads
    return Ticks(program, made.al, roots, *said)


def family(program: Program, level: Level) -> list[Level]:
    out = [level]
    for member in out:
        out += [level for level in program.levels.values() if level.parent == member.name]
    return out


def root_of(program: Program, level: str) -> str:
    return program.root(program.levels[level]).name


def given(al: Builder, what: Heard, type: Type) -> Node:
    """What one step gives, or the steps of a stretch, this one included."""
    if isinstance(what, Total):
        return al.make("now", type=type, memory=what)
    return al.make("input", type=type, name=what)


class Equations:
    """Makes the equations of a program; see `Ticks`."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.al = Builder(OPS, product)
        self.next: dict[Memory, Node] = {}
        self.copies: dict[Copy, None] = {}
        self.streams: dict[str, Node] = {}
        self.grads: dict[str, Node] = {}
        self.terms: dict[Fold, tuple[Heard, ...]] = {}
        assert not self.axes or not program.counts(ENDS), "limits, workers_at_documents"
        self.apart: set[str] = set()  # levels of whose streams one may lack terms and another not
        self._folded: dict[tuple[Node, Fold, tuple[Heard, ...]], Node] = {}
        self.local = AtSteps(program)
        self._varied: dict[tuple[Node, str], Node] = {}

    def note(self, root: Level) -> None:
        """Whether the streams that a level hears begin and end to have terms at one token."""
        members = family(self.program, root)
        after = [self.program.memories[name].next for m in members for name in m.memories]
        nodes = [n for x in after if x is not None for n in self.near(x)]
        terms = [n.args[0] for n in nodes if n.op == "fold" and not self.local(n.args[0])]
        valid_from, ahead = ValidFrom(), lookahead(*terms)
        if len({(valid_from(term), ahead[term]) for term in terms}) > 1:
            self.apart |= {member.name for member in members}

    # -- equations

    def rewrite(self, root: Node, level: str) -> Node:
        """The equation of a memory that moves in the ticks of a level."""
        done: dict[Node, Node] = {}
        for node in self.near(root):
            self.al.span = node.span
            assert node.op not in ELSEWHERE, node  # the limit `stream_in_update`
            if node.op == "grad":
                done[node] = self.grads[node["memory"]] = self.gradient(node, done)
            elif node.op == "fold":
                done[node] = self.fold(node, done)
            elif node.op == "held":
                done[node] = self.held(node)
            elif node.op == "now":
                done[node] = self.now(node, level)
            elif node.op == "tick":
                done[node] = self.al.make("now", type=(), memory=Counter(node["level"]))
            else:
                done[node] = self.al.remake(node, [done[a] for a in node.args])
            if node.name:
                self.al.called(done[node], node.name)
        return done[root]

    def near(self, root: Node) -> list[Node]:
        """Nodes of an equation, arguments first, without the network below a fold of one of its
        streams.
        """
        seen: set[Node] = set()
        out, stack = [], [(root, False)]
        while stack:
            node, ready = stack.pop()
            if ready:
                out.append(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                if node.op != "fold" or self.local(node.args[0]):
                    stack.extend((a, False) for a in reversed(node.args))
        return out

    def now(self, node: Node, level: str) -> Node:
        """What another level's memory has become is data for that level."""
        owner = self.program.root(self.program.level(node["memory"]))
        new = self.al.make("now", type=node.type, memory=node["memory"])
        if owner.name == level or not owner.objectives:
            return new
        return self.al.make("constant_for", new, type=node.type, learners=(owner.name,))

    def held(self, node: Node) -> Node:
        copy = Copy(node["memory"], node["clock"])
        assert copy.clock.unit == "step" and self.program.slow(copy.memory), (
            node
        )  # `copy_in_update`
        self.copies[copy] = None
        return self.al.make("read", type=node.type, memory=copy)

    # -- what the steps of a stretch give

    def keeps(self, since: Stretch) -> bool:
        """Does what a step gives have to wait for the end of a stretch? Also of one step, if a tick
        may be left out for want of another stream's terms.
        """
        clock = self.program.since(since)
        if since in self.apart:
            return True
        return clock.unit == "step" and (clock.period > 1 or clock.phase > 0)

    # -- folds

    def fold(self, node: Node, done: Mapping[Node, Node]) -> Node:
        term, since, al = node.args[0], node["since"], self.al
        if not self.local(term):
            # its value: memories as they were held, also those of this level
            stream = self.stream(self.variant(term))
            what = Input("sum", stream, lanes=self.lanes(node))
            found: Heard = Total(what, since) if self.keeps(since) else what
            total = given(al, found, node.type)
            return total if node["how"] == "sum" else al.div(total, self.terms_in(found))
        value = done[term]
        if any(n.op == "plain" for n in walk(value)):  # waits for a gradient
            return al.make(
                "fold", value, type=node.type, span=node.span, how=node["how"], since=since
            )
        total = self.accumulate(value, term, node)
        lacks = len(self.axes) if per_worker(node) else 0  # each worker has the same
        return al.spread(total, node.type, tuple(range(lacks, lacks + rank(value.type))))

    @property
    def axes(self) -> Shape:
        """The axis of the workers, if there are any."""
        return () if self.program.workers is None else (self.program.workers,)

    def lanes(self, fold: Node) -> str:
        """Whose lanes a fold of a stream is over."""
        return ("each" if per_worker(fold) else "all") if self.axes else ""

    def terms_in(self, heard: Heard) -> Node:
        """The number of terms of a sum: every worker has as many as any other."""
        terms = given(self.al, heard.terms, ())
        if input_of(heard).lanes != "each":
            return terms
        return self.al.div(terms, self.al.const(self.axes[0].whole))

    def accumulate(self, value: Node, term: Node, node: Node) -> Node:
        """The fold of `value`, made at the ticks at which `term` is."""
        levels, pulse = self.program.levels, self.local.pulse(term)
        # the limit `stretch_of_several`
        assert "" not in pulse and len({root_of(self.program, p) for p in pulse}) == 1, node
        level = max(pulse, key=lambda p: (levels[p].parent is None, -levels[p].clock.period))
        like, terms = Fold(0, level, node["since"]), terms_of(taken([value]))
        return instant.over_stretch(
            self.al, node["how"], value, lambda term: self._total(term, like, terms)
        )

    def _total(self, value: Node, like: Fold, terms: tuple[Heard, ...]) -> Node:
        key = (value, like, terms)
        if key not in self._folded:
            fold = replace(like, number=len(self.terms) + 1)
            self.terms[fold] = terms
            self.next[fold] = instant.grown(self.al, fold, value)
            self._folded[key] = self.al.make("now", type=value.type, memory=fold)
        return self._folded[key]

    # -- gradients

    def gradient(self, node: Node, done: Mapping[Node, Node]) -> Node:
        """In the plain reads inside the objective, at the point; and in those of the streams that
        it folds, where they were read.
        """
        al, memory = self.al, self.program.memories[node["memory"]]
        objective, point = (done[a] for a in node.args)
        here = al.make("read", type=memory.type, memory=memory.name)
        plain = al.make("plain", type=memory.type, memory=memory.name)
        constant = frozenset(done[c] for c in node["context"] if c in done)
        reached = self.reached(objective, constant)
        folds = [n for n in reached if summed(n) is not None or n.op == "fold"]
        direct, *slopes = gradient(al, objective, [plain, *folds], constant)
        folded = [(f, slope) for f, slope in zip(folds, slopes) if number(slope) != 0]
        # N507: a stretch is differentiated at the value that the memory has held
        assert not folded or point is here, node
        # the limit `curved_in_its_stretch`
        assert all(n.op != "fold" for n in walk(direct, *slopes)), node
        at = self.beside(objective) | {plain: point}
        total = self.substitute(direct, at)
        for fold, slope in folded:
            if fold.op == "fold":
                (inner,) = gradient(al, fold.args[0], [plain], constant)
                part = self.substitute(inner, at | {plain: here})
                part = self.accumulate(part, self.original(node, fold, done), fold)
            else:
                part = self.slope(fold, memory.name, memory.type)
            weight = self.weight(self.substitute(slope, at))
            if weight.type != () and not isinstance(part.type, Tree):
                weight = al.scale_to(weight, part)
            total = al.add(total, al.mul(weight, part))
        return total

    def beside(self, objective: Node) -> dict[Node, Node]:
        """Plain reads of other memories of the level: those that have not moved yet."""
        plains = (n for n in walk(objective) if n.op == "plain")
        return {n: self.al.make("read", type=n.type, memory=n["memory"]) for n in plains}

    def slope(self, fold: Node, memory: str, type: Type) -> Node:
        """The gradient, in a memory, of the sum of a stream that a node is."""
        found = heard(fold)
        assert found is not None, fold
        stream = self.streams[input_of(found).stream]
        seen = self.variant(stream, self.program.memories[memory].level)
        what = Input("grad", self.stream(seen), memory)
        return given(self.al, Total(what, found.since) if isinstance(found, Total) else what, type)

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
    def original(node: Node, fold: Node, done: Mapping[Node, Node]) -> Node:
        return next(n.args[0] for n in walk(node.args[0]) if n.op == "fold" and done.get(n) is fold)

    def weight(self, slope: Node) -> Node:
        """A slope in the sum of a stream, which is one number, or the same for all numbers of the
        stream; at workers one for each of them.
        """
        value = number(slope)
        if value is not None:
            return self.al.const(value)
        if slope.op in ("spread", "permute", "reshape"):
            return self.weight(slope.args[0])
        if OPS[slope.op].elementwise and slope.type != ():
            return self.al.remake(slope, [self.weight(a) for a in slope.args])
        assert slope.type in ((), self.axes), slope  # the limit `weighed_apart`
        return slope

    def substitute(self, root: Node, bind: Mapping[Node, Node]) -> Node:
        done: dict[Node, Node] = {}
        for node in walk(root):
            done[node] = bind.get(node) or self.al.remake(node, [done[a] for a in node.args])
        return done[root]

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
        if (root, level) in self._varied:
            return self._varied[root, level]
        constant: set[Node] = set()
        if level:
            constant = {c for c in self.program.levels[level].context if c.op != "input"}
        done: dict[Node, Node] = {}
        for node in walk(root):
            args = [done[a] for a in node.args]
            own = node.op == "plain" and level in ("", self.program.memories[node["memory"]].level)
            changed = own or any(a is not b for a, b in zip(args, node.args))
            made = self._plainly(node, args, done) if changed else node
            done[node] = self.al.make("stop", made, type=made.type) if node in constant else made
        self._varied[root, level] = done[root]
        return done[root]

    def _plainly(self, node: Node, args: list[Node], done: Mapping[Node, Node]) -> Node:
        """The same equation of a stream; what was plain is read."""
        attrs = dict(node.attrs)
        if node.op == "grad":
            attrs["context"] = tuple(done.get(c, c) for c in node["context"])
        if node.op == "plain":
            attrs = {"memory": node["memory"]}
        return self.al.make(
            "read" if node.op == "plain" else node.op,
            *args,
            type=node.type,
            span=node.span,
            iteration=node.iteration,
            called=node.name,
            **attrs,
        )


def summed(node: Node) -> Heard | None:
    """The sum of a stream, over one step or more, that a node is."""
    found = heard(node)
    return found if found is not None and input_of(found).what == "sum" else None
