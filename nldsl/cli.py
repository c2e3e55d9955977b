"""The command line: one verb for each thing people do. Every verb is a few lines around a function
of the package.

Exit codes: 0 done; 1 the program was rejected; 2 the command line was; 3 the text, the run folder
or the disk was, or a step or a score is not finite; 4 the machine cannot run it, or has not the
memory; 130 interrupted (what was announced as saved is saved).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from nldsl import writing
from nldsl.diagnostic import Diagnostic, Diagnostics, counted, render
from nldsl.explanation import explanations, near
from nldsl.screen import Screen, Watched
from nldsl.source import Source, decoded

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nldsl.core.program import Program
    from nldsl.pipeline import Watch
    from nldsl.step.compile import Batch, CompiledStep
    from nldsl.train.records import Settings
    from nldsl.train.run import Run

REJECTED, USAGE, RUN, BACKEND, INTERRUPTED = 1, 2, 3, 4, 130
LARGEST = 2**63 - 1
WIDE = 80  # columns of a table that goes to a file or a pipe
FAMILY_EXITS = {"N7": RUN, "N8": BACKEND}  # the other families are about the program

app = typer.Typer(
    name="nldsl",
    help="Nested optimisation levels: from a spec to one compiled training step.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Capture(StrEnum):
    auto = "auto"
    separate = "split"
    whole = "whole"
    eager = "eager"


FUNCTIONS = (Capture.auto, Capture.separate)  # captures by which functions are compiled one by one


class Precision(StrEnum):
    float32, bfloat16, float64 = "float32", "bfloat16", "float64"


def precision_of(text: str) -> Precision:
    try:
        return Precision({"bf16": "bfloat16"}.get(text, text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(Precision)}") from None


def budget_of(text: str) -> int:
    """Bytes: `8G`, `1200M`, `1.5GiB`."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        found = TypeAdapter(ByteSize).validate_python(
            re.sub(r"(?<=[\d ])([kKmMgGtT])$", r"\1B", text)
        )
    except ValidationError:
        raise typer.BadParameter(f"{text!r} is not a size such as 8G or 1200M") from None
    if not found:
        raise typer.BadParameter("a step takes more than no memory")
    return int(found)


class Stage(StrEnum):
    tokens, ast, graph, states = "tokens", "ast", "graph", "states"
    schedule, python = "schedule", "python"


class Picture(StrEnum):
    table, text, mermaid, svg = "table", "text", "mermaid", "svg"


Spec = Annotated[str, typer.Argument(metavar="SPEC", help="A .nl file, or - for standard input.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Data = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DATA]",
        help="A text file or a folder of text; a .csv or .npy table if the spec reads numbers.",
    ),
]
Memory = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Begin with the memories in FILE: what outlives a sequence, apart from the weights.",
    ),
]
Loads = Annotated[
    list[str] | None,
    typer.Option(
        "--load",
        metavar="NAME=PATH",
        help="Where a file that the spec loads lies: .safetensors, or a run.",
    ),
]
Remember = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write to FILE what was learned while reading.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Override a dim, a clock's count or a constant of the spec.",
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
IN = {"parser": precision_of, "metavar": "|".join(Precision)}
In = Annotated[
    Precision, typer.Option(help="Of arithmetic; bfloat16 (bf16) keeps weights in float32.", **IN)
]
Budget = Annotated[
    int | None,
    typer.Option(
        metavar="SIZE",
        parser=budget_of,
        help="Memory that a step may take beside what is held before it, such as 8G; what does not "
        "fit is computed again for the backward pass [default: what the device has].",
    ),
]
How = Annotated[
    Capture,
    typer.Option(
        help="whole: a step is one graph; split: a graph for each distinct block; eager: no "
        "compiler; auto: one of them, and for a run only if it pays."
    ),
]


@app.command()
def check(spec: Spec, sets: Sets = None) -> None:
    """Report everything that is wrong with a spec."""
    with reported():
        program = loaded(source_of(spec), sets)
        levels, memories = len(program.levels), len(program.memories)
        counts = f"{counted(levels, 'level')}, {counted(memories, 'memory', 'memories')}"
        say(f"{spec}: {counts}, accepted")


