"""A NETWORK -> ONE STEP OF DECODING: what sequences carry and their next token in, the scores of
the token after it and what they carry then out.

    state, decoding = begun(network, 1), Decoding(network)
    scores, state = decoding(state, ids)           ids [sequence, 1], scores [sequence, vocab]

How many tokens were read is a tensor of the state, so that one graph serves every token: clocks
are compared as it runs, and a copy that a memory is read at is always the one that is kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nldsl.core.program import ENDS
from nldsl.step.network import VALUE, Flat, Network
from nldsl.step.reading import Module, load_module

READ = "tokens"  # the number of tokens that were read, int64 []
Body = Callable[..., tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]


class Decoding(nn.Module):
    """The stream of a network at the next token of each sequence. Its state has fixed sizes; see
    `growing` for networks that have none.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.flat = Flat(network)
        self.functions = timed(load_module(network.stream.text, "decoding"))

    def forward(
        self, state: dict[str, Tensor], ids: Tensor, ended: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """`state` is what the last step gave, or `begun`; `ids` are [sequence, 1] whole numbers, or
        [sequence, 1, ..]; `ended` [sequence, 1]: does a document end, if the program counts them.
        """
        arrays = self.flat.arrays()
        batch = {self.flat.stream.inputs[0].name: ids}
        if ended is not None:
            like = next(x for x in arrays.values() if x.is_floating_point())
            batch[ENDS] = ended.to(like.dtype)
        carry = {name: x for name, x in state.items() if name != READ}
        values, new = self.functions["forward"](arrays, batch, carry, state[READ], "loop")
        return values[VALUE][:, -1], new | {READ: state[READ] + 1}


def begun(network: Network, sequences: int) -> dict[str, Tensor]:
    """What so many sequences carry before their first token."""
    arrays = network.arrays()
    like = next(x for x in arrays.values() if x.is_floating_point())
    with torch.no_grad():
        carry = network.stream.functions["start"](arrays, sequences, like.new_empty(0), {})
    found = {name: x.detach().clone() for name, x in carry.items()}
    for name, rows in network.stream.room.items():  # rows before the first token are seen by none
        found[name] = like.new_zeros((sequences, rows, *found[name].shape[2:]))
    return found | {READ: torch.zeros((), dtype=torch.int64, device=like.device)}


def growing(network: Network) -> str | None:
    """Why a step of decoding has no state of fixed sizes, in the words of a sentence; None if it
    has.
    """
    stream = network.stream
    if "learn(" in stream.text:
        return "a memory learns while it reads from the loss of the whole network"
    for name, kind in stream.kinds.items():
        own = name.rpartition(".")[0]
        if kind == "past" and name not in stream.room:
            return f"`{own}` is kept of every token that was read"
        if kind == "before":
            return f"`{own}` waits for the next token"
    if len(stream.inputs) != 1:
        return f"it has {len(stream.inputs)} inputs"
    if "present(" in stream.text.partition("def forward(")[2].partition("\ndef ")[0]:
        return "the first tokens have no scores"
    return None


def timed(module: Module) -> Module:
    """The functions of emitted source that ask for the time, for one token whose time is a
    tensor.
    """
    module["times"] = times
    module["scan_chunks"] = one_token
    return module


def times(like: Tensor, position: Tensor) -> Tensor:
    """As that of the runtime, [1, 1]."""
    return position.reshape(1, 1)


def one_token(
    body: Body,
    apart: object,
    state: tuple[Tensor, ...],
    streams: tuple[Tensor, ...],
    statics: tuple[Tensor, ...],
    position: Tensor,
    chunk: int,
    clocks: tuple[tuple[int, int, int], ...],
    copies: object,
    mode: str,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """As `scan_chunks` of the runtime, of a piece of one token."""
    n = position + 1
    ends = tuple(
        (n > max(phase, first)) & ((n - phase) % period == 0)
        if period > 0
        else torch.zeros_like(n, dtype=torch.bool)
        for period, phase, first in clocks
    )
    return body(state, streams, statics, ends, True)
