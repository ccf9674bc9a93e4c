"""The town's broker: what `broker init` writes and renews, whom mosquitto lets in then, and who is kept out."""

from __future__ import annotations

import errno
import json
import os
import pwd
import shlex
import shutil
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from types import ModuleType
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from murmure.cli import main
from murmure_edge.config import load as load_gateway
from murmure_edge.uplink import Acknowledged, Topics, Uplink
from murmure_ingest import broker, broker_files, subscriber
from murmure_ingest.archive import Archive
from murmure_ingest.certificates import (
    Authority,
    CertificateError,
    client_context,
    crl_days_left,
    is_key_of,
    issued,
    mark_restored,
    new_private_key,
)
from murmure_ingest.config import BrokerConfig, EnrolmentConfig, IngestConfig, Tls, load
from murmure_ingest.embedded_broker import free_port
from murmure_ingest.enrolment import utc_now
from murmure_ingest.intake import Intake
from murmure_ingest.receipts import centre_key
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.errors import ConfigError
from paho.mqtt.enums import CallbackAPIVersion

ME = pwd.getpwuid(os.geteuid()).pw_name
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
Until = Callable[[Callable[[], object]], None]


def prepared(folder: Path, now: datetime = NOW, /, *revoked: str, **changes: Any) -> broker.Prepared:
    settings = broker.Settings(**{"folder": str(folder / "broker"), "user": ME, **changes})
    return broker.prepare(IngestConfig(folder / "centre"), settings, revoked, now, program="/opt/murmure/bin/murmure")


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def alternatives(path: Path) -> set[str]:
    names = certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def listed(path: Path) -> set[int]:
    return {line.serial_number for line in x509.load_pem_x509_crl(path.read_bytes())}


def test_everything_that_the_broker_reads_is_there(tmp_path: Path) -> None:
    """Each file that mosquitto.conf names exists; authority, broker and the centre's own names are what they say."""
    done = prepared(tmp_path, NOW, names=("murmure.example.org", "192.0.2.7"), workers=2)
    assert done.then == "start"
    folder = tmp_path / "broker"
    words = [line.split() for line in (folder / "mosquitto.conf").read_text().splitlines() if line[:1] not in ("#", "")]
    settings = {first: " ".join(rest) for first, *rest in words}
    for key in ("cafile", "certfile", "keyfile", "crlfile", "acl_file", "persistence_location"):
        assert Path(settings[key]).exists(), key
    assert (settings["require_certificate"], settings["use_username_as_clientid"]) == ("true", "true")
    assert certificate(folder / "authority.crt") == certificate(tmp_path / "centre" / "authority.crt")
    names = {"localhost", "murmure.example.org", "127.0.0.1", "::1", "192.0.2.7"}
    assert alternatives(folder / "broker.crt") == names
    for path in (folder / "broker.crt", *(tmp_path / "centre" / "broker").glob("*.crt")):
        found = certificate(path)
        found.verify_directly_issued_by(certificate(folder / "authority.crt"))
        (use,) = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        server_use, client_use = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
        assert use == (server_use if path.stem == "broker" else client_use)
    assert {line.name for line in issued(tmp_path / "centre")} == {"broker", "ingest", "ingest-2", "tail"}


def test_keys_are_their_owners_alone(tmp_path: Path) -> None:
    """Nobody but the broker reads its key, nobody but the centre reads its own; what must be read by both may be."""
    prepared(tmp_path)
    found = {
        str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode)
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    secret = {name: mode for name, mode in found.items() if name.endswith((".key", ".db"))}
    assert secret == {
        "broker/broker.key": 0o400,
        "centre/authority.key": 0o600,
        "centre/broker/ingest.key": 0o600,
        "centre/broker/tail.key": 0o600,
        "centre/certificates.db": 0o600,
    }
    assert {mode for name, mode in found.items() if name not in secret} == {0o644}
    assert stat.S_IMODE((tmp_path / "broker" / "state").stat().st_mode) == 0o700


def test_a_strict_umask_does_not_keep_the_broker_out(tmp_path: Path) -> None:
    """Many servers give root a umask of 077: the broker's folder can be entered all the same."""
    before = os.umask(0o077)
    try:
        prepared(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "broker").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "broker" / "mosquitto.conf").stat().st_mode) == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_gives_each_file_to_who_reads_it(tmp_path: Path) -> None:
    """The broker's key to the broker's user, the centre's files to the owner of its folder; root keeps the rest."""
    centre, nobody = tmp_path / "centre", pwd.getpwnam("nobody")
    centre.mkdir(mode=0o750)
    os.chown(centre, nobody.pw_uid, nobody.pw_gid)
    done = prepared(tmp_path, user="games")
    games = pwd.getpwnam("games").pw_uid
    owners = {path.name: path.stat().st_uid for path in (tmp_path / "broker").iterdir()}
    assert {name for name, uid in owners.items() if uid == games} == {"broker.key", "broker.crt", "state"}
    assert {name for name, uid in owners.items() if uid == 0} == {
        *("mosquitto.conf", "acl", "authority.crt", "authority.crl", "systemd")
    }
    assert {path.stat().st_uid for path in [centre, *centre.rglob("*")]} == {nobody.pw_uid}
    assert any("games may not enter" in note for note in done.notes)  # pytest's own folder is root's alone


def test_again_changes_nothing_but_the_revocation_list(tmp_path: Path) -> None:
    """Run the next day, everything keeps its bytes and its time, and only the list is new."""
    prepared(tmp_path)
    before = contents(tmp_path)
    done = prepared(tmp_path, NOW + timedelta(days=1))
    after = contents(tmp_path)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {"broker/authority.crl", "centre/broker.json"}
    assert before["centre/broker.json"][0] == after["centre/broker.json"][0]
    assert (done.then, len(done.did)) == ("reload", 1)
    assert crl_days_left(tmp_path / "broker" / broker.CRL, NOW + timedelta(days=1)) == pytest.approx(7, abs=1e-4)


