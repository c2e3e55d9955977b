"""The level table, the retention and the transfer that are computed of a program: the tables of
shipped specs as goldens, and single statements of the papers as facts.
"""

from __future__ import annotations

import io
import re
from functools import cache
from itertools import zip_longest
from pathlib import Path

import pytest
from family import shallow
from family import shipped as program
from rich.console import Console

from nldsl.core.program import Program
from nldsl.pipeline import compile_program, load_text
from nldsl.testing.properties import over
from nldsl.testing.renaming import renamed
from nldsl.view.boxes import Box, boxes
from nldsl.view.families import family_graph
from nldsl.view.folding import anywhere, broken, folded, relative, shown
from nldsl.view.level_table import levels_table, levels_text
from nldsl.view.mermaid import mermaid
from nldsl.view.report import lowering_table, timetable_table

ROOT = Path(__file__).parent.parent
EXAMPLES = {path.stem: path for path in sorted((ROOT / "examples").glob("*.nl"))}


@cache
def view(name: str) -> list[tuple[tuple[str, ...], Box]]:
    return boxes(program(name))


def box(name: str, ending: str) -> Box:
    """The box with a member of this name."""
    return next(
        found
        for names, found in view(name)
        if found.kind != "layer" and any(own.endswith(ending) for own in names)
    )


# ---- goldens


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_level_table(name: str, golden) -> None:
    golden(ROOT / "tests" / "golden" / name / "levels.txt", levels_text(program(name)))


def test_the_table_of_a_terminal(golden) -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(levels_table(program("hope")))
    golden(ROOT / "tests" / "golden" / "hope" / "table.txt", out.getvalue())


@pytest.mark.parametrize("name", ["titans", "hope_attention", "transfer_nonparametric"])
def test_pictures_show_what_the_table_lists(name: str) -> None:
    graph = family_graph(program(name))
    text = mermaid(graph)
    assert {folded(names) for names, found in view(name) if found.kind != "layer"} | set(
        program(name).inputs
    ) == set(graph.nodes)
    for node, data in graph.nodes(data=True):
        assert node in text and ("non-parametric" in text or data["kind"] != "attention")
    assert {data["kind"] for _, _, data in graph.edges(data=True)} <= set(
        re.findall(r'-->\|"([a-z-]+)', text)
    )


# ---- what the paper says


def test_retention_is_what_the_papers_print() -> None:
    assert box("titans", "recall").retention == ("1 - forget",)  # 2501.00663v1, Eq. 13
    assert box("titans", "recall").chunk == "64 token"  # Eq. 18
    assert box("titans", "velocity").retention == ("decay",)  # Eq. 14
    hope = box("hope", "M_mem.recall")
    assert hope.retention == ("W1: keep", "W2: keep I - rate k k^T")  # 2512.24695v1, Eq. 88
    assert (hope.chunk, hope.bptt, hope.start) == ("64 token", "1 sequence", "learned")
    assert hope.pairs == ("k -> target",)  # Eqs. 84, 85
    assert box("hope", "M_k.recall").chunk == "16 token"
    assert box("hope", "ffn[16]").frequency == "1/16 per step"
    assert "generation: k of M_k.recall" in hope.transfer  # Eq. 83

    assert box("gated_deltanet", "recall").retention == (
        "alpha (alpha (I - beta k k^T) counting the gradient's own pull)",
    )  # 2412.06464, Eq. 10
    assert box("deltanet", "recall").retention == (
        "1 (I - beta k k^T counting the gradient's own pull)",
    )  # 2406.06484, Eq. 1
    memora = box("memora", "recall")
    assert memora.step == ("-rate grad(W@chunk)",) and all(
        "keep log(" in line for line in memora.retention
    )  # 2504.13173v1, Eq. 27
    assert all("KL: sums to 1 along" in line for line in memora.geometry)
    moneta = box("moneta", "recall")
    assert any(
        "its own norm to the power -2" in line for line in moneta.geometry
    )  # Eq. 24: |A|_4^(4 - 2)
    lact = box("lact", "recall")
    assert lact.retention == ("1",) or all(
        line.endswith("1") for line in lact.retention
    )  # 2505.23884: no decay,
    assert all("fixed norms along" in line for line in lact.geometry)  # Eqs. 8, 9: but old norms
    delta = box("optimizer_delta_momentum", "attention.linear]")
    assert delta.retention == (
        "0.9 (0.9 I - 0.2 g^T g counting the gradient's own pull)",
    )  # 2512.24695v1, Eq. 49
    assert box("optimizer_m3", "slow").frequency == "1/4 per step"  # Alg. 1


