"""`murmure edge ledger`: what was charged, when and for what. Reads `gateway.db` beside a running `sense`."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from murmure_privacy.errors import MurmureError
from murmure_privacy.ledger import Charge, Ledger
from murmure_privacy.window import utc

from murmure_edge.config import load


def show(config_path: Path, as_json: bool) -> int:
    """Prints every line and, for people, each stream's largest spend at any instant. Returns 0."""
    path = load(config_path).data / "gateway.db"
    try:
        ledger = Ledger(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True))
        charges = list(ledger.lines())
    except sqlite3.OperationalError as error:
        raise MurmureError(f"{path}: cannot be read: {error}; run it as sense's user, after a first start") from error
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