@pytest.mark.parametrize(("days", "anew"), [(240, False), (244, True), (400, True)])
def test_certificates_are_renewed_when_a_third_is_left(tmp_path: Path, days: int, anew: bool) -> None:
    """Of 365 days: not on day 240, on day 244, and also when nobody came in time. Keys and the authority stay."""
    prepared(tmp_path)
    before = contents(tmp_path)
    prepared(tmp_path, NOW + timedelta(days=days))
    after = contents(tmp_path)
    names = {name for name in before if name.endswith((".crt", ".key")) and before[name] != after[name]}
    assert names == ({"broker/broker.crt", "centre/broker/ingest.crt", "centre/broker/tail.crt"} if anew else set())
    if anew:
        until = certificate(tmp_path / "broker" / "broker.crt").not_valid_after_utc
        assert until == NOW + timedelta(days=days + 365)


def test_another_name_is_another_certificate(tmp_path: Path) -> None:
    """A name that is added makes a new certificate for the same key; a spoiled one is made anew."""
    prepared(tmp_path)
    key = (tmp_path / "broker" / "broker.key").read_bytes()
    prepared(tmp_path, names=("b.example",))
    assert "b.example" in alternatives(tmp_path / "broker" / "broker.crt")
    (tmp_path / "broker" / "broker.crt").write_text("spoiled")
    prepared(tmp_path, names=("b.example",))
    certificate(tmp_path / "broker" / "broker.crt")
    assert (tmp_path / "broker" / "broker.key").read_bytes() == key


def test_the_authority_is_made_once(tmp_path: Path) -> None:
    """If its key is lost, nothing is made in its place: all would have to enrol again. Its copy comes back."""
    prepared(tmp_path)
    copy = tmp_path / "centre" / "authority.crt"
    content = copy.read_bytes()
    copy.unlink()
    prepared(tmp_path)
    assert copy.read_bytes() == content
    (tmp_path / "centre" / "authority.key").unlink()
    with pytest.raises(ConfigError, match=r"authority\.key: key: is missing beside authority\.crt; restore it"):
        prepared(tmp_path)
    assert copy.read_bytes() == content


def test_a_centre_that_is_not_restored_yet_takes_no_broker_over(tmp_path: Path) -> None:
    """Renewed while `data_dir` is empty, the broker would go by a new authority, and nobody be let in any more."""
    prepared(tmp_path)
    before = contents(tmp_path / "broker")
    (tmp_path / "centre").rename(tmp_path / "aside")
    with pytest.raises(
        ConfigError, match=r"authority\.key: is missing, and \S+broker goes by it; restore data_dir first"
    ):
        prepared(tmp_path)
    assert contents(tmp_path / "broker") == before
    assert not (tmp_path / "centre").exists()


def test_a_centre_that_was_started_before_it_was_restored_takes_no_broker_over(tmp_path: Path) -> None:
    """The door for enrolment has made another authority there by then: the daily renewal would go by it, and forget the
    list, which alone knows who was turned away since the backup."""
    prepared(tmp_path)
    key, crl = new_private_key(), tmp_path / "broker" / broker.CRL
    shutil.copytree(tmp_path / "centre", tmp_path / "backup")
    Authority(tmp_path / "centre", NOW).issue_client(key, "gw-a", NOW)
    prepared(tmp_path, NOW, "gw-a")
    before, known = contents(tmp_path / "broker"), listed(crl)
    assert len(known) == 1
    (tmp_path / "centre").rename(tmp_path / "lost")
    (tmp_path / "centre").mkdir()
    Authority(tmp_path / "centre", NOW)
    with pytest.raises(ConfigError, match=r"authority\.key: is another than \S+broker goes by; restore data_dir first"):
        prepared(tmp_path)
    assert contents(tmp_path / "broker") == before
    shutil.rmtree(tmp_path / "centre")
    (tmp_path / "backup").rename(tmp_path / "centre")
    mark_restored(tmp_path / "centre" / "certificates.db")
    prepared(tmp_path)
    assert listed(crl) == known


@pytest.mark.parametrize("content", ["", "spoiled", "\xff"])
def test_a_spoiled_key_is_made_anew(tmp_path: Path, content: str) -> None:
    """A broker's key that is no key costs nobody anything: another one, and a certificate for it."""
    prepared(tmp_path)
    path = tmp_path / "broker" / "broker.key"
    path.unlink()
    path.write_text(content, "latin-1")
    done = prepared(tmp_path)
    assert any("broker.crt" in line for line in done.did)
    assert is_key_of(path, tmp_path / "broker" / "broker.crt")
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


def test_a_damaged_table_of_certificates_is_one_line(tmp_path: Path) -> None:
    """Who was revoked must not be forgotten in silence: it says where the backup belongs."""
    prepared(tmp_path)
    (tmp_path / "centre" / "certificates.db").write_bytes(b"spoiled" * 1000)
    with pytest.raises(CertificateError, match=r"certificates\.db: [^\n]*; look at the disk, or restore it[^\n]*$"):
        prepared(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"names": ("*.example.org",)}, "--name: '*.example.org' is no host"),
        ({"names": ("a b",)}, "--name: 'a b' is no host"),
        ({"names": ("1.2.3",)}, "--name: '1.2.3' is no host"),
        ({"listen": "everywhere"}, "--listen: 'everywhere' is no address"),
        ({"port": 0}, "--port: 0 does not do; write a whole number from 1 to 65535"),
        ({"workers": 9}, "--workers: 9 does not do; write a whole number from 1 to 8"),
        ({"user": "nobody-here"}, "--user: "),
        ({"folder": "a folder"}, "DIR: 'a folder' has blanks or signs"),
        ({"folder": "/var/lib/it's;reboot"}, "has blanks or signs; choose a path of letters"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    """Names, addresses, numbers and folders that do not do are told as such, before anything is written."""
    with pytest.raises(ConfigError) as caught:
        prepared(tmp_path, **changes)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["data_dir", "--config", "program"])
