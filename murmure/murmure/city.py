"""A whole city on one machine: bench, gateways, broker, centre and site, composed of the programs that a town runs.

Nothing here is a shortcut: sensors speak through pseudo-terminals, every gateway is two processes that meet in two
folders, releases cross a broker, and the site is drawn from the archive. Only time is simulated: it travels with the
bytes (docs/simulated-time.md), so that a past week takes minutes.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

from murmure_dashboards import config as city_config
from murmure_dashboards import operations, server, site
from murmure_dashboards.pdf import Press
from murmure_edge import config as edge_config
from murmure_edge.folders import prepare_folders, write_whole
from murmure_edge.inbox import policy_name
from murmure_firmware_sim import replay
from murmure_firmware_sim.devices.base import AIR, FOOTFALL, NOISE
from murmure_ingest import config as ingest_config
from murmure_ingest import gateways
from murmure_ingest.archive import Archive
from murmure_ingest.archive_watch import Watch
from murmure_ingest.embedded_broker import EmbeddedBroker, free_port
from murmure_privacy.errors import ConfigError, MurmureError
from murmure_privacy.window import Calendar, utc
from murmure_privacy.wire import new_key, seal_policy

from murmure.progress import Reporter

TIMEZONE = "Europe/Paris"
MARKER = ".murmure-demo"
BORDERS = "quartiers.geojson"
VALID_DAYS = 366  # of the policies
LEAD_S = 60  # sensors run a minute before the first midnight, so that the first node is whole
GRACE_S = 60  # and a minute after the last one, so that every port has passed it
DEFAULT_SPEED = 60.0
CATCH_UP_S = 6 * 3600  # the last hours before now are not rushed, so that who watches sees the page grow
LATE_ANSWERS_BYTES = 90  # nine answers of a dust sensor: three times woken in its last minute
FRAME_BYTES = {"beam": 9, "meter": 7, "dust": 10}
_HOUR_MS = 3_600_000  # a row of a recording may last so long, and is spread over all of it
_REBUILD_S = 10.0
_DATABASE = "victoria-metrics"  # Debian's package and program
_BESIDE = ("mirror", "victoria")  # what a city can lose without noticing
_PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What `murmure demo` was asked for; see its --help."""

    days: int
    once: bool
    port: int
    directory: Path | None
    speed: float | None
    recordings: Path | None
    as_json: bool


@dataclass(frozen=True, slots=True)
class DemoSite:
    """One site of the demo: its gateway stands there, `profile` is its simulated street, `code` is on its pole. `lat`
    and `lon` in thousandths of a degree."""

    id: str
    name: str
    quartier: str
    quartier_name: str
    profile: str
    code: str
    lat: int
    lon: int

    @property
    def gateway(self) -> str:
        """Returns the id of the site's gateway."""
        return f"gw-{self.id}"


SITES = (
    DemoSite("place-du-marche", "Place du Marché", "centre", "Centre", "plaza", "A1", 47385, 695),
    DemoSite("rue-des-tanneurs", "Rue des Tanneurs", "tanneries", "Les Tanneries", "street", "B1", 47385, 705),
    DemoSite("allee-des-tilleuls", "Allée des Tilleuls", "tilleuls", "Les Tilleuls", "residential", "C1", 47395, 695),
)

_POLICY = """\
policy = 1
site = "{site}"
version = 1
timezone = "{timezone}"
decision = "Démonstration, sans délibération"
reason = "Montrer ce que Murmure publie, et ce qu'il ne peut pas savoir."
valid_from = {first}
valid_until = {last}
"""

