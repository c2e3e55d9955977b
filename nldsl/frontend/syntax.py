"""The syntax tree: one frozen class for each construct of grammar/nl.lark, with the words it was read from.

Two trees are equal if they say the same: `span` and comments take no part in comparison. Parentheses are not
kept, `unparse` puts back those that are needed. Binary operators share one class, as do the unary ones.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from nldsl.source import Span

UNITS = ("token", "step", "update", "sequence", "document")


@dataclass(frozen=True)
class Syntax:
    """Any piece of a program. `span` comes last in every constructor."""


def _span() -> Span:
    return field(compare=False, repr=False)


# ---- expressions

@dataclass(frozen=True)
class Name(Syntax):
    text: str
    span: Span = _span()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Number(Syntax):
    """A literal as written: `1e-3`."""

    text: str
    span: Span = _span()

    @property
    def value(self) -> int | float:
        return int(self.text) if self.text.isdigit() else float(self.text)


@dataclass(frozen=True)
class String(Syntax):
    """A literal without its quotes."""

    text: str
    span: Span = _span()


@dataclass(frozen=True)
class Binary(Syntax):
    """`op` is one of + - * / .* ./ ^ .^ <= >= ==."""

    op: str
    left: Expr
    right: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Unary(Syntax):
    """`op` is + or -."""

    op: str
    operand: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Pair(Syntax):
    """`key -> value`."""

    key: Expr
    value: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Field(Syntax):
    """`value.name`."""

    value: Expr
    name: Name
    span: Span = _span()


@dataclass(frozen=True)
class Instant(Syntax):
    """`value@clock`; `now` is a clock here."""

    value: Expr
    clock: Name
    span: Span = _span()


@dataclass(frozen=True)
class Call(Syntax):
    callee: Expr
    args: tuple[Arg, ...]
    span: Span = _span()


@dataclass(frozen=True)
class Index(Syntax):
    """`value[index]`."""

    value: Expr
    index: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Transpose(Syntax):
    """`value^T`."""

    value: Expr
    span: Span = _span()


@dataclass(frozen=True)
class List(Syntax):
    items: tuple[Expr, ...]
    span: Span = _span()


@dataclass(frozen=True)
class Norm(Syntax):
    """`|value|_order`; no order is the Euclidean norm."""

    value: Expr
    order: Number | Name | None
    span: Span = _span()


@dataclass(frozen=True)
class Inner(Syntax):
    """`<left, right>`."""

    left: Expr
    right: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Named(Syntax):
    """`name = value` among arguments."""

    name: Name
    value: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Window(Syntax):
    """`value over stretch` among arguments."""

    value: Expr
    stretch: Stretch
    span: Span = _span()


# ---- time and types

@dataclass(frozen=True)
class Stretch(Syntax):
    """`token`, `16 token`, `length token`, `chunk`, `4 chunk`: `count` of `clock`, a unit or a clock's name."""

    count: Number | Name | None
    clock: Name
    span: Span = _span()

    @property
    def is_unit(self) -> bool:
        return self.clock.text in UNITS


@dataclass(frozen=True)
class Every(Syntax):
    period: Stretch
    phase: Number | None
    span: Span = _span()


@dataclass(frozen=True)
class Never(Syntax):
    span: Span = _span()


@dataclass(frozen=True)
class Full(Syntax):
    """`bptt full`: no cut."""

    span: Span = _span()


@dataclass(frozen=True)
class Cut(Syntax):
    """`bptt none`: a cut at every tick."""

    span: Span = _span()


@dataclass(frozen=True)
class Place(Syntax):
    """`M.W2`."""

    names: tuple[Name, ...]
    span: Span = _span()

    def __str__(self) -> str:
        return ".".join(name.text for name in self.names)


@dataclass(frozen=True)
class Member(Syntax):
    """`n` or `n[i]`, the name of a level."""

    name: Name
    index: Expr | None
    span: Span = _span()


@dataclass(frozen=True)
class Shape(Syntax):
    axes: tuple[Expr, ...]
    span: Span = _span()


