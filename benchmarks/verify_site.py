"""`murmure verify` on what a town of 50 gateways publishes in a year, beside its limits: 60 s, and 20 MB over the line.

What it reads by default: the log with every policy and daily account, the last message of each account, and all
messages of the newest week (each gateway speaks every quarter-hour). The tables of figures are not in it: a month of
such a town has 40 MB of them. Integers are drawn at random, so that they pack as real ones do.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from murmure_privacy import log, wire
from murmure_privacy.log import Checkpoint
from murmure_privacy.publication import DAY_S
from murmure_privacy.release import Message, Outcome, Release
from murmure_privacy.sources import Site
from murmure_privacy.verify import verify
from murmure_privacy.window import Calendar, utc

ROOT = Path(__file__).resolve().parent.parent
GATEWAYS = 50
LIMIT_S, LIMIT_MB = 60.0, 20.0
FIRST_DAY = 20_758  # 2026-11-01
QUARTERS_A_DAY = 96
READ_DAYS = 7  # of which `murmure verify` reads every message, for so many gateways


def drawn(outcomes: tuple[Outcome, ...], noise: random.Random) -> tuple[Outcome, ...]:
    """Returns the nodes with integers as wide as their noise makes them."""
    return tuple(
        Release(
            one.node,
            tuple(
                replace(n, integers=tuple(round(noise.gauss(300, n.sigma_milli / 1000)) for _ in n.integers))
                for n in one.noised
            ),
        )
        for one in outcomes
        if isinstance(one, Release)
    )


def publish(folder: Path, days: int) -> int:
    """Writes what such a town publishes of its log and messages. Returns the bytes, packed."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.ingest.fleet import CENTRE_SECRET, fleet, outcomes

    noise, gateways, calendar = random.Random(1), fleet(GATEWAYS), Calendar("Europe/Paris")
    steward = hashlib.sha256(b"steward").digest()
    files: dict[str, bytes] = {}
    entries: list[bytes] = []
    for one in gateways:
        line = one.enrolment
        place = {"gateway": one.name, "quartier": one.quartier, "site": one.site, "record_key": line.record_key.hex()}
        stewards = {"stewards": [key.hex() for key in line.stewards], "signatures_required": 1}
        entries.append(log.entry({"kind": "enrolment", **place, **stewards}))
        sealed = wire.seal_policy(one.toml, [("steward", steward)])
        policy = wire.digest(one.toml).hex()
        files[f"donnees/politiques/{policy}.cose"] = sealed
        text = {"site": one.site, "hash": policy, "sealed": wire.digest(sealed).hex()}
        entries.append(log.entry({"kind": "policy", "version": 1, **text, "published": None}))
    months: dict[str, list[bytes]] = {}
    ends: dict[str, bytes] = {}
    newest: dict[str, list[bytes]] = {}
    for day in range(FIRST_DAY, FIRST_DAY + days):
        date = utc(day * DAY_S)[:10]
        instants = [day * DAY_S + 900 * (quarter + 1) for quarter in range(QUARTERS_A_DAY)]
        due = {one.name: [outcomes(one.plan, calendar, at_s) for at_s in instants] for one in gateways[:1]}
        nodes: dict[str, dict[str, list[int]]] = {}
        for outcome in (outcome for said in due[gateways[0].name] for outcome in said):
            counts = nodes.setdefault(outcome.node.stream.split("/")[1], {}).setdefault(outcome.node.level, [0, 0, 0])
            counts[0] += 1
            counts[2] += sum(n.rho_micro for n in outcome.noised) if isinstance(outcome, Release) else 0
        for one in gateways:
            first = (day - FIRST_DAY) * QUARTERS_A_DAY
            whole = day >= FIRST_DAY + days - READ_DAYS
            quarters = range(QUARTERS_A_DAY) if whole else (QUARTERS_A_DAY - 1,)
            previous = ends.get(one.name) or noise.randbytes(32)
            for quarter in quarters:
                said = drawn(outcomes(one.plan, calendar, instants[quarter]), noise)
                seq = first + quarter + 1
                message = Message(one.name, one.quartier, one.site, 1, seq, previous, instants[quarter], said)
                sealed = wire.seal_message(message, one.secret)
                previous = wire.digest(sealed)
                if whole:
                    ends[one.name] = previous
                    newest.setdefault(date, []).append(sealed)
            months.setdefault(date[:7], []).append(sealed)
            streams = [
                {"stream": f"{one.site}/{name}", "policy": 1, "nodes": levels} for name, levels in sorted(nodes.items())
            ]
            last = {"gateway": one.name, "day": date, "last": first + QUARTERS_A_DAY, "hash": previous.hex()}
            entries.append(log.entry({"kind": "spend", **last, "streams": streams}))
    for at in range(0, len(entries), 4096):
        files[f"donnees/journal/entries-{at // 4096:05}.jsonl"] = b"".join(
            one + b"\n" for one in entries[at : at + 4096]
        )
    for month, row in months.items():
        files[f"donnees/journal/days-{month}.cose"] = b"".join(row)
    files |= {f"donnees/messages/{date}.cose": b"".join(row) for date, row in newest.items()}
    # The days before are published too; nobody fetches them here.
    before = [
        f"donnees/messages/{utc(day * DAY_S)[:10]}.cose" for day in range(FIRST_DAY, FIRST_DAY + days - READ_DAYS)
    ]
    index = [{"path": path, "messages": 0, "octets": 0} for path in before]
    index += [
        {"path": path, "messages": QUARTERS_A_DAY * GATEWAYS if "/messages/" in path else 0, "octets": len(data)}
        for path, data in files.items()
        if "politiques" not in path
    ]
    here = Checkpoint(len(entries), log.root([log.leaf_hash(entry) for entry in entries]))
    files["donnees/journal/checkpoint.txt"] = log.seal_checkpoint(here, CENTRE_SECRET)
    files["donnees/journal/centre.txt"] = wire.public_key(CENTRE_SECRET).hex().encode()
    files["donnees/messages/index.json"] = json.dumps({"files": index}).encode()
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        (folder / f"{path}.gz").write_bytes(gzip.compress(data, mtime=0))
    return sum((folder / f"{path}.gz").stat().st_size for path in files)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=365)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        publish(folder, args.days)
        began, cpu = time.perf_counter(), time.process_time()
        site = Site(str(folder))
        published = replace(site.published(), rows=None)
        report = verify(published, days=range(FIRST_DAY + args.days - READ_DAYS, FIRST_DAY + args.days))
        wall, used = time.perf_counter() - began, time.process_time() - cpu
        assert not report.findings, report.findings[:3]
        assert report.accounts == GATEWAYS * args.days
        parts = {
            kind: sum(path.stat().st_size for path in folder.rglob(f"{kind}*.gz")) / 1e6
            for kind in ("entries-", "days-", "2")
        }
    print(f"{args.days} days of {GATEWAYS} gateways: {report.accounts} accounts")
    print(f"{READ_DAYS} days message by message: {report.messages} messages, {report.nodes} figures")
    read = site.octets / 1e6
    print(f"read      {read:6.1f} MB of {LIMIT_MB:.0f} ({read / LIMIT_MB:.2f} of the limit)")
    for name, kind in (("log", "entries-"), ("last messages", "days-"), ("newest days", "2")):
        print(f"          {parts[kind]:6.1f} MB {name}")
    # One process that waits for nothing: on a machine of its own it takes its CPU time.
    print(f"checked   {used:6.1f} s of {LIMIT_S:.0f} ({used / LIMIT_S:.2f} of the limit) of CPU")
    print(f"          {wall:6.1f} s by the clock")
    return int(args.days >= 365 and (used > LIMIT_S or read > LIMIT_MB))


if __name__ == "__main__":
    sys.exit(main())
