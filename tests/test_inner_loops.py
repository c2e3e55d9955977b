"""Memories of the token clock that learn from the loss of the whole network, or from what comes one
token later.
"""

from __future__ import annotations

import pytest
import torch
from networks import TRAINING, level, network

from nldsl.diagnostic import Diagnostics
from nldsl.pipeline import compile_program, load_text
from nldsl.testing import data, laws
from nldsl.testing.captures import traced_once
from nldsl.train.drawing import Manner
from nldsl.train.sample import sample

torch.set_num_threads(1)


READ = """
    h = x + attention(rmsnorm(x), 2, 2, 3)
    return h + fast.F(rmsnorm(h))"""
TITANS = """
def titans(x: [d]) -> [d] {
    k = unit(conv(linear(x, [d]), 2))
    v = linear(x, [d])
    level recall every token {
        memory M: net = learned
        context k, v
        minimize |M(k) - v|^2
        M <- 0.9 * M - 0.1 * grad(M@near)
        bptt full
    }
    return recall.M@after(k)
}
clock near = 2 token
"""
DESCENT = """
def descent(x: [n], eta) -> [n] {
    y = layer.W * x
    level layer every token {
        memory W: [n, n] = learned
        u = -grad(loss, y)
        context x, u
        minimize |W * x - u|^2 / 2
        W <- prox(W, eta)
        bptt full
    }
    return y
}
"""


def in_a_row(periods: str, depth: str) -> str:
    """Levels of these periods, each of which reads what the one before it made."""
    learner = level("ffn[p]", "p token", "F - 0.5 * grad(F)", depth, "sum(loss over period)")
    return network(f"""
    for p in {periods} {{{learner}
        x <- x + ffn[p].F(rmsnorm(x))
    }}
    return x""")


SPECS = {
    "one": network(level("fast", "2 token", "F - 0.5 * grad(F)") + READ),
    "two layers": network(level("fast", "3 token", "F - 0.5 * grad(F)") + READ, 2),
    "momentum": network(
        level("fast", "2 token", "0.9 * F + momentum(grad(F), mean(rate over period), 0.5)")
        + "\n    rate = 0.5 * sigmoid(affine(x, []))"
        + READ
    ),
    "every token": network(level("fast", "token", "F - 0.5 * grad(F)", objective="loss") + READ),
    "held": network(
        "\n    "
        + level("fast", "2 token", "F - 0.5 * grad(F)", "full").strip()
        + """
    return x + fast.F(rmsnorm(x)) + fast.F@wide(x)""",
        head="clock wide = 4 token",
    ),
    "none": network(level("fast", "2 token", "F - 0.5 * grad(F)", "none") + READ),
    "blocks": network(level("fast", "2 token", "F - 0.5 * grad(F)", "4 token") + READ),
    "reset": network(
        level("fast", "2 token", "F - 0.5 * grad(F)", more="reset every 4 token") + READ
    ),
    "reset at a cut": network(
        level("fast", "2 token", "F - 0.5 * grad(F)", "4 token", more="reset every 4 token") + READ
    ),
    "phase": network(level("fast", "3 token phase 1", "F - 0.5 * grad(F)") + READ),
    "own term": network(
        level(
            "fast",
            "2 token",
            "F - 0.5 * grad(F)",
            objective="sum(loss over period) + 0.1 * |F.W1|^2",
        )
        + READ
    ),
    "sequential": in_a_row("[2, 4]", "full by training"),
    "uneven": in_a_row("[2, 3]", "full by training"),
    "seen": in_a_row("[2, 4]", "full"),
    "independent": network(
        """
    y = 0
    for p in [1, 2, 4] {"""
        + level(
            "ffn[p]", "p token", "F - 0.1 * grad(F)", "full by training", "sum(loss over period)"
        )
        + """
        y <- y + weight([], init = 1) * ffn[p].F(rmsnorm(x))
    }
    return x + y"""
    ),
    "inside": network(
        level("fast", "2 token", "F - 0.5 * grad(F)")
        + """
    h = x + titans(rmsnorm(x))
    return h + fast.F(rmsnorm(h))""",
        2,
        TITANS,
    ),
    "dgd": network(
        """
    return x + descent(rmsnorm(x), 0.5)""",
        2,
        DESCENT,
    ),
    "same pace": network(
        level("fast", "token", "F - 0.5 * grad(F)", objective="loss")
        + """
    h = x + fast.F(rmsnorm(x))
    return h + titans(rmsnorm(h))""",
        1,
        TITANS.replace("M@after(k)", "M(k)"),
    ),
    "never": network(
        level("fast", "token", "F - 0.5 * grad(F)", "none", "loss", "reset never") + READ
    ),
    "adamw": network(
        level("fast", "2 token", "F + adamw(F, clip(grad(F), 1), lr = 0.1, decay = 0.1)") + READ
    ),
    "muon": network(
        level("fast", "2 token", "F + muon(grad(F), 0.1)", memory="[d, d] = learned")
        + """
    return x + fast.F * rmsnorm(x)"""
    ),
    "m3": network(
        level(
            "fast",
            "2 token",
            "F + m3(grad(F), 0.1, 0.5, 0.1, 0.1, 0.1, 0.1, 2)",
            memory="[d, d] = learned",
        )
        + """
    return x + fast.F * rmsnorm(x)"""
    ),
    "heads": network(
        """
    level fast per head every 2 token {
        memory F: [e, e] = learned
        context ids
        minimize mean(loss over period)
        F <- F - 0.5 * grad(F)
        bptt full
    }
    q = linear(rmsnorm(x), [head, e])
    return x + linear(fast.F * q, [d])""",
        head="dim head = 2, e = 2",
    ),
    "gated": network(
        """
    g = sigmoid(affine(x, []))"""
        + level("fast", "2 token", "F - 0.5 * grad(F)", objective="sum(g * loss over period)")
        + READ
    ),
    "late": network(
        """
    s = sum(x@wide .^ 2)"""
        + level("fast", "2 token", "F - 0.5 * grad(F)", objective="sum(s * loss over period)")
        + READ,
        2,
        "clock wide = 3 token",
    ),
    "last two": network(
        level("fast", "4 token", "F - 0.5 * grad(F)", objective="sum(loss over 2 token)") + READ
    ),
    "no next": network("""
    h = stop(rmsnorm(x))
    level fast every 2 token {
        memory F: net = learned
        context h
        minimize sum(|y - h|^2 over period)
        F <- F - 0.1 * grad(F)
        bptt full
    }
    y = linear(fast.F(h), [d])
    return x + y"""),
    "forecast": f"""nldsl 1
import layers, optimizers
dim channel = 2, d = 4
clock chunk = 3 token
input x: [channel]
def net(z: [d]) -> [channel] {{
    W2 = weight([2 * d, d])
    W1 = weight([channel, 2 * d])
    return W1 * gelu(W2 * z)
}}
def forecaster(h: [d], x: [channel]) -> [channel] {{
    rate = 0.1 * sigmoid(affine(h, []))
    keep = sigmoid(affine(h, []) + 6)
    level online every token {{
        memory M: net = learned
        context h, x
        minimize |M(h) - next(x)|^2 / 2
        M <- keep * M - rate * grad(M@chunk)
        bptt full
    }}
    return online.M(h)
}}
def model(x: [channel]) -> [channel] {{
    h = conv(affine(x, [d]), 4)
    h <- h + swiglu(rmsnorm(h), 4 * d)
    return forecaster(rmsnorm(h), x)
}}
loss = |model(x) - next(x)|^2
{TRAINING.replace("context ids", "context x")}""",
}
CUT = (
    "none",
    "blocks",
    "never",
    "no next",
)  # a derivative is hidden from training: differences find another