_STREAMS = {
    "footfall": """\
protects = { crossings = 1 }
epsilon = 1.0
nodes = { "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }
""",
    "noise": """\
protects = { seconds = 15 }
readings = { cadence_ms = 1000, tail = 11 }
epsilon = 2.0
nodes = { "1h" = 1, "1d" = 24 }
indicators = { histogram = 2, mean = 5, energy = 3 }
bounds_db = [35, 80]
""",
    "pm2_5": """\
protects = { seconds = 60 }
readings = { cadence_ms = 1000, tail = 2 }
epsilon = 1.0
nodes = { "1h" = 1, "1d" = 24 }
bounds = [0, 100]
""",
    "pm10": """\
protects = { seconds = 60 }
readings = { cadence_ms = 1000, tail = 2 }
epsilon = 1.0
nodes = { "1h" = 1, "1d" = 24 }
bounds = [0, 200]
""",
}


def policy_toml(site_id: str, first: date, quantities: Iterable[str] = tuple(_STREAMS)) -> bytes:
    """Returns the demo's policy for one site and what is measured there, in force from `first` for a year."""
    last = first + timedelta(days=VALID_DAYS)
    text = _POLICY.format(site=site_id, timezone=TIMEZONE, first=first, last=last)
    for quantity in quantities:
        text += f'\n[[stream]]\nid = "{site_id}/{quantity}"\nquantity = "{quantity}"\n{_STREAMS[quantity]}'
    return text.encode()


# The borders of the quartiers, from end to end, in ten-thousandths of a degree east and north of 0.6850, 47.3750: the
# old river bed, the two streets that leave the bridge, and what lies around.
_RIVER = ((30, 148), (65, 157), (100, 149), (135, 158), (160, 155))
_SOUTH = ((160, 155), (154, 128), (146, 100), (151, 71), (140, 42))
_EAST = ((160, 155), (192, 171), (225, 167), (262, 184))
_AROUND = {
    "centre": (*_RIVER, *_SOUTH, (95, 47), (51, 61), (29, 102)),
    "tanneries": (*_EAST, (269, 139), (258, 86), (212, 53), *_SOUTH[::-1]),
    "tilleuls": (*_EAST[::-1], *_RIVER[::-1], (36, 187), (61, 224), (118, 242), (181, 237), (233, 217)),
}

# Of each device: what people can look up, what the box makes of what it sees, what leaves it.
_REGISTERED = {
    "tfluna": ("TF-Luna", "Des distances, puis des passages.", "Des nombres de passages, brouillés."),
    "modbus_noise": (
        "Sonomètre Modbus",
        "Un niveau sonore chaque seconde.",
        "Des niveaux par heure, brouillés.",
    ),
    "sds011": (
        "SDS011",
        "Une quantité de particules chaque seconde.",
        "Des moyennes par heure, brouillées.",
    ),
}


def _city_toml(plugged: Mapping[DemoSite, Sequence[Plugged]], span: Span) -> str:
    calendar = Calendar(TIMEZONE)
    first, last = calendar.civil_day(span.first_s), calendar.civil_day(span.last_s - 1)
    lines = [
        'city = "Murmure-sur-Loire"',
        f'timezone = "{TIMEZONE}"',
        'help = "Mairie, 1 place de la République, 02 00 00 00 00"',
        "simulated = true",  # recordings are of other towns: no page may pass for a real one
        'address = "https://murmure.example/"',
        'publisher = "Ville de Murmure-sur-Loire"',
        "answer_days = 30",
        'postal = "Mairie, 1 place de la République, 00000 Murmure-sur-Loire"',
        'phone = "02 00 00 00 00"',
        'aasqa = "Atmo Murmure"',
        f'geojson = "{BORDERS}"',
    ]
    for place in plugged:
        lines += ["", "[[quartier]]", f'slug = "{place.quartier}"', f'name = "{place.quartier_name}"']
    for place, sensors in plugged.items():
        lines += [
            "",
            "[[site]]",
            f'id = "{place.id}"',
            f'name = "{place.name}"',
            f'quartier = "{place.quartier}"',
            'purpose = "Montrer le fonctionnement de Murmure"',
            'purpose_en = "To show how Murmure works"',
            'owner = "Ville de Murmure-sur-Loire"',
            'contact = "donnees@murmure.example"',
            f"until = {first + timedelta(days=VALID_DAYS)}",
            f"lat = {place.lat / 1000}",
            f"lon = {place.lon / 1000}",
            f'street = "{place.name}"',
            'legal_basis = "Aucune : démonstration, personne n\'est mesuré"',
            f"installed = {first}",
            f'code = "{place.code}"',
            'dominant = "road"',
        ]
        for sensor in sensors:
            device, computes, leaves = _REGISTERED[sensor.device]
            lines += [
                "",
                "[[site.sensor]]",
                f'stream = "{place.id}/{sensor.quantities[0]}"',
                f'device = "{device}"',
                f'computes = "{computes}"',
                f'leaves = "{leaves}"',
                f"checked = {first}",
            ]
    lines += [
        "",
        "[[request]]",
        f'number = "{last.year}-001"',
        f"received = {last}",
        f'site = "{next(iter(plugged)).id}"',
        'kind = "question"',
        'state = "open"',
    ]
    return "\n".join(lines) + "\n"


