"""The power goes during an upgrade or a backup: the archive is of one version or the next, a backup whole or not there.

Upgrades on a disk that loses what was not synced (tests/power_loss.py), backups by SIGKILL on the real one.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from murmure_ingest import backup as backups
from murmure_ingest import migrations
from murmure_ingest.archive import Archive, database
from murmure_ingest.backup import MANIFEST, back_up, restore
from murmure_ingest.config import IngestConfig
from murmure_ingest.migrations import STEPS, only_grows
from murmure_privacy.errors import MurmureError

QUICK_CUTS, LONG_CUTS, TWIN_CUTS = 60, 1000, 200
KILLS, TWIN_KILLS = 12, 40
NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)

FIRST: migrations.Step = ("CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT", *only_grows("later"))
SECOND: migrations.Step = (
    "ALTER TABLE counters ADD COLUMN unit TEXT NOT NULL DEFAULT ''",
    "INSERT INTO later SELECT id FROM messages",
)


class Upgrades:
    """One archive of this version, upgraded by two steps, cut anywhere, upgraded again."""

    def __init__(self, path: Path, disks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path, self._disks = path, disks
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode = DELETE")
        monkeypatch.setattr(migrations, "STEPS", (*STEPS, FIRST, SECOND))
        monkeypatch.setattr(migrations, "snapshot", lambda *_: None)  # of a file that is on no disk of the machine
        monkeypatch.setattr(database, "connect", lambda _: self._connected)
        self._image = {path.name: path.read_bytes()}
        self._allowed = {self._version(state): state for state in (self._upgraded(n) for n in range(3))}
        assert len(self._allowed) == 3

    def _on(self, image: dict[str, bytes], use: Callable[[Any], Any], draw: Random | None = None) -> Any:
        """Returns what `use` makes of a disk with that image; or what a cut leaves of the disk afterwards."""
        disk = self._disks.Disk(image)
        self._connected = self._disks.Connection(
            disk, self._path.name, checkpoint_pages=(draw or Random(0)).choice([2, 1000])
        )
        found = use(self._connected)
        cut = disk.cut(draw.randint(0, len(disk.journal)), draw) if draw else None
        self._connected.close()
        return cut if draw else found

    def _state(self, db: Any) -> tuple[Any, ...]:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        return version, self._disks.rows(db), tuple(db.execute("SELECT sql FROM sqlite_master ORDER BY 1").fetchall())

    def _version(self, state: tuple[Any, ...]) -> int:
        return int(state[0])

    def _upgraded(self, steps: int) -> tuple[Any, ...]:
        whole = migrations.STEPS
        try:
            migrations.STEPS = whole[: len(STEPS) + steps]
            return tuple(self._on(self._image, lambda db: (Archive.open(self._path), self._state(db))[1]))
        finally:
            migrations.STEPS = whole

    def cut(self, seed: int) -> str | None:
        """Cuts one upgrade. Returns what broke."""
        draw = Random(seed)
        image = self._on(self._image, lambda _: Archive.open(self._path), draw)
        state = self._on(image, self._state)
        if state != self._allowed.get(self._version(state)):
            return f"seed {seed}: version {self._version(state)} with the rows or tables of another"
        try:
            end = self._on(image, lambda db: (Archive.open(self._path), self._state(db))[1])
        except MurmureError as error:
            return f"seed {seed}: {error}"
        return None if end == self._allowed[len(STEPS) + 2] else f"seed {seed}: the second upgrade ends elsewhere"


@pytest.fixture
def upgrades(centre: Any, power_loss: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Upgrades:
    """An archive with four messages before its upgrade."""
    centre.intake.accept_many(centre.gateway().history(4))
    centre.archive.close()
    return Upgrades(centre.config.archive, power_loss, monkeypatch)


def test_a_cut_in_an_upgrade_leaves_one_version_or_the_next(upgrades: Upgrades) -> None:
    """Whole, with every row; and the next start ends where an upgrade without a cut does."""
    assert [broke for seed in range(QUICK_CUTS) if (broke := upgrades.cut(seed))] == []


@pytest.mark.long
def test_no_cut_of_many_leaves_half_an_upgrade(upgrades: Upgrades) -> None:
    """The same for a thousand cuts."""
    assert [broke for seed in range(LONG_CUTS) if (broke := upgrades.cut(seed))] == []


def test_steps_without_a_transaction_are_found_out(upgrades: Upgrades, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: statement by statement, a cut leaves a version that never was."""
    monkeypatch.setattr(Archive, "transaction", lambda _: nullcontext())
    assert any(upgrades.cut(seed) for seed in range(TWIN_CUTS))


def killed(config: IngestConfig, folder: Path, kills: int, broken: Callable[[int], bool]) -> list[Path]:
    """Kills that many processes that do nothing but back up, each at another moment; ends early if `broken`."""
    draw = Random(1)
    for number in range(kills):
        child = os.fork()
        if child == 0:
            try:
                for second in range(1000):
                    back_up(config, folder, NOW + timedelta(days=number, seconds=second), keep=4)
            finally:
                os._exit(1)
        time.sleep(draw.uniform(0.01, 0.25))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if broken(number):
            break
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


@pytest.fixture
def backed_up(centre: Any, tmp_path: Path) -> tuple[IngestConfig, Path]:
    """A centre that works, and where its backups go."""
    centre.intake.accept_many(centre.gateway().history(200))
    (tmp_path / "disk").mkdir()
    return centre.config, tmp_path / "disk"


def whole(folder: Path, tmp_path: Path) -> bool:
    config = IngestConfig(data_dir=tmp_path / "restored" / folder.name)
    try:
        return restore(folder, config).messages == 200
    except MurmureError:
        return False


def test_a_killed_backup_is_whole_or_not_there(backed_up: tuple[IngestConfig, Path], tmp_path: Path) -> None:
    """Every folder with the name of a backup can be restored, and the next one clears away what was cut short."""
    config, disk = backed_up
    found = killed(config, disk, KILLS, lambda _: False)
    assert all(whole(path, tmp_path) for path in found)
    made = back_up(config, disk, NOW + timedelta(days=400), keep=4)
    assert whole(made.folder, tmp_path)
    assert not [path for path in disk.iterdir() if path.name.startswith(".")]


def test_a_backup_under_its_name_from_the_first_byte_is_found_out(
    backed_up: tuple[IngestConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: one that fills the folder in place is killed half-way, and the test sees it."""

    def in_place(config: IngestConfig, folder: Path, now: datetime, *, keep: int) -> None:
        made = folder / f"{now:%Y%m%dT%H%M%SZ}"
        made.mkdir()
        backups._fill(config, made, True)

    monkeypatch.setitem(globals(), "back_up", in_place)
    config, disk = backed_up

    def broken(_: int) -> bool:
        return any(not (path / MANIFEST).is_file() for path in disk.iterdir())

    found = killed(config, disk, TWIN_KILLS, broken)
    assert not all(whole(path, tmp_path) for path in found)
