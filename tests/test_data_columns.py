"""Several inputs, of named columns: arrays, tables, Parquet and data sets as others write them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from commands import SMALL, done, nldsl

from nldsl import cli
from nldsl.diagnostic import Diagnostics
from nldsl.pipeline import load_text
from nldsl.train import metrics
from nldsl.train.data import columns
from nldsl.train.data.columns import Rows
from nldsl.train.data.dataset import sequences_of
from nldsl.train.data.given import Given
from nldsl.train.data.kinds import kind_of
from nldsl.train.score import batch

SPEC = """nldsl 1
import layers, optimizers
dim height = 3, width = 4, kinds = 5
input image: [height, width]
input label: index(kinds)
loss = cross_entropy(affine(image, [kinds]), label)
level training every step {
    memory W: weights
    context image, label
    minimize mean(loss over period)
    W <- W + adamw(W, clip(grad(W), 1), lr = 1e-2, decay = 0.01)
}
"""
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 5, 400)
IMAGES = RANDOM.integers(0, 256, (400, 3, 4)).astype(np.uint8)
IMAGES[:, 0, 0] = 7  # a corner that is the same in each
IMAGES[:, 1, 1] += (LABELS * 20).astype(np.uint8)


def npz(path: Path, image: np.ndarray, label: np.ndarray) -> Path:
    np.savez(path, image=image, label=label, other=np.ones(3))
    return path


def compressed(path: Path, image: np.ndarray, label: np.ndarray) -> Path:
    np.savez_compressed(path, image=image.reshape(len(image), -1), label=label)
    return path


def parquet(path: Path, image: np.ndarray, label: np.ndarray) -> Path:
    table = {"label": label, "name": [f"{n}" for n in label], "image": image.tolist()}
    pq.write_table(pa.table(table), path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def table(path: Path, image: np.ndarray, label: np.ndarray) -> Path:
    path = path.with_suffix(".csv")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", *(f"image{n}" for n in range(12))])
        writer.writerows([n, *row] for n, row in zip(label, image.reshape(-1, 12), strict=True))
    return path


def saved(path: Path, image: np.ndarray, label: np.ndarray) -> Path:
    made = {"image": list(image), "label": label}
    features = datasets.Features(
        {"image": datasets.Array2D((3, 4), "uint8"), "label": datasets.ClassLabel(5)}
    )
    datasets.Dataset.from_dict(made, features=features).save_to_disk(str(path.with_suffix("")))
    return path.with_suffix("")


WRITERS = (npz, compressed, parquet, table, saved)
Writer = Callable[[Path, np.ndarray, np.ndarray], Path]


def data_of(path: Path | None, text: str = SPEC) -> Rows:
    program = load_text(text)
    found = kind_of(program).of(program, Given(path))
    assert isinstance(found, Rows)
    return found


def refused(path: Path | None, text: str = SPEC) -> tuple[str, str]:
    with pytest.raises(Diagnostics) as found:
        data_of(path, text)
    (said,) = found.value.diagnostics
    assert said.help
    return said.code, said.message


@pytest.mark.parametrize("write", WRITERS)
def test_a_row_has_what_its_columns_have(write: Writer, tmp_path: Path) -> None:
    data = data_of(write(tmp_path / "a.npz", IMAGES, LABELS))
    assert (len(data.train), len(data.held_out)) == (360, 40)
    both = np.concatenate([data.train, data.held_out])
    assert both["label"].tolist() == LABELS.tolist()
    mean, deviation = (x.reshape(3, 4) for x in data.scale)
    np.testing.assert_allclose(both["image"] * deviation + mean, IMAGES, atol=1e-9)
    np.testing.assert_allclose(data.train["image"].mean(0), 0, atol=1e-12)
    wanted = np.where(IMAGES[:360].std(0) == 0, 0, 1)
    np.testing.assert_allclose(data.train["image"].std(0), wanted, atol=1e-12)


def test_the_spread_is_summed_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_of(npz(tmp_path / "a.npz", IMAGES, LABELS))
    monkeypatch.setattr(columns, "PIECE", 7)
    again = data_of(npz(tmp_path / "a.npz", IMAGES, LABELS))
    np.testing.assert_allclose(data.scale, again.scale, rtol=1e-12)
    np.testing.assert_allclose(data.train["image"], again.train["image"], atol=1e-12)


def test_a_batch_has_every_input(tmp_path: Path) -> None:
    data = data_of(npz(tmp_path / "a.npz", IMAGES, LABELS))
    rows = sequences_of(data.train, 0, 1, 0, 2, 16)
    found = batch(load_text(SPEC), rows, None)
    assert found["image"].shape == (2, 16, 3, 4) and found["label"].shape == (2, 16)
    assert found["label"].dtype == torch.int64
    np.testing.assert_array_equal(found["image"].numpy(), rows["image"])
    lanes = np.concatenate(
        [sequences_of(data.train, 0, 1, 0, 1, 16), sequences_of(data.train, 0, 1, 1, 1, 16)]
    )
    assert np.array_equal(lanes, rows)


def test_splits_of_a_data_set_are_the_parts(tmp_path: Path) -> None:
    made = {
        name: datasets.Dataset.from_dict({"image": IMAGES[part].tolist(), "label": LABELS[part]})
        for name, part in {"train": slice(0, 300), "test": slice(300, 400)}.items()
    }
    datasets.DatasetDict(made).save_to_disk(str(tmp_path / "two"))
    data = data_of(tmp_path / "two")
    assert data.held_out["label"].tolist() == LABELS[300:].tolist() and len(data.train) == 300


@pytest.mark.parametrize("write", [npz, saved])
def test_a_run_of_rows(write: Writer, tmp_path: Path) -> None:
    (tmp_path / "spec.nl").write_text(SPEC)
    path = write(tmp_path / "a.npz", IMAGES, LABELS)
    whole = ("train", tmp_path / "spec.nl", path, *SMALL)
    out = done(*whole, "--steps", 60, "--out", tmp_path / "once")
    assert "400 rows of image, label; 40 held out" in out and "rows scored" in out
    done(*whole, "--steps", 30, "--out", tmp_path / "twice")
    done("train", "--resume", tmp_path / "twice", "--steps", 60)
    losses = [
        [step["loss"] for step in metrics.events(tmp_path / run / "metrics.jsonl", "step")]
        for run in ("once", "twice")
    ]
    assert losses[0] == losses[1] and np.mean(losses[0][-9:]) < 0.9 * np.mean(losses[0][:9])
    told = metrics.events(tmp_path / "once" / "metrics.jsonl", "held_out")[0]
    again = done("eval", tmp_path / "once")
    assert f"loss {told['loss']:.4f}" in again
    other = npz(tmp_path / "b.npz", IMAGES[:100], LABELS[:100])
    assert "rows scored" in done("eval", tmp_path / "once", other)
    scale = json.loads((tmp_path / "once" / "run.json").read_text())["data"]
    assert scale["channels"] == 12 and len(scale["mean"]) == 12
    status, _, err = nldsl("generate", tmp_path / "once")
    assert status == cli.RUN and "error[N719]" in err


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    "change, code, words",
    [
        (("kinds = 5", "kinds = 4"), "N705", "the token 4"),
        (("width = 4", "width = 5"), "N706", "15"),
        (("label", "sort"), "N751", "`sort`"),
    ],
)
def test_rows_that_do_not_fit(
    write: Writer, change: tuple[str, str], code: str, words: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.npz", IMAGES, np.append(LABELS[:-1], 4))
    found, message = refused(path, SPEC.replace(*change))
    assert found == code and words in message


def test_columns_that_are_no_numbers(tmp_path: Path) -> None:
    words = np.array(["a"] * 400)
    holes = IMAGES.astype(float)
    holes[9, 1, 1] = np.nan
    path = tmp_path / "a.npz"
    for image, label, code in (
        (IMAGES, words, "N709"),
        (IMAGES, LABELS + 0.5, "N709"),
        (IMAGES, LABELS - 1, "N705"),
        (holes, LABELS, "N707"),
        (IMAGES, LABELS[:9], "N708"),
    ):
        assert refused(npz(path, image, label))[0] == code
    pq.write_table(pa.table({"image": [[1], [1, 2]], "label": [0, 1]}), tmp_path / "b.parquet")
    assert refused(tmp_path / "b.parquet")[0] == "N709"
    pq.write_table(pa.table({"image": [None] * 9, "label": [0] * 9}), tmp_path / "b.parquet")
    assert refused(tmp_path / "b.parquet")[0] == "N709"


def test_files_of_no_columns(tmp_path: Path) -> None:
    assert refused(None)[0] == "N705"
    assert refused(tmp_path / "nowhere.npz")[0] == "N701"
    (tmp_path / "a.npz").write_bytes(b"soup")
    assert refused(tmp_path / "a.npz")[0] == "N754"
    (tmp_path / "a.txt").write_text("soup")
    code, message = refused(tmp_path / "a.txt")
    assert code == "N709" and ".npz" in message
    whole = npz(tmp_path / "b.npz", IMAGES, LABELS).read_bytes()
    (tmp_path / "b.npz").write_bytes(whole[: len(whole) // 2])
    assert refused(tmp_path / "b.npz")[0] == "N754"
