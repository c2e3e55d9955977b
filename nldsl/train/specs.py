"""A spec and all it imports: the copy that a run keeps, and its fingerprint."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

from nldsl import pipeline
from nldsl.core.program import Program
from nldsl.frontend.parse import parse
from nldsl.frontend.syntax import Import
from nldsl.source import Source, decoded


def text_of(spec: Path) -> str:
    """The text of a file; bytes that are not UTF-8 become characters that the compiler rejects at
    their place.
    """
    return decoded(spec.read_bytes())


def files_of(spec: Path) -> dict[str, Path]:
    """File name -> file, of the spec and everything it imports, as the compiler finds them: beside
    it, then in the library.
    """
    found = {spec.name: spec}
    waiting = [spec]
    while waiting:
        file = waiting.pop()
        for statement in parse(Source(file.name, text_of(file))).statements:
            for name in statement.names if isinstance(statement, Import) else ():
                wanted = f"{name.text}.nl"
                place = next(
                    (
                        folder / wanted
                        for folder in (spec.parent, pipeline.STANDARD)
                        if (folder / wanted).exists()
                    ),
                    None,
                )
                if place is not None and wanted not in found:
                    found[wanted] = place
                    waiting.append(place)
    return found


def texts_of(spec: Path) -> dict[str, str]:
    return {name: text_of(file) for name, file in files_of(spec).items()}


def program_of(texts: Mapping[str, str], spec: str, sets: Mapping[str, str]) -> Program:
    """The program of a spec whose files are texts."""
    with TemporaryDirectory() as folder:
        for name, text in texts.items():
            (Path(folder) / name).write_bytes(text.encode())
        return pipeline.load_text(texts[spec], spec, sets, [Path(folder)])


def difference(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The first line in which two sets of files differ: `a.nl:3: was `x = 1`, now `x = 2``."""
    for name in sorted({*was, *now}):
        old, new = (files[name].split("\n") if name in files else None for files in (was, now))
        if old is None or new is None:
            return f"`{name}` {'came' if old is None else 'went'}"
        for number, (before, after) in enumerate(zip_longest(old, new), 1):
            if before != after:
                return f"{name}:{number} was {quoted(before)}, now it is {quoted(after)}"
    return "nothing"


def quoted(line: str | None) -> str:
    """A line between quotes; one that differs in what is not seen is shown with it."""
    if line is None:
        return "not there"
    return f"`{line}`" if line.isprintable() and line == line.strip() and line else repr(line)
