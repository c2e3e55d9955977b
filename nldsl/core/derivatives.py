"""Reverse-mode derivatives of the operators, as equations: `f(build, y, bar)` has the cotangent of
each argument of y, given the cotangent `bar` of y; None for zero.

    slopes(lambda y, x: 1 - y * y)      tanh: by a formula for dy/dx
    einsum(build, y, bar)               a product: by the products of its arguments
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from nldsl.core.build import Builder, Term, number
from nldsl.core.nodes import Node, Tree

Rule = Callable[[Builder, Node, Node], Sequence[Node | None]]


def slopes(formula: Callable[..., Term | float | tuple[Term | float, ...]]) -> Rule:
    """The rule of an elementwise operator from `formula(y, *arguments)`: its slope, or one for each
    argument.
    """

    def rule(build: Builder, y: Node, bar: Node) -> list[Node | None]:
        made = formula(*(Term(build, node) for node in (y, *y.args)))
        each = made if isinstance(made, tuple) else (made,)
        slopes = [s.node if isinstance(s, Term) else build.const(s) for s in each]
        return [
            fit(build, build.mul(bar, slope), arg)
            for slope, arg in zip(slopes, y.args, strict=True)
        ]

    return rule


def zero(build: Builder, y: Node, bar: Node) -> list[Node | None]:
    """None for each argument: a derivative that is zero everywhere."""
    return [None] * len(y.args)


def fit(build: Builder, bar: Node, arg: Node) -> Node:
    """The cotangent of an argument that was broadcast: from (), or along every leaf of a tree."""
    if bar.type == arg.type:
        return bar
    return (
        build.total(bar, len(arg.shape), arg.shape)
        if isinstance(bar.type, Tree)
        else build.sum(bar, range(len(bar.type)))
    )


def power(build: Builder, y: Node, bar: Node) -> list[Node | None]:
    """x^n: dx = n x^(n-1), dn = x^n log x. Of a root, 0 < n < 1, dx is 0 at 0; a constant n has no
    cotangent.
    """
    x, n = y.args
    power = number(n)
    if power is not None and 0 < power < 1:  # a root, as below
        return [
            fit(
                build,
                rooted(
                    build,
                    y,
                    build.mul(bar, build.const(power)),
                    build.pow(y, build.const((1 - power) / power)),
                ),
                x,
            ),
            None,
        ]
    if power is not None:
        return [
            fit(
                build,
                build.mul(bar, build.mul(build.const(power), build.pow(x, build.const(power - 1)))),
                x,
            ),
            None,
        ]
    slope = build.mul(n, build.apply("pow", x, build.sub(n, build.const(1))))
    return [
        fit(build, build.mul(bar, slope), x),
        fit(build, build.mul(bar, build.mul(y, build.apply("log", x))), n),
    ]


def silu(y: Term, x: Term) -> Term:
    """Its slope, a formula for `slopes`."""
    s = x.sigmoid()
    return s * (1 + x * (1 - s))


def gelu(y: Term, x: Term) -> Term:
    """Its slope, by tanh as its value is."""
    c, square = math.sqrt(2 / math.pi), x * x
    t = (c * (x + 0.044715 * (square * x))).tanh()
    slope = c * (1 + 3 * 0.044715 * square)
    return 0.5 * (1 + t) + 0.5 * (x * ((1 - t * t) * slope))


def square_root(build: Builder, y: Node, bar: Node) -> list[Node]:
    """Half over the root; 0 at 0, so that |x| has derivative 0 there (the manual,
    `derivatives`).
    """
    return [rooted(build, y, build.mul(bar, build.const(0.5)), y)]


def rooted(build: Builder, y: Node, bar: Node, slope: Node) -> Node:
    zero = build.apply("le", y, build.const(0))
    safe = build.where(zero, build.const(1, y.type), slope)
    return build.where(zero, build.const(0, y.type), build.div(bar, safe))


def cross_entropy(build: Builder, y: Node, bar: Node) -> list[Node | None]:
    """Logits [.., vocab]: softmax minus the picked row of the identity, times bar [..]."""
    logits, ids = y.args
    axis = logits.shape[-1]
    rows = build.make("gather", build.make("eye", type=(axis, axis)), ids, type=(axis,))
    shares = build.make("softmax", logits, type=logits.shape, dim=len(logits.shape) - 1)
    left = tuple(range(len(y.shape)))
    return [
        build.mul(
            build.spread(bar, logits.type, left),
            build.sub(shares, build.spread(rows, logits.type, (len(left),))),
        ),
        None,
    ]


def gather(build: Builder, y: Node, bar: Node) -> list[Node | None]:
    """The cotangent at the row that was picked, 0 at the others."""
    table, ids = y.args
    axis = table.shape[0]
    chosen = build.make("gather", build.make("eye", type=(axis, axis)), ids, type=(axis,))
    letters = "abcdefghijklmnopqrstuvwxy"[: len(y.shape)]
    return [build.einsum(f"z,{letters}->z{letters}", chosen, bar), None]


def join(build: Builder, y: Node, bar: Node) -> list[Node]:
    """Each part's own rows of the cotangent, as a product with the rows of the identity that it
    has.
    """
    dim, out, at = y["dim"] % len(y.shape), [], 0
    letters = "abcdefghijklmnopqrstuvwxy"[: len(y.shape)]
    for part in y.args:
        size = part.shape[dim].size
        rows = tuple(
            tuple(float(j == at + i) for j in range(y.shape[dim].size)) for i in range(size)
        )
        chosen = build.make("const", type=(part.shape[dim], y.shape[dim]), value=rows)
        out.append(
            build.einsum(
                f"{letters},z{letters[dim]}->{letters.replace(letters[dim], 'z')}", bar, chosen
            )
        )
        at += size
    return out


def diag(build: Builder, y: Node, bar: Node) -> list[Node]:
    """The diagonal of bar [.., n, n]."""
    eye = build.make("eye", type=y.shape[-2:])
    return [
        build.sum(
            build.mul(bar, build.spread(eye, y.shape, (len(y.shape) - 2, len(y.shape) - 1))),
            [len(y.shape) - 1],
        )
    ]


def einsum(build: Builder, y: Node, bar: Node) -> list[Node]:
    """The product of bar with the other argument, by letters; for each argument."""
    left, out = y["eq"].split("->")
    la, lb = left.split(",")
    return [
        einsum_arg(build, out, bar, lb, y.args[1], la, y.args[0]),
        einsum_arg(build, out, bar, la, y.args[0], lb, y.args[1]),
    ]


def einsum_arg(
    build: Builder, out: str, bar: Node, other: str, b: Node, mine: str, a: Node
) -> Node:
    """Cotangent with letters `mine`; a letter of `mine` that is nowhere else was summed alone and
    is broadcast back.
    """
    reached = [c for c in mine if c in out or c in other]
    g = build.einsum(f"{out},{other}->{''.join(reached)}", bar, b)
    return build.spread(g, a.type, tuple(mine.index(c) for c in reached))


def summed(build: Builder, y: Node, bar: Node) -> list[Node]:
    """bar, broadcast back over `dims`."""
    x = y.args[0]
    kept = tuple(d for d in range(len(x.shape)) if d not in y["dims"])
    return [build.spread(bar, x.type, kept)]


def averaged(build: Builder, y: Node, bar: Node) -> list[Node]:
    """bar, broadcast back over `dims`, divided by the number of entries."""
    n = math.prod(y.args[0].shape[d].whole for d in y["dims"])
    return [build.mul(summed(build, y, bar)[0], build.const(1 / n))]


def spread(build: Builder, y: Node, bar: Node) -> list[Node]:
    """The sum of bar over the axes that were broadcast, in the order of the argument's axes."""
    if isinstance(y.type, Tree):
        return [fit(build, bar, y.args[0])]
    dims = y["dims"]
    order = sorted(range(len(dims)), key=lambda i: dims[i])
    g = build.sum(
        bar, [d for d in range(len(y.type)) if d not in dims]
    )  # axes left in increasing dims
    back = [0] * len(dims)
    for place, i in enumerate(order):
        back[i] = place
    return [build.permute(g, back)]


