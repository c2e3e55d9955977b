"""`nldsl trace`: what memories learn at each token, beside the interpreter and a loop by hand."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import family
import numpy as np
import pytest
import torch
from commands import SMALL, SPEC, done, nldsl
from matplotlib.figure import Figure

from nldsl import api, cli, pipeline
from nldsl.core.program import Program
from nldsl.core.timing import at_tokens
from nldsl.oracle.interpreter import Oracle
from nldsl.step.compile import CompiledStep
from nldsl.step.state import State
from nldsl.trace import Trace, page, picture, traced
from nldsl.trace.measured import row, told
from nldsl.trace.quantities import learning, quantities
from nldsl.train import metrics
from nldsl.train import run as runs
from nldsl.train.bench import random_batch
from nldsl.train.results import whole

torch.set_num_threads(1)

FAST = """nldsl 1
import layers
dim d = 4
input ids: index(256)
x = embed(ids, [d])
keep = sigmoid(sum(weight([d]) .* x, d))
level fast every token {
    memory M: [d, d] = 0
    context x
    minimize |M * x - x|^2 / 2
    M <- keep * M - 0.5 * grad(M)
    bptt full
}
loss = cross_entropy(linear(fast.M * x, [256]), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}
"""


def compiled(program: Program) -> tuple[CompiledStep, State]:
    step = pipeline.compile_program(program, capture="eager", precision="float64")
    return step, step.init(0)


def test_a_memory_by_hand() -> None:
    step, state = compiled(pipeline.load_text(FAST))
    batch = random_batch(step.program, 1, 7, "cpu")
    cost, found = told(step, state, batch, {})
    table = next(x.detach() for x in state.views.values() if x.shape == (256, 4))
    gate = next(x.detach() for x in state.views.values() if x.shape == (4,))
    M, rows = torch.zeros(4, 4, dtype=torch.float64), []
    for token in batch["ids"][0].tolist():
        x = table[token]
        keep = torch.sigmoid((gate * x).sum())
        miss = M @ x - x
        after = keep * M - 0.5 * torch.outer(miss, x)
        rows.append([after.norm(), (after - M).norm(), miss.square().sum() / 2, 0.5, keep])
        M = after
    expected = torch.tensor([[float(x) for x in row] for row in rows], dtype=torch.float64).T
    ours = torch.stack([x[0] for x in found["fast.M"].values()])
    assert [*found["fast.M"]] == ["norm", "change", "objective", "rate", "retention"]
    assert torch.allclose(ours, expected, atol=1e-12, rtol=0)
    assert cost[0, 0].isnan() and cost[0, 1:].isfinite().all()


@pytest.mark.parametrize("name", ["titans", "retnet", "cms_tokens", "lact"])
def test_numbers_are_those_of_the_interpreter(name: str) -> None:
    step, state = compiled(family.program(name))
    program = step.program
    memories = learning(program)
    batch = random_batch(program, 2, 5, "cpu")
    cost, found = told(step, state, batch, step.reading.seats(2))
    said = {
        f"{memory}|{what}": node
        for memory, own in quantities(program, memories).items()
        for what, node in own.items()
    }
    outputs = {"cost": step.reading.scored[1], **said}
    weights = {name: state.views[name] for name in program.weights}
    result = Oracle(replace(program, outputs=outputs), weights).run(batch)
    assert isinstance(result.outputs["cost"], torch.Tensor)
    assert torch.allclose(cost[:, 1:], result.outputs["cost"], atol=1e-10, rtol=0)
    for key, node in said.items():
        memory, what = key.split("|")
        exact, ours = result.outputs[key], found[memory][what]
        assert isinstance(exact, torch.Tensor)
        assert at_tokens(program, node) or ours.unique().numel() == 1
        ours = ours[:, ours.shape[1] - exact.shape[1] :]
        assert torch.allclose(ours, exact.expand_as(ours), atol=1e-10, rtol=0), key
    for memory in memories:
        value = result.memories[memory.name]
        arrays = [*value.values()] if isinstance(value, dict) else [value]
        size = sum(x.flatten(1).square().sum(1) for x in arrays) ** 0.5
        assert torch.allclose(found[memory.name]["norm"][:, -1], size, atol=1e-10, rtol=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trace")
    (folder / "text.txt").write_text("".join(f"line {i} of {i * i}\n" for i in range(500)))
    sets = ("--set", "d=8", "--set", "head=2", "--set", "depth=2")
    spec = family.EXAMPLES / "titans.nl"
    done("train", spec, folder / "text.txt", *sets, *SMALL, "--steps", 1, "--out", folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def found(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    text = tmp_path_factory.mktemp("text") / "read.txt"
    text.write_text("if x:\n    y = $2^x$\n")
    opened = runs.reopen(run)
    step, state = runs.trained(opened)
    data = whole(opened, opened.other(text, None, None))
    return traced(opened, step, state, data, 12, step.reading.seats(1))


def test_one_curve_a_memory(found: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    write = metrics.drawn_to

    def noted(figure: Figure, target: Path) -> None:
        drawn.append(figure)
        write(figure, target)

    monkeypatch.setattr(metrics, "drawn_to", noted)
    picture.picture(found, tmp_path / "a.svg")
    top, *below = drawn[0].axes
    assert len(found.memories) == 2 and len(top.lines) == 1
    assert [len(axes.lines) for axes in below] == [2] * 6
    assert list(below[0].lines[0].get_ydata()) == found.memories[[*found.memories][0]]["norm"]
    letters = [label.get_text() for label in below[-1].get_xticklabels()]
    assert "".join(letters) == "if\u00b7x:\u21b5\u00b7\u00b7\u00b7\u00b7y\u00b7"[:12]
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
    long = replace(found, words=("x",) * 400)
    picture.picture(long, tmp_path / "b.svg")
    assert drawn[1].axes[-1].get_xlabel() == "token"


def test_files_and_tables(run: Path, tmp_path: Path) -> None:
    table, data = tmp_path / "a.csv", tmp_path / "a.json"
    said = done("trace", run, "--tokens", 6, "--out", table, "--out", data)
    assert "retention" in said and f"{table}: numbers" in said
    rows = list(csv.DictReader(table.read_text().splitlines()))
    numbers = json.loads(data.read_text())
    assert len(rows) == 6 * 2 and rows[0]["bits"] == ""
    last = rows[-1]
    assert float(last["momentum"]) == numbers["memories"][last["memory"]]["momentum"][5]
    assert float(last["bits"]) == numbers["cost"][5] and len(numbers["words"]) == 6
    assert json.loads(done("trace", run, "--tokens", 6, "--format", "json")) == numbers


def test_rows_in_python_are_those_of_the_csv() -> None:
    program = api.loads(FAST)
    step = program.compile(capture="eager", precision="float64")
    state, ids = step.init(0), torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    before = {name: x.clone() for name, x in state.arrays.items()}
    rows = step.trace(state, {"ids": ids})
    assert all(torch.equal(x, before[name]) for name, x in state.arrays.items())
    assert [(row["sequence"], row["token"]) for row in rows] == [
        (i, t) for i in range(2) for t in range(5)
    ]
    for i, own in enumerate((rows[:5], rows[5:])):
        cost, found = told(step.compiled, state, {"ids": ids[i : i + 1]}, {})
        numbers = {"fast.M": {what: row(x[0]) for what, x in found["fast.M"].items()}}
        words = tuple("abcde")
        trace = Trace("r", 0, "t", words, "loss", "bits", row(cost[0] / math.log(2)), numbers)
        lines = [*csv.DictReader(page.as_csv(trace).splitlines())]
        assert [*lines[0]] == ["token", "word", *[*own[0]][2:]]
        for line, said in zip(lines, own, strict=True):
            for name in line.keys() - {"word", "memory"}:
                value = said[name]
                assert line[name] == "" if value is None else abs(float(line[name]) - value) < 1e-9


def test_memories_stand_layer_by_layer() -> None:
    sizes = {"d": 8, "head": 2, "depth": 2, "vocab": 16}
    hope = api.load(family.EXAMPLES / "hope.nl", **sizes)
    names = [memory.name.split(".") for memory in learning(hope.checked)]
    assert [name[1] for name in names] == ["layer[0]"] * 5 + ["layer[1]"] * 5
    assert names[4][3] == names[9][3] == "M_mem"  # it learns from what the others read


def test_what_cannot_be_traced(run: Path, tmp_path: Path) -> None:
    assert nldsl("trace", run, "--out", tmp_path / "a.gif")[0] == cli.USAGE
    np.save(tmp_path / "one.npy", np.array([97], np.uint16))
    status, _, err = nldsl("trace", run, tmp_path / "one.npy")
    assert status == cli.RUN and "N704" in err and "nothing to foretell" in err
    status, _, err = nldsl("trace", tmp_path)
    assert status == cli.RUN and "N710" in err
    (tmp_path / "plain.nl").write_text(SPEC)
    (tmp_path / "text.txt").write_text("some text\n" * 200)
    out = tmp_path / "plain"
    done("train", tmp_path / "plain.nl", tmp_path / "text.txt", *SMALL, "--steps", 1, "--out", out)
    status, _, err = nldsl("trace", out)
    assert status == cli.RUN and "N738" in err
