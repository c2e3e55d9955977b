"""Draws what a sequence layer does with x: [d]: projections, one or several memories, and how they are read."""
from __future__ import annotations

from nldsl.testing.levels import NETWORKS, Told, learner
from nldsl.testing.page import Page, indent


def projection(p: Page, axes: str, unit: bool) -> str:
    even = p.dims["e"] in ("2", "4")
    forms = ["linear(x, [{}])", "conv(linear(x, [{}]), 2)", "tanh(linear(x, [{}]))", "project(x, [{}])", "affine(x, [{}])",
             "softmax(linear(x, [{}]))", "stop(linear(x, [{}]))", "standardise(linear(x, [{}]))", "cos(linear(x, [{}]))",
             "log(1 + exp(linear(x, [{}])))", "sqrt(1 + linear(x, [{}]) .^ 2)", "linear(x, [{}]) ./ (1 + abs(linear(x, [{}])))",
             "linear(x, [{}]) + 0.1 * sign(linear(x, [{}]))"] + (["rope(linear(x, [{}]))"] if even else [])
    text = p.pick(*forms).replace("{}", axes)
    for name in ("project", "standardise"):
        if name in text:
            p.use("layers", name)
    if unit:
        p.use("layers", "unit")
        return f"unit({text})"
    return text


def gate(p: Page, per: bool, peak: str, bias: str) -> str:
    axes = "head" if per else ""
    return p.pick(f"{peak} * sigmoid(affine(x, [{axes}]) + {bias})", f"{peak} * sigmoid(weight([{axes}], init = {bias}))",
                  f"{peak} * sigmoid(linear(tanh(linear(x, [3])), [{axes}]))")


def told(p: Page, per: bool, lines: list[str], tag: str = "", source: str = "x") -> Told:
    """Declares what a level is told, and returns the names."""
    axes = "head, e" if per else "e"
    if p.dims.get("sub") is None and per and p.maybe(12):
        p.dims["sub"] = "2"
    lines.append(f"k{tag} = {projection(p, axes, True).replace('(x', f'({source}')}")
    lines.append(f"v{tag} = {projection(p, axes, False).replace('(x', f'({source}')}")
    rate, keep = p.pick("0.05", "0", "stream", "0.02", "stream"), p.pick("1", "0.9", "0", "stream", "stream")
    if rate == "stream":
        rate = f"rate{tag}"
        lines.append(f"{rate} = {gate(p, per, '0.05', '0')}")
    if keep == "stream":
        keep = f"keep{tag}"
        lines.append(f"{keep} = {gate(p, per, '1', '2')}")
    channel = ""
    if p.maybe(3):
        channel = f"gains{tag}"
        lines.append(f"{channel} = sigmoid(linear({source}, [{axes}]) + 2)")
    return Told(f"k{tag}", f"v{tag}", rate, keep, per, channel)


def single(p: Page) -> tuple[list[str], str]:
    """One memory, told by projections."""
    lines: list[str] = []
    per = p.maybe(2)
    data = told(p, per, lines)
    lines.append(f"q = {projection(p, 'head, e' if per else 'e', True)}")
    level, read = learner(p, "recall", data)
    return [*lines, *level, f"y = {read('q')}"], "y"


def chain(p: Page) -> tuple[list[str], str]:
    """One memory makes what another is told: its key, its value, its rate or its gate."""
    p.nested = True
    lines: list[str] = []
    per = p.maybe(2)
    axes = "head, e" if per else "e"
    first = told(p, per, lines)
    lines.append(f"q = {projection(p, axes, True)}")
    level, read = learner(p, "maker", first)
    lines += [*level, f"made = {read('q')}"]
    second = told(p, per, lines, "2")
    p.use("layers", "unit")
    role = p.pick("value", "key", "rate", "keep")
    if role == "key":
        lines.append("key = unit(made)")
    elif role != "value":
        peak, bias = ("0.05", "0") if role == "rate" else ("1", "2")
        lines.append(f"{'speed' if role == 'rate' else 'hold'} = {peak} * sigmoid(sum(weight([{axes}]) .* made, e) + {bias})")
    second = Told("key" if role == "key" else second.k, "made" if role == "value" else second.v, "speed" if role == "rate" else second.rate,
                  "hold" if role == "keep" else second.keep, per, second.channel)
    level, read = learner(p, "recall", second)
    return [*lines, *level, f"y = {read('q')}"], "y"


