"""`nldsl audit`: a trained run that is what its text says, and runs that are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import family
import pytest
import torch
from commands import SMALL, done, nldsl
from torch import Tensor

from nldsl.audit import Audit, audited, opened
from nldsl.audit import page as pages
from nldsl.audit.cadence import cadences
from nldsl.audit.reach import reaches
from nldsl.core.program import Bptt, Clock
from nldsl.step import looking
from nldsl.step.reading import Module
from nldsl.train import run as runs

torch.set_num_threads(1)


def trained(folder: Path, spec: Path, *sets: str) -> Path:
    (folder / "text.txt").write_text("".join(f"line {i} of {i * i}\n" for i in range(2000)))
    said = [word for one in sets for word in ("--set", one)]
    done("train", spec, folder / "text.txt", *said, *SMALL, "--steps", 2, "--out", folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sets = ("d=8", "head=2", "depth=1", "near=2", "span=4", "periods=[1, 2]")
    return trained(tmp_path_factory.mktemp("hope"), family.EXAMPLES / "hope.nl", *sets)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gated DeltaNet, whose memory no learner sees through: what makes keys gets no gradient."""
    folder = tmp_path_factory.mktemp("cut")
    text = (family.EXAMPLES / "gated_deltanet.nl").read_text()
    parts = text.partition("bptt full ")
    assert parts[1] and "depth = 6\n" in parts[0]
    head = parts[0].replace("depth = 6\n", "depth = 6\nclock seen = 4 token\n")
    (folder / "cut.nl").write_text(f"{head}bptt seen {parts[2]}")
    return trained(folder, folder / "cut.nl", "d=8", "head=2", "depth=2")


@pytest.fixture(scope="module")
def whole(run: Path) -> Audit:
    return audited(runs.reopen(run), 160)


@pytest.fixture(scope="module")
def short(cut: Path) -> Audit:
    return audited(runs.reopen(cut), 160)


@pytest.fixture(scope="module")
def subject(run: Path) -> opened.Opened:
    return opened.opened(runs.reopen(run), 160)


def test_where_little_is_held_out_the_sequences_are_shorter() -> None:
    for documents, expected in (
        ([(0, 256)], ([0, 127], 128)),
        ([(0, 256), (300, 600)], ([0, 300], 256)),
        ([(0, 5)], ([0, 1, 2, 3], 2)),
        ([], ([], 1)),
    ):
        starts, length = opened.sequences(documents, 256, 512, 1)
        assert ([*starts.tolist()][:4], length) == expected


def test_a_run_that_is_what_its_text_says(whole: Audit) -> None:
    assert whole.broken == [] and [law.name for law in whole.laws] == ["causality", "independence"]
    assert (whole.sequences, whole.tokens, whole.step) == (10, 16, 2)
    moved = {row.name: row for row in whole.cadences}
    recall = "loss.layer[0].self_modifying_titans.M_mem.recall.M"
    assert moved[recall].moved == moved[recall].due == tuple(range(1, 17))
    slow = moved["loss.layer[0].continuum.ffn[2].F"]
    assert slow.moved == slow.due == (2, 4) and slow.watched == 4 and slow.clock == "every 2 step"
    assert moved["training.W"].due == (1, 2, 3, 4)
    reach = {row.name: row for row in whole.reaches}[recall]
    assert (reach.declared, reach.read, reach.tokens) == ("full", 15, 15)
    assert reach.chunks == {"far": 4} and reach.allowed is None


def test_the_score_is_that_of_the_whole_model(subject: opened.Opened, whole: Audit) -> None:
    lost = looking.losses(subject.step, subject.state, [subject.batch])["loss"]
    assert abs(whole.score - float(lost)) < 1e-12
    names = {row.name for row in whole.contributions}
    assert names >= {"training.W", "loss.layer[0].continuum.ffn[2].F"}
    assert next(row for row in whole.contributions if row.name == "training.W").frozen > 0
    assert all(row.frozen and row.removed for row in whole.contributions)


def test_a_memory_that_starts_as_nothing_is_removed_where_it_stays_there(short: Audit) -> None:
    (recall,) = (row for row in short.contributions if row.name.endswith("recall.M"))
    assert recall.names == tuple(f"loss.layer[{i}].mixer.recall.M" for i in (0, 1))
    assert recall.frozen == recall.removed != 0


def test_a_gradient_ends_where_the_text_cuts_it(short: Audit) -> None:
    (row,) = short.reaches
    assert (row.declared, row.through, row.allowed) == ("seen", 3, 3) and not short.broken
    # the second layer's convolution, after the cut at 12 tokens, reaches the first's from 8 on
    assert (row.read, row.tokens) == (15, 7)


