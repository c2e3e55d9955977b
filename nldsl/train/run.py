"""A spec, a text and numbers -> a run folder: begun, resumed, trained, opened again.

    RUN/hope.nl                   the spec as it was, and beside it all that it imports
    RUN/run.json                  every number the run is made of, resolved
    RUN/metrics.jsonl             what happened, see metrics.py
    RUN/loss.svg                  the curve
    RUN/checkpoint.safetensors    the last saved state, see checkpoint.py
    RUN/memory.safetensors        what outlives a sequence alone, if anything does, see memory.py
"""
from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from nldsl import pipeline
from nldsl.graph.equations import Program, numel
from nldsl.schedule.timetable import outlives
from nldsl.step.state import layout
from nldsl.train import checkpoint, data, faults, memory, metrics, pretrained, series
from nldsl.train.data import Corpus
from nldsl.train.display import Display
from nldsl.train.loop import Interrupt, Log, loop
from nldsl.train.metrics import Journal
from nldsl.train.results import METRICS, PICTURE, finish
from nldsl.train.score import batch
from nldsl.train.series import Series
from nldsl.train.specs import files_of, fingerprint, text_of

NUMBERS = "run.json"
SAVE_SECONDS = 60.0                                # between two saves when `--save-every` is not given


@dataclass(frozen=True)
class Settings:
    """What the command line says beyond the spec. `data` None is a default; lengths in tokens; `memory` is what lanes begin
    with, `load` where files that the spec loads lie."""

    sets: dict[str, str] = field(default_factory=dict)
    data: str | None = None
    steps: int = 1000
    seed: int = 0
    batch: int = 4
    length: int = 256
    accumulate: int = 1
    device: str = "cpu"
    precision: str = "float32"
    capture: str = "auto"
    memory: str | None = None
    load: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Run:
    folder: Path
    settings: Settings
    program: Program
    corpus: Corpus | Series
    files: dict[str, Path]                         # that the program loads
    numbers: dict[str, Any]                        # the content of run.json

    @property
    def onward(self) -> bool:
        """Does a lane read on in the next step where it stopped, because something in it outlives a sequence?"""
        return any(level.clock.unit == "token" and outlives(level.reset) for level in self.program.levels.values())

    def batches(self, n: int) -> list[dict[str, torch.Tensor]]:
        """The micro-batches of step `n`, each [batch, length, ..]."""
        s = self.settings
        return [{name: x.to(s.device) for name, x in batch(self.program, self.corpus.batch(s.seed, n, micro, s.batch, s.length, self.onward)).items()}
                for micro in range(s.accumulate)]


