"""Goldens, and the log of long runs.

A golden is a file beside the tests that holds an exact output. `pytest --update-golden` writes what came out;
the change is then read as a diff.
"""
from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the outputs that goldens are compared with")
    parser.addoption("--soak-log", type=Path, help="append the outcome of each test that takes hours to this file")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compares a text with a file, or writes the file."""
    update = request.config.getoption("--update-golden")

    def compare(path: Path, text: str) -> None:
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        if not path.exists():
            pytest.fail(f"{path} is missing: run pytest --update-golden and read what it writes")
        assert text == path.read_text(encoding="utf-8")

    return compare


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    log: Path | None = config.getoption("--soak-log")
    if not log:
        return
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)
               if "soak" in report.keywords and report.when == "call"]
    with log.open("a", encoding="utf-8") as lines:
        lines.writelines(f"- {date.today()} `{report.nodeid}` {report.outcome} after {report.duration:.0f} s\n" for report in reports)
