"""Bytes of text: what the next one is, up to eight times further than training reads; and texts
that a lane reads on in, for a memory that is carried from each sequence to the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.random import Generator

from benchmarks.learning.scales import Scale
from benchmarks.learning.systems import ABLATIONS, MAIN
from benchmarks.learning.tasks.task import TRAINING, Ids, Sequence, Task, Test, after
from nldsl.train.data.text import standard_library

CARRIED = ("titans", "titans_carried")
LONGER = 8  # times the length of training
PARTED = 20  # of a file, every twentieth is held out: its end


def task(scale: Scale, path: Path | None = None) -> Task:
    """Of a file, or of the sources of Python's own library."""
    name, train, held_out = corpus(path)
    half = len(held_out) // 2
    validation, testing = held_out[:half], held_out[half:]
    long = LONGER * scale.length

    def draw(rng: Generator, share: float) -> Sequence:
        return slice_of(train, int(rng.integers(len(train) - scale.length)), scale.length)

    return Task(
        name="text",
        systems=MAIN + ABLATIONS,
        vocab=256,
        length=scale.length,
        lanes=scale.lanes,
        steps=scale.steps,
        draw=draw,
        validation=Test(spread(validation, scale.length, scale.tests), scale.tests),
        tests={
            "held out": Test(spread(testing, scale.length, scale.tests), scale.tests),
            f"{LONGER} times as long": Test(spread(testing, long, scale.tests), scale.tests),
        },
        data=name,
    )


def carried(scale: Scale, path: Path | None = None) -> Task:
    """The same text in its own order: of a lane each sequence begins where the last one ended. What
    is scored are the first sequence of a text, and eight in a row.
    """
    plain = task(scale, path)
    train = corpus(path)[1]
    least = len(train) - scale.length

    def reads_on(seed: int, lane: int, step: int) -> Sequence:
        start = int(np.random.default_rng([TRAINING, seed, lane]).integers(least))
        return slice_of(train, (start + step * scale.length) % least, scale.length)

    return replace(plain, name="carried", systems=CARRIED, reads_on=reads_on)


@cache
def corpus(path: Path | None) -> tuple[str, Ids, Ids]:
    """What it is, what is trained on, what is held out."""
    if path is None:
        found = standard_library()
        return f"{found.name}, {found.sha256[:12]}", integers(found.train), integers(found.held_out)
    content = path.read_bytes()
    parts = np.array_split(np.frombuffer(content, np.uint8), PARTED)
    name = f"{path.name}, {hashlib.sha256(content).hexdigest()[:12]}"
    return name, integers(np.concatenate(parts[:-1])), integers(parts[-1])


def integers(text: np.ndarray) -> Ids:
    return text.astype(np.int64)


def slice_of(text: Ids, begin: int, length: int) -> Sequence:
    return after(text[begin : begin + length + 1])


def spread(text: Ids, length: int, count: int) -> Callable[[Generator, int], Sequence]:
    """The documents that are scored lie as far apart as the text allows."""

    def draw(rng: Generator, n: int) -> Sequence:
        return slice_of(text, n * (len(text) - length - 1) // max(1, count - 1), length)

    return draw
