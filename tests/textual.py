"""A second reading of a level, straight from its text, for a subset of the language.

The statements of one level are carried out in the order of the text, at every token, on plain
tensors. It shares the syntax tree with the compiler and nothing else: no core equations, no
versions, no derivative but torch's. What it is for: the interpreter and the compiler start from one
elaboration, so a fault in that is a fault of both.

    memory M: [e] = c      context x      a = expression      minimize expression
    M <- expression        grad(M), prox(M, r) of the objective last above
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from nldsl.frontend import syntax
from nldsl.frontend.parse import parse
from nldsl.source import Source

BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "+": torch.add,
    "-": torch.sub,
    "*": torch.mul,
    ".*": torch.mul,
    "^": torch.pow,
    ">=": torch.ge,
}
CALLS: dict[str, Callable[..., Tensor]] = {
    "tanh": torch.tanh,
    "abs": torch.abs,
    "max": lambda a, b: torch.where(a >= b, a, b),
    "min": lambda a, b: torch.where(a <= b, a, b),
    "where": torch.where,
}
PLAIN = ("0.9", "0.5", "-0.5")
EDGES = ("0", "1", "-1", "1e-30", "0.5")


@dataclass(frozen=True)
class Meant:
    """An expression with the names as they were where it stands: what the text above made of
    them.
    """

    expression: syntax.Expr
    names: Mapping[str, Tensor | Meant]


class Reader:
    """One level at one token.

    `names`: a memory or an input is a tensor, a definition is `Meant`.
    """

    def __init__(self, names: dict[str, Tensor | Meant]) -> None:
        self.names = names
        self.objective: Meant | None = None

    def carry_out(self, statement: syntax.Statement) -> None:
        match statement:
            case syntax.Define(name=name, value=value):
                self.names = self.names | {name.text: Meant(value, self.names)}
            case syntax.Minimize(objective=objective):
                self.objective = Meant(objective, self.names)
            case syntax.Update(place=place, value=value):
                self.names = self.names | {str(place): self.value(value, self.names, {})}

    def value(
        self, e: syntax.Expr, names: Mapping[str, Tensor | Meant], given: Mapping[str, Tensor]
    ) -> Tensor:
        """`given` holds the memory that a derivative is taken in: it is that wherever it is
        read.
        """
        match e:
            case syntax.Number(text=text):
                return torch.tensor(float(text), dtype=torch.float64)
            case syntax.Name(text=text):
                if text in given:
                    return given[text]
                meant = names[text]
                return (
                    meant
                    if isinstance(meant, Tensor)
                    else self.value(meant.expression, meant.names, given)
                )
            case syntax.Unary(operand=operand):
                return -self.value(operand, names, given)
            case syntax.Binary(
                op="^", left=syntax.Norm(value=value), right=syntax.Number(text="2")
            ):
                return self.value(value, names, given).square().sum()
            case syntax.Binary(op=op, left=left, right=right):
                a, b = self.value(left, names, given), self.value(right, names, given)
                return BINARY[op](a, b)
            case syntax.Inner(left=left, right=right):
                return (self.value(left, names, given) * self.value(right, names, given)).sum()
            case syntax.Call(callee=syntax.Name(text=name), args=args) if name in CALLS:
                return CALLS[name](*(self.value(arg, names, given) for arg in args))
            case syntax.Call(callee=syntax.Name(text="grad"), args=(syntax.Name(text=memory),)):
                return self.gradient(memory)
            case syntax.Call(
                callee=syntax.Name(text="prox"), args=(syntax.Name(text=memory), rate)
            ):
                return self.minimiser(memory, self.value(rate, names, given))
        raise AssertionError(e)

    def loss(self, memory: str, value: Tensor) -> Tensor:
        assert self.objective is not None
        return self.value(self.objective.expression, self.objective.names, {memory: value})

    def here(self, memory: str) -> Tensor:
        value = self.names[memory]
        assert isinstance(value, Tensor)
        return value.detach()

    def gradient(self, memory: str) -> Tensor:
        return torch.autograd.functional.jacobian(lambda m: self.loss(memory, m), self.here(memory))

    def minimiser(self, memory: str, rate: Tensor) -> Tensor:
        """argmin of E(W) + |W - P|^2 / (2 rate), for an E of the second degree: one step of
        Newton.
        """
        p = self.here(memory)
        curve = torch.autograd.functional.hessian(lambda m: self.loss(memory, m), p)
        return p - torch.linalg.solve(
            curve + torch.eye(len(p), dtype=p.dtype) / rate, self.gradient(memory)
        )


def values(text: str, x: Tensor) -> dict[str, Tensor]:
    """Each memory of the level `l` after each token; x is [token, e]."""
    tree = parse(Source("text.nl", text))
    level = next(
        s for s in tree.statements if isinstance(s, syntax.Level) and s.member.name.text == "l"
    )
    memories = {
        s.name.text: torch.full_like(x[0], float(s.start.text))
        for s in level.block.statements
        if isinstance(s, syntax.Memory) and isinstance(s.start, syntax.Number)
    }
    found: dict[str, list[Tensor]] = {name: [] for name in memories}
    for token in x:
        reader = Reader({**memories, "x": token})
        for statement in level.block.statements:
            reader.carry_out(statement)
        memories = {name: reader.here(name) for name in memories}
        for name, value in memories.items():
            found[name].append(value)
    return {name: torch.stack(each) for name, each in found.items()}


class Writer:
    """A level of the subset, by a sequence of choices."""

    def __init__(self, random: Random, edges: bool = False) -> None:
        self.random, self.edges = random, edges
        self.numbers = EDGES if edges else PLAIN
        self.memories = ["A", "B", "C"][: random.choice((2, 2, 3))]
        self.reads: dict[str, set[str]] = {name: {name} for name in self.memories} | {"x": set()}
        self.lines: list[str] = []
        self.moved: set[str] = set()

    def vector(self, free: str = "", depth: int = 2) -> tuple[str, set[str]]:
        """A vector, and the memories that it is made of by name; without those of `free`."""
        atoms = [name for name, own in self.reads.items() if free not in own]
        kind = self.random.randrange(5) if depth else 0
        if kind <= 1:
            atom = self.random.choice(atoms)
            return atom, self.reads[atom]
        a, in_a = self.vector(free, depth - 1)
        if kind == 2:
            return f"{self.random.choice(('tanh', 'abs') if self.edges else ('tanh',))}({a})", in_a
        b, in_b = self.vector(free, depth - 1)
        if kind == 3 and self.edges:
            chosen = (
                f"max({a}, {b})",
                f"max({a}, 0)",
                f"min(0, {b})",
                f"where({a} >= {b}, {b}, 0.5 * {a})",
            )
            return self.random.choice(chosen), in_a | in_b
        joined = f"({a} {self.random.choice(('+', '-', '.*'))} {b})"
        return (f"tanh({joined})" if kind == 4 else joined), in_a | in_b

    def define(self) -> None:
        text, own = self.vector()
        name = f"d{len(self.reads)}"
        self.lines.append(f"{name} = {text}")
        self.reads[name] = own

    def move(self) -> None:
        memory = self.random.choice(self.memories)
        keep, rate = self.random.choice(self.numbers), self.random.choice(self.numbers)
        self.lines.append(f"{memory} <- {keep} * {memory} + {rate} * tanh({self.vector()[0]})")
        self.moved.add(memory)

    def learn(self) -> None:
        """An objective, perhaps something else, and an update of the memory that it is about."""
        memory = self.random.choice(self.memories)
        closed = self.random.random() < 0.4
        goal, _ = self.vector(memory if closed else "")
        out = (
            memory
            if closed
            else self.random.choice(
                (
                    memory,
                    f"tanh({memory} + x)",
                    f"({memory} .* x)",
                    *([f"max({memory}, x)"] if self.edges else []),
                )
            )
        )
        # the input is in it, so that the context is met
        self.lines.append(f"minimize |{out} - ({goal} + x)|^2{self.random.choice((' * 0.5', ''))}")
        for _ in range(self.random.choice((0, 0, 1, 2))):
            self.random.choice((self.define, self.move))()
        step = (
            f"prox({memory}, 0.4)"
            if closed and self.random.random() < 0.7
            else f"{memory} - 0.1 * grad({memory})"
        )
        self.lines.append(f"{memory} <- {step}")
        self.moved.add(memory)

    def level(self) -> str:
        for _ in range(self.random.choice((2, 3, 4))):
            self.random.choice((self.define, self.move, self.learn))()
        self.learn()
        for memory in self.memories:
            if memory not in self.moved:
                self.lines.append(f"{memory} <- 0.5 * {memory} + 0.1 * x")
        heads = [f"memory {name}: [e] = 0.{i + 2}" for i, name in enumerate(self.memories)]
        return program([*heads, "context x", *self.lines, "bptt full"], self.memories)


def program(level: list[str], memories: list[str]) -> str:
    """A program around the statements of a level, with each memory after its tick as a stream."""
    shown = [f"after_{name} = l.{name}@after" for name in memories]
    return "\n".join(
        [
            "nldsl 1",
            "dim e = 2",
            "input x: [e]",
            "level l every token {",
            *(f"    {line}" for line in level),
            "}",
            *shown,
            f"w = weight([e], init = 1)\ny = {' + '.join(line.split()[0] for line in shown)}",
            "loss = |w .* y - next(x)|^2",
            "level training every step {",
            "    memory W: weights\n    context x\n    minimize mean(loss over period)",
            "    W <- W - 0.01 * grad(W)\n}\n",
        ]
    )
