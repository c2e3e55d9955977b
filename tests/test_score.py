"""The score of a trained model: what it is taken of, what it is called, and that it does not depend
on batch size or on how the text is cut.
"""

from __future__ import annotations

import json
import math
import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import done, nldsl
from lanes import READER

from nldsl import cli
from nldsl.core.nodes import walk
from nldsl.oracle.interpreter import Oracle
from nldsl.pipeline import compile_program, load, load_text
from nldsl.testing import data as drawn_data
from nldsl.train import metrics
from nldsl.train import run as runs
from nldsl.train.data import baseline
from nldsl.train.data import text as texts
from nldsl.train.data.dataset import Result
from nldsl.train.data.given import Given
from nldsl.train.data.sequences import planned
from nldsl.train.records import Settings
from nldsl.train.score import score

torch.set_num_threads(1)
NUMBERS = ("--length", "16", "--capture", "eager", "--precision", "float64", "--steps", "2")
BYTES = """nldsl 1
import layers
dim d = 4, vocab = 256
weight_of_penalty = 1
input ids: index(vocab)
logits = linear(rmsnorm(embed(ids, [d])), [vocab])
answer = cross_entropy(logits, next(ids))
{LOSS}
level training every step {{
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}}
"""
SERIES = """nldsl 1
dim channel = 2, d = 2
input x: [channel]
clock chunk = 4 token
h = affine(tanh(affine(x, [d])), [channel])
{LOSS}
level training every step {{
    memory W: weights
    context x
    minimize mean(loss over period)
    W <- W - 0.01 * grad(W)
}}
"""
WAVES = np.stack([np.sin(np.arange(400) / 5), np.cos(np.arange(400) / 7)], 1)


def text_of(folder: Path, size: int = 9000) -> Path:
    words = random.Random(0).choices(
        "the cat sat on a mat and then it ran away".split(), k=size // 4
    )
    (folder / "text.txt").write_text(" ".join(words)[:size])
    return folder / "text.txt"


def trained(folder: Path, text: str, loss: str, source: Path, *more: object) -> str:
    (folder / "spec.nl").write_text(text.format(LOSS=loss))
    return done(
        "train", folder / "spec.nl", source, "--out", folder / "run", "--batch", 2, *NUMBERS, *more
    )


def events(folder: Path, kind: str) -> list[dict]:
    return metrics.events(folder / "run" / "metrics.jsonl", kind)


def means(folder: Path, name: str) -> tuple[float, int]:
    """The mean of a stream over the held-out sequences of a run, and its terms, by the
    interpreter.
    """
    opened = runs.reopen(folder / "run")
    _, state = runs.trained(opened)
    length, joined, program = opened.settings.length, opened.data.held_out, opened.program
    shared = any(node.op == "ahead" for node in walk(program.outputs[name]))
    starts = np.concatenate(
        [
            np.arange(begin, end - length + 1, length - shared)
            for begin, end in opened.data.extents(joined)
        ]
    )
    tokens = torch.from_numpy(joined[starts[:, None] + np.arange(length)].astype(np.int64))
    stream = (
        Oracle(program, weights={w: state.views[w].detach() for w in program.weights})
        .run({"ids": tokens})
        .outputs[name]
        .detach()
    )
    return float(stream.mean()), stream.numel()


SUM = "loss = answer + weight_of_penalty * |logits|^2"


@pytest.mark.parametrize(
    "loss, stream, bits, learned_bits",
    [
        ("loss = answer", "loss", True, True),
        ("loss = cross_entropy(logits, next(ids))", "loss", True, True),
        (SUM, "loss", False, False),
        ("loss = 2 * answer", "loss", False, False),
        ("loss = sigmoid(answer)", "loss", False, False),
        ("loss = cross_entropy(logits, ids)", "loss", False, False),
        (SUM + "\nreport answer", "report", True, False),
        (SUM + "\nreport cross_entropy(logits, next(ids))", "report", True, False),
        (SUM + "\nreport 2 * answer", "report", False, False),
        ("loss = answer\nreport |logits|^2", "report", False, True),
        ("report loss\nloss = answer", "loss", True, True),
    ],
)
def test_bits_per_byte_are_of_the_cross_entropy_alone(
    loss: str, stream: str, bits: bool, learned_bits: bool, tmp_path: Path
) -> None:
    out = trained(tmp_path, BYTES, loss, text_of(tmp_path))
    held_out, steps = events(tmp_path, "held_out")[0], events(tmp_path, "step")
    mean, terms = means(tmp_path, stream)
    assert held_out["terms"] == terms
    assert (held_out["bits"] * math.log(2) if bits else held_out["loss"]) == pytest.approx(
        mean, rel=1e-9
    )
    assert {
        "bits" in held_out,
        "order2" in held_out,
        "bits per byte" in out.splitlines()[-1],
        "order-2" in out,
    } == {bits}
    assert {"bits" in step for step in steps} == {learned_bits}
    assert ("of" in held_out) is (stream == "report")
    assert done("eval", tmp_path / "run").splitlines()[-1] == out.splitlines()[-1]


