"""Which device is on a line, if it is not the one that was configured, or not at that speed.

Only questions are sent, and those change nothing: firmware, model, one measurement, one register.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from murmure_edge.link import Link, LinkError
from murmure_edge.sensors import DRIVERS, modbus_noise, nsrt_mk3, pmsx003, sds011, sps30, tfluna
from murmure_edge.sensors.base import Counters

USUAL_BAUDS = (9600, 115_200, 4800, 256_000, 19_200, 38_400, 57_600, 2400)
LISTEN_MS = 1_300  # what speaks by itself does so once a second at least
_ANSWER_MS = 80

_NSRT_QUESTION = nsrt_mk3.make_command(nsrt_mk3.MODEL, nsrt_mk3.TEXT_BYTES)


@dataclass(frozen=True, slots=True)
class Seen:
    """A device that gave a good frame, and the speed at which it did."""

    device: str
    baud: int


def questions(slave: int) -> list[bytes]:
    """Returns one question for each kind of device that is silent until it is asked. Of an LD2450 nothing is asked: it
    speaks by itself, and a question would have to begin its configuration."""
    return [
        sds011.make_command(sds011.FIRMWARE),
        pmsx003.make_command(pmsx003.READ),
        sps30.make_command(sps30.INFORMATION, sps30.PRODUCT),
        modbus_noise.ModbusNoise(slave=slave).request(),
        tfluna.make_command(tfluna.VERSION, b""),
        _NSRT_QUESTION,
    ]


def recognised(raw: bytes, slave: int) -> str | None:
    """Returns the device whose good frames are among the bytes, the one with most of them; None if there are none."""
    frames = {name: _good_frames(name, raw, slave) for name in DRIVERS}
    if nsrt_mk3.MAKE.encode() in raw.upper():
        frames["nsrt_mk3"] = 1
    name = max(frames, key=lambda name: frames[name])
    return name if frames[name] else None


def _good_frames(name: str, raw: bytes, slave: int) -> int:
    counters = Counters()
    scanner = modbus_noise.answers_of(slave, counters) if name == "modbus_noise" else DRIVERS[name].scanner(counters)
    scanner.feed(raw)
    scanner.finish()
    return counters.frames


def probe(
    open_at: Callable[[int], Link], bauds: tuple[int, ...], slave: int, stopped: Callable[[], bool]
) -> Seen | None:
    """Opens the line at each speed, listens and asks. Returns the first device that is recognised, None if none is."""
    for baud in bauds:
        if stopped():
            return None
        link = open_at(baud)
        try:
            device = _listen(link, slave)
        except LinkError:
            return None
        finally:
            link.close()
        if device is not None:
            return Seen(device, baud)
    return None


def _listen(link: Link, slave: int) -> str | None:
    link.open()
    until_ms, raw = link.now_ms() + LISTEN_MS, b""
    for question in questions(slave):
        answer_by_ms = link.now_ms() + _ANSWER_MS
        link.write(question, answer_by_ms)
        raw += _gather(link, answer_by_ms)
        device = recognised(raw, slave)
        if device is not None:
            return device
    return recognised(raw + _gather(link, until_ms), slave)


def _gather(link: Link, until_ms: int) -> bytes:
    data, now_ms = b"", link.now_ms()
    while now_ms < until_ms:
        more, now_ms = link.read(until_ms)
        data += more
    return data
