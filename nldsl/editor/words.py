"""What a reader is told of the words of the language and of its built-in names: one row each.

A built-in has its call and what it gives; functions that work entry by entry take both from the
table of operators.
"""

from __future__ import annotations

from dataclasses import dataclass

from nldsl.core.ops import OPS
from nldsl.frontend import syntax
from nldsl.graph import desugar  # noqa: F401  registers the functions


@dataclass(frozen=True)
class Word:
    """How it is written, and what it says."""

    form: str
    says: str


def of_entries() -> dict[str, Word]:
    rows = [row for row in OPS.values() if row.function]
    return {
        row.name: Word(
            f"{row.name}({', '.join('xyz'[: row.arity])})", f"{row.says}, entry by entry"
        )
        for row in rows
    }


STATEMENTS: dict[str, Word] = {
    "nldsl": Word("nldsl 1", "the version of the language, at the top of a file"),
    "import": Word("import layers, optimizers", "the defs of other files"),
    "dim": Word("dim d = 64, e = d / 4", "sizes of axes; `--set d=32` replaces one"),
    "clock": Word(
        "clock chunk = 16 token", "a name for a period, and for the instants it ticks at"
    ),
    "input": Word("input ids: index(256)", "a stream of the data: numbers below n, or a shape"),
    "def": Word(
        "def f(x: [n], y = 1) -> [n] { .. }", "a text that is put in the place of its call"
    ),
    "level": Word(
        "level recall per head every token { .. }",
        "a memory, what it learns from, an objective, an update and a clock",
    ),
    "for": Word("for p in [1, 4] { .. }", "the block once for each item"),
    "memory": Word("memory M: [d, d] = 0", "what a level keeps: a type and a start"),
    "context": Word("context k, v", "the streams that the objective reads: constants for `grad`"),
    "minimize": Word("minimize |M * k - v|^2", "the objective that the next `grad` differentiates"),
    "reset": Word(
        "reset every sequence", "when the memory goes back to its start; `reset M ..`, M alone"
    ),
    "bptt": Word(
        "bptt full", "how far slower learners see through the updates: `full`, `none`, or a stretch"
    ),
    "return": Word("return y", "the value of a `def`"),
    "report": Word("report x", "the stream that a trained model is scored by"),
}
CLAUSES: dict[str, Word] = {
    "per": Word(
        "per head",
        "a memory for each index of the axis; `per worker every step`, for each part of the lanes",
    ),
    "every": Word("every 4 token", "ticks after so many"),
    "phase": Word("every 4 token phase 1", "so many units later"),
    "never": Word("never", "no tick: what is trained by nothing, or never reset"),
    "in": Word("for i in range(3) { .. }", "the items of a loop"),
    "like": Word("memory m: like g = 0", "the type of another value"),
    "weights": Word("memory W: weights", "every weight that no other level owns"),
    "of": Word("weights of model.head", "the weights under a definition"),
    "by": Word("bptt none by training", "for one learner alone"),
    "over": Word(
        "mean(x over 8 token)", "a stretch of time that a sum, a mean or `attend` runs over"
    ),
    "period": Word("sum(x over period)", "since the last tick of this level"),
    "after": Word("recall.M@after", "the value after this instant's tick"),
}
TIMES: dict[str, Word] = {
    "token": Word("every token", "the instants of a sequence"),
    "step": Word("every step", "an optimizer step, over a whole batch"),
    "update": Word("every update", "a tick of the level in whose equation this is called"),
    "sequence": Word("reset every sequence", "the beginning of a sequence"),
    "document": Word("reset every document", "the beginning of a document of the data"),
}
assert set(TIMES) == set(syntax.UNITS)
CONSTANTS: dict[str, Word] = {
    "learned": Word("= learned", "a start that the level with the `weights` trains"),
    "random": Word("= random", "a start drawn from the seed"),
    "tick": Word("tick", "the ticks of this level since its reset, this one included"),
    "ticks": Word("ticks", "the ticks planned for the run"),
    "pi": Word("pi", "3.14159.."),
    "I": Word("I", "the identity of the square matrix beside it"),
}
FUNCTIONS: dict[str, Word] = of_entries() | {
    "weight": Word(
        "weight([.., n], init = c)", "a parameter: normal with deviation `1 / sqrt(n)`, or `c`"
    ),
    "linear": Word("linear(x, [o])", "`W * x`, all axes of x to all axes listed"),
    "affine": Word("affine(x, [o])", "`linear` and a bias that begins at 0"),
    "conv": Word("conv(x, n)", "a causal convolution over n tokens, each entry by itself"),
    "embed": Word("embed(ids, [d])", "the row `ids` of a table"),
    "attend": Word("attend(q, k -> v over 64 token)", "the mean of values, weighted by softmax"),
    "rope": Word(
        "rope(x, base = 1e4, part = ..)",
        "the halves of the last axis, or of its first `part` entries, turned by the position",
    ),
    "next": Word("next(x)", "the value at the next token: a target, and nothing a model may read"),
    "stop": Word("stop(x)", "a value through which no gradient passes"),
    "prox": Word("M <- prox(M, eta)", "the minimiser of the objective near M, in closed form"),
    "grad": Word("grad(M)", "the derivative of the objective last above; `grad(e, y)` of a stream"),
    "sum": Word("sum(x, axis)", "over an axis, all axes, or a stretch: `sum(x over period)`"),
    "mean": Word("mean(x, axis)", "over an axis, all axes, or a stretch: `mean(x over period)`"),
    "softmax": Word("softmax(x, axis)", "along the axis, by default the last"),
    "max": Word("max(x, y, ..)", "the largest, entry by entry"),
    "min": Word("min(x, y, ..)", "the smallest, entry by entry"),
    "where": Word("where(a <= b, x, y)", "x where the comparison holds, else y"),
    "diag": Word("diag(x)", "[.., n] -> [.., n, n], x on the diagonal"),
    "join": Word("join(x, y, ..)", "arrays of one axis, or lists, one behind the other"),
    "stack": Word("stack(x, y, ..)", "a new first axis"),
    "flat": Word("flat(x)", "one axis of all entries"),
    "matrix": Word("matrix(x, d)", "the axis `d` on one side, all others as one on the other"),
    "shaped": Word("shaped(x, y)", "the entries of x in the axes of y"),
    "shape": Word("shape(x)", "its axes, for `weight`, `linear` and memories"),
    "index": Word("input ids: index(n)", "a stream of whole numbers from 0 below n"),
    "range": Word("range(n)", "the numbers 0 .. n - 1"),
    "cross_entropy": Word("cross_entropy(x, i)", "`log sum exp x - x[i]`"),
    "load": Word('load("file", "theirs" -> ours)', "a start that is read from a file"),
}
BUILT_IN = CONSTANTS | FUNCTIONS
LANGUAGE = STATEMENTS | CLAUSES | TIMES
