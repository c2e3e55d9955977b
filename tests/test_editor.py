"""What an editor is told of a text: names, types, words that may follow, edits; finished or not."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from family import shallow
from mutants import mutant, texts
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.token import Error, Keyword, Name

from nldsl.diagnostic import Diagnostics, edited
from nldsl.editor import completion, fixes, navigation, outline
from nldsl.editor.document import Document, read
from nldsl.editor.hover import hover
from nldsl.editor.positions import Positions
from nldsl.editor.words import BUILT_IN, LANGUAGE
from nldsl.frontend.lex import UNNAMEABLE
from nldsl.graph.built_in import built_in
from nldsl.pipeline import STANDARD, load_text

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.nl"))
TEXT = """nldsl 1
import layers, own
dim d = 8, head = 2, e = d / head
clock near = 4 token                          # how often copies are made
gain = 0.5
input x: [head, e]
def net(z: [e]) -> [e] {
    W1 = weight([e, e])
    return W1 * z
}
def remember(k, v, rate) {
    level recall per head every token {
        memory M: net = learned
        context k, v
        minimize |M(k) - v|^2
        M <- M - rate * grad(M@near)
        bptt full
    }
    return recall.M
}
k = unit(x)
memory_of = remember(k, x, rate = gain / 8)
y = memory_of@after(k) + twice(x)
y <- gain * y
loss = |y|^2
level training every 3 step {
    memory W: weights
    context x
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}
"""
OWN = "nldsl 1\ndef twice(x) = 2 * x\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.nl").write_text(OWN)
    (tmp_path / "spec.nl").write_text(TEXT)
    return tmp_path


@pytest.fixture
def document(folder: Path) -> Document:
    found = read(TEXT, folder / "spec.nl")
    assert found.program is not None and not found.findings
    return found


def at(words: str, into: int = 0, text: str = TEXT) -> int:
    assert text.count(words) == 1, words
    return text.index(words) + into


def said(document: Document, offset: int) -> str:
    found = hover(document, offset)
    assert found is not None
    return found.text


# ---- places


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_places_there_and_back(encoding: str) -> None:
    text = "nldsl 1 # α and 😀 end\r\ny = x  # 𝛁f\n\nz = y"
    positions = Positions.of(text, encoding)
    for offset, letter in enumerate(text):
        if letter != "\n":  # of "\r\n" the line ends at the first
            assert positions.offset(*positions.line_and_column(offset)) == offset
    assert positions.offset(99, 0) == len(text)
    assert text[positions.offset(0, 999) :].startswith("\r\n")


def test_a_column_counts_units_of_utf_16() -> None:
    text = "# 😀 α\ny = 1  # 𝛁 😀x"
    positions = Positions.of(text)
    assert positions.line_and_column(text.index("α")) == (0, 5)
    assert positions.line_and_column(text.index("x")) == (1, 14)
    assert positions.offset(0, 3) == 2  # the second half of the emoji is still the emoji


# ---- hover


@pytest.mark.parametrize(
    "words, into, expected",
    [
        ("k = unit", 0, "`k: [head=2, e=4]`; a value every token"),
        ("gain = 0.5", 0, "`gain: 0.5`; a number known before the run"),
        ("clock near", 6, "ticks every 4 token, at `near`; frequency 1/4 per token"),
        ("memory M: net", 7, "`M: net of W1`; of level `memory_of.recall`; ticks every token"),
        ("memory M: net", 7, "back to its start every sequence; one for each `head`; 32 numbers"),
        ("memory_of@after", 0, "`memory_of: net of W1`; of level `memory_of.recall`"),
        ("level training", 7, "of level `training`; ticks every 3 step; frequency 1/3 per step"),
        ("W1 * z", 0, "`W1: [e=4, e=4]`"),
        ("import layers", 7, "import layers"),
        ("unit(x)", 0, "def unit(x: [n])"),
        ("twice(x)", 0, "def twice(x) = 2 * x"),
        ("rate = gain", 0, "rate  # a parameter"),
        ("[e, e])", 1, "`e: 4`"),
        ("grad(M@near)", 0, "the derivative of the objective last above"),
        ("grad(M@near)", 7, "how often copies are made"),
        ("minimize |M", 0, "the objective that the next `grad` differentiates"),
        ("over period", 6, "since the last tick of this level"),
        ("y <- gain", 0, "`y: [head=2, e=4]`; a value every token"),
    ],
)
def test_hover(document: Document, words: str, into: int, expected: str) -> None:
    assert expected in said(document, at(words, into))


def test_a_weight_has_its_owner(tmp_path: Path) -> None:
    text = (
        "nldsl 1\ninput x: []\nw = weight([], init = 1)\nloss = (w * x)^2\n"
        + TEXT[TEXT.index("level training") :]
    )
    found = read(text, tmp_path / "spec.nl")
    assert "the weight `w`; owned by `training.W`" in said(found, text.index("w * x"))


def test_nothing_is_said_of_nothing(document: Document) -> None:
    assert hover(document, at("\ninput x", 0)) is None
    assert hover(document, at("how often", 2)) is None


def test_a_finding_is_named_where_it_points(folder: Path) -> None:
    text = TEXT.replace("context k, v", "context k")
    found = read(text, folder / "spec.nl")
    assert [d.code for d in found.findings] == ["N610"]
    span = found.findings[0].span
    assert span is not None and "error N610: " in said(found, span.start)


def test_mistakes_leave_the_rest_as_it_is(folder: Path) -> None:
    """One statement cannot be read, one names nothing: types and outline of the rest stand."""
    text = TEXT.replace("k = unit(x)", "u = nonesuch\nk = unit(x)\nq = 2 **")
    found = read(text, folder / "spec.nl")
    assert found.program is None and all(d.code.startswith("N0") for d in found.findings)
    assert "`k: [head=2, e=4]`" in said(found, text.index("k = unit"))
    assert "training" in [symbol.name.text for symbol in outline.symbols(found)]


# ---- definition, references, rename


def test_definitions_are_found_in_other_files(document: Document, folder: Path) -> None:
    for words, path, line in (
        ("unit(x)", STANDARD / "layers.nl", "def unit("),
        ("twice(x)", folder / "own.nl", "def twice("),
        ("recall.M", folder / "spec.nl", "    level recall"),
    ):
        found = navigation.definition(document, at(words))
        assert found is not None and found[0] == path and found[1] is not None
        assert path.read_text().splitlines()[found[1].span.line - 1].startswith(line)
    assert navigation.definition(document, at("own", 1)) == (folder / "own.nl", None)
    assert navigation.definition(document, at("minimize |M")) is None


def places(document: Document, offset: int) -> list[tuple[str, int]]:
    found = navigation.references(document, offset, {})
    return [(path.name, name.span.line) for path, name in found]


def test_references(document: Document) -> None:
    assert places(document, at("gain = 0.5")) == [("spec.nl", n) for n in (5, 22, 24)]
    assert places(document, at("rate * grad")) == [("spec.nl", n) for n in (11, 16, 22)]
    assert places(document, at("recall.M", 7)) == [("spec.nl", n) for n in (13, 15, 16, 16, 16, 19)]
    assert places(document, at("twice(x)")) == [("spec.nl", 23), ("own.nl", 2)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_name_of_the_family_is_bound(path: Path) -> None:
    """But for built-in names, and weights that only values tell."""
    found = read(shallow(path.read_text(encoding="utf-8")), path)
    assert found.bindings is not None
    unknown = [
        name
        for name, declared in found.bindings.names.values()
        if declared is None and name.text not in built_in() and not found.meanings(name)
    ]
    assert unknown == []


@pytest.mark.parametrize(
    "words, into", [("gain = 0.5", 0), ("rate * grad", 0), ("recall.M", 0), ("recall.M", 7)]
)
@pytest.mark.parametrize("new", ["q", "much_longer_than_it_was"])
def test_a_renamed_text_is_the_same_program(
    document: Document, folder: Path, words: str, into: int, new: str
) -> None:
    found = navigation.renamed(document, at(words, into), new, {})
    assert set(found) == {folder / "spec.nl"}
    after = read(edited(TEXT, found[folder / "spec.nl"]), folder / "spec.nl")
    assert after.program is not None and not after.findings
    assert document.program is not None
    assert len(after.program.weights) == len(document.program.weights)
    assert new in after.source.text


def test_a_def_is_renamed_in_the_files_that_import_it(document: Document, folder: Path) -> None:
    found = navigation.renamed(document, at("twice(x)"), "doubled", {})
    assert {path.name: len(edits) for path, edits in found.items()} == {"spec.nl": 1, "own.nl": 1}
    own = read(OWN, folder / "own.nl")
    assert navigation.renamed(own, OWN.index("twice"), "doubled", {}).keys() == found.keys()


@pytest.mark.parametrize(
    "words, into, new, why",
    [
        ("gain = 0.5", 0, "k", "with `k` the text would be wrong"),
        ("gain = 0.5", 0, "2k", "not a name"),
        ("gain = 0.5", 0, "level", "not a name"),
        ("gain = 0.5", 0, "tanh", "of the language"),
        ("unit(x)", 0, "normal", "of the library"),
        ("minimize |M", 0, "m", "only what a file declares"),
    ],
)
def test_a_name_that_would_mean_something_else_is_refused(
    document: Document, words: str, into: int, new: str, why: str
) -> None:
    with pytest.raises(navigation.Refused, match=re.escape(why)):
        navigation.renamed(document, at(words, into), new, {})


def test_a_text_that_cannot_be_read_keeps_its_names(folder: Path) -> None:
    text = TEXT.replace("y <- gain * y", "y <- gain ** ** y")
    found = read(text, folder / "spec.nl")
    with pytest.raises(navigation.Refused, match="a name may stand in what cannot be read"):
        navigation.renamed(found, text.index("gain = 0.5"), "factor", {})


def test_a_path_of_definitions_is_kept(tmp_path: Path) -> None:
    """`weights of` names a definition by its path: with another name it would lead nowhere."""
    text = (
        "nldsl 1\ninput x: [4]\nhead = linear(x, [4])\nloss = |head|^2\n"
        "level slow every 2 step {\n memory H: weights of head\n context x\n"
        " minimize mean(loss over period)\n H <- H - 0.1 * grad(H)\n}\n"
    )
    found = read(text, tmp_path / "spec.nl")
    assert not [d for d in found.findings if d.severity == "error"]
    with pytest.raises(navigation.Refused, match="the text would be wrong: line 6"):
        navigation.renamed(found, text.index("head ="), "tail", {})


# ---- completion


def offered(document: Document, typed: str, before: str) -> dict[str, completion.Completion]:
    """What is offered behind a line that is typed above another."""
    offset = TEXT.index(before)
    text = TEXT[:offset] + typed + "\n" + TEXT[offset:]
    now = read(text, document.path)
    return {c.text: c for c in completion.completions(now, offset + len(typed), document)}


def test_completion_knows_where_it_is(document: Document) -> None:
    inside = offered(document, "        S = ", "        M <- M")
    assert {"rate", "k", "v", "M", "net", "gain", "d", "tanh", "grad"} <= set(inside)
    assert not {"y", "training", "loss_", "import"} & set(inside)
    assert inside["net"].form == "def net(z: [e]) -> [e]"
    assert inside["attend"].says == "the mean of values, weighted by softmax"
    assert {"level", "memory", "y", "memory_of"} <= set(offered(document, "", "loss = "))
    assert set(offered(document, "z = x@", "loss = ")) == {"near", "after"}
    assert {"near", "token", "step"} <= set(offered(document, "level l every ", "loss = "))
    assert {"own", "optimizers", "layers"} <= set(offered(document, "import ", "dim d"))
    assert set(offered(document, "z = training.", "loss = ")) == {"W"}
    assert set(offered(document, "z = memory_of.", "loss = ")) == {"W1"}
    assert offered(document, "# a com", "loss = ") == {}
    assert offered(document, 'z = load("a', "loss = ") == {}
    assert "tanh" in offered(document, 'z = load("a", "b" -> k) + ', "loss = ")


def test_words_are_told_of_all_names() -> None:
    assert set(BUILT_IN) == built_in()
    assert UNNAMEABLE <= set(LANGUAGE)


# ---- the whole text


def test_the_outline_has_what_stands_in_blocks(document: Document) -> None:
    found = {symbol.name.text: symbol for symbol in outline.symbols(document)}
    assert [found[name].kind for name in ("d", "near", "x", "net", "k", "training")] == [
        "dim",
        "clock",
        "input",
        "def",
        "stream",
        "level",
    ]
    recall = found["remember"].inner[0]
    assert (recall.name.text, recall.kind) == ("recall", "level")
    assert [inner.name.text for inner in recall.inner] == ["M"]


def test_types_stand_behind_streams(document: Document) -> None:
    shown = [(h.name.span.line, h.text) for h in outline.hints(document, 0, len(TEXT))]
    assert (21, ": [head, e]") in shown and (24, ": [head, e]") in shown
    assert 16 not in [line for line, _ in shown]  # a memory says its type


def test_each_name_has_its_kind(document: Document) -> None:
    found = {(n.text, n.span.line): (kind, here) for n, kind, here in outline.kinds(document)}
    assert found["gain", 5] == ("constant", True) and found["gain", 22] == ("constant", False)
    assert found["recall", 19] == ("level", False) and found["rate", 11] == ("parameter", True)
    assert found["grad", 16] == ("function", False)


# ---- fixes


def test_fixes_are_applied_where_they_mend(tmp_path: Path) -> None:
    text = (
        "nldsl 1\nimport layers\ndim d = 4\ninput x: [d]\ny = sgimoid(x) ** 2  # 😀\n"
        "let q = unt(x)\nlevel a every token {\n memory M: [d] = 0\n context x\n"
        " minimise -<M, x>\n M <- M - grad(M)\n}\nw = a.M + nonesuch\n"
    )
    found = fixes.mended(text, lambda text: read(text, tmp_path / "spec.nl"))
    codes = ["N029", "N033", "N033", "N101", "N101"]
    assert sorted(one.code for one in found.applied) == codes
    assert "y = sigmoid(x) .^ 2  # 😀\nq = unit(x)\n" in found.document.source.text
    assert [d.message for d in found.document.findings] == ["there is no `nonesuch` here"]


@pytest.mark.parametrize("part", range(4))
def test_fixes_bring_no_error(part: int, tmp_path: Path) -> None:
    """Of drawn texts with mistakes: as far as a text got before, no error is new."""
    rng, originals, mended = random.Random(part), texts(), 0
    while mended < 8:
        text = mutant(rng, originals)
        before = read(text, tmp_path / "spec.nl")
        if not any(one.fix for one in before.findings):
            continue
        found = fixes.mended(text, lambda text: read(text, tmp_path / "spec.nl"))
        mended += bool(found.applied)
        if fixes.stage(found.document) == fixes.stage(before):
            new = Counter(map(fixes.said, fixes.errors(found.document)))
            assert not new - Counter(map(fixes.said, fixes.errors(before)))


# ---- texts that nobody wrote


@pytest.mark.parametrize("part", range(4))
def test_no_text_raises_and_findings_are_those_of_check(part: int, tmp_path: Path) -> None:
    rng, originals, path = random.Random(100 + part), texts(), tmp_path / "spec.nl"
    for _ in range(40):
        text = mutant(rng, originals)
        found = read(text, path)
        try:
            expected = load_text(text, str(path)).findings
        except Diagnostics as refused:
            expected = refused.diagnostics
        assert [(d.code, d.span) for d in found.findings] == [(d.code, d.span) for d in expected]
        for offset in rng.sample(range(len(text)), 4):
            hover(found, offset)
            completion.completions(found, offset)
            navigation.references(found, offset, {})
        outline.symbols(found), outline.hints(found, 0, len(text)), outline.kinds(found)


# ---- colours


def test_pygments_reads_every_text() -> None:
    lexer = get_lexer_by_name("nldsl")
    assert type(get_lexer_for_filename("a.nl")) is type(lexer)
    for path in (*EXAMPLES, *STANDARD.glob("*.nl")):
        kinds = [kind for kind, _ in lexer.get_tokens(path.read_text(encoding="utf-8"))]
        assert Error not in kinds, path
    tokens = dict(map(reversed, lexer.get_tokens(TEXT)))
    assert tokens["level"] in Keyword and tokens["unit"] in Name and tokens["recall"] in Name


# ---- VS Code

VSCODE = ROOT / "grammar" / "editors" / "vscode"


def test_the_extension_names_what_is_there() -> None:
    package = json.loads((VSCODE / "package.json").read_text(encoding="utf-8"))
    (language,) = package["contributes"]["languages"]
    (grammar,) = package["contributes"]["grammars"]
    colours = json.loads((VSCODE.parent / "nldsl.tmLanguage.json").read_text(encoding="utf-8"))
    assert grammar["scopeName"] == colours["scopeName"] and grammar["language"] == language["id"]
    assert package["scripts"]["prepare"] == "cp ../nldsl.tmLanguage.json ."
    settings = json.loads((VSCODE / language["configuration"]).read_text(encoding="utf-8"))
    assert settings["comments"]["lineComment"] == "#"
    script = (VSCODE / package["main"]).read_text(encoding="utf-8")
    assert 'args: ["lsp"]' in script and f'getConfiguration("{language["id"]}")' in script
    assert "nldsl.command" in package["contributes"]["configuration"]["properties"]
    assert re.findall(r'require\("(.*?)"\)', script) == ["vscode", "vscode-languageclient/node"]
    assert "vscode-languageclient" in package["dependencies"]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_extension_is_javascript() -> None:
    subprocess.run(["node", "--check", VSCODE / "extension.js"], check=True)
