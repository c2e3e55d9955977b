"""How the text of a step is written: lines that fit, loops for equal layers, short names."""

from __future__ import annotations

import ast

from nldsl.step.layout import WIDTH, fold
from nldsl.step.loops import looped
from nldsl.step.names import Names, short

KEY = "loss.layer[{0}].mixer.a_memory_with_quite_a_long_name.recall.M.W1"


def same(text: str, lines: list[str]) -> bool:
    """Do the lines say what the text says? Brackets and quotation marks are free."""
    return ast.dump(ast.parse(text)) == ast.dump(ast.parse("\n".join(lines)))


def test_long_statements_are_opened_at_their_brackets() -> None:
    key = KEY.format(0)
    texts = [
        f'(a, b), (new["{key}"], new["{key}@chunk"]) = block_1(x, W["{key}"], carry["{key}"], 0)',
        f'y = first(W["{key}"]) * second(W["{key}"]) + third(W["{key}"], x[:, None], (1, 2, 3))',
        f'return {{"{key}": carry["{key}"], "loss": loss}}, new',
        "z = " + " + ".join(f"term_{i}" for i in range(40)),
        f'S["{"x" * 150}"].zero_()',
    ]
    for text in texts:
        lines = fold(text)
        assert len(lines) > 1 and max(map(len, lines)) <= WIDTH, lines
        inner = text.removeprefix("return ")
        assert same(inner, "\n".join(lines).removeprefix("return ").splitlines())


FIRST = ("", 'x = embed(W["table"])')
LAYERS = [
    (f"layer[{i}]", f'x_{i} = f({given}, W["layer[{i}].w"])')
    for i, given in enumerate(("x", "x_0", "x_1"))
]
VARIABLES = ("x", "x_0", "x_1", "x_2")


def test_equal_turns_become_a_loop() -> None:
    assert looped([FIRST, *LAYERS, ("", "return x_2")], VARIABLES) == [
        'x = embed(W["table"])',
        "for layer in range(3):",
        '    x = f(x, W[f"layer[{layer}].w"])',
        "return x",
    ]


def test_what_a_loop_would_overwrite_is_no_loop() -> None:
    """The embedding is read again behind the layers."""
    calls = [FIRST, *LAYERS, ("", "return x_2 + x")]
    assert looped(calls, VARIABLES) == [text for _, text in calls]


def test_unequal_turns_are_no_loop() -> None:
    calls = [("layer[0]", 'f(W["layer[0].w"])'), ("layer[1]", 'g(W["layer[1].w"])')]
    assert looped(calls) == [text for _, text in calls]


def test_names_are_without_what_they_share() -> None:
    levels = {"loss.mixer.recall", "loss.mixer.recall.S.velocity"}
    found = short(["loss.mixer.recall.M.W1@chunk", "loss.mixer.recall.S.velocity.m.W1"], levels)
    assert list(found.values()) == ["M_W1_chunk", "S_m_W1"]
    names = Names(["softplus"])
    taken = [names.take(x) for x in ("k", "k", "softplus", "lambda")]
    assert taken == ["k", "k_2", "softplus_2", "lambda_2"]
