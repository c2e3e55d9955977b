"""STEP -> ITS PARTS: for which levels each function of the step computes, and in the step as it is
written each statement.

levels        the memories of a region; a level whose weights a statement reads, or whose tick it is
a word        what belongs to no level: `the loss` (what hears of the token to come, or is heard),
              `softmax attention`, `other streams`, and `elsewhere`
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from nldsl.core.timing import lookahead
from nldsl.schedule.plan import Block, Region
from nldsl.step.compile import CompiledStep
from nldsl.step.state import layout

LOSS, ATTENTION, STREAMS, ELSEWHERE = "the loss", "softmax attention", "other streams", "elsewhere"
NEXT = {"newest", "ahead"}  # what emitted code calls where a stream becomes that of the next token
LOOKING = {"attention", "attend"}
LOOPED = re.compile(r"\\\{\w+\\\}")  # in a name that was escaped, the counter of a loop
Part = tuple[str, ...]  # names of equal levels, or a word


@dataclass(frozen=True)
class Statement:
    """What a statement says of itself: a `word`, or the parameters that it reads; of a tick, the
    levels.
    """

    function: str
    word: str = ""
    reads: tuple[str, ...] = ()
    levels: Part = ()


NOBODY = Statement("", ELSEWHERE)


class Parts:
    """`owners`: of a parameter of a function, the levels whose weights it was given."""

    def __init__(self, step: CompiledStep) -> None:
        self.step, forward = step, step.schedule.forward
        self.owners: dict[tuple[str, str], dict[str, None]] = {}
        self.program = step.program
        self.tree = ast.parse(step.source)
        self.functions = {
            node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef)
        }
        blocks = sorted(forward.blocks, key=lambda block: block.online)
        self.blocks: dict[str, list[Block]] = {}
        for block, name in zip(blocks, step.emitted.block_of, strict=True):
            self.blocks.setdefault(name, []).append(block)
        self.regions = {
            name: found for name, same in self.blocks.items() if (found := self.memories(same))
        }
        families = forward.online.families if forward.online else ()
        self.ticks = {"online": self.roots(f.level.name for f in families)}
        for i, kind in enumerate(step.schedule.table.events, 1):
            self.ticks |= dict.fromkeys(
                (f"tick_{i}", f"before_{i}", f"after_{i}"), self.roots(kind.fired)
            )
            viewers = (tape.adjoint.viewer.name for tape in step.updates.tapes)
            self.ticks[f"hear_{i}"] = self.roots(viewers)
        slots = layout(self.program, step.updates.state)
        self.owner = {name: self.roots([self.level(row[0])])[0] for name, row in slots.items()}

    @property
    def entries(self) -> list[str]:
        """Functions that are told apart."""
        return [name for name in (*self.blocks, *self.ticks) if name in self.functions]

    def memories(self, same: list[Block]) -> list[Part]:
        """Of blocks with one function, in the order in which it is called for them: the levels of
        the memories in it, with those of other layers. Memories of another size may share it.
        """
        found = [
            self.roots(s.level for x in block.items if isinstance(x, Region) for s in x.ticking)
            for block in same
        ]
        kinds = [[*map(anywhere, levels)] for levels in found]
        return [
            self.roots(n for levels, k in zip(found, kinds) if k == kind for n in levels)
            for kind in kinds
            if kind
        ]

    @property
    def called(self) -> list[tuple[str, str]]:
        """What a tick calls what is a level's, and the level: its memories, itself, its counter."""
        levels = [(name, n) for n in self.program.levels for name in (n, f"{n}.tick")]
        return [(m.name, m.level) for m in self.program.memories.values()] + levels

    def level(self, memory: str) -> str:
        return self.program.memories[memory.split("@")[0]].level

    def roots(self, levels: Iterable[str]) -> Part:
        """The levels that call these, in the order of the program."""
        found = {
            self.program.root(self.program.levels[n]).name
            for n in levels
            if n in self.program.levels
        }
        return tuple(name for name in self.program.levels if name in found)

    def given(self, function: str, args: Iterable[object], names: Mapping[int, str]) -> None:
        """Notes which weights a call is given; `names`: of a tensor, by its id."""
        for parameter, arg in zip(self.functions[function].args.args, args):
            weight = names.get(id(arg)) if isinstance(arg, Tensor) else None
            if weight in self.owner:
                here = self.owners.setdefault((function, parameter.arg), {})
                here[self.owner[weight]] = None

    # -- what a function, or a statement, is a part of

    def of(self, at: Statement) -> frozenset[Part]:
        """The parts that a function works for, or the one of a statement."""
        if at.levels or at.word:
            return frozenset([at.levels or (at.word,)])
        if at.function in self.ticks:
            return frozenset(self.alike(self.ticks[at.function]))
        if at.reads:
            return frozenset([self.read(at)])
        own = [self.of(s) for _, s in self.statements(at.function)]
        return frozenset[Part]().union(*own) or frozenset([(STREAMS,)])

    def read(self, at: Statement) -> Part:
        """The levels whose weights a statement reads: one that owns fewer, rather than the one that
        owns the rest.
        """
        found = [self.owners[at.function, x] for x in at.reads if (at.function, x) in self.owners]
        sizes = [*self.owner.values()]
        best = min(found, key=lambda levels: sizes.count(next(iter(levels))), default=None)
        return self.roots(best) if best else (STREAMS,)

    def alike(self, levels: Part) -> Iterator[Part]:
        """Those that differ in the iteration of a loop alone, together."""
        groups: dict[str, list[str]] = {}
        for name in levels:
            groups.setdefault(anywhere(name), []).append(name)
        return (tuple(group) for group in groups.values())

    # -- statements

    def statements(self, name: str) -> Iterator[tuple[ast.stmt, Statement]]:
        """Each statement of a block of streams, or of a tick."""
        if name.startswith(("tick_", "before_", "after_")):
            return self.of_tick(name)
        return iter(()) if name in self.regions or name in self.ticks else self.of_block(name)

    def of_block(self, name: str) -> Iterator[tuple[ast.stmt, Statement]]:
        function = self.functions[name]
        parameters = [x.arg for x in function.args.args]
        late = self.late(name, parameters)
        for statement in function.body:
            if not isinstance(statement, ast.Assign):
                continue
            reads = names_in(statement.value)
            if reads & (late | NEXT) or names_in(*statement.targets) & late:
                late |= names_in(*statement.targets)
                yield statement, Statement(name, LOSS)
            elif reads & LOOKING:
                yield statement, Statement(name, ATTENTION)
            else:
                given = tuple(x for x in parameters if x in reads)
                yield statement, Statement(name, "" if given else STREAMS, given)

    def late(self, name: str, parameters: list[str]) -> set[str]:
        """Variables of a block that hold a stream that is heard, or depend on the next token."""
        found = set()
        last = self.functions[name].body[-1]
        assert isinstance(last, ast.Return) and isinstance(last.value, ast.Tuple)
        results = last.value.elts[0]
        assert isinstance(results, ast.Tuple)
        heard = {*self.step.schedule.steps.streams.values()}
        for block in self.blocks[name]:
            ahead = lookahead(*block.inputs)
            found |= {x for x, node in zip(parameters, block.inputs) if ahead[node]}
            outputs = zip(results.elts, block.outputs)
            found |= {x.id for x, n in outputs if n in heard and isinstance(x, ast.Name)}
        return found

    def of_tick(self, name: str) -> Iterator[tuple[ast.stmt, Statement]]:
        """By the first state that it names, whose level it is about."""
        for statement in ast.walk(self.functions[name]):
            if isinstance(statement, ast.Assign | ast.Expr):
                words = [x for x in ast.walk(statement) if isinstance(x, ast.Subscript)]
                levels = self.named(words[0].slice) if words else ()
                yield statement, Statement(name, "" if levels else ELSEWHERE, (), levels)

    def named(self, key: ast.expr) -> Part:
        """The levels of the states that a key says, in whichever iteration of a loop."""
        text = ast.literal_eval(key) if isinstance(key, ast.Constant) else ast.unparse(key)[2:-1]
        for said in str(text).removeprefix("grad ").split("|"):
            pattern = re.compile(LOOPED.sub(r"\\d+", re.escape(said.partition("@")[0])))
            if found := [level for name, level in self.called if pattern.fullmatch(name)]:
                return self.roots(found)
        return ()


def names_in(*nodes: ast.AST) -> set[str]:
    return {x.id for node in nodes for x in ast.walk(node) if isinstance(x, ast.Name)}


def anywhere(name: str) -> str:
    """In whichever iteration of the outermost loop."""
    return re.sub(r"\[\d+\]", "[*]", name, count=1)
