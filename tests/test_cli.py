"""The command line: its verbs and options are a contract, and every way out has its exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
from commands import nldsl

from nldsl import __version__, cli

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
CONTRACT = {
    "check": {"spec", "--set", "--fix", "--format"},
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
        "--ranks",
        "--bandwidth",
        "--shard",
    },
    "train": {
        "spec",
        "data",
        "--column",
        "--encoding",
        "--tokenizer",
        "--fill",
        "--set",
        "--steps",
        "--epochs",
        "--seed",
        "--seeds",
        "--batch",
        "--length",
        "--accumulate",
        "--device",
        "--precision",
        "--capture",
        "--out",
        "--resume",
        "--from",
        "--save-every",
        "--eval-every",
        "--eval-bytes",
        "--patience",
        "--watch",
        "--not-finite",
        "--log",
        "--memory",
        "--load",
        "--weights",
        "--budget",
        "--shard",
        "--threads",
    },
    "eval": {
        "run",
        "data",
        "--column",
        "--encoding",
        "--length",
        "--bytes",
        "--best",
        "--memory",
        "--remember",
        "--weights",
        "--threads",
    },
    "generate": {
        "run",
        "prompt",
        "--prompts",
        "-n",
        "--temperature",
        "--top-k",
        "--top-p",
        "--repetition",
        "--stop",
        "--seed",
        "--freeze",
        "--best",
        "--memory",
        "--remember",
        "--weights",
        "--threads",
    },
    "compare": {"runs", "--out", "--on"},
    "audit": {"run", "--tokens", "--format"},
    "trace": {
        "run",
        "text",
        "--column",
        "--encoding",
        "--tokens",
        "--out",
        "--format",
        "--best",
        "--memory",
        "--weights",
        "--threads",
    },
    "export": {"run", "--as", "--out", "--weights", "--best"},
    "graph": {"spec", "--set", "--as", "--out"},
    "fmt": {"files", "--write", "--check"},
    "explain": {"code"},
    "tokenizer train": {"data", "--vocab", "--out", "--column", "--encoding"},
    "new": {"file", "--kind"},
    "lsp": set(),
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
        "--threads",
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
    found, commands = {}, dict(group.commands)
    for name, command in commands.pop("tokenizer").commands.items():
        commands[f"tokenizer {name}"] = command
    for name, command in commands.items():
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
        for verb in re.findall(r"`([a-z ]+)`", verbs)
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


def test_the_version_is_told() -> None:
    status, out, _ = nldsl("--version")
    assert status == 0 and out == f"nldsl {__version__}, torch {torch.__version__}\n"


def test_so_many_threads_compute(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        spec, out = EXAMPLES / "transformer.nl", tmp_path / "run"
        small = ("--set", "d=16", "--set", "depth=1", "--steps", 1, "--length", 16)
        more = ("--capture", "eager", "--threads", before + 1)
        assert nldsl("train", spec, __file__, *small, *more, "--out", out)[0] == 0
        assert json.loads((out / "run.json").read_text())["threads"] == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("verb", CONTRACT)
def test_every_verb_explains_itself(verb: str) -> None:
    status, out, _ = nldsl(*verb.split(), "--help")
    assert status == 0 and "Usage" in out


@pytest.mark.parametrize("example", ["titans", "hope", "series", "retrofit", "diloco"])
def test_the_examples_pass_check(example: str) -> None:
    status, out, err = nldsl("check", str(EXAMPLES / f"{example}.nl"))
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
    if not torch.backends.mps.is_available():
        status, _, err = nldsl("train", str(EXAMPLES / "titans.nl"), "--device", "mps")
        assert status == cli.BACKEND and "error[N802]" in err and "no Metal device" in err


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
        ("html", "<!doctype html>"),
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


def test_check_applies_fixes_and_says_what_it_changed(tmp_path: Path) -> None:
    spec = tmp_path / "a.nl"
    spec.write_text("nldsl 1\ninput x: []\ny = sgimoid(x) ** 2  # \U0001f600\n")
    status, out, err = nldsl("check", "--fix", spec)
    assert (status, out) == (0, f"{spec}: 0 levels, 0 memories, accepted\n")
    assert f"fixed[N101] {spec}:3: there is no `sgimoid` here; did you mean `sigmoid`?" in err
    assert "fixed[N033]" in err and "y = sigmoid(x) .^ 2  # \U0001f600" in spec.read_text()
    before = spec.stat().st_mtime_ns
    assert nldsl("check", "--fix", spec)[2] == "" and spec.stat().st_mtime_ns == before


def test_what_no_fix_mends_is_still_said(tmp_path: Path) -> None:
    spec = tmp_path / "a.nl"
    spec.write_text("nldsl 1\ninput x: []\ny = tanhh(x)\nz = nonesuch\n")
    status, _, err = nldsl("check", "--fix", spec)
    assert status == cli.REJECTED and "z = nonesuch" in err and "sgimoid" not in err
    assert spec.read_text() == "nldsl 1\ninput x: []\ny = tanh(x)\nz = nonesuch\n"
    assert nldsl("check", "--fix", "-", text="nldsl 1\n")[0] == cli.USAGE


def test_a_file_that_is_not_text_is_not_rewritten(tmp_path: Path) -> None:
    spec, content = tmp_path / "a.nl", b"nldsl 1\ninput x: []\ny = tanhh(x)  # caf\xe9\n"
    spec.write_bytes(content)
    assert nldsl("check", "--fix", spec)[0] == cli.REJECTED
    assert spec.read_bytes() == content


def test_findings_for_programs(tmp_path: Path) -> None:
    spec = tmp_path / "a.nl"
    spec.write_text("nldsl 1\ninput x: []\ny = x\ny = x\nz = sgimoid(x)\n")
    status, out, err = nldsl("check", "--format", "json", spec)
    said = json.loads(out)
    assert (status, err, said["accepted"]) == (cli.REJECTED, "", False)
    twice, unknown = sorted(said["findings"], key=lambda one: one["code"], reverse=True)
    assert (twice["code"], twice["line"], twice["column"], twice["end_column"]) == ("N105", 4, 1, 2)
    assert twice["file"] == str(spec) and twice["notes"][0]["line"] == 3
    assert unknown["fix"][0] == {
        "text": "sigmoid",
        "file": str(spec),
        **{"line": 5, "column": 5, "end_line": 5, "end_column": 12},
    }
    status, out, _ = nldsl("check", "--format", "github", spec)
    assert status == cli.REJECTED and out.splitlines()[0] == (
        f"::error file={spec},line=4,col=1,endLine=4,endColumn=2,title=N105::"
        "`y` is defined twice%0Ahelp: `y <- ..` makes a next version"
    )
    warned = tmp_path / "warned.nl"
    warned.write_text((EXAMPLES / "hope.nl").read_text().replace("meant: N405", ""))
    accepted = nldsl("check", "--format", "json", warned)
    assert accepted[0] == 0 and json.loads(accepted[1])["accepted"]
    assert [one["severity"] for one in json.loads(accepted[1])["findings"]] == ["warning"]
    assert nldsl("check", "--format", "github", EXAMPLES / "titans.nl")[:2] == (0, "")


def test_a_workflow_command_is_one_line() -> None:
    text = "nldsl 1\nx = 1 % 2\n"
    _, out, _ = nldsl("check", "--format", "github", "-", text=text)
    assert out.startswith("::error file=<stdin>,line=2") and "`%25`" in out
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize("kind", ["language-model", "titans", "continual"])
def test_a_new_spec_is_accepted_and_trains(kind: str, tmp_path: Path) -> None:
    spec = tmp_path / "mine.nl"
    status, out, _ = nldsl("new", spec, "--kind", kind)
    assert status == 0 and out == f"{spec}: written; go on with: nldsl train {spec}\n"
    assert nldsl("check", spec)[::2] == (0, "")
    assert nldsl("fmt", "--check", spec)[0] == 0
    data = tmp_path / "data.txt"
    data.write_text("all happy families are alike. " * 600)
    small = ("--set", "d=16", "--set", "head=2", "--set", "depth=1", "--batch", "2")
    length = ("--length", "32", "--steps", "3", "--capture", "eager")
    trained = nldsl("train", spec, data, *small, *length, "--out", tmp_path / "run")
    assert trained[0] == 0 and "held out: " in trained[1]


def test_new_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert nldsl("new")[0] == 0
    text = Path("model.nl").read_text()
    status, _, err = nldsl("new", "--kind", "titans")
    assert status == cli.USAGE and "is there already" in err
    assert Path("model.nl").read_text() == text
    assert nldsl("new", "nowhere/model.nl")[0] == cli.USAGE


@pytest.mark.parametrize(
    "words, expected",
    [("nldsl che", "check"), ("nldsl explain N61", "N610"), ("nldsl graph --a", "--as")],
)
def test_a_shell_completes(words: str, expected: str) -> None:
    asked = {
        "_NLDSL_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "nldsl"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert expected in done.stdout.split()


def test_explain() -> None:
    status, out, _ = nldsl("explain", "N610")
    assert status == 0 and "context" in out
    assert nldsl("explain", "N999")[0] == cli.USAGE
