"""Ranks that hold a part of the state each: they make what one process makes, with a share of its
bytes.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import done, nldsl
from ranked import batches, program_of
from test_ranks import EXACT, HOW, SPEC, compared, launched, same, trains
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from nldsl import cli, pipeline
from nldsl.core.nodes import Axis, Tree
from nldsl.diagnostic import Diagnostics
from nldsl.step import room
from nldsl.step.runtime.shards import at_rank, filled, without_rest
from nldsl.step.shards import Shards
from nldsl.step.state import bytes_of
from nldsl.train import metrics
from nldsl.train.ranks import Ranks

torch.set_num_threads(1)
ROOT = Path(__file__).parent.parent
HELD = 0.30  # of one process's bytes, by each of four ranks
# sizes that three ranks do not part, a memory of one array that begins anew, an average of weights
ODD = """nldsl 1
import layers, optimizers, averages
dim d = 5, vocab = 256
input ids: index(vocab)
x = embed(ids, [d])
level slow every 3 step {
    memory F: [d, d] = random
    memory b: [d] = 0
    context ids
    minimize mean(loss over period)
    F <- F + muon(clip(grad(F), 1), 1e-2)
    b <- b - 0.1 * clip(grad(b), 1)
    reset every 6 step
    bptt none
}
loss = cross_entropy(linear(rmsnorm(x + slow.F * x + slow.b), [vocab]), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W + adamw(W, clip(grad(W), 1), lr = 1e-2, decay = 0.1)
}
average = ema(training.W, 0.9)
"""


def folder_of(tmp_path: Path) -> Path:
    (tmp_path / "spec.nl").write_text(SPEC)
    (tmp_path / "text.txt").write_bytes(Path(__file__).read_bytes())
    return tmp_path


# -- parts of arrays


def tree(*shapes: tuple[int, ...]) -> Tree:
    return Tree(
        tuple((f"w{i}", tuple(Axis(f"a{n}", n) for n in shape)) for i, shape in enumerate(shapes))
    )


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_parts_are_the_whole_again(count: int) -> None:
    """Arrays that ranks part evenly and those that they do not, one with fewer numbers than
    ranks.
    """
    type, shards = tree((4, 3), (5,), (), (2, 2, 7)), Shards(count)
    whole = torch.arange(1.0, 47)
    parts = [shards.of(whole, type, rank) for rank in range(count)]
    assert {len(part) for part in parts} == {shards.size(type)}
    assert torch.equal(shards.whole(torch.stack(parts), type), whole)


def test_the_step_parts_as_the_state_does() -> None:
    """What an update keeps of an array, and what a sum leaves out."""
    x = torch.arange(1.0, 12).view(11, 1)
    type, shards = (Axis("n", 11), Axis("m", 1)), Shards(4)
    ranks = [torch.tensor([rank]) for rank in range(4)]
    own = [at_rank(x, 4, rank) for rank in ranks]
    assert all(torch.equal(part, shards.of(x, type, rank)) for rank, part in enumerate(own))
    assert torch.equal(filled(torch.stack(own), [11, 1]), x)
    spoilt = [torch.where(part == 0, torch.nan, part) for part in own]
    rest = [without_rest(part, [11], 4, rank) for part, rank in zip(spoilt, ranks)]
    assert torch.stack(rest).sum() == x.sum()


# -- a step


@pytest.mark.parametrize("name", ["hope", "titans", "ttt_e2e", "optimizer_m3"])
def test_a_rank_of_four_holds_its_share(name: str) -> None:
    """Of weights, of what optimizers keep and of what periods add up; the last rank too, whose
    parts are filled up.
    """
    step = pipeline.compile_program(
        program_of(name), precision="float64", capture="eager", ranks=4, rank=3, shard=True
    )
    state = step.init(0)
    whole = bytes_of(state.tensors)
    assert whole == room.state_bytes(step.updates.whole_state, step.dtype)
    assert bytes_of(step.parted(state).tensors) <= HELD * whole


def test_what_a_model_computes_is_written_as_for_one_process() -> None:
    """Its blocks are given whole weights; the step gathers them before."""
    program = program_of("hope")
    texts = [
        pipeline.compile_program(program, capture="eager", ranks=ranks, shard=shard).source
        for ranks, shard in ((1, False), (2, True))
    ]
    first, second = (text[: text.index("def update_1(")].split("\n\n\n") for text in texts)
    assert first == second
    assert "every_part" not in texts[0] and "every_part(" in texts[1]


class Gathers:
    """What the first of four ranks gathers in a pass: in `order` the number of the group, in `most`
    the bytes of gathered arrays that were there at once. The others hold what it holds.
    """

    def __init__(self, name: str) -> None:
        program = program_of(name, depth="2")
        step = pipeline.compile_program(
            program, precision="float64", capture="eager", ranks=4, shard=True
        )
        state, micro = step.trial(), batches(program, 1, Ranks())[:1]
        self.groups = step.module["GATHERED"]
        self.sizes = [8 * sum(map(prod, group.values())) for group in self.groups]
        self.there: list[tuple[StorageWeakRef, int]] = []
        self.order: list[int] = []
        self.most, self.fills = 0, step.module["filled"]
        step.module |= {"gathered": self.gathers(step.module["gathered"]), "filled": self.filled}
        with step.apart():
            step.given(state, micro)

    def gathers(self, gathered: Any) -> Any:
        def noted(W: dict[str, Tensor], group: dict[str, list[int]]) -> dict[str, Tensor]:
            self.order += [self.groups.index(group)] * bool(group)
            found: dict[str, Tensor] = gathered(W, group)
            return found

        return noted

    def filled(self, parts: Tensor, sizes: list[int]) -> Tensor:
        x: Tensor = self.fills(parts, sizes)
        self.there.append((StorageWeakRef(x.untyped_storage()), 8 * x.numel()))
        self.most = max(self.most, sum(n for at, n in self.there if not at.expired()))
        return x


@pytest.mark.parametrize("name", ["hope", "titans"])
def test_a_block_is_given_up_and_gathered_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward each block once; backward, from the last but one on, those whose weights are read
    there. There is one block at a time, and where the recurrences of all layers start.
    """
    found = Gathers(name)
    count = sum(map(bool, found.groups))
    first, again = found.order[:count], found.order[count:]
    assert first == sorted(first) and again == sorted(again, reverse=True)
    assert first[-1] not in again and len({*again}) == len(again) >= 2
    starts = sum(
        size for group, size in zip(found.groups, found.sizes) if any(".start." in n for n in group)
    )
    rest = [size for group, size in zip(found.groups, found.sizes) if ".start." not in str(group)]
    assert found.most <= starts + max(rest) < 0.75 * sum(found.sizes)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)  # as in one graph
    alike = Gathers(name)
    assert alike.order == first and alike.most == sum(found.sizes)