def test_what_gets_no_gradient_is_named(tmp_path: Path) -> None:
    spec = tmp_path / "idle.nl"
    spec.write_text(
        """nldsl 1
import layers, optimizers
dim d = 4, vocab = 256
input ids: index(vocab)
def model(ids) -> [vocab] {
    x = embed(ids, [d])
    k = linear(x, [d])
    level fast every token {
        memory M: [d, d] = 0
        context k, x
        minimize |M * k - x|^2 / 2
        M <- M - 0.1 * grad(M)
        bptt none
    }
    return linear(fast.M * linear(x, [d]), [vocab])
}
loss = cross_entropy(model(ids), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}
"""
    )
    found = audited(runs.reopen(trained(tmp_path, spec)), 64)
    assert [*found.untouched] == ["loss.k"] and "no gradient in `loss.k`" in told(found)
    assert not found.broken


def told(found: Audit) -> str:
    from io import StringIO

    from rich.console import Console

    console = Console(file=StringIO(), width=80)
    console.print(found.page())
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_command_prints_a_table_or_json(cut: Path) -> None:
    out = done("audit", cut, "--tokens", 40)
    assert "│ causality" in out and "layer[0..1].mixer.recall.M" in out and "broken" not in out
    said = json.loads(done("audit", cut, "--tokens", 40, "--format", "json"))
    assert said["holds"] and {row["law"] for row in said["laws"]} == {"causality", "independence"}
    assert {len(row["names"]) for row in said["cadence"]} == {1, 2}


# --- runs that are not ---------------------------------------------------------------------------


def leaking(spoil: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is emitted gives other values."""
    before = opened.Opened.streams

    def streams(self: opened.Opened) -> Module:
        module = before(self)
        own = module["forward"]

        def forward(*given: object) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
            values, carry = own(*given)
            return {name: spoil(x) for name, x in values.items()}, carry

        return module | {"forward": forward}

    monkeypatch.setattr(opened.Opened, "streams", streams)


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda x: x + x.roll(-1, 1), "token 2 moves `logits` at token 1"),
        (lambda x: x + 1e-12 * x.mean(0, keepdim=True), "the other sequences move `loss`"),
    ],
)
def test_a_leak_is_told(
    cut: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Tensor], Tensor], said: str
) -> None:
    leaking(spoil, monkeypatch)
    monkeypatch.setattr(pages, "contributions", lambda subject: (0.0, []))
    monkeypatch.setattr("nldsl.audit.laws.PLACES", 15)
    status, out, _ = nldsl("audit", cut, "--tokens", 40)
    assert status == 1 and said in " ".join(out.split()) and "NO" in out


@pytest.mark.parametrize(
    "level, other, said",
    [
        (
            "loss.layer[0].continuum.ffn[2]",
            {"clock": Clock("step", 3)},
            "`loss.layer[0].continuum.ffn[2].F` moves at step 2, 4, and ticks every 3 step",
        ),
        (
            "loss.layer[0].self_modifying_titans.M_mem.recall",
            {"clock": Clock("token", 8)},
            "moves at token 1, 2, 3, 4, 5, 6, .., and ticks every 8 token",
        ),
        (
            "loss.layer[0].self_modifying_titans.M_mem.recall",
            {"bptt": (Bptt("none"),)},
            "has a gradient through its own ticks 15 tokens back; its `bptt none` allows 0",
        ),
        (
            "loss.layer[0].self_modifying_titans.M_mem.recall",
            {"bptt": (Bptt(Clock("token", 8, name="seen")),)},
            "its `bptt seen` allows 7",
        ),
    ],
)
def test_a_step_of_another_text_is_told(
    subject: opened.Opened, whole: Audit, level: str, other: dict[str, object], said: str
) -> None:
    """The step was compiled of one text, and is held to a text with another clause."""
    levels = subject.program.levels
    changed = {level: replace(levels[level], **other)}  # type: ignore[arg-type]
    program = replace(subject.program, levels=levels | changed)
    held = replace(subject, run=replace(subject.run, program=program))
    if "clock" in other:
        found = replace(whole, cadences=tuple(cadences(held)))
    else:
        found = replace(whole, reaches=tuple(reaches(held)))
    assert len(found.broken) >= 1 and any(said in line for line in found.broken), found.broken


def test_a_run_without_a_checkpoint_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for file in run.iterdir():
        if file.name != "checkpoint.safetensors":
            (tmp_path / "run" / file.name).write_bytes(file.read_bytes())
    status, _, err = nldsl("audit", tmp_path / "run")
    assert status == 3 and "N716" in err


def test_workers_and_their_restarts_are_due(tmp_path: Path) -> None:
    sets = ("d=8", "head=2", "depth=1", "worker=4", "round=3")
    spec = family.EXAMPLES / "local_sgd.nl"
    (tmp_path / "text.txt").write_text("".join(f"line {i} of {i * i}\n" for i in range(2000)))
    said = [word for one in sets for word in ("--set", one)]
    how = ("--batch", 4, *SMALL[2:], "--steps", 2, "--out", tmp_path / "run")
    done("train", spec, tmp_path / "text.txt", *said, *how)
    found = audited(runs.reopen(tmp_path / "run"), 160)
    assert found.broken == []
    (outer,) = [row for row in found.cadences if row.clock == "every 3 step"]
    assert outer.moved == outer.due == (3, 6)
