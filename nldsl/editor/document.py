"""The text of a file -> all that the compiler knows of it, mistakes or not.

What can be read is bound and worked out beside what cannot; the findings are those of `nldsl
check`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostic, Diagnostics
from nldsl.editor.bindings import Bindings, Brought, bind, nothing
from nldsl.frontend.parse import recovered
from nldsl.frontend.placement import misplaced
from nldsl.frontend.syntax import File, Name
from nldsl.graph.desugar import elaborate
from nldsl.graph.files import beside
from nldsl.graph.memories import MemoryInstance
from nldsl.graph.scope import LIBRARY
from nldsl.graph.values import Value
from nldsl.pipeline import STANDARD
from nldsl.rules import check
from nldsl.source import Source, Span, decoded

Meaning: TypeAlias = "Value | MemoryInstance"
FILES_KEPT = 64


@dataclass(frozen=True)
class Document:
    """`file` and `bindings` are of what can be read, `program` is there where the equations have a
    meaning, `heard` holds by place what a name was found to mean, once for each time.
    """

    source: Source
    path: Path
    file: File | None
    bindings: Bindings | None
    program: Program | None
    findings: tuple[Diagnostic, ...]
    heard: dict[tuple[str, int], list[Meaning]]

    def file_of(self, span: Span) -> Path:
        """The file that the words of a finding stand in."""
        if span.source == self.source:
            return self.path
        name = span.source.name
        folder = STANDARD if name.startswith(LIBRARY) else self.path.parent
        return folder / name.removeprefix(LIBRARY)

    def meanings(self, name: Name) -> list[Meaning]:
        return self.heard.get(place(name.span), [])


def place(span: Span) -> tuple[str, int]:
    return span.source.place, span.start


def read(text: str, path: Path, sets: Mapping[str, str] = {}) -> Document:
    """What is known of a text that lies at `path`, or will."""
    source = Source(path.name, text, path.parent)
    file, found = recovered(source)
    heard: dict[tuple[str, int], list[Meaning]] = defaultdict(list)
    if file is None:
        return Document(source, path, None, None, None, found, heard)
    bindings = bind(file, path, brought_from(path.parent))
    program = None
    if not misplaced(file, complete=False):
        try:
            program = elaborate(
                file,
                source,
                sets=sets,
                search=[path.parent, STANDARD],
                heard=lambda words, meaning: heard[place(words)].append(meaning),
            )
            found = found or check(program).findings
        except Diagnostics as refused:
            found = found or refused.diagnostics
    return Document(source, path, file, bindings, program, found, dict(heard))


def names_in(text: str, path: Path) -> Bindings | None:
    """The names of a text alone; none where it cannot be read."""
    file, _ = recovered(Source(path.name, text, path.parent))
    return None if file is None else bind(file, path, brought_from(path.parent))


def brought_from(folder: Path) -> Brought:
    """The names of a file that a file in this folder imports; none where it is not there."""

    def brought(name: str) -> Bindings | None:
        path = beside(name, (folder, STANDARD))
        return None if path is None else bound(path, path.stat().st_mtime_ns)

    return brought


@lru_cache(FILES_KEPT)
def bound(path: Path, changed: int) -> Bindings | None:
    """The names of a file as it was `changed`, its own imports left alone."""
    file, _ = recovered(Source(path.name, decoded(path.read_bytes()), path.parent))
    return None if file is None else bind(file, path, nothing)
