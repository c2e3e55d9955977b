"""TEXT -> BYTES: a file, a folder, or the text that is on every machine; what is held out; which
bytes a step sees.

    corpus = standard_library()                    # or read(Path("book.txt")), read(Path("folder"))
    ids = corpus.batch(seed=0, step=1, micro=0, batch=4, length=256)   # LongTensor [4, 256]

Documents are joined by the byte 0, which occurs nowhere else: a 0 inside a text is a document
boundary, and ticks `document`. What is not text is refused, in a folder left out; see filetype.py.
About one byte in twenty is held out, by whole documents where there are enough of them. A batch is
a pure function of (seed, step, lane), so a resumed run needs no iterator to go on exactly.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nldsl.diagnostic import Diagnostic
from nldsl.train import faults, filetype

BYTES = 256
PIECE = 1 << 22  # bytes looked at at once
BOUNDARY = 0  # the byte after each document
HELD_OUT = 1 / 20  # share of documents, chosen by their hash
FAIR_SHARE = (0.01, 0.20)  # of the bytes; outside it there are too few documents to choose from
NOT_TEXT_FOR_TRAINING = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test"})


Extents = list[tuple[int, int]]  # [begin, end) of documents
Documents = dict[bytes, tuple[int, int]]  # by their hash
Divide = Callable[[np.ndarray, Documents], tuple[Extents, Extents]]


@dataclass(frozen=True, eq=False)
class Corpus:
    """`train` and `held_out` are uint8 [bytes], each document followed by `BOUNDARY`."""

    name: str
    train: np.ndarray
    held_out: np.ndarray
    documents: int
    duplicates: int  # documents left out because another has the same bytes
    binary: int  # files of a folder left out because they are not text
    sha256: str  # of both parts, in this order
    unit: str = "bytes"
    findings: tuple[Diagnostic, ...] = ()  # warnings

    def batch(
        self, seed: int, step: int, micro: int, batch: int, length: int, onward: bool = False
    ) -> np.ndarray:
        """The micro-batch `micro` (from 0) of step `step` (from 1): uint8 [batch, length]; see
        `places`.
        """
        return self.train[places(len(self.train), seed, step, micro, batch, length, onward)]

    def extents(self, text: np.ndarray) -> list[tuple[int, int]]:
        return extents(text)

    def require(self, length: int) -> None:
        """Raise N704 unless a sequence of `length` bytes fits in both parts."""
        if len(self.train) < length:
            raise faults.too_short(self.name, "training", len(self.train), length, self.unit)
        require(self.name, "held-out", self.held_out, length)

    def numbers(self) -> dict[str, object]:
        return {
            "name": self.name,
            "bytes": len(self.train) + len(self.held_out),
            "sha256": self.sha256,
        }

    def describe(self) -> str:
        left_out = [
            f"{n} {what}"
            for n, what in (
                (self.duplicates, "duplicates left out"),
                (self.binary, "files left out that are not text"),
            )
            if n
        ]
        return (
            f"{self.name}: {len(self.train) + len(self.held_out):,} bytes in {self.documents:,} "
            "documents"
            f"{''.join(', ' + part for part in left_out)}; {len(self.held_out):,} bytes held out\n"
            f"sha256 {self.sha256}"
        )


def places(
    size: int, seed: int, step: int, micro: int, batch: int, length: int, onward: bool
) -> np.ndarray:
    """Positions [batch, length] in a stream of `size` that the micro-batch `micro` (from 0) of step
    `step` (from 1) reads.

    Lanes are counted over the micro-batches, so 2 micro-batches of 4 are one of 8. Starts are drawn
    with replacement from every position; `onward`, only the first of each lane is, and it goes on
    where it stopped, after the last position with the first.
    """
    lanes = range(micro * batch, (micro + 1) * batch)
    starts = [
        draw(seed, 0, lane, size) + (step - 1) * length
        if onward
        else draw(seed, step, lane, size - length + 1)
        for lane in lanes
    ]
    return (np.array(starts)[:, None] + np.arange(length)) % size


def draw(seed: int, step: int, lane: int, n: int) -> int:
    """A number in [0, n), the same on every machine and for every version of every library."""
    digest = hashlib.sha256(f"{seed} {step} {lane}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % n


def load(path: Path | None) -> Corpus:
    """The corpus at `path`, or the default.

    Raises N701 missing, N702 unreadable, N703 without text.
    """
    return standard_library() if path is None else read(path)


def read(path: Path, divide: Divide | None = None) -> Corpus:
    """A file or a folder.

    Of a folder, files that are not text are left out; one alone is refused.
    """
    divide = divide or divided
    if path.is_dir():
        return read_folder(path, divide)
    if not path.is_file():
        raise faults.missing(path)
    text = content(path)
    if found := filetype.seems(text):
        raise faults.not_text(path, found.name, found.help)
    json = filetype.is_json_lines(text[: filetype.LOOKED_AT].tobytes())
    return corpus(str(path), text, divide, findings=as_json(path, 1) if json else ())


def read_folder(path: Path, divide: Divide) -> Corpus:
    kinds: Counter[str] = Counter()
    texts, lines = bytearray(), 0
    for file in files_below(path):
        text = content(file)
        if found := filetype.seems(text):
            kinds[found.name] += 1
        else:
            lines += filetype.is_json_lines(text[: filetype.LOOKED_AT].tobytes())
            append(texts, text)
    if not texts and kinds:
        raise faults.nothing_but(path, kinds)
    return corpus(
        str(path),
        np.frombuffer(texts, np.uint8),
        divide,
        kinds.total(),
        as_json(path, lines) if lines else (),
    )


def as_json(path: Path, files: int) -> tuple[Diagnostic, ...]:
    return faults.json_as_text(path, files).diagnostics


def standard_library() -> Corpus:
    """The sources of the running Python's own library, without installed packages and tests."""
    root, texts = Path(sysconfig.get_path("stdlib")), bytearray()
    for file in files_below(root):
        if file.suffix == ".py" and not NOT_TEXT_FOR_TRAINING & set(
            file.relative_to(root).parts[:-1]
        ):
            append(texts, content(file))
    return corpus(
        f"Python {sysconfig.get_python_version()} standard library",
        np.frombuffer(texts, np.uint8),
        divided,
    )


