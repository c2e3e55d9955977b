"""Programs at random: whole texts that the language accepts, small and stable, for tests by
properties.

    from hypothesis import given
    from nldsl.testing import programs

    @given(programs())
    def test_mine(drawn):    # it has text, batch, length, seed and constructs
        program = drawn.program()

A failing program shrinks to fewer and simpler statements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from nldsl.core.program import ENDS, Program
from nldsl.diagnostic import Diagnostics
from nldsl.pipeline import load_text
from nldsl.step.loading import Files, sized
from nldsl.testing import mixers, recurrences
from nldsl.testing.constructs import constructs
from nldsl.testing.page import Choose, Layer, Page, block
from nldsl.testing.training import SLOW, shared, training

Kind = Callable[[Page], Layer]
PLAIN: tuple[Kind, ...] = (
    mixers.single,
    mixers.single,
    mixers.single,
    mixers.chain,
    mixers.chain,
    mixers.self_modifying,
    mixers.several_steps,
    mixers.family,
    mixers.inherited,
    mixers.dual,
    mixers.beside,
    mixers.beside,
    mixers.featured,
    mixers.closed,
    recurrences.looped,
    recurrences.looped,
    recurrences.stale_stream,
    recurrences.begun,
)
ONWARD: tuple[Kind, ...] = (
    *PLAIN,
    recurrences.foreseeing,
    recurrences.surprised,
)  # nothing of the task loss comes back
KINDS: tuple[Kind, ...] = (
    *PLAIN,
    recurrences.foreseeing,
    recurrences.surprised,
    recurrences.tasked,
    recurrences.tasked,
)

# what is drawn again: what has a meaning and no lowering, a learner left without a gradient
AGAIN = ("N505", "N511", "N801")
SHARED = 4  # one of so many programs is trained by workers, if it can be
EDGES = (0.0, 0.0, 1.0, -1.0, 1e-30, -1e-160)


@dataclass(frozen=True)
class Drawn:
    """A program and how much data to run it on: `batch` sequences of `length` tokens, random by
    `seed`.

    `files` are the names and texts of the files that it imports; `nested`: one memory makes data of
    another; `edges`: numbers that are exactly 0, 1 or -1, or tiny, are among the data.
    """

    text: str
    batch: int
    length: int
    seed: int
    files: tuple[tuple[str, str], ...] = ()
    nested: bool = False
    edges: bool = False

    @cached_property
    def constructs(self) -> frozenset[str]:
        """The constructs of the language in it, in the words of `ALL`; `X, nested` too if it is
        nested.
        """
        found = constructs(*self.texts())
        return found | {f"{name}, nested" for name in found} if self.nested else found

    def program(self) -> Program:
        """The checked program, the same at each call.

        Raises Diagnostics if the text is refused, which no drawn text is.
        """
        return self._checked

    @cached_property
    def _checked(self) -> Program:
        with TemporaryDirectory() as folder:
            for name, text in self.files:
                (Path(folder) / name).write_text(text, encoding="utf-8")
            return load_text(self.text, "drawn.nl", search=[Path(folder)])

    @cached_property
    def lowered(self) -> bool:
        """Is it none of the limits of `nldsl.rules.limits`?"""
        try:
            self.program()
        except Diagnostics as error:
            return any(d.code not in AGAIN for d in error.diagnostics if d.severity == "error")
        return True

    def weights(self, program: Program) -> Files:
        """The files that the program loads: normal numbers, small enough to be weights."""
        generator = torch.Generator().manual_seed(self.seed)
        found: dict[str, dict[str, Tensor]] = {}
        for file, name, sizes in sized(program):
            found.setdefault(file, {})[name] = 0.5 * torch.randn(
                sizes, generator=generator, dtype=torch.float64
            )
        return found

    def texts(self) -> list[str]:
        """The program's own files."""
        return [self.text, *(text for _, text in self.files)]

    def batches(self, program: Program, count: int) -> list[dict[str, Tensor]]:
        """`count` different batches of `data`."""
        return [
            data(program, self.batch, self.length, self.seed + i, self.edges) for i in range(count)
        ]

    def __repr__(self) -> str:
        files = "".join(f"\n--- {name}\n{text}" for name, text in self.files)
        return f"batch {self.batch}, length {self.length}, seed {self.seed}\n{self.text}{files}"


