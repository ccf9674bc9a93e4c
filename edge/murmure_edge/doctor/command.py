"""`murmure edge doctor`: what is asked, who answers, what is shown."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TextIO

from murmure_privacy.errors import ConfigError, MurmureError, WireError
from murmure_privacy.files import opened, read_regular

from murmure_edge import clock
from murmure_edge.config import GatewayConfig, Option, PortConfig, load, load_record_key
from murmure_edge.doctor import checks, modbus_scan, privacy
from murmure_edge.doctor.examine import HEAR_MS, Examined, OpenAt, driver_of, examine, guess
from murmure_edge.doctor.findings import Finding, language_of
from murmure_edge.doctor.fixes import Fix, fixes_for, write_rules
from murmure_edge.doctor.machine import Machine
from murmure_edge.doctor.report import Report
from murmure_edge.doctor.watch import Row, Watch
from murmure_edge.link import Link, LinkError
from murmure_edge.outbox import HEALTH
from murmure_edge.sensors.base import SettingError
from murmure_edge.sensors.modbus_noise import ModbusNoise
from murmure_edge.shutters import close_the_shutters, lock_memory

INSTALLED = Path("/etc/murmure/gateway.toml")
_HEALTH_LIMIT = 4096
_JSON_EVERY_S = 1.0
_AMISS = ("absent", "denied", "stalled", "wrong-device", "degraded")


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line. `hear_s`: for how long each sensor is heard, None for two periods."""

    config: Path | None = None
    port: str = ""
    device: str = ""
    settings: Mapping[str, Option] = field(default_factory=dict)
    language: str = ""
    as_json: bool = False
    watch: bool = False
    scan: bool = False
    fix: bool = False
    yes: bool = False
    hear_s: int | None = None
    root: Path = Path("/")


def _serial(path: str, baud: int, stop: threading.Event) -> Link:
    from murmure_edge.serial_link import SerialLink

    return SerialLink(path, baud, stop)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the doctor works. `here`: the machine that runs it, which knows who is looking; what it looks at may be
    another, below the wish's root. `make_link(path, baud, stop)`: a line, not yet open."""

    here: Machine = field(default_factory=Machine)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    out: TextIO = field(default_factory=lambda: sys.stdout)
    make_link: Callable[[str, int, threading.Event], Link] = _serial
    stop: threading.Event = field(default_factory=threading.Event)


