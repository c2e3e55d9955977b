"""Draws sequence layers on x: [d]: projections, one or several memories, and their reads."""

from __future__ import annotations

from nldsl.testing.levels import NETWORKS, learner
from nldsl.testing.moves import LevelData
from nldsl.testing.page import Layer, Page, block
from nldsl.testing.streams import gate, projection, stream, used


def level_data(p: Page, per: bool, lines: list[str], tag: str = "", source: str = "x") -> LevelData:
    """Declares the data of a level, made of a stream [d], and returns the names."""
    axes = "head, e" if per else "e"
    lines.append(f"k{tag} = {projection(p, axes, True, source)}")
    lines.append(f"v{tag} = {projection(p, axes, False, source)}")
    rate, keep = (
        p.pick("0.05", "0", "stream", "0.02", "stream"),
        p.pick("1", "0.9", "0", "stream", "stream"),
    )
    if p.edges:
        rate, keep = (
            p.pick(rate, "stream", "1e-30"),
            p.pick(keep, "stream", "stream", "(-0.5)", "(-1)", "1e-30"),
        )
    if rate == "stream":
        rate = f"rate{tag}"
        lines.append(f"{rate} = {gate(p, per, '0.05', '0', source)}")
    if keep == "stream":
        keep = f"keep{tag}"
        lines.append(f"{keep} = {gate(p, per, '1', '2', source)}")
    channel = weight = ""
    if p.maybe(3):
        channel = f"gains{tag}"
        lines.append(f"{channel} = sigmoid(linear({source}, [{axes}]) + 2)")
    if p.maybe(3):
        weight = f"worth{tag}"
        lines.append(f"{weight} = {gate(p, per, '1', '0', source)}")
    return LevelData(f"k{tag}", f"v{tag}", rate, keep, per, channel, weight)


def single(p: Page) -> Layer:
    """One memory that learns from projections."""
    lines: list[str] = []
    per = p.maybe(2)
    data = level_data(p, per, lines)
    lines.append(f"q = {projection(p, 'head, e' if per else 'e', True)}")
    level = learner(p, "recall", data)
    return Layer([*lines, *level.lines, f"y = {level.read(p, 'q')}"], "y")


def chain(p: Page) -> Layer:
    """One memory makes data of another: its key, its value, its rate or its gate."""
    p.nested = True
    lines: list[str] = []
    per = p.maybe(2)
    axes = "head, e" if per else "e"
    first = level_data(p, per, lines)
    lines.append(f"q = {projection(p, axes, True)}")
    level = learner(p, "maker", first)
    lines += [*level.lines, f"made = {level.read(p, 'q')}"]
    second = level_data(p, per, lines, "2")
    p.use("layers", "unit")
    role = p.pick("value", "key", "rate", "keep")
    if role == "key":
        lines.append("key = unit(made)")
    elif role != "value":
        peak, bias = ("0.05", "0") if role == "rate" else ("1", "2")
        lines.append(
            f"{'speed' if role == 'rate' else 'hold'} = {peak} * sigmoid(sum(weight([{axes}]) .* "
            f"made, e) + {bias})"
        )
    second = LevelData(
        "key" if role == "key" else second.k,
        "made" if role == "value" else second.v,
        "speed" if role == "rate" else second.rate,
        "hold" if role == "keep" else second.keep,
        per,
        second.channel,
        second.weight,
    )
    level = learner(p, "recall", second)
    return Layer([*lines, *level.lines, f"y = {level.read(p, 'q')}"], "y")


