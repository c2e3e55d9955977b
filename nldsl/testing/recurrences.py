"""Draws layers in which a memory's own reads, the next token, or the task loss come back to it."""

from __future__ import annotations

from nldsl.testing.levels import NETWORKS, learner
from nldsl.testing.mixers import told
from nldsl.testing.page import Layer, Page, indent
from nldsl.testing.streams import gate, projection, stream, used


def looped(p: Page) -> Layer:
    """What is read from a memory is mixed over time, and told to the same memory."""
    p.nested = True
    per = p.maybe(2)
    axes = "head, e" if per else "e"
    lines = [f"ask = {projection(p, axes, True)}"]
    data = told(p, per, lines, source="mixed")
    level = learner(p, "recall", data, ("matrix", "matrix", "net", "residual", "vector"))
    lines.append(f"heard = linear({level.read(p, 'ask', 'clock', 'clock', '')}, [d])")
    mixed = p.pick(
        "x + heard", "conv(heard, 2)", "attend", "attend", "mean(heard over SPAN)", "stream"
    )
    if mixed == "attend":
        pairs = p.pick("heard -> heard", "heard -> x", "x -> heard") + " over SPAN"
        mixed = f"attend(x, {pairs}{p.pick('', ', x -> x over SPAN', ', x -> x')})"
    if mixed == "stream":
        mixed = used(p, stream(p, "d", "heard", 2))
    lines.append("mixed = " + mixed.replace("SPAN", p.span()))
    lines.append(f"q = {projection(p, axes, True, 'mixed')}")
    return Layer([*lines, *level.lines, f"y = {level.read(p, 'q')}"], "y")


def begun(p: Page) -> Layer:
    """A memory that starts within the sequence, again and again, from what a slower one holds by
    then.
    """
    p.nested = True
    lines: list[str] = []
    per = p.maybe(2)
    data = told(p, per, lines)
    lines.append(f"q = {projection(p, 'head, e' if per else 'e', True)}")
    kind, said = p.pick(("[e, e]", "{} * {}"), ("net", "{}({})"))
    if kind == "net":
        p.define(NETWORKS["net"].replace("ACT", "silu"), movable=True)

    def goal(memory: str) -> str:
        return f"|{said.format(memory, data.k)} - {data.v}|^2 / 2"

    heads = " per head" if per else ""
    return Layer(
        [
            *lines,
            f"level outer{heads} every {p.pick('2', '3', '4')} token {{",
            *indent(
                [
                    f"memory A: {kind} = learned",
                    f"context {data.k}, {data.v}",
                    f"minimize mean({goal('A')} over period)",
                    f"A <- {p.pick('A', '0.9 * A')} - 0.05 * grad(A)",
                    *p.pick((), (), ("reset every 12 token",)),
                    p.pick("bptt full", "bptt full", "bptt none"),
                ]
            ),
            "}",
            f"level recall{heads} every token {{",
            *indent(
                [
                    f"memory M: {kind} = {p.pick('outer.A', 'outer.A', '0.5 * outer.A')}",
                    f"context {data.k}, {data.v}",
                    f"minimize {goal('M')}",
                    f"M <- {data.keep} * M - 0.05 * grad(M)",
                    f"reset every {p.pick('2', '3', '4', '6')} token",
                    "bptt full",
                ]
            ),
            "}",
            f"y = {said.format('recall.M' + p.pick('', '@after'), 'q')}",
        ],
        "y",
    )


def foreseeing(p: Page) -> Layer:
    """A memory that learns to say what comes next."""
    p.use("layers", "unit")
    form = p.pick("stream", "data", "window")
    keep = p.pick("M", "keep * M")
    lines = [
        "k = unit(linear(x, [e]))",
        "v = linear(x, [e])",
        *([f"keep = {gate(p, False, '1', '2')}"] if "keep" in keep else []),
    ]
    rhythm, at, over = "every token", p.pick("M", f"M@{p.clock()}"), ""
    if form == "window":
        rhythm, at, over = p.pick("every 2 token", "every 3 token"), "M", "mean"
        keep = "M"
    shape, goal, context = "[e, e]", "|M * k - next(v)|^2 / 2", "k, v"
    given: tuple[str, ...] = ()
    if form == "data":
        given = p.data[:1]
        context = f"k, {given[0]}"
        shape, goal = (
            ("[vocab, e]", "cross_entropy(M * k, next(ids))")
            if given == ("ids",)
            else ("[c, e]", "|M * k - next(signal)|^2 / 2")
        )
    goal = f"{over}({goal} over period)" if over else goal
    lines += [
        f"level online {rhythm} {{",
        *indent(
            [
                f"memory M: {shape} = {p.pick('learned', '0')}",
                f"context {context}",
                f"minimize {goal}",
                f"M <- {keep} - 0.05 * grad({at})",
                p.pick("bptt full", "bptt none"),
            ]
        ),
        "}",
    ]
    return Layer(
        [
            *lines,
            f"said = online.M{p.pick('', '@' + p.clock())} * k",
            "side = linear(said, [d])",
            "y = v",
        ],
        "y",
        "side",
        given=given,
    )


def surprised(p: Page) -> Layer:
    """A layer that learns from the task loss's own signal at its output."""
    if p.maybe(3):
        p.use("associative_optimizers", "dgd_linear")
        return Layer(
            [f"h = dgd_linear({p.pick('x', 'linear(x, [d])')}, {p.pick('0.05', '0.1')})"],
            whole="h",
            given=("loss",),
        )
    move = p.pick("W - 0.05 * grad(W)", "prox(W, 0.05)")
    return Layer(
        [
            "h = layer.W * x",
            "level layer every token {",
            *indent(
                [
                    "memory W: [d, d] = random",
                    f"u = -{p.pick('', '0.5 * ')}grad(loss, h)",
                    "context x, u",
                    "minimize |W * x - u|^2 / 2",
                    f"W <- {move}",
                    *p.pick((), ("reset never",)),
                    "bptt none",
                ]
            ),
            "}",
        ],
        whole="h",
        given=("loss",),
    )


def tasked(p: Page) -> Layer:
    """Levels of the token clock that learn from the task loss: one, or several side by side or in a
    row.
    """
    p.use("layers", "swiglu")
    p.use("layers", "rmsnorm")
    how = p.pick("one", "independent", "sequential", "nested")
    network = p.pick("swiglu([d], hidden = 2 * d)", "[d, d]", "[d]")
    start = p.pick("learned", "random") if "(" in network else p.pick("learned", "0", "random")
    move = p.pick(
        "F - 0.05 * grad(F)",
        "0.9 * F - 0.05 * grad(F)",
        "F + momentum(grad(F), 0.05, 0.5)",
        "F + 0.05 * adam(grad(F), eps = 0.1)",
        "F - 0.05 * clip(grad(F), 1)",
    )
    for name in ("momentum", "adam", "clip"):
        if name in move:
            p.use("optimizers", name)

    def level(name: str, rate: str) -> list[str]:
        return [
            f"level {name} every {rate} {{",
            *indent(
                [
                    f"memory F: {network} = {start}",
                    f"context {p.context}",
                    f"minimize {p.pick('mean', 'sum')}(loss over period)",
                    f"F <- {move}",
                    *p.pick(
                        (),
                        (),
                        (),
                        ("reset every 6 token",) if "phase" not in rate else (),
                        ("reset never",),
                    ),
                    p.pick("bptt full", "bptt full by training", "bptt none"),
                ]
            ),
            "}",
        ]

    def applied(name: str, x: str) -> str:
        return (
            f"{name}.F({x})"
            if "(" in network
            else f"{name}.F * {x}"
            if network == "[d, d]"
            else f"{name}.F .* {x}"
        )

    given = (*p.data, "loss")
    if how == "nested":
        p.nested = True
        fast, up = p.pick(("2", "4"), ("1", "2"), ("2", "6"))
        body = [f"context {p.context}", "minimize mean(loss over period)", f"F <- {move}"]
        return Layer(
            [
                f"level slow every {up} token {{",
                *indent(
                    [
                        f"memory F: {network} = {start}",
                        *body,
                        p.pick("bptt full", "bptt full by training"),
                    ]
                ),
                "}",
                f"level fast every {fast} token {{",
                *indent(
                    [
                        f"memory F: {network} = slow.F",
                        *body,
                        *p.pick((), (f"reset every {up} token",), (f"reset every {up} token",)),
                        "bptt full",
                    ]
                ),
                "}",
                f"h = {applied('fast', 'x')}",
            ],
            whole="h",
            given=given,
        )
    if how == "one":
        return Layer(
            [
                *level("fast", p.pick("2 token", "3 token", "token", "2 token phase 1")),
                f"h = {applied('fast', 'x')}",
            ],
            whole="h",
            given=given,
        )
    p.constants["spans"] = p.pick("[1, 2]", "[2, 3]", "[2, 6]")
    if how == "independent":
        return Layer(
            [
                "h = 0 * x",
                "for span in spans {",
                *indent(
                    [
                        *level("fast[span]", "span token"),
                        f"h <- h + weight([], init = 1) * {applied('fast[span]', 'rmsnorm(x)')}",
                    ]
                ),
                "}",
            ],
            whole="h",
            given=given,
        )
    return Layer(
        [
            "h = x",
            "for span in spans {",
            *indent(
                [
                    *level("fast[span]", "span token"),
                    f"h <- h + {applied('fast[span]', 'rmsnorm(h)')}",
                ]
            ),
            "}",
        ],
        whole="h",
        given=given,
    )


def stale_stream(p: Page) -> Layer:
    """A level that learns from what a stream was when a clock last ticked; before that there is
    nothing to learn from.
    """
    clock = p.clock()
    window = p.pick("", "", "sum({} over sequence)")
    goal = "|M * tanh(k) - v|^2 / 2"
    return Layer(
        [
            "k = linear(x, [e])",
            f"v = stop(k@{clock})",
            "level recall every token {",
            *indent(
                [
                    "memory M: [e, e] = learned",
                    "context k, v",
                    f"minimize {window.format(goal) if window else goal}",
                    f"M <- M - 0.05 * grad({p.pick('M', 'M@' + p.clock()) if not window else 'M'})",
                    "bptt full",
                ]
            ),
            "}",
            "y = recall.M * tanh(k)",
        ],
        "y",
    )


def sequential(p: Page) -> Layer:
    """A memory that ticks where sequences end, and lives over them."""
    p.use("layers", "unit")
    return Layer(
        [
            "k = unit(linear(x, [e]))",
            "v = linear(x, [e])",
            "level recall every sequence {",
            *indent(
                [
                    "memory M: [e, e] = learned",
                    "context k, v",
                    f"minimize {p.pick('mean', 'sum')}(|M * k - v|^2 / 2 over period)",
                    "M <- M - 0.05 * grad(M)",
                    "reset never",
                    "bptt none",
                ]
            ),
            "}",
            "y = recall.M * k + v",
        ],
        "y",
    )
