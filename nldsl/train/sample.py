"""A prompt -> tokens that the model goes on with; its token-clock levels go on learning from what
they write.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nldsl.step.compile import CompiledStep
from nldsl.step.lanes import Lanes
from nldsl.step.state import State
from nldsl.train.data.vocabulary import BOUNDARY

LENGTH = 256  # tokens of the sample after training
TEMPERATURE = 0.8


def sample(
    step: CompiledStep,
    state: State,
    prompt: Sequence[int],
    n: int,
    seed: int,
    temperature: float = TEMPERATURE,
    lanes: Lanes | None = None,
    freeze: bool = False,
    boundary: int = BOUNDARY,
) -> tuple[list[int], Lanes]:
    """`n` tokens after `prompt` (at least one), and the memories of the only lane of `lanes` then;
    temperature 0 takes the likeliest token each time, `freeze` stops learning; `boundary` ends a
    document.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor([list(prompt)], dtype=torch.int64)
    found, lanes = step.reading.generate(
        state, ids, n, generator, temperature, lanes, freeze, boundary
    )
    return found.reshape(-1).tolist(), lanes


def readable(text: bytes) -> str:
    """As text: bytes that are not UTF-8, or would move the cursor of a terminal, are shown as
    escapes.
    """
    decoded = text.decode("utf-8", errors="backslashreplace")
    return "".join(
        c
        if c.isprintable() or c == "\n"
        else " " * 4
        if c == "\t"
        else c.encode("unicode_escape").decode()
        for c in decoded
    )
