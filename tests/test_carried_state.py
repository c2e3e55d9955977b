"""State beyond a sequence: memories that outlive it, one a lane, and their ends at documents."""

from __future__ import annotations

import pytest
import torch
from lanes import batches, reader

from nldsl.diagnostic import Diagnostics
from nldsl.oracle.interpreter import Oracle
from nldsl.pipeline import compile_program
from nldsl.step.freeze import frozen
from nldsl.testing import data, laws
from nldsl.testing.captures import apart, traced, traced_once

torch.set_num_threads(1)


# Lanes

RESETS = (
    "reset never",
    "reset every 2 sequence",
    "reset every 2 sequence phase 1",
    "reset every sequence",
)
PERIOD = (
    ("memory M: net", "memory M: [e, e]"),
    ("|M(k) - v|^2", "sum(|M * k - v|^2 over period)"),
    ("recall.M@after(q)", "recall.M@after * q"),
    ("every token", "every 2 token"),
)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize(
    "edits",
    [
        (),
        (("M@near", "M"),),
        (("M@near", "M@whole"),),
        (("M@near", "M@pair"),),
        (*PERIOD, ("M@near", "M")),
    ],
    ids=["chunk", "exact", "copy each sequence", "copy each second sequence", "sum over a period"],
)
def test_a_memory_that_outlives_a_sequence_is_what_it_means(reset: str, edits: tuple) -> None:
    program = reader(("reset never", reset), *edits)
    found = laws.agreement(laws.Subject(program), batches(program))
    assert not laws.beyond(found)


ENDED = ("clock pair", "clock book = document\nclock shelf = 2 document phase 1\nclock pair")


@pytest.mark.parametrize(
    "reset",
    [
        "reset every document",
        "reset every 2 document",
        "reset every 2 document phase 1",
        "reset never",
        "reset every sequence",
    ],
)
@pytest.mark.parametrize(
    "edits",
    [
        (),
        (("M@near", "M"),),
        (("M@near", "M@book"),),
        (("M@near", "M@shelf"),),
        (*PERIOD, ("M@near", "M")),
        (("v = unit(linear(x, [head, e]))", "v = mean(unit(linear(x, [head, e])) over book)"),),
    ],
    ids=[
        "chunk",
        "exact",
        "copy each document",
        "copy each second document",
        "sum over a period",
        "mean over a document",
    ],
)
def test_documents_end_in_each_lane_where_the_data_says(reset: str, edits: tuple) -> None:
    program = reader(ENDED, ("reset never", reset), *edits)
    subject = laws.Subject(program)
    found = laws.agreement(subject, batches(program))
    assert not laws.beyond(found)
    batch = data(program, 2, 7, 0)
    assert laws.splits(subject.restart(), batch) <= laws.EXACT
    assert laws.causality(subject, batch, 3) == laws.independence(subject, batch) == 0.0


def test_what_ends_with_a_sequence_starts_from_what_was_learned_in_between() -> None:
    for reset in (
        "reset every document",
        "reset every 2 document",
        "reset every 2 document phase 1",
    ):
        subject = laws.Subject(reader(ENDED, ("reset never", reset)))
        given = batches(subject.program)
        for batch in given:
            batch["document"][0, -1] = True
        assert not laws.beyond(laws.agreement(subject, given))
    subject = laws.Subject(reader(ENDED, ("reset never", "reset every document")))
    sequence = laws.Subject(reader(ENDED, ("reset never", "reset every sequence")))
    given = [
        batch
        | {
            "document": torch.arange(batch["ids"].shape[1]).expand_as(batch["ids"])
            == batch["ids"].shape[1] - 1
        }
        for batch in given
    ]
    for batch in given:
        a, b = (one.step(one.state, [batch])["loss"] for one in (subject, sequence))
        assert laws.deviation(a, b) <= laws.EXACT


def test_a_document_is_forgotten_at_its_end() -> None:
    """What comes after the end of a document is said as if nothing had been before it."""
    program = reader(ENDED, ("reset never", "reset every document"), ("M@near", "M"))
    subject = laws.Subject(program)
    ids = torch.tensor([[1, 2, 3, 4, 0, 1, 2]])
    ends = torch.tensor([[0, 0, 1, 0, 0, 0, 0]]).bool()
    after = subject.forward({"ids": ids, "document": ends})[0]["loss"][:, 3:]
    alone = subject.forward({"ids": ids[:, 3:], "document": ends[:, 3:]})[0]["loss"]
    kept = subject.forward({"ids": ids, "document": torch.zeros_like(ends)})[0]["loss"][:, 3:]
    assert laws.deviation(after, alone) <= laws.EXACT and laws.deviation(kept, alone) > 1e-3
    with pytest.raises(Diagnostics) as found:
        subject.step(subject.state, [{"ids": ids}])
    assert found.value.diagnostics[0].code == "N308"


