"""`murmure edge replay`: recorded readings through the real windows, gate, ledger and outbox, in simulated time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from murmure_privacy import recording
from murmure_privacy.errors import ConfigError, LedgerDamaged, MurmureError
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import plan
from murmure_privacy.policy import Policy, parse
from murmure_privacy.published import node_json
from murmure_privacy.release import Message, Release
from murmure_privacy.wire import new_key, open_message, public_key

from murmure_edge.gateway_db import GatewayDb
from murmure_edge.publisher import Identity, Publisher

GATEWAY = "gw-replay"


@dataclass(frozen=True, slots=True)
class Summary:
    """What a replay did: nodes printed, of which released, and of those drawn now (the rest were stored before)."""

    nodes: int
    released: int
    drawn: int
    ignored: tuple[str, ...]


def load_policy(path: Path) -> Policy:
    """Returns the policy in a TOML file. Raises ConfigError naming file, key and the mend."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), "file", error.strerror or str(error), "give a readable policy") from error
    policy = parse(data, str(path))
    plan(policy, str(path))  # a plan that cannot be is the file's mistake: say it with the file's name
    return policy


def run(
    policy_file: Path,
    readings: Path,
    stream_id: str,
    out: Path,
    site: str | None = None,
    metric: str | None = None,
    db_file: Path | None = None,
    judge_dates: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> Summary:
    """Replays a recording and writes one JSON line per node; what `db_file` already holds is printed again, not drawn.

    The gateway boots at the first row and ends at the last row's end; nodes still open then are dropped. Raises
    KeyboardInterrupt between two closing instants once `stopped` says so; what is committed stays.
    """
    policy = load_policy(policy_file)
    stream = policy.stream(stream_id)
    if stream is None:
        known = ", ".join(item.id for item in policy.streams)
        raise ConfigError(str(policy_file), "stream", f"no {stream_id!r}", f"write one of {known}")
    only = replace(policy, streams=(stream,))
    recorded = recording.read(readings, stream, site, metric)
    db = _open_db(db_file)
    try:
        for line in db.ledger.lines():
            if line.stream == stream_id and line.policy != policy.hash:
                raise ConfigError(
                    str(db_file), "policy", f"{stream_id} was charged under another one", "give a fresh --db"
                )
        secret = db.kept_secret(new_key()[0])
        with _output(out) as file:
            counts = [0, 0, 0]

            def show(message: Message, fresh: bool) -> None:
                for outcome in message.outcomes:
                    if outcome.node.stream == stream_id:
                        file.write(json.dumps(node_json(message, outcome)) + "\n")
                        released = isinstance(outcome, Release)
                        counts[0] += 1
                        counts[1] += released
                        counts[2] += released and fresh

            for sealed in db.rows().values():
                show(open_message(sealed, public_key(secret)), fresh=False)
            publisher = Publisher(
                db,
                Identity(GATEWAY, "replay", policy.site, secret),
                DiscreteGaussian(),
                committed=lambda message, _: show(message, fresh=True),
                say=lambda text: None,
                judge_dates=judge_dates,
            )
            boot_s = -(-recorded.start_ms // 1000)
            if judge_dates:
                boot_s = max(boot_s, publisher.first_day_s(only))
            publisher.start_under([(boot_s, only)], boot_s)
            for horizon_ms, batch in recording.batches(recorded, stream):
                if stopped():
                    raise KeyboardInterrupt
                publisher.add(stream_id, batch)
                publisher.advance(horizon_ms // 1000)
                _progress(recorded, horizon_ms)
            if publisher.owes:
                raise MurmureError(
                    f"{db_file}: no room on the disk; make room and run it again, nothing is drawn twice"
                )
    finally:
        db.close()
    nodes, released, drawn = counts
    return Summary(nodes, released, drawn, recorded.ignored)


def _open_db(db_file: Path | None) -> GatewayDb:
    if db_file is None:
        return GatewayDb.in_memory()
    if not db_file.parent.is_dir():
        raise ConfigError(str(db_file), "--db", "its folder is not there", "make the folder, or name another file")
    try:
        return GatewayDb.open(db_file)
    except LedgerDamaged as error:
        raise ConfigError(str(db_file), "--db", "no ledger of a replay, or damaged", "give another --db") from error


def _output(out: Path) -> TextIO:
    if str(out) == "-":
        return open(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False)
    try:
        return out.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(out), "--out", error.strerror or str(error), "name a file that can be written") from error


def _progress(recorded: recording.Recording, horizon_ms: int) -> None:
    if sys.stderr.isatty():
        share = (horizon_ms - recorded.start_ms) / max(1, recorded.end_ms - recorded.start_ms)
        end = "\n" if horizon_ms >= recorded.end_ms else ""
        print(f"\r{share:4.0%} of the recording", end=end, file=sys.stderr, flush=True)
