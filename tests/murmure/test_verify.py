"""`murmure verify`: what a town has published is as it was signed, and whatever is not is named.

Each attack is made by who could make it: whoever serves the files, a centre that signs its log anew, or a gateway whose
key is in other hands. A town that did nothing wrong is the control of all of them.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import tracemalloc
import zlib
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import partial
from http.client import BadStatusLine, IncompleteRead, RemoteDisconnected
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import gaierror
from ssl import SSLCertVerificationError, SSLError
from types import ModuleType
from typing import Any
from urllib.error import URLError

import pytest
from murmure.cli import main
from murmure_dashboards import catalogue, journal, months, opendata, parquet, spending
from murmure_dashboards import codes as page_codes
from murmure_dashboards.config import load
from murmure_dashboards.server import serve
from murmure_dashboards.site import build
from murmure_dashboards.views import view
from murmure_ingest import transfer
from murmure_ingest.archive import Archive, Enrolment, StoredAnnotation, StoredPolicy
from murmure_privacy import (
    codes,
    columnar,
    decide,
    log,
    sources,
    verify_cli,
    verify_files,
    verify_log,
    verify_messages,
    verify_spending,
    verify_tables,
    wire,
)
from murmure_privacy.annotation import Annotation, Note, Withdrawal
from murmure_privacy.errors import WireError
from murmure_privacy.findings import KINDS, Report
from murmure_privacy.log import Checkpoint
from murmure_privacy.policies import Rules
from murmure_privacy.publication import FORMAT, RUNNING, Made, Publication, days_of
from murmure_privacy.publication import rows_of as rows_in
from murmure_privacy.release import Message, Node, Noised, Outcome, Release, Withheld
from murmure_privacy.verify import find, verify
from murmure_privacy.verify_tables import figures
from murmure_privacy.verify_words import FINDINGS, SENTENCES
from murmure_privacy.window import Calendar, Window, parse_utc, utc

MONDAY_S = 1_795_392_000  # 2026-11-23 00:00 UTC
DAY_S = 86_400
QUARTERS = 96
PUBLISHED_S = MONDAY_S - 30 * DAY_S
SEED = 20261123
EVENING = 68
"""The quarter-hour from which the town of most tests speaks: 18:00 on Monday. A whole civil day follows, parts of three
days (UTC), and no more than that, since hundreds of checks go through all of it."""
EVENING_S = MONDAY_S + EVENING * 900

POLICY = """policy = 1
site = "{site}"
version = {version}
timezone = "Europe/Paris"
decision = "D"
reason = "R."
valid_from = 2026-11-01
valid_until = 2027-11-30

[[stream]]
id = "{site}/footfall"
quantity = "footfall"
protects = {{ crossings = 1 }}
epsilon = {epsilon}
nodes = {{ {nodes} }}

[[stream]]
id = "{site}/noise"
quantity = "noise"
protects = {{ seconds = 15 }}
readings = {{ cadence_ms = 1000, tail = 2 }}
epsilon = 1.0
nodes = {{ "6h" = 1 }}
bounds_db = [35, 85]
indicators = {{ histogram = 6, mean = 3, energy = 1 }}
"""

Change = Callable[["Town", str, int, tuple[Outcome, ...]], tuple[Outcome, ...]]


def policy(site: str, version: int = 1, epsilon: str = "1.0", nodes: str = '"15min" = 1, "1h" = 1, "1d" = 1') -> bytes:
    return POLICY.format(site=site, version=version, epsilon=epsilon, nodes=nodes).encode()


# Codes without the end of their node, as for the months of a year.
HOURS_FILE = "donnees/centre-codes-heures.csv"
YEAR_FILE, YEAR = "donnees/centre-codes-annee.csv", ("code", "start_utc", "node", "stream", "indicator")


class Town:
    """Two gateways at two sites that speak for two days and an hour, each node with noise of its own.

    `change` is what a gateway in other hands says instead; nothing here judges it.
    """

    def __init__(
        self, folder: Path, releases: ModuleType, change: Change = lambda town, name, at_s, outcomes: outcomes
    ):
        self.centre, self.public = wire.new_key()
        self.steward, steward = wire.new_key()
        self.archive = Archive.open(folder / "archive.db")
        self.change, self.random = change, random.Random(SEED)
        self.said: list[Outcome] = []
        self.lines: dict[str, Enrolment] = {}
        self.gateways: dict[str, Any] = {}
        for site, nodes in (("plaza", '"15min" = 1, "1h" = 1, "1d" = 1'), ("alley", '"1h" = 1')):
            secret, public = wire.new_key()
            name = f"gw-{site}"
            self.gateways[name] = releases.Gateway(name, "centre", site, secret, policy(site, nodes=nodes))
            with self.archive.transaction():
                line = Enrolment(name, "centre", site, public, (steward,), 1)
                self.lines[name] = self.archive.enrol(line, {"ceiling_rho_micro": decide.FLOOR.rho_micro})
            self.publish(policy(site, nodes=nodes), PUBLISHED_S)

    def publish(self, toml: bytes, at_s: int | None, *others: bytes) -> None:
        sealed = wire.seal_policy(toml, [("s", secret) for secret in (self.steward, *others)])
        site, version = toml.split(b'site = "')[1].split(b'"')[0].decode(), int(toml.split(b"version = ")[1].split()[0])
        with self.archive.transaction():
            self.archive.put_policy(StoredPolicy(wire.digest(toml), site, version, toml, sealed), at_s)

    def live(self, quarters: int = 2 * QUARTERS + 4, begin: int = 0) -> Town:
        with self.archive.transaction():
            for number in range(begin, begin + quarters):
                for name in self.gateways:
                    self.say(name, MONDAY_S + (number + 1) * 900)
        return self

    def say(self, name: str, closing_s: int, **changes: Any) -> None:
        gateway = self.gateways[name]
        drawn = tuple(self.noisy(outcome) for outcome in gateway.outcomes(closing_s))
        outcomes = self.change(self, name, closing_s, drawn)
        self.said += outcomes
        if outcomes:
            self.put(name, gateway.seal(closing_s, outcomes=outcomes, **changes))

    def put(self, name: str, sealed: bytes) -> None:
        message = wire.open_message(sealed, wire.public_key(self.gateways[name].secret))
        self.archive.put(message, sealed, self.lines[name], "filed")

    def noisy(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Withheld):
            return outcome
        return Release(outcome.node, tuple(self.drawn(outcome.node, noised) for noised in outcome.noised))

    def drawn(self, node: Node, noised: Noised) -> Noised:
        """A truth that adds up, and noise."""
        seconds = node.end_s - node.covered_from_s
        truth = {
            "crossings": seconds / 10,
            "histogram": node.slots / len(noised.integers),
            "mean": node.slots * 600,
            "energy": node.slots * 1e6,
        }[noised.indicator]
        return replace(
            noised, integers=tuple(round(self.random.gauss(truth, noised.sigma_milli / 1000)) for _ in noised.integers)
        )

    def annotate(self) -> None:
        """Marks a quarter-hour of footfall; and one of noise, by mistake, which is taken back."""
        span = EVENING_S, EVENING_S + 900
        notes: list[Note] = [
            Annotation("plaza", 1, MONDAY_S + DAY_S, "Bâche.", "plaza/footfall", *span, "works"),
            Annotation("plaza", 2, MONDAY_S + DAY_S, "Non.", "plaza/noise", *span, "other"),
            Withdrawal("plaza", 3, MONDAY_S + DAY_S + 60, "Erreur.", 2),
        ]
        with self.archive.transaction():
            for note in notes:
                sealed = wire.seal_annotation(note, [("s", self.steward)])
                self.archive.put_annotation(StoredAnnotation(note, sealed, self.lines["gw-plaza"].id))

    def export(self, folder: Path) -> Publication:
        """Returns what the archive as files shows."""
        self.archive.sign_log(self.centre)
        transfer.export(self.archive, folder)
        return sources.archive(folder)

    def site(self, out: Path, without: str = "") -> Path:
        """Writes what a site publishes of figures, but of one place, and of proofs."""
        self.archive.sign_log(self.centre)
        files = dict(journal.files(self.archive, journal.NOTHING, lambda path: None))
        for one in self.archive.policies():
            files[f"donnees/politiques/{one.hash.hex()}.cose"] = one.sealed
        notes = self.archive.annotations()
        files[opendata.ANNOTATIONS] = opendata.faults(
            notes, [one.note for one in notes if isinstance(one.note, Annotation)]
        )
        rules, calendar = Rules(self.archive), Calendar("Europe/Paris")
        month = Window(calendar.midnight(date(2026, 11, 1)), calendar.midnight(date(2026, 12, 1)))
        now_s = MONDAY_S + 3 * DAY_S
        infos = [info for info in self.archive.streams() if info.site != without]
        views = [view(self.archive, rules, (), info, month, calendar, now_s) for info in infos]
        table = opendata.table(row for one in views for row in opendata.rows(one, rules, bins=True))
        twin = parquet.table(catalogue.columns("releases"), table, {})
        sums = hashlib.sha256(table).hexdigest(), hashlib.sha256(twin).hexdigest()
        edition = months.Edition("2026-11", 1, 9, now_s, len(table), sums[0], len(twin), sums[1])
        files |= {edition.path: table, edition.columnar: twin, months.SUMS: months.sums([edition])}
        days = calendar.days(Window(MONDAY_S, now_s))
        ledger = [
            line for one in views for line in spending.lines(one.site, one.stream, one.outcomes, month, rules, calendar)
        ]
        files[months.LEDGER] = b"".join(ledger)
        files[months.STATE] = months.state(
            months.NOTHING, [months.Month("2026-11", month, (edition,), {})], files[months.LEDGER]
        )
        for week, since_s in ((False, days[1].start_s), (True, 0)):
            rows = [row for one in views for row in opendata.rows(one, rules) if parse_utc(row[0]) >= since_s]
            files[opendata.quartier_file("centre", week)] = opendata.table(rows)
        files[page_codes.file("centre")] = page_codes.table(rows)
        codes_of = csv.DictReader(io.StringIO(files[page_codes.file("centre")].decode(), newline=""))
        year = [",".join(row[name] for name in YEAR) for row in codes_of]
        files[YEAR_FILE] = files[HOURS_FILE] = "\r\n".join((",".join(YEAR), *year, "")).encode()
        files[HOURS_FILE] = "\r\n".join((",".join(YEAR), *(line for line in year if ",1h," in line), "")).encode()
        for path, content in files.items():
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_bytes(content)
        return out


def kinds(report: Report) -> set[str]:
    return {finding.kind for finding in report.findings}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, releases: ModuleType) -> Iterator[Town]:
    town = Town(tmp_path_factory.mktemp("town"), releases).live(2 * QUARTERS + 4 - EVENING, EVENING)
    town.annotate()
    yield town
    town.archive.close()


@pytest.fixture(scope="module")
def folder(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of a town that did nothing wrong; nobody writes to it."""
    return town.site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def published(folder: Path) -> Publication:
    """What that site shows, all of it in memory."""
    found = sources.Site(str(folder)).published()
    assert found.rows is not None
    rows, days = list(found.rows("2026-11", 1) or ()), [(day, day.read()) for day in found.days]
    files = {f"donnees/{path.name}": path.read_bytes() for path in (folder / "donnees").iterdir() if path.is_file()}
    return replace(
        found,
        read=files.get,
        days=[replace(day, read=lambda sealed=sealed: sealed) for day, sealed in days],  # type: ignore[misc]
        rows=lambda month, edition: [dict(row) for row in rows] if (month, edition) == ("2026-11", 1) else None,
    )


def test_a_town_that_did_nothing_wrong_conforms(published: Publication, town: Town, tmp_path: Path) -> None:
    """By its site and by its archive as files; everything that was said was looked at."""
    report = verify(published)
    assert (report.findings, report.left_out) == ([], 0)
    said = sum(len(gateway.sealed) for gateway in town.gateways.values())
    assert (report.messages, report.policies, report.annotations, report.accounts) == (said, 2, 3, 4)
    assert report.nodes == town.archive.node_count()
    assert report.rows > report.nodes > report.messages
    # All of the tables but the bins' own second place: day and week, codes, ledger, and both files of the month.
    withheld = sum(isinstance(one, Withheld) for one in town.said)
    assert report.computed == report.rows - withheld
    assert report.beside > report.rows / 2 and (report.sums, report.columnar) == (2, report.rows)
    assert (report.unpinned, report.alone) == ([], [])
    assert report.checkpoint == town.archive.log_checkpoint()
    exported = town.export(tmp_path / "export")
    assert verify(exported).findings == []
    assert verify(exported).messages == said


# --- whoever serves the files ----------------------------------------------------------------------------------------

Attack = Callable[[Publication, Town], Publication]


def entries_of(published: Publication) -> list[dict[str, Any]]:
    return [json.loads(entry) for entry in published.entries]


def relogged(published: Publication, town: Town, entries: Sequence[Mapping[str, Any]]) -> Publication:
    """As a centre shows it that writes another log and signs it."""
    lines = [log.entry(entry) for entry in entries]
    here = Checkpoint(len(lines), log.root([log.leaf_hash(line) for line in lines]))
    return replace(published, entries=lines, note=log.seal_checkpoint(here, town.centre))


def edited(kind: str, number: int = 0, **changes: Any) -> Attack:
    """The centre writes some fields of an entry otherwise."""

    def attack(published: Publication, town: Town) -> Publication:
        entries = entries_of(published)
        found = [entry for entry in entries if entry["kind"] == kind][number]
        found.update({name: made(found) if callable(made) else made for name, made in changes.items()})
        return relogged(published, town, entries)

    return attack


def without_entry(kind: str, number: int = 0) -> Attack:
    def attack(published: Publication, town: Town) -> Publication:
        entries = entries_of(published)
        entries.remove([entry for entry in entries if entry["kind"] == kind][number])
        return relogged(published, town, entries)

    return attack


def moved(kind: str, number: int, to: int) -> Attack:
    def attack(published: Publication, town: Town) -> Publication:
        entries = entries_of(published)
        found = [entry for entry in entries if entry["kind"] == kind][number]
        entries.remove(found)
        entries.insert(to, found)
        return relogged(published, town, entries)

    return attack


def with_messages(make: Callable[[list[bytes]], list[bytes]]) -> Attack:
    """Another file of messages for the first day."""

    def attack(published: Publication, town: Town) -> Publication:
        first, *others = published.days
        row = make(list(first.read()))
        return replace(published, days=[replace(first, read=lambda: row), *others])

    return attack


def with_rows(make: Callable[[list[dict[str, str]]], None]) -> Attack:
    """Other rows in the tables, and nothing else."""

    def attack(published: Publication, town: Town) -> Publication:
        assert published.rows is not None
        rows = rows_of(published)
        make(rows)
        return replace(published, rows=lambda month, edition: rows if (month, edition) == ("2026-11", 1) else None)

    return attack


def row_of(rows: list[dict[str, str]], status: str = "released", indicator: str = "") -> dict[str, str]:
    inside = "2026-11-23T03:00:00Z"
    return next(
        row
        for row in rows
        if row["status"] == status and row["indicator"].startswith(indicator) and row["start_utc"] > inside
    )


def keep(rows: list[dict[str, str]], wanted: Callable[[dict[str, str]], bool]) -> None:
    rows[:] = [row for row in rows if wanted(row)]


def column_gone(name: str, rows: list[dict[str, str]]) -> None:
    """Of a level too, of which there may be a bound and no estimate."""
    for row in [row_of(rows, indicator=indicator) for indicator in ("crossings", "l50_db")]:
        row.update(ci95_low="")
        del row[name]


def altered(rows: list[dict[str, str]], of: str = "released", indicator: str = "", **changes: str) -> None:
    row_of(rows, of, indicator).update(changes)


def altering(of: str, indicator: str, changes: dict[str, str]) -> Attack:
    return with_rows(lambda rows: altered(rows, of, indicator, **changes))


def with_file(path: str, make: Callable[[bytes], bytes | None]) -> Attack:
    """Another file beside the tables, or none."""

    def attack(published: Publication, town: Town) -> Publication:
        was = published.read(path)
        assert was is not None
        made = make(was)
        assert made != was
        return replace(published, read=lambda asked: made if asked == path else published.read(asked))

    return attack


