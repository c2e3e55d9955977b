"""Draws how a memory of the token clock moves: retention and step, how long it lives, and how far
slower learners see through it.
"""

from __future__ import annotations

from dataclasses import dataclass

from nldsl.testing.page import Page, indent


@dataclass(frozen=True)
class Told:
    """What a level can name: streams, numbers, or numbers that depend on the data; `per`: for each
    head.
    """

    k: str
    v: str
    rate: str
    keep: str
    per: bool
    channel: str = ""  # a gate for each entry of k
    weight: str = ""  # how much a token counts
    target: str = ""  # clock at which the memory makes its own target, if it does


def number(text: str) -> bool:
    return text.strip("()-").replace(".", "").replace("e-", "").isdigit()


def moves(
    p: Page, told: Told, kind: str, periodic: bool, summed: bool, extra: bool, goal: str
) -> list[str]:
    """Equations of M, of an optimizer's step, and of what else the level remembers.

    `summed`: the objective is one for each token.
    """
    rate, keep = told.rate, told.keep
    if periodic:
        rate, keep = (x if number(x) else f"mean({x} over period)" for x in (rate, keep))
    at = "M" if periodic or p.maybe(2) else f"M@{told.target or p.clock()}"
    weight = f"{told.weight} * " if told.weight and summed else ""
    slope = f"sum({weight}grad(M) over period)" if summed else f"grad({at})"
    gated = kind == "gated"
    first, others = ("W1", ("W2", "W3")) if gated else ("W2", () if kind == "within" else ("W1",))
    quadratic = (
        at == "M" and not periodic and not extra and goal in ("half", "square") and kind == "matrix"
    )
    form = p.pick(
        "plain",
        "plain",
        "plain",
        "kept",
        "kept",
        "kept",
        "twice",
        "by hand",
        "late",
        "l2",
        "elastic",
        *(
            ["erase"] * 3 + ["channel", "channel", "simplex"]
            if kind == "matrix" and not periodic
            else []
        ),
        *(["entropy"] if kind in ("matrix", "vector") else []),
        *(
            ["parts"] * (8 if kind == "within" else 3)
            if kind in ("net", "residual", "normed", "gated", "within") and not periodic
            else []
        ),
        *(["closed"] * 3 if quadratic else []),
    )
    lines: list[str] = []
    if form == "twice":
        lines = [f"M <- {keep} * M", f"M <- M - {rate} * {slope if summed else 'grad(M)'}"]
    elif form == "closed":
        lines = [f"M <- prox({p.pick('M', keep + ' * M')}, {rate})"]
    elif form == "by hand":
        lines = ["memory S: like M = 0", f"S <- 0.5 * S - {rate} * {slope}", f"M <- {keep} * M + S"]
    elif form == "late":
        lines = [f"M <- where(tick >= 3, M - {rate} * {slope}, M)"]
    elif form == "parts":
        erase = f"({keep} * I - {rate} * {told.k} * {told.k}^T)"
        lines = [f"S = {step(p, slope, rate, keep, kind)}"]
        if kind == "within":
            lines += [
                f"M.inner.W2 <- M.inner.W2 * {erase} + S.inner.W2",
                f"M.inner.W1 <- {keep} * M.inner.W1 + S.inner.W1",
                "M.W2 <- M.W2 + S.W2",
            ]
        else:
            lines += [
                f"M.{first} <- M.{first} * {erase} + S.{first}",
                *(f"M.{w} <- {keep} * M.{w} + S.{w}" for w in others),
            ]
    elif form == "simplex":
        lines = [f"M <- softmax(M) - {rate} * {slope}"]
    elif form == "entropy":
        p.use("retention", "sigmoid_step")
        lines = [f"M <- sigmoid_step(0.01 + 0.98 * sigmoid(M), {slope}, {rate})"]
    elif form in ("l2", "elastic"):
        p.use("retention", form)
        lines = [
            f"M <- l2_step(M, {slope}, {rate}, {keep})"
            if form == "l2"
            else f"M <- elastic_step(M, {slope}, 0.05, 8, 1)"
        ]
    else:
        held = {
            "plain": "M",
            "kept": p.pick(f"{keep} * M", f"(1 - {keep}) * M"),
            "channel": f"M * diag({told.channel or told.k})",
            "erase": f"M * ({keep} * I - {rate} * {told.k} * {told.k}^T)",
        }[form]
        lines = (
            [f"S = {step(p, slope, rate, keep, kind)}", f"M <- {held} + S"]
            if p.maybe(2)
            else [f"M <- {held} - {rate} * {slope}"]
        )
    return [*lines, f"B <- B - {rate} * grad(B)"] if extra else lines


