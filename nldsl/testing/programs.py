"""Programs at random: whole texts that the language accepts, small and stable, for tests by properties.

    from hypothesis import given
    from nldsl.testing import programs

    @given(programs())
    def test_mine(drawn):                  # drawn.text, drawn.batch, drawn.length, drawn.seed, drawn.constructs
        program = load_text(drawn.text)

A failing program shrinks to fewer and simpler statements.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import torch
from hypothesis import strategies as st
from torch import Tensor

from nldsl.graph.equations import Program
from nldsl.testing.constructs import constructs
from nldsl.testing.mixers import KINDS, surprised, tasked
from nldsl.testing.page import Choose, Page, indent

Kind = Callable[[Page], tuple[list[str], str]]


@dataclass(frozen=True)
class Drawn:
    """`constructs` names what of the language occurs in the text; `X, nested` if one memory makes what another is told."""

    text: str
    batch: int
    length: int
    seed: int
    constructs: frozenset[str] = field(repr=False, compare=False)

    def batches(self, program: Program, count: int) -> list[dict[str, Tensor]]:
        return [data(program, self.batch, self.length, self.seed + i) for i in range(count)]

    def __repr__(self) -> str:
        return f"batch {self.batch}, length {self.length}, seed {self.seed}\n{self.text}"


def data(program: Program, batch: int, length: int, seed: int) -> dict[str, Tensor]:
    """A batch of random inputs of the program: integers below the vocabulary, or normal numbers in float64."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randint(program.vocab[name], (batch, length), generator=generator) if name in program.vocab else
            torch.randn(batch, length, *(a.size for a in node.type), dtype=torch.float64, generator=generator)
            for name, node in program.inputs.items()}


def optimizer(p: Page, memory: str, objective_scale: str = "") -> list[str]:
    slope = f"grad({memory})"
    if p.maybe(4):
        slope = f"{p.use('optimizers', 'clip')}({slope}, 1)"
    how = p.pick("gd", "adamw", "sgd", "momentum", "nesterov", "adam", "adagrad", "cosine", "twice")
    if how == "gd":
        return [f"{memory} <- {memory} - 0.05 * {slope}"]
    if how == "twice":
        return [f"{memory} <- {memory} - 0.05 * {slope}", f"{memory} <- 0.99 * {memory}"]
    p.use("optimizers", how)
    return [f"{memory} <- {memory} + " + {
        "adamw": f"adamw({memory}, {slope}, lr = 0.01, decay = 0.1, eps = 0.01)", "sgd": f"sgd({slope}, 0.05)", "momentum": f"momentum({slope}, 0.05, 0.9)",
        "nesterov": f"nesterov({slope}, 0.05, 0.5)", "adam": f"0.01 * adam({slope}, eps = 0.01)", "adagrad": f"adagrad({slope}, 0.05, 0.1)",
        "cosine": f"adamw({memory}, {slope}, cosine(0.01, 0.02), 0.1, eps = 0.01)"}[how]]


def continuum(p: Page, source: str) -> list[str]:
    """A chain of networks on the step clock."""
    p.constants["periods"] = p.pick("[1, 2]", "[1, 3]", "[2, 4]", "[1]")
    p.use("layers", "swiglu")
    p.use("layers", "rmsnorm")
    body = ["for p in periods {", *indent(["level ffn[p] every p step {", *indent([
        f"memory F: swiglu([d], hidden = 2 * d) = {p.pick('random', 'random', '0.1 * random')}", f"context {source}",
        f"minimize {p.pick('mean', 'sum')}(loss over period)", *optimizer(p, "F"), p.pick("bptt none", "bptt full")]), "}",
        "x <- x + ffn[p].F(rmsnorm(x))"]), "}", "return x"]
    return [f"def continuum(x: [d], {source}, loss) -> [d] {{", *indent(body), "}"]


