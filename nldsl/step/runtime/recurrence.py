"""Memories that learn within a sequence: kernels of their gates, pieces of tokens, the end of an
instant."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def decay_kernel(c: Tensor) -> tuple[Tensor, Tensor]:
    """c [B, P.., T] -> L [B, P.., T, J] with L[t, j] = prod of c over j < l <= t (0 above the
    diagonal), and the products from the start of the piece [B, P.., T]. L is the inverse of I - c
    below the diagonal: no logarithm and no division, so a factor of any sign, of any size or
    exactly 0 has the slope that the product of the others is.
    """
    wide = c.to(torch.promote_types(c.dtype, torch.float32))
    eye = torch.eye(c.shape[-1], dtype=wide.dtype, device=c.device)
    steps = torch.diag_embed(-wide[..., 1:], -1)  # the ones on the diagonal go without saying
    kernel = torch.linalg.solve_triangular(
        steps, eye.expand_as(steps), upper=False, unitriangular=True
    )
    return kernel.to(c.dtype), (kernel[..., 0] * wide[..., :1]).to(c.dtype)


def powers(like: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """`decay_kernel` of gates that are all c; like [B, P.., T]."""
    t = torch.arange(
        like.shape[-1], dtype=torch.promote_types(like.dtype, torch.float32), device=like.device
    )
    kernel = (c ** (t[:, None] - t).clamp_min(0)).tril().to(like.dtype)
    return kernel.expand(*like.shape, like.shape[-1]), (c ** (t + 1)).to(like.dtype).expand(
        like.shape
    )


def running(like: Tensor) -> tuple[Tensor, Tensor]:
    """`decay_kernel` of gates that are all 1; like [B, P.., T]."""
    ones = torch.ones_like(like)
    return torch.ones(
        like.shape[-1], like.shape[-1], dtype=like.dtype, device=like.device
    ).tril().expand(*like.shape, like.shape[-1]), ones


def shift_right(kernel: Tensor) -> Tensor:
    """Rows one token later, [.., T, J] -> [.., T, J]: what the state before each token holds."""
    return F.pad(kernel, (0, 0, 1, 0))[..., :-1, :]


def shift_decay(prefix: Tensor, first: float) -> Tensor:
    """Prefix products one token later, [B, P.., T]; `first` at the first token."""
    return F.pad(prefix, (1, 0), value=first)[..., :-1]


def wy_inverse(kernel: Tensor) -> Tensor:
    """Inverse of I + strictly lower `kernel` [.., T, J]: what each write becomes once later erases
    have read it (WY form).
    """
    wide = kernel.to(torch.promote_types(kernel.dtype, torch.float32))
    eye = torch.eye(kernel.shape[-1], dtype=wide.dtype, device=kernel.device)
    inverse: Tensor = torch.linalg.solve_triangular(
        eye + wide, eye.expand_as(wide), upper=False, unitriangular=True
    )
    return inverse


def select(flag: bool | Tensor, new: Tensor, old: Tensor) -> Tensor:
    """new where the flag holds, else old; a Python flag costs nothing, a flag for each lane is a
    number.
    """
    if isinstance(flag, bool):
        return new if flag else old
    if flag.dim():
        return lanewise(flag != 0, new, old)
    return torch.where(flag, new, old)


def lanewise(flag: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """new [B, ..] in the lanes where the flag [B] holds, else old."""
    return torch.where(flag.reshape(-1, *[1] * (new.dim() - 1)), new, old.to(new.dtype))


def scan_chunks(
    body: Callable[..., tuple[tuple[Tensor, ...], tuple[Tensor, ...]]],
    apart: tuple[Callable[..., tuple[Tensor, ...]], Callable[..., tuple[tuple[Tensor, ...], ...]]]
    | tuple[()],
    state: tuple[Tensor, ...],
    streams: tuple[Tensor, ...],
    statics: tuple[Tensor, ...],
    position: int,
    chunk: int,
    clocks: tuple[tuple[int, int, int], ...],
    copies: tuple[tuple[int, int], ...],
    mode: str,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Runs `body` over pieces of at most `chunk` tokens that end where the chunk clock ticks.

    body(state, streams, statics, ends, left) -> (state, outputs); `ends[i]` says whether clock i =
    (period, phase, first) ticks at the last token of the piece, which does not come before the
    token `first`; the state is empty unless `left`. `apart` is the same as two functions, that of
    streams and statics, and the rest, which is given what that made; where `at_once` or `few` says
    so, the first is called for all full pieces at once. Each of `copies` is a place in the state
    and its clock: a piece that begins where it has just been made is given None, for it is
    then the memory itself. mode "loop" calls it once a piece; "last" does so where nothing reads
    the state behind the last token: what is returned is then that before the last piece; "scan"
    rolls the full pieces into one loop of the compiler; "within" is "loop" in a function that is
    compiled and differentiated as a whole.
    """
    length = streams[0].shape[1]
    before, full, behind = pieces(length, position, chunk)
    ticks = {b: ending(position + b, clocks) for _, b in (*before, *full, *behind)}
    together_pays = at_once(streams[0]) or few(streams[0], len(full))
    two = apart if mode in ("loop", "last") and together_pays else ()
    outs: list[tuple[Tensor, ...]] = []

    def make(xs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return two[0](xs[:-1], statics) if two else ()

    def run(some: list[tuple[int, int]], given: list[Given]) -> None:
        nonlocal state
        for (a, b), (xs, ends, made) in zip(some, given):
            fresh = {i for i, k in copies if position + a == 0 or ending(position + a, clocks)[k]}
            held = tuple(None if i in fresh else x for i, x in enumerate(alike(state, mode)))
            whole = held, xs, statics, ends, mode != "last" or b < length
            new, out = two[1](*whole, made) if two else body(*whole)
            state = new or state
            outs.append(out)

    run(before, singly(before, streams, ticks, make))
    if mode == "scan" and len(full) > 3:
        flags = [ticks[b] for _, b in full]
        stacked = tuple(x.contiguous() for x in piled(streams, full))
        state, out = scanned(body, state, stacked, statics, flags)
        outs.append(out)
    else:
        run(full, together(full, streams, ticks, make))
    run(behind, singly(behind, streams, ticks, make))
    return state, tuple(torch.cat(parts, 1) if len(parts) > 1 else parts[0] for parts in zip(*outs))


class Given(NamedTuple):
    """What a piece is given: its streams, which clocks tick at its end, and what is made of its
    streams apart from it.
    """

    streams: tuple[Tensor, ...]
    ends: tuple[bool | Tensor, ...]
    made: tuple[Tensor, ...]


def pieces(
    length: int, position: int, chunk: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]], list[tuple[int, int]]]:
    """Where pieces that end with a chunk begin and end: what is cut off before the first whole
    chunk, all of these, and what is left.
    """
    cuts = [0, *(t for t in range(1, length) if (position + t) % chunk == 0), length]
    every = list(zip(cuts, cuts[1:]))
    full = [(a, b) for a, b in every if b - a == chunk and (position + b) % chunk == 0]
    if not full:
        return every, [], []
    before, behind = [p for p in every if p < full[0]], [p for p in every if p > full[-1]]
    return before, full, behind