def test_what_systemd_would_read_as_two_words_is_one_line(tmp_path: Path, key: str) -> None:
    """The units name the centre's folder, its settings and the program: none may have blanks or signs."""
    asked = {"data_dir": "centre", "--config": "ingest.toml", "program": "murmure"}
    paths = {name: str(tmp_path / path) + " %h" * (name == key) for name, path in asked.items()}
    config = IngestConfig(Path(paths["data_dir"]), source=paths["--config"])
    with pytest.raises(ConfigError, match=f"{key}: .* has blanks or signs"):
        broker.prepare(config, broker.Settings(str(tmp_path / "broker"), user=ME), [], NOW, program=paths["program"])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    """What the disk refuses is told with its path."""
    (tmp_path / "broker").write_text("")
    with pytest.raises(ConfigError, match=r"broker/state: file: Not a directory; run as root"):
        prepared(tmp_path)


@pytest.mark.parametrize(
    "name", ["+", "#", "gw-#", "gw-", "gw-a/b", "GW-a", "gw-a\n", "", "ingest-9", "ingest-1", "tails", "gw-" + "a" * 38]
)
def test_no_name_of_another_kind_is_ever_issued(tmp_path: Path, name: str) -> None:
    """A common name is a topic's level and a right: whatever is no gateway and no client of the centre is refused."""
    authority = Authority(tmp_path, NOW)
    with pytest.raises(CertificateError, match="no name of a gateway or of the centre"):
        authority.issue_client(new_private_key(), name, NOW)
    assert issued(tmp_path) == []


def test_who_was_revoked_is_remembered(tmp_path: Path) -> None:
    """Every certificate of a revoked gateway stands on each list until it ends by itself; nobody else's does."""
    centre = tmp_path / "centre"
    centre.mkdir()
    authority = Authority(centre, NOW)
    mine = [
        x509.load_pem_x509_certificate(authority.issue_client(new_private_key(), name, NOW).encode()).serial_number
        for name in ("gw-a", "gw-a", "gw-b")
    ]
    prepared(tmp_path)
    assert listed(tmp_path / "broker" / broker.CRL) == set()
    prepared(tmp_path, NOW, "gw-a")
    assert listed(tmp_path / "broker" / broker.CRL) == set(mine[:2])
    assert "user gw-a\ntopic deny #\n" in (tmp_path / "broker" / "acl").read_text()
    assert "gw-b" not in (tmp_path / "broker" / "acl").read_text()
    later = NOW + timedelta(days=3 * 365 - 1)
    prepared(tmp_path, later)  # the table alone remembers
    assert listed(tmp_path / "broker" / broker.CRL) == set(mine[:2])
    prepared(tmp_path, later + timedelta(days=2))
    assert listed(tmp_path / "broker" / broker.CRL) == set()


def restored(folder: Path) -> None:
    """Puts the table of certificates back as a backup has it."""
    (folder / "backup.db").replace(folder / "centre" / "certificates.db")
    mark_restored(folder / "centre" / "certificates.db")


def test_a_list_remembers_what_a_restored_table_does_not(tmp_path: Path) -> None:
    """Certificates that were taken back since the backup, whether it knows of them or not, stay on the list, also when
    the list itself is lost later; one that another authority signed adds nobody."""
    prepared(tmp_path)
    authority, crl = Authority(tmp_path / "centre", NOW), tmp_path / "broker" / broker.CRL
    key = new_private_key()
    first = authority.issue_client(key, "gw-a", NOW)
    shutil.copy(tmp_path / "centre" / "certificates.db", tmp_path / "backup.db")
    second = authority.issue_client(key, "gw-b", NOW)
    prepared(tmp_path, NOW, "gw-a", "gw-b")
    both = {x509.load_pem_x509_certificate(one.encode()).serial_number for one in (first, second)}
    assert listed(crl) == both
    restored(tmp_path)
    done = prepared(tmp_path, NOW + timedelta(hours=1))
    assert listed(crl) == both and any("2 certificates" in note for note in done.notes)
    assert "user gw-a\ntopic deny #\n" in (tmp_path / "broker" / "acl").read_text()  # no certificate of it is left
    crl.unlink()
    assert prepared(tmp_path, NOW + timedelta(days=1)).notes == ()
    assert listed(crl) == both

    prepared(tmp_path / "other")
    stranger = Authority(tmp_path / "other" / "centre", NOW)
    stranger.issue_client(key, "gw-c", NOW)
    prepared(tmp_path / "other", NOW, "gw-c")
    shutil.copy(tmp_path / "other" / "broker" / broker.CRL, crl)
    prepared(tmp_path, NOW + timedelta(days=1))
    assert listed(crl) == both
    prepared(tmp_path, NOW + timedelta(days=3 * 365 + 1))
    assert listed(crl) == set()


def test_a_restart_is_asked_for_until_it_is_done(tmp_path: Path) -> None:
    """A revocation asks for a restart, also on later runs, until whoever restarts removes the mark."""
    prepared(tmp_path)
    assert prepared(tmp_path, NOW, "gw-a").then == "restart"
    assert prepared(tmp_path, NOW + timedelta(days=1), "gw-a").then == "restart"
    (tmp_path / "broker" / broker.RESTART).unlink()
    assert prepared(tmp_path, NOW + timedelta(days=2), "gw-a").then == "reload"