@app.command("compile")
def compile_(
    spec: Spec,
    sets: Sets = None,
    emit: Annotated[
        Stage | None, typer.Option(help="Print one stage instead of compiling.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="Write the emitted step, the picture and a manifest here."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Sequences in a micro-batch.")] = 4,
    length: Annotated[int, typer.Option(min=2, help="Tokens in a sequence.")] = 256,
    capture: How = Capture.auto,
    device: Device = "cpu",
    precision: In = Precision.float32,
    load: Loads = None,
    budget: Budget = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="GPU",
            help="Instead, lower the step for a GPU that need not be there, such as h100: what it "
            "launches, and a predicted time.",
        ),
    ] = None,
    cubins: Annotated[
        bool,
        typer.Option("--cubins", help="With --target: registers and spills of each kernel, too."),
    ] = False,
) -> None:
    """Compile a spec and report its levels, timetable, lowerings and costs."""
    require_fitting(target, cubins, emit or out or budget or device != "cpu", capture)
    with reported():
        if target is not None:
            return lowered(source_of(spec), sets, target, batch, length, precision, load, cubins)
        from nldsl import artefacts, pipeline, stages
        from nldsl.device import available
        from nldsl.train import pretrained
        from nldsl.train.bench import random_batch
        from nldsl.view.report import report

        text = source_of(spec)
        if emit is not None and out is not None:
            raise typer.BadParameter(
                "a stage is printed, not written: `--emit` or `-o`, one of the two"
            )

        def watch(stage: str, made: object) -> None:
            if stage == emit:
                say(stages.DUMPS[stage](made))
                raise typer.Exit

        program = loaded(text, sets, watch)
        files = (
            pretrained.read(program, pretrained.places(program, text.folder, absolute(load))).files
            if emit is None
            else None
        )
        step = pipeline.compile_program(
            program,
            device=available(device),
            precision=precision.value,
            capture=capture.value,
            files=files,
            budget=budget,
            watch=watch,
        )
        warmed(step, random_batch(program, batch, length, device))
        say(report(program, step))
        if out is not None:
            say(f"{out}: {', '.join(artefacts.write(step, text.source, out))}")


def require_fitting(target: str | None, cubins: bool, others: object, capture: Capture) -> None:
    """Raises a usage error for options that say nothing beside others."""
    if target is not None and (others or capture not in FUNCTIONS):
        raise typer.BadParameter(
            "`--target` counts the functions of `--capture split`, and takes `--set`, `--batch`, "
            "`--length`, `--precision`, `--load` and `--cubins` alone"
        )
    if cubins and target is None:
        raise typer.BadParameter("`--cubins` are those of a `--target`")


def lowered(
    text: Text,
    sets: list[str] | None,
    target: str,
    batch: int,
    length: int,
    precision: Precision,
    load: list[str] | None,
    cubins: bool,
) -> None:
    """Says what a step launches on a GPU."""
    from nldsl.target.devices import GPUS

    if target not in GPUS:
        raise typer.BadParameter(f"{target!r} is no target; there are {', '.join(GPUS)}")
    from nldsl.target import cubins as assembler
    from nldsl.target.absent import require_triton
    from nldsl.target.rehearse import rehearsed
    from nldsl.target.report import report
    from nldsl.train import pretrained
    from nldsl.train.display import shown_on

    require_triton()
    program, gpu, display = loaded(text, sets), GPUS[target], shown_on(Screen())
    places = pretrained.places(program, text.folder, absolute(load))
    files = pretrained.read(program, places).files
    made = rehearsed(program, gpu, batch, length, precision.value, files, display.compiling)
    display.close()
    say(report(made, gpu, batch * length))
    if cubins:
        codes = [part.graph.code for part in made.parts]
        say(assembler.cubins_table(assembler.cubins(codes, gpu)))


