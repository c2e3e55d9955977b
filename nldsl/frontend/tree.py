"""Lark's tree -> the syntax tree, without recursion: a rule's alias is its class in snake_case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lark import Token, Transformer_NonRecursive, Tree

from nldsl.frontend import syntax
from nldsl.frontend.syntax import Comment, File, Name, Number, String, Syntax
from nldsl.source import Source, Span

Build = Callable[[list[Any], Span], Any]


def _regular(cls: type) -> Build:
    """One field for each part of the rule, in its order."""
    return lambda parts, span: cls(*parts, span)


def _many(cls: type) -> Build:
    """One field that holds all parts; lark puts None where a list is empty."""
    return lambda parts, span: cls(_present(parts), span)


def _present(parts: list[Any]) -> tuple[Any, ...]:
    return tuple(part for part in parts if part is not None)


BUILD: dict[str, Build] = {
    **{
        rule: _regular(getattr(syntax, rule.title().rstrip("_")))
        for rule in "binding clock input param level for_ memory minimize update define reset bptt "
        "return_ report member every never full cut "
        "like weights kind pair field instant call index norm inner named window".split()
    },
    **{
        rule: _many(getattr(syntax, rule.title().rstrip("_")))
        for rule in "import_ dims context block place shape list".split()
    },
    "args": lambda parts, span: _present(parts),
    "phase": lambda parts, span: parts[0],
    "stretch": lambda parts, span: syntax.Stretch(
        parts[0] if len(parts) == 2 else None, parts[-1], span
    ),
    "binary": lambda parts, span: syntax.Binary(str(parts[1]), parts[0], parts[2], span),
    "iteration": lambda parts, span: syntax.Field(
        syntax.Index(parts[0], parts[1], span), parts[2], span
    ),
    "transpose": lambda parts, span: syntax.Transpose(parts[0], span),
    "unary": lambda parts, span: syntax.Unary(str(parts[0]), parts[1], span),
    "def_": lambda parts, span: syntax.Def(
        parts[0], _present(parts[1:-2]), parts[-2], parts[-1], span
    ),
}


class _Builder(Transformer_NonRecursive[Any, Any]):
    def __init__(self, source: Source):
        super().__init__(visit_tokens=True)
        self.source = source

    def span(self, place: Any) -> Span:
        """Of lark's token or meta.

        A rule of no words has no place, and makes no node that would need one.
        """
        if getattr(place, "empty", False):
            return Span(self.source, 0, 0, 1, 1, 1, 1)
        return Span(
            self.source,
            place.start_pos,
            place.end_pos,
            place.line,
            place.column,
            place.end_line,
            place.end_column,
        )

    def __default__(self, data: Any, children: list[Any], meta: Any) -> Any:
        return BUILD[str(data)](children, self.span(meta))

    def NAME(self, token: Token) -> Name:
        return Name(str(token), self.span(token))

    UNIT = NAME

    def NUMBER(self, token: Token) -> Number:
        return Number(str(token), self.span(token))

    def STRING(self, token: Token) -> String:
        return String(str(token)[1:-1], self.span(token))


def build(tree: Tree[Any], comments: tuple[Comment, ...], whole: Span) -> File:
    """The file of lark's tree; `whole` is the span of all text."""
    version: Any
    version, *parts = tree.children
    builder = _Builder(whole.source)
    span = (
        whole if version.start_pos is None else builder.span(version)
    )  # it has no place if the text lacks it
    return File(
        Number(str(version), span),
        tuple(builder.transform(part) for part in parts),
        comments,
        whole,
    )


def too_deep(file: File, limit: int) -> Syntax | None:
    """The whole expression, or the statement, in which more than `limit` pieces stand inside each
    other.
    """
    waiting: list[tuple[Syntax, int, Syntax]] = [(file, 0, file)]
    while waiting:
        node, depth, whole = waiting.pop()
        if depth > limit:
            return whole
        inner = isinstance(node, syntax.Expr | syntax.Named | syntax.Window)
        waiting.extend(
            (child, depth + 1, whole if inner else child)
            for child in reversed(syntax.children(node))
        )
    return None
