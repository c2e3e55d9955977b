"""Words of Python and its like -> the words to write instead, found before the grammar sees them.

Each rule looks at one word of the text, which no program of nldsl could have there, and answers
with a message, a help, and where the words around leave no choice, a fix. The statement, or the
block of lines that such a word begins, is not read any further, so that one mistake is one error.
Names of libraries (`torch.relu`) are names like others: they are for the next stage.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from itertools import pairwise

from nldsl.diagnostic import Diagnostic, Edit
from nldsl.frontend.foreign_signs import (
    CODE,
    Mistake,
    assigned,
    comment,
    letter,
    matmul,
    remainder,
    sign,
    told,
)
from nldsl.frontend.foreign_words import (
    ALL_WEIGHTS,
    BEGINNINGS,
    BLOCKS,
    NOUNS,
    SEEN_BY,
)
from nldsl.frontend.lex import STATEMENT_WORDS, Places, Word, is_start, statement
from nldsl.frontend.wording import ELSE, Wording

MOST = 50  # mistakes that are looked for
LIKENESS = 0.74  # of a word to the one that is meant


def foreign(words: list[Word], places: Places) -> tuple[list[Diagnostic], set[int]]:
    """All that is written in another language, each mistake once, and the words that it spoils."""
    text, found, i, spoilt = Wording(words, places), list[Mistake](), 0, set[int]()
    while i < len(words):
        mistake = next((said for rule in RULES if (said := rule(text, i)) is not None), None)
        i = max(i + 1, mistake.seen if mistake else 0)
        if mistake is not None:
            found.append(mistake)
            spoilt.update(range(mistake.begin, mistake.end))
        if mistake is not None and mistake.end > mistake.begin + 1 and len(found) > MOST:
            spoilt.update(range(i, len(words)))
            break
    return _once(found), spoilt


def _once(found: list[Mistake]) -> list[Diagnostic]:
    """One letter in many places is one mistake, and so is one sign in many places of a
    statement.
    """
    kept: dict[tuple[str, int], Diagnostic] = {}
    for mistake in found:
        said = mistake.diagnostic
        key = (said.message, -1 if said.code == "N003" else mistake.begin)
        first = kept.get(key)
        kept[key] = (
            said
            if first is None
            else replace(first, fix=first.fix + said.fix if first.fix and said.fix else ())
        )
    return list(kept.values())


# ---- words inside expressions


def chosen(text: Wording, i: int) -> Mistake | None:
    """`a if c else b`"""
    if text.words[i].text != "if" or i == 0 or not text.ends_operand(i - 1) or text.words[i].first:
        return None
    begin = text.expression_before(i)
    otherwise = next(
        (
            n
            for n in text.level(i + 1)
            if text.words[n].text in ("else", "if", "<-", ",")
            or text.words[n].text == "="
            and text.words[n - 1].text != "!"
        ),
        None,
    )
    if otherwise is not None and text.words[otherwise].text != "else":
        otherwise = None
    end = None if otherwise is None else text.end_of_expression(otherwise + 1)
    fix: tuple[Edit, ...] = ()
    if begin is not None and otherwise is not None and end is not None and end > otherwise + 1:
        value, other = text.text_of(begin, i), text.text_of(otherwise + 1, end)
        condition = text.condition(i + 1, otherwise)
        if condition is not None and not re.search(r"\b(if|else|and|or|not)\b", value + other):
            c, a, b = (condition[0], other, value) if condition[1] else (condition[0], value, other)
            fix = (Edit(text.span(begin, end), f"where({c}, {a}, {b})"),)
    mistake = told(
        text,
        i,
        i + 1,
        "there is no `if` in nldsl",
        "`where(a <= b, x, y)` is `x` where the comparison holds, else `y`",
        fix,
    )
    return replace(mistake, end=max(mistake.end, end or 0), seen=max(mistake.end, end or 0))


def logic(text: Wording, i: int) -> Mistake | None:
    """`a and b`, `a or b`, `not a`, `a is b`"""
    word = text.words[i]
    if (
        word.text not in ("and", "or", "not", "is")
        or word.first
        or i + 1 >= len(text.words)
        or text.words[i + 1].first
    ):
        return None
    infix = text.ends_operand(i - 1)
    if not text.begins_operand(i + 1) or infix == (word.text == "not"):
        return None
    if word.text == "is":
        return told(
            text,
            i,
            i + 1,
            "there is no `is` between values",
            "write `a == b` for equal numbers",
            (Edit(text.span(i, i + 1), "=="),) if text.words[i + 1].text != "not" else (),
        )
    instead = {
        "and": "`min(a <= b, c <= d)` is 1 where both hold",
        "or": "`max(a <= b, c <= d)` is 1 where one holds",
        "not": "`where(a <= b, y, x)` has the two values changed",
    }[word.text]
    mistake = told(
        text,
        i,
        i + 1,
        f"there is no `{word.text}`: a comparison is the number 1 or 0",
        instead,
        connected(text, i),
    )
    return replace(mistake, seen=mistake.end)


def connected(text: Wording, i: int) -> tuple[Edit, ...]:
    """The fix of one `and` or `or` between two comparisons that can be read."""
    word = text.words[i].text
    begin, end = text.expression_before(i), text.end_of_expression(i + 1)
    if (
        word == "not"
        or begin is None
        or re.search(r"\b(and|or|not|if|else)\b", text.text_of(begin, i) + text.text_of(i + 1, end))
    ):
        return ()
    if re.search(r"[<>!]", text.text_of(begin, end).replace("<=", "").replace(">=", "")):
        return ()
    both = (
        f"{'min' if word == 'and' else 'max'}({text.text_of(begin, i)}, {text.text_of(i + 1, end)})"
    )
    return (Edit(text.span(begin, end), both),)


def nameless(text: Wording, i: int) -> Mistake | None:
    """`f = lambda z: z + 1`"""
    if (
        text.words[i].text != "lambda"
        or text.words[i].first
        or i + 1 == len(text.words)
        or text.words[i - 1].text not in ("=", "(", ",", "[")
    ):
        return None
    if text.words[i + 1].kind != "name" and text.words[i + 1].text != ":":
        return None
    colon = next((n for n in text.level(i + 1) if text.words[n].text == ":"), None)
    fix: tuple[Edit, ...] = ()
    if (
        colon is not None
        and text.words[i - 1].text == "="
        and is_start(text.words, i - 2)
        and text.begins_operand(colon + 1)
    ):
        end = text.end_of_expression(colon + 1)
        fix = (
            Edit(
                text.span(i - 2, end),
                f"def {text.words[i - 2].text}({text.text_of(i + 1, colon)}) = "
                f"{text.text_of(colon + 1, end)}",
            ),
        )
    mistake = told(
        text,
        i,
        i + 1,
        "a function has a name here: there is no `lambda`",
        "write `def f(z) = z + 1`, and pass `f`",
        fix,
    )
    end = max(mistake.end, text.end_of_line(i))
    return replace(mistake, end=end, seen=end)


def slice_(text: Wording, i: int) -> Mistake | None:
    """`x[0:2]`, `x[:, 0]`, `x[..., 0]`"""
    if text.words[i].text != "[" or i == 0 or not text.ends_operand(i - 1) or text.words[i].first:
        return None
    closing = text.partner(i)
    if closing is None or not any(
        text.words[n].text == ":" or text.joined(n, "...") for n in text.level(i + 1, closing)
    ):
        return None
    mistake = told(
        text,
        i,
        closing + 1,
        "there are no slices",
        "`x[0]` is one entry of the first axis; `sum(x, d)` runs over the axis `d`, and a part of "
        "its own has an axis of its own: "
        "`linear(x, [d])`",
    )
    return replace(mistake, seen=closing + 1)


def comprehension(text: Wording, i: int) -> Mistake | None:
    """`[f(z) for z in zs]`"""
    opening = text.opened(i) if text.words[i].text == "for" else None
    if opening is None:
        return None
    closing = None if text.words[opening].text == "{" else text.partner(opening)
    if closing is None or is_start(text.words, i) and text.words[i].first:
        return None
    begin, end = text.statement_around(opening, closing)
    diagnostic = Diagnostic(
        CODE,
        "there is no `for` inside an expression",
        text.span(i, i + 1),
        help="`y = x  for i in range(3) { y <- f(y) }` works a value out in iterations; "
        "what has an axis is worked out for all its entries at once",
    )
    return Mistake(diagnostic, begin, end, end)


def prefixed(text: Wording, i: int) -> Mistake | None:
    """`f"..", r".."`"""
    if (
        text.words[i].kind != "string"
        or i == 0
        or text.words[i - 1].end != text.words[i].start
        or text.words[i - 1].kind != "name"
    ):
        return None
    return told(
        text,
        i - 1,
        i + 1,
        f"a string has no `{text.words[i - 1].text}` before it",
        'a string stands as it is written: `"weights"`',
        (Edit(text.span(i - 1, i), ""),),
    )


def axis_by_number(text: Wording, i: int) -> Mistake | None:
    """`softmax(x, dim=-1)`, `sum(x, axis=0)`"""
    if (
        text.words[i].text not in ("dim", "axis", "keepdim", "keepdims", "dtype", "device")
        or (opening := text.opened(i)) is None
        or i + 2 >= len(text.words)
    ):
        return None
    if (
        text.words[i + 1].text != "="
        or text.words[opening].text != "("
        or text.words[i - 1].text not in ("(", ",")
    ):
        return None
    if text.words[i].text in ("dim", "axis") and text.words[i + 2].kind == "name":
        return None
    j = text.end_of_expression(i + 2)
    return told(
        text,
        i,
        j,
        f"`{text.text_of(i, j)}` cannot stand here: an axis is told by its name, not by a number",
        "write `softmax(x)` for the last axis, `softmax(x, d)` or `sum(x, d)` for the axis `d`",
        (Edit(text.span(i - (text.words[i - 1].text == ","), j), ""),),
    )


# ---- words that begin statements


def imported(text: Wording, i: int) -> Mistake | None:
    """`import x as y`, `from x import y`"""
    word, line = text.words[i], text.end_of_line(i)
    if word.text == "import" and word.first:
        as_ = next((n for n in range(i + 1, line) if text.words[n].text == "as"), None)
        if as_ is None or as_ + 1 >= line:
            return None
        diagnostic = Diagnostic(
            CODE,
            "an import gives no second name",
            text.span(as_, as_ + 2),
            help="leave it out: the definitions of the file have the names that it gives them",
            fix=(Edit(text.spaced(as_, as_ + 2), ""),),
        )
        return Mistake(diagnostic, i, line, line)
    if (
        word.text == "from"
        and word.first
        and any(text.words[n].text == "import" for n in range(i + 1, line))
    ):
        diagnostic = Diagnostic(
            CODE,
            "there is no `from .. import ..`",
            text.span(i, line),
            help="`import layers` brings all definitions of `layers.nl`",
            fix=(Edit(text.span(i, line), f"import {text.words[i + 1].text}"),),
        )
        return Mistake(diagnostic, i, line, line)
    return None


def all_weights(text: Wording, i: int) -> Mistake | None:
    """`memory W: params`, and `memory W: weights = random`: as they are drawn is what is not
    said.
    """
    words = text.words
    if [word.text for word in words[i : i + 3 : 2]] != ["memory", ":"] or i + 3 >= len(words):
        return None
    word, end = words[i + 3].text, statement(words, i)[1]
    defined = any(a.text == "def" and b.text == word for a, b in pairwise(words))
    drawn = [last.text for last in words[end - 2 : end]] == ["=", "random"]
    fix = (Edit(text.span(end - 3, end), words[end - 3].text),) if drawn else ()
    if word == "weights" and drawn:
        message = "weights start as each is drawn"
        return told(text, end - 2, end, message, "leave out `= random`", fix)
    if word not in ALL_WEIGHTS or defined:
        return None
    if fix and end - 3 == i + 3:
        fix = (Edit(text.span(i + 3, end), "weights"),)
    else:
        fix = (Edit(text.span(i + 3, i + 4), "weights"), *fix)
    help = "`weights` is every weight that no other level owns: write `memory W: weights`"
    return told(text, i + 3, i + 4, f"`{word}` is not a type", help, fix)


def seen_by(text: Wording, i: int) -> Mistake | None:
    """`bptt full to slow`"""
    words = text.words
    if words[i].text != "bptt" or not is_start(words, i):
        return None
    depth = range(i + 2, min(i + 4, statement(words, i)[1] - 1))
    n = next((n for n in depth if words[n].text in SEEN_BY and words[n + 1].kind == "name"), None)
    if n is None:
        return None
    fix = (Edit(text.span(n, n + 1), "by"),)
    help = f"who sees through the updates stands behind `by`: `bptt full by {words[n + 1].text}`"
    return told(text, n, n + 1, f"`bptt` has no `{words[n].text}`", help, fix)


def colon_block(text: Wording, i: int) -> Mistake | None:
    """`def f(z):`, `level l every token:`, `for i in range(3):` with indented lines, or one
    statement behind the colon.
    """
    word = text.words[i]
    if word.text not in ("def", "level", "for") or not is_start(text.words, i):
        return None
    line = text.end_of_line(i)
    colon = next(
        (n for n in text.level(i + 1, line) if text.words[n].text in (":", "=", "{")), None
    )
    if colon is None or text.words[colon].text != ":":
        return None
    head = " ".join(text.text_of(i, colon).split())
    if colon + 1 == line:
        return indented(text, i, colon, head)
    behind = colon + 1 + (text.words[colon + 1].text == "return")
    if word.text != "def" or not text.begins_operand(behind):
        return None
    value = text.text_of(behind, line)
    return Mistake(
        Diagnostic(
            "N024",
            "what a `def` is stands behind `=`, or in braces",
            text.span(colon, colon + 1),
            help=f"write `{head} = {value}`",
            fix=(Edit(text.upto(colon, behind), " = "),),
        ),
        i,
        line,
        line,
    )


def indented(text: Wording, i: int, colon: int, head: str) -> Mistake | None:
    """The lines below a `:` that ends its line, as a block in braces."""
    begin, end = text.block(i)
    if end == colon + 1:
        return None
    braces = f"write `{head} {{` and close the block with `}}`"
    return Mistake(
        Diagnostic(
            "N024",
            "a block stands in braces, not behind `:`",
            text.span(colon, colon + 1),
            help=braces,
            fix=(Edit(text.span(colon, colon + 1), " {"), text.closing_brace(i, end)),
        ),
        begin,
        end,
        colon + 1,
    )


# What goes on behind a name that begins a statement.
BEHIND_A_NAME = frozenset("= <- . , @ : ^ * / + - <= == >= -> }".split())


def beginning(text: Wording, i: int) -> Mistake | None:
    """`if c:`, `while c:`, `print(x)`, `let x = 1`, `class Net:`, `levle a every token {`"""
    if not text.begins_statement(i) or i + 1 > len(text.words):
        return None
    word = text.words[i].text
    after = text.words[i + 1] if i + 1 < len(text.words) else None
    alone = after is None or after.first
    sign = "" if after is None else after.text
    if word in ELSE and text.goes_on(i):
        return None
    if (
        word in BLOCKS
        and (alone or sign not in ("=", "<-", ",", ".", "@"))
        and not (after and after.text == ":" and word not in ("else", "try"))
    ):
        return told(text, i, i + 1, f"there is no `{word}`", BLOCKS[word], block=True)
    if after is None or after.first:
        return None
    if sign == "-":  # `minimise -x`
        return misspelt(text, i)
    if sign in BEHIND_A_NAME:
        return None
    if word in NOUNS and after.kind == "name":
        right = NOUNS[word]
        return told(
            text,
            i,
            i + 1,
            f"there is no `{word}`",
            f"write `{right}`" if right else "a definition has its name alone: `x = 1`",
            (Edit(text.span(i, i + 1) if right else text.upto(i, i + 1), right),),
        )
    if word in BEGINNINGS:
        return told(text, i, i + 1, f"there is no `{word}`", BEGINNINGS[word])
    return (
        misspelt(text, i)
        if after.kind in ("name", "number", "string") or after.text in ("|", "(", "<", "[")
        else None
    )


def misspelt(text: Wording, i: int) -> Mistake | None:
    """A statement of nldsl whose first word is nearly one of the language."""
    word = text.words[i].text
    near = (
        word.lower()
        if word.lower() in STATEMENT_WORDS
        else next(iter(get_close_matches(word, sorted(STATEMENT_WORDS), 1, LIKENESS)), None)
    )
    if near is None or near == word:
        return None
    return told(
        text,
        i,
        i + 1,
        f"`{word}` cannot begin a statement",
        f"did you mean `{near}`?",
        (Edit(text.span(i, i + 1), near),),
        code="N029",
    )


RULES: tuple[Callable[[Wording, int], Mistake | None], ...] = (
    imported,
    comment,
    assigned,
    sign,
    remainder,
    matmul,
    letter,
    slice_,
    comprehension,
    nameless,
    chosen,
    logic,
    prefixed,
    axis_by_number,
    all_weights,
    seen_by,
    colon_block,
    beginning,
)
