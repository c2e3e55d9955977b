"""Verbs on a run, and on the tokens that it reads."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nldsl.cli.options import (
    IN,
    Best,
    Budget,
    Capture,
    Columns,
    Data,
    Encoding,
    Fill,
    From,
    Loads,
    Logger,
    Memory,
    NotFinite,
    Precision,
    Remember,
    RunFolder,
    Sets,
    Threads,
    Tokens,
    Weights,
    absolute,
    count,
    overrides,
)
from nldsl.cli.outcome import INTERRUPTED, reported, say, warned, written
from nldsl.cli.sources import noted
from nldsl.screen import Watched

if TYPE_CHECKING:
    from nldsl.train.ranks import Ranks
    from nldsl.train.records import Settings
    from nldsl.train.run import Run


def train(
    spec: Annotated[
        Path | None,
        typer.Argument(metavar="[SPEC]", help="A .nl file; may be left out with --resume, --from."),
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
    epochs: Annotated[
        int | None, count(1, "Instead of --steps: read each part of the data so often.")
    ] = None,
    seed: Annotated[int | None, count(0, "Of weights and batches [default: 0].")] = None,
    seeds: Annotated[
        int | None, count(1, "Train so many runs, with the seeds from --seed on, in one folder.")
    ] = None,
    batch: Annotated[int | None, count(1, "Sequences in a micro-batch [default: 4].")] = None,
    length: Annotated[int | None, count(2, "Tokens in a sequence [default: 256].")] = None,
    accumulate: Annotated[int | None, count(1, "Micro-batches in a step [default: 1].")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, mps, cuda or cuda:N [default: cpu].")
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="As of `compile` [default: float32].", **IN)
    ] = None,
    capture: Annotated[Capture | None, typer.Option(help="As in compile [default: auto].")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder [default: the next free runs/SPEC-N].")
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with this run.")] = None,
    source: From = None,
    save_every: Annotated[int | None, count(1, "Steps between saves [default: a minute].")] = None,
    eval_every: Annotated[
        int | None, count(1, "Score the held-out data every so many steps.")
    ] = None,
    eval_bytes: Annotated[
        int | None, count(1, "Score at most so many each time [default: 16384].")
    ] = None,
    patience: Annotated[
        int | None, count(1, "End after so many scores that are no better than the best.")
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Measure learning rate, gradient and update of each level at its ticks."
        ),
    ] = False,
    not_finite: Annotated[
        NotFinite | None,
        typer.Option(help="A step that is not: the run stops, or goes on without it."),
    ] = None,
    log: Annotated[
        Logger | None, typer.Option(help="Send the numbers there too, if it is installed.")
    ] = None,
    memory: Memory = None,
    load: Loads = None,
    weights: Weights = None,
    budget: Budget = None,
    shard: Annotated[
        bool,
        typer.Option("--shard", help="Each process of `torchrun` holds a part of the state."),
    ] = False,
    threads: Threads = None,
) -> None:
    """Train a spec on DATA, by default on the Python standard library's source, or on a chaotic
    series if the spec reads numbers.
    """
    spec, data = spec_and_data(spec, data, resume or source)
    given = stated(
        sets=overrides(sets) or None,
        data=data and (str(data) if str(data).startswith("hf:") else str(data.resolve())),
        columns=columns or None,
        encoding=encoding,
        tokenizer=tokenizer and str(tokenizer.resolve()),
        fill=fill,
        steps=steps,
        epochs=epochs,
        seed=seed,
        batch=batch,
        length=length,
        accumulate=accumulate,
        device=device,
        precision=precision and precision.value,
        capture=capture and capture.value,
        eval_every=eval_every,
        eval_bytes=eval_bytes,
        patience=patience,
        watch=watch or None,
        not_finite=not_finite and not_finite.value,
        memory=memory and str(memory.resolve()),
        load=absolute(load) or None,
        source=source and str(source.resolve()),
        weights=weights,
    )
    agreed(given, resume, out)
    with reported():
        from nldsl.train.ranks import joined

        with joined(device or "cpu") as ranks:
            if shard and ranks.count == 1:
                raise typer.BadParameter("`--shard` is of several processes: begin it by torchrun")
            told = log.value if log and ranks.is_first else None
            for run in several(ranks, spec, resume, given, out, seeds):
                here = replace(run, budget=budget, ranks=ranks, shard=shard, log=told)
                followed(here, save_every)


def agreed(given: Mapping[str, object], resume: Path | None, out: Path | None) -> None:
    """Raises a usage error for options of which one says what another says, or takes it back."""
    if resume is not None and "source" in given:
        raise typer.BadParameter("--resume goes on with a run, --from begins another: one of them")
    if resume is not None and out is not None:
        raise typer.BadParameter("a resumed run stays in its folder: leave out --out")
    if "epochs" in given and "steps" in given:
        raise typer.BadParameter(
            "--epochs say how many steps there are: leave out --steps, or them"
        )
    if "watch" in given and given.get("capture") == Capture.whole.value:
        raise typer.BadParameter("one graph has no ticks to watch: `--capture split` or `eager`")
    if resume is None and "eval_every" not in given and {"patience", "eval_bytes"} & {*given}:
        raise typer.BadParameter("--patience and --eval-bytes are of --eval-every N: name N")


def several(
    ranks: Ranks,
    spec: Path | None,
    resume: Path | None,
    given: dict[str, object],
    out: Path | None,
    seeds: int | None,
) -> Iterator[Run]:
    """The run that is to be trained; or one after the other those of several seeds, which all begin
    before the first is trained. Behind the last of these their table is printed.
    """
    from nldsl.train import compare, faults, folder

    if seeds is None and (resume is None or compare.members(resume) == [resume]):
        yield run_on(ranks, spec, resume, given, out)
        return
    if ranks.count > 1:
        raise faults.alone("--seeds", ranks.count)
    if seeds is not None:
        if resume is not None:
            raise typer.BadParameter("--seeds are of runs that begin: leave out --resume, or them")
        assert spec is not None, "a run that begins has a spec"
        resume = folder.made(out) if out is not None else folder.unused(Path("runs"), spec.stem)
        if folder.is_record(resume):
            raise faults.already_a_run(resume)
        first = settings_of(given).seed
        for seed in range(first, first + seeds):
            run_of(spec, None, {**given, "seed": seed}, resume / f"seed-{seed}")
        spec, given = None, {}
    assert resume is not None, "runs begin, or go on"
    for place in compare.members(resume):
        yield run_of(spec, place, given, None)
    say(compare.table([compare.read(place) for place in compare.members(resume)]))


def spec_and_data(
    spec: Path | None, data: Path | None, resume: Path | None
) -> tuple[Path | None, Path | None]:
    """A run that is given has its spec: a path alone beside it is DATA, unless it is a .nl
    file.
    """
    if resume is not None and data is None and spec is not None and spec.suffix != ".nl":
        spec, data = None, spec
    if spec is None and resume is None:
        raise typer.BadParameter("name a SPEC, or a run to --resume or to begin --from")
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


def run_on(
    ranks: Ranks,
    spec: Path | None,
    resume: Path | None,
    given: dict[str, object],
    out: Path | None,
) -> Run:
    """The run on every rank: rank 0 begins it, or goes on with what it began before a restart."""
    ranks.hold(settings_of({} if resume else given))
    begun = None if resume else ranks.noted_folder()
    made: list[Run] = []

    def opened() -> Path:
        made.append(run_of(spec, resume or begun, given, None if begun else out))
        ranks.note_folder(made[0].folder)
        return made[0].folder

    folder = ranks.first(opened)
    run = made[0] if made else run_of(spec if resume else None, folder, given, None)
    ranks.hold(run.settings, run.program)
    return run


def run_of(
    spec: Path | None, resume: Path | None, given: dict[str, object], out: Path | None
) -> Run:
    """The run to go on with, or a new one; its device is there, and its findings are printed."""
    from nldsl.device import available
    from nldsl.train import averages, idle, inherited, pretrained
    from nldsl.train import run as runs

    available(str(given.get("device", "cpu")))
    if resume is not None:
        run = runs.resume(resume, given, spec)
    else:
        settings = settings_of(given)
        if spec is None:
            assert settings.source is not None, "a run that begins has a spec, or another run"
            spec, settings = inherited.settings_of(Path(settings.source), settings)
        run = runs.begin(spec, settings, out)
    available(run.settings.device)
    noted(
        run.program,
        [
            *pretrained.read(run.program, run.files).findings(run.program),
            *(run.dataset.findings if run.dataset else ()),
            *(inherited.findings(run.record) if resume is None else ()),
            *averages.findings(run.program, run.settings.weights),
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
    best: Best = False,
    memory: Memory = None,
    remember: Remember = None,
    weights: Weights = None,
    threads: Threads = None,
) -> None:
    """Score a trained model on its held-out data, or on DATA: in bits per byte, or by its loss if
    it reads numbers.
    """
    with reported("interrupted: the run is as it was"):
        from nldsl.device import available
        from nldsl.train import run as runs
        from nldsl.train.results import score_data

        opened = replace(runs.reopen(run, wants_data=data is None), weights=weights)
        available(opened.settings.device)
        given = opened.other(data, columns, encoding)
        step, state = runs.trained(opened.at_its_best(best))
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
