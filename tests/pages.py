"""Pages that are run: README.md, the list of examples, the chapters of the manual.

A block ```console holds `$ command` lines, each followed by its output, in which `...` stands for
anything: within a line for some text, alone on a line for any lines. Blocks run in order in one
folder; those that are ```console long by `make soak` alone. ```console soak runs in a fresh clone.

A command is run by a shell. If it is one of `nldsl` and nothing more, `make test` runs it in this
process, which has torch already.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from unittest.mock import patch

import pytest

from nldsl import cli

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
FAMILY = ROOT / "examples" / "README.md"
MANUAL = sorted((ROOT / "tests" / "language").glob("*.md"))
PAGES = (README, FAMILY, *MANUAL)
WIDTH = "160"  # of the screen
SHELL = re.compile(r"[|;&<>$`]")  # what only a shell understands
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
Run = Callable[[str, Path, int], str]


@dataclass(frozen=True)
class Block:
    text: str
    place: str  # file and line


def blocks(page: Path, *infos: str) -> list[Block]:
    """The blocks of a page that begin with ``` and one of `infos`."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(.*)\n((?:(?!```).*\n)*)```$", text, re.MULTILINE)
    return [
        Block(m[2], f"{page.name}:{text.count(chr(10), 0, m.start()) + 2}")
        for m in found
        if m[1] in infos
    ]


def commands(block: Block) -> list[tuple[str, str]]:
    """Each `$ command` with the output expected of it."""
    parts = re.split(r"^\$ (.*)\n", block.text, flags=re.MULTILINE)
    assert parts[0] == "", f"{block.place}: a console block begins with a command"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def matches(expected: str, output: str) -> bool:
    pattern = ""
    for line in expected.splitlines(keepends=True):
        pattern += (
            r"(?:.*\n)*" if line.strip() == "..." else ".*".join(map(re.escape, line.split("...")))
        )
    return (
        re.fullmatch(pattern, "".join(line.rstrip() + "\n" for line in output.splitlines()))
        is not None
    )


def by_shell(command: str, folder: Path, seconds: int) -> str:
    """What a command prints, to both streams. Raises AssertionError where it fails."""
    outside = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    environment = {
        **outside,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": WIDTH,
    }
    result = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        text=True,
        timeout=seconds,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert result.returncode == 0, f"$ {command}\n{result.stdout}"
    return result.stdout


def here(command: str, folder: Path, seconds: int) -> str:
    """The same of a command of `nldsl` in this process; of any other, by a shell."""
    if not command.startswith("nldsl ") or SHELL.search(QUOTED.sub("", command)):
        return by_shell(command, folder, seconds)
    output = TextIOWrapper(BytesIO(), encoding="utf-8", write_through=True)
    with chdir(folder), redirect_stdout(output), redirect_stderr(output):
        with patch.dict(os.environ, COLUMNS=WIDTH), pytest.raises(SystemExit) as ended:
            cli.app(shlex.split(command)[1:])
    said = output.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert not ended.value.code, f"$ {command}\n{said}"
    return said


def check(block: Block, folder: Path, seconds: int, run: Run = by_shell) -> list[str]:
    """Runs the commands of a block; the last line that each printed."""
    last = []
    for command, expected in commands(block):
        output = run(command, folder, seconds)
        assert matches(expected, output), f"{block.place}: $ {command}\n{output}"
        last.append(output.rstrip().rpartition("\n")[2])
    return last
