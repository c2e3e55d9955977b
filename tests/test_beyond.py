"""State beyond a sequence: memories that outlive it, one a lane; starts from files; data that is not text."""
from __future__ import annotations

import pytest
import torch

from nldsl.diagnostic import Diagnostics
from nldsl.graph.equations import Program
from nldsl.pipeline import compile_program, load_text
from nldsl.testing import data, laws
from nldsl.testing.captures import apart, traced

torch.set_num_threads(1)
LENGTHS = (7, 7, 5, 7, 7)

READER = """nldsl 1
import layers, optimizers
dim d = 4, head = 2, e = d / head, vocab = 5
clock near = 3 token
clock whole = sequence
clock pair = 2 sequence
input ids: index(vocab)
def net(z: [e]) -> [e] {
    W2 = weight([2 * e, e])
    W1 = weight([e, 2 * e])
    return z + W1 * gelu(W2 * z)
}
def mixer(x: [d]) -> [d] {
    k = unit(linear(x, [head, e]))
    v = linear(x, [head, e])
    q = unit(linear(x, [head, e]))
    level recall per head every token {
        memory M: net = learned
        context k, v
        minimize |M(k) - v|^2
        M <- 0.9 * M + momentum(grad(M@near), 0.1, 0.5)
        reset never
        bptt full
    }
    return linear(recall.M@now(q), [d])
}
x = embed(ids, [d])
h = x + mixer(rmsnorm(x))
loss = cross_entropy(linear(h, [vocab]), next(ids))
level training every step {
    memory W: rest = random
    context ids
    minimize mean(loss over period)
    W <- W + adamw(W, clip(grad(W), 1), lr = 3e-2, decay = 0.1)
}
"""


def reader(*edits: tuple[str, str]) -> Program:
    text = READER
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return load_text(text)


def batches(program: Program) -> list[laws.Batch]:
    return [data(program, 2, length, i) for i, length in enumerate(LENGTHS)]


# Lanes

RESETS = ("reset never", "reset every 2 sequence", "reset every 2 sequence phase 1", "reset every sequence")
PERIOD = ("memory M: net", "memory M: [e, e]"), ("|M(k) - v|^2", "sum(|M * k - v|^2 over period)"), ("recall.M@now(q)", "recall.M@now * q"), \
    ("every token", "every 2 token")


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("edits", [(), (("M@near", "M"),), (("M@near", "M@whole"),), (("M@near", "M@pair"),), (*PERIOD, ("M@near", "M"))],
                         ids=["chunk", "exact", "copy each sequence", "copy each second sequence", "sum over a period"])
def test_a_memory_that_outlives_a_sequence_is_what_it_means(reset: str, edits: tuple) -> None:
    program = reader(("reset never", reset), *edits)
    found = laws.agreement(laws.Subject(program), batches(program))
    assert not {name: x for name, x in found.items() if not x <= laws.EXACT}


def test_lanes_matter_and_each_has_its_own() -> None:
    subject, forgets = laws.Subject(reader()), laws.Subject(reader(("reset never", "reset every sequence")))
    first, second = (data(subject.program, 2, 7, i) for i in range(2))
    other = {name: torch.cat([x[:1], 4 - x[1:]]) for name, x in first.items()}
    kept = []
    for batch in (first, other):
        subject.restart().step(subject.state, [batch])
        assert set(subject.state.lanes) == {f"h.mixer.recall.{m}.{w}" for m in ("M", "momentum.velocity.m") for w in ("W1", "W2")} | {
            "sequences", "h.mixer.recall.M.W1@near", "h.mixer.recall.M.W2@near"}
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
    whole, halves = compile_program(program, precision="float64", capture="eager"), \
        compile_program(program, precision="float64", capture="eager", accumulate=2)
    states = whole.init(0), halves.init(0)
    for i in range(3):
        batch = data(program, 4, 7, i)
        a = whole(states[0], [batch])
        b = halves(states[1], [{name: x[at:at + 2] for name, x in batch.items()} for at in (0, 2)])
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
    slower = ("h = x + mixer(rmsnorm(x))", """level ffn every 4 step {
    memory F: swiglu([d], hidden = d) = random
    context ids
    minimize mean(loss over period)
    F <- F - 0.1 * grad(F)
    bptt none
}
h = x + mixer(ffn.F(rmsnorm(x)))""")
    with pytest.raises(Diagnostics) as found:
        compile_program(reader(slower))
    assert found.value.diagnostics[0].code == "N801" and found.value.diagnostics[0].help == "`bptt none`, or `bptt none to ffn`"
    compile_program(reader(slower, ("bptt full", "bptt none")), capture="eager")
