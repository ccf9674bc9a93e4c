"""What a broker needs of the town: mosquitto's configuration, its certificates, its rights and whom it turns away.

`prepare` writes the whole folder and is run again every day: it then renews what is due and leaves the rest alone. The
authority stays in the centre's data folder; the broker's folder holds what the broker itself must read.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import pwd
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

from murmure_privacy.errors import ConfigError, MurmureError

from murmure_ingest.archive import Archive
from murmure_ingest.broker_files import acl, denied, mosquitto_conf, units
from murmure_ingest.certificates import (
    CRL_ALARM_DAYS,
    CRL_DAYS,
    GATEWAY_ID,
    OWN_DAYS,
    Authority,
    Issued,
    crl_days_left,
    fingerprint,
    is_key,
    is_key_of,
    issued,
    listed,
    new_private_key,
    read_certificate,
    write_file,
)
from murmure_ingest.config import IngestConfig
from murmure_ingest.rotation import successor, told_by_log

CRL = "authority.crl"
RESTART = "restart"
_SETTINGS, _RENEW, _LOCK = "broker.json", "broker.renew", "broker.lock"
_CLIENTS = "broker"  # the centre's own certificates, in its data folder
_ALWAYS = ("localhost", "127.0.0.1", "::1")
_ALARM_EVERY_S = 6 * 3600.0
_HOST = re.compile(
    r"(?=.{1,253}$)[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*"
)
_NO_NAMES = ("0.0.0.0", "::")  # where to listen, not what to reach it by


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked of a broker, kept in the centre's data folder for the renewals. `folder`: its own. `names`: by
    what it is reached beside what ingest.toml says. `listen`: one address, or "" for all. `workers`: how many ingest
    processes share the quartiers. `user`: whom the broker runs as, or "" for mosquitto's own."""

    folder: str
    names: tuple[str, ...] = ()
    listen: str = ""
    port: int = 8883
    workers: int = 1
    user: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was done. `then`: what the broker needs now: "start", "restart", "reload". `toml`: lines for ingest.toml."""

    folder: str
    did: tuple[str, ...]
    notes: tuple[str, ...]
    then: str
    crl_until: str
    revoked: int
    toml: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `days_left` is None for what cannot be read."""

    what: str
    days_left: float | None
    good: bool
    says: str


def settings_of(data_dir: Path) -> Settings | None:
    """Returns what was asked of this centre's broker, None if `broker init` never ran."""
    try:
        found: dict[str, Any] = json.loads((data_dir / _SETTINGS).read_text("utf-8"))
        return Settings(**{**found, "names": tuple(found["names"])})
    except FileNotFoundError:
        return None
    except OSError as error:
        path, mend = data_dir / _SETTINGS, "run as the user of the centre, or let it read this file"
        raise ConfigError(str(path), "file", error.strerror or str(error), mend) from error
    except (ValueError, TypeError, KeyError) as error:
        path = data_dir / _SETTINGS
        raise ConfigError(str(path), "file", "cannot be read", "remove it and run 'murmure broker init DIR'") from error


def crl_of(data_dir: Path) -> Path | None:
    """Returns where the broker reads its revocation list, None if this centre prepared no broker."""
    settings = settings_of(data_dir)
    return Path(settings.folder) / CRL if settings else None


def crl_alarm(data_dir: Path, now: datetime) -> str | None:
    """Returns one line if the broker's revocation list ends soon: from then on it refuses every gateway."""
    path = crl_of(data_dir)
    left = crl_days_left(path, now) if path else None
    if path is None or (left is not None and left > CRL_ALARM_DAYS):
        return None
    state = "cannot be read" if left is None else "is past its date" if left <= 0 else f"ends in {left:.1f} days"
    return (
        f"{path}: {state}; a broker with a list past its date refuses every gateway: "
        f"run 'murmure broker init {path.parent}' and reload the broker"
    )


def ask_for_renewal(data_dir: Path) -> None:
    """Lets murmure-broker.path run the renewal at once."""
    if settings_of(data_dir) is not None:
        write_file(data_dir / _RENEW, b"", 0o644)


