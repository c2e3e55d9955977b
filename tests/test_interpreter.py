"""The oracle against recurrences worked out by hand, on equations built without the language."""

from __future__ import annotations

import pytest
import torch
from equations_by_hand import NEVER, SEQUENCE, TOKEN, Text, close, draw
from torch import Tensor

from nldsl.core.nodes import Axis, Node, Tree
from nldsl.core.program import Bptt, Clock
from nldsl.oracle.interpreter import Oracle

E = Axis("e", 3)


def associative(
    text: Text,
    objective: str,
    anchor: Clock | None = None,
    reset: Clock = SEQUENCE,
    bptt: str | Clock = "full",
    clock: Clock = TOKEN,
) -> Node:
    """M <- M - grad(M) / 2 on |M k - v|^2 or -<M k, v>, from a weight; read fresh.

    Returns y, the output.
    """
    k, v, q = (text.input(name, E) for name in "kvq")
    level = text.level("recall", clock, reset, Bptt(bptt))
    memory = text.memory(level, "recall.M", text.weight("M", E, E), (E, E))
    error = text.op("einsum", text.at("plain", memory), k, type=(E,), eq="ij,j->i")
    if objective == "delta":
        inner = text.square(text.op("sub", error, v))
    else:
        inner = text.op("neg", text.op("total", text.op("mul", error, v), type=(), keep=0))
    if clock != TOKEN:
        inner = text.op("fold", inner, how="sum", since="recall")
    before = text.at("read", memory)
    point = before if anchor is None else text.at("held", memory, clock=anchor)
    memory.next = text.op("sub", before, text.op("mul", 0.5, text.grad(inner, point, memory, k, v)))
    y = text.op("einsum", text.at("now", memory), q, type=(E,), eq="ij,j->i")
    text.program.outputs["y"] = y
    return y


def batch(lanes: int = 2, tokens: int = 7) -> dict[str, Tensor]:
    data = {name: draw(lanes, tokens, 3, seed=i) for i, name in enumerate("kvq")}
    data["k"] = data["k"] / data["k"].norm(dim=-1, keepdim=True)
    return data


def test_linear_attention() -> None:
    text = Text()
    associative(text, "dot")
    oracle, b = Oracle(text.program), batch()
    M = oracle.weights["M"].expand(2, 3, 3)
    found = oracle.run(b)
    for t in range(7):
        M = M + 0.5 * b["v"][:, t, :, None] * b["k"][:, t, None]
        close(found.outputs["y"][:, t], (M @ b["q"][:, t, :, None])[..., 0])
    close(found.memories["recall.M"], M)


@pytest.mark.parametrize("chunk", [1, 3])
def test_delta_rule_with_a_stale_gradient(chunk: int) -> None:
    text = Text()
    associative(text, "delta", Clock("token", chunk))
    oracle, b = Oracle(text.program), batch()
    M = held = oracle.weights["M"].expand(2, 3, 3)
    found = oracle.run(b)
    for t in range(7):
        anchor = held = M if t % chunk == 0 else held
        k, v = b["k"][:, t, :, None], b["v"][:, t, :, None]
        M = M - (anchor @ k - v) @ k.mT
        close(found.outputs["y"][:, t], (M @ b["q"][:, t, :, None])[..., 0])
    if 7 % chunk:
        close(found.held["recall.M", Clock("token", chunk)], held)


@pytest.mark.parametrize("reset", [SEQUENCE, NEVER, Clock("token", 3)])
@pytest.mark.parametrize("cut", range(1, 7))
def test_a_sequence_cut_anywhere(reset: Clock, cut: int) -> None:
    text = Text()
    associative(text, "delta", Clock("token", 3), reset)
    oracle, b = Oracle(text.program), batch()
    whole = oracle.run(b)
    head = oracle.run({n: x[:, :cut] for n, x in b.items()})
    tail = oracle.run({n: x[:, cut:] for n, x in b.items()}, head.state)
    again = oracle.run({n: x[:, cut:] for n, x in b.items()}, head.state)
    assert torch.equal(tail.outputs["y"], again.outputs["y"])
    assert torch.equal(torch.cat([head.outputs["y"], tail.outputs["y"]], 1), whole.outputs["y"])
    assert torch.equal(tail.memories["recall.M"], whole.memories["recall.M"])


