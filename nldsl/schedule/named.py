"""What the step clock calls its values that no text has a name for.

grad W|loss             what one step gives: the gradient of the sum of `loss` in W; `sum loss`,
                        that sum; `terms loss`, the number of its terms
grad W|loss|training    its total since the level `training` last ticked or restarted
W@4 step                W at the last tick of a clock
fold 1                  the sum of a value that is made at ticks
training.tick           the ticks of a level since its reset
draw W                  a fresh draw for its start
bar W                   the cotangent of W
met 1 outer             sums and means over the workers of all ranks that a tick of `outer` takes
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from nldsl.core.nodes import Node, walk
from nldsl.core.program import STATE, Clock, Program
from nldsl.schedule.timetable import spoken

# since the last tick or restart of a level, or since the last tick of a clock
Stretch = str | Clock


@dataclass(frozen=True)
class Input:
    """What one step gives. `what`: grad, in a memory; sum; terms. `lanes`, of a sum where lanes
    are divided over workers: "each" of these its own, or "all".
    """

    what: str
    stream: str
    memory: str = ""
    lanes: str = ""

    def __str__(self) -> str:
        return f"{self.what} {self.key}" + (" of each worker" if self.lanes == "each" else "")

    @property
    def key(self) -> str:
        """What it is called among those of its sort."""
        return f"{self.memory}|{self.stream}" if self.memory else self.stream

    @property
    def terms(self) -> Input:
        """The number of terms of its stream."""
        return Input("terms", self.stream)


@dataclass(frozen=True)
class Draw:
    """A fresh draw for the start of a memory of weights."""

    memory: str

    def __str__(self) -> str:
        return f"draw {self.memory}"


@dataclass(frozen=True)
class Total:
    """What the steps of a stretch give together."""

    input: Input
    since: Stretch

    def __str__(self) -> str:
        return f"{self.input}|{spoken(self.since)}"

    @property
    def terms(self) -> Total:
        return Total(self.input.terms, self.since)


@dataclass(frozen=True)
class Copy:
    """A memory as the clock's last tick left it."""

    memory: str
    clock: Clock

    def __str__(self) -> str:
        return f"{self.memory}@{spoken(self.clock)}"


@dataclass(frozen=True)
class Fold:
    """The sum, over a stretch, of a value that is made at the ticks of a level."""

    number: int
    level: str
    since: Stretch

    def __str__(self) -> str:
        return f"fold {self.number}"


@dataclass(frozen=True)
class Counter:
    """The ticks of a level since its reset."""

    level: str

    def __str__(self) -> str:
        return f"{self.level}.tick"


@dataclass(frozen=True)
class Bar:
    """The cotangent of what a state holds."""

    of: Held

    def __str__(self) -> str:
        return f"bar {self.of}"


@dataclass(frozen=True)
class Met:
    """What a tick makes of the workers of all ranks, in one message of so many numbers."""

    level: str
    number: int
    size: int

    def __str__(self) -> str:
        return f"met {self.number} {self.level}"


Memory = str | Fold  # what an equation moves
Held = str | Fold | Copy  # what is, or was, the value of a memory
Name = str | Fold | Copy | Total | Counter
Heard = Input | Total  # what an equation takes of one step, or of a stretch of them


def name_of(node: Node) -> Name | Input | Draw | Bar | Met | None:
    """What a leaf of an equation reads or takes: in a schedule the attribute is a record."""
    attrs = dict(node.attrs)
    return cast("Name | Input | Draw | Bar | Met | None", attrs.get("memory", attrs.get("name")))


def input_of(heard: Heard) -> Input:
    return heard.input if isinstance(heard, Total) else heard


def heard(node: Node) -> Heard | None:
    """What of the steps a node is, if it is that."""
    name = dict(node.attrs).get({"input": "name", "now": "memory"}.get(node.op, ""))
    return name if isinstance(name, Input | Total) else None


def taken(equations: Iterable[Node]) -> list[Heard]:
    """What equations take of the steps."""
    found = (heard(node) for node in walk(*equations))
    return list(dict.fromkeys(h for h in found if h is not None))


def terms_of(found: Iterable[Heard]) -> tuple[Heard, ...]:
    """The numbers of terms of what is heard."""
    return tuple(dict.fromkeys(h.terms for h in found if input_of(h).what != "terms"))


def owner(program: Program, node: Node) -> Held | None:
    """What a read, or a weight, is the value of."""
    if node.op == "weight":
        return program.weights[node["name"]].owner
    if node.op == "held" and node["clock"].unit == "step":
        return Copy(node["memory"], node["clock"])
    name: Held | None = node["memory"] if node.op in STATE else None
    return name
