"""The contributors' page names one file for each task, and shows a row that stands in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent / "language" / "contributing.md"
TASKS = re.findall(
    r"^\| ([^|]+) \| \[[^]]*\]\(([^)]+)\) \| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE
)


@pytest.mark.parametrize(("task", "file", "row"), TASKS, ids=[task for task, _, _ in TASKS])
def test_the_row_stands_in_the_file(task: str, file: str, row: str) -> None:
    assert row in (PAGE.parent / file).read_text(encoding="utf-8")


def test_there_are_ten_tasks_and_more() -> None:
    assert len(TASKS) >= 10 and len({task for task, _, _ in TASKS}) == len(TASKS)
