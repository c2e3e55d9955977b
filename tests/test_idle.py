"""`nldsl train` warns of a level whose first tick lies behind the end of the run, or behind the end
of the sequence where its memory restarts.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import nldsl

from nldsl.pipeline import load_text
from nldsl.train import idle

SLOW = """
level slow every RATE {
    memory V: weights of y
    context x
    minimize mean(loss over period)
    V <- V - 0.1 * grad(V)
}
"""
TABLE = (
    "nldsl 1\ninput x: [1]\ny = weight([1]) .* x\nz = weight([1]) .* y\nloss = |z - next(x)|^2\n"
    "level training every step {\n    memory W: weights\n    context x\n"
    "    minimize mean(loss over period)\n    W <- W - 0.01 * grad(W)\n}\n"
)
FAST = (
    "nldsl 1\ninput x: [4]\nlevel fast every RATE {\n    memory M: [4] = 0\n    context x\n"
    "    M <- M + sum(x over period)\n    RESET\n}\ny = fast.M\n"
)


def told(text: str, steps: int, length: int) -> list[tuple[str, str]]:
    found = idle.findings(load_text(text), steps, length)
    return [(d.code, d.span.text() if d.span else "") for d in found]


@pytest.mark.parametrize(
    "rate, steps, silent",
    [("7 step", 6, True), ("7 step", 7, False), ("3 step phase 4", 6, True), ("step", 1, False)],
)
def test_a_level_on_the_step_clock(rate: str, steps: int, silent: bool) -> None:
    assert (
        told(TABLE + SLOW.replace("RATE", rate), steps, 4) == [("N742", f"every {rate}")] * silent
    )


@pytest.mark.parametrize(
    "rate, reset, length, silent",
    [
        ("9 token", "reset every sequence", 8, True),
        ("8 token", "reset every sequence", 8, False),
        ("5 token phase 4", "reset every sequence", 8, True),
        ("9 token", "", 8, True),
        ("9 token", "reset never", 8, False),
        ("9 token", "reset every 2 sequence", 8, False),
    ],
)
def test_a_level_on_the_token_clock(rate: str, reset: str, length: int, silent: bool) -> None:
    text = FAST.replace("RATE", rate).replace("RESET", reset)
    assert told(text, 1, length) == [("N742", f"every {rate}")] * silent


@pytest.mark.parametrize("steps, count", [(2, 1), (3, 0)])
def test_train_tells_it_once(steps: int, count: int, tmp_path: Path) -> None:
    (tmp_path / "a.nl").write_text(TABLE + SLOW.replace("RATE", "3 step"))
    (tmp_path / "a.csv").write_text("".join(f"{n % 7}\n" for n in range(400)))
    options = ["--length", "8", "--batch", "2", "--capture", "eager", "--out", tmp_path / "run"]
    status, _, err = nldsl(
        "train", tmp_path / "a.nl", tmp_path / "a.csv", "--steps", steps, *options
    )
    assert (status, err.count("N742")) == (0, count), err
