"""The little of MQTT 5 that fills a broker's queues quickly and watches receipts, with hardly any cost of its own."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence

EXPIRY_S = 3600
_CHUNK = 1 << 20


def _length(count: int) -> bytes:
    found = bytearray()
    while True:
        count, low = divmod(count, 128)
        found.append(low | (128 if count else 0))
        if not count:
            return bytes(found)


def _text(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


def _packet(head: int, body: bytes) -> bytes:
    return bytes([head]) + _length(len(body)) + body


def publish_packet(topic: str, number: int, payload: bytes) -> bytes:
    """Returns a PUBLISH at QoS 1."""
    return _packet(0x32, _text(topic) + number.to_bytes(2, "big") + b"\x00" + payload)


def packets(buffer: bytearray) -> Iterator[tuple[int, memoryview]]:
    """Yields (first byte, body) of each whole packet, and leaves the rest in the buffer."""
    at, size = 0, len(buffer)
    view = memoryview(bytes(buffer))
    while size - at >= 2:
        length, shift, body = 0, 0, at + 1
        while body < size:
            byte = view[body]
            length |= (byte & 127) << shift
            shift += 7
            body += 1
            if byte < 128:
                break
        else:
            break
        if body + length > size:
            break
        yield view[at], view[body : body + length]
        at = body + length
    del buffer[:at]


class Client:
    """One connection, used from one thread."""

    def __init__(self, port: int, name: str, *, lasting: bool = False) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._buffer = bytearray()
        properties = (b"\x11" + EXPIRY_S.to_bytes(4, "big") if lasting else b"") + b"\x21\xff\xff"
        flags = 0 if lasting else 2
        self._socket.sendall(
            _packet(
                0x10,
                _text("MQTT") + bytes([5, flags, 0, 0]) + _length(len(properties)) + properties + _text(name),
            )
        )
        self._wait_for(0x20)

    def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribes at QoS 1."""
        self._socket.sendall(_packet(0x82, b"\x00\x01\x00" + b"".join(_text(topic) + b"\x01" for topic in topics)))
        self._wait_for(0x90)

    def publish(self, arrivals: Sequence[tuple[str, bytes]]) -> None:
        """Publishes at QoS 1 and returns once each was acknowledged."""
        window = 10_000
        for at in range(0, len(arrivals), window):
            part = arrivals[at : at + window]
            self._socket.sendall(
                b"".join(publish_packet(topic, 1 + number, payload) for number, (topic, payload) in enumerate(part))
            )
            waiting = len(part)
            while waiting:
                waiting -= sum(head == 0x40 for head, _ in self._receive())

    def heard(self) -> list[tuple[float, bytes, bytes]]:
        """Returns (monotonic time, topic, payload) of what was delivered by now; acknowledges it."""
        found, said = [], bytearray()
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                for head, body in self._receive():
                    if head & 0xF0 != 0x30:
                        continue
                    size = 2 + int.from_bytes(body[:2], "big")
                    topic, at = bytes(body[2:size]), size
                    if head & 6:
                        said += b"\x40\x02" + body[at : at + 2]
                        at += 2
                    found.append((time.monotonic(), topic, bytes(body[at + 1 + body[at] :])))
        self._socket.setblocking(True)
        if said:
            self._socket.sendall(said)
        return found

    def close(self) -> None:
        """Takes leave, so that the broker keeps the session or drops it as was agreed."""
        self._socket.sendall(b"\xe0\x00")
        self._socket.close()

    def _receive(self) -> list[tuple[int, memoryview]]:
        data = self._socket.recv(_CHUNK)
        if not data:
            raise ConnectionError("the broker has closed the connection")
        self._buffer += data
        return list(packets(self._buffer))

    def _wait_for(self, head: int) -> None:
        while all(found != head for found, _ in self._receive()):
            pass
