"""Times the emitted source and the compiled step, side by side on this machine."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from rich.table import Table

from nldsl import pipeline
from nldsl.core.program import ENDS, Program
from nldsl.step.batches import Batch
from nldsl.step.compile import CompiledStep
from nldsl.step.state import State

SEED = 0


@dataclass(frozen=True)
class Timing:
    """`compile_seconds` covers every tick kind; `step_seconds` is the median of `steps` later
    steps.
    """

    capture: str
    compile_seconds: float
    step_seconds: float
    tokens: int  # a step

    def row(self, eager: Timing) -> tuple[str, ...]:
        return (
            self.capture,
            f"{self.compile_seconds:.1f} s",
            f"{1000 * self.step_seconds:.1f} ms",
            f"{self.tokens / self.step_seconds:,.0f}",
            f"{eager.step_seconds / self.step_seconds:.2f}",
        )


def compared(
    program: Program, steps: int, batch: int, length: int, device: str, precision: str, capture: str
) -> Table:
    """A row without the compiler, and one for the capture."""
    timings = [
        timed(program, how, steps, batch, length, device, precision)
        for how in dict.fromkeys(("eager", capture))
    ]
    table = Table("capture", "compile", "step", "tokens/s", "times eager")
    for timing in timings:
        table.add_row(*timing.row(timings[0]))
    return table


def timed(
    program: Program, capture: str, steps: int, batch: int, length: int, device: str, precision: str
) -> Timing:
    """Times one capture: seconds to compile, and the median of `steps` steps."""
    data = random_batch(program, batch, length, device)
    began = time.perf_counter()
    step = pipeline.compile_program(
        program, device=device, precision=precision, capture=capture, planned_steps=steps
    )
    state = step.init(SEED)
    step.warm(state, data)
    compiled = time.perf_counter() - began
    return Timing(capture, compiled, of_a_step(step, state, data, steps), batch * length)


def of_a_step(step: CompiledStep, state: State, data: Batch, steps: int) -> float:
    """Seconds of a step, the median of so many."""
    seconds = []
    for _ in range(steps):
        began = time.perf_counter()
        for value in step(state, [data]).values():
            value.item()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def random_batch(program: Program, batch: int, length: int, device: str) -> dict[str, torch.Tensor]:
    """For each input a LongTensor [batch, length], or its shape behind these axes if it holds
    numbers.
    """
    generator = torch.Generator().manual_seed(SEED)
    return {
        name: (
            torch.randint(0, program.vocab[name], (batch, length), generator=generator)
            if name in program.vocab
            else torch.randn(
                (batch, length, *(axis.size for axis in node.shape)), generator=generator
            )
        ).to(device)
        for name, node in program.inputs.items()
    } | ({ENDS: torch.zeros(batch, length, device=device)} if program.counts(ENDS) else {})
