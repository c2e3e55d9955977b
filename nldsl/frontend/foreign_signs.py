"""Signs and letters of other languages, and the answer that each rule of foreign.py gives."""

from __future__ import annotations

from dataclasses import dataclass

from nldsl.diagnostic import Diagnostic, Edit
from nldsl.frontend.foreign_words import (
    ASSIGNED,
    FUNCTIONS,
    LETTERS,
    POWERS,
    SIGNS,
    STRAYS,
    in_ascii,
)
from nldsl.frontend.lex import STATEMENT_WORDS, is_start, shown, statement
from nldsl.frontend.wording import Wording

CODE = "N033"


@dataclass(frozen=True)
class Mistake:
    """`begin` to `end` are the words that are not read on; of these, the rules have looked at those
    before `seen`.
    """

    diagnostic: Diagnostic
    begin: int
    end: int
    seen: int


def told(
    text: Wording,
    i: int,
    j: int,
    message: str,
    help: str,
    fix: tuple[Edit, ...] = (),
    block: bool = False,
    code: str = CODE,
) -> Mistake:
    """A mistake at the words i to j; without a block of its own it spoils its statement."""
    begin, end = text.block(i) if block else statement(text.words, i)
    diagnostic = Diagnostic(code, message, text.span(i, j), help=help, fix=fix)
    return Mistake(diagnostic, begin, max(end, j), j)


# ---- signs


def sign(text: Wording, i: int) -> Mistake | None:
    """`**`, `//`, `:=`, `!=` and others that are made of several characters, or of one that nldsl
    does not have.
    """
    for joined, (message, help, instead) in SIGNS.items():
        j = text.joined(i, joined)
        if j is not None:
            fix = (Edit(text.span(i, j), instead),) if instead else ()
            return told(text, i, j, message, help, fix)
    return None


def comment(text: Wording, i: int) -> Mistake | None:
    """`//` and `/*` before what is not an operand: a comment of C; else `//` divides and rounds
    down.
    """
    j = text.joined(i, "//") or text.joined(i, "/*")
    if j is None or text.words[i].text != "/":
        return None
    end = text.end_of_line(i)
    if text.joined(i, "//") and not text.words[i].first and not text.is_prose(j, end):
        return floor_division(text, i, j)
    mark = text.text_of(i, j)
    closing = (
        next((n for n in range(j, len(text.words)) if text.joined(n, "*/")), None)
        if mark == "/*"
        else None
    )
    fix: tuple[Edit, ...] = (Edit(text.span(i, j), "#"),)
    if closing is not None:
        fix += (Edit(text.span(closing, closing + 2), ""),)
        fix = fix if closing < end == closing + 2 else ()
        end = closing + 2
    diagnostic = Diagnostic(
        CODE,
        f"`{mark}` does not begin a comment",
        text.span(i, j),
        help="a comment begins with `#` and ends with its line",
        fix=fix,
    )
    return Mistake(diagnostic, i, end, end)


def floor_division(text: Wording, i: int, j: int) -> Mistake:
    """`a // b`"""
    left, right = text.term_before(i), text.operand_behind(j)
    fix: tuple[Edit, ...] = ()
    if left is not None and right is not None:
        fix = (
            Edit(text.before(left), "floor("),
            Edit(text.spaced(i, j), " / "),
            Edit(text.behind(right), ")"),
        )
    return told(
        text,
        i,
        j,
        "there is no `//`",
        "write `floor(a / b)` for a whole quotient; a comment begins with `#`",
        fix,
    )


def remainder(text: Wording, i: int) -> Mistake | None:
    """`a % b`"""
    if text.words[i].text != "%":
        return None
    left, right = text.term_before(i), text.operand_behind(i + 1)
    fix: tuple[Edit, ...] = ()
    if left is not None and right is not None:
        a, b = text.text_of(left, i), text.text_of(i + 1, right)
        fix = (Edit(text.span(left, right), f"({a} - {b} * floor({a} / {b}))"),)
    return told(
        text,
        i,
        i + 1,
        "`%` has no meaning in nldsl",
        "write `a - n * floor(a / n)` for a remainder",
        fix,
        code="N003",
    )


