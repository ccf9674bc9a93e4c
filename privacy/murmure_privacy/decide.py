"""Which policy may follow which: a partial order of policies, and the judgement that every gateway makes for itself.

"Looser" is said stream by stream and dimension by dimension: a larger epsilon, less noise on any figure, a wider clamp,
another node, a longer validity, a weaker unit, a weaker cap. What cannot be compared counts as looser. So a policy that
is tighter in ten respects and looser in one is a loosening.

- A tightening, or what changes nothing, needs one signature and acts at once: nobody is kept from protecting better.
- A loosening needs signatures of two different roles, seven days after it became known, and stays under the ceiling
  that was set at the site's enrolment and under the floor of protection that is compiled into this release.
- The first policy needs what a loosening needs, but waits only if it is newer than what the site had at the enrolment.

A gateway judges with what it has: the newest policy that it took, the keys that were pinned at its enrolment, and its
own clock. A centre that is taken over can withhold policies and delay them, and nothing else. Pure: nothing is read or
kept here. Source: trust.md 5.4, contract 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Literal, TypeVar

from murmure_privacy import accountant
from murmure_privacy.plan import Plan, StreamPlan
from murmure_privacy.policy import DEFAULT_DELTA, StreamPolicy

_Measure = TypeVar("_Measure", int, Decimal, date)

NOTICE_S = 7 * 86_400
"""How long a loosening is known before it may hold."""

UNDECIDED = "à compléter"
"""What stands where a decision is to be named, in a file that `policy new` wrote; such a policy is not signed."""

Way = Literal["tighter", "looser", "unlike", "same"]
"""`unlike`: cannot be compared, and counts as looser. `same`: changes nothing of what may be learned."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The least protection that a release of this software lends itself to, whoever signs: the most that one unit in
    each stream of a site may cost together, and the largest delta."""

    rho_micro: int
    delta: Decimal


FLOOR_EPSILON = 10
FLOOR = Floor(accountant.rho_micro(Decimal(FLOOR_EPSILON), DEFAULT_DELTA), Decimal("0.00001"))
"""Epsilon 10 over all streams of a site together (delta 1e-6): beyond it nothing worth the name is promised."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What was set at a site's enrolment. `rho_micro`: the most that one unit in each of its streams may cost together.
    `signatures`: how many keys must have signed any policy; `roles`: of how many different roles those must be that
    signed a loosening, or the first policy. `policy_version`: of the newest policy that the site had then, 0 for none;
    None where nobody noted it."""

    rho_micro: int
    signatures: int = 1
    roles: int = 2
    policy_version: int | None = None

    def knew(self, version: int) -> bool:
        """Returns whether a first policy is not newer than the enrolment: the site's policy of then, or the very first
        of a site that had none. Another one may loosen what was never seen here."""
        return self.policy_version is None or version <= max(1, self.policy_version)


@dataclass(frozen=True, slots=True)
class Signed:
    """A policy, planned, with how many pinned keys have signed it, and the roles of those keys. A role belongs to the
    pinned key; no message says what role somebody has."""

    plan: Plan
    signatures: int
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class LogWord:
    """Since when a policy is known (UTC seconds): to who asks, or to everybody by a log that the asker has checked. A
    gateway takes the later of both, since a log can be dated back by whoever keeps it."""

    published_s: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which two policies of a site differ. `stream`: "" for the whole policy; `what`: the dimension, a key
    of the policy or `scale`; `at`: the node, or node and indicator, where there are several. `was`, `now`: the values
    as they would stand in the file (`scale`: thousandths of the released integer's unit), "" for none."""

    stream: str
    what: str
    way: Way
    was: str
    now: str
    at: str = ""

    @property
    def looser(self) -> bool:
        """Returns whether this makes a policy a loosening."""
        return self.way in ("looser", "unlike")


@dataclass(frozen=True, slots=True)
class Accept:
    """The policy may hold from now on."""


@dataclass(frozen=True, slots=True)
class HoldUntil:
    """A loosening that may hold from that instant on (UTC seconds), if it is asked for again then."""

    until_s: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """The policy never holds. `reason` is one word; `detail` is what is wrong, with the mend."""

    reason: Literal["other_site", "old_policy", "no_decision", "signatures", "roles", "ceiling", "floor"]
    detail: str


Verdict = Accept | HoldUntil | Refuse


# --- the order -------------------------------------------------------------------------------------------------------


def compare(old: Plan, new: Plan) -> tuple[Difference, ...]:
    """Returns everything in which the new policy of a site differs from the old one, the whole policy first, then
    stream by stream in the old one's order, new streams last."""
    found = [*_whole(old, new)]
    for name, own in old.streams.items():
        word = new.streams.get(name)
        if word is None:
            found.append(Difference(name, "stream", "tighter", name, ""))
        else:
            found += _stream(own, word, old.policy.paused, new.policy.paused)
    added = [name for name in new.streams if name not in old.streams]
    return (*found, *(Difference(name, "stream", "looser", "", name) for name in added))


