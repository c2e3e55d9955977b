"""The verb that sets runs beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nldsl.cli.outcome import reported, say


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN..", help="Folders of runs, or of several seeds.")
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Draw the curves to this file (SVG).")
    ] = None,
    on: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Score all on the held-out data of RUN: what was lost."),
    ] = None,
) -> None:
    """Say in what runs differ, and set their numbers side by side, with the mean and spread of
    those that differ in their seed alone.
    """
    with reported():
        from nldsl.train import compare

        found = [compare.read(folder) for run in runs for folder in compare.members(run)]
        say(compare.differences(found))
        say(compare.table(found))
        if on is not None:
            say(f"scored on the held-out data of {on}; lost: + is worse than {on.name} is there")
            say(compare.table(compare.scored_on(found, on), compare.KEPT))
        if out is not None:
            compare.picture(found, out)
            say(f"{out}: the curves")
