"""Draws levels of the token clock: what they remember, what they are told, what they want, how and when they move.

Everything drawn is stable: rates of at most 0.05, gates between 0 and 1, and no kink where the values are likely to be.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nldsl.testing.page import Page, indent

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
    "deep": """def deep(z: [e]) -> [e] = z + linear(ACT(affine(tanh(linear(z, [2 * e])), [3])), [e])""",
    "normed": """def normed(z: [e]) -> [e] {
    W2 = weight([2 * e, e])
    W1 = weight([e, 2 * e])
    return z + standardise(W1 * ACT(W2 * z))
}""",
}


@dataclass(frozen=True)
class Told:
    """What a level can name: streams, numbers, or numbers that depend on the data. `scalar` says what rate and keep are."""

    k: str
    v: str
    rate: str
    keep: str
    per: bool
    channel: str = ""
    target: str = ""             # clock at which the memory makes its own target, if it does


def number(text: str) -> bool:
    return text.replace(".", "").isdigit()


def learner(p: Page, name: str, told: Told) -> tuple[list[str], Callable[[str], str]]:
    """Lines of the level, and the text that reads it with a query."""
    kind = p.pick("matrix", "matrix", "matrix", "vector", "net", "residual", "gated", "deep", "normed", "library")
    per = " per head" if told.per else ""
    network = kind not in ("matrix", "vector")
    body: list[str] = []
    if kind == "library":
        p.use("layers", "swiglu")
        body.append(f"memory M: swiglu([e], hidden = {p.pick('e', '2 * e')}) = {p.pick('learned', 'random')}")
    elif network:
        act = p.pick("silu", "tanh", "gelu", "sigmoid", "softplus", "exp")
        if kind == "normed":
            p.use("layers", "standardise")
        if not any(f"def {kind}(" in d for d in p.defs):
            p.define(NETWORKS[kind].replace("ACT", act))
        body.append(f"memory M: {kind} = {p.pick('learned', 'random', '0.5 * learned')}")
    else:
        shape = "[e, e]" if kind == "matrix" else "[e]"
        body.append(f"memory M: {shape} = {p.pick('0', 'learned', 'random', '0.1', 'softmax(learned)', '0.5 * learned')}")

    def value(memory: str, x: str) -> str:
        return f"{memory}({x})" if network else f"{memory} * {x}" if kind == "matrix" else f"{memory} .* {x}"

    rhythm = p.pick(*["every token"] * 5, "every 2 token", "every 3 token phase 1", "clock") if not told.target else "every token"
    if rhythm == "clock":
        rhythm = f"every {p.clock()}"
    periodic = rhythm != "every token"
    context = [told.k, told.v]
    target = told.v
    if told.target:
        target = "target"
        body.append(f"target = {value(f'M@{told.target}', told.v)}")
    extra = kind == "matrix" and not periodic and p.maybe(6)
    if extra:
        body.insert(1, "memory B: [e] = 0")
    lines, goal, form = objective(p, value("M", told.k) + (" + B" if extra else ""), target)
    body.append("context " + ", ".join(dict.fromkeys(context)))
    body += lines
    inner = False
    windowed = False
    if periodic:
        how = p.pick("sum", "mean")
        inner = kind == "matrix" and p.maybe(4)
        goal = goal if inner else f"{how}({goal} over period)"
    elif p.maybe(8):
        windowed = True
        goal = f"{p.pick('sum', 'mean')}({goal} over {p.pick('2 token', '3 token', 'sequence', p.clock())})"
    body.append(f"minimize {goal}")
    body += moves(p, told, kind, periodic, inner, extra, "" if windowed or told.target else form)
    body += lifetime(p, rhythm)
    lines = [f"level {name}{per} {rhythm} {{", *indent(body), "}"]
    when = p.pick("", "@now", "clock")
    when = f"@{p.clock()}" if when == "clock" else when
    return lines, lambda q: value(f"{name}.M{when}", q)


def objective(p: Page, made: str, wanted: str) -> tuple[list[str], str, str]:
    """Equations, the objective, and its name."""
    form = p.pick("half", "square", "dot", "L3", "L4", "charbonnier", "logistic", "huber", "decayed", "clipped", "floored", "exact", "sum")
    if form == "huber":
        lines = [f"error = {made} - {wanted}"]
        return lines, "where(|error| <= 2, |error|^2 / 2, 2 * |error|)", form
    square = f"|{made} - {wanted}|^2 / 2"
    return [], {
        "half": square, "square": f"|{made} - {wanted}|^2", "dot": f"-<{made}, {wanted}>", "L3": f"|{made} - {wanted}|_3 ^ 3 / 3",
        "L4": f"|{made} - {wanted}|_4 ^ 4 / 4", "charbonnier": f"sqrt(1 + |{made} - {wanted}|^2)",
        "logistic": f"sum(softplus({made}) - ({made}) .* {wanted})", "decayed": f"{square} + 0.05 * |M|^2",
        "clipped": f"min({square}, 9)", "floored": f"max({square}, -1)", "exact": f"where(1 >= 0, {square}, 1)",
        "sum": f"sum(({made} - {wanted}) .^ 2)",
    }[form], form


def moves(p: Page, told: Told, kind: str, periodic: bool, inner: bool, extra: bool, goal: str) -> list[str]:
    rate, keep = told.rate, told.keep
    if periodic:
        rate, keep = (x if number(x) else f"mean({x} over period)" for x in (rate, keep))
    at = "M" if periodic or p.maybe(2) else f"M@{told.target or p.clock()}"
    slope = f"sum(grad(M) over period)" if inner else f"grad({at})"
    parts = kind in ("net", "residual", "normed", "gated")
    quadratic = at == "M" and not periodic and not extra and goal in ("half", "square") and kind in ("matrix",)
    forms = ["plain"] * 3 + ["kept"] * 3 + ["twice", "by hand"] + (["erase"] * 3 + ["channel", "channel", "simplex"] if kind == "matrix" and not periodic else []) \
        + (["parts"] * 3 if parts and not periodic else []) + (["closed"] * 3 if quadratic else [])
    form = p.pick(*forms)
    lines: list[str] = []
    if form == "twice":
        lines = [f"M <- {keep} * M", f"M <- M - {rate} * {'sum(grad(M) over period)' if inner else 'grad(M)'}"]
    elif form == "closed":
        lines = [f"M <- prox({p.pick('M', keep + ' * M')}, {rate})"]
    elif form == "by hand":
        lines = [f"memory S: like M = 0", f"S <- 0.5 * S - {rate} * {slope}", f"M <- {keep} * M + S"]
    elif form == "parts":
        lines = [f"S = {step(p, slope, rate, keep, kind)}",
                 f"M.W2 <- M.W2 * ({keep} * I - {rate} * {told.k} * {told.k}^T) + S.W2" if kind != "gated" else
                 f"M.W1 <- M.W1 * ({keep} * I - {rate} * {told.k} * {told.k}^T) + S.W1"]
        lines += [f"M.W1 <- {keep} * M.W1 + S.W1"] if kind != "gated" else [f"M.W2 <- {keep} * M.W2 + S.W2", "M.W3 <- M.W3 + S.W3"]
    else:
        held = {"plain": "M", "kept": p.pick(f"{keep} * M", f"(1 - {keep}) * M"), "erase": f"M * ({keep} * I - {rate} * {told.k} * {told.k}^T)",
                "channel": f"M * diag({told.channel or told.k})"}.get(form)
        if form == "simplex":
            lines = [f"M <- softmax(M) - {rate} * {slope}"]
        elif p.maybe(2):
            lines = [f"S = {step(p, slope, rate, keep, kind)}", f"M <- {held} + S"]
        else:
            lines = [f"M <- {held} - {rate} * {slope}"]
    if extra:
        lines.append(f"B <- B - {rate} * grad(B)")
    return lines


def step(p: Page, slope: str, rate: str, keep: str, kind: str) -> str:
    """The step to add: an optimizer of the library, or one of the program's own."""
    how = p.pick("momentum", "sgd", "nesterov", "adam", "adamw", "adagrad", "clip", "fading", *(("orthogonal", "m3", "m3") if kind == "matrix" else ()))
    if how == "fading":
        p.define("def fading(g) = -0.05 / (1 + tick) * g")
        return f"fading({slope})"
    name = "newton_schulz" if how == "orthogonal" else how
    p.use("associative_optimizers" if name == "m3" else "optimizers", name)
    beta = p.pick("0.5", "0", keep)
    return {
        "momentum": f"momentum({slope}, {rate}, {beta})", "sgd": f"sgd({slope}, {rate})", "nesterov": f"nesterov({slope}, {rate}, {beta})",
        "adam": f"{rate} * adam({slope}, eps = 0.1)", "adamw": f"adamw(M, {slope}, {rate}, decay = 0.1, eps = 0.1)",
        "adagrad": f"adagrad({slope}, {rate}, 0.1)", "clip": f"-{rate} * clip({slope}, 1)",
        "m3": f"m3({slope}, {rate}, 0.5, 0.1, 0.1, 0.1, 0.1, 2)", "newton_schulz": f"-{rate} * newton_schulz({slope}, 2)",
    }[name]


def lifetime(p: Page, rhythm: str) -> list[str]:
    """Reset and depth of backpropagation."""
    word = rhythm.split()[1]
    period = p.clocks[word][1] if word in p.clocks else int(word) if word.isdigit() else 1
    lines = []
    reset = p.pick(*[""] * 4, "every sequence", "tokens", "clock", "never")
    phased = "phase" in rhythm or word in p.clocks and ("phase" in p.clocks[word][0] or "chunk" in p.clocks[word][0])
    if reset == "tokens" and not phased:
        lines.append(f"reset every {2 * period} token")
    elif reset == "clock" and not phased:
        lines.append(f"reset every {word if word in p.clocks else p.unphased() if period == 1 else f'{3 * period} token'}")
    elif reset in ("every sequence", "never"):
        lines.append(f"reset {reset}")
    fits = not any("token" in x or "chunk" in x or "even" in x for x in lines)
    depth = p.pick(*["full"] * 4, "none", "2 clock", "4 token", "full to training")
    if depth == "2 clock":
        depth = f"{p.pick('1', '2')} {p.clock()}" if fits else "none"
    elif depth == "4 token" and not fits:
        depth = "full"
    return [*lines, f"bptt {depth}"]
