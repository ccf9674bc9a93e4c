"""The monthly files: nothing is lost, nothing that is closed changes, and a restored archive gives the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from murmure_dashboards import kept, maker_data, months, packed
from murmure_dashboards import site as site_module
from murmure_dashboards.blocks import Block, Blocks, Together
from murmure_dashboards.config import City
from murmure_dashboards.site import BuildReport, build
from murmure_dashboards.views import StreamInfo
from murmure_ingest.archive import Archive, Enrolment, StoredPolicy
from murmure_privacy import wire
from murmure_privacy.policy import parse
from murmure_privacy.publication import RUNNING
from murmure_privacy.window import Calendar, Window, parse_utc

PARIS = Calendar("Europe/Paris")
SITES = ("plaza", "station", "alley")

TODAY = RUNNING.removeprefix(months.FOLDER)

POLICY = """policy = 1
site = "{site}"
version = 1
timezone = "Europe/Paris"
decision = "Délibération n° 1"
reason = "Essai."
valid_from = 2026-01-01
valid_until = 2027-12-31

[[stream]]
id = "{site}/footfall"
quantity = "footfall"
protects = {{ crossings = 1 }}
epsilon = 1.0
nodes = {{ "6h" = 1, "1d" = 1{weeks} }}
"""


class Town:
    """A real archive, filled day by day: `sends` seals the day's messages, `files` brings what was sealed."""

    def __init__(self, folder: Path, releases: ModuleType, weeks: bool = False) -> None:
        self.archive = Archive.open(folder / "archive.db")
        self.archive._db.execute("PRAGMA synchronous = OFF")  # nobody cuts the power here
        self.gateways: dict[str, Any] = {}
        self.lines: dict[str, Enrolment] = {}
        self.brought: dict[str, int] = {}
        steward, _ = wire.new_key()
        for number, site in enumerate(SITES):
            toml = POLICY.format(site=site, weeks=', "1w" = 1' if weeks else "").encode()
            secret, public = _key(number)
            line = Enrolment(f"gw-{site}", "centre", site, public, (bytes(32),), 1)
            with self.archive.transaction():
                self.lines[site] = self.archive.enrol(line)
                sealed = wire.seal_policy(toml, [("s", steward)])
                self.archive.put_policy(StoredPolicy(parse(toml, "test").hash, site, 1, toml, sealed))
            self.gateways[site] = releases.Gateway(f"gw-{site}", "centre", site, secret, toml)
            self.brought[site] = 0

    def sends(self, site: str, day: date) -> None:
        """Seals everything that closes on a civil day, at 6, 12, 18 and 24 o'clock."""
        window = PARIS.node("1d", PARIS.midnight(day))
        at_s = window.start_s
        while at_s < window.end_s:
            at_s = PARIS.node("6h", at_s).end_s
            self.gateways[site].seal(at_s)

    def files(self, site: str, up_to: int | None = None) -> None:
        """Brings what a gateway has sealed and the centre does not have."""
        gateway = self.gateways[site]
        with self.archive.transaction():
            for sealed in gateway.sealed[self.brought[site] : up_to]:
                message = wire.open_message(sealed, self.lines[site].record_key)
                self.archive.put(message, sealed, self.lines[site], "filed")
                self.brought[site] += 1

    def days(self, first: date, last: date, *sites: str, away: tuple[str, ...] = ()) -> None:
        """Lets sites speak from one day to another, in turn; those `away` measure and are not heard."""
        day = first
        while day <= last:
            for site in (*sites, *away):
                self.sends(site, day)
                if site not in away:
                    self.files(site)
            day += timedelta(days=1)


def _key(number: int) -> tuple[bytes, bytes]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    secret = bytes([number + 1]) * 32
    return secret, Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


@pytest.fixture(autouse=True)
def data_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other pages than those of the data, and no wait for the disk: nobody cuts the power here."""
    monkeypatch.setattr(site_module, "MAKERS", (maker_data.MAKER,))
    monkeypatch.setattr("os.sync", lambda: None)


@pytest.fixture
def town(tmp_path: Path, releases: ModuleType) -> Town:
    """Three sites of which nothing has come yet."""
    return Town(tmp_path, releases)


def noon(day: date) -> int:
    return PARIS.midnight(day) + 12 * 3600


def data(out: Path) -> dict[str, bytes]:
    """Every file of a site's folder of data, and what is compressed beside it."""
    root = (out / "donnees").resolve()
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def named(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "donnees").glob("releases-[0-9]*.csv"))


def rows_of(content: bytes, site: str) -> int:
    return sum(f",{site},{site}/footfall," in line for line in content.decode().splitlines())


def test_months_with_gaps_are_all_there_after_a_restore(town: Town, city: City, tmp_path: Path) -> None:
    """Data of August and of November, none between them, and no site yet: both months are written."""
    town.days(date(2026, 8, 3), date(2026, 8, 6), "plaza")
    town.days(date(2026, 11, 18), date(2026, 11, 20), "plaza")
    build(town.archive, city, tmp_path / "site", noon(date(2026, 11, 21)))
    assert named(tmp_path / "site") == ["releases-2026-08.csv", "releases-2026-11.csv"]
    assert rows_of(data(tmp_path / "site")["releases-2026-08.csv"], "plaza") == 20


