"""The operators of the core that need no clock: one function on float64 tensors each.

Every tensor has a leading axis for the lanes of a batch, of size 1 where all lanes agree; named
axes follow it. A tree is a dict from path to tensor. Absence spreads: an operator with an absent
argument is absent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from nldsl.core.nodes import Constant, Node, Shape, Tree, Type
from nldsl.core.ops import OPS

Value = Tensor | dict[str, Tensor]


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT = cast(Value, _Absent())  # an object that is compared by identity alone


def each(f: Callable[..., Tensor], *values: Value) -> Value:
    """f on arrays, or leaf by leaf; an array beside a tree meets every leaf."""
    tree = next((v for v in values if isinstance(v, dict)), None)
    if tree is None:
        return f(*values)
    return {path: f(*(v[path] if isinstance(v, dict) else v for v in values)) for path in tree}


def array(value: Value) -> Tensor:
    """A value that is not a tree."""
    assert isinstance(value, Tensor)
    return value


def leaves(value: Value) -> list[Tensor]:
    return list(value.values()) if isinstance(value, dict) else [value]


def like(value: Value, parts: Sequence[Tensor]) -> Value:
    return dict(zip(value, parts, strict=True)) if isinstance(value, dict) else parts[0]


def sizes(shape: Shape) -> list[int]:
    return [axis.size for axis in shape]


def conform(value: Value, type: Type) -> Value:
    """A value of `type` from one that may lack its last axes (a start of 0 for a matrix, one number
    for a tree).
    """
    if isinstance(type, Tree):
        return {
            path: array(conform(value[path] if isinstance(value, dict) else value, shape))
            for path, shape in type.leaves
        }
    assert isinstance(value, Tensor)
    value = value.reshape(list(value.shape) + [1] * (len(type) + 1 - value.dim()))
    return value.expand([value.shape[0], *sizes(type)])


def constant(value: Constant, type: Type) -> Value:
    return conform(torch.tensor(value, dtype=torch.float64).unsqueeze(0), type)


def _align(*args: Tensor) -> list[Tensor]:
    """A shorter array is a prefix: the axes that it lacks are the last ones."""
    rank = max(a.dim() for a in args)
    return [a.reshape(list(a.shape) + [1] * (rank - a.dim())) for a in args]


def _sqrt(x: Tensor) -> Tensor:
    """The derivative at 0 is 0, so that the length of a zero vector has one."""
    return torch.where(x == 0, 0.0, torch.sqrt(torch.where(x == 0, 1.0, x)))


def _pow(x: Tensor, n: Tensor) -> Tensor:
    if (
        not n.requires_grad and bool((n > 0).all()) and bool((n % 1 != 0).all())
    ):  # a root or a power of one, as `_sqrt`
        return torch.where(x == 0, 0.0, torch.where(x == 0, 1.0, x) ** n)
    return x**n


NUMBERS: dict[str, Callable[..., Tensor]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": _pow,
    "max": lambda a, b: torch.where(a >= b, a, b),
    "min": lambda a, b: torch.where(a <= b, a, b),  # a tie: the first learns
    "le": lambda a, b: (a <= b).double(),
    "ge": lambda a, b: (a >= b).double(),
    "eq": lambda a, b: (a == b).double(),
    "where": lambda c, a, b: torch.where(c != 0, a, b),
    "neg": torch.neg,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": _sqrt,
    "abs": torch.abs,
    "sign": torch.sign,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": lambda x: -F.logsigmoid(-x),
    "cos": torch.cos,
    "floor": torch.floor,
    "gelu": lambda x: x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
}
assert set(NUMBERS) == {row.name for row in OPS.values() if row.elementwise}


def on_each_entry(f: Callable[..., Tensor]) -> Callable[..., Value]:
    return lambda node, *args: each(lambda *xs: f(*_align(*xs)), *args)


def einsum(eq: str, a: Tensor, b: Tensor) -> Tensor:
    left, out = eq.split("->")
    first, second = left.split(",")
    return torch.einsum(f"Z{first},Z{second}->Z{out}", a, b)


def _spread(node: Node, x: Tensor) -> Tensor:
    order = sorted(range(len(node["dims"])), key=lambda i: node["dims"][i])
    x = x.permute(0, *(i + 1 for i in order))
    for axis in range(len(node.shape)):
        if axis not in node["dims"]:
            x = x.unsqueeze(axis + 1)
    return x.expand([x.shape[0], *sizes(node.shape)])


def _dims(node: Node) -> list[int]:
    return [d + 1 for d in node["dims"]]


def _total(node: Node, x: Value) -> Tensor:
    parts = [
        leaf.flatten(node["keep"] + 1).sum(-1) if leaf.dim() > node["keep"] + 1 else leaf
        for leaf in leaves(x)
    ]
    return sum(parts[1:], parts[0])


def _together(args: Sequence[Tensor]) -> list[Tensor]:
    """Lanes made explicit, for the operators of torch that do not broadcast."""
    lanes = max(a.shape[0] for a in args)
    return [a.expand([lanes, *a.shape[1:]]) for a in args]


def _cross_entropy(node: Node, logits: Tensor, ids: Tensor) -> Tensor:
    logits, ids = _together([logits, ids])
    target = ids.reshape([len(ids)] + [1] * (logits.dim() - 1)).expand([*logits.shape[:-1], 1])
    return torch.logsumexp(logits, -1) - logits.gather(-1, target).squeeze(-1)


def _gather(node: Node, table: Tensor, ids: Tensor) -> Tensor:
    if table.shape[0] == 1:
        return table[0][ids]
    table, ids = _together([table, ids])
    return table[torch.arange(len(ids)), ids]


APPLY: dict[str, Callable[..., Value]] = {
    "const": lambda node: constant(node["value"], node.type),
    "eye": lambda node: torch.eye(node.type[0].size, dtype=torch.float64).unsqueeze(0),
    "leaf": lambda node, x: x[node["path"]],
    "tree": lambda node, *args: dict(zip(node.type.paths(), args, strict=True)),
    "total": _total,
    **{op: on_each_entry(f) for op, f in NUMBERS.items()},
    "spread": _spread,
    "permute": lambda node, x: x.permute(0, *(d + 1 for d in node["dims"])),
    "reshape": lambda node, x: x.reshape([x.shape[0], *sizes(node.type)]),
    "einsum": lambda node, a, b: einsum(node["eq"], a, b),
    "sum": lambda node, x: x.sum(_dims(node)),
    "mean": lambda node, x: x.mean(_dims(node)),
    "amax": lambda node, x: x.amax(_dims(node)),
    "softmax": lambda node, x: torch.softmax(x, node["dim"] + 1),
    "select": lambda node, x: x.select(node["dim"] + 1, node["index"]),
    "stack": lambda node, *args: torch.stack(_together(args), node["dim"] + 1),
    "join": lambda node, *args: torch.cat(_together(args), node["dim"] + 1),
    "solve": lambda node, b, a: torch.linalg.solve(a, b, left=False),
    "diag": lambda node, x: torch.diag_embed(x),
    "gather": _gather,
    "cross_entropy": _cross_entropy,
    "stop": lambda node, x: each(torch.Tensor.detach, x),
}
