"""A run -> how far back the gradient of the loss reaches in each memory, and the weights that it
does not reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nldsl.audit.opened import Opened, carried, families
from nldsl.core.program import Clock, Level, Memory, Program
from nldsl.step import looking
from nldsl.view.folding import folded

TOKENS = 256  # that are looked at, one by one
FAINT = 0.01  # of the largest gradient


@dataclass(frozen=True)
class Reach:
    """Of a family of memories. The last term of the loss, at the token `read`, has a gradient in
    what it held up to `tokens` tokens before; beyond `strong` its norm is below `FAINT` of the
    largest. `chunks` is the same in periods of the copies that the memory is read at. What it holds
    there has a gradient through its own ticks up to `through` tokens before; `allowed` is how far
    that may be by the `bptt` that is `declared`, None: to the begin.
    """

    names: tuple[str, ...]
    declared: str
    read: int
    tokens: int
    strong: int
    chunks: dict[str, int]
    through: int
    allowed: int | None

    @property
    def name(self) -> str:
        return folded(self.names)

    @property
    def astray(self) -> bool:
        return self.allowed is not None and self.through > self.allowed


def reaches(opened: Opened) -> list[Reach]:
    """Of each memory that sequences carry, by one held-out sequence that is read token by token."""
    program, traced = opened.program, Trace(opened)
    fast = [m for m in program.memories.values() if not program.slow(m.name)]
    live = [m for m in fast if traced.names(m) and program.level(m.name).parent is None]
    return [reach(program, family, traced) for family in families(program, live)]


def reach(program: Program, family: list[Memory], traced: Trace) -> Reach:
    found = torch.stack([traced.norms(memory, traced.loss) for memory in family]).amax(0)
    own = torch.stack([traced.norms(memory, traced.held_at_last(memory)) for memory in family])
    level, name = program.level(family[0].name), family[0].name
    tokens = back(found, 0.0, traced.read)
    held = (n for n in program.nodes() if n.op == "held" and n["memory"] == name)
    copies = dict.fromkeys(n["clock"] for n in held if n["clock"].unit == "token")
    depths = horizons(program, level)
    return Reach(
        tuple(memory.name for memory in family),
        " or ".join(dict.fromkeys(map(worded, depths))),
        traced.read,
        tokens,
        back(found, FAINT * float(found.max()), traced.read),
        {worded(clock): -(-tokens // clock.period) for clock in copies},
        back(own.amax(0), 0.0, traced.last),
        allowed(depths, traced.last),
    )


def back(norms: Tensor, bar: float, end: int) -> int:
    """How far before `end` the first norm stands that is above the bar; 0 if none is."""
    places = (norms > bar).nonzero()
    return end - int(places[0]) if len(places) else 0


def horizons(program: Program, level: Level) -> list[str | Clock]:
    """How far the levels of the step clock see through the ticks of a level."""
    viewers = [one for one in program.levels.values() if not one.clock.inner and one.parent is None]
    return [program.horizon(viewer, level) for viewer in viewers]


def worded(depth: str | Clock) -> str:
    return depth if isinstance(depth, str) else depth.name or f"{depth.period} {depth.unit}"


def allowed(depths: list[str | Clock], last: int) -> int | None:
    """How many tokens back a memory that has read `last` of them may have a gradient in itself:
    since the last instant that hides its past.
    """
    found = [0]
    for depth in depths:
        if isinstance(depth, Clock) and depth.unit == "token":
            found.append(next((n for n in range(last) if depth.ticks(last - n)), last))
        elif depth != "none":
            return None
    return max(found)


class Trace:
    """One held-out sequence, read token by token with what it carries on the tape. `held[t]` is
    what it carries after t tokens; `read` tokens were read when the last term of the loss is known,
    but for those that it looks ahead.
    """

    def __init__(self, opened: Opened) -> None:
        name, node = opened.step.reading.trained
        module, reading = opened.step.reading.emitted({name: node}), opened.step.reading
        tokens = min(TOKENS, opened.tokens)
        batch, views = opened.part(1, tokens), opened.state.views
        self.read, self.last = tokens - reading.extent(node)[1], tokens - 1
        self.held: list[dict[str, Tensor | None]] = []
        with torch.enable_grad():
            carry = module["start"](views, 1, reading.like(), reading.seats(1))
            for t in range(tokens):
                carry = {n: x if x is None else joint(x) for n, x in carry.items()}
                self.held.append(carry)
                one = {n: x[:, t : t + 1] for n, x in batch.items()}
                streams, carry = module["forward"](views, one, carry, t, "loop")
            self.loss = streams[name][:, -1].sum()

    def names(self, memory: Memory) -> list[str]:
        """What is carried of a memory, and where it stood when a window that is open began."""
        names = self.held[self.last]
        begun = {n: n.removeprefix("start of ") for n in names}
        return [n for n, own in begun.items() if "@" not in n and carried(memory, [own])]

    def held_at_last(self, memory: Memory) -> Tensor:
        """A number that depends on all that it holds after the last token but one."""
        own = carried(memory, self.names(memory))
        parts = [x for n in own if (x := self.held[self.last][n]) is not None]
        generator = torch.Generator().manual_seed(0)
        return sum(
            (x * torch.randn(x.shape, generator=generator).to(x)).sum() for x in parts
        ) + parts[0].new_zeros(())

    def norms(self, memory: Memory, of: Tensor) -> Tensor:
        """Of the gradient of a number in what a memory holds after each number of tokens."""
        found = torch.zeros(len(self.held), dtype=torch.float64)
        places = [
            (t, x)
            for t, carry in enumerate(self.held)
            for n in self.names(memory)
            if (x := carry.get(n)) is not None and x.requires_grad
        ]
        grads = torch.autograd.grad(
            of, [x for _, x in places], allow_unused=True, retain_graph=True
        )
        for (t, _), g in zip(places, grads, strict=True):
            if g is not None:
                found[t] += float(g.double().norm())
        return found


def joint(x: Tensor) -> Tensor:
    """The same value, in which a gradient can be asked for."""
    if not x.is_floating_point():
        return x
    return x.view_as(x) if x.requires_grad else x.detach().requires_grad_()


def untouched(opened: Opened) -> dict[str, str]:
    """The arrays of the step clock that no gradient reaches on held-out data, each with why: no
    level learns it by a gradient, or the gradient is zero.
    """
    step, program = opened.step, opened.program
    reached: dict[str, bool] = {}
    for stream in step.heard:
        batch = opened.part(4, opened.tokens)
        for name, g in looking.gradients(step, opened.state, [batch], stream).items():
            reached[name] = reached.get(name, False) or bool(g.any())
    found = {name: "its gradient is zero" for name, met in reached.items() if not met}
    lonely = [name for name in program.weights if name not in reached]
    return found | {name: "no level learns it by a gradient" for name in lonely}
