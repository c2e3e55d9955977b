"""The interpreter, the emitted source and what torch.compile makes of it compute the same values,
states and gradients (`nldsl.testing.laws`).
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from family import deeper, tiny
from regressions import ROWS

from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostics
from nldsl.pipeline import compile_program, load_text
from nldsl.step.loading import Files
from nldsl.testing import Drawn, corners, data, laws, sample
from nldsl.testing.captures import apart, traced, traced_once
from nldsl.testing.properties import over

torch.set_num_threads(1)
EXAMPLES = ("titans", "hope")


def agrees(subject: laws.Subject, drawn: Drawn) -> None:
    found = laws.agreement(subject, drawn.batches(subject.program, 3))
    assert not laws.beyond(found)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("length", [1, 3, 9])
def test_examples_are_what_they_mean(name: str, length: int) -> None:
    subject = deeper(name)
    found = laws.agreement(subject, [data(subject.program, 2, length, i) for i in range(2)])
    assert not laws.beyond(found)
    assert length == 1 or any(key.startswith("state ") for key in found)
    assert length == 1 or any(
        key.startswith("gradient ") and ".start" in key or "recall.M" in key for key in found
    )


@pytest.mark.parametrize("name", ROWS)
def test_what_once_went_wrong(name: str) -> None:
    subject = laws.Subject(load_text(ROWS[name].text))
    for length in ROWS[name].lengths:
        found = laws.agreement(subject, [data(subject.program, 2, length, i) for i in range(2)])
        assert not laws.beyond(found), ROWS[name].why
        assert laws.splits(subject.restart(), data(subject.program, 2, length, 0)) <= laws.EXACT


test_emitted_source_is_what_a_program_means = over(25)(agrees)
test_emitted_source_is_what_a_program_means_soak = pytest.mark.soak(over(200)(agrees))


def is_traced_whole(subject: laws.Subject, drawn: Drawn) -> None:
    """Each function is one graph, traced once, whatever ticks."""
    batches = drawn.batches(subject.program, 3)
    for capture in ("split", "whole"):
        assert traced_once(subject.step, capture, batches, drawn.seed) <= laws.EXACT, capture


test_no_graph_break = over(3)(is_traced_whole)
test_no_graph_break_soak = pytest.mark.soak(over(40)(is_traced_whole))


@pytest.mark.parametrize("name", EXAMPLES)
def test_whole_is_split(name: str) -> None:
    made = tiny(name, d=4) if name == "titans" else tiny(name, d=4, periods=[1, 2])
    plain = compile_program(made, precision="float64", capture="eager")
    batches = [data(made, 2, 6, i) for i in range(2)]
    for capture in ("whole", "split"):
        assert traced_once(plain, capture, batches) <= laws.EXACT, capture


def test_scoring_runs_the_graphs_of_training() -> None:
    made = load_text(corners()[4].text)
    batch = data(made, 2, 8, 0)
    step, counted = traced(made, "split")
    state = step.init(0)
    step(state, [batch])
    before = counted.graphs
    scored, _ = step.reading.evaluate(state, batch)
    assert counted.graphs == before
    plain = compile_program(made, precision="float64", capture="eager")
    assert laws.deviation(
        scored, plain.reading.evaluate(state, batch)[0]
    ) <= laws.EXACT and scored.shape == (2, 7)


def compiled_agrees(
    made: Program, capture: str, length: int = 9, steps: int = 2, files: Files | None = None
) -> None:
    fast, slow = (
        compile_program(made, precision="float32", capture=c, files=files)
        for c in (capture, "eager")
    )
    batches = [data(made, 2, length, i) for i in range(steps)]
    values, kept = apart(fast, slow, batches)
    assert values <= laws.VALUES
    assert kept <= laws.GRADIENTS


def test_compiled_code_computes_the_same() -> None:
    drawn = corners()[0]
    compiled_agrees(drawn.program(), "split")


@pytest.mark.soak
@pytest.mark.parametrize("capture", ["split", "whole"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_compiled_examples_compute_the_same(name: str, capture: str) -> None:
    compiled_agrees(tiny(name, d=4), capture)


@pytest.mark.soak
def test_compiled_programs_compute_the_same(record_property: Callable[[str, object], None]) -> None:
    """At least eight programs, and as many as it takes to meet every way in which an update is
    lowered.
    """
    seen: set[str] = set()
    judged = 0
    for drawn in sample(400, 7):
        made = drawn.program()
        files = drawn.weights(made)
        try:
            step = compile_program(made, capture="eager", files=files)
        except Diagnostics as error:
            assert {d.code for d in error.diagnostics} <= {"N505", "N801"}
            continue
        ways = {re.split(r",| \(", way)[0] for way in step.emitted.lowering.values()}
        if drawn.length > 2 and (judged < 8 or ways - seen):
            compiled_agrees(made, "split", drawn.length, files=files)
            judged, seen = judged + 1, seen | ways
    record_property("programs compiled", judged)
    record_property("ways", ", ".join(sorted(seen)))
    assert judged >= 8
