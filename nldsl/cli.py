"""The command line: one verb for each thing people do. Every verb is a few lines around a function of the package.

Exit codes: 0 done; 1 the program was rejected; 2 the command line was; 3 the text, the run folder or the disk was, or the
loss became infinite; 4 the machine cannot run it; 130 interrupted (what was announced as saved is saved).
"""
from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TextIO

import typer
from rich.console import Console

from nldsl.diagnostic import Diagnostic, Diagnostics, render
from nldsl.explanation import explanations, near
from nldsl.source import Source

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nldsl.graph.equations import Program

REJECTED, USAGE, RUN, BACKEND, INTERRUPTED = 1, 2, 3, 4, 130
WIDE = 200                                         # columns of a table that goes to a file or a pipe
FAMILY_EXITS = {"N7": RUN, "N8": BACKEND}          # the other families are about the program

app = typer.Typer(name="nldsl", help="Nested optimisation levels: from a spec to one compiled training step.", no_args_is_help=True,
                  add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


class Capture(StrEnum):
    auto, split, whole, eager = "auto", "split", "whole", "eager"


class Precision(StrEnum):
    float32, bfloat16, float64 = "float32", "bfloat16", "float64"


class Stage(StrEnum):
    tokens, ast, graph, schedule, python = "tokens", "ast", "graph", "schedule", "python"


class Picture(StrEnum):
    table, text, mermaid, svg = "table", "text", "mermaid", "svg"


Spec = Annotated[str, typer.Argument(metavar="SPEC", help="A .nl file, or - for standard input.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Data = Annotated[Path | None, typer.Argument(metavar="[DATA]", help="A text file or a folder of text; a .csv or .npy table if the spec reads numbers.")]
Memory = Annotated[Path | None, typer.Option(metavar="FILE", help="Begin with the memories in FILE: what outlives a sequence, apart from the weights.")]
Loads = Annotated[list[str] | None, typer.Option("--load", metavar="NAME=PATH", help="Where a file that the spec loads lies: .safetensors, or a run.")]
Remember = Annotated[Path | None, typer.Option(metavar="FILE", help="Write to FILE what was learned while reading.")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Override a dim, a clock's count or a constant of the spec.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
In = Annotated[Precision, typer.Option(help="Of weights and arithmetic.")]
How = Annotated[Capture, typer.Option(help="whole: a step is one graph; split: a graph for each distinct block; eager: no compiler.")]


@app.command()
def check(spec: Spec, sets: Sets = None) -> None:
    """Report everything that is wrong with a spec."""
    with reported():
        program = loaded(source_of(spec), sets)
        say(f"{spec}: {len(program.levels)} levels, {len(program.memories)} memories, accepted")


@app.command("compile")
def compile_(spec: Spec, sets: Sets = None,
             emit: Annotated[Stage | None, typer.Option(help="Print one stage instead of compiling.")] = None,
             out: Annotated[Path | None, typer.Option("-o", "--out", help="Write the emitted step, the picture and a manifest here.")] = None,
             batch: Annotated[int, typer.Option(min=1, help="Sequences in a micro-batch.")] = 4,
             length: Annotated[int, typer.Option(min=2, help="Tokens in a sequence.")] = 256,
             capture: How = Capture.auto, device: Device = "cpu", precision: In = Precision.float32, load: Loads = None) -> None:
    """Compile a spec and report its levels, timetable, lowerings and costs."""
    with reported():
        from nldsl import artefacts, pipeline, stages
        from nldsl.device import available
        from nldsl.step.report import report
        from nldsl.train import pretrained
        from nldsl.train.bench import random_batch
        from nldsl.train.display import shown_on

        text = source_of(spec)
        if emit is not None and out is not None:
            raise typer.BadParameter("a stage is printed, not written: `--emit` or `-o`, one of the two")
        if emit is Stage.tokens or emit is Stage.ast:
            return say(stages.tokens(text.source) if emit is Stage.tokens else stages.ast(text.source))
        program = loaded(text, sets)
        if emit is Stage.graph:
            return say(stages.graph(program))
        files = pretrained.read(program, pretrained.places(program, text.folder, absolute(load))).files if emit is None else None
        step = pipeline.compile_program(program, device=available(device), precision=precision.value, capture=capture.value, files=files)
        if emit is not None:
            return say(step.source if emit is Stage.python else stages.schedule(step))
        display = shown_on(Console())
        step.warm(step.init(0), random_batch(program, batch, length, device), display.compiling)
        display.close()
        say(report(program, step))
        if out is not None:
            say(f"{out}: {', '.join(artefacts.write(step, text.source, out))}")


@app.command()
def graph(spec: Spec, sets: Sets = None,
          form: Annotated[Picture, typer.Option("--as", help="How to draw it.")] = Picture.table,
          out: Annotated[Path | None, typer.Option("-o", "--out", help="Write it to a file.")] = None) -> None:
    """Draw the level graph: levels, memories, what flows between them."""
    with reported():
        from nldsl.graph.view.boxes import family_graph
        from nldsl.graph.view.level_table import levels_table, levels_text
        from nldsl.graph.view.picture import mermaid, svg

        program = loaded(source_of(spec), sets)
        match form:
            case Picture.table:
                page = levels_table(program)
            case Picture.text:
                page = levels_text(program)
            case Picture.mermaid:
                page = mermaid(family_graph(program))
            case Picture.svg:
                page = svg(family_graph(program))
        if out is None:
            return say(page)
        with written(out) as file:
            Console(file=file, width=WIDE).print(page, markup=False, highlight=False, soft_wrap=form is not Picture.table, end="")


@app.command()
def fmt(files: Annotated[list[str], typer.Argument(metavar="FILE..", help="Specs, or - for standard input.")],
        write: Annotated[bool, typer.Option("--write", help="Rewrite the files.")] = False,
        check: Annotated[bool, typer.Option("--check", help="Only say which files are not in the standard form: exit code 1.")] = False) -> None:
    """Print specs in the standard form."""
    with reported():
        from nldsl.frontend.parse import parse
        from nldsl.frontend.unparse import unparse

        changed = []
        for name in files:
            source = source_of(name).source
            text = unparse(parse(source))
            if text != source.text:
                changed.append(name)
            if write and name != "-" and text != source.text:
                with written(Path(name)) as file:
                    file.write(text)
            elif not check and not (write and name != "-"):
                say(text)
        if check and changed:
            say("\n".join(changed))
            raise typer.Exit(REJECTED)


@app.command()
def train(spec: Annotated[Path | None, typer.Argument(metavar="[SPEC]", help="A .nl file; may be left out with --resume.", exists=True, dir_okay=False)] = None,
          data: Data = None, sets: Sets = None,
          steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps [default: 1000].")] = None,
          seed: Annotated[int | None, typer.Option(min=0, help="Of weights and batches [default: 0].")] = None,
          batch: Annotated[int | None, typer.Option(min=1, help="Sequences in a micro-batch [default: 4].")] = None,
          length: Annotated[int | None, typer.Option(min=2, help="Bytes in a sequence [default: 256].")] = None,
          accumulate: Annotated[int | None, typer.Option(min=1, help="Micro-batches in a step [default: 1].")] = None,
          device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N [default: cpu].")] = None,
          precision: Annotated[Precision | None, typer.Option(help="Of weights and arithmetic [default: float32].")] = None,
          capture: Annotated[Capture | None, typer.Option(help="As in compile [default: auto].")] = None,
          out: Annotated[Path | None, typer.Option(help="The run folder [default: the next free runs/SPEC-N].")] = None,
          resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with this run.")] = None,
          save_every: Annotated[int | None, typer.Option(min=1, help="Steps between saves [default: a minute].")] = None,
          memory: Memory = None, load: Loads = None) -> None:
    """Train a spec on DATA, by default on the Python standard library's source, or on a chaotic series if the spec reads numbers."""
    given = {name: value for name, value in {
        "sets": overrides(sets) or None, "data": str(data.resolve()) if data else None, "steps": steps, "seed": seed, "batch": batch, "length": length,
        "accumulate": accumulate, "device": device, "precision": precision and precision.value, "capture": capture and capture.value,
        "memory": str(memory.resolve()) if memory else None, "load": absolute(load) or None,
    }.items() if value is not None}
    if spec is None and resume is None:
        raise typer.BadParameter("name a SPEC, or a run to --resume")
    if resume is not None and out is not None:
        raise typer.BadParameter("a resumed run stays in its folder: leave out --out")
    with reported():
        from nldsl.device import available
        from nldsl.train import pretrained
        from nldsl.train import run as runs
        from nldsl.train.display import shown_on

        available(device or "cpu")
        run = runs.begin(spec, runs.Settings(**given), out) if resume is None else runs.reopen(resume, given, spec)
        noted(run.program, pretrained.read(run.program, run.files).findings(run.program))
        if not runs.train(run, shown_on(Console()), save_every):
            raise typer.Exit(INTERRUPTED)


@app.command("eval")
def eval_(run: RunFolder, data: Data = None,
          length: Annotated[int | None, typer.Option(min=2, help="Bytes in a sequence [default: as trained].")] = None,
          limit: Annotated[int, typer.Option("--bytes", min=1, help="Score at most so many.")] = 1 << 17,
          memory: Memory = None, remember: Remember = None) -> None:
    """Score a trained model on its held-out data, or on DATA: in bits per byte, or by its loss if it reads numbers."""
    with reported():
        from nldsl.train import run as runs
        from nldsl.train.results import score_data

        opened = runs.reopen(run)
        say(score_data(opened, *runs.trained(opened), data, length, limit, memory, remember).describe())


@app.command()
def generate(run: RunFolder, prompt: Annotated[str, typer.Argument(help="What the model goes on with.")] = "",
             n: Annotated[int, typer.Option("-n", min=1, help="Bytes to write.")] = 256,
             temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest byte.")] = 0.8,
             seed: Annotated[int, typer.Option(min=0)] = 0,
             freeze: Annotated[bool, typer.Option("--freeze", help="Stop learning: token-clock memories keep the value they have.")] = False,
             memory: Memory = None, remember: Remember = None) -> None:
    """Let a trained model go on with PROMPT; its token-clock levels learn from what they read and write."""
    with reported():
        from nldsl.train import run as runs
        from nldsl.train.results import write_on

        opened = runs.reopen(run)
        say(prompt + write_on(opened, *runs.trained(opened), prompt.encode(), n, seed, temperature, memory, remember, freeze))


@app.command()
def bench(spec: Spec, sets: Sets = None,
          steps: Annotated[int, typer.Option(min=1, help="Timed steps.")] = 20,
          batch: Annotated[int, typer.Option(min=1)] = 4,
          length: Annotated[int, typer.Option(min=2)] = 256,
          device: Device = "cpu", precision: In = Precision.float32) -> None:
    """Time the training step, compiled and not."""
    with reported():
        from nldsl.device import available
        from nldsl.train.bench import compared

        say(compared(loaded(source_of(spec), sets), steps, batch, length, available(device), precision.value))


@app.command()
def explain(code: Annotated[str, typer.Argument(metavar="CODE", help="Such as N610.")]) -> None:
    """Say at length what a diagnostic means, with a mistake and its correction."""
    found = explanations().get(code.upper())
    if found is None:
        meant = near(code)
        raise typer.BadParameter(f"there is no diagnostic {code}" + (f"; did you mean {' or '.join(meant)}?" if meant else ""))
    say(str(found).rstrip("\n"))


class Text(NamedTuple):
    """A spec as given, and the folder where its imports are looked for first."""

    source: Source
    folder: Path


def source_of(spec: str) -> Text:
    """A file that cannot be read is a usage error; bytes that are not UTF-8 are left for the compiler to reject at their place."""
    if spec == "-":
        return Text(Source("<stdin>", sys.stdin.buffer.read().decode("utf-8", errors="replace")), Path())
    try:
        return Text(Source(Path(spec).name, Path(spec).read_bytes().decode("utf-8", errors="replace")), Path(spec).parent)
    except OSError as error:
        raise typer.BadParameter(f"`{spec}` cannot be read: {error.strerror}") from None


def loaded(text: Text, sets: list[str] | None) -> Program:
    from nldsl import pipeline

    return noted(pipeline.load_text(text.source.text, text.source.name, overrides(sets), [text.folder]))


def noted(program: Program, more: Iterable[Diagnostic] = ()) -> Program:
    """Print the warnings and notes of a program that was accepted."""
    sys.stderr.write(render([*program.findings, *more], color=sys.stderr.isatty()))
    return program


@contextmanager
def written(path: Path) -> Iterator[TextIO]:
    try:
        with path.open("w", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise typer.BadParameter(f"`{path}` cannot be written: {error.strerror}") from None


def absolute(loads: list[str] | None) -> dict[str, str]:
    return {name: str(Path(path).resolve()) for name, path in overrides(loads, "--load").items()}


def overrides(sets: list[str] | None, option: str = "--set") -> dict[str, str]:
    """`["d=512"]` as a table. Raises a usage error for a pair without `=`."""
    pairs = [item.partition("=") for item in sets or []]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise typer.BadParameter(f"{option} takes NAME=VALUE, not `{name}{equals}{value}`")
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


def say(page: RenderableType) -> None:
    """Print text as it is, ending in one line end, or a table."""
    if isinstance(page, str):
        return Console().print(page.removesuffix("\n"), markup=False, highlight=False, soft_wrap=True)
    Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE).print(page)


def main() -> None:
    app()
