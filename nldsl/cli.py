"""The command line: one verb for each thing people do. Every verb is a few lines around a function of the package.

Exit codes: 0 done; 1 the program was rejected; 2 the command line was; 3 the text, the run folder or the disk was, or the
loss became infinite; 4 the machine cannot run it; 130 interrupted (what was announced as saved is saved).
"""
from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from nldsl import pipeline
from nldsl.diagnostic import Diagnostics, render
from nldsl.explanation import explanations, near
from nldsl.graph.equations import Program
from nldsl.source import Source

REJECTED, USAGE, RUN, BACKEND, INTERRUPTED = 1, 2, 3, 4, 130
FAMILY_EXITS = {"N7": RUN, "N8": BACKEND}          # the other families are about the program

app = typer.Typer(name="nldsl", help="Nested optimisation levels: from a spec to one compiled training step.", no_args_is_help=True,
                  add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


class Capture(str, Enum):
    auto, split, whole, eager = "auto", "split", "whole", "eager"


class Precision(str, Enum):
    float32, bfloat16, float64 = "float32", "bfloat16", "float64"


class Stage(str, Enum):
    tokens, ast, graph, schedule, python = "tokens", "ast", "graph", "schedule", "python"


class Picture(str, Enum):
    table, mermaid, svg = "table", "mermaid", "svg"


Spec = Annotated[str, typer.Argument(metavar="SPEC", help="A .nl file, or - for standard input.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Data = Annotated[Path | None, typer.Argument(metavar="[DATA]", help="A text file or a folder of text.")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Override a dim, a clock's count or a constant of the spec.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N [default: cpu].")]
In = Annotated[Precision | None, typer.Option(help="Of weights and arithmetic [default: float32].")]
How = Annotated[Capture | None, typer.Option(help="whole: a step is one graph; split: a graph for each distinct block; eager: no compiler [default: auto].")]


@app.command()
def check(spec: Spec, sets: Sets = None) -> None:
    """Report everything that is wrong with a spec."""
    with reported():
        program = loaded(spec, sets)
        say(f"{spec}: {len(program.levels)} levels, {len(program.memories)} memories, no findings")


@app.command("compile")
def compile_(spec: Spec, sets: Sets = None,
             emit: Annotated[Stage | None, typer.Option(help="Print one stage of the compiler instead of compiling.")] = None,
             out: Annotated[Path | None, typer.Option("-o", "--out", help="Write the emitted step, the picture and a manifest here.")] = None,
             capture: How = None, device: Device = None, precision: In = None) -> None:
    """Compile a spec and report its levels, timetable, lowerings and costs."""


@app.command()
def train(spec: Annotated[Path | None, typer.Argument(metavar="[SPEC]", help="A .nl file; may be left out with --resume.", exists=True, dir_okay=False)] = None,
          data: Data = None, sets: Sets = None,
          steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps [default: 1000].")] = None,
          seed: Annotated[int | None, typer.Option(min=0, help="Of weights and batches [default: 0].")] = None,
          batch: Annotated[int | None, typer.Option(min=1, help="Sequences in a micro-batch [default: 4].")] = None,
          length: Annotated[int | None, typer.Option(min=2, help="Bytes in a sequence [default: 256].")] = None,
          accumulate: Annotated[int | None, typer.Option(min=1, help="Micro-batches in a step [default: 1].")] = None,
          device: Device = None, precision: In = None, capture: How = None,
          out: Annotated[Path | None, typer.Option(help="The run folder [default: the next free runs/SPEC-N].")] = None,
          resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with this run.")] = None,
          save_every: Annotated[int | None, typer.Option(min=1, help="Steps between saves [default: a minute].")] = None) -> None:
    """Train a spec on DATA, by default on the Python standard library's source."""
    given = {name: value for name, value in {
        "sets": overrides(sets) or None, "data": str(data.resolve()) if data else None, "steps": steps, "seed": seed, "batch": batch, "length": length,
        "accumulate": accumulate, "device": device, "precision": precision and precision.value, "capture": capture and capture.value,
    }.items() if value is not None}
    if spec is None and resume is None:
        raise typer.BadParameter("name a SPEC, or a run to --resume")
    if resume is not None and out is not None:
        raise typer.BadParameter("a resumed run stays in its folder: leave out --out")
    with reported():
        from nldsl.train import run as runs
        from nldsl.train.display import shown_on

        run = runs.begin(spec, runs.Settings(**given), out) if resume is None else runs.reopen(resume, given, spec)
        if not runs.train(run, shown_on(Console()), save_every):
            raise typer.Exit(INTERRUPTED)


@app.command("eval")
def eval_(run: RunFolder, data: Data = None,
          length: Annotated[int | None, typer.Option(min=2, help="Bytes in a sequence [default: as trained].")] = None,
          limit: Annotated[int, typer.Option("--bytes", min=1, help="Score at most so many.")] = 1 << 17) -> None:
    """Score a trained model in bits per byte on its held-out bytes, or on DATA."""
    with reported():
        from nldsl.train import run as runs

        say(runs.score_text(runs.reopen(run), data, length, limit).describe())


@app.command()
def generate(run: RunFolder, prompt: Annotated[str, typer.Argument(help="What the model goes on with.")] = "",
             n: Annotated[int, typer.Option("-n", min=1, help="Bytes to write.")] = 256,
             temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest byte.")] = 0.8,
             seed: Annotated[int, typer.Option(min=0)] = 0) -> None:
    """Let a trained model go on with PROMPT."""
    with reported():
        from nldsl.train import run as runs

        say(prompt + runs.write_on(runs.reopen(run), prompt.encode(), n, seed, temperature))


@app.command()
def bench(spec: Spec, sets: Sets = None,
          steps: Annotated[int, typer.Option(min=1, help="Timed steps.")] = 20,
          batch: Annotated[int, typer.Option(min=1)] = 4,
          length: Annotated[int, typer.Option(min=2)] = 256,
          device: Device = None, precision: In = None) -> None:
    """Time the training step, compiled and not."""
    with reported():
        from nldsl.train.bench import CAPTURES, HEADINGS, timed

        program = loaded(spec, sets)
        timings = [timed(program, capture, steps, batch, length, device or "cpu", precision.value if precision else "float32")
                   for capture in CAPTURES]
        table = Table(*HEADINGS)
        for timing in timings:
            table.add_row(*timing.row(timings[0]))
        Console().print(table)


@app.command()
def explain(code: Annotated[str, typer.Argument(metavar="CODE", help="Such as N610.")]) -> None:
    """Say at length what a diagnostic means, with a mistake and its correction."""
    found = explanations().get(code.upper())
    if found is None:
        meant = near(code)
        raise typer.BadParameter(f"there is no diagnostic {code}" + (f"; did you mean {' or '.join(meant)}?" if meant else ""))
    say(str(found).rstrip("\n"))


def source_of(spec: str) -> tuple[Source, list[Path]]:
    """A spec's text, and the folder where its imports are looked for first. A file that cannot be read is a usage error."""
    if spec == "-":
        return Source("<stdin>", sys.stdin.buffer.read().decode("utf-8", errors="replace")), [Path()]
    try:
        return Source(Path(spec).name, Path(spec).read_bytes().decode("utf-8", errors="replace")), [Path(spec).parent]
    except OSError as error:
        raise typer.BadParameter(f"`{spec}` cannot be read: {error.strerror}") from None


def loaded(spec: str, sets: list[str] | None) -> Program:
    source, search = source_of(spec)
    return pipeline.load_text(source.text, source.name, overrides(sets), search)


def overrides(sets: list[str] | None) -> dict[str, str]:
    """`["d=512"]` as a table. Raises a usage error for a pair without `=`."""
    pairs = [item.partition("=") for item in sets or []]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise typer.BadParameter(f"--set takes NAME=VALUE, not `{name}{equals}{value}`")
    return {name.strip(): value.strip() for name, _, value in pairs}


@contextmanager
def reported() -> Iterator[None]:
    """Turn findings into their picture on stderr and an exit code, and Ctrl-C into 130."""
    try:
        yield
    except Diagnostics as found:
        sys.stderr.write(render(found.diagnostics, color=sys.stderr.isatty()))
        raise typer.Exit(max(FAMILY_EXITS.get(d.code[:2], REJECTED) for d in found.diagnostics)) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted")
        raise typer.Exit(INTERRUPTED) from None


def say(text: Any) -> None:
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    app()
