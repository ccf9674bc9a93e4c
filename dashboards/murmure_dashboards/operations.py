"""The operators' pages: the fleet, intake and spending on one, and one of series for each site. Not for the public.

The same facts as `/metrics` and the same limits as its alerts (ingest/prometheus/alerts.yml), for a town without
Grafana. No script; drawn from the archive, which is only read.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

from murmure_ingest.archive import Archive
from murmure_ingest.archive_watch import GatewayState, Overview, StreamState, Watch
from murmure_privacy.annotation import in_force
from murmure_privacy.errors import MurmureError
from murmure_privacy.policies import Rules
from murmure_privacy.stream import QUANTITIES
from murmure_privacy.window import Calendar

from murmure_dashboards import pages
from murmure_dashboards.config import City
from murmure_dashboards.site import SiteError, beside, week_to, write
from murmure_dashboards.story import Story, Teller
from murmure_dashboards.unread import Receipts
from murmure_dashboards.views import StreamView, view
from murmure_dashboards.wording import LANGUAGES, Language, language

FOLDER = "exploitation/"
FRESH_S = 30.0
MOST_ROWS = 25
MOST_LOOKS = 12

# As in ingest/prometheus/alerts.yml; a test compares them.
SILENT_S = 2700
LATE_S = 3600
OLD_OUTBOX_S = 3600
OLD_OUTBOX_MESSAGES = 4
FULL_TANK = 0.9
ENDING_DAYS = 30
SOUND_PORTS = ("ok", "opening", "warming")

_RANK = {"quarantined": 0, "active": 1, "revoked": 2}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its text, and what is to be seen of it. `kind`: `trouble`, `words` (may wrap), both, or nothing."""

    text: str
    kind: str = ""
    share: float | None = None
    link: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A caption, the head of each column, rows of cells of which the first names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def build(archive: Archive, watch: Watch, city: City, out: Path, now_s: int) -> int:
    """Writes the pages as of `now_s` below `out`/exploitation/ and makes `out` lead to them; returns how many.

    Raises SiteError where `out` is, or lies within, a public site.
    """
    require_private(out)
    count = 0
    with beside(out, durable=False) as folder:  # it is drawn again within half a minute, or by the next command
        folder.chmod(0o750)
        receipts = Receipts(out.with_name(f"{out.name}.receipts"))
        for path, content in render(archive, watch, city, now_s, receipts):
            count += path.endswith(".html")
            write(folder / path, content)
            write(folder / f"{path}.gz", gzip.compress(content, mtime=0))
        receipts.keep()
    return count


def draw_once(archive_path: Path, city: City, out: Path, now_s: int) -> int:
    """Writes the pages of the archive in a file once, as `build` does."""
    archive = Archive.open(archive_path, read_only=True)
    try:
        return build(archive, Watch(archive), city, out, now_s)
    finally:
        archive.close()


