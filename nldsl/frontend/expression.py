"""The pieces of the syntax tree inside statements: expressions, stretches of time, types.

`syntax` has the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nldsl.source import Span

UNITS = ("token", "step", "update", "sequence", "document")


@dataclass(frozen=True)
class Syntax:
    """Any piece of a program. `span` comes last in every constructor."""

    if TYPE_CHECKING:

        @property
        def span(self) -> Span: ...


def spanned() -> Any:
    return field(compare=False, repr=False)


@dataclass(frozen=True)
class Name(Syntax):
    """A name, or a unit of time where one stands."""

    text: str
    span: Span = spanned()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Number(Syntax):
    """A literal as written: `1e-3`."""

    text: str
    span: Span = spanned()

    @property
    def value(self) -> int | float:
        return int(self.text) if self.text.isdigit() else float(self.text)


@dataclass(frozen=True)
class String(Syntax):
    """A literal without its quotes."""

    text: str
    span: Span = spanned()


@dataclass(frozen=True)
class Binary(Syntax):
    """`op` is one of + - * / .* ./ ^ .^ <= >= ==."""

    op: str
    left: Expr
    right: Expr
    span: Span = spanned()


@dataclass(frozen=True)
class Unary(Syntax):
    """`op` is + or -."""

    op: str
    operand: Expr
    span: Span = spanned()


@dataclass(frozen=True)
class Pair(Syntax):
    """`key -> value`."""

    key: Expr
    value: Expr
    span: Span = spanned()


@dataclass(frozen=True)
class Field(Syntax):
    """`value.name`."""

    value: Expr
    name: Name
    span: Span = spanned()


@dataclass(frozen=True)
class Instant(Syntax):
    """`value@clock`; `after` is a clock here."""

    value: Expr
    clock: Name
    span: Span = spanned()


@dataclass(frozen=True)
class Call(Syntax):
    callee: Expr
    args: tuple[Arg, ...]
    span: Span = spanned()


@dataclass(frozen=True)
class Index(Syntax):
    """`value[index]`."""

    value: Expr
    index: Expr
    span: Span = spanned()


@dataclass(frozen=True)
class Transpose(Syntax):
    """`value^T`."""

    value: Expr
    span: Span = spanned()


@dataclass(frozen=True)
class List(Syntax):
    items: tuple[Expr, ...]
    span: Span = spanned()


@dataclass(frozen=True)
class Norm(Syntax):
    """`|value|_order`; no order is the Euclidean norm."""

    value: Expr
    order: Number | Name | None
    span: Span = spanned()


@dataclass(frozen=True)
class Inner(Syntax):
    """`<left, right>`."""

    left: Expr
    right: Expr
    span: Span = spanned()


@dataclass(frozen=True)
class Named(Syntax):
    """`name = value` among arguments."""

    name: Name
    value: Expr
    span: Span = spanned()


@dataclass(frozen=True)
class Window(Syntax):
    """`value over stretch` among arguments."""

    value: Expr
    stretch: Stretch
    span: Span = spanned()


# ---- time and types


@dataclass(frozen=True)
class Stretch(Syntax):
    """`token`, `16 token`, `length token`, `chunk`, `4 chunk`:

    `count` of `clock`, a unit or a clock's name.
    """

    count: Number | Name | None
    clock: Name
    span: Span = spanned()

    @property
    def is_unit(self) -> bool:
        return self.clock.text in UNITS


@dataclass(frozen=True)
class Every(Syntax):
    period: Stretch
    phase: Number | None
    span: Span = spanned()


@dataclass(frozen=True)
class Never(Syntax):
    span: Span = spanned()


@dataclass(frozen=True)
class Full(Syntax):
    """`bptt full`: no cut."""

    span: Span = spanned()


@dataclass(frozen=True)
class Cut(Syntax):
    """`bptt none`: a cut at every tick."""

    span: Span = spanned()


@dataclass(frozen=True)
class Place(Syntax):
    """`M.W2`."""

    names: tuple[Name, ...]
    span: Span = spanned()

    def __str__(self) -> str:
        return ".".join(name.text for name in self.names)


@dataclass(frozen=True)
class Member(Syntax):
    """`n` or `n[i]`, the name of a level."""

    name: Name
    index: Expr | None
    span: Span = spanned()


@dataclass(frozen=True)
class Shape(Syntax):
    axes: tuple[Expr, ...]
    span: Span = spanned()


@dataclass(frozen=True)
class Like(Syntax):
    name: Name
    span: Span = spanned()


@dataclass(frozen=True)
class Weights(Syntax):
    """`weights`, `weights of layer[0].mixer`, and of these those that a shape fits: `weights
    [a, b]`.
    """

    of: Expr | None
    shape: Shape | None
    span: Span = spanned()


@dataclass(frozen=True)
class Kind(Syntax):
    """`index(vocab)` or the weights of a def:

    `net`, `swiglu([d], hidden = 4 * d)`. Without parentheses `args` is None.
    """

    place: Place
    args: tuple[Arg, ...] | None
    span: Span = spanned()


Expr = (
    Name
    | Number
    | String
    | Binary
    | Unary
    | Pair
    | Field
    | Instant
    | Call
    | Index
    | Transpose
    | List
    | Norm
    | Inner
)
Arg = Expr | Named | Window
Type = Shape | Like | Weights | Kind
