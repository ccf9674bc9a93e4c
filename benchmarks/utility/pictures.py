"""The pictures of docs/utility.md: SVG with title and description, told apart without colour, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import log10

_STYLE = """
svg { --page: #ffffff; color: #1b1b1b; background: var(--page); font: 13px sans-serif }
text { fill: currentColor } .small { font-size: 12px } .head { font-weight: bold }
.grid { stroke: #d5d5d5 } .frame { stroke: currentColor; fill: none } .limit { stroke: currentColor; stroke-width: 2 }
.halo { paint-order: stroke; stroke: var(--page); stroke-width: 5px; stroke-linejoin: round }
.s0 { --ink: #0072b2 } .s1 { --ink: #a34a00 } .s2 { --ink: #00795a } .s3 { --ink: #9c3f7d } .s4 { --ink: #555555 }
.s5 { --ink: #7a5b00 } .line { fill: none; stroke: var(--ink); stroke-width: 2.2 } .mark { fill: var(--ink) }
.yes { fill: #cfe8d8 } .no { fill: none } .cell { stroke: #9a9a9a }
@media (prefers-color-scheme: dark) {
svg { --page: #16181c; color: #f0f0f0 } .grid { stroke: #3a3d44 } .cell { stroke: #7a7d85 } .yes { fill: #1e4a33 }
.s0 { --ink: #6cb8ef } .s1 { --ink: #f0955a } .s2 { --ink: #4fd0a8 } .s3 { --ink: #e79fce } .s4 { --ink: #b9b9b9 }
.s5 { --ink: #e0bd55 } }
"""
_DASHES = ("", "9 4", "3 3", "12 3 3 3", "2 5", "7 3 2 3 2 3")
_MARKS = (
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0",
    "M-4 -4h8v8h-8z",
    "M0 -5.5l5 9h-10z",
    "M0 -5.5l5.5 5.5l-5.5 5.5l-5.5 -5.5z",
    "M-5 -2h3v-3h4v3h3v4h-3v3h-4v-3h-3z",
    "M0 5.5l5 -9h-10z",
)


@dataclass(frozen=True, slots=True)
class Line:
    """One series; points in the units of the axes. `style` 0 to 5 gives colour, dash and mark together."""

    name: str
    style: int
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from `low` to `high` with labelled ticks, logarithmic or not."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    log: bool

    def share(self, value: float) -> float:
        """Returns how far along the axis a value lies, cut to its ends."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot. `limits`: horizontal lines with their names."""

    title: str
    x: Scale
    y: Scale
    lines: Sequence[Line]
    limits: Sequence[tuple[str, float]] = ()


_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 330, 300, 62, 34, 84


def plots(title: str, description: str, panels: Sequence[Panel]) -> str:
    """Returns panels side by side with one legend below for all their lines."""
    body = []
    for number, panel in enumerate(panels):
        left = _LEFT + number * (_WIDTH + _GAP)
        body.append(f'<g transform="translate({left} {_TOP})">{_panel(panel)}</g>')
    names = {line.style: line.name for panel in panels for line in panel.lines}
    below = _TOP + _HEIGHT + 62
    for number, (style, name) in enumerate(sorted(names.items())):
        x, y = _LEFT + (number % 2) * (_WIDTH + _GAP), below + 22 * (number // 2)
        body.append(
            f'<g class="s{style}" transform="translate({x} {y})">'
            f'<path class="line" stroke-dasharray="{_DASHES[style]}" d="M0 0H44"/>'
            f'<path class="mark" d="{_MARKS[style]}" transform="translate(22 0)"/></g>'
            f'<text x="{x + 54}" y="{y + 4}">{escape(name)}</text>'
        )
    width = _LEFT + len(panels) * (_WIDTH + _GAP) - _GAP + 24
    return _svg(title, description, width, below + 22 * ((len(names) + 1) // 2) + 4, "\n".join(body))


def _panel(panel: Panel) -> str:
    found = [f'<text class="head" y="-12">{escape(panel.title)}</text>']
    for tick in panel.x.ticks:
        x = round(panel.x.share(tick) * _WIDTH, 1)
        found.append(f'<path class="grid" d="M{x} 0V{_HEIGHT}"/>')
        found.append(f'<text class="small" x="{x}" y="{_HEIGHT + 18}" text-anchor="middle">{tick:g}</text>')
    for tick in panel.y.ticks:
        y = round((1 - panel.y.share(tick)) * _HEIGHT, 1)
        found.append(f'<path class="grid" d="M0 {y}H{_WIDTH}"/>')
        found.append(f'<text class="small" x="-8" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    found.append(f'<path class="frame" d="M0 0H{_WIDTH}V{_HEIGHT}H0z"/>')
    names = []
    for name, value in panel.limits:
        y = round((1 - panel.y.share(value)) * _HEIGHT, 1)
        found.append(f'<path class="limit" d="M0 {y}H{_WIDTH}"/>')
        names.append(f'<text class="small halo" x="{_WIDTH - 6}" y="{y - 6}" text-anchor="end">{escape(name)}</text>')
    for line in panel.lines:
        places = [
            (round(panel.x.share(x) * _WIDTH, 1), round((1 - panel.y.share(y)) * _HEIGHT, 1)) for x, y in line.points
        ]
        path = "M" + "L".join(f"{x} {y}" for x, y in places)
        marks = "".join(
            f'<path class="mark" d="{_MARKS[line.style]}" transform="translate({x} {y})"/>' for x, y in places
        )
        found.append(
            f'<g class="s{line.style}">'
            f'<path class="line" stroke-dasharray="{_DASHES[line.style]}" d="{path}"/>{marks}</g>'
        )
    found.extend(names)
    found.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT + 38}" text-anchor="middle">{escape(panel.x.label)}</text>')
    turned = f"rotate(-90) translate({-_HEIGHT / 2} -44)"
    found.append(f'<text transform="{turned}" text-anchor="middle">{escape(panel.y.label)}</text>')
    return "\n".join(found)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a matrix: its name and, for each column, the text of the cell and whether it is good."""

    name: str
    cells: Sequence[tuple[str, bool]]


_CELL_W, _CELL_H, _NAMES = 62, 26, 178


def matrix(title: str, description: str, columns: Sequence[str], blocks: Sequence[tuple[str, Sequence[Row]]]) -> str:
    """Returns blocks of rows, two beside each other; a good cell is shaded and its text bold, so that either tells."""
    body = []
    block_w = _NAMES + len(columns) * _CELL_W + 36
    block_h = max(len(rows) for _, rows in blocks) * _CELL_H + 78
    for number, (name, rows) in enumerate(blocks):
        cells = [f'<text class="head" y="0">{escape(name)}</text>']
        for at, column in enumerate(columns):
            x = _NAMES + at * _CELL_W + _CELL_W / 2
            cells.append(f'<text class="small" x="{x}" y="22" text-anchor="middle">{escape(column)}</text>')
        for down, row in enumerate(rows):
            y = 30 + down * _CELL_H
            cells.append(f'<text x="{_NAMES - 10}" y="{y + 18}" text-anchor="end">{escape(row.name)}</text>')
            for at, (text, good) in enumerate(row.cells):
                x = _NAMES + at * _CELL_W
                cells.append(
                    f'<rect class="cell {"yes" if good else "no"}" x="{x}" y="{y}" '
                    f'width="{_CELL_W}" height="{_CELL_H}"/>'
                    f'<text class="{"head" if good else "small"}" x="{x + _CELL_W / 2}" y="{y + 18}" '
                    f'text-anchor="middle">{escape(text)}</text>'
                )
        place = f"{20 + number % 2 * block_w} {34 + number // 2 * block_h}"
        body.append(f'<g transform="translate({place})">{"".join(cells)}</g>')
    across, down = min(2, len(blocks)), -(-len(blocks) // 2)
    return _svg(title, description, 20 + across * block_w, 10 + down * block_h, "\n".join(body))


def _svg(title: str, description: str, width: float, height: float, body: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-labelledby="title desc">\n'
        f'<title id="title">{escape(title)}</title>\n<desc id="desc">{escape(description)}</desc>\n'
        f"<style>{_STYLE}</style>\n{body}\n</svg>\n"
    )
