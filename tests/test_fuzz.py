"""Texts that nobody wrote: each ends soon, within bounds, with a diagnostic or as a program;
programs that come out of it run.

Mutants are made of the examples, the library and the fixtures by one to three seeded changes; the
rest is words of the language at random, characters at random, and a few shapes that once broke
compilers: deep nesting, huge loops and sizes, long chains. `load_text` may raise `Diagnostics` and
nothing else; no handler here catches more.
"""

from __future__ import annotations

import ast
import random
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from counting import counted
from mutants import SPARE, mutant, texts

from nldsl.core.nodes import Tree, numel, walk
from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostics, render
from nldsl.oracle.interpreter import Oracle
from nldsl.pipeline import load_text

ROOT = Path(__file__).parents[1]
CALLS = 8_000_000  # twenty thousand operators take 4.9 million, and a refusal at most 3.4
BYTES = 2**30


def soup(rng: random.Random) -> str:
    """Words of the language in a row."""
    return "nldsl 1\n" + " ".join(rng.choice(SPARE) for _ in range(rng.randint(1, 200)))


def noise(rng: random.Random) -> str:
    return rng.choice(("", "nldsl 1\n")) + "".join(
        chr(rng.choice((rng.randrange(32, 127), rng.randrange(0x3000))))
        for _ in range(rng.randint(0, 400))
    )


def monster(rng: random.Random) -> str:
    """Deep, long or huge."""
    n = rng.choice((50, 149, 1000, 20_000))
    return (
        "nldsl 1\ninput x: [4]\n"
        + rng.choice(
            (
                f"y = {'(' * n}x{')' * n}",
                f"y = {'-' * n}x",
                f"y = x{' + x' * n}",
                f"y = {'tanh(' * n}x{')' * n}",
                f"y = x{'[0]' * n}",
                f"y = {'|' * n}x{'|' * n}",
                "for i in range(9) { " * n + "}" * n,
                f"dim huge = {10 ** min(n, 300)}\ninput z: [huge]",
                f"y = 0\nfor i in range({n}) {{ for j in range({n}) {{ y <- y + x }} }}",
                f"y = x\nfor i in range({n}) {{ y <- tanh(y) }}",
                "".join(f"x{i} = tanh(x{i + 1})\n" for i in range(n)) + f"x{n} = x",
                f"z = 2 ^ {n} ^ {n} ^ {n}",
                "".join(f"def f{i}(z) = f{i + 1}(f{i + 1}(z))\n" for i in range(min(n, 60)))
                + f"def f{min(n, 60)}(z) = z\ny = f0(x)",
                f"level a every {n} token {{ memory M: [{n}, {n}] = random M <- 0.9 * M }} y = a.M",
                "".join(
                    f"level a{p} every {p} step {{ memory M: [4] = 0 M <- 0.9 * M }}\n"
                    for p in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29)[: n // 10]
                ),
                f"y = sum(x over {n} token) + attend(x, x -> x over {n} token) + conv(x, {n})",
                f"y = {'[' * n}x{']' * n}",
                f"y = join({', '.join(['x'] * n)})",
            )
        )
        + "\n"
    )


def inputs(seed: int, count: int) -> Iterator[str]:
    rng, originals = random.Random(seed), texts()
    for i in range(count):
        if i % 10 < 7:
            yield mutant(rng, originals)
        else:
            yield (soup, noise, monster)[i % 10 - 7](rng)