def subject(name: str) -> laws.Subject:
    return subject_of(SPECS[name])


def subject_of(text: str) -> laws.Subject:
    return laws.Subject(load_text(text))


@pytest.mark.parametrize("name", SPECS)
def test_emitted_source_is_what_the_text_means(name: str) -> None:
    """Streams, memories, copies and gradients, over two steps; in pieces, token by token, and
    without a look at later tokens.
    """
    made = subject(name)
    program = made.program
    for lengths in (
        ((9, 6), (1, 4)) if name != "never" else ((9, 6),)
    ):  # one token has no loss, and a step without one hides no past
        found = laws.agreement(made, [data(program, 2, n, i) for i, n in enumerate(lengths)])
        assert not laws.beyond(found)
    batch = data(program, 2, 9, 3)
    assert laws.splits(made, batch) <= laws.EXACT
    assert laws.causality(made, batch, 5) == 0.0
    assert laws.independence(made, batch) == 0.0
    assert made.step.emitted.lowering


LOCAL = """nldsl 1
dim d = 2
clock span = 3 token
input s: [d]
level layer every token {
    memory W: [d, d] = learned
    u = -grad(loss, y)
    context s, u
    minimize |W * s - u|^2 / 2
    W <- W - 0.1 * grad(W)
    bptt none
}
y = layer.W * s
z = READ
loss = |z - next(s)|^2 / 2
level training every step {
    memory P: weights
    context s
    minimize mean(loss over period)
    P <- P - 0.1 * grad(P)
}
"""


@pytest.mark.parametrize(
    "read",
    [
        "mean(y over 2 token)",
        "y .* sum(tanh(y) over 3 token)",
        "y + mean(y over span)",
        "tanh(y) .* sum(tanh(y) over span)",
        "y + y@span",
        "softmax(mean(y over 2 token)) + attend(s, y -> y over 2 token)",
        "attend(y, y -> y over 2 token) + mean(y over span)",
        "attend(y, y -> y over sequence) + y@span",
    ],
)
def test_a_slope_in_a_stream_is_of_this_token_alone(read: str) -> None:
    """What a stretch, a copy or attention took of the stream at earlier tokens is held."""
    made = subject_of(LOCAL.replace("READ", read))
    found = laws.agreement(made, [data(made.program, 2, n, 3) for n in (9, 4)])
    assert not laws.beyond(found)


