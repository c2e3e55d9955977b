"""A spec and all it imports: what a run keeps a copy of, and the fingerprint by which it is known."""
from __future__ import annotations

import hashlib
from pathlib import Path

from nldsl import pipeline
from nldsl.frontend.parse import parse
from nldsl.frontend.syntax import Import
from nldsl.source import Source


def text_of(spec: Path) -> str:
    """What is not UTF-8 becomes a character that the compiler rejects at its place."""
    return spec.read_bytes().decode("utf-8", errors="replace")


def files_of(spec: Path) -> dict[str, Path]:
    """File name -> file, of the spec and everything it imports, as the compiler finds them: beside it, then in the library."""
    found = {spec.name: spec}
    waiting = [spec]
    while waiting:
        file = waiting.pop()
        for statement in parse(Source(file.name, text_of(file))).statements:
            for name in statement.names if isinstance(statement, Import) else ():
                wanted = f"{name.text}.nl"
                place = next((folder / wanted for folder in (spec.parent, pipeline.STANDARD) if (folder / wanted).exists()), None)
                if place is not None and wanted not in found:
                    found[wanted] = place
                    waiting.append(place)
    return found


def fingerprint(spec: Path) -> str:
    """SHA-256 over the spec and what it imports."""
    digest = hashlib.sha256()
    for name, file in sorted(files_of(spec).items()):
        digest.update(f"{name}\n{file.stat().st_size}\n".encode() + file.read_bytes())
    return digest.hexdigest()