@pytest.mark.parametrize(
    "edits, words",
    [
        ([("bptt full", "bptt 2 document")], "`bptt`"),
        (
            [
                (
                    "v = unit(linear(x, [head, e]))",
                    "z = linear(x, [head, e])\n    v = attend(z, z -> z over book)",
                )
            ],
            "attention",
        ),
        ([("|M(k) - v|^2", "sum(|M(k) - v|^2 over book)")], "since a document began"),
        ([*PERIOD, ("reset never", "reset every document")], "goes on in the next sequence"),
        ([*PERIOD], "goes on in the next sequence"),
        (
            [
                ("reset never", "reset every document"),
                ("memory M: net = learned", "memory M: net = random"),
            ],
            "drawn anew",
        ),
    ],
)
def test_what_documents_cannot_do_yet_is_said(edits: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(Diagnostics) as found:
        compile_program(reader(ENDED, *edits))
    first = found.value.diagnostics[0]
    assert first.code == "N801" and words in first.message


@pytest.mark.parametrize("capture, length", [("split", 5), ("whole", 3)])
def test_documents_are_captured(capture: str, length: int) -> None:
    plain = compile_program(
        reader(("reset never", "reset every document")), precision="float64", capture="eager"
    )
    given = [data(plain.program, 2, length, i) for i in range(2)]
    assert traced_once(plain, capture, given) <= laws.EXACT


def test_lanes_matter_and_each_has_its_own() -> None:
    subject, forgets = (
        laws.Subject(reader()),
        laws.Subject(reader(("reset never", "reset every sequence"))),
    )
    first, second = (data(subject.program, 2, 7, i) for i in range(2))
    other = {name: torch.cat([x[:1], 4 - x[1:]]) for name, x in first.items()}
    kept = []
    for batch in (first, other):
        subject.restart().step(subject.state, [batch])
        assert set(subject.state.lanes) == {
            f"h.mixer.recall.{m}.{w}" for m in ("M", "momentum.velocity.m") for w in ("W1", "W2")
        } | {"sequences", "h.mixer.recall.M.W1@near", "h.mixer.recall.M.W2@near"}
        kept.append({name: x.clone() for name, x in subject.state.lanes.items()})
    assert all(torch.equal(kept[0][name][0], kept[1][name][0]) for name in kept[0])
    assert any(not torch.equal(kept[0][name][1], kept[1][name][1]) for name in kept[0])
    losses = []
    for one in (subject, forgets):
        one.restart()
        losses.append([float(one.step(one.state, [batch])["loss"]) for batch in (first, second)])
    assert losses[0][0] == losses[1][0] and abs(losses[0][1] - losses[1][1]) > 1e-4
    assert not forgets.state.lanes


def test_micro_batches_are_lanes_of_one_step() -> None:
    program = reader()
    whole, halves = (
        compile_program(program, precision="float64", capture="eager"),
        compile_program(program, precision="float64", capture="eager", accumulate=2),
    )
    states = whole.init(0), halves.init(0)
    for i in range(3):
        batch = data(program, 4, 7, i)
        a = whole(states[0], [batch])
        b = halves(
            states[1], [{name: x[at : at + 2] for name, x in batch.items()} for at in (0, 2)]
        )
        assert laws.deviation(a["loss"], b["loss"]) <= laws.EXACT
    for name, lane in states[0].lanes.items():
        assert laws.deviation(lane, states[1].lanes[name]) <= laws.EXACT
    with pytest.raises(ValueError, match="4 lanes"):
        whole(states[0], [data(program, 2, 7, 0)])


@pytest.mark.parametrize("capture", ["split", "whole"])
def test_lanes_are_captured_without_a_break_or_a_second_trace(capture: str) -> None:
    program = reader()
    step, counted = traced(program, capture)
    plain = compile_program(program, precision="float64", capture="eager")
    given = [data(program, 2, 7, i) for i in range(4)]
    states = [one.init(0) for one in (step, plain)]
    counts = []
    for batch in given:
        a, b = step(states[0], [batch]), plain(states[1], [batch])
        assert laws.deviation(a["loss"], b["loss"]) <= laws.EXACT
        counts.append(counted.graphs)
    assert counts == counts[:1] * 4
    for name, lane in states[0].lanes.items():
        assert laws.deviation(lane, states[1].lanes[name]) <= laws.EXACT
    assert max(apart(step, plain, given)) <= laws.EXACT


def test_a_learner_that_would_see_into_earlier_steps_is_refused() -> None:
    slower = (
        "h = x + mixer(rmsnorm(x))",
        """level ffn every 4 step {
    memory F: swiglu([d], hidden = d) = random
    context ids
    minimize mean(loss over period)
    F <- F - 0.1 * grad(F)
    bptt none
}
h = x + mixer(ffn.F(rmsnorm(x)))""",
    )
    with pytest.raises(Diagnostics) as found:
        compile_program(reader(slower))
    assert (
        found.value.diagnostics[0].code == "N801"
        and found.value.diagnostics[0].help == "`bptt none`, or `bptt none by ffn`"
    )
    compile_program(reader(slower, ("bptt full", "bptt none")), capture="eager")


# Frozen


def test_a_frozen_program_is_the_program_at_rate_zero() -> None:
    made, still = (
        reader(("0.9 * M + momentum(grad(M@near), 0.05, 0.5)", update))
        for update in (
            "0.9 * M + momentum(grad(M@near), 0.05, 0.5)",
            "1 * M + momentum(grad(M@near), 0, 0)",
        )
    )
    batch = data(made, 2, 7, 0)
    weights = Oracle(made).weights
    want = Oracle(still, weights).run(batch)
    found = Oracle(frozen(made), weights).run(batch)
    learns = Oracle(made, weights).run(batch)
    assert torch.equal(found.outputs["loss"], want.outputs["loss"])
    assert not torch.allclose(found.outputs["loss"], learns.outputs["loss"])
    step = compile_program(made, precision="float64", capture="eager")
    state = step.init(0)
    module = step.reading.module("loss", step.schedule.steps.streams["loss"], freeze=True)
    outputs, carry = module["forward"](
        state.views, batch, module["start"](state.views, 2, batch["ids"].double()), 0, "loop"
    )
    assert laws.deviation(outputs["loss"], want.outputs["loss"]) <= laws.EXACT
    start = module["start"](state.views, 2, batch["ids"].double())
    assert all(torch.equal(carry[name], x) for name, x in start.items() if "recall.M" in name)
