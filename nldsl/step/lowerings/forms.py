"""What a recurrence is, before a line is written: a form, or what stands in its way.

Two texts are kept apart here. A *kind* says what a value is to the memories of a recurrence (known,
a state, an answer); a *rule* says how a node is written, and is found once, by `affine_form`.

known     a stream, a value held through the piece, a value without a time
state     affine in a memory: gate_t X_{t-1} + sum of r_t (X_{t-1} a_t) b_t^T + known terms
answer    what a state says to a vector for each token: gate_t (X_{t-1} a_t) + known
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from nldsl.core.nodes import Node, Shape, walk
from nldsl.schedule.plan import Region
from nldsl.schedule.token_states import State as Memory
from nldsl.source import Span

ANSWERS, STATES = "answers", "states"  # what a read of a moving memory leaves at each token


@dataclass(frozen=True)
class Recurrence:
    """Memories that need each other within a sequence. `heads`: of each memory, how many of its
    first axes are heads, each a recurrence of its own; all of them in `entries`, where a vector has
    a gate for each entry.
    """

    region: Region
    inputs: tuple[Node, ...]
    heads: Mapping[str, int]
    entries: frozenset[str] = frozenset()

    @property
    def memories(self) -> dict[str, Memory]:
        """Those that tick at every token."""
        return {s.name: s for s in self.region.ticking if not s.seldom}

    @property
    def read_before(self) -> frozenset[str]:
        """The memories that something reads before this token's tick."""
        nodes = walk(*self.region.outputs, *(s.tick for s in self.region.ticking))
        return frozenset(n["memory"] for n in nodes if n.op == "read")


@dataclass(frozen=True)
class Obstacle:
    """Why the memories of a recurrence are computed token by token: at which equation."""

    node: Node
    reason: str
    memory: str = ""  # one that could be tried with a gate for each entry
    span: Span | None = None  # the words of the equation, or the nearest that it was made from

    def __str__(self) -> str:
        if self.span is None:
            return self.reason
        words = " ".join(self.span.text().split())
        words = words if len(words) <= 48 else words[:45] + "..."
        return f"{self.reason}; {self.span.source.name}:{self.span.line}: `{words}`"


# -- kinds


@dataclass(frozen=True)
class Factor:
    """A number for each token and head. `literal` if it is the same for all; `of`: what tells two
    factors apart.
    """

    literal: float | None = None
    of: Hashable = None

    def times(self, other: Factor) -> Factor:
        if self.literal is not None and other.literal is not None:
            return Factor(self.literal * other.literal)
        for x, y in ((self, other), (other, self)):
            if x.literal == 1:
                return y
        return Factor(None, ("times", self, other))

    def plus(self, other: Factor) -> Factor:
        if self.literal is not None and other.literal is not None:
            return Factor(self.literal + other.literal)
        return Factor(None, ("plus", self, other))


@dataclass(frozen=True)
class Known:
    lead: str  # dimensions of its tensor before its axes: "", "B" or "BT"
    literal: float | None = None
    marks: frozenset[str] = frozenset()  # ANSWERS, STATES: what it is computed from


@dataclass(frozen=True)
class Initial:
    """The start of the piece, weighed."""

    factor: Factor


@dataclass(frozen=True)
class Summed:
    """Writes of the piece: of this token alone, or of all tokens so far through a kernel; `dense`
    if they are not kept as two factors.
    """

    kernel: bool
    dense: bool


@dataclass(frozen=True)
class State:
    """`gate`: what the memory being solved is multiplied with, None if it is not in it. `keys`: the
    vectors a_t that it answers and forgets. `channels`: gates have the memory's last axis too.
    """

    shape: Shape
    heads: int
    terms: tuple[Initial | Summed, ...] = ()
    gate: Factor | None = None
    keys: tuple[Hashable, ...] = ()
    channels: bool = False
    marks: frozenset[str] = frozenset()

    @property
    def moves(self) -> bool:
        """Is the memory being solved in it?"""
        return self.gate is not None or bool(self.keys)


@dataclass(frozen=True)
class Answer:
    heads: int
    keys: tuple[Hashable, ...]
    rest: Known | None
    marks: frozenset[str] = frozenset()


Kind = Known | State | Answer


# -- rules


@dataclass(frozen=True)
class Plain:
    """By the operator's own text, of tensors."""


@dataclass(frozen=True)
class Itself:
    """The memory being solved, as it was one token before."""


@dataclass(frozen=True)
class Before:
    """Another memory before its tick, or this one outside its update."""


@dataclass(frozen=True)
class After:
    """A memory after its tick."""


@dataclass(frozen=True)
class Scale:
    """Argument `state` times the number that `factor` is, for each head or each channel."""

    state: int
    factor: Node
    channels: bool = False


@dataclass(frozen=True)
class Divide:
    factor: Node


@dataclass(frozen=True)
class Negate: ...


@dataclass(frozen=True)
class Sum:
    """The sum or the difference of both arguments."""

    minus: bool


@dataclass(frozen=True)
class Outer:
    """u z^T for each token, kept as two factors."""


@dataclass(frozen=True)
class Erase:
    """What the memory answered to a key, written back at a key: a rank-one write that forgets."""


@dataclass(frozen=True)
class Contract:
    """Argument `state` times a vector for each token."""

    state: int


@dataclass(frozen=True)
class Detach:
    """Term by term: no derivative passes through."""


@dataclass(frozen=True)
class Band:
    """The terms of a stretch, each evaluated once at memories that stand still, and a band of them
    at every token.
    """

    heads: int
    rules: Rules


Rule = (
    Plain
    | Itself
    | Before
    | After
    | Scale
    | Divide
    | Negate
    | Sum
    | Outer
    | Erase
    | Contract
    | Detach
    | Band
)
Rules = Mapping[Node, Rule]


@dataclass(frozen=True)
class AffineForm:
    """A recurrence all of whose memories are affine in themselves.

    `updates` has the rules of each memory's equation, `reads` those of all other values; in an
    update the memory is `Itself`, elsewhere it is solved.
    """

    recurrence: Recurrence
    updates: Mapping[str, Rules]
    reads: Rules
    states: Mapping[str, State]  # each memory that ticks at every token, after its tick
    at_copies: bool  # do the updates start from a held copy of a memory?
    met: frozenset[str]  # what is made of moving memories for what is handed on: ANSWERS, STATES
    remarks: tuple[str, ...]  # what a reader is told beside the name of the form

    @property
    def wide(self) -> bool:
        """Does a mask have a number for each channel, or entry, and pair of tokens?"""
        return bool(self.recurrence.entries) or any(s.channels for s in self.states.values())

    @property
    def seen(self) -> frozenset[str]:
        """The memories that something reads as they are at a token."""
        rules = [self.reads, *self.updates.values()]
        taken = (node for some in rules for node, rule in some.items() if sees(rule))
        return frozenset(node["memory"] for node in taken)


def sees(rule: Rule) -> bool:
    return isinstance(rule, (Before, After))
