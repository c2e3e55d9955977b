"""Draws levels of the token clock: memories, contexts, objectives. moves.py draws their updates.

Everything drawn is stable: rates of at most 0.05, gates between 0 and 1, and no kink where the
values are likely to be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nldsl.testing.moves import Case, LevelData, lifetime, moves
from nldsl.testing.page import Page, block

NETWORKS = {
    "net": """def net(z: [e]) -> [e] {
    W2 = weight([2 * e, e])
    W1 = weight([e, 2 * e])
    return W1 * ACT(W2 * z)
}""",
    "residual": """def residual(z: [e]) -> [e] {
    W2 = weight([2 * e, e])
    W1 = weight([e, 2 * e])
    return z + W1 * ACT(W2 * z)
}""",
    "gated": """def gated(z: [e]) -> [e] {
    W1 = weight([2 * e, e])
    W2 = weight([e, 2 * e])
    W3 = weight([2 * e, e])
    return W2 * (silu(W1 * z) .* (W3 * z))
}""",
    "deep": """def deep(z: [e]) -> [e] =
    z + linear(ACT(affine(tanh(linear(z, [2 * e])), [3])), [e])""",
    "within": """def within(z: [e]) -> [e] {
    inner = net(z)
    W2 = weight([e, e])
    return W2 * inner
}""",
    "normed": """def normed(z: [e]) -> [e] {
    W2 = weight([2 * e, e])
    W1 = weight([e, 2 * e])
    return z + standardise(W1 * ACT(W2 * z))
}""",
}


@dataclass(frozen=True)
class Learned:
    """The lines of a level, and how its memory is applied:

    `value("recall.M@after", "q")` is an expression.
    """

    name: str
    lines: list[str]
    value: Callable[[str, str], str]

    def read(self, p: Page, query: str, *instants: str) -> str:
        """One of the reads there are, or of the given ones."""
        when = p.pick(*(instants or ("", "@after", "clock")))
        return self.value(f"{self.name}.M{f'@{p.clock()}' if when == 'clock' else when}", query)


KINDS = (
    "matrix",
    "matrix",
    "matrix",
    "vector",
    "net",
    "residual",
    "gated",
    "deep",
    "normed",
    "within",
    "within",
    "library",
)


STARTS = (
    "0",
    "learned",
    "random",
    "0.1",
    "softmax(learned)",
    "0.5 * learned",
    "0.1 * random + 0.1",
)


def memory(p: Page, kind: str) -> tuple[list[str], Callable[[str, str], str]]:
    """The declaration of M, and how it is applied."""
    if kind == "library":
        p.use("layers", "swiglu")
        shape, hidden = p.pick("[e]", "shape(k)"), p.pick("e", "2 * e")
        said = f"swiglu({shape}, hidden = {hidden}) = {p.pick('learned', 'random')}"
    elif kind in ("matrix", "vector"):
        start = p.pick(*STARTS, f'load("base", "{p.fresh("M")}" -> M)')
        said = f"{'[e, e]' if kind == 'matrix' else '[e]'} = {start}"
    else:
        said = network(p, kind)
    if p.edges:  # which may start anew within the sequence
        said = said.replace("random", "learned")

    def value(name: str, x: str) -> str:
        if kind in ("matrix", "vector"):
            return f"{name} {'*' if kind == 'matrix' else '.*'} {x}"
        return f"{name}({x})"

    return [f"memory M: {said}"], value


def network(p: Page, kind: str) -> str:
    """A network of `NETWORKS` as the type of M, and its start."""
    act = p.pick("silu", "tanh", "gelu", "sigmoid", "softplus", "exp")
    if kind == "normed":
        p.use("layers", "standardise")
    for needed in ("net", kind) if kind == "within" else (kind,):
        p.define(NETWORKS[needed].replace("ACT", act), movable=True)
    loaded = (
        f'load("base", "{p.fresh("W")}" -> W2, "{p.fresh("W")}" -> W1)'
        if kind in ("net", "residual", "normed")
        else "learned"
    )
    return f"{kind} = {p.pick('learned', 'random', '0.5 * learned', loaded)}"


def learner(p: Page, name: str, data: LevelData, kinds: tuple[str, ...] = KINDS) -> Learned:
    """A level `name` with a memory M of one of `kinds` that learns from these data."""
    kind = p.pick(*kinds)
    body, value = memory(p, kind)
    body = [line.replace("shape(k)", f"shape({data.k})") for line in body]
    rhythm = (
        p.pick(*["every token"] * 5, "every 2 token", "every 3 token phase 1", "clock")
        if not data.target
        else "every token"
    )
    if rhythm == "clock":
        rhythm = f"every {p.clock()}"
    periodic = rhythm != "every token"
    target, context = data.v, [data.k, data.v]
    if data.target:
        target = "target"
        body.append(f"target = {value(f'M@{data.target}', data.v)}")
    extra = kind == "matrix" and not periodic and p.maybe(6)
    if extra:
        body.insert(1, "memory B: [e] = 0")
    lines, goal, form = objective(p, value("M", data.k) + (" + B" if extra else ""), target)
    summed = windowed = False
    if periodic:
        summed = kind == "matrix" and p.maybe(4)
        goal = goal if summed else f"{p.pick('sum', 'mean')}({goal} over period)"
    elif p.maybe(6):
        windowed = True
        if data.weight and p.maybe():
            goal = f"{data.weight} * {goal}" if goal[0] not in "-" else goal
            context += [data.weight] if data.weight in goal else []
        goal = f"{p.pick('sum', 'mean')}({goal} over {p.span()})"
    body.append("context " + ", ".join(dict.fromkeys(context)))
    body += lines
    body.append(f"minimize {goal}")
    goal_name = "" if windowed or data.target else form
    body += moves(p, data, Case(kind, periodic, summed, extra, goal_name))
    body += lifetime(p, rhythm)
    return Learned(
        name,
        block(f"level {name}{' per head' if data.per else ''} {rhythm}", body),
        value,
    )


def objective(p: Page, made: str, wanted: str) -> tuple[list[str], str, str]:
    """Equations, the objective, and its name."""
    square = f"|{made} - {wanted}|^2 / 2"
    direct = {
        "half": square,
        "square": f"|{made} - {wanted}|^2",
        "dot": f"-<{made}, {wanted}>",
        "L3": f"|{made} - {wanted}|_3 ^ 3 / 3",
        "L4": f"|{made} - {wanted}|_4 ^ 4 / 4",
        "charbonnier": f"sqrt(1 + |{made} - {wanted}|^2)",
        "logistic": f"sum(softplus({made}) - ({made}) .* {wanted})",
        "decayed": f"{square} + 0.05 * |M|^2",
        "clipped": f"min({square}, 9)",
        "floored": f"max({square}, -1)",
        "exact": f"where(1 >= 0, {square}, 1)",
        "sum": f"sum(({made} - {wanted}) .^ 2)",
        "cosine": f"-<{made}, {wanted}> / (1 + |{made}|^2 + |{wanted}|^2)",
    }
    form = p.pick(*OBJECTIVES)
    if form in direct:
        return [], direct[form], form
    return [f"error = {made} - {wanted}"], OF_AN_ERROR[form], form


OBJECTIVES = (
    *("half", "square", "dot", "L3", "L4", "charbonnier", "logistic", "huber"),
    *("decayed", "clipped", "floored", "exact", "sum", "both", "cosine", "equal"),
)
OF_AN_ERROR = {
    "huber": "where(|error| <= 2, |error|^2 / 2, 2 * |error|)",
    "both": "|error|^2 / 2 + 0.1 * |error|_4 ^ 4",
    "equal": "sum(where(error == 9, error, error .^ 2 / 2))",
}
