"""A refused word -> its message: that of the same mistake among the examples in
grammar/syntax_errors.nl.

Each malformed snippet of that file is parsed once; where it is refused is the key under which its
message is kept. A text refused in the same state of the parser, on a word of the same type, where
the same words could have stood, gets that message. Without such a message the words that could have
stood there are listed.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cache

from lark import Tree

from nldsl.diagnostic import Diagnostic
from nldsl.frontend.expression import UNITS
from nldsl.frontend.grammar import Refusal, attempt, folder
from nldsl.frontend.lex import STATEMENT_WORDS, Places, Word, is_start
from nldsl.source import Span

HEAD = "##"
SPOKEN = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "a string",
    "UNIT": "a unit of time (token, step, ..)",
    "EQUAL": "`=`",
    "__ANON_0": "`->`",
    "__ANON_1": "`<-`",
    "COLON": "`:`",
    "COMMA": "`,`",
    "DOT": "`.`",
    "AT": "`@`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "VBAR": "`|`",
    "LESSTHAN": "`<`",
    "MORETHAN": "`>`",
    "COMPARE": "a comparison",
    "$END": "the end of the file",
}
_EXPRESSION = frozenset({"NAME", "NUMBER", "STRING", "LPAR", "LSQB", "VBAR", "LESSTHAN", "ADD"})
GROUPS: tuple[tuple[frozenset[str], str], ...] = (
    (_EXPRESSION, "an expression"),
    (frozenset({"ADD", "MUL"}), "an operator"),
    (frozenset({word.upper() for word in STATEMENT_WORDS} | {"NAME"}), "a statement"),
)
ONLY_INSIDE_EXPRESSIONS = frozenset(
    {"POW", "TRANSPOSE", "DOT", "AT", "LPAR", "LSQB", "COMPARE", "__ANON_0"}
)
ENDS = frozenset({"RBRACE", "$END"})  # a block goes on like a file, but for its end
WAITING = frozenset("+ - * / .* ./ ^ .^ = <- -> <= >= == , ( [".split())
MOST_EXPECTED = 5


@dataclass(frozen=True)
class Entry:
    """A message with the snippets it is shown for.

    `{word}` is the refused word, `{before}` the one before it.
    """

    code: str
    message: str
    help: str
    behind: frozenset[str]  # if any: the word before must be one of them
    then: str  # if any: the word that must follow the refused one
    word: str  # if any: the refused word itself, first on its line, in whatever state
    anywhere: bool  # whatever could have stood there
    snippets: list[str] = field(default_factory=list)


def read_entries(text: str) -> list[Entry]:
    """The messages in the text of grammar/syntax_errors.nl, each with its snippets."""
    entries: list[Entry] = []
    snippet: list[str] = []

    def finish() -> None:
        if entries and "".join(snippet).strip():
            entries[-1].snippets.append("\n".join(snippet).strip())
        snippet.clear()

    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith(HEAD) and not lines[number - 1].startswith(HEAD):
            finish()
            head = [line.removeprefix(HEAD).strip()]
            for more in lines[number + 1 :]:
                if not more.startswith(HEAD):
                    break
                said = more.removeprefix(HEAD)
                if said.startswith("   "):  # the line above goes on
                    head[-1] += f" {said.strip()}"
                else:
                    head.append(said.strip())
            code, message = head[0].split(" ", 1)
            notes = dict(more.split(": ", 1) for more in head[1:])
            entries.append(
                Entry(
                    code,
                    message,
                    notes.get("help", ""),
                    frozenset(notes.get("behind", "").split()),
                    notes.get("then", ""),
                    notes.get("word", ""),
                    "anywhere" in notes,
                )
            )
        elif not line.strip():
            finish()
        elif not line.startswith("#"):
            snippet.append(line)
    finish()
    return entries


@cache
def entries() -> tuple[Entry, ...]:
    return tuple(read_entries((folder() / "syntax_errors.nl").read_text(encoding="utf-8")))


@cache
def _by_refusal() -> tuple[
    dict[tuple[int, str], list[tuple[Entry, frozenset[str]]]], dict[tuple[str, str], list[Entry]]
]:
    by_state: dict[tuple[int, str], list[tuple[Entry, frozenset[str]]]] = {}
    by_words: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries():
        for snippet in entry.snippets:
            refused = attempt(snippet, versioned=False)
            if isinstance(refused, Tree):
                raise ValueError(
                    f"grammar/syntax_errors.nl: a snippet under {entry.code} is not a mistake: "
                    f"{snippet}"
                )
            by_state.setdefault((refused.state, refused.type), []).append(
                (entry, refused.expected - ENDS)
            )
            by_words.setdefault((refused.before, refused.type), []).append(entry)
    return by_state, by_words


def place_of(refused: Refusal, words: list[Word]) -> int:
    """The number of the refused word; at the end of the text, one past the last."""
    if refused.offset is None:
        return len(words)
    return bisect_right([word.start for word in words], refused.offset) - 1


def explain_mistake(refused: Refusal, words: list[Word], places: Places) -> Diagnostic:
    """The diagnostic for a refused word: a reserved word used as a name, an expression that is
    missing, the message of an example, or the words that could have stood there.
    """
    i = place_of(refused, words)
    before = words[i - 1].text if i else ""
    if i < len(words):
        word, span = words[i].text, places.span(words[i].start, words[i].end)
    else:
        end = words[-1].end if words else 0
        word, span = "", places.span(end, end)
    starts_next = i < len(words) and words[i].first and is_start(words, i)
    if refused.type in ("EQUAL", "__ANON_1") and before in STATEMENT_WORDS:
        return _reserved(before, places.span(words[i - 1].start, words[i - 1].end))
    if (
        refused.type in ("EQUAL", "__ANON_1")
        and i > 1
        and words[i - 1].first
        and words[i - 2].text in WAITING
    ):
        i, word, span = i - 1, before, places.span(words[i - 1].start, words[i - 1].end)
        before, starts_next = words[i - 1].text, True
    if starts_next and (before in WAITING or _EXPRESSION <= refused.expected):
        at = places.span(words[i - 1].start, words[i - 1].end)
        return _no_expression(before, at, word, span)
    after = words[i + 1].text if i + 1 < len(words) else ""
    for entry in _matching(refused):
        if (
            (not entry.behind or before in entry.behind)
            and entry.then in ("", after)
            and (not entry.word or entry.word == word and words[i].first)
        ):
            if entry.behind:
                span = places.span(words[i - 1].start, words[i - 1].end)
            return Diagnostic(
                entry.code,
                _filled(entry.message, word, before),
                span,
                help=_filled(entry.help, word, before),
            )
    if refused.reserved:
        return _reserved(word, span)
    return _unexpected(refused, word, span, before if starts_next else "")


def _no_expression(before: str, at: Span, next_word: str, next_span: Span) -> Diagnostic:
    return Diagnostic(
        "N021",
        f"an expression is expected behind `{before}`",
        at,
        notes=((f"`{next_word}` begins the next statement", next_span),),
        help="a name, a number or a call there",
    )


def _unexpected(refused: Refusal, word: str, span: Span, unfinished: str) -> Diagnostic:
    found = f"`{word}`" if word else "the end of the file"
    return Diagnostic(
        "N030",
        f"{found} cannot stand here",
        span,
        label=_expected(refused),
        notes=((f"`{unfinished}` is not finished", None),) if unfinished else (),
    )


def _reserved(word: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "N012",
        f"`{word}` is a word of the language and cannot be a name",
        span,
        help=f"choose another name, such as `{word}_1`"
        + (f"; a clock that is passed on has one: `clock c = 1 {word}`" if word in UNITS else ""),
    )


def _matching(refused: Refusal) -> list[Entry]:
    """Entries with a condition first: they are the closer match."""
    by_state, by_words = _by_refusal()
    same_state = by_state.get((refused.state, refused.type), [])
    exact = [entry for entry, expected in same_state if expected == refused.expected - ENDS]
    loose = [entry for entry, _ in same_state if entry.anywhere]
    same_words = [
        entry for entry in by_words.get((refused.before, refused.type), []) if entry.behind
    ]
    same_word = [entry for entry in entries() if entry.word]
    return sorted(
        same_word + same_words + exact + loose,
        key=lambda entry: not (entry.behind or entry.then or entry.word),
    )


def _filled(words: str, word: str, before: str) -> str:
    return (
        words.replace("`{word}`", f"`{word}`" if word else "the end of the file")
        .replace("{word}", word)
        .replace("{before}", before)
    )


def _expected(refused: Refusal) -> str:
    rest = set(refused.expected)
    said: list[str] = []
    for group, words in GROUPS:
        if group <= rest:
            said.append(words)
            rest -= group
            if words == "an operator":
                rest -= ONLY_INSIDE_EXPRESSIONS
    said += sorted(
        SPOKEN.get(kind, f"`{kind.lower()}`") for kind in rest if kind not in ("ADD", "MUL")
    )
    if not said or len(said) > MOST_EXPECTED:
        return f"expected {', '.join(said[:MOST_EXPECTED])} .." if said else ""
    return "expected " + " or ".join([", ".join(said[:-1])] * bool(said[:-1]) + said[-1:])
