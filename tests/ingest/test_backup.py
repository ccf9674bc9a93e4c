"""A backup is the whole centre at one instant, made while it works; restored elsewhere it is the same town."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from murmure.cli import main
from murmure_ingest import backup as backups
from murmure_ingest.archive import Archive, ArchiveDamaged
from murmure_ingest.backup import Backup, BackupError, back_up, newest, restore
from murmure_ingest.certificates import Authority, issued, new_private_key
from murmure_ingest.config import load
from murmure_ingest.enrolment import Claims
from murmure_ingest.inspection import inspect
from murmure_ingest.intake import Duplicate, Intake, Stored
from murmure_ingest.receipts import receipt
from murmure_ingest.rules import RuleBook
from murmure_ingest.snapshot import snapshot
from murmure_privacy import wire
from murmure_privacy.errors import ConfigError
from murmure_privacy.window import utc

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
MONDAY_S = 1_795_392_000
QUARTER_S = 900


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Where the backups go."""
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def elsewhere(folder: Path) -> Any:
    """Settings of a centre on another machine, with nothing in it yet."""
    folder.mkdir(exist_ok=True)
    (folder / "ingest.toml").write_text('data_dir = "data"\n')
    return load(folder / "ingest.toml")


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_backup_holds_the_whole_centre(centre: Any, disk: Path) -> None:
    """The archive, every key and claim; what is secret is for the owner alone, and apart from what is not."""
    centre.intake.accept_many(centre.gateway().history(8))
    Claims(centre.config.data_dir).close()
    (centre.config.data_dir / "more").mkdir()
    (centre.config.data_dir / "more" / "list.pem").write_text("x")
    for left in ("mirror.lock", ".half.db.new", "archive.db.before-v9"):
        (centre.config.data_dir / left).write_text("")
    made = back_up(centre.config, disk, NOW, keep=3)
    assert made == Backup(disk / "20261124T030000Z", 8, centre.archive.head())
    names = {"archive.db", "backup.json", "keys/centre.key", "keys/claims.db", "keys/more/list.pem"}
    assert set(files_of(made.folder)) == names
    assert {mode_of(made.folder), mode_of(made.folder / "keys")} == {0o700}
    assert {mode_of(path) for path in (made.folder / "keys").rglob("*") if path.is_file()} == {0o600}
    assert names_in(disk) == ["20261124T030000Z"]
    copy = Archive.open(made.folder / "archive.db", read_only=True)
    assert inspect(copy, RuleBook(copy)).findings == []
    copy.close()


def test_without_keys_nothing_secret_is_copied(centre: Any, disk: Path) -> None:
    """For a place where others read; the secrets of the centre are nowhere in it."""
    centre.gateway()
    made = back_up(centre.config, disk, NOW, keep=3, keys=False)
    assert set(files_of(made.folder)) == {"archive.db", "backup.json"}
    secret = (centre.config.data_dir / "centre.key").read_text().strip()
    assert not any(secret.encode() in data or bytes.fromhex(secret) in data for data in files_of(made.folder).values())


def test_the_newest_are_kept(centre: Any, disk: Path) -> None:
    """As many as asked for; what a power cut left half made goes, and what is not ours stays."""
    centre.gateway()
    (disk / ".20261101T030000Z.new").mkdir()
    (disk / "20261101T040000Z").mkdir()
    (disk / "photographs").mkdir()
    for day in range(5):
        back_up(centre.config, disk, NOW + timedelta(days=day), keep=2)
    assert names_in(disk) == ["20261101T040000Z", "20261127T030000Z", "20261128T030000Z", "photographs"]
    assert newest(disk).name == "20261128T030000Z"
    with pytest.raises(ConfigError, match="this second has its backup"):
        back_up(centre.config, disk, NOW + timedelta(days=4), keep=2)


