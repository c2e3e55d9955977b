"""Facts of a program that the limits ask for: what is computed at every token, what at ticks of the
step clock, and what needs a run of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import cached_property

from nldsl.core.flow import AtSteps, takes
from nldsl.core.nodes import Met, Node, Tree, reach
from nldsl.core.ops import OPS, active
from nldsl.core.program import READS, REPORT, STATE, Level, Memory, Program
from nldsl.rules.flow import terms

STRETCHES = ("fold", "window")
STILL = ("const", "weight", "eye")  # what has no time of its own


class Facts:
    """A checked program, by when its nodes are computed."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.local = AtSteps(program)

    # -- memories and levels

    def level(self, memory: str) -> Level:
        return self.program.level(memory)

    def on_token(self, memory: str) -> bool:
        return self.level(memory).clock.unit == "token"

    def root_of(self, memory: str) -> Level:
        return self.program.root(self.level(memory))

    def owner(self, node: Node) -> str | None:
        return self.program.owner(node)

    @cached_property
    def learners(self) -> list[Level]:
        """Levels of the step clock that no other calls."""
        return [
            level
            for level in self.program.levels.values()
            if level.clock.unit == "step" and level.parent is None
        ]

    # -- the step clock

    @cached_property
    def updates(self) -> dict[str, Node]:
        """The value that each memory of the step clock takes at a tick."""
        return {
            name: m.next
            for name, m in self.program.memories.items()
            if m.next is not None and self.level(name).clock.unit == "step"
        }

    def near(self, root: Node) -> list[Node]:
        """The nodes of an update, without the network below a stretch of one of its streams."""

        def into(node: Node) -> tuple[Node, ...]:
            return () if node.op == "fold" and not self.local(node.args[0]) else node.args

        return reach([root], into=into).nodes

    @cached_property
    def ticking(self) -> dict[Node, str]:
        """The nodes of all updates of the step clock -> a memory that becomes it."""
        found: dict[Node, str] = {}
        for name, after in self.updates.items():
            for node in self.near(after):
                found.setdefault(node, name)
        return found

    # -- streams

    @cached_property
    def wanted(self) -> list[Node]:
        """The streams that a step computes at its tokens: those that levels learn from, and those
        that are reported.
        """
        outputs = self.program.outputs
        learned_from = [
            n.args[0] for n in self.ticking if n.op == "fold" and not self.local(n.args[0])
        ]
        said = [outputs[name] for name in ("loss", REPORT) if name in outputs]
        return [*learned_from, *said] or [
            x for x in outputs.values() if not isinstance(x.type, Tree)
        ]

    @cached_property
    def streams(self) -> list[Node]:
        """All that is computed of the tokens, through the memories that tick with them."""
        return reach(self.wanted, into=self._through).nodes

    def _through(self, node: Node) -> tuple[Node, ...]:
        if node.op not in READS or not self.on_token(node["memory"]):
            return node.args
        memory = self.program.memories[node["memory"]]
        return tuple(n for n in (memory.next, memory.start) if n is not None)

    @cached_property
    def within(self) -> dict[str, Memory]:
        """The memories that tick within a sequence, as far as anything reads them."""
        names = dict.fromkeys(
            n["memory"] for n in self.streams if n.op in READS and self.on_token(n["memory"])
        )
        return {name: self.program.memories[name] for name in names}

    def of(self, *ops: str) -> Iterator[Node]:
        """The streams that are made by one of these operators."""
        for op in ops:
            yield from self._by_op.get(op, ())

    @cached_property
    def _by_op(self) -> dict[str, list[Node]]:
        found: dict[str, list[Node]] = {}
        for node in self.streams:
            found.setdefault(node.op, []).append(node)
        return found

    # -- what only a run of the network gives

    @cached_property
    def task(self) -> list[Node]:
        """The gradients within a sequence whose objective meets the memory outside its level."""
        met: dict[object, set[str]] = {}
        found = []
        for node in self.of("grad"):
            if not self.on_token(node["memory"]):
                continue
            constant = frozenset(c for c in node["context"] if c.op != "input")
            owner = self.level(node["memory"])
            key = (terms(node.args[0]), constant, self.program.root(owner).clock)
            if key not in met:
                met[key] = self._read_within(node.args[0], constant, owner)
            if node["memory"] in met[key]:
                found.append(node)
        return found

    def _read_within(self, objective: Node, constant: frozenset[Node], owner: Level) -> set[str]:
        """The memories that an objective reads, at once or in the past or start of a faster one."""

        def into(node: Node) -> tuple[Node, ...]:
            if node.op not in STATE:
                return node.args
            other = self.program.memories[node["memory"]]
            fast = self.program.slower(owner, self.program.levels[other.level])
            return (other.next,) if other.next is not None and fast else ()

        found = set()
        for node in reach([objective], constant, into):
            if node in constant or node.op not in STATE:
                continue
            if node.op == "read":
                found.add(node["memory"])
            if into(node):
                found |= set(starts_from(self.program.memories[node["memory"]]))
        return found

    @cached_property
    def nudges(self) -> list[Node]:
        """The derivatives in a stream that have no equation."""

        def without_equation(node: Node) -> bool:
            objective, stream = node.args
            return without_slope(objective, lambda n: n is stream) is not None

        return [n for n in self.of("grad_stream") if without_equation(n)]

    @cached_property
    def families(self) -> dict[str, Level]:
        """The levels that tick by such a gradient, the slowest first."""
        made = self.above({*self.task, *self.nudges})
        found = {
            level.name: level
            for name, memory in self.within.items()
            if memory.next in made
            for level in [self.root_of(name)]
        }
        return dict(sorted(found.items(), key=lambda item: -item[1].clock.period))

    @cached_property
    def family_of(self) -> dict[str, str]:
        """Memory -> the level of `families` that moves it."""
        return {
            name: level
            for name in self.within
            if (level := self.root_of(name).name) in self.families
        }

    @cached_property
    def users(self) -> dict[Node, list[Node]]:
        """Of each node, those that take it."""
        found: dict[Node, list[Node]] = {}
        for node in self.streams:
            for arg in node.args:
                found.setdefault(arg, []).append(node)
        return found

    def above(self, sources: Collection[Node]) -> Met:
        """The nodes that are computed from one of these at the same instant."""
        return reach(sources, into=lambda node: self.users.get(node, ()))

    @cached_property
    def reads(self) -> dict[str, list[Node]]:
        """Of each memory of the token clock, the nodes that are its value, or stand for it."""
        found: dict[str, list[Node]] = {}
        for node in self.of(*READS):
            if node["memory"] in self.within:
                found.setdefault(node["memory"], []).append(node)
        return found

    @cached_property
    def pieces(self) -> Met:
        """The nodes that are run between the ticks of `families`: what reads their memories or
        what comes next, through the memories that tick meanwhile.
        """
        ends: dict[Node, list[str]] = {}
        for name, memory in self.within.items():
            if name not in self.family_of and memory.next is not None:
                ends.setdefault(memory.next, []).append(name)

        def into(node: Node) -> list[Node]:
            reads = [n for name in ends.get(node, ()) for n in self.reads.get(name, ())]
            return [*self.users.get(node, ()), *reads]

        family = [n for name in self.family_of for n in self.reads.get(name, ())]
        return reach([*self.of("ahead"), *family], into=into)

    @cached_property
    def late(self) -> list[str]:
        """Memories beside those of `families` that wait for one of them, or for the next token."""
        return [
            name
            for name, memory in self.within.items()
            if name not in self.family_of
            and (memory.next in self.pieces or self._read_by(name, self.pieces))
        ]

    def _read_by(self, memory: str, users: Collection[Node]) -> bool:
        """Does one of these take a value that is made of the memory, and of what stands still?"""
        made = {n for n in self.reads.get(memory, ()) if n.op in STATE}
        stack = list(made)
        while stack:
            for user in self.users.get(stack.pop(), ()):
                if user in users:
                    return True
                if user not in made and all(a in made or a.op in STILL for a in user.args):
                    made.add(user)
                    stack.append(user)
        return False


def without_slope(
    objective: Node, wrt: Callable[[Node], bool], constant: Collection[Node] = ()
) -> Node | None:
    """The nodes without a transposed derivative on the way from an objective to the value it is
    differentiated in; the term of a stretch is differentiated by itself.
    """
    for node in reach([objective], constant, lambda n: () if wrt(n) else active(n)):
        if node.args and OPS[node.op].vjp is None and node not in constant and not wrt(node):
            if any(map(wrt, reach([node], constant, unbound))):
                return node
    return None


def is_number(node: Node) -> bool:
    """Known before the run, the same in every entry."""
    while node.op in ("spread", "neg"):
        node = node.args[0]
    return node.op == "const" and isinstance(node["value"], (int, float))


def unbound(node: Node) -> tuple[Node, ...]:
    """The arguments whose plain reads wait for a gradient; those of an objective are bound."""
    return node.args[1:] if node.op == "grad" else node.args


def starts_from(memory: Memory) -> list[str]:
    """The memories that its start is taken from."""
    return [] if memory.start is None else [n["memory"] for n in takes(memory.start)]