def self_modifying(p: Page) -> Layer:
    """Memories that make each other's keys and values; each is an instance of one definition that
    returns a memory.
    """
    p.nested = True
    clock = p.clock()
    far = p.pick(clock, p.clock())
    kind = p.pick("residual", "net", "matrix")
    name = referring_to_itself(p, kind, clock)

    def read(memory: str, at: str, x: str) -> str:
        return f"{memory}@{at} * {x}" if kind == "matrix" else f"{memory}@{at}({x})"

    out = [f"z = {projection(p, 'head, e', False)}", f"q = {projection(p, 'head, e', True)}"]
    names = ["M_k", "M_v", "M_mem"] if p.maybe(2) else ["M_k", "M_mem"]
    out += [f"{n} = {name}(k, v, rate, keep, {far if n == 'M_mem' else clock})" for n in names]
    out.append(f"k = unit({read('M_k', clock, 'z')})")
    out.append(
        f"v = unit({read('M_v', clock, 'z')})" if "M_v" in names else "v = linear(x, [head, e])"
    )
    out.append(f"rate = 0.05 * sigmoid(sum(weight([head, e]) .* {read('M_k', clock, 'z')}, e))")
    out.append(f"keep = {gate(p, True, '1', '3')}")
    out.append(f"y = {read('M_mem', far, 'q')}")
    return Layer(out, "y")


def referring_to_itself(p: Page, kind: str, clock: str) -> str:
    """Defines a memory that makes its own target as it was at a clock, and returns the name."""
    momentum = p.maybe(2)
    erase = "(keep * I - rate * k * k^T)"
    if kind == "matrix":
        memory, target, made = "[e, e]", "M@C * v", "M * k"
        writes = [f"M <- M * {erase} + S"]
    else:
        p.define(NETWORKS[kind].replace("ACT", p.pick("silu", "tanh")), movable=True)
        memory, target, made = kind, "M@C(v)", "M(k)"
        writes = [f"M.W2 <- M.W2 * {erase} + S.W2", "M.W1 <- keep * M.W1 + S.W1"]
    if momentum:
        p.use("optimizers", "momentum")
    lines = block(
        "level box per head every token",
        [
            f"memory M: {memory} = learned",
            "context k, v",
            f"target = {target}",
            f"minimize |{made} - target|^2 / 2",
            f"S = {'momentum(grad(M@C), rate, 0.5)' if momentum else '-rate * grad(M@C)'}",
            *writes,
            p.pick("bptt full", "bptt none", f"bptt 2 {clock}"),
        ],
    )
    name = p.fresh("self_referential")
    p.define("\n".join(block(f"def {name}(k, v, rate, keep, C)", [*lines, "return box.M"])))
    p.use("layers", "unit")
    return name


def several_steps(p: Page) -> Layer:
    """Several objectives and steps at one token."""
    p.dims.setdefault("sub", "2")
    p.use("layers", "unit")
    memory, value = p.pick(("[e, e]", "M * k[i]"), ("[e]", "M .* k[i]"))
    start = p.pick("0", "learned")
    return Layer(
        [
            "k = unit(linear(x, [head, sub, e]))",
            "v = linear(x, [head, sub, e])",
            "beta = 0.1 * sigmoid(affine(x, [head, sub]))",
            f"q = {projection(p, 'head, e', True)}",
            *block(
                "level recall per head every token",
                [
                    f"memory M: {memory} = {start}",
                    "context k, v",
                    *block(
                        "for i in range(sub)",
                        [f"minimize |{value} - v[i]|^2 / 2", "M <- M - beta[i] * grad(M)"],
                    ),
                    "bptt full",
                ],
            ),
            f"y = recall.M@after {'*' if ', ' in memory else '.*'} q",
        ],
        "y",
    )


def family(p: Page) -> Layer:
    """A family of levels, one for each of a list, with a projection memory beside; then their
    sum.
    """
    first, last = p.pick((1, 2), (2, 3), (2, 4))
    clock, iterations = "near = 2 token", "range(2)"
    if p.maybe(2):
        clock, iterations = "near = span token", "spans"
        p.constants["spans"] = f"[{first}, {last}]"
    p.use("layers", "unit")
    reset = p.pick((), (f"reset every {2 * first * last} token",))
    return Layer(
        [
            "q = unit(linear(x, [head, e]))",
            "k = unit(linear(x, [head, e]))",
            "v = linear(x, [head, e])",
            "rate = 0.05 * sigmoid(affine(x, [head]))",
            p.pick("y = 0 * v", "y: [head, e] = 0 * v"),
            *p.pick((), ("for i in range(0) { }",)),
            *block(
                f"for span in {iterations}",
                [
                    f"clock {clock}",
                    *block(
                        "level local[span] per head every token",
                        [
                            "memory W: [e, e] = learned",
                            "memory P: [e, e] = 0",
                            "context k, v",
                            "minimize |W * k - v|^2",
                            "P <- P + 0.1 * k * k^T",
                            "W <- W - rate * grad(W@near)",
                            *reset,
                            "bptt full",
                        ],
                    ),
                    "y <- y + local[span].W@after * (local[span].P@after * q)",
                ],
            ),
        ],
        "y",
    )


