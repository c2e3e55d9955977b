"""Finds the diagnostics of a text that is refused."""

from __future__ import annotations

import re
from pathlib import Path

from nldsl.diagnostic import Diagnostic, Diagnostics
from nldsl.pipeline import load_text

ERRORS = Path(__file__).parent / "errors"


FIXTURES = sorted(ERRORS.glob("*.nl"))


def findings(
    text: str, name: str = "spec.nl", sets: dict[str, str] | None = None
) -> tuple[Diagnostic, ...]:
    """What is said of a text: errors that are raised, or warnings and notes that a program
    keeps.
    """
    try:
        return load_text(text, name, sets).findings
    except Diagnostics as found:
        return found.diagnostics


def codes(text: str) -> list[str]:
    return [diagnostic.code for diagnostic in findings(text)]


def settings(text: str) -> dict[str, str]:
    """Of a fixture whose comments hold `--set name=value`."""
    return dict(re.findall(r"^# --set (\S+)=(\S+)$", text, re.MULTILINE))
