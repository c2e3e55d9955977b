"""A place in a text -> what is said there: a name's declaration, its type, when it changes and who
owns it; a word of the language; and the titles of the findings that point at it.
"""

from __future__ import annotations

from dataclasses import dataclass

from nldsl.editor.bindings import Declared
from nldsl.editor.document import Document
from nldsl.editor.meanings import facts, home, type_of
from nldsl.editor.words import BUILT_IN, LANGUAGE
from nldsl.explanation import explanations
from nldsl.frontend import syntax
from nldsl.frontend.expression_text import type_
from nldsl.frontend.lex import LARGEST_TEXT, Places, scan
from nldsl.frontend.statement_text import block_of, header, one_line
from nldsl.source import Span
from nldsl.view.folding import folded

MOST_MEANINGS = 3  # of a name in a def that is called more often
MOST_LETTERS = 100  # of a declaration


@dataclass(frozen=True)
class Hover:
    """Markdown, and the words that it is about."""

    text: str
    span: Span


def hover(document: Document, offset: int) -> Hover | None:
    """What is said at a character; None where there is nothing to say."""
    found = named(document, offset) or word(document, offset)
    told = [d for d in document.findings if d.span is not None and within(d.span, document, offset)]
    lines = [
        f"{d.severity} {d.code}: {explanations()[d.code].title}; `nldsl explain {d.code}`"
        for d in told
        if d.code in explanations()
    ]
    if not lines:
        return found
    said = [found.text] if found is not None else []
    span = found.span if found is not None else told[0].span
    assert span is not None, "a finding without a place is not within one"
    return Hover("\n\n".join([*said, *lines]), span)


def within(span: Span, document: Document, offset: int) -> bool:
    return span.source is document.source and span.start <= offset <= span.end


def named(document: Document, offset: int) -> Hover | None:
    found = document.bindings.at(offset) if document.bindings is not None else None
    if found is None:
        return None
    name, declared = found
    if declared is None:
        built_in = BUILT_IN.get(name.text)
        if built_in is not None:
            return Hover(f"```nl\n{built_in.form}\n```\n{built_in.says}", name.span)
        if not document.meanings(name):
            return None
    head = f"{name.text}" if declared is None else declaration(declared)
    said = meanings(document, name, declared)
    about = comment(declared)
    return Hover("\n\n".join([f"```nl\n{head}\n```", *said, *about]), name.span)


def word(document: Document, offset: int) -> Hover | None:
    """A word of the language, wherever it stands outside of comments and names."""
    places = Places.of(document.source)
    if len(document.source.text) > LARGEST_TEXT:
        return None
    words, _ = scan(places)
    here = next((w for w in words if w.start <= offset <= w.end and w.kind == "name"), None)
    known = LANGUAGE.get(here.text) or BUILT_IN.get(here.text) if here is not None else None
    if here is None or known is None:
        return None
    return Hover(f"```nl\n{known.form}\n```\n{known.says}", places.span(here.start, here.end))


def declaration(declared: Declared) -> str:
    """The line that declares it, without what stands in its block."""
    made = declared.made
    match made:
        case syntax.Param():
            kind = "an axis of its argument" if declared.kind == "axis" else "a parameter"
            shape = f": {type_(made.shape)}" if made.shape is not None else ""
            return f"{declared.name.text}{shape if declared.kind != 'axis' else ''}  # {kind}"
        case syntax.Import():
            return f"import {declared.name.text}"
        case syntax.Binding(name, _):
            return f"dim {name} = {made.value.span.text()}"
        case syntax.Def() | syntax.Level() | syntax.For():
            return header(made) if block_of(made) is not None else cut(one_line(made))
    assert not isinstance(made, syntax.Syntax) or isinstance(made, syntax.Statement)
    return cut(one_line(made))


def cut(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 3] + " .."


def meanings(document: Document, name: syntax.Name, declared: Declared | None) -> list[str]:
    """What it was found to mean here, else where it is declared, else wherever it is used."""
    places = [name]
    if declared is not None and document.bindings is not None:
        places += [declared.name, *document.bindings.uses(declared)]
    found = next((known for place in places if (known := document.meanings(place))), [])
    alike: dict[tuple[str, ...], dict[str, None]] = {}
    for meaning in found:
        said = (type_of(meaning), *facts(meaning, document))
        alike.setdefault(said, {})[home(meaning)] = None
    every = (told(name.text, *said, homes=tuple(homes)) for said, homes in alike.items())
    lines = [line for line in every if line]
    more = len(lines) - MOST_MEANINGS
    return [*lines[:MOST_MEANINGS], *([f"and {more} more, by call"] if more > 0 else [])]


def told(name: str, kind: str, *said: str, homes: tuple[str, ...]) -> str:
    typed = [f"`{name}: {kind}`"] if kind else []
    of = [f"of level `{folded(homes)}`"] if homes != ("",) else []
    return "; ".join([*typed, *of, *said])


def comment(declared: Declared | None) -> list[str]:
    """What the text says behind the line of a declaration, or above it."""
    if declared is None:
        return []
    source = declared.name.span.source
    lines = source.text.split("\n")
    number = declared.name.span.line - 1
    behind = lines[number].partition("#")[2].strip() if '"' not in lines[number] else ""
    above: list[str] = []
    while number > 0 and lines[number - 1].lstrip().startswith("#"):
        number -= 1
        above.insert(0, lines[number].strip().lstrip("#").strip())
    return [said for said in (" ".join(above), behind) if said]
