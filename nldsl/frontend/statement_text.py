"""A statement as one line of text, and the line that opens its block."""

from __future__ import annotations

from nldsl.frontend import syntax
from nldsl.frontend.expression_text import expression, stretch, type_
from nldsl.frontend.syntax import Block, Def, For, Level, Statement

DEPTHS = {syntax.Full: "full", syntax.Cut: "none"}


def block_of(statement: Statement) -> Block | None:
    if isinstance(statement, Level | For):
        return statement.block
    if isinstance(statement, Def) and isinstance(statement.body, Block):
        return statement.body
    return None


def one_line(statement: Statement) -> str:
    block = block_of(statement)
    if block is None:
        return _simple(statement)
    inner = " ".join(one_line(inner) for inner in block.statements)
    return f"{header(statement)} {{ {inner} }}" if inner else f"{header(statement)} {{ }}"


def header(statement: Statement) -> str:
    match statement:
        case Level(member, per, rate):
            return f"level {_member(member)}{f' per {per}' if per else ''} {_rate(rate)}"
        case For(name, items):
            return f"for {name} in {expression(items, 2)}"
        case Def(name, params, result):
            arrow = f" -> {type_(result)}" if result else ""
            return f"def {name}({', '.join(map(_param, params))}){arrow}"
    raise TypeError(f"{type(statement).__name__} has no block")


def _simple(statement: Statement) -> str:
    match statement:
        case syntax.Import(names):
            return f"import {', '.join(map(str, names))}"
        case syntax.Dims(bindings):
            return "dim " + ", ".join(
                f"{binding.name} = {expression(binding.value)}" for binding in bindings
            )
        case syntax.Clock(name, period, phase):
            return f"clock {name} = {stretch(period)}{_phase(phase)}"
        case syntax.Input(name, kind):
            return f"input {name}: {type_(kind)}"
        case Def(body=body) if not isinstance(body, syntax.Block):
            return f"{header(statement)} = {expression(body)}"
        case syntax.Memory(name, kind, start):
            return f"memory {name}: {type_(kind)}" + (f" = {expression(start)}" if start else "")
        case syntax.Context(names):
            return f"context {', '.join(map(str, names))}"
        case syntax.Minimize(objective):
            return f"minimize {expression(objective)}"
        case syntax.Update(place, value):
            return f"{place} <- {expression(value)}"
        case syntax.Define(name, shape, value):
            return f"{name}{f': {type_(shape)}' if shape else ''} = {expression(value)}"
        case syntax.Reset(memory, rate):
            return f"reset {f'{memory} ' if memory else ''}{_rate(rate)}"
        case syntax.Bptt(depth, viewer):
            words = stretch(depth) if isinstance(depth, syntax.Stretch) else DEPTHS[type(depth)]
            return f"bptt {words}{f' by {_member(viewer)}' if viewer else ''}"
        case syntax.Return(value):
            return f"return {expression(value)}"
        case syntax.Report(value):
            return f"report {expression(value)}"
    raise TypeError(f"{type(statement).__name__} is not a statement")


def _param(param: syntax.Param) -> str:
    shape = f": {type_(param.shape)}" if param.shape else ""
    return f"{param.name}{shape}{f' = {expression(param.default)}' if param.default else ''}"


def _member(member: syntax.Member) -> str:
    return f"{member.name}[{expression(member.index)}]" if member.index else str(member.name)


def _rate(rate: syntax.Every | syntax.Never) -> str:
    return (
        f"every {stretch(rate.period)}{_phase(rate.phase)}"
        if isinstance(rate, syntax.Every)
        else "never"
    )


def _phase(phase: syntax.Number | None) -> str:
    return f" phase {phase.text}" if phase else ""
