"""A centre in a temporary folder, and gateways that seal what a real one would, with the real policy, plan and wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from murmure_ingest import gateways
from murmure_ingest.archive import Archive
from murmure_ingest.config import IngestConfig, load
from murmure_ingest.intake import Intake, Word
from murmure_ingest.receipts import centre_key
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.plan import plan
from murmure_privacy.policy import parse
from murmure_privacy.release import Health, Message, Node, Noised, Outcome, Release, Withheld
from murmure_privacy.window import Calendar

MONDAY_S = 1_795_392_000  # 2026-11-23 00:00 UTC
QUARTER_S = 900


def policy_text(site: str, version: int = 1, epsilon: str = "1.0") -> bytes:
    return f"""policy = 1
site = "{site}"
version = {version}
timezone = "Europe/Paris"
decision = "Délibération n° 1"
reason = "Essai."
valid_from = 2026-11-01
valid_until = 2027-11-30

[[stream]]
id = "{site}/footfall"
quantity = "footfall"
protects = {{ crossings = 1 }}
epsilon = {epsilon}
nodes = {{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }}

[[stream]]
id = "{site}/pm2_5"
quantity = "pm2_5"
protects = {{ seconds = 60 }}
readings = {{ cadence_ms = 1000, tail = 2 }}
epsilon = 1.0
nodes = {{ "1h" = 1, "1d" = 24 }}
bounds = [0, 100]
""".encode()


@dataclass
class Gateway:
    """Seals messages in sequence. `sealed[i]` has the sequence number i + 1."""

    name: str
    quartier: str
    site: str
    secret: bytes
    policy: bytes
    sealed: list[bytes] = field(default_factory=list)

    @property
    def topic(self) -> str:
        return f"murmure/v1/{self.quartier}/{self.name}/release"

    def outcomes(self, closing_s: int, value: int = 7) -> tuple[Outcome, ...]:
        """Every node of the policy that closes then; the last quarter-hour of an hour is withheld, to have some."""
        parsed = parse(self.policy, "test")
        calendar = Calendar(parsed.timezone)
        found: list[Outcome] = []
        for stream in plan(parsed).streams.values():
            for level in stream.nodes:
                window = calendar.node(level.level, closing_s - 1)
                if window.end_s != closing_s:
                    continue
                node = Node(
                    stream=stream.stream.id,
                    quantity=stream.stream.quantity.name,
                    level=level.level,
                    start_s=window.start_s,
                    end_s=window.end_s,
                    covered_from_s=window.start_s,
                    present=20,
                    cadence_ms=stream.stream.cadence_ms,
                    bounds=stream.stream.bounds,
                    policy=parsed.hash,
                )
                if level.level == "15min" and closing_s % 3600 == 0:
                    found.append(Withheld(replace(node, present=3), "sensor_absent"))
                    continue
                noised = tuple(
                    Noised(i.indicator, (value,) * i.width, i.sigma_milli, i.rho_micro) for i in level.indicators
                )
                found.append(Release(node, noised))
        return tuple(found)

    def message(self, closing_s: int, **changes: Any) -> Message:
        """The next message, unless `changes` says otherwise; not yet part of the history."""
        message = Message(
            gateway=self.name,
            quartier=self.quartier,
            site=self.site,
            boot=1,
            seq=len(self.sealed) + 1,
            previous=wire.digest(self.sealed[-1]) if self.sealed else wire.FIRST_PREVIOUS,
            closing_s=closing_s,
            outcomes=self.outcomes(closing_s),
        )
        return replace(message, **changes)

    def seal(self, closing_s: int, **changes: Any) -> bytes:
        """Seals the next message and remembers it."""
        sealed = wire.seal_message(self.message(closing_s, **changes), self.secret)
        self.sealed.append(sealed)
        return sealed

    def history(self, quarters: int) -> list[tuple[str, bytes]]:
        """Seals one message per quarter-hour and returns them all with their topic."""
        for number in range(quarters):
            self.seal(MONDAY_S + (number + 1) * QUARTER_S)
        return [(self.topic, sealed) for sealed in self.sealed]

    def health(self, uptime_s: int, boot: int = 1, **changes: Any) -> tuple[str, bytes]:
        report = Health(
            self.name, self.quartier, MONDAY_S, uptime_s, boot, "0.1", (("beam", "ok"),), 0, "ok", None, 1024
        )
        topic = f"murmure/v1/{self.quartier}/{self.name}/health"
        return topic, wire.seal_health(replace(report, **changes), self.secret)


@dataclass
class Centre:
    """One centre: its settings, archive and intake, and a steward who signs whatever is asked."""

    folder: Path
    config: IngestConfig
    archive: Archive
    intake: Intake
    secret: bytes
    steward: tuple[bytes, bytes]
    gateways: list[Gateway] = field(default_factory=list)

    def signed(self, toml: bytes, *signers: bytes) -> bytes:
        return wire.seal_policy(toml, [(f"s{n}", key) for n, key in enumerate(signers or (self.steward[0],))])

    def gateway(
        self, name: str = "gw-plaza", site: str = "plaza", quartier: str = "centre", published: bool = True
    ) -> Gateway:
        toml = policy_text(site)
        folder = self.folder / name
        gateways.enrol_local(
            self.archive,
            self.config,
            folder,
            gateway=name,
            site=site,
            quartier=quartier,
            stewards=[self.steward[1]],
            policies=[self.signed(toml)] if published else [],
        )
        secret = bytes.fromhex((folder / "data" / "record.key").read_text())
        return Gateway(name, quartier, site, secret, toml)

    def accept(self, topic: str, payload: bytes) -> Word:
        return self.intake.accept(topic, payload)

    def refused(self) -> dict[str, int]:
        counted: dict[str, int] = self.archive.counts()["refused"]
        return counted

    def content(self) -> tuple[object, ...]:
        """What the archive holds, whatever the order in which it came."""
        messages = [
            (m.gateway, m.seq, m.hash, m.previous, m.disposition, m.reason, m.nodes, m.sealed)
            for line in self.archive.enrolments()
            for m in self.archive.messages(line.gateway)
        ]
        nodes = [(s.stream, self.archive.outcomes(s.stream, 0, 1 << 40)) for s in self.archive.streams()]
        totals = [self.archive.totals(line.gateway) for line in self.archive.enrolments()]
        return messages, nodes, totals, self.archive.conflicts()


def _make_centre(folder: Path, port: int = 1883, mqtt: int = 5) -> Centre:
    path = folder / "ingest.toml"
    path.write_text(f'data_dir = "centre"\n[broker]\nport = {port}\nmqtt = {mqtt}\n')
    config = load(path)
    config.data_dir.mkdir(exist_ok=True)
    archive = Archive.open(config.archive)
    return Centre(
        folder, config, archive, Intake(archive, RuleBook(archive)), centre_key(config.data_dir), wire.new_key()
    )


@pytest.fixture(scope="session")
def make_centre() -> Callable[..., Centre]:
    """Makes a centre in an existing folder: `make_centre(folder, port=…, mqtt=…)`; whoever asks closes its archive."""
    return _make_centre


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    """One centre in the test's own folder."""
    centre = _make_centre(tmp_path)
    yield centre
    centre.archive.close()