def begin(spec: Path, settings: Settings, out: Path | None) -> Run:
    """Make a run folder. The program and the text are read first: what is rejected leaves no folder behind."""
    program, corpus = read(spec, settings)
    files = pretrained.places(program, spec.parent, settings.load)
    settings = replace(settings, load={name: str(path.resolve()) for name, path in files.items()})
    folder = out or unused(Path("runs"), spec.stem)
    if (folder / NUMBERS).exists():
        raise faults.already_a_run(folder)
    numbers = {
        "format": 1, "spec": spec.name, "spec_sha256": fingerprint(spec), "settings": asdict(settings), "dims": dict(program.dims),
        "clocks": {name: f"every {clock.period} {clock.unit}" for name, clock in program.clocks.items()},
        "data": corpus.numbers(), "loaded": {name: pretrained.fingerprint(path) for name, path in files.items()},
        "torch": torch.__version__, "threads": torch.get_num_threads(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, file in files_of(spec).items():
            (folder / name).write_bytes(file.read_bytes())
        (folder / NUMBERS).write_text(json.dumps(numbers, indent=2) + "\n")
    except OSError as error:
        raise faults.cannot_write(folder, error) from None
    return Run(folder, settings, program, corpus, files, numbers)


def reopen(folder: Path, given: dict[str, Any] | None = None, spec: Path | None = None) -> Run:
    """A run as it began. Raises N710 if there is none, N711 if a setting in `given`, the spec or the text is not what it was."""
    try:
        numbers = json.loads((folder / NUMBERS).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise faults.not_a_run(folder) from None
    settings = Settings(**numbers["settings"])
    given = dict(given or {})
    data_path = given.pop("data", settings.data)
    settings = replace(settings, load=settings.load | given.pop("load", {}))
    for name, value in given.items():
        if value != getattr(settings, name):
            raise faults.differs(folder, name, getattr(settings, name), value,
                                 "the schedules of the text stretch over the steps that were planned; " if name == "steps" else "")
    for file in (folder / numbers["spec"], spec or folder / numbers["spec"]):
        if fingerprint(file) != numbers["spec_sha256"]:
            raise faults.differs(folder, "spec", numbers["spec_sha256"][:12], f"{fingerprint(file)[:12]} (`{file}`)")
    program, corpus = read(folder / numbers["spec"], Settings(**{**asdict(settings), "data": data_path}))
    if corpus.sha256 != numbers["data"]["sha256"]:
        raise faults.differs(folder, "data", numbers["data"]["sha256"][:12], f"{corpus.sha256[:12]} ({corpus.name})")
    files = pretrained.places(program, folder, settings.load)
    for name, path in files.items():
        if pretrained.fingerprint(path) != numbers["loaded"][name]:
            raise faults.differs(folder, f"file `{name}`", numbers["loaded"][name][:12], f"another (`{path}`)")
    return Run(folder, replace(settings, load=numbers["settings"]["load"]), program, corpus, files, numbers)


def read(spec: Path, settings: Settings) -> tuple[Program, Corpus | Series]:
    """The program, and its data: text for bytes, a table for numbers. Raises N705 if it takes neither."""
    program = pipeline.load_text(text_of(spec), spec.name, settings.sets, [spec.parent])
    types = [node.type for node in program.inputs.values()]
    path = Path(settings.data) if settings.data else None
    if len(types) == 1 and set(program.vocab.values()) == {256}:
        corpus = data.load(path)
    elif len(types) == 1 and not program.vocab and len(types[0]) <= 1:
        corpus = series.load(path, numel(types[0]))
    else:
        raise faults.other_inputs(", ".join(f"`{name}`" for name in program.inputs) or "none")
    corpus.require(settings.length)
    return program, corpus


def unused(folder: Path, stem: str) -> Path:
    n = 1
    while (folder / f"{stem}-{n}").exists():
        n += 1
    return folder / f"{stem}-{n}"


def compiled(run: Run) -> tuple[Any, Any]:
    """The run's step, and the state it was last saved with, or the start."""
    s = run.settings
    step = pipeline.compile_program(run.program, device=s.device, precision=s.precision, capture=s.capture,
                                    planned_steps=s.steps, accumulate=s.accumulate, files=pretrained.read(run.program, run.files).files)
    state = step.init(s.seed)
    step.seat(state, s.batch * s.accumulate)
    if s.memory is not None:
        memory.load(Path(s.memory), state.lanes)
    saved = checkpoint.manifest(run.folder)
    if saved is not None:
        for what in ("spec_sha256", "settings", "data"):
            if saved[what] != run.numbers[what]:
                raise faults.differs(run.folder, f"checkpoint's {what}", run.numbers[what], saved[what])
        checkpoint.load(run.folder, checkpoint.everything(state))
        state.step = saved["step"]
    return step, state


def train(run: Run, display: Display, save_every: int | None) -> bool:
    """Train to the planned step and print how good it got, or until interrupted; True if it came to the end."""
    s = run.settings
    with Interrupt() as interrupt:
        journal = Journal(run.folder / METRICS)
        try:
            display.say(run.corpus.describe())
            display.say("".join(f"{name} is {path}\n" for name, path in run.files.items()).rstrip()) if run.files else None
            display.compiling(f"{run.numbers['spec']} for {s.device} in {s.precision}")
            step, state = compiled(run)
            step.warm(state, run.batches(1)[0], display.compiling)
            display.compiled()
            journal.cut(state.step)
            journal.write("start", step=state.step, torch=torch.__version__, threads=torch.get_num_threads())
            display.say(plan(run, state.step))
            display.training(state.step, s.steps)
            loop(step, state, run.batches, s.steps, Log(journal, display, s.batch * s.length * s.accumulate, metrics.bits if run.program.vocab else None),
                 saver(run, journal, display), due(save_every), interrupt)
            display.close()
            if state.step < s.steps:
                metrics.picture(run.folder / METRICS, run.folder / PICTURE)
                display.say(f"interrupted after step {state.step}; go on with: nldsl train --resume {run.folder}")
                return False
            finish(run, step, state, journal, display)
            return True
        finally:
            display.close()
            journal.close()


def plan(run: Run, done: int) -> str:
    s = run.settings
    tokens = s.batch * s.length * s.accumulate
    micro = f"{s.accumulate} micro-batches of " if s.accumulate > 1 else ""
    unit = run.corpus.unit
    text = f"{micro}{s.batch} sequences of {s.length} {unit} a step, {s.steps:,} steps = {s.steps * tokens:,} {unit}; seed {s.seed}; {run.folder}"
    if run.onward:
        text += f"\nsomething outlives a sequence: each of {s.batch * s.accumulate} lanes reads on in every step where it stopped"
    changed = [f"{name} was {run.numbers[name]}, now it is {now}" for name, now in
               (("torch", torch.__version__), ("threads", torch.get_num_threads())) if run.numbers[name] != now]
    if done and changed:
        text += f"\nnot bit for bit what an unbroken run would give: {'; '.join(changed)}"
    return text + (f"\nresumed after step {done}" if done else "")


def due(save_every: int | None) -> Callable[[int], bool]:
    """Save after every `save_every`-th step, or when a minute has passed."""
    last = time.monotonic()

    def answer(n: int) -> bool:
        nonlocal last
        if save_every is not None:
            return n % save_every == 0
        if time.monotonic() - last < SAVE_SECONDS:
            return False
        last = time.monotonic()
        return True

    return answer


def saver(run: Run, journal: Journal, display: Display) -> Callable[[Any], None]:
    """Save, then announce: what is announced is on the disk, metrics included."""
    def save(state: Any) -> None:
        journal.sync()
        checkpoint.save(run.folder, checkpoint.everything(state), {
            **run.numbers, "step": state.step, "torch": torch.__version__, "threads": torch.get_num_threads(),
            "weights": layout(run.program, state.tensors)})
        if state.lanes:
            memory.save(run.folder / memory.FILE, state.lanes)
        journal.write("saved", step=state.step)
        display.say(f"saved step {state.step}")

    return save


def trained(run: Run) -> tuple[Any, Any]:
    """As saved. Raises N716 if nothing was."""
    if checkpoint.manifest(run.folder) is None:
        raise faults.nothing_saved(run.folder)
    return compiled(run)
