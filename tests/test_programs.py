"""What is drawn: every text is accepted, and every construct of the language is among them, alone and nested."""
from __future__ import annotations

from functools import cache

from hypothesis import HealthCheck, find, settings

from nldsl.frontend.parse import parse
from nldsl.pipeline import load_text
from nldsl.source import Source
from nldsl.testing import ALL, Drawn, constructs, corners, data, programs, sample

UNDRAWN = {"load"}                     # reads a file
NOT_NESTED = {"grad(e, y)"}            # one layer alone hears the signal of the task loss


@cache
def draws() -> list[Drawn]:
    return sample(500, 0)


def test_every_construct_occurs() -> None:
    found = set().union(*(drawn.constructs for drawn in draws()))
    for drawn in draws():
        assert "level" in drawn.constructs and {"every token", "every n token", "every clock"} & drawn.constructs, drawn
    print(f"{len(draws())} texts")
    for name in sorted(ALL):
        print(f"{name:24} {sum(name in d.constructs for d in draws()):5} {sum(name + ', nested' in d.constructs for d in draws()):5}")
    assert ALL - found <= UNDRAWN
    assert {name for name in ALL if f"{name}, nested" not in found} <= UNDRAWN | NOT_NESTED


def test_every_draw_is_a_program() -> None:
    for drawn in draws()[:150]:
        program = load_text(drawn.text, "drawn.nl")
        assert {len(x) for x in data(program, drawn.batch, drawn.length, drawn.seed).values()} == {drawn.batch}


def test_corners() -> None:
    assert {1} < {drawn.length for drawn in corners()} and {1} < {drawn.batch for drawn in corners()}
    for drawn in corners():
        load_text(drawn.text, "corner.nl")


def test_draws_shrink_to_the_simplest_program() -> None:
    """A failure that any program that never resets shows is told by a short one."""
    quiet = settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True)
    smallest = find(programs(), lambda drawn: "reset never" in drawn.text, settings=quiet)
    assert len(smallest.text.splitlines()) <= 28, smallest
    assert smallest.batch == smallest.length == 1


def test_constructs_are_read_from_the_text() -> None:
    text = "nldsl 1\nimport optimizers\ndim d = 2\ninput x: [d]\nlevel a every token {\n    memory M: [d] = 0\n    M <- M + sgd(x, 0.1)\n}\n"
    assert constructs(text) >= {"import", "dim", "input shape", "level", "every token", "memory shape", "start number", "<- memory", "+", "unary -"}
    assert parse(Source("x", text)) is not None
