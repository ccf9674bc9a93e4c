"""What a receipt says of the transparency log, so that gateways can tell a log that grew from one that forked.

A gateway believes a longer log only with a proof from the very size that it remembers. The centre knows that size from
the gateway's health reports alone: a receipt may wait at the broker for days, or be replaced before it is read.
docs/decisions has why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from murmure_privacy import log, wire
from murmure_privacy.errors import WireError
from murmure_privacy.log import Growth

from murmure_ingest.archive import Enrolment
from murmure_ingest.store import Answers

_REPORT_S = 840.0  # reports come once in 900 s, some seconds earlier or later


def remembered(archive: Answers, enrolment: Enrolment) -> int | None:
    """Returns the size of the log that a gateway remembered when it last reported, None if it did not say: then it may
    be one that reads no proof."""
    kept = archive.last_health(enrolment.gateway)
    if kept is None:
        return None
    try:
        return wire.open_health(kept.sealed, enrolment.record_key).log
    except WireError:  # by the key before this one
        return None


def growth(archive: Answers, since: int | None) -> Growth:
    """Returns how far the log has come, with the proof from `since` entries if it had fewer then and any."""
    here = archive.log_checkpoint()
    if since is None or not 0 < since < here.size:
        return Growth(here)
    return Growth(here, since, tuple(archive.log_proof(since, here.size)))


@dataclass(slots=True)
class _Told:
    """The newest receipt of a gateway: what it said of the log. `reads`: whether the gateway says what it remembers;
    `read`: whether it has said that it remembers this. `mend`: where the next proof has to start by its last report;
    `mended_s`: when that last made a receipt due."""

    growth: Growth
    reads: bool
    read: bool
    mend: int | None = None
    mended_s: float = -inf


class Proofs:
    """What each gateway was told of the log since this centre was started. Instants are those of `clock`, seconds."""

    def __init__(self, archive: Answers, clock: Callable[[], float]) -> None:
        self._archive, self._clock = archive, clock
        self._told: dict[str, _Told] = {}
        self._wanting: dict[str, None] = {}  # those to whom the newest receipt proves nothing

    def say(self, enrolment: Enrolment) -> bytes:
        """Returns what the next receipt of a gateway says of the log.

        What it was told it is told again, however far the log has come since, until it reports that it remembers that,
        or something else. Whether it has read it or not, it can believe that; a proof that starts or ends elsewhere,
        only in one of the two cases.
        """
        gateway = enrolment.gateway
        told = self._told.get(gateway)
        if told is None:
            since = remembered(self._archive, enrolment)
            first = growth(self._archive, since)
            told = self._told[gateway] = _Told(first, since is not None, since == first.here.size)
        elif not told.reads:
            told.growth = growth(self._archive, None)
        elif told.mend is not None:
            told.growth, told.read, told.mend = growth(self._archive, told.mend), False, None
        elif told.read and told.growth.here.size != self._archive.log_checkpoint().size:
            told.growth, told.read = growth(self._archive, told.growth.here.size), False
        self._wanting.pop(gateway, None)
        return log.growth_bytes(told.growth)

    def heard(self, gateway: str, size: int | None) -> None:
        """Takes of how many entries a gateway remembers the log by its report, None if it does not say."""
        told = self._told.get(gateway)
        if told is None:
            return  # the report is kept, and read with the first receipt
        told.reads, told.read, told.mend = size is not None, size == told.growth.here.size, None
        self._wanting.pop(gateway, None)
        if told.read:
            told.growth = Growth(told.growth.here)  # it needs no proof any more
        elif size and size != told.growth.since:
            told.mend = size
            if size <= self._archive.log_checkpoint().size:  # else nothing could be proved to it
                self._wanting[gateway] = None

    def due(self) -> list[str]:
        """Returns the gateways for which a receipt has to be made again, each at most once in the time of a report."""
        now_s = self._clock()
        due = [gateway for gateway in self._wanting if now_s - self._told[gateway].mended_s >= _REPORT_S]
        for gateway in due:
            del self._wanting[gateway]
            self._told[gateway].mended_s = now_s
        return due
