"""RUNS -> what differs between them: texts, settings, numbers, curves.

Runs that differ in their seed alone are a group: its numbers are means over its runs, each with its
standard error, s / sqrt(n), and its curve is their mean with a band of one standard error.

Models of all runs may be scored on the held-out data of one of them: what was learned there, and is
lost since.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import unified_diff
from pathlib import Path
from statistics import fmean, stdev

from rich import box
from rich.table import Table

from nldsl.train import checkpoint, faults, metrics
from nldsl.train import run as runs_
from nldsl.train.folder import NUMBERS, recorded
from nldsl.train.metrics import Event
from nldsl.train.records import Record
from nldsl.train.results import METRICS, held_out, known, limit_of

NAME = 16  # columns of a run's name, at least
LAST = 20  # steps at the end over which a loss is a mean
KEPT = SCORE, ELSEWHERE, LOST = "score", "on it", "lost"  # of a run on the data of another
APART = ("seed", "data")  # settings by which runs of one group may differ: data by its place
FORMATS = {"steps": ",.0f", "tokens": ",.0f", "seconds": ".1f", LOST: "+.4f"}
Numbers = dict[str, float]


@dataclass(frozen=True)
class Compared:
    """A run as its folder tells it."""

    folder: Path
    record: Record
    steps: list[Event]
    scored: list[Event]  # as it trained
    held_out: Event | None  # at its end
    on_other: Numbers = field(default_factory=dict)  # data; see `scored_on`

    @property
    def numbers(self) -> Numbers:
        """What the table says of it; what a run does not have is left out."""
        losses = [e["loss"] for e in self.steps[-LAST:] if e["loss"] is not None]
        best = min((e["score"] for e in self.scored if e["score"] is not None), default=None)
        end = None
        if self.held_out is not None:
            end = self.held_out.get("bits", self.held_out.get("loss"))
        found = {
            "steps": float(len(self.steps)),
            "tokens": float(sum(e["tokens"] for e in self.steps)),
            "seconds": sum(e["seconds"] for e in self.steps),
            "loss": fmean(losses) if losses else None,
            "best": best,
            SCORE: end,
        }
        return {name: x for name, x in found.items() if x is not None} | self.on_other


def read(folder: Path) -> Compared:
    """Raises N710, N712 for a folder that holds no run, or a damaged one."""
    record, path = recorded(folder), folder / METRICS
    there = checkpoint.there(path)
    kinds = [metrics.events(path, kind) if there else [] for kind in ("step", "eval", "held_out")]
    return Compared(folder, record, kinds[0], kinds[1], kinds[2][-1] if kinds[2] else None)


def scored_on(runs: Sequence[Compared], folder: Path) -> list[Compared]:
    """The same, each with the score of its model on the held-out data of the run in `folder`, and
    how much worse that is than the score of that run. Raises N716 where nothing was saved, N753 for
    a run that reads other tokens.
    """
    base = runs_.reopen(folder)
    own = model_on(base, base)
    found = []
    for run in runs:
        score = model_on(runs_.without_data(run.folder), base)
        found.append(replace(run, on_other={ELSEWHERE: score, LOST: score - own}))
    return found


def model_on(run: runs_.Run, base: runs_.Run) -> float:
    """The score of a run's model on the held-out data of another, the part of it and the lengths by
    which that run was scored at its end.
    """
    one, other = run.record.data, base.record.data
    if (one.tokenizer, one.mean, one.deviation) != (other.tokenizer, other.mean, other.deviation):
        why = f"it reads other tokens, or numbers of another scale, than `{base.folder}`"
        raise faults.option_does_not_fit("--on", run.folder, why)
    step, state = runs_.trained(run)
    dataset = runs_.data_of(base, run.program)
    there = replace(run, dataset=dataset, settings=base.settings)
    return known(run, held_out(there, step, state, limit_of(base.settings), beside=False)).model


def members(folder: Path) -> list[Path]:
    """The runs in a folder: itself, or those of several seeds below it, by their numbers."""
    if checkpoint.there(folder / NUMBERS):
        return [folder]
    below = [path.parent for path in folder.glob(f"seed-*/{NUMBERS}")]
    return sorted(below, key=lambda path: (len(path.name), path.name)) or [folder]


def grouped(runs: Iterable[Compared]) -> list[list[Compared]]:
    """Those that differ in their seed alone, together."""
    found: dict[str, list[Compared]] = {}
    for run in runs:
        record = run.record
        told = record.settings.model_dump_json(exclude={*APART})
        key = repr((told, record.spec_sha256, record.data.sha256, record.dims))
        found.setdefault(key, []).append(run)
    return list(found.values())


def differences(runs: Sequence[Compared]) -> str:
    """Settings in which runs differ, a line each, and how each text differs from the first's."""
    every = [settings_of(run.record) for run in runs]
    names = dict.fromkeys(name for said in every for name in said)
    width = max(len(str(run.folder)) for run in runs)
    lines = []
    for name in names:
        values = [said.get(name, "") for said in every]
        if len(set(values)) > 1:
            lines.append(f"{name}:")
            lines += [f"  {str(r.folder):{width}}  {v}" for r, v in zip(runs, values, strict=True)]
    first = runs[0]
    for other in runs[1:]:
        lines += differing(first, other)
    return "\n".join(lines) or "the runs have the same text and the same settings"


