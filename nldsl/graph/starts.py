"""Starts of memories: constants, `random`, `learned`, `load`, and the values of other memories.

They read no streams.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nldsl.core.nodes import Constant, Node, Shape, Tree
from nldsl.core.program import Fill, Weight
from nldsl.frontend import syntax
from nldsl.graph.loads import load
from nldsl.graph.scope import Scope, Site
from nldsl.graph.templates import Leaf
from nldsl.graph.values import Array

if TYPE_CHECKING:
    from nldsl.graph.memories import MemoryInstance


def start(memory: MemoryInstance) -> Node | None:
    """The node of a start; None where the memory's value is its weight slots."""
    elaborator, text, type_ = memory.elaborator, memory.text, memory.type.force()
    drawn = isinstance(text.start, syntax.Name) and text.start.text == "random"
    if isinstance(text.type, syntax.Weights) and memory.level.worker is None:
        memory.slots = {path: path for path in type_.tree.paths()}
    elif (
        drawn
        and type_.template is not None
        and memory.level.parent is None
        and not memory.level.clock.inner
    ):
        memory.slots = {
            leaf.path: slot(memory, f"{memory.name}.{leaf.path}", shape, leaf, memory.name).name
            for leaf, (_, shape) in zip(type_.template.leaves, type_.tree.leaves, strict=True)
        }
    if text.start is None or memory.slots is not None and drawn:
        return None
    scope = Scope(elaborator, "iteration", memory.level.scope, memory.level.scope.path)
    scope.start = StartOf(memory)
    site = Site(scope, memory.site.place)
    value = memory.value_of(text.start, site)
    with elaborator.at(text.start.span, scope.iteration):
        return memory.conform(value, f"`{text.name.text}`")


@dataclass(frozen=True)
class StartOf:
    """The starts of one memory, each in its type."""

    memory: MemoryInstance

    def drawn(self) -> Array:
        return self.made(random)

    def learned(self) -> Array:
        return self.made(learned)

    def loaded(self, call: syntax.Call, site: Site) -> Array:
        return load(self.memory, call, site)

    def made(self, make: Callable[[MemoryInstance, str, Shape, Leaf], Node]) -> Array:
        memory, type_ = self.memory, self.memory.type.force()
        if not isinstance(type_.core, Tree):
            return Array(make(memory, "", type_.core, initial(type_.seen)), type_.hidden)
        k = len(type_.hidden)
        leaves = {leaf.path: leaf for leaf in type_.template.leaves} if type_.template else {}
        nodes = [
            make(memory, path, shape, leaves.get(path) or initial(shape[k:]))
            for path, shape in type_.core.leaves
        ]
        return Array(memory.elaborator.node("tree", *nodes, type=type_.core), type_.hidden)


def initial(shape: Shape) -> Leaf:
    """As `weight(shape)` begins."""
    return Leaf("", shape, "normal", 1 / math.sqrt(shape[-1].size if shape else 1), 0.0)


def random(memory: MemoryInstance, path: str, shape: Shape, leaf: Leaf) -> Node:
    """`random`: a draw from the seed, with the scale that the weight has in its def."""
    elaborator = memory.elaborator
    if leaf.init == "fill":
        return filled(memory, shape, leaf)
    return elaborator.node(
        "random",
        type=shape,
        name=f"{memory.name}.{path}" if path else memory.name,
        scale=leaf.scale,
    )


def filled(memory: MemoryInstance, shape: Shape, leaf: Leaf) -> Node:
    """The constant with which a weight of a def starts."""
    elaborator = memory.elaborator
    if isinstance(leaf.fill, list):
        value = elaborator.node(
            "const", type=leaf.shape[: depth(leaf.fill)], value=frozen(leaf.fill)
        )
        k = len(shape) - len(leaf.shape)
        return elaborator.shapes.spread(value, shape, range(k, k + len(value.shape)))
    return elaborator.shapes.spread(elaborator.shapes.const(leaf.fill).node, shape, ())


def frozen(fill: Fill) -> Constant:
    return tuple(frozen(item) for item in fill) if isinstance(fill, list) else fill


def depth(fill: Fill) -> int:
    return 1 + depth(fill[0]) if isinstance(fill, list) else 0


def learned(memory: MemoryInstance, path: str, shape: Shape, leaf: Leaf) -> Node:
    """A parameter that a slower level owns."""
    name = f"{memory.name}.start.{path}" if path else f"{memory.name}.start"
    return memory.elaborator.node(
        "weight", type=shape, name=slot(memory, name, shape, leaf, None).name
    )


def slot(memory: MemoryInstance, name: str, shape: Shape, leaf: Leaf, owner: str | None) -> Weight:
    """The weight that holds a start, or a memory of weights."""
    fill = leaf.fill
    if isinstance(fill, list):
        for axis in reversed(shape[: len(shape) - len(leaf.shape)]):
            fill = [fill] * axis.size
    return memory.elaborator.weights.setdefault(
        name, Weight(name, shape, leaf.init, leaf.scale, fill, memory.text.span, owner)
    )
