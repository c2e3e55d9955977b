"""The rules on programs that obey them, and where a finding must not be made."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from offenders import ERRORS, findings, settings

from nldsl.core.program import Clock
from nldsl.frontend.parse import parse
from nldsl.graph.desugar import elaborate
from nldsl.pipeline import STANDARD, load, load_text
from nldsl.rules import RULES
from nldsl.rules.clocks import harmonic, tick_kinds
from nldsl.source import Source

EXAMPLES = Path(__file__).parents[1] / "examples"

RECALL = """nldsl 1
import layers, optimizers
dim e = 4
clock near = 4 token
input k: [e]
input v: [e]
level recall every token {
    memory M: [e, e] = 0
    context k, v
    minimize |M * k - v|^2
    M <- M - 0.1 * grad(M)
}
y = recall.M * k
"""


def codes(text: str) -> set[str]:
    return {found.code for found in findings(text)}


def test_the_smallest_level_is_right() -> None:
    assert findings(RECALL) == ()


@pytest.mark.parametrize("name", ["titans", "hope", "hope_ablation", "cms", "cms_tokens"])
def test_examples_earn_no_warning(name: str) -> None:
    """Those that are meant are said to be: Hope's window of 4 is narrower than its chunks."""
    text = (EXAMPLES / f"{name}.nl").read_text(encoding="utf-8")
    program = load(EXAMPLES / f"{name}.nl")
    assert [found.code for found in program.findings if found.severity != "note"] == []
    meant = set(re.findall(r"meant: (N\d\d\d)", text))
    said = {found.code for found in findings(text.replace("meant:", ""))}
    assert {code for code in said if code in ("N119", "N405")} == meant


def test_a_comment_says_that_a_warning_is_meant_and_no_error() -> None:
    stale = RECALL.replace("y = recall.M * k", "y = recall.M@near * k  # ")
    assert codes(stale) == {"N405"} == codes(f"{stale.rstrip()} meant: N404\n")
    assert codes(f"{stale.rstrip()} meant: N404, N405\n") == set()
    assert "N101" in codes(RECALL + "z = nowhere  # meant: N101\n")


def shown(rule: Callable[..., object]) -> set[str]:
    """The codes beside the offenders in a rule's docstring."""
    return set(re.findall(r"# (N\d\d\d)", inspect.getdoc(rule) or ""))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_finds_what_its_docstring_shows(rule: Callable[..., object]) -> None:
    """In the smallest offenders, and in no program that is right."""
    assert shown(rule)
    for code in shown(rule):
        found: set[str] = set()
        for path in ERRORS.glob(f"{code}_*.nl"):
            text = path.read_text(encoding="utf-8")
            source = Source(path.name, text)
            program = elaborate(parse(source), source, sets=settings(text), search=[STANDARD])
            found |= {finding.code for finding in rule(program)}
        assert code in found
    assert [finding.code for finding in rule(load_text(RECALL))] == []


def test_a_check_changes_nothing() -> None:
    """Rules only look: checked twice, a program says the same."""
    program = load_text(RECALL.replace("y = recall.M * k", "y = recall.M@near * k"))
    assert (
        [found.code for rule in RULES for found in rule(program)]
        == [found.code for found in program.findings]
        == ["N405"]
    )


def test_every_finding_has_a_place_and_a_remedy() -> None:
    for path in (Path(__file__).parent / "errors").glob("N[3-6]*.nl"):
        for found in findings(path.read_text(encoding="utf-8")):
            assert found.span is not None, path.name
            assert found.help, (path.name, found.code)


@pytest.mark.parametrize(
    "change, code",
    [
        (("grad(M)", "grad(M@near)"), None),  # a gradient at a held value is still one of M
        (("k, v\n", "v, k\n"), None),
        (("context k, v", "context k"), "N610"),
        (("- v|^2", "- 1|^2"), "N611"),
        (("M * k - v", "M@near * k - v"), "N511"),
        (("every token", "every 4 token"), "N301"),
        (("every token", "every near"), "N301"),
        (("- v|^2", "- M * v|^2"), "N508"),
        (("- v|^2", "- M@near * v|^2"), None),
        (("    M <-", "    reset every 3 near\n    M <-"), None),
        (("    M <-", "    reset every document\n    M <-"), "N308"),
        (("    M <-", "    reset every 3 near\n    bptt 4 near\n    M <-"), "N306"),
        (("    M <-", "    reset every 3 near\n    bptt 2 near\n    M <-"), None),
        (("    M <-", "    reset never\n    bptt 400 near\n    M <-"), None),
        (("y = recall.M", "y = recall.M@after"), None),
        (("- v|^2", "- next(v)|^2"), None),
        (("y = recall.M * k", "y = recall.M * next(k)"), "N404"),
        (("y = recall.M * k", "y = k"), "N613"),
    ],
)
def test_a_word_changed(change: tuple[str, str], code: str | None) -> None:
    text = RECALL.replace(*change)
    assert text != RECALL
    assert codes(text) - {"N405"} == ({code} if code else set())  # a slower memory is a stale one


