"""A region -> the function that computes one piece of it, and the line of its block that rolls it
over the tokens.

How a piece is computed is the first row of `lowerings.table` that applies to its form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from nldsl.core.nodes import Node
from nldsl.schedule.arrangement import Arrangement
from nldsl.schedule.plan import Region
from nldsl.step.kernels.statements import Recurrent
from nldsl.step.listing import PLAIN, Label, Listing, Made
from nldsl.step.lowerings.affine import affine_form
from nldsl.step.lowerings.body import WHOLE, Body
from nldsl.step.lowerings.forms import AffineForm, Recurrence
from nldsl.step.lowerings.past import keeps, shape_of
from nldsl.step.lowerings.table import chosen
from nldsl.step.names import short
from nldsl.step.source import Fn, Ref, parts

if TYPE_CHECKING:
    from nldsl.step.emit import Carry, Emitter


NARROW = 16  # tokens per piece where a kernel is as wide as the memory


def call_region(em: Emitter, fn: Fn, carry: Carry, region: Region) -> None:
    """Writes the line that rolls the function of a recurrence over the tokens of a call."""
    of = em.schedule.arranged.get(region) or Arrangement(
        tuple(region.states), tuple(region.inside), tuple(region.outputs)
    )
    inputs = region.inputs or em.any_input
    streams = over_tokens(fn, [fn.value(n) for n in inputs])
    statics = [fn.value(n) for n in region.statics]
    given = taken_states(em, carry, region, of)
    rows = taken_rows(em, carry, region, streams[0])
    taken = [*side_by_side(of, given), *rows]
    function, chunk, clocks, copied = region_function(em, region, inputs, of)
    em.bodies.append(function)
    em.rolled.append(chunk)
    streamed = parts([*streams, f"times({streams[0]}, position)"])
    fixed = parts([fn.tensor(s) for s in statics])
    ticks, copies = (parts([str(x) for x in xs]) for xs in (clocks, copied))
    two = parts(em.apart.get(function, ()))
    rolled = [parts(taken), streamed, fixed, "position", str(chunk), ticks, copies, "mode"]
    call = [function, two, *rolled]
    after = [fn.fresh("n") for _ in taken]
    outs = [fn.fresh() for _ in (*of.outputs, *of.rows)]
    fn.lines.append(f"{parts(after)}, {parts(outs)} = scan_chunks({', '.join(call)})")
    for text, source in zip(after, taken):
        found = re.findall(r"\bc\d+\b", source)
        fn.made[text] = Made(after=found[0] if len(found) == 1 else "")
    kept = len(of.carried)
    whole = dict(zip((s.name for s in of.carried), after[:kept], strict=True))
    whole |= at_the_end(em, fn, of, region, streams[0], outs[len(of.outputs) :])
    settled = apart(fn, of, whole)
    called = short([s.name for s in region.states], em.schedule.program.levels)
    for state in region.states:
        was = given.get(state.name, "")
        stem = PLAIN if was else f"{called[state.name]}_new"
        fn.made[settled[state.name]] = Made(after=was, stem=stem)
    carry.results += [*(settled[s.name] for s in region.states), *after[kept:]]
    for text, node in zip(outs, region.outputs):
        fn.made[text] = Made(node, node)
        fn.env[node] = Ref(text, "BT", node.shape)


def at_the_end(
    em: Emitter, fn: Fn, of: Arrangement, region: Region, stream: str, rows: list[str]
) -> dict[str, str]:
    """Texts of the states that are worked out after the last token, from what it hands on."""
    last = fn.child()
    last.token_lead, last.env = "B", {}
    last.like = stream
    for node in (*region.inputs, *region.statics):
        ref = fn.env[node]
        last.env[node] = (
            replace(ref, text=f"{ref.text}[:, -1]", lead="B") if ref.lead == "BT" else ref
        )
    for node, text in zip(of.rows, rows, strict=True):
        last.bind(node, f"{text}[:, -1]", "B")
    found = {}
    for name, tick in of.late.items():
        ref = last.value(tick)
        text = last.tensor(ref)
        if not ref.lead:
            sizes = ", ".join(str(a.size) for a in tick.shape)
            text = f"{text}.expand({stream}.shape[0], {sizes})"
        found[name] = last.let(f"{text}.contiguous()", "B", tick.shape).text
    return found


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


def taken_states(em: Emitter, carry: Carry, region: Region, of: Arrangement) -> dict[str, str]:
    """Memories and their copies, from the call before, but for those that nothing reads."""
    late = {m for name in of.late for m in of.members.get(name, (name,))}
    taken = {}
    for state in region.states:
        em.carry_state(state)
        if state.name in late:
            carry.leave(state.name)
        else:
            taken[state.name] = carry.take(state.name)
    return taken


def rewritten(region: Region, of: Arrangement) -> Region:
    """The region as it is computed."""
    outputs = [*of.outputs, *of.rows]
    return replace(region, states=[*of.carried], inside=[*of.inside], outputs=outputs)


def side_by_side(of: Arrangement, text: Mapping[str, str]) -> list[str]:
    """Texts of the states that a piece takes, from those of a region's own."""
    own = {name: f"{x}.mT" if name in of.turned else x for name, x in text.items()}
    return [
        f"torch.stack([{', '.join(own[m] for m in of.members[s.name])}], {of.heads[s.name] + 1})"
        if s.name in of.members
        else own[s.name]
        for s in of.carried
    ]


