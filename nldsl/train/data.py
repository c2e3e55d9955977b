"""TEXT -> BYTES: a file, a folder, or the text that is on every machine; what is held out; which bytes a step sees.

    corpus = standard_library()                    # or read(Path("book.txt")), read(Path("folder"))
    ids = corpus.batch(seed=0, step=1, micro=0, batch=4, length=256)   # LongTensor [4, 256]

Documents are joined by the byte 0, which occurs nowhere else: a 0 inside a file is a document boundary, and ticks `document`. About one
byte in twenty is held out, by whole documents where there are enough of them. A batch is a pure function of
(seed, step, lane), so a resumed run needs no iterator to go on exactly.
"""
from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nldsl.train import faults

BOUNDARY = 0                                       # the byte after each document
HELD_OUT = 1 / 20                                  # share of documents, chosen by their hash
FAIR_SHARE = (0.01, 0.20)                          # of the bytes; outside it there are too few documents to choose from
NOT_TEXT_FOR_TRAINING = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test"})


@dataclass(frozen=True, eq=False)
class Corpus:
    """`train` and `held_out` are uint8 [bytes], each document followed by `BOUNDARY`."""

    name: str
    train: np.ndarray
    held_out: np.ndarray
    documents: int
    duplicates: int                                # documents left out because another has the same bytes
    binary: int                                    # files of a folder left out because they hold a byte 0
    sha256: str                                    # of both parts, in this order
    unit: str = "bytes"

    def batch(self, seed: int, step: int, micro: int, batch: int, length: int, onward: bool = False) -> np.ndarray:
        """The micro-batch `micro` (from 0) of step `step` (from 1): uint8 [batch, length]; see `places`."""
        return self.train[places(len(self.train), seed, step, micro, batch, length, onward)]

    def extents(self, text: np.ndarray) -> list[tuple[int, int]]:
        return extents(text)

    def require(self, length: int) -> None:
        """Raise N704 unless a sequence of `length` bytes fits in both parts."""
        if len(self.train) < length:
            raise faults.too_short(self.name, "training", len(self.train), length, self.unit)
        require(self.name, "held-out", self.held_out, length)

    def numbers(self) -> dict[str, object]:
        return {"name": self.name, "bytes": len(self.train) + len(self.held_out), "sha256": self.sha256}

    def describe(self) -> str:
        left_out = [f"{n} {what}" for n, what in ((self.duplicates, "duplicates left out"), (self.binary, "binary files left out")) if n]
        return (f"{self.name}: {len(self.train) + len(self.held_out):,} bytes in {self.documents:,} documents"
                f"{''.join(', ' + part for part in left_out)}; {len(self.held_out):,} bytes held out\n"
                f"sha256 {self.sha256}")


def places(size: int, seed: int, step: int, micro: int, batch: int, length: int, onward: bool) -> np.ndarray:
    """Positions [batch, length] in a stream of `size` that the micro-batch `micro` (from 0) of step `step` (from 1) reads.

    Lanes are counted over the micro-batches, so 2 micro-batches of 4 are one of 8. Starts are drawn with replacement from every
    position; `onward`, only the first of each lane is, and it goes on where it stopped, after the last position with the first.
    """
    lanes = range(micro * batch, (micro + 1) * batch)
    starts = [draw(seed, 0, lane, size) + (step - 1) * length if onward else draw(seed, step, lane, size - length + 1) for lane in lanes]
    return (np.array(starts)[:, None] + np.arange(length)) % size


