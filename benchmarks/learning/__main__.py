"""The commands: runs, row by row, and their report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.learning import protocol, report
from benchmarks.learning.scales import FULL, QUICK
from benchmarks.learning.systems import CHANGES, SYSTEMS
from benchmarks.learning.tasks import tasks

app = typer.Typer(add_completion=False, help="Does it learn as the paper says?")
# Of a quick run.
FEW_TASKS, FEW_SYSTEMS = ("text", "mqar"), ("transformer", "gated_deltanet")


@app.command()
def run(
    quick: Annotated[bool, typer.Option(help="Minutes: tiny, and of no meaning.")] = False,
    hours: Annotated[float, typer.Option(help="Stop behind the row that passes these.")] = 12,
    text: Annotated[Path | None, typer.Option(help="A file in place of Python's library.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only these.")] = None,
    system: Annotated[list[str] | None, typer.Option(help="Only these.")] = None,
    change: Annotated[
        list[str] | None, typer.Option(help="Systems with a change of systems.py, not as they are.")
    ] = None,
) -> None:
    """Runs what is not recorded yet, and records it row by row."""
    for name in change or ():
        if name not in CHANGES:
            raise typer.BadParameter(f"`{name}` is none of: {', '.join(CHANGES)}")
    scale = QUICK if quick else FULL
    wanted = task or (FEW_TASKS if quick else None)
    chosen = [one for one in tasks(scale, text) if wanted is None or one.name in wanted]
    systems = set(system or (FEW_SYSTEMS if quick else SYSTEMS))
    said = ("task", "system", "change", "hidden", "parameters", "purpose", "seed", "rate")
    for record in protocol.everything(chosen, systems, scale, hours, changes=change or ("",)):
        parts = [f"{name} {record[name]}" for name in said]
        print(*parts, record.get("failed", record.get("validation")), sep=", ", flush=True)


@app.command(name="report")
def reported() -> None:
    """Writes benchmarks/LEARNING.md from the records."""
    report.write()


if __name__ == "__main__":
    app()
