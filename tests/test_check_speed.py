"""What `nldsl check` costs: it imports no tensor library, and its work grows linearly with the
program.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from counting import counted

from nldsl import pipeline, rules
from nldsl.core.program import Program
from nldsl.frontend.parse import parse
from nldsl.graph.desugar import elaborate
from nldsl.rules import limits
from nldsl.source import Source

EXAMPLES = Path(__file__).parent.parent / "examples"


def elaborated(name: str, depth: int) -> Program:
    source = Source(f"{name}.nl", (EXAMPLES / f"{name}.nl").read_text(encoding="utf-8"))
    return elaborate(
        parse(source), source, sets={"depth": str(depth)}, search=[EXAMPLES, pipeline.STANDARD]
    )


@pytest.mark.parametrize("name", ["hope", "titans_mac", "hope_attention"])
def test_elaboration_and_each_rule_grow_linearly_with_depth(name: str) -> None:
    elaborated(name, 1)  # what is made once is made
    small, middle, large = (elaborated(name, depth) for depth in (2, 4, 8))
    works: dict[str, Callable[[Program, int], object]] = {
        "elaborate": lambda program, depth: elaborated(name, depth)
    }
    works |= {
        rule.__name__: lambda program, depth, rule=rule: list(rule(program)) for rule in rules.RULES
    }
    works["limits"] = lambda program, depth: limits.refusals(program)
    for what, work in works.items():
        work(small, 2)
        low, mid, high = (
            counted(lambda: work(program, depth))[1]
            for program, depth in ((small, 2), (middle, 4), (large, 8))
        )
        first, second = mid - low, high - mid  # linear: the second is twice the first
        assert second <= 2.2 * first + 200, (what, low, mid, high)


@pytest.mark.parametrize("name", ["hope", "transfer_direct", "series"])
def test_check_imports_neither_torch_nor_networkx(name: str) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from nldsl import cli; "
        "assert CliRunner().invoke(cli.app, ['check', "
        f"{str(EXAMPLES / name) + '.nl'!r}]).exit_code == 0; "
        "print(sorted({'torch', 'networkx', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
