"""Streams that look back in time: convolution, positions, attention, sliding windows. What they keep is part of the carry."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nldsl.graph.equations import Axis, Node
from nldsl.step.source import Fn, Ref

if TYPE_CHECKING:
    from nldsl.step.emit import Carry, Emitter


def _conv(em: Emitter, fn: Fn, carry: Carry, node: Node, args: list[Ref]) -> None:
    x, kernel = args
    width = node.args[1].type[0].size
    tail = em.carry_name(node, "tail", (Axis("tail", width - 1), *node.type), carry)
    pair = fn.let(f"conv({fn.over(x)}, {kernel.text}, {tail})", "", (), "pair")
    carry.results.append(f"{pair.text}[1]")
    fn.env[id(node)] = fn.let(f"{pair.text}[0]", "BT", node.type)


def _rope(em: Emitter, fn: Fn, carry: Carry, node: Node, args: list[Ref]) -> None:
    fn.env[id(node)] = fn.let(f"rope({fn.over(args[0])}, {node['base']!r}, position)", "BT", node.type)


def _attend(em: Emitter, fn: Fn, carry: Carry, node: Node, args: list[Ref]) -> None:
    """Keys and values of earlier tokens are carried; a window keeps only what it still sees."""
    q, groups = args[0], []
    for i, (score_eq, value_eq, span) in enumerate(node["groups"]):
        k, v = args[1 + 2 * i], args[2 + 2 * i]
        left, scores = score_eq.split("->")
        lq, lk = left.split(",")
        _, values = value_eq.split("->")[0].split(",")
        out = value_eq.split("->")[1]
        pairs = "".join(c for c in scores if c not in out)
        heads = "".join(c for c in scores if c not in pairs)
        if span is None:
            kt, vt = fn.tensor(k), fn.tensor(v)
            eqs = f"BT{lq},{k.lead}{lk}->BT{heads}{pairs}", f"BT{heads}{pairs},{v.lead}{values}->BT{out}"
            text = "None"
        else:
            kept = []
            for x, child in ((k, node.args[1 + 2 * i]), (v, node.args[2 + 2 * i])):
                over = x.text if x.lead == "BT" else fn.let(f"{fn.tensor(x)}.expand(*{fn.over(q)}.shape[:2], "
                                                            f"{', '.join(str(a.size) for a in x.shape)})", "BT", x.shape).text
                name = em.carry_name(child, "past", child.type, carry)
                all_ = fn.let(f"torch.cat([{name}, {over}], 1)", "BT", x.shape)
                kept.append(all_.text)
                carry.results.append(all_.text if span[0] == "since" else f"{all_.text}[:, -{span[1] - 1}:]" if span[1] > 1 else f"{all_.text}[:, :0]")
            kt, vt = kept
            eqs = f"BT{lq},BJ{lk}->BT{heads}{pairs}J", f"BT{heads}{pairs}J,BJ{values}->BT{out}"
            text = repr(span) if span[0] == "last" else repr(("since", span[1].period if span[1].unit == "token" else 0, span[1].phase))
        groups.append(f"({kt}, {vt}, {eqs[0]!r}, {eqs[1]!r}, {2 + len(heads)}, {text}), ")
    fn.env[id(node)] = fn.let(f"attend({fn.over(q)}, ({''.join(groups)}), {node['scale']!r}, position)", "BT", node.type)


def _window(em: Emitter, fn: Fn, carry: Carry, node: Node, args: list[Ref]) -> None:
    """A sum or mean over the last tokens of a stream that no memory of the sequence takes part in."""
    n = node["length"]
    like = next(iter(r for r in fn.env.values() if r.lead == "BT" and r.shape)) if args[0].lead != "BT" else args[0]
    x = fn.over(args[0]) if args[0].lead == "BT" else fn.let(
        f"{fn.tensor(args[0])}.expand(*{like.text}.shape[:2], {', '.join(str(a.size) for a in node.type)})", "BT", node.type).text
    tail = em.carry_name(node, "tail", (Axis("tail", n - 1), *node.type), carry)
    pair = fn.let(f"lookback({x}, {tail})", "", (), "pair")
    carry.results.append(f"{pair.text}[1]")
    total = f"{pair.text}[0].sum(2)"
    if node["how"] == "mean":
        total += f" / exists({x}, {n}, position).sum(2)" + ("[" + ":, " * 2 + "None, " * len(node.type) + "]" if node.type else "")
    fn.env[id(node)] = fn.let(total, "BT", node.type)


TEMPORAL: dict[str, Callable[[Emitter, Fn, Carry, Node, list[Ref]], None]] = {"conv": _conv, "rope": _rope, "attend": _attend, "window": _window}
