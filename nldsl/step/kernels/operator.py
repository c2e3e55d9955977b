"""The operator `nldsl::pieces`: all pieces of a memory in one kernel, and its gradient in another.

On a processor Triton's own interpreter runs them (`TRITON_INTERPRET=1`), in float32.
"""

from __future__ import annotations

import linecache
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from nldsl.step.kernels.shares import (
    Sources,
    backward_sources,
    forward_sources,
    next_of,
    sum_sizes,
)
from nldsl.step.kernels.source import (
    Call,
    Grads,
    Shape,
    Source,
    backward_source,
    forward_source,
    gradient_sizes,
)

Tensors = Sequence[Tensor]
Given = tuple[str, Tensors, Tensors, int, bool, bool]  # of `pieces`


class Context(Protocol):
    """What PyTorch keeps of a call for its backward pass."""

    text: str
    count: int
    states: int
    outs: int
    kept: int  # states before each piece, and sums
    needs_input_grad: tuple[Sequence[bool], ...]
    saved_tensors: tuple[Tensor, ...]

    def set_materialize_grads(self, value: bool) -> None: ...

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class Kernel(Protocol):
    """A kernel as Triton has it: by its grid, what runs it."""

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., object]: ...


def shape(x: Tensor) -> Shape:
    return Shape(tuple(x.shape), tuple(x.stride()))


def call_of(
    text: str, states: Tensors, streams: Tensors, count: int, left: bool, keep: bool
) -> Call:
    return Call(text, tuple(map(shape, states)), tuple(map(shape, streams)), count, left, keep)


def results(call: Call, like: Tensor) -> list[Tensor]:
    """Empty: what is handed on, states behind the last piece, those before each, and the sums of
    each.
    """
    sizes = [*call.piece.handed]
    sizes += [x.sizes for x in call.states] if call.left else []
    sizes += call.starts if call.keep else []
    sizes += sum_sizes(call) if call.keep and call.parts > 1 else []
    return [like.new_empty(x, dtype=torch.float32) for x in sizes]


@torch.library.custom_op("nldsl::pieces", mutates_args=(), tags=(torch.Tag.flexible_layout,))
def pieces(
    text: str,
    states: Sequence[Tensor],
    streams: Sequence[Tensor],
    count: int,
    left: bool,
    keep: bool,
) -> list[Tensor]:
    """Runs `piece(states, streams)` of the text over the pieces of each lane, `count` of them one
    after the other: states [lanes, ..], streams [lanes * count, ..]. Gives what is handed on, then
    the states behind the last piece if `left`, then, if `keep`, those before each and what programs
    added up in each.
    """
    call = call_of(text, states, streams, count, left, keep)
    made = results(call, states[0])
    rest, n = iter(made), len(states)
    outs = [next(rest) for _ in call.piece.handed]
    behind = [next(rest) for _ in range(n if left else 0)]
    kept = [next(rest) for _ in range(n if keep else 0)]
    if call.parts > 1:
        forward_by_shares(call, states, streams, outs, behind, kept, [*rest])
    else:
        launch(forward_source(call), [*states, *streams, *kept, *outs, *behind])
    return made


@pieces.register_fake
def _(
    text: str,
    states: Sequence[Tensor],
    streams: Sequence[Tensor],
    count: int,
    left: bool,
    keep: bool,
) -> list[Tensor]:
    return results(call_of(text, states, streams, count, left, keep), states[0])


@torch.library.custom_op("nldsl::pieces_back", mutates_args=(), tags=(torch.Tag.flexible_layout,))
def pieces_back(
    text: str,
    starts: Sequence[Tensor],
    sums: Sequence[Tensor],
    streams: Sequence[Tensor],
    count: int,
    new: Sequence[Tensor | None],
    outs: Sequence[Tensor | None],
    wanted: Sequence[int],
) -> list[Tensor]:
    """Gradients in the states before the first piece, then in the `wanted` streams, from those in
    the states behind the last and in what was handed on; None is 0. `starts` and `sums` are what
    `pieces` kept.
    """
    call, grads = call_back(text, starts, streams, count, new, outs, wanted)
    made = gradients(call, starts[0], wanted)
    given = backward_given(starts, streams, new, outs, wanted, made)
    if call.parts > 1:
        given |= {f"u{i}": x for i, x in enumerate(sums)}
        made_by = backward_sources(call, grads)
        sources = *made_by.once, *made_by.each
        backward_by_shares(call, grads, given, new, made[: len(starts)])
    else:
        sources = (backward_source(call, grads),)
        given |= {f"h{i}": made[i] for i in range(len(starts))}
        launch(sources[0], [given[name] for name in sources[0].tensors])
    written = {name for source in sources for name in source.tensors}
    for i, x in zip(wanted, made[len(starts) :]):
        if f"y{i}" not in written:
            x.zero_()
    return made


