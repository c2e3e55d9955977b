"""A trace as a table for a terminal, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from statistics import fmean

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from nldsl.trace.measured import Row, Trace
from nldsl.trace.quantities import QUANTITIES
from nldsl.view.folding import broken, shown

WIDE, NAME = 80, 30  # columns of the table, and of a name


def summary(trace: Trace) -> RenderableType:
    """Of each row its first number, the mean and the last."""
    title = f"{trace.run}, step {trace.step}, reads {len(trace.words)} tokens of {trace.text}"
    table = Table(title=title, title_justify="left", width=WIDE)
    table.add_column("memory", width=NAME, overflow="fold")
    table.add_column("quantity")
    for name in ("first", "mean", "last"):
        table.add_column(name, justify="right")
    table.add_row(f"{trace.scored} of a token", trace.unit, *cells(trace.cost), end_section=True)
    for memory, rows in trace.memories.items():
        name = "\n".join(broken(shown([memory]), lambda line: len(line) <= NAME))
        told = zip(*(cells(row) for row in rows.values()), strict=True)
        columns = [[*rows], *map(list, told)]
        table.add_row(Text(name), *("\n".join(column) for column in columns), end_section=True)
    return table


def cells(row: Row) -> list[str]:
    known = [x for x in row if x is not None]
    return [f"{x:.4g}" for x in (known[0], fmean(known), known[-1])] if known else ["", "", ""]


def as_json(trace: Trace) -> dict[str, object]:
    """Every number; None where a token has none."""
    return asdict(trace)


def as_csv(trace: Trace) -> str:
    """A line for each token and memory; a cell is empty where there is no number."""
    with io.StringIO() as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["token", "word", trace.unit, "memory", *QUANTITIES])
        for memory, rows in trace.memories.items():
            for i, word in enumerate(trace.words):
                told = [rows[what][i] if what in rows else None for what in QUANTITIES]
                lines.writerow([i, word, trace.cost[i], memory, *told])
        return file.getvalue()
