"""A spec as it is given: its text, and the program that it is."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from nldsl.cli.options import overrides
from nldsl.cli.outcome import warned
from nldsl.diagnostic import Diagnostic
from nldsl.source import Source, decoded

if TYPE_CHECKING:
    from nldsl.core.program import Program
    from nldsl.pipeline import Watch


class Text(NamedTuple):
    """A spec as given, and the folder where its imports are looked for first."""

    source: Source
    folder: Path


def source_of(spec: str) -> Text:
    """A file that cannot be read is a usage error; bytes that are not UTF-8 are left for the
    compiler to reject at their place.
    """
    if spec == "-":
        return Text(Source("<stdin>", decoded(sys.stdin.buffer.read())), Path())
    try:
        path = Path(spec)
        return Text(Source(path.name, decoded(path.read_bytes()), path.parent), path.parent)
    except OSError as error:
        raise typer.BadParameter(f"`{spec}` cannot be read: {error.strerror}") from None


def loaded(text: Text, sets: list[str] | None, watch: Watch | None = None) -> Program:
    from nldsl import pipeline

    said, found = text.source, watch or pipeline.unwatched
    return noted(pipeline.load_text(said.text, said.place, overrides(sets), [text.folder], found))


def noted(program: Program, more: Iterable[Diagnostic] = ()) -> Program:
    """Print the warnings and notes of a program that was accepted."""
    warned([*program.findings, *more])
    return program
