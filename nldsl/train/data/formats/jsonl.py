"""JSON lines -> documents: of the object in each line the field `text`, or the one that is
named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from nldsl.train import faults
from nldsl.train.data.formats import reads_text
from nldsl.train.data.given import Given

SHOWN = 20  # letters of what is no text


@reads_text(".jsonl", ".ndjson")
def from_jsonl(path: Path, given: Given) -> Iterator[bytes]:
    """Lines without a letter are passed over."""
    column = given.column(path)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield document(path, f"line {number}", line, column, given.encoding or "utf-8")


def document(path: Path, where: str, line: bytes, column: str, encoding: str) -> bytes:
    try:
        row = json.loads(line.decode(encoding))
    except UnicodeDecodeError as error:
        raise faults.other_encoding(path, f"{encoding} in {where}", error.start) from None
    except ValueError as error:
        raise faults.damaged_data(path, "JSON lines", f"{where}: {error}") from None
    if not isinstance(row, dict):
        raise faults.damaged_data(path, "JSON lines", f"{where} is not an object")
    if column not in row:
        raise faults.no_column(path, column, list(row), where)
    if not isinstance(row[column], str):
        raise faults.no_document(path, where, column, json.dumps(row[column])[:SHOWN])
    return str(row[column]).encode(errors="replace")
