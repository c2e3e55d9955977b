"""The answers of an audit, as a table for a terminal and as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nldsl.audit.cadence import Cadence, cadences
from nldsl.audit.contribution import Contribution, contributions
from nldsl.audit.laws import Law, causality, independence
from nldsl.audit.opened import Opened, opened
from nldsl.audit.reach import Reach, reaches, untouched
from nldsl.train.run import Run
from nldsl.view.folding import broken, shown

FEW = 6  # instants that are listed
WIDE, NAME = 80, 26  # columns of a table, and of a name


@dataclass(frozen=True)
class Audit:
    """`score` is the mean of the stream `scored` over `terms` held-out tokens; `untouched` are
    arrays that no gradient reaches, each with why.
    """

    run: str
    step: int
    scored: str
    sequences: int
    tokens: int
    score: float
    laws: tuple[Law, ...]
    cadences: tuple[Cadence, ...]
    reaches: tuple[Reach, ...]
    untouched: dict[str, str]
    contributions: tuple[Contribution, ...]

    @property
    def broken(self) -> list[str]:
        """What the run does that its text excludes."""
        found = [said for law in self.laws for said in law.broken]
        found += [
            f"`{row.name}` moves at {row.unit} {listed(row.astray)}, and ticks {row.clock}"
            for row in self.cadences
            if row.astray
        ]
        return found + [
            f"`{row.name}` has a gradient through its own ticks {row.through} tokens back; its "
            f"`bptt {row.declared}` allows {row.allowed}"
            for row in self.reaches
            if row.astray
        ]

    def event(self) -> dict[str, object]:
        """As JSON has it. `holds` is False where a law is broken."""
        held_out = {"stream": self.scored, "sequences": self.sequences, "tokens": self.tokens}
        return {
            "run": self.run,
            "step": self.step,
            "held_out": {**held_out, "mean": self.score},
            "holds": not self.broken,
            "broken": self.broken,
            "laws": [
                {"law": law.name, "holds": not law.broken, "tried": law.says} for law in self.laws
            ],
            "cadence": [{**asdict(one), "holds": not one.astray} for one in self.cadences],
            "reach": [{**asdict(one), "holds": not one.astray} for one in self.reaches],
            "no_gradient": self.untouched,
            "contribution": [
                {"names": one.names, "frozen": finite(one.frozen), "removed": finite(one.removed)}
                for one in self.contributions
            ],
        }

    def page(self) -> RenderableType:
        """Tables of 80 columns that have a row, and what is broken under them."""
        tables = [self._laws(), self._cadence(), self._reach(), self._contribution()]
        return Group(*(table for table in tables if table.row_count), *self._lines())

    def _laws(self) -> Table:
        table = made(f"{self.run}, step {self.step}", "law", "tried", "holds")
        for law in self.laws:
            row(table, law.name, law.says, answer(not law.broken))
        return table

    def _cadence(self) -> Table:
        table = made("When the state of each memory moved", "memory", "clock", "moved", "holds")
        for one in self.cadences:
            if one.called and not one.astray:
                continue  # what an optimizer keeps ticks with its caller
            missed = len(set(one.due) - set(one.moved))
            said = f"{len(one.moved)} of {one.watched} {one.unit}s: {listed(one.moved)}"
            if missed:
                said += f"; of its {len(one.due)} ticks {missed} changed nothing"
            row(table, named(one.names), one.clock, said, answer(not one.astray))
        return table

    def _reach(self) -> Table:
        table = made(
            "How far back the gradient of the loss reaches", "memory", "bptt", "tokens", "holds"
        )
        for one in self.reaches:
            chunks = "".join(f", {n} of `{clock}`" for clock, n in one.chunks.items())
            said = f"{one.tokens} of {one.read}{chunks}; above 1 % of its largest {one.strong}; "
            said += f"through its own ticks {one.through}"
            row(table, named(one.names), one.declared, said, answer(not one.astray))
        return table

    def _contribution(self) -> Table:
        title = f"What memories contribute to {self.scored} {self.score:.4f}"
        table = made(title, "memory", "at its start", "removed")
        for one in self.contributions:
            row(table, named(one.names), f"{one.frozen:+.4f}", f"{one.removed:+.4f}")
        return table

    def _lines(self) -> Iterator[Text]:
        yield Text(
            f"{self.sequences} held-out sequences of {self.tokens} tokens; + is worse without it."
        )
        for name, why in self.untouched.items():
            yield Text(f"no gradient in `{name}`: {why}")
        for said in self.broken:
            yield Text(f"broken: {said}")


def audited(run: Run, limit: int, told: Callable[[str], None] = lambda part: None) -> Audit:
    """Measures a run on at most `limit` held-out tokens; `told` hears what is measured next. Raises
    N704, N716.
    """
    told("reading the run")
    subject: Opened = opened(run, limit)
    told("causality and independence of sequences")
    laws = causality(subject), independence(subject)
    told("cadence of every level")
    rows = tuple(cadences(subject))
    told("reach of the gradient")
    reached, missed = tuple(reaches(subject)), untouched(subject)
    told("what memories contribute")
    score, parts = contributions(subject)
    count = len(next(iter(subject.batch.values())))
    name = subject.step.reading.scored[0]
    return Audit(
        str(run.folder),
        subject.state.step,
        name,
        count,
        subject.tokens,
        score,
        laws,
        rows,
        reached,
        missed,
        tuple(parts),
    )


def made(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", width=WIDE)
    for name in columns:
        width = {"memory": NAME, "clock": 13, "bptt": 13, "law": 13, "holds": 5}.get(name)
        table.add_column(name, overflow="fold", width=width, ratio=None if width else 1)
    return table


def named(names: tuple[str, ...]) -> str:
    """A name of memories, in lines of a table."""
    return "\n".join(broken(shown(names), lambda line: len(line) <= NAME))


def row(table: Table, *cells: str) -> None:
    table.add_row(*map(Text, cells))


def finite(x: float) -> float | None:
    """JSON has no number that is none."""
    return x if math.isfinite(x) else None


def answer(holds: bool) -> str:
    return "yes" if holds else "NO"


def listed(instants: tuple[int, ...]) -> str:
    """`16, 32, 48, ..`; from 1 on without a gap `each`."""
    if len(instants) > 1 and instants == tuple(range(1, len(instants) + 1)):
        return "each"
    return ", ".join(map(str, instants[:FEW])) + (", .." if len(instants) > FEW else "") or "never"
