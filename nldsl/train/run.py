"""A spec, a text and numbers -> a run folder: begun, resumed, trained, opened again.

RUN/hope.nl                   the spec as it was, and beside it all that it imports
RUN/tokenizer.json            what parts the text into tokens, if it is not bytes
RUN/run.json                  every number the run is made of, and these texts; see records.py
RUN/metrics.jsonl             what happened, see metrics.py
RUN/loss.svg                  the curve
RUN/checkpoint.safetensors    the last saved state, see checkpoint.py
RUN/best.safetensors          the saved state that scored best, if it was scored; see evaluation.py
RUN/memory.safetensors        what outlives a sequence alone, if anything does, see memory.py
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nldsl import pipeline, writing
from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostics
from nldsl.step import room
from nldsl.step.compile import CompiledStep
from nldsl.step.state import State, layout
from nldsl.train import (
    averages,
    checkpoint,
    faults,
    inherited,
    memory,
    pretrained,
    records,
)
from nldsl.train.data.dataset import Dataset, sequences_of
from nldsl.train.data.formats.saved import HUB
from nldsl.train.data.given import Given, given_by
from nldsl.train.data.kinds import kind_of
from nldsl.train.data.vocabulary import ByteVocabulary, Tokenizer, Vocabulary
from nldsl.train.folder import (
    NUMBERS,
    alone_in,
    changed,
    kept_texts,
    longer,
    made,
    recorded,
    unused,
)
from nldsl.train.metrics import Journal
from nldsl.train.ranks import ALONE, Ranks
from nldsl.train.records import Manifest, Record, Settings
from nldsl.train.results import METRICS
from nldsl.train.score import batch, boundary_of
from nldsl.train.specs import difference, program_of, text_of, texts_of

TOKENIZER = "tokenizer.json"
LATER = (
    "steps",
    "eval_every",
    "patience",
    "not_finite",
)  # settings that a run can be given as it goes on
FREE = ("data", "load", *LATER)  # settings that may differ when a run goes on


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder that is open: settings, program, data and loaded files."""

    folder: Path
    settings: Settings
    program: Program
    dataset: Dataset | None  # None: what it was trained on is not at hand
    files: dict[str, Path]  # that the program loads
    record: Record  # the content of run.json
    budget: int | None = None  # bytes of a step; None: what the device has
    weights: str | None = None  # the average that it is used with; None: that of its settings
    ranks: Ranks = ALONE  # the processes that train it together
    shard: bool = False  # does each of them hold a part of the state?
    log: str | None = None  # where its numbers go beside the journal, see loggers.py
    file: str = checkpoint.FILE  # of the saved state that it is used from

    def at_its_best(self, best: bool = True) -> Run:
        """Used from what scored best, rather than from what was saved last."""
        return replace(self, file=checkpoint.BEST if best else checkpoint.FILE)

    @property
    def data(self) -> Dataset:
        """The data that it is trained on; it is at hand."""
        assert self.dataset is not None, f"{self.folder} was opened without its data"
        return self.dataset

    @property
    def vocabulary(self) -> Vocabulary | None:
        """What its tokens stand for, as its folder says. Raises N711 for another tokenizer."""
        known = self.record.data
        if self.settings.tokenizer is None:
            return ByteVocabulary() if known.bytes is not None else None
        found = Tokenizer(self.folder / TOKENIZER)
        if found.sha256 != known.tokenizer:
            raise faults.differs(
                self.folder, TOKENIZER, (known.tokenizer or "")[:12], found.sha256[:12]
            )
        return found

    def other(self, path: Path | None, columns: list[str] | None, encoding: str | None) -> Given:
        """Data that is read as is said; by default as its own, if its name ends as theirs."""
        own = given_by(self.settings, self.folder / TOKENIZER)
        alike = path is not None and own.path is not None and path.suffix == own.path.suffix
        return Given(
            path,
            tuple(columns or (own.columns if alike else ())),
            encoding or (own.encoding if alike else None),
            own.tokenizer,
            own.fill,
        )

    @property
    def stateful(self) -> bool:
        """Does a lane read on in the next step where it stopped, because something in it outlives a
        sequence?
        """
        return reads_on(self.program)

    def batches(self, n: int) -> list[dict[str, torch.Tensor]]:
        """The micro-batches of step `n`, each [batch, length, ..]; on ranks, of its own lanes."""
        s, ranks = self.settings, self.ranks
        count = ranks.share(s.batch)
        once = s.batch * s.accumulate if s.epochs is not None else 0
        return [
            {
                name: x.to(s.device)
                for name, x in batch(
                    self.program,
                    sequences_of(
                        self.data.train,
                        s.seed,
                        n,
                        ranks.micro(micro),
                        count,
                        s.length,
                        self.stateful,
                        once,
                    ),
                    boundary_of(self.data),
                ).items()
            }
            for micro in range(s.accumulate)
        ]


def reads_on(program: Program) -> bool:
    """Does something in it outlive a sequence?"""
    return any(
        level.clock.unit == "token" and level.reset.outlives for level in program.levels.values()
    )