def test_a_slope_through_a_mean_by_hand() -> None:
    made = subject_of(LOCAL.replace("READ", "mean(y over 2 token)"))
    x = data(made.program, 2, 6, 3)["s"]
    W = made.state.views["layer.W.start"].detach().expand(2, 2, 2)
    said, before = [], None
    for t in range(6):
        y = torch.einsum("bij,bj->bi", W, x[:, t]).requires_grad_()
        z = y if before is None else (y + before) / 2
        said.append(z.detach())
        if t < 5:
            loss = ((z - x[:, t + 1]) ** 2).sum() / 2
            u = -torch.autograd.grad(loss, y)[0]
            W = W - 0.1 * torch.einsum("bi,bj->bij", y.detach() - u, x[:, t])
        before = y.detach()
    torch.testing.assert_close(
        made.forward({"s": x})[0]["z"].detach(), torch.stack(said, 1), rtol=1e-12, atol=1e-12
    )


RECALL = """level recall every token {
    memory M: [d, d] = learned
    context s
    minimize |M * s - s|^2 / 2
    M <- M - 0.1 * grad(M)
    bptt full
}
"""


def test_a_slope_in_a_stream_that_an_objective_computes_too() -> None:
    """`recall.M * s` is the stream and a part of the objective of `recall`: one line of the step,
    two places of the derivative.
    """
    text = LOCAL.replace("READ", "y + attend(h, h -> h over 2 token)")
    made = subject_of(
        text.replace("grad(loss, y)", "grad(loss, h)").replace(
            "y = layer.W * s", RECALL + "h = recall.M * s\ny = h + layer.W * s"
        )
    )
    found = laws.agreement(made, [data(made.program, 2, n, 3) for n in (9, 4)])
    assert not laws.beyond(found)


@pytest.mark.parametrize("name", [n for n in SPECS if n not in CUT])
def test_gradient_by_differences(name: str) -> None:
    made = subject(name)
    assert laws.slope(made, data(made.program, 2, 7, 1)) <= laws.DIFFERENCE


def is_one_graph_a_function(name: str, capture: str, length: int) -> None:
    program = load_text(SPECS[name])
    plain = compile_program(program, precision="float64", capture="eager")
    given = [data(program, 2, length, i) for i in range(2)]
    assert traced_once(plain, capture, given) <= laws.EXACT


CAPTURED = ("seen", "dgd", "forecast", "never")


@pytest.mark.parametrize(
    "name, capture",
    [
        *((name, "split") for name in CAPTURED),
        *((name, "whole") for name in CAPTURED if name != "dgd"),  # a minute, in the soak
    ],
)
def test_each_capture_is_one_graph_a_function(name: str, capture: str) -> None:
    is_one_graph_a_function(name, capture, 5)


@pytest.mark.soak
@pytest.mark.parametrize("capture", ["split", "whole"])
@pytest.mark.parametrize("name", CAPTURED)
def test_each_capture_of_longer_texts_is_one_graph(name: str, capture: str) -> None:
    is_one_graph_a_function(name, capture, 9)


def test_generated_tokens_are_learned_from() -> None:
    """The next token is sampled, then the tick that waited for it is performed: the same as reading
    the tokens at once.
    """
    made = subject("one")
    step, prompt = made.step, data(made.program, 1, 3, 0)["ids"]
    generated, _ = sample(step, made.state, prompt[0].tolist(), 6, 0, Manner(temperature=0))
    whole = torch.cat([prompt, torch.tensor([generated])], 1)
    best = made.forward({"ids": whole})[0]["answer"].argmax(-1)[0, 2:-1]
    assert best.tolist() == generated


@pytest.mark.parametrize(
    "words, message",
    [
        (
            network(
                level("fast", "token", "F - 0.5 * grad(F)", objective="loss")
                + """
    h = x + fast.F(rmsnorm(x))
    return h + titans(rmsnorm(h))""",
                1,
                TITANS,
            ),
            "too fast to see through",
        ),
        (
            network(
                level("fast", "2 token", "F - 0.5 * grad(F)", "full by training") + READ,
                learner=TRAINING
                + TRAINING.replace("training", "other").replace("weights", "weights of answer.x"),
            ),
            "differs between learners",
        ),
        (
            network(
                level("fast", "2 token", "F - 0.5 * grad(F)", "none", more="reset never") + READ
            ),
            "goes on in the next sequence",
        ),
    ],
)
def test_what_cannot_run_is_said(words: str, message: str) -> None:
    with pytest.raises(Diagnostics) as error:
        compile_program(load_text(words), capture="eager")
    assert (
        message in error.value.diagnostics[0].message and error.value.diagnostics[0].code == "N801"
    )
