"""README.md is run: its commands, their outputs and its excerpts of the examples.

A block ```console holds `$ command` lines, each followed by its output, in which `...` stands for
anything: within a line for some text, alone on a line for any lines. Blocks run in order in one
folder. ```console soak runs in a fresh clone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from nldsl import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

FAMILY = "| spec | says |\n|---|---|\n"


@dataclass(frozen=True)
class Block:
    info: str
    text: str
    line: int


def blocks(info: str) -> list[Block]:
    found = re.finditer(r"^```(.*)\n((?:(?!```).*\n)*)```$", README, re.MULTILINE)
    return [Block(m[1], m[2], README.count("\n", 0, m.start()) + 2) for m in found if m[1] == info]


def commands(block: Block) -> list[tuple[str, str]]:
    """Each `$ command` with the output expected of it."""
    parts = re.split(r"^\$ (.*)\n", block.text, flags=re.MULTILINE)
    assert parts[0] == "", f"README.md:{block.line}: a console block begins with a command"
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


def run(command: str, folder: Path, seconds: int) -> str:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "160",
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


def check(block: Block, folder: Path, seconds: int) -> list[str]:
    """Runs the commands of a block; the last line that each printed."""
    last = []
    for command, expected in commands(block):
        output = run(command, folder, seconds)
        assert matches(expected, output), f"README.md:{block.line}: $ {command}\n{output}"
        last.append(output.rstrip().rpartition("\n")[2])
    return last


def test_the_commands_do_what_the_readme_shows(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for block in blocks("console"):
        check(block, tmp_path, 300)


@pytest.mark.soak
def test_a_newcomer_gets_what_the_readme_shows(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A clone without an environment: the first model within a quarter of an hour, and better than
    counting pairs of bytes.
    """
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "clone")], check=True)
    for block in blocks("console soak"):
        for (command, _), line in zip(
            commands(block), check(block, tmp_path / "clone", 15 * 60), strict=True
        ):
            record_property(f"`{command}`", line)
            held_out = re.match(
                r"held out: ([\d.]+) bits per byte; order-2 byte model ([\d.]+),", line
            )
            assert held_out and float(held_out[1]) < float(held_out[2]), line


def test_excerpts_stand_in_an_example() -> None:
    examples = {
        path.name: [line.strip() for line in path.read_text().splitlines()]
        for path in (ROOT / "examples").glob("*.nl")
    }
    for block in blocks("nl"):
        lines = [line.strip() for line in textwrap.dedent(block.text).strip().splitlines()]
        assert any(
            lines == text[i : i + len(lines)]
            for text in examples.values()
            for i in range(len(text))
        ), block.text


def family_table() -> str:
    """Each example by the first sentence of its header."""
    rows = []
    for path in sorted((ROOT / "examples").glob("*.nl")):
        header = " ".join(
            line[2:] for line in path.read_text().splitlines()[1:5] if line.startswith("# ")
        )
        sentence = re.split(r"(?<!Eq|ec)[.;] ", re.sub(r" \(NL [^)]*\)", "", header))[
            0
        ].removesuffix(".")
        rows.append(
            f"| [{path.stem}](examples/{path.name}) | {sentence.replace('|', chr(92) + '|')} |\n"
        )
    return "".join(rows)


def rewrite(old: str, new: str) -> None:
    """Another test may have written a part of its own since README was read."""
    path = ROOT / "README.md"
    path.write_text(path.read_text().replace(old, new))


def test_every_example_is_in_the_table(request: pytest.FixtureRequest) -> None:
    begin = README.index(FAMILY) + len(FAMILY)
    if request.config.getoption("--update-golden"):
        rewrite(README[begin : README.index("\n###", begin)], family_table())
    else:
        assert family_table() == README[begin : README.index("\n###", begin)]


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_verb_and_exit_code_is_listed() -> None:
    verbs = {command.name or command.callback.__name__ for command in cli.app.registered_commands}
    assert verbs == set(re.findall(r"^\| `nldsl (\w+)", README, re.MULTILINE))
    codes = set(map(int, re.findall(r"^\| (\d+) \|", README, re.MULTILINE)))
    assert codes == {0, cli.REJECTED, cli.USAGE, cli.RUN, cli.BACKEND, cli.INTERRUPTED}


def test_the_matcher() -> None:
    assert matches("a\n...\nb ... c\n", "a\nx\ny\nb 1 2 c\n")
    assert matches("a\n...\n", "a\n")
    assert not matches("a\nb\n", "a\nx\nb\n")
    assert not matches("a 1\n", "a 2\n")
