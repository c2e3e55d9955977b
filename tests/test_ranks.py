"""Several processes that take a run together: they make what one makes, send a sum when a level
takes it, and lose nothing when one of them dies.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from commands import done, nldsl
from ranked import ACCUMULATE, SMALL, batches, program_of
from test_workers import HEAD, TEXTS

from nldsl import cli, pipeline
from nldsl.diagnostic import Diagnostics
from nldsl.step import reductions, sending
from nldsl.step.compile import Given
from nldsl.step.gauges import Gauges
from nldsl.step.reductions import at_ticks, traffic
from nldsl.step.updates import Updates
from nldsl.testing import data
from nldsl.train import checkpoint, metrics
from nldsl.train.ranks import Ranks
from nldsl.train.records import Settings
from nldsl.train.skipping import Skipping

torch.set_num_threads(1)
ROOT = Path(__file__).parent.parent
EXACT = 1e-9
# with how many steps: a tick of hope's period 16, and of the slow ones of others
MEMORIES = {
    "hope": 16,
    "titans": 3,
    "ttt_e2e": 3,
    "optimizer_m3": 5,
    "lifelong": 4,
    "transfer_backpropagation": 5,
}
# two periods, a memory that outlives a sequence, and rates that do not know how long the run is
SPEC = """nldsl 1
import layers, optimizers
dim d = 8, head = 2, e = d / head, vocab = 256
input ids: index(vocab)
x = embed(ids, [d])
k = unit(project(x, [head, e]))
v = project(x, [head, e])
level recall per head every token {
    memory M: [e, e] = 0
    context k, v
    minimize |M * k - v|^2 / 2
    M <- 0.9 * M - 0.5 * grad(M)
    reset never
    bptt full
}
y = x + linear(recall.M@after * k, [d])
level slow every 4 step {
    memory F: swiglu([d], hidden = 2 * d) = random
    context ids
    minimize mean(loss over period)
    F <- F + adamw(F, clip(grad(F), 1), lr = 1e-2, decay = 0.1)
    bptt none
}
loss = cross_entropy(linear(rmsnorm(y + slow.F(rmsnorm(y))), [vocab]), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W + adamw(W, clip(grad(W), 1), lr = 1e-2, decay = 0.1)
}
"""
OVERFLOWS = """nldsl 1
input x: [2]
w = weight([], init = 0)
loss = (w * x[0] - x[1])^2 * exp(500 * max(x[0] - 5, 0))
level training every step {
    memory W: weights
    context x
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}
"""
HOW = "--batch 4 --accumulate 2 --length 8 --precision float64 --capture eager".split()


def command(ranks: int, *arguments: object, restarts: int = 0) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}"]
    return [*launcher, f"--max-restarts={restarts}", *map(str, arguments)]


def environment() -> dict[str, str]:
    laws = {"NLDSL_LAWS": ""}  # other tests hold the stages to them
    return {**os.environ, **laws, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def launched(ranks: int, *arguments: object) -> tuple[int, str]:
    done = subprocess.run(
        command(ranks, *arguments),
        capture_output=True,
        text=True,
        env=environment(),
        cwd=ROOT,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def compared(
    folder: Path, ranks: int, steps: Mapping[str, int], *how: str
) -> dict[str, dict[str, Any]]:
    """What `ranked.py` says of so many steps of each example."""
    asked = [f"{name}={count}" for name, count in steps.items()]
    status, said = launched(ranks, "tests/ranked.py", folder, *how, *asked)
    assert status == 0, said
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in steps}


# -- the same run


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Steps of two ranks, beside those of one process."""
    return compared(tmp_path_factory.mktemp("ranks"), 2, MEMORIES)


@pytest.mark.parametrize("name", MEMORIES)
def test_two_ranks_make_what_one_process_makes(both: dict[str, dict[str, Any]], name: str) -> None:
    """Losses, and everything that a checkpoint saves; what all ranks hold is bit for bit one."""
    found = both[name]
    assert found["losses"] <= EXACT and found["states"] <= EXACT and found["replicas"] == 0


