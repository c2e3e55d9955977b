"""What each of several ranks holds of a state, and what they gather of it: `nldsl compile --ranks N
--shard`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Group

from nldsl import pipeline
from nldsl.core.program import Program
from nldsl.step.compile import PRECISION
from nldsl.step.gathers import Held, at_once, gathered, held
from nldsl.step.module import emit
from nldsl.view.communication import HOP, Row, last, ms, size, table


def parts(
    program: Program, precision: str, ranks: int, bandwidth: float, takes: Mapping[str, float]
) -> Group:
    """As `communication`, of ranks that hold a part of the state each. Raises N725 if they
    cannot.
    """
    source = emit(pipeline.scheduled(program), precision, 1000, ranks, shard=True)
    entry = PRECISION[precision].itemsize
    found = held(source.updates, source.emitted, entry)
    own, whole = sum(one.held for one in found), sum(one.whole for one in found)
    read, given = sum(one.gathered for one in found), sum(one.given for one in found)
    again, in_ticks = sum(one.again for one in found), sum(one.mean for one in found)
    most = entry * at_once(source.updates, source.emitted)
    blocks = len([group for group in gathered(source.updates, source.emitted) if group])
    messages = 3 * blocks + sum(one.often for one in found)
    wire = seconds(ranks, bandwidth, read + again + given + in_ticks, messages)
    lines = [
        f"a rank holds {size(own)} of {size(whole)} between steps: {own / max(1, whole):.3f} of "
        f"it; within a step also the weights that a block reads, at most {size(most)}",
        f"a step of one micro-batch gathers {size(read)} of weights, up to {size(again)} again for "
        f"its backward pass, gives {size(given)} of gradients, and gathers {size(in_ticks)} in "
        f"ticks, in the mean; each further micro-batch {size(read + again + given)} more",
        "a period's sum is parted after each step, so a level that ticks rarely sends as often as "
        "one that ticks at each step; without `--shard` it sends at its ticks",
        f"on the wire: {ms(wire)} a step",
        *(
            f"predicted: {ms(time + wire)} a step, {ms(time)} of it work ({how})"
            for how, time in takes.items()
        ),
        f"assumed: a ring, in which {ranks - 1} / {ranks} of an array pass each rank at "
        f"{size(bandwidth)}/s; {1e6 * HOP:g} us for each of the {ranks - 1} hops of a message, two "
        "for the weights and one for the gradients of a block, one for each array of an update; "
        "messages one after another, and none while a step is worked out; all ranks equally fast.",
    ]
    columns = ("level", "held", "of", "weights", "gradients", "in ticks")
    return Group(table(f"Parts of {ranks} ranks", columns, rows(found)), "\n".join(lines))


def rows(found: Iterable[Held]) -> list[Row]:
    return sorted(
        Row(
            last(one.level),
            (one.whole,),
            (),
            (one.held, one.whole, one.gathered, one.given, one.mean),
        )
        for one in found
    )


def seconds(ranks: int, bandwidth: float, count: float, messages: float) -> float:
    """The time in which so many bytes of arrays are gathered, or given in parts."""
    hops = ranks - 1
    return hops / ranks * count / bandwidth + messages * hops * HOP
