"""The report of `nldsl compile`: the level table of `graph`, the timetable, the lowerings, the
reads, the costs of a step.
"""

from __future__ import annotations

import ast
from collections import Counter

from rich.console import Group
from rich.table import Table
from rich.text import Text

from nldsl.core.nodes import Node, numel, walk
from nldsl.core.program import Program
from nldsl.schedule.plan import Region
from nldsl.step.compile import CompiledStep
from nldsl.step.state import bytes_of
from nldsl.view.folding import broken
from nldsl.view.level_table import levels_table

NAME = 30  # columns of a memory's name
BYTES = {"float64": 8, "float32": 4, "bfloat16": 4}


def timetable_table(step: CompiledStep) -> Table:
    """A row for each tick kind: its first step, and the levels that tick and restart."""
    table = Table(
        title=f"Timetable: repeats every {step.schedule.table.hyperperiod} steps",
        title_justify="left",
    )
    for column in ("tick kind", "first at step", "levels that fire"):
        table.add_column(column, overflow="fold")
    alone = [m for m in step.program.memories.values() if m.reset is not None]
    for i, (event, first) in enumerate(
        zip(step.schedule.table.events, step.schedule.table.first), 1
    ):
        again = [counted(step.program, event.restarted)] if event.restarted else []
        again += [last_two(m.name) for m in alone if m.reset and m.reset.ticks(first)]
        begun = f"; restart: {', '.join(again)}" if again else ""
        table.add_row(str(i), str(first), (counted(step.program, event.fired) or "none") + begun)
    return table


def last_two(name: str) -> str:
    """`local.W` of a memory of a level, wherever that stands."""
    return ".".join(name.split(".")[-2:])


def counted(program: Program, levels: tuple[str, ...]) -> str:
    """Levels by their last names, those of optimizers left out."""
    names = [n.split(".")[-1] for n in levels if program.levels[n].parent is None]
    return ", ".join(
        f"{name} x {names.count(name)}" if names.count(name) > 1 else name
        for name in dict.fromkeys(names)
    )


def lowering_table(step: CompiledStep) -> Table:
    """A row for each lowering: memories, chunk, form, and the values that they read."""
    table = Table(title="Memories that learn while they read", title_justify="left")
    for column in ("memory", "chunk", "lowering, reads"):
        table.add_column(column, overflow="fold")
    rows: dict[tuple[str, str, str], list[str]] = {}
    for region in step.schedule.forward.regions:
        chunk = f"{step.emitted.chunk[region.name]} token"
        chunk += "" if region.fixed else " (any: exact)"
        rows.setdefault(
            (chunk, step.lowering(region.name), reads(step.program, region)), []
        ).append(members(step.program, region))
    for family in step.schedule.forward.online.families if step.schedule.forward.online else ():
        rows.setdefault(
            (
                f"{family.clock.period} token",
                step.emitted.lowering[family.level.name],
                "as its last tick left it",
            ),
            [],
        ).append(family.level.name)
    for (chunk, lowering, seen), names in rows.items():
        name = names[0] + (f" and {len(names) - 1} alike" if len(names) > 1 else "")
        table.add_row(
            "\n".join(broken(name, lambda line: len(line) <= NAME)),
            chunk,
            lowering + (f"\nreads: {seen}" if seen else ""),
        )
    return table


def members(program: Program, region: Region) -> str:
    """The levels whose memories need each other within a token; those of optimizers belong to their
    callers. A window outside a level is a memory that the text has no name for.
    """
    levels = [program.levels[c.level] for c in region.ticking if c.level]
    if not levels:
        return "a sum over a window"
    first, *others = dict.fromkeys(program.root(level).name for level in levels)
    around = first.rsplit(".", 2)[0] + "." if first.count(".") > 1 else ""
    return ", ".join([first, *(name.removeprefix(around) for name in others)])


