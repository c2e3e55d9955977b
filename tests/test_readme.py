"""README.md, the list of examples and the chapters that show commands: what they show is run."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from pages import (
    FAMILY,
    PAGES,
    README,
    ROOT,
    blocks,
    by_shell,
    check,
    commands,
    here,
    matches,
)

from nldsl import cli

LONG = "console long"
SHOWING = [page for page in PAGES if blocks(page, "console")]
RUNNING = ROOT / "tests" / "language" / "running.md"


@pytest.mark.parametrize("page", SHOWING, ids=lambda page: page.stem)
def test_the_commands_do_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for block in blocks(page, "console"):
        check(block, tmp_path, 300, by_shell if page == README else here)


@pytest.mark.soak
@pytest.mark.parametrize(
    "page", [x for x in PAGES if blocks(x, "console", LONG)], ids=lambda page: page.stem
)
def test_all_commands_do_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for block in blocks(page, "console", LONG):
        check(block, tmp_path, 300)


@pytest.mark.soak
def test_a_newcomer_gets_what_the_readme_shows(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A clone without an environment: the first model within a quarter of an hour, and better than
    counting pairs of bytes.
    """
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "clone")], check=True)
    for block in blocks(README, "console soak"):
        for (command, _), line in zip(
            commands(block), check(block, tmp_path / "clone", 15 * 60), strict=True
        ):
            record_property(f"`{command}`", line)
            held_out = re.match(
                r"held out: ([\d.]+) bits per byte; order-2 byte model ([\d.]+),", line
            )
            assert held_out and float(held_out[1]) < float(held_out[2]), line


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


def test_excerpts_stand_in_an_example() -> None:
    examples = {
        path.name: [line.strip() for line in path.read_text().splitlines()]
        for path in (ROOT / "examples").glob("*.nl")
    }
    for block in blocks(README, "nl"):
        lines = [line.strip() for line in textwrap.dedent(block.text).strip().splitlines()]
        assert any(
            lines == text[i : i + len(lines)]
            for text in examples.values()
            for i in range(len(text))
        ), block.text


def row(name: str) -> str:
    """An example by the first sentence of its header."""
    lines = (ROOT / "examples" / f"{name}.nl").read_text(encoding="utf-8").splitlines()
    header = " ".join(line[2:] for line in lines[1:5] if line.startswith("# "))
    sentence = re.split(r"(?<!Eq|ec)[.;] ", re.sub(r" \(NL [^)]*\)", "", header))[0]
    return f"| [{name}]({name}.nl) | {sentence.removesuffix('.').replace('|', chr(92) + '|')} |"


def test_every_example_is_in_one_group(golden) -> None:
    """By its own header, which `--update-golden` brings."""
    text = FAMILY.read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\w+)\]\(\w+\.nl\)", text, re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "examples").glob("*.nl"))
    golden(FAMILY, re.sub(r"^\| \[(\w+)\]\(\w+\.nl\).*$", lambda m: row(m[1]), text, flags=re.M))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target


def test_every_verb_and_exit_code_is_listed() -> None:
    text = RUNNING.read_text(encoding="utf-8")
    verbs = {command.name or command.callback.__name__ for command in cli.app.registered_commands}
    verbs |= {group.name for group in cli.app.registered_groups}
    assert verbs == set(re.findall(r"^\| `nldsl (\w+)", text, re.MULTILINE))
    codes = set(map(int, re.findall(r"^\| (\d+) \|", text, re.MULTILINE)))
    assert codes == {0, cli.REJECTED, cli.USAGE, cli.RUN, cli.BACKEND, cli.INTERRUPTED}


def test_the_newest_version_has_its_changes() -> None:
    changes = (ROOT / "tests" / "language" / "changes.md").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert (
        re.findall(r"^## (.+)$", changes, re.M)[0]
        == re.findall(r'^version = "(.+)"', project, re.M)[0]
    )


def test_the_glossary_has_thirty_words_in_order() -> None:
    text = (ROOT / "tests" / "language" / "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| (?!word )([\w ]+) \|", text, re.MULTILINE)
    assert len(words) == 30 and words == sorted(words)


def test_the_matcher() -> None:
    assert matches("a\n...\nb ... c\n", "a\nx\ny\nb 1 2 c\n")
    assert matches("a\n...\n", "a\n")
    assert not matches("a\nb\n", "a\nx\nb\n")
    assert not matches("a 1\n", "a 2\n")
