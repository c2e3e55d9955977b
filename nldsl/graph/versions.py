"""Replaces reads by versions: `plain(M#k)` is the value that a read of M had after k of its `<-`.

In an equation that is the k-th version (`read(M)` for none). In an objective whose gradient in M is
taken it is `plain(M)`, since `grad(P)` gives the value there; another memory of the level is what
the text above had made of it, and a constant for this gradient.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from nldsl.core.nodes import Node, Tree

if TYPE_CHECKING:
    from nldsl.graph.elaborator import Elaborator

Key = tuple[Node, str]  # a node, and the memory (or the level) in whose objective it stands


class Versions:
    """Resolves nodes, each once for every level in whose objective it stands."""

    def __init__(self, elaborator: Elaborator) -> None:
        self.elaborator = elaborator
        self.done: dict[Key, Node] = {}
        self.open: dict[Node, frozenset[str]] = {}

    def resolve(self, root: Node, level: str = "") -> Node:
        """The node with versions in the place of reads; `level` is the one whose equation or
        objective it is.
        """
        self.survey(root)
        stack = [self.key(root, level)]
        goal = stack[0]
        while stack:
            node, where = stack[-1]
            if (node, where) in self.done:
                stack.pop()
                continue
            needs = [self.key(*need) for need in self.needs(node, where)]
            missing = [need for need in needs if need not in self.done]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            self.done[node, where] = self.rebuilt(node, where, [self.done[need] for need in needs])
        return self.done[goal]

    def key(self, node: Node, where: str) -> Key:
        """A node without reads of that level means the same everywhere: it is looked at once."""
        if node not in self.open:
            self.survey(node)
        return node, where if self.level(where) in self.open[node] else ""

    def survey(self, root: Node) -> None:
        """The levels on whose numbered reads a node depends."""
        stack = [root]
        while stack:
            node = stack[-1]
            if node in self.open:
                stack.pop()
                continue
            args = (
                node.args[1:] if node.op == "grad" else node.args
            )  # the objective is the same everywhere
            missing = [arg for arg in args if arg not in self.open]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            if node.op == "plain":
                memory = node["memory"].rpartition("#")[0]
                self.open[node] = frozenset((self.level(memory),)) if memory else frozenset()
            else:
                self.open[node] = (
                    frozenset().union(*(self.open[arg] for arg in args)) if args else frozenset()
                )

    def needs(self, node: Node, where: str) -> list[tuple[Node, str]]:
        """The nodes, each with its level, on which a resolved node depends."""
        if node.op == "plain":
            memory, _, k = node["memory"].rpartition("#")
            if not memory or k == "0" or where in (memory, self.level(memory)):
                return []
            same = self.level(memory) == self.level(where)
            return [(self.elaborator.versions[node["memory"]], "" if same else where)]
        if node.op == "grad":
            own = node["memory"]
            given = [*node["context"], *self.others(node.args[0], own)]
            return [(node.args[0], own), (node.args[1], where), *((n, own) for n in given)]
        return [(arg, where) for arg in node.args]

    def others(self, objective: Node, memory: str) -> list[Node]:
        """Reads of the values that the text above an objective gave the level's other memories."""
        self.survey(objective)
        level, found, stack = self.level(memory), dict[Node, None](), [objective]
        while stack:
            node = stack.pop()
            if node in found or level not in self.open[node]:
                continue
            found[node] = None
            stack.extend(node.args[1:] if node.op == "grad" else node.args)
        names = ((n, n["memory"].rpartition("#")) for n in found if n.op == "plain")
        return [n for n, (name, _, k) in names if k != "0" and name != memory]

    def level(self, name: str) -> str:
        """The level of a memory; a level's own name."""
        return self.elaborator.level_of.get(name, name)

    def rebuilt(self, node: Node, where: str, args: list[Node]) -> Node:
        """The node on resolved arguments; a numbered read becomes its version."""
        elaborator = self.elaborator
        if node.op == "plain":
            memory, _, k = node["memory"].rpartition("#")
            if args:
                return args[0]
            if not memory:
                return node
            op = "plain" if self.level(memory) == self.level(where) else "read"
            return elaborator.build.make(
                op, type=node.type, span=node.span, iteration=node.iteration, memory=memory
            )
        return self.with_arguments(node, args)

    def with_arguments(self, node: Node, args: list[Node]) -> Node:
        """The node on other arguments; a leaf of a tree, and a tree of a tree's leaves, are what
        they were taken from.
        """
        changed: dict[str, Hashable] = {}
        if node.op == "grad":
            named, others = args[2 : 2 + len(node["context"])], args[2 + len(node["context"]) :]
            leaves = [leaf for n in others if n.op == "tree" for leaf in n.args]
            changed["context"] = (*named, *dict.fromkeys([*others, *leaves]))
            if args[:2] == list(node.args) and changed["context"] == node["context"]:
                return node
            args = args[:2]
        elif all(a is b for a, b in zip(args, node.args, strict=True)):
            return node
        if node.op == "leaf" and args[0].op == "tree":
            assert isinstance(args[0].type, Tree)
            return args[0].args[args[0].tree.paths().index(node["path"])]
        if node.op == "tree" and all(
            a.op == "leaf"
            and a["path"] == p
            and a.args[0] is args[0].args[0]
            and a.args[0].type == node.type
            for a, p in zip(args, node.tree.paths(), strict=True)
        ):
            return args[0].args[0]
        return self.elaborator.build.again(node, args, **changed)
