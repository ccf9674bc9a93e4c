"""What the archive says of the fleet at one instant: for `/metrics` and for the operators' page. Only reads.

A look at thousands of gateways must stay cheap: health reports are opened and policies parsed once, and what moves
slowly (spending, caps) is looked up again after a while only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from murmure_privacy import accountant
from murmure_privacy import policy as policies
from murmure_privacy.errors import ConfigError, WireError
from murmure_privacy.policy import Policy, StreamPolicy
from murmure_privacy.release import Health
from murmure_privacy.window import Calendar
from murmure_privacy.wire import open_health

from murmure_ingest.archive import Archive, Enrolment

AHEAD_S = 900
"""A report or a node from further in the future is by a clock that is wrong, and says nothing of when it came."""

SPENDING_S = 600
CAP_S = 6 * 3600
_POLICIES_KEPT = 10_000

State = Literal["active", "quarantined", "revoked"]


@dataclass(frozen=True, slots=True)
class GatewayState:
    """One gateway. `missing`: messages that have not come although later ones have. `heard_s`: the latest instant of
    which it spoke, `newest_end_s`: the end of its newest filed node, None before the first. `outbox_age_s`: how old the
    oldest message of its outbox is at most."""

    gateway: str
    quartier: str
    site: str
    state: State
    settled_seq: int
    missing: int
    heard_s: int | None
    newest_end_s: int | None
    outbox_age_s: int | None
    health: Health | None


@dataclass(frozen=True, slots=True)
class StreamState:
    """One stream. `due_s`: when the node after its newest one ends, None where none is expected. `budget_rho_micro`:
    its policy's. `spent_rho_micro`: its largest spend of yesterday and today; `cap_share`: how full the tank of its cap
    is. These are None without a policy or cap, the latter two also while they were not looked up yet."""

    stream: str
    site: str
    quantity: str
    gateway: str
    newest_end_s: int | None
    due_s: int | None
    spent_rho_micro: int | None
    budget_rho_micro: int | None
    cap_share: float | None

    def late_s(self, now_s: int) -> int | None:
        """Returns for how long its next node has been awaited, None where none is expected."""
        return None if self.due_s is None else max(0, now_s - self.due_s)


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole centre at `now_s` (seconds UTC). Counts are of messages, `duplicates` of nodes; `waiting` and `refused`
    by reason. `log_entries`: how many the transparency log has. `policy_ends`: by site that a gateway serves and that
    has a policy, the first instant (seconds UTC) that no published policy covers."""

    now_s: int
    gateways: tuple[GatewayState, ...]
    streams: tuple[StreamState, ...]
    messages: int
    conflicts: int
    log_entries: int
    duplicates: int
    waiting: dict[str, int]
    refused: dict[str, int]
    policy_ends: dict[str, int]

    @property
    def newest_end_s(self) -> int | None:
        """Returns the end of the newest node of all streams."""
        return max((one.newest_end_s for one in self.streams if one.newest_end_s is not None), default=None)


