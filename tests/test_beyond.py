"""State beyond a sequence: memories that outlive it, one a lane; starts from files; data that is not text."""
from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from nldsl import cli
from nldsl.diagnostic import Diagnostics
from nldsl.graph.equations import Program
from nldsl.pipeline import compile_program, load_text
from nldsl.step.freeze import frozen
from nldsl.step.oracle import Oracle
from nldsl.testing import data, laws
from nldsl.testing.captures import apart, traced
from nldsl.train import checkpoint, metrics, series
from nldsl.train import data as texts
from nldsl.train import run as runs
from nldsl.train.score import planned, score

torch.set_num_threads(1)
LENGTHS = (7, 7, 5, 7, 7)

READER = """nldsl 1
import layers, optimizers
dim d = 4, head = 2, e = d / head, vocab = 5
clock near = 3 token
clock whole = sequence
clock pair = 2 sequence
input ids: index(vocab)
def net(z: [e]) -> [e] {
    W2 = weight([2 * e, e])
    W1 = weight([e, 2 * e])
    return z + W1 * gelu(W2 * z)
}
def mixer(x: [d]) -> [d] {
    k = unit(linear(x, [head, e]))
    v = unit(linear(x, [head, e]))
    q = unit(linear(x, [head, e]))
    level recall per head every token {
        memory M: net = learned
        context k, v
        minimize |M(k) - v|^2
        M <- 0.9 * M + momentum(grad(M@near), 0.05, 0.5)
        reset never
        bptt full
    }
    return linear(recall.M@now(q), [d])
}
x = embed(ids, [d])
h = x + mixer(rmsnorm(x))
loss = cross_entropy(linear(h, [vocab]), next(ids))
level training every step {
    memory W: rest = random
    context ids
    minimize mean(loss over period)
    W <- W + adamw(W, clip(grad(W), 1), lr = 3e-2, decay = 0.1)
}
"""


def reader(*edits: tuple[str, str]) -> Program:
    text = READER
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return load_text(text)


def batches(program: Program) -> list[laws.Batch]:
    return [data(program, 2, length, i) for i, length in enumerate(LENGTHS)]


# Lanes

RESETS = ("reset never", "reset every 2 sequence", "reset every 2 sequence phase 1", "reset every sequence")
PERIOD = ("memory M: net", "memory M: [e, e]"), ("|M(k) - v|^2", "sum(|M * k - v|^2 over period)"), ("recall.M@now(q)", "recall.M@now * q"), \
    ("every token", "every 2 token")


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("edits", [(), (("M@near", "M"),), (("M@near", "M@whole"),), (("M@near", "M@pair"),), (*PERIOD, ("M@near", "M"))],
                         ids=["chunk", "exact", "copy each sequence", "copy each second sequence", "sum over a period"])
def test_a_memory_that_outlives_a_sequence_is_what_it_means(reset: str, edits: tuple) -> None:
    program = reader(("reset never", reset), *edits)
    found = laws.agreement(laws.Subject(program), batches(program))
    assert not {name: x for name, x in found.items() if not x <= laws.EXACT}


ENDED = ("clock pair", "clock book = document\nclock shelf = 2 document phase 1\nclock pair")


@pytest.mark.parametrize("reset", ["reset every document", "reset every 2 document", "reset every 2 document phase 1", "reset never", "reset every sequence"])
@pytest.mark.parametrize("edits", [(), (("M@near", "M"),), (("M@near", "M@book"),), (("M@near", "M@shelf"),), (*PERIOD, ("M@near", "M")),
                                   (("v = unit(linear(x, [head, e]))", "v = mean(unit(linear(x, [head, e])) over book)"),)],
                         ids=["chunk", "exact", "copy each document", "copy each second document", "sum over a period", "mean over a document"])
def test_documents_end_in_each_lane_where_the_data_says(reset: str, edits: tuple) -> None:
    program = reader(ENDED, ("reset never", reset), *edits)
    subject = laws.Subject(program)
    found = laws.agreement(subject, batches(program))
    assert not {name: x for name, x in found.items() if not x <= laws.EXACT}
    batch = data(program, 2, 7, 0)
    assert laws.splits(subject.restart(), batch) <= laws.EXACT
    assert laws.causality(subject, batch, 3) == laws.independence(subject, batch) == 0.0