def backward_given(
    starts: Tensors,
    streams: Tensors,
    new: Sequence[Tensor | None],
    outs: Sequence[Tensor | None],
    wanted: Sequence[int],
    made: Tensors,
) -> dict[str, Tensor]:
    """What a kernel of the backward pass takes, by its name there."""
    given = {f"k{i}": x for i, x in enumerate(starts)} | {f"x{i}": x for i, x in enumerate(streams)}
    given |= {f"e{i}": x for i, x in enumerate(new) if x is not None}
    given |= {f"g{i}": x for i, x in enumerate(outs) if x is not None}
    return given | {f"y{i}": x for i, x in zip(wanted, made[len(starts) :])}


# -- memories that programs share: kernels for each piece. States before each piece lie piece by
# piece, those of its lanes one after the other.


def forward_by_shares(
    call: Call,
    states: Tensors,
    streams: Tensors,
    outs: Tensors,
    behind: Tensors,
    kept: Tensors,
    sums: Tensors,
) -> None:
    sources, lanes = forward_sources(call), call.lanes
    fresh = [states[0].new_empty(x.sizes, dtype=torch.float32) for x in call.states]
    behind = behind or fresh
    other = [torch.empty_like(x) for x in (() if kept else fresh)]
    given = {f"x{i}": x for i, x in enumerate(streams)}
    given |= {f"o{i}": x for i, x in enumerate(outs)} | {f"u{i}": x for i, x in enumerate(sums)}
    given |= scratch(sources, states[0])
    at = kept or (behind, other)[call.pieces % 2]
    for one, start in zip(at, states):
        one[:lanes].copy_(start)
    for piece in range(call.pieces):
        last = piece == call.pieces - 1
        if kept:
            begin, end = piece * lanes, 0 if last else (piece + 1) * lanes
            to = behind if last else at
        else:
            begin, end, to = 0, 0, behind if at is other else other
        given |= {f"s{i}": x for i, x in enumerate(at)} | {f"t{i}": x for i, x in enumerate(to)}
        for source in (*(sources.once if not piece else ()), *sources.each):
            launch(source, [given[name] for name in source.tensors], piece, begin, end)
        at = at if kept else to
        turn(given)


def turn(given: dict[str, Tensor]) -> None:
    """Shares that were made ahead are those of the piece that comes."""
    for name in [name for name in given if next_of(name) in given]:
        given[name], given[next_of(name)] = given[next_of(name)], given[name]


def backward_by_shares(
    call: Call,
    grads: Grads,
    given: dict[str, Tensor],
    new: Sequence[Tensor | None],
    made: Tensors,
) -> None:
    """From the last piece on; the gradients in states go to and fro between two places."""
    sources = backward_sources(call, grads)
    given |= {f"s{i}": given[f"k{i}"] for i in range(len(made))}
    given |= scratch(sources, made[0])
    places = [*made], [torch.empty_like(x) for x in made]
    for i, grad in enumerate(new):
        first = places[call.pieces % 2][i]
        first.zero_() if grad is None else first.copy_(grad)
    for piece in reversed(range(call.pieces)):
        behind, to = places[(piece + 1) % 2], places[piece % 2]
        given |= {f"e{i}": x for i, x in enumerate(behind)}
        given |= {f"h{i}": x for i, x in enumerate(to)}
        numbers = piece, piece * call.lanes, max(piece - 1, 0) * call.lanes
        for source in (*(sources.once if piece == call.pieces - 1 else ()), *sources.each):
            launch(source, [given[name] for name in source.tensors], *numbers)
        turn(given)


def scratch(sources: Sources, like: Tensor) -> dict[str, Tensor]:
    sizes = sources.scratch.items()
    return {name: like.new_empty(n, dtype=torch.float32) for name, n in sizes}


