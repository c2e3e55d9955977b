"""Verbs on a training step: it is compiled, lowered for a GPU, timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nldsl.cli.options import (
    Bandwidth,
    Budget,
    Capture,
    Device,
    How,
    In,
    Loads,
    Precision,
    Sets,
    Spec,
    Stage,
    Threads,
    absolute,
    count,
)
from nldsl.cli.outcome import reported, say
from nldsl.cli.sources import Text, loaded, source_of
from nldsl.screen import Screen

if TYPE_CHECKING:
    from nldsl.core.program import Program
    from nldsl.step.batches import Batch
    from nldsl.step.compile import CompiledStep
    from nldsl.step.loading import Files
    from nldsl.target.devices import Gpu

FUNCTIONS = (Capture.auto, Capture.separate)  # captures by which functions are compiled one by one


def compile_(
    spec: Spec,
    sets: Sets = None,
    emit: Annotated[
        Stage | None, typer.Option(help="Print one stage instead of compiling.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="Write the emitted step, the picture and a manifest here."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Sequences in a micro-batch.")] = 4,
    length: Annotated[int, typer.Option(min=2, help="Tokens in a sequence.")] = 256,
    capture: How = Capture.auto,
    device: Device = "cpu",
    precision: In = Precision.float32,
    load: Loads = None,
    budget: Budget = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="GPU",
            help="Instead, lower the step for a GPU that need not be there, such as h100: what it "
            "launches, and a predicted time.",
        ),
    ] = None,
    cubins: Annotated[
        bool,
        typer.Option("--cubins", help="With --target: registers and spills of each kernel, too."),
    ] = False,
    ranks: Annotated[
        int | None,
        count(2, "Say what so many processes with a batch each would send each other, too."),
    ] = None,
    bandwidth: Bandwidth = None,
    shard: Annotated[
        bool, typer.Option("--shard", help="With --ranks: of ranks that hold a part of the state.")
    ] = False,
) -> None:
    """Compile a spec and report its levels, timetable, lowerings and costs."""
    require_fitting(target, cubins, emit or out or budget or device != "cpu", capture)
    if bandwidth is not None and ranks is None:
        raise typer.BadParameter("`--bandwidth` is that of `--ranks`")
    if shard and ranks is None:
        raise typer.BadParameter("`--shard` is that of `--ranks`")
    if emit is not None and ranks is not None:
        raise typer.BadParameter("a stage is printed alone: `--emit` or `--ranks`, one of the two")
    with reported():
        text = source_of(spec)
        told = Told(precision.value, ranks, bandwidth or 25e9, shard)
        if target is not None:
            gpu = gpu_of(target)
            program, files = with_files(text, sets, load)
            return lowered(program, files, gpu, batch, length, told, cubins)
        if emit is not None:
            if out is not None:
                raise typer.BadParameter(
                    "a stage is printed, not written: `--emit` or `-o`, one of the two"
                )
            return emitted(text, sets, emit, device, precision)
        from nldsl import artefacts, pipeline
        from nldsl.device import available
        from nldsl.train.bench import random_batch
        from nldsl.view.report import report

        program, files = with_files(text, sets, load)
        how = available(device), precision.value, capture.value
        step = pipeline.compile_program(program, *how, files=files, budget=budget)
        data = random_batch(program, batch, length, device)
        warmed(step, data)
        say(report(program, step))
        told.say(program, lambda: {f"on {device}, measured here": measured(step, data)})
        if out is not None:
            say(f"{out}: {', '.join(artefacts.write(step, text.source, out))}")


@dataclass(frozen=True)
class Told:
    """What is said of ranks, if anything: how many, the bytes a second of each, and whether each
    holds a part of the state.
    """

    precision: str
    ranks: int | None
    bandwidth: float
    shard: bool

    def say(self, program: Program, takes: Callable[[], Mapping[str, float]]) -> None:
        """`takes`: seconds of a step on one rank, by how they are known."""
        if self.ranks is None:
            return
        from nldsl.view.communication import communication
        from nldsl.view.parts import parts

        say("")
        tell = parts if self.shard else communication
        say(tell(program, self.precision, self.ranks, self.bandwidth, takes()))


def measured(step: CompiledStep, batch: Batch) -> float:
    """Seconds of a step, the median of a few."""
    from nldsl.train.bench import of_a_step

    return of_a_step(step, step.init(0), batch, 5)


def require_fitting(target: str | None, cubins: bool, others: object, capture: Capture) -> None:
    """Raises a usage error for options that say nothing beside others."""
    if target is not None and (others or capture not in FUNCTIONS):
        raise typer.BadParameter(
            "`--target` counts the functions of `--capture split`, and takes `--set`, `--batch`, "
            "`--length`, `--precision`, `--load`, `--cubins` and `--ranks` alone"
        )
    if cubins and target is None:
        raise typer.BadParameter("`--cubins` are those of a `--target`")


def emitted(
    text: Text, sets: list[str] | None, emit: Stage, device: str, precision: Precision
) -> None:
    """Says what one stage makes, and goes no further."""
    from nldsl import pipeline, stages
    from nldsl.device import available

    def watch(stage: str, made: object) -> None:
        if stage == emit:
            say(stages.DUMPS[stage](made))
            raise typer.Exit

    program = loaded(text, sets, watch)
    pipeline.compile_program(program, available(device), precision.value, watch=watch)


def gpu_of(target: str) -> Gpu:
    """Raises a usage error for a GPU that is not in the table, and N890 without triton."""
    from nldsl.target.devices import GPUS

    if target not in GPUS:
        raise typer.BadParameter(f"{target!r} is no target; there are {', '.join(GPUS)}")
    from nldsl.target.absent import require_triton

    require_triton()
    return GPUS[target]


def lowered(
    program: Program,
    files: Files,
    gpu: Gpu,
    batch: int,
    length: int,
    told: Told,
    cubins: bool,
) -> None:
    """Says what a step launches on a GPU."""
    from nldsl.target import cubins as assembler
    from nldsl.target.predict import step_seconds
    from nldsl.target.rehearse import rehearsed
    from nldsl.target.report import report
    from nldsl.train.display import shown_on

    display = shown_on(Screen())
    made = rehearsed(program, gpu, batch, length, told.precision, files, display.compiling)
    display.close()
    say(report(made, gpu, batch * length))
    told.say(
        program, lambda: {f"{how}, on {gpu.name}": s for how, s in step_seconds(made, gpu).items()}
    )
    if cubins:
        codes = [part.graph.code for part in made.parts]
        sources = [x for part in made.parts for x in part.graph.sources]
        say(assembler.cubins_table(assembler.cubins(codes, sources, gpu)))


def with_files(text: Text, sets: list[str] | None, load: list[str] | None) -> tuple[Program, Files]:
    """A program, and the tensors that it loads."""
    from nldsl.train import pretrained

    program = loaded(text, sets)
    places = pretrained.places(program, text.folder, absolute(load))
    return program, pretrained.read(program, places).files


def warmed(step: CompiledStep, batch: Batch) -> None:
    """Compiled, and measured."""
    from nldsl.train.display import shown_on

    display = shown_on(Screen())
    step.warm(step.init(0), batch, display.compiling)
    display.close()
    step.measure(batch)


def bench(
    spec: Spec,
    sets: Sets = None,
    steps: Annotated[int, typer.Option(min=1, help="Timed steps.")] = 20,
    batch: Annotated[int, typer.Option(min=1)] = 4,
    length: Annotated[int, typer.Option(min=2)] = 256,
    device: Device = "cpu",
    precision: In = Precision.float32,
    capture: How = Capture.auto,
    profile: Annotated[
        bool,
        typer.Option(
            "--profile",
            help="Instead of comparing, say what each level takes of a step's time, forward, "
            "backward and in its ticks, and what is kept for its backward pass.",
        ),
    ] = False,
    threads: Threads = None,
) -> None:
    """Time the training step, compiled and not."""
    with reported():
        from nldsl.device import available
        from nldsl.train import bench
        from nldsl.train import profile as profiles

        if profile and capture is Capture.whole:
            raise typer.BadParameter(
                "one graph has no parts to time: `--profile` with `--capture split` or `eager`"
            )
        program = loaded(source_of(spec), sets)
        run = (steps, batch, length, available(device), precision.value)
        if not profile:
            return say(bench.compared(program, *run, capture.value))
        how = Capture.separate if capture is Capture.auto else capture
        found = profiles.profiled(program, *run, how.value)
        what = f"{spec}, {how.value}, {batch} x {length} tokens, {steps} steps"
        say(profiles.profile_table(found, what))
