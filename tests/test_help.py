"""What a diagnostic proposes is tried: a fix is applied and its error is gone; what a help writes
in backticks can be read.

The words of Python stand in FIXED with what they become; at seeded places of the examples they are
put in, and the first error is told there.
"""

from __future__ import annotations

import ast
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from family import shallow
from lark import Tree
from mutants import WORD

from nldsl.diagnostic import Diagnostic, Diagnostics, edited
from nldsl.explanation import explanations
from nldsl.frontend.foreign_words import BEGINNINGS, BLOCKS, FUNCTIONS, SIGNS, STRAYS
from nldsl.frontend.grammar import attempt
from nldsl.frontend.mistakes import entries
from nldsl.graph.foreign import FORMS, WORDS
from nldsl.pipeline import load_text

ROOT = Path(__file__).parents[1]
ERRORS = sorted((ROOT / "tests" / "errors").glob("*.nl"))
EXAMPLES = sorted((ROOT / "examples").glob("*.nl"))
HEAD = """nldsl 1
import layers, optimizers
dim d = 4
clock near = 4 token
input x: [d]
input s: []
"""
WEIGHTS = """level frozen never { memory W: weights }
W = weight([d, d])
"""


def findings(text: str, name: str = "spec.nl") -> tuple[Diagnostic, ...]:
    try:
        return load_text(text, name).findings
    except Diagnostics as found:
        return found.diagnostics


def errors(text: str, name: str = "spec.nl") -> list[Diagnostic]:
    """In the order of the text."""
    return sorted(
        (one for one in findings(text, name) if one.severity == "error"),
        key=lambda one: one.span.start if one.span else -1,
    )


def said(
    found: Iterator[Diagnostic] | tuple[Diagnostic, ...] | list[Diagnostic],
) -> Counter[tuple[str, str]]:
    return Counter((one.code, one.message) for one in found)


def syntax(found: tuple[Diagnostic, ...]) -> int:
    return sum(one.code.startswith("N0") for one in found)


# ---- every fix mends its error

OFFENDERS = {path.stem: path.read_text(encoding="utf-8") for path in ERRORS} | {
    f"card {code}": explained.wrong for code, explained in explanations().items() if explained.wrong
}


@pytest.mark.parametrize("name", OFFENDERS)
def test_a_fix_mends_its_error(name: str) -> None:
    text = OFFENDERS[name]
    found = findings(text, f"{name}.nl")
    for one in found:
        if not one.fix:
            continue
        assert one.help and all(edit.span.source.text == text for edit in one.fix), one.message
        mended = findings(edited(text, one.fix), f"{name}.nl")
        assert said(mended)[one.code, one.message] < said(found)[one.code, one.message], (
            one.message,
            edited(text, one.fix),
        )
        assert (
            syntax(mended) < max(1, syntax(found))
            if one.code.startswith("N0")
            else syntax(mended) == 0
        ), (one.message, edited(text, one.fix))


def test_many_errors_have_a_fix() -> None:
    fixes = {
        one.code
        for name, text in OFFENDERS.items()
        for one in findings(text, f"{name}.nl")
        if one.fix
    }
    assert {
        "N003",
        "N005",
        "N022",
        "N024",
        "N029",
        "N033",
        "N101",
        "N107",
        "N202",
        "N203",
        "N207",
        "N301",
        "N303",
        "N506",
    } <= fixes


# ---- what Python people type, and what becomes of it

