"""The map of the town: borders that stay together, nothing by colour alone, light, and hidden where the list speaks."""

from __future__ import annotations

import gzip
import json
import random
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import cos, dist, pi, radians, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given as tried
from hypothesis import settings
from hypothesis import strategies as st
from murmure_dashboards import citymap, maker_home
from murmure_dashboards.citymap import FINE, GRID, Area, Cell, Ground, Ring, draw, ground, parse, simplified
from murmure_dashboards.config import City
from murmure_dashboards.maker import Build
from murmure_dashboards.opendata import ANNOTATIONS
from murmure_privacy.errors import ConfigError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WEST, SOUTH, EAST, NORTH = 2.2, 48.8, 2.35, 48.9
BORDERS = (Path(__file__).parent / "quartiers.geojson").read_bytes()
SLUGS = ("centre", "gare", "parc")
OWN_CHECKS = (Path(__file__).parent / "own_checks.js").read_text(encoding="utf-8")
LEAST = {"text": 4.5, "graphic": 3.0, "target": 24}
ROUNDING = sqrt(2) / 2 * (1 + 1 / FINE)
Place = tuple[float, float]


def town(across: int, down: int, corners: int, rough: float, seed: int, pond: bool = False) -> list[Area]:
    """Returns neighbourhoods that fill a rectangle: inside it their borders wander, shared position by position, by
    `rough` of a cell. `pond`: the first one surrounds one more."""
    draw_from = random.Random(seed)
    wide, tall = (EAST - WEST) / across, (NORTH - SOUTH) / down

    def node(column: int, row: int) -> Place:
        away = [draw_from.uniform(-0.2, 0.2) for _ in range(2)]
        return (
            WEST + wide * (column + (away[0] if 0 < column < across else 0)),
            SOUTH + tall * (row + (away[1] if 0 < row < down else 0)),
        )

    nodes = {(column, row): node(column, row) for column in range(across + 1) for row in range(down + 1)}
    known: dict[tuple[tuple[int, int], tuple[int, int]], list[Place]] = {}

    def border(one: tuple[int, int], other: tuple[int, int]) -> list[Place]:
        if (other, one) in known:
            return known[other, one][::-1]
        (ax, ay), (bx, by) = nodes[one], nodes[other]
        outside = (one[0] == other[0] and one[0] in (0, across)) or (one[1] == other[1] and one[1] in (0, down))
        far = 0.0 if outside else rough
        between = [
            (
                ax + (bx - ax) * step / corners + draw_from.uniform(-far, far) * wide,
                ay + (by - ay) * step / corners + draw_from.uniform(-far, far) * tall,
            )
            for step in range(1, corners)
        ]
        known[one, other] = [nodes[one], *between, nodes[other]]
        return known[one, other]

    areas = []
    for column in range(across):
        for row in range(down):
            at = [(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1), (column, row)]
            ring = [place for one, other in pairwise(at) for place in border(one, other)[:-1]]
            areas.append(Area(f"q{column}-{row}", (tuple(ring),)))
    if pond:
        shore = tuple(
            (WEST + wide * x / 10, SOUTH + tall * y / 10) for x, y in ((4, 4), (6, 4), (6, 6), (5, 7), (4, 6))
        )
        areas[0] = replace(areas[0], rings=(*areas[0].rings, shore[::-1]))
        areas.append(Area("pond", (shore,)))
    return areas


towns = st.builds(
    town,
    across=st.integers(1, 5),
    down=st.integers(1, 5),
    corners=st.integers(1, 12),
    rough=st.floats(0.0, 0.06),
    seed=st.integers(0, 10_000),
    pond=st.booleans(),
)
Maker = Callable[[Ground, float], Mapping[str, Sequence[Ring]]]


