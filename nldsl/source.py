"""A text, where it came from, and spans of it."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from pathlib import Path

MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
UNDECODED = "\ufffd"  # stands for bytes that are no character


@dataclass(frozen=True)
class Source:
    """A text, the name of its file, and the folder where the user says that it lies."""

    name: str
    text: str
    folder: Path = field(default=Path(), compare=False)

    @property
    def place(self) -> str:
        """What messages call it."""
        return str(self.folder / self.name)

    def line(self, number: int) -> str:
        """The text of line `number`, counted from 1, without its line end."""
        lines = self.text.splitlines()
        return lines[number - 1] if 0 < number <= len(lines) else ""


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of a source, with the line and column (from 1) where they begin and
    end.
    """

    source: Source
    start: int
    end: int
    line: int
    column: int
    end_line: int
    end_column: int

    def text(self) -> str:
        return self.source.text[self.start : self.end]


def decoded(data: bytes) -> str:
    """The text of a file, without the mark that it may begin with. Bytes that are not UTF-8, or not
    in the encoding of the byte-order mark, become U+FFFD, which is refused at its place.
    """
    coding = next((coding for mark, coding in MARKS.items() if data.startswith(mark)), "utf-8-sig")
    return data.decode(coding, errors="replace")