def watch_crl(config: IngestConfig, now: Callable[[], datetime], stop: Event, say: Callable[[str], None]) -> None:
    """Says so, at once and some times a day, if the broker's revocation list ends soon, or if it lacks somebody, which
    it mends; on a thread, until `stop`."""

    looks: list[Callable[[], str | None]] = [lambda: crl_alarm(config.data_dir, now()), lambda: catch_up(config, now())]

    def watch() -> None:
        while True:
            for look in looks:
                try:
                    alarm = look()
                except MurmureError as error:
                    alarm = str(error)
                except OSError as error:  # a full disk must not end the watch
                    where = error.filename or config.data_dir
                    alarm = f"{where}: {error.strerror or error}; look at the disk, and at who may read and write it"
                if alarm:
                    say(alarm)
            if stop.wait(_ALARM_EVERY_S):
                return

    Thread(target=watch, name="crl", daemon=True).start()


def catch_up(config: IngestConfig, now: datetime) -> str | None:
    """Brings the broker's list and rights up to what table and register say if they lack somebody, as after a restore
    of the broker's folder; returns one line then.

    Where this user may not write the broker's folder, murmure-broker.path does it within seconds. Raises ConfigError
    where the authority is missing: another one would let nobody in.
    """
    settings = settings_of(config.data_dir)
    if settings is None:
        return None
    if not (config.data_dir / "authority.key").exists():
        path, mend = str(config.data_dir / "authority.key"), "restore it from the backup of data_dir"
        raise ConfigError(path, "key", f"is missing, and {settings.folder} goes by it", mend)
    folder, revoked = Path(settings.folder), revoked_in(config)
    standing = _standing(config, revoked)
    taken = {
        line.serial for line in issued(config.data_dir) if line.revoked_s is not None and line.until_s > now.timestamp()
    }
    owed = {serial for serials in standing.owed.values() for serial in serials}
    there = listed(folder / CRL, Authority(config.data_dir, now).pem).keys()
    certificates = len((taken | owed) - there)
    names = len(set(standing.out) - _denied(folder))
    if not certificates and not names:
        return None
    ask_for_renewal(config.data_dir)  # first: once list and rights are whole, no later look would ask
    try:
        prepare(config, settings, revoked, now)
        done = "written now, and read when the broker is started again"
    except MurmureError as error:
        done = f"not written here: {error}; murmure-broker.path does it, or 'murmure broker init' as root"
    if taken <= there and not names:  # nothing is old: since the last renewal a new key has spoken
        return f"{folder / CRL}: certificates of before a change of keys that are taken back: {certificates}; {done}"
    return (
        f"{folder}: is older than what this centre knows, and lets in who was turned away (certificates that are not "
        f"on {CRL}: {certificates}; gateways that still have rights: {names}); {done}"
    )


def turn_away(config: IngestConfig, gateway: str, now: datetime) -> list[str]:
    """Takes a revoked gateway's certificates back and keeps it out of the broker. Returns lines that say what was done.

    Where this user may not write the broker's folder, murmure-broker.path does it within seconds.
    """
    taken = Authority(config.data_dir, now).revoke(gateway, now) if (config.data_dir / "authority.key").exists() else 0
    lines = [f"certificates taken back: {taken}"]
    settings = settings_of(config.data_dir)
    if settings is None:
        return [*lines, "this centre prepared no broker ('murmure broker init'): end its connection there yourself"]
    try:
        prepare(config, settings, revoked_in(config), now)
        lines.append(f"{settings.folder}/{CRL} and {settings.folder}/acl turn it away from now on")
    except MurmureError as error:
        lines.append(f"not written here: {error}; murmure-broker.path does it, or 'murmure broker init' as root")
    ask_for_renewal(config.data_dir)
    lines.append(
        "its open connection ends when the broker restarts: murmure-broker.path sees to it; without systemd, "
        f"restart mosquitto and remove {settings.folder}/{RESTART}"
    )
    return lines


def prepare(
    config: IngestConfig, settings: Settings, revoked: Sequence[str], now: datetime, *, program: str | None = None
) -> Prepared:
    """Writes or renews everything that a broker reads. `revoked`: gateways that may not speak any more.
    `program`: what systemd runs to renew it; without, its units stay as they are. Raises
    ConfigError for a name, an address or a folder that does not do."""
    folder = Path(settings.folder)
    names = _names(config, settings)
    owner, notes = _owner(settings)
    _require(settings)
    if program is not None:
        for key, path in (("data_dir", config.data_dir), ("--config", config.source), ("program", program)):
            _require_plain(key, str(Path(path).resolve()))
    if config.enrolment is not None and not config.enrolment.broker_host and config.broker.host in _ALWAYS:
        notes.append(
            f"gateways that enrol would look for the broker at {config.broker.host}: under [enrolment] in "
            f"{config.source} write broker_host, its outer name"
        )
    try:
        _require_authority(config.data_dir, folder, now)
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o755)  # whatever root's umask: the broker must enter
        config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(config.data_dir):
            # A list that is there already may know more than a table from a backup.
            recalled = Authority(config.data_dir, now).recall(folder / CRL)
            if recalled:
                notes.append(
                    f"{folder / CRL} turns {recalled} certificates away that certificates.db did not: it now does"
                )
            return _prepare(config, settings, names, revoked, owner, notes, now, program)
    except OSError as error:
        path, reason = str(error.filename or folder), error.strerror or "cannot be written"
        raise ConfigError(path, "file", reason, "run as root, with sudo, and look at the disk") from error