@contextmanager
def kept_fresh(
    archive_path: Path, city: City, out: Path, now: Callable[[], int], say: Callable[[str], None]
) -> Iterator[None]:
    """Draws the pages at once, then again each half minute in a thread of its own while the block runs.

    The first time raises what is wrong; later an archive that cannot be read is said once, and tried again.
    """
    draw_once(archive_path, city, out, now())
    stop = threading.Event()

    def work() -> None:
        archive, watch, opened, said = None, None, None, ""
        while not stop.wait(FRESH_S):
            try:
                # What was opened at rest, without a centre at work, never changes for its reader; nor does a file that
                # was put aside for a restored one.
                present = archive_path.with_name(f"{archive_path.name}-wal").exists(), archive_path.stat().st_ino
                if archive is None or watch is None or opened != present:
                    if archive is not None:
                        archive.close()
                    archive = Archive.open(archive_path, read_only=True)  # of this thread
                    watch, opened = Watch(archive), present
                build(archive, watch, city, out, now())
                said = ""
            except (MurmureError, OSError) as error:
                if str(error) != said:
                    said = str(error)
                    say(f"the operators' page stays as it was: {error}")
        if archive is not None:
            archive.close()

    thread = threading.Thread(target=work, name="operations", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def require_private(out: Path) -> None:
    """Raises SiteError if whoever reads the public site could read what lies in `out`."""
    for place in {out.absolute(), out.resolve()}:
        for folder in (place, *place.parents):
            if (folder / "donnees").is_dir() and (folder / "index.html").is_file():
                raise SiteError(f"{out}: --out: {folder} is the public site; name a folder that is not served")


def render(
    archive: Archive, watch: Watch, city: City, now_s: int, receipts: Receipts | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yields every file as (path below the root, content). `receipts`: what earlier looks have seen, which learns."""
    seen = watch.look(now_s)
    unread = receipts.unread(seen) if receipts else frozenset[str]()
    calendar = Calendar(city.timezone)
    week = week_to(calendar, calendar.day(now_s - 1))
    rules = Rules(archive)
    named = {site.id: site.name for site in city.site}
    sites = {one.site for one in seen.gateways} | {one.site for one in seen.streams}
    ids = sorted(sites, key=lambda site: named.get(site, site))
    marks = in_force([one.note for one in archive.annotations() if one.note.issued_s <= now_s], now_s)
    order = list(QUANTITIES)
    shown: dict[str, list[StreamView]] = {site: [] for site in ids}
    for info in sorted(archive.streams(), key=lambda info: (order.index(info.quantity), info.stream)):
        signed = archive.policies(info.site)
        shown[info.site].append(view(archive, rules, marks, info, week, calendar, now_s, signed))
    for name in pages.OPERATIONS_STATIC:
        yield f"static/{name}", pages.static(name)
    for code in LANGUAGES:
        told = _Told(language(code), city, named, seen, unread, calendar.zone)
        yield f"{pages.address(code, FOLDER)}index.html", told.index(ids)
        for site in ids:
            yield f"{pages.address(code, f'{FOLDER}{site}/')}index.html", told.site(site, shown[site])


def troubled(one: GatewayState, now_s: int) -> bool:
    """Returns whether somebody should look at a gateway."""
    if one.state != "active":
        return one.state == "quarantined"
    return bool(silent_s(one, now_s) or one.missing or old_outbox(one) or _bad_ports(one) or bad_clock(one))


def silent_s(one: GatewayState, now_s: int) -> int:
    """Returns for how long a gateway has been silent, 0 while that is usual or nobody has heard it yet."""
    silence_s = 0 if one.heard_s is None else now_s - one.heard_s
    return silence_s if silence_s > SILENT_S else 0


def old_outbox(one: GatewayState) -> bool:
    """Returns whether more waits in its outbox, and for longer, than a report between two deliveries shows."""
    waits = one.health is not None and one.health.outbox_depth > OLD_OUTBOX_MESSAGES
    return waits and (one.outbox_age_s or 0) > OLD_OUTBOX_S


def bad_clock(one: GatewayState) -> bool:
    """Returns whether it does not trust its own clock."""
    return one.health is not None and one.health.clock != "ok"


def _bad_ports(one: GatewayState) -> list[tuple[str, str]]:
    return [(port, state) for port, state in one.health.ports if state not in SOUND_PORTS] if one.health else []


def _late_s(one: StreamState, now_s: int) -> int:
    late_s = one.late_s(now_s) or 0
    return late_s if late_s > LATE_S else 0


@dataclass(frozen=True, slots=True)
class _Told:
    """One look, told in one language."""

    say: Language
    city: City
    named: Mapping[str, str]
    seen: Overview
    unread: frozenset[str]
    zone: ZoneInfo

    def index(self, ids: Sequence[str]) -> bytes:
        say, seen = self.say, self.seen
        looks = self._looks()
        gateways = sorted(seen.gateways, key=lambda one: (not self._troubled(one), _RANK[one.state], one.gateway))
        streams = sorted(seen.streams, key=lambda one: (-_late_s(one, seen.now_s), -_share(one), one.stream))
        return pages.filled(
            "operations.html",
            say,
            FOLDER,
            self.city,
            home=FOLDER,
            title=say("operations.title", city=self.city.city),
            written=self._written(),
            looks=looks[:MOST_LOOKS],
            more=say.counted("operations.more", len(looks) - MOST_LOOKS, number=say.number(len(looks) - MOST_LOOKS))
            if len(looks) > MOST_LOOKS
            else "",
            fleet=self._fleet(gateways, linked=True),
            streams=self._streams(streams),
            intake=self._intake(),
            refused=self._refused(),
            places=[(f"{site}/", self.named.get(site, site)) for site in ids],
        )

    def site(self, site: str, views: Sequence[StreamView]) -> bytes:
        name = self.named.get(site, site)
        teller = Teller(self.say)
        stories: list[Story] = [teller.week(one, name, f"c{number}") for number, one in enumerate(views)]
        return pages.filled(
            "operations_site.html",
            self.say,
            f"{FOLDER}{site}/",
            self.city,
            home=FOLDER,
            title=self.say("operations.site_title", place=name, city=self.city.city),
            name=name,
            written=self._written(),
            fleet=self._fleet([one for one in self.seen.gateways if one.site == site], linked=False),
            streams=self._streams([one for one in self.seen.streams if one.site == site]),
            stories=stories,
        )

    def _troubled(self, one: GatewayState) -> bool:
        return one.gateway in self.unread or troubled(one, self.seen.now_s)

    def _written(self) -> str:
        date = self.say.date(self.seen.now_s, self.zone)
        return self.say("operations.written", date=date, hour=self.say.clock(self.seen.now_s, self.zone))

    # --- what wants a look -------------------------------------------------------------------------------------------

    def _looks(self) -> list[str]:
        """One sentence each, the gravest first, with its gesture."""
        say, now_s = self.say, self.seen.now_s
        here = [one for one in self.seen.gateways if one.state != "revoked"]

        def each(key: str, ones: Iterable[GatewayState], **values: object) -> list[str]:
            return [
                say(f"operations.look_{key}", gateway=one.gateway, place=self._place(one), **values) for one in ones
            ]

        lines = each("cloned", (one for one in here if one.state == "quarantined"))
        reports = [one.health.log or 0 for one in here if one.health]
        ahead = sum(entries > self.seen.log_entries for entries in reports)
        if ahead:
            lines.append(say.counted("operations.look_log", ahead, number=say.number(ahead)))
        waiting = self.seen.waiting.get("unknown_policy", 0)
        if waiting:
            lines.append(say.counted("operations.look_waiting", waiting, number=say.number(waiting)))
        silent = [one for one in here if silent_s(one, now_s)]
        lines += [line for one in silent for line in each("silent", [one], age=self._age(silent_s(one, now_s)))]
        quiet = {one.gateway for one in silent}
        for one in here:
            for port, state in _bad_ports(one):
                lines += each("port", [one], port=port, state=say(f"operations.port_{state}"))
            if bad_clock(one) and one.health:
                lines += each("clock", [one], state=say(f"operations.clock_{one.health.clock}"))
            if one.missing:
                lines += each("missing", [one], number=say.number(one.missing))
            if old_outbox(one) and one.health and one.gateway not in quiet:
                lines += each("outbox", [one], number=say.number(one.health.outbox_depth))
            if one.gateway in self.unread and one.gateway not in quiet:
                lines += each("unread", [one])
        lines += [
            say("operations.look_late", stream=self._stream(one), age=self._age(_late_s(one, now_s)))
            for one in self.seen.streams
            if _late_s(one, now_s) and one.gateway not in quiet
        ]
        lines += [
            say("operations.look_cap", stream=self._stream(one), share=self._percent(one.cap_share))
            for one in self.seen.streams
            if one.cap_share is not None and one.cap_share > FULL_TANK
        ]
        for site, end_s in sorted(self.seen.policy_ends.items(), key=lambda one: one[1]):
            if end_s < now_s + ENDING_DAYS * 86400:
                key = "operations.look_ends" if end_s > now_s else "operations.look_ended"
                day = say.date(end_s - 1, self.zone)
                lines.append(say(key, place=self.named.get(site, site), date=day))
        return lines

    # --- tables ------------------------------------------------------------------------------------------------------

    def _fleet(self, gateways: Sequence[GatewayState], linked: bool) -> Table:
        say = self.say
        rows = tuple(self._gateway_row(one, linked) for one in gateways[:MOST_ROWS])
        columns = ("gateway", "site", "state", "heard", "outbox", "ports", "clock", "settled", "missing")
        return Table(
            self._cut("operations.fleet_caption", len(rows), len(gateways)),
            tuple(say(f"operations.{column}") for column in columns if linked or column != "site"),
            rows,
        )

    def _gateway_row(self, one: GatewayState, linked: bool) -> tuple[Cell, ...]:
        say, now_s, health = self.say, self.seen.now_s, one.health
        silence_s = silent_s(one, now_s)
        state = "silent" if one.state == "active" and silence_s else one.state
        place = (Cell(self._place(one), link=f"{one.site}/"),) if linked else ()
        revoked = one.state == "revoked"
        heard = say("operations.never") if one.heard_s is None else self._ago(now_s - one.heard_s)
        ports = (
            " · ".join(f"{port} {say(f'operations.port_{state}')}" for port, state in health.ports) if health else ""
        )
        return (
            Cell(one.gateway),
            *place,
            Cell(say(f"operations.state_{state}"), "trouble" if state in ("silent", "quarantined") else ""),
            Cell(heard, "trouble" if silence_s and not revoked else ""),
            Cell(self._outbox(one), "trouble" if old_outbox(one) and not revoked else ""),
            Cell(ports or "–", "trouble words" if _bad_ports(one) and not revoked else "words"),
            Cell(
                say(f"operations.clock_{health.clock}") if health else "–",
                "trouble" if bad_clock(one) and not revoked else "",
            ),
            Cell(say.number(one.settled_seq)),
            Cell(say.number(one.missing), "trouble" if one.missing and not revoked else ""),
        )

    def _outbox(self, one: GatewayState) -> str:
        if one.health is None:
            return "–"
        number = self.say.number(one.health.outbox_depth)
        if not one.health.outbox_depth or one.outbox_age_s is None:
            return number
        return self.say("operations.waits", number=number, age=self._age(one.outbox_age_s))

    def _streams(self, streams: Sequence[StreamState]) -> Table:
        say = self.say
        columns = ("stream", "newest", "late", "spent")
        capped = any(one.cap_share is not None for one in streams)
        rows = tuple(self._stream_row(one, capped) for one in streams[:MOST_ROWS])
        return Table(
            self._cut("operations.streams_caption", len(rows), len(streams)),
            tuple(say(f"operations.{column}") for column in (*columns, *(("cap",) if capped else ()))),
            rows,
        )

    def _stream_row(self, one: StreamState, capped: bool) -> tuple[Cell, ...]:
        say, late_s = self.say, _late_s(one, self.seen.now_s)
        newest = say("operations.never")
        if one.newest_end_s is not None:
            day = say.day(one.newest_end_s, self.zone, short=True)
            newest = say("operations.until", day=day, hour=say.hour(one.newest_end_s, self.zone))
        late = say("operations.not_awaited")
        if one.due_s is not None:
            late = say("operations.late_by", age=self._age(late_s)) if late_s else say("operations.on_time")
        row = [Cell(self._stream(one)), Cell(newest), Cell(late, "trouble" if late_s else "")]
        if one.budget_rho_micro is None or one.spent_rho_micro is None:
            row.append(Cell("–"))
        else:
            share = _share(one)
            text = say(
                "operations.of_budget",
                share=self._percent(share),
                spent=_rho(say, one.spent_rho_micro),
                budget=_rho(say, one.budget_rho_micro),
            )
            row.append(Cell(text, share=round(share, 4)))
        if capped:
            filled = one.cap_share is not None
            row.append(Cell(self._percent(one.cap_share) if filled else "–", share=one.cap_share))
        return tuple(row)

    def _intake(self) -> list[str]:
        say, seen = self.say, self.seen
        lines = [
            say.counted("operations.messages", seen.messages, number=say.number(seen.messages)),
            say.counted("operations.duplicates", seen.duplicates, number=say.number(seen.duplicates)),
            say.counted("operations.conflicts", seen.conflicts, number=say.number(seen.conflicts)),
        ]
        waiting = sum(seen.waiting.values())
        return [*lines, say.counted("operations.aside", waiting, number=say.number(waiting))]

    def _refused(self) -> Table:
        say = self.say
        counted = sorted(self.seen.refused.items(), key=lambda one: (-one[1], one[0]))
        return Table(
            say("operations.refused_caption"),
            tuple(say(f"operations.{column}") for column in ("reason", "count", "means", "mend")),
            tuple(
                (
                    Cell(reason),
                    Cell(say.number(count)),
                    Cell(say(f"refused.{reason}"), "words"),
                    Cell(say(f"refused.{reason}_mend"), "words"),
                )
                for reason, count in counted
                if count
            ),
        )

    # --- words -------------------------------------------------------------------------------------------------------

    def _place(self, one: GatewayState) -> str:
        return self.named.get(one.site, one.site)

    def _stream(self, one: StreamState) -> str:
        quantity = self.say(f"quantity.{one.quantity}")
        return self.say("operations.stream_of", quantity=quantity, place=self.named.get(one.site, one.site))

    def _cut(self, key: str, shown: int, of: int) -> str:
        caption = self.say(key)
        if shown == of:
            return caption
        return f"{caption} {self.say('operations.cut', shown=self.say.number(shown), of=self.say.number(of))}"

    def _age(self, seconds: int) -> str:
        """Minutes below an hour, hours and minutes below two days, then whole days."""
        say = self.say
        if seconds < 3600:
            return say.counted("operations.minutes", seconds // 60, number=seconds // 60)
        if seconds < 2 * 86400:
            return say.duration(seconds - seconds % 60)
        return say.counted("operations.days", seconds // 86400, number=say.number(seconds // 86400))

    def _ago(self, seconds: int) -> str:
        return self.say("operations.ago", age=self._age(max(0, seconds)))

    def _percent(self, share: float | None) -> str:
        return self.say("number.percent", number=self.say.number(round(100 * (share or 0))))


def _share(one: StreamState) -> float:
    return (one.spent_rho_micro or 0) / one.budget_rho_micro if one.budget_rho_micro else 0.0


def _rho(say: Language, micro: int) -> str:
    return say.number(Decimal(micro // 100).scaleb(-4)) if micro else "0"
