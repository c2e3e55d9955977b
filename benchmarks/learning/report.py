"""benchmarks/LEARNING.md from the records alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.learning.protocol import BINS, RUN, Record, mean, read
from benchmarks.learning.scales import FULL, SCALES, Scale
from benchmarks.learning.statistics import TOO_SMALL, interval, mean_and_error, verdict
from benchmarks.learning.systems import INNER, SYSTEMS
from benchmarks.learning.tasks.recall import CHANCE

PAGE = Path(__file__).parents[1] / "LEARNING.md"
# arXiv 2512.24695, Table 2: perplexity of Wikitext with 760M and 1.3B parameters.
PAPER = {
    "transformer": (24.18, 17.92),
    "gated_deltanet": None,
    "ttt_linear": (24.17, 18.42),
    "titans": (20.08, 15.60),
    "hope": (18.68, 14.39),
}
# What the paper says: the first has fewer bits per byte than the second.
CLAIMS = (("hope", "titans"), ("hope", "gated_deltanet"), ("hope", "transformer"))
MEASURES = {"accuracy": "accuracy", "exact": "share of words that are right throughout"}
OWN = ("text", "mqar")  # tasks with tables of their own
HELD_OUT, LONGER = "held out", "8 times as long"


def page(records: list[Record]) -> str:
    """Of the largest scale that has records."""
    names = {record["scale"] for record in records}
    scale = next(scale for scale in SCALES.values() if scale.name in names)
    kept = [record for record in records if record["scale"] == scale.name]
    runs = [record for record in kept if record["purpose"] == RUN and "failed" not in record]
    parts = [head(scale, kept), sizes(runs), text(runs), positions(runs), mqar(runs)]
    parts += [other(runs, task) for task in dict.fromkeys(run["task"] for run in runs)]
    return "\n".join([*(part for part in parts if part), claims(scale, runs), failures(kept)])


def head(scale: Scale, kept: list[Record]) -> str:
    warning = (
        "" if scale == FULL else "**These are quick runs. They say nothing about learning.**\n"
    )
    machines = "; ".join(sorted({record["machine"].partition("; ")[2] for record in kept}))
    return f"""# Does it learn as the paper says?
{warning}
All figures are made from [the records](learning/records) by `python -m benchmarks.learning report`.
Systems have {scale.parameters:,} parameters to 1 % (d {scale.d}, depth {scale.depth}, the width
between layers solved), {scale.lanes} sequences of {scale.length} tokens a step of text, the same
data in the same order. The peak rate is the one of {", ".join(map(str, scale.rates))} with the
lowest validation loss after a third of the tokens; {scale.seeds} seeds; means and standard errors.
Blocks on the step clock keep the rate of their spec.

