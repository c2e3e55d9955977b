"""The schedule and the emitted step of Hope and Titans as goldens: a change of a lowering shows as
a diff.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from family import tiny

from nldsl import stages
from nldsl.core.laws import check_node
from nldsl.core.nodes import walk
from nldsl.core.ops import OPS
from nldsl.pipeline import compile_program
from nldsl.step.compile import CompiledStep

GOLDEN = Path(__file__).parent / "golden"
# the rest is the same text in every step
EMITTED = r"(?:block|still|moving|region|token|update|tick|step)_\d+|forward|start"


@cache
def compiled(name: str) -> CompiledStep:
    return compile_program(
        tiny(name, d=4, **({"periods": [1, 2]} if name == "hope" else {})), capture="eager"
    )


@pytest.mark.parametrize("name", ["titans", "hope"])
def test_schedule_as_text(name: str, golden) -> None:
    golden(GOLDEN / name / "schedule.txt", stages.schedule(compiled(name).schedule))


@pytest.mark.parametrize("name", ["titans", "hope"])
def test_step_as_text(name: str, golden) -> None:
    functions = re.findall(
        rf"^def (?:{EMITTED})\(.*\n(?:(?:    .*|\):)?\n)*", compiled(name).source, re.MULTILINE
    )
    assert len(functions) > 8
    text = "\n\n".join(function.rstrip() + "\n" for function in functions)
    golden(GOLDEN / name / "step.py", text)


@pytest.mark.parametrize("name", ("titans", "hope", "mesa", "cms", "transfer_direct"))
def test_the_laws_of_the_core_hold_of_what_is_scheduled(name: str) -> None:
    """Arguments, attributes and types of every node that a token or a step works out."""
    step = compile_program(tiny(name), precision="float64", capture="eager")
    nodes = list(
        walk(
            *(
                node
                for state in step.schedule.forward.states.values()
                for node in (state.start, state.after, state.next)
            ),
            *step.updates.ticks.next.values(),
        )
    )
    for node in nodes:
        check_node(node)
    assert nodes and {node.op for node in nodes} <= OPS.keys()
