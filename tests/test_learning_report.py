"""The report of benchmarks/learning: what its rule says of differences that are known, and pictures
that can be read.
"""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import numpy as np
import pytest

from benchmarks.learning import charts, report, runs
from benchmarks.learning.charts import DARK, LIGHT, Curve, Scheme, Shades
from benchmarks.learning.claims import NOT_RUN, TOPICS, forgets, judged, learns, recalls
from benchmarks.learning.protocol import RUN, Record
from benchmarks.learning.scales import FULL, QUICK
from benchmarks.learning.statistics import (
    NOT_SEEN,
    SEEN,
    TOO_SMALL,
    Difference,
    error_of,
    interval,
    mean_and_error,
    verdict,
)
from benchmarks.learning.systems import CHANGES, MAIN
from benchmarks.learning.tasks import tasks
from nldsl.view.sketch import measured

SEEDS, DOCUMENTS = 3, 16
SVG = "{http://www.w3.org/2000/svg}"


def made(task: str, system: str, seed: int, phases: list[Record], **more: object) -> Record:
    """A record as a run in full leaves it."""
    about = {"task": task, "system": system, "seed": seed, "scale": FULL.name, "purpose": RUN}
    sizes = {"rate": 0.003, "hidden": 9, "parameters": 500_000, "tokens": 499_712, "seconds": 1.0}
    return about | sizes | {"machine": "0; one", "phases": phases} | more


def draws(*key: int) -> np.ndarray:
    return np.random.default_rng(key).normal(size=DOCUMENTS)


def scores(seed: int, shift: float) -> list[float]:
    """Of documents that differ much, the same for all systems, and a little by the seed."""
    return (3 + draws(0) + 0.01 * draws(1, seed) + shift).tolist()


def of_text(system: str, shift: float, off: float = 1.0, seeds: int = SEEDS) -> list[Record]:
    every = []
    for seed in range(seeds):
        bits = scores(seed, shift)
        places = [bits[0] + n * shift for n in range(8)]
        tests = {"held out": {"bits": bits}, "8 times as long": {"bits": bits, "positions": places}}
        less = {"held out": {"bits": scores(seed + 9, shift + off)}}
        curve = [[62_500 * n, bits[0] + 1 / (1 + n)] for n in range(9)]
        every.append(made("text", system, seed, [tests], off=less, curve=curve))
    return every


def of_classes(system: str, table: list[list[float]]) -> list[Record]:
    """Accuracy [before and after each phase, phase tested]."""
    return [
        made(
            "classes",
            system,
            seed,
            [
                {f"phase {n + 1}": {"accuracy": [x + 0.01 * seed] * 4} for n, x in enumerate(row)}
                for row in table
            ],
        )
        for seed in range(SEEDS)
    ]


def of_mqar(off: float, seeds: int = SEEDS) -> list[Record]:
    return [
        made(
            "mqar",
            "titans",
            seed,
            [{"8 pairs": {"accuracy": [0.9 + 0.01 * seed] * 4}}],
            off={"8 pairs": {"accuracy": [off, 0.0, off + 0.01, off]}},
        )
        for seed in range(seeds)
    ]


def test_statistics_by_hand() -> None:
    assert mean_and_error([1.0, 2.0, 3.0]) == (2.0, pytest.approx(1 / 3**0.5))
    assert interval(np.full((3, 5), 0.25)) == (0.25, 0.25)
    low, high = interval(np.array([[-1.0, 1.0]]))  # both documents alike: one time in four each
    assert (low, high) == (-1, 1)