def test_a_gateway_a_month_without_network_is_in_the_files(town: Town, city: City, tmp_path: Path) -> None:
    """The month waits for it: not closed on the 8th, whole when it has come, closed on the next 8th."""
    out = tmp_path / "site"
    town.days(date(2026, 9, 1), date(2026, 9, 20), "plaza", "station")
    town.days(date(2026, 9, 21), date(2026, 10, 12), "plaza", away=("station",))
    build(town.archive, city, out, noon(date(2026, 10, 13)))
    assert months.SUMS.removeprefix(months.FOLDER) in data(out) and data(out)["SHA256SUMS"] == b""
    before = rows_of(data(out)["releases-2026-09.csv"], "station")
    town.files("station")
    build(town.archive, city, out, noon(date(2026, 10, 13)))
    assert rows_of(data(out)["releases-2026-09.csv"], "station") == before + 50
    town.days(date(2026, 10, 13), date(2026, 11, 9), "plaza", "station")
    build(town.archive, city, out, noon(date(2026, 11, 10)))
    assert named(out) == ["releases-2026-09.csv", "releases-2026-10.csv", "releases-2026-11.csv"]
    assert data(out)["SHA256SUMS"].decode().split()[1::4] == ["releases-2026-09.csv", "releases-2026-10.csv"]


def test_what_comes_after_closing_makes_a_second_edition(town: Town, city: City, tmp_path: Path) -> None:
    """A gateway away for longer than anybody waits: the closed file keeps its bytes, the second edition has what came,
    at once and open, and is closed on the next 8th; nothing that is closed ever changes."""
    out = tmp_path / "site"
    town.days(date(2026, 8, 18), date(2026, 8, 20), "plaza", "station")
    town.days(date(2026, 8, 21), date(2026, 8, 31), "plaza", away=("station",))
    for day in (date(2026, 9, 9), date(2026, 10, 9), date(2026, 11, 12)):
        town.days(day, day, "plaza", away=("station",))
    build(town.archive, city, out, noon(date(2026, 11, 13)))
    first = data(out)["releases-2026-08.csv"]
    assert "releases-2026-08.csv" in data(out)["SHA256SUMS"].decode()
    town.files("station")
    build(town.archive, city, out, noon(date(2026, 11, 14)))
    again = data(out)
    assert again["releases-2026-08.csv"] == first
    assert rows_of(again["releases-2026-08.2.csv"], "station") == rows_of(first, "station") + 55
    assert "releases-2026-08.2.csv" not in again["SHA256SUMS"].decode()
    town.days(date(2026, 11, 13), date(2026, 11, 14), "plaza", "station")
    town.days(date(2026, 12, 8), date(2026, 12, 8), "plaza", "station")
    build(town.archive, city, out, noon(date(2026, 12, 9)))
    last = data(out)
    assert last["releases-2026-08.csv"] == first and last["releases-2026-08.2.csv"] == again["releases-2026-08.2.csv"]
    assert "releases-2026-08.2.csv" in last["SHA256SUMS"].decode()


def test_the_sums_are_those_of_the_files(town: Town, city: City, tmp_path: Path) -> None:
    """SHA256SUMS has one line for each closed file, as sha256sum reads it, and no other."""
    for first, last in ((date(2026, 8, 28), date(2026, 9, 2)), (date(2026, 9, 29), date(2026, 10, 1))):
        town.days(first, last, "plaza")
    for day in (date(2026, 10, 7), date(2026, 10, 9)):
        town.days(day, day, "plaza")
    build(town.archive, city, tmp_path / "site", noon(date(2026, 10, 10)))
    files = data(tmp_path / "site")
    lines = [line.split("  ") for line in files["SHA256SUMS"].decode().splitlines()]
    closed = [f"releases-2026-{month}.{kind}" for month in ("08", "09") for kind in ("csv", "parquet")]
    assert [name for _, name in lines] == closed
    assert all(hashlib.sha256(files[name]).hexdigest() == digest for digest, name in lines)
    assert all(gzip.decompress(files[f"{name}.gz"]) == files[name] for _, name in lines)


def lived(town: Town, city: City, out: Path, seed: int, builds: bool, weeks: bool = False) -> int:
    """A life of some months, decided by a seed: sites fall silent, are cut off and come back, months have none at all;
    the site is built now and then. Whatever is closed once stays as it is. Returns the instant of the end."""
    draw = random.Random(seed)
    day, cut = date(2026, 7, draw.randint(1, 28)), dict.fromkeys(SITES, 0)
    closed: dict[str, bytes] = {}
    for _ in range(draw.randint(4, 7)):
        length = draw.randint(3, 40)
        silent = draw.random() < 0.2
        for site in SITES:
            cut[site] = draw.random() < 0.35
        speaking = [] if silent else [site for site in SITES if draw.random() < 0.8]
        for _ in range(length):
            for site in speaking:
                town.sends(site, day)
                if not cut[site]:
                    town.files(site)
            day += timedelta(days=1)
        for site in SITES:
            if draw.random() < 0.5:
                # A courier may bring only a part.
                town.files(site, up_to=None if draw.random() < 0.7 else town.brought[site] + draw.randint(0, 40))
        if builds:
            build(town.archive, city, out, noon(day))
            files = data(out)
            for name, content in closed.items():
                assert files[name] == content, name
            for line in files["SHA256SUMS"].decode().splitlines():
                name = line.split("  ")[1]
                closed[name] = files[name]
    build(town.archive, city, out, noon(day))
    return noon(day)


