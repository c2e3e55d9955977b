"""The recurrences of a step -> those whose memory stays on the chip through all pieces, and why the
others' do not.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from nldsl.step.kernels.code import padded
from nldsl.step.kernels.operator import call_of
from nldsl.step.kernels.shares import backward_sources, forward_sources
from nldsl.step.kernels.source import (
    Call,
    Grads,
    backward_source,
    contiguous,
    forward_source,
)
from nldsl.step.kernels.statements import Recurrent, Whole, whole
from nldsl.step.kernels.tiles import Unfit
from nldsl.step.runtime.recurrence import pieces

TILE = 1 << 14  # numbers of one value, 64 KiB of a processor's registers and shared memory
Run = Callable[..., Any]
Scan = Callable[..., tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]


def on_chip(
    source: str, recurrences: Sequence[Recurrent], apart: Mapping[str, tuple[str, str]]
) -> dict[str, Whole | str]:
    """By the function of a piece, that of all pieces, or why there is none."""
    module = ast.parse(source)

    def chosen(one: Recurrent) -> Whole | str:
        for sinks in (True, False):
            try:
                made = whole(module, one, apart.get(one.function), sinks)
                for call in calls(source, made, one):
                    hold(call)
                    made = replace(made, parts=call.parts)
                return made
            except Unfit as reason:
                said = str(reason)
        return said

    return {one.function: chosen(one) for one in recurrences}


class Met(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hears what the operator is given."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        if func is torch.ops.nldsl.pieces.default:
            self.calls.append(call_of(*args))  # type: ignore[arg-type]
        return func(*args, **(kwargs or {}))


def calls(source: str, made: Whole, one: Recurrent) -> list[Call]:
    """What the operator would be given, of two sequences of two pieces. Raises Unfit."""
    space: dict[str, Any] = {"__name__": "step"}
    exec(compile(f"{source}\n\n{made.text}", "<nldsl step>", "exec"), space)
    met = Met()
    with FakeTensorMode(), met:
        states = tuple(torch.zeros(2, *x) for x in one.states)
        streams = tuple(torch.zeros(2, 2 * one.chunk, *x) for x in one.streams)
        statics = tuple(torch.zeros(x) for x in one.statics)
        space[made.name](states, streams, statics, one.chunk, True)
    return met.calls


def hold(call: Call) -> None:
    """Raises Unfit where a kernel cannot be written, or the memory does not fit."""
    found = call.piece
    if max(math.prod(map(padded, tile)) for tile in found.tiles) > TILE:
        raise Unfit(f"more than {TILE:,} numbers of one value")
    outs = tuple((i, contiguous(x)) for i, x in enumerate(found.handed))
    new = tuple((i, contiguous(x.sizes)) for i, x in enumerate(call.states))
    grads = Grads(new, outs, tuple(range(len(call.streams))))
    if call.parts > 1:
        forward_sources(call), backward_sources(call, grads)
    else:
        forward_source(call), backward_source(call, grads)


def rolled(scan: Scan, found: Mapping[Run, tuple[Whole, Run]]) -> Scan:
    """`scan_chunks` that takes whole pieces of some functions at once: `found` gives by the
    function of a piece that of all.
    """

    def run(
        body: Run,
        apart: tuple[Run, ...],
        state: tuple[Tensor, ...],
        streams: tuple[Tensor, ...],
        statics: tuple[Tensor, ...],
        position: int,
        chunk: int,
        clocks: tuple[tuple[int, int, int], ...],
        copies: tuple[tuple[int, int], ...],
        mode: str,
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        length, outs = streams[0].shape[1], list[tuple[Tensor, ...]]()
        before, full, behind = pieces(length, position, chunk)
        first, last = (full[0][0], full[-1][1]) if full else (0, 0)
        if body not in found or not full or mode not in ("loop", "last"):
            first, last, full, behind = 0, 0, [], [(0, length)]
        one, all_pieces = found.get(body, (None, body))
        for a, b, how in ((0, first, "loop"), (first, last, ""), (last, length, mode)):
            here = streams if b - a == length else tuple(x[:, a:b] for x in streams)
            if a == b:
                continue
            if how or one is None:
                rest = statics, position + a, chunk, clocks, copies, how
                state, out = scan(body, apart, state, here, *rest)
            else:
                left = mode == "loop" or bool(behind)
                new, out = all_pieces(state, here[: one.streams], statics, chunk, left)
                state = tuple(new[at] for at in one.places) if left else state
            outs.append(out)
        joined = zip(*outs)
        return state, tuple(torch.cat(x, 1) if len(x) > 1 else x[0] for x in joined)

    return run
