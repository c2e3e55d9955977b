"""Gaps in a table: refused, or filled as asked; columns of other things are left out by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import SMALL, done, nldsl
from test_data_text import refused
from test_series import FORECAST

from nldsl import cli
from nldsl.diagnostic import Diagnostics
from nldsl.train.data import table as tables
from nldsl.train.data.given import Given

VALUES = np.stack([np.sin(np.arange(60) / 5), np.arange(60) / 4], 1)
HOLES = VALUES.copy()
HOLES[[7, 8, 30], 0] = np.nan
HOLES[40:43, 1] = np.nan
LAST = VALUES.copy()
LAST[[7, 8], 0], LAST[30, 0], LAST[40:43, 1] = VALUES[6, 0], VALUES[29, 0], VALUES[39, 1]
LINEAR = VALUES.copy()
for rows, column in (((7, 8), 0), ((30,), 0), ((40, 41, 42), 1)):
    first, last = rows[0] - 1, rows[-1] + 1
    for row in rows:
        LINEAR[row, column] = np.interp(row, [first, last], VALUES[[first, last], column])
FILLED = {"last": LAST, "linear": LINEAR, "-2.5": np.where(np.isnan(HOLES), -2.5, HOLES)}


def separated(path: Path, values: np.ndarray, gap: str = "NA", mark: str = ",") -> Path:
    cells = [[gap if np.isnan(x) else repr(x) for x in row] for row in values.tolist()]
    path.write_text("a" + mark + "b\n" + "".join(mark.join(row) + "\n" for row in cells))
    return path


def parquet(path: Path, values: np.ndarray) -> Path:
    table = {"a": values[:, 0], "b": pa.array(values[:, 1], from_pandas=True)}
    pq.write_table(pa.table(table), path)
    return path


def npy(path: Path, values: np.ndarray) -> Path:
    np.save(path, values)
    return path


@pytest.mark.parametrize("how", FILLED)
def test_gaps_are_filled_as_asked(how: str, tmp_path: Path) -> None:
    for path in (
        separated(tmp_path / "a.csv", HOLES),
        separated(tmp_path / "b.csv", HOLES, "", ";"),
        separated(tmp_path / "c.tsv", HOLES, "n/a", "\t"),
        parquet(tmp_path / "a.parquet", HOLES),
        npy(tmp_path / "a.npy", HOLES),
    ):
        assert refused(Given(path), 2)[0] == "N707"
        found = tables.load(Given(path, fill=how), 2)
        np.testing.assert_allclose(found.given(), FILLED[how], atol=1e-12)
        assert found.gaps == 6 and "6 gaps filled" in found.describe()


@pytest.mark.parametrize("how", FILLED)
def test_a_table_without_gaps_is_what_it_was(how: str, tmp_path: Path) -> None:
    path = separated(tmp_path / "a.csv", VALUES)
    plain, found = tables.load(Given(path), 2), tables.load(Given(path, fill=how), 2)
    assert np.array_equal(plain.train, found.train) and plain.sha256 == found.sha256
    assert "filled" not in found.describe()


@pytest.mark.parametrize(
    "row, how, told",
    [(0, "last", "before"), (0, "linear", "before"), (59, "linear", "behind")],
)
def test_a_gap_at_an_end_has_nothing_beside_it(
    row: int, how: str, told: str, tmp_path: Path
) -> None:
    values = VALUES.copy()
    values[row, 1] = np.nan
    code, message = refused(Given(separated(tmp_path / "a.csv", values), fill=how), 2)
    assert code == "N707" and told in message and f"row {row + 1}, column 2" in message
    assert tables.load(Given(separated(tmp_path / "a.csv", values), fill="0"), 2).gaps == 1


@pytest.mark.parametrize("cell", ["word", "1e999", "1,5"])
def test_what_is_no_gap_is_not_filled(cell: str, tmp_path: Path) -> None:
    path = separated(tmp_path / "a.csv", HOLES, mark=";")
    path.write_text(path.read_text() + f"{cell};2\n")
    assert refused(Given(path, fill="last"), 2)[0] == "N707"
    infinite = HOLES.copy()
    infinite[3] = np.inf
    for path in (npy(tmp_path / "a.npy", infinite), parquet(tmp_path / "a.parquet", infinite)):
        assert refused(Given(path, fill="last"), 2)[0] == "N707"


def test_a_column_of_dates_is_left_out_by_name(tmp_path: Path) -> None:
    lines = ["day,open,close", *(f"2026-01-{n + 1:02},{n},{n / 3}" for n in range(30))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(Diagnostics) as found:
        tables.load(Given(tmp_path / "a.csv"), 3)
    (said,) = found.value.diagnostics
    assert said.code == "N707" and "`--column open` `--column close`" in said.help
    data = tables.load(Given(tmp_path / "a.csv", ("open", "close")), 2)
    np.testing.assert_allclose(data.given(), [(n, n / 3) for n in range(30)], atol=1e-12)


def test_a_run_keeps_how_gaps_are_filled(tmp_path: Path) -> None:
    (tmp_path / "spec.nl").write_text(FORECAST.replace("channel = 3", "channel = 2"))
    path = separated(tmp_path / "a.csv", np.concatenate([HOLES] * 5))
    whole = ("train", tmp_path / "spec.nl", path, *SMALL, "--steps", 2)
    out = done(*whole, "--fill", "last", "--out", tmp_path / "run")
    assert "30 gaps filled" in out
    assert "points scored" in done("eval", tmp_path / "run")
    assert "points scored" in done("eval", tmp_path / "run", path)
    assert "30 gaps filled" in done("train", "--resume", tmp_path / "run", "--steps", 3)
    status, _, err = nldsl("train", "--resume", tmp_path / "run", "--fill", "0")
    assert status == cli.RUN and "error[N711]" in err
    assert nldsl(*whole, "--fill", "soup")[0] == nldsl(*whole, "--fill", "nan")[0] == cli.USAGE
