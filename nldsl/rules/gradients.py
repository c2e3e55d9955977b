"""Gradients: the objective depends on each memory that is differentiated, the gradient is taken at
the value that the equation names, and it can be differentiated as often as slower learners need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nldsl.core.nodes import Node, reach, walk
from nldsl.core.ops import active
from nldsl.core.program import Clock, Level, Memory, Program
from nldsl.diagnostic import Diagnostic
from nldsl.rules.flow import (
    SHAPE_ONLY,
    GradientPaths,
    Reached,
    bare,
    beneath,
    constants_of,
    equations,
    gradients,
    gradients_by_level,
    in_every_instance,
)
from nldsl.rules.words import clauses, clock_name, every, head_of, place_of, said, short


def zero_gradients(program: Program) -> Iterator[Diagnostic]:
    """A gradient in a memory on which the objective does not depend is zero, always: the memory
    would never learn.

        minimize |k - v|^2      M <- M - rate * grad(M)                          # N511
        minimize |M(k) - v|^2   M <- M - rate * grad(M)

    Of a level on the step clock the objective is a loss, and what it must reach are the reads of
    the memory elsewhere.
    """
    paths, asked = GradientPaths(program), gradients_by_level(program)

    def judge(level: Level) -> Iterable[Diagnostic]:
        told: set[str] = set()
        for node in asked.get(level.name, ()):
            memory = program.memories[node["memory"]]
            if (
                memory.name in told
                or memory.name in paths(node.args[0], memory, node["context"]).reads
            ):
                continue
            told.add(memory.name)
            name = short(memory.name)
            yield Diagnostic(
                "N511",
                f"the objective does not depend on `{name}`: this gradient is zero",
                node.span or head_of(level),
                "zero at every tick",
                (("the objective", place_of(level, "minimize")),),
                f"an objective in which `{name}` is read, without `@`: a read with `@` is data",
            )

    yield from in_every_instance(program, judge)


def unreached_weights(program: Program) -> Iterator[Diagnostic]:
    """A weight that its owner learns is on some path of the owner's loss; a weight that no path
    reaches keeps its first value.

    b = linear(x, [d])   loss = cross_entropy(linear(x, [vocab]), next(ids))  # N513: `b` is idle
    """
    paths, asked = GradientPaths(program), gradients_by_level(program)
    for memory in program.memories.values():
        level = program.levels[memory.level]
        reached = [
            paths(ask.args[0], memory, ask["context"])
            for ask in asked.get(level.name, ())
            if ask["memory"] == memory.name
        ]
        own = [w for w in program.weights.values() if memory.name == (w.worker or w.owner)]
        if not own or not reached:
            continue
        reads = [node for one in reached for node in one.reads.get(memory.name, ())]
        names = {n["name"] for n in reads if n.op == "weight"}
        if not names or any(n.op in ("read", "plain") for n in reads):
            continue
        for weight in own:
            if weight.name not in names:
                yield Diagnostic(
                    "N513",
                    f"no gradient of `{short(level.name)}` reaches the weight `{weight.name}`",
                    weight.span or memory.span,
                    "keeps its first value",
                    help="a path from this weight to the loss, or leave it out",
                    severity="warning",
                )


def _outside(node: Node) -> tuple[Node, ...]:
    """An equation without the objectives of its gradients: that may be the whole network."""
    return () if node.op == "grad" else node.args


def gradients_at_another_value(program: Program) -> Iterator[Diagnostic]:
    """A loss that reads the memory elsewhere has its gradient where those reads were: at the value
    held since the last tick.

    The reads of a task loss lie in the past and are not evaluated again, so their gradient can be
    had at no other value.

        minimize mean(loss over period)   F <- F - rate * grad(F@far)            # N507
        minimize mean(loss over period)   F <- F - rate * grad(F)
    """
    paths = GradientPaths(program)
    for node in gradients(program):
        memory = program.memories[node["memory"]]
        level = program.levels[memory.level]
        objective, at = node.args
        outside = [
            n
            for n in paths(objective, memory, node["context"]).reads.get(memory.name, ())
            if n.op != "plain"
        ]
        if not outside:
            continue
        name = short(memory.name)
        if at.op == "held":
            yield Diagnostic(
                "N507",
                f"the objective reads `{name}` outside its level, and not with the value of "
                f"`{name}@{clock_name(at['clock'])}`",
                node.span,
                "taken at a held value",
                (("read here", outside[0].span),),
                f"`grad({name})`",
            )
        elif not (at.op == "read" and at["memory"] == memory.name):
            yield Diagnostic(
                "N507",
                f"the objective reads `{name}` outside its level, before this tick moved it",
                node.span,
                "taken at a moved value",
                (("read here", outside[0].span),),
                f"take `grad({name})` before the first `<-`",
            )
        else:
            yield from _window(level, objective, name)


def _window(level: Level, objective: Node, name: str) -> Iterator[Diagnostic]:
    own = level.clock
    for part in reach(
        [objective], into=lambda n: () if n.op in ("fold", "window") else n.args
    ).nodes:
        since: Clock | None = None
        if part.op == "fold" and isinstance(part["since"], Clock):
            since = part["since"]
        elif part.op == "window":
            since = Clock("token", part["length"])
        if since is not None and since.pace > own.pace:
            yield Diagnostic(
                "N507",
                f"the window reaches back past the last tick of this level, where `{name}` had "
                "another value",
                part.span or head_of(level),
                f"{every(since)}; the level ticks every {every(own)}",
                help="`over period`",
            )


def learning_targets(program: Program) -> Iterator[Diagnostic]:
    """A plain read of M in the target learns too. Eq. 85 of 2512.24695 keeps the target fixed, by
    `@`.

    minimize |M(k) - M(v)|^2                                                 # N508
    minimize |M(k) - M@near(v)|^2
    """
    both = _on_both_sides(program)

    def judge(level: Level) -> Iterable[Diagnostic]:
        data = constants_of(level.context)
        for name in level.memories:
            inside = set(walk(*level.objectives)) if name in both else ()
            if any(
                error in inside
                and not _in_line(error, name)
                and all(_reads(side, name, data) for side in error.args)
                for error in both.get(name, ())
            ):
                m = short(name)
                yield Diagnostic(
                    "N508",
                    f"the target contains a plain read of `{m}` and learns too; Eq. 85 keeps "
                    "it fixed",
                    place_of(level, "minimize"),
                    "learns on both sides",
                    help=f"`{m}@c` for a clock c in the target",
                    severity="note",
                )
                return

    yield from in_every_instance(program, judge)


def _on_both_sides(program: Program) -> dict[str, list[Node]]:
    """Memory -> the squared errors in objectives with a plain read of it on both sides."""
    objectives = [objective for level in program.levels.values() for objective in level.objectives]
    bit = {name: 1 << i for i, name in enumerate(program.memories)}
    plain = beneath(
        objectives, lambda node: bit[node["memory"]] if node.op == "plain" else 0, active
    )
    both: dict[str, list[Node]] = {}
    for error in filter(None, map(_squared, walk(*objectives))):
        if error.op in ("sub", "add") and (
            shared := plain.get(error.args[0], 0) & plain.get(error.args[1], 0)
        ):
            for name in (name for name, own in bit.items() if own & shared):
                both.setdefault(name, []).append(error)
    return both


def _reads(side: Node, name: str, data: set[Node]) -> bool:
    """Does one side of an error hang on a plain read of the memory, by more than its data?"""
    found = reach([side], data, active).nodes
    return any(n.op == "plain" and n["memory"] == name for n in found)


def _squared(node: Node) -> Node | None:
    """x, of |x|^2."""
    if node.op in ("mul", "einsum") and node.args[0] is node.args[1]:
        return bare(node.args[0])
    return None


def _in_line(error: Node, memory: str) -> bool:
    """Is one side the other's input? A residual z + M(z) is one prediction, and `M^T M - I` has no
    target.
    """
    left, right = error.args
    if error.op == "add":
        return True
    return any(n is left for n in walk(right)) or any(n is right for n in walk(left))


def missing_depths(program: Program) -> Iterator[Diagnostic]:
    """How far a slower learner sees through the updates of a level is never left open: it decides
    what is learned, and what it costs.

    level recall every token { memory M: net = learned .. }  # N510: `training` learns the start
    level recall every token { memory M: net = learned ..  bptt full }
    """
    paths = GradientPaths(program)
    learners: dict[Reached, list[Memory]] = {}
    for node in gradients(program):
        memory = program.memories[node["memory"]]
        learners.setdefault(paths(node.args[0], memory, node["context"]), []).append(memory)

    def judge(level: Level) -> Iterable[Diagnostic]:
        if level.parent is not None or level.bptt or level.clock.unit == "never":
            return
        for reached, memories in learners.items():
            if program.levels[memories[0].level].clock.pace <= level.clock.pace:
                continue
            if through := _through(program, paths, level, reached, memories):
                memory, what = through
                learner = program.levels[memory.level]
                yield Diagnostic(
                    "N510",
                    f"`{short(learner.name)}` reaches {what} through this level's updates",
                    head_of(level),
                    "says not how far a slower level sees",
                    (("the learner", learner.span and head_of(learner)),),
                    "`bptt full`, `bptt none` or `bptt 16 token`",
                )
                return

    yield from in_every_instance(program, judge)


def _through(
    program: Program, paths: GradientPaths, level: Level, reached: Reached, memories: list[Memory]
) -> tuple[Memory, str] | None:
    """The memories of these learners that lie behind an update of the level, in words."""
    for name in level.memories:
        own = program.memories[name]
        if own.next is None or name not in reached.states:
            continue
        start = paths.reads(walk(own.start)) if own.start is not None else {}
        behind = paths(own.next, memories[0], ()).reads
        for memory in memories:
            if memory.name in start:
                return memory, f"the start of `{short(name)}`"
            if memory.name in behind:
                hit = behind[memory.name][0]
                what = hit["name"] if hit.op == "weight" else hit["memory"]
                return memory, f"`{what if hit.op == 'weight' and len(what) < 60 else short(what)}`"
    return None


def unstable_erase(program: Program) -> Iterator[Diagnostic]:
    """`keep * I - rate * k * k^T` shrinks along k by rate |k|^2: with a long k the memory grows
    without bound.

    Delta gradient descent (2512.24695, Eqs. 57, 88) is stable for rate |k|^2 below 1, which a unit
    k or the closed form's rate grants.

        M <- M * (keep * I - rate * k * k^T) + S  # N509, with k = linear(x, [e])
        M <- M * (keep * I - rate * k * k^T) + S  # with k = unit(linear(x, [e]))
    """
    own = equations(program)
    grows: dict[Node, Node] = {}  # an erase whose key may be long -> the key
    eyes = beneath(
        [root for found in own.values() for root in found], lambda node: node.op == "eye"
    )
    for part in reach([root for found in own.values() for root in found], into=_outside):
        k = _erased(part, eyes)
        if k is not None and not is_unit(k) and not _normalised_rate(part.args[1], k):
            grows[part] = k

    def judge(level: Level) -> Iterable[Diagnostic]:
        for part in reach(own[level.name], into=_outside).nodes if grows else ():
            if (k := grows.get(part)) is not None:
                name = said(k) if k.name or k.op == "input" else _words(k)
                yield Diagnostic(
                    "N509",
                    f"`{name}` is not of unit length, so this erase can make the memory grow",
                    part.span or head_of(level),
                    f"shrinks by the rate times |{name}|^2",
                    (("its value", k.span),),
                    f"`unit({name})`, or the rate `eta / (1 + eta * |{name}|^2)`",
                    severity="warning",
                )

    yield from in_every_instance(program, judge)


def _words(node: Node) -> str:
    text = node.span.text() if node.span else node.op
    return text if len(text) < 24 and "\n" not in text else "k"


def _erased(node: Node, eyes: Mapping[Node, int]) -> Node | None:
    """k, of `A - r k k^T` with an identity in A."""
    if node.op != "sub" or not any(
        n.op == "eye" for n in reach([node.args[0]], into=_factors).nodes
    ):
        return None
    for part in reach([node.args[1]], into=_factors).nodes:
        if part.op in ("einsum", "mul"):
            left, right = (_peeled(a) for a in part.args)
            k = next(
                (n for n in left if any(n is m for m in right)), None
            )  # a factor on one side alone is the rate
            if k is not None and k.type and not eyes[k]:
                return k
    return None


def _factors(node: Node) -> tuple[Node, ...]:
    return node.args if node.op in ("mul", "div", "neg", "einsum", *SHAPE_ONLY) else ()


def _peeled(node: Node) -> list[Node]:
    """The product with fewer and fewer of its scalar factors, its axes as they were before they
    were spread.
    """
    found = []
    while True:
        while node.op in SHAPE_ONLY:
            node = node.args[0]
        found.append(node)
        if node.op != "mul" or not any(_scalar(a) for a in node.args):
            return found
        node = node.args[0] if _scalar(node.args[1]) else node.args[1]


def _scalar(node: Node) -> bool:
    """One number spread over the axes that the other factor has beyond its own."""
    return node.type == () or (node.op == "spread" and len(node.args[0].shape) < len(node.shape))


def is_unit(node: Node) -> bool:
    """Is the length at most 1 by the way it was made? x / sqrt(|x|^2 + c), or a softmax."""
    while node.op in (*SHAPE_ONLY, "stop", "select", "neg"):
        node = node.args[0]
    if node.op in ("softmax", "const"):
        return True
    if node.op == "mul":  # x * (1 / |x|)
        return any(
            n.op == "div" and n.args[0].op == "const" and is_unit_divisor(n.args[1])
            for a in node.args
            for n in _peeled(a)[:1]
        )
    return node.op == "div" and is_unit_divisor(node.args[1])


def is_unit_divisor(node: Node) -> bool:
    """The root of a sum of squares; of a mean it is longer than 1 by the root of the size."""
    met = reach([node], into=lambda n: n.args if n.op in ("add", "max", "mul", *SHAPE_ONLY) else ())
    for part in met.nodes:
        if part.op == "sqrt":
            inside = reach(
                part.args, into=lambda n: n.args if n.op in ("add", "max", *SHAPE_ONLY) else ()
            )
            return not any(n.op == "mean" for n in inside.nodes)
    return False


def _normalised_rate(erased: Node, k: Node) -> bool:
    """Is the rate divided by something that grows with |k|^2?"""
    for part in walk(erased):
        if part.op == "div" and any(
            n.op in ("einsum", "mul") and all(_peeled(a)[-1] is _peeled(k)[-1] for a in n.args)
            for n in walk(part.args[1])
        ):
            return True
    return False


def gradients_of_another_version(program: Program) -> Iterator[Diagnostic]:
    """`grad(e, y)` is zero where e was made of something else: `y <- ..` is another y than the one
    above it.

    e = |y|^2   y <- y - grad(e, y)   y <- y - grad(e, y)                    # N511 at the second
    for i in range(2) { e = |y|^2   y <- y - grad(e, y) }
    """
    for node in walk(*program.roots()):
        if node.op == "grad_stream":
            e, y = node.args
            if y.op != "const" and not any(part is y for part in reach([e], into=active).nodes):
                yield Diagnostic(
                    "N511",
                    f"`{said(e)}` does not depend on this `{said(y)}`: the derivative is zero",
                    node.span,
                    "zero at every token",
                    (("made here", e.span),),
                    f"`{said(e)}` written of the new value: a definition in each iteration of a "
                    "loop, or a def",
                )


def steps_not_added(program: Program) -> Iterator[Diagnostic]:
    """The optimizers of the library return the step to add: subtracted, it goes up the objective,
    and alone it takes the memory's place.

    W <- W - adamw(W, grad(W), lr = 1e-3, decay = 0.1)                       # N516
    W <- adamw(W, grad(W), lr = 1e-3, decay = 0.1)                           # N516
    W <- W + adamw(W, grad(W), lr = 1e-3, decay = 0.1)
    """
    wrong = {
        "climbs": ("subtracted, it climbs the objective", "goes up"),
        "replaces": ("alone, it takes the place of what was learned", "forgets the old value"),
    }
    for level in {
        level.span: level for level in program.levels.values() if level.span is not None
    }.values():
        for clause in clauses(level, *wrong):
            what, label = wrong[clause.word]
            yield Diagnostic(
                "N516",
                f"`{clause.name}` returns the step to add: {what}",
                clause.span,
                label,
                help=f"`{clause.place} + {clause.name}(..)`",
                severity="warning",
            )
