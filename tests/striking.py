"""Strikes a process at its k-th write to a disk: a write, a wait for the disk, a new name."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

OPEN, FSYNC, REPLACE, LINK = Path.open, os.fsync, os.replace, os.link


class Strikes:
    """Counts writes below a folder; at the k-th one, and each later one, `act` is called. Of what
    is being written then, half has been.
    """

    def __init__(self, folder: Path, at: int, act: Callable[[], object]) -> None:
        self.folder, self.at, self.act, self.count = folder.resolve(), at, act, 0

    def strike(self, half: Callable[[], object] = lambda: None) -> None:
        self.count += 1
        if self.count >= self.at:
            half()
            self.act()

    def install(self, put: Callable[[object, str, object], None] = setattr) -> None:
        def opened(path: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
            file = OPEN(path, mode, *more, **named)
            ours = path.resolve().is_relative_to(self.folder)
            return Struck(self, file) if ours and mode in ("wb", "ab") else file

        def before(call: Callable[..., Any]) -> Callable[..., Any]:
            def struck(*given: Any) -> Any:
                self.strike()
                return call(*given)

            return struck

        put(Path, "open", opened)
        put(os, "fsync", before(FSYNC))
        put(os, "replace", before(REPLACE))
        put(os, "link", before(LINK))


class Struck:
    """A file whose writes are counted."""

    def __init__(self, strikes: Strikes, file: Any) -> None:
        self.strikes, self.file = strikes, file

    def write(self, content: bytes) -> int:
        def half() -> None:
            self.file.write(content[: len(content) // 2])
            self.file.flush()

        self.strikes.strike(half)
        written: int = self.file.write(content)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> Struck:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
