"""What the bench is told (JSON) and a single device (TOML): checked once, then frozen."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .devices import DEVICES
from .devices.base import AIR, FOOTFALL, NOISE, Source
from .devices.walkers import Scene
from .errors import SimError
from .faults import FOREVER_S, SETTING, Fault, FaultyDevice, parse_fault
from .host import check_host
from .memory import LONGEST_AVERAGE_MS, LONGEST_TIME_CONSTANT_MS, Memory
from .people import SCENES, People
from .replay import DayTable, Replay, Series
from .steady import Steady
from .street import PROFILES, Street

_SHORTEST_SKEW_MS, _LONGEST_SKEW_MS = 1_000, 900_000
_MOST_PEOPLE_PER_MIN = 60
_VALUES = {AIR: ("pm2_5", "pm10"), NOISE: ("level_db",), FOOTFALL: ("crossings_per_min",)}
_MOST = {
    "pm2_5": 999.9,
    "pm10": 999.9,
    "average_ms": LONGEST_AVERAGE_MS,
    "level_db": 6553.4,
    "slave": 247,
    "baud": 1_000_000,
    "bluetooth": 1,
    "offset_cm": 100,
    "time_constant_ms": LONGEST_TIME_CONSTANT_MS,
    "crossings_per_min": 150,
    "rate_hz": 250,
    "measuring": 1,
}


@dataclass(frozen=True)
class PortPlan:
    """One port: the device that answers there, what it sees, and what is wrong with it."""

    name: str
    link: Path
    device: str
    settings: Mapping[str, float]
    faults: tuple[Fault, ...]
    source: Source
    seed: int
    passive: bool = False


@dataclass(frozen=True)
class DeviceScenario:
    """What a scenario file says of a single device; `source` is None where it names none."""

    settings: Mapping[str, float]
    faults: tuple[Fault, ...]
    source: Source | None
    seed: int
    passive: bool


@dataclass(frozen=True)
class GatewayPlan:
    """One gateway's ports, in the order of its `gateway.toml`, and the directory of its time line."""

    gateway: str
    directory: Path
    ports: tuple[PortPlan, ...]


@dataclass(frozen=True)
class Scenario:
    """A whole bench. Times are ms, UTC epoch; `speed` is simulated seconds a second, None as fast as possible.

    Up to `fast_until_ms` it runs as fast as possible, then at `speed`. `hold_ms` is an instant beyond which no mark is
    issued until it is released; `downtime_ms` passes between a gateway's loss and its next START.
    """

    start_ms: int
    end_ms: int | None
    fast_until_ms: int | None
    speed: float | None
    skew_ms: int
    downtime_ms: int
    hold_ms: int | None
    gateways: tuple[GatewayPlan, ...] = field(default_factory=tuple)


