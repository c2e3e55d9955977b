"""A text, where it came from, and spans of it."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    name: str
    text: str

    def line(self, number: int) -> str:
        """The text of line `number`, counted from 1, without its line end."""
        lines = self.text.splitlines()
        return lines[number - 1] if 0 < number <= len(lines) else ""


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of a source, with the line and column (from 1) where they begin and end."""

    source: Source
    start: int
    end: int
    line: int
    column: int
    end_line: int
    end_column: int

    def text(self) -> str:
        return self.source.text[self.start:self.end]
