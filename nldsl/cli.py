"""The command line: one verb for each thing people do. Every verb is a few lines around a function
of the package.

Exit codes: 0 done; 1 the program was rejected; 2 the command line was; 3 the text, the run folder
or the disk was, or a step or a score is not finite; 4 the machine cannot run it, or has not the
memory; 130 interrupted (what was announced as saved is saved).
"""

from __future__ import annotations

import math
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
from nldsl.extras import needs
from nldsl.screen import Screen, Watched
from nldsl.source import UNDECODED, Source, decoded

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nldsl.core.program import Program
    from nldsl.pipeline import Watch
    from nldsl.step.batches import Batch
    from nldsl.step.compile import CompiledStep
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
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

tokenizers = typer.Typer(
    help="Make the tokens of a text.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(tokenizers, name="tokenizer")


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


def encoding_of(text: str) -> str:
    try:
        "".encode(text)
    except LookupError:
        raise typer.BadParameter(f"there is no encoding {text!r}; utf-16 and cp1252 are") from None
    return text


def fill_of(text: str) -> str:
    try:
        if text in ("last", "linear") or math.isfinite(float(text)):
            return text
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is neither last, linear nor a number")


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


class Kind(StrEnum):
    language_model, titans, continual = "language-model", "titans", "continual"


class Form(StrEnum):
    text, json, github = "text", "json", "github"


class Picture(StrEnum):
    table, text, mermaid, svg, html = "table", "text", "mermaid", "svg", "html"


class Export(StrEnum):
    safetensors, torch, hf = "safetensors", "torch", "hf"


Spec = Annotated[str, typer.Argument(metavar="SPEC", help="A .nl file, or - for standard input.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Data = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DATA]",
        help="A text file or a folder of text, .jsonl, .parquet, a data set of Hugging Face (a "
        "folder, or hf:NAME), tokens (.bin, .npy); a table (.csv, .npy, .parquet) if the spec "
        "reads numbers; named columns (.npz, .parquet, .csv) if it has several inputs.",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="NAME",
        help="The column of documents [default: text], or each column of numbers that is read.",
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
Encoding = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        parser=encoding_of,
        help="Of text files, such as cp1252 [default: what a mark says, else bytes as they are].",
    ),
]
Tokens = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer",
        metavar="FILE",
        help="A tokenizer.json, for a spec whose tokens are not bytes.",
    ),
]
Fill = Annotated[
    str | None,
    typer.Option(
        metavar="last|linear|NUMBER",
        parser=fill_of,
        help="What stands for a gap in a table [default: a gap is refused].",
    ),
]
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
def check(
    spec: Spec,
    sets: Sets = None,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Rewrite the file as the help of its findings says, if it can."),
    ] = False,
    form: Annotated[
        Form, typer.Option("--format", help="For people, for programs, or for a GitHub workflow.")
    ] = Form.text,
) -> None:
    """Report everything that is wrong with a spec."""
    with reported():
        text = fixed(spec, sets) if fix else source_of(spec)
        if form is not Form.text:
            return listed(text, sets, form)
        program = loaded(text, sets)
        levels, memories = len(program.levels), len(program.memories)
        counts = f"{counted(levels, 'level')}, {counted(memories, 'memory', 'memories')}"
        say(f"{spec}: {counts}, accepted")


def listed(text: Text, sets: list[str] | None, form: Form) -> None:
    """All findings on standard output; the exit code says whether there are errors."""
    from nldsl import pipeline, reports

    try:
        said = text.source
        program = pipeline.load_text(said.text, said.place, overrides(sets), [text.folder])
        found = program.findings
    except Diagnostics as refused:
        found = refused.diagnostics
    if form is Form.json or found:
        say(reports.as_json(found) if form is Form.json else reports.as_github(found))
    if any(one.severity == "error" for one in found):
        raise typer.Exit(exit_code(found))


def fixed(spec: str, sets: list[str] | None) -> Text:
    """The spec with the fixes that mend it, on the disk too; each is told."""
    from nldsl.editor.document import read
    from nldsl.editor.fixes import mended

    if spec == "-":
        raise typer.BadParameter("`--fix` rewrites a file: name one instead of -")
    before, path = source_of(spec), Path(spec)
    if UNDECODED in before.source.text:
        return before  # the bytes that it stands for would be lost
    made = mended(before.source.text, lambda text: read(text, path, overrides(sets)))
    for one in made.applied:
        line = "" if one.span is None else f":{one.span.line}"
        sys.stderr.write(f"fixed[{one.code}] {spec}{line}: {one.message}; {one.help}\n")
    if made.applied:
        written(path, made.document.source.text)
    return Text(made.document.source, before.folder)


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
            case Picture.html:
                page = webpage(program, Path(spec).stem)
        if out is None:
            return say(page)
        with StringIO() as file:
            Screen(file=file, width=WIDE).print(page, soft_wrap=form is not Picture.table, end="")
            written(out, file.getvalue())


