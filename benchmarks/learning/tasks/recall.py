"""Associative recall: pairs that are asked for later, alone (MQAR) or in a haystack (needle).

MQAR (arXiv 2312.04927): `n` pairs of a key and a value stand first; each key comes again once, at a
random place behind, and its value is to be said. Needle: in noise a mark, a key and a value; at the
end the mark and the key come again. With several keys, one of them is asked for.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from benchmarks.learning.scales import Scale
from benchmarks.learning.systems import MAIN
from benchmarks.learning.tasks.task import VALIDATION, Sequence, Task, Test, after

KEYS, VALUES = 64, 64
BLANK = 0  # then keys, then values
PAIRS = (4, 8, 16, 32)
SHARE = 4  # a quarter of the places are pairs at most: what is asked needs as many again
SHORT = 64  # tokens: a net of this size needs tens of thousands of sequences to recall at all
TIMES = 4  # the tokens of a run of text

WORDS, MARK = 32, 32  # noise is made of words
SYMBOLS = 16  # keys, and as many values
SEVERAL = 4  # keys of the harder needle
CHANCE = {"mqar": 1 / VALUES, "needle": 1 / SYMBOLS}


def mqar_sequence(rng: Generator, length: int, pairs: int) -> Sequence:
    keys = 1 + rng.permutation(KEYS)[:pairs]
    values = 1 + KEYS + rng.integers(VALUES, size=pairs)
    tokens, counts = np.full(length + 1, BLANK, np.int64), np.zeros(length + 1, bool)
    tokens[0 : 2 * pairs : 2], tokens[1 : 2 * pairs : 2] = keys, values
    free = (length + 1 - 2 * pairs) // 2
    at = 2 * pairs + 2 * rng.permutation(free)[:pairs]
    tokens[at], tokens[at + 1], counts[at + 1] = keys, values, True
    return after(tokens, counts)


def mqar(scale: Scale) -> Task:
    """Sequences are short and many; the most pairs are tested in some that are twice as long."""
    length = min(SHORT, scale.length)
    fitting = [n for n in PAIRS if SHARE * n <= length]

    def draw(rng: Generator, share: float) -> Sequence:
        return mqar_sequence(rng, length, int(rng.choice(fitting)))

    def test(n: int) -> Test:
        return Test(lambda rng, _: mqar_sequence(rng, max(length, SHARE * n), n), scale.tests)

    return Task(
        name="mqar",
        systems=MAIN,
        vocab=1 + KEYS + VALUES,
        length=length,
        lanes=2 * scale.lanes * scale.length // length,
        steps=TIMES // 2 * scale.steps,
        draw=draw,
        validation=Test(lambda rng, _: draw(rng, 0), scale.tests),
        tests={f"{n} pairs": test(n) for n in PAIRS if SHARE * n <= 2 * length},
    )


def needle_sequence(rng: Generator, length: int, keys: int) -> Sequence:
    """Of the last two tokens, the key that is asked for and its value, the value counts."""
    tokens, counts = rng.integers(WORDS, size=length + 1), np.zeros(length + 1, bool)
    asked = MARK + 1 + rng.permutation(SYMBOLS)[:keys]
    values = MARK + 1 + SYMBOLS + rng.integers(SYMBOLS, size=keys)
    at = 3 * rng.permutation((length + 1 - 3) // 3)[:keys]
    tokens[at], tokens[at + 1], tokens[at + 2] = MARK, asked, values
    tokens[-3:] = MARK, asked[0], values[0]
    counts[-1] = True
    return after(tokens, counts)


def needle(scale: Scale) -> Task:
    def draw(rng: Generator, share: float) -> Sequence:
        return needle_sequence(rng, scale.length, int(rng.choice([1, SEVERAL])))

    def test(times: int, keys: int) -> Test:
        count = 4 * scale.tests  # one token counts in each
        return Test(lambda rng, _: needle_sequence(rng, times * scale.length, keys), count)

    return Task(
        name="needle",
        systems=MAIN,
        vocab=MARK + 1 + 2 * SYMBOLS,
        length=scale.length,
        lanes=scale.lanes,
        steps=scale.steps,
        draw=draw,
        validation=Test(lambda rng, _: draw(rng, VALIDATION), 4 * scale.tests),
        tests={
            f"{label}, {times} times": test(times, keys)
            for label, keys in (("single", 1), ("multi-key", SEVERAL))
            for times in (1, 2, 4)
        },
    )