def nest(p: Page, source: str) -> list[str]:
    """Two step clocks, the slower of which learns where the faster starts."""
    p.use("layers", "swiglu")
    p.use("layers", "rmsnorm")
    body = ["level origin every 4 step {", *indent(["memory S: swiglu([d], hidden = d) = random", f"context {source}", "minimize mean(loss over period)",
                                                    "S <- S - 0.05 * grad(S)", "bptt none"]), "}",
            "level ffn every 2 step {", *indent(["memory F: swiglu([d], hidden = d) = origin.S", f"context {source}", "minimize mean(loss over period)",
                                                 "F <- F - 0.05 * stop(grad(F))", "reset every 4 step", "bptt full to origin"]), "}",
            "return x + ffn.F(rmsnorm(x))"]
    return [f"def continuum(x: [d], {source}, loss) -> [d] {{", *indent(body), "}"]


@st.composite
def programs(draw: Callable[[st.SearchStrategy[int]], int], kinds: Sequence[Kind] = KINDS) -> Drawn:
    """Valid programs. `kinds` narrows what their layers are; see `nldsl.testing.mixers`."""
    return written(lambda n: draw(st.integers(0, n - 1)), kinds)


def sample(count: int, seed: int, kinds: Sequence[Kind] = KINDS) -> list[Drawn]:
    """Different programs without Hypothesis: each alternative as likely as the next."""
    random, found = Random(seed), {}
    while len(found) < count:
        drawn = written(random.randrange, kinds)
        found.setdefault(drawn.text, drawn)
    return list(found.values())


def written(choose: Choose, kinds: Sequence[Kind]) -> Drawn:
    p = Page(choose)
    p.dims = {"d": str(p.size(2, 3, 4)), "head": str(p.size(2, 1, 3)), "e": str(p.size(2, 3, 1))}
    language = p.maybe(2)
    source = "ids" if language else "signal"
    if language:
        p.dims["vocab"] = str(p.size(3, 5))
    else:
        p.dims["c"] = str(p.size(2, 3, 1))
    kind = p.pick(*kinds)
    lines, made = kind(p)
    lines = [line.replace("DATA", source) for line in lines]
    slow = p.pick("", "", "", "continuum", "nest")
    local_clock = any(line.strip().startswith("clock ") for line in lines)
    wants_loss = made.endswith("loss") or bool(slow)
    names = made.split("|")
    axes = "e" if names[0] != "y" else None
    out = result(p, names)
    flat = p.pick("flat", "def", "layers", "argument") if not wants_loss else p.pick("def", "layers")
    if local_clock:
        flat = "def" if flat == "flat" else flat
    p.use("layers", "rmsnorm") if flat != "flat" else None
    arguments = f"{source}, loss" if wants_loss else source
    text: list[str] = []
    if flat == "flat":
        text = [f"x = {embedded(source, language)}", *lines, f"out = {out}"]
        last = "x + out"
    else:
        extra = f", {source}, loss" if made.endswith("loss") else ""
        p.define("\n".join([f"def mix(x: [d]{extra}) -> [d] {{", *indent([*lines, f"return {out}"]), "}"]))
        if slow:
            p.define("\n".join((continuum if slow == "continuum" else nest)(p, source)))
        turn = [f"x <- x + mix(rmsnorm(x){extra})"]
        if p.maybe(4):
            p.nested = True
            second, made = p.pick(*[k for k in KINDS if k not in (surprised, tasked)])(p)
            p.define("\n".join(["def blend(x: [d]) -> [d] {", *indent([*second, f"return {result(p, made.split('|'))}"]), "}"]))
            turn.append("x <- x + blend(rmsnorm(x))")
        turn += [f"x <- continuum(x, {source}, loss)"] if slow else []
        if flat == "argument":
            p.define("def tower(source, mixer, depth = 1) {\n" + "\n".join(indent([
                f"x = {embedded('source', language)}", "for layer in range(depth) { x <- x + mixer(rmsnorm(x)) }", "return x"])) + "\n}")
            depth = p.pick("", ", depth = 2")
            p.nested = p.nested or bool(depth)
            text = [f"whole = tower({source}, mix{depth})"]
        else:
            many = p.pick(1, 2) if flat == "layers" else 0
            p.nested = p.nested or many == 2
            body = [f"x = {embedded(source, language)}", *(["for layer in range(%d) {" % many, *indent(turn), "}"] if many else turn), "return x"]
            p.define(f"def model({arguments}) -> [d] {{\n" + "\n".join(indent(body)) + "\n}")
            text = [f"whole = model({arguments})"]
        last = p.pick("whole", "rmsnorm(whole)")
    size = "vocab" if language else "c"
    text.append(f"answer = linear({last}, [{size}])")
    text.append("loss = cross_entropy(answer, next(ids))" if language else p.pick(
        "loss = |answer - next(signal)|^2 / 2", "loss = sqrt(1 + |answer - next(signal)|^2)", "loss = mean((answer - next(signal)) .^ 2)"))
    text += training(p, source, flat != "flat")
    head = p.head("input ids: index(vocab)" if language else "input signal: [c]")
    program = "\n".join([*head, *text]) + "\n"
    found = constructs(program)
    if p.nested:
        found |= {f"{name}, nested" for name in found}
    return Drawn(program, 1 + choose(3), 1 + choose(9), choose(100), found)


