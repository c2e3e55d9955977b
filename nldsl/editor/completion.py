"""A place in a text that is being typed -> the words that may stand there.

The line up to the place decides what is asked for: a clock behind `@`, a part behind `.`, a file
behind `import`, else a statement at the begin of a line and a name anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nldsl.core.nodes import Tree
from nldsl.editor.bindings import Bindings, Declared, Scope
from nldsl.editor.document import Document, Meaning
from nldsl.editor.hover import comment, declaration
from nldsl.editor.words import BUILT_IN, CLAUSES, STATEMENTS, TIMES, Word
from nldsl.graph.memories import MemoryInstance
from nldsl.graph.values import Array, MemoryValue
from nldsl.pipeline import STANDARD

BEHIND_AT = re.compile(r"@\w*$")
BEHIND_DOT = re.compile(r"(\w+)(?:\[[^\]]*\])?(?:@\w+)?\.\w*$")
IMPORTED = re.compile(r"^\s*import\s[\w,\s]*$")
STRETCH = re.compile(r"\b(every|over|bptt|reset|clock\s+\w+\s*=)\s+(\d+\s+)?\w*$")
BEGINS = re.compile(r"(^|[{}])\s*\w*$")
# a comment, a string that is open, the version
INSIDE = re.compile(r"#|^[^\"]*\"([^\"]*\"[^\"]*\")*[^\"]*$|^\s*nldsl\b")


@dataclass(frozen=True)
class Completion:
    """A word, what it is, and what is told of it. `kind` is that of a declaration, or "word",
    "function", "constant", "unit".
    """

    text: str
    kind: str
    form: str = ""
    says: str = ""


def completions(
    document: Document, offset: int, earlier: Document | None = None
) -> list[Completion]:
    """Sorted by what is nearest. `earlier` is the text as it could last be worked out, for the
    moments in which it cannot.
    """
    names = document.bindings or (earlier.bindings if earlier is not None else None)
    line = document.source.text[document.source.text.rfind("\n", 0, offset) + 1 : offset]
    if INSIDE.search(line):
        return []
    scope = names.scope(offset) if names is not None else None
    if IMPORTED.match(line):
        return [*files(document.path.parent)]
    if BEHIND_AT.search(line):
        return [*of_kind(scope, "clock"), *words({"after": CLAUSES["after"]}, "word")]
    if behind := BEHIND_DOT.search(line):
        known = [d for d in (document, earlier) if d is not None and d.bindings is not None]
        found = (parts(one, one.bindings, offset, behind[1]) for one in known if one.bindings)
        return next((words for words in found if words), [])
    if STRETCH.search(line):
        return [*of_kind(scope, "clock"), *words(TIMES, "unit"), *words(others("period"), "word")]
    named = [] if scope is None else [told(found) for found in scope.visible().values()]
    statements = [*words(STATEMENTS, "word")] if BEGINS.search(line) else []
    built_in = [
        Completion(name, "function" if "(" in row.form else "constant", row.form, row.says)
        for name, row in BUILT_IN.items()
    ]
    clauses = [] if BEGINS.search(line) else [*words(CLAUSES, "word")]
    return [*statements, *named, *built_in, *clauses]


def words(rows: dict[str, Word], kind: str) -> Iterator[Completion]:
    for text, row in rows.items():
        yield Completion(text, kind, row.form, row.says)


def others(*names: str) -> dict[str, Word]:
    return {name: CLAUSES[name] for name in names}


def told(found: Declared) -> Completion:
    return Completion(found.name.text, found.kind, declaration(found), " ".join(comment(found)))


def of_kind(scope: Scope | None, kind: str) -> list[Completion]:
    known = scope.visible().values() if scope is not None else ()
    return [told(found) for found in known if found.kind == kind]


def files(folder: Path) -> Iterator[Completion]:
    """What `import` can bring: beside this file, and of the library."""
    for place, says in ((folder, "beside this file"), (STANDARD, "of the library")):
        for path in sorted(place.glob("*.nl")):
            yield Completion(path.stem, "file", f"import {path.stem}", says)


def parts(document: Document, names: Bindings, offset: int, name: str) -> list[Completion]:
    """The memories of a level, or the weights of a tree as they were found."""
    found = names.scope(offset).find(name)
    if found is None:
        return []
    if found.kind == "level" and found.inner is not None:
        return [told(d) for d in found.inner.names.values() if d.kind == "memory"]
    uses = (found.name, *names.uses(found))
    meanings = (meaning for use in uses for meaning in document.meanings(use))
    seen = dict.fromkeys(leaf for meaning in meanings for leaf in leaves(meaning))
    return [Completion(leaf, "weight") for leaf in seen]


def leaves(meaning: Meaning) -> list[str]:
    """The first parts of the paths of a tree."""
    kind = None
    match meaning:
        case Array(node):
            kind = node.type
        case MemoryInstance() | MemoryValue():
            memory = meaning.memory if isinstance(meaning, MemoryValue) else meaning
            kind = memory.type.value.core if memory.type.state == "done" else None
    return [path.partition(".")[0] for path in kind.paths()] if isinstance(kind, Tree) else []
