"""What a run holds between steps: flat static tensors, created once and written in place.

A memory of many arrays is one vector; the arrays are views of it. `tensors` is everything that a
checkpoint must save, `arrays` the same by the name of each array.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from nldsl.core.initial import initial, normal
from nldsl.core.nodes import Tree, Type, numel, walk
from nldsl.core.program import Memory, Program
from nldsl.step.shards import Shards
from nldsl.step.updates import drawn

WHOLE = Shards()
# where an array lies: its tensor, its first entry and the one behind its last, its sizes
Place = tuple[str, int, int, list[int]]


@dataclass
class State:
    """`tensors`: name -> tensor of the run's device and precision, counters float64. `step`:
    optimizer steps done. Starts are drawn from `seed`. `lanes`: see lanes.py.
    """

    tensors: dict[str, Tensor]
    step: int = 0
    lanes: dict[str, Tensor] = field(default_factory=dict)
    views: dict[str, Tensor] = field(
        default_factory=dict
    )  # weight name -> leaf that shares its owner's storage
    seed: int = 0
    places: Mapping[str, Place] = field(default_factory=dict)  # of every array but counters

    @property
    def arrays(self) -> dict[str, Tensor]:
        """Each array by its qualified name, of its own sizes: views of `tensors`."""
        parts = {
            name: self.tensors[owner].view(-1)[at:end].view(sizes)
            for name, (owner, at, end, sizes) in self.places.items()
        }
        parted = {owner for owner, *_ in self.places.values()}
        return parts | {name: x for name, x in self.tensors.items() if name not in parted}


def allocate(
    program: Program,
    names: Mapping[str, tuple[int, ...] | None],
    types: Mapping[str, Type],
    seed: int,
    device: str,
    dtype: torch.dtype,
) -> State:
    """A state of zeros."""
    tensors = {
        name: torch.zeros((), dtype=counting(device), device=device)
        if sizes is None
        else torch.zeros(sizes, dtype=dtype, device=device)
        for name, sizes in names.items()
    }
    found = places(program, types)
    return State(tensors, views=views(program, tensors), seed=seed, places=found)


def parted(
    program: Program, state: State, divided: Mapping[str, Type], shards: Shards, rank: int
) -> State:
    """What a rank holds of a whole state, which is used up: its part of each tensor that is
    `divided`, with the type that says its arrays.
    """
    tensors = {}
    for name in [*state.tensors]:
        x = state.tensors.pop(name)
        tensors[name] = shards.of(x, divided[name], rank) if name in divided else x
    kept = {name: x for name, x in state.views.items() if name not in state.places}
    whole = {name: place for name, place in state.places.items() if place[0] not in divided}
    return replace(
        state,
        tensors=tensors,
        views=kept | views(program, tensors, shards),
        places=whole | places(program, divided, shards),
    )


def counting(device: str) -> torch.dtype:
    """The precision of counters: Metal has no float64."""
    return torch.float32 if device == "mps" else torch.float64


def draws(
    program: Program,
    numbers: Mapping[str, int],
    seed: int,
    device: str,
    dtype: torch.dtype,
    files: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Fresh draws for the starts of levels, each with the number of its restart (0 at birth), and
    what `files` hold (see loading.py). A draw depends on the seed, its qualified name and that
    number alone.
    """
    found: dict[str, Tensor] = {}
    for memory in program.memories.values():
        if memory.level in numbers:
            found |= _drawn(program, memory, seed, numbers[memory.level], files)
    return {name: x.to(device=device, dtype=dtype) for name, x in found.items()}