@pytest.mark.parametrize(
    ("days", "says"),
    [(0.0, None), (3.9, None), (4.1, "ends in 2.9 days"), (7.5, "is past its date"), (None, "cannot be read")],
)
def test_a_list_that_ends_soon_raises_an_alarm(tmp_path: Path, days: float | None, says: str | None) -> None:
    """Three days before the broker would refuse everybody the centre's log says so, and what to do."""
    prepared(tmp_path)
    if days is None:
        (tmp_path / "broker" / broker.CRL).write_text("spoiled")
    said: list[str] = []
    stop = Event()
    broker.watch_crl(IngestConfig(tmp_path / "centre"), lambda: NOW + timedelta(days=days or 0), stop, said.append)
    stop.set()
    alarm = broker.crl_alarm(tmp_path / "centre", NOW + timedelta(days=days or 0))
    assert (alarm is None) == (says is None)
    if says is not None:
        assert alarm is not None and says in alarm and "murmure broker init" in alarm and "\n" not in alarm
        for _ in range(200):
            if said:
                break
            time.sleep(0.05)
    assert said == ([alarm] if alarm else [])


def test_settings_of_a_broker_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    """Who looks after the revocation list is told, and goes on looking."""
    (tmp_path / "broker.json").mkdir()
    with pytest.raises(ConfigError, match=r"broker\.json: file: Is a directory; run as the user of the centre"):
        broker.settings_of(tmp_path)
    said: list[str] = []
    stop = Event()

    def say(text: str) -> None:
        said.append(text)
        stop.set()

    broker.watch_crl(IngestConfig(tmp_path), lambda: NOW, stop, say)
    assert stop.wait(10) and "Is a directory" in said[0]


def test_a_watch_goes_on_where_the_disk_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that cannot be opened, a disk without room: a line at each look, and the next look comes. What could not
    be asked of murmure-broker.path is still lacking then."""
    prepared(tmp_path)
    config = IngestConfig(tmp_path / "centre")

    def watched() -> list[str]:
        said, stop = list[str](), Event()

        def say(text: str) -> None:
            said.append(text)
            if len(said) == 2:
                stop.set()

        broker.watch_crl(config, lambda: NOW, stop, say)
        assert stop.wait(10)
        return said

    monkeypatch.setattr(broker, "_ALARM_EVERY_S", 0.01)
    table = config.data_dir / "certificates.db"
    table.rename(tmp_path / "aside")
    table.mkdir()
    assert all("unable to open database file; look at the disk" in line for line in watched())
    table.rmdir()
    (tmp_path / "aside").rename(table)
    authority = Authority(config.data_dir, NOW)
    authority.issue_client(new_private_key(), "gw-a", NOW)
    authority.revoke("gw-a", NOW)

    def full(path: Path, *rest: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(broker, "write_file", full)
        assert all(f"{config.data_dir}/broker.renew: No space left on device; look" in line for line in watched())
    assert "written now" in str(broker.catch_up(config, NOW)) and (config.data_dir / "broker.renew").exists()


def test_a_look_makes_no_authority(tmp_path: Path) -> None:
    """Where the authority is lost, the centre says so: another one of its own would let the next renewal write it to
    the broker, and nobody in."""
    prepared(tmp_path)
    for kind in ("key", "crt"):
        (tmp_path / "centre" / f"authority.{kind}").unlink()
    with pytest.raises(ConfigError, match=r"authority\.key: key: is missing, and \S+broker goes by it; restore it"):
        broker.catch_up(IngestConfig(tmp_path / "centre"), NOW)
    assert not (tmp_path / "centre" / "authority.key").exists()


def test_a_centre_without_a_broker_of_its_own_raises_no_alarm(tmp_path: Path) -> None:
    """Nothing was prepared, nothing can end; a list that is not there has no days."""
    assert broker.crl_alarm(tmp_path, NOW) is None
    assert crl_days_left(tmp_path / "no.crl", NOW) is None


class Tree:
    """Two authorities' files, for a client's mistakes."""

    def __init__(self, folder: Path) -> None:
        prepared(folder)
        prepared(folder / "other")
        own = folder / "centre" / "broker"
        self.good = Tls(folder / "centre" / "authority.crt", own / "ingest.crt", own / "ingest.key")
        self.other = Tls(
            folder / "other" / "centre" / "authority.crt",
            folder / "other" / "centre" / "broker" / "ingest.crt",
            folder / "other" / "centre" / "broker" / "ingest.key",
        )
        self.missing = folder / "missing.crt"


@pytest.mark.parametrize(
    ("key", "change", "says"),
    [
        ("authority", lambda t: t.missing, "there is no such file; run 'murmure broker init DIR'"),
        ("key", lambda t: t.missing, "there is no such file"),
        ("certificate", lambda t: t.good.key, "is no certificate"),
        ("certificate", lambda t: t.other.certificate, "not signed by "),
        ("authority", lambda t: t.other.authority, "not signed by "),
        ("key", lambda t: t.other.key, "is not the key of "),
    ],
)
def test_a_wrong_file_of_the_centre_is_one_line(
    tmp_path: Path, key: str, change: Callable[[Tree], Path], says: str
) -> None:
    """Missing, no certificate, another town's, another key's: each is told with its setting and its path."""
    tree = Tree(tmp_path)
    client_context(tree.good, "ingest.toml", NOW)
    files = {name: getattr(tree.good, name) for name in ("authority", "certificate", "key")}
    with pytest.raises(ConfigError) as caught:
        client_context(Tls(**{**files, key: change(tree)}), "ingest.toml", NOW)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith("ingest.toml: broker.")


def test_a_certificate_that_ended_is_one_line(tmp_path: Path) -> None:
    """It says when, and what renews it."""
    tree = Tree(tmp_path)
    with pytest.raises(ConfigError, match=r"certificate: \S+: ended on 2027-11-26; run 'murmure broker init DIR'"):
        client_context(tree.good, "ingest.toml", NOW + timedelta(days=366))


def test_the_window_holds_the_largest_batch_of_the_centre() -> None:
    """mosquitto's limit on unacknowledged messages is no smaller than what the centre asks for with batches of 1000."""
    assert broker_files.WINDOW >= subscriber._WINDOW_BATCHES * 1000
    assert broker_files.PACKET_LIMIT >= wire.SEALED_POLICY_LIMIT


