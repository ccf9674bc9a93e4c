"""An archive of any earlier version becomes one of this version, whole, and a copy of what it was stays beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from murmure_ingest import migrations
from murmure_ingest.archive import Archive, ArchiveError
from murmure_ingest.gateways import publish_policy
from murmure_ingest.inspection import inspect
from murmure_ingest.intake import Intake, Stored
from murmure_ingest.migrations import STEPS, only_grows
from murmure_ingest.rules import RuleBook
from murmure_ingest.snapshot import snapshot
from murmure_privacy.errors import ConfigError
from murmure_privacy.release import Message
from murmure_privacy.succession import Uses

MONDAY_S = 1_795_392_000
DUMPS = {int(path.stem[1:]): path for path in Path(__file__).with_name("archives").glob("v*.sql")}
NEXT: migrations.Step = ("CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT", *only_grows("later"))
WRONG: migrations.Step = (*NEXT, "INSERT INTO nowhere VALUES (1)")


def written_by(version: int, folder: Path) -> Path:
    """Returns an archive that the code of `version` has written."""
    path = folder / "archive.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(DUMPS[version].read_text("utf-8"))
    return path


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def content(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return sorted(db.iterdump())


def tables(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as db:
        return sorted(db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


def test_every_earlier_version_has_its_archive_here() -> None:
    """Whoever adds a step leaves an archive of the version before it."""
    assert set(range(1, len(STEPS))) <= DUMPS.keys()


@pytest.mark.parametrize("version", sorted(DUMPS))
def test_an_archive_of_an_earlier_version_opens_whole(version: int, tmp_path: Path) -> None:
    """After the upgrade it has the tables of a new archive, is sound in every proof, and its messages are the same."""
    path = written_by(version, tmp_path)
    with closing(sqlite3.connect(path)) as db:
        before = db.execute("SELECT gateway, seq, hash, head, sealed FROM messages ORDER BY id").fetchall()
    archive = Archive.open(path)
    assert [(m.gateway, m.seq, m.hash, m.head, m.sealed) for m in archive.messages()] == before
    assert len(before) > 10
    report = inspect(archive, RuleBook(archive))
    assert (report.findings, report.messages) == ([], len(before))
    archive.close()
    Archive.open(tmp_path / "new.db").close()
    assert tables(path) == tables(tmp_path / "new.db")
    assert version_of(path) == len(STEPS)


@pytest.mark.parametrize("fill", ["SELECT 1", "UPDATE nodes SET integers = x'07' WHERE reason IS NULL"])
def test_what_is_filled_in_comes_from_the_signed_messages(
    fill: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check that the upgrades above pass would find integers that a step has left out, or made up."""
    path = written_by(6, tmp_path)
    step = tuple(fill if callable(part) else part for part in STEPS[6])
    monkeypatch.setattr(migrations, "STEPS", (*STEPS[:6], step, *STEPS[7:]))
    archive = Archive.open(path)
    assert any("is not in the index as it was signed" in line for line in inspect(archive, RuleBook(archive)).findings)
    archive.close()


class Unasked(Uses):
    """As versions before the fourth: whoever has a newer policy may go on under the one before."""

    def objection(self, message: Message) -> None:
        return None


class Unasking(Intake):
    """Files as those versions did, and uses stand as an upgrade writes them."""

    def _uses(self, gateway: str) -> Uses:
        return Unasked(self._plan_of, self._archive.uses(gateway))


def test_what_was_filed_under_a_policy_that_was_over_is_named_and_silences_nobody(
    centre: Any, policy_text: Callable[..., bytes]
) -> None:
    """The gateway's word under its newest policy is filed; what it says under the one before is refused as ever."""
    gateway, newer = centre.gateway(), policy_text("plaza", 2, "0.5")
    older = gateway.policy
    publish_policy(centre.archive, centre.signed(newer))
    before = Unasking(centre.archive, RuleBook(centre.archive), lambda: centre.now_s)
    words = []
    for number, (intake, gateway.policy) in enumerate(
        [(before, older), (before, newer), (before, older), (centre.intake, older), (centre.intake, newer)]
    ):
        words.append(intake.accept(gateway.topic, gateway.seal(MONDAY_S + (number + 1) * 900)))
    assert [getattr(word, "reason", "filed") for word in words] == [*["filed"] * 3, "not_in_policy", "filed"]
    findings = inspect(centre.archive, RuleBook(centre.archive)).findings
    assert "gw-plaza seq 3: plaza/footfall: policy 1 was over at this gateway, which had 2" in findings


def test_an_archive_whose_messages_do_not_open_is_not_upgraded(tmp_path: Path) -> None:
    """Damage is told in one line; the file stays of its version, and a backup is the way out."""
    path = written_by(6, tmp_path)
    with closing(sqlite3.connect(path)) as db:
        trigger = db.execute("SELECT sql FROM sqlite_master WHERE name = 'messages_no_update'").fetchone()[0]
        db.execute("DROP TRIGGER messages_no_update")
        db.execute("UPDATE messages SET sealed = CAST(sealed || x'00' AS BLOB) WHERE id = 2")
        db.execute(trigger)
        db.commit()
    before = content(path)
    with pytest.raises(ConfigError, match=r"^[^\n]*does not open[^\n]*restore it from a backup[^\n]*$"):
        Archive.open(path)
    assert (version_of(path), content(path)) == (6, before)