def reads(program: Program, region: Region) -> str:
    """The value that each read from outside its level sees."""
    kinds = {
        "now": "after this token's own write",
        "read": "before this token's write",
    }
    states = {s.name: s for s in region.states if s.level}
    homes = {name: program.root(program.levels[s.level]).name for name, s in states.items()}
    inside = set(region.inside)
    met = [(n, "") for n in walk(*region.outputs)] + [
        (n, homes[s.name]) for s in region.ticking if s.level for n in walk(s.tick)
    ]

    def seen(node: Node) -> str:
        state = states.get(node["memory"])
        if state is None or not state.copies:
            return kinds[node.op]
        return f"as it stood at the last tick of {state.at.name or state.at.period}"

    found = dict.fromkeys(
        seen(n)
        for n, home in met
        if n.op in kinds and n in inside and homes.get(n["memory"], home) != home
    )
    return "; ".join(found)


def flops_per_token(step: CompiledStep) -> float:
    """Multiply-adds of the equations times two, of one token's forward pass; a lowering may do more
    or less.
    """
    total = 0.0
    for node in walk(
        *step.schedule.forward.outputs.values(),
        *(s.tick for s in step.schedule.forward.states.values()),
    ):
        if node.op == "einsum":
            letters = dict(
                zip(
                    node["eq"].split("->")[0].replace(",", ""),
                    (a for x in node.args for a in x.shape),
                )
            )
            total += 2 * numel(tuple(letters.values()))
        elif node.op == "conv":
            total += 2 * numel(node.args[1].shape)
    return total


def numbers_per_sequence(step: CompiledStep) -> int:
    """The count of numbers that memories of the token clock and their copies hold for one
    sequence.
    """
    schedule = step.schedule.forward
    states = [state for region in schedule.regions for state in region.states]
    return sum(numel(state.type) for state in (*states, *schedule.between.values()))


def attention(step: CompiledStep) -> list[str]:
    """How softmax attention is computed."""
    how = {
        "attention": "by scaled_dot_product_attention",
        "attend": "written out (a gradient of its gradient is taken, it stands among memories that "
        "learn, or a token has pairs of its own)",
    }
    calls = [n.func for n in ast.walk(ast.parse(step.emitted.text)) if isinstance(n, ast.Call)]
    called = {function.id for function in calls if isinstance(function, ast.Name)}
    found = [words for name, words in how.items() if name in called]
    return [f"attention {', and '.join(found)}"] if found else []


def cross_entropies(step: CompiledStep) -> list[str]:
    """Those of large vocabularies, whose logits are never held whole."""
    sizes = [node.args[0].shape[-1].size for node in step.emitted.heads]
    return [
        f"cross entropy of {size:,}: its logits in pieces of tokens, once more for their gradients"
        for size in dict.fromkeys(sizes)
    ]


def report(program: Program, step: CompiledStep) -> Group:
    """Everything about a compiled program that a user may want to know before training it."""
    state = step.init(0)
    parameters = sum(numel(w.shape) for w in program.weights.values())
    per_sequence = numbers_per_sequence(step)
    inits = Counter(
        f"normal, std {w.scale:.3g}" if w.init == "normal" else f"filled with {w.fill}"
        for w in program.weights.values()
    )
    flops = flops_per_token(step)
    lines = [
        f"{parameters:,} parameters; state of the run {bytes_of(state.tensors) / 1e6:.1f} MB, "
        f"of a sequence {per_sequence * BYTES[step.precision] / 1e6:.2f} MB",
        f"{flops / 1e6:.2f} MFLOP per token forward, about {3 * flops / 1e6:.1f} with backward "
        "(counted on the equations)",
        f"capture {step.capture}: {step.why}; {len(step.emitted.functions)} distinct blocks of "
        f"{len(step.emitted.block_of)}, "
        f"{len(step.schedule.table.kinds)} tick kinds"
        + (
            ""
            if step.capture == "eager"
            else f"; predicted compile time {step.predict(step.capture):.0f} s"
        ),
        *attention(step),
        *cross_entropies(step),
        "initialisers: " + "; ".join(f"{k} ({n} tensors)" for k, n in inits.items()),
    ]
    if memory := step.budget.described():
        lines.append(memory)
    if step.compile_seconds:
        lines.append(
            "compiled in " + ", ".join(f"{k} {v:.1f} s" for k, v in step.compile_seconds.items())
        )
    tables = [levels_table(program), timetable_table(step)] + (
        [lowering_table(step)] if step.emitted.lowering else []
    )
    return Group(*tables, Text("\n".join(lines)))
