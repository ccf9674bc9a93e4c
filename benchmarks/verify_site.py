"""`murmure verify` on what a town of 50 gateways publishes in a year, beside its limits: 60 s, and 20 MB over the line.

The town has all that the command may fetch: the log with every policy and daily account, the last message of each
account, all messages of the newest week (each gateway speaks every quarter-hour), the tables of the newest month with
their Parquet files and sums, the files of each neighbourhood and the ledger, made by the site's own functions from the
same releases. Integers are drawn at random, so that they pack as real ones do. Of older months it has the log, the last
messages, the codes of days and hours, and in the ledger the lines of days of the newest month under other dates.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from murmure_dashboards import catalogue, codes, months, opendata, parquet, spending
from murmure_dashboards.packed import compressed, joined, segment, stored
from murmure_dashboards.site import week_to
from murmure_dashboards.views import view
from murmure_privacy import log, verify_cli, wire
from murmure_privacy.log import Checkpoint
from murmure_privacy.policies import Rules
from murmure_privacy.publication import DAY_S, days_of
from murmure_privacy.release import Message, Node, Noised, Outcome, Release
from murmure_privacy.sources import Site
from murmure_privacy.stream import QUANTITIES
from murmure_privacy.verify import verify
from murmure_privacy.window import Calendar, Window, utc

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks.ingest.fleet import CENTRE_SECRET, Gateway, fleet, outcomes  # noqa: E402

GATEWAYS = 50
LIMIT_S, LIMIT_MB = 60.0, 20.0
FIRST_DAY = 20_758  # 2026-11-01
QUARTERS_A_DAY = 96
READ_DAYS = 7  # of which `murmure verify` reads every message, for so many gateways
HOURS_DAYS = 35  # of which the codes of hours are published, for « as usual »
CALENDAR = Calendar("Europe/Paris")
BIN = "histogram_s_"


def drawn(outcomes: tuple[Outcome, ...], noise: random.Random) -> tuple[Outcome, ...]:
    """Returns the nodes with integers as wide as their noise makes them, of a street on which nothing ever changes, so
    that shorter nodes add up to longer ones."""
    return tuple(
        Release(one.node, tuple(_drawn(one.node, noised, noise) for noised in one.noised))
        for one in outcomes
        if isinstance(one, Release)
    )


def _drawn(node: Node, noised: Noised, noise: random.Random) -> Noised:
    truth = {
        "crossings": (node.end_s - node.start_s) / 10,
        "histogram": node.slots / len(noised.integers),
        "mean": node.slots * 600,
        "energy": node.slots * 1e6,
    }[noised.indicator]
    sigma = noised.sigma_milli / 1000
    return replace(noised, integers=tuple(round(noise.gauss(truth, sigma)) for _ in noised.integers))


@dataclass
class Published:
    """What all gateways publish together. `closing` and `tables` by month, `newest` by date, `ends` (who said what
    number last, and its hash) by day, all others by neighbourhood; rows are segments of `packed`."""

    closing: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    newest: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[int, list[tuple[Gateway, int, bytes]]] = field(default_factory=lambda: defaultdict(list))
    tables: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    weeks: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    todays: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    codes: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    of_days: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    of_hours: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    ledger: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Info:
    """What the archive says of a stream."""

    site: str
    stream: str
    quantity: str


class Known:
    """The releases of one gateway, as the site asks an archive for them."""

    def __init__(self, toml: bytes) -> None:
        self.toml = toml
        self.streams: dict[str, list[Outcome]] = defaultdict(list)

    def outcomes(self, stream: str, from_s: int, to_s: int) -> Sequence[Outcome]:
        """Returns the nodes of a stream that intersect a span."""
        return [one for one in self.streams[stream] if one.node.start_s < to_s and one.node.end_s > from_s]

    def began_s(self, stream: str) -> int | None:
        """Returns when the first node of a stream that ends ends, None without any."""
        return min((one.node.end_s for one in self.streams[stream]), default=None)

    def policy(self, policy_hash: bytes) -> bytes | None:
        """Returns the gateway's only policy."""
        return self.toml


