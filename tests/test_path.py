"""The whole path of one who comes with the README: install, change a period, break a spec in ten
ways, own data, own training loop, stop, resume, begin from a run, generate, export.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = "--set d=16 --set head=2 --set depth=1 --length 32 --capture eager".split()
# what is typed instead of what stands in titans.nl, and what answers it
MISTAKES = {
    "N610": ("context k, v ", "context k "),
    "N101": ("momentum(grad(M@chunk)", "momentun(grad(M@chunk)"),
    "N016": ("per head every token {", "per head {"),
    "N206": ("head = 4", "head = 3"),
    "N110": ("memory W: weights", "memory W: [] = 0"),
    "N103": ("    q = unit(", "    depth = unit("),
    "N105": ("    k = unit(", "    q = unit("),
    "N106": ("import layers", "import layrs"),
    "N503": ("level training every step {", "level training never {"),
    "N011": ("bptt full", "bptt full }"),
}
LOOP = """
import torch, nldsl
program = nldsl.load("own.nl", d=16, head=2, depth=1)
model = program.module(program.compile(capture="eager").init(0))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
ids = torch.tensor(bytearray(open("own.txt", "rb").read()))[:512].long().view(8, 64)
losses = []
for _ in range(8):
    optimizer.zero_grad()
    logits = model(ids)[:, :-1].flatten(0, 1)
    loss = torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten())
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0] - 0.2, losses
"""


class Newcomer:
    """A folder, and a package that was installed from a clone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(folder / "site"),
            "PYTHONSAFEPATH": "1",
            "XDG_CACHE_HOME": str(folder / "cache"),
        }

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *arguments: object, status: int = 0) -> str:
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=1800)
        assert process.returncode == status and "Traceback" not in said, said
        return said

    def nldsl(self, *arguments: object, status: int = 0) -> str:
        return self.run("-m", "nldsl", *arguments, status=status)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    folder = tmp_path_factory.mktemp("newcomer")
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "--no-deps", "--target", folder / "site", clone], check=True)
    (folder / "own.nl").write_text((clone / "examples" / "titans.nl").read_text())
    (folder / "own.txt").write_text("the fox saw the dog, and the dog saw the fox\n" * 400)
    return Newcomer(folder)


def bits(said: str) -> float:
    return float(said.rpartition("held out: ")[2].split()[0])


@pytest.mark.soak
def test_a_period_is_changed(newcomer: Newcomer) -> None:
    hope = ("train", "clone/examples/hope.nl", "own.txt", *SMALL, "--set", "near=16", "--steps", 24)
    slow = newcomer.nldsl(*hope, "--out", "slow")
    fast = newcomer.nldsl(*hope, "--set", "periods=[1,2,4,8]", "--out", "fast")
    assert "ffn[64]` never ticks" in slow and "never ticks" not in fast
    assert "ticked training, ffn[1], ffn[2], ffn[4], ffn[8]" in fast and bits(fast) != bits(slow)


@pytest.mark.soak
@pytest.mark.parametrize("code", MISTAKES)
def test_a_spec_is_broken(newcomer: Newcomer, code: str) -> None:
    """Each mistake is told at its words, with what to write instead, and no run is begun."""
    text, (right, wrong) = (newcomer.folder / "own.nl").read_text(), MISTAKES[code]
    assert right in text
    (newcomer.folder / "broken.nl").write_text(text.replace(right, wrong, 1))
    said = newcomer.nldsl("train", "broken.nl", "own.txt", "--out", "broken", status=1)
    assert f"error[{code}]" in said and "--> broken.nl:" in said
    assert not (newcomer.folder / "broken").exists()
    assert newcomer.nldsl("explain", code).startswith(f"{code}: ")


@pytest.mark.soak
def test_a_run_on_own_data_is_stopped_resumed_and_used(newcomer: Newcomer) -> None:
    train = ("-m", "nldsl", "train", "own.nl", "own.txt", *SMALL, "--steps", 400, "--out", "run")
    process, journal = newcomer.start(*train), newcomer.folder / "run" / "metrics.jsonl"
    while not (journal.exists() and '"event": "step"' in journal.read_text()):
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 130 and "go on with: nldsl train --resume run" in said
    newcomer.nldsl("train", "--resume", "run")
    steps = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [e["step"] for e in steps if e["event"] == "step"] == list(range(1, 401))
    score = bits(newcomer.nldsl("eval", "run"))
    assert score < 2
    tuned = newcomer.nldsl("train", "--from", "run", "--steps", 5, "--out", "tuned")
    assert "begins from" in tuned and bits(tuned) < score + 1
    assert newcomer.nldsl("generate", "run", "the ", "-n", 20).startswith("the ")
    for form in ("safetensors", "torch"):
        newcomer.nldsl("export", "run", "--as", form, "-o", form)
    loaded = (
        'import torch; torch.export.load("torch/model.pt2").module()(torch.zeros(1, 32).long())'
    )
    newcomer.run("-c", loaded)


@pytest.mark.soak
def test_a_loop_of_ones_own_learns(newcomer: Newcomer) -> None:
    newcomer.run("-c", LOOP)


@pytest.mark.soak
def test_a_spec_begins_small(newcomer: Newcomer) -> None:
    newcomer.nldsl("new", "mine.nl")
    assert "accepted" in newcomer.nldsl("check", "mine.nl")
    assert "└" in newcomer.nldsl("graph", "mine.nl")
