"""Files of tensors -> the starts that a program loads from them, checked: every tensor is there,
holds real numbers and fits.

    load("base", "mlp.gate.weight" -> gate)       with files {"base": {"mlp.gate.weight": [hidden,
                                                  d]}}

A tensor fits if its sizes are those of the memory, or come from them by joining neighbouring axes:
a projection of [head, e, d] here is one of [head * e, d] elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from nldsl.core.nodes import Node, walk
from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostic, Diagnostics

Files = Mapping[str, Mapping[str, Tensor]]


def loads(program: Program) -> list[Node]:
    """Every start that comes from a file."""
    return [
        n
        for n in walk(*(m.start for m in program.memories.values() if m.start is not None))
        if n.op == "load"
    ]


def loaded_name(node: Node) -> str:
    return "|".join([node["file"], node["key"], *(str(a.size) for a in node.shape)])


def loaded(program: Program, files: Files) -> dict[str, Tensor]:
    """`loaded_name` -> tensor of the sizes that are wanted.

    Raises Diagnostics with everything that is missing (N731) or does not fit (N732).
    """
    nodes = loads(program)
    found = [
        finding
        for node in nodes
        if (finding := misfit(node, files.get(node["file"], {}))) is not None
    ]
    if found:
        raise Diagnostics(found)
    return {
        loaded_name(node): files[node["file"]][node["key"]]
        .detach()
        .reshape([a.size for a in node.shape])
        .double()
        for node in nodes
    }


def misfit(node: Node, file: Mapping[str, Tensor]) -> Diagnostic | None:
    key, sizes = node["key"], [a.size for a in node.shape]
    tensor = file.get(key)
    if tensor is None:
        return Diagnostic(
            "N731", f"`{node['file']}` holds no tensor `{key}`", node.span, help=near(key, file)
        )
    if not tensor.is_floating_point():
        return Diagnostic(
            "N732",
            f"`{key}` of `{node['file']}` holds {str(tensor.dtype).removeprefix('torch.')}, a "
            "memory holds real numbers",
            node.span,
        )
    if not joins(sizes, tensor.shape):
        return Diagnostic(
            "N732",
            f"`{key}` of `{node['file']}` is {list(tensor.shape)}, what starts from it is "
            f"[{', '.join(map(str, node.shape))}]",
            node.span,
            help="the same sizes, or neighbouring axes joined",
        )
    return None


def joins(sizes: Sequence[int], theirs: Sequence[int]) -> bool:
    """Does joining neighbouring axes of `sizes` give `theirs`?"""
    left = list(sizes)
    for size in theirs:
        product = 1
        while left and (product < size or left[0] == 1):
            product *= left.pop(0)
        if product != size:
            return False
    return not left


def near(key: str, file: Mapping[str, Tensor]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(key, file, n=1) or list(file)[:1]
    return f"there is `{close[0]}`" if close else "name the file with `--load`"