class Watch:
    """Looks at one archive again and again. Use from the thread that uses the archive. `spendings`, `caps`: of how many
    streams these are looked up at one look at most, those first that were looked up longest ago; None for all."""

    def __init__(self, archive: Archive, spendings: int | None = None, caps: int | None = None) -> None:
        self._archive, self._spendings, self._most_caps = archive, spendings, caps
        self._health: dict[str, tuple[bytes, Health | None]] = {}
        self._policy = lru_cache(maxsize=_POLICIES_KEPT)(self._parsed)
        self._calendar = lru_cache(maxsize=None)(Calendar)
        self._spent: dict[str, tuple[int, int]] = {}
        self._caps: dict[str, tuple[int, float]] = {}

    def look(self, now_s: int) -> Overview:
        """Returns what the archive says as of `now_s`. Raises ArchiveError if it cannot be read."""
        archive = self._archive
        register = archive.enrolments()
        ends = archive.newest_ends(now_s + AHEAD_S)
        gateways = {one.gateway: one for one in self._gateways(register, ends, now_s)}
        streams = tuple(self._streams(gateways, ends, now_s))
        messages, conflicts, counters = archive.tallies()
        return Overview(
            now_s=now_s,
            gateways=tuple(gateways.values()),
            streams=streams,
            messages=messages,
            conflicts=conflicts,
            log_entries=archive.log_checkpoint().size,
            duplicates=counters.get("duplicates", 0),
            waiting=archive.waiting(),
            refused=_by_reason(counters),
            policy_ends=self._policy_ends({one.site for one in register if one.status == "active"}, now_s),
        )

    def _gateways(self, register: list[Enrolment], ends: dict[str, int], now_s: int) -> Iterator[GatewayState]:
        progress, cloned = self._archive.progress(), self._archive.all_cloned()
        newest: dict[str, int] = {}
        for info in self._archive.streams():
            if info.stream in ends:
                newest[info.gateway] = max(newest.get(info.gateway, 0), ends[info.stream])
        reports = {report.gateway: report.sealed for report in self._archive.health()}
        for line in register:
            settled, missing = progress.get(line.gateway, (0, 0))
            health = self._opened(line, reports.get(line.gateway))
            end_s = newest.get(line.gateway)
            said = [at_s for at_s in (end_s, health.at_s if health else None) if at_s is not None]
            state: State = "quarantined" if line.gateway in cloned else "active"
            yield GatewayState(
                gateway=line.gateway,
                quartier=line.quartier,
                site=line.site,
                state="revoked" if line.status == "revoked" else state,
                settled_seq=settled,
                missing=missing,
                heard_s=max((at_s for at_s in said if at_s <= now_s + AHEAD_S), default=None),
                newest_end_s=end_s,
                outbox_age_s=_outbox_age_s(health, end_s, now_s),
                health=health,
            )

    def _opened(self, line: Enrolment, sealed: bytes | None) -> Health | None:
        if sealed is None:
            return None
        known = self._health.get(line.gateway)
        if known is None or known[0] != sealed:
            try:
                known = sealed, open_health(sealed, line.record_key)
            except WireError:
                known = sealed, None  # of an earlier enrolment under another key
            self._health[line.gateway] = known
        return known[1]

    def _streams(self, gateways: dict[str, GatewayState], ends: dict[str, int], now_s: int) -> Iterator[StreamState]:
        serving: dict[str, GatewayState] = {}
        for gateway in gateways.values():
            if gateway.state != "revoked" and gateway.heard_s is not None:
                serving[gateway.site] = gateway
        planned = self._in_force(now_s)
        known = {
            info.stream: StreamState(
                info.stream, info.site, info.quantity, info.gateway, ends.get(info.stream), None, None, None, None
            )
            for info in self._archive.streams()
        }
        for stream, (policy, part) in planned.items():
            if stream not in known and policy.site in serving:
                speaker = serving[policy.site].gateway
                known[stream] = StreamState(
                    stream, policy.site, part.quantity.name, speaker, None, None, None, None, None
                )
        self._look_up_spending(known, planned, now_s)
        for stream, state in sorted(known.items()):
            rule = planned.get(stream)
            if rule is None:
                yield state
                continue
            policy, part = rule
            last_s = self._last_s(state, policy, serving.get(policy.site))
            yield replace(
                state,
                due_s=None if last_s is None else self._next_end_s(policy, part, last_s),
                spent_rho_micro=self._spent[stream][1] if stream in self._spent else None,
                budget_rho_micro=_budget(part.epsilon, part.delta),
                cap_share=self._caps[stream][1] if part.cap and stream in self._caps else None,
            )

    def _in_force(self, now_s: int) -> dict[str, tuple[Policy, StreamPolicy]]:
        """Returns the streams of the newest policy of each site that has begun and not ended."""
        found: dict[str, tuple[Policy, StreamPolicy]] = {}
        for hashes in self._archive.policy_versions().values():
            for policy_hash in hashes:
                policy = self._policy(policy_hash)
                if policy is None or self._calendar(policy.timezone).civil_day(now_s) < policy.valid_from:
                    continue
                if self._calendar(policy.timezone).civil_day(now_s) <= policy.valid_until:
                    found |= {part.id: (policy, part) for part in policy.streams}
                break
        return found

    def _policy_ends(self, served: set[str], now_s: int) -> dict[str, int]:
        """Returns by served site when its policies end, one after the other, as their own dates have it: a policy
        replaces the one before on its first day, also if it ends earlier."""
        found: dict[str, int] = {}
        for site, hashes in self._archive.policy_versions().items():
            if site not in served:
                continue
            coming: list[Policy] = []  # the newest first, and last the one that has begun
            for policy in filter(None, map(self._policy, hashes)):
                coming.append(policy)
                if policy.valid_from <= self._calendar(policy.timezone).civil_day(now_s):
                    break
            if not coming:
                continue
            last = min(coming, key=lambda one: (one.valid_from, -one.version))
            following = [one for one in coming if one.version > last.version]
            while next_one := min(
                (one for one in following if one.valid_from - last.valid_until <= timedelta(days=1)),
                key=lambda one: (one.valid_from, -one.version),
                default=None,
            ):
                last, following = next_one, [one for one in following if one.version > next_one.version]
            calendar = self._calendar(last.timezone)
            found[site] = calendar.day(calendar.midnight(last.valid_until)).end_s
        return found

    def _parsed(self, policy_hash: bytes) -> Policy | None:
        text = self._archive.policy(policy_hash)
        try:
            return policies.parse(text, "archive") if text is not None else None
        except ConfigError:
            return None  # of a later version of Murmure

    def _last_s(self, state: StreamState, policy: Policy, gateway: GatewayState | None) -> int | None:
        """Returns from when on the next node of a stream is awaited: from its newest one, else from when its gateway
        was started under its policy; None while no gateway of the site has spoken."""
        if gateway is None or state.newest_end_s is not None:
            return None if gateway is None else state.newest_end_s
        begun_s = self._calendar(policy.timezone).midnight(policy.valid_from)
        report = gateway.health
        return max(begun_s, report.at_s - report.uptime_s) if report else begun_s

    def _next_end_s(self, policy: Policy, part: StreamPolicy, last_s: int) -> int:
        calendar = self._calendar(policy.timezone)
        return min(calendar.node(level, last_s).end_s for level, _ in part.nodes)

    def _look_up_spending(
        self, known: dict[str, StreamState], planned: dict[str, tuple[Policy, StreamPolicy]], now_s: int
    ) -> None:
        ruled = [stream for stream in known if stream in planned]
        for stream in _oldest(self._spent, ruled, now_s, SPENDING_S)[: self._spendings]:
            since_s = self._yesterday_s(planned[stream][0], now_s)
            self._spent[stream] = now_s, self._archive.largest_spend(stream, since_s, now_s)
        capped = [stream for stream in ruled if planned[stream][1].cap]
        for stream in _oldest(self._caps, capped, now_s, CAP_S)[: self._most_caps]:
            self._caps[stream] = now_s, self._cap_share(*planned[stream], now_s)

    def _yesterday_s(self, policy: Policy, now_s: int) -> int:
        calendar = self._calendar(policy.timezone)
        return calendar.day(calendar.day(now_s).start_s - 1).start_s

    def _cap_share(self, policy: Policy, part: StreamPolicy, now_s: int) -> float:
        """Returns what the days of the span that ends today have cost, as a share of the cap; days count as the
        gateway's tank counts them."""
        cap, calendar = part.cap, self._calendar(policy.timezone)
        assert cap is not None
        levels = [level for level, _ in part.nodes if level != "1w"]
        spent, at_s = 0, now_s
        for _ in range(cap.days):
            day = calendar.period(levels, at_s)
            spent += self._archive.largest_spend(part.id, day.start_s, day.end_s)
            at_s = day.start_s - 1
        return cap.units_per_day**2 * spent / _budget(cap.epsilon, part.delta)


def _oldest(looked: Mapping[str, tuple[int, float]], streams: list[str], now_s: int, holds_s: int) -> list[str]:
    """Returns the streams that were never looked up, then those that were longer than `holds_s` ago."""
    old = [stream for stream in streams if stream not in looked or not 0 <= now_s - looked[stream][0] < holds_s]
    return sorted(old, key=lambda stream: looked[stream][0] if stream in looked else 0)


def _by_reason(counters: dict[str, int]) -> dict[str, int]:
    """Whether a message was refused or contradicts what is filed: its reason says it."""
    found: Counter[str] = Counter()
    for name, value in counters.items():
        kind, _, reason = name.partition(":")
        if kind in ("refused", "conflict"):
            found[reason] += value
    return dict(found)


@lru_cache(maxsize=1024)
def _budget(epsilon: Decimal, delta: Decimal) -> int:
    return accountant.rho_micro(epsilon, delta)


def _outbox_age_s(health: Health | None, newest_end_s: int | None, now_s: int) -> int | None:
    """An outbox is sent oldest first: what waits is younger than what came last."""
    if health is None:
        return None
    if health.outbox_depth == 0:
        return 0
    return health.uptime_s if newest_end_s is None else max(0, now_s - newest_end_s)