LEVELS = {
    "mlp_gd": 1,
    "mlp_momentum": 2,
    "linear_attention_gd": 2,
    "linear_attention_momentum": 3,
    "adam": 2,
    "softmax_attention": 2,
    "transformer": 2,
    "adatransformer": 2,
}


@pytest.mark.parametrize("name", LEVELS)
def test_a_decomposition_has_the_levels_of_the_paper(name: str) -> None:
    """2512.24695v1, sec. 3.1."""
    assert len({found.rank for _, found in view(f"decomposition_{name}")}) == LEVELS[name]
    assert (
        box(f"decomposition_{name}", "training").rank == LEVELS[name] - 1
    )  # the slowest: it trains all the rest


def test_problems_are_those_of_the_paper() -> None:
    layer = next(
        found
        for _, found in view("decomposition_mlp_gd")
        if found.kind == "layer" and found.objective == ("W x",)
    )
    assert layer.pairs == ("tanh(x) -> dL/dy",)  # Eqs. 7, 8: input -> local error
    assert layer.solves == ("<W x, dL/dy> + |W - W_t|^2 / (2 2)",)  # Eq. 9
    velocity = box("decomposition_mlp_momentum", "velocity")
    assert (velocity.pairs, velocity.objective) == (("g (no value)",), ("-<m, g>",))  # Eqs. 12, 13
    assert box("decomposition_mlp_momentum", "training").step == ("-m",)  # Eq. 10
    recall = box("decomposition_linear_attention_gd", "recall")
    assert recall.pairs == ("k -> v",) and recall.solves == (
        "-<M * k, v> + |M - M_t|^2 / 2",
    )  # Eq. 16
    first, second = (box("decomposition_adam", name) for name in ("first", "second"))
    assert first.rank == second.rank and second.pairs == (
        "1 -> g^2",
    )  # App. B: neither needs the other
    attend = box("decomposition_softmax_attention", "attend")
    assert (attend.frequency, attend.pairs, attend.step) == (
        "infinite",
        ("k -> v",),
        ("none: solved at each read",),
    )  # Eq. 62
    plain, ada = (
        box(f"decomposition_{name}", "recall") for name in ("transformer", "adatransformer")
    )
    assert (plain.start, ada.start) == ("0", "learned") and plain.solves == ada.solves
    assert set(ada.transfer) - set(plain.transfer) == {
        "initialisation: M of training, bptt 1 sequence"
    }  # Eqs. 28, 69


TRANSFERS = {
    "direct": ("training", "direct: M of fast"),
    "nonparametric": ("training", "non-parametric: its pairs of attend"),
    "backpropagation": ("training", "backpropagation: F of slow, bptt 1"),
    "initialisation": ("fast", "initialisation: M of training, bptt 16 token"),
    "generation": ("taker", "generation: k, rate of giver"),
}


@pytest.mark.parametrize("name", TRANSFERS)
def test_each_kind_of_transfer_is_seen(name: str) -> None:
    """2512.24695v1, sec. 3.3."""
    taker, line = TRANSFERS[name]
    assert line in box(f"transfer_{name}", taker).transfer


def test_order_is_that_of_the_paper() -> None:
    ranks = {
        name: found.rank
        for names, found in view("hope")
        if found.kind == "memory"
        for name in names
    }
    block = "loss.layer[0]."
    fast = [
        f"{block}self_modifying_titans.{name}.recall"
        for name in ("M_k", "M_v", "M_eta", "M_alpha", "M_mem")
    ]
    assert len({ranks[name] for name in fast}) == 1  # computed side by side: one level
    assert (
        ranks[f"{fast[0]}.S.velocity"]
        < ranks[fast[0]]
        < ranks["training.adamw.adam.moments"]
        < ranks["training"]
    )
    assert (
        ranks["training"]
        == ranks[f"{block}continuum.ffn[1]"]
        < ranks[f"{block}continuum.ffn[4]"]
        < ranks[f"{block}continuum.ffn[64]"]
    )


# ---- laws

WORDS = {
    "grad",
    "mean",
    "sum",
    "exp",
    "log",
    "sqrt",
    "softmax",
    "sigmoid",
    "silu",
    "gelu",
    "min",
    "max",
    "I",
    "T",
    "over",
    "period",
    "of",
    "the",
    "next",
    "Euclidean",
    "by",
    "equation",
    "none",
    "nothing",
}


