"""Constructors of core nodes that simplify as they build: constants fold, 0 and 1 vanish, sums of
nothing stay nothing.

The derivative of an objective and the leaves of a tree are built with these, so `grad(<m, g>)` in
`m` comes out as `g` itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nldsl.core.nodes import Interner, Node, Shape, Tree, Type
from nldsl.core.ops import ELEMENTWISE
from nldsl.source import Span

FOLD: dict[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "max": max,
    "min": min,
    "neg": lambda a: -a,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
    "abs": abs,
    "tanh": math.tanh,
    "sigmoid": lambda a: 1 / (1 + math.exp(-a)),
    "cos": math.cos,
    "floor": math.floor,
    "le": lambda a, b: float(a <= b),
    "ge": lambda a, b: float(a >= b),
    "eq": lambda a, b: float(a == b),
    "sign": lambda a: float((a > 0) - (a < 0)),
}


def rank(type: Type) -> int:
    """Axes of an array; a tree is wider than any array."""
    return 1_000 if isinstance(type, Tree) else len(type)


class Algebra:
    def __init__(self) -> None:
        self._intern = Interner()
        self.span: Span | None = None  # where new nodes are said to come from
        self.turn: tuple[str, ...] = ()
        self.names: dict[Node, str] = {}  # array values -> qualified names of their definitions

    def called(self, value: object, name: str) -> None:
        """The value of a definition, rewritten; of a tree, each leaf."""
        if isinstance(value, Node) and value.op == "tree" and isinstance(value.type, Tree):
            value = dict(zip(value.type.paths(), value.args))
        if isinstance(value, Mapping):
            for path, leaf in value.items():
                self.called(leaf, f"{name}_{path}")
        elif isinstance(value, Node) and value.op not in ("const", "input", "weight"):
            self.names.setdefault(value, name)

    def make(
        self,
        op: str,
        *args: Node,
        type: Type,
        span: Span | None = None,
        turn: tuple[str, ...] = (),
        called: str = "",
        **attrs: Any,
    ) -> Node:
        return self._intern(
            op,
            *args,
            type=type,
            span=span or self.span,
            turn=turn or self.turn,
            called=called,
            **attrs,
        )

    def const(self, value: float, shape: Type = ()) -> Node:
        node = self.make("const", type=(), value=float(value))
        return self.spread(node, shape, ()) if shape else node

    def number(self, node: Node) -> float | None:
        """The value of a constant, also of one spread over axes; None otherwise."""
        while node.op in ("spread", "permute", "reshape"):
            node = node.args[0]
        return (
            node["value"]
            if node.op == "const" and isinstance(node["value"], (int, float))
            else None
        )

    def elementwise(self, op: str, *args: Node) -> Node:
        shape = max((a.type for a in args), key=rank)
        values = [self.number(a) for a in args]
        if op in FOLD and all(v is not None for v in values):
            try:
                return self.const(FOLD[op](*values), shape)
            except (ValueError, OverflowError, ZeroDivisionError):
                pass
        if op == "neg" and args[0].op == "neg":
            return args[0].args[0]
        broad = [a for a in args if a.op == "spread" and a.args[0].op != "const"]
        if broad and all(
            a is broad[0]
            or (
                a.op == "spread"
                and a["dims"] == broad[0]["dims"]
                and a.type == shape
                and a.args[0].type == broad[0].args[0].type
            )
            or self.number(a) is not None
            for a in args
        ):
            inner = [a.args[0] if a in broad else self.const(self.number(a)) for a in args]
            return self.spread(
                self.call_op(op, inner), shape, broad[0]["dims"]
            )  # broadcasts move outward
        return self.make(op, *args, type=shape)

    def call_op(self, op: str, args: Sequence[Node]) -> Node:
        return (
            getattr(self, op)(*args)
            if op in ("add", "sub", "mul", "div", "pow", "neg", "where")
            else self.elementwise(op, *args)
        )

    def add(self, a: Node, b: Node) -> Node:
        if self.number(a) == 0 and rank(b.type) >= rank(a.type):
            return b
        if self.number(b) == 0 and rank(a.type) >= rank(b.type):
            return a
        return self.mul(self.const(2), a) if a is b else self.elementwise("add", a, b)

    def sub(self, a: Node, b: Node) -> Node:
        if self.number(b) == 0 and rank(a.type) >= rank(b.type):
            return a
        if self.number(a) == 0 and rank(b.type) >= rank(a.type):
            return self.neg(b)
        return self.elementwise("sub", a, b)

    def neg(self, a: Node) -> Node:
        return a if self.number(a) == 0 else self.elementwise("neg", a)

    def mul(self, a: Node, b: Node) -> Node:
        shape = max(a.type, b.type, key=rank)
        for x, y in ((a, b), (b, a)):
            value = self.number(x)
            if value == 0:
                return self.const(0, shape)
            if value == 1 and rank(y.type) == rank(shape):
                return y
            if value == -1 and rank(y.type) == rank(shape):
                return self.neg(y)
            if value is not None and y.op == "mul" and y.type == shape:
                for p, q in (y.args, y.args[::-1]):  # two numbers are one
                    if (inner := self.number(p)) is not None:
                        return self.mul(self.const(value * inner), q)
        return self.elementwise("mul", a, b)

    def div(self, a: Node, b: Node) -> Node:
        if self.number(a) == 0:
            return self.const(0, max(a.type, b.type, key=rank))
        if self.number(b) == 1 and rank(a.type) >= rank(b.type):
            return a
        return self.elementwise("div", a, b)

    def pow(self, a: Node, b: Node) -> Node:
        value = self.number(b)
        if value == 1:
            return a
        if value == 0:
            return self.const(1, a.type)
        return self.elementwise("pow", a, b)

    def where(self, test: Node, a: Node, b: Node) -> Node:
        if self.number(a) == 0 and self.number(b) == 0:
            return self.const(0, max(test.type, a.type, b.type, key=rank))
        return self.elementwise("where", test, a, b)

    def spread(self, x: Node, shape: Type, dims: Sequence[int]) -> Node:
        if x.type == shape and (isinstance(shape, Tree) or tuple(dims) == tuple(range(len(shape)))):
            return x
        if x.op == "spread":  # two broadcasts are one
            dims = tuple(dims[d] for d in x["dims"])
            x = x.args[0]
        return self.make("spread", x, type=shape, dims=tuple(dims))

    def permute(self, x: Node, dims: Sequence[int]) -> Node:
        if tuple(dims) == tuple(range(len(dims))):
            return x
        return self.make("permute", x, type=tuple(x.type[d] for d in dims), dims=tuple(dims))

    def reshape(self, x: Node, shape: Shape) -> Node:
        return x if x.type == shape else self.make("reshape", x, type=shape)

    def sum(self, x: Node, dims: Iterable[int]) -> Node:
        dims = tuple(sorted(dims))
        if not dims:
            return x
        shape = tuple(a for i, a in enumerate(x.type) if i not in dims)
        if self.number(x) == 0:
            return self.const(0, shape)
        if x.op == "spread":  # summing a broadcast axis multiplies by its size
            broadcast = [d for d in dims if d not in x["dims"]]
            if len(broadcast) == len(dims):
                n = math.prod(x.type[d].size for d in broadcast)
                kept = [d for d in range(len(x.type)) if d not in dims]
                inner = self.spread(x.args[0], shape, tuple(kept.index(d) for d in x["dims"]))
                return self.mul(inner, self.const(n))
        return self.make("sum", x, type=shape, dims=dims)

    def total(self, x: Node, keep: int, shape: Shape) -> Node:
        return (
            self.const(0, shape)
            if self.number(x) == 0
            else self.make("total", x, type=shape, keep=keep)
        )

    def einsum(self, eq: str, a: Node, b: Node) -> Node:
        left, out = eq.split("->")
        la, lb = left.split(",")
        sizes = dict(zip(la + lb, a.type + b.type))
        shape = tuple(sizes[c] for c in out)
        if self.number(a) == 0 or self.number(b) == 0:
            return self.const(0, shape)
        return self.make("einsum", a, b, type=shape, eq=eq)

    def scale_to(self, x: Node, like: Node) -> Node:
        """x, of shape () or a prefix of like's, broadcast to like's shape."""
        return self.spread(x, like.type, tuple(range(len(x.type))))

    def call(self, node: Node, args: Sequence[Node]) -> Node:
        """The same equation on other arguments, simplified."""
        op = node.op
        if op in ELEMENTWISE:
            return self.call_op(op, args)
        if op == "einsum":
            return self.einsum(node["eq"], *args)
        if op == "spread":
            return self.spread(args[0], node.type, node["dims"])
        if op == "permute":
            return self.permute(args[0], node["dims"])
        if op == "reshape":
            return self.reshape(args[0], node.type)
        if op == "sum":
            return self.sum(args[0], node["dims"])
        if op == "total":
            return self.total(args[0], node["keep"], node.type)
        return self.make(
            op,
            *args,
            type=node.type,
            span=node.span,
            turn=node.turn,
            called=node.name,
            **dict(node.attrs),
        )
