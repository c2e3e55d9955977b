"""Run folders whose files are damaged, removed or shared: every verb reports what is wrong, and no
saved step is lost.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from commands import done, nldsl
from rich.console import Console

from nldsl import cli, pipeline, screen, writing
from nldsl.diagnostic import Diagnostics
from nldsl.step import room
from nldsl.step.compile import CompiledStep
from nldsl.step.reading import Reader
from nldsl.train import (
    checkpoint,
    folder,
    generated,
    memory,
    metrics,
    pretrained,
    records,
    results,
    schedules,
)
from nldsl.train import run as runs
from nldsl.train.data.text import Score
from nldsl.train.display import shown_on
from nldsl.train.drawing import Manner
from nldsl.train.records import Lengthened, Record, Settings

SPEC = """nldsl 1
import layers
dim d = 4, vocab = 256
rate = 0.1
input ids: index(vocab)
x = embed(ids, [d])
level recall every token {
    memory M: [d] = 0
    context x
    minimize |M - x|^2 / 2
    M <- M - 0.5 * grad(M)
    reset never
    bptt none
}
loss = cross_entropy(linear(rmsnorm(recall.M@after), [vocab]), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W - rate * grad(W)
}
"""
SMALL = ("--batch", "2", "--length", "16", "--capture", "eager")
TEXT = "".join(f"{n} times {n} is {n * n}\n" for n in range(400)).encode()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a spec, a text and a run of three steps."""
    home = tmp_path_factory.mktemp("whole")
    (home / "spec.nl").write_text(SPEC)
    (home / "text.txt").write_bytes(TEXT)
    done("train", home / "spec.nl", home / "text.txt", *SMALL, "--steps", 3, "--out", home / "run")
    return home


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be harmed."""
    shutil.copytree(whole / "run", tmp_path / "run")
    return tmp_path / "run"


def training_on(whole: Path, *options: object) -> list[object]:
    """The command that trains on what a run was trained on."""
    files = (whole / "spec.nl", whole / "text.txt")
    return [sys.executable, "-m", "nldsl", "train", *files, *SMALL, *options]


def steps_of(run: Path) -> list[tuple[int, float]]:
    return [(e["step"], e["loss"]) for e in metrics.events(run / "metrics.jsonl", "step")]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / checkpoint.FILE)


def numbers(run: Path) -> torch.Tensor:
    """All weights of a run, one behind the other."""
    saved, manifest = weights(run), checkpoint.manifest(run)
    assert manifest is not None
    return torch.cat([saved[name].reshape(-1) for name in manifest.weights])


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# Files of a run


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[2 * len(content) // 3] ^= 0x41
    path.write_bytes(bytes(content))


def foreign(path: Path) -> None:
    path.write_text('{"name": "demo", "version": 3, "event": 5}\n')


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


HARMS = (Path.unlink, emptied, cut, flipped, foreign, a_folder, a_loop)
FILES = (
    "run.json",
    checkpoint.FILE,
    "metrics.jsonl",
    "spec.nl",
    "layers.nl",
    "loss.svg",
    memory.FILE,
)
UNHARMED = {  # what goes on all the same, by file
    "run.json": (),
    checkpoint.FILE: (),
    "metrics.jsonl": ("eval", "generate"),
    "spec.nl": ("eval", "generate"),
    "layers.nl": ("eval", "generate"),
    "loss.svg": ("train", "eval", "generate"),
    memory.FILE: ("train", "eval", "generate"),
}


def verbs(home: Path, run: Path) -> dict[str, tuple[Any, ...]]:
    return {
        "train": ("train", "--resume", run),
        "eval": ("eval", run, "--bytes", 64),
        "generate": ("generate", run, "4 times", "-n", 2),
        "begin": ("train", home / "spec.nl", home / "text.txt", *SMALL, "--steps", 1, "--out", run),
    }


@pytest.mark.parametrize(
    "file, harm",
    [
        pytest.param(
            file,
            harm,
            id=f"{file}-{harm.__name__}",
            marks=()
            if file in ("run.json", checkpoint.FILE) or harm in (Path.unlink, flipped, a_folder)
            else pytest.mark.soak,
        )
        for file in FILES
        for harm in HARMS
    ],
)
def test_a_harmed_file_is_a_finding_in_every_verb(
    file: str, harm: Callable[[Path], None], whole: Path, run: Path
) -> None:
    """Exit 3 with a code where the file is needed, 0 where it is not; never a traceback (which
    would be raised here), never another run over what was saved."""
    harm(run / file)
    saved = (run / checkpoint.FILE).read_bytes() if (run / checkpoint.FILE).is_file() else b""
    for verb, arguments in verbs(whole, run).items():
        status, _, err = nldsl(*arguments)
        assert status in (0, cli.RUN), (verb, err)
        assert (status == cli.RUN) == ("error[N7" in err), (verb, err)
        if verb in UNHARMED[file]:
            assert status == 0, (verb, err)
        elif file in ("run.json", checkpoint.FILE) and verb != "begin":
            assert status == cli.RUN, (verb, file)
    after = (run / checkpoint.FILE).read_bytes() if (run / checkpoint.FILE).is_file() else b""
    assert after == saved or file == checkpoint.FILE and harm is Path.unlink


@pytest.mark.parametrize("harm", [emptied, cut, flipped, foreign, a_folder, a_loop])
def test_a_harmed_file_is_not_loaded_from(harm: Callable[[Path], None], run: Path) -> None:
    """Neither weights of a run nor a memory."""
    for name in (checkpoint.FILE, memory.FILE):
        harm(run / name)
    with pytest.raises(Diagnostics) as found:
        pretrained.tensors(run / checkpoint.FILE, {"loss.linear"})
    assert found.value.diagnostics[0].code == "N712"
    lanes = {
        name: torch.ones(2, *x.shape[1:], dtype=x.dtype)
        for name, x in {
            "recall.M": torch.zeros(2, 4),
            "sequences": torch.zeros(2, dtype=torch.int64),
        }.items()
    }
    with pytest.raises(Diagnostics) as found:
        memory.load(run / memory.FILE, lanes)
    assert found.value.diagnostics[0].code == "N712"
    assert all((x == 1).all() for x in lanes.values())


def every_byte(content: bytes) -> Iterator[bytes]:
    """The content with one bit another, at forty places."""
    for at in range(3, len(content), max(1, len(content) // 40)):
        harmed = bytearray(content)
        harmed[at] ^= 1 << at % 8
        yield bytes(harmed)


def test_a_flipped_bit_of_a_checkpoint_is_noticed_wherever_it_is(run: Path) -> None:
    opened = runs.without_data(run)
    content = (run / checkpoint.FILE).read_bytes()
    for harmed in every_byte(content):
        (run / checkpoint.FILE).write_bytes(harmed)
        with pytest.raises(Diagnostics) as found:
            runs.trained(opened)
        assert found.value.diagnostics[0].code in ("N711", "N712")
    (run / checkpoint.FILE).write_bytes(content)
    assert runs.trained(opened)[1].step == 3


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for name in value if isinstance(value, dict) else ():
        yield (*at, name)
        yield from places(value[name], (*at, name))


def put(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    return {**value, at[0]: put(value[at[0]], at[1:], new)} if at else new


def test_a_field_of_another_type_is_named(run: Path) -> None:
    """Each field of run.json and of a checkpoint's manifest, with values that it cannot have."""
    record = json.loads((run / "run.json").read_text())
    text = safetensors.safe_open(run / checkpoint.FILE, "pt").metadata()["manifest"]
    for model, content in ((Record, record), (records.Manifest, json.loads(text))):
        records.read(json.dumps(content), model)
        for at in places(content):
            for new in (1.5, {"a": [None]}):
                with pytest.raises(ValueError) as found:
                    records.read(json.dumps(put(content, at, new)), model)
                assert any(str(part) in str(found.value) for part in at), (at, found.value)


