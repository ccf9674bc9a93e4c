"""Recordings that others made: any file is read, or refused with one line."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from murmure_privacy import recording
from murmure_privacy.errors import ConfigError
from murmure_privacy.policy import Policy

Write = Callable[..., Policy]
HEADER = "timestamp_utc,site,metric,value,unit"
GOOD = f"{HEADER}\n2026-03-01T23:00:00Z,gate,pedestrians,1,u\n".encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "line 1: not the header of a recording; write timestamp_utc,"),
        (b"time,value\n1,2\n", "line 1: not the header"),
        (HEADER.encode() + b"\n", "file: no rows; "),
        (GOOD + b"2026-03-01T23:05:00,gate,pedestrians,1,u\n", "line 3: time without Z; "),
        (GOOD + b"yesterdayZ,gate,pedestrians,1,u\n", "line 3: "),
        (GOOD + b"2026-03-01T23:05:00Z,gate,pedestrians,many,u\n", "line 3: "),
        (GOOD + b"2026-03-01T23:05:00Z,gate,pedestrians,nan,u\n", "line 3: value 'nan' is not a number; "),
        (GOOD + b"2026-03-01T23:05:00Z,gate,pedestrians,inf,u\n", "line 3: value 'inf' is not a number; "),
        (GOOD + b"9999-12-31T23:59:59Z,gate,pedestrians,1,u\n", "line 3: the year 9999 is not one of a recording; "),
        (GOOD + b"0001-01-01T00:00:00Z,gate,pedestrians,1,u\n", "line 3: the year 1 is not one of a recording; "),
        (GOOD + b"2026-03-01T23:05:00Z,gate,pedestrians\n", "line 3: "),
        (GOOD + b"\xff\xfe,gate,pedestrians,1,u\n", "file: is not UTF-8 text; save it as UTF-8"),
        (GOOD.decode().encode("utf-16"), "file: is not UTF-8 text; "),
        (GOOD + GOOD, "line 3: a second header, as of two recordings in one file; "),
        (GOOD + GOOD.splitlines()[1].replace(b",1,", b",2,"), "line 3: another row has the same instant and another "),
        (GOOD + b"2026-03-01T23:05:00Z,gate,pedestrians,-1,u\n", "line 3: the value -1 is no count; write how many "),
        (GOOD + b"2026-03-01T23:05:00Z,gate,pedestrians,1000001,u\n", "line 3: the value 1000001 is no count; "),
        (GOOD + b'"2026-03-01\nT",gate,pedestrians,1,u\nx\n', "line 4: time without Z; "),
        (GOOD + b"\0", "line 3: "),
        (gzip.compress(GOOD)[:-9], "file: "),
        (gzip.compress(GOOD * 50)[:40] + b"\xff" * 40, "file: "),
        (b"\x1f\x8b" + GOOD, "file: "),
    ],
)
def test_a_bad_recording_is_refused_with_one_line(tmp_path: Path, write_policy: Write, data: bytes, said: str) -> None:
    """File, line and what to write instead: never a traceback, whatever the bytes."""
    [stream] = write_policy("footfall").streams
    file = tmp_path / "readings.csv"
    file.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        recording.read(file, stream, None, None)
    assert f"readings.csv: {said}" in str(caught.value)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\n\n") + "\n\n",
        lambda text: "\n".join([HEADER, *reversed(text.splitlines()[1:])]),
        lambda text: text + "".join(text.splitlines(keepends=True)[1:]),
        lambda text: text.rstrip("\n"),
        lambda text: "".join('"' + line.replace(",", '","') + '"\n' for line in text.splitlines()),
    ],
    ids=["crlf", "bom", "blank lines", "backwards", "every row twice", "no last line end", "quoted"],
)
def test_how_a_recording_was_saved_changes_no_figure(
    tmp_path: Path, write_policy: Write, change: Callable[[str], str]
) -> None:
    """In particular a row that stands there twice, as where two files overlap, is not counted twice: not alone, and not
    where two directions are added."""
    [stream] = write_policy("footfall").streams
    file = tmp_path / "readings.csv"
    for names in (("pedestrians",), ("in", "out")):
        rows = [f"2026-03-01T23:{at:02}:00Z,gate,{name},{at},u\n" for name in names for at in range(0, 60, 5)]
        text = f"{HEADER}\n" + "".join(rows)
        file.write_text(text)
        plain = recording.read(file, stream, None, None)
        file.write_text(change(text), newline="")
        assert recording.read(file, stream, None, None) == plain
        assert sum(value for _, value in plain.rows) == 330 * len(names)


def test_two_rows_years_apart_are_no_level_in_between(tmp_path: Path, write_policy: Write) -> None:
    """What is held is held for a week and a half at the most, however long the pause that the two rows leave."""
    [stream] = write_policy("noise").streams
    file = tmp_path / "readings.csv"
    file.write_text(f"{HEADER}\n" + "".join(f"20{y}-03-01T23:00:00Z,gate,laeq_1s,50,u\n" for y in (24, 26)))
    recorded = recording.read(file, stream, None, None)
    week_ms = 7 * 86_400_000
    assert recorded.end_ms - recorded.rows[-1][0] == recorded.step_ms == week_ms
    held = sum(len(batch) for _, batch in recording.batches(recorded, stream))
    assert held * stream.cadence_ms <= (1.5 + 1) * week_ms + 2 * stream.cadence_ms


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda tail: GOOD + tail)),
    st.booleans(),
    st.integers(0, 300),
)
def test_no_bytes_give_a_traceback(tmp_path: Path, write_policy: Write, data: bytes, zipped: bool, cut: int) -> None:
    """Any file is either a recording or refused with one line."""
    [stream] = write_policy("footfall").streams
    file = tmp_path / "readings.csv"
    file.write_bytes(gzip.compress(data, mtime=0)[: cut or None] if zipped else data)
    try:
        list(recording.batches(recording.read(file, stream, None, None), stream))
    except ConfigError as error:
        assert "\n" not in str(error)


def test_a_quantity_takes_its_own_metric(tmp_path: Path, write_policy: Write) -> None:
    """The first of a quantity's metrics that is there, or the one that is named; the others are listed."""
    rows = (f"2026-03-01T23:0{at}:00Z,gate,{name},{at},u" for name in ("laeq_1min", "in", "out") for at in range(3))
    file = tmp_path / "readings.csv"
    file.write_text("\n".join([HEADER, *rows]))
    footfall, noise = write_policy("footfall", "noise").streams
    crossings = recording.read(file, footfall, None, None)
    assert ([value for _, value in crossings.rows], crossings.metrics) == ([0, 2, 4], ("in", "out"))
    assert (crossings.site, crossings.ignored, crossings.step_ms) == ("gate", ("laeq_1min",), 60_000)
    assert [value for _, value in recording.read(file, footfall, "gate", "in").rows] == [0, 1, 2]
    assert [value for _, value in recording.read(file, noise, None, None).rows] == [0, 10, 20]
    for site, metric, said in (
        ("roof", None, "site: 'roof' is not there; write one of gate"),
        (None, "x", "metric: 'x' is not there; write one of in, laeq_1min, out"),
    ):
        with pytest.raises(ConfigError, match=said):
            recording.read(file, noise, site, metric)
    [air] = write_policy("pm2_5").streams
    with pytest.raises(ConfigError, match="metric: nothing for pm2_5 among in, laeq_1min, out"):
        recording.read(file, air, None, None)
