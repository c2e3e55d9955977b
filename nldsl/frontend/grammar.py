"""The grammar as lark reads it, and one attempt at a text with it: a tree, or where and on what it
was refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lark import Lark, Token, Tree, UnexpectedCharacters, UnexpectedToken

from nldsl import writing
from nldsl.frontend.lex import RESERVED
from nldsl.frontend.syntax import UNITS

END = "$END"


@dataclass(frozen=True)
class Refusal:
    """The parser stood in `state`, behind a word of type `before`, and could not take a word of
    type `type`.

    If `reserved`, it could have taken the word as a name, but the word is the language's own.
    """

    state: int
    before: str
    type: str
    offset: int | None  # None at the end of the text
    expected: frozenset[str]
    reserved: bool = False


def folder() -> Path:
    """Beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).parent.parent
    inside = package / "grammar"
    return inside if inside.is_dir() else package.parent / "grammar"


@cache
def parser() -> Lark:
    return analyse(kept())


def analyse(cache: str | bool = False) -> Lark:
    """The grammar, analysed; `cache` is the file in which lark keeps its analysis, without the text
    of the grammar.
    """
    return Lark(
        (folder() / "nl.lark").read_text(encoding="utf-8"),
        parser="lalr",
        propagate_positions=True,
        maybe_placeholders=True,
        cache=cache,
    )


def kept() -> str | bool:
    """The file in which lark caches its analysis of the grammar, which takes longer than a small
    program does; False where no cache can be written.
    """
    home = writing.home()
    return str(home / "grammar.lark") if home else False


def attempt(text: str, versioned: bool = True) -> Tree[Token] | Refusal:
    """`versioned` is false for a text whose version line is missing: it is read as if it stood
    there.
    """
    reading: Any = parser().parse_interactive(text)  # lark gives it no types
    before = "" if versioned else "NUMBER"
    try:
        for token in () if versioned else (Token("NLDSL", "nldsl"), Token("NUMBER", "1")):
            reading.feed_token(token)
        for token in reading.lexer_thread.lex(reading.parser_state):
            if (
                token.type == "NAME"
                and token in RESERVED
                and not (before == "AT" and token in UNITS)
            ):
                return Refusal(
                    reading.parser_state.position,
                    before,
                    token.upper(),
                    token.start_pos,
                    frozenset(reading.accepts()),
                    reserved=True,
                )
            reading.feed_token(token)
            before = token.type
        whole: Tree[Token] = reading.feed_eof()
        return whole
    except UnexpectedToken as refused:
        at_end = refused.token.type == END
        return Refusal(
            reading.parser_state.position,
            before,
            refused.token.type,
            None if at_end else refused.token.start_pos,
            frozenset(reading.accepts()),
        )
    except UnexpectedCharacters as refused:
        return Refusal(
            reading.parser_state.position,
            before,
            "",
            refused.pos_in_stream,
            frozenset(reading.accepts()),
        )
