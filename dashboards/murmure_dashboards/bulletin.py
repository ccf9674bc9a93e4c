"""The bulletin of a neighbourhood: the last day that is over, on one sheet of paper, and on two in large print."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from murmure_privacy.window import Window

from murmure_dashboards import daily, pages
from murmure_dashboards.charts import Chart
from murmure_dashboards.config import Quartier
from murmure_dashboards.daily import Said, cut
from murmure_dashboards.maker import Build
from murmure_dashboards.story import Teller
from murmure_dashboards.views import StreamView
from murmure_dashboards.wording import Language

STYLE = "static/bulletin.css"
_TABLE_ROWS = 4  # six hours each
_LONGEST_NAME, _LONGEST_HELP, _LONGEST_ADDRESS = 48, 150, 60


@dataclass(frozen=True, slots=True)
class _Sheet:
    """How high things are printed, in CSS pixels (96 an inch), rather more than less. `room` for all of it; what is
    `around` the figures, without the lines of the `title`; a `place`, a stream, its picture with the table, and what
    a faulty period adds to these; a line of text. Letters in a line of the title and in one of text."""

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


_USUAL = _Sheet(1000, 280, 32, 38, 32, 36, 142, 45, 24, 72)
_LARGE = _Sheet(1880, 560, 48, 25, 66, 60, 2000, 0, 40, 50)


@dataclass(frozen=True, slots=True)
class _Line:
    said: Said
    detail: str
    notes: str
    chart: Chart | None
    title: str
    caption: str


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
) -> tuple[str, bytes]:
    """Returns the file of a bulletin and its content. `found`: what is said of the day, `brief`: the same in short;
    `views`: the streams over it alone, by site; pictures are drawn of them where there is room. Names and texts of
    city.toml are cut to what the sheet has room for."""
    zone = ctx.calendar.zone
    charts = {} if large else _charts(ctx, say, quartier, views)
    date = say.date(day.start_s if day else ctx.today.start_s, zone)
    name, head = cut(quartier.name, _LONGEST_NAME), say("bulletin.head", date=date)
    sheet = _LARGE if large else _USUAL
    headed = sheet.title * _lines(f"{name}{head}", sheet.title_letters) + sheet.line * _lines(brief, sheet.letters)
    sheet = replace(sheet, room=sheet.room - headed)
    lines = _fitting([_line(say, one, charts.get(one.stream)) for one in found], sheet)
    places: dict[str, tuple[str, list[_Line]]] = {}
    for line in lines:
        place = cut(line.said.site.name, _LONGEST_NAME)
        places.setdefault(line.said.site.id, (place, []))[1].append(line)
    state = ""
    if day and found:
        state = say(f"bulletin.{'final' if daily.final(ctx, quartier, day) else 'provisional'}")
    path = f"quartiers/{quartier.slug}/bulletin{'-grand' if large else ''}.html"
    page = pages.filled(
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
        town=cut(ctx.city.city, _LONGEST_NAME),
        name=name,
        head=head,
        state=state,
        brief=brief,
        places=list(places.values()),
        nothing=say("page.no_stream" if ctx.city.sites_of(quartier.slug) else "page.no_site"),
        less=len(lines) < len(found),
        drawn=any(line.chart for line in lines),
        help=cut(ctx.city.help, _LONGEST_HELP),
        at=ctx.city.address.partition("//")[2].rstrip("/")[:_LONGEST_ADDRESS],
    )
    return pages.address(say.code, path), page


def _line(say: Language, one: Said, chart: Chart | None) -> _Line:
    detail = daily.without_often(say, one.detail)
    if chart is None:
        return _Line(one, detail, one.notes, None, "", "")
    counted = "counted" if one.quantity == "footfall" else "mean"
    title = chart.title.partition(f", {cut(one.site.name, _LONGEST_NAME)}, ")[0]  # place and day head the sheet
    return _Line(one, detail, one.notes, chart, title, say(f"bulletin.parts_{counted}", unit=chart.unit))


def _fitting(lines: Sequence[_Line], sheet: _Sheet) -> list[_Line]:
    """Returns what has room, the last streams losing first their pictures, then their notes, then their place. What
    becomes of a figure stands beside it in any case."""
    kept = list(lines)
    for less in ({"chart": None}, {"notes": ""}):
        for number in reversed(range(len(kept))):
            if _height(kept, sheet) <= sheet.room:
                return kept
            kept[number] = replace(kept[number], **less)
    while kept and _height(kept, sheet) > sheet.room:
        kept.pop()
    return kept


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
