"""Bytes per release on the wire, beside the same nodes as JSON (plain and gzip) and the 4 KiB limit."""

from __future__ import annotations

import gzip
import json
import sqlite3
from datetime import date

from murmure.city import policy_toml
from murmure_privacy.gate import Gate
from murmure_privacy.ledger import SCHEMA, Ledger
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import plan
from murmure_privacy.policy import parse
from murmure_privacy.published import node_json
from murmure_privacy.release import Message
from murmure_privacy.window import Calendar
from murmure_privacy.windowing import OpenWindows
from murmure_privacy.wire import FIRST_PREVIOUS, MESSAGE_LIMIT, new_key, open_message, public_key, seal_message


def main() -> None:
    policy = parse(policy_toml("plaza", date(2026, 11, 1)), "demo policy")
    windows = OpenWindows(plan(policy), Calendar(policy.timezone).midnight(date(2026, 11, 2)))
    db = sqlite3.connect(":memory:")
    db.executescript(SCHEMA)
    gate = Gate(Ledger(db), DiscreteGaussian())
    secret = new_key()[0]
    streams = [stream.id for stream in policy.streams]
    sizes: dict[str, list[tuple[int, int, int, int]]] = {}
    opened_s = windows.opened_s
    for quarter in range(96):
        for stream in streams:
            second = (opened_s + 900 * quarter) * 1000
            windows.add(stream, [(second + 1000 * i, 1 if stream.endswith("footfall") else 550) for i in range(900)])
    for seq, (closing_s, aggregates) in enumerate(windows.close_due(opened_s + 86_400), 1):
        outcomes = tuple(gate.release(a, windows.plan, policy, 1 << 40) for a in aggregates)
        message = Message("gw-plaza", "centre", "plaza", 1, seq, FIRST_PREVIOUS, closing_s, outcomes)
        sealed = seal_message(message, secret)
        assert open_message(sealed, public_key(secret)) == message
        text = json.dumps([node_json(message, outcome) for outcome in outcomes]).encode()
        kind = {1: "a quarter-hour", 5: "an hour"}.get(len(outcomes), f"{len(outcomes)} nodes")
        sizes.setdefault(kind, []).append((len(sealed), len(text), len(gzip.compress(text)), len(outcomes)))
    total = [sum(row[column] for rows in sizes.values() for row in rows) for column in range(4)]
    for kind, rows in sizes.items():
        most = max(row[0] for row in rows)
        print(f"{kind:15} {most:5} bytes at most, {most / MESSAGE_LIMIT:.2f} of the limit")
    messages = sum(map(len, sizes.values()))
    sealed_bytes, json_bytes, gzip_bytes, nodes = total
    print(f"a gateway's day {sealed_bytes:5} bytes in {messages} messages: {sealed_bytes / nodes:.0f} a node")
    print(
        f"beside JSON     {sealed_bytes / json_bytes:.2f} of its bytes, {sealed_bytes / gzip_bytes:.2f} of it gzipped"
    )
    print("                (signed here, not there)")


if __name__ == "__main__":
    main()
