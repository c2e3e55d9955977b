"""A memory that is asked over the axis before its last is kept the other way round.

    M <- M - r k (M^T k - v)^T      N <- N - r (N k - v) k^T, where N is M^T

A lowering knows keys as the last axis of a matrix (step/lowerings/patterns.py). Here states whose
own ticks ask them only over the axis before are turned, and what is made of them entry by entry.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field, replace

from nldsl.core.build import Builder
from nldsl.core.nodes import Node, Shape
from nldsl.core.ops import OPS
from nldsl.core.program import STATE
from nldsl.schedule.arrangement import Arrangement, reached
from nldsl.schedule.token_states import State

THROUGH = ("when", "stop")  # beside operators on each entry


def turned(of: Arrangement, given: Collection[Node]) -> Arrangement:
    """With some states turned."""
    types = asked_across(of.states, given)
    names = frozenset(s.name for s in of.states if s.type in types)
    if not names:
        return of
    turning = Turning(types, given)
    starts = [s.start for s in of.states if s.name in names]
    turning.relate(
        reached([*of.outputs, *starts, *(x for s in of.states for x in (s.after, s.next))], given)
    )
    states = tuple(turning.state(s) for s in of.states)
    outputs = tuple(turning.same[x] for x in of.outputs)
    inside = reached([*outputs, *(x for s in states for x in s.equations)], given)
    made = {**turning.same, **turning.across}
    spoken = {made[n]: name for n, name in of.names.items() if n in made}
    return replace(
        of,
        states=states,
        inside=inside,
        outputs=outputs,
        names={**of.names, **spoken},
        turned=names,
    )


def asked_across(states: Sequence[State], given: Collection[Node]) -> set[Shape]:
    """Types of matrices whose ticks ask them over the axis before the last, and none over it."""
    axes: dict[Shape, set[int]] = {}
    for state in states:
        if len(state.type) < 2 or state.copies:
            continue
        whole: set[Node] = set()
        for node in reached([state.tick], given):
            own = node.op == "read" and node["memory"] == state.name
            if own or entrywise(node) and node.type == state.type and whole & {*node.args}:
                whole.add(node)
            if node.op == "einsum":
                axes.setdefault(state.type, set()).update(met(node, whole))
    return {type for type, found in axes.items() if found == {-2}}


def met(node: Node, whole: Collection[Node]) -> list[int]:
    """The axes, counted from the last, over which a product sums one of these matrices."""
    left, out = node["eq"].split("->")
    return [
        i
        for letters, x in zip(left.split(","), node.args, strict=True)
        if x in whole
        for i in (-2, -1)
        if letters[i] not in out
    ]


def entrywise(node: Node) -> bool:
    return OPS[node.op].elementwise or node.op in THROUGH


def swapped(shape: Shape) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2])


@dataclass
class Turning:
    """Makes nodes anew. `same` has what stands for a node, `across` the transposes of those that
    are made of turned states.
    """

    types: Collection[Shape]
    given: Collection[Node]
    al: Builder = field(default_factory=lambda: Builder(OPS))
    same: dict[Node, Node] = field(default_factory=dict)
    across: dict[Node, Node] = field(default_factory=dict)

    def relate(self, order: Sequence[Node]) -> None:
        self.same |= {x: x for x in self.given}
        for node in order:
            self.al.span, self.al.iteration = node.span, node.iteration
            found = self.transposed(node) if node.type in self.types else None
            if found is not None:
                self.across[node] = found
                self.same[node] = self.transpose(found)
            else:
                self.same[node] = self.again(node)

    def state(self, s: State) -> State:
        if s.type not in self.types:
            return replace(s, after=self.same[s.after], next=self.same[s.next])
        start, after, then = (self.other(x) for x in (s.start, s.after, s.next))
        return replace(s, type=swapped(s.type), start=start, after=after, next=then)

    def transposed(self, node: Node) -> Node | None:
        """The transpose of a state, or of what is made of states entry by entry."""
        if node.op in STATE:
            return self.al.again(node, (), swapped(node.shape))
        if entrywise(node) and any(a in self.across for a in node.args):
            args = [self.other(a) if a.type == node.type else self.same[a] for a in node.args]
            return self.al.again(node, args, swapped(node.shape))
        return None

    def other(self, node: Node) -> Node:
        """The transpose of any value."""
        if node in self.across or node in self.given or not node.args:
            return self.across.get(node) or self.transpose(node)
        shape, at = swapped(node.shape), len(node.shape) - 2
        if node.op == "spread":
            dims = tuple({at: at + 1, at + 1: at}.get(d, d) for d in node["dims"])
            return self.al.again(node, [self.same[node.args[0]]], shape, dims=dims)
        if node.op == "einsum":
            made = self.same[node]
            left, out = made["eq"].split("->")
            eq = f"{','.join(left.split(',')[::-1])}->{out[:-2]}{out[-1]}{out[-2]}"
            return self.al.again(made, made.args[::-1], shape, eq=eq)
        if entrywise(node):
            args = [self.other(a) if a.type == node.type else self.same[a] for a in node.args]
            return self.al.again(node, args, shape)
        return self.transpose(self.same[node])

    def transpose(self, x: Node) -> Node:
        if x.op == "permute":
            return x.args[0]
        n = len(x.shape)
        return self.al.permute(x, (*range(n - 2), n - 1, n - 2))

    def again(self, node: Node) -> Node:
        """The same equation; a product asks a turned matrix by the other order of its letters."""
        args, changed = [self.same[a] for a in node.args], dict[str, Hashable]()
        if node.op == "einsum":
            left, out = node["eq"].split("->")
            letters = left.split(",")
            for i, a in enumerate(node.args):
                if a in self.across:
                    args[i] = self.across[a]
                    letters[i] = f"{letters[i][:-2]}{letters[i][-1]}{letters[i][-2]}"
            changed = {"eq": f"{','.join(letters)}->{out}"}
        if all(x is a for x, a in zip(args, node.args, strict=True)):
            return node
        return self.al.again(node, args, None, **changed)