@pytest.mark.systemd
@pytest.mark.parametrize("unit", ["mosquitto.service", "murmure-broker.service"])
def test_the_units_are_hardened(tmp_path: Path, unit: str) -> None:
    """Debian's mosquitto with our drop-in, and the renewal, which is root's: exposure at most 1.5 (bare: 9.6)."""
    settings = broker.Settings(str(tmp_path / "broker"), user=ME)
    broker.prepare(IngestConfig(tmp_path / "centre"), settings, [], NOW, program="/bin/true")
    shutil.copytree(tmp_path / "broker" / "systemd", tmp_path / "units")
    assert "MemoryMax=" in (tmp_path / "units" / "mosquitto.service.d" / "murmure.conf").read_text()
    bare = tmp_path / "units" / "mosquitto.service"
    bare.write_text("[Service]\nType=notify\nExecStart=/usr/sbin/mosquitto -c /etc/mosquitto/mosquitto.conf\n")
    exposed = ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(tmp_path / "units" / unit)]
    done = subprocess.run(exposed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(tmp_path / "units" / "mosquitto.service.d")
    undone = subprocess.run([*exposed[:-1], str(bare)], capture_output=True, text=True, check=False)
    assert undone.returncode == 1


class Town:
    """A centre, its broker as `broker init` wrote it, and gateways enrolled by command."""

    def __init__(self, folder: Path, run: Callable[[str], tuple[int, str, str]], brokers: ModuleType) -> None:
        self.folder, self.run, self.port = folder, run, free_port()
        self.names = ""
        (folder / "ingest.toml").write_text(
            f'data_dir = "centre"\n[broker]\nhost = "localhost"\nport = {self.port}\n'
            'authority = "centre/authority.crt"\ncertificate = "centre/broker/ingest.crt"\n'
            'key = "centre/broker/ingest.key"\n'
        )
        self.config = load(folder / "ingest.toml")
        self.steward = wire.new_key()
        (folder / "steward.pub").write_text(self.steward[1].hex() + "\n")
        self.broker = brokers.mosquitto_on(folder / "broker" / "mosquitto.conf", self.port, folder / "mosquitto.log")

    def init(self, options: str = "") -> dict[str, Any]:
        status, said, error = self.run(
            f"broker init broker --listen 127.0.0.1 --port {self.port} --user {ME} --json {options}"
        )
        assert (status, error) == (0, "")
        found: dict[str, Any] = json.loads(said)
        return found

    def enrol(self, gateway: str) -> None:
        site = gateway.removeprefix("gw-")
        status, _, error = self.run(
            f"gateway enrol --local {gateway} --gateway {gateway} --site {site} --quartier centre --steward steward.pub"
        )
        assert (status, error.count("\n"), "one signature alone" in error) == (0, 1, True)

    def files(self, name: str) -> Tls:
        """A gateway's own, or those of a client of the centre."""
        folder = Path(name, "send") if name.startswith("gw-") else Path("centre", "broker")
        stem = "gateway" if name.startswith("gw-") else name
        return Tls(Path("centre/authority.crt"), folder / f"{stem}.crt", folder / f"{stem}.key")


class Client:
    """Anybody at the broker with a certificate: what it was sent, what came of what it said."""

    def __init__(self, town: Town, name: str, *topics: str, reconnects: bool = True) -> None:
        self.connects, self.refusals = 0, 0
        self.got: list[bytes] = []
        self.answers: list[str] = []
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id="whatever", protocol=mqtt.MQTTv5, reconnect_on_failure=reconnects
        )
        files = town.files(name)
        context = ssl.create_default_context(cafile=str(files.authority))
        context.load_cert_chain(files.certificate, files.key)
        self.client.tls_set_context(context)
        self.client.reconnect_delay_set(1, 1)
        self._topics = topics
        self.client.on_connect = self._connected
        self.client.on_disconnect = self._disconnected
        self.client.on_message = lambda _c, _d, message: self.got.append(bytes(message.payload))
        self.client.on_publish = lambda _c, _d, _mid, reason, _p: self.answers.append(str(reason))
        self.client.connect_async("localhost", town.port, keepalive=30)
        self.client.loop_start()

    def _connected(self, *_: object) -> None:
        if self._topics:
            self.client.subscribe([(topic, 1) for topic in self._topics])
        self.connects += 1

    def _disconnected(self, *_: object) -> None:
        self.refusals += 1

    def say(self, topic: str, payload: bytes) -> None:
        self.client.publish(topic, payload, qos=1)

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def town(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, brokers: ModuleType
) -> Iterator[Town]:
    """A town whose broker is written and not started yet."""
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> tuple[int, str, str]:
        status = main(line.split())
        return status, *capsys.readouterr()

    town = Town(tmp_path, run, brokers)
    town.init()
    yield town
    town.broker.stop()


@pytest.fixture
def join(town: Town) -> Iterator[Callable[..., Client]]:
    """Connects a name to the town's broker."""
    clients: list[Client] = []

    def join(name: str, *topics: str) -> Client:
        clients.append(Client(town, name, *topics))
        return clients[-1]

    yield join
    for client in clients:
        client.stop()


@pytest.fixture
def centre(town: Town) -> Iterator[Callable[[], list[str]]]:
    """Starts the town's centre in a thread; returns what it says."""
    stop, threads = Event(), list[Thread]()

    def run(said: list[str]) -> None:
        archive = Archive.open(town.config.archive)
        try:
            intake = Intake(archive, RuleBook(archive), lambda: 1 << 40)
            subscriber.Subscriber(town.config, archive, intake, centre_key(town.config.data_dir), said.append).run(stop)
        finally:
            archive.close()

    def start() -> list[str]:
        said: list[str] = []
        threads.append(Thread(target=run, args=(said,), daemon=True))
        threads[-1].start()
        return said

    yield start
    stop.set()
    for thread in threads:
        thread.join(20)


