"""A run: one task, one system, one seed, one rate, and the line of JSON that is kept of it.

The rate of a system at a task is the one of three whose validation loss is the lowest after a third
of the tokens; then each seed is run in full. What is recorded is not run again, and a run that did
not work is recorded as such.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.learning.scales import SCALES, Scale
from benchmarks.learning.systems import CHANGES, PEAK, SYSTEMS, parameters, program, width
from benchmarks.learning.tasks.task import VALIDATION, Sequence, Task, Test, batch
from benchmarks.table import machine
from nldsl.diagnostic import Diagnostics

RECORDS = Path(__file__).parent / "records"
CHOICE, RUN = "choice", "run"
CURVE = 8  # points of the curve of a run
BINS = 8  # of positions
AT_ONCE = 8192  # tokens that are scored at once
Record = dict[str, Any]
Bits = list[np.ndarray]


@dataclass(frozen=True)
class Row:
    scale: str
    task: str
    system: str
    purpose: str
    seed: int
    rate: float
    change: str = ""


def rows(
    task: Task, system: str, scale: Scale, records: list[Record], change: str = ""
) -> Iterator[Row]:
    """What is still to be run; runs in full wait for the rates."""
    known = {row_of(record): record for record in records}
    choices = [Row(scale.name, task.name, system, CHOICE, 0, rate, change) for rate in scale.rates]
    missing = [row for row in choices if row not in known]
    if missing:
        yield from missing
        return
    rate = min(choices, key=lambda row: validated(known[row])).rate
    for seed in range(scale.seeds):
        row = Row(scale.name, task.name, system, RUN, seed, rate, change)
        if row not in known:
            yield row


def row_of(record: Record) -> Row:
    """A record without a change is one of the system as it is."""
    return Row(**{name: record[name] for name in Row.__dataclass_fields__ if name in record})


def validated(record: Record) -> float:
    """A run that failed, or whose loss is no number, is worse than any other."""
    value = record.get("validation")
    return math.inf if value is None else value


def read(folder: Path = RECORDS) -> list[Record]:
    """All records, file by file in the order of their names, and as they were written."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jsonl"))]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def write(record: Record, folder: Path = RECORDS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = "".join(c if c.isalnum() else "_" for c in record["task"])
    with (folder / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(record, allow_nan=False) + "\n")


def everything(
    tasks: list[Task],
    systems: set[str],
    scale: Scale,
    hours: float,
    folder: Path = RECORDS,
    changes: Collection[str] = ("",),
) -> Iterator[Record]:
    """Runs row by row, records each, and stops behind the one that passes `hours`. Of `changes` a
    system is run with its own.
    """
    began = time.monotonic()
    for task, change in product(tasks, changes):
        own = CHANGES[change] if change else SYSTEMS
        for system in (name for name in task.systems if name in systems and name in own):
            while todo := list(rows(task, system, scale, read(folder), change)):
                for row in todo:
                    record = measured(task, row)
                    write(record, folder)
                    yield record
                    if time.monotonic() - began > 3600 * hours:
                        return


def measured(task: Task, row: Row) -> Record:
    """The record of a row."""
    scale = SCALES[row.scale]
    hidden, count = width(row.system, scale, task.vocab, row.change)
    steps = task.steps if row.purpose == RUN else task.steps // scale.third
    record: Record = row.__dict__ | {
        "hidden": hidden,
        "parameters": count,
        "steps": steps,
        "tokens": steps * task.lanes * task.length,
        "data": task.data,
        "machine": machine(),
    }
    began = time.monotonic()
    try:
        record |= trained(task, row, scale, hidden, steps)
    except (Diagnostics, RuntimeError, ValueError) as error:
        record["failed"] = str(error)[:300]
    return record | {"seconds": round(time.monotonic() - began, 1)}


def trained(task: Task, row: Row, scale: Scale, hidden: int, steps: int) -> Record:
    """Scores before the first phase and after each, the curve, and scores without memory."""
    stage = max(1, steps // task.phases)
    made = partial(program, row.system, scale, task.vocab, hidden, change=row.change)
    compiled = made(stage=stage, constant=task.phases > 1).compile(
        capture=scale.capture, steps=steps
    )
    state = compiled.init(row.seed)
    state.arrays[PEAK].fill_(row.rate)
    plain = made(taught=False)
    ends = {steps * phase // task.phases: phase for phase in range(task.phases + 1)}
    points = {steps * (n + 1) // CURVE for n in range(CURVE)}
    curve, phases, seconds, busy = [], [], 0.0, 0.0
    for step in range(steps + 1):
        if step in points:
            bits = mean(scored(plain.module(state), task.validation, VALIDATION)["bits"])
            curve.append([step * task.lanes * task.length, bits])
        if row.purpose == RUN and step in ends and (task.phases > 1 or step == steps):
            phases.append(tested(plain.module(state), task))
        if step < steps:
            began, began_busy = time.monotonic(), time.process_time()
            compiled(state, task.batch(row.seed, step, steps))
            seconds += time.monotonic() - began
            busy += time.process_time() - began_busy
    record: Record = {
        "validation": curve[-1][1],
        "curve": curve,
        "seconds_training": round(seconds, 3),
        "cpu_training": round(busy, 3),  # of all threads, whatever else the machine does
    }
    if row.purpose == RUN:
        record["phases"] = phases
        if SYSTEMS[row.system].off:
            off = made(off=True, taught=False)
            assert parameters(off) == parameters(plain)
            record["off"] = tested(off.module(state), task)
    return record


def tested(model: nn.Module, task: Task) -> Record:
    return {name: scored(model, test) for name, test in task.tests.items()}


@torch.no_grad()
def scored(model: nn.Module, test: Test, part: int = 2) -> Record:
    """Of each sequence the mean bits where it counts, and whether all of that is right; the mean
    bits by the position in it if every token counts.
    """
    found: Record = {"bits": [], "accuracy": [], "exact": []}
    positions = []
    for same in alike(test.sequences(part)):
        for sequence, bits, right in zip(same, *of_sequences(model, same)):
            found["bits"].append(number(bits.mean()))
            found["accuracy"].append(number(right.mean()))
            found["exact"].append(int(right.all()))
            if sequence.mask.all():
                positions.append(bits)
    if len(positions) == test.count:
        parts = np.array_split(np.stack(positions).mean(0), BINS)
        found["positions"] = [number(part.mean()) for part in parts]
    return found


def alike(sequences: list[Sequence]) -> Iterator[list[Sequence]]:
    """In their order, as many of one length as are read at once."""
    for length, same in groupby(sequences, key=lambda one: len(one.ids)):
        every, count = list(same), max(1, AT_ONCE // length)
        yield from (every[n : n + count] for n in range(0, len(every), count))


def of_sequences(model: nn.Module, same: list[Sequence]) -> tuple[Bits, Bits]:
    """Of each, where it counts: bits, and whether the likeliest is right."""
    given = batch(same)
    every: tuple[Bits, Bits] = [], []
    for logits, target, one in zip(model(given["ids"]), given["target"], same):
        counts = torch.from_numpy(one.mask)
        logits, target = logits[: len(counts)][counts], target[counts]
        bits = nn.functional.cross_entropy(logits, target, reduction="none") / math.log(2)
        every[0].append(bits.double().numpy())
        every[1].append((logits.argmax(-1) == target).double().numpy())
    return every


def number(value: float) -> float | None:
    """To five digits; what is no number is none."""
    return round(float(value), 5) if math.isfinite(value) else None


def mean(values: list[float | None]) -> float | None:
    """None if one is none."""
    kept = [value for value in values if value is not None]
    return round(sum(kept) / len(kept), 5) if kept and len(kept) == len(values) else None
