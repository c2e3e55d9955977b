"""Qualified names: paths of definitions, `loss.layer[2].mixer.recall.M.start.W2`.

A call that makes weights or levels takes the name of its definition; several in one definition each
take `definition.callee`. In `<-`, `minimize` and `return` it is the callee alone. A def with one
unnamed weight and no level adds no component.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nldsl.frontend import syntax
from nldsl.graph.built_in import name_of
from nldsl.graph.scope import Scope, Thunk
from nldsl.graph.values import Builtin, Definition

Callee = Definition | Builtin | None  # None: it makes nothing
MAKERS = frozenset({"weight", "linear", "affine", "conv", "embed"})


@dataclass(frozen=True)
class Makes:
    """The weights and levels of a call: how many calls in its body make some, whether it holds a
    level, and whether it adds no component to names.
    """

    count: int
    level: bool
    bare: bool

    def __bool__(self) -> bool:
        return self.count > 0 or self.level


NOTHING = Makes(0, False, False)
ONE = Makes(1, False, True)


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
    """Remembers the weights and levels that each def makes, for each choice of its definition
    arguments.
    """

    def __init__(self) -> None:
        self.known: dict[tuple[int, tuple[tuple[str, int], ...]], Makes] = {}
        self.calls: dict[
            int, list[syntax.Call]
        ] = {}  # by the identity of a statement: a def is instantiated many times

    def of_call(self, call: syntax.Call, scope: Scope) -> Makes:
        """The weights and levels of a call in `scope`."""
        return self.of(definition(name_of(call), scope), call, lambda name: definition(name, scope))

    def of(self, callee: Callee, call: syntax.Call, resolve: Callable[[str], Callee]) -> Makes:
        """The weights and levels of a call of `callee`; `resolve` finds the definitions that it
        names as arguments.
        """
        if isinstance(callee, Builtin):
            return ONE if callee.name in MAKERS else NOTHING
        if not isinstance(callee, Definition):
            return NOTHING
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
            self.known[key] = NOTHING  # a recursive def is a finding of its own
            self.known[key] = self.body(callee, bound, params)
        return self.known[key]

    def body(self, callee: Definition, bound: dict[str, Callee], params: list[str]) -> Makes:
        """The weights and levels in the body of a def, for these definition arguments."""

        def resolve(name: str) -> Callee:
            return bound.get(name) if name in params else definition(name, callee.scope)

        body = callee.syntax.body
        level = any(isinstance(piece, syntax.Level) for piece in syntax.walk(body))
        made = [
            (call, what)
            for call in calls_in(body)
            if (what := self.of(resolve(name_of(call)), call, resolve))
        ]
        bare = False
        if len(made) == 1 and not level and made[0][1].bare:
            statements = body.statements if isinstance(body, syntax.Block) else (body,)
            holder = next(
                s for s in statements if any(piece is made[0][0] for piece in syntax.walk(s))
            )
            bare = not isinstance(holder, syntax.Define | syntax.For | syntax.Level)
        return Makes(len(made), level, bare)

    def components(
        self, statements: Iterable[syntax.Syntax], scope: Scope, bare: bool = False
    ) -> dict[int, str]:
        """The component that each call in these statements adds to the path of its scope."""
        found: dict[int, str] = {}
        alone: Counter[str] = Counter()
        for statement in statements:
            if isinstance(statement, syntax.For | syntax.Level | syntax.Def | syntax.Memory):
                continue
            if id(statement) not in self.calls:
                self.calls[id(statement)] = list(calls_in(statement))
            made = [call for call in self.calls[id(statement)] if self.of_call(call, scope)]
            count: Counter[str] = Counter() if isinstance(statement, syntax.Define) else alone
            for call in made:
                callee = name_of(call)
                count[callee] += 1
                part = callee + (str(count[callee]) if count[callee] > 1 else "")
                if isinstance(statement, syntax.Define):
                    part = (
                        statement.name.text if len(made) == 1 else f"{statement.name.text}.{part}"
                    )
                found[id(call)] = "" if bare else part
        return found