def test_a_damaged_record_says_the_field_and_leaves_what_is_saved(run: Path) -> None:
    content = json.loads((run / "run.json").read_text())
    for harm, words in (
        (put(content, ("settings", "seed"), "zero"), "settings.seed"),
        (put(content, ("texts", "spec.nl"), "nldsl 1\n"), "texts"),
        (put(content, ("format",), 1), "format"),
        ({"soup": 1}, "format"),
    ):
        (run / "run.json").write_text(json.dumps(harm))
        for verb in (("train", "--resume", run), ("eval", run), ("generate", run, "a")):
            status, _, err = nldsl(*verb)
            assert status == cli.RUN and "error[N712]" in err and f": {words}" in err


def test_a_new_run_takes_a_folder_in_which_nothing_was_saved(whole: Path, run: Path) -> None:
    arguments = ("train", whole / "spec.nl", whole / "text.txt", *SMALL, "--steps", 3, "--out", run)
    for harm in (emptied, cut, Path.unlink):
        harm(run / "run.json")
        kept = (run / checkpoint.FILE).read_bytes()
        status, _, err = nldsl(*arguments)
        assert status == cli.RUN and "error[N715]" in err
        assert (run / checkpoint.FILE).read_bytes() == kept
        (run / checkpoint.FILE).unlink()
        done(*arguments)
        assert same(run, whole / "run") and steps_of(run) == steps_of(whole / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_a_finding(whole: Path, run: Path) -> None:
    for file in ("run.json", checkpoint.FILE):
        (run / file).chmod(0)
        for verb in (("train", "--resume", run), ("eval", run), ("generate", run, "a")):
            status, _, err = nldsl(*verb)
            assert status == cli.RUN and "error[N71" in err
        (run / file).chmod(0o600)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("file", ["run.json", "spec.nl", "loss.svg", memory.FILE, checkpoint.FILE])
def test_a_full_disk_leaves_the_file_that_was_there(file: str, whole: Path, run: Path) -> None:
    before = (run / file).read_bytes()
    (run / (file + writing.DRAFT)).symlink_to("/dev/full")
    with pytest.raises(OSError):
        writing.replace(run / file, before[:10])
    assert (run / file).read_bytes() == before and not (run / (file + writing.DRAFT)).exists()
    (run / (file + writing.DRAFT)).symlink_to("/dev/full")
    if file in ("run.json", "loss.svg", memory.FILE, checkpoint.FILE):
        status, _, err = nldsl("train", "--resume", run, "--steps", 5)
        assert status == cli.RUN and "error[N713]" in err and (run / file).read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_what_other_verbs_write_is_whole_or_not_there(whole: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.nl"
    spec.write_text(SPEC.replace("d = 4", "d   =   4"))
    before = spec.read_bytes()
    picture = tmp_path / "levels.txt"
    for target, verb in (
        (spec, ("fmt", "--write", spec)),
        (picture, ("graph", spec, "--as", "text", "-o", picture)),
    ):
        (tmp_path / (target.name + writing.DRAFT)).symlink_to("/dev/full")
        assert nldsl(*verb)[0] == cli.USAGE
        assert spec.read_bytes() == before and not picture.exists()
        assert nldsl(*verb)[0] == 0 and target.read_bytes() != before
        spec.write_bytes(before)
    spec.chmod(0o640)
    done("fmt", "--write", spec)
    assert spec.stat().st_mode & 0o777 == 0o640
    assert nldsl("graph", spec, "-o", "/dev/null")[0] == 0 and not Path("/dev/null").is_file()


# Several at once


def test_runs_that_begin_together_get_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: folder.unused(tmp_path / "runs", "spec"), range(24)))
    assert sorted(names) == sorted(tmp_path / "runs" / f"spec-{n}" for n in range(1, 25))
    assert all(name.is_dir() for name in names)


