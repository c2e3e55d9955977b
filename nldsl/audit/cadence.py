"""A run -> at which steps and tokens the state of each level moved, beside the clock that it
declares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nldsl.audit.opened import Opened, carried, families, moved
from nldsl.core.nodes import walk
from nldsl.core.program import ENDS, Clock, Memory, Program
from nldsl.view.folding import folded

STEPS, TOKENS = 64, 256  # that are watched at most
PERIODS = 2  # of the slowest level, where these are fewer


@dataclass(frozen=True)
class Cadence:
    """Of a family of memories: `due` and `moved` are the instants from 1 on, of `watched`, at which
    the clock (or the reset) ticks, and at which some bit was another one afterwards.
    """

    names: tuple[str, ...]
    clock: str
    unit: str
    watched: int
    due: tuple[int, ...]
    moved: tuple[int, ...]
    called: bool  # by another level, as an optimizer is

    @property
    def name(self) -> str:
        return folded(self.names)

    @property
    def astray(self) -> tuple[int, ...]:
        """Moved, and not due."""
        return tuple(n for n in self.moved if n not in self.due)


def cadences(opened: Opened) -> list[Cadence]:
    """Of each family, the fastest first."""
    program = opened.program
    found = families(program, program.memories.values())
    instants = on_tokens(opened) | on_steps(opened)
    rows = [
        cadence(program, family, instants)
        for family in found
        if any(memory.name in instants for memory in family)
    ]
    pace = {row.names: program.root(program.level(row.names[0])).clock.pace for row in rows}
    return sorted(rows, key=lambda row: pace[row.names])


Instants = dict[str, tuple[int, list[int], list[int]]]  # by memory: watched, due, moved


def cadence(program: Program, family: Sequence[Memory], instants: Instants) -> Cadence:
    known = [instants[memory.name] for memory in family if memory.name in instants]
    clock = program.root(program.level(family[0].name)).clock
    return Cadence(
        tuple(memory.name for memory in family),
        f"every {clock.period} {clock.unit}" if clock.period else "never",
        "token" if clock.inner else "step",
        known[0][0],
        tuple(sorted({n for _, due, _ in known for n in due})),
        tuple(sorted({n for _, _, own in known for n in own})),
        program.level(family[0].name).parent is not None,
    )


def on_steps(opened: Opened) -> Instants:
    """Steps on held-out sequences, from the start of a run, with the trained weights."""
    step, program = opened.step, opened.program
    slow = [memory for memory in program.memories.values() if program.slow(memory.name)]
    longest = max((program.root(program.level(m.name)).clock.period for m in slow), default=1)
    steps = min(STEPS, max(2, PERIODS * longest))
    state = step.init(opened.run.settings.seed)
    with torch.no_grad():
        for name, x in state.views.items():
            x.copy_(opened.state.views[name])
    found: Instants = {m.name: (steps, [], []) for m in slow if m.name in state.tensors}
    count, workers = len(next(iter(opened.batch.values()))), program.workers
    lanes = max(2, workers.size) if workers else 2
    for n in range(1, steps + 1):
        at = [(lanes * n + i) % count for i in range(lanes)]
        batch = {name: x[at] for name, x in opened.batch.items()}
        before = {name: state.tensors[name].clone() for name in found}
        step(state, [batch])
        for name, (_, due, own) in found.items():
            level = program.level(name)
            root = program.root(level)
            if root.clock.ticks(n) and level.clock.ticks(n) or program.restart(name).ticks(n):
                due.append(n)
            if moved(before[name], state.tensors[name]):
                own.append(n)
    return found


def on_tokens(opened: Opened) -> Instants:
    """One held-out sequence, token by token."""
    program, module, reading = opened.program, opened.streams(), opened.step.reading
    tokens = min(TOKENS, opened.tokens)
    batch = opened.part(1, tokens)
    fast = [memory for memory in program.memories.values() if not program.slow(memory.name)]
    with torch.no_grad():
        carry = module["start"](opened.state.views, 1, reading.like(), reading.seats(1))
        arrays = {m.name: [n for n in carried(m, carry) if "@" not in n] for m in fast}
        found: Instants = {name: (tokens, [], []) for name, own in arrays.items() if own}
        for t in range(1, tokens + 1):
            before = carry
            one = {name: x[:, t - 1 : t] for name, x in batch.items()}
            _, carry = module["forward"](opened.state.views, one, before, t - 1, "loop")
            ended = bool(batch[ENDS][0, t - 1]) if ENDS in batch else False
            for name, (_, due, own) in found.items():
                if due_at(program, name, t, ended):
                    due.append(t)
                if any(moved(before[n], carry[n]) for n in arrays[name]):
                    own.append(t)
    return found


def due_at(program: Program, memory: str, t: int, ended: bool) -> bool:
    """May the memory move when `t` tokens were read? One whose level waits for the next token is
    due one token later.
    """
    level = program.level(memory)
    root = program.root(level)
    waits = any(node.op == "ahead" for node in walk(*root.objectives))
    now = t - 1 if waits else t

    def comes(clock: Clock) -> bool:
        return ended if clock.unit == ENDS else clock.unit == "token" and clock.ticks(now)

    called = level is root or level.clock.unit != "token" or level.clock.ticks(now)
    return comes(root.clock) and called or comes(program.restart(memory)) or comes(root.reset)
