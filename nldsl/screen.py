"""The console: prints text without markup and `:emoji:`, and without a traceback when the reader of
a pipe has gone.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import IO

from rich.console import Console

PIPE_CLOSED = 128 + signal.SIGPIPE  # what a shell says of a process that SIGPIPE ended


class Screen(Console):
    """Standard output, or `file`. When its reader has gone, the process ends as a shell ends one at
    SIGPIPE.
    """

    def __init__(
        self,
        file: IO[str] | None = None,
        width: int | None = None,
        force_terminal: bool | None = None,
    ) -> None:
        super().__init__(
            file=file,
            width=width,
            force_terminal=force_terminal,
            markup=False,
            emoji=False,
            highlight=False,
        )
        self.left = False  # has the reader gone?

    def on_broken_pipe(self) -> None:
        self.silence()
        raise SystemExit(PIPE_CLOSED)

    def silence(self) -> None:
        self.quiet = self.left = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class Watched(Screen):
    """Of a run: when the reader has gone, the run is interrupted as by Ctrl-C, after its step."""

    def on_broken_pipe(self) -> None:
        self.silence()
        signal.raise_signal(signal.SIGINT)
