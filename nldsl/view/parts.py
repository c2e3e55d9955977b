"""What each of several ranks holds of a state, and what they gather of it: `nldsl compile --ranks N
--shard`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.console import Group
from rich.table import Table

from nldsl import pipeline
from nldsl.core.program import Program
from nldsl.step.compile import PRECISION
from nldsl.step.gathers import Held, held
from nldsl.step.module import emit
from nldsl.view.communication import HOP, ms, size


def parts(
    program: Program, precision: str, ranks: int, bandwidth: float, takes: Mapping[str, float]
) -> Group:
    """As `communication`, of ranks that hold a part of the state each. Raises N725 if they
    cannot.
    """
    source = emit(pipeline.scheduled(program), precision, 1000, ranks, shard=True)
    found = held(source.updates, source.emitted, PRECISION[precision].itemsize)
    own, whole = sum(one.held for one in found), sum(one.whole for one in found)
    read, given = sum(one.gathered for one in found), sum(one.given for one in found)
    in_ticks = sum(one.mean for one in found)
    messages = 2 * len({*source.emitted.reads.values()}) + sum(one.often for one in found)
    wire = seconds(ranks, bandwidth, read + given + in_ticks, messages)
    lines = [
        f"a rank holds {size(own)} of {size(whole)} between steps: {own / max(1, whole):.3f} of "
        f"it; within a step also the weights that are read, {size(read)}",
        f"a step of one micro-batch gathers {size(read)} of weights, gives {size(given)} of "
        f"gradients, and gathers {size(in_ticks)} in ticks, in the mean; each further micro-batch "
        f"{size(read + given)} more",
        "a period's sum is parted after each step, so a level that ticks rarely sends as often as "
        "one that ticks at each step; without `--shard` it sends at its ticks",
        f"on the wire: {ms(wire)} a step",
        *(
            f"predicted: {ms(time + wire)} a step, {ms(time)} of it work ({how})"
            for how, time in takes.items()
        ),
        f"assumed: a ring, in which {ranks - 1} / {ranks} of an array pass each rank at "
        f"{size(bandwidth)}/s; {1e6 * HOP:g} us for each of the {ranks - 1} hops of a message, one "
        "for the weights and one for the gradients of a block, one for each array of an update; "
        "messages one after another, and none while a step is worked out; all ranks equally fast.",
    ]
    return Group(table(found, ranks), "\n".join(lines))


def table(found: Sequence[Held], ranks: int) -> Table:
    """A row for each level, equal ones together."""
    made = Table(title=f"Parts of {ranks} ranks", title_justify="left")
    for column in ("level", "held", "of", "weights", "gradients", "in ticks"):
        made.add_column(column, justify="left" if column == "level" else "right")
    rows = sorted(((one.level.rpartition(".")[2], one.whole, one) for one in found), key=first)
    for (name, _), some in groupby(rows, key=first):
        same = [one for *_, one in some]
        numbers = zip(*((x.held, x.whole, x.gathered, x.given, x.mean) for x in same))
        made.add_row(
            name + (f" x {len(same)}" if len(same) > 1 else ""),
            *(size(sum(column)) for column in numbers),
        )
    return made


def first(row: tuple[str, int, Held]) -> tuple[str, int]:
    return row[:2]


def seconds(ranks: int, bandwidth: float, count: float, messages: float) -> float:
    """The time in which so many bytes of arrays are gathered, or given in parts."""
    hops = ranks - 1
    return hops / ranks * count / bandwidth + messages * hops * HOP