class Doctor:
    """One visit: `run` prints what it finds and returns the exit status."""

    def __init__(self, wish: Wish, around: Surroundings, machine: Machine | None = None) -> None:
        self._wish, self._around = wish, around
        self._machine = machine or (Machine(wish.root) if wish.root != Path("/") else around.here)
        self._language = wish.language or language_of(around.environ)
        self._config = _config(wish, self._machine)
        self._ports = _ports(wish, self._config)
        for port in self._ports:
            if port.device:
                _check_driver(wish, self._config, port)
        self._sense = self._ask_sense()

    def run(self) -> int:
        """Returns 0, or 1 if a finding is a failure. Raises ConfigError."""
        if self._wish.watch:
            return self._watch()
        report = self._visit()
        if self._wish.fix:
            wanted = fixes_for(report) if self._sense is False else []
            if self._wish.yes and wanted:
                self._announce(wanted)
                with ThreadPoolExecutor(len(wanted)) as pool:
                    list(pool.map(self._mend, wanted))
                report = self._visit()
            report.fixes = [fix.as_json(done=self._wish.yes) for fix in wanted]
        if self._around.stop.is_set():
            return 0
        self._print(report)
        return int(report.failed)

    # --- looking -----------------------------------------------------------------------------------------------------

    def _ask_sense(self) -> bool | None:
        """Returns whether `sense` runs on this machine, None if that may not be known."""
        if self._config is not None:
            return privacy.sense_runs(self._around.here, self._config.data)
        if not INSTALLED.exists():
            return False
        try:
            return privacy.sense_runs(self._around.here, load(INSTALLED).data)
        except MurmureError:
            return None

    def _may_show(self) -> bool:
        around = self._around
        local = privacy.is_local(around.out.isatty(), around.environ, around.here)
        return local and self._sense is False and not self._wish.as_json

    def _visit(self) -> Report:
        machine = self._machine
        report = Report(sense={True: "running", False: "stopped", None: "unknown"}[self._sense])
        report.ports = machine.serial_ports()
        kernel = clock.kernel_synchronised if machine.living else lambda: False
        place = checks.Place(machine, self._config, self._ports, kernel, clock.wall_ms)
        report.findings += checks.everything(place)
        if self._config is None and not self._wish.port:
            report.findings.append(Finding("config.none"))
        if self._sense is False and self._config is not None:
            report.findings += checks.ledger(self._config.data)
        if self._sense is None:
            report.findings.append(Finding("sense.unknown"))
        elif self._sense and not self._wish.port:
            report.findings += self._as_sense_says()
        else:
            report.sensors += self._examine_all()
            if self._wish.scan:
                report.findings += self._scan()
        return report

    def _to_open(self) -> list[PortConfig]:
        """Returns the ports whose lines may be opened: none that is only planted, and none that would be recorded."""
        return [
            port
            for port in self._ports
            if not port.path.startswith("spy://")
            and (self._machine.living or not os.path.lexists(self._machine.at(port.path)))
        ]

    def _open_at(self, port: PortConfig) -> OpenAt:
        return lambda baud, stop: self._around.make_link(port.path, baud, stop)

    def _examine_all(self) -> list[Examined]:
        ports = self._to_open()
        if not ports:
            return []
        with ThreadPoolExecutor(len(ports)) as pool:
            return [future.result() for future in [pool.submit(self._examine, port) for port in ports]]

    def _examine(self, port: PortConfig, mend: bool = False) -> Examined:
        if not port.device:
            return guess(port, self._open_at(port), self._around.stop)
        return examine(
            port,
            self._open_at(port),
            lambda: self._around.here.holders(self._around.here.real(port.path)),
            stop=self._around.stop,
            hear_ms=HEAR_MS if self._wish.hear_s is None else 1000 * self._wish.hear_s,
            mend=mend,
            tell=self._tell,
        )

    def _scan(self) -> Iterator[Finding]:
        """Asks the addresses of each Modbus line."""
        for port in self._to_open():
            if port.device != ModbusNoise.NAME:
                continue
            by_verdict: dict[str, list[int]] = {}
            link = self._around.make_link(port.path, driver_of(port).baud, self._around.stop)
            try:
                for address, verdict in modbus_scan.scan(link, partial(_asking, port)):
                    by_verdict.setdefault(verdict, []).append(address)
            except LinkError:
                continue  # the port's own check has said why
            for verdict, addresses in by_verdict.items():
                about: dict[str, str | int | float] = {"addresses": ", ".join(map(str, addresses))}
                yield Finding(f"modbus.scan_{verdict}", port.name, about)

    def _as_sense_says(self) -> Iterator[Finding]:
        """What the newest health report says of the ports; `sense` holds them."""
        from murmure_privacy.wire import open_health, public_key

        assert self._config is not None
        try:
            public = public_key(load_record_key(self._config.data / "record.key"))
            with opened(self._config.outbox) as at:
                sealed = read_regular(at, HEALTH, _HEALTH_LIMIT)
            health = open_health(sealed or b"", public)
        except (ConfigError, WireError, OSError):
            yield Finding("sense.no_report")
            return
        at_utc = datetime.fromtimestamp(health.at_s, UTC).strftime("%Y-%m-%d %H:%M")
        yield Finding("sense.running", about={"at": at_utc})
        for name, state in health.ports:
            yield Finding(
                f"sense.{state.replace('-', '_') if state in _AMISS else 'ok'}", name, {"port": name, "state": state}
            )

    # --- mending -----------------------------------------------------------------------------------------------------

    def _announce(self, wanted: Sequence[Fix]) -> None:
        for fix in wanted:
            print(f"{fix.port or '-'}: {fix.text(self._language)}", file=sys.stderr, flush=True)

    def _mend(self, fix: Fix) -> None:
        if fix.name == "udev":
            write_rules(self._machine, [(port.name, port.path) for port in self._ports])
            return
        for port in self._to_open():
            if port.name == fix.port:
                self._examine(port, mend=True)

    # --- showing -----------------------------------------------------------------------------------------------------

    def _tell(self, port: str, doing: str) -> None:
        if sys.stderr.isatty() and not self._wish.as_json:
            print(f"\r\x1b[K{port}: {doing} …", end="", file=sys.stderr, flush=True)

    def _print(self, report: Report) -> None:
        out = self._around.out
        if sys.stderr.isatty() and not self._wish.as_json:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        if self._wish.as_json:
            print(json.dumps(report.as_json(), ensure_ascii=False), file=out, flush=True)
            return
        for line in report.as_text(self._language, self._may_show()):
            print(line, file=out)
        for fix in report.fixes:
            does = fix["does"]
            mark = "✓" if fix["done"] else "--yes:"
            print(f"{mark} {fix['port'] or '-'}: {does[self._language] if isinstance(does, dict) else does}", file=out)

    def _watch(self) -> int:
        ports = self._to_open() if self._sense is False else []
        watch = Watch(ports, [self._open_at(port) for port in ports])
        rows = watch.rows if self._sense is False else self._rows_of_sense
        watch.start()
        try:
            if self._wish.as_json:
                while not self._around.stop.wait(_JSON_EVERY_S):
                    line = json.dumps({"ports": [row.as_json() for row in rows()]})
                    print(line, file=self._around.out, flush=True)
                return 0
            if not self._around.out.isatty():
                raise ConfigError("edge doctor", "--watch", "standard output is no terminal", "add --json")
            from murmure_edge.doctor.screen import show

            show(
                rows,
                self._language,
                with_values=self._may_show(),
                sense_runs=self._sense is not False,
                stop=self._around.stop,
            )
        finally:
            watch.end()
        return 0

    def _rows_of_sense(self) -> list[Row]:
        devices = {port.name: port.device for port in self._ports}
        return [
            Row(finding.port, devices.get(finding.port, ""), str(finding.about["state"]))
            for finding in self._as_sense_says()
            if "state" in finding.about
        ]


