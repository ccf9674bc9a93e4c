"""What a gateway is told: `gateway.toml` (what is plugged in, where things lie) and `trust.toml` (whom it believes).

Both are read once, at start, into frozen dataclasses; a key that is not known here is refused. `trust.toml` comes from
the enrolment and never from the network, so that nobody who speaks to the gateway can change whom it listens to.
"""

from __future__ import annotations

import math
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from murmure_privacy.decide import FLOOR, Ceiling
from murmure_privacy.errors import ConfigError
from murmure_privacy.stream import QUANTITIES

from murmure_edge.clock import AUTO, SOURCES

Option = bool | int | float | str

_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")  # fits a topic level and a certificate's common name
_STREAM = re.compile(r"[a-z0-9][a-z0-9_-]*/[a-z0-9][a-z0-9_-]*")
_KEY_BYTES = 32
_LONGEST_S = 7 * 86_400
KEEP_MESSAGES = 8760  # a year of hourly ones
_LEAST_BYTES_PER_DAY = 50_000  # the hourly messages of six streams; less would never carry the largest there can be
_OFFSET_LIMIT = 20  # dB or ug/m3: a sensor further off is broken, or is another one
_STEWARDS_LIMIT = 8  # as many signatures as a sealed policy may carry


@dataclass(frozen=True, slots=True)
class Tls:
    """Files (PEM) of a connection that is encrypted: the `authority` that vouches for the broker, and our own
    `certificate` with its `key`."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Broker:
    """Where `send` connects. `mqtt`: 5, or 4 (that is 3.1.1) for a broker without MQTT 5. `retry_cap_s`: the longest
    pause between two attempts to connect. `resend_s`: a message without a receipt goes out again after this long.
    `bytes_per_day`: what carrying messages may cost in any 24 hours, 0 for no limit. `tls`: None for a plain line,
    which is for one machine or a test."""

    host: str
    port: int
    mqtt: int
    keepalive_s: int
    retry_cap_s: int
    resend_s: int
    bytes_per_day: int = 0
    tls: Tls | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a sensor was found to be off by. `offsets`: quantity -> what is added to each of its readings, in their unit
    (tenths of a dB, of ug/m3). `on`: the day it was measured. `method`: how, such as "94 dB" or "co-location"."""

    offsets: Mapping[str, int] = field(default_factory=dict)
    on: date | None = None
    method: str = ""


@dataclass(frozen=True, slots=True)
class PortConfig:
    """One sensor on one port. `streams`: quantity -> stream id. `baud`: None for the driver's own. `options`: what
    else stands in the table (`rate_hz`, `slave`, …); the driver refuses what it does not know. `second_beam_of`: the
    port whose beam stands beside this one, "" for none: a passage is then what both have seen, in the other's stream,
    and this port has none of its own."""

    name: str
    device: str
    path: str
    streams: Mapping[str, str]
    baud: int | None
    options: Mapping[str, Option]
    calibration: Calibration = Calibration()
    second_beam_of: str = ""


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """`gateway.toml`. `data` belongs to sense, `send_data` to send; they meet in `outbox` and `inbox` only. `broker`:
    None in a white zone, where a courier carries the messages. `keep_messages`: how many stay in gateway.db after the
    centre's receipt, in case that it loses them. `clock`: who must vouch for the time, see `murmure_edge.clock`."""

    file: Path
    gateway: str
    data: Path
    outbox: Path
    inbox: Path
    send_data: Path
    trust: Path
    broker: Broker | None
    ports: tuple[PortConfig, ...]
    keep_messages: int = KEEP_MESSAGES
    clock: str = AUTO

    @property
    def white_zone(self) -> bool:
        """Returns whether there is no network at all: then nothing but a real-time clock can tell the time."""
        return self.broker is None


@dataclass(frozen=True, slots=True)
class Trust:
    """`trust.toml`. `centre` and `stewards`: Ed25519 public keys, 32 bytes each. `simulated`: the data are invented.

    `roles`: one for each steward, in their order; none where all stewards count alike. `ceiling_rho_micro`: the most
    that one unit in each stream of the site may cost together; None in a file of before, whose gateway takes whatever
    enough stewards have signed, at once. `policy_version`: of the newest policy that the site had, 0 for none.
    """

    gateway: str
    quartier: str
    site: str
    centre: bytes
    stewards: tuple[bytes, ...]
    signatures_required: int
    simulated: bool
    roles: tuple[str, ...] = ()
    ceiling_rho_micro: int | None = None
    policy_version: int = 0

    @property
    def ceiling(self) -> Ceiling | None:
        """Returns what a policy is judged by, None in a file of before. Without roles each key is a role of its own,
        and a loosening takes as many as any policy."""
        if self.ceiling_rho_micro is None:
            return None
        roles = 2 if self.roles else self.signatures_required
        return Ceiling(self.ceiling_rho_micro, self.signatures_required, roles, self.policy_version)

    def roles_of(self, keys: Iterable[bytes]) -> frozenset[str]:
        """Returns the roles of these stewards."""
        names = self.roles or tuple(key.hex() for key in self.stewards)
        return frozenset(names[self.stewards.index(key)] for key in keys)


