"""A NumPy array [time, channel] of numbers -> a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nldsl.train import faults
from nldsl.train.data.formats import Table, reads


@reads(".npy")
def from_npy(path: Path) -> Table:
    try:
        values: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise faults.no_table(path, str(error)) from None
    except OSError as error:
        raise faults.unreadable(path, error) from None
    if values.dtype.kind not in "fiu":
        raise faults.no_table(path, f"an array of {values.dtype}")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise faults.no_number(path, f"index {tuple(bad[0].tolist())}", str(values[tuple(bad[0])]))
    return values.astype(np.float64)
