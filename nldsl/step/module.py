"""Forward source and updates -> one Python module, which needs only torch.

init(seed), step(state, batch)                 the file by itself: `python step.py` trains on random
                                               data
step_k(S, inputs, D, planned, mode, lanes)     one training step of tick kind k, from what is kept
                                               (S) and the batch, in place
"""

from __future__ import annotations

from dataclasses import dataclass

from nldsl.core.nodes import Tree, walk
from nldsl.core.program import ENDS, Memory, Program
from nldsl.schedule.named import Copy
from nldsl.schedule.plan import Schedule
from nldsl.schedule.timetable import Timetable
from nldsl.step import gathers
from nldsl.step.emit import Emitted, Emitter, quotes
from nldsl.step.layout import WIDTH, fold
from nldsl.step.loading import loaded_name, loads
from nldsl.step.runtime.library import copied
from nldsl.step.state import entries, layout, leaves_of, ticks_of
from nldsl.step.updates import Updates, drawn

IMPORTS = """from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from typing import NamedTuple, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor"""

# what products are in bfloat16
IN_BFLOAT16 = {"torch.einsum": "product", "F.scaled_dot_product_attention": "rounded_attention"}


def in_precision(emitted: Emitted, precision: str) -> str:
    """The forward source alone; in bfloat16 its products are `product`, and nothing else
    differs.
    """
    return "\n\n\n".join([IMPORTS, *forward_text(emitted, precision)])


def forward_text(emitted: Emitted, precision: str) -> tuple[str, str]:
    """The functions of the model, and those that they call."""
    model, called = emitted.text, copied(emitted.text)
    if precision == "bfloat16":
        model, called = (rounded(text) for text in (model, called))
        called += "\n\n" + copied(model + called, called)
    return model, called


def rounded(text: str) -> str:
    for exact, in_bfloat16 in IN_BFLOAT16.items():
        text = text.replace(f"{exact}(", f"{in_bfloat16}(")
    return text


@dataclass(frozen=True)
class StepSource:
    """The step as Python: its text, what is known of its forward part, and what writes further tick
    kinds."""

    text: str
    precision: str
    emitted: Emitted
    updates: Updates


def emit(
    schedule: Schedule, precision: str, steps: int, ranks: int = 1, shard: bool = False
) -> StepSource:
    """The text of a whole step; on several ranks, of the lanes of one, and of its part of the
    state if each holds one. Raises N725 if that cannot be.
    """
    updates, emitted = Updates(schedule.steps, ranks, shard), Emitter(schedule.forward).emit()
    text = module_text(schedule.program, emitted, updates, precision, steps)
    return StepSource(text, precision, emitted, updates)


def module_text(
    program: Program, emitted: Emitted, updates: Updates, precision: str, steps: int
) -> str:
    """The whole file. `steps` are those of a run, for rates that follow a schedule."""
    model, called = forward_text(emitted, precision)
    ticks, kinds = updates.emit(), step_kinds(emitted, updates)
    tables = {
        "HEARD": list(updates.clock.streams),
        "LEARNERS": learners(program, updates),
        "SLOTS": layout(program, updates.state, updates.shards),
        **gathered(emitted, updates),
        **tables_alone(program, emitted, updates, steps),
    }
    head = [row for name, table in tables.items() for row in fold(f"{name} = {quotes(table)}")]
    kinds_of_step = range(1, 1 + len(updates.clock.table.events))
    head += fold(f"TICKS = {{{', '.join(tick_row(i, updates) for i in kinds_of_step)}}}")
    if workers := entries(program):
        head += fold(f"WORKERS = {quotes(workers)}")
    shard = updates.shards.are
    wanted = "fresh_at_workers(" * bool(workers) + "fresh_of_parts(" * shard
    rest = copied(f"{ticks}\n{kinds}\nmain({wanted}", called)
    if workers:
        called, rest = map(at_workers, (called, rest))
    if shard:
        called, rest = map(of_parts, (called, rest))
    parts = [
        docstring(program, precision),
        IMPORTS,
        model.strip(),
        ticks.strip(),
        kinds.strip(),
        "\n".join(head),
        called.strip(),
        rest.strip(),
        'if __name__ == "__main__":\n    main()',
    ]
    return "\n\n\n".join(part for part in parts if part) + "\n"


