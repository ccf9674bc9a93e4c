"""Policies between the inbox and the publisher: which may hold, and from when, by the rules that the enrolment pinned.

What loosens is known here for seven days before it holds, from the instant at which this gateway first saw the policy;
that instant is on the disk before anything follows from it. No log is asked for it: who has taken over the centre could
date a log back. Nor does the clock alone count: the seven days are lived by `sense`, and what the clock leaps, forward
or back, by a step or while nothing ran, moves that instant along. So whoever sets the clock hastens nothing. What such
a policy pauses, drops or protects better counts from the start; only what it loosens has to wait.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from murmure_privacy import wire
from murmure_privacy.decide import FLOOR, Ceiling, Docket, HoldUntil, Refuse, Signed, Waiting, due, hear
from murmure_privacy.errors import ConfigError
from murmure_privacy.plan import plan
from murmure_privacy.policy import Policy, parse

from murmure_edge.config import Trust
from murmure_edge.gateway_db import Candidate, GatewayDb
from murmure_edge.publisher import Publisher

_MARK_S = 600  # so much of the notice is lived again, at the most, after a start
_UNBELIEVED = 8  # of the newest that were not believed are kept until another one comes


class Candidates:
    """What `sense` makes of the policies that it believes. Without a ceiling in `trust.toml`, from before there was
    one, each holds as soon as it comes.

    `unfit` says why these sensors cannot keep a policy, or None; such a one never holds, and what it replaces is over.
    """

    def __init__(
        self,
        db: GatewayDb,
        trust: Trust,
        publisher: Publisher,
        unfit: Callable[[Policy], str | None],
        say: Callable[[str], None],
    ) -> None:
        self._db, self._trust, self._publisher, self._unfit, self._say = db, trust, publisher, unfit, say
        self._docket = Docket()
        self._marked_s = 0  # until then it is on the disk that those that wait have waited
        self._unbelieved: tuple[tuple[Policy, bytes], ...] = ()
        self.refused: int | None = None  # the newest version of which it was said that it cannot be kept

    @property
    def newest(self) -> Policy | None:
        """Returns the newest policy that was believed, whether it holds or not."""
        newest = self._publisher.newest if self._trust.ceiling is None else self._docket.newest
        return None if newest is None else newest.policy

    @property
    def newest_told(self) -> int:
        """Returns the version below which a policy is refused as an old one; a gateway begins with none that was older
        when it was enrolled. Where the rules judge each version beside
        the one before it, those in between are wanted: nothing is published before the newest has come."""
        ruled = self._trust.ceiling is not None and self.newest is not None
        return 0 if ruled else max(self._publisher.newest_told, self._trust.policy_version)

    def start(self, now_s: int) -> None:
        """Takes up after a start, or a step of the clock, what the database holds: policies that wait, and those that
        cannot be kept here."""
        ceiling = self._trust.ceiling
        if ceiling is not None:
            rows = self._db.candidates()
            leap_s = self._leap_s(rows, now_s)
            kept = [Waiting(self._signed(one.sealed), one.seen_s + leap_s) for one in rows]
            self._docket = Docket(self._publisher.newest, tuple(kept))
            self._go_on(ceiling, now_s)
            if kept:
                self._mark(now_s)

    def _leap_s(self, rows: list[Candidate], now_s: int) -> int:
        """Returns how far the clock is from where it was when those that wait were last seen to wait."""
        until_s = self._db.lived_until()
        if until_s is None:  # a file of before: nothing is certain but that they were seen
            until_s = max((one.seen_s for one in rows), default=now_s)
        return now_s - until_s

    def _mark(self, now_s: int) -> None:
        self._db.live_on(now_s, {one.signed.plan.policy.version: one.seen_s for one in self._docket.waiting})
        self._marked_s = now_s

    def hear(self, policy: Policy, sealed: bytes, now_s: int) -> None:
        """Takes a policy that has just come, newer than all that are known, and signed. Raises DiskFull: nothing has
        changed then, and it may be heard again."""
        ceiling = self._trust.ceiling
        if ceiling is None:
            self._hold(policy, now_s)
            return
        try:
            signed = self._signed(sealed)
        except ConfigError as error:
            # No plan can be made of it, here or anywhere: no centre could publish it. So it does not say which one is
            # the newest, and one signature under a large number silences nobody.
            self._say(f"policy {policy.version}: is not believed (no_plan): {error}")
            return
        docket, verdict = hear(self._docket, signed, ceiling, FLOOR, now_s)
        if isinstance(verdict, Refuse):
            self._unbelieved = (*self._unbelieved[1 - _UNBELIEVED :], (policy, sealed))
            self._say(f"policy {policy.version}: is not believed ({verdict.reason}): {verdict.detail}")
            return
        why = "is newer than this enrolment" if self._docket.newest is None else "loosens"
        self._mark(now_s)
        self._db.note_candidate(Candidate(policy.version, now_s, sealed))
        self._docket = docket
        if isinstance(verdict, HoldUntil):
            day = datetime.fromtimestamp(verdict.until_s, UTC)
            self._say(f"policy {policy.version}: {why}, and may hold from {day:%Y-%m-%d %H:%M} UTC on")
        self._go_on(ceiling, now_s)
        # One that came before its turn was judged beside an older one.
        after = [each for each in self._unbelieved if each[0].version > policy.version]
        self._unbelieved = ()
        for other, other_sealed in sorted(after, key=lambda each: each[0].version):
            self.hear(other, other_sealed, now_s)

    def turn(self, now_s: int) -> None:
        """Lets those hold whose notice is over. Raises DiskFull: they may be asked for again."""
        if self._docket.waiting and self._trust.ceiling is not None:
            self._go_on(self._trust.ceiling, now_s)
            if now_s >= self._marked_s + _MARK_S:
                self._mark(now_s)

    def _go_on(self, ceiling: Ceiling, now_s: int) -> None:
        """Lets hold what is due, one by one: where the disk is full, the rest has its say as what waits."""
        docket, held = due(self._docket, ceiling, FLOOR, now_s)
        self._take(self._docket)
        for one in held:
            self._hold(one.signed.plan.policy, now_s)
            version = one.signed.plan.policy.version
            left = (other for other in self._docket.waiting if other.signed.plan.policy.version > version)
            self._take(Docket(one.signed.plan, tuple(left)))
        self._take(docket)

    def _take(self, docket: Docket) -> None:
        self._docket = docket
        self._publisher.waiting = tuple(one.signed.plan for one in docket.waiting)

    def _hold(self, policy: Policy, now_s: int) -> None:
        refusal = self._unfit(policy)
        if refusal is None:
            self._publisher.adopt(policy, now_s)
            self._say(f"policy {policy.version}: accepted")
        else:
            self._db.live_on(now_s, {policy.version: 0})  # its notice is over for good, whatever the clock does
            self._refuse(policy, refusal)

    def _refuse(self, policy: Policy, refusal: str) -> None:
        self._publisher.refuse(policy)
        self.refused = policy.version
        self._say(
            f"policy {policy.version}: refused: {refusal}; nothing is published until it, or a newer one, can be kept"
        )

    def _signed(self, sealed: bytes) -> Signed:
        made = plan(parse(wire.policy_bytes(sealed), "policy"))
        keys = wire.policy_signers(sealed, self._trust.stewards)
        return Signed(made, len(keys), self._trust.roles_of(keys))
