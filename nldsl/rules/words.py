"""Finds the words that a finding points at: clauses of a level, and the user's name of a value.

A program keeps the place of its levels, memories and equations, and of the clauses of each level.
"""

from __future__ import annotations

from nldsl.core.nodes import Node
from nldsl.core.program import READS, Clause, Clock, Level
from nldsl.source import Span

LONGEST_QUOTE = 48


def clauses(level: Level, *words: str) -> list[Clause]:
    return [clause for clause in level.said if clause.word in words]


def place_of(level: Level, word: str) -> Span | None:
    """The first clause of that word, or the name of the level."""
    found = clauses(level, word)
    return found[0].span if found else head_of(level)


def head_of(level: Level) -> Span | None:
    return level.head or level.span


def rate_of(level: Level) -> Span | None:
    return level.rate or level.span


def context_names(level: Level) -> list[tuple[str, Span | None]]:
    """The names that the level lists.

    A name that stands for a constant has no stream in `level.context`.
    """
    if level.head is None:
        return [(said(node), None) for node in level.context]
    return [(clause.name, clause.span) for clause in clauses(level, "stream")]


def short(qualified: str) -> str:
    """`loss.layer[2].recall.M` is `M` in the text."""
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
