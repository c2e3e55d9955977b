"""The package knows no system by name: names in a spec can be replaced, and every primitive and
every lowering serves several systems.
"""

from __future__ import annotations

import io
import re
import token
import tokenize
from collections import Counter
from pathlib import Path

import pytest
import torch
from family import BASE, SPECS, fitting, subject, text
from lawful import ROUNDING

from nldsl.core.nodes import walk
from nldsl.core.ops import OPS
from nldsl.core.program import Program
from nldsl.core.text import dump
from nldsl.pipeline import load_text
from nldsl.testing import data, laws
from nldsl.testing.renaming import renamed

torch.set_num_threads(1)
ROOT = Path(__file__).parent.parent
SYSTEMS = frozenset(
    "titan miras mamba oja mesa cms continuum muon adamw adam adagrad nesterov momentum swiglu "
    "rmsnorm".split()
)
WORDS = frozenset(
    "linear attention delta product memory ablation mlp gated learned optimizer tokens series "
    "carried softmax decomposition deep transformer inner "
    "transfer direct nonparametric backpropagation initialisation generation gd sgd".split()
)  # of the language, or of mathematics
ALONE = {  # primitives of fewer than two systems, and why they are there
    **dict.fromkeys(
        ("exp", "log", "floor", "ge", "eq", "max"), "a row in the table of functions of one entry"
    ),
    "amax": "max(x) beside sum(x) and mean(x)",
    "stack": "a list of streams, as [1, 0.5] is a list of numbers",
    "load": "a start from a file",
    "held_stream": "x@c beside M@c",
    "solve": "`prox` of squares over a stretch",
    "grad_stream": "the error signal of a stream",
    "constant_for": "of states, which are scheduled as the learners of the step clock see them",
}


def nameless(program: Program) -> str:
    """The graph as text, each name replaced by its place in the order of first mention."""
    met: dict[str, str] = {}
    return re.sub(
        # letters of axes, an operator, a name
        r"[a-z]*,[a-z]*->[a-z]*|(?<== )[a-z_]+(?=\()|\b([A-Za-z_][\w.\[\]]*)",
        lambda word: word[0] if word[1] is None else met.setdefault(word[1], f"n{len(met)}"),
        dump(program),
    )


def with_sizes(name: str) -> str:
    """The text with the sizes of the tests written into it."""
    out = text(name)
    for key, value in fitting(name, BASE | dict(SPECS[name].sizes)).items():
        out, count = re.subn(
            rf"^(dim .*?\b{key} = |{key} = |clock {key} = )(\[[^]]*\]|[^,\s]+)",
            rf"\g<1>{value}",
            out,
            count=1,
            flags=re.M,
        )
        assert count == 1, key
    return out


@pytest.mark.parametrize("name", SPECS)
def test_names_are_only_names(name: str) -> None:
    """A copy with other names is the same graph, lowered in the same way, with the same numbers: to
    rounding, since the width of names decides what stands on one line, and so in which order
    autograd adds slopes.
    """
    one = subject(name).restart()
    other = laws.Subject(load_text(renamed(with_sizes(name)), f"{name}.nl"))
    assert nameless(one.program) == nameless(other.program)
    ways = [
        [re.sub(r"`.*?`", "", way) for way in s.step.emitted.lowering.values()]
        for s in (one, other)
    ]
    assert ways[0] == ways[1]
    assert laws.renaming(one, other, [data(one.program, 2, 5, i) for i in range(2)]) <= ROUNDING


def words_of(path: Path) -> set[str]:
    """All words in names and strings of a Python file, docstrings left out."""
    found, before = set(), token.NEWLINE
    for piece in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        doc = piece.type == token.STRING and before in (
            token.NEWLINE,
            token.INDENT,
            token.DEDENT,
            tokenize.NL,
        )
        if piece.type in (token.NAME, token.STRING) and not doc:
            found |= {
                word.lower()
                for word in re.findall(r"[A-Za-z]+[0-9]*|[0-9]+", piece.string.replace("_", " "))
            }
        if piece.type != tokenize.COMMENT:
            before = piece.type
    return found


def test_python_knows_no_system() -> None:
    """No branch for any of them: their names stand in no name and no string of the stages that make
    a step.

    But for the table of words of torch, each with what to write instead: it words a refusal.
    """
    systems = {word for name in SPECS for word in name.split("_")} | SYSTEMS
    for stage in ("graph", "rules", "schedule", "step"):
        for path in sorted((ROOT / "nldsl" / stage).rglob("*.py")):
            if path == ROOT / "nldsl" / "graph" / "foreign.py":
                continue
            assert not words_of(path) & systems - WORDS, path


def operators(name: str) -> set[str]:
    """Of the program, and of what its inner gradients and trees became."""
    forward = subject(name).step.schedule.forward
    arrays = walk(
        *forward.outputs.values(), *(x for s in forward.states.values() for x in (s.after, s.next))
    )
    return {node.op for nodes in (subject(name).program.nodes(), arrays) for node in nodes}


def test_every_primitive_serves_two_systems() -> None:
    uses = Counter(op for name in SPECS for op in operators(name))
    assert {op for op in OPS if uses[op] < 2} == ALONE.keys()


def test_every_lowering_serves_two_systems() -> None:
    uses = Counter(
        way
        for name in SPECS
        for way in {
            re.split(r" \(|[:,]", way)[0] for way in subject(name).step.emitted.lowering.values()
        }
    )
    assert len(uses) >= 4 and min(uses.values()) >= 2, uses
