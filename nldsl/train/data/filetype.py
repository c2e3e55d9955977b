"""Bytes -> the kind of file that they seem to be, if that is not text.

    is_json_lines(head)
    seems(array)   None: text: UTF-8, or another writing of one byte a letter; the byte 0 stands
                   between documents, if anywhere
                   else "gzip", "Parquet", "UTF-16 text", "an array of uint16", ..., and what to do
                   about it

A file says what it is by its first bytes; what has no such name is judged by how its bytes are
spread.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

PIECE = 1 << 22  # bytes counted at once
LOOKED_AT = 1 << 16  # of its begin
ODD = frozenset(range(1, 32)) - set(b"\a\b\t\n\v\f\r\x1b") | {
    127
}  # control characters that a text has no use for
ODD_SHARE = 0.02  # more of them, and it is not text
SHORTEST_DOCUMENT = 8  # bytes for each byte 0, on average
PLAIN = 0.97  # share of letters, digits, marks and spaces in what is read as UTF-16
LINES = 5  # of a text that are looked at for JSON
SPACED = 0.005  # share of spaces and ends of lines or sentences


@dataclass(frozen=True)
class Seeming:
    name: str
    help: str


UNPACK = "unpack it: the text inside can be trained on"
EXPORT = "write its text to a file: documents parted by the byte 0, or a file for each in a folder"
TOKENS = "tokens are a .bin file of uint16, or an .npy file of integers: name it so"
DECLARE = "declare it: `--encoding utf-16-le`, or `utf-16-be`"
TABLE = "an array of numbers is for a program that reads numbers: `input x: [channel]`"
NOT_DATA = "name a text file, or a folder of text"

SIGNATURES: tuple[tuple[bytes, int, str, str], ...] = (
    (b"\x1f\x8b\x08", 0, "gzip", "unpack it: `gzip -d`"),
    (b"BZh", 0, "bzip2", "unpack it: `bzip2 -d`"),
    (b"\xfd7zXZ\0", 0, "xz", "unpack it: `xz -d`"),
    (b"\x28\xb5\x2f\xfd", 0, "zstd", "unpack it: `zstd -d`"),
    (b"\x04\x22\x4d\x18", 0, "lz4", "unpack it: `lz4 -d`"),
    (b"7z\xbc\xaf\x27\x1c", 0, "7-Zip", UNPACK),
    (b"Rar!\x1a\x07", 0, "RAR", UNPACK),
    (b"ustar", 257, "tar", "unpack it: `tar -xf`"),
    (b"PK\x03\x04", 0, "zip", UNPACK),
    (b"PK\x05\x06", 0, "zip", UNPACK),
    (b"PAR1", 0, "Parquet", "name it .parquet: its column of text is read"),
    (b"ARROW1", 0, "Arrow", EXPORT),
    (b"Obj\x01", 0, "Avro", EXPORT),
    (b"ORC", 0, "ORC", EXPORT),
    (b"SQLite format 3\0", 0, "SQLite", EXPORT),
    (b"\x89HDF\r\n\x1a\n", 0, "HDF5", TABLE),
    (b"\x93NUMPY", 0, "a NumPy array", TABLE),
    (b"\x89PNG\r\n\x1a\n", 0, "a PNG picture", NOT_DATA),
    (b"\xff\xd8\xff", 0, "a JPEG picture", NOT_DATA),
    (b"GIF87a", 0, "a GIF picture", NOT_DATA),
    (b"GIF89a", 0, "a GIF picture", NOT_DATA),
    (b"WEBP", 8, "a WebP picture", NOT_DATA),
    (b"WAVE", 8, "a WAV sound", NOT_DATA),
    (b"OggS", 0, "an Ogg sound", NOT_DATA),
    (b"fLaC", 0, "a FLAC sound", NOT_DATA),
    (b"ID3", 0, "an MP3 sound", NOT_DATA),
    (b"ftyp", 4, "an MP4 film", NOT_DATA),
    (b"%PDF-", 0, "PDF", "take the text out of it: `pdftotext`"),
    (b"\x7fELF", 0, "a program", NOT_DATA),
    (b"MZ\x90\0", 0, "a program", NOT_DATA),
)
AMONG_LETTERS = frozenset(
    {b"BZh", b"ORC", b"ID3", b"WEBP", b"WAVE", b"ftyp", b"ustar", b"OggS", b"fLaC"}
)  # a text may have them there


def seems(data: np.ndarray) -> Seeming | None:
    """The kind of file that a uint8 array seems to be; None of a text, an empty one included."""
    counts = np.zeros(256, np.int64)
    for begin in range(0, len(data), PIECE):
        counts += np.bincount(data[begin : begin + PIECE], minlength=256)
    zeros, odd = int(counts[0]), int(counts[sorted(ODD)].sum())
    head = data[:LOOKED_AT].tobytes()
    named = by_name(data, zeros + odd > 0)
    if named is not None:
        return named
    if zeros * SHORTEST_DOCUMENT <= len(data) and odd <= ODD_SHARE * len(data):
        return None
    return by_spread(head, len(data))


def by_name(data: np.ndarray, unlike_text: bool = True) -> Seeming | None:
    """What the first bytes of a file say that it is."""
    head, size = data[:LOOKED_AT].tobytes(), len(data)
    for mark, at, name, help in SIGNATURES:
        if head[at : at + len(mark)] == mark and (unlike_text or mark not in AMONG_LETTERS):
            return Seeming(name, help)
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") and data[-1] == ord("."):
        return Seeming("a pickle", EXPORT)
    length = int.from_bytes(head[:8], "little")
    if len(head) > 8 and 2 <= length <= size - 8 and is_json(head[8 : 8 + length], length):
        return Seeming("safetensors", NOT_DATA)
    return None


def is_json(head: bytes, length: int) -> bool:
    """Is it an object, as far as it is there?"""
    if not head.startswith(b"{") or len(head) < length:
        return head.startswith(b'{"')
    try:
        json.loads(head)
    except ValueError:
        return False
    return True


def by_spread(head: bytes, size: int) -> Seeming:
    found = wide(head)
    if found:
        return Seeming(f"{found} text", DECLARE.replace("16", found.removeprefix("UTF-")))
    for width in (4, 2):
        values = np.frombuffer(head[: len(head) // width * width], f"<u{width}")
        high = values >> (8 * (width - 1))
        if not size % width and len(values) and (width == 2 or not high.any()):
            return Seeming(f"an array of uint{8 * width}: token ids, perhaps", TOKENS)
    return Seeming("binary", NOT_DATA)


def wide(head: bytes) -> str:
    """`UTF-16` or `UTF-32` of a text in it without a mark, else nothing."""
    for name, width in (("UTF-32", 4), ("UTF-16", 2)):
        for order in ("le", "be"):
            text = head[: len(head) // width * width].decode(f"{name}-{order}", errors="replace")
            plain = sum(c.isprintable() and c != "\ufffd" or c in "\n\r\t" for c in text)
            spaces = sum(c in " \n\r\t\u3000\u3001\u3002" for c in text)
            if text and plain >= PLAIN * len(text) and spaces >= SPACED * len(text):
                return name
    return ""


def is_json_lines(head: bytes) -> bool:
    """Is every line an object of its own?"""
    lines = [
        line
        for line in head[:LOOKED_AT].removeprefix(b"\xef\xbb\xbf").split(b"\n", LINES)[:LINES]
        if line.strip()
    ]
    return (
        bool(lines)
        and all(is_json(line.strip(), len(line.strip())) for line in lines[:-1])
        and lines[-1].lstrip().startswith(b'{"')
    )