def faults(areas: Sequence[Area], tolerance: float, make: Maker = simplified) -> Iterator[str]:
    """Yields what is wrong with the simple borders of a town that fills a rectangle."""
    of = ground(areas)
    made = make(of, tolerance)
    sides: Counter[frozenset[tuple[int, int]]] = Counter()
    for area in areas:
        rings = made[area.slug]
        for ring in rings:
            if len(set(ring)) < 3 or any(one == other for one, other in pairwise((*ring, ring[0]))):
                yield f"{area.slug}: a ring has no ground"
            if any(not (0 <= x <= of.width and 0 <= y <= of.height) for x, y in ring):
                yield f"{area.slug}: outside the box"
            sides.update(frozenset(side) for side in pairwise((*ring, ring[0])))
        exact = [list(projected(ring, of)) for ring in area.rings]
        before, after = abs(shoelace(exact[0])), abs(shoelace(rings[0])) if rings else 0.0
        around = sum(dist(one, other) for one, other in pairwise((*exact[0], exact[0][0])))
        moved = tolerance + ROUNDING
        if abs(after - before) > 2 * moved * around + pi * moved**2:
            yield f"{area.slug}: {before:.0f} became {after:.0f}"
    for side, times in sides.items():
        along = [axis for axis, far in enumerate((of.width, of.height)) if {p[axis] for p in side} in ({0}, {far})]
        if times % 2 and not along:
            yield f"{sorted(side)}: a border of one side only"


def projected(ring: Sequence[Place], of: Ground) -> Iterator[Place]:
    """Yields positions of the test's rectangle in units of the picture, reckoned once more."""
    squeeze = cos(radians((SOUTH + NORTH) / 2))
    scale = GRID / max((EAST - WEST) * squeeze, NORTH - SOUTH)
    for lon, lat in ring:
        yield (lon - WEST) * squeeze * scale, (NORTH - lat) * scale


def shoelace(ring: Sequence[tuple[float, float]]) -> float:
    return sum(ax * by - bx * ay for (ax, ay), (bx, by) in pairwise((*ring, ring[0]))) / 2


@settings(max_examples=40, deadline=None)
@tried(areas=towns, tolerance=st.sampled_from(citymap.TOLERANCES[:6]))
def test_simple_borders_are_closed_shared_inside_and_about_as_large(areas: list[Area], tolerance: float) -> None:
    """Whatever the town: every ring has ground, neighbours have the very same border, nothing leaves the box, and no
    area changes by more than its border may move."""
    assert list(faults(areas, tolerance)) == []


def alone(of: Ground, tolerance: float) -> Mapping[str, Sequence[Ring]]:
    """Simplifies each ring by itself, as if nobody lived next door."""
    whole = simplified(of, 0)
    return {
        slug: [
            tuple(p for p, weight in zip(ring, citymap._weights(ring), strict=True) if weight > tolerance)
            for ring in rings
        ]
        for slug, rings in whole.items()
    }


def shifted(of: Ground, tolerance: float) -> Mapping[str, Sequence[Ring]]:
    made = simplified(of, tolerance)
    return {slug: [tuple((x + 9, y) for x, y in ring) for ring in rings] for slug, rings in made.items()}


def cut(of: Ground, tolerance: float) -> Mapping[str, Sequence[Ring]]:
    return {slug: [ring[:3] for ring in rings] for slug, rings in simplified(of, tolerance).items()}


def opened(of: Ground, tolerance: float) -> Mapping[str, Sequence[Ring]]:
    return {slug: [ring[:2] for ring in rings] for slug, rings in simplified(of, tolerance).items()}


@pytest.mark.parametrize(
    ("broken", "said"),
    [(alone, "a border of one side"), (shifted, "outside the box"), (cut, "became"), (opened, "has no ground")],
)
def test_broken_borders_are_found(broken: Maker, said: str) -> None:
    """Each fault that the rule above is about is seen when it is there."""
    assert any(said in one for one in faults(town(4, 3, 9, 0.06, 7), 3.0, broken))


@settings(max_examples=15, deadline=None)
@tried(areas=towns)
def test_winding_changes_nothing(areas: list[Area]) -> None:
    """Files written before RFC 7946 wind as they like: the ground is the same."""
    turned = [replace(area, rings=tuple(ring[::-1] for ring in area.rings)) for area in areas]

    def sides(of: Sequence[Area]) -> Counter[frozenset[tuple[int, int]]]:
        made = simplified(ground(of), 2.0)
        return Counter(frozenset(s) for rings in made.values() for r in rings for s in pairwise((*r, r[0])))

    assert sides(areas) == sides(turned)