def self_modifying(p: Page) -> tuple[list[str], str]:
    """Memories that make each other's keys and values, as in Hope; each is an instance of one definition that returns a memory."""
    p.nested = True
    clock = p.clock()
    far = p.pick(clock, p.clock())
    network = p.pick("residual", "net", "matrix")
    momentum = p.maybe(2)
    slope = "grad(M@C)"
    lines = ["level box per head every token {"]
    if network == "matrix":
        body = ["memory M: [e, e] = learned", "context k, v", "target = M@C * v", "minimize |M * k - target|^2 / 2"]
        writes = ["M <- M * (keep * I - rate * k * k^T) + S"]
    else:
        if not any(f"def {network}(" in d for d in p.defs):
            p.define(NETWORKS[network].replace("ACT", p.pick("silu", "tanh")))
        body = [f"memory M: {network} = learned", "context k, v", "target = M@C(v)", "minimize |M(k) - target|^2 / 2"]
        writes = ["M.W2 <- M.W2 * (keep * I - rate * k * k^T) + S.W2", "M.W1 <- keep * M.W1 + S.W1"]
    if momentum:
        p.use("optimizers", "momentum")
    made = f"momentum({slope}, rate, 0.5)" if momentum else f"-rate * {slope}"
    lines += indent([*body, f"S = {made}", *writes, p.pick("bptt full", "bptt none", f"bptt 2 {clock}")]) + ["}", "return box.M"]
    name = p.fresh("self_referential")
    p.define(f"def {name}(k, v, rate, keep, C) {{\n" + "\n".join(indent(lines)) + "\n}")
    p.use("layers", "unit")

    def read(memory: str, at: str, x: str) -> str:
        return f"{memory}@{at} * {x}" if network == "matrix" else f"{memory}@{at}({x})"
    out = [f"z = {projection(p, 'head, e', False)}", f"q = {projection(p, 'head, e', True)}"]
    names = ["M_k", "M_v", "M_mem"] if p.maybe(2) else ["M_k", "M_mem"]
    out += [f"{n} = {name}(k, v, rate, keep, {far if n == 'M_mem' else clock})" for n in names]
    out.append(f"k = unit({read('M_k', clock, 'z')})")
    out.append(f"v = unit({read('M_v', clock, 'z')})" if "M_v" in names else "v = linear(x, [head, e])")
    out.append(f"rate = 0.05 * sigmoid(sum(weight([head, e]) .* {read('M_k', clock, 'z')}, e))")
    out.append(f"keep = {gate(p, True, '1', '3')}")
    out.append(f"y = {read('M_mem', far, 'q')}")
    return out, "y"


def several_steps(p: Page) -> tuple[list[str], str]:
    """Several objectives and steps at one token."""
    p.dims.setdefault("sub", "2")
    p.use("layers", "unit")
    memory, value = p.pick(("[e, e]", "M * k[i]"), ("[e]", "M .* k[i]"))
    start = p.pick("0", "learned")
    return ["k = unit(linear(x, [head, sub, e]))", "v = linear(x, [head, sub, e])", "beta = 0.1 * sigmoid(affine(x, [head, sub]))",
            f"q = {projection(p, 'head, e', True)}",
            "level recall per head every token {", *indent([
                f"memory M: {memory} = {start}", "context k, v", "for i in range(sub) {",
                *indent([f"minimize |{value} - v[i]|^2 / 2", "M <- M - beta[i] * grad(M)"]), "}", "bptt full"]), "}",
            f"y = recall.M@now {'*' if ', ' in memory else '.*'} q"], "y"


