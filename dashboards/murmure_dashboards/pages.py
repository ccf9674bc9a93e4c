"""The pages: templates filled with stories. The only file that knows jinja2."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, time
from importlib import resources
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined
from murmure_privacy.window import Window

from murmure_dashboards.config import City, Quartier, Sensor, Site
from murmure_dashboards.counters import UP_TO_AN_HOUR, off
from murmure_dashboards.story import MOST_MARKS, MOST_ROWS, Story, Teller
from murmure_dashboards.views import StreamView
from murmure_dashboards.wording import LANGUAGES, Language

MOST_ELEMENTS = 430
LEAST_ROWS = 2
# What a neighbourhood page is made of: around everything, a site, a stream of a day or a week, a row of a table.
_AROUND_ELEMENTS, _SITE_ELEMENTS, _DAY_ELEMENTS, _WEEK_ELEMENTS, _ROW_ELEMENTS = 57, 11, 35, 39, 3.4
_SENSOR_ELEMENTS = 3  # of the register: its line, what is old, what is not of the page's language
# Of annotations: the file of all, the legend of a marked chart; one with its paragraph, what stands out, its language.
_LINK_ELEMENTS, _MARKED_ELEMENTS, _MARK_ELEMENTS = 2, 1, 3
_HOME_ELEMENTS = 378

ANNOTATIONS = "donnees/annotations.csv"

_templates = Environment(
    loader=PackageLoader("murmure_dashboards"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


def static(name: str) -> bytes:
    """Returns a file that every page shares."""
    return resources.files("murmure_dashboards").joinpath("static", name).read_bytes()


STATIC = ("murmure.css", "murmure.svg")
OPERATIONS_STATIC = (*STATIC, "operations.css")
_STYLES = {name: hashlib.sha256(static(name)).hexdigest()[:8] for name in OPERATIONS_STATIC if name.endswith(".css")}


def address(code: str, path: str) -> str:
    """Returns the folder of a page below the site's root; French stands at the root, English under `en/`."""
    return path if code == LANGUAGES[0] else f"{code}/{path}"


def filled(template: str, say: Language, path: str, city: City, home: str = "", **values: object) -> bytes:
    """Returns the page at `path` of one language. `home`: the path of the page that the city's name leads to."""
    here = address(say.code, path)
    root = "../" * here.count("/") or "./"  # relative: the site works in any folder, also from a disk
    text = _templates.get_template(template).render(
        say=say,
        city=city,
        root=root,
        base=root + address(say.code, home),
        other=root + address(say("page.other_code"), path),
        styles=_STYLES,
        **values,
    )
    return text.encode()


def home(
    say: Language,
    city: City,
    views: Mapping[str, Sequence[StreamView]],
    day: Window,
    now_s: int,
    months: Sequence[tuple[int, str, int]],
    faults_octets: int,
) -> bytes:
    """Returns the city's page of the day. `views`: today's streams by site id. `months`: an instant of each month whose
    data the site offers, their file and its octets. `faults_octets`: those of the file of annotations."""
    zone = ZoneInfo(city.timezone)
    teller = Teller(say)
    period = "day" if now_s >= day.end_s else "so_far"
    quartiers = [
        (
            quartier,
            [
                (
                    site.name,
                    [
                        (
                            say(f"quantity.{view.quantity.name}"),
                            *teller.key(view, day, period),
                            teller.silence(view, day),
                            teller.faults(view),
                        )
                        for view in views.get(site.id, ())
                    ],
                )
                for site in city.sites_of(quartier.slug)
            ],
        )
        for quartier in city.quartier
    ]
    elements = sum(
        3 + sum(1 + sum(3 + bool(line[-1]) for line in lines) for _, lines in places) for _, places in quartiers
    )
    date = say.date(day.start_s, zone)
    return filled(
        "home.html",
        say,
        "",
        city,
        title=say("page.home_title", city=city.city, date=date),
        written=_capital(say("page.written", date=date, hour=say.clock(now_s, zone))),
        quartiers=quartiers,
        compact=elements > _HOME_ELEMENTS,
        months=[
            (path, say("page.month", month=say.month(at_s, zone), size=say.size(size))) for at_s, path, size in months
        ],
        faults=(ANNOTATIONS, say("page.faults", size=say.size(faults_octets))),
    )