def with_line(path: str, make: Callable[[bytes], bytes]) -> Attack:
    """Another line, the fourth, in a file beside the tables."""

    def made(data: bytes) -> bytes:
        lines = data.splitlines(keepends=True)
        lines[3] = make(lines[3])
        return b"".join(lines)

    return with_file(path, made)


def lines_without(data: bytes, word: bytes) -> bytes:
    """Returns a file without the lines that have a word; there are such lines, and others."""
    kept = [line for line in data.splitlines(keepends=True) if word not in line]
    assert 0 < len(kept) < len(data.splitlines())
    return b"".join(kept)


def in_two_months(published: Publication, town: Town) -> Publication:
    """November has an estimate that nobody has computed, and December all of its rows as they are."""
    rows, wrong = rows_of(published), rows_of(published)
    nudged(wrong, "crossings")
    tables = {("2026-11", 1): wrong, ("2026-12", 1): rows}
    return replace(published, months=["2026-11", "2026-12"], rows=lambda month, edition: tables.get((month, edition)))


def told_of_parts(published: Publication, town: Town) -> Publication:
    """Each line of the ledger says what the first quarter of an hour of its day has cost, and that it is of that."""

    def made(line: bytes) -> bytes:
        told = json.loads(line)
        part = Window(begin_s := parse_utc(told["start_utc"]), begin_s + 900)
        of_stream = [one for one in town.said if one.node.stream == told["stream"]]
        near = [one for one in of_stream if one.node.covered_from_s < part.end_s and one.node.end_s > part.start_s]
        nodes: list[dict[str, Any]] = []
        for level in sorted({one.node.level for one in near if one.node.start_s in part}):
            mine = [one for one in near if one.node.level == level and one.node.start_s in part]
            out = [one for one in mine if isinstance(one, Release)]
            rho = sum(noised.rho_micro for one in out for noised in one.noised)
            nodes.append({"node": level, "released": len(out), "withheld": len(mine) - len(out), "rho_micro": rho})
        told |= {"end_utc": utc(part.end_s), "nodes": nodes, "spent_rho_micro": spending.spent(near, part)}
        told["charged_rho_micro"] = sum(one["rho_micro"] for one in nodes)
        return json.dumps(told).encode() + b"\n"

    return with_file(LEDGER, lambda data: b"".join(map(made, data.splitlines())))(published, town)


def cell(name: str, text: str) -> Callable[[bytes], bytes]:
    """Writes another cell into a row of open data, or of codes."""

    def made(line: bytes) -> bytes:
        cells = line.decode().rstrip("\r\n").split(",")
        header = {len(names): names for names in (opendata.HEADER, CODES, YEAR)}[len(cells)]
        cells[header.index(name)] = text
        return f"{','.join(cells)}\r\n".encode()

    return made


LINE = '{"stream":"plaza/footfall","policy":null,"start_utc":"%sT00:00:00Z","end_utc":"%sT23:00:00Z","nodes":[]}'
ROW = "code,stream,node,start_utc,indicator\nx,plaza/footfall,1h,%sT00:00:00Z,crossings\n"
CODES = ("code", "start_utc", "end_utc", "stream", "node", "indicator", "value", "estimate", "unit", "status")
TABLE, TWIN, LEDGER = "donnees/releases-2026-11.csv", "donnees/releases-2026-11.parquet", "donnees/ledger.jsonl"


def with_twin(make: Callable[[list[dict[str, Any]]], None]) -> Attack:
    """Another Parquet file, whose sum the site tells as it is."""

    def attack(published: Publication, town: Town) -> Publication:
        rows = [dict(zip(opendata.HEADER, row.values(), strict=True)) for row in rows_of(published)]
        make(rows)
        text = opendata.table(tuple(row.values()) for row in rows)
        twin = parquet.table(catalogue.columns("releases"), text, {})
        digest = hashlib.sha256(twin).hexdigest().encode()
        was = hashlib.sha256(published.read(TWIN) or b"").hexdigest().encode()
        files = {path: (published.read(path) or b"").replace(was, digest) for path in (months.SUMS, months.STATE)}
        files[TWIN] = twin
        return replace(published, read=lambda path: files.get(path, published.read(path)))

    return attack


def without_sums(published: Publication, town: Town) -> Publication:
    """No file has a sum, and no month an edition."""
    state = json.loads(published.read(months.STATE) or b"") | {"months": {}}
    files = {months.SUMS: b"", months.STATE: json.dumps(state).encode()}
    return replace(published, read=lambda path: files.get(path, published.read(path)))


def replaced(old: bytes, new: bytes, line: bytes) -> bytes:
    return line.replace(old, new)


def nudged(rows: list[dict[str, str]], indicator: str, column: str = "estimate") -> None:
    """Something that could be, and is not what the nodes give: no further off than a tenth of the noise."""
    row = row_of(rows, "released", indicator)
    width = float(row["ci95_high"]) - float(row["ci95_low"] or row["estimate"])
    row[column] = f"{float(row[column]) + width / 40:.6f}"


def read_off_nothing(rows: list[dict[str, str]]) -> None:
    """A level is left out that could be read off."""
    rows.remove(row_of(rows, "released", "laeq_db"))


def unreadable() -> list[bytes]:
    raise WireError("malformed", "the file is missing")


def flipped(sealed: bytes) -> bytes:
    """Another released integer: the last byte before the signature's own."""
    at = len(sealed) - 90
    return sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]


def annotated(make: Callable[[list[bytes], Town], list[bytes]]) -> Attack:
    return lambda published, town: replace(published, annotations=make(list(published.annotations), town))


def another_note(town: Town, secret: bytes) -> bytes:
    note = Annotation("plaza", 4, MONDAY_S + DAY_S, "Rien.", "plaza/footfall", MONDAY_S, MONDAY_S + 900, "other")
    return wire.seal_annotation(note, [("s", secret)])


def resealed_policy(published: Publication, town: Town) -> Publication:
    (policy_hash, sealed), *others = published.policies.items()
    forged = wire.seal_policy(wire.policy_bytes(sealed), [("s", wire.new_key()[0])])
    entries = entries_of(published)
    for entry in entries:
        if entry.get("hash") == policy_hash.hex():
            entry["sealed"] = wire.digest(forged).hex()
    return relogged(replace(published, policies={policy_hash: forged, **dict(others)}), town, entries)


def other_text(published: Publication, town: Town) -> Publication:
    """The stewards' own later policy in the place of the one that the log names."""
    (policy_hash, _), *others = published.policies.items()
    other = wire.seal_policy(policy("plaza", 9), [("s", town.steward)])
    entries = entries_of(published)
    for entry in entries:
        if entry.get("hash") == policy_hash.hex():
            entry["sealed"] = wire.digest(other).hex()
    return relogged(replace(published, policies={policy_hash: other, **dict(others)}), town, entries)


def other_words(published: Publication, town: Town) -> Publication:
    """What residents read of a policy is another text than the one that its stewards have signed."""
    (policy_hash, sealed), *_ = published.policies.items()
    other = wire.policy_bytes(sealed).replace(b"epsilon = 1.0", b"epsilon = 0.1")
    path = f"donnees/politiques/{policy_hash.hex()}.toml"
    return replace(published, read=lambda asked: other if asked == path else published.read(asked))


def no_policy(published: Publication, town: Town) -> Publication:
    return replace(published, policies=dict(list(published.policies.items())[1:]))


def same_number(published: Publication, town: Town) -> Publication:
    """A second policy with a number that the site had."""
    toml = policy("plaza", 1, "0.5")
    sealed = wire.seal_policy(toml, [("s", town.steward)])
    told = {"hash": wire.digest(toml).hex(), "sealed": wire.digest(sealed).hex(), "published": None}
    entries = [*entries_of(published), {"kind": "policy", "site": "plaza", "version": 1, **told}]
    return relogged(replace(published, policies={**published.policies, wire.digest(toml): sealed}), town, entries)


def revoked_at_once(published: Publication, town: Town) -> Publication:
    entries = entries_of(published)
    return relogged(
        published, town, [*entries[:4], {"kind": "revocation", "gateway": "gw-plaza", "last": 5}, *entries[4:]]
    )


def other_closing(published: Publication, town: Town) -> Publication:
    """A last message that the gateway has not signed, and an account that names it."""
    forged = [flipped(one) for one in published.closing]
    hashes = {
        wire.digest(was).hex(): wire.digest(now).hex() for was, now in zip(published.closing, forged, strict=True)
    }
    entries = [
        {**entry, "hash": hashes.get(str(entry.get("hash")), entry.get("hash"))} for entry in entries_of(published)
    ]
    return relogged(replace(published, closing=forged), town, entries)


