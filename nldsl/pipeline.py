"""The compiler: one line a stage, top to bottom.

    text -> ast -> graph (core equations, levels), checked -> states -> schedule -> python
         -> compiled step

A stage takes what the one before it made and changes nothing in it. `passed` hands the name of each
stage and its result to `watch` (`stages.DUMPS` prints it), and checks its laws where the
environment variable NLDSL_LAWS is set, as it is in every test.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nldsl.core.laws import check_program
from nldsl.core.program import Program
from nldsl.frontend.parse import parse
from nldsl.graph.desugar import elaborate
from nldsl.rules import check
from nldsl.source import Source, decoded

if TYPE_CHECKING:
    from nldsl.schedule.plan import Schedule
    from nldsl.step.compile import CompiledStep
    from nldsl.step.loading import Files

STANDARD = Path(__file__).parent / "std"
Made = TypeVar("Made")
Watch = Callable[[str, object], None]
Law = Callable[[Made], None]


def unwatched(stage: str, made: object) -> None:
    """Ignores the stage."""


def lawless(made: object) -> None:
    """The law of a stage whose result has no laws but its type."""


def passed(stage: str, made: Made, watch: Watch, law: Law[Made] = lawless) -> Made:
    """The result of a stage, checked and shown to `watch`. Raises AssertionError if it breaks a
    law.
    """
    if os.environ.get("NLDSL_LAWS"):
        law(made)
    watch(stage, made)
    return made


def load(path: str | Path, sets: Mapping[str, str] | None = None) -> Program:
    """Reads, elaborates and checks a spec. Raises Diagnostics with every finding."""
    path = Path(path)
    return load_text(decoded(path.read_bytes()), str(path), sets, [path.parent])


def load_text(
    text: str,
    name: str = "spec.nl",
    sets: Mapping[str, str] | None = None,
    search: list[Path] | None = None,
    watch: Watch = unwatched,
) -> Program:
    """Text -> checked program. `name` is the path that messages show; imports are looked for in its
    folder, if it has one, then in `search`. Raises Diagnostics with every finding.
    """
    folders = [*(search or []), STANDARD]
    path = Path(name)
    source = passed("tokens", Source(path.name, text, path.parent), watch)
    file = passed("ast", parse(source), watch)
    program = elaborate(file, source, sets=dict(sets or {}), search=folders)
    return passed("graph", check(program), watch, check_program)


def scheduled(program: Program, watch: Watch = unwatched) -> Schedule:
    """Checked program -> its states, both clocks -> what is computed in what order."""
    from nldsl.schedule.plan import schedule  # torch is imported where something is to run
    from nldsl.schedule.step_clock import step_clock
    from nldsl.schedule.step_states import check_clocks
    from nldsl.schedule.token_states import states

    steps = step_clock(program)
    tokens = states(program, steps.streams)
    passed("states", (tokens, steps.states), watch, check_clocks)
    return passed("schedule", schedule(tokens, steps), watch)


def compile_program(
    program: Program,
    device: str = "cpu",
    precision: str = "float32",
    capture: str = "auto",
    planned_steps: int = 1000,
    accumulate: int = 1,
    files: Files | None = None,
    budget: int | None = None,
    watch: Watch = unwatched,
    at_once: bool | None = None,
    kernels: bool | None = None,
    ranks: int = 1,
    rank: int = 0,
    shard: bool = False,
) -> CompiledStep:
    """Checked program -> its training step; `files` holds the tensors that it loads, `budget` the
    bytes that a step may take beside what is held before it; `at_once`: what a recurrence makes of
    its streams alone is made for all pieces at once; `kernels`: memories that fit stay on the chip
    through all pieces (both as the device wants it, if None); `ranks`: how many processes take the
    step together, each with its own lanes and workers; `rank`: which of them this one is; `shard`:
    does each of them hold a part of the state?

    Raises Diagnostics (N8xx) if a part of it has no lowering, N722 or N724 if ranks cannot take it.
    """
    from nldsl.schedule.faults import told
    from nldsl.schedule.shares import share
    from nldsl.step.compile import CompiledStep
    from nldsl.step.module import emit

    with told(program):
        plan = scheduled(share(program, ranks), watch)
        source = passed("python", emit(plan, precision, planned_steps, ranks, shard), watch)
        ways = device, capture, planned_steps, accumulate, files, budget, at_once, kernels
        return CompiledStep(plan, source, *ways, whole=program, rank=rank)