def _prepare(
    config: IngestConfig,
    settings: Settings,
    names: list[str],
    revoked: Sequence[str],
    owner: pwd.struct_passwd,
    notes: list[str],
    now: datetime,
    program: str | None,
) -> Prepared:
    folder, did = Path(settings.folder), list[str]()
    first = not (folder / "mosquitto.conf").exists()
    ids = (owner.pw_uid, owner.pw_gid)
    root = (os.geteuid(), os.getegid())

    def put(name: str, content: str, mode: int = 0o644, ids: tuple[int, int] = root) -> bool:
        path = folder / name
        if path.exists() and path.read_bytes() == content.encode():
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content.encode(), mode, ids)
        did.append(f"wrote {path}")
        return True

    authority = Authority(config.data_dir, now)
    (folder / "state").mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(folder / "state", *ids)
    put("authority.crt", authority.pem)
    did += _renew(authority, folder, "broker", names, now, ids, 0o400)
    clients = config.data_dir / _CLIENTS
    if not clients.exists():
        clients.mkdir(mode=0o700)
        if os.geteuid() == 0:
            home = config.data_dir.stat()
            os.chown(clients, home.st_uid, home.st_gid)
    for name in [*_workers(settings), "tail"]:
        did += _renew(authority, clients, name, [], now, None, 0o600)
    standing = _standing(config, revoked)
    if standing.problem:
        # The revocation list must not end because the archive is damaged or waits for its upgrade.
        notes.append(f"{standing.problem}; certificates before a change of keys are taken back once it can be read")
    # Rights are taken from who is revoked by name too: certificates of an earlier version stand in no table.
    changed = [
        put("mosquitto.conf", mosquitto_conf(settings, folder, owner.pw_name)),
        put("acl", acl(_workers(settings), standing.out)),
    ]
    for gateway, serials in standing.owed.items():
        if authority.take_back(serials, now):
            which = "certificates" if gateway in standing.out else "certificate before the present one"
            did.append(f"took back the {which} of {gateway}")
    write_file(folder / CRL, authority.crl(now), 0o644, root)
    did.append(f"wrote {folder / CRL}, which holds until {now + timedelta(days=CRL_DAYS):%Y-%m-%d %H:%M} UTC")
    if program is not None:
        for name, content in units(folder, config, owner, program).items():
            put(f"systemd/{name}", content)
    write_file(config.data_dir / _SETTINGS, json.dumps(asdict(replace(settings, user=owner.pw_name))).encode(), 0o644)
    if any(changed) and not first:
        write_file(folder / RESTART, b"", 0o644, root)
    then = "start" if first else "restart" if (folder / RESTART).exists() else "reload"
    files = {"authority": config.data_dir / "authority.crt", "certificate": clients / "ingest.crt"}
    toml = "".join(f"{key} = {json.dumps(str(path.resolve()))}\n" for key, path in files.items())
    toml += f"key = {json.dumps(str((clients / 'ingest.key').resolve()))}\n"
    until = f"{now + timedelta(days=CRL_DAYS):%Y-%m-%dT%H:%M:%SZ}"
    return Prepared(str(folder), tuple(did), tuple(notes), then, until, len(standing.out), toml)