def _asking(port: PortConfig, slave: int) -> ModbusNoise:
    settings = port.options if port.baud is None else {**port.options, "baud": port.baud}
    return ModbusNoise(**{**settings, "slave": slave})


def _config(wish: Wish, machine: Machine) -> GatewayConfig | None:
    """Returns the gateway's configuration: the one that was named, else the one here, else the installed one."""
    if wish.config is not None:
        return load(wish.config)
    if wish.port:
        return None
    for path in (Path("gateway.toml"), INSTALLED) if machine.living else ():
        if path.exists():
            return load(path)
    return None


def _ports(wish: Wish, config: GatewayConfig | None) -> tuple[PortConfig, ...]:
    if wish.port:
        settings = dict(wish.settings)
        baud = settings.pop("baud", None)
        name = Path(wish.port).name if "://" not in wish.port else wish.port
        return (PortConfig(name, wish.device, wish.port, {}, int(baud) if baud else None, settings),)
    return config.ports if config is not None else ()


def _check_driver(wish: Wish, config: GatewayConfig | None, port: PortConfig) -> None:
    """Raises ConfigError for a device or setting that does not exist."""
    try:
        driver_of(port)
    except SettingError as error:
        if wish.port:
            key = "--device" if error.key == "device" else f"--set {error.key}"
            raise ConfigError("edge doctor", key, error.problem, error.mend) from error
        assert config is not None
        number = config.ports.index(port) + 1
        raise ConfigError(str(config.file), f"port {number}.{error.key}", error.problem, error.mend) from error


@contextmanager
def _ended_by_signals(stop: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM end a visit once every sensor has been left as it was found."""
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def parse_settings(pairs: Sequence[str]) -> dict[str, Option]:
    """Returns `KEY=VALUE` pairs as gateway.toml would hold them: numbers where they are some. Raises ConfigError."""
    settings: dict[str, Option] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigError("edge doctor", "--set", f"{pair!r} is no setting", "write KEY=VALUE, such as slave=3")
        number: Option = value
        for kind in (int, float):
            try:
                number = kind(value)
                break
            except ValueError:
                continue
        settings[key] = number
    return settings


def main(wish: Wish) -> int:
    """Runs one visit on this machine. Raises ConfigError."""
    close_the_shutters("doctor")
    lock_memory()  # where that cannot be done and there is swap, check 10 says so
    around = Surroundings()
    with _ended_by_signals(around.stop):
        return Doctor(wish, around).run()