def after_renewal(town: Town) -> None:
    """Does what systemd does after murmure-broker.service: its own line, with a systemctl that only tells."""
    unit = (town.folder / "broker" / "systemd" / "murmure-broker.service").read_text().replace("\\\n", "")
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStartPost=+")]
    bin_ = town.folder / "bin"
    bin_.mkdir(exist_ok=True)
    (bin_ / "systemctl").write_text('#!/bin/sh\necho "$@" > "$(dirname "$0")/asked"\n')
    (bin_ / "systemctl").chmod(0o755)
    command = shlex.split(line.removeprefix("ExecStartPost=+"))
    subprocess.run(command, check=True, env={"PATH": f"{bin_}:/usr/bin:/bin"})
    asked = (bin_ / "asked").read_text().strip()
    if asked == "try-restart mosquitto":
        town.broker.stop()
        town.broker.start()
    else:
        assert asked == "try-reload-or-restart mosquitto"
        town.broker.reload()


@pytest.mark.broker
def test_a_gateway_of_one_machine_is_let_in(town: Town, until: Until) -> None:
    """`gateway enrol --local` writes a gateway.toml with which the real uplink speaks to the real broker, as itself."""
    town.broker.start()
    town.enrol("gw-plaza")
    settings = load_gateway(town.folder / "gw-plaza" / "gateway.toml").broker
    assert settings is not None and settings.tls is not None
    topics = Topics.of("centre", "gw-plaza")
    link = Uplink(settings, "gw-plaza", topics, time.monotonic, Event())
    events: list[object] = []
    tokens = [link.publish(topics.release, b"mine"), link.publish(Topics.of("centre", "gw-other").release, b"not")]

    def heard() -> bool:
        events.extend(link.turn(0.1))
        return len(events) >= 2

    until(heard)
    assert sorted(events, key=lambda e: e.token) == [  # type: ignore[attr-defined]
        Acknowledged(tokens[0], None),
        Acknowledged(tokens[1], "Not authorized"),
    ]
    link.close()


@pytest.mark.broker
def test_the_centre_its_second_worker_and_tail_do_not_push_each_other_out(
    town: Town, join: Callable[..., Client], centre: Callable[[], list[str]], until: Until
) -> None:
    """Each has a name of its own: all stay connected, each hears releases, and tail may say nothing."""
    town.init("--workers 2")
    town.broker.start()
    town.enrol("gw-plaza")
    said = centre()
    until(lambda: any("connected" in line for line in said))
    second = join("ingest-2", "murmure/v1/+/+/release")
    stop, shown = Event(), list[str]()

    def watch() -> None:
        archive = Archive.open(town.config.archive, read_only=True)
        subscriber.tail(town.config, archive, lambda message: None, stop, shown.append)

    watching = Thread(target=watch, daemon=True)
    watching.start()
    until(lambda: second.connects == 1 and any("connected" in line for line in shown))
    gateway = join("gw-plaza")
    gateway.say("murmure/v1/centre/gw-plaza/release", b"hello")
    until(lambda: second.got == [b"hello"])
    until(lambda: any("skipped" in line for line in shown))
    until(lambda: any("malformed" in line for line in said))
    stop.set()
    watching.join(20)
    assert (second.connects, second.refusals) == (1, 0)
    assert not any("lost" in line for line in said + shown)
    reader = join("tail")
    reader.say("murmure/v1/centre/gw-plaza/receipt", b"forged")
    until(lambda: reader.answers == ["Not authorized"])


@pytest.mark.broker
def test_a_revoked_gateway_is_gone(
    town: Town,
    join: Callable[..., Client],
    centre: Callable[[], list[str]],
    until: Until,
) -> None:
    """Its first message after the command is refused by ingest though its session is open; once
    systemd's unit has run, its session is gone and it does not come back, while others do, well within a minute."""
    town.broker.start()
    for gateway in ("gw-plaza", "gw-port"):
        town.enrol(gateway)
    said = centre()
    thief, other = join("gw-plaza"), join("gw-port")
    until(lambda: thief.connects and other.connects and any("connected" in line for line in said))
    began = time.monotonic()
    status, told, _ = town.run("gateway revoke gw-plaza")
    assert status == 0
    assert "certificates taken back: 1" in told and "broker/authority.crl" in told and "mosquitto" in told
    # The first of all that it says from the return of the command on: nothing is asked of the clock.
    thief.say("murmure/v1/centre/gw-plaza/release", sealed(town, "gw-plaza"))
    until(lambda: any("revoked_gateway" in line for line in said))
    archive = Archive.open(town.config.archive, read_only=True)
    assert archive.counts()["refused"] == {"revoked_gateway": 1} and archive.health() == []
    archive.close()
    assert not any("refused" in line and "revoked" not in line for line in said), said
    until(lambda: thief.answers)
    assert thief.answers == ["Success"]  # the broker itself has not heard yet
    assert (town.config.data_dir / "broker.renew").exists()  # what murmure-broker.path waits for
    after_renewal(town)
    until(lambda: other.connects >= 2)
    until(lambda: thief.refusals >= 3)
    assert thief.connects == 1
    assert time.monotonic() - began < 60
    assert not (town.folder / "broker" / broker.RESTART).exists()
    status, listed_now, _ = town.run("gateway list")
    lines = dict(line.split("  ", 1) for line in listed_now.splitlines())
    assert "revoked" in lines["gw-plaza"] and "taken back" in lines["gw-plaza"]
    until_year = (utc_now() + timedelta(days=3 * 365)).year
    assert f"certificate until {until_year}" in lines["gw-port"] and "taken back" not in lines["gw-port"]