def webpage(program: Program, title: str) -> str:
    from nldsl.pipeline import scheduled
    from nldsl.schedule.faults import told
    from nldsl.view.families import family_graph
    from nldsl.view.webpage import computed, html

    with told(program):
        lowerings = computed(scheduled(program))
    return html(program, family_graph(program), lowerings, title)


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
    columns: Columns = None,
    encoding: Encoding = None,
    tokenizer: Tokens = None,
    fill: Fill = None,
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
        int | None, typer.Option(min=2, max=LARGEST, help="Tokens in a sequence [default: 256].")
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
        data=data and (str(data) if str(data).startswith("hf:") else str(data.resolve())),
        columns=columns or None,
        encoding=encoding,
        tokenizer=tokenizer and str(tokenizer.resolve()),
        fill=fill,
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
    columns: Columns = None,
    encoding: Encoding = None,
    length: Annotated[
        int | None,
        typer.Option(min=2, max=LARGEST, help="Tokens in a sequence [default: as trained]."),
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
        given = opened.other(data, columns, encoding)
        say(
            score_data(
                opened, *runs.trained(opened), given, length, limit, memory, remember, warned
            ).describe()
        )


@app.command()
def generate(
    run: RunFolder,
    prompt: Annotated[str, typer.Argument(help="What the model goes on with.")] = "",
    n: Annotated[int, typer.Option("-n", min=1, max=LARGEST, help="Tokens to write.")] = 256,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token.")] = 0.8,
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


@tokenizers.command("train")
def tokenizer_train(
    data: Annotated[
        Path, typer.Argument(metavar="TEXT", help="A text file, a folder, .jsonl or .parquet.")
    ],
    vocab: Annotated[
        int, typer.Option(min=257, max=1 << 24, help="Tokens, with the 256 bytes and the end.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The tokenizer.json to write.")],
    columns: Columns = None,
    encoding: Encoding = None,
) -> None:
    """Make a byte-level BPE of the part of TEXT that a run trains on."""
    with reported():
        from nldsl.train.data import text, tokens
        from nldsl.train.data.given import Given
        from nldsl.train.data.vocabulary import Tokenizer, trained

        corpus = text.load(Given(data, tuple(columns or ()), encoding))
        written(out, trained(tokens.parts(corpus.train), vocab))
        size = Tokenizer(out).size
        say(f"{out}: {size:,} tokens of {corpus.name}; a spec reads them by `index({size})`")


@app.command()
def export(
    run: RunFolder,
    form: Annotated[
        Export,
        typer.Option(
            "--as",
            help="safetensors: arrays by name; torch: a graph of torch.export; hf: a folder of "
            "transformers.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to write.")],
) -> None:
    """Write a trained model for others: its arrays by name, its graph, a Hugging Face folder."""
    with reported("interrupted: the run is as it was"):
        from nldsl import export
        from nldsl.train import run as runs

        say(export.write(runs.without_data(run), form.value, out))


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


def codes(begun: str) -> list[tuple[str, str]]:
    """For a shell that completes a code."""
    return [(code, found.title) for code, found in explanations().items() if code.startswith(begun)]


@app.command()
def explain(
    code: Annotated[
        str, typer.Argument(metavar="CODE", help="Such as N610.", autocompletion=codes)
    ],
) -> None:
    """Say at length what a diagnostic means, with a mistake and its correction."""
    found = explanations().get(code.upper())
    if found is None:
        meant = near(code)
        raise typer.BadParameter(
            f"there is no diagnostic {code}"
            + (f"; did you mean {' or '.join(meant)}?" if meant else "")
        )
    say(str(found).rstrip("\n"))


@app.command()
def new(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="What to write.")] = Path(
        "model.nl"
    ),
    kind: Annotated[
        Kind, typer.Option(help="What the spec is of: each is small, and trains on a CPU.")
    ] = Kind.language_model,
) -> None:
    """Write a spec to start from; a file that is there stays as it is."""
    text = (Path(__file__).parent / "starters" / f"{kind.value}.nl").read_text(encoding="utf-8")
    try:
        with file.open("x", encoding="utf-8") as fresh:
            fresh.write(text)
    except FileExistsError:
        raise typer.BadParameter(f"`{file}` is there already: name another FILE") from None
    except OSError as error:
        raise typer.BadParameter(f"`{file}` cannot be written: {error.strerror}") from None
    say(f"{file}: written; go on with: nldsl train {file}")


@app.command()
def lsp() -> None:
    """Serve an editor: the language server protocol on standard input and output."""
    with reported():
        with needs("lsp"):
            from nldsl.editor.server import served
        served()


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


def exit_code(findings: Iterable[Diagnostic]) -> int:
    return max(FAMILY_EXITS.get(d.code[:2], REJECTED) for d in findings)


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
        raise typer.Exit(exit_code(found.diagnostics)) from None
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