def _borders(places: Iterable[DemoSite]) -> dict[str, Any]:
    """Returns the quartiers as GeoJSON; the corners between two of them are those of both."""

    def ring(quartier: str) -> list[list[float]]:
        corners = list(dict.fromkeys(_AROUND[quartier]))
        return [[(6850 + east) / 10_000, (473_750 + north) / 10_000] for east, north in (*corners, corners[0])]

    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "properties": {"slug": place.quartier},
                "geometry": {"type": "Polygon", "coordinates": [ring(place.quartier)]},
            }
            for place in places
        ],
    }


@dataclass(slots=True)
class Span:
    """The past that a demo plays, UTC seconds: whole civil days but in tests."""

    first_s: int
    last_s: int

    @classmethod
    def of(cls, days: int, now_s: int) -> Span:
        """Returns the `days` civil days that end with the last midnight whose grace minute is over by `now_s`."""
        calendar = Calendar(TIMEZONE)
        midnight_s = calendar.day(now_s - GRACE_S).start_s
        return cls(calendar.midnight(calendar.civil_day(midnight_s) - timedelta(days=days)), midnight_s)


@dataclass(slots=True)
class City:
    """Everything that was laid out in a folder before the first process starts."""

    root: Path
    span: Span
    sensors: dict[DemoSite, list[Plugged]]
    settings: Settings
    broker_port: int
    ingest: ingest_config.IngestConfig
    city: city_config.City
    scenario: Path
    mirror_port: int | None
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def gateway_dir(self, place: DemoSite) -> Path:
        """Returns the folder of a site's gateway."""
        return self.root / "gateways" / place.gateway


def _fresh_directory(wanted: Path | None) -> Path:
    root = (wanted or Path("demo")).absolute()
    try:
        return _made_directory(root, wanted is not None)
    except OSError as error:
        raise ConfigError(
            str(root), "--dir", error.strerror or str(error), "name a folder that can be made there"
        ) from error


def _made_directory(root: Path, named: bool) -> Path:
    if root.exists() and any(root.iterdir()):
        if not (root / MARKER).exists():
            raise ConfigError(str(root), "--dir", "holds something else", "name an empty or new folder")
        if named:
            # Its ledgers are charged up to that run's end: the same days must never be drawn again.
            raise ConfigError(str(root), "--dir", "holds an earlier run", "name a fresh folder, or remove this one")
        shutil.rmtree(root)
    root.mkdir(parents=True, exist_ok=True)
    (root / MARKER).touch()
    return root


@dataclass(frozen=True, slots=True)
class Plugged:
    """One sensor of a site: its port's name, its device, what it measures and what the bench lets it see."""

    port: str
    device: str
    quantities: tuple[str, ...]
    source: dict[str, Any]


_SENSORS = (
    ("beam", "tfluna", FOOTFALL, ("footfall",)),
    ("meter", "modbus_noise", NOISE, ("noise",)),
    ("dust", "sds011", AIR, ("pm2_5", "pm10")),
)


