"""Health: an allow-list in coarse steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_edge import health
from murmure_edge.health import Sources, is_due, storage_step_mb, temperature_step_c
from murmure_privacy import wire
from murmure_privacy.release import Health

SOURCES = Sources(lambda: 47_300, lambda: 29_999_000_000, "murmure 0.1.0")
FIELDS: dict[str, Any] = {
    "at_s": 1_763_740_123,
    "uptime_s": 3_671,
    "boot": 4,
    "ports": {"noise": "stalled", "beam": "ok"},
    "outbox_depth": 3,
    "clock": "ok",
    "log": 18_304,
}


def test_a_report_is_the_allow_list_in_steps(gateway):
    """Every field is on the list, times and sizes are rounded, ports are in order of their names."""
    report = health.report(gateway.trust, SOURCES, **FIELDS)
    assert report == Health(
        gateway="gw-plaza",
        quartier="centre",
        at_s=1_763_739_900,
        uptime_s=3_660,
        boot=4,
        software="murmure 0.1.0",
        ports=(("beam", "ok"), ("noise", "stalled")),
        outbox_depth=3,
        clock="ok",
        temperature_c=45,
        free_storage_mb=16_384,
        log=18_304,
    )


def test_a_report_goes_over_the_wire_and_back(gateway):
    """What is reported can be sealed and opened."""
    secret, public = wire.new_key()
    report = health.report(gateway.trust, SOURCES, **FIELDS)
    assert wire.open_health(wire.seal_health(report, secret), public) == report


@pytest.mark.parametrize("wrong", [{"clock": "late"}, {"ports": {"beam": "12 people"}}])
def test_what_is_not_listed_does_not_leave(gateway, wrong: dict[str, Any]):
    """A state that is on no list is a defect, not a message."""
    with pytest.raises(ValueError, match="no state"):
        health.report(gateway.trust, SOURCES, **(FIELDS | wrong))


@given(st.integers(-60_000, 150_000))
def test_temperature_comes_in_steps_of_five(milli_c: int):
    """Never above what it is, less than a step below."""
    step_c = temperature_step_c(milli_c)
    assert step_c is not None and step_c % 5 == 0 and 0 <= milli_c - 1000 * step_c < 5000


def test_no_thermometer_is_no_temperature(gateway, tmp_path: Path):
    """Absent, unreadable or absurd: the field stays empty."""
    assert temperature_step_c(None) is temperature_step_c(10**7) is temperature_step_c(-(10**7)) is None
    assert health.read_temperature(tmp_path / "absent") is None
    (tmp_path / "temp").write_text("warm")
    assert health.read_temperature(tmp_path / "temp") is None
    (tmp_path / "temp").write_text("52300\n")
    assert health.read_temperature(tmp_path / "temp") == 52_300


@given(st.integers(0, 1 << 60))
def test_free_storage_comes_in_powers_of_two(free: int):
    """Rounded down to a power of two of megabytes, 0 below one."""
    step_mb = storage_step_mb(free)
    if free < 1_000_000:
        assert step_mb == 0
    else:
        assert step_mb.bit_count() == 1 and step_mb <= free / 1_000_000 < 2 * step_mb + 2


def test_the_board_answers(tmp_path: Path):
    """The sources of this machine give numbers; a disk that is not there has no room."""
    board = health.board(tmp_path)
    assert board.free_bytes() > 0 and board.software.startswith("murmure")
    milli_c = board.temperature_milli_c()
    assert milli_c is None or milli_c > -60_000
    assert health.free_bytes(tmp_path / "absent") == 0


@given(st.integers(0, 1 << 40), st.integers(0, 3000))
def test_a_report_is_due_once_a_quarter_hour(last_s: int, later_s: int):
    """At the first turn, and then whenever another quarter-hour has begun."""
    assert is_due(last_s, None)
    assert is_due(last_s + later_s, last_s) == ((last_s + later_s) // 900 != last_s // 900)
