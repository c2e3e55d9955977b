"""A spec, a text and numbers -> a run folder: begun, resumed, trained, opened again.

    RUN/hope.nl                   the spec as it was, and beside it all that it imports
    RUN/run.json                  every number the run is made of, resolved
    RUN/metrics.jsonl             what happened, see metrics.py
    RUN/loss.svg                  the curve
    RUN/checkpoint.safetensors    the last saved state, see checkpoint.py
"""
from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from nldsl import pipeline
from nldsl.graph.equations import Program
from nldsl.train import checkpoint, data, faults, metrics
from nldsl.train.data import BOUNDARY, Corpus
from nldsl.train.display import Display
from nldsl.train.loop import Interrupt, Log, loop
from nldsl.train.metrics import Journal
from nldsl.train.sample import LENGTH, opening, readable, sample
from nldsl.train.score import LEAST_SCORED, SCORED, Score, score
from nldsl.train.specs import files_of, fingerprint, text_of

NUMBERS, METRICS, PICTURE = "run.json", "metrics.jsonl", "loss.svg"
SAVE_SECONDS = 60.0                                # between two saves when `--save-every` is not given


@dataclass(frozen=True)
class Settings:
    """What the command line says beyond the spec. `data` None is the standard library; lengths in bytes."""

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


@dataclass(frozen=True, eq=False)
class Run:
    folder: Path
    settings: Settings
    program: Program
    corpus: Corpus
    numbers: dict[str, Any]                        # the content of run.json

    @property
    def input(self) -> str:
        return next(iter(self.program.inputs))

    def batches(self, n: int) -> list[dict[str, torch.Tensor]]:
        """The micro-batches of step `n`, each LongTensor [batch, length]."""
        s = self.settings
        return [{self.input: self.corpus.batch(s.seed, n, micro, s.batch, s.length).to(s.device)} for micro in range(s.accumulate)]


