"""A prompt -> text that the model goes on with; its token-clock levels go on learning from what
they write.
"""

from __future__ import annotations

from typing import Any

import torch

from nldsl.train.data import BOUNDARY, Corpus, extents

PROMPT, LENGTH = 64, 256  # bytes of the sample after training
TEMPERATURE = 0.8


def sample(
    step: Any,
    state: Any,
    prompt: bytes,
    n: int,
    seed: int,
    temperature: float = TEMPERATURE,
    lanes: dict[str, torch.Tensor] | None = None,
    freeze: bool = False,
) -> tuple[bytes, dict[str, torch.Tensor]]:
    """`n` bytes after `prompt` (at least one byte), and what the only lane of `lanes` holds then;
    temperature 0 takes the likeliest byte each time, `freeze` stops learning.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor([list(prompt)], dtype=torch.int64)
    text, lanes = step.generate(state, ids, n, generator, temperature, lanes, freeze, BOUNDARY)
    return bytes(text.reshape(-1).tolist()), lanes


def opening(corpus: Corpus) -> bytes:
    """The first bytes of the first held-out document, up to a line end if there is one."""
    begin, end = extents(corpus.held_out)[0]
    text = corpus.held_out[begin : min(end - 1, begin + PROMPT)].tobytes()
    return text[: text.rfind(b"\n") + 1] or text


def readable(text: bytes) -> str:
    """As text: what is not UTF-8 or would move the cursor of a terminal is shown as an escape."""
    decoded = text.decode("utf-8", errors="backslashreplace")
    return "".join(
        c
        if c.isprintable() or c == "\n"
        else " " * 4
        if c == "\t"
        else c.encode("unicode_escape").decode()
        for c in decoded
    )
