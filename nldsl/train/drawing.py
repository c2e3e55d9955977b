"""Scores of the next token -> how likely each is drawn, and one that is drawn.

What changes the scores is applied in the order of transformers: the penalty of tokens that were
there, the temperature, the k likeliest, the fewest that together reach p.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

TEMPERATURE = 0.8


@dataclass(frozen=True)
class Manner:
    """How a token is drawn. `temperature` 0 takes the likeliest; of the tokens only the `top_k`
    likeliest are drawn, and of those the fewest whose probabilities sum to `top_p`. The score of a
    token that was read or written before is divided by `repetition` where it is above 0, else
    multiplied with it.
    """

    temperature: float = TEMPERATURE
    top_k: int | None = None
    top_p: float = 1.0
    repetition: float = 1.0


def likelihoods(scores: Tensor, seen: Tensor, how: Manner) -> Tensor:
    """How likely each token is drawn, float64 on the host [sequence, vocab], by its score and by
    whether it was `seen`, both [sequence, vocab]. Raises FloatingPointError for a score that is not
    finite.
    """
    scores = scores.double().cpu()
    if not scores.isfinite().all():
        raise FloatingPointError("the scores are not finite")
    if how.repetition != 1:
        less = torch.where(scores > 0, scores / how.repetition, scores * how.repetition)
        scores = torch.where(seen, less, scores)
    if how.temperature == 0:
        return torch.zeros_like(scores).scatter(-1, scores.argmax(-1, keepdim=True), 1)
    scores = (scores - scores.amax(-1, keepdim=True)) / how.temperature
    if how.top_k is not None and how.top_k < scores.shape[-1]:
        least = scores.topk(how.top_k).values[..., -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    found = scores.softmax(-1)
    if how.top_p < 1:
        ordered, places = found.sort(descending=True, stable=True)
        kept = ordered.cumsum(-1) - ordered < how.top_p  # what stands before sums to less than p
        found = torch.zeros_like(found).scatter(-1, places, ordered * kept)
        found = found / found.sum(-1, keepdim=True)
    return found


def drawn(likely: Tensor, generators: list[torch.Generator]) -> list[int]:
    """A token for each sequence, each by a generator of its own."""
    return [
        int(torch.multinomial(one, 1, generator=own))
        for one, own in zip(likely, generators, strict=True)
    ]


def generator(seed: int, time: int) -> torch.Generator:
    """What a prompt draws by: the first `time` (0) by the seed itself, as if it stood alone, and
    each further time that it is given by numbers of its own.
    """
    if time:
        digest = hashlib.sha256(f"{seed}/{time}".encode()).digest()
        seed = int.from_bytes(digest[:8], "little") >> 1
    return torch.Generator().manual_seed(seed)
