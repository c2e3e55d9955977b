"""Memories that stay on the chip through all pieces: the kernels are run by Triton's interpreter,
in float32, and held to the interpreter of the language; they are assembled for a GPU too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec

import family
import pytest
import torch
from decays import DECAYS, FORMS, batches, text
from torch import Tensor

from nldsl.core.program import Program
from nldsl.pipeline import compile_program, load_text
from nldsl.schedule.plan import plan
from nldsl.step.compile import CompiledStep
from nldsl.step.emit import Emitter
from nldsl.step.kernels.statements import Whole
from nldsl.step.kernels.tiles import Unfit, piece
from nldsl.step.module import in_precision
from nldsl.step.runtime import recurrence
from nldsl.testing import laws
from nldsl.train.bench import random_batch

torch.set_num_threads(1)
INSTALL = "needs Triton: pip install 'nldsl[target]'"
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason=INSTALL)
CLOSE = 1e-5  # float32, the interpreter in float64
MATRICES = ["outer products, channels", "the delta rule", "momentum under a decay"]
SYSTEMS = ["deltanet", "gla"]
SLOWER = ["titans", "gated_deltanet", "hgrn2", "longhorn", "oja", "titans_mag"]
REGION = "loss.layer[0].mixer.recall"


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr("nldsl.schedule.plan.FREE_CHUNK", 4)
    monkeypatch.setattr("nldsl.step.regions.NARROW", 4)
    yield


def stepped(program: Program) -> CompiledStep:
    return compile_program(
        program, precision="float32", capture="eager", at_once=True, kernels=True
    )


def subject_of(program: Program) -> laws.Subject:
    """Its streams come from kernels, as its step does."""
    from nldsl.step.kernels.rolling import on_chip, rolled

    found = laws.Subject(program, step=stepped(program))
    emitted, module = Emitter(plan(program, found.streams)).emit(), found.module
    source = in_precision(emitted, "float32")
    distinct = {one.function: one for one in emitted.recurrences.values()}
    made = on_chip(source, [*distinct.values()], emitted.apart)
    wholes = {name: x for name, x in made.items() if isinstance(x, Whole)}
    for one in wholes.values():
        exec(compile(one.text, "<kernels>", "exec"), module)
    of = {module[name]: (x, module[x.name]) for name, x in wholes.items()}
    module["scan_chunks"] = rolled(module["scan_chunks"], of)
    return found


def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that run."""
    from nldsl.step.kernels import operator

    names, launch = list[str](), operator.launch

    def heard(source: operator.Source, tensors: list[Tensor], *numbers: int) -> None:
        names.append(source.name)
        launch(source, tensors, *numbers)

    monkeypatch.setattr(operator, "launch", heard)
    return names


def agrees(subject: laws.Subject, data: list[dict[str, Tensor]]) -> None:
    found = laws.agreement(subject, data)
    assert not laws.beyond(found, CLOSE)
    assert sum(name.startswith("gradient ") for name in found) >= 3


# -- against the interpreter of the language