def test_positions_that_nearly_meet_do_meet() -> None:
    """Two exports of one border differ in the last decimals: no gap opens between them."""
    one, other = town(2, 1, 12, 0.05, 3)
    near = replace(other, rings=(tuple((lon + 1e-9, lat - 1e-9) for lon, lat in other.rings[0]),))
    assert [fault for fault in faults([one, near], 2.0) if "one side" in fault] == []


# What is edited in the borders of the town, where the fault is said to be, and how it is mended.
WRONG = [
    ('"FeatureCollection"', '"Topology"', "type", 'write {"type": "FeatureCollection"'),
    ('"Feature"', '"Thing"', "features 1: type", 'write "Feature"'),
    ('"gare"', '"garre"', "features 2: properties.slug", "write one of centre, gare, parc"),
    ('"gare"', '"centre"', "features 2: properties.slug", "join its parts into one MultiPolygon"),
    ('"gare"', "7", "features 2: properties.slug", "write one of"),
    ('"Polygon"', '"Point"', "features 1: geometry.type", "write Polygon or MultiPolygon"),
    (", [-1.56, 47.21]]]", "]]", "features 1: geometry.coordinates", "end it with its first position"),
    ("[-1.56, 47.21]", '[-1.56, "47.21"]', "features 1: geometry.coordinates", "write [longitude, latitude]"),
    ("[-1.56, 47.21]", "[-1.56]", "features 1: geometry.coordinates", "write [longitude, latitude]"),
    ("[-1.56, 47.21]", "[-1.56, true]", "features 1: geometry.coordinates", "write [longitude, latitude]"),
    ("[-1.56, 47.21]", "[355577.1, 6689322.4]", "features 1: geometry.coordinates", "export in degrees of WGS 84"),
    ("[-1.56, 47.21]", "[NaN, 47.21]", "features 1: geometry.coordinates", "export in degrees of WGS 84"),
    ("[-1.56, 47.21]", "[1e999, 47.21]", "features 1: geometry.coordinates", "export in degrees of WGS 84"),
    ("[[[-1.56", "[[-1.56", "file", "export it as GeoJSON"),
    ('"features": [', '"features": 7, "x": [', "type", "write {"),
]


@pytest.mark.parametrize(("old", "new", "key", "mend"), WRONG)
def test_wrong_borders_are_refused_in_one_line(old: str, new: str, key: str, mend: str) -> None:
    """File, place and mend, never a traceback; borders in metres are told from degrees."""
    text = BORDERS.decode()
    assert old in text
    with pytest.raises(ConfigError) as caught:
        parse(text.replace(old, new, 1).encode(), "quartiers.geojson", SLUGS)
    assert (caught.value.file, caught.value.key) == ("quartiers.geojson", key)
    assert caught.value.mend.startswith(mend)
    assert "\n" not in str(caught.value)


def test_every_neighbourhood_is_on_the_map() -> None:
    """One that has no borders is named; bytes that are no text, depth without end and a huge file are refused."""
    with pytest.raises(ConfigError, match="'lac' has no borders"):
        parse(BORDERS, "b", (*SLUGS, "lac"))
    for data in (b"\xff\xfe", b"[" * 100_000, b"7", b" " * (citymap.MOST_FILE_OCTETS + 1)):
        with pytest.raises(ConfigError):
            parse(data, "b", SLUGS)


def test_holes_and_parts_are_ground_or_not(tmp_path: Path) -> None:
    """A MultiPolygon has all its parts; what lies in a hole is outside: no label stands there."""
    square = [[0.0, 0.0], [3.0, 0.0], [3.0, 3.0], [0.0, 3.0], [0.0, 0.0]]
    hole = [[0.2, 0.2], [0.2, 2.8], [2.8, 2.8], [2.8, 0.2], [0.2, 0.2]]
    geometry = {"type": "MultiPolygon", "coordinates": [[square, hole], [[[x + 5, y] for x, y in square]]]}
    told = {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "properties": {"slug": "a"}, "geometry": geometry}],
    }
    (tmp_path / "borders.geojson").write_text(json.dumps(told))
    areas = citymap.load(tmp_path / "borders.geojson", ["a"])
    assert [len(ring) for ring in areas[0].rings] == [4, 4, 4]
    svg = draw(areas, [Cell("a", "Deux", 1, "usual", "quartiers/a/")]).svg
    assert svg.count("z") == 3 and 'fill-rule="evenodd"' in svg
    place = re.search(r'<text [^>]*x="(\d+)"', svg)
    assert place and int(place[1]) > GRID * 5 / 8, "the ring of 0.2 around the hole has no room, the second part has"
    with pytest.raises(ConfigError, match="No such file"):
        citymap.load(tmp_path / "none.geojson", ["a"])