def total(build: Builder, y: Node, bar: Node) -> list[Node]:
    """bar, broadcast over each leaf."""
    return [build.spread(bar, y.args[0].type, tuple(range(y["keep"])))]


def leaf(build: Builder, y: Node, bar: Node) -> list[Node]:
    """A tree with bar at this leaf, 0 at the others."""
    tree = y.args[0].tree
    return [
        build.make(
            "tree",
            *(bar if path == y["path"] else build.const(0, shape) for path, shape in tree.leaves),
            type=tree,
        )
    ]


def permute(build: Builder, y: Node, bar: Node) -> list[Node]:
    """bar by the inverse permutation."""
    inverse = [0] * len(y["dims"])
    for i, d in enumerate(y["dims"]):
        inverse[d] = i
    return [build.permute(bar, inverse)]


def softmax(build: Builder, y: Node, bar: Node) -> list[Node]:
    """y (bar - sum(bar y)) along `dim`."""
    dim = y["dim"] % len(y.shape)
    kept = tuple(d for d in range(len(y.shape)) if d != dim)
    dot = build.spread(build.sum(build.mul(bar, y), [dim]), y.type, kept)
    return [build.mul(y, build.sub(bar, dot))]


def select(build: Builder, y: Node, bar: Node) -> list[Node]:
    """bar at the place that was selected, 0 at the others."""
    x = y.args[0]
    dim = y["dim"] % len(x.shape)
    kept = tuple(d for d in range(len(x.shape)) if d != dim)
    one = tuple(float(i == y["index"] % x.shape[dim].size) for i in range(x.shape[dim].size))
    mask = build.spread(build.make("const", type=(x.shape[dim],), value=one), x.shape, (dim,))
    return [build.mul(build.spread(bar, x.type, kept), mask)]