def _plugged(settings: Settings, span: Span) -> dict[DemoSite, list[Plugged]]:
    """Returns the sensors of each site that has any: all three kinds, or those for which there are recordings."""
    if settings.recordings is None:
        return {
            place: [
                Plugged(port, device, quantities, {"kind": "street", "seed": 11 + number, "profile": place.profile})
                for port, device, _, quantities in _SENSORS
            ]
            for number, place in enumerate(SITES)
        }
    if not settings.recordings.is_dir():
        raise ConfigError(str(settings.recordings), "--recordings", "no such folder", "name a folder of recordings")
    last_day = Calendar(TIMEZONE).civil_day(span.last_s - 1)
    found: dict[DemoSite, list[Plugged]] = {}
    for port, device, quantity, quantities in _SENSORS:
        chosen = replay.choose_series(settings.recordings, quantity, settings.days, TIMEZONE)
        for number, (place, series) in enumerate(zip(SITES, chosen, strict=False)):
            source = {
                "kind": "replay",
                "file": str(series.file),
                "site": series.site,
                "metrics": list(series.metrics),
                "seed": 11 + number,
                "days": _with_grace(replay.shift_days(series, settings.days, last_day, TIMEZONE)),
            }
            # A recording of PM2.5 alone says nothing of PM10, although the emulated device has both in its frame.
            shown = tuple(name for name in quantities if quantity != AIR or name in series.metrics)
            found.setdefault(place, []).append(Plugged(port, device, shown, source))
    if not found:
        raise ConfigError(
            str(settings.recordings), "--recordings", "no series of footfall, noise or air", "name another folder"
        )
    return found


def _with_grace(days: replay.DayTable) -> list[list[int]]:
    """Lets a recording go on through the grace minute, so that no sensor falls silent before the last node closes."""
    source_end_ms, shown_end_ms = days[-1][1], days[-1][2] + days[-1][1] - days[-1][0]
    return [*map(list, days), [source_end_ms, source_end_ms + _HOUR_MS, shown_end_ms]]


def lay_out(settings: Settings, span: Span, fast_until_s: int | None = None) -> City:
    """Makes the folder: the centre's files, keys, signed policies, three enrolled gateways and the bench's scenario.

    A city that lives on is played as fast as it goes up to `fast_until_s`, then at its pace.

    Raises ConfigError for settings that cannot be met.
    """
    plugged = _plugged(settings, span)
    root = _fresh_directory(settings.directory)
    broker_port = free_port()
    mirror_port = free_port() if shutil.which(_DATABASE) else None
    centre = root / "centre"
    centre.mkdir()
    settings_text = f'data_dir = "data"\n\n[broker]\nhost = "127.0.0.1"\nport = {broker_port}\n'
    if mirror_port is not None:
        settings_text += f'\n[mirror]\nurl = "http://127.0.0.1:{mirror_port}"\n'
    (centre / "ingest.toml").write_text(settings_text, "utf-8")
    ingest = ingest_config.load(centre / "ingest.toml")
    ingest.data_dir.mkdir(mode=0o700)
    steward_secret, steward = new_key()
    first_day = Calendar(TIMEZONE).civil_day(span.first_s)
    scenario_gateways = []
    archive = Archive.open(ingest.archive)
    try:
        for place, sensors in plugged.items():
            folder = root / "gateways" / place.gateway
            ports_dir = folder / "ports"
            ports_dir.mkdir(parents=True)
            timeline = folder / "timeline"
            timeline.mkdir(mode=0o700)
            measured = [quantity for sensor in sensors for quantity in sensor.quantities]
            sealed = seal_policy(policy_toml(place.id, first_day, measured), [("demo-steward", steward_secret)])
            gateways.enrol_local(
                archive,
                ingest,
                folder,
                gateway=place.gateway,
                site=place.id,
                quartier=place.quartier,
                stewards=[steward],
                ports=[
                    gateways.Port(
                        sensor.port,
                        sensor.device,
                        str(ports_dir / sensor.port),
                        {quantity: f"{place.id}/{quantity}" for quantity in sensor.quantities},
                        {},
                    )
                    for sensor in sensors
                ],
                policies=[sealed],
                simulated=True,
            )
            local = edge_config.load(folder / "gateway.toml")
            prepare_folders(local)
            # The policy would come through the broker a moment later; here it waits where `send` would have put it,
            # so that the first minutes are the same in every run.
            write_whole(local.inbox, policy_name(sealed), sealed)
            scenario_gateways.append(
                {
                    "gateway": place.gateway,
                    "dir": str(timeline),
                    "ports": [
                        {
                            "name": sensor.port,
                            "link": str(ports_dir / sensor.port),
                            "device": sensor.device,
                            "source": sensor.source,
                        }
                        for sensor in sensors
                    ],
                }
            )
    finally:
        archive.close()
    end_ms = (span.last_s + GRACE_S) * 1000
    scenario = {
        "start_ms": (span.first_s - LEAD_S) * 1000,
        "end_ms": end_ms if settings.once else None,
        "fast_until_ms": None if fast_until_s is None else max(end_ms, fast_until_s * 1000),
        "speed": settings.speed if settings.once else settings.speed or DEFAULT_SPEED,
        "gateways": scenario_gateways,
    }
    (root / "scenario.json").write_text(json.dumps(scenario, indent=1), "utf-8")
    (root / BORDERS).write_text(json.dumps(_borders(plugged)), "utf-8")
    (root / "city.toml").write_text(_city_toml(plugged, span), "utf-8")
    return City(
        root=root,
        span=span,
        sensors=plugged,
        settings=settings,
        broker_port=broker_port,
        ingest=ingest,
        city=city_config.load(root / "city.toml"),
        scenario=root / "scenario.json",
        mirror_port=mirror_port,
    )


