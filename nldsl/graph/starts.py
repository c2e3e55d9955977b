"""Starts of memories: constants, `random`, `learned`, `load`, and the values of other memories.

They read no streams.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nldsl.core.nodes import Constant, Node, Shape, Tree
from nldsl.core.program import Fill, Weight
from nldsl.frontend import syntax
from nldsl.graph.elaborator import Elaborator, did_you_mean
from nldsl.graph.evaluate import evaluate
from nldsl.graph.scope import Scope, Site
from nldsl.graph.templates import Leaf
from nldsl.graph.values import Array, Num, Text

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


def load(memory: MemoryInstance, call: syntax.Call, site: Site) -> Array:
    """`load("file", "theirs.{layer}" -> ours, ..)`: one to one both ways; a loop is the path
    component of its variable.
    """
    elaborator, type_ = memory.elaborator, memory.type.force()
    file = evaluate(call.args[0], site) if call.args else None
    if not isinstance(file, Text):
        elaborator.fail(
            "N107", '`load` takes the name of a checkpoint and pairs "theirs" -> ours', call.span
        )
    wanted = pairs_of(call, elaborator)
    paths = type_.core.paths() if isinstance(type_.core, Tree) else ("",)
    used, nodes = set(), []
    for path in paths:
        ours, iterations = (
            re.sub(r"\[[^\]]*\]", "", path) or memory.text.name.text,
            dict(re.findall(r"(\w+)\[([^\]]*)\]", path)),
        )
        if ours not in wanted:
            elaborator.fail(
                "N116",
                f"no pair loads the weight `{path or ours}`",
                call.span,
                help=f'one more pair: `"theirs" -> {ours or memory.text.name.text}`',
            )
        used.add(ours)
        theirs, pair = wanted[ours]
        for name in re.findall(r"\{(\w+)\}", theirs):
            theirs = theirs.replace(
                f"{{{name}}}", iterations.get(name) or variable(name, site, pair)
            )
        shape = type_.core.shape(path) if isinstance(type_.core, Tree) else type_.core
        with elaborator.at(pair.key.span, site.scope.iteration):
            nodes.append(elaborator.node("load", type=shape, file=file.text, key=theirs))
    for ours in wanted.keys() - used:
        elaborator.report(
            "N116",
            f"there is no weight `{ours}` to load",
            wanted[ours][1].value.span,
            help=did_you_mean(ours, [path or memory.text.name.text for path in paths]),
        )
    if not isinstance(type_.core, Tree):
        return Array(nodes[0], type_.hidden)
    return Array(elaborator.node("tree", *nodes, type=type_.core), type_.hidden)


def pairs_of(call: syntax.Call, elaborator: Elaborator) -> dict[str, tuple[str, syntax.Pair]]:
    """Our name -> theirs, and the pair that says so."""
    wanted: dict[str, tuple[str, syntax.Pair]] = {}
    for arg in call.args[1:]:
        if not isinstance(arg, syntax.Pair) or not isinstance(arg.key, syntax.String):
            elaborator.fail("N107", 'a pair "theirs" -> ours is needed here', arg.span)
        ours = arg.value.span.text().replace(" ", "")
        if ours in wanted:
            elaborator.fail("N107", f"`{ours}` is loaded twice", arg.span)
        wanted[ours] = (arg.key.text, arg)
    return wanted


def variable(name: str, site: Site, pair: syntax.Pair) -> str:
    found = site.scope.find(name)
    if found is None or not isinstance(found[0].base, Num):
        site.elaborator.fail("N101", f"`{{{name}}}` is not a loop variable here", pair.key.span)
    return f"{found[0].base.value:g}"
