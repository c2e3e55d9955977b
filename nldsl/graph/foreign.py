"""Names of torch, numpy and Python -> their equivalents here, for diagnostics about unknown names.

`torch.relu(x)` and `x.relu()` are both `max(x, 0)`. In a form, `{0}` is the first argument; where
the arguments of a call cannot be told apart in the text there are words alone.
"""

from __future__ import annotations

import re
from dataclasses import replace

from nldsl.diagnostic import Advice, Edit
from nldsl.frontend import syntax
from nldsl.source import Span

PATH = re.compile(r"[A-Za-z]\w*(?:\.[A-Za-z]\w*)*")
ATOM = re.compile(r"[A-Za-z0-9_.@]+(\([^()]*\))?")
LIBRARIES = frozenset(
    "torch nn F np numpy jnp jax math tf keras functional lax optim random linalg init "
    "scipy".split()
)

INSTANTS = frozenset("now new next latest current updated fresh".split())

FORMS = {
    "relu": "max({0}, 0)",
    "maximum": "max({0}, {1})",
    "minimum": "min({0}, {1})",
    "clamp": "min(max({0}, {1}), {2})",
    "matmul": "{0} * {1}",
    "mm": "{0} * {1}",
    "bmm": "{0} * {1}",
    "mv": "{0} * {1}",
    "dot": "<{0}, {1}>",
    "outer": "{0} * {1}^T",
    "norm": "|{0}|",
    "square": "{0} .^ 2",
    "pow": "{0} .^ {1}",
    "power": "{0} .^ {1}",
    "mul": "{0} .* {1}",
    "multiply": "{0} .* {1}",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "subtract": "{0} - {1}",
    "div": "{0} ./ {1}",
    "divide": "{0} ./ {1}",
    "neg": "-{0}",
    "negative": "-{0}",
    "reciprocal": "1 ./ {0}",
    "rsqrt": "1 ./ sqrt({0})",
    "log1p": "log(1 + {0})",
    "expm1": "exp({0}) - 1",
    "sin": "cos({0} - pi / 2)",
    "absolute": "abs({0})",
    "detach": "stop({0})",
    "stop_gradient": "stop({0})",
    "transpose": "{0}^T",
    "t": "{0}^T",
    "mse_loss": "|{0} - {1}|^2",
    "flatten": "flat({0})",
    "ravel": "flat({0})",
    "swish": "silu({0})",
    "leaky_relu": "max({0}, 0.01 * {0})",
    "l1_loss": "|{0} - {1}|_1",
    "logsumexp": "log(sum(exp({0})))",
    "log_softmax": "log(softmax({0}))",
    "eq": "{0} == {1}",
}
WORDS = {
    "True": "write `1`",
    "False": "write `0`",
    "None": "leave it out",
    "nan": "leave it out",
    "inf": "write `1e30`",
    "e": "write `exp(1)`",
    "self": "a memory has its own name in its level, and `recall.M` outside it",
    "loss": "every def may read the loss of the program: write one, `loss = ..`, at the top of the "
    "main file",
    "len": "`shape(x)` lists the sizes of the axes",
    "Linear": "`linear(x, [d])` makes its weights where it stands",
    "Embedding": "`embed(ids, [d])` makes its weights where it stands",
    "Conv1d": "`conv(x, 4)` makes its weights where it stands",
    "Parameter": "`weight([d])` is a weight",
    "LayerNorm": "`standardise(x)` of the file `layers`",
    "layer_norm": "`standardise(x)` of the file `layers`",
    "RMSNorm": "`rmsnorm(x)` of the file `layers`",
    "rms_norm": "`rmsnorm(x)` of the file `layers`",
    "normalize": "`unit(x)` of the file `layers`",
    "MultiheadAttention": "`attend(q, k -> v over 16 token)`",
    "scaled_dot_product_attention": "`attend(q, k -> v over 16 token)`",
    "Dropout": "no value is drawn at random during a run: leave it out",
    "dropout": "no value is drawn at random during a run: leave it out",
    "einsum": "`A * x`, `u * v^T` and `sum(x, d)` run along named axes",
    "cat": "write `join(x, y)`",
    "concat": "write `join(x, y)`",
    "concatenate": "write `join(x, y)`",
    "zeros": "write `0`: a number has every shape",
    "zeros_like": "write `0`: a number has every shape",
    "ones": "write `1`: a number has every shape",
    "ones_like": "write `1`: a number has every shape",
    "eye": "write `I`",
    "randn": "`random` begins a memory: `memory M: [d] = random`",
    "rand": "`random` begins a memory: `memory M: [d] = random`",
    "shape": "axes have names: `dim d = 4`; `shape(x)` lists the sizes",
    "size": "axes have names: `dim d = 4`; `shape(x)` lists the sizes",
    "view": "`flat(x)` makes one axis of all; axes are split where they arise: `linear(x, [head, "
    "e])`",
    "reshape": "`flat(x)` makes one axis of all; axes are split where they arise: `linear(x, "
    "[head, e])`",
    "unsqueeze": "axes have names and meet by them: leave it out",
    "squeeze": "axes have names and meet by them: leave it out",
    "permute": "axes have names and meet by them: leave it out",
    "to": "`--device` and `--precision` are of a run: leave it out",
    "cuda": "`--device` is of a run: leave it out",
    "float": "`--precision` is of a run: leave it out",
    "int": "write `floor(x)`",
    "item": "a value of no axes is a number: leave it out",
    "backward": "`grad(M)` stands in the equation of a memory",
    "Adam": "write `W <- W + adam(grad(W))`",
    "SGD": "write `W <- W - 0.1 * grad(W)`",
    "zip": "`for i in range(3) { .. }` takes a number of iterations",
    "AdamW": "write `W <- W + adamw(W, grad(W), lr = 0.001, decay = 0.1)`",
    "enumerate": "`for i in range(3) { .. }` takes a number of iterations",
    "arange": "write `range(3)`",
    "argmax": "`softmax(x)` is its smooth form",
    "print": "remove it: `--emit graph` shows a value",
}
TRANSPOSED = frozenset(("T", "mT", "H"))
PLAIN = {"True": "1", "False": "0", "inf": "1e30"}


