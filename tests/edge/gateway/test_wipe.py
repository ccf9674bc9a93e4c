"""`murmure edge wipe` leaves nothing: no key, no ledger, no message, not even in the blocks of the card."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from murmure_edge import send
from murmure_edge.config import load
from murmure_edge.enrol import Layout
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.outbox import materialise
from murmure_edge.wipe import WipeError, what_is_there, wipe
from murmure_privacy.errors import ConfigError, MurmureError

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


def test_a_gateway_that_sends_is_not_wiped(enrolled: Any) -> None:
    """`send` would write its files anew behind the wipe: it has to be stopped as well."""
    fill(enrolled)
    sending = subprocess.Popen(
        [*COMMAND, "edge", "send", "--config", str(enrolled.file)], stderr=subprocess.PIPE, text=True
    )
    assert sending.stderr is not None
    sending.stderr.readline()  # it says that it finds no broker
    with pytest.raises(ConfigError, match="`send` is running; stop murmure-sense and murmure-send first"):
        wipe(enrolled.file)
    with pytest.raises(MurmureError, match="stop the other `send` first"):
        send.main(enrolled.file)
    sending.terminate()
    sending.wait(20)
    sending.stderr.close()
    assert (load(enrolled.file).data / "record.key").exists()
    wipe(enrolled.file)
    assert not enrolled.file.exists()


def test_send_goes_on_where_no_lock_can_be_made(enrolled: Any, capsys: Any) -> None:
    """A folder in the place of the lock file is said, and post is carried all the same; wipe needs no lock of it."""
    fill(enrolled)
    (load(enrolled.file).send_data / "send.lock").mkdir()
    with send._alone(load(enrolled.file).send_data):
        assert "no lock file" in capsys.readouterr().err
    wipe(enrolled.file)
    assert not enrolled.file.exists()


def test_without_a_gateway_one_line_says_so(tmp_path: Path) -> None:
    """No gateway.toml, no wipe: nobody knows what would be removed."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "photographs").write_text("of somebody")
    for call in (wipe, what_is_there):
        with pytest.raises(ConfigError, match="is not there"):
            call(tmp_path / "gateway.toml")
    assert (tmp_path / "data" / "photographs").exists()


@pytest.mark.parametrize("file", ["missing", "damaged"])
@pytest.mark.parametrize("sign", ["enrolment.json", "record.key"])
def test_a_gateway_is_wiped_although_its_file_says_nothing(tmp_path: Path, file: str, sign: str) -> None:
    """An enrolment cut short, or a damaged gateway.toml: the keys lie where the enrolment puts them, and go."""
    home = tmp_path / "gw"
    for name in ("data", "spool/outbox", "spool/inbox", "send"):
        (home / name).mkdir(parents=True)
    (home / "data" / sign).write_text("9f" * 32)
    (home / "send" / "gateway.key").write_text("k" * 64)
    (home / "trust.toml").write_text("")
    if file == "damaged":
        (home / "gateway.toml").write_text("x")
    there = {path for path in home.rglob("*") if path.is_file()}
    assert set(what_is_there(home / "gateway.toml")) == set(wipe(home / "gateway.toml")) == there
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_the_installed_gateway_is_known_by_its_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Half enrolled under /etc/murmure, the keys lie in /var/lib, not beside."""
    places = Layout(tmp_path / "etc" / "gateway.toml", tmp_path / "lib", tmp_path / "spool", tmp_path / "send")
    monkeypatch.setattr(Layout, "installed", lambda: places)
    places.data.mkdir()
    (places.data / "enrolment.json").write_text("9f" * 32)
    assert wipe(places.config) == [places.data / "enrolment.json"]


def test_the_tls_files_that_are_named_elsewhere_go_too(enrolled: Any, tmp_path: Path) -> None:
    """Key and certificate, also where a link leads to them; the authority's may be the whole machine's, and stays."""
    fill(enrolled)
    tls = tmp_path / "tls"
    tls.mkdir()
    for name in ("authority.crt", "gateway.crt", "real.key"):
        (tls / name).write_text("k" * 64)
    (tls / "gateway.key").symlink_to(tls / "real.key")
    text = enrolled.file.read_text()
    names = f'authority = "{tls}/authority.crt"\ncertificate = "{tls}/gateway.crt"\nkey = "{tls}/gateway.key"\n'
    enrolled.file.write_text(text.replace("[broker]\n", f"[broker]\n{names}"))
    assert load(enrolled.file).broker.tls is not None  # type: ignore[union-attr]
    wipe(enrolled.file)
    assert [path.name for path in tls.iterdir()] == ["authority.crt"]


# --- as root, in folders of others -----------------------------------------------------------------------------------


def test_nothing_outside_is_touched_whoever_swaps_a_folder(
    enrolled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A taken-over `send` puts a link to another folder in the place of its own while wipe is at work."""
    fill(enrolled)
    victim = tmp_path / "etc"
    victim.mkdir()
    (victim / "shadow").write_text("root's")
    bait = load(enrolled.file).send_data / "bait"
    bait.mkdir()
    (bait / "shadow").write_text("bait")
    real = os.fsync

    def swaps(descriptor: int) -> None:
        real(descriptor)
        if bait.exists() and not bait.is_symlink():
            bait.rename(bait.with_name("away"))
            bait.symlink_to(victim)

    monkeypatch.setattr(os, "fsync", swaps)
    with suppress(WipeError):
        wipe(enrolled.file)
    assert (victim / "shadow").read_text() == "root's"


