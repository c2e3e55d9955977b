"""Training: checkpoints, and runs that are killed, interrupted, out of disk space or resumed with
other settings.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from rich.console import Console

from nldsl.diagnostic import Diagnostics
from nldsl.train import checkpoint, metrics
from nldsl.train.display import short, shown_on
from nldsl.train.records import Manifest, Settings

TINY = """nldsl 1
import layers, optimizers

dim d = 8, vocab = 256
lr = 1e-2
input ids: index(vocab)

def model(ids) -> [vocab] {
    x = embed(ids, [d])
    x <- x + conv(x, 3)
    for p in [1, 4] {
        level ffn[p] every p step {
            memory F: swiglu([d], hidden = 2 * d) = random
            context ids
            minimize mean(loss over period)
            F <- F + adamw(F, clip(grad(F), 1), lr = lr, decay = 0.1)
            bptt none
        }
        x <- x + ffn[p].F(rmsnorm(x))
    }
    return linear(rmsnorm(x), [vocab])
}
loss = cross_entropy(model(ids), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W + adamw(W, clip(grad(W), 1), lr = cosine(lr, 0.1), decay = 0.1)
}
"""
STEPS, SAVE_EVERY = 60, 7
NUMBERS = ["--batch", "2", "--length", "32", "--capture", "eager"]

# `nldsl`, with a line written for every step that is really executed; the line survives SIGKILL,
# which comes at the write that the environment says, if it says one.
COUNTED = """
import atexit, os, sys
from pathlib import Path
from nldsl import cli
from nldsl.train import run
log = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
compiled = run.compiled

class Counted:
    def __init__(self, step):
        self.step = step
    def __getattr__(self, name):
        return getattr(self.step, name)
    def __call__(self, state, batches):
        os.write(log, b"%d\\n" % (state.step + 1))
        return self.step(state, batches)

def counted(opened):
    step, state = compiled(opened)
    return Counted(step), state

run.compiled = counted
if at := os.environ.get("NLDSL_KILLED_AT"):
    from striking import Strikes, killed
    Strikes(Path("run"), int(at), killed).install()
