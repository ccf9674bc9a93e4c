"""The log and the sealed messages among the open data: everything that anybody needs to check the figures."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from murmure.cli import main
from murmure_dashboards import journal
from murmure_dashboards.config import City
from murmure_dashboards.packed import compressed
from murmure_dashboards.site import SiteError, build
from murmure_ingest.archive import Archive, Enrolment, StoredPolicy
from murmure_privacy import log, wire
from murmure_privacy.log import Checkpoint
from murmure_privacy.sources import Site
from murmure_privacy.verify import find, verify

MONDAY_S = 1_795_392_000
QUARTERS = 96
CENTRE, PUBLIC = wire.new_key()
POLICY = b"""policy = 1
site = "plaza"
version = 1
timezone = "Europe/Paris"
decision = "D"
reason = "R."
valid_from = 2026-11-01
valid_until = 2027-11-30

[[stream]]
id = "plaza/footfall"
quantity = "footfall"
protects = { crossings = 1 }
epsilon = 1.0
nodes = { "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }
"""


class Town:
    """An archive with one gateway, which says what it is asked to."""

    def __init__(self, folder: Path, releases: ModuleType) -> None:
        self.archive = Archive.open(folder / "archive.db")
        secret, public = wire.new_key()
        self.gateway = releases.Gateway("gw-plaza", "centre", "plaza", secret, POLICY)
        sealed = wire.seal_policy(POLICY, [("s", CENTRE)])
        with self.archive.transaction():
            self.line = self.archive.enrol(Enrolment("gw-plaza", "centre", "plaza", public, (PUBLIC,), 1))
            self.archive.put_policy(StoredPolicy(wire.digest(POLICY), "plaza", 1, POLICY, sealed))

    def say(self, quarters: int) -> None:
        """The gateway goes on for some quarter-hours, and the centre signs its log."""
        with self.archive.transaction():
            for _ in range(quarters):
                sealed = self.gateway.seal(MONDAY_S + (len(self.gateway.sealed) + 1) * 900)
                self.archive.put(wire.open_message(sealed, self.line.record_key), sealed, self.line, "filed")
        self.archive.sign_log(CENTRE)


@pytest.fixture
def town(tmp_path: Path, releases: ModuleType) -> Iterator[Town]:
    town = Town(tmp_path, releases)
    yield town
    town.archive.close()


def built(town: Town, out: Path) -> tuple[set[str], set[str]]:
    """Builds the journal on top of what is in `out`. Returns what was written, and what was kept."""
    kept: list[str] = []
    written = dict(journal.files(town.archive, journal.shelf(out), kept.append))
    for path, content in written.items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(content)
        (out / f"{path}.gz").write_bytes(compressed(content))
    return set(written), set(kept)


def everything(out: Path) -> dict[str, bytes]:
    """The files without their compressed twins."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.suffix != ".gz"]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def test_the_log_is_published_up_to_its_checkpoint(town: Town, tmp_path: Path) -> None:
    """Entries, signed checkpoint and key; of the messages each day's, and the last of each account."""
    town.say(QUARTERS + 2)
    built(town, tmp_path / "out")
    files = everything(tmp_path / "out")
    public = bytes.fromhex(files["donnees/journal/centre.txt"].decode())
    assert public == PUBLIC
    entries = files["donnees/journal/entries-00000.jsonl"].splitlines()
    here = log.open_checkpoint(files["donnees/journal/checkpoint.txt"], public)
    assert here == Checkpoint(3, log.root([log.leaf_hash(entry) for entry in entries]))
    sealed = town.gateway.sealed
    assert wire.messages_in(files["donnees/messages/2026-11-23.cose"]) == sealed[:QUARTERS]
    assert wire.messages_in(files["donnees/messages/2026-11-24.cose"]) == sealed[QUARTERS:]
    assert wire.messages_in(files["donnees/journal/days-2026-11.cose"]) == [sealed[QUARTERS - 1]]
    told = {one["path"]: one for one in json.loads(files["donnees/messages/index.json"])["files"]}
    assert (told["donnees/messages/2026-11-23.cose"]["messages"], len(told)) == (QUARTERS, 4)


def test_nothing_is_published_of_a_log_that_nobody_signed(town: Town, tmp_path: Path) -> None:
    """Before the centre's first signature there is nothing to check, and no file."""
    assert built(town, tmp_path / "out") == (set(), set())


def test_what_did_not_change_is_kept(town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build writes the day that grew and the open file of the log; full files and other days are those of before."""
    monkeypatch.setattr(journal, "SHARD", 2)
    out = tmp_path / "out"
    town.say(2 * QUARTERS)
    built(town, out)
    before = everything(out)
    assert built(town, out)[1] == set(before) - {journal.CHECKPOINT, journal.CENTRE, journal.INDEX}
    town.say(1)
    written, kept = built(town, out)
    days = {f"donnees/messages/2026-11-{day}.cose" for day in (23, 24, 25)}
    assert kept & days == days - {"donnees/messages/2026-11-25.cose"}
    assert "donnees/journal/entries-00000.jsonl" in kept
    assert {"donnees/journal/entries-00001.jsonl", "donnees/journal/days-2026-11.cose"} <= written
    anew = tmp_path / "anew"
    built(town, anew)
    assert everything(anew) == everything(out)


def flip(path: Path) -> None:
    """One bit of a file is another: it is as long as before."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_days_of_another_archive_are_looked_at_again(town: Town, tmp_path: Path, releases: ModuleType) -> None:
    """An archive that was restored has other messages in the rows that were seen, and more of them: what came late for
    a day that was over is in its file, as in one that is made from nothing."""
    (tmp_path / "lost").mkdir()
    lost, out = Town(tmp_path / "lost", releases), tmp_path / "out"
    sealed = [town.gateway.seal(MONDAY_S + (place + 1) * 900) for place in range(3 * QUARTERS)]
    late = sealed[50:60]

    def files(archive: Archive, messages: list[bytes]) -> None:
        with archive.transaction():
            for one in messages:
                archive.put(wire.open_message(one, town.line.record_key), one, town.line, "filed")
        archive.sign_log(CENTRE)

    town.gateway.sealed[:] = sealed
    files(lost.archive, [one for one in sealed[: 2 * QUARTERS] if one not in late])
    town_before, town.archive = town.archive, lost.archive
    built(town, out)
    town.archive = town_before
    lost.archive.close()
    files(town.archive, sealed)
    built(town, out)
    built(town, tmp_path / "anew")
    assert wire.messages_in((out / "donnees/messages/2026-11-23.cose").read_bytes()) == sealed[:QUARTERS]
    assert everything(out) == everything(tmp_path / "anew")


def test_trusting_rows_of_another_archive_is_found_out(
    town: Town, tmp_path: Path, releases: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: the number of a row would do for what stands in it."""
    monkeypatch.setattr(journal, "_head", lambda archive, row: "")
    with pytest.raises(AssertionError):
        test_days_of_another_archive_are_looked_at_again(town, tmp_path, releases)


@pytest.mark.parametrize(
    "harm",
    [
        lambda out: (out / journal.INDEX).write_text("{"),
        lambda out: (out / journal.INDEX).write_text('{"files": [], "format": 99}'),
        lambda out: (out / "donnees/messages/2026-11-23.cose").unlink(),
        lambda out: (out / "donnees/messages/2026-11-23.cose").write_bytes(b""),
        lambda out: flip(out / "donnees/messages/2026-11-23.cose"),
        lambda out: flip(out / "donnees/messages/2026-11-23.cose.gz"),
        lambda out: flip(out / "donnees/journal/entries-00000.jsonl"),
    ],
)
def test_a_site_before_that_is_not_whole_is_not_built_upon(
    town: Town, tmp_path: Path, harm: Callable[[Path], Any]
) -> None:
    """Everything is made again from the archive."""
    out = tmp_path / "out"
    town.say(QUARTERS + 1)
    built(town, out)
    before = everything(out)
    harm(out)
    _, kept = built(town, out)
    assert (everything(out), kept) == (before, set())


def test_every_value_of_the_week_has_its_code(town: Town, tmp_path: Path, city: City) -> None:
    """Each page of a neighbourhood leads to the codes; `verify` finds what was signed for any of them."""
    town.say(2 * QUARTERS)
    out = tmp_path / "site"
    build(town.archive, city, out, MONDAY_S + 2 * QUARTERS * 900)
    rows = list(csv.DictReader((out / "donnees" / "centre-codes.csv").read_text().splitlines()))
    assert len({row["code"] for row in rows}) == len(rows) > 200
    published = Site(str(out)).published()
    row = next(row for row in rows if row["status"] == "released")
    report, (match,) = find(published, row["code"])
    assert (report.findings, match.differs, match.row and match.row["value"]) == ([], None, row["value"])
    for page in ("quartiers/centre/", "en/quartiers/centre/", "quartiers/centre/semaine/"):
        assert 'donnees/centre-codes.csv" download' in (out / page / "index.html").read_text()
    assert verify(published).findings == []


def test_a_shorter_log_does_not_take_the_place_of_the_published_one(
    town: Town, tmp_path: Path, city: City, capsys: pytest.CaptureFixture[str]
) -> None:
    """An archive that was restored from a backup and has not adopted the log: the timer that builds the site must not
    destroy the only copy of what the world has seen. Whoever knows it is lost for good may say so."""
    town.say(2 * QUARTERS)
    shutil.copytree(tmp_path, tmp_path / "backup")
    town.say(2 * QUARTERS)
    out, now_s = tmp_path / "site", MONDAY_S + 4 * QUARTERS * 900
    build(town.archive, city, out, now_s)
    seen, files = Site(str(out)).published(), sorted(out.rglob("*"))
    (tmp_path / "city.toml").write_text((Path(__file__).parent / "city.toml").read_text())
    (tmp_path / "quartiers.geojson").write_text((Path(__file__).parent / "quartiers.geojson").read_text())
    command = ["site", "build", "--archive", str(tmp_path / "backup" / "archive.db")]
    command += ["--city", str(tmp_path / "city.toml"), "--out", str(out), "--now", "2026-11-27T00:00:00Z"]
    assert main(command) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "the archive's 3" in told and f"run 'murmure ingest adopt {out}' first" in told
    assert sorted(out.rglob("*")) == files and Site(str(out)).published().note == seen.note
    assert main([*command, "--replace-log"]) == 0
    assert len(Site(str(out)).published().entries) == 3 < len(seen.entries)


def test_a_log_that_took_another_way_does_not_take_its_place(
    town: Town, tmp_path: Path, city: City, releases: ModuleType
) -> None:
    """As long, or longer, and with other entries: what a centre writes that was started before it adopted. One that
    goes on from what is there takes its place."""
    town.say(2 * QUARTERS)
    out, now_s = tmp_path / "site", MONDAY_S + 2 * QUARTERS * 900
    build(town.archive, city, out, now_s)
    (tmp_path / "other").mkdir()
    other = Town(tmp_path / "other", releases)
    other.say(3 * QUARTERS)
    with pytest.raises(SiteError, match="its 3 entries are not the archive's first"):
        build(other.archive, city, out, now_s)
    other.archive.close()
    town.say(QUARTERS)
    build(town.archive, city, out, now_s + QUARTERS * 900)
    assert len(Site(str(out)).published().entries) == 4


def test_a_site_without_a_log_that_can_be_read_is_built_anew(town: Town, tmp_path: Path, city: City) -> None:
    """There is nothing that anybody could have checked."""
    town.say(QUARTERS)
    out = tmp_path / "site"
    build(town.archive, city, out, MONDAY_S + QUARTERS * 900)
    (out / journal.CHECKPOINT).write_bytes(b"murmure/")
    assert journal.broken_off(town.archive, out) is None
    build(town.archive, city, out, MONDAY_S + QUARTERS * 900)
    signed = town.archive.signed_checkpoint()
    assert signed is not None and (out / journal.CHECKPOINT).read_bytes() == signed[2]
