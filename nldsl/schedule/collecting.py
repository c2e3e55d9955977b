"""What a tick makes of a memory, as a sum in which each thing stands once.

    where(c, M - r u k^T, M)        M - where(c, r, 0) u k^T, u and k 0 where c is
    r v k^T - r (M k) k^T           r (v - M k) k^T
    r (2 (M k - v)) k^T             2 r (M k - v) k^T

A sum is taken apart into terms: a number, one for each head, branches of `where`, and what they
weigh. What both branches add alike stands outside of them; what a branch that is not chosen would
take of its token is 0, lest it is no number. Writes at one key that are weighed alike are one
write. A value that something else takes too is left as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from nldsl.core.build import Builder, number
from nldsl.core.nodes import Node, Type, unmade, walk
from nldsl.core.ops import OPS
from nldsl.core.program import STATE
from nldsl.schedule.instant import substituted
from nldsl.schedule.products import product
from nldsl.schedule.square import is_outer

SIGNS = {"add": (1.0, 1.0), "sub": (1.0, -1.0), "neg": (-1.0,)}


@dataclass(frozen=True)
class Term:
    """`core`, weighed by a number and by gates, where all tests are as they are said. Of a write
    u z^T the core is u, and `at` the equation and z.
    """

    core: Node
    number: float = 1.0
    gates: tuple[Node, ...] = ()
    tests: tuple[tuple[Node, bool], ...] = ()
    at: tuple[str, Node] | None = None

    def weighed(self, core: Node, number: float = 1.0, *gates: Node) -> Term:
        number, gates = self.number * number, (*self.gates, *gates)
        return replace(self, core=core, number=number, gates=gates)

    def where(self, core: Node, test: Node, holds: bool) -> Term:
        return replace(self, core=core, tests=(*self.tests, (test, holds)))

    @property
    def gated(self) -> frozenset[tuple[Node, int]]:
        """Its gates in any order, each with how often it weighs."""
        return frozenset(Counter(self.gates).items())


def collected(
    nodes: Sequence[Node],
    roots: Sequence[Node],
    types: Collection[Type],
    streams: Collection[Node],
) -> dict[Node, Node]:
    """What stands for each of the nodes, arguments first, where the `roots` are asked for; `types`
    are those of the sums that are taken apart, `streams` what each token gives from outside.
    """
    uses = Counter([*roots, *(a for n in nodes for a in n.args)])
    return Collecting(nodes, uses, types, streams).whole()


class Collecting:
    """Makes nodes anew. `uses` counts who takes a node. While sums are made, what is given has a
    name in the place of its equation, so that none is taken apart.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        uses: Mapping[Node, int],
        types: Collection[Type],
        streams: Collection[Node],
    ) -> None:
        self.nodes, self.uses, self.streams = nodes, uses, streams
        self.al, self.plain = Builder(OPS, product), Builder(OPS)
        self.known = set(nodes)
        self.sums, self.inner = set[Node](), set[Node]()
        wide = [n for n in nodes if n.type in types]
        for top in (*wide, *(n.args[0] for n in wide if is_outer(n))):
            self.open(top)
        given = dict.fromkeys(a for n in nodes for a in n.args if a not in self.known)
        self.made = {x: self.named(i, x) for i, x in enumerate(given)}
        self.same = {name: x for x, name in self.made.items()}  # what was made -> as it was

    def open(self, top: Node) -> None:
        """Notes a sum, and those that are terms of it and of nothing else."""
        stack = [top]
        while stack:
            node = stack.pop()
            if node in self.sums or node not in self.known:
                continue
            if parts := self.opened(Term(node)):
                self.sums.add(node)
                within = [t.core for t in parts if self.uses[t.core] == 1]
                self.inner |= set(within)
                stack += within

    def named(self, i: int, x: Node) -> Node:
        return x if x.op == "const" else self.al.make("input", type=x.type, name=f"given {i}")

    def whole(self) -> dict[Node, Node]:
        for node in self.nodes:
            self.al.span, self.al.iteration = node.span, node.iteration
            top = node in self.sums and node not in self.inner
            if top and (found := self.together(node)) is not None:
                self.made[node] = found
                continue
            made = self.made[node] = self.al.again(node, [self.made[a] for a in node.args])
            if all(self.same.get(self.made[a]) is a for a in node.args):
                self.same.setdefault(made, node)
        return {node: self.known_again(self.made[node]) for node in self.nodes}

    def known_again(self, root: Node) -> Node:
        """With what is given in the place of its names."""
        for node in unmade(root, self.same.get, lambda x: x.args):
            self.same[node] = self.plain.again(node, [self.same[a] for a in node.args])
        return self.same[root]

    def together(self, node: Node) -> Node | None:
        """The sum with each thing once, or None where it is one already."""
        parts = self.terms(node)
        writes = [self.write(t) for t in parts]
        found = grouped(without_tests(writes))
        moved = any(t.at and t.core is not p.core.args[0] for t, p in zip(writes, parts))
        if len(found) == len(parts) and not moved and not any(t.tests for t in parts):
            return None
        once = [self.one(terms) for terms in found]
        return self.added(once, node) if all(map(self.harmless, once)) else None

    def terms(self, node: Node) -> list[Term]:
        """What a sum adds, sums in it taken apart."""
        found, stack = [], [Term(node)]
        while stack:
            top = stack.pop()
            if top.core is node or top.core in self.inner and top.core in self.sums:
                stack += reversed(self.opened(top))
            elif number(top.core) != 0:
                found.append(top)
        return found

    def opened(self, term: Term) -> list[Term]:
        """The terms of a sum, of what is weighed, or of a choice; none if it is neither."""
        node = term.core
        if node.op in SIGNS:
            return [term.weighed(x, sign) for x, sign in zip(node.args, SIGNS[node.op])]
        if node.op == "mul":
            for gate, x in (node.args, node.args[::-1]):
                if (value := number(gate)) is not None and x.type == node.type:
                    return [term.weighed(x, value)]
                if self.is_gate(gate, node) and x.type == node.type:
                    return [term.weighed(x, 1.0, small(gate))]
        if node.op == "div" and (value := number(node.args[1])):
            return [term.weighed(node.args[0], 1 / value)]
        if node.op == "where" and self.is_gate(node.args[0], node):
            test, *branches = node.args
            return [term.where(x, small(test), yes) for x, yes in zip(branches, (True, False))]
        return []

    def is_gate(self, x: Node, node: Node) -> bool:
        """One number for all that stands behind the first axes of a node."""
        if x.op != "spread" or x not in self.known:
            return not x.type and bool(node.type)
        dims = x["dims"]
        return dims == tuple(range(len(dims))) and len(dims) < len(node.shape)

    def write(self, term: Term) -> Term:
        """Of a write, what weighs u alone weighs it all."""
        node = term.core
        if node not in self.known or not is_outer(node):
            return term
        first = found = replace(term, core=node.args[0], at=(node["eq"], node.args[1]))
        while found.core in self.known and self.uses[found.core] == 1:
            if len(parts := self.opened(found)) != 1:
                break
            (found,) = parts
        return found if found.gates or abs(term.number) != 1 else first

    def one(self, terms: Sequence[Term]) -> Term:
        """Terms that are weighed alike, as one: of writes, what they write is added, to what a
        memory answered if there is such.
        """
        first, *others = sorted(terms, key=lambda t: not self.asks(t)) if terms[1:] else terms
        if first.at is None:
            return replace(first, core=self.made[first.core], number=sum(t.number for t in terms))
        total = self.made[first.core]
        for t in others:
            share = t.number / first.number
            part = self.al.mul(self.al.const(abs(share)), self.made[t.core])
            total = self.al.sub(total, part) if share < 0 else self.al.add(total, part)
        eq, z = first.at
        return replace(first, core=self.al.einsum(eq, total, self.made[z]), at=None)

    def asks(self, term: Term) -> bool:
        return any(n.op in STATE for n in walk(self.made[term.core]))

    def added(self, terms: Sequence[Term], node: Node) -> Node:
        """The sum, of terms that are not subtracted first."""
        total = None
        for core, minus, weight in sorted(self.weighed(terms), key=lambda part: part[1]):
            value = core
            if weight is not None:
                value = self.al.mul(self.al.scale_to(weight, core), core)
            if total is None:
                total = self.al.neg(value) if minus else value
            else:
                total = self.al.sub(total, value) if minus else self.al.add(total, value)
        return self.al.const(0, node.type) if total is None else total

    def weighed(self, terms: Sequence[Term]) -> list[tuple[Node, bool, Node | None]]:
        """Each core with its weight, and whether it is subtracted."""
        found: list[tuple[Node, bool, Node | None]] = []
        left = [*terms]
        while left:
            term = left.pop(0)
            alike = (t for t in left if opposite(term, t) and t.core is term.core)
            other = next(alike, None) if len(term.tests) == 1 else None
            if other is not None:
                left.remove(other)
                ((test, holds),) = term.tests
                yes, no = (term, other) if holds else (other, term)
                weight = self.chosen(test, self.product(yes), self.product(no))
                found.append((term.core, False, weight))
            else:
                minus, size = term.number < 0, abs(term.number)
                weight = self.product(replace(term, number=size), term.tests)
                plain = not term.gates and not term.tests and size == 1
                found.append((self.masked(term), minus, None if plain else weight))
        return found

    def harmless(self, term: Term) -> bool:
        """Is it finite where what its token gives is 0, as it is in a branch not chosen?"""
        parts = [*walk(term.core)] if term.tests else []
        streams = (x for x in parts if self.same.get(x) in self.streams)
        tests = [self.made[test].shape for test, _ in term.tests]
        return all(OPS[n.op].safe is None for n in parts) and all(
            x.shape[: len(shape)] == shape for x in streams for shape in tests
        )

    def masked(self, term: Term) -> Node:
        """The core, of streams that are 0 in a branch not chosen, whatever they are there."""
        bind: dict[Node, Node] = {}
        for x in walk(term.core) if term.tests else ():
            if self.same.get(x) in self.streams:
                bind[x] = x
                for test, holds in term.tests:
                    mask, zero = self.al.scale_to(self.made[test], x), self.al.const(0, x.type)
                    bind[x] = self.al.where(mask, *((bind[x], zero) if holds else (zero, bind[x])))
        return substituted(self.al, term.core, bind) if bind else term.core

    def product(self, term: Term, tests: Iterable[tuple[Node, bool]] = ()) -> Node:
        """What a core is weighed with, 0 where it does not stand."""
        weight = self.al.const(term.number)
        for gate in term.gates:
            weight = self.alike("mul", weight, self.made[gate])
        for test, holds in tests:
            zero = self.al.const(0)
            weight = self.chosen(test, *((weight, zero) if holds else (zero, weight)))
        return weight

    def chosen(self, test: Node, yes: Node, no: Node) -> Node:
        return self.alike("where", self.made[test], yes, no)

    def alike(self, op: str, *args: Node) -> Node:
        """An operator of numbers for each head, some of them the same for several."""
        widest = max(args, key=lambda x: len(x.shape))
        wide = (x if not x.type else self.al.scale_to(x, widest) for x in args)
        return self.al.apply(op, *wide)


def small(gate: Node) -> Node:
    return gate.args[0] if gate.op == "spread" else gate


def without_tests(terms: Sequence[Term]) -> list[Term]:
    """What stands in both branches of a choice, weighed alike, needs no test."""
    found: list[Term] = []
    for term in terms:
        while same := next((t for t in found if both(t, term)), None):
            found.remove(same)
            term = replace(term, tests=tuple(t for t in term.tests if t in same.tests))
        found.append(term)
    return found


def both(a: Term, b: Term) -> bool:
    weights = ((t.core, t.at, t.number, t.gated) for t in (a, b))
    return opposite(a, b) and len(set(weights)) == 1


def opposite(a: Term, b: Term) -> bool:
    """Do their tests differ in one, which holds for one of them?"""
    apart = {*a.tests} ^ {*b.tests}
    return len(apart) == 2 and len({test for test, _ in apart}) == 1


def grouped(terms: Sequence[Term]) -> list[list[Term]]:
    """Those that weigh one thing, or write at one key, alike."""
    found: dict[object, list[Term]] = {}
    for t in terms:
        found.setdefault((t.at or t.core, t.gated, frozenset(t.tests)), []).append(t)
    return [*found.values()]
