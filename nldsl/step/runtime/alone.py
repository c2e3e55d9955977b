"""How an emitted file runs by itself: a state from a seed, a step, a run on random data."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor

from nldsl.core.initial import normal
from nldsl.step.runtime.lanes import empty
from nldsl.step.runtime.learning import fresh, gradients, weights

if TYPE_CHECKING:
    from nldsl.step.runtime.emitted import (
        BORN,
        CLOCKS,
        DRAWS,
        FILES,
        HEARD,
        INPUTS,
        KINDS,
        LASTING,
        PLANNED,
        RESTARTS,
        STARTS,
        STATE,
        TICKS,
        birth,
    )


class State(TypedDict):
    """What is kept between steps: tensors by name, steps so far, the seed, what outlives a sequence
    in each lane, and starts that lay in files.
    """

    S: dict[str, Tensor]
    step: int
    seed: int
    lanes: dict[str, Tensor]
    loaded: dict[str, Tensor]


def init(
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    loaded: dict[str, Tensor] | None = None,
) -> State:
    """A fresh state; a tensor's value depends on the seed and its qualified name. `loaded` holds
    what starts from files, by the names in FILES.
    """
    missing = [name for name in FILES if name not in (loaded or {})]
    if missing:
        raise ValueError(f"starts lie in files: init(seed, loaded={{name: tensor}}) for {missing}")
    S = {
        name: torch.zeros((), dtype=torch.float64, device=device)
        if sizes is None
        else torch.zeros(sizes, dtype=dtype, device=device)
        for name, sizes in STATE.items()
    }
    state = State(S=S, step=0, seed=seed, lanes={}, loaded=loaded or {})
    with torch.no_grad():
        birth(S, draws(state, dict.fromkeys(BORN, 0)))
    return state


def draws(state: State, restarts: dict[str, int]) -> dict[str, Tensor]:
    """What the levels start from, each at its so-many-th restart (0 at birth), and the starts that
    a sequence takes anew each time.
    """
    like = next(x for x in state["S"].values() if x.dim())
    found = {name: x.reshape(FILES[name]) for name, x in state["loaded"].items()}
    for name, (level, flat, parts) in DRAWS.items():
        if level == "" or level in restarts:
            number = restarts.get(level, 0)
            drawn = [drawn_part(state["seed"], number, *part) for part in parts]
            found[name] = torch.cat([x.reshape(-1) for x in drawn]) if flat else drawn[0]
    return {name: x.to(like) for name, x in found.items()}


def drawn_part(
    seed: int, number: int, name: str, sizes: list[int], init: str, value: float
) -> Tensor:
    """One array as it starts: normal with a standard deviation, or filled."""
    if init == "fill":
        return torch.tensor(value, dtype=torch.float64).expand(sizes).clone()
    return normal(seed, name, sizes, value, number)


def occurs(clock: tuple[int, int], n: int) -> bool:
    """Does a clock (period, phase) tick at step n, counted from 1?"""
    period, phase = clock
    return period > 0 and n > phase and (n - phase) % period == 0


def step(state: State, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """One step of training, in place. batch: name -> [sequence, token, ..], see INPUTS. Gives the
    mean of each stream that a level learns from, before what the step changes.
    """
    S, n = state["S"], state["step"] + 1
    like = next(x for x in S.values() if x.dim())
    inputs = {name: x.to(like) if x.is_floating_point() else x for name, x in batch.items()}
    D = draws(state, {x: (n - c[1]) // c[0] for x, c in RESTARTS.items() if occurs(c, n)})
    if LASTING and not state["lanes"]:
        state["lanes"] = empty(len(next(iter(inputs.values()))), like)
    W = weights(S) | {name: D[name] for name in STARTS}
    sums, terms, lasting = fresh(W, inputs, "loop", state["lanes"])
    if not all(terms.values()):
        raise ValueError("a batch without a target: sequences of at least two tokens")
    G = gradients(W, sums)
    V = {name: x.detach() for name, x in sums.items()}
    count, hear, move, end = TICKS[KINDS[tuple(occurs(clock, n) for clock in CLOCKS)]]
    with torch.no_grad():
        if hear is not None:
            hear(S, G, "loop")
        count(S, terms)
        move(S, G, V, terms, D, planned(like))
        end(S, terms)
    if LASTING:
        state["lanes"] = {"sequences": state["lanes"]["sequences"] + 1, **lasting}
    state["step"] = n
    return {name: V[name].sum() / terms[name] for name in HEARD}


def planned(like: Tensor) -> dict[str, Tensor]:
    """Ticks of each level in the whole run, which a schedule of rates counts against."""
    return {
        name: torch.tensor(ticks, dtype=torch.float64, device=like.device)
        for name, ticks in PLANNED.items()
    }


def random_batch(seed: int, sequences: int, tokens: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Random tokens for an index, normal numbers for numbers, documents of ten tokens or so."""
    generator = torch.Generator().manual_seed(seed)
    batch = {}
    for name, (kind, sizes) in INPUTS.items():
        shape = (sequences, tokens, *sizes)
        if isinstance(kind, int):
            batch[name] = torch.randint(kind, shape, generator=generator)
        elif kind == "number":
            batch[name] = torch.randn(shape, generator=generator, dtype=dtype)
        else:
            batch[name] = (torch.rand(shape, generator=generator) < 0.1).to(dtype)
    return batch


def main() -> None:
    """Trains on one random batch and prints the losses."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sequences", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    dtype = getattr(torch, given.dtype)
    state = init(given.seed, dtype, given.device)
    batch = random_batch(given.seed, given.sequences, given.tokens, dtype)
    batch = {name: x.to(given.device) for name, x in batch.items()}
    for n in range(given.steps):
        losses = step(state, batch)
        print(f"step {n + 1}", *(f"{name} {x.item():.10f}" for name, x in losses.items()), sep="  ")
