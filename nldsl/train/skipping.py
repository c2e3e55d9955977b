"""STEP -> a step that leaves the state as it was where it is not finite.

The state is copied before each step; where the loss, or a number of the state after it, is not
finite, every tensor takes what it was, counters and lanes included. The choice is made on the
device, so no step waits for it. The next step reads the next batch. Ranks leave out the step that
one of them finds so: each step sends a number for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nldsl.step.batches import Batch
from nldsl.step.compile import CompiledStep
from nldsl.step.state import State
from nldsl.train import checkpoint

SKIPPED = "skipped"  # a number that such a step gives: 1 where it was


class Skipping:
    """Takes steps as the step does that it is made of; `total` is the sum over all ranks."""

    def __init__(self, step: CompiledStep, total: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        self.step, self.total = step, total

    def fired(self, n: int) -> tuple[str, ...]:
        return self.step.fired(n)

    def __call__(self, state: State, batches: Sequence[Batch]) -> dict[str, Tensor]:
        before = {name: x.clone() for name, x in checkpoint.everything(state).items()}
        values = self.step(state, batches)
        after = checkpoint.everything(state)
        numbers = [x for x in (*values.values(), *after.values()) if x.is_floating_point()]
        here = torch.stack([torch.isfinite(x).all() for x in numbers]).all()
        sound = self.total((~here).double()) == 0
        with torch.no_grad():
            for name, x in after.items():
                x.copy_(torch.where(sound, x, before[name]))
        return {**values, SKIPPED: (~sound).double()}
