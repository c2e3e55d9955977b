"""`weights of x` owns the weights of the `x` in scope: in a def that is called twice, and in each
iteration of a loop.
"""

from __future__ import annotations

import pytest
from texts import training

from nldsl.diagnostic import Diagnostics
from nldsl.frontend.parse import parse
from nldsl.frontend.unparse import unparse
from nldsl.pipeline import load_text
from nldsl.source import Source

OWN = """
    level own every step {
        memory V: weights of y
        context x
        minimize mean(loss over period)
        V <- V - 0.1 * grad(V)
    }
"""
TRAINING = training("x", "W - 0.01 * grad(W)")
LAYER = "def layer_of(x: [4]) {\n    y = weight([4], init = 3) .* x" + OWN + "    return y\n}\n"


def owners(text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, weight in load_text("nldsl 1\ninput x: [4]\n" + text).weights.items():
        found.setdefault(weight.owner or "", set()).add(name)
    return found


def test_a_definition_of_the_def_and_not_that_of_the_program() -> None:
    text = LAYER + "y = weight([4], init = 5) .* x\nloss = |layer_of(x) + y - next(x)|^2" + TRAINING
    assert owners(text) == {"loss.own.V": {"loss.y"}, "training.W": {"y"}}


def test_a_def_called_twice() -> None:
    text = (
        LAYER
        + "a = layer_of(x)\nb = layer_of(a)\n"
        + "w = weight([4])\nloss = |b + w - next(x)|^2"
        + TRAINING
    )
    assert owners(text) == {"a.own.V": {"a.y"}, "b.own.V": {"b.y"}, "training.W": {"w"}}


def test_the_definition_of_an_iteration() -> None:
    level = OWN.replace("level own", "level own[i]")
    text = (
        "h = x\nfor i in range(2) {\n    y = weight([4]) .* h" + level + "    h <- h + y\n}\n"
        "w = weight([4])\nloss = |h + w - next(x)|^2" + TRAINING
    )
    assert owners(text) == {"own[0].V": {"i[0].y"}, "own[1].V": {"i[1].y"}, "training.W": {"w"}}


@pytest.mark.parametrize("iteration, other", [("0", 1), ("1", 0), ("2 - 1", 0)])
def test_the_definition_of_a_named_iteration(iteration: str, other: int) -> None:
    level = OWN.replace("weights of y", f"weights of layer[{iteration}].y [a]")
    text = (
        "h = x\nfor layer in range(2) {\n    y = weight([4]) .* h\n    h <- h + y\n}\n"
        "loss = |h - next(x)|^2" + level + TRAINING
    )
    mine = {f"layer[{1 - other}].y"}
    assert owners(text) == {"own.V": mine, "training.W": {f"layer[{other}].y"}}


def test_what_calls_of_an_iteration_make() -> None:
    level = OWN.replace("level own", "level own[i]").replace("weights of y", "weights of mixer")
    text = (
        "def mixer(x: [4]) {\n    k = weight([4]) .* x\n    return k + weight([4])\n}\nh = x\n"
        "for i in range(2) {"
        + level
        + "    h <- h + mixer(h)\n}\nw = weight([4])\nloss = |h + w - next(x)|^2"
        + TRAINING
    )
    found = owners(text)
    assert {name.split(".")[0] for name in found["own[0].V"]} == {"i[0]"}
    assert {name.split(".")[0] for name in found["own[1].V"]} == {"i[1]"}
    assert found["training.W"] == {"w"}


def test_a_level_outside_sees_the_definitions_around_it() -> None:
    text = (
        "y = weight([4]) .* x\nz = weight([4]) .* y\nloss = |z - next(x)|^2"
        + OWN.replace("\n    ", "\n")
        + TRAINING
    )
    assert owners(text) == {"own.V": {"y"}, "training.W": {"z"}}


@pytest.mark.parametrize("of", ["y", "y.part"])
def test_a_def_does_not_see_the_definitions_of_the_program(of: str) -> None:
    text = (
        "def layer_of(x: [4]) {\n    z = weight([4]) .* x"
        + OWN.replace("weights of y", f"weights of {of}")
        + "    return z\n}\ny = weight([4]) .* x\nloss = |layer_of(x) + y - next(x)|^2"
        + TRAINING
    )
    with pytest.raises(Diagnostics) as found:
        owners(text)
    assert [d.code for d in found.value.diagnostics] == ["N113"]


def test_two_levels_for_one_part() -> None:
    again = OWN.replace("level own", "level other")
    with pytest.raises(Diagnostics) as found:
        owners("y = weight([4]) .* x\nloss = |y - next(x)|^2" + OWN + again)
    assert [d.code for d in found.value.diagnostics] == ["N111"]


@pytest.mark.parametrize("of", ["layer[i + 1].mixer", "layer[0].mixer [a, b]", "a.b[2].c.d"])
def test_a_named_iteration_is_written_as_it_was_said(of: str) -> None:
    text = f"nldsl 1\n\nlevel own never {{\n    memory V: weights of {of}\n}}\n"
    assert unparse(parse(Source("a.nl", text))) == text