def test_resets() -> None:
    b = batch(tokens=6)
    outputs = []
    for reset in (SEQUENCE, Clock("token", 3), NEVER):
        text = Text()
        associative(text, "delta", None, reset)
        oracle = Oracle(text.program)
        first = oracle.run({n: x[:, :3] for n, x in b.items()})
        second = oracle.run({n: x[:, 3:] for n, x in b.items()}, first.state, new_sequence=True)
        outputs.append(torch.cat([first.outputs["y"], second.outputs["y"]], 1))
        if reset != SEQUENCE:
            close(outputs[-1], oracle.run(b).outputs["y"])
        else:
            alone = oracle.run({n: x[:, 3:] for n, x in b.items()})
            close(second.outputs["y"], alone.outputs["y"])
    close(outputs[0], outputs[1])
    assert (outputs[1] - outputs[2]).abs().max() > 1e-3


def test_one_memory_a_lane_carried_from_step_to_step() -> None:
    text, b = Text(), batch(tokens=6)
    associative(text, "delta", None, NEVER)
    whole = Oracle(text.program).run(b).outputs["y"]
    oracle = Oracle(text.program)
    halves = [
        oracle.step({n: x[:, part] for n, x in b.items()})[0]["y"]
        for part in (slice(0, 3), slice(3, 6))
    ]
    close(torch.cat(halves, 1), whole)


def recurrence(M: Tensor, b: dict[str, Tensor], cut: int) -> Tensor:
    """The loss of the delta rule, with the memory a constant from every `cut`-th token on; 0: no
    cut, -1: a constant at each update.
    """
    total, M = torch.zeros((), dtype=torch.float64), M.expand(2, 3, 3)
    for t in range(7):
        k, v = b["k"][:, t, :, None], b["v"][:, t, :, None]
        M = M - (M @ k - v) @ k.mT
        M = M.detach() if cut == -1 else M
        total = total + ((M @ b["q"][:, t, :, None])[..., 0] ** 2).sum()
        M = M.detach() if cut > 0 and (t + 1) % cut == 0 else M
    return total / 14


@pytest.mark.parametrize("bptt, cut", [("full", 0), ("none", -1), (Clock("token", 3), 3)])
def test_bptt(bptt: str | Clock, cut: int) -> None:
    text = Text()
    y = associative(text, "delta", bptt=bptt)
    text.train(text.square(y), 0.1)
    oracle, b = Oracle(text.program), batch()
    M = oracle.weights["M"].requires_grad_()
    total = recurrence(M, b, cut)
    want = torch.zeros(3, 3, dtype=torch.float64) if cut == -1 else torch.autograd.grad(total, M)[0]
    close(oracle.gradients(b)["M"], want)
    oracle.step([{n: x[:1] for n, x in b.items()}, {n: x[1:] for n, x in b.items()}])
    close(oracle.weights["M"], M.detach() - 0.1 * want)


def test_slow_token_level_sums_over_its_period() -> None:
    text = Text()
    associative(text, "delta", clock=Clock("token", 3))
    oracle, b = Oracle(text.program), batch()
    M = oracle.weights["M"].expand(2, 3, 3)
    found = oracle.run(b)
    for t in range(7):
        if t % 3 == 2:
            M = M - sum(
                (M @ b["k"][:, j, :, None] - b["v"][:, j, :, None]) @ b["k"][:, j, None]
                for j in range(t - 2, t + 1)
            )
        close(found.outputs["y"][:, t], (M @ b["q"][:, t, :, None])[..., 0])


