"""Memories that learn within a sequence: kernels of their gates, pieces of tokens, the end of an
instant."""

from __future__ import annotations

from collections.abc import Callable

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
    token `first`; the state is empty unless `left`. Each of `copies` is a place in the state and
    its clock: a piece that begins where it has just been made is given None, for it is then the
    memory itself. mode "loop" calls it once a piece; "last" does so where nothing reads the state
    behind the last token: what is returned is then that before the last piece; "scan" rolls the
    full pieces into one loop of the compiler; "within" is "loop" in a function that is compiled and
    differentiated as a whole.
    """
    length = streams[0].shape[1]
    cuts = [0, *(t for t in range(1, length) if (position + t) % chunk == 0), length]
    pieces = list(zip(cuts, cuts[1:]))
    full = [(a, b) for a, b in pieces if b - a == chunk and (position + b) % chunk == 0]
    first, last = (full[0][0], full[-1][1]) if full else (0, 0)
    ticks = {b: ending(position + b, clocks) for _, b in pieces}
    outs: list[tuple[Tensor, ...]] = []

    def run(a: int, b: int, xs: tuple[Tensor, ...], ends: tuple[bool | Tensor, ...]) -> None:
        nonlocal state
        fresh = {i for i, k in copies if position + a == 0 or ending(position + a, clocks)[k]}
        given = (None if i in fresh else x for i, x in enumerate(alike(state, mode)))
        new, out = body(tuple(given), xs, statics, ends, mode != "last" or b < length)
        state = new or state
        outs.append(out)

    def apart(some: list[tuple[int, int]]) -> None:
        for a, b in some:
            run(a, b, tuple(x[:, a:b] for x in streams), ticks[b])

    apart([piece for piece in pieces if not full or piece[0] < first])
    if full:
        stacked = tuple(piled(x[:, first:last], chunk) for x in streams)
        same = tuple(len({ticks[b][i] for _, b in full}) == 1 for i in range(len(clocks)))
        flags = torch.tensor([ticks[b] for _, b in full], device=streams[0].device)
        if mode == "scan" and len(full) > 3:
            state, out = scanned(body, state, stacked, statics, ticks[full[0][1]], same, flags)
            outs.append(out)
        else:
            rows = list(zip(*(x.unbind(0) for x in stacked)))
            for i, (a, b) in enumerate(full):
                ends = tuple(
                    t if fixed else flags[i, k] for k, (t, fixed) in enumerate(zip(ticks[b], same))
                )
                run(a, b, rows[i], ends)
    apart([piece for piece in pieces if full and piece[0] >= last])
    return state, tuple(torch.cat(parts, 1) if len(parts) > 1 else parts[0] for parts in zip(*outs))


def piled(stream: Tensor, chunk: int) -> Tensor:
    """[B, n * chunk, ..] -> its pieces one after the other, [n, B, chunk, ..]."""
    return stream.reshape(len(stream), -1, chunk, *stream.shape[2:]).movedim(1, 0).contiguous()


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
    ticks: tuple[bool, ...],
    same: tuple[bool, ...],
    flags: Tensor,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """All full pieces as one loop of the compiler, stacked [n, B, C, ..]. It wants every tensor its
    own and contiguous, and values that do not change carried along: gradients of captured ones are
    lost.
    """
    from torch._higher_order_ops.scan import scan

    width = len(state)

    def own(xs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(x.clone(memory_format=torch.contiguous_format) for x in xs)

    # so are the derivatives: they come back by way of one long axis
    def even(xs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(
            x.reshape(-1).clone().view(x.shape) if x.is_floating_point() else x for x in xs
        )

    moving = tuple(flags[:, i].clone() for i, fixed in enumerate(same) if not fixed)

    def step(
        carry: tuple[Tensor, ...], xs: tuple[Tensor, ...]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        here = iter(xs[len(stacked) :])
        ends = tuple(t if fixed else next(here) for t, fixed in zip(ticks, same))
        carry = even(carry)
        state, out = body(carry[:width], xs[: len(stacked)], carry[width:], ends, True)
        return own(state + carry[width:]), own(out)

    carry, out = scan(step, own(state + statics), stacked + moving, dim=0)
    return even(carry[:width]), tuple(o.movedim(0, 1).flatten(1, 2) for o in out)
