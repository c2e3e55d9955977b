"""Draws levels of the step clock: chains of networks, levels that start others, optimizers that are
learned, and the training itself.
"""

from __future__ import annotations

from nldsl.testing.moves import ASSOCIATIVE
from nldsl.testing.page import Page, block

STEPS = tuple("gd adamw sgd momentum nesterov adam adagrad cosine twice slower".split())
MATRIX_STEPS = tuple("muon orthogonalise delta_momentum deep_momentum m3".split())


def optimizer(p: Page, memory: str, matrices: bool = False) -> list[str]:
    """Equations that move a memory of the step clock; `matrices`: it holds no vectors, so
    optimizers of matrices can take all of it.
    """
    slope = f"grad({memory})"
    if p.maybe(4):
        slope = f"{p.use('optimizers', 'clip')}({slope}, 1)"
    how = p.pick(*STEPS, *(MATRIX_STEPS if matrices else ()))
    if how == "gd":
        return [f"{memory} <- {memory} - 0.05 * {slope}"]
    if how == "twice":
        return [f"{memory} <- {memory} - 0.05 * {slope}", f"{memory} <- 0.99 * {memory}"]
    if how == "slower":
        p.define("def slower(g) = -0.1 * g / (1 + tick)")
        return [f"{memory} <- {memory} + slower({slope})"]
    p.use("associative_optimizers" if how in ASSOCIATIVE else "optimizers", how)
    step = {
        "adamw": f"adamw({memory}, {slope}, lr = 0.01, decay = 0.1, eps = 0.01)",
        "sgd": f"sgd({slope}, 0.05)",
        "momentum": f"momentum({slope}, 0.05, 0.9)",
        "nesterov": f"nesterov({slope}, 0.05, 0.5)",
        "adam": f"0.01 * adam({slope}, eps = 0.01)",
        "adagrad": f"adagrad({slope}, 0.05, 0.1)",
        "cosine": f"adamw({memory}, {slope}, cosine(0.01, 0.02), 0.1, eps = 0.01)",
        "muon": f"muon({slope}, 0.01, 0.5)",
        "orthogonalise": f"-0.02 * orthogonalise({slope}, 0.2, 2)",
        "delta_momentum": f"delta_momentum({slope}, 1, 0.05, 0.5)",
        "deep_momentum": f"0.02 * deep_momentum({slope}, 0.05, 0.9)",
        "m3": f"m3({slope}, 0.02, 0.5, 0.1, 0.1, 0.1, 0.1, 2)",
    }[how]
    return [f"{memory} <- {memory} + {step}"]


def network(p: Page, name: str, source: str) -> tuple[str, str]:
    """The type of a memory of the step clock, and the expression that applies it."""
    kind = p.pick("swiglu", "swiglu", "matrix", "vector")
    if kind == "swiglu":
        p.use("layers", "swiglu")
        return f"swiglu({p.pick('[d]', 'shape(x)')}, hidden = 2 * d)", f"{name}({source})"
    return ("[d, d]", f"{name} * {source}") if kind == "matrix" else ("[d]", f"{name} .* {source}")


def _definition(p: Page, body: list[str]) -> str:
    return "\n".join(block(f"def continuum(x: [d], {p.context}) -> [d]", body))


def continuum(p: Page) -> str:
    """A chain of networks."""
    p.constants["periods"] = p.pick("[1, 2]", "[1, 3]", "[2, 4]", "[1]")
    p.use("layers", "rmsnorm")
    kind, applied = network(p, "ffn[p].F", "rmsnorm(x)")
    loaded = ", ".join(
        f'"mlp.{{p}}.{w}" -> {w}' for w in (("gate", "up", "down") if "swiglu" in kind else ("F",))
    )
    start = p.pick(
        "random",
        "random",
        "0.1 * random" if kind != "[d]" else "0",
        f'0.5 * load("base", {loaded})' if kind == "[d]" else f'load("base", {loaded})',
    )
    return _definition(
        p,
        [
            *block(
                "for p in periods",
                [
                    *block(
                        f"level ffn[p] every p step{p.pick('', '', ' phase 1')}",
                        [
                            f"memory F: {kind} = {start}",
                            f"context {p.context}",
                            f"minimize {p.pick('mean', 'sum')}(loss over period)",
                            *optimizer(p, "F", kind != "[d]"),
                            p.pick("bptt none", "bptt none", "bptt full"),
                        ],
                    ),
                    f"x <- x + {applied}",
                ],
            ),
            "return x",
        ],
    )


def nest(p: Page) -> str:
    """Two step clocks, the slower of which learns where the faster starts."""
    p.use("layers", "rmsnorm")
    kind, applied = network(p, "ffn.F", "rmsnorm(x)")
    inner = p.pick(
        "F - 0.05 * stop(grad(F))",
        "F + momentum(stop(grad(F)), 0.05, 0.5)",
        "F + 0.01 * adam(stop(grad(F)), eps = 0.1)",
    )
    for name in ("momentum", "adam"):
        if name in inner:
            p.use("optimizers", name)
    origin = block(
        "level origin every 4 step",
        [
            f"memory S: {kind} = random",
            f"context {p.context}",
            f"minimize {p.pick('mean', 'sum')}(loss over period)",
            *optimizer(p, "S"),
            p.pick("bptt none", "bptt full"),
        ],
    )
    seen = ("bptt full by origin", "bptt full by origin", "bptt 2 step by origin", "bptt none")
    ffn = block(
        f"level ffn every {p.pick('2 step', 'step')}",
        [
            f"memory F: {kind} = {p.pick('origin.S', 'origin.S', '0.5 * origin.S')}",
            f"context {p.context}",
            "minimize mean(loss over period)",
            f"F <- {inner}",
            "reset every 4 step",
            p.pick(*seen),
        ],
    )
    return _definition(p, [*origin, *ffn, f"return x + {applied}"])


