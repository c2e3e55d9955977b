"""The oracle against recurrences worked out by hand, first on equations built without the language, then on the examples."""
from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nldsl.graph.equations import Axis, Bptt, Clock, Interner, Level, Memory, Node, Program, Shape, Tree, Weight
from nldsl.step.oracle import Oracle

torch.set_num_threads(1)
TOKEN, SEQUENCE, NEVER = Clock("token", 1), Clock("sequence", 1), Clock("never", 0)
E = Axis("e", 3)


class Text:
    """A program under construction; operators on nodes are written out, shapes are given where they are not the argument's."""

    def __init__(self) -> None:
        self.make = Interner()
        self.program = Program({}, {}, {}, {}, {}, {}, {}, {})

    def op(self, op: str, *args: Node, type: Shape | Tree | None = None, **attrs: Any) -> Node:
        args = tuple(a if isinstance(a, Node) else self.make("const", type=(), value=float(a)) for a in args)
        shape = max((a.type for a in args), key=lambda t: len(t.leaves) + 9 if isinstance(t, Tree) else len(t)) if type is None else type
        return self.make(op, *args, type=shape, **attrs)

    def input(self, name: str, *shape: Axis) -> Node:
        node = self.program.inputs[name] = self.make("input", type=shape, name=name)
        return node

    def weight(self, name: str, *shape: Axis, **how: Any) -> Node:
        self.program.weights[name] = Weight(name, shape, scale=1.0, **how)
        return self.make("weight", type=shape, name=name)

    def level(self, name: str, clock: Clock, reset: Clock, *bptt: Bptt, parent: str | None = None) -> Level:
        level = self.program.levels[name] = Level(name, clock, reset=reset, bptt=bptt, parent=parent)
        return level

    def memory(self, level: Level, name: str, start: Node | None, type: Shape | Tree, slots: dict[str, str] | None = None) -> Memory:
        memory = self.program.memories[name] = Memory(name, type, level.name, start, slots=slots)
        level.memories.append(name)
        return memory

    def at(self, op: str, memory: Memory, **attrs: Any) -> Node:
        return self.make(op, type=memory.type, memory=memory.name, **attrs)

    def grad(self, objective: Node, point: Node, memory: Memory, *context: Node) -> Node:
        level = self.program.levels[memory.level]
        if objective not in level.objectives:
            level.objectives.append(objective)
        return self.make("grad", objective, point, type=memory.type, memory=memory.name, context=context)

    def square(self, x: Node) -> Node:
        return self.op("total", self.op("mul", x, x), type=(), keep=0)

    def train(self, loss: Node, rate: float, period: int = 1, *bptt: Bptt) -> None:
        """W <- W - rate * grad(W) on the step clock; W is every weight that nothing owns yet."""
        level = self.level("training", Clock("step", period), NEVER, *bptt)
        free = {n: w for n, w in self.program.weights.items() if w.owner is None}
        for weight in free.values():
            weight.owner = "training.W"
        memory = self.memory(level, "training.W", None, Tree(tuple((n, w.shape) for n, w in free.items())), {n: n for n in free})
        whole = self.op("fold", loss, how="mean", since="training")
        slope = self.grad(whole, self.at("read", memory), memory)
        memory.next = self.op("sub", self.at("read", memory), self.op("mul", rate, slope))


def close(a: Tensor, b: Tensor) -> None:
    assert a.shape == b.shape
    assert (a - b).abs().max() <= 1e-9 * max(1.0, float(b.abs().max())), (a - b).abs().max()


def draw(*sizes: int, seed: int = 0) -> Tensor:
    return torch.randn(sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def associative(text: Text, objective: str, anchor: Clock | None = None, reset: Clock = SEQUENCE, bptt: str | Clock = "full",
                clock: Clock = TOKEN) -> Node:
    """M <- M - grad(M) / 2 on |M k - v|^2 or -<M k, v>, from a weight; read fresh. Returns y, the output."""
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
    M = oracle.weights["M"].expand(2, 3, 3)
    found = oracle.run(b)
    for t in range(7):
        anchor = M if t % chunk == 0 else anchor
        k, v = b["k"][:, t, :, None], b["v"][:, t, :, None]
        M = M - (anchor @ k - v) @ k.mT
        close(found.outputs["y"][:, t], (M @ b["q"][:, t, :, None])[..., 0])
    close(found.held["recall.M", Clock("token", chunk)], M if 7 % chunk == 0 else anchor if 6 % chunk else found.held[
        "recall.M", Clock("token", chunk)])


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


def recurrence(M: Tensor, b: dict[str, Tensor], cut: int) -> Tensor:
    """The loss of the delta rule, with the memory a constant from every `cut`-th token on; 0: no cut, -1: a constant at each update."""
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
            M = M - sum((M @ b["k"][:, j, :, None] - b["v"][:, j, :, None]) @ b["k"][:, j, None] for j in range(t - 2, t + 1))
        close(found.outputs["y"][:, t], (M @ b["q"][:, t, :, None])[..., 0])
