"""The fixes of findings, applied to a text one after another: each has to mend its finding and to
bring no error with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from nldsl.diagnostic import Diagnostic, Edit, edited
from nldsl.editor.document import Document

MOST_ROUNDS = 100
SYNTAX, EQUATIONS, RULES = range(3)  # what judges a text last: each ends the reading
Read = Callable[[str], Document]


@dataclass(frozen=True)
class Mended:
    """A text with the fixes that were `applied`, each to the text as it then was."""

    document: Document
    applied: tuple[Diagnostic, ...]


def mended(text: str, read: Read) -> Mended:
    """Applies every fix that helps. Fixes of imported files are left alone."""
    found = Mended(read(text), ())
    for _ in range(MOST_ROUNDS):
        tried = (with_fix(found, one, read) for one in found.document.findings)
        better = next((made for made in tried if made is not None), None)
        if better is None:
            break
        found = better
    return found


def with_fix(found: Mended, one: Diagnostic, read: Read) -> Mended | None:
    """The text with one fix more; None if there is none, or if it does not mend the text."""
    before = found.document
    if not one.fix or any(edit.span.source != before.source for edit in one.fix):
        return None
    after = read(edited(before.source.text, one.fix))
    less = Counter(map(said, after.findings))[said(one)]
    if less >= Counter(map(said, before.findings))[said(one)] or brought(one.fix, before, after):
        return None
    return Mended(after, (*found.applied, one))


def said(one: Diagnostic) -> tuple[str, str]:
    return one.code, one.message


def errors(document: Document) -> list[Diagnostic]:
    return [one for one in document.findings if one.severity == "error"]


def brought(fix: tuple[Edit, ...], before: Document, after: Document) -> bool:
    """Does an error come with the fix? Where a text gets further than before, errors that it had
    all along are seen for the first time: then one counts if it stands where the fix wrote.
    """
    if stage(after) <= stage(before):
        return bool(Counter(map(said, errors(after))) - Counter(map(said, errors(before))))
    return any(
        one.span is not None and start <= one.span.end and one.span.start <= end
        for one in errors(after)
        for start, end in written(fix)
    )


def stage(document: Document) -> int:
    """How far a text got."""
    if document.file is None or any(one.code.startswith("N0") for one in errors(document)):
        return SYNTAX
    return EQUATIONS if document.program is None else RULES


def written(fix: tuple[Edit, ...]) -> list[tuple[int, int]]:
    """Where the texts of a fix stand in the text that it makes."""
    places, moved = [], 0
    for edit in sorted(fix, key=lambda edit: edit.span.start):
        start = edit.span.start + moved
        places.append((start, start + len(edit.text)))
        moved += len(edit.text) - (edit.span.end - edit.span.start)
    return places
