"""States and equations: lawful for every example, and the interpreter's values when a few lines run
them.
"""

from __future__ import annotations

import re

import pytest
import torch
from family import SPECS, tiny
from state_machine import StateMachine, StepMachine

from nldsl import stages
from nldsl.core.nodes import Node, Tree
from nldsl.core.program import Program
from nldsl.core.timing import at_tokens
from nldsl.oracle.interpreter import Oracle
from nldsl.oracle.operators import ABSENT
from nldsl.schedule.step_clock import step_clock
from nldsl.schedule.step_states import check_step_states
from nldsl.schedule.token_states import check_states, states
from nldsl.testing import data, sample

torch.set_num_threads(1)
EXACT, LENGTH = 1e-9, 7


def at_tokens_of(program: Program) -> dict[str, Node]:
    """The outputs that have a value for each token."""
    arrays = {n: x for n, x in program.outputs.items() if not isinstance(x.type, Tree)}
    return {name: node for name, node in arrays.items() if at_tokens(program, node)}


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max() / max(1.0, float(b.abs().max()))) if b.numel() else 0.0


def held_to_the_interpreter(program: Program, files: dict, seed: int) -> None:
    batch = data(program, 2, LENGTH, seed)
    made = states(program, at_tokens_of(program))
    check_states(made)
    oracle = Oracle(program, seed=seed, files=files)
    found = oracle.run(batch)
    machine = StateMachine(made, oracle, batch)
    for name in made.outputs:
        values = [v for v in machine.output(name) if v is not ABSENT]
        if values:
            ours = torch.stack([v.expand([2, *v.shape[1:]]) for v in values], 1)
            assert apart(ours, found.outputs[name]) <= EXACT, name
    for name, value in found.memories.items():
        late = program.memories[name].level in oracle._pending
        for path, leaf in value.items() if isinstance(value, dict) else [("", value)]:
            state = f"{name}.{path}" if path else name
            if state in made.states:
                assert apart(machine.final(state, LENGTH - 1 - late), leaf) <= EXACT, state


@pytest.mark.parametrize("name", sorted(SPECS))
def test_examples(name: str) -> None:
    held_to_the_interpreter(tiny(name), {}, 3)


@pytest.mark.parametrize("seed", range(5))
def test_drawn_programs(seed: int) -> None:
    for drawn in sample(8, seed):
        program = drawn.program()
        held_to_the_interpreter(program, drawn.weights(program), seed)


def test_printed() -> None:
    text = stages.states(states(tiny("titans"), at_tokens_of(tiny("titans"))))
    state = re.search(r"^state loss.layer\[0\].mixer.recall.M.W1: .*\n((?:  .*\n)+)", text, re.M)
    assert state and "start" in state[1] and "after" in state[1] and "next" in state[1]
    assert "when(" in text and not re.search(r"= (grad|fold|held|stop)\(", text)


# -- the step clock


def steps_held_to_the_interpreter(
    program: Program, files: dict, seed: int, lengths: tuple[int, ...]
) -> None:
    made = step_clock(program).states
    check_step_states(made)
    oracle = Oracle(program, seed=seed, files=files)
    machine = StepMachine(made, oracle)
    for i, length in enumerate(lengths):
        batch = data(program, 2, length, seed + i)
        machine.step(batch)
        oracle.step(batch)
        for name, value in oracle.memories.items():
            theirs = value.items() if isinstance(value, dict) else [("", value)]
            ours = machine.values[name]
            for path, leaf in theirs:
                mine = ours[path] if path else ours
                assert apart(mine[0], leaf) <= EXACT, (i, name, path)


STEPPED = "hope cms learned_optimizer transfer_backpropagation optimizer_m3 ttt_e2e".split()


@pytest.mark.parametrize("name", STEPPED)
def test_steps_of_examples(name: str) -> None:
    steps_held_to_the_interpreter(tiny(name), {}, 3, (5, 4, 1, 5, 4))


@pytest.mark.parametrize("seed", range(4))
def test_steps_of_drawn_programs(seed: int) -> None:
    for drawn in sample(8, 100 + seed):
        program = drawn.program()
        steps_held_to_the_interpreter(program, drawn.weights(program), seed, (4, 5, 4))