def warmed(step: CompiledStep, batch: Batch) -> None:
    """Compiled, and measured."""
    from nldsl.train.display import shown_on

    display = shown_on(Screen())
    step.warm(step.init(0), batch, display.compiling)
    display.close()
    step.measure(batch)


@app.command()
def graph(
    spec: Spec,
    sets: Sets = None,
    form: Annotated[Picture, typer.Option("--as", help="How to draw it.")] = Picture.table,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write it to a file.")] = None,
) -> None:
    """Draw the level graph: levels, memories, what flows between them."""
    with reported():
        from nldsl.view.families import family_graph
        from nldsl.view.level_table import levels_table, levels_text
        from nldsl.view.mermaid import mermaid
        from nldsl.view.page import svg

        program = loaded(source_of(spec), sets)
        page: RenderableType
        match form:
            case Picture.table:
                page = levels_table(program)
            case Picture.text:
                page = levels_text(program)
            case Picture.mermaid:
                page = mermaid(family_graph(program))
            case Picture.svg:
                page = svg(family_graph(program), Path(spec).stem)
        if out is None:
            return say(page)
        with StringIO() as file:
            Screen(file=file, width=WIDE).print(page, soft_wrap=form is not Picture.table, end="")
            written(out, file.getvalue())


@app.command()
def fmt(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE..", help="Specs, or - for standard input.")
    ],
    write: Annotated[bool, typer.Option("--write", help="Rewrite the files.")] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only say which files are not in the standard form: exit code 1."
        ),
    ] = False,
) -> None:
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
                written(Path(name), text)
            elif not check and not (write and name != "-"):
                say(text)
        if check and changed:
            say("\n".join(changed))
            raise typer.Exit(REJECTED)


@app.command()
def train(
    spec: Annotated[
        Path | None, typer.Argument(metavar="[SPEC]", help="A .nl file; left out with --resume.")
    ] = None,
    data: Data = None,
    sets: Sets = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=LARGEST,
            help="Optimizer steps [default: 1000]; more of them make a resumed run longer.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=LARGEST, help="Of weights and batches [default: 0].")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, max=LARGEST, help="Sequences in a micro-batch [default: 4]."),
    ] = None,
    length: Annotated[
        int | None, typer.Option(min=2, max=LARGEST, help="Bytes in a sequence [default: 256].")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(min=1, max=LARGEST, help="Micro-batches in a step [default: 1].")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N [default: cpu].")] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="As of `compile` [default: float32].", **IN)
    ] = None,
    capture: Annotated[Capture | None, typer.Option(help="As in compile [default: auto].")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder [default: the next free runs/SPEC-N].")
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with this run.")] = None,
    save_every: Annotated[
        int | None,
        typer.Option(min=1, max=LARGEST, help="Steps between saves [default: a minute]."),
    ] = None,
    memory: Memory = None,
    load: Loads = None,
    budget: Budget = None,
) -> None:
    """Train a spec on DATA, by default on the Python standard library's source, or on a chaotic
    series if the spec reads numbers.
    """
    spec, data = spec_and_data(spec, data, resume)
    given = stated(
        sets=overrides(sets) or None,
        data=data and str(data.resolve()),
        steps=steps,
        seed=seed,
        batch=batch,
        length=length,
        accumulate=accumulate,
        device=device,
        precision=precision and precision.value,
        capture=capture and capture.value,
        memory=memory and str(memory.resolve()),
        load=absolute(load) or None,
    )
    if resume is not None and out is not None:
        raise typer.BadParameter("a resumed run stays in its folder: leave out --out")
    with reported():
        from nldsl.train import training
        from nldsl.train.display import shown_on

        run = replace(run_of(spec, resume, given, out), budget=budget)
        screen = Watched()
        done = training.train(run, shown_on(screen), save_every)
        if screen.left and not done:
            sys.stderr.write(
                f"standard output was closed; go on with: nldsl train --resume {run.folder}\n"
            )
        if not done:
            raise typer.Exit(INTERRUPTED)


