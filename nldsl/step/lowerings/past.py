"""What a region remembers of the tokens before a piece, as part of its state.

attend, conv, window     read streams made inside the region or given to it, now and at earlier
                         tokens
replay                   evaluates the terms of a stretch again, at the memories of this instant and
                         each term's own data
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nldsl.core.nodes import Axis, Node, Shape, walk
from nldsl.core.program import Clock
from nldsl.schedule.objectives import plains
from nldsl.schedule.plan import Region, again, moving, narrow
from nldsl.step.lowerings.temporal import TEMPORAL, Kept, View, looks_back, reach, spoken
from nldsl.step.source import Fn, Ref


def data(node: Node) -> list[Node]:
    """Of a replay: the streams that its terms take as they were."""
    inner = again(node)
    token = moving([node.args[0]])
    edge = [a for n in walk(node.args[0]) if n in inner for a in n.args if a not in inner]
    return [x for x in narrow(edge, token, set()) if x in token]


def stretch(node: Node) -> int | Clock:
    """The tokens, or the clock, since whose tick the terms of a replay are."""
    since = node["since"]
    assert not isinstance(since, str)
    return since


def keeps(region: Region) -> list[Kept]:
    """The slots of a region's state that hold earlier values of streams."""
    found: dict[tuple[Node, int | None], Kept] = {}
    for node in region.inside:
        several = (
            [Kept(x, reach(stretch(node))) for x in data(node)]
            if node.op == "replay"
            else looks_back(node)
        )
        found |= {(k.node, k.rows): k for k in several}
    return list(found.values())


def shape_of(kept: Kept) -> Shape:
    assert kept.rows is not None
    return (Axis("tail", kept.rows), *kept.node.shape)


@dataclass
class Past:
    """The rows kept, in one function of a region:

    `names` are the slots of its state, `t` its tokens [T], `after` what is kept next.
    """

    fn: Fn
    slots: list[Kept]
    names: Sequence[str]
    t: str
    first: Callable[[Node], int]
    after: dict[int, str] = field(default_factory=dict)

    def own(self, ref: Ref) -> str:
        """Text of the value at the tokens of this piece, [B, T, ..]."""
        if ref.lead == "BT":
            return ref.text
        if ref.lead == "B" and self.fn.token_lead == "B":
            return f"{ref.text}.unsqueeze(1)"
        sizes = ", ".join(str(a.size) for a in ref.shape)
        text = self.fn.tensor(ref) + (".unsqueeze(1)" if ref.lead == "B" else "")
        return f"{text}.expand({self.fn.like}.shape[0], {self.t}.shape[0], {sizes})"

    def rows(self, kept: Kept, ref: Ref) -> str:
        """Text of the values kept and those of this piece; what is kept of them for the next."""
        at = next(
            i for i, k in enumerate(self.slots) if k.node is kept.node and k.rows == kept.rows
        )
        if kept.rows is None:
            text = self.after[at] = self.fn.let(
                f"written({self.names[at]}, {self.own(ref)}, {self.t})", "", (), "rows"
            ).text
            return text
        text = self.fn.let(f"joined({self.names[at]}, {self.own(ref)})", "", (), "rows").text
        self.after[at] = f"{text}[:, {text}.shape[1] - {kept.rows}:]"
        return text

    def operator(self, fn: Fn, node: Node, args: list[Ref]) -> Ref:
        text = TEMPORAL[node.op](fn, node, args, View(self.rows, self.own, self.t, self.first))
        one = fn.token_lead == "B"
        return fn.let(f"({text})[:, 0]" if one else text, fn.token_lead, node.shape)

    def terms(self, node: Node, values: Sequence[Ref], streams: Sequence[Ref]) -> tuple[Fn, str]:
        """A function in which the terms of a replay are rows [B, S, ..], and the text of S.

        `values` are those of the memories.
        """
        inner = self.fn.child()
        inner.token_lead = "BT"
        inner.env = {i: r for i, r in self.fn.env.items() if r.lead == ""}
        size = "1"
        for x, ref in zip(data(node), streams, strict=True):
            text = self.rows(Kept(x, reach(stretch(node))), ref)
            inner.bind(x, text, "BT")
            size = f"{text}.shape[1]"
        for plain, ref in zip(plains(node.args[0]), values, strict=True):
            inner.env[plain] = ref
        return inner, size

    def band(self, node: Node, size: str) -> str:
        """[T, S]: how much each row counts at each token of the piece."""
        span, mean = spoken(stretch(node)), node["how"] == "mean"
        return self.fn.let(
            f"band({self.fn.like}, {self.t}, {size}, {span!r}, {self.first(node)}, {mean})",
            "",
            (),
            "band",
        ).text

    def replay(self, fn: Fn, node: Node, args: list[Ref]) -> Ref:
        """One token: all its terms, weighed and added."""
        values, streams = args[: len(node["names"])], args[len(node["names"]) :]
        inner, size = self.terms(node, values, streams)
        term = inner.value(node.args[0])
        band = self.band(node, size)
        if term.lead != "BT":
            total = f"{fn.align(term, 'B', len(node.shape))} * {band}.sum()"
        else:
            total = f'torch.einsum("TS,BS...->BT...", {band}, {term.text})[:, 0]'
        return fn.let(total, "B", node.shape)
