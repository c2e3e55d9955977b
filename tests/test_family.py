"""Every system of the family is one short text: cited, equal to a loop written from its equations,
lawful, traced whole, and a model that learns.
"""

from __future__ import annotations

import math
import re
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from family import EXAMPLES, FROM_FILES, PERIODS, SPECS, WITH_WORKERS, subject, text, tiny
from lawful import LAWS
from references import attention, cms, hope, nested, network, online, titans
from references.deep_momentum import deep_momentum
from references.optimizers import Update
from torch import Tensor

from nldsl.core.program import Program
from nldsl.pipeline import compile_program
from nldsl.testing import Drawn, data, laws
from nldsl.testing.captures import apart, traced_once
from nldsl.train.data.dataset import sequences_of
from nldsl.train.data.text import Corpus, standard_library

torch.set_num_threads(1)
REFERENCES = Path(__file__).parent / "references"
CLAUSE = re.compile(r"^\s*(level |memory |context |minimize |bptt |reset |[\w.]+ <- )")
CITATION = re.compile(r"\b(Eqs?\. \d|secs?\. \d|App\. [A-Z]|Table \d|Fig\. \d|Alg\. \d)")
TRAINED = {"d": 32, "vocab": 256}  # what learns from bytes


# ---- a text


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_is_short(name: str) -> None:
    lines = text(name).splitlines()
    assert len(lines) <= 80
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("name", SPECS)
def test_every_clause_says_where_it_is_from(name: str) -> None:
    depth = 0
    for number, line in enumerate(text(name).splitlines(), 1):
        code, _, comment = line.partition("#")
        if depth or code.lstrip().startswith("level "):
            assert not CLAUSE.match(code) or CITATION.search(comment), (
                f"{name}.nl:{number} cites nothing: {line}"
            )
            depth += code.count("{") - code.count("}")


def test_every_example_is_in_the_table() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.nl")} == SPECS.keys() | FROM_FILES | WITH_WORKERS


# ---- what it means


def drawn(name: str, length: int = 9) -> Drawn:
    return Drawn(text(name), 2, length, 0)


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_is_the_loop_written_from_its_equations(name: str) -> None:
    """Losses, and the slope of their mean in every tensor that is learned."""
    made, batch = subject(name).restart(), data(subject(name).program, 2, 9, 0)
    w = {n: x.detach().clone().requires_grad_() for n, x in made.state.views.items()}
    want = SPECS[name].losses(w, *made.step.place(batch).values())
    assert laws.deviation(made.forward(batch)[0]["loss"], want) <= laws.EXACT
    found = made.gradients(batch)
    heard = {n: x for n, x in w.items() if not re.search(SPECS[name].through, n)}
    assert found.keys() == heard.keys()
    for n, slope in zip(heard, torch.autograd.grad(want.mean(), list(heard.values())), strict=True):
        assert slope.abs().max() > 1e-9, n
        assert laws.deviation(found[n], slope.reshape(-1)) <= laws.EXACT, n


def moves(name: str, update: Update) -> None:
    """The weights of nine steps are those of the optimizer written out."""
    made = subject(name).restart()
    w = {n: x.detach().clone().requires_grad_() for n, x in made.state.views.items()}
    for step in range(1, 10):
        ids = data(made.program, 2, 7, step)["ids"]
        slopes = torch.autograd.grad(
            SPECS[name].losses(w, ids).mean(),
            list(w.values()),
            allow_unused=True,
            materialize_grads=True,
        )
        with torch.no_grad():
            w = {
                n: x.detach().requires_grad_()
                for n, x in update(w, dict(zip(w, slopes, strict=True)), step).items()
            }
        made.step(made.state, [{"ids": ids}])
        for n, x in made.state.views.items():
            assert laws.deviation(x, w[n]) <= laws.EXACT, (step, n)
    made.restart()


@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if spec.update])
def test_weights_move_as_the_equations_say(name: str) -> None:
    moves(name, SPECS[name].update())


def test_deep_momentum_moves_the_weights_as_its_equations_say() -> None:
    """Its networks start where the text draws them."""
    made = subject("optimizer_deep_momentum").restart()
    memory = made.program.memories["training.dmgd.velocity.m"]
    sizes = [[axis.size for axis in shape] for _, shape in memory.type.leaves]
    flat = made.state.tensors[memory.name].split([math.prod(size) for size in sizes])
    nets = {
        path: x.view(size)
        for (path, _), x, size in zip(memory.type.leaves, flat, sizes, strict=True)
    }
    moves(
        "optimizer_deep_momentum",
        deep_momentum(
            {name: [nets[f"{name}.linear"], nets[f"{name}.linear2"]] for name in made.state.views}
        ),
    )


