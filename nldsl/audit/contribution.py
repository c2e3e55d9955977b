"""A run -> what each memory contributes to the held-out score: the score where it stays at its
start, and where its reads give zero, beside that of the whole model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nldsl.audit.opened import Opened, carried, families, read_by_the_score
from nldsl.core.program import Memory
from nldsl.schedule.plan import plan
from nldsl.step.emit import Emitter
from nldsl.step.freeze import still
from nldsl.step.module import in_precision
from nldsl.step.reading import Module, load_module
from nldsl.view.folding import folded

SEQUENCES = 8  # that are read at once


@dataclass(frozen=True)
class Contribution:
    """Of a family of memories: by how much the score is worse where it never leaves its start, and
    where its reads give zero.
    """

    names: tuple[str, ...]
    frozen: float
    removed: float

    @property
    def name(self) -> str:
        return folded(self.names)


def contributions(opened: Opened) -> tuple[float, list[Contribution]]:
    """The mean of what is scored, and the contributions to it, the largest first. What an ablation
    makes infinite is infinitely worse.
    """
    program, known = opened.program, read_by_the_score(opened)
    whole = score(opened, opened.streams(), opened.state.views)
    found = []
    for family in apart(opened, known):
        views = program.slow(family[0].name)
        worse = (at_rest if views else unlearned)(opened, family, known)
        found.append(Contribution(tuple(m.name for m in family), *(x - whole for x in worse)))
    return whole, sorted(found, key=lambda one: -max(one.frozen, one.removed))


def apart(opened: Opened, known: Iterable[str]) -> list[list[Memory]]:
    """Families that are held still one by one; those that learn from the loss of the whole network
    learn through each other, and are held still together.
    """
    program, online = opened.program, opened.step.schedule.forward.online
    cells = [cell.name for one in (online.families if online else ()) for cell in one.states]
    memories = [program.memories[name] for name in known]
    one = [m for m in memories if carried(m, cells)]
    return families(program, [m for m in memories if m not in one]) + ([one] if one else [])


def unlearned(
    opened: Opened, family: Sequence[Memory], known: Mapping[str, list[str]]
) -> tuple[float, float]:
    """Memories that learn while they read: as they begin a sequence, and as zeros."""
    memories = opened.program.memories | {memory.name: still(memory) for memory in family}
    program = replace(opened.program, memories=memories)
    name, node = opened.step.reading.scored
    emitted = Emitter(plan(program, {name: node})).emit()
    module = load_module(in_precision(emitted, opened.step.precision), "held still")
    return tuple(  # type: ignore[return-value]
        score(opened, module, opened.state.views, zero) for zero in ((), family)
    )


def at_rest(
    opened: Opened, family: Sequence[Memory], known: Mapping[str, list[str]]
) -> tuple[float, float]:
    """Memories of the step clock: as a run begins, and as zeros."""
    arrays = [name for memory in family for name in known[memory.name]]
    begun = opened.step.init(opened.run.settings.seed).views
    views = opened.state.views
    before = score(opened, opened.streams(), views | {name: begun[name] for name in arrays})
    zeros = {name: torch.zeros_like(views[name]) for name in arrays}
    return before, score(opened, opened.streams(), views | zeros)


def score(
    opened: Opened, module: Module, views: Mapping[str, Tensor], zero: Sequence[Memory] = ()
) -> float:
    """The mean of what is scored over all held-out sequences; memories in `zero` begin as zeros."""
    reading, (name, _) = opened.step.reading, opened.step.reading.scored
    count = len(next(iter(opened.batch.values())))
    total, terms = 0.0, 0
    with torch.no_grad():
        for at in range(0, count, SEQUENCES):
            batch = {n: x[at : at + SEQUENCES] for n, x in opened.batch.items()}
            own = len(next(iter(batch.values())))
            carry = module["start"](views, own, reading.like(), reading.seats(own))
            empty = [n for memory in zero for n in carried(memory, carry)]
            carry |= {n: torch.zeros_like(carry[n]) for n in empty}
            streams, _ = module["forward"](views, batch, carry, 0, "loop")
            total += float(streams[name].double().sum())
            terms += streams[name].numel()
    found = total / max(1, terms)
    return found if math.isfinite(found) else math.inf
