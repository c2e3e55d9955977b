"""The commands: a table each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import captures, gpu_counts, sweep, table
from benchmarks.systems import BATCH, LENGTH, SIZES, TABLES

app = typer.Typer(add_completion=False, help="Specs beside what people would use instead.")
Out = Annotated[Path | None, typer.Option(help="Append the tables to this file.")]
Kept = Annotated[Path | None, typer.Option(help="Keep here what is compiled, and build once.")]
Build = Annotated[bool, typer.Option(help="Only build, in the folder where it is kept.")]


@app.command()
def systems(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(TABLES)}.")] = None,
    rounds: int = 9,
    out: Out = None,
    kept: Kept = None,
    build: Build = False,
) -> None:
    """Training steps of specs beside transformers and peers with as many parameters."""
    sizes = ", ".join(f"{key} {value}" for key, value in SIZES.items())
    say([f"## {table.machine()}", "", f"{BATCH} sequences of {LENGTH} bytes a step; {sizes}."], out)
    with folder(kept) as place:
        for name in names or TABLES:
            if build:
                table.workers(name, place)
            else:
                say([*table.head(*table.COLUMNS), *table.rows(name, rounds, place)], out)


@app.command(name="sweep")
def swept(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(sweep.SPECS)}.")] = None,
    rounds: int = 5,
    out: Out = None,
    kept: Kept = None,
    build: Build = False,
) -> None:
    """What a token costs in training, scoring and writing, by the length of the text."""
    say([f"## {table.machine()}", "", sweep.SIZES_SAID], out)
    with folder(kept) as place:
        for name in names or sweep.SPECS:
            for work in sweep.WORKS:
                if build:
                    sweep.build(name, work, place)
                else:
                    say([*table.head(*sweep.COLUMNS), *sweep.rows(name, work, rounds, place)], out)


@app.command(name="captures")
def captured(
    names: Annotated[list[str] | None, typer.Argument(help="Of the examples.")] = None,
    rounds: int = 15,
    out: Out = None,
    kept: Kept = None,
    build: Build = False,
) -> None:
    """Each shipped spec, compiled beside the same step as it is written."""
    say([f"## {table.machine()}", "", captures.SIZES_SAID, *table.head(*captures.COLUMNS)], out)
    with folder(kept) as place:
        for name in names or captures.SPECS:
            say(captures.rows(name, 0 if build else rounds, place), out)


@app.command()
def gpu(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(gpu_counts.NAMES)}.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the tables to this file.")] = None,
) -> None:
    """What steps would launch on an H100, and how long they are predicted to take."""
    lines = gpu_counts.page(names or gpu_counts.NAMES)
    if out is not None:
        out.write_text("\n".join([*lines, ""]))
    say(lines, None)


def say(lines: Iterable[str], out: Path | None) -> None:
    text = "\n".join(lines)
    print(text, flush=True)
    if out is not None:
        with out.open("a") as file:
            file.write(f"{text}\n")


@contextmanager
def folder(kept: Path | None) -> Iterator[Path]:
    """The one that is given, or one for this run."""
    if kept is not None:
        yield kept
    else:
        with tempfile.TemporaryDirectory() as place:
            yield Path(place)


if __name__ == "__main__":
    app()
