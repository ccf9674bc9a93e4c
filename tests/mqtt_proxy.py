"""A bad network between MQTT peers: messages come twice, late, in another order, with a bit flipped, or not at all
because the connection is cut. It knows just enough of MQTT 5 to find messages in a stream of bytes."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread

PUBLISH = 3
HOLD_S = 0.05  # how long a delayed message waits for others to overtake it


@dataclass(frozen=True, slots=True)
class Faults:
    """How likely each fault is, for each message (`cut`: for each packet)."""

    twice: float = 0.0
    late: float = 0.0
    flipped: float = 0.0
    cut: float = 0.0


@dataclass
class Proxy:
    """Listens on 127.0.0.1 (`port`) and passes everything on to `upstream`, in both directions, faults included. Counts
    what it did in `did`. Use as a context manager."""

    upstream: int
    faults: Faults
    seed: int
    did: Counter[str] = field(default_factory=Counter)
    port: int = 0

    def __enter__(self) -> Proxy:
        self._dice = random.Random(self.seed)
        # All of it in a thread of its own: a browser's driver may have left a loop running in this one.
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="proxy")
        self._thread.start()
        opening = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(opening, self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            self._server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, down = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            writer.close()
            return
        pumps = [
            asyncio.create_task(self._pump(reader, down)),
            asyncio.create_task(self._pump(upstream, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for each in (writer, down):
                each.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Passes packets on until one side goes or the connection is cut."""
        held: set[asyncio.Task[None]] = set()
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                packet = await _packet(reader)
                if self._happens(self.faults.cut, "cut"):
                    return
                if packet[0] >> 4 != PUBLISH:
                    writer.write(packet)
                elif self._happens(self.faults.late, "late"):
                    task = asyncio.create_task(self._later(packet, writer))
                    held.add(task)
                    task.add_done_callback(held.discard)
                else:
                    self._publish(packet, writer)
                await writer.drain()

    async def _later(self, packet: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self._dice.uniform(0, HOLD_S))
        if not writer.is_closing():
            self._publish(packet, writer)

    def _publish(self, packet: bytes, writer: asyncio.StreamWriter) -> None:
        if self._happens(self.faults.flipped, "flipped"):
            packet = flipped(packet, self._dice)
        writer.write(packet * (2 if self._happens(self.faults.twice, "twice") else 1))
        self.did["messages"] += 1

    def _happens(self, likely: float, what: str) -> bool:
        happens = self._dice.random() < likely
        self.did[what] += happens
        return happens


async def _packet(reader: asyncio.StreamReader) -> bytes:
    """Returns one whole packet of MQTT."""
    head = await reader.readexactly(1)
    length, shift = 0, 0
    while True:
        byte = await reader.readexactly(1)
        head += byte
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            return head + await reader.readexactly(length)


def flipped(packet: bytes, dice: random.Random) -> bytes:
    """Returns a PUBLISH with one bit of its payload flipped; as it was if it has none."""
    at = 1
    while packet[at] >= 0x80:
        at += 1
    at += 1
    at += 2 + int.from_bytes(packet[at : at + 2])  # topic
    at += 2 if packet[0] & 0x06 else 0  # packet identifier
    length, shift = 0, 0
    while True:  # properties
        byte = packet[at]
        length |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            break
    at += length
    if at >= len(packet):
        return packet
    spoiled = bytearray(packet)
    spoiled[dice.randrange(at, len(packet))] ^= 1 << dice.randrange(8)
    return bytes(spoiled)