@pytest.mark.parametrize("form", MATRICES)
def test_decays_of_any_size_and_sign(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two whole pieces of four tokens, and a rest of one; values, states, slopes."""
    axes = FORMS[form][0]
    subject, names = subject_of(load_text(text(form))), launched(monkeypatch)
    agrees(subject, batches(axes, DECAYS["zero, tiny, negative and more than one"])[:1])
    assert {*names} == {"forward", "backward"}


@pytest.mark.parametrize("name", SYSTEMS)
def test_systems_agree_with_the_interpreter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = family.program(name)
    subject, names = subject_of(program), launched(monkeypatch)
    (one,) = {x.chunk for x in subject.step.emitted.recurrences.values()}
    agrees(subject, [random_batch(program, 2, one + 3, "cpu")])
    assert {*names} == {"forward", "backward"}


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "sizes", "room"),
    [
        ("hope", {"d": 4, "near": 4, "span": 4, "periods": "[1]"}, 1024),
        ("titans", {"d": 8, "chunk": 4}, 512),  # less of it is rounding than at 4
    ],
)
def test_memories_that_programs_share_agree_with_the_interpreter(
    name: str, sizes: dict[str, object], room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two whole pieces of four tokens and a rest of one, two programs for each head."""
    monkeypatch.setattr("nldsl.step.kernels.source.ROOM", room)
    monkeypatch.setattr("nldsl.step.kernels.source.SHARE", room)
    program = family.tiny(name, head=1, vocab=8, depth=1, **sizes)
    subject, names = subject_of(program), launched(monkeypatch)
    ways = {*map(subject.step.lowering, subject.step.emitted.recurrences)}
    assert any(how.endswith(", 2 programs share a head's memories") for how in ways)
    agrees(subject, [random_batch(program, 2, 9, "cpu")])
    assert {"forward_1", "forward_2", "backward_1", "backward_2"} <= {*names}


@pytest.mark.parametrize("form", ["momentum under a decay"])
def test_memories_are_carried_in_and_out(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sequence cut at every token: pieces before, whole ones and a rest."""
    subject, names = subject_of(load_text(text(form))), launched(monkeypatch)
    batch = batches(FORMS[form][0], DECAYS["negative"])[1]
    single = {n: x.float() if x.is_floating_point() else x for n, x in batch.items()}
    assert laws.splits(subject, single) <= CLOSE
    assert {*names} == {"forward"}


# -- against the torch form


def trained(step: CompiledStep, length: int) -> dict[str, Tensor]:
    state = step.init(0)
    batch = random_batch(step.program, 2, length, "cpu")
    losses = [step(state, [batch])["loss"] for _ in range(2)]
    return {"losses": torch.stack(losses), **state.tensors}


@pytest.mark.parametrize(
    "name",
    [
        "linear_attention",
        *(pytest.param(name, marks=pytest.mark.soak) for name in SLOWER),
    ],
)
def test_a_step_is_that_of_the_torch_form(name: str) -> None:
    program = family.program(name)
    step = stepped(program)
    length = 2 * max(x.chunk for x in step.emitted.recurrences.values())
    plain = compile_program(program, precision="float32", capture="eager")
    for found, wanted in zip(
        trained(step, length).values(), trained(plain, length).values(), strict=True
    ):
        assert laws.deviation(found, wanted) <= CLOSE


# -- each operation


UNARY = {
    "silu": "F.silu(M)",
    "sigmoid": "torch.sigmoid(M)",
    "exp": "torch.exp(M)",
    "inverse": "1.0 / (M * M + 2.0)",
    "sqrt": "torch.sqrt(M * M + 1.0)",
    "quotient": "M / (x * x + 1.0)[:, :, None]",
    "shift": "(1.5 - M) * 2.0",
    "mean": "M - M.mean((-1,))[:, :, None]",
    "squares": "(M ** 2.0).sum((-1, -2))[:, None, None] * M",
    "turned": "torch.einsum('Bab,Bac->Bbc', M, M)",
    "stop": "M.detach() * x[:, :, None]",
    "spread": "M + x[:, :, None]",
}


@pytest.mark.parametrize("words", UNARY)
def test_an_operation_and_its_adjoint(words: str) -> None:
    """A memory of 5 x 5 numbers, in tiles of 16 x 16, through three pieces."""
    from nldsl.step.kernels.operator import pieces

    statements = f"""def piece(states, streams):
    (M,) = states
    (x,) = streams
    N = {UNARY[words]}
    return (N * 0.5,), (torch.einsum("Bab,Bb->Ba", N, x),)"""
    space = {"torch": torch, "F": torch.nn.functional}
    exec(statements, space)
    chance = torch.Generator().manual_seed(0)  # small, since a cube of a cube of a cube grows
    M = (0.3 * torch.randn(2, 5, 5, generator=chance)).requires_grad_()
    x = torch.randn(6, 5, generator=chance).requires_grad_()
    (run, now), outs = (space["piece"], (M,)), []
    for i in range(3):
        now, (out,) = run(now, (x[i::3],))
        outs.append(out)
    wanted = torch.stack(outs, 1).flatten(0, 1), now[0]
    found = pieces(statements, [M], [x], 3, True, True)[:2]
    slopes: list[tuple[Tensor, ...]] = []
    for some in (found, wanted):
        total = sum((y * torch.linspace(-1, 2, y.numel()).view_as(y)).sum() for y in some)
        slopes.append(torch.autograd.grad(total, (M, x), allow_unused=True, materialize_grads=True))
    for one, other in zip((*found, *slopes[0]), (*wanted, *slopes[1]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


# -- memories that programs share


NET = """def piece(states, streams):
    (W1, W2, m) = states
    (k, v, decay, rate) = streams
    hidden = product("Babc,BTac->BTab", W2, k)
    error = product("Babc,BTac->BTab", W1, F.silu(hidden)) - v
    back = product("BTab,Babc->BTac", error, W1) * torch.sigmoid(hidden)
    m_new = decay * m - product("BJpu,BJpv->Bpuv", error * rate[..., None], F.silu(hidden))
    W1_new = decay * W1 + m_new
    W2_new = decay * W2 - product("BJpu,BJpv->Bpuv", back * rate[..., None], k)
    y = product("Babc,BTac->BTab", W1_new, F.silu(product("Babc,BTac->BTab", W2_new, k)))
    return (W1_new, W2_new, m_new), (y, back[:, :, :, None, :] + hidden[:, :, :, None, :])"""
DECAY_OF = {"a decay": 0.9, "none": 1.0, "all": 0.0, "negative": -0.5, "tiny": 1e-30}


PICKED = """def piece(states, streams):
    (W1, W2) = states
    (z, a, keep) = streams
    hidden = F.silu(product("Banbc,BTac->BTanb", W2, z))
    seen = product("ab,Babc->Bac", a, W1.select(-3, 0)).unsqueeze(1)
    rate = torch.sigmoid((seen * hidden.select(-2, 0)).sum((-1,))) / 4.0
    kernel, phi = decay_kernel(keep[..., None].movedim(1, -1))
    read = z + product("Babc,BTac->BTab", W1.select(-3, 1), hidden.select(-2, 1))
    k = read[:, :, :, None, :]
    error = k - product("Banbc,BTanc->BTanb", W1, F.silu(product("Banbc,BTac->BTanb", W2, read)))
    written = kernel * (rate[..., None].movedim(1, -1) * -1.0).unsqueeze(-2)
    at_end = written[..., -1, :].movedim(-1, 1)[..., None]
    W1_new = phi[..., -1][..., None, None] * W1
    W1_new = W1_new + product("BJpqu,BJpqv->Bpquv", error * at_end, hidden)
    before = product("BpqT->BTpq", shift_decay(phi, 1.0))
    inverse = wy_inverse(-(product("BTpqi,BJpqi->BpqTJ", k, k) * shift_right(written)))
    erased = product("BpqTJ,BTpqv->BJpqv", inverse, k * at_end)
    W2_new = phi[..., -1][..., None, None] * W2
    W2_new = W2_new + product("BJpqu,BJpqv->Bpquv", hidden * before[..., None], erased)
    last = k.expand(-1, -1, 2, 3, 5)
    return (W1_new, W2_new), (read, rate[:, -1:], error[:, -1:].detach(), last[:, -1:])"""
WORDS = {
    "torch": torch,
    "F": torch.nn.functional,
    "product": torch.einsum,
    **{name: getattr(recurrence, name) for name in ("decay_kernel", "wy_inverse")},
    **{name: getattr(recurrence, name) for name in ("shift_right", "shift_decay")},
}


def equals_its_statements(
    words: str, states: list[Tensor], streams: list[Tensor], count: int, keeps: bool
) -> None:
    """Values, states and slopes are those of the statements, piece by piece."""
    from nldsl.step.kernels.operator import pieces

    space = {**WORDS}
    exec(words, space)
    now, parts = tuple(states), list[tuple[Tensor, ...]]()
    for i in range(count):
        here = tuple(x[i::count] if len(x) == count * len(now[0]) else x for x in streams)
        now, outs = space["piece"](now, here)
        parts.append(outs)
    wanted = [torch.stack(x, 1).flatten(0, 1) for x in zip(*parts)] + [*now]
    text = words.replace("product(", "torch.einsum(")
    found = pieces(text, states, streams, count, True, keeps)[: len(wanted)]
    given = [x for x in (*states, *streams) if x.requires_grad]
    slopes: list[tuple[Tensor, ...]] = [(), ()]
    if keeps:
        weighed = (
            sum((y * torch.linspace(-1, 2, y.numel()).view_as(y)).sum() for y in some)
            for some in (found, wanted)
        )
        slopes = [torch.autograd.grad(total, given) for total in weighed]
    for one, other in zip((*found, *slopes[0]), (*wanted, *slopes[1]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("decay", DECAY_OF)
@pytest.mark.parametrize("keeps", [True, False])
def test_programs_share_a_memory(decay: str, keeps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A net of two layers, 6 x 12 and 12 x 5 numbers, two programs a head; two lanes and heads,
    three pieces of four tokens.
    """
    from nldsl.step.kernels.operator import call_of

    monkeypatch.setattr("nldsl.step.kernels.source.ROOM", 512)
    monkeypatch.setattr("nldsl.step.kernels.source.SHARE", 512)
    chance, lanes, heads, count = torch.Generator().manual_seed(0), 2, 2, 3

    def drawn(*sizes: int) -> Tensor:
        return (0.2 * torch.randn(*sizes, generator=chance)).requires_grad_(keeps)

    states = [drawn(lanes, heads, *x) for x in ((6, 12), (12, 5), (6, 12))]
    tokens = lanes * count, 4, heads
    streams = [drawn(*tokens, 5), drawn(*tokens, 6), torch.full((1, 1, 1, 1), DECAY_OF[decay])]
    streams.append(drawn(*tokens))
    assert call_of(NET, states, streams, count, True, True).parts == 2
    names = launched(monkeypatch)
    equals_its_statements(NET, states, streams, count, keeps)
    times = Counter(names)
    once = [times.pop(f"{kind}_1") for kind in ("forward", "backward") if f"{kind}_1" in times]
    assert {*once} == {1} and {*times.values()} == {count}
    kinds = {"forward", "backward"} if keeps else {"forward"}
    assert {x.partition("_")[0] for x in times} == kinds


@pytest.mark.parametrize(("decay", "parts"), [("a decay", 1), *((one, 2) for one in DECAY_OF)])
def test_an_entry_of_memories_is_picked(
    decay: str, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three nets of 5 x 12 and 12 x 5 numbers, two of which make what all of them learn; gates and
    the WY form on the chip. Two lanes and heads, three pieces of four tokens.
    """
    from nldsl.step.kernels.operator import call_of

    if parts > 1:
        monkeypatch.setattr("nldsl.step.kernels.source.ROOM", 768)
        monkeypatch.setattr("nldsl.step.kernels.source.SHARE", 768)
    chance, lanes, heads, count = torch.Generator().manual_seed(0), 2, 2, 3

    def drawn(*sizes: int) -> Tensor:
        return (0.2 * torch.randn(*sizes, generator=chance)).requires_grad_()

    states = [drawn(lanes, heads, 3, *x) for x in ((5, 12), (12, 5))]
    tokens = lanes * count, 4, heads
    keep = torch.where(torch.arange(heads) == 0, DECAY_OF[decay], 0.9).expand(tokens)
    streams = [drawn(*tokens, 5), drawn(heads, 5), keep.clone().requires_grad_()]
    words = f"{PICKED}  # {parts} programs"
    assert call_of(words, states, streams, count, True, True).parts == parts
    equals_its_statements(words, states, streams, count, True)


@pytest.mark.parametrize(
    ("handed_on", "sums"),
    [
        ("torch.einsum('Bab,Btb->Bta', W, x) + 2.0 * torch.einsum('Bab,Btb->Bta', V, x) + v", 1),
        ("(torch.einsum('Bab,Btb->Bta', W, x) * v).sum((-1,))", 1),
        ("torch.einsum('Bab,Btb->Bta', W, x) * torch.einsum('Bab,Btb->Bta', V, x) + v", 2),
        ("torch.einsum('Bab,Btb->Bta', W + V, x) + v", 1),
    ],
)
def test_what_programs_make_is_added_up_as_late_as_it_can_be(handed_on: str, sums: int) -> None:
    from nldsl.step.kernels.shares import settled

    words = "def piece(states, streams):\n    (W, V), (x, v) = states, streams\n"
    words += f"    return (W + V, V), ({handed_on},)"
    sizes = (4, 8, 64), (4, 8, 64)
    found = piece(words, sizes, ((4, 5, 64), (4, 5, 8)), 2)
    made = settled(found.ops, found.tiles, [x.at for x in (*found.new, *found.outs)])
    assert len(made.sums) == sums and made.known[found.outs[0].at] == 1
    assert all(made.known[x.at] == 0 for x in found.new)


# -- what has none, and why


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("torch.einsum('BTpi,BTqi->BTpq', x, torch.einsum('Bpij,BTpj->BTpi', M, x))", "heads"),
        ("M.cumsum(1)", "`cumsum` is none of its operations"),
        ("M ** 3.0", "a power of 3"),
        ("M[:, :, :2]", "a part of what a memory makes"),
        ("(M * x.sum((1,))[..., None])[0]", "an entry of one head or lane"),
        ("torch.einsum('Bpij,BTpi->BTpij', M, x)", "a value of three axes"),
    ],
)
def test_why_there_is_none(statement: str, reason: str) -> None:
    words = f"def piece(states, streams):\n    (M,), (x,) = states, streams\n    N = {statement}\n"
    words += "    return (M,), (N,)"
    with pytest.raises(Unfit, match=reason):
        piece(words, ((4, 2, 3, 3),), ((4, 5, 2, 3),))


def test_the_report_says_how() -> None:
    (how,) = {*map(stepped(family.program("deltanet")).lowering, ["loss.layer[0].mixer.recall"])}
    assert how.endswith(", a chunk kernel")
    (how,) = {*map(stepped(family.program("delta_product")).lowering, [REGION])}
    assert ", no chunk kernel: `[" in how


def test_a_memory_that_does_not_fit_has_none() -> None:
    wide = family.tiny("deltanet", d=600, head=2, vocab=8, depth=1)
    assert "no axis in common that programs could share" in stepped(wide).lowering(REGION)
    wider = family.tiny("deltanet", d=2048, head=2, vocab=8, depth=1)
    assert "numbers a head, more than 16 programs share" in stepped(wider).lowering(REGION)


def test_float64_has_none() -> None:
    step = compile_program(family.program("deltanet"), precision="float64", kernels=True)
    assert step.kernels == {}


# -- for a GPU


def test_kernels_are_assembled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers and spills of the two of a small DeltaNet."""
    from nldsl.step.kernels.rolling import calls
    from nldsl.step.kernels.source import Grads, backward_source, contiguous, forward_source
    from nldsl.target.cubins import cubins
    from nldsl.target.devices import GPUS

    monkeypatch.delenv("TRITON_INTERPRET")
    step = stepped(family.tiny("deltanet", d=32, head=2, vocab=8, depth=1))
    one = step.emitted.recurrences[REGION]
    made = step.kernels[one.function]
    assert isinstance(made, Whole)
    (call,) = calls(step.source, made, one)
    outs = tuple((i, contiguous(x.sizes)) for i, x in enumerate(call.piece.outs))
    back = backward_source(call, Grads((), outs, tuple(range(len(call.streams)))))
    found = [*cubins([], [forward_source(call), back], GPUS["h100"])]
    assert [one.name for one in found] == ["pieces forward", "pieces backward"]
    assert all(0 < one.registers < 256 and one.warps == 4 for one in found)
