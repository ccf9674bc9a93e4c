"""`ingest.toml` as frozen data; see ingest.example.toml for every setting."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from murmure_privacy.accountant import rho_micro
from murmure_privacy.decide import FLOOR, FLOOR_EPSILON
from murmure_privacy.errors import ConfigError
from murmure_privacy.policy import DEFAULT_DELTA


@dataclass(frozen=True, slots=True)
class Tls:
    """Files (PEM) of an encrypted line: the `authority` that vouches for the broker, and the centre's own `certificate`
    with its `key`. Renewed files are read at the next connection."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Where the broker listens. `mqtt`: 5, or 4 for a broker that only knows MQTT 3.1.1. `session_expiry_s`: how long
    the broker keeps messages for a centre that is away (MQTT 5; with 3.1.1 the broker decides). `tls`: None for a plain
    line on one machine; with it, the broker takes the certificate's name for `client_id`. `quartiers`: those that this
    centre hears, beside others on the same archive; none means all, and no other beside it."""

    host: str = "127.0.0.1"
    port: int = 1883
    mqtt: int = 5
    client_id: str = "murmure-ingest"
    keepalive_s: int = 30
    session_expiry_s: int = 1_209_600
    tls: Tls | None = None
    quartiers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """How many messages share one commit at most, and how long the first of them waits for others."""

    messages: int = 1000
    wait_ms: int = 50


@dataclass(frozen=True, slots=True)
class EnrolmentConfig:
    """The door at which gateways enrol, open while the centre runs. `host`, `port`: where it listens. `name`: what
    technicians reach it by. `broker_host`, `broker_port`: where gateways find the broker, if not where the centre
    does."""

    host: str = "0.0.0.0"
    port: int = 8884
    name: str = ""
    broker_host: str = ""
    broker_port: int = 0


@dataclass(frozen=True, slots=True)
class OperationsConfig:
    """Where `/metrics` is served while the centre runs. An address beyond the loopback needs `beyond_loopback`: the
    reason why, in words. `crl`: the list of revoked certificates of a broker that this centre did not write; `backups`:
    the folder of the archive's backups. Their ages are told if they are named."""

    host: str = "127.0.0.1"
    port: int = 9871
    beyond_loopback: str = ""
    crl: Path | None = None
    backups: Path | None = None


@dataclass(frozen=True, slots=True)
class MirrorConfig:
    """Where the archive is mirrored. `url`: of the database, without `/api/…`. `org`, `bucket`: for InfluxDB;
    VictoriaMetrics drops both. `token_file`: holds the token, None where none is asked for. `timeout_s`: how long one
    request may take."""

    url: str
    org: str = "murmure"
    bucket: str = "murmure"
    token_file: Path | None = None
    timeout_s: int = 10


@dataclass(frozen=True, slots=True)
class RetentionConfig:
    """After how many days `ingest forget` drops what is no release; None keeps it. `refused_days`: the bytes in
    quarantine.db. `health_days`: a gateway's last report. `aside_days`: the bytes of what its gateway signed and was
    not filed; no less than the longest span of a cap and a week, since what it spent is counted from it. `copies_days`:
    the copies of before an upgrade, which still hold all of that."""

    refused_days: int | None = None
    health_days: int | None = None
    aside_days: int | None = None
    copies_days: int | None = None


@dataclass(frozen=True, slots=True)
class DecidingConfig:
    """Who signs policies in which role, and how loose those of a site may be. `roles`: by public key (32 bytes), for
    gateways that are enrolled from now on; a key without one has none. `ceiling`: the most that one unit in each stream
    of a site may cost together, as an epsilon at delta 1e-6; `ceilings`: those of single sites. None: the floor of the
    release."""

    roles: Mapping[bytes, str] = field(default_factory=dict)
    ceiling: Decimal | None = None
    ceilings: Mapping[str, Decimal] = field(default_factory=dict)

    def ceiling_rho_micro(self, site: str) -> int:
        """Returns the ceiling of a site in micro-rho."""
        epsilon = self.ceilings.get(site, self.ceiling)
        return FLOOR.rho_micro if epsilon is None else rho_micro(epsilon, DEFAULT_DELTA)

    def roles_of(self, keys: Iterable[bytes]) -> tuple[str, ...]:
        """Returns the role of each key that has one."""
        return tuple(self.roles[key] for key in keys if key in self.roles)