def loosens(differences: tuple[Difference, ...]) -> bool:
    """Returns whether any of them makes the newer policy a loosening."""
    return any(one.looser for one in differences)


def _whole(old: Plan, new: Plan) -> Iterator[Difference]:
    was, now = old.policy, new.policy
    if was.timezone != now.timezone:
        yield Difference("", "timezone", "unlike", was.timezone, now.timezone)  # other days, other nodes
    yield from _ordered("", "valid_from", was.valid_from, now.valid_from, larger="tighter")
    yield from _ordered("", "valid_until", was.valid_until, now.valid_until, larger="looser")
    if now.version > was.version + 1:
        # What stands between has never been seen here: this one may be looser than that.
        yield Difference("", "version", "unlike", str(was.version), str(now.version))
    for what, before, after in (("decision", was.decision, now.decision), ("reason", was.reason, now.reason)):
        if before != after:
            yield Difference("", what, "same", before, after)


def _ordered(
    stream: str, what: str, was: _Measure, now: _Measure, larger: Literal["tighter", "looser"], at: str = ""
) -> Iterator[Difference]:
    """Yields the difference of two values that have an order, nothing if they are equal."""
    smaller: Way = "looser" if larger == "tighter" else "tighter"
    if was != now:
        yield Difference(stream, what, larger if now > was else smaller, str(was), str(now), at)


def _stream(own: StreamPlan, word: StreamPlan, was_paused: bool, now_paused: bool) -> Iterator[Difference]:
    old, new = own.stream, word.stream
    name = old.id
    if old.quantity != new.quantity:
        yield Difference(name, "quantity", "unlike", old.quantity.name, new.quantity.name)
        return
    yield from _ordered(name, old.protects[0], old.protects[1], new.protects[1], larger="tighter")
    yield from _up_to(old, new)
    if old.cadence_ms != new.cadence_ms:
        yield Difference(name, "cadence_ms", "unlike", str(old.cadence_ms), str(new.cadence_ms))
    yield from _ordered(name, "tail", old.tail, new.tail, larger="tighter")
    yield from _ordered(name, "epsilon", old.epsilon, new.epsilon, larger="looser")
    yield from _ordered(name, "delta", old.delta, new.delta, larger="looser")
    yield from _bounds(old, new)
    yield from _figures(own, word)
    yield from _cap(old, new)
    before, after = was_paused or old.paused, now_paused or new.paused
    if before != after:
        yield Difference(name, "paused", "tighter" if after else "looser", _flag(before), _flag(after))


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _up_to(old: StreamPolicy, new: StreamPolicy) -> Iterator[Difference]:
    """Without a level, events of any level are protected; with a higher one more of them are than with a lower one."""
    if old.up_to == new.up_to:
        return
    tighter = old.up_to is not None and (new.up_to is None or new.up_to > old.up_to)
    per_unit = old.quantity.per_unit
    was, now = ("" if level is None else f"{level / per_unit:g}" for level in (old.up_to, new.up_to))
    yield Difference(old.id, "up_to", "tighter" if tighter else "looser", was, now)


def _bounds(old: StreamPolicy, new: StreamPolicy) -> Iterator[Difference]:
    if old.bounds == new.bounds:
        return
    per_unit = old.quantity.per_unit
    was, now = (f"[{low / per_unit:g}, {high / per_unit:g}]" for low, high in (old.bounds, new.bounds))
    inside = old.bounds[0] <= new.bounds[0] and new.bounds[1] <= old.bounds[1]
    around = new.bounds[0] <= old.bounds[0] and old.bounds[1] <= new.bounds[1]
    yield Difference(old.id, "bounds", "tighter" if inside else "looser" if around else "unlike", was, now)


def _figures(own: StreamPlan, word: StreamPlan) -> Iterator[Difference]:
    """Yields what figures there are and how much noise is on each. Weights and shares of the budget show here: who
    gives one figure more of it gives it less noise."""
    name = own.stream.id
    was = {(node.level, one.indicator): one.sigma_milli for node in own.nodes for one in node.indicators}
    now = {(node.level, one.indicator): one.sigma_milli for node in word.nodes for one in node.indicators}
    for key in dict.fromkeys((*was, *now)):
        at = " ".join(key)
        if key not in now:
            yield Difference(name, "figure", "tighter", at, "", at)
        elif key not in was:
            yield Difference(name, "figure", "looser", "", at, at)
        else:
            yield from _ordered(name, "scale", was[key], now[key], larger="tighter", at=at)


def _cap(old: StreamPolicy, new: StreamPolicy) -> Iterator[Difference]:
    if old.cap is None or new.cap is None:
        was, now = ("" if cap is None else f"{cap.epsilon} / {cap.span}" for cap in (old.cap, new.cap))
        if was != now:
            yield Difference(old.id, "cap", "looser" if new.cap is None else "tighter", was, now)
        return
    yield from _ordered(old.id, "cap.epsilon", old.cap.epsilon, new.cap.epsilon, larger="looser")
    yield from _ordered(old.id, "cap.units_per_day", old.cap.units_per_day, new.cap.units_per_day, larger="tighter")
    yield from _ordered(old.id, "cap.days", old.cap.days, new.cap.days, larger="tighter")


