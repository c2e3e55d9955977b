"""What the tokens of a text stand for: bytes, or the pieces of a Hugging Face tokenizer.json.

vocabulary.encode(b"a prompt")      ids
vocabulary.decode(ids)              bytes
trained(corpus, 4096)               the content of a new tokenizer.json, a byte-level BPE
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from nldsl.train import faults
from nldsl.train.data.baseline import BYTES
from nldsl.train.data.formats import needed

BOUNDARY = 0  # the byte after each document
# what ends a document in the tokenizers that are about, the first that one has
ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[EOS]", "[SEP]")

Offsets = list[tuple[int, int]]  # of letters, for each token


class Vocabulary(Protocol):
    @property
    def unit(self) -> str: ...

    @property
    def size(self) -> int:
        """One more than the largest token."""

    @property
    def boundary(self) -> int:
        """The token that ends a document."""

    def encode(self, text: bytes) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> bytes: ...


class ByteVocabulary:
    unit, size, boundary = "bytes", BYTES, BOUNDARY

    def encode(self, text: bytes) -> list[int]:
        return list(text)

    def decode(self, ids: Sequence[int]) -> bytes:
        return bytes(ids)


class Tokenizer:
    """A tokenizer.json of Hugging Face: raises N890 without its package, N756 for another file."""

    unit = "tokens"

    def __init__(self, path: Path) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # else it warns at every fork
        library = needed("tokenizers")
        self.content = content_of(path)
        try:
            if not isinstance(json.loads(self.content), dict):
                raise ValueError("it is not an object")
            self._own = library.Tokenizer.from_buffer(self.content)
        except ValueError as error:
            raise faults.no_tokenizer(path, str(error)) from None
        self._own.no_truncation()
        self._own.no_padding()
        known = self._own.get_vocab(with_added_tokens=True)
        end = next((known[name] for name in ENDS if name in known), None)
        if end is None:
            raise faults.no_tokenizer(
                path, f"it has no token that ends a document, such as `{ENDS[0]}`"
            )
        self.name, self.boundary, self.size = str(path), int(end), max(known.values()) + 1
        self.sha256 = hashlib.sha256(self.content).hexdigest()

    def encode(self, text: bytes) -> list[int]:
        """Raises N755 for bytes that are not UTF-8."""
        ((ids, _),) = self.encoded([text], placed=False)
        return ids

    def encoded(self, texts: list[bytes], placed: bool) -> Iterator[tuple[list[int], Offsets]]:
        """Of each text its tokens, and where they stand in it if that is asked for."""
        encode = self._own.encode_batch if placed else self._own.encode_batch_fast
        try:
            found = encode([text.decode() for text in texts], add_special_tokens=False)
        except UnicodeDecodeError as error:
            raise faults.no_utf8(error.object[error.start : error.end]) from None
        for one in found:
            yield one.ids, one.offsets if placed else []

    def decode(self, ids: Sequence[int]) -> bytes:
        text: str = self._own.decode(list(ids), skip_special_tokens=False)
        return text.encode()


def content_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise faults.no_tokenizer(path, f"it cannot be read: {error.strerror}") from None


def trained(texts: Iterable[bytes], size: int) -> str:
    """A byte-level BPE of at most `size` tokens, as tokenizer.json: every byte, what is frequent in
    the texts, and ENDS[0], the last token that is merged from nothing.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    library = needed("tokenizers")
    made = library.Tokenizer(library.models.BPE())
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=size,
        show_progress=False,
        special_tokens=[ENDS[0]],
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
    )
    made.train_from_iterator((text.decode(errors="replace") for text in texts), trainer)
    text: str = made.to_str(pretty=True)
    return text
