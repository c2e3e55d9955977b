"""Evaluates expressions: dispatches on the class of the syntax, and on the kind of value.

The files that work a form out import this one; nothing here imports them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

from nldsl.core.nodes import Axis
from nldsl.frontend import syntax
from nldsl.graph.elaborator import KNOWN, Poisoned
from nldsl.graph.scope import Place, Scope, Site
from nldsl.graph.values import Array, Eye, Family, Num, Row, Value, kind_of, shape_text
from nldsl.source import Span


def evaluate(expr: syntax.Syntax, site: Site) -> Value:
    """The value of an expression. Raises Poisoned if a finding stands in its way."""
    with site.elaborator.at(expr.span, site.scope.iteration):
        return form(expr, site)


@singledispatch
def form(expr: syntax.Syntax, site: Site) -> Value:
    raise TypeError(f"{type(expr).__name__} is not an expression")


@singledispatch
def called(value: Value, call: syntax.Call, site: Site) -> Value:
    """The result of a call whose callee is this value."""
    site.elaborator.fail(
        "N202",
        f"{kind_of(value)} cannot be called",
        call.callee.span,
        help="a def, a memory of one, or a function is called; `a * b` is a product",
    )


@singledispatch
def field(value: Value, expr: syntax.Field, site: Site) -> Value:
    """`value.name`. Fails with N202 of a value without parts."""
    said = expr.value.span.text()
    site.elaborator.fail(
        "N202",
        f"`{said}` is {kind_of(value)}, which has no parts",
        expr.span,
        help=f"`{said}[i].{expr.name}` is of the member i" if isinstance(value, Family) else "",
    )


# ---- as an array


@singledispatch
def as_array(value: Value, site: Site, span: Span | None = None) -> Array:
    """A memory is read here, a number becomes a constant, a list an array."""
    site.elaborator.fail(
        "N202",
        f"an array is needed here, this is {kind_of(value)}",
        span,
        help="a stream, a number, a list of them, or a memory: `recall.M` of a level",
    )


@as_array.register(Array)
def _array(value: Array, site: Site, span: Span | None = None) -> Array:
    return value


@as_array.register(Num)
def _number(value: Num, site: Site, span: Span | None = None) -> Array:
    return site.elaborator.shapes.const(value.value)


@as_array.register(Row)
def _row(value: Row, site: Site, span: Span | None = None) -> Array:
    return value.array


@as_array.register(Eye)
def _eye(value: Eye, site: Site, span: Span | None = None) -> Array:
    site.elaborator.fail(
        "N204",
        "the size of `I` is that of the square matrix beside it, and there is none",
        span,
        help="`A + x * I` with a matrix `A`, or `diag(x)` of a vector",
    )


def array(expr: syntax.Syntax, site: Site) -> Array:
    """The value of an expression as an array."""
    return as_array(evaluate(expr, site), site, expr.span)


def number(expr: syntax.Syntax, site: Site) -> Num:
    """The value of an expression, known before the run."""
    value = evaluate(expr, site)
    if not isinstance(value, Num):
        site.elaborator.fail(
            "N202",
            f"a number known before the run is needed here, this is {kind_of(value)}",
            expr.span,
            help=KNOWN,
        )
    return value


def axis_of(expr: syntax.Syntax, site: Site) -> Axis:
    """The axis whose size an expression says."""
    return site.elaborator.axis(evaluate(expr, site), expr.span)


def named_axis(expr: syntax.Syntax, site: Site) -> Axis:
    """The axis of an array that an argument names; no array has the one that -1 or 0 would be."""
    value = evaluate(expr, site)
    if isinstance(value, Num) and value.value < 1:
        return Axis(value.text, 0)
    return site.elaborator.axis(value, expr.span)


def axes_text(value: Array) -> str:
    """For messages: the axes that the text sees."""
    return "a tree of weights" if value.is_tree else shape_text(value.seen)


def identity(eye: Eye, beside: Array, site: Site) -> Array:
    """`c * I` of the size of the matrix beside it."""
    arrays = site.elaborator.arrays
    shapes = arrays.shapes
    if beside.is_tree or len(beside.seen) < 2 or beside.seen[-1].size != beside.seen[-2].size:
        site.elaborator.fail(
            "N204",
            f"`I` stands beside {axes_text(beside)}, which is not a square matrix",
            help="`A + x * I` with a square matrix `A`, or `diag(x)`",
        )
    last = len(beside.shape) - 1
    plain = site.elaborator.node("eye", type=beside.shape[-2:])
    full = Array(shapes.spread(plain, beside.shape, (last - 1, last)), beside.hidden)
    return arrays.binary("mul", as_array(eye.factor, site), full)


# ---- blocks


@singledispatch
def declare(statement: syntax.Syntax, site: Site) -> None:
    """Make the names of a statement known, so that all of its block may read them."""


@singledispatch
def make(statement: syntax.Syntax, site: Site) -> None:
    """Elaborates a statement, in textual order."""


def instantiate(statements: Sequence[syntax.Syntax], scope: Scope, place: Place = ()) -> None:
    """Make everything that a block says; nothing is worked out but the lists of loops, clocks and
    axes.
    """
    elaborator = scope.elaborator
    for i, statement in enumerate(statements):
        declare(statement, Site(scope, (*place, i)))
    scope.components.update(elaborator.naming.components(statements, scope))
    for i, statement in enumerate(statements):
        try:
            with elaborator.at(statement.span, scope.iteration):
                make(statement, Site(scope, (*place, i)))
        except Poisoned:
            pass
