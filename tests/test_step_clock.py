"""The step clock: every optimizer of the library, restarts, starts from other memories, folds over
ticks, and slower levels that learn through the ticks of faster ones; the emitted step against the
slow interpreter, and against equations written out.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostics
from nldsl.pipeline import compile_program, load_text
from nldsl.testing import data, laws
from nldsl.testing.captures import apart, traced

torch.set_num_threads(1)

ONE = """nldsl 1
import optimizers, associative_optimizers
dim c = 3, f = 4
input x: [c]
A = weight([f, c])
B = weight([c, f])
loss = |B * tanh(A * x) - next(x)|^2 / 10
level training every PERIOD step {
    memory W: weights
    context x
    minimize OBJECTIVE
    W <- UPDATE
}
"""
TWO = """nldsl 1
import optimizers
dim c = 3
input x: [c]
def net(z: [c]) -> [c] = linear(tanh(linear(z, [2 * c])), [c])
level slow every 4 step {
    memory S: net = random
    context x
    minimize mean(loss over period)
    S <- S + adamw(S, grad(S), lr = 0.01, decay = 0.1)
    bptt none
}
level fast every 2 step {
    memory F: net = START
    context x
    minimize mean(loss over period)
    F <- UPDATE
    reset every RESET step
    bptt DEPTH by slow
}
h = linear(x, [c])
loss = |fast.F(h) - next(x)|^2
level training every step {
    memory W: weights
    context x
    minimize mean(loss over period)
    W <- W + sgd(grad(W), 0.05)
}
"""
LEARNED = """nldsl 1
import optimizers
dim c = 3
input x: [c]
def rule(s: [2]) -> [] {
    hidden = tanh(affine(s, [3]))
    out = affine(hidden, [2])
    return out[0] * exp(0.1 * out[1])
}
y = linear(tanh(linear(x, [2 * c])), [c])
loss = |y - next(x)|^2
level inner every step {
    memory W: weights of y
    context x
    minimize mean(loss over period)
    g = stop(grad(W))
    W <- W + 0.1 * rule(stack(FIRST, SECOND))
    reset every 8 step
    bptt DEPTH by meta
}
level meta every 4 step {
    memory O: weights
    context x
    minimize mean(loss over period)
    O <- O - 0.1 * grad(O)
}
"""


def one(update: str, period: object = 1, objective: str = "mean(loss over period)") -> Program:
    return load_text(
        ONE.replace("UPDATE", update).replace("PERIOD", str(period)).replace("OBJECTIVE", objective)
    )


def two(update: str, reset: int = 8, depth: str = "full", start: str = "slow.S") -> Program:
    return load_text(
        TWO.replace("UPDATE", update)
        .replace("RESET", str(reset))
        .replace("DEPTH", depth)
        .replace("START", start)
    )


def agrees(program: Program, steps: int = 9, silent: tuple[int, ...] = ()) -> None:
    """Over `steps` steps; in those of `silent` the sequences have one token, so that no loss has a
    term.
    """
    found = laws.agreement(
        laws.Subject(program), [data(program, 2, 1 if i in silent else 4, i) for i in range(steps)]
    )
    assert not laws.beyond(found)


OPTIMIZERS = {
    "sgd": "sgd(grad(W), 0.1)",
    "momentum": "momentum(grad(W), 0.05, 0.9)",
    "nesterov": "nesterov(grad(W), 0.05, 0.9)",
    "adam": "0.01 * adam(grad(W))",
    "adamw": "adamw(W, clip(grad(W), 1), lr = cosine(0.01, 0.1), decay = 0.1)",
    "adagrad": "adagrad(grad(W), 0.05)",
    "muon": "muon(grad(W), 0.05)",
    "orthogonalise": "-0.05 * orthogonalise(clip(grad(W), 1))",
    "delta_momentum": "delta_momentum(grad(W), 0.5, 0.05, 0.9)",
    "deep_momentum": "deep_momentum(clip(grad(W), 0.1), 0.01, 0.9)",
    "m3": "m3(grad(W), 0.01, 0.3, 0.5, 0.25, 0.5, 0.000001, 3)",
}


@pytest.mark.parametrize("period", [1, "2 phase"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_at_any_period(name: str, period: object) -> None:
    text = ONE.replace("every PERIOD step", "every 2 step phase 1" if period != 1 else "every step")
    agrees(
        load_text(
            text.replace("UPDATE", f"W + {OPTIMIZERS[name]}").replace(
                "OBJECTIVE", "mean(loss over period)"
            )
        ),
        silent=(2,),
    )


@pytest.mark.parametrize(
    "objective",
    [
        "sum(loss over period)",
        "exp(mean(loss over period))",
        "mean(loss over period)^2 + 0.01 * |W|^2",
        "mean(loss over period) * |W|^2 + mean(|next(x)|^2 over period)",
    ],
)
def test_objectives_of_folds(objective: str) -> None:
    agrees(one("W - 0.05 * grad(W)", 2, objective), silent=(1, 4))


def test_a_level_that_hears_its_own_reads() -> None:
    """Plain reads inside the objective; what its context takes as data is constant for it."""
    agrees(
        load_text("""nldsl 1
