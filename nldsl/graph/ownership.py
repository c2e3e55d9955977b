"""Ownership of weights: each has exactly one owner, and the most specific `weights` wins.

weights of model.head      before      weights [a, b]      before      weights
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nldsl.core.nodes import Axis, Shape, Tree
from nldsl.frontend import syntax
from nldsl.frontend.expression_text import type_
from nldsl.graph.axes import see
from nldsl.graph.calls import declared_axes
from nldsl.graph.elaborator import Elaborator, Poisoned
from nldsl.graph.evaluate import evaluate
from nldsl.graph.names import join
from nldsl.graph.values import Definition, MemoryValue, Num, kind_of

if TYPE_CHECKING:
    from nldsl.graph.memories import MemoryInstance


@dataclass(frozen=True)
class Part:
    """`weights of place [a, b]`: the weights under a definition that have the axes of a shape;
    further axes are mapped over.
    """

    memory: MemoryInstance

    @property
    def said(self) -> syntax.Weights:
        kind = self.memory.text.type
        assert isinstance(kind, syntax.Weights)
        return kind

    @cached_property
    def prefix(self) -> str:
        """The path of the definition in sight, asked when all weights are known: of the nearest
        block that has the name, or makes weights under it by a call. A def sees its own blocks
        alone.
        """
        if self.said.of is None:
            return ""
        first, *inner = self.steps(self.said.of)
        place = join(first, *inner)
        home = self.memory.site.scope.home()
        for scope in self.memory.site.scope.chain():
            path = join(scope.path, first)
            entry = scope.names.get(first)
            if (
                entry is not None
                and not isinstance(entry.base, Definition)
                or any(under(name, path) for name in scope.elaborator.weights)
            ):
                return join(scope.path, place)
            if scope is home:
                break
        return join(home.path, place)

    def steps(self, of: syntax.Expr) -> list[str]:
        """`layer[i].mixer` -> `layer[0]`, `mixer`: an iteration of a loop has the name and value of
        its variable.
        """
        match of:
            case syntax.Field(value, name):
                return [*self.steps(value), name.text]
            case syntax.Index(value, index):
                elaborator, site = self.memory.site.scope.elaborator, self.memory.site
                iteration = evaluate(index, site)
                if not isinstance(iteration, Num):
                    elaborator.fail(
                        "N202",
                        f"the index of an iteration is a number, this is {kind_of(iteration)}",
                        index.span,
                        help="a number, or the variable of the loop",
                    )
                *before, last = self.steps(value)
                return [*before, f"{last}[{iteration.value:g}]"]
        assert isinstance(of, syntax.Name)
        return [of.text]

    @cached_property
    def axes(self) -> tuple[Axis | str, ...]:
        """Empty if no shape is said."""
        shape = self.said.shape
        return declared_axes(shape, self.memory.site.scope) if shape is not None else ()

    def covers(self, name: str, shape: Shape) -> bool:
        seen = see(self.axes, shape)
        return under(name, self.prefix) and seen.missing is None and not seen.short

    def rank(self) -> tuple[int, int, int]:
        """The greater the more specific."""
        return len(self.prefix), len(self.axes), sum(isinstance(axis, Axis) for axis in self.axes)

    def __str__(self) -> str:
        return type_(self.memory.text.type)


class Owners:
    """The memories of weights of one program, and the weights that each claims."""

    def __init__(self, elaborator: Elaborator) -> None:
        self.elaborator = elaborator
        self.parts: list[Part] = []

    def register(self, memory: MemoryInstance) -> None:
        self.parts.append(Part(memory))

    def twice(self, message: str, part: Part, other: Part) -> None:
        self.elaborator.report(
            "N111",
            message,
            part.memory.text.type.span,
            notes=[("the other", other.memory.text.type.span)],
            help="one of them, or `weights of model.head` for a part",
        )

    def claim(self, memory: MemoryInstance) -> Tree:
        """The unowned weights that the memory's `weights` covers, and none that is more
        specific.
        """
        mine = next(part for part in self.parts if part.memory is memory)
        same = [part for part in self.parts if (part.prefix, part.axes) == (mine.prefix, mine.axes)]
        for part in same[1:]:
            self.twice(f"two memories own `{part}`", part, same[0])
        leaves = []
        for name, weight in self.elaborator.weights.items():
            if weight.owner is not None or not mine.covers(name, weight.shape):
                continue
            others = [
                p
                for p in self.parts
                if p not in same and p.rank() >= mine.rank() and p.covers(name, weight.shape)
            ]
            if not any(other.rank() > mine.rank() for other in others):
                weight.owner = memory.name
                leaves.append((name, weight.shape))
                if others:
                    self.twice(
                        f"`{mine}` and `{others[0]}` both own the weight `{name}`, and neither is "
                        "more specific",
                        mine,
                        others[0],
                    )
        if not leaves and self.elaborator.findings:
            raise Poisoned  # the weights may well be where something is wrong
        if not leaves:
            where = f" under `{mine.prefix}`" if mine.prefix else " left"
            shape = f" that has the axes `{type_(mine.said.shape)}`" if mine.said.shape else ""
            self.elaborator.fail(
                "N113",
                f"there is no unowned weight{where}{shape}",
                memory.text.type.span,
                help="leave the level out, or give a definition a `weight(..)`",
            )
        return Tree(tuple(leaves))

    def lend(self, memory: MemoryInstance, worker: Axis) -> Tree:
        """The weights of the memory that one of a level per worker starts from, an entry for each
        worker: the lanes of a step read their worker's in their place. Fails with N118.
        """
        said = memory.text
        value = evaluate(said.start, memory.site) if said.start is not None else None
        kind = value.memory.text.type if isinstance(value, MemoryValue) and not value.path else None
        assert isinstance(said.type, syntax.Weights)
        if (
            not isinstance(value, MemoryValue)
            or not isinstance(kind, syntax.Weights)
            or value.memory.level.worker is not None
            or said.type.of is not None
            or said.type.shape is not None
        ):
            self.elaborator.fail(
                "N118",
                "the weights of each worker start from the memory that owns them",
                (said.start or said.type).span,
                "an entry for each worker, of what?",
                help="`memory W: weights = outer.S`, and `memory S: weights` in a level `outer` "
                "without `per worker`",
            )
        owned = value.memory.type.force().tree
        for name in owned.paths():
            weight = self.elaborator.weights[name]
            if weight.worker not in (None, memory.name):
                self.elaborator.fail(
                    "N111",
                    f"two memories stand for `{name}` at the workers",
                    said.type.span,
                    help="one memory `per worker` for each weight",
                )
            weight.worker = memory.name
        return Tree(tuple((name, (worker, *shape)) for name, shape in owned.leaves))

    def check(self) -> None:
        """Every weight is owned."""
        for weight in self.elaborator.weights.values():
            if weight.owner is None:
                self.elaborator.report(
                    "N110",
                    f"no level owns the weight `{weight.name}`",
                    weight.span,
                    help="`memory W: weights` in a level `every step`, or `never` to freeze it",
                )


def under(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith((prefix + ".", prefix + "["))
