"""Weights that are scored and used instead of the last ones: averages that levels of the program
keep beside them.

    average = ema(training.W, 0.999)       in the text; the memory is average.averaging.A
    --weights average                      training.W is what that memory holds

A name is that of one or more memories, or stands in their qualified names. A memory stands for the
weights that it is like and that it follows. The name of what learns, `training`, means its weights
as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from nldsl.core.flow import followed
from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostic
from nldsl.step.state import State
from nldsl.train import faults


def pairs(program: Program, name: str | None) -> dict[str, str]:
    """Memory of weights -> the memory whose value it takes.

    Raises N737 if the name is that of nothing that could stand for weights, or of two.
    """
    if name is None:
        return {}
    known = {
        m.name: weights
        for m in program.memories.values()
        if (weights := followed(program, m)) is not None
    }
    named = [m for m in known if f".{name}." in f".{m}."]
    if not named:
        raise faults.no_average(name, {m: w for m, w in known.items() if m != w})
    if any(known[m] == m for m in named):
        return {}
    taken = {known[m]: m for m in named}
    if len(taken) < len(named):
        raise faults.several_averages(name, named)
    return taken


def findings(program: Program, name: str | None) -> Iterator[Diagnostic]:
    """N739 if the average that is used leaves out some of what learns from step to step."""
    taken = pairs(program, name)
    left = {
        memory.name: program.level(memory.name)
        for memory in program.memories.values()
        if taken and memory.slots is not None and memory.name not in taken
        if (level := program.level(memory.name)).clock.unit == "step" and level.parent is None
    }
    if name is not None and left:
        yield faults.left_out(name, taken, left)


def take(state: State, taken: Mapping[str, str]) -> None:
    """Weights become what others hold."""
    with torch.no_grad():
        for weights, memory in taken.items():
            state.tensors[weights].copy_(state.tensors[memory])


@contextmanager
def in_force(state: State, taken: Mapping[str, str]) -> Iterator[None]:
    """Within it, the weights are averages."""
    last = {weights: state.tensors[weights].clone() for weights in taken}
    take(state, taken)
    try:
        yield
    finally:
        with torch.no_grad():
            for weights, value in last.items():
                state.tensors[weights].copy_(value)
