"""Memories of the token clock that start, within a sequence, from what slower ones hold by then:
transfer by initialisation.
"""

from __future__ import annotations

import pytest
import torch
from networks import level, network
from recurrences import holds, model

from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostics
from nldsl.pipeline import compile_program, load_text
from nldsl.testing import data, laws
from nldsl.testing.captures import traced_once

torch.set_num_threads(1)


def local(
    start: str = "wide.A",
    reset: str = "4 token",
    slow: str = "bptt full",
    kind: str = "[e, e]",
    update: str = "M - rate * grad(M)",
    read: str = "near.M@after * q",
) -> Program:
    """A memory that learns all along, and one that starts from it again and again."""
    objective = "|M * k - v|^2 / 2" if kind == "[e, e]" else "|M(k) - v|^2"
    return model(f"""
    gain = weight([e])
    level wide per head every 4 token {{
        memory A: {kind} = learned
        context k, v, keep
        minimize mean(keep * {objective.replace("M", "A")} over period)
        A <- 0.9 * A - 0.1 * grad(A)
        {slow}
    }}
    level near per head every token {{
        memory M: {kind} = {start}
        context k, v
        minimize {objective}
        M <- {update}
        reset every {reset}
        bptt full
    }}
    return linear(rmsnorm({"near.M@after(q)" if kind == "net" else read}), [d])""")


STARTS = {
    "as it is": {},
    "a part of it": {"start": "0.5 * wide.A"},
    "with a weight of its own": {"start": "wide.A + 0.1 * gain * gain^T"},
    "less often than it moves": {"reset": "8 token"},
    "more often": {"reset": "2 token"},
    "it restarts too": {"slow": "reset every 8 token\n        bptt full"},
    "it restarts with it": {"slow": "reset every 4 token\n        bptt full"},
    "seen for a while": {"slow": "bptt 4 token"},
    "not seen": {"slow": "bptt none"},
    "nets": {"kind": "net"},
    "nets at an anchor": {"kind": "net", "update": "keep * M - rate * grad(M@chunk)"},
    "at an anchor": {"update": "M - rate * grad(M@chunk)"},
    "with momentum": {"update": "M + momentum(grad(M), rate, 0.5)"},
    "both read": {"read": "near.M@after * q + wide.A * q"},
}


@pytest.mark.parametrize("name", STARTS)
def test_a_memory_starts_from_what_a_slower_one_holds(name: str) -> None:
    holds(local(**STARTS[name]), 9)


def test_the_start_matters() -> None:
    one, other = (laws.Subject(local(start)) for start in ("wide.A", "learned"))
    batch = data(one.program, 2, 9, 0)
    with torch.no_grad():
        for name, weight in other.state.views.items():
            weight.copy_(
                one.state.views[
                    name if name in one.state.views else name.replace("near.M", "wide.A")
                ]
            )
    first, second = (x.forward(batch)[0]["loss"] for x in (one, other))
    assert (
        laws.deviation(first[:, :3], second[:, :3]) <= laws.EXACT
        and laws.deviation(first[:, 5:], second[:, 5:]) > 1e-6
    )


def nested(
    fast: str = "full",
    slow: str = "full by training",
    more: str = "",
    layers: int = 1,
    **changes: str,
) -> str:
    """A memory whose objective is the loss of a run of the one that starts from it; 2512.24695, Eq.
    72 on the token clock.
    """
    given = {
        "pace": "4 token",
        "quick": "2 token",
        "up": "F - 0.1 * grad(F)",
        "update": "F - 0.5 * grad(F)",
        "reset": "reset every 4 token",
        "start": "slow.F",
        "top": "net = learned",
        "read": "fast.F(z)",
    } | changes
    return network(
        level("slow", given["pace"], given["up"], slow, more=more, memory=given["top"])
        + level(
            "fast",
            given["quick"],
            given["update"],
            fast,
            more=given["reset"],
            memory=f"net = {given['start']}",
        )
        + f"\n    z = rmsnorm(x)\n    return x + {given['read']}",
        layers,
        "clock quarter = 4 token",
    )


NESTED = {
    "second order": nested(),
    "seen by all": nested(slow="full"),
    "first order": nested(update="F - 0.5 * stop(grad(F))"),
    "a part of it": nested(start="0.5 * slow.F"),
    "never again": nested(reset=""),
    "every other time": nested(reset="reset every 8 token"),
    "it restarts too": nested(more="reset every 8 token"),
    "it restarts with it": nested(more="reset every 4 token"),
    "every token": nested(pace="2 token", quick="token", reset="reset every 2 token"),
    "an optimizer above": nested(up="F + adamw(F, grad(F), lr = 0.1, decay = 0.1)"),
    "an optimizer below": nested(update="F + momentum(grad(F), 0.5, 0.9)"),
    "a drawn start": nested(top="net = random"),
    "a read of a copy": nested(read="fast.F(z) + fast.F@quarter(z)"),
    "two layers": nested(layers=2),
}


@pytest.mark.parametrize("name", NESTED)
def test_a_level_learns_what_another_starts_from(name: str) -> None:
    subject = laws.Subject(load_text(NESTED[name]))
    found = laws.agreement(subject, [data(subject.program, 2, length, 0) for length in (9, 5)])
    assert not laws.beyond(found)
    batch = data(subject.program, 2, 9, 3)
    assert laws.splits(subject.restart(), batch) <= laws.EXACT
    assert laws.causality(subject, batch, 4) == 0.0


def test_its_gradient_is_that_of_the_run() -> None:
    """What the slow level does not see, or sees without the ticks, is another number."""
    found = {}
    for name in ("second order", "first order"):
        subject = laws.Subject(load_text(NESTED[name]))
        found[name] = subject.forward(data(subject.program, 2, 13, 0))[0]["loss"]
    assert laws.deviation(found["second order"][:, :4], found["first order"][:, :4]) <= laws.EXACT
    assert laws.deviation(found["second order"][:, 5:], found["first order"][:, 5:]) > 1e-7


@pytest.mark.parametrize("capture", ["split", "whole"])
@pytest.mark.parametrize(
    "made",
    [local, lambda: load_text(nested())],
    ids=["by an objective of its own", "by the task loss"],
)
def test_no_graph_break(made, capture: str) -> None:
    plain = compile_program(made(), precision="float64", capture="eager")
    assert (
        traced_once(plain, capture, [data(plain.program, 2, 9, i) for i in range(2)]) <= laws.EXACT
    )


@pytest.mark.parametrize(
    "text, words",
    [
        (nested(fast="full by slow"), "where the step-clock levels do not"),
        (nested(fast="full by training"), "hides its ticks"),
        (nested(fast="none"), "hides its ticks"),
        (nested(more="reset never"), "outlives a sequence"),
        (
            network(
                level(
                    "slow",
                    "4 token",
                    "F - 0.1 * grad(F)",
                    objective="mean(|F(h) - x|^2 over period)",
                ).replace("context ids", "context h, x")
                + level(
                    "fast",
                    "2 token",
                    "F - 0.5 * grad(F)",
                    more="reset every 4 token",
                    memory="net = slow.F",
                )
                + "\n    h = stop(x)\n    return x + fast.F(rmsnorm(x)) + slow.F(h)"
            ),
            "does not learn from the loss",
        ),
    ],
    ids=["to slow", "to training", "none", "never", "another objective"],
)
def test_what_cannot_be_lowered_is_said(text: str, words: str) -> None:
    with pytest.raises(Diagnostics, match="N801") as found:
        laws.Subject(load_text(text))
    assert words in found.value.diagnostics[0].message and found.value.diagnostics[0].help
