"""The folder of a run: decides who may begin in it, and reads its run.json and its texts."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nldsl import writing
from nldsl.diagnostic import Diagnostics
from nldsl.train import checkpoint, faults, records
from nldsl.train.records import Lengthened, Record
from nldsl.train.specs import text_of

NUMBERS = "run.json"


def made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise faults.cannot_write(folder, error) from None
    return folder


def unused(folder: Path, stem: str) -> Path:
    """A new folder `stem-N` in `folder`; of several that ask at once each makes one of its own."""
    made(folder)
    n = 1
    while True:
        try:
            (folder / f"{stem}-{n}").mkdir()
            return folder / f"{stem}-{n}"
        except FileExistsError:
            n += 1
        except OSError as error:
            raise faults.cannot_write(folder / f"{stem}-{n}", error) from None


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """While one process begins a run in a folder, another waits.

    Raises N715 if the folder holds a run, or a file that one saved.
    """
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise faults.cannot_write(folder, error) from None
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        if (
            checkpoint.there(folder / checkpoint.FILE)
            or checkpoint.there(folder / checkpoint.BEST)
            or checkpoint.there(folder / NUMBERS)
            and is_record(folder)
        ):
            raise faults.already_a_run(folder)
        yield
    finally:
        os.close(number)


def is_record(folder: Path) -> bool:
    """Does run.json hold a whole record? An empty or a cut one does not."""
    try:
        recorded(folder)
    except Diagnostics:
        return False
    return True


def recorded(folder: Path) -> Record:
    """The record in run.json.

    Raises N710 if there is none, N712 if it is damaged or of something else.
    """
    path = folder / NUMBERS
    try:
        return records.read(path.read_bytes(), Record)
    except (FileNotFoundError, NotADirectoryError):
        raise faults.not_a_run(folder) from None
    except OSError as error:
        raise faults.not_a_run(folder, f"`{path}` cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise faults.damaged_record(
            path, str(error), checkpoint.there(folder / checkpoint.FILE)
        ) from None


def kept_texts(folder: Path, record: Record) -> dict[str, str]:
    """The spec and its imports as they lie in the run folder; one that is gone is written again."""
    found = {}
    for name, text in record.texts.items():
        try:
            found[name] = text_of(folder / name)
        except FileNotFoundError:
            found[name] = text
            try:
                writing.replace(folder / name, text)
            except OSError as error:
                raise faults.cannot_write(folder / name, error) from None
        except OSError as error:
            raise faults.unreadable(folder / name, error) from None
    return found


def longer(folder: Path, record: Record, steps: int) -> Record:
    """The run from now on is so many steps long.

    Raises N711 if these are fewer than were planned.
    """
    if steps < record.settings.steps:
        raise faults.shorter(folder, record.settings.steps, steps)
    saved = checkpoint.manifest(folder)
    entry = Lengthened(after=saved.step if saved else 0, was=record.settings.steps, steps=steps)
    settings = record.settings.model_copy(update={"steps": steps})
    lengthened = [*record.lengthened, entry]
    # a run that was too short to be compiled may be long enough now
    chosen = record.compiled_from or None
    return changed(
        folder,
        record,
        {"settings": settings, "lengthened": lengthened, "compiled_from": chosen},
    )


def compiled_from(folder: Path, record: Record, step: int) -> Record:
    """The run is compiled from a step on; 0: not at all."""
    return changed(folder, record, {"compiled_from": step})


def changed(folder: Path, record: Record, new: Mapping[str, object]) -> Record:
    """The record with other values, written. Raises N713 if it cannot be."""
    record = record.model_copy(update=new)
    try:
        writing.replace(folder / NUMBERS, records.written(record))
    except OSError as error:
        raise faults.cannot_write(folder / NUMBERS, error) from None
    return record
