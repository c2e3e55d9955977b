"""Programs: memories and levels around nodes.

A `Memory` is one equation `m first start, then next`; a `Level` groups the memories that tick
together.

    recall.M  first start, restart sequence, then (1 - forget) * read(M) + now(S)   every token

Methods of `Program` compute everything that follows from these records alone: which level is
slower, how far it sees through the ticks of another, the owner of a read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from nldsl.core.nodes import Axis, Node, Shape, Type, walk
from nldsl.diagnostic import Diagnostic
from nldsl.source import Source, Span

# units of clocks, the fastest first
UNITS = ("update", "token", "sequence", "document", "step", "never")


@dataclass(frozen=True)
class Clock:
    """A timetable: ticks after units `phase + period`, `phase + 2 period`, ...; never at 0.

    `unit` is one of `UNITS`; "never" has period 0, "update" ends at the level that is called.
    `name` is its name in the text.
    """

    unit: str
    period: int
    phase: int = 0
    name: str = field(default="", compare=False)

    def ticks(self, n: int) -> bool:
        """Does the clock tick at the n-th unit, counted from 1?"""
        return self.period > 0 and n > self.phase and (n - self.phase) % self.period == 0

    @property
    def pace(self) -> tuple[int, int]:
        """Sort key, the fastest first: every period of tokens is shorter than every one of
        steps.
        """
        return UNITS.index(self.unit), self.period

    @property
    def inner(self) -> bool:
        """Does it tick while a batch is read: in tokens, sequences or documents?"""
        return self.unit not in ("step", "never")

    @property
    def outlives(self) -> bool:
        """Does what starts anew at its ticks outlive a sequence?"""
        return (
            self.unit in ("never", "document")
            or self.unit == "sequence"
            and (self.period, self.phase) != (1, 0)
        )


TOKEN = Clock("token", 1)
SEQUENCE = Clock("sequence", 1)
NEVER = Clock("never", 0)

# the stream of a batch [lane, token] that is true where a document ends; no input of a text can
# have its name
ENDS = "document"

# the output that a trained model is scored by, if the text names one; no stream of a text can have
# its name
REPORT = "report"

# the dim that divides the lanes of a batch: of n workers, each has one n-th of them, in their order
WORKER = "worker"

# operators whose value is a memory's: before this instant's tick, after it, at a copy
STATE = ("read", "now", "held")
# and what reads in an objective stand for until `grad` binds them
READS = (*STATE, "plain")

Fill: TypeAlias = "float | list[Fill]"  # a number for all entries, or lists of numbers
Setting: TypeAlias = "int | float | str | list[Setting]"  # what a constant is replaced by


@dataclass
class Weight:
    """A parameter slot.

    `init` is "normal" (std `scale`), "fill" (constant `fill`, a number or nested list).
    """

    name: str
    shape: Shape
    init: str = "normal"
    scale: float = 0.0
    fill: Fill = 0.0
    span: Span | None = None
    owner: str | None = None  # qualified name of the memory that owns it, set by ownership
    worker: str | None = None  # of that whose entries the lanes of a step read in its place


@dataclass
class Memory:
    """`start` is a node without streams: constants, weights (`learned`), other memories, `random`
    or `load`.

    For a memory of weights (`weights`, or a def whose start is `random`) `slots` maps leaf path ->
    weight name; its value *is* those weights and `start` is None. `next` is the value after a tick.
    """

    name: str
    type: Type
    level: str
    start: Node | None
    next: Node | None = None
    slots: Mapping[str, str] | None = None
    span: Span | None = None
    reset: Clock | None = None  # if it restarts apart from its level

    @property
    def equations(self) -> tuple[Node, ...]:
        """Its start and its next value, as far as it has them."""
        return tuple(node for node in (self.start, self.next) if node is not None)


@dataclass(frozen=True)
class Bptt:
    """The depth to which slower learner `viewer` (None: all) sees through a level's updates:
    "full", "none" or at every tick of a clock.
    """

    depth: str | Clock
    viewer: str | None = None
    span: Span | None = None


@dataclass(frozen=True)
class Clause:
    """Words in the text of a level, for findings that point at them.

    `word`     says what they are         `name`                      `span`
    minimize   an objective                                           the objective
    context    the clause                                             the clause
    stream     a stream that it names     the stream                  the name
    reset, bptt                                                       the clause
    update     an equation                what it moves               its right side
    read       a name in an equation      the name                    the name
    member     `l.M`, `l.M@after` there   `M`                         all of it
    climbs     `place - adamw(..)`        the optimizer               the right side
    replaces   `adamw(..)` alone          the optimizer               the right side

    A read in a window, or at another instant, is not among them.
    """

    word: str
    span: Span
    name: str = ""
    place: str = ""  # of `update`, `climbs` and `replaces`, what is moved: `M.W2`


@dataclass
class Level:
    """Memories that tick together. `parent` is the level in whose equation it was called: it ticks
    there, and `clock` is already in the parent's units.
    """

    name: str
    clock: Clock
    per: Axis | None = None
    reset: Clock = NEVER
    bptt: tuple[Bptt, ...] = ()
    memories: list[str] = field(default_factory=list)
    objectives: list[Node] = field(default_factory=list)
    context: list[Node] = field(default_factory=list)
    parent: str | None = None
    span: Span | None = None
    label: str = ""  # the definition it stands in, for reports
    flows: tuple[str, ...] = ()  # what the text calls each of `context`
    rate: Span | None = None  # the words `every ..`
    head: Span | None = None  # its name, where the text makes it
    said: tuple[Clause, ...] = ()  # its clauses, in the order of the text

    def clauses(self, viewer: Level) -> list[Bptt]:
        """The clauses for this viewer: those that name it, else those for all."""
        named = [b for b in self.bptt if b.viewer == viewer.name]
        return named or [b for b in self.bptt if b.viewer is None]


@dataclass
class Program:
    """Everything the text says, closed and explicit.

    `outputs` holds the top-level streams by name (`loss`, ...).
    """

    inputs: dict[str, Node]
    vocab: dict[str, int]  # input name -> n of `index(n)`
    weights: dict[str, Weight]
    memories: dict[str, Memory]
    levels: dict[str, Level]
    outputs: dict[str, Node]
    clocks: dict[str, Clock]
    dims: dict[str, int]
    sets: dict[str, Setting] = field(default_factory=dict)
    source: Source | None = None  # of the main file
    findings: tuple[Diagnostic, ...] = ()  # warnings and notes
    # outputs that the text makes by arithmetic, whatever constants make of it
    composed: frozenset[str] = frozenset()
    # qualified name of a value -> where the text defines it, once for each version
    lines: dict[str, tuple[Span, ...]] = field(default_factory=dict)

    def roots(self) -> list[Node]:
        """Everything that the program works out: outputs, starts and next values."""
        found = list(self.outputs.values())
        for memory in self.memories.values():
            found += memory.equations
        return found

    def nodes(self) -> Iterator[Node]:
        """Every node that the program names, contexts and objectives included, arguments first."""
        named = list(self.outputs.values())
        for level in self.levels.values():
            named += [*level.context, *level.objectives]
        for memory in self.memories.values():
            named += memory.equations
        return walk(*named)

    def root(self, level: Level) -> Level:
        """The level that calls: an update level has its period, and its `bptt`."""
        while level.parent is not None and level.parent in self.levels:
            level = self.levels[level.parent]
        return level

    def level(self, memory: str) -> Level:
        """The level of a memory."""
        return self.levels[self.memories[memory].level]

    def restart(self, memory: str) -> Clock:
        """The clock at whose ticks a memory goes back to its start."""
        own = self.memories[memory].reset
        return self.level(memory).reset if own is None else own

    @property
    def workers(self) -> Axis | None:
        """The axis of the workers of a step; None of a program without levels per worker."""
        found = (level.per for level in self.levels.values() if by_worker(level))
        return next(found, None)

    def slow(self, memory: str) -> bool:
        """Does a memory stand still while a batch is read?"""
        return not self.level(memory).clock.inner

    def since(self, span: str | Clock) -> Clock:
        """The clock of a stretch: since its tick, or that of a level."""
        return self.levels[span].clock if isinstance(span, str) else span

    def slower(self, a: Level, b: Level) -> bool:
        return self.root(a).clock.pace > self.root(b).clock.pace

    def horizon(self, viewer: Level, level: Level) -> str | Clock:
        """The depth to which `viewer` sees through the ticks of `level`; "none" where no clause
        says it.
        """
        if not self.slower(viewer, level):
            return "none"
        said = self.root(level).clauses(viewer)
        return said[0].depth if said else "none"

    def owner(self, node: Node) -> str | None:
        """The memory whose value a read, or a weight in a stream of a step, is."""
        if node.op in STATE:
            return str(node["memory"])
        if node.op != "weight":
            return None
        weight = self.weights[node["name"]]
        return weight.worker or weight.owner

    def counts(self, unit: str) -> bool:
        """Does anything in the program count in this unit?"""
        clocks = [
            c
            for level in self.levels.values()
            for c in (level.clock, level.reset, *(b.depth for b in level.bptt))
        ]
        clocks += [clock for node in walk(*self.roots()) for clock in clocks_of(node)]
        return any(isinstance(clock, Clock) and clock.unit == unit for clock in clocks)


def by_worker(level: Level) -> bool:
    """Has it an entry for each worker, which learns from that worker's lanes?"""
    return level.per is not None and level.per.name == WORKER and level.clock.unit == "step"


def per_worker(stretch: Node) -> bool:
    """Is a stretch one of each worker's lanes: has it an axis more than its terms?"""
    return stretch.op == "fold" and stretch.type != stretch.args[0].type


def clocks_of(node: Node) -> list[Clock]:
    """The clocks that a node names: of a copy, of a stretch, of the pairs that attention looks back
    to.
    """
    spans = (
        [span[1] for _, _, span in node["groups"] if span is not None]
        if node.op == "attend"
        else []
    )
    return [
        clock for clock in (*(value for _, value in node.attrs), *spans) if isinstance(clock, Clock)
    ]