def test_a_carried_memory_begins_where_the_last_sequence_left_it() -> None:
    made, update, carried = subject("titans_carried").restart(), cms.adamw(None), []
    w = {n: x.detach().clone().requires_grad_() for n, x in made.state.views.items()}
    for step in range(1, 5):
        ids = data(made.program, 2, 8, step)["ids"]
        loss = network.losses(w, ids, partial(titans.memory, chunk=2, carried=carried)).mean()
        slopes = torch.autograd.grad(
            loss, list(w.values()), materialize_grads=True, allow_unused=True
        )
        with torch.no_grad():
            w = {
                n: x.detach().requires_grad_()
                for n, x in update(w, dict(zip(w, slopes, strict=True)), step).items()
            }
        assert laws.deviation(made.step(made.state, [{"ids": ids}])["loss"], loss) <= laws.EXACT
        for n, x in made.state.views.items():
            assert laws.deviation(x, w[n]) <= laws.EXACT, (step, n)
    made.restart()


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_is_what_the_interpreter_makes_of_it(name: str) -> None:
    made = subject(name)
    found = laws.agreement(made, [data(made.program, 2, n, i) for i, n in enumerate((7, 4))])
    assert not laws.beyond(found)


@pytest.mark.parametrize("law", ["causal", "independent", "whole"])
@pytest.mark.parametrize("name", SPECS)
def test_a_spec_keeps_the_laws(name: str, law: str) -> None:
    LAWS[law](subject(name).restart(), drawn(name, 6))


def test_references_stand_alone() -> None:
    """They import torch and each other; each is at most 110 lines."""
    for path in sorted(REFERENCES.glob("*.py")):
        words = path.read_text(encoding="utf-8")
        assert len(words.splitlines()) <= 110, path.name
        roots = {
            name.split(".")[0] for name in re.findall(r"^(?:from|import) ([\w.]+)", words, re.M)
        }
        assert roots <= {"__future__", "collections", "torch", "references"}, path.name


PROJECTIONS = [f"{name} = adaptive(" for name in "qkv"]
SWITCHES: dict[
    str, tuple[dict[str, object], str]
] = {  # rows of 2512.24695, Table 6: constants, and a word edited
    "DGD": ({"erase": 0}, ""),
    "momentum": ({"beta": 0}, ""),
    "weight decay": ({"forget": 0}, ""),
    "continuum": ({"periods": [1]}, ""),
    **{f"inner projection {line[0]}": ({}, line) for line in PROJECTIONS},
}


@pytest.mark.parametrize("row", SWITCHES)
def test_each_switch_of_the_ablation_is_its_equation(row: str) -> None:
    """What is left is the loop without the part, and the part mattered."""
    sets, line = SWITCHES[row]
    words = text("hope_ablation")
    without = laws.Subject(
        tiny(
            "hope_ablation",
            words.replace(line, line.replace("adaptive", "fixed")) if line else words,
            **sets,
        )
    )
    batch = data(without.program, 2, 9, 0)
    w = without.state.views
    known = {key: value for key, value in sets.items() if key != "periods"}
    want = network.continuum(
        w,
        batch["ids"],
        partial(hope.self_modifying, near=2, length=4, **known),
        "self_modifying_titans",
        sets.get("periods", PERIODS),
    )
    found = without.forward(batch)[0]["loss"]
    assert laws.deviation(found, want) <= laws.EXACT
    full = subject("hope_ablation").restart()
    with torch.no_grad():
        for name, weight in full.state.views.items():
            if name in w:
                weight.copy_(w[name])
    assert laws.deviation(full.forward(batch)[0]["loss"], found) > 1e-7
    full.restart()


WIRINGS = {  # another word in the loss
    ("cms", "sequential"): lambda w, ids: network.continuum(
        {n.replace(".cms.continuum.", ".continuum."): x for n, x in w.items()},
        ids,
        partial(attention.attention, window=3),
        "attention",
        [1, 2, 4, 8],
    ),
    ("cms", "independent"): partial(cms.independent, periods=[1, 2, 4, 8], window=3),
    ("cms_tokens", "sequential"): partial(online.cms, spans=[1, 2, 4], window=3, chain=True),
    ("cms_tokens", "nested"): partial(nested.losses, spans=[1, 2, 4], window=3),
}


