"""The source of the runtime functions that an emitted text calls."""

from __future__ import annotations

import inspect
import re
from functools import cache

from nldsl.core import initial
from nldsl.step.runtime import (
    alone,
    arrays,
    attention,
    inner_loop,
    lanes,
    learning,
    ranks,
    recurrence,
    shards,
    tape,
    time,
    vocabulary,
    workers,
)

FILES = (
    *(arrays, vocabulary, time, attention, recurrence, inner_loop, lanes, learning),
    *(ranks, shards, workers, tape, alone),
)


@cache
def library() -> dict[str, str]:
    """Name -> source of each function, or record, that can be copied, in the order of the files."""
    return {
        "normal": inspect.getsource(initial.normal),
        **{
            name: inspect.getsource(f)
            for file in FILES
            for name, f in vars(file).items()
            if (inspect.isfunction(f) or inspect.isclass(f)) and f.__module__ == file.__name__
        },
    }


def copied(text: str, present: str = "") -> str:
    """Source of the functions that the text calls, and of those that they call, but for those that
    `present` defines.
    """
    wanted: list[str] = []
    frontier = [text]
    while frontier:
        source = frontier.pop()
        for name in called(source):
            if name not in wanted:
                wanted.append(name)
                frontier.append(library()[name])
    return "\n\n".join(
        library()[n]
        for n in library()
        if n in wanted and not re.search(rf"^(def|class) {n}\(", present, re.MULTILINE)
    )


def called(text: str) -> list[str]:
    """Names of the library's functions that are called in a text."""
    names = set(re.findall(r"(?<![\w.])([A-Za-z_]\w*)(?:\.apply)?\(", text))
    return [name for name in library() if name in names]
