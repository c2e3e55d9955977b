"""`report e`: the stream that a trained model is scored by.

No objective reads it, so no gradient does.
"""

from __future__ import annotations

from nldsl.core.nodes import Node, walk
from nldsl.core.program import REPORT, STATE
from nldsl.frontend import syntax
from nldsl.graph.evaluate import as_array, axes_text, evaluate
from nldsl.graph.scope import Named, Site, Thunk
from nldsl.graph.values import Array, MemoryValue, kind_of

STREAMS = ("input", "rope", "held_stream")


def reported(statement: syntax.Report, site: Site) -> Thunk[Array]:
    """Its value, to be worked out with the streams of the file.

    Reports N202 if it is not an array, N204 if it is more than one number.
    """
    elaborator, span = site.elaborator, statement.value.span

    def run() -> Array:
        value = evaluate(statement.value, site)
        if not isinstance(value, Array | MemoryValue):
            elaborator.fail(
                "N202",
                f"a report is a stream of one number a token, this is {kind_of(value)}",
                span,
                help="`report cross_entropy(y, next(ids))`, or leave it out: `loss` is scored",
            )
        array = as_array(value, site, span)
        if not array.is_scalar:
            said = "a tree" if array.is_tree else f"the axes {axes_text(array)}"
            elaborator.fail(
                "N204",
                f"a report is one number, this has {said}",
                span,
                help="`|x|^2`, `<x, y>` or `sum(x)`",
            )
        return array

    return Thunk(elaborator, run, REPORT, span, statement.value, site)


def composed(value: Named | None) -> bool:
    """Is it arithmetic in the text, behind whatever names? A sum is one though a constant makes a
    term of it vanish.
    """
    while isinstance(value, Thunk) and isinstance(value.expr, syntax.Name) and value.site:
        found = value.site.scope.find(value.expr.text)
        value = found[0].at(value.site.place) if found else None
    return isinstance(value, Thunk) and isinstance(value.expr, syntax.Binary | syntax.Unary)


def changes(node: Node, token_clock: set[str]) -> bool:
    """Has it a value of its own at each token? `token_clock` are the memories that tick within a
    sequence.
    """
    return any(n.op in STREAMS or n.op in STATE and n["memory"] in token_clock for n in walk(node))