def spent_on(one: Gateway, day: int) -> dict[str, dict[str, list[int]]]:
    """Returns how many nodes of each stream and level end on a day, none withheld, and their micro-rho."""
    found: dict[str, dict[str, list[int]]] = {}
    for quarter in range(QUARTERS_A_DAY):
        for outcome in outcomes(one.plan, CALENDAR, day * DAY_S + 900 * (quarter + 1)):
            counts = found.setdefault(outcome.node.stream.split("/")[1], {}).setdefault(outcome.node.level, [0, 0, 0])
            counts[0] += 1
            counts[2] += sum(n.rho_micro for n in outcome.noised) if isinstance(outcome, Release) else 0
    return found


def speak(one: Gateway, days: range, month_s: int, noise: random.Random, into: Published) -> Known:
    """Has a gateway say what it says in a year. Returns its releases from the begin of the newest month on."""
    known, previous = Known(one.toml), noise.randbytes(32)
    for day in days:
        dated, whole = utc(day * DAY_S)[:10], day > days[-1] - READ_DAYS
        for quarter in range(QUARTERS_A_DAY):
            at_s, last = day * DAY_S + 900 * (quarter + 1), quarter == QUARTERS_A_DAY - 1
            if not (last or whole or at_s > month_s):
                continue
            said = drawn(outcomes(one.plan, CALENDAR, at_s), noise)
            for outcome in said if at_s > month_s else ():
                known.streams[outcome.node.stream].append(outcome)
            if last or whole:
                seq = (day - days[0]) * QUARTERS_A_DAY + quarter + 1
                sealed = wire.seal_message(
                    Message(one.name, one.quartier, one.site, 1, seq, previous, at_s, said), one.secret
                )
                previous = wire.digest(sealed)
                into.newest[dated] += [sealed] if whole else []
        into.closing[dated[:7]].append(sealed)
        into.ends[day].append((one, seq, previous))
    return known


