"""The operators of the core that name another instant, a memory or a derivative.

Each takes the meaning, its node, and the line and instant at which its value is asked for; `inside`
is the objective under evaluation, if any. See `Meaning.value`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nldsl.core.nodes import Node, Tree
from nldsl.core.program import Clock, per_worker
from nldsl.oracle.lines import Inside, Line, cut, mark, viewed_by
from nldsl.oracle.operators import ABSENT, Value, array, each, einsum, leaves, like

if TYPE_CHECKING:
    from nldsl.oracle.meaning import Meaning


def _input(m: Meaning, node: Node, line: Line, i: int, inside: Inside | None) -> Value:
    return line.inputs[i][node["name"]]


def _weight(m: Meaning, node: Node, line: Line, i: int, inside: Inside | None) -> Value:
    return m.entry(node["name"], line, i if line.unit == "step" else line.step[i])


def _memory(m: Meaning, node: Node, line: Line, i: int, inside: Inside | None) -> Value:
    memory = m.program.memories[node["memory"]]
    if node.op == "plain":
        while inside is not None:
            if memory.name in inside.plain:
                return inside.plain[memory.name]
            inside = inside.outer
    line, i = m.home(m.program.levels[memory.level], line, i)
    if node.op == "held":
        return m.held(memory, node["clock"], line, i)
    return m.after(memory, line, i) if node.op == "now" else m.read(memory, line, i)


def _tick(m: Meaning, node: Node, line: Line, i: int, inside: Inside | None) -> Value:
    level = m.program.levels[node["level"]]
    return torch.tensor([float(m.ticks(level, *m.home(level, line, i)))], dtype=torch.float64)


def _ticks(m: Meaning, node: Node, line: Line, i: int, inside: Inside | None) -> Value:
    clock = m.program.levels[node["level"]].clock
    return torch.tensor(
        [float(max(1, (m.planned - clock.phase) // max(1, clock.period)))], dtype=torch.float64
    )


def _held_stream(m: Meaning, node: Node, line: Line, i: int, inside: Inside | None) -> Value:
    for j in range(i - 1, line.first[i] - 1, -1):
        if m.fires(node["clock"], line, j):
            return m.value(node.args[0], line, j, inside)
    return ABSENT


def _ahead(m: Meaning, node: Node, line: Line, i: int, inside: Inside | None) -> Value:
    if i + 1 >= len(line) or line.ends(i):
        return ABSENT
    return m.value(node.args[0], line, i + 1, inside)


def _conv(m: Meaning, node: Node, line: Line, i: int, inside: Inside | None) -> Value:
    kernel = array(m.value(node.args[1], line, i, inside))
    n = kernel.shape[1]
    past = [m.value(node.args[0], line, i - j, inside) for j in range(min(n, line.position(i) + 1))]
    if past[0] is ABSENT:
        return ABSENT
    terms = [kernel[:, n - 1 - j] * array(x) for j, x in enumerate(past) if x is not ABSENT]
    return sum(terms[1:], terms[0])


def _rope(m: Meaning, node: Node, line: Line, i: int, inside: Inside | None) -> Value:
    value = m.value(node.args[0], line, i, inside)
    if value is ABSENT:
        return ABSENT
    x, still = array(value)[..., : node["part"]], array(value)[..., node["part"] :]
    half = x.shape[-1] // 2
    angle = line.position(i) * node["base"] ** (-torch.arange(half, dtype=torch.float64) / half)
    u, w = x[..., :half], x[..., half:]
    turned = [u * angle.cos() - w * angle.sin(), u * angle.sin() + w * angle.cos()]
    return torch.cat([*turned, still], -1)


def instants(m: Meaning, span: str | Clock | int, line: Line, i: int) -> range:
    """The instants of a window that ends now: the last so many tokens, since a level's own tick, or
    since a tick of a clock.
    """
    begin = line.first[i] if line.unit == "token" else 0
    if isinstance(span, int):
        return range(max(begin, i + 1 - span), i + 1)
    if isinstance(span, Clock):
        return range(
            next((j + 1 for j in range(i - 1, begin - 1, -1) if m.fires(span, line, j)), begin),
            i + 1,
        )
    return range(m.last_tick(m.program.levels[span], line, i) + 1, i + 1)


def _over_lanes(value: Value, lanes: int, workers: int) -> Value:
    """The sum over all lanes, or over those of each worker, whose axis stands in front."""
    if not workers:
        return each(lambda x: x.expand([lanes, *x.shape[1:]]).sum(0, keepdim=True), value)

    def apart(x: Tensor) -> Tensor:
        return x.expand([lanes, *x.shape[1:]]).reshape(1, workers, -1, *x.shape[1:]).sum(2)

    return each(apart, value)


def _of_workers(node: Node) -> int:
    """How many workers a stretch is apart for; 0 of one over all lanes."""
    shapes = node.type.leaves[0][1] if isinstance(node.type, Tree) else node.type
    return shapes[0].size if per_worker(node) else 0


def _terms(
    m: Meaning, node: Node, line: Line, i: int, inside: Inside | None
) -> Iterator[tuple[Value, int]]:
    """The terms of a window, each with the number of sequences that it stands for."""
    term, workers = node.args[0], _of_workers(node)
    pulse = m.facts.pulse(term)
    for j in instants(m, node["length"] if node.op == "window" else node["since"], line, i):
        if line.unit == "step" and term in m.facts.by_token:
            places = [(tokens, t) for tokens, span in m.streams[j] for t in span]
        else:
            places = [(line, j)]
        for where, t in places:
            clocks = [m.program.levels[name].clock for name in pulse - {"token"}]
            clocks = [c for c in clocks if c.inner == (where.unit != "step")]
            if "token" in pulse or not clocks or any(m.fires(c, where, t) for c in clocks):
                value = m.value(term, where, t, inside)
                if value is ABSENT:
                    continue
                if where is line:
                    yield _over_lanes(value, workers, workers) if workers else value, 1
                else:
                    sum_ = _over_lanes(value, where.lanes, workers)
                    yield sum_, where.lanes // max(1, workers)


def _fold(m: Meaning, node: Node, line: Line, i: int, inside: Inside | None) -> Value:
    terms = list(_terms(m, node, line, i, inside))
    if not terms:
        return ABSENT
    whole = each(lambda *xs: sum(xs[1:], xs[0]), *(value for value, _ in terms))
    count = sum(n for _, n in terms)
    return each(lambda x: x / count, whole) if node["how"] == "mean" else whole


def _attend(m: Meaning, node: Node, line: Line, i: int, inside: Inside | None) -> Value:
    asked = m.value(node.args[0], line, i, inside)
    if asked is ABSENT:
        return ABSENT
    q, scores, values = array(asked), [], []
    for g, (k_eq, v_eq, span) in enumerate(node["groups"]):
        mapped = v_eq.split("->")[1]
        weights = k_eq.split("->")[1]
        kept = [c for c in weights if c in mapped]
        pairs = [c for c in weights if c not in mapped]
        for j in [i] if span is None else instants(m, span[1], line, i):
            k, v = (m.value(node.args[2 * g + n], line, j, inside) for n in (1, 2))
            if k is not ABSENT and v is not ABSENT:
                score = einsum(k_eq, q, array(k)) * node["scale"]
                order = sorted(kept, key=mapped.index) + pairs
                scores.append(
                    score.permute(0, *(weights.index(c) + 1 for c in order)).flatten(1 + len(kept))
                    if pairs
                    else score.permute(0, *(weights.index(c) + 1 for c in order)).unsqueeze(-1)
                )
                values.append((v_eq, weights, order, score.shape, array(v)))
    if not scores:
        return ABSENT
    lanes = max(s.shape[0] for s in scores)
    shares = torch.softmax(torch.cat([s.expand([lanes, *s.shape[1:]]) for s in scores], -1), -1)
    parts = torch.split(shares, [s.shape[-1] for s in scores], -1)
    out = []
    for share, (v_eq, weights, order, shape, v) in zip(parts, values, strict=True):
        share = share.reshape([lanes, *(shape[weights.index(c) + 1] for c in order)])
        out.append(einsum(v_eq, share.permute(0, *(order.index(c) + 1 for c in weights)), v))
    return sum(out[1:], out[0])


def _derivative(
    total: Tensor, targets: list[Tensor], viewer: str, again: bool = True
) -> list[Tensor]:
    """`again`: to be differentiated in turn."""
    found: tuple[Tensor | None, ...] = (None,) * len(targets)
    if total.requires_grad:
        with viewed_by(viewer):
            found = torch.autograd.grad(
                total, targets, retain_graph=True, create_graph=again, allow_unused=True
            )
    return [torch.zeros_like(t) if f is None else f for f, t in zip(found, targets, strict=True)]


def _grad(m: Meaning, node: Node, line: Line, i: int, inside: Inside | None) -> Value:
    """Two kinds of plain reads add up: those of the objective itself, at P, and those outside since
    the last tick.
    """
    objective, at = node.args
    memory = m.program.memories[node["memory"]]
    level = m.program.levels[memory.level]
    point = m.value(at, line, i, inside)
    if point is ABSENT:
        return ABSENT
    blind = frozenset([level.name])
    point = mark(cut(point, blind), line.lanes)
    context = frozenset(c for c in node["context"] if c.op != "input")
    touched = m.facts.touched(objective, context, True)
    here = Inside(touched, inside, level.name, {memory.name: point}, context)
    found = m.value(objective, line, i, here)
    if found is ABSENT:
        return ABSENT
    value = array(found)
    again = m.facts.seen(level)
    slope = like(point, _derivative(value.sum(), leaves(point), level.name, again))
    if not m.facts.outside(objective, memory.name, context):
        return slope
    home, at_home = m.home(level, line, i)
    read = m.marked(memory, home, at_home)
    if home is line:
        elsewhere = _derivative(value.sum(), leaves(read), level.name, again)
    else:  # one value for all lanes, one gradient for each
        each_lane = value.expand([line.lanes, *value.shape[1:]])
        lanes = [_derivative(lane.sum(), leaves(read), level.name, again) for lane in each_lane]
        elsewhere = [torch.cat(parts) for parts in zip(*lanes, strict=True)]
    return each(torch.add, slope, like(read, elsewhere))


def _grad_stream(m: Meaning, node: Node, line: Line, i: int, inside: Inside | None) -> Value:
    e, y = node.args
    point = m.value(y, line, i, inside)
    if point is ABSENT:
        return ABSENT
    point = mark(point, line.lanes)
    value = m.value(
        e, line, i, Inside(m.facts.touched(e, frozenset([y]), False), inside, fixed={(y, i): point})
    )
    if value is ABSENT:
        return ABSENT
    return like(point, _derivative(array(value).sum(), leaves(point), ""))


TIME: dict[str, Callable[..., Value]] = {
    "input": _input,
    "weight": _weight,
    "plain": _memory,
    "read": _memory,
    "now": _memory,
    "held": _memory,
    "tick": _tick,
    "ticks": _ticks,
    "held_stream": _held_stream,
    "ahead": _ahead,
    "conv": _conv,
    "rope": _rope,
    "fold": _fold,
    "window": _fold,
    "attend": _attend,
    "grad": _grad,
    "grad_stream": _grad_stream,
}