def apart(fn: Fn, of: Arrangement, whole: Mapping[str, str]) -> dict[str, str]:
    """Variables for a region's own states, from those of stacked ones."""
    found: dict[str, str] = {}
    for state in of.states:
        text, members = whole[state.name], of.members.get(state.name)
        if members is None:
            found[state.name] = text
        else:
            rows = fn.lets(f"{text}.unbind({of.heads[state.name] + 1})", *("n" for _ in members))
            found |= dict(zip(members, rows, strict=True))
    return {
        name: fn.let(f"{text}.mT", "B", ()).text if name in of.turned else text
        for name, text in found.items()
    }


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
    em: Emitter, region: Region, inputs: list[Node], of: Arrangement
) -> tuple[str, int, list[tuple[int, int, int]], list[tuple[int, int]]]:
    """The function of a piece, by the first lowering that applies; its tokens, its clocks, and the
    copies that are made at the end of each, with their clocks. No derivative passes through what is
    handed on for the states that nothing reads.
    """
    levels = em.schedule.program.levels
    heads = {
        s.name: int(bool(s.type) and s.level in levels and levels[s.level].per is not None)
        for s in region.ticking
    }
    region, heads = rewritten(region, of), heads | {n: at + 1 for n, at in of.heads.items()}
    form = affine_form(Recurrence(region, tuple(inputs), heads))
    lowering = chosen(form)
    body = Body(region, inputs, lowering.lead, em.valid_from)
    after, outputs = lowering.emit(form, body)
    if of.rows and lowering.lead == "BT":
        n = len(of.outputs)
        outputs = [*outputs[:n], *(f"{text}[:, -1:].detach()" for text in outputs[n:])]
    narrow = isinstance(form, AffineForm) and form.wide and not region.fixed
    em.lowering[region.name] = lowering.described(form) + of.described()
    em.chunk[region.name] = NARROW if narrow else region.chunk
    function, clocks = region_body(em, body, after, outputs)
    chunk = em.chunk[region.name] if lowering.lead == "BT" else 1
    if lowering.lead == "BT" and not keeps(region):
        em.recurrences[region.name] = recurrent(function, region, inputs, chunk, clocks, body.fresh)
    return function, chunk, clocks, body.fresh


def recurrent(
    function: str,
    region: Region,
    inputs: list[Node],
    chunk: int,
    clocks: list[tuple[int, int, int]],
    copies: list[tuple[int, int]],
) -> Recurrent:
    states, streams, statics = (
        tuple(tuple(a.size for a in shape) for shape in shapes)
        for shapes in (
            [s.type for s in region.states],
            [n.shape for n in inputs],
            [n.shape for n in region.statics],
        )
    )
    return Recurrent(function, states, streams, statics, chunk, tuple(clocks), tuple(copies))


def region_body(
    em: Emitter, body: Body, after: dict[str, str], outputs: list[str]
) -> tuple[str, list[tuple[int, int, int]]]:
    said = after, outputs, em.known.names, em.schedule.program.levels
    draft, given = body.draft(*said), ", ".join(WHOLE)
    if body.lead == "B":
        inner = em.written("token", draft)
        lines = [
            f"state, outs = {inner}(state, tuple(x[:, 0] for x in streams), statics, ends, left)",
            "return state, tuple(x.unsqueeze(1) for x in outs)",
        ]
        return em.define("region", given, lines), body.clocks
    drafts = body.drafts(*said)
    if drafts is None:
        return em.written("region", draft), body.clocks
    first, rest, made = drafts
    called = Listing(first, em.known).called
    rest.labels = {**rest.labels, **{x: Label(called[x]) for x in made}}
    still, moving = em.written("still", first), em.written("moving", rest)
    lines = [f"return {moving}({given}, {still}(streams[:-1], statics))"]
    region = em.define("region", given, lines)
    em.apart[region] = still, moving
    return region, body.clocks
