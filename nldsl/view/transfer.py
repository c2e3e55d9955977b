"""LEVELS -> KNOWLEDGE TRANSFER: the five ways in which one level's memory reaches another
(2512.24695v1, sec. 3.3).

    direct             a read that carries no gradient, or an optimizer's state in the step of its
                       caller (Eqs. 24-26)
    non-parametric     attention on the way to a loss (Eq. 27)
    backpropagation    giver and taker lie in one gradient flow
    initialisation     a start that the giver learns (Eq. 28)
    generation         what the giver puts out is the taker's context, a number in its equation, or
                       its step

The BPTT length is how far the learner sees through the other's updates: 1 is its present state
alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nldsl.core.nodes import Node, walk
from nldsl.core.program import Clock, Level, Program
from nldsl.view.associations import is_task
from nldsl.view.express import SILENT, Names, called, clock_text, flows, last
from nldsl.view.retention import Update

KINDS = ("direct", "non-parametric", "backpropagation", "initialisation", "generation")


@dataclass(frozen=True)
class Transfer:
    """`of` is the value that is handed on, `depth` the BPTT length where a gradient passes."""

    giver: str
    taker: str
    kind: str
    of: str
    depth: str = ""


def owner(program: Program, node: Node) -> str | None:
    """The level whose state a node is."""
    memory = program.owner(node)
    return None if memory is None else program.memories[memory].level


def depth(fast: Level, slow: Level) -> str:
    """The depth to which `slow` sees through the updates of `fast`, as a stretch of time; "1" if it
    sees none.
    """
    clauses = fast.clauses(slow)
    if fast.clock.pace >= slow.clock.pace or all(b.depth == "none" for b in clauses):
        return "1"
    bounds = [
        clock
        for clock in (
            fast.reset,
            slow.clock,
            *(b.depth for b in clauses if isinstance(b.depth, Clock)),
        )
        if clock.unit != "never"
    ]
    nearest = min(bounds, key=lambda clock: clock.pace)
    return (
        f"1 {nearest.unit}"
        if nearest.period == 1
        else clock_text(Clock(nearest.unit, nearest.period))
    )


def names_of_attention(nodes: Iterable[Node]) -> dict[Node, str]:
    """Attention has no name in the text: it is called by the iteration of the loop that it stands
    in.
    """
    names: dict[Node, str] = {}
    count: dict[str, int] = {}
    for node in nodes:
        if node.op == "attend":
            name = node.name or ".".join((*node.iteration, "attend"))
            count[name] = count.get(name, 0) + 1
            names[node] = name if count[name] == 1 else f"{name}{count[name]}"
    return names


class Transfers:
    """The transfers of one program, each kind found by a method."""

    def __init__(self, program: Program, attention: dict[Node, str]) -> None:
        self.program = program
        self.attention = attention
        self.task = {level.name: is_task(level) for level in program.levels.values()}

    def all(self) -> list[Transfer]:
        return list(
            dict.fromkeys(
                edge for level in self.program.levels.values() for edge in self.taken(level)
            )
        )

    def taken(self, level: Level) -> Iterator[Transfer]:
        yield from self.starts(level)
        for node, name in zip(level.context, level.flows, strict=True):
            for giver in self.producers(node):
                yield self.made(giver, level.name, name)
        yield from self.numbers(level)
        yield from self.losses(level)

    def made(self, giver: str, taker: str, of: str) -> Transfer:
        return Transfer(
            giver, taker, "non-parametric" if giver in self.attention.values() else "generation", of
        )

    def starts(self, level: Level) -> Iterator[Transfer]:
        for name in level.memories:
            start = self.program.memories[name].start
            for node in walk(start) if start is not None else ():
                if (giver := owner(self.program, node)) is not None:
                    yield Transfer(
                        giver,
                        level.name,
                        "initialisation",
                        last(name),
                        depth(level, self.program.levels[giver]),
                    )

    def numbers(self, level: Level) -> Iterator[Transfer]:
        """The streams that equations take beside memory and gradient, and the states of the
        optimizers called in them.
        """
        for name in level.memories:
            after = self.program.memories[name].next
            if after is None:
                continue
            update, stack, seen = Update(self.program, name), [after], set()
            names = flows(level)
            while stack:
                node = stack.pop()
                if node in seen or node.op == "grad":
                    continue
                seen.add(node)
                giver = owner(self.program, node)
                if giver is not None and self.program.levels[giver].parent == level.name:
                    yield Transfer(giver, level.name, "direct", last(node["memory"]))
                elif update.carries(node):
                    stack.extend(node.args)
                else:
                    for part in named_parts(node, names) or [node]:
                        yield from (
                            self.made(giver, level.name, called(part, 32, names))
                            for giver in self.producers(part)
                        )

    def losses(self, level: Level) -> Iterator[Transfer]:
        """Memories and attention on the way to an objective, as far as the level sees them."""
        for node in between(level.objectives, set(flows(level))):
            if node in self.attention:
                yield Transfer(self.attention[node], level.name, "non-parametric", "its pairs")
            giver = owner(self.program, node)
            if giver is None or giver == level.name or self.related(giver, level.name):
                continue
            other = self.program.levels[giver]
            seen = depth(other, level)
            learned = other.clock.unit != "never" and (
                seen != "1" or (self.task[giver] and self.task[level.name])
            )
            of = last(self.program.owner(node) or "")
            yield Transfer(
                giver,
                level.name,
                "backpropagation" if learned else "direct",
                of,
                seen if learned else "",
            )

    def related(self, one: str, other: str) -> bool:
        return self.program.levels[one].parent == other or self.program.levels[other].parent == one

    def producers(self, root: Node) -> list[str]:
        """The levels whose memories make a value: those applied on the way to it, back to the
        nearest memory of a token clock or attention, within one iteration of the loops around.
        """
        found: dict[str, None] = {}
        seen: set[Node] = set()
        stack = [root]
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if node.op == "grad":
                found[self.program.memories[node["memory"]].level] = None
                continue
            if node in self.attention:
                found[self.attention[node]] = None
                continue
            if node.op == "grad_stream":
                found |= {
                    giver: None
                    for part in walk(node.args[0])
                    if (giver := owner(self.program, part)) is not None
                }
                continue
            givers = [owner(self.program, state(arg)) for arg in (node, *node.args)]
            found |= {giver: None for giver in givers if giver is not None}
            if not any(
                giver is not None and self.program.levels[giver].clock.unit == "token"
                for giver in givers
            ):
                stack.extend(
                    arg
                    for arg in node.args
                    if arg.iteration[: len(root.iteration)] == root.iteration
                )
        return list(found)


def between(roots: Iterable[Node], stop: set[Node]) -> list[Node]:
    """The nodes on the way to the roots, arguments after their users."""
    seen, stack, out = set(stop), list(roots), []
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            out.append(node)
            stack.extend(reversed(node.args))
    return out


def named_parts(node: Node, names: Names) -> list[Node]:
    """The largest parts of an equation that the text has a name for."""
    found, seen, stack = [], set(), [node]
    while stack:
        part = stack.pop()
        if part in seen:
            continue
        seen.add(part)
        if part.name or part in names:
            found.append(part)
        else:
            stack.extend(reversed(part.args))
    return found


def state(node: Node) -> Node:
    while node.op in (*SILENT, "leaf", "stop"):
        node = node.args[0]
    return node
