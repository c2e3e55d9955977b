"""Values of expressions during elaboration: numbers, arrays, memories, levels, clocks and
definitions.

An array knows which of its leading axes the text does not see: the axis of `level .. per h` and the
axes that a call maps over. They are told apart by identity, so a hidden `head` and a visible `head`
never meet.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from nldsl.core.nodes import Axis, Node, Shape, Tree
from nldsl.core.program import Clock
from nldsl.frontend import syntax

if TYPE_CHECKING:
    from nldsl.graph.levels import LevelInstance
    from nldsl.graph.memories import MemoryInstance
    from nldsl.graph.scope import Scope


@dataclass(frozen=True)
class Num:
    """A compile-time number; `text` names the axis that has it as its size: `4 * d`."""

    value: int | float
    text: str

    @property
    def tight(self) -> str:
        return (
            self.text if self.text.replace(".", "").replace("_", "").isalnum() else f"({self.text})"
        )


@dataclass(frozen=True, eq=False)
class Hidden:
    """An axis that the text does not see. `order` sorts outer before inner."""

    axis: Axis
    order: int


@dataclass(frozen=True, eq=False)
class Array:
    """An array or a tree: a node whose first axes are the hidden ones.

    `vocab` is n of a stream of `index(n)`.
    """

    node: Node
    hidden: tuple[Hidden, ...] = ()
    vocab: Num | None = None

    @property
    def is_tree(self) -> bool:
        return isinstance(self.node.type, Tree)

    @property
    def shape(self) -> Shape:
        """All axes of an array, the hidden ones first."""
        assert not isinstance(self.node.type, Tree)
        return self.node.type

    @property
    def tree(self) -> Tree:
        assert isinstance(self.node.type, Tree)
        return self.node.type

    @property
    def seen(self) -> Shape:
        return self.shape[len(self.hidden) :]

    @property
    def is_scalar(self) -> bool:
        return not self.is_tree and not self.seen


@dataclass(frozen=True, eq=False)
class Row:
    """`v^T` of one axis."""

    array: Array


@dataclass(frozen=True, eq=False)
class Eye:
    """`c * I`: its shape is that of the matrix beside it."""

    factor: Num | Array


@dataclass(frozen=True, eq=False)
class Items:
    """A list. Of `shape(tree)`, `paths` name the leaves and the items are a list of axes each."""

    items: tuple[Value, ...]
    paths: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Text:
    text: str


@dataclass(frozen=True, eq=False)
class ClockValue:
    clock: Clock


@dataclass(frozen=True, eq=False)
class Definition:
    """A `def` and the file whose constants it sees."""

    syntax: syntax.Def
    scope: Scope


@dataclass(frozen=True, eq=False)
class Builtin:
    name: str


@dataclass(frozen=True, eq=False)
class Family:
    """The levels `n[i]`, by index."""

    name: str
    members: dict[int | float, LevelInstance] = field(default_factory=dict)


@dataclass(frozen=True)
class Expose:
    """Axes that a call mapped over are visible again."""

    axes: tuple[Hidden, ...]


@dataclass(frozen=True)
class Absorb:
    """The visible axis of this name is hidden: the level that reads is `per` it."""

    axis: Hidden


View = Expose | Absorb


@dataclass(frozen=True, eq=False)
class MemoryValue:
    """A memory, not read yet. `version` counts the `<-` before a read inside the level, None is a
    read from outside.

    `views` are the changes of hidden axes on the way from the memory to the place that reads it.
    """

    memory: MemoryInstance
    version: int | None = None
    at: Clock | str | None = None  # a clock, or "after"
    path: str = ""
    views: tuple[View, ...] = ()

    def viewed(self, view: View) -> MemoryValue:
        return replace(self, views=(*self.views, view))


Plain = (
    Num
    | Array
    | Row
    | Eye
    | Items
    | Text
    | ClockValue
    | Definition
    | Builtin
    | Family
    | MemoryValue
)
Value: TypeAlias = "Plain | LevelInstance"


def kind_of(value: object) -> str:
    """For messages: `a clock`, `a number`."""
    names = {
        "Num": "a number",
        "Items": "a list",
        "Text": "a string",
        "ClockValue": "a clock",
        "Definition": "a definition",
        "Builtin": "a built-in",
        "Family": "a family of levels",
        "LevelInstance": "a level",
        "MemoryValue": "a memory",
    }
    return names.get(type(value).__name__, "an array")


def shape_text(shape: Shape) -> str:
    return "[" + ", ".join(axis.name for axis in shape) + "]"
