"""Data files that are not text are refused by the name of what they seem to be, alone or in a
folder; byte-order marks, gaps and separators of tables.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import sqlite3
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from commands import nldsl

from nldsl import cli
from nldsl.diagnostic import Diagnostics
from nldsl.pipeline import load
from nldsl.train.data import filetype
from nldsl.train.data import table as tables
from nldsl.train.data import text as texts
from nldsl.train.data.given import Given

ENGLISH = "The quick brown fox jumps over a lazy dog, while titans learn at test time.\n" * 400
CHINESE = (
    "\u5929\u5730\u7384\u9ec4\uff0c\u5b87\u5b99\u6d2a\u8352\u3002\n"
    "\u65e5\u6708\u76c8\u6603\uff0c\u8fb0\u5bbf\u5217\u5f20\u3002\n" * 300
)
RANDOM = random.Random(0)


def written(save, *values) -> bytes:
    with io.BytesIO() as file:
        save(file, *values)
        return file.getvalue()


def zipped() -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.txt", ENGLISH)
        return file.getvalue()


def database(folder: Path) -> bytes:
    with sqlite3.connect(folder / "made.db") as made:
        made.execute("create table t (x text)")
    return (folder / "made.db").read_bytes()


TOKENS = np.array(RANDOM.choices(range(50257), k=30_000))
WORDS = np.array(RANDOM.choices([198, 262, 11, 13, 257, 290, 1169, 40, 3797], k=30_000))
NOT_TEXT = {
    "gzip": gzip.compress(ENGLISH.encode()),
    "zip": zipped(),
    "zstd": b"\x28\xb5\x2f\xfd\x04\x58" + RANDOM.randbytes(500),
    "Parquet": b"PAR1\x15\x04" + RANDOM.randbytes(500) + b"PAR1",
    "NumPy": written(np.save, TOKENS),
    "zip ": written(np.savez, TOKENS),
    "uint16": TOKENS.astype("<u2").tobytes(),
    "uint16 ": WORDS.astype("<u2").tobytes(),
    "uint32": TOKENS.astype("<u4").tobytes(),
    "safetensors": safetensors.numpy.save({"w": np.ones((40, 40), np.float32)}),
    "pickle": pickle.dumps({"a": [1.5] * 100}),
    "PNG": b"\x89PNG\r\n\x1a\n" + RANDOM.randbytes(300),
    "JPEG": b"\xff\xd8\xff\xe0" + RANDOM.randbytes(300),
    "PDF": b"%PDF-1.4\n" + RANDOM.randbytes(300),
    "UTF-16 ": ENGLISH.encode("utf-16-le"),
    "UTF-16  ": ENGLISH.encode("utf-16-be"),
    "UTF-16   ": CHINESE.encode("utf-16-le"),
    "UTF-32 ": ENGLISH.encode("utf-32-be"),
    "binary": RANDOM.randbytes(3001),
}
TEXT = {
    "UTF-8": ENGLISH.encode(),
    "a mark": b"\xef\xbb\xbf" + ENGLISH.encode(),
    "Chinese": CHINESE.encode(),
    "Latin-1": ("d\xe9j\xe0 vu \xfc\xf6\xe4 " * 500).encode("latin-1"),
    "GB2312": CHINESE.encode("gbk"),
    "documents": b"\0".join([b"a document of its own\n"] * 3 + [b"another one\n"] * 3),
    "a log with colours": b"\x1b[31mred\x1b[0m\t1\r\n" * 200,
    "BZh": b"BZh is no archive " * 20,
    "PARTS": b"PARTS of a text\n" * 20,
    "one byte": b"a",
    "empty": b"",
}


@pytest.mark.parametrize("name", NOT_TEXT)
def test_what_is_not_text_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_bytes(NOT_TEXT[name])
    with pytest.raises(Diagnostics) as found:
        texts.load(Given(tmp_path / "file.txt"))
    (said,) = found.value.diagnostics
    assert said.code == "N703" and name.strip() in said.message and said.help


def test_a_database_is_named(tmp_path: Path) -> None:
    assert filetype.seems(np.frombuffer(database(tmp_path), np.uint8)).name == "SQLite"


@pytest.mark.parametrize("name", TEXT)
def test_text_in_any_writing_of_bytes_is_text(name: str) -> None:
    assert filetype.seems(np.frombuffer(TEXT[name], np.uint8)) is None


def test_a_folder_leaves_out_what_a_file_alone_is_refused_for(tmp_path: Path) -> None:
    for i, content in enumerate(NOT_TEXT.values()):
        (tmp_path / f"{i}.bin").write_bytes(content)
    with pytest.raises(Diagnostics) as found:
        texts.load(Given(tmp_path))
    assert (
        found.value.diagnostics[0].code == "N703"
        and "1 seems to be Parquet" in found.value.diagnostics[0].message
    )
    (tmp_path / "a.txt").write_text(ENGLISH)
    corpus = texts.load(Given(tmp_path))
    assert corpus.binary == len(NOT_TEXT) and corpus.documents == 1
    assert (np.concatenate([corpus.train[:-1], corpus.held_out[:-1]]).tobytes()) == ENGLISH.encode()


def test_documents_and_digest_are_what_they_were(tmp_path: Path) -> None:
    """Parted at the bytes 0, duplicates left out, the same bytes in the same order as a
    straightforward reading makes them.
    """
    parts = [f"document {n % 90}\n".encode() * (n % 90 + 1) for n in range(200)]
    (tmp_path / "a.txt").write_bytes(b"\0".join(parts) + b"\0\0")
    corpus = texts.load(Given(tmp_path / "a.txt"))
    kept = sorted(
        part
        for part in b"".join([corpus.train.tobytes(), corpus.held_out.tobytes()]).split(b"\0")
        if part
    )
    assert kept == sorted(set(parts)) and (corpus.documents, corpus.duplicates) == (90, 110)
    assert corpus.held_out[-1] == corpus.train[-1] == 0 and b"\0\0" not in corpus.train.tobytes()


@pytest.mark.parametrize(
    "text, told",
    [
        ('{"text": "a b c"}\n{"text": "d e f"}\n' * 300, True),
        ('{"a": 1}\n\n{"b": [2]}\n' * 300, True),
        ("a\n" + '{"text": 1}\n' * 300, False),
        ("{ a set }\n" * 300, False),
        ('def f():\n    return {"a": 1}\n' * 200, False),
    ],
)
def test_json_lines_are_read_with_a_warning(text: str, told: bool, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text)
    corpus = texts.load(Given(tmp_path / "a.txt"))
    assert [found.code for found in corpus.findings] == ["N740"] * told
    assert corpus.train.tobytes()[:100] == text.encode()[:100]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text(text)
    assert [found.code for found in texts.load(Given(tmp_path / "folder")).findings] == [
        "N740"
    ] * told


def test_a_size_that_no_byte_has_is_named(tmp_path: Path) -> None:
    (tmp_path / "spec.nl").write_text("""nldsl 1
