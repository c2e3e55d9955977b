"""The text as words, before the grammar sees it: comments, bounds, characters, numbers, strings,
brackets.

The parser has lark's own lexer; this scan of the same words finds what is wrong with the text as
such, and where statements begin, so that after a mistake the parser can go on behind it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

from nldsl.diagnostic import Diagnostic, Diagnostics, Edit
from nldsl.source import Source, Span

STATEMENT_WORDS = frozenset(
    "import dim clock input def level for memory context minimize reset bptt return report".split()
)
RESERVED = STATEMENT_WORDS | frozenset(
    "nldsl per every phase never in like weights of by over token step update sequence "
    "document".split()
)
UNNAMEABLE = RESERVED | {"after", "period"}  # these two are read, so the lexer lets them through

LARGEST_TEXT = 256 * 1024
LONGEST_NUMBER = 32
DEEPEST_BRACKETS = 64

NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?(e-?[0-9]+)?")
WORDS = re.compile(
    r"""
    (?P<space>    [ \t\f\r\n]+)
  | (?P<comment>  \#[^\n]*)
  | (?P<string>   "[^"\n]*")
  | (?P<unclosed> "[^"\n]*)
  | (?P<letters>  (?![0-9])[A-Za-z0-9_]*
                  [^\W\x00-\x7F\u2070-\u2079\xb2\xb3\xb9\u1d40]
                  [^\W\u2070-\u2079\xb2\xb3\xb9\u1d40]*)
  | (?P<number>   \.?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?([A-Za-z0-9_]|\.(?![*/^]))*)
  | (?P<name>     [A-Za-z][A-Za-z0-9_]*)
  | (?P<sign>     <-|->|<=|>=|==|\.[*/^]|\^T(?![A-Za-z0-9_])|[-+*/^.,:=@()\[\]{}<>|_])
  | (?P<stray>    '[^'\n]*' | [^\s"#0-9A-Za-z]|.)
