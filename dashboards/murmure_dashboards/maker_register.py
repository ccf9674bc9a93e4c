"""The public register of the sensors, what hangs on their poles, and how to object to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from murmure_privacy.annotation import Annotation

from murmure_dashboards import qr
from murmure_dashboards.cannot import cannot
from murmure_dashboards.config import City, Sensor, Site
from murmure_dashboards.decisions import Decisions, decisions
from murmure_dashboards.left_out import LeftOut
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.pages import Link
from murmure_dashboards.paging import parts
from murmure_dashboards.pauses import Days, by_site, pauses
from murmure_dashboards.pauses import told as told_pauses
from murmure_dashboards.register import sensor_lines
from murmure_dashboards.requests import told
from murmure_dashboards.story import MOST_MARKS
from murmure_dashboards.views import StreamView
from murmure_dashboards.wording import LANGUAGES, Language, language

FOLDER, REQUESTS, FORM = "capteurs/", "demandes/", "demandes/formulaire/"
SITES_A_PAGE, REQUESTS_A_PAGE, REQUESTS_OF_A_SITE, PAUSES_OF_A_SITE = 90, 50, 10, 6
_KINDS = ("count", "level", "mean")


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the register. `french`: it is what the town wrote, and no other language has it."""

    label: str
    text: str
    french: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """What is measured at a site, of one kind: what the box makes of it, what leaves it, and by which devices, each as
    `sensor_lines` tells them and with the day when somebody last looked."""

    name: str
    computes: Sequence[Entry]
    leaves: Sequence[Entry]
    devices: Sequence[tuple[str, str, str, str]]


