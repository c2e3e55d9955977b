"""The built-ins that make weights:

`weight linear affine conv embed`. Their names are those of `names.py`.
"""

from __future__ import annotations

import math

from nldsl.core.nodes import Shape, numel
from nldsl.core.program import Fill
from nldsl.frontend import syntax
from nldsl.graph.arguments import given, outside_memory
from nldsl.graph.built_in import name_of
from nldsl.graph.elaborator import LEAF
from nldsl.graph.evaluate import array, axis_of, evaluate
from nldsl.graph.names import join
from nldsl.graph.scope import Site
from nldsl.graph.values import Array, Items, Num, Value, kind_of, shape_text
from nldsl.source import Span

EMBED_SCALE = 0.02


def axes_of(expr: syntax.Expr, site: Site) -> Shape:
    """A list of sizes: `[head, e]`, `shape(x)`."""
    value = evaluate(expr, site)
    if not isinstance(value, Items) or value.paths is not None:
        site.elaborator.fail(
            "N202",
            f"a list of axes such as `[head, e]` is needed here, this is {kind_of(value)}",
            expr.span,
            help="`[d]`, `[head, e]`, or `shape(x)`",
        )
    spans = (
        [item.span for item in expr.items]
        if isinstance(expr, syntax.List)
        else [expr.span] * len(value.items)
    )
    return tuple(
        site.elaborator.axis(size, span) for size, span in zip(value.items, spans, strict=True)
    )


def component(call: syntax.Call, site: Site) -> str:
    """The name of the weight that a call makes."""
    return join(site.scope.path, site.scope.components.get(id(call), name_of(call)))


def weight(call: syntax.Call, site: Site) -> Array:
    """`weight([d], init = 0)`: a parameter, N(0, 1 / last axis) or filled."""
    args = given(call, site, "shape", optional=("init",))
    shape = axes_of(args["shape"], site)
    if "init" not in args:
        return site.scope.weights(
            site,
            component(call, site),
            shape,
            "normal",
            1 / math.sqrt(shape[-1].size if shape else 1),
            0.0,
        )
    fill = plain(evaluate(args["init"], site), site, args["init"].span)
    if isinstance(fill, list) and (len(shape) == 0 or len(fill) != shape[0].size):
        site.elaborator.fail(
            "N204",
            f"the list has {len(fill)} entries, the weight {shape_text(shape)}",
            args["init"].span,
            help="a number for each entry of the first axis, or one for all",
        )
    return site.scope.weights(site, component(call, site), shape, "fill", 0.0, fill)


def plain(value: Value, site: Site, span: Span) -> Fill:
    """A number or nested list of numbers as Python has them. Fails with N202."""
    if isinstance(value, Num):
        return float(value.value)
    if isinstance(value, Items) and value.paths is None:
        return [plain(item, site, span) for item in value.items]
    site.elaborator.fail(
        "N202",
        f"a number or a list of numbers is needed here, this is {kind_of(value)}",
        span,
        help="`weight([n], init = 0.5)`, or a number for each entry",
    )


def linear(call: syntax.Call, site: Site, name: str = "") -> Array:
    """`linear(x, [out])`: W [out, in] x over all visible axes of x; W is N(0, 1 / in)."""
    args = given(call, site, "x", "out")
    x, out, elaborator = array(args["x"], site), axes_of(args["out"], site), site.elaborator
    if x.is_tree:
        elaborator.fail(
            "N203", "`linear` takes an array, this is a tree", args["x"].span, help=LEAF
        )
    inputs = x.seen
    w = site.scope.weights(
        site, component(call, site), (*out, *inputs), "normal", 1 / math.sqrt(numel(inputs)), 0.0
    )
    n, m = len(out), len(inputs)
    return elaborator.arrays.einsum(w, x, range(n + m), range(n, n + m), range(n), out)


def affine(call: syntax.Call, site: Site) -> Array:
    """`affine(x, [out])`: `linear` and a bias [out] that starts at 0."""
    y = linear(call, site)
    return site.elaborator.arrays.binary(
        "add",
        y,
        site.scope.weights(site, component(call, site) + ".bias", y.seen, "fill", 0.0, 0.0),
    )


def conv(call: syntax.Call, site: Site) -> Array:
    """`conv(x, n)`: a causal convolution over n tokens; the kernel [n, ..] has a number for each of
    them and each entry of x.
    """
    args, elaborator = given(call, site, "x", "n"), site.elaborator
    outside_memory("conv", call, site)
    x, n = array(args["x"], site), axis_of(args["n"], site)
    if x.is_tree:
        elaborator.fail("N203", "`conv` takes an array, this is a tree", args["x"].span, help=LEAF)
    kernel = site.scope.weights(
        site, component(call, site), (n, *x.seen), "normal", 1 / math.sqrt(n.size), 0.0
    )
    k = len(x.hidden)
    node = elaborator.shapes.spread(
        kernel.node, (n, *x.shape), (0, *range(1 + k, 1 + len(x.shape)))
    )
    return Array(elaborator.node("conv", x.node, node, type=x.node.type), x.hidden)


def embed(call: syntax.Call, site: Site) -> Array:
    """`embed(ids, [d])`: a row of a table [vocab, d]."""
    args = given(call, site, "ids", "out")
    ids, out = array(args["ids"], site), axes_of(args["out"], site)
    if ids.vocab is None:
        site.elaborator.fail(
            "N203",
            "`embed` takes a stream of `index(n)`",
            args["ids"].span,
            help="`embed(ids, [d])` with `input ids: index(n)`; `linear(x, [d])` of numbers",
        )
    vocab = site.elaborator.axis(ids.vocab, args["ids"].span)
    table = site.scope.weights(
        site, component(call, site), (vocab, *out), "normal", EMBED_SCALE, 0.0
    )
    return gather(table, ids, site)


def gather(table: Array, ids: Array, site: Site) -> Array:
    """The entry of the first axis at a place that the data says; of a table of weights, a row."""
    if ids.vocab is None:
        site.elaborator.fail(
            "N203",
            "an entry is picked by a number or a stream of `index(n)`",
            help="`x[0]`, or `x[ids]` with `input ids: index(n)`",
        )
    if table.is_tree or not table.seen:
        said = "a tree of weights" if table.is_tree else "one number"
        site.elaborator.fail(
            "N204", f"an entry is picked from an array with an axis, this is {said}", help=LEAF
        )
    first = len(table.hidden)
    if table.seen[0].size != ids.vocab.value:
        site.elaborator.fail(
            "N204",
            f"axis `{table.seen[0].name}` has {table.seen[0].size} entries, the stream is "
            f"`index({ids.vocab.text})`",
            help="the two are one number: then no place is outside the axis",
        )
    order = [first, *range(first), *range(first + 1, len(table.shape))]
    node = site.elaborator.shapes.permute(table.node, order)
    return Array(site.elaborator.node("gather", node, ids.node, type=node.shape[1:]), table.hidden)