def name(found: syntax.Name, builtin: frozenset[str]) -> tuple[Span, Advice]:
    """The words meant, and advice, for an unknown name that is one of theirs; none for another."""
    text = found.span.source.text
    path = PATH.match(text, found.span.start)
    parts = path[0].split(".") if path else [found.text]
    if len(parts) > 1 and parts[0] not in LIBRARIES:
        parts = parts[:1]
    whole = spread(found.span, found.span.start + len(".".join(parts)))
    last = parts[-1]
    if len(parts) > 1 and last in builtin:
        return whole, {"help": f"`{last}` stands by itself", "fix": (Edit(whole, last),)}
    if last in PLAIN:
        return whole, {"help": f"write `{PLAIN[last]}`", "fix": (Edit(whole, PLAIN[last]),)}
    if last in FORMS:
        return whole, formed(last, whole.start, whole.end, [], found.span)
    if last in WORDS:
        return whole, {"help": WORDS[last]}
    if parts[0] in LIBRARIES:
        help = "functions stand by themselves, without the name of a library: `tanh(x)`"
        return whole, {"help": help}
    return found.span, {}


def member(expr: syntax.Field, builtin: frozenset[str]) -> Advice:
    """Help and fix for `x.T`, `x.sum()` and the like."""
    text, last = expr.span.source.text, expr.name.text
    dot = text.rfind(".", 0, expr.name.span.start)
    if last in TRANSPOSED:
        return transposed(expr.name)
    value = text[expr.span.start : dot].rstrip()
    if not balanced(value):
        return (
            {"help": WORDS.get(last, f"write `{last}(x)`")}
            if last in builtin or last in WORDS
            else {}
        )
    if last in builtin and last not in WORDS and text.startswith("(", expr.span.end):
        rest = text[expr.span.end + 1 :].lstrip()
        fix = Edit(
            between(expr.span, expr.span.start, expr.span.end + 1),
            f"{last}({value}" + ("" if rest.startswith(")") else ", "),
        )
        return {"help": f"a function stands before its argument: `{last}(x)`", "fix": (fix,)}
    if last in FORMS:
        return formed(last, expr.span.start, expr.span.end, [value], expr.span)
    return {"help": WORDS[last]} if last in WORDS else {}


