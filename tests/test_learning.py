"""Runs of benchmarks/learning: laws of the tasks, equal systems, records that are gone on from, and
a report that is made of them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.learning import protocol, report
from benchmarks.learning.protocol import CHOICE, RUN, Row, row_of, rows
from benchmarks.learning.scales import FULL, QUICK
from benchmarks.learning.systems import CHANGES, INNER, NEAR, SYSTEMS, parameters, program, width
from benchmarks.learning.tasks import continual, formal, recall, tasks
from benchmarks.learning.tasks.task import Task
from nldsl.train.run import reads_on

torch.set_num_threads(1)
VOCAB = 129
SOME = ("transformer", "gla", "hope", "ewc")


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", SOME)
def test_systems_are_equal(name: str) -> None:
    hidden, said = width(name, QUICK, VOCAB)
    found = parameters(program(name, QUICK, VOCAB, hidden))
    assert found == said and abs(found / QUICK.parameters - 1) <= NEAR


@pytest.mark.parametrize(
    "change,name", [(change, next(iter(found))) for change, found in CHANGES.items()]
)
def test_a_change_leaves_systems_equal(change: str, name: str) -> None:
    hidden, said = width(name, FULL, VOCAB, change)
    found = program(name, FULL, VOCAB, hidden, change=change)
    assert parameters(found) == said and abs(said / FULL.parameters - 1) <= NEAR


@pytest.mark.parametrize("name", INNER)
def test_without_memory_the_weights_are_the_same(name: str) -> None:
    plain = program(name, QUICK, VOCAB, 8, taught=False)
    assert program(name, QUICK, VOCAB, 8, off=True, taught=False).weights == plain.weights


def test_mqar_asks_each_key_once() -> None:
    one = recall.mqar_sequence(rng(), 64, 8)
    pairs = dict(zip(one.ids[0:16:2].tolist(), one.ids[1:16:2].tolist()))
    asked = dict(zip(one.ids[one.mask].tolist(), one.target[one.mask].tolist()))
    assert len(pairs) == 8 and asked == pairs and (np.flatnonzero(one.mask) >= 16).all()


def test_a_needle_is_found_in_its_haystack() -> None:
    one = recall.needle_sequence(rng(), 64, 4)
    key, (place,) = one.ids[-1], np.flatnonzero(one.ids[:-2] == one.ids[-1])
    assert one.ids[place - 1] == recall.MARK and one.ids[place] == key
    assert one.target[one.mask].tolist() == [one.ids[place + 1]]


WORDS = {
    "a^n b^n": ([1, 1, 2, 2], [0, 1, 1, 2, 3]),
    "a^n b^n c^n": ([1, 2, 3], [0, 1, 3, 4]),
}


def test_counters_say_what_may_follow() -> None:
    """By hand: for aabb, after `b` a `b` is left, then the end; for abc, after `b` a `c`."""
    assert formal.counted(2, rng(), 4, 4) == WORDS["a^n b^n"]
    assert formal.counted(3, rng(), 3, 3) == WORDS["a^n b^n c^n"]


def test_parity_and_brackets() -> None:
    bits, sets = formal.parity(rng(), 9, 9)
    assert sets == [sum(bit - 1 for bit in bits[:n]) % 2 for n in range(10)]
    symbols, sets = formal.shuffle_2(rng(), 20, 20)
    assert sets[0] == sets[-1] == 0 and len(symbols) == 20
    for n, found in enumerate(sets):
        depth = [symbols[:n].count(1 + kind) - symbols[:n].count(3 + kind) for kind in range(2)]
        assert found == (depth[0] > 0) + 2 * (depth[1] > 0)


def test_a_domain_is_walked_by_its_law() -> None:
    law, one = continual.domain(1), continual.walk(rng(), 1, 20_000)
    assert np.allclose(law.sum(1), 1) and not np.allclose(law, continual.domain(0))
    counts = np.zeros_like(law)
    np.add.at(counts, (one.ids, one.target), 1)
    expected = counts.sum(1, keepdims=True) * law
    assert (np.abs(counts - expected) <= 5 * np.sqrt(expected) + 3).all()


def test_a_batch_depends_on_seed_and_step_alone(few: dict[str, Task]) -> None:
    for task in few.values():
        one, again, other = (task.batch(seed, 3, 9)["ids"] for seed in (0, 0, 1))
        assert torch.equal(one, again) and not torch.equal(one, other), task.name
        assert torch.isclose(task.batch(0, 3, 9)["mask"].mean(), torch.tensor(1.0))


def test_a_lane_reads_on_where_it_stopped(few: dict[str, Task]) -> None:
    """The target of its last token is the first token of its next sequence."""
    one, two = (few["carried"].batch(0, step, 9) for step in (4, 5))
    assert torch.equal(one["target"][:, -1], two["ids"][:, 0])
    assert not torch.equal(one["ids"][0], one["ids"][1]), "lanes begin at places of their own"
    programs = [program(name, QUICK, VOCAB, 8).checked for name in few["carried"].systems]
    assert [reads_on(one) for one in programs] == [False, True]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes(bytes(np.random.default_rng(0).integers(97, 123, 20_000).astype(np.uint8)))
    return {task.name: task for task in tasks(QUICK, path)}


def test_what_is_recorded_is_not_run_again(few: dict[str, Task], tmp_path: Path) -> None:
    """Stops behind each row, as with no hours left; the rate with the lowest loss is run."""
    told = []
    while more := list(protocol.everything([few["mqar"]], {"transformer"}, QUICK, 0, tmp_path)):
        told += more
        assert len(more) == 1 and "failed" not in more[0], more
    assert [one["purpose"] for one in told] == [CHOICE] * 3 + [RUN] * QUICK.seeds
    assert protocol.read(tmp_path) == told
    best = min(told[:3], key=lambda one: one["validation"])["rate"]
    assert {one["rate"] for one in told[3:]} == {best}


def test_a_change_is_run_beside_its_system(few: dict[str, Task], tmp_path: Path) -> None:
    """A record of before there were changes is one without."""
    change = "periods 1"
    plain = Row("quick", "classes", "spectrum", CHOICE, 0, QUICK.rates[0])
    old = {name: value for name, value in plain.__dict__.items() if name != "change"}
    protocol.write(old | {"validation": 1.0}, tmp_path)
    assert row_of(protocol.read(tmp_path)[0]) == plain
    every = [few["classes"]], {"spectrum", "all_one"}, QUICK, 0, tmp_path, (change,)
    (found,) = protocol.everything(*every)
    assert "failed" not in found and found["change"] == change and found["system"] == "spectrum"
    assert found["hidden"] == width("spectrum", QUICK, few["classes"].vocab, change)[0]
    left = [row for row in rows(few["classes"], "spectrum", QUICK, protocol.read(tmp_path))]
    assert {row.rate for row in left} == {*QUICK.rates[1:]} and not any(row.change for row in left)


def test_a_rate_that_failed_is_not_chosen() -> None:
    task = tasks(QUICK, Path(__file__))[1]
    known = [
        Row("quick", "mqar", "titans", CHOICE, 0, rate).__dict__ | {"validation": loss}
        for rate, loss in zip(QUICK.rates, (2.0, None, 1.0))
    ]
    assert {row.rate for row in rows(task, "titans", QUICK, known)} == {QUICK.rates[2]}


def test_the_report_is_that_of_the_records() -> None:
    records = protocol.read()
    assert report.PAGE.read_text(encoding="utf-8") == report.page(records)
    drawn = {path.name: path.read_text(encoding="utf-8") for path in report.PLOTS.glob("*.svg")}
    assert drawn and drawn == report.pictures(records)


def test_the_largest_scale_is_reported() -> None:
    quick = [record for record in protocol.read() if record["scale"] == QUICK.name]
    both = [record | {"scale": scale.name} for scale in (FULL, QUICK) for record in quick]
    assert "quick runs" not in report.page(both)
    assert set(SYSTEMS) >= {record["system"] for record in both}
