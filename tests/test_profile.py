"""`nldsl bench --profile`: the parts of a step sum to it, are called as the levels of the spec, and
the heavy one is seen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from io import StringIO

import family
import pytest
import torch
from commands import nldsl

from nldsl.core.program import Program
from nldsl.pipeline import compile_program, load_text
from nldsl.screen import Screen
from nldsl.step.compile import CompiledStep
from nldsl.step.functions import Job, Run, Tell
from nldsl.testing import data
from nldsl.train.parts import ATTENTION, ELSEWHERE, LOSS, STREAMS
from nldsl.train.profile import Profile, profile_table, profiled, shares
from nldsl.train.watch import Watch

WORDS = {ATTENTION, ELSEWHERE, LOSS, STREAMS}
TWO = """nldsl 1
import layers, optimizers
dim d = 4, wide = 192, vocab = 5
input ids: index(vocab)
def mixer(x: [d], n) -> [d] {
    k = unit(linear(x, [n]))
    v = linear(x, [n])
    level recall every token {
        memory M: [n, n] = 0
        context k, v
        minimize |M * k - v|^2 / 2
        M <- tanh(M - 0.1 * grad(M))
        bptt full
    }
    return linear(recall.M@after * k, [d])
}
x = embed(ids, [d])
light = mixer(x, d)
heavy = mixer(x, wide)
loss = cross_entropy(linear(light + heavy, [vocab]), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W + adamw(W, clip(grad(W), 1), lr = 3e-2, decay = 0.1)
}
"""


@pytest.fixture(autouse=True)
def _uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled functions are those that would be compiled."""

    def obtain(jobs: Sequence[Job], tell: Tell) -> list[Run]:
        return [job.function() for job in jobs]

    monkeypatch.setattr(CompiledStep, "obtain", staticmethod(obtain))


def followed(program: Program, capture: str, steps: int = 1) -> Watch:
    step = compile_program(program, capture=capture)
    watch, state, batch = Watch(step), step.init(0), data(program, 2, 9, 0)
    watch.learn(state, batch.values(), lambda: step(state, [batch]))
    again = step.init(0)
    for _ in range(steps):
        watch.follow(lambda: step(again, [batch]))
    return watch


def levels(watch: Watch) -> set[str]:
    found = {name for parts in shares(watch, 1) for part in parts for name in part}
    return found - WORDS


EVERY = ("hope", "titans", "transformer", "optimizer_m3", "cms_tokens", "lifelong", "ttt_e2e")


@pytest.mark.parametrize(
    "name, capture",
    [
        *((name, "eager") for name in EVERY),
        *((name, "split") for name in EVERY[:2]),
        *(pytest.param(name, "split", marks=pytest.mark.soak) for name in EVERY[2:]),
    ],
)
def test_parts_are_levels_and_the_whole_step(name: str, capture: str) -> None:
    """What is computed is one part or another at each instant but while derivatives are counted,
    and each level that is called by no other has a part.
    """
    program = family.tiny(name)
    watch = followed(program, capture, 6)
    gaps = [end != begin for (*_, end), (*_, begin, _) in zip(watch.spans, watch.spans[1:])]
    assert sum(gaps) <= 2 * 6
    assert levels(watch) == {level.name for level in program.levels.values() if not level.parent}
    whole, found = sum(s for *_, s in watch.seconds()), shares(watch, 1).values()
    assert sum(share.time for share in found) == pytest.approx(whole)


@pytest.mark.parametrize("capture", ["eager", "split"])
def test_a_step_that_is_watched_computes_the_same(capture: str) -> None:
    program = family.tiny("hope")
    plain, seen = (compile_program(program, capture=capture) for _ in range(2))
    Watch(seen)
    batch = data(program, 2, 9, 0)
    one, other = plain.init(0), seen.init(0)
    for _ in range(3):
        plain(one, [batch])
        seen(other, [batch])
    assert all(torch.equal(x, other.tensors[name]) for name, x in one.tensors.items())


@pytest.mark.parametrize("capture", ["eager", "split"])
def test_a_heavy_memory_is_seen(capture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that does not count what other processes take."""
    monkeypatch.setattr("time.perf_counter", time.process_time)
    found = shares(followed(load_text(TWO), capture, 3), 3)
    light, heavy = (found[frozenset([(f"{name}.recall",)])] for name in ("light", "heavy"))
    assert heavy.kept > 100 * light.kept
    assert heavy.time > light.time


def test_what_is_kept_is_what_autograd_is_given_to_keep() -> None:
    """Of the step as it is written; but for what only the carry would keep, on which no loss
    depends.
    """
    program = family.tiny("titans")
    step = compile_program(program, capture="eager")
    state, batch = step.init(0), data(program, 2, 9, 0)
    step.measure(batch)
    known = {*state.tensors.values(), *state.views.values(), *batch.values()}
    places, held = {x.untyped_storage().data_ptr() for x in known}, {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        held.setdefault(x.untyped_storage().data_ptr(), x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        step(state, [batch])
    wanted = sum(x.untyped_storage().nbytes() for at, x in held.items() if at not in places)
    assert 0.95 * wanted < sum(followed(program, "eager").kept.values()) <= wanted


def printed(profile: Profile) -> str:
    with StringIO() as file:
        Screen(file=file, width=80).print(profile_table(profile, "it"))
        return file.getvalue()


def test_the_table() -> None:
    found = profiled(family.tiny("hope"), 2, 2, 16, "cpu", "float32", "eager")
    text = printed(found)
    assert "8 x layer" not in text and "elsewhere" in text and "the step" in text
    assert "training" in text and "…" not in text
    assert found.whole.time == pytest.approx(sum(s.time for s in found.shares.values()))


@pytest.mark.parametrize(
    "arguments, words",
    [(("--capture", "whole"), "one graph has no parts"), (("--capture", "none"), "none")],
)
def test_what_cannot_be_profiled(arguments: tuple[str, ...], words: str) -> None:
    status, _, err = nldsl("bench", "-", "--profile", *arguments, text=TWO)
    assert status == 2 and words in err