def forecaster(period: int, bptt: str = "full") -> Text:
    """F learns |F h - next(x)|^2 on the token clock from reads outside its level; h = tanh(W x) and
    the start of F from training.
    """
    text = Text()
    x = text.input("k", E)
    fast = text.level("fast", Clock("token", period), SEQUENCE, Bptt(bptt))
    F = text.memory(fast, "fast.F", text.weight("F", E, E), (E, E))
    h = text.op("tanh", text.op("einsum", text.weight("W", E, E), x, type=(E,), eq="ij,j->i"))
    y = text.op("einsum", text.at("read", F), h, type=(E,), eq="ij,j->i")
    loss = text.square(text.op("sub", y, text.op("ahead", x)))
    whole = text.op("fold", loss, how="mean", since="fast")
    F.next = text.op(
        "sub", text.at("read", F), text.op("mul", 0.1, text.grad(whole, text.at("read", F), F))
    )
    text.program.outputs |= {"loss": loss, "y": y}
    text.train(loss, 0.1)
    return text


def forecast(w: dict[str, Tensor], x: Tensor, period: int) -> tuple[Tensor, Tensor]:
    F, losses, since = w["F"].expand(2, 3, 3), [], 0
    for t in range(x.shape[1] - 1):
        h = torch.tanh(x[:, t] @ w["W"].T)
        losses.append(((F @ h[..., None])[..., 0] - x[:, t + 1]).square().sum(-1))
        if (t + 1) % period == 0:
            hs = torch.tanh(x[:, since : t + 1] @ w["W"].T)
            error = hs @ F.mT - x[:, since + 1 : t + 2]
            F, since = F - 0.1 * 2 * (error.mT @ hs) / period, t + 1
    return torch.stack(losses, 1), F


@pytest.mark.parametrize("period", [1, 2, 3])
def test_pending_ticks_of_a_task_loss(period: int) -> None:
    oracle, b = Oracle(forecaster(period).program), batch(tokens=8)
    w = {n: x.requires_grad_() for n, x in oracle.weights.items()}
    want, F = forecast(w, b["k"], period)
    found = oracle.run(b)
    close(found.outputs["loss"], want)
    close(found.memories["fast.F"], F)
    for name, slope in zip(w, torch.autograd.grad(want.mean(), list(w.values())), strict=True):
        close(oracle.gradients(b)[name], slope)
    for cut in range(1, 8):
        head = oracle.run({"k": b["k"][:, :cut]})
        tail = oracle.run({"k": b["k"][:, cut:]}, head.state)
        assert head.outputs["loss"].shape[1] == cut - 1
        assert torch.equal(
            torch.cat([head.outputs["loss"], tail.outputs["loss"]], 1), found.outputs["loss"]
        )
        assert torch.equal(torch.cat([head.outputs["y"], tail.outputs["y"]], 1), found.outputs["y"])
        assert torch.equal(tail.memories["fast.F"], found.memories["fast.F"])


def test_a_tick_without_a_term_is_skipped() -> None:
    oracle, b = Oracle(forecaster(1).program), batch(tokens=1)
    found = oracle.run(b)
    assert found.outputs["loss"].shape == (2, 0)
    close(found.memories["fast.F"], oracle.weights["F"].expand(2, 3, 3))