def step(p: Page, slope: str, rate: str, keep: str, kind: str) -> str:
    """The step to add: an optimizer of the library, or one of the program's own."""
    matrix = (
        (
            "newton_schulz",
            "muon",
            "orthogonalise",
            "m3",
            "m3",
            "delta_momentum",
            "deep_momentum",
            "renormed",
        )
        if kind == "matrix"
        else ()
    )
    how = p.pick(
        "momentum", "sgd", "nesterov", "adam", "adamw", "adagrad", "clip", "fading", "own", *matrix
    )
    if how == "own":
        return own(p, slope)
    if how == "fading":
        p.define("def fading(g) = -0.05 / (1 + tick) * g")
        return f"fading({slope})"
    if how == "renormed":
        p.define(
            "def renormed(g: [a, b]) {\n    n = sqrt(sum(g .^ 2, b) + 0.1)\n    return g ./ n\n}",
            movable=True,
        )
        return f"-{rate} * renormed({slope})"
    associative = how in ("m3", "delta_momentum", "deep_momentum")
    p.use("associative_optimizers" if associative else "optimizers", how)
    beta = p.pick("0.5", "0", keep)
    return {
        "momentum": f"momentum({slope}, {rate}, {beta})",
        "sgd": f"sgd({slope}, {rate})",
        "nesterov": f"nesterov({slope}, {rate}, {beta})",
        "adam": f"{rate} * adam({slope}, eps = 0.1)",
        "adamw": f"adamw(M, {slope}, {rate}, decay = 0.1, eps = 0.1)",
        "adagrad": f"adagrad({slope}, {rate}, 0.1)",
        "clip": f"-{rate} * clip({slope}, 1)",
        "m3": f"m3({slope}, {rate}, 0.5, 0.1, 0.1, 0.1, 0.1, {p.pick('2', '3')})",
        "newton_schulz": f"-{rate} * newton_schulz({slope}, 2)",
        "muon": f"0.1 * muon({slope}, {rate}, 0.5)",
        "orthogonalise": f"-{rate} * orthogonalise({slope}, 0.2, 2)",
        "delta_momentum": f"delta_momentum({slope}, {p.pick('1', 'I')}, {rate}, {beta})",
        "deep_momentum": f"0.05 * deep_momentum({slope}, {rate}, 0.9)",
    }[how]


def own(p: Page, slope: str) -> str:
    """A trace of the gradients, without an objective; or one of their sums."""
    every, told = p.pick(("every update", "g"), ("every 2 update", "sum(g over period)"))
    p.define(
        "\n".join(
            [
                "def traced(g) {",
                *indent(
                    [
                        f"level trace {every} {{",
                        *indent(["memory m: like g = 0", f"m <- 0.5 * m - 0.05 * {told}"]),
                        "}",
                        "return trace.m@after",
                    ]
                ),
                "}",
            ]
        ),
        movable=True,
    )
    return f"traced({slope})"


def lifetime(p: Page, rhythm: str) -> list[str]:
    """Reset and depth of backpropagation."""
    word = rhythm.split()[1]
    period = p.clocks[word][1] if word in p.clocks else int(word) if word.isdigit() else 1
    lines = []
    reset = p.pick(
        *[""] * 4,
        "every sequence",
        "tokens",
        "clock",
        "never",
        *(["every document"] if p.language else []),
    )
    phased = (
        "phase" in rhythm
        or word in p.clocks
        and ("phase" in p.clocks[word][0] or "chunk" in p.clocks[word][0])
    )
    if reset == "tokens" and not phased:
        lines.append(f"reset every {2 * period} token")
    elif reset == "clock" and not phased:
        clock = word if word in p.clocks else p.unphased() if period == 1 else f"{3 * period} token"
        lines.append(f"reset every {clock}")
    elif reset in ("every sequence", "never", "every document"):
        lines.append(f"reset {reset}")
    fits = not any("token" in x or "chunk" in x or "even" in x for x in lines)
    depth = p.pick(*["full"] * 6, "none", "2 clock", "4 token", "full by training", "by both")
    if p.edges and reset == "never":  # the one depth that is lowered whatever `training` sees
        depth = "none"
    if depth == "2 clock":
        depth = f"{p.pick('1', '2')} {p.clock()}{p.pick('', ' by training')}" if fits else "none"
    elif depth == "4 token" and not fits:
        depth = "full"
    return (
        [*lines, "bptt full by training", "bptt full"]
        if depth == "by both"
        else [*lines, f"bptt {depth}"]
    )
