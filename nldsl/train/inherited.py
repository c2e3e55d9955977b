"""What a new run begins with of another one: every array that has the same name and the same sizes
in both programs. What is new, or of other sizes, is drawn as in any run, and said.

    carried    loss.layer[0].mixer.k          both have it: it begins where the other run ended
    new        loss.layer[0].mixer.gate       the other run has no array of this name
    resized    loss.head                      [256, 64] there, [512, 64] here
    left       loss.layer[0].mixer.decay      this program has none

Optimizers begin anew: they follow a schedule of their own run. Memories that outlive a sequence go
by the same rule; in their lanes, of which a run may have another number. The other run may be
trained on, or be deleted, once this one has saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostic, counted
from nldsl.step.compile import CompiledStep
from nldsl.step.lanes import READ
from nldsl.step.state import State, layout
from nldsl.train import checkpoint, faults, pretrained
from nldsl.train.checkpoint import LANE
from nldsl.train.folder import NUMBERS, recorded
from nldsl.train.records import Inherited, Manifest, Record, Resized, Settings

TOKENIZER = "tokenizer.json"  # in a run folder
SHOWN = 6  # names of one kind on the screen


class Other(NamedTuple):
    """What a file holds: arrays by qualified name, lanes by theirs, the step that it was saved
    after.
    """

    arrays: dict[str, Tensor]
    lanes: dict[str, Tensor]
    step: int | None


def file_of(path: Path) -> Path:
    """The tensors of a run, or of a file or folder of arrays by qualified name.

    Raises N710 for what is none, N716 for a run that has saved nothing.
    """
    if is_run(path):
        recorded(path)
        if not checkpoint.there(path / checkpoint.FILE):
            raise faults.nothing_saved(path)
    found = pretrained.tensors_at(path)
    if found is None:
        raise faults.not_a_run(path)
    return found


def is_run(path: Path) -> bool:
    return path.is_dir() and (path / NUMBERS).exists()


def settings_of(run: Path, given: Settings) -> tuple[Path, Settings]:
    """The spec of a run, and its settings where none is given. `--set` goes over its own, one by
    one; how data is read is taken over for data whose name ends as its own does. The memory with
    which its lanes began is not. Raises N710 for what is no run.
    """
    record = recorded(run)
    own = record.settings
    stated = {name: getattr(given, name) for name in given.model_fields_set}
    alike = given.data is None or Path(given.data).suffix == Path(own.data or ".txt").suffix
    left = {"memory", "source", "sets", *(() if alike else ("columns", "encoding", "fill"))}
    kept = {name: getattr(own, name) for name in own.model_fields_set - left}
    if own.tokenizer is not None:
        kept["tokenizer"] = str((run / TOKENIZER).resolve())
    sets = {"sets": own.sets | given.sets}
    return run / record.spec, Settings.model_validate(kept | stated | sets)


def fitted(program: Program, path: Path) -> Inherited:
    """What of another run fits a program.

    Raises N735 if nothing does, and as `file_of`.
    """
    file = file_of(path)
    there, here = held(file), wanted(program)
    sizes = {name: list(x.shape) for name, x in there.arrays.items()}
    carried = [name for name in here if sizes.get(name) == here[name]]
    if not carried:
        own = recorded(path).settings.sets if is_run(path) else {}
        raise faults.nothing_fits(path, sizes, here, own)
    return Inherited(
        file=str(file.resolve()),
        sha256=pretrained.fingerprint(file),
        step=there.step,
        carried=carried,
        new=[name for name in here if name not in sizes],
        resized={
            name: Resized(was=sizes[name], now=here[name])
            for name in here
            if name in sizes and name not in carried
        },
        left=[name for name in sizes if name not in here],
    )


def findings(record: Record) -> list[Diagnostic]:
    """A warning if the other run's tokens stand for something else."""
    path = Path(record.settings.source or "")
    if record.settings.source is None or not is_run(path):
        return []
    was, now = recorded(path).data.tokenizer, record.data.tokenizer
    return [faults.other_tokens(path, was, now)] if was != now else []


def wanted(program: Program) -> dict[str, list[int]]:
    """The sizes of every array of a program that a run keeps and a stream can read."""
    slow = [name for name in program.memories if program.slow(name)]
    return {name: sizes for name, (*_, sizes) in layout(program, slow).items()}


def held(file: Path) -> Other:
    """Raises N712 for a file that is not a whole file of tensors."""
    if file.name != pretrained.INDEX and checkpoint.of_this_project(file):
        saved, manifest = checkpoint.tensors_of(file), checkpoint.said(file, Manifest)
        lanes = {name: x for name, x in saved.items() if name.startswith(LANE)}
        if lacks := sorted({*manifest.weights} - saved.keys()):
            raise faults.other_tensors(file, lacks)
        arrays = {name: saved[name] for name in manifest.weights if "@" not in name}
        return Other(arrays, lanes, manifest.step)
    _, names = pretrained.tensors(file, set())
    arrays, _ = pretrained.tensors(file, names)
    return Other({n: x for n, x in arrays.items() if x.is_floating_point()}, {}, None)


def begun(step: CompiledStep, seed: int, lanes: int, known: Inherited) -> State:
    """The state that a run with so many lanes begins in."""
    there = held(Path(known.file))
    state = step.init(seed, {name: there.arrays[name] for name in known.carried})
    step.seat(state, lanes)
    if state.lanes:
        seat(step, state, {name.removeprefix(LANE): x for name, x in there.lanes.items()})
    return state


def seat(step: CompiledStep, state: State, there: Mapping[str, Tensor]) -> None:
    """Lanes that go on with what others of their name and sizes hold, from the first again where
    there are more; what is new in them stands at its start.
    """
    fits = {
        name
        for name, x in state.lanes.items()
        if name in there and there[name].shape[1:] == x.shape[1:]
    }
    if not fits - {READ}:
        return
    count = len(state.lanes[READ])
    like = next(x for x in state.lanes.values() if x.is_floating_point())
    start = step.module["start"](state.views, count, like)
    with torch.no_grad():
        for name, lane in state.lanes.items():
            if name in fits:
                lane.copy_(there[name][torch.arange(count) % len(there[name])])
            elif start[name] is not None:
                lane.copy_(start[name])


def described(known: Inherited) -> str:
    """What a run says of it before its first step."""
    after = "" if known.step is None else f", after step {known.step:,}"
    text = f"begins from {known.file}{after}: {counted(len(known.carried), 'array')} of its"
    for what, names in (
        ("new, and drawn", known.new),
        (
            "of other sizes, and drawn",
            [f"{name} {size.was} -> {size.now}" for name, size in known.resized.items()],
        ),
        ("of its not taken", known.left),
    ):
        if names:
            more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
            text += f"\n{len(names):,} {what}: {', '.join(names[:SHOWN])}{more}"
    return text