def singly(
    some: list[tuple[int, int]],
    streams: tuple[Tensor, ...],
    ticks: dict[int, tuple[bool, ...]],
    make: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]],
) -> list[Given]:
    """What pieces of any length are given."""
    cut = [(tuple(x[:, a:b] for x in streams), ticks[b]) for a, b in some]
    return [Given(xs, ends, make(xs)) for xs, ends in cut]


def together(
    full: list[tuple[int, int]],
    streams: tuple[Tensor, ...],
    ticks: dict[int, tuple[bool, ...]],
    make: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]],
) -> list[Given]:
    """What pieces of one length are given: what is made of their streams is made at once."""
    if not full:
        return []
    n, stacked = len(full), tuple(by_heads(x) for x in piled(streams, full))
    made = make(tuple(x.flatten(0, 1) for x in stacked))
    rows = list(zip(*(x.unbind(0) for x in stacked)))
    parts = list(zip(*(x.view(n, -1, *x.shape[1:]).unbind(0) for x in made))) or [()] * n
    ends = flagged([ticks[b] for _, b in full], streams[0])
    return [Given(*given) for given in zip(rows, ends, parts)]


def at_once(like: Tensor) -> bool:
    """Is what needs no memory made for all pieces at once? A CPU makes it with each, while the
    piece is in its cache; for another device a few large calls are better than many small ones.
    """
    return like.device.type != "cpu"


