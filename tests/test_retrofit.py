"""Starts that are loaded from files: runs of this project and safetensors of others. The map of
names is one to one, and a map that is not is refused.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from commands import SMALL, done, nldsl
from torch import Tensor

from nldsl import cli
from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostics
from nldsl.oracle.interpreter import Oracle
from nldsl.pipeline import compile_program, load, load_text
from nldsl.step.loading import joins
from nldsl.testing import data, laws
from nldsl.testing.captures import traced_once
from nldsl.train import checkpoint, metrics

torch.set_num_threads(1)
EXAMPLES = Path(__file__).parent.parent / "examples"
SIZES = ("--set", "d=8", "--set", "head=2", "--set", "depth=2")
LLAMA = {
    "d": "16",
    "group": "2",
    "share": "2",
    "vocab": "11",
    "hidden": "12",
    "depth": "2",
    "periods": "[2, 4, 4, 8]",
}
SLOW = (
    ("every p token", "every p step"),
    ("sum(loss over period)", "mean(loss over period)"),
    ("            reset every sequence  ", "  "),
)


def numbers(run: Path) -> torch.Tensor:
    """All weights of a run, one behind the other."""
    saved, manifest = checkpoint.tensors_of(run / checkpoint.FILE), checkpoint.manifest(run)
    assert manifest is not None
    return torch.cat([saved[name].reshape(-1) for name in manifest.weights])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, and a transformer that was trained on it for a few steps."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "text.txt").write_bytes(Path(json.decoder.__file__).read_bytes())
    done(
        "train",
        EXAMPLES / "transformer.nl",
        folder / "text.txt",
        *SIZES,
        *SMALL,
        "--steps",
        3,
        "--out",
        folder / "run",
    )
    return folder


def test_at_rate_zero_it_is_the_run_that_it_started_from(base: Path, tmp_path: Path) -> None:
    text, run = base / "text.txt", base / "run"
    done(
        "train",
        EXAMPLES / "retrofit.nl",
        text,
        *SIZES,
        *SMALL,
        "--steps",
        5,
        "--load",
        f"base={run}",
        "--out",
        tmp_path / "still",
    )
    ours, theirs = numbers(tmp_path / "still"), numbers(run)
    assert torch.equal(ours.sort().values, theirs.sort().values), (
        "each number of the one is one of the other's, after five steps"
    )
    score = [
        metrics.events(folder / "metrics.jsonl", "held_out")[0]["bits"]
        for folder in (tmp_path / "still", run)
    ]
    assert score[0] == pytest.approx(score[1], rel=1e-13)
    sample = [
        metrics.events(folder / "metrics.jsonl", "sample")[0]["text"]
        for folder in (tmp_path / "still", run)
    ]
    assert sample[0] == sample[1]


def test_at_another_rate_it_learns_in_the_loaded_blocks_alone(base: Path, tmp_path: Path) -> None:
    made, theirs = (
        load(EXAMPLES / "retrofit.nl", {"d": "8", "head": "2", "depth": "2", "rate": rate})
        for rate in ("0.1", "0")
    )

    def train(out: str, *sets: str) -> None:
        done(
            "train",
            EXAMPLES / "retrofit.nl",
            base / "text.txt",
            *SIZES,
            *SMALL,
            *sets,
            "--set",
            "periods=[1,1,2,2]",
            "--steps",
            5,
            "--load",
            f"base={base / 'run'}",
            "--out",
            tmp_path / out,
        )

    train("moved", "--set", "rate=0.1")
    train("still")
    moved, still = (
        safetensors.torch.load_file(tmp_path / name / "checkpoint.safetensors")
        for name in ("moved", "still")
    )
    learned = {f"model.ffn[{i}].F.{path}" for i in range(2) for path in ("gate", "up", "down")}
    manifest = checkpoint.manifest(tmp_path / "moved")
    assert manifest is not None and learned < {*manifest.weights}
    for name in manifest.weights:
        assert torch.equal(moved[name], still[name]) == (name not in learned), name
    losses = [
        [e["loss"] for e in metrics.events(tmp_path / name / "metrics.jsonl", "step")]
        for name in ("moved", "still")
    ]
    assert losses[0][0] == losses[1][0] and losses[0][1] != losses[1][1]
    assert made.weights.keys() == theirs.weights.keys()


def test_a_run_knows_the_file_it_was_made_of(base: Path, tmp_path: Path) -> None:
    arguments = ("train", EXAMPLES / "retrofit.nl", base / "text.txt", *SIZES, *SMALL, "--steps", 2)
    status, _, err = nldsl(*arguments, "--out", tmp_path / "run")
    assert (
        status == cli.RUN
        and "error[N730]" in err
        and "--load base=PATH" in err
        and not (tmp_path / "run").exists()
    )
    status, _, err = nldsl(
        *arguments, "--out", tmp_path / "run", "--load", f"base={base / 'run'}", "--load", "bass=x"
    )
    assert status == cli.RUN and "error[N734]" in err
    theirs = tmp_path / "theirs.safetensors"
    theirs.write_bytes((base / "run" / "checkpoint.safetensors").read_bytes())
    done(*arguments, "--out", tmp_path / "run", "--load", f"base={theirs}")
    done("eval", tmp_path / "run", "--bytes", 100)
    theirs.write_bytes(theirs.read_bytes()[:-1] + b"x")
    status, _, err = nldsl("eval", tmp_path / "run")
    assert status == cli.RUN and "error[N711]" in err and "`base`" in err
    theirs.write_bytes(theirs.read_bytes()[:100])
    status, _, err = nldsl(*arguments, "--out", tmp_path / "other", "--load", f"base={theirs}")
    assert status == cli.RUN and "error[N712]" in err


# A model of others


def llama(n: int = 0) -> dict[str, Tensor]:
    """Random weights by the names and sizes of Llama: two layers, four heads of four over two keys,
    width 16.
    """
    generator = torch.Generator().manual_seed(n)

    def draw(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator) / sizes[-1] ** 0.5

    weights = {"model.embed_tokens.weight": draw(11, 16), "model.norm.weight": 1 + 0.1 * draw(16)}
    for i in range(2):
        names = {
            "input_layernorm": (16,),
            "post_attention_layernorm": (16,),
            "self_attn.q_proj": (16, 16),
            "self_attn.k_proj": (8, 16),
            "self_attn.v_proj": (8, 16),
            "self_attn.o_proj": (16, 16),
            "mlp.gate_proj": (12, 16),
            "mlp.up_proj": (12, 16),
            "mlp.down_proj": (16, 12),
        }
        weights |= {
            f"model.layers.{i}.{name}.weight": draw(*sizes) + (len(sizes) == 1)
            for name, sizes in names.items()
        }
    return weights


def forward(w: dict[str, Tensor], ids: Tensor) -> Tensor:
    """Logits of the model as its makers compute it: rotary positions by halves, keys repeated for
    the queries that share them, tied head.
    """

    def norm(x: Tensor, name: str) -> Tensor:
        return w[f"model.{name}.weight"] * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)

    def rotated(x: Tensor) -> Tensor:
        t, half = x.shape[2], x.shape[3] // 2
        angle = torch.arange(t)[:, None] * 5e5 ** (-torch.arange(half, dtype=x.dtype) / half)
        cos, sin = (torch.cat([f(angle)] * 2, -1) for f in (torch.cos, torch.sin))
        return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin

    x = w["model.embed_tokens.weight"][ids]
    lanes, t = ids.shape
    for i in range(2):
        at, h = f"model.layers.{i}", norm(x, f"layers.{i}.input_layernorm")
        q, k, v = (
            (h @ w[f"{at}.self_attn.{n}_proj.weight"].T).view(lanes, t, -1, 4).transpose(1, 2)
            for n in "qkv"
        )
        q, k, v = rotated(q), rotated(k).repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        scores = (q @ k.mT / 2).masked_fill(torch.ones(t, t).triu(1).bool(), float("-inf"))
        x = (
            x
            + (scores.softmax(-1) @ v).transpose(1, 2).reshape(lanes, t, 16)
            @ w[f"{at}.self_attn.o_proj.weight"].T
        )
        h = norm(x, f"layers.{i}.post_attention_layernorm")
        x = (
            x
            + (
                F.silu(h @ w[f"{at}.mlp.gate_proj.weight"].T)
                * (h @ w[f"{at}.mlp.up_proj.weight"].T)
            )
            @ w[f"{at}.mlp.down_proj.weight"].T
        )
    return norm(x, "norm") @ w["model.embed_tokens.weight"].T


def retrofit(*edits: tuple[str, str], **sets: str) -> Program:
    text = (EXAMPLES / "retrofit_llama.nl").read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return load_text(text, sets=LLAMA | sets)


LIVES = (("reset every sequence  ", "reset never  "),)


@pytest.mark.parametrize("edits", [(), LIVES, SLOW], ids=["token", "token, never reset", "step"])
def test_at_rate_zero_it_is_the_model_of_others(edits: tuple) -> None:
    weights = {name: x.double() for name, x in llama().items()}
    step = compile_program(
        retrofit(*edits), precision="float64", capture="eager", files={"base": weights}
    )
    state, batch = step.init(3), data(step.program, 2, 9, 0)
    for i in range(6):
        outputs, _ = step.reading.module("model", step.program.outputs["model"])["forward"](
            state.views,
            batch,
            step.module["start"](state.views, 2, weights["model.norm.weight"]),
            0,
            "loop",
        )
        assert laws.deviation(outputs["model"], forward(weights, batch["ids"])) <= 1e-12
        step(state, [data(step.program, 2, 9, i)])


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16, torch.float32])
def test_theirs_may_be_of_any_precision(precision: torch.dtype) -> None:
    weights = {name: x.to(precision) for name, x in llama().items()}
    step = compile_program(
        retrofit(), precision="float64", capture="eager", files={"base": weights}
    )
    batch = data(step.program, 2, 9, 0)
    wanted = F.cross_entropy(
        forward({n: x.double() for n, x in weights.items()}, batch["ids"])[:, :-1].flatten(0, 1),
        batch["ids"][:, 1:].flatten(),
    )
    assert laws.deviation(step(step.init(0), [batch])["loss"], wanted) <= laws.EXACT


def test_a_retrofit_is_what_it_means() -> None:
    program = retrofit(*SLOW, rate="0.05", periods="[1, 1, 2, 4]")
    step = compile_program(program, precision="float64", capture="eager", files={"base": llama()})
    found = laws.agreement(
        laws.Subject(program, step=step), [data(program, 2, 5, i) for i in range(5)]
    )
    assert any(name.startswith("step 5 model.ffn[1].F") for name in found)
    assert not laws.beyond(found)


@pytest.mark.parametrize(
    "edits, periods",
    [((), "[2, 4, 4, 8]"), (LIVES, "[1, 1, 1, 1]")],
    ids=["token", "token, never reset"],
)
def test_a_retrofit_learns_from_the_loss_as_it_reads(edits: tuple, periods: str) -> None:
    """Losses of three steps; what is never reset reads on in its lane with what it learned."""
    program, still = (
        retrofit(*edits, rate="0.05", periods=periods),
        retrofit(*edits, periods=periods),
    )
    given = {"base": llama()}
    steps = [
        compile_program(p, precision="float64", capture="eager", files=given)
        for p in (program, still)
    ]
    oracle, states = Oracle(program, files=given), [step.init(0) for step in steps]
    for i in range(3):
        batch = data(program, 2, 9, i)
        found, frozen = (
            step(state, [batch])["loss"] for step, state in zip(steps, states, strict=True)
        )
        assert laws.deviation(found, oracle.step(batch)[0]["loss"].mean()) <= laws.EXACT
        assert abs(found - frozen) > 1e-4


@pytest.mark.parametrize("capture", ["split", "whole"])
def test_a_retrofit_is_captured(capture: str) -> None:
    plain = compile_program(
        retrofit(*SLOW, rate="0.05", depth="1"),
        precision="float64",
        capture="eager",
        files={"base": llama()},
    )
    assert (
        traced_once(plain, capture, [data(plain.program, 2, 7, i) for i in range(2)]) <= laws.EXACT
    )


def test_files_of_others_are_read_whole_in_shards_and_from_folders(tmp_path: Path) -> None:
    weights = llama()
    names = sorted(weights)
    (tmp_path / "shards").mkdir()
    safetensors.torch.save_file(
        {n: weights[n] for n in names[:9]}, tmp_path / "shards" / "1.safetensors"
    )
    safetensors.torch.save_file(
        {n: weights[n] for n in names[9:]}, tmp_path / "shards" / "2.safetensors"
    )
    (tmp_path / "shards" / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {n: f"{1 + (i >= 9)}.safetensors" for i, n in enumerate(names)}})
    )
    (tmp_path / "whole").mkdir()
    safetensors.torch.save_file(weights, tmp_path / "whole" / "model.safetensors")
    (tmp_path / "retrofit_llama.nl").write_text((EXAMPLES / "retrofit_llama.nl").read_text())
    safetensors.torch.save_file(
        weights | {"lm_head.bias": torch.ones(11)}, tmp_path / "base.safetensors"
    )
    sets = [word for name, value in LLAMA.items() for word in ("--set", f"{name}={value}")]
    for more in (
        ["--load", f"base={tmp_path / 'shards'}"],
        ["--load", f"base={tmp_path / 'whole'}"],
        [],
    ):
        assert "parameters" in done(
            "compile",
            tmp_path / "retrofit_llama.nl",
            *sets,
            "--capture",
            "eager",
            "--length",
            8,
            *more,
        )


# What is not one to one


def code(weights: dict[str, Tensor]) -> list[tuple[str, str]]:
    with pytest.raises(Diagnostics) as found:
        compile_program(retrofit(), capture="eager", files={"base": weights}).init(0)
    return [(d.code, d.span.text()) for d in found.value.diagnostics]


def test_all_that_does_not_fit_is_told_at_its_pair() -> None:
    weights = llama()
    del weights["model.layers.1.mlp.up_proj.weight"]
    weights["model.norm.weight"] = torch.ones(16, dtype=torch.int64)
    weights["model.layers.0.self_attn.q_proj.weight"] = torch.ones(16, 8)
    assert sorted(code(weights)) == [
        ("N731", '"model.layers.{layer}.mlp.up_proj.weight"'),
        ("N732", '"model.layers.{layer}.self_attn.q_proj.weight"'),
        ("N732", '"model.norm.weight"'),
    ]


@pytest.mark.parametrize(
    "ours, theirs, fits",
    [
        ([2, 4, 8], [8, 8], True),
        ([2, 4, 8], [2, 32], True),
        ([8, 2, 4], [8, 8], True),
        ([2, 4, 8], [64], True),
        ([4], [4], True),
        ([4], [2, 2], False),
        ([2, 4], [4, 2], False),
        ([3, 4], [4, 3], False),
        ([2, 4], [2], False),
        ([1, 4], [4], True),
        ([4], [4, 1], True),
        ([], [], True),
        ([2], [], False),
    ],
)
def test_neighbouring_axes_may_be_joined(ours: list[int], theirs: list[int], fits: bool) -> None:
    assert joins(ours, theirs) == fits


def test_what_nothing_loads_is_told(tmp_path: Path) -> None:
    spec = """nldsl 1
