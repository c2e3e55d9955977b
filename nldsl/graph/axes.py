"""The mapping rule: which axes of two shapes meet, and which axes of an argument a parameter
sees.
"""

from __future__ import annotations

from dataclasses import dataclass

from nldsl.core.nodes import Axis, Shape


@dataclass(frozen=True)
class Match:
    """Two shapes aligned by name: the joint shape, and the place in it of each axis of both."""

    shape: Shape
    left: tuple[int, ...]
    right: tuple[int, ...]
    clash: tuple[Axis, Axis] | None = None


def nameless(axis: Axis) -> bool:
    """An axis without a name is called by its size; it fits any axis of that size."""
    return axis.name == str(axis.size)


def fits(a: Axis, b: Axis) -> bool:
    return a.size == b.size and (a.name == b.name or nameless(a) or nameless(b))


def sizes(shape: Shape) -> tuple[int, ...]:
    return tuple(axis.size for axis in shape)


def match(a: Shape, b: Shape) -> Match:
    """Align by name, the last axes first if a name occurs twice.

    [head, e] with [e] -> [head, e];  [a, e] with [head] -> [a, e, head]
    """
    pairs: dict[int, int] = {}  # index in b -> index in a
    for test in (lambda x, y: x == y, fits):
        for j in reversed(range(len(b))):
            if j not in pairs:
                free = [i for i in range(len(a)) if i not in pairs.values() and test(a[i], b[j])]
                if free:
                    pairs[j] = free[-1]
    lone_a = [i for i in range(len(a)) if i not in pairs.values()]
    lone_b = [j for j in range(len(b)) if j not in pairs]
    clash = next(
        (
            (a[i], b[j])
            for i in lone_a
            for j in lone_b
            if a[i].size == b[j].size or a[i].name == b[j].name
        ),
        None,
    )
    joint = {i: b[j] if nameless(a[i]) else a[i] for j, i in pairs.items()}
    if not lone_a and lone_b:
        places = {i: j for j, i in pairs.items()}
        shape = tuple(
            joint[next(i for i, p in places.items() if p == j)] if j in pairs else b[j]
            for j in range(len(b))
        )
        return Match(shape, tuple(places[i] for i in range(len(a))), tuple(range(len(b))), clash)
    shape = (*(joint.get(i, a[i]) for i in range(len(a))), *(b[j] for j in lone_b))
    right = tuple(pairs[j] if j in pairs else len(a) + lone_b.index(j) for j in range(len(b)))
    return Match(shape, tuple(range(len(a))), right, clash)


@dataclass(frozen=True)
class Seen:
    """The view of an argument by a parameter with a declared shape: places of its axes, and of
    those mapped over.
    """

    places: tuple[int, ...]
    mapped: tuple[int, ...]
    missing: Axis | None = None
    short: int = 0  # letters that meet no axis


def see(declared: tuple[Axis | str, ...], shape: Shape) -> Seen:
    """A declared axis is found by name; k letters take the last k axes left over; the rest is
    mapped over.

    [e] sees the last axis of [head, e] and maps over head;  [a, b] takes the last two
    """
    taken: dict[int, int] = {}  # index in declared -> index in shape
    for test in (lambda x, y: x == y, fits):
        for d in reversed(range(len(declared))):
            axis = declared[d]
            if isinstance(axis, Axis) and d not in taken:
                free = [
                    i for i in range(len(shape)) if i not in taken.values() and test(shape[i], axis)
                ]
                if free:
                    taken[d] = free[-1]
    missing = next(
        (a for d, a in enumerate(declared) if isinstance(a, Axis) and d not in taken), None
    )
    letters = [d for d, axis in enumerate(declared) if isinstance(axis, str)]
    free = [i for i in range(len(shape)) if i not in taken.values()]
    if missing is not None or len(free) < len(letters):
        return Seen((), (), missing, max(0, len(letters) - len(free)))
    for d, i in zip(letters, free[len(free) - len(letters) :], strict=True):
        taken[d] = i
    mapped = tuple(i for i in free if i not in taken.values())
    return Seen(tuple(taken[d] for d in range(len(declared))), mapped)
