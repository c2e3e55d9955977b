"""The functions that an emitted step calls. Their source is copied into it, so an emitted file
needs only torch.

Layouts: B batch, T tokens of this call, J tokens of this piece as keys, P.. the axes shared by a
memory and its gates (heads).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def full(like: Tensor, value: object, shape: tuple[int, ...]) -> Tensor:
    """A constant of the dtype and device of `like`; float64 beside whole numbers, as in a block
    that computes from labels alone.
    """
    return torch.as_tensor(
        value, dtype=like.dtype if like.is_floating_point() else torch.float64, device=like.device
    ).expand(shape)


def product(eq: str, *xs: Tensor) -> Tensor:
    """`torch.einsum` of numbers rounded to bfloat16, with a float32 result: the products of two
    that sum over an axis they share, each with an axis of its own, as matrices have. What sums over
    nothing scales (a gate near 1), an inner product of a vector is its norm, one of three weighs
    with decays, and one with `...` sums over tokens: those stay in float32."""
    given, _, out = eq.partition("->")
    axes = [set(one) & set(out) for one in given.split(",")]
    summed = set.intersection(*map(set, given.split(","))) - set(out)
    if len(xs) != 2 or "..." in eq or not summed or axes[0] <= axes[1] or axes[1] <= axes[0]:
        return torch.einsum(eq, *xs)
    return torch.einsum(eq, *(x.to(torch.bfloat16) for x in xs)).to(xs[0].dtype)


def truth(test: Tensor, like: Tensor) -> Tensor:
    """1 where it is true, else 0, of the dtype that constants have here."""
    return test.to(like.dtype if like.is_floating_point() else torch.float64)


def entry(x: Tensor, ids: Tensor, lead: int) -> Tensor:
    """x [lead.., n, ..] at the places ids [lead..] of its own n entries."""
    index = ids.reshape(*ids.shape, *[1] * (x.dim() - lead))
    return torch.take_along_dim(x, index, lead).squeeze(lead)


def conv(rows: Tensor, kernel: Tensor) -> Tensor:
    """Depthwise causal convolution. rows [B, n - 1 + T, ..]: the inputs and the n - 1 before them,
    kernel [n, ..].
    """
    width = kernel.shape[0]
    length = rows.shape[1] - width + 1
    y = kernel[0] * rows[:, :length]
    for j in range(1, width):
        y = y + kernel[j] * rows[:, j : j + length]
    return y


def root(x: Tensor, power: float) -> Tensor:
    """x ** power, with derivative 0 at 0."""
    zero = x == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x) ** power)


def times(like: Tensor, position: int) -> Tensor:
    """[1, T]: tokens of the sequence before each token of like [B, T, ..]."""
    return torch.arange(position, position + like.shape[1], device=like.device).unsqueeze(0)


def rope(x: Tensor, base: float, t: Tensor) -> Tensor:
    """Rotates the halves of the last axis of x [B, T, .., 2m] by t * base^(-i/m); t [T]."""
    half = x.shape[-1] // 2
    rates = base ** (-torch.arange(half, device=x.device, dtype=x.dtype) / half)
    angle = (t.to(x.dtype)[:, None] * rates).reshape(x.shape[1], *([1] * (x.dim() - 3)), half)
    u, w = x[..., :half], x[..., half:]
    return torch.cat([u * angle.cos() - w * angle.sin(), u * angle.sin() + w * angle.cos()], -1)


def joined(tail: Tensor, x: Tensor) -> Tensor:
    """The rows kept [B, n, ..] and those of this call [B, T, ..]."""
    return torch.cat([tail, x.to(tail.dtype)], 1)


def written(rows: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """rows [B, S, ..], one for each token of the sequence, with x [B, T, ..] at the tokens t [T]."""
    return rows.index_copy(1, t, x.to(rows.dtype))


def visible(t: Tensor, rows: int, span: tuple, first: int) -> Tensor:
    """[T, S]: does token t see row j? The rows are the last S tokens up to the last of t or, where
    `span` is ("all",), all of the sequence from its first on; those before the token `first` are
    not there.
    """
    j = torch.arange(rows, device=t.device)
    since = torch.zeros_like(t)
    if span[0] != "all":
        j = j + (t[-1] + 1 - rows)
        since = oldest(t, span).clamp_min(0)
    return (j[None, :] <= t[:, None]) & (j[None, :] >= since[:, None].clamp_min(first))


def band(like: Tensor, t: Tensor, rows: int, span: tuple, first: int, mean: bool) -> Tensor:
    """`visible` as weights of a sum, or of a mean."""
    seen = visible(t, rows, span, first).to(like.dtype)
    return seen / seen.sum(-1, keepdim=True).clamp_min(1) if mean else seen


def sampled(rows: Tensor, t: Tensor, period: int, phase: int) -> Tensor:
    """For each token t [T] the row at the last tick of a clock before it, of rows [B, S, ..] up to
    the last of t; before the first tick, where there is no value, the row of t itself.
    """
    last = phase + torch.div(t - phase, period, rounding_mode="floor") * period - 1
    return rows[:, torch.where(last >= phase, last, t) - (t[-1] + 1 - rows.shape[1])]


def begun(rows: Tensor, t: Tensor, first: int) -> Tensor:
    """rows [B, S, ..] up to the last of t [T], with zero before the token `first`."""
    j = torch.arange(rows.shape[1], device=t.device) + (t[-1] + 1 - rows.shape[1])
    return rows * (j >= first).to(rows.dtype).reshape(-1, *[1] * (rows.dim() - 2))


def present(x: Tensor, begin: int, first: int) -> Tensor:
    """x [B, T, ..], whose first row is the token `begin`, from the token `first` on."""
    return x[:, max(0, first - begin) :]


def behind(x: Tensor, before: Tensor | None, by: int) -> Tensor:
    """x [B, T, ..] so many tokens late: what stood that many tokens before. `before` is what
    `latest` gave in the previous call, None in the first: then the first tokens have no such
    predecessor.
    """
    x = x if before is None else torch.cat([before, x], 1)
    return x[:, : max(0, x.shape[1] - by)]


def latest(x: Tensor, before: Tensor | None, by: int) -> Tensor:
    """The last so many tokens that have come, for the next call."""
    return (x if before is None else torch.cat([before, x], 1))[:, -by:]


def newest(x: Tensor, before: Tensor | None) -> Tensor:
    """x [B, T, ..] one token later, at the tokens that have a next one: all but the sequence's
    first.
    """
    return x[:, 1:] if before is None or before.shape[1] == 0 else x


def cross_entropy(x: Tensor, ids: Tensor) -> Tensor:
    """log sum exp x - x[ids] over the last axis, in the precision of x or float32, whichever is
    wider.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return torch.logsumexp(wide, -1) - wide.expand(*ids.shape, wide.shape[-1]).gather(
        -1, ids.unsqueeze(-1)
    ).squeeze(-1)