""",
    re.VERBOSE,
)
CLOSING = {"(": ")", "[": "]", "{": "}"}
OPENING = {close: open for open, close in CLOSING.items()}


@dataclass(frozen=True)
class Word:
    """A word of the text: `kind` is the pattern that matched, `start` its first character."""

    kind: str
    text: str
    start: int
    first: bool  # of its line

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True)
class Places:
    """Line and column of every character of a source."""

    source: Source
    line_starts: tuple[int, ...]

    @staticmethod
    def of(source: Source) -> Places:
        return Places(source, (0, *(found.end() for found in re.finditer("\n", source.text))))

    def span(self, start: int, end: int) -> Span:
        line, column = self._place(start)
        return Span(self.source, start, end, line, column, *self._place(end))

    def _place(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1


def scan(places: Places) -> tuple[list[Word], list[Word]]:
    """All words of a text and, apart, its comments. A text that is too large is not read."""
    text = places.source.text
    if len(text) > LARGEST_TEXT:
        raise Diagnostics(
            [
                Diagnostic(
                    "N007",
                    f"the file has {len(text)} characters, at most {LARGEST_TEXT} are read",
                    places.span(0, 0),
                    help="split it: `import` brings in the definitions of another file",
                )
            ]
        )
    words: list[Word] = []
    comments: list[Word] = []
    first = True
    for found in WORDS.finditer(text):
        kind = {"letters": "stray"}.get(str(found.lastgroup), str(found.lastgroup))
        if kind == "space":
            first = first or "\n" in found[0]
            continue
        (comments if kind == "comment" else words).append(
            Word(kind, found[0], found.start(), first)
        )
        first = False
    return words, comments


def faults(words: list[Word], places: Places) -> list[tuple[Diagnostic, int]]:
    """The mistakes in single words, each with the number of the word."""
    found: list[tuple[Diagnostic, int]] = []
    for i, word in enumerate(words):
        span = places.span(word.start, word.end)
        before = words[i - 1].text if i else ""
        if word.kind == "unclosed":
            found.append(
                (
                    Diagnostic(
                        "N004",
                        "this string does not end on its line",
                        span,
                        help='close it with `"`',
                    ),
                    i,
                )
            )
        elif word.kind == "number":
            found.extend(
                (fault, i)
                for fault in _number_faults(
                    word.text, span, after_value=bool(i) and words[i - 1].end == word.start
                )
            )
        elif word.text == "_" and before != "|":
            found.append(
                (
                    Diagnostic(
                        "N012",
                        "a name begins with a letter",
                        span,
                        help="`_` stands inside names, and before the order of a norm: `|x|_p`",
                    ),
                    i,
                )
            )
    return found


def shown(text: str) -> str:
    return (
        f"`{text}`" if len(text) > 1 or text.isprintable() else f"the character U+{ord(text):04X}"
    )


def _number_faults(text: str, span: Span, after_value: bool) -> list[Diagnostic]:
    if text[0] == "." and after_value:
        return [
            Diagnostic(
                "N005",
                f"`{text}` is neither a part nor a number",
                span,
                help="a part has a name: `M.W2`; an entry stands in brackets: `x[0]`",
            )
        ]
    if not NUMBER.fullmatch(text):
        instead = _plain_number(text)
        if instead:
            return [
                Diagnostic(
                    "N005",
                    f"`{text}` is not a number",
                    span,
                    help=f"write `{instead}`",
                    fix=(Edit(span, instead),),
                )
            ]
        return [Diagnostic("N005", f"`{text}` is not a number", span, help=_number_instead(text))]
    value = float(text) if len(text) <= LONGEST_NUMBER else float("inf")
    vanished = value == 0 and re.search("[1-9]", text.split("e")[0])
    if value == float("inf") or vanished:
        return [
            Diagnostic(
                "N006",
                f"`{text[:LONGEST_NUMBER]}` is too "
                f"{'long or too large' if not vanished else 'small'}",
                span,
                help=f"a number has at most {LONGEST_NUMBER} characters and lies between 1e-323 "
                "and 1e308",
            )
        ]
    return []


def _plain_number(text: str) -> str:
    """`.5`, `1.`, `1E+3`, `1_000`, `0x10` as nldsl writes them; None for any other word."""
    if re.fullmatch("0[xXbBoO][0-9A-Fa-f]+", text):
        base = {"x": 16, "b": 2, "o": 8}[text[1].lower()]
        return (
            str(int(text, base))
            if all(digit in "0123456789abcdef"[:base] for digit in text[2:].lower())
            else ""
        )
    plain = (
        re.sub(
            "(?<=[0-9])_(?=[0-9])",
            "",
            ("0" + text if text[0] == "." else text).lower().replace("+", ""),
        )
        .replace(".e", "e")
        .rstrip(".")
    )
    return plain if NUMBER.fullmatch(plain) else ""


def _number_instead(text: str) -> str:
    parted = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]\w*)", text)
    if parted:
        number, name = parted.groups()
        return f"write `{number} {name}` for a stretch of time, `{number} * {name}` for a product"
    return "a number is written `12`, `0.5` or `1e-3`"


def is_start(words: list[Word], i: int) -> bool:
    """Does a statement begin at this word? The keywords say so; for names the layout of lines is
    trusted.
    """
    word = words[i]
    if word.kind != "name":
        return False
    if word.text in STATEMENT_WORDS:
        after = words[i + 1].text if i + 1 < len(words) else ""
        return word.first or after not in ("=", "<-", ",", ")", "]")
    if word.text in RESERVED:
        return False
    before = words[i - 1] if i else None
    if before is None or before.text in ("{", "}"):
        return True
    return word.first and (
        before.kind in ("number", "string", "unclosed", "stray")
        or before.text in (")", "]", "|", ">", "^T")
        or before.kind == "name"
        and before.text
        not in RESERVED - {"token", "step", "update", "sequence", "document", "never", "weights"}
    )


def brackets(words: list[Word], places: Places) -> list[tuple[Diagnostic, int]]:
    """Brackets that do not match, each with the number of its word.

    Too many inside each other stop the reading.
    """
    found: list[tuple[Diagnostic, int]] = []
    open: list[int] = []
    file_level: int | None = (
        None  # the brace around the first `def` or `input`, which stand in no block
    )

    def unclosed(i: int, at: int) -> None:
        found.append((_unclosed(words[i], words[at : at + 1], places), i))

    for i, word in enumerate(words):
        if is_start(words, i) or word.text in "{}":
            if word.text in STATEMENT_WORDS or word.text in "{}" or _binds(words, i):
                while open and words[open[-1]].text != "{":
                    unclosed(open.pop(), i)
        if (
            word.text in ("def", "import", "input", "dim")
            and word.first
            and open
            and file_level is None
        ):
            file_level = open[-1]
        if word.kind == "sign" and word.text in CLOSING:
            open.append(i)
            if len(open) > DEEPEST_BRACKETS:
                raise Diagnostics([_too_many_open(word, places)])
        elif word.kind == "sign" and word.text in OPENING:
            if open and words[open[-1]].text == OPENING[word.text]:
                open.pop()
            elif open and word.text != "}":
                unclosed(open.pop(), i)
            else:
                found.append((_nothing_open(word, places), i))
    while open:
        i = open.pop()
        if words[i].text != "{" or not any(words[j].text == "{" for j in open):
            unclosed(
                file_level if words[i].text == "{" and file_level is not None else i, len(words)
            )
    return found


def _unclosed(word: Word, before: list[Word], places: Places) -> Diagnostic:
    """`before` is the word before which it had to be closed, if there is one."""
    return Diagnostic(
        "N010",
        f"this `{word.text}` is not closed",
        places.span(word.start, word.end),
        notes=tuple(
            (f"`{at.text}` cannot stand inside it", places.span(at.start, at.end)) for at in before
        ),
        help=f"close it with `{CLOSING[word.text]}`",
    )


def _too_many_open(word: Word, places: Places) -> Diagnostic:
    return Diagnostic(
        "N008",
        f"more than {DEEPEST_BRACKETS} brackets stand inside each other",
        places.span(word.start, word.end),
        help="give the inner parts names",
    )


def _nothing_open(word: Word, places: Places) -> Diagnostic:
    return Diagnostic(
        "N011",
        f"nothing is open that this `{word.text}` could close",
        places.span(word.start, word.end),
        help="remove it",
    )


def _binds(words: list[Word], i: int) -> bool:
    """`name =` or `name <-`: inside brackets a line that begins so is a statement, unless a comma
    stands before.
    """
    return i + 1 < len(words) and words[i + 1].text in ("=", "<-")


def statement(words: list[Word], i: int) -> tuple[int, int]:
    """First word of the statement that word `i` belongs to, and the word behind its last."""
    begin = min(i, len(words) - 1)
    while begin > 0 and not is_start(words, begin):
        begin -= 1
    end, depth = begin + 1, 0
    while end < len(words) and (depth or not is_start(words, end)):
        depth += {"{": 1, "}": -1}.get(words[end].text, 0)
        if depth < 0:
            break
        end += 1
    return begin, end
