"""`murmure edge wipe` leaves nothing: no key, no ledger, no message, not even in the blocks of the card."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from murmure_edge.config import load
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.outbox import materialise
from murmure_edge.wipe import WipeError, what_is_there, wipe
from murmure_privacy.errors import ConfigError

MARKS = (b"a sealed message that was never sent", b"a letter of the centre", b"what was sent and when")
IMAGE_BYTES = 48 << 20
# The one command with the gateway's group alone: what the other floors bring is not this test's business.
COMMAND = [
    sys.executable,
    "-c",
    "import sys, murmure.cli as c; c.GROUPS = ('murmure_edge.cli',); sys.exit(c.main())",
]


def fill(enrolled: Any) -> list[bytes]:
    """Puts into a gateway's folders what a long life leaves there; returns what must be found nowhere afterwards."""
    config = load(enrolled.file)
    db = GatewayDb.open(config.data / "gateway.db")
    db.close()
    for folder in (config.outbox, config.inbox, config.send_data):
        folder.mkdir(parents=True, exist_ok=True)
    materialise(config.outbox, 7, MARKS[0])
    (config.inbox / "00.cose").write_bytes(MARKS[1])
    (config.send_data / "send.db").write_bytes(MARKS[2])
    (config.send_data / "gateway.key").write_text("PRIVATE KEY " + "k" * 64)
    (config.data / "record.key").write_text("9f" * 32)
    return [*MARKS, b"k" * 64, b"9f" * 32]


def test_nothing_is_left(enrolled: Any) -> None:
    """Every file that gateway.toml names is gone, and gateway.toml with it."""
    fill(enrolled)
    listed = what_is_there(enrolled.file)
    home = enrolled.file.parent
    before = {path for path in home.rglob("*") if path.is_file()}
    assert set(wipe(enrolled.file)) == set(listed) == before
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_it_only_says_what_it_would_do_at_first(enrolled: Any) -> None:
    """Without --yes the files are listed and stay."""
    fill(enrolled)

    def run(*more: str) -> str:
        words = [*COMMAND, "edge", "wipe", "--config", str(enrolled.file), *more]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout

    told = run()
    assert "record.key" in told and "With --yes all of this is removed for good" in told and enrolled.file.exists()
    assert "let the centre revoke the gateway" in run("--yes") and not enrolled.file.exists()


def test_a_gateway_that_runs_is_not_wiped(enrolled: Any) -> None:
    """While `sense` has the ledger nothing is touched, and the line says what to stop."""
    fill(enrolled)
    db = GatewayDb.open(load(enrolled.file).data / "gateway.db")
    with pytest.raises(ConfigError, match="`sense` is running; stop murmure-sense and murmure-send first"):
        wipe(enrolled.file)
    db.close()
    assert (load(enrolled.file).data / "record.key").exists()


def test_without_a_gateway_one_line_says_so(tmp_path: Path) -> None:
    """No gateway.toml, no wipe: nobody knows what would be removed."""
    with pytest.raises(ConfigError, match="is not there"):
        wipe(tmp_path / "gateway.toml")


def test_what_stays_is_named(enrolled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be written over is named, and the command fails."""
    fill(enrolled)
    real = Path.rename

    def refuses(self: Path, target: Path) -> Path:
        if self.name == "record.key":
            raise PermissionError(13, "Permission denied")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", refuses)
    with pytest.raises(WipeError, match=r"still there: .*record\.key \(Permission denied\); run it as root"):
        wipe(enrolled.file)


@contextmanager
def card(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """An ext4 file system in a file, mounted; yields the file and the folder. Needs root and a loop device."""
    image, folder = tmp_path / "card.img", tmp_path / "card"
    image.touch()
    os.truncate(image, IMAGE_BYTES)
    folder.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True, capture_output=True)
    made = subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no loop device here: {made.stderr.strip()}")
    try:
        yield image, folder
    finally:
        subprocess.run(["umount", folder], check=True)


ON_A_CARD = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mkfs.ext4") is None, reason="needs root and mkfs.ext4"
)


@ON_A_CARD
@pytest.mark.parametrize("twin", [False, True], ids=["wipe", "twin that only unlinks"])
def test_the_raw_card_holds_no_key_and_no_message(
    tmp_path_factory: pytest.TempPathFactory, enrolled: Any, twin: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Searched byte for byte, the card holds none of it; the twin that unlinks leaves all."""
    with card(tmp_path_factory.mktemp("card")) as (image, folder):
        shutil.copytree(enrolled.file.parent, folder / "gw")
        on_card = dataclasses.replace(enrolled, folder=folder / "gw")
        marks = fill(on_card)
        os.sync()
        raw = image.read_bytes()
        assert all(mark in raw for mark in marks)
        if twin:
            monkeypatch.setattr("murmure_edge.wipe.overwrite", Path.unlink)
        wipe(on_card.file)
        assert [path for path in folder.rglob("*") if path.is_file()] == []
    raw = image.read_bytes()
    assert {mark for mark in marks if mark in raw} == (set(marks) if twin else set())


@ON_A_CARD
def test_free_space_is_overwritten_but_for_the_file_systems_reserve(
    tmp_path_factory: pytest.TempPathFactory, enrolled: Any
) -> None:
    """What was removed long before goes with --free-space; ext4 keeps two in a hundred blocks that no file may have."""
    mark = b"settled and removed long ago    " * 32  # one block
    with card(tmp_path_factory.mktemp("card")) as (image, folder):
        shutil.copytree(enrolled.file.parent, folder / "gw")
        old = folder / "old"
        old.write_bytes(mark * (20 << 10))
        os.sync()
        old.unlink()
        assert image.read_bytes().count(mark) >= 20_000
        wipe(folder / "gw" / "gateway.toml", free_space=True)
    assert image.read_bytes().count(mark) * len(mark) <= 0.03 * IMAGE_BYTES
