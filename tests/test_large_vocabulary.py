"""The cross entropy of a large vocabulary: the interpreter's numbers, and never all logits at
once.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from nldsl.core.program import Program
from nldsl.pipeline import compile_program, load_text
from nldsl.step.lowerings import vocabulary
from nldsl.step.runtime.vocabulary import cross_entropy_of
from nldsl.testing import data, laws
from nldsl.testing.captures import traced_once
from nldsl.view.report import cross_entropies

TEXT = """nldsl 1
dim d = 6, head = 2, e = d / head, vocab = VOCAB
input ids: index(vocab)
table = weight([vocab, d])
x = tanh(linear(table[ids], [d]))
y = tanh(linear(x, [head, e]))
DEFINED
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}
"""
IN_PIECES = {
    "a layer": "loss = cross_entropy(linear(x, [vocab]), next(ids))",
    "heads": "loss = cross_entropy(linear(y, [vocab]), next(ids))",
    "the table of the tokens": "loss = cross_entropy(table * x, next(ids))",
    "a transposed table": "u = weight([d, vocab])\nloss = cross_entropy(u^T * x, next(ids))",
    "part of a loss": "loss = 2 * cross_entropy(linear(x, [vocab]), next(ids)) + |x|^2",
}
WRITTEN_OUT = {
    "logits that are read": "z = linear(x, [vocab])\nloss = cross_entropy(z, next(ids)) + |z|^2",
    "no product": "loss = cross_entropy(tanh(linear(x, [vocab])), next(ids))",
}


def program(defined: str, size: int = 11) -> Program:
    return load_text(TEXT.replace("DEFINED", defined).replace("VOCAB", str(size)))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vocabulary of ten is large, and the logits of three tokens are many."""
    monkeypatch.setattr(vocabulary, "LARGE", 10)
    monkeypatch.setattr(vocabulary, "MOST", 33)


@pytest.mark.parametrize("form", IN_PIECES | WRITTEN_OUT)
def test_it_is_what_the_interpreter_computes(form: str, small: None) -> None:
    """Values, gradients, and what two steps leave."""
    made = laws.Subject(program((IN_PIECES | WRITTEN_OUT)[form]))
    assert ("cross_entropy_of(" in made.step.emitted.text) == (form in IN_PIECES)
    assert not laws.beyond(laws.agreement(made, [data(made.program, 2, 9, i) for i in range(2)]))


def test_its_derivatives_are_those_of_the_written_out(small: None) -> None:
    """Of any order."""
    x, table = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 5, 3), (7, 3))
    )
    ids = torch.randint(7, (2, 5))

    def loss(x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return cross_entropy_of(x, table, ids, 14)

    assert torch.autograd.gradcheck(loss, (x, table))
    assert torch.autograd.gradgradcheck(loss, (x, table))


@pytest.mark.parametrize("capture", ["split", "whole"])
def test_it_is_traced_whole(capture: str, small: None) -> None:
    made = program(IN_PIECES["a layer"])
    plain = compile_program(made, precision="float64", capture="eager")
    assert traced_once(plain, capture, [data(made, 2, 9, i) for i in range(2)]) <= laws.EXACT


def peak(work: Callable[[], object]) -> int:
    """The most bytes that were allocated at once while it ran."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        work()
    results = watched.profiler.kineto_results  # type: ignore[union-attr]
    events = [event for event in results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_logits_are_never_held_whole(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "MOST", 1 << 16)
    made = program(IN_PIECES["a layer"], 4096)
    batch, held = data(made, 4, 64, 0), {}
    for large in (4096, 4097):
        monkeypatch.setattr(vocabulary, "LARGE", large)
        step = compile_program(made, precision=precision, capture="eager")
        state = step.init(0)
        held[large] = peak(lambda step=step, state=state: step(state, [batch]))
    logits = 4 * 4 * 64 * 4096
    assert held[4096] < 0.7 * logits
    assert held[4097] > 2 * logits


def test_the_report_says_so(small: None) -> None:
    step = compile_program(program(IN_PIECES["a layer"]), capture="eager")
    assert cross_entropies(step) == [
        "cross entropy of 11: its logits in pieces of tokens, once more for their gradients"
    ]
    assert cross_entropies(compile_program(program(WRITTEN_OUT["no product"]))) == []