def settings_of(record: Record) -> Mapping[str, str]:
    """By name: settings, those of `--set` one by one, sizes and clocks, data, machine."""
    said = record.settings.model_dump()
    sets, loads = said.pop("sets"), said.pop("load")
    return {
        **{name: str(value) for name, value in said.items()},
        **{f"--set {name}": value for name, value in sets.items()},
        **{f"--load {name}": value for name, value in loads.items()},
        **{f"dim {name}": str(size) for name, size in record.dims.items()},
        **{f"clock {name}": clock for name, clock in record.clocks.items()},
        "data": f"{record.data.name} {record.data.sha256[:12]}",
        "torch": record.torch,
        "threads": str(record.threads),
    }


def differing(first: Compared, other: Compared) -> list[str]:
    """The texts of two runs, as a unified difference; a spec by another name is the spec."""
    lines: list[str] = []
    pairs = [(first.record.spec, other.record.spec)]
    names = dict.fromkeys([*first.record.texts, *other.record.texts])
    pairs += [(name, name) for name in names if name not in pairs[0]]
    for one, another in pairs:
        a, b = first.record.texts.get(one, ""), other.record.texts.get(another, "")
        headings = f"{first.folder}/{one}", f"{other.folder}/{another}"
        found = unified_diff(a.splitlines(), b.splitlines(), *headings, n=1, lineterm="")
        lines += found
    return lines


def spread(values: Sequence[float]) -> float | None:
    """The standard error of a mean; None of fewer than two."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def table(runs: Sequence[Compared], only: Sequence[str] = ()) -> Table:
    """A row a run, and below the runs of a group their means and standard errors. `only` are the
    numbers to be told, by default all.
    """
    groups = grouped(runs)
    columns = only or tuple(dict.fromkeys(name for run in runs for name in run.numbers))
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    made.add_column("run", overflow="fold", min_width=NAME)
    for name in columns:
        made.add_column(heading(name, runs), justify="right")
    for group in groups:
        for run in group:
            known = run.numbers
            made.add_row(str(run.folder), *(cell(name, known.get(name)) for name in columns))
        if len(group) > 1:
            told = [summed(name, [run.numbers for run in group]) for name in columns]
            means, errors = zip(*told, strict=True)
            made.add_row(f"mean of {len(group)} seeds", *means)
            made.add_row("standard error", *errors)
        made.add_section()
    return made


def heading(name: str, runs: Sequence[Compared]) -> str:
    bits = any("bits" in (run.held_out or {}) for run in runs)
    return f"{name}, bits" if name == SCORE and bits else name


def cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:{FORMATS.get(name, '.4f')}}"


def summed(name: str, every: Sequence[Numbers]) -> tuple[str, str]:
    """A mean and its standard error, of the runs that have the number."""
    values = [numbers[name] for numbers in every if name in numbers]
    return cell(name, fmean(values) if values else None), cell(name, spread(values))


def picture(runs: Sequence[Compared], target: Path) -> None:
    """Losses as running means, and the scores of held-out data as they trained; a colour a group.
    Raises N713 if the disk refuses.
    """
    from matplotlib.figure import Figure

    what = "bits" if all("bits" in e for run in runs for e in run.steps) else "loss"
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for i, group in enumerate(grouped(runs)):
        name = metrics.fitting(str(group[0].folder if len(group) == 1 else group[0].folder.parent))
        label = name if len(group) == 1 else f"{name}, {len(group)} seeds"
        curves = [{e["step"]: e[what] for e in run.steps if e[what] is not None} for run in group]
        n, mean, error = band([dict(zip(c, metrics.averaged([*c.values()]))) for c in curves])
        axes.plot(n, mean, color=f"C{i}", label=label)
        if len(group) > 1:
            low, high = ([m + s * e for m, e in zip(mean, error)] for s in (-1, 1))
            axes.fill_between(n, low, high, color=f"C{i}", alpha=0.25, linewidth=0)
        scores = band([{e["step"]: e[what] for e in r.scored if e.get(what)} for r in group])
        if scores[0]:
            axes.plot(*scores[:2], color=f"C{i}", linestyle="--", marker=".")
    axes.set(xlabel="step", ylabel="bits per byte" if what == "bits" else "loss")
    axes.set_title("running means; dashed: held out", fontsize="medium")
    axes.legend(fontsize="small")
    metrics.drawn_to(figure, target)


def band(curves: Sequence[Mapping[int, float]]) -> tuple[list[int], list[float], list[float]]:
    """Steps that every curve has, the mean at each, and its standard error."""
    steps = sorted(set(curves[0]).intersection(*curves[1:]))
    values = [[curve[n] for curve in curves] for n in steps]
    return steps, [fmean(v) for v in values], [spread(v) or 0.0 for v in values]