import optimizers
dim c = 3
input x: [c]
k = tanh(linear(x, [c]))
level recall every 2 step {
    memory M: [c, c] = random
    context k, x
    minimize mean(|M * k - x|^2 over period)
    M <- 0.9 * M - 0.1 * grad(M)
    bptt none
}
loss = |recall.M * linear(k, [c]) - next(x)|^2
level training every step {
    memory W: weights
    context x
    minimize mean(loss over period)
    W <- W - 0.05 * grad(W)
}
""")
    )


def test_one_memory_for_each_index_of_an_axis() -> None:
    """Lengths and buffers are those of each head alone."""
    agrees(
        load_text("""nldsl 1
import optimizers
dim head = 2, e = 3
input x: [head, e]
def net(z: [e]) -> [e] = linear(tanh(affine(z, [2])), [e])
level heads per head every 2 step {
    memory F: net = random
    context x
    minimize mean(loss over period)
    F <- F + adamw(F, clip(grad(F), 0.1), lr = 0.01, decay = 0.1)
}
loss = |heads.F(x) - next(x)|^2
""")
    )


@pytest.mark.parametrize("taken", ["A", "A^T", "A[0] * A[1]^T"])
def test_a_memory_takes_what_another_was_before_it_moved(taken: str) -> None:
    """At one instant, whichever stands first; also where another restarts from it."""
    agrees(
        load_text(f"""nldsl 1