def corners() -> list[Drawn]:
    """Gates at 0 and 1, a sequence of one token, one shorter than a chunk, one sequence alone."""
    text = """nldsl 1
import layers, optimizers
dim d = 3, head = 2, e = 2, vocab = 3
rate = RATE
keep = KEEP
clock chunk = 4 token
input ids: index(vocab)
def net(z: [e]) -> [e] {
    W2 = weight([2 * e, e])
    W1 = weight([e, 2 * e])
    return W1 * silu(W2 * z)
}
x = embed(ids, [d])
q = unit(linear(rmsnorm(x), [head, e]))
k = unit(linear(rmsnorm(x), [head, e]))
v = linear(rmsnorm(x), [head, e])
level recall per head every token {
    memory M: net = learned
    context k, v
    minimize |M(k) - v|^2 / 2
    S = momentum(grad(M@chunk), rate, 0.5)
    M <- keep * M + S
    bptt full
}
y = recall.M@now(q)
loss = cross_entropy(linear(linear(y, [d]) + x, [vocab]), next(ids))
level training every step {
    memory W: rest = random
    context ids
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}
"""
    gates = ("sigmoid(affine(rmsnorm(x), [head]))", "0.05 * sigmoid(affine(rmsnorm(x), [head]))")
    choices = [("0", "1", 2, 9), ("0.05", "0", 2, 9), ("0.05", "1", 1, 9), (gates[1], gates[0], 2, 1), (gates[1], gates[0], 3, 3), (gates[1], gates[0], 1, 8)]
    return [Drawn(found, batch, length, 0, constructs(found)) for rate, keep, batch, length in choices
            for found in [text.replace("RATE", rate).replace("KEEP", keep)]]


def embedded(source: str, language: bool) -> str:
    return f"embed({source}, [d])" if language else f"linear({source}, [d])"


def result(p: Page, names: list[str]) -> str:
    if names[0] == "h":
        return "h"
    p.use("layers", "rmsnorm")
    first = p.pick("linear(y, [d])", "linear(rmsnorm(y), [d])", "linear(y .* sigmoid(y), [d])")
    return f"{first} + {names[1]}" if len(names) > 1 else first


def training(p: Page, source: str, whole: bool) -> list[str]:
    lines = []
    rate = p.pick("step", "step", "step", "2 step", "step phase 1", "3 step")
    of = "rest"
    if whole and p.maybe(6):
        of = "rest of whole"
        lines += p.pick(["level frozen never { memory W: rest = random }"],
                        ["level heads every 2 step {", *indent(["memory W: rest = random", f"context {source}", "minimize mean(loss over period)",
                                                                  "W <- W - 0.05 * grad(W)"]), "}"])
    how = p.pick("mean", "mean", "sum")
    scale = p.pick("", "", "0.5 * ")
    decay = p.pick("", "", " + 0.01 * |W|^2")
    return [f"level training every {rate} {{", *indent([f"memory W: {of} = random", f"context {source}", f"minimize {scale}{how}(loss over period){decay}",
                                                      *optimizer(p, "W")]), "}", *lines]