def renewed(p: Page) -> str:
    """A level that is drawn anew every few steps, and one memory for each head."""
    p.use("layers", "rmsnorm")
    return _definition(
        p,
        [
            *block(
                "level task every step",
                [
                    f"memory F: [d, d] = {p.pick('random', '0')}",
                    f"context {p.context}",
                    "minimize mean(loss over period)",
                    *optimizer(p, "F", True),
                    "reset every 2 step",
                    "bptt none",
                ],
            ),
            *block(
                "level heads per head every 2 step",
                [
                    f"memory B: [d] = {p.pick('0', 'random')}",
                    f"context {p.context}",
                    f"minimize {p.pick('mean', 'sum')}(loss over period)",
                    "B <- B - 0.05 * grad(B)",
                    "bptt none",
                ],
            ),
            "return x + task.F * rmsnorm(x) + mean(heads.B, head)",
        ],
    )


SLOW = (continuum, continuum, nest, renewed)


def training(p: Page, whole: str) -> list[str]:
    """The level that learns all the rest, beside levels of a part of it.

    `whole`: the definition of the network, if it is one.
    """
    lines: list[str] = []
    if p.edges:  # one learner, which ticks at every step, sees all that there is
        whole = ""
    rate = "step" if p.edges else p.pick("step", "step", "step", "2 step", "step phase 1", "3 step")
    of = "weights"
    if whole and p.maybe(6):
        lines += second(p, p.pick("weights [a, b]", f"weights of {whole} [a, b]"), matrices=True)
    elif p.parts and p.maybe(6):
        lines += second(p, f"weights of {p.pick(*p.parts)}")
    elif whole and p.maybe(5):
        of = f"weights of {whole}"
        lines += p.pick(["level frozen never { memory W: weights }"], second(p, "weights"))
    elif whole and p.maybe(12):
        return generated(p, whole)
    goal = p.pick(
        "mean(loss over period)",
        "mean(loss over period)",
        "sum(loss over period)",
        "0.5 * mean(loss over period)",
        "mean(loss over period) + 0.01 * |W|^2",
    )
    if p.maybe(12):
        goal = "sqrt(0.1 + mean(loss over period))"
    return [
        *block(
            f"level training every {rate}",
            [
                f"memory W: {of}",
                f"context {p.context}",
                f"minimize {goal}",
                *optimizer(p, "W"),
            ],
        ),
        *lines,
    ]


def second(p: Page, of: str, matrices: bool = False) -> list[str]:
    return [
        *block(
            "level heads every 2 step",
            [
                f"memory W: {of}",
                f"context {p.context}",
                "minimize mean(loss over period)",
                *optimizer(p, "W", matrices),
                *p.pick((), ("bptt none",)),
            ],
        ),
    ]


def generated(p: Page, whole: str) -> list[str]:
    """A slower level learns the network that makes the steps."""
    p.use("optimizers", "momentum")
    p.define(
        "def rule(s: [2]) -> [] {\n    out = affine(tanh(affine(s, [3])), [2])\n    return out[0] "
        "* exp(0.1 * out[1])\n}"
    )
    return [
        *block(
            "level training every step",
            [
                f"memory W: weights of {whole}",
                f"context {p.context}",
                "minimize mean(loss over period)",
                "W <- W + 0.01 * rule(stack(stop(grad(W)), momentum(stop(grad(W)), 0.1, 0.9)))",
                *p.pick((), ("reset every 4 step",)),
                p.pick("bptt 2 step by meta", "bptt full"),
            ],
        ),
        *block(
            "level meta every 2 step",
            [
                "memory O: weights",
                f"context {p.context}",
                "minimize mean(loss over period)",
                *optimizer(p, "O"),
            ],
        ),
    ]


ROUNDS = {"step": "2 step", "2 step": "4 step", "3 step": "3 step"}


def shared(p: Page, lines: list[str], workers: int) -> list[str]:
    """The training by workers, each with an entry of the weights for its lanes, and the level that
    gathers them. As it is where another level has a part of the weights, or ticks late.
    """
    rate = lines[0].removeprefix("level training every ").removesuffix(" {")
    if rate not in ROUNDS or lines[1].strip() != "memory W: weights" or lines[-1] != "}":
        return lines
    if sum(line.startswith("level ") for line in lines) > 1:
        return lines
    p.dims["worker"] = str(workers)
    every = ROUNDS[rate]
    again = "reset every" if p.dims["head"] == "1" else "reset W every"
    gathered = "S - 0.7 * mean(S - training.W@after, worker)"
    return [
        f"level training per worker every {rate} {{",
        "    memory W: weights = together.S",
        *lines[2:-1],
        f"    {again} {every}",
        "}",
        *block(f"level together every {every}", ["memory S: weights", f"S <- {gathered}"]),
    ]