def whole(town: Town, out: Path) -> None:
    """Every node that the archive has stands in the last edition of its month, or in the file of today."""
    newest: dict[str, bytes] = {}
    for name in sorted(named(out), key=_edition):
        newest[name[9:16]] = data(out)[name]
    today = data(out)[TODAY].splitlines()[1:]
    for site in SITES:
        outcomes = town.archive.outcomes(f"{site}/footfall", 0, 1 << 40)
        wanted: dict[str, int] = {}
        for outcome in outcomes:
            month = PARIS.civil_day(outcome.node.start_s).strftime("%Y-%m")
            wanted[month] = wanted.get(month, 0) + 1
        for month, count in wanted.items():
            held = [line for line in today if _month(line) == month]
            assert rows_of(b"\n".join([newest[month], *held]), site) == count, (site, month)


def _month(line: bytes) -> str:
    """The month in which a row begins."""
    return PARIS.civil_day(parse_utc(line.partition(b",")[0].decode())).strftime("%Y-%m")


def _edition(name: str) -> tuple[str, int]:
    return name[:16], int(name.split(".")[1]) if name.count(".") == 2 else 1


@pytest.mark.parametrize("seed", [2, 5])
def test_a_site_built_from_nothing_is_the_site_that_has_lived(
    city: City, tmp_path: Path, releases: ModuleType, seed: int
) -> None:
    """Whatever came late, whenever the site was built: a restored archive gives the same files byte for byte, and no
    node is lost."""
    _same(city, tmp_path, releases, seed, weeks=bool(seed % 2))


@pytest.mark.long
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32), weeks=st.booleans())
def test_lives_of_all_kinds_are_restored_byte_for_byte(
    city: City, tmp_path_factory: pytest.TempPathFactory, releases: ModuleType, seed: int, weeks: bool
) -> None:
    """The same for lives that nobody has thought of."""
    _same(city, tmp_path_factory.mktemp("life"), releases, seed, weeks)


def _same(city: City, folder: Path, releases: ModuleType, seed: int, weeks: bool) -> None:
    town = Town(folder, releases, weeks)
    now_s = lived(town, city, folder / "site", seed, builds=True)
    whole(town, folder / "site")
    build(town.archive, city, folder / "again", now_s)
    one, two = data(folder / "site"), data(folder / "again")
    town.archive.close()
    assert sorted(one) == sorted(two)
    assert [name for name in one if one[name] != two[name]] == []


