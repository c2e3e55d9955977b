"""Streams that are read once while their law changes: what is kept of what came before.

classes    intents of CLINC150, a few new ones in each phase, for a model that is not told which;
           a sentence, then its class: `classes with replay` mixes in what came before
domains    one law of the next symbol after another, each a random Markov chain
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.random import Generator

from benchmarks.learning.scales import Scale
from benchmarks.learning.tasks.task import (
    TESTING,
    TRAINING,
    VALIDATION,
    DrawTest,
    Ids,
    Sequence,
    Task,
    Test,
    after,
)

DATA = Path(__file__).parents[1] / "data" / "clinc150_subset.json"
LETTERS = " abcdefghijklmnopqrstuvwxyz'"
ENDS = len(LETTERS) + 1  # 0 pads; letters are 1, 2, ..; then this; then classes
PHASES = 5
METHODS = ("all_one", "spectrum", "ewc")
STREAMS = ("classes", "domains")
REPLAYED = 0.5  # of the sequences, once there is something to replay
SYMBOLS, FEW = 32, 4  # a symbol of a domain has this many likely followers
LAW = 150  # the seed of the laws of domains


@cache
def sentences() -> tuple[list[str], dict[int, list[list[Ids]]]]:
    """Names of the classes; part -> class -> sentences."""
    found = json.loads(DATA.read_text(encoding="utf-8"))
    classes = list(found["classes"])
    parts = {TRAINING: "train", VALIDATION: "val", TESTING: "test"}
    return classes, {
        part: [[letters(one) for one in found["classes"][name][key]] for name in classes]
        for part, key in parts.items()
    }


def letters(sentence: str) -> Ids:
    return np.array([1 + LETTERS.index(one) for one in sentence if one in LETTERS], np.int64)


def asked(sentence: Ids, class_: int, length: int) -> Sequence:
    """Padded in front; the last token is the class, and it alone counts."""
    tokens = np.zeros(length + 1, np.int64)
    said = sentence[-(length - 1) :]
    tokens[length - 1 - len(said) : length - 1] = said
    tokens[-2:] = ENDS, ENDS + 1 + class_
    return after(tokens, np.arange(length + 1) == length)


def phase_of(share: float) -> int:
    return min(int(share * PHASES), PHASES - 1)


def by_phase(drawn: Callable[[int], DrawTest], count: int) -> dict[str, Test]:
    return {f"phase {phase + 1}": Test(drawn(phase), count) for phase in range(PHASES)}


def classes(scale: Scale, replay: bool = False) -> Task:
    """Four sentences in the place of a sequence of text, so a sixteenth of what is read counts."""
    names, parts = sentences()
    each, length = len(names) // PHASES, min(48, scale.length)

    def draw(rng: Generator, share: float) -> Sequence:
        phase = phase_of(share)
        if replay and phase and rng.random() < REPLAYED:
            phase = int(rng.integers(phase))
        return one(rng, TRAINING, phase)

    def one(rng: Generator, part: int, phase: int) -> Sequence:
        class_ = each * phase + int(rng.integers(each))
        choices = parts[part][class_]
        return asked(choices[int(rng.integers(len(choices)))], class_, length)

    return Task(
        name="classes with replay" if replay else "classes",
        systems=("all_one",) if replay else METHODS,
        vocab=ENDS + 1 + len(names),
        length=length,
        lanes=4 * scale.lanes,
        steps=scale.steps,
        draw=draw,
        validation=Test(lambda rng, n: one(rng, VALIDATION, n % PHASES), PHASES * scale.tests),
        tests=by_phase(lambda phase: lambda rng, _: one(rng, TESTING, phase), scale.tests),
        phases=PHASES,
        data="CLINC150, a subset",
    )


@cache
def domain(phase: int) -> np.ndarray:
    """[symbol, next]: a few followers of each symbol share nine tenths, all the rest one."""
    rng = np.random.default_rng([LAW, phase])
    law = np.full((SYMBOLS, SYMBOLS), 0.1 / SYMBOLS)
    for row in law:
        row[rng.permutation(SYMBOLS)[:FEW]] += 0.9 * rng.dirichlet(np.ones(FEW))
    return law


def walk(rng: Generator, phase: int, length: int) -> Sequence:
    bounds = np.cumsum(domain(phase), 1)
    tokens = [int(rng.integers(SYMBOLS))]
    for chance in rng.random(length):
        tokens.append(min(int(np.searchsorted(bounds[tokens[-1]], chance)), SYMBOLS - 1))
    return after(np.array(tokens))


def domains(scale: Scale) -> Task:
    return Task(
        name="domains",
        systems=METHODS,
        vocab=SYMBOLS,
        length=scale.length,
        lanes=scale.lanes,
        steps=scale.steps,
        draw=lambda rng, share: walk(rng, phase_of(share), scale.length),
        validation=Test(lambda rng, n: walk(rng, n % PHASES, scale.length), PHASES * 4),
        tests=by_phase(lambda phase: lambda rng, _: walk(rng, phase, scale.length), scale.tests),
        phases=PHASES,
    )