def stated(**settings: object) -> dict[str, object]:
    """Those settings that the command line gives."""
    return {name: value for name, value in settings.items() if value is not None}


def run_of(
    spec: Path | None, resume: Path | None, given: dict[str, object], out: Path | None
) -> Run:
    """The run to go on with, or a new one; its device is there, and its findings are printed."""
    from nldsl.device import available
    from nldsl.train import idle, pretrained
    from nldsl.train import run as runs

    available(str(given.get("device", "cpu")))
    if resume is not None:
        run = runs.resume(resume, given, spec)
    else:
        assert spec is not None, "a run that begins has a spec"
        run = runs.begin(spec, settings_of(given), out)
    available(run.settings.device)
    noted(
        run.program,
        [
            *pretrained.read(run.program, run.files).findings(run.program),
            *(run.dataset.findings if run.dataset else ()),
            *idle.findings(run.program, run.settings.steps, run.settings.length),
        ],
    )
    return run


def spec_and_data(
    spec: Path | None, data: Path | None, resume: Path | None
) -> tuple[Path | None, Path | None]:
    """A run that is resumed has its spec: a path alone beside it is DATA, unless it is a .nl
    file.
    """
    if resume is not None and data is None and spec is not None and spec.suffix != ".nl":
        spec, data = None, spec
    if spec is None and resume is None:
        raise typer.BadParameter("name a SPEC, or a run to --resume")
    if spec is not None:
        try:
            spec.read_bytes()
        except OSError as error:
            raise typer.BadParameter(
                f"the SPEC `{spec}` cannot be read: {error.strerror}"
            ) from None
    return spec, data


def settings_of(given: dict[str, object]) -> Settings:
    from pydantic import ValidationError

    from nldsl.train.records import Settings, told

    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise typer.BadParameter(told(error)) from None


