"""What is not lowered is known at `check`: each limit has a program that it refuses, and the stages
behind meet the same at that program when nothing is refused before them.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from mutants import mutant, texts

from nldsl import rules
from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostics
from nldsl.frontend.parse import parse
from nldsl.graph.desugar import elaborate
from nldsl.oracle.interpreter import Oracle
from nldsl.pipeline import STANDARD, compile_program, load_text
from nldsl.rules import limits
from nldsl.rules.limits.facts import Facts
from nldsl.source import Source
from nldsl.step.loading import Files
from nldsl.testing import data, laws, sample

FIXTURES = {
    path.stem.partition("_")[2]: path
    for path in sorted((Path(__file__).parent / "errors").glob("N*.nl"))
    if path.stem.startswith("N801") or path.stem == "N505_slope_without_equation"
}
NAMES = {limit.__name__ for limit in limits.LIMITS}
# What the emitted step would say otherwise than the text, so that nothing there can notice it.
SILENT = {"context_of_itself", "slope_of_a_past", "stretch_without_tick"}
QUICK = (
    40  # draws, and mutants: the soak has 2,000 of each, and the examples are compiled elsewhere
)


def program(path: Path) -> Program:
    """Before the rules."""
    source = Source(path.name, path.read_text(encoding="utf-8"))
    return elaborate(parse(source), source, search=[STANDARD])


def test_each_limit_has_a_program() -> None:
    assert {re.sub(r"_\d$", "", name) for name in FIXTURES} == NAMES


def test_a_stage_relies_on_limits_that_there_are() -> None:
    package = Path(__file__).parents[1] / "nldsl"
    texts = [path.read_text(encoding="utf-8") for path in package.glob("s*/**/*.py")]
    relied = {name for text in texts for name in re.findall(r'"limits, (\w+)"', text)}
    assert len(relied) > 20 and relied <= NAMES


@pytest.mark.parametrize("name", FIXTURES)
def test_a_program_is_refused_by_its_own_limit(name: str) -> None:
    made = program(FIXTURES[name])
    facts = Facts(made)
    assert {one.__name__ for one in limits.LIMITS if list(one(facts))} == {
        re.sub(r"_\d$", "", name)
    }
    with pytest.raises(Diagnostics) as found:
        rules.check(made)
    errors = [d for d in found.value.diagnostics if d.severity == "error"]
    assert {d.code for d in errors} == {FIXTURES[name].stem[:4]}
    assert all(d.span is not None and d.help for d in errors)


@pytest.mark.parametrize("name", FIXTURES)
def test_the_stages_behind_meet_what_is_refused(name: str) -> None:
    made = program(FIXTURES[name])
    if name in SILENT:
        compile_program(made, capture="eager")
        return
    with pytest.raises((Diagnostics, AssertionError)) as found:
        compile_program(made, capture="eager")
    if isinstance(found.value, Diagnostics):
        assert {d.code for d in found.value.diagnostics} <= {"N801", "N505"}


def compiles(made: Program, files: Files | None = None) -> None:
    """No more is asked than that a step is written; it is not run."""
    compile_program(made, capture="eager", files=files)


def drawn_compile(count: int, seed: int) -> None:
    for drawn in sample(count, seed):
        made = drawn.program()
        compiles(made, drawn.weights(made))


def mutants_compile(count: int, seed: int) -> None:
    rng, originals, seen = random.Random(seed), texts(), set()
    while len(seen) < count:
        text = mutant(rng, originals)
        try:
            made = load_text(text, "mutant.nl")
        except Diagnostics:
            continue
        if text not in seen:
            seen.add(text)
            compiles(made)


def test_what_is_drawn_compiles() -> None:
    drawn_compile(QUICK, 0)


def test_mutants_that_are_accepted_compile() -> None:
    mutants_compile(QUICK, 0)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(20))
def test_two_thousand_draws_compile(part: int) -> None:
    drawn_compile(100, 1000 + part)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(20))
def test_two_thousand_mutants_compile(part: int) -> None:
    mutants_compile(100, 1000 + part)


LOOKING_BACK = """nldsl 1
import layers
dim d = 3, e = 2
clock near = 2 token
input x: [d]
q = weight([e])
k = unit(linear(x, [e]))
level recall every token {
    memory M: [e, e] = learned
    context k
    minimize |M * k - k|^2
    M <- 0.9 * M - 0.1 * grad(M@near)
    bptt full
}
y = PAST
loss = |linear(y, [d]) - next(x)|^2
level training every step {
    memory W: weights
    context x
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}
"""


@pytest.mark.parametrize(
    "past",
    [
        "k + conv(weight([e]), 3)",
        "conv(weight([e]), 3)@near + k",
        "sum(q over 3 token)",
        "attend(q, q -> weight([e]) over sequence)",
        "recall.M@near * unit(conv(weight([e]), 3))",
        "recall.M * attend(q, k -> conv(weight([e]), 2) over near)",
    ],
)
def test_what_looks_back_at_values_without_a_time(past: str) -> None:
    """Before its first token a sequence has zeros, or nothing: each token sees something else."""
    made = load_text(LOOKING_BACK.replace("PAST", past))
    subject = laws.Subject(made)
    found = laws.agreement(subject, [data(made, 2, length, length) for length in (6, 1, 7)])
    assert not laws.beyond(found)
    assert laws.splits(subject.restart(), data(made, 2, 7, 0)) <= laws.EXACT


def test_a_program_that_nothing_learns_from_says_its_streams() -> None:
    made = load_text("nldsl 1\ninput x: [2]\ny = 2 * x\nz = y + 1\n")
    step = compile_program(made, capture="eager", precision="float64")
    batch = data(made, 2, 5, 0)
    said, (meant,) = step(step.init(0), [batch]), Oracle(made).step([batch])
    assert laws.deviation(said["loss"], 2 * batch["x"].sum() / 10) <= laws.EXACT
    assert laws.deviation(said["z"], meant["z"].sum() / 10) <= laws.EXACT
    still = "nldsl 1\ninput x: [2]\nlevel r every 2 step { memory M: [2] = 1  M <- 0.5 * M }\n"
    silent = compile_program(load_text(still), capture="eager")
    assert silent(silent.init(0), [batch]) == {}
    with pytest.raises(Diagnostics, match="nothing to learn from"):
        assert silent.reading.trained
