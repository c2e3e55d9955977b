"""A FILE OF TEXT -> its bytes in UTF-8, with the line ends of Unix.

A file without a mark is read as it stands, in whatever it is written; one that begins with a
byte-order mark is decoded by it, and any file by an encoding that is declared. Line ends of Windows
become `\\n` where the first one is of Windows.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nldsl.source import MARKS
from nldsl.train import faults
from nldsl.train.data import filetype
from nldsl.train.data.maps import Growing, mapped

PIECE = 1 << 22  # bytes decoded at once
MAPPED = 1 << 20  # smaller files are read
HEAD = 1 << 16  # bytes in which the mark and the first line end are looked for

Bytes = NDArray[np.uint8]  # [byte]


def content(file: Path, encoding: str | None = None) -> Bytes:
    """The text of a file. Raises N702 unreadable, N755 not in the encoding."""
    data = raw(file)
    head = data[:HEAD].tobytes()
    coding = encoding or marked(head)
    if coding is None and (not is_windows(head) or filetype.by_name(data, unlike_text=False)):
        return data
    text = Growing(np.uint8)
    for piece in unix(decoded(file, data, coding) if coding else pieces(data)):
        text.append(piece)
    return text.array()


def raw(file: Path) -> Bytes:
    """The bytes of a file as they are; a large one is mapped."""
    try:
        with file.open("rb") as opened:
            if os.fstat(opened.fileno()).st_size < MAPPED:
                return np.frombuffer(opened.read(), np.uint8)
            return mapped(opened, np.uint8)
    except OSError as error:
        raise faults.unreadable(file, error) from None


def marked(head: bytes) -> str | None:
    """The encoding that a byte-order mark tells."""
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    return next((coding for mark, coding in MARKS.items() if head.startswith(mark)), None)


def is_windows(text: bytes) -> bool:
    """Is its first line end one of Windows?"""
    return text[: text.find(b"\n") + 1].endswith(b"\r\n")


def pieces(data: Bytes) -> Iterator[bytes]:
    for begin in range(0, len(data), PIECE):
        yield data[begin : begin + PIECE].tobytes()


def decoded(file: Path, data: Bytes, coding: str) -> Iterator[bytes]:
    """In UTF-8, piece by piece. Raises N755 at the first byte that the encoding does not have."""
    decoder = codecs.getincrementaldecoder(coding)()
    read = 0
    for piece in chain(pieces(data), [b""]):
        held = len(decoder.getstate()[0])
        try:
            yield decoder.decode(piece, final=not piece).encode()
        except UnicodeError as error:
            place = read - held + getattr(error, "start", 0)
            raise faults.other_encoding(file, coding, place) from None
        read += len(piece)


def unix(texts: Iterator[bytes]) -> Iterator[bytes]:
    """The same text with its line ends of Windows, if it has them, made those of Unix."""
    held, windows = b"", None
    for text in texts:
        text = held + text
        if windows is None and b"\n" in text:
            windows = is_windows(text)
        held = b"\r" if windows is not False and text.endswith(b"\r") else b""
        text = text.removesuffix(held) if held else text
        yield text.replace(b"\r\n", b"\n") if windows else text
    yield held
