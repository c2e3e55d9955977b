"""Small programs made directly of core equations, without the language, for tests of the
interpreter.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nldsl.core.nodes import Axis, Interner, Node, Shape, Tree
from nldsl.core.program import Bptt, Clock, Level, Memory, Program, Weight

torch.set_num_threads(1)
TOKEN, SEQUENCE, NEVER = Clock("token", 1), Clock("sequence", 1), Clock("never", 0)


class Text:
    """A program under construction; operators on nodes are written out, shapes are given where they
    are not the argument's.
    """

    def __init__(self) -> None:
        self.make = Interner()
        self.program = Program({}, {}, {}, {}, {}, {}, {}, {})

    def op(self, op: str, *args: Node, type: Shape | Tree | None = None, **attrs: Any) -> Node:
        args = tuple(
            a if isinstance(a, Node) else self.make("const", type=(), value=float(a)) for a in args
        )
        shape = (
            max(
                (a.type for a in args),
                key=lambda t: len(t.leaves) + 9 if isinstance(t, Tree) else len(t),
            )
            if type is None
            else type
        )
        return self.make(op, *args, type=shape, **attrs)

    def input(self, name: str, *shape: Axis) -> Node:
        node = self.program.inputs[name] = self.make("input", type=shape, name=name)
        return node

    def weight(self, name: str, *shape: Axis, **how: Any) -> Node:
        self.program.weights[name] = Weight(name, shape, scale=1.0, **how)
        return self.make("weight", type=shape, name=name)

    def level(
        self, name: str, clock: Clock, reset: Clock, *bptt: Bptt, parent: str | None = None
    ) -> Level:
        level = self.program.levels[name] = Level(
            name, clock, reset=reset, bptt=bptt, parent=parent
        )
        return level

    def memory(
        self,
        level: Level,
        name: str,
        start: Node | None,
        type: Shape | Tree,
        slots: dict[str, str] | None = None,
    ) -> Memory:
        memory = self.program.memories[name] = Memory(name, type, level.name, start, slots=slots)
        level.memories.append(name)
        return memory

    def at(self, op: str, memory: Memory, **attrs: Any) -> Node:
        return self.make(op, type=memory.type, memory=memory.name, **attrs)

    def grad(self, objective: Node, point: Node, memory: Memory, *context: Node) -> Node:
        level = self.program.levels[memory.level]
        if objective not in level.objectives:
            level.objectives.append(objective)
        return self.make(
            "grad", objective, point, type=memory.type, memory=memory.name, context=context
        )

    def square(self, x: Node) -> Node:
        return self.op("total", self.op("mul", x, x), type=(), keep=0)

    def train(self, loss: Node, rate: float, period: int = 1, *bptt: Bptt) -> None:
        """W <- W - rate * grad(W) on the step clock; W is every weight that nothing owns yet."""
        level = self.level("training", Clock("step", period), NEVER, *bptt)
        free = {n: w for n, w in self.program.weights.items() if w.owner is None}
        for weight in free.values():
            weight.owner = "training.W"
        memory = self.memory(
            level,
            "training.W",
            None,
            Tree(tuple((n, w.shape) for n, w in free.items())),
            {n: n for n in free},
        )
        whole = self.op("fold", loss, how="mean", since="training")
        slope = self.grad(whole, self.at("read", memory), memory)
        memory.next = self.op("sub", self.at("read", memory), self.op("mul", rate, slope))


def close(a: Tensor, b: Tensor) -> None:
    assert a.shape == b.shape
    a, b = a.detach(), b.detach()
    assert (a - b).abs().max() <= 1e-9 * max(1.0, float(b.abs().max())), (a - b).abs().max()


def draw(*sizes: int, seed: int = 0) -> Tensor:
    return torch.randn(sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
