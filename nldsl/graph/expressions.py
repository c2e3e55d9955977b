"""Expressions: each form of the syntax tree to its value.

Arithmetic on numbers is done here, on arrays in arrays.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from nldsl.diagnostic import Edit, counted
from nldsl.frontend import syntax
from nldsl.graph import foreign, parameters
from nldsl.graph.built_in import built_in
from nldsl.graph.builtins import constant
from nldsl.graph.clocks import no_clock
from nldsl.graph.evaluate import (
    array,
    as_array,
    axes_text,
    evaluate,
    field,
    form,
    identity,
    number,
)
from nldsl.graph.scope import Site
from nldsl.graph.values import (
    Array,
    ClockValue,
    Eye,
    Family,
    Items,
    MemoryValue,
    Num,
    Row,
    Text,
    Value,
    kind_of,
    shape_text,
)

LONGEST_TEXT = 80  # of the name that an axis takes from an expression
OPS = {
    "+": "add",
    "-": "sub",
    ".*": "mul",
    "./": "div",
    ".^": "pow",
    "^": "pow",
    "*": "mul",
    "/": "div",
    "<=": "le",
    ">=": "ge",
    "==": "eq",
}


@form.register(syntax.Number)
def literal(expr: syntax.Number, site: Site) -> Num:
    return Num(expr.value, expr.text)


@form.register(syntax.String)
def text(expr: syntax.String, site: Site) -> Text:
    return Text(expr.text)


@form.register(syntax.Name)
def name(expr: syntax.Name, site: Site) -> Value:
    if (known := constant(expr.text, site)) is not None:
        return known
    return site.value(expr)


@form.register(syntax.Binary)
def binary(expr: syntax.Binary, site: Site) -> Value:
    """`a op b`; `|x|^2` is a sum of squares without a root."""
    if expr.op == "^" and isinstance(expr.left, syntax.Norm):
        return power_of_norm(expr, site)
    left, right = evaluate(expr.left, site), evaluate(expr.right, site)
    with site.elaborator.at(expr.span, site.scope.iteration):
        return arithmetic(expr.op, left, right, site, entrywise(expr))


def entrywise(expr: syntax.Binary) -> tuple[Edit, ...]:
    """A dot in front of `*`, `/` or `^`."""
    text = expr.span.source.text
    behind = text[expr.left.span.end : expr.right.span.start]
    if behind.strip(" ()") != expr.op or expr.op not in ("*", "/", "^"):
        return ()
    at = expr.left.span.end + behind.index(expr.op)
    return (Edit(foreign.between(expr.span, at, at + 1), f".{expr.op}"),)


def arithmetic(
    op: str, a: Value, b: Value, site: Site, dotted: tuple[Edit, ...] = ()
) -> Num | Eye | Row | Array:
    """An operator on two values: numbers before the run, `I`, rows `v^T`, arrays. `dotted` are the
    edits that write it entry by entry.
    """
    elaborator, arrays = site.elaborator, site.elaborator.arrays
    if isinstance(a, Num) and isinstance(b, Num):
        return count(op, a, b, site)
    if isinstance(a, Eye) or isinstance(b, Eye):
        return with_identity(op, a, b, site)
    if op == "*" and isinstance(b, Row):
        return times_row(a, b, site)
    if op == "*" and isinstance(a, Row):
        v = as_array(b, site)
        if v.is_scalar:
            return Row(arrays.binary("mul", a.array, v))
        elaborator.fail(
            "N204",
            "a row cannot stand on the left of `*`",
            help="`<u, v>` is the inner product, `sum(v .* b, n)` a sum over one axis",
        )
    x, y = as_array(a, site), as_array(b, site)
    if isinstance(a, Items) and isinstance(b, Items):
        alike_long(op, x, y, site)
    if op == "*":
        return product(x, y, site, dotted)
    if op == "/" and not y.is_scalar:
        elaborator.fail(
            "N204",
            f"`/` divides by a number, the right side has {axes_text(y)}",
            help="`./` divides entry by entry",
            fix=dotted,
        )
    if op == "^" and not x.is_scalar:
        elaborator.fail(
            "N204",
            f"`^` is for numbers, the left side has {axes_text(x)}",
            help="`.^` takes the power of each entry",
            fix=dotted,
        )
    return arrays.binary(OPS[op], x, y)


def alike_long(op: str, x: Array, y: Array, site: Site) -> None:
    """Two lists meet entry by entry; of other lengths a table of all pairs would come of them."""
    if x.is_tree or y.is_tree or len(x.seen) != 1 or len(y.seen) != 1:
        return
    if x.seen[0].size != y.seen[0].size:
        site.elaborator.fail(
            "N204",
            f"a list of {x.seen[0].size} and a list of {y.seen[0].size}: `{op}` takes them entry "
            "by entry",
            help="`join(a, b)` is one list behind the other"
            if op == "+"
            else "lists of one length",
        )


def times_row(a: Value, row: Row, site: Site) -> Array | Row:
    """`u * v^T`, an outer product; `s * v^T` of a number s is a row."""
    elaborator, arrays = site.elaborator, site.elaborator.arrays
    if isinstance(a, Row):
        elaborator.fail(
            "N204",
            "two rows have no product",
            help="`u * v^T` is the outer product, `<u, v>` the inner one",
        )
    u = as_array(a, site)
    if u.is_scalar:
        return Row(arrays.binary("mul", u, row.array))
    if u.is_tree or len(u.seen) != 1:
        elaborator.fail(
            "N204",
            "`* v^T` needs one axis on its left: the outer product `u * v^T`",
            help="`*` without `^T`, or `.*`",
        )
    return arrays.outer(u, row.array)


def product(x: Array, y: Array, site: Site, dotted: tuple[Edit, ...] = ()) -> Array:
    """`a * b` of arrays: a number times anything, a product over the axis that both have; of trees,
    leaf by leaf.
    """
    arrays = site.elaborator.arrays
    shapes = arrays.shapes
    if x.is_scalar or y.is_scalar:
        return arrays.binary("mul", x, y)
    if x.is_tree or y.is_tree:
        left = shapes.leaves(x) if x.is_tree else [(path, x) for path in y.node.tree.paths()]
        right = shapes.leaves(y) if y.is_tree else [(path, y) for path in x.node.tree.paths()]
        if [p for p, _ in left] != [p for p, _ in right]:
            site.elaborator.fail(
                "N203",
                "two trees with different weights",
                help="trees with the weights of one def; `M.W` is one array of a tree",
            )
        return shapes.tree(
            [(path, product(a, b, site)) for (path, a), (_, b) in zip(left, right, strict=True)]
        )
    if len(x.seen) == 1:
        site.elaborator.fail(
            "N204",
            f"{shape_text(x.seen)} * {shape_text(y.seen)}: an array of one axis has no product `*`",
            help="`.*` for entries, `<v, b>` for their sum, `u * v^T` for the outer product",
            fix=dotted if x.seen == y.seen else (),
        )
    return arrays.matmul(x, y)


def count(op: str, a: Num, b: Num, site: Site) -> Num:
    """Arithmetic before the run. Whole numbers stay whole where they can."""
    try:
        if op in ("/", "./"):
            exact = (
                isinstance(a.value, int)
                and isinstance(b.value, int)
                and b.value != 0
                and a.value % b.value == 0
            )
            value = a.value // b.value if exact else a.value / b.value
        elif op in ("^", ".^"):
            if abs(b.value) > 1024:
                raise OverflowError
            value = a.value**b.value
        else:
            combine: dict[str, Callable[[float, float], float]] = {
                "+": lambda x, y: x + y,
                "-": lambda x, y: x - y,
                "*": lambda x, y: x * y,
                ".*": lambda x, y: x * y,
                "<=": lambda x, y: int(x <= y),
                ">=": lambda x, y: int(x >= y),
                "==": lambda x, y: int(x == y),
            }
            value = combine[op](a.value, b.value)
        if isinstance(value, complex) or not math.isfinite(value):
            raise OverflowError
    except (ArithmeticError, ValueError):
        site.elaborator.fail(
            "N211",
            f"`{a.text} {op} {b.text}` has no finite value",
            help="other numbers: a constant is worked out before the run",
        )
    text = f"{a.tight if op not in '+-' else a.text} {op} {b.tight}"
    return Num(value, text if len(text) <= LONGEST_TEXT else f"{value:g}")


def factor(op: str, a: Num | Array, b: Value, site: Site) -> Num | Array:
    """Arithmetic on the factor of `I`."""
    found = arithmetic(op, a, b, site)
    assert isinstance(found, Num | Array)
    return found


def with_identity(op: str, a: Value, b: Value, site: Site) -> Num | Eye | Row | Array:
    """An operation of which one side is `c * I`, or both are."""
    arrays = site.elaborator.arrays
    eye, other = (a, b) if isinstance(a, Eye) else (b, a)
    assert isinstance(eye, Eye)
    if isinstance(other, Eye):
        if op in ("+", "-", "*", ".*"):
            return Eye(factor("*" if op == ".*" else op, eye.factor, other.factor, site))
    elif op in ("*", "/"):
        scalar = isinstance(other, Num) or as_array(other, site).is_scalar
        if scalar and (op == "*" or eye is a):
            return Eye(factor(op, eye.factor, other, site))
        if op == "*":
            return arithmetic("*", eye.factor, other, site)
    elif op in ("+", "-", ".*"):
        matrix = as_array(other, site)
        full = identity(eye, matrix, site)
        x, y = (full, matrix) if eye is a else (matrix, full)
        return arrays.binary(OPS[op], x, y)
    site.elaborator.fail(
        "N204", f"`I` cannot stand beside `{op}` here", help="`x * I`, `A + x * I` or `I .* A`"
    )


@form.register(syntax.Unary)
def unary(expr: syntax.Unary, site: Site) -> Value:
    """`-a`, `+a`"""
    value = evaluate(expr.operand, site)
    if expr.op == "+":
        return value
    if isinstance(value, Num):
        return Num(-value.value, f"-{value.tight}")
    if isinstance(value, Eye):
        return Eye(factor("-", Num(0, "0"), value.factor, site))
    negative = site.elaborator.arrays.unary("neg", as_array(value, site))
    return Row(negative) if isinstance(value, Row) else negative


def order(norm: syntax.Norm, site: Site) -> Num:
    return Num(2, "2") if norm.order is None else number(norm.order, site)


def sum_of_powers(norm: syntax.Norm, p: Num, site: Site) -> Array:
    """|a|_p^p, over all visible axes and leaves."""
    arrays, value = site.elaborator.arrays, array(norm.value, site)
    shapes = arrays.shapes
    if p.value == 2:
        return arrays.inner(value, value)
    size = arrays.unary("abs", value)
    return arrays.total(
        "sum", size if p.value == 1 else arrays.binary("pow", size, shapes.const(p.value))
    )


@form.register(syntax.Norm)
def norm(expr: syntax.Norm, site: Site) -> Array:
    """`|a|_p`, over all visible axes and leaves."""
    p, arrays = order(expr, site), site.elaborator.arrays
    shapes = arrays.shapes
    if p.value <= 0:
        site.elaborator.fail(
            "N211",
            f"the order of a norm is above 0, not {p.value:g}",
            expr.span,
            help="2 for the length, 1 for the sum of sizes",
        )
    powers = sum_of_powers(expr, p, site)
    if p.value == 1:
        return powers
    return (
        arrays.unary("sqrt", powers)
        if p.value == 2
        else arrays.binary("pow", powers, shapes.const(1 / p.value))
    )


def power_of_norm(expr: syntax.Binary, site: Site) -> Value:
    """`|x|^2` is `<x, x>`, and `|x|_p ^ p` has no root either."""
    size = expr.left
    assert isinstance(size, syntax.Norm)
    exponent, p = evaluate(expr.right, site), order(size, site)
    if isinstance(exponent, Num) and exponent.value == p.value and p.value > 0:
        return sum_of_powers(size, p, site)
    return arithmetic("^", evaluate(size, site), exponent, site)


@form.register(syntax.Inner)
def inner(expr: syntax.Inner, site: Site) -> Array:
    return site.elaborator.arrays.inner(array(expr.left, site), array(expr.right, site))


@form.register(syntax.Transpose)
def transpose(expr: syntax.Transpose, site: Site) -> Value:
    value = evaluate(expr.value, site)
    if isinstance(value, Row):
        return value.array
    return value if isinstance(value, Eye) else transposed(as_array(value, site), site)


def transposed(value: Array, site: Site) -> Array | Row:
    """The last two axes exchanged; of one axis a row, of a tree leaf by leaf."""
    shapes = site.elaborator.shapes
    if value.is_tree:
        leaves = [(path, transposed(leaf, site)) for path, leaf in shapes.leaves(value)]
        matrices = [(path, leaf) for path, leaf in leaves if isinstance(leaf, Array)]
        if len(matrices) < len(leaves):
            site.elaborator.fail(
                "N205",
                "a leaf of this tree is not a matrix",
                help="pass it to a def with `[a, b]`, which sees one matrix at a time",
            )
        return shapes.tree(matrices)
    if not value.seen:
        return value
    if len(value.seen) == 1:
        return Row(value)
    n = len(value.shape)
    return Array(shapes.permute(value.node, [*range(n - 2), n - 1, n - 2]), value.hidden)


@form.register(syntax.Index)
def index(expr: syntax.Index, site: Site) -> Value:
    """`a[i]`: a member of a family, an item of a list, or a place of the first axis, said by a
    number or by a stream of `index(n)`.
    """
    elaborator, value = site.elaborator, evaluate(expr.value, site)
    where = evaluate(expr.index, site)
    if isinstance(value, Array | MemoryValue | Items) and not isinstance(where, Num):
        return parameters.gather(as_array(value, site), as_array(where, site), site)
    i = elaborator.whole(where, expr.index.span) if not isinstance(value, Family) else 0
    if isinstance(value, Family):
        if not isinstance(where, Num) or where.value not in value.members:
            said = ", ".join(f"{member:g}" for member in value.members)
            elaborator.fail(
                "N101",
                f"`{value.name}` has no such member",
                expr.index.span,
                help=f"there are {said}",
            )
        return value.members[where.value]
    if isinstance(value, Items) and value.paths is None:
        within(i, len(value.items), "the list", expr, site)
        return value.items[i]
    whole = as_array(value, site)
    if whole.is_tree or not whole.seen:
        elaborator.fail(
            "N204",
            f"`[..]` takes the first axis, and {axes_text(whole)} has none",
            expr.span,
            help="an array with an axis",
        )
    within(i, whole.seen[0].size, f"axis `{whole.seen[0].name}`", expr, site)
    dim = len(whole.hidden)
    type_ = whole.shape[:dim] + whole.shape[dim + 1 :]
    return Array(elaborator.node("select", whole.node, type=type_, dim=dim, index=i), whole.hidden)


def within(i: int, count: int, what: str, expr: syntax.Index, site: Site) -> None:
    """N211 for an entry that is not there."""
    if i >= count:
        site.elaborator.fail(
            "N211",
            f"{what} has {counted(count, 'entry', 'entries')}, there is no [{i}]",
            expr.index.span,
            help=f"from 0 to {count - 1}" if count else "an entry to pick",
        )


@form.register(syntax.Field)
def part_of(expr: syntax.Field, site: Site) -> Value:
    return field(evaluate(expr.value, site), expr, site)


@field.register(Array)
@field.register(Num)
@field.register(Row)
@field.register(Eye)
@field.register(Items)
def leaf(value: Array | Num | Row | Eye | Items, expr: syntax.Field, site: Site) -> Array:
    with site.elaborator.at(expr.name.span, site.scope.iteration):
        found = site.elaborator.shapes.field(
            as_array(value, site), expr.name.text, foreign.member(expr, built_in())
        )
    site.elaborator.heard(expr.name.span, found)
    return found


@form.register(syntax.Instant)
def instant(expr: syntax.Instant, site: Site) -> MemoryValue | Array:
    """`M@after`, `M@c`, `x@c`"""
    elaborator, value = site.elaborator, evaluate(expr.value, site)
    if expr.clock.text == "after":
        if not isinstance(value, MemoryValue) or value.version is not None:
            elaborator.fail(
                "N203",
                "`@after` reads a memory from outside its level",
                expr.span,
                help="inside its level the name alone is the value that was made above",
            )
        return replace(value, at="after")
    clock = clock_at(expr, site)
    if isinstance(value, MemoryValue):
        return replace(value, at=clock.clock)
    stream = as_array(value, site)
    return replace(
        stream,
        node=elaborator.node("held_stream", stream.node, type=stream.node.type, clock=clock.clock),
    )


def clock_at(expr: syntax.Instant, site: Site) -> ClockValue:
    """The clock behind `@`. A value there means the matrix product of Python, and a unit of time is
    not a name: both are findings.
    """
    elaborator, name = site.elaborator, expr.clock
    if name.text in syntax.UNITS:
        elaborator.fail(
            "N303",
            f"`@` takes a clock with a name, `{name.text}` is a unit of time",
            name.span,
            fix=foreign.clock_with_a_name(name),
            help="a memory without `@` is the value before the tick, with `@after` the one after "
            "it; for another instant write "
            f"`clock each_{name.text} = 1 {name.text}`, and `M@each_{name.text}`",
        )
    if name.text not in built_in():
        if site.scope.find(name.text) is None:
            if near := foreign.instant(name):
                elaborator.fail("N101", f"there is no clock `{name.text}` here", name.span, **near)
            no_clock(name, site, ["after"])
        clock = evaluate(name, site)
        if isinstance(clock, ClockValue):
            return clock
        what = f"`{name.text}` is {kind_of(clock)}"
    else:
        what = f"`{name.text}` is a function"
    text = name.span.source.text
    at = text.rfind("@", 0, name.span.start)
    before = len(text[:at].rstrip(" "))
    elaborator.fail(
        "N202",
        f"`@` names a clock, {what}",
        foreign.between(name.span, at, name.span.end),
        help="write `*` for the product of a matrix: `W * x`",
        fix=(Edit(foreign.between(name.span, before, name.span.start), " * "),),
    )


@form.register(syntax.List)
def literal_list(expr: syntax.List, site: Site) -> Items:
    return Items(tuple(evaluate(item, site) for item in expr.items))


@form.register(syntax.Pair)
def pair(expr: syntax.Pair, site: Site) -> NoReturn:
    site.elaborator.fail(
        "N203",
        "a pair `a -> b` stands among the arguments of `attend` or `load`",
        expr.span,
        help="`attend(q, k -> v)`",
    )


@form.register(syntax.Named)
@form.register(syntax.Window)
def misplaced(expr: syntax.Named | syntax.Window, site: Site) -> NoReturn:
    site.elaborator.fail(
        "N107",
        "this argument stands by itself, without a name and without `over`",
        expr.span,
        help="the value alone",
    )
