"""Sound level module "BB AA": 9600 baud, a frame every 300 ms, hears nothing.

device   BB  AA  01  level u16, tenths of dB(A)  sum8 of bytes 0-4
"""

from __future__ import annotations

from .base import FAST_MS, MS_PER_S, NOISE, S_PER_MINUTE, Device, Piece, sum8

_PERIOD_MS = 300
_MOST_PER_S = 4


class UartDecibelBbaa(Device):
    """The module. Its frames end at whole multiples of 300 ms, so a second holds three or four."""

    name = "uart_decibel_bbaa"
    quantity = NOISE
    baud = 9600
    frame_bytes = 6
    memory = ("time_constant_ms", FAST_MS)

    def say(self, minute: int) -> list[bytes]:
        """The second's level as often as a frame ends in that second; nothing in a hole."""
        levels = self.source.level_tenths(minute)
        return [
            b"" if level is None else frame(level) * len(_ends_ms(minute * S_PER_MINUTE + s))
            for s, level in enumerate(levels)
        ]

    def frames_of(self, second: int) -> list[Piece]:
        """See Device; the instants move through the seconds."""
        frames = super().frames_of(second)
        return [(said, end_ms) for (said, _), end_ms in zip(frames, _ends_ms(second), strict=False)]

    def frames_per_s(self) -> int:
        """The most that a second can hold."""
        return _MOST_PER_S

    def frame_offset_ms(self, index: int) -> int:
        """As in a second that begins with a frame; the last is never later."""
        return index * _PERIOD_MS

    def answer(self, data: bytes, now_ms: int) -> list[bytes]:
        """Nothing: it hears nothing."""
        return []

    def power_cycle(self, now_ms: int) -> None:
        """Goes on: it has no settings to lose."""
        super().power_cycle(now_ms)


def frame(level_tenths: int) -> bytes:
    """Returns the six bytes of one level in tenths of dB."""
    body = b"\xbb\xaa\x01" + level_tenths.to_bytes(2, "little")
    return body + bytes((sum8(body),))


def _ends_ms(second: int) -> range:
    """Returns the multiples of 300 ms in a second."""
    start_ms = second * MS_PER_S
    return range(-(-start_ms // _PERIOD_MS) * _PERIOD_MS, start_ms + MS_PER_S, _PERIOD_MS)