def cells(areas: Sequence[Area]) -> list[Cell]:
    names = [f"Quartier {number}" for number in range(1, len(areas) + 1)]
    return [
        Cell(area.slug, name, number, citymap.STATES[number % 5], f"quartiers/{area.slug}/")
        for number, (area, name) in enumerate(zip(areas, names, strict=True), 1)
    ]


def letters(svg: str) -> str:
    """Returns a picture with its letters as a browser has them, which takes CDATA in SVG for text."""
    return re.sub(r"<!\[CDATA\[(.*?)]]>", r"\1", svg)


def test_every_state_has_a_pattern_or_none_and_a_sign_of_its_own() -> None:
    """Who sees no colour reads the sign in the cell and the pattern under it; only what is not measured is hatched."""
    areas = town(5, 1, 4, 0.02, 1)
    svg = draw(areas, cells(areas)).svg
    fills = re.findall(r'<g class="(\w+)"(?: fill="url\(#map-(\w+)\)")? fill-rule', svg)
    assert sorted(fills) == sorted((state, "" if state == "usual" else state) for state in citymap.STATES)
    patterns = re.findall(r"<pattern [^>]*>(.*?)</pattern>", svg)
    assert len(set(patterns)) == len(patterns) == 4
    assert len({citymap.sign(state) for state in citymap.STATES}) == 5
    assert sorted(re.findall(r">(\d)([^]]?)<", letters(svg))) == [
        ("1", "−"),
        ("2", "="),
        ("3", "?"),
        ("4", ""),
        ("5", "+"),
    ]
    assert not re.search(r"(?:fill|stroke)=\"(?!url)|style=", svg), "colours are the sheet's, for both themes and paper"


def test_small_towns_show_names_and_large_ones_the_numbers_of_the_list() -> None:
    """Names where each of them fits for a telephone, else numbers everywhere: never a mixture."""
    few = town(2, 1, 4, 0.02, 1)
    drawn = draw(few, cells(few))
    assert not drawn.numbered and letters(drawn.svg).count(">Quartier ") == 2
    many = town(8, 8, 6, 0.03, 1)
    drawn = draw(many, cells(many))
    assert drawn.numbered and "Quartier" not in drawn.svg
    assert len(re.findall(r"<text [^>]*>\d+", letters(drawn.svg))) == 64


def test_names_with_markup_are_inert() -> None:
    """A name or an address of a town is text."""
    areas = town(1, 1, 1, 0, 1)
    svg = draw(areas, [Cell("q0-0", '<b>"&', 1, "more", 'x" onclick="y')]).svg
    assert "&lt;b&gt;&quot;&amp;</text>" in svg and 'href="x&quot; onclick=&quot;y"' in svg
    for name in ("x]]><script>", "]]&gt;", "<![CDATA[", "a]]>b"):
        assert "CDATA" not in draw(areas, [Cell("q0-0", name, 1, "none", "q/")]).svg.replace("&lt;![CDATA[", "")


@pytest.mark.w3m
def test_a_text_browser_leaves_out_the_letters_of_a_picture() -> None:
    """The list says the same in order; letters without their places would be one long word."""
    areas = town(5, 1, 4, 0.02, 1)
    names = ["L'Île-d'Yeu", 'Le "Port"', "Saint-Jean", "Œuvres", "a<b & c"]
    few = [replace(cell, name=name, state="more") for cell, name in zip(cells(areas), names, strict=True)]
    for drawn in (draw(areas, few), draw(areas, cells(areas))):
        page = f"<p>avant</p><figure>{drawn.svg}</figure><p>après</p>"
        command = ["w3m", "-dump", "-T", "text/html", "-I", "UTF-8", "-O", "UTF-8"]
        shown = subprocess.run(
            command, input=page.encode(), capture_output=True, check=True, timeout=60
        ).stdout.decode()
        assert shown.split() == ["avant", *(["a<b", "&", "c"] if "a&lt;b" in drawn.svg else []), "après"]


