"""The allowance of a metered line: no day costs more, however often `send` starts."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_edge import outbox
from murmure_edge.allowance import Allowance, cost_bytes
from murmure_edge.config import Broker
from murmure_edge.send import PostOffice, SentLog
from murmure_edge.uplink import WINDOW, Acknowledged, Event, Topics, Uplink, UplinkLost

DAY_S = 86_400
LEAST = 50_000
TOPICS = Topics.of("centre", "gw-plaza")


@dataclass
class Meter:
    """What goes over the line, and when, in a time that the test tells."""

    now_s: float = 1000.0
    gone: list[tuple[float, int]] = field(default_factory=list)

    def most_in_a_day(self) -> int:
        """The largest sum of any 24 hours, which begins or ends with a publication."""
        return max((sum(n for at, n in self.gone if 0 <= at - first < DAY_S) for first, _ in self.gone), default=0)


moments = st.lists(
    st.tuples(st.sampled_from(["take", "take", "take", "restart"]), st.integers(1, 6000), st.integers(0, 40_000)),
    max_size=120,
)


@given(moments, st.integers(LEAST, 10 * LEAST))
def test_no_24_hours_carry_more_than_the_allowance(moments: list[tuple[str, int, int]], limit: int) -> None:
    """Whatever is asked for, whenever, and however often everything is forgotten in between."""
    meter = Meter()
    allowance = Allowance(limit, lambda: meter.now_s)
    for what, size, pause_s in moments:
        meter.now_s += pause_s
        if what == "restart":
            allowance = Allowance(limit, lambda: meter.now_s)
        elif allowance.take(size):
            meter.gone.append((meter.now_s, size))
    assert meter.most_in_a_day() <= limit


def test_a_bucket_that_a_start_fills_is_found_out() -> None:
    """The twin: one that begins full carries more with each restart, and the meter sees it."""
    meter = Meter()
    for _ in range(20):
        full = Allowance(LEAST, lambda: meter.now_s)
        full._left = full._full
        while full.take(1000):
            meter.gone.append((meter.now_s, 1000))
        meter.now_s += 3600
    assert meter.most_in_a_day() > LEAST


def test_a_day_of_asking_gets_nearly_all_of_it() -> None:
    """What is asked for all day long is carried to nine tenths at least; without a limit all of it is, at once."""
    meter = Meter()
    allowance = Allowance(LEAST, lambda: meter.now_s)
    for _ in range(2 * DAY_S // 60):
        meter.now_s += 60
        if allowance.take(1500):
            meter.gone.append((meter.now_s, 1500))
    assert 0.8 * LEAST < meter.most_in_a_day() <= LEAST
    unlimited = Allowance(0, lambda: meter.now_s)
    assert all(unlimited.take(10**9) for _ in range(10))


def test_the_least_allowance_carries_the_largest_message() -> None:
    """A bucket that could never hold it would stop the queue for good."""
    topic = f"murmure/v1/{'q' * 40}/{'g' * 40}/release"
    now = [0.0]
    allowance = Allowance(LEAST, lambda: now[0])
    now[0] = DAY_S
    assert allowance.take(cost_bytes(topic, 4096))


@pytest.mark.parametrize(("size", "packets"), [(0, 1), (1000, 1), (1400, 2), (4096, 3)])
def test_heads_of_packets_are_counted(size: int, packets: int) -> None:
    """The estimate grows with the packets that a message needs: headers are a third of a small one."""
    assert cost_bytes("t", size) == size + 1 + 60 + 72 * packets + 72


# --- in `send` -------------------------------------------------------------------------------------------------------


class Line:
    """A broker that acknowledges everything at once; each turn takes a minute. It ends when its time is over."""

    def __init__(self, meter: Meter, until_s: float) -> None:
        self.meter, self.until_s = meter, until_s
        self.releases: list[tuple[float, bytes]] = []
        self.health: list[bytes] = []
        self._events: list[Event] = []
        self._token = 0

    def publish(self, topic: str, payload: bytes) -> int:
        self._token += 1
        self.meter.gone.append((self.meter.now_s, cost_bytes(topic, len(payload))))
        if topic == TOPICS.health:
            self.health.append(payload)
        else:
            self.releases.append((self.meter.now_s, payload))
        self._events.append(Acknowledged(self._token, None))
        return self._token

    def turn(self, timeout_s: float) -> list[Event]:
        events, self._events = self._events, []
        self.meter.now_s += 60
        if self.meter.now_s > self.until_s:
            raise UplinkLost("the test is over")
        return events


@pytest.fixture
def carried(gateway: Any, tmp_path: Path) -> Callable[..., Line]:
    """carried(meter, limit, hours) -> what a `send` that starts then carries over one connection."""

    def run(meter: Meter, limit: int, hours: float, kind: type[Line] = Line) -> Line:
        config = replace(gateway.config, broker=Broker("h", 1883, 5, 60, 1, 7 * DAY_S, bytes_per_day=limit))
        line = kind(meter, meter.now_s + hours * 3600)
        with closing(SentLog(tmp_path, pytest.fail)) as log, pytest.raises(UplinkLost, match="over"):
            office = PostOffice(config, TOPICS, log, lambda: int(meter.now_s), lambda: meter.now_s, pytest.fail)
            office.serve(cast(Uplink, line), threading.Event())
        return line

    return run


def messages(gateway: Any, count: int, size: int = 1200) -> list[bytes]:
    made = [b"%06d" % seq + bytes(size - 6) for seq in range(1, count + 1)]
    for seq, sealed in enumerate(made, 1):
        outbox.materialise(gateway.config.outbox, seq, sealed)
    return made


def test_a_backlog_goes_oldest_first_within_the_allowance(gateway: Any, carried: Callable[..., Line]) -> None:
    """Two hundred waiting messages on 100 kB a day: in their order, evenly, never more than a day may cost."""
    waiting = messages(gateway, 200)
    meter = Meter()
    line = carried(meter, 100_000, 60)
    sent = [sealed for _, sealed in line.releases]
    assert sent == waiting[: len(sent)]
    assert 0.8 * 100_000 < meter.most_in_a_day() <= 100_000
    assert max(later - sooner for (sooner, _), (later, _) in zip(line.releases, line.releases[1:], strict=False)) < 3600


def test_restarts_carry_no_more_and_forget_no_order(gateway: Any, carried: Callable[..., Line]) -> None:
    """With a power cut every seven hours the days cost no more, and each start goes on with the oldest not yet sent."""
    waiting = messages(gateway, 200)
    meter, sent = Meter(), list[bytes]()
    for _ in range(10):
        sent += [sealed for _, sealed in carried(meter, 100_000, 7).releases]
    assert len(sent) > 100 and list(dict.fromkeys(sent)) == waiting[: len(set(sent))]
    assert meter.most_in_a_day() <= 100_000


def test_without_a_limit_everything_goes_at_once(gateway: Any, carried: Callable[..., Line]) -> None:
    """No allowance, no wait: as many as may be in flight in each turn."""
    waiting = messages(gateway, 3 * WINDOW)
    line = carried(Meter(), 0, 0.1)
    assert [sealed for _, sealed in line.releases] == waiting


def test_health_goes_first_and_then_after_releases(gateway: Any, carried: Callable[..., Line]) -> None:
    """Over each connection a report goes before all releases, and costs as much as anything else. The next one waits
    until the releases are through, or until an eighth of the allowance has come together for it."""
    box = outbox.Outbox(gateway.config.outbox, pytest.fail, lambda _: None)
    box.put_health(b"h" * 350)
    messages(gateway, 60)
    meter = Meter()
    line = carried(meter, 60_000, 20)
    assert line.health == [b"h" * 350] and 0 < len(line.releases) < 60
    assert meter.gone[0][1] == cost_bytes(TOPICS.health, 350), "before every release"
    for seq in range(1, 61):
        outbox.remove(gateway.config.outbox, seq)
    box.put_health(b"i" * 350)
    line = carried(meter, 60_000, 1)
    assert line.health == [b"i" * 350] and line.releases == []
    assert meter.most_in_a_day() <= 60_000


@pytest.mark.parametrize(("limit", "size"), [(50_000, 700), (100_000, 700), (50_000, 200)])
def test_a_backlog_that_is_never_settled_does_not_keep_health_back(
    gateway: Any, carried: Callable[..., Line], limit: int, size: int
) -> None:
    """What says to the centre which log the gateway knows: without it no receipt may be believed, nothing be settled,
    and all of the allowance go to the same messages again, for good. Reports, each quarter-hour another one, take an
    eighth of the allowance and no more, however small the releases are."""
    messages(gateway, 400, size)
    renewed = itertools.count()

    class Reporting(Line):
        def turn(self, timeout_s: float) -> list[Event]:
            if int(self.meter.now_s) // 900 != int(self.meter.now_s - 60) // 900:
                outbox.Outbox(gateway.config.outbox, pytest.fail, lambda _: None).put_health(
                    b"%08d" % next(renewed) + bytes(340)
                )
            return super().turn(timeout_s)

    meter = Meter()
    line = carried(meter, limit, 72, Reporting)
    cost = cost_bytes(TOPICS.health, 348)
    assert 0.6 * 3 * limit / 8 < len(line.health) * cost < 3 * limit / 8 + 2 * cost
    assert len(line.releases) * cost_bytes(TOPICS.release, size) > 0.7 * 3 * limit
    assert 0.8 * limit < meter.most_in_a_day() <= limit
