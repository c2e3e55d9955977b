"""Data sets of Hugging Face, as the package itself saves them."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from commands import SMALL, done
from test_data_text import DOCUMENTS, SPEC, WRITTEN, documents, parquet, refused, split

from nldsl.train import metrics
from nldsl.train.data import text as texts
from nldsl.train.data.given import Given


def test_a_saved_data_set_is_documents(tmp_path: Path) -> None:
    made = datasets.Dataset.from_dict({"body": DOCUMENTS, "n": list(range(300))})
    made.save_to_disk(str(tmp_path / "one"), num_shards=3)
    assert documents(texts.load(Given(tmp_path / "one", ("body",)))) == WRITTEN
    code, message = refused(Given(tmp_path / "one"))
    assert code == "N751" and "`body`, `n`" in message
    code, message = refused(Given(tmp_path / "one", ("n",)))
    assert code == "N752" and "row 1" in message


@pytest.mark.parametrize("name", ["validation", "test"])
def test_its_splits_are_the_parts(name: str, tmp_path: Path) -> None:
    parts = {"train": DOCUMENTS[:200], name: DOCUMENTS[190:]}
    made = {key: datasets.Dataset.from_dict({"text": value}) for key, value in parts.items()}
    datasets.DatasetDict(made).save_to_disk(str(tmp_path / "two"))
    found = texts.load(Given(tmp_path / "two"))
    assert sorted(split(found.train)) == sorted(text.encode() for text in DOCUMENTS[:200])
    assert sorted(split(found.held_out)) == sorted(text.encode() for text in DOCUMENTS[200:])
    assert found.duplicates == 10, "what was trained on is not held out"
    scored = texts.whole(Given(tmp_path / "two"))
    assert sorted(split(scored.held_out)) == sorted(text.encode() for text in DOCUMENTS[190:])


def test_a_data_set_is_streamed(tmp_path: Path) -> None:
    """The package reads a folder as it reads a repository of the hub."""
    (tmp_path / "hub").mkdir()
    parquet(tmp_path / "hub" / "train-0.parquet", text=DOCUMENTS[:250])
    parquet(tmp_path / "hub" / "test-0.parquet", text=DOCUMENTS[250:])
    found = texts.load(Given(Path(f"hf:{tmp_path / 'hub'}")))
    assert sorted(split(found.train)) == sorted(text.encode() for text in DOCUMENTS[:250])
    assert sorted(split(found.held_out)) == sorted(text.encode() for text in DOCUMENTS[250:])


def test_a_data_set_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert refused(Given(Path(f"hf:{tmp_path / 'nowhere'}")))[0] == "N754"
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "dataset_dict.json").write_text("soup")
    assert refused(Given(tmp_path / "two"))[0] == "N754"
    made = datasets.Dataset.from_dict({"text": DOCUMENTS})
    made.save_to_disk(str(tmp_path / "one"))
    (arrow,) = (tmp_path / "one").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:100])
    assert refused(Given(tmp_path / "one"))[0] == "N754"
    assert refused(Given(tmp_path / "one", encoding="latin-1"))[0] == "N753"


def test_a_run_of_a_data_set_goes_on(tmp_path: Path) -> None:
    (tmp_path / "spec.nl").write_text(SPEC)
    made = datasets.Dataset.from_dict({"text": DOCUMENTS})
    made.save_to_disk(str(tmp_path / "one"))
    whole = ("train", tmp_path / "spec.nl", tmp_path / "one", *SMALL)
    done(*whole, "--steps", 4, "--out", tmp_path / "once")
    done(*whole, "--steps", 2, "--out", tmp_path / "twice")
    done("train", "--resume", tmp_path / "twice", "--steps", 4)
    losses = [
        [step["loss"] for step in metrics.events(tmp_path / run / "metrics.jsonl", "step")]
        for run in ("once", "twice")
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 4
    assert "bits per byte" in done("eval", tmp_path / "once")
