"""Every code has a smallest offender in errors/ and the exact message; every explanation's snippets do what it says."""
from __future__ import annotations

from pathlib import Path

import pytest

from nldsl.diagnostic import Diagnostics, render
from nldsl.explanation import explanations, near
from nldsl.pipeline import load_text

ERRORS = Path(__file__).parent / "errors"
FIXTURES = sorted(ERRORS.glob("*.nl"))


def codes(text: str, name: str = "spec.nl") -> list[str]:
    try:
        load_text(text, name)
    except Diagnostics as found:
        return [diagnostic.code for diagnostic in found.diagnostics if diagnostic.severity == "error"]
    return []


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_message(path: Path, golden) -> None:
    with pytest.raises(Diagnostics) as found:
        load_text(path.read_text(encoding="utf-8"), path.name)
    assert path.name[:4] in {diagnostic.code for diagnostic in found.value.diagnostics}
    golden(path.with_suffix(".err"), render(found.value.diagnostics))


@pytest.mark.parametrize("code", [code for code, explained in explanations().items() if explained.wrong])
def test_explanation_is_true(code: str) -> None:
    explained = explanations()[code]
    assert code in codes(explained.wrong)
    assert explained.right and codes(explained.right) == []


def test_explanations_print() -> None:
    assert near("n31") == [] or all(code in explanations() for code in near("n31"))
    assert "N013" in near("N0133")
    for code, explained in explanations().items():
        assert str(explained).startswith(f"{code}: ") and explained.why


def test_each_message_has_its_source() -> None:
    assert [path.name for path in ERRORS.glob("*.err") if not path.with_suffix(".nl").exists()] == []


def test_colours_change_no_word() -> None:
    with pytest.raises(Diagnostics) as found:
        load_text("nldsl 1\nx = a < b\n", "spec.nl")
    coloured = render(found.value.diagnostics, color=True)
    assert "\x1b[" in coloured
    plain = "".join(part.partition("m")[2] if n else part for n, part in enumerate(coloured.split("\x1b[")))
    assert plain == render(found.value.diagnostics)
