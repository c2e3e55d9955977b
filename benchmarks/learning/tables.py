"""The tables of the report: systems in rows, means and standard errors over seeds."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.learning import paper
from benchmarks.learning.claims import ASKED, Pair, Side, ablated, learns, recalls
from benchmarks.learning.protocol import BINS, Record, mean
from benchmarks.learning.runs import (
    HELD_OUT,
    LONGER,
    Score,
    forgetting,
    last,
    newest,
    of,
    systems_of,
    throughout,
    transfer,
    without,
)
from benchmarks.learning.statistics import Difference, difference, mean_and_error
from benchmarks.learning.systems import ABLATIONS, CHANGES, INNER, MAIN
from benchmarks.learning.tasks.recall import CHANCE

MEASURES = {
    "accuracy": "accuracy",
    "exact": "share of words that are right throughout",
    "bits": "bits per byte",
}
OWN = ("text", "mqar")  # tasks with tables of their own


def table(title: str, columns: list[str], lines: list[list[str]], below: str = "") -> str:
    """A heading, a table and what is to be said of it; nothing without lines."""
    if not lines:
        return ""
    rows = [columns, ["---"] * len(columns), *lines]
    said = ["", below] if below else []
    return "\n".join([f"## {title}", "", *(f"| {' | '.join(row)} |" for row in rows), *said, ""])


def said(values: list[float | None]) -> str:
    """Mean and standard error over seeds; a value that is no number makes it a dash."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known or len(known) < len(values):
        return "-"
    middle, error = mean_and_error(known)
    return f"{middle:.3f} ± {error:.3f}"


def scored(runs: list[Record], score: Score) -> str:
    """Over seeds, of the mean over documents."""
    return said([mean(score(run)) for run in runs])


def sizes(runs: list[Record]) -> str:
    lines = []
    for task in dict.fromkeys(run["task"] for run in runs):
        for name in systems_of(runs, task):
            found = of(runs, task, name)
            one, busy = found[0], [run.get("cpu_training") for run in found]
            numbers = [str(one["hidden"]), f"{one['parameters']:,}", f"{one['tokens']:,}"]
            seconds = "-" if None in busy else f"{np.mean([x for x in busy if x is not None]):.0f}"
            lines.append([task, name, str(len(found)), *numbers, str(one["rate"]), seconds])
    columns = ["task", "system", "seeds", "hidden", "parameters", "tokens", "rate", "CPU s"]
    below = """CPU seconds are those that training took on all cores of a machine that other work
shared: they say what was spent, and nothing of speed. `-` is of runs that did not record them."""
    return table("What was run", columns, lines, below)


def text(runs: list[Record]) -> str:
    lines = []
    for name in (name for name in systems_of(runs, "text") if name in MAIN):
        found = of(runs, "text", name)
        bits = [scored(found, last(test, "bits")) for test in (HELD_OUT, LONGER)]
        lines.append([name, *bits, paper.PERPLEXITY.get(name, "-")])
    columns = ["system", "bits per byte", "8 times as long", "in the papers, 760M / 1.3B"]
    below = """In the papers: perplexity of Wikitext, of tokens rather than bytes (NL Table 2; of
gated_deltanet Titans Table 1, of atlas Atlas Table 2)."""
    return table("Held-out text", columns, lines, below)


def positions(runs: list[Record]) -> str:
    lines = []
    for name in (name for name in systems_of(runs, "text") if name in MAIN):
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
        on = [scored(found, last(test, "accuracy")) for test in tests]
        lines.append([name, *on, paper.RECALL.get(name, "-")])
    below = """In the paper: recall in context / of fuzzy keys, in % (NL Table 4, MAD), which are
other tasks."""
    title = f"MQAR: accuracy (chance {CHANCE['mqar']:.3f})"
    return table(title, ["system", *tests, "in the paper"], lines, below)


def compared(runs: list[Record], pair: Pair) -> Difference | None:
    """None without runs of both, or where a score is no number."""
    if not all(of(runs, pair.task, side.system, side.change) for side in pair.sides):
        return None
    found = pair.difference(runs)
    return difference(found) if found.size and not np.isnan(found).any() else None


def both(found: Difference | None) -> list[str]:
    return [str(found), found.interval] if found else ["-", "-"]


def inner(runs: list[Record]) -> str:
    """What is lost where memories of the token clock learn nothing."""
    lines = []
    for name in INNER:
        for task, test, claim in (
            ("text", (HELD_OUT, "bits"), learns(name)),
            ("mqar", (ASKED, "accuracy"), recalls(name)),
        ):
            if found := of(runs, task, name):
                ends = [scored(found, score) for score in (last(*test), without(*test))]
                lines.append([name, f"{task}: {test[1]}", *ends, *both(compared(runs, claim.pair))])
    columns = ["system", "of", "as trained", "inner rate 0", "difference", "99 %"]
    chance = CHANCE["mqar"]
    below = f"""The same weights, scored once more; of MQAR, {ASKED}, where chance is {chance:.3f}.
Differences are paired by seed and document, and above 0 where learning helps."""
    return table("Inner rate 0", columns, lines, below)


