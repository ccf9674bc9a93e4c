"""Gateways that seal what a real one would, with the real policy, plan and wire (fixture `releases`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from murmure_privacy import wire
from murmure_privacy.plan import Plan, plan
from murmure_privacy.policy import parse
from murmure_privacy.release import Health, Message, Node, Noised, Outcome, Release, Withheld
from murmure_privacy.window import QUARTER_S, Calendar

MONDAY_S = 1_795_392_000  # 2026-11-23 00:00 UTC


@cache
def _planned(toml: bytes) -> tuple[Plan, Calendar]:
    parsed = parse(toml, "test")
    return plan(parsed), Calendar(parsed.timezone)


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
        planned, calendar = _planned(self.policy)
        found: list[Outcome] = []
        for stream in planned.streams.values():
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
                    policy=planned.policy.hash,
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
