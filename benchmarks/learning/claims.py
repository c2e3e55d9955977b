"""What the papers claim, and what the records say of each, by the rule of statistics.py."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.learning import paper
from benchmarks.learning.protocol import Record
from benchmarks.learning.runs import (
    HELD_OUT,
    LONGER,
    Score,
    ended,
    forgetting,
    last,
    lengthening,
    newest,
    of,
    throughout,
    without,
)
from benchmarks.learning.scales import FULL, Scale
from benchmarks.learning.statistics import (
    ERRORS,
    NOT_SEEN,
    TOO_SMALL,
    Difference,
    difference,
    verdict,
)
from benchmarks.learning.systems import ABLATIONS, INNER
from benchmarks.learning.tasks.recall import CHANCE

NOT_RUN, NOT_HERE = "*not run yet*", "*no task here*"
BITS, ACCURATE, PLOT = "bits per byte", "accuracy", "a plot"
ASKED = "8 pairs"  # of MQAR, where memories that learn nothing are compared


@dataclass(frozen=True)
class Side:
    system: str
    score: Score
    change: str = ""

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (self.system, self.change)))


@dataclass(frozen=True)
class Pair:
    """Two that are compared; a number in the place of a system is that of chance."""

    task: str
    better: Side | float
    worse: Side | float
    lower: bool = False  # is better

    @property
    def sides(self) -> list[Side]:
        return [side for side in (self.better, self.worse) if isinstance(side, Side)]

    def scores(self, runs: list[Record]) -> tuple[np.ndarray, np.ndarray]:
        """Of the better and of the worse, [seed, document], of the seeds that both have run."""
        found = [of(runs, self.task, side.system, side.change) for side in self.sides]
        seeds = set.intersection(*({run["seed"] for run in one} for one in found))
        values = [
            np.array([side.score(run) for run in one if run["seed"] in seeds], float)
            for side, one in zip(self.sides, found)
        ]
        filled = iter(values)
        both = [
            next(filled) if isinstance(side, Side) else np.full_like(values[0], side)
            for side in (self.better, self.worse)
        ]
        return both[0], both[1]

    def difference(self, runs: list[Record]) -> np.ndarray:
        """Above 0 where the better is better."""
        better, worse = self.scores(runs)
        lead: np.ndarray = worse - better if self.lower else better - worse
        return lead


@dataclass(frozen=True)
class Claim:
    """`kept` may not be below 0 either; `otherwise` says what it is if it is."""

    says: str
    where: str
    printed: str
    pair: Pair
    kept: Pair | None = None
    otherwise: str = ""


@dataclass(frozen=True)
class Judgement:
    verdict: str
    why: str
    means: tuple[float, float] | None = None  # of the better and of the worse
    found: Difference | None = None


def judged(claim: Claim, scale: Scale, records: list[Record]) -> Judgement:
    """`records` are those of the scale."""
    runs, pair = ended(records), claim.pair
    absent = [one for one in pair.sides if not of(runs, pair.task, one.system, one.change)]
    if absent:
        return Judgement(NOT_RUN, missing(pair.task, absent, records))
    better, worse = pair.scores(runs)
    if np.isnan(better - worse).any() or not better.size:
        return Judgement(TOO_SMALL, "a score is no number" if better.size else "no seed of both")
    found = difference(pair.difference(runs))
    told, why = verdict(found), reason(found)
    if claim.kept is not None:
        lost = difference(claim.kept.difference(runs))
        if verdict(lost) == NOT_SEEN:
            told, why = NOT_SEEN, f"{claim.otherwise} {-lost.mean:.3f} ± {lost.error:.3f}"
    if len(better) < scale.seeds:
        told, why = TOO_SMALL, f"{len(better)} of {scale.seeds} seeds"
    if scale != FULL:
        told, why = TOO_SMALL, "a quick run"
    return Judgement(told, why, (float(better.mean()), float(worse.mean())), found)


def missing(task: str, absent: list[Side], records: list[Record]) -> str:
    """Which of them are not run, and which were and did not work."""
    broken = {
        (one["task"], one["system"], one.get("change", "")) for one in records if "failed" in one
    }
    said = {
        side.name: "did not work" if (task, side.system, side.change) in broken else "not run"
        for side in absent
    }
    return "; ".join(f"{name}: {what}" for name, what in said.items())


def reason(found: Difference) -> str:
    """Why the rule says what it says of a difference."""
    if found.low == found.high:
        return "no seed and no document differs" if found.mean == 0 else "all differ alike"
    if found.low <= 0 <= found.high:
        return "the interval holds 0"
    many = abs(found.mean) / found.error
    side = "above" if found.mean > 0 else "below"
    enough = "" if many >= ERRORS else "only "
    return f"{enough}{many:.1f} standard errors {side} 0"


def fewer(better: str, worse: str, where: str, printed: str) -> Claim:
    score = last(HELD_OUT, "bits")
    pair = Pair("text", Side(better, score), Side(worse, score), lower=True)
    return Claim(f"{better} has fewer {BITS} than {worse}", where, printed, pair)


def longer(better: str, worse: str, where: str, printed: str) -> Claim:
    pair = Pair("text", Side(better, lengthening), Side(worse, lengthening), lower=True)
    says = f"{better} loses less than {worse} from the first to the eighth length of training"
    return Claim(says, where, printed, pair)


def more(
    task: str,
    score: Score,
    better: str,
    worse: str,
    where: str,
    printed: str,
    kind: str = "",
) -> Claim:
    return Claim(
        f"{kind}{better} is right more often than {worse}",
        where,
        printed,
        Pair(task, Side(better, score), Side(worse, score)),
    )


def forgets(task: str, worse: str) -> Claim:
    kept = Pair(task, Side("spectrum", newest), Side(worse, newest))
    return Claim(
        f"{task}: spectrum forgets less than {worse}, at no loss of accuracy in the last phase",
        "NL Fig. 6, sec. 7",
        PLOT,
        Pair(task, Side("spectrum", forgetting), Side(worse, forgetting), lower=True),
        kept,
        "at a loss of",
    )


def levels(task: str) -> list[Claim]:
    """Each with one level more than the one before."""
    score = throughout("accuracy")
    changes = ("periods 1", "periods 1 4", "periods 1 4 16", "")
    return [
        Claim(
            f"{task}: {many + 1} levels are right more often at the end than {many}",
            "NL Fig. 7, 8",
            PLOT,
            Pair(task, Side("spectrum", score, changes[many]), Side("spectrum", score, one)),
        )
        for many, one in enumerate(changes[:-1], 1)
    ]


def ablated(name: str) -> Claim:
    score = last(HELD_OUT, "bits")
    printed, whole = (paper.ABLATION.get(one, "").partition(" ")[0] for one in (name, "hope_full"))
    return Claim(
        f"{name} has more {BITS} than hope_full",
        "NL Table 6" if printed else "NL Eq. 83",
        f"{printed} to {whole}" if printed else "-",
        Pair("text", Side("hope_full", score), Side(name, score), lower=True),
    )


def learns(name: str) -> Claim:
    return Claim(
        f"{name}: its inner learning lowers the bits",
        "NL sec. 3, 8",
        "-",
        Pair(
            "text",
            Side(name, last(HELD_OUT, "bits")),
            Side(name, without(HELD_OUT, "bits")),
            lower=True,
        ),
    )


def recalls(name: str) -> Claim:
    """Without its inner learning it falls to chance."""
    off = Side(name, without(ASKED, ACCURATE))
    return Claim(
        f"{name}: recalls {ASKED} by its inner learning, and by chance without it",
        "NL sec. 3, 8",
        "-",
        Pair("mqar", Side(name, last(ASKED, ACCURATE)), off),
        Pair("mqar", CHANCE["mqar"], off),
        "without it above chance by",
    )


EVERYWHERE = throughout(ACCURATE)
TOPICS: dict[str, list[Claim]] = {
    "Text at equal parameters": [
        fewer("hope", "titans", "NL Table 2", "18.68 to 20.08"),
        fewer("hope", "gated_deltanet", "NL Table 2, Titans Table 1", "18.68 to 21.18"),
        fewer("hope", "transformer", "NL Table 2", "18.68 to 24.18"),
        fewer("titans", "gated_deltanet", "Titans Table 1", "20.04 to 21.18"),
        fewer("titans", "ttt_linear", "NL Table 2", "20.08 to 24.17"),
        fewer("titans", "transformer", "NL Table 2", "20.08 to 24.18"),
        fewer("atlas", "titans", "Atlas Table 2", "18.92 to 20.04"),
        fewer("gated_deltanet", "gla", "Titans Table 1, 340M", "27.01 to 28.51"),
    ],
    "Longer than in training": [
        longer("hope", "transformer", "NL Fig. 9", PLOT),
        longer("titans", "transformer", "NL Fig. 9", PLOT),
        longer("atlas", "transformer", "Atlas, BABILong", PLOT),
        longer("hope", "titans", "NL Fig. 9", PLOT),
    ],
    "Recall: MQAR, all numbers of pairs": [
        more("mqar", EVERYWHERE, "hope", "titans", "NL Table 4, fuzzy", "52.1 to 50.0"),
        more("mqar", EVERYWHERE, "transformer", "hope", "NL Table 3, FDA", "67.3 to 41.9"),
        more("mqar", EVERYWHERE, "titans", "gated_deltanet", "Atlas, MAD", "76.44 to 71.04"),
        more("mqar", EVERYWHERE, "atlas", "titans", "Atlas, MAD", "79.50 to 76.44"),
    ],
    "Needle, four times as long as in training": [
        more(
            "needle", last(f"{kind}, 4 times", ACCURATE), better, worse, where, printed, f"{kind}: "
        )
        for kind, better, worse, where, printed in (
            ("single", "hope", "titans", "NL Table 1, S-NIAH-3 16K", "24.8 to 21.2"),
            ("single", "hope_attention", "transformer", "NL Table 1, S-NIAH-1 16K", "100 to 79.8"),
            ("multi-key", "hope", "titans", "NL Table 1, MK-NIAH-1 16K", "14.8 to 8.2"),
            ("multi-key", "transformer", "hope", "NL Table 1, MK-NIAH-1 16K", "61.4 to 14.8"),
        )
    ],
    "State: words longer than in training, right throughout": [
        more(
            f"formal: {language}",
            last("Bin 1", "exact"),
            "hope",
            worse,
            "NL Table 5, Bin 1",
            printed,
            f"{language}: ",
        )
        for language, worse, printed in (
            ("parity", "transformer", "100 to 0"),
            ("(aa)*", "transformer", "100 to 0"),
            ("(abab)*", "transformer", "100 to 0"),
            ("parity", "gated_deltanet", "100 to 10.1 of DeltaNet"),
        )
    ],
    "Continual learning": [
        *(forgets(task, worse) for task in ("classes", "domains") for worse in ("all_one", "ewc")),
        *(claim for task in ("classes", "domains") for claim in levels(task)),
    ],
    "A memory without an end of its context": [
        Claim(
            "eight texts in a row: titans_carried has fewer bits per byte than titans",
            "NL sec. 6",
            "-",
            Pair(
                "carried",
                Side("titans_carried", last(LONGER, "bits")),
                Side("titans", last(LONGER, "bits")),
                lower=True,
            ),
        )
    ],
    "Each part of Hope helps": [ablated(name) for name in ABLATIONS[1:]],
    "Inner learning matters": [
        *(learns(name) for name in INNER),
        *(recalls(name) for name in INNER),
    ],
}