def decay(c: Tensor) -> tuple[Tensor, Tensor]:
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
    """`decay` of gates that are all c; like [B, P.., T]."""
    t = torch.arange(
        like.shape[-1], dtype=torch.promote_types(like.dtype, torch.float32), device=like.device
    )
    kernel = (c ** (t[:, None] - t).clamp_min(0)).tril().to(like.dtype)
    return kernel.expand(*like.shape, like.shape[-1]), (c ** (t + 1)).to(like.dtype).expand(
        like.shape
    )


def running(like: Tensor) -> tuple[Tensor, Tensor]:
    """`decay` of gates that are all 1; like [B, P.., T]."""
    ones = torch.ones_like(like)
    return torch.ones(
        like.shape[-1], like.shape[-1], dtype=like.dtype, device=like.device
    ).tril().expand(*like.shape, like.shape[-1]), ones


def late(kernel: Tensor) -> Tensor:
    """Rows one token later, [.., T, J] -> [.., T, J]: what the state before each token holds."""
    return F.pad(kernel, (0, 0, 1, 0))[..., :-1, :]


def late_prefix(prefix: Tensor, first: float) -> Tensor:
    """Prefix products one token later, [B, P.., T]; `first` at the first token."""
    return F.pad(prefix, (1, 0), value=first)[..., :-1]


