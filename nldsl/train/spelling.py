"""Tokens, one after the other -> the text that they stand for, as soon as it is certain.

    text = Spelling(vocabulary, stops)
    text.begin(prompt)     the letters of a prompt
    text.add(token)        letters that can be shown now; `text.ended` once a stop was written
    text.rest()            those that waited for more

A letter of several bytes waits for its last one, and what may be the begin of a stop for what
follows. What is held does not grow with the text.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from nldsl.train.data.vocabulary import Vocabulary

UNKNOWN = "\ufffd".encode()  # stands for bytes that are no letter yet
WAITS = 3  # such marks that the last tokens of a letter leave
TOKENS = 64  # after so many tokens without a whole letter nothing is waited for


class Spelling:
    def __init__(self, vocabulary: Vocabulary, stops: Sequence[bytes] = ()) -> None:
        self.vocabulary, self.stops = vocabulary, [stop for stop in stops if stop]
        self.ended = False
        self._before: list[int] = []  # tokens that what follows is decoded after
        self._new: list[int] = []
        self._shown = 0  # bytes of both that were given out
        self._held = b""
        self._letters = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")

    def begin(self, prompt: Sequence[int]) -> str:
        """A prompt, as far as its letters are whole; it may hold stops."""
        return self._letters.decode(self._decoded(prompt))

    def add(self, token: int) -> str:
        """What can be shown after one more token. A stop is not, nor what follows it."""
        if self.ended:
            return ""
        text = self._held + self._decoded([token])
        places = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        if places:
            self.ended, self._held = True, b""
            return self._letters.decode(text[: min(places)])
        wait = max((overlap(text, stop) for stop in self.stops), default=0)
        self._held = text[len(text) - wait :]
        return self._letters.decode(text[: len(text) - wait])

    def rest(self) -> str:
        """What was waiting, once the text is at its end."""
        left = b"" if self.ended else self._held + self._whole()[self._shown :]
        return self._letters.decode(left, final=True)

    def _whole(self) -> bytes:
        return self.vocabulary.decode(self._before + self._new)

    def _decoded(self, tokens: Sequence[int]) -> bytes:
        """The bytes of some tokens, and of those before them that waited for them."""
        self._new += tokens
        whole = self._whole()
        certain = len(whole)
        if len(self._new) < TOKENS:
            for _ in range(WAITS):
                certain -= len(UNKNOWN) * whole[:certain].endswith(UNKNOWN)
        found = whole[self._shown : certain]
        self._shown = max(self._shown, certain)
        if certain == len(whole) and self._new:
            self._before, self._new = self._new[-TOKENS:], []
            self._shown = len(self._whole())
        return found


def readable(text: bytes) -> str:
    """As text: bytes that are not UTF-8, or would move the cursor of a terminal, are shown as
    escapes.
    """
    return visible(text.decode("utf-8", errors="backslashreplace"))


def visible(text: str) -> str:
    """Without what would move the cursor of a terminal."""
    return "".join(
        c
        if c.isprintable() or c == "\n"
        else " " * 4
        if c == "\t"
        else c.encode("unicode_escape").decode()
        for c in text
    )


def overlap(text: bytes, stop: bytes) -> int:
    """The longest end of a text that a stop begins with, shorter than it."""
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if stop.startswith(text[-size:])), 0)