def in_epochs(settings: Settings, program: Program, dataset: Dataset) -> Settings:
    """As many steps as read every window of the data so many times. Raises N753 where lanes read
    on, which is an order of its own.
    """
    if settings.epochs is None:
        return settings
    if reads_on(program):
        raise faults.option_does_not_fit(
            "--epochs",
            dataset.name,
            "a memory outlives its sequence, so lanes read the data in order",
        )
    windows = settings.epochs * (len(dataset.train) // settings.length)
    steps = -(-windows // (settings.batch * settings.accumulate))
    return settings.model_copy(update={"steps": steps})


def begin(spec: Path, settings: Settings, out: Path | None) -> Run:
    """Make a run folder.

    The program and the text are read first: a rejected run leaves no folder behind.
    """
    texts = texts_of(spec)
    program = pipeline.load_text(text_of(spec), str(spec), settings.sets, [spec.parent])
    averages.pairs(program, settings.weights)
    tokens = settings.batch * settings.length * settings.accumulate
    room.require(8 * tokens, f"{tokens:,} tokens a step", "cpu")
    tokenizer = Path(settings.tokenizer) if settings.tokenizer else None
    dataset = dataset_of(program, settings, given_by(settings, tokenizer))
    files = pretrained.places(program, spec.parent, settings.load)
    source = inherited.fitted(program, Path(settings.source)) if settings.source else None
    loads = {name: str(path.resolve()) for name, path in files.items()}
    settings = in_epochs(settings, program, dataset).model_copy(update={"load": loads})
    record = Record(
        format=3,
        spec=spec.name,
        spec_sha256=records.fingerprint(texts),
        settings=settings,
        dims=dict(program.dims),
        clocks={
            name: f"every {clock.period} {clock.unit}" for name, clock in program.clocks.items()
        },
        data=dataset.record(),
        loaded={name: pretrained.fingerprint(path) for name, path in files.items()},
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        texts=texts,
        inherited=source,
    )
    folder = made(out) if out is not None else unused(Path("runs"), spec.stem)
    laid(folder, record, dataset)
    return Run(folder, settings, program, dataset, files, record)


def laid(folder: Path, record: Record, dataset: Dataset) -> None:
    """The files of a run that begins. Raises N713 if the disk refuses, N715 if one is there."""
    with alone_in(folder):
        with closing(Journal(folder / METRICS)) as journal:
            journal.cut(-1)  # what is left of a run that never saved
        try:
            for name, text in record.texts.items():
                writing.replace(folder / name, text)
            if isinstance(dataset.vocabulary, Tokenizer):
                writing.replace(folder / TOKENIZER, dataset.vocabulary.content)
            writing.replace(folder / NUMBERS, records.written(record))
        except OSError as error:
            raise faults.cannot_write(folder, error) from None


def reopen(folder: Path, wants_data: bool = True) -> Run:
    """A run as it is recorded, to be used; its data where it can be had, or raised about if it must
    be.
    """
    record = recorded(folder)
    program = program_again(folder, record)
    dataset: Dataset | None = None
    try:
        dataset = dataset_again(folder, program, record, record.settings.data)
    except Diagnostics:
        if wants_data:
            raise
    return Run(
        folder, record.settings, program, dataset, files_again(folder, program, record, {}), record
    )


def without_data(folder: Path) -> Run:
    """A run whose data is not asked for."""
    record = recorded(folder)
    program = program_again(folder, record)
    return Run(
        folder, record.settings, program, None, files_again(folder, program, record, {}), record
    )


def resume(folder: Path, given: Mapping[str, object], spec: Path | None = None) -> Run:
    """A run that is to go on.

    Raises N711 if a setting in `given`, the spec or the data is not what it was; more steps make it
    longer.
    """
    record = recorded(folder)
    free = {name: value for name, value in given.items() if name in FREE}
    asked = record.settings.model_copy(update=free)
    fixed = {name: value for name, value in given.items() if name not in FREE}
    for name, (was, now) in records.changed(record.settings, fixed).items():
        raise faults.differs(folder, name, was, now)
    for texts in (kept_texts(folder, record), texts_of(spec) if spec is not None else record.texts):
        named = {
            record.spec if spec is not None and name == spec.name else name: text
            for name, text in texts.items()
        }
        if named != record.texts:
            raise faults.other_spec(folder, difference(record.texts, named))
    program = program_again(folder, record)
    dataset = dataset_again(folder, program, record, asked.data)
    files = files_again(folder, program, record, asked.load)
    if asked.steps != record.settings.steps:
        record = longer(folder, record, asked.steps)
    later = {name: getattr(asked, name) for name in LATER}
    if records.changed(record.settings, later):
        settings = record.settings.model_copy(update=later)
        record = changed(folder, record, {"settings": settings})
    return Run(folder, record.settings, program, dataset, files, record)


def program_again(folder: Path, record: Record) -> Program:
    """From the texts of the record: the files in the folder may have been edited."""
    program = program_of(record.texts, record.spec, record.settings.sets)
    if dict(program.dims) != record.dims:
        raise faults.damaged_record(
            folder / NUMBERS, f"dims: {record.dims}, the spec has {dict(program.dims)}", True
        )
    return program


def dataset_again(folder: Path, program: Program, record: Record, place: str | None) -> Dataset:
    """The data of a run. Raises N701 if it is gone, N711 if it is not what it was."""
    if place is not None and not place.startswith(HUB) and not Path(place).exists():
        raise faults.training_text_gone(place, folder)
    settings = record.settings.model_copy(update={"data": place})
    dataset = dataset_of(program, settings, given_by(settings, folder / TOKENIZER))
    if dataset.sha256 != record.data.sha256:
        raise faults.differs(
            folder, "data", record.data.sha256[:12], f"{dataset.sha256[:12]} ({dataset.name})"
        )
    return dataset


def files_again(
    folder: Path, program: Program, record: Record, given: dict[str, str]
) -> dict[str, Path]:
    files = pretrained.places(program, folder, record.settings.load | given)
    for name, path in files.items():
        if (now := pretrained.fingerprint(path)) != record.loaded.get(name):
            raise faults.differs(
                folder, f"file `{name}`", record.loaded.get(name, "")[:12], f"{now[:12]} (`{path}`)"
            )
    return files


def data_of(run: Run, program: Program) -> Dataset:
    """The data of a run, as another program reads it. Raises N705 if that takes none of it."""
    return dataset_of(program, run.settings, given_by(run.settings, run.folder / TOKENIZER))


def dataset_of(program: Program, settings: Settings, given: Given) -> Dataset:
    """A program's data: text for bytes, a table for numbers. Raises N705 if it takes neither."""
    dataset = kind_of(program).of(program, given)
    dataset.require(settings.length)
    return dataset


def compiled(run: Run) -> tuple[CompiledStep, State]:
    """The run's step, and the state it was last saved with, or the start."""
    s = run.settings
    step = step_of(run, "split" if s.watch and s.capture == "auto" else s.capture)
    return step, last_saved(run, step)


def step_of(run: Run, capture: str = "eager") -> CompiledStep:
    """Its step, captured so."""
    s = run.settings
    return pipeline.compile_program(
        run.program,
        device=s.device,
        precision=s.precision,
        capture=capture,
        planned_steps=s.steps,
        accumulate=s.accumulate,
        files=pretrained.read(run.program, run.files).files,
        budget=run.budget,
        ranks=run.ranks.count,
        rank=run.ranks.rank,
        shard=run.shard,
    )


def last_saved(run: Run, step: CompiledStep) -> State:
    """The state that was saved last, or the start.

    Raises N711 for a checkpoint of another run, N712 for a damaged one.
    """
    s, saved = run.settings, saved_of(run)
    state = first(run, step) if saved is None else step.init(s.seed)
    step.seat(state, s.batch * s.accumulate)
    if s.memory is not None and saved is None:
        memory.load(Path(s.memory), state.lanes)
    if saved is not None:
        checkpoint.load(run.folder, checkpoint.by_name(state), run.file, step.own)
        state.step = saved.step
    return run.ranks.parted(step, state, s.accumulate)


def first(run: Run, step: CompiledStep) -> State:
    """The state before the first step. Raises N711 if the run that it comes from has gone on."""
    s, known = run.settings, run.record.inherited
    if known is None:
        return step.init(s.seed)
    if (now := pretrained.fingerprint(Path(known.file))) != known.sha256:
        raise faults.differs(run.folder, f"start, `{known.file}`,", known.sha256[:12], now[:12])
    return inherited.begun(step, s.seed, s.batch * s.accumulate, known)


def saved_of(run: Run) -> Manifest | None:
    """The last checkpoint, if there is one. Raises N711 for a checkpoint of another run."""
    saved = checkpoint.manifest(run.folder, run.file)
    if saved is not None:
        was = {
            "spec_sha256": run.record.spec_sha256,
            "data_sha256": run.record.data.sha256,
            "settings": run.settings,
        }
        later = {name: getattr(run.settings, name) for name in LATER}
        now = {"settings": saved.settings.model_copy(update=later)}
        for what, (there, here) in records.changed(saved.model_copy(update=now), was).items():
            raise faults.differs(run.folder, f"checkpoint's {what}", here, there)
    return saved


def manifest(run: Run, state: State) -> Manifest:
    return Manifest(
        spec_sha256=run.record.spec_sha256,
        settings=run.settings,
        data_sha256=run.record.data.sha256,
        step=state.step,
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        weights=list(layout(run.program, state.tensors)),
    )


def trained(run: Run) -> tuple[CompiledStep, State]:
    """As saved, with the weights that the run is used with. Raises N716 if nothing was, N737 for an
    average that the program does not keep.
    """
    if checkpoint.manifest(run.folder, run.file) is None:
        best = run.file == checkpoint.BEST
        raise faults.none_is_best(run.folder) if best else faults.nothing_saved(run.folder)
    taken = averages.pairs(run.program, run.weights or run.settings.weights)
    step, state = compiled(run)
    averages.take(state, taken)
    return step, state