dim c = 2
input x: [c]
level fast every step {{
    memory F: [c, c] = slow.A
    F <- F / 2
    reset every 6 step
    bptt none
}}
level slow every 2 step {{
    memory A: [c, c] = random
    memory B: [c, c] = I
    memory C: [c, c] = 0
    context x
    minimize mean(loss over period)
    B <- {taken}
    C <- B
    A <- A - 0.1 * grad(A)
    reset every 4 step
}}
loss = |slow.A * x + slow.B * x + slow.C * x + fast.F * x - next(x)|^2
"""),
        13,
    )


@pytest.mark.parametrize("reset", [4, 8, 12])
@pytest.mark.parametrize(
    "update",
    [
        "F - 0.1 * stop(grad(F))",
        "0.9 * F - 0.1 * stop(grad(F))",
        "F + momentum(stop(grad(F)), 0.1, 0.9)",
        "F + momentum(stop(grad(F)) + 0.5 * F, -0.1, 0.9)",
        "F + 0.3 * (slow.S - F) .* F - 0.1 * stop(grad(F))",
    ],
)
def test_a_start_learned_through_the_ticks(update: str, reset: int) -> None:
    agrees(two(update, reset), 14)


@pytest.mark.parametrize("depth", ["none", "2 step", "4 step"])
def test_how_far_a_slower_level_sees(depth: str) -> None:
    agrees(two("F + 0.3 * (slow.S - F) .* F - 0.1 * stop(grad(F))", 12, depth), 14)


SEEN = """nldsl 1
dim c = 3
input x: [c]
clock two = 2 step
clock four = 4 step
level fast every FAST step {
    memory F: [c] = START
    context x
    minimize mean(loss over period)
    F <- 0.9 * F - 0.1 * stop(grad(F)) + MORE
    reset every 8 step
    bptt full
}
level other every step {
    memory H: [c] = 1
    H <- 0.8 * H + 0.1
    bptt none
}
level middle every 2 step {
    memory G: [c] = slow.S
    G <- 0.9 * G + STEP
    bptt full
}
level slow every 4 step {
    memory S: [c] = random
    context x
    minimize OBJECTIVE
    S <- S - 0.1 * grad(S)
    bptt none
}
loss = |(READ) .* linear(x, [c]) + middle.G - next(x)|^2
level training every step {
    memory W: weights
    context x
    minimize mean(loss over period)
    W <- W - 0.05 * grad(W)
}
"""
USUAL = {
    "FAST": "1",
    "START": "slow.S",
    "MORE": "0.1 * other.H",
    "STEP": "0.1 * slow.S",
    "OBJECTIVE": "mean(loss over period)",
    "READ": "fast.F",
}
SIGHTS = {
    "a copy": {"READ": "fast.F + fast.F@four"},
    "a copy of what restarts": {"READ": "fast.F / 2 + fast.F@four", "START": "slow.S .* other.H"},
    "a start from what is seen through": {"START": "middle.G"},
    "a start by what moves": {"START": "slow.S .* other.H"},
    "a start of the same pace": {"FAST": "4", "MORE": "0.1"},
    "a sum over ticks": {"STEP": "sum(fast.F over period)"},
    "a shorter stretch": {"OBJECTIVE": "mean(loss over two)"},
    "two stretches": {"OBJECTIVE": "mean(loss over two) + 2 * mean(loss over period)"},
}


def seen(said: dict[str, str]) -> str:
    text = SEEN
    for word, words in (USUAL | said).items():
        text = text.replace(word, words)
    return text


@pytest.mark.parametrize("silent", [(), (2, 7)])
@pytest.mark.parametrize("name", SIGHTS)
def test_what_a_slower_level_sees_through(name: str, silent: tuple[int, ...]) -> None:
    agrees(load_text(seen(SIGHTS[name])), 17, silent)


@pytest.mark.parametrize("silent", [(), (2,), (3, 4)])
@pytest.mark.parametrize(
    "taken",
    [
        "sum(fast.F over period)",
        "mean(fast.F over period)",
        "mean(fast.F over eight) - mean(other.H over eight)",
    ],
)
def test_sums_over_ticks_of_faster_levels(taken: str, silent: tuple[int, ...]) -> None:
    """A value is a term at each tick of its clock, whether or not its level has heard something."""
    agrees(
        load_text(f"""nldsl 1
dim c = 3
input x: [c]
clock eight = 8 step
level fast every step {{
    memory F: [c] = 1
    context x
    minimize mean(loss over period)
    F <- 0.9 * F - 0.1 * stop(grad(F))
    bptt none
}}
level other every 2 step {{
    memory H: [c] = 1
    H <- 0.9 * H
    bptt none
}}
level middle every 4 step {{
    memory G: [c] = 0
    G <- 0.9 * G + {taken}
    bptt none
}}
loss = |fast.F .* linear(x, [c]) + middle.G - next(x)|^2
level training every step {{
    memory W: weights
    context x
    minimize mean(loss over period)
    W <- W - 0.05 * grad(W)
}}
"""),
        13,
        silent,
    )


@pytest.mark.parametrize("period", [1, 2])
@pytest.mark.parametrize("silent", [(2,), (1, 4, 5)])
def test_a_tick_that_waits_keeps_what_another_stream_gave(
    period: int, silent: tuple[int, ...]
) -> None:
    """A sequence of one token has no next one: the objective has no value, the period goes on."""
    agrees(
        load_text(f"""nldsl 1
