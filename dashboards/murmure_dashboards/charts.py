"""Small step charts. The SVG holds paths only; every label is HTML beside it, so that text keeps its size on a phone.

Horizontally one unit is a quarter-hour, vertically the plot has 400 units; both are whole numbers, and the picture is
stretched to its box while its strokes are not. Each value is drawn as the interval that it is about; where a value is
missing, line and band stop and start again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from html import escape
from math import ceil, floor

from murmure_privacy.window import QUARTER_S, Window

HEIGHT = 400
MOST_INTERVALS = 5
_PICTURES_HELD = 64  # those of a neighbourhood's pages in one language, until the next one wants them
HATCHES = 48  # slanted lines across the whole picture


@dataclass(frozen=True, slots=True)
class Step:
    """One drawn value with its interval, over `[start_s, end_s)`, in the printed unit; None for a value that is too
    uncertain to be shown, of which only the interval is drawn."""

    start_s: int
    end_s: int
    value: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Axis:
    """`bottom` to `top` in equal `intervals`: exact, since labels and paths must agree."""

    bottom: Decimal
    top: Decimal
    intervals: int

    @property
    def labels(self) -> tuple[Decimal, ...]:
        """Returns the value at each grid line, from the bottom up."""
        each = (self.top - self.bottom) / self.intervals
        return tuple(self.bottom + each * number for number in range(self.intervals + 1))

    @property
    def y(self) -> Callable[[float], int]:
        """Returns what gives the height of a value on the picture, from the top, cut to the plot."""
        bottom, span = float(self.bottom), float(self.top - self.bottom)
        return lambda value: round(HEIGHT * (1 - min(1.0, max(0.0, (value - bottom) / span))))


@dataclass(frozen=True, slots=True)
class Tick:
    """A label that starts at its own instant; `hours` is the width to the next one."""

    label: str
    hours: int


@dataclass(frozen=True, slots=True)
class Table:
    """The same numbers in words: the header of each column, then rows whose first cell is the row's header."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart cannot be made without its words: `title` says what is measured, `finding` what there is to see,
    `unit` the unit, `description` the figures in a sentence for those who do not see it, `table` the numbers. `line`:
    whether a value is drawn, not only intervals."""

    title: str
    finding: str
    unit: str
    description: str
    table: Table
    axis: Axis
    ticks: tuple[Tick, ...]
    svg: str
    line: bool
    gaps: bool
    faulty: bool


def axis(values: Sequence[float], from_zero: bool) -> Axis:
    """Returns an axis that holds all values on at most five round intervals; negative ones are cut at zero."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low = 0.0 if from_zero else low
    high = max(high, low + (1.0 if from_zero else 10.0))
    exponent = -1
    while True:
        for factor in (10, 20, 25, 50):  # a quarter has no place on an axis of single passages
            each = Decimal(factor).scaleb(exponent)
            if factor == 25 and exponent < 0:
                continue
            bottom = floor(Decimal(low) / each)
            intervals = max(2, ceil(Decimal(high) / each) - bottom)
            if intervals <= MOST_INTERVALS:
                return Axis(bottom * each, (bottom + intervals) * each, intervals)
        exponent += 1


def draw(
    *,
    title: str,
    finding: str,
    unit: str,
    description: str,
    table: Table,
    steps: Sequence[Step],
    gaps: Sequence[Window],
    faulty: Sequence[Window],
    window: Window,
    ticks: Sequence[Tick],
    from_zero: bool,
    name: str,
    scale: Axis | None = None,
    draws: Sequence[Sequence[Step]] = (),
) -> Chart:
    """Returns the chart of the steps inside the window. `gaps`: what should have been measured and has no value.
    `faulty`: what stewards marked, inside the window; it is hatched over whatever is drawn there.
    `name`: unique on the page, the prefix of the picture's ids. `scale`: an axis that pictures share, else one that
    suits the steps. `draws`: other runs of the same steps, each a thin line."""
    scale = scale or axis([edge for step in steps for edge in (step.low, step.high)], from_zero)
    width = (window.end_s - window.start_s) // QUARTER_S
    picture = _picture(tuple(steps), tuple(gaps), tuple(faulty), window, scale, tuple(map(tuple, draws)))
    svg = (
        f'<svg role="img" aria-labelledby="{name}-t {name}-d" viewBox="0 0 {width} {HEIGHT}"'
        ' preserveAspectRatio="none">'
        f'<title id="{name}-t">{escape(title)} ({escape(unit)})</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>{picture}</svg>'
    )
    line = any(step.value is not None for step in steps)
    return Chart(title, finding, unit, description, table, scale, tuple(ticks), svg, line, bool(gaps), bool(faulty))