def titans() -> Text:
    """Titans' memory: a net of two layers, momentum as a level of its own, per token, anchored at
    the chunk.
    """
    text = Text()
    wide = Axis("2 * e", 6)
    net = Tree((("W2", (wide, E)), ("W1", (E, wide))))
    k, v, q = (text.input(name, E) for name in "kvq")
    chunk = text.program.clocks["chunk"] = Clock("token", 3, name="chunk")
    recall = text.level("r", TOKEN, SEQUENCE, Bptt("full"))
    velocity = text.level("s", TOKEN, SEQUENCE, parent="r")
    start = text.op("tree", text.weight("W2", wide, E), text.weight("W1", E, wide), type=net)
    M = text.memory(recall, "r.M", start, net)
    m = text.memory(velocity, "s.m", text.make("const", type=net, value=0.0), net)

    def apply(tree: Node, z: Node) -> Node:
        hidden = text.op(
            "einsum",
            text.op("leaf", tree, type=(wide, E), path="W2"),
            z,
            type=(wide,),
            eq="hi,i->h",
        )
        return text.op(
            "einsum",
            text.op("leaf", tree, type=(E, wide), path="W1"),
            text.op("silu", hidden),
            type=(E,),
            eq="ih,h->i",
        )

    rate, decay, forget = (
        text.op("sigmoid", text.op("einsum", text.weight(n, E), k, type=(), eq="i,i->"))
        for n in ("rate", "decay", "forget")
    )
    J = text.square(text.op("sub", apply(text.at("plain", M), k), v))
    G = text.grad(J, text.at("held", M, clock=chunk), M, k, v)
    along = text.op("total", text.op("mul", text.at("plain", m), G), type=(), keep=0)
    m.next = text.op(
        "sub",
        text.op("mul", decay, text.at("read", m)),
        text.op("mul", rate, text.grad(along, text.at("read", m), m, G)),
    )
    M.next = text.op(
        "add", text.op("mul", text.op("sub", 1, forget), text.at("read", M)), text.at("now", m)
    )
    y = text.program.outputs["y"] = apply(text.at("now", M), q)
    text.train(text.square(y), 0.1)
    return text


def test_titans_memory() -> None:
    oracle, b = Oracle(titans().program), batch(tokens=8)
    w = {n: x.requires_grad_() for n, x in oracle.weights.items()}
    net = lambda W, z: (W[1] @ torch.nn.functional.silu(W[0] @ z[..., None]))[..., 0]  # noqa: E731
    M = [w["W2"].expand(2, 6, 3), w["W1"].expand(2, 3, 6)]
    S, total, held = [torch.zeros_like(x) for x in M], 0.0, M
    for t in range(8):
        k, v, q = (b[n][:, t] for n in "kvq")
        rate, decay, forget = (
            torch.sigmoid(k @ w[n])[:, None, None] for n in ("rate", "decay", "forget")
        )
        held = M if t % 3 == 0 else held
        g = torch.autograd.grad((net(held, k) - v).square().sum(), held, create_graph=True)
        S = [decay * s - rate * x for s, x in zip(S, g, strict=True)]
        M = [(1 - forget) * x + s for x, s in zip(M, S, strict=True)]
        total = total + net(M, q).square().sum()
    found = oracle.run(b)
    for x, y in zip(M, found.memories["r.M"].values(), strict=True):
        close(y, x)
    slopes = oracle.gradients(b)
    for name, slope in zip(w, torch.autograd.grad(total / 16, list(w.values())), strict=True):
        close(slopes[name], slope)


def test_two_periods_of_steps() -> None:
    """A moves every step, B every second one by the mean over both; at a common tick each reads the
    other's old value.
    """
    text = Text()
    x = text.input("k", E)
    a, b = text.weight("A", E), text.weight("B", E)
    loss = text.square(text.op("sub", text.op("mul", text.op("mul", a, b), x), 1.0))
    for name, period in (("A", 1), ("B", 2)):
        level = text.level(name.lower(), Clock("step", period), NEVER, Bptt("none"))
        memory = text.memory(level, f"{level.name}.W", None, Tree(((name, (E,)),)), {name: name})
        text.program.weights[name].owner = memory.name
        whole = text.op("fold", loss, how="mean", since=level.name)
        slope = text.grad(whole, text.at("read", memory), memory)
        memory.next = text.op("sub", text.at("read", memory), text.op("mul", 0.1, slope))
    oracle = Oracle(text.program)
    A, B = oracle.weights["A"], oracle.weights["B"]
    before = []
    for s in range(6):
        data = draw(2, 4 + s % 2, 3, seed=s)
        before.append((A, data))
        slope = ((2 * (A * B * data - 1)) * B * data).mean((0, 1)) * 1
        if s % 2 == 1:
            terms = torch.cat(
                [(2 * (old * B * d - 1) * old * d).flatten(0, 1) for old, d in before[-2:]]
            )
            B_next = B - 0.1 * terms.mean(0)
        else:
            B_next = B
        A, B = A - 0.1 * slope, B_next
        oracle.step({"k": data} if s < 3 else [{"k": data[:1]}, {"k": data[1:]}])
        close(oracle.weights["A"], A)
        close(oracle.weights["B"], B)


