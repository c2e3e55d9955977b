"""The built-in functions: each reads its arguments and makes its node."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NoReturn

from nldsl.core.build import number
from nldsl.core.nodes import Axis, numel
from nldsl.core.ops import OPS
from nldsl.frontend import syntax
from nldsl.graph import attention, windows
from nldsl.graph.arguments import given, outside_memory, positional
from nldsl.graph.built_in import FUNCTIONS, name_of
from nldsl.graph.elaborator import LEAF
from nldsl.graph.evaluate import array, as_array, axes_text, evaluate, named_axis
from nldsl.graph.guards import is_comparison
from nldsl.graph.parameters import affine, conv, embed, linear, weight
from nldsl.graph.scope import Site
from nldsl.graph.values import Array, Eye, Items, Num, Value, kind_of
from nldsl.source import Span


def constant(name: str, site: Site) -> Value | None:
    """The built-in names that are not functions."""
    elaborator = site.elaborator
    if name == "pi":
        return Num(math.pi, "pi")
    if name == "I":
        return Eye(Num(1, "1"))
    if name in ("tick", "ticks"):
        level = site.scope.update or site.scope.level
        if level is None:
            fail_without_level(f"`{name}` counts the ticks of a level", site)
        return Array(elaborator.node(name, type=(), level=level.name))
    if name in ("learned", "random"):
        if site.scope.start is None:
            elaborator.fail(
                "N209",
                f"`{name}` stands only in the start of a memory",
                help="a parameter is `weight([d])`; what is drawn once is a memory: `memory n: [d] "
                "= random`",
            )
        start = site.scope.start
        return start.learned() if name == "learned" else start.drawn()
    return None


def fail_without_level(what: str, site: Site, span: Span | None = None) -> NoReturn:
    """N307, at the words of the main file by which a def with ticks is called where nothing
    ticks.
    """
    elaborator, called = site.elaborator, site.scope.home().called
    if called is None:
        elaborator.fail(
            "N307",
            f"{what}, and none calls this",
            span,
            help="put it into a `def`, and call that in the equation of a level",
        )
    name = called.text().partition("(")[0].strip()
    notes = [("this counts its ticks", span or elaborator.span)]
    elaborator.fail(
        "N307",
        f"{what}, and `{name}` is called by none",
        called,
        help=f"call it in the equation of a level: `M <- M + {name}(..)`",
        notes=notes,
    )


# ---- axes


@as_array.register(Items)
def listed(value: Items, site: Site, span: Span | None = None) -> Array:
    if value.paths is not None:
        site.elaborator.fail(
            "N202",
            f"an array is needed here, this is {kind_of(value)}",
            span,
            help="a stream, a number, or a list of them",
        )
    return stack([as_array(item, site, span) for item in value.items], site)


def stack(parts: list[Array], site: Site) -> Array:
    """A new first axis without a name; of trees, leaf by leaf."""
    elaborator, shapes = site.elaborator, site.elaborator.shapes
    if not parts:
        elaborator.fail("N204", "an empty list is not an array", help="an entry at least: `[x]`")
    if any(part.is_tree for part in parts):
        paths = next(part.node.tree.paths() for part in parts if part.is_tree)
        if any(part.is_tree and part.node.tree.paths() != paths for part in parts):
            elaborator.fail(
                "N203",
                "trees with different weights cannot be stacked",
                help="trees with the weights of one def, or arrays: `[A.W, B.W]`",
            )
        return shapes.tree(
            [
                (path, stack([shapes.leaf(p, path) if p.is_tree else p for p in parts], site))
                for path in paths
            ]
        )
    nodes, hidden = shapes.aligned(parts)
    dim, n = len(hidden), Axis(str(len(parts)), len(parts))
    values = [number(node) for node in nodes]
    if nodes[0].type == () and None not in values:
        return Array(elaborator.node("const", type=(n,), value=tuple(values)))
    return Array(
        elaborator.node(
            "stack", *nodes, type=(*nodes[0].shape[:dim], n, *nodes[0].shape[dim:]), dim=dim
        ),
        hidden,
    )


def join_axes(call: syntax.Call, site: Site) -> Array | Items:
    """`join(a, b, ..)`: arrays of one axis, one behind the other; of lists of numbers a list."""
    values, elaborator = [evaluate(arg, site) for arg in positional(call, site)], site.elaborator
    items = [item for value in values if isinstance(value, Items) for item in value.items]
    if all(isinstance(value, Items) for value in values) and all(
        isinstance(item, Num) for item in items
    ):
        return Items(tuple(items))
    parts = [as_array(value, site, arg.span) for value, arg in zip(values, call.args, strict=True)]
    for part, arg in zip(parts, call.args, strict=True):
        if part.is_tree or len(part.seen) != 1:
            elaborator.fail(
                "N204",
                "`join` takes arrays of one axis",
                arg.span,
                help="`flat(x)` makes one axis of all",
            )
    hidden = elaborator.shapes.union(part.hidden for part in parts)
    nodes = [elaborator.shapes.expand(part, hidden, part.seen) for part in parts]
    size = sum(part.seen[0].size for part in parts)
    dim = len(hidden)
    return Array(
        elaborator.node(
            "join", *nodes, type=(*nodes[0].shape[:dim], Axis(str(size), size)), dim=dim
        ),
        hidden,
    )


def flat(call: syntax.Call, site: Site) -> Array:
    """`flat(x)`: one axis of all entries."""
    x = one_array(call, site)
    n = numel(x.seen)
    type_ = (*(h.axis for h in x.hidden), Axis(str(n), n))
    return Array(site.elaborator.node("reshape", x.node, type=type_), x.hidden)


def matrix(call: syntax.Call, site: Site) -> Array:
    """`matrix(x, d)`: the axis d on one side, all others as one on the other; of a tree leaf by
    leaf. With 0 it is x as it is.
    """
    args, elaborator = given(call, site, "x", "side"), site.elaborator
    x, side = (
        as_array(evaluate(args["x"], site), site, args["x"].span),
        evaluate(args["side"], site),
    )
    if isinstance(side, Num) and side.value == 0:
        return x
    if not isinstance(side, Num):
        elaborator.fail(
            "N202",
            "the side of a matrix is an axis",
            args["side"].span,
            help="an axis by its name, or 0 for the last two",
        )
    axis = elaborator.axis(side, args["side"].span)

    def one(leaf: Array, where: str) -> Array:
        seen = leaf.seen
        if len(seen) < 2 or axis not in (seen[0], seen[-1]):
            elaborator.fail(
                "N204",
                f"`{where}` has the axes {axes_text(leaf)}, and `{axis.name}` is not its first or "
                "last of several",
                args["x"].span,
                help=f"`weights [{axis.name}, a]` or `weights [a, {axis.name}]` takes the weights "
                "that have it",
            )
        n = numel(seen) // axis.size
        sides = (Axis(str(n), n), axis) if axis == seen[-1] else (axis, Axis(str(n), n))
        return of_axes(leaf, sides, site)

    if not x.is_tree:
        return one(x, args["x"].span.text())
    return elaborator.shapes.tree(
        [(path, one(leaf, path)) for path, leaf in elaborator.shapes.leaves(x)]
    )


def shaped(call: syntax.Call, site: Site) -> Array:
    """`shaped(x, y)`: the entries of x in the axes of y, in their order; of trees leaf by leaf."""
    args, elaborator = given(call, site, "x", "like"), site.elaborator
    x, like = (
        as_array(evaluate(args[name], site), site, args[name].span) for name in ("x", "like")
    )

    def one(a: Array, b: Array) -> Array:
        if numel(a.seen) != numel(b.seen):
            elaborator.fail(
                "N204",
                f"{numel(a.seen)} entries do not fill the axes {axes_text(b)}",
                call.span,
                help="`shaped(x, y)` with as many entries in `x` as in `y`",
            )
        return a if a.seen == b.seen else of_axes(a, b.seen, site)

    if not x.is_tree and not like.is_tree:
        return one(x, like)
    if not (x.is_tree and like.is_tree) or x.node.tree.paths() != like.node.tree.paths():
        elaborator.fail(
            "N203",
            "`shaped` takes two arrays, or two trees of the same weights",
            call.span,
            help="`shaped(M.W, x)` for one array of a tree",
        )
    pairs = zip(elaborator.shapes.leaves(x), elaborator.shapes.leaves(like), strict=True)
    return elaborator.shapes.tree([(path, one(a, b)) for (path, a), (_, b) in pairs])


def of_axes(x: Array, axes: tuple[Axis, ...], site: Site) -> Array:
    return Array(
        site.elaborator.node("reshape", x.node, type=(*(h.axis for h in x.hidden), *axes)), x.hidden
    )


def diag(call: syntax.Call, site: Site) -> Array:
    """`diag(x)`: [.., n] -> [.., n, n]."""
    x = one_array(call, site)
    if not x.seen:
        site.elaborator.fail(
            "N204",
            "`diag` takes an array with an axis",
            call.span,
            help="`x * I` for a number `x` on the diagonal",
        )
    return Array(site.elaborator.node("diag", x.node, type=(*x.shape, x.shape[-1])), x.hidden)


def one_array(call: syntax.Call, site: Site) -> Array:
    x = array(given(call, site, "x")["x"], site)
    if x.is_tree:
        site.elaborator.fail(
            "N203", f"`{name_of(call)}` takes an array, this is a tree", call.span, help=LEAF
        )
    return x


def shape(call: syntax.Call, site: Site) -> Items:
    """`shape(x)`: a list of sizes; of a tree, a list for each leaf."""
    x = as_array(evaluate(given(call, site, "x")["x"], site), site, call.span)
    if x.is_tree:
        leaves = site.elaborator.shapes.leaves(x)
        return Items(tuple(sizes(leaf) for _, leaf in leaves), tuple(path for path, _ in leaves))
    return sizes(x)


def sizes(x: Array) -> Items:
    return Items(tuple(Num(axis.size, axis.name) for axis in x.seen))


# ---- numbers and streams


def elementwise(op: str) -> Callable[[syntax.Call, Site], Num | Array]:
    """The operators whose rows are functions; of numbers known before the run, a number."""

    def build(call: syntax.Call, site: Site) -> Num | Array:
        row = OPS[op]
        args = list(given(call, site, *ARGUMENTS[: row.arity]).values())
        values = [evaluate(arg, site) for arg in args]
        numbers = [value for value in values if isinstance(value, Num)]
        if len(numbers) == len(values):
            folded = row.value(*(value.value for value in numbers))
            if folded is not None:
                return Num(folded, f"{op}({', '.join(value.text for value in numbers)})")
        arrays = [as_array(value, site, call.span) for value in values]
        if len(arrays) == 1:
            return site.elaborator.arrays.unary(op, *arrays)
        return site.elaborator.arrays.several(op, *arrays)

    return build


def extreme(op: str) -> Callable[[syntax.Call, Site], Num | Array]:
    """`max(a, b, ..)` and `min(a, b, ..)`, entry by entry; of numbers, a number."""

    def build(call: syntax.Call, site: Site) -> Num | Array:
        values = [evaluate(arg, site) for arg in positional(call, site)]
        if len(values) < 2:
            site.elaborator.fail(
                "N107",
                f"`{op}` takes two arguments",
                call.span,
                help=f"`{op}(x, 0)` chooses in each entry; it does not run along an axis",
            )
        numbers = [value for value in values if isinstance(value, Num)]
        if len(numbers) == len(values):
            choose: Callable[..., Num] = {"max": max, "min": min}[op]
            return choose(numbers, key=lambda n: n.value)
        result = as_array(values[0], site, call.args[0].span)
        for value, arg in zip(values[1:], call.args[1:], strict=True):
            result = site.elaborator.arrays.binary(op, result, as_array(value, site, arg.span))
        return result

    return build


def where(call: syntax.Call, site: Site) -> Value:
    """`where(condition, a, b)`; a condition that is a number chooses before the run."""
    args = given(call, site, "condition", "a", "b")
    values = [evaluate(arg, site) for arg in args.values()]
    if isinstance(values[0], Num):
        return values[1] if values[0].value else values[2]
    arrays = [as_array(value, site, call.span) for value in values]
    parts = (
        [leaf for _, leaf in site.elaborator.shapes.leaves(arrays[0])]
        if arrays[0].is_tree
        else arrays[:1]
    )
    if not all(is_comparison(part.node) for part in parts):
        site.elaborator.fail(
            "N202",
            "a condition is a comparison, this is a number",
            args["condition"].span,
            help="`x >= 0`, `x <= y` or `x == y` is one",
        )
    return site.elaborator.arrays.where(*arrays)


def softmax(call: syntax.Call, site: Site) -> Array:
    """`softmax(x)` along the last axis, `softmax(x, n)` along n."""
    args = given(call, site, "x", optional=("axis",))
    x, elaborator = array(args["x"], site), site.elaborator
    if "axis" in args:
        return elaborator.arrays.along("softmax", x, named_axis(args["axis"], site))
    return rows(x, site)


def rows(x: Array, site: Site) -> Array:
    """Softmax along the last axis; of a tree, leaf by leaf."""
    shapes = site.elaborator.shapes
    if x.is_tree:
        return shapes.tree([(path, rows(leaf, site)) for path, leaf in shapes.leaves(x)])
    if not x.seen:
        site.elaborator.fail(
            "N204", "`softmax` takes an array with an axis", help="`sigmoid(x)` for one number"
        )
    return Array(
        site.elaborator.node("softmax", x.node, type=x.shape, dim=len(x.shape) - 1), x.hidden
    )


def cross_entropy(call: syntax.Call, site: Site) -> Array:
    """`cross_entropy(logits, i)`: [.., vocab] and a stream of `index(vocab)` -> [..]."""
    args, elaborator = given(call, site, "x", "i"), site.elaborator
    x, i = array(args["x"], site), array(args["i"], site)
    if x.is_tree or len(x.seen) != 1:
        elaborator.fail(
            "N204",
            f"`cross_entropy` takes one axis, this is {axes_text(x)}",
            args["x"].span,
            help="a score for each token: `cross_entropy(linear(x, [vocab]), next(ids))`",
        )
    if i.vocab is None:
        elaborator.fail(
            "N203",
            "the target of `cross_entropy` is a stream of `index(n)`",
            args["i"].span,
            help="`cross_entropy(x, next(ids))` with `input ids: index(vocab)`",
        )
    if i.vocab.value != x.seen[0].size:
        elaborator.fail(
            "N204",
            f"{x.seen[0].size} logits, the target is `index({i.vocab.text})`",
            args["x"].span,
            help=f"`linear(x, [{i.vocab.text}])` for the scores",
        )
    return Array(elaborator.node("cross_entropy", x.node, i.node, type=x.shape[:-1]), x.hidden)


def through(op: str) -> Callable[[syntax.Call, Site], Array]:
    """`next(x)` and `stop(x)`: a node of the same axes."""

    def build(call: syntax.Call, site: Site) -> Array:
        if op == "ahead":
            outside_memory("next", call, site)
        x = array(given(call, site, "x")["x"], site)
        return Array(site.elaborator.node(op, x.node, type=x.node.type), x.hidden, x.vocab)

    return build


def rope(call: syntax.Call, site: Site) -> Array:
    """`rope(x, base, part)`: rotates the halves of the last axis, or of its first `part` entries,
    which are even in number.
    """
    args, elaborator = given(call, site, "x", optional=("base", "part")), site.elaborator
    x = array(args["x"], site)
    base = evaluate(args["base"], site) if "base" in args else Num(1e4, "1e4")
    last = x.seen[-1].size if not x.is_tree and x.seen else 0
    part = last
    if "part" in args:
        part = elaborator.whole(evaluate(args["part"], site), args["part"].span, least=2)
    if last == 0 or part % 2 or part > last:
        elaborator.fail(
            "N204",
            "`rope` turns an even number of entries of the last axis"
            + (f", which has {last}, not {part}" if "part" in args and last else ""),
            args["part" if "part" in args and last else "x"].span,
            help="`rope(linear(x, [head, e]))` with an even `e`, or `rope(x, part = 2)`",
        )
    if not isinstance(base, Num):
        elaborator.fail(
            "N202", "the base of `rope` is a number", args["base"].span, help="`rope(x, 1e4)`"
        )
    node = elaborator.node("rope", x.node, type=x.node.type, base=float(base.value), part=part)
    return Array(node, x.hidden)


def range_(call: syntax.Call, site: Site) -> Items:
    """`range(n)`: the numbers 0 .. n - 1."""
    n = given(call, site, "n")["n"]
    size = site.elaborator.whole(evaluate(n, site), n.span)
    if size > 20_000:
        site.elaborator.fail(
            "N212",
            f"range({size}) has too many iterations",
            n.span,
            help="20,000 at most; a level `every token` goes through tokens by itself",
        )
    return Items(tuple(Num(i, str(i)) for i in range(size)))


def misplaced(where: str, remedy: str) -> Callable[[syntax.Call, Site], Value]:
    """A function that may not stand here; its call is N209 with this remedy."""

    def build(call: syntax.Call, site: Site) -> NoReturn:
        site.elaborator.fail(
            "N209", f"`{name_of(call)}` stands only {where}", call.span, help=remedy
        )

    return build


def load(call: syntax.Call, site: Site) -> Array:
    """`load("file", "theirs" -> ours, ..)` in the start of a memory."""
    if site.scope.start is None:
        site.elaborator.fail(
            "N209",
            "`load` stands only in the start of a memory",
            call.span,
            help="`level frozen never { memory W: [d] = load(..) }`, and a read of `frozen.W`",
        )
    return site.scope.start.loaded(call, site)


PROX = misplaced(
    "as the whole right side of an update",
    "write `M <- prox(M, 0.1)` in the level of the memory, and read `M`",
)
INDEX = misplaced(
    "in the type of an `input`", "write `input ids: index(256)`, and the name of the input here"
)
ARGUMENTS = ("x", "y", "z")
FUNCTIONS |= {row.name: elementwise(row.name) for row in OPS.values() if row.function} | {
    "weight": weight,
    "linear": linear,
    "affine": affine,
    "conv": conv,
    "embed": embed,
    "attend": attention.attend,
    "rope": rope,
    "next": through("ahead"),
    "stop": through("stop"),
    "prox": PROX,
    "sum": windows.reduction("sum"),
    "mean": windows.reduction("mean"),
    "softmax": softmax,
    "max": extreme("max"),
    "min": extreme("min"),
    "where": where,
    "diag": diag,
    "join": join_axes,
    "stack": lambda c, s: stack([array(arg, s) for arg in positional(c, s)], s),
    "flat": flat,
    "matrix": matrix,
    "shaped": shaped,
    "shape": shape,
    "index": INDEX,
    "range": range_,
    "cross_entropy": cross_entropy,
    "load": load,
}
