"""The core: a program as equations over named-axis arrays, memories and levels.

A program is a DAG of `Node`s. A node is one equation `x = op(args)` that holds at every instant of
its rate; a `Memory` is one equation `m first start, then next`; a `Level` groups the memories that
tick together.

    recall.M  first start, restart sequence, then (1 - forget) * read(M) + now(S)   every token

Shapes are positional tuples of `Axis`; batch and time are never written. A level `per head` and
every mapped axis are explicit here: they stand in front of the axes that the text shows. A tree
(the weights of a definition, `rest`) is one value with a shape per leaf; elementwise operators act
on it leaf by leaf.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nldsl.source import Span


@dataclass(frozen=True)
class Axis:
    name: str
    size: int

    def __str__(self) -> str:
        return self.name if self.name == str(self.size) else f"{self.name}={self.size}"


Shape = tuple[Axis, ...]


@dataclass(frozen=True)
class Tree:
    """The type of a tree value: path of each leaf and its shape, in the order of definition."""

    leaves: tuple[tuple[str, Shape], ...]

    def paths(self) -> tuple[str, ...]:
        return tuple(path for path, _ in self.leaves)

    def shape(self, path: str) -> Shape:
        return dict(self.leaves)[path]


Type = Shape | Tree


@dataclass(frozen=True)
class Clock:
    """A timetable: ticks after units `phase + period`, `phase + 2 period`, ...; never at 0.

    `unit` is "token", "sequence", "step", "document" or "never" (period 0). `name` is what the text
    calls it.
    """

    unit: str
    period: int
    phase: int = 0
    name: str = field(default="", compare=False)

    def ticks(self, n: int) -> bool:
        """Does the clock tick at the n-th unit, counted from 1?"""
        return self.period > 0 and n > self.phase and (n - self.phase) % self.period == 0


# the stream of a batch [lane, token] that is true where a document ends; no input of a text can
# have its name
ENDS = "document"


# the output that a trained model is scored by, if the text names one; no stream of a text can have
# its name
REPORT = "report"


@dataclass(frozen=True, eq=False)
class Node:
    """One equation. Nodes are interned: equal op, args and attrs are the same object."""

    op: str
    args: tuple[Node, ...]
    attrs: tuple[tuple[str, Any], ...]
    type: Type
    span: Span | None = None
    turn: tuple[
        str, ...
    ] = ()  # turns of the `for` loops outside levels, outermost first: ("layer[2]", "p[16]")
    name: str = ""  # qualified name of the definition it is the value of, if any

    def __getitem__(self, attr: str) -> Any:
        return dict(self.attrs)[attr]

    def __repr__(self) -> str:
        extra = "".join(f", {k}={v}" for k, v in self.attrs)
        return f"{self.op}({', '.join(a.name or a.op for a in self.args)}{extra})"


@dataclass
class Weight:
    """A parameter slot.

    `init` is "normal" (std `scale`), "fill" (constant `fill`, a number or nested list).
    """

    name: str
    shape: Shape
    init: str = "normal"
    scale: float = 0.0
    fill: Any = 0.0
    span: Span | None = None
    owner: str | None = None  # qualified name of the memory that owns it, set by ownership


@dataclass
class Memory:
    """`start` is a node without streams: constants, weights (`learned`), other memories, `random`
    or `load`.

    For a memory of weights (`rest`, or a def whose start is `random`) `slots` maps leaf path ->
    weight name; its value *is* those weights and `start` is None. `next` is the value after a tick.
    """

    name: str
    type: Type
    level: str
    start: Node | None
    next: Node | None = None
    slots: Mapping[str, str] | None = None
    span: Span | None = None


@dataclass(frozen=True)
class Bptt:
    """How far slower learner `viewer` (None: all) sees through a level's updates: "full", "none" or
    at every tick of a clock.
    """

    depth: str | Clock
    viewer: str | None = None
    span: Span | None = None


@dataclass
class Level:
    name: str
    clock: Clock
    per: Axis | None = None
    reset: Clock = Clock("never", 0)
    bptt: tuple[Bptt, ...] = ()
    memories: list[str] = field(default_factory=list)
    objectives: list[Node] = field(default_factory=list)
    context: list[Node] = field(default_factory=list)
    parent: str | None = (
        # the level in whose equation it was called: it ticks there, `clock` is already in the
        # parent's units
        None
    )
    span: Span | None = None
    label: str = ""  # the definition it stands in, for reports
    flows: tuple[str, ...] = ()  # what the text calls each of `context`
    rate: Span | None = None  # the words `every ..`


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
    sets: dict[str, Any] = field(default_factory=dict)
    source: Any = None  # the Source of the main file
    findings: tuple[Any, ...] = ()  # warnings and notes, `Diagnostic`s
    composed: frozenset[str] = (
        frozenset()
    )  # outputs that the text makes by arithmetic, whatever constants make of it
    # qualified name of a value -> where the text defines it, once for each version
    lines: dict[str, tuple[Span, ...]] = field(default_factory=dict)


# op -> (number of array arguments or None for any, attributes). The law table: `check_node`
# verifies it after every stage.
#   Leaves of time
OPS: dict[str, tuple[int | None, tuple[str, ...]]] = {
    "const": (0, ("value",)),  # a number, or a nested tuple of numbers with the node's shape
    "input": (0, ("name",)),  # a stream of the data; rate token
    "weight": (0, ("name",)),  # a parameter slot: a plain read of its owner
    "plain": (
        0,
        ("memory",),
    ),  # in an objective: what plain reads of M inside its level see; bound by `grad`
    "read": (0, ("memory",)),  # M before this instant's tick (held since its last tick)
    "now": (0, ("memory",)),  # M after this instant's tick
    "held": (
        0,
        ("memory", "clock"),
    ),  # M at the last tick of clock strictly before now; start before the first or after a reset
    "held_stream": (1, ("clock",)),  # a stream at the last tick of clock strictly before now
    "tick": (0, ("level",)),  # ticks of the level since its reset, this one included
    "ticks": (0, ("level",)),  # ticks planned for the run
    "eye": (0, ()),  # identity of shape (n, n)
    "random": (
        0,
        ("name", "scale"),
    ),  # a start drawn from the seed and `name`; normal with std `scale`
    "load": (0, ("file", "key")),  # a start read from a checkpoint
    # Trees
    "leaf": (1, ("path",)),  # one leaf of a tree
    "tree": (None, ()),  # args in the order of type.leaves
    "total": (1, ("keep",)),  # sum over all leaves and all axes but the first `keep` of each
    # Elementwise; arrays of one shape, or () with anything, or a tree with a tree, or a tree with
    # an array that is a prefix of every leaf
    **{op: (2, ()) for op in ("add", "sub", "mul", "div", "pow", "max", "min", "le", "ge", "eq")},
    **{
        op: (1, ())
        for op in (
            "neg",
            "exp",
            "log",
            "sqrt",
            "abs",
            "sign",
            "tanh",
            "sigmoid",
            "silu",
            "gelu",
            "softplus",
            "cos",
            "floor",
        )
    },
    "where": (3, ()),
    # Axes
    "spread": (
        1,
        ("dims",),
    ),  # axis i of the argument becomes axis dims[i] of the result; the others are broadcast
    "permute": (1, ("dims",)),
    "reshape": (1, ()),
    "einsum": (
        2,
        ("eq",),
    ),  # letters per axis, "hij,hj->hi"; sums letters missing on the right; no letter twice in one operand
    "sum": (1, ("dims",)),
    "mean": (1, ("dims",)),
    "amax": (1, ("dims",)),
    "softmax": (1, ("dim",)),
    "select": (1, ("dim", "index")),
    "stack": (None, ("dim",)),
    "join": (None, ("dim",)),
    "solve": (2, ()),  # (B [.., m, n], A [.., n, n]) -> B A^-1; A is positive definite
    "diag": (1, ()),  # [.., n] -> [.., n, n]
    "gather": (2, ()),  # (table [vocab, ..], ids []) -> [..]
    "cross_entropy": (2, ()),  # (logits [.., vocab], ids []) -> [..]
    # Time
    "conv": (
        2,
        (),
    ),  # (x [i], K [n, i]): y_t = sum_j K[n-1-j] x_{t-j}; causal, x is 0 before the sequence
    "rope": (
        1,
        ("base",),
    ),  # position = tokens before this one in the sequence; rotates halves of the last axis
    "attend": (
        None,
        ("groups", "scale"),
    ),  # q, k1, v1, ..; see `attend` in desugar.py. groups: (k_eq, v_eq, span) per pair
    "ahead": (1, ()),  # one token later; absent at a sequence's last token
    "fold": (
        1,
        ("how", "since"),
    ),  # sum | mean over the instants since the last tick of `since` (a Clock, or a level's name: `period`)
    "window": (1, ("how", "length")),  # sum | mean over the last `length` tokens, this one included
    # Gradients
    "grad": (
        2,
        ("memory", "context"),
    ),  # (J, P): derivative of sum(J) in the plain reads of `memory` at P; `context`: tuple of nodes held constant
    "grad_stream": (
        2,
        (),
    ),  # (e, y): derivative of stream e in stream y at this instant, all else held
    "stop": (1, ()),  # derivative zero for every learner
    # Of a schedule alone
    "ended": (
        None,
        ("clocks",),
    ),  # (value, a stream for each of `clocks`): the value; the streams are 1 where documents end for these clocks
    "replay": (
        None,
        ("how", "since", "names"),
    ),  # (term, value of each `plain` of names): a fold or window whose terms see these memories
}
ELEMENTWISE = frozenset(
    op
    for op in OPS
    if op
    in "add sub mul div pow max min le ge eq neg exp log sqrt abs sign tanh sigmoid silu gelu "
    "softplus cos floor where".split()
)


class Interner:
    """Makes nodes; equal equations become one object."""

    def __init__(self) -> None:
        self._table: dict[tuple, Node] = {}

    def __call__(
        self,
        op: str,
        *args: Node,
        type: Type,
        span: Span | None = None,
        turn: tuple[str, ...] = (),
        called: str = "",
        **attrs: Any,
    ) -> Node:
        arity, names = OPS[op]
        assert arity is None or arity == len(args), (op, len(args))
        assert set(names) == set(attrs), (op, attrs)
        items = tuple(sorted(attrs.items()))
        key = (op, tuple(id(a) for a in args), items, type)
        found = self._table.get(key)
        if found is None:
            found = self._table[key] = Node(op, args, items, type, span, turn, called)
        return found


def walk(*roots: Node) -> Iterator[Node]:
    """Every node reachable from roots through `args`, arguments first, each once.

    No recursion: programs are deep.
    """
    seen: set[int] = set()
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((arg, False) for arg in reversed(node.args) if id(arg) not in seen)


def ahead(*roots: Node) -> dict[Node, int]:
    """Of every node below the roots, how many tokens ahead it looks: so many at the end of a
    sequence have no value.
    """
    found: dict[Node, int] = {}
    for node in walk(*roots):
        found[node] = max((found[arg] for arg in node.args), default=0) + (node.op == "ahead")
    return found


def numel(shape: Shape) -> int:
    n = 1
    for axis in shape:
        n *= axis.size
    return n


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


def counted(program: Program, unit: str) -> bool:
    """Does anything in the program count in this unit?"""
    clocks = [
        c
        for level in program.levels.values()
        for c in (level.clock, level.reset, *(b.depth for b in level.bptt))
    ]
    roots = [
        *program.outputs.values(),
        *(r for m in program.memories.values() for r in (m.start, m.next) if r is not None),
    ]
    clocks += [clock for node in walk(*roots) for clock in clocks_of(node)]
    return any(isinstance(clock, Clock) and clock.unit == unit for clock in clocks)