def test_windows_positions_and_attention() -> None:
    """Sliding sums, rope and a joint softmax over one pair without a clock and the last three
    tokens.
    """
    text = Text()
    e, p = Axis("e", 4), Axis("p", 2)
    x, P = text.input("x", e), text.weight("P", p, e)
    q = text.op("rope", x, base=100.0, part=4)
    groups = (("c,pc->p", "p,pc->c", None), ("c,c->", ",c->c", ("last", 3)))
    text.program.outputs = {
        "sum": text.op("window", x, how="sum", length=2),
        "mean": text.op("fold", x, how="mean", since=Clock("token", 3)),
        "old": text.op("held_stream", x, clock=Clock("token", 3)),
        "y": text.op("attend", q, P, P, q, x, type=(e,), groups=groups, scale=0.5),
        "conv": text.op("conv", x, text.weight("K", Axis("4", 4), e), type=(e,)),
    }
    oracle, data = Oracle(text.program), draw(2, 7, 4)
    found = oracle.run({"x": data}).outputs
    angle = torch.arange(7)[:, None] * 100.0 ** (-torch.arange(2).double() / 2)
    u, w = data[..., :2], data[..., 2:]
    turned = torch.cat([u * angle.cos() - w * angle.sin(), u * angle.sin() + w * angle.cos()], -1)
    P, K = oracle.weights["P"], oracle.weights["K"]
    for t in range(7):
        close(found["sum"][:, t], data[:, max(0, t - 1) : t + 1].sum(1))
        close(found["mean"][:, t], data[:, t - t % 3 : t + 1].mean(1))
        keys = torch.cat([P.expand(2, 2, 4), turned[:, max(0, t - 2) : t + 1]], 1)
        values = torch.cat([P.expand(2, 2, 4), data[:, max(0, t - 2) : t + 1]], 1)
        share = torch.softmax(keys @ turned[:, t, :, None] / 2, 1)
        close(found["y"][:, t], (share * values).sum(1))
        close(found["conv"][:, t], sum(K[3 - j] * data[:, t - j] for j in range(min(4, t + 1))))
    close(found["old"], data[:, [2, 2, 2, 5]])