def few(like: Tensor, count: int) -> bool:
    """Has a piece of [B, T, P.., e] so few matrices, and are the pieces so many, that it pays on a
    CPU too? Products of few small matrices keep it waiting.
    """
    matrices = len(like)
    for size in like.shape[2:-1]:
        matrices *= size
    return matrices < 16 <= count


def flagged(ticks: list[tuple[bool, ...]], like: Tensor) -> list[tuple[bool | Tensor, ...]]:
    """What pieces are told of ticks at their ends. On a CPU a tick that not all of them have is a
    number, so that one function is compiled for both; elsewhere that would be a copy.
    """
    if at_once(like):
        return list(ticks)
    same = [len({*column}) == 1 for column in zip(*ticks)]
    flags = None if all(same) else torch.tensor(ticks)
    return [
        tuple(t if flags is None or same[k] else flags[i, k] for k, t in enumerate(row))
        for i, row in enumerate(ticks)
    ]


def piled(streams: tuple[Tensor, ...], full: list[tuple[int, int]]) -> tuple[Tensor, ...]:
    """Each [B, T, ..] -> its pieces of one length, one after the other, [n, B, chunk, ..]."""
    first, last = full[0][0], full[-1][1]
    cut = (x[:, first:last].reshape(len(x), len(full), -1, *x.shape[2:]) for x in streams)
    return tuple(x.movedim(1, 0) for x in cut)


def by_heads(x: Tensor) -> Tensor:
    """[n, B, chunk, P.., e] in one stretch of memory; on a CPU the tokens of a head lie side by
    side, as its products take them.
    """
    if at_once(x) or x.dim() < 5:
        return x.contiguous()
    return x.movedim(2, -2).contiguous().movedim(-2, 2)


def ending(n: int, clocks: tuple[tuple[int, int, int], ...]) -> tuple[bool, ...]:
    """Which clocks (period, phase, first) tick after n tokens; none before its first token."""
    return tuple(p > 0 and n > max(f, first) and (n - f) % p == 0 for p, f, first in clocks)


def alike(state: tuple[Tensor, ...], mode: str) -> tuple[Tensor, ...]:
    """What a piece is given, in one form for every piece, the first too, so that a compiled body is
    one graph: each tensor an object of its own, contiguous, and one that a derivative can be taken
    in.
    """
    if mode not in ("loop", "last") or not torch.is_grad_enabled():
        return state
    whole = (x.contiguous() for x in state)
    return tuple(
        x.view_as(x)
        if x.requires_grad or not x.is_floating_point()
        else x.detach().requires_grad_()
        for x in whole
    )


def scanned(
    body: Callable[..., tuple[tuple[Tensor, ...], tuple[Tensor, ...]]],
    state: tuple[Tensor, ...],
    stacked: tuple[Tensor, ...],
    statics: tuple[Tensor, ...],
    ticks: list[tuple[bool, ...]],
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """All full pieces as one loop of the compiler, stacked [n, B, C, ..]. It wants every tensor its
    own and contiguous, and values that do not change carried along: gradients of captured ones are
    lost.
    """
    from torch._higher_order_ops.scan import scan

    width = len(state)
    columns = [*zip(*ticks)]
    fixed = [len({*column}) == 1 for column in columns]

    def own(xs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(x.clone(memory_format=torch.contiguous_format) for x in xs)

    # so are the derivatives: they come back by way of one long axis
    def even(xs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(
            x.reshape(-1).clone().view(x.shape) if x.is_floating_point() else x for x in xs
        )

    moving = tuple(
        torch.tensor(column, device=state[0].device)
        for column, same in zip(columns, fixed)
        if not same
    )

    def step(
        carry: tuple[Tensor, ...], xs: tuple[Tensor, ...]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        here = iter(xs[len(stacked) :])
        ends = tuple(t if same else next(here) for t, same in zip(ticks[0], fixed))
        carry = even(carry)
        state, out = body(carry[:width], xs[: len(stacked)], carry[width:], ends, True)
        return own(state + carry[width:]), own(out)

    carry, out = scan(step, own(state + statics), stacked + moving, dim=0)
    return even(carry[:width]), tuple(o.movedim(0, 1).flatten(1, 2) for o in out)
