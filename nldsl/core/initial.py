"""Initial values of parameters: functions of the seed and of the qualified name alone.

    initial_weights(program, seed=0)["loss.rmsnorm"]        the same tensor in whatever program it
                                                            stands

Adding a layer therefore moves no other layer's start, and two programs that share names share
starts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from nldsl.core.program import Program, Weight


def normal(seed: int, name: str, sizes: Sequence[int], scale: float, reset: int = 0) -> Tensor:
    """Draw number `reset` of `name`: normal with standard deviation `scale`."""
    digest = hashlib.sha256(f"{seed}/{name}/{reset}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.randn(tuple(sizes), dtype=torch.float64, generator=generator) * scale


def initial(weight: Weight, seed: int, reset: int = 0) -> Tensor:
    sizes = [axis.size for axis in weight.shape]
    if weight.init == "fill":
        return torch.tensor(weight.fill, dtype=torch.float64).expand(sizes).clone()
    return normal(seed, weight.name, sizes, weight.scale, reset)


def initial_weights(program: Program, seed: int = 0) -> dict[str, Tensor]:
    return {name: initial(weight, seed) for name, weight in program.weights.items()}