def neighbourhood(
    say: Language,
    city: City,
    quartier: Quartier,
    views: Mapping[str, Sequence[StreamView]],
    window: Window,
    now_s: int,
    *,
    week: bool,
    csv: str,
    csv_octets: int,
    faults_octets: int,
) -> bytes:
    """Returns a neighbourhood's page, of one day or of a week. `views`: the window's streams by site id."""
    zone = ZoneInfo(city.timezone)
    sites = city.sites_of(quartier.slug)
    shown = [view for site in sites for view in views.get(site.id, ())]
    sensors = sum(len(site.sensor) for site in sites)
    marks = [min(MOST_MARKS, len(view.marks)) for view in shown if view.marks]
    full = _LINK_ELEMENTS + sum(_MARKED_ELEMENTS + _MARK_ELEMENTS * of_one for of_one in marks) if marks else 0
    rows, brief = table_rows(len(sites), len(shown), week, sensors, full), False
    if marks and rows < LEAST_ROWS:
        rows = table_rows(len(sites), len(shown), week, sensors, _LINK_ELEMENTS + (1 + _MARKED_ELEMENTS) * len(marks))
        brief = True
    teller = Teller(say, rows, brief)
    places: list[tuple[Site, list[Story]]] = []
    for site in sites:
        stories = []
        for view in views.get(site.id, ()):
            name = f"c{shown.index(view)}"
            stories.append((teller.week if week else teller.today)(view, site.name, name))
        places.append((site, stories))
    date = say.date(window.end_s - 1, zone)
    hour = say.clock(now_s, zone)
    if week:
        written = say("page.week_span", first=say.day(window.start_s, zone), last=date, hour=hour)
    else:
        written = _capital(say("page.written", date=date, hour=hour))
    over = now_s >= window.end_s
    return filled(
        "quartier.html",
        say,
        f"quartiers/{quartier.slug}/{'semaine/' if week else ''}",
        city,
        title=say(f"page.{'week' if week else 'today'}_title", quartier=quartier.name, date=date, city=city.city),
        quartier=quartier,
        head=say(f"page.{'week' if week else 'today'}_head"),
        week=week,
        written=written,
        state=say(f"page.{'week_' if week else ''}{'final' if over else 'provisional'}"),
        places=places,
        ends={site.id: _end(say, site, zone) for site in sites},
        sensors={site.id: [_sensor(say, sensor, shown, zone, now_s) for sensor in site.sensor] for site in sites},
        cannot=cannot(say, shown),
        promises=promises(say, [(site, view) for site in sites for view in views.get(site.id, ())]),
        csv=csv,
        csv_size=say.size(csv_octets),
        faults=(ANNOTATIONS, say("page.faults", size=say.size(faults_octets)))
        if any(story.marks for _, stories in places for story in stories)
        else None,
    )


def table_rows(sites: int, streams: int, week: bool, sensors: int = 0, marks: int = 0) -> int:
    """Returns how many rows a table may have so that the page stays within its budget of elements; the rest is in the
    CSV file. Twenty-four as long as a neighbourhood has at most three streams; beyond eight not one row fits.
    `marks`: elements that annotations take."""
    stream = _WEEK_ELEMENTS if week else _DAY_ELEMENTS
    left = (
        MOST_ELEMENTS
        - _AROUND_ELEMENTS
        - _SITE_ELEMENTS * sites
        - stream * streams
        - _SENSOR_ELEMENTS * sensors
        - marks
    )
    return max(1, min(MOST_ROWS, int(left / (_ROW_ELEMENTS * max(1, streams)))))


