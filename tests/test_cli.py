"""The command line: its verbs and options are a contract, and every way out has its exit code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from commands import nldsl

from nldsl import cli

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
CONTRACT = {
    "check": {"spec", "--set"},
    "compile": {
        "spec",
        "--set",
        "--emit",
        "--out",
        "--batch",
        "--length",
        "--capture",
        "--device",
        "--precision",
        "--load",
        "--budget",
        "--target",
        "--cubins",
    },
    "train": {
        "spec",
        "data",
        "--set",
        "--steps",
        "--seed",
        "--batch",
        "--length",
        "--accumulate",
        "--device",
        "--precision",
        "--capture",
        "--out",
        "--resume",
        "--save-every",
        "--memory",
        "--load",
        "--budget",
    },
    "eval": {"run", "data", "--length", "--bytes", "--memory", "--remember"},
    "generate": {
        "run",
        "prompt",
        "-n",
        "--temperature",
        "--seed",
        "--freeze",
        "--memory",
        "--remember",
    },
    "graph": {"spec", "--set", "--as", "--out"},
    "fmt": {"files", "--write", "--check"},
    "explain": {"code"},
    "bench": {
        "spec",
        "--set",
        "--steps",
        "--batch",
        "--length",
        "--device",
        "--precision",
        "--capture",
        "--profile",
    },
}


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


def test_the_package_is_a_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "nldsl", "explain", "N610"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0 and result.stdout.startswith("N610") and result.stderr == ""


def test_verbs_and_options_are_frozen() -> None:
    group = typer.main.get_command(cli.app)
    found = {}
    for name, command in group.commands.items():
        found[name] = {
            parameter.name if parameter.param_type_name == "argument" else parameter.opts[-1]
            for parameter in command.params
            if parameter.name != "help"
        }
    assert found == CONTRACT


def test_every_option_is_on_the_page() -> None:
    page = (ROOT / "tests" / "language" / "running.md").read_text(encoding="utf-8")
    table = page.partition("| option | of | says |")[2].partition("\n\n")[0]
    rows = [line.split(" | ") for line in table.splitlines()[2:]]
    named = {
        (verb, option)
        for options, verbs, *_ in rows
        for verb in re.findall(r"\w+", verbs)
        for option in re.findall(r"--?[a-z-]+", options)
    }
    for verb, found in CONTRACT.items():
        options = {option for option in found if option.startswith("-")}
        assert not options - {o for v, o in named if v == verb}, verb


def test_a_finding_names_the_file_as_it_was_given(tmp_path: Path) -> None:
    folder = tmp_path / "sub"
    folder.mkdir()
    (folder / "own.nl").write_text("nldsl 1\ndef f(x: []) = x + nope\n")
    (folder / "one.nl").write_text("nldsl 1\nimport own\ny = f(1)\nz = nope\n")
    _, _, err = nldsl("check", str(folder / "one.nl"))
    assert f"--> {folder / 'one.nl'}:4:5" in err and f"--> {folder / 'own.nl'}:2:20" in err


def test_one_level_is_not_several() -> None:
    text = "nldsl 1\ninput x: []\nlevel l every token {{\n{} context x\n{} }}\ny = l.A + {}\n"
    one = text.format("memory A: [] = 0\n", "A <- x\n", "1")
    two = text.format("memory A: [] = 0\nmemory B: [] = 0\n", "A <- x\nB <- x\n", "l.B")
    for spec, words in ((one, "1 level, 1 memory,"), (two, "1 level, 2 memories,")):
        assert f"-: {words} accepted" in nldsl("check", "-", text=spec)[1]


@pytest.mark.parametrize("verb", CONTRACT)
def test_every_verb_explains_itself(verb: str) -> None:
    status, out, _ = nldsl(verb, "--help")
    assert status == 0 and "Usage" in out


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.nl")))
def test_the_examples_pass_check(example: str) -> None:
    status, out, err = nldsl("check", str(EXAMPLES / example))
    assert status == 0 and "error" not in err
    assert "accepted" in out


def test_check_reads_standard_input_and_rejects_with_1() -> None:
    text = (EXAMPLES / "titans.nl").read_text()
    assert nldsl("check", "-", text=text)[0] == 0
    status, _, err = nldsl("check", "-", text=text.replace("context k, v", "context k"))
    assert status == cli.REJECTED and "error[N610]" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["check"],
        ["nonsense"],
        ["check", "a.nl", "--nonsense"],
        ["train", "a.nl", "--steps", "0"],
        ["check", "a.nl", "--set", "d"],
        ["train", "--resume", "runs/a", "--out", "b"],
        ["compile", "a.nl", "--emit", "soup"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_2(arguments: list[str]) -> None:
    assert nldsl(*arguments)[0] == cli.USAGE


def test_a_spec_that_is_not_there_is_2() -> None:
    for verb in ("check", "train", "compile"):
        status, _, err = nldsl(verb, "nowhere.nl")
        assert status == cli.USAGE and "nowhere.nl" in err


def test_missing_data_is_3(tmp_path: Path) -> None:
    status, _, err = nldsl(
        "train",
        str(EXAMPLES / "titans.nl"),
        str(tmp_path / "nowhere.txt"),
        "--out",
        str(tmp_path / "run"),
    )
    assert status == cli.RUN and "error[N701]" in err
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_there_is_4(tmp_path: Path) -> None:
    status, _, err = nldsl("compile", str(EXAMPLES / "titans.nl"), "--device", "cuda:99")
    assert status == cli.BACKEND and "error[N8" in err


@pytest.mark.parametrize(
    "stage, words",
    [
        ("tokens", "recall"),
        ("ast", "Level"),
        ("graph", "recall"),
        ("states", "  after "),
        ("schedule", "region"),
        ("python", "def forward"),
    ],
)
def test_every_stage_prints(stage: str, words: str) -> None:
    status, out, err = nldsl(
        "compile", str(EXAMPLES / "titans.nl"), "--set", "d=16", "--set", "depth=1", "--emit", stage
    )
    assert (status, err) == (0, "")
    assert words in out


@pytest.mark.parametrize(
    "form, words",
    [
        ("table", "recall"),
        ("text", "keeps      1 - forget"),
        ("mermaid", "flowchart"),
        ("svg", "<svg"),
    ],
)
def test_the_level_graph_in_every_form(form: str, words: str) -> None:
    status, out, _ = nldsl("graph", str(EXAMPLES / "titans.nl"), "--set", "depth=1", "--as", form)
    assert status == 0 and words in out


def test_fmt_writes_the_standard_form(tmp_path: Path) -> None:
    spec = tmp_path / "a.nl"
    spec.write_text("nldsl 1\ndim   d=4\n\n\n\ninput ids:index( 256 )\n")
    assert nldsl("fmt", "--check", str(spec))[0] == cli.REJECTED
    status, printed, _ = nldsl("fmt", str(spec))
    assert status == 0 and nldsl("fmt", "-", text=spec.read_text())[1] == printed
    assert nldsl("fmt", "--write", str(spec))[0] == 0
    assert spec.read_text() == printed != ""
    assert nldsl("fmt", "--check", str(spec))[0] == 0


def test_explain() -> None:
    status, out, _ = nldsl("explain", "N610")
    assert status == 0 and "context" in out
    assert nldsl("explain", "N999")[0] == cli.USAGE
