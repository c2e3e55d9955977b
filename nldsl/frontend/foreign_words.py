"""Words of other languages and their equivalents here: tables of the rules of foreign.py."""

from __future__ import annotations

import unicodedata

WHERE = "`where(a <= b, x, y)` is `x` where the comparison holds, else `y`"

# Signs of several characters, or of one that has no meaning here: message, help, what stands there
# instead.
SIGNS: dict[str, tuple[str, str, str]] = {
    "**": (
        "there is no `**`",
        "`^` is the power of a number, `.^` the power of each entry: write `x .^ 2`",
        ".^",
    ),
    "===": ("there is no `===`", "write `==`", "=="),
    ":=": ("there is no `:=`", "`x = 1` defines `x`, `x <- x + 1` is its next version", "="),
    "!=": ("there is no `!=`", "`where(a == b, y, x)` has the two values changed", ""),
    "&&": (
        "there is no `&&`: a comparison is the number 1 or 0",
        "`min(a <= b, c <= d)` is 1 where both hold",
        "",
    ),
    "&": (
        "`&` has no meaning in nldsl",
        "`min(a <= b, c <= d)` is 1 where both comparisons hold",
        "",
    ),
    "?": ("`?` has no meaning in nldsl", WHERE, ""),
}

# Other characters that nldsl does not have.
STRAYS = {
    ";": "statements need no separator: remove it",
    "'": "a string stands in double quotes",
    "!": "there is no negation; `where(a == b, y, x)` has the two values changed",
    "\\": "a line may end anywhere, nothing marks its continuation: remove it",
}

# `x += 1`: the operator of nldsl behind that of Python, nothing if it has none
ASSIGNED = {
    "**": ".^",
    "//": "",
    "@": "*",
    "%": "",
    ".*": ".*",
    "./": "./",
    "+": "+",
    "-": "-",
    "*": "*",
    "/": "/",
    "^": "^",
}

# Words that begin a block, or stand alone as a statement, with what is written instead.
BLOCKS = {
    "if": f"{WHERE}; every statement holds at every instant",
    "elif": f"{WHERE}; every statement holds at every instant",
    "else": f"{WHERE}; every statement holds at every instant",
    "unless": WHERE,
    "switch": WHERE,
    "match": WHERE,
    "while": "`for i in range(3) { .. }` takes a number of iterations that is known before the "
    "run; a memory goes on from token to token",
    "until": "`for i in range(3) { .. }` takes a number of iterations that is known before the run",
    "loop": "`for i in range(3) { .. }` takes a number of iterations that is known before the run",
    "repeat": "`for i in range(3) { .. }` takes a number of iterations that is known before the "
    "run",
    "class": "`def net(x: [d]) -> [d] { .. }` has weights of its own, and a `level` holds a memory",
    "struct": "`def net(x: [d]) -> [d] { .. }` has weights of its own, and a `level` holds a "
    "memory",
    "with": "`stop(x)` is a value through which no gradient passes; nothing else is set for a "
    "block of lines",
    "try": "what can go wrong is found before the run: remove it",
    "except": "what can go wrong is found before the run: remove it",
    "finally": "what can go wrong is found before the run: remove it",
    "async": "statements have no order in time: remove it",
    "pass": "a block may be empty: remove it",
    "break": "`for` takes all its iterations; `where(a <= b, x, y)` chooses in each",
    "continue": "`for` takes all its iterations; `where(a <= b, x, y)` chooses in each",
}

# Words before a name: what stands there instead; of "" the name stands alone.
NOUNS = {
    "let": "",
    "var": "",
    "val": "",
    "const": "",
    "final": "",
    "auto": "",
    "float": "",
    "int": "",
    "tensor": "",
    "fn": "def",
    "func": "def",
    "function": "def",
    "fun": "def",
    "define": "def",
    "mem": "memory",
    "state": "memory",
    "using": "import",
    "include": "import",
    "use": "import",
    "dimension": "dim",
    "dimensions": "dim",
    "axis": "dim",
    "foreach": "for",
    "objective": "minimize",
    "optimize": "minimize",
    "optimise": "minimize",
    "layer": "level",
    "timescale": "clock",
}

# Types of a memory that is to hold the weights.
ALL_WEIGHTS = frozenset("rest params parameters theta".split())

# Between the depth of a `bptt` and a learner.
SEEN_BY = frozenset("to for from in into".split())

# Words before an expression.
BEGINNINGS = {
    "print": "a run shows its loss, and `--emit graph` what each value is made of: remove it",
    "assert": "`check` finds what does not fit before the run: remove it",
    "maximize": "write `minimize -x`",
    "maximise": "write `minimize -x`",
    "del": "a name lives as long as its block: remove it",
    "raise": "what can go wrong is found before the run: remove it",
    "yield": "a stream has a value at every token: `y = f(x)`, or `return x` in a `def`",
    "global": "a definition is seen in the whole file: remove it",
    "nonlocal": "a definition is seen in the whole file: remove it",
    "await": "statements have no order in time: remove it",
}

# Signs of other alphabets; of "" there is no single sign.
LETTERS = {
    "≤": "<=",
    "≥": ">=",
    "←": "<-",
    "→": "->",
    "×": "*",
    "·": "*",
    "⋅": "*",
    "∗": "*",
    "⊙": ".*",
    "∘": ".*",
    "−": "-",
    "–": "-",
    "÷": "/",
    "‖": "|",
    "∥": "|",
    "⟨": "<",
    "⟩": ">",
    "ᵀ": "^T",
    "⊤": "^T",
    "“": '"',
    "”": '"',
    "„": '"',
    "，": ",",
    "：": ":",
    "（": "(",
    "）": ")",
    "\u00a0": " ",
    "\u2009": " ",
    "\u202f": " ",
    "\u3000": " ",
}
POWERS = {sign: str(digit) for digit, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
FUNCTIONS = {
    "√": "sqrt(x)",
    "∇": "grad(M)",
    "∑": "sum(x)",
    "∏": "exp(sum(log(x)))",
    "∞": "1e30",
    "∂": "grad(e, y)",
    "≠": "where(a == b, y, x)",
}


def in_ascii(word: str) -> str:
    """`η_t` -> `eta_t`, `größe` -> `grosse`; None where a letter has no such form."""
    spelt = "".join(_spelt(letter) for letter in word.replace("ß", "ss"))
    return spelt if spelt.isascii() and spelt.isidentifier() and spelt[0] != "_" else ""


def _spelt(letter: str) -> str:
    if letter.isascii():
        return letter
    plain = unicodedata.normalize("NFKD", letter)
    if all(part.isascii() or unicodedata.combining(part) for part in plain):
        return "".join(part for part in plain if part.isascii())
    kind, _, name = unicodedata.name(plain[0], "").partition(" LETTER ")
    if kind not in ("GREEK SMALL", "GREEK CAPITAL") or " " in name.replace("FINAL ", ""):
        return letter
    name = {"LAMDA": "LAMBDA"}.get(name, name.replace("FINAL ", ""))
    return name.lower() if kind.endswith("SMALL") else name.title()