def inherited(p: Page) -> Layer:
    """A memory whose start is another memory."""
    p.nested = True
    p.use("layers", "unit")
    period = p.pick("2", "4")
    start = p.pick("slow.A", "slow.A", "0.5 * slow.A")
    return Layer(
        [
            "q = unit(linear(x, [e]))",
            "k = unit(linear(x, [e]))",
            "v = linear(x, [e])",
            *block(
                f"level slow every {period} token",
                [
                    "memory A: [e, e] = learned",
                    "context k, v",
                    "minimize mean(|A * k - v|^2 over period)",
                    "A <- A - 0.05 * grad(A)",
                    "bptt full",
                ],
            ),
            *block(
                "level quick every token",
                [
                    f"memory M: [e, e] = {start}",
                    "context k, v",
                    "minimize |M * k - v|^2 / 2",
                    "M <- M - 0.05 * grad(M)",
                    f"reset every {period} token",
                    "bptt full",
                ],
            ),
            "y = quick.M@after * q + slow.A * q",
        ],
        "y",
    )


def dual(p: Page) -> Layer:
    """Memories kept as a dual state, or on a simplex."""
    p.use("retention", "kl_step")
    p.use("layers", "unit")
    at = p.pick("W", "W@" + p.clock())
    if p.maybe(2):
        equations = [
            "memory A: [e, e] = learned",
            "memory W: [e, e] = lq_read(A, 4)",
            "context k, v",
            "minimize |W * k - v|_3 ^ 3 / 3",
            f"A <- 0.9 * A - 0.05 * grad({at})",
            "W <- lq_read(A, 4)",
        ]
    else:
        equations = [
            "memory W: [e, e] = softmax(learned)",
            "context k, v",
            "minimize |W * k - v|^2",
            f"W <- kl_step(W, grad({at}), 0.05, 0.9)",
        ]
    return Layer(
        [
            "q = unit(linear(x, [e]))",
            "k = unit(linear(x, [e]))",
            "v = linear(x, [e])",
            *block("level recall every token", [*equations, "bptt full"]),
            "y = recall.W@after * q",
        ],
        "y",
    )


def featured(p: Page) -> Layer:
    """Keys and queries by their products; recent tokens count, each by its own weight."""
    p.use("features", "polynomial")
    p.use("layers", "unit")
    p.dims["f"] = "e + e * e"
    p.define(
        "def lifted(z: [f]) -> [e] {\n    W0 = weight([e, f])\n    return W0 * z\n}", movable=True
    )
    kind, value = p.pick(("lifted", "M(k)"), ("[e, f]", "M * k"))
    at = p.pick("M", f"M@{p.clock()}")
    step = p.pick(
        f"M <- keep * M - 0.05 * grad({at})",
        f"M <- keep * M + 0.1 * newton_schulz(momentum(grad({at}), 1, 0.5), 2)",
    )
    if "momentum" in step:
        p.use("optimizers", "momentum")
    return Layer(
        [
            "a = weight([2], init = [1, 0.5])",
            "q: [head, f] = polynomial(unit(linear(x, [head, e])), a)",
            f"k: [head, f] = polynomial(unit({projection(p, 'head, e', False)}), a)",
            "v = linear(x, [head, e])",
            f"worth = {gate(p, True, '1', '0')}",
            f"keep = {gate(p, True, '1', '2')}",
            *block(
                "level recall per head every token",
                [
                    f"memory M: {kind} = learned",
                    "context k, v, worth",
                    f"minimize {p.pick('sum', 'mean')}(worth * |{value} - v|^2 over {p.span()})",
                    step,
                    p.pick("bptt full", "bptt none"),
                ],
            ),
            f"y = recall.M@after{'(q)' if kind == 'lifted' else ' * q'}",
        ],
        "y",
    )


