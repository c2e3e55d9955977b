"""Characters of a text <-> lines and columns of an editor, which counts columns in the units of an
encoding: an emoji is one character, and two units of UTF-16.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from nldsl.frontend.lex import Places
from nldsl.source import Source

UNIT_BYTES = {"utf-8": 1, "utf-16": 2, "utf-32": 4}


@dataclass(frozen=True)
class Positions:
    """Places of one text, in an encoding that editor and server agreed on."""

    text: str
    starts: tuple[int, ...]
    encoding: str

    @staticmethod
    def of(text: str, encoding: str = "utf-16") -> Positions:
        return Positions(text, Places.of(Source("", text)).line_starts, encoding)

    def units(self, text: str) -> int:
        """The length of a text in the editor's units."""
        coding = "utf-8" if self.encoding == "utf-8" else f"{self.encoding}-le"
        return len(text.encode(coding, "surrogatepass")) // UNIT_BYTES[self.encoding]

    def line_and_column(self, offset: int) -> tuple[int, int]:
        """Both from 0."""
        line = bisect_right(self.starts, offset) - 1
        return line, self.units(self.text[self.starts[line] : offset])

    def offset(self, line: int, column: int) -> int:
        """The character at a place. A column past the end of its line is the end, a line past that
        of the text too; within a character, it is that character.
        """
        if line >= len(self.starts):
            return len(self.text)
        start = self.starts[line]
        end = self.text.find("\n", start)
        words = self.text[start : len(self.text) if end < 0 else end].removesuffix("\r")
        passed = 0
        for i, letter in enumerate(words):
            passed += self.units(letter)
            if passed > column:
                return start + i
        return start + len(words)