@pytest.fixture
def one_step_more(centre: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A centre whose archive was closed by this version, before the version with one step more opens it."""
    gateway = centre.gateway()
    centre.intake.accept_many(gateway.history(4))
    centre.archive.close()
    monkeypatch.setattr(migrations, "STEPS", (*STEPS, NEXT))
    return centre


def test_an_upgrade_leaves_a_copy_of_what_was(one_step_more: Any) -> None:
    """The copy is complete and of the version before; a second opening upgrades and copies nothing."""
    path = one_step_more.config.archive
    before, was = content(path), len(STEPS)
    Archive.open(path).close()
    copy = path.with_name(f"archive.db.before-v{was + 1}")
    assert (version_of(path), version_of(copy)) == (was + 1, was)
    assert content(copy) == before
    made = copy.stat().st_mtime_ns
    Archive.open(path).close()
    assert copy.stat().st_mtime_ns == made
    assert sorted(file.name for file in path.parent.glob("archive.db*")) == ["archive.db", copy.name]


def test_the_copy_serves_the_version_before(one_step_more: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going back to the older software means to put the copy in place: it files on from there."""
    path = one_step_more.config.archive
    Archive.open(path).close()
    monkeypatch.setattr(migrations, "STEPS", STEPS)
    with pytest.raises(ConfigError, match="another version of Murmure"):
        Archive.open(path)
    path.with_name(f"archive.db.before-v{len(STEPS) + 1}").replace(path)
    archive = Archive.open(path)
    assert len(list(archive.messages())) == 4
    archive.close()


def test_a_new_archive_is_not_copied(tmp_path: Path) -> None:
    """There is nothing to keep of an empty file."""
    Archive.open(tmp_path / "archive.db").close()
    assert [file.name for file in tmp_path.iterdir()] == ["archive.db"]


def test_a_reader_is_told_to_let_the_centre_upgrade(one_step_more: Any) -> None:
    """It may not write; it says in one line who can, and changes nothing."""
    path = one_step_more.config.archive
    with pytest.raises(ConfigError, match=r"^[^\n]*earlier version[^\n]*murmure gateway list[^\n]*$"):
        Archive.open(path, read_only=True)
    assert version_of(path) == len(STEPS)
    Archive.open(path).close()
    Archive.open(path, read_only=True).close()


def test_a_newer_archive_is_refused(centre: Any) -> None:
    """What this version does not know is not touched, by a reader or a writer."""
    centre.archive.close()
    path = centre.config.archive
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    for read_only in (True, False):
        with pytest.raises(ConfigError, match=f"version {len(STEPS) + 1}, from another version"):
            Archive.open(path, read_only=read_only)


def test_a_step_that_fails_leaves_the_version_before(one_step_more: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step is one transaction: of a wrong one nothing stays, of the right one before it everything."""
    path = one_step_more.config.archive
    before = content(path)
    monkeypatch.setattr(migrations, "STEPS", (*STEPS, WRONG))
    with pytest.raises(ArchiveError, match="nowhere"):
        Archive.open(path)
    assert (version_of(path), content(path)) == (len(STEPS), before)
    monkeypatch.setattr(migrations, "STEPS", (*STEPS, NEXT, WRONG[-1:]))
    with pytest.raises(ArchiveError, match="nowhere"):
        Archive.open(path)
    assert version_of(path) == len(STEPS) + 1
    assert any("TABLE later" in line for line in content(path))


def test_no_step_is_taken_without_the_copy(one_step_more: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room for the copy the archive stays as it is, and the operator is told."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(migrations, "snapshot", full)
    path = one_step_more.config.archive
    with pytest.raises(ConfigError, match=r"^[^\n]*before-v[^\n]*No space left[^\n]*$"):
        Archive.open(path)
    assert version_of(path) == len(STEPS)


def test_two_processes_upgrade_once(one_step_more: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one that came before the copy was made finds the step taken, goes on, and leaves the first's copy."""
    path = one_step_more.config.archive
    taken = snapshot

    def overtaken(source: Path, target: Path, *check: Any) -> None:
        monkeypatch.setattr(migrations, "snapshot", taken)
        Archive.open(path).close()
        taken(source, target, *check)

    monkeypatch.setattr(migrations, "snapshot", overtaken)
    archive = Archive.open(path)
    assert version_of(path) == len(STEPS) + 1
    assert version_of(path.with_name(f"archive.db.before-v{len(STEPS) + 1}")) == len(STEPS)
    archive.close()


def test_what_only_grows_says_so(one_step_more: Any) -> None:
    """A table that a step adds is guarded as the first ones are."""
    path = one_step_more.config.archive
    Archive.open(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO later VALUES (1)")
        for statement in ("UPDATE later SET id = 2", "DELETE FROM later"):
            with pytest.raises(sqlite3.IntegrityError, match="only grows"):
                db.execute(statement)


def test_the_centre_files_on_after_an_upgrade(one_step_more: Any) -> None:
    """An upgraded archive is written to as before."""
    archive = Archive.open(one_step_more.config.archive)
    one_step_more.intake = type(one_step_more.intake)(archive, RuleBook(archive), lambda: 1 << 40)
    other = replace(one_step_more, archive=archive).gateway("gw-other", "other")
    assert [type(word) for word in one_step_more.intake.accept_many(other.history(2))] == [Stored, Stored]
    archive.close()