def test_what_is_no_file_only_goes_away(enrolled: Any, tmp_path: Path) -> None:
    """Links, pipes, folders in folders and a folder called as what is being removed: gone, and their targets stay."""
    fill(enrolled)
    send_data = load(enrolled.file).send_data
    (tmp_path / "kept").write_text("kept")
    (send_data / "file").symlink_to(tmp_path / "kept")
    (send_data / "folder").symlink_to(tmp_path)
    os.mkfifo(send_data / "pipe")
    (send_data / ".000000000000" / "b" / "c").mkdir(parents=True)
    (send_data / ".000000000000" / "b" / "letter").write_text("x")
    wipe(enrolled.file)
    assert not send_data.exists() and (tmp_path / "kept").read_text() == "kept"


def test_folders_without_end_are_named(enrolled: Any) -> None:
    """Deeper than any gateway makes them, they stay, and the line says where; the keys are gone."""
    fill(enrolled)
    config = load(enrolled.file)
    deep = config.send_data.joinpath(*["d"] * 20)
    deep.mkdir(parents=True)
    with pytest.raises(WipeError, match=r"still there: .*d/d"):
        wipe(enrolled.file)
    assert not config.data.exists() and not (config.send_data / "gateway.key").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_another_name_of_somebody_elses_file_is_only_removed(enrolled: Any, tmp_path: Path) -> None:
    """A hard link that `send` made of root's file: the file keeps its content; its own with two names loses it."""
    fill(enrolled)
    send_data = load(enrolled.file).send_data
    (tmp_path / "shadow").write_text("root's")
    os.link(tmp_path / "shadow", send_data / "shadow")
    os.link(send_data / "gateway.key", tmp_path / "copy.key")
    for path in (send_data, send_data / "gateway.key"):
        os.chown(path, 65534, 65534)
    wipe(enrolled.file)
    assert (tmp_path / "shadow").read_text() == "root's"
    assert set((tmp_path / "copy.key").read_bytes()) == {0}


def test_a_file_that_is_swapped_meanwhile_is_named(
    enrolled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the opening, root's file took the name (a hard link): it keeps its content."""
    fill(enrolled)
    send_data = load(enrolled.file).send_data
    (tmp_path / "shadow").write_text("root's")
    real = os.open

    def swaps(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if path == "gateway.key":
            (send_data / "gateway.key").unlink()
            os.link(tmp_path / "shadow", send_data / "gateway.key")
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", swaps)
    with pytest.raises(WipeError, match=r"gateway\.key \(was swapped meanwhile\)"):
        wipe(enrolled.file)
    assert (tmp_path / "shadow").read_text() == "root's"


def test_the_free_space_is_filled_through_no_link(
    enrolled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link under the name of the filler leads nowhere."""
    fill(enrolled)
    (tmp_path / "shadow").write_text("root's")
    for folder in (enrolled.file.parent, enrolled.file.parent.parent):
        (folder / ".murmure-wipe").symlink_to(tmp_path / "shadow")
    monkeypatch.setattr("murmure_edge.wipe._BLOCK", 1 << 10)

    def full(size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    wipe(enrolled.file, free_space=True, progress=full)
    assert (tmp_path / "shadow").read_text() == "root's"


def test_what_stays_is_named(enrolled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be written over is named, and the command fails."""
    fill(enrolled)
    real = os.rename

    def refuses(name: str, target: str, **folders: int) -> None:
        if name == "record.key":
            raise PermissionError(13, "Permission denied")
        real(name, target, **folders)

    monkeypatch.setattr(os, "rename", refuses)
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
            monkeypatch.setattr("murmure_edge.wipe.overwrite_at", lambda at, name: os.unlink(name, dir_fd=at))
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
