"""Memories that learn within a sequence from a run of the network.

A window is the stretch of tokens since a tick. `network(held, rows, carry, at) -> (values, carry)`
runs some of its tokens, with all that is held between ticks as an argument, so the gradient at a
tick is that of a pure function of the window. Whatever else the window depends on stays an argument
too: the gradient holds it constant, a slower learner differentiates through it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Slope(NamedTuple):
    """The gradient of an objective, which is `objective(held, values, first token, stop)`, in what
    is held under the names `of`: told as `atoms`. A window begins anew at ticks of `every` and of
    `reset`, each (period, phase, first). `sees`: the families whose ticks it is taken through.
    """

    objective: Callable[..., Tensor]
    of: tuple[str, ...]
    atoms: tuple[str, ...]
    every: tuple[int, int, int]
    reset: tuple[int, int, int]
    sees: tuple[int, ...]


class Family(NamedTuple):
    """Memories that tick together by gradients of windows: at ticks of `every`, if `waits` not
    before the next token is known. `tick(moves, takes, statics, clocks, True)` gives new values,
    `settle(state, others, starts, ends, True)` what the instant leaves.
    """

    every: tuple[int, int, int]
    waits: bool
    slopes: tuple[int, ...]
    tick: Callable[..., tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]
    moves: tuple[str, ...]
    takes: tuple[str, ...]
    statics: tuple[Tensor, ...]
    clocks: tuple[tuple[int, int, int], ...]
    state: tuple[str, ...]
    settle: Callable[..., tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]
    others: tuple[str, ...]
    starts: tuple[Tensor, ...]
    ends: tuple[tuple[int, int, int], ...]


class Piece(NamedTuple):
    """Some tokens, from `at` to `stop`, of all rows, and what is held while they are run."""

    at: int
    stop: int
    rows: tuple[Tensor, ...]
    held: dict[str, Tensor]


class Window(NamedTuple):
    """What has been run since a window began: the carry of then, the pieces, the first token."""

    carry: dict[str, Tensor]
    pieces: tuple[Piece, ...]
    origin: int


def ticks(clock: tuple[int, int, int], n: int) -> bool:
    """Does clock (period, phase, first) tick after n tokens? Not before there is something to learn
    from.
    """
    return clock[0] > 0 and n > max(clock[1:]) and (n - clock[1]) % clock[0] == 0


def since(clock: tuple[int, int, int], n: int) -> int:
    """Tokens before the last tick of a clock strictly before token n ended."""
    return (
        clock[1] + (n - 1 - clock[1]) // clock[0] * clock[0] if n - 1 >= clock[1] + clock[0] else 0
    )


def after(before: Tensor | None, x: Tensor) -> Tensor:
    """Tokens kept from earlier calls, then those of this one."""
    return x if before is None else torch.cat([before, x], 1)


def ahead(x: Tensor) -> Tensor:
    """x [B, T, ..] one token later.

    What follows the last token is not known: zeros, that nothing may use.
    """
    return torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], 1)


def whole(values: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Each stream over the tokens of all pieces."""
    first = values[0]
    if len(values) == 1:
        return first
    return {name: torch.cat([v[name] for v in values], 1) for name in first}


