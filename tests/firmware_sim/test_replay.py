"""A recording is played as it is: every count, every hole."""

from __future__ import annotations

import gzip
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import pytest
from murmure_firmware_sim.devices.tfluna import TfLuna
from murmure_firmware_sim.errors import SimError
from murmure_firmware_sim.replay import (
    Replay,
    Series,
    choose_series,
    ignored_metrics,
    load,
    parse_instant_ms,
    shift_days,
    whole_days,
)

HEADER = "timestamp_utc,site,metric,value,unit\n"
T0_MS = 1_794_614_400_000  # 2026-11-14T00:00:00Z
MINUTE = T0_MS // 60_000
PARIS = ZoneInfo("Europe/Paris")


def stamp(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def recording(path: Path, *rows: tuple[int, str, float], site: str = "here") -> Path:
    """Writes rows (ms after T0, metric, value)."""
    lines = (f"{stamp(T0_MS + after_ms)},{site},{metric},{value:g},u\n" for after_ms, metric, value in rows)
    path.write_text(HEADER + "".join(lines))
    return path


def counted(replay: Replay, first_minute: int, minutes: int) -> int:
    return sum(len(replay.dip_slots(minute)) for minute in range(first_minute, first_minute + minutes))


def test_every_recorded_crossing_is_one_dip_in_its_interval(tmp_path: Path) -> None:
    """In and out of each quarter-hour are added, and that many dips fall inside it."""
    draw = Random(5)
    rows = [(q * 900_000, metric, draw.randrange(400)) for q in range(24) for metric in ("in", "out")]
    file = recording(tmp_path / "r.csv", *rows)
    replay = Replay(Series(file, "here", ("in", "out")), seed=1)
    for q in range(24):
        expected = sum(value for after_ms, _, value in rows if after_ms == q * 900_000)
        assert expected == counted(replay, MINUTE + 15 * q, 15)
    assert replay.over_capacity == 0


def test_the_wire_shows_exactly_the_recorded_counts(tmp_path: Path) -> None:
    """Through the beam at 10 Hz, two low frames a crossing, none lost, none joined."""
    file = recording(tmp_path / "r.csv", *[(m * 300_000, "pedestrians", 7 * m) for m in range(12)])
    sensor = TfLuna(Replay(Series(file, "here", ("pedestrians",)), seed=2))
    sensor.seek(T0_MS)
    said = b"".join(piece for piece, _ in sensor.advance(T0_MS + 3_600_000 - 1))
    low = [int.from_bytes(said[at + 2 : at + 4], "little") < 144 for at in range(0, len(said), 9)]
    begun = sum(now and not before for before, now in zip([False, *low], low, strict=False))
    assert sum(7 * m for m in range(12)) == begun == sensor.crossings


def test_what_the_beam_cannot_show_is_counted(tmp_path: Path) -> None:
    """A minute has 150 slots; 160 people leave 10 over."""
    file = recording(tmp_path / "r.csv", (0, "pedestrians", 160), (60_000, "pedestrians", 3))
    replay = Replay(Series(file, "here", ("pedestrians",)))
    assert counted(replay, MINUTE, 1) == 150
    assert counted(replay, MINUTE + 1, 1) == 3
    assert replay.over_capacity == 10


def test_coarse_row_is_spread_over_its_interval(tmp_path: Path) -> None:
    """An hourly count falls into most of the hour's quarter-hours, and all of it inside."""
    file = recording(tmp_path / "r.csv", (0, "pedestrians", 400), (3_600_000, "pedestrians", 0))
    replay = Replay(Series(file, "here", ("pedestrians",)))
    quarters = [counted(replay, MINUTE + 15 * q, 15) for q in range(4)]
    assert sum(quarters) == 400
    assert min(quarters) > 60


def test_minutes_asked_in_any_order_are_the_same(tmp_path: Path) -> None:
    """A replay is a function of (seed, minute)."""
    file = recording(tmp_path / "r.csv", *[(m * 60_000, "bicycles", m % 9) for m in range(120)])
    series = Series(file, "here", ("bicycles",))
    forward, backward = Replay(series, 4), Replay(series, 4)
    there = [forward.dip_slots(MINUTE + m) for m in range(120)]
    back = [backward.dip_slots(MINUTE + m) for m in reversed(range(120))]
    assert there == back[::-1]
    assert there != [Replay(series, 5).dip_slots(MINUTE + m) for m in range(120)]


def test_level_is_held_for_one_and_a_half_median_steps_and_then_a_hole(tmp_path: Path) -> None:
    """A level lasts until the next row or 1.5 steps; after that nothing is known."""
    rows = [(m * 60_000, "laeq_1min", 50 + m) for m in (0, 1, 2, 3, 6)]
    replay = Replay(Series(recording(tmp_path / "r.csv", *rows), "here", ("laeq_1min",)))
    levels = [level for m in range(8) for level in replay.level_tenths(MINUTE + m)]
    assert levels[:270] == [500] * 60 + [510] * 60 + [520] * 60 + [530] * 90
    assert levels[270:360] == [None] * 90
    assert levels[360:420] == [560] * 60


def test_only_what_the_device_cannot_say_is_clipped(tmp_path: Path) -> None:
    """SDS011: 0 to 999.9 in steps of 0.1; a recorded PM2.5 above PM10 stays."""
    rows = [(0, "pm2_5", -3), (0, "pm10", 1361), (60_000, "pm2_5", 20.04), (60_000, "pm10", 7.26)]
    replay = Replay(Series(recording(tmp_path / "r.csv", *rows), "here", ("pm2_5", "pm10")))
    assert replay.pm_tenths(MINUTE)[0] == (0, 9999)
    assert replay.pm_tenths(MINUTE + 1)[0] == (200, 73)


def test_days_are_moved_by_the_local_calendar_also_over_a_clock_change(tmp_path: Path) -> None:
    """Local midnight falls on local midnight; a 25-hour day ends in a hole, a 23-hour day loses its last hour."""
    rows = [(h * 3_600_000, "laeq_1h", 40) for h in range(24 * 8)]
    series = Series(recording(tmp_path / "r.csv", *rows), "here", ("laeq_1h",))
    for last_day, lengths_h in ((date(2026, 10, 26), [24, 24, 24]), (date(2026, 3, 30), [24, 23, 24])):
        table = shift_days(series, 3, last_day)
        assert lengths_h == [(end - start) // 3_600_000 for start, end, _ in table]
        for (start, _, shown), back in zip(table, (2, 1, 0), strict=True):
            for instant in (start, shown):
                assert datetime.fromtimestamp(instant / 1000, PARIS).timetuple()[3:5] == (0, 0)
            shown_day = datetime.fromtimestamp(shown / 1000, PARIS).date()
            assert last_day.toordinal() - back == shown_day.toordinal()
    autumn = shift_days(series, 2, date(2026, 10, 25))
    replay = Replay(series, days=autumn)
    last_hour_ms = int(datetime(2026, 10, 25, 23, 30, tzinfo=PARIS).timestamp()) * 1000
    assert list(replay.level_tenths(last_hour_ms // 60_000)) == [None] * 60
    assert list(replay.level_tenths(last_hour_ms // 60_000 - 60)) == [400] * 60


def test_series_with_enough_whole_days_come_first_then_by_name(tmp_path: Path) -> None:
    """The choice is by whole local days, then by the site's name; unknown metrics make no series."""
    recording(tmp_path / "a.csv", *[(h * 3_600_000, "laeq_1h", 50) for h in range(30)], site="b-short")
    recording(tmp_path / "b.csv", *[(h * 3_600_000, "laeq_1h", 50) for h in range(80)], site="z-long")
    recording(tmp_path / "c.csv", *[(h * 3_600_000, "laeq_1h", 50) for h in range(80)], site="m-long")
    recording(tmp_path / "d.csv", (0, "co2", 400), site="a-other")
    assert [series.site for series in choose_series(tmp_path, "noise", 2)] == ["m-long", "z-long", "b-short"]
    assert [series.site for series in choose_series(tmp_path, "noise", 0)] == ["b-short", "m-long", "z-long"]
    assert [(tmp_path / "d.csv", "a-other", "co2")] == ignored_metrics(tmp_path)
    assert whole_days(choose_series(tmp_path, "noise", 2)[0]) == 2


@pytest.mark.shared
def test_real_recordings_are_chosen_and_played_to_the_last_count(shared: Path) -> None:
    """Of a real station-hall recording the first two local days are shown, count by count."""
    series = choose_series(shared / "data", "footfall", 7)
    assert all(whole_days(each) >= 7 for each in series)
    zurich = next(each for each in series if each.site == "zurich-hardbruecke-ost-nord")
    assert zurich.metrics == ("in", "out")
    table = shift_days(zurich, 2, date(2026, 11, 20))
    replay = Replay(zurich, 9, table)
    rows = load(zurich.file)
    expected = sum(
        int(value)
        for metric in zurich.metrics
        for time_ms, value in zip(*(getattr(rows[zurich.site, metric], k) for k in ("times_ms", "values")), strict=True)
        if table[0][0] <= time_ms < table[-1][1]
    )
    shown = counted(replay, replay.start_ms // 60_000, 2 * 1440)
    assert expected == shown + replay.over_capacity
    assert expected > 3000
    for quantity, first in (("noise", "dublin-ballymun"), ("air", "aberdeen-sds011-a")):
        assert first == choose_series(shared / "data", quantity, 7)[0].site


def test_instants_are_exact_to_the_millisecond() -> None:
    """A tenth of a second is not rounded through a float."""
    assert parse_instant_ms("2022-04-28T07:04:35.7Z") == 1_651_129_475_700
    for wrong in ("2022-04-28T07:04:35", "2022-04-28", "", "x"):
        with pytest.raises(ValueError):
            parse_instant_ms(wrong)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"time,value\n1,2\n", "line 1"),
        (HEADER.encode() + b"2026-11-14T00:00:00Z,here,in,many,u\n", "line 2"),
        (HEADER.encode() + b"2026-11-14T00:00:00,here,in,1,u\n", "line 2"),
        (HEADER.encode() + b"2026-11-14T00:00:00Z,here,in,nan,u\n", "line 2"),
        (b"\xff\xfe\x00", "bytes: are not UTF-8 text; save it as UTF-8"),
        (HEADER.encode() + b"\n2026-11-14T00:00:00Z,here,in,x,u\n", "line 3"),
        (HEADER.encode() + b"2026-11-14T00:00:00Z,here,in,1_0,u\n", "line 2"),
        (HEADER.encode() + b"0001-01-01T00:00:00Z,here,in,1,u\n", "line 2"),
        (HEADER.encode() + b"9999-12-31T23:59:59Z,here,in,1,u\n", "line 2"),
        (HEADER.encode() + b"2026-11-14T00:00:00Z,here,in,-1,u\n", "line 2: the value -1 is no count"),
        (HEADER.encode() + b"2026-11-14T00:00:00Z,here,in,1e7,u\n", "line 2: the value 1e.07 is no count"),
        (
            HEADER.encode() + b"2026-11-14T00:00:00Z,here,in,1,u\n2026-11-14T00:00:00Z,here,in,2,u\n",
            "line 3: another row has the same instant and another value; leave one of the two out",
        ),
    ],
)
def test_wrong_recording_is_one_line_with_the_place_and_the_mend(tmp_path: Path, content: bytes, said: str) -> None:
    """File, line, what is wrong, what to write instead."""
    file = tmp_path / "r.csv"
    file.write_bytes(content)
    with pytest.raises(SimError, match=said) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_how_a_recording_was_saved_changes_no_count(tmp_path: Path) -> None:
    """Line ends, byte order mark, blank lines, zipped under any name; rows that stand there twice are played once."""
    file = tmp_path / "r.csv"
    rows = "".join(f"{stamp(T0_MS + m * 300_000)},here,{name},{m + 1},u\n" for m in range(6) for name in ("in", "out"))
    text = HEADER + rows
    for content in (
        text.encode(),
        text.replace("\n", "\r\n").encode(),
        text.encode("utf-8-sig"),
        text.replace("\n", "\n\n").encode(),
        (text + rows).encode(),
        gzip.compress(text.encode()),
    ):
        file.write_bytes(content)
        load.cache_clear()
        assert counted(Replay(Series(file, "here", ("in", "out"))), MINUTE, 30) == 42


def test_cut_gzip_is_one_line(tmp_path: Path) -> None:
    """Half a download says so."""
    file = tmp_path / "r.csv.gz"
    file.write_bytes(gzip.compress((HEADER + "2026-11-14T00:00:00Z,here,in,1,u\n" * 500).encode())[:60])
    with pytest.raises(SimError, match="no CSV"):
        load(file)


def test_missing_site_names_what_was_looked_for(tmp_path: Path) -> None:
    """A site that the file has not is refused."""
    file = recording(tmp_path / "r.csv", (0, "in", 1))
    with pytest.raises(SimError, match="holds no in or out of there"):
        Replay(Series(file, "there", ("in", "out")))
