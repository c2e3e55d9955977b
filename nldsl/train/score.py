"""Held-out text -> bits per byte, of the model and of the order-2 byte model on exactly the same bytes."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nldsl.train import baseline
from nldsl.train.data import windows

SCORED = 1 << 17                                   # held-out bytes scored at the end of a long run; an eighth of a short run's bytes,
LEAST_SCORED = 1 << 12                             # but at least these: scoring should not take longer than training


@dataclass(frozen=True)
class Score:
    """All in bits per byte over the same `terms` held-out bytes; `order0` is the entropy of the training bytes."""

    model: float
    order2: float
    order0: float
    terms: int

    def describe(self) -> str:
        return (f"held out: {self.model:.3f} bits per byte; order-2 byte model {self.order2:.3f}, order-0 entropy {self.order0:.3f}"
                f" ({self.terms:,} bytes scored)")


def score(step: Any, state: Any, name: str, train: np.ndarray, text: np.ndarray, batch: int, length: int, piece: int,
          limit: int = SCORED) -> Score:
    """Feed sequences of `length` bytes of `text` to input `name`, each from the start state, `piece` bytes at a time with the state carried.

    Every byte of a sequence but its first is scored. The last sequences are left out if they do not fill a batch.
    The byte model is fitted on `train`; both are uint8 [bytes], joined as in data.py.
    """
    starts = windows(text, length, limit)
    lanes = min(batch, len(starts))
    starts = starts[:len(starts) // lanes * lanes].reshape(-1, lanes)
    nats, terms = 0.0, 0
    for group in starts:
        carry = None
        for ids in pieces(text, group, length, piece):
            part, count, carry = step.evaluate(state, {name: ids}, carry)
            nats, terms = nats + float(part), terms + int(count)
    places = (starts.reshape(-1, 1) + np.arange(1, length)).reshape(-1)
    assert terms == len(places), f"the loss has {terms} terms where {len(places)} bytes have a byte before them"
    order2 = float(baseline.fit(train).nats(text)[places].sum())
    return Score(baseline.bits(nats, terms), baseline.bits(order2, terms), baseline.order0_bits(train), terms)


def pieces(text: np.ndarray, starts: np.ndarray, length: int, piece: int) -> Iterator[torch.Tensor]:
    """LongTensors [lanes, at most piece] that make up text[start : start + length] of every lane."""
    for begin in range(0, length, piece):
        end = min(begin + piece, length)
        yield torch.from_numpy(np.stack([text[s + begin:s + end] for s in starts]).astype(np.int64))
