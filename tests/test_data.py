"""The corpus, and the byte model that its score stands beside."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nldsl.diagnostic import Diagnostics
from nldsl.train.data import baseline, sequences
from nldsl.train.data import text as data
from nldsl.train.data.dataset import sequences_of
from nldsl.train.data.given import Given

# The corpus


def test_the_standard_library_is_read_without_tests_and_packages() -> None:
    corpus = data.standard_library()
    assert len(corpus.train) + len(corpus.held_out) > 5_000_000
    assert 0.01 < len(corpus.held_out) / len(corpus.train) < 0.2
    assert data.standard_library().sha256 == corpus.sha256
    assert corpus.sha256 in corpus.describe()


def test_held_out_are_whole_files_and_no_copies(tmp_path: Path) -> None:
    texts = [f"document {n}\n".encode() * (n + 1) for n in range(200)]
    for n, text in enumerate(texts):
        (tmp_path / f"{n % 7}").mkdir(exist_ok=True)
        (tmp_path / f"{n % 7}" / f"{n}.txt").write_bytes(text)
    (tmp_path / "copy.txt").write_bytes(texts[0])
    (tmp_path / "picture.bin").write_bytes(b"\0\1\2")
    (tmp_path / ".hidden").write_bytes(b"secret")
    corpus = data.read(Given(tmp_path))
    parts = [part.tobytes().rstrip(b"\0").split(b"\0") for part in (corpus.train, corpus.held_out)]
    assert sorted(parts[0] + parts[1]) == sorted(texts)
    assert not set(parts[0]) & set(parts[1])
    assert (corpus.documents, corpus.duplicates, corpus.binary) == (200, 1, 1)


def test_a_single_file_is_divided_at_a_line_end(tmp_path: Path) -> None:
    text = b"".join(f"line {n}\n".encode() for n in range(1000))
    (tmp_path / "a.txt").write_bytes(text)
    corpus = data.read(Given(tmp_path / "a.txt"))
    train, held_out = corpus.train.tobytes(), corpus.held_out.tobytes()
    assert train.endswith(b"\n\0") and held_out.startswith(b"line ")
    assert train[:-1] + held_out[:-1] == text
    assert len(held_out) == pytest.approx(len(text) / 20, rel=0.1)


def test_batches_depend_on_seed_step_and_lane_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(bytes(random.Random(0).choices(range(32, 127), k=5000)))
    corpus = data.read(Given(tmp_path / "a.txt"))
    whole = sequences_of(corpus.train, 0, 3, 0, 8, 64)
    assert whole.shape == (8, 64) and whole.dtype == np.uint8
    assert np.array_equal(
        np.concatenate(
            [sequences_of(corpus.train, 0, 3, 0, 4, 64), sequences_of(corpus.train, 0, 3, 1, 4, 64)]
        ),
        whole,
    )
    assert not np.array_equal(sequences_of(corpus.train, 0, 4, 0, 8, 64), whole)
    assert not np.array_equal(sequences_of(corpus.train, 1, 3, 0, 8, 64), whole)
    assert sequences.draw(0, 1, 0, 10**9) == 988776935


def test_every_start_is_drawn(tmp_path: Path) -> None:
    assert {sequences.draw(0, step, lane, 5) for step in range(20) for lane in range(4)} == set(
        range(5)
    )


def test_scored_sequences_stay_in_a_document_and_score_no_byte_twice() -> None:
    text = np.frombuffer(b"a" * 100 + b"\0" + b"b" * 10 + b"\0" + b"c" * 70 + b"\0", np.uint8)
    starts = sequences.windows(data.extents(text), 16, 10**6)
    scored = Counter(int(s) + i for s in starts for i in range(1, 16))
    assert max(scored.values()) == 1
    assert all(data.BOUNDARY not in text[s : s + 15] for s in starts)
    assert len(scored) > 0.8 * len(text)
    assert len(sequences.windows(data.extents(text), 16, 64)) == 4


def test_scored_sequences_are_spread_over_all_there_are() -> None:
    every = sequences.windows([(0, 1000), (1000, 4000)], 11, 10**6)
    found = sequences.windows([(0, 1000), (1000, 4000)], 11, 44)
    assert found.tolist() == [every[len(every) * i // 4] for i in range(4)]


def problem(what: str, folder: Path) -> Path:
    path = folder / what
    match what:
        case "empty file":
            path.write_bytes(b"")
        case "empty folder":
            path.mkdir()
        case "short":
            path.write_bytes(b"one line\n")
        case "unreadable":
            return Path("/proc/self/mem")
    return path


@pytest.mark.parametrize(
    "what, code",
    [
        ("missing", "N701"),
        ("unreadable", "N702"),
        ("empty file", "N703"),
        ("empty folder", "N703"),
        ("short", "N704"),
    ],
)
def test_bad_data_is_a_diagnostic(what: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(Diagnostics) as found:
        data.load(Given(problem(what, tmp_path))).require(64)
    assert found.value.diagnostics[0].code == code
    assert found.value.diagnostics[0].help


# The byte model


def slow_probability(train: bytes, context: bytes, s: int) -> float:
    """Witten-Bell from the definition: counts by scanning the text."""
    followers = Counter(
        train[i + len(context)]
        for i in range(len(train) - len(context))
        if train[i : i + len(context)] == context
    )
    shorter = slow_probability(train, context[1:], s) if context else 1 / 256
    n, t = sum(followers.values()), len(followers)
    return (followers[s] + t * shorter) / (n + t) if n else shorter


def test_the_byte_model_is_witten_bell() -> None:
    train, text = b"the cat sat on the mat; the hat\0that\0", b"the rat that\xff sat"
    got = baseline.fit(np.frombuffer(train, np.uint8)).nats(
        np.frombuffer(text, np.uint8), np.arange(len(text))
    )
    want = [
        -np.log(slow_probability(train, text[max(0, i - 2) : i], text[i])) for i in range(len(text))
    ]
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_the_byte_model_sums_to_one() -> None:
    model = baseline.fit(np.frombuffer(b"abracadabra", np.uint8))
    for context in (b"ab", b"zz", b"ra"):
        total = sum(
            np.exp(-model.nats(np.frombuffer(context + bytes([s]), np.uint8), np.array([2]))[0])
            for s in range(256)
        )
        assert total == pytest.approx(1)


def test_the_order_0_entropy_is_known() -> None:
    assert baseline.fit(np.frombuffer(b"abcdabcd", np.uint8)).order0_bits() == 2.0
    assert baseline.fit(np.frombuffer(b"aaaa", np.uint8)).order0_bits() == 0.0
