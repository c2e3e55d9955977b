"""Runs a command of `nldsl` in this process and gives its exit code and output."""

from __future__ import annotations

from typer.testing import CliRunner

from nldsl import cli

SMALL = ("--batch", "2", "--length", "16", "--capture", "eager", "--precision", "float64")
# the smallest model of a text, for tests of runs
SPEC = """nldsl 1
import layers
rate = 0.5
input ids: index(256)
x = embed(ids, [4])
loss = cross_entropy(linear(rmsnorm(x), [256]), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W - rate * grad(W)
}
"""


def nldsl(*arguments: object, text: str = "") -> tuple[int, str, str]:
    result = CliRunner().invoke(
        cli.app, [str(a) for a in arguments], input=text, catch_exceptions=False
    )
    return result.exit_code, result.stdout, result.stderr


def done(*arguments: object) -> str:
    status, out, err = nldsl(*arguments)
    assert status == 0, err
    return out
