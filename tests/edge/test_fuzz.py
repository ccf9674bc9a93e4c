"""Random and mutated bytes for every driver: the quick part. Millions of them: `make campaign`."""

from __future__ import annotations

import random
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from murmure_edge.sensors import DRIVERS
from murmure_edge.sensors.base import FrameScanner, PolledDriver

FUZZ: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("fuzz_drivers.py")))
INPUTS, SHORTENED = 5_000, 1_000
SCAN = FrameScanner._scan
# A dust sensor whose number is AA C0: its every frame holds what looks like the header of another.
TRAP = bytes.fromhex("aac0d4043a0aaac086ab")


@settings(max_examples=SHORTENED, deadline=None, suppress_health_check=list(HealthCheck))
@given(genes=st.binary(max_size=48))
@pytest.mark.parametrize("name", sorted(DRIVERS))
def test_no_bytes_upset_a_driver(name: str, genes: bytes) -> None:
    """Nothing is raised, no more is kept than the longest frame, and the next frames are found."""
    FUZZ["check"](name, genes)


@pytest.mark.parametrize("name", sorted(DRIVERS))
def test_no_longer_bytes_upset_a_driver(name: str) -> None:
    """Nor do more of them, and longer ones, without what hypothesis takes for each so that it can shorten one that
    fails."""
    draw = random.Random(name)
    for _ in range(INPUTS - SHORTENED):
        genes = draw.randbytes(min(48, int(draw.expovariate(1 / 8))))
        try:
            FUZZ["check"](name, genes)
        except Exception as error:
            error.add_note(f"genes {genes.hex()}")
            raise


class SlidesByAFrame(FrameScanner):
    """Skips a whole frame's length where a frame began and did not hold."""

    def _scan(self, data: bytes, at_end: bool) -> list[bytes]:
        frames: list[bytes] = []
        start = 0
        while start < len(data):
            length = self._length_at(data, start)
            if length > len(data) - start:
                break
            frame = data[start : start + length]
            if length and self._holds(frame):
                frames.append(frame)
            else:
                self.counters.discarded_bytes += length or 1
            start += length or 1
        self.counters.frames += len(frames)
        self.pending = data[start:]
        return frames


class KeepsAll(FrameScanner):
    """Never gives up a byte that is in no frame."""

    def _scan(self, data: bytes, at_end: bool) -> list[bytes]:
        frames = SCAN(self, data, at_end)
        self.pending = data
        return frames


@pytest.mark.parametrize(
    ("twin", "says"), [(SlidesByAFrame, "not found again within one frame's length"), (KeepsAll, "keeps what is no")]
)
def test_a_scanner_with_one_thing_wrong_is_caught(
    monkeypatch: pytest.MonkeyPatch, twin: type[FrameScanner], says: str
) -> None:
    """A twin that slides by a frame never gets back into step with a header in its payload; one that keeps everything
    fills the memory. The rule as it stands passes the same input."""
    monkeypatch.setitem(FUZZ["FRAMES"], "sds011", TRAP)
    out_of_step = b"\0\x02\x06" + b"\0\0" * 5  # the end of a frame, then whole ones
    FUZZ["check"]("sds011", out_of_step)
    monkeypatch.setattr(FrameScanner, "_scan", vars(twin)["_scan"])
    with pytest.raises(AssertionError, match=says):
        FUZZ["check"]("sds011", out_of_step)


def test_a_part_that_keeps_everything_is_caught() -> None:
    """What a driver keeps in objects of its own is looked at as well: a tracker with ten thousand tracks is not."""
    driver = DRIVERS["ld2450"]()
    FUZZ["keeps_little"](driver)
    (tracker,) = [held for held in vars(driver).values() if type(held).__name__.endswith("Tracker")]
    (tracks,) = [name for name in FUZZ["names_of"](tracker) if isinstance(getattr(tracker, name), list)]
    getattr(tracker, tracks).extend(range(10_000))
    with pytest.raises(AssertionError, match="keeps more and more"):
        FUZZ["keeps_little"](driver)


def _dust(number: int) -> bytes:
    body = bytes((number, 0, 9, 0, 1, 2))
    return b"\xaa\xc0" + body + bytes((sum(body) % 256, 0xAB))


def _level(number: int) -> bytes:
    body, crc = bytes((1, 3, 2, 1, number)), 0xFFFF
    for byte in body:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 * (crc & 1)
    return body + crc.to_bytes(2, "little")


def _distance(number: int) -> bytes:
    body = bytes((0x59, 0x59, number, 1, 0xB0, 4, 0xC8, 8))
    return body + bytes((sum(body) % 256,))


@pytest.mark.parametrize(("name", "frame"), [("sds011", _dust), ("modbus_noise", _level), ("tfluna", _distance)])
def test_a_cache_begins_anew_when_it_is_full(
    monkeypatch: pytest.MonkeyPatch, name: str, frame: Callable[[int], bytes]
) -> None:
    """What a driver remembers of the frames it has seen is bounded."""
    driver = DRIVERS[name]()
    monkeypatch.setattr(f"{DRIVERS[name].__module__}.CACHE_FRAMES", 4)
    sizes = []
    for number in range(64):
        if isinstance(driver, PolledDriver):
            driver.request()
        driver.feed(frame(number), FUZZ["NOW_MS"])
        sizes.append(len(vars(driver)["_cache"]))
    assert driver.counters.frames == 64 and sizes[:6] == [1, 2, 3, 4, 1, 2] and max(sizes) == 4