def _renew(
    authority: Authority,
    folder: Path,
    name: str,
    names: list[str],
    now: datetime,
    owner: tuple[int, int] | None,
    mode: int,
) -> list[str]:
    """Makes a key once, or anew if it is spoiled, and its certificate anew when two thirds of its life are over or when
    what it says has changed."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    found = read_certificate(certificate, authority.pem)
    if not is_key(key):
        write_file(key, new_private_key().encode("ascii"), mode, owner)
        found = None
    if (
        found is not None
        and is_key_of(key, certificate)
        and sorted(found.names) == sorted(names)
        and now < found.until - timedelta(days=OWN_DAYS) / 3
    ):
        return []
    pem = key.read_text("ascii")
    made = authority.issue_broker(pem, names, now) if name == "broker" else authority.issue_client(pem, name, now)
    write_file(certificate, made.encode("ascii"), 0o644, owner)
    return [f"{'renewed' if found else 'made'} {certificate}" + (f" for {', '.join(names)}" if names else "")]


def _workers(settings: Settings) -> list[str]:
    return ["ingest", *(f"ingest-{number}" for number in range(2, settings.workers + 1))]


def _names(config: IngestConfig, settings: Settings) -> list[str]:
    """Returns by what the broker may be reached, addresses in their shortest form."""
    asked = [*settings.names, config.broker.host]
    if config.enrolment is not None:
        asked.append(config.enrolment.broker_host)
    names = dict.fromkeys(_ALWAYS)
    for name in asked:
        if name in _NO_NAMES or not name:
            continue
        try:
            names[str(ipaddress.ip_address(name))] = None
            continue
        except ValueError:
            pass
        if not _HOST.fullmatch(name) or re.fullmatch(r"[\d.]+", name):
            raise ConfigError("broker init", "--name", f"{name!r} is no host", "write a host name or an address")
        names[name.lower()] = None
    return list(names)


def _require(settings: Settings) -> None:
    if settings.listen:
        try:
            ipaddress.ip_address(settings.listen)
        except ValueError as error:
            mend = "write an address of this machine, or leave --listen out"
            raise ConfigError("broker init", "--listen", f"{settings.listen!r} is no address", mend) from error
    for key, value, high in (("--port", settings.port, 65535), ("--workers", settings.workers, 8)):
        if not 1 <= value <= high:
            raise ConfigError("broker init", key, f"{value} does not do", f"write a whole number from 1 to {high}")
    _require_plain("DIR", settings.folder)


def _require_plain(key: str, path: str) -> None:
    """Raises ConfigError for a path that mosquitto, systemd or a shell would not read as one word."""
    if re.search(r"[^\w/.+-]", path):
        mend = "choose a path of letters, digits and . _ + -"
        raise ConfigError("broker init", key, f"{path!r} has blanks or signs", mend)


def _owner(settings: Settings) -> tuple[pwd.struct_passwd, list[str]]:
    """Returns whom the broker will run as, and what is to be said about it."""
    me = pwd.getpwuid(os.geteuid())
    if os.geteuid() != 0:
        if settings.user not in ("", me.pw_name):
            mend = "run as root, with sudo"
            raise ConfigError("broker init", "--user", f"only root can give files to {settings.user}", mend)
        return me, [f"not run as root: the files are {me.pw_name}'s, and so must the broker be"]
    try:
        owner = pwd.getpwnam(settings.user or "mosquitto")
    except KeyError as error:
        name = settings.user or "mosquitto"
        mend = "install mosquitto (apt-get install mosquitto), or name another with --user"
        raise ConfigError("broker init", "--user", f"there is no user {name} here", mend) from error
    notes = []
    folder = Path(settings.folder)
    for above in (folder, *folder.parents):
        if above.exists() and owner.pw_uid != 0 and not _may_enter(above, owner):
            notes.append(f"{owner.pw_name} may not enter {above}: choose another DIR, or run 'chmod o+x {above}'")
    return owner, notes


def _may_enter(folder: Path, user: pwd.struct_passwd) -> bool:
    status = folder.stat()
    bit = 0o100 if status.st_uid == user.pw_uid else 0o010 if status.st_gid == user.pw_gid else 0o001
    return bool(status.st_mode & bit)


def _require_authority(data_dir: Path, folder: Path, now: datetime) -> None:
    """Raises ConfigError where the broker goes by an authority that this centre has not: a centre that was started on
    an empty `data_dir` has made one of its own, and by that nobody would be let in, and the list be forgotten."""
    try:
        there = fingerprint((folder / "authority.crt").read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return
    mend = f"restore data_dir first; for a new town move {folder} away"
    if not any((data_dir / f"authority.{kind}").exists() for kind in ("key", "crt")):
        raise ConfigError(str(data_dir), "authority.key", f"is missing, and {folder} goes by it", mend)
    if there is not None and there != fingerprint(Authority(data_dir, now).pem.encode("ascii")):
        raise ConfigError(str(data_dir), "authority.key", f"is another than {folder} goes by", mend)


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Lets one renewal run at a time."""
    path = data_dir / _LOCK
    if not path.exists():
        write_file(path, b"", 0o644)
    with path.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check(folder: Path, now: datetime) -> list[Finding]:
    """Looks at what a broker reads: certificate and revocation list. Raises ConfigError for no broker's folder."""
    try:
        authority = (folder / "authority.crt").read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        mend = "run 'murmure broker init DIR' first"
        raise ConfigError(str(folder), "authority.crt", "is not there or cannot be read", mend) from error
    certificate = read_certificate(folder / "broker.crt", authority)
    left = (certificate.until - now) / timedelta(days=1) if certificate else None
    return [
        _finding("certificate", folder / "broker.crt", left, OWN_DAYS / 3 - 7),
        _finding("revocation list", folder / CRL, crl_days_left(folder / CRL, now), CRL_ALARM_DAYS),
    ]


