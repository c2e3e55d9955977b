"""DATA, and how it is to be read: what the command line and a run's settings say of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nldsl.train import faults
from nldsl.train.records import Settings

COLUMN = "text"  # of documents, where none is named


@dataclass(frozen=True)
class Given:
    """`path` None is a default. `columns` are names of columns that are read, `encoding` that of
    text files, `tokenizer` a tokenizer.json; None: bytes. `fill` is what stands for a gap in a
    table: `last`, `linear` or a number; None: a gap is refused.
    """

    path: Path | None = None
    columns: tuple[str, ...] = ()
    encoding: str | None = None
    tokenizer: Path | None = None
    fill: str | None = None

    def at(self, path: Path | None) -> Given:
        return replace(self, path=path)

    def column(self, path: Path) -> str:
        """The column of documents. Raises N751 for several."""
        if len(self.columns) > 1:
            raise faults.several_columns(path, self.columns)
        return self.columns[0] if self.columns else COLUMN


def given_by(settings: Settings, tokenizer: Path | None = None) -> Given:
    """What settings say; `tokenizer` is where the file lies now, if the settings name one."""
    return Given(
        Path(settings.data) if settings.data else None,
        tuple(settings.columns),
        settings.encoding,
        tokenizer if settings.tokenizer else None,
        settings.fill,
    )
