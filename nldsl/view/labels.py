"""LINES -> PLACES OF THEIR LABELS: each at its line, over no box and no label, over few lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from nldsl.view.layout import LEADING, Line, Placed, Point

STEPS = 12  # points that stand for a Bezier curve
GAP = 3
NEAR = 10  # from a label to its line
ON_A_LINE, OFF_THE_MIDDLE, FROM_THE_LAYOUT = 1.0, 2.0, 1.5  # costs

Rect = tuple[float, float, float, float]


def labelled(here: Placed, font: float) -> Placed:
    """The same with labels moved; the layout's own place is taken where none is better."""
    curves = [np.array(sampled(line)) for line in here.lines]
    every = np.concatenate(curves) if curves else np.empty((0, 2))
    taken = [around((item.x, item.y), item.width + GAP, item.height + GAP) for item in here.items]
    lines = list(here.lines)
    for i in sorted(range(len(lines)), key=lambda i: -lines[i].room):
        line, own = lines[i], curves[i]
        if not line.label:
            continue
        width, height = line.room + 2 * GAP, len(line.label) * LEADING * font

        def cost(
            place: tuple[Point, float],
            own: np.ndarray = own,
            width: float = width,
            height: float = height,
        ) -> tuple[float, float]:
            rect = around(place[0], width, height)
            hidden = (apart(every, rect) == 0).sum() - (apart(own, rect) == 0).sum()
            off_page = sum(
                max(0, side)
                for side in (-rect[0], -rect[1], rect[2] - here.width, rect[3] - here.height)
            )
            wrong = (
                sum(overlap(rect, other) for other in taken)
                + off_page
                + max(0, apart(own, rect).min() - NEAR)
            )
            return wrong, ON_A_LINE * hidden + place[1]

        at, _ = min([(line.at, 0), *_places(own.tolist(), width, height)], key=cost)
        lines[i] = replace(line, at=at)
        taken.append(around(at, width + GAP, height + GAP))
    return replace(here, lines=tuple(lines))


def _places(curve: list[Point], width: float, height: float) -> Iterator[tuple[Point, float]]:
    for i in range(1, len(curve) - 1):
        x, y = curve[i]
        off = FROM_THE_LAYOUT + OFF_THE_MIDDLE * abs(2 * i / (len(curve) - 1) - 1)
        for right, down in (
            (0.5, 0),
            (-0.5, 0),
            (0, 0.5),
            (0, -0.5),
            (0.5, 0.5),
            (-0.5, 0.5),
            (0.5, -0.5),
            (-0.5, -0.5),
        ):
            yield (x + right * (width + GAP), y + down * (height + GAP)), off
        yield (x, y), off + 1


def sampled(line: Line) -> list[Point]:
    """Points along a Bezier spline."""
    found = [line.points[0]]
    for i in range(0, len(line.points) - 3, 3):
        corners = line.points[i : i + 4]
        found += [bezier(corners, step / STEPS) for step in range(1, STEPS + 1)]
    return found


def bezier(corners: tuple[Point, ...], t: float) -> Point:
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    return (
        sum(w * p[0] for w, p in zip(weights, corners, strict=True)),
        sum(w * p[1] for w, p in zip(weights, corners, strict=True)),
    )


def around(middle: Point, width: float, height: float) -> Rect:
    return (
        middle[0] - width / 2,
        middle[1] - height / 2,
        middle[0] + width / 2,
        middle[1] + height / 2,
    )


def overlap(one: Rect, other: Rect) -> float:
    """The area that two rectangles share."""
    return max(0, min(one[2], other[2]) - max(one[0], other[0])) * max(
        0, min(one[3], other[3]) - max(one[1], other[1])
    )


def apart(points: np.ndarray, rect: Rect) -> np.ndarray:
    """The distance of each of the points from a rectangle."""
    low, high = np.array(rect[:2]), np.array(rect[2:])
    beyond: np.ndarray = np.maximum(np.maximum(low - points, points - high), 0)
    return np.asarray(np.linalg.norm(beyond, axis=1))