def cannot(say: Language, views: Sequence[StreamView]) -> list[str]:
    """Returns what the sensors on the page cannot know, one sentence each."""
    lines: list[str] = []
    for kind, keys, bounds in (
        ("count", ("footfall_who", "footfall_again", "footfall_count", "footfall_exact"), None),
        ("level", ("noise_said", "noise_source"), "noise_bounds"),
        ("mean", ("air_source", "air_indicative"), "air_bounds"),
    ):
        mine = [view for view in views if view.quantity.kind == kind]
        if not mine:
            continue
        lines += [say(f"cannot.{key}") for key in keys]
        if bounds:
            held = dict.fromkeys(
                (view.rule[1].bounds, view.rule[1].up_to, view.quantity.per_unit)
                for view in mine
                if view.rule is not None
            )
            lines += [
                say(
                    f"cannot.{bounds if up_to is None else bounds.replace('bounds', 'floor')}",
                    low=say.number(low // per_unit),
                    high=say.number(high // per_unit),
                )
                for (low, high), up_to, per_unit in held
            ]
    return [*lines, say("cannot.fault")] if lines else []


def promises(say: Language, views: Sequence[tuple[Site, StreamView]]) -> list[str]:
    """Returns, for each site, exactly what its signed policy protects and with which epsilon and delta."""
    lines: list[str] = []
    held: dict[tuple[str, int, str], list[str]] = {}
    for site, view in views:
        quantity = say(f"quantity.{view.quantity.name}")
        if view.rule is None:
            lines.append(say("promise.unknown", place=site.name, quantity=quantity))
            continue
        policy, part = view.rule
        kind, size = part.protects
        family = kind if kind == "crossings" else f"seconds_{'noise' if view.quantity.kind == 'level' else 'air'}"
        limit = None if part.up_to is None else say.number(part.up_to // view.quantity.per_unit)
        held.setdefault((site.name, policy.version, policy.decision), []).append(
            say(
                "promise.stream",
                quantity=quantity,
                unit=say.counted(f"promise.{family}", size, number=say.number(size))
                + ("" if limit is None else say(f"promise.up_to_{view.quantity.kind}", limit=limit)),
                epsilon=say.number(part.epsilon.normalize()),
                delta=say.number(part.delta.normalize()),
            )
        )
    for (place, version, decision), streams in held.items():
        said = say("key.apart").join(streams)
        lines.append(say("promise.place", place=place, version=version, decision=decision, streams=said))
    limits = dict.fromkeys(
        (view.quantity.kind, view.rule[1].up_to // view.quantity.per_unit)
        for _, view in views
        if view.rule is not None and view.rule[1].up_to is not None
    )
    return [*lines, *(say(f"promise.above_{kind}", limit=say.number(limit)) for kind, limit in limits)]


def _sensor(
    say: Language, sensor: Sensor, views: Sequence[StreamView], zone: ZoneInfo, now_s: int
) -> tuple[str, str, str]:
    """Returns what a sensor is, how far it is off by itself if it is a counter, how old its calibration, by which
    method, and a warning where it is too old."""
    what = next(
        (say(f"quantity.{view.quantity.name}") for view in views if view.stream == sensor.stream), sensor.stream
    )
    own = off(sensor.device)
    counts = ""
    if own is not None:
        street, doorway = say.share(own.street), say.share(own.doorway)
        counts = " " + say("register.off", street=street, doorway=doorway, most=say.number(UP_TO_AN_HOUR))
    if sensor.calibrated is None:
        return say("register.uncalibrated", what=what, device=sensor.device) + counts, "", ""
    today = datetime.fromtimestamp(now_s, zone).date()
    on = sensor.calibrated
    months = 12 * (today.year - on.year) + today.month - on.month - (today.day < on.day)
    if months < 1:
        age = say("register.age_fresh")
    elif months < 12:
        age = say.counted("register.age", months, number=months)
    else:
        age = say("register.age_old")
    date = say.date(int(datetime.combine(on, time(12), zone).timestamp()), zone)
    line = say("register.calibrated", what=what, device=sensor.device, date=date, age=age) + counts
    return line, say.typeset(sensor.method), say("register.drift") if months >= 12 else ""


def _end(say: Language, site: Site, zone: ZoneInfo) -> str:
    if site.until is None:
        return say("register.no_end")
    return say.date(int(datetime.combine(site.until, time(12), zone).timestamp()), zone)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
