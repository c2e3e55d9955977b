"""Forward source and updates -> one Python module, which needs only torch.

step_k(S, inputs, D, planned, mode, lanes)     one training step of tick kind k, from what is kept (S) and the batch, in place
"""

from __future__ import annotations

from nldsl.core.nodes import Tree
from nldsl.core.program import Program
from nldsl.step.emit import Emitted, quotes
from nldsl.step.layout import fold
from nldsl.step.runtime.library import copied
from nldsl.step.state import layout, leaf_name
from nldsl.step.updates import Updates


def in_precision(emitted: Emitted, precision: str) -> str:
    """The forward source; in bfloat16 its products are `product`, and nothing else differs."""
    if precision != "bfloat16":
        return emitted.text
    text = emitted.text.replace("torch.einsum(", "product(")
    return text + "\n\n" + copied("product(") + "\n"


def module_text(program: Program, emitted: Emitted, updates: Updates, precision: str) -> str:
    learners: dict[str, tuple[list[str], dict[str, tuple[list[str], bool]]]] = {}
    for name, stream in dict.fromkeys(
        [*((g.memory, g.stream) for g in updates.hears), *updates.also]
    ):
        memory = program.memories[name]
        names, owners = learners.setdefault(stream, ([], {}))
        tree = isinstance(memory.type, Tree)
        leaves = [leaf_name(memory, path) for path in (memory.type.paths() if tree else ("",))]
        names += leaves
        owners[name] = (leaves, tree)
    starts = [
        *emitted.loads,
        *emitted.randoms,
    ]  # of memories on the token clock: nobody learns them, no tick moves them
    kinds = "\n\n".join(
        f"def step_{i + 1}(S, inputs, D, planned, mode, lanes):\n"
        f"    W = weights(S){f' | {{name: D[name] for name in {starts!r}}}' if starts else ''}\n"
        "    sums, terms, lasting = fresh(W, inputs, mode, lanes)\n"
        "    G = gradients(W, sums)\n"
        "    V = {name: s.detach() for name, s in sums.items()}\n"
        "    with torch.no_grad():\n"
        + (f"        hear_{i + 1}(S, G, mode)\n" if updates.replays else "")
        + f"        tick_{i + 1}(S, G, V, terms, D, planned)\n"
        "    return V, terms, lasting\n"
        for i in range(len(updates.table.events))
    )
    ticks = updates.emit()
    tables = {
        "HEARD": list(updates.streams),
        "LEARNERS": learners,
        "SLOTS": layout(program, updates.state),
    }
    head = "\n".join(
        row for name, table in tables.items() for row in fold(f"{name} = {quotes(table)}")
    )
    forward = in_precision(emitted, precision)
    called = f"{ticks}\n{kinds}\nfresh(gradients("
    return "\n\n".join([forward, copied(called, forward), head, ticks, kinds])
