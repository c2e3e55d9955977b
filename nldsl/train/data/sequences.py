"""Chooses the tokens of a joined text or a table that a step reads, and those that a score reads.

A batch is a pure function of (seed, step, lane), so a resumed run needs no iterator to go on
exactly; a score reads documents from their begin.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6  # of the network that orders windows
Places = NDArray[np.int64]
Flags = NDArray[np.bool_]
Extent = tuple[int, int]  # [begin, end) of a document


def places(
    size: int,
    seed: int,
    step: int,
    micro: int,
    batch: int,
    length: int,
    stateful: bool,
    once: int = 0,
) -> Places:
    """Positions [batch, length] in a stream of `size` that the micro-batch `micro` (from 0) of step
    `step` (from 1) reads.

    Lanes are counted over the micro-batches, so 2 micro-batches of 4 are one of 8. Starts are drawn
    with replacement from every position; `stateful`, only the first of each lane is, and it goes on
    where it stopped, after the last position with the first. `once`: of a step of so many lanes,
    each window of `length` positions is read once an epoch, see `window`.
    """
    lanes = range(micro * batch, (micro + 1) * batch)
    if once:
        begun = [window(size, seed, (step - 1) * once + lane, length) for lane in lanes]
        return np.array(begun)[:, None] + np.arange(length)
    starts = [
        draw(seed, 0, lane, size) + (step - 1) * length
        if stateful
        else draw(seed, step, lane, size - length + 1)
        for lane in lanes
    ]
    return (np.array(starts)[:, None] + np.arange(length)) % size


def window(size: int, seed: int, n: int, length: int) -> int:
    """The start of the sequence `n` (from 0) of a run that reads every window once an epoch, in an
    order that follows from the seed and the epoch; what is left behind the last is never read.
    """
    epoch, at = divmod(n, size // length)
    return shuffled(f"{seed} epoch {epoch}", at, size // length) * length


def shuffled(key: str, i: int, n: int) -> int:
    """The place of `i` in an order of the numbers below `n` that follows from `key`, in no memory:
    a Feistel network over pairs of `half` bits, walked on until it is below `n`.
    """
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = i >> half, i & mask
        for turn in range(ROUNDS):
            digest = hashlib.sha256(f"{key} {turn} {right}".encode()).digest()
            left, right = right, left ^ int.from_bytes(digest[:8], "big") & mask
        i = left << half | right
        if i < n:
            return i


def draw(seed: int, step: int, lane: int, n: int) -> int:
    """A number in [0, n), the same on every machine and for every version of every library."""
    digest = hashlib.sha256(f"{seed} {step} {lane}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % n


def windows(documents: list[Extent], length: int, limit: int, shared: int = 1) -> Places:
    """Starts [count] of the sequences of `length` tokens that are scored, at most `limit` tokens in
    all.

    Sequences lie within one document [begin, end) and overlap by the `shared` tokens that have no
    term at the end of one, so that none is scored twice; a remainder at the end of a document is
    not scored. If they are more than `limit` allows, they are taken evenly spread.
    """
    starts = [
        np.arange(begin, end - length + 1, max(1, length - shared)) for begin, end in documents
    ]
    every = np.concatenate(starts) if starts else np.zeros(0, dtype=np.int64)
    keep = min(len(every), max(1, limit // length))
    return every[np.arange(keep) * len(every) // max(1, keep)]


def readings(
    documents: list[Extent], batch: int, length: int, limit: int
) -> tuple[Places, Flags, Flags]:
    """The plan by which lanes read whole documents: starts [round, lane] of sequences of `length`
    tokens, which of them begin a document, and which count: a lane that has read all of its own
    reads its last sequence again.

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


def deal(documents: list[Places], lanes: int) -> list[list[Places]]:
    """Each document, the longest first, to the lane that has the least to read; no lane without
    one.
    """
    dealt: list[list[Places]] = [[] for _ in range(min(lanes, len(documents)))]
    for document in documents:
        min(dealt, key=lambda lane: sum(map(len, lane))).append(document)
    return dealt


@dataclass(frozen=True)
class Plan:
    """A plan of reading: starts [round, lane] of sequences, which of them begin a document, and
    which count; each lane reads its column downwards.
    """

    starts: Places
    begins: Flags
    counts: Flags

    @property
    def lanes(self) -> int:
        return int(self.starts.shape[1])

    def places(self, length: int, absent: tuple[int, int]) -> Places:
        """Positions of the tokens that have a term: all of a sequence but the first and last
        `absent` ones.
        """
        return (
            self.starts[self.counts].reshape(-1, 1) + np.arange(absent[0], length - absent[1])
        ).reshape(-1)


def planned(
    documents: list[Extent], batch: int, length: int, limit: int, stateful: bool, shared: int = 1
) -> Plan:
    """Sequences each from the start state; `stateful`, whole documents, sequence after sequence in
    one lane. `shared` tokens at the end of a sequence have no term in it.
    """
    if stateful:
        return Plan(*readings(documents, batch, length, limit))
    starts = windows(documents, length, limit, shared)
    counts = np.arange(-(-len(starts) // batch) * batch) < len(starts)
    starts = np.resize(starts, len(counts)).reshape(-1, batch)
    return Plan(starts, np.ones_like(starts, dtype=bool), counts.reshape(-1, batch))
