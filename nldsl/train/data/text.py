"""TEXT -> BYTES: a file, a folder, or the text that is on every machine; what is held out; which
bytes a step sees.

    corpus = standard_library()                    # or read(Path("book.txt")), read(Path("folder"))
    ids = corpus.batch(seed=0, step=1, micro=0, batch=4, length=256)   # LongTensor [4, 256]

Documents are joined by the byte 0, which occurs nowhere else: a 0 inside a text is a document
boundary, and ticks `document`. A file that is not text is refused, in a folder left out; see
filetype.py. About one byte in twenty is held out, by whole documents where there are enough of
them. A batch is a pure function of (seed, step, lane), so a resumed run needs no iterator to go on
exactly.
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
from numpy.typing import NDArray

from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostic, counted
from nldsl.train import faults
from nldsl.train.data import baseline, filetype
from nldsl.train.data.baseline import BYTES
from nldsl.train.data.dataset import Cost, Line, Loss, Result, Tokens, slices
from nldsl.train.data.sequences import Extent, Places, places
from nldsl.train.records import Data

PIECE = 1 << 22  # bytes looked at at once
BOUNDARY = 0  # the byte after each document
HELD_OUT = 1 / 20  # share of documents, chosen by their hash
FAIR_SHARE = (0.01, 0.20)  # of the bytes; outside it there are too few documents to choose from
NOT_TEXT_FOR_TRAINING = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test"})
PROMPT = 64  # bytes of the sample after training

Bytes = NDArray[np.uint8]  # [byte]
Documents = dict[bytes, Extent]  # by their hash
Divide = Callable[[Bytes, Documents], tuple[list[Extent], list[Extent]]]


@dataclass(frozen=True)
class Score:
    """All in bits per byte over the same `terms` held-out bytes; `order0` is the entropy of the
    training bytes.
    """

    model: float
    order2: float | None  # None: the training text is not at hand
    order0: float | None
    terms: int

    def describe(self) -> str:
        if self.order2 is None or self.order0 is None:
            return (
                f"held out: {self.model:.3f} bits per byte ({self.terms:,} bytes scored); "
                "the training text is not at hand, so no byte model stands beside it"
            )
        return (
            f"held out: {self.model:.3f} bits per byte; order-2 byte model {self.order2:.3f}, "
            f"order-0 entropy {self.order0:.3f}"
            f" ({self.terms:,} bytes scored)"
        )

    def event(self) -> dict[str, float | None]:
        return {
            "bits": self.model,
            "order2": self.order2,
            "order0": self.order0,
            "terms": self.terms,
        }

    @property
    def line(self) -> Line | None:
        return (
            None if self.order2 is None else (f"order-2 byte model {self.order2:.3f}", self.order2)
        )


@dataclass(frozen=True, eq=False)
class Corpus:
    """`train` and `held_out` are uint8 [bytes], each document followed by `BOUNDARY`."""

    name: str
    train: Bytes
    held_out: Bytes
    documents: int
    duplicates: int  # documents left out because another has the same bytes
    binary: int  # files of a folder left out because they are not text
    sha256: str  # of both parts, in this order
    unit: str = "bytes"
    findings: tuple[Diagnostic, ...] = ()  # warnings

    def batch(
        self, seed: int, step: int, micro: int, batch: int, length: int, stateful: bool = False
    ) -> Tokens:
        """uint8 [batch, length]; see `sequences.places`."""
        return slices(
            self.train, places(len(self.train), seed, step, micro, batch, length, stateful)
        )

    def extents(self, tokens: Tokens) -> list[Extent]:
        return extents(tokens)

    def require(self, length: int) -> None:
        """Raise N704 unless a sequence of `length` bytes fits in both parts."""
        if len(self.train) < length:
            raise faults.too_short(self.name, "training", len(self.train), length, self.unit)
        require(self.name, "held-out", self.held_out, length)

    def record(self) -> Data:
        return Data(name=self.name, bytes=len(self.train) + len(self.held_out), sha256=self.sha256)

    def opening(self) -> bytes:
        """The first bytes of the first held-out document, up to a line end if there is one."""
        begin, end = extents(self.held_out)[0]
        text = self.held_out[begin : min(end - 1, begin + PROMPT)].tobytes()
        return text[: text.rfind(b"\n") + 1] or text

    def compared(self, cost: Cost, tokens: Tokens, beside: bool) -> Result:
        if not cost.terms or not cost.in_bits:
            return Loss(cost.mean, cost.terms, self.unit)
        model = baseline.bits(cost.total, cost.terms)
        if not beside:
            return Score(model, None, None, cost.terms)
        simple = baseline.fit(self.train)
        order2 = float(simple.nats(tokens, cost.places + 1).sum())
        return Score(model, baseline.bits(order2, cost.terms), simple.order0_bits(), cost.terms)

    def describe(self) -> str:
        left_out = [
            *([f"{counted(self.duplicates, 'duplicate')} left out"] if self.duplicates else []),
            *([f"{counted(self.binary, 'file')} left out, not text"] if self.binary else []),
        ]
        train, held_out = (
            np.count_nonzero(x) for x in (self.train, self.held_out)
        )  # boundaries are 0
        parts = [f"{train + held_out:,} bytes in {counted(self.documents, 'document')}", *left_out]
        return f"{self.name}: {', '.join(parts)}; {held_out:,} held out\nsha256 {self.sha256}"


def takes(program: Program) -> bool:
    """Bytes, as the only input."""
    return len(program.inputs) == 1 and set(program.vocab.values()) == {BYTES}


def of(program: Program, path: Path | None) -> Corpus:
    return load(path)


def whole(path: Path, trained: Data) -> Corpus:
    return read(path, undivided)


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
    """The corpus of the text files below a folder. Raises N70x if there is none."""
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


def append(texts: bytearray, text: Bytes) -> None:
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


def content(file: Path) -> Bytes:
    """The bytes of a file: uint8."""
    try:
        return np.frombuffer(file.read_bytes(), np.uint8)
    except OSError as error:
        raise faults.unreadable(file, error) from None


def corpus(
    name: str,
    texts: Bytes,
    divide: Divide,
    binary: int = 0,
    findings: tuple[Diagnostic, ...] = (),
) -> Corpus:
    """Part the bytes into documents, remove duplicates and divide them. Beside its bytes, a few
    numbers are kept for each document.
    """
    unique: Documents = {}
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


def divided(texts: Bytes, unique: Documents) -> tuple[list[Extent], list[Extent]]:
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


def undivided(texts: Bytes, unique: Documents) -> tuple[list[Extent], list[Extent]]:
    """All held out: another text than that of the training, which is read as it stands."""
    return [], list(unique.values())


def documents(texts: Bytes) -> Iterator[Extent]:
    """[begin, end) of the documents between bytes 0, empty ones left out."""
    begin = 0
    for end in [*boundaries(texts).tolist(), len(texts)]:
        if end > begin:
            yield begin, end
        begin = end + 1


def boundaries(texts: Bytes) -> Places:
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


def cut(text: Bytes) -> int:
    """Behind the line end nearest before the last twentieth of a document; the exact place if that
    line is too long.
    """
    place = len(text) - max(1, round(len(text) * HELD_OUT))
    least = int(len(text) * (1 - FAIR_SHARE[1]))
    line_end = least + text[least:place].tobytes().rfind(b"\n") + 1
    return line_end if line_end > len(text) * (1 - FAIR_SHARE[1]) else place


def joined(texts: Bytes, places: list[Extent]) -> Bytes:
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


def extents(text: Bytes) -> list[Extent]:
    """[begin, end) of each document of a joined text, its boundary included: that the text ends is
    predicted too.
    """
    ends = np.flatnonzero(text == BOUNDARY) + 1
    return list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))


def require(name: str, part: str, text: Bytes, length: int) -> None:
    """Raise N704 unless a document of a joined text holds a sequence of `length` bytes."""
    longest = max((end - begin for begin, end in extents(text)), default=0)
    if longest < length:
        raise faults.too_short(name, part, longest, length, "bytes")