def more(nodes: dict[str, Any]) -> list[dict[str, Any]]:
    streams: list[dict[str, Any]] = json.loads(json.dumps(nodes["streams"]))
    released, withheld, rho = streams[0]["nodes"]["1h"]
    streams[0]["nodes"]["1h"] = [released + 20, withheld, rho // released * (released + 20)]
    return streams


def cheaper(nodes: dict[str, Any]) -> list[dict[str, Any]]:
    streams: list[dict[str, Any]] = json.loads(json.dumps(nodes["streams"]))
    streams[0]["nodes"]["1h"][2] -= 1
    return streams


def signed_anew(published: Publication, town: Town) -> Publication:
    """With the gateway's own key, the chain whole: only the log says that another message was the last. Passages are
    other ones, since an energy that noise makes negative has a row less."""
    gateway, previous, days = town.gateways["gw-plaza"], wire.FIRST_PREVIOUS, []
    made: dict[bytes, bytes] = {}
    for sealed in gateway.sealed:
        message = wire.open_message(sealed, wire.public_key(gateway.secret))
        outcomes = tuple(town.noisy(one) if one.node.quantity == "footfall" else one for one in message.outcomes)
        made[sealed] = wire.seal_message(replace(message, previous=previous, outcomes=outcomes), gateway.secret)
        previous = wire.digest(made[sealed])
    for day in published.days:
        row = [made.get(sealed, sealed) for sealed in day.read()]
        days.append(replace(day, read=partial(list, row)))
    return replace(published, days=days)


def without_accounts(published: Publication, town: Town) -> Publication:
    return relogged(published, town, [entry for entry in entries_of(published) if entry["kind"] != "spend"])


NODE = Node("plaza/footfall", "footfall", "1h", MONDAY_S, MONDAY_S + 3600, MONDAY_S, 3, 900_000, (0, 0), bytes(32))
MESSAGE = Message("gw-plaza", "centre", "plaza", 1, 900, bytes(32), MONDAY_S, (Withheld(NODE, "sensor_absent"),))

SERVED: dict[str, tuple[str, Attack]] = {
    "a value of a message is altered": ("signature", with_messages(lambda row: [flipped(row[0]), *row[1:]])),
    "a value of the tables is altered": ("row_value", with_rows(lambda rows: altered(rows, value="1"))),
    "a level of the tables is altered": (
        "row_value",
        with_rows(lambda rows: altered(rows, "released", "laeq_db", value="1")),
    ),
    "a bar of the tables is altered": (
        "row_value",
        with_rows(lambda rows: altered(rows, "released", "histogram", value="1")),
    ),
    "a noise of the tables is altered": ("row_sigma", with_rows(lambda rows: altered(rows, sigma="1"))),
    "a reason of the tables is removed": ("row_reason", with_rows(lambda rows: altered(rows, "withheld", reason=""))),
    "a gap is shown as a figure": ("row_reason", with_rows(lambda rows: altered(rows, "withheld", status="released"))),
    "a policy of the tables is another": ("row_policy", with_rows(lambda rows: altered(rows, policy="sha256:00"))),
    "a row is dropped": ("row_missing", with_rows(lambda rows: rows.remove(row_of(rows, indicator="crossings")))),
    "a row is invented": (
        "row_unsigned",
        with_rows(lambda rows: rows.append({**row_of(rows), "start_utc": "2026-11-23T12:07:00Z"})),
    ),
    "a figure has another name": (
        "row_unsigned",
        with_rows(lambda rows: row_of(rows).update(indicator="crossings_total", value="7")),
    ),
    "a row is no row": ("row_unsigned", with_rows(lambda rows: rows.append({"stream": "plaza/footfall"}))),
    "a row stands twice": ("row_twice", with_rows(lambda rows: rows.append(dict(row_of(rows))))),
    "one figure of many is dropped": (
        "row_missing",
        with_rows(lambda rows: rows.remove(row_of(rows, indicator="level_db_mean"))),
    ),
    "a stream is dropped": (
        "row_missing",
        with_rows(lambda rows: keep(rows, lambda row: row["stream"] != "plaza/footfall")),
    ),
    "all tables are dropped": ("row_missing", lambda published, town: replace(published, rows=lambda *_: None)),
    "a table has no rows": ("row_missing", with_rows(lambda rows: rows.clear())),
    "rows of days without messages": (
        "row_unsigned",
        with_rows(
            lambda rows: rows.append(
                {**row_of(rows), "start_utc": "2026-11-05T05:00:00Z", "end_utc": "2026-11-05T06:00:00Z"}
            )
        ),
    ),
    "a month is invented": (
        "row_unsigned",
        lambda published, town: replace(
            published,
            months=["2026-09"],
            rows=lambda month, edition: (
                [{**row_of(rows_of(published)), "start_utc": "2026-09-05T05:00:00Z"}]
                if (month, edition) == ("2026-09", 1)
                else published.rows and published.rows(month, edition)
            ),
        ),
    ),
    **{
        f"another {name} in the tables": ("row_column", altering("released", "", {name: "x"}))
        for name in ("unit", "site", "quantity", "protects", "epsilon", "delta", "mechanism")
    },
    "an end within its day": ("row_column", with_rows(lambda rows: altered(rows, end_utc="2026-11-23T23:00:00Z"))),
    "an end on a day that nobody reads": (
        "row_column",
        with_rows(lambda rows: altered(rows, end_utc="2026-12-24T00:00:00Z")),
    ),
    **{
        f"a column is not there: {name}": ("row_column", with_rows(partial(column_gone, name)))
        for name in opendata.HEADER
        if name not in ("start_utc", "end_utc", "stream", "node", "indicator")
    },
    **{
        f"an estimate is {changes}": (
            "row_estimate",
            altering(of, name, changes),
        )
        for of, name, changes in (
            ("released", "crossings", {"estimate": "1"}),
            ("released", "crossings", {"estimate": "1", "ci95_low": "0", "ci95_high": "2"}),
            ("released", "crossings", {"estimate": ""}),
            ("released", "crossings", {"estimate": "nan"}),
            ("released", "crossings", {"estimate": "x"}),
            ("released", "crossings", {"ci95_low": "9999"}),
            ("released", "crossings", {"ci95_low": ""}),
            ("released", "crossings", {"state": "?"}),
            ("released", "l50_db", {"estimate": "30"}),
            ("released", "l50_db", {"ci95_low": ""}),
            ("withheld", "crossings", {"estimate": "1"}),
        )
    },
    **{
        f"{column} of {name} is another that could be": (
            "row_computed",
            with_rows(partial(nudged, indicator=name, column=column)),
        )
        for name, column in (
            *(("crossings", "estimate"), ("crossings", "ci95_high"), ("level_db_mean", "ci95_low")),
            *(("laeq_db", "estimate"), ("histogram_s_40", "estimate"), ("energy_mean", "estimate")),
        )
    },
    "a level is left out": ("row_missing", with_rows(read_off_nothing)),
    "a table has another sum": ("sum_wrong", with_file(TABLE, lambda data: data + b"\r\n")),
    "a table is missing": ("sum_wrong", with_file(TABLE, lambda data: None)),
    "two sums of one file": ("sum_wrong", with_file(months.SUMS, lambda data: bytes([data[0] ^ 1]) + data[1:])),
    "the list of editions is rubbish": (
        "sum_wrong",
        with_file(months.STATE, lambda data: b'{"months":{"2026-11":[{}]}}'),
    ),
    "the list of editions is deep": ("sum_wrong", with_file(months.STATE, lambda data: b"[" * 100_000)),
    "no file has a sum": ("sum_wrong", without_sums),
    "a Parquet file has another value and no sum": (
        "columnar_wrong",
        lambda published, town: without_sums(with_twin(partial(altered, value="1"))(published, town), town),
    ),
    "a Parquet file has another value": ("columnar_wrong", with_twin(partial(altered, value="1"))),
    "a Parquet file has an older begin": (
        "columnar_wrong",
        with_twin(partial(altered, start_utc="2026-11-23T00:00:01Z")),
    ),
    "a Parquet file has another stream": ("columnar_wrong", with_twin(partial(altered, stream="plaza/x"))),
    "a Parquet file has a cell too many": ("columnar_wrong", with_twin(partial(altered, of="withheld", value="1"))),
    "a Parquet file has fewer rows": (
        "columnar_wrong",
        with_twin(lambda rows: keep(rows, lambda row: row["site"] == "plaza")),
    ),
    "a Parquet file is none": (
        "columnar_wrong",
        lambda published, town: replace(
            published,
            read=lambda path: {
                TWIN: b"x",
                months.SUMS: hashlib.sha256(b"x").hexdigest().encode() + b"  releases-2026-11.parquet\n",
                months.STATE: None,
            }.get(path, published.read(path)),
        ),
    ),
    "a day of a neighbourhood is another": (
        "quartier_row",
        with_line("donnees/centre-jour.csv", cell("estimate", "1")),
    ),
    "a week of a neighbourhood is another": (
        "quartier_row",
        with_line("donnees/centre-semaine.csv", cell("start_utc", "2026-11-23T00:01:00Z")),
    ),
    "a row of a neighbourhood is none": (
        "quartier_row",
        with_line("donnees/centre-semaine.csv", cell("start_utc", "monday")),
    ),
    "a code stands beside another value": ("quartier_row", with_line("donnees/centre-codes.csv", cell("value", "1"))),
    "a code of the year leads elsewhere": ("code_wrong", with_line(YEAR_FILE, cell("code", "2EPYD-47JPC"))),
    "a code of an hour leads elsewhere": ("code_wrong", with_line(HOURS_FILE, cell("code", "2EPYD-47JPC"))),
    "a code of the year is of nothing": ("quartier_row", with_line(YEAR_FILE, cell("stream", "plaza/x"))),
    "a code of the year is none": (
        "quartier_row",
        with_line(YEAR_FILE, lambda line: cell("stream", "plaza/x")(cell("code", "x")(line))),
    ),
    "a code leads elsewhere": ("code_wrong", with_line("donnees/centre-codes.csv", cell("code", "2EPYD-47JPC"))),
    **{
        f"a ledger has {change!r}": (
            "ledger_wrong",
            with_line(LEDGER, partial(replaced, *change)),
        )
        for change in (
            (b'"spent_rho_micro":', b'"spent_rho_micro":1'),
            (b'"released":', b'"released":1'),
            (b"Z", b""),
            (b'"end_utc":"2026', b'"end_utc":"2036'),
            (b'"policy":"sha256:', b'"policy":"sha256:00'),
            (b'"epsilon":"', b'"epsilon":"0'),
        )
    },
    "a ledger lacks a line": ("ledger_wrong", with_line(LEDGER, lambda line: b"")),
    "a row stands in two months, and is right in one": ("row_twice", in_two_months),
    "a ledger tells of a part of each day": ("ledger_wrong", told_of_parts),
    "a ledger lacks a stream": ("ledger_wrong", with_file(LEDGER, lambda data: lines_without(data, b"plaza/noise"))),
    "a ledger is gone": ("ledger_wrong", with_file(LEDGER, lambda data: None)),
    "a ledger has a line twice": ("ledger_wrong", with_line(LEDGER, lambda line: line + line)),
    "a ledger has a stream that nobody has": (
        "ledger_wrong",
        with_line(LEDGER, lambda line: line.replace(b'"stream":"', b'"stream":"x')),
    ),
    "a gateway uses what one role has signed": ("policy_roles", edited("enrolment", 0, roles=["steward"])),
    "a gateway uses what is above its ceiling": ("policy_ceiling", edited("enrolment", 0, ceiling_rho_micro=1)),
    "a release is dropped": ("hole", with_messages(lambda row: row[:20] + row[21:])),
    "the first release is dropped": ("hole", with_messages(lambda row: row[1:])),
    "all days are dropped": ("account_missing", lambda published, town: replace(published, days=[])),
    "the newest day with an account is dropped": (
        "account_missing",
        lambda published, town: replace(published, days=published.days[:1]),
    ),
    "a history is signed anew": ("account_message", signed_anew),
    "a log has no accounts": ("account_missing", without_accounts),
    "a charge has no policy": (
        "account_spend",
        edited("spend", streams=[{"stream": "plaza/x", "policy": 0, "nodes": {"1h": [900, 0, 9]}}]),
    ),
    "a day is none": ("entry", edited("spend", day="9999-12-31")),
    "any number may be missing": ("entry", edited("spend", without=[[1, 10**18]])),
    "a day is dropped": ("hole", lambda published, town: replace(published, days=published.days[1:])),
    "a file cannot be read": (
        "account_missing",
        lambda published, town: replace(
            published, days=[replace(published.days[0], read=unreadable), *published.days[1:]]
        ),
    ),
    "bytes that are no message": ("signature", with_messages(lambda row: [*row, b"\xd2"])),
    "a message by a stranger": (
        "stranger",
        with_messages(lambda row: [*row, wire.seal_message(replace(MESSAGE, gateway="gw-moon"), wire.new_key()[0])]),
    ),
    "a message by the wrong signer": (
        "signature",
        with_messages(lambda row: [*row, wire.seal_message(MESSAGE, wire.new_key()[0])]),
    ),
    "the checkpoint is altered": (
        "checkpoint",
        lambda published, town: replace(published, note=re.sub(rb"(?<=\n)\d+(?=\n)", b"8", published.note, count=1)),
    ),
    "an entry is altered": (
        "log_root",
        lambda published, town: replace(published, entries=[log.entry({"kind": "x"}), *published.entries[1:]]),
    ),
    "the newest entry is hidden": (
        "log_short",
        lambda published, town: replace(published, entries=published.entries[:-1]),
    ),
    "a policy is hidden": ("policy_missing", no_policy),
    "a closing message is hidden": ("account_message", lambda published, town: replace(published, closing=[])),
    "a closing message is altered": (
        "account_message",
        lambda published, town: replace(published, closing=[flipped(one) for one in published.closing]),
    ),
    "an annotation is hidden": ("annotation_missing", annotated(lambda notes, town: [])),
    "an annotation is forged": (
        "annotation_signature",
        annotated(lambda notes, town: [*notes, another_note(town, wire.new_key()[0])]),
    ),
    "an annotation is rubbish": ("annotation_signature", annotated(lambda notes, town: [*notes, b"x"])),
    "an annotation is in no log": (
        "annotation_unlogged",
        annotated(lambda notes, town: [*notes, another_note(town, town.steward)]),
    ),
    # --- a centre that signs its log anew
    "an entry is no entry": (
        "entry",
        lambda published, town: replace(
            published, entries=[b"{}"], note=log.seal_checkpoint(Checkpoint(1, log.leaf_hash(b"{}")), town.centre)
        ),
    ),
    "an entry is not in its one form": (
        "entry",
        lambda published, town: replace(
            published, entries=[b"{ }"], note=log.seal_checkpoint(Checkpoint(1, log.leaf_hash(b"{ }")), town.centre)
        ),
    ),
    "an account is left out": ("account_missing", without_entry("spend", 0)),
    "an account of nobody": ("entry", edited("spend", gateway="gw-moon")),
    "an account has other nodes": ("account_wrong", edited("spend", streams=[])),
    "an account ends with another message": ("account_message", edited("spend", hash=bytes(32).hex())),
    "an account ends with another number": ("account_message", edited("spend", last=20)),
    "accounts change places": ("account_order", moved("spend", 3, 4)),
    "an account goes back": ("account_order", edited("spend", 1, last=1)),
    "a charge is hidden": ("account_spend", edited("spend", streams=cheaper)),
    "more is spent than a day has": ("overspent", edited("spend", streams=more)),
    "a policy is dated back": ("policy_backdated", moved("policy", 0, 8)),
    "a policy is not signed by stewards": ("policy_signature", resealed_policy),
    "a policy is not signed by its site's": ("policy_signature", without_entry("enrolment", 0)),
    "a policy has another text": ("policy_missing", other_text),
    "a policy has a number that is past": ("policy_order", same_number),
    "a policy is shown in other words": ("policy_text", other_words),
    "a gateway is revoked and speaks on": (
        "revoked",
        lambda published, town: relogged(
            published, town, [*entries_of(published), {"kind": "revocation", "gateway": "gw-plaza", "last": 5}]
        ),
    ),
    "a gateway is revoked and has accounts": ("revoked", revoked_at_once),
    "a closing message is by another": ("signature", other_closing),
    "a gateway is elsewhere": ("place", edited("enrolment", 0, quartier="moon")),
}


# What is true beside the finding that names an attack, since it follows from it. Files by neighbourhood differ from
# whatever was altered in the tables; for all other attacks it stands here, and nothing else may be said of them.
FOLLOWS: dict[tuple[str, ...], tuple[str, ...]] = {
    # figures that nobody can read any more: accounts, ledger, tables and files tell of them
    ("account_wrong", "hole", "ledger_wrong", "quartier_row", "row_unsigned"): (
        *("a value of a message is altered", "all days are dropped"),
        *("a release is dropped", "the first release is dropped"),
    ),
    ("account_wrong", "hole", "ledger_wrong", "quartier_row", "row_computed", "row_unsigned"): (
        *("a file cannot be read", "the newest day with an account is dropped"),
    ),
    ("account_missing", "account_wrong", "ledger_wrong", "quartier_row", "row_computed", "row_unsigned"): (
        "a day is dropped",
    ),
    # an enrolment or a policy that cannot be believed, and what rests on it
    ("annotation_signature", "entry", "ledger_wrong", "policy_signature", "quartier_row", "row_unsigned", "stranger"): (
        *("an entry is altered", "an entry is no entry", "an entry is not in its one form"),
        "a policy is not signed by its site's",
    ),
    ("account_wrong", "ledger_wrong", "policy_backdated", "policy_unknown", "row_column"): (
        *("a policy is hidden", "a policy is not signed by stewards", "a policy has another text"),
    ),
    ("policy_backdated", "policy_unknown"): ("a policy has a number that is past",),
    ("annotation_unlogged",): ("the newest entry is hidden",),
    # an account that cannot be read, or is not what its messages add up to
    ("account_missing",): ("a day is none", "any number may be missing", "an account of nobody"),
    ("account_wrong",): ("a charge has no policy", "a charge is hidden", "more is spent than a day has"),
    ("account_message",): ("an account goes back", "a closing message is by another"),
    ("hole",): ("an account ends with another number",),
    # rows, and files that say the same again
    ("row_computed", "row_value"): ("a history is signed anew",),
    ("row_missing",): ("a figure has another name",),
    ("ledger_wrong",): ("a row is dropped", "a stream is dropped", "all tables are dropped", "a table has no rows"),
    ("code_wrong",): ("an end on a day that nobody reads",),
    ("columnar_wrong",): ("a table is missing", "the list of editions is rubbish", "the list of editions is deep"),
    ("sum_wrong",): (
        *("a month is invented", "a Parquet file has another value and no sum", "a Parquet file is none"),
        "a row stands in two months, and is right in one",
    ),
}


def named(published: Publication, attacked: Publication, name: str) -> tuple[bool, set[str]]:
    """Returns whether an attack is named, some without a look at any message, some with those of the first day, and
    what else is said that does not follow from it."""
    kind, days = SERVED[name][0], [day.day for day in published.days]
    follows = {one for kinds_beside, names in FOLLOWS.items() if name in names for one in kinds_beside}
    follows |= {"quartier_row"} if kind.startswith("row_") else set()
    found: set[str] = set()
    for chosen in (None, [], days[:1]):
        found |= set() if kind in found else kinds(verify(attacked, days=chosen))
    return kind in found, found - {kind} - follows


@pytest.mark.parametrize("name", SERVED)
def test_what_is_not_as_it_was_signed_is_named(published: Publication, town: Town, name: str) -> None:
    """One thing is altered at a time: the check says which, and accuses of nothing else but what follows from it."""
    assert named(published, SERVED[name][1](published, town), name) == (True, set())


def test_what_follows_is_said_of_attacks_that_there_are() -> None:
    """And of each in one place alone."""
    names = [name for names in FOLLOWS.values() for name in names]
    assert len(names) == len(set(names)) and set(names) <= set(SERVED)
    assert {kind for kinds_beside in FOLLOWS for kind in kinds_beside} <= set(KINDS)


def test_a_check_that_accuses_too_much_is_found(
    published: Publication, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken twin: whoever finds that a cap was passed beside every other thing names the attack, and is wrong."""
    name = "a noise of the tables is altered"
    attacked = SERVED[name][1](published, town)
    caps = verify_spending.Spending.caps

    def more(self: verify_spending.Spending) -> None:
        caps(self)
        self.report.add("cap", "plaza 1")

    monkeypatch.setattr(verify_spending.Spending, "caps", more)
    assert named(published, attacked, name) == (True, {"cap"})


@pytest.mark.parametrize(
    ("kind", "entries"),
    [("log_shrunk", slice(0, -1)), ("log_forked", slice(1, None))],
)
def test_a_log_that_shrinks_or_forks_is_named(published: Publication, town: Town, kind: str, entries: slice) -> None:
    """Whoever remembers the last checkpoint sees it, though the centre has signed both logs."""
    known = verify(published).checkpoint
    told = entries_of(published)[entries]
    if kind == "log_forked":
        told = [*told, *[{"kind": "annotation", "site": "plaza", "number": 9, "sealed": ""}] * 2]
    shown = relogged(published, town, told)
    assert kind in kinds(verify(shown, days=(), known=[verify(shown).checkpoint, known]))
    assert kind in kinds(verify(shown, days=(), known=[known]))
    assert kind not in kinds(verify(shown, days=()))
    assert kinds(verify(published, days=(), known=[known])) == set()


# --- a gateway in other hands ----------------------------------------------------------------------------------------


def quarter(outcome: Outcome) -> bool:
    return outcome.node.level == "15min"


def finer(town: Town, name: str, at_s: int, outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    """Claims more noise than its policy has, and so a smaller charge."""
    return tuple(
        Release(one.node, tuple(replace(n, sigma_milli=n.sigma_milli + 1) for n in one.noised))
        if isinstance(one, Release) and at_s == MONDAY_S + 900
        else one
        for one in outcomes
    )


def summed(town: Town, name: str, at_s: int, outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    """Draws noise for quarter-hours alone: hours are their sum."""
    kept = town.__dict__.setdefault("kept", {})
    found: list[Outcome] = []
    for one in outcomes:
        if quarter(one) and isinstance(one, Withheld):
            planned = next(node for node in kept["plan"].noised)
            one = Release(replace(one.node, present=20), (replace(planned, integers=(town.random.randrange(900),)),))
        if quarter(one) and isinstance(one, Release):
            kept["plan"], kept[one.node.start_s] = one, one.noised[0].integers[0]
        if one.node.level == "1h" and isinstance(one, Release) and name == "gw-plaza":
            total = sum(kept[one.node.start_s + 900 * part] for part in range(4))
            one = Release(one.node, (replace(one.noised[0], integers=(total,)),))
        found.append(one)
    return tuple(found)


def swapped(town: Town, name: str, at_s: int, outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    """Speaks of another site's stream."""
    return tuple(
        replace(one, node=replace(one.node, stream="plaza/other")) if at_s == MONDAY_S + 900 else one
        for one in outcomes
    )


def unaligned(town: Town, name: str, at_s: int, outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    """Measures other bounds than its policy says."""
    return tuple(
        replace(one, node=replace(one.node, cadence_ms=500)) if at_s == MONDAY_S + 900 else one for one in outcomes
    )


def unnamed(town: Town, name: str, at_s: int, outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    """Names a policy that nobody has published."""
    return tuple(
        replace(one, node=replace(one.node, policy=bytes(32))) if at_s == MONDAY_S + 900 else one for one in outcomes
    )


ROGUES: dict[str, tuple[str, Change]] = {  # the kind that is named first
    "a sigma is altered": ("sigma", finer),
    "noise is used again": ("reused_noise", summed),
    "streams are swapped": ("stream", swapped),
    "a slot is another": ("not_in_policy", unaligned),
    "a policy is invented": ("policy_unknown", unnamed),
}


@pytest.mark.parametrize(("kind", "change"), ROGUES.values(), ids=ROGUES.keys())
def test_a_gateway_that_leaves_its_policy_is_named(
    tmp_path: Path, releases: ModuleType, kind: str, change: Change
) -> None:
    """Its signatures are good, its chain is whole, the centre has filed and logged it: the policy says otherwise."""
    town = Town(tmp_path, releases, change).live(QUARTERS + 1)
    try:
        # An account of a stream that the policy lacks has no right charge either.
        assert kinds(verify(town.export(tmp_path / "export"))) - {"account_spend"} == {kind}
    finally:
        town.archive.close()


@pytest.fixture
def small(tmp_path: Path, releases: ModuleType) -> Iterator[Town]:
    """A town that has not spoken yet."""
    town = Town(tmp_path, releases)
    yield town
    town.archive.close()


def with_message(published: Publication, sealed: bytes) -> Publication:
    """One message more on the last day."""
    *others, last = published.days
    row = [*last.read(), sealed]
    return replace(published, days=[*others, replace(last, read=lambda: row)])


def test_a_gateway_that_says_a_node_twice_is_named(small: Town, tmp_path: Path) -> None:
    """Another value for a figure that was published, in a message that is signed and chained."""
    published = small.live(8).export(tmp_path / "export")
    gateway = small.gateways["gw-plaza"]
    again = tuple(small.noisy(one) for one in gateway.outcomes(MONDAY_S + 900))
    assert "duplicate" in kinds(verify(with_message(published, gateway.seal(MONDAY_S + 900, outcomes=again))))


def test_a_gateway_that_gives_one_number_twice_is_named(small: Town, tmp_path: Path) -> None:
    """Two cards with one key: two messages of one number, and the later does not follow from the first."""
    published = small.live(8).export(tmp_path / "export")
    gateway = small.gateways["gw-plaza"]
    other = wire.seal_message(gateway.message(MONDAY_S + 9 * 900, seq=8, previous=bytes(32)), gateway.secret)
    assert "forked" in kinds(verify(with_message(published, other)))
    after = wire.seal_message(gateway.message(MONDAY_S + 9 * 900, previous=bytes(32)), gateway.secret)
    assert kinds(verify(with_message(published, after))) == {"chain"}


def test_a_health_report_among_the_messages_is_named(small: Town, tmp_path: Path) -> None:
    """What a gateway has signed and is no message of figures does not belong there."""
    published = small.live(8).export(tmp_path / "export")
    assert "signature" in kinds(verify(with_message(published, small.gateways["gw-plaza"].health(60)[1])))


def loosened(town: Town, at_s: int | None, used_s: int) -> None:
    """Publishes a policy of twice the epsilon, and lets the gateway use it from an instant on."""
    looser = policy("plaza", 2, "2.0")
    gateway = town.gateways["gw-plaza"]
    town.publish(looser, at_s)
    with town.archive.transaction():
        for closing_s in range(MONDAY_S + 900, MONDAY_S + 2 * DAY_S + 1800, 900):
            gateway.policy = looser if closing_s > used_s else policy("plaza")
            town.say("gw-plaza", closing_s)


MIDNIGHT_S = MONDAY_S + DAY_S - 3600  # civil


@pytest.mark.parametrize(
    ("notice_s", "found"), [(8 * DAY_S, set[str]()), (6 * DAY_S, {"policy_looser"}), (DAY_S // 2, {"policy_looser"})]
)
def test_a_looser_policy_waits_for_its_notice(small: Town, tmp_path: Path, notice_s: int, found: set[str]) -> None:
    """Seven days between its publication and the first figure under it; the accounts alone show it too."""
    loosened(small, MIDNIGHT_S - notice_s, MIDNIGHT_S)
    published = small.export(tmp_path / "export")
    assert kinds(verify(published)) == found
    if notice_s < DAY_S:
        assert kinds(verify(published, days=())) == found


def test_nobody_knows_the_notice_of_what_was_published_before_the_log(small: Town, tmp_path: Path) -> None:
    """An archive that was upgraded has no dates of publication; nothing is made up. Once the log has a date, all later
    policies have one."""
    loosened(small, None, MIDNIGHT_S)
    published = small.export(tmp_path / "export")
    assert kinds(verify(published)) == {"policy_backdated"}
    told = [{**one, "published": None} if one["kind"] == "policy" else one for one in entries_of(published)]
    assert kinds(verify(relogged(published, small, told))) == set()


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ((("9.0", 0), ("8.9", 0)), {"policy_looser"}),
        ((("9.0", 0), ("9.0", 0)), {"policy_looser"}),
        ((("9.0", 8), ("8.9", 0)), set[str]()),
        ((("9.0", 8), ("9.1", 0)), {"policy_looser"}),
    ],
)
def test_a_looser_policy_that_waits_is_not_passed_round(
    small: Town, tmp_path: Path, steps: tuple[tuple[str, int], ...], found: set[str]
) -> None:
    """What follows on it, tighter by a little, waits as long; what follows later does not."""
    small.live(QUARTERS + 4)
    now_s = MONDAY_S + DAY_S + 3600
    for version, (epsilon, days) in enumerate(steps, 2):
        toml = policy("plaza", version, epsilon)
        small.publish(toml, now_s - days * DAY_S)
    with small.archive.transaction():
        for closing_s in range(now_s + 900, MONDAY_S + 3 * DAY_S + 1800, 900):
            small.gateways["gw-plaza"].policy = toml if closing_s > MIDNIGHT_S + DAY_S else policy("plaza")
            small.say("gw-plaza", closing_s)
    # Such a policy published eight days ago stands behind accounts of yesterday: dated back, as it should be.
    assert kinds(verify(small.export(tmp_path / "export"))) - {"policy_backdated"} == found


def test_a_gateway_may_be_revoked_in_the_middle_of_a_day(small: Town, tmp_path: Path) -> None:
    """Its account of the day is closed at once; what is published an hour later is not dated back."""
    small.live(QUARTERS + 40)
    with small.archive.transaction():
        small.archive.enrol(replace(small.lines["gw-alley"], status="revoked"))
    small.publish(policy("plaza", 2, "0.5"), MONDAY_S + DAY_S + 11 * 3600)
    assert kinds(verify(small.export(tmp_path / "export"))) == set()


def test_a_gateway_that_goes_back_to_an_old_policy_is_named(small: Town, tmp_path: Path) -> None:
    """It has used the newer, tighter one, and uses the older again."""
    tighter, gateway = policy("plaza", 2, "0.5"), small.gateways["gw-plaza"]
    small.publish(tighter, PUBLISHED_S)
    with small.archive.transaction():
        for number, toml in enumerate((policy("plaza"), tighter, policy("plaza")), 1):
            gateway.policy = toml
            small.say("gw-plaza", MONDAY_S + number * 900)
    assert kinds(verify(small.export(tmp_path / "export"))) == {"policy_over"}


def test_figures_withheld_without_a_known_policy_are_accounted(small: Town, tmp_path: Path) -> None:
    """What was withheld under a policy that the archive has not is told with version 0, and no charge."""

    def unknown(town: Town, name: str, at_s: int, outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
        return tuple(Withheld(replace(one.node, policy=bytes(32)), "no_policy") for one in outcomes)

    small.change = unknown
    report = verify(small.live(QUARTERS + 4).export(tmp_path / "export"))
    assert kinds(report) == {"policy_unknown"}
    assert report.accounts == 2


def test_numbers_that_were_refused_are_no_hole(small: Town, tmp_path: Path) -> None:
    """The account of the day says which were settled and not filed."""
    gateway = small.gateways["gw-plaza"]
    small.live(4)
    with small.archive.transaction():
        small.archive.put(
            gateway.message(MONDAY_S + 5 * 900),
            gateway.seal(MONDAY_S + 5 * 900),
            small.lines["gw-plaza"],
            "refused",
            "x",
        )
    small.live(QUARTERS, 5)
    assert kinds(verify(small.export(tmp_path / "export"))) == set()


def test_a_message_that_is_still_on_its_way_is_no_hole(small: Town, tmp_path: Path) -> None:
    """Later ones are there, and the account of the day waits for it; after a week it is one."""
    small.live(4)
    small.gateways["gw-plaza"].seal(MONDAY_S + 5 * 900)
    small.live(QUARTERS, 5)
    assert kinds(verify(small.export(tmp_path / "export"))) == set()
    small.live(1, 8 * QUARTERS)
    assert kinds(verify(small.export(tmp_path / "later"))) == {"hole"}


def test_many_numbers_that_were_refused_are_soon_gone_through() -> None:
    """Each account tells all of them anew: they are joined once, and looked up."""
    told = [(7 * number + 1, 7 * number + 2) for number in range(20_000)]
    joined = verify_messages._joined([*told, *told, (3, 5), (1, 4)])
    assert joined[0] == (1, 5) and len(joined) == 20_000
    first = verify_messages._first_missing
    assert [first(at, 10, joined) for at in (1, 5, 6, 8, 9)] == [6, 6, 6, None, None]
    assert first(1, 6, joined) is None and first(1, 4, []) == 1
    assert all(first(7 * number + 1, 7 * number + 9, joined) for number in range(1, 20_000))


def test_a_key_that_was_changed_is_tried_too(small: Town, tmp_path: Path) -> None:
    """Messages by the key of before stay good."""
    small.live(4)
    gateway, (secret, public) = small.gateways["gw-plaza"], wire.new_key()
    with small.archive.transaction():
        small.lines["gw-plaza"] = small.archive.enrol(replace(small.lines["gw-plaza"], record_key=public))
    gateway.secret = secret
    small.live(4, 4)
    assert kinds(verify(small.export(tmp_path / "export"))) == set()


def test_only_the_days_that_are_asked_for_are_read(published: Publication, town: Town) -> None:
    """Log, policies and accounts are checked in any case, and a message that was dropped before is no finding."""
    middle = published.days[1].day
    report = verify(published, days=[middle])
    assert (report.findings, report.days, report.accounts) == ([], [middle], 4)
    assert 0 < report.messages < verify(published).messages
    first, second, *others = published.days
    row = second.read()[1:]
    dropped = replace(published, days=[first, replace(second, read=lambda: row), *others])
    assert "hole" in kinds(verify(dropped, days=[middle]))
    assert "hole" not in kinds(verify(dropped, days=[first.day]))
    last = published.days[-1]
    assert verify(published, days=[last.day]).findings == []
    # A civil day is estimated from parts of two days: only the second of these has both.
    assert (report.computed, verify(published, days=[]).computed) == (0, 0)
    part = verify(published, days=[first.day, middle])
    assert part.findings == [] and 0 < part.computed < verify(published).computed
    assert report.beside < part.beside < verify(published).beside


def test_every_kind_of_finding_has_an_attack_and_words() -> None:
    """Nothing is named that no test here has brought about, and nothing in one language alone."""
    made = {kind for kind, _ in (*SERVED.values(), *ROGUES.values())}
    made |= {"log_shrunk", "log_forked", "duplicate", "forked", "chain", "policy_looser", "policy_over"}
    made |= {"policy_floor", "policy_undecided", "cap"}
    assert made == set(KINDS) == set(FINDINGS)
    assert all(french and english and french != english for french, english in FINDINGS.values())
    assert len(SERVED) + len(ROGUES) >= 20
    assert all(len(words) == 2 for words in SENTENCES.values())


HOSTILE: tuple[Any, ...] = (None, -1, 10**18, float("inf"), "", "zz", "2026-99-99", "\x1b[31m", [], [[1]], {}, True)


@pytest.mark.parametrize("kind", ["enrolment", "policy", "annotation", "spend"])
def test_whatever_a_centre_writes_into_its_log_there_is_a_report(published: Publication, town: Town, kind: str) -> None:
    """No field of an entry, missing or of any kind, ends the check, makes it wait or reaches a terminal as it is."""
    entries = entries_of(published)
    place = next(at for at, entry in enumerate(entries) if entry["kind"] == kind)
    first = published.days[0].day
    for number, name in enumerate(entries[place]):
        for value in (*(HOSTILE[(3 * number + at) % len(HOSTILE)] for at in range(4)), ...):
            told = {key: one for key, one in entries[place].items() if key != name}
            if value is not ...:
                told[name] = value
            shown = relogged(published, town, [*entries[:place], told, *entries[place + 1 :]])
            report = verify(shown, days=[first] if value == -1 else [])
            assert all(finding.where.isprintable() for finding in report.findings)


def test_a_revocation_may_say_anything(published: Publication, town: Town) -> None:
    """Of nobody, or up to no number."""
    for told in ({"gateway": "gw-moon", "last": 1}, {"gateway": "gw-plaza", "last": "x"}, {}):
        shown = relogged(published, town, [*entries_of(published), {"kind": "revocation", **told}])
        assert "entry" in kinds(verify(shown, days=[]))


def test_findings_are_counted_when_they_are_many(published: Publication, town: Town) -> None:
    """Twenty of a kind are listed, each once; the rest is a number."""
    report = verify(with_messages(lambda row: [flipped(one) for one in row])(published, town))
    assert len(report.findings) == len(set(report.findings))
    assert Counter(one.kind for one in report.findings)["signature"] == 20
    assert report.left_out > 0


def test_many_consequences_do_not_hide_their_cause(published: Publication, town: Town) -> None:
    """Every estimate is another one and one row is dropped: what is told first is that the row is missing, although it
    was found after a hundred others."""

    def changed(rows: list[dict[str, str]]) -> None:
        rows.remove(row_of(rows, indicator="crossings"))
        for row in rows:
            if row["indicator"] == "crossings" and row["estimate"]:
                row["estimate"] = f"{float(row['estimate']) + 0.01:.6f}"

    report = verify(with_rows(changed)(published, town))
    told = [one.kind for one in report.told]
    assert told.count("row_computed") == 20 and report.left_out > 80
    assert "row_missing" in told and told.index("row_missing") < told.index("row_computed")
    assert sorted(told, key=KINDS.index) == told and len(told) == len(report.findings)


PARTS = (verify_log.Book, verify_messages.Heard, verify_spending.Spending, verify_tables.Tables, verify_files.Files)


@pytest.mark.parametrize(
    "blind",
    [
        *("closing", "messages", "sequences", "accounts", "read", "annotations", "entries", "used", "ledger"),
        *("_compute", "sums", "_same_rows", "quartiers"),
    ],
)
def test_a_check_that_leaves_a_step_out_is_found(
    published: Publication, town: Town, monkeypatch: pytest.MonkeyPatch, blind: str
) -> None:
    """The twins: each step of the check is needed by an attack above."""
    needed = {
        "closing": "a closing message is hidden",
        "messages": "a message by a stranger",
        "sequences": "a release is dropped",
        "accounts": "an account has other nodes",
        "read": "a value of the tables is altered",
        "annotations": "an annotation is hidden",
        "entries": "accounts change places",
        "used": "a gateway uses what one role has signed",
        "ledger": "a ledger lacks a line",
        "_compute": "estimate of crossings is another that could be",
        "sums": "a table has another sum",
        "_same_rows": "a Parquet file has another value",
        "quartiers": "a code leads elsewhere",
    }
    part = next(one for one in PARTS if hasattr(one, blind))
    kind, attack = SERVED[needed[blind]]
    days = [day.day for day in published.days[:2]]
    assert kind in kinds(verify(attack(published, town), days=days))
    monkeypatch.setattr(part, blind, lambda self, *args, **named: True)
    assert kind not in kinds(verify(attack(published, town), days=days))


CAP = 'nodes = {{ {nodes} }}\ncap = {{ units_per_day = {units}, span = "1w", epsilon = {epsilon} }}'


def with_cap(town: Town, units: int, epsilon: str) -> bytes:
    """The plaza's policy with a cap on its passages."""
    nodes = '"15min" = 1, "1h" = 1, "1d" = 1'
    text = policy("plaza", 2).decode()
    capped = CAP.format(nodes=nodes, units=units, epsilon=epsilon)
    return text.replace(f"nodes = {{ {nodes} }}", capped).encode()


@pytest.mark.parametrize(
    ("units", "epsilon", "found"),
    [(1, "1.1", {"cap"}), (1, "3.0", set[str]()), (2, "2.2", {"cap"})],
)
def test_a_cap_that_is_passed_is_named(
    small: Town,
    tmp_path: Path,
    units: int,
    epsilon: str,
    found: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gateway that goes on when its tank is empty, by its messages, or by the accounts alone: of a day in which all
    hours were released, and the day itself, they say that at least both were spent. And the twin that never adds up."""
    capped = with_cap(small, units, epsilon)
    small.publish(capped, PUBLISHED_S)
    small.gateways["gw-plaza"].policy = capped
    published = small.live().export(tmp_path / "export")
    assert kinds(verify(published)) == kinds(verify(published, days=())) == found
    monkeypatch.setattr(verify_spending.Spending, "caps", lambda self: None)
    assert kinds(verify(published)) == set()


def test_a_cap_counts_what_was_spent_under_the_policy_before(small: Town, tmp_path: Path) -> None:
    """The first day had no cap, and accuses nobody; the second is one too many beside it."""
    capped, gateway = with_cap(small, 1, "1.1"), small.gateways["gw-plaza"]
    small.publish(capped, PUBLISHED_S)
    with small.archive.transaction():
        for number in range(2 * QUARTERS + 4):
            gateway.policy = capped if number >= QUARTERS - 4 else policy("plaza")
            small.say("gw-plaza", MONDAY_S + (number + 1) * 900)
    (found,) = verify(small.export(tmp_path / "export")).findings
    assert found.kind == "cap" and found.where.startswith("plaza 2: plaza/footfall 2026-11-23: ")


def test_a_policy_under_which_nothing_was_released_harms_nobody(tmp_path: Path, releases: ModuleType) -> None:
    """One role has signed it, and two should have: its gateway withheld everything."""

    def withheld(town: Town, name: str, at_s: int, outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
        return tuple(Withheld(replace(one.node, present=3), "sensor_absent") for one in outcomes)

    town = Town(tmp_path, releases, withheld).live(QUARTERS + 4)
    published = town.export(tmp_path / "export")
    town.archive.close()
    assert kinds(verify(edited("enrolment", 0, roles=["steward"])(published, town))) == set()


@pytest.mark.parametrize(("epsilon", "found"), [("1.3", {"cap"}), ("2.0", set[str]())])
def test_the_days_of_a_cap_may_begin_in_the_morning(small: Town, tmp_path: Path, epsilon: str, found: set[str]) -> None:
    """A stream with parts of the day: their charges exclude each other, and a night counts in the day before."""
    nodes = '"1h" = 1, "day" = 1, "evening" = 1, "night" = 1'
    text = policy("plaza", 2, nodes=nodes).decode()
    capped = text.replace(f"nodes = {{ {nodes} }}", CAP.format(nodes=nodes, units=1, epsilon=epsilon)).encode()
    small.publish(capped, PUBLISHED_S)
    small.gateways["gw-plaza"].policy = capped
    published = small.live().export(tmp_path / "export")
    assert kinds(verify(published)) == kinds(verify(published, days=())) == found


def test_a_check_that_never_looks_at_noise_is_found(
    tmp_path: Path, releases: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its twin: without the comparison of totals with their parts, noise that is used again passes for right."""
    town = Town(tmp_path, releases, summed).live(QUARTERS + 1)
    published = town.export(tmp_path / "export")
    town.archive.close()
    monkeypatch.setattr(verify_messages, "_HITS", 10_000)
    assert kinds(verify(published)) == set()


def test_little_noise_may_have_any_sum(tmp_path: Path, releases: ModuleType) -> None:
    """Where the policy asks for so little noise that totals are often the sum of their parts, nobody is accused of it;
    but no gateway of ours uses a policy of epsilon 20."""
    town = Town(tmp_path, releases, summed)
    gateway = town.gateways["gw-plaza"]
    gateway.policy = policy("plaza", 2, "20.0")
    town.publish(gateway.policy, PUBLISHED_S)
    published = town.live(QUARTERS + 1).export(tmp_path / "export")
    town.archive.close()
    assert kinds(verify(published)) == {"policy_ceiling"}
    higher = edited("enrolment", 0, ceiling_rho_micro=1 << 40)(published, town)
    assert kinds(verify(higher)) == {"policy_floor"}


def test_the_newest_edition_has_all_rows(published: Publication) -> None:
    """An older one lacks what came late, and is judged row by row; a newer one lacks nothing."""
    rows = rows_of(published)
    for editions, found in (
        ([rows[9:], rows], set[str]()),
        ([rows, rows], set()),
        ([rows, rows[9:]], {"row_missing"}),
        ([[{**rows[0], "unit": "x"}, *rows[1:]], rows], {"row_column"}),
    ):
        shown = replace(
            published,
            read=lambda path: None,
            rows=lambda month, edition, editions=editions: (  # type: ignore[misc]
                editions[edition - 1] if month == "2026-11" and edition <= len(editions) else None
            ),
        )
        report = verify(shown)
        assert kinds(report) == found | {"sum_wrong", "ledger_wrong"}  # there are no other files
        ends = ".csv", ".parquet", ".2.csv", ".2.parquet"
        assert {one.where for one in report.findings if one.kind == "sum_wrong"} == {
            f"releases-2026-11{end}" for end in ends
        }


def test_of_two_columns_with_one_name_neither_is_read(published: Publication) -> None:
    """One shows what was signed, and the other something else: a reader may take either. A column of another name says
    nothing of ours."""
    head, *lines = (published.read(TABLE) or b"").splitlines()
    value = opendata.HEADER.index("value")
    for name, found in ((b"value", {"row_unsigned", "row_missing"}), (b"x", {"ledger_wrong"})):  # no other files
        rows = [head + b"," + name, *(line + b"," + line.split(b",")[value] for line in lines)]
        first = lines[5].split(b",")
        if name == b"value":
            rows[6] = b",".join([*first[:value], b"1", *first[value + 1 :], first[value]])
        data = b"\r\n".join(rows)
        shown = replace(
            published,
            read=lambda path: None,
            rows=lambda month, edition, data=data: (  # type: ignore[misc]
                rows_in(data) if (month, edition) == ("2026-11", 1) else None
            ),
        )
        assert kinds(verify(shown)) == found | {"sum_wrong"}


def test_a_stream_without_a_page_has_no_rows(town: Town, tmp_path: Path) -> None:
    """The tables are of the sites that the town has described; the messages of others are checked all the same."""
    report = verify(sources.Site(str(town.site(tmp_path / "site", without="alley"))).published())
    assert (kinds(report), report.untold) == (set(), ["alley"])


# --- short codes -----------------------------------------------------------------------------------------------------


def code_of(row: Mapping[str, str]) -> str:
    start_s, end_s = parse_utc(row["start_utc"]), parse_utc(row["end_utc"])
    return codes.code(row["stream"], row["node"], start_s, end_s, row["indicator"])


def rows_of(published: Publication) -> list[dict[str, str]]:
    assert published.rows is not None
    return [dict(row) for row in published.rows("2026-11", 1) or ()]


def test_every_row_has_a_code_that_leads_to_what_was_signed(published: Publication) -> None:
    """Each indicator of each node, also what is read off another and what was withheld; no two rows share one here."""
    rows = rows_of(published)
    assert len({code_of(row) for row in rows}) == len(rows)
    every = {row["indicator"]: row for row in rows}
    for name in ("crossings", "level_db_mean", "energy_mean", "laeq_db", "l50_db", "histogram_s_40_45_db"):
        row = every[name]
        report, (match,) = find(published, code_of(row).lower())
        assert (report.findings, match.row, match.differs) == ([], row, None)
        value, sigma, rho = figures(match.outcome)[row["indicator"]]
        assert (value, sigma, rho) == (row["value"], row["sigma"], row["rho_micro"])
    withheld = row_of(rows, "withheld")
    _, (match,) = find(published, code_of(withheld))
    assert isinstance(match.outcome, Withheld) and match.row == withheld


def test_a_code_shows_what_differs(published: Publication, town: Town) -> None:
    """The tables say another number; or have no such row; or the source has no tables."""
    row = row_of(rows_of(published))
    attack = with_rows(lambda rows: row_of(rows).update(value="1"))
    assert find(attack(published, town), code_of(row))[1][0].differs == "row_value"
    attack = with_rows(lambda rows: rows.remove(row_of(rows)))
    assert find(attack(published, town), code_of(row))[1][0].differs == "row_missing"
    assert find(replace(published, rows=None), code_of(row))[1][0].differs is None


@pytest.mark.parametrize("text", ["", "2EPYD", "2EPYD-47JPCX", "2EPYD-47JP!", "2EPYD-47JPD"])
def test_what_is_no_code_is_told(published: Publication, text: str) -> None:
    """Too short, too long, another sign, or one letter mistyped."""
    with pytest.raises(ValueError, match="no code"):
        find(published, text)


def test_one_letter_mistyped_is_always_seen() -> None:
    """Any other letter in any place of a code makes none; letters that look alike are read as what was meant."""
    whole = codes.code("plaza/footfall", "1h", MONDAY_S, MONDAY_S + 3600, "crossings")
    letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    assert codes.read(whole) == (whole, MONDAY_S // DAY_S)
    assert codes.read(whole.lower().replace("1", "l").replace("0", "o").replace("-", " ")) == (whole, MONDAY_S // DAY_S)
    for place, was in enumerate(whole):
        for letter in letters:
            if was not in (letter, "-"):
                with pytest.raises(ValueError, match="no code"):
                    codes.read(whole[:place] + letter + whole[place + 1 :])


# --- the command -----------------------------------------------------------------------------------------------------


def said(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    try:
        status = main(["verify", *map(str, args)])
    except SystemExit as end:
        status = int(str(end.code))
    told = capsys.readouterr()
    return status, told.out, told.err


def test_the_command_says_in_two_languages_that_a_site_conforms(
    folder: Path, town: Town, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 0; how much was looked at, and whose key it was."""
    status, french, _ = said(capsys, folder)
    assert status == 0 and french.splitlines()[-1] == "CONFORME : tout est comme signé."
    assert f"clé {town.public.hex()[:16]}…" in french and "3 jours sur 3, du 2026-11-23 au 2026-11-25" in french
    status, english, _ = said(capsys, folder, "--lang", "en", "--key", town.public.hex())
    assert status == 0 and english.splitlines()[-1] == "CONFORMING: everything is as signed."
    assert "signed by the key that you gave" in english
    status, one_day, _ = said(capsys, folder, "--days", 1)
    assert "1 jours sur 3, du 2026-11-25 au 2026-11-25. Pour tous : --all." in one_day
    status, nothing, _ = said(capsys, folder, "--days", 0)
    assert status == 0 and "jours sur" not in nothing


def test_the_command_names_what_is_wrong(
    folder: Path, town: Town, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1, a line for each finding in words; as JSON the same for programs."""
    copy = tmp_path / "site"
    shutil.copytree(folder, copy)
    table = copy / "donnees/releases-2026-11.csv"
    table.write_text(table.read_text().replace("sensor_absent", "", 1))
    status, french, _ = said(capsys, copy, "--all")
    assert status == 1 and "NON CONFORME : " in french
    assert "- le tableau tait ou change le motif d'une absence (plaza/footfall 15min" in french
    status, told, _ = said(capsys, copy, "--json")
    # The files beside it are as they were, and its sum.
    found = {one["kind"] for one in json.loads(told)["findings"]}
    assert status == 1 and found == {"row_reason", "sum_wrong", "columnar_wrong", "quartier_row"}
    first = copy / "donnees/messages/2026-11-23.cose"
    first.write_bytes(b"".join(flipped(one) for one in wire.messages_in(first.read_bytes())))
    status, french, _ = said(capsys, copy)
    assert status == 1 and "… et " in french
    monkeypatch.setattr(verify_cli, "AT_ONCE", 1)
    status, told, _ = said(capsys, copy, "--json")
    assert json.loads(told)["days"] == ["2026-11-25"]


def test_why_a_checkpoint_is_none_is_said_in_the_language_of_the_answer(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One finding is one, and the reason beside it is French in a French answer."""
    copy = tmp_path / "site"
    shutil.copytree(folder, copy)
    note = copy / "donnees/journal/checkpoint.txt"
    size = note.read_text().split("\n")[1]
    note.write_text(note.read_text().replace(f"\n{size}\n", f"\n{int(size) - 1}\n", 1))
    for language, end in (
        ("fr", "NON CONFORME : 1 constat.\n- {} (la signature n'est pas de la clé attendue)\n"),
        ("en", "NOT CONFORMING: 1 finding.\n- {} (the signature is not by the expected key)\n"),
    ):
        status, told, _ = said(capsys, copy, "--lang", language)
        assert status == 1 and told.endswith(end.format(FINDINGS["checkpoint"][language == "en"]))


def test_the_command_says_what_it_has_not_checked(
    town: Town, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How estimates come about, what is no CSV, and a place of which the tables say nothing at all."""
    site = town.site(tmp_path / "site", without="alley")
    status, french, _ = said(capsys, site, "--all")
    assert status == 0 and "aucune ligne de tableau pour ces lieux : alley." in french
    assert "Non vérifié : les pages" in french
    assert json.loads(said(capsys, site, "--all", "--json")[1])["untold"] == ["alley"]


def test_without_pyarrow_parquet_files_are_checked_by_their_sums(
    folder: Path, published: Publication, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the answer says so."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    columnar.reader.cache_clear()
    try:
        report = verify(published)
        assert (report.findings, report.sums, report.columnar) == ([], 2, None)
        assert "leurs empreintes seulement" in said(capsys, folder)[1]
    finally:
        columnar.reader.cache_clear()


def open_month(
    published: Publication, make: Callable[[list[dict[str, str]], list[dict[str, str]]], None]
) -> Publication:
    """The same figures while the month is open: its files end at a midnight, and what begins later is in the file of
    the day. `make`: changes the rows of the two."""
    rows, midnight_s = rows_of(published), MONDAY_S + DAY_S
    over = [row for row in rows if parse_utc(row["start_utc"]) < midnight_s]
    today = [row for row in rows if parse_utc(row["start_utc"]) >= midnight_s]
    assert min(len(over), len(today)) > 100
    make(over, today)
    table, running = (opendata.table(tuple(row.values()) for row in part) for part in (over, today))
    twin = parquet.table(catalogue.columns("releases"), table, {})
    state = json.loads(published.read(months.STATE) or b"")
    state["months"]["2026-11"][0] |= {
        "closed_s": None,
        "until_s": midnight_s,
        "sha256": hashlib.sha256(table).hexdigest(),
        "columnar_sha256": hashlib.sha256(twin).hexdigest(),
    }
    files = {TABLE: table, TWIN: twin, RUNNING: running, months.SUMS: b"", months.STATE: json.dumps(state).encode()}
    return replace(
        published,
        read=lambda path: files.get(path, published.read(path)),
        rows=lambda month, edition: over if (month, edition) == ("2026-11", 1) else None,
    )


def test_an_open_month_that_ends_at_midnight_conforms_with_the_file_of_the_day(published: Publication) -> None:
    """As many rows as one file of all, and each estimate computed anew; the Parquet file is that of the month."""
    whole, parts = verify(published), verify(open_month(published, lambda over, today: None))
    assert (parts.findings, parts.rows, parts.computed) == ([], whole.rows, whole.computed)
    assert parts.beside == whole.beside and 0 < (parts.columnar or 0) < parts.rows


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("row_missing", lambda over, today: over.remove(row_of(over, indicator="level_db_mean"))),
        ("row_missing", lambda over, today: today.pop()),
        ("row_missing", lambda over, today: today.clear()),
        ("row_twice", lambda over, today: today.append(dict(over[7]))),
        ("row_twice", lambda over, today: over.append(dict(today[7]))),
        ("row_twice", lambda over, today: today.append(dict(today[7]))),
        ("row_value", lambda over, today: next(row for row in today if row["value"]).update(value="7")),
        ("row_unsigned", lambda over, today: today[0].update(start_utc="2026-11-05T05:00:00Z")),
    ],
)
def test_what_is_wrong_on_either_side_of_midnight_is_named(
    published: Publication, kind: str, make: Callable[[list[dict[str, str]], list[dict[str, str]]], None]
) -> None:
    """Dropped, doubled, altered, invented: in the file of the month, in that of the day, or across both."""
    assert kind in kinds(verify(open_month(published, make)))


def test_a_check_that_leaves_out_the_file_of_the_day_accuses_the_town(
    published: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: every figure of today would be missing."""
    monkeypatch.setattr(verify_tables, "RUNNING", "donnees/nothing.csv")
    assert "row_missing" in kinds(verify(open_month(published, lambda over, today: None)))


def test_a_check_that_goes_by_the_sums_that_are_told_is_found(
    published: Publication, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: whoever serves the files leaves the sums out, and nothing is compared."""
    kind, attack = SERVED["a Parquet file has another value and no sum"]
    attacked = attack(published, town)
    assert kinds(verify(attacked)) == {kind, "sum_wrong"}
    read = verify_tables.Tables.read

    def blind(self: verify_tables.Tables, unread: set[int], line: int | None) -> None:
        read(self, unread, line)
        self.editions.clear()

    monkeypatch.setattr(verify_tables.Tables, "read", blind)
    assert verify(attacked).findings == []


def test_a_level_of_a_negative_energy_is_named(small: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be read off nowhere, whatever the tables say."""
    drawn = small.drawn

    def negative(node: Node, noised: Noised) -> Noised:
        return replace(noised, integers=(-5,)) if noised.indicator == "energy" else drawn(node, noised)

    monkeypatch.setattr(small, "drawn", negative)
    published = sources.Site(str(small.live().site(tmp_path / "site"))).published()
    rows = rows_of(published)
    assert verify(published).findings == [] and not any(row["indicator"] == "laeq_db" for row in rows)
    level = {"indicator": "laeq_db", "value": "", "sigma": "", "unit": "dB"}
    invented = {**row_of(rows, indicator="energy_mean"), **level, "estimate": "50", "ci95_low": "", "ci95_high": "60"}
    shown = with_rows(lambda rows: rows.append(invented))(replace(published, read=lambda path: None), small)
    assert kinds(verify(shown)) == {"row_computed", "sum_wrong", "ledger_wrong"}  # there are no other files


def test_a_parquet_file_that_swells_is_left(published: Publication, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is unpacked."""
    monkeypatch.setattr(columnar, "_LARGEST", 1000)
    assert kinds(verify(published)) == {"columnar_wrong"}


def test_what_a_node_says_is_worked_out_once_for_all_of_its_rows(
    published: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty of them, where it has a bin for each level; and once each to see what is missing and what is estimated."""
    asked: Counter[tuple[str, str, int]] = Counter()

    def counted(outcome: Outcome) -> dict[str, tuple[str, str, str]]:
        asked[outcome.node.key] += 1
        return figures(outcome)

    monkeypatch.setattr(verify_tables, "figures", counted)
    report = verify(published)
    assert report.findings == [] and len(asked) == report.nodes and max(asked.values()) == 3


def test_a_text_of_many_rows_of_a_parquet_file_is_made_once(
    published: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among the rows that are read at once; however many these are, the rows are the same."""
    read, data = columnar.reader(), published.read(TWIN)
    assert read and data
    rows = list(read(data))
    assert len({id(row["policy"]) for row in rows}) == len({row["policy"] for row in rows}) == 2
    assert {type(row["value"]) for row in rows} == {float, type(None)} and len(rows) == len(rows_of(published))
    for at_once in (1, 7, 100):
        monkeypatch.setattr(columnar, "_ROWS", at_once)
        assert list(read(data)) == rows


def test_long_texts_of_a_parquet_file_are_made_one_after_the_other() -> None:
    """A small file can hold many: a check that ends at the first row has made one of them."""
    import pyarrow
    from pyarrow import parquet

    read, file = columnar.reader(), io.BytesIO()
    table = pyarrow.table({"site": [f"{number}{'x' * 100_000}" for number in range(200)]})
    parquet.write_table(table, file, compression="zstd", use_dictionary=False)
    assert read and len(file.getvalue()) < 100_000
    tracemalloc.start()
    try:
        assert next(iter(read(file.getvalue())))["site"].startswith("0x")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_cell_is_compared_with_its_type_whatever_was_compared_before() -> None:
    """1.0 and the decimal 1 are equal; only one of them is a number of ours."""
    for value, as_said in (
        (1.0, True),
        (Decimal(1), False),
        (1.0, True),
        (True, True),
        (b"1", False),
        (["1"], False),
        (None, False),
    ):
        assert columnar.same({"value": value}, {"value": "1"}) is as_said


@pytest.mark.parametrize(("wide", "days"), [(False, 2), (True, 3)])
def test_a_code_leads_to_all_days_that_its_estimate_is_made_of(
    small: Town, tmp_path: Path, wide: bool, days: int
) -> None:
    """Those beside it; where a policy has weeks, a week on each side."""
    small.publish(policy("plaza", 2, nodes='"1h" = 1, "1w" = 1' if wide else '"1h" = 1'), PUBLISHED_S)
    published = sources.Site(str(small.live().site(tmp_path / "site"))).published()
    row = row_of(rows_of(published), indicator="crossings")
    report, (match,) = find(published, code_of(row))
    assert (len(report.days), match.differs, match.computed) == (days, None, True)
    assert find(replace(published, note=b""), code_of(row))[1] == []


def test_the_command_compares_a_checkpoint_that_was_noted_down(
    folder: Path, published: Publication, capsys: pytest.CaptureFixture[str]
) -> None:
    """By hand, from a page of another day or by somebody else: it has to be how the log begins."""
    lines = published.note.decode().split("\n")
    size, root = int(lines[1]), lines[2]
    assert said(capsys, folder, "--seen", f"{size}:{root}", "--seen", f"0:{EMPTY}")[0] == 0
    status, french, _ = said(capsys, folder, "--seen", f"{size - 1}:{root}")
    assert status == 1 and "son début a changé" in french
    status, french, _ = said(capsys, folder, "--seen", f"{size + 1}:{root}")
    assert status == 1 and "a perdu des entrées" in french
    for text in ("x", f"-1:{root}", f"{size}:{root[:-8]}", f"{size}:{root[:-1]}", f"{size}"):
        status, _, problem = said(capsys, folder, f"--seen={text}")
        assert (status, problem.count("\n")) == (2, 1) and "pas une tête de journal" in problem


EMPTY = b64encode(log.EMPTY_ROOT).decode()


def test_the_command_says_who_loosens_alone(small: Town, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One key is no finding where one is enough, and should be known; so is a gateway whose pins nobody has logged."""
    looser = policy("plaza", 2, "2.0")
    small.publish(looser, PUBLISHED_S)
    second, public = wire.new_key()
    name, line = "gw-annex", small.lines["gw-alley"]
    with small.archive.transaction():
        small.archive.enrol(replace(line, id=0, gateway=name, record_key=public, stewards=(*line.stewards, public)))
    small.publish(policy("alley", 2, "2.0", '"1h" = 1'), PUBLISHED_S, second)
    report = verify(small.live(8).export(tmp_path / "export"))
    assert (kinds(report), report.alone, report.unpinned) == (set(), ["plaza 2"], [name])
    status, french, _ = said(capsys, tmp_path / "export")
    assert status == 0 and "qu'une seule clé a signées : plaza 2." in french
    assert "pour 1 boîtiers dont le journal ne le dit pas" in french


def test_two_roles_may_loosen_under_the_ceiling(small: Town, tmp_path: Path) -> None:
    """As the log says of each gateway; the same two keys in one role may not."""
    secret, public = wire.new_key()
    small.publish(policy("plaza", 2, "2.0"), PUBLISHED_S, secret)
    small.gateways["gw-plaza"].policy = policy("plaza", 2, "2.0")
    published = small.live(4).export(tmp_path / "export")
    stewards = [wire.public_key(small.steward).hex(), public.hex()]

    def told(roles: list[str], **changes: Any) -> Publication:
        return edited("enrolment", 0, stewards=stewards, roles=roles, **changes)(published, small)

    assert kinds(verify(told(["steward", "dpo"]))) == set()
    assert kinds(verify(told(["steward", "steward"]))) == {"policy_roles"}
    assert kinds(verify(told(["steward", "dpo"], ceiling_rho_micro=60_000))) == {"policy_ceiling"}
    assert kinds(verify(told([], signatures_required=2))) == {"policy_signature"}


def test_a_policy_without_a_decision_is_named(small: Town, tmp_path: Path) -> None:
    """No gateway believes one that names none, whoever signed it."""
    undecided = policy("plaza", 2, "0.5").replace(b'decision = "D"', b'decision = " "')
    small.publish(undecided, PUBLISHED_S)
    small.gateways["gw-plaza"].policy = undecided
    assert kinds(verify(small.live(4).export(tmp_path / "export"))) == {"policy_undecided"}


def test_the_command_remembers_a_log(
    folder: Path, town: Town, published: Publication, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same log again is fine; a shorter one, signed as well, is not, and is not remembered."""
    memory, copy = tmp_path / "memory.json", tmp_path / "site"
    assert said(capsys, folder, "--remember", memory)[0] == 0
    kept = memory.read_text()
    assert said(capsys, folder, "--remember", memory)[0] == 0
    shutil.copytree(folder, copy)
    shorter = relogged(published, town, entries_of(published)[:-1])
    (copy / "donnees/journal/checkpoint.txt").write_bytes(shorter.note)
    status, french, _ = said(capsys, copy, "--remember", memory)
    assert status == 1 and "le journal a perdu des entrées" in french and memory.read_text() == kept
    memory.write_text(kept.replace(town.public.hex(), "00" * 32))
    assert said(capsys, folder, "--remember", memory)[0] == 2
    memory.write_text("{}")
    assert said(capsys, folder, "--remember", memory)[0] == 2
    assert said(capsys, folder, "--remember", tmp_path / "no" / "folder.json")[0] == 1


def test_the_command_leads_from_a_code_to_what_was_signed(
    folder: Path, published: Publication, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Conforming or the difference, in words and as JSON; a code of no figure, one mistyped, and none at all."""
    row, absent = row_of(rows_of(published)), row_of(rows_of(published), "withheld")
    status, french, _ = said(capsys, code_of(row), "--site", folder)
    assert status == 0 and f": {row['value']} (bruit {row['sigma']}" in french and "CONFORME : le tableau" in french
    status, told, _ = said(capsys, code_of(row), "--site", folder, "--json")
    shown = json.loads(told)
    assert (shown["conforming"], shown["code"], shown["figures"][0]["row"]) == (True, code_of(row), row)
    status, french, _ = said(capsys, code_of(absent), "--site", folder)
    assert status == 0 and "sensor_absent" in french
    copy = tmp_path / "site"
    shutil.copytree(folder, copy)
    table = copy / "donnees/releases-2026-11.csv"
    whole = ",".join(row.values())
    assert whole in table.read_text()
    table.write_text(table.read_text().replace(whole, whole.replace(f",{row['value']},", ",1,", 1)))
    status, french, _ = said(capsys, code_of(row), "--site", copy)
    assert status == 1 and "DIFFÉRENCE : le tableau dit un autre nombre" in french and "NON CONFORME" in french
    nobody = codes.code("moon/footfall", "1h", MONDAY_S, MONDAY_S + 3600, "crossings")
    status, french, _ = said(capsys, nobody, "--site", folder)
    assert status == 1 and "Aucune mesure du 2026-11-23 n'a ce code." in french
    mistyped = code_of(row)[:-1] + ("2" if code_of(row)[-1] != "2" else "3")
    status, _, problem = said(capsys, mistyped, "--site", folder)
    assert status == 2 and problem.count("\n") == 1 and "n'est pas un code" in problem
    assert said(capsys, code_of(row))[0] == 2


def test_the_command_says_of_a_marked_figure_that_it_is_faulty(
    folder: Path, published: Publication, town: Town, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the marked quarter-hour up to the day that contains it, whatever its stewards wrote, in both languages; the
    next quarter-hour, another stream of the same time, and what was forged, is in no log or was taken back, not."""
    rows = [row for row in rows_of(published) if row["status"] == "released"]
    start, end = "2026-11-23T17:00:00Z", "2026-11-23T17:15:00Z"
    marked = {"start": start, "end": end, "cause": "works", "number": 1}

    def of(stream: str, level: str, begins: str) -> Mapping[str, str]:
        key = (stream, level, begins)
        return next(row for row in rows if (row["stream"], row["node"], row["start_utc"]) == key)

    faulty = of("plaza/footfall", "15min", start)
    status, french, _ = said(capsys, code_of(faulty), "--site", folder)
    told = (
        "signalée fausse par les responsables, du 2026-11-23T17:00:00Z au 2026-11-23T17:15:00Z (UTC) : travaux à côté"
    )
    assert status == 0 and f"{told}. Bâche." in french
    status, english, _ = said(capsys, code_of(faulty), "--site", folder, "--lang", "en")
    assert status == 0 and "faulty measurement" in english and "works nearby. Bâche." in english
    assert json.loads(said(capsys, code_of(faulty), "--site", folder, "--json")[1])["figures"][0]["faulty"] == [marked]
    clean = of("plaza/footfall", "15min", end)
    status, french, _ = said(capsys, code_of(clean), "--site", folder)
    assert status == 0 and "fausse" not in french
    assert json.loads(said(capsys, code_of(clean), "--site", folder, "--json")[1])["figures"][0]["faulty"] == []
    # A mark is of a node: one figure of each is enough.
    others = {(row["stream"], row["node"]): row for row in rows if row["start_utc"] <= start < row["end_utc"]}
    for row in others.values():
        (found,) = find(published, code_of(row))[1]
        assert bool(found.faulty) == (row["stream"] == "plaza/footfall"), row
    assert {level for stream, level in others if stream == "plaza/footfall"} > {"15min"}
    assert {stream for stream, _ in others} > {"plaza/footfall"}
    for note in (another_note(town, wire.new_key()[0]), another_note(town, town.steward)):
        (found,) = find(replace(published, annotations=[note]), code_of(faulty))[1]
        assert found.faulty == ()


def test_the_command_reads_an_archive_as_files(
    town: Town, published: Publication, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same checks, but for the tables, which it has not."""
    town.export(tmp_path / "export")
    status, french, _ = said(capsys, tmp_path / "export")
    assert status == 0 and " 0 lignes de tableau" in french
    code = code_of(row_of(rows_of(published)))
    status, french, _ = said(capsys, code, "--site", tmp_path / "export")
    assert status == 0 and "Cette source n'a pas de tableaux." in french
    assert json.loads(said(capsys, tmp_path / "export", "--json")[1])["octets"] is None
    (tmp_path / "export" / "log.jsonl").write_text("{}")
    assert said(capsys, tmp_path / "export")[0] == 1
    (tmp_path / "export" / "log.jsonl").unlink()
    assert said(capsys, tmp_path / "export")[0] == 1


def test_an_archive_that_nobody_signed_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before its centre has run once there is no log to check: one line, and what to do."""
    archive = Archive.open(tmp_path / "archive.db")
    transfer.export(archive, tmp_path / "export")
    archive.close()
    status, _, problem = said(capsys, tmp_path / "export")
    assert status == 2 and "pas encore signé de journal" in problem


def test_the_command_reads_a_site_by_its_address(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Over HTTP, packed where there is a packed twin, with what came over the line."""
    server = serve(folder, 0)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        status, told, _ = said(capsys, address, "--json")
        assert status == 0 and json.loads(told)["octets"] > 10_000
        assert said(capsys, f"{address}/donnees")[0] == 2
    finally:
        server.shutdown()
        server.server_close()
    status, _, problem = said(capsys, address)
    assert status == 1 and problem.count("\n") == 1


GOOD = b"HTTP/1.0 200 OK\r\n"
BROKEN = {
    "in trouble": (b"HTTP/1.0 500 X\r\n\r\n", "answers 500"),
    "no server": (b"zz\x1b[2Jzz\r\n\r\n", "zz?[2Jzz"),
    "too many headers": (GOOD + b"".join(b"X-%d: y\r\n" % number for number in range(300)) + b"\r\n", "headers"),
    "cut off": (GOOD + b"Content-Length: 999\r\n\r\nx", "cut off"),
    "cut off when packed": (GOOD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * 99)[:-9], "cut off"),
    "badly packed": (GOOD + b"Content-Encoding: gzip\r\n\r\nxxxx", "incorrect header"),
    "too large": (GOOD + b"\r\n" + b"x" * 1001, "more than 1000 bytes"),
    "the same for every path": (GOOD + b"\r\n00", "cannot be read"),
}


@pytest.fixture
def server() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a server that answers everything with the same bytes, those that are in the list then."""
    answer: list[bytes] = []

    class Same(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(answer[0])

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Same) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", answer
        server.shutdown()


@pytest.mark.parametrize(("answer", "told"), BROKEN.values(), ids=BROKEN.keys())
def test_a_server_in_trouble_is_no_finding(
    server: tuple[str, list[bytes]],
    answer: bytes,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told in one line, that no terminal obeys, and nobody is accused."""
    monkeypatch.setattr(sources, "_PACKED_LIMIT", 1000)
    server[1].append(answer)
    status, _, problem = said(capsys, server[0], "--lang", "en")
    assert (status, problem.count("\n")) == (1, 1)
    assert told in problem and problem.strip().isprintable()


UNREACHED: list[tuple[Exception, str]] = [
    (URLError(gaierror(-2, "Name or service not known")), "personne ne connaît de machine de ce nom ([Errno -2] Name"),
    (UnicodeError("label empty or too long"), "personne ne connaît de machine de ce nom (label empty"),
    (URLError(ConnectionRefusedError(111, "Connection refused")), "aucun serveur n'y répond ([Errno 111] Connection"),
    (TimeoutError(), "la réponse n'est pas venue à temps (TimeoutError)"),
    (URLError(TimeoutError("timed out")), "la réponse n'est pas venue à temps (timed out)"),
    (
        URLError(SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] verify failed: self-signed (_ssl.c:9)")),
        "son certificat n'est pas digne de confiance ([SSL: CERTIFICATE_VERIFY_FAILED] verify failed: self-signed",
    ),
    (
        URLError(SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] verify failed: it is not yet valid")),
        "son certificat n'est pas digne de confiance ([SSL: CERTIFICATE_VERIFY_FAILED] verify failed: it is not yet",
    ),
    (URLError(SSLError(1, "[SSL] record layer failure")), "aucune connexion chiffrée n'a pu s'établir ("),
    (ConnectionResetError(104, "Connection reset by peer"), "la connexion a été coupée ([Errno 104] Connection"),
    (RemoteDisconnected("Remote end closed connection"), "la connexion a été coupée (Remote end closed connection)"),
    (IncompleteRead(b"x", 9), "la connexion a été coupée (IncompleteRead(1 bytes read, 9 more expected))"),
    (BadStatusLine("zz"), "ce qui y répond n'est pas un serveur web (zz)"),
    (zlib.error("Error -3"), "la réponse ne se décompresse pas (Error -3)"),
    (URLError(OSError(113, "No route to host")), "elle ne peut pas être atteinte ([Errno 113] No route to host)"),
    (ValueError("it is cut off"), "la réponse est tronquée"),
]


@pytest.mark.parametrize(("error", "line"), UNREACHED, ids=[str(number) for number in range(len(UNREACHED))])
def test_what_the_network_refuses_is_told_in_french(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where, what and the mend, in one line; what a library says in English stands in brackets, if at all."""

    def refused(*args: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(sources, "urlopen", refused)
    status, out, problem = said(capsys, "https://a.example")
    assert (status, out, problem.count("\n")) == (1, "", 1)
    assert problem.startswith(f"murmure: https://a.example/donnees/journal/checkpoint.txt : {line}")
    assert problem.endswith(" ; regardez l'adresse et le réseau\n")


def test_a_table_is_fetched_once(server: tuple[str, list[bytes]]) -> None:
    """For its rows, its sum and its Parquet twin; any other file each time that it is asked for."""
    server[1].append(GOOD + b"\r\none")
    site = sources.Site(server[0])
    first = site.read("donnees/releases-2026-11.csv"), site.read("donnees/ledger.jsonl")
    server[1][:] = [GOOD + b"\r\ntwo"]
    assert first == (b"one", b"one") and site.octets == 6
    assert (site.read("donnees/releases-2026-11.csv"), site.read("donnees/ledger.jsonl")) == (b"one", b"two")
    assert (site.read("donnees/releases-2026-12.2.csv"), site.octets) == (b"two", 12)


def test_a_server_that_drips_is_left(server: tuple[str, list[bytes]]) -> None:
    """Each file has to come faster than anybody would wait for it, and all of them within an hour."""
    server[1].append(GOOD + b"\r\n" + b"x" * 1000)
    for seconds in ([0, 0, 100], [0, 4000, 4001]):
        clock = iter(seconds)
        site = sources.Site(server[0], lambda clock=clock: float(next(clock)))  # type: ignore[misc]
        with pytest.raises(sources.SourceError, match="too slowly"):
            site.read("x")
    assert sources.Site(server[0]).read("x") == b"x" * 1000
    server[1][:] = [GOOD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * 1000)]
    assert sources.Site(server[0]).read("x") == b"x" * 1000


@pytest.mark.parametrize(
    "source", ["http://[::1", "http://127.0.0.1:1/a b", "http://", "https://a:zz/", "http://a:0/", "a\0b"]
)
def test_what_is_no_address_is_told(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, as a mistake of who wrote it."""
    status, _, problem = said(capsys, source)
    assert (status, problem.count("\n")) == (2, 1) and "ce n'est pas une adresse" in problem


@pytest.mark.parametrize("limit", ["_FILES", "_EDITIONS", "_LARGEST"])
def test_a_site_without_an_end_is_left(
    folder: Path, limit: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More files, more editions of a month, or a larger file than any town has."""
    monkeypatch.setattr(sources, limit, 0)
    status, _, problem = said(capsys, folder, "--all")
    assert (status, problem.count("\n")) == (1, 1)


def test_no_terminal_obeys_a_table(
    folder: Path, published: Publication, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the tables say is shown with its control characters made harmless."""
    row, copy = row_of(rows_of(published)), tmp_path / "site"
    shutil.copytree(folder, copy)
    table, whole = copy / "donnees/releases-2026-11.csv", ",".join(row.values())
    mine = whole.replace(f",{row['estimate']},", ",\x1b[2J\x1b[32mCONFORME,", 1)
    assert whole in table.read_text() and mine != whole
    table.write_text(table.read_text().replace(whole, mine))
    status, french, _ = said(capsys, code_of(row), "--site", copy)
    assert status == 1 and "?[2J?[32mCONFORME" in french and "\x1b" not in french


@pytest.mark.parametrize(
    "harm",
    [
        lambda site: (site / "donnees/messages/index.json").write_text("{}"),
        lambda site: (site / "donnees/journal/centre.txt").write_text("no key"),
        lambda site: (site / "donnees/messages/index.json").write_text(
            json.dumps({"files": [{"path": "donnees/messages/2026-99-99.cose", "messages": 1, "octets": 1}]})
        ),
        *(
            lambda site, text=text: (site / "donnees/messages/index.json").write_text(text)
            for text in ("[" * 100_000, '{"files":[{"path":"x","messages":Infinity,"octets":1}]}', "[]", "null")
        ),
        *(
            lambda site, text=text: (site / "donnees/editions.json").write_text(text)
            for text in ("[" * 100_000, "[]", '{"months":3}', "x")
        ),
        *(
            lambda site, text=text: (site / "donnees/releases-2026-11.csv").write_text(text)
            for text in (
                "start_utc,stream\n\0,\0\n",
                "stream,node,start_utc,end_utc,indicator\nplaza/footfall\n",
                "stream\n" + "a" * 200_000,
            )
        ),
        lambda site: (site / months.SUMS).write_text("x  releases-2026-11.\0\n"),
        lambda site: (site / "donnees/annotations.csv").write_text("cose_base64\n" + "a" * 200_000),
        *(
            lambda site, text=text: (site / LEDGER).write_text(text)
            for text in ("[" * 100_000, "null", '{"stream":{}}', LINE % ("9999-12-31", "9999-12-31"))
        ),
        *(
            lambda site, text=text: (site / "donnees/centre-codes.csv").write_text(text)
            for text in ("code,stream\n\0,\0\n", "code\n" + "a" * 200_000, ROW % "9999-12-31")
        ),
        lambda site: (site / TWIN).write_bytes(b"PAR1" * 9),
        lambda site: pipe_at(site / TWIN),
        lambda site: pipe_at(site / "donnees/releases-2026-11.csv"),
        lambda site: (
            (site / "donnees/journal/checkpoint.txt").unlink(),
            (site / "donnees/journal/checkpoint.txt").symlink_to("/dev/zero"),
        ),
        lambda site: (site / "donnees/messages/index.json").write_text(
            (site / "donnees/messages/index.json").read_text().replace("2026-11-25.cose", "9999-12-31.cose")
        ),
        lambda site: (site / "donnees/journal/checkpoint.txt").unlink(),
        lambda site: (site / "donnees/messages/2026-11-23.cose").unlink(),
        lambda site: (site / "donnees/journal/days-2026-11.cose").write_bytes(b"x"),
        lambda site: (site / "donnees/annotations.csv").write_text("cose_base64\n!\n"),
        lambda site: [file.unlink() for file in (site / "donnees/politiques").iterdir()],
        lambda site: [
            (site / "donnees/journal/checkpoint.txt").unlink(),
            (site / "donnees/journal/checkpoint.txt").mkdir(),
        ],
    ],
)
def test_whatever_is_wrong_with_the_files_there_is_no_traceback(
    folder: Path, tmp_path: Path, harm: Callable[[Path], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Findings or one line."""
    copy = tmp_path / "site"
    shutil.copytree(folder, copy)
    harm(copy)
    status, french, problem = said(capsys, copy)
    assert status in (1, 2)
    assert problem.count("\n") == 1 or "NON CONFORME" in french


@pytest.mark.parametrize("name", ["estimate", "value", "ci95_low", "state", "unit"])
def test_a_table_without_a_column_is_no_traceback(
    folder: Path, published: Publication, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither of a check of everything nor of one code."""
    copy, rows = tmp_path / "site", rows_of(published)
    shutil.copytree(folder, copy)
    code = code_of(row_of(rows, indicator="l50_db"))
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, [one for one in opendata.HEADER if one != name], extrasaction="ignore")
    table.writeheader()
    table.writerows({**row, "ci95_low": ""} for row in rows)
    (copy / TABLE).write_text(text.getvalue(), newline="")
    status, french, _ = said(capsys, copy)
    assert status == 1 and FINDINGS["row_column"][0] in french
    status, french, _ = said(capsys, code, "--site", copy)
    assert status == 1 and f"DIFFÉRENCE : {FINDINGS['row_column'][0]}" in french


# --- a site by other days, or of another version ---------------------------------------------------------------------

CITY = Path(__file__).parents[1] / "dashboards/city.toml"
OTHER_LEVELS = '"15min" = 1, "1h" = 1, "1w" = 1', '"1h" = 1, "day" = 1, "evening" = 1, "night" = 1'


def built(town: Town, out: Path, timezone: str, day: int) -> Publication:
    """What a town of a timezone publishes by a real build, so many days after MONDAY_S."""
    town.archive.sign_log(town.centre)
    build(town.archive, replace(load(CITY), timezone=timezone), out, MONDAY_S + day * DAY_S)
    return sources.Site(str(out)).published()


def late(town: Town, name: str, at_s: int, outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    """Observes from Monday, 09:15 UTC, on."""
    begin_s = MONDAY_S + 37 * 900
    nodes = [replace(one.node, covered_from_s=max(begin_s, one.node.start_s)) for one in outcomes]
    return tuple(town.noisy(replace(one, node=node)) for one, node in zip(outcomes, nodes, strict=True))


def untold(published: Publication) -> Publication:
    """As a version had published it that did not say by which days."""
    return replace(published, made=Made())


@pytest.mark.parametrize("zone", ["America/Guadeloupe", "Indian/Reunion", "Pacific/Noumea"])
def test_a_town_of_another_timezone_than_its_policies_is_not_accused(
    tmp_path: Path, releases: ModuleType, zone: str
) -> None:
    """Its figures are estimated by its own days, which it says; a check that goes by those of the policies accuses it.
    A first day may be observed from the town's next day on: it has its row."""
    town = Town(tmp_path, releases, late).live(begin=37)
    published = built(town, tmp_path / "site", zone, 4)
    report = verify(published)
    assert (report.findings, report.elsewhere) == ([], ["alley", "plaza"])
    assert report.computed == sum(row["status"] == "released" for row in rows_of(published)) > 100
    assert kinds(verify(untold(published))) >= {"row_computed", "ledger_wrong"}
    for column in ("estimate", "ci95_high"):
        attack = with_rows(partial(nudged, indicator="crossings", column=column))
        assert "row_computed" in kinds(verify(attack(published, town)))
    town.archive.close()


def test_weeks_and_parts_of_the_day_are_estimated_as_a_town_does(
    tmp_path: Path, releases: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bins, too, which are estimated together with those of two periods where these begin at six."""
    weeks, parts = OTHER_LEVELS
    text = POLICY.replace("{{ {nodes} }}", f"{{{{ {weeks} }}}}").replace('{{ "6h" = 1 }}', f"{{{{ {parts} }}}}")
    monkeypatch.setattr(sys.modules[__name__], "POLICY", text)
    town = Town(tmp_path, releases).live(3 * QUARTERS, begin=37)
    report = verify(built(town, tmp_path / "site", "Pacific/Noumea", 4))
    assert report.findings == [] and report.computed > 2000
    town.archive.close()


def test_a_closed_month_was_estimated_by_the_days_of_its_time(
    tmp_path: Path, releases: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """A town that mends its timezone is accused neither of the months that are closed, which stay as they are, nor of
    those that go on; by the newest days alone it would be. Named are the days that differ, and not the newest."""
    town = Town(tmp_path, releases).live()
    for day in (14, 17):  # messages of December: the second one is after the 8th, on which November is closed
        town.live(8, begin=day * QUARTERS)
    built(town, tmp_path / "site", "Indian/Reunion", 18)
    published = built(town, tmp_path / "site", "Europe/Paris", 19)
    zones = {("2026-11", 1): "Indian/Reunion", ("2026-12", 1): "Europe/Paris"}
    assert (published.made.timezone, published.made.timezones) == ("Europe/Paris", zones)
    report = verify(published)
    assert report.findings == []
    assert (report.elsewhere, report.by_days) == (["alley", "plaza"], ["Indian/Reunion"])
    assert "Les jours du site (Indian/Reunion) ne sont pas" in said(capsys, tmp_path / "site", "--all")[1]
    december = days_of(published)[:1]  # of which no figure is by other days
    assert verify(published, december).elsewhere == []
    assert "row_computed" in kinds(verify(replace(published, made=replace(published.made, timezones={}))))
    town.archive.close()


def test_hours_that_two_months_have_are_right_in_both(tmp_path: Path, releases: ModuleType) -> None:
    """By the days of a town further east a month begins before the one that was closed by those of before has ended:
    those hours stand in both tables, and nobody is accused."""
    town = Town(tmp_path, releases).live(2 * QUARTERS, begin=6 * QUARTERS)  # from November into December
    for day in (14, 17):
        town.live(8, begin=day * QUARTERS)
    built(town, tmp_path / "site", "Europe/Paris", 18)
    published = built(town, tmp_path / "site", "Indian/Reunion", 19)
    assert published.rows is not None
    twice = [
        {(row["stream"], row["node"], row["start_utc"]) for row in published.rows(month, 1) or ()}
        for month in ("2026-11", "2026-12")
    ]
    assert {start for _, _, start in twice[0] & twice[1]} >= {f"2026-11-30T{hour}:00:00Z" for hour in (20, 21, 22)}
    assert verify(published).findings == []
    town.archive.close()


def numbered(folder: Path, copy: Path, **changes: Any) -> Path:
    """The site, with what it says of how it was made."""
    shutil.copytree(folder, copy)
    state = json.loads((copy / months.STATE).read_text())
    (copy / months.STATE).write_text(json.dumps({**state, **changes}))
    return copy


def test_a_site_of_another_version_is_not_judged(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What one version publishes another may not know: one line that names it, exit status 1, no finding. A restored
    centre takes over the log of such a site all the same."""
    other = numbered(folder, tmp_path / "other", published_format=FORMAT + 1, software="murmure 9.9\x1b[2J")
    shutil.rmtree(other / "donnees/messages")  # whatever else is otherwise
    known = f"murmure 9.9?[2J, format {FORMAT + 1}"
    french = f"ce site a été fait par une autre version ({known}), et celle-ci connaît le format {FORMAT} ; vérifiez"
    for words in ((), ("--json",), ("--all",)):
        assert said(capsys, other, *words) == (1, "", f"murmure: {other} : {french}-le avec l'autre\n")
    status, out, problem = said(capsys, other, "--lang", "en")
    assert (status, out) == (1, "") and problem.endswith("check it with that one\n") and known in problem
    for number in ("2", [2], None, FORMAT):
        here = numbered(folder, tmp_path / f"{number}", published_format=number)
        status, out, problem = said(capsys, here, "--all")
        assert (status == 0) == (number in (None, FORMAT)) == (out != "") and problem.count("\n") == status
        assert sources.Site(str(here)).published().made.format == number
    assert json.loads((folder / months.STATE).read_text())["published_format"] == FORMAT


def test_a_timezone_that_this_machine_lacks_is_no_finding(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, with the mend."""
    for zone in ("Europe/Nowhere", "../../etc/passwd"):
        other = numbered(folder, tmp_path / zone.replace("/", "-"), timezone=zone)
        line = (
            f"murmure: {other} : donnees/editions.json : le fuseau horaire '{zone}' est inconnu ; installez le paquet"
        )
        status, out, problem = said(capsys, other)
        assert (status, out) == (1, "") and problem == f"{line} Debian tzdata\n"
    rubbish: object
    # Its one edition does not say by which days: none of its figures is by these.
    assert "Kiritimati" not in said(capsys, numbered(folder, tmp_path / "east", timezone="Pacific/Kiritimati"))[1]
    for rubbish in (5, ["Europe/Paris"], {}):
        assert said(capsys, numbered(folder, tmp_path / f"{rubbish}", timezone=rubbish))[0] == 0


def test_the_command_says_whose_days_are_others(
    tmp_path: Path, releases: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """Estimates are then less exact than they could be: residents hear of it, and nobody is accused."""
    town = Town(tmp_path, releases).live(8)
    built(town, tmp_path / "site", "Indian/Reunion", 1)
    status, french, _ = said(capsys, tmp_path / "site")
    assert status == 0 and "Les jours du site (Indian/Reunion) ne sont pas ceux des règles de ces lieux : " in french
    assert json.loads(said(capsys, tmp_path / "site", "--json")[1])["elsewhere"] == ["alley", "plaza"]
    town.archive.close()


# --- a site that is published anew meanwhile -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory, releases: ModuleType) -> Iterator[list[Path]]:
    """A site as it was at three instants of a day and the next; all of them conform."""
    town = Town(tmp_path_factory.mktemp("growing"), releases)
    folders = []
    for begin, quarters in ((0, 94), (94, 6), (100, 4)):
        town.live(quarters, begin)
        folders.append(town.site(tmp_path_factory.mktemp("build")))
    yield folders
    town.archive.close()


def rebuilt(monkeypatch: pytest.MonkeyPatch, at: Mapping[int, Path]) -> list[int]:
    """Another build is there from one reading of a file on, by its number. Returns how many there were."""
    read, count = sources.Site.read, [0]

    def reading(self: sources.Site, path: str) -> bytes | None:
        self.source = str(at.get(count[0], self.source))
        count[0] += 1
        return read(self, path)

    monkeypatch.setattr(sources.Site, "read", reading)
    return count


READINGS = 26
"""How many files a check of one of these sites reads, some of them twice."""


@pytest.mark.parametrize("at", [1, 2, 5, 9, 12, 15, 18, READINGS - 1])
def test_a_site_that_is_published_anew_meanwhile_is_read_again(
    builds: list[Path], at: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever file was the last of the old one; the twin that never looks whether it was accuses an honest town."""
    count = rebuilt(monkeypatch, {at: builds[1]})
    status, french, _ = said(capsys, builds[0], "--all")
    assert status == 0 and french.splitlines()[-1] == SENTENCES["right"][0]
    assert count[0] > READINGS
    monkeypatch.setattr(sources.Site, "moved", lambda self: False)
    count[0] = 0
    assert said(capsys, builds[0], "--all")[0] == 1


def test_a_site_that_is_never_twice_the_same_is_no_finding(
    builds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, and exit 1: nobody knows. Nothing is remembered of it."""
    at, memory = {12: builds[1], READINGS + 17: builds[2]}, tmp_path / "memory.json"
    count = rebuilt(monkeypatch, at)
    for language, sentence in zip(("fr", "en"), SENTENCES["moved"], strict=True):
        count[0] = 0
        assert said(capsys, builds[0], "--lang", language, "--remember", memory) == (1, f"{sentence}\n", "")
    count[0] = 0
    told = json.loads(said(capsys, builds[0], "--json")[1])
    assert (told["moved"], told["conforming"], told["findings"], told["left_out"]) == (True, False, [], 0)
    assert not memory.exists()
    code = code_of(row_of(rows_of(sources.Site(str(builds[0])).published())))
    count[0] = 0
    assert said(capsys, code, "--site", builds[0]) == (1, f"{SENTENCES['moved'][0]}\n", "")
    count[0] = 0
    told = json.loads(said(capsys, code, "--site", builds[0], "--json")[1])
    assert (told["moved"], told["conforming"], told["figures"]) == (True, False, [])


def test_what_is_wrong_with_a_new_build_is_named(
    builds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read again, and accused of what it says; a site that is as it should be is read once."""
    copy = tmp_path / "site"
    shutil.copytree(builds[1], copy)
    (copy / TABLE).write_text((copy / TABLE).read_text().replace("sensor_absent", "", 1), newline="")
    count = rebuilt(monkeypatch, {12: copy})
    status, told, _ = said(capsys, builds[0], "--json")
    assert status == 1 and "row_reason" in {one["kind"] for one in json.loads(told)["findings"]}
    assert count[0] > 2 * READINGS
    count[0] = READINGS
    assert said(capsys, builds[0])[0] == 0 and count[0] == 2 * READINGS


def pipe_at(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("text", ["Infinity", "1e99", "9" * 30, "-1", "[" * 100_000])
def test_whatever_is_wrong_with_an_export_there_is_no_traceback(
    town: Town, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line."""
    town.export(tmp_path / "export")
    nodes = tmp_path / "export" / "nodes.jsonl"
    nodes.write_text(re.sub(r'"end_s": ?[0-9]+', f'"end_s":{text}', nodes.read_text(), count=1))
    status, _, problem = said(capsys, tmp_path / "export")
    assert (status, problem.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{{"centre":"{0}","size":Infinity}}', '{{"centre":"{0}","size":-3,"root":""}}']
)
def test_a_memory_that_is_none_is_told(
    folder: Path, town: Town, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever stands in the file; and what is no file is not read at all."""
    (tmp_path / "memory.json").write_text(text.format(town.public.hex()))
    for memory in (tmp_path / "memory.json", Path("/dev/zero")):
        status, _, problem = said(capsys, folder, "--remember", memory)
        assert (status, problem.count("\n")) == (2, 1)


@pytest.mark.parametrize("key", ["00", "00" * 32, "no key"])
def test_another_key_than_the_one_that_is_known_is_told(
    folder: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever knows the centre's key believes no other."""
    status, french, problem = said(capsys, folder, "--key", key)
    assert (status, french, problem.count("\n")) == (2, "", 1)


def test_a_terminal_sees_how_far_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal alone, on the second channel."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert "/" in said(capsys, folder)[2]


ALONE = """
import builtins, sys
true_import = builtins.__import__
allowed = {*sys.stdlib_module_names, "cbor2", "_cbor2", "cryptography", "cffi", "_cffi_backend", "murmure_privacy"}
def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    if not level and name.partition(".")[0] not in allowed and not name.startswith("_sysconfigdata"):
        raise ImportError(name)
    return true_import(name, globals, locals, fromlist, level)
builtins.__import__ = guarded
import argparse
from murmure_privacy import verify_cli
parser = argparse.ArgumentParser()
verify_cli.register(parser.add_subparsers())
args = parser.parse_args(["verify", sys.argv[1]])
sys.exit(args.handler(args))
"""


def test_two_packages_are_enough(folder: Path) -> None:
    """Beside the standard library a resident installs cbor2 and cryptography."""
    done = subprocess.run([sys.executable, "-c", ALONE, str(folder)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# --- a town that is too large to be read at once ----------------------------------------------------------------------

WEEK_FILE = "donnees/centre-semaine.csv"


@pytest.fixture(scope="module")
def sized(published: Publication) -> Publication:
    """That site in memory, which says how large each file is."""

    def size(path: str) -> int | None:
        data = published.read(path)
        return None if data is None else len(data)

    return replace(published, size=size, used=lambda: 0)


def unasked(month: str, edition: int) -> None:
    raise AssertionError("the tables are not to be read")


def test_tables_that_are_too_large_are_not_read_and_the_week_is_judged_instead(sized: Publication, town: Town) -> None:
    """Every row of the week is held against what was signed, and its estimate computed anew; the report names what was
    left out."""
    report = verify(replace(sized, rows=unasked), line=(sized.size(TABLE) or 0) - 1)
    assert (report.findings, report.left_tables, report.sums, report.columnar) == ([], ["2026-11"], 0, 0)
    told = list(csv.DictReader(io.StringIO((sized.read(WEEK_FILE) or b"").decode(), newline="")))
    withheld = sum(row["status"] == "withheld" for row in told)
    assert report.rows == len(told) > 200 and report.computed == len(told) - withheld
    assert report.beside > report.rows  # those of the day, of the codes and of the ledger


def test_a_row_of_the_week_stands_in_one_neighbourhood(sized: Publication, town: Town) -> None:
    """In the file of another one it could hide a wrong one."""
    other = edited("enrolment", 0, quartier="moon")(sized, town)

    def read(path: str) -> bytes | None:
        return sized.read(path.replace("moon", "centre"))

    doubled = replace(other, rows=unasked, read=read, size=lambda path: len(read(path) or b"") or None)
    line = (sized.size(TABLE) or 0) - 1
    assert "row_twice" in kinds(verify(doubled, line=line)) - kinds(verify(replace(other, rows=unasked), line=line))


def test_the_file_of_the_day_counts_among_the_tables(sized: Publication, town: Town) -> None:
    """Together they are too large, and neither is read."""
    parts = open_month(sized, lambda over, today: None)
    octets = sum(len(parts.read(path) or b"") for path in (TABLE, RUNNING))
    heavy = replace(parts, size=lambda path: len(parts.read(path) or b"") or None)
    assert verify(heavy, line=octets).left_tables == []
    assert verify(replace(heavy, rows=unasked), line=octets - 1).left_tables == ["2026-11"]


def test_parquet_files_alone_may_be_too_large(sized: Publication) -> None:
    """Then every table is read and has its sum, as without any bound, and the report says of which month no Parquet
    file was read."""
    sizes = {TABLE: 1, TWIN: 100}
    heavy = replace(sized, size=sizes.get)
    whole, report = verify(heavy, line=101), verify(heavy, line=99)
    assert (whole.left_columnar, whole.sums, whole.columnar) == ([], 2, whole.rows)
    assert (report.left_tables, report.left_columnar, report.findings) == ([], ["2026-11"], [])
    assert (report.sums, report.columnar, report.rows) == (1, 0, whole.rows)


def test_without_files_of_a_week_the_tables_are_read(sized: Publication) -> None:
    """A town without them, or a server that does not say how large they are: nobody is accused of what was not read."""
    alone = replace(sized, size=lambda path: None if "semaine" in path else sized.size(path))
    report = verify(alone, line=0)
    assert (report.findings, report.left_tables, report.left_columnar) == ([], [], ["2026-11"])
    assert report.rows == verify(sized).rows


def test_a_month_of_endless_editions_is_soon_gone_through(sized: Publication) -> None:
    """Who says of every edition that it is there is not asked for ever."""
    asked: list[str] = []

    def size(path: str) -> int:
        asked.append(path)
        return 10**9

    endless = replace(sized, size=size)
    assert verify(replace(endless, rows=unasked), days=[], line=1).findings == []
    assert verify(replace(endless, rows=unasked), line=1).left_tables == ["2026-11"]
    assert len(asked) < 3 * verify_tables._EDITIONS + 9


IN_THE_WEEK: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "a value is altered": ("row_value", cell("value", "7")),
    "an estimate is altered": ("row_computed", lambda line: cell("estimate", nudge(line, "estimate"))(line)),
    "a noise is altered": ("row_sigma", cell("sigma", "0.5")),
    "a unit is altered": ("row_column", cell("unit", "m")),
    "a policy is altered": ("row_policy", cell("policy", f"sha256:{'00' * 32}")),
    "a row is of nothing": ("row_unsigned", cell("stream", "plaza/x")),
    "a row stands twice": ("row_twice", lambda line: line + line),
    "a row is dropped": ("row_missing", lambda line: b""),
}


def nudge(line: bytes, name: str) -> str:
    """A number of a row, some hundredths of its interval away: nothing that its noise forbids."""
    row = dict(zip(opendata.HEADER, next(csv.reader([line.decode()])), strict=True))
    width = float(row["ci95_high"]) - float(row["ci95_low"])
    return f"{float(row[name]) + width / 100:.6f}"


@pytest.mark.parametrize(("kind", "make"), IN_THE_WEEK.values(), ids=IN_THE_WEEK.keys())
def test_what_is_altered_in_the_week_of_a_large_town_is_named(
    sized: Publication, town: Town, kind: str, make: Callable[[bytes], bytes]
) -> None:
    """By its own kind; only a row that became another one is missed as well, and its code leads nowhere."""
    attacked = with_line(WEEK_FILE, make)(sized, town)
    found = kinds(verify(attacked, line=0))
    allowed = {"row_unsigned": {"row_missing", "quartier_row"}, "row_missing": {"quartier_row"}}.get(kind, set())
    beside = {"row_value", "row_sigma", "row_column", "row_policy", "row_computed"}
    assert kind in found and found <= {kind, *allowed, *({"quartier_row"} if kind in beside else ())}


def test_a_check_of_the_week_that_compares_nothing_is_found(
    sized: Publication, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken twin: whoever reads the rows of the week and judges none overlooks a value that nobody signed."""
    monkeypatch.setattr(verify_tables.Tables, "objection", lambda self, row, outcome: None)
    kind, make = IN_THE_WEEK["a value is altered"]
    assert kind not in kinds(verify(with_line(WEEK_FILE, make)(sized, town), line=0))


def test_the_command_says_what_was_too_large(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both languages, and how to read it; who asks for days gets the tables of these."""
    monkeypatch.setattr(verify_cli, "LINE", 0)
    status, told, _ = said(capsys, folder)
    assert status == 0 and "les tableaux de 2026-11" in told and "--days 7" in told
    status, told, _ = said(capsys, folder, "--lang", "en", "--days", "7")
    assert status == 0 and "too large" not in told and "Parquet files:" in told
    _, told, _ = said(capsys, folder, "--json")
    assert json.loads(told)["left_tables"] == ["2026-11"]
    monkeypatch.setattr(verify_cli, "LINE", 10**8)
    monkeypatch.setattr(sources.Site, "size", lambda self, path: {TABLE: 0, TWIN: 10**8}.get(path))
    status, told, _ = said(capsys, folder, "--lang", "en")
    assert status == 0 and "the Parquet files of 2026-11" in told


def test_a_size_is_that_on_the_way(folder: Path, tmp_path: Path, server: tuple[str, list[bytes]]) -> None:
    """Packed where there is a packed twin, by folder and by address; nothing where nobody says it."""
    (tmp_path / "plain").write_bytes(b"x" * 900)
    (tmp_path / "packed").write_bytes(b"x" * 900)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(b"x" * 900, mtime=0))
    packed = len(gzip.compress(b"x" * 900, mtime=0))
    running = serve(tmp_path, 0)
    threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
    try:
        for source in (str(tmp_path), f"http://127.0.0.1:{running.server_address[1]}"):
            site = sources.Site(source)
            assert (site.size("plain"), site.size("packed"), site.size("none")) == (900, packed, None)
            assert site.octets == 0
    finally:
        running.shutdown()
        running.server_close()
    assert sources.Site(server[0]).size("x") is None  # it knows no HEAD
