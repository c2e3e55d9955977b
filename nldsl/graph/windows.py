"""`sum` and `mean`: over all axes, over one axis, or over a stretch of time."""

from __future__ import annotations

from collections.abc import Callable

from nldsl.core.nodes import Stretch
from nldsl.frontend import syntax
from nldsl.graph.clocks import clock_of, stretch_count
from nldsl.graph.evaluate import array, as_array, evaluate, named_axis
from nldsl.graph.scope import Site
from nldsl.graph.values import Array, Hidden


def stretch(over: syntax.Stretch, site: Site) -> Stretch:
    """("since", clock or level) or ("last", number of tokens)."""
    elaborator, unit = site.elaborator, over.clock.text
    if unit == "period":
        level = site.scope.level
        if level is None:
            elaborator.fail(
                "N304",
                "`period` is the stretch since a level's own last tick, and this is not a level",
                over.span,
                help="`over sequence`, over a clock, or `over 16 token`",
            )
        return "since", level.name
    if over.count is not None or unit == "token":
        if unit != "token":
            elaborator.fail(
                "N304",
                f"a sliding window is counted in tokens, not in `{unit}`",
                over.span,
                help=f"`over {unit}` begins after the last tick of `{unit}`",
            )
        return "last", stretch_count(over, site)
    return "since", clock_of(over, site)


def reduction(how: str) -> Callable[[syntax.Call, Site], Array]:
    """`sum(..)` or `mean(..)`, as `how` says."""

    def build(call: syntax.Call, site: Site) -> Array:
        elaborator, arrays = site.elaborator, site.elaborator.arrays
        if len(call.args) == 1 and isinstance(call.args[0], syntax.Window):
            x = as_array(evaluate(call.args[0].value, site), site, call.args[0].span)
            arrays.numbers(x)
            kind, span = stretch(call.args[0].stretch, site)
            op, attr = ("window", "length") if kind == "last" else ("fold", "since")
            level = site.scope.level
            worker = level.worker if level is not None and op == "fold" else None
            if worker is not None and worker not in x.hidden:
                return of_workers(how, x, span, worker, site)
            node = elaborator.node(op, x.node, type=x.node.type, **{"how": how, attr: span})
            return Array(node, x.hidden)
        if not 1 <= len(call.args) <= 2 or any(
            isinstance(arg, syntax.Named | syntax.Window) for arg in call.args
        ):
            elaborator.fail(
                "N107",
                f"`{how}` takes an array and an axis, or `e over` a stretch of time",
                call.span,
                help=f"`{how}(x, d)`, or `{how}(x over period)`",
            )
        x = array(call.args[0], site)
        if len(call.args) == 1:
            return arrays.total(how, x)
        return arrays.along(how, x, named_axis(call.args[1], site))

    return build


def of_workers(how: str, x: Array, span: object, worker: Hidden, site: Site) -> Array:
    """The stretch over the lanes of each worker, whose axis stands in front."""
    shapes, elaborator = site.elaborator.shapes, site.elaborator
    if x.is_tree:
        leaves = [(p, of_workers(how, y, span, worker, site)) for p, y in shapes.leaves(x)]
        return shapes.tree(leaves)
    type_ = (worker.axis, *x.shape)
    node = elaborator.node("fold", x.node, type=type_, how=how, since=span)
    hidden = sorted((worker, *x.hidden), key=lambda h: h.order)
    places = [(worker, *x.hidden).index(h) for h in hidden]
    return Array(shapes.permute(node, [*places, *range(len(places), len(type_))]), tuple(hidden))


def span_of_pairs(over: syntax.Stretch | None, site: Site) -> Stretch | None:
    return None if over is None else stretch(over, site)
