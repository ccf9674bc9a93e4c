"""The town as a picture: its borders from GeoJSON (RFC 7946), made simple together so that neighbours do not gape.

Positions are put on a fine grid of whole numbers (equirectangular projection, north up), so that what nearly meets does
meet. A border that two neighbourhoods share is one arc between two junctions; each arc is simplified once
(Douglas and Peucker) and used from both sides. The picture is hidden from screen readers and from the keyboard: the
list beside it says all that it shows, and leads to the same pages. Text browsers leave its letters out, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise
from math import cos, hypot, inf, radians
from pathlib import Path
from typing import Any, NoReturn

from murmure_privacy.errors import ConfigError

GRID, FINE = 1000, 8
"""The longer side of the picture in its own units, and how many steps of the fine grid are one of them."""
MOST_OCTETS = 35_000
MOST_FILE_OCTETS = 64 << 20
MOST_LINKS = 150  # with more, the list alone leads to the pages: addresses would weigh more than borders
TOLERANCES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0, 21.0)
"""How far a border may move to become simpler, in units of the grid: the first with which the picture is light."""
BIG = 43
_SIZES: Mapping[str, int] = {"big": BIG, "mid": 26, "fine": 15}
"""Heights of letters in units of the grid, as the sheet has them: the first can be read on a telephone, the others are
shown where the picture is wider, and there the sheet makes the first no larger than is pleasant."""
_LABEL_OCTETS, _LINK_OCTETS, _FRAME_OCTETS = 48, 60, 1200
_MOST = 0.75  # of the cells have room for letters that are worth having
_ROWS = 12  # heights at which room for a text is looked for
_LETTER, _LINE = 0.62, 1.1  # width of a letter, on average, and height of a line, in heights of a letter
_SIGNS: Mapping[str, str] = {"more": "+", "less": "\u2212", "usual": "=", "cannot": "?", "none": ""}
STATES = tuple(_SIGNS)
"""What a neighbourhood may be: a figure higher, or lower, than usual or than a limit; all as usual; not enough known to
say; no figure at all."""
_PATTERNS: Mapping[str, tuple[int, str]] = {
    "more": (22, '<circle cx="11" cy="11" r="5"/>'),
    "less": (18, '<path d="M0,9h18"/>'),
    "cannot": (18, '<path d="M9,0v18"/>'),
    "none": (16, '<path d="M-4,4L4-4M0,16L16,0M12,20L20,12"/>'),
}

Point = tuple[int, int]
Ring = tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Area:
    """The ground of one neighbourhood. `rings`: closed lines of (longitude, latitude) in degrees, the first position
    not repeated at the end; a place is inside if it is within an odd number of them, whatever their winding."""

    slug: str
    rings: tuple[tuple[tuple[float, float], ...], ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One neighbourhood on a map. `number`: its place in the list beside it; `state`: one of STATES; `href`: leads
    to its page."""

    slug: str
    name: str
    number: int
    state: str
    href: str


@dataclass(frozen=True, slots=True)
class Map:
    """`svg` is the picture; `numbered`: whether it shows the numbers of the list instead of names."""

    svg: str
    numbered: bool


@dataclass(frozen=True, slots=True)
class _Label:
    """Lines of text around x, each at its height. `kind`: one of _SIZES, "" where the group around it says so."""

    kind: str
    x: int
    lines: Sequence[tuple[int, str]]


def load(path: Path, slugs: Sequence[str]) -> tuple[Area, ...]:
    """Returns the areas that a file describes, in the order of `slugs`. Raises ConfigError (one line)."""
    try:
        return parse(path.read_bytes(), str(path), slugs)
    except OSError as error:
        raise ConfigError(str(path), "file", error.strerror or "unreadable", "name a file that can be read") from error


def parse(data: bytes, source: str, slugs: Sequence[str]) -> tuple[Area, ...]:
    """Returns the areas in these bytes, one for each slug; `source` names the file in errors. Raises ConfigError."""

    def fail(key: str, problem: str, mend: str) -> NoReturn:
        raise ConfigError(source, key, problem, mend)

    if len(data) > MOST_FILE_OCTETS:
        fail("file", "is larger than 64 MiB", "export the borders with fewer positions")
    try:
        told = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(source, "file", f"not JSON: {error}", "export it as GeoJSON (RFC 7946) again") from error
    features = told.get("features") if isinstance(told, dict) else None
    if not isinstance(features, list) or told.get("type") != "FeatureCollection":
        fail("type", "is no FeatureCollection", 'write {"type": "FeatureCollection", "features": [...]}')
    found: dict[str, Area] = {}
    for number, feature in enumerate(features, 1):
        where = f"features {number}: "
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            fail(f"{where}type", "is no Feature", 'write "Feature"')
        properties = feature.get("properties")
        slug = properties.get("slug") if isinstance(properties, dict) else None
        if not isinstance(slug, str) or slug not in slugs:
            fail(
                f"{where}properties.slug", f"{slug!r} is no slug of a [[quartier]]", f"write one of {', '.join(slugs)}"
            )
        if slug in found:
            fail(f"{where}properties.slug", f"{slug!r} stands twice", "join its parts into one MultiPolygon")
        found[slug] = Area(slug, tuple(_rings(feature.get("geometry"), f"{where}geometry", source)))
    missing = [slug for slug in slugs if slug not in found]
    if missing:
        fail("features", f"{missing[0]!r} has no borders", "add its Feature, or leave the key geojson out of city.toml")
    return tuple(found[slug] for slug in slugs)


