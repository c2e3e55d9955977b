"""Time lines, the ticks of clocks on them, and the cut that hides a value from some learners."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from nldsl.core.nodes import Node, walk
from nldsl.core.program import ENDS, READS, STATE, Clock, Level, Program
from nldsl.core.timing import lookahead
from nldsl.oracle.operators import Value, each

_viewer: str | None = None  # the level whose gradient is being taken


@contextmanager
def viewed_by(level: str) -> Iterator[None]:
    global _viewer
    before, _viewer = _viewer, level
    yield
    _viewer = before


class _Blind(FunctionCtx):
    blind: frozenset[str]


class _Cut(torch.autograd.Function):
    """The identity, with derivative zero for the levels in `blind`."""

    @staticmethod
    def forward(ctx: _Blind, x: Tensor, blind: frozenset[str]) -> Tensor:
        ctx.blind = blind
        return x.view_as(x)

    @staticmethod
    def backward(ctx: _Blind, bar: Tensor) -> tuple[Tensor | None, None]:
        return (None if _viewer in ctx.blind else bar), None


_cut: Callable[[Tensor, frozenset[str]], Tensor] = _Cut.apply


def cut(value: Value, blind: frozenset[str]) -> Value:
    return each(lambda x: _cut(x, blind) if x.requires_grad else x, value)


def mark(value: Value, lanes: int) -> Value:
    """The same value as an object of its own that one can differentiate in: as adding a fresh zero
    to it would make it.
    """

    def copy(x: Tensor) -> Tensor:
        x = x.expand([lanes, *x.shape[1:]]).clone()
        return x if x.requires_grad else x.requires_grad_()

    return each(copy, value)


@dataclass
class Line:
    """Instants 0, 1, ..: the steps of the run, or tokens, with the step and the first token of the
    sequence each belongs to.
    """

    unit: str
    lanes: int = 1
    learns: bool = False  # is it of a step, in which each lane reads the entry of its worker?
    tables: list[dict[Node, Value]] = field(default_factory=list)
    memo: dict[tuple[str, str, int], object] = field(default_factory=dict)
    inputs: list[dict[str, Tensor]] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    shown: dict[str, int] = field(
        default_factory=dict
    )  # by output: the first instant not yet handed out

    def __len__(self) -> int:
        return len(self.tables)

    def position(self, i: int) -> int:
        return i - self.first[i]

    def ends(self, i: int) -> bool:
        """Is i the last token of its sequence? Not known to be before the next sequence begins."""
        return i + 1 < len(self) and self.first[i + 1] == i + 1

    def ended(self, i: int) -> bool:
        """Does a document end with token i? Of one lane: documents end in each where they will."""
        return bool(self.inputs[i][ENDS].item())

    def copy(self) -> Line:
        """The same line to go on with, its last instant apart."""
        return Line(
            self.unit,
            self.lanes,
            self.learns,
            [*self.tables[:-1], *map(dict, self.tables[-1:])],
            dict(self.memo),
            list(self.inputs),
            list(self.step),
            list(self.first),
            dict(self.shown),
        )


@dataclass
class Inside:
    """An evaluation that differs from the ordinary one in the nodes of `touched`.

    In an objective: plain reads of a memory see `plain`, and the streams of `context` are constants
    for `viewer`. For the derivative of one stream in another: that stream is `fixed` at one
    instant.
    """

    touched: frozenset[Node]
    outer: Inside | None = None
    viewer: str = ""
    plain: dict[str, Value] = field(default_factory=dict)
    context: frozenset[Node] = frozenset()
    fixed: dict[tuple[Node, int], Value] = field(default_factory=dict)
    table: dict[tuple[int, int, Node], Value] = field(default_factory=dict)


class Facts:
    """Facts about the levels and nodes of a program that hold at every instant."""

    def __init__(self, program: Program) -> None:
        self.program = program
        roots = [
            *program.outputs.values(),
            *(r for m in program.memories.values() for r in (m.start, m.next) if r is not None),
            *(o for level in program.levels.values() for o in level.objectives),
        ]
        self.nodes = list(walk(*roots))
        self.learners = {n["memory"] for n in self.nodes if n.op == "grad"}
        self.lag = lookahead(*roots)  # tokens that must come before it has a value
        self.foresees = frozenset(node for node, late in self.lag.items() if late)
        self.may_lack = self._reaching(lambda n: n.op in ("ahead", "held_stream"))
        self.by_token = self._reaching(self._token_leaf, self._gathers_tokens)
        self._touched: dict[tuple[Node, frozenset[Node]], frozenset[Node]] = {}
        self._pulse: dict[Node, frozenset[str]] = {}
        self._depths: dict[str, dict[str, str | Clock]] = {}

    def _reaching(
        self, starts: Callable[[Node], bool], ends: Callable[[Node], bool] = lambda n: False
    ) -> frozenset[Node]:
        found: set[Node] = set()
        for node in self.nodes:  # arguments come first
            if not ends(node) and (starts(node) or any(a in found for a in node.args)):
                found.add(node)
        return frozenset(found)

    def level(self, memory: str) -> Level:
        return self.program.levels[self.program.memories[memory].level]

    def unit(self, level: Level) -> str:
        return "token" if level.clock.inner else "step"

    def _token_leaf(self, node: Node) -> bool:
        if node.op in READS:
            return self.unit(self.level(node["memory"])) == "token"
        if node.op == "tick":
            return self.unit(self.program.levels[node["level"]]) == "token"
        if node.op == "fold":
            return not self._gathers_tokens(node)
        if node.op == "weight":  # of each lane another, where workers have entries of their own
            return self.program.weights[node["name"]].worker is not None
        return node.op in (
            "input",
            "rope",
            "conv",
            "attend",
            "window",
            "held_stream",
            "ahead",
        )  # of a constant too: a sequence begins

    def _gathers_tokens(self, node: Node) -> bool:
        if node.op != "fold":
            return False
        since = node["since"]
        return (
            since.unit == "step"
            if isinstance(since, Clock)
            else self.unit(self.program.levels[since]) == "step"
        )

    def root(self, level: Level) -> Level:
        """An update level has the period, and the `bptt`, of the level whose equation calls it."""
        while level.parent is not None:
            level = self.program.levels[level.parent]
        return level

    def slower(self, a: Level, b: Level) -> bool:
        """Does level a tick less often than level b, each by its calling level?"""

        def pace(level: Level) -> tuple[int, int]:
            clock = self.root(level).clock
            return ["token", "sequence", "document", "step", "never"].index(
                clock.unit
            ), clock.period

        return pace(a) > pace(b)

    def depths(self, level: Level) -> dict[str, str | Clock]:
        """The depth to which each other level sees through the ticks of this one; "none" where no
        clause says it.
        """
        if level.name not in self._depths:
            said = self.root(level).bptt
            self._depths[level.name] = {
                name: next(
                    iter(
                        [b.depth for b in said if b.viewer == name]
                        or [b.depth for b in said if b.viewer is None]
                    ),
                    "none",
                )
                if self.slower(viewer, level)
                else "none"
                for name, viewer in self.program.levels.items()
            }
        return self._depths[level.name]

    def seen(self, level: Level) -> bool:
        return any(depth != "none" for depth in self.depths(level).values())

    def pulse(self, node: Node) -> frozenset[str]:
        """The levels at whose ticks a stream has its instants, with "token" if at every token;
        nothing for a constant.
        """
        for part in walk(node):
            if part in self._pulse:
                continue
            found = set().union(*(self._pulse[a] for a in part.args))
            if part.op in STATE:
                found = {self.program.memories[part["memory"]].level}
            elif part.op == "fold" and not isinstance(part["since"], Clock):
                found = {part["since"]}
            elif part.op == "grad":
                found = set(self._pulse[part.args[0]])
            elif (
                part.op in ("input", "rope", "conv", "window", "held_stream")
                or part.op == "attend"
                and any(span is not None for _, _, span in part["groups"])
            ):
                found = {"token"}  # what looks back sees something else at each token
            self._pulse[part] = frozenset(found)
        return self._pulse[node]

    def touched(self, root: Node, changed: frozenset[Node], plain: bool) -> frozenset[Node]:
        """The nodes under root that see a change of the nodes in `changed`, or of plain reads."""
        key = (root, changed)
        if key not in self._touched:
            found: set[Node] = set()
            for node in walk(root):
                if (
                    node in changed
                    or plain
                    and node.op == "plain"
                    or any(a in found for a in node.args)
                ):
                    found.add(node)
            self._touched[key] = frozenset(found)
        return self._touched[key]

    def outside(self, objective: Node, memory: str, context: frozenset[Node]) -> bool:
        """Can the objective see reads of `memory` outside its level: directly, or in the past of a
        faster memory?
        """
        owner, seen, stack = self.level(memory), set(context), [objective]
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            stack.extend(node.args)
            read = self.program.owner(node)
            if read == memory:
                if node.op in ("read", "weight"):
                    return True
            elif read is not None and self.slower(owner, self.level(read)):
                return True
        return False
