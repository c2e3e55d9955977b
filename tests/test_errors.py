"""Every code has a smallest offender in errors/ and the exact message; every explanation's snippets
do what it says.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from offenders import ERRORS, FIXTURES, codes, findings, settings

from nldsl.diagnostic import Diagnostics, render
from nldsl.explanation import explanations, near
from nldsl.pipeline import load_text


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_message(path: Path, golden) -> None:
    text = path.read_text(encoding="utf-8")
    found = findings(text, path.name, settings(text))
    assert path.name[:4] in {diagnostic.code for diagnostic in found}
    golden(path.with_suffix(".err"), render(found))


@pytest.mark.parametrize(
    "code", [code for code, explained in explanations().items() if explained.wrong]
)
def test_explanation_is_true(code: str) -> None:
    explained = explanations()[code]
    assert code in codes(explained.wrong)
    assert explained.right and code not in codes(explained.right)
    assert [found.code for found in findings(explained.right) if found.severity == "error"] == []


SOURCES = sorted((Path(__file__).parents[1] / "nldsl").rglob("*.py"))
EXAMPLES = (
    Path(__file__).parents[1] / "grammar" / "syntax_errors.nl"
)  # mistakes of syntax are told by example
CODES = sorted(
    {
        code
        for path in SOURCES
        for code in re.findall(r'"(N\d\d\d)"', path.read_text(encoding="utf-8"))
    }
    | set(re.findall(r"\bN0\d\d\b", EXAMPLES.read_text(encoding="utf-8")))
)
# A fixture of these would be a very long file, or a place, a run or a machine; they are tested
# where they arise.
ELSEWHERE = ("N007", "N213", "N7", "N8")


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_explained_and_shown(code: str) -> None:
    assert code in explanations()
    assert code.startswith(ELSEWHERE) or any(path.name.startswith(code) for path in FIXTURES)


def test_families() -> None:
    """At least three codes in each family, and nothing is explained that cannot be met."""
    shown = {path.name[:4] for path in FIXTURES}
    assert len(shown) >= 25
    for family in ("N0", "N1", "N2", "N3", "N4", "N5", "N6"):
        assert len([code for code in shown if code.startswith(family)]) >= 3, family
    assert set(explanations()) <= set(CODES)


def test_five_mistakes_in_one_pass() -> None:
    """Each is found whatever the others are; the message of all five is a golden too."""
    text = (ERRORS / "N305_five_mistakes.nl").read_text(encoding="utf-8")
    assert {found.code for found in findings(text) if found.severity == "error"} == {
        "N305",
        "N301",
        "N510",
        "N511",
        "N611",
    }


def test_explanations_print() -> None:
    assert near("n31") == [] or all(code in explanations() for code in near("n31"))
    assert "N013" in near("N0133")
    for code, explained in explanations().items():
        assert str(explained).startswith(f"{code}: ") and explained.why


def test_each_message_has_its_source() -> None:
    assert [
        path.name for path in ERRORS.glob("*.err") if not path.with_suffix(".nl").exists()
    ] == []


def test_colours_change_no_word() -> None:
    with pytest.raises(Diagnostics) as found:
        load_text("nldsl 1\nx = a < b\n", "spec.nl")
    coloured = render(found.value.diagnostics, color=True)
    assert "\x1b[" in coloured
    plain = "".join(
        part.partition("m")[2] if n else part for n, part in enumerate(coloured.split("\x1b["))
    )
    assert plain == render(found.value.diagnostics)