import layers
dim d = 2, vocab = 300
input ids: index(vocab)
loss = cross_entropy(linear(embed(ids, [d]), [vocab]), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W - grad(W)
}
""")
    (tmp_path / "a.txt").write_text(ENGLISH)
    for size in (300, 50257):
        status, _, err = nldsl(
            "train",
            tmp_path / "spec.nl",
            tmp_path / "a.txt",
            "--set",
            f"vocab={size}",
            "--out",
            tmp_path / "run",
        )
        assert (
            status == cli.RUN
            and "error[N705]" in err
            and f"{size} values" in err
            and not (tmp_path / "run").exists()
        )


# Tables


def table(folder: Path, text: str | bytes, name: str = "a.csv", channels: int = 2) -> tables.Series:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return tables.load(Given(folder / name), channels)


ROWS = [(float(i), i / 4) for i in range(40)]
PLAIN = "".join(f"{a},{b}\n" for a, b in ROWS)


@pytest.mark.parametrize(
    "text, code, where",
    [
        ("NA,NA\n" + PLAIN, "N707", "line 1"),
        (",\n" + PLAIN, "N707", "line 1"),
        ("null,-\n" + PLAIN, "N707", "line 1"),
        (PLAIN + "1,\n", "N707", "line 41"),
        (PLAIN + "\n" + PLAIN, "N707", "line 41"),
        (PLAIN + "1,1e999\n", "N707", "line 41"),
        (PLAIN + "1,1_000\n", "N707", "line 41"),
        ("a,b\n1,2\n  \n3,4\n", "N707", "line 3"),
        (PLAIN + "3;4\n", "N708", "line 41"),
        ("1,5;2,5\n" * 30, "N707", "1.5"),
        ("1 2\n" * 30, "N707", "commas"),
        ("a,b\n\n1,2\n", "N707", "line 2"),
        (PLAIN + '"1,2\n' + PLAIN, "N709", "line 41"),
        ('"1"x,2\n' + PLAIN, "N709", "line 1"),
        (gzip.compress(PLAIN.encode()), "N709", "gzip"),
        (b"PAR1\x15\x04\x15" + bytes(300), "N709", "Parquet"),
    ],
)
def test_gaps_quotes_and_separators(
    text: str | bytes, code: str, where: str, tmp_path: Path
) -> None:
    with pytest.raises(Diagnostics) as found:
        table(tmp_path, text)
    (said,) = found.value.diagnostics
    assert said.code == code and where in said.message + said.help


@pytest.mark.parametrize("row", ["", "   ", "NA", '""'])
@pytest.mark.parametrize("place", [1, 20])
def test_a_gap_in_a_table_of_one_column(row: str, place: int, tmp_path: Path) -> None:
    lines = [f"{i}" for i in range(40)]
    lines.insert(place, row)
    with pytest.raises(Diagnostics) as found:
        table(tmp_path, "\n".join(lines), channels=1)
    assert (
        found.value.diagnostics[0].code == "N707"
        and f"line {place + 1}" in found.value.diagnostics[0].message
    )


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.csv", PLAIN),
        ("a.CSV", PLAIN),
        ("a.csv", PLAIN.replace(",", ";")),
        ("a.csv", PLAIN.replace(",", "\t")),
        ("a.tsv", PLAIN.replace(",", "\t")),
        ("a.csv", "\ufeff" + PLAIN),
        ("a.csv", "\ufeffx,y\n" + PLAIN),
        ("a.csv", PLAIN.encode("utf-16")),
        ("a.csv", "\n\nx,y\n" + PLAIN + "\n\n"),
        ("a.csv", PLAIN.replace("\n", "\r\n")),
        ("a.csv", '"a\nname",y\n' + PLAIN.replace("\n1.0,", '\n"1.0",')),
        ("a.csv", ",y\n" + PLAIN),
    ],
)
def test_the_values_of_a_table_are_its_values(name: str, text: str | bytes, tmp_path: Path) -> None:
    np.testing.assert_allclose(table(tmp_path, text, name).given(), ROWS, atol=1e-12)


@pytest.mark.parametrize("still", [0.1, 0.0, -3e200, 1e-300])
def test_a_channel_that_never_changes_is_not_scaled_by_rounding(
    still: float, tmp_path: Path
) -> None:
    values = np.stack([np.arange(400.0), np.full(400, still)], 1)
    values[380:, 1] += 2 if abs(still) < 1e100 else 0
    np.save(tmp_path / "a.npy", values)
    found = tables.load(Given(tmp_path / "a.npy"), 2)
    assert [d.code for d in found.findings] == ["N741"] and np.isfinite(found.train).all()
    assert (
        abs(found.train[:, 1]).max() <= abs(still) * 1e-12
        and abs(found.train[:, 0].std() - 1) < 1e-9
    )
    assert abs(still) > 1e100 or abs(found.held_out[-1, 1] - 2) < 1e-9


def test_rounding_is_no_change(tmp_path: Path) -> None:
    values = np.stack([np.arange(400.0), np.where(np.arange(400) % 2, 0.3, 0.1 + 0.2)], 1)
    np.save(tmp_path / "a.npy", values)
    found = tables.load(Given(tmp_path / "a.npy"), 2)
    assert [d.code for d in found.findings] == ["N741"] and abs(found.train[:, 1]).max() < 1e-12


def test_large_numbers_have_a_deviation(tmp_path: Path) -> None:
    values = np.stack([1e300 * np.sin(np.arange(300)), 1e-300 * np.cos(np.arange(300))], 1)
    np.save(tmp_path / "a.npy", values)
    found = tables.load(Given(tmp_path / "a.npy"), 2)
    assert not found.findings and np.allclose(found.train.std(0), 1)


# Specs


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_mark_before_a_spec_is_no_part_of_it(coding: str, tmp_path: Path) -> None:
    mark = "\ufeff" if coding == "utf-16-le" else ""
    (tmp_path / "other.nl").write_bytes((mark + "nldsl 1\ndef twice(x) = 2 * x\n").encode(coding))
    (tmp_path / "spec.nl").write_bytes(
        (mark + "nldsl 1\nimport other\ninput x: []\ny = twice(x)  # \u00e9\n").encode(coding)
    )
    assert list(load(tmp_path / "spec.nl").outputs) == ["y"]
    status, out, err = nldsl("check", tmp_path / "spec.nl")
    assert status == 0 and "accepted" in out, err


def test_json_helper_reads_a_whole_object() -> None:
    assert filetype.is_json(json.dumps({"a": 1}).encode(), 8) and not filetype.is_json(b"[1]", 3)
