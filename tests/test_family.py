"""Every system of the family is one short text: cited, equal to a loop written from its equations, lawful, and unknown to Python."""
from __future__ import annotations

import io
import math
import re
import token
import tokenize
from collections import Counter
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from family import BASE, EXAMPLES, FROM_FILES, PERIODS, SPECS, fitting, subject, text, tiny
from references import hope, network
from references.deep_momentum import deep_momentum
from references.optimizers import Update
from test_laws import LAWS

from nldsl.graph.dump import dump, every
from nldsl.graph.equations import OPS, Program, walk
from nldsl.pipeline import compile_program, load_text
from nldsl.testing import Drawn, data, laws
from nldsl.testing.captures import apart, traced
from nldsl.testing.renaming import renamed
from nldsl.train.data import Corpus, standard_library

torch.set_num_threads(1)
ROOT = Path(__file__).parent.parent
CLAUSE = re.compile(r"^\s*(level |memory |context |minimize |bptt |reset |[\w.]+ <- )")
CITATION = re.compile(r"\b(Eqs?\. \d|secs?\. \d|App\. [A-Z]|Table \d|Fig\. \d|Alg\. \d)")
TRAINED = {"d": 32, "vocab": 256}                # what learns from bytes
SYSTEMS = frozenset("titan miras mamba oja mesa cms continuum muon adamw adam adagrad nesterov momentum swiglu rmsnorm".split())
WORDS = frozenset(
    "linear attention delta product memory ablation mlp gated softmax decomposition optimizer deep transformer "
    "transfer direct nonparametric backpropagation initialisation generation gd sgd".split())    # of the language, or of mathematics
ALONE = {                                        # primitives of fewer than two systems, and why they are there
    **dict.fromkeys(("exp", "log", "floor", "ge", "eq", "max"), "a row in the table of functions of one entry"),
    "amax": "max(x) beside sum(x) and mean(x)",
    "stack": "a list of streams, as [1, 0.5] is a list of numbers",
    "softmax": "a memory on the simplex; inside `attend` it is that operator's own",
    "random": "a start that is drawn: weights are drawn before the program runs",
    "load": "a start from a file",
    "held_stream": "x@c beside M@c",
    "grad_stream": "the error signal of a stream",
}


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
            assert not CLAUSE.match(code) or CITATION.search(comment), f"{name}.nl:{number} cites nothing: {line}"
            depth += code.count("{") - code.count("}")


def test_every_example_is_in_the_table() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.nl")} == SPECS.keys() | FROM_FILES


# ---- what it means