@app.command("eval")
def eval_(
    run: RunFolder,
    data: Data = None,
    length: Annotated[
        int | None,
        typer.Option(min=2, max=LARGEST, help="Bytes in a sequence [default: as trained]."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--bytes", min=1, max=LARGEST, help="Score at most so many.")
    ] = 1 << 17,
    memory: Memory = None,
    remember: Remember = None,
) -> None:
    """Score a trained model on its held-out data, or on DATA: in bits per byte, or by its loss if
    it reads numbers.
    """
    with reported("interrupted: the run is as it was"):
        from nldsl.device import available
        from nldsl.train import run as runs
        from nldsl.train.results import score_data

        opened = runs.reopen(run, wants_data=data is None)
        available(opened.settings.device)
        say(
            score_data(
                opened, *runs.trained(opened), data, length, limit, memory, remember, warned
            ).describe()
        )


@app.command()
def generate(
    run: RunFolder,
    prompt: Annotated[str, typer.Argument(help="What the model goes on with.")] = "",
    n: Annotated[int, typer.Option("-n", min=1, max=LARGEST, help="Bytes to write.")] = 256,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest byte.")] = 0.8,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST)] = 0,
    freeze: Annotated[
        bool,
        typer.Option(
            "--freeze", help="Stop learning: token-clock memories keep the value they have."
        ),
    ] = False,
    memory: Memory = None,
    remember: Remember = None,
) -> None:
    """Let a trained model go on with PROMPT; its token-clock levels learn from what they read and
    write.
    """
    with reported("interrupted: the run is as it was"):
        from nldsl.device import available
        from nldsl.train import run as runs
        from nldsl.train.results import write_on

        opened = runs.without_data(run)
        available(opened.settings.device)
        say(
            write_on(
                opened,
                *runs.trained(opened),
                os.fsencode(prompt),
                n,
                seed,
                temperature,
                memory,
                remember,
                freeze,
            )
        )


@app.command()
def bench(
    spec: Spec,
    sets: Sets = None,
    steps: Annotated[int, typer.Option(min=1, help="Timed steps.")] = 20,
    batch: Annotated[int, typer.Option(min=1)] = 4,
    length: Annotated[int, typer.Option(min=2)] = 256,
    device: Device = "cpu",
    precision: In = Precision.float32,
    capture: How = Capture.auto,
    profile: Annotated[
        bool,
        typer.Option(
            "--profile",
            help="Instead of comparing, say what each level takes of a step's time, forward, "
            "backward and in its ticks, and what is kept for its backward pass.",
        ),
    ] = False,
) -> None:
    """Time the training step, compiled and not."""
    with reported():
        from nldsl.device import available
        from nldsl.train import bench
        from nldsl.train import profile as profiles

        if profile and capture is Capture.whole:
            raise typer.BadParameter(
                "one graph has no parts to time: `--profile` with `--capture split` or `eager`"
            )
        program = loaded(source_of(spec), sets)
        run = (steps, batch, length, available(device), precision.value)
        if not profile:
            return say(bench.compared(program, *run, capture.value))
        how = Capture.separate if capture is Capture.auto else capture
        found = profiles.profiled(program, *run, how.value)
        what = f"{spec}, {how.value}, {batch} x {length} tokens, {steps} steps"
        say(profiles.profile_table(found, what))


@app.command()
def explain(code: Annotated[str, typer.Argument(metavar="CODE", help="Such as N610.")]) -> None:
    """Say at length what a diagnostic means, with a mistake and its correction."""
    found = explanations().get(code.upper())
    if found is None:
        meant = near(code)
        raise typer.BadParameter(
            f"there is no diagnostic {code}"
            + (f"; did you mean {' or '.join(meant)}?" if meant else "")
        )
    say(str(found).rstrip("\n"))


class Text(NamedTuple):
    """A spec as given, and the folder where its imports are looked for first."""

    source: Source
    folder: Path


def source_of(spec: str) -> Text:
    """A file that cannot be read is a usage error; bytes that are not UTF-8 are left for the
    compiler to reject at their place.
    """
    if spec == "-":
        return Text(Source("<stdin>", decoded(sys.stdin.buffer.read())), Path())
    try:
        path = Path(spec)
        return Text(Source(path.name, decoded(path.read_bytes()), path.parent), path.parent)
    except OSError as error:
        raise typer.BadParameter(f"`{spec}` cannot be read: {error.strerror}") from None


def loaded(text: Text, sets: list[str] | None, watch: Watch | None = None) -> Program:
    from nldsl import pipeline

    said, found = text.source, watch or pipeline.unwatched
    return noted(pipeline.load_text(said.text, said.place, overrides(sets), [text.folder], found))


def noted(program: Program, more: Iterable[Diagnostic] = ()) -> Program:
    """Print the warnings and notes of a program that was accepted."""
    warned([*program.findings, *more])
    return program


def warned(findings: Iterable[Diagnostic]) -> None:
    sys.stderr.write(render([*findings], color=sys.stderr.isatty()))


def written(path: Path, text: str) -> None:
    """A file, whole or not at all."""
    try:
        writing.replace(path, text)
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
def reported(interrupted: str = "interrupted") -> Iterator[None]:
    """Turn findings into their picture on stderr and an exit code, memory that is not there into
    N803, and Ctrl-C into 130.
    """
    try:
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            from nldsl.step.room import refused

            raise refused(error) or error from None
    except Diagnostics as found:
        sys.stderr.write(render(found.diagnostics, color=sys.stderr.isatty()))
        raise typer.Exit(
            max(FAMILY_EXITS.get(d.code[:2], REJECTED) for d in found.diagnostics)
        ) from None
    except KeyboardInterrupt:
        sys.stderr.write(interrupted + "\n")
        raise typer.Exit(INTERRUPTED) from None


def say(page: RenderableType) -> None:
    """Print text as it is, ending in one line end, or a table."""
    if isinstance(page, str):
        return Screen().print(page.removesuffix("\n"), soft_wrap=True)
    Screen(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE).print(page)


def main() -> None:
    """Runs the command; a character that a stream cannot write, such as half of one in a path, is
    written as an escape.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
