"""`prox(P, eta)`: argmin over W of E(W) + |W - P|^2 / (2 eta), where it has a closed form.

    E = c |W k - v|^2   ->   P - eta / (1 + 2 c eta |k|^2) grad(P)          (Sherman-Morrison)
    E = c |W - v|^2     ->   P - eta / (1 + 2 c eta) grad(P)                (entry by entry)
    E = sum over a stretch of c |W k - v|^2   ->   P - grad(P) (sum of 2 c k k^T + I / eta)^-1

All are a gradient step, with another rate or a matrix for it, so every later stage sees an equation
that it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from nldsl.diagnostic import Edit
from nldsl.frontend import syntax
from nldsl.graph.evaluate import array, as_array, evaluate
from nldsl.graph.quadratic import Quadratic, quadratic
from nldsl.graph.scope import Site
from nldsl.graph.values import Array

if TYPE_CHECKING:
    from nldsl.core.nodes import Node
    from nldsl.graph.elaborator import Elaborator
    from nldsl.graph.memories import MemoryInstance


def plain(call: syntax.Call) -> list[syntax.Expr]:
    """The arguments without a name and without a stretch."""
    return [arg for arg in call.args if not isinstance(arg, syntax.Named | syntax.Window)]


def closed_form(memory: MemoryInstance, text: syntax.Update, site: Site) -> Array:
    """`M <- prox(P, eta)` as an equation. Fails with N506 where the objective is not a square of
    one key.
    """
    elaborator, call = memory.elaborator, text.value
    assert isinstance(call, syntax.Call)
    arrays, args = elaborator.arrays, plain(call)
    if len(text.place.names) != 1 or len(call.args) != 2 or len(args) != 2:
        elaborator.fail(
            "N107",
            "`prox(P, eta)` takes the place to start from and a rate, as the whole right side of "
            "`M <-`",
            call.span,
            help="`M <- prox(M, eta)`",
        )
    objective = memory.level.objective(site.place)
    if objective is None:
        elaborator.fail(
            "N501",
            "`prox` reads the objective last above it, and there is no `minimize` above",
            call.span,
            help="`minimize ..` above this line",
        )
    goal, place = objective.force(), evaluate(args[0], site)
    found = quadratic(goal.node, memory.name)
    if found is None or found.several:
        without_form(memory, text, args, site)
    eta = array(args[1], site)
    if not eta.is_scalar:
        elaborator.fail(
            "N204",
            "the rate of `prox` is one number",
            args[1].span,
            help="`M <- prox(M, mean(eta))`",
        )
    with elaborator.at(call.span, site.scope.iteration):
        own = memory.conform(as_array(place, site, args[0].span), f"`{text.place}`")
        hidden = memory.type.force().hidden
        context = memory.level.context_nodes.force() if memory.level.contexts else ()
        slope = elaborator.node(
            "grad", goal.node, own, type=own.type, memory=memory.name, context=context
        )
        moved = by_curvature(found, Array(slope, hidden), eta, elaborator)
        return arrays.binary("sub", Array(own, hidden), moved)


def without_form(
    memory: MemoryInstance, text: syntax.Update, args: Sequence[syntax.Expr], site: Site
) -> NoReturn:
    said = next(
        o.objective for place, _, o in reversed(memory.level.objectives) if place < site.place
    )
    step = f"{args[0].span.text()} - {rate_text(args[1])} * grad({text.place})"
    memory.elaborator.fail(
        "N506",
        f"`{' '.join(said.span.text().split())}` is not a square of one key in `{text.place}`: "
        "it has no closed form here",
        text.value.span,
        help=f"a gradient step: `{text.place} <- {step}`",
        notes=[("the objective", said.span)],
        fix=(Edit(text.value.span, step),),
    )


def by_curvature(found: Quadratic, slope: Array, eta: Array, elaborator: Elaborator) -> Array:
    """The step of the closed form: the slope divided by 1/eta + the curvature along the key."""
    arrays, hidden = elaborator.arrays, slope.hidden
    shapes = arrays.shapes
    curve = shapes.const(2 * found.factor)
    key = None if found.key is None else Array(found.key, hidden[: len(found.key.shape) - 1])
    if key is not None and found.stretch is not None:
        return solved(slope, curvature(found.stretch, curve, key, elaborator), eta, elaborator)
    if key is not None:
        curve = arrays.binary("mul", curve, arrays.inner(key, key))
    rate = arrays.binary(
        "div", eta, arrays.binary("add", shapes.const(1), arrays.binary("mul", eta, curve))
    )
    return arrays.binary("mul", rate, slope)


def rate_text(rate: syntax.Expr) -> str:
    return (
        f"({rate.span.text()})"
        if isinstance(rate, syntax.Binary) and rate.op in ("+", "-", "<=", ">=", "==")
        else rate.span.text()
    )


def curvature(stretch: Node, curve: Array, key: Array, elaborator: Elaborator) -> Array:
    """The sum of 2 c k k^T over the stretch."""
    pair = elaborator.arrays.binary("mul", curve, elaborator.arrays.outer(key, key))
    return Array(
        elaborator.node(stretch.op, pair.node, type=pair.node.type, **dict(stretch.attrs)),
        pair.hidden,
    )


def solved(slope: Array, curve: Array, eta: Array, elaborator: Elaborator) -> Array:
    """slope (curve + I / eta)^-1"""
    arrays = elaborator.arrays
    shapes = arrays.shapes
    unit = Array(elaborator.node("eye", type=curve.seen))
    matrix = arrays.binary(
        "add", curve, arrays.binary("mul", arrays.binary("div", shapes.const(1), eta), unit)
    )
    full = shapes.expand(matrix, slope.hidden, matrix.seen)
    return Array(elaborator.node("solve", slope.node, full, type=slope.node.type), slope.hidden)