def matmul(text: Wording, i: int) -> Mistake | None:
    """`W @ (x)`: before a name it may be the name of a clock, which the next stage knows."""
    if (
        text.words[i].text != "@"
        or i == 0
        or not text.ends_operand(i - 1)
        or i + 1 >= len(text.words)
    ):
        return None
    if text.words[i + 1].text not in ("(", "[", "|") or text.words[i].first:
        return None
    return told(
        text,
        i,
        i + 1,
        "`@` names a clock, it is not a product",
        "write `*` for the product of a matrix",
        (Edit(text.spaced(i, i + 1), " * "),),
    )


def assigned(text: Wording, i: int) -> Mistake | None:
    """`x += ..`"""
    if i == 0 or text.words[i - 1].kind != "name" or not is_start(text.words, i - 1):
        return None
    found = ((op, text.joined(i, op + "=")) for op in ASSIGNED)
    operator, j = next(((op, end) for op, end in found if end), ("", 0))
    if not j:
        return None
    name, end = text.words[i - 1].text, statement(text.words, i - 1)[1]
    written = ASSIGNED[operator]
    fix: tuple[Edit, ...] = ()
    if written and end > j:
        simple = operator == "+" or text.operand_behind(j) == end
        fix = (
            Edit(text.spaced(i, j), f" <- {name} {written} " + "(" * (not simple)),
            Edit(text.behind(end), ")" * (not simple)),
        )
    return told(
        text,
        i,
        j,
        f"there is no `{operator}=`",
        f"write `{name} <- {name} {written or operator} ..` for the next version of a definition "
        "or a memory",
        fix,
        code="N022",
    )


# ---- letters


def letter(text: Wording, i: int) -> Mistake | None:
    """A letter or a sign of another alphabet, reported once however often it stands there."""
    word = text.words[i]
    if word.kind != "stray":
        return None
    message = f"{shown(word.text)} has no meaning in nldsl"
    if word.text in FUNCTIONS:
        return told(text, i, i + 1, message, f"write `{FUNCTIONS[word.text]}`", code="N003")
    instead = LETTERS.get(word.text) or _power(text, i)
    if instead:
        return told(
            text,
            i,
            i + 1,
            message,
            f"write `{instead.strip()}`" if instead.strip() else "write a plain space",
            (Edit(text.span(i, i + 1), instead),),
            code="N003",
        )
    if not word.text[0].isalnum():
        return _stray(text, i, message)
    name = in_ascii(word.text)
    if not name:
        return told(
            text,
            i,
            i + 1,
            message,
            "a name has the letters a to z and A to Z, digits and `_`",
            code="N003",
        )
    if name in STATEMENT_WORDS or any(other.text == name for other in text.words):
        name += "_1"
    return told(
        text,
        i,
        i + 1,
        message,
        f"a name has the letters a to z: write `{name}`",
        (Edit(text.span(i, i + 1), name),),
        code="N003",
    )


def _stray(text: Wording, i: int, message: str) -> Mistake:
    """A separator or a backslash spoils nothing around it."""
    word, span = text.words[i].text, text.span(i, i + 1)
    help_ = STRAYS.get(word[0], "")
    if word in (";", "\\"):
        return Mistake(
            Diagnostic("N003", message, span, help=help_, fix=(Edit(span, ""),)), i, i + 1, i + 1
        )
    quoted = len(word) > 1 and word[0] == word[-1] == "'" and '"' not in word
    return told(
        text,
        i,
        i + 1,
        message,
        help_,
        (Edit(span, f'"{word[1:-1]}"'),) if quoted else (),
        code="N003",
    )


def _power(text: Wording, i: int) -> str:
    """`x²`: the power of each entry, of a norm that of the number."""
    digit = POWERS.get(text.words[i].text)
    return (
        "" if digit is None or i == 0 else ("^" if text.words[i - 1].text == "|" else ".^") + digit
    )