def test_the_error_of_a_mean_over_seeds_and_documents() -> None:
    """Where only seeds differ it is theirs, where only documents theirs; of both, as often drawn,
    the deviation of the means.
    """
    seeds, documents = np.array([1.0, 2, 3]), np.array([0.0, 1, 2, 5])
    assert error_of(np.tile(seeds[:, None], (1, 4))) == pytest.approx(1 / 3**0.5)
    of_documents = documents.std(ddof=1) / 2
    assert error_of(np.tile(documents, (3, 1))) == pytest.approx(of_documents)
    rng = np.random.default_rng(0)
    drawn = [
        rng.normal(size=(4, 1)) + 2 * rng.normal(size=(1, 9)) + 0.5 * rng.normal(size=(4, 9))
        for _ in range(2000)
    ]
    squares = np.mean([error_of(one) ** 2 for one in drawn])
    assert squares == pytest.approx(np.var([one.mean() for one in drawn]), rel=0.1)
    assert np.isnan(error_of(np.ones((1, 4))))


def test_the_rule_by_hand() -> None:
    """Both the errors and the interval decide; an error that is not known decides nothing."""
    asked = {
        (1, 0.4, 0.1, 2): SEEN,
        (1, 0.6, 0.1, 2): TOO_SMALL,
        (1, 0.4, -0.1, 2): TOO_SMALL,
        (-1, 0.4, -2, -0.1): NOT_SEEN,
        (-1, 0.6, -2, -0.1): TOO_SMALL,
        (1, np.nan, 0.1, 2): TOO_SMALL,
        (0, 0, 0, 0): TOO_SMALL,
    }
    assert {key: verdict(Difference(*key)) for key in asked} == asked


def test_a_claim_is_judged_by_its_records() -> None:
    claim = TOPICS["Text at equal parameters"][0]
    assert claim.says == "hope has fewer bits per byte than titans"
    told = []
    for shift, seeds in ((0.2, 3), (-0.2, 3), (0.0, 3), (0.2, 2)):
        records = [*of_text("hope", 0), *of_text("titans", shift, seeds=seeds)]
        told.append(judged(claim, FULL, records))
    assert [one.verdict for one in told] == [SEEN, NOT_SEEN, TOO_SMALL, TOO_SMALL]
    assert told[0].found and told[0].found.mean == pytest.approx(0.2)
    assert told[0].means and told[0].means[1] - told[0].means[0] == pytest.approx(0.2)
    assert told[3].why == "2 of 3 seeds"
    assert judged(claim, QUICK, [*of_text("hope", 0), *of_text("titans", 1)]).why == "a quick run"


def test_what_is_not_there_is_not_told() -> None:
    claim = TOPICS["Text at equal parameters"][0]
    broken = [one | {"failed": "out of memory"} for one in of_text("titans", 0)]
    told = judged(claim, FULL, [*of_text("hope", 0), *broken])
    assert (told.verdict, told.why) == (NOT_RUN, "titans: did not work")
    told = judged(claim, FULL, of_text("titans", 0))
    assert (told.verdict, told.why, told.found) == (NOT_RUN, "hope: not run", None)
    blank = of_text("hope", 0)
    blank[0]["phases"][0]["held out"]["bits"][0] = None
    told = judged(claim, FULL, [*blank, *of_text("titans", 0)])
    assert (told.verdict, told.why) == (TOO_SMALL, "a score is no number")


LEARNED = [[0.0, 0, 0], [0.9, 0, 0], [0.8, 0.8, 0], [0.7, 0.8, 0.9]]
FORGOT = [[0.0, 0, 0], [0.9, 0, 0], [0.5, 0.8, 0], [0.2, 0.3, 0.9]]


def test_forgetting_less_counts_at_no_loss_of_what_is_new() -> None:
    """By hand: the first falls from 0.9 to 0.7, or to 0.2; the second stays, or falls by 0.5."""
    claim = forgets("classes", "all_one")
    every = [*of_classes("spectrum", LEARNED), *of_classes("all_one", FORGOT)]
    told = judged(claim, FULL, every)
    assert told.verdict == SEEN and told.means == pytest.approx((0.1, 0.6))
    stiff = [[*row[:2], row[2] / 3] for row in LEARNED]
    told = judged(claim, FULL, [*of_classes("spectrum", stiff), *of_classes("all_one", FORGOT)])
    assert told.verdict == NOT_SEEN and told.why.startswith("at a loss of 0.600")


