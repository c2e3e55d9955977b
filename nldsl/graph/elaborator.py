"""The state of one elaboration: nodes made, findings, the place in the text, and the work put off
until later.
"""

from __future__ import annotations

import difflib
import itertools
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from nldsl.core.build import Builder
from nldsl.core.nodes import Axis, Node, Type
from nldsl.core.ops import OPS
from nldsl.core.program import Clock, Level, Memory, Setting, Weight
from nldsl.diagnostic import Advice, Diagnostic, Diagnostics, Edit, Severity
from nldsl.frontend import syntax
from nldsl.graph.values import Array, Definition, Hidden, Num, Value
from nldsl.source import Span

if TYPE_CHECKING:
    from nldsl.graph.arrays import Arrays
    from nldsl.graph.levels import LevelInstance
    from nldsl.graph.memories import MemoryInstance
    from nldsl.graph.names import Naming
    from nldsl.graph.ownership import Owners
    from nldsl.graph.scope import Scope, Thunk
    from nldsl.graph.shapes import Shapes

MOST_NODES = 1_000_000  # asked for, equal ones included: beyond this no later stage is of use
MOST_PLACES = 5  # of one unknown name that are shown
MOST_ITERATIONS = 20_000
MOST_CALLS = 10_000  # of defs, all told
DEEPEST = 100  # calls inside calls
LARGEST_SIZE = 2**40
TOO_LARGE = "N212"
# what to write instead, of faults that are met in several places
LEAF = "one array of the tree: `M.W`"
KNOWN = "a dim, a constant of the file, or a number"
OVER = "the value alone; `mean(x over period)` is the mean of a stretch"
SOON, PARTS, LAST = 0, 1, 2  # level bodies; levels of `weights of X`; levels of `weights`


def unheard(words: Span, meaning: Value | MemoryInstance) -> None:
    """Nobody asks what words mean."""


Heard = Callable[["Span", "Value | MemoryInstance"], None]  # told what words of the text mean


class Poisoned(Exception):
    """The value cannot be had because of a finding that is already recorded."""