def _finding(what: str, path: Path, left: float | None, least: float) -> Finding:
    good = left is not None and left > least
    if left is None:
        says = f"{path} cannot be read, or is not this authority's"
    else:
        says = f"{path} ended {-left:.1f} days ago" if left <= 0 else f"{path} holds {left:.1f} days more"
    mend = "" if good else f"; run 'murmure broker init {path.parent}' and reload the broker: it should run every day"
    return Finding(what, left, good, says + mend)


def revoked_in(config: IngestConfig) -> list[str]:
    """Returns the gateways that the register has revoked; a centre without an archive has none."""
    if not config.archive.exists():
        return []
    with closing(Archive.open(config.archive, read_only=True)) as register:
        return [line.gateway for line in register.enrolments() if line.status == "revoked"]


def changed_in(config: IngestConfig) -> list[str]:
    """Returns the gateways that have changed their keys and use the new ones."""
    if not config.archive.exists():
        return []
    with closing(Archive.open(config.archive, read_only=True)) as register:
        return [
            line.gateway
            for line in register.enrolments()
            if register.named_keys(line.gateway) and successor(register, line) is None
        ]


def told_in(config: IngestConfig) -> list[str]:
    """Returns the gateways whose present key the register has from the published log alone: after a restore."""
    if not config.archive.exists():
        return []
    with closing(Archive.open(config.archive, read_only=True)) as register:
        return [
            line.gateway for line in register.enrolments() if line.status == "active" and told_by_log(register, line)
        ]


@dataclass(frozen=True, slots=True)
class _Standing:
    """Whom the broker has to turn away: `out`, gateways by name; `owed`, by gateway the numbers of certificates that
    are to be taken back and are not. `problem`: why the register could not be asked, or nothing."""

    out: list[str]
    owed: dict[str, list[str]]
    problem: str = ""


def _standing(config: IngestConfig, revoked: Sequence[str]) -> _Standing:
    """Compares the table of certificates with the register. `revoked`: whom that has revoked."""
    lines = issued(config.data_dir)  # before the register: what is made meanwhile is nobody's earlier one
    changed, told, problem = list[str](), list[str](), ""
    try:
        changed, told = changed_in(config), told_in(config)
    except MurmureError as error:
        problem = str(error)
    newest = {line.name: line for line in lines}
    # Whose key changed after the backup that was restored, has a certificate that the table lacks.
    lacking = {gateway for gateway in told if gateway in newest and newest[gateway].restored}
    out = sorted({*revoked, *(_all_taken_back(lines) - lacking)})
    owed: dict[str, list[str]] = {}
    for line in lines:
        before = line.name in {*changed, *told} and (line != newest[line.name] or line.name in lacking)
        if line.revoked_s is None and (line.name in out or before):
            owed.setdefault(line.name, []).append(line.serial)
    return _Standing(out, owed, problem)


def _denied(folder: Path) -> set[str]:
    """Returns the gateways that the broker denies every topic."""
    try:
        return denied((folder / "acl").read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return set()


def _all_taken_back(lines: Sequence[Issued]) -> set[str]:
    """Returns the gateways of which no certificate is left. A register that was put back from a backup, or that cannot
    be read today, may not know them."""
    gateways = [line for line in lines if GATEWAY_ID.fullmatch(line.name)]
    return {line.name for line in gateways} - {line.name for line in gateways if line.revoked_s is None}


def renewed(settings: Settings, **changes: Any) -> Settings:
    """Returns the settings with what was given anew; None keeps what was."""
    return replace(settings, **{key: value for key, value in changes.items() if value is not None})
