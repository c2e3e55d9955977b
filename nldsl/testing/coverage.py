"""Measures how much of the language a set of texts uses: every alternative of every grammar rule,
and every name of the library.

    alternatives("nldsl 1 dim d = 2 ..")  ->  {"dims: dim binding", "binding: NAME = expr", "UNIT:
    token", ..}

The parser itself counts: an alternative occurs where it reduces by it. Rules are those that lark
makes of the grammar, where an optional part is an alternative with it and one without, and a
repeated part is one that begins (`+1`) and one that goes on (`+n`).
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import cache
from typing import Any

from lark.grammar import Rule

from nldsl.frontend import syntax as s
from nldsl.frontend.grammar import parser
from nldsl.frontend.parse import parse
from nldsl.graph.built_in import built_in
from nldsl.source import Source
from nldsl.testing.constructs import library

WORDS = {
    "UNIT": s.UNITS,
    "COMPARE": ("<=", ">=", "=="),
    "ADD": ("+", "-"),
    "MUL": (".*", "./", "*", "/"),
    "POW": (".^", "^"),
}


class _Reductions(dict[Any, Any]):
    """The parser's callbacks, which note by which rules it reduces."""

    def __init__(self, callbacks: Mapping[Any, Any]) -> None:
        super().__init__(callbacks)
        self.met: set[Rule] = set()

    def __getitem__(self, rule: Rule) -> Any:
        self.met.add(rule)
        return super().__getitem__(rule)


@cache
def grammar() -> dict[Rule, str]:
    """Each alternative of each rule, as it is called here."""
    words = {t.name: t.pattern.value for t in parser().terminals if t.pattern.type == "str"}
    named: dict[Rule, str] = {}
    parts = {
        r.origin.name: " ".join(words.get(x.name, x.name) for x in r.expansion)
        for r in parser().rules
        if r.origin.name.startswith("__") and r.origin not in r.expansion
    }
    for rule in parser().rules:
        origin = rule.origin.name
        if origin in parts:
            named[rule] = (
                f"({parts[origin]})+{'n' if rule.origin in rule.expansion else '1'} of "
                f"{origin.strip('_').partition('_')[0]}"
            )
        else:
            expansion = (
                " ".join(
                    f"({parts[x.name]})+" if x.name in parts else words.get(x.name, x.name)
                    for x in rule.expansion
                )
                or "nothing"
            )
            named[rule] = f"{rule.alias.rstrip('_') if rule.alias else origin}: {expansion}"
    return named


def all_alternatives() -> frozenset[str]:
    return frozenset(grammar().values()) | {
        f"{kind}: {word}" for kind, words in WORDS.items() for word in words
    }


def alternatives(text: str) -> frozenset[str]:
    """The alternatives of grammar rules by which the parser reduces a text."""
    reading = parser().parse_interactive(text)
    conf = reading.parser_state.parse_conf
    reductions = _Reductions(conf.callbacks)
    conf.callbacks = reductions
    words = reading.exhaust_lexer()
    reading.feed_eof()  # type: ignore[no-untyped-call]
    return frozenset(grammar()[r] for r in reductions.met) | {
        f"{w.type}: {w}" for w in words if w.type in WORDS
    }


def all_names() -> frozenset[str]:
    """Every built-in, and every definition of the library."""
    return built_in() | library().keys()


def names(text: str) -> frozenset[str]:
    """The built-ins and definitions of the library that a text uses, those included that its
    definitions use.
    """
    found: set[str] = set()
    roots: list[s.Syntax] = [parse(Source("drawn.nl", text))]
    while roots:
        met = {n.text for n in s.walk(roots.pop()) if isinstance(n, s.Name)} & all_names() - found
        roots += [library()[name] for name in met & library().keys()]
        found |= met
    return frozenset(found)


def table(title: str, whole: Set[str], met: Set[str], reasons: Mapping[str, str]) -> str:
    """A report: how many of the whole are met, and a line for each that is not, with the reason why
    it need not be.
    """
    lines = [f"{title}: {len(whole & met)} of {len(whole)} ({len(whole & met) / len(whole):.1%})"]
    return "\n".join(
        [*lines, *(f"    not met: {x}  {reasons.get(x, '')}".rstrip() for x in sorted(whole - met))]
    )
