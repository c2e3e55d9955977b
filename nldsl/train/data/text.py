"""TEXT -> BYTES: a file, a folder, or the text that is on every machine; what is held out; which
bytes a step sees.

    corpus = standard_library()             # or read(Given(Path("book.txt"))), a folder, a.parquet
    ids = sequences_of(corpus.train, 0, 1, 0, 4, 256)   # step 1, micro-batch 0: uint8 [4, 256]

Documents are joined by the byte 0, which occurs nowhere else: a 0 inside a text is a document
boundary, and ticks `document`. A file that is not text is refused, in a folder left out; see
filetype.py. About one byte in twenty is held out, by whole documents where there are enough of
them. A batch is a pure function of (seed, step, lane), so a resumed run needs no iterator to go on
exactly. Both parts lie in files that are mapped, so a text of any size takes the same memory.
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

from nldsl.diagnostic import Diagnostic, counted
from nldsl.train import faults
from nldsl.train.data import baseline, filetype
from nldsl.train.data.dataset import Cost, Dataset, Line, Loss, Result, Spelled, Tokens
from nldsl.train.data.encodings import Bytes, content
from nldsl.train.data.formats import saved, text_readers
from nldsl.train.data.given import Given
from nldsl.train.data.maps import Growing
from nldsl.train.data.sequences import Extent, Places
from nldsl.train.data.vocabulary import BOUNDARY, ByteVocabulary
from nldsl.train.records import Data

PIECE = 1 << 22  # bytes looked at at once
HELD_OUT = 1 / 20  # share of documents, chosen by their hash
FAIR_SHARE = (0.01, 0.20)  # of the bytes; outside it there are too few documents to choose from
NOT_TEXT_FOR_TRAINING = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test"})
PROMPT = 64  # bytes of the sample after training
READ_AS_TEXT = frozenset({".csv", ".tsv"})  # unless a column is named

Extents = NDArray[np.int64]  # [document, 2]: [begin, end)
Keys = NDArray[np.uint64]  # [document, 2]: the first bytes of its hash
Divide = Callable[[Bytes, Extents, Keys], tuple[Extents, Extents]]


@dataclass(frozen=True)
class Score:
    """All in bits per byte over the same `terms` held-out bytes; `order0` is the entropy of the
    training bytes.
    """

    model: float
    order2: float | None  # None: the training text is not at hand
    order0: float | None
    terms: int
    tokens: int | None = None  # that the bytes were predicted in, if not each alone

    def describe(self) -> str:
        made = f" in {self.tokens:,} tokens" if self.tokens is not None else ""
        scored = f"({self.terms:,} bytes{made} scored)"
        if self.order2 is None or self.order0 is None:
            return (
                f"held out: {self.model:.3f} bits per byte {scored}; "
                "the training text is not at hand, so no byte model stands beside it"
            )
        return (
            f"held out: {self.model:.3f} bits per byte; order-2 byte model {self.order2:.3f}, "
            f"order-0 entropy {self.order0:.3f} {scored}"
        )

    def event(self) -> dict[str, float | None]:
        return {
            "bits": self.model,
            "order2": self.order2,
            "order0": self.order0,
            "terms": self.terms,
            **({} if self.tokens is None else {"tokens": self.tokens}),
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
    vocabulary: ByteVocabulary = ByteVocabulary()
    unit: str = "bytes"
    findings: tuple[Diagnostic, ...] = ()  # warnings

    def extents(self, tokens: Tokens) -> list[Extent]:
        return extents(tokens)

    def require(self, length: int) -> None:
        """Raise N704 unless a sequence of `length` bytes fits in both parts."""
        longest = max((end - begin for begin, end in extents(self.held_out)), default=0)
        require(self.name, "training", len(self.train), length, self.unit)
        require(self.name, "held-out", longest, length, self.unit)

    def record(self) -> Data:
        return Data(name=self.name, bytes=len(self.train) + len(self.held_out), sha256=self.sha256)

    def opening(self) -> Tokens:
        """The first bytes of the first held-out document, up to a line end if there is one."""
        begin, end = extents(self.held_out)[0]
        text = self.held_out[begin : min(end - 1, begin + PROMPT)]
        return text[: text.tobytes().rfind(b"\n") + 1 or len(text)]

    def spelled(self, places: Places) -> Spelled:
        return self.held_out, places

    def compared(self, cost: Cost, scored: Dataset, beside: bool) -> Result:
        spelled = scored.spelled(cost.places + 1) if cost.terms and cost.in_nats else None
        if spelled is None:
            return Loss(cost.mean, cost.terms, scored.unit)
        text, at = spelled
        model = baseline.bits(cost.total, len(at))
        tokens = cost.terms if scored.unit != self.unit else None
        if not beside:
            return Score(model, None, None, len(at), tokens)
        simple = baseline.fit(self.train)
        order2 = baseline.bits(float(simple.nats(text, at).sum()), len(at))
        return Score(model, order2, simple.order0_bits(), len(at), tokens)

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


def whole(given: Given) -> Corpus:
    return read(given, undivided)


def load(given: Given) -> Corpus:
    """The corpus that is given, or the default.

    Raises N701 missing, N702 unreadable, N703 without text, N751 to N755 not to be read so.
    """
    return standard_library() if given.path is None else read(given)


def read(given: Given, divide: Divide | None = None) -> Corpus:
    """A file or a folder.

    Of a folder, files that are not text are left out; one alone is refused.
    """
    path, divide = given.path, divide or divided
    assert path is not None, "what is read has a place"
    if saved.is_saved(path):
        return read_saved(path, given, divide)
    if path.is_dir():
        return read_folder(path, given, divide)
    if not path.is_file():
        raise faults.missing(path)
    if (documents := by_column(path, given)) is not None:
        texts = Growing(np.uint8)
        for document in documents:
            append(texts, document)
        return corpus(str(path), texts.array(), divide)
    text = content(path, given.encoding)
    if found := filetype.seems(text):
        raise faults.not_text(path, found.name, found.help)
    json = filetype.is_json_lines(text[: filetype.LOOKED_AT].tobytes())
    return corpus(str(path), text, divide, findings=as_json(path, 1) if json else ())


def read_saved(path: Path, given: Given, divide: Divide) -> Corpus:
    """A data set of Hugging Face, in its own parts if it has them and they are wanted."""
    texts = Growing(np.uint8)
    train, held_out = saved.parts(path, given)
    for document in train if held_out is None or divide is divided else held_out:
        append(texts, document)
    if held_out is None or divide is not divided:
        return corpus(str(path), texts.array(), divide)
    place = texts.size
    for document in held_out:
        append(texts, document)

    def apart(texts: Bytes, unique: Extents, keys: Keys) -> tuple[Extents, Extents]:
        return unique[unique[:, 0] < place], unique[unique[:, 0] >= place]

    return corpus(str(path), texts.array(), apart)


def by_column(path: Path, given: Given) -> Iterator[bytes] | None:
    """The documents of a file that has columns; None of a text. Raises N753 for an option that does
    not fit.
    """
    suffix = path.suffix.lower()
    reader = text_readers().get(suffix)
    if reader is None or suffix in READ_AS_TEXT and not given.columns:
        if given.columns:
            raise faults.option_does_not_fit(
                "--column", path, "it is read as text, which has no columns"
            )
        return None
    return reader(path, given)


def read_folder(path: Path, given: Given, divide: Divide) -> Corpus:
    """The corpus of the text files below a folder. Raises N70x if there is none."""
    kinds: Counter[str] = Counter()
    texts, lines, read = Growing(np.uint8), 0, 0
    for file in files_below(path):
        if (
            file.suffix.lower() in text_readers()
            and (documents := by_column(file, given)) is not None
        ):
            for document in documents:
                append(texts, document)
            read += 1
            continue
        text = content(file, given.encoding)
        if found := filetype.seems(text):
            kinds[found.name] += 1
        else:
            read += 1
            lines += filetype.is_json_lines(text[: filetype.LOOKED_AT].tobytes())
            append(texts, text)
    if not read and kinds:
        raise faults.nothing_but(path, kinds)
    findings = as_json(path, lines) if lines else ()
    return corpus(str(path), texts.array(), divide, kinds.total(), findings)


def as_json(path: Path, files: int) -> tuple[Diagnostic, ...]:
    return faults.json_as_text(path, files).diagnostics


def standard_library() -> Corpus:
    """The sources of the running Python's own library, without installed packages and tests."""
    root, texts = Path(sysconfig.get_path("stdlib")), Growing(np.uint8)
    for file in files_below(root):
        if file.suffix == ".py" and not NOT_TEXT_FOR_TRAINING & set(
            file.relative_to(root).parts[:-1]
        ):
            append(texts, content(file))
    return corpus(
        f"Python {sysconfig.get_python_version()} standard library", texts.array(), divided
    )