def learn(
    network: Callable[..., tuple[dict[str, Tensor], dict[str, Tensor]]],
    slopes: tuple[Slope, ...],
    families: tuple[Family, ...],
    marks: tuple[tuple[int, int, int], ...],
    state: dict[str, Tensor],
    rows: tuple[Tensor, ...],
    carry: dict[str, Tensor],
    begin: int,
    position: int,
    kept: int,
    late: tuple[str, ...],
    watched: tuple[str, ...],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Runs tokens begin.. of the rows, of which those before `position` were run by earlier calls.
    Returns each stream at the new tokens (those in `late` one token behind), and what the next call
    starts from: all as it stood at the last instant from which every open window can be run again,
    and the first `kept` rows since. Of what is called `watched` the last tick waits.
    """
    end = begin + rows[0].shape[1]
    cuts = {t for t in range(begin + 1, end) if any(ticks(c, t) for c in marks)} | (
        {end - 1} - {begin} if watched or not marks else set()
    )
    stops = [*sorted(cuts), end]
    pieces = tuple(
        Piece(a, b, tuple(x[:, a - begin : b - begin] for x in rows), {})
        for a, b in zip([begin, *stops], stops)
    )
    values, start, final, held = advance(
        network,
        slopes,
        families,
        tuple(range(len(families))),
        state,
        pieces,
        carry,
        {(s.every, s.reset): Window(carry, (), begin) for s in slopes},
        {},
        end,
        True,
    )
    at, before, first = start or (begin, state, carry)
    new = {f"rows.{i + 1}": x[:, at - begin :] for i, x in enumerate(rows[:kept])}
    new |= {
        f"start of {name}": x
        for name, x in (before | first).items()
        if not name.startswith("nudge ")
    }
    new |= {name: x for name, x in held.items() if not name.startswith("nudge ")}
    new |= {name: x for name, x in final[0].items() if name not in watched} | {
        name: final[1][name] for name in watched
    }
    lo = position - begin
    return {
        name: x[:, max(lo - 1, 0) : -1] if name in late else x[:, lo:]
        for name, x in whole(values).items()
    }, new


def advance(
    network: Callable[..., tuple[dict[str, Tensor], dict[str, Tensor]]],
    slopes: tuple[Slope, ...],
    families: tuple[Family, ...],
    live: tuple[int, ...],
    state: dict[str, Tensor],
    pieces: tuple[Piece, ...],
    carry: dict[str, Tensor],
    opened: dict[tuple[tuple[int, int, int], ...], Window],
    history: dict[int, dict[tuple[tuple[int, int, int], ...], Window]],
    last: int,
    closing: bool,
) -> tuple[
    list[dict[str, Tensor]],
    tuple[int, dict[str, Tensor], dict[str, Tensor]] | None,
    tuple[dict[str, Tensor], dict[str, Tensor]],
    dict[str, Tensor],
]:
    """Runs pieces one after the other. At their stops the families in `live` tick, and `state` has
    their values; of all others the pieces say what is held. At `last` a tick is performed only if
    it does not wait for the next token, and `closing`. Returns the values of each piece, where all
    windows began anew for the last time, the carries after the last piece and before it, and what
    is held at the end.
    """
    values: list[dict[str, Tensor]] = []
    start, previous = None, carry
    history = history | {pieces[0].at: opened}
    for at, stop, rows, held in pieces:
        held = held | state
        opened = {
            key: Window(first, (*seen, Piece(at, stop, rows, held)), origin)
            for key, (first, seen, origin) in opened.items()
        }
        able = [families[i] for i in live if stop < last or closing and not families[i].waits]
        due = [f for f in able if ticks(f.every, stop)]
        grads: dict[str, Tensor] = {}
        run = None
        for i in sorted(
            {i for f in due for i in f.slopes},
            key=lambda i: -opened[slopes[i].every, slopes[i].reset].origin,
        ):
            found, one = slope(network, slopes, families, i, opened, history)
            grads |= found
            # the gradient has run this piece: the shortest window the fewest others
            run = run or one
        previous = carry
        row, carry = run or network(held, rows, carry, at)
        values.append(row)
        given = held | {name: x[:, -1] for name, x in row.items()} | grads
        new = {name: x for f in due for name, x in tick(f, given, stop).items()}
        for f in able:
            new |= settled(f, held | new, stop)
        state = state | {name: new[name] for name in new}
        if stop < last:
            renewed = {key for key in opened if ticks(key[0], stop) or ticks(key[1], stop)}
            opened = {
                key: Window(carry, (), stop) if key in renewed else window
                for key, window in opened.items()
            }
            history = history | {stop: opened}
            if len(renewed) == len(opened):
                start = stop, state, carry
    return values, start, (carry, previous), state


def slope(
    network: Callable[..., tuple[dict[str, Tensor], dict[str, Tensor]]],
    slopes: tuple[Slope, ...],
    families: tuple[Family, ...],
    i: int,
    opened: dict[tuple[tuple[int, int, int], ...], Window],
    history: dict[int, dict[tuple[tuple[int, int, int], ...], Window]],
) -> tuple[dict[str, Tensor], tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """The gradient of a window's objective, and what the network gave at the last piece. Ticks
    within the window of families that the learner sees are performed again.
    """
    s = slopes[i]
    first, pieces, origin = opened[s.every, s.reset]
    stop, held = pieces[-1].stop, pieces[-1].held
    begun = pieces[0].held

    def objective(
        point: dict[str, Tensor],
    ) -> tuple[Tensor, tuple[dict[str, Tensor], dict[str, Tensor]]]:
        seen = dict(point)
        for k in s.sees:  # what starts with the window may start from what is differentiated in
            seen |= settled(families[k], begun | seen, origin)
        values, _, (carry, _), state = advance(
            network,
            slopes,
            families,
            s.sees,
            seen | point,
            pieces,
            first,
            history[origin],
            history,
            stop,
            False,
        )
        return s.objective(held | state, whole(values), origin, stop), (values[-1], carry)

    grads, run = torch.func.grad(objective, has_aux=True)({name: held[name] for name in s.of})
    return {atom: grads[name] for atom, name in zip(s.atoms, s.of)}, run


def tick(f: Family, given: dict[str, Tensor], stop: int) -> dict[str, Tensor]:
    """The new values of a family's memories."""
    flags = tuple(ticks(c, stop) for c in f.clocks)
    new, _ = f.tick(
        tuple(given[n] for n in f.moves),
        tuple(given[n].unsqueeze(1) for n in f.takes),
        f.statics,
        flags,
        True,
    )
    return dict(zip(f.moves, new))


def settled(f: Family, now: dict[str, Tensor], stop: int) -> dict[str, Tensor]:
    """What a family holds when the instant after `stop` tokens is finished. Doing it twice changes
    nothing.
    """
    held, others = (tuple(now[n] for n in names) for names in (f.state, f.others))
    ends = tuple(ticks(c, stop) if c[0] else stop == 0 for c in f.ends)
    new, _ = f.settle(held, others, f.starts, ends, True)
    return dict(zip(f.state, new))