FIXED = {
    "y = x ** 2": "y = x .^ 2",
    "y = |x| ** 2 * x": "y = |x| .^ 2 * x",
    "y = 2 * x + s // 2": "y = 2 * x + floor(s / 2)",
    "y = x * (3 * s // (2 + s))": "y = x * (floor(3 * s / (2 + s)))",
    "y = x * (7 % 4)": "y = x * ((7 - 4 * floor(7 / 4)))",
    "y = W @ x": "y = W * x",
    "y = W @ (x + x)": "y = W * (x + x)",
    "y = W@tanh(x)": "y = W * tanh(x)",
    "y = W.T * x": "y = W^T * x",
    "y = (W + W).T * x": "y = (W + W)^T * x",
    "y = x\ny += x": "y = x\ny <- y + x",
    "y = x\ny -= x + x": "y = x\ny <- y - (x + x)",
    "y = x\ny .*= x": "y = x\ny <- y .* x",
    "y = x\ny **= 2": "y = x\ny <- y .^ 2",
    "y = s if s > 0 else -s": "y = where(s <= 0, -s, s)",
    "y = tanh(x if s <= 0 else 2 * x)": "y = tanh(where(s <= 0, x, 2 * x))",
    "y = x if s != 0 else -x": "y = where(s == 0, -x, x)",
    "f = lambda z: z + 1\ny = f(x)": "def f(z) = z + 1\ny = f(x)",
    "y = where(s <= 1 and 0 <= s, x, -x)": "y = where(min(s <= 1, 0 <= s), x, -x)",
    "y = where(s <= 1 or 3 <= s, x, -x)": "y = where(max(s <= 1, 3 <= s), x, -x)",
    "y = where(s = 2, x, -x)": "y = where(s == 2, x, -x)",
    "y := x": "y = x",
    "let y = x": "y = x",
    "def f(z):\n    u = 2 * z\n    return u\ny = f(x)": "def f(z) {\n    u = 2 * z\n    return "
    "u\n}\ny = f(x)",
    "def f(z): return 2 * z\ny = f(x)": "def f(z) = 2 * z\ny = f(x)",
    "level a every token {\nmemory M: [d] = 0\ncontext x\nminimise -<M, x>\nM <- M - grad(M)\n}\n"
    "y = a.M": "level a every token {\nmemory M: [d] = 0\ncontext x\nminimize -<M, x>\n"
    "M <- M - grad(M)\n}\ny = a.M",
    "y = x\nfor i in range(3):\n    y <- 2 * y": "y = x\nfor i in range(3) {\n    y <- 2 * y\n}",
    "fn f(z) = z\ny = f(x)": "def f(z) = z\ny = f(x)",
    "η = 0.1\ny = η * x": "eta = 0.1\ny = eta * x",
    "λ_max = 0.1\ny = λ_max * x": "lambda_max = 0.1\ny = lambda_max * x",
    "größe = 2\ny = größe * x": "grosse = 2\ny = grosse * x",
    "y = x²": "y = x.^2",
    "y = |x|² * x": "y = |x|^2 * x",
    "y = s · x": "y = s * x",
    "y = x;": "y = x",
    "y = x // what it is": "y = x # what it is",
    "y = x /* what it is */": "y = x # what it is ",
    "y = 1_000 * x": "y = 1000 * x",
    "y = 1E+3 * x": "y = 1e3 * x",
    "y = .5 * x": "y = 0.5 * x",
    "y = relu(x)": "y = max(x, 0)",
    "y = torch.relu(x + 1)": "y = max(x + 1, 0)",
    "y = F.gelu(x)": "y = gelu(x)",
    "y = np.square(x + x) .* x": "y = ((x + x) .^ 2) .* x",
    "y = torch.matmul(W, x)": "y = W * x",
    "y = tanh(torch.matmul(W + W, x))": "y = tanh((W + W) * x)",
    "y = norm(x) * x": "y = |x| * x",
    "y = dot(x, x) * x": "y = <x, x> * x",
    "y = x.sum() * x": "y = sum(x) * x",
    "y = x.detach()": "y = stop(x)",
    "y = tanh(x).softmax(d)": "y = softmax(tanh(x), d)",
    "y = True * x": "y = 1 * x",
    "y = x * x": "y = x .* x",
    "y = x^2": "y = x.^2",
    "y = x / x": "y = x ./ x",
    "y = softmax(x, dim=-1)": "y = softmax(x)",
    "from features import polynomial\ny = x": "import features\ny = x",
    "import features as f\ny = x": "import features\ny = x",
    "y = attenton(x, 2, 2, 4)": "y = attention(x, 2, 2, 4)",
    "y = a.M@nier\nlevel a every token { memory M: [d] = 0  M <- M + x  bptt full }": "y = "
    "a.M@near\nlevel a every token { memory M: [d] = 0  M <- M + x  bptt full }",
    "level a every neer { memory M: [d] = 0  M <- 2 * M  bptt full }\ny = a.M": "level a every "
    "near { memory M: [d] = 0  M <- 2 * M  bptt full }\ny = a.M",
    "level a every token { memory M: [d] = 0  M <- M + x  bptt ful }\ny = a.M": "level a every "
    "token { memory M: [d] = 0  M <- M + x  bptt full }\ny = a.M",
    "y = a.M@sequence\nlevel a every token { memory M: [d] = 0  M <- M + x  bptt full  reset never "
    "}": "clock "
    "each_sequence = 1 sequence\ny = a.M@each_sequence\nlevel a every token { memory M: [d] = 0  M "
    "<- M + x  bptt full  reset never }",
    "levle a every token { memory M: [d] = 0  M <- M + x  bptt full }\ny = a.M": "level a every "
    "token { memory M: [d] = 0  M <- M + x  bptt full }\ny = a.M",
    "level a every token { memry M: [d] = 0  M <- M + x  bptt full }\ny = a.M": "level a every "
    "token { memory M: [d] = 0  M <- M + x  bptt full }\ny = a.M",
}