import layers
dim d = 4
input ids: index(256)
x = embed(ids, [d])
loss = cross_entropy(linear(x, [256]), next(ids))
level training every step {
    memory W: weights = load("base", "table" -> x, "head" -> loss)
    context ids
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}
"""
    (tmp_path / "s.nl").write_text(spec)
    (tmp_path / "text.txt").write_bytes(Path(json.decoder.__file__).read_bytes())
    safetensors.torch.save_file(
        {"table": torch.randn(256, 4), "head": torch.randn(256, 4), "bias": torch.ones(256)},
        tmp_path / "base.safetensors",
    )
    status, _, err = nldsl(
        "train",
        tmp_path / "s.nl",
        tmp_path / "text.txt",
        "--steps",
        1,
        "--out",
        tmp_path / "run",
        *SMALL,
    )
    assert status == 0, err
    assert "warning[N733]" in err and "1 tensors that nothing loads: `bias`" in err


# On the clock of tokens

READER = """nldsl 1
import layers
dim d = 4, vocab = 5
input ids: index(vocab)
x = embed(ids, [d])
k = unit(linear(x, [d]))
v = linear(x, [d])
level recall every token {
    memory M: [d, d] = load("base", "theirs" -> M)
    context k, v
    minimize |M * k - v|^2 / 2
    M <- M - 0.5 * grad(M)
    reset every 3 token
    bptt full
}
loss = cross_entropy(linear(recall.M * k, [vocab]), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}
"""


@pytest.mark.parametrize("reset", ["reset every 3 token", "reset every sequence", "reset never"])
@pytest.mark.parametrize(
    "start", ['load("base", "theirs" -> M)', '2 * load("base", "theirs" -> M) + I']
)
def test_a_memory_that_reads_starts_from_a_file(reset: str, start: str) -> None:
    program = load_text(
        READER.replace("reset every 3 token", reset).replace('load("base", "theirs" -> M)', start)
    )
    given = {"base": {"theirs": torch.arange(16.0).view(4, 4) / 16}}
    step = compile_program(program, precision="float64", capture="eager", files=given)
    found = laws.agreement(
        laws.Subject(program, step=step), [data(program, 2, 7, i) for i in range(3)]
    )
    assert not laws.beyond(found)
    assert laws.splits(laws.Subject(program, step=step), data(program, 2, 7, 0)) <= laws.EXACT