def test_what_blocks_share_stays() -> None:
    """A weight that is read before a recurrence and behind it, and what each window reads."""
    tied = SPEC.replace("x = embed(ids, [d])", "w = weight([d, d])\nx = w * embed(ids, [d])")
    tied = tied.replace("rmsnorm(y + slow", "rmsnorm(w * y + slow")
    for program, name in (
        (pipeline.load_text(tied, "tied.nl"), "w"),
        (program_of("ttt_e2e"), "loss.layer[0].plain.attention.q"),
    ):
        text = pipeline.compile_program(program, capture="eager", ranks=2, shard=True)
        staying, *blocks = text.module["GATHERED"]
        assert name in staying, [*staying]
        assert not any(staying.keys() & group.keys() for group in blocks)


@pytest.mark.parametrize("name", ["learned_optimizer", "local_sgd", "cms"])
def test_what_reads_whole_memories_is_refused(name: str) -> None:
    program = pipeline.load(ROOT / f"examples/{name}.nl")
    with pytest.raises(Diagnostics, match="N725") as found:
        pipeline.compile_program(program, capture="eager", ranks=2, shard=True)
    assert found.value.diagnostics[0].span is not None


# -- the same run


def alike(found: dict[str, dict[str, Any]]) -> None:
    for name, one in found.items():
        assert one["losses"] <= EXACT and one["states"] <= EXACT, (name, one)
        assert one["replicas"] == 0, name


def test_two_ranks_with_a_part_each_make_what_one_process_makes(tmp_path: Path) -> None:
    """Four periods and a clipped gradient; Newton-Schulz of whole matrices. What is gathered is
    what the report says.
    """
    found = compared(tmp_path, 2, {"hope": 16, "optimizer_m3": 5}, "--shard")
    alike(found)
    for one in found.values():
        counted_as_reported(one, 2)


