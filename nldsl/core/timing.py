"""Sample clocks of streams: the ticks at which a stream has a value, its first token, and how many
tokens it looks ahead.

    sample_clocks(sum(g over period)) = {3 token}    g of a level that ticks every 3 token
    valid_from(x@chunk)  = 64 with a chunk of 64     `x@c` has no value before the first tick of `c`
    valid_from(mean(x@chunk over 8 token)) = 64      windows pass over what is not there
    lookahead(next(x)) = 1                           the last token of a sequence has no next

Emitted code computes something finite at tokens without a value and shows none of it.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from nldsl.core.nodes import Node, walk
from nldsl.core.program import STATE, TOKEN, Clock, Level, Program

# what looks back sees something else at each token
LOOKS_BACK = ("conv", "rope", "attend", "window", "held_stream")
OF_EVERY_TOKEN = ("input", "rope", "conv", "window", "held_stream")


def sample_clocks(program: Program, root: Node) -> set[Clock]:
    """The clocks at whose ticks a stream has its instants, the terms of a window over it; every
    token, unless it depends on slower values alone.
    """
    return sample_clocks_of(program, [root])[root]


def sample_clocks_of(program: Program, roots: Collection[Node]) -> dict[Node, set[Clock]]:
    """`sample_clocks` of many streams, in one pass."""
    found: dict[Node, set[Clock]] = {}
    for node in walk(*roots):
        here: set[Clock] = set().union(*(found[a] for a in node.args))
        if node.op in STATE:
            here = {program.level(node["memory"]).clock}
        elif node.op == "fold" and not isinstance(node["since"], Clock):
            here = {program.levels[node["since"]].clock}
        elif node.op == "grad":
            here = found[node.args[0]]
        elif (
            node.op in OF_EVERY_TOKEN
            or node.op == "attend"
            and any(span is not None for _, _, span in node["groups"])
        ):
            here = {TOKEN}
        found[node] = here
    return {root: _instants(found[root]) for root in roots}


def _instants(clocks: set[Clock]) -> set[Clock]:
    here = {c for c in clocks if c.inner}
    return {TOKEN} if TOKEN in here or not here else here


def at_tokens(program: Program, root: Node) -> bool:
    """Has it a value for each token, or one that stays from step to step?"""
    return any(
        node.op == "input"
        or node.op in LOOKS_BACK
        or node.op in STATE
        and program.level(node["memory"]).clock.unit == "token"
        for node in walk(root)
    )


def first_sample(clock: Clock, first: int) -> int:
    """The token after the first tick of a clock at which something that begins at `first` has a
    value. The clock counts tokens: limits/streams.py, copy_at_document.
    """
    assert clock.unit == "token", clock.unit
    return clock.phase + max(1, math.ceil((first + 1 - clock.phase) / clock.period)) * clock.period


class ValidFrom:
    """The first token at which a node has a value; 0 of a stream that always has one."""

    def __init__(self) -> None:
        self._first: dict[Node, int] = {}

    def __call__(self, root: Node) -> int:
        self.note(root)
        return self._first[root]

    def note(self, *roots: Node) -> None:
        """Works out many nodes in one pass."""
        for node in walk(*(root for root in roots if root not in self._first)):
            if node not in self._first:
                self._first[node] = self._of(node)

    def mark(self, node: Node, first: int) -> None:
        """A fold that has become a memory begins when its terms do."""
        self._first[node] = first

    def _of(self, node: Node) -> int:
        args = [self._first[a] for a in node.args]
        if node.op == "held_stream":
            return first_sample(node["clock"], args[0])
        if node.op == "attend":  # the first token with a query and a pair
            pairs = [max(args[i], args[i + 1]) for i in range(1, len(args), 2)]
            return max(args[0], min(pairs))
        if node.op in ("conv", "grad", "replay"):
            return args[0]
        return max([0, *args]) - (node.op == "ahead" and max(args) > 0)


def first_tick(program: Program, valid_from: ValidFrom, level: Level | None) -> int:
    """The first token at which a level may tick: where the objectives that it and its callers read
    have a term.
    """
    found = 0
    while level is not None:
        found = max([found, *(valid_from(objective) for objective in level.objectives)])
        level = program.levels.get(level.parent or "")
    return found


def lookahead(*roots: Node) -> dict[Node, int]:
    """Of every node below the roots, how many tokens ahead it looks: so many at the end of a
    sequence have no value.
    """
    found: dict[Node, int] = {}
    for node in walk(*roots):
        found[node] = max((found[arg] for arg in node.args), default=0) + (node.op == "ahead")
    return found
