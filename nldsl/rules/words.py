"""Which words of the text a finding points at: the clauses of a level, and how the user calls a
value.

A program keeps the place of its levels, memories and equations; the place of a clause (`minimize`,
`context`, `reset`) is looked up in the text of the level.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TypeVar

from nldsl.core.nodes import Node
from nldsl.core.program import READS, Clock, Level
from nldsl.frontend import syntax
from nldsl.frontend.parse import parse
from nldsl.source import Source, Span

LONGEST_QUOTE = 48


@lru_cache(maxsize=16)
def _levels(source: Source) -> tuple[syntax.Level, ...]:
    return tuple(piece for piece in syntax.walk(parse(source)) if isinstance(piece, syntax.Level))


@lru_cache(maxsize=16)
def _defs(source: Source) -> set[str]:
    return {piece.name.text for piece in parse(source).statements if isinstance(piece, syntax.Def)}


def text_of(level: Level) -> syntax.Level | None:
    """The text of a level; None of a level that was made without one."""
    if level.span is None:
        return None
    around = [
        s for s in _levels(level.span.source) if s.span.start <= level.span.start < s.span.end
    ]
    return max(around, key=lambda s: s.span.start, default=None)


Clause = (
    syntax.Bptt | syntax.Context | syntax.Memory | syntax.Minimize | syntax.Reset | syntax.Update
)
C = TypeVar("C", bound=Clause)


def clauses(level: Level, kind: type[C]) -> Iterator[C]:
    text = text_of(level)
    return (
        (piece for piece in syntax.walk(text.block) if isinstance(piece, kind))
        if text
        else iter(())
    )


def place_of(level: Level, kind: type[Clause]) -> Span | None:
    """The first clause of that kind, or the name of the level."""
    found = next(clauses(level, kind), None)
    if isinstance(found, syntax.Minimize):
        return found.objective.span
    return found.span if found else head_of(level)


def defined(level: Level) -> set[str]:
    """The defs of the file that a level stands in."""
    return set() if level.span is None else _defs(level.span.source)


def head_of(level: Level) -> Span | None:
    text = text_of(level)
    return text.member.span if text else level.span


def rate_of(level: Level) -> Span | None:
    text = text_of(level)
    return text.rate.span if text else level.span


def context_names(level: Level) -> list[tuple[str, Span | None]]:
    """The names that the level lists.

    A name that stands for a constant has no stream in `level.context`.
    """
    if text_of(level) is None:
        return [(said(node), None) for node in level.context]
    return [
        (name.text, name.span) for clause in clauses(level, syntax.Context) for name in clause.names
    ]


def short(qualified: str) -> str:
    """`loss.layer[2].recall.M` is `M` to those who wrote it."""
    return qualified.rsplit(".", 1)[-1]


def said(node: Node) -> str:
    """A value in the user's words."""
    if node.name:
        return short(node.name)
    if node.op == "input":
        return str(node["name"])
    if node.op in READS:
        return short(node["memory"]) + {
            "now": "@after",
            "held": "@" + clock_name(node["clock"]) if node.op == "held" else "",
        }.get(node.op, "")
    text = " ".join(node.span.text().split()) if node.span else node.op
    return text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 3] + "..."


def clock_name(clock: Clock) -> str:
    return clock.name or every(clock)


def every(clock: Clock) -> str:
    """`4 step`, `token`, `never`."""
    if clock.unit == "never":
        return "never"
    return clock.unit if clock.period == 1 else f"{clock.period} {clock.unit}"
