"""Two texts with one meaning are one step: the same values, the same lowering, the same work; and
what they compute is what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from pairs import PAIRS
from recurrences import HEAD, TAIL, holds
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from nldsl.oracle.interpreter import Oracle
from nldsl.oracle.operators import array
from nldsl.pipeline import load_text
from nldsl.testing import data, laws
from nldsl.view.report import lowering_table

torch.set_num_threads(1)
NEAR, MORE = 1e-10, 1.2
LENGTH = 80  # a chunk, and a part of one


class Counted(TorchDispatchMode):
    """Counts operators that compute something, and the entries that they write."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = self.entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.operators += 1
            self.entries += sum(x.numel() for x in tree_leaves(made) if isinstance(x, Tensor))
        return made


@dataclass(frozen=True)
class Work:
    flops: int
    operators: int
    entries: int

    def more(self, other: Work) -> float:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return max(max(a / b, b / a) for a, b in pairs)


def with_weights_of(first: laws.Subject, then: laws.Subject) -> None:
    """Those of one name are equal; others, in their order, have the same entries."""
    others = [w for w in first.program.weights if w not in then.program.weights]
    flat = torch.cat([torch.zeros(0), *(first.state.views[w].flatten() for w in others)])
    with torch.no_grad():
        for name in then.program.weights:
            view = then.state.views[name]
            if name in first.program.weights:
                view.copy_(first.state.views[name])
            else:
                view.copy_(flat[: view.numel()].view_as(view))
                flat = flat[view.numel() :]
    assert not flat.numel()


def in_order(found: dict[str, Tensor], other: dict[str, Tensor]) -> Tensor:
    """What is found of each weight, those of a name that both have first."""
    both = sorted(found.keys() & other.keys())
    return torch.cat([found[w].flatten() for w in (*both, *(w for w in found if w not in other))])


def apart(first: laws.Subject, then: laws.Subject) -> dict[str, float]:
    """Deviations of the loss, of what memories hold, of slopes, and of the loss a step later."""
    batch = data(first.program, 2, 9, 0)
    with torch.no_grad():
        (one, held), (other, kept) = first.forward(batch), then.forward(batch)
    found = {"loss": laws.deviation(one["loss"], other["loss"])}
    for name in held.keys() & kept.keys():
        if isinstance(held[name], Tensor) and held[name].shape == kept[name].shape:
            found[name] = laws.deviation(held[name], kept[name])
    mine, its = first.gradients(batch), then.gradients(batch)
    found["slopes"] = laws.deviation(in_order(mine, its), in_order(its, mine))
    one, other = (s.step(s.state, [batch]) and s.forward(batch)[0] for s in (first, then))
    return found | {"later": laws.deviation(one["loss"], other["loss"])}


def work(subject: laws.Subject) -> Work:
    """Of one step, which is not the first."""
    batch = data(subject.program, 2, LENGTH, 0)
    with FlopCounterMode(display=False) as flops, Counted() as counted:
        subject.step(subject.state, [batch])
    return Work(flops.get_total_flops(), counted.operators, counted.entries)


@pytest.mark.parametrize("name", PAIRS)
def test_two_texts_are_one_step(name: str) -> None:
    first, then = (laws.Subject(load_text(text)) for text in PAIRS[name].texts)
    with_weights_of(first, then)
    assert not laws.beyond(apart(first, then), NEAR)
    ways = [sorted(s.step.emitted.lowering.values()) for s in (first, then)]
    assert ways[0] == ways[1]
    assert not any("token by token" in way for way in ways[0])
    assert work(first).more(work(then)) <= MORE
    assert not laws.beyond(laws.agreement(first, [data(first.program, 1, 5, 0)]))


def test_a_sum_over_a_window_is_reported() -> None:
    """It is a memory that the text has no name for."""
    subject = laws.Subject(load_text(PAIRS["a sum over the sequence"].texts[0]))
    assert "a sum over a window" in [*lowering_table(subject.step).columns[0].cells]


MASKED = """nldsl 1
dim e = 2
input x: [e]
k = x / sum(x)
level recall every token {
    memory M: [e, e] = 0
    context k, x
    minimize |M * k - x|^2 / 2
    M <- where(sum(x) == 0, M, M - 0.5 * grad(M))
}
w = weight([e], init = 1)
loss = |w .* (recall.M@after * x)|^2
level frozen never { memory W: weights }
"""


def test_what_where_does_not_choose_may_be_no_number() -> None:
    """A key of a token that is not learned from is 0 / 0."""
    subject = laws.Subject(load_text(MASKED))
    (way,) = subject.step.emitted.lowering.values()
    assert way.startswith("chunked")
    batch = {"x": torch.tensor([[[1.0, 2.0], [0.0, 0.0], [-1.0, 3.0]]], dtype=torch.float64)}
    meant = Oracle(subject.program).run(batch).outputs["loss"]
    assert laws.deviation(subject.forward(batch)[0]["loss"], array(meant)) <= laws.EXACT


TURNED = """
    level recall per head every token {
        memory M: [e, f] = learned
        context k, v
        minimize |M^T * k - v|^2 / 2
        UPDATE
        CLAUSES
    }
    return linear(rmsnorm(READ), [d])"""
WORDS = {
    "UPDATE": "M <- keep * M - rate * grad(M)",
    "CLAUSES": "bptt full",
    "READ": "recall.M@after^T * q",
    "e = d / head": "e = d / head, f = e + 1",
    "v = linear(x, [head, e])": "v = linear(x, [head, f])",
}
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "delta rule": ("chunked", {}),
    "from a held copy": ("dual", {"UPDATE": "M <- keep * M - rate * grad(M@chunk)"}),
    "momentum": (
        "dual",
        {"UPDATE": "M <- keep * M + momentum(grad(M@chunk), rate, 0.5)"},
    ),
    "reset within the sequence": ("chunked", {"CLAUSES": "reset every 4 token\n bptt full"}),
    "nobody sees through": ("chunked", {"CLAUSES": "reset never\n bptt none"}),
    "cut at the chunk": ("chunked", {"CLAUSES": "bptt chunk"}),
    "read before": ("chunked", {"READ": "recall.M^T * q"}),
    "a copy is read": ("chunked", {"READ": "recall.M@chunk^T * q + recall.M@after^T * k"}),
    "read as a whole": ("chunked", {"READ": "tanh(recall.M@after)^T * q"}),
    "asked both ways": (
        "scan",
        {"UPDATE": "M <- keep * M - rate * grad(M) + 0.1 * (M * v) * v^T"},
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_memory_that_is_kept_the_other_way_round(name: str) -> None:
    way, edits = WAYS[name]
    text = HEAD + TURNED + TAIL
    for word, new in {**WORDS, **edits}.items():
        text = text.replace(word, new)
    assert all(found.startswith(way) for found in holds(load_text(text), 5))


SHARED = """nldsl 1
dim e = 2
input x: [e]
level recall every token {
    memory M: [e, e] = I
    P = I
    for i in range(60) { P <- 0.5 * P + 0.5 * (P - x * x^T / 60) }
    M <- M * P
}
w = weight([e], init = 1)
loss = |w .* (recall.M@after * x)|^2
level frozen never { memory W: weights }
"""


def test_a_sum_that_holds_one_many_times() -> None:
    """It is not taken apart without end: of I here, 2^60 times."""
    subject = laws.Subject(load_text(SHARED))
    assert not laws.beyond(laws.agreement(subject, [data(subject.program, 2, 3, 0)]))