def test_windows_of_faster_streams() -> None:
    slow = RECALL.replace("every token", "every near").replace(
        "grad(M)", "sum(grad(M) over period)"
    )
    assert codes(slow) == {"N405"}  # the memory itself is 4 tokens old now
    assert codes(
        RECALL.replace("every token", "every near").replace(
            "minimize |M * k - v|^2", "minimize mean(|M * k - v|^2 over period)"
        )
    ) == {"N405"}


def test_an_optimizer_hears_what_its_caller_hears() -> None:
    """The window is missing in the caller, so the caller is told, and the library is not."""
    text = RECALL.replace("every token", "every 4 token").replace(
        "- 0.1 * grad(M)", "+ momentum(grad(M), 0.1, 0.9)"
    )
    found = findings(text)
    assert [one.code for one in found if one.severity == "error"] == ["N301"]
    assert found[0].span is not None and found[0].span.text() == "|M * k - v|^2"


def test_recency_is_measured_along_the_way() -> None:
    stale = RECALL.replace("y = recall.M * k", "y = recall.M@near * (?)")
    assert codes(stale.replace("?", "k")) == {"N405"}
    wide = "\nlevel frozen never { memory W: weights }\n"
    assert codes(stale.replace("?", "conv(k, 3)") + wide) == {"N405"}
    assert codes(stale.replace("?", "conv(k, 4)") + wide) == set()
    assert codes(stale.replace("?", "conv(conv(k, 3), 2)") + wide) == set()
    assert codes(stale.replace("?", "k + attend(k, k -> k over sequence)")) == set()
    assert codes(stale.replace("?", "k + recall.M@after * k")) == set()


ERASE = RECALL.replace(
    "    context k, v\n    minimize |M * k - v|^2\n    M <- M - 0.1 * grad(M)", "    M <- ?"
)


@pytest.mark.parametrize(
    "key, update, told",
    [
        ("k", "M * (I - 0.5 * u * u^T)", True),
        ("unit(k)", "M * (I - 0.5 * u * u^T)", False),
        ("k / (|k| + 1e-6)", "M * (I - 0.5 * u * u^T)", False),
        ("softmax(k)", "M * (0.9 * I - 0.5 * u * u^T)", False),
        ("standardise(k)", "M * (I - 0.5 * u * u^T)", True),
        ("k", "M * (I - 0.5 / (1 + 0.5 * |u|^2) * u * u^T)", False),
        ("k", "M - 0.5 * u * u^T", False),
    ],
)
def test_erase(key: str, update: str, told: bool) -> None:
    assert (
        "N509" in codes(ERASE.replace("?", update).replace("input v", f"u = {key}\ninput v"))
    ) == told


def test_what_a_library_is_not_blamed_for() -> None:
    """momentum's context is a constant here; the same text called with a gradient shows that the
    library is right.
    """
    text = RECALL.replace("- 0.1 * grad(M)", "+ momentum(grad(M), 0.1, 0)")
    assert not findings(text)


@pytest.mark.parametrize(
    "change",
    [
        (("recall.M * k", "recall.M@doc * k"),),
        (("recall.M * k", "sum(k over doc)"),),
        (("recall.M * k", "k@doc"),),
        (("recall.M * k", "attend(k, k -> v over doc)"),),
        (("    M <-", "    bptt 2 document\n    M <-"),),
        (("    M <-", "    reset every document\n    M <-"),),
        (("every token {", "every document {"),),
    ],
)
def test_a_table_of_numbers_has_no_documents(change: tuple[tuple[str, str], ...]) -> None:
    """Whatever counts documents: trained on numbers, it would run as if none ever ended."""
    text = RECALL.replace("clock near = 4 token", "clock near = 4 token\nclock doc = 1 document")
    for old, new in change:
        assert old in text
        text = text.replace(old, new)
    assert "N308" in codes(text)
    assert "N308" not in codes(text.replace("input v", "input ids: index(5)\ninput v"))


@pytest.mark.parametrize(
    "reset, told", [("sequence", False), ("8 token", False), ("document", True), ("step", False)]
)
def test_a_copy_at_documents_is_the_start_where_the_memory_restarts_with_them(
    reset: str, told: bool
) -> None:
    text = RECALL.replace("clock near = 4 token", "clock doc = 1 document\ninput ids: index(5)")
    text = text.replace("    M <-", f"    reset every {reset}\n    M <-").replace(
        "recall.M * k", "recall.M@doc * k"
    )
    assert ("N313" in codes(text)) == told


def test_kinds_of_steps() -> None:
    clocks = [Clock("step", n) for n in (1, 4, 16, 64)]
    assert len(tick_kinds(clocks, 64)) == 4
    assert len(tick_kinds([Clock("step", n) for n in (2, 3, 5, 7)], 210)) == 16
    assert harmonic([2, 3, 5, 7]) == [2, 4, 4, 8]


def test_a_chain_of_definitions_without_end() -> None:
    """As long as a file may be: told, not a crash."""
    chain = "".join(f"x{i} = x{i + 1} + 1\n" for i in range(30_000))
    found = findings("nldsl 1\n" + chain + "input x: [4]\nx30000 = x\ny = x0\n")
    assert {one.code for one in found} <= {"N007", "N213"}