def data(
    program: Program, batch: int, length: int, seed: int, edges: bool = False
) -> dict[str, Tensor]:
    """A batch of random inputs of the program, [batch, length, ..] each: integers below the
    vocabulary, or normal numbers in float64; with the ends of documents, if it counts them.
    `edges`: of the numbers, a third is one of `EDGES`, and some tokens are all 0.
    """
    generator = torch.Generator().manual_seed(seed)
    ends = (
        {ENDS: torch.rand(batch, length, generator=torch.Generator().manual_seed(seed + 1)) < 0.25}
        if program.counts(ENDS)
        else {}
    )
    found = {
        name: torch.randint(program.vocab[name], (batch, length), generator=generator)
        if name in program.vocab
        else torch.randn(
            batch, length, *(a.size for a in node.shape), dtype=torch.float64, generator=generator
        )
        for name, node in program.inputs.items()
    }
    if edges:
        found = {
            name: edged(x, generator) if x.is_floating_point() else x for name, x in found.items()
        }
    return found | ends


def edged(x: Tensor, generator: torch.Generator) -> Tensor:
    choice = torch.tensor(EDGES, dtype=x.dtype)[
        torch.randint(len(EDGES), x.shape, generator=generator)
    ]
    mixed = torch.where(torch.rand(x.shape, generator=generator) < 1 / 3, choice, x)
    empty = torch.rand(x.shape[:2], generator=generator) < 1 / 6
    return torch.where(empty.reshape(*empty.shape, *[1] * (x.dim() - 2)), 0.0, mixed)


@st.composite
def programs(
    draw: Callable[[st.SearchStrategy[int]], int],
    kinds: Sequence[Kind] = KINDS,
    edges: bool = False,
) -> Drawn:
    """Valid programs that are lowered; any other draw is repeated.

    `kinds` narrows their layers: functions of `nldsl.testing.mixers` and
    `nldsl.testing.recurrences`.
    """
    drawn = written(lambda n: draw(st.integers(0, n - 1)), kinds, edges)
    assume(drawn.lowered)
    return drawn


def sample(
    count: int, seed: int, kinds: Sequence[Kind] = KINDS, edges: bool = False
) -> list[Drawn]:
    """`count` different programs without Hypothesis, all lowered: each alternative as likely as the
    next. The same for the same `seed`.
    """
    random = Random(seed)
    found: dict[str, Drawn] = {}
    while len(found) < count:
        drawn = written(random.randrange, kinds, edges)
        if drawn.lowered:
            found.setdefault(drawn.text, drawn)
    return list(found.values())


def written(choose: Choose, kinds: Sequence[Kind], edges: bool = False) -> Drawn:
    """The program that a sequence of choices makes."""
    p = Page(choose, edges=edges)
    p.dims = {"d": str(p.pick(2, 3, 4)), "head": str(p.pick(2, 1, 3)), "e": str(p.pick(2, 3, 1))}
    form = p.pick("words", "numbers", "words", "numbers", "both")
    p.language, p.both = form != "numbers", form == "both"
    if p.language:
        p.dims["vocab"] = str(p.pick(3, 5))
    if form != "words":
        p.dims["c"] = str(p.pick(2, 3, 1))
    p.apart = p.maybe(4)
    layer = p.pick(*kinds)(p)
    slow = (
        p.pick(None, None, None, p.pick(*SLOW))
        if not edges and (kinds is KINDS or p.maybe(2))
        else None
    )
    wants_loss = "loss" in layer.given or slow is not None
    frame = (
        p.pick("flat", "def", "layers", "argument", "library")
        if not wants_loss and not layer.given
        else p.pick("flat", "def", "layers", "def")
    )
    local_clock = any(line.strip().startswith("clock ") for line in layer.lines)
    frame = (
        "def"
        if frame == "flat" and (local_clock or slow) or frame == "library" and not p.language
        else frame
    )
    out = result(p, layer)
    if frame == "flat":
        text = [f"x = {embedded(p)}", *layer.lines, f"out = {out}"]
        last, whole = "x + out", ""
    else:
        text, last, whole = network_around(p, layer, out, slow, frame, wants_loss)
    text += task_loss(p, last)
    learner = training(p, whole)
    batch, length, seed = 1 + choose(3), 1 + choose(9), choose(100)
    if seed % SHARED == 0 and not any("document" in line for line in [*p.head(), *text]):
        learner = shared(p, learner, batch)
    program = "\n".join([*p.head(), *text, *learner]) + "\n"
    return Drawn(program, batch, length, seed, p.files(), p.nested, edges)