def append(texts: bytearray, text: np.ndarray) -> None:
    texts += text.data
    texts.append(BOUNDARY)


def files_below(folder: Path) -> Iterator[Path]:
    """Regular files in the order of their paths; names that begin with a dot are skipped, links to
    folders not followed.
    """

    def refuse(error: OSError) -> None:
        raise faults.unreadable(Path(error.filename or folder), error)

    found = [
        Path(base) / name for base, _, names in os.walk(folder, onerror=refuse) for name in names
    ]
    for file in sorted(found, key=lambda f: f.relative_to(folder).parts):
        if (
            not any(part.startswith(".") for part in file.relative_to(folder).parts)
            and file.is_file()
        ):
            yield file


def content(file: Path) -> np.ndarray:
    """The bytes of a file: uint8."""
    try:
        return np.frombuffer(file.read_bytes(), np.uint8)
    except OSError as error:
        raise faults.unreadable(file, error) from None


def corpus(
    name: str,
    texts: np.ndarray,
    divide: Divide,
    binary: int = 0,
    findings: tuple[Diagnostic, ...] = (),
) -> Corpus:
    """Part the bytes into documents, remove duplicates and divide them. What is kept of a text
    beside its bytes is a few numbers for each document.
    """
    unique: dict[bytes, tuple[int, int]] = {}
    given = 0
    for begin, end in documents(texts):
        given += 1
        unique.setdefault(hashlib.sha256(texts[begin:end].data).digest(), (begin, end))
    if not unique:
        raise faults.without_text(name)
    train, held_out = (joined(texts, places) for places in divide(texts, unique))
    digest = hashlib.sha256(train.data)
    digest.update(held_out.data)
    return Corpus(
        name,
        train,
        held_out,
        documents=len(unique),
        duplicates=given - len(unique),
        binary=binary,
        sha256=digest.hexdigest(),
        findings=findings,
    )


def divided(texts: np.ndarray, unique: Documents) -> tuple[Extents, Extents]:
    """For training and held out: whole documents, or the last twentieth of each if they are too
    few.
    """
    chosen = [int.from_bytes(key[:8], "big") < HELD_OUT * 2**64 for key in unique]
    sizes = np.array([end - begin for begin, end in unique.values()])
    if FAIR_SHARE[0] <= sizes[chosen].sum() / sizes.sum() <= FAIR_SHARE[1]:
        train, held_out = (
            [place for place, away in zip(unique.values(), chosen, strict=True) if away is held]
            for held in (False, True)
        )
        return train, held_out
    cuts = [(begin, cut(texts[begin:end]) + begin, end) for begin, end in unique.values()]
    return [(begin, place) for begin, place, _ in cuts], [(place, end) for _, place, end in cuts]


def undivided(texts: np.ndarray, unique: Documents) -> tuple[Extents, Extents]:
    """All held out: another text than that of the training, which is read as it stands."""
    return [], list(unique.values())


