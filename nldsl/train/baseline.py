"""The byte model every run is printed beside: two bytes of context, Witten-Bell back-off, fitted on all training bytes.

    p(s | c) = (n(c, s) + t(c) p(s | c')) / (n(c) + t(c))

n counts in the training text, t(c) is the number of different bytes seen after context c, c' is c without its oldest
byte; below order 0 stands the uniform 1/256 (Witten and Bell 1991, method C).
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BYTES = 256


@dataclass(frozen=True, eq=False)
class Order2:
    """Counts of a training text: n0 [256], n1 [256, 256], n2 [65536, 256], the last axis the predicted byte."""

    n0: np.ndarray
    n1: np.ndarray
    n2: np.ndarray

    def nats(self, text: np.ndarray) -> np.ndarray:
        """-ln p of each byte of `text` (uint8 [n]) given the two before it, the first ones given what there is: float64 [n]."""
        s = text.astype(np.int64)
        one = np.concatenate([[0], s[:-1]])[:len(s)]
        two = np.concatenate([[0, 0], s[:-2]])[:len(s)] * BYTES + one
        p0 = backed_off(self.n0[None], np.zeros_like(s), s, np.full(len(s), 1 / BYTES))
        p1 = np.where(np.arange(len(s)) < 1, p0, backed_off(self.n1, one, s, p0))
        p2 = np.where(np.arange(len(s)) < 2, p1, backed_off(self.n2, two, s, p1))
        return -np.log(p2)


def fit(train: np.ndarray) -> Order2:
    """Count a uint8 [n] text. 13 MB take about a second."""
    s = train.astype(np.int64)
    pairs = s[:-1] * BYTES + s[1:]
    triples = pairs[:-1] * BYTES + s[2:]
    return Order2(np.bincount(s, minlength=BYTES),
                  np.bincount(pairs, minlength=BYTES**2).reshape(BYTES, BYTES),
                  np.bincount(triples, minlength=BYTES**3).astype(np.int32).reshape(BYTES**2, BYTES))


def backed_off(counts: np.ndarray, context: np.ndarray, s: np.ndarray, shorter: np.ndarray) -> np.ndarray:
    """Probability of bytes `s` [n] in rows `context` [n] of `counts`, given their probability in the shorter context."""
    rows, row = np.unique(context, return_inverse=True)
    seen = counts[rows].sum(-1)[row]
    different = (counts[rows] > 0).sum(-1)[row]
    known = np.maximum(seen + different, 1)
    return np.where(seen > 0, (counts[context, s] + different * shorter) / known, shorter)


def order0_bits(text: np.ndarray) -> float:
    """Entropy of the byte frequencies of a uint8 [n] text, in bits per byte."""
    p = np.bincount(text, minlength=BYTES) / len(text)
    return float(-(p[p > 0] * np.log2(p[p > 0])).sum())


def bits(nats: float, terms: float) -> float:
    """Bits per byte of a sum of nats over `terms` predicted bytes."""
    return nats / terms / math.log(2)
