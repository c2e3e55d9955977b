"""Reading and writing text: round trips, the messages for malformed text, and no other exception
for any text.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.lark import from_lark
from lark import Tree

from nldsl.diagnostic import Diagnostics
from nldsl.editor.textmate import textmate
from nldsl.frontend import lex, syntax
from nldsl.frontend.expression_text import expression
from nldsl.frontend.grammar import analyse, attempt, parser
from nldsl.frontend.lex import Places
from nldsl.frontend.mistakes import entries
from nldsl.frontend.parse import parse
from nldsl.frontend.syntax import Comment, File
from nldsl.frontend.tree import build
from nldsl.frontend.unparse import unparse
from nldsl.source import Source

ROOT = Path(__file__).parent.parent
SPECS = sorted([*(ROOT / "examples").glob("*.nl"), *(ROOT / "nldsl" / "std").glob("*.nl")])
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in SPECS}


def read(text: str) -> File:
    """As `parse`, but with statements wherever the grammar takes them."""
    source = Source("drawn.nl", text)
    places = Places.of(source)
    _, comments = lex.scan(places)
    tree = attempt(text)
    assert isinstance(tree, Tree), tree
    return build(
        tree,
        tuple(Comment(word.text.rstrip(), places.span(word.start, word.end)) for word in comments),
        places.span(0, len(text)),
    )


def assert_round_trip(text: str) -> None:
    file = read(text)
    printed = unparse(file)
    again = read(printed)
    assert again == file
    assert unparse(again) == printed
    assert Counter(comment.text for comment in again.comments) == Counter(
        comment.text for comment in file.comments
    )


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_specs_are_in_the_layout_of_unparse(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert unparse(parse(Source(path.name, text))) == text
    assert_round_trip(text)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_spans_hold_the_words(path: Path) -> None:
    file = parse(Source(path.name, path.read_text(encoding="utf-8")))
    for node in syntax.walk(file):
        if isinstance(node, syntax.Name | syntax.Number) and node is not file.version:
            assert node.span.text() == node.text
        line = file.span.source.text.split("\n")[node.span.line - 1]
        assert line[node.span.column - 1 :].startswith(node.span.text().split("\n")[0])


def test_tree_of_one_line() -> None:
    value = (
        parse(Source("a.nl", "nldsl 1\ny = -a^2 * f(M@after.W^T over 4 c, k -> v, n = |x|_1)[0]\n"))
        .statements[0]
        .value
    )
    assert isinstance(value, syntax.Binary) and value.op == "*"
    assert isinstance(value.left, syntax.Unary) and isinstance(value.left.operand, syntax.Binary)
    window, pair, named = value.right.value.args
    assert (window.stretch.count.text, window.stretch.clock.text, window.stretch.is_unit) == (
        "4",
        "c",
        False,
    )
    assert (type(pair), type(named.value), named.value.order.value) == (syntax.Pair, syntax.Norm, 1)
    assert expression(value) == "-a^2 * f(M@after.W^T over 4 c, k -> v, n = |x|_1)[0]"


@pytest.mark.parametrize(
    "text",
    [
        "a - (b - c)",
        "(a - b) - c",
        "a ^ (-b)",
        "(a^2)^3",
        "-(a * b)",
        "(-a) * b",
        "(a <= b) <= c",
        "(a -> b) -> c",
        "x ^ T",
        "x^T",
        "(2).W",
        "||x| - 1|",
        "<-a, b>",
        "a .* (b * c)",
        "|W|_3 ^ 3",
        "(a + b)^T",
        "f((a -> b), c)",
        "- -a",
    ],
)
def test_parentheses_only_where_needed(text: str) -> None:
    first = read(f"nldsl 1 x = {text}").statements[0].value
    assert read(f"nldsl 1 x = {expression(first)}").statements[0].value == first
    assert len(expression(first)) <= len(text)


def test_comments_stay_with_their_words() -> None:
    text = """# above the file
nldsl 1
x = f(a,                                              # of a
      b)                                              # of the line

