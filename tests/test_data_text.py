"""Text as others write it: encodings, JSON lines, Parquet, columns of a table; and what each of
them is refused for.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import SMALL, done, nldsl

from nldsl import cli
from nldsl.diagnostic import Diagnostics
from nldsl.train import metrics
from nldsl.train.data import encodings
from nldsl.train.data import table as tables
from nldsl.train.data import text as texts
from nldsl.train.data.given import Given

LETTERS = "Größe ändert sich – “täglich”, naïve café\nzweite Zeile\n" * 60
DOCUMENTS = [f"document {n}: naïve café {n * n}\n" * (n % 9 + 1) for n in range(300)]


def parts(corpus: texts.Corpus) -> bytes:
    """All text of a single document."""
    return corpus.train[:-1].tobytes() + corpus.held_out[:-1].tobytes()


def documents(corpus: texts.Corpus) -> list[bytes]:
    return sorted(part for x in (corpus.train, corpus.held_out) for part in split(x))


def split(text: np.ndarray) -> list[bytes]:
    return [part for part in text.tobytes().split(b"\0") if part]


WRITTEN = sorted(text.encode() for text in DOCUMENTS)


def refused(given: Given, channels: int | None = None) -> tuple[str, str]:
    with pytest.raises(Diagnostics) as found:
        texts.load(given) if channels is None else tables.load(given, channels)
    (said,) = found.value.diagnostics
    assert said.help
    return said.code, said.message


# Encodings


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_mark_and_line_ends_of_windows_are_no_text(
    coding: str, newline: str, tmp_path: Path
) -> None:
    with (tmp_path / "a.txt").open("w", encoding=coding, newline=newline) as file:
        file.write(LETTERS)
    assert parts(texts.load(Given(tmp_path / "a.txt"))) == LETTERS.encode()


@pytest.mark.parametrize("coding", ["cp1252", "utf-16-le", "utf-16-be", "mac-roman", "utf-8"])
def test_a_declared_encoding_is_read(coding: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(LETTERS, encoding=coding)
    given = Given(tmp_path / "a.txt", encoding=coding)
    assert parts(texts.load(given)) == LETTERS.encode()


def test_a_letter_or_a_line_end_may_lie_across_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_bytes(LETTERS.replace("\n", "\r\n").encode("utf-16"))
    for piece in (1, 2, 3, 5, 7):
        monkeypatch.setattr(encodings, "PIECE", piece)
        assert encodings.content(tmp_path / "a.txt").tobytes() == LETTERS.encode()


def test_a_line_end_alone_stays(tmp_path: Path) -> None:
    """A file of Unix may hold a line end of Windows, and one of Windows a lone return."""
    for text, read in ((b"a\nb\r\nc\rd", b"a\nb\r\nc\rd"), (b"a\r\nb\rc\r\nd\r", b"a\nb\rc\nd\r")):
        (tmp_path / "a.txt").write_bytes(text)
        assert encodings.content(tmp_path / "a.txt").tobytes() == read


@pytest.mark.parametrize(
    "content, coding, words",
    [
        (LETTERS.encode("cp1252"), "utf-8", f"byte {LETTERS.index('ö')}"),
        (b"plain\n" * 9 + b"\x81", "cp1252", "byte 54"),
        (LETTERS.encode("utf-16")[:-1], None, "utf-16"),
    ],
)
def test_another_encoding_is_told_at_its_byte(
    content: bytes, coding: str | None, words: str, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    code, message = refused(Given(tmp_path / "a.txt", encoding=coding))
    assert code == "N755" and words in message.replace(",", "")


def test_what_is_decoded_has_to_be_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": DOCUMENTS}), tmp_path / "a.txt")
    for coding in (None, "latin-1"):
        code, message = refused(Given(tmp_path / "a.txt", encoding=coding))
        assert code == "N703" and "Parquet" in message


def test_an_encoding_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    status, _, err = nldsl("train", tmp_path / "a.nl", "--encoding", "utf-99")
    assert status == cli.USAGE and "utf-99" in err


# Documents in columns


def jsonl(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=64)
    return path


def test_json_lines_are_documents(tmp_path: Path) -> None:
    rows = [{"text": text, "id": n, "body": text.upper()} for n, text in enumerate(DOCUMENTS)]
    path = jsonl(tmp_path / "a.jsonl", rows)
    assert documents(texts.load(Given(path))) == WRITTEN
    upper = texts.load(Given(path, ("body",)))
    assert documents(upper) == sorted(text.upper().encode() for text in DOCUMENTS)
    assert not upper.findings


def test_parquet_is_documents(tmp_path: Path) -> None:
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        path = parquet(tmp_path / "a.parquet", n=range(300), text=pa.array(DOCUMENTS).cast(kind))
        assert documents(texts.load(Given(path))) == WRITTEN


def test_a_column_of_a_table_is_documents(tmp_path: Path) -> None:
    for name, mark in (("a.csv", ","), ("a.tsv", "\t"), ("b.csv", ";")):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=mark)
            writer.writerow(["id", "text"])
            writer.writerows(enumerate(DOCUMENTS))
        assert documents(texts.load(Given(tmp_path / name, ("text",)))) == WRITTEN
    assert texts.load(Given(tmp_path / "a.csv")).documents == 1, "without a column it is text"


def test_a_folder_holds_all_of_them(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", [{"text": text} for text in DOCUMENTS[:100]])
    parquet(tmp_path / "b.parquet", text=DOCUMENTS[100:200])
    for n, text in enumerate(DOCUMENTS[200:]):
        (tmp_path / f"{n}.txt").write_text(text, encoding="utf-16" if n % 2 else "utf-8")
    assert documents(texts.load(Given(tmp_path))) == WRITTEN


@pytest.mark.parametrize(
    "rows, column, code, words",
    [
        ([{"text": "a"}, {"body": "b"}], (), "N751", "line 2"),
        ([{"body": "a"}], (), "N751", "`body`"),
        ([{"text": "a"}], ("body",), "N751", "`body`"),
        ([{"text": "a"}, {"text": None}], (), "N752", "line 2"),
        ([{"text": 7}], (), "N752", "7"),
        ([{"text": "a"}, ["b"]], (), "N754", "line 2"),
        ([{"text": "a"}], ("a", "b"), "N751", "one column"),
    ],
)
def test_json_lines_that_are_no_documents(
    rows: list[object], column: tuple[str, ...], code: str, words: str, tmp_path: Path
) -> None:
    found, message = refused(Given(jsonl(tmp_path / "a.jsonl", rows), column))
    assert found == code and words in message


def test_json_lines_that_are_cut(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": text} for text in DOCUMENTS])
    path.write_bytes(path.read_bytes()[:-9])
    assert refused(Given(path))[0] == "N754"
    path.write_bytes(b'{"text": "caf\xe9"}\n')
    assert refused(Given(path))[0] == "N755"
    assert parts(texts.load(Given(path, encoding="latin-1"))) == "café".encode()


@pytest.mark.parametrize(
    "columns, column, code, words",
    [
        ({"body": DOCUMENTS}, (), "N751", "`body`"),
        ({"text": range(300)}, (), "N752", "int64"),
        ({"text": [*DOCUMENTS[:9], None]}, (), "N752", "row 10"),
        ({"text": [b"bytes"]}, (), "N752", "binary"),
        ({"text": [["a", "b"]]}, (), "N752", "list"),
    ],
)
def test_parquet_that_is_no_documents(
    columns: dict[str, object], column: tuple[str, ...], code: str, words: str, tmp_path: Path
) -> None:
    found, message = refused(Given(parquet(tmp_path / "a.parquet", **columns), column))
    assert found == code and words in message


@pytest.mark.parametrize("cut", [0, 3, 40, -9, None])
def test_parquet_that_is_cut(cut: int | None, tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", text=DOCUMENTS)
    whole = path.read_bytes()
    content = whole[:cut] if cut is not None else whole[:9] + bytes(400) + whole[409:]
    path.write_bytes(content)
    assert refused(Given(path))[0] == "N754"


def test_an_option_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(LETTERS)
    assert refused(Given(tmp_path / "a.txt", ("text",)))[0] == "N753"
    path = parquet(tmp_path / "a.parquet", text=DOCUMENTS)
    assert refused(Given(path, encoding="latin-1"))[0] == "N753"
    np.save(tmp_path / "a.npy", np.ones((40, 2)))
    assert refused(Given(tmp_path / "a.npy", ("a",)), 2)[0] == "N753"


def test_a_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(tmp_path / "a.parquet", text=DOCUMENTS)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, message = refused(Given(path))
    assert code == "N890" and "`pyarrow`" in message


# Tables


def test_parquet_is_a_table(tmp_path: Path) -> None:
    values = np.cumsum(np.random.default_rng(0).normal(size=(3000, 2)), 0)
    path = parquet(
        tmp_path / "a.parquet",
        day=[f"2026-{n}" for n in range(3000)],
        a=values[:, 0],
        b=values[:, 1],
    )
    found = tables.load(Given(path, ("b", "a")), 2)
    np.testing.assert_allclose(found.given(), values[:, ::-1], atol=1e-9)
    code, message = refused(Given(path), 3)
    assert code == "N709" and "`day`" in message
    assert refused(Given(path, ("c",)), 1)[0] == "N751"
    holes = parquet(tmp_path / "b.parquet", a=[1.0, None, 3.0])
    assert refused(Given(holes), 1)[0] == "N707"


def test_columns_of_a_table_are_chosen(tmp_path: Path) -> None:
    lines = ["day,a,b", *(f"2026-01-{n},{n},{n * n / 8}" for n in range(40))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    found = tables.load(Given(tmp_path / "a.csv", ("b", "a")), 2)
    np.testing.assert_allclose(found.given(), [(n * n / 8, n) for n in range(40)], atol=1e-9)
    assert refused(Given(tmp_path / "a.csv"), 3)[0] == "N707"
    code, message = refused(Given(tmp_path / "a.csv", ("c",)), 1)
    assert code == "N751" and "`day`, `a`, `b`" in message


# Runs

SPEC = """nldsl 1
import layers, optimizers
dim d = 8, vocab = 256
input ids: index(vocab)
loss = cross_entropy(linear(conv(embed(ids, [d]), 3), [vocab]), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W + adamw(W, clip(grad(W), 1), lr = 1e-2, decay = 0.01)
}
"""


def test_a_run_keeps_how_its_data_is_read(tmp_path: Path) -> None:
    (tmp_path / "spec.nl").write_text(SPEC)
    data = jsonl(tmp_path / "a.jsonl", [{"body": text} for text in DOCUMENTS])
    once, twice = tmp_path / "once", tmp_path / "twice"
    whole = ("train", tmp_path / "spec.nl", data, "--column", "body", *SMALL)
    out = done(*whole, "--steps", 6, "--out", once)
    assert "300 documents" in out and "bits per byte" in out
    done(*whole, "--steps", 3, "--out", twice)
    done("train", "--resume", twice, "--steps", 6)
    losses = [
        [step["loss"] for step in metrics.events(run / "metrics.jsonl", "step")]
        for run in (once, twice)
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 6
    other = parquet(tmp_path / "b.parquet", text=DOCUMENTS[:40])
    assert "bits per byte" in done("eval", once, other)
    status, _, err = nldsl("train", "--resume", once, "--column", "text")
    assert status == cli.RUN and "error[N711]" in err
