"""The manual in language/ is run: every program in it, what is said of each, and the numbers that
come out.

    ```nl [--set name=value]    a program; one that does not begin with `nldsl` goes on from the
                                last that does; ```nl begin only begins one
        minimize loss           # error: N301        a finding of this line, and there may be no
                                others
    ```text                     what is said of the program above, exactly
    ```values                   one step after another: its inputs, then streams during it and
    x: 1 2 3 | 4 5 6            memories after it, as the slow interpreter finds them; the emitted
    y -> 1 3 6 | 4 9 15         step must find the same, unless `interpreter` stands behind
                                `values`: then there is none yet. `|` parts the sequences of a batch
    ```levels, weights, schedule   that view of the program above
    ```python                   is run before what follows; the operators that it registers are
                                known until the chapter ends
    ```grammar                  made from nl.lark; the tables of codes and of limits, between
                                <!-- codes --> (<!-- limits -->) and <!-- end -->, likewise

`pytest --update-golden` rewrites all outputs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from nldsl import stages
from nldsl.core.initial import initial_weights
from nldsl.core.ops import OPS
from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostic, Diagnostics, render
from nldsl.explanation import explanations
from nldsl.graph.built_in import FUNCTIONS
from nldsl.oracle.interpreter import Oracle
from nldsl.oracle.operators import APPLY
from nldsl.pipeline import STANDARD, load_text, scheduled
from nldsl.rules.limits import LIMITS
from nldsl.schedule.plan import moving, plan
from nldsl.step.compile import load_module
from nldsl.step.emit import Emitter
from nldsl.step.module import in_precision
from nldsl.testing.constructs import ALL, constructs
from nldsl.testing.laws import EXACT, Subject, agreement, deviation, flat
from nldsl.view.report import levels_table

MANUAL = Path(__file__).parent / "language"
GRAMMAR = Path(__file__).parents[1] / "grammar" / "nl.lark"
ERRORS = MANUAL.parent / "errors"
CHAPTERS = {path.stem: path for path in sorted(MANUAL.glob("*.md"))}
FENCE = re.compile(r"^```(\w+)(.*)\n((?:(?!```).*\n)*)```$", re.MULTILINE)
MARK = re.compile(r" *# (error|warning|note): (N\d\d\d(?:, N\d\d\d)*)$", re.MULTILINE)
INTERPRETER = " interpreter"
WIDE = 200


@dataclass
class Said:
    """A program of the manual and what the compiler makes of it."""

    text: str
    sets: dict[str, str] = field(default_factory=dict)
    program: Program | None = None
    findings: tuple[Diagnostic, ...] = ()

    def __post_init__(self) -> None:
        try:
            self.program = load_text(MARK.sub("", self.text), "spec.nl", self.sets)
            self.findings = self.program.findings
        except Diagnostics as found:
            self.findings = found.diagnostics

    def marked(self) -> list[tuple[int, str, str]]:
        marks = [(n, MARK.search(line)) for n, line in enumerate(self.text.split("\n"), 1)]
        return sorted(
            (n, mark[1], code) for n, mark in marks if mark for code in mark[2].split(", ")
        )

    def found(self) -> list[tuple[int, str, str]]:
        return sorted({(d.span.line if d.span else 1, d.severity, d.code) for d in self.findings})


def number(x: float) -> str:
    return f"{x:.5g}" if abs(x) > EXACT else "0"


def shown(lanes: Tensor) -> str:
    """`[lane, token, ..]`: lanes parted by `|`, an array in brackets."""
    return " | ".join(
        " ".join(
            number(float(x)) if x.ndim == 0 else f"({' '.join(map(number, x.flatten().tolist()))})"
            for x in lane
        )
        for lane in lanes
    )


def read(program: Program, lines: list[str]) -> dict[str, Tensor]:
    batch = {}
    for name, _, values in (line.partition(":") for line in lines):
        lanes = [
            [
                [float(v) for v in part.strip("()").split()]
                for part in re.findall(r"\([^)]*\)|\S+", lane)
            ]
            for lane in values.split("|")
        ]
        batch[name] = torch.tensor(lanes, dtype=torch.float64).reshape(
            len(lanes), -1, *(axis.size for axis in program.inputs[name].type)
        )
        if name in program.vocab:
            batch[name] = batch[name].long()
    return batch


def apart(program: Program, batches: list[dict[str, Tensor]]) -> float:
    """How far the emitted step is from the interpreter; without a learner on the step clock there
    are streams alone.
    """
    if any(level.clock.unit == "step" for level in program.levels.values()):
        return max(agreement(Subject(program), batches).values())
    streams = {
        name: node
        for name, node in program.outputs.items()
        if node in moving(program.outputs.values())
    }
    module = load_module(in_precision(Emitter(plan(program, streams)).emit(), "float64"), "streams")
    batch, weights = (
        batches[0],
        {name: w.double() for name, w in initial_weights(program, 0).items()},
    )
    like = torch.zeros((), dtype=torch.float64)
    outputs, _ = module["forward"](
        weights,
        batch,
        module["start"](weights, next(iter(batch.values())).shape[0], like),
        0,
        "loop",
    )
    wanted = Oracle(program, seed=0).run(batch).outputs
    return max(deviation(outputs[name], wanted[name]) for name in outputs)


def values(said: Said, body: str) -> tuple[str, str]:
    """What stands behind ```values, and the block with its numbers as they are."""
    program, batches, out = said.program, [], []
    assert program is not None, render(said.findings)
    oracle = Oracle(program, seed=0)
    for group in re.findall(r"(?:\w+:.*\n)+(?:.*->.*\n)+", body):
        given = re.findall(r"^\w+:.*", group, re.MULTILINE)
        asked = re.findall(r"^(\S+) *->", group, re.MULTILINE)
        batches.append(read(program, given))
        (streams,) = oracle.step([batches[-1]])
        found = {
            name: (flat(x).squeeze() if isinstance(x, dict) else x)[None, None]
            for name, x in oracle.memories.items()
        } | streams
        out += [
            *given,
            *(f"{name:{max(map(len, asked))}} -> {shown(found[name])}" for name in asked),
        ]
    try:
        assert apart(program, batches) < EXACT
        lowered = ""
    except Diagnostics as refused:
        assert refused.diagnostics[0].code == "N801"
        lowered = INTERPRETER
    return lowered, "".join(line + "\n" for line in out)


def levels(said: Said) -> str:
    console = Console(width=WIDE)
    with console.capture() as page:
        console.print(levels_table(said.program))
    return "".join(line.rstrip() + "\n" for line in page.get().splitlines())


def weights(said: Said) -> str:
    return re.findall(r"^weights\n((?:  .*\n)*)", stages.graph(said.program), re.MULTILINE)[0]


def ebnf() -> str:
    """nl.lark without what only the parser needs: names of tree nodes, inlining, priorities,
    comments.
    """
    rules = re.sub(
        r"^(//|%).*\n|^(WS|COMMENT).*\n| +-> \w+$|(?<=[A-Z])\.\d",
        "",
        GRAMMAR.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    rules = re.sub(r" +-> \w+(?= *\||$)", "", rules, flags=re.MULTILINE)
    return re.sub(r"^\?", "", rules, flags=re.MULTILINE).strip() + "\n"


def codes() -> str:
    """Every code, and the chapters in which a program earns it."""
    texts = {name: path.read_text(encoding="utf-8") for name, path in CHAPTERS.items()}
    rows = ["| code | is about | earned in |\n|---|---|---|\n"]
    for code, explained in explanations().items():
        places = [
            f"[{name}]({name}.md)"
            for name, text in texts.items()
            if any(code in mark[1].split(", ") for mark in re.findall(MARK, text))
        ]
        rows.append(f"| {code} | {explained.title} | {', '.join(places)} |\n")
    return "".join(rows)


def limited() -> str:
    """What is not lowered, each with a program that is refused."""
    rows = ["| is not lowered | such as |\n|---|---|\n"]
    for limit in LIMITS:
        name = next(path.name for path in ERRORS.glob(f"N*_{limit.__name__}.nl"))
        words = " ".join((limit.__doc__ or "").split())
        rows.append(f"| {words} | [{name}](../errors/{name}) |\n")
    return "".join(rows)


TABLES = {"codes": codes, "limits": limited}
OUTPUTS = {
    "values": values,
    "levels": lambda said, body: ("", levels(said)),
    "grammar": lambda said, body: ("", ebnf()),
    "text": lambda said, body: ("", render(said.findings)),
    "weights": lambda said, body: ("", weights(said)),
    "schedule": lambda said, body: (
        "",
        stages.schedule(scheduled(said.program)),
    ),
}


def run(text: str, rewrite: bool) -> str:
    """The chapter with its outputs as they are.

    Only a rewriting takes `interpreter` away: a lowering that has come to be is not a fault.
    """
    base, said = "", Said("nldsl 1\n")

    def one(block: re.Match[str]) -> str:
        nonlocal base, said
        kind, info, body = block.groups()
        if kind == "nl":
            base = body if body.startswith("nldsl") else base
            if "begin" in info:
                return block[0]
            said = Said(
                base if body.startswith("nldsl") else base + body,
                dict(re.findall(r"--set (\S+)=(\S+)", info)),
            )
            assert said.found() == said.marked(), render(said.findings)
        if kind == "python":
            exec(body, {})
        if kind not in OUTPUTS:
            return block[0]
        head, output = OUTPUTS[kind](said, body)
        return f"```{kind}{head if rewrite else head or info}\n{output}```"

    return re.sub(
        r"<!-- (codes|limits) -->\n(.*\n)*?(?=<!-- end -->)",
        lambda at: f"<!-- {at[1]} -->\n{TABLES[at[1]]()}",
        FENCE.sub(one, text),
    )


@pytest.fixture
def operators() -> Iterator[None]:
    """Those that are registered go again."""
    tables: tuple[dict, ...] = (OPS, APPLY, FUNCTIONS)
    before = [dict(table) for table in tables]
    yield
    for table, rows in zip(tables, before, strict=True):
        table.clear()
        table.update(rows)


@pytest.mark.parametrize("chapter", CHAPTERS)
@pytest.mark.usefixtures("operators")
def test_chapter(chapter: str, golden, request: pytest.FixtureRequest) -> None:
    text = CHAPTERS[chapter].read_text(encoding="utf-8")
    golden(CHAPTERS[chapter], run(text, request.config.getoption("--update-golden")))


def test_the_manual_says_the_whole_language() -> None:
    """Every construct, operator and built-in name stands in one of its programs."""
    said: set[str] = set()
    for path in CHAPTERS.values():
        base = ""
        for kind, _, body in FENCE.findall(path.read_text(encoding="utf-8")):
            if kind == "nl":
                base = body if body.startswith("nldsl") else base
                text = body if body is base else base + body
                said |= set() if " # error: N0" in text else constructs(text)
    assert not ALL - said


def test_the_index_leads_to_every_chapter() -> None:
    linked = re.findall(r"\]\((\w+)\.md\)", (MANUAL / "index.md").read_text(encoding="utf-8"))
    assert sorted(linked) == sorted(set(CHAPTERS) - {"index"})


def test_the_library_is_listed() -> None:
    """Every def of the library has a row under its file, with the arguments that it takes."""
    page = (MANUAL / "library.md").read_text(encoding="utf-8")
    listed = {
        part.partition("]")[0]: re.findall(r"^\| `(\w+\(.*?\))` \|", part, re.MULTILINE)
        for part in page.split("\n## [")[1:]
    }
    heads = {
        path.stem: re.findall(r"^def (\w+\(.*?\))(?= ?[={-])", path.read_text(), re.MULTILINE)
        for path in STANDARD.glob("*.nl")
    }
    assert listed == heads