@dataclass(frozen=True, slots=True)
class IngestConfig:
    """The centre. `data_dir` holds archive.db and centre.key; `source` is the file this was read from. Without
    `enrolment` no gateway can enrol over the network, without `operations` there is no `/metrics`, without `mirror`
    nothing is mirrored, without `retention` nothing is ever forgotten, without `deciding` all stewards count alike."""

    data_dir: Path
    broker: BrokerConfig = field(default_factory=BrokerConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    enrolment: EnrolmentConfig | None = None
    operations: OperationsConfig | None = None
    mirror: MirrorConfig | None = None
    retention: RetentionConfig | None = None
    deciding: DecidingConfig = field(default_factory=DecidingConfig)
    source: str = "ingest.toml"

    @property
    def archive(self) -> Path:
        """The archive's file."""
        return self.data_dir / "archive.db"

    @property
    def quarantine(self) -> Path:
        """The file of refused bytes."""
        return self.data_dir / "quarantine.db"


_BROKER: dict[str, tuple[type, int, int]] = {
    "host": (str, 1, 253),
    "port": (int, 1, 65535),
    "mqtt": (int, 4, 5),
    "client_id": (str, 1, 64),
    "keepalive_s": (int, 5, 3600),
    "session_expiry_s": (int, 60, 0xFFFFFFFE),
}
_QUARTIER = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_TLS = ("authority", "certificate", "key")
_ENROLMENT: dict[str, tuple[type, int, int]] = {
    "host": (str, 1, 253),
    "port": (int, 0, 65535),
    "name": (str, 1, 253),
    "broker_host": (str, 1, 253),
    "broker_port": (int, 1, 65535),
}
_OPERATIONS: dict[str, tuple[type, int, int]] = {
    "host": (str, 1, 253),
    "port": (int, 0, 65535),
    "beyond_loopback": (str, 1, 1000),
    "crl": (str, 1, 4096),
    "backups": (str, 1, 4096),
}
_RETENTION: dict[str, tuple[type, int, int]] = {
    "refused_days": (int, 1, 36_500),
    "health_days": (int, 1, 36_500),
    "aside_days": (int, 373, 36_500),
    "copies_days": (int, 1, 36_500),
}
_MIRROR: dict[str, tuple[type, int, int]] = {
    "url": (str, 1, 1000),
    "org": (str, 1, 100),
    "bucket": (str, 1, 100),
    "token_file": (str, 1, 4096),
    "timeout_s": (int, 1, 600),
}
_BATCH: dict[str, tuple[type, int, int]] = {"messages": (int, 1, 1000), "wait_ms": (int, 1, 10_000)}


def load(path: Path) -> IngestConfig:
    """Returns the settings in `path`; relative paths are relative to it. Raises ConfigError, one line."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(str(path), "file", "there is no such file", "copy ingest.example.toml and edit it") from error
    except OSError as error:
        mend = "name a file that this user may read, such as /etc/murmure/ingest.toml"
        raise ConfigError(str(path), "file", error.strerror or str(error), mend) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), "file", f"not TOML ({error})", "compare with ingest.example.toml") from error
    _only(
        path, "", table, ("data_dir", "broker", "batch", "enrolment", "operations", "mirror", "retention", "deciding")
    )
    data_dir = table.get("data_dir")
    if not isinstance(data_dir, str) or not data_dir:
        raise ConfigError(str(path), "data_dir", "a folder is missing", 'write data_dir = "/var/lib/murmure-centre"')
    return IngestConfig(
        data_dir=path.parent / data_dir,
        broker=_broker(path, table),
        batch=BatchConfig(**_section(path, "batch", table, _BATCH)),
        enrolment=(EnrolmentConfig(**_section(path, "enrolment", table, _ENROLMENT)) if "enrolment" in table else None),
        operations=_operations(path, table),
        mirror=_mirror(path, table),
        retention=(RetentionConfig(**_section(path, "retention", table, _RETENTION)) if "retention" in table else None),
        deciding=_deciding(path, table),
        source=str(path),
    )


def _broker(path: Path, table: dict[str, Any]) -> BrokerConfig:
    section = table.get("broker", {})
    quartiers = section.get("quartiers", []) if isinstance(section, dict) else []
    if not isinstance(quartiers, list) or not all(isinstance(q, str) and _QUARTIER.fullmatch(q) for q in quartiers):
        mend = 'write the names of topics, such as ["centre", "gare"]'
        raise ConfigError(str(path), "broker.quartiers", f"{quartiers!r} does not do", mend)
    if isinstance(section, dict):
        section = {key: value for key, value in section.items() if key != "quartiers"}
    settings = _section(path, "broker", {"broker": section}, _BROKER | dict.fromkeys(_TLS, (str, 1, 4096)))
    files = {key: path.parent / settings.pop(key) for key in _TLS if key in settings}
    for key in _TLS:
        if files and key not in files:
            mend = "name authority, certificate and key, or none of them"
            raise ConfigError(str(path), f"broker.{key}", "it is missing", mend)
    return BrokerConfig(**settings, tls=Tls(**files) if files else None, quartiers=tuple(quartiers))


def _operations(path: Path, table: dict[str, Any]) -> OperationsConfig | None:
    if "operations" not in table:
        return None
    settings = _section(path, "operations", table, _OPERATIONS)
    for key in ("crl", "backups"):
        if key in settings:
            settings[key] = path.parent / settings[key]
    operations = OperationsConfig(**settings)
    if not _on_loopback(operations.host) and not operations.beyond_loopback:
        raise ConfigError(
            str(path),
            "operations.host",
            f"{operations.host} can be reached from other machines, and the page is for operators only",
            'write host = "127.0.0.1", or say why with beyond_loopback = "…"',
        )
    return operations


def _mirror(path: Path, table: dict[str, Any]) -> MirrorConfig | None:
    if "mirror" not in table:
        return None
    settings = _section(path, "mirror", table, _MIRROR)
    if "token_file" in settings:
        settings["token_file"] = path.parent / settings["token_file"]
    url = settings.get("url", "")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and not (parts.username or parts.query)
    except ValueError:
        good = False
    if not good:
        raise ConfigError(
            str(path), "mirror.url", f"{url!r} is no address of a database", 'write url = "http://127.0.0.1:8428"'
        )
    if "token_file" in settings and parts.scheme == "http" and not _on_loopback(parts.hostname or ""):
        raise ConfigError(
            str(path), "mirror.url", "the token would cross the network for all to read", "write https:// there"
        )
    return MirrorConfig(**settings)


def _deciding(path: Path, table: dict[str, Any]) -> DecidingConfig:
    section = table.get("deciding", {})
    if not isinstance(section, dict):
        raise ConfigError(str(path), "deciding", "not a table", "write [deciding] and its settings below")
    _only(path, "deciding.", section, ("roles", "ceiling", "ceilings"))
    roles, ceilings = section.get("roles", {}), section.get("ceilings", {})
    for key, inner in (("roles", roles), ("ceilings", ceilings)):
        if not isinstance(inner, dict):
            raise ConfigError(str(path), f"deciding.{key}", "not a table", f"write [deciding.{key}], one a line")
    for key, role in roles.items():
        if not re.fullmatch(r"[0-9a-f]{64}", key) or not isinstance(role, str) or not _QUARTIER.fullmatch(role):
            mend = 'write the public key in quotes, = and a word such as "dpo"'
            raise ConfigError(str(path), "deciding.roles", f"{key[:16]} = {role!r} does not do", mend)
    return DecidingConfig(
        roles={bytes.fromhex(key): role for key, role in roles.items()},
        ceiling=_epsilon(path, "deciding.ceiling", section["ceiling"]) if "ceiling" in section else None,
        ceilings={site: _epsilon(path, f"deciding.ceilings.{site}", value) for site, value in ceilings.items()},
    )


def _epsilon(path: Path, key: str, value: object) -> Decimal:
    """Returns a ceiling, which no release lets be above its own floor."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= FLOOR_EPSILON:
        mend = f"write an epsilon above 0 and up to {FLOOR_EPSILON}, such as 3.0"
        raise ConfigError(str(path), key, f"{value!r} does not do", mend)
    return Decimal(str(value))


def _on_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _only(path: Path, where: str, table: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise ConfigError(str(path), f"{where}{key}", "no such setting", f"known are {', '.join(known)}")


def _section(path: Path, name: str, table: dict[str, Any], known: dict[str, tuple[type, int, int]]) -> dict[str, Any]:
    section = table.get(name, {})
    if not isinstance(section, dict):
        raise ConfigError(str(path), name, "not a table", f"write [{name}] and its settings below")
    _only(path, f"{name}.", section, tuple(known))
    for key, value in section.items():
        kind, low, high = known[key]
        size = len(value) if isinstance(value, str) else value
        if type(value) is not kind or not low <= size <= high:
            wanted = f"a whole number from {low} to {high}" if kind is int else f"a text of {low} to {high} characters"
            raise ConfigError(str(path), f"{name}.{key}", f"{value!r} does not do", f"write {wanted}")
    return section