def _drawn(
    program: Program, memory: Memory, seed: int, number: int, files: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    if memory.start is not None:
        out = {}
        for node in walk(memory.start):
            if node.op == "load":
                out[drawn(node)] = files[drawn(node)]
            if node.op == "random":
                out[drawn(node)] = normal(
                    seed, node["name"], [a.size for a in node.shape], node["scale"], number
                )
        return out
    assert memory.slots is not None, memory.name
    leaves = memory.type.paths() if isinstance(memory.type, Tree) else ("",)
    parts = [initial(program.weights[memory.slots[path]], seed, number) for path in leaves]
    return {
        memory.name: torch.cat([p.reshape(-1) for p in parts])
        if isinstance(memory.type, Tree)
        else parts[0]
    }


def layout(program: Program, names: Collection[str], shards: Shards = WHOLE) -> dict[str, Place]:
    """Where each array of a memory of the step clock that a stream can read lies, or the part of it
    that a rank holds. What an optimizer keeps is read by nobody else.
    """
    read = {name: memory_of(program, name) for name in names}
    return places(
        program,
        {
            name: memory.type
            for name, memory in read.items()
            if memory is not None and program.levels[memory.level].parent is None
        },
        shards,
    )


def places(program: Program, types: Mapping[str, Type], shards: Shards = WHOLE) -> dict[str, Place]:
    """Where each array of what is kept lies. A weight has its own name, any other array that of its
    tensor and its path there.
    """
    out: dict[str, Place] = {}
    for name, type in types.items():
        memory = memory_of(program, name)
        shapes = [s for _, s in type.leaves] if isinstance(type, Tree) else [type]
        leaves = leaves_of(memory, name) if memory is not None else below(name, type)
        at = 0
        for leaf, shape in zip(leaves, shapes, strict=True):
            assert leaf not in out, leaf
            part = shards.part(numel(shape))
            out[leaf] = (name, at, at + part, [part] if shards.are else [a.size for a in shape])
            at += part
    return out


def memory_of(program: Program, name: str) -> Memory | None:
    """The memory that a kept tensor is the value of, or a copy."""
    return program.memories.get(name.split("@")[0])


def below(name: str, type: Type) -> list[str]:
    """The names of the arrays of what no text has a name for, or of a copy."""
    paths = type.paths() if isinstance(type, Tree) else ("",)
    return [f"{name}.{path}" if path else name for path in paths]


def leaves_of(memory: Memory, name: str) -> list[str]:
    """The names of the arrays of a memory, or of a copy of it."""
    if name != memory.name:
        return below(name, memory.type)
    paths = memory.type.paths() if isinstance(memory.type, Tree) else ("",)
    return [leaf_name(memory, path) for path in paths]


def leaf_name(memory: Memory, path: str) -> str:
    return (
        memory.slots[path]
        if memory.slots is not None
        else f"{memory.name}.{path}"
        if path
        else memory.name
    )


def entries(program: Program) -> dict[str, str]:
    """Of each weight that workers have entries of, the array that holds them: [worker, ..]. Streams
    read it in a step alone.
    """
    return {
        name: leaf_name(program.memories[weight.worker], name)
        for name, weight in program.weights.items()
        if weight.worker is not None
    }


def views(
    program: Program, tensors: dict[str, Tensor], shards: Shards = WHOLE
) -> dict[str, Tensor]:
    """Leaves for autograd, each a view of its owner's storage."""
    return {
        name: tensors[owner].view(-1)[at:end].view(sizes).detach().requires_grad_()
        for name, (owner, at, end, sizes) in layout(program, tensors, shards).items()
    }


def bytes_of(tensors: dict[str, Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())


def planned(program: Program, steps: int, device: str) -> dict[str, Tensor]:
    """Ticks that each step-clock level makes in a run of `steps` steps."""
    return {
        name: torch.tensor(ticks, dtype=counting(device), device=device)
        for name, ticks in ticks_of(program, steps).items()
    }


def ticks_of(program: Program, steps: int) -> dict[str, float]:
    """`planned` as numbers."""
    return {
        name: float(
            max(1, math.floor(max(0, steps - level.clock.phase) / max(1, level.clock.period)))
        )
        for name, level in program.levels.items()
        if level.clock.unit == "step"
    }
