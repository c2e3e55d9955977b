"""Records the clauses of a level with their places, so that rules point at words and read no
text.
"""

from __future__ import annotations

from collections.abc import Iterator

from nldsl.core.program import Clause
from nldsl.frontend import syntax
from nldsl.graph.scope import LIBRARY, Scope
from nldsl.graph.values import Definition


def clauses(text: syntax.Level, scope: Scope) -> Iterator[Clause]:
    """In the order of the text; `scope` is the level's own."""
    for piece in syntax.walk(text.block):
        match piece:
            case syntax.Minimize():
                yield Clause("minimize", piece.objective.span)
            case syntax.Context():
                yield Clause("context", piece.span)
                for name in piece.names:
                    yield Clause("stream", name.span, name.text)
            case syntax.Reset():
                yield Clause("reset", piece.span)
            case syntax.Bptt():
                yield Clause("bptt", piece.span)
            case syntax.Update():
                place = str(piece.place)
                yield Clause("update", piece.value.span, piece.place.names[0].text, place)
                yield from reads(piece.value)
                yield from not_added(piece, scope)


def reads(value: syntax.Expr) -> Iterator[Clause]:
    """The places at which an expression reads a stream by its name, or a memory of another level,
    outside windows and other instants.
    """
    waiting: list[syntax.Syntax] = [value]
    while waiting:
        piece = waiting.pop()
        fresh = isinstance(piece, syntax.Instant) and piece.clock.text == "after"
        inner = piece.value if isinstance(piece, syntax.Instant) and fresh else piece
        if isinstance(piece, syntax.Name):
            yield Clause("read", piece.span, piece.text)
        elif isinstance(inner, syntax.Field):
            yield Clause("member", piece.span, inner.name.text)
        elif not isinstance(piece, syntax.Window | syntax.Instant):
            waiting += syntax.children(piece)


def not_added(update: syntax.Update, scope: Scope) -> Iterator[Clause]:
    """`place - step`, or the step alone, of a step that an optimizer of the library returns to be
    added.
    """
    value = update.value
    if name := step(value, scope):
        yield Clause("replaces", value.span, name, str(update.place))
    if (
        isinstance(value, syntax.Binary)
        and value.op == "-"
        and isinstance(value.left, syntax.Name | syntax.Field)
        and (name := step(value.right, scope))
    ):
        yield Clause("climbs", value.span, name, str(update.place))


def step(value: syntax.Expr, scope: Scope) -> str | None:
    """The optimizer of the library whose call is a factor of the value."""
    if isinstance(value, syntax.Binary) and value.op in ("*", "/", ".*"):
        return step(value.right, scope) or step(value.left, scope)
    if isinstance(value, syntax.Call) and isinstance(value.callee, syntax.Name):
        found = scope.find(value.callee.text)
        base = found[0].base if found is not None else None
        if isinstance(base, Definition) and is_optimizer(base.syntax):
            return value.callee.text
    return None


def is_optimizer(definition: syntax.Def) -> bool:
    """A def of the library of a gradient `g` with a rate `lr`, or with memories of its own."""
    given = {param.name.text for param in definition.params}
    return (
        definition.span.source.name.startswith(LIBRARY)
        and "g" in given
        and (
            "lr" in given
            or any(isinstance(piece, syntax.Level) for piece in syntax.walk(definition.body))
        )
    )
