"""Draws the update of a memory of the token clock: retention and step, lifetime, and how far slower
learners see through it.
"""

from __future__ import annotations

from dataclasses import dataclass

from nldsl.testing.page import Page, block

ASSOCIATIVE = ("m3", "delta_momentum", "deep_momentum")  # of nldsl/std/associative_optimizers.nl
STEPS = tuple("momentum sgd nesterov adam adamw adagrad clip fading own".split())
MATRIX_STEPS = tuple(
    "newton_schulz muon orthogonalise m3 m3 delta_momentum deep_momentum renormed".split()
)


@dataclass(frozen=True)
class LevelData:
    """The names that a level can use: streams, numbers, or numbers that depend on the data; `per`:
    for each head.
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


@dataclass(frozen=True)
class Case:
    """The facts that decide which updates a memory M can have. `periodic`: it does not tick at
    every token; `summed`: the objective is one for each token; `goal` is the objective's name,
    empty where it stands in a window.
    """

    kind: str
    periodic: bool
    summed: bool
    extra: bool  # the level has a memory B beside M
    goal: str

    @property
    def parted(self) -> bool:
        """Can the leaves of M move each by its own equation?"""
        return self.kind in ("net", "residual", "normed", "gated", "within") and not self.periodic

    def forms(self, at: str) -> tuple[str, ...]:
        """The equations to choose from, where the gradient is taken `at` this value."""
        matrix = self.kind == "matrix" and not self.periodic
        quadratic = at == "M" and matrix and not self.extra and self.goal in ("half", "square")
        return (
            *("plain", "plain", "plain", "kept", "kept", "kept", "twice"),
            *("by hand", "late", "l2", "elastic"),
            *(["erase"] * 3 + ["channel", "channel", "simplex"] if matrix else []),
            *(["entropy"] if self.kind in ("matrix", "vector") else []),
            *(["parts"] * (8 if self.kind == "within" else 3) if self.parted else []),
            *(["closed"] * 3 if quadratic else []),
        )


def moves(p: Page, data: LevelData, case: Case) -> list[str]:
    """Equations of M, of an optimizer's step, and of the level's other memory."""
    rate, keep = data.rate, data.keep
    if case.periodic:
        rate, keep = (x if number(x) else f"mean({x} over period)" for x in (rate, keep))
    at = "M" if case.periodic or p.maybe(2) else f"M@{data.target or p.clock()}"
    weight = f"{data.weight} * " if data.weight and case.summed else ""
    slope = f"sum({weight}grad(M) over period)" if case.summed else f"grad({at})"
    form = p.pick(*case.forms(at))
    if form == "twice":
        own = slope if case.summed else "grad(M)"
        lines = [f"M <- {keep} * M", f"M <- M - {rate} * {own}"]
    elif form == "closed":
        lines = [f"M <- prox({p.pick('M', keep + ' * M')}, {rate})"]
    elif form == "by hand":
        lines = ["memory S: like M = 0", f"S <- 0.5 * S - {rate} * {slope}", f"M <- {keep} * M + S"]
    elif form == "late":
        lines = [f"M <- where(tick >= 3, M - {rate} * {slope}, M)"]
    elif form == "parts":
        added = step(p, slope, rate, keep, case.kind)
        erase = f"({keep} * I - {rate} * {data.k} * {data.k}^T)"
        lines = [f"S = {added}", *by_leaf(case.kind, keep, erase)]
    elif form in ("simplex", "entropy", "l2", "elastic"):
        lines = [retained(p, form, slope, rate, keep)]
    else:
        lines = kept(p, form, data, slope, rate, keep, case.kind)
    return [*lines, f"B <- B - {rate} * grad(B)"] if case.extra else lines


def by_leaf(kind: str, keep: str, erase: str) -> list[str]:
    """An equation for each leaf of M: one leaf erases, the others are kept."""
    if kind == "within":
        return [
            f"M.inner.W2 <- M.inner.W2 * {erase} + S.inner.W2",
            f"M.inner.W1 <- {keep} * M.inner.W1 + S.inner.W1",
            "M.W2 <- M.W2 + S.W2",
        ]
    first, others = ("W1", ("W2", "W3")) if kind == "gated" else ("W2", ("W1",))
    return [
        f"M.{first} <- M.{first} * {erase} + S.{first}",
        *(f"M.{w} <- {keep} * M.{w} + S.{w}" for w in others),
    ]


def retained(p: Page, form: str, slope: str, rate: str, keep: str) -> str:
    """A move by a retention of the library, or on the simplex."""
    if form == "simplex":
        return f"M <- softmax(M) - {rate} * {slope}"
    if form == "entropy":
        p.use("retention", "sigmoid_step")
        return f"M <- sigmoid_step(0.01 + 0.98 * sigmoid(M), {slope}, {rate})"
    p.use("retention", form)
    if form == "l2":
        return f"M <- l2_step(M, {slope}, {rate}, {keep})"
    return f"M <- elastic_step(M, {slope}, 0.05, 8, 1)"


def kept(
    p: Page, form: str, data: LevelData, slope: str, rate: str, keep: str, kind: str
) -> list[str]:
    """A retention of M and a step, by an optimizer or not."""
    held = {
        "plain": "M",
        "kept": p.pick(f"{keep} * M", f"(1 - {keep}) * M"),
        "channel": f"M * diag({data.channel or data.k})",
        "erase": f"M * ({keep} * I - {rate} * {data.k} * {data.k}^T)",
    }[form]
    if p.maybe(2):
        return [f"S = {step(p, slope, rate, keep, kind)}", f"M <- {held} + S"]
    return [f"M <- {held} - {rate} * {slope}"]


def step(p: Page, slope: str, rate: str, keep: str, kind: str) -> str:
    """The step to add: an optimizer of the library, or one of the program's own."""
    how = p.pick(*STEPS, *(MATRIX_STEPS if kind == "matrix" else ()))
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
    p.use("associative_optimizers" if how in ASSOCIATIVE else "optimizers", how)
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
    every, gradient = p.pick(("every update", "g"), ("every 2 update", "sum(g over period)"))
    p.define(
        "\n".join(
            [
                *block(
                    "def traced(g)",
                    [
                        *block(
                            f"level trace {every}",
                            ["memory m: like g = 0", f"m <- 0.5 * m - 0.05 * {gradient}"],
                        ),
                        "return trace.m@after",
                    ],
                ),
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