# --- the judgement ---------------------------------------------------------------------------------------------------


def decide(
    current: Plan | None, candidate: Signed, ceiling: Ceiling, floor: Floor, log: LogWord | None, now_s: int
) -> Verdict:
    """Returns whether a policy may hold at `now_s` after the current one, of the same site.

    `current`: the newest that was taken, also if its days are over or it never could begin; None for the first of a
    site. `log`: since when the candidate is known; None if that is not known, and then it is from now on: ask again
    with that instant, which must be kept. The log never hastens what the asker has not seen itself: see `LogWord`.
    """
    policy = candidate.plan.policy
    if current is not None and policy.site != current.policy.site:
        return Refuse("other_site", f"it is for {policy.site!r}, not {current.policy.site!r}")
    if current is not None and policy.version <= current.policy.version:
        was = current.policy.version
        return Refuse("old_policy", f"it is version {policy.version}, and {was} is known: write version = {was + 1}")
    if not policy.decision.strip():
        return Refuse("no_decision", "no decision is named: write decision = the reference of the deliberation")
    if candidate.signatures < ceiling.signatures:
        short = f"{candidate.signatures} of {ceiling.signatures} signatures are there"
        return Refuse("signatures", f"{short}: let more of the pinned stewards sign it")
    if current is not None and not loosens(compare(current, candidate.plan)):
        return Accept()
    refusal = _too_loose(candidate, ceiling, floor, first=current is None)
    if refusal is not None:
        return refusal
    if current is None and ceiling.knew(policy.version):
        return Accept()
    until_s = (now_s if log is None else log.published_s) + NOTICE_S
    return Accept() if until_s <= now_s else HoldUntil(until_s)


def _too_loose(candidate: Signed, ceiling: Ceiling, floor: Floor, first: bool) -> Refuse | None:
    """Returns what forbids a loosening, or a first policy, however long it has been known."""
    if len(candidate.roles) < ceiling.roles:
        what = "the first policy" if first else "a loosening"
        roles = ", ".join(sorted(candidate.roles)) or "nobody"
        wanted = f"{what} needs signatures of {ceiling.roles} different roles, and it is signed by {roles}"
        return Refuse("roles", f"{wanted}: let another role sign it too")
    costs = sum(stream.rho_micro for stream in candidate.plan.streams.values())
    for word, most in (("ceiling", ceiling.rho_micro), ("floor", floor.rho_micro)):
        if costs > most:
            whose = "that was set at the enrolment" if word == "ceiling" else "of this release"
            said = f"its streams cost {costs} micro-rho together, and {most} are the {word} {whose}"
            return Refuse("ceiling" if word == "ceiling" else "floor", f"{said}: lower an epsilon")
    highest = max(stream.delta for stream in candidate.plan.policy.streams)
    if highest > floor.delta:
        return Refuse("floor", f"delta {highest} is above {floor.delta}, the floor of this release: lower it")
    return None


# --- one site's policies, as they come -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waiting:
    """A policy that was believed and may not hold yet, and when it was first seen (UTC seconds), by the clock of who
    waits; that instant is kept, and no later word makes it earlier."""

    signed: Signed
    seen_s: int


@dataclass(frozen=True, slots=True)
class Docket:
    """What whoever enforces policies knows of a site: the `current` one, and those that wait, by version. Each was
    judged against the one before it, so that a tightening of what waits is no loosening of what holds."""

    current: Plan | None = None
    waiting: tuple[Waiting, ...] = ()

    @property
    def newest(self) -> Plan | None:
        """Returns the newest policy that was believed."""
        return self.waiting[-1].signed.plan if self.waiting else self.current


def hear(docket: Docket, signed: Signed, ceiling: Ceiling, floor: Floor, now_s: int) -> tuple[Docket, Verdict]:
    """Returns the docket with a policy that has just come, if it is believed, and the verdict on it beside the newest
    one. It holds once `due` hands it on, not before."""
    verdict = decide(docket.newest, signed, ceiling, floor, None, now_s)
    if isinstance(verdict, Refuse):
        return docket, verdict
    return replace(docket, waiting=(*docket.waiting, Waiting(signed, now_s))), verdict


def due(docket: Docket, ceiling: Ceiling, floor: Floor, now_s: int) -> tuple[Docket, tuple[Waiting, ...]]:
    """Returns the docket of `now_s`, and those that hold from now on, in their order. What has waited and is refused
    now, since a newer release has a higher floor, is dropped."""
    current, held, waiting = docket.current, [], list(docket.waiting)
    while waiting:
        verdict = decide(current, waiting[0].signed, ceiling, floor, LogWord(waiting[0].seen_s), now_s)
        if isinstance(verdict, HoldUntil):
            break
        first = waiting.pop(0)
        if isinstance(verdict, Accept):
            current = first.signed.plan
            held.append(first)
    return Docket(current, tuple(waiting)), tuple(held)