def test_what_ends_with_a_sequence_starts_from_what_was_learned_in_between() -> None:
    for reset in ("reset every document", "reset every 2 document", "reset every 2 document phase 1"):
        subject = laws.Subject(reader(ENDED, ("reset never", reset)))
        given = batches(subject.program)
        for batch in given:
            batch["document"][0, -1] = True
        assert not {name: x for name, x in laws.agreement(subject, given).items() if not x <= laws.EXACT}
    subject = laws.Subject(reader(ENDED, ("reset never", "reset every document")))
    sequence = laws.Subject(reader(ENDED, ("reset never", "reset every sequence")))
    given = [batch | {"document": torch.arange(batch["ids"].shape[1]).expand_as(batch["ids"]) == batch["ids"].shape[1] - 1} for batch in given]
    for batch in given:
        a, b = (one.step(one.state, [batch])["loss"] for one in (subject, sequence))
        assert laws.deviation(a, b) <= laws.EXACT


def test_a_document_is_forgotten_at_its_end() -> None:
    """What comes after the end of a document is said as if nothing had been before it."""
    program = reader(ENDED, ("reset never", "reset every document"), ("M@near", "M"))
    subject = laws.Subject(program)
    ids = torch.tensor([[1, 2, 3, 4, 0, 1, 2]])
    ends = torch.tensor([[0, 0, 1, 0, 0, 0, 0]]).bool()
    after = subject.forward({"ids": ids, "document": ends})[0]["loss"][:, 3:]
    alone = subject.forward({"ids": ids[:, 3:], "document": ends[:, 3:]})[0]["loss"]
    kept = subject.forward({"ids": ids, "document": torch.zeros_like(ends)})[0]["loss"][:, 3:]
    assert laws.deviation(after, alone) <= laws.EXACT and laws.deviation(kept, alone) > 1e-3
    with pytest.raises(Diagnostics) as found:
        subject.step(subject.state, [{"ids": ids}])
    assert found.value.diagnostics[0].code == "N308"


@pytest.mark.parametrize("edits, words", [
    ([("bptt full", "bptt 2 document")], "`bptt`"),
    ([("v = unit(linear(x, [head, e]))", "z = linear(x, [head, e])\n    v = attend(z, z -> z over book)")], "attention"),
    ([("|M(k) - v|^2", "sum(|M(k) - v|^2 over book)")], "since a document began"),
    ([*PERIOD, ("reset never", "reset every document")], "goes on in the next sequence"),
    ([*PERIOD], "goes on in the next sequence"),
    ([("reset never", "reset every document"), ("memory M: net = learned", "memory M: net = random")], "drawn anew")])
