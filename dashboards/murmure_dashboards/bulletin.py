"""The bulletin of a neighbourhood: the last day that is over, on one sheet of paper, and on two in large print."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from xml.etree import ElementTree

from murmure_privacy.window import Window

from murmure_dashboards import catalogue, codes, daily, pages
from murmure_dashboards.charts import HEIGHT, Chart
from murmure_dashboards.config import Quartier
from murmure_dashboards.daily import Said, cut
from murmure_dashboards.maker import Build
from murmure_dashboards.story import Teller
from murmure_dashboards.views import StreamView
from murmure_dashboards.wording import Language

STYLE = "static/bulletin.css"
_TABLE_ROWS = 4  # six hours each
_LONGEST_NAME, _LONGEST_HELP, _LONGEST_ADDRESS = 48, 150, 60
_PDF = "\ue001"  # of a private area: no text has it
_PAGES, _PAGES_LARGE = 1, 2
# A picture on paper, in CSS pixels: what is drawn, and the room around it for its labels.
_WIDE, _HIGH, _LEFT, _ABOVE, _BELOW = 330, 76, 42, 8, 16
_TEXT = 'font-family="DejaVu Sans" font-size="12"'
# Without colours: thick is the estimate, thin its two numbers, dashed what is missing.
_STROKES = {
    "grid": 'stroke-width="0.5" stroke-dasharray="1 4"',
    "gap-line": 'stroke-width="2" stroke-dasharray="3 4"',
    "band": 'stroke-width="0.75"',
    "faulty": 'stroke-width="0.75"',
    "line": 'stroke-width="2.5"',
}


@dataclass(frozen=True, slots=True)
class _Sheet:
    """How high things are printed, in CSS pixels (96 an inch), rather more than less. `room` for all of it; what is
    `around` the figures, without the lines of the `title`; a `place`, a stream, its picture with the table, and what
    a faulty period adds to these; a line of text. Letters in a line of the title, in one of
    text and in one of the foot."""

    room: int
    around: int
    title: int
    title_letters: int
    place: int
    stream: int
    picture: int
    faulty: int
    line: int
    letters: int
    foot_letters: int


_USUAL = _Sheet(1030, 296, 32, 38, 32, 36, 142, 45, 24, 72, 86)
_LARGE = _Sheet(1910, 560, 48, 25, 66, 60, 2000, 0, 40, 50, 50)


@dataclass(frozen=True, slots=True)
class _Line:
    said: Said
    detail: str
    notes: str
    chart: Chart | None
    title: str
    caption: str


def printed(code: str, quartier: Quartier, large: bool) -> str:
    """Returns where the PDF of a bulletin stands."""
    return pages.address(code, f"quartiers/{quartier.slug}/bulletin{'-grand' if large else ''}.pdf")


def style() -> bytes:
    """Returns the sheet of styles of all bulletins."""
    return pages.static("bulletin.css")


def bulletin(
    ctx: Build,
    say: Language,
    quartier: Quartier,
    day: Window | None,
    found: Sequence[Said],
    brief: str,
    views: Mapping[str, Sequence[StreamView]],
    large: bool = False,
) -> Iterator[tuple[str, bytes]]:
    """Yields the files of a bulletin and their content: the page and, where the press has it, the PDF that the page
    leads to. `found`: what is said of the day, `brief`: the same in short; `views`: the streams over it alone, by site;
    pictures are drawn of them where there is room. Names and texts of city.toml are cut to what the sheet has room for.
    """
    zone = ctx.calendar.zone
    charts = {} if large else _charts(ctx, say, quartier, views)
    date = say.date(day.start_s if day else ctx.today.start_s, zone)
    name, head = cut(quartier.name, _LONGEST_NAME), say("bulletin.head", date=date)
    sheet = _LARGE if large else _USUAL
    headed = sheet.title * _lines(f"{name}{head}", sheet.title_letters) + sheet.line * _lines(brief, sheet.letters)
    address = ctx.city.address.partition("//")[2].rstrip("/")[:_LONGEST_ADDRESS]
    at = say("bulletin.site", address=address) if address else ""
    if ctx.coded and any(one.told for one in found):
        at = say(f"codes.{'site' if address else 'paper'}", address=address, file=codes.hours_file(quartier.slug))
    more = max(0, _lines(at, sheet.foot_letters) - 1)  # there is room for one line
    sheet = replace(sheet, room=sheet.room - headed - sheet.line * more)
    whole = [_line(say, one, charts.get(one.stream)) for one in found]
    lines = next((some for some in _ever_shorter(whole) if _height(some, sheet) <= sheet.room), [])
    state = ""
    if day and found:
        state = say(f"bulletin.{'final' if daily.final(ctx, quartier, day) else 'provisional'}")
    path = f"quartiers/{quartier.slug}/bulletin{'-grand' if large else ''}.html"

    def filled(lines: Sequence[_Line], paper: bool) -> str:
        places: dict[str, tuple[str, list[_Line]]] = {}
        for line in lines:
            place = cut(line.said.site.name, _LONGEST_NAME)
            places.setdefault(line.said.site.id, (place, []))[1].append(line)
        return pages.unweighed(
            "bulletin.html",
            say,
            path,
            ctx.city,
            links=ctx.links,
            title=say(
                f"bulletin.title{'_large' if large else ''}",
                quartier=name,
                date=date.partition(" ")[2],
            ),
            sheet=hashlib.sha256(style()).hexdigest()[:8],
            large=large,
            paper=paper,
            pdf_place=_PDF,
            picture=partial(_picture, say),
            publisher=catalogue.publisher(ctx.city),
            licence=catalogue.licence(ctx.city)[0],
            town=cut(ctx.city.city, _LONGEST_NAME),
            name=name,
            head=head,
            state=state,
            brief=brief,
            places=list(places.values()),
            nothing=_nothing(ctx, say, quartier),
            less=len(lines) < len(found),
            drawn=any(line.chart for line in lines),
            help=cut(ctx.city.help, _LONGEST_HELP),
            at=at,
        )

    page, link = filled(lines, paper=False), ""
    file = pages.address(say.code, path)
    if ctx.press:
        most = _PAGES_LARGE if large else _PAGES
        sheet_file = printed(say.code, quartier, large)
        pdf = ctx.press.sheet(
            sheet_file, page.encode(), most, lambda: (filled(some, paper=True) for some in _ever_shorter(lines))
        )
        if pdf:
            yield sheet_file, pdf
            words = say(f"bulletin.pdf{'_large' if large else ''}", size=say.size(len(pdf)))
            link = f'<a href="{sheet_file.rpartition("/")[2]}">{escape(words)}</a>\n'
    yield file, pages.weighed(page.replace(_PDF, link))


def _nothing(ctx: Build, say: Language, quartier: Quartier) -> str:
    """Returns why a sheet has no figures."""
    sites = ctx.city.sites_of(quartier.slug)
    if any(ctx.streams_of(site.id) for site in sites):
        return say("long.no_day")
    return say("page.no_stream" if sites else "page.no_site")


def sheets(ctx: Build, say: Language, quartier: Quartier) -> list[tuple[str, str]]:
    """Returns the sheets of a neighbourhood that there are, each with what a link to it says."""
    found = []
    for name, key in (("bulletin", "of_day"), ("bulletin-grand", "of_day_large")):
        found.append((f"{name}.html", say(f"bulletin.{key}")))
        octets = ctx.octets.get(printed(say.code, quartier, name != "bulletin"))
        if octets is not None:
            found.append((f"{name}.pdf", say(f"bulletin.{key}_pdf", size=say.size(octets))))
    return found


def _line(say: Language, one: Said, chart: Chart | None) -> _Line:
    detail = daily.without_often(say, one.detail)
    if chart is None:
        return _Line(one, detail, one.notes, None, "", "")
    counted = "counted" if one.quantity == "footfall" else "mean"
    title = chart.title.partition(f", {cut(one.site.name, _LONGEST_NAME)}, ")[0]  # place and day head the sheet
    return _Line(one, detail, one.notes, chart, title, say(f"bulletin.parts_{counted}", unit=chart.unit))


def _ever_shorter(lines: Sequence[_Line]) -> Iterator[list[_Line]]:
    """Yields all of it, then ever less: the last streams lose first their pictures, then their notes, then their place.
    What becomes of a figure stands beside it in any case."""
    kept = list(lines)
    yield [*kept]
    for less in ({"chart": None}, {"notes": ""}):
        for number, line in reversed(list(enumerate(kept))):
            kept[number] = replace(line, **less)
            if kept[number] != line:
                yield [*kept]
    while kept:
        kept.pop()
        yield [*kept]


def _height(lines: Sequence[_Line], sheet: _Sheet) -> int:
    drawn = [line for line in lines if line.chart is not None]
    return (
        sheet.around
        + sheet.place * len({line.said.site.id for line in lines})
        + sheet.stream * len(lines)
        # The number is twice as large as its interval.
        + sheet.line * sum(_lines(f"{line.said.number * 2} {line.detail}", sheet.letters) for line in lines)
        + sheet.line * sum(_lines(line.notes, sheet.letters) for line in lines)
        + sheet.picture * len(drawn)
        + sheet.faulty * sum(line.said.faulty for line in drawn)
    )


def _lines(text: str, letters: int) -> int:
    return -(-len(text) // letters)


def _charts(
    ctx: Build, say: Language, quartier: Quartier, views: Mapping[str, Sequence[StreamView]]
) -> dict[str, Chart | None]:
    teller = Teller(say, most_rows=_TABLE_ROWS)
    of = [(site, view) for site in ctx.city.sites_of(quartier.slug) for view in views.get(site.id, ())]
    return {
        view.stream: teller.today(view, cut(site.name, _LONGEST_NAME), f"b{number}").chart
        for number, (site, view) in enumerate(of)
    }


def _picture(say: Language, chart: Chart) -> str:
    """Returns a chart for paper: as large as it is printed, with its labels in it, and all that it says as its name,
    which is all that a PDF reads out of it."""
    drawn = ElementTree.fromstring(chart.svg)
    across = _WIDE / int(drawn.attrib["viewBox"].split()[2])
    parts = [
        f'<path fill="none" stroke="#000" {stroke} d="{_moved(path.attrib["d"], across, _HIGH / HEIGHT)}"/>'
        for path in drawn.iter("path")
        if (stroke := _STROKES.get(path.attrib["class"]))
    ]
    for number, label in enumerate(chart.axis.labels):
        y = _ABOVE + _HIGH * (1 - number / chart.axis.intervals) + 4
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y:.1f}" text-anchor="end" {_TEXT}>{say.number(label.normalize())}</text>'
        )
    x, hours = float(_LEFT), sum(tick.hours for tick in chart.ticks)
    for tick in chart.ticks:
        parts.append(f'<path stroke="#000" d="M{x:.1f},{_ABOVE + _HIGH}v5"/>')
        parts.append(f'<text x="{x + 3:.1f}" y="{_ABOVE + _HIGH + 13}" {_TEXT}>{escape(tick.label)}</text>')
        x += _WIDE * tick.hours / hours
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDE}" height="{_ABOVE + _HIGH + _BELOW}">'
        f"<title>{escape(f'{chart.title} ({chart.unit}). {chart.description}')}</title>{''.join(parts)}</svg>"
    )


def _moved(path: str, across: float, down: float) -> str:
    """Returns a path of `charts` in the pixels of a picture on paper."""

    def step(found: re.Match[str]) -> str:
        kind, numbers = found[1], [float(number) for number in found[2].split(",") if number]
        if kind in "ML":
            return f"{kind}{_LEFT + numbers[0] * across:.2f},{_ABOVE + numbers[1] * down:.2f}"
        return kind + "".join(f"{number * (across if kind == 'h' else down):.2f}" for number in numbers)

    return re.sub(r"([MLhvz])([-\d.,]*)", step, path)