def ends(text: str) -> Program | None:
    """Loads a text, and says how that ended. The peak of memory is this process's own."""
    before = peak()
    try:
        program, _ = counted(lambda: load_text(text, "fuzz.nl"), CALLS)
    except Diagnostics as found:
        assert found.diagnostics and any(one.severity == "error" for one in found.diagnostics), text
        assert render(found.diagnostics)
        program = None
    assert peak() - before < BYTES, f"{(peak() - before) / 2**20:.0f} MB:\n{text[:2000]}"
    return program


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def small(program: Program) -> bool:
    """Can the oracle run two steps of it in a moment?"""
    ends_of = [
        *program.inputs.values(),
        *program.outputs.values(),
        *(n for m in program.memories.values() for n in (m.start, m.next) if n is not None),
    ]
    nodes = list(walk(*ends_of))
    sizes = [
        sum(numel(shape) for _, shape in n.type.leaves)
        if isinstance(n.type, Tree)
        else numel(n.type)
        for n in nodes
    ]
    clocks = [level.clock.period for level in program.levels.values()]
    return (
        bool(program.inputs)
        and max(sizes) <= 4096
        and len(nodes) < 5000
        and max(clocks, default=1) < 1000
        and not any(n.op == "load" for n in nodes)
        and sum(program.vocab.values()) <= 4096
    )


def two_steps(program: Program) -> None:
    """The values need not be finite: a mutant may learn with any rate."""
    oracle = Oracle(program, planned_steps=10)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        batch = {
            name: torch.randint(program.vocab[name], (1, 3), generator=generator)
            if name in program.vocab
            else torch.randn(
                1, 3, *(axis.size for axis in node.type), dtype=torch.float64, generator=generator
            )
            for name, node in program.inputs.items()
        }
        oracle.step([batch])


@pytest.mark.parametrize("part", range(2))
def test_each_text_ends(part: int) -> None:
    for text in inputs(part, 100):
        ends(text)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(100))
def test_ten_thousand_texts_end(part: int) -> None:
    for text in inputs(1000 + part, 100):
        ends(text)


def accepted(seed: int, count: int) -> Iterator[tuple[str, Program]]:
    """Mutants that are programs, each another text."""
    rng, originals, seen = random.Random(seed), texts(), set()
    while len(seen) < count:
        text = mutant(rng, originals)
        program = ends(text)
        if program is not None and text not in seen and small(program):
            seen.add(text)
            yield text, program


def runs(seed: int, count: int) -> None:
    for text, program in accepted(seed, count):
        print(text)  # shown if what follows fails
        two_steps(program)


def test_accepted_mutants_run() -> None:
    runs(0, 6)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(10))
def test_two_hundred_accepted_mutants_run(part: int) -> None:
    runs(2000 + part, 20)


HOSTILE = {
    "deep brackets": ("y = " + "(" * 5000 + "x" + ")" * 5000, "N008"),
    "a deep sum": ("y = x" + " + x" * 5000, "N009"),
    "a huge loop": ("y = x\nfor i in range(1000000000) { y <- y + x }", "N212"),
    "loops in loops": (
        "y = x\nfor i in range(10000) { for j in range(10000) { y <- y + x } }",
        "N212",
    ),
    "a huge dim": ("dim huge = 1e30\ninput z: [huge]", "N212"),
    "a def without end": ("def f(z) = f(z)\ny = f(x)", "N108"),
    "defs that double": (
        "".join(f"def f{i}(z) = f{i + 1}(z) + f{i + 1}(2 * z)\n" for i in range(60))
        + "def f60(z) = z\ny = f0(x)",
        "N212",
    ),
    "periods without end": (
        "".join(
            f"level a{p} every {p} step {{ memory M: [4] = 0  M <- 0.9 * M }}\n"
            for p in (97, 101, 103, 107)
        ),
        "N312",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_have_codes_of_their_own(name: str) -> None:
    text, code = HOSTILE[name]
    with pytest.raises(Diagnostics) as found:
        counted(lambda: load_text("nldsl 1\ninput x: [4]\n" + text), CALLS)
    assert code in {one.code for one in found.value.diagnostics}


def test_no_handler_catches_everything() -> None:
    """`except:` and `except Exception` turn a bug into silence, unless they hand it on."""
    for path in (ROOT / "nldsl").rglob("*.py"):
        for part in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(part, ast.ExceptHandler) and (
                part.type is None or ast.unparse(part.type) in ("Exception", "BaseException")
            ):
                assert any(
                    isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(part)
                ), f"{path}:{part.lineno}"