def _rings(geometry: Any, where: str, source: str) -> Iterator[tuple[tuple[float, float], ...]]:
    """Yields the rings of a Polygon or a MultiPolygon."""
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind not in ("Polygon", "MultiPolygon"):
        raise ConfigError(source, f"{where}.type", f"{kind!r} has no ground", "write Polygon or MultiPolygon")
    key = f"{where}.coordinates"
    polygons = geometry.get("coordinates")
    for polygon in [polygons] if kind == "Polygon" else _listed(polygons, key, source):
        for ring in _listed(polygon, key, source):
            positions = [_position(one, key, source) for one in _listed(ring, key, source)]
            if len(positions) < 4 or positions[0] != positions[-1]:
                raise ConfigError(source, key, "a ring is not closed", "end it with its first position, four at least")
            yield tuple(positions[:-1])


def _listed(value: Any, key: str, source: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ConfigError(
            source, key, f"{str(value)[:40]!r} is no list", "write rings of positions as RFC 7946 has them"
        )
    return value


def _position(value: Any, key: str, source: str) -> tuple[float, float]:
    numbers = isinstance(value, list) and 2 <= len(value) <= 4
    if not numbers or any(isinstance(one, bool) or not isinstance(one, (int, float)) for one in value):
        raise ConfigError(source, key, f"{str(value)[:40]!r} is no position", "write [longitude, latitude]")
    if not (-180 <= value[0] <= 180 and -90 <= value[1] <= 90):  # not-a-number and infinities are not within either
        problem = f"{str(value)[:40]} is not on the globe"
        raise ConfigError(source, key, problem, "export in degrees of WGS 84 (EPSG:4326), longitude first")
    return float(value[0]), float(value[1])


@dataclass(frozen=True, slots=True)
class Arc:
    """A line between two junctions, on the fine grid. `weights`: by how much the line moves without each of its points,
    the ends endlessly much."""

    points: Ring
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Ground:
    """Areas on the fine grid. `width` and `height` of the picture, one of them GRID. `arcs`: each line once; `rings`:
    those of each area, as the places of their arcs in order, `~place` for one that is walked backward."""

    width: int
    height: int
    arcs: Sequence[Arc]
    rings: Mapping[str, Sequence[Sequence[int]]]


def ground(areas: Sequence[Area]) -> Ground:
    """Returns the areas on the fine grid: an equirectangular projection that is true in the middle of the town."""
    lons = [lon for area in areas for ring in area.rings for lon, _ in ring]
    lats = [lat for area in areas for ring in area.rings for _, lat in ring]
    west, north, squeeze = min(lons), max(lats), cos(radians((min(lats) + max(lats)) / 2))
    wide, tall = (max(lons) - west) * squeeze, north - min(lats)
    scale = GRID / max(wide, tall, 1e-9)  # a town of one point is a dot

    def at(lon: float, lat: float) -> Point:
        return round((lon - west) * squeeze * scale * FINE), round((north - lat) * scale * FINE)

    rings = {area.slug: [_distinct([at(*place) for place in ring]) for ring in area.rings] for area in areas}
    ends = _junctions([ring for of_area in rings.values() for ring in of_area])
    places: dict[Ring, int] = {}

    def place(arc: Ring) -> int:
        first = min(arc, arc[::-1])
        found = places.setdefault(first, len(places))
        return found if first == arc else ~found

    made = {slug: [[place(arc) for arc in _arcs(ring, ends)] for ring in of_area] for slug, of_area in rings.items()}
    return Ground(round(wide * scale), round(tall * scale), [Arc(arc, _weights(arc)) for arc in places], made)


def simplified(of: Ground, tolerance: float) -> dict[str, list[Ring]]:
    """Returns the rings of each area with fewer corners, in units of the picture: none moves by more than `tolerance`
    and the rounding, and what two areas share they still share, corner by corner. A ring that has no ground any more
    is left out."""
    lines = [
        tuple(
            ((x + FINE // 2) // FINE, (y + FINE // 2) // FINE)
            for (x, y), weight in zip(arc.points, arc.weights, strict=True)
            if weight > tolerance * FINE
        )
        for arc in of.arcs
    ]

    def closed(ring: Sequence[int]) -> Ring:
        walked = [lines[place] if place >= 0 else lines[~place][::-1] for place in ring]
        return _distinct([point for line in walked for point in line[:-1]])

    return {slug: [made for ring in rings if len(set(made := closed(ring))) > 2] for slug, rings in of.rings.items()}


def _distinct(points: Sequence[Point]) -> Ring:
    """Returns a closed line without points that follow themselves."""
    return tuple(point for number, point in enumerate(points) if point != points[number - 1])


def _junctions(rings: Sequence[Ring]) -> set[Point]:
    """Returns the points at which arcs end: where rings that go together part."""
    beside: dict[Point, tuple[Point, Point]] = {}
    ends = set()
    for ring in rings:
        for before, point, after in zip((ring[-1:] + ring), ring, (ring[1:] + ring[:1]), strict=False):
            both = (before, after) if before < after else (after, before)
            if beside.setdefault(point, both) != both:
                ends.add(point)
    return ends


def _arcs(ring: Ring, ends: set[Point]) -> Iterator[Ring]:
    """Yields the arcs of a ring in order, each from junction to junction; one without any begins at its least point."""
    cuts = [number for number, point in enumerate(ring) if point in ends]
    if not cuts and ring:
        cuts = [ring.index(min(ring))]
    for first, last in pairwise([*cuts, *(cut + len(ring) for cut in cuts[:1])]):
        yield (ring + ring)[first : last + 1]


def _weights(arc: Ring) -> tuple[float, ...]:
    """Returns what Douglas and Peucker would keep each point of an arc for: a point has no more weight than the one at
    which its part of the arc was cut out."""
    found = [inf] * len(arc)
    parts = [(0, len(arc) - 1, inf)]
    while parts:
        first, last, most = parts.pop()
        (ax, ay), (bx, by) = arc[first], arc[last]
        dx, dy = bx - ax, by - ay
        length = dx * dx + dy * dy
        farthest, at = -1.0, 0
        for number in range(first + 1, last):
            px, py = arc[number][0] - ax, arc[number][1] - ay
            share = min(1.0, max(0.0, (px * dx + py * dy) / length)) if length else 0.0
            away = hypot(px - share * dx, py - share * dy)
            if away > farthest:
                farthest, at = away, number
        if at:
            found[at] = most = min(most, farthest)
            parts += [(first, at, most), (at, last, most)]
    return tuple(found)


def draw(areas: Sequence[Area], cells: Sequence[Cell]) -> Map:
    """Returns the map, at most MOST_OCTETS long unless the roughest borders are longer. `cells`: one for each area."""
    of = ground(areas)
    linked = len(cells) <= MOST_LINKS
    beside = _FRAME_OCTETS + sum(_LABEL_OCTETS + linked * (_LINK_OCTETS + len(cell.href)) for cell in cells)
    for tolerance in TOLERANCES:
        rings = simplified(of, tolerance)
        paths = {slug: "".join(map(_path, mine)) for slug, mine in rings.items()}
        if beside + sum(map(len, paths.values())) <= MOST_OCTETS:
            break
    numbered = not all(_room(rings[cell.slug], BIG, _lines(cell, False))[0] for cell in cells)
    labels = _labels(cells, rings, numbered)
    shapes = "".join(
        _shapes(state, [cell for cell in cells if cell.state == state], paths, labels, linked) for state in STATES
    )
    patterns = "".join(
        f'<pattern id="map-{state}" width="{side}" height="{side}" patternUnits="userSpaceOnUse">{inner}</pattern>'
        for state, (side, inner) in _PATTERNS.items()
    )
    svg = (
        f'<svg class="map" viewBox="-4 -4 {of.width + 8} {of.height + 8}" aria-hidden="true" focusable="false">'
        f"<defs>{patterns}</defs>{shapes}</svg>"
    )
    return Map(svg, numbered)


def _shapes(
    state: str, cells: Sequence[Cell], paths: Mapping[str, str], labels: Mapping[str, _Label], linked: bool
) -> str:
    """Returns the grounds and labels of the cells of a state: each a link of its own where they are few."""
    if not cells:
        return ""
    if linked:
        inner = "".join(
            f'<a href="{escape(cell.href)}" tabindex="-1"><path d="{paths[cell.slug]}"/>'
            f"{_texts(labels[cell.slug]) if cell.slug in labels else ''}</a>"
            for cell in cells
        )
    else:
        inner = f'<path d="{"".join(paths[cell.slug] for cell in cells)}"/>'
        for kind in _SIZES:
            found = [label for cell in cells if (label := labels.get(cell.slug)) and label.kind == kind]
            texts = "".join(_texts(replace(label, kind="")) for label in found)
            inner += f'<g class="{kind}">{texts}</g>' if texts else ""
    fill = f' fill="url(#map-{state})"' if state in _PATTERNS else ""
    return f'<g class="{state}"{fill} fill-rule="evenodd">{inner}</g>'


def _texts(label: _Label) -> str:
    kind = f'class="{label.kind}" ' if label.kind else ""
    return "".join(f'<text {kind}x="{label.x}" y="{y}">{_letters(line)}</text>' for y, line in label.lines)


def _labels(cells: Sequence[Cell], rings: Mapping[str, Sequence[Ring]], numbered: bool) -> dict[str, _Label]:
    """Returns the names or the numbers: in letters for which most cells have room, smaller ones in the others."""
    left = {cell.slug: _lines(cell, numbered) for cell in cells}
    found: dict[str, _Label] = {}
    for kind, letter in _SIZES.items():
        rooms = {slug: _room(rings[slug], letter, lines) for slug, lines in left.items()}
        fitting = {slug: (x, y) for slug, (fits, x, y) in rooms.items() if fits}
        if not found and letter > min(_SIZES.values()) and len(fitting) < _MOST * len(cells):
            continue
        for slug, (x, y) in fitting.items():
            lines = left.pop(slug)
            step = round(letter * _LINE)
            top = y - step * (len(lines) - 1) // 2
            found[slug] = _Label(kind, x, [(top + step * number, line) for number, line in enumerate(lines)])
    return found


def sign(state: str) -> str:
    """Returns the sign that stands for a state, "" for no figure at all."""
    return _SIGNS[state]


def _lines(cell: Cell, numbered: bool) -> tuple[str, ...]:
    """Returns what stands in a cell: its number and sign, or its name and below it the sign."""
    said = sign(cell.state)
    return (f"{cell.number}{said}",) if numbered else (cell.name, said) if said else (cell.name,)


def _letters(line: str) -> str:
    """Returns a line of a picture. In SVG a CDATA section is text; text browsers take it for a comment and leave out
    letters whose places they cannot show. A line that could end it early is escaped."""
    return escape(line) if set(line) & set("<>&[]") else f"<![CDATA[{line}]]>"


def _path(ring: Ring) -> str:
    """Returns a closed path: one absolute position, then steps, without a space before a minus sign."""
    steps = [coordinate for (ax, ay), (bx, by) in pairwise(ring) for coordinate in (bx - ax, by - ay)]
    told = "".join(str(step) if step < 0 else f" {step}" for step in steps).removeprefix(" ")
    return f"M{ring[0][0]} {ring[0][1]}l{told}z"


def _room(rings: Sequence[Ring], letter: int, lines: Sequence[str]) -> tuple[bool, int, int]:
    """Returns whether lines of text fit into an area, and the middle of the best place: wide enough, then central."""
    ys = [y for ring in rings for _, y in ring]
    top, bottom = min(ys, default=0), max(ys, default=0)
    width, middle = _LETTER * letter * max(map(len, lines)), (top + bottom) / 2
    height = letter * (1 + _LINE * (len(lines) - 1))
    best: tuple[float, float, int, int] = (-1.0, 0.0, 0, 0)
    for number in range(1, _ROWS):
        y = top + (bottom - top) * number / _ROWS
        if y - height / 2 < top or y + height / 2 > bottom:
            continue
        for left, right in _common(rings, [y - height / 2 + 0.1, y + 0.1, y + height / 2 - 0.1]):
            place = (min(right - left, width), -abs(y - middle), round((left + right) / 2), round(y))
            best = max(best, place)
    return best[0] >= width, best[2], best[3]


def _common(rings: Sequence[Ring], heights: Sequence[float]) -> list[tuple[float, float]]:
    """Returns the intervals that are inside at each of these heights."""
    found: list[tuple[float, float]] | None = None
    for y in heights:
        at = []
        for ring in rings:
            ax, ay = ring[-1]
            for bx, by in ring:
                if (ay > y) != (by > y):
                    at.append(ax + (y - ay) * (bx - ax) / (by - ay))
                ax, ay = bx, by
        at.sort()
        inside = list(zip(at[::2], at[1::2], strict=True))
        if found is None:
            found = inside
        else:
            both = ((max(a, c), min(b, d)) for a, b in found for c, d in inside)
            found = [(left, right) for left, right in both if left < right]
    return found or []
