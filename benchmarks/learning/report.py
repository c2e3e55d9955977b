"""benchmarks/LEARNING.md and its pictures, from the records alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.learning import paper, tables
from benchmarks.learning.claims import NOT_HERE, NOT_RUN, TOPICS, Claim, Judgement, judged
from benchmarks.learning.plots import PICTURES
from benchmarks.learning.protocol import Record, read
from benchmarks.learning.runs import ended
from benchmarks.learning.scales import FULL, SCALES, Scale
from benchmarks.learning.statistics import NOT_SEEN, RULE, SEEN, TOO_SMALL

PAGE = Path(__file__).parents[1] / "LEARNING.md"
PLOTS = Path(__file__).parent / "plots"
VERDICTS = (SEEN, NOT_SEEN, TOO_SMALL, NOT_RUN, NOT_HERE)


def reported(records: list[Record]) -> tuple[Scale, list[Record]]:
    """The largest scale that has records, and its records."""
    names = {record["scale"] for record in records}
    scale = next(scale for scale in SCALES.values() if scale.name in names)
    return scale, [record for record in records if record["scale"] == scale.name]


def pictures(records: list[Record]) -> dict[str, str]:
    """Name of the file -> SVG."""
    runs = ended(reported(records)[1])
    made = {f"{name}.svg": draw(runs) for name, draw in PICTURES.items()}
    return {name: svg for name, svg in made.items() if svg}


def page(records: list[Record]) -> str:
    scale, kept = reported(records)
    runs, drawn = ended(kept), pictures(records)
    plain = [run for run in runs if not run.get("change")]
    parts = [head(scale, kept), claims(scale, kept), tables.sizes(plain)]
    parts += [tables.text(plain), shown("text", drawn)]
    parts += [tables.positions(plain), shown("lengths", drawn), tables.inner(plain)]
    parts += [tables.ablations(plain), tables.mqar(plain), shown("mqar", drawn)]
    for task in dict.fromkeys(run["task"] for run in plain):
        own = shown(task, drawn) if task not in tables.OWN else ""
        parts += [tables.other(plain, task), own]
    parts += [shown("periods", drawn), shown("levels", drawn)]
    parts += [tables.changes(runs), tables.failures(kept)]
    return "\n".join(part for part in parts if part)


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

{len(kept)} rows on {machines}: {sum(record["seconds"] for record in kept) / 3600:.2f} hours by the
clock, while the machine did other work too. NL is
[arXiv 2512.24695](https://arxiv.org/abs/2512.24695), Titans
[2501.00663](https://arxiv.org/abs/2501.00663), Atlas
[2505.23735](https://arxiv.org/abs/2505.23735).
"""


def shown(name: str, drawn: dict[str, str]) -> str:
    file = f"{name}.svg"
    return f"![{name}](learning/{PLOTS.name}/{file})\n" if file in drawn else ""


def claims(scale: Scale, kept: list[Record]) -> str:
    """A table of verdicts for each topic, and what came of all."""
    found = {
        topic: [(claim, judged(claim, scale, kept)) for claim in every]
        for topic, every in TOPICS.items()
    }
    counts = Counter(one.verdict for every in found.values() for _, one in every)
    counts[NOT_HERE] = len(paper.ELSEWHERE)
    summary = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name])
    parts = [f"## Claims\n\n{counts.total()} claims of the papers: {summary}.\n\n{RULE}"]
    columns = [
        "claim",
        "the paper",
        "here, first to second",
        "difference",
        "99 %",
        "verdict",
        "why",
    ]
    for topic, every in found.items():
        lines = [line(claim, one) for claim, one in every]
        parts.append(tables.table(topic, columns, lines).replace("## ", "### ", 1))
    lines = [[says, where, NOT_HERE, f"needs {what}"] for says, where, what in paper.ELSEWHERE]
    rest = tables.table("Without a task here", ["claim", "the paper", "verdict", "why"], lines)
    return "\n".join([*parts, rest.replace("## ", "### ", 1)])


def line(claim: Claim, one: Judgement) -> list[str]:
    here = "-" if one.means is None else f"{one.means[0]:.3f} to {one.means[1]:.3f}"
    told = [claim.says, f"{claim.where}: {claim.printed}", here]
    return [*told, *tables.both(one.found), one.verdict, one.why]


def write() -> None:
    records = read()
    PAGE.write_text(page(records), encoding="utf-8")
    PLOTS.mkdir(exist_ok=True)
    made = pictures(records)
    for stale in set(PLOTS.glob("*.svg")) - {PLOTS / name for name in made}:
        stale.unlink()
    for name, svg in made.items():
        (PLOTS / name).write_text(svg, encoding="utf-8")