# of the loop
for i in l {                                          # of its head
    # inside
    y = 1

    # last
}                                                     # of the end
# at the very end
"""
    assert unparse(parse(Source("a.nl", text))) == text
    moved = unparse(parse(Source("a.nl", "nldsl 1\nx = f(a, # one\n# two\nb) # three\n")))
    assert (
        moved
        == "nldsl 1\n# one\n# two\nx = f(a, b)                                           # three\n"
    )


def test_long_lines_are_wrapped() -> None:
    terms = " + ".join(f"some_function(of_value_{i}, 0.5)" for i in range(12))
    printed = unparse(parse(Source("a.nl", f"nldsl 1\ndef f(x) = {terms}\n")))
    assert max(map(len, printed.splitlines())) <= 100
    assert_round_trip(printed)


def test_editors_know_the_words(golden) -> None:
    golden(ROOT / "grammar" / "editors" / "nldsl.tmLanguage.json", textmate())


# ---- text drawn from the grammar


def _explicit() -> dict[str, st.SearchStrategy[str]]:
    """Words with space around them, since the grammar alone does not say that `dimd` is one
    word.
    """
    names = st.sampled_from(["a", "b2", "M", "T", "loss", "x_y", "clock_", "e1"])
    drawn = {
        "NAME": names,
        "NUMBER": st.sampled_from(["0", "1", "2.5", "1e-3", "16"]),
        "STRING": st.sampled_from(['"a b"', '"#"', '""']),
        "UNIT": st.sampled_from(["token", "step"]),
        "COMMENT": st.sampled_from(["# why\n", "#\n", "# a } b\n"]),
        "ADD": st.sampled_from("+-"),
        "MUL": st.sampled_from(["*", "/", ".*", "./"]),
        "POW": st.sampled_from(["^", ".^"]),
        "COMPARE": st.sampled_from(["<=", ">=", "=="]),
    }
    tight = {"UNDERSCORE": st.just("_"), "TRANSPOSE": st.just("^T ")}
    words = {
        terminal.name: st.just(terminal.pattern.value)
        for terminal in parser().terminals
        if terminal.name not in {*drawn, *tight, "NLDSL"}
        and type(terminal.pattern).__name__ == "PatternStr"
    }
    return {
        name: strategy.map(lambda word: f" {word} ")
        for name, strategy in {**words, **drawn}.items()
    } | tight


STATEMENTS = st.lists(
    from_lark(analyse(), start="statement", explicit=_explicit()), min_size=1, max_size=5
)


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(STATEMENTS)
def test_drawn_programs_round_trip(statements: list[str]) -> None:
    text = "nldsl 1\n" + "\n".join(statements)
    assert_round_trip(text)
    try:
        parse(Source("drawn.nl", text))
    except Diagnostics as found:
        assert {diagnostic.code for diagnostic in found.diagnostics} <= {
            "N012",
            "N017",
            "N018",
            "N019",
        }


# ---- malformed text


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: f"{entry.code}-{entry.snippets[0]}")
def test_snippets_get_their_message(entry) -> None:
    for snippet in entry.snippets:
        with pytest.raises(Diagnostics) as found:
            parse(Source("snippet.nl", f"nldsl 1\n{snippet}\n"))
        assert [diagnostic.code for diagnostic in found.value.diagnostics] == [entry.code], snippet


def _mutated(rng: random.Random) -> str:
    text = rng.choice(list(TEXTS.values()))
    words = [found[0] for found in lex.WORDS.finditer(text)]
    kind = rng.randrange(5)
    if kind == 0:
        return "".join(chr(rng.randrange(0x250)) for _ in range(rng.randrange(80)))
    if kind == 1:
        return " ".join(rng.choice(words) for _ in range(rng.randrange(100)))
    for _ in range(rng.randrange(1, 6)):
        i = rng.randrange(len(words))
        words[i : i + rng.randrange(4)] = (
            [] if kind == 2 else [rng.choice(words)] if kind == 3 else [chr(rng.randrange(0x3000))]
        )
    return "".join(words)


@pytest.mark.parametrize("seed", range(3))
def test_any_text_is_read_or_refused(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        text = _mutated(rng)
        try:
            parse(Source("mutated.nl", text))
        except Diagnostics as found:
            assert found.diagnostics and str(found)
            for diagnostic in found.diagnostics:
                assert (
                    diagnostic.code.startswith("N0")
                    and diagnostic.span
                    and diagnostic.span.end <= len(text)
                )


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "(" * 500 + "a" + ")" * 500,
        "x = a" + " + a" * 5000,
        "x = " + "-" * 5000 + "a",
        "x = a" + ".b" * 5000,
        "x = a" + "^a" * 5000,
        "x = " + "|" * 2000 + "a" + "|" * 2000,
        "x =" + "<" * 1000 + "a" + ", b>" * 1000,
        "for i in l {" * 500,
        "!" * 20_000,
        "}" * 20_000,
        '"\n' * 5000,
        "x " * 300_000,
        "x = " + "9" * 10_000,
    ],
    ids=lambda text: text[:12],
)
def test_size_and_depth_are_bounded(text: str) -> None:
    with pytest.raises(Diagnostics) as found:
        parse(Source("deep.nl", "nldsl 1\n" + text))
    assert len(str(found.value)) < 10_000


def test_mistakes_do_not_hide_each_other() -> None:
    text = 'nldsl 1\nx = a < b\nlevel fast { M <- 1 }\ny = 1\nz = "open\nw = 4 +\nreset never\n'
    with pytest.raises(Diagnostics) as found:
        parse(Source("many.nl", text))
    assert sorted(diagnostic.code for diagnostic in found.value.diagnostics) == [
        "N004",
        "N013",
        "N016",
        "N017",
        "N021",
    ]


def test_a_name_that_looks_like_a_slip_is_a_name() -> None:
    """A clock's period goes on in the next line, with a name one letter off a word of the
    language.
    """
    text = "nldsl 1\nclock clock_ = 4 token\nclock a = 2\nclock_\n"
    assert unparse(parse(Source("spec.nl", text))).count("clock") == 4
