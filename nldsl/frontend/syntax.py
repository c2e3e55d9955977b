"""The syntax tree: one frozen class for each construct of grammar/nl.lark, with the words it was
read from.

Two trees are equal if they say the same: `span` and comments take no part in comparison.
Parentheses are not kept, `unparse` puts back those that are needed. Binary operators share one
class, as do the unary ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from nldsl.frontend.expression import (
    UNITS,
    Arg,
    Binary,
    Call,
    Cut,
    Every,
    Expr,
    Field,
    Full,
    Index,
    Inner,
    Instant,
    Kind,
    Like,
    List,
    Member,
    Name,
    Named,
    Never,
    Norm,
    Number,
    Pair,
    Place,
    Shape,
    Stretch,
    String,
    Syntax,
    Transpose,
    Type,
    Unary,
    Weights,
    Window,
    spanned,
)
from nldsl.source import Span

__all__ = [
    "Arg",
    "Binary",
    "Binding",
    "Block",
    "Bptt",
    "Call",
    "Clock",
    "Comment",
    "Context",
    "Cut",
    "Def",
    "Define",
    "Dims",
    "Every",
    "Expr",
    "Field",
    "File",
    "For",
    "Full",
    "Import",
    "Index",
    "Inner",
    "Input",
    "Instant",
    "Kind",
    "Level",
    "Like",
    "List",
    "Member",
    "Memory",
    "Minimize",
    "Name",
    "Named",
    "Never",
    "Norm",
    "Number",
    "Pair",
    "Param",
    "Place",
    "Report",
    "Reset",
    "Weights",
    "Return",
    "Shape",
    "Statement",
    "Stretch",
    "String",
    "Syntax",
    "Transpose",
    "Type",
    "UNITS",
    "Unary",
    "Update",
    "Window",
    "children",
    "walk",
]


@dataclass(frozen=True)
class Import(Syntax):
    names: tuple[Name, ...]
    span: Span = spanned()


@dataclass(frozen=True)
class Binding(Syntax):
    name: Name
    value: Expr
    span: Span = spanned()


@dataclass(frozen=True)
class Dims(Syntax):
    bindings: tuple[Binding, ...]
    span: Span = spanned()


@dataclass(frozen=True)
class Clock(Syntax):
    name: Name
    period: Stretch
    phase: Number | None
    span: Span = spanned()


@dataclass(frozen=True)
class Input(Syntax):
    name: Name
    type: Type
    span: Span = spanned()


@dataclass(frozen=True)
class Param(Syntax):
    name: Name
    shape: Shape | None
    default: Expr | None
    span: Span = spanned()


@dataclass(frozen=True)
class Block(Syntax):
    statements: tuple[Statement, ...]
    span: Span = spanned()


@dataclass(frozen=True)
class Def(Syntax):
    """The body is a block, or the expression after `=`."""

    name: Name
    params: tuple[Param, ...]
    result: Shape | None
    body: Block | Expr
    span: Span = spanned()


@dataclass(frozen=True)
class Level(Syntax):
    """`level recall per head every token { .. }`"""

    member: Member
    per: Name | None
    rate: Every | Never
    block: Block
    span: Span = spanned()


@dataclass(frozen=True)
class For(Syntax):
    name: Name
    items: Expr
    block: Block
    span: Span = spanned()


@dataclass(frozen=True)
class Memory(Syntax):
    name: Name
    type: Type
    start: Expr | None
    span: Span = spanned()


@dataclass(frozen=True)
class Context(Syntax):
    names: tuple[Name, ...]
    span: Span = spanned()


@dataclass(frozen=True)
class Minimize(Syntax):
    objective: Expr
    span: Span = spanned()


@dataclass(frozen=True)
class Update(Syntax):
    """`place <- value`."""

    place: Place
    value: Expr
    span: Span = spanned()


@dataclass(frozen=True)
class Define(Syntax):
    """`name: shape = value`."""

    name: Name
    shape: Shape | None
    value: Expr
    span: Span = spanned()


@dataclass(frozen=True)
class Reset(Syntax):
    """`reset M every ..`; without a name, the whole level."""

    memory: Name | None
    rate: Every | Never
    span: Span = spanned()


@dataclass(frozen=True)
class Bptt(Syntax):
    """`bptt depth by viewer`; without a viewer, all slower learners."""

    depth: Full | Cut | Stretch
    viewer: Member | None
    span: Span = spanned()


@dataclass(frozen=True)
class Return(Syntax):
    value: Expr
    span: Span = spanned()


@dataclass(frozen=True)
class Report(Syntax):
    """The stream that a trained model is scored by."""

    value: Expr
    span: Span = spanned()


@dataclass(frozen=True)
class Comment(Syntax):
    """From `#` to the end of its line."""

    text: str
    span: Span = spanned()


@dataclass(frozen=True)
class File(Syntax):
    version: Number
    statements: tuple[Statement, ...]
    comments: tuple[Comment, ...] = field(compare=False, repr=False)
    span: Span = spanned()


Statement = (
    Import
    | Dims
    | Clock
    | Input
    | Def
    | Level
    | For
    | Memory
    | Context
    | Minimize
    | Update
    | Define
    | Reset
    | Bptt
    | Return
    | Report
)


@cache
def _fields(kind: type[Syntax]) -> tuple[str, ...]:
    return tuple(item.name for item in fields(kind))


def children(node: Syntax) -> list[Syntax]:
    """The pieces that a piece is made of, in the order of the text."""
    found: list[Syntax] = []
    kind: Any = type(node)  # a class is hashable, whatever its objects are
    for name in _fields(kind):
        value = getattr(node, name)
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
