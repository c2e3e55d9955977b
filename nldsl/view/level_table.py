"""BOXES -> THE LEVEL TABLE: for a terminal, families folded, and as plain text with every weight.

One section is one level in the sense of 2512.24695v1, Def. 2, fastest first: boxes in one section
are equal in that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rich.table import Table
from rich.text import Text

from nldsl.core.program import Program
from nldsl.view.boxes import Box, boxes
from nldsl.view.folding import broken, folded, natural, shown
from nldsl.view.retention import EUCLIDEAN

COLUMNS = {
    "memory, clock": 26,
    "learns, update": 23,
    "takes": 21,
}  # 80 with what stands between them
LABEL = 11  # columns of the labels in the plain text

Named = tuple[tuple[str, ...], Box]


def levels(found: Sequence[Named]) -> Iterator[list[Named]]:
    for _, group in groupby(found, key=lambda item: item[1].rank):
        yield list(group)


def summary(found: Sequence[Named]) -> str:
    count = len(list(levels(found)))
    return "1 level" if count == 1 else f"{count} levels, fastest first"


# ---- for a terminal


def levels_table(program: Program) -> Table:
    """One row for each family of memories and one for the layers of each; lines between levels."""
    found = boxes(program)
    table = Table(title=f"Levels: {summary(found)}", title_justify="left", padding=(0, 1))
    for column, width in COLUMNS.items():
        table.add_column(column, overflow="fold", max_width=width)
    for level in levels(found):
        for is_layers, group in groupby(level, key=lambda item: item[1].kind == "layer"):
            for cells in [_layers([*group])] if is_layers else map(_row, group):
                table.add_row(*map(Text, cells))
        table.add_section()
    return table


def _row(named: Named) -> tuple[str, ...]:
    names, box = named
    name = broken(shown(names), lambda line: len(line) <= COLUMNS["memory, clock"])
    memory = [
        *name,
        *box.memory,
        *([f"{box.numbers:,} numbers"] if box.numbers else []),
        f"start {box.start}",
    ]
    clock = [box.clock, f"frequency {box.frequency}", f"chunk {box.chunk}", f"bptt {box.bptt}"]
    learns = [*box.pairs, *_labelled("min", box.objective)]
    update = [
        *_labelled("keeps", box.retention),
        *_labelled("adds", box.step),
        *(g for g in box.geometry if g != EUCLIDEAN),
    ]
    return "\n".join(memory + clock), "\n".join(learns + update), "\n".join(box.transfer)


def _layers(group: list[Named]) -> tuple[str, ...]:
    figures: dict[tuple[str, str], int] = {}
    for names, box in group:
        pair = (box.objective[0], "1 -> dL/dy" if box.pairs[0].startswith("1 ->") else "x -> dL/dy")
        figures[pair] = figures.get(pair, 0) + len(names)
    count = sum(len(names) for names, _ in group)
    learns = [
        *dict.fromkeys(pair for _, pair in figures),
        *(f"{n} x {figure}" for (figure, _), n in figures.items()),
    ]
    return f"  its {count} layers" if count > 1 else "  its layer", "\n".join(learns), ""


def _labelled(label: str, texts: Iterable[str]) -> list[str]:
    return [f"{label} {text}" for text in texts]


# ---- plain text


def levels_text(program: Program) -> str:
    """Every box with all that is known of it, and the layers one by one."""
    found = boxes(program)
    lines = [summary(found)]
    for level in levels(found):
        lines.append("")
        for is_layers, group in groupby(level, key=lambda item: item[1].kind == "layer"):
            members = list(group)
            for names, box in sorted(members, key=_by_name) if is_layers else members:
                lines += _layer_line(names, box) if is_layers else _record(names, box)
    return "\n".join(lines) + "\n"


def _by_name(named: Named) -> list[tuple[int, str]]:
    return natural(named[0][0])


def _record(names: tuple[str, ...], box: Box) -> Iterator[str]:
    yield f"{folded(names)}" + (f"    ({len(names)} alike)" if len(names) > 1 else "")
    rows = (
        ("clock", (f"{box.clock}; frequency {box.frequency}; chunk {box.chunk}; bptt {box.bptt}",)),
        (
            "memory",
            (
                f"{'; '.join(box.memory)}"
                + (f"; {box.numbers:,} numbers" if box.numbers else "")
                + f"; start {box.start}",
            ),
        ),
        ("maps", box.pairs),
        ("minimises", box.objective),
        ("solves", box.solves),
        ("keeps", box.retention),
        ("adds", box.step),
        ("geometry", box.geometry),
        ("takes", box.transfer),
    )
    for label, texts in rows:
        yield from (f"    {label if i == 0 else '':{LABEL}}{text}" for i, text in enumerate(texts))


def _layer_line(names: tuple[str, ...], box: Box) -> Iterator[str]:
    yield (
        f"    {'layer':{LABEL}}{folded(names)}: {box.pairs[0]}, {box.objective[0]}, {box.memory[0]}"
        + "".join(f"; solves {text}" for text in box.solves)
    )
