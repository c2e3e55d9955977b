"""NUMBER -> THE DERIVATIVES BEHIND IT, as autograd has recorded them, and the tensors that they
keep.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from torch.autograd.graph import Node

LEAF = "torch::autograd::AccumulateGrad"


def derivatives(total: Tensor) -> list[Node]:
    """In the order in which they were recorded; those of leaves are none."""
    stack = [total.grad_fn] if total.grad_fn is not None else []
    seen = set(stack)
    while stack:
        after = (child for child, _ in stack.pop().next_functions)
        new = [x for x in after if x is not None and x not in seen and x.name() != LEAF]
        seen.update(new)
        stack += new
    return sorted(seen, key=lambda node: node._sequence_nr())


def kept(node: Node) -> Iterator[Tensor]:
    """What a derivative keeps of the way forward; a compiled function keeps some of it apart."""
    if hasattr(node, "saved_tensors"):
        yield from (*node.saved_tensors, *getattr(node, "_tensors_no_vc_check", ()))
        return
    for name in dir(node):
        if name.startswith("_saved_"):
            found = getattr(node, name)
            several = found if isinstance(found, tuple | list) else (found,)
            yield from (x for x in several if isinstance(x, Tensor))
