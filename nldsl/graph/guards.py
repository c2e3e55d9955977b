"""Keeps the branches that `where`, `max` or `min` does not choose out of derivatives.

    where(y <= 0, 0, sqrt(y))    ->  where(y <= 0, 0, sqrt(where(y <= 0, 1, y)))

A branch is rebuilt so that operators which may have no finite slope see a harmless number in the
entries that are not chosen: the values that are chosen stay the same, and a derivative of 0 is not
multiplied by infinity on its way back.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from nldsl.core.build import number
from nldsl.core.nodes import Node, Shape, walk
from nldsl.core.ops import OPS
from nldsl.core.program import Program
from nldsl.graph.elaborator import Elaborator
from nldsl.graph.shapes import Shapes

THROUGH = {
    "spread",
    "permute",
    "reshape",
    "sum",
    "mean",
    "amax",
    "softmax",
    "einsum",
    "select",
    "stack",
    "diag",
    "cross_entropy",
}
TRUTHS = ("le", "ge", "eq")
CHOICES = ("where", "max", "min")
KEEP_TRUTH = (
    "mul",
    "max",
    "min",
    "spread",
    "permute",
    "reshape",
    "select",
    "stack",
    "amax",
    "held_stream",
    "ahead",
    "stop",
)


def is_comparison(root: Node) -> bool:
    """Is every entry 0 or 1 because it is a comparison, or `and`, `or`, `not` of some?"""
    known: dict[Node, bool] = {}
    for node in walk(root):
        args = [known[arg] for arg in node.args]
        negated = node.op == "sub" and number(node.args[0]) == 1.0 and args[1]
        kept = node.op in KEEP_TRUTH and all(args) or node.op == "where" and all(args[1:])
        known[node] = node.op in TRUTHS or number(node) in (0.0, 1.0) or negated or kept
    return known[root]


def once(fact: Callable[[Guards, Node], bool]) -> Callable[[Guards, Node], bool]:
    """A fact about a node that is asked again and again."""

    def asked(self: Guards, node: Node) -> bool:
        key = fact.__name__, node
        if key not in self.known:
            self.known[key] = fact(self, node)
        return self.known[key]

    return asked


def guarded(elaborator: Elaborator, program: Program) -> None:
    """Every branch rebuilt where it has to be; a stream in the `context` of a level stays one
    stream.
    """
    guards, order = Guards(elaborator), in_order(program)
    if not any(node.op in CHOICES for node in order):
        return
    for level in program.levels.values():
        for objective in level.objectives:
            guards.in_objective(objective, frozenset(level.context))
    guards.look(order)
    done = guards.done
    for memory in program.memories.values():
        memory.start = memory.start and done[memory.start]
        memory.next = memory.next and done[memory.next]
    for level in program.levels.values():
        level.objectives = [done[node] for node in level.objectives]
        level.context = [done[node] for node in level.context]
    program.outputs.update({name: done[node] for name, node in program.outputs.items()})


def in_order(program: Program) -> list[Node]:
    """Every node after its arguments, and a gradient after the streams of its context."""
    roots = [
        *program.outputs.values(),
        *(
            node
            for level in program.levels.values()
            for node in (*level.context, *level.objectives)
        ),
    ]
    roots += [
        node
        for memory in program.memories.values()
        for node in (memory.start, memory.next)
        if node is not None
    ]
    found: dict[Node, None] = {}
    stack = roots[::-1]
    while stack:
        node = stack[-1]
        needs = (*node.args, *node["context"]) if node.op == "grad" else node.args
        missing = [other for other in needs if other not in found]
        if missing:
            stack.extend(reversed(missing))
        else:
            found.setdefault(stack.pop())
    return list(found)


class Guards:
    """Rebuilds branches. A mask has the shape of the node that it masks, or () for all of it."""

    def __init__(self, elaborator: Elaborator) -> None:
        self.elaborator, self.shapes, self.node = elaborator, Shapes(elaborator), elaborator.node
        self.known: dict[tuple[str, Node], bool] = {}
        self.done: dict[Node, Node] = {}
        self.fixed: dict[
            Node, frozenset[Node]
        ] = {}  # of a choice in an objective: what is data there
        self._made: dict[tuple[Node, Node, frozenset[Node]], Node] = {}

    def look(self, order: list[Node]) -> None:
        """Rebuilds every node, arguments first."""
        met: set[tuple[object, ...]] = (
            set()
        )  # many levels learn from one loss, each over a period of its own
        for node in order:
            if node.op == "grad":
                objective, context = node.args[0], frozenset(node["context"])
                terms = objective.args if objective.op == "fold" else (objective,)
                if objective in context or (terms, context) not in met:
                    met.add((terms, context))
                    self.in_objective(objective, context)
        for node in order:
            self.done[node] = self.rebuilt(node)
            self.has_steep(
                self.done[node]
            )  # known of its arguments: no chain is followed to its end

    def in_objective(self, objective: Node, context: frozenset[Node]) -> None:
        """Notes the context of an objective at each choice in it."""
        seen: set[Node] = set()
        stack = [objective]
        while stack:
            node = stack.pop()
            if node in seen or node in context:
                continue
            seen.add(node)
            stack.extend(node.args)
            if node.op in CHOICES:
                self.fixed[node] = self.fixed.get(node, frozenset()) | context

    def rebuilt(self, node: Node) -> Node:
        """The node on rebuilt arguments; a choice with guarded branches."""
        args = [self.done[arg] for arg in node.args]
        changed: dict[str, Hashable] = {}
        if node.op == "grad":
            changed["context"] = tuple(self.done[n] for n in node["context"])
        with self.elaborator.at(node.span, node.iteration):
            if (
                node.op in CHOICES
                and isinstance(node.type, tuple)
                and any(map(self.has_steep, args))
            ):
                return self.choice(
                    node, args, frozenset(self.done[n] for n in self.fixed.get(node, ()))
                )
        if args == list(node.args) and changed.items() <= dict(node.attrs).items():
            return node
        return self.elaborator.build.again(node, args, **changed)

    def choice(self, node: Node, args: list[Node], fixed: frozenset[Node]) -> Node:
        """`where`, `max`, `min` of branches that are harmless unless chosen; the first at a tie."""
        if node.op == "where":
            test, yes, no = args
        else:
            yes, no = args
            test = self.node("ge" if node.op == "max" else "le", yes, no, type=node.type)
        branches = self.branch(yes, test, True, fixed), self.branch(no, test, False, fixed)
        same = branches == (yes, no)
        op, made = (node.op, args) if same else ("where", [test, *branches])
        return self.elaborator.build.make(
            op, *made, type=node.type, span=node.span, iteration=node.iteration, called=node.name
        )

    def branch(self, node: Node, test: Node, when: bool, fixed: frozenset[Node]) -> Node:
        """A branch that is harmless in the entries where the test does not choose it."""
        if not self.has_steep(node):
            return node
        while test.op == "spread" and test.args[0].type == ():
            test = test.args[0]
        mask = test if when else self.node("eq", test, self.shapes.const(0).node, type=test.type)
        return self.guarded(
            node, mask if node.type else self.any(mask, range(len(mask.shape))), fixed
        )

    @once
    def has_steep(self, node: Node) -> bool:
        """Is there an operator at or below the node whose derivative may be infinite?"""
        return (
            (OPS[node.op].elementwise or node.op in THROUGH)
            and isinstance(node.type, tuple)
            and not self.counts_alone(node)
            and (self.steep(node) or any(self.has_steep(arg) for arg in node.args))
        )

    def guarded(self, node: Node, mask: Node, fixed: frozenset[Node]) -> Node:
        """The node with a harmless number for each steep argument, under the mask."""
        if node in fixed or not self.has_steep(node):
            return node
        key = node, mask, fixed
        if key not in self._made:
            args = [
                self.guarded(arg, self.behind(node, i, mask), fixed)
                for i, arg in enumerate(node.args)
            ]
            if self.steep(node) and (safe := OPS[node.op].safe):
                i, harmless = safe
                args[i] = self.chosen(args[i], self.behind(node, i, mask), harmless)
            self._made[key] = self.elaborator.build.make(
                node.op,
                *args,
                type=node.type,
                span=node.span,
                iteration=node.iteration,
                called="",
                **dict(node.attrs),
            )
        return self._made[key]

    def chosen(self, arg: Node, mask: Node, otherwise: float) -> Node:
        if mask.type == () and arg.type != ():
            mask = self.shapes.spread(mask, arg.shape, ())
        other = self.shapes.const(otherwise).node
        other = self.shapes.spread(other, arg.shape, ()) if arg.shape != () else other
        return self.node("where", mask, arg, other, type=arg.type)

    # ---- what is known of an operator

    @once
    def counts_alone(self, node: Node) -> bool:
        """Is it made of numbers and counts of ticks, in which nothing has a derivative?"""
        return (
            node.op in ("const", "tick", "ticks")
            or bool(node.args)
            and all(map(self.counts_alone, node.args))
        )

    @once
    def never_negative(self, node: Node) -> bool:
        while node.op in ("spread", "permute", "reshape", "select", "sum", "mean", "total", "leaf"):
            node = node.args[0]
        if node.op == "mul" and node.args[0] is node.args[1]:
            return True
        if node.op == "pow" and (number(node.args[1]) or 1) % 2 == 0:
            return True
        if OPS[node.op].sign:
            return True
        if node.op in ("add", "mul", "div"):
            return all(self.never_negative(arg) for arg in node.args)
        if node.op == "max":
            return any(self.never_negative(arg) for arg in node.args)
        return (number(node) or 0.0) > 0 or number(node) == 0

    @once
    def above_zero(self, node: Node) -> bool:
        """Is it above 0 by a number that the text says?"""
        while node.op in ("spread", "permute", "reshape", "select", "sqrt"):
            node = node.args[0]
        if node.op == "add":
            return all(self.never_negative(arg) for arg in node.args) and any(
                self.above_zero(arg) for arg in node.args
            )
        if node.op == "max":
            return any(self.above_zero(arg) for arg in node.args)
        return (number(node) or 0.0) > 0

    @once
    def steep(self, node: Node) -> bool:
        """May this operator have an infinite value or slope at finite arguments?"""
        if OPS[node.op].safe is None:
            return False
        if node.op == "pow":
            power = number(node.args[1])
            whole = power is not None and power >= 0 and power == int(power)
            return not (
                whole
                or self.above_zero(node.args[0])
                or self.never_negative(node.args[0])
                and (power or -1) > 0
            )
        if node.op == "exp":
            return not (node.args[0].op == "neg" and self.never_negative(node.args[0].args[0]))
        if node.op == "div":
            return not (number(node.args[1]) or self.above_zero(node.args[1]))
        if node.op == "log":
            return not self.above_zero(node.args[0])
        return node.op != "sqrt" or not self.never_negative(node.args[0])

    # ---- the mask of an argument

    def behind(self, node: Node, i: int, mask: Node) -> Node:
        """The entries of argument i that chosen entries of `node` need, or more than those."""
        if mask.type == ():
            return mask
        arg, own = node.args[i], node.shape
        if OPS[node.op].elementwise:
            return mask if arg.type == own else self.any(mask, range(len(own)))
        if node.op == "spread":
            return self.gathered(mask, node["dims"])
        if node.op == "permute":
            return self.shapes.permute(mask, [node["dims"].index(d) for d in range(len(own))])
        if node.op == "reshape":
            return self.node("reshape", mask, type=arg.type)
        if node.op in ("sum", "mean", "amax"):
            return self.shapes.spread(
                mask, arg.shape, [d for d in range(len(arg.shape)) if d not in node["dims"]]
            )
        if node.op in ("softmax", "stack"):
            dim = node["dim"] % len(own)
            kept = [d for d in range(len(own)) if d != dim]
            if node.op == "stack":
                return self.node("select", mask, type=arg.type, dim=dim, index=i)
            return self.shapes.spread(self.any(mask, [dim]), own, kept)
        if node.op == "select":
            dim = node["dim"] % len(arg.shape)
            return self.shapes.spread(
                mask, arg.shape, [d for d in range(len(arg.shape)) if d != dim]
            )
        if node.op == "diag":
            return self.any(mask, [len(own) - 1])
        if node.op == "cross_entropy":
            return self.shapes.spread(mask, arg.shape, range(len(own))) if i == 0 else mask
        return self.of_factor(node, i, mask)

    def of_factor(self, node: Node, i: int, mask: Node) -> Node:
        """Of a factor of an einsum."""
        left, out = node["eq"].split("->")
        own = left.split(",")[i]
        shared = [c for c in own if c in out]
        mask = self.gathered(mask, [out.index(c) for c in shared])
        return self.shapes.spread(mask, node.args[i].shape, [own.index(c) for c in shared])

    def gathered(self, mask: Node, dims: tuple[int, ...] | list[int]) -> Node:
        """The mask with its axes `dims`, in this order: 1 if it is anywhere along the others."""
        rest = [d for d in range(len(mask.shape)) if d not in dims]
        kept = sorted(dims)
        return self.shapes.permute(self.any(mask, rest), [kept.index(d) for d in dims])

    def any(self, mask: Node, dims: range | list[int]) -> Node:
        if not len(dims):
            return mask
        type_: Shape = tuple(axis for d, axis in enumerate(mask.shape) if d not in dims)
        return self.node("amax", mask, type=type_, dims=tuple(dims))