class _Table:
    """A JSON object or a TOML table being read: each key once, unknown ones refused at the end."""

    def __init__(self, file: str, where: str, value: object) -> None:
        if not isinstance(value, dict):
            raise SimError(file, where or "top", "is no object", "write {...}")
        self._file = file
        self._where = where
        self._left: dict[str, Any] = dict(value)

    def take(self, key: str, kind: type | tuple[type, ...], mend: str, *default: object) -> Any:
        """Returns the key's value if it is of the kind; if a default is given, that for a missing key or null."""
        value = self._left.pop(key, None)
        if value is None and default:
            return default[0]
        if isinstance(value, bool) or not isinstance(value, kind):
            raise SimError(self._file, self.name(key), "is missing or of another kind", mend)
        return value

    def flag(self, key: str) -> bool:
        """Returns a truth value, false where there is none."""
        value = self._left.pop(key, False)
        if not isinstance(value, bool):
            raise SimError(self._file, self.name(key), "is of another kind", "write true or false")
        return value

    def name(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key

    def finish(self) -> None:
        for key in self._left:
            raise SimError(self._file, self.name(key), "is unknown", "leave it out")


def read_scenario(file: Path) -> Scenario:
    """Reads and checks a bench configuration; opens its recordings. Raises SimError."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise SimError(str(file), "JSON", f"cannot be read ({error})", "write one JSON object") from None
    return parse_scenario(content, str(file))


def parse_scenario(content: object, file: str = "scenario") -> Scenario:
    """Checks a bench configuration given as Python objects; opens its recordings. Raises SimError."""
    top = _Table(file, "", content)
    ms = "write milliseconds since 1970, UTC"
    skew_ms = top.take("skew_ms", int, ms, 120_000)
    if not _SHORTEST_SKEW_MS <= skew_ms <= _LONGEST_SKEW_MS:
        raise SimError(
            file, "skew_ms", f"{skew_ms} is out of range", f"write {_SHORTEST_SKEW_MS} to {_LONGEST_SKEW_MS}"
        )
    speed = top.take("speed", (int, float), "write a factor above 0, or null", None)
    if speed is not None and speed <= 0:
        raise SimError(file, "speed", f"{speed} is not above 0", "write null for as fast as possible")
    scenario = Scenario(
        start_ms=top.take("start_ms", int, ms),
        end_ms=top.take("end_ms", int, ms, None),
        fast_until_ms=top.take("fast_until_ms", int, ms, None),
        speed=speed,
        skew_ms=skew_ms,
        downtime_ms=top.take("downtime_ms", int, ms, 0),
        hold_ms=top.take("hold_ms", int, ms, None),
        gateways=tuple(
            _gateway(file, f"gateways[{i}]", each)
            for i, each in enumerate(top.take("gateways", list, "write a list of gateways"))
        ),
    )
    top.finish()
    return scenario


def read_device_scenario(file: Path, device: str) -> DeviceScenario:
    """Reads a scenario file for one device; opens its recording. Raises SimError."""
    try:
        top = _Table(str(file), "", tomllib.loads(file.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SimError(str(file), "TOML", f"cannot be read ({error})", "write KEY = VALUE lines") from None
    except OSError as error:
        raise SimError(str(file), "file", error.strerror or str(error), "name a scenario file") from None
    seed = top.take("seed", int, "write 0 or more", 0)
    settings = top.take("set", dict, "write [set] and KEY = NUMBER lines", {})
    check_settings(str(file), "set.", device, settings)
    source_table = top.take("source", dict, "write [source] and kind = ...", None)
    source = None if source_table is None else _source(str(file), "source", source_table, seed)
    if source is not None and steady_source(settings) is not None:
        raise SimError(str(file), "source", "stands beside values in [set]", "leave one of them out")
    scenario = DeviceScenario(
        settings=settings,
        faults=_events(str(file), "event", top.take("event", list, "write [[event]] tables", []), device, source),
        source=source,
        seed=seed,
        passive=top.flag("passive"),
    )
    for fault in scenario.faults:
        check_host(str(file), fault, bench=False)
    top.finish()
    return scenario


def _events(file: str, where: str, content: list[object], device: str, source: Source | None) -> tuple[Fault, ...]:
    """Reads what happens when: `at_s`, `for_s`, and a `fault` or values to `set`."""
    number = "write seconds since the start"
    events = []
    for index, each in enumerate(content):
        table = _Table(file, f"{where}[{index}]", each)
        at_s = table.take("at_s", (int, float), number)
        for_s = table.take("for_s", (int, float), number, FOREVER_S)
        if at_s < 0 or for_s <= 0:
            raise SimError(file, table.name("at_s"), "lies before the start, or lasts for no time", number)
        text = table.take("fault", str, 'write a name, as "silent"', None)
        settings = table.take("set", dict, "write { KEY = NUMBER }", None)
        table.finish()
        if (text is None) is (settings is None):
            raise SimError(file, table.name("fault"), "stands beside set, or neither is there", "write one of the two")
        if text is not None:
            fault = parse_fault(text, file, table.name("fault"), at_once=True)
            if fault.from_s or fault.to_s < FOREVER_S:
                raise SimError(file, table.name("fault"), f"{text!r} has a time of its own", "write at_s and for_s")
        elif isinstance(source, Scene):
            raise SimError(file, table.name("set"), "has no meaning among people", "leave it out, or the source")
        else:
            fault = Fault(SETTING, values=steady_source(check_values(file, table.name("set."), device, settings)))
        events.append(replace(fault, from_s=float(at_s), to_s=min(float(at_s + for_s), FOREVER_S)))
    return tuple(events)


def _gateway(file: str, where: str, content: object) -> GatewayPlan:
    table = _Table(file, where, content)
    plan = GatewayPlan(
        gateway=table.take("gateway", str, "write the gateway's id"),
        directory=Path(table.take("dir", str, "write the directory of its time line")),
        ports=tuple(
            _port(file, f"{where}.ports[{i}]", each)
            for i, each in enumerate(table.take("ports", list, "write a list of ports"))
        ),
    )
    table.finish()
    if not plan.ports or len({port.name for port in plan.ports}) != len(plan.ports):
        raise SimError(file, f"{where}.ports", "has none, or two of one name", "write one entry a port")
    return plan


def _port(file: str, where: str, content: object) -> PortPlan:
    table = _Table(file, where, content)
    device = table.take("device", str, f"write one of {', '.join(DEVICES)}")
    if device not in DEVICES:
        raise SimError(file, table.name("device"), f"{device!r} is unknown", f"write one of {', '.join(DEVICES)}")
    settings = table.take("set", dict, 'write {"pm2_5": 12.3}', {})
    check_settings(file, table.name("set."), device, settings)
    faults = []
    for each in table.take("faults", list, 'write ["silent"]', []):
        faults.append(parse_fault(str(each), file, table.name("faults")))
    source_table = table.take("source", dict, 'write {"kind": "street", "seed": 7}', {"kind": "street", "seed": 0})
    seed = source_table.get("seed", 0)
    if not isinstance(seed, int) or seed < 0:
        raise SimError(file, table.name("source.seed"), "is no whole number", "write 0 or more")
    source = steady_source(settings) or _source(file, table.name("source"), source_table, seed)
    events = table.take("events", list, 'write [{"at_s": 60, "fault": "silent", "for_s": 30}]', [])
    faults += _events(file, table.name("events"), events, device, source)
    for fault in faults:
        check_host(file, fault, bench=True)
    plan = PortPlan(
        name=table.take("name", str, "write the port's name as in gateway.toml"),
        link=Path(table.take("link", str, "write the path of the port's link")),
        device=device,
        settings=settings,
        faults=tuple(faults),
        source=source,
        seed=seed,
        passive=bool(table.take("passive", int, "write 1 for a device that only speaks when asked", 0)),
    )
    table.finish()
    return plan


def _source(file: str, where: str, content: object, seed: int) -> Source:
    table = _Table(file, where, content)
    kind = table.take("kind", str, "write street, people or replay")
    table.take("seed", int, "write 0 or more", 0)
    source: Source
    if kind == "street":
        source = Street(seed, table.take("profile", str, f"write one of {', '.join(PROFILES)}", "street"))
    elif kind == "people":
        scene = table.take("scene", str, f"write one of {', '.join(SCENES)}", "ordinary")
        per_min = table.take("per_min", (int, float), "write people a minute", 6.0)
        if not 0 <= per_min <= _MOST_PEOPLE_PER_MIN:
            mend = f"write a number from 0 to {_MOST_PEOPLE_PER_MIN}"
            raise SimError(file, table.name("per_min"), f"{per_min} is out of range", mend)
        source = People(seed, scene, per_min)
    elif kind == "replay":
        recording = Path(table.take("file", str, "write the recording's path"))
        site = table.take("site", str, "write a site of the recording")
        metrics = table.take("metrics", list, 'write ["pedestrians"]')
        days = table.take("days", list, "write [[start_ms, end_ms, shown_from_ms], ...]", None)
        source = Replay(Series(recording, site, tuple(map(str, metrics))), seed, _days(file, where, days))
    else:
        raise SimError(file, table.name("kind"), f"{kind!r} is unknown", "write street, people or replay")
    table.finish()
    return source


def _days(file: str, where: str, days: list[Any] | None) -> DayTable | None:
    if days is None:
        return None
    table = []
    for day in days:
        if not (isinstance(day, list) and len(day) == 3 and all(isinstance(each, int) for each in day)):
            raise SimError(file, f"{where}.days", "holds no triple", "write [[start_ms, end_ms, shown_from_ms], ...]")
        table.append((day[0], day[1], day[2]))
    return table


def check_settings(file: str, where: str, device: str, settings: Mapping[str, object]) -> None:
    """Raises SimError for a setting that the device does not have, or a value that it cannot take."""
    kind = DEVICES[device]
    known = (*_VALUES[kind.quantity], *kind.options, *(kind.memory or ())[:1])
    for key, value in settings.items():
        if key not in known:
            raise SimError(file, f"{where}{key}", f"is no setting of {device}", f"write one of {', '.join(known)}")
        most = _MOST.get(key, 65_535)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise SimError(file, f"{where}{key}", f"{value!r} is out of range", f"write a number from 0 to {most}")
    if "baud" in settings and settings["baud"] not in kind.bauds:
        speeds = ", ".join(map(str, kind.bauds))
        raise SimError(file, f"{where}baud", f"{settings['baud']!r} is none of its speeds", f"write one of {speeds}")


def check_values(file: str, where: str, device: str, settings: Mapping[str, Any]) -> Mapping[str, float]:
    """Returns values that the device shows. Raises SimError for anything else, settings of its own included."""
    known = _VALUES[DEVICES[device].quantity]
    for key in settings:
        if key not in known:
            raise SimError(
                file, f"{where}{key}", f"is no value that {device} shows", f"write one of {', '.join(known)}"
            )
    check_settings(file, where, device, settings)
    return settings


def steady_source(settings: Mapping[str, float]) -> Steady | None:
    """Returns a source of constant values if any of the settings is a value, else None."""
    if not any(key in settings for keys in _VALUES.values() for key in keys):
        return None
    pm2_5 = settings.get("pm2_5", 10.0)
    return Steady(
        pm_tenths=(round(10 * pm2_5), round(10 * settings.get("pm10", max(15.0, pm2_5)))),
        level_tenths=round(10 * settings.get("level_db", 50.0)),
        crossings_per_min=int(settings.get("crossings_per_min", 0)),
    )


def _remembered(plan: PortPlan) -> Source:
    """Returns what the device shows of its source: a recording holds the memory of the sensor that made it already."""
    memory = DEVICES[plan.device].memory
    if memory is None:
        return plan.source
    key, usual_ms = memory
    memory_ms = int(plan.settings.get(key, usual_ms if isinstance(plan.source, Street) else 0))
    return Memory(plan.source, **{key: memory_ms}) if memory_ms else plan.source


def build_device(plan: PortPlan, start_ms: int) -> FaultyDevice:
    """Returns the port's device, with its faults around it; `start_ms` is when it is switched on."""
    kind = DEVICES[plan.device]
    options = {keyword: int(plan.settings[key]) for key, keyword in kind.options.items() if key in plan.settings}
    device = kind(_remembered(plan), plan.seed, **options)
    if plan.passive:
        device.be_passive()
    return FaultyDevice(device, plan.faults, plan.seed, start_ms)