def test_what_documents_cannot_do_yet_is_said(edits: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(Diagnostics) as found:
        compile_program(reader(ENDED, *edits))
    assert [d.code for d in found.value.diagnostics] == ["N801"] and words in found.value.diagnostics[0].message


@pytest.mark.parametrize("capture", ["split", "whole"])
def test_documents_are_captured(capture: str) -> None:
    program = reader(("reset never", "reset every document"))
    step, counted = traced(program, capture)
    plain = compile_program(program, precision="float64", capture="eager")
    given = [data(program, 2, 7, i) for i in range(3)]
    assert max(apart(step, plain, given)) <= laws.EXACT
    before = counted.graphs
    apart(step, plain, given)
    assert counted.graphs == before


def test_lanes_matter_and_each_has_its_own() -> None:
    subject, forgets = laws.Subject(reader()), laws.Subject(reader(("reset never", "reset every sequence")))
    first, second = (data(subject.program, 2, 7, i) for i in range(2))
    other = {name: torch.cat([x[:1], 4 - x[1:]]) for name, x in first.items()}
    kept = []
    for batch in (first, other):
        subject.restart().step(subject.state, [batch])
        assert set(subject.state.lanes) == {f"h.mixer.recall.{m}.{w}" for m in ("M", "momentum.velocity.m") for w in ("W1", "W2")} | {
            "sequences", "h.mixer.recall.M.W1@near", "h.mixer.recall.M.W2@near"}
        kept.append({name: x.clone() for name, x in subject.state.lanes.items()})
    assert all(torch.equal(kept[0][name][0], kept[1][name][0]) for name in kept[0])
    assert any(not torch.equal(kept[0][name][1], kept[1][name][1]) for name in kept[0])
    losses = []
    for one in (subject, forgets):
        one.restart()
        losses.append([float(one.step(one.state, [batch])["loss"]) for batch in (first, second)])
    assert losses[0][0] == losses[1][0] and abs(losses[0][1] - losses[1][1]) > 1e-4
    assert not forgets.state.lanes


def test_micro_batches_are_lanes_of_one_step() -> None:
    program = reader()
    whole, halves = compile_program(program, precision="float64", capture="eager"), \
        compile_program(program, precision="float64", capture="eager", accumulate=2)
    states = whole.init(0), halves.init(0)
    for i in range(3):
        batch = data(program, 4, 7, i)
        a = whole(states[0], [batch])
        b = halves(states[1], [{name: x[at:at + 2] for name, x in batch.items()} for at in (0, 2)])
        assert laws.deviation(a["loss"], b["loss"]) <= laws.EXACT
    for name, lane in states[0].lanes.items():
        assert laws.deviation(lane, states[1].lanes[name]) <= laws.EXACT
    with pytest.raises(ValueError, match="4 lanes"):
        whole(states[0], [data(program, 2, 7, 0)])


@pytest.mark.parametrize("capture", ["split", "whole"])
def test_lanes_are_captured_without_a_break_or_a_second_trace(capture: str) -> None:
    program = reader()
    step, counted = traced(program, capture)
    plain = compile_program(program, precision="float64", capture="eager")
    given = [data(program, 2, 7, i) for i in range(4)]
    states = [one.init(0) for one in (step, plain)]
    counts = []
    for batch in given:
        a, b = step(states[0], [batch]), plain(states[1], [batch])
        assert laws.deviation(a["loss"], b["loss"]) <= laws.EXACT
        counts.append(counted.graphs)
    assert counts == counts[:1] * 4
    for name, lane in states[0].lanes.items():
        assert laws.deviation(lane, states[1].lanes[name]) <= laws.EXACT
    assert max(apart(step, plain, given)) <= laws.EXACT


def test_a_learner_that_would_see_into_earlier_steps_is_refused() -> None:
    slower = ("h = x + mixer(rmsnorm(x))", """level ffn every 4 step {
    memory F: swiglu([d], hidden = d) = random
    context ids
    minimize mean(loss over period)
    F <- F - 0.1 * grad(F)
    bptt none
}
h = x + mixer(ffn.F(rmsnorm(x)))""")
    with pytest.raises(Diagnostics) as found:
        compile_program(reader(slower))
    assert found.value.diagnostics[0].code == "N801" and found.value.diagnostics[0].help == "`bptt none`, or `bptt none to ffn`"
    compile_program(reader(slower, ("bptt full", "bptt none")), capture="eager")


# Frozen

def test_a_frozen_program_is_the_program_at_rate_zero() -> None:
    made, still = (reader(("0.9 * M + momentum(grad(M@near), 0.05, 0.5)", update)) for update in
                   ("0.9 * M + momentum(grad(M@near), 0.05, 0.5)", "1 * M + momentum(grad(M@near), 0, 0)"))
    batch = data(made, 2, 7, 0)
    weights = Oracle(made).weights
    want = Oracle(still, weights).run(batch)
    found = Oracle(frozen(made), weights).run(batch)
    learns = Oracle(made, weights).run(batch)
    assert torch.equal(found.outputs["loss"], want.outputs["loss"])
    assert not torch.allclose(found.outputs["loss"], learns.outputs["loss"])
    step = compile_program(made, precision="float64", capture="eager")
    state = step.init(0)
    module = step.reader("loss", step.updates.streams["loss"], freeze=True)
    outputs, carry = module["forward"](state.views, batch, module["start"](state.views, 2, batch["ids"].double()), 0, "loop")
    assert laws.deviation(outputs["loss"], want.outputs["loss"]) <= laws.EXACT
    start = module["start"](state.views, 2, batch["ids"].double())
    assert all(torch.equal(carry[name], x) for name, x in start.items() if "recall.M" in name)


# Runs

NUMBERS = ("--batch", "2", "--length", "16", "--capture", "eager", "--precision", "float64", "--save-every", "3")


def nldsl(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def done(*arguments: object) -> str:
    status, out, err = nldsl(*arguments)
    assert status == 0, err
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, a spec that reads it with a memory that outlives a sequence, and a run of six steps."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "reader.nl").write_text(READER.replace("vocab = 5", "vocab = 256"))
    (folder / "text.txt").write_bytes(Path(json.decoder.__file__).read_bytes())
    out = done("train", folder / "reader.nl", folder / "text.txt", "--steps", 6, "--out", folder / "run", *NUMBERS)
    assert "each of 2 lanes reads on in every step where it stopped" in out
    return folder


def memories(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path)


def test_lanes_read_consecutive_text(folder: Path) -> None:
    corpus = texts.load(folder / "text.txt")
    rows = [np.concatenate([corpus.batch(3, n, micro, 2, 16, True)[lane] for n in range(1, 2000)]) for micro, lane in ((0, 1), (1, 0))]
    for row in rows:
        place = corpus.train.tobytes().find(row[:len(corpus.train) // 4].tobytes())
        around = np.arange(place, place + len(row)) % len(corpus.train)
        assert place >= 0 and len(row) > len(corpus.train) and np.array_equal(row, corpus.train[around])
    assert not np.array_equal(*rows)
    assert np.array_equal(corpus.batch(3, 7, 0, 4, 16, True)[2:], corpus.batch(3, 7, 1, 2, 16, True))


def test_a_resumed_run_goes_on_with_its_lanes(folder: Path, tmp_path: Path) -> None:
    (folder / "reader.nl").read_text()
    done("train", folder / "reader.nl", folder / "text.txt", "--steps", 6, "--out", tmp_path / "run", *NUMBERS)
    saved = safetensors.torch.load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert any(name.startswith("lane ") for name in saved)
    whole = memories(tmp_path / "run" / "memory.safetensors")
    assert whole["sequences"].tolist() == [6, 6]
    assert all(torch.equal(saved["lane " + name], x) for name, x in whole.items())
    cut_back(tmp_path / "run", folder, 3)
    done("train", "--resume", tmp_path / "run", "--save-every", 3)
    again = memories(tmp_path / "run" / "memory.safetensors")
    assert all(torch.equal(again[name], x) for name, x in whole.items())
    assert [e["loss"] for e in metrics.events(tmp_path / "run" / "metrics.jsonl", "step")] == [
        e["loss"] for e in metrics.events(folder / "run" / "metrics.jsonl", "step")]


def cut_back(run: Path, folder: Path, step: int) -> None:
    """Put the run back to what it had saved after `step` steps."""
    opened = runs.reopen(run)
    (run / checkpoint.FILE).unlink()
    made, state = runs.compiled(opened)
    for n in range(1, step + 1):
        made(state, opened.batches(n))
    checkpoint.save(run, checkpoint.everything(state), {**opened.numbers, "step": step})


def test_what_was_read_is_handed_on_apart_from_the_weights(folder: Path, tmp_path: Path) -> None:
    run, book, told = folder / "run", tmp_path / "book.txt", tmp_path / "told.safetensors"
    book.write_bytes(Path(json.encoder.__file__).read_bytes())
    fresh = done("eval", run, book)
    assert fresh == done("eval", run, book, "--remember", told)
    assert len(memories(told)["sequences"]) == 1
    assert done("eval", run, book, "--memory", told) != fresh
    out = done("generate", run, "def ", "-n", 8, "--memory", told, "--remember", tmp_path / "after")
    before, after = memories(told), memories(tmp_path / "after")
    assert after["sequences"].tolist() == [before["sequences"][0] + 1] and not torch.equal(after["h.mixer.recall.M.W1"], before["h.mixer.recall.M.W1"])
    assert out == done("generate", run, "def ", "-n", 8, "--memory", told)
    done("generate", run, "def ", "-n", 8, "--memory", told, "--remember", tmp_path / "still", "--freeze")
    assert all(torch.equal(x, before[name]) for name, x in memories(tmp_path / "still").items())
    done("train", folder / "reader.nl", folder / "text.txt", "--steps", 1, "--memory", told, "--out", tmp_path / "other", *NUMBERS)
    lanes = memories(tmp_path / "other" / "memory.safetensors")
    assert (lanes["sequences"] == before["sequences"] + 1).all() and len(lanes["sequences"]) == 2
    first = [metrics.events(where / "metrics.jsonl", "step")[0]["loss"] for where in (tmp_path / "other", run)]
    assert first[0] != first[1]


def test_a_run_that_forgets_at_the_end_of_documents(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "forgets.nl").write_text((folder / "reader.nl").read_text().replace("reset never", "reset every document"))
    (tmp_path / "text").mkdir()
    for i, part in enumerate(Path(json.decoder.__file__).read_bytes().split(b"\n\n")):
        (tmp_path / "text" / f"{i}.txt").write_bytes(part)
    out = done("train", tmp_path / "forgets.nl", tmp_path / "text", "--steps", 3, "--out", tmp_path / "run", *NUMBERS)
    assert "reads on in every step where it stopped" in out
    told = (done("generate", tmp_path / "run", text, "-n", 1, "--remember", tmp_path / "told") and memories(tmp_path / "told") for text in ("ab\0", "ab"))
    ended, goes_on = (x["h.mixer.recall.M.W1"] for x in told)
    start = safetensors.torch.load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert "training.W" in start and not torch.equal(ended, goes_on)


def test_lanes_are_scored_on_whole_documents() -> None:
    text = bytes(random.Random(0).choices(range(1, 256), k=70))
    starts, begins = texts.readings(texts.extents(texts.joined([text, text[:40], text[:33]])), 2, 16, 10**6)
    assert starts.tolist() == [[0, 71], [16, 87], [32, 112], [48, 128]]
    assert begins.tolist() == [[True, True], [False, False], [False, True], [False, False]]
    assert len(texts.readings(texts.extents(texts.joined([text])), 2, 16, 40)[0]) == 2


def test_evaluation_starts_each_document_from_its_start(folder: Path, tmp_path: Path) -> None:
    """Two different documents of one length, scored together in one lane, lose what they lose alone, and a copy of a document as much."""
    text = Path(json.encoder.__file__).read_bytes()
    total = {}
    for name, parts in {"a": [text[:63]], "b": [text[100:163]], "both": [text[:63], text[100:163]]}.items():
        (tmp_path / name).write_bytes(b"\0".join(parts))
        opened = runs.reopen(folder / "run")
        step, state = runs.trained(opened)
        joined = texts.joined(parts)
        plan = planned(opened.corpus, joined, 1, 16, 10**6, True)
        total[name] = score(step, state, opened.corpus, joined, plan, 16, 5, step.seats(1))[0]
    assert total["both"].terms == total["a"].terms + total["b"].terms == 2 * 4 * 15
    assert total["both"].model == pytest.approx((total["a"].model + total["b"].model) / 2, rel=1e-12)


def test_memory_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    run = folder / "run"
    (tmp_path / "soup").write_bytes(b"soup")
    safetensors.torch.save_file({"sequences": torch.ones(1, dtype=torch.int64)}, tmp_path / "other")
    for path, code in (("nothing", "N717"), ("soup", "N712"), ("other", "N717")):
        status, _, err = nldsl("generate", run, "a", "--memory", tmp_path / path)
        assert status == cli.RUN and f"error[{code}]" in err and "Traceback" not in err
    (tmp_path / "forgets.nl").write_text((folder / "reader.nl").read_text().replace("reset never", "reset every sequence"))
    status, _, err = nldsl("train", tmp_path / "forgets.nl", folder / "text.txt", "--steps", 2, "--memory", run / "memory.safetensors", "--out",
                           tmp_path / "run", *NUMBERS)
    assert status == cli.RUN and "error[N718]" in err


# Numbers

FORECAST = """nldsl 1
import layers, optimizers
dim channel = 3, d = 8
input x: [channel]
h = conv(affine(x, [d]), 3)
y = affine(h + swiglu(rmsnorm(h), 2 * d), [channel])
loss = |y - next(x)|^2
level training every step {
    memory W: rest = random
    context x
    minimize mean(loss over period)
    W <- W + adamw(W, clip(grad(W), 1), lr = 1e-2, decay = 0.01)
}
"""


@pytest.fixture
def forecast(tmp_path: Path) -> Path:
    (tmp_path / "forecast.nl").write_text(FORECAST)
    return tmp_path


def table(path: Path, values: np.ndarray, heading: str = "") -> Path:
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        path.write_text(heading + "".join(",".join(map(repr, row)) + "\n" for row in values.tolist()))
    return path


def waves(n: int = 400, channels: int = 3) -> np.ndarray:
    t = np.arange(n)[:, None]
    return 5 + 100 * np.sin(t / (3 + np.arange(channels)))


def test_a_series_is_trained_on_and_scored_beside_simple_predictors(forecast: Path) -> None:
    out = done("train", forecast / "forecast.nl", table(forecast / "waves.csv", waves(), "a,b,c\n"), "--steps", 60, "--out", forecast / "run", *NUMBERS)
    assert "400 points of 3 channels" in out and "bits per byte" not in out
    events = metrics.events(forecast / "run" / "metrics.jsonl", "step")
    assert "bits" not in events[0] and events[-1]["loss"] < 0.5 * events[0]["loss"]
    held_out = metrics.events(forecast / "run" / "metrics.jsonl", "held_out")[0]
    made = series.load(forecast / "waves.csv", 3)
    assert abs(made.train.mean()) < 1e-9 and abs(made.train.std(0) - 1).max() < 1e-9 and len(made.held_out) == 40
    places = np.concatenate([np.arange(s + 1, s + 16) for s in (0, 15)])
    assert held_out["terms"] == 30
    assert held_out["last"] == pytest.approx(((made.held_out[places] - made.held_out[places - 1]) ** 2).sum() / 30)
    assert held_out["mean"] == pytest.approx((made.held_out[places] ** 2).sum() / 30)
    assert f"held out: loss {held_out['loss']:.4f}; squared error of predicting the last value {held_out['last']:.4f}" in out
    again = done("eval", forecast / "run", table(forecast / "waves.npy", waves()))
    assert "points scored" in again
    status, _, err = nldsl("generate", forecast / "run")
    assert status == cli.RUN and "error[N719]" in err


def test_the_series_made_here_is_the_same_everywhere(forecast: Path) -> None:
    first = series.lorenz(3)
    assert first.shape == (series.POINTS, 3) and np.array_equal(first, series.lorenz(3))
    assert 3 < first.std() < 5 and len(np.unique(first[:, 0])) > 0.99 * len(first)
    assert np.allclose(first[0], series.lorenz(3)[0])
    out = done("train", forecast / "forecast.nl", "--steps", 2, "--out", forecast / "run", *NUMBERS)
    assert "Lorenz-96 system made by nldsl" in out and "20,000 points of 3 channels" in out


@pytest.mark.parametrize("name, content, code", [
    ("a.csv", "1,2\n3,4\n", "N706"), ("a.csv", "1,2,3\n1,nan,3\n", "N707"), ("a.csv", "1,2,3\n1,,3\n", "N707"), ("a.csv", "1,2,3\n4,5\n", "N708"),
    ("a.csv", "a,b,c\n", "N709"), ("a.txt", "1,2,3\n", "N709"), ("a.npy", "soup", "N709"), ("a.csv", "1,2,3\n" * 30, "N704"), ("b.csv", None, "N701")])
def test_a_table_that_is_none_is_refused(name: str, content: str | None, code: str, forecast: Path) -> None:
    if content is not None:
        (forecast / name).write_text(content)
    status, _, err = nldsl("train", forecast / "forecast.nl", forecast / name, "--out", forecast / "run", *NUMBERS)
    assert status == cli.RUN and f"error[{code}]" in err and "Traceback" not in err
    assert not (forecast / "run").exists()


@pytest.mark.parametrize("values, code", [(np.ones(9), "N709"), (np.ones((9, 2)), "N706"), (np.array([["a"]]), "N709"),
                                          (np.array([[1, 2, np.inf]]), "N707")], ids=["one axis", "two channels", "words", "infinite"])
def test_an_array_that_is_no_series_is_refused(values: np.ndarray, code: str, tmp_path: Path) -> None:
    with pytest.raises(Diagnostics) as found:
        series.load(table(tmp_path / "a.npy", values), 3)
    assert found.value.diagnostics[0].code == code


def test_a_program_with_two_inputs_has_no_data(forecast: Path) -> None:
    two = FORECAST.replace("input x: [channel]", "input x: [channel]\ninput z: [channel]").replace("affine(x,", "affine(x + z,")
    (forecast / "two.nl").write_text(two.replace("context x", "context x, z"))
    status, _, err = nldsl("train", forecast / "two.nl", "--steps", 2)
    assert status == cli.RUN and "error[N705]" in err