def structure(program: Program) -> list[tuple[object, ...]]:
    """Boxes with a mark in the place of every name."""

    def masked(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            sorted(
                re.sub(
                    r"[A-Za-z_]\w*",
                    lambda word: word[0] if word[0] in WORDS else "_",
                    re.sub(r"\{[^}]*\}", "_", text),
                )
                for text in texts
            )
        )

    return sorted(
        (
            b.rank,
            b.kind,
            len(names),
            b.frequency,
            b.numbers,
            len(b.pairs),
            masked(b.retention),
            masked(b.geometry),
            tuple(sorted(line.partition(":")[0] for line in b.transfer)),
            b.bptt == "1",
        )
        for names, b in boxes(program)
    )


@pytest.mark.parametrize("name", ["titans", "hope"])
def test_names_change_nothing_but_names(name: str) -> None:
    text = EXAMPLES[name].read_text(encoding="utf-8")
    assert structure(load_text(renamed(text), "renamed.nl")) == structure(program(name))


@over(15)
def test_any_program_has_a_table(subject, drawn) -> None:
    text = levels_text(subject.program)
    levels = [name for name, level in subject.program.levels.items()]
    assert sum(
        found.kind == "memory" and len(names) for names, found in boxes(subject.program)
    ) == len(levels)
    assert "minimises" in text and max(map(len, text.splitlines())) < 400


def test_many_names_as_one() -> None:
    names = [f"layer[{i}].mix.{k}" for i in range(3) for k in "kv"]
    assert folded(names) == "layer[0..2].mix.{k, v}"
    assert folded(names[1:]) == "layer[0].mix.v and 4 alike"  # no product: not said as one
    assert folded(["velocity[loss.x]", "velocity[loss.y.q]"]) == "velocity[loss.x, loss.y.q]"
    assert (
        relative("layer[3].mix.k.box", "layer[3].mix.v.box") == "k.box"
        and relative("training.adam", "training") == "adam"
    )
    assert anywhere("layer[2].mix.k", "layer[3].mix.v") == "layer[*].mix.k"


# ---- eighty columns


@pytest.mark.parametrize("name", EXAMPLES)
def test_tables_fit_eighty_columns_and_say_all(name: str) -> None:
    text = shallow(EXAMPLES[name].read_text(encoding="utf-8"), 2)
    fits_and_says_all(load_text(text, f"{name}.nl", search=[ROOT / "examples"]))


@pytest.mark.soak
@pytest.mark.parametrize("name", EXAMPLES)
def test_tables_of_examples_at_their_sizes_fit_eighty_columns(name: str) -> None:
    fits_and_says_all(program(name))


def fits_and_says_all(made: Program) -> None:
    step = compile_program(made, capture="eager")
    said = ""
    for table in (levels_table(made), timetable_table(step), lowering_table(step)):
        console = Console(file=io.StringIO(), width=80)
        console.print(table)
        lines = console.file.getvalue().splitlines()
        assert max(map(len, lines)) <= 80 and "…" not in console.file.getvalue()
        said += "".join(cells(lines))
    for names, found in boxes(made):
        for text in (
            ()
            if found.kind == "layer"
            else (
                found.clock,
                found.frequency,
                found.chunk,
                found.bptt,
                found.start,
                *found.memory,
                *found.pairs,
                *found.objective,
                *found.retention,
                *found.step,
                *found.transfer,
                f"{found.numbers:,}",
            )
        ):
            assert squeezed(text) in said, text
        assert found.kind == "layer" or squeezed(shown(names)) in said
    for text in step.emitted.lowering.values():
        assert squeezed(text) in said, text


def cells(lines: list[str]) -> list[str]:
    """What stands in each cell, lines of a cell joined, without spaces."""
    rows: list[list[str]] = [[]]
    for line in lines:
        if line[:1] == "│":
            rows[-1] = [
                a + squeezed(b)
                for a, b in zip_longest(rows[-1], line.strip("│").split("│"), fillvalue="")
            ]
        else:
            rows.append([])
    return [cell for row in rows for cell in row]


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_narrow_terminal_folds_and_cuts_nothing(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    console.print(levels_table(program("titans")))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= min(width, 80)
    assert "keeps1-forget" in "".join(cells(lines)) and "min|M(k)-v|^2" in "".join(cells(lines))


def test_names_break_after_dots() -> None:
    assert broken("layer[0..5].mixer.recall", lambda line: len(line) <= 18) == [
        "layer[0..5].mixer.",
        "recall",
    ]
    assert broken("velocity[0.5].m and 3 alike", lambda line: len(line) <= 15) == [
        "velocity[0.5].m",
        "and 3 alike",
    ]
    assert broken("unbreakable_name", lambda line: len(line) <= 4) == ["unbreakable_name"]