def transposed(found: syntax.Name) -> Advice:
    """`W.T`"""
    dot = found.span.source.text.rfind(".", 0, found.span.start)
    return {
        "help": "write `^T` for the transpose: `W^T`",
        "fix": (Edit(between(found.span, dot, found.span.end), "^T"),),
    }


def formed(last: str, start: int, end: int, given: list[str], span: Span) -> Advice:
    """The help of a form, and its fix if the text behind `end` is a call with arguments enough."""
    form, text = FORMS[last], span.source.text
    said = form.format("x", "y", "z")
    call = arguments(text, end)
    if call is None:
        return {"help": f"write `{said}`"}
    values = given + call[0]
    wanted = len(set(re.findall(r"\{(\d)\}", form)))
    if len(values) < wanted or last in ("transpose", "norm", "flatten") and len(values) > wanted:
        return {"help": f"write `{said}`"}
    inside = re.fullmatch(r"\w+\(.*\)|[|<].*[|>](_1|\^2)?", form) is not None
    written = form.format(
        *(value if inside or ATOM.fullmatch(value) else f"({value})" for value in values)
    )
    behind, before = text[call[1] :].lstrip(" "), text[:start].rstrip(" ")
    alone = before.endswith(("=", "(", ",", "<-", "return")) and behind[:1] in (
        "",
        "\n",
        ")",
        ",",
        "}",
        "#",
    )
    return {
        "help": f"write `{said}`",
        "fix": (
            Edit(between(span, start, call[1]), written if inside or alone else f"({written})"),
        ),
    }


def arguments(text: str, at: int) -> tuple[list[str], int] | None:
    """The arguments of the call whose bracket opens at `at`, and the place behind it; None where
    brackets do not part them.
    """
    if not text.startswith("(", at):
        return None
    depth, found, begin = 0, [], at + 1
    for i in range(at, len(text)):
        if text[i] in '<>#"=\n':
            return None
        depth += (text[i] in "([") - (text[i] in ")]")
        if depth == 0 or depth == 1 and text[i] == ",":
            found.append(text[begin:i].strip())
            begin = i + 1
        if depth == 0:
            return ([] if found == [""] else found), i + 1
    return None


def balanced(text: str) -> bool:
    return all(text.count(a) == text.count(b) for a, b in ("()", "[]"))


def spread(span: Span, end: int) -> Span:
    """The span up to another place of its line."""
    return replace(span, end=end, end_line=span.line, end_column=span.column + end - span.start)


def between(span: Span, start: int, end: int) -> Span:
    """Another stretch of the same source."""
    text = span.source.text

    def place(at: int) -> tuple[int, int]:
        return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)

    return Span(span.source, start, end, *place(start), *place(end))


def imported(found: syntax.Name, home: str) -> tuple[Edit, ...]:
    """`home` among the imports of a file, or as its first."""
    text, span = found.span.source.text, found.span
    first = re.search(r"^import\s+[A-Za-z]\w*", text, re.MULTILINE) or re.search(
        r"^nldsl\s+\d+", text, re.MULTILINE
    )
    if first is None:
        return ()
    added = f", {home}" if first[0].startswith("import") else f"\nimport {home}"
    return (Edit(between(span, first.end(), first.end()), added),)


def clock_with_a_name(unit: syntax.Name) -> tuple[Edit, ...]:
    """A clock for a unit, in front of the statement of the file that the unit stands in."""
    text, span = unit.span.source.text, unit.span
    lines = [found.start() for found in re.finditer(r"^[A-Za-z]", text[: span.start], re.MULTILINE)]
    if len(lines) < 2 or f"each_{unit.text}" in text:
        return ()
    return (
        Edit(between(span, lines[-1], lines[-1]), f"clock each_{unit.text} = 1 {unit.text}\n"),
        Edit(span, f"each_{unit.text}"),
    )


def instant(name: syntax.Name) -> Advice:
    """The help and the fix for another word behind `@` that means the value after the tick."""
    if name.text not in INSTANTS:
        return {}
    help = "`M@after` is the value after this instant's tick; behind `@` stands `after` or a clock"
    return {"help": help, "fix": (Edit(name.span, "after"),)}