def test_of_runs_that_begin_in_one_folder_one_begins(whole: Path, tmp_path: Path) -> None:
    def begun(seed: int) -> int | str:
        try:
            settings = Settings(data=str(whole / "text.txt"), seed=seed, length=16)
            return runs.begin(whole / "spec.nl", settings, tmp_path / "run").settings.seed
        except Diagnostics as found:
            return found.diagnostics[0].code

    with ThreadPoolExecutor(5) as pool:
        told = list(pool.map(begun, range(5)))
    winners = [x for x in told if isinstance(x, int)]
    assert len(winners) == 1 and told.count("N715") == 4
    assert folder.recorded(tmp_path / "run").settings.seed == winners[0]


def test_two_processes_each_train_a_run(whole: Path, tmp_path: Path) -> None:
    command = training_on(whole, "--steps", "2", "--seed")
    started = [
        subprocess.Popen([*command, str(seed)], cwd=tmp_path, stdout=subprocess.DEVNULL)
        for seed in range(2)
    ]
    assert [process.wait(timeout=300) for process in started] == [0, 0]
    found = sorted((tmp_path / "runs").iterdir())
    assert [path.name for path in found] == ["spec-1", "spec-2"]
    assert {folder.recorded(path).settings.seed for path in found} == {0, 1}
    assert all(nldsl("eval", path, "--bytes", 64)[0] == 0 for path in found)


# What is not finite

# What stands before the loss, what the loss reads, the rate; what is said to be where it begins.
OVERFLOWS = {
    "stream": (
        "y = exp(x * 1e9)\n",
        "y",
        "0.1",
        "in the stream `y`, which level `training`",
        "exp(",
    ),
    "memory": (
        """level inner every token {
    memory V: [d] = 1
    context x
    minimize |V - x|^2 / 2
    V <- V + 1e30 * grad(V)
    bptt none
}
y = inner.V@after
""",
        "y",
        "0.1",
        "in memory `inner.V` of level `inner`, read by the stream",
        "memory V",
    ),
    "gradient": (
        "y = cos(x * 1e20) * 1e20\n",
        "y",
        "0.1",
        "in the gradient of `loss` in `x`, memory `training.W` of level `training`",
        "memory W",
    ),
    "update": (
        "y = x\n",
        "y",
        "1e38 * 1e3",
        "in memory `training.W` of level `training`, by its update",
        "memory W",
    ),
    "inner update": (
        "y = x\n",
        "y",
        "momentum(grad(W), 1e38 * 1e3, 0)",
        "in memory `training.momentum.velocity.m` of level `training.momentum.velocity`, by its",
        "memory m",
    ),
}


