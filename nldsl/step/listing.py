"""The statements of one emitted function -> its text, as a person would write it.

    v7 = torch.einsum(.., w2, x1)           # titans.nl:22  decay = sigmoid(affine(x, [head]))
    v8 = v7 + w3                      ->    decay = torch.sigmoid(torch.einsum(.., affine, x) + b)
    v9 = torch.sigmoid(v8)

A value has the name that the program gives it, or one made of its user's: `k_1` is a part of `k`.
What nothing uses is dropped; a value stands just before its first use, and in it if that is the
only one and there is room. Above each group stands the line of the program that it computes.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from nldsl.core.nodes import Node, Shape
from nldsl.source import Span
from nldsl.step.layout import INDENT, WIDTH, fold, marked
from nldsl.step.names import Names, identifier, last

PLAIN = "v"  # stem of a value that has no name of its own
STEMS = {"S": "size", "n": PLAIN}
OPERATIONS = 8  # most calls and operators of one line


@dataclass(frozen=True)
class Made:
    """What is known of a variable: the node it was written for, and the node whose value it is."""

    at: Node | None = None
    node: Node | None = None
    stem: str = PLAIN
    after: str = ""  # the given variable whose next value it is


@dataclass(frozen=True)
class Label:
    """What a given variable is called, and what its tensor holds."""

    name: str
    comment: str = ""


@dataclass
class Draft:
    """A function as it was collected: its parameters, its statements in the order in which they
    were made, the text of what it returns.
    """

    parameters: Sequence[str]
    lines: Sequence[str]
    results: str
    labels: Mapping[str, Label]
    made: Mapping[str, Made]


@dataclass(frozen=True)
class Known:
    """Names of values, lines of their definitions, name of the file that the program is in."""

    names: Mapping[Node, str]
    lines: Mapping[str, tuple[Span, ...]]
    file: str

    def place(self, made: Made) -> Span | None:
        """The line that a value comes from: the definition that it is of, else where it is used in
        the program's own file.
        """
        name = self.names.get(made.node) if made.node is not None else None
        own = next((n.span for n in (made.node, made.at) if n is not None and n.span), None)
        spans = self.lines.get(name, ()) if name else ()
        if spans:
            return next((s for s in spans if own and at_line(s) == at_line(own)), spans[0])
        return own if own is not None and own.source.name == self.file else None


def at_line(span: Span) -> tuple[str, int]:
    return span.source.name, span.line


def shape_text(lead: str, shape: Shape) -> str:
    """`[B, T, head, e]`."""
    return f"[{', '.join([*lead, *(a.name for a in shape)])}]"


@dataclass
class Statement:
    targets: tuple[str, ...]
    value: ast.expr
    target: ast.expr
    made: Made = Made()
    name: str = ""  # what the program calls it
    base: str = ""  # what it is a part of
    place: Span | None = None
    size: int = 0  # calls and operators


@dataclass
class Listing:
    """Works on one draft; see `listing`."""

    draft: Draft
    known: Known
    found: dict[str, Statement] = field(default_factory=dict)
    order: list[Statement] = field(default_factory=list)
    called: dict[str, str] = field(default_factory=dict)  # variable -> name

    def __post_init__(self) -> None:
        for line in self.draft.lines:
            for statement in parsed(line):
                statement.made = self.draft.made.get(statement.targets[0], Made())
                self.found |= dict.fromkeys(statement.targets, statement)
        self.results = ast.parse(self.draft.results, mode="eval").body
        self.arrange()
        self.inline()
        self.order = [s for s in self.order if s.targets]
        self.name()

    # -- order

    def arrange(self) -> None:
        """Depth first, arguments before what uses them; what unpacks a parameter comes first."""
        begun: set[int] = set()
        stack: list[tuple[Statement, str, Span | None, bool]] = []

        def need(value: ast.expr, base: str, place: Span | None) -> None:
            for name in reversed(variables(value)):
                if name in self.found and id(self.found[name]) not in begun:
                    stack.append((self.found[name], base, place, False))

        need(self.results, "", None)
        while stack:
            statement, base, place, ready = stack.pop()
            if ready:
                self.order.append(statement)
            elif id(statement) not in begun:
                begun.add(id(statement))
                self.describe(statement, base, place)
                stack.append((statement, base, place, True))
                need(statement.value, statement.base, statement.place)
        first = [s for s in dict.fromkeys(map(id, self.found.values())) if s in begun]
        places = {s: i for i, s in enumerate(first)}
        self.order.sort(key=lambda s: places[id(s)] if self.unpacks(s) else len(places))

    def unpacks(self, statement: Statement) -> bool:
        return isinstance(statement.value, ast.Name) and statement.value.id in self.draft.parameters

    def describe(self, statement: Statement, base: str, place: Span | None) -> None:
        made = statement.made
        after = self.draft.labels[made.after].name if made.after in self.draft.labels else ""
        qualified = self.known.names.get(made.node, "") if made.node is not None else ""
        stem = STEMS.get(made.stem, made.stem)
        statement.name = (
            f"{after}_new"
            if after
            else last(qualified)
            if qualified
            else stem
            if stem != PLAIN
            else ""
        )
        statement.base = after or (
            last(qualified) if qualified else spoken(own_place(made)) or base
        )
        statement.place = self.known.place(made) or place or own_place(made)

    # -- one use

    def inline(self) -> None:
        """Puts a value that is used once and has no name into the line that uses it."""
        uses = Counter(
            name
            for value in (*(s.value for s in self.order), self.results)
            for name in mentioned(value)
        )
        names = {
            s.targets[0]: s.name or f"{s.base or PLAIN}_10" for s in self.order if s.targets
        } | {raw: label.name for raw, label in self.draft.labels.items()}
        for statement in self.order:
            statement.size = operations(statement.value)
            room = (
                WIDTH
                - INDENT
                - len(" = ")
                - sum(len(names.get(t, t)) + 2 for t in statement.targets)
            )
            for name in variables(statement.value):
                inner = self.found.get(name)
                if (
                    inner is None
                    or not inner.targets
                    or not isinstance(inner.target, ast.Name)
                    or inner.name
                    or uses[name] != 1
                    or inner.size + statement.size > OPERATIONS
                ):
                    continue
                value = put(statement.value, {name: inner.value})
                if len(written(put(value, names))) <= room:
                    statement.value, inner.targets = value, ()
                    statement.size += inner.size

    # -- names

    def name(self) -> None:
        values = [self.results, *(statement.value for statement in self.order)]
        known = {*self.found, *self.draft.labels}
        names = Names({x for value in values for x in variables(value)} - known)
        for raw in self.draft.parameters:
            label = self.draft.labels.get(raw)
            self.called[raw] = names.take(label.name) if label else raw
        for statement in self.order:
            for raw in statement.targets:
                label = self.draft.labels.get(raw)
                made = self.draft.made.get(raw, Made())
                if label:
                    self.called[raw] = names.take(label.name)
                elif len(statement.targets) > 1:
                    self.describe(one := replace(statement, made=made), statement.base, None)
                    self.called[raw] = names.take(one.name or raw)
                elif statement.name:
                    self.called[raw] = names.take(statement.name)
                else:
                    self.called[raw] = names.part(statement.base or PLAIN)

    # -- text

    def signature(self, function: str) -> list[str]:
        names = [self.called[p] for p in self.draft.parameters]
        comments = [self.comment(p) for p in self.draft.parameters]
        if not any(comments):
            return fold(f"def {function}({', '.join(names)}):")
        rows = [f"    {n},{c}" for n, c in zip(names, comments)]
        return [f"def {function}(", *rows, "):"]

    def comment(self, raw: str) -> str:
        label = self.draft.labels.get(raw)
        return f"  # {label.comment}" if label and label.comment else ""

    def body(self) -> list[str]:
        out: list[str] = []
        place: Span | None = None
        for statement in self.order:
            if self.unpacks(statement):
                out += self.unpacked(statement)
                continue
            here = statement.place
            if here is not None and (place is None or at_line(here) != at_line(place)):
                out.append(" " * INDENT + quoted(here))
            place = here or place
            value = written(put(statement.value, self.called))
            target = written(put(statement.target, self.called))
            if isinstance(statement.target, ast.Tuple) and len(statement.target.elts) > 1:
                target = target[1:-1]
            out += fold(f"{target} = {value}", INDENT)
        results = written(put(self.results, self.called))
        if isinstance(self.results, ast.Tuple) and len(self.results.elts) > 1:
            results = results[1:-1]
        return [*out, *fold(f"return {results}", INDENT)]

    def unpacked(self, statement: Statement) -> list[str]:
        """A parameter's parts, each with what it holds."""
        value = written(statement.value)
        names = [self.called[t] for t in statement.targets]
        comments = [self.comment(t) for t in statement.targets]
        pad = " " * INDENT
        if len(names) == 1:
            return [f"{pad}({names[0]},) = {value}{comments[0]}"]
        rows = [f"{pad}    {n},{c}" for n, c in zip(names, comments)]
        return [f"{pad}(", *rows, f"{pad}) = {value}"]


