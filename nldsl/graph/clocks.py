"""Stretches of text to clocks: `16 token`, `length token`, `chunk`, `4 chunk`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from nldsl.core.program import Clock
from nldsl.frontend import syntax
from nldsl.graph.built_in import built_in
from nldsl.graph.elaborator import meant
from nldsl.graph.evaluate import evaluate
from nldsl.graph.scope import Site
from nldsl.graph.values import ClockValue, kind_of


def stretch_count(stretch: syntax.Stretch, site: Site) -> int:
    count = stretch.count
    if count is None:
        return 1
    return site.elaborator.whole(evaluate(count, site), count.span, least=1)


def clock_of(
    stretch: syntax.Stretch,
    site: Site,
    phase: syntax.Number | None = None,
    count: int | None = None,
    words: Iterable[str] = (),
) -> Clock:
    """The clock that ticks every `stretch`, `phase` units later. `update` stays a unit here.
    `words`: what may stand here beside a clock.
    """
    elaborator, unit = site.elaborator, stretch.clock.text
    n = stretch_count(stretch, site) if count is None else count
    offset = 0 if phase is None else elaborator.whole(evaluate(phase, site), phase.span)
    if unit in syntax.UNITS:
        said = unit if stretch.count is None else f"{n} {unit}"
        return Clock(unit, n, offset, said + (f" phase {offset}" if offset else ""))
    if site.scope.find(unit) is None and unit not in built_in():
        no_clock(stretch.clock, site, (*syntax.UNITS, *words))
    value = site.value(stretch.clock)
    if not isinstance(value, ClockValue):
        elaborator.fail(
            "N303",
            f"a clock is needed here, `{unit}` is {kind_of(value)}",
            stretch.span,
            help=f"`{unit} token`, if `{unit}` is a number",
        )
    base = value.clock
    said = base.name if n == 1 else f"{n} {base.name}"
    return Clock(
        base.unit,
        n * base.period,
        base.phase + offset * base.period,
        said + (f" phase {offset}" if offset else ""),
    )


def names_a_clock(name: str, site: Site) -> bool:
    found = site.scope.find(name)
    return found is not None and isinstance(getattr(found[0].base, "value", None), ClockValue)


def no_clock(name: syntax.Name, site: Site, words: Iterable[str]) -> NoReturn:
    """Fails with the nearest clock in sight, or word, else with a clock of this name."""
    clocks = {known for known in site.scope.visible() if names_a_clock(known, site)}
    site.elaborator.fail(
        "N101",
        f"there is no clock `{name.text}` here",
        name.span,
        **(
            meant(name, clocks.union(words))
            or {"help": f"`clock {name.text} = 64 token` declares one"}
        ),
    )


def rate_of(rate: syntax.Every | syntax.Never, site: Site) -> Clock:
    if isinstance(rate, syntax.Never):
        return Clock("never", 0, 0, "never")
    return clock_of(rate.period, site, rate.phase)


def default_reset(clock: Clock) -> Clock:
    """Two facts of the clock: a level that counts tokens restarts with each sequence, every other
    level does not.
    """
    return (
        Clock("sequence", 1, 0, "sequence")
        if clock.unit == "token"
        else Clock("never", 0, 0, "never")
    )
