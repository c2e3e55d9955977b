"""Runs of memories that outlive a sequence: lanes that read on, and what is saved, handed on and
scored.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from commands import SMALL, done, nldsl
from lanes import READER

from nldsl import cli
from nldsl.train import checkpoint, metrics
from nldsl.train import run as runs
from nldsl.train.data import sequences
from nldsl.train.data import text as texts
from nldsl.train.data.dataset import sequences_of
from nldsl.train.data.given import Given
from nldsl.train.data.sequences import planned
from nldsl.train.score import score

torch.set_num_threads(1)
NUMBERS = (*SMALL, "--save-every", "3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, a spec that reads it with a memory that outlives a sequence, and a run of six
    steps.
    """
    folder = tmp_path_factory.mktemp("reader")
    (folder / "reader.nl").write_text(READER.replace("vocab = 5", "vocab = 256"))
    (folder / "text.txt").write_bytes(Path(json.decoder.__file__).read_bytes())
    out = done(
        "train",
        folder / "reader.nl",
        folder / "text.txt",
        "--steps",
        6,
        "--out",
        folder / "run",
        *NUMBERS,
    )
    assert "each of 2 batch lanes continues its text" in out
    return folder


def memories(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path)


def test_lanes_read_consecutive_text(folder: Path) -> None:
    corpus = texts.load(Given(folder / "text.txt"))
    rows = [
        np.concatenate(
            [sequences_of(corpus.train, 3, n, micro, 2, 16, True)[lane] for n in range(1, 2000)]
        )
        for micro, lane in ((0, 1), (1, 0))
    ]
    for row in rows:
        place = corpus.train.tobytes().find(row[: len(corpus.train) // 4].tobytes())
        around = np.arange(place, place + len(row)) % len(corpus.train)
        assert (
            place >= 0
            and len(row) > len(corpus.train)
            and np.array_equal(row, corpus.train[around])
        )
    assert not np.array_equal(*rows)
    assert np.array_equal(
        sequences_of(corpus.train, 3, 7, 0, 4, 16, True)[2:],
        sequences_of(corpus.train, 3, 7, 1, 2, 16, True),
    )


def test_a_resumed_run_goes_on_with_its_lanes(folder: Path, tmp_path: Path) -> None:
    (folder / "reader.nl").read_text()
    done(
        "train",
        folder / "reader.nl",
        folder / "text.txt",
        "--steps",
        6,
        "--out",
        tmp_path / "run",
        *NUMBERS,
    )
    saved = safetensors.torch.load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert any(name.startswith("lane ") for name in saved)
    whole = memories(tmp_path / "run" / "memory.safetensors")
    assert whole["sequences"].tolist() == [6, 6]
    assert all(torch.equal(saved["lane " + name], x) for name, x in whole.items())
    cut_back(tmp_path / "run", folder, 3)
    done("train", "--resume", tmp_path / "run", "--save-every", 3)
    again = memories(tmp_path / "run" / "memory.safetensors")
    assert all(torch.equal(again[name], x) for name, x in whole.items())
    assert [e["loss"] for e in metrics.events(tmp_path / "run" / "metrics.jsonl", "step")] == [
        e["loss"] for e in metrics.events(folder / "run" / "metrics.jsonl", "step")
    ]


def cut_back(run: Path, folder: Path, step: int) -> None:
    """Put the run back to what it had saved after `step` steps."""
    opened = runs.reopen(run)
    (run / checkpoint.FILE).unlink()
    made, state = runs.compiled(opened)
    for n in range(1, step + 1):
        made(state, opened.batches(n))
    checkpoint.save(run, checkpoint.by_name(state), runs.manifest(opened, state))


def test_what_was_read_is_handed_on_apart_from_the_weights(folder: Path, tmp_path: Path) -> None:
    run, book, told = folder / "run", tmp_path / "book.txt", tmp_path / "told.safetensors"
    book.write_bytes(Path(json.encoder.__file__).read_bytes()[:1000])
    fresh = done("eval", run, book)
    assert fresh == done("eval", run, book, "--remember", told)
    assert len(memories(told)["sequences"]) == 1
    assert done("eval", run, book, "--memory", told) != fresh
    out = done("generate", run, "def ", "-n", 8, "--memory", told, "--remember", tmp_path / "after")
    before, after = memories(told), memories(tmp_path / "after")
    assert after["sequences"].tolist() == [before["sequences"][0] + 1] and not torch.equal(
        after["h.mixer.recall.M.W1"], before["h.mixer.recall.M.W1"]
    )
    assert out == done("generate", run, "def ", "-n", 8, "--memory", told)
    done(
        "generate",
        run,
        "def ",
        "-n",
        8,
        "--memory",
        told,
        "--remember",
        tmp_path / "still",
        "--freeze",
    )
    assert all(torch.equal(x, before[name]) for name, x in memories(tmp_path / "still").items())
    done(
        "train",
        folder / "reader.nl",
        folder / "text.txt",
        "--steps",
        1,
        "--memory",
        told,
        "--out",
        tmp_path / "other",
        *NUMBERS,
    )
    lanes = memories(tmp_path / "other" / "memory.safetensors")
    assert (lanes["sequences"] == before["sequences"] + 1).all() and len(lanes["sequences"]) == 2
    first = [
        metrics.events(where / "metrics.jsonl", "step")[0]["loss"]
        for where in (tmp_path / "other", run)
    ]
    assert first[0] != first[1]


def test_a_run_that_forgets_at_the_end_of_documents(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "forgets.nl").write_text(
        (folder / "reader.nl").read_text().replace("reset never", "reset every document")
    )
    (tmp_path / "text").mkdir()
    for i, part in enumerate(Path(json.decoder.__file__).read_bytes().split(b"\n\n")):
        (tmp_path / "text" / f"{i}.txt").write_bytes(part)
    out = done(
        "train",
        tmp_path / "forgets.nl",
        tmp_path / "text",
        "--steps",
        3,
        "--out",
        tmp_path / "run",
        *NUMBERS,
    )
    assert "continues its text from the previous step" in out
    told = (
        done("generate", tmp_path / "run", text, "-n", 1, "--remember", tmp_path / "told")
        and memories(tmp_path / "told")
        for text in ("ab\0", "ab")
    )
    ended, goes_on = (x["h.mixer.recall.M.W1"] for x in told)
    start = safetensors.torch.load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert "loss" in start and not torch.equal(ended, goes_on)


def joined(documents: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(text + b"\0" for text in documents), np.uint8)


def test_lanes_are_scored_on_whole_documents() -> None:
    text = bytes(random.Random(0).choices(range(1, 256), k=70))
    ends = texts.extents(joined([text, text[:40], text[:33]]))
    starts, begins, counts = sequences.readings(ends, 2, 16, 10**6)
    assert starts.tolist() == [[0, 71], [16, 87], [32, 112], [48, 128]]
    assert begins.tolist() == [[True, True], [False, False], [False, True], [False, False]]
    assert counts.all()
    assert len(sequences.readings(texts.extents(joined([text])), 2, 16, 40)[0]) == 2
    for batch in (1, 2, 3, 7):
        starts, begins, counts = sequences.readings(ends, batch, 16, 10**6)
        assert sorted(starts[counts]) == [0, 16, 32, 48, 71, 87, 112, 128], (
            "each sequence counts once, however they are dealt"
        )
        assert sorted(starts[begins]) == [0, 71, 112]


def test_evaluation_starts_each_document_from_its_start(folder: Path, tmp_path: Path) -> None:
    """Two different documents of one length, scored together in one lane, lose what they lose
    alone, and a copy of a document as much.
    """
    text = Path(json.encoder.__file__).read_bytes()
    total = {}
    for name, parts in {
        "a": [text[:63]],
        "b": [text[100:163]],
        "both": [text[:63], text[100:163]],
    }.items():
        (tmp_path / name).write_bytes(b"\0".join(parts))
        opened = runs.reopen(folder / "run")
        step, state = runs.trained(opened)
        text = joined(parts)
        other = replace(opened.data, held_out=text)
        plan = planned(other.extents(text), 1, 16, 10**6, True)
        total[name] = score(step, state, opened.data, other, plan, 16, 5, step.reading.seats(1))[0]
    assert total["both"].terms == total["a"].terms + total["b"].terms == 2 * 4 * 15
    assert total["both"].model == pytest.approx(
        (total["a"].model + total["b"].model) / 2, rel=1e-12
    )


def test_memory_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    run = folder / "run"
    (tmp_path / "soup").write_bytes(b"soup")
    safetensors.torch.save_file({"sequences": torch.ones(1, dtype=torch.int64)}, tmp_path / "other")
    for path, code in (("nothing", "N717"), ("soup", "N712"), ("other", "N717")):
        status, _, err = nldsl("generate", run, "a", "--memory", tmp_path / path)
        assert status == cli.RUN and f"error[{code}]" in err and "Traceback" not in err
    (tmp_path / "forgets.nl").write_text(
        (folder / "reader.nl").read_text().replace("reset never", "reset every sequence")
    )
    status, _, err = nldsl(
        "train",
        tmp_path / "forgets.nl",
        folder / "text.txt",
        "--steps",
        2,
        "--memory",
        run / "memory.safetensors",
        "--out",
        tmp_path / "run",
        *NUMBERS,
    )
    assert status == cli.RUN and "error[N718]" in err


def test_another_text_is_read_undivided(folder: Path, tmp_path: Path) -> None:
    """Its documents are whole, however few: nothing of them is held out, and each is read by one
    lane from its first byte on.
    """
    text = Path(json.encoder.__file__).read_bytes()[:1200]
    for parts in ([text], [text[:400], text[500:800]]):
        (tmp_path / "book.txt").write_bytes(b"\0".join(parts))
        corpus = texts.read(Given(tmp_path / "book.txt"), texts.undivided)
        assert len(corpus.train) == 0 and np.array_equal(corpus.held_out, joined(parts))
        windows = sum((len(part) + 1) // 16 for part in parts)
        done("eval", folder / "run", tmp_path / "book.txt", "--remember", tmp_path / "told")
        assert sorted(memories(tmp_path / "told")["sequences"].tolist(), reverse=True) == [
            (len(part) + 1) // 16 for part in parts
        ]
        assert f"({15 * windows:,} bytes scored)" in done(
            "eval", folder / "run", tmp_path / "book.txt"
        )