def own_place(made: Made) -> Span | None:
    return next((n.span for n in (made.node, made.at) if n is not None and n.span), None)


@cache
def spoken(span: Span | None) -> str:
    """What the line of a value is about: the name that it defines or moves, else the definition
    that it stands in.
    """
    if span is None:
        return ""
    if moved := re.match(r"\s*([A-Za-z_][\w.]*)\s*(?:=|<-) ", span.source.line(span.line)):
        return identifier(moved.group(1))
    for line in range(span.line, 0, -1):
        if found := re.match(r"def (\w+)", span.source.line(line)):
            return found.group(1)
        if line < span.line and span.source.line(line).startswith("}"):
            return ""
    return ""


def listing(function: str, draft: Draft, known: Known) -> str:
    """The text of a function."""
    made = Listing(draft, known)
    return "\n".join([*made.signature(function), *made.body()]) + "\n"


def parsed(line: str) -> list[Statement]:
    """A line `x = ..` or `(x, y) = ..`, nested tuples too; a comment says nothing."""
    out = []
    for node in ast.parse(line).body:
        assert isinstance(node, ast.Assign), line
        names = [n.id for n in ast.walk(node.targets[0]) if isinstance(n, ast.Name)]
        out.append(Statement(tuple(names), node.value, node.targets[0]))
    return out


