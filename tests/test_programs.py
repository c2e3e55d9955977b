"""The drawn programs: the compiler accepts every text, every program runs, and together they use
the whole language, nested constructs included.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, find, settings

from nldsl.diagnostic import Diagnostics
from nldsl.frontend.parse import parse
from nldsl.oracle.interpreter import Oracle
from nldsl.pipeline import compile_program
from nldsl.source import Source
from nldsl.testing import ALL, Drawn, constructs, corners, coverage, data, programs, sample

torch.set_num_threads(1)
UNDRAWN: dict[str, str] = {}
NOT_NESTED = {"grad(e, y)"}  # one layer alone hears the signal of the task loss
NO_PROGRAM = {
    "start: nldsl NUMBER": "a file without a statement has no level",
    "memory: memory NAME : weights = expr": "weights from a file: tests/test_retrofit.py",
}


@cache
def draws(count: int = 160) -> list[Drawn]:
    return sample(count, 0)


def test_every_construct_occurs() -> None:
    found = set().union(*(drawn.constructs for drawn in draws()))
    for drawn in draws():
        assert (
            "level" in drawn.constructs
            and {"every token", "every n token", "every clock"} & drawn.constructs
        ), drawn
    print(f"{len(draws())} texts")
    for name in sorted(ALL):
        print(
            f"{name:24} {sum(name in d.constructs for d in draws()):5} "
            f"{sum(name + ', nested' in d.constructs for d in draws()):5}"
        )
    assert ALL - found <= UNDRAWN.keys()
    assert {name for name in ALL if f"{name}, nested" not in found} <= UNDRAWN.keys() | NOT_NESTED


def test_every_alternative_and_every_name_of_the_library_occurs() -> None:
    """Of each rule of the grammar, with and without each optional part; and what is not drawn says
    why.
    """
    texts = [text for drawn in draws() for text in drawn.texts()]
    for title, whole, used, reasons in (
        (
            "alternatives of the grammar",
            coverage.all_alternatives(),
            coverage.alternatives,
            NO_PROGRAM,
        ),
        ("names of the library", coverage.all_names(), coverage.names, UNDRAWN),
    ):
        met = set().union(*map(used, texts))
        print(coverage.table(title, whole, met, reasons))
        assert met <= whole and len(met) > 0.95 * len(whole)
        assert whole - met <= reasons.keys() or used is coverage.names


def runs(drawn: Drawn) -> str:
    """Checks a program and runs two steps: of the emitted source, or of its meaning if this
    compiler does not lower it.
    """
    program = drawn.program()
    batches = drawn.batches(program, 2)
    assert {len(x) for batch in batches for x in batch.values()} == {drawn.batch}
    try:
        step = compile_program(
            program, precision="float64", capture="eager", files=drawn.weights(program)
        )
    except Diagnostics as error:
        assert all(d.code in ("N505", "N801") for d in error.diagnostics), error
        oracle = Oracle(program, seed=drawn.seed, files=drawn.weights(program))
        for batch in batches:
            oracle.step(batch)
        return error.diagnostics[0].message
    state = step.init(drawn.seed)
    losses = [step(state, [batch])["loss"] for batch in batches]
    assert all(loss.isfinite() for loss in losses), drawn
    return ""


def all_run(count: int) -> None:
    found = Counter(runs(drawn) for drawn in draws(count))
    print(
        f"{count} programs ran two steps, {found['']} of them emitted; the others as their meaning "
        "alone:"
    )
    for message, times in found.most_common():
        print(f"  {times} x {message}" if message else "", end="\n" if message else "")


def test_every_draw_is_a_program_that_runs() -> None:
    all_run(40)


@pytest.mark.soak
def test_every_draw_is_a_program_that_runs_soak() -> None:
    all_run(520)


def test_corners() -> None:
    assert {1} < {drawn.length for drawn in corners()} and {1} < {
        drawn.batch for drawn in corners()
    }
    for drawn in corners():
        assert data(drawn.program(), drawn.batch, drawn.length, 0)


def test_draws_shrink_to_the_simplest_program() -> None:
    """A failure that any program that never resets shows is told by a short one."""
    quiet = settings(
        max_examples=300,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    smallest = find(programs(), lambda drawn: "reset never" in drawn.text, settings=quiet)
    assert len(smallest.text.splitlines()) <= 28, smallest
    assert smallest.batch == smallest.length == 1


def test_constructs_are_read_from_the_text() -> None:
    text = (
        "nldsl 1\nimport optimizers\ndim d = 2\ninput x: [d]\nlevel a every token {\n"
        "    memory M: [d] = 0\n    M <- M + sgd(x, 0.1)\n}\n"
    )
    assert constructs(text) >= {
        "import",
        "dim",
        "input shape",
        "level",
        "every token",
        "memory shape",
        "start number",
        "<- memory",
        "+",
        "unary -",
    }
    assert parse(Source("x", text)) is not None


def test_alternatives_are_those_that_the_parser_takes() -> None:
    found = coverage.alternatives("nldsl 1 dim d = 2 input x: [d]")
    assert {"dims: dim binding", "input: input NAME : type", "shape: [ sum ]"} <= found
    assert "dims: dim binding (, binding)+" not in found
    assert coverage.names("nldsl 1 y = rmsnorm(z)") == {
        "rmsnorm",
        "weight",
        "shape",
        "sqrt",
        "mean",
    }
