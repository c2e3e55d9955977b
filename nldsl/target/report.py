"""REHEARSAL -> what is said of it: a table of the parts of a step, and the prediction with all that
it assumes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table

from nldsl.diagnostic import counted
from nldsl.target.devices import GIB, MEMORY, PRODUCTS, Gpu
from nldsl.target.predict import (
    FLOORS,
    LATENCY,
    Launched,
    bounds,
    launched,
    step_seconds,
    sums,
    total,
)
from nldsl.target.rehearse import Part, Rehearsal

GRAPHS = FLOORS["in CUDA graphs"]
COLUMNS = ("part", "calls", "kernels", "library", "MB", "GFLOP", "ms a\nstep")
PLACE = re.compile(r"# (\S+\.nl:\d+)")
OFTEN = 6  # names that a list gives


def report(made: Rehearsal, gpu: Gpu, tokens: int) -> RenderableType:
    """`tokens`: those of a step."""
    times = step_seconds(made, gpu)
    lines = [
        f"predicted for {gpu.name}, which has run nothing of it:",
        *(
            f"    {1000 * seconds:9.3f} ms a step, {tokens / seconds:13,.0f} tokens/s  {how}"
            for how, seconds in times.items()
        ),
        "",
        *(f"{what}: {said}" for what, said in told(made, gpu).items() if said),
        "",
        "assumed: " + assumed(gpu),
    ]
    return Group(parts_table(made, gpu), f"{sum_of(launched(made))}\n", "\n".join(lines))


def parts_table(made: Rehearsal, gpu: Gpu) -> Table:
    """A row for each graph: what a call of it launches, and what all its calls take of a step."""
    table = Table(title="A call of each part, by the emitted text", title_justify="left")
    for column in COLUMNS:
        numeric = column != "part"
        table.add_column(column, justify="right" if numeric else "left", no_wrap=numeric)
    for part in made.parts:
        each = [(launch, 1.0) for launch in part.graph.launches]
        seconds = part.times * total(each, gpu, GRAPHS)
        table.add_row(
            named(part, made.source), times(part.times), *cells(each), short(1000 * seconds)
        )
    if made.eager:
        seconds = total(made.eager.items(), gpu, GRAPHS)
        table.add_row("between them", "1", *cells(made.eager.items()), short(1000 * seconds))
    return table


def named(part: Part, source: str) -> str:
    """The function, and the line of the text that it begins with, or that it is run backward."""
    if part.graph.backward:
        return f"{part.name} back"
    text = source.partition(f"def {part.name}(")[2].partition("\n\n\n")[0]
    found = PLACE.search(text)
    return f"{part.name} {found[1].rpartition('/')[2]}" if found else part.name


def cells(some: Launched) -> tuple[str, ...]:
    kernels, library, size, flops = sums(some)
    return times(kernels), times(library), short(size / 1e6), short(flops / 1e9)


def times(n: float) -> str:
    """A count; of a mean step it may be broken."""
    return f"{n:,.0f}" if n >= 100 or n == round(n) else f"{n:.3g}"


def short(x: float) -> str:
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def sum_of(some: Launched) -> str:
    kernels, library, size, flops = sums(some)
    return (
        f"a step: {times(kernels + library)} launches, {times(kernels)} kernels and "
        f"{times(library)} library calls; {size / 1e9:,.3f} GB, {flops / 1e12:,.4f} TFLOP"
    )


def told(made: Rehearsal, gpu: Gpu) -> dict[str, str]:
    """What bounds a step, and what stands in the way of CUDA graphs."""
    by = bounds(launched(made), gpu, GRAPHS)
    whole = sum(by.values())
    calls = [(x, part.times) for part in made.parts for x in part.graph.launches if x.library]
    refused = sorted({name for part in made.parts for name in part.graph.refused})
    loops = sum(part.graph.loops * part.times for part in made.parts)
    return {
        **alike(made.memories),
        "bound, in CUDA graphs, by": ", ".join(
            f"{name} {100 * seconds / whole:.0f} %" for name, seconds in by.items()
        ),
        "library calls": often(calls),
        "launched between the parts": often(made.eager.items()),
        "kept for the backward pass": f"{made.kept / GIB:,.2f} of {gpu.memory / GIB:.0f} GiB"
        + ("; calls that run again for lack of it are not counted" * (made.kept > gpu.memory)),
        "no CUDA graph holds": ", ".join(refused),
        "loops of the host, their rounds not counted": times(loops) if loops else "",
        "copies between host and device, which no CUDA graph holds": times(made.copies)
        if made.copies
        else "",
    }


def alike(memories: Mapping[str, str]) -> dict[str, str]:
    """How memories are computed, those alike once."""
    names: dict[str, list[str]] = {}
    for name, how in memories.items():
        names.setdefault(how, []).append(name)
    return {
        one[0] + (f" and {len(one) - 1} alike" if len(one) > 1 else ""): how
        for how, one in names.items()
    }


def often(some: Launched) -> str:
    """The names of launches, the most frequent first."""
    names: dict[str, float] = {}
    for launch, n in some:
        names[launch.name] = names.get(launch.name, 0.0) + n
    most = sorted(((n, name) for name, n in names.items() if n), reverse=True)
    said = [f"{name} {times(n)}" for n, name in most[:OFTEN]]
    rest = most[OFTEN:]
    if rest:
        said.append(f"{counted(len(rest), 'other')} {times(sum(n for n, _ in rest))}")
    return ", ".join(said)


def assumed(gpu: Gpu) -> str:
    rates = ", ".join(
        f"{str(dtype).rpartition('.')[2]} {PRODUCTS * peak / 1e12:.0f} TFLOP/s"
        for dtype, peak in gpu.flops.items()
    )
    floors = " or ".join(f"{1e6 * s:g} us {how}" for how, s in FLOORS.items() if s)
    latency = max(LATENCY.values())
    return (
        f"{rates} ({PRODUCTS:.0%} of the data sheet); memory {gpu.streamed / 1e12:.2f} TB/s "
        f"({MEMORY:.0%}); each buffer passes through memory whole, once a launch; a launch takes "
        f"at least {floors}; a library call is one launch; a triangular solve takes at least "
        f"{1e6 * latency:g} us; launches run one after another. Not counted: the host's own time, "
        "small products that leave processors idle."
    )
