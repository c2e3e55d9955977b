"""Systems that are the same thing said in two ways: one text is edited into the other, and both
give the same losses and slopes.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from family import SPECS, subject, text, tiny
from torch import Tensor

from nldsl.pipeline import compile_program, load_text
from nldsl.testing import data, laws

torch.set_num_threads(1)


def edited(name: str, *edits: tuple[str, str], **sets: object) -> laws.Subject:
    words = text(name)
    for old, new in edits:
        assert old in words, old
        words = words.replace(old, new)
    return laws.Subject(tiny(name, words, **sets))


def apart(
    one: laws.Subject, other: laws.Subject, named: Mapping[str, str] | None = None
) -> tuple[float, float]:
    """From equal weights, those of `other` called as in `one` but for `named`: the deviation of the
    losses, and of the slopes.
    """
    named, batch = named or {}, data(one.program, 2, 9, 0)
    with torch.no_grad():
        for name, weight in other.state.views.items():
            weight.copy_(one.state.views[named.get(name, name)])
    values = laws.deviation(other.forward(batch)[0]["loss"], one.forward(batch)[0]["loss"])
    mine, its = one.gradients(batch), other.gradients(batch)
    return values, max(laws.deviation(its[name], mine[named.get(name, name)]) for name in its)


def same(*args: object) -> None:
    assert max(apart(*args)) <= laws.EXACT


DELTA = "minimize |M * k - v|^2 / 2"


def test_linear_attention_is_one_step_of_test_time_training() -> None:
    """Batch gradient descent, step size 1/2, zero start; 2407.04620, Thm.

    1. All gradients are taken at the start.
    """
    same(
        subject("linear_attention"),
        edited(
            "linear_attention",
            ("minimize -<M * k, v>", "minimize |M * k - v|^2"),
            ("grad(M)", "grad(M@batch) / 2"),
            ("depth = 6", "depth = 6\nclock batch = 1000 token"),
        ),
    )


def test_test_time_training_in_batches_of_one_is_the_delta_rule() -> None:
    same(
        subject("deltanet"),
        edited(
            "deltanet",
            ("grad(M)", "grad(M@batch)"),
            ("depth = 6", "depth = 6\nclock batch = 1 token"),
        ),
    )


def test_the_delta_rule_is_a_windowed_objective_of_one_token() -> None:
    """2505.23735, Eq. 9 with c = 1; with two tokens it is another rule."""
    same(
        subject("deltanet"),
        edited("deltanet", (DELTA, "minimize sum(|M * k - v|^2 / 2 over 1 token)")),
    )
    assert (
        apart(
            subject("deltanet"),
            edited("deltanet", (DELTA, "minimize sum(|M * k - v|^2 / 2 over 2 token)")),
        )[0]
        > 1e-3
    )


TITANS = (
    ("memory M: net = learned", "memory M: [e, e] = 0"),
    ("minimize |M(k) - v|^2", "minimize |M * k - v|^2 / 2"),
    ("recall.M@after(q)", "recall.M@after * q"),
    ("rate = 0.01 * (1 - decay) .* sigmoid", "rate = sigmoid"),
    ("forget = sigmoid(affine(x, [head]) - 6)", "forget = sigmoid(affine(x, [head]) + 4)"),
    ("decay = sigmoid(affine(x, [head]))", "decay = 0"),
    (".* sigmoid(linear", ".* silu(linear"),
)
GATED = {
    f"loss.layer[0].mixer.{mine}": f"loss.layer[0].mixer.{its}"
    for mine, its in (
        ("rate", "beta"),
        ("rate.bias", "beta.bias"),
        ("forget", "alpha"),
        ("forget.bias", "alpha.bias"),
        ("rmsnorm", "y"),
    )
}


def test_titans_with_a_matrix_and_without_momentum_is_gated_deltanet() -> None:
    """2501.00663, App. C: the decay is applied before the gradient is taken, or after."""
    titans = ("1 - forget", "forget")  # Gated DeltaNet's gate keeps
    after, before = (
        ("M <- (forget) * M + S", "M <- (forget) * M + S"),
        ("M <- (forget) * M + S", "M <- M + S"),
    )
    late = edited("titans", *TITANS, titans, after, chunk=1)
    early = edited(
        "titans",
        *TITANS,
        titans,
        before,
        ("S = momentum(grad(M@chunk)", "M <- forget * M\n S = momentum(grad(M)"),
    )
    same(subject("gated_deltanet"), early, GATED)
    assert apart(subject("gated_deltanet"), late, GATED)[0] > 1e-4
    same(
        edited(
            "gated_deltanet",
            ("M <- alpha * M ", "a = alpha "),
            ("M <- M - beta", "M <- alpha * M - beta"),
        ),
        late,
        GATED,
    )


def test_newtons_step_is_the_minimiser_over_all_pairs() -> None:
    """2505.23735, Eq. 14: kept up token by token, or solved anew from the objective of the whole
    sequence.
    """
    same(
        subject("mesa"),
        edited(
            "mesa",
            ("        memory P: [e, e] = I / ridge ", "#"),
            ("        u = P * k\n", ""),
            ("        P <- P", "#"),
            (DELTA, "minimize sum(|M * k - v|^2 / 2 over sequence)"),
            ("M <- M - grad(M) * P", "M <- prox(0, 1 / ridge)"),
        ),
    )


@pytest.mark.parametrize(
    "name", ["ttt_linear", "ttt_mlp", "titans", "yaad", "memora", "omeganet", "atlas"]
)
def test_chunks_of_one_token_are_exact(name: str) -> None:
    """The gradient at the chunk's start, in chunks of one token, is the gradient where the memory
    is.
    """
    exact = edited(name, ("@chunk)", ")"), *((("W@chunk(k)", "W(k)"),) if name == "yaad" else ()))
    same(edited(name, chunk=1), exact)
    assert apart(exact, edited(name, chunk=3))[0] > 1e-9


BLOCK = {
    f"loss.layer[0].{its}": f"loss.layer[0].{mine}"
    for its, mine in (
        *((f"swiglu.{w}", f"continuum.ffn[1].F.{w}") for w in ("gate", "up", "down")),
        ("rmsnorm2", "continuum.p[1].rmsnorm"),
        *((f"mixer.{w}", f"attention.{w}") for w in ("q", "k", "v", "linear")),
    )
}


def test_a_continuum_that_does_not_learn_is_a_transformer() -> None:
    """Rate 0: the blocks are bit-still whatever their period, and one block is the feed-forward net
    of a transformer.
    """
    words = (
        text("hope_attention").replace(
            "import layers, continuum, optimizers", "import layers, optimizers"
        )
        + STILL
    )
    made = load_text(
        words,
        "still.nl",
        {
            k: str(v)
            for k, v in {
                "d": 8,
                "head": 2,
                "vocab": 5,
                "depth": 1,
                **SPECS["hope_attention"].sizes,
            }.items()
        },
    )
    step = compile_program(made, precision="float64", capture="eager")
    state = step.init(0)
    before = {n: x.clone() for n, x in state.views.items()}
    for i in range(4):
        step(state, [data(made, 2, 6, i)])
    assert all(torch.equal(before[n], x) == ("ffn[" in n) for n, x in state.views.items())
    same(edited("hope_attention", periods=[1]), subject("transformer_swa"), BLOCK)


def test_a_continuum_of_the_token_clock_that_does_not_learn_is_static() -> None:
    """Rate 0: every token reads the learned starts, as one that never ticks within the sequence
    would.
    """
    static = edited("cms_tokens", rate=0)
    idle = edited("cms_tokens", rate=0.5, spans=[100, 200, 400])
    same(static, idle, {name: name.replace("00]", "]") for name in idle.state.views})
    assert apart(static, edited("cms_tokens"))[0] > 1e-6


STILL = """
def continuum(x: [d], ids, periods) -> [d] {
    for p in periods {
        level ffn[p] every p step {
            memory F: swiglu([d], hidden = 4 * d) = random
            context ids
            minimize mean(loss over period)
            F <- F + adamw(F, grad(F), lr = 0, decay = 0)
            bptt none
        }
        x <- x + ffn[p].F(rmsnorm(x))
    }
    return x
}
"""
MATRIX = """nldsl 1
import optimizers
dim a = 4, b = 4
input G: [a, b]
y = newton_schulz(G)
level still every token {
    memory M: [a, b] = 0
    M <- orthogonalise(G)
}
z = still.M@after - G
loss = sum((y + z - weight([a, b])) .^ 2)
level training every step {
    memory W: weights
    context G
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}
"""


def polynomial(s: Tensor, times: int = 5) -> Tensor:
    for _ in range(times):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


def test_newton_schulz_keeps_directions() -> None:
    """It moves singular values alone, by the polynomial; those of a rotation are equal and stay
    equal. The same box as a level of gradient descent (2512.24695, Eqs. 43, 44) leaves a rotation
    as it is: its fixed point.
    """
    made = laws.Subject(load_text(MATRIX, "matrix.nl"))
    draw = torch.randn(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    U, s, V = torch.linalg.svd(draw)
    found = made.forward({"G": draw})[0]
    assert found["z"].abs().max() > 1e-3
    assert (
        laws.deviation(
            found["y"], U @ torch.diag_embed(polynomial(s / s.norm(dim=-1, keepdim=True))) @ V
        )
        <= 1e-6
    )  # the 1e-7 beside the norm
    rotation = U @ V
    found = made.forward({"G": rotation})[0]
    assert (
        laws.deviation(found["y"], polynomial(torch.tensor(0.5, dtype=torch.float64)) * rotation)
        <= 1e-6
    )
    assert found["z"].abs().max() <= laws.EXACT
    assert ((polynomial(torch.linspace(0.1, 1.0, 50)) - 1).abs() < 0.35).all()