@dataclass(slots=True)
class _Bench:
    """What the bench has said so far; filled by the thread that reads its lines."""

    sim_ms: int
    ended: dict[str, Any] | None = None


class Broker(Protocol):
    """What a city asks of its broker: to run while it is entered, on the city's port."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


class Running:
    """The processes of a city. Use as a context manager: leaving it ends every one of them.

    `broker` and `sense` (what stands after `python`) are others in tests only.
    """

    def __init__(
        self,
        city: City,
        tell: Callable[[str], None],
        broker: Broker | None = None,
        sense: Sequence[str] = ("-m", "murmure.simulated_sense"),
    ) -> None:
        self.city, self._tell, self._sense = city, tell, sense
        self._stack = ExitStack()
        self.bench = _Bench((city.span.first_s - LEAD_S) * 1000)
        self._broker = broker or EmbeddedBroker(city.broker_port)

    def __enter__(self) -> Running:
        city = self.city
        (city.root / "logs").mkdir(exist_ok=True)
        try:
            self._stack.enter_context(self._broker)
            self._tell(f"broker    127.0.0.1:{city.broker_port}")
            centre = ["--config", str(city.root / "centre" / "ingest.toml")]
            self.start("ingest", ["-m", "murmure.cli", "ingest", "run", *centre])
            if city.mirror_port is None:
                self._tell(f"mirror    none: VictoriaMetrics is not installed here (Debian package {_DATABASE})")
            else:
                self._start_database(city.mirror_port)
                self.start("mirror", ["-m", "murmure.cli", "ingest", "mirror", "--json", *centre])
                self._tell(f"mirror    http://127.0.0.1:{city.mirror_port}/vmui/ (VictoriaMetrics)")
            bench = self.start(
                "bench", ["-m", "murmure_firmware_sim.bench", str(city.scenario)], stdout=subprocess.PIPE
            )
            threading.Thread(target=self._listen, args=(bench.stdout,), daemon=True).start()
            self._await_bench()
            count = sum(map(len, city.sensors.values()))
            self._tell(f"bench     {count} simulated sensors on pseudo-terminals")
            for place in city.sensors:
                self.start_sense(place)
                self.start_send(place)
            self._tell(f"gateways  {', '.join(place.gateway for place in city.sensors)}: two processes each")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, name: str, arguments: list[str], stdout: int | None = None) -> subprocess.Popen[str]:
        """Starts `python arguments`, with what it says on stderr in logs/NAME.log."""
        return self._launch(name, [sys.executable, *arguments], stdout)

    def _start_database(self, port: int) -> None:
        """The same sample may come twice (1 ms), and old ones are no mistake."""
        options = {
            "httpListenAddr": f"127.0.0.1:{port}",
            "storageDataPath": str(self.city.root / "victoria"),
            "dedup.minScrapeInterval": "1ms",
            "retentionPeriod": "100y",
            "loggerLevel": "ERROR",  # its warnings show values
        }
        self._launch("victoria", [_DATABASE, *(f"-{name}={value}" for name, value in options.items())])

    def _launch(self, name: str, command: list[str], stdout: int | None = None) -> subprocess.Popen[str]:
        log = (self.city.root / "logs" / f"{name}.log").open("a", encoding="utf-8")
        with log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if stdout is not None else subprocess.DEVNULL,
                stdout=stdout if stdout is not None else log,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is for the demo, which ends them in order
            )
        self.city.processes[name] = process
        return process

    def start_sense(self, place: DemoSite) -> subprocess.Popen[str]:
        """Starts the process of a gateway that has its sensors."""
        folder = self.city.gateway_dir(place)
        arguments = ["--config", str(folder / "gateway.toml"), "--timeline", str(folder / "timeline")]
        return self.start(f"sense-{place.id}", [*self._sense, *arguments])

    def start_send(self, place: DemoSite) -> subprocess.Popen[str]:
        """Starts the process of a gateway that has the network."""
        config = self.city.gateway_dir(place) / "gateway.toml"
        return self.start(f"send-{place.id}", ["-m", "murmure.cli", "edge", "send", "--config", str(config)])

    def _await_bench(self) -> None:
        """Waits until every port is there: a gateway whose time is the bench's cannot start before it."""
        patience = time.monotonic() + _PATIENCE_S
        wanted = [
            self.city.gateway_dir(place) / part
            for place, sensors in self.city.sensors.items()
            for part in ("timeline/timeline.sock", *(f"ports/{sensor.port}" for sensor in sensors))
        ]
        while not all(path.exists() for path in wanted):
            self.check()
            if time.monotonic() > patience:
                raise MurmureError(f"bench: its ports are not there after {_PATIENCE_S:.0f} s; see the logs")
            time.sleep(0.05)

    def _listen(self, lines: IO[str] | None) -> None:
        for line in lines or ():
            event = json.loads(line)
            if event["event"] == "progress":
                self.bench.sim_ms = event["sim_ms"]
            elif event["event"] == "end":
                self.bench.ended = event["ports"]

    def check(self) -> None:
        """Raises MurmureError if a process that the city needs has ended by itself, with the last line it said."""
        for name, process in self.city.processes.items():
            if name not in _BESIDE and process.poll() is not None:
                log = self.city.root / "logs" / f"{name}.log"
                said = log.read_text("utf-8", "replace").strip().splitlines()
                last = said[-1] if said else "it said nothing"
                raise MurmureError(f"{name}: ended with {process.returncode}: {last} (see {log})")

    def settled(self) -> bool:
        """Returns whether every gateway has closed the last midnight and every message of it has its receipt."""
        with _reading(self.city.ingest.archive) as archive:
            filed = dict(archive.execute("SELECT gateway, settled_seq FROM totals").fetchall())
        for place in self.city.sensors:
            folder = self.city.gateway_dir(place)
            with _reading(folder / "data" / "gateway.db") as db:
                closed = db.execute("SELECT max(end_s) FROM charges").fetchone()[0]
                newest = db.execute("SELECT seq FROM head").fetchone()[0]
            if closed is None or closed < self.city.span.last_s or filed.get(place.gateway, 0) < newest:
                return False
            if any((folder / "spool" / "outbox").glob("0*.cose")):
                return False
        return True

    def mirrored(self) -> int:
        """Ends the mirror and returns how many samples it has sent, 0 if it did not tell."""
        told = self.stop("mirror").strip().splitlines()
        try:
            return int(json.loads(told[-1])["samples"])
        except (IndexError, KeyError, TypeError, ValueError):
            return 0

    def stop(self, name: str) -> str:
        """Ends one process and returns what it printed last in its log."""
        process = self.city.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_PATIENCE_S / 4)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        return (self.city.root / "logs" / f"{name}.log").read_text("utf-8", "replace")

    def close(self) -> None:
        """Ends every process, senders last but the broker."""
        for kind in ("sense", "send", "bench", "ingest", "mirror", "victoria"):
            for name in [name for name in self.city.processes if name.startswith(kind)]:
                self.stop(name)
        self._stack.close()


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def build_site(city: City, now_s: int) -> None:
    """Draws the public site from the archive as it is now."""
    press = Press(city.root / "site.sheets")
    archive = Archive.open(city.ingest.archive, read_only=True)
    try:
        site.build(archive, city.city, city.root / "site", now_s, press)
    finally:
        archive.close()
    press.rest()