def around(text: str) -> str:
    return HEAD + (WEIGHTS if re.search(r"\bW\b|attent", text) else "") + text + "\n"


@pytest.mark.parametrize("text", FIXED)
def test_one_mistake_is_one_error_and_its_fix_is_a_program(text: str) -> None:
    found = errors(around(text))
    assert len(found) == 1 and found[0].help, [one.message for one in found]
    assert edited(around(text), found[0].fix) == around(FIXED[text])
    if "attent" not in text:  # which takes other sizes
        assert errors(around(FIXED[text])) == []


TOLD = {
    "if s > 0:\n    y = x\nelse:\n    y = -x": ("if", "where("),
    "if (s > 0) {\n    y = x\n} else {\n    y = -x\n}": ("if", "where("),
    "while s > 0:\n    y = x": ("while", "for i in range(3) { .. }"),
    "class Net:\n    y = x\n    z = x": ("class", "def net("),
    "y = x[0:2]": ("[0:2]", "x[0]"),
    "y = x[:, 0]": ("[:, 0]", "x[0]"),
    "print(x)": ("print", "remove it"),
    "assert x": ("assert", "remove it"),
    "y = where(not s == 0, x, -x)": ("not", "where(a <= b, y, x)"),
    "y = where(s != 0, x, -x)": ("!=", "where(a == b, y, x)"),
    "y = x && x": ("&&", "min(a <= b, c <= d)"),
    "y = s ? x : x": ("?", "where("),
    "y = [z for z in x]": ("for", "for i in range(3)"),
    "y = nn.Linear(4, 4)": ("nn.Linear", "linear(x, [d])"),
    "y = self.W * x": ("self", "recall.M"),
    "y = None": ("None", "leave it out"),
    "y = len(x)": ("len", "shape(x)"),
    "y = x.shape": ("shape", "dim d = 4"),
    "y = torch.zeros(4)": ("torch.zeros", "`0`"),
    "q, k = x": (",", "for each name"),
    "y = z = x": ("=", "a statement for each"),
    'y = f"{x}"': ('f"{x}"', "as it is written"),
    "maximise x": ("maximise", "minimize -x"),
    "y = √x": ("√", "sqrt(x)"),
    "y = momentum(x, 0.1, 0.9)": ("momentum(x, 0.1, 0.9)", "M <- M + momentum(..)"),
    "y = x + random": ("random", "memory n: [d] = random"),
    "y = prox(x, 0.1)": ("prox(x, 0.1)", "M <- prox(M, 0.1)"),
    "def net(z) = 2 * z\nlevel a never { memory M: net([d]) = random }": (
        "net([d])",
        "memory M: [d] = 0",
    ),
    "y = unit2(x)": ("unit2", "unit"),
    "y = softmax(x, 1)": ("softmax(x, 1)", "told by its name: `softmax(x, d)`"),
    "y = softmax(x, -1)": ("softmax(x, -1)", "told by its name: `softmax(x, d)`"),
    "y = mean(x, 0)": ("mean(x, 0)", "told by its name: `mean(x, d)`"),
    "y = a.M@chunk\nlevel a every token { memory M: [d] = 0  M <- M + x  bptt full }": (
        "chunk",
        "clock chunk = 64 token",
    ),
    "level a every slow { memory M: [d] = 0  M <- M + x }\ny = a.M": (
        "slow",
        "clock slow = 64 token",
    ),
    "y = a.N\nlevel a every token { memory M: [d] = 0  M <- M + x  bptt full }": (
        "N",
        "it has `M`",
    ),
}