def begin(spec: Path, settings: Settings, out: Path | None) -> Run:
    """Make a run folder. The program and the text are read first: what is rejected leaves no folder behind."""
    program, corpus = read(spec, settings)
    folder = out or unused(Path("runs"), spec.stem)
    if (folder / NUMBERS).exists():
        raise faults.already_a_run(folder)
    numbers = {
        "format": 1, "spec": spec.name, "spec_sha256": fingerprint(spec), "settings": asdict(settings), "dims": dict(program.dims),
        "clocks": {name: f"every {clock.period} {clock.unit}" for name, clock in program.clocks.items()},
        "data": {"name": corpus.name, "bytes": len(corpus.train) + len(corpus.held_out), "sha256": corpus.sha256},
        "torch": torch.__version__, "threads": torch.get_num_threads(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, file in files_of(spec).items():
            (folder / name).write_bytes(file.read_bytes())
        (folder / NUMBERS).write_text(json.dumps(numbers, indent=2) + "\n")
    except OSError as error:
        raise faults.cannot_write(folder, error) from None
    return Run(folder, settings, program, corpus, numbers)


def reopen(folder: Path, given: dict[str, Any] | None = None, spec: Path | None = None) -> Run:
    """A run as it began. Raises N710 if there is none, N711 if a setting in `given`, the spec or the text is not what it was."""
    try:
        numbers = json.loads((folder / NUMBERS).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise faults.not_a_run(folder) from None
    settings = Settings(**numbers["settings"])
    given = dict(given or {})
    data_path = given.pop("data", settings.data)
    for name, value in given.items():
        if value != getattr(settings, name):
            raise faults.differs(folder, name, getattr(settings, name), value)
    for file in (folder / numbers["spec"], spec or folder / numbers["spec"]):
        if fingerprint(file) != numbers["spec_sha256"]:
            raise faults.differs(folder, "spec", numbers["spec_sha256"][:12], f"{fingerprint(file)[:12]} (`{file}`)")
    program, corpus = read(folder / numbers["spec"], Settings(**{**asdict(settings), "data": data_path}))
    if corpus.sha256 != numbers["data"]["sha256"]:
        raise faults.differs(folder, "text", numbers["data"]["sha256"][:12], f"{corpus.sha256[:12]} ({corpus.name})")
    return Run(folder, settings, program, corpus, numbers)


def read(spec: Path, settings: Settings) -> tuple[Program, Corpus]:
    program = pipeline.load_text(text_of(spec), spec.name, settings.sets, [spec.parent])
    if len(program.inputs) != 1 or set(program.vocab.values()) != {256}:
        raise faults.not_bytes(", ".join(f"`{name}`" for name in program.inputs) or "none")
    corpus = data.load(Path(settings.data) if settings.data else None)
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
                                    planned_steps=s.steps, accumulate=s.accumulate)
    state = step.init(s.seed)
    saved = checkpoint.manifest(run.folder)
    if saved is not None:
        for what in ("spec_sha256", "settings", "data"):
            if saved[what] != run.numbers[what]:
                raise faults.differs(run.folder, f"checkpoint's {what}", run.numbers[what], saved[what])
        checkpoint.load(run.folder, state.tensors)
        state.step = saved["step"]
    return step, state


def train(run: Run, display: Display, save_every: int | None) -> bool:
    """Train to the planned step and print how good it got, or until interrupted; True if it came to the end."""
    s = run.settings
    with Interrupt() as interrupt:
        journal = Journal(run.folder / METRICS)
        try:
            display.say(run.corpus.describe())
            display.compiling(f"{run.numbers['spec']} for {s.device} in {s.precision}")
            step, state = compiled(run)
            step.warm(state, run.batches(1)[0], display.compiling)
            display.compiled()
            journal.cut(state.step)
            journal.write("start", step=state.step, torch=torch.__version__, threads=torch.get_num_threads())
            display.say(plan(run, state.step))
            display.training(state.step, s.steps)
            loop(step, state, run.batches, s.steps, Log(journal, display, s.batch * s.length * s.accumulate),
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
    text = f"{micro}{s.batch} sequences of {s.length} bytes a step, {s.steps:,} steps = {s.steps * tokens:,} bytes; seed {s.seed}; {run.folder}"
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
        checkpoint.save(run.folder, state.tensors, {**run.numbers, "step": state.step, "torch": torch.__version__,
                                                    "threads": torch.get_num_threads()})
        journal.write("saved", step=state.step)
        display.say(f"saved step {state.step}")

    return save


def finish(run: Run, step: Any, state: Any, journal: Journal, display: Display) -> Score:
    """Score the held-out text, draw the curve, let the model write."""
    s = run.settings
    display.say("scoring held-out text")
    limit = min(SCORED, max(LEAST_SCORED, s.steps * s.batch * s.length * s.accumulate // 8))
    result = score(step, state, run.input, run.corpus.train, run.corpus.held_out, s.batch, s.length, s.length, limit)
    journal.write("held_out", step=state.step, bits=result.model, order2=result.order2, order0=result.order0, terms=result.terms)
    metrics.picture(run.folder / METRICS, run.folder / PICTURE, result.order2)
    prompt = opening(run.corpus)
    text = sample(step, state, prompt, LENGTH, s.seed)
    journal.write("sample", step=state.step, prompt=readable(prompt), text=readable(text))
    display.say(f"sample after {len(prompt)} held-out bytes:\n{readable(prompt + text)}\n")
    display.say(f"{run.folder}: {', '.join(sorted(file.name for file in run.folder.iterdir()))}")
    display.say(result.describe())
    return result


def score_text(run: Run, text: Path | None, length: int | None, limit: int) -> Score:
    """Score the saved model on the run's held-out bytes, or on all of another text. Raises N716 if nothing was saved."""
    s = run.settings
    length = length or s.length
    joined = run.corpus.held_out
    if text is not None:
        other = data.load(text)
        joined = torch.cat([torch.from_numpy(part.copy()) for part in (other.train, other.held_out)]).numpy()
    data.require(str(text or run.corpus.name), "held-out", joined, length)
    step, state = trained(run)
    return score(step, state, run.input, run.corpus.train, joined, s.batch, length, min(length, s.length), limit)


def write_on(run: Run, prompt: bytes, n: int, seed: int, temperature: float) -> str:
    """`n` bytes after the prompt (after a document boundary if it is empty), as readable text."""
    step, state = trained(run)
    return readable(sample(step, state, prompt or bytes([BOUNDARY]), n, seed, temperature))


def trained(run: Run) -> tuple[Any, Any]:
    if checkpoint.manifest(run.folder) is None:
        raise faults.nothing_saved(run.folder)
    return compiled(run)