def summary(city: City, bench: dict[str, Any], taken: dict[str, dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Returns what a finished run did: readings, nodes, refusals and spend. `taken`: each port's own counters."""
    spent: dict[str, int] = {}
    released = 0
    for place in city.sensors:
        with _reading(city.gateway_dir(place) / "data" / "gateway.db") as db:
            released += db.execute("SELECT count(*) FROM charges WHERE rho_micro > 0").fetchone()[0]
            spent |= _spent(db, city.span)
    archive = Archive.open(city.ingest.archive, read_only=True)
    try:
        counts = archive.counts()
    finally:
        archive.close()
    return {
        "days": city.settings.days,
        "sites": len(city.sensors),
        "readings": sum(port["frames"] for port in taken.values()),
        "releases": released,
        "stored": counts["stored"],
        "withheld": counts["withheld"],
        "duplicates": counts["duplicates"],
        "refused": sum(counts["refused"].values()),
        "seconds": round(seconds, 1),
        "spent": spent,
        "crossings_played": sum(port["crossings"] for port in bench.values()),
        "crossings_over_capacity": sum(port["over_capacity"] for port in bench.values()),
    }


def _spent(db: sqlite3.Connection, span: Span) -> dict[str, int]:
    from murmure_privacy.ledger import Ledger

    ledger = Ledger(db)
    streams = [row[0] for row in db.execute("SELECT DISTINCT stream FROM charges ORDER BY stream")]
    return {stream: ledger.spent_rho_micro(stream, span.first_s, span.last_s) for stream in streams}


def run(settings: Settings) -> int:
    """Runs the demo. Returns 0; raises MurmureError with one line for what cannot be."""
    began = time.monotonic()
    if not settings.once:
        _require_free(settings.port)
    reporter = Reporter(quiet=settings.as_json)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    now_s = int(time.time())
    city = lay_out(settings, Span.of(settings.days, now_s), None if settings.once else now_s - CATCH_UP_S)
    reporter.say(f"folder    {city.root}")
    with Running(city, reporter.say) as running, reporter:
        if settings.once:
            return _run_once(city, running, reporter, stop, began)
        _live(city, running, reporter, stop)
    return 0


def _require_free(port: int) -> None:
    """Raises ConfigError for a port that is taken, before anything is started."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise ConfigError("demo", "--port", f"{port}: {error.strerror or error}", "write another port") from error


def _run_once(city: City, running: Running, reporter: Reporter, stop: threading.Event, began: float) -> int:
    span = city.span
    while running.bench.ended is None:
        if stop.wait(0.2):
            reporter.say("stopped before the end")
            return 0
        running.check()
        reporter.past_days(span.first_s, span.last_s, running.bench.sim_ms // 1000)
    reporter.past_days(span.first_s, span.last_s, span.last_s)
    patience = time.monotonic() + _PATIENCE_S
    while not running.settled():
        running.check()
        if stop.wait(0.1):
            return 0
        if time.monotonic() > patience:
            raise MurmureError(f"{city.root}: the last receipts have not come in {_PATIENCE_S:.0f} s; see its logs")
    taken: dict[str, dict[str, Any]] = {}
    for place in city.sensors:
        said = running.stop(f"sense-{place.id}").strip().splitlines()[-1]
        taken |= {f"{place.gateway}/{port}": counters for port, counters in json.loads(said).items()}
    bench = running.bench.ended
    lost = []
    for port, counters in taken.items():
        sent = bench[port]
        # Beside its measurements a device answers commands: a beam's answers have lengths of their own, and answers
        # that fall due at the very last instant may stay in the line when everything ends.
        arrived = counters["frames"] * FRAME_BYTES[port.rpartition("/")[2]]
        late = sent["sent_bytes"] - arrived
        if counters["frames"] != sent["frames"] and not 0 <= late <= LATE_ANSWERS_BYTES:
            lost.append(
                f"{port}: {sent['frames']} frames of {sent['sent_bytes']} bytes were sent, {arrived} bytes taken"
            )
        if counters["rejected"] or counters["discarded_bytes"]:
            lost.append(f"{port}: {counters['rejected']} frames and {counters['discarded_bytes']} bytes were spoiled")
    if lost:
        raise MurmureError("; ".join(lost))
    reporter.say("site      drawing")
    build_site(city, span.last_s)
    result = summary(city, bench, taken, time.monotonic() - began)
    if city.mirror_port is not None:
        result["mirrored"] = running.mirrored()
    reporter.finish()
    if city.settings.as_json:
        print(json.dumps(result))
    else:
        reporter.summary(result, city.root / "site")
    return 0


def _live(city: City, running: Running, reporter: Reporter, stop: threading.Event) -> None:
    span = city.span
    build_site(city, span.first_s + 1)
    web = server.serve(city.root / "site", city.settings.port)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    reporter.say(f"site      http://127.0.0.1:{city.settings.port}/ (Ctrl-C ends the city)")
    drawn_mark = -1
    next_build = 0.0
    archive = Archive.open(city.ingest.archive, read_only=True)
    watch, inner = Watch(archive), city.root / "operations"  # a folder of its own: the public never reads it
    operations.build(archive, watch, city.city, inner, span.first_s + 1)
    desk = server.serve(inner, 0)
    threading.Thread(target=desk.serve_forever, daemon=True).start()
    reporter.say(f"operators http://127.0.0.1:{desk.server_address[1]}/{operations.FOLDER}")
    try:
        while not stop.wait(0.5):
            running.check()
            now_s = running.bench.sim_ms // 1000
            if now_s < span.last_s:
                reporter.past_days(span.first_s, span.last_s, now_s)
            else:
                reporter.living(now_s, archive.node_count())
            mark = archive.node_count()
            if mark != drawn_mark and time.monotonic() >= next_build:
                drawn_mark = mark
                build_site(city, max(now_s, span.first_s + 1))
                operations.build(archive, watch, city.city, inner, max(now_s, span.first_s + 1))
                next_build = time.monotonic() + _REBUILD_S
    finally:
        archive.close()
        web.shutdown()
        desk.shutdown()
    reporter.finish()


def local_time(at_s: int) -> str:
    """Returns an instant in the demo's own time, for people."""
    return datetime.fromtimestamp(at_s, Calendar(TIMEZONE).zone).strftime("%Y-%m-%d %H:%M")


__all__ = ["SITES", "City", "Running", "Settings", "build_site", "lay_out", "local_time", "policy_toml", "run", "utc"]
