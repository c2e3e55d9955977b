"""Every system of the family is one short text: cited, equal to a loop written from its equations, lawful, and unknown to Python."""
from __future__ import annotations

import io
import re
import token
import tokenize
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from family import BASE, EXAMPLES, SPECS, subject, text, tiny
from test_laws import LAWS
from torch import Tensor

from nldsl.graph.dump import dump
from nldsl.graph.equations import OPS, walk
from nldsl.pipeline import compile_program
from nldsl.testing import Drawn, data, laws
from nldsl.testing.captures import apart, traced
from nldsl.testing.renaming import renamed
from nldsl.train.data import Corpus, standard_library

torch.set_num_threads(1)
ROOT = Path(__file__).parent.parent
CLAUSE = re.compile(r"^\s*(level |memory |context |minimize |bptt |reset |[\w.]+ <- )")
CITATION = re.compile(r"\b(Eqs?\. \d|secs?\. \d|App\. [A-Z]|Table \d|Fig\. \d|Alg\. \d|Thm\. \d)")
NAMES = ("titans", "hope", "retnet", "gla", "deltanet", "longhorn", "oja", "mesa", "ttt", "lact", "moneta", "yaad", "memora", "miras",
         "omeganet", "atlas", "tnt", "transformer", "mamba", "cms", "continuum", "moment", "momentum", "adam", "adamw", "muon", "swiglu")


# ---- a text

@pytest.mark.parametrize("name", SPECS)
def test_a_spec_is_short(name: str) -> None:
    lines = text(name).splitlines()
    assert len(lines) <= 80
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("name", SPECS)
def test_every_clause_says_where_it_is_from(name: str) -> None:
    depth = 0
    for number, line in enumerate(text(name).splitlines(), 1):
        code, _, comment = line.partition("#")
        if depth or code.lstrip().startswith("level "):
            assert not CLAUSE.match(code) or CITATION.search(comment), f"{name}.nl:{number} cites nothing: {line}"
            depth += code.count("{") - code.count("}")


def test_every_example_is_in_the_table() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.nl")} == SPECS.keys()


# ---- what it means

def drawn(name: str, length: int = 9) -> Drawn:
    return Drawn(text(name), 2, length, 0, frozenset())


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_is_the_loop_written_from_its_equations(name: str) -> None:
    """Losses, and the slope of their mean in every tensor that is learned."""
    made, ids = subject(name).restart(), data(subject(name).program, 2, 9, 0)["ids"]
    w = {n: x.detach().clone().requires_grad_() for n, x in made.state.views.items()}
    want = SPECS[name].losses(w, ids)
    assert laws.deviation(made.forward({"ids": ids})[0]["loss"], want) <= laws.EXACT
    found = made.gradients({"ids": ids})
    assert found.keys() == w.keys()
    for n, slope in zip(w, torch.autograd.grad(want.mean(), list(w.values())), strict=True):
        assert slope.abs().max() > 1e-9, n
        assert laws.deviation(found[n], slope.reshape(-1)) <= laws.EXACT, n


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_is_what_the_interpreter_makes_of_it(name: str) -> None:
    found = laws.agreement(subject(name), [data(subject(name).program, 2, 7, i) for i in range(2)])
    assert not {key: x for key, x in found.items() if not x <= laws.EXACT}


@pytest.mark.parametrize("law", ["causal", "independent", "whole"])
@pytest.mark.parametrize("name", SPECS)
def test_a_spec_keeps_the_laws(name: str, law: str) -> None:
    LAWS[law](subject(name).restart(), drawn(name, 7))
