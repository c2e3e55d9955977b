"""DATA -> what a program of one `index(n)` reads: the bytes of a text, its tokens by a tokenizer,
or the tokens of a file.

A token that the program has no place for is told before it is read (N705).
"""

from __future__ import annotations

from collections.abc import Callable

from nldsl.core.program import ENDS, Program
from nldsl.train import faults
from nldsl.train.data import text, tokens
from nldsl.train.data.baseline import BYTES
from nldsl.train.data.given import Given
from nldsl.train.data.text import Corpus
from nldsl.train.data.tokens import TokenCorpus
from nldsl.train.data.vocabulary import Tokenizer
from nldsl.train.records import Data


def takes(program: Program) -> bool:
    """A number below n, as the only input."""
    return len(program.inputs) == 1 == len(program.vocab)


def of(program: Program, given: Given) -> Corpus | TokenCorpus:
    return found(program, given, text.load, divide=True)


def whole(program: Program, given: Given, trained: Data) -> Corpus | TokenCorpus:
    return found(program, given, text.whole, divide=False)


def found(
    program: Program, given: Given, load: Callable[[Given], Corpus], divide: bool
) -> Corpus | TokenCorpus:
    if given.fill is not None:
        raise faults.option_does_not_fit("--fill", given.path or "text", "a text has no gaps")
    ((name, size),) = program.vocab.items()
    node = program.inputs[name]
    if (files := tokens.files_of(given)) is not None:
        made = tokens.of_files(given, files, divide)
        if (last := tokens.largest(made)) >= size:
            raise faults.more_tokens(node, name, size, made.name, last)
        if made.vocabulary is None and program.counts(ENDS):
            raise faults.unknown_ends(made.name)
        return made
    if given.tokenizer is None:
        if size != BYTES:
            raise faults.not_of_bytes(node, name, size)
        return load(given)
    tokenizer = Tokenizer(given.tokenizer)
    if tokenizer.size > size:
        raise faults.more_tokens(node, name, size, tokenizer.name, tokenizer.size - 1)
    return tokens.tokenized(load(given), tokenizer)