def tell(one: Gateway, known: Known, days: range, month_s: int, now_s: int, into: Published) -> None:
    """Writes what the site shows of a gateway: rows by month, week and day, codes, and the lines of the ledger."""
    rules, today = Rules(known), CALENDAR.day(now_s - 1)
    week, begun = week_to(CALENDAR, today), Window(month_s, today.end_s)
    for stream, said in sorted(known.streams.items()):
        info = Info(one.site, stream, said[0].node.quantity)
        lines: list[bytes] = []
        printed = QUANTITIES[info.quantity].printed
        for day in CALENDAR.days(begun):
            shown = view(known, rules, (), info, day, CALENDAR, now_s)
            rows = list(opendata.rows(shown, rules, bins=True))
            into.tables[CALENDAR.civil_day(day.start_s).strftime("%Y-%m")].append(segment(opendata.lines(rows)))
            seen = [one for one in known.outcomes(stream, day.start_s, day.end_s) if one.node.end_s <= now_s]
            lines += spending.lines(one.site, stream, seen, day, rules, CALENDAR)
            rows = [row for row in rows if not row[6].startswith(BIN)]
            if day.start_s >= week.start_s:
                into.weeks[one.quartier].append(segment(opendata.lines(rows)))
                into.codes[one.quartier].append(segment(codes.table(rows).partition(b"\r\n")[2]))
            if day == today:
                into.todays[one.quartier].append(segment(opendata.lines(rows)))
        into.ledger += [*_older(lines, days, begun.start_s), *lines]
        for at in CALENDAR.days(Window(days[0] * DAY_S, today.start_s)):
            recent = at.start_s >= now_s - HOURS_DAYS * DAY_S
            day_run = ("1d", at.start_s, at.end_s - at.start_s, 1)
            hours = (("1h", at.start_s, 3600, (at.end_s - at.start_s) // 3600),)
            into.of_days[one.quartier].append(codes.run_lines(stream, printed, (day_run,)))
            if recent:
                into.of_hours[one.quartier].append(codes.run_lines(stream, printed, hours))
            if info.quantity == "noise":
                into.of_hours[one.quartier].append(codes.run_lines(stream, "energy_mean", hours))


def _older(lines: Sequence[bytes], days: range, begun_s: int) -> list[bytes]:
    """Returns lines of the ledger for the months before, as lines of the newest month under other dates."""
    found = []
    first_s = min(days[0] * DAY_S, begun_s)
    for number, at in enumerate(CALENDAR.days(Window(first_s, begun_s)) if first_s < begun_s else ()):
        told = json.loads(lines[number % len(lines)])
        told |= {"day": f"{CALENDAR.civil_day(at.start_s)}", "start_utc": utc(at.start_s), "end_utc": utc(at.end_s)}
        found.append((json.dumps(told) + "\n").encode())
    return found


def publish(folder: Path, days: range) -> None:
    """Writes what such a town publishes."""
    noise, gateways, now_s = random.Random(1), fleet(GATEWAYS), (days[-1] + 1) * DAY_S
    steward = hashlib.sha256(b"steward").digest()
    files: dict[str, bytes] = {}
    entries: list[bytes] = []
    into = Published()
    month_s = CALENDAR.midnight(CALENDAR.civil_day(days[-1] * DAY_S).replace(day=1))
    for one in gateways:
        line = one.enrolment
        place = {"gateway": one.name, "quartier": one.quartier, "site": one.site, "record_key": line.record_key.hex()}
        stewards = {"stewards": [key.hex() for key in line.stewards], "signatures_required": 1}
        entries.append(log.entry({"kind": "enrolment", **place, **stewards}))
        sealed = wire.seal_policy(one.toml, [("steward", steward)])
        policy = wire.digest(one.toml).hex()
        files[f"donnees/politiques/{policy}.cose"] = sealed
        text = {"site": one.site, "hash": policy, "sealed": wire.digest(sealed).hex()}
        entries.append(log.entry({"kind": "policy", "version": 1, **text, "published": None}))
        tell(one, speak(one, days, month_s, noise, into), days, month_s, now_s, into)
    for day, ends in sorted(into.ends.items()):
        levels = sorted(spent_on(gateways[0], day).items())
        for one, last, digest in ends:
            streams = [{"stream": f"{one.site}/{name}", "policy": 1, "nodes": nodes} for name, nodes in levels]
            about = {"gateway": one.name, "day": utc(day * DAY_S)[:10], "last": last, "hash": digest.hex()}
            entries.append(log.entry({"kind": "spend", **about, "streams": streams}))
    files |= _figures(into, now_s)
    for at in range(0, len(entries), 4096):
        part = b"".join(one + b"\n" for one in entries[at : at + 4096])
        files[f"donnees/journal/entries-{at // 4096:05}.jsonl"] = part
    files |= {f"donnees/journal/days-{month}.cose": b"".join(row) for month, row in into.closing.items()}
    files |= {f"donnees/messages/{dated}.cose": b"".join(row) for dated, row in into.newest.items()}
    # The days before are published too; nobody fetches them here.
    before = [f"donnees/messages/{utc(day * DAY_S)[:10]}.cose" for day in days[:-READ_DAYS]]
    index = [{"path": path, "messages": 0, "octets": 0} for path in before]
    index += [
        {"path": path, "messages": QUARTERS_A_DAY * GATEWAYS if "/messages/" in path else 0, "octets": len(data)}
        for path, data in files.items()
        if "/messages/" in path or "/journal/" in path
    ]
    here = Checkpoint(len(entries), log.root([log.leaf_hash(entry) for entry in entries]))
    files["donnees/journal/checkpoint.txt"] = log.seal_checkpoint(here, CENTRE_SECRET)
    files["donnees/journal/centre.txt"] = wire.public_key(CENTRE_SECRET).hex().encode()
    files["donnees/messages/index.json"] = json.dumps({"files": index}).encode()
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        (folder / f"{path}.gz").write_bytes(compressed(data))


def _figures(into: Published, now_s: int) -> dict[str, bytes]:
    """Returns the tables with their sums, the files by neighbourhood and the ledger."""
    head, coded = segment(opendata.table(())), segment(codes.table(()))
    files: dict[str, bytes] = {months.LEDGER: b"".join(into.ledger)}
    told = []
    for name, packed in sorted(into.tables.items()):
        table = joined([head, *packed])
        twin = stored(parquet.table(catalogue.columns("releases"), table, {}))
        sums = hashlib.sha256(table).hexdigest(), hashlib.sha256(twin).hexdigest()
        one = months.Edition(name, 1, 9, now_s, len(table), sums[0], len(twin), sums[1])
        files |= {one.path: table, one.columnar: twin}
        told.append(months.Month(name, Window(0, now_s), (one,), {}))
    files[months.SUMS] = months.sums([edition for month in told for edition in month.editions])
    files[months.STATE] = months.state(months.NOTHING, told, files[months.LEDGER])
    for quartier in into.weeks:
        files[opendata.quartier_file(quartier, False)] = joined([head, *into.todays[quartier]])
        files[opendata.quartier_file(quartier, True)] = joined([head, *into.weeks[quartier]])
        files[codes.file(quartier)] = joined([coded, *into.codes[quartier]])
        files[codes.year_file(quartier)] = codes.year_table(into.of_days[quartier])
        files[codes.hours_file(quartier)] = codes.year_table(into.of_hours[quartier])
    return files


PARTS = {
    "log": "journal/entries-*",
    "last messages": "journal/days-*",
    "newest days": "messages/2*",
    "files of the week and of the day": "quartier-*[jne].csv",
    "codes": "quartier-*-codes*.csv",
    "ledger": "ledger.jsonl",
    "tables": "releases-*.csv",
    "Parquet files": "releases-*.parquet",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--tables", action="store_true", help="read the tables as well, as with --days 7")
    args = parser.parse_args()
    days = range(FIRST_DAY, FIRST_DAY + args.days)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        publish(folder, days)
        began, cpu = time.perf_counter(), time.process_time()
        site = Site(str(folder))
        published = site.published()
        if args.tables:
            report = verify(published, days_of(published)[:READ_DAYS])
        else:
            report = verify(published, most=verify_cli.AT_ONCE, line=verify_cli.LINE)
        wall, used = time.perf_counter() - began, time.process_time() - cpu
        assert not report.findings, report.findings[:3]
        assert report.accounts == GATEWAYS * args.days
        sizes = {
            part: sum(path.stat().st_size for path in (folder / "donnees").glob(f"{pattern}.gz")) / 1e6
            for part, pattern in PARTS.items()
        }
    print(f"{args.days} days of {GATEWAYS} gateways: {report.accounts} accounts")
    print(f"{len(report.days)} days message by message: {report.messages} messages, {report.nodes} figures")
    print(f"{report.rows} rows, {report.computed} estimates computed anew, {report.beside} rows beside them")
    print(f"not read  {' '.join(report.left_tables) or 'no table'} {' '.join(report.left_columnar)}")
    read = site.octets / 1e6
    print(f"read      {read:6.1f} MB of {LIMIT_MB:.0f} ({read / LIMIT_MB:.2f} of the limit)")
    for part, megabytes in sizes.items():
        print(f"published {megabytes:6.1f} MB {part}")
    # One process that waits for nothing: on a machine of its own it takes its CPU time.
    print(f"checked   {used:6.1f} s of {LIMIT_S:.0f} ({used / LIMIT_S:.2f} of the limit) of CPU")
    print(f"          {wall:6.1f} s by the clock")
    return int(args.days >= 365 and not args.tables and (used > LIMIT_S or read > LIMIT_MB))


if __name__ == "__main__":
    sys.exit(main())