def test_transfer_by_hand() -> None:
    """Before they are trained, the second has gained 0.2, and the third lost 0.1."""
    table = [[0.1, 0.1, 0.2], [0.9, 0.3, 0], [0.6, 0.8, 0.1], [0.4, 0.7, 1]]
    (run, *_) = of_classes("ewc", table)
    assert runs.transfer(run) == pytest.approx([0.05])
    assert runs.forgetting(run) == pytest.approx([0.3])
    assert runs.newest(run) == [1] * 4


def test_inner_learning_is_what_is_lost_without_it() -> None:
    told = [judged(learns("titans"), FULL, of_text("titans", 0, off)) for off in (0.5, -0.5)]
    assert [one.verdict for one in told] == [SEEN, NOT_SEEN]
    chance, above = (judged(recalls("titans"), FULL, of_mqar(off)) for off in (0.01, 0.5))
    assert chance.verdict == SEEN
    assert above.verdict == NOT_SEEN and above.why.startswith("without it above chance by 0.3")


def test_the_report_says_what_it_judged() -> None:
    every = [one for n, name in enumerate(MAIN) for one in of_text(name, 0.1 * n)]
    broken = made("text", "ewc", 0, [], failed="no | memory\nsecond line", change="one layer")
    said = report.page([*every, broken])
    assert "quick runs" not in said
    for claim in TOPICS["Text at equal parameters"]:
        told = judged(claim, FULL, every)
        assert f"| {claim.says} |" in said and f"| {told.verdict} | {told.why} |" in said
    assert "| text | ewc | one layer | 0.003 | no \\| memory |" in said


def changed(share: float) -> list[Record]:
    every = of_classes("spectrum", [[share * x for x in row] for row in LEARNED])
    return [one | {"change": "periods 1"} for one in every]


def test_a_change_stands_beside_its_system() -> None:
    said = report.page([*of_classes("spectrum", LEARNED), *changed(0.5)])
    row = "| classes | spectrum | periods 1 | forgetting | 0.050 ± 0.000 | 0.100 ± 0.000 |"
    assert row in said
    assert said.count("| classes | spectrum | 3 |") == 1, "a change is no run of the system"


# Pictures


def all_systems() -> dict[str, str]:
    return report.pictures(
        [
            *(one for n, name in enumerate(MAIN) for one in of_text(name, 0.003 * n)),
            *of_mqar(0.1),
            *of_classes("all_one", FORGOT),
            *of_classes("spectrum", LEARNED),
            *of_classes("ewc", FORGOT),
            *changed(0.5),
        ]
    )


def boxes(root: Element) -> dict[tuple[str, float, float], tuple[float, float, float, float]]:
    """Left, top, right, bottom of each text."""
    found = {}
    for one in root.iter(f"{SVG}text"):
        x, y, size = (float(one.attrib[name]) for name in ("x", "y", "font-size"))
        wide = measured(one.text or "", size, one.get("font-weight") == "bold")
        left = x - {"start": 0.0, "middle": 0.5, "end": 1.0}[one.attrib["text-anchor"]] * wide
        found[one.text or "", x, y] = left, y - 0.8 * size, left + wide, y + 0.2 * size
    return found


