"""Tokens in a `.bin` file: raw uint16 as nanoGPT writes them, or behind the header of llm.c.

The header is 256 int32: a magic number, a version and the count of the tokens behind it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nldsl.train import faults
from nldsl.train.data.encodings import raw
from nldsl.train.data.formats import Ids, reads_tokens

HEADER = 1024  # bytes
KINDS = {(20240520, 1): np.uint16, (20240801, 7): np.uint32}  # magic number, version -> tokens
MAGIC = range(20240000, 20250000)  # of any file of llm.c
LOOKED_AT = 1 << 16  # tokens


@reads_tokens(".bin")
def from_bin(path: Path) -> Ids:
    """Raises N754 for another version, tokens that are cut off, or uint32 without a header."""
    data = raw(path)
    magic, version, count = (
        (int(n) for n in data[: len(data) // 4 * 4][:12].view("<i4"))
        if (len(data) >= HEADER)
        else (0, 0, 0)
    )
    if magic in MAGIC:
        if (magic, version) not in KINDS:
            raise faults.damaged_data(
                path, "tokens", f"its header is of another kind: {magic}, version {version}"
            )
        kind = np.dtype(KINDS[magic, version]).newbyteorder("<")
        if len(data) != HEADER + count * kind.itemsize:
            raise faults.damaged_data(
                path, "tokens", f"its header tells of {count:,}, it has {len(data):,} bytes"
            )
        return data[HEADER:].view(kind)
    if len(data) % 2 or not len(data):
        raise faults.damaged_data(path, "uint16 tokens", f"it has {len(data):,} bytes")
    tokens: Ids = data.view("<u2")
    if is_wide(tokens[:LOOKED_AT]):
        raise faults.not_text(
            path,
            "an array of uint32",
            "a .bin file is of uint16, or has the header of llm.c; an .npy file keeps its type: "
            f'`np.save("tokens.npy", np.fromfile("{path.name}", np.uint32))`',
        )
    return tokens


def is_wide(tokens: Ids) -> bool:
    """Are they the halves of uint32? Then every second one is small, and others are not."""
    low, high = tokens[: len(tokens) // 2 * 2].reshape(-1, 2).T
    return bool(len(high) and high.max() <= 16 and low.max() > 256)