def counted_as_reported(one: dict[str, Any], ranks: int) -> None:
    """Bytes that ranks gave in each step of two micro-batches, each its part; and what a
    rank holds.
    """
    levels = one["held"]
    read, again, given = (
        2 * sum(x[what] for x in levels) for what in ("gathered", "again", "given")
    )
    for n, (gathered, parted) in enumerate(zip(one["gathered"], one["scattered"], strict=True)):
        ticks = sum(x["ticks"][n % len(x["ticks"])] for x in levels)
        assert read < ranks * sum(gathered) - ticks <= read + again and sum(parted) == given, n
    counters = 8 * 100
    assert 0 <= one["bytes"][0] - sum(x["held"] for x in levels) < counters


@pytest.mark.soak
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_with_a_part_each_make_what_one_process_makes(tmp_path: Path, ranks: int) -> None:
    names = "hope", "titans", "ttt_e2e", "optimizer_m3", "lifelong", "titans_carried"
    found = compared(tmp_path, ranks, dict.fromkeys(names, 20), "--shard")
    alike(found)
    for one in found.values():
        own, whole = one["bytes"]
        assert own <= (HELD if ranks == 4 else 0.55) * whole


@pytest.mark.soak
def test_any_number_of_ranks_goes_on_with_parts(tmp_path: Path) -> None:
    """Sharded 2 -> sharded 4 -> 1 -> 2 -> sharded 2, in the midst of a period and not."""
    folder, run = folder_of(tmp_path), tmp_path / "many"
    done(*trains(folder, tmp_path / "one", 23, "--eval-every", 9))
    for ranks, steps, how in (
        (2, 5, ["--shard"]),
        (4, 10, ["--shard"]),
        (1, 14, []),
        (2, 17, []),
        (2, 23, ["--shard"]),
    ):
        given = (
            trains(folder, run, 5, "--eval-every", 9)
            if steps == 5
            else ("train", "--resume", run, "--steps", steps)
        )
        status, said = launched(ranks, "-m", "nldsl", *given, *how)
        assert status == 0, said
        assert ("sharded: each of" in said) == bool(how)
    same(tmp_path / "one", run)
    assert "held out:" in done("eval", run, "--bytes", 200)


@pytest.mark.soak
def test_three_ranks_with_uneven_parts(tmp_path: Path) -> None:
    """What is filled up is in no norm and in no weight; an average is scored by rank 0."""
    (tmp_path / "odd.nl").write_text(ODD)
    (tmp_path / "text.txt").write_bytes(Path(__file__).read_bytes())
    how = ["train", tmp_path / "odd.nl", tmp_path / "text.txt", "--batch", 6, *HOW[2:]]
    how += ["--steps", 11, "--weights", "average", "--eval-every", 5, "--eval-bytes", 300]
    done(*how, "--out", tmp_path / "one")
    status, said = launched(3, "-m", "nldsl", *how, "--out", tmp_path / "three", "--shard")
    assert status == 0, said
    same(tmp_path / "one", tmp_path / "three")
    one, three = (
        [e["score"] for e in metrics.events(tmp_path / name / "metrics.jsonl", "eval")]
        for name in ("one", "three")
    )
    assert len(one) == 2 and one == pytest.approx(three, abs=EXACT)


@pytest.mark.soak
@pytest.mark.parametrize("capture", ["split", "whole"])
def test_gathers_stand_inside_compiled_graphs(tmp_path: Path, capture: str) -> None:
    """The compiler takes each function whole (`fullgraph`), its messages too."""
    (tmp_path / "odd.nl").write_text(ODD)
    (tmp_path / "text.txt").write_bytes(Path(__file__).read_bytes())
    micro = "2" if capture == "split" else "1"
    how = ["train", tmp_path / "odd.nl", tmp_path / "text.txt", *HOW[:2], "--accumulate", micro]
    how += [*HOW[4:8], "--steps", 7]
    done(*how, "--capture", "eager", "--out", tmp_path / "one")
    parts = ["--capture", capture, "--shard", "--out", tmp_path / "two"]
    status, said = launched(2, "-m", "nldsl", *how, *parts)
    assert status == 0 and "compiled " in said, said
    same(tmp_path / "one", tmp_path / "two")


def test_one_process_has_nobody_to_share_with(tmp_path: Path) -> None:
    status, _, err = nldsl(
        "train", ROOT / "examples/lifelong.nl", "--shard", "--out", tmp_path / "one"
    )
    assert status == cli.USAGE and "begin it by torchrun" in err
    assert not (tmp_path / "one").exists()
