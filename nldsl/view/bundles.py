"""EDGES -> FEWER LINES: where all of some givers reach all of some takers, lines meet.

    a -> c, a -> d, b -> c, b -> d     ->     a, b -> (point) -> c, d

A point is of one kind of transfer and says neither more nor less than its edges: a node that would
reach itself by it does so in the graph, or is a single memory that has no edge to itself (`alone`).
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from itertools import combinations

import networkx as nx

from nldsl.view.level_graph import edge_data

LEAST = 2  # lines that a point must save,
FAN = 3  # or so many ends of a fan, which has one label


@dataclass(frozen=True)
class Giver:
    """A node and the knowledge that it hands on: the kind, the BPTT length, the names."""

    name: str
    kind: str
    depth: str
    of: str


@dataclass(frozen=True)
class Bundle:
    """Every giver reaches every taker; `count` is how many edges of the level graph that is."""

    givers: tuple[Giver, ...]
    takers: tuple[str, ...]
    count: int


def bundles(graph: nx.MultiDiGraph[str], alone: Set[str]) -> Iterator[Bundle]:
    """Bundles that hold every edge once; most have one giver and one taker."""
    counts: dict[Giver, dict[str, int]] = {}
    for name, taker, data in edge_data(graph):
        giver = Giver(name, data["kind"], data["depth"], data["of"])
        counts.setdefault(giver, {})[taker] = data["count"]
    for kind in dict.fromkeys(giver.kind for giver in counts):
        left = {giver: dict(takers) for giver, takers in counts.items() if giver.kind == kind}
        while best := max(
            _candidates(left, alone),
            key=lambda found: (found[0], len(found[1]) * len(found[2])),
            default=None,
        ):
            _, givers, takers = best
            yield Bundle(
                givers, takers, sum(left[g].pop(taker, 0) for g in givers for taker in takers)
            )
        for giver, alone_to in left.items():
            for taker, count in alone_to.items():
                yield Bundle((giver,), (taker,), count)


def _candidates(
    left: dict[Giver, dict[str, int]], alone: Set[str]
) -> Iterator[tuple[int, tuple[Giver, ...], tuple[str, ...]]]:
    """Lines saved, givers, takers."""
    reach = {
        giver: {*takers, giver.name} if giver.name in alone else {*takers}
        for giver, takers in left.items()
    }
    wanted = {frozenset(takers) for takers in reach.values()} | {
        frozenset(a & b) for a, b in combinations(reach.values(), 2)
    }
    for every in sorted(wanted, key=sorted):
        givers = tuple(giver for giver in left if every <= reach[giver])
        takers = frozenset(
            taker for taker in every if any(taker in left[giver] for giver in givers)
        )
        lines = len({giver.name for giver in givers} | takers)
        saved = sum(taker in left[giver] for giver in givers for taker in takers) - lines
        named_once = len(givers) == len({giver.name for giver in givers})
        fan = len(givers) == 1 and saved == -1 and len(takers) >= FAN
        if named_once and (saved >= LEAST or fan):
            yield saved, givers, tuple(sorted(takers))
    said: dict[tuple[str, str, str], list[Giver]] = {}
    for giver, taken in left.items():
        for taker in taken:
            said.setdefault((taker, giver.depth, giver.of), []).append(giver)
    for (taker, *_), many in said.items():
        if len(many) >= FAN and all(giver.name != taker for giver in many):
            yield -1, tuple(many), (taker,)