@pytest.mark.broker
def test_a_broker_from_a_backup_is_brought_up_to_what_the_centre_knows(
    town: Town, join: Callable[..., Client], until: Until
) -> None:
    """A folder of before the revocation lets the gateway in again, with all its rights. The centre sees it at its
    start, says so and writes list and rights anew; what systemd does then turns the gateway out, and nobody else."""
    for gateway in ("gw-plaza", "gw-port"):
        town.enrol(gateway)
    town.init()
    shutil.copytree(town.folder / "broker", town.folder / "older")
    assert town.run("gateway revoke gw-plaza")[0] == 0
    (town.config.data_dir / "broker.renew").unlink()
    shutil.rmtree(town.folder / "broker")
    (town.folder / "older").rename(town.folder / "broker")
    town.broker.start()
    thief, other, ingest = join("gw-plaza"), join("gw-port"), join("tail", "murmure/v1/+/+/release")
    until(lambda: thief.connects and other.connects and ingest.connects)
    thief.say("murmure/v1/centre/gw-plaza/release", b"let in")
    until(lambda: ingest.got == [b"let in"])

    run = [sys.executable, "-m", "murmure.cli", "ingest", "run", "--config", "ingest.toml"]
    with subprocess.Popen(run, stderr=subprocess.PIPE, text=True) as centre:
        try:
            until((town.folder / "broker" / broker.RESTART).exists)
        finally:
            centre.terminate()
        told = centre.communicate()[1]
    assert "not on authority.crl: 1; gateways that still have rights: 1); written now" in told
    after_renewal(town)
    until(lambda: other.connects >= 2)
    until(lambda: thief.refusals >= 3)
    assert thief.connects == 1
    assert broker.catch_up(town.config, utc_now()) is None


def test_who_may_not_write_the_broker_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The centre's own user says what lacks at each look, and lets murmure-broker.path do it."""
    prepared(tmp_path)
    config = IngestConfig(tmp_path / "centre")
    Authority(config.data_dir, NOW).issue_client(new_private_key(), "gw-a", NOW)
    before = contents(tmp_path / "broker")
    Authority(config.data_dir, NOW).revoke("gw-a", NOW)
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("games").pw_uid)
    said = broker.catch_up(config, NOW)
    assert said is not None and "murmure-broker.path does it" in said and "\n" not in said
    assert contents(tmp_path / "broker") == before and (config.data_dir / "broker.renew").exists()
    monkeypatch.undo()
    prepared(tmp_path)
    assert broker.catch_up(config, NOW) is None


def sealed(town: Town, gateway: str) -> bytes:
    """Anything that only this gateway can have signed."""
    from murmure_privacy.release import Health

    secret = bytes.fromhex((town.folder / gateway / "data" / "record.key").read_text())
    at_s = int(time.time())
    report = Health(gateway, "centre", at_s, 60, 1, "0.1", (("beam", "ok"),), 0, "ok", None, 1024)
    return wire.seal_health(report, secret)


@pytest.mark.broker
def test_after_a_reload_alone_a_revoked_gateway_is_deaf_and_mute(
    town: Town, join: Callable[..., Client], until: Until
) -> None:
    """Where only SIGHUP comes, its open session says and hears nothing more; before, it did both."""
    town.broker.start()
    town.enrol("gw-plaza")
    ingest = join("ingest", "murmure/v1/+/+/release")
    thief = join("gw-plaza", "murmure/v1/+/gw-plaza/receipt")
    until(lambda: ingest.connects and thief.connects)
    receipts, releases = "murmure/v1/centre/gw-plaza/receipt", "murmure/v1/centre/gw-plaza/release"
    ingest.say(receipts, b"before")
    thief.say(releases, b"before")
    until(lambda: ingest.got == thief.got == [b"before"])
    assert thief.answers == ["Success"]
    assert town.run("gateway revoke gw-plaza")[0] == 0
    town.broker.reload()

    def refused() -> bool:
        thief.say(releases, b"perhaps")
        return "Not authorized" in thief.answers

    until(refused)
    ingest.say(receipts, b"after")
    thief.say(releases, b"after")
    until(lambda: len(ingest.answers) == 2)
    said = len(thief.answers)
    thief.say(releases, b"after")
    until(lambda: len(thief.answers) > said)
    assert set(thief.answers[thief.answers.index("Not authorized") :]) == {"Not authorized"}
    assert thief.got == [b"before"]
    assert b"after" not in ingest.got
    assert (thief.connects, thief.refusals) == (1, 0)


@pytest.mark.broker
def test_a_list_past_its_date_keeps_everybody_out_and_is_told(
    town: Town, join: Callable[..., Client], centre: Callable[[], list[str]], until: Until
) -> None:
    """The broker fails closed; the centre says what it may be, `broker check` that it is, `broker init` mends it."""
    town.enrol("gw-plaza")
    crl = town.folder / "broker" / broker.CRL
    crl.write_bytes(Authority(town.config.data_dir, NOW).crl(utc_now() - timedelta(days=8)))
    town.broker.start()
    gateway, said = join("gw-plaza"), centre()
    until(lambda: gateway.refusals)
    until(lambda: any("revocation list is past its date" in line for line in said))
    assert gateway.connects == 0
    status, told, _ = town.run("broker check broker")
    assert (status, "authority.crl ended 1.0 days ago; run 'murmure broker init broker'" in told) == (1, True)
    town.init()
    town.broker.reload()
    until(lambda: gateway.connects == 1 and any(line.endswith(": connected") for line in said))
    status, told, _ = town.run("broker check broker --json")
    assert (status, json.loads(told)["good"]) == (0, True)