def test_a_level_sends_at_its_own_clock(both: dict[str, dict[str, Any]]) -> None:
    """Of four periods 1, 4, 16 and 64 so many gradients, of so many bytes, those of each step in
    one message, and what slow levels take in another; the report counts as many bytes.
    """
    sent, levels = both["hope"]["sent"], both["hope"]["levels"]
    size = {one["level"].rpartition(".")[2]: one["at_each"] for one in levels}
    for n, messages in enumerate(sent, 1):
        due = [size[f"ffn[{p}]"] for p in (4, 16, 64) if n % p == 0]
        assert messages == [size["training"] + size["ffn[1]"], *([sum(due)] if due else [])], n
        assert sum(messages) == sum(one["bytes"][n - 1] for one in levels)


def test_slow_levels_send_a_third_of_what_each_step_would_take(
    both: dict[str, dict[str, Any]],
) -> None:
    continuum = [one for one in both["hope"]["levels"] if ".ffn[" in one["level"]]
    assert len(continuum) == 4 and {len(one["bytes"]) for one in continuum} == {64}
    own = sum(sum(one["bytes"]) for one in continuum)
    assert own <= 0.34 * 64 * sum(one["at_each"] for one in continuum)


def test_nothing_is_sent_before_a_level_takes_it() -> None:
    """Where all learn at each fourth step, ranks have nothing to tell each other at the others."""
    rare = SPEC.replace("level training every step", "level training every 4 step").replace(
        "bptt full", "bptt none"
    )
    updates = Updates(pipeline.scheduled(pipeline.load_text(rare, "rare.nl")).steps, 2)
    updates.emit()
    assert [one.sums for one in traffic(updates, 8)] == [(0, 0, 0, 1)] * 2
    assert [len(messages) for messages in at_ticks(updates, 8)] == [0, 0, 0, 1]


def test_a_text_of_one_process_names_no_ranks() -> None:
    program = pipeline.load_text(SPEC, "spec.nl")
    text = pipeline.compile_program(program, capture="eager").source
    assert "over_ranks" not in text
    assert "over_ranks(" in pipeline.compile_program(program, capture="eager", ranks=2).source


def test_ranks_part_lanes_evenly() -> None:
    """Their lanes are those of one process, in its order; 3 ranks do not part 4 sequences."""
    lanes = torch.arange(12)  # of 2 micro-batches of 6
    assert [Ranks(r, 3).own(lanes, 2).tolist() for r in range(3)] == [
        [0, 1, 6, 7],
        [2, 3, 8, 9],
        [4, 5, 10, 11],
    ]
    with pytest.raises(Exception, match="N722") as found:
        Ranks(0, 3).share(4)
    assert "--batch 3" in str(found.value)


def test_ranks_watch_what_one_process_watches() -> None:
    """Two ranks with the same lanes: gradients are those of all, also where a period adds them up;
    each rank adds its share of what all of them hold.
    """
    program, told = pipeline.load_text(SPEC, "spec.nl"), []
    for ranks in (1, 2):
        step = pipeline.compile_program(program, precision="float64", capture="eager", ranks=ranks)
        step.module["over_ranks"] = lambda x, ranks: ranks * x
        gauges, state, found = Gauges(step), step.init(0), []
        for n in range(8):
            step(state, [data(program, 2, 6, n)])
            found += [
                (name, float(ranks * x)) for name, x in zip(gauges.last.names, gauges.last.squares)
            ]
        told.append(found)
    (names, one), (others, two) = (zip(*found) for found in told)
    assert names == others and {level.rpartition(".")[2] for level, _ in names} == {
        "training",
        "slow",
    }
    assert one == pytest.approx(two, rel=EXACT)


def test_a_step_that_another_rank_leaves_out_is_left_out() -> None:
    program = pipeline.load_text(OVERFLOWS, "spec.nl")
    step = pipeline.compile_program(program, precision="float64", capture="eager")
    batch = {"x": torch.ones(1, 3, 2, dtype=torch.float64)}
    for there, moved in ((0, True), (1, False)):
        state = step.init(0)
        values = Skipping(step, lambda x, there=there: x + there)(state, [batch])
        assert bool(state.arrays["w"] != 0) == moved and bool(values["skipped"]) != moved


# -- on the way while others are still worked out