@lru_cache(maxsize=_PICTURES_HELD)
def _picture(
    steps: tuple[Step, ...],
    gaps: tuple[Window, ...],
    faulty: tuple[Window, ...],
    window: Window,
    scale: Axis,
    draws: tuple[tuple[Step, ...], ...],
) -> str:
    """Returns the paths, which are the same in every language."""
    in_order = sorted(steps, key=lambda step: step.start_s)
    drawn = [step if _within(step, window) else replace(step, **_inside(step, window)) for step in in_order]
    gaps = tuple(Window(**_inside(gap, window)) for gap in gaps)
    width = (window.end_s - window.start_s) // QUARTER_S
    grid = "".join(f"M0,{HEIGHT * line // scale.intervals}h{width}" for line in range(scale.intervals + 1))
    hatch = "".join(f"M{_x(gap.start_s, window)},0h{_length(gap)}v{HEIGHT}h-{_length(gap)}z" for gap in gaps)
    floor_line = "".join(f"M{_x(gap.start_s, window)},{HEIGHT - 6}h{_length(gap)}" for gap in gaps)
    paths = (
        ("grid", grid),
        ("gap", hatch),
        ("gap-line", floor_line),
        ("band", "".join(_band(run, scale, window) for run in _runs(drawn))),
        ("faulty", "".join(_hatch(mark, window) for mark in faulty)),
        ("draw", "".join(_line(run, scale, window) for one in draws for run in _runs(one))),
        ("line", "".join(_line(run, scale, window) for run in _runs([s for s in drawn if s.value is not None]))),
    )
    return "".join(f'<path class="{kind}" vector-effect="non-scaling-stroke" d="{d}"/>' for kind, d in paths if d)


def _within(step: Step, window: Window) -> bool:
    return window.start_s <= step.start_s and step.end_s <= window.end_s


def _inside(span: Window | Step, window: Window) -> dict[str, int]:
    """The night before and the week around a day are drawn as far as the day goes."""
    return {"start_s": max(span.start_s, window.start_s), "end_s": min(span.end_s, window.end_s)}


def _x(at_s: int, window: Window) -> int:
    return (at_s - window.start_s) // QUARTER_S


def _length(span: Window | Step) -> int:
    return (span.end_s - span.start_s) // QUARTER_S


def _hatch(mark: Window, window: Window) -> str:
    """A frame with slanted lines in it. One line crosses as many quarter-hours as four lines are apart."""
    left, width = _x(mark.start_s, window), _length(mark)
    apart = max(1, _length(window) // HATCHES)
    lines = []
    for top in range(apart, width + 4 * apart, apart):
        # From (left + top, 0) down to (left + top - 4 * apart, HEIGHT), cut to the frame.
        right = min(top, width)
        low = max(0, top - 4 * apart)
        if low < right:
            over, under = ((top - at) * HEIGHT // (4 * apart) for at in (right, low))
            lines.append(f"M{left + right},{over}L{left + low},{under}")
    return f"M{left},0h{width}v{HEIGHT}h-{width}z" + "".join(lines)


def _runs(steps: Sequence[Step]) -> list[list[Step]]:
    runs: list[list[Step]] = []
    for step in steps:
        if not runs or runs[-1][-1].end_s != step.start_s:
            runs.append([])
        runs[-1].append(step)
    return runs


def _stairs(heights: Sequence[tuple[int, int]]) -> str:
    """Relative path along (width, height) pairs, from the first height on."""
    parts: list[str] = []
    at = heights[0][1]
    for width, height in heights:
        if height != at:
            parts.append(f"v{height - at}")
            at = height
        parts.append(f"h{width}")
    return "".join(parts)


def _line(run: Sequence[Step], scale: Axis, window: Window) -> str:
    y = scale.y
    heights = [(_length(step), y(step.value)) for step in run if step.value is not None]
    return f"M{_x(run[0].start_s, window)},{heights[0][1]}{_stairs(heights)}"


def _band(run: Sequence[Step], scale: Axis, window: Window) -> str:
    y = scale.y
    over = [(_length(step), y(step.high)) for step in run]
    under = [(-_length(step), y(step.low)) for step in reversed(run)]
    down = under[0][1] - over[-1][1]
    return f"M{_x(run[0].start_s, window)},{over[0][1]}{_stairs(over)}v{down}{_stairs(under)}z"