def call_back(
    text: str,
    starts: Tensors,
    streams: Tensors,
    count: int,
    new: Sequence[Tensor | None],
    outs: Sequence[Tensor | None],
    wanted: Sequence[int],
) -> tuple[Call, Grads]:
    lanes = starts[0].shape[0] // count
    states = tuple(Shape((lanes, *x.shape[1:]), tuple(x.stride())) for x in starts)

    def met(some: Sequence[Tensor | None]) -> tuple[tuple[int, tuple[int, ...]], ...]:
        return tuple((i, tuple(x.stride())) for i, x in enumerate(some) if x is not None)

    call = Call(text, states, tuple(map(shape, streams)), count, True, True)
    return call, Grads(met(new), met(outs), tuple(wanted))


def gradients(call: Call, like: Tensor, wanted: Sequence[int]) -> list[Tensor]:
    found = call.piece
    sizes = [x.sizes for x in call.states] + [gradient_sizes(found, i) for i in wanted]
    return [like.new_empty(x, dtype=torch.float32) for x in sizes]


@pieces_back.register_fake
def _(
    text: str,
    starts: Sequence[Tensor],
    sums: Sequence[Tensor],
    streams: Sequence[Tensor],
    count: int,
    new: Sequence[Tensor | None],
    outs: Sequence[Tensor | None],
    wanted: Sequence[int],
) -> list[Tensor]:
    call, _ = call_back(text, starts, streams, count, new, outs, wanted)
    return gradients(call, starts[0], wanted)


def keep_for_backward(ctx: Context, inputs: Given, output: list[Tensor]) -> None:
    text, states, streams, count, left, keep = inputs
    assert keep, "a derivative is taken of what was kept for none"
    ctx.set_materialize_grads(False)
    outs = len(call_of(*inputs).piece.handed)
    kept = output[outs + (len(states) if left else 0) :]
    ctx.text, ctx.count, ctx.outs = text, count, outs
    ctx.states, ctx.kept = len(states), len(kept)
    ctx.save_for_backward(*kept, *streams)


def differentiated(ctx: Context, grads: Sequence[Tensor | None]) -> tuple[object, ...]:
    saved, n, outs, kept = ctx.saved_tensors, ctx.states, ctx.outs, ctx.kept
    streams = saved[kept:]
    wanted = [i for i, needs in enumerate(ctx.needs_input_grad[2]) if needs]
    behind = grads[outs : len(grads) - kept] or [None] * n
    given = saved[:n], saved[n:kept], streams, ctx.count
    made = pieces_back(ctx.text, *given, [*behind], [*grads[:outs]], wanted)
    found: list[Tensor | None] = [None] * len(streams)
    for i, grad in zip(wanted, made[n:]):
        over = tuple(range(grad.dim() - streams[i].dim()))
        found[i] = grad.sum(over) if over else grad
    return None, made[:n], found, None, None, None


pieces.register_autograd(differentiated, setup_context=keep_for_backward)


# -- in Triton


def sources_of(packet: object, args: Sequence[object]) -> list[tuple[Source, int]]:
    """The kernels that a call of these operators runs, each with how often."""
    if packet is torch.ops.nldsl.pieces:
        call = call_of(*args)  # type: ignore[arg-type]
        if call.parts == 1:
            return [(forward_source(call), 1)]
        made = forward_sources(call)
    elif packet is torch.ops.nldsl.pieces_back:
        text, starts, _, *rest = args
        call, grads = call_back(text, starts, *rest)  # type: ignore[arg-type]
        if call.parts == 1:
            return [(backward_source(call, grads), 1)]
        made = backward_sources(call, grads)
    else:
        return []
    return [*((x, 1) for x in made.once), *((x, call.pieces) for x in made.each)]


def kernel(source: Source) -> Kernel:
    """The kernel, for the device or for Triton's interpreter."""
    return made(source, os.environ.get("TRITON_INTERPRET") == "1")


@cache
def made(source: Source, interpreted: bool) -> Kernel:
    """Triton finds the text where Python keeps lines."""
    space: dict[str, object] = {"__name__": f"nldsl_{source.name}"}
    file = f"<nldsl {source.name} {hash(source):x}>"
    lines = source.text.splitlines(keepends=True)
    linecache.cache[file] = (len(source.text), None, lines, file)
    exec(compile(source.text, file, "exec"), space)
    found: Kernel = space[source.name]  # type: ignore[assignment]
    return found


def launch(source: Source, tensors: Sequence[Tensor], *numbers: int) -> None:
    with torch.cuda.device(tensors[0].device) if tensors[0].is_cuda else nullcontext():
        kernel(source)[(source.programs,)](*tensors, *numbers, num_warps=source.warps)
