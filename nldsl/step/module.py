"""Forward source and updates -> one Python module, which needs only torch.

step_k(S, inputs, D, planned, mode, lanes)     one training step of tick kind k, from what is kept (S) and the batch, in place
"""

from __future__ import annotations

from nldsl.core.equations import Program, Tree
from nldsl.step.emit import Emitted, used_runtime
from nldsl.step.state import layout, leaf_name
from nldsl.step.updates import Updates

GLUE = '''
def weights(S):
    """Leaves for differentiation that share the storage of the flat state."""
    W = {name: S[owner].view(-1)[at:end].view(sizes) for name, (owner, at, end, sizes) in SLOTS.items()}
    return {name: w.detach().requires_grad_() for name, w in W.items()}


def fresh(W, inputs, mode, lanes):
    """Over sequences from their first token: sums and numbers of terms of every stream that a level hears, and what outlives them."""
    like = next(iter(W.values()))
    batch = next(iter(inputs.values())).shape[0]
    outputs, new = forward(W, inputs, start(W, batch, like, lanes), 0, mode)
    sums = {name: outputs[name].sum((0, 1)) for name in HEARD}
    terms = {name: outputs[name].shape[0] * outputs[name].shape[1] for name in HEARD}
    return sums, terms, {name: new[name].detach() for name in LASTING}


def gradients(W, sums):
    """Gradient of each heard stream's sum in each memory, laid out as the memory."""
    G = {}
    for stream, (names, owners) in LEARNERS.items():
        total = sums[stream].sum()
        parts = torch.autograd.grad(total, [W[n] for n in names], allow_unused=True, retain_graph=len(LEARNERS) > 1) \\
            if total.requires_grad else [None] * len(names)
        at = dict(zip(names, (torch.zeros_like(W[n]) if g is None else g for n, g in zip(names, parts))))
        for owner, (leaves, flat) in owners.items():
            G[owner + "|" + stream] = torch.cat([at[n].reshape(-1) for n in leaves]) if flat else at[leaves[0]].view(W[leaves[0]].shape or (1,))
    return G
'''
TAPE = '''
def note(tape, at, value):
    """Writes one row of a tape."""
    tape.index_copy_(0, at, torch.as_tensor(value, dtype=tape.dtype, device=tape.device).reshape(1, *tape.shape[1:]))


def zeros(x):
    return torch.zeros_like(x)


def replay(body, carry, tapes, held, mode):
    """Passes the rows of tapes, last first: body(carry, row, held) -> carry. "scan" makes one loop of them for the compiler."""
    if mode == "scan":
        from torch._higher_order_ops.scan import scan
        own = tuple(x.clone() for x in held)                    # the loop takes no two views of one tensor

        def step(carry, row):
            return tuple(x.clone() for x in body(carry, row, own)), row[0].clone()
        return scan(step, carry, tuple(tape.clone() for tape in tapes), dim=0, reverse=True)[0]
    for j in reversed(range(tapes[0].shape[0])):
        carry = body(carry, tuple(tape[j] for tape in tapes), held)
    return carry
'''


def in_precision(emitted: Emitted, precision: str) -> str:
    """The forward source; in bfloat16 its products are `product`, and nothing else differs."""
    if precision != "bfloat16":
        return emitted.text
    text = emitted.text.replace("torch.einsum(", "product(")
    return text + "\n\n" + used_runtime("product(") + "\n"


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
    head = f"HEARD = {list(updates.streams)!r}\nLEARNERS = {learners!r}\nSLOTS = {layout(program, updates.state)!r}\n"
    forward = in_precision(emitted, precision)
    return "\n".join(
        [
            forward,
            used_runtime(ticks, forward),
            head,
            GLUE,
            TAPE if updates.replays else "",
            ticks,
            kinds,
        ]
    )