@pytest.mark.parametrize("name, word", WIRINGS)
def test_every_wiring_is_its_loop(name: str, word: str) -> None:
    """2512.24695, Eqs. 70, 72 and 74."""
    losses = WIRINGS[name, word]
    made = laws.Subject(tiny(name, re.sub(r"(?<=entropy\(model\(ids, )\w+", word, text(name))))
    batch = data(made.program, 2, 9, 0)
    w = {n: x.detach().clone().requires_grad_() for n, x in made.state.views.items()}
    want = losses(w, batch["ids"])
    assert laws.deviation(made.forward(batch)[0]["loss"], want) <= laws.EXACT
    found = made.gradients(batch)
    for n, slope in zip(w, torch.autograd.grad(want.mean(), list(w.values())), strict=True):
        assert laws.deviation(found[n], slope.reshape(-1)) <= laws.EXACT, n


# ---- what it becomes

QUICK = {
    "whole": ("deltanet", "optimizer_dgd"),
    "split": ("titans_mag", "hope_attention"),
}


def is_traced_whole(name: str, capture: str) -> None:
    """Each function is one graph, traced once: the numbers of the emitted source, without a break,
    and nothing is traced again.
    """
    made = tiny(name, **(SPECS[name].whole if capture == "whole" else {}))
    plain = compile_program(made, precision="float64", capture="eager")
    batches = [data(made, 2, 9, i) for i in range(len(plain.schedule.table.kinds) + 1)]
    assert traced_once(plain, capture, batches) <= laws.EXACT


@pytest.mark.parametrize(
    "name, capture", [(name, capture) for capture, names in QUICK.items() for name in names]
)
def test_a_spec_is_traced_whole(name: str, capture: str) -> None:
    is_traced_whole(name, capture)


@pytest.mark.soak
@pytest.mark.parametrize("capture", ["split", "whole"])
@pytest.mark.parametrize("name", SPECS)
def test_every_spec_is_traced_whole(name: str, capture: str) -> None:
    is_traced_whole(name, capture)


@pytest.mark.soak
@pytest.mark.parametrize("name", SPECS)
def test_every_spec_compiled_computes_the_same(name: str) -> None:
    """The code generator of torch.compile in float32, one function for each block, against the
    emitted source.
    """
    fast, slow = (
        compile_program(tiny(name), precision="float32", capture=capture)
        for capture in ("split", "eager")
    )
    values, kept = apart(fast, slow, [data(fast.program, 2, 9, i) for i in range(2)])
    assert values <= laws.VALUES and kept <= laws.GRADIENTS


@cache
def corpus() -> Corpus:
    return standard_library()


def order_0() -> float:
    """Nats a byte, of a model that knows how often each byte occurs and nothing else."""
    share = np.bincount(corpus().train, minlength=256) / len(corpus().train)
    return float(-(share[share > 0] * np.log(share[share > 0])).sum())


def waves(n: int) -> Tensor:
    """[4, 24, 8]: sines of eight frequencies, each lane from a time of its own."""
    time = torch.arange(24.0) + 100 * torch.rand(4, 1, generator=torch.Generator().manual_seed(n))
    return torch.sin(time[..., None] * torch.arange(1.0, 9) / 8)


def read(program: Program, n: int) -> dict[str, Tensor]:
    """What step n learns from: bytes, or numbers where the text says so."""
    return {
        name: torch.from_numpy(sequences_of(corpus().train, 0, n, 0, 4, 24).astype(np.int64))
        if name in program.vocab
        else waves(n)
        for name in program.inputs
    }


def learns(name: str) -> None:
    """Ten losses in a row are below order 0 (of numbers: below their variance) within 200 steps,
    and by then a gradient has reached every tensor.
    """
    made = tiny(name, **TRAINED | SPECS[name].trained)
    step = compile_program(made, precision="float32", capture="eager", planned_steps=200)
    hearer = laws.Subject(made, step=step)
    state, bar, last = hearer.state, order_0() if made.vocab else 8 * 0.5, []
    silent = {n for n in state.views if not re.search(SPECS[name].through, n)}
    for n in range(1, 201):
        batch = read(made, n)
        if silent and n % 10 == 1:
            slopes = hearer.gradients(batch)
            silent -= {weight for weight, slope in slopes.items() if slope.abs().max() > 0}
        last = [*last[-9:], float(step(state, [batch])["loss"])]
        if len(last) == 10 and np.mean(last) < bar and not silent:
            return
    pytest.fail(
        f"{np.mean(last):.3f} nats a byte; order 0 has {bar:.3f}; without a gradient: "
        f"{sorted(silent)}"
    )


LEARN = ("deltanet", "titans", "hope_attention")


@pytest.mark.parametrize("name", LEARN)
def test_a_spec_learns(name: str) -> None:
    learns(name)


@pytest.mark.soak
@pytest.mark.parametrize("name", [name for name in SPECS if name not in LEARN])
def test_every_spec_learns(name: str) -> None:
    learns(name)
