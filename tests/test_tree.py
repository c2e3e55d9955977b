"""The tree itself: stages import earlier ones only, every stage has its card, functions fit a
screen, no function waits for a caller.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

from nldsl.core.ops import OPS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nldsl"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 40  # lines of a function, its signature and docstring apart
WIDEST = 100  # columns

# Each may import what stands before it, and itself.
ORDER = (
    "source",
    "writing",
    "screen",
    "diagnostic",
    "extras",
    "reports",
    "explanation",
    "core",
    "frontend",
    "graph",
    "rules",
    "oracle",
    "registration",
    "schedule",
    "step",
    "pipeline",
    "view",
    "editor",
    "stages",
    "train",
    "device",
    "target",
    "artefacts",
    "audit",
    "trace",
    "api",
    "hf",
    "export",
    "testing",
    "cli",
    "__main__",
)
STAGES = (
    "core",
    "frontend",
    "graph",
    "rules",
    "oracle",
    "schedule",
    "step",
    "step/lowerings",
    "step/kernels",
    "step/runtime",
    "view",
    "editor",
    "train",
    "train/data",
    "train/data/formats",
    "target",
    "audit",
    "trace",
    "cli",
)
# The slow interpreter is the meaning: it may share nothing with what is compared with it.
INTERPRETER = {
    "nldsl.core.initial",
    "nldsl.core.nodes",
    "nldsl.core.ops",
    "nldsl.core.program",
    "nldsl.core.theirs",
    "nldsl.core.timing",
    "nldsl.oracle.files",
    "nldsl.oracle.lines",
    "nldsl.oracle.meaning",
    "nldsl.oracle.operators",
    "nldsl.oracle.time",
}
# Signatures of these say what everything is.
TYPED = (
    "core",
    "graph",
    "rules",
    "oracle",
    "schedule",
    "step",
    "view",
    "editor",
    "train",
    "target",
    "audit",
    "trace",
    "cli",
)
# Called by tests alone, which hold the package to them.
HELD_BY_TESTS = {
    "api.py: interpret",
    "editor/lexer.py: NldslLexer",  # Pygments finds it by its entry point
    "editor/textmate.py: textmate",
}
VAGUE = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "misc",
    "base",
    "manager",
    "factory",
    "tools",
    "lib",
    "support",
}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> set[str]:
    """Modules of this package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in inner if is_module(name)} or {node.module}
    return {name for name in found if name.startswith("nldsl.")}


def is_module(name: str) -> bool:
    place = ROOT / name.replace(".", "/")
    return place.is_dir() or place.with_suffix(".py").exists()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_backwards(path: Path) -> None:
    stage = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if stage != "__init__":
        later = [
            name for name in imports(path) if ORDER.index(name.split(".")[1]) > ORDER.index(stage)
        ]
        assert not later, f"{stage} may import {ORDER[: ORDER.index(stage)]}"


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def for_types_alone(path: Path) -> set[ast.AST]:
    """What stands under `if TYPE_CHECKING`."""
    return {
        inner
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }


def test_imports_go_round_at_most_once() -> None:
    """One circle of at most four files, whether a file or a function imports."""
    graph = nx.DiGraph()
    for path in FILES:
        unrun = for_types_alone(path)
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and node not in unrun:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                named = {name for name in inner if is_module(name)} or {node.module or ""}
                graph.add_edges_from((module(path), name) for name in named)
    circles = [c for c in nx.strongly_connected_components(graph) if len(c) > 1]
    assert len(circles) <= 1 and all(len(c) <= 4 for c in circles), circles


def test_the_interpreter_stands_alone() -> None:
    for path in (PACKAGE / "oracle").glob("*.py"):
        assert imports(path) <= INTERPRETER, path.name


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_has_its_card(stage: str) -> None:
    """What comes in, what goes out; every file is named there, and none that does not exist."""
    card = ast.get_docstring(tree(PACKAGE / stage / "__init__.py")) or ""
    assert " -> " in card.splitlines()[0] and len(card.splitlines()) >= 8
    for name in re.findall(r"\b[a-z_]+\.py\b", card):
        assert list((PACKAGE / stage).rglob(name)), name
    for path in (PACKAGE / stage).glob("*.py"):
        assert path.name in card or path.stem == "__init__", path.name


