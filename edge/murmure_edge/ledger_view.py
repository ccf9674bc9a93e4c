"""`murmure edge ledger`: what was charged, when and for what. Reads `gateway.db` beside a running `sense`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from murmure_privacy.accountant import MICRO, epsilon
from murmure_privacy.change import last_s, protects_better
from murmure_privacy.errors import ConfigError, MurmureError
from murmure_privacy.gate import Tank
from murmure_privacy.ledger import Charge, Ledger
from murmure_privacy.plan import Plan, plan
from murmure_privacy.policy import parse
from murmure_privacy.window import parse_utc, utc
from murmure_privacy.wire import policy_bytes

from murmure_edge.config import load
from murmure_edge.gateway_db import candidates_of, policies_of, told_version_of
from murmure_edge.publisher import plan_at

T = TypeVar("T")


def _read(config_path: Path, what: Callable[[sqlite3.Connection], T]) -> T:
    path = load(config_path).data / "gateway.db"
    try:
        return what(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True))
    except sqlite3.OperationalError as error:
        raise MurmureError(f"{path}: cannot be read: {error}; run it as sense's user, after a first start") from error


def show(config_path: Path, as_json: bool) -> int:
    """Prints every line and, for people, each stream's largest spend at any instant. Returns 0."""

    def everything(connection: sqlite3.Connection) -> tuple[Ledger, list[Charge]]:
        ledger = Ledger(connection)
        return ledger, list(ledger.lines())

    ledger, charges = _read(config_path, everything)
    if as_json:
        for charge in charges:
            print(json.dumps(_as_json(charge)))
        return 0
    for charge in charges:
        price = f"{charge.rho_micro:>7} micro-rho" if charge.reason is None else f"withheld: {charge.reason}"
        print(f"{utc(charge.covered_from_s)} to {utc(charge.end_s)}  {charge.level:>5}  {charge.stream}  {price}")
    for stream in dict.fromkeys(charge.stream for charge in charges):
        spans = [(c.covered_from_s, c.end_s) for c in charges if c.stream == stream]
        most = ledger.spent_rho_micro(stream, min(a for a, _ in spans), max(b for _, b in spans))
        print(f"{stream}: at most {most} micro-rho spent at any instant")
    return 0


def show_at(config_path: Path, at: str, as_json: bool) -> int:
    """Prints what each stream has spent at an instant (`2026-11-21T14:00:00Z`) and has left of its policy's budget
    there. Nodes that are still open are not charged yet. Returns 0. Raises ConfigError for another form of time."""
    try:
        at_s = parse_utc(at)
    except ValueError as error:
        raise ConfigError("--at", at, "is no instant", "write it in UTC, as 2026-11-21T14:00:00Z") from error
    streams = _read(config_path, lambda connection: _streams_at(connection, at_s))
    site = {
        "spent_rho_micro": sum(stream["spent_rho_micro"] for stream in streams),
        "left_rho_micro": sum(stream["left_rho_micro"] for stream in streams),
    }
    if as_json:
        print(json.dumps({"at": utc(at_s), "streams": streams, "site": site}))
        return 0
    for stream in streams:
        if stream["policy"] is None:
            print(f"{stream['stream']}: under no policy at {utc(at_s)}; {stream['spent_rho_micro']} micro-rho spent")
            continue
        print(
            f"{stream['stream']}: {stream['spent_rho_micro']} of {stream['rho_micro']} micro-rho spent at {utc(at_s)},"
            f" {stream['left_rho_micro']} left; epsilon {stream['spent_epsilon']:.4g} of {stream['epsilon']:g},"
            f" delta {stream['delta']:g}"
            + ("" if stream["withheld"] is None else f"; nothing more is published ({stream['withheld']})")
        )
    print(f"all streams together: {site['spent_rho_micro']} micro-rho spent, {site['left_rho_micro']} left")
    return 0


def _streams_at(connection: sqlite3.Connection, at_s: int) -> list[dict[str, Any]]:
    ledger = Ledger(connection)
    accepted = [(item.from_s, plan(parse(item.toml, f"policy {item.version}"))) for item in policies_of(connection)]
    known = [made for _, made in accepted]
    known += [plan(parse(policy_bytes(item.sealed), "candidate")) for item in candidates_of(connection)]
    told = told_version_of(connection)
    streams = dict.fromkeys(stream for _, made in accepted for stream in made.streams)
    found = []
    for stream in streams:
        spent = ledger.spent_rho_micro(stream, at_s, at_s + 1)
        made = plan_at(stream, accepted, at_s)
        entry: dict[str, Any] = {"stream": stream, "spent_rho_micro": spent, "left_rho_micro": 0, "policy": None}
        if made is not None:
            own = made.streams[stream]
            newer = [each for each in known if each.policy.version > made.policy.version]
            tank = Tank(ledger)
            fits = tank.holds_day(tank.day(at_s, own, made.calendar), made.policy.hash, own, made.calendar)
            withheld = _held_back(stream, made, newer, told)
            if withheld is None and at_s >= min(map(last_s, (made, *newer))):
                withheld = "expired"
            elif withheld is None and not fits:
                withheld = "cap"
            entry |= {
                "left_rho_micro": own.rho_micro - spent if withheld is None else 0,
                "withheld": withheld,
                "rho_micro": own.rho_micro,
                "spent_epsilon": float(epsilon(Decimal(spent) / MICRO, own.stream.delta)),
                "epsilon": float(own.stream.epsilon),
                "delta": float(own.stream.delta),
                "policy": f"sha256:{made.policy.hash.hex()}",
            }
        found.append(entry)
    return found


def _held_back(stream: str, made: Plan, newer: Sequence[Plan], told: int) -> str | None:
    """Returns why the publisher would withhold a stream of a policy beside all that are known since, if they say so.
    `told`: the newest version of which the centre has told."""
    own, newest = made.streams[stream], (made, *newer)[-1].policy.version
    words = [each.streams.get(stream) for each in newer]
    if None in words or newest - made.policy.version != len(newer) or told > newest:
        return "no_policy"
    paused = any(each.policy.paused or each.streams[stream].stream.paused for each in (made, *newer))
    better = any(protects_better(word, own) for word in words if word is not None)
    return "paused" if paused or better else None


def _as_json(charge: Charge) -> dict[str, object]:
    return {
        "line": charge.line,
        "stream": charge.stream,
        "node": charge.level,
        "start": utc(charge.start_s),
        "end": utc(charge.end_s),
        "covered": [utc(charge.covered_from_s), utc(charge.end_s)],
        "rho_micro": charge.rho_micro,
        "status": "released" if charge.reason is None else "withheld",
        "reason": charge.reason,
        "policy": f"sha256:{charge.policy.hex()}",
    }
