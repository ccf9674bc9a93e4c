"""Which gateways read none of their receipts, or believe none: the alert `MurmureReceiptsUnread`, for a page without
Prometheus. That rule looks back over two days of samples; here one fact for each gateway is kept from look to look.

Each message that is filed is answered by a receipt, which names how many entries the log had. A day later, and at its
second report since, a gateway that believed it remembers as many.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from murmure_ingest.archive_watch import Overview

AFTER_S = 86_400
REPORTS = 2


@dataclass(slots=True)
class _Fact:
    """Of one gateway, instants in seconds UTC: the end of its newest node; since when a receipt is under way that names
    `entries` of the log, 0 without one; and when the last of its `reports` since then was made."""

    newest_s: int
    since_s: int = 0
    entries: int = 0
    report_s: int = 0
    reports: int = 0


class Receipts:
    """What was seen of gateways and their receipts, in a file that may be deleted: a day later it is known again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._facts = {name: _Fact(**fact) for name, fact in json.loads(path.read_bytes()).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            self._facts = {}

    def unread(self, seen: Overview) -> frozenset[str]:
        """Takes a look into account, and returns the gateways that still know less than a receipt of a day ago says."""
        facts: dict[str, _Fact] = {}
        found = set()
        for one in seen.gateways:
            known, report = self._facts.get(one.gateway), one.health
            if one.state == "revoked" or one.newest_end_s is None or report is None or report.log is None:
                continue
            fact = facts[one.gateway] = known or _Fact(one.newest_end_s)
            if report.log >= fact.entries or seen.log_entries < fact.entries:
                fact.since_s = fact.entries = 0  # it has read it, or the log was lost
            if not fact.since_s and one.newest_end_s > fact.newest_s and report.log < seen.log_entries:
                fact.since_s, fact.entries = seen.now_s, seen.log_entries
                fact.report_s, fact.reports = seen.now_s, 0
            if report.at_s > fact.report_s:
                fact.report_s, fact.reports = report.at_s, min(REPORTS, fact.reports + 1)
            fact.newest_s = one.newest_end_s
            if fact.since_s and seen.now_s - fact.since_s >= AFTER_S and fact.reports >= REPORTS:
                found.add(one.gateway)
        self._facts = facts
        return frozenset(found)

    def keep(self) -> None:
        """Writes it down, for the next look."""
        beside = self._path.with_name(f"{self._path.name}.new")
        beside.write_text(json.dumps({name: asdict(fact) for name, fact in sorted(self._facts.items())}), "utf-8")
        beside.replace(self._path)