def test_files_say_what_they_are() -> None:
    for path in FILES:
        assert path.stem not in VAGUE, path
        assert ast.get_docstring(tree(path)) or path.stem == "__main__", path


def length(function: ast.FunctionDef) -> int:
    """Lines from the first statement behind the docstring to the last."""
    body = function.body[ast.get_docstring(function) is not None :]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_functions_fit_a_screen() -> None:
    long = {
        f"{path.relative_to(PACKAGE)}: {node.name}"
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef) and length(node) > LONGEST
    }
    assert not long


def test_lines_fit_the_page() -> None:
    texts = (
        *(ROOT / name for name in ("Makefile", "pyproject.toml", "grammar/nl.lark")),
        *(path for kind in ("py", "nl") for path in ROOT.glob(f"[!.]*/**/*.{kind}")),
    )
    wide = {
        f"{path.relative_to(ROOT)}:{number}"
        for path in texts
        if not {"golden", "build"} & set(path.parts)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > WIDEST
    }
    assert not wide


def says_any(function: ast.FunctionDef) -> bool:
    """Does its signature say `Any`?"""
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    said = [function.returns, *(one.annotation for one in every if one is not None)]
    return any(
        isinstance(word, ast.Name) and word.id == "Any"
        for annotation in said
        if annotation is not None
        for word in ast.walk(annotation)
    )


def test_signatures_say_what_they_take() -> None:
    vague = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if path.relative_to(PACKAGE).parts[0] in TYPED
        and any(
            says_any(node) for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)
        )
    }
    assert not vague


def test_a_class_stands_in_one_file() -> None:
    """A base of this package in another file says what its kinds can do, and does nothing."""
    homes = {
        node.name: (path, node)
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    }
    parted = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for name, (path, node) in homes.items()
        for base in node.bases
        if (of := homes.get(ast.unparse(base).rpartition(".")[2])) is not None
        and of[0] != path
        and any(isinstance(part, ast.FunctionDef) for part in of[1].body)
        and not {"Protocol", "ABC"} & {ast.unparse(b).partition("[")[0] for b in of[1].bases}
    }
    assert not parted


def functions(path: Path) -> list[str]:
    """Names that are defined to be called: dunders and what a decorator registers are called by
    others.
    """
    return [
        node.name
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("__")
        and not any(re.search(r"register|^reads", ast.unparse(d)) for d in node.decorator_list)
    ]


def uses(path: Path) -> Counter[str]:
    """Names that the code of a file reads or imports, and words of the code that it writes;
    comments and docstrings use nothing.
    """
    found: Counter[str] = Counter()
    said = {
        node.body[0].value
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree(path)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                found[name] += 1
            case ast.Constant(value=str(text)) if node not in said:
                found.update(re.findall(r"\w+", text))
    return found


def test_every_function_has_a_caller() -> None:
    """In the package; what is there for tests, in a test.

    Rules of the grammar, operators of the core, torch's, pydantic's, rich's, notebooks' and
    transformers' own are called by name.
    """
    by_name = {
        "forward",
        "backward",
        "model_post_init",
        "on_broken_pipe",
        "uuid",
        "repr_html",
        "init_weights",
        "prepare_cache_for_generation",
        "prepare_inputs_for_generation",
        "reorder_cache",
        *OPS,
    } | set(re.findall(r"\w+", (ROOT / "grammar" / "nl.lark").read_text(encoding="utf-8")))
    tests = [*(PACKAGE / "testing").glob("*.py"), *(ROOT / "tests").glob("*.py")]
    package = Counter(name for path in FILES for name in uses(path).elements())
    everywhere = package + Counter(name for path in tests for name in uses(path).elements())
    idle = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in FILES
        for name in functions(path)
        if not (everywhere if path in tests else package)[name]
        and name.lower().strip("_") not in by_name
    }
    assert idle == HELD_BY_TESTS