def network_around(
    p: Page,
    layer: Layer,
    out: str,
    slow: Callable[[Page], str] | None,
    frame: str,
    wants_loss: bool,
) -> tuple[list[str], str, str]:
    """The layer as a definition and a network around it: lines of the file, the network's value,
    and the definition that it is.
    """
    p.use("layers", "rmsnorm")
    extra = "".join(f", {name}" for name in layer.given)
    p.define("\n".join(block(f"def mix(x: [d]{extra}) -> [d]", [*layer.lines, f"return {out}"])))
    iteration = [f"x <- x + mix(rmsnorm(x){extra})"]
    if p.maybe(4):
        p.nested = True
        other = p.pick(*PLAIN)(p)
        body = [*other.lines, f"return {result(p, other)}"]
        p.define("\n".join(block("def blend(x: [d]) -> [d]", body)))
        iteration.append("x <- x + blend(rmsnorm(x))")
    if slow is not None:
        p.define(slow(p))
        iteration.append(f"x <- continuum(x, {p.context})")
    if frame == "library":
        p.use("layers", "language_model")
        p.both = False
        p.dims.pop("c", None)
        return ["answer = language_model(ids, mix, d, 1, vocab)"], "", ""
    if frame == "argument":
        return network_that_takes_it(p)
    many = p.pick(1, 2) if frame == "layers" else 0
    p.parts = ["whole.x", "whole.layer[0].rmsnorm"] if many else ["whole.x"]
    p.nested = p.nested or many == 2
    body = [
        f"x = {embedded(p)}",
        *(block(f"for layer in range({many})", iteration) if many else iteration),
        "return x",
    ]
    arguments = ", ".join([*p.data, *(["loss"] if wants_loss else [])])
    p.define("\n".join(block(f"def model({arguments}) -> [d]", body)))
    return [f"whole = model({arguments})"], p.pick("whole", "rmsnorm(whole)"), "whole"


def network_that_takes_it(p: Page) -> tuple[list[str], str, str]:
    """A network that takes the layer's definition as an argument."""
    body = [
        f"x = {embedded(p, 'source')}",
        "for layer in range(depth) { x <- x + mixer(rmsnorm(x)) }",
        "return x",
    ]
    p.define("\n".join(block("def tower(source, mixer, depth = 1)", body)))
    p.both = False
    depth = p.pick("", ", depth = 2")
    p.nested = p.nested or bool(depth)
    return [f"whole = tower({p.data[0]}, mix{depth})"], "whole", "whole"


def embedded(p: Page, source: str = "") -> str:
    if source:
        return f"embed({source}, [d])" if p.language else f"linear({source}, [d])"
    found = "embed(ids, [d])" if p.language else "linear(signal, [d])"
    return (
        p.pick(f"{found} + linear(signal, [d])", "weight([vocab, d])[ids] + linear(signal, [d])")
        if p.both
        else found
    )


def result(p: Page, layer: Layer) -> str:
    if layer.whole:
        return layer.whole
    p.use("layers", "rmsnorm")
    first = p.pick("linear(y, [d])", "linear(rmsnorm(y), [d])", "linear(y .* sigmoid(y), [d])")
    return f"{first} + {layer.side}" if layer.side else first


def task_loss(p: Page, last: str) -> list[str]:
    """The task loss, and the report, if there is one."""
    lines = [f"answer = linear({last}, [{'vocab' if p.language else 'c'}])"] if last else []
    if p.language:
        lines += [
            p.pick(
                "loss = cross_entropy(answer, next(ids))",
                "loss = cross_entropy(answer, next(ids))",
                "loss = cross_entropy(answer, next(ids)) + 0.01 * |answer|^2",
            )
        ]
        return [
            *lines,
            *p.pick([], [], [], ["report cross_entropy(answer, next(ids))"], ["report |answer|^2"]),
        ]
    lines += [
        p.pick(
            "loss = |answer - next(signal)|^2 / 2",
            "loss = sqrt(1 + |answer - next(signal)|^2)",
            "loss = mean((answer - next(signal)) .^ 2)",
        )
    ]
    return [*lines, *p.pick([], [], [], ["report |answer - next(signal)|^2"], ["report 2 * loss"])]


CORNER = """nldsl 1
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
y = recall.M@after(q)
loss = cross_entropy(linear(linear(y, [d]) + x, [vocab]), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}
"""


def corners() -> list[Drawn]:
    """Gates at 0 and 1, a sequence of one token, one shorter than a chunk, one sequence alone."""
    gates = ("sigmoid(affine(rmsnorm(x), [head]))", "0.05 * sigmoid(affine(rmsnorm(x), [head]))")
    choices = [
        ("0", "1", 2, 9),
        ("0.05", "0", 2, 9),
        ("0.05", "1", 1, 9),
        (gates[1], gates[0], 2, 1),
        (gates[1], gates[0], 3, 3),
        (gates[1], gates[0], 1, 8),
    ]
    return [
        Drawn(CORNER.replace("RATE", rate).replace("KEEP", keep), batch, length, 0)
        for rate, keep, batch, length in choices
    ]
