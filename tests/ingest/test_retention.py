"""What is no release may be forgotten after the town's time; releases, chain and every proof stay."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from murmure.cli import main
from murmure_ingest.archive import Archive
from murmure_ingest.config import RetentionConfig, load
from murmure_ingest.gateways import publish_policy
from murmure_ingest.inspection import Report, inspect
from murmure_ingest.intake import Duplicate, Intake
from murmure_ingest.quarantine import Quarantine, items
from murmure_ingest.receipts import receipt
from murmure_ingest.retention import Forgotten, RetentionError, forget
from murmure_ingest.rules import RuleBook
from murmure_ingest.snapshot import snapshot
from murmure_privacy import wire
from murmure_privacy.errors import ConfigError

MONDAY_S = 1_795_392_000
DAY_S = 86_400
LATER_S = MONDAY_S + 400 * DAY_S
KEPT = RetentionConfig(refused_days=30, health_days=30, aside_days=373)


@pytest.fixture
def aside(centre: Any) -> Any:
    """A centre in which one message is refused, two are put aside, two are evidence, and one waited and was filed."""
    late, gateway = centre.gateway("gw-late", "late", published=False), centre.gateway()
    centre.intake.accept_many(late.history(1))
    publish_policy(centre.archive, centre.signed(late.policy))
    centre.intake.reconsider()
    centre.intake.accept_many(gateway.history(4))
    centre.accept(*gateway.health(60))
    centre.accept(gateway.topic, gateway.seal(MONDAY_S + 4500, site="moon"))
    centre.accept(gateway.topic, wire.seal_message(gateway.message(MONDAY_S + 5400, seq=2), gateway.secret))
    centre.accept(gateway.topic, wire.seal_message(gateway.message(MONDAY_S + 6300, seq=3), gateway.secret))
    centre.accept(gateway.topic, gateway.seal(MONDAY_S + 5400))
    centre.accept(gateway.topic, gateway.seal(MONDAY_S + 6300))
    centre.config = replace(centre.config, retention=KEPT)
    return centre


def report_of(centre: Any) -> Report:
    archive = Archive.open(centre.config.archive, read_only=True)
    try:
        return inspect(archive, RuleBook(archive))
    finally:
        archive.close()


def dump(path: Path, *but: str) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return [line for line in db.iterdump() if not any(f'INTO "{table}"' in line for table in but)]


def put_aside_bytes(centre: Any) -> list[bytes]:
    return [sealed for *_, sealed in centre.archive.aside()]


def test_what_is_old_goes_and_every_proof_stays(aside: Any) -> None:
    """The bytes are gone from the file and its log; hash, reason, receipt and chain are as before."""
    gone = put_aside_bytes(aside)
    line = aside.archive.enrolment("gw-plaza")
    before = receipt(aside.archive, line, aside.secret)
    heads = aside.archive.head(), aside.archive.conflicts(), aside.archive.cloned("gw-plaza")
    assert forget(aside.archive, aside.config, LATER_S) == Forgotten(refused=0, health=1, aside=4)
    assert put_aside_bytes(aside) == [] and len(gone) == 4
    files = [path.read_bytes() for path in aside.config.data_dir.glob("archive.db*")]
    assert not any(sealed[40:] in data for sealed in gone for data in files)
    assert receipt(aside.archive, line, aside.secret) == before
    assert (aside.archive.head(), aside.archive.conflicts(), aside.archive.cloned("gw-plaza")) == heads
    report = report_of(aside)
    assert (report.findings, report.forgotten) == ([], 4)
    assert forget(aside.archive, aside.config, LATER_S) == Forgotten()


def test_releases_register_and_policies_are_untouched(aside: Any) -> None:
    """However old they are: also of the message that waited before it was filed."""
    tables = ("messages", "conflicts", "health", "forgotten")
    rest, series = dump(aside.config.archive, *tables), aside.content()[1]
    filed = [m.sealed for m in aside.archive.messages() if m.disposition == "filed"]
    forget(aside.archive, aside.config, LATER_S + 10_000 * DAY_S)
    assert dump(aside.config.archive, *tables) == rest
    assert [m.sealed for m in aside.archive.messages() if m.disposition == "filed"] == filed and len(filed) == 5
    assert aside.content()[1] == series


def test_what_is_younger_stays(aside: Any) -> None:
    """A day too early nothing goes; without a table nothing ever does."""
    everything = dump(aside.config.archive)
    assert forget(aside.archive, aside.config, MONDAY_S + 29 * DAY_S) == Forgotten()
    assert forget(aside.archive, replace(aside.config, retention=None), LATER_S) == Forgotten()
    assert dump(aside.config.archive) == everything


def test_what_was_spent_counts_for_as_long_as_a_cap_looks_back(aside: Any) -> None:
    """A charge that was put aside is gone only when no cap can ask for it any more."""
    spent = sorted(aside.archive.charges("plaza", 0))
    forget(aside.archive, aside.config, MONDAY_S + 373 * DAY_S)
    assert sorted(aside.archive.charges("plaza", 0)) == spent
    forget(aside.archive, aside.config, LATER_S)
    since_s = LATER_S - 372 * DAY_S
    assert sorted(aside.archive.charges("plaza", since_s)) == [line for line in spent if line[2] > since_s]


def test_the_centre_goes_on_after_it(aside: Any) -> None:
    """A forgotten message that comes again is the duplicate that it was, and what waits is judged as before."""
    known = [m for m in aside.archive.messages("gw-plaza") if m.disposition == "quarantined"]
    sealed = known[-1].sealed
    forget(aside.archive, aside.config, LATER_S)
    assert isinstance(aside.accept("murmure/v1/centre/gw-plaza/release", sealed), Duplicate)
    assert aside.intake.reconsider() == []
    other = aside.gateway("gw-new", "new", published=False)
    other.seal(LATER_S)
    aside.accept(other.topic, other.sealed[0])
    publish_policy(aside.archive, aside.signed(other.policy))
    assert len(aside.intake.reconsider()) == 1
    assert report_of(aside).findings == []


def test_a_waiting_message_that_was_forgotten_is_not_filed(centre: Any) -> None:
    """Its policy came too late: the town has decided to keep it no longer."""
    gateway = centre.gateway(published=False)
    centre.intake.accept_many(gateway.history(2))
    assert forget(centre.archive, replace(centre.config, retention=KEPT), LATER_S).aside == 2
    publish_policy(centre.archive, centre.signed(gateway.policy))
    assert centre.intake.reconsider() == []
    assert (report_of(centre).findings, report_of(centre).forgotten) == ([], 2)


BEHIND = {
    "a release": "UPDATE messages SET sealed = x'' WHERE disposition = 'filed'",
    "one that waited and was filed": "UPDATE messages SET sealed = x'' WHERE gateway = 'gw-late'",
    "other bytes": "UPDATE messages SET sealed = x'00' WHERE disposition = 'quarantined'",
    "another reason": "UPDATE messages SET sealed = x'', reason = '' WHERE disposition = 'quarantined'",
    "another head": "UPDATE messages SET sealed = x'', head = x'' WHERE disposition = 'quarantined'",
    "other evidence": "UPDATE conflicts SET sealed = x'00'",
    "whose evidence": "UPDATE conflicts SET sealed = x'', gateway = 'gw-late'",
    "a row": "DELETE FROM messages WHERE disposition = 'quarantined'",
    "a row of evidence": "DELETE FROM conflicts",
    "that it was forgotten": "DELETE FROM forgotten",
    "when it was forgotten": "UPDATE forgotten SET at_s = 0",
}


@pytest.mark.parametrize("statement", BEHIND.values(), ids=BEHIND.keys())
def test_nothing_else_can_be_changed_for_it(aside: Any, statement: str) -> None:
    """Even with every hash written down as forgotten, the triggers let go of the bytes of what was put aside only."""
    with closing(sqlite3.connect(aside.config.archive)) as db:
        for table in ("messages", "conflicts"):
            db.execute(f"INSERT OR IGNORE INTO forgotten SELECT hash, 'test', 1 FROM {table}")
        db.commit()
        with pytest.raises(sqlite3.IntegrityError, match="only grows"):
            db.execute(statement)


def test_without_the_word_no_byte_goes(aside: Any) -> None:
    """First the hash is written down, then the bytes may go; and the full check asks for that word."""
    with closing(sqlite3.connect(aside.config.archive)) as db:
        for table in ("messages", "conflicts"):
            with pytest.raises(sqlite3.IntegrityError, match="only grows"):
                db.execute(f"UPDATE {table} SET sealed = x'' WHERE reason <> ''")
            db.execute(f"DROP TRIGGER {table}_no_update")
        db.execute("UPDATE messages SET sealed = x'' WHERE seq = 6")
        db.execute("UPDATE conflicts SET sealed = x''")
        db.commit()
    findings = report_of(aside).findings
    assert any("gw-plaza seq 6: the bytes do not have the hash" in line for line in findings)
    assert any("evidence of gw-plaza seq 2: it does not open" in line for line in findings)


def test_what_does_not_open_is_damage_and_stays(aside: Any) -> None:
    """Its age is not known: a person looks at it first."""
    aside.archive._db.execute("DROP TRIGGER conflicts_no_update")
    aside.archive._db.execute("UPDATE conflicts SET sealed = x'00' WHERE seq = 2")
    assert forget(aside.archive, aside.config, LATER_S).aside == 3


def test_refused_bytes_go_by_the_last_time_they_came(aside: Any) -> None:
    """What strangers sent is dropped from its own file."""
    now = [datetime.fromtimestamp(MONDAY_S, UTC)]
    keep = Quarantine(aside.config.quarantine, lambda: now[0], print)
    intake = Intake(aside.archive, RuleBook(aside.archive), lambda: 1 << 40, keep)
    intake.accept("murmure/v1/centre/gw-plaza/release", b"rubbish one")
    now[0] += timedelta(days=20)
    intake.accept("murmure/v1/centre/gw-plaza/release", b"rubbish two")
    keep.close()
    assert forget(aside.archive, aside.config, MONDAY_S + 31 * DAY_S).refused == 1
    assert [item.bytes for item in items(aside.config.quarantine)] == [b"rubbish two"]
    assert b"rubbish one" not in aside.config.quarantine.read_bytes()
    aside.config.quarantine.write_bytes(b"no database at all" * 100)
    with pytest.raises(RetentionError, match=r"^[^\n]*no release is in it[^\n]*$"):
        forget(aside.archive, aside.config, LATER_S)


def copied(aside: Any) -> tuple[Path, bytes]:
    """Returns a copy of before an upgrade beside the archive, and what it holds that is to be forgotten."""
    copy = aside.config.archive.with_name("archive.db.before-v9")
    snapshot(aside.config.archive, copy)
    gone = put_aside_bytes(aside)[0][40:]
    assert gone in copy.read_bytes()
    return copy, gone


def test_a_copy_of_before_an_upgrade_does_not_remember_for_ever(aside: Any) -> None:
    """It goes after its own time, or at once when that is asked for; what is no copy stays."""
    copy, _ = copied(aside)
    unfinished = copy.with_name(f".{copy.name}.new")
    unfinished.write_bytes(b"x")
    made_s = int(copy.stat().st_mtime)
    aside.config = replace(aside.config, retention=replace(KEPT, copies_days=7))
    assert forget(aside.archive, aside.config, made_s + 6 * DAY_S).copies == 0
    assert copy.exists()
    assert forget(aside.archive, aside.config, made_s + 8 * DAY_S).copies == 2
    assert not copy.exists() and not unfinished.exists()
    copied(aside)
    aside.config = replace(aside.config, retention=KEPT)
    assert forget(aside.archive, aside.config, made_s + 800 * DAY_S).copies == 0
    assert forget(aside.archive, aside.config, made_s + 800 * DAY_S, copies=True).copies == 1
    assert aside.config.archive.exists() and report_of(aside).findings == []


def test_a_removed_copy_is_overwritten_before(aside: Any) -> None:
    """Whoever still reads the file's blocks finds nothing in them."""
    copy, gone = copied(aside)
    second_name = copy.with_name("kept-by-a-second-name")
    os.link(copy, second_name)
    forget(aside.archive, aside.config, LATER_S, copies=True)
    assert gone not in second_name.read_bytes() and not second_name.read_bytes().strip(b"\0")


