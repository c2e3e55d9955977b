"""Mutants of the examples, the library and the fixtures: each has one to three seeded changes of
words.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

from nldsl.pipeline import STANDARD

ROOT = Path(__file__).parents[1]
WORD = re.compile(
    r"#[^\n]*|\"[^\"\n]*\"|\d[\w.]*|\w+|<-|->|<=|>=|==|\.\*|\./|\.\^|\^T|\s+|.", re.DOTALL
)
SMALL = {"d": "8", "head": "2", "vocab": "16", "depth": "1", "span": "4", "chunk": "4"}
SPARE = (
    "M",
    "k",
    "v",
    "x",
    "d",
    "e",
    "0",
    "1",
    "2",
    "1e30",
    "-1",
    "0.5",
    "token",
    "step",
    "sequence",
    "update",
    "document",
    "never",
    "period",
    "after",
    "near",
    "level",
    "memory",
    "context",
    "minimize",
    "reset",
    "bptt",
    "full",
    "none",
    "every",
    "per",
    "for",
    "in",
    "def",
    "return",
    "next(x)",
    "grad(M)",
    "grad(x, k)",
    "stop(x)",
    "sum(x over period)",
    "attend(x, x -> x)",
    "conv(x, 4)",
    "I",
    "learned",
    "random",
    "tick",
    "@after",
    "@near",
    "^T",
    "_3",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "<",
    ">",
    "|",
    "+",
    "-",
    "*",
    "/",
    ".*",
    "^",
    "<-",
    "->",
    "=",
    ",",
    ":",
    ".",
    "\n",
    "é",
    "\t",
)


def texts() -> list[str]:
    """What is mutated: small enough that a mutant that is accepted can be run."""
    files = [
        *(ROOT / "examples").glob("*.nl"),
        *STANDARD.glob("*.nl"),
        *(ROOT / "tests" / "errors").glob("*.nl"),
    ]
    return [shrunk(path.read_text(encoding="utf-8")) for path in sorted(files)] + [RECALL]


def shrunk(text: str) -> str:
    for name, value in SMALL.items():
        text = re.sub(rf"(?<![\w.])({name} = )\d+", rf"\g<1>{value}", text)
    return (
        text.replace("clock near = 16 token", "clock near = 2 token")
        .replace("clock chunk = 64 token", "clock chunk = 4 token")
        .replace("periods = [1, 4, 16, 64]", "periods = [1, 2]")
    )


RECALL = """nldsl 1
import layers, optimizers
dim d = 4, e = 4
clock near = 2 token
input x: [e]
k = unit(linear(x, [e]))
v = linear(x, [e])
rate = sigmoid(sum(x)) / 4
level recall every token {
    memory M: [e, e] = learned
    context k, v
    minimize |M * k - v|^2 / 2
    S = momentum(grad(M@near), rate, 0.5)
    M <- 0.9 * M + S
    bptt full
}
y = recall.M@after * k
loss = |y - next(x)|^2
level training every step {
    memory W: weights
    context x
    minimize mean(loss over period)
    W <- W + adamw(W, clip(grad(W), 1), lr = 0.01, decay = 0.1)
}
"""


def mutant(rng: random.Random, originals: list[str]) -> str:
    words = WORD.findall(rng.choice(originals))
    for _ in range(rng.randint(1, 3)):
        i = rng.randrange(len(words))
        how = rng.randrange(7)
        if how == 0:
            del words[i]
        elif how == 1:
            words.insert(i, rng.choice(SPARE))
        elif how == 2:
            words[i] = rng.choice(SPARE)
        elif how == 3:
            words[i] = rng.choice(words)
        elif how == 4:
            j = min(len(words), i + rng.randint(1, 12))
            words[i:i] = words[i:j]
        elif how == 5:
            del words[i : i + rng.randint(1, 12)]
        else:
            numbers = [n for n, word in enumerate(words) if word[0].isdigit()]
            if numbers:
                words[rng.choice(numbers)] = rng.choice(
                    ("0", "1", "3", "7", "1e9", "1e300", "0.5", "12345678901234567890")
                )
        words = words or ["nldsl", " ", "1"]
    return "".join(words)
