"""Versions put in the place of reads: `plain(M#k)` is what a read of M meant after k of its `<-`.

In an equation that is the k-th version (`read(M)` for none); in the level's own objective it is `plain(M)`, whatever
stood above, since `grad(P)` gives the value there.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from nldsl.graph.equations import Node, Tree

if TYPE_CHECKING:
    from nldsl.graph.world import World

Key = tuple[int, str]                                        # a node, and the level whose objective it is part of


class Versions:
    def __init__(self, world: World) -> None:
        self.world = world
        self.done: dict[Key, Node] = {}
        self.open: dict[int, frozenset[str]] = {}
        self.keep: list[Node] = []

    def resolve(self, root: Node, level: str = "") -> Node:
        self.survey(root)
        stack = [self.key(root, level)]
        goal = stack[0]
        while stack:
            node, where = stack[-1]
            if (id(node), where) in self.done:
                stack.pop()
                continue
            needs = [self.key(*need) for need in self.needs(node, where)]
            missing = [need for need in needs if (id(need[0]), need[1]) not in self.done]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            self.keep.append(node)
            self.done[(id(node), where)] = self.rebuilt(node, where, [self.done[(id(n), w)] for n, w in needs])
        return self.done[(id(goal[0]), goal[1])]

    def key(self, node: Node, where: str) -> tuple[Node, str]:
        """A node without reads of that level means the same everywhere: it is looked at once."""
        if id(node) not in self.open:
            self.survey(node)
        return node, where if where in self.open[id(node)] else ""

    def survey(self, root: Node) -> None:
        """Which levels' numbered reads a node depends on."""
        stack = [root]
        while stack:
            node = stack[-1]
            if id(node) in self.open:
                stack.pop()
                continue
            args = node.args[1:] if node.op == "grad" else node.args          # the objective is the same everywhere
            missing = [arg for arg in args if id(arg) not in self.open]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            self.keep.append(node)
            if node.op == "plain":
                memory = node["memory"].rpartition("#")[0]
                self.open[id(node)] = frozenset((self.level(memory),)) if memory else frozenset()
            else:
                self.open[id(node)] = frozenset().union(*(self.open[id(arg)] for arg in args)) if args else frozenset()

    def needs(self, node: Node, where: str) -> list[tuple[Node, str]]:
        if node.op == "plain":
            memory, _, k = node["memory"].rpartition("#")
            inside = memory and self.level(memory) == where
            return [(self.world.versions[node["memory"]], where)] if memory and not inside and k != "0" else []
        if node.op == "grad":
            own = self.level(node["memory"])
            return [(node.args[0], own), (node.args[1], where), *((n, own) for n in node["context"])]
        return [(arg, where) for arg in node.args]

    def level(self, memory: str) -> str:
        return self.world.level_of[memory]

    def rebuilt(self, node: Node, where: str, args: list[Node]) -> Node:
        world = self.world
        if node.op == "plain":
            memory, _, k = node["memory"].rpartition("#")
            if args:
                return args[0]
            if not memory:
                return node
            op = "plain" if self.level(memory) == where else "read"
            return world.intern(op, type=node.type, span=node.span, turn=node.turn, memory=memory)
        attrs = dict(node.attrs)
        if node.op == "grad":
            attrs["context"] = tuple(args[2:])
            if args[:2] == list(node.args) and attrs["context"] == node["context"]:
                return node
            args = args[:2]
        elif all(a is b for a, b in zip(args, node.args, strict=True)):
            return node
        if node.op == "leaf" and args[0].op == "tree":
            assert isinstance(args[0].type, Tree)
            return args[0].args[args[0].type.paths().index(node["path"])]
        if node.op == "tree" and all(a.op == "leaf" and a["path"] == p and a.args[0] is args[0].args[0] and a.args[0].type == node.type
                                     for a, p in zip(args, node.type.paths(), strict=True)):
            return args[0].args[0]
        return world.intern(node.op, *args, type=node.type, span=node.span, turn=node.turn, called=node.name, **attrs)
