"""Six formal languages: after each symbol, which symbols may come next (as in arXiv 2009.11264).

The target is the number of the set of symbols that may follow, `$` (the end) among them: a word is
right if all of them are. Bin 0 has words as long as in training, Bin 1 longer ones.

    parity       0 and 1, an even number of 1; the set says only whether the word may end
    (aa)*        a, an even number of times
    (abab)*      abab, any number of times
    a^n b^n, a^n b^n c^n
    Shuffle-2    two kinds of brackets, each balanced, interleaved
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.random import Generator

from benchmarks.learning.scales import Scale
from benchmarks.learning.tasks.task import Sequence, Task, Test

START, VOCAB = 0, 8  # symbols are 1, 2, ..; the number of a set is below VOCAB
SYSTEMS = ("transformer", "gla", "gated_deltanet", "titans", "hope")
Word = tuple[list[int], list[int]]  # symbols after the start, and the sets after start and each


def parity(rng: Generator, longest: int, shortest: int) -> Word:
    bits = rng.integers(2, size=rng.integers(shortest, longest + 1))
    return (1 + bits).tolist(), [0, *(np.cumsum(bits) % 2).tolist()]


def repeated(period: str, rng: Generator, longest: int, shortest: int) -> Word:
    """The set is the place in the period; a word stops anywhere, as its prefixes are asked."""
    size = int(rng.integers(shortest, longest + 1))
    symbols = [1 + "ab".index(period[n % len(period)]) for n in range(size)]
    return symbols, [n % len(period) for n in range(size + 1)]


def counted(letters: int, rng: Generator, longest: int, shortest: int) -> Word:
    """Sets: `a` at the start; `a` or `b`; then one letter that is left to say; the end."""
    n = int(rng.integers(max(1, -(-shortest // letters)), longest // letters + 1))
    symbols = [letter for letter in range(1, letters + 1) for _ in range(n)]
    sets = [0, *[1] * n]
    for letter in range(2, letters + 1):
        sets += [letter] * (n - 1) + [letter + 1]
    return symbols, sets


def shuffle_2(rng: Generator, longest: int, shortest: int) -> Word:
    """Set: 1 if a `)` may come, and 2 if a `]`. Brackets open and close by chance, and close at the
    end of the word.
    """
    pairs = int(rng.integers(max(1, shortest // 2), longest // 2 + 1))
    left, depth = pairs, [0, 0]
    symbols: list[int] = []
    sets = [0]
    while left or any(depth):
        kind = int(rng.integers(2))
        if left and rng.random() < 0.5:
            left, change, symbol = left - 1, 1, 1 + kind
        elif depth[kind]:
            change, symbol = -1, 3 + kind
        else:
            continue
        depth[kind] += change
        symbols.append(symbol)
        sets.append((depth[0] > 0) + 2 * (depth[1] > 0))
    return symbols, sets


LANGUAGES: dict[str, Callable[[Generator, int, int], Word]] = {
    "parity": parity,
    "(aa)*": partial(repeated, "aa"),
    "(abab)*": partial(repeated, "abab"),
    "a^n b^n": partial(counted, 2),
    "a^n b^n c^n": partial(counted, 3),
    "Shuffle-2": shuffle_2,
}


def padded(word: Word, length: int) -> Sequence:
    symbols, sets = word
    ids, target = np.full(length, START, np.int64), np.zeros(length, np.int64)
    ids[1 : len(symbols) + 1], target[: len(sets)] = symbols, sets
    return Sequence(ids, target, np.arange(length) < len(sets))


def task(language: str, scale: Scale) -> Task:
    """A quarter of a text's length for training, twice that for Bin 1, in a third of the tokens."""
    word, longest = LANGUAGES[language], scale.length // 4 - 1

    def short(rng: Generator, share: float) -> Sequence:
        return padded(word(rng, longest, 1), longest + 1)

    def long(rng: Generator, n: int) -> Sequence:
        return padded(word(rng, 2 * longest, longest + 1), 2 * longest + 1)

    return Task(
        name=f"formal: {language}",
        systems=SYSTEMS,
        vocab=VOCAB,
        length=longest + 1,
        lanes=4 * scale.lanes,
        steps=scale.steps // 3,
        draw=short,
        validation=Test(short, scale.tests),
        tests={"Bin 0": Test(short, scale.tests), "Bin 1": Test(long, scale.tests)},
    )