def erased(kernel: Tensor) -> Tensor:
    """Inverse of I + strictly lower `kernel` [.., T, J]: what each write becomes once later erases
    have read it (WY form).
    """
    wide = kernel.to(torch.promote_types(kernel.dtype, torch.float32))
    eye = torch.eye(kernel.shape[-1], dtype=wide.dtype, device=kernel.device)
    return torch.linalg.solve_triangular(
        eye + wide, eye.expand_as(wide), upper=False, unitriangular=True
    )


def solve(b: Tensor, a: Tensor) -> Tensor:
    """b a^-1 for positive definite matrices a [.., n, n]; b [.., m, n]."""
    wide = torch.promote_types(a.dtype, torch.float32)
    root = torch.linalg.cholesky(a.to(wide))
    return torch.cholesky_solve(b.to(wide).mT, root).mT


def pick(flag: bool | Tensor, new: Tensor, old: Tensor) -> Tensor:
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


def resumed(carry: dict, lanes: dict, lasting: dict) -> dict:
    """The carry of the sequence that each lane reads next. What outlives a sequence goes on in its
    lane; it starts in a lane that has read nothing, after so many sequences, and where a document
    ended with the last token. `lasting`: name -> (the memory that it is or is a copy of, the two
    clocks, what holds that it did).
    """
    n = lanes["sequences"]
    for name, (memory, life, copied, ended) in lasting.items():
        anew = (n == 0) | completed(n, *life)
        carry[name] = lanewise(
            anew | (lanes[ended] != 0) if ended else anew, carry[name], lanes[name]
        )
        carry[name] = lanewise(completed(n, *copied), carry[memory], carry[name])
    return carry


def completed(n: Tensor, period: int, phase: int) -> Tensor:
    """Does a clock tick at the n-th of its units? Period 0 never does."""
    return (
        (n > phase) & ((n - phase) % period == 0)
        if period
        else torch.zeros_like(n, dtype=torch.bool)
    )


def oldest(t: Tensor, span: tuple) -> Tensor:
    """First token that token t (from 0) sees: ("last", n) a sliding window, ("since", period,
    phase) the stretch after the last tick strictly before t; period 0 is the sequence.
    """
    if span[0] == "last":
        return t - (span[1] - 1)
    if span[1] == 0:
        return torch.zeros_like(t)
    ticks = torch.div(t - span[2], span[1], rounding_mode="floor").clamp_min(0)
    return torch.where(ticks > 0, span[2] + ticks * span[1], torch.zeros_like(t))


def attend(q: Tensor, pairs: tuple, scale: float, t: Tensor) -> Tensor:
    """Softmax over all pairs of all groups at once. q [B, T, ..]. A group is (k, v, score_eq,
    value_eq, heads, span, first): with span None its pairs are those of the token itself, else k, v
    are [B, S, ..], rows as `visible` has them. `heads` is the number of dimensions of a score that
    are no pairs. At a token before all groups begin everything is seen: nobody is shown the result.
    """
    scores = []
    nothing = t < min(g[6] for g in pairs)
    for k, v, score_eq, value_eq, heads, span, first in pairs:
        s = torch.einsum(score_eq, q, k) * scale
        shape = [1] * s.dim()
        if span is not None:
            seen = visible(t, k.shape[1], span, first) | nothing[:, None]
            shape[1], shape[-1] = seen.shape
            s = s.masked_fill(~seen.reshape(shape), float("-inf"))
        elif first:
            shape[1] = len(t)
            s = s.masked_fill(~((t >= first) | nothing).reshape(shape), float("-inf"))
        scores.append(s)
    flat = [s.flatten(g[4]) if s.dim() > g[4] else s.unsqueeze(-1) for s, g in zip(scores, pairs)]
    weights = torch.cat(flat, -1).softmax(-1)
    out, at = None, 0
    for (k, v, score_eq, value_eq, *_), s, f in zip(pairs, scores, flat):
        part = torch.einsum(value_eq, weights[..., at : at + f.shape[-1]].reshape(s.shape), v)
        at += f.shape[-1]
        out = part if out is None else out + part
    return out


