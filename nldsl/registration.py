"""Registers an elementwise operator of one's own, in one call.

    import nldsl, torch

    nldsl.register(
        "softsign",
        text="{0} / (1 + {0}.abs())",
        rule=lambda x: x / (1 + x.abs()),
        derivative=lambda y, x: (1 - abs(y)) ** 2,
    )

From then on `softsign(x)` stands in texts as `tanh(x)` does. The call compares its arguments before
it accepts them: code, rule, derivative, folding and sign must agree at a few points.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nldsl.core import shapes
from nldsl.core.build import Builder, Op, Term
from nldsl.core.derivatives import slopes
from nldsl.core.nodes import Node, walk
from nldsl.core.ops import OPS
from nldsl.frontend.lex import UNNAMEABLE
from nldsl.graph.built_in import FUNCTIONS, built_in
from nldsl.graph.builtins import elementwise
from nldsl.oracle.operators import APPLY, Value, array, on_each_entry

ARGUMENTS = ("x", "y", "z")
POINTS = (-1.9, -0.7, 0.3, 1.1, 2.6)
STEP = 1e-5  # of a central difference: its error is about STEP^2
DIFFERENCE, EXACT = 1e-7, 1e-12  # relative to max(1, |expected|)

Slopes = Term | float | tuple[Term | float, ...]
_registered: set[str] = set()


def register(
    name: str,
    *,
    text: str,
    rule: Callable[..., Tensor],
    derivative: Callable[..., Slopes],
    fold: Callable[..., float] | None = None,
    sign: str = "",
    safe: tuple[int, float] | None = None,
    arity: int = 1,
    says: str = "",
    points: Sequence[float] = POINTS,
) -> None:
    """Adds the elementwise operator `name` of `arity` arguments (1 to 3) to the language.

    `text` is torch code on tensors, entry by entry, `{0}` the first argument; it may name `torch`
    and `F`. `rule` is the interpreter's, on float64 tensors, written apart from the code.
    `derivative(y, *arguments)` is dy/dx, or one for each argument, in arithmetic and in elementwise
    operators by their names (`x.sigmoid()`); y is the value. `fold` is its value on numbers, `sign`
    "positive" or "nonnegative" if all its values are. `safe = (i, c)`: its slope is infinite
    somewhere, and in a branch that `where` does not choose argument i is c instead.

    Raises ValueError, with each thing said that does not hold at some of `points`, and for a name
    that the language has.
    """
    if not name.isidentifier() or name in UNNAMEABLE:
        raise ValueError(f"`{name}` cannot be a name in a text")
    if name not in _registered and (name in OPS or name in built_in()):
        raise ValueError(f"the language has `{name}`")
    if not 1 <= arity <= len(ARGUMENTS):
        raise ValueError(f"`{name}` of {arity} arguments: 1 to {len(ARGUMENTS)} are possible")
    row = Op(
        name,
        says or f"registered: {text}",
        arity,
        law=shapes.elementwise,
        fold=fold,
        vjp=slopes(derivative),
        sign=sign,
        text=text,
        numbers=False,
        safe=safe,
        elementwise=True,
        function=True,
    )
    told = list(_untrue(row, rule, derivative, points))
    if told:
        raise ValueError(f"`{name}` is not taken:\n" + "\n".join(f"  {line}" for line in told))
    OPS[name] = row
    APPLY[name] = on_each_entry(rule)
    FUNCTIONS[name] = elementwise(name)
    _registered.add(name)


def _untrue(
    row: Op, rule: Callable[..., Tensor], derivative: Callable[..., Slopes], points: Sequence[float]
) -> Iterator[str]:
    """Of each thing that was said of an operator and does not hold, the point where it is worst."""
    grid = torch.tensor(list(itertools.product(points, repeat=row.arity or 0)), dtype=torch.float64)
    args = [x.clone().requires_grad_() for x in grid.unbind(1)]
    names = dict(zip(ARGUMENTS, args, strict=False))
    value = rule(*args)
    if value.shape != args[0].shape or value.dtype != torch.float64:
        yield f"the rule makes {list(value.shape)} {value.dtype} of {len(grid)} float64 entries"
        return
    code = eval(row.text.format(*names), {"torch": torch, "F": F}, names)
    yield from _differs("the code", code, "the rule", value, grid, EXACT)
    if row.fold is not None:
        numbers = [row.value(*point) for point in grid.tolist()]
        folded = torch.tensor([math.nan if x is None else x for x in numbers], dtype=value.dtype)
        yield from _differs("the folding", folded, "the rule", value, grid, EXACT)
    least = float(value.detach().min())
    if row.sign and not (least > 0 or row.sign == "nonnegative" and least == 0):
        yield f"a value is {least:g}, and all are said to be {row.sign}"
    said = _slopes(row, rule, derivative, args)
    if len(said) != len(args):
        yield f"{len(said)} derivatives for {len(args)} arguments"
        return
    for i, a in enumerate(args):
        up, down = ([b.detach() + h * (b is a) for b in args] for h in (STEP, -STEP))
        wanted = (rule(*up) - rule(*down)) / (2 * STEP)
        for what, slope in (
            ("the derivative", said[i]),
            ("torch's slope of the code", _autograd(code, a)),
            ("torch's slope of the rule", _autograd(value, a)),
        ):
            of = f"{what} in argument {i}" if len(args) > 1 else what
            yield from _differs(of, slope, "a difference of the rule", wanted, grid, DIFFERENCE)


def _slopes(
    row: Op, rule: Callable[..., Tensor], derivative: Callable[..., Slopes], args: Sequence[Tensor]
) -> list[Tensor]:
    """The derivative as it will be written, worked out by the interpreter's rules; the points stand
    where the lanes of a batch do.
    """
    build, meaning = Builder(OPS | {row.name: row}), APPLY | {row.name: on_each_entry(rule)}
    inputs = [build.make("input", type=(), name=name) for name in ARGUMENTS[: len(args)]]
    y = build.make(row.name, *inputs, type=())
    known: dict[Node, Value] = dict(zip(inputs, (a.detach() for a in args), strict=True))
    made = derivative(*(Term(build, node) for node in (y, *inputs)))
    out = []
    for slope in made if isinstance(made, tuple) else (made,):
        root = slope.node if isinstance(slope, Term) else build.const(slope)
        for node in walk(root):
            if node not in known:
                known[node] = meaning[node.op](node, *(known[a] for a in node.args))
        out.append(array(known[root]).expand(len(args[0])))
    return out


def _autograd(value: Tensor, arg: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(arg)
    (found,) = torch.autograd.grad(value.sum(), arg, allow_unused=True, retain_graph=True)
    return torch.zeros_like(arg) if found is None else found


def _differs(
    what: str, found: Tensor, than: str, wanted: Tensor, grid: Tensor, bar: float
) -> Iterator[str]:
    if found.shape != wanted.shape:
        yield f"{what} makes {list(found.shape)} of {len(grid)} entries"
        return
    found, wanted = found.detach(), wanted.detach()
    apart = (found - wanted).abs() / wanted.abs().clamp(min=1)
    apart = torch.where(apart.isnan(), math.inf, apart)
    at = int(apart.argmax())
    if not float(apart[at]) <= bar:
        point = ", ".join(
            f"{n} = {x:g}" for n, x in zip(ARGUMENTS, grid[at].tolist(), strict=False)
        )
        yield f"{what} is {float(found[at]):.6g} at {point}, {than} says {float(wanted[at]):.6g}"