def test_two_backups_of_one_second_are_two(centre: Any, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command waits for the next second rather than fail."""
    centre.gateway()
    for _ in range(2):
        assert main(["ingest", "backup", str(disk), "--config", centre.config.source]) == 0
    assert len([line for line in capsys.readouterr().out.splitlines() if " messages, head " in line]) == 2
    assert len(names_in(disk)) == 2


def test_a_removal_cut_short_leaves_no_half_backup(centre: Any, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old one loses its name before its files; what is left of it goes with the next backup."""
    centre.gateway()
    back_up(centre.config, disk, NOW, keep=1)
    whole = shutil.rmtree

    def cut_short(path: Path, *rest: Any, **named: Any) -> None:
        if (path / "backup.json").exists():
            (path / "archive.db").unlink()
            raise KeyboardInterrupt
        whole(path, *rest, **named)

    monkeypatch.setattr(shutil, "rmtree", cut_short)
    with pytest.raises(KeyboardInterrupt):
        back_up(centre.config, disk, NOW + timedelta(days=1), keep=1)
    assert [name for name in names_in(disk) if name[0] != "."] == ["20261125T030000Z"]
    monkeypatch.undo()
    back_up(centre.config, disk, NOW + timedelta(days=2), keep=1)
    assert names_in(disk) == ["20261126T030000Z"]


def test_a_damaged_archive_is_not_called_a_backup(centre: Any, disk: Path) -> None:
    """The copy is read through before it gets its name, and the older ones stay."""
    centre.intake.accept_many(centre.gateway().history(8))
    back_up(centre.config, disk, NOW, keep=1)
    centre.archive._db.execute("DROP TRIGGER messages_no_delete")
    centre.archive._db.execute("PRAGMA foreign_keys = OFF")
    centre.archive._db.execute("DELETE FROM messages WHERE seq = 3")
    with pytest.raises(ArchiveDamaged, match=r"^[^\n]*the running hash breaks at message 3[^\n]*$"):
        back_up(centre.config, disk, NOW + timedelta(days=1), keep=1)
    assert names_in(disk) == ["20261124T030000Z"]


def test_a_page_that_does_not_read_is_found(centre: Any, disk: Path) -> None:
    """SQLite's own check goes first."""
    centre.intake.accept_many(centre.gateway().history(96))
    centre.archive.close()
    size = centre.config.archive.stat().st_size
    with centre.config.archive.open("r+b") as file:
        for page in range(8, size // 4096, 2):
            file.seek(page * 4096)
            file.write(os.urandom(2048))
    with pytest.raises((ArchiveDamaged, BackupError), match=r"^[^\n]+$"):
        back_up(centre.config, disk, NOW, keep=1)
    assert names_in(disk) == []


def test_what_cannot_be_a_backup_is_refused_in_one_line(centre: Any, disk: Path, tmp_path: Path) -> None:
    """No folder (a disk that is not mounted), a folder in data_dir, no archive, no room."""
    for folder, line in ((tmp_path / "none", "mount its disk"), (centre.config.data_dir, "another disk")):
        with pytest.raises(ConfigError, match=rf"^[^\n]*{line}[^\n]*$"):
            back_up(centre.config, folder, NOW, keep=1)
    with pytest.raises(ConfigError, match="there is no such file"):
        back_up(elsewhere(tmp_path / "new"), disk, NOW, keep=1)
    with pytest.raises(ConfigError, match="no backup in it"):
        restore(disk, elsewhere(tmp_path / "new"))


def test_an_archive_that_this_user_may_not_read_is_named(
    centre: Any, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the archive that is told, not the backups' folder, and as whom to run it."""

    def denied(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ConfigError, match=r"archive\.db: archive: Permission denied; run it as the user of the centre"):
        back_up(centre.config, disk, NOW, keep=7)
    assert list(disk.iterdir()) == []


def test_a_full_disk_leaves_no_half_backup(centre: Any, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and the folder as it was."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(backups, "_copy", full)
    with pytest.raises(BackupError, match=r"^[^\n]*No space left on device[^\n]*$"):
        back_up(centre.config, disk, NOW, keep=1)
    assert names_in(disk) == []


def test_a_restored_centre_is_the_same(centre: Any, disk: Path, tmp_path: Path) -> None:
    """Every file with its rights, byte for byte; the centre goes on with its own key."""
    gateway = centre.gateway()
    centre.intake.accept_many(gateway.history(8))
    made = back_up(centre.config, disk, NOW, keep=1)
    config = elsewhere(tmp_path / "new")
    assert restore(disk, config) == made
    assert mode_of(config.data_dir) == 0o700
    assert mode_of(config.data_dir / "centre.key") == 0o600
    assert files_of(config.data_dir) == {
        name.removeprefix("keys/"): data for name, data in files_of(made.folder).items() if name != "backup.json"
    }
    archive = Archive.open(config.archive)
    assert archive.head() == centre.archive.head()
    assert isinstance(
        Intake(archive, RuleBook(archive), lambda: 1 << 40).accept(gateway.topic, gateway.sealed[0]), Duplicate
    )
    archive.close()


def test_keys_come_back_for_their_owner_alone(centre: Any, disk: Path, tmp_path: Path) -> None:
    """A disk that knows no rights gives everything to everybody; the centre's keys do not keep that."""
    centre.gateway()
    made = back_up(centre.config, disk, NOW, keep=1)
    for path in made.folder.rglob("*"):
        path.chmod(0o777)
    config = elsewhere(tmp_path / "new")
    restore(disk, config)
    keys = [path for path in config.data_dir.rglob("*") if path.is_file() and path != config.archive]
    assert keys and {mode_of(path) for path in keys} == {0o600}


def test_nothing_that_is_there_is_overwritten(centre: Any, disk: Path, tmp_path: Path) -> None:
    """A data_dir with an archive or a stranger's file is refused; what a cut restore left is done again."""
    centre.gateway()
    back_up(centre.config, disk, NOW, keep=1)
    with pytest.raises(ConfigError, match=r"^[^\n]*it is not empty \(archive.db is there\)[^\n]*$"):
        restore(disk, centre.config)
    config = elsewhere(tmp_path / "new")
    config.data_dir.mkdir()
    (config.data_dir / "notes.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"it is not empty \(notes.txt is there\)"):
        restore(disk, config)
    (config.data_dir / "notes.txt").unlink()
    (config.data_dir / "centre.key").write_text("half")
    (config.data_dir / ".archive.db.new").write_text("half")
    restore(disk, config)
    assert (config.data_dir / "centre.key").read_text() == (centre.config.data_dir / "centre.key").read_text()


@pytest.mark.parametrize("name", ["archive.db", "keys/centre.key", "backup.json"])
def test_a_spoiled_backup_is_not_restored(name: str, centre: Any, disk: Path, tmp_path: Path) -> None:
    """One byte that is not as it was written, or a file that is gone, and nothing is put in place."""
    centre.intake.accept_many(centre.gateway().history(4))
    made = back_up(centre.config, disk, NOW, keep=1)
    config = elsewhere(tmp_path / "new")
    data = bytearray((made.folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (made.folder / name).write_bytes(data)
    with pytest.raises(BackupError, match=r"^[^\n]*use the backup before it[^\n]*$"):
        restore(made.folder, config)
    if name != "backup.json":
        (made.folder / name).unlink()
        with pytest.raises(BackupError, match="use the backup before it"):
            restore(made.folder, config)
    assert not config.data_dir.exists()


@pytest.mark.parametrize("name", ["keys/../../x", "keys", "/etc/passwd", "more/x"])
def test_a_backup_does_not_write_outside(name: str, centre: Any, disk: Path, tmp_path: Path) -> None:
    """A name that we would not have written is not followed."""
    centre.gateway()
    made = back_up(centre.config, disk, NOW, keep=1)
    told = json.loads((made.folder / "backup.json").read_text())
    told["files"][name] = next(iter(told["files"].values()))
    (made.folder / "backup.json").write_text(json.dumps(told))
    with pytest.raises(BackupError, match="not as it was written"):
        restore(made.folder, elsewhere(tmp_path / "new"))


CITY = """city = "Essai"
timezone = "Europe/Paris"
help = "Mairie"
simulated = true

[[quartier]]
slug = "centre"
name = "Centre"

[[site]]
id = "plaza"
name = "Place"
quartier = "centre"
purpose = "Mesurer."
purpose_en = "Measure."
owner = "Ville"
contact = "ville@demo.example"
until = 2027-11-30
"""


@pytest.fixture
def pages(tmp_path: Path) -> Callable[[Path, int], dict[str, bytes]]:
    """Draws the public site of an archive as the town's command does: every file of it."""
    (tmp_path / "city.toml").write_text(CITY)

    def draw(archive: Path, now_s: int) -> dict[str, bytes]:
        out = tmp_path / "sites" / archive.parent.parent.name / str(now_s)
        out.parent.mkdir(parents=True, exist_ok=True)
        told = f"--archive {archive} --city {tmp_path / 'city.toml'} --out {out} --now {utc(now_s)} --json"
        assert main(["site", "build", *told.split()]) == 0
        return files_of(out)

    return draw


def test_a_restored_town_draws_the_same_pages_and_asks_for_the_rest(
    centre: Any, disk: Path, tmp_path: Path, pages: Callable[[Path, int], dict[str, bytes]]
) -> None:
    """The drill: backed up while it files, restored elsewhere, every public file is the same to the byte; then the
    receipts ask for what came after the backup, the gateway sends it, and both are the same again, but for the running
    sum of the archive beside the closed months, which tells in which order messages came."""
    gateway = centre.gateway()
    history = gateway.history(160)
    first, rest = history[:96], history[96:]
    centre.intake.accept_many(first)
    begun, copied = threading.Event(), threading.Event()

    def write() -> None:
        archive = Archive.open(centre.config.archive)
        intake = Intake(archive, RuleBook(archive), lambda: 1 << 40)
        for number, arrival in enumerate(rest):
            if number == len(rest) // 2:
                begun.set()
                copied.wait(60)
            intake.accept(*arrival)
        archive.close()

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait(60)
    made = back_up(centre.config, disk, NOW, keep=1)
    copied.set()
    writer.join()
    assert 96 <= made.messages < 160
    config = elsewhere(tmp_path / "new")
    shutil.rmtree(tmp_path / "gw-plaza")
    restore(disk, config)
    then_s = MONDAY_S + 96 * QUARTER_S
    told = pages(centre.config.archive, then_s)
    assert len(told) > 10 and pages(config.archive, then_s) == told

    archive = Archive.open(config.archive)
    intake = Intake(archive, RuleBook(archive), lambda: 1 << 40)
    secret = bytes.fromhex((config.data_dir / "centre.key").read_text())
    assert isinstance(intake.accept(*history[-1]), Stored)
    line = archive.enrolment(gateway.name)
    assert line is not None
    word = wire.open_receipt(receipt(archive, line, secret), wire.public_key(centre.secret))
    assert (word.settled_seq, word.again) == (made.messages, ((made.messages + 1, 159),))
    for first_seq, last_seq in word.again:
        intake.accept_many(history[first_seq - 1 : last_seq])
    archive.close()
    later_s = MONDAY_S + 160 * QUARTER_S
    later, again = pages(centre.config.archive, later_s), pages(config.archive, later_s)
    assert later != told
    states = [json.loads(one.pop("donnees/editions.json")) for one in (later, again)]
    assert [gzip.decompress(one.pop("donnees/editions.json.gz")) != b"" for one in (later, again)] == [True, True]
    assert states[0].pop("head") != states[1].pop("head") and states[0] == states[1]
    assert again == later


def test_a_backup_of_half_the_messages_draws_other_pages(
    centre: Any, disk: Path, tmp_path: Path, pages: Callable[[Path, int], dict[str, bytes]]
) -> None:
    """The twin of the drill: a backup that lost the last hours is seen in the pages."""
    gateway = centre.gateway()
    history = gateway.history(96)
    centre.intake.accept_many(history[:80])
    back_up(centre.config, disk, NOW, keep=1)
    centre.intake.accept_many(history[80:])
    config = elsewhere(tmp_path / "new")
    restore(disk, config)
    then_s = MONDAY_S + 96 * QUARTER_S
    assert pages(centre.config.archive, then_s) != pages(config.archive, then_s)


def test_a_backup_of_a_writing_centre_is_of_one_instant(centre: Any, disk: Path) -> None:
    """A commit is in it whole or not at all; a copy of the bare file, the twin, is behind or broken."""
    gateway = centre.gateway()
    history = gateway.history(40)
    centre.intake.accept_many(history[:20])
    with centre.archive.transaction():
        for _, sealed in history[20:]:
            message = wire.open_message(sealed, wire.public_key(gateway.secret))
            centre.archive.put(message, sealed, centre.archive.enrolment(gateway.name), "filed")
        made = back_up(centre.config, disk, NOW, keep=1)
        shutil.copy(centre.config.archive, disk / "bare.db")
    assert made.messages == 20
    with closing(sqlite3.connect(disk / "bare.db")) as bare, pytest.raises((AssertionError, sqlite3.Error)):
        assert bare.execute("SELECT count(*) FROM messages").fetchone()[0] == 20


def test_a_certificate_in_a_backup_is_of_a_key_that_its_archive_knows(
    centre: Any, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of certificates is copied first: what is made while the archive is copied is in neither or in the
    archive alone. Restored, the table says up to where it is a backup's."""
    authority = Authority(centre.config.data_dir, NOW)
    authority.issue_client(new_private_key(), "gw-a", NOW)

    def copied(source: Path, *rest: Any) -> None:
        if source == centre.config.archive:
            authority.issue_client(new_private_key(), "gw-b", NOW)
        snapshot(source, *rest)

    monkeypatch.setattr(backups, "snapshot", copied)
    back_up(centre.config, disk, NOW, keep=1)
    config = elsewhere(tmp_path / "new")
    restore(disk, config)
    Authority(config.data_dir, NOW).issue_client(new_private_key(), "gw-c", NOW)
    assert [(line.name, line.restored) for line in issued(config.data_dir)] == [("gw-a", True), ("gw-c", False)]
    assert [(line.name, line.restored) for line in issued(centre.config.data_dir)] == [("gw-a", False), ("gw-b", False)]


def test_the_commands_tell_what_an_operator_needs(
    centre: Any, disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it is, how much, and that its keys are secret; as JSON for a program; wrong use is one line and 2."""
    centre.intake.accept_many(centre.gateway().history(4))
    new = elsewhere(tmp_path / "new")
    config = ["--config", centre.config.source]
    assert main(["ingest", "backup", str(disk), *config]) == 0
    said = capsys.readouterr().out
    assert ": 4 messages, head " in said and "keep them where nobody else reads" in said
    shutil.rmtree(newest(disk))
    assert main(["ingest", "backup", str(disk), "--no-keys", "--json", *config]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["messages"], told["head"]) == (4, centre.archive.head().hex())
    assert main(["ingest", "restore", str(disk), "--config", new.source]) == 0
    said = capsys.readouterr().out
    assert "no centre.key came with it" in said and "before the centre is started: 'murmure ingest adopt SITE'" in said
    shutil.rmtree(new.data_dir)
    assert main(["ingest", "restore", told["folder"], "--json", "--config", new.source]) == 0
    assert json.loads(capsys.readouterr().out) == told
    for wrong in (["backup", str(disk), "--keep", "0"], ["restore", str(disk)]):
        assert main(["ingest", *wrong, *config]) == 2
        error = capsys.readouterr().err
        assert error.startswith("murmure: ") and error.count("\n") == 1
