"""Levels per worker: each lane of a step reads its worker's entry, and what the workers have in
common is made at ticks alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from family import EXAMPLES
from offenders import codes
from references import network
from references.optimizers import cosine
from torch import Tensor

from nldsl import api
from nldsl.core.program import Program, Weight
from nldsl.diagnostic import Diagnostics
from nldsl.oracle.interpreter import Oracle
from nldsl.pipeline import compile_program, load_text
from nldsl.step.state import State
from nldsl.testing import laws
from nldsl.testing.captures import traced_once

ROUND, WORKERS, LANES, TOKENS = 3, 2, 4, 7
SIZES = {"d": 8, "head": 2, "vocab": 5, "depth": 1, "worker": WORKERS, "round": ROUND}
NETWORK = partial(network.bare, window=64)
STEPS = 3 * ROUND + 1


def text(name: str) -> str:
    return (EXAMPLES / f"{name}.nl").read_text(encoding="utf-8")


@cache
def example(name: str) -> laws.Subject:
    return laws.Subject(load_text(text(name), f"{name}.nl", {k: str(v) for k, v in SIZES.items()}))


def tokens(step: int) -> Tensor:
    return torch.randint(5, (LANES, TOKENS), generator=torch.Generator().manual_seed(step))


# ---- the examples are loops over workers


class Worker:
    """One of several that train a network apart, as torch would write it."""

    def __init__(self, shared: dict[str, Tensor], adam: bool) -> None:
        self.w = {name: x.detach().clone().requires_grad_() for name, x in shared.items()}
        self.adam = adam
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.AdamW(self.w.values(), weight_decay=0.1)
            if adam
            else torch.optim.SGD(self.w.values(), lr=0.2)
        )

    def learn(self, ids: Tensor, step: int) -> Tensor:
        losses = NETWORK(self.w, ids)
        self.optimizer.zero_grad()
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(self.w.values(), 1.0)
        if self.adam:
            self.optimizer.param_groups[0]["lr"] = cosine(step)
        self.optimizer.step()
        return losses.detach()

    def begin(self, shared: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, x in self.w.items():
                x.copy_(shared[name])


class Loop:
    """Workers that take a round of steps apart; `meet` is what they make of it together."""

    def __init__(self, shared: dict[str, Tensor], name: str, workers: int = WORKERS) -> None:
        self.shared = {n: x.detach().clone().requires_grad_() for n, x in shared.items()}
        self.workers = [Worker(self.shared, name == "diloco") for _ in range(workers)]
        self.outer = torch.optim.SGD(self.shared.values(), lr=0.7, momentum=0.9, nesterov=True)
        self.meet = self.descend if name == "diloco" else self.average

    def mean(self, name: str) -> Tensor:
        return torch.stack([worker.w[name].detach() for worker in self.workers]).mean(0)

    def descend(self) -> None:
        for name, x in self.shared.items():
            x.grad = x.detach() - self.mean(name)
        self.outer.step()

    def average(self) -> None:
        with torch.no_grad():
            for name, x in self.shared.items():
                x.copy_(self.mean(name))

    def step(self, ids: Tensor, step: int) -> Tensor:
        shares = ids.chunk(len(self.workers))
        losses = [w.learn(own, step) for w, own in zip(self.workers, shares, strict=True)]
        if step % ROUND == 0:
            self.meet()
            for worker in self.workers:
                worker.begin(self.shared)
        return torch.cat(losses).mean()


def entry(name: str) -> str:
    return f"local.W.{name}"


def owned(program: Program) -> list[Weight]:
    return list(program.weights.values())


@pytest.mark.parametrize("name", ["diloco", "local_sgd"])
def test_an_example_is_a_loop_over_workers(name: str) -> None:
    """Losses, what each worker holds and what they share, over three rounds and a step."""
    made = example(name).restart()
    names = [weight.name for weight in owned(made.program)]
    loop = Loop({n: made.state.views[n] for n in names}, name)
    moved = 0.0
    for step in range(1, STEPS + 1):
        before = {n: made.state.views[n].clone() for n in names}
        wanted = loop.step(tokens(step), step)
        found = made.step(made.state, [{"ids": tokens(step)}])
        assert laws.deviation(found["loss"], wanted) <= laws.EXACT, step
        for n in names:
            held = torch.stack([worker.w[n] for worker in loop.workers])
            assert laws.deviation(made.state.views[entry(n)], held) <= laws.EXACT, (step, n)
            assert laws.deviation(made.state.views[n], loop.shared[n]) <= laws.EXACT, (step, n)
            if step % ROUND:
                assert not torch.equal(held[0], held[1]) and torch.equal(
                    before[n], made.state.views[n]
                )
            moved = max(moved, float((made.state.views[n] - before[n]).detach().abs().max()))
    assert moved > 1e-3
    made.restart()


@pytest.mark.parametrize("name", ["diloco", "local_sgd"])
def test_an_example_in_the_interpreter_is_a_loop_over_workers(name: str) -> None:
    oracle = Oracle(example(name).program)
    loop = Loop(oracle.weights, name)
    for step in range(1, STEPS + 1):
        wanted = loop.step(tokens(step), step)
        found = oracle.step({"ids": tokens(step)})[0]["loss"]
        assert isinstance(found, Tensor)
        assert laws.deviation(found.mean(), wanted) <= laws.EXACT, step
        held = oracle.memories["local.W"]
        assert isinstance(held, dict)
        for n, x in held.items():
            apart = torch.stack([worker.w[n] for worker in loop.workers])
            assert laws.deviation(x, apart) <= laws.EXACT, (step, n)
            assert laws.deviation(oracle.weights[n], loop.shared[n]) <= laws.EXACT, (step, n)


# ---- the step is what the interpreter says


HEAD = """nldsl 1
dim worker = 2
dim c = 3
input x: [c]
"""
MODEL = """
w = weight([c, c])
b = weight([c], init = [0.1, 0, 0])
y = w * x + b
loss = |tanh(y) - next(x)|^2 / 2
"""
LOCAL = """
level local per worker every step {
    memory W: weights = outer.S
    context x
    minimize mean(loss over period)
    W <- W - 0.3 * grad(W)
    reset W every 3 step
}
"""
OUTER = """
level outer every 3 step {
    memory S: weights
    S <- S - 0.5 * mean(S - local.W@after, worker)
}
"""
# what else a text may say of workers
TEXTS = {
    "two": MODEL + LOCAL + OUTER,
    # steps of a period are gathered apart, and an optimizer restarts or goes on
    "gathered": "import optimizers"
    + MODEL
    + LOCAL.replace("every step", "every 2 step")
    .replace("mean(loss", "sum(loss")
    .replace("0.3 * grad(W)", "0.1 * grad(W) + momentum(grad(W), 0.1, 0.5)")
    .replace("reset W every 3", "reset every 4")
    + OUTER.replace("every 3", "every 4"),
    "kept": "import optimizers"
    + MODEL
    + LOCAL.replace("W - 0.3 * grad(W)", "W + adamw(W, clip(grad(W), 0.1), 0.1 / tick, 0.1)")
    + OUTER.replace(
        "S - 0.5 * mean(S - local.W@after, worker)", "0.1 * S + sum(local.W@after, worker)"
    ),
    # an objective that is no number times a mean, and a number for each worker
    "root": MODEL
    + LOCAL.replace("mean(loss over period)", "sqrt(mean(loss over period)) + R * |W|^2")
    .replace("    context", "    memory R: [] = 0.1\n    context")
    .replace("    W <-", "    R <- 0.9 * R + 0.01 * mean(sum(x) over period)\n    W <-")
    + OUTER,
    # one level hears all lanes, another those of each worker
    "shared": MODEL.replace("y = w * x + b", "y = w * (x + all.V * x) + b")
    + LOCAL
    + OUTER
    + """
