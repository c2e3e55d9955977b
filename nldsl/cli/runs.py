"""Verbs on a run, and on the tokens that it reads."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nldsl.cli.options import (
    IN,
    Budget,
    Capture,
    Columns,
    Data,
    Encoding,
    Fill,
    Loads,
    Memory,
    Precision,
    Remember,
    RunFolder,
    Sets,
    Tokens,
    absolute,
    count,
    overrides,
)
from nldsl.cli.outcome import INTERRUPTED, reported, say, warned, written
from nldsl.cli.sources import noted
from nldsl.screen import Watched

if TYPE_CHECKING:
    from nldsl.train.records import Settings
    from nldsl.train.run import Run


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
        count(1, "Optimizer steps [default: 1000]; more of them make a resumed run longer."),
    ] = None,
    seed: Annotated[int | None, count(0, "Of weights and batches [default: 0].")] = None,
    batch: Annotated[int | None, count(1, "Sequences in a micro-batch [default: 4].")] = None,
    length: Annotated[int | None, count(2, "Tokens in a sequence [default: 256].")] = None,
    accumulate: Annotated[int | None, count(1, "Micro-batches in a step [default: 1].")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N [default: cpu].")] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="As of `compile` [default: float32].", **IN)
    ] = None,
    capture: Annotated[Capture | None, typer.Option(help="As in compile [default: auto].")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder [default: the next free runs/SPEC-N].")
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with this run.")] = None,
    save_every: Annotated[int | None, count(1, "Steps between saves [default: a minute].")] = None,
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
        run = run_of(spec, resume, given, out)
        followed(replace(run, budget=budget), save_every)


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


def settings_of(given: dict[str, object]) -> Settings:
    from pydantic import ValidationError

    from nldsl.train.records import Settings, told

    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise typer.BadParameter(told(error)) from None


def followed(run: Run, save_every: int | None) -> None:
    """Train until the end, or until the run is interrupted: by Ctrl-C, or since nobody reads."""
    from nldsl.train import training
    from nldsl.train.display import shown_on

    screen = Watched()
    if training.train(run, shown_on(screen), save_every):
        return
    if screen.left:
        sys.stderr.write(
            f"standard output was closed; go on with: nldsl train --resume {run.folder}\n"
        )
    raise typer.Exit(INTERRUPTED)


def eval_(
    run: RunFolder,
    data: Data = None,
    columns: Columns = None,
    encoding: Encoding = None,
    length: Annotated[int | None, count(2, "Tokens in a sequence [default: as trained].")] = None,
    limit: Annotated[int, count(1, "Score at most so many.", "--bytes")] = 1 << 17,
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
        step, state = runs.trained(opened)
        how = length, limit, memory, remember, warned
        say(score_data(opened, step, state, given, *how).describe())


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