@pytest.mark.parametrize("depth", ["full", "none"])
def test_a_start_learned_through_the_run_it_starts(depth: str) -> None:
    """F starts at S, ticks every 2 steps, restarts every 4; S hears the losses of 4 steps through
    the tick of F, or not.
    """
    text = Text()
    x = text.input("k", E)
    slow = text.level("start", Clock("step", 4), NEVER, Bptt("none"))
    S = text.memory(slow, "start.S", None, Tree((("S", (E,)),)), {"S": "S"})
    text.weight("S", E, owner="start.S")
    fast = text.level("ffn", Clock("step", 2), Clock("step", 4), Bptt(depth, "start"))
    F = text.memory(fast, "ffn.F", text.op("leaf", text.at("read", S), type=(E,), path="S"), (E,))
    error = text.op("sub", text.op("mul", text.at("read", F), x), 1.0)
    loss = text.op("mul", text.square(error), text.square(error))
    for memory, level in ((S, slow), (F, fast)):
        slope = text.grad(
            text.op("fold", loss, how="mean", since=level.name), text.at("read", memory), memory
        )
        memory.next = text.op("sub", text.at("read", memory), text.op("mul", 0.01, slope))
    oracle = Oracle(text.program)
    W = oracle.weights["S"]
    L = lambda F, x: ((F * x - 1) ** 2).sum(-1).pow(2).mean()  # noqa: E731
    for block in range(2):
        data = [draw(2, 3, 3, seed=4 * block + i) for i in range(4)]
        W = W.requires_grad_()
        (first,) = torch.autograd.grad((L(W, data[0]) + L(W, data[1])) / 2, W, create_graph=True)
        F1 = W - 0.01 * first
        F1 = F1 if depth == "full" else F1.detach()
        total = sum(L(W if i < 2 else F1, d) for i, d in enumerate(data)) / 4
        for i, d in enumerate(data):
            close(oracle.memories["ffn.F"], W if i < 2 else F1)
            oracle.step({"k": d})
        W = (W - 0.01 * torch.autograd.grad(total, W)[0]).detach()
        close(oracle.weights["S"], W)
        close(oracle.memories["ffn.F"], W)


def test_children_on_slower_updates() -> None:
    """A parent every 2 tokens; its child ticks at every second update and sums one gradient for
    each update since its own tick.
    """
    text = Text()
    x = text.input("k", E)
    parent = text.level("a", Clock("token", 2), SEQUENCE, Bptt("full"))
    child = text.level("b", Clock("token", 4), SEQUENCE, parent="a")
    M = text.memory(parent, "a.M", text.make("const", type=(E,), value=1.0), (E,))
    m = text.memory(child, "b.m", text.make("const", type=(E,), value=0.0), (E,))
    J = text.op("fold", text.square(text.op("sub", text.at("plain", M), x)), how="sum", since="a")
    g = text.grad(J, text.at("read", M), M, x)
    along = text.op(
        "total",
        text.op("mul", text.at("plain", m), text.op("fold", g, how="sum", since="b")),
        type=(),
        keep=0,
    )
    m.next = text.op("sub", text.at("read", m), text.grad(along, text.at("read", m), m, g))
    M.next = text.op("add", text.at("read", M), text.op("mul", 0.1, text.at("read", m)))
    text.program.outputs = {"M": text.at("now", M), "tick": text.make("tick", type=(), level="b")}
    data = draw(1, 12, 3)
    found = Oracle(text.program).run({"k": data}).outputs
    W, v, since = torch.ones(1, 3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64), 0.0
    for t in range(12):
        if t % 2 == 1:
            since = since + 2 * (2 * W - data[:, t - 1] - data[:, t])
            W = W + 0.1 * v
            if t % 4 == 3:
                v, since = v - since, 0.0
        close(found["M"][:, t], W)
        assert found["tick"][0, t] == (t + 1) // 4


def test_the_error_signal_of_a_stream() -> None:
    text = Text()
    x = text.input("k", E)
    y = text.op("tanh", text.op("mul", x, text.weight("w", E)))
    e = text.square(
        text.op(
            "sub", text.op("mul", y, text.op("window", y, how="sum", length=2)), text.op("ahead", x)
        )
    )
    text.program.outputs["g"] = text.make("grad_stream", e, y, type=(E,))
    oracle, data = Oracle(text.program), draw(2, 5, 3)
    found = oracle.run({"k": data}).outputs["g"]
    assert found.shape == (2, 4, 3)
    for t in range(4):
        y = torch.tanh(data[:, t] * oracle.weights["w"]).requires_grad_()
        old = torch.tanh(data[:, t - 1] * oracle.weights["w"]) if t else 0.0
        close(
            found[:, t], torch.autograd.grad((y * (y + old) - data[:, t + 1]).square().sum(), y)[0]
        )
