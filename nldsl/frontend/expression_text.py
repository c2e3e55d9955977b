"""An expression, type or stretch of time as text, with the parentheses that it needs and no others.

Diagnostics and reports print expressions with this; `unparse` prints files.
"""

from __future__ import annotations

from nldsl.frontend.syntax import (
    Arg,
    Binary,
    Call,
    Expr,
    Field,
    Index,
    Inner,
    Instant,
    Like,
    List,
    Name,
    Named,
    Norm,
    Number,
    Pair,
    Shape,
    Stretch,
    String,
    Transpose,
    Type,
    Unary,
    Weights,
    Window,
)

# How tightly the rules of the grammar bind: a looser expression inside a tighter place gets
# parentheses.
PAIR, COMPARE, SUM, TERM, UNARY, POWER, POSTFIX = range(7)
OPERATORS = {
    **dict.fromkeys(
        ("<=", ">=", "=="), (COMPARE, SUM, SUM)
    ),  # itself, its left side, its right side
    **dict.fromkeys(("+", "-"), (SUM, SUM, TERM)),
    **dict.fromkeys(("*", "/", ".*", "./"), (TERM, TERM, UNARY)),
    **dict.fromkeys(("^", ".^"), (POWER, POSTFIX, UNARY)),
}


def expression(node: Expr, place: int = PAIR) -> str:
    binds, text = _expression(node)
    return text if binds >= place else f"({text})"


def _expression(node: Expr) -> tuple[int, str]:
    match node:
        case Name(text) | Number(text):
            return POSTFIX, text
        case String(text):
            return POSTFIX, f'"{text}"'
        case Binary(op, left, right):
            binds, left_place, right_place = OPERATORS[op]
            tight = (
                op == "^"
                and isinstance(right, Number)
                and not (isinstance(left, Norm) and left.order)
            )
            space = "" if tight else " "  # never `x^T`, which transposes
            return (
                binds,
                f"{expression(left, left_place)}{space}{op}{space}{expression(right, right_place)}",
            )
        case Unary(op, operand):
            return UNARY, f"{op}{expression(operand, UNARY)}"
        case Pair(key, value):
            return PAIR, f"{expression(key, COMPARE)} -> {expression(value, COMPARE)}"
        case Field(value, name):
            base = f"({value.text})" if isinstance(value, Number) else expression(value, POSTFIX)
            return POSTFIX, f"{base}.{name}"
        case Instant(value, clock):
            return POSTFIX, f"{expression(value, POSTFIX)}@{clock}"
        case Call(callee, args):
            return POSTFIX, f"{expression(callee, POSTFIX)}({arguments(args)})"
        case Index(value, index):
            return POSTFIX, f"{expression(value, POSTFIX)}[{expression(index)}]"
        case Transpose(value):
            return POSTFIX, f"{expression(value, POSTFIX)}^T"
        case List(items):
            return POSTFIX, f"[{', '.join(map(expression, items))}]"
        case Norm(value, order):
            return POSTFIX, f"|{expression(value, SUM)}|{f'_{order.text}' if order else ''}"
        case Inner(left, right):
            return POSTFIX, f"<{expression(left, SUM)}, {expression(right, SUM)}>"
    raise TypeError(f"{type(node).__name__} is not an expression")


def arguments(args: tuple[Arg, ...]) -> str:
    return ", ".join(map(argument, args))


def argument(arg: Arg) -> str:
    match arg:
        case Named(name, value):
            return f"{name} = {expression(value)}"
        case Window(value, over):
            return f"{expression(value)} over {stretch(over)}"
    return expression(arg)


def stretch(node: Stretch) -> str:
    return f"{node.count.text} {node.clock}" if node.count else str(node.clock)


def type_(node: Type) -> str:
    match node:
        case Shape(axes):
            return f"[{', '.join(expression(axis, SUM) for axis in axes)}]"
        case Like(name):
            return f"like {name}"
        case Weights(of, shape):
            return (
                "weights"
                + (f" of {expression(of)}" if of else "")
                + (f" {type_(shape)}" if shape else "")
            )
    return str(node.place) if node.args is None else f"{node.place}({arguments(node.args)})"