def pick(first: str) -> Rule:
    """max and min: the whole cotangent goes to the side that wins; the first one at a tie."""

    def rule(build: Builder, y: Node, bar: Node) -> list[Node]:
        a, b = y.args
        wins = build.apply(first, a, b)
        zero = build.const(0)
        return [
            fit(build, build.where(wins, bar, zero), a),
            fit(build, build.where(wins, zero, bar), b),
        ]

    return rule


def where(build: Builder, y: Node, bar: Node) -> list[Node | None]:
    """bar where its branch is chosen, 0 elsewhere; None for the test."""
    test, a, b = y.args
    zero = build.const(0)
    return [
        None,
        fit(build, build.where(test, bar, zero), a),
        fit(build, build.where(test, zero, bar), b),
    ]


def stack(build: Builder, y: Node, bar: Node) -> list[Node]:
    """The places of bar along `dim`."""
    dim = y["dim"] % len(y.shape)
    shape = tuple(a for i, a in enumerate(y.shape) if i != dim)
    return [build.make("select", bar, type=shape, dim=dim, index=i) for i in range(len(y.args))]


def tree(build: Builder, y: Node, bar: Node) -> list[Node]:
    """Each leaf of bar."""
    assert isinstance(y.type, Tree)
    return [
        build.make("leaf", bar, type=a.type, path=p)
        for p, a in zip(y.type.paths(), y.args, strict=True)
    ]


def reshape(build: Builder, y: Node, bar: Node) -> list[Node]:
    return [build.reshape(bar, y.args[0].type)]


def divided(build: Builder, y: Node, bar: Node) -> list[Node]:
    """a / b = y: da = bar / b, db = -bar y / b."""
    a, b = y.args
    return [
        fit(build, build.div(bar, b), a),
        fit(build, build.neg(build.div(build.mul(bar, y), b)), b),
    ]


def logarithm(build: Builder, y: Node, bar: Node) -> list[Node]:
    return [build.div(bar, y.args[0])]
