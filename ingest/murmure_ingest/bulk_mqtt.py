"""paho's client, reading and acknowledging in bulk: one receive for many messages, one send for many acknowledgements.

paho asks the kernel four times for each message and builds an object for each; at a full queue that is most of what a
message costs at the centre. Connections, TLS, time-outs, publishing and every packet but a PUBLISH at QoS 0 or 1 stay
paho's. Properties of a PUBLISH are passed over: any client may have chosen them, and paho ends the connection over some
that brokers let through. The methods that are overridden are not part of its promise: constraints.txt names the
version, and the tests of the subscriber go through all of them.

No packet takes more memory than PACKET_BYTES, which a broker of MQTT 5 is told as the most that it may send. Of a
longer PUBLISH, by one that was not told or does not care, the beginning is handed on, which is enough to refuse and to
acknowledge it, and the rest is passed over as it comes. A topic, of 64 KiB at most, is waited for: behind it stands the
number to acknowledge, without which the broker would send all again on every connection.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.exception import MQTTException

PACKET_BYTES = 20_480
"""Bytes of one packet after its first byte and its length: what the brokers of 'broker init' let through, and five
times what a message has."""
_CHUNK_BYTES = 1 << 16
_PUBACK = 0x40
_PUBLISH, _QOS_1 = 0x30, 0x02  # a first byte has two more bits, which say nothing to us: sent again, retained
_LENGTH_BYTES = 4


class Delivered(NamedTuple):
    """One PUBLISH. The topic is bytes that the broker has looked at, or has not; `mid` is 0 at QoS 0. The payload is
    cut off where the packet has more than PACKET_BYTES; both are empty where what stands before the payload has more:
    that is no message of ours."""

    topic: bytes
    payload: bytes
    mid: int


class BulkClient(mqtt.Client):
    """`on_bulk` is called in paho's thread with what one receive has brought. Everything else is told as paho does."""

    def __init__(self, *args: Any, on_bulk: Callable[[list[Delivered]], None], **options: Any) -> None:
        super().__init__(*args, **options)
        self._on_bulk = on_bulk
        self._five = self._protocol == mqtt.MQTTv5
        self._unread, self._passed_over = b"", 0

    def acknowledge(self, mids: Iterable[int]) -> None:
        """Sends a PUBACK for each number that was delivered on the present connection."""
        packets = b"".join([b"\x40\x02" + mid.to_bytes(2, "big") for mid in mids])
        if packets:
            self._packet_queue(_PUBACK, packets, 0, 1)

    def reconnect(self) -> MQTTErrorCode:
        """As paho's; half a packet of the connection before is forgotten."""
        self._unread, self._passed_over = b"", 0
        return super().reconnect()

    def _packet_read(self) -> MQTTErrorCode:
        try:
            received = self._sock_recv(_CHUNK_BYTES)
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except OSError:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        if not received:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        with self._msgtime_mutex:
            self._last_bytes_received = time.monotonic()
        return self._take(self._unread + received if self._unread else received)

    def _take(self, data: bytes) -> MQTTErrorCode:
        """Handles each whole packet; what is left waits for the next receive."""
        found: list[Delivered] = []
        code, size = MQTTErrorCode.MQTT_ERR_SUCCESS, len(data)
        at = min(size, self._passed_over)
        self._passed_over -= at
        try:
            while code == MQTTErrorCode.MQTT_ERR_SUCCESS and size - at >= 2:
                try:
                    first, (length, begin) = data[at], _number(data, at + 1)
                except IndexError:
                    break  # the length itself is not whole yet
                end = begin + min(length, PACKET_BYTES)
                if end > size:
                    break
                if first & 0xF4 == _PUBLISH:
                    if length > PACKET_BYTES:
                        end = max(end, begin + min(length, _numbered_bytes(data, begin)))
                        if end > size:
                            break
                    found.append(self._delivered(data, begin, end, begin + length, first & _QOS_1))
                elif length > PACKET_BYTES:
                    raise ValueError
                else:
                    code = self._hand_on(first, data[begin:end])
                at = min(size, begin + length)
                self._passed_over = begin + length - at
        except (IndexError, ValueError):
            code = MQTTErrorCode.MQTT_ERR_PROTOCOL
        self._unread = data[at:]
        if found:
            self._on_bulk(found)
        return code

    def _delivered(self, data: bytes, begin: int, end: int, whole: int, numbered: int) -> Delivered:
        """Returns what a PUBLISH brings, of which `end` bytes are there and `whole` should be."""
        at = begin + 2 + (data[begin] << 8 | data[begin + 1])
        topic = data[begin + 2 : at]
        mid = 0
        if numbered:
            mid = data[at] << 8 | data[at + 1]
            at += 2
        if self._five:
            properties, at = _number(data, at)
            at += properties
        if at > whole:
            raise ValueError
        if at > end or at - begin > PACKET_BYTES:
            return Delivered(b"", b"", mid)
        return Delivered(topic, data[at:end], mid)

    def _hand_on(self, first: int, body: bytes) -> MQTTErrorCode:
        self._in_packet = {
            "command": first,
            "have_remaining": 1,
            "remaining_count": [],
            "remaining_mult": 1,
            "remaining_length": len(body),
            "packet": bytearray(body),
            "to_process": 0,
            "pos": 0,
        }
        try:
            return self._packet_handle()
        except (MQTTException, struct.error):
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        finally:
            self._in_packet["command"] = 0


def _numbered_bytes(data: bytes, begin: int) -> int:
    """Returns how far into a PUBLISH its number and the length of its properties are, at most."""
    return 2 + (data[begin] << 8 | data[begin + 1]) + 2 + _LENGTH_BYTES


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Returns a number of MQTT's variable length and where the next byte is. Raises IndexError, ValueError."""
    value = 0
    for place in range(_LENGTH_BYTES):
        byte = data[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError
