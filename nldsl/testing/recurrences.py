"""Draws layers in which a memory's own reads, the next token, or the task loss come back to it."""

from __future__ import annotations

from dataclasses import dataclass

from nldsl.testing.levels import NETWORKS, learner
from nldsl.testing.mixers import level_data
from nldsl.testing.page import Layer, Page, block
from nldsl.testing.streams import gate, projection, stream, used


def looped(p: Page) -> Layer:
    """A layer that mixes the reads of a memory over time, and gives them to the same memory."""
    p.nested = True
    per = p.maybe(2)
    axes = "head, e" if per else "e"
    lines = [f"ask = {projection(p, axes, True)}"]
    data = level_data(p, per, lines, source="mixed")
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
    """A memory that restarts within the sequence from the current value of a slower one."""
    p.nested = True
    lines: list[str] = []
    per = p.maybe(2)
    data = level_data(p, per, lines)
    lines.append(f"q = {projection(p, 'head, e' if per else 'e', True)}")
    kind, said = p.pick(("[e, e]", "{} * {}"), ("net", "{}({})"))
    if kind == "net":
        p.define(NETWORKS["net"].replace("ACT", "silu"), movable=True)
    learns = f"|{said.format('MEMORY', data.k)} - {data.v}|^2 / 2"
    heads = " per head" if per else ""
    outer = block(
        f"level outer{heads} every {p.pick('2', '3', '4')} token",
        [
            f"memory A: {kind} = learned",
            f"context {data.k}, {data.v}",
            f"minimize mean({learns.replace('MEMORY', 'A')} over period)",
            f"A <- {p.pick('A', '0.9 * A')} - 0.05 * grad(A)",
            *p.pick((), (), ("reset every 12 token",)),
            p.pick("bptt full", "bptt full", "bptt none"),
        ],
    )
    recall = block(
        f"level recall{heads} every token",
        [
            f"memory M: {kind} = {p.pick('outer.A', 'outer.A', '0.5 * outer.A')}",
            f"context {data.k}, {data.v}",
            f"minimize {learns.replace('MEMORY', 'M')}",
            f"M <- {data.keep} * M - 0.05 * grad(M)",
            f"reset every {p.pick('2', '3', '4', '6')} token",
            "bptt full",
        ],
    )
    y = said.format("recall.M" + p.pick("", "@after"), "q")
    return Layer([*lines, *outer, *recall, f"y = {y}"], "y")


def foreseeing(p: Page) -> Layer:
    """A memory that learns to predict the next token."""
    p.use("layers", "unit")
    form = p.pick("stream", "data", "window")
    keep = p.pick("M", "keep * M")
    lines = [
        "k = unit(linear(x, [e]))",
        "v = linear(x, [e])",
        *([f"keep = {gate(p, False, '1', '2')}"] if "keep" in keep else []),
    ]
    rhythm, at = "every token", p.pick("M", f"M@{p.clock()}")
    shape, goal, context = "[e, e]", "|M * k - next(v)|^2 / 2", "k, v"
    given: tuple[str, ...] = ()
    if form == "window":
        rhythm, at, keep = p.pick("every 2 token", "every 3 token"), "M", "M"
        goal = f"mean({goal} over period)"
    if form == "data":
        given = p.data[:1]
        context = f"k, {given[0]}"
        shape, goal = (
            ("[vocab, e]", "cross_entropy(M * k, next(ids))")
            if given == ("ids",)
            else ("[c, e]", "|M * k - next(signal)|^2 / 2")
        )
    online = block(
        f"level online {rhythm}",
        [
            f"memory M: {shape} = {p.pick('learned', '0')}",
            f"context {context}",
            f"minimize {goal}",
            f"M <- {keep} - 0.05 * grad({at})",
            p.pick("bptt full", "bptt none"),
        ],
    )
    said = f"said = online.M{p.pick('', '@' + p.clock())} * k"
    return Layer(
        [*lines, *online, said, "side = linear(said, [d])", "y = v"], "y", "side", given=given
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
            *block(
                "level layer every token",
                [
                    "memory W: [d, d] = random",
                    f"u = -{p.pick('', '0.5 * ')}grad(loss, h)",
                    "context x, u",
                    "minimize |W * x - u|^2 / 2",
                    f"W <- {move}",
                    *p.pick((), ("reset never",)),
                    "bptt none",
                ],
            ),
        ],
        whole="h",
        given=("loss",),
    )