def at_workers(text: str) -> str:
    """The functions of a step with `fresh` that of all workers, and what it was that of one."""
    return text.replace("def fresh(", "def one_worker(").replace("fresh_at_workers(", "fresh(")


def of_parts(text: str) -> str:
    """The functions of a step with `fresh` that of the parts that ranks hold."""
    return text.replace("def fresh(", "def fresh_of_wholes(").replace("fresh_of_parts(", "fresh(")


def gathered(emitted: Emitted, updates: Updates) -> dict[str, object]:
    """What a forward pass gathers, and from how many; nothing where the state is whole."""
    if not updates.shards.are:
        return {}
    return {"RANKS": updates.ranks, "GATHERED": gathers.gathered(updates, emitted)}


def docstring(program: Program, precision: str) -> str:
    """What the file is, of which sizes, and how it was made."""
    name = program.source.name if program.source else "program.nl"
    said = "".join(f" --set {key}={value}" for key, value in program.sets.items())
    said += f" --precision {precision}" if precision != "float32" else ""
    sizes = ", ".join(f"{key} = {value}" for key, value in program.dims.items())
    lines = [
        f"{name} as one training step in PyTorch; it needs only torch.",
        "",
        "    python step.py                       trains on random data and prints the losses",
        "    state = init(seed=0)                 tensors by name, drawn from the seed",
        "    losses = step(state, batch)          one step in place; batch as INPUTS says",
        "",
        "Blocks are functions of all tokens of a call, in the order in which `forward` calls them;",
        "regions are pieces of tokens of memories that learn while they read. Shapes stand beside",
        "what is given: B sequences, T tokens, J the same tokens as keys; above each group of",
        "statements stands the line of the program that it computes.",
        "",
        *wrapped(f"Sizes: {sizes}", ", "),
        *wrapped(f"Command: nldsl compile {name}{said} --emit python", " "),
    ]
    return '"""' + "\n".join(lines).replace("\\", "\\\\") + '\n"""'


def wrapped(text: str, between: str) -> list[str]:
    lines = [""]
    for i, word in enumerate(text.split(between)):
        if len(lines[-1]) + len(between) + len(word) > WIDTH - 1:
            lines[-1] += between.rstrip()
            lines.append("    " + word)
        else:
            lines[-1] += (between if i else "") + word
    return lines


def tick_row(kind: int, updates: Updates) -> str:
    hear = f"hear_{kind}" if updates.tapes else "None"
    return f"{kind}: (before_{kind}, {hear}, tick_{kind}, after_{kind})"


def step_kinds(emitted: Emitted, updates: Updates) -> str:
    """A function for each kind of step, to be captured as a whole."""
    starts = [
        *emitted.loads,
        *emitted.randoms,
    ]  # of memories on the token clock: nobody learns them, no tick moves them
    given = [row for row in fold(f"W |= {{name: D[name] for name in {quotes(starts)}}}", 4)]
    early = sorted(heard.key for heard in updates.early)
    summed = fold(f"G |= {{n: over_ranks(G[n], {updates.ranks}) for n in {quotes(early)}}}", 4)
    of_all = f"terms = {{name: {updates.ranks} * n for name, n in terms.items()}}"
    return "\n\n".join(
        f"def step_{i + 1}(S, inputs, D, planned, mode, lanes):\n"
        "    W = weights(S)\n"
        + ("\n".join(given) + "\n" if starts else "")
        + "    sums, terms, lasting = fresh(W, inputs, mode, lanes)\n"
        + (f"    {of_all}\n" if updates.ranks > 1 else "")
        + "    G = gradients(W, sums)\n"
        + ("\n".join(summed) + "\n" if early else "")
        + "    V = {name: s.detach() for name, s in sums.items()}\n"
        "    with torch.no_grad():\n"
        + (f"        hear_{i + 1}(S, G, mode)\n" if updates.tapes else "")
        + f"        tick_{i + 1}(S, G, V, terms, D, planned)\n"
        "    return V, terms, lasting\n"
        for i in range(len(updates.clock.table.events))
    )