class Network:
    """One that a step of two ranks sends its messages into, and that hears when a derivative comes:
    `events` in their order.
    """

    def __init__(self, name: str, group: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sending, "GROUP", group)
        self.program = program_of(name)
        self.step = pipeline.compile_program(
            self.program, precision="float64", capture="eager", accumulate=ACCUMULATE, ranks=2
        )
        self.state = self.step.init(0)
        self.events: list[str] = []
        self.step.module["over_ranks"] = self.sends
        for array, block in self.step.emitted.reads.items():
            self.state.views[array].register_hook(partial(self.comes, block))

    def sends(self, x: torch.Tensor, ranks: int) -> torch.Tensor:
        self.events.append("sent")
        return 2 * x

    def comes(self, block: int, g: torch.Tensor) -> None:
        self.events.append(f"block {block}")

    def given(self) -> Given:
        """Both micro-batches; the derivatives of the first are not listened to."""
        self.events.clear()
        micros = batches(self.program, 1, Ranks())
        return self.step.given(self.state, micros)

    def last(self) -> list[str]:
        """What came in the last micro-batch."""
        return self.events[len([e for e in self.events if e != "sent"]) // 2 :]

    def waits(self, n: int) -> int:
        """The messages of step n at which nothing is left to be worked out meanwhile."""
        self.events.clear()
        self.state.step = n - 1
        self.step(self.state, batches(self.program, 1, Ranks()))
        return next(i for i, event in enumerate(self.events[::-1]) if event != "sent")


def test_gradients_are_sent_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the last blocks while the first are worked out; they are the sums of both
    micro-batches, over all ranks, and what a period adds up stays a rank's own.
    """
    network = Network("hope", 1, monkeypatch)
    found = network.given()
    events = network.last()
    assert events.index("sent") < events.index("block 2") < events.index("block 1")
    assert events.count("sent") == len({*network.step.emitted.reads.values()})
    step = pipeline.compile_program(
        network.program, precision="float64", capture="eager", accumulate=ACCUMULATE
    )
    alone = step.given(step.init(0), batches(network.program, 1, Ranks()))
    early = {heard.key for heard in network.step.updates.early}
    assert {key.partition("|")[0].rpartition(".")[2] for key in early} == {"W", "F"}
    assert len(early) == 2 and found.grads.keys() == alone.grads.keys()
    for key, g in found.grads.items():
        wanted = alone.grads[key] * (2 if key in early else 1)
        assert g.shape == wanted.shape and float((g - wanted).abs().max()) <= EXACT, key


def test_a_slow_network_delays_a_step_by_few_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four periods, in a turn of 64 steps: by the last of those that go as they come, and by one
    where slow levels tick. A trainer that sends every gradient when a step is worked out waits for
    one of each level.
    """
    network = Network("hope", 4096, monkeypatch)
    updates, table = network.step.updates, network.step.schedule.table
    kinds = [table.kind(n) for n in range(1, 65)]
    waits = {kind: network.waits(1 + kinds.index(kind)) for kind in set(kinds)}
    for kind, count in waits.items():
        assert count == 1 + bool({*updates.sent[kind + 1]} - updates.early)
    assert len(waits) == 4
    assert sum(waits[kind] for kind in kinds) == 64 + 16


# -- workers


WORKERS = dict.fromkeys(("diloco", "drawn", "carried"), 7)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Seven steps of two ranks with two workers each."""
    return compared(tmp_path_factory.mktemp("workers"), 2, WORKERS)


@pytest.mark.parametrize("name", WORKERS)
def test_two_ranks_have_two_workers_each(workers: dict[str, dict[str, Any]], name: str) -> None:
    found = workers[name]
    assert found["losses"] <= EXACT and found["states"] <= EXACT and found["replicas"] == 0
    assert found.get("loop", 0) <= EXACT


def test_workers_send_one_message_a_round(workers: dict[str, dict[str, Any]]) -> None:
    """As many numbers as weights, at every third step; no gradient, and no loss."""
    (level,) = workers["diloco"]["levels"]
    assert level["bytes"] == [0, 0, level["at_each"]] and level["sums"] == [0, 0, 1]
    assert workers["diloco"]["sent"] == [[], [], [level["at_each"]]] * 2 + [[]]


def test_a_rank_has_the_state_of_its_own_workers() -> None:
    program = pipeline.load_text(HEAD + TEXTS["drawn"], "drawn.nl", {"worker": "4"})
    whole = pipeline.compile_program(program, capture="eager").init(0).arrays
    for rank in range(2):
        step = pipeline.compile_program(program, capture="eager", ranks=2, rank=rank)
        arrays = step.init(0).arrays
        apart = {name for name, x in arrays.items() if x.shape != whole[name].shape}
        assert {"local.W.w", "local.W.b", "local.N"} <= apart
        assert all("local" in name for name in apart)
        for name, x in arrays.items():
            own = slice(2 * rank, 2 * rank + 2)
            assert torch.equal(x, whole[name][own] if name in apart else whole[name])
            assert torch.equal(x, step.own(whole[name], x.shape))


NUMBERED = "S - mean([1, 2, 3, 4] .* (S - local.W@after), worker)"
APART = "S - 0.5 * mean(S - local.W@after, worker)"
OF_ALL = """
level late every 3 step {
    memory D: [c] = mean(local.N, worker)
    D <- D / 2
    reset every 6 step
}
read = late.D .* x
"""
# ranks, sequences, what is changed in the text -> what is said
REFUSED: tuple[tuple[int, int, str, str, str], ...] = (
    (2, 4, "", "", ""),
    (3, 6, "", "", "error[N722]: 4 workers are not equally many on each of 3 ranks"),
    (3, 6, "", "", "help: `--set worker=6`, or 2 ranks"),
    (8, 8, "", "", "help: `--set worker=8`, or 4 ranks"),
    (2, 6, "", "", "error[N760]: 6 sequences of a micro-batch are not equally many for each of 4"),
    (2, 4, APART, NUMBERED, "error[N724]: a rank has some of the workers"),
)


@pytest.mark.parametrize("count, batch, was, now, said", REFUSED)
def test_workers_that_ranks_do_not_part(
    count: int, batch: int, was: str, now: str, said: str
) -> None:
    text = HEAD + TEXTS["two"].replace(was, now) if was else HEAD + TEXTS["two"]
    program = pipeline.load_text(text, "spec.nl", {"worker": "4"})
    settings = Settings(batch=batch)
    if not said:
        return Ranks(0, count).hold(settings, program)
    with pytest.raises(Diagnostics) as found:
        Ranks(0, count).hold(settings, program)
    assert said in str(found.value)


def test_a_start_that_all_workers_make_is_of_one_process() -> None:
    text = HEAD + TEXTS["drawn"] + OF_ALL
    program = pipeline.load_text(text, "spec.nl", {"worker": "4"})
    with pytest.raises(Diagnostics, match="N724") as found:
        Ranks(0, 2).hold(Settings(batch=4), program)
    assert "starts from what all workers hold" in str(found.value)


# -- runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "spec.nl").write_text(SPEC)
    (folder / "text.txt").write_bytes(Path(json.decoder.__file__).read_bytes())
    return folder


def trains(folder: Path, out: Path, steps: int, *more: object) -> tuple[object, ...]:
    texts = folder / "spec.nl", folder / "text.txt"
    return "train", *texts, *HOW, "--steps", steps, "--out", out, *more


def losses(run: Path) -> list[float]:
    return [event["loss"] for event in metrics.events(run / "metrics.jsonl", "step")]


def same(one: Path, other: Path) -> None:
    """Two runs have the same losses and checkpoints."""
    assert losses(one) == pytest.approx(losses(other), abs=EXACT)
    kept = [safetensors.torch.load_file(run / "checkpoint.safetensors") for run in (one, other)]
    assert kept[0].keys() == kept[1].keys()
    assert max(float((x - kept[1][name]).abs().max()) for name, x in kept[0].items()) <= EXACT


@contextmanager
def running(ranks: int, *arguments: object, restarts: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command(ranks, "-m", "nldsl", *arguments, restarts=restarts),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def worker(launcher: int, rank: int) -> int | None:
    """The process of a rank."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            told = (stat.parent / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == launcher and f"RANK={rank}".encode() in told:
            return int(stat.parent.name)
    return None


def saved(run: Path) -> int:
    path = run / "metrics.jsonl"
    found = metrics.events(path, "saved") if path.exists() else []
    return found[-1]["step"] if found else 0


def killed(launcher: subprocess.Popen[str], run: Path, rank: int, after: int) -> int:
    """Kills a rank as soon as a step after `after` is announced as saved; the step."""
    while saved(run) <= after:
        assert launcher.poll() is None
        time.sleep(0.002)
    pid = worker(launcher.pid, rank)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return saved(run)


@pytest.mark.soak
def test_a_rank_that_dies_is_named_and_the_run_goes_on(folder: Path) -> None:
    """`--max-restarts` goes on from the last announced step; one process makes the run longer, and
    it is the run of one process.
    """
    whole, parted = folder / "one", folder / "two"
    done(*trains(folder, whole, 36))
    how = trains(folder, parted, 30, "--save-every", 3)
    with running(2, *how, restarts=1) as launcher:
        at = killed(launcher, parted, 1, 0)
        said, _ = launcher.communicate()
    assert launcher.returncode == 0, said
    # by the other rank, or by `torchrun` if that ends it first
    assert "error[N723]: of 2 ranks, rank 1 ended" in said or "local_rank: 1" in said
    again = int(re.findall(r"resumed after step (\d+)", said)[0])
    assert at <= again < 30 and said.count("held out:") == 1
    done("train", "--resume", parted, "--steps", 36)
    same(whole, parted)
    assert [e["step"] for e in metrics.events(parted / "metrics.jsonl", "step")] == [*range(1, 37)]
    assert "held out:" in done("eval", parted, "--bytes", 200)
    assert done("generate", parted, "de", "-n", 3).startswith("de")


def levels(run: Path) -> list[float]:
    """What `--watch` wrote of each level in each step."""
    return [
        x
        for event in metrics.events(run / "metrics.jsonl", "step")
        for _, said in sorted(event["levels"].items())
        for _, x in sorted(said.items())
    ]


@pytest.mark.soak
@pytest.mark.parametrize("spec, how", [("spec", []), ("spec", ["--shard"]), ("diloco", [])])
def test_ranks_are_watched(tmp_path: Path, folder: Path, spec: str, how: list[str]) -> None:
    """With parts of the state each, and with some of the workers each, too."""
    sizes = SMALL["diloco"].replace("vocab=5 ", "").split() if spec == "diloco" else []
    given = [f"--set={row}" for row in sizes] + ["--watch", "--steps", "9"]
    place = ROOT / "examples/diloco.nl" if sizes else folder / "spec.nl"
    texts = "train", place, folder / "text.txt", *HOW, *given
    done(*texts, "--out", tmp_path / "one")
    status, said = launched(2, "-m", "nldsl", *texts, *how, "--out", tmp_path / "two")
    assert status == 0 and "gradient norm" in said, said
    same(tmp_path / "one", tmp_path / "two")
    assert levels(tmp_path / "one") == pytest.approx(levels(tmp_path / "two"), rel=1e-7)


@pytest.mark.soak
def test_ranks_score_as_one_process_does(tmp_path: Path, folder: Path) -> None:
    """As they train: the same scores, the same best, the same end."""
    scores = ("--eval-every", 4, "--eval-bytes", 200, "--patience", 2)
    done(*trains(folder, tmp_path / "one", 40, *scores))
    status, said = launched(2, "-m", "nldsl", *trains(folder, tmp_path / "two", 40, *scores))
    assert status == 0, said
    same(tmp_path / "one", tmp_path / "two")
    one, two = (
        [(e["step"], e["score"]) for e in metrics.events(tmp_path / n / "metrics.jsonl", "eval")]
        for n in ("one", "two")
    )
    assert len(one) > 1 and [n for n, _ in one] == [n for n, _ in two]
    assert [x for _, x in one] == pytest.approx([x for _, x in two], abs=EXACT)
    best = [checkpoint.manifest(tmp_path / n, checkpoint.BEST) for n in ("one", "two")]
    assert best[0] and best[1] and best[0].step == best[1].step


# -- the report


def test_the_report_counts_bytes_and_predicts(folder: Path) -> None:
    out = done("compile", folder / "spec.nl", *HOW[:2], "--length", 8, *HOW[6:], "--ranks", 64)
    assert re.search(r"slow +│ once in 4 steps", out) and "predicted: " in out
    assert "126 / 64 of a sum pass each rank at 25 GB/s" in " ".join(out.split())
    slower = done(
        *("compile", folder / "spec.nl", *HOW[:2], "--length", 8, *HOW[6:]),
        *("--ranks", 64, "--bandwidth", "1Gb/s"),
    )
    assert "at 125 MB/s" in " ".join(slower.split())


@pytest.mark.parametrize("wrong", ["25", "GB/s", "0GB/s", "25 GiB/s"])
def test_a_bandwidth_is_a_rate(folder: Path, wrong: str) -> None:
    status, _, err = nldsl("compile", folder / "spec.nl", "--ranks", 2, "--bandwidth", wrong)
    assert status == cli.USAGE and "is not a bandwidth" in err


# -- what takes longer


def test_a_checkpoint_that_ranks_part_is_theirs_again() -> None:
    """Lanes go to the ranks that have them; what a period added up is on one of them, once."""
    program = pipeline.load_text(SPEC, "spec.nl")
    whole = pipeline.compile_program(program, precision="float64", capture="eager", accumulate=2)
    state = whole.init(0)
    whole.seat(state, 8)
    with torch.no_grad():
        for x in (*state.tensors.values(), *state.lanes.values()):
            x.copy_(torch.arange(1, 1 + x.numel()).view(x.shape))
    kept = {name: x.clone() for name, x in state.tensors.items()}
    lanes = {name: x.clone() for name, x in state.lanes.items()}
    parts = []
    for rank in range(2):
        step = pipeline.compile_program(program, precision="float64", capture="eager", ranks=2)
        given = replace(
            state,
            tensors={name: x.clone() for name, x in kept.items()},
            lanes={name: x.clone() for name, x in lanes.items()},
        )
        parts.append(Ranks(rank, 2).parted(step, given, 2))
    sums = reductions.parts(step.updates)
    assert sums == ["grad slow.F|loss|slow"]
    for name, x in kept.items():
        each = [part.tensors[name] for part in parts]
        assert torch.equal(each[0] + each[1] if name in sums else each[1], x), name
    for name, x in lanes.items():
        assert torch.equal(x[[0, 1, 4, 5]], parts[0].lanes[name]), name
        assert torch.equal(x[[2, 3, 6, 7]], parts[1].lanes[name]), name


FULL = dict.fromkeys((*SMALL, *TEXTS), 20) | {"hope": 65}


@pytest.mark.soak
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_make_what_one_process_makes_in_full(tmp_path: Path, ranks: int) -> None:
    """A tick of each of hope's periods; twenty steps of all others. `cms` doubles what rounding
    leaves about every second step: longer runs of it are apart however they are added up.
    """
    for name, found in compared(tmp_path, ranks, FULL).items():
        assert found["losses"] <= EXACT and found["states"] <= EXACT, name
        assert found["replicas"] == 0 and found.get("loop", 0) <= EXACT, name


@pytest.mark.soak
@pytest.mark.parametrize("capture", ["split", "whole"])
def test_messages_stand_inside_compiled_graphs(tmp_path: Path, folder: Path, capture: str) -> None:
    """The compiler takes each function whole (`fullgraph`), its messages too."""
    micro = "2" if capture == "split" else "1"
    how = [*HOW[:2], "--accumulate", micro, *HOW[4:8], "--steps", 9, "--capture", capture]
    texts = folder / "spec.nl", folder / "text.txt"
    status, said = launched(2, "-m", "nldsl", "train", *texts, *how, "--out", tmp_path / "two")
    assert status == 0 and "compiled " in said, said
    done("train", *texts, *how, "--out", tmp_path / "one")
    same(tmp_path / "one", tmp_path / "two")


@pytest.mark.soak
def test_any_number_of_ranks_goes_on(tmp_path: Path, folder: Path) -> None:
    """4 -> 1 -> 4 -> 2 -> 4, in the midst of a period and not."""
    done(*trains(folder, tmp_path / "one", 23))
    goes_on(
        trains(folder, tmp_path / "many", 5), tmp_path / "many", (4, 1, 4, 2, 4), (5, 9, 12, 18, 23)
    )
    same(tmp_path / "one", tmp_path / "many")


def goes_on(
    how: tuple[object, ...], run: Path, ranks: tuple[int, ...], steps: tuple[int, ...]
) -> None:
    """A run of so many steps on so many ranks, then of more on others."""
    for count, end in zip(ranks, steps, strict=True):
        status, said = launched(count, "-m", "nldsl", *how)
        assert status == 0, said
        assert metrics.events(run / "metrics.jsonl", "step")[-1]["step"] == end
        later = steps[steps.index(end) + 1 :]
        how = ("train", "--resume", run, "--steps", *later[:1])


@pytest.mark.soak
def test_workers_go_on_on_any_number_of_ranks(tmp_path: Path, folder: Path) -> None:
    """In the midst of a round and not; a checkpoint is that of one process."""
    sets = [f"--set={row}" for row in (*SMALL["diloco"].replace("vocab=5 ", "").split(), "round=3")]
    texts = ROOT / "examples/diloco.nl", folder / "text.txt"

    def how(name: str, steps: int) -> tuple[object, ...]:
        return "train", *texts, *sets, *HOW, "--steps", steps, "--out", tmp_path / name

    done(*how("one", 7))
    done("train", "--resume", tmp_path / "one", "--steps", 14)
    goes_on(how("many", 7), tmp_path / "many", (4, 1), (7, 14))
    goes_on(how("more", 7), tmp_path / "more", (2, 4), (7, 14))
    same(tmp_path / "one", tmp_path / "many")
    same(tmp_path / "one", tmp_path / "more")


@pytest.mark.soak
def test_ranks_leave_out_the_steps_that_one_leaves_out(tmp_path: Path) -> None:
    """A number that overflows is in the lanes of one of them."""
    (tmp_path / "spec.nl").write_text(OVERFLOWS)
    rows = [f"{n % 7 / 7},{n % 5 / 5}" for n in range(400)]
    rows[150] = "30,0"
    (tmp_path / "table.csv").write_text("\n".join(["a,b", *rows]))
    texts = tmp_path / "spec.nl", tmp_path / "table.csv"
    how = ("train", *texts, *HOW, "--steps", 20, "--not-finite", "skip", "--out")
    said = done(*how, tmp_path / "one")
    status, too = launched(2, "-m", "nldsl", *how, tmp_path / "two")
    assert status == 0, too
    told = re.findall(r"\d+ of 20 steps were not finite", said)
    assert told and re.findall(r"\d+ of 20 steps were not finite", too) == told
    same(tmp_path / "one", tmp_path / "two")


@pytest.mark.soak
def test_ten_kills_lose_nothing_that_was_announced(tmp_path: Path, folder: Path) -> None:
    """Of a random one of four ranks at a random moment, each after a step was announced as
    saved.
    """
    chance = random.Random(0)
    run = tmp_path / "killed"
    done(*trains(folder, tmp_path / "one", 300))
    with running(4, *trains(folder, run, 300, "--save-every", 2), restarts=10) as launcher:
        for _ in range(10):
            before = killed(launcher, run, chance.randrange(4), saved(run))
            time.sleep(chance.random())
            assert saved(run) >= before
        said, _ = launcher.communicate()
    assert launcher.returncode == 0, said
    same(tmp_path / "one", run)


@pytest.mark.soak
def test_a_run_that_ranks_refuse_says_so_once(folder: Path) -> None:
    how = trains(folder, folder / "odd", 3, "--batch", 3)
    status, said = launched(2, "-m", "nldsl", *how)
    assert status != 0 and said.count("error[N722]") == 1 and not (folder / "odd").exists()


@pytest.mark.soak
def test_a_loss_that_is_not_finite_is_traced_once(tmp_path: Path, folder: Path) -> None:
    """By one process, which runs the steps of all lanes again."""
    (tmp_path / "wild.nl").write_text(SPEC.replace("lr = 1e-2", "lr = 1e200"))
    how = ("train", tmp_path / "wild.nl", folder / "text.txt", *HOW, "--steps", 40)
    status, said = launched(2, "-m", "nldsl", *how, "--out", tmp_path / "wild")
    assert status != 0 and said.count("error[N720]") == 1
    assert "by its update" in said or "in the stream" in said, said
