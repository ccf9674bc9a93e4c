"""How many bytes a day of six hourly streams writes onto the card.

As root: a real ext4 file system on a loop device, and the sectors that the kernel counts as written to that device,
with journal, folders and inodes (/sys/block/loopN/stat). Otherwise what this process has caused to be written
(/proc/self/io), in which the journal is missing. One process plays a day minute by minute with the real parts of
both: publisher, `gateway.db`, outbox folder, health report each quarter-hour, `send` with its `send.db`, and the
receipt that a centre sends for each message. The centre's log grows once, or as often as is said: each time `sense`
keeps how far it has come, and reports it. Everything is flushed each minute, as the kernel would in that time.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from murmure_edge import health
from murmure_edge.config import load, load_trust
from murmure_edge.folders import prepare_folders
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.inbox import Inbox, OutboxState, Settled, decide_receipt
from murmure_edge.outbox import Outbox
from murmure_edge.publisher import Identity, Publisher
from murmure_edge.send import PostOffice, SentLog
from murmure_edge.uplink import Acknowledged, Arrived, Event, Topics, Uplink, UplinkLost
from murmure_privacy import log
from murmure_privacy.log import Checkpoint, Growth
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.policy import parse
from murmure_privacy.release import Receipt
from murmure_privacy.wire import digest, new_key, open_message, public_key, seal_health, seal_receipt

LIMIT_MB = 20.0
DISK_MB = 256
SECTOR_BYTES = 512
DAY_MINUTES = 1440
YEAR: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("year.py")))
START_S: int = YEAR["START_S"]
TOPICS = Topics.of("centre", "gw-plaza")
TOML = (
    'gateway = "gw-plaza"\ndata = "data"\noutbox = "spool/outbox"\ninbox = "spool/inbox"\nsend_data = "send"\n'
    'trust = "trust.toml"\n[broker]\nhost = "127.0.0.1"\n'
)


class Day:
    """A gateway's day. For `send` it is the uplink: each turn of that is a minute in which `sense` works as well."""

    def __init__(self, folder: Path, flush: Callable[[], None], growths: int) -> None:
        """`growths`: how often in the day the log grows; a gateway hears of it with its next receipt."""
        self.growths = growths
        (folder / "gateway.toml").write_text(TOML)
        self.centre, centre_public = new_key()
        (folder / "trust.toml").write_text(
            f'gateway = "gw-plaza"\nquartier = "centre"\nsite = "plaza"\ncentre = "{centre_public.hex()}"\n'
            f'stewards = ["{new_key()[1].hex()}"]\nsignatures_required = 1\n'
        )
        self.config = load(folder / "gateway.toml")
        self.trust = load_trust(self.config)
        prepare_folders(self.config)
        self.secret = new_key()[0]
        self.db = GatewayDb.open(self.config.data / "gateway.db")
        self.outbox, self.inbox = Outbox(self.config.outbox, print, self.db.message), Inbox(self.config.inbox, print)
        who = Identity("gw-plaza", "centre", "plaza", self.secret)
        self.publisher = Publisher(
            self.db, who, DiscreteGaussian(), lambda message, _: self.outbox.put(message.seq), print
        )
        self.outbox.start(1, 0)
        self.publisher.start(START_S)
        self.publisher.adopt(parse(YEAR["POLICY"], "policy"), START_S)
        self.sources = health.board(self.config.data)
        self.flush, self.minute, self.until = flush, 0, DAY_MINUTES
        self.sent = 0
        self._events: list[Event] = []

    def now_s(self) -> int:
        return START_S + 60 * self.minute

    def publish(self, topic: str, payload: bytes) -> int:
        self.sent += 1
        self._events.append(Acknowledged(self.sent, None))
        if topic == TOPICS.release:
            seq = open_message(payload, public_key(self.secret)).seq
            here = Checkpoint(1 + self.minute * self.growths // DAY_MINUTES, bytes(32))
            field = bytes(32) + log.growth_bytes(Growth(here))
            receipt = Receipt("gw-plaza", "centre", seq, digest(payload), (), 0, 1, field)
            self._events.append(Arrived(TOPICS.receipt, seal_receipt(receipt, self.centre)))
        return self.sent

    def turn(self, timeout_s: float) -> list[Event]:
        events, self._events = self._events, []
        if not events:
            self._live_a_minute()
        return events

    def _live_a_minute(self) -> None:
        self.flush()
        if self.minute == self.until:
            raise UplinkLost("the day is over")
        self.minute += 1
        for letter in self.inbox.new():
            state = OutboxState(self.db.next_message()[0] - 1, self.db.hash_of, self.db.charged_rho_micro())
            verdict = decide_receipt(letter.data, self.trust, state)
            assert isinstance(verdict, Settled)
            self.db.settle(verdict.up_to)
            self.outbox.settle(self.db.settled + 1, ())
            told = log.of_receipt(verdict.receipt.checkpoint)
            if told is not None and self.db.follow(told.here):
                self._report()
        if self.minute % 15 == 0:
            for name in YEAR["STREAMS"]:
                self.publisher.add(f"plaza/{name}", [((self.now_s() - 900) * 1000, 500)])
            self._report()
        self.publisher.advance(self.now_s())

    def _report(self) -> None:
        self.db.keep_log()
        report = health.report(
            self.trust, self.sources, at_s=self.now_s(), uptime_s=60 * self.minute, boot=1,
            ports=dict.fromkeys(YEAR["STREAMS"], "ok"), outbox_depth=self.db.depth(), clock="ok",
            log=self.db.log.size if self.db.log else 0,
        )  # fmt: skip
        self.outbox.put_health(seal_health(report, self.secret))

    def play(self) -> None:
        """Lives until the minute `until`."""
        with closing(SentLog(self.config.send_data, print)) as log, suppress(UplinkLost):
            office = PostOffice(self.config, TOPICS, log, self.now_s, lambda: 60.0 * self.minute, print)
            office.serve(cast(Uplink, self), threading.Event())


@contextmanager
def disk(folder: Path) -> Iterator[tuple[Path, Callable[[], int], str]]:
    """Yields a folder, what counts the bytes written there so far, and how; ext4 on a loop device if that can be."""
    image, place = folder / "card.img", folder / "card"
    place.mkdir()
    image.touch()
    os.truncate(image, DISK_MB * 1_000_000)
    made = subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-E", "lazy_itable_init=0", str(image)], check=False)
    loop = ["/usr/sbin/losetup", "--find", "--show", str(image)]
    device = "" if made.returncode else subprocess.run(loop, capture_output=True, text=True, check=False).stdout.strip()
    if not device or subprocess.run(["mount", device, str(place)], check=False).returncode:
        yield place, lambda: _counted("/proc/self/io", "write_bytes: (%d)"), "/proc/self/io, without the journal"
        return
    try:
        stat = Path(f"/sys/block/{Path(device).name}/stat")
        yield place, lambda: SECTOR_BYTES * int(stat.read_text().split()[6]), f"{device}, journal and folders included"
    finally:
        subprocess.run(["umount", str(place)], check=True)
        subprocess.run(["/usr/sbin/losetup", "--detach", device], check=True)


def _counted(file: str, line: str) -> int:
    head = line.partition("(")[0]
    return next(int(text[len(head) :]) for text in Path(file).read_text().splitlines() if text.startswith(head))


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryDirectory() as name, disk(Path(name)) as (place, written, how):
        descriptor = os.open(place, os.O_RDONLY)

        def flush() -> None:
            libc.syncfs(descriptor)

        day = Day(place, flush, int(sys.argv[1]) if len(sys.argv) > 1 else 1)
        flush()
        before = written()
        day.play()
        day.db.close()
        flush()
        written_mb = (written() - before) / 1e6
        os.close(descriptor)
        print(f"{day.sent} messages and reports sent; counted by {how}")
        print(f"written in a day: {written_mb:.1f} MB, {written_mb / LIMIT_MB:.2f} of the target of {LIMIT_MB:.0f} MB")


if __name__ == "__main__":
    main()
