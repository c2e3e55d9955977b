"""Data in epochs: each window once in each, in an order that follows from seed and epoch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import SMALL, SPEC, done, nldsl

from nldsl import cli
from nldsl.step.compile import CompiledStep
from nldsl.train import metrics
from nldsl.train import run as runs
from nldsl.train.data.sequences import places, shuffled


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 65, 1000])
def test_an_order_has_each_number_once(n: int) -> None:
    one, other = ([shuffled(key, i, n) for i in range(n)] for key in ("0 epoch 0", "0 epoch 1"))
    assert sorted(one) == sorted(other) == list(range(n))
    assert n < 7 or one != other and one != list(range(n))


@pytest.mark.parametrize("micro", [1, 2])
def test_each_window_is_read_once_an_epoch(micro: int) -> None:
    size, length, lanes = 10 * 16 + 5, 16, 2 * micro  # 10 windows, five positions behind the last
    read = [
        at[0]
        for step in range(1, 21)
        for m in range(micro)
        for at in places(size, 3, step, m, 2, length, False, lanes)
    ]
    for epoch in range(len(read) // 10):
        part = Counter(int(x) for x in read[10 * epoch : 10 * (epoch + 1)])
        assert part == Counter(range(0, 160, 16)), epoch
    assert read[:10] != read[10:20] != read[20:30]


def test_a_run_in_epochs_is_as_long_as_they_are_and_goes_on_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.nl").write_text(SPEC)
    (tmp_path / "t.txt").write_bytes(b"".join(b"%d is %d\n" % (n, n * n) for n in range(60)))
    files = ("train", tmp_path / "s.nl", tmp_path / "t.txt", *SMALL)
    out = done(*files, "--epochs", 2, "--out", tmp_path / "whole")
    opened = runs.reopen(tmp_path / "whole")
    windows, text = len(opened.data.train) // 16, opened.data.train
    assert opened.settings.steps == windows and f"each of {windows:,} windows of 16 bytes" in out
    read = [opened.batches(n)[0]["ids"].numpy() for n in range(1, windows + 1)]
    found = Counter(x.tobytes() for x in np.concatenate(read).astype(np.uint8))
    assert found == Counter(
        text[16 * i : 16 * (i + 1)].tobytes() for i in range(windows) for _ in "ab"
    )
    with monkeypatch.context() as patch:
        call = CompiledStep.__call__

        def broken_off(self: CompiledStep, state: Any, batches: Any) -> Any:
            if state.step == windows // 2 + 1:  # in the second epoch
                raise KeyboardInterrupt
            return call(self, state, batches)

        patch.setattr(CompiledStep, "__call__", broken_off)
        parts = (*files, "--epochs", 2, "--out", tmp_path / "parts", "--save-every", 4)
        assert nldsl(*parts)[0] == cli.INTERRUPTED
    done("train", "--resume", tmp_path / "parts")
    losses = [
        [e["loss"] for e in metrics.events(tmp_path / name / "metrics.jsonl", "step")]
        for name in ("whole", "parts")
    ]
    assert losses[0] == losses[1] and len(losses[0]) == windows
    assert nldsl(*files, "--epochs", 1, "--steps", 3)[0] == cli.USAGE


def test_lanes_that_read_on_have_no_epochs(tmp_path: Path) -> None:
    level = """level recall every token {
    memory M: [4] = 0
    context x
    minimize |M - x|^2 / 2
    M <- M - 0.5 * grad(M)
    reset never
    bptt none
}
loss = cross_entropy(linear(recall.M@after, [256]), next(ids))
"""
    head, _, tail = SPEC.partition("loss = ")
    (tmp_path / "s.nl").write_text(head + level + tail.partition("\n")[2])
    status, _, err = nldsl("train", tmp_path / "s.nl", __file__, *SMALL, "--epochs", 1)
    assert status == cli.RUN and "error[N753]" in err and "outlives" in err
