"""Where a message's time goes: each stage of the centre alone, in CPU microseconds a message, on one thread."""

from __future__ import annotations

import gc
import marshal
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from murmure_ingest import opener, signatures
from murmure_ingest.archive import Archive
from murmure_ingest.bulk_mqtt import BulkClient, Delivered
from murmure_ingest.intake import Intake
from murmure_ingest.openers import Openers, _read
from murmure_ingest.receipts import receipt
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.wordings import Wordings
from paho.mqtt.enums import CallbackAPIVersion

from .fleet import CENTRE_SECRET, Gateway, Load, lay_out
from .mqtt import publish_packet

BATCH = 500
TOGETHER = 50


class Timed(sqlite3.Connection):
    """Adds up the CPU time that SQLite takes."""

    seconds = 0.0

    def execute(self, *asked: Any) -> sqlite3.Cursor:
        began_s = time.thread_time()
        try:
            return super().execute(*asked)
        finally:
            self.seconds += time.thread_time() - began_s

    def executemany(self, *asked: Any) -> sqlite3.Cursor:
        began_s = time.thread_time()
        try:
            return super().executemany(*asked)
        finally:
            self.seconds += time.thread_time() - began_s


def cpu_s(work: Callable[[], object]) -> float:
    """Returns the CPU seconds of this thread in a piece of work."""
    began_s = time.thread_time()
    work()
    return time.thread_time() - began_s


def stages(gateways: list[Gateway], load: Load) -> dict[str, float]:
    """Returns the CPU microseconds a message of each stage, in the order of a message's way."""
    gc.set_threshold(opener.GARBAGE_AT)  # as the centre does
    arrivals, found = load.arrivals, dict[str, float]()
    keys = {gateway.name: gateway.enrolment.record_key for gateway in gateways}
    delivered: list[Delivered] = []
    client = BulkClient(CallbackAPIVersion.VERSION2, on_bulk=delivered.extend, protocol=mqtt.MQTTv5)
    packets = [publish_packet(topic, 1, payload) for topic, payload in arrivals]
    chunks = [b"".join(packets[at : at + 150]) for at in range(0, len(packets), 150)]
    found["read from the broker"] = cpu_s(lambda: [client._take(chunk) for chunk in chunks])
    envelopes: list[wire.Envelope] = []
    found["form: parse, one canonical way"] = cpu_s(
        lambda: envelopes.extend(wire.unwrap(message.payload) for message in delivered)
    )

    def check() -> None:
        for one in envelopes:
            signatures.check(keys[one.speaker], one.signature, one.signed)

    found["signature"] = cpu_s(check)
    openers = Openers(0, 0)
    openers.keys = keys

    def carry() -> None:
        for at in range(0, len(arrivals), TOGETHER):
            part = arrivals[at : at + TOGETHER]
            marshal.loads(opener.pack([openers._asked(*arrival) for arrival in part])[opener.LENGTH_BYTES :])
            flat = [(keys[one.speaker], one.payload) for one in envelopes[at : at + TOGETHER]]
            answers = marshal.loads(opener.pack(flat)[opener.LENGTH_BYTES :])
            _ = [_read(*both) for both in zip(part, answers, strict=True)]

    found["to another process and back"] = cpu_s(carry)
    with tempfile.TemporaryDirectory() as name:
        lay_out(Path(name) / "centre", gateways)
        path = Path(name) / "centre" / "archive.db"
        db = sqlite3.connect(path, isolation_level=None, factory=Timed)
        assert isinstance(db, Timed)
        archive = Archive(path, db)
        archive._prepare(read_only=False)
        rules = RuleBook(archive, Wordings())
        intake = Intake(archive, rules, lambda: 1 << 40)
        found["rules of each policy, once"] = cpu_s(lambda: [rules(gateway.plan.policy.hash) for gateway in gateways])
        opened = [intake.open(arrival) for arrival in arrivals]
        db.seconds = 0.0

        def file() -> None:
            for at in range(0, len(arrivals), BATCH):
                intake.file(arrivals[at : at + BATCH], opened[at : at + BATCH])

        together = cpu_s(file)
        found["judge: register, chain, audit, policy"] = together - db.seconds
        found["SQLite, commit with FULL"] = db.seconds
        lines = archive.enrolments()
        one = cpu_s(lambda: [receipt(archive, line, CENTRE_SECRET) for line in lines]) / len(lines)
        archive.close()
    found = {stage: 1e6 * seconds / len(arrivals) for stage, seconds in found.items()}
    found["(a receipt; one settles many messages)"] = 1e6 * one
    return found


def table(found: dict[str, float]) -> str:
    """Returns the stages as Markdown, with their shares and a bar each."""
    whole = sum(value for stage, value in found.items() if not stage.startswith("("))
    lines = ["| stage | us a message | share | |", "| --- | --- | --- | --- |"]
    for stage, value in found.items():
        share = "" if stage.startswith("(") else f"{100 * value / whole:.0f} %"
        bar = "" if stage.startswith("(") else "█" * round(40 * value / whole)
        lines.append(f"| {stage} | {value:.1f} | {share} | {bar} |")
    return "\n".join([*lines, f"| **together** | {whole:.0f} | | |"])
