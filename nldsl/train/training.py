"""A run -> the same run, trained: to its last step, to an interrupt, or to a loss that is not
finite.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import torch

from nldsl.diagnostic import Diagnostics
from nldsl.step import room
from nldsl.step.compile import CompiledStep
from nldsl.step.gauges import Gauges
from nldsl.step.state import State
from nldsl.train import (
    averages,
    checkpoint,
    faults,
    folder,
    inherited,
    loggers,
    memory,
    metrics,
    origin,
    schedules,
)
from nldsl.train import run as runs
from nldsl.train.capture import Capturing
from nldsl.train.data.vocabulary import ByteVocabulary
from nldsl.train.display import Display
from nldsl.train.evaluation import Evaluations, enough
from nldsl.train.levels import Watching
from nldsl.train.loop import Interrupt, Log, NotFinite, Now, Queued, loop
from nldsl.train.meetings import ending
from nldsl.train.metrics import Journal
from nldsl.train.ranks import ALONE
from nldsl.train.results import METRICS, PICTURE, finish
from nldsl.train.run import Run
from nldsl.train.score import in_nats
from nldsl.train.skipping import SKIPPED, Skipping


def train(run: Run, display: Display, save_every: int | None) -> bool:
    """Train to the planned step and print how good it got, or until interrupted; True if it came to
    the end.
    """
    file, writes = run.folder / METRICS, run.ranks.is_first
    with Interrupt() as interrupt, closing(Journal(file, writes)) as journal:
        try:
            if run.ranks.first(lambda: scored(run, journal)):
                display.say(finished(run))
                return True
            saved = runs.saved_of(run)
            with closing(loggers.logger(run, saved.step if saved else 0)) as logger:
                journal.listener = logger.take
                return carried_out(run, display, journal, save_every, interrupt)
        except KeyboardInterrupt:
            display.close()
            display.say(
                f"interrupted {interrupt.doing}; go on with: nldsl train --resume {run.folder}"
            )
            return False
        finally:
            display.close()


def carried_out(
    run: Run, display: Display, journal: Journal, save_every: int | None, interrupt: Interrupt
) -> bool:
    """Trains to the last step and scores; False if it was interrupted. Raises Diagnostics for a
    loss that is not finite.
    """
    s = run.settings
    step, state, capturing = ready(run, display, journal, interrupt)
    scores = Evaluations(run, step, journal, display, state)
    save = saver(run, step, journal, display, interrupt, scores.keep)
    interrupt.doing = f"within a step: {kept(run)}"
    log = log_of(run, step, journal, display)
    steps = Skipping(step, run.ranks.total) if s.not_finite == "skip" else step
    try:
        loop(
            steps,
            state,
            run.batches,
            s.steps if not scores.enough else state.step,
            log,
            save,
            ending(run.ranks, step, s.steps, save_every, log, interrupt),
            interrupt,
            capturing.before,
            lambda state, log: capturing.apart(scores.after, state, log),
        )
    except NotFinite as found:
        display.close()
        display.say(
            f"{found.what} {found.step} is not finite: the steps since the last save are run "
            "again, to see where it begins"
        )
        why = found
        raise run.ranks.first(lambda: broken(run, step, why)) from None
    display.close()
    tell(run, log, journal, display)
    if state.step < s.steps and not scores.enough:
        run.ranks.first(lambda: metrics.picture(run.folder / METRICS, run.folder / PICTURE))
        told = f"interrupted after step {state.step}; go on with: nldsl train --resume {run.folder}"
        display.say(told)
        return False
    interrupt.doing = f"while scoring: {done(run, state)} are saved, the score is not known yet"
    seen = run.ranks.seen(step, state)
    with averages.in_force(seen, averages.pairs(run.program, s.weights)):
        run.ranks.first(lambda: bool(finish(run, step, seen, journal, display)))
    return True


def done(run: Run, state: State) -> str:
    steps = run.settings.steps
    return f"all {steps} steps" if state.step == steps else f"{state.step} steps"


def broken(run: Run, step: CompiledStep, found: NotFinite) -> Diagnostics:
    """Where it begins, found by one process, which has all lanes."""
    if run.ranks.count > 1:
        run = replace(run, ranks=ALONE)
        step = runs.compiled(run)[0]
    return origin.told(run, step, found, runs.last_saved)


def log_of(run: Run, step: CompiledStep, journal: Journal, display: Display) -> Log:
    s = run.settings
    of_bytes = isinstance(run.data.vocabulary, ByteVocabulary)
    nats = in_nats(run.program, step.reading.trained[1], "loss")
    bits = metrics.bits if nats and of_bytes else None
    clock = Queued if s.device.startswith("cuda") else Now
    watching = Watching(Gauges(step), display.say) if s.watch else None
    return Log(journal, display, s.batch * s.length * s.accumulate, bits, clock, watching)


def tell(run: Run, log: Log, journal: Journal, display: Display) -> None:
    """What levels did at last, if they are watched; how many steps were left out, in run.json
    too.
    """
    if log.watching is not None:
        log.watching.tell()
    every = metrics.events(journal.path, "step")
    count = sum(SKIPPED in event for event in every)
    if count and run.ranks.is_first:
        folder.changed(run.folder, folder.recorded(run.folder), {"skipped": count})
        display.say(f"{count} of {len(every)} steps were not finite, and left no trace")


def ready(
    run: Run, display: Display, journal: Journal, interrupt: Interrupt
) -> tuple[CompiledStep, State, Capturing]:
    """The step and the state that it goes on from; what is told before the first step."""
    s = run.settings
    display.say(run.data.describe())
    for name, path in run.files.items():
        display.say(f"{name} is {path}")
    if run.record.inherited and not checkpoint.there(run.folder / checkpoint.FILE):
        display.say(inherited.described(run.record.inherited))
    interrupt.doing = f"while compiling: {kept(run)}"
    step, state = runs.compiled(run)
    if state.step and state.lanes:  # a kill may have come between the two files
        lanes = run.ranks.gathered(step, state, s.accumulate).lanes
        run.ranks.first(lambda: memory.save(run.folder / memory.FILE, lanes))
    told = run.ranks.first(lambda: journal.cut(state.step))
    journal.write(
        "start", step=state.step, torch=torch.__version__, threads=torch.get_num_threads()
    )
    capturing = Capturing(run, step, journal, display, interrupt)
    capturing.begin(state)
    display.say(plan(run, step, state.step, told))
    display.training(state.step, s.steps)
    return step, state, capturing


def scored(run: Run, journal: Journal) -> bool:
    """Is every step done and scored, and the checkpoint whole? Raises N712 if the checkpoint is
    gone.
    """
    saved = runs.saved_of(run)
    if saved is None and (before := metrics.events(journal.path, "saved")):
        raise faults.checkpoint_gone(run.folder / checkpoint.FILE, before[-1]["step"])
    if saved is None:
        return False
    told = [e for e in metrics.events(journal.path, "eval") if e["step"] <= saved.step]
    if saved.step < run.settings.steps and not enough(run.settings, told):
        return False
    there = set(checkpoint.tensors_of(run.folder / checkpoint.FILE))
    if lacks := {*saved.weights} - there:
        raise faults.other_tensors(run.folder / checkpoint.FILE, sorted(lacks))
    return any(event["step"] == saved.step for event in metrics.events(journal.path, "held_out"))


def finished(run: Run) -> str:
    """The sentence for a run that has nothing left to do."""
    steps, stopped = run.settings.steps, run.record.stopped
    done, longer = f"all {steps:,} steps are done", f"--steps {2 * steps}"
    if stopped is not None:
        done = f"it was stopped after step {stopped.after:,} of {steps:,}"
        longer = f"--patience {2 * (run.settings.patience or 1)}"
    return (
        f"{run.folder} is finished: {done}, and scored. Score it again with "
        f"`nldsl eval {run.folder}`, "
        f"let it write with `nldsl generate {run.folder}`, make it longer with `nldsl train "
        f"--resume {run.folder} {longer}`"
    )


def kept(run: Run) -> str:
    saved = checkpoint.manifest(run.folder)
    return (
        "nothing was saved before"
        if saved is None
        else f"what was saved after step {saved.step} is whole"
    )


def plan(run: Run, step: CompiledStep, done: int, told: int) -> str:
    """The announcement of a run: its size, and how a resumed run differs from an unbroken one.

    `told`: the last step in the metrics.
    """
    s = run.settings
    tokens = s.batch * s.length * s.accumulate
    micro = f"{s.accumulate} micro-batches of " if s.accumulate > 1 else ""
    unit = run.data.unit
    text = (
        f"{micro}{s.batch} sequences of {s.length} {unit} a step, {s.steps:,} steps = "
        f"{s.steps * tokens:,} {unit}; seed {s.seed}; {run.folder}"
    )
    text += held(run, step) + order(run)
    trained = step.reading.trained[0]
    if trained != "loss":
        words = f"`{trained}`" if trained in run.program.outputs else "the stream that is learned"
        text += f"\nno stream is called `loss`: the loss of a step is the mean of {words}"
    changed = [
        f"{name} was {was}, now it is {now}"
        for name, was, now in (
            ("torch", run.record.torch, torch.__version__),
            ("threads", run.record.threads, torch.get_num_threads()),
        )
        if was != now
    ]
    if done and changed:
        text += f"\nnot bit for bit what an unbroken run would give: {'; '.join(changed)}"
    if told < done:
        text += (
            f"\n{run.folder / METRICS} tells nothing of steps {told + 1} to {done}: its record was "
            "deleted; the weights are whole"
        )
    for entry in run.record.lengthened[-1:]:
        text += (
            f"\nlonger: {entry.was:,} steps became {entry.steps:,} after step {entry.after:,}; "
            + schedules.described(step, entry)
        )
    return text + (f"\nresumed after step {done}" if done else "")


def held(run: Run, step: CompiledStep) -> str:
    """What a rank holds between steps, if not all."""
    if not step.shards.are:
        return ""
    own, whole = (
        room.said(room.state_bytes(sizes, step.dtype))
        for sizes in (step.updates.state, step.updates.whole_state)
    )
    return (
        f"\nsharded: each of {run.ranks.count} ranks holds {own} of {whole}: of weights, of what "
        "optimizers keep and of what periods add up"
    )


def order(run: Run) -> str:
    """The order in which the data is read, if it is not drawn with replacement."""
    s = run.settings
    if run.stateful:
        return (
            f"\nstateful memories: each of {s.batch * s.accumulate} batch lanes continues its text "
            "from the previous step"
        )
    if s.epochs is None:
        return ""
    each = len(run.data.train) // s.length
    return f"\nin epochs: each of {each:,} windows of {s.length} {run.data.unit} once in each"


def saver(
    run: Run,
    step: CompiledStep,
    journal: Journal,
    display: Display,
    interrupt: Interrupt,
    keep: Callable[[State], None],
) -> Callable[[State], None]:
    """Save, then announce: a save that it announces is on the disk, metrics included, and `keep`
    was told of it. Of several ranks the first saves what one process would.

    Raises NotFinite, and saves nothing, if a tensor is not.
    """

    def save(state: State) -> None:
        state = run.ranks.gathered(step, state, run.settings.accumulate)
        if run.ranks.first(lambda: memory.broken(checkpoint.everything(state)) is not None):
            raise NotFinite(state.step, "what is to be saved after step")
        if run.ranks.is_first:
            written(state)
        interrupt.doing = f"within a step: what was saved after step {state.step} is whole"
        display.say(f"saved step {state.step}")

    def written(state: State) -> None:
        journal.sync()
        checkpoint.save(run.folder, checkpoint.by_name(state), runs.manifest(run, state))
        if state.lanes:
            memory.save(run.folder / memory.FILE, state.lanes)
        keep(state)
        journal.write("saved", step=state.step)

    return save