def test_a_copy_that_cannot_be_removed_is_told(aside: Any) -> None:
    """In one line: nobody believes that it is gone."""
    copied(aside)[0].unlink()
    aside.config.archive.with_name("archive.db.before-v9").mkdir()
    with pytest.raises(RetentionError, match=r"^[^\n]*before-v9[^\n]*still holds[^\n]*$"):
        forget(aside.archive, aside.config, LATER_S, copies=True)


def test_the_command_names_the_copies_that_are_left(aside: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Until they are gone; then the archive and its copies have forgotten."""
    copy, _ = copied(aside)
    source = Path(aside.config.source)
    source.write_text(source.read_text() + "[retention]\nhealth_days = 1\n")
    assert main(["ingest", "forget", "--config", str(source)]) == 0
    assert f"{copy.name} still holds what was dropped" in capsys.readouterr().out
    assert main(["ingest", "forget", "--config", str(source), "--copies", "--json"]) == 0
    assert '"copies": 1, "copies_left": []' in capsys.readouterr().out
    assert not copy.exists()


def test_copies_are_removed_at_once_without_a_table(aside: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing is dropped beside them."""
    copy, _ = copied(aside)
    assert main(["ingest", "forget", "--config", aside.config.source, "--copies", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told.pop("copies") == 1 and told.pop("copies_left") == [] and set(told.values()) == {0}
    assert not copy.exists() and len(aside.archive.health()) == 1


def test_the_command_says_what_went(aside: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a table it is told what to write; a time too short for the caps is refused."""
    source = Path(aside.config.source)
    assert main(["ingest", "forget", "--config", str(source)]) == 2
    assert "write [retention]" in capsys.readouterr().err
    source.write_text(source.read_text() + "[retention]\nhealth_days = 1\naside_days = 400\n")
    assert load(source).retention == RetentionConfig(None, 1, 400)
    assert main(["ingest", "forget", "--config", str(source)]) == 0
    assert capsys.readouterr().out.startswith("dropped: 0 refused, ")
    assert main(["ingest", "forget", "--config", str(source), "--json"]) == 0
    assert '"aside": 0' in capsys.readouterr().out
    source.write_text(source.read_text().replace("400", "30"))
    with pytest.raises(ConfigError, match="whole number from 373"):
        load(source)
    assert main(["ingest", "verify", "--archive", str(aside.config.archive)]) == 0
