"""Operators that look back in time: convolution, positions, attention, sliding windows. What they
look back on is kept.

In a stream over all tokens of a call it is part of the carry; in a region it is part of the
region's state, piece by piece. Either way the rows kept and the rows of now are joined, and
`visible` says which of them a token sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nldsl.core.nodes import Axis, Node
from nldsl.core.program import Clock
from nldsl.step.source import Fn, Ref

if TYPE_CHECKING:
    from nldsl.step.emit import Carry, Emitter

Span = int | Clock  # the last n tokens, or since a tick of a clock


@dataclass(frozen=True)
class Kept:
    """Earlier values of a stream: the last `rows` of them, or with None all of the sequence."""

    node: Node
    rows: int | None


def reach(span: Span) -> int | None:
    """How many tokens before its own a token sees at most; None: all of the sequence."""
    if isinstance(span, int):
        return span - 1
    return span.phase + span.period - 1 if span.unit == "token" else None


def spoken(span: Span) -> tuple[str, int, int]:
    """The span as the emitted code says it."""
    if isinstance(span, int):
        return ("last", span, 0)
    return ("since", span.period, span.phase) if span.unit == "token" else ("all", 0, 0)


def groups(node: Node) -> Iterable[tuple[int, str, str, Span | None]]:
    for i, (score_eq, value_eq, span) in enumerate(node["groups"]):
        since = None if span is None else span[1]
        assert not isinstance(since, str)
        yield i, score_eq, value_eq, since


def looks_back(node: Node) -> list[Kept]:
    """What an operator keeps."""
    if node.op == "conv":
        return [Kept(node.args[0], node.args[1].shape[0].size - 1)]
    if node.op == "window":
        return [Kept(node.args[0], node["length"] - 1)]
    if node.op == "held_stream":
        return [Kept(node.args[0], node["clock"].period)]
    if node.op == "attend":
        return [
            Kept(node.args[1 + 2 * i + j], reach(span))
            for i, _, _, span in groups(node)
            if span is not None
            for j in (0, 1)
        ]
    return []


@dataclass(frozen=True)
class View:
    """How an operator sees time: `rows` is the text of the rows kept and those of now, `own` that
    of the rows of now, `t` that of the tokens; `first` the token at which a stream begins. `once`:
    only its first derivative is asked for.
    """

    rows: Callable[[Kept, Ref], str]
    own: Callable[[Ref], str]
    t: str
    first: Callable[[Node], int]
    once: bool = False


def conv(fn: Fn, node: Node, args: list[Ref], view: View) -> str:
    x, first = view.rows(looks_back(node)[0], args[0]), view.first(node.args[0])
    return f"conv({f'begun({x}, {view.t}, {first})' if first else x}, {fn.tensor(args[1])})"


def rope(fn: Fn, node: Node, args: list[Ref], view: View) -> str:
    x, part, base = view.own(args[0]), node["part"], repr(node["base"])
    if part < node.shape[-1].size:
        return f"rope_of_part({x}, {part}, {base}, {view.t})"
    return f"rope({x}, {base}, {view.t})"


def held_stream(fn: Fn, node: Node, args: list[Ref], view: View) -> str:
    rows, clock = view.rows(looks_back(node)[0], args[0]), node["clock"]
    return f"sampled({rows}, {view.t}, {clock.period}, {clock.phase})"


def window(fn: Fn, node: Node, args: list[Ref], view: View) -> str:
    x = fn.let(view.rows(looks_back(node)[0], args[0]), "", (), "rows").text
    span, first, mean = spoken(node["length"]), view.first(node.args[0]), node["how"] == "mean"
    seen = f"band({x}, {view.t}, {x}.shape[1], {span!r}, {first}, {mean})"
    return f'torch.einsum("TS,BS...->BT...", {seen}, {x})'


def attend(fn: Fn, node: Node, args: list[Ref], view: View) -> str:
    said, look = [], iter(looks_back(node))
    for i, score_eq, value_eq, span in groups(node):
        k, v = args[1 + 2 * i], args[2 + 2 * i]
        left, scores = score_eq.split("->")
        lq, lk = left.split(",")
        values, out = value_eq.split("->")[0].split(",")[1], value_eq.split("->")[1]
        pairs = "".join(c for c in scores if c not in out)
        heads = "".join(c for c in scores if c not in pairs)
        if span is None:
            kt, vt = (view.own(x) if x.lead else fn.tensor(x) for x in (k, v))
            leads = ["BT" if x.lead else "" for x in (k, v)]
            eqs = (
                f"BT{lq},{leads[0]}{lk}->BT{heads}{pairs}",
                f"BT{heads}{pairs},{leads[1]}{values}->BT{out}",
            )
        else:
            kt, vt = (view.rows(next(look), x) for x in (k, v))
            eqs = f"BT{lq},BJ{lk}->BT{heads}{pairs}J", f"BT{heads}{pairs}J,BJ{values}->BT{out}"
        first = max(view.first(x) for x in node.args[1 + 2 * i : 3 + 2 * i])
        said.append(
            f"({kt}, {vt}, {eqs[0]!r}, {eqs[1]!r}, {2 + len(heads)}, "
            f"{None if span is None else spoken(span)!r}, {first}), "
        )
    how = "attention" if view.once and not by_token(node, args) else "attend"
    return f"{how}({view.own(args[0])}, ({''.join(said)}), {node['scale']!r}, {view.t})"


def by_token(node: Node, args: list[Ref]) -> bool:
    """Has a token pairs of its own?"""
    return any(
        span is None and (args[1 + 2 * i].lead or args[2 + 2 * i].lead)
        for i, _, _, span in groups(node)
    )


TEMPORAL: dict[str, Callable[..., str]] = {
    "conv": conv,
    "rope": rope,
    "attend": attend,
    "window": window,
    "held_stream": held_stream,
}


def stream(em: Emitter, fn: Fn, carry: Carry, node: Node, args: list[Ref], once: bool) -> Ref:
    """The operator over all tokens of a call; what it keeps is carried."""
    like = next((r.text for r in (*args, *fn.env.values()) if r.lead == "BT"), None)
    assert like is not None, node.op

    def own(ref: Ref) -> str:
        return (
            ref.text
            if ref.lead == "BT"
            else f"{fn.tensor(ref)}.expand(*{like}.shape[:2], "
            f"{', '.join(str(a.size) for a in ref.shape)})"
        )

    def rows(kept: Kept, ref: Ref) -> str:
        rows = kept.rows or 0
        padded = node.op == "conv"  # elsewhere rows before the sequence are not there
        name = em.carry_name(
            kept.node,
            *(("tail", (Axis("tail", rows), *ref.shape)) if padded else ("past", ref.shape)),
            carry,
            node,
            None if padded else kept.rows,
        )
        text = fn.let(f"joined({name}, {own(ref)})", "", (), "rows").text
        last = (
            ""
            if kept.rows is None
            else f"[:, {text}.shape[1] - {kept.rows}:]"
            if padded
            else f"[:, -{kept.rows}:]"
            if kept.rows
            else "[:, :0]"
        )
        carry.results.append(text + last)
        return text

    t = fn.let(f"times({like}, position)[0]", "", (), "t").text
    return fn.let(
        TEMPORAL[node.op](fn, node, args, View(rows, own, t, em.valid_from, once)), "BT", node.shape
    )
