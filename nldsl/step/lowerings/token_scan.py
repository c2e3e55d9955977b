"""What no other lowering takes: token by token, each equation as it stands."""

from __future__ import annotations

from nldsl.core.nodes import Node, walk
from nldsl.step.lowerings.body import Body
from nldsl.step.lowerings.lowering import Form, Lowering
from nldsl.step.lowerings.order import in_order
from nldsl.step.lowerings.past import data
from nldsl.step.lowerings.temporal import TEMPORAL
from nldsl.step.source import Ref


def write_token(body: Body) -> tuple[dict[str, str], list[str]]:
    """The text of each memory after one token, [B, ..], and of what is handed on, [B, ..]."""
    fn, region = body.fn, body.region

    def replay(node: Node) -> Ref:
        return body.past.replay(fn, node, [fn.value(a) for a in (*node.args[1:], *data(node))])

    fn.lazy["replay"] = replay
    after: dict[str, str] = {}
    fn.lazy["when"] = body.chosen(fn)
    for state in in_order(region.ticking):
        after[state.name] = body.expanded(fn, fn.value(state.after), state.type)
        for node in walk(*region.outputs, *(s.tick for s in region.ticking)):
            if node.op == "now" and node["memory"] == state.name:
                fn.bind(node, after[state.name], "B")
    outputs = [body.expanded(fn, fn.value(x), x.shape) for x in region.outputs]
    for node in region.inside:
        if node.op in TEMPORAL:
            fn.value(node)
    return after, outputs


def emit(form: Form, body: Body) -> tuple[dict[str, str], list[str]]:
    return write_token(body)


TOKEN_SCAN = Lowering(lambda form: "scan: token by token", lambda form: True, emit, "B")