@pytest.mark.parametrize("text", TOLD)
def test_one_mistake_is_told_at_its_words(text: str) -> None:
    found = errors(around(text))
    assert len(found) == 1, [one.message for one in found]
    words, help_ = TOLD[text]
    assert found[0].span and found[0].span.text() == words and help_ in found[0].help


@pytest.mark.parametrize("text", [*FIXED, *TOLD])
def test_a_mistake_that_the_file_ends_in_is_told(text: str) -> None:
    words = WORD.findall(text)
    for end in range(1, len(words)):
        for said in ("".join(words[:end]), "".join(words[end:])):
            findings(around(said).removesuffix("\n"), "cut.nl")


def test_an_import_that_is_missing_is_one_error() -> None:
    text = "nldsl 1\ninput x: [4]\ny = unit(x)\nz = unit(y) + unit(2 * x)\n"
    found = errors(text)
    assert [one.code for one in found] == ["N101"] and len(found[0].notes) == 1
    assert edited(text, found[0].fix) == text.replace("nldsl 1\n", "nldsl 1\nimport layers\n")
    assert errors(edited(text, found[0].fix)) == []


def test_a_mistake_hides_none_in_another_statement() -> None:
    text = around(
        "y = x ** 2\nz = s if s > 0 else -s\nlevle a every token {\n    u = x[0:2]\n}\nv = "
        "relu(x)\nw = (s\n"
    )
    assert [(one.code, one.span.line) for one in errors(text)] == [
        ("N033", 7),
        ("N033", 8),
        ("N029", 9),
        ("N033", 10),
        ("N010", 13),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "and = 2\ny = and * x",
        "lambda = 2\ny = lambda .* x",
        "not = s\ny = x .* not",
        "y = x\nprint = y",
        "else = 1\nif = 2 * else",
        "let = 1\nfn = let\ny = fn * x",
        "T = x\ny = T^T * 2",
        "levle = x",
        "as = 1",
        "y = [s, s][1]",
        "axis = d\ny = softmax(x, axis = d)",
    ],
)
def test_their_words_are_names_here(text: str) -> None:
    assert errors(around(text)) == []


# ---- a file named like one of the library


@pytest.mark.parametrize("name", ["layers", "optimizers"])
def test_a_file_named_like_the_library_imports_the_library(name: str, tmp_path: Path) -> None:
    from nldsl.pipeline import load

    text = (
        f"nldsl 1\nimport {name}\ninput x: [4]\n"
        + {"layers": "y = unit(x)\n", "optimizers": "y = clip(x, 1)\n"}[name]
    )
    (tmp_path / f"{name}.nl").write_text(text, encoding="utf-8")
    assert list(load(tmp_path / f"{name}.nl").outputs) == ["y"]
    (tmp_path / "other.nl").write_text(
        text.replace("unit(", "mine(").replace("clip(x, 1)", "mine(x)"), encoding="utf-8"
    )
    (tmp_path / f"{name}.nl").write_text("nldsl 1\ndef mine(x) = 2 * x\n", encoding="utf-8")
    assert list(load(tmp_path / "other.nl").outputs) == ["y"]