{len(kept)} rows, {sum(record["seconds"] for record in kept) / 3600:.2f} hours, on {machines}.
"""


def table(title: str, columns: list[str], lines: list[list[str]]) -> str:
    rows = [columns, ["---"] * len(columns), *lines]
    return "\n".join([f"## {title}", "", *(f"| {' | '.join(row)} |" for row in rows), ""])


def of(runs: list[Record], task: str, system: str) -> list[Record]:
    found = [run for run in runs if (run["task"], run["system"]) == (task, system)]
    return sorted(found, key=lambda run: run["seed"])


def said(values: list[float | None]) -> str:
    """Mean and standard error over seeds; a value that is no number makes it a dash."""
    if not values or None in values:
        return "-"
    middle, error = mean_and_error([value for value in values if value is not None])
    return f"{middle:.3f} ± {error:.3f}"


def last(runs: list[Record], test: str, what: str) -> list[float | None]:
    return [mean(run["phases"][-1][test][what]) for run in runs]


def off(runs: list[Record], test: str, what: str) -> list[float | None]:
    return [mean(run["off"][test][what]) for run in runs if "off" in run]


def systems_of(runs: list[Record], task: str) -> list[str]:
    return [name for name in SYSTEMS if of(runs, task, name)]


def sizes(runs: list[Record]) -> str:
    lines = []
    for task in dict.fromkeys(run["task"] for run in runs):
        for name in systems_of(runs, task):
            found = of(runs, task, name)
            one, seconds = found[0], [run["seconds_training"] for run in found]
            numbers = [str(one["hidden"]), f"{one['parameters']:,}", f"{one['tokens']:,}"]
            lines.append([task, name, *numbers, str(one["rate"]), f"{np.mean(seconds):.0f}"])
    columns = ["task", "system", "hidden", "parameters", "tokens", "rate", "s to train"]
    return table("What was run", columns, lines)


def text(runs: list[Record]) -> str:
    lines = []
    for name in systems_of(runs, "text"):
        found = of(runs, "text", name)
        paper = PAPER.get(name)
        bits = [said(last(found, HELD_OUT, "bits")), said(off(found, HELD_OUT, "bits"))]
        lines.append([name, *bits, " / ".join(map(str, paper)) if paper else "-"])
    columns = ["system", "bits per byte", "inner rate 0", "perplexity in the paper, 760M / 1.3B"]
    return table("Held-out text", columns, lines)


def positions(runs: list[Record]) -> str:
    lines = []
    for name in systems_of(runs, "text"):
        found = [run["phases"][-1][LONGER].get("positions") for run in of(runs, "text", name)]
        lines.append([name, *(said([run[n] for run in found]) for n in range(BINS))])
    columns = ["system", *(f"{n + 1}" for n in range(BINS))]
    return table("Bits per byte by position, in lengths of training", columns, lines)


def mqar(runs: list[Record]) -> str:
    names = systems_of(runs, "mqar")
    tests = list(of(runs, "mqar", names[0])[0]["phases"][-1]) if names else []
    lines = []
    for name in names:
        found = of(runs, "mqar", name)
        on = [said(last(found, test, "accuracy")) for test in tests]
        without = [said(off(found, test, "accuracy")) for test in tests if test == "8 pairs"]
        lines.append([name, *on, *without])
    columns = ["system", *tests, *(["8 pairs, inner rate 0"] if "8 pairs" in tests else [])]
    return table(f"MQAR: accuracy (chance {CHANCE['mqar']:.3f})", columns, lines)


def other(runs: list[Record], task: str) -> str:
    """Of a task without a table of its own: accuracy at the end; and what was forgotten, if it has
    phases.
    """
    if task in OWN:
        return ""
    names = systems_of(runs, task)
    first = of(runs, task, names[0])[0]["phases"]
    what = "exact" if task.startswith("formal") else "accuracy"
    lines = []
    for name in names:
        found = of(runs, task, name)
        line = [said(last(found, test, what)) for test in first[-1]]
        lost = [said([forgotten(run["phases"]) for run in found])] if len(first) > 1 else []
        lines.append([name, *line, *lost])
    columns = ["system", *first[-1], *(["forgetting"] if len(first) > 1 else [])]
    return table(f"{task}: {MEASURES[what]}", columns, lines)


def forgotten(phases: list[Record]) -> float:
    """Average forgetting (arXiv 1801.10112): of each phase but the last, the best accuracy that its
    test had after any phase before the last, less the one at the end. The first scores are those
    before all phases.
    """
    matrix = np.array([[mean(test["accuracy"]) for test in one.values()] for one in phases[1:]])
    return float((matrix[:-1, :-1].max(0) - matrix[-1, :-1]).mean())


def documents(runs: list[Record], part: str) -> np.ndarray:
    """Bits of held-out text: [seed, document]."""
    scores = [run["phases"][-1] if part == "on" else run["off"] for run in runs]
    return np.array([one[HELD_OUT]["bits"] for one in scores], float)


def claims(scale: Scale, runs: list[Record]) -> str:
    """A difference is that of what the claim says is worse, less what it says is better."""
    lines = []
    for better, worse in CLAIMS:
        one, two = of(runs, "text", better), of(runs, "text", worse)
        if one and len(one) == len(two):
            difference = documents(two, "on") - documents(one, "on")
            lines.append([f"{better} has fewer bits than {worse}", *judged(scale, difference)])
    for name in INNER:
        if found := of(runs, "text", name):
            difference = documents(found, "off") - documents(found, "on")
            lines.append(
                [f"{name}: its inner learning lowers the bits", *judged(scale, difference)]
            )
    return table("Claims", ["claim", "difference, 99 %", "verdict"], lines)


def judged(scale: Scale, differences: np.ndarray) -> list[str]:
    """Nothing that a quick run says can be told from it; nor where a score is no number."""
    if np.isnan(differences).any():
        return ["-", TOO_SMALL]
    low, high = interval(differences)
    found = verdict(low, high) if scale == FULL else TOO_SMALL
    return [f"{differences.mean():.3f} ({low:.3f} to {high:.3f})", found]


def failures(kept: list[Record]) -> str:
    lines = [
        [record["task"], record["system"], str(record["rate"]), record["failed"].splitlines()[0]]
        for record in kept
        if "failed" in record
    ]
    columns = ["task", "system", "rate", "what was said"]
    return table("Runs that did not work", columns, lines) if lines else ""


def write() -> None:
    PAGE.write_text(page(read()), encoding="utf-8")
