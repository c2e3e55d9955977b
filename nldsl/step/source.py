"""One emitted Python function: array equations -> lines of torch code.

A value has a *lead*: "" (no batch: weights), "B" (a memory held through a piece), "BT" (a value for
each token). Its tensor has the dimensions of the lead, then its axes. Operators align leads by
broadcasting; nothing is expanded that need not be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nldsl.core.nodes import Node, Shape, Tree, unmade
from nldsl.core.ops import OPS
from nldsl.step.listing import PLAIN, Made


@dataclass(frozen=True)
class Ref:
    """A value in the emitted code: a variable (or literal) and what it holds."""

    text: str
    lead: str
    shape: Shape
    literal: float | None = None
    test: str = ""  # of a comparison: the variable that is true or false
    leaves: tuple[Ref, ...] | None = None  # of a tree that is kept by its leaves
    alike: bool = False  # of a tree: are all its numbers this one?

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass(frozen=True)
class Broadcast:
    """An expanded variable: the one with axes of size 1 that broadcasts to it, the one without
    these, "" if it has no name, and which dimensions they are.
    """

    narrow: Ref
    of: str
    over: tuple[int, ...]


def wider(leads: Sequence[str]) -> str:
    return max(leads, key=len, default="")


class Fn:
    """Collects the lines of one function.

    `env` maps nodes to values that exist before its first line.
    """

    def __init__(self, lead: str = "BT") -> None:
        self.lines: list[str] = []
        self.env: dict[Node, Ref] = {}
        self.made: dict[str, Made] = {}  # what is known of each variable
        self.at: Node | None = None  # the node that is being written
        self._made: dict[str, Ref] = {}
        self._parts: dict[str, list[str]] = {}
        self.broadcast: dict[str, Broadcast] = {}  # expanded variables
        # of a variable, another that is the same where a third is None
        self.twins: dict[str, tuple[str, str]] = {}
        self.products: dict[tuple[str, ...], str] = {}  # the variable that is a product
        self.ranks: dict[str, int] = {}  # of a variable, its dimensions if they are all there
        self._count = 0
        self.token_lead = lead  # lead of a value that has a time, in this function
        self.like = ""  # any tensor in scope, for the dtype and device of constants
        self.differentiated = True  # may autograd pass through the lines?
        self.lazy: dict[
            str, Callable[[Node], Ref]
        ] = {}  # operators whose arguments are evaluated elsewhere
        self.rules: dict[
            str, Rule
        ] = {}  # operators that mean something of their own in this function
        # how a node becomes lines, if not by `emit`
        self.write: Callable[[Node, list[Ref]], Ref] | None = None

    def child(self) -> Fn:
        """A function in whose lines other values stand for the same nodes; it writes into the same
        lines.
        """
        other = Fn(self.token_lead)
        other.__dict__ |= {k: v for k, v in self.__dict__.items() if k != "env"}
        other.fresh = self.fresh  # type: ignore[method-assign]
        return other

    def bind(self, node: Node, text: str, lead: str = "") -> Ref:
        ref = self.env[node] = Ref(text, lead, () if isinstance(node.type, Tree) else node.type)
        return ref

    def fresh(self, stem: str = PLAIN) -> str:
        self._count += 1
        return f"{stem}{self._count}"

    def let(self, expression: str, lead: str, shape: Shape, stem: str = PLAIN) -> Ref:
        """A variable for the expression; the same expression is written once."""
        if self.broadcast or self.twins:
            expression = PRODUCT.sub(self.product, expression)
        found = self._made.get(expression)
        if found is None:
            found = self._made[expression] = Ref(self.fresh(stem), lead, shape)
            self.ranks[found.text] = len(lead) + len(shape)
            if product := PRODUCT.fullmatch(expression):
                self.products[named(*product.groups())] = found.text
            self.lines.append(f"{found.text} = {expression}")
            self.made[found.text] = Made(self.at, stem=stem)
        return found

    def product(self, found: re.Match[str]) -> str:
        """A product in which a factor that is broadcast stands with the axes that it has, where the
        other has all of them.
        """
        eq, *factors = found.groups()
        letters = eq.split("->")[0].split(",")
        whole = [
            x not in self.broadcast and self.ranks.get(x) == len(axes)
            for x, axes in zip(factors, letters, strict=True)
        ]
        for i, x in enumerate(factors):
            wide = self.broadcast.get(x)
            over = {letters[i][d] for d in wide.over} if wide else set()
            if wide and wide.of and whole[1 - i] and over <= set(letters[1 - i]):
                factors[i] = wide.of
                letters[i] = "".join(c for c in letters[i] if c not in over)
        eq = f"{','.join(letters)}->{eq.split('->')[1]}"
        for i, x in enumerate(factors):
            if x in self.twins:
                other, empty = self.twins[x]
                same = self.products.get(named(eq, *factors[:i], other, *factors[i + 1 :]))
                if same:
                    return f"({same} if {empty} is None else {einsum(eq, *factors)})"
        return einsum(eq, *factors)

    def between(self, eq: str, a: str, b: str) -> str:
        """A product of which nothing is asked but that it broadcasts: of two factors that are, of
        the axes that they have.
        """
        x, y = self.broadcast.get(a), self.broadcast.get(b)
        if x and y and x.over == y.over:
            a, b = x.narrow.text, y.narrow.text
        return einsum(eq, a, b)

    def lets(self, expression: str, *stems: str) -> list[str]:
        """Variables for the parts of a tuple; the same expression is written once."""
        found = self._parts.get(expression)
        if found is None:
            found = self._parts[expression] = [self.fresh(stem) for stem in stems]
            self.lines.append(f"{', '.join(found)} = {expression}")
            self.made |= {text: Made(self.at, stem=stem) for text, stem in zip(found, stems)}
        return found

    def note(self, ref: Ref, node: Node) -> Ref:
        """Says that a variable is the value of a node."""
        made = self.made.get(ref.text)
        if made is not None and made.node is None:
            self.made[ref.text] = replace(made, node=node)
        return ref

    def tensor(self, ref: Ref) -> str:
        """The text of a value where a real tensor is needed."""
        if ref.literal is None:
            return ref.text
        sizes = "".join(f"{a.size}, " for a in ref.shape)
        return self.let(
            f"full({self.like}, {ref.literal!r}, ({sizes}))", "", ref.shape, "filled"
        ).text

    def align(self, ref: Ref, lead: str, rank: int) -> str:
        """Text of the value, broadcastable against dimensions lead + rank."""
        if ref.literal is not None:
            return repr(ref.literal)
        text = ref.text
        if ref.rank == 0 and rank and ref.lead:
            text += "[" + ":, " * len(ref.lead) + "None, " * rank
            text = text[:-2] + "]"
        if ref.lead == "B" and lead == "BT":
            text += ".unsqueeze(1)"
        return text

    def over(self, ref: Ref) -> str:
        """Text of a tensor that has a value for each token."""
        assert ref.lead == "BT", ref
        return ref.text

    def value(self, node: Node) -> Ref:
        """Code for a node and everything below it that is not there yet."""
        write = self.write or self.emit
        lazy = self.lazy
        for top in unmade(node, self.env.get, lambda n: () if n.op in lazy else n.args):
            if top.op in lazy:
                self.env[top] = lazy[top.op](top)
            else:
                self.at = top
                self.env[top] = self.note(write(top, [self.env[a] for a in top.args]), top)
        return self.env[node]

    def emit(self, node: Node, args: list[Ref]) -> Ref:
        rule = self.rules.get(node.op) or RULES.get(node.op)
        if rule is None and OPS[node.op].elementwise:
            rule = _elementwise
        assert rule is not None, node.op
        return rule(self, node, args)


def einsum(eq: str, *factors: str) -> str:
    """The text of a product."""
    return f'torch.einsum("{eq}", {", ".join(factors)})'


def named(eq: str, *factors: str) -> tuple[str, ...]:
    """A product, whatever its letters are called."""
    letters = dict.fromkeys(c for c in eq if c.isalpha())
    return (eq.translate({ord(c): chr(i + 1) for i, c in enumerate(letters)}), *factors)


# of two variables
PRODUCT = re.compile(r'torch\.einsum\("([^"]+)", (\w+), (\w+)\)')
Rule = Callable[[Fn, Node, list[Ref]], Ref]
SHAPES = {"spread", "permute", "reshape", "sum", "mean", "select"}


def _root(node: Node) -> float | None:
    """The power, if it is a fraction, of what may be 0: torch has no first or no second derivative
    there, the language has 0.
    """
    power = 0.5
    if node.op == "pow":
        n = node.args[1]
        while n.op in SHAPES:
            n = n.args[0]
        power = n["value"] if n.op == "const" and isinstance(n["value"], (int, float)) else 1.0
    return power if power > 0 and power % 1 and not _positive(node.args[0]) else None


def _positive(x: Node) -> bool:
    while x.op in SHAPES:
        x = x.args[0]
    if x.op == "add":  # a square or a length is not negative, so the number decides
        return any(_positive(a) for a in x.args)
    return (
        OPS[x.op].sign == "positive"
        or x.op == "const"
        and isinstance(x["value"], (int, float))
        and x["value"] > 0
    )


def _const(fn: Fn, node: Node, args: list[Ref]) -> Ref:
    value = node["value"]
    if isinstance(value, (int, float)):
        return Ref(repr(float(value)), "", node.shape, float(value))
    sizes = ", ".join(str(a.size) for a in node.shape)
    return fn.let(f"full({fn.like}, {_plain(value)!r}, ({sizes},))", "", node.shape, "filled")


def _plain(value: object) -> object:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _elementwise(fn: Fn, node: Node, args: list[Ref]) -> Ref:
    args = _broadcast(fn, node, args)
    lead, rank = wider([a.lead for a in args]), len(node.shape)
    texts = [fn.align(a, lead, rank) for a in args]
    if all(a.literal is not None for a in args):
        shape = args[0].shape or node.shape
        texts[0] = fn.tensor(Ref(texts[0], "", shape, args[0].literal))
    op, row = node.op, OPS[node.op]
    if op in ("sqrt", "pow") and fn.differentiated and (power := _root(node)) is not None:
        text = f"root({fn.tensor(args[0])}, {power!r})"
    elif op in ("max", "min"):
        text = _extremum(fn, op, args, texts)
    elif op == "where":
        text = _where(fn, args, texts, lead, rank)
    else:
        if not row.numbers:
            whole = (replace(a, text=fn.tensor(a), literal=None) for a in args)
            texts = [fn.align(a, lead, rank) for a in whole]
        text = row.text.format(*texts)
        if row.test:
            return _number(fn, fn.let(text, lead, node.shape))
    return fn.let(text, lead, node.shape)


def _broadcast(fn: Fn, node: Node, args: list[Ref]) -> list[Ref]:
    """Arguments that broadcast to the shape of the result, the narrow ones as they are."""
    lead = wider([a.lead for a in args])
    shaped = next((i for i, a in enumerate(args) if a.rank), None)
    if (
        shaped is not None
        and any(a.literal is None for a in args)
        and all(a.literal is not None or not a.rank for a in args)
    ):  # the number alone has the axes
        args = [Ref(fn.tensor(a), "", a.shape) if i == shaped else a for i, a in enumerate(args)]
    whole = [a for a in args if a.shape == node.type and a.lead == lead and a.literal is None]
    if any(a.text not in fn.broadcast for a in whole):  # the others broadcast to it
        args = [fn.broadcast[a.text].narrow if a.text in fn.broadcast else a for a in args]
    return args


def _extremum(fn: Fn, op: str, args: list[Ref], texts: list[str]) -> str:
    if fn.differentiated:  # at a tie the first argument has the slope; of `clamp`, releases differ
        test = f"{texts[0]} {'>=' if op == 'max' else '<='} {texts[1]}"
        return f"torch.where({test}, {texts[0]}, {texts[1]})"
    bound = [i for i, a in enumerate(args) if a.literal is not None]
    if bound:
        limit = "min" if op == "max" else "max"
        return f"{texts[1 - bound[0]]}.clamp({limit}={texts[bound[0]]})"
    return f"torch.{op}imum({texts[0]}, {texts[1]})"


def _where(fn: Fn, args: list[Ref], texts: list[str], lead: str, rank: int) -> str:
    if args[1].literal is not None and args[2].literal is not None:
        texts[1] = fn.tensor(Ref(texts[1], "", (), args[1].literal))
    test = (
        fn.align(replace(args[0], text=args[0].test), lead, rank)
        if args[0].test
        else f"{texts[0]} != 0"
    )
    return f"torch.where({test}, {texts[1]}, {texts[2]})"


def _number(fn: Fn, test: Ref) -> Ref:
    """What is true or false as the number 1 or 0."""
    return replace(fn.let(f"truth({test.text}, {fn.like})", test.lead, test.shape), test=test.text)


def _spread(fn: Fn, node: Node, args: list[Ref]) -> Ref:
    (x,) = args
    if x.literal is not None:
        return Ref(x.text, "", node.shape, x.literal)
    dims = list(node["dims"])
    text = x.text
    lead = len(x.lead)
    if dims != sorted(dims):
        order = sorted(range(len(dims)), key=lambda i: dims[i])
        text += f".permute({', '.join(str(i) for i in [*range(lead), *(lead + o for o in order)])})"
        dims.sort()
    if len(dims) < len(node.shape):
        index = [":"] * lead + [":" if d in dims else "None" for d in range(len(node.shape))]
        of = text if text.isidentifier() else ""
        narrow = fn.let(f"{text}[{', '.join(index)}]", x.lead, node.shape)
        sizes = ["-1"] * lead + [str(a.size) for a in node.shape]
        wide = fn.let(f"{narrow.text}.expand({', '.join(sizes)})", x.lead, node.shape)
        over = tuple(i for i, x in enumerate(index) if x == "None")
        fn.broadcast[wide.text] = Broadcast(narrow, of, over)
        return wide
    return fn.let(text, x.lead, node.shape)


def _permute(fn: Fn, node: Node, args: list[Ref]) -> Ref:
    (x,) = args
    lead = len(x.lead)
    order = [*range(lead), *(lead + d for d in node["dims"])]
    return fn.let(f"{fn.tensor(x)}.permute({', '.join(map(str, order))})", x.lead, node.shape)


def _reshape(fn: Fn, node: Node, args: list[Ref]) -> Ref:
    (x,) = args
    sizes = ", ".join(str(a.size) for a in node.shape)
    keep = f"*{fn.tensor(x)}.shape[:{len(x.lead)}], " if x.lead else ""
    return fn.let(f"{fn.tensor(x)}.reshape({keep}{sizes})", x.lead, node.shape)


def _einsum(fn: Fn, node: Node, args: list[Ref]) -> Ref:
    left, out = node["eq"].split("->")
    la, lb = left.split(",")
    a, b = args
    lead = wider([a.lead, b.lead])
    return fn.let(
        f'torch.einsum("{a.lead}{la},{b.lead}{lb}->{lead}{out}", {fn.tensor(a)}, {fn.tensor(b)})',
        lead,
        node.shape,
    )


def _reduce(name: str) -> Rule:
    def rule(fn: Fn, node: Node, args: list[Ref]) -> Ref:
        (x,) = args
        if not node["dims"]:
            return x
        dims = ", ".join(str(d - x.rank) for d in node["dims"])
        return fn.let(
            f"{fn.tensor(x)}.{name}(({dims},))"
            if name != "amax"
            else f"{fn.tensor(x)}.amax(({dims},))",
            x.lead,
            node.shape,
        )

    return rule


def _softmax(fn: Fn, node: Node, args: list[Ref]) -> Ref:
    return fn.let(
        f"{fn.tensor(args[0])}.softmax({node['dim'] % len(node.shape) - len(node.shape)})",
        args[0].lead,
        node.shape,
    )


def _select(fn: Fn, node: Node, args: list[Ref]) -> Ref:
    (x,) = args
    return fn.let(
        f"{fn.tensor(x)}.select({node['dim'] % x.rank - x.rank}, {node['index']})",
        x.lead,
        node.shape,
    )


def _gather_leads(fn: Fn, args: list[Ref]) -> tuple[list[str], str]:
    """Texts of tensors with one common lead, expanded, for stack and join."""
    lead = wider([a.lead for a in args])
    wide = next((a for a in args if a.lead == lead), args[0])
    texts = []
    for a in args:
        text = fn.tensor(a)
        if a.lead != lead:
            text = fn.align(a, lead, a.rank) if a.literal is None else text
            sizes = [f"{wide.text}.shape[{i}]" for i in range(len(lead))] + [
                str(x.size) for x in a.shape
            ]
            text += f".expand({', '.join(sizes)})"
        texts.append(text)
    return texts, lead


def _stack(fn: Fn, node: Node, args: list[Ref]) -> Ref:
    texts, lead = _gather_leads(fn, args)
    return fn.let(
        f"torch.stack([{', '.join(texts)}], {node['dim'] % len(node.shape) - len(node.shape)})",
        lead,
        node.shape,
    )


def _join(fn: Fn, node: Node, args: list[Ref]) -> Ref:
    texts, lead = _gather_leads(fn, args)
    return fn.let(
        f"torch.cat([{', '.join(texts)}], {node['dim'] % len(node.shape) - len(node.shape)})",
        lead,
        node.shape,
    )


def _diag(fn: Fn, node: Node, args: list[Ref]) -> Ref:
    return fn.let(f"torch.diag_embed({fn.tensor(args[0])})", args[0].lead, node.shape)


def _solve(fn: Fn, node: Node, args: list[Ref]) -> Ref:
    lead = wider([a.lead for a in args])
    b, a = (fn.align(x, lead, x.rank) if x.literal is None else fn.tensor(x) for x in args)
    return fn.let(f"solve({b}, {a})", lead, node.shape)


def _eye(fn: Fn, node: Node, args: list[Ref]) -> Ref:
    n = node.shape[0].size
    return fn.let(
        f"torch.eye({n}, dtype={fn.like}.dtype, device={fn.like}.device)", "", node.shape, "filled"
    )


def _gather(fn: Fn, node: Node, args: list[Ref]) -> Ref:
    """A row of a table of weights; of an array that each sequence, or token, has for itself, its
    own entry.
    """
    table, ids = args
    if not table.lead:
        text = fn.tensor(table)
        if len(node.shape) == 1:
            return fn.let(f"F.embedding({ids.text}, {text})", ids.lead, node.shape)
        rows = f"F.embedding({ids.text}, {text}.reshape({text}.shape[0], -1))"
        sizes = "".join(f", {axis.size}" for axis in node.shape)
        return fn.let(f"{rows}.reshape(*{ids.text}.shape{sizes})", ids.lead, node.shape)
    lead = wider([table.lead, ids.lead])
    entries = fn.align(table, lead, table.rank)
    return fn.let(f"entry({entries}, {fn.align(ids, lead, 0)}, {len(lead)})", lead, node.shape)


def _cross_entropy(fn: Fn, node: Node, args: list[Ref]) -> Ref:
    x, ids = args
    assert ids.shape == x.shape[:-1], node.type
    return fn.let(
        f"cross_entropy({fn.tensor(x)}, {ids.text})", wider([x.lead, ids.lead]), node.shape
    )


def _stop(fn: Fn, node: Node, args: list[Ref]) -> Ref:
    (x,) = args
    return x if x.literal is not None else fn.let(f"{x.text}.detach()", x.lead, node.shape)


RULES: dict[str, Rule] = {
    "const": _const,
    "spread": _spread,
    "permute": _permute,
    "reshape": _reshape,
    "einsum": _einsum,
    "sum": _reduce("sum"),
    "mean": _reduce("mean"),
    "amax": _reduce("amax"),
    "softmax": _softmax,
    "select": _select,
    "stack": _stack,
    "join": _join,
    "diag": _diag,
    "solve": _solve,
    "eye": _eye,
    "gather": _gather,
    "cross_entropy": _cross_entropy,
    "stop": _stop,
}


def prune(lines: list[str], results: Sequence[str]) -> list[str]:
    """Drops assignments that nothing uses."""
    needed = set(re.findall(r"[A-Za-z_]\w*", " ".join(results)))
    kept = []
    for line in reversed(lines):
        target, _, expression = line.partition(" = ")
        names = re.findall(r"\w+", target)
        if line.startswith("#") or not names or not needed.isdisjoint(names):
            kept.append(line)
            needed |= set(re.findall(r"[A-Za-z_]\w*", expression))
    return kept[::-1]


def parts(names: Sequence[str]) -> str:
    """The text of a tuple."""
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"
