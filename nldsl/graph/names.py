"""Qualified names: paths of definitions, `loss.layer[2].mixer.recall.M.start.W2`.

A call that makes weights or levels takes the name of the definition that it stands in. Of several
in one definition the first to be computed is `q`, the others are `q.conv`, `q.linear2`: the callee,
and which of its calls it is. In `<-`, `minimize` and `return` it is the callee alone, but the first
`weight` of a def is called as the call of the def is: `norm1 = rmsnorm(x)` has the weight `norm1`.
What is written behind other weights, or under a name of its own, renames none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from nldsl.frontend import syntax
from nldsl.graph.built_in import name_of
from nldsl.graph.scope import Scope, Thunk
from nldsl.graph.values import Builtin, Definition

Callee = Definition | Builtin | None  # None: it makes nothing
MAKERS = frozenset({"weight", "linear", "affine", "conv", "embed"})


def join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def definition(name: str, scope: Scope, depth: int = 0) -> Callee:
    """The def or built-in that a name in the place of a callee stands for, found without working
    anything out.
    """
    if name in MAKERS:
        return Builtin(name)
    found = scope.find(name)
    if found is None or depth > 50:
        return None
    base = found[0].base
    if isinstance(base, Thunk):
        if isinstance(base.expr, syntax.Name) and base.site is not None:
            return definition(base.expr.text, base.site.scope, depth + 1)
        return base.value if base.state == "done" and isinstance(base.value, Definition) else None
    return base if isinstance(base, Definition) else None


def calls_in(node: syntax.Syntax) -> Iterable[syntax.Call]:
    return (
        piece
        for piece in syntax.walk(node)
        if isinstance(piece, syntax.Call) and isinstance(piece.callee, syntax.Name)
    )


class Naming:
    """Remembers which defs make weights or levels, for each choice of their definition
    arguments.
    """

    def __init__(self) -> None:
        self.known: dict[tuple[int, tuple[tuple[str, int], ...]], bool] = {}
        self.calls: dict[
            int, list[syntax.Call]
        ] = {}  # by the identity of a statement: a def is instantiated many times

    def of_call(self, call: syntax.Call, scope: Scope) -> bool:
        """Does a call in `scope` make weights or levels?"""
        return self.of(definition(name_of(call), scope), call, lambda name: definition(name, scope))

    def of(self, callee: Callee, call: syntax.Call, resolve: Callable[[str], Callee]) -> bool:
        """Does a call of `callee`? `resolve` finds the definitions that it names as arguments."""
        if isinstance(callee, Builtin):
            return callee.name in MAKERS
        if not isinstance(callee, Definition):
            return False
        params = [param.name.text for param in callee.syntax.params]
        bound: dict[str, Callee] = {}
        positional = iter(params)
        for arg in call.args:
            name, value = (
                (arg.name.text, arg.value)
                if isinstance(arg, syntax.Named)
                else (next(positional, None), arg)
            )
            if name is not None and isinstance(value, syntax.Name):
                bound[name] = resolve(value.text)
        key = (
            id(callee.syntax),
            tuple(
                sorted(
                    (name, id(d.syntax)) for name, d in bound.items() if isinstance(d, Definition)
                )
            ),
        )
        if key not in self.known:
            self.known[key] = False  # a recursive def is a finding of its own
            self.known[key] = self.body(callee, bound, params)
        return self.known[key]

    def body(self, callee: Definition, bound: dict[str, Callee], params: list[str]) -> bool:
        """Does the body of a def, for these definition arguments?"""

        def resolve(name: str) -> Callee:
            return bound.get(name) if name in params else definition(name, callee.scope)

        body = callee.syntax.body
        return any(isinstance(piece, syntax.Level) for piece in syntax.walk(body)) or any(
            self.of(resolve(name_of(call)), call, resolve) for call in calls_in(body)
        )

    def components(self, statements: Iterable[syntax.Syntax], scope: Scope) -> dict[int, str]:
        """The component that each call in these statements adds to the path of its scope."""
        found: dict[int, str] = {}
        alone: Counter[str] = Counter()
        for statement in statements:
            if isinstance(statement, syntax.For | syntax.Level | syntax.Def | syntax.Memory):
                continue
            if id(statement) not in self.calls:
                self.calls[id(statement)] = list(calls_in(statement))
            made = [call for call in self.calls[id(statement)] if self.of_call(call, scope)]
            if isinstance(statement, syntax.Define):
                name = statement.name.text
                made.sort(key=lambda call: call.span.end)  # arguments before what takes them
                parts = counted(made, Counter())
                found |= {call: f"{name}.{part}" for call, part in parts.items()}
                found |= {id(call): name for call in made[:1]}
                continue
            found |= counted(made, alone)
        own = scope.kind == "def" and scope.path
        return {call: "" if own and part == "weight" else part for call, part in found.items()}


def counted(calls: Iterable[syntax.Call], before: Counter[str]) -> dict[int, str]:
    """`linear`, `conv`, `linear2`: each call by its callee, with those before."""
    found = {}
    for call in calls:
        callee = name_of(call)
        before[callee] += 1
        found[id(call)] = callee + (str(before[callee]) if before[callee] > 1 else "")
    return found
