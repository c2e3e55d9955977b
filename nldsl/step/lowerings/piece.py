"""One piece of a recurrence that has an affine form: all its tokens at once, then the memories that
tick at its end, if at all.
"""

from __future__ import annotations

from nldsl.core.nodes import Node
from nldsl.step.lowerings.body import Body
from nldsl.step.lowerings.chunk import ChunkWriter
from nldsl.step.lowerings.forms import AffineForm
from nldsl.step.lowerings.temporal import TEMPORAL
from nldsl.step.source import Ref


def write_piece(form: AffineForm, body: Body) -> tuple[dict[str, str], list[str]]:
    """Texts: each memory after the last token, [B, ..]; what is handed on, [B, T, ..]."""
    body.fn.lines.append(f"B, T = {body.streams[0]}.shape[:2]")
    chunk = ChunkWriter.of(form, body.fn, body.state, body.past)
    after = {name: chunk.last(name) for name in chunk.cells}
    outputs = [chunk.reads.over_tokens(chunk.tensor(x)).text for x in body.region.outputs]
    if body.seldom:
        after |= at_end(chunk, body)
    for node in body.region.inside:  # what is kept although nothing of this piece needs it
        if node.op in TEMPORAL:
            chunk.value(node)
    return after, outputs


def at_end(chunk: ChunkWriter, body: Body) -> dict[str, str]:
    """Memories that tick at the end of the piece, if at all: their equations at its last token."""
    after: dict[str, str] = {}
    last = body.fn.child()
    last.token_lead = "B"
    last.env = {i: at_last_token(r) for i, r in body.given.items()}
    last.rules = {}

    def taken(node: Node) -> Ref:
        return at_last_token(chunk.tensor(node))

    def now(node: Node) -> Ref:
        name = node["memory"]
        return Ref(after[name] if name in after else chunk.last(name), "B", node.shape)

    last.lazy = {"now": now, "replay": taken, "read": taken, **{op: taken for op in TEMPORAL}}
    last.lazy["when"] = body.chosen(last)
    for state in body.seldom:
        after[state.name] = body.expanded(last, last.value(state.after), state.type)
    return after


def at_last_token(ref: Ref) -> Ref:
    return Ref(f"{ref.text}[:, -1]", "B", ref.shape) if ref.lead == "BT" else ref
