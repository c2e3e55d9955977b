"""Who owns which weight: each has exactly one owner, the most specific `rest` wins."""
from __future__ import annotations

from typing import TYPE_CHECKING

from nldsl.graph.equations import Tree
from nldsl.graph.world import Poisoned, World

if TYPE_CHECKING:
    from nldsl.graph.memories import MemoryInstance


class Owners:
    def __init__(self, world: World) -> None:
        self.world = world
        self.rests: dict[str, MemoryInstance] = {}         # prefix ("" for all) -> the memory that owns what is under it

    def register(self, memory: MemoryInstance) -> None:
        of = memory.text.type.of
        prefix = "" if of is None else str(of)
        if prefix in self.rests:
            self.world.report("N111", f"two memories own `rest{f' of {prefix}' if prefix else ''}`", memory.text.type.span,
                              notes=[("the other", self.rests[prefix].text.type.span)])
        self.rests.setdefault(prefix, memory)

    def claim(self, memory: MemoryInstance) -> Tree:
        """The unowned weights under the memory's prefix and under no longer one."""
        of = memory.text.type.of
        prefix = "" if of is None else str(of)
        longer = [other for other in self.rests if len(other) > len(prefix) and under(other, prefix)]
        leaves = []
        for name, weight in self.world.weights.items():
            if weight.owner is None and under(name, prefix) and not any(under(name, other) for other in longer):
                weight.owner = memory.name
                leaves.append((name, weight.shape))
        if not leaves and self.world.findings:
            raise Poisoned                                   # the weights may well be where something is wrong
        if not leaves:
            self.world.fail("N113", f"there is no unowned weight under `{prefix}`" if prefix else "there is no unowned weight left",
                            memory.text.type.span)
        return Tree(tuple(leaves))

    def check(self) -> None:
        """Every weight is owned."""
        for weight in self.world.weights.values():
            if weight.owner is None:
                self.world.report("N110", f"no level owns the weight `{weight.name}`", weight.span,
                                  help="`memory W: rest = random` in a level `every step`, or `never` to freeze it")


def under(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith((prefix + ".", prefix + "["))
