"""Arguments of built-ins: by place or by name, worked out where they stand."""

from __future__ import annotations

from collections.abc import Iterable

from nldsl.diagnostic import Advice, Edit
from nldsl.frontend import syntax
from nldsl.graph.built_in import name_of
from nldsl.graph.elaborator import OVER, meant
from nldsl.graph.foreign import between
from nldsl.graph.scope import Site


def called_as(call: syntax.Call, names: Iterable[str]) -> str:
    """How a call of a function looks."""
    return f"`{name_of(call)}({', '.join(names)})`"


def given(
    call: syntax.Call, site: Site, *params: str, optional: tuple[str, ...] = ()
) -> dict[str, syntax.Expr]:
    """The arguments of a built-in by name, not yet worked out."""
    elaborator, found, names = site.elaborator, {}, iter((*params, *optional))
    for arg in call.args:
        if isinstance(arg, syntax.Window):
            elaborator.fail(
                "N107", "`over` stands only in `sum`, `mean` and `attend`", arg.span, help=OVER
            )
        if isinstance(arg, syntax.Named):
            name, value = arg.name.text, arg.value
            if name not in (*params, *optional) or name in found:
                elaborator.fail(
                    "N107",
                    f"`{name_of(call)}` has no parameter `{name}` left",
                    arg.span,
                    **compared(arg, call)
                    or meant(arg.name, (*params, *optional))
                    or {"help": f"it takes {', '.join(f'`{p}`' for p in (*params, *optional))}"},
                )
        else:
            name, value = next(names, ""), arg
            if not name:
                elaborator.fail(
                    "N107",
                    f"`{name_of(call)}` takes {len(params) + len(optional)} arguments",
                    arg.span,
                    help=called_as(call, [*params, *optional]),
                )
        found[name] = value
    if missing := [name for name in params if name not in found]:
        elaborator.fail(
            "N107",
            f"`{name_of(call)}` lacks its argument `{missing[0]}`",
            call.span,
            help=called_as(call, params),
        )
    return found


def compared(arg: syntax.Named, call: syntax.Call) -> Advice:
    """`where(x = 0, ..)`: a comparison is meant."""
    if name_of(call) != "where" or arg is not call.args[0]:
        return {}
    sign = arg.span.source.text.index("=", arg.name.span.end)
    return {
        "help": f"write `{arg.name} == {arg.value.span.text()}` to compare",
        "fix": (Edit(between(arg.span, sign, sign + 1), "=="),),
    }


def outside_memory(name: str, call: syntax.Call, site: Site) -> None:
    """Fails with N208 inside a def that is a memory's type."""
    if site.scope.template:
        site.elaborator.fail(
            "N208",
            f"a def that is a memory's type holds no `{name}`",
            call.span,
            help=f"`{name}` in the equation around: the memory is called on its value",
        )


def positional(call: syntax.Call, site: Site) -> list[syntax.Expr]:
    """The arguments of a call that takes them by place alone, at least one."""
    found: list[syntax.Expr] = []
    for arg in call.args:
        if isinstance(arg, syntax.Named | syntax.Window):
            site.elaborator.fail(
                "N107",
                f"`{name_of(call)}` takes plain arguments",
                arg.span,
                help="values alone, without a name and without a stretch",
            )
        found.append(arg)
    if not found:
        site.elaborator.fail(
            "N107",
            f"`{name_of(call)}` takes at least one argument",
            call.span,
            help=called_as(call, ["x"]),
        )
    return found
