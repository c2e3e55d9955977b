"""The byte model every run is printed beside: two bytes of context, Witten-Bell back-off, fitted on
all training bytes.

    p(s | c) = (n(c, s) + t(c) p(s | c')) / (n(c) + t(c))

n counts in the training text, t(c) is the number of different bytes seen after context c, c' is c
without its oldest byte; below order 0 stands the uniform 1/256 (Witten and Bell 1991, method C).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BYTES = 256
PIECE = 1 << 22  # bytes counted at once: counting takes the same memory for any text


@dataclass(frozen=True, eq=False)
class Order2:
    """Counts of a training text: n0 [256], n1 [256, 256], n2 [65536, 256], the last axis the
    predicted byte.
    """

    n0: np.ndarray
    n1: np.ndarray
    n2: np.ndarray

    def nats(self, text: np.ndarray, places: np.ndarray) -> np.ndarray:
        """-ln p of the bytes at `places` [n] of a uint8 text, each given the two before it, the
        first ones given those that there are: float64 [n].
        """
        s, before, first = (
            np.where(places >= back, text[np.maximum(places - back, 0)], 0).astype(np.int64)
            for back in range(3)
        )
        p0 = backed_off(self.n0[None], np.zeros_like(s), s, np.full(len(s), 1 / BYTES))
        p1 = np.where(places < 1, p0, backed_off(self.n1, before, s, p0))
        p2 = np.where(places < 2, p1, backed_off(self.n2, first * BYTES + before, s, p1))
        return -np.log(p2)

    def order0_bits(self) -> float:
        """Entropy of the byte frequencies, in bits per byte."""
        p = self.n0[self.n0 > 0] / self.n0.sum()
        return float(-(p * np.log2(p)).sum())


def fit(train: np.ndarray) -> Order2:
    """Count a uint8 [n] text. 13 MB take about a second."""
    n0, n1, n2 = (
        np.zeros(BYTES**order, dtype)
        for order, dtype in ((1, np.int64), (2, np.int64), (3, np.int32))
    )
    for begin in range(0, len(train), PIECE):
        s = train[max(0, begin - 2) : begin + PIECE].astype(np.int64)
        new = min(begin, 2)  # the bytes before were counted with the piece before
        n0 += np.bincount(s[new:], minlength=BYTES)
        pairs = s[:-1] * BYTES + s[1:]
        n1 += np.bincount(pairs[max(0, new - 1) :], minlength=BYTES**2)
        n2 += np.bincount(pairs[:-1] * BYTES + s[2:], minlength=BYTES**3).astype(np.int32)
    return Order2(n0, n1.reshape(BYTES, BYTES), n2.reshape(BYTES**2, BYTES))


def backed_off(
    counts: np.ndarray, context: np.ndarray, s: np.ndarray, shorter: np.ndarray
) -> np.ndarray:
    """Probability of bytes `s` [n] in rows `context` [n] of `counts`, given their probability in
    the shorter context.
    """
    rows, row = np.unique(context, return_inverse=True)
    seen = counts[rows].sum(-1)[row]
    different = (counts[rows] > 0).sum(-1)[row]
    known = np.maximum(seen + different, 1)
    return np.where(seen > 0, (counts[context, s] + different * shorter) / known, shorter)


def bits(nats: float, terms: float) -> float:
    """Bits per byte of a sum of nats over `terms` predicted bytes."""
    return nats / terms / math.log(2)
