"""What `nldsl compile` prints: the level table, the timetable, the lowerings, the reads, what a step costs."""
from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from nldsl.graph.equations import Clock, Level, Node, Program, Tree, numel, walk
from nldsl.graph.express import coefficient, short
from nldsl.graph.level_graph import level_graph, ordered, state_numbers
from nldsl.schedule.plan import Region
from nldsl.step.compile import CompiledStep
from nldsl.step.state import bytes_of

BYTES = {"float64": 8, "float32": 4, "bfloat16": 4}


def when(clock: Clock) -> str:
    if clock.unit == "never":
        return "never"
    count = "" if clock.period == 1 else f"{clock.period} "
    return f"every {count}{clock.unit}" + (f" phase {clock.phase}" if clock.phase else "") + (f" ({clock.name})" if clock.name else "")


def frequency(clock: Clock) -> str:
    return "0" if clock.unit == "never" else f"1/{clock.period} per {clock.unit}" if clock.period > 1 else f"1 per {clock.unit}"


def spoken(node: Node) -> str:
    """The words of the text that a node stands for."""
    if node.span is not None:
        return " ".join(node.span.text().split())
    return short(node)


def levels_table(program: Program) -> Table:
    """One row per family of equal levels, fastest first."""
    table = Table(title="Levels", show_lines=True, title_justify="left")
    for column in ("level", "context flow", "clock", "frequency", "memory", "numbers", "start", "objective", "retention", "step", "transfer"):
        table.add_column(column, overflow="fold")
    graph = level_graph(program)
    rows: dict[tuple[str, ...], list[str]] = {}
    for names in ordered(program, graph):
        for name in names:
            rows.setdefault(row(program, program.levels[name], graph), []).append(name)
    for cells, names in rows.items():
        shown = names[0] + (f" and {len(names) - 1} alike" if len(names) > 1 else "")
        table.add_row(shown, *cells)
    return table


def row(program: Program, level: Level, graph: Any) -> tuple[str, ...]:
    memories = [program.memories[n] for n in level.memories]
    retention, step, starts, kinds = [], [], [], []
    for memory in memories:
        kinds.append(memory.name.rsplit(".", 1)[-1] + ": " + ("net of " + ", ".join(memory.type.paths()[:4]) + (" .." if len(memory.type.leaves) > 4 else "")
                     if isinstance(memory.type, Tree) else "[" + ", ".join(str(a) for a in memory.type) + "]"))
        starts.append("random" if memory.slots is not None else start(memory.start))
        if memory.next is not None:
            retention.append(coefficient(memory.next, memory.name, "read") or ("1" if coefficient(memory.next, memory.name, "read") == "" else "none"))
            grads = {n["memory"]: n for n in walk(memory.next) if n.op == "grad"}
            step.append(slope(program, memory.next, memory.name) if grads or any(n.op == "now" for n in walk(memory.next)) else "")
    transfer = sorted({f"{d['kind']} from {a.rsplit('.', 1)[-1]}" for a, _, d in graph.in_edges(level.name, data=True) if d["kind"] != "context"})
    return (", ".join(spoken(c) for c in level.context) or "-", when(level.clock) + ("" if level.reset.unit == "never" else f", reset {when(level.reset)}"),
            frequency(level.clock), "; ".join(kinds) + (f" per {level.per}" if level.per else ""), f"{state_numbers(program, level):,}",
            "; ".join(dict.fromkeys(starts)), "; ".join(dict.fromkeys(spoken(o) for o in level.objectives)) or "none (a recurrence)",
            "; ".join(dict.fromkeys(retention)), "; ".join(dict.fromkeys(s for s in step if s)), "; ".join(transfer) or "-")


def start(node: Node | None) -> str:
    if node is None:
        return "-"
    if any(n.op == "weight" for n in walk(node)):
        return "learned"
    if any(n.op == "read" for n in walk(node)):
        return "another memory"
    return short(node)


def slope(program: Program, after: Node, memory: str) -> str:
    direct = coefficient(after, memory, "grad")
    if direct is not None:
        return direct.removeprefix("-")
    child = next((n["memory"] for n in walk(after) if n.op == "now"), None)
    return f"by {child.rsplit('.', 2)[-2]}" if child else "by the equation"