level all every 2 step {
    memory V: [c, c] = 0
    memory N: [] = 0
    context x
    minimize mean(loss over period)
    V <- V - 0.2 * grad(V)
    N <- sum(|x|^2 over period) + mean(local.W@after.b .* local.W@after.b, worker)[0]
}
seen = all.N * x
""",
    # a memory that learns at each token starts where its worker's weights are
    "within": """
k = weight([c, c]) * x
loss = |recall.M@after * k - next(x)|^2 / 2 + |weight([c], init = 1) .* x - next(x)|^2 / 8
level recall every token {
    memory M: [c, c] = learned
    context k, x
    minimize |M * k - x|^2 / 2
    M <- 0.9 * M - 0.1 * grad(M)
    bptt full
}
"""
    + LOCAL
    + OUTER,
    # what is drawn for each worker, at the start and again; means of means over them, and slopes
    "drawn": MODEL
    + LOCAL.replace("    context", "    memory N: [c] = random\n    context")
    .replace("    W <-", "    N <- N / 2 + mean(x over period)\n    W <-")
    .replace("reset W every", "reset every")
    + OUTER
    + """
level met every 2 step {
    memory C: [c] = 1
    memory V: [] = 0
    context x
    minimize sum(mean((C - local.N@after) .^ 2, worker)) + sum(sum(C - local.N@after, worker)) \
        + mean(sum(C .* x) over period)
    C <- C - 0.1 * grad(C)
    V <- sum(mean((local.N@after - mean(local.N@after, worker)) .^ 2, worker)) + worker
}
seen = met.C .* x + met.V * x
""",
    # one that goes on in its lane
    "carried": """