def test_stopping_at_a_gap_is_found_out(
    town: Town, city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: months from the newest back, up to the first of which there is nothing."""
    real = months.written

    def stopping(*args: Any) -> Any:
        found = {month.name: month for month in real(*args)}
        day = date.fromisoformat(f"{max(found)}-01")
        while (name := day.strftime("%Y-%m")) in found:
            yield found[name]
            day = (day - timedelta(days=1)).replace(day=1)

    monkeypatch.setattr(months, "written", stopping)
    with pytest.raises(AssertionError):
        test_months_with_gaps_are_all_there_after_a_restore(town, city, tmp_path)


def test_closing_with_what_is_there_now_is_found_out(
    town: Town, city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: after a restore the first edition would hold what came later."""
    monkeypatch.setattr(Archive, "outcomes_by", lambda self, row, *of: self.outcomes(*of))
    with pytest.raises(AssertionError):
        _late(town, city, tmp_path)


def test_what_comes_while_a_closed_month_is_worked_out_is_not_in_it(
    town: Town, city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The centre files on while a site is built: a closed file with what came then would stay so for ever."""
    town.days(date(2026, 8, 18), date(2026, 8, 20), "plaza", "station")
    town.days(date(2026, 8, 21), date(2026, 8, 31), "plaza", away=("station",))
    for day in (date(2026, 9, 9), date(2026, 10, 9), date(2026, 11, 12)):
        town.days(day, day, "plaza", away=("station",))
    now_s, real = noon(date(2026, 11, 13)), Blocks.together

    def meanwhile(self: Blocks, info: StreamInfo, window: Window) -> Together:
        if info.site == "station" and PARIS.civil_day(window.start_s).month == 8:
            town.files("station")
        return real(self, info, window)

    monkeypatch.setattr(Blocks, "together", meanwhile)
    build(town.archive, city, tmp_path / "site", now_s)
    assert town.brought["station"] == len(town.gateways["station"].sealed)
    for out in (tmp_path / "site", tmp_path / "nothing"):
        build(town.archive, city, out, now_s)
    one, two = data(tmp_path / "site"), data(tmp_path / "nothing")
    assert "releases-2026-08.2.csv" in two
    assert [name for name in two if one.get(name) != two[name]] == []


@pytest.mark.parametrize("closing", [False, True])
def test_what_comes_while_a_site_is_built_is_in_the_next_one(
    town: Town, city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closing: bool
) -> None:
    """After the store was opened, which still has the days without it: in a month that was closed before, or that what
    comes then closes. No file says that it was seen."""
    out, real = tmp_path / "site", months.since
    town.days(date(2026, 8, 18), date(2026, 8, 20), "plaza", "station")
    town.days(date(2026, 8, 21), date(2026, 9, 6), "plaza", away=("station",))
    for day in () if closing else (date(2026, 9, 9), date(2026, 10, 9), date(2026, 11, 12)):
        town.days(day, day, "plaza", away=("station",))
    build(town.archive, city, out, noon(date(2026, 9, 7) if closing else date(2026, 11, 13)))

    def meanwhile(*args: Any) -> Any:
        town.files("station")
        if closing:
            town.days(date(2026, 9, 8), date(2026, 9, 9), "plaza", "station")
        return real(*args)

    with monkeypatch.context() as patched:
        patched.setattr(months, "since", meanwhile)
        build(town.archive, city, out, noon(date(2026, 9, 10) if closing else date(2026, 11, 13)))
    now_s = noon(date(2026, 9, 11) if closing else date(2026, 11, 14))
    for folder in (out, tmp_path / "nothing"):
        build(town.archive, city, folder, now_s)
        whole(town, folder)
    one, two = data(out), data(tmp_path / "nothing")
    assert [name for name in two if one.get(name) != two[name]] == []


def test_not_asking_what_came_after_a_closing_is_found_out(
    town: Town, city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: the days of a closed month would be taken as they are kept, with what came late."""
    monkeypatch.setattr(maker_data, "_grown", lambda *of: ())
    with pytest.raises(AssertionError):
        _late(town, city, tmp_path)


def test_a_closed_month_is_worked_out_once(
    town: Town, city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From nothing, as after a restore: its rows and its lines of the ledger come of the same days."""
    for first, last in ((date(2026, 8, 1), date(2026, 9, 8)), (date(2026, 11, 9), date(2026, 11, 9))):
        town.days(first, last, "plaza")
    made: list[tuple[str, Window]] = []
    real = Blocks._made

    def noted(self: Blocks, info: StreamInfo, day: Window) -> Block:
        made.append((info.stream, day))
        return real(self, info, day)

    monkeypatch.setattr(Blocks, "_made", noted)
    build(town.archive, city, tmp_path / "site", noon(date(2026, 11, 10)))
    assert data(tmp_path / "site")["SHA256SUMS"].count(b"2026-08.csv") == 1
    assert sum(1 for _, day in made if PARIS.civil_day(day.start_s).month == 8) == 31
    assert len(made) == len(set(made))


def test_closing_by_the_wall_clock_is_found_out(
    town: Town, city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: what an 8th finds would depend on when the site was built."""
    monkeypatch.setattr(
        Archive, "first_to_tell", lambda self, streams, instants: [self.newest_row() + 1] * len(instants)
    )
    with pytest.raises(AssertionError):
        _late(town, city, tmp_path)


def test_keeping_a_month_unasked_is_found_out(
    town: Town, city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: what came late would be in no file."""
    monkeypatch.setattr(Archive, "told_after", lambda self, row: iter(()))
    with pytest.raises(AssertionError):
        _late(town, city, tmp_path)


def test_closing_without_waiting_is_found_out(
    town: Town, city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: a month would be closed on the first 8th without the gateway that is cut off."""
    monkeypatch.setattr(Archive, "delivered", lambda self, *of: True)
    with pytest.raises(AssertionError):
        test_a_gateway_a_month_without_network_is_in_the_files(town, city, tmp_path)


def _late(town: Town, city: City, folder: Path) -> None:
    """A gateway comes back after its month was closed; the site that has lived is that of a restored archive."""
    out = folder / "site"
    town.days(date(2026, 8, 28), date(2026, 8, 29), "plaza", "station")
    town.days(date(2026, 8, 30), date(2026, 9, 1), "plaza", away=("station",))
    for day in (date(2026, 9, 8), date(2026, 10, 8), date(2026, 11, 8)):
        town.days(day, day, "plaza", away=("station",))
    build(town.archive, city, out, noon(date(2026, 11, 9)))
    assert "releases-2026-08.csv" in data(out)["SHA256SUMS"].decode()
    town.files("station")
    build(town.archive, city, out, noon(date(2026, 11, 10)))
    whole(town, out)
    build(town.archive, city, folder / "again", noon(date(2026, 11, 10)))
    assert data(out) == data(folder / "again")


def test_what_came_late_is_restored_with_what_was_closed_before(town: Town, city: City, tmp_path: Path) -> None:
    """Both editions, the sums, the ledger and all descriptors, byte for byte."""
    _late(town, city, tmp_path)


def test_a_closed_file_that_was_damaged_is_made_again(town: Town, city: City, tmp_path: Path) -> None:
    """Bytes that are not what the sum says are not handed on; the archive gives the right ones again."""
    out = tmp_path / "site"
    town.days(date(2026, 8, 29), date(2026, 9, 9), "plaza")
    build(town.archive, city, out, noon(date(2026, 9, 10)))
    good = data(out)["releases-2026-08.csv"]
    file = out.resolve() / "donnees/releases-2026-08.csv"
    file.write_bytes(good[:-9])
    build(town.archive, city, out, noon(date(2026, 9, 10)) + 900)
    assert data(out)["releases-2026-08.csv"] == good


def test_a_closed_file_is_read_through_once(
    town: Town, city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It and its Parquet twin, by the build that has written them and once readers have the site; then no more, while
    the file system says that nobody has touched one of them."""
    out, at_s, read = tmp_path / "site", noon(date(2026, 9, 10)), list[str]()
    town.days(date(2026, 8, 29), date(2026, 9, 9), "plaza")

    def watched(out: Path, path: str, digest: str) -> bool:
        read.append(path)
        return packed.stands(out, path, digest)

    monkeypatch.setattr(kept, "stands", watched)

    def read_now() -> list[str]:
        nonlocal at_s
        at_s += 900
        read.clear()
        build(town.archive, city, out, at_s)
        return sorted(path for path in read if "2026-08" in path)

    both = ["donnees/releases-2026-08.csv", "donnees/releases-2026-08.parquet"]
    assert [read_now() for _ in range(3)] == [both, [], []]
    assert read_now() == []  # also once a folder is deleted that has links to them
    (out.resolve() / both[0]).touch()
    assert [read_now() for _ in range(2)] == [both[:1], []]


def test_readers_wait_for_no_deletion_and_no_reading(
    town: Town, city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report is said once the site is there: what builds that were killed have left is deleted afterwards, and what
    was written for the months read through, which takes seconds for each gigabyte."""
    out, at_s, seen = tmp_path / "site", noon(date(2026, 9, 10)), list[str]()
    town.days(date(2026, 8, 29), date(2026, 9, 9), "plaza")
    build(town.archive, city, out, at_s)
    build(town.archive, city, out, at_s + 900)
    before, now = (path for path in sorted(tmp_path.glob("site.new-*"), key=lambda path: path == out.resolve()))
    left = [tmp_path / f"site.new-{number}" for number in range(2)]
    for folder in left:
        folder.mkdir()

    def watched(out: Path, path: str, digest: str) -> bool:
        seen.append("read")
        return packed.stands(out, path, digest)

    def told(report: BuildReport) -> None:
        assert out.resolve() not in (before, now) and (out / "donnees/releases-2026-09.csv").is_file()
        assert [path.exists() for path in (*left, before, now)] == [True] * 4 and report.files > 0
        seen.append("told")

    monkeypatch.setattr(kept, "stands", watched)
    town.days(date(2026, 9, 10), date(2026, 9, 10), "plaza")
    report = build(town.archive, city, out, at_s + 86_400, told=told)
    assert seen[0] == "told" and "read" in seen and seen.count("told") == 1
    assert [path.exists() for path in (*left, before, now)] == [False, False, True, True] and report.pages > 0


@pytest.mark.parametrize("how", ["written", "copied with its time", "store deleted"])
@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip file", gzip.compress(b"something else", mtime=0), None],
    ids=["nothing", "no gzip file", "another gzip file", "another bit"],
)
def test_what_was_written_into_a_closed_file_or_its_twin_is_not_handed_on(
    site_of_august: tuple[Town, Path, int], city: City, content: bytes | None, how: str
) -> None:
    """Whatever it is, also with as many octets and the same time of writing, and whether the store remembers the file
    or not: the next build makes both again. `content`: None for another bit."""
    town, out, at_s = site_of_august
    for end in ("", ".gz"):
        names = [f"donnees/releases-2026-08.{kind}{end}" for kind in ("csv", "parquet")]
        good = [(out / name).read_bytes() for name in names]
        for name, right in zip(names, good, strict=True):
            path = out.resolve() / name
            then = path.stat()
            flipped = bytearray(right)
            flipped[len(right) // 2] ^= 1
            path.write_bytes(flipped if content is None else content)
            assert path.stat().st_ino == then.st_ino
            if how == "copied with its time":
                os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
        if how == "store deleted":
            out.with_name("site.store").unlink()
        for _ in range(2):
            build(town.archive, city, out, at_s)
        assert [(out / name).read_bytes() for name in names] == good


@pytest.fixture
def site_of_august(town: Town, city: City, tmp_path: Path) -> tuple[Town, Path, int]:
    """A town, its site, built twice on 10 September, and when: the store remembers what was read of August."""
    town.days(date(2026, 8, 29), date(2026, 9, 9), "plaza")
    at_s = noon(date(2026, 9, 10))
    for _ in range(2):
        build(town.archive, city, tmp_path / "site", at_s)
    return town, tmp_path / "site", at_s


def test_what_was_written_while_a_build_ran_is_not_taken_as_read(
    site_of_august: tuple[Town, Path, int], city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into a file that was read before: the build after it reads it again."""
    town, out, at_s = site_of_august
    path = "donnees/releases-2026-08.csv"
    good, shelf = (out / path).read_bytes(), months.shelf

    def harmed(*given: Any) -> months.Shelf:
        found = shelf(*given)
        (out.resolve() / path).write_bytes(bytes(len(good)))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(months, "shelf", harmed)
        build(town.archive, city, out, at_s)
    assert (out / path).read_bytes() != good
    build(town.archive, city, out, at_s)
    assert (out / path).read_bytes() == good


def test_a_file_is_not_whole_for_what_was_read_of_another(
    site_of_august: tuple[Town, Path, int], city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A twin of `kept.Whole` that does not ask for the time of change hands on what was copied with its old time."""
    town, out, at_s = site_of_august
    path = out.resolve() / "donnees/releases-2026-08.csv"
    touched = kept._touched
    monkeypatch.setattr(kept, "_touched", lambda out, path: [(*of[:-1], 0) for of in touched(out, path)])
    build(town.archive, city, out, at_s)
    then, length = path.stat(), len(path.read_bytes())
    path.write_bytes(bytes(length))
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
    build(town.archive, city, out, at_s)
    assert data(out)["releases-2026-08.csv"] == bytes(length)


def test_a_closed_file_is_not_written_again(town: Town, city: City, tmp_path: Path) -> None:
    """What nothing has come for is linked, not computed: the same file on the disk."""
    out = tmp_path / "site"
    town.days(date(2026, 8, 29), date(2026, 9, 9), "plaza")
    build(town.archive, city, out, noon(date(2026, 9, 10)))
    before = (out / "donnees/releases-2026-08.csv").stat()
    build(town.archive, city, out, noon(date(2026, 9, 10)) + 900)
    assert (out / "donnees/releases-2026-08.csv").stat().st_ino == before.st_ino
    shutil.rmtree(out.resolve() / "donnees")
    build(town.archive, city, out, noon(date(2026, 9, 10)) + 1800)
    assert "releases-2026-08.csv" in data(out)


OPEN = [f"donnees/releases-2026-09.{kind}" for kind in ("csv", "parquet")]


def test_the_files_of_an_open_month_are_made_once_a_day(town: Town, city: City, tmp_path: Path) -> None:
    """They hold the days that are over: today they are linked, unless one is damaged or something comes late for a day
    that they hold; and a site that is built from nothing has the same. What is new today is in a file of its own."""
    out, at_s = tmp_path / "site", noon(date(2026, 9, 6))
    town.days(date(2026, 9, 1), date(2026, 9, 4), "plaza", "station")
    town.days(date(2026, 9, 5), date(2026, 9, 6), "plaza", away=("station",))
    build(town.archive, city, out, at_s)
    held, today = [(out / name).stat() for name in OPEN], data(out)[TODAY]
    build(town.archive, city, out, at_s + 6 * 3600)
    assert data(out)[TODAY] != today
    assert [(out / name).stat().st_ino for name in OPEN] == [one.st_ino for one in held]
    for name in OPEN:
        (out.resolve() / name).write_bytes(b"damaged")
        build(town.archive, city, out, at_s + 6 * 3600)
        assert [(out / name).stat().st_size for name in OPEN] == [one.st_size for one in held]
    town.files("station")
    build(town.archive, city, out, at_s + 7 * 3600)
    assert all((out / name).stat().st_size != one.st_size for name, one in zip(OPEN, held, strict=True))
    build(town.archive, city, tmp_path / "again", at_s + 7 * 3600)
    assert data(out) == data(tmp_path / "again")
    build(town.archive, city, out, at_s + 12 * 3600)
    whole(town, out)


def held(out: Path) -> list[bytes]:
    """The rows of the town's files, the header of each once."""
    return [line for name in (*named(out), TODAY) for line in data(out)[name].splitlines()[1:]]


def test_month_and_day_have_each_row_once_at_any_instant(town: Town, city: City, tmp_path: Path) -> None:
    """Around midnight, and around the first of a month: the new month has no row until its first day is over, and the
    file of the day has none while no day runs."""
    out, midnight_s = tmp_path / "site", PARIS.midnight(date(2026, 10, 1))
    town.days(date(2026, 9, 29), date(2026, 10, 2), "plaza")
    for shift_s in (-900, 0, 7 * 3600, 86_400 - 900, 86_400, 86_400 + 7 * 3600):
        build(town.archive, city, out, midnight_s + shift_s)
        rows = held(out)
        assert len(rows) == len(set(rows)) > 7
        for name in named(out):
            assert {_month(line) for line in data(out)[name].splitlines()[1:]} <= {name[9:16]}
        empty = [name for name in (*named(out), TODAY) if len(data(out)[name].splitlines()) == 1]
        runs = 0 < shift_s < 86_400
        assert empty == (["releases-2026-10.csv"] if runs else [TODAY] if shift_s in (0, 86_400) else [])
        build(town.archive, city, tmp_path / f"again{shift_s}", midnight_s + shift_s)
        assert data(out) == data(tmp_path / f"again{shift_s}")


@pytest.mark.parametrize(
    ("until", "french", "english"),
    [
        (
            noon(date(2026, 10, 1)),
            "encore ouvert et vide : aucun jour n'est fini)",
            "still open, and empty: no day is over)",
        ),
        (
            noon(date(2026, 10, 3)),
            "encore ouvert : il va jusqu'au 2 octobre 2026 compris et s'allonge après minuit)",
            "still open: it goes to 2 October 2026 included, and grows after midnight)",
        ),
        (noon(date(2026, 10, 1)), "encore ouvert pour ce qui arrive en retard)", "still open for what comes late)"),
    ],
)
def test_the_page_and_the_descriptors_say_until_when_a_file_goes(
    town: Town, city: City, tmp_path: Path, until: int, french: str, english: str
) -> None:
    """In both languages; and the package for programs, with the day and the instant."""
    out = tmp_path / "site"
    town.days(date(2026, 9, 29), date(2026, 10, 3), "plaza")
    build(town.archive, city, out, until)
    for page, words in (("donnees/index.html", french), ("en/donnees/index.html", english)):
        told = plain((out / page).read_text("utf-8"))
        assert words in told and f'{RUNNING}" download' in told
    resources = {one["path"]: one for one in json.loads(data(out)["datapackage.json"])["resources"]}
    over_s = PARIS.day(until).start_s
    title = {
        date(2026, 9, 30): "Les valeurs de 2026-10 : aucune encore, le premier jour n'est pas fini",
        date(2026, 10, 2): "Toutes les valeurs de 2026-10, du premier jour au 2026-10-02 compris",
    }[PARIS.civil_day(over_s - 1)]
    for path in ("releases-2026-10.csv", "releases-2026-10.parquet"):
        assert parse_utc(resources[path]["until"]) == over_s
        assert plain(resources[path]["title"]).removesuffix(" (Parquet)") == title
    assert f'"{title}"' in plain(data(out)["catalogue.jsonld"].decode())
    assert plain(resources["releases-2026-09.csv"]["title"]) == "Toutes les valeurs de 2026-09"


def plain(text: str) -> str:
    """Without the typography of French."""
    return text.replace("\u00a0", " ").replace("\u202f", " ").replace("’", "'")


def test_a_month_that_is_not_told_of_since_yesterday_is_found_out(
    town: Town, city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: a file that is taken as it is, whatever it was made of, lacks what came late."""
    shelf = months.shelf

    def careless(*given: Any) -> months.Shelf:
        found, still = shelf(*given), _Same()
        still.update(found.still)
        return replace(found, still=still)

    class _Same(dict[str, months.Edition]):
        def get(self, path: str, default: Any = None) -> Any:
            return replace(self[path], of=_Always()) if path in self else default

    class _Always(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            return True

    monkeypatch.setattr(months, "shelf", careless)
    with pytest.raises(AssertionError):
        test_the_files_of_an_open_month_are_made_once_a_day(town, city, tmp_path)


def test_a_month_waits_for_what_was_put_aside(town: Town, city: City, tmp_path: Path) -> None:
    """A message that waits for a word may still come into the month: it stays open until the word is said, and is then
    closed as it would have been."""
    out = tmp_path / "site"
    town.days(date(2026, 8, 1), date(2026, 8, 30), "plaza")
    town.sends("plaza", date(2026, 8, 31))
    gateway, line = town.gateways["plaza"], town.lines["plaza"]
    with town.archive.transaction():
        for sealed in gateway.sealed[town.brought["plaza"] :]:
            message = wire.open_message(sealed, line.record_key)
            town.archive.put(message, sealed, line, "quarantined", "policy_unknown")
    town.brought["plaza"] = len(gateway.sealed)
    town.days(date(2026, 9, 1), date(2026, 9, 9), "plaza")
    build(town.archive, city, out, noon(date(2026, 9, 10)))
    assert data(out)["SHA256SUMS"] == b""
    with town.archive.transaction():
        for stored in town.archive.quarantined("policy_unknown"):
            assert stored.sealed is not None
            town.archive.amend(stored, wire.open_message(stored.sealed, line.record_key), "filed")
    build(town.archive, city, out, noon(date(2026, 9, 10)))
    assert rows_of(data(out)["releases-2026-08.csv"], "plaza") == 31 * 5
    assert "releases-2026-08.csv" in data(out)["SHA256SUMS"].decode()
    build(town.archive, city, tmp_path / "again", noon(date(2026, 9, 10)))
    assert data(out) == data(tmp_path / "again")


def test_a_shelf_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    """Of a site without a word on its months, or with one of another kind, nothing is taken."""
    assert months.shelf(tmp_path) == months.Shelf()
    (tmp_path / "donnees").mkdir()
    for text in ("", "[]", "{}", '{"format": 4}', '{"format": 1, "months": {"2026-08": [{"row": 1}]}}'):
        (tmp_path / months.STATE).write_text(text)
        assert months.shelf(tmp_path) == months.Shelf()


def test_a_site_listed_after_a_month_was_closed_is_in_a_second_edition(town: Town, city: City, tmp_path: Path) -> None:
    """The first one keeps its bytes. The ledger has the site at once, of every month: what its streams have spent is
    told from it. The second edition is closed on the next 8th, and no third one follows."""
    out, at_s = tmp_path / "site", noon(date(2026, 9, 10))
    fewer = replace(city, site=tuple(site for site in city.site if site.id != "station"))
    town.days(date(2026, 8, 25), date(2026, 9, 10), "plaza", "station")
    build(town.archive, fewer, out, at_s)
    first = data(out)
    assert rows_of(first["releases-2026-08.csv"], "plaza") == 35 and b"station" not in first["ledger.jsonl"]
    for later_s in (900, 1800):
        build(town.archive, city, out, at_s + later_s)
        files = data(out)
        assert files["releases-2026-08.csv"] == first["releases-2026-08.csv"]
        assert rows_of(files["releases-2026-08.2.csv"], "station") == 35
        assert files["SHA256SUMS"] == first["SHA256SUMS"] != b""
        build(town.archive, city, tmp_path / "again", at_s + later_s)
        assert files["ledger.jsonl"] == data(tmp_path / "again")["ledger.jsonl"]
    town.days(date(2026, 9, 11), date(2026, 10, 9), "plaza", "station")
    for later_s in (0, 900):
        build(town.archive, city, out, noon(date(2026, 10, 9)) + later_s)
        last = data(out)
        assert last["releases-2026-08.csv"] == first["releases-2026-08.csv"]
        assert last["releases-2026-08.2.csv"] == files["releases-2026-08.2.csv"]
        assert named(out) == [f"releases-2026-{name}.csv" for name in ("08.2", "08", "09", "10")]
        assert [line.split("  ")[1] for line in last["SHA256SUMS"].decode().splitlines()][::2] == [
            f"releases-2026-{name}.csv" for name in ("08.2", "08", "09")
        ]
    build(town.archive, fewer, out, noon(date(2026, 10, 9)) + 1800)  # no longer listed: what is closed stays
    assert data(out)["SHA256SUMS"] == last["SHA256SUMS"] and b"station" not in data(out)["ledger.jsonl"]
    build(town.archive, city, out, noon(date(2026, 10, 9)) + 2700)
    assert data(out)["SHA256SUMS"] == last["SHA256SUMS"] and data(out)["ledger.jsonl"] == last["ledger.jsonl"]


def test_what_comes_late_after_a_site_was_added_is_in_the_open_edition(town: Town, city: City, tmp_path: Path) -> None:
    """An edition that is open for an added site holds what comes late for others as well."""
    out = tmp_path / "site"
    fewer = replace(city, site=tuple(site for site in city.site if site.id != "alley"))
    town.days(date(2026, 8, 28), date(2026, 8, 31), "plaza", "alley", away=("station",))
    for day in (date(2026, 9, 8), date(2026, 10, 8), date(2026, 11, 8)):
        town.days(day, day, "plaza", "alley", away=("station",))
    build(town.archive, fewer, out, noon(date(2026, 11, 9)))
    first = data(out)["releases-2026-08.csv"]
    build(town.archive, city, out, noon(date(2026, 11, 9)) + 900)
    town.files("station")
    build(town.archive, city, out, noon(date(2026, 11, 10)))
    assert data(out)["releases-2026-08.csv"] == first and rows_of(first, "alley") == 0
    whole(town, out)


def _restored(town: Town, city: City, folder: Path, releases: ModuleType, days: int) -> tuple[Path, Path]:
    """A site is built of an archive that is lost. The one that was restored has the same messages of some days, then
    what came late for August, then the rest, and more than the site had seen. Returns the site and one from nothing."""
    town.days(date(2026, 8, 28), date(2026, 8, 31), "plaza", away=("station",))
    for day in (date(2026, 9, 9), date(2026, 10, 9), date(2026, 11, 8)):
        town.days(day, day, "plaza", away=("station",))
    town.days(date(2026, 11, 9), date(2026, 11, 12), "plaza")
    build(town.archive, city, folder / "site", noon(date(2026, 11, 13)))
    (folder / "backup").mkdir()
    back = Town(folder / "backup", releases)
    back.gateways = town.gateways
    back.files("plaza", 4 * days)
    back.files("station")
    back.files("plaza")
    back.days(date(2026, 11, 13), date(2026, 11, 13), "plaza")
    for name in ("site", "again"):
        build(back.archive, city, folder / name, noon(date(2026, 11, 14)))
    whole(back, folder / "site")
    back.archive.close()
    return folder / "site", folder / "again"


def test_rows_of_another_archive_are_not_trusted(town: Town, city: City, tmp_path: Path, releases: ModuleType) -> None:
    """What came late was never seen, although its rows are lower than the last that was: the site is that of the
    archive that was restored."""
    site, again = _restored(town, city, tmp_path, releases, 7)
    assert "releases-2026-08.2.csv" in data(site)
    assert data(site) == data(again)


def test_what_is_closed_stays_where_a_restored_archive_would_close_it_otherwise(
    town: Town, city: City, tmp_path: Path, releases: ModuleType
) -> None:
    """What came late stands before the month was closed, now: from nothing, it would be in the first edition. That one
    was published and keeps its bytes; there is a second one."""
    site, again = _restored(town, city, tmp_path, releases, 5)
    assert "releases-2026-08.2.csv" not in data(again)
    assert data(site)["releases-2026-08.2.csv"] == data(again)["releases-2026-08.csv"]
    assert rows_of(data(site)["releases-2026-08.csv"], "station") == 0


def test_a_shelf_taken_as_it_is_is_found_out(
    town: Town, city: City, tmp_path: Path, releases: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of `fitting`: rows of another archive would be trusted, and the ledger of other streams be published."""
    monkeypatch.setattr(months, "fitting", lambda archive, streams, before: before)
    with pytest.raises(AssertionError):
        test_rows_of_another_archive_are_not_trusted(town, city, tmp_path, releases)
    (tmp_path / "listed").mkdir()
    later = Town(tmp_path / "listed", releases)
    with pytest.raises(AssertionError):
        test_a_site_listed_after_a_month_was_closed_is_in_a_second_edition(later, city, tmp_path / "listed")
    later.archive.close()


def test_the_page_as_of_an_earlier_instant_closes_nothing_later(town: Town, city: City, tmp_path: Path) -> None:
    """`--now` of August does not close August."""
    town.days(date(2026, 8, 29), date(2026, 9, 9), "plaza")
    build(town.archive, city, tmp_path / "site", noon(date(2026, 8, 31)))
    assert data(tmp_path / "site")["SHA256SUMS"] == b""
    told = json.loads(data(tmp_path / "site")["editions.json"])
    assert [one["closed_s"] for one in told["months"]["2026-08"]] == [None]