class Elaborator:
    """One elaboration: what it knows, has made and has found so far. `shapes`, `arrays`, `naming`
    and `owners` are its parts; `level_of` says the level of each memory once all are declared.
    """

    shapes: Shapes
    arrays: Arrays
    naming: Naming
    owners: Owners
    level_of: dict[str, str]

    def __init__(self, sets: dict[str, str], heard: Heard = unheard) -> None:
        self.sets, self.heard = sets, heard
        self.used_sets: set[str] = set()
        self.findings: list[Diagnostic] = []
        self.build = Builder(OPS)
        self.iterations = 0
        self.span: Span | None = None
        self.iteration: tuple[str, ...] = ()
        self.forcing: list[Thunk[object]] = []  # thunks in progress, for cycles
        self.calls = 0
        self.called: set[Definition] = set()
        self.work: tuple[deque[Callable[[], object]], ...] = (deque(), deque(), deque())
        self.order = itertools.count()
        self.dims: dict[str, tuple[Num, Span]] = {}
        self.clocks: dict[str, Clock] = {}
        self.lines: dict[str, tuple[Span, ...]] = {}  # where each named value is defined
        self.inputs: dict[str, Node] = {}
        self.vocab: dict[str, int] = {}
        self.weights: dict[str, Weight] = {}
        self.memories: dict[str, Memory] = {}
        self.levels: dict[str, Level] = {}
        self.versions: dict[str, Node] = {}  # "memory#k" -> its value with placeholders
        self.instances: dict[str, LevelInstance] = {}  # level name -> LevelInstance
        self.reported: Thunk[Array] | None = None  # the Thunk of `report`
        self.main: Scope | None = None  # scope of the main file
        self.used: dict[str, Setting] = {}  # constants replaced by --set

    # ---- findings

    def report(
        self,
        code: str,
        message: str,
        span: Span | None = None,
        label: str = "",
        help: str = "",
        notes: Iterable[tuple[str, Span | None]] = (),
        severity: Severity = "error",
        fix: tuple[Edit, ...] = (),
    ) -> None:
        """Record a finding; a def called many times has it once."""
        if any(d.code == code and d.span == span and span is not None for d in self.findings):
            return
        before = next(
            (
                n
                for n, d in enumerate(self.findings)
                if d.code == code == "N101"
                and d.message == message
                and d.span is not None
                and span is not None
                and d.span.source == span.source
            ),
            None,
        )
        if before is not None:
            known = self.findings[before]
            whole = (
                known.fix + tuple(edit for edit in fix if edit not in known.fix)
                if known.fix and fix
                else ()
            )
            self.findings[before] = replace(
                known, notes=(*known.notes, ("and here", span))[:MOST_PLACES], fix=whole
            )
        else:
            self.findings.append(
                Diagnostic(code, message, span, label, tuple(notes), help, severity, fix)
            )

    def fail(
        self,
        code: str,
        message: str,
        span: Span | None = None,
        label: str = "",
        help: str = "",
        notes: Iterable[tuple[str, Span | None]] = (),
        fix: tuple[Edit, ...] = (),
    ) -> NoReturn:
        """Records an error and raises Poisoned, which ends the statement."""
        self.report(code, message, span or self.span, label, help, notes, fix=fix)
        if code == TOO_LARGE:
            raise Diagnostics(self.findings)  # nothing else would be looked at in good time
        raise Poisoned

    def stop_if_found(self) -> None:
        if any(d.severity == "error" for d in self.findings):
            raise Diagnostics(self.findings)

    # ---- nodes

    def node(self, op: str, *args: Node, type: Type, **attrs: Hashable) -> Node:
        """A node at the present place. Fails with N212 beyond `MOST_NODES`."""
        if self.build.made > MOST_NODES:
            self.fail(
                "N212",
                f"the program has more than {MOST_NODES} equations",
                help="fewer iterations of `for`",
            )
        return self.build.make(op, *args, type=type, span=None, iteration=(), called="", **attrs)

    def count_call(self, span: Span) -> None:
        """Counts the calls of defs. Fails with N212 beyond `MOST_CALLS`."""
        self.calls += 1
        if self.calls > MOST_CALLS:
            self.fail(
                "N212",
                f"the program has more than {MOST_CALLS} calls once its loops and defs are "
                "unrolled",
                span,
                help="fewer iterations of `for`, or fewer calls in one",
            )

    @contextmanager
    def at(self, span: Span | None, iteration: tuple[str, ...]) -> Iterator[None]:
        """While this lasts, new nodes and findings are of these words."""
        before = self.span, self.iteration
        self.span, self.iteration = self.build.span, self.build.iteration = span, iteration
        try:
            yield
        finally:
            self.span, self.iteration = self.build.span, self.build.iteration = before

    def hide(self, axis: Axis) -> Hidden:
        return Hidden(axis, next(self.order))

    def axis(self, num: Value, span: Span | None = None) -> Axis:
        """The axis with this size and name."""
        size = self.whole(num, span, least=1)
        assert isinstance(num, Num)
        return Axis(num.text if not _is_number(num.text) else str(size), size)

    def whole(self, num: Value, span: Span | None = None, least: int = 0) -> int:
        """A whole number of at least `least`. Fails with N202, N206 or N212."""
        if not isinstance(num, Num):
            self.fail("N202", "a number known before the run is needed here", span, help=KNOWN)
        if (
            num.value != num.value
            or abs(num.value) == float("inf")
            or int(num.value) != num.value
            or num.value < least
        ):
            said = num.text if num.text == f"{num.value:g}" else f"`{num.text}` is {num.value:g}"
            self.fail(
                "N206",
                f"{said}: a whole number of at least {least} is needed",
                span,
                help=f"{least} or more" if num.value < least else "`floor(..)` rounds down",
            )
        if num.value > LARGEST_SIZE:
            self.fail(
                "N212", f"{num.value:g} is too large a size", span, help=f"at most {LARGEST_SIZE:,}"
            )
        return int(num.value)

    # ---- work put off

    def later(self, task: Callable[[], object], when: int = SOON) -> None:
        self.work[when].append(task)

    def run(self) -> None:
        """Do all work put off, the sooner kinds first; a finding spoils only its own task."""
        while True:
            queue = next((queue for queue in self.work if queue), None)
            if queue is None:
                return
            try:
                queue.popleft()()
            except Poisoned:
                pass


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like this one, if one is; this very name is left out."""
    return next(iter(difflib.get_close_matches(name, sorted(set(known) - {name}), 1)), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return f"did you mean `{near}`?" if near else ""


def meant(name: syntax.Name, known: Iterable[str]) -> Advice:
    """The help and the fix for a misspelt name."""
    near = nearest(name.text, known)
    return {"help": f"did you mean `{near}`?", "fix": (Edit(name.span, near),)} if near else {}