def append(texts: Growing, text: Bytes | bytes) -> None:
    texts.append(text)
    texts.append(bytes([BOUNDARY]))


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


def corpus(
    name: str,
    texts: Bytes,
    divide: Divide,
    binary: int = 0,
    findings: tuple[Diagnostic, ...] = (),
) -> Corpus:
    """Part the bytes into documents, remove duplicates and divide them."""
    given = documents(texts)
    if not len(given):
        raise faults.without_text(name)
    keys = hashed(texts, given)
    first = firsts(keys)
    train, held_out = (
        joined(texts, extents) for extents in divide(texts, given[first], keys[first])
    )
    digest = hashlib.sha256(train.data)
    digest.update(held_out.data)
    return Corpus(
        name,
        train,
        held_out,
        documents=len(first),
        duplicates=len(given) - len(first),
        binary=binary,
        sha256=digest.hexdigest(),
        findings=findings,
    )


def hashed(texts: Bytes, extents: Extents) -> Keys:
    """128 bits of the SHA-256 of each document."""
    digests = bytearray()
    for begin, end in extents:
        digests += hashlib.sha256(texts[begin:end].data).digest()[:16]
    return np.frombuffer(digests, ">u8").reshape(-1, 2).astype(np.uint64)


def firsts(keys: Keys) -> Places:
    """Places of the keys that did not stand before, in their order."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    new = np.ones(len(order), bool)
    new[1:] = (keys[order][1:] != keys[order][:-1]).any(1)
    return np.sort(order[new])


def divided(texts: Bytes, unique: Extents, keys: Keys) -> tuple[Extents, Extents]:
    """For training and held out: whole documents, or the last twentieth of each if they are too
    few.
    """
    chosen = keys[:, 0] < HELD_OUT * 2**64
    sizes = unique[:, 1] - unique[:, 0]
    if FAIR_SHARE[0] <= sizes[chosen].sum() / sizes.sum() <= FAIR_SHARE[1]:
        return unique[~chosen], unique[chosen]
    begins, ends = unique.T
    cuts = np.array([cut(texts[begin:end]) + begin for begin, end in unique])
    return np.stack([begins, cuts], 1), np.stack([cuts, ends], 1)


def undivided(texts: Bytes, unique: Extents, keys: Keys) -> tuple[Extents, Extents]:
    """All held out: another text than that of the training, which is read as it stands."""
    return unique[:0], unique


def documents(texts: Bytes) -> Extents:
    """[begin, end) of the documents between bytes 0, empty ones left out."""
    ends = np.append(boundaries(texts), len(texts))
    begins = np.concatenate([[0], ends[:-1] + 1])
    return np.stack([begins, ends], 1)[begins < ends]


def boundaries(tokens: Tokens, boundary: int = BOUNDARY) -> Places:
    """Places of the tokens that end a document."""
    return np.concatenate(
        [
            np.zeros(0, np.int64),
            *(
                np.flatnonzero(tokens[begin : begin + PIECE] == boundary) + begin
                for begin in range(0, len(tokens), PIECE)
            ),
        ]
    )


def cut(text: Bytes) -> int:
    """Behind the line end nearest before the last twentieth of a document; the exact place if that
    line is too long.
    """
    place = len(text) - max(1, round(len(text) * HELD_OUT))
    least = int(len(text) * (1 - FAIR_SHARE[1]))
    line_end = least
    for end in range(place, least, -PIECE):
        found = text[max(least, end - PIECE) : end].tobytes().rfind(b"\n")
        if found >= 0:
            line_end = max(least, end - PIECE) + found + 1
            break
    return line_end if line_end > len(text) * (1 - FAIR_SHARE[1]) else place


def joined(texts: Bytes, extents: Extents) -> Bytes:
    """The documents [begin, end) one after another, each followed by `BOUNDARY`; empty ones are
    left out.
    """
    text = Growing(np.uint8)
    for begin, end in extents:
        if end > begin:
            append(text, texts[begin:end])
    return text.array()


def extents(tokens: Tokens, boundary: int = BOUNDARY) -> list[Extent]:
    """[begin, end) of each document of joined tokens, its boundary included: that the text ends is
    predicted too.
    """
    ends = [0, *(boundaries(tokens, boundary) + 1).tolist()]
    return list(zip(ends[:-1], ends[1:], strict=True))


def require(name: str, part: str, longest: int, length: int, unit: str) -> None:
    """Raise N704 unless `longest` tokens in a row hold a sequence of `length`."""
    if longest < length:
        raise faults.too_short(name, part, longest, length, unit)