def test_a_penalty_of_zero_is_still_a_penalty(tmp_path: Path) -> None:
    """Whether a number is of bits is said by the text, not by what a setting makes of it."""
    for k, value in enumerate((0, 1)):
        folder = tmp_path / str(k)
        folder.mkdir()
        trained(
            folder,
            BYTES,
            "loss = answer + weight_of_penalty * |logits|^2",
            text_of(folder),
            "--set",
            f"weight_of_penalty={value}",
        )
        assert (
            "bits" not in events(folder, "held_out")[0] and "bits" not in events(folder, "step")[0]
        )
    folder = tmp_path / "version"
    folder.mkdir()
    trained(
        folder,
        BYTES,
        "loss = answer\nloss <- loss + weight_of_penalty * |logits|^2",
        text_of(folder),
        "--set",
        "weight_of_penalty=0",
    )
    assert "bits" not in events(folder, "held_out")[0]


def test_no_gradient_reads_the_report() -> None:
    """With a report and without one, learning is the same, bit for bit."""
    spec = BYTES.format(LOSS="loss = answer + |logits|^2\nLINE").replace("vocab = 256", "vocab = 5")
    kept = []
    for line in ("", "report answer", "report |logits|^2 + loss"):
        program = load_text(spec.replace("LINE", line))
        step = compile_program(program, precision="float64", capture="eager")
        state = step.init(0)
        for seed in range(2):
            step(state, [drawn_data(program, 2, 8, seed)])
        kept.append({name: x.clone() for name, x in state.tensors.items()})
    assert all(torch.equal(x, other[name]) for other in kept[1:] for name, x in kept[0].items())


@pytest.mark.parametrize(
    "loss, behind, first",
    [
        ("loss = |h - x|^2", 0, 0),
        ("loss = |h - next(x)|^2", 1, 0),
        ("loss = |h - x@chunk|^2", 0, 4),
        ("loss = |h - next(x)|^2 + |h - x@chunk|^2", 1, 4),
        ("loss = |h - x|^2\nreport |h - next(x)|^2", 1, 0),
        ("loss = |h - next(x)|^2\nreport |h|^2", 0, 0),
    ],
)
def test_every_term_is_scored_wherever_it_stands(
    loss: str, behind: int, first: int, tmp_path: Path
) -> None:
    np.save(tmp_path / "waves.npy", WAVES)
    trained(tmp_path, SERIES, loss, tmp_path / "waves.npy")
    held_out = events(tmp_path, "held_out")[0]
    sequences = (40 - 16) // (16 - behind) + 1
    assert held_out["terms"] == sequences * (16 - behind - first)
    assert ("last" in held_out) is (behind == 1)
    opened = runs.reopen(tmp_path / "run")
    _, state = runs.trained(opened)
    starts = np.arange(sequences) * (16 - behind)
    tokens = torch.from_numpy(opened.data.held_out[starts[:, None] + np.arange(16)])
    weights = {name: state.views[name].detach() for name in opened.program.weights}
    stream = (
        Oracle(opened.program, weights=weights)
        .run({"x": tokens})
        .outputs["report" if "report" in loss else "loss"]
        .detach()
    )
    assert held_out["loss"] == pytest.approx(float(stream.mean()), rel=1e-9)


