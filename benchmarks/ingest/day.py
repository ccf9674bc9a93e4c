"""A day of a region through a real broker: every quarter-hour all gateways speak at once, and the centre keeps up.

Time is pressed together: the next quarter-hour begins as soon as the one before is filed, so that what is measured is
how long the centre is behind after each burst. All gateways speak in the same instant here, which is the worst case.
Each sends a health report with every quarter-hour, as in `card_wear.py`.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from murmure_privacy.release import Health
from murmure_privacy.window import QUARTER_S
from murmure_privacy.wire import seal_health

from .broker import mosquitto, reserve
from .drains import PATIENCE_S, centre, settings
from .fleet import MIDNIGHT_S, Gateway, Sealer, lay_out
from .mqtt import Client

QUARTERS = 96


@dataclass(frozen=True, slots=True)
class Day:
    """How a day went. `behind_s`: from the last message of a burst at the broker to the commit of the last one."""

    messages: int
    nodes: int
    seconds: float
    behind_s: list[float]

    def __str__(self) -> str:
        worst, middle = max(self.behind_s), statistics.median(self.behind_s)
        return (
            f"{self.messages} messages and as many health reports, {self.nodes} nodes, in {self.seconds:.0f} s; "
            f"after a burst the centre is behind for {middle:.2f} s (worst {worst:.2f} s), "
            f"{worst / QUARTER_S:.4f} of the quarter-hour until the next"
        )


def play(gateways: list[Gateway], folder: Path, quarters: int = QUARTERS) -> Day:
    """Plays the first `quarters` of a day."""
    lay_out(folder / "laid-out", gateways)  # makes the folder too
    (folder / "day").mkdir()
    sealer, behind_s, messages, nodes, seconds = Sealer(gateways), list[float](), 0, 0, 0.0
    with mosquitto(folder) as port:
        reserve(port, "day")
        config = settings(folder / "day", folder / "laid-out", port, "day")
        with centre(config):
            client = Client(port, "all-gateways")
            reader = sqlite3.connect(f"file:{folder}/day/centre/archive.db?mode=ro", uri=True, timeout=10)
            for quarter in range(1, quarters + 1):
                closing_s = MIDNIGHT_S + QUARTER_S * quarter
                arrivals, count = sealer.closing(closing_s)
                arrivals += [_health(gateway, closing_s, quarter) for gateway in gateways]
                messages, nodes = messages + len(gateways), nodes + count
                began_s = time.monotonic()
                client.publish(arrivals)
                sent_s = time.monotonic()
                _wait(reader, messages)
                filed_s = time.monotonic()
                behind_s.append(filed_s - sent_s)
                seconds += filed_s - began_s
            client.close()
    return Day(messages, nodes, seconds, behind_s)


def _health(gateway: Gateway, at_s: int, quarter: int) -> tuple[str, bytes]:
    ports = (("beam", "ok"), ("meter", "ok"), ("dust", "ok"))
    report = Health(gateway.name, gateway.quartier, at_s, 900 * quarter, 1, "murmure 0.1.0", ports, 0, "ok", 25, 1024)
    return gateway.topic.replace("release", "health"), seal_health(report, gateway.secret)


def _wait(reader: sqlite3.Connection, messages: int) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        if reader.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()[0] >= messages:
            return
        time.sleep(0.005)
    raise TimeoutError("the centre did not keep up")