SIDES = ("stream", "pairs", "attention", "attention", "shapes", "table", "table by index", "always")


def beside(p: Page) -> Layer:
    """A memory beside attention, a window of the stream itself, or its shapes turned over."""
    layer = p.pick(single, chain)(p)
    side = p.pick(*SIDES)
    lines: list[str] = []
    if side == "stream":
        value = used(p, stream(p, "d", depth=2))
    elif side == "pairs":
        p.dims.setdefault("sub", "2")
        lines = ["P = weight([sub, d])", "K = weight([head, e, d])", "V = weight([head, e, d])"]
        pairs = f"K * P -> V * P, K * x -> V * x over {p.span()}"
        value = f"linear(attend(linear(x, [head, e]), {pairs}), [d])"
    elif side == "attention":
        p.use("layers", "attention")
        value = p.pick(
            f"attention(x, head, {'2' if p.dims['e'] not in ('2', '4') else 'e'}, 3)",
            "persistent_attention(x, head, e, 2, 3)",
        )
    elif side == "shapes":
        lines = [
            "pile: [2, d] = stack(x, tanh(x))",
            "tip = flat(shaped(matrix(pile, d), pile))",
            "many = join(flat(x * pile[1]^T), pile[0], where(x <= 9, x, 0 * x), "
            "min(max(x, -9), 9))",
        ]
        value = "linear(many, [d]) + linear(tip, [d]) * pile[0][0]"
    elif side == "table":
        lines = [
            "heights = [1, 2, 3][floor(3 / 2)] * where(1 == 1, 1, 2) * mean(x) + <x, x> / (1 + |x|)"
        ]
        value = "heights * x"
    else:
        value = called(p, side)
    return Layer([*layer.lines, *lines, f"side = {value}"], "y", "side")


def called(p: Page, side: str) -> str:
    """A call of definitions that take no stream, or an array of three axes."""
    if side == "always":
        p.define(
            p.pick("def bias() -> [d] = weight([d])", "def bias() {\n    return weight([d])\n}"),
            movable=True,
        )
        p.define("def scaled(u: [d], gain: [] = 0.5) -> [d] = gain * u", movable=True)
        return p.pick("scaled(bias())", "scaled(x + bias(), gain = 0.1)")
    p.define("def cube(u: [d]) -> [d, d, 2] {\n    return linear(u, [d, d, 2])\n}", movable=True)
    p.define("def folded(u: [d, d, 2]) -> [d] = mean(sum(u, 2), d) + sum(u[0], 2)", movable=True)
    return "folded(cube(x))"


def closed(p: Page) -> Layer:
    """An exact step towards the minimiser."""
    p.use("layers", "unit")
    memory, value = p.pick(("[e, e]", "M * k"), ("[e]", "M"))
    eta = p.pick("0.5", "rate")
    rate = ["rate = sigmoid(affine(x, [head]))"] if eta == "rate" else []
    return Layer(
        [
            "q = unit(linear(x, [head, e]))",
            *(["k = unit(linear(x, [head, e]))"] if "k" in value else []),
            "v = linear(x, [head, e])",
            *rate,
            *block(
                "level recall per head every token",
                [
                    f"memory M: {memory} = {p.pick('0', 'learned')}",
                    f"context {'k, v' if 'k' in value else 'v'}",
                    f"minimize |{value} - v|^2 / 2",
                    f"M <- prox(M, {eta})",
                    "bptt full",
                ],
            ),
            f"y = recall.M@after {'*' if 'k' in value else '.*'} q",
        ],
        "y",
    )
