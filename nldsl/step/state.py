"""What a run holds between steps: flat static tensors, created once and written in place.

A memory of many arrays is one vector; the arrays are views of it. `tensors` is everything that a checkpoint must save.
"""
from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nldsl.graph.equations import Memory, Node, Program, Tree, numel
from nldsl.schedule.cells import Unsupported
from nldsl.step.initial import initial, normal
from nldsl.step.updates import size, slots


@dataclass
class State:
    """`tensors`: name -> tensor of the run's device and precision, counters float64. `step`: optimizer steps done. `lanes`: see lanes.py."""

    tensors: dict[str, Tensor]
    step: int = 0
    lanes: dict[str, Tensor] = field(default_factory=dict)
    views: dict[str, Tensor] = field(default_factory=dict)     # weight name -> leaf that shares its owner's storage


def allocate(program: Program, names: dict[str, int | None], seed: int, device: str, dtype: torch.dtype) -> State:
    """The state before step 1. A tensor's value depends on the seed and its qualified name alone."""
    tensors: dict[str, Tensor] = {}
    for name, length in names.items():
        memory = program.memories.get(name)
        if length is None:
            tensors[name] = torch.zeros((), dtype=torch.float64, device=device)
        elif memory is None:
            owner = program.memories[name.split("|")[0]]
            tensors[name] = torch.zeros(shape_of(owner), dtype=dtype, device=device)
        else:
            tensors[name] = start_of(program, memory, seed).to(device=device, dtype=dtype).contiguous()
    for tensor in tensors.values():
        torch._dynamo.mark_static_address(tensor)
    state = State(tensors)
    state.views = views(program, tensors)
    return state


def shape_of(memory: Memory) -> tuple[int, ...]:
    return (size(memory.type),) if isinstance(memory.type, Tree) else tuple(a.size for a in memory.type)


def layout(program: Program, names: Collection[str]) -> dict[str, tuple[str, int, int, list[int]]]:
    """Where each weight lies: name -> (memory, first, end, sizes). A step-clock memory that is one array lies in itself."""
    out = {}
    for name, (owner, at, shape) in slots(program).items():
        if owner in names:
            out[name] = (owner, at, at + numel(shape), [a.size for a in shape])
    for name in names:
        memory = program.memories.get(name)
        if memory is not None and memory.slots is None and not isinstance(memory.type, Tree):
            out[name] = (name, 0, numel(memory.type), [a.size for a in memory.type])
    return out


def views(program: Program, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leaves for autograd, each a view of its owner's storage."""
    return {name: tensors[owner].view(-1)[at:end].view(sizes).detach().requires_grad_()
            for name, (owner, at, end, sizes) in layout(program, tensors).items()}


def start_of(program: Program, memory: Memory, seed: int) -> Tensor:
    """Start of a step-clock memory, flat if it is a tree; float64."""
    if memory.slots is not None:
        leaves = memory.type.paths() if isinstance(memory.type, Tree) else ("",)
        parts = [initial(program.weights[memory.slots[path]], seed) for path in leaves]
        return torch.cat([p.reshape(-1) for p in parts]) if isinstance(memory.type, Tree) else parts[0]
    assert memory.start is not None
    return constant(memory.start, memory, seed)


def constant(node: Node, memory: Memory, seed: int) -> Tensor:
    """A start that reads nothing: numbers and draws, flat if it is a tree."""
    if node.op == "tree":
        return torch.cat([constant(a, memory, seed).expand([x.size for x in shape]).reshape(-1)
                          for a, (_, shape) in zip(node.args, memory.type.leaves)])
    if node.op == "spread":
        return constant(node.args[0], memory, seed).expand(
            shape_of(memory) if isinstance(node.type, Tree) else [a.size for a in node.type]).clone()
    if node.op == "const":
        return torch.tensor(node["value"], dtype=torch.float64).expand(shape_of(memory) if isinstance(node.type, Tree) else
                                                                        [a.size for a in node.type]).clone()
    if node.op == "random":
        return normal(seed, node["name"], [a.size for a in node.type], node["scale"])
    raise Unsupported(f"`{memory.name}` on the step clock starts from an expression", node, "0, a number or `random`")


def bytes_of(tensors: dict[str, Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())


def planned(program: Program, steps: int, device: str) -> dict[str, Tensor]:
    """Ticks that each step-clock level makes in a run of `steps` steps."""
    return {name: torch.tensor(float(max(1, math.floor(max(0, steps - level.clock.phase) / max(1, level.clock.period)))),
                               dtype=torch.float64, device=device)
            for name, level in program.levels.items() if level.clock.unit == "step"}
