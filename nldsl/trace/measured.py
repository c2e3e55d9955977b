"""A run and the tokens of a text -> what each memory did at each token."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nldsl.audit.opened import carried
from nldsl.core.nodes import Node, walk
from nldsl.core.program import REPORT
from nldsl.core.timing import at_tokens
from nldsl.oracle.operators import APPLY, Value, array
from nldsl.step.batches import Batch
from nldsl.step.compile import CompiledStep
from nldsl.step.lanes import Lanes
from nldsl.step.state import State
from nldsl.trace.quantities import CHANGE, NORM, QUANTITIES, learning, quantities
from nldsl.train import faults
from nldsl.train.data.dataset import Dataset, Tokens
from nldsl.train.run import Run
from nldsl.train.score import batch, boundary_of, in_nats
from nldsl.train.spelling import readable

LEAST = 2  # tokens, so that one is foretold
Row = list[float | None]  # a number a token; None where there is none
Numbers = dict[str, Tensor]  # [sequence, token] by quantity; nan where there is none


@dataclass(frozen=True)
class Trace:
    """`words` are the tokens as text, or their numbers. `cost` is what foretelling each token cost
    by the stream `scored`, in `unit`; `memories` has a row a quantity, by memory.
    """

    run: str
    step: int
    text: str
    words: tuple[str, ...]
    scored: str
    unit: str
    cost: Row
    memories: dict[str, dict[str, Row]]


def traced(
    run: Run, step: CompiledStep, state: State, data: Dataset, limit: int, lanes: Lanes
) -> Trace:
    """Reads at most `limit` tokens of the first document that `data` holds out; it begins with the
    memory of `lanes`. Raises N738 without a memory that learns at tokens, N704 for a document
    without two of them.
    """
    documents = data.extents(data.held_out)
    begin, end = documents[0] if documents else (0, 0)
    if end - begin < LEAST:
        raise faults.nothing_to_foretell(data.name, end - begin, data.unit)
    tokens = data.held_out[begin : min(end, begin + limit)]
    given = step.place(batch(run.program, tokens[None], boundary_of(data)))
    cost, memories = told(step, state, given, lanes)
    unit, scale = unit_of(step)
    return Trace(
        str(run.folder),
        state.step,
        data.name,
        words_of(data, tokens),
        step.reading.scored[0],
        unit,
        row(cost[0] * scale),
        {
            memory: {what: row(found[what][0]) for what in QUANTITIES if what in found}
            for memory, found in memories.items()
        },
    )


def unit_of(step: CompiledStep) -> tuple[str, float]:
    """What the cost of a token is told in, and how many of it a number of the stream is."""
    nats = in_nats(step.program, step.reading.scored[1], REPORT, "loss")
    return ("bits", 1 / math.log(2)) if nats else ("loss", 1.0)


def rows(
    step: CompiledStep, state: State, batch: Batch, lanes: Lanes
) -> list[dict[str, int | float | str | None]]:
    """A row for each sequence, token and memory, by the columns of the CSV. Raises N738."""
    cost, memories = told(step, state, batch, lanes)
    unit, scale = unit_of(step)
    costs = [row(one * scale) for one in cost]
    numbers = {
        memory: {what: [row(one) for one in found[what]] for what in found}
        for memory, found in memories.items()
    }
    return [
        {"sequence": i, "token": t, unit: costs[i][t], "memory": memory}
        | {what: found[what][i][t] if what in found else None for what in QUANTITIES}
        for i in range(len(costs))
        for memory, found in numbers.items()
        for t in range(len(costs[i]))
    ]


def told(
    step: CompiledStep, state: State, batch: Batch, lanes: Lanes
) -> tuple[Tensor, dict[str, Numbers]]:
    """What is scored, and by memory what each token did with it: [sequence, token], nan where there
    is no number. What waits for a later token stands at that one. Raises N738.
    """
    program, reading = step.program, step.reading
    memories = learning(program)
    if not memories:
        raise faults.nothing_learns_at_tokens()
    equations = quantities(program, memories)
    streams = {"": reading.scored[1]} | {
        f"{memory} {what}": node
        for memory, said in equations.items()
        for what, node in said.items()
        if at_tokens(program, node)
    }
    parts, norms = token_by_token(step, state, batch, lanes, streams)
    tokens = next(iter(batch.values())).shape[1]
    found = {name: placed(parts[name], step, streams[name], tokens) for name in streams}
    like = found[""]
    return like, {
        memory: norms[memory]
        | {
            what: found[key]
            if (key := f"{memory} {what}") in found
            else torch.full_like(like, standing(node, state))
            for what, node in said.items()
        }
        for memory, said in equations.items()
    }


def standing(root: Node, state: State) -> float:
    """The number that is the same at every token, of constants and weights."""
    values: dict[Node, Value] = {}
    for node in walk(root):
        if node.op == "weight":
            values[node] = state.views[node["name"]].detach().double()[None]
        else:
            values[node] = APPLY[node.op](node, *(values[arg] for arg in node.args))
    return float(array(values[root]))


def token_by_token(
    step: CompiledStep, state: State, batch: Batch, lanes: Lanes, streams: Mapping[str, Node]
) -> tuple[dict[str, Tensor], dict[str, Numbers]]:
    """The streams, and the size of each memory and of its move at each token."""
    module, count = step.reading.emitted(streams), len(next(iter(batch.values())))
    tokens = next(iter(batch.values())).shape[1]
    parts: dict[str, list[Tensor]] = {name: [] for name in streams}
    with torch.no_grad():
        carry = module["start"](state.views, count, step.reading.like(), lanes)
        cells = {
            memory.name: [name for name in carried(memory, carry) if "@" not in name]
            for memory in learning(step.program)
        }
        sizes: dict[str, dict[str, list[Tensor]]] = {m: {NORM: [], CHANGE: []} for m in cells}
        for t in range(tokens):
            before = carry
            one = {name: x[:, t : t + 1] for name, x in batch.items()}
            outputs, carry = module["forward"](state.views, one, before, t, "loop")
            for name, part in parts.items():
                part.append(outputs[name])
            for memory, own in cells.items():
                sizes[memory][NORM].append(size([carry[n] for n in own]))
                sizes[memory][CHANGE].append(size([carry[n] - before[n] for n in own]))
    return {name: torch.cat(part, 1) for name, part in parts.items()}, {
        memory: {what: torch.stack(x, 1) for what, x in said.items()}
        for memory, said in sizes.items()
    }


def size(arrays: Sequence[Tensor]) -> Tensor:
    """[sequence]: the root of the sum of all squares."""
    return torch.stack([x.double().flatten(1).square().sum(1) for x in arrays]).sum(0).sqrt()


def placed(values: Tensor, step: CompiledStep, node: Node, tokens: int) -> Tensor:
    """A stream at the tokens that make it known: [sequence, token] from its terms."""
    begin, ahead = step.reading.extent(node)
    found = values.new_full((len(values), tokens), math.nan, dtype=torch.float64)
    found[:, begin + ahead :] = values
    return found


def row(x: Tensor) -> Row:
    return [value if math.isfinite(value) else None for value in x.tolist()]


def words_of(data: Dataset, tokens: Tokens) -> tuple[str, ...]:
    """Each token as text; of numbers, its place."""
    if data.vocabulary is None:
        return tuple(str(i) for i in range(len(tokens)))
    decode = data.vocabulary.decode
    return tuple(readable(decode([token])) for token in tokens.tolist())
