"""Whole cities in simulated time: real pseudo-terminals, processes, brokers, archive and pages."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from murmure_ingest import broker
from murmure_ingest import config as centre_config
from murmure_ingest.archive import Archive
from murmure_ingest.embedded_broker import free_port
from murmure_ingest.enrolment import Claims, Door, EnrolmentServer, Slot, offer, offer_rotation
from murmure_ingest.gateways import Port
from murmure_privacy import wire
from murmure_privacy.enrolment import Claim
from murmure_privacy.release import Outcome
from murmure_privacy.window import Calendar, parse_utc

from murmure import city

HERE = Path(__file__).parent
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
BEAM = Port("beam", "tfluna", "/dev/serial/by-path/socket-1", {"footfall": "plaza/footfall"}, {"rate_hz": 10})
START_S = parse_utc("2026-11-09T23:00:00Z")  # midnight in Paris
PATIENCE_S = 2400.0 if os.environ.get("MURMURE_CAMPAIGN") == "1" else 300.0


@pytest.fixture(scope="session")
def debian(machines: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clean Debian in a folder, to be copied (marker `debootstrap`)."""
    root = tmp_path_factory.mktemp("debian") / "root"
    machines.debian(root)
    yield root
    shutil.rmtree(root)  # a quarter of a gigabyte, which pytest would keep for three runs


@pytest.fixture(scope="session")
def archive(machines: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What installs a gateway: the archive of `make gateway-bundle` for this machine."""
    made: Path = machines.bundle(tmp_path_factory.mktemp("dist"))
    return made


@pytest.fixture
def tls_mosquitto(brokers: ModuleType) -> Callable[[centre_config.IngestConfig, Path], AbstractContextManager[Any]]:
    """Returns what makes Debian's broker, as `murmure broker init` prepares it for that centre, run meanwhile."""

    def prepared(config: centre_config.IngestConfig, folder: Path) -> AbstractContextManager[Any]:
        me = pwd.getpwuid(os.geteuid()).pw_name
        settings = broker.Settings(str(folder), listen="127.0.0.1", port=free_port(), user=me)
        broker.prepare(config, settings, broker.revoked_in(config), datetime.now(UTC))
        made: AbstractContextManager[Any] = brokers.mosquitto_on(
            folder / "mosquitto.conf", settings.port, folder / "mosquitto.log"
        )
        return made

    return prepared


@dataclass
class Centre:
    """A centre with its door open for gateways, whose clock stands where the test puts it."""

    config: centre_config.IngestConfig
    claims: Claims
    door: Door
    server: EnrolmentServer
    said: list[str]
    steward: tuple[bytes, bytes] = field(default_factory=wire.new_key)
    now: list[datetime] = field(default_factory=lambda: [NOW])

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def archive(self) -> Archive:
        return Archive.open(self.config.archive)

    def offer(self, gateway: str = "gw-plaza", **changes: Any) -> Claim:
        slot = replace(Slot(gateway, "plaza", "centre", (self.steward[1],), 1, (BEAM,)), **changes)
        archive = self.archive()
        try:
            return offer(archive, self.config, self.claims, slot, self.now[0])
        finally:
            archive.close()

    def offer_rotation(self, gateway: str = "gw-plaza") -> Claim:
        archive = self.archive()
        try:
            return offer_rotation(archive, self.config, self.claims, gateway, self.now[0])[0]
        finally:
            archive.close()

    def registered(self) -> list[str]:
        archive = self.archive()
        try:
            return [line.gateway for line in archive.enrolments() if line.status == "active"]
        finally:
            archive.close()


@contextmanager
def _centre_in(folder: Path) -> Iterator[Centre]:
    folder.mkdir(parents=True)
    (folder / "ingest.toml").write_text('data_dir = "data"\n[broker]\nport = 18883\n[enrolment]\nhost = "127.0.0.1"\n')
    config = centre_config.load(folder / "ingest.toml")
    config.data_dir.mkdir(mode=0o700)
    claims, now = Claims(config.data_dir), [NOW]
    said: list[str] = []
    door = Door(config, claims, lambda: Archive.open(config.archive), lambda: now[0], said.append)
    server = EnrolmentServer("127.0.0.1", 0, door)
    server.start()
    yield Centre(config, claims, door, server, said, now=now)
    server.stop()
    claims.close()


@pytest.fixture(scope="session")
def centre_in() -> Callable[[Path], AbstractContextManager[Centre]]:
    """Returns what makes a centre in a new folder, with its door open meanwhile."""
    return _centre_in


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    """A centre with its door open."""
    with _centre_in(tmp_path / "centre") as centre:
        yield centre


@pytest.fixture
def composition() -> Callable[[str], list[str]]:
    """Returns what to run in place of the real `sense`."""
    return lambda name: [str(HERE / "compositions" / f"{name}.py")]


@pytest.fixture
def lay_out(tmp_path: Path) -> Callable[..., city.City]:
    """Lays out a city that plays some hours from a midnight; `change` may edit the bench's scenario."""

    def make(hours: float, name: str = "city", change: Callable[[dict[str, Any]], None] = lambda _: None) -> city.City:
        settings = city.Settings(1, True, 0, tmp_path / name, None, None, False)
        made = city.lay_out(settings, city.Span(START_S, START_S + int(hours * 3600)))
        scenario = json.loads(made.scenario.read_text())
        change(scenario)
        made.scenario.write_text(json.dumps(scenario))
        return made

    return make


@pytest.fixture
def to_the_end() -> Callable[..., None]:
    """Waits until every gateway has closed the last node and has every receipt (`settled=False`: only its bytes)."""

    def wait(running: city.Running, meanwhile: Callable[[], None] = lambda: None, settled: bool = True) -> None:
        patience = time.monotonic() + PATIENCE_S
        while running.bench.ended is None or (settled and not running.settled()):
            running.check()
            meanwhile()
            assert time.monotonic() < patience, "the city does not come to its end"
            time.sleep(0.05)

    return wait


@pytest.fixture
def outcomes() -> Callable[[city.City], dict[tuple[str, str, int], Outcome]]:
    """Returns every node of a city's archive by its key."""

    def read(made: city.City) -> dict[tuple[str, str, int], Outcome]:
        archive = Archive.open(made.ingest.archive, read_only=True)
        try:
            return {
                outcome.node.key: outcome
                for info in archive.streams()
                for outcome in archive.outcomes(info.stream, 0, 1 << 40)
            }
        finally:
            archive.close()

    return read


@pytest.fixture
def calendar() -> Iterator[Calendar]:
    yield Calendar(city.TIMEZONE)