@pytest.mark.parametrize("outlives", [False, True])
def test_the_score_does_not_depend_on_the_batch(outlives: bool, tmp_path: Path) -> None:
    """The windows that fill no batch count, and lanes that have read all their documents do not."""
    spec = (
        READER.replace("vocab = 5", "vocab = 256")
        if outlives
        else BYTES.format(LOSS="loss = answer")
    )
    (tmp_path / "spec.nl").write_text(spec)
    text = text_of(tmp_path, 6000).read_bytes()
    (tmp_path / "text.txt").write_bytes(
        b"\0".join([text[:3000], text[3000:4000], text[4000:4700], text[4700:]])
    )
    found = {}
    for batch in (1, 2, 3, 5, 64):
        opened = runs.begin(
            tmp_path / "spec.nl",
            Settings(
                data=str(tmp_path / "text.txt"),
                steps=1,
                batch=batch,
                length=16,
                capture="eager",
                precision="float64",
            ),
            tmp_path / str(batch),
        )
        step, state = runs.compiled(opened)
        both = [scored(opened, step, state, limit) for limit in (10**6, 16 * 9)]
        found[batch] = [(round(one.model, 10), one.terms) for one in both]
        assert both[0].terms > both[1].terms == 9 * 15
    assert all(one == found[1] for one in found.values()), found


def scored(opened: runs.Run, step: Any, state: Any, limit: int) -> Result:
    plan = planned(
        opened.data.extents(opened.data.held_out), opened.settings.batch, 16, limit, opened.stateful
    )
    return score(
        step, state, opened.data, opened.data, plan, 16, 16, step.reading.seats(plan.lanes)
    )[0]


def test_a_report_alone_is_read_piece_by_piece_too(tmp_path: Path) -> None:
    """Longer sequences than were trained on are scored in pieces with the state carried: the same
    as in one.
    """
    trained(tmp_path, BYTES, "loss = answer + |logits|^2\nreport answer", text_of(tmp_path))
    opened = runs.reopen(tmp_path / "run")
    step, state = runs.trained(opened)
    plan = planned(opened.data.extents(opened.data.held_out), 2, 50, 10**6, False)
    whole, parts = (
        score(step, state, opened.data, opened.data, plan, 50, piece, {})[0] for piece in (50, 7)
    )
    assert whole.terms == parts.terms and whole.model == pytest.approx(parts.model, rel=1e-12)


@pytest.mark.parametrize(
    "line, code",
    [
        ("report logits", "N204"),
        ("report 2", "N202"),
        ("report training", "N202"),
        ("report |weight([d])|^2", "N202"),
        ("report answer\nreport loss", "N035"),
        ("for i in [1] { report answer }", "N017"),
        ("report = 2", "N012"),
        ("report nothing", "N101"),
    ],
)
def test_what_cannot_be_reported(line: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "spec.nl").write_text(BYTES.format(LOSS="loss = answer\n" + line))
    status, _, err = nldsl("check", tmp_path / "spec.nl")
    assert status == cli.REJECTED and f"error[{code}]" in err, err


def test_a_report_of_an_imported_file_is_that_file_s_own(tmp_path: Path) -> None:
    (tmp_path / "other.nl").write_text("nldsl 1\ninput z: []\ndef twice(x) = 2 * x\nreport z\n")
    (tmp_path / "spec.nl").write_text("nldsl 1\nimport other\ninput x: []\nreport twice(x)\n")
    program = load(tmp_path / "spec.nl")
    assert [node.op for node in (program.outputs["report"],)] == ["mul"] and list(
        program.inputs
    ) == ["x"]


# The baseline


def test_the_byte_model_counts_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    text = np.frombuffer(Path(json.decoder.__file__).read_bytes(), np.uint8)[:40]
    whole = baseline.fit(text)
    for piece in (1, 2, 3, 7, 39):
        monkeypatch.setattr(baseline, "PIECE", piece)
        parts = baseline.fit(text)
        assert all(
            np.array_equal(getattr(whole, n), getattr(parts, n)) for n in ("n0", "n1", "n2")
        ), piece
    places = np.array([0, 1, 2, 7, 39])
    assert np.array_equal(whole.nats(text, places), whole.nats(text, np.arange(len(text)))[places])


def test_memory_does_not_grow_with_the_counts(tmp_path: Path) -> None:
    """Reading, dividing and fitting take a few bytes for each byte of a text, whatever its size; of
    a piece, more.
    """
    peak = []
    for size in (1 << 22, 1 << 24):
        (tmp_path / "text.txt").write_bytes(
            bytes(random.Random(0).choices(b"abcdefg \n", k=1 << 16)) * (size >> 16)
        )
        tracemalloc.start()
        corpus = texts.read(Given(tmp_path / "text.txt"))
        baseline.fit(corpus.train)
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peak[1] - peak[0] < 3 * (1 << 24)
