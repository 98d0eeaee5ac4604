"""Line and scatter charts as places on a page, for templates to draw as SVG."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 440, 24, 205
_LETTER, _DOT = 6.6, 5  # width of a letter, about; half of a dot with what is around it


class Point(NamedTuple):
    """A measured point; `name` is written next to it where there is room, `words` are shown when it
    is pointed at."""

    x: float
    y: float
    words: str = ""
    name: str = ""


class Tick(NamedTuple):
    """A marked value of an axis."""

    at: float
    text: str


class Name(NamedTuple):
    """A point's name where there is room for it; `anchor` as SVG's `text-anchor`."""

    x: float
    y: float
    anchor: str
    text: str


class Chart(NamedTuple):
    """What a template needs; places are in the units of its view box."""

    words: str
    x_label: str
    y_label: str
    points: list[Point]
    names: list[Name]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    joined: bool
    dots: bool
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    right: int = _RIGHT
    bottom: int = _BOTTOM


def chart(
    points: Sequence[Point],
    x_label: str,
    y_label: str,
    *,
    joined: bool = True,
    dots: bool = True,
    logarithmic: bool = False,
) -> Chart | None:
    """A chart of points with finite values; None where there are fewer than one.

    Args:
      points: as measured.
      x_label, y_label: what the axes are, with their units.
      joined: with a line through them.
      dots: with a dot for each.
      logarithmic: the x axis; points at or below 0 have no place on it.
    """
    kept = [p for p in points if math.isfinite(p.x) and math.isfinite(p.y)]
    kept = [p for p in kept if p.x > 0 or not logarithmic]
    if not kept:
        return None
    xs = [math.log10(p.x) if logarithmic else p.x for p in kept]
    x_low, x_high = _range(xs)
    y_low, y_high = _range([p.y for p in kept])

    def place_x(value: float) -> float:
        return round(_LEFT + (value - x_low) / (x_high - x_low) * (_RIGHT - _LEFT), 1)

    def place_y(value: float) -> float:
        return round(_BOTTOM - (value - y_low) / (y_high - y_low) * (_BOTTOM - _TOP), 1)

    placed = [p._replace(x=place_x(x), y=place_y(p.y)) for p, x in zip(kept, xs, strict=True)]
    if logarithmic:
        decades = range(math.floor(x_low), math.ceil(x_high) + 1)
        marks = [math.log10(m * 10.0**k) for k in decades for m in (1, 3)]
        marks = [mark for mark in marks if x_low <= mark <= x_high]
        if len(marks) < 2:
            marks = [math.log10(v) for v in _ticks(10**x_low, 10**x_high) if v > 0]
    else:
        marks = _ticks(x_low, x_high)
    x_ticks = [Tick(place_x(v), _number(10**v if logarithmic else v)) for v in marks]
    most = 100 if y_label.endswith("%") else math.inf
    y_ticks = [Tick(place_y(v), _number(v)) for v in _ticks(y_low, y_high) if v <= most]
    words = f"{y_label} against {x_label}"
    return Chart(words, x_label, y_label, placed, _names(placed), x_ticks, y_ticks, joined, dots)


def _names(points: Sequence[Point]) -> list[Name]:
    """The points' names, next to their dots; those without room for one are left out."""
    taken = [(p.x - _DOT, p.y - _DOT, p.x + _DOT, p.y + _DOT) for p in points]
    names = []
    for point in points:
        for name in _placements(point) if point.name else ():
            box = _box(name)
            is_inside = box[0] >= _LEFT and box[2] <= _WIDTH and box[1] >= _TOP - 8
            is_inside &= box[3] <= _BOTTOM + 4  # above the axis
            if is_inside and not any(_overlap(box, other) for other in taken):
                names.append(name)
                taken.append(box)
                break
    return names


def _placements(point: Point) -> Iterator[Name]:
    """Where a point's name may be, the best place first."""
    for dy in (4, -8, 15, -15):
        yield Name(round(point.x + 8, 1), round(point.y + dy, 1), "start", point.name)
        yield Name(round(point.x - 8, 1), round(point.y + dy, 1), "end", point.name)
    for dy in (-9, 18):
        yield Name(point.x, round(point.y + dy, 1), "middle", point.name)


def _box(name: Name) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a name, about."""
    width = _LETTER * len(name.text)
    left = name.x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[name.anchor]
    return left, name.y - 10, left + width, name.y + 3


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """A little more than the values span."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or max(abs(high) * 0.1, 0.5)
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round values inside."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough)
    first = math.ceil(low / step)
    return [i * step for i in range(first, math.floor(high / step) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