def overflowing(home: Path, lines: str, read: str, rate: str, first: str = "1") -> Path:
    """A program that overflows; with `first` another number, from step 3 on."""
    moved = f"{rate} * grad(W)" if "grad" not in rate else rate
    spec = home / "spec.nl"
    spec.write_text(f"""nldsl 1
import layers, optimizers
dim d = 4, vocab = 256
input ids: index(vocab)
x = embed(ids, [d])
{lines}loss = cross_entropy(linear({read}, [vocab]), next(ids))
level training every step {{
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W - {moved}
}}
""")
    (home / "text.txt").write_bytes(TEXT)
    return spec


@pytest.mark.parametrize("kind", OVERFLOWS)
def test_a_step_that_is_not_finite_names_where_it_began(kind: str, tmp_path: Path) -> None:
    lines, read, rate, origin, shown = OVERFLOWS[kind]
    spec = overflowing(tmp_path, lines, read, rate)
    status, out, err = nldsl(
        "train",
        spec,
        tmp_path / "text.txt",
        *SMALL,
        "--steps",
        4,
        "--save-every",
        1,
        "--out",
        tmp_path / "run",
    )
    assert status == cli.RUN and "error[N720]" in err and "saved step" not in out
    assert f"it begins in step 1, {origin}" in err and "nothing was saved before" in err
    assert any(shown in line for line in err.splitlines() if " | " in line)
    assert not (tmp_path / "run" / checkpoint.FILE).exists()


@pytest.mark.parametrize("save_every", [1, 2, 100])
@pytest.mark.parametrize("capture", ["eager"])
def test_weights_that_are_not_finite_are_never_saved_over_good_ones(
    save_every: int, capture: str, tmp_path: Path
) -> None:
    """The update of step 4 overflows; the loss of each of the four steps is finite."""
    spec = overflowing(tmp_path, "y = x\n", "y", "where(tick >= 4, 1e38, 0) * 1e3 * (1 + grad(W))")
    status, _, err = nldsl(
        "train",
        spec,
        tmp_path / "text.txt",
        *SMALL,
        "--steps",
        4,
        "--save-every",
        save_every,
        "--out",
        tmp_path / "run",
    )
    assert status == cli.RUN and "error[N720]" in err
    assert "it begins in step 4, in memory `training.W` of level `training`, by its update" in err
    losses = steps_of(tmp_path / "run")
    assert [n for n, _ in losses] == [1, 2, 3, 4] and all(map(math.isfinite, dict(losses).values()))
    kept = {1: 3, 2: 2, 100: None}[save_every]
    saved = checkpoint.manifest(tmp_path / "run")
    assert (saved and saved.step) == kept
    if kept is not None:
        assert memory.broken(weights(tmp_path / "run")) is None
        assert f"the checkpoint of step {kept} is kept" in err
        assert "held out" in done("eval", tmp_path / "run", "--bytes", 64)


def test_what_is_not_finite_from_the_start_is_said(tmp_path: Path, run: Path) -> None:
    """A memory file of another maker, with a number that is not one."""
    lanes = safetensors.torch.load_file(run / memory.FILE)
    lanes["recall.M"][:, 2] = math.nan
    safetensors.torch.save_file(
        lanes,
        tmp_path / "nan.safetensors",
        {
            "manifest": (text := records.Lanes(lanes=2).model_dump_json()),
            "sha256": checkpoint.digest(text, lanes),
        },
    )
    (tmp_path / "spec.nl").write_text(SPEC)
    (tmp_path / "text.txt").write_bytes(TEXT)
    status, _, err = nldsl(
        "train",
        tmp_path / "spec.nl",
        tmp_path / "text.txt",
        *SMALL,
        "--steps",
        2,
        "--memory",
        tmp_path / "nan.safetensors",
        "--out",
        tmp_path / "new",
    )
    assert status == cli.RUN and "error[N720]" in err
    assert "in memory `recall.M` of level `recall`, which was not finite before" in err
    assert not (tmp_path / "new" / checkpoint.FILE).exists()
    for verb, shown in ((("eval", run, "--bytes", 64), ""), (("generate", run, "4", "-n", 2), "4")):
        status, out, err = nldsl(
            *verb, "--memory", tmp_path / "nan.safetensors", "--remember", tmp_path / "left"
        )
        assert (
            (status, out) == (cli.RUN, shown)
            and "error[N721]" in err
            and not (tmp_path / "left").exists()
        )


