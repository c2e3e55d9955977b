"""The two examples at sizes that a test can afford."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from nldsl.core.equations import Program
from nldsl.pipeline import load_text

EXAMPLES = Path(__file__).parent.parent / "examples"
SIZES = {
    "titans": {"d": 4, "head": 2, "vocab": 5, "depth": 2, "chunk": 2},
    "hope": {"d": 4, "head": 2, "vocab": 5, "depth": 2, "near": 2, "span": 4, "periods": [1, 2, 3]},
}


def source(name: str) -> str:
    return (EXAMPLES / f"{name}.nl").read_text(encoding="utf-8")


def tiny(name: str, text: str | None = None, **sets: object) -> Program:
    return load_text(
        text or source(name), f"{name}.nl", {k: str(v) for k, v in (SIZES[name] | sets).items()}
    )


@cache
def program(name: str) -> Program:
    return tiny(name)
