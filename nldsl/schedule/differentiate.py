"""Reverse-mode derivatives of array equations, as equations.

    gradient(sum(|W k - v|^2), [W])  ->  2 (W k - v) k^T      kept as the outer product that it is

Inner objectives are differentiated here and nowhere else, so the emitted step has no nested
autograd: a slower learner that differentiates through an inner gradient meets plain tensor
operations. The transpose of each operator is one row of `VJP`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from nldsl.core.nodes import Node, Tree, walk
from nldsl.schedule.algebra import Algebra
from nldsl.schedule.faults import NoDerivative

Rule = Callable[[Algebra, Node, Node], Sequence[Node | None]]


def _fit(al: Algebra, bar: Node, arg: Node) -> Node:
    """The cotangent of an argument that was broadcast: from (), or along every leaf of a tree."""
    if bar.type == arg.type:
        return bar
    return (
        al.total(bar, len(arg.type), arg.type)
        if isinstance(bar.type, Tree)
        else al.sum(bar, range(len(bar.type)))
    )


def _unary(slope: Callable[[Algebra, Node, Node], Node]) -> Rule:
    return lambda al, y, bar: [al.mul(bar, slope(al, y, y.args[0]))]


def _one_minus(al: Algebra, x: Node) -> Node:
    return al.sub(al.const(1), x)


def _silu_slope(al: Algebra, y: Node, x: Node) -> Node:
    s = al.elementwise("sigmoid", x)
    return al.mul(s, al.add(al.const(1), al.mul(x, _one_minus(al, s))))


def _gelu_slope(al: Algebra, y: Node, x: Node) -> Node:
    c = al.const(math.sqrt(2 / math.pi))
    square = al.mul(x, x)
    inner = al.mul(c, al.add(x, al.mul(al.const(0.044715), al.mul(square, x))))
    t = al.elementwise("tanh", inner)
    slope = al.mul(c, al.add(al.const(1), al.mul(al.const(3 * 0.044715), square)))
    half = al.const(0.5)
    return al.add(
        al.mul(half, al.add(al.const(1), t)),
        al.mul(half, al.mul(x, al.mul(_one_minus(al, al.mul(t, t)), slope))),
    )


def _pow(al: Algebra, y: Node, bar: Node) -> list[Node | None]:
    x, n = y.args
    power = al.number(n)
    if power is not None and 0 < power < 1:  # a root, as below
        return [
            _fit(
                al,
                _rooted(
                    al, y, al.mul(bar, al.const(power)), al.pow(y, al.const((1 - power) / power))
                ),
                x,
            ),
            None,
        ]
    if power is not None:
        return [
            _fit(al, al.mul(bar, al.mul(al.const(power), al.pow(x, al.const(power - 1)))), x),
            None,
        ]
    slope = al.mul(n, al.elementwise("pow", x, al.sub(n, al.const(1))))
    return [
        _fit(al, al.mul(bar, slope), x),
        _fit(al, al.mul(bar, al.mul(y, al.elementwise("log", x))), n),
    ]


def _sqrt(al: Algebra, y: Node, bar: Node) -> list[Node]:
    """Half over the root; 0 at 0, so that |x| has derivative 0 there (language section 7)."""
    return [_rooted(al, y, al.mul(bar, al.const(0.5)), y)]


def _rooted(al: Algebra, y: Node, bar: Node, slope: Node) -> Node:
    zero = al.elementwise("le", y, al.const(0))
    safe = al.where(zero, al.const(1, y.type), slope)
    return al.where(zero, al.const(0, y.type), al.div(bar, safe))


def _cross_entropy(al: Algebra, y: Node, bar: Node) -> list[Node | None]:
    logits, ids = y.args
    axis = logits.type[-1]
    rows = al.make("gather", al.make("eye", type=(axis, axis)), ids, type=(axis,))
    shares = al.make("softmax", logits, type=logits.type, dim=len(logits.type) - 1)
    left = tuple(range(len(y.type)))
    return [
        al.mul(
            al.spread(bar, logits.type, left),
            al.sub(shares, al.spread(rows, logits.type, (len(left),))),
        ),
        None,
    ]


def _gather(al: Algebra, y: Node, bar: Node) -> list[Node | None]:
    """The cotangent at the row that was picked, 0 at the others."""
    table, ids = y.args
    axis = table.type[0]
    chosen = al.make("gather", al.make("eye", type=(axis, axis)), ids, type=(axis,))
    letters = "abcdefghijklmnopqrstuvwxy"[: len(y.type)]
    return [al.einsum(f"z,{letters}->z{letters}", chosen, bar), None]


def _join(al: Algebra, y: Node, bar: Node) -> list[Node]:
    """Each part's own rows of the cotangent, as a product with the rows of the identity that it
    has.
    """
    dim, out, at = y["dim"] % len(y.type), [], 0
    letters = "abcdefghijklmnopqrstuvwxy"[: len(y.type)]
    for part in y.args:
        size = part.type[dim].size
        rows = tuple(
            tuple(float(j == at + i) for j in range(y.type[dim].size)) for i in range(size)
        )
        chosen = al.make("const", type=(part.type[dim], y.type[dim]), value=rows)
        out.append(
            al.einsum(
                f"{letters},z{letters[dim]}->{letters.replace(letters[dim], 'z')}", bar, chosen
            )
        )
        at += size
    return out


def _diag(al: Algebra, y: Node, bar: Node) -> list[Node]:
    eye = al.make("eye", type=y.type[-2:])
    return [
        al.sum(
            al.mul(bar, al.spread(eye, y.type, (len(y.type) - 2, len(y.type) - 1))),
            [len(y.type) - 1],
        )
    ]


def _einsum(al: Algebra, y: Node, bar: Node) -> list[Node]:
    left, out = y["eq"].split("->")
    la, lb = left.split(",")
    return [
        _einsum_arg(al, out, bar, lb, y.args[1], la, y.args[0]),
        _einsum_arg(al, out, bar, la, y.args[0], lb, y.args[1]),
    ]


def _einsum_arg(al: Algebra, out: str, bar: Node, other: str, b: Node, mine: str, a: Node) -> Node:
    """Cotangent with letters `mine`; a letter of `mine` that is nowhere else was summed alone and
    is broadcast back.
    """
    reached = [c for c in mine if c in out or c in other]
    g = al.einsum(f"{out},{other}->{''.join(reached)}", bar, b)
    return al.spread(g, a.type, tuple(mine.index(c) for c in reached))


def _sum(al: Algebra, y: Node, bar: Node) -> list[Node]:
    x = y.args[0]
    kept = tuple(d for d in range(len(x.type)) if d not in y["dims"])
    return [al.spread(bar, x.type, kept)]


def _mean(al: Algebra, y: Node, bar: Node) -> list[Node]:
    n = math.prod(y.args[0].type[d].size for d in y["dims"])
    return [al.mul(_sum(al, y, bar)[0], al.const(1 / n))]


def _spread(al: Algebra, y: Node, bar: Node) -> list[Node]:
    if isinstance(y.type, Tree):
        return [_fit(al, bar, y.args[0])]
    dims = y["dims"]
    order = sorted(range(len(dims)), key=lambda i: dims[i])
    g = al.sum(
        bar, [d for d in range(len(y.type)) if d not in dims]
    )  # axes left in increasing dims
    back = [0] * len(dims)
    for place, i in enumerate(order):
        back[i] = place
    return [al.permute(g, back)]


def _total(al: Algebra, y: Node, bar: Node) -> list[Node]:
    return [al.spread(bar, y.args[0].type, tuple(range(y["keep"])))]


def _leaf(al: Algebra, y: Node, bar: Node) -> list[Node]:
    tree = y.args[0].type
    return [
        al.make(
            "tree",
            *(bar if path == y["path"] else al.const(0, shape) for path, shape in tree.leaves),
            type=tree,
        )
    ]


def sum_of(al: Algebra, a: Node, b: Node) -> Node:
    """Two cotangents of one value; those of leaves stay apart, so that no zeros are added."""
    if a.op == b.op == "tree":
        return al.make("tree", *(al.add(x, y) for x, y in zip(a.args, b.args)), type=a.type)
    return al.add(a, b)


def _permute(al: Algebra, y: Node, bar: Node) -> list[Node]:
    inverse = [0] * len(y["dims"])
    for i, d in enumerate(y["dims"]):
        inverse[d] = i
    return [al.permute(bar, inverse)]


def _softmax(al: Algebra, y: Node, bar: Node) -> list[Node]:
    dim = y["dim"] % len(y.type)
    kept = tuple(d for d in range(len(y.type)) if d != dim)
    dot = al.spread(al.sum(al.mul(bar, y), [dim]), y.type, kept)
    return [al.mul(y, al.sub(bar, dot))]


def _select(al: Algebra, y: Node, bar: Node) -> list[Node]:
    x = y.args[0]
    dim = y["dim"] % len(x.type)
    kept = tuple(d for d in range(len(x.type)) if d != dim)
    one = tuple(float(i == y["index"] % x.type[dim].size) for i in range(x.type[dim].size))
    mask = al.spread(al.make("const", type=(x.type[dim],), value=one), x.type, (dim,))
    return [al.mul(al.spread(bar, x.type, kept), mask)]


def _pick(first: str) -> Rule:
    """max and min: the whole cotangent goes to the side that wins; the first one at a tie."""

    def rule(al: Algebra, y: Node, bar: Node) -> list[Node]:
        a, b = y.args
        wins = al.elementwise(first, a, b)
        zero = al.const(0)
        return [_fit(al, al.where(wins, bar, zero), a), _fit(al, al.where(wins, zero, bar), b)]

    return rule


def _where(al: Algebra, y: Node, bar: Node) -> list[Node | None]:
    test, a, b = y.args
    zero = al.const(0)
    return [None, _fit(al, al.where(test, bar, zero), a), _fit(al, al.where(test, zero, bar), b)]


def _stack(al: Algebra, y: Node, bar: Node) -> list[Node]:
    dim = y["dim"] % len(y.type)
    shape = tuple(a for i, a in enumerate(y.type) if i != dim)
    return [al.make("select", bar, type=shape, dim=dim, index=i) for i in range(len(y.args))]


VJP: dict[str, Rule] = {
    "add": lambda al, y, bar: [_fit(al, bar, a) for a in y.args],
    "sub": lambda al, y, bar: [_fit(al, bar, y.args[0]), _fit(al, al.neg(bar), y.args[1])],
    "mul": lambda al, y, bar: [
        _fit(al, al.mul(bar, y.args[1]), y.args[0]),
        _fit(al, al.mul(bar, y.args[0]), y.args[1]),
    ],
    "div": lambda al, y, bar: [
        _fit(al, al.div(bar, y.args[1]), y.args[0]),
        _fit(al, al.neg(al.div(al.mul(bar, y), y.args[1])), y.args[1]),
    ],
    "pow": _pow,
    "neg": lambda al, y, bar: [al.neg(bar)],
    "exp": _unary(lambda al, y, x: y),
    "log": lambda al, y, bar: [al.div(bar, y.args[0])],
    "sqrt": _sqrt,
    "abs": _unary(lambda al, y, x: al.elementwise("sign", x)),
    "tanh": _unary(lambda al, y, x: _one_minus(al, al.mul(y, y))),
    "sigmoid": _unary(lambda al, y, x: al.mul(y, _one_minus(al, y))),
    "silu": _unary(_silu_slope),
    "gelu": _unary(_gelu_slope),
    "softplus": _unary(lambda al, y, x: al.elementwise("sigmoid", x)),
    "cos": _unary(lambda al, y, x: al.elementwise("cos", al.add(x, al.const(math.pi / 2)))),
    "max": _pick("ge"),
    "min": _pick("le"),
    "where": _where,
    "einsum": _einsum,
    "sum": _sum,
    "mean": _mean,
    "spread": _spread,
    "permute": _permute,
    "reshape": lambda al, y, bar: [al.reshape(bar, y.args[0].type)],
    "total": _total,
    "leaf": _leaf,
    "tree": lambda al, y, bar: [
        al.make("leaf", bar, type=a.type, path=p) for p, a in zip(y.type.paths(), y.args)
    ],
    "softmax": _softmax,
    "select": _select,
    "stack": _stack,
    "cross_entropy": _cross_entropy,
    "join": _join,
    "diag": _diag,
    "gather": _gather,
    **{
        op: lambda al, y, bar: [None] * len(y.args)
        for op in ("sign", "floor", "le", "ge", "eq", "stop")
    },
}


def gradient(
    al: Algebra, objective: Node, wrt: Sequence[Node], constant: frozenset[int] = frozenset()
) -> list[Node]:
    """d sum(objective) / d wrt, a node of the shape of each.

    Nodes whose id is in `constant` stop the derivative.
    """
    nodes = list(walk(objective))
    moving: set[int] = set(id(w) for w in wrt)
    for node in nodes:
        if id(node) not in constant and any(id(a) in moving for a in node.args):
            moving.add(id(node))
    bars: dict[int, Node] = {id(objective): al.const(1, objective.type)}
    for node in reversed(nodes):
        bar = bars.get(id(node))
        if bar is None or id(node) not in moving or any(node is w for w in wrt):
            continue
        rule = VJP.get(node.op)
        if rule is None:
            raise NoDerivative(node)
        for arg, part in zip(node.args, rule(al, node, bar)):
            if part is not None and id(arg) in moving:
                bars[id(arg)] = sum_of(al, bars[id(arg)], part) if id(arg) in bars else part
    return [bars.get(id(w), al.const(0, w.type)) for w in wrt]