def learners(program: Program, updates: Updates) -> dict[str, dict[str, tuple[list[str], bool]]]:
    """See `emitted.LEARNERS`."""
    found: dict[str, dict[str, tuple[list[str], bool]]] = {}
    heard: list[tuple[str | Copy, str]] = [(g.memory, g.stream) for g in updates.clock.hears]
    for name, stream in dict.fromkeys([*heard, *updates.clock.taped]):
        memory = program.memories[name.memory if isinstance(name, Copy) else name]
        leaves = leaves_of(memory, str(name))
        found.setdefault(stream, {})[str(name)] = (leaves, isinstance(memory.type, Tree))
    return found


# -- the file by itself


def tables_alone(
    program: Program, emitted: Emitted, updates: Updates, steps: int
) -> dict[str, object]:
    """What `runtime/alone.py` reads; see `emitted.py`."""
    table = updates.clock.table
    clocks = clocks_of(table)
    slow = [level.name for level in program.levels.values() if not level.clock.inner]
    draws = {
        name: row
        for memory in program.memories.values()
        if memory.level in slow
        for name, row in starts_of(program, memory).items()
    }
    draws |= {
        name: (
            "",
            False,
            [(name.removeprefix("random:"), [a.size for a in shape], "normal", scale)],
        )
        for name, (shape, scale) in emitted.randoms.items()
    }
    return {
        "STATE": updates.state,
        "DRAWS": draws,
        "FILES": {loaded_name(n): [a.size for a in n.shape] for n in loads(program)},
        "STARTS": [*emitted.loads, *emitted.randoms],
        "BORN": slow,
        "RESTARTS": {name: (c.period, c.phase) for name, c in table.resets.items()},
        "CLOCKS": clocks,
        "KINDS": {
            tuple(p > 0 and n > f and (n - f) % p == 0 for p, f in clocks): i + 1
            for i, n in enumerate(table.first)
        },
        "PLANNED": ticks_of(program, steps),
        "INPUTS": inputs_of(program),
        "LANES": {name: [a.size for a in emitted.carries[name][0]] for name in emitted.lasting},
    }


def clocks_of(table: Timetable) -> list[tuple[int, int]]:
    every = [*table.clocks.values(), *table.resets.values(), *table.others]
    return list(dict.fromkeys((c.period, c.phase) for c in every))


def inputs_of(program: Program) -> dict[str, tuple[int | str, list[int]]]:
    found: dict[str, tuple[int | str, list[int]]] = {
        name: (program.vocab.get(name, "number"), [a.size for a in node.shape])
        for name, node in program.inputs.items()
    }
    return found | ({ENDS: ("end", [])} if program.counts(ENDS) else {})


def starts_of(program: Program, memory: Memory) -> dict[str, tuple[str, bool, list[object]]]:
    """What is drawn for the start of a memory, by the name that `birth` asks for."""
    if memory.start is not None:
        return {
            drawn(n): (
                memory.level,
                False,
                [(n["name"], [a.size for a in n.shape], "normal", n["scale"])],
            )
            for n in walk(memory.start)
            if n.op == "random"
        }
    assert memory.slots is not None, memory.name
    weights = [program.weights[leaf] for leaf in leaves_of(memory, memory.name)]
    rows: list[object] = [
        (w.name, [a.size for a in w.shape], w.init, w.fill if w.init == "fill" else w.scale)
        for w in weights
    ]
    return {memory.name: (memory.level, isinstance(memory.type, Tree), rows)}
