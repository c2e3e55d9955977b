"""A NumPy array: of numbers [time, channel] a table, of integers [token] the tokens of a text."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nldsl.train import faults
from nldsl.train.data.formats import Ids, Table, reads, reads_tokens
from nldsl.train.data.given import Given
from nldsl.train.data.maps import Numbers


@reads(".npy")
def from_npy(path: Path, given: Given) -> Table:
    if given.columns:
        raise faults.option_does_not_fit("--column", path, "its columns have no names")
    values = mapped(path)
    if values.dtype.kind not in "fiu":
        raise faults.no_table(path, f"an array of {values.dtype}")
    bad = np.argwhere(np.isinf(values) if given.fill else ~np.isfinite(values))
    if len(bad):
        raise faults.no_number(path, f"index {tuple(bad[0].tolist())}", str(values[tuple(bad[0])]))
    return values.astype(np.float64)


@reads_tokens(".npy")
def tokens(path: Path) -> Ids:
    values = mapped(path)
    if values.dtype.kind not in "iu" or values.ndim != 1:
        what = f"an array of {values.dtype}, of {values.ndim} axes"
        raise faults.not_tokens(path, what)
    return values


def mapped(path: Path) -> Numbers:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise faults.no_table(path, str(error)) from None
    except OSError as error:
        raise faults.unreadable(path, error) from None
