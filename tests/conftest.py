"""Goldens, the log of long runs, and what all tests share.

A golden is a file beside the tests that holds an exact output. `pytest --update-golden` writes what
came out; the change is then read as a diff.
"""

from __future__ import annotations

import gc
import os
import platform
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
os.environ["NLDSL_LAWS"] = "1"  # every stage is held to its laws


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the outputs that goldens are compared with",
    )
    parser.addoption(
        "--soak-log",
        type=Path,
        help="append the outcome of each test that takes hours to this file",
    )


def pytest_collection_finish() -> None:
    """What was imported stays: to look for garbage in it again and again takes a tenth of the
    time.
    """
    gc.freeze()


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


def machine() -> str:
    """What a number in the log was measured on."""
    commit = (
        subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip()
        or "no checkout"
    )
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {len(os.sched_getaffinity(0))} cores"
    )
    return f"{commit}; {device}; Python {platform.python_version()}, torch {torch.__version__}"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """One line a test, with what it recorded by `record_property`; parts of one test share a
    line.
    """
    log: Path | None = config.getoption("--soak-log")
    if not log or hasattr(config, "workerinput"):  # of several processes the first one writes
        return
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if "soak" in report.keywords and report.when == "call"
    ]
    rows: dict[tuple[str, str], list[pytest.TestReport]] = {}
    for report in reports:
        rows.setdefault((report.nodeid.partition("[")[0], report.outcome), []).append(report)
    with log.open("a", encoding="utf-8") as lines:
        lines.write(f"\n## {date.today()}: {machine()}\n\n")
        for (name, outcome), parts in rows.items():
            found = "; ".join(
                dict.fromkeys(
                    f"{key} {value}" for part in parts for key, value in part.user_properties
                )
            )
            count = f" x {len(parts)}" if len(parts) > 1 else ""
            lines.write(
                f"- `{name}`{count} {outcome} in {sum(part.duration for part in parts):.0f} "
                f"s{': ' + found if found else ''}\n"
            )