def test_a_file_does_not_import_itself(tmp_path: Path) -> None:
    from nldsl.pipeline import load

    (tmp_path / "own.nl").write_text("nldsl 1\nimport own\ninput x: [4]\ny = x\n", encoding="utf-8")
    with pytest.raises(Diagnostics) as found:
        load(tmp_path / "own.nl")
    assert [one.code for one in found.value.diagnostics] == [
        "N106"
    ] and "itself" in found.value.diagnostics[0].message


@pytest.mark.parametrize(
    "inputs, words",
    [
        ("input x: [4]\ninput s: []\n", "input s: []"),
        ("input x: index(65)\n", "input x: index(65)"),
        ("input x: [4, 3]\n", "input x: [4, 3]"),
    ],
)
def test_an_input_that_no_data_fills_is_told_at_its_words(inputs: str, words: str) -> None:
    from nldsl.train.data.given import Given
    from nldsl.train.data.kinds import kind_of

    program = load_text("nldsl 1\n" + inputs)
    with pytest.raises(Diagnostics) as found:
        kind_of(program).of(program, Given())
    (told,) = found.value.diagnostics
    assert (
        told.code == "N705"
        and told.span
        and told.span.text() == words
        and unreadable(told.help) == []
    )


# ---- what stands in backticks can be read

AS = (
    "{}",
    "x = {}",
    "x = f({})",
    "x = f(a, {})",
    "level l every token {{ {} }}",
    "level l every token {{ memory M: {} = 0 }}",
    "level l {} {{ x = 1 }}",
    "level l every token {{ memory M: [d] {} }}",
    "bptt {}",
    "reset {}",
    "x = a {} b",
    "x = a {}",
    "x = a{}",
    "level l every token {}",
    "{} }}",
    "def f({}) = a",
    "{} return a }}",
    "memory M: {} = 0",
    "clock c = {}",
    "level l {} every token {{ x = 1 }}",
    "x = f(a {})",
    "def f(x) {{ {} }}",
    "import {}",
    "{} a",
)
NOT_CODE = re.compile(
    r"(--[a-z-]+( \S+)?|nldsl [a-z]+.*|[\w./\[\]*-]+\.(nl|csv|npy|json|jsonl|pt|txt|safetensors)"
    r"|[\w.-]+/[\w./-]*|\w+|[^\w\s]{1,3}|=)"
)
FILLED = ("a", "", "every token", "1", "[d]")


def readable(code: str) -> bool:
    """A statement, an expression, a type, a clause or a piece of one; `..` is anything.

    Or a word, a sign, a flag, a file.
    """
    if NOT_CODE.fullmatch(code):
        return True
    variants = {code.replace("..", filled) for filled in FILLED} if ".." in code else {code}
    return any(
        isinstance(attempt(frame.format(variant), versioned=False), Tree)
        for variant in variants
        for frame in AS
    ) or any(isinstance(attempt(variant), Tree) for variant in variants)


def unreadable(help_: str) -> list[str]:
    return [code for code in re.findall(r"`([^`]+)`", help_) if not readable(code)]


@pytest.mark.parametrize(
    "code", ["x = a **", "where(a <= b, x", "sum(x over)", "def f(z):", "y = x ? z", "if a"]
)
def test_what_cannot_be_read_is_found(code: str) -> None:
    assert not readable(code)


@pytest.mark.parametrize("name", OFFENDERS)
def test_help_can_be_read(name: str) -> None:
    for one in findings(OFFENDERS[name], f"{name}.nl"):
        assert unreadable(one.help) == [], one.help