def timetable_table(step: CompiledStep) -> Table:
    table = Table(title=f"Timetable: repeats every {step.schedule.table.hyperperiod} steps", title_justify="left")
    for column in ("tick kind", "first at step", "levels that fire"):
        table.add_column(column, overflow="fold")
    for i, (kind, first) in enumerate(zip(step.schedule.table.kinds, step.schedule.table.first), 1):
        short_names = dict.fromkeys(n.split(".")[-1] for n in kind if step.program.levels[n].parent is None)
        table.add_row(str(i), str(first), ", ".join(f"{s} x {c}" if (c := sum(n.split('.')[-1] == s for n in kind)) > 1 else s for s in short_names) or "none")
    return table


def lowering_table(step: CompiledStep) -> Table:
    table = Table(title="Memories that learn while they read", title_justify="left")
    for column in ("memory", "chunk", "lowering", "reads"):
        table.add_column(column, overflow="fold")
    rows: dict[tuple[str, str, str], list[str]] = {}
    for region in step.schedule.regions:
        chunk = f"{region.chunk} token" + ("" if region.fixed else " (any: exact)")
        rows.setdefault((chunk, step.emitted.lowering[region.name], reads(region)), []).append(region.name)
    for cells, names in rows.items():
        table.add_row(names[0] + (f" and {len(names) - 1} alike" if len(names) > 1 else ""), *cells)
    return table


def reads(region: Region) -> str:
    """Which value each read from outside sees."""
    kinds = {"now": "after this token's own write", "read": "before this token's write", "held": "as it stood at the last tick of"}
    found = dict.fromkeys(kinds[n.op] + (f" {n['clock'].name or n['clock'].period}" if n.op == "held" else "")
                          for n in region.inside if n.op in kinds)
    return "; ".join(found)


def flops_per_token(step: CompiledStep) -> float:
    """Multiply-adds of the equations times two, of one token's forward pass; a lowering may do more or less."""
    total = 0.0
    for node in walk(*step.schedule.outputs.values(), *(c.next for c in step.schedule.cells.cells.values())):
        if node.op == "einsum":
            letters = dict(zip(node["eq"].split("->")[0].replace(",", ""), (a for x in node.args for a in x.type)))
            total += 2 * numel(tuple(letters.values()))
        elif node.op == "conv":
            total += 2 * numel(node.args[1].type)
    return total


def report(program: Program, step: CompiledStep) -> Group:
    """Everything about a compiled program that a user may want to know before training it."""
    state = step.init(0)
    parameters = sum(numel(w.shape) for w in program.weights.values())
    per_sequence = sum(numel(c.shape) for r in step.schedule.regions for c in r.cells) + \
        sum(numel(next(c for c in r.cells if c.name == m).shape) for r in step.schedule.regions for m, _ in r.holds)
    inits = {}
    for weight in program.weights.values():
        key = f"normal, std {weight.scale:.3g}" if weight.init == "normal" else f"filled with {weight.fill}"
        inits.setdefault(key, []).append(weight.name)
    flops = flops_per_token(step)
    lines = [f"{parameters:,} parameters; state of the run {bytes_of(state.tensors) / 1e6:.1f} MB, of a sequence {per_sequence * BYTES[step.precision] / 1e6:.2f} MB",
             f"{flops / 1e6:.2f} MFLOP per token forward, about {3 * flops / 1e6:.1f} with backward (counted on the equations)",
             f"capture {step.capture}: {step.why}; {len(step.emitted.functions)} distinct blocks of {len(step.emitted.block_of)}, "
             f"{len(step.schedule.table.kinds)} tick kinds; predicted compile time {step.predict(step.capture):.0f} s",
             "initialisers: " + "; ".join(f"{k} ({len(v)} tensors)" for k, v in inits.items())]
    if step.compile_seconds:
        lines.append("compiled in " + ", ".join(f"{k} {v:.1f} s" for k, v in step.compile_seconds.items()))
    tables = [levels_table(program), timetable_table(step)] + ([lowering_table(step)] if step.schedule.regions else [])
    return Group(*tables, Text("\n".join(lines)))