def draw(seed: int, step: int, lane: int, n: int) -> int:
    """A number in [0, n), the same on every machine and for every version of every library."""
    digest = hashlib.sha256(f"{seed} {step} {lane}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % n


def load(path: Path | None) -> Corpus:
    """The corpus at `path`, or the default. Raises N701 missing, N702 unreadable, N703 without text."""
    return standard_library() if path is None else read(path)


def read(path: Path) -> Corpus:
    if path.is_dir():
        texts = [(file, content(file)) for file in files_below(path)]
        binary = sum(BOUNDARY in text for _, text in texts)
        return corpus(str(path), (text for _, text in texts if BOUNDARY not in text), binary)
    if not path.is_file():
        raise faults.missing(path)
    return corpus(str(path), content(path).split(bytes([BOUNDARY])))


def standard_library() -> Corpus:
    """The sources of the running Python's own library, without installed packages and tests."""
    root = Path(sysconfig.get_path("stdlib"))
    sources = [file for file in files_below(root)
               if file.suffix == ".py" and not NOT_TEXT_FOR_TRAINING & set(file.relative_to(root).parts[:-1])]
    return corpus(f"Python {sysconfig.get_python_version()} standard library", (content(file) for file in sources))


def files_below(folder: Path) -> Iterator[Path]:
    """Regular files in the order of their paths; names that begin with a dot are skipped, links to folders not followed."""
    def refuse(error: OSError) -> None:
        raise faults.unreadable(Path(error.filename or folder), error)

    found = [Path(base) / name for base, _, names in os.walk(folder, onerror=refuse) for name in names]
    for file in sorted(found, key=lambda f: f.relative_to(folder).parts):
        if not any(part.startswith(".") for part in file.relative_to(folder).parts) and file.is_file():
            yield file


def content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise faults.unreadable(file, error) from None


def corpus(name: str, texts: Iterable[bytes], binary: int = 0) -> Corpus:
    """Remove duplicates and divide: by whole documents, or by the last twentieth of each if they are too few."""
    unique: dict[bytes, bytes] = {}
    given = 0
    for text in texts:
        if text:
            given += 1
            unique.setdefault(hashlib.sha256(text).digest(), text)
    if not unique:
        raise faults.without_text(name)
    chosen = {key for key in unique if int.from_bytes(key[:8], "big") < HELD_OUT * 2**64}
    share = sum(len(unique[key]) for key in chosen) / sum(map(len, unique.values()))
    if FAIR_SHARE[0] <= share <= FAIR_SHARE[1]:
        train = [text for key, text in unique.items() if key not in chosen]
        held_out = [text for key, text in unique.items() if key in chosen]
    else:
        train, held_out = map(list, zip(*(split(text) for text in unique.values()), strict=True))
    parts = [joined(train), joined(held_out)]
    return Corpus(name, *parts, documents=len(unique), duplicates=given - len(unique), binary=binary,
                  sha256=hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())


def split(text: bytes) -> tuple[bytes, bytes]:
    """The text up to the line end nearest before its last twentieth (the exact place if that line is too long), and the rest."""
    place = len(text) - max(1, round(len(text) * HELD_OUT))
    line_end = text.rfind(b"\n", 0, place) + 1
    cut = line_end if line_end > len(text) * (1 - FAIR_SHARE[1]) else place
    return text[:cut], text[cut:]


def joined(texts: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(text + bytes([BOUNDARY]) for text in texts if text), dtype=np.uint8)


def extents(text: np.ndarray) -> list[tuple[int, int]]:
    """[begin, end) of each document of a joined text, its boundary included: that the text ends is predicted too."""
    ends = np.flatnonzero(text == BOUNDARY) + 1
    return list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))


def windows(documents: list[tuple[int, int]], length: int, limit: int) -> np.ndarray:
    """Starts [count] of the sequences of `length` tokens that are scored, at most `limit` tokens in all.

    Sequences lie within one document [begin, end) and overlap by one token, so that none is predicted twice; what is left
    at the end of a document is not scored. If they are more than `limit` allows, they are taken evenly spread.
    """
    starts = [np.arange(begin, end - length + 1, max(1, length - 1)) for begin, end in documents]
    every = np.concatenate(starts) if starts else np.zeros(0, dtype=np.int64)
    keep = min(len(every), max(1, limit // length))
    return every[np.arange(keep) * len(every) // max(1, keep)]


def readings(documents: list[tuple[int, int]], batch: int, length: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """How lanes read whole documents: starts [round, lane] of sequences of `length` tokens, and which of them begin a document.

    At most `batch` lanes, each with documents of its own, one after the other; as many tokens, at most `limit`, as lanes that all
    read to the end can read.
    """
    passages = [np.arange(begin, end - length + 1, length) for begin, end in documents]
    passages = sorted((p for p in passages if len(p)), key=len, reverse=True)
    dealt = [deal(passages, lanes) for lanes in range(min(batch, len(passages)), 0, -1)]
    lanes = max(dealt, key=lambda lanes: len(lanes) * min(sum(map(len, lane)) for lane in lanes))
    rounds = min(min(sum(map(len, lane)) for lane in lanes), max(1, limit // (length * len(lanes))))
    starts = np.stack([np.concatenate(lane)[:rounds] for lane in lanes], 1)
    begins = np.stack([np.concatenate([np.arange(len(d)) == 0 for d in lane])[:rounds] for lane in lanes], 1)
    return starts, begins


def deal(documents: list[np.ndarray], lanes: int) -> list[list[np.ndarray]]:
    """Each document, the longest first, to the lane that has the least to read."""
    dealt: list[list[np.ndarray]] = [[] for _ in range(lanes)]
    for document in documents:
        min(dealt, key=lambda lane: sum(map(len, lane))).append(document)
    return dealt


def require(name: str, part: str, text: np.ndarray, length: int) -> None:
    """Raise N704 unless a document of a joined text holds a sequence of `length` bytes."""
    longest = max((end - begin for begin, end in extents(text)), default=0)
    if longest < length:
        raise faults.too_short(name, part, longest, length, "bytes")
