"""Verbs on the model that a run has trained."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from nldsl.cli.options import (
    Answer,
    Best,
    Columns,
    Encoding,
    Export,
    Memory,
    Remember,
    RunFolder,
    Threads,
    Weights,
    count,
    number_of,
)
from nldsl.cli.outcome import (
    REJECTED,
    measuring,
    reported,
    say,
    streamed,
    warned,
    written,
)


def generate(
    run: RunFolder,
    prompt: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PROMPT]",
            help="What the model goes on with; each of several by itself [default: nothing].",
        ),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Further prompts, one a line.")
    ] = None,
    n: Annotated[int, count(1, "Tokens to write, at most.", "-n")] = 256,
    temperature: Annotated[
        float,
        typer.Option(
            metavar="NUMBER", parser=number_of(0), help="0 takes the likeliest token each time."
        ),
    ] = 0.8,
    top_k: Annotated[
        int | None, count(1, "Draw from the K likeliest tokens alone.", "--top-k")
    ] = None,
    top_p: Annotated[
        float,
        typer.Option(
            metavar="NUMBER",
            parser=number_of(0, 1, beyond=True),
            help="Draw from the fewest likeliest tokens whose probabilities sum to so much.",
        ),
    ] = 1.0,
    repetition: Annotated[
        float,
        typer.Option(
            metavar="NUMBER",
            parser=number_of(0, beyond=True),
            help="By how much a token that was there before counts less; below 1, more.",
        ),
    ] = 1.0,
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="End before this text, as often as needed."),
    ] = None,
    seed: Annotated[int, count(0, "Of the tokens that are drawn.")] = 0,
    freeze: Annotated[
        bool,
        typer.Option(
            "--freeze", help="Stop learning: token-clock memories keep the value they have."
        ),
    ] = False,
    best: Best = False,
    memory: Memory = None,
    remember: Remember = None,
    weights: Weights = None,
    threads: Threads = None,
) -> None:
    """Let a trained model go on with PROMPT, letter by letter; its token-clock levels learn from
    what they read and write.
    """
    given = [*map(os.fsencode, prompt or []), *(lines_of(prompts) if prompts else [])] or [b""]
    with reported("interrupted: the run is as it was"):
        from nldsl.device import available
        from nldsl.train import run as runs
        from nldsl.train.drawing import Manner
        from nldsl.train.generated import Wish, write_on

        opened = replace(runs.without_data(run), weights=weights).at_its_best(best)
        available(opened.settings.device)
        step, state = runs.trained(opened)
        how = Manner(temperature, top_k, top_p, repetition)
        stops = tuple(map(os.fsencode, stop or []))
        wish = Wish(n, seed, how, stops, memory, remember, freeze)
        write_on(opened, step, state, given, wish, streamed())


def lines_of(path: Path) -> list[bytes]:
    """Those that hold something."""
    try:
        found = [line for line in path.read_bytes().splitlines() if line]
    except OSError as error:
        raise typer.BadParameter(f"`{path}` cannot be read: {error.strerror}") from None
    if not found:
        raise typer.BadParameter(f"`{path}` holds no prompt: one a line")
    return found


def audit(
    run: RunFolder,
    limit: Annotated[int, count(1, "Held-out tokens to measure on.", "--tokens")] = 1 << 12,
    form: Annotated[
        Answer, typer.Option("--format", help="A table for people, or JSON for programs.")
    ] = Answer.text,
) -> None:
    """Hold a trained model to its text, on its own held-out data: causality, independence of
    sequences, the cadence of every level, the reach of gradients; what each memory contributes.
    """
    with reported("interrupted: the run is as it was"):
        from nldsl.audit import audited
        from nldsl.device import available
        from nldsl.train import run as runs

        opened = runs.reopen(run)
        available(opened.settings.device)
        with measuring() as told:
            found = audited(opened, limit, told)
        say(json.dumps(found.event(), indent=2) if form == Answer.json else found.page())
    if found.broken:
        raise typer.Exit(REJECTED)


TRACES = {".svg": "curves", ".csv": "numbers", ".json": "numbers"}  # by the ending of a file


def trace(
    run: RunFolder,
    text: Annotated[
        Path | None,
        typer.Argument(
            metavar="[TEXT]", help="What it reads, as DATA is [default: what the run holds out]."
        ),
    ] = None,
    columns: Columns = None,
    encoding: Encoding = None,
    limit: Annotated[int, count(2, "Tokens that are read, at most.", "--tokens")] = 200,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="Write curves above the text (.svg) or all numbers (.csv, .json), as often as "
            "needed.",
        ),
    ] = None,
    form: Annotated[
        Answer, typer.Option("--format", help="A table for people, or JSON for programs.")
    ] = Answer.text,
    best: Best = False,
    memory: Memory = None,
    weights: Weights = None,
    threads: Threads = None,
) -> None:
    """Say what the memories of a trained model learn while it reads the begin of TEXT: of each
    token the size of every memory and of its move, its objective, its rate and retention, beside
    what foretelling the token cost.
    """
    for path in out or []:
        if path.suffix not in TRACES:
            raise typer.BadParameter(f"`{path}` ends in none of {', '.join(TRACES)}")
    with reported("interrupted: the run is as it was"):
        from nldsl.device import available
        from nldsl.trace import page, picture, traced
        from nldsl.train import run as runs
        from nldsl.train.results import seated, whole

        opened = replace(runs.reopen(run, wants_data=text is None), weights=weights)
        available(opened.settings.device)
        data = whole(opened, opened.other(text, columns, encoding), warned)
        step, state = runs.trained(opened.at_its_best(best))
        with measuring() as told:
            told("reading the text")
            found = traced(opened, step, state, data, limit, seated(step, 1, memory))
        numbers = json.dumps(page.as_json(found), indent=2)
        say(numbers if form == Answer.json else page.summary(found))
        for path in out or []:
            if path.suffix == ".svg":
                picture.picture(found, path)
            else:
                written(path, page.as_csv(found) if path.suffix == ".csv" else numbers)
            if form != Answer.json:
                say(f"{path}: {TRACES[path.suffix]}")


def export(
    run: RunFolder,
    form: Annotated[
        Export,
        typer.Option(
            "--as",
            help="safetensors: arrays by name; torch: a graph of torch.export; program: two of "
            "them, the forward pass and a step of decoding; hf: a folder of transformers.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to write.")],
    best: Best = False,
    weights: Weights = None,
) -> None:
    """Write a trained model for others: its arrays by name, its graph, a Hugging Face folder."""
    with reported("interrupted: the run is as it was"):
        from nldsl import export
        from nldsl.train import run as runs

        opened = replace(runs.without_data(run), weights=weights).at_its_best(best)
        say(export.write(opened, form.value, out))