def drawn(name: str, length: int = 9) -> Drawn:
    return Drawn(text(name), 2, length, 0)


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_is_the_loop_written_from_its_equations(name: str) -> None:
    """Losses, and the slope of their mean in every tensor that is learned."""
    made, ids = subject(name).restart(), data(subject(name).program, 2, 9, 0)["ids"]
    w = {n: x.detach().clone().requires_grad_() for n, x in made.state.views.items()}
    want = SPECS[name].losses(w, ids)
    assert laws.deviation(made.forward({"ids": ids})[0]["loss"], want) <= laws.EXACT
    found = made.gradients({"ids": ids})
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
        slopes = torch.autograd.grad(SPECS[name].losses(w, ids).mean(), list(w.values()), allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            w = {n: x.detach().requires_grad_() for n, x in update(w, dict(zip(w, slopes, strict=True)), step).items()}
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
    nets = {path: x.view(size) for (path, _), x, size in zip(memory.type.leaves, flat, sizes, strict=True)}
    moves("optimizer_deep_momentum", deep_momentum({name: [nets[f"{name}.linear"], nets[f"{name}.linear2"]] for name in made.state.views}))


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_is_what_the_interpreter_makes_of_it(name: str) -> None:
    found = laws.agreement(subject(name), [data(subject(name).program, 2, 7, i) for i in range(2)])
    assert not {key: x for key, x in found.items() if not x <= laws.EXACT}


@pytest.mark.parametrize("law", ["causal", "independent", "whole"])
@pytest.mark.parametrize("name", SPECS)
def test_a_spec_keeps_the_laws(name: str, law: str) -> None:
    LAWS[law](subject(name).restart(), drawn(name, 7))


def test_references_stand_alone() -> None:
    """They import torch and each other; each is at most 80 lines."""
    for path in sorted((ROOT / "tests" / "references").glob("*.py")):
        words = path.read_text(encoding="utf-8")
        assert len(words.splitlines()) <= 80, path.name
        roots = {name.split(".")[0] for name in re.findall(r"^(?:from|import) ([\w.]+)", words, re.M)}
        assert roots <= {"__future__", "collections", "torch", "references"}, path.name


PROJECTIONS = [f"{name} = adaptive(" for name in "qkv"]
SWITCHES: dict[str, tuple[dict[str, object], str]] = {    # rows of 2512.24695, Table 6: constants, and a word edited
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
    without = laws.Subject(tiny("hope_ablation", words.replace(line, line.replace("adaptive", "fixed")) if line else words, **sets))
    batch = data(without.program, 2, 9, 0)
    w = without.state.views
    known = {key: value for key, value in sets.items() if key != "periods"}
    want = network.continuum(w, batch["ids"], partial(hope.self_modifying, near=2, length=4, **known), "self_modifying_titans",
                             sets.get("periods", PERIODS))
    found = without.forward(batch)[0]["loss"]
    assert laws.deviation(found, want) <= laws.EXACT
    full = subject("hope_ablation").restart()
    with torch.no_grad():
        for name, weight in full.state.views.items():
            if name in w:
                weight.copy_(w[name])
    assert laws.deviation(full.forward(batch)[0]["loss"], found) > 1e-7
    full.restart()


# ---- what it becomes

QUICK = {"whole": ("deltanet", "retnet"), "split": ("deltanet", "titans_mag", "hope_attention")}


def is_traced_whole(name: str, capture: str) -> None:
    """Each function is one graph, traced once: the numbers of the emitted source, without a break, and nothing is traced again."""
    step, counted = traced(tiny(name), capture)
    batches = [data(step.program, 2, 9, i) for i in range(len(step.schedule.table.kinds) + 1)]
    assert max(apart(step, subject(name).step, batches)) <= laws.EXACT
    before = counted.graphs
    assert max(apart(step, subject(name).step, batches)) <= laws.EXACT
    assert counted.graphs == before, "traced again"


@pytest.mark.parametrize("name, capture", [(name, capture) for capture, names in QUICK.items() for name in names])
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
    """The code generator of torch.compile in float32, one function for each block, against the emitted source."""
    fast, slow = (compile_program(tiny(name), precision="float32", capture=capture) for capture in ("split", "eager"))
    values, kept = apart(fast, slow, [data(fast.program, 2, 9, i) for i in range(2)])
    assert values <= laws.VALUES and kept <= laws.GRADIENTS


@cache
def corpus() -> Corpus:
    return standard_library()


def order_0() -> float:
    """Nats a byte, of a model that knows how often each byte occurs and nothing else."""
    share = np.bincount(corpus().train, minlength=256) / len(corpus().train)
    return float(-(share[share > 0] * np.log(share[share > 0])).sum())


def learns(name: str) -> None:
    """Ten losses in a row are below order 0 within 200 steps, and by then a gradient has reached every tensor."""
    made = tiny(name, **TRAINED | SPECS[name].trained)
    step = compile_program(made, precision="float32", capture="eager", planned_steps=200)
    hearer = laws.Subject(made, step=step)
    state, bar, last = hearer.state, order_0(), []
    silent = {n for n in state.views if not re.search(SPECS[name].through, n)}
    for n in range(1, 201):
        batch = {"ids": torch.from_numpy(corpus().batch(0, n, 0, 4, 24).astype(np.int64))}
        if silent and n % 10 == 1:
            slopes = hearer.gradients(batch)
            silent -= {weight for weight, slope in slopes.items() if slope.abs().max() > 0}
        last = [*last[-9:], float(step(state, [batch])["loss"])]
        if len(last) == 10 and np.mean(last) < bar and not silent:
            return
    pytest.fail(f"{np.mean(last):.3f} nats a byte; order 0 has {bar:.3f}; without a gradient: {sorted(silent)}")


LEARN = ("linear_attention", "deltanet", "ttt_linear", "titans", "hope_attention")


@pytest.mark.parametrize("name", LEARN)
def test_a_spec_learns(name: str) -> None:
    learns(name)


@pytest.mark.soak
@pytest.mark.parametrize("name", [name for name in SPECS if name not in LEARN])
def test_every_spec_learns(name: str) -> None:
    learns(name)


# ---- names

def nameless(program: Program) -> str:
    """The graph as text, each name replaced by its place in the order of first mention."""
    met: dict[str, str] = {}
    return re.sub(r"[a-z]*,[a-z]*->[a-z]*|(?<== )[a-z_]+(?=\()|\b([A-Za-z_][\w.\[\]]*)",       # letters of axes, an operator, a name
                  lambda word: word[0] if word[1] is None else met.setdefault(word[1], f"n{len(met)}"), dump(program))


def with_sizes(name: str) -> str:
    """The text with the sizes of the tests written into it."""
    out = text(name)
    for key, value in fitting(name, BASE | dict(SPECS[name].sizes)).items():
        out, count = re.subn(rf"^(dim .*?\b{key} = |{key} = |clock {key} = )(\[[^]]*\]|[^,\s]+)", rf"\g<1>{value}", out, count=1, flags=re.M)
        assert count == 1, key
    return out


@pytest.mark.parametrize("name", SPECS)
def test_names_are_only_names(name: str) -> None:
    """A copy with other names is the same graph, lowered in the same way, with the same numbers to the last bit."""
    one, other = (laws.Subject(load_text(t, f"{name}.nl")) for t in (with_sizes(name), renamed(with_sizes(name))))
    assert nameless(one.program) == nameless(other.program)
    ways = [[re.sub(r"`.*?`", "", way) for way in s.step.emitted.lowering.values()] for s in (one, other)]
    assert ways[0] == ways[1]
    assert laws.renaming(one, other, [data(one.program, 2, 5, i) for i in range(2)]) == 0.0


def words_of(path: Path) -> set[str]:
    """All words in names and strings of a Python file, docstrings left out."""
    found, before = set(), token.NEWLINE
    for piece in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        doc = piece.type == token.STRING and before in (token.NEWLINE, token.INDENT, token.DEDENT, tokenize.NL)
        if piece.type in (token.NAME, token.STRING) and not doc:
            found |= {word.lower() for word in re.findall(r"[A-Za-z]+[0-9]*|[0-9]+", piece.string.replace("_", " "))}
        if piece.type != tokenize.COMMENT:
            before = piece.type
    return found


def test_python_knows_no_system() -> None:
    """No branch for any of them: their names stand in no name and no string of the stages that make a step."""
    systems = {word for name in SPECS for word in name.split("_")} | SYSTEMS
    for stage in ("graph", "rules", "schedule", "step"):
        for path in sorted((ROOT / "nldsl" / stage).rglob("*.py")):
            assert not words_of(path) & systems - WORDS, path


# ---- primitives

def operators(name: str) -> set[str]:
    """Of the program, and of what its inner gradients and trees became."""
    schedule = subject(name).step.schedule
    arrays = walk(*schedule.outputs.values(), *(cell.next for cell in schedule.cells.cells.values()))
    return {node.op for nodes in (every(subject(name).program), arrays) for node in nodes}


def test_every_primitive_serves_two_systems() -> None:
    uses = Counter(op for name in SPECS for op in operators(name))
    assert {op for op in OPS if uses[op] < 2} == ALONE.keys()


def test_every_lowering_serves_two_systems() -> None:
    uses = Counter(way for name in SPECS for way in {re.split(r" \(|[:,]", way)[0] for way in subject(name).step.emitted.lowering.values()})
    assert len(uses) >= 4 and min(uses.values()) >= 2, uses