import optimizers
dim c = 2
input x: [c]
y = linear(x, [c])
known = |y - next(x)|^2
size = |y|^2
level training every {period} step {{
    memory W: weights
    context x
    minimize mean(known over period) + 0.3 * sum(size over period)
    W <- W + adamw(W, grad(W), 0.01, 0.1)
}}
"""),
        9,
        silent,
    )


BESIDE = """nldsl 1
dim c = 2
input x: [c]
clock two = 2 step
level first every 2 step {
    memory M: [c] = 1
    memory N: [c] = 0
    M <- 0.9 * M + FIRST
    N <- 0.5 * N + M
    bptt full
}
level second every SECOND step {
    memory M: [c] = first.M + 1
    context x
    minimize mean(loss over period) + |M|^2
    M <- 0.9 * M + 0.1 * mean(first.N@after over period) - 0.1 * (stop(grad(M)) + 0.1 * M)
    bptt none
}
loss = |(first.M + second.M@two + second.M) .* linear(x, [c]) - next(x)|^2 / 4
level training every step {
    memory W: weights
    context x
    minimize mean(loss over period)
    W <- W - 0.05 * grad(W)
}
"""


@pytest.mark.parametrize("second", ["2", "4"])
@pytest.mark.parametrize("first", ["0.1 * second.M@after", "0.1 * second.M", "0.1"])
def test_levels_that_read_each_other(first: str, second: str) -> None:
    """A read after the tick is data; a start is seen by slower levels alone; of two levels at one
    instant each memory stands behind those that it needs."""
    text = BESIDE.replace("FIRST", first).replace("SECOND", second)
    if "@after" in first:
        text = text.replace("mean(first.N@after over period)", "first.M@two")
    agrees(load_text(text), 9)


def test_a_fresh_draw_at_each_restart() -> None:
    text = (
        TWO.replace("fast.F(h)", "fast.F(slow.S(h))")
        .replace("UPDATE", "F - 0.1 * grad(F)")
        .replace("RESET", "4")
        .replace("DEPTH", "none")
    )
    agrees(load_text(text.replace("START", "random")), 14)
    agrees(load_text(text.replace("START", "0.5 * slow.S")), 14)


@pytest.mark.parametrize(
    "first, second",
    [("g", "g"), ("g", "momentum(g, 0.1, 0.9)"), ("g", "adam(g)"), ("W", "adam(g)")],
)
def test_a_learned_optimizer(first: str, second: str) -> None:
    agrees(
        load_text(
            LEARNED.replace("FIRST", first).replace("SECOND", second).replace("DEPTH", "4 step")
        ),
        13,
    )


def test_a_second_derivative_of_the_network_is_refused() -> None:
    with pytest.raises(Diagnostics) as raised:
        compile_program(two("F - 0.1 * grad(F)"), capture="eager")
    (finding,) = raised.value.diagnostics
    assert finding.code == "N801"
    assert finding.span is not None
    assert finding.span.text() == "grad(F)"
    assert "stop(grad(..))" in (finding.help or "")


@pytest.mark.parametrize(
    "text",
    [
        TWO.replace("UPDATE", "F + 0.3 * (slow.S - F) .* F - 0.1 * stop(grad(F))")
        .replace("RESET", "8")
        .replace("DEPTH", "full")
        .replace("START", "slow.S"),
        LEARNED.replace("FIRST", "g").replace("SECOND", "adam(g)").replace("DEPTH", "4 step"),
        seen(SIGHTS["a copy of what restarts"]),
    ],
    ids=["start", "optimizer", "copy"],
)
def test_captures_compute_the_same(text: str) -> None:
    program = load_text(text)
    plain = compile_program(program, precision="float64", capture="eager")
    for capture in ("split", "whole"):
        assert (
            max(
                apart(
                    traced(program, capture)[0], plain, [data(program, 2, 4, i) for i in range(10)]
                )
            )
            <= laws.EXACT
        ), capture


# ---- against equations written out


def newton_schulz(g: Tensor) -> Tensor:
    x = g / (g.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x - 4.7750 * a @ x + 2.0315 * a @ a @ x
    return x


def muon(g: Tensor, kept: dict[str, Tensor], n: int) -> Tensor:
    kept["m"] = 0.95 * kept.get("m", 0) - g
    return 0.05 * newton_schulz(kept["m"])


def m3(g: Tensor, kept: dict[str, Tensor], n: int, alpha: float = 0.3) -> Tensor:
    """arXiv 2512.24695v1, Alg.

    1, with f = 3: the slow momentum moves at the end of a block and is read in the next one.
    """
    kept["m"], kept["v"] = kept.get("m", 0) + 0.5 * g, kept.get("v", 0) + 0.25 * g * g
    slow, kept["sum"] = kept.get("slow", torch.zeros_like(g)), kept.get("sum", 0) + g
    if n % 3 == 0:
        kept["slow"], kept["sum"] = slow + 0.5 * kept["sum"], torch.zeros_like(g)
    return (
        -0.01 * (newton_schulz(kept["m"]) + alpha * newton_schulz(slow)) / (kept["v"].sqrt() + 1e-6)
    )


def delta(g: Tensor, kept: dict[str, Tensor], n: int) -> Tensor:
    """Eq. 49: the erase goes along the gradient."""
    m = kept.get("m", torch.zeros_like(g))
    kept["m"] = 0.9 * m - 0.05 * (m @ g.T + 0.5) @ g
    return kept["m"]


REFERENCES = {
    "muon": muon,
    "m3": m3,
    "m3 of one momentum": lambda g, kept, n: m3(g, kept, n, 0.0),
    "delta_momentum": delta,
}
TEXTS = OPTIMIZERS | {"m3 of one momentum": OPTIMIZERS["m3"].replace("0.3", "0")}


@pytest.mark.parametrize("name", REFERENCES)
def test_optimizers_of_matrices(name: str) -> None:
    program = one(f"W + {TEXTS[name]}")
    step = compile_program(program, precision="float64", capture="eager")
    state = step.init(0)
    weights = {n: w.detach().clone().requires_grad_() for n, w in state.views.items()}
    kept: dict[str, dict[str, Tensor]] = {n: {} for n in weights}
    for i in range(8):
        x = data(program, 2, 4, i)["x"]
        loss = (torch.tanh(x @ weights["A"].T) @ weights["B"].T)[:, :-1].sub(x[:, 1:]).square().sum(
            -1
        ).mean() / 10
        slopes = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
        with torch.no_grad():
            for n, w in weights.items():
                w += REFERENCES[name](slopes[n], kept[n], i + 1)
        step(state, [{"x": x}])
        for n, w in weights.items():
            assert laws.deviation(state.views[n], w) <= laws.EXACT, (i, n)


def test_one_step_of_muon_is_that_of_torch() -> None:
    """Torch computes its directions in bfloat16, and looks ahead: at the first step of any momentum
    both orthogonalise the gradient.
    """
    program = one("W + muon(grad(W), 0.05)")
    step = compile_program(program, precision="float64", capture="eager")
    state = step.init(0)
    weights = {n: w.detach().clone().requires_grad_() for n, w in state.views.items()}
    optimizer = torch.optim.Muon(
        list(weights.values()), 0.05, weight_decay=0.0, momentum=0.95, ns_steps=5
    )
    x = data(program, 2, 4, 0)["x"]
    (
        (torch.tanh(x @ weights["A"].T) @ weights["B"].T)[:, :-1]
        .sub(x[:, 1:])
        .square()
        .sum(-1)
        .mean()
        / 10
    ).backward()
    before = {n: w.detach().clone() for n, w in weights.items()}
    optimizer.step()
    step(state, [{"x": x}])
    for n, w in weights.items():
        ours, theirs = state.views[n].detach() - before[n], w.detach() - before[n]
        assert float((ours / ours.norm() - theirs / theirs.norm()).norm()) <= 2e-2, n


def test_matrices_by_one_rule_and_the_rest_by_another() -> None:
    agrees(
        load_text("""nldsl 1