def documents(texts: np.ndarray) -> Iterator[tuple[int, int]]:
    """[begin, end) of what stands between bytes 0, empty ones left out."""
    begin = 0
    for end in [*boundaries(texts).tolist(), len(texts)]:
        if end > begin:
            yield begin, end
        begin = end + 1


def boundaries(texts: np.ndarray) -> np.ndarray:
    """Places of the bytes 0."""
    return np.concatenate(
        [
            np.zeros(0, np.int64),
            *(
                np.flatnonzero(texts[begin : begin + PIECE] == BOUNDARY) + begin
                for begin in range(0, len(texts), PIECE)
            ),
        ]
    )


def cut(text: np.ndarray) -> int:
    """Behind the line end nearest before the last twentieth of a document; the exact place if that
    line is too long.
    """
    place = len(text) - max(1, round(len(text) * HELD_OUT))
    least = int(len(text) * (1 - FAIR_SHARE[1]))
    line_end = least + text[least:place].tobytes().rfind(b"\n") + 1
    return line_end if line_end > len(text) * (1 - FAIR_SHARE[1]) else place


def joined(texts: np.ndarray, places: list[tuple[int, int]]) -> np.ndarray:
    """The documents [begin, end) one after another, each followed by `BOUNDARY`; empty ones are
    left out.
    """
    places = [(begin, end) for begin, end in places if end > begin]
    text = np.empty(sum(end - begin + 1 for begin, end in places), np.uint8)
    at = 0
    for begin, end in places:
        text[at : at + end - begin] = texts[begin:end]
        text[at + end - begin] = BOUNDARY
        at += end - begin + 1
    return text


def extents(text: np.ndarray) -> list[tuple[int, int]]:
    """[begin, end) of each document of a joined text, its boundary included: that the text ends is
    predicted too.
    """
    ends = np.flatnonzero(text == BOUNDARY) + 1
    return list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))


def windows(
    documents: list[tuple[int, int]], length: int, limit: int, shared: int = 1
) -> np.ndarray:
    """Starts [count] of the sequences of `length` tokens that are scored, at most `limit` tokens in
    all.

    Sequences lie within one document [begin, end) and overlap by the `shared` tokens that have no
    term at the end of one, so that none is scored twice; what is left at the end of a document is
    not scored. If they are more than `limit` allows, they are taken evenly spread.
    """
    starts = [
        np.arange(begin, end - length + 1, max(1, length - shared)) for begin, end in documents
    ]
    every = np.concatenate(starts) if starts else np.zeros(0, dtype=np.int64)
    keep = min(len(every), max(1, limit // length))
    return every[np.arange(keep) * len(every) // max(1, keep)]


def readings(
    documents: list[tuple[int, int]], batch: int, length: int, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How lanes read whole documents: starts [round, lane] of sequences of `length` tokens, which
    of them begin a document, and which count: a lane that has read all of its own reads its last
    sequence again.

    At most `batch` lanes, each with documents of its own, one after the other. The longest
    documents are read, at most `limit` tokens in all, whatever `batch` is.
    """
    passages = [np.arange(begin, end - length + 1, length) for begin, end in documents]
    passages = sorted((p for p in passages if len(p)), key=len, reverse=True)
    before = np.cumsum([0, *map(len, passages)])
    left = np.maximum(max(1, limit // length) - before[:-1], 0).tolist()
    lanes = deal([p[:n] for p, n in zip(passages, left, strict=True) if n], batch)
    rounds = max(sum(map(len, lane)) for lane in lanes)
    starts, begins, counts = (
        np.zeros((rounds, len(lanes)), kind) for kind in (np.int64, bool, bool)
    )
    for i, lane in enumerate(lanes):
        own = np.concatenate(lane)
        starts[:, i] = own[np.minimum(np.arange(rounds), len(own) - 1)]
        begins[: len(own), i] = np.concatenate([np.arange(len(p)) == 0 for p in lane])
        counts[: len(own), i] = True
    return starts, begins, counts


def deal(documents: list[np.ndarray], lanes: int) -> list[list[np.ndarray]]:
    """Each document, the longest first, to the lane that has the least to read; no lane without
    one.
    """
    dealt: list[list[np.ndarray]] = [[] for _ in range(min(lanes, len(documents)))]
    for document in documents:
        min(dealt, key=lambda lane: sum(map(len, lane))).append(document)
    return dealt


def require(name: str, part: str, text: np.ndarray, length: int) -> None:
    """Raise N704 unless a document of a joined text holds a sequence of `length` bytes."""
    longest = max((end - begin for begin, end in extents(text)), default=0)
    if longest < length:
        raise faults.too_short(name, part, longest, length, "bytes")
