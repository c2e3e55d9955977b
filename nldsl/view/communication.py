"""What the ranks of a program send each other, and the time of it: `nldsl compile --ranks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.console import Group
from rich.table import Table

from nldsl import pipeline
from nldsl.core.program import Program
from nldsl.schedule.shares import share
from nldsl.step.compile import PRECISION
from nldsl.step.reductions import Traffic, traffic
from nldsl.step.updates import Updates

HOP = 10e-6  # seconds that a message waits at each rank of a ring


def communication(
    program: Program, precision: str, ranks: int, bandwidth: float, takes: Mapping[str, float]
) -> Group:
    """`bandwidth`: bytes a second that each rank sends and receives. `takes`: seconds of a step on
    one rank, by how that is known. Raises N722 or N724 if ranks cannot take it.
    """
    updates = Updates(pipeline.scheduled(share(program, ranks)).steps, ranks)
    updates.emit()
    found = traffic(updates, PRECISION[precision].itemsize)
    mean, each = sum(one.mean for one in found), float(sum(one.at_each for one in found))
    ring = Ring(ranks, bandwidth)
    own, longest = ring.steps(found)
    alike = ring.seconds(each, sum(max(one.messages) for one in found))
    lines = [
        f"a step sends {size(mean)}; where every gradient is summed over ranks after each step, "
        f"{size(each)}" + (f": {mean / each:.3f} of it" if each else ""),
        f"on the wire: {ms(own)} a step, at most {ms(longest)}; after each step alike, {ms(alike)}",
        *(
            f"predicted: {ms(seconds + own)} a step, {ms(seconds)} of it work ({how}); after each "
            f"step alike, {ms(seconds + alike)}"
            for how, seconds in takes.items()
        ),
        f"assumed: a ring, in which {2 * (ranks - 1)} / {ranks} of a sum pass each rank at "
        f"{size(bandwidth)}/s; {1e6 * HOP:g} us for each of the {2 * (ranks - 1)} hops of a "
        "message; messages one after another, and none while a step is worked out; all ranks "
        "equally fast.",
    ]
    return Group(table(found, ranks), "\n".join(lines))


def table(found: Sequence[Traffic], ranks: int) -> Table:
    """A row for each level, equal ones together."""
    made = Table(title=f"Sums over {ranks} ranks", title_justify="left")
    for column in ("level", "sends", "bytes a time", "bytes a step", "if at each step"):
        made.add_column(column, justify="left" if column in ("level", "sends") else "right")
    rows = [
        ((one.level.rpartition(".")[2], one.period, max(one.bytes)), one)
        for one in sorted(found, key=lambda one: (one.period, one.level.rpartition(".")[2]))
    ]
    for (name, period, most), some in groupby(rows, key=lambda row: row[0]):
        same = [one for _, one in some]
        often = "each step" if period == 1 else f"once in {period:.3g} steps"
        made.add_row(
            name + (f" x {len(same)}" if len(same) > 1 else ""),
            often,
            size(most * len(same)),
            size(sum(one.mean for one in same)),
            size(sum(one.at_each for one in same)),
        )
    return made


class Ring:
    """The time that sums over ranks take."""

    def __init__(self, ranks: int, bandwidth: float) -> None:
        self.ranks, self.bandwidth = ranks, bandwidth

    def seconds(self, size: float, messages: float) -> float:
        hops = 2 * (self.ranks - 1)
        return hops / self.ranks * size / self.bandwidth + messages * hops * HOP

    def steps(self, found: Sequence[Traffic]) -> tuple[float, float]:
        """Of the mean step, and of the longest."""
        each = [
            self.seconds(sum(sizes), sum(messages))
            for sizes, messages in zip(
                zip(*(one.bytes for one in found)), zip(*(one.messages for one in found))
            )
        ] or [0.0]
        return sum(each) / len(each), max(each)


def size(count: float) -> str:
    """Bytes, for people."""
    for unit, many in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= many:
            return f"{count / many:.3g} {unit}"
    return f"{count:.0f} B"


def ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"