def test_tables_of_help_can_be_read() -> None:
    tables = [
        *BLOCKS.values(),
        *BEGINNINGS.values(),
        *STRAYS.values(),
        *(help_ for _, help_, _ in SIGNS.values()),
        *WORDS.values(),
        *(f"`{word}`" for word in FUNCTIONS.values()),
        *(f"`{form.format('x', 'y', 'z')}`" for form in FORMS.values()),
    ]
    tables += [
        entry.help.replace("{before} {word}", "x +").replace("{before}", "x").replace("{word}", "x")
        for entry in entries()
    ]
    assert [(help_, unreadable(help_)) for help_ in tables if unreadable(help_)] == []


def written_helps(path: Path) -> Iterator[str]:
    """Texts behind `help=` in a file; what is put in is the name `a`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "help":
            pieces = {
                id(piece)
                for part in ast.walk(node.value)
                if isinstance(part, ast.JoinedStr)
                for piece in ast.walk(part)
                if piece is not part
            }
            for part in (part for part in ast.walk(node.value) if id(part) not in pieces):
                if isinstance(part, ast.JoinedStr):
                    yield "".join(
                        piece.value if isinstance(piece, ast.Constant) else "a"
                        for piece in part.values
                    )
                elif (
                    isinstance(part, ast.Constant)
                    and isinstance(part.value, str)
                    and part.value.count("`") % 2 == 0
                ):
                    yield part.value


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "nldsl").rglob("*.py")),
    ids=lambda path: str(path.relative_to(ROOT / "nldsl")),
)
def test_written_helps_can_be_read(path: Path) -> None:
    assert [
        (help_, unreadable(help_))
        for help_ in written_helps(path)
        if help_.count("`") % 2 == 0 and unreadable(help_)
    ] == []


SAID_BY_ITS_LABEL = ("N030",)  # what can stand there
MAKERS = ("fail", "report", "Diagnostic")
BY_PLACE = 6  # arguments of a Diagnostic that is made by place, its help among them


def test_every_finding_says_what_to_write_instead() -> None:
    """Wherever a code and a message are written, a help is."""
    bare = []
    for path in sorted((ROOT / "nldsl").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            first = call.args[0] if call.args else None
            code = first.value if isinstance(first, ast.Constant) else None
            if not re.fullmatch(r"N\d{3}", str(code)) or code in SAID_BY_ITS_LABEL:
                continue
            made = (
                call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
            )
            helped = any(word.arg in ("help", None) for word in call.keywords)
            if made in MAKERS and not helped and len(call.args) < BY_PLACE:
                bare.append(f"{path.name}:{call.lineno} {code}")
    assert bare == []


# ---- the words of Python, put into the examples


def _swap(pattern: str, instead: str) -> Callable[[str, random.Random], tuple[str, int] | None]:
    """One place of a pattern, by chance, is written in another way; the line of that place."""

    def inject(text: str, rng: random.Random) -> tuple[str, int] | None:
        plain = re.sub(r"#[^\n]*|\"[^\"\n]*\"", lambda found: "_" * len(found[0]), text)
        places = list(re.finditer(pattern, plain, re.MULTILINE))
        if not places:
            return None
        found = rng.choice(places)
        return text[: found.start()] + found.expand(instead) + text[found.end() :], text.count(
            "\n", 0, found.start(found.lastindex or 0)
        ) + 1

    return inject


def _insert(line: str) -> Callable[[str, random.Random], tuple[str, int] | None]:
    """A statement of its own at the top of the file."""

    def inject(text: str, rng: random.Random) -> tuple[str, int] | None:
        lines = text.split("\n")
        tops = [
            n
            for n, other in enumerate(lines)
            if n
            and re.match(r"[a-z]\w*(:.*)? = [^{(]*$|level |for ", other)
            and not lines[n - 1].rstrip().endswith(("+", "-", "*", "=", ",", "("))
        ]
        if not tops:
            return None
        at = rng.choice(tops)
        return "\n".join([*lines[:at], line, *lines[at:]]), at + 1

    return inject


def _opened(text: str, rng: random.Random) -> tuple[str, int] | None:
    """`{` of a block becomes `:`, and the line of its `}` goes."""
    lines = text.split("\n")
    heads = [
        n
        for n, line in enumerate(lines)
        if re.match(r" *(def|level|for)\b[^#]*\{\s*$", re.sub(r"#.*", "", line))
    ]
    if not heads:
        return None
    head = rng.choice(heads)
    indent = len(lines[head]) - len(lines[head].lstrip())
    end = next(
        (n for n in range(head + 1, len(lines)) if re.match(rf" {{{indent}}}\}}", lines[n])), None
    )
    if end is None or lines[end].split("#")[0].strip() != "}" or end == head + 1:
        return None
    lines[head] = re.sub(r" *\{", ":", lines[head], count=1)
    return "\n".join(lines[:end] + lines[end + 1 :]), head + 1


INJECTED = {
    "power": _swap(r"(?<!\.)(\.\^|\^)(?!T)", "**"),
    "floor": _swap(r" (/) ", " // "),
    "transpose": _swap(r"(\^T)\b", ".T"),
    "comment": _swap(r"$(?<![+\-*/=,({\[_])(?<=.)", "  // as it is said"),
    "level": _swap(r"^( *)(level) ", r"\1levle "),
    "memory": _swap(r"^( *)(memory) ", r"\1memmory "),
    "minimize": _swap(r"^( *)(minimize) ", r"\1minimise "),
    "context": _swap(r"^( *)(context) ", r"\1contxt "),
    "return": _swap(r"^( *)(return) ", r"\1retrun "),
    "let": _swap(r"^()([a-z]\w* = )", r"\1let \2"),
    "added": _swap(r"^( *)([A-Za-z]\w*) <- ", r"\1\2 += "),
    "separator": _swap(r"(?<=[)\]])$()", ";"),
    "as": _swap(r"^(import \w+)$", r"\1 as l"),
    "greek": _swap(r"\b(beta1|eta|lr)\b(?= [-+*=/])", "η"),
    "slice": _swap(r"\b(x|q|k|v)(?=[ ),])", r"\1[0:2]"),
    "block": _opened,
    "lambda": _insert("f = lambda z: z + 1"),
    "if": _insert("if d > 2:\n    u_1 = d\nelse:\n    u_2 = 2"),
    "print": _insert("print(d)"),
    "while": _insert("while d > 2:\n    u_1 = 2"),
    "choice": _insert("u_1 = 2 if d > 2 else 3"),
    "comprehension": _insert("u_1 = [i for i in d]"),
    "and": _insert("u_1 = where(d <= 1 and 1 <= d, 1, 2)"),
    "relu": _insert("u_1 = relu(d)"),
    "torch": _insert("u_1 = torch.exp(d)"),
    "true": _insert("u_1 = True"),
    "not equal": _insert("u_1 = where(d != 2, 1, 2)"),
    "walrus": _insert("u_1 := 2"),
    "c comment": _insert("// as it is said"),
}


@pytest.mark.parametrize("name", INJECTED)
def test_a_word_of_python_in_an_example_is_told_where_it_stands(name: str) -> None:
    rng, tried = random.Random(name), 0
    for path in rng.sample(EXAMPLES, len(EXAMPLES)):
        made = INJECTED[name](shallow(path.read_text(encoding="utf-8")), rng)
        if made is None:
            continue
        text, line = made
        found = [one for one in errors(text, path.name) if one.span]
        assert found and found[0].help, (path.name, line, text)
        assert (found[0].span.line, len([one for one in found if one.code.startswith("N0")])) in (
            (line, 1),
            (line, 0),
        ), (path.name, line, [(one.message, one.span.line) for one in found])
        if found[0].fix:
            assert (
                said(errors(edited(text, found[0].fix), path.name))[found[0].code, found[0].message]
                == 0
            )
        tried += 1
        if tried == 4:
            return
    assert tried
