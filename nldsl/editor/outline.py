"""What an editor draws of a text: its outline, the kind of each name, the types of streams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nldsl.editor.document import Document
from nldsl.editor.meanings import axes_of
from nldsl.editor.words import BUILT_IN
from nldsl.frontend import syntax
from nldsl.frontend.statement_text import block_of
from nldsl.frontend.syntax import Name
from nldsl.graph.values import Array, MemoryValue
from nldsl.source import Span

MOST_TYPES = 2  # of a name in a def that is called more often


@dataclass(frozen=True)
class Symbol:
    """A declaration with all of its words, and those that stand in its block."""

    name: Name
    kind: str
    span: Span
    inner: tuple[Symbol, ...] = ()


def symbols(document: Document) -> tuple[Symbol, ...]:
    """In the order of the text."""
    file = document.file
    return () if file is None else tuple(_symbols(file.statements))


def _symbols(statements: tuple[syntax.Statement, ...]) -> Iterator[Symbol]:
    for statement in statements:
        block = block_of(statement)
        inner = tuple(_symbols(block.statements)) if block is not None else ()
        match statement:
            case syntax.Dims(bindings):
                for binding in bindings:
                    yield Symbol(binding.name, "dim", binding.span)
            case syntax.Level(member):
                yield Symbol(member.name, "level", statement.span, inner)
            case syntax.For():
                yield from inner
            case syntax.Def(name) | syntax.Clock(name) | syntax.Input(name) | syntax.Memory(name):
                yield Symbol(name, type(statement).__name__.lower(), statement.span, inner)
            case syntax.Define(name):
                yield Symbol(name, "stream", statement.span)


@dataclass(frozen=True)
class Hint:
    """Text that stands behind a name without being there."""

    name: Name
    text: str


def hints(document: Document, start: int, end: int) -> list[Hint]:
    """The types of streams that are assigned between two characters, and declare none."""
    found: list[Hint] = []
    for piece in syntax.walk(document.file) if document.file is not None else ():
        if isinstance(piece, syntax.Define) and piece.shape is None:
            name = piece.name
        elif isinstance(piece, syntax.Update) and len(piece.place.names) == 1:
            name = piece.place.names[0]
        else:
            continue
        if not start <= name.span.start <= end:
            continue
        streams = [m for m in document.meanings(name) if isinstance(m, Array | MemoryValue)]
        types = list(dict.fromkeys(map(axes_of, streams)))
        if types:
            more = " .." if len(types) > MOST_TYPES else ""
            found.append(Hint(name, ": " + " | ".join(types[:MOST_TYPES]) + more))
    return found


def kinds(document: Document) -> list[tuple[Name, str, bool]]:
    """Each name in the order of the text with its kind, and whether it is declared there."""
    names = document.bindings.names if document.bindings is not None else {}
    found: list[tuple[Name, str, bool]] = []
    for start, (name, declared) in sorted(names.items()):
        if declared is not None:
            here = declared.name.span == name.span and declared.path == document.path
            found.append((name, declared.kind, here))
        elif name.text in BUILT_IN:
            found.append(
                (name, "function" if "(" in BUILT_IN[name.text].form else "constant", False)
            )
    return found
