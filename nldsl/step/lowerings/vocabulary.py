"""A cross entropy whose logits are a product with one table is lowered without them, where the
vocabulary is large: they are what a step holds most of, and hold no more than the table and the
tokens they are made of.

    cross_entropy(table * x, ids)     ->     cross_entropy_of(x, table, ids, most)

As it is written stays what is small, logits that something else reads too, and what is run between
ticks of memories that learn from the loss: there a second derivative is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nldsl.core.nodes import Node
from nldsl.schedule.plan import Forward
from nldsl.step.lowerings.patterns import letters
from nldsl.step.source import Fn, Ref

LARGE = 2048  # of vocabularies
MOST = 1 << 23  # numbers of the logits that are there at once


@dataclass(frozen=True)
class Head:
    """The product behind a cross entropy; `axes` are those of the table, the vocabulary first."""

    logits: Node
    table: Node
    x: Node
    axes: tuple[int, ...]


def heads(schedule: Forward, order: Sequence[Node], moving: Collection[Node]) -> dict[Node, Head]:
    """By cross entropy, those that are lowered so."""
    users = Counter(arg for node in order for arg in node.args)
    users.update(schedule.outputs.values())
    found = {}
    for block in schedule.blocks:
        for node in () if block.online else block.items:
            if isinstance(node, Node) and node.op == "cross_entropy" and node.args[1] in moving:
                head = product(node.args[0], moving)
                if head and head.logits in block.items and users[head.logits] == 1:
                    found[node] = head
    return found


def product(logits: Node, moving: Collection[Node]) -> Head | None:
    """Large logits that are a table times all of what each token has."""
    if logits.op != "einsum" or logits.shape[-1].size < LARGE:
        return None
    *sides, out = letters(logits)
    for i, x in enumerate(logits.args):
        table, summed, axes = logits.args[1 - i], sides[i], sides[1 - i]
        if x in moving and table not in moving and sorted(axes) == sorted(out + summed):
            if len(out) == 1 and len({*axes}) == len(axes):
                return Head(logits, table, x, tuple(axes.index(c) for c in out + summed))
    return None


def lowered(fn: Fn, head: Head, x: Ref, table: Ref, ids: Ref) -> str:
    """The call. Both have one axis beside that of tokens, and of the vocabulary."""
    text, rows = fn.tensor(table), x.text
    if head.axes != tuple(sorted(head.axes)):
        text += f".permute({', '.join(map(str, head.axes))})"
    if len(head.axes) > 2:
        text, rows = f"{text}.flatten(1)", f"{rows}.flatten(2)"
    return f"cross_entropy_of({rows}, {text}, {ids.text}, {MOST})"