def files(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the pages in each language."""
    held = {site.id: decisions(ctx.archive, ctx.rules, site.id) for site in ctx.city.site}
    stopped = by_site(ctx.ledger)
    today = ctx.calendar.civil_day(ctx.now_s - 1)
    for code in LANGUAGES:
        say = language(code)
        yield from _list(ctx, say, held)
        yield _form(ctx, say)
        yield from _requests(ctx, say, today)
    for site in ctx.city.site:
        paused = stopped.get(site.id, {})
        of = _made_of(ctx, site, paused, today)
        yield from ctx.unless_kept(f"register {site.id}", of, _of_site(ctx, site, held[site.id], paused, today))


def _of_site(ctx: Build, site: Site, held: Decisions, stopped: Days, today: date) -> Iterator[tuple[str, bytes]]:
    for code in LANGUAGES:
        yield from _site(ctx, language(code), site, held, stopped, today)


def _made_of(ctx: Build, site: Site, stopped: Days, today: date) -> Mapping[str, object]:
    """Returns all that the pages of a site follow from, by name."""
    return {
        "dates": (today, ctx.calendar.civil_day(ctx.now_s)),
        "streams": _streams(ctx, site),
        "policies": [policy.hash for policy in ctx.policies(site.id)],
        "rules": [ctx.glance(site, info).rule for info in ctx.streams_of(site.id)],
        "paused": stopped,
        "marks": _marks(ctx, site),
    }


MAKER = Maker(files, (Link("register.link", FOLDER), Link("request.link", REQUESTS)))


def short_address(city: City, site: Site) -> str:
    """Returns the address that stands on a pole, "" where the town has not told its own."""
    return city.address and f"{city.address}{short_path(site)}"


def short_path(site: Site) -> str:
    """Returns the shortest path of a site below the root."""
    return f"c/{site.code}/" if site.code else f"{FOLDER}{site.id}/"


def _said(address: str) -> str:
    """Returns an address as people read and type it."""
    return address.partition("://")[2]


def _list(ctx: Build, say: Language, held: dict[str, Decisions]) -> Iterator[tuple[str, bytes]]:
    quartiers = {quartier.slug: quartier.name for quartier in ctx.city.quartier}
    sites = [site for quartier in ctx.city.quartier for site in ctx.city.sites_of(quartier.slug)]
    for part in parts(FOLDER, sites, SITES_A_PAGE):
        lines = []
        for site in part.items:
            all_streams = _streams(ctx, site)
            left = _left(ctx, site)
            streams = {
                stream: quantity for stream, quantity in all_streams.items() if stream not in left
            } or all_streams
            names = _named(say, streams)
            paused = held[site.id].paused(list(streams))
            state = "none" if not names else "paused" if len(paused) == len(streams) else "measures"
            state = "left" if names and left.keys() == all_streams.keys() else state
            lines.append((site, quartiers[site.quartier], say(f"register.{state}", what=say("key.listed").join(names))))
        yield ctx.page(
            "register.html",
            say,
            part.path,
            title=say("register.page_title", city=ctx.city.city) + _numbered(say, part.number, part.of),
            part=part,
            lines=lines,
            form=FORM,
            requests=REQUESTS,
        )


def _site(
    ctx: Build, say: Language, site: Site, held: Decisions, stopped: Days, today: date
) -> Iterator[tuple[str, bytes]]:
    streams, left = _streams(ctx, site), _left(ctx, site)
    published = {stream: quantity for stream, quantity in streams.items() if stream not in left}
    newest = held.in_force(today)
    shown = ctx.shown(site.id)
    asked = [request for request in ctx.city.request if request.site == site.id]
    values = {
        "title": say("register.site_title", site=site.name, city=ctx.city.city),
        "site": site,
        "entries": _entries(say, site, held, today),
        "never": " ".join(
            say(f"sign.never_{kind}")
            for kind in ("level", "count", "mean")
            if any(view.quantity.kind == kind for view in shown)
        ),
        "measured": _measured(ctx, say, site, shown),
        "paused": [
            (say(f"quantity.{streams[stream]}"), policy.version, say.typeset(policy.decision))
            for stream in streams
            if (policy := held.pausing(stream)) and stream not in left
        ],
        "left": [
            (
                say(f"quantity.{streams[stream]}"),
                say.civil(one.policy.valid_from),
                one.policy.version,
                say.typeset(one.policy.decision),
            )
            for stream, one in left.items()
        ],
        "faults": _faults(ctx, say, site),
        "pauses": told_pauses(say, pauses(stopped, held), streams, PAUSES_OF_A_SITE),
        "over": say.civil(newest.valid_until) if newest and newest.valid_until < today else "",
        "cannot": cannot(say, shown),
        "requests": told(say, ctx.city, asked, today)[:REQUESTS_OF_A_SITE],
        "all_requests": REQUESTS,
        "form": FORM,
        "sign": f"{FOLDER}{site.id}/affiche/",
        "privacy": f"vie-privee/{site.id}/",
        "short": _said(short_address(ctx.city, site)) if site.code else "",
    }
    yield ctx.page("sensor.html", say, f"{FOLDER}{site.id}/", **values)
    if site.code:
        yield ctx.page("sensor.html", say, short_path(site), **values)
    address = short_address(ctx.city, site)
    yield ctx.page(
        "sign.html",
        say,
        f"{FOLDER}{site.id}/affiche/",
        title=say("sign.page_title", site=site.name, city=ctx.city.city),
        site=site,
        what=say("key.listed").join(_named(say, published)),
        nothing=say("register.left", what=say("key.listed").join(_named(say, streams)))
        if streams
        else say("page.no_stream"),
        kinds=[kind for kind in _KINDS if any(view.quantity.kind == kind for view in shown)],
        until=say("register.no_end") if site.until is None else say.civil(site.until),
        address=_said(address),
        code=qr.code(address) if address else None,
        qr_text=say("sign.qr_text", address=_said(address), side=qr.code(address).side - 2 * qr.QUIET)
        if address
        else "",
    )


def _left(ctx: Build, site: Site) -> Mapping[str, LeftOut]:
    """Returns the streams of a site that the policy in force leaves out today."""
    return {
        info.stream: one
        for info in ctx.streams_of(site.id)
        for one in ctx.days.decided(info).left
        if one.holds(ctx.today)
    }


def _marks(ctx: Build, site: Site) -> list[Annotation]:
    """Returns what stewards marked as faulty at a site, whenever that was, the newest first."""
    return sorted((mark for mark in ctx.marks if mark.site == site.id), key=lambda mark: mark.to_s, reverse=True)


def _faults(ctx: Build, say: Language, site: Site) -> list[str]:
    """Returns the same in words, a sentence each, and how many of them have no room here."""
    zone, streams, marks = ctx.calendar.zone, _streams(ctx, site), _marks(ctx, site)
    told = [
        say(
            "register.faulty",
            what=say(f"quantity.{streams[mark.stream]}") if mark.stream in streams else mark.stream,
            first=say.date(mark.from_s, zone),
            start=say.clock(mark.from_s, zone),
            last=say.date(mark.to_s, zone),
            end=say.clock(mark.to_s, zone),
            cause=say(f"cause.{mark.cause}"),
        )
        for mark in marks[:MOST_MARKS]
    ]
    left_out = len(marks) - MOST_MARKS
    return [*told, *([say.counted("faulty.others", left_out, number=left_out)] if left_out > 0 else [])]


def _entries(say: Language, site: Site, held: Decisions, today: date) -> list[Entry]:
    english = say.code == "en" and bool(site.purpose_en)
    lines = [
        Entry("purpose", site.purpose_en if english else site.purpose, not english),
        Entry("owner", site.owner, True),
        Entry("street", site.street, True),
        Entry("legal_basis", site.legal_basis, True),
    ]
    policy = held.in_force(today)
    if policy is not None:
        lines.append(Entry("decision", policy.decision, True))
        lines.append(
            Entry(
                "rule",
                say(
                    "register.rule_of",
                    version=policy.version,
                    first=say.civil(policy.valid_from),
                    last=say.civil(policy.valid_until),
                ),
            )
        )
    if site.installed is not None:
        lines.append(Entry("installed", say.civil(site.installed)))
    lines.append(Entry("until", say("register.no_end") if site.until is None else say.civil(site.until)))
    lines.append(Entry("contact", site.contact))
    return [
        Entry(say(f"register.{line.label}"), say.typeset(line.text), line.french and say.code != "fr")
        for line in lines
        if line.text
    ]


def _measured(ctx: Build, say: Language, site: Site, shown: Sequence[StreamView]) -> list[Measured]:
    """Returns what is measured, kind by kind; then devices of the register that have sent nothing yet."""
    kinds = {view.stream: view.quantity.kind for view in shown}
    found = []
    for kind in _KINDS:
        mine = [view for view in shown if view.quantity.kind == kind]
        if not mine:
            continue
        devices = [sensor for sensor in site.sensor if kinds.get(sensor.stream) == kind]
        name = say("key.listed").join(say(f"quantity.{view.quantity.name}") for view in mine)
        found.append(_of_kind(ctx, say, name, kind, devices, shown))
    silent = [sensor for sensor in site.sensor if sensor.stream not in kinds]
    if silent:
        found.append(_of_kind(ctx, say, say("sensor.silent"), "", silent, shown))
    return found


def _of_kind(
    ctx: Build, say: Language, name: str, kind: str, devices: Sequence[Sensor], shown: Sequence[StreamView]
) -> Measured:
    def texts(said: str) -> list[Entry]:
        written = dict.fromkeys(getattr(sensor, said) for sensor in devices if getattr(sensor, said))
        if written or not kind:
            return [Entry(say(f"sensor.{said}"), say.typeset(text), say.code != "fr") for text in written]
        return [Entry(say(f"sensor.{said}"), say(f"sensor.{said}_{kind}"))]

    zone = ctx.calendar.zone
    lines = []
    for sensor in devices:
        line, method, drift = sensor_lines(say, sensor, shown, zone, ctx.now_s)
        looked = say("sensor.checked", date=say.civil(sensor.checked)) if sensor.checked else ""
        lines.append((line, method, drift, looked))
    return Measured(name, texts("computes"), texts("leaves"), lines)


def _form(ctx: Build, say: Language) -> tuple[str, bytes]:
    days = ctx.city.answer_days
    return ctx.page(
        "form.html",
        say,
        FORM,
        title=say("form.page_title", city=ctx.city.city),
        # Signs print the short address of a place, with its code, where the town has told its own address.
        place=say(
            "form.place" if ctx.city.address and any(site.code for site in ctx.city.site) else "form.place_alone"
        ),
        deadline=say("form.deadline", days=say.number(days)) if days is not None else say("form.no_deadline"),
        requests=REQUESTS,
    )


def _requests(ctx: Build, say: Language, today: date) -> Iterator[tuple[str, bytes]]:
    days = ctx.city.answer_days
    for part in parts(REQUESTS, told(say, ctx.city, ctx.city.request, today), REQUESTS_A_PAGE):
        yield ctx.page(
            "requests.html",
            say,
            part.path,
            title=say("request.page_title", city=ctx.city.city) + _numbered(say, part.number, part.of),
            part=part,
            deadline=say("form.deadline", days=say.number(days)) if days is not None else say("form.no_deadline"),
            form=FORM,
        )


def _streams(ctx: Build, site: Site) -> dict[str, str]:
    return {info.stream: info.quantity for info in ctx.streams_of(site.id)}


def _named(say: Language, streams: dict[str, str]) -> list[str]:
    """Returns what streams measure, as it stands inside a sentence."""
    names = (say(f"quantity.{quantity}") for quantity in streams.values())
    return [f"{name[:1].lower()}{name[1:]}" for name in names]


def _numbered(say: Language, number: int, of: Sequence[str]) -> str:
    return say("register.numbered", number=number, of=len(of)) if number > 1 else ""
