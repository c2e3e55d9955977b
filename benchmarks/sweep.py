"""What a token costs by the length of the text: specs at as many tokens a step, in fewer and longer
sequences.

    train   a step: forward, backward, the optimizer
    score   the losses of the same sequences, without learning on the step clock
    write   a token behind a text of this length, one sequence
"""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.systems import EXAMPLES, System, parameters_of
from benchmarks.table import Worker, folder, interleaved, line
from nldsl import pipeline
from nldsl.step.compile import CompiledStep
from nldsl.step.state import State
from nldsl.train.bench import random_batch

SPECS = {
    "transformer.nl": {},
    "deltanet.nl": {},
    "titans.nl": {"chunk": 64},
    "hope.nl": {"near": 64},
}
WORKS = ("train", "score", "write")
LENGTHS = (512, 1024, 2048, 4096, 8192)
TOKENS = 8192  # of a step
WRITTEN = 16  # tokens a measurement
SIZES = {"d": 256, "depth": 1, "head": 4}
SIZES_SAID = (
    f"{TOKENS} tokens a step, of training and scoring; "
    f"{', '.join(f'{key} {value}' for key, value in SIZES.items())}."
)
COLUMNS = (
    "system",
    "tokens",
    "us a token",
    f"times {LENGTHS[0]}",
    "peak MB",
    f"times {LENGTHS[1]}",
)


def system(name: str, work: str, length: int) -> System:
    """A spec at one of its works."""
    given = {key: str(value) for key, value in (SIZES | SPECS[name]).items()}
    program = pipeline.load(EXAMPLES / name, given)
    parameters = parameters_of(program)
    step = pipeline.compile_program(program, capture="eager" if work == "write" else "split")
    state = step.init(0)
    if work == "write":
        writer = Writer(step, state, length)
        return System(parameters, writer.write, writer.write)
    batch = random_batch(program, TOKENS // length, length, "cpu")
    step.warm(state, batch)
    if work == "score":
        return System(parameters, lambda: step.reading.evaluate(state, batch), no_flops)
    return System(parameters, lambda: step(state, [batch]), no_flops)


def no_flops() -> None:
    """They are not counted here."""


class Writer:
    """Has read a text, and writes behind it; its memories learn from what it writes."""

    def __init__(self, step: CompiledStep, state: State, length: int) -> None:
        self.step, self.state, self.position = step, state, 0
        logits = step.reading.logits()
        assert logits is not None
        self.module = step.reading.module("logits", logits)
        self.carry = self.module["start"](state.views, 1, step.reading.like(), None)
        text = random_batch(step.program, 1, length, "cpu")["ids"]
        for piece in torch.split(text, LENGTHS[0], 1):
            self.read(piece)

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            outputs, self.carry = self.module["forward"](
                self.state.views, self.step.place({"ids": ids}), self.carry, self.position, "loop"
            )
        self.position += ids.shape[1]
        logits: torch.Tensor = outputs["logits"]
        return logits

    def write(self) -> None:
        ids = torch.zeros(1, 1, dtype=torch.long)
        for _ in range(WRITTEN):
            ids = self.read(ids)[:, -1].argmax(-1, keepdim=True)


def workers(name: str, work: str, kept: Path) -> list[Worker]:
    place = kept / folder(name)  # one for all: what scores is what trains
    return [Worker(f"{work} {name} {length}", place) for length in LENGTHS]


def build(name: str, work: str, kept: Path) -> None:
    for worker in workers(name, work, kept):
        worker.start().end()


def rows(name: str, work: str, rounds: int, kept: Path) -> list[str]:
    build(name, work, kept)
    found = workers(name, work, kept)
    interleaved(found, rounds)
    tokens = WRITTEN if work == "write" else TOKENS
    first, beside = found[0].median, found[1].peak
    return [
        line(
            f"{name}, {work}",
            f"{length:,}",
            f"{1e6 * worker.median / tokens:,.0f}",
            f"{worker.median / first:.2f}",
            f"{worker.peak / 1e6:,.0f}",
            f"{worker.peak / beside:.2f}",
        )
        for length, worker in zip(LENGTHS, found, strict=True)
    ]