def family(p: Page) -> tuple[list[str], str]:
    """A family of levels, one for each of a list, with a projection memory beside; then their sum."""
    first, last = p.pick((1, 2), (2, 3), (2, 4))
    over = p.pick("list", "range")
    clock = "near = span token" if over == "list" else "near = 2 token"
    turns = "spans" if over == "list" else "range(2)"
    if over == "list":
        p.constants["spans"] = f"[{first}, {last}]"
    else:
        clock = "near = 2 token"
    p.use("layers", "unit")
    reset = p.pick("", f"reset every {2 * first * last} token")
    return ["q = unit(linear(x, [head, e]))", "k = unit(linear(x, [head, e]))", "v = linear(x, [head, e])",
            "rate = 0.05 * sigmoid(affine(x, [head]))", "y = 0 * v", f"for span in {turns} {{", *indent([
                f"clock {clock}", "level local[span] per head every token {", *indent([
                    "memory W: [e, e] = learned", "memory P: [e, e] = 0", "context k, v", "minimize |W * k - v|^2",
                    "P <- P + 0.1 * k * k^T", "W <- W - rate * grad(W@near)", *([reset] if reset else []), "bptt full"]), "}",
                "y <- y + local[span].W@now * (local[span].P@now * q)"]), "}"], "y"


def inherited(p: Page) -> tuple[list[str], str]:
    """A memory whose start is another memory, one that is a function of another, and a simplex."""
    p.nested = True
    p.use("layers", "unit")
    period = p.pick("2", "4")
    return ["q = unit(linear(x, [e]))", "k = unit(linear(x, [e]))", "v = linear(x, [e])",
            f"level slow every {period} token {{", *indent([
                "memory A: [e, e] = learned", "context k, v", "minimize mean(|A * k - v|^2 over period)", "A <- A - 0.05 * grad(A)", "bptt full"]), "}",
            "level quick every token {", *indent([
                "memory M: [e, e] = slow.A", "context k, v", "minimize |M * k - v|^2 / 2", "M <- M - 0.05 * grad(M)",
                f"reset every {period} token", "bptt full"]), "}",
            "y = quick.M@now * q + slow.A * q"], "y"


def dual(p: Page) -> tuple[list[str], str]:
    """Memories kept as a dual state, or on a simplex."""
    p.use("retention", "kl_step")
    p.use("layers", "unit")
    if p.maybe(2):
        return ["q = unit(linear(x, [e]))", "k = unit(linear(x, [e]))", "v = linear(x, [e])", "level recall every token {", *indent([
            "memory A: [e, e] = learned", "memory W: [e, e] = lq_read(A, 4)", "context k, v", "minimize |W * k - v|_3 ^ 3 / 3",
            f"A <- 0.9 * A - 0.05 * grad({p.pick('W', 'W@' + p.clock())})", "W <- lq_read(A, 4)", "bptt full"]), "}", "y = recall.W@now * q"], "y"
    return ["q = unit(linear(x, [e]))", "k = unit(linear(x, [e]))", "v = linear(x, [e])", "level recall every token {", *indent([
        "memory W: [e, e] = softmax(learned)", "context k, v", "minimize |W * k - v|^2",
        f"W <- kl_step(W, grad({p.pick('W', 'W@' + p.clock())}), 0.05, 0.9)", "bptt full"]), "}", "y = recall.W@now * q"], "y"


