"""A region -> the function that computes one piece of it, and the line of its block that rolls it
over the tokens.

How a piece is computed is the first row of `lowerings.table` that applies to its form.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from nldsl.core.nodes import Node
from nldsl.schedule.plan import Region
from nldsl.schedule.stacking import Stacked
from nldsl.step.listing import Made
from nldsl.step.lowerings.affine import affine_form
from nldsl.step.lowerings.body import Body
from nldsl.step.lowerings.forms import AffineForm, Recurrence
from nldsl.step.lowerings.past import keeps, shape_of
from nldsl.step.lowerings.table import chosen
from nldsl.step.source import Fn, Ref, parts

if TYPE_CHECKING:
    from nldsl.step.emit import Carry, Emitter


NARROW = 16  # tokens per piece where a kernel is as wide as the memory


def call_region(em: Emitter, fn: Fn, carry: Carry, region: Region) -> None:
    """Writes the line that rolls the function of a recurrence over the tokens of a call."""
    inputs = region.inputs or em.any_input
    streams = over_tokens(fn, [fn.value(n) for n in inputs])
    statics = [fn.value(n) for n in region.statics]
    given = taken_states(em, carry, region)
    as_one = em.schedule.stacked.get(region)
    rows = taken_rows(em, carry, region, streams[0])
    taken = [*(given if as_one is None else side_by_side(as_one, region, given)), *rows]
    function, chunk, clocks, copied = region_function(em, region, inputs, as_one)
    em.bodies.append(function)
    streamed = parts([*streams, f"times({streams[0]}, position)"])
    fixed = parts([fn.tensor(s) for s in statics])
    ticks, copies = (parts([str(x) for x in xs]) for xs in (clocks, copied))
    call = f"{function}, {parts(taken)}, {streamed}, {fixed}, position, {chunk}, {ticks}, {copies}, mode"
    after = [fn.fresh("n") for _ in taken]
    outs = [fn.fresh() for _ in region.outputs]
    fn.lines.append(f"{parts(after)}, {parts(outs)} = scan_chunks({call})")
    for text, source in zip(after, taken):
        found = re.findall(r"\bc\d+\b", source)
        fn.made[text] = Made(after=found[0] if len(found) == 1 else "")
    if as_one is not None:
        whole, kept = after[: len(as_one.states)], after[len(as_one.states) :]
        after = [*apart(fn, as_one, region, whole), *kept]
        fn.made |= {text: Made(after=was) for text, was in zip(after, given)}
    carry.results += after
    for text, node in zip(outs, region.outputs):
        fn.made[text] = Made(node, node)
        fn.env[node] = Ref(text, "BT", node.shape)


def over_tokens(fn: Fn, given: list[Ref]) -> list[str]:
    """What a recurrence takes, at each token: also what is held between ticks."""
    timed = next((ref.text for ref in given if ref.lead == "BT"), "")
    return [
        fn.let(
            f"{ref.text}.unsqueeze(1).expand(-1, {timed}.shape[1], {'-1, ' * ref.rank})",
            "BT",
            ref.shape,
        ).text
        if ref.lead == "B" and timed
        else fn.over(ref)
        for ref in given
    ]


def taken_states(em: Emitter, carry: Carry, region: Region) -> list[str]:
    """Memories and their copies, from the call before."""
    for state in region.states:
        em.carry_state(state)
    return [carry.take(state.name) for state in region.states]


def stacked_region(region: Region, as_one: Stacked) -> Region:
    """The region with its equal memories as one."""
    states, inside, outputs = ([*x] for x in (as_one.states, as_one.inside, as_one.outputs))
    return replace(region, states=states, inside=inside, outputs=outputs)


def side_by_side(as_one: Stacked, region: Region, given: list[str]) -> list[str]:
    """Texts of stacked states, from those of a region's own."""
    text = {s.name: x for s, x in zip(region.states, given, strict=True)}
    return [
        f"torch.stack([{', '.join(text[m] for m in as_one.members[s.name])}], "
        f"{as_one.heads[s.name] + 1})"
        if s.name in as_one.members
        else text[s.name]
        for s in as_one.states
    ]


def apart(fn: Fn, as_one: Stacked, region: Region, after: list[str]) -> list[str]:
    """Variables for a region's own states, from those of stacked ones."""
    found: dict[str, str] = {}
    for state, text in zip(as_one.states, after, strict=True):
        members = as_one.members.get(state.name)
        if members is None:
            found[state.name] = text
        else:
            rows = fn.lets(
                f"{text}.unbind({as_one.heads[state.name] + 1})", *("n" for _ in members)
            )
            found |= dict(zip(members, rows, strict=True))
    return [found[s.name] for s in region.states]


def taken_rows(em: Emitter, carry: Carry, region: Region, stream: str) -> list[str]:
    """Rows of earlier tokens, from the call before."""
    taken = []
    for kept in keeps(region):
        if kept.rows is None:  # room for the tokens to come
            past = em.carry_name(kept.node, "past", kept.node.shape, carry)
            room = f"{'0, ' * (2 * len(kept.node.shape))}0, {stream}.shape[1]"
            taken.append(f"F.pad({past}, ({room}))")
        else:
            taken.append(em.carry_name(kept.node, "tail", shape_of(kept), carry))
    return taken


def region_function(
    em: Emitter, region: Region, inputs: list[Node], as_one: Stacked | None
) -> tuple[str, int, list[tuple[int, int, int]], list[tuple[int, int]]]:
    """The function of a piece, by the first lowering that applies; its tokens, its clocks, and the
    copies that are made at the end of each, with their clocks.
    """
    levels = em.schedule.program.levels
    heads = {
        s.name: int(bool(s.type) and s.level in levels and levels[s.level].per is not None)
        for s in region.ticking
    }
    if as_one is not None:
        region = stacked_region(region, as_one)
        heads |= {name: at + 1 for name, at in as_one.heads.items()}
    form = affine_form(Recurrence(region, tuple(inputs), heads))
    lowering = chosen(form)
    body = Body(region, inputs, lowering.lead, em.valid_from)
    after, outputs = lowering.emit(form, body)
    narrow = isinstance(form, AffineForm) and form.wide and not region.fixed
    em.lowering[region.name] = lowering.described(form) + (as_one.described() if as_one else "")
    em.chunk[region.name] = NARROW if narrow else region.chunk
    function, clocks = region_body(em, body, after, outputs)
    chunk = em.chunk[region.name] if lowering.lead == "BT" else 1
    return function, chunk, clocks, body.fresh


def region_body(
    em: Emitter, body: Body, after: dict[str, str], outputs: list[str]
) -> tuple[str, list[tuple[int, int, int]]]:
    draft = body.draft(after, outputs, em.known.names, em.schedule.program.levels)
    if body.lead == "BT":
        return em.written("region", draft), body.clocks
    inner = em.written("token", draft)
    lines = [
        f"state, outs = {inner}(state, tuple(x[:, 0] for x in streams), statics, ends)",
        "return state, tuple(x.unsqueeze(1) for x in outs)",
    ]
    return em.define("region", "state, streams, statics, ends", lines), body.clocks
