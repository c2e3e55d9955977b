"""Writes a file whole or not at all.

A reader finds the old content or the new.
"""

from __future__ import annotations

import os
from pathlib import Path

DRAFT = ".partial"  # after the name of a file that is being written


def replace(path: Path, content: bytes | str) -> None:
    """Write beside the file, wait for the disk, rename. A path that is not a regular file (a pipe,
    a terminal) is written to directly. Raises OSError; then the file that was there stays.
    """
    given = content.encode() if isinstance(content, str) else content
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(given)
        return
    draft = path.with_name(path.name + DRAFT)
    try:
        with draft.open("wb") as file:
            if path.exists():
                os.fchmod(file.fileno(), path.stat().st_mode)
            file.write(given)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    settle(path.parent)


def stay(path: Path, other: Path) -> None:
    """A file that is only ever replaced stays under another name too, whole or not at all: as a
    link, or as a copy where the file system has no links. Raises OSError; then what was there
    stays.
    """
    draft = other.with_name(other.name + DRAFT)
    draft.unlink(missing_ok=True)
    try:
        os.link(path, draft)
    except OSError:
        return replace(other, path.read_bytes())
    os.replace(draft, other)
    settle(other.parent)


def home() -> Path | None:
    """The user's folder of what is kept between runs; None where none can be written."""
    found = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nldsl"
    try:
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return found if os.access(found, os.W_OK) else None


def settle(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