k = weight([c, c]) * x
loss = |recall.M * k - next(x)|^2 / 2 + |weight([c], init = 1) .* x - next(x)|^2 / 8
level recall every token {
    memory M: [c, c] = 0
    context k, x
    minimize |M * k - x|^2 / 2
    M <- 0.9 * M - 0.1 * grad(M)
    bptt full
    reset never
}
"""
    + LOCAL
    + OUTER,
    # the loss of the whole network trains a memory while it is read
    "online": """
z = x + fast.F * x
loss = |weight([c, c]) * tanh(z) - next(x)|^2 / 2 + |weight([c], init = 1) .* x|^2 / 8
level fast every 2 token {
    memory F: [c, c] = learned
    context x
    minimize sum(loss over period)
    F <- F - 0.1 * grad(F)
    bptt full
}
"""
    + LOCAL
    + OUTER,
}


@cache
def subject(name: str) -> laws.Subject:
    return laws.Subject(load_text(HEAD + TEXTS[name]))


def numbers(count: int) -> list[laws.Batch]:
    generator = torch.Generator().manual_seed(7)
    return [
        {"x": torch.randn(LANES, 6, 3, dtype=torch.float64, generator=generator)}
        for _ in range(count)
    ]


@pytest.mark.parametrize("name", TEXTS)
def test_a_step_is_what_the_interpreter_says(name: str) -> None:
    """Streams, states, gradients, and everything that is kept after each of seven steps."""
    found = laws.agreement(subject(name), numbers(7))
    assert not laws.beyond(found)
    assert any(n.startswith("step 7 local.W") for n in found)
    assert any(n.startswith("gradient local.W") for n in found) or name == "root"


@pytest.mark.parametrize("name", TEXTS)
def test_losses_are_what_the_interpreter_says(name: str) -> None:
    made, oracle = subject(name).restart(), Oracle(subject(name).program)
    for batch in numbers(4):
        found, wanted = made.step(made.state, [batch])["loss"], oracle.step(batch)[0]["loss"]
        assert isinstance(wanted, Tensor)
        assert laws.deviation(found, wanted.mean()) <= laws.EXACT


@pytest.mark.parametrize("name", ["two", "gathered", "carried"])
def test_micro_batches_are_divided_each(name: str) -> None:
    """The lanes of a worker are the same part of every micro-batch."""
    made, oracle = subject(name).restart(), Oracle(subject(name).program)
    batches = numbers(8)
    for i in range(0, 8, 2):
        made.step(made.state, batches[i : i + 2])
        oracle.step(batches[i : i + 2])
        for memory, value in oracle.memories.items():
            held = made.state.tensors[memory].reshape(-1)
            assert laws.deviation(held, laws.flat(value)) <= laws.EXACT, memory


@pytest.mark.parametrize("name", ["two", "within", "online"])
def test_streams_keep_the_laws(name: str) -> None:
    batch = numbers(1)[0]
    assert laws.causality(subject(name), batch, 3) == 0.0
    assert laws.independence(subject(name), batch) == 0.0
    assert laws.stillness(subject(name), numbers(6))[1] == 0.0


# ---- apart until they meet


def after(made: laws.Subject, batches: list[laws.Batch]) -> State:
    made.restart()
    for batch in batches:
        made.step(made.state, [batch])
    return made.state


def entries(made: laws.Subject, batches: list[laws.Batch], worker: int) -> list[Tensor]:
    """What one worker holds, and its optimizer."""
    state, program = after(made, batches), made.program
    found = []
    for memory in program.memories.values():
        level = program.level(memory.name)
        if level.per is None or level.per.name != "worker":
            continue
        at, whole = 0, state.tensors[memory.name].reshape(-1)
        shapes = memory.type.leaves if hasattr(memory.type, "leaves") else [("", memory.type)]
        for _, shape in shapes:
            size = math.prod(axis.size for axis in shape)
            found.append(whole[at : at + size].view(WORKERS, -1)[worker].clone())
            at += size
    return found


def elsewhere(batch: laws.Batch, worker: int) -> laws.Batch:
    """The same batch, but for the lanes of one worker."""
    found = {name: x.clone() for name, x in batch.items()}
    for x in found.values():
        own = x.chunk(WORKERS)[worker]
        own.copy_(own.flip(1))
    return found


@pytest.mark.parametrize("name", ["two", "kept", "root", "within", "online"])
def test_workers_do_not_meet_before_a_tick(name: str) -> None:
    made, batches = subject(name), numbers(4)
    others = [elsewhere(batch, 1) for batch in batches]
    for steps, same in ((1, True), (2, True), (4, False)):
        one = entries(made, batches[:steps], 0)
        two = entries(made, others[:steps], 0)
        assert all(map(torch.equal, one, two)) == same, steps
        own = entries(made, batches[:steps], 1), entries(made, others[:steps], 1)
        assert not all(map(torch.equal, *own)), steps
    made.restart()


@pytest.mark.parametrize("name", ["diloco", "local_sgd"])
def test_they_meet_once_a_round(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that have the axis of the workers lose it in the means of the ticks of a round, each
    weight once, and nowhere else.
    """
    made = example(name).restart()
    met: list[int] = []
    mean = made.step.module["mean_of_workers"]

    def counted(x: Tensor, axis: int) -> Tensor:
        assert x.shape[axis] == WORKERS
        met.append(x.numel() // WORKERS)
        found: Tensor = mean(x, axis)
        return found

    monkeypatch.setitem(made.step.module, "mean_of_workers", counted)
    numel = sum(math.prod(a.size for a in w.shape) for w in owned(made.program))
    for step in range(1, 2 * ROUND + 1):
        met.clear()
        made.step(made.state, [{"ids": tokens(step)}])
        assert sum(met) == (numel if step % ROUND == 0 else 0), step
    made.restart()


def test_what_is_read_outside_a_step_is_what_they_share() -> None:
    """A module, its parameters and what is exported: no entry of a worker among them."""
    made = example("diloco").restart()
    for step in range(1, ROUND + 2):
        made.step(made.state, [{"ids": tokens(step)}])
    net = api.Program(made.program).module(made.state, "loss")
    shared = {weight.name for weight in owned(made.program)}
    assert {*dict(net.named_parameters())} == shared
    assert all(x.requires_grad for x in net.parameters())
    wanted = NETWORK({n: made.state.views[n] for n in shared}, tokens(9))
    assert laws.deviation(net(tokens(9)), wanted) <= laws.EXACT
    made.restart()


# ---- captures


@pytest.mark.parametrize("capture", ["split", "whole"])
def test_a_step_is_traced_whole(capture: str) -> None:
    made = subject("kept")
    assert traced_once(made.step, capture, numbers(4)) <= laws.EXACT


@pytest.mark.soak
@pytest.mark.parametrize("capture", ["split", "whole"])
@pytest.mark.parametrize("name", ["diloco", "local_sgd"])
def test_a_compiled_step_is_the_same(name: str, capture: str) -> None:
    made = example(name).restart()
    step = compile_program(made.program, precision="float64", capture=capture)
    state = step.init(0)
    for n in range(1, 2 * ROUND + 2):
        batch = {"ids": tokens(n)}
        found, wanted = step(state, [batch]), made.step(made.state, [batch])
        assert laws.deviation(found["loss"], wanted["loss"]) <= laws.EXACT
    for tensor, x in made.state.tensors.items():
        assert laws.deviation(state.tensors[tensor], x) <= laws.EXACT, tensor
    made.restart()


def test_an_emitted_file_steps_as_the_compiled_step() -> None:
    made = subject("carried").restart()
    module: dict[str, Callable[..., dict[str, Tensor]]] = {}
    exec(compile(made.step.source, "<step>", "exec"), module)
    state = module["init"](0, torch.float64)
    for batch in numbers(4):
        found = module["step"](state, batch)
        wanted = made.step(made.state, [batch])
        assert laws.deviation(found["loss"], wanted["loss"]) <= laws.EXACT
    for name, x in made.state.tensors.items():
        assert laws.deviation(state["S"][name], x) <= laws.EXACT, name
    with pytest.raises(ValueError, match="3 sequences, which 2 workers cannot share alike"):
        module["step"](state, {"x": torch.zeros(3, 6, 3, dtype=torch.float64)})
    made.restart()


# ---- what is refused


def test_a_batch_is_shared_alike() -> None:
    made = subject("two").restart()
    with pytest.raises(Diagnostics) as found:
        made.step(made.state, [{"x": torch.zeros(3, 6, 3, dtype=torch.float64)}])
    assert [d.code for d in found.value.diagnostics] == ["N760"]
    assert "3 sequences, which 2 workers cannot share alike" in str(found.value)


# an equation of the outer level, or more of the text -> what is said
ACROSS = {
    "S - 0.5 * mean(S - local.W@after, worker)": [],
    "S - 0.5 * sum(S - local.W@after, worker)": [],
    "S - 0.1 * |S - local.W@after|": ["N411"],
    "S - 0.1 * sum(S - local.W@after)": ["N411"],
    "S - 0.1 * (local.W@after.b[1][0])": ["N411"],
    "S - 0.1 * sum(softmax(local.W@after.b, worker), worker)[0]": ["N411"],
    "S - 0.1 * sum(max(local.W@after.b, 0), worker)[0]": [],
    "S - 0.1 * mean(|w|^2 over period)": ["N411"],
}


@pytest.mark.parametrize("equation", ACROSS)
def test_a_read_across_workers_is_a_sum_or_a_mean(equation: str) -> None:
    said = OUTER.replace("S - 0.5 * mean(S - local.W@after, worker)", equation)
    assert codes(HEAD + MODEL + LOCAL + said) == ACROSS[equation]


BESIDE = {
    "drift = mean(outer.S.b - local.W@after.b, worker)": [],
    "drift = mean(local.W.b, worker) .* x": ["N411"],
    "drift = local.W.b[0] .* x": ["N411"],
    "level sums per worker every token { memory M: [] = 0  M <- M + 1 }\nu = sum(sums.M)": ["N411"],
    "input u: [worker]": ["N411"],
    "level rate per worker every step { memory R: [] = 0  R <- mean(sum(x) over period) }"
    "\nlevel both every step { memory R: [] = 0  R <- mean(rate.R@after, worker) }"
    "\nu = both.R * x": [],
}


@pytest.mark.parametrize("more", BESIDE)
def test_no_stream_reads_across_workers(more: str) -> None:
    assert codes(HEAD + MODEL + LOCAL + OUTER + more) == BESIDE[more]


def test_an_axis_of_that_name_is_an_axis_where_no_level_is_per_worker() -> None:
    body = (
        "y = sum(sums.M@after)\nlevel sums per worker every token { memory M: [] = 0  M <- M + 1 }"
    )
    assert codes(HEAD + body) == []


OF_ARRAYS = """nldsl 1
dim worker = 2, c = 3
input x: [c]
w = weight([c], init = 0)
loss = |w - x|^2
level local WHOSE {
    memory W: weights START
    context x
    minimize mean(loss over period) + OBJECTIVE
    W <- W - 0.1 * grad(W)
    RESET
}
"""
GATHERED = """level outer every 4 step {
    memory S: weights
    S <- mean(local.W@after, worker)
}
"""
APART = {"WHOSE": "per worker every step", "START": "= outer.S", "RESET": "reset W every 4 step"}
ALONE = {"WHOSE": "every 2 step", "START": "", "RESET": ""}


@pytest.mark.parametrize("how", [APART, ALONE])
@pytest.mark.parametrize(
    "objective", ["sum(mean(w .* x over period))", "2 * mean(mean(w .* w .* x over period)) / 3"]
)
def test_a_mean_of_arrays_is_learned_from(objective: str, how: dict[str, str]) -> None:
    """All numbers of an array weigh alike in the objective, with workers and without."""
    spec = (OF_ARRAYS + GATHERED * (how is APART)).replace("OBJECTIVE", objective)
    for word, said in how.items():
        spec = spec.replace(word, said)
    program = load_text(spec if how is APART else spec.replace("worker = 2, ", ""), "spec.nl")
    step, oracle = compile_program(program, precision="float64", capture="eager"), Oracle(program)
    state, draw = step.init(0), torch.Generator().manual_seed(0)
    for _ in range(5):
        batch = {"x": torch.randn(4, 3, 3, generator=draw, dtype=torch.float64)}
        step(state, [batch])
        oracle.step(batch)
        for memory, value in oracle.memories.items():
            held = state.tensors[memory].reshape(-1)
            assert laws.deviation(held, laws.flat(value)) <= laws.EXACT, memory
    assert float(state.tensors["local.W"].abs().max()) > 1e-3