class _Table:
    """One TOML table being read: each key is taken once, and `close` refuses what nobody took."""

    def __init__(self, file: Path, where: str, table: dict[str, Any]) -> None:
        self.file, self._where, self._left = file, where, dict(table)
        self._known: list[str] = []

    def refuse(self, key: str, problem: str, mend: str) -> ConfigError:
        return ConfigError(str(self.file), f"{self._where}{key}", problem, mend)

    def take(self, key: str, kind: type, mend: str, default: Any = None) -> Any:
        self._known.append(key)
        value = self._left.pop(key, default)
        if value is None:
            raise self.refuse(key, "is missing", mend)
        # A TOML true is a Python int as well: compare the exact type.
        if type(value) is not kind:
            raise self.refuse(key, f"{value!r} has the wrong type", mend)
        return value

    def text(self, key: str, mend: str, pattern: re.Pattern[str] | None = None, default: str | None = None) -> str:
        value: str = self.take(key, str, mend, default)
        if not 0 < len(value) <= 4096 or not value.isprintable():
            raise self.refuse(key, "is empty, too long or not printable", mend)
        if pattern is not None and not pattern.fullmatch(value):
            raise self.refuse(key, f"{value!r} does not have the right form", mend)
        return value

    def slug(self, key: str) -> str:
        return self.text(key, "write at most 40 of a-z, 0-9, - and _, not beginning with - or _", _SLUG)

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        mend = f"write a whole number from {low} to {high}"
        value: int = self.take(key, int, mend, default)
        if not low <= value <= high:
            raise self.refuse(key, f"{value} is out of range", mend)
        return value

    def path(self, key: str, example: str) -> Path:
        return self.file.parent / self.text(key, f'write a path, such as {key} = "{example}"')

    def public_key(self, key: str, value: object) -> bytes:
        if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
            raise self.refuse(key, "is no public key", "write 64 hexadecimal characters, as the enrolment gives them")
        return bytes.fromhex(value)

    def options(self) -> dict[str, Option]:
        """Takes all that is left, values that a driver can judge only."""
        for key, value in self._left.items():
            if not isinstance(value, bool | int | float | str):
                raise self.refuse(key, "is no simple value", "write a number, true, false or a text")
        taken, self._left = self._left, {}
        return taken

    def close(self) -> None:
        for key in self._left:
            raise self.refuse(key, "is not a key of this file", f"write one of: {', '.join(self._known)}")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(str(path), "file", "is not there", "write it, or name another with --config") from None
    except OSError as error:
        raise ConfigError(str(path), "file", error.strerror or "cannot be read", "make it readable") from None
    except UnicodeDecodeError:
        raise ConfigError(str(path), "file", "is not UTF-8 text", "save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(path), "TOML", str(error), "mend that line; texts stand in double quotes") from None


def _tls(broker: _Table) -> Tls | None:
    """Returns the three files that make a line encrypted, None where none of them is named."""
    named = {key: broker.text(key, "write a path", default="-") for key in ("authority", "certificate", "key")}
    missing = [key for key, value in named.items() if value == "-"]
    if len(missing) == len(named):
        return None
    if missing:
        raise broker.refuse(missing[0], "is missing", "name authority, certificate and key, or none of them")
    return Tls(**{key: broker.file.parent / value for key, value in named.items()})


def _broker(file: Path, table: dict[str, Any]) -> Broker:
    broker = _Table(file, "broker.", table)
    mqtt = broker.integer("mqtt", 4, 5, 5)
    result = Broker(
        host=broker.text("host", 'write a host name, such as host = "127.0.0.1"'),
        port=broker.integer("port", 1, 65535, 1883),
        mqtt=mqtt,
        keepalive_s=broker.integer("keepalive_s", 5, 3600, 60),
        retry_cap_s=broker.integer("retry_cap_s", 1, 3600, 60),
        resend_s=broker.integer("resend_s", 1, _LONGEST_S, 600),
        bytes_per_day=broker.integer("bytes_per_day", 0, 10**12, 0),
        tls=_tls(broker),
    )
    if 0 < result.bytes_per_day < _LEAST_BYTES_PER_DAY:
        mend = f"write at least {_LEAST_BYTES_PER_DAY}, or 0 for no limit"
        raise broker.refuse("bytes_per_day", f"{result.bytes_per_day} carries less than there is to say", mend)
    broker.close()
    return result


def _port(file: Path, where: str, table: dict[str, Any]) -> PortConfig:
    port = _Table(file, where, table)
    mend = 'write streams = { QUANTITY = "SITE/NAME" }, such as { footfall = "plaza/footfall" }'
    second_beam_of: str = port.take("second_beam_of", str, "write the name of the port with the first beam", "")
    streams: dict[str, Any] = port.take("streams", dict, mend, {} if second_beam_of else None)
    if streams and second_beam_of:
        raise port.refuse("streams", "is the first beam's", "leave it out beside second_beam_of")
    if not streams and not second_beam_of:
        raise port.refuse("streams", "is empty", mend)
    for quantity, stream in streams.items():
        if quantity not in QUANTITIES:
            raise port.refuse(f"streams.{quantity}", "is no quantity", f"write one of: {', '.join(QUANTITIES)}")
        if not isinstance(stream, str) or len(stream) > 64 or not _STREAM.fullmatch(stream):
            raise port.refuse(f"streams.{quantity}", f"{stream!r} is no stream", mend)
    return PortConfig(
        name=port.slug("name"),
        device=port.slug("device"),
        path=port.text("path", 'write the port, such as path = "/dev/serial/by-id/usb-…"'),
        streams=streams,
        baud=port.integer("baud", 0, 4_000_000, 0) or None,
        calibration=_calibration(port, streams, required="calibrated" in table),
        second_beam_of=second_beam_of,
        options=port.options(),
    )


def _require_pairs(table: _Table, ports: Sequence[PortConfig]) -> None:
    """Raises ConfigError unless each second beam has a first one that is of its kind, counts, and has no other."""
    by_name = {port.name: port for port in ports}
    for number, port in enumerate(ports, 1):
        if not port.second_beam_of:
            continue
        first = by_name.get(port.second_beam_of)
        key, mend = f"port {number}.second_beam_of", "write the name of the port with the first beam"
        if first is None or first.second_beam_of:
            raise table.refuse(key, f"{port.second_beam_of!r} is no port with a stream", mend)
        if first.device != port.device or "footfall" not in first.streams:
            raise table.refuse(key, f"{first.name!r} is no {port.device} that counts", mend)
        if [other.second_beam_of for other in ports].count(first.name) > 1:
            raise table.refuse(key, f"{first.name!r} has two second beams", "pair each beam with one other")


def _calibration(port: _Table, streams: Mapping[str, str], required: bool) -> Calibration:
    mend = "write offset = { noise = -1.2 }, or 0 for a sensor that was right"
    offset: dict[str, Any] = port.take("offset", dict, mend, None if required else {})
    offsets = {}
    for quantity, value in offset.items():
        key = f"offset.{quantity}"
        if quantity not in streams or QUANTITIES[quantity].kind == "count":
            raise port.refuse(key, "is no level or concentration of this port", "name a quantity of its streams")
        number = value if type(value) in (int, float) else math.nan
        readings = number * QUANTITIES[quantity].per_unit
        # 1.2 has no exact binary form: its tenths are whole to within a hair.
        if not abs(number) <= _OFFSET_LIMIT or abs(readings - round(readings)) > 1e-6:
            mend = f"write a number from -{_OFFSET_LIMIT} to {_OFFSET_LIMIT} with one decimal"
            raise port.refuse(key, f"{value!r} is no offset", mend)
        offsets[quantity] = round(readings)
    if not offset and not required:
        return Calibration()
    return Calibration(
        offsets,
        port.take("calibrated", date, "write the day of the measurement, such as calibrated = 2026-10-01"),
        port.text("method", 'write how it was measured, such as method = "94 dB" or "co-location"'),
    )


def _clock(table: _Table) -> str:
    mend = f"write one of {', '.join(SOURCES)}"
    source = table.text("clock", mend, default=AUTO)
    if source not in SOURCES:
        raise table.refuse("clock", f"{source!r} is unknown", mend)
    return source


def load(path: Path) -> GatewayConfig:
    """Returns `gateway.toml`; relative paths are relative to that file. Raises ConfigError for anything else."""
    file = path.absolute()
    keys = _read(file)
    table = _Table(file, "", keys)
    line = table.take("broker", dict, "write a table [broker] with a host, or none in a white zone", {})
    broker = _broker(file, line) if "broker" in keys else None
    ports = []
    for number, entry in enumerate(table.take("port", list, "write a table [[port]] for each sensor", []), 1):
        if not isinstance(entry, dict):
            raise table.refuse("port", "is no list of tables", "write [[port]] with two brackets")
        ports.append(_port(file, f"port {number}.", entry))
    config = GatewayConfig(
        file=file,
        gateway=table.slug("gateway"),
        data=table.path("data", "/var/lib/murmure"),
        outbox=table.path("outbox", "/var/lib/murmure-spool/outbox"),
        inbox=table.path("inbox", "/var/lib/murmure-spool/inbox"),
        send_data=table.path("send_data", "/var/lib/murmure-send"),
        trust=table.path("trust", "trust.toml"),
        broker=broker,
        ports=tuple(ports),
        keep_messages=table.integer("keep_messages", 0, 1_000_000, KEEP_MESSAGES),
        clock=_clock(table),
    )
    table.close()
    folders = [config.data, config.outbox, config.inbox, config.send_data]
    for folder, key in zip(folders, ("data", "outbox", "inbox", "send_data"), strict=True):
        if any(folder != other and folder.is_relative_to(other) for other in folders) or folders.count(folder) > 1:
            raise table.refuse(key, f"{folder} lies inside another of the four folders", "give each its own folder")
    for key, names in (
        ("name", [port.name for port in ports]),
        ("path", [port.path for port in ports]),
        ("streams", [stream for port in ports for stream in port.streams.values()]),
    ):
        for name in names:
            if names.count(name) > 1:
                raise table.refuse(f"port.{key}", f"{name!r} stands there twice", f"give each port its own {key}")
    _require_pairs(table, ports)
    return config


def load_trust(config: GatewayConfig) -> Trust:
    """Returns the `trust.toml` that `config` names. Raises ConfigError, also if it is another gateway's."""
    written = _read(config.trust)
    table = _Table(config.trust, "", written)
    listed = table.take("stewards", list, "write stewards = [ … ], the public keys that sign policies")
    stewards = tuple(table.public_key("stewards", value) for value in listed)
    if not 1 <= len(set(stewards)) == len(stewards) <= _STEWARDS_LIMIT:
        raise table.refuse("stewards", "has none, too many or the same key twice", "write one to eight different keys")
    roles = table.take("roles", list, "write roles = [ … ], one for each of the stewards", [])
    if not all(isinstance(role, str) and _SLUG.fullmatch(role) for role in roles):
        raise table.refuse("roles", "holds what is no role", 'write words such as "steward" and "dpo"')
    if roles and (len(roles) != len(stewards) or len(set(roles)) < 2):
        mend = "write one for each of the stewards, at least two different ones, or leave the key out"
        raise table.refuse("roles", f"{len(roles)} for {len(stewards)} keys cannot tell two roles apart", mend)
    trust = Trust(
        gateway=table.slug("gateway"),
        quartier=table.slug("quartier"),
        site=table.slug("site"),
        centre=table.public_key("centre", table.take("centre", str, "write the centre's public key")),
        stewards=stewards,
        signatures_required=table.integer("signatures_required", 1, len(stewards)),
        simulated=table.take("simulated", bool, "write true or false", False),
        roles=tuple(roles),
        # A ceiling of nothing is a mistake; it must not read as none, by which all that is signed would hold.
        ceiling_rho_micro=table.integer(
            "ceiling_rho_micro", 1 if "ceiling_rho_micro" in written else 0, FLOOR.rho_micro, 0
        )
        or None,
        policy_version=table.integer("policy_version", 0, 1 << 31, 0),
    )
    if trust.roles and trust.ceiling_rho_micro is None:
        mend = f"write at most {FLOOR.rho_micro}, the floor of this release"
        raise table.refuse("ceiling_rho_micro", "is missing beside roles", mend)
    table.close()
    if trust.gateway != config.gateway:
        raise table.refuse(
            "gateway",
            f"{trust.gateway!r} is not the {config.gateway!r} of {config.file}",
            "use the two files of one enrolment",
        )
    return trust


def load_record_key(path: Path) -> bytes:
    """Returns the 32-byte Ed25519 secret in `path` (64 hexadecimal characters). Raises ConfigError, also if anybody
    but the owner may read it: a key that others could have copied signs nothing more."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(256).strip()
    except OSError as error:
        mend = "enrol the gateway, and run as the user that owns the key"
        raise ConfigError(str(path), "file", error.strerror or "cannot be read", mend) from None
    if mode & 0o077:
        raise ConfigError(str(path), "mode", f"{mode:04o} lets others at it", f"chmod 600 {path}, or enrol again")
    if not re.fullmatch(rb"[0-9a-fA-F]{%d}" % (2 * _KEY_BYTES), content):
        raise ConfigError(str(path), "key", "is not 64 hexadecimal characters", "enrol the gateway again")
    return bytes.fromhex(content.decode())