@pytest.mark.parametrize("name", ["text", "lengths", "mqar", "classes", "periods", "levels"])
def test_labels_lie_inside_and_apart(name: str) -> None:
    """In the widest letters that a reader may have."""
    root = fromstring(all_systems()[f"{name}.svg"])
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    found = boxes(root)
    for said, (left, top, right, bottom) in found.items():
        assert 0 <= left and right <= width and 0 <= top and bottom <= height, said
    for (one, a), (other, b) in combinations(found.items(), 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, f"{one} lies on {other}"


def test_each_curve_is_named_at_its_end() -> None:
    root = fromstring(all_systems()["text.svg"])
    named = [one for one in root.iter(f"{SVG}text") if "name" in one.attrib["class"]]
    assert {one.text for one in named} == {*MAIN} and len({one.attrib["y"] for one in named}) == 9
    lines = [*root.iter(f"{SVG}polyline")]
    looks = {(one.attrib["class"], one.get("stroke-dasharray")) for one in lines}
    assert len(lines) == len(looks) == 9
    points = [[*map(float, p.split(","))] for one in lines for p in one.attrib["points"].split()]
    x, y = np.array(points).T
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    assert x.min() >= 0 and x.max() <= width and y.min() >= 0 and y.max() <= height


def test_points_stand_where_their_numbers_are() -> None:
    """Of a straight line, and of a band of one unit."""
    root = fromstring(charts.curves("t", "x", "y", [Curve("one", [(0, 0, 0), (1, 1, 1)], 0)]))
    (line,), (band,) = root.iter(f"{SVG}polyline"), root.iter(f"{SVG}polygon")
    (x0, y0), (x1, y1) = (map(float, p.split(",")) for p in line.attrib["points"].split())
    grid = {one.text: float(one.attrib["y"]) for one in root.iter(f"{SVG}text")}
    assert y0 - y1 == pytest.approx(grid["0.0"] - grid["1.0"], abs=0.2) and x0 < x1
    heights = [float(p.split(",")[1]) for p in band.attrib["points"].split()]
    assert heights[1] - y1 == pytest.approx(y1 - y0, abs=0.2)


def test_shades_are_their_values() -> None:
    tables = [Shades("one", [[0.0, 1.0], [0.5, float("nan")]])]
    root = fromstring(charts.shades("t", ["a", "b"], ["1", "2"], tables))
    cells = [one for one in root.iter(f"{SVG}rect") if one.attrib["class"] == "shade"]
    shares = [float(one.attrib["fill-opacity"]) / charts.SHADE for one in cells]
    assert shares == pytest.approx([0, 1, 0.5, 0])
    assert {"0.00", "1.00", "0.50", "-"} <= {one.text for one in root.iter(f"{SVG}text")}


def luminance(colour: str) -> float:
    """Of #rrggbb, as WCAG 2 has it."""
    parts = np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def over(colour: str, paper: str, share: float) -> str:
    mixed = [
        round(share * int(colour[n : n + 2], 16) + (1 - share) * int(paper[n : n + 2], 16))
        for n in (1, 3, 5)
    ]
    return "#" + "".join(f"{part:02x}" for part in mixed)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_letters_can_be_read_in_light_and_dark(scheme: Scheme) -> None:
    """4.5 to 1, as WCAG 2 asks of text; the picture holds the rules of both."""
    for colour in (scheme.ink, scheme.faint, *scheme.curves):
        assert contrast(colour, scheme.paper) >= 4.5, colour
    assert contrast(scheme.ink, over(scheme.shade, scheme.paper, charts.SHADE)) >= 4.5
    light, dark = re.split(r"@media \(prefers-color-scheme: dark\)", charts.style())
    assert (scheme.paper in light) == (scheme is LIGHT) and (scheme.paper in dark) == (
        scheme is DARK
    )


def test_claims_are_of_what_is_run(tmp_path: Path) -> None:
    """Each reads tests of its task, of systems that the task runs."""
    (tmp_path / "text").write_bytes(bytes(range(97, 123)) * 2000)
    every = {task.name: task for task in tasks(FULL, tmp_path / "text")}
    for claim in (claim for topic in TOPICS.values() for claim in topic):
        for pair in (one for one in (claim.pair, claim.kept) if one is not None):
            task = every[pair.task]
            scored = {"bits": [1.0], "accuracy": [1.0], "exact": [1.0], "positions": [1.0] * 8}
            phases = [dict.fromkeys(task.tests, scored)] * (task.phases + 1)
            for side in pair.sides:
                assert side.system in task.systems
                assert not side.change or side.system in CHANGES[side.change]
                assert side.score(made(task.name, side.system, 0, phases, off=phases[0]))
