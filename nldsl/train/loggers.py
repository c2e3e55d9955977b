"""EVENTS OF A RUN -> TensorBoard or Weights & Biases, where they are installed.

    loss, bits, seconds              of each step
    rate/training, gradient/.., update/..    of each level, if it is watched
    eval/score, held_out/bits        of scores

The journal stays what is read again; what goes out here is a copy of its numbers. Both come with
the extra `nldsl[log]`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from nldsl.extras import needs

if TYPE_CHECKING:
    from nldsl.train.run import Run

TOLD = ("step", "eval", "held_out")


class Logger(Protocol):
    def take(self, event: str, values: Mapping[str, object]) -> None:
        """One event, as the journal has it."""

    def close(self) -> None: ...


class Nobody:
    """Where nobody asked."""

    def take(self, event: str, values: Mapping[str, object]) -> None:
        pass

    def close(self) -> None:
        pass


class TensorBoard:
    """Files in `RUN/tensorboard`; a resumed run takes back what stands behind its checkpoint."""

    def __init__(self, run: Run, done: int) -> None:
        with needs("log"):
            from torch.utils.tensorboard import SummaryWriter
        place = str(run.folder / "tensorboard")
        self.writer: Any = SummaryWriter(place, purge_step=done + 1)

    def take(self, event: str, values: Mapping[str, object]) -> None:
        for name, value in numbers(event, values):
            self.writer.add_scalar(name, value, values["step"])

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A run of the project `nldsl`, which is the same one when the folder is resumed."""

    def __init__(self, run: Run, done: int) -> None:
        with needs("log"):
            wandb: Any = import_module("wandb")
        own = hashlib.sha256(f"{run.folder.resolve()} {run.record.spec_sha256}".encode())
        self.run: Any = wandb.init(
            project="nldsl",
            name=run.folder.name,
            id=own.hexdigest()[:16],
            resume="allow",
            dir=str(run.folder),
            config=run.settings.model_dump(),
        )

    def take(self, event: str, values: Mapping[str, object]) -> None:
        if found := dict(numbers(event, values)):
            self.run.log(found, step=values["step"])

    def close(self) -> None:
        self.run.finish()


LOGGERS: dict[str, type[TensorBoard] | type[WeightsAndBiases]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


def logger(run: Run, done: int) -> Logger:
    """What a run was asked to log to, from step `done` on. Raises N890 where it is not there."""
    return LOGGERS[run.log](run, done) if run.log is not None else Nobody()


def numbers(event: str, values: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    """By the names that they are drawn under."""
    if event not in TOLD:
        return
    before = "" if event == "step" else f"{event}/"
    for name, value in values.items():
        if name == "levels" and isinstance(value, Mapping):
            for level, said in value.items():
                yield from ((f"{what}/{level}", x) for what, x in said.items() if x is not None)
        elif name != "step" and isinstance(value, int | float):
            yield before + name, float(value)
