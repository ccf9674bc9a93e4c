"""What a metered line may carry: at most so many bytes in any 24 hours, whatever happens in between.

A bucket that fills evenly and begins empty. It remembers nothing on the card: a start, however it came about, finds no
more in it than its end had left, so that no chain of restarts, no lost file and no clock that is put forward or back
can carry more. The price is that the first message after a start waits for its share of the day.
"""

from __future__ import annotations

from collections.abc import Callable

_DAY_S = 86_400
_SHARE = 8  # the bucket holds this part of a day: a short silence is caught up with, a long one is not
_PACKET_BYTES = 1400
_PACKET_HEAD_BYTES = 72  # IPv6 and TCP with its time stamps
_HEAD_BYTES = 60  # TLS record 27, MQTT 8, content type 19, and some
_ANSWER_BYTES = 72  # our TCP acknowledgement of the PUBACK


def cost_bytes(topic: str, payload_bytes: int) -> int:
    """Returns about what a publication with QoS 1 costs on the line upward, TLS and packet heads included. What comes
    down is not counted, nor is the greeting of a connection (some 4 KB with TLS) nor a ping (some 150 bytes)."""
    packets = 1 + (payload_bytes + len(topic) + _HEAD_BYTES) // _PACKET_BYTES
    return payload_bytes + len(topic) + _HEAD_BYTES + packets * _PACKET_HEAD_BYTES + _ANSWER_BYTES


class Allowance:
    """At most `bytes_per_day` in any 24 hours of `monotonic` seconds, restarts included; 0 for no limit."""

    def __init__(self, bytes_per_day: int, monotonic: Callable[[], float]) -> None:
        self._limited, self._monotonic = bytes_per_day > 0, monotonic
        self._full = bytes_per_day // _SHARE
        # A full bucket and what flows in during a day are together what a day may carry.
        self._bytes_per_s = (bytes_per_day - self._full) / _DAY_S
        self._left, self._filled_at = 0.0, monotonic()

    def take(self, size_bytes: int) -> bool:
        """Returns whether so much may go now; then it is counted as gone."""
        if not self._limited:
            return True
        now = self._monotonic()
        self._left = min(self._full, self._left + (now - self._filled_at) * self._bytes_per_s)
        self._filled_at = now
        if size_bytes > self._left:
            return False
        self._left -= size_bytes
        return True