@dataclass(frozen=True)
class Like(Syntax):
    name: Name
    span: Span = _span()


@dataclass(frozen=True)
class Rest(Syntax):
    """`rest` or `rest of place`."""

    of: Place | None
    span: Span = _span()


@dataclass(frozen=True)
class Kind(Syntax):
    """`index(vocab)` or the weights of a def: `net`, `swiglu([d], hidden = 4 * d)`. Without parentheses `args` is None."""

    place: Place
    args: tuple[Arg, ...] | None
    span: Span = _span()


# ---- statements

@dataclass(frozen=True)
class Import(Syntax):
    names: tuple[Name, ...]
    span: Span = _span()


@dataclass(frozen=True)
class Binding(Syntax):
    name: Name
    value: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Dims(Syntax):
    bindings: tuple[Binding, ...]
    span: Span = _span()


@dataclass(frozen=True)
class Clock(Syntax):
    name: Name
    period: Stretch
    phase: Number | None
    span: Span = _span()


@dataclass(frozen=True)
class Input(Syntax):
    name: Name
    type: Type
    span: Span = _span()


@dataclass(frozen=True)
class Param(Syntax):
    name: Name
    shape: Shape | None
    default: Expr | None
    span: Span = _span()


@dataclass(frozen=True)
class Block(Syntax):
    statements: tuple[Statement, ...]
    span: Span = _span()


@dataclass(frozen=True)
class Def(Syntax):
    """The body is a block, or the expression after `=`."""

    name: Name
    params: tuple[Param, ...]
    result: Shape | None
    body: Block | Expr
    span: Span = _span()


@dataclass(frozen=True)
class Level(Syntax):
    member: Member
    per: Name | None
    rate: Every | Never
    block: Block
    span: Span = _span()


@dataclass(frozen=True)
class For(Syntax):
    name: Name
    items: Expr
    block: Block
    span: Span = _span()


@dataclass(frozen=True)
class Memory(Syntax):
    name: Name
    type: Type
    start: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Context(Syntax):
    names: tuple[Name, ...]
    span: Span = _span()


@dataclass(frozen=True)
class Minimize(Syntax):
    objective: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Update(Syntax):
    """`place <- value`."""

    place: Place
    value: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Define(Syntax):
    """`name: shape = value`."""

    name: Name
    shape: Shape | None
    value: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Reset(Syntax):
    rate: Every | Never
    span: Span = _span()


@dataclass(frozen=True)
class Bptt(Syntax):
    """`bptt depth to viewer`; without a viewer, all slower learners."""

    depth: Full | Cut | Stretch
    viewer: Member | None
    span: Span = _span()


@dataclass(frozen=True)
class Return(Syntax):
    value: Expr
    span: Span = _span()


@dataclass(frozen=True)
class Comment(Syntax):
    """From `#` to the end of its line."""

    text: str
    span: Span = _span()


@dataclass(frozen=True)
class File(Syntax):
    version: Number
    statements: tuple[Statement, ...]
    comments: tuple[Comment, ...] = field(compare=False, repr=False)
    span: Span = _span()


Expr = (Name | Number | String | Binary | Unary | Pair | Field | Instant | Call | Index | Transpose | List | Norm
        | Inner)
Arg = Expr | Named | Window
Type = Shape | Like | Rest | Kind
Statement = (Import | Dims | Clock | Input | Def | Level | For | Memory | Context | Minimize | Update | Define
             | Reset | Bptt | Return)


def children(node: Syntax) -> list[Syntax]:
    """The pieces that a piece is made of, in the order of the text."""
    found: list[Syntax] = []
    for item in fields(node):
        value = getattr(node, item.name)
        if isinstance(value, Syntax):
            found.append(value)
        elif isinstance(value, tuple):
            found.extend(value)
    return found


def walk(node: Syntax) -> Iterator[Syntax]:
    """A piece and all pieces in it, outer before inner, in the order of the text."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(children(node)))
