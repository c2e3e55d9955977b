"""Text -> syntax tree. Raises `Diagnostics` with every mistake in the text, and nothing else.

    parse(Source("titans.nl", text)) -> File(version, (Import(..), Dims(..), ..), comments)

After a mistake the statement around it is blanked out and the text is read again, so that one pass
reports several independent mistakes and places stay true. Nothing here recurses on the depth of the
text.
"""

from __future__ import annotations

from lark import Token, Tree

from nldsl.diagnostic import Diagnostic, Diagnostics
from nldsl.frontend import lex
from nldsl.frontend.foreign import foreign
from nldsl.frontend.grammar import attempt
from nldsl.frontend.lex import Places, Word
from nldsl.frontend.mistakes import explain_mistake, place_of
from nldsl.frontend.placement import misplaced
from nldsl.frontend.syntax import Comment, File
from nldsl.frontend.tree import build, too_deep
from nldsl.source import Source

VERSION = "1"
DEEPEST_TREE = 150  # pieces inside each other; a sum of n terms is n deep
MOST_MISTAKES = 20


def parse(source: Source) -> File:
    """The syntax tree of a source. Raises Diagnostics with every mistake in it."""
    file, found = recovered(source)
    if file is None or found:
        raise Diagnostics(found)
    return file


def recovered(source: Source) -> tuple[File | None, tuple[Diagnostic, ...]]:
    """The tree of all statements that can be read, None where nothing can be trusted, and every
    mistake in the text.
    """
    try:
        file, found = _recovered(source)
    except Diagnostics as stopped:
        return None, stopped.diagnostics
    return file, tuple(found)


def _recovered(source: Source) -> tuple[File | None, list[Diagnostic]]:
    places = Places.of(source)
    words_read, comments = lex.scan(places)
    accepted = attempt(source.text)
    found, text, understood = (
        ([], source.text, words_read)  # a name may look like a slip, and be none
        if isinstance(accepted, Tree)
        else _blank_foreign(words_read, places)
    )
    wrong, text, words = _blank_bad_words(text, understood, places)
    found += [diagnostic for diagnostic, _ in wrong] + _version(words_read, places)
    if any(understood[i].text in "{}" for _, i in wrong):
        raise Diagnostics(found)  # without the blocks, every place would be a guess
    if isinstance(accepted, Tree) and text == source.text:
        tree = accepted
    else:
        tree, more = _read(text, words, places)
        found += more
    whole = places.span(0, len(source.text))
    file = build(
        tree,
        tuple(Comment(word.text.rstrip(), places.span(word.start, word.end)) for word in comments),
        whole,
    )
    deep = too_deep(file, DEEPEST_TREE)
    if deep:
        found.append(
            Diagnostic(
                "N009",
                f"more than {DEEPEST_TREE} operators or blocks stand inside each other here",
                deep.span,
                help="give parts of the expression names of their own",
            )
        )
    found += misplaced(file, complete=not found)
    return None if deep else file, found


def _blank_foreign(words: list[Word], places: Places) -> tuple[list[Diagnostic], str, list[Word]]:
    """The findings for words of another language; the text and its words without the statements
    that hold them.
    """
    found, spoilt = foreign(words, places)
    text, kept, end = places.source.text, [], 0
    for i in sorted(spoilt):
        kept += [text[end : words[i].start], " " * (words[i].end - words[i].start)]
        end = words[i].end
    return (
        found,
        "".join(kept) + text[end:],
        [word for i, word in enumerate(words) if i not in spoilt],
    )


def _blank_bad_words(
    text: str, words: list[Word], places: Places
) -> tuple[list[tuple[Diagnostic, int]], str, list[Word]]:
    """The mistakes of single words and of brackets; the text and its words without the statements
    they stand in.
    """
    wrong = lex.faults(words, places) + lex.brackets(words, places)
    if len(wrong) > MOST_MISTAKES:
        raise Diagnostics(
            [
                diagnostic
                for diagnostic, _ in sorted(wrong, key=lambda found: found[1])[:MOST_MISTAKES]
            ]
        )
    bad: set[int] = set()
    for _, i in wrong:
        if words[i].text in "{}":
            continue
        begin, end = lex.statement(words, i)
        bad.update(range(begin, end))
        text = _blanked(text, words[begin].start, words[end - 1].end)
    return wrong, text, [word for i, word in enumerate(words) if i not in bad]


def _blanked(text: str, start: int, end: int) -> str:
    return text[:start] + "".join(c if c == "\n" else " " for c in text[start:end]) + text[end:]


def _version(words: list[Word], places: Places) -> list[Diagnostic]:
    if not words or words[0].text != "nldsl":
        at = words[0] if words else None
        return [
            Diagnostic(
                "N001",
                "a file begins with the version of the language",
                places.span(at.start, at.end) if at else places.span(0, 0),
                help=f"write `nldsl {VERSION}` on the first line",
            )
        ]
    if len(words) > 1 and words[1].kind == "number" and words[1].text != VERSION:
        return [
            Diagnostic(
                "N002",
                f"this compiler reads version {VERSION} of the language, the file is in version "
                f"{words[1].text}",
                places.span(words[1].start, words[1].end),
                help=f"write `nldsl {VERSION}`, or use a compiler of that version",
            )
        ]
    return []


def _read(text: str, words: list[Word], places: Places) -> tuple[Tree[Token], list[Diagnostic]]:
    """The tree of all statements that can be read, and the mistakes in the others."""
    found: list[Diagnostic] = []
    versioned = bool(words) and words[0].text == "nldsl"
    while True:
        read = attempt(text, versioned)
        if isinstance(read, Tree):
            return read, found
        found.append(explain_mistake(read, words, places))
        i = place_of(read, words)
        if not words or len(found) >= MOST_MISTAKES:
            raise Diagnostics(found)
        begin, end = lex.statement(words, i)
        if (
            i == begin and i and words[i - 1].text not in "{}"
        ):  # the statement before is the one that is not finished
            first_only = words[i].first
            begin, before_end = lex.statement(words, i - 1)
            end = before_end if first_only else end
        text = _blanked(text, words[begin].start, words[end - 1].end)
        words = words[:begin] + words[end:]
        versioned = versioned and begin > 0