def test_a_score_that_is_not_a_number_is_none(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither when a run ends nor when it is scored; and nothing is told in its record."""
    monkeypatch.setattr(
        Reader, "evaluate", lambda *_: (torch.tensor(math.nan), torch.tensor(15), ({}, 0))
    )
    monkeypatch.setattr(Reader, "read_on", lambda self, lanes, carry: lanes)
    monkeypatch.setattr(results, "score", unchecked(results.score))
    before = metrics.events(run / "metrics.jsonl", "held_out")
    status, out, err = nldsl("eval", run)
    assert (status, out) == (cli.RUN, "") and "error[N721]" in err
    status, out, err = nldsl("train", "--resume", run, "--steps", 4)
    assert status == cli.RUN and "error[N721]" in err and "held out:" not in out
    assert metrics.events(run / "metrics.jsonl", "held_out") == before


def unchecked(score: Callable[..., Any]) -> Callable[..., Any]:
    def scored(
        step: Any, state: Any, corpus: Any, joined: Any, plan: Any, *rest: Any, **named: Any
    ) -> Any:
        return Score(math.nan, 1.0, 1.0, 1), {}

    return scored


# Longer, finished, elsewhere


def test_a_run_made_longer_is_the_longer_run(whole: Path, run: Path) -> None:
    """Where no number follows from the length of the run: bit for bit."""
    status, out, err = nldsl("train", "--resume", run, "--steps", 5, "--save-every", 1)
    assert status == 0 and "resumed after step 3" in out and "goes on as it was" in out
    done(
        "train",
        whole / "spec.nl",
        whole / "text.txt",
        *SMALL,
        "--steps",
        5,
        "--out",
        run.parent / "five",
    )
    assert same(run, run.parent / "five") and steps_of(run) == steps_of(run.parent / "five")
    record = folder.recorded(run)
    assert record.settings.steps == 5 and record.lengthened == [Lengthened(after=3, was=3, steps=5)]
    assert [e["step"] for e in metrics.events(run / "metrics.jsonl", "held_out")] == [3, 5]
    status, _, err = nldsl("train", "--resume", run, "--steps", 4)
    assert status == cli.RUN and "error[N711]" in err and folder.recorded(run).settings.steps == 5


def cosine(step: int, steps: int, peak: float = 0.5, warmup: float = 0.25) -> float:
    s = step / steps
    return peak * (
        s / warmup if s <= warmup else (1 + math.cos(math.pi * (s - warmup) / (1 - warmup))) / 2
    )


def test_the_schedule_of_a_longer_run_is_what_it_says(whole: Path, tmp_path: Path) -> None:
    """The rate is read off the weights: W moves by -rate in each step."""
    spec = tmp_path / "spec.nl"
    spec.write_text(
        SPEC.replace("import layers", "import layers, optimizers").replace(
            "rate * grad(W)", "cosine(0.5, 0.25) * (1 + 0 * grad(W))"
        )
    )
    run = tmp_path / "run"
    done(
        "train",
        spec,
        whole / "text.txt",
        *SMALL,
        "--steps",
        4,
        "--precision",
        "float64",
        "--out",
        run,
    )
    moved = [numbers(run)]
    out = done("train", "--resume", run, "--steps", 16)
    told = (
        f"was {cosine(4, 4):.4g} in step 4, is {cosine(5, 16):.4g} in step 5 and ends at "
        f"{cosine(16, 16):.4g}"
    )
    assert told in out
    moved.append(numbers(run))
    wanted = sum(cosine(n, 16) for n in range(5, 17))
    assert torch.allclose(
        moved[0] - moved[1], torch.full_like(moved[0], wanted), rtol=0, atol=1e-12
    )
    ((_, node),) = schedules.schedules(pipeline.load(spec))
    for step, steps in ((1, 4), (3, 7), (20, 20)):
        found = schedules.value(node, schedules.at(pipeline.load(spec), step - 1, steps))
        assert found == pytest.approx(cosine(step, steps), abs=1e-12)


def test_a_finished_run_says_so_and_does_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    monkeypatch.setattr(runs, "compiled", None)
    out = done("train", "--resume", run)
    assert "is finished: all 3 steps are done" in out and f"--resume {run} --steps 6" in out
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_what_is_named_beside_a_resumed_run_is_data(whole: Path, run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.txt"
    moved.write_bytes(TEXT)
    assert nldsl("train", "--resume", run, moved, "--steps", 4)[0] == 0
    assert nldsl("train", "--resume", run, run / "spec.nl", moved, "--steps", 5)[0] == 0
    assert [n for n, _ in steps_of(run)] == [1, 2, 3, 4, 5]
    (tmp_path / "other.txt").write_bytes(TEXT[::-1])
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_bytes(TEXT + b"!")
    for other in ("other.txt", "texts"):
        status, _, err = nldsl("train", "--resume", run, tmp_path / other)
        assert status == cli.RUN and "error[N711]" in err and "its data was" in err
    status, _, err = nldsl("train", "--resume", run, tmp_path / "nowhere.txt")
    assert status != 0 and "nowhere.txt" in err
    status, _, err = nldsl("train", "--resume", run, tmp_path / "nowhere.nl")
    assert status == cli.USAGE and "nowhere.nl" in err


def test_a_run_is_used_where_its_text_is_not(whole: Path, tmp_path: Path) -> None:
    """The score of a named text is the same, to the bit, beside the training text and without
    it.
    """
    text, other = tmp_path / "text.txt", tmp_path / "other.txt"
    text.write_bytes(TEXT)
    other.write_bytes(TEXT[100:1500])
    run = tmp_path / "run"
    done("train", whole / "spec.nl", text, *SMALL, "--steps", 2, "--out", run)
    there = [done("eval", run, other), done("generate", run, "4 times", "-n", 8)]
    text.unlink()
    without = [done("eval", run, other), done("generate", run, "4 times", "-n", 8)]
    assert without[1] == there[1] and "order-2" in there[0] and "order-2" not in without[0]
    assert without[0].split(" bits")[0] == there[0].split(" bits")[0]
    status, _, err = nldsl("eval", run)
    assert status == cli.RUN and "error[N701]" in err and "nldsl eval" in err
    assert nldsl("train", "--resume", run, "--steps", 3)[0] == cli.RUN
    text.with_suffix(".moved").write_bytes(TEXT)
    done("train", "--resume", run, text.with_suffix(".moved"), "--steps", 3)


def test_a_table_is_scored_by_the_scale_of_a_table_that_is_gone(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(5, 3, (400, 2))
    np.save(tmp_path / "a.npy", rows)
    np.save(tmp_path / "b.npy", rows[::-1] + 1)
    spec = tmp_path / "spec.nl"
    spec.write_text(
        "nldsl 1\nimport layers\ninput x: [2]\nloss = sum((affine(x, [2]) - next(x)) .^ 2)\n"
        "level training every step {\n    memory W: weights\n    context x\n"
        "    minimize mean(loss over period)\n    W <- W - 0.1 * grad(W)\n}\n"
    )
    done("train", spec, tmp_path / "a.npy", *SMALL, "--steps", 2, "--out", tmp_path / "run")
    there = done("eval", tmp_path / "run", tmp_path / "b.npy")
    (tmp_path / "a.npy").unlink()
    without = done("eval", tmp_path / "run", tmp_path / "b.npy")
    assert without.split(";")[0] == there.split(";")[0] and "loss" in there


def test_a_touched_copy_of_the_spec_stops_training_alone(run: Path) -> None:
    there = [done("eval", run, "--bytes", 64), done("generate", run, "4", "-n", 4)]
    spec = run / "spec.nl"
    for text, line in (
        (
            SPEC.replace("rate = 0.1", "rate = 0.2"),
            "spec.nl:4 was `rate = 0.1`, now it is `rate = 0.2`",
        ),
        (
            SPEC.replace("rate = 0.1", "rate = 0.1 "),
            "spec.nl:4 was `rate = 0.1`, now it is 'rate = 0.1 '",
        ),
        (SPEC + "# the end\n", "now it is `# the end`"),
        ("", "spec.nl:1 was `nldsl 1`"),
    ):
        spec.write_text(text)
        status, _, err = nldsl("train", "--resume", run, "--steps", 4)
        assert status == cli.RUN and "error[N711]" in err and line in err
        assert [done("eval", run, "--bytes", 64), done("generate", run, "4", "-n", 4)] == there
    spec.unlink()
    (run / "layers.nl").unlink()
    done("train", "--resume", run, "--steps", 4)
    assert spec.read_text() == SPEC and (run / "layers.nl").exists()


def test_a_spec_that_differs_is_shown_with_its_line(whole: Path, run: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.nl"
    changed.write_text(SPEC.replace("d = 4", "d = 5"))
    status, _, err = nldsl("train", changed, "--resume", run)
    assert (
        status == cli.RUN
        and "spec.nl:3 was `dim d = 4, vocab = 256`, now it is `dim d = 5, vocab = 256`" in err
    )
    changed.write_text(SPEC)
    done("train", changed, "--resume", run)


def test_a_deleted_record_of_metrics_is_said(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    out = done("train", "--resume", run, "--steps", 4)
    assert "tells nothing of steps 1 to 3" in out
    assert [n for n, _ in steps_of(run)] == [4]
    out = done("train", "--resume", run, "--steps", 5)
    assert "tells nothing" not in out


def test_a_broken_line_of_metrics_before_the_checkpoint_is_told_and_nothing_is_cut(
    run: Path,
) -> None:
    path = run / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for broken in (
        b"soup\n",
        b'{"step": 1}\n',
        b'{"event": "step", "step": "one", "loss": 1}\n',
        b"[1]\n",
        b"\xff\n",
    ):
        path.write_bytes(b"".join([lines[0], broken, *lines[2:]]))
        before = path.read_bytes()
        status, _, err = nldsl("train", "--resume", run, "--steps", 4)
        assert status == cli.RUN and "error[N712]" in err and "line 2" in err
        assert path.read_bytes() == before
        for name, text in (
            ((record := run / "run.json"), record.read_text().replace('"steps": 4', '"steps": 3')),
        ):
            name.write_text(text)


# The command line


def test_a_prompt_is_the_bytes_that_the_shell_gave(run: Path) -> None:
    opened = runs.without_data(run)
    for prompt in (b"caf\xe9", b"\xff\xfe", "naïve".encode(), b"a:key:[red]b"):
        shown: list[str] = []
        wish = generated.Wish(3, 0, Manner(0.8))
        generated.write_on(opened, *runs.trained(opened), [prompt], wish, shown.append)
        told = "".join(shown)
        assert done("generate", run, os.fsdecode(prompt), "-n", 3) == told
        assert told.encode().startswith(prompt.split(b"\xe9")[0].split(b"\xff")[0])
    process = subprocess.run(
        [sys.executable, "-m", "nldsl", "generate", run, b"caf\xe9", "-n", "2"],
        capture_output=True,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"},
    )
    assert (
        process.returncode == 0
        and process.stdout.startswith(b"caf")
        and b"Traceback" not in process.stderr
    )


@pytest.mark.parametrize(
    "option", ["--seed", "--steps", "--batch", "--length", "--accumulate", "--save-every"]
)
def test_numbers_beyond_64_bits_are_a_wrong_command_line(
    option: str, whole: Path, tmp_path: Path
) -> None:
    for number in (2**63, 2**64, 10**30, "1" * 5000):
        status, _, err = nldsl(
            "train",
            whole / "spec.nl",
            whole / "text.txt",
            option,
            number,
            "--out",
            tmp_path / "run",
        )
        assert status == cli.USAGE and option in err
    assert not (tmp_path / "run").exists()


def test_numbers_beyond_64_bits_in_a_spec_are_findings(
    whole: Path, run: Path, tmp_path: Path
) -> None:
    for number in (2**63, 10**30, "9" * 400, "9" * 5000, "1e400", "-" + "9" * 30):
        for name in ("d", "rate"):
            status, _, err = nldsl("check", whole / "spec.nl", "--set", f"{name}={number}")
            large = len(str(number)) > 300 or number == "1e400"
            assert status == (cli.REJECTED if name == "d" or large else 0), (name, number, err)
            assert (status == 0) == ("error[" not in err)
        for old, new in (
            ("d = 4", f"d = {number}"),
            ("every token", f"every {number} token"),
            ("every step", f"every {number} step"),
            ("0.5 *", f"{number} *"),
        ):
            (tmp_path / "spec.nl").write_text(SPEC.replace(old, new))
            status, _, err = nldsl("check", tmp_path / "spec.nl")
            assert (status == cli.REJECTED) == ("error[N" in err)
    for verb in (
        ("generate", run, "a", "--seed", 2**64),
        ("generate", run, "a", "-n", 2**70),
        ("eval", run, "--bytes", 2**70),
    ):
        assert nldsl(*verb)[0] == cli.USAGE


def test_sizes_that_no_memory_holds_are_4_with_what_was_asked(whole: Path, tmp_path: Path) -> None:
    spec, out = whole / "spec.nl", tmp_path / "run"
    for arguments in (
        ("train", spec, whole / "text.txt", *SMALL, "--set", "d=1000000000", "--out", out),
        ("compile", spec, "--set", "d=1000000000", "--capture", "eager"),
        ("bench", spec, "--set", "d=1000000000"),
        (
            "train",
            spec,
            whole / "text.txt",
            "--capture",
            "eager",
            "--batch",
            10**12,
            "--out",
            tmp_path / "no",
        ),
        ("compile", spec, "--capture", "eager", "--batch", 10**12),
        ("compile", spec, "--capture", "eager", "--batch", 2**62),
    ):
        status, _, err = nldsl(*arguments)
        assert status == cli.BACKEND and "error[N803]" in err
    assert not (tmp_path / "no").exists()
    assert room.said(1000000000 * 512 * 4) == "1.9 TiB" and room.said(1023) == "1,023 bytes"
    for asked in (
        lambda: torch.empty(2**50),
        lambda: np.empty(2**50),
        lambda: torch.empty(2**62, 2**62),
    ):
        with pytest.raises((RuntimeError, MemoryError)) as found:
            asked()
        assert room.refused(found.value).diagnostics[0].code == "N803"
    assert room.refused(RuntimeError("the sizes do not match")) is None


def test_a_reader_that_has_gone_ends_a_run_after_its_step(whole: Path, tmp_path: Path) -> None:
    """`train | head -n 1`: what was done is saved, and the resumed run is the unbroken one."""
    run = tmp_path / "run"
    command = training_on(whole, "--steps", "40", "--save-every", "4", "--out", run)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=300) == cli.INTERRUPTED and "Traceback" not in err
    assert f"go on with: nldsl train --resume {run}" in err
    saved = checkpoint.manifest(run)
    assert [n for n, _ in steps_of(run)] == list(range(1, (saved.step if saved else 0) + 1))
    done("train", "--resume", run)
    done(
        "train",
        whole / "spec.nl",
        whole / "text.txt",
        *SMALL,
        "--steps",
        40,
        "--out",
        tmp_path / "unbroken",
    )
    assert same(run, tmp_path / "unbroken") and steps_of(run) == steps_of(tmp_path / "unbroken")


def test_a_reader_that_has_gone_is_no_traceback_in_other_verbs(whole: Path, run: Path) -> None:
    for verb in (
        ("graph", whole / "spec.nl"),
        ("fmt", whole / "spec.nl"),
        ("compile", whole / "spec.nl", "--emit", "python"),
    ):
        process = subprocess.run(
            ["sh", "-c", 'exec "$@" | true', "sh", sys.executable, "-m", "nldsl", *verb],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert "Traceback" not in process.stderr and "BrokenPipe" not in process.stderr
    assert screen.PIPE_CLOSED == 128 + signal.SIGPIPE


def interrupting(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_while_compiling_or_scoring_says_how_to_go_on(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(CompiledStep, "warm", interrupting)
        status, out, _ = nldsl(
            "train", whole / "spec.nl", whole / "text.txt", *SMALL, "--steps", 3, "--out", run
        )
    assert (
        status == cli.INTERRUPTED and "interrupted while compiling: nothing was saved before" in out
    )
    assert f"go on with: nldsl train --resume {run}" in out and not (run / checkpoint.FILE).exists()
    with monkeypatch.context() as patch:
        patch.setattr(results, "score", interrupting)
        status, out, _ = nldsl("train", "--resume", run)
        assert (
            status == cli.INTERRUPTED and "interrupted while scoring: all 3 steps are saved" in out
        )
        status, _, err = nldsl("eval", run)
        assert status == cli.INTERRUPTED and "the run is as it was" in err
    assert (
        checkpoint.manifest(run).step == 3
        and metrics.events(run / "metrics.jsonl", "held_out") == []
    )
    out = done("train", "--resume", run)
    assert (
        "held out:" in out
        and [n for n, _ in steps_of(run)] == [1, 2, 3]
        and same(run, whole / "run")
    )


def test_a_setting_that_meets_nothing_lists_what_can_be_set(whole: Path) -> None:
    _, _, err = nldsl("check", whole / "spec.nl", "--set", "rat=1")
    assert "did you mean `rate`? what can be set here: `d`, `rate`, `vocab`" in err
    _, _, err = nldsl("check", whole / "spec.nl", "--set", "nonsense=1")
    assert "what can be set here: `d`, `rate`, `vocab`" in err


MARKED = "nldsl 1\n# :key: [red]of[/red] \\[bold] :x: [link=a]b\ninput x: []\ny = x\n"


def test_text_is_printed_as_it_is(tmp_path: Path) -> None:
    spec = tmp_path / "[red]:key:.nl"
    spec.write_text(MARKED)
    assert done("fmt", spec) == MARKED
    assert nldsl("fmt", "-", text=MARKED)[1] == MARKED
    assert done("check", spec).startswith(f"{spec}: ")
    spec.write_text(MARKED + "z = x + [red]:key:\n")
    for verb in ("check", "fmt"):
        _, _, err = nldsl(verb, spec)
        assert "5 | z = x + [red]:key:\n" in err
    spec.write_text(MARKED)
    out = tmp_path / "page"
    for form in ("table", "text", "mermaid"):
        done("graph", spec, "--as", form, "-o", out)
        assert out.read_text().strip() == done("graph", spec, "--as", form).strip()
    page = StringIO()
    for terminal in (False, True):
        display = shown_on(screen.Screen(file=page, force_terminal=terminal, width=80))
        display.say("[red]:key: [/x]")
        display.compiling("[red]:key:")
        display.close()
    assert page.getvalue().count("[red]:key: [/x]\n") == 2


def test_a_generated_text_is_printed_as_it_is(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b" [red]:key:[/red] :x:"

    def drawn(*given: Any) -> dict[str, torch.Tensor]:
        hears = given[5]
        for token in text:
            hears(0, token)
        return {}

    monkeypatch.setattr(generated, "go_on", drawn)
    assert done("generate", run, ":a:[b]", "-n", len(text)) == f":a:[b]{text.decode()}\n"


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("steps", [200, 12_345, 10_000_000])
def test_the_number_of_the_step_can_be_read_on_a_narrow_terminal(width: int, steps: int) -> None:
    page = StringIO()
    display = shown_on(Console(file=page, force_terminal=True, width=width, color_system=None))
    display.training(0, steps)
    display.step(
        steps // 2,
        {"loss": 5.4321, "bits": 7.8375},
        123_456.0,
        tuple(f"level[{n}]" for n in range(9)),
    )
    display._progress.refresh()
    display.close()
    lines = page.getvalue().replace("\r", "\n").split("\n")
    assert (
        any(f"{steps // 2}/{steps} " in line for line in lines)
        and f"{steps}…" not in page.getvalue()
    )