@pytest.fixture(scope="module")
def large(city: City) -> City:
    """Five hundred neighbourhoods, of which every tenth has the sensors of the town's square."""
    areas = town(25, 20, 14, 0.03, 4)
    return replace(
        city,
        quartier=tuple(replace(city.quartier[0], slug=a.slug, name=f"Quartier {n}") for n, a in enumerate(areas, 1)),
        site=tuple(replace(city.site[0], quartier=area.slug) for area in areas[::10]),
        request=(),
        geojson=tuple(areas),
    )


@pytest.fixture(scope="module")
def pages(given: Callable[..., Build], archive: Any, large: City) -> dict[str, str]:
    """The home pages of the large town."""
    ctx = replace(given(archive, large), octets={ANNOTATIONS: 99})
    return {path: page.decode() for path, page in maker_home.files(ctx)}


def test_five_hundred_neighbourhoods_are_light(pages: dict[str, str], large: City) -> None:
    """The picture has at most 35 KB, each page 30 KB compressed and 430 elements beside the picture."""
    svg = re.findall(r'<svg class="map".*?</svg>', pages["index.html"])
    assert len(svg) == 1 and len(svg[0].encode()) <= citymap.MOST_OCTETS
    assert len(re.findall(r"M\d", svg[0].partition("</defs>")[2])) == 500
    for page in pages.values():
        assert len(gzip.compress(page.encode())) <= 30_000
        assert len(re.findall(r"<\w", re.sub(r"(?s)<svg.*?</svg>", "<svg", page))) <= 430
    french = [page for path, page in sorted(pages.items()) if not path.startswith("en/")]
    assert [page.count("<svg") for page in french] == [1, 0, 0, 0], "the map stands above the first page of the list"
    for place, quartier in enumerate(large.quartier, 1):
        found = [page for page in french if f'{place}. <a href="' in page and f">{quartier.name}</a>" in page]
        assert len(found) == 1, "each once, with the number that the map shows"


def test_the_list_says_what_the_map_shows(site: Path, city: City) -> None:
    """Signs of the map are explained in words with how many neighbourhoods have them; every cell has its line."""
    text = (site / "index.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    assert text.index("<figcaption>") < text.index('<svg class="map"') < text.index('<ul class="quartiers">')
    said = dict(re.findall(r'<li class="of-(\w+)"><span aria-hidden="true">[^<]*</span> ([^<]*)</li>', text))
    assert said == {
        "cannot": "on ne peut pas conclure : 2 quartiers",
        "none": "pas de mesure : 1 quartier (pas encore de capteur)",
    }
    assert text.count('" tabindex="-1"><path') == len(city.quartier)
    assert 'aria-hidden="true" focusable="false"' in text


def test_the_home_page_says_when_the_next_figures_come(site: Path) -> None:
    """At the end of the shortest period that a rule has."""
    text = (site / "index.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    assert "page écrite à 15 h 15. Les prochains chiffres sont attendus après 15 h 30, si" in text


@pytest.mark.browser
def test_the_keyboard_meets_each_neighbourhood_once(browser: Browser, address: str) -> None:
    """Tab goes through the list, not through the map; a click into a cell opens its page."""
    page = browser.new_page(bypass_csp=True)
    page.goto(f"{address}/")
    met: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        at = page.evaluate("document.activeElement.getAttribute('href')")
        if at is None:
            break
        met.append(at)
    assert sorted(one for one in met if "quartiers/" in one and one.count("/") < 4) == [
        f"./quartiers/{slug}/" for slug in SLUGS
    ]
    page.add_style_tag(content=".map text { fill: #aaa }")
    assert any("faint text" in one for one in page.evaluate(OWN_CHECKS, LEAST)), "letters that are lost in their halo"
    page.click(".map .cannot a >> nth=1", position={"x": 20, "y": 20})
    assert page.url == f"{address}/quartiers/gare/"
    page.context.close()