@dataclass(frozen=True)
class TaskLevels:
    """Levels that learn from the task loss: the type of their memory F, its start and its
    update.
    """

    p: Page
    network: str
    start: str
    move: str

    def one(self, name: str, rate: str) -> list[str]:
        """A level by itself."""
        p = self.p
        resets: tuple[str, ...] = ("reset every 6 token",) if "phase" not in rate else ()
        return block(
            f"level {name} every {rate}",
            [
                f"memory F: {self.network} = {self.start}",
                f"context {p.context}",
                f"minimize {p.pick('mean', 'sum')}(loss over period)",
                f"F <- {self.move}",
                *p.pick((), (), (), resets, ("reset never",)),
                p.pick("bptt full", "bptt full by training", "bptt none"),
            ],
        )

    def nested(self) -> list[str]:
        """Two levels: the fast one starts at the value of the slow one."""
        p = self.p
        p.nested = True
        fast, up = p.pick(("2", "4"), ("1", "2"), ("2", "6"))
        body = [f"context {p.context}", "minimize mean(loss over period)", f"F <- {self.move}"]
        depth = p.pick("bptt full", "bptt full by training")
        reset = p.pick((), (f"reset every {up} token",), (f"reset every {up} token",))
        return [
            *block(
                f"level slow every {up} token",
                [f"memory F: {self.network} = {self.start}", *body, depth],
            ),
            *block(
                f"level fast every {fast} token",
                [f"memory F: {self.network} = slow.F", *body, *reset, "bptt full"],
            ),
        ]

    def applied(self, name: str, x: str) -> str:
        """The memory of a level, applied."""
        if "(" in self.network:
            return f"{name}.F({x})"
        return f"{name}.F {'*' if self.network == '[d, d]' else '.*'} {x}"


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
    levels = TaskLevels(p, network, start, move)
    given = (*p.data, "loss")
    if how == "nested":
        lines = [*levels.nested(), f"h = {levels.applied('fast', 'x')}"]
    elif how == "one":
        rate = p.pick("2 token", "3 token", "token", "2 token phase 1")
        lines = [*levels.one("fast", rate), f"h = {levels.applied('fast', 'x')}"]
    else:
        p.constants["spans"] = p.pick("[1, 2]", "[2, 3]", "[2, 6]")
        first, read = ("0 * x", "rmsnorm(x)") if how == "independent" else ("x", "rmsnorm(h)")
        said = levels.applied("fast[span]", read)
        if how == "independent":
            said = f"weight([], init = 1) * {said}"
        iteration = [*levels.one("fast[span]", "span token"), f"h <- h + {said}"]
        lines = [f"h = {first}", *block("for span in spans", iteration)]
    return Layer(lines, whole="h", given=given)


def stale_stream(p: Page) -> Layer:
    """A level that learns from the value of a stream at the last tick of a clock; before the first
    tick it has no data.
    """
    clock = p.clock()
    window = p.pick("", "", "sum({} over sequence)")
    goal = "|M * tanh(k) - v|^2 / 2"
    return Layer(
        [
            "k = linear(x, [e])",
            f"v = stop(k@{clock})",
            *block(
                "level recall every token",
                [
                    "memory M: [e, e] = learned",
                    "context k, v",
                    f"minimize {window.format(goal) if window else goal}",
                    f"M <- M - 0.05 * grad({p.pick('M', 'M@' + p.clock()) if not window else 'M'})",
                    "bptt full",
                ],
            ),
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
            *block(
                "level recall every sequence",
                [
                    "memory M: [e, e] = learned",
                    "context k, v",
                    f"minimize {p.pick('mean', 'sum')}(|M * k - v|^2 / 2 over period)",
                    "M <- M - 0.05 * grad(M)",
                    "reset never",
                    "bptt none",
                ],
            ),
            "y = recall.M * k + v",
        ],
        "y",
    )
