"""Recurrences on the token clock: what stands between a memory's read and its tick, and how a piece
of tokens is computed.

Each program is held against the slow interpreter (streams, memories, held copies, gradients, two
steps), cut at every token, and edited at later tokens and in other lanes.
"""

from __future__ import annotations

import pytest
import torch
from recurrences import HEAD, TAIL, holds, memory, model

from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostics
from nldsl.pipeline import compile_program, load_text
from nldsl.testing import data, laws
from nldsl.testing.captures import traced_once

torch.set_num_threads(1)


OPTIMIZERS = {
    "sgd": "sgd(G, rate)",
    "momentum": "momentum(G, rate, 0.9)",
    "nesterov": "nesterov(G, 0.1, 0.9)",
    "adam": "rate * adam(G)",
    "adamw": "adamw(M, G, 0.1, 0.1)",
    "adagrad": "adagrad(G, 0.1, 1e-3)",
    "muon": "muon(G, 0.1)",
    "orthogonalise": "-0.1 * orthogonalise(0.3 * G)",
    "delta_momentum": "delta_momentum(0.3 * G, 0.3 * G, 0.1, 0.9)",
    "deep_momentum": "0.1 * deep_momentum(G, 0.1, 0.9)",
    "m3": "m3(G, 0.1, 0.5, 0.1, 0.1, 0.1, 1e-3, 2)",
    "clip": "-0.1 * clip(G, 0.5)",
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind,at", [("net", "M"), ("matrix", "M@chunk")])
def test_library_optimizers_inside_a_memory(name: str, kind: str, at: str) -> None:
    """The optimizers of the library are levels: within a sequence they restart with the memory
    whose update calls them.
    """
    step = OPTIMIZERS[name].replace("G", f"grad({at})")
    holds(model(memory(kind, f"M <- keep * M + {step}")))


def test_ticks_are_counted_from_the_reset() -> None:
    """Adam's corrections begin again with its memory, and count the ticks of a level that ticks
    every second token.
    """
    body = memory(
        "matrix",
        "M <- 0.9 * M + 0.1 * adam(mean(grad(M) over period))",
        "reset every 4 token bptt full",
        "2 token",
    )
    holds(model(body), length=9)


# Between a memory's read and its tick: `h` was read from the memory, `k` and `v` are what it is
# written with.
BETWEEN = {
    "attention over the chunk": "a = attend(rope(q), rope(k) -> v over chunk, K * h -> V * h over "
    "chunk)",
    "attention over the last tokens": "a = attend(q, k -> K * h over 2 token)",
    "attention over the sequence": "a = attend(q, K * P -> V * P, rope(K * h) -> V * h over "
    "sequence)",
    "convolution": "a = linear(conv(h, 3), [head, e])",
    "window": "a = linear(mean(h over 3 token), [head, e]) + linear(sum(x over 2 token), [head, "
    "e])",
}


@pytest.mark.parametrize("name", BETWEEN)
@pytest.mark.parametrize("read", ["recall.M@chunk(q)", "recall.M(q)"])
def test_what_looks_back_inside_a_recurrence(name: str, read: str) -> None:
    """Titans 2501.00663v1, sec. 4.1: the memory is written with what attention made of what was
    read from it. A held read leaves the piece batched; a fresh one is computed token by token, and
    keeps the same rows of earlier tokens.
    """
    body = f"""
    P = weight([3, d])
    K = weight([head, e, d])
    V = weight([head, e, d])
    h = linear({read}, [d])
    {BETWEEN[name]}
    w = unit(a)
    level recall per head every token {{
        memory M: net = learned
        context w, v
        minimize |M(w) - v|^2
        M <- keep * M + momentum(grad(M@chunk), rate, 0.5)
        bptt full
    }}
    seen = recall.M@after(unit(linear(flat(a), [head, e])))
    return linear(rmsnorm(a), [d]) .* silu(linear(seen, [d]))"""
    (way,) = holds(model(body))
    assert way.startswith("dual form" if "@chunk" in read else "scan")
    assert ("attention inside" in way) == ("attend" in BETWEEN[name] and "@chunk" in read)


WINDOWED = {
    "linear": (
        "sum(rate * |M(k) - v|^2 over 2 token)",
        "grad(M@chunk)",
        "windowed objectives as bands",
    ),
    "momentum and orthogonal steps": (
        "mean(|M(k) - v|^2 over 3 token)",
        "-0.1 * newton_schulz(momentum(grad(M@chunk), 1, 0.9))",
        "windowed objectives as bands",
    ),
    "at the moving memory": ("sum(|M(k) - v|^2 over 2 token)", "0.1 * grad(M)", "scan"),
    "not linear in the window": (
        "sqrt(mean(|M(k) - v|^2 over 3 token) + 0.1)",
        "0.1 * grad(M@chunk)",
        "scan",
    ),
    "vectors": ("|mean(M(k) - v over 3 token)|^2", "0.1 * grad(M@chunk)", "scan"),
    "all of the sequence": ("mean(|M(k) - v|^2 over sequence)", "0.1 * grad(M)", "scan"),
    "since a clock": ("sum(|M(k) - v|^2 over chunk)", "0.1 * grad(M)", "scan"),
    "two stretches": (
        "sum(|M(k) - v|^2 over chunk) * mean(|M(k)|^2 over 2 token)",
        "0.01 * grad(M@chunk)",
        "scan",
    ),
}


@pytest.mark.parametrize("name", WINDOWED)
def test_objectives_over_a_stretch(name: str) -> None:
    """Atlas 2505.23735, Eqs. 9 and 32: the terms of a stretch at the memory of this instant, each
    with its own data. At a frozen anchor each term's gradient is computed once.
    """
    objective, step, way = WINDOWED[name]
    context = memory("net", f"M <- keep * M - {step}", objective=objective)
    if "rate" in objective:
        context = context.replace("context k, v", "context k, v, rate")
    (found,) = holds(model(context))
    assert way in found


def test_a_level_that_ticks_once_a_chunk() -> None:
    """LaCT 2505.23884, Eqs. 4 to 9: gradients summed over the chunk, the orthogonal step once;
    applied before it is updated.
    """
    body = """
    level recall per head every chunk {
        memory f: net = learned
        context k, v
        minimize -<f(k), v>
        S = momentum(sum(rate * grad(f) over period), 1, mean(keep over period))
        f <- f + 0.1 * newton_schulz(S)
        bptt full
    }
    return linear(rmsnorm(recall.f(q) + attend(rope(q), rope(k) -> v over 3 token)), [d])"""
    assert holds(model(body), 8) == {
        "one update per chunk: the gradients of its tokens by batched products"
    }
    assert holds(model(body.replace("every chunk", "every 2 token phase 1")), 8)
    fresh = body.replace("recall.f(q)", "recall.f@after(q)")
    assert "scan: token by token" in next(iter(holds(model(fresh), 8)))


def test_one_wide_and_several_local_memories() -> None:
    """TNT 2511.07343, Eqs. 5 to 7: local memories restart with each shard, and each is one more
    region of pieces.
    """
    top = "clock shard = 4 token"
    body = """
    level shared per head every shard {
        memory V: net = learned
        context k, v, rate
        minimize sum(rate * |V(k) - v|^2 over period)
        V <- V - grad(V)
        bptt full
    }
    y = shared.V(q)
    for C in [2, 4] {
        clock near = C token
        level local[C] per head every token {
            memory W: net = learned
            memory P: [e, e] = 0
            context k, v
            minimize |W(k) - v|^2
            P <- P + k * k^T
            W <- W - rate * grad(W@near)
            reset every shard
            bptt full
        }
        y <- y + local[C].W@after(local[C].P@after * q)
    }
    return linear(rmsnorm(y), [d])"""
    ways = holds(model(body, top), 9)
    assert {way.split(":")[0] for way in ways} == {"one update per chunk", "dual form"}


@pytest.mark.parametrize("capture", ["split", "whole"])
def test_no_graph_break_where_a_recurrence_looks_back(capture: str) -> None:
    body = """
    K = weight([head, e, d])
    h = linear(recall.M@chunk(q), [d])
    w = unit(attend(rope(q), K * h -> K * x over chunk))
    level recall per head every token {
        memory M: net = learned
        context w, v
        minimize sum(|M(w) - v|^2 over 2 token)
        M <- keep * M - rate * grad(M@chunk)
        bptt full
    }
    return linear(rmsnorm(recall.M@after(w)), [d])"""
    program = model(body)
    plain = compile_program(program, precision="float64", capture="eager")
    assert traced_once(plain, capture, [data(program, 2, 7, i) for i in range(2)]) <= laws.EXACT


WY, WIDE = "erases solved in WY form", "a decay for each channel"
DELTA, DOT = "|M * k - v|^2 / 2", "-<M * k, v>"
MATRICES = {
    "delta rule": (DELTA, "M <- M - rate * grad(M)", "M@after * q", WY),
    "gated, decayed first": (DELTA, "M <- keep * M  M <- M - rate * grad(M)", "M@after * q", WY),
    "the square without its half": ("|M * k - v|^2", "M <- keep * M - rate * grad(M)", "M * q", WY),
    "an implicit step": (DELTA, "M <- prox(M, rate)", "M@after * q", WY),
    "several erases a token": (
        DELTA,
        "for i in range(2) { M <- M - rate * grad(M)  M <- keep * M + 0.1 * q * k^T }",
        "M@after * q",
        WY,
    ),
    "several keys a token": (
        "|M * k - v|^2 + |M * q - k|^2",
        "M <- keep * M - rate * grad(M)",
        "M@after * q",
        f"{WY}, 2 a token",
    ),
    "a step for each of several keys": (
        DELTA,
        "for u in [k, q] { minimize |M * u - v|^2 / 2  M <- M - rate * grad(M) }",
        "M@after * q",
        f"{WY}, 2 a token",
    ),
    "channels": (DOT, "M <- M * diag(a) - grad(M)", "M@after * q", WIDE),
    "channels, transposed read": (DOT, "M <- M * diag(a) - grad(M)", "M^T * q", WIDE),
    "channels and heads, two reads": (
        DOT,
        "M <- keep * M * diag(a) - rate * grad(M)",
        "M@after * q + recall.M@chunk * q",
        WIDE,
    ),
    "channels, then an erase": (
        DELTA,
        "M <- M * diag(a)  M <- M - rate * grad(M)",
        "M@after * q",
        f"{WIDE}, {WY}",
    ),
    "an erase, then channels": (
        DELTA,
        "M <- M - rate * grad(M)  M <- M * diag(a)",
        "M@after * q",
        f"{WIDE}, {WY}",
    ),
    "channels and an erase in one matrix": (
        DELTA,
        "M <- M * (keep * diag(a) - 0.1 * k * k^T) - rate * grad(M)",
        "M@after * q",
        f"{WIDE}, {WY}",
    ),
    "channels and several erases": (
        DELTA,
        "for i in range(2) { M <- M - rate * grad(M)  M <- M * diag(a) + v * q^T }",
        "M * q",
        WIDE,
    ),
    "channels of a velocity's sum": (
        DOT,
        "M <- M * diag(a) + momentum(grad(M), rate, 0.5)",
        "M@after * q",
        WIDE,
    ),
    "channels, the whole memory read": (
        DOT,
        "M <- M * diag(a) - grad(M)",
        "M@after * q + softmax(recall.M@after) * q",
        WIDE,
    ),
}


@pytest.mark.parametrize("name", MATRICES)
def test_matrices_by_pieces(name: str) -> None:
    """DeltaNet, Gated DeltaNet, DeltaProduct, Longhorn's implicit step, gated linear attention: no
    state for each token.
    """
    objective, update, read, way = MATRICES[name]
    clause = "" if update.startswith("for u") else f"minimize {objective}"
    body = f"""
    a = sigmoid(affine(x, [head, e]) + 1)
    level recall per head every token {{
        memory M: [e, e] = learned
        context k, v{", q" if "* q" in objective or "for u" in update else ""}
        {clause}
        {update}
        bptt full
    }}
    return linear(rmsnorm(recall.{read}), [d])"""
    (found,) = holds(model(body))
    assert way in found


HELD = [
    "mean(x@chunk over 2 token)",
    "sum(linear(x@chunk, [d]) over 5 token)",
    "mean(linear(x@chunk, [d]) over sequence)",
    "mean(x@chunk over chunk)",
    "flat(attend(q, k -> v, q@chunk -> v over 2 token))",
    "flat(attend(q, k -> v over 2 token, q@chunk -> v@chunk))",
    "mean(conv(x@chunk, 3) over 4 token)",
    "mean(x@later over 2 token)",
    "mean(rope(x@chunk) over 3 token)",
]


@pytest.mark.parametrize("text", HELD)
def test_streams_held_at_a_clock(text: str) -> None:
    """`x@c` has no value before the first tick of `c`: windows pass over it, and what is made of it
    begins when it does.
    """
    holds(model(f"    return linear(rmsnorm(x), [d]) + {text}", "clock later = 2 token phase 3"), 9)


def test_a_loss_that_begins_late() -> None:
    text = (HEAD + "    return x" + TAIL).replace(
        "loss = cross", "z = linear(embed(ids, [d]), [d])\nloss = |z@chunk - next(z)|^2 + cross"
    )
    program = load_text(text)
    holds(program, 9)
    holds(program, 5)
    subject = laws.Subject(program)
    batch = data(program, 2, 3, 0)
    assert subject.forward(batch)[0]["loss"].shape[1] == 0
    assert not laws.agreement(subject, [batch])["step 1 training.W"] > 0


LATE = {
    "matrix": (
        "token",
        "[e, e]",
        "|M * k - w|^2 / 2",
        "M <- keep * M - rate * grad(M)",
        "M@after * q",
    ),
    "adam": (
        "token",
        "[e, e]",
        "|M * k - w|^2 / 2",
        "M <- keep * M + rate * adam(grad(M))",
        "M@after * q",
    ),
    "momentum": (
        "token",
        "net",
        "|M(k) - w|^2 / 2",
        "M <- keep * M + momentum(grad(M@chunk), rate, 0.9)",
        "M@after(q)",
    ),
    "window of objectives": (
        "2 token",
        "net",
        "mean(|M(k) - w|^2 / 2 over period)",
        "M <- 0.9 * M - grad(M)",
        "M(q)",
    ),
    "window of gradients": (
        "2 token",
        "net",
        "|M(k) - w|^2 / 2",
        "M <- 0.9 * M - mean(grad(M) over period)",
        "M(q)",
    ),
    "band": (
        "token",
        "net",
        "sum(|M(k) - w|^2 / 2 over 3 token)",
        "M <- keep * M - rate * grad(M@chunk)",
        "M@after(q)",
    ),
    "replay": (
        "token",
        "net",
        "sum(|M(k) - w|^2 / 2 over 3 token)",
        "M <- keep * M - rate * grad(M)",
        "M@after(q)",
    ),
}


@pytest.mark.parametrize("name", LATE)
def test_a_tick_without_a_term_is_skipped(name: str) -> None:
    """Nothing decays, no optimizer ticks, nothing is counted before the objective has its first
    term; a window goes on.
    """
    rate, kind, objective, update, read = LATE[name]
    holds(
        model(f"""
    w = v@chunk
    level recall per head every {rate} {{
        memory M: {kind} = learned
        context k, w
        minimize {objective}
        {update}
        bptt full
    }}
    return linear(rmsnorm(recall.{read}), [d])"""),
        9,
    )


def beside(order: str, clauses: str) -> Program:
    """A memory and a level of the step clock with weights of its own, in front of it or behind."""
    block = """
def block(x: [d], ids) -> [d] {
    level ffn every 2 step {
        memory F: swiglu([d], hidden = d) = random
        context ids
        minimize mean(loss over period)
        F <- F - 0.1 * grad(F)
    }
    return x + ffn.F(rmsnorm(x))
}"""
    text = (
        HEAD.replace("def mixer", block + "\ndef mixer")
        + memory("matrix", "M <- keep * M - rate * grad(M)", clauses)
        + TAIL
    )
    return load_text(
        text.replace("language_model(ids, mixer, d, depth, vocab)", f"linear({order}, [vocab])")
    )


FRONT, BEHIND = (
    "mixer(block(embed(ids, [d]), ids))",
    "block(mixer(embed(ids, [d])), ids)",
)


@pytest.mark.parametrize(
    "order,clauses",
    [(BEHIND, "bptt full by training"), (BEHIND, "bptt 3 token by training"), (FRONT, "bptt full")],
)
def test_a_learner_without_a_way_through_the_updates_does_not_count(
    order: str, clauses: str
) -> None:
    """Who stands behind a memory learns nothing through its updates, whatever the text lets others
    see.
    """
    holds(beside(order, clauses))


def test_learners_that_see_differently_through_the_same_updates() -> None:
    with pytest.raises(Diagnostics, match="N801.*differs between learners"):
        laws.Subject(beside(FRONT, "bptt full by training"))