def roll(
    body,
    state: tuple,
    streams: tuple,
    statics: tuple,
    position: int,
    chunk: int,
    clocks: tuple,
    mode: str,
) -> tuple:
    """Runs `body` over pieces of at most `chunk` tokens that end where the chunk clock ticks.

    body(state, streams, statics, ends) -> (state, outputs); `ends[i]` says whether clock i =
    (period, phase, first) ticks at the last token of the piece, which does not come before the
    token `first`. mode "loop" calls it once a piece; "scan" rolls the full pieces into one loop of
    the compiler; "within" is "loop" in a function that is compiled and differentiated as a whole.
    """
    length = streams[0].shape[1]
    cuts = [0, *(t for t in range(1, length) if (position + t) % chunk == 0), length]
    pieces = list(zip(cuts, cuts[1:]))
    full = [(a, b) for a, b in pieces if b - a == chunk and (position + b) % chunk == 0]
    first, last = (full[0][0], full[-1][1]) if full else (0, 0)
    ticks = {
        b: tuple(
            p > 0 and position + b > max(f, first) and (position + b - f) % p == 0
            for p, f, first in clocks
        )
        for _, b in pieces
    }
    outs: list[tuple] = []
    for a, b in [piece for piece in pieces if not full or piece[0] < first]:
        state, out = body(alike(state, mode), tuple(x[:, a:b] for x in streams), statics, ticks[b])
        outs.append(out)
    if full:
        stacked = tuple(
            x[:, first:last].unflatten(1, (len(full), chunk)).movedim(1, 0).contiguous()
            for x in streams
        )
        same = tuple(len({ticks[b][i] for _, b in full}) == 1 for i in range(len(clocks)))
        flags = torch.tensor([ticks[b] for _, b in full], device=streams[0].device)
        if mode == "scan" and len(full) > 3:
            state, out = scanned(body, state, stacked, statics, ticks[full[0][1]], same, flags)
            outs.append(out)
        else:
            rows = list(zip(*(x.unbind(0) for x in stacked)))
            for i, (_, b) in enumerate(full):
                ends = tuple(
                    t if fixed else flags[i, k] for k, (t, fixed) in enumerate(zip(ticks[b], same))
                )
                state, out = body(alike(state, mode), rows[i], statics, ends)
                outs.append(out)
    for a, b in [piece for piece in pieces if full and piece[0] >= last]:
        state, out = body(alike(state, mode), tuple(x[:, a:b] for x in streams), statics, ticks[b])
        outs.append(out)
    return state, tuple(torch.cat(parts, 1) if len(parts) > 1 else parts[0] for parts in zip(*outs))


def alike(state: tuple, mode: str) -> tuple:
    """What a piece is given, in one form for every piece, the first too, so that a compiled body is
    one graph: each tensor an object of its own, contiguous, and one that a derivative can be taken
    in.
    """
    if mode != "loop" or not torch.is_grad_enabled():
        return state
    whole = (x.contiguous() for x in state)
    return tuple(
        x.view_as(x)
        if x.requires_grad or not x.is_floating_point()
        else x.detach().requires_grad_()
        for x in whole
    )


def scanned(
    body, state: tuple, stacked: tuple, statics: tuple, ticks: tuple, same: tuple, flags: Tensor
) -> tuple:
    """All full pieces as one loop of the compiler, stacked [n, B, C, ..]. It wants every tensor its
    own and contiguous, and values that do not change carried along: gradients of captured ones are
    lost.
    """
    from torch._higher_order_ops.scan import scan

    width = len(state)

    def own(xs: tuple) -> tuple:
        return tuple(x.clone(memory_format=torch.contiguous_format) for x in xs)

    def even(xs: tuple) -> tuple:  # so are the derivatives: they come back by way of one long axis
        return tuple(
            x.reshape(-1).clone().view(x.shape) if x.is_floating_point() else x for x in xs
        )

    moving = tuple(flags[:, i].clone() for i, fixed in enumerate(same) if not fixed)

    def step(carry: tuple, xs: tuple) -> tuple:
        here = iter(xs[len(stacked) :])
        ends = tuple(t if fixed else next(here) for t, fixed in zip(ticks, same))
        carry = even(carry)
        state, out = body(carry[:width], xs[: len(stacked)], carry[width:], ends)
        return own(state + carry[width:]), own(out)

    carry, out = scan(step, own(state + statics), stacked + moving, dim=0)
    return even(carry[:width]), tuple(o.movedim(0, 1).flatten(1, 2) for o in out)
