"""How a slower level learns through the ticks of faster ones: a tape of what happened between two
of its own ticks, passed backwards.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def note(tape: Tensor, at: Tensor, value: float | Tensor) -> None:
    """Writes one row of a tape."""
    row = value.to(tape) if isinstance(value, Tensor) else tape.new_full((), value)
    tape.index_copy_(0, at, row.reshape(1, *tape.shape[1:]))


def zeros(x: Tensor) -> Tensor:
    """A cotangent of x that has heard nothing."""
    return torch.zeros_like(x)


def replay(
    body: Callable[..., tuple[Tensor, ...]],
    carry: tuple[Tensor, ...],
    tapes: tuple[Tensor, ...],
    held: tuple[Tensor, ...],
    mode: str,
) -> tuple[Tensor, ...]:
    """Passes the rows of tapes, last first: body(carry, row, held) -> carry. "scan" makes one loop
    of them for the compiler.
    """
    if mode == "scan":
        from torch._higher_order_ops.scan import scan

        own = tuple(x.clone() for x in held)  # the loop takes no two views of one tensor

        def step(
            carry: tuple[Tensor, ...], row: tuple[Tensor, ...]
        ) -> tuple[tuple[Tensor, ...], Tensor]:
            return tuple(x.clone() for x in body(carry, row, own)), row[0].clone()

        rows = tuple(tape.clone() for tape in tapes)
        last: tuple[Tensor, ...] = scan(step, carry, rows, dim=0, reverse=True)[0]
        return last
    for j in reversed(range(tapes[0].shape[0])):
        carry = body(carry, tuple(tape[j] for tape in tapes), held)
    return carry