atexit.register(lambda: Path("imported").write_text(" ".join(sys.modules)))
cli.main()
"""
WRITES = 200  # of such a run, about


def code_of(found: pytest.ExceptionInfo[Diagnostics]) -> str:
    return found.value.diagnostics[0].code


def start(folder: Path, *arguments: str, killed_at: int = 0) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    at = {"NLDSL_KILLED_AT": str(killed_at)} if killed_at else {}
    return subprocess.Popen(
        [sys.executable, "-c", COUNTED, str(folder / "executed"), *arguments],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, **at},
    )


def nldsl(folder: Path, *arguments: str) -> tuple[int, str, str]:
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def executed(folder: Path) -> list[int]:
    path = folder / "executed"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def losses(folder: Path) -> list[tuple[int, float]]:
    return [
        (event["step"], event["loss"])
        for event in metrics.events(folder / "run" / "metrics.jsonl", "step")
    ]


def wait_for(folder: Path, process: subprocess.Popen[str], steps: int) -> None:
    while len(executed(folder)) < steps:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


def prepare(folder: Path) -> list[str]:
    """A folder with the tiny spec and a text; returns the arguments of `nldsl train` without
    --resume.
    """
    (folder / "tiny.nl").write_text(TINY)
    (folder / "text.txt").write_bytes(Path(json.decoder.__file__).read_bytes())
    return [
        "train",
        "tiny.nl",
        "text.txt",
        "--steps",
        str(STEPS),
        "--save-every",
        str(SAVE_EVERY),
        "--eval-every",
        "4",
        "--eval-bytes",
        "500",
        "--out",
        "run",
        *NUMBERS,
    ]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    status, out, err = nldsl(folder, *prepare(folder))
    assert status == 0, err
    assert "held out:" in out and "order-2 byte model" in out
    return folder


def after(step: int) -> Manifest:
    """What a checkpoint of tensors that no program has says of itself."""
    return Manifest(
        spec_sha256="0" * 64,
        settings=Settings(),
        data_sha256="0" * 64,
        torch="0",
        threads=1,
        step=step,
        weights=[],
    )


def saved_bytes(folder: Path) -> dict[str, bytes]:
    """The last checkpoint and the best one."""
    return {
        f"{file} {name}": bits_of(tensor)
        for file in (checkpoint.FILE, checkpoint.BEST)
        for name, tensor in safetensors.torch.load_file(folder / "run" / file).items()
    }


def scores(folder: Path) -> list[tuple[int, float]]:
    return [
        (event["step"], event["score"])
        for event in metrics.events(folder / "run" / "metrics.jsonl", "eval")
    ]


def bits_of(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist())


def assert_same_run(folder: Path, unbroken: Path) -> None:
    assert losses(folder) == losses(unbroken)
    assert scores(folder) == scores(unbroken) and len(scores(unbroken)) == STEPS // 4
    assert [n for n, _ in losses(folder)] == list(range(1, STEPS + 1))
    assert saved_bytes(folder) == saved_bytes(unbroken)


def kill_and_resume(folder: Path, unbroken: Path, seed: int) -> None:
    """A kill at a moment that the seed draws: of an even one anywhere, of an odd one in the middle
    of a write.
    """
    arguments = prepare(folder)
    chance = random.Random(seed)
    if seed % 2:
        process = start(folder, *arguments, killed_at=chance.randrange(30, WRITES))
    else:
        events = metrics.events(unbroken / "run" / "metrics.jsonl", "step")
        duration = sum(event["seconds"] for event in events)
        process = start(folder, *arguments)
        wait_for(folder, process, 2)
        time.sleep(chance.uniform(0, 0.8 * duration))
        process.kill()
    out, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL or not seed % 2
    announced = max(
        [int(line.split()[-1]) for line in out.splitlines() if line.startswith("saved step")],
        default=0,
    )
    before = executed(folder)
    (folder / "executed").unlink(missing_ok=True)
    status, out, err = nldsl(folder, "train", "--resume", "run", "--save-every", str(SAVE_EVERY))
    assert status == 0, err
    again = executed(folder)
    assert again == list(range(again[0], STEPS + 1)) if again else announced == STEPS
    assert not again or again[0] > announced, "a step that was announced as saved was run again"
    assert not again or again[0] <= len(before) + 1, "a step was left out"
    assert_same_run(folder, unbroken)


def test_a_run_without_the_compiler_does_not_import_it(unbroken: Path) -> None:
    assert "torch._dynamo" not in (unbroken / "imported").read_text().split()


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_run_resumes_at_the_last_announced_checkpoint(
    seed: int, tmp_path: Path, unbroken: Path
) -> None:
    kill_and_resume(tmp_path, unbroken, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(50))
def test_fifty_killed_runs_resume(seed: int, tmp_path: Path, unbroken: Path) -> None:
    kill_and_resume(tmp_path, unbroken, 100 + seed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_step_and_says_how_to_go_on(
    number: signal.Signals, tmp_path: Path, unbroken: Path
) -> None:
    process = start(tmp_path, *prepare(tmp_path))
    wait_for(tmp_path, process, 5)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    last = executed(tmp_path)[-1]
    assert (process.returncode, err) == (130, "")
    assert last < STEPS
    assert f"interrupted after step {last}; go on with: nldsl train --resume run\n" in out
    assert checkpoint.manifest(tmp_path / "run").step == last
    assert nldsl(tmp_path, "train", "--resume", "run")[0] == 0
    assert Counter(executed(tmp_path)) == Counter(range(1, STEPS + 1))
    assert_same_run(tmp_path, unbroken)


@pytest.mark.soak
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_a_diagnostic_and_loses_nothing(tmp_path: Path, unbroken: Path) -> None:
    arguments = prepare(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / (checkpoint.FILE + ".partial")).symlink_to("/dev/full")
    status, out, err = nldsl(tmp_path, *arguments)
    assert status == 3
    assert "error[N713]" in err and "No space left on device" in err and "Traceback" not in err
    assert "saved step" not in out
    assert nldsl(tmp_path, "train", "--resume", "run")[0] == 0
    assert_same_run(tmp_path, unbroken)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_failed_save_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"w": torch.ones(3)}, after(1))
    (tmp_path / (checkpoint.FILE + ".partial")).symlink_to("/dev/full")
    with pytest.raises(Diagnostics) as found:
        checkpoint.save(tmp_path, {"w": torch.zeros(3)}, after(2))
    assert code_of(found) == "N713"
    assert checkpoint.manifest(tmp_path) == after(1)
    w = torch.zeros(3)
    checkpoint.load(tmp_path, {"w": w})
    assert w.tolist() == [1, 1, 1]


def test_a_checkpoint_keeps_every_bit(tmp_path: Path) -> None:
    storage = torch.randn(4, 4)
    tensors = {
        "view": storage.T[1:],
        "whole": storage,
        "half": torch.randn(5).bfloat16(),
        "count": torch.tensor(2**40),
        "nan": torch.tensor(float("nan")),
    }
    checkpoint.save(tmp_path, tensors, after(7))
    loaded = {name: torch.zeros_like(t) for name, t in tensors.items()}
    checkpoint.load(tmp_path, loaded)
    for name, tensor in tensors.items():
        assert bits_of(loaded[name]) == bits_of(tensor), name


@pytest.mark.parametrize(
    "harm, code",
    [
        (lambda run: (run / "tiny.nl").write_text(TINY + "\n"), "N711"),
        (lambda run: (run.parent / "text.txt").write_bytes(b"another text\n" * 500), "N711"),
        (
            lambda run: (run / checkpoint.FILE).write_bytes(
                (run / checkpoint.FILE).read_bytes()[:-9]
            ),
            "N712",
        ),
        (lambda run: (run / checkpoint.FILE).write_bytes(b"nothing"), "N712"),
        (lambda run: checkpoint.save(run, {"w": torch.ones(3)}, checkpoint.manifest(run)), "N712"),
        (
            lambda run: checkpoint.save(
                run,
                {"w": torch.ones(3)},
                checkpoint.manifest(run).model_copy(update={"spec_sha256": "0" * 64}),
            ),
            "N711",
        ),
        (lambda run: (run / "run.json").unlink(), "N710"),
    ],
    ids=["spec", "text", "cut", "no checkpoint", "other tensors", "other spec's", "no run"],
)
def test_a_run_that_was_tampered_with_is_refused(
    harm, code: str, tmp_path: Path, unbroken: Path
) -> None:
    prepare(tmp_path)
    (tmp_path / "run").mkdir()
    for file in (unbroken / "run").iterdir():
        (tmp_path / "run" / file.name).write_bytes(file.read_bytes())
    harm(tmp_path / "run")
    status, _, err = nldsl(tmp_path, "train", "run/tiny.nl", "text.txt", "--resume", "run")
    assert status == 3 and f"error[{code}]" in err and "Traceback" not in err


def test_a_resumed_run_takes_no_other_numbers(unbroken: Path) -> None:
    for option, value in (("--batch", "3"), ("--steps", "9"), ("--seed", "1"), ("--set", "d=16")):
        status, _, err = nldsl(unbroken, "train", "--resume", "run", option, value)
        assert status == 3 and "error[N711]" in err, option


def test_a_second_process_cannot_train_in_the_same_folder(tmp_path: Path) -> None:
    journal = metrics.Journal(tmp_path / "metrics.jsonl")
    with pytest.raises(Diagnostics) as found:
        metrics.Journal(tmp_path / "metrics.jsonl")
    assert code_of(found) == "N714"
    journal.close()


def test_a_folder_that_holds_a_run_is_not_overwritten(unbroken: Path) -> None:
    status, _, err = nldsl(unbroken, *prepare(unbroken))
    assert status == 3 and "error[N715]" in err


def test_a_loss_that_is_no_number_ends_the_run_and_is_not_saved(tmp_path: Path) -> None:
    status, out, err = nldsl(tmp_path, *prepare(tmp_path), "--set", "lr=1e30")
    assert status == 3 and "error[N720]" in err
    saved = checkpoint.manifest(tmp_path / "run")
    assert (
        saved is None
        or saved.step < metrics.events(tmp_path / "run" / "metrics.jsonl", "step")[-1]["step"]
    )


def test_metrics_hold_the_timetable_and_the_bits(unbroken: Path) -> None:
    for event in metrics.events(unbroken / "run" / "metrics.jsonl", "step"):
        ticked = Counter(name.rsplit(".")[-1] for name in event["ticked"])
        assert ("ffn[4]" in ticked) == (event["step"] % 4 == 0)
        assert "ffn[1]" in ticked and "training" in ticked
        assert event["bits"] == pytest.approx(event["loss"] / np.log(2))
        assert event["tokens"] == 64


def test_the_journal_is_cut_behind_the_checkpoint_and_at_a_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    journal = metrics.Journal(path)
    journal.write("start", step=0)
    for n in range(1, 6):
        journal.write("step", step=n, loss=float(n))
    journal.close()
    path.write_bytes(path.read_bytes() + b'{"event": "st')
    journal = metrics.Journal(path)
    journal.cut(3)
    journal.write("step", step=4, loss=0.5)
    journal.close()
    assert [e["loss"] for e in metrics.events(path, "step")] == [1.0, 2.0, 3.0, 0.5]


def test_the_run_folder_is_complete(unbroken: Path) -> None:
    assert sorted(file.name for file in (unbroken / "run").iterdir()) == [
        "best.safetensors",
        "checkpoint.safetensors",
        "layers.nl",
        "loss.svg",
        "metrics.jsonl",
        "optimizers.nl",
        "run.json",
        "tiny.nl",
    ]
    assert (unbroken / "run" / "loss.svg").read_text().count("<path") > 2
    numbers = json.loads((unbroken / "run" / "run.json").read_text())
    assert numbers["settings"]["batch"] == 2 and numbers["dims"]["d"] == 8


def test_the_live_display_says_what_the_lines_say() -> None:
    for terminal in (False, True):
        text = StringIO()
        display = shown_on(Console(file=text, force_terminal=terminal, width=160))
        display.compiling("block layer")
        display.training(0, 2)
        display.step(
            1,
            {"loss": 2.0, "bits": metrics.bits(2.0)},
            1500.0,
            ("model.ffn[1]", "model.b.ffn[1]", "training"),
        )
        display.step(2, {"loss": 2.0, "bits": metrics.bits(2.0)}, 1500.0, ("training",))
        display.close()
        for words in (
            "block layer",
            "loss 2.0000",
            "2.885 bits per byte",
            "1,500 tokens/s",
            "training",
        ):
            assert words in text.getvalue(), (terminal, words)
    assert (
        short(("model.ffn[1]", "model.b.ffn[1]", "training", "training.adamw.adam.moments"))
        == "ffn[1] x2, training"
    )
