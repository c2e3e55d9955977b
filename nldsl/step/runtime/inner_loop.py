"""Memories that learn within a sequence from a run of the network.

A window is the stretch of tokens since a tick. `network(held, rows, carry, at) -> (values, carry)`
runs some of its tokens, with all that is held between ticks as an argument, so the gradient at a
tick is that of a pure function of the window. Whatever else the window depends on stays an argument
too: the gradient holds it constant, a slower learner differentiates through it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ticks(clock: tuple, n: int) -> bool:
    """Does clock (period, phase, first) tick after n tokens? Not before there is something to learn
    from.
    """
    return clock[0] > 0 and n > max(clock[1:]) and (n - clock[1]) % clock[0] == 0


def since(clock: tuple, n: int) -> int:
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
    network,
    slopes: tuple,
    families: tuple,
    marks: tuple,
    state: dict,
    rows: tuple,
    carry: dict,
    begin: int,
    position: int,
    kept: int,
    late: tuple,
    watched: tuple,
) -> tuple:
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
        (a, b, tuple(x[:, a - begin : b - begin] for x in rows), {})
        for a, b in zip([begin, *stops], stops)
    )
    opened = {(s["every"], s["reset"]): (carry, (), begin) for s in slopes}
    values, start, final, held = advance(
        network,
        slopes,
        families,
        tuple(range(len(families))),
        state,
        pieces,
        carry,
        opened,
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
    network,
    slopes: tuple,
    families: tuple,
    live: tuple,
    state: dict,
    pieces: tuple,
    carry: dict,
    opened: dict,
    history: dict,
    last: int,
    closing: bool,
) -> tuple:
    """Runs pieces (first token, stop, rows, held) one after the other. At their stops the families
    in `live` tick, and `state` holds their values; of all others the pieces say what is held. At
    `last` a tick is performed only if it does not wait for the next token, and `closing`. Returns
    the values of each piece, where all windows began anew for the last time, the carries after the
    last piece and before it, and what is held at the end.
    """
    values, start, previous = [], None, carry
    history = history | {pieces[0][0]: opened}
    for at, stop, rows, held in pieces:
        held = held | state
        opened = {
            key: (first, (*seen, (at, stop, rows, held)), origin)
            for key, (first, seen, origin) in opened.items()
        }
        able = [families[i] for i in live if stop < last or closing and not families[i]["waits"]]
        due = [f for f in able if ticks(f["every"], stop)]
        grads, run = {}, None
        for i in sorted(
            {i for f in due for i in f["slopes"]},
            key=lambda i: -opened[slopes[i]["every"], slopes[i]["reset"]][2],
        ):
            found, one = slope(network, slopes, families, i, opened, history)
            grads |= found
            run = (
                run or one
            )  # the gradient has run this piece: the shortest window the fewest others
        previous = carry
        row, carry = run or network(held, rows, carry, at)
        values.append(row)
        given = held | {name: x[:, -1] for name, x in row.items()} | grads
        new = {}
        for f in due:
            new |= tick(f, given, stop)
        for f in able:
            new |= settled(f, held | new, stop)
        state = state | {name: new[name] for name in new}
        if stop < last:
            renewed = {key for key in opened if ticks(key[0], stop) or ticks(key[1], stop)}
            opened = {
                key: (carry, (), stop) if key in renewed else window
                for key, window in opened.items()
            }
            history = history | {stop: opened}
            if len(renewed) == len(opened):
                start = stop, state, carry
    return values, start, (carry, previous), state


def slope(network, slopes: tuple, families: tuple, i: int, opened: dict, history: dict) -> tuple:
    """The gradient of a window's objective, and what the network gave at the last piece. Ticks
    within the window of families that the learner sees are performed again.
    """
    s = slopes[i]
    first, pieces, origin = opened[s["every"], s["reset"]]
    stop, held = pieces[-1][1], pieces[-1][3]
    begun = pieces[0][3]

    def objective(point: dict) -> tuple:
        seen = dict(point)
        for k in s["sees"]:  # what starts with the window may start from what is differentiated in
            seen |= settled(families[k], begun | seen, origin)
        values, _, (carry, _), state = advance(
            network,
            slopes,
            families,
            s["sees"],
            seen | point,
            pieces,
            first,
            history[origin],
            history,
            stop,
            False,
        )
        return s["objective"](held | state, whole(values), origin, stop), (values[-1], carry)

    grads, run = torch.func.grad(objective, has_aux=True)({name: held[name] for name in s["of"]})
    return {atom: grads[name] for atom, name in zip(s["atoms"], s["of"])}, run


def tick(f: dict, given: dict, stop: int) -> dict:
    """The new values of a family's memories."""
    flags = tuple(ticks(c, stop) for c in f["clocks"])
    new, _ = f["tick"](
        tuple(given[n] for n in f["moves"]),
        tuple(given[n].unsqueeze(1) for n in f["takes"]),
        f["statics"],
        flags,
    )
    return dict(zip(f["moves"], new))


def settled(f: dict, now: dict, stop: int) -> dict:
    """What a family holds when the instant after `stop` tokens is finished. Doing it twice changes
    nothing.
    """
    held, others = (tuple(now[n] for n in f[names]) for names in ("state", "others"))
    ends = tuple(ticks(c, stop) if c[0] else stop == 0 for c in f["ends"])
    new, _ = f["settle"](held, others, f["starts"], ends)
    return dict(zip(f["state"], new))