def beside(p: Page) -> tuple[list[str], str]:
    """A memory beside attention or a window of the stream itself."""
    lines, y = p.pick(single, chain)(p)
    side = p.pick("mean(x over 3 token)", "sum(x over CLOCK)", "attend(a, b -> w over 3 token)", "attend(a, b -> w over sequence)", "attend(a, P -> P)",
                  "attention(x, head, 2, 3)", "shapes", "table")
    side = side.replace("CLOCK", p.clock()) if "CLOCK" in side else side
    if side.startswith("attend("):
        lines += ["a = linear(x, [d])", "b = linear(x, [d])", "w = linear(x, [d])"]
        if " P " in side:
            lines.append("P = weight([sub, d])")
            p.dims.setdefault("sub", "2")
        lines = [line for line in lines if " P " in side or not line.startswith("P =")]
    elif side.startswith("attention"):
        p.use("layers", "attention")
    elif side == "shapes":
        lines += ["pile: [2, d] = stack(x, tanh(x))", "many = x", "tip = flat(pile)"]
        side = "linear(many, [d]) + linear(tip, [d]) * pile[0][0]"
        lines[-2] = "many = join(flat(x * pile[1]^T), pile[0], where(x <= 9, x, 0 * x), min(max(x, -9), 9))"
    elif side == "table":
        lines.append("heights = [1, 2, 3][floor(3 / 2)] * where(1 == 1, 1, 2) * mean(x) + <x, x> / (1 + |x|)")
        side = "heights * x"
    return [*lines, f"side = {side}"], f"{y}|side"


def surprised(p: Page) -> tuple[list[str], str]:
    """A layer that learns from the task loss's own signal at its output."""
    return ["h = layer.W * x", "level layer every token {", *indent([
        "memory W: [d, d] = random", "u = -grad(loss, h)", "context x, u", "minimize |W * x - u|^2 / 2", "W <- W - 0.05 * grad(W)",
        *p.pick((), ("reset never",)), "bptt none"]), "}"], "h|loss"


def tasked(p: Page) -> tuple[list[str], str]:
    """A level of the token clock that learns from the task loss."""
    p.use("layers", "swiglu")
    return [f"level fast every {p.pick('2', '3')} token {{", *indent([
        "memory F: swiglu([d], hidden = 2 * d) = learned", "context DATA", f"minimize {p.pick('mean', 'sum')}(loss over period)", "F <- F - 0.05 * grad(F)",
        p.pick("bptt full", "bptt full to training", "bptt none")]), "}", "h = fast.F(x)"], "h|loss"


def closed(p: Page) -> tuple[list[str], str]:
    """An exact step towards the minimiser."""
    p.use("layers", "unit")
    memory, value = p.pick(("[e, e]", "M * k"), ("[e]", "M"))
    eta = p.pick("0.5", "rate")
    rate = ["rate = sigmoid(affine(x, [head]))"] if eta == "rate" else []
    return ["q = unit(linear(x, [head, e]))", *(["k = unit(linear(x, [head, e]))"] if "k" in value else []), "v = linear(x, [head, e])", *rate,
            "level recall per head every token {", *indent([
                f"memory M: {memory} = {p.pick('0', 'learned')}", f"context {'k, v' if 'k' in value else 'v'}", f"minimize |{value} - v|^2 / 2",
                f"M <- prox(M, {eta})", "bptt full"]), "}", f"y = recall.M@now {'*' if 'k' in value else '.*'} q"], "y"


def stale_stream(p: Page) -> tuple[list[str], str]:
    """A level that learns from what a stream was when a clock last ticked; before that there is nothing to learn from."""
    clock = p.clock()
    return ["k = linear(x, [e])", f"v = stop(k@{clock})", "level recall every token {", *indent([
        "memory M: [e, e] = learned", "context k, v", "minimize |M * tanh(k) - v|^2 / 2", "M <- M - 0.05 * grad(M)", "bptt full"]), "}",
        "y = recall.M * tanh(k)"], "y"


KINDS = (single, single, single, chain, chain, self_modifying, several_steps, family, inherited, dual, beside, beside, closed, stale_stream, surprised, tasked)
