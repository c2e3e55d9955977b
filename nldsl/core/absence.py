"""From which token of a sequence on a stream has a value: `x@c` has none before the first tick of
`c`.

    first(x@chunk)  = 64 with a chunk of 64 tokens         first(mean(x@chunk over 8 token)) = 64, windows pass over what is not there

Absence comes from held streams alone (the last token's missing `next` is another matter), so it is
a number known from the text. Emitted code computes something finite at tokens before it and shows
none of it.
"""

from __future__ import annotations

import math

from nldsl.core.equations import Clock, Node, walk


def sampled(clock: Clock, first: int) -> int:
    """The token after the first tick of a clock at which something that begins at `first` has a
    value.
    """
    if clock.unit != "token":
        raise OverflowError(clock.unit)
    return clock.phase + max(1, math.ceil((first + 1 - clock.phase) / clock.period)) * clock.period


class Absence:
    def __init__(self) -> None:
        self._first: dict[int, int] = {}
        self._keep: list[Node] = []  # ids stay valid while their nodes live

    def first(self, root: Node) -> int:
        """The first token at which it has a value; 0 for what always has one."""
        for node in walk(root):
            if id(node) not in self._first:
                self._keep.append(node)
                self._first[id(node)] = self._of(node)
        return self._first[id(root)]

    def mark(self, node: Node, first: int) -> None:
        """A fold that has become a memory begins when its terms do."""
        self._keep.append(node)
        self._first[id(node)] = first

    def _of(self, node: Node) -> int:
        args = [self._first[id(a)] for a in node.args]
        if node.op == "held_stream":
            return sampled(node["clock"], args[0])
        if node.op == "attend":  # the first token with a query and a pair
            pairs = [max(args[i], args[i + 1]) for i in range(1, len(args), 2)]
            return max(args[0], min(pairs))
        if node.op in ("conv", "grad", "replay"):
            return args[0]
        return max([0, *args]) - (node.op == "ahead" and max(args) > 0)