def ablations(runs: list[Record]) -> str:
    lines = []
    for name in (name for name in ABLATIONS if of(runs, "text", name)):
        found = both(compared(runs, ablated(name).pair)) if name != ABLATIONS[0] else ["", ""]
        bits = scored(of(runs, "text", name), last(HELD_OUT, "bits"))
        lines.append([name, bits, *found, paper.ABLATION.get(name, "-")])
    columns = ["system", "bits per byte", "more than hope_full", "99 %", "in the paper"]
    below = "In the paper: perplexity / accuracy of reasoning with 1.3B parameters (NL Table 6)."
    return table("Hope without its parts", columns, lines, below)


def other(runs: list[Record], task: str) -> str:
    """Of a task without a table of its own: accuracy or bits at the end; and what was forgotten, if
    it has phases.
    """
    if task in OWN:
        return ""
    names = systems_of(runs, task)
    first = of(runs, task, names[0])[0]["phases"]
    what = measure_of(task)
    printed, below = in_the_paper(task)
    lines = []
    for name in names:
        found = of(runs, task, name)
        line = [scored(found, last(test, what)) for test in first[-1]]
        if len(first) > 1:
            line += [scored(found, one) for one in (throughout(what), forgetting, transfer)]
        lines.append([name, *line, *([printed.get(name, "-")] if printed else [])])
    phases = ["all", "forgetting", "forward transfer"] if len(first) > 1 else []
    columns = ["system", *first[-1], *phases, *(["in the paper"] if printed else [])]
    return table(f"{task}: {MEASURES[what]}", columns, lines, below)


CARRIED = """Each lane reads on where it stopped; in training titans forgets at the end of each
sequence, titans_carried never. Both are scored on one sequence of a text and on eight in a row."""


def measure_of(task: str) -> str:
    if task.startswith("formal"):
        return "exact"
    return "bits" if task == "carried" else "accuracy"


FORGOTTEN = """Forgetting: of each phase but the last, the best accuracy after an earlier phase less
that at the end. Forward transfer: of each phase but the first, the accuracy before it is trained
less that of untrained weights. The paper prints no numbers of its own (NL Fig. 6 is a plot)."""


def in_the_paper(task: str) -> tuple[dict[str, str], str]:
    """Figures by system, and what they are."""
    if task == "needle":
        return paper.NEEDLE, "In the paper: S-NIAH-3; MK-NIAH-1, each 4K / 8K / 16K (NL Table 1)."
    language = task.partition(": ")[2]
    if language in paper.FORMAL:
        return paper.FORMAL[language], "In the paper: Bin 0 / Bin 1, in % (NL Table 5)."
    return {}, CARRIED if task == "carried" else FORGOTTEN


def measured(task: str) -> tuple[str, Score, bool]:
    """What a task is about, for a change: its name, its score, and whether less is better."""
    if task in ("text", "carried"):
        return "bits per byte", last(HELD_OUT, "bits"), True
    if task.startswith(("classes", "domains")):
        return "forgetting", forgetting, True
    return "accuracy", throughout("accuracy"), False


def changes(runs: list[Record]) -> str:
    """Systems that were changed, beside what they are without it."""
    lines = []
    for task in dict.fromkeys(run["task"] for run in runs):
        what, score, lower = measured(task)
        for change, of_each in CHANGES.items():
            for system in (name for name in of_each if of(runs, task, name, change)):
                found = of(runs, task, system, change), of(runs, task, system)
                pair = Pair(task, Side(system, score, change), Side(system, score), lower)
                ends = [scored(one, score) for one in found]
                line = [task, system, change, what, *ends, *both(compared(runs, pair))]
                lines.append(
                    [*line, *([scored(found[0], newest)] if what == "forgetting" else "-")]
                )
    columns = ["task", "system", "change", "of", "changed", "as it is", "better by", "99 %"]
    return table("Changes tried", [*columns, "accuracy in the last phase"], lines)


def failures(kept: list[Record]) -> str:
    lines = [
        [
            record["task"],
            record["system"],
            record.get("change", "") or "-",
            str(record["rate"]),
            record["failed"].partition("\n")[0].replace("|", "\\|"),
        ]
        for record in kept
        if "failed" in record
    ]
    columns = ["task", "system", "change", "rate", "what was said"]
    return table("Runs that did not work", columns, lines)
