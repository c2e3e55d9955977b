"""Arrays in one .npz file -> columns: an array [row, ..] for each input."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nldsl.train import faults
from nldsl.train.data.formats import Columns, reads_columns


@reads_columns(".npz")
def arrays(path: Path, names: list[str]) -> Iterator[Columns]:
    """Raises N708 for arrays of different length."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            for name in names:
                if name not in file.files:
                    raise faults.no_column(path, name, file.files)
            found = {name: np.atleast_1d(file[name]) for name in names}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise faults.damaged_data(path, "arrays", str(error)) from None
    sizes = {name: len(array) for name, array in found.items()}
    if len(set(sizes.values())) > 1:
        raise faults.unequal(path, sizes)
    yield found