import layers, optimizers
dim d = 4, vocab = 5
input ids: index(vocab)
table = embed(ids, [d])
y = swiglu(rmsnorm(table), 2 * d)
loss = cross_entropy(affine(y, [vocab]), next(ids))
level matrices every step {
    memory W: weights [a, b]
    context ids
    minimize mean(loss over period)
    W <- W + muon(grad(W), 0.02)
}
level tables every step {
    memory E: weights of table
    context ids
    minimize mean(loss over period)
    E <- E - 0.1 * grad(E)
}
level others every 2 step {
    memory V: weights
    context ids
    minimize mean(loss over period)
    V <- V + adamw(V, grad(V), lr = 0.01, decay = 0)
}
"""),
        5,
    )


UNROLLED = """nldsl 1
import layers, optimizers
dim d = 2, vocab = 3
input ids: index(vocab)
def model(ids) -> [d] {
    x = embed(ids, [d])
    return x + tanh(linear(conv(x, 2), [d]))
}
def rule(s: [2]) -> [] {
    out = affine(tanh(affine(s, [3])), [2])
    return out[0] * exp(0.1 * out[1])
}
whole = model(ids)
loss = cross_entropy(linear(whole, [vocab]), next(ids))
level training every step {
    memory W: weights of whole
    context ids
    minimize mean(loss over period)
    W <- W + 0.01 * rule(stack(stop(grad(W)), momentum(stop(grad(W)), 0.1, 0.9)))
    bptt DEPTH step by meta
}
level meta every 2 step {
    memory O: weights
    context ids
    minimize mean(loss over period)
    O <- O - 0.05 * grad(O)
}
"""


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_sight_that_ends_while_nothing_is_heard(depth: int) -> None:
    """Sequences of one token have no term: no level ticks, but the clock of `bptt` does; the
    learner still meets its own memory.
    """
    made = load_text(UNROLLED.replace("DEPTH", str(depth)))
    found = laws.agreement(
        laws.Subject(made),
        [data(made, 1, length, i) for i, length in enumerate([1, 1, 1, 5, 1, 1, 1, 5, 5, 1, 5])],
    )
    assert not laws.beyond(found)


RESTARTED = """nldsl 1
dim d = 2
input x: [d]
def net(x) -> [d] {
    level origin every 4 step {
        memory S: [d] = random
        context x
        minimize mean(loss over period)
        S <- S - 0.2 * grad(S)
        bptt none
    }
    level fast every 2 step {
        memory F: [d] = origin.S
        context x
        minimize mean(loss over period)
        F <- F - 0.1 * stop(grad(F))
        reset every RESET step
        bptt full by origin
    }
    return x + fast.F .* x
}
y = net(x)
loss = |y - next(x)|^2
"""


@pytest.mark.parametrize(
    "lengths",
    [
        [1] * 9,
        [1, 1, 1, 1, 5, 5, 5, 5, 5, 5],
        [5, 1, 1, 1, 1, 5, 5, 5, 5],
        [1, 5, 1, 5, 1, 1, 1, 5, 5, 5],
    ],
)
def test_a_learner_that_would_tick_and_has_heard_nothing(lengths: list[int]) -> None:
    """What it sees through restarts with its clock, so that nothing of the silent period is
    kept.
    """
    made = load_text(RESTARTED.replace("RESET", "4"))
    found = laws.agreement(
        laws.Subject(made), [data(made, 1, length, i) for i, length in enumerate(lengths)]
    )
    assert not laws.beyond(found)


def test_a_silent_period_that_must_be_kept_is_refused() -> None:
    made = load_text(RESTARTED.replace("RESET", "6"))
    step = compile_program(made, precision="float64", capture="eager")
    state = step.init(0)
    with pytest.raises(Diagnostics) as found:
        for i in range(8):
            step(state, [data(made, 1, 1, i)])
    assert [d.code for d in found.value.diagnostics] == ["N801"]
    assert state.step == 7
