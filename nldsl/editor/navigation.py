"""Where a name is declared, where it is used, and the edits that give it another name: in its file
and in those beside it that import it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from nldsl.diagnostic import Edit, edited
from nldsl.editor.bindings import Bindings, Declared
from nldsl.editor.document import Document, names_in, read
from nldsl.editor.words import BUILT_IN, LANGUAGE
from nldsl.frontend.lex import UNNAMEABLE, WORDS
from nldsl.frontend.syntax import Name
from nldsl.pipeline import STANDARD
from nldsl.source import decoded

OUTSIDE = frozenset({"def", "parameter", "file"})  # what other files may name
Texts = Mapping[Path, str]  # of open files, as they are now


class Refused(Exception):
    """A name cannot be changed so; the words say why."""


def declared_at(document: Document, offset: int) -> Declared | None:
    found = document.bindings.at(offset) if document.bindings is not None else None
    return found[1] if found is not None else None


def definition(document: Document, offset: int) -> tuple[Path, Name | None] | None:
    """The file in which a name is declared, and its words there; of an import, the file alone."""
    found = declared_at(document, offset)
    if found is None:
        return None
    return found.path, None if found.kind == "file" else found.name


def references(document: Document, offset: int, texts: Texts) -> list[tuple[Path, Name]]:
    """Every place of the name at a character, its declaration included."""
    found = declared_at(document, offset)
    if found is None:
        return []
    return [
        (file.path, name) for file in around(document, found, texts) for name in file.uses(found)
    ]


def around(document: Document, meant: Declared, texts: Texts) -> list[Bindings]:
    """The files in which a name may stand: its own, and those beside the document, if any file
    but its own can see it.
    """
    assert document.bindings is not None
    if meant.kind not in OUTSIDE:
        return [document.bindings]
    folder = document.path.parent
    beside = {path.resolve() for path in folder.glob("*.nl")} | {meant.path} | set(texts)
    files = [names(path, texts) for path in sorted(beside - {document.path})]
    return [document.bindings, *(file for file in files if file is not None)]


def names(path: Path, texts: Texts) -> Bindings | None:
    """Of an open file as it is now, else as it lies on the disk."""
    if path in texts:
        return names_in(texts[path], path)
    return names_in(decoded(path.read_bytes()), path) if path.is_file() else None


def renamed(
    document: Document, offset: int, new: str, texts: Texts
) -> dict[Path, tuple[Edit, ...]]:
    """The edits by file. Raises Refused where the name is not of a user's file, where the new one
    is taken, or where the text would then mean something else.
    """
    meant = declared_at(document, offset)
    if meant is None or meant.kind == "file":
        raise Refused("only what a file declares has a name to change")
    if STANDARD in meant.path.parents:
        raise Refused(f"`{meant.name.text}` is of the library: copy the def, and name the copy")
    unread = next((d for d in document.findings if d.code.startswith("N0")), None)
    if unread is not None:
        line = "" if unread.span is None else f" in line {unread.span.line}"
        raise Refused(f"{unread.message}{line}: a name may stand in what cannot be read")
    word = WORDS.fullmatch(new)
    if word is None or word.lastgroup != "name" or new in UNNAMEABLE:
        raise Refused(
            f"`{new}` is not a name: letters, digits and `_`, and no word of the language"
        )
    if new in BUILT_IN or new in LANGUAGE:
        raise Refused(f"`{new}` is a name of the language")
    found: dict[Path, tuple[Edit, ...]] = {}
    for path, name in references(document, offset, texts):
        found[path] = (*found.get(path, ()), Edit(name.span, new))
    if set(found) == {document.path}:
        unchanged(document, meant, new, found[document.path])
    else:
        unused(around(document, meant, texts), new)
    return found


def unused(files: list[Bindings], new: str) -> None:
    """Raises Refused if a name stands in one of these files already, whatever it means there."""
    for file in files:
        line = next((n.span.line for n, _ in file.names.values() if n.text == new), None)
        if line is not None or new in file.scopes[0].names:
            place = "" if line is None else f", line {line}"
            raise Refused(f"`{new}` is a name in {file.path.name}{place} already")


def unchanged(document: Document, meant: Declared, new: str, edits: tuple[Edit, ...]) -> None:
    """Raises Refused if the renamed text binds another name, or has other findings."""
    after = read(edited(document.source.text, edits), document.path)
    before = document.bindings
    assert before is not None
    moved = sorted(edit.span.start for edit in edits)
    grown = len(new) - len(meant.name.text)

    def now(offset: int) -> int:
        return offset + grown * sum(start < offset for start in moved)

    own = meant.path == document.path
    places = {
        now(start): now(stands.name.span.start)
        for start, (_, stands) in before.names.items()
        if stands is not None and stands.path == document.path
    }
    kept = {
        start: stands.name.span.start
        for start, (_, stands) in (after.bindings.names.items() if after.bindings else ())
        if stands is not None and stands.path == document.path
    }
    known, found = (Counter(d.code for d in one.findings) for one in (document, after))
    wrong = next((d for d in after.findings if found[d.code] > known[d.code]), None)
    if wrong is not None:
        line = f"line {wrong.span.line}: " if wrong.span is not None else ""
        raise Refused(f"with `{new}` the text would be wrong: {line}{wrong.code}, {wrong.message}")
    if own and places != kept:
        raise Refused(f"as `{new}`, `{meant.name.text}` would mean something else in this text")
