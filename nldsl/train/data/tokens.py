"""TEXT AND A TOKENIZER, OR A FILE OF TOKENS -> TOKENS: a text is tokenized once, into the user's
cache; a file of tokens is mapped as it is.

Of a text, the parts are those of its bytes, and each document ends with the tokenizer's own token.
Where each held-out token ends in the text is kept beside it, so that a score is one of bytes: the
nats of the scored tokens over the bytes that they stand for.

    data/3f8a../train, held_out      tokens, uint16, or uint32 of a larger vocabulary
    data/3f8a../ends                 uint64 [held-out token]: the byte behind it
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nldsl.diagnostic import Diagnostic
from nldsl.train import faults
from nldsl.train.data import filetype
from nldsl.train.data.dataset import Cost, Dataset, Loss, Result, Spelled, Tokens
from nldsl.train.data.encodings import Bytes, raw
from nldsl.train.data.formats import Ids, tokens_readers
from nldsl.train.data.given import Given
from nldsl.train.data.maps import Growing, Numbers, kept, mapped
from nldsl.train.data.sequences import Extent, Places
from nldsl.train.data.text import (
    FAIR_SHARE,
    HELD_OUT,
    PIECE,
    Corpus,
    boundaries,
    extents,
    require,
)
from nldsl.train.data.vocabulary import Offsets, Tokenizer
from nldsl.train.records import Data

PASSAGE = 1 << 16  # bytes that are tokenized in one piece
PASSAGES = 16  # tokenized at once
OPENING = 16  # tokens of the sample after training
VERSION = 1  # of what is kept

Ends = NDArray[np.uint64]  # [token]


@dataclass(frozen=True, eq=False)
class TokenCorpus:
    """`train` and `held_out` are tokens; `text` is what they were made of, where `ends` are those
    of the held-out tokens in its held-out bytes.
    """

    name: str
    train: Ids
    held_out: Ids
    sha256: str
    vocabulary: Tokenizer | None = None
    text: Corpus | None = None
    ends: Ends | None = None
    unit: str = "tokens"

    @property
    def findings(self) -> tuple[Diagnostic, ...]:
        return self.text.findings if self.text else ()

    def extents(self, tokens: Tokens) -> list[Extent]:
        """All of it is one document where what ends one is not known."""
        if self.vocabulary is None:
            return [(0, len(tokens))]
        found = extents(tokens, self.vocabulary.boundary)
        done = found[-1][1] if found else 0
        return found + [(done, len(tokens))] * (done < len(tokens))  # the last may be cut

    def require(self, length: int) -> None:
        """Raise N704 unless a sequence of `length` tokens fits in both parts."""
        longest = max((end - begin for begin, end in self.extents(self.held_out)), default=0)
        require(self.name, "training", len(self.train), length, self.unit)
        require(self.name, "held-out", longest, length, self.unit)

    def record(self) -> Data:
        return Data(
            name=self.name,
            tokens=len(self.train) + len(self.held_out),
            tokenizer=self.vocabulary.sha256 if self.vocabulary else None,
            sha256=self.sha256,
        )

    def opening(self) -> Tokens:
        """The first held-out tokens, of one document; none where nothing says what they mean."""
        begin, end = self.extents(self.held_out)[0]
        found: Tokens = self.held_out[begin : min(end - 1, begin + OPENING)]
        return found if self.vocabulary else found[:0]

    def spelled(self, places: Places) -> Spelled | None:
        if self.text is None or self.ends is None:
            return None
        ends = self.ends[places].astype(np.int64)
        begins = np.where(places > 0, self.ends[places - 1].astype(np.int64), 0)
        sizes = ends - begins
        first = np.repeat(begins - np.cumsum(sizes) + sizes, sizes)
        return self.text.held_out, first + np.arange(sizes.sum())

    def compared(self, cost: Cost, scored: Dataset, beside: bool) -> Result:
        if self.text is None:
            return Loss(cost.mean, cost.terms, self.unit)
        return self.text.compared(cost, scored, beside)

    def describe(self) -> str:
        total = f"{len(self.train) + len(self.held_out):,} tokens"
        said = f"{total}, {len(self.held_out):,} held out"
        if self.text is None or self.vocabulary is None:
            return f"{self.name}: {said}\nsha256 {self.sha256}"
        return f"{self.text.describe()}\n{said}, by {self.vocabulary.name}"


def tokenized(text: Corpus, tokenizer: Tokenizer) -> TokenCorpus:
    """The tokens of a text, made once for each text and tokenizer."""
    made_of = f"{VERSION} {text.sha256} {len(text.train)} {tokenizer.sha256}"
    key = hashlib.sha256(made_of.encode()).hexdigest()
    kind = np.uint16 if tokenizer.size <= 1 << 16 else np.uint32

    def make(folder: Path) -> None:
        encode(text.train, tokenizer, Growing(kind, folder / "train"))
        ends = Growing(np.uint64, folder / "ends")
        encode(text.held_out, tokenizer, Growing(kind, folder / "held_out"), ends)

    folder = kept(key, make)
    train, held_out = (opened(folder / name, kind) for name in ("train", "held_out"))
    ends: Ends = opened(folder / "ends", np.uint64)
    return TokenCorpus(text.name, train, held_out, key, tokenizer, text, ends)


def opened(path: Path, kind: DTypeLike) -> Numbers:
    with path.open("rb") as file:
        return mapped(file, kind)


def files_of(given: Given) -> tuple[list[Path], list[Path]] | None:
    """The files of tokens that are given, for training and held out; None of other data.

    A folder with *train*.bin and *val*.bin is tokens in these parts.
    """
    path = given.path
    if path is None:
        return None
    if path.is_dir():
        parts = [sorted(path.glob(f"*{part}*.bin")) for part in ("train", "val")]
        return (parts[0], parts[1]) if all(parts) else None
    if path.suffix.lower() not in tokens_readers() or not path.is_file():
        return None
    if path.suffix.lower() == ".bin":
        data = raw(path)
        if filetype.by_name(data) or filetype.seems(data) is None:
            return None
    return [path], []


def of_files(given: Given, files: tuple[list[Path], list[Path]], divide: bool) -> TokenCorpus:
    """Tokens in files. Without a file that is held out, the last twentieth is, or all of it."""
    path = given.path
    assert path is not None, "files have a place"
    for option, said in (("--column", given.columns), ("--encoding", given.encoding)):
        if said:
            raise faults.option_does_not_fit(option, path, "it holds tokens")
    vocabulary = Tokenizer(given.tokenizer) if given.tokenizer else None
    train, held_out = (read(part) for part in files)
    if not divide:
        train, held_out = train[:0], train if not files[1] else held_out
    elif not files[1]:
        place = place_of(train, vocabulary)
        train, held_out = train[:place], train[place:]
    digest = hashlib.sha256(f"{len(train)} {train.dtype}".encode())
    for part in (train, held_out):
        digest.update(np.ascontiguousarray(part).data)
    return TokenCorpus(str(path), train, held_out, digest.hexdigest(), vocabulary)


def read(files: list[Path]) -> Ids:
    """One file as it is mapped; several one after the other. Raises N758 for a number below 0."""
    readers = tokens_readers()
    parts = [readers[file.suffix.lower()](file) for file in files]
    for file, part in zip(files, parts, strict=True):
        if part.dtype.kind == "i" and min(map(np.min, pieces(part)), default=0) < 0:
            raise faults.not_tokens(file, "one of its numbers is below 0")
    if len(parts) == 1:
        return parts[0]
    joined = Growing(np.result_type(np.uint16, *parts))
    for part in parts:
        joined.append(part)
    return joined.array()


def place_of(tokens: Ids, vocabulary: Tokenizer | None) -> int:
    """Where the last twentieth begins: at a document, if one begins near before it."""
    place = len(tokens) - round(len(tokens) * HELD_OUT)
    least = round(len(tokens) * (1 - FAIR_SHARE[1]))
    if vocabulary is not None:
        ends = boundaries(tokens[least:place], vocabulary.boundary)
        return least + int(ends[-1]) + 1 if len(ends) else place
    return place


def largest(corpus: TokenCorpus) -> int:
    return max(
        (int(piece.max()) for part in (corpus.train, corpus.held_out) for piece in pieces(part)),
        default=0,
    )


def pieces(tokens: Ids) -> Iterator[Ids]:
    for begin in range(0, len(tokens), PIECE):
        yield tokens[begin : begin + PIECE]


def encode(text: Bytes, tokenizer: Tokenizer, tokens: Growing, ends: Growing | None = None) -> None:
    """The tokens of joined documents, and where each of them ends in the text."""
    every = passages(text)
    while some := list(islice(every, PASSAGES)):
        parts = [text[begin:end].tobytes() for begin, end, _ in some]
        for (begin, end, last), part, (ids, offsets) in zip(
            some, parts, tokenizer.encoded(parts, placed=ends is not None), strict=True
        ):
            tokens.append(np.array([*ids, tokenizer.boundary] if last else ids))
            if ends is not None:
                behind = begin + ends_of(part, offsets)
                ends.append(np.append(behind, end + 1) if last else behind)
    for one in (tokens, ends):
        if one is not None:
            one.array()


def ends_of(text: bytes, offsets: Offsets) -> Places:
    """The byte behind each token. Of tokens that share a letter the first has it; what no token
    covers is the next one's, at the end the last one's.
    """
    letters = np.frombuffer(text.decode().encode("utf-32-le"), np.uint32)
    widths = 1 + sum((letters >= least).astype(np.int64) for least in (0x80, 0x800, 0x10000))
    after = np.concatenate([[0], np.cumsum(widths)])
    ends = np.maximum.accumulate(after[np.array([end for _, end in offsets], np.int64)])
    if len(ends):
        ends[-1] = len(text)
    return ends


def passages(text: Bytes) -> Iterator[tuple[int, int, bool]]:
    """[begin, end) of pieces of the documents, without their boundaries; is it the last of its
    document?
    """
    begin = 0
    for end in boundaries(text).tolist():
        while end - begin > PASSAGE:
            size = cut(text[begin : begin + PASSAGE].tobytes())
            yield begin, begin + size, False
            begin += size
        yield begin, end, True
        begin = end + 1


def parts(text: Bytes) -> Iterator[bytes]:
    """The bytes of these pieces."""
    for begin, end, _ in passages(text):
        yield text[begin:end].tobytes()


def cut(text: bytes) -> int:
    """Where a text is parted so that no token would lie on both sides: behind a line end between
    letters, else before a space, else before a letter.
    """
    place = len(text) - 1
    while (place := text.rfind(b"\n", 1, place)) > 0:
        if not text[place - 1 : place].isspace() and not text[place + 1 : place + 2].isspace():
            return place + 1
    if (place := text.rfind(b" ", 1)) > 0:
        return place
    place = len(text)
    while place > 1 and text[place - 1] & 0xC0 == 0x80:
        place -= 1
    return place - 1 if place > 1 else len(text)
