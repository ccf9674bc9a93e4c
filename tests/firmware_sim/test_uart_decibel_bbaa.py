"""The "BB AA" module sends its level every 300 ms, and that is all it does."""

from __future__ import annotations

import pytest
from murmure_firmware_sim.devices.uart_decibel_bbaa import UartDecibelBbaa
from murmure_firmware_sim.steady import Steady

T0_MS = 1_794_600_000_000
FRAME = bytes.fromhex("bb aa 01 7f 02 e7")


def device(level_tenths: int = 639) -> UartDecibelBbaa:
    made = UartDecibelBbaa(Steady((0, 0), level_tenths, 0))
    made.seek(T0_MS)
    return made


@pytest.mark.parametrize(
    ("level_tenths", "frame"),
    [(639, "bb aa 01 7f 02 e7"), (352, "bb aa 01 60 01 c7"), (0xFFFF, "bb aa 01 ff ff 64")],
)
def test_frames_are_the_documented_ones(level_tenths: int, frame: str) -> None:
    """63.9 dB and 35.2 dB are the frames printed in the protocol; no value is FFFF."""
    assert device(level_tenths).frames_of(T0_MS // 1000)[0][0] == bytes.fromhex(frame)


def test_a_frame_ends_every_300_ms_across_seconds_and_minutes() -> None:
    """Three or four frames a second, evenly, for ever."""
    sensor = device()
    frames = [frame for second in range(T0_MS // 1000, T0_MS // 1000 + 90) for frame in sensor.frames_of(second)]
    assert [time_ms - T0_MS for _, time_ms in frames] == list(range(0, 90_000, 300))
    assert {said for said, _ in frames} == {FRAME}


def test_a_second_on_a_time_line_holds_the_frames_that_it_holds_on_the_wall_clock() -> None:
    """Both ways of asking give the same bytes, and a piece is never stamped before its last frame."""
    sensor = device()
    for said, time_ms in sensor.advance(T0_MS + 90_000):
        frames = sensor.frames_of(time_ms // 1000)
        assert said == b"".join(frame for frame, _ in frames)
        assert frames[-1][1] <= time_ms
    assert sensor.frames == 300


def test_it_hears_nothing() -> None:
    """Whatever is sent to it is not answered, and changes nothing."""
    sensor = device()
    assert sensor.receive(FRAME * 3, T0_MS) == []
    assert sensor.frames_of(T0_MS // 1000)[0][0] == FRAME