def mentioned(value: ast.AST) -> Iterator[str]:
    """Names in a text, in its order, as often as they stand there."""
    if isinstance(value, ast.Name):
        yield value.id
    for child in ast.iter_child_nodes(value):
        yield from mentioned(child)


def variables(value: ast.AST) -> list[str]:
    """Names in a text, in its order, each once."""
    return list(dict.fromkeys(mentioned(value)))


def operations(value: ast.AST) -> int:
    return sum(
        isinstance(n, ast.Call | ast.BinOp | ast.UnaryOp | ast.Subscript) for n in ast.walk(value)
    )


def put(value: ast.expr, values: Mapping[str, str | ast.expr]) -> ast.expr:
    """The text with other names, or values, in the place of some names; the given one stays."""
    if isinstance(value, ast.Name):
        found = values.get(value.id, value)
        return ast.Name(found) if isinstance(found, str) else found
    fields: dict[str, Any] = {name: put_in(x, values) for name, x in ast.iter_fields(value)}
    return type(value)(**fields)


def put_in(part: object, values: Mapping[str, str | ast.expr]) -> object:
    """`put` in a part of an expression: another one, several, a keyword."""
    if isinstance(part, ast.expr):
        return put(part, values)
    if isinstance(part, list):
        return [put_in(x, values) for x in part]
    if isinstance(part, ast.keyword):
        return ast.keyword(part.arg, put(part.value, values))
    return part


def written(value: ast.AST) -> str:
    return marked(ast.unparse(value))


def quoted(span: Span) -> str:
    """`# titans.nl:22  decay = sigmoid(affine(x, [head]))`"""
    line = re.sub(r"\s+#", "  #", span.source.line(span.line).strip())
    text = f"# {span.source.name}:{span.line}  {line}"
    return text if len(text) <= WIDTH - INDENT else text[: WIDTH - INDENT - 3].rstrip() + ".."
