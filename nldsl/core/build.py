"""Nodes that simplify as they are made, and `Op`, the record of an operator.

    apply("add", x, 0) -> x    apply("mul", 2, 3) -> 6
    add(spread(a), spread(b)) -> spread(add(a, b))

The equations of a text, the derivative of an objective and the leaves of a tree are made here, so
`grad(<m, g>)` in `m` comes out as `g` itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from nldsl.core.nodes import Interner, Node, Tree, Type
from nldsl.source import Span


@dataclass(frozen=True)
class Op:
    """The record of an operator, but for its meaning, which the interpreter defines apart.

    `arity` counts the array arguments (None: any number), `attrs` names the attributes. `law` says
    whether the types of a node fit. `fold` is its value on numbers, `simplify` a shorter node for
    some arguments, `remake` the same equation on other arguments. `vjp(b, y, bar)` has a cotangent
    for each argument of `y`, None for zero; `active` are the places of the arguments in which it
    has a derivative at all (None: every one). `sign` is "positive" or "nonnegative" where every
    value is. `text` is torch code, `{0}` the first argument; of a `test` it is true or false, the
    value 1 or 0. `safe`: its derivative is steep somewhere; where a branch is not chosen, this
    argument sees this number. `numbers`: may Python numbers stand for its arguments there?
    """

    name: str
    says: str
    arity: int | None
    attrs: tuple[str, ...] = ()
    law: Callable[[Node], bool] = lambda node: True
    fold: Callable[..., float] | None = None
    simplify: Callable[[Builder, Sequence[Node]], Node | None] | None = None
    remake: Callable[[Builder, Node, Sequence[Node]], Node] | None = None
    vjp: Callable[[Builder, Node, Node], Sequence[Node | None]] | None = None
    active: tuple[int, ...] | None = None
    sign: str = ""
    text: str = ""
    test: bool = False
    numbers: bool = True
    safe: tuple[int, float] | None = None
    elementwise: bool = False
    function: bool = False  # does a text call it by its name?

    def value(self, *numbers: float) -> float | None:
        """Its value on numbers, None where it has none that is a finite real number."""
        if self.fold is None:
            return None
        try:
            value = self.fold(*numbers)
        except (ArithmeticError, ValueError):
            return None
        return value if isinstance(value, int | float) and math.isfinite(value) else None


def rank(type: Type) -> int:
    """Axes of an array; a tree is wider than any array."""
    return 1_000 if isinstance(type, Tree) else len(type)


def widest(*args: Node) -> Type:
    return max((arg.type for arg in args), key=rank)


def number(node: Node) -> float | None:
    """The number that every entry of the node is, if it is constant."""
    while node.op in ("spread", "permute", "reshape"):
        node = node.args[0]
    if node.op == "tree" and node.args:
        values = {number(arg) for arg in node.args}
        return values.pop() if len(values) == 1 else None
    if node.op == "const" and isinstance(node["value"], int | float):
        return node["value"]
    return None


Form = Callable[["Builder", Node], Node | None]


class Builder:
    """Makes nodes. `span` and `iteration` are where new ones are said to come from; `made` counts
    those asked for, equal ones included; `names` has the definitions whose values were rewritten.
    `form` is what stands for a node, None if it is itself.
    """

    def __init__(self, ops: Mapping[str, Op], form: Form | None = None) -> None:
        self.ops, self.form = ops, form
        self.made = 0
        self.span: Span | None = None
        self.iteration: tuple[str, ...] = ()
        self.names: dict[Node, str] = {}
        self._intern = Interner()

    def called(self, value: object, name: str) -> None:
        """The value of a definition, rewritten; of a tree, each leaf."""
        if isinstance(value, Node) and value.op == "tree" and isinstance(value.type, Tree):
            value = dict(zip(value.type.paths(), value.args, strict=True))
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
        iteration: tuple[str, ...] = (),
        called: str = "",
        **attrs: Hashable,
    ) -> Node:
        """The node as it is said; raises AssertionError where arity or attributes do not fit."""
        row = self.ops[op]
        assert row.arity is None or row.arity == len(args), (op, len(args))
        assert set(row.attrs) == set(attrs), (op, attrs)
        self.made += 1
        node = self._intern(
            op,
            *args,
            type=type,
            span=span or self.span,
            iteration=iteration or self.iteration,
            called=called,
            **attrs,
        )
        return (self.form(self, node) if self.form is not None else None) or node

    # ---- elementwise

    def const(self, value: float, shape: Type = ()) -> Node:
        node = self.make("const", type=(), value=float(value))
        return self.spread(node, shape, ()) if shape else node

    def apply(self, op: str, *args: Node) -> Node:
        """An elementwise operator, simplified."""
        row = self.ops[op]
        if row.simplify is not None and (short := row.simplify(self, args)) is not None:
            return short
        shape, values = widest(*args), [number(arg) for arg in args]
        known = [value for value in values if value is not None]
        if len(known) == len(values) and (value := row.value(*known)) is not None:
            return self.const(value, shape)
        return self._outward(op, args, shape) or self.make(op, *args, type=shape)

    def _outward(self, op: str, args: Sequence[Node], shape: Type) -> Node | None:
        """The broadcast of the result, where all arguments are broadcast along the same axes."""
        broad = [a for a in args if a.op == "spread" and a.args[0].op != "const"]

        def alike(a: Node) -> bool:
            return a.op == "spread" and (a["dims"], a.type, a.args[0].type) == (
                broad[0]["dims"],
                shape,
                broad[0].args[0].type,
            )

        if not broad or not all(a is broad[0] or alike(a) or number(a) is not None for a in args):
            return None
        inner = [a.args[0] if a in broad else self.const(number(a) or 0.0) for a in args]
        return self.spread(self.apply(op, *inner), shape, broad[0]["dims"])

    def add(self, a: Node, b: Node) -> Node:
        return self.apply("add", a, b)

    def sub(self, a: Node, b: Node) -> Node:
        return self.apply("sub", a, b)

    def mul(self, a: Node, b: Node) -> Node:
        return self.apply("mul", a, b)

    def div(self, a: Node, b: Node) -> Node:
        return self.apply("div", a, b)

    def pow(self, a: Node, b: Node) -> Node:
        return self.apply("pow", a, b)

    def neg(self, a: Node) -> Node:
        return self.apply("neg", a)

    def where(self, test: Node, a: Node, b: Node) -> Node:
        return self.apply("where", test, a, b)

    # ---- axes

    def spread(self, x: Node, shape: Type, dims: Sequence[int]) -> Node:
        """Axis i of x becomes axis dims[i] of the result; in a tree, of each leaf."""
        if x.type == shape and (isinstance(shape, Tree) or tuple(dims) == tuple(range(len(shape)))):
            return x
        if x.op == "spread":  # two broadcasts are one
            dims = tuple(dims[d] for d in x["dims"])
            x = x.args[0]
        return self.make("spread", x, type=shape, dims=tuple(dims))

    def scale_to(self, x: Node, like: Node) -> Node:
        """x, of shape () or a prefix of like's, broadcast to like's shape."""
        return self.spread(x, like.type, tuple(range(rank(x.type))))

    def permute(self, x: Node, dims: Sequence[int]) -> Node:
        if tuple(dims) == tuple(range(len(dims))):
            return x
        shape = x.shape
        return self.make("permute", x, type=tuple(shape[d] for d in dims), dims=tuple(dims))

    def reshape(self, x: Node, shape: Type) -> Node:
        return x if x.type == shape else self.make("reshape", x, type=shape)

    def sum(self, x: Node, dims: Iterable[int]) -> Node:
        """Over the axes `dims`, counted in x. A sum over an axis that was broadcast is a product
        with its size.
        """
        dims = tuple(sorted(dims))
        if not dims:
            return x
        shape = tuple(a for i, a in enumerate(x.shape) if i not in dims)
        if number(x) == 0:
            return self.const(0, shape)
        if x.op == "spread":  # summing a broadcast axis multiplies by its size
            broadcast = [d for d in dims if d not in x["dims"]]
            if len(broadcast) == len(dims):
                n = math.prod(x.shape[d].whole for d in broadcast)
                kept = [d for d in range(rank(x.type)) if d not in dims]
                inner = self.spread(x.args[0], shape, tuple(kept.index(d) for d in x["dims"]))
                return self.mul(inner, self.const(n))
        return self.make("sum", x, type=shape, dims=dims)

    def total(self, x: Node, keep: int, shape: Type) -> Node:
        """Of a tree, the sum over its leaves and all their axes but the first `keep`."""
        if number(x) == 0:
            return self.const(0, shape)
        return self.make("total", x, type=shape, keep=keep)

    def einsum(self, eq: str, a: Node, b: Node) -> Node:
        """The product of a and b by `eq`, "hij,hj->hi"; 0 where one of them is."""
        left, out = eq.split("->")
        la, lb = left.split(",")
        sizes = dict(zip(la + lb, a.shape + b.shape, strict=True))
        shape = tuple(sizes[c] for c in out)
        if number(a) == 0 or number(b) == 0:
            return self.const(0, shape)
        return self.make("einsum", a, b, type=shape, eq=eq)

    # ---- any

    def remake(self, node: Node, args: Sequence[Node]) -> Node:
        """The same equation on other arguments, simplified."""
        row = self.ops[node.op]
        if row.elementwise:
            return self.apply(node.op, *args)
        if row.remake is not None:
            return row.remake(self, node, args)
        return self.again(node, args)

    def again(
        self, node: Node, args: Sequence[Node], type: Type | None = None, /, **changed: Hashable
    ) -> Node:
        """The same equation on other arguments, as it is said, with another type or some attributes
        `changed`.
        """
        return self.make(
            node.op,
            *args,
            type=node.type if type is None else type,
            span=node.span,
            iteration=node.iteration,
            called=node.name,
            **(dict(node.attrs) | changed),
        )


class Term:
    """A value in a formula: arithmetic with it makes nodes.

    lambda y, x: 1 - y * y       the derivative of tanh
    lambda y, x: x.sigmoid()     any elementwise operator by its name
    """

    def __init__(self, builder: Builder, node: Node) -> None:
        self.builder = builder
        self.node = node

    def _node(self, other: Term | float) -> Node:
        return other.node if isinstance(other, Term) else self.builder.const(other)

    def _made(self, op: str, *args: Node) -> Term:
        return Term(self.builder, self.builder.apply(op, *args))

    def __add__(self, other: Term | float) -> Term:
        return self._made("add", self.node, self._node(other))

    def __radd__(self, other: float) -> Term:
        return self._made("add", self._node(other), self.node)

    def __sub__(self, other: Term | float) -> Term:
        return self._made("sub", self.node, self._node(other))

    def __rsub__(self, other: float) -> Term:
        return self._made("sub", self._node(other), self.node)

    def __mul__(self, other: Term | float) -> Term:
        return self._made("mul", self.node, self._node(other))

    def __rmul__(self, other: float) -> Term:
        return self._made("mul", self._node(other), self.node)

    def __truediv__(self, other: Term | float) -> Term:
        return self._made("div", self.node, self._node(other))

    def __rtruediv__(self, other: float) -> Term:
        return self._made("div", self._node(other), self.node)

    def __pow__(self, other: Term | float) -> Term:
        return self._made("pow", self.node, self._node(other))

    def __neg__(self) -> Term:
        return self._made("neg", self.node)

    def __abs__(self) -> Term:
        return self._made("abs", self.node)

    def __getattr__(self, op: str) -> Callable[..., Term]:
        row = self.builder.ops.get(op)
        if row is None or not row.elementwise:
            raise AttributeError(f"no elementwise operator `{op}`")
        return lambda *others: self._made(op, self.node, *map(self._node, others))
