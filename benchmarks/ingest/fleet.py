"""Thousands of gateways that never were: their keys, policies and sealed messages, the same in every run.

Policies are the demo's (three streams a gateway: footfall at four levels, noise and fine dust by the hour and the day),
messages are sealed by the kernel with real plans and widths. Only the released integers are made up: nobody reads them
on the way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from murmure.city import policy_toml
from murmure_ingest.archive import Archive, Enrolment, StoredPolicy
from murmure_ingest.receipts import write_secret
from murmure_privacy import wire
from murmure_privacy.plan import Plan, plan
from murmure_privacy.policy import parse
from murmure_privacy.release import Message, Node, Noised, Outcome, Release
from murmure_privacy.window import QUARTER_S, Calendar, parse_utc

QUANTITIES = ("footfall", "noise", "pm2_5")
POLICY_FROM = date(2026, 11, 1)
MIDNIGHT_S = parse_utc("2026-11-22T23:00:00Z")  # in Paris, a Monday's
QUARTIERS = 8
CENTRE_SECRET = hashlib.sha256(b"centre").digest()


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway, its site and what it was told to publish."""

    name: str
    quartier: str
    site: str
    secret: bytes
    toml: bytes
    plan: Plan

    @property
    def topic(self) -> str:
        """Returns where it publishes."""
        return f"murmure/v1/{self.quartier}/{self.name}/release"

    @property
    def enrolment(self) -> Enrolment:
        """Returns its line of the register."""
        steward = wire.public_key(_secret("steward"))
        return Enrolment(self.name, self.quartier, self.site, wire.public_key(self.secret), (steward,), 1)


@dataclass(frozen=True, slots=True)
class Load:
    """What waits at the broker, in the order of publication: (topic, payload), and how many nodes it carries."""

    arrivals: list[tuple[str, bytes]]
    nodes: int
    last_seq: dict[str, int]

    @property
    def mean_bytes(self) -> float:
        """Returns the mean length of a payload."""
        return sum(len(payload) for _, payload in self.arrivals) / len(self.arrivals)


def _secret(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def fleet(count: int) -> list[Gateway]:
    """Returns `count` gateways, each at its own site, dealt to the quartiers in turn."""
    found = []
    for number in range(count):
        name, site = f"gw-{number:05d}", f"site-{number:05d}"
        toml = policy_toml(site, POLICY_FROM, QUANTITIES)
        found.append(
            Gateway(name, f"quartier-{number % QUARTIERS}", site, _secret(name), toml, plan(parse(toml, "policy")))
        )
    return found


def lay_out(folder: Path, gateways: list[Gateway]) -> None:
    """Makes a centre's data folder whose register and policies are those of the gateways."""
    folder.mkdir(parents=True)
    write_secret(folder / "centre.key", CENTRE_SECRET)
    archive = Archive.open(folder / "archive.db")
    with archive.transaction():
        for gateway in gateways:
            archive.enrol(gateway.enrolment)
            sealed = wire.seal_policy(gateway.toml, [("steward", _secret("steward"))])
            archive.put_policy(StoredPolicy(wire.digest(gateway.toml), gateway.site, 1, gateway.toml, sealed))
    archive.close()


def outcomes(plan: Plan, calendar: Calendar, closing_s: int) -> tuple[Outcome, ...]:
    """Returns every node that closes at an instant."""
    found: list[Outcome] = []
    for stream in plan.streams.values():
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
                policy=plan.policy.hash,
            )
            noised = tuple(
                Noised(i.indicator, tuple(range(100, 100 + i.width)), i.sigma_milli, i.rho_micro)
                for i in level.indicators
            )
            found.append(Release(node, noised))
    return tuple(found)


class Sealer:
    """Seals what a fleet says, closing instant after closing instant, each gateway in its own sequence."""

    def __init__(self, gateways: list[Gateway], *, one_node: bool = False) -> None:
        self._gateways, self._one_node = gateways, one_node
        self._calendar = Calendar(gateways[0].plan.policy.timezone)
        self._seq = dict.fromkeys((gateway.name for gateway in gateways), 0)
        self._previous = dict.fromkeys(self._seq, wire.FIRST_PREVIOUS)

    def messages(self, closing_s: int) -> Iterator[tuple[Message, bytes]]:
        """Yields what is said at one closing instant, and its sealed bytes."""
        for gateway in self._gateways:
            due = outcomes(gateway.plan, self._calendar, closing_s)
            for part in [(outcome,) for outcome in due] if self._one_node else [due]:
                yield self._seal(gateway, closing_s, part)

    def closing(self, closing_s: int) -> tuple[list[tuple[str, bytes]], int]:
        """Returns the (topic, payload) pairs of one closing instant, and how many nodes they carry."""
        said = list(self.messages(closing_s))
        topics = {gateway.name: gateway.topic for gateway in self._gateways}
        nodes = sum(len(message.outcomes) for message, _ in said)
        return [(topics[message.gateway], sealed) for message, sealed in said], nodes

    def load(self, messages: int, first_s: int) -> Load:
        """Returns at least `messages` messages of whole closing instants, the first at `first_s`."""
        arrivals: list[tuple[str, bytes]] = []
        nodes, closing_s = 0, first_s
        while len(arrivals) < messages:
            more, count = self.closing(closing_s)
            arrivals += more
            nodes += count
            closing_s += QUARTER_S
        return Load(arrivals, nodes, dict(self._seq))

    def _seal(self, gateway: Gateway, closing_s: int, due: tuple[Outcome, ...]) -> tuple[Message, bytes]:
        name = gateway.name
        self._seq[name] += 1
        message = Message(
            gateway=name,
            quartier=gateway.quartier,
            site=gateway.site,
            boot=1,
            seq=self._seq[name],
            previous=self._previous[name],
            closing_s=closing_s,
            outcomes=due,
        )
        sealed = wire.seal_message(message, gateway.secret)
        self._previous[name] = wire.digest(sealed)
        return message, sealed