@pytest.mark.broker
@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (
            ('host = "localhost"', 'host = "127.0.0.2"'),
            "its certificate is not for 127.0.0.2; run 'murmure broker init",
        ),
        (('"centre/authority.crt"', '"other/centre/authority.crt"'), "its certificate is not from "),
        (("authority = ", "# "), "broker.authority: it is missing"),
    ],
)
def test_a_broker_that_is_not_ours_is_told_as_such(town: Town, until: Until, edit: tuple[str, str], says: str) -> None:
    """Another name, another town's broker: one line with the reason and the mend, said once, and it goes on trying."""
    town.init("--listen 0.0.0.0")
    town.broker.start()
    prepared(town.folder / "other", utc_now())
    path = town.folder / "ingest.toml"
    path.write_text(path.read_text().replace(*edit))
    if "other" in edit[1]:
        for name in ("ingest.crt", "ingest.key"):
            shutil.copy(town.folder / "other" / "centre" / "broker" / name, town.folder / "centre" / "broker" / name)
    said: list[str] = []
    try:
        config = load(path)
        link = subscriber._Link(
            config.broker, "x", source="ingest.toml", lasting=False, window=10, topics=[], say=said.append
        )
        link.start()
        until(lambda: said)
        link.stop()
    except ConfigError as error:
        said.append(str(error))
    assert len(said) == 1 and says in said[0] and "\n" not in said[0]


@pytest.mark.broker
def test_renewed_files_are_taken_at_the_next_connection(
    town: Town, centre: Callable[[], list[str]], until: Until
) -> None:
    """A centre that runs for years reads its renewed certificate when the broker restarts, without a restart of its
    own: the one that it began with is taken back meanwhile."""
    town.broker.start()
    said = centre()
    until(lambda: any(line.endswith(": connected") for line in said))
    authority = Authority(town.config.data_dir, NOW)
    authority.revoke("ingest", utc_now())
    (town.config.data_dir / "broker" / "ingest.crt").unlink()
    town.init()
    town.broker.stop()
    until(lambda: any("lost" in line or "no answer" in line for line in said))
    del said[:]
    town.broker.start()
    until(lambda: any(line.endswith(": connected") for line in said))


def test_check_without_a_folder_is_one_line(town: Town) -> None:
    """Status 2 and the command that makes one."""
    assert town.run("broker check nowhere") == (
        2,
        "",
        "murmure: nowhere: authority.crt: is not there or cannot be read; run 'murmure broker init DIR' first\n",
    )


def test_the_first_run_says_how_to_install_it(town: Town) -> None:
    """People get the commands and the lines for ingest.toml; a later run what the broker needs now."""
    shutil.rmtree(town.folder / "broker")
    status, said, _ = town.run("broker init broker")
    assert status == 0
    assert "systemctl enable --now murmure-broker.timer murmure-broker.path" in said
    assert f'    certificate = "{town.folder}/centre/broker/ingest.crt"\n' in said
    assert f"    port = {town.port}\n" in said  # asked for the first time, and remembered
    assert "then: systemctl reload mosquitto" in town.run("broker init broker")[1]


def test_a_damaged_archive_does_not_end_the_revocation_list(town: Town) -> None:
    """Who was revoked stays so, the list is renewed, and one line says what is wrong with the archive."""
    town.enrol("gw-plaza")
    assert town.run("gateway revoke gw-plaza")[0] == 0
    before = listed(town.folder / "broker" / broker.CRL)
    town.config.archive.write_bytes(b"spoiled" * 1000)
    (town.folder / "broker" / broker.CRL).unlink()
    status, said, error = town.run("broker init broker --json")
    assert status == 0, error
    assert error.startswith("murmure: ") and error.count("\n") == 1 and "renewed all the same" in error
    assert json.loads(said)["revoked"] == 1
    assert listed(town.folder / "broker" / broker.CRL) == before != set()
    assert "user gw-plaza\ntopic deny #\n" in (town.folder / "broker" / "acl").read_text()


def test_a_revocation_without_a_broker_of_ours_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program's broker is told by its own operator."""
    monkeypatch.chdir(tmp_path)
    Path("ingest.toml").write_text('data_dir = "centre"\n')
    key = wire.new_key()[1].hex()
    enrol = f"gateway enrol --local gw --gateway gw-a --site a --quartier centre --steward {key}"
    assert main(enrol.split()) == 0
    assert main(["gateway", "revoke", "gw-a"]) == 0
    said = capsys.readouterr().out
    assert "nothing it sends is filed" in said and "this centre prepared no broker" in said


def test_a_user_without_rights_on_the_folder_leaves_it_to_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The centre's own user takes certificates back for good and asks for the rest; the broker's files stay whole."""
    prepared(tmp_path)
    config = IngestConfig(tmp_path / "centre")
    key = new_private_key()
    serial = x509.load_pem_x509_certificate(Authority(config.data_dir, NOW).issue_client(key, "gw-a", NOW).encode())
    before = contents(tmp_path / "broker")
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("games").pw_uid)
    lines = broker.turn_away(config, "gw-a", NOW)
    assert lines[0] == "certificates taken back: 1"
    assert f"only root can give files to {ME}" in lines[1] and "murmure-broker.path does it" in lines[1]
    assert contents(tmp_path / "broker") == before
    assert (config.data_dir / "broker.renew").exists()
    monkeypatch.undo()
    prepared(tmp_path)
    assert listed(tmp_path / "broker" / broker.CRL) == {serial.serial_number}


def test_gateways_reach_the_broker_by_its_outer_name(tmp_path: Path) -> None:
    """The names in ingest.toml, inner and outer, stand in the certificate without being asked for."""
    config = IngestConfig(
        tmp_path / "centre",
        broker=BrokerConfig(host="10.0.0.5"),
        enrolment=EnrolmentConfig(host="0.0.0.0", broker_host="Murmure.Example.org"),
    )
    settings = broker.Settings(str(tmp_path / "broker"), user=ME)
    assert not any("broker_host" in note for note in broker.prepare(config, settings, [], NOW).notes)
    assert alternatives(tmp_path / "broker" / "broker.crt") >= {"localhost", "murmure.example.org", "10.0.0.5"}
    # Without one they would be sent to their own loopback: that is told before the first of them enrols.
    inner = IngestConfig(tmp_path / "centre", enrolment=EnrolmentConfig())
    (note,) = [note for note in broker.prepare(inner, settings, [], NOW).notes if "broker_host" in note]
    assert note.startswith("gateways that enrol would look for the broker at 127.0.0.1")
