"""Counts calls of Python functions: a measure of work that is the same on every machine."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


def counted(work: Callable[[], T], most: int = 10**9) -> tuple[T, int]:
    """What `work` gives, and its calls, those of the threads it starts included.

    More than `most` is an AssertionError.
    """
    count = 0

    def counter(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count
        count += event == "call"
        if count > most:
            raise AssertionError(f"more than {most:,} calls")

    before = sys.getprofile()
    threading.setprofile(counter)
    sys.setprofile(counter)
    try:
        return work(), count
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
