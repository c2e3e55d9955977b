"""What a verb answers: text, warnings, files, and the exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nldsl import writing
from nldsl.diagnostic import Diagnostic, Diagnostics, render
from nldsl.screen import Screen

if TYPE_CHECKING:
    from rich.console import RenderableType

REJECTED, USAGE, RUN, BACKEND, INTERRUPTED = 1, 2, 3, 4, 130
FAMILY_EXITS = {"N7": RUN, "N8": BACKEND}  # the other families are about the program
WIDE = 80  # columns of a table that goes to a file or a pipe


@contextmanager
def reported(interrupted: str = "interrupted") -> Iterator[None]:
    """Turn findings into their picture on stderr and an exit code, memory that is not there into
    N803, and Ctrl-C into 130.
    """
    try:
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            from nldsl.step.room import refused

            raise refused(error) or error from None
    except Diagnostics as found:
        sys.stderr.write(render(found.diagnostics, color=sys.stderr.isatty()))
        raise typer.Exit(exit_code(found.diagnostics)) from None
    except KeyboardInterrupt:
        sys.stderr.write(interrupted + "\n")
        raise typer.Exit(INTERRUPTED) from None


def exit_code(findings: Iterable[Diagnostic]) -> int:
    return max(FAMILY_EXITS.get(d.code[:2], REJECTED) for d in findings)


def say(page: RenderableType) -> None:
    """Print text as it is, ending in one line end, or a table."""
    if isinstance(page, str):
        return Screen().print(page.removesuffix("\n"), soft_wrap=True)
    Screen(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE).print(page)


def streamed() -> Callable[[str], None]:
    """Prints text as it comes, at once and as it is."""
    screen = Screen()
    return lambda text: screen.print(text, end="", soft_wrap=True)


@contextmanager
def measuring() -> Iterator[Callable[[str], None]]:
    """A line on the terminal that says what is done now, and is gone afterwards."""
    console = Screen(file=sys.stderr)
    with console.status("") as status:
        yield lambda part: status.update(part)


def warned(findings: Iterable[Diagnostic]) -> None:
    sys.stderr.write(render([*findings], color=sys.stderr.isatty()))


def written(path: Path, text: str) -> None:
    """A file, whole or not at all."""
    try:
        writing.replace(path, text)
    except OSError as error:
        raise typer.BadParameter(f"`{path}` cannot be written: {error.strerror}") from None
