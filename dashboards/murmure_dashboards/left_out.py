"""Since when, and until when, the signed policies of a site leave a stream out: nothing of it is published then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from murmure_privacy.policies import Rules
from murmure_privacy.policy import Policy
from murmure_privacy.window import Calendar, Window

from murmure_dashboards.wording import Language

FOR_EVER_S = 1 << 40


class Hashed(Protocol):
    """A signed policy; `hash` is the SHA-256 of its text."""

    @property
    def hash(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A stream that was published and is not in `span`: from the first day of `policy`, which leaves it out, to the
    first day of one that takes it up again, `FOR_EVER_S` where none does."""

    span: Window
    policy: Policy

    def holds(self, interval: Window) -> bool:
        """Returns whether an interval has no figure by this: none that ends after the first day has begun."""
        return interval.end_s > self.span.start_s and interval.start_s < self.span.end_s


@dataclass(frozen=True, slots=True)
class History:
    """What the policies of a site say of one stream. `in_force`: those that are known to be, or to have been, each with
    when, in order. `left`: when they leave the stream out, in order. `first_s`: when the first one with it came into
    force, None where that is not known, since a version before it is not held."""

    in_force: tuple[tuple[Window, Policy], ...]
    left: tuple[LeftOut, ...]
    first_s: int | None


def history(rules: Rules, signed: Sequence[Hashed], stream: str, calendar: Calendar) -> History:
    """Returns what the policies of a stream's site (oldest version first) say of it. The newest version that has begun
    is in force; one that this program cannot read may have been, so nothing is said of what lies before it."""
    in_force: list[tuple[Window, Policy]] = []
    end_s, whole = FOR_EVER_S, False
    for one in reversed(signed):
        policy = rules.of(one.hash)
        if policy is None:
            break
        begin_s = calendar.midnight(policy.valid_from)
        if begin_s < end_s:
            in_force.insert(0, (Window(begin_s, end_s), policy))
            end_s = begin_s
        whole = policy.version == 1 and in_force[-1][1].version == len(signed)
    left: list[LeftOut] = []
    first_s: int | None = None
    for span, policy in in_force:
        has = policy.stream(stream) is not None
        if has and first_s is None:
            first_s = span.start_s
        elif not has and left and left[-1].span.end_s == span.start_s:
            left[-1] = LeftOut(Window(left[-1].span.start_s, span.end_s), left[-1].policy)
        elif not has and first_s is not None:
            left.append(LeftOut(span, policy))
    return History(tuple(in_force), tuple(left), first_s if whole else None)


def told(say: Language, one: LeftOut, calendar: Calendar, now_s: int) -> str:
    """Returns that a stream is not published any more, or was not for a while, by which rule and decision."""
    values = _by(say, one.policy)
    if one.span.end_s > now_s:
        return say("left.now", **values)
    return say("left.then", last=say.civil(calendar.civil_day(one.span.end_s - 1)), **values)


def short(say: Language, left: Sequence[LeftOut]) -> str:
    """Returns by which rule a stream is not published any more, in brackets; "" where none says so."""
    return say("left.short", **_by(say, left[-1].policy)) if left else ""


def _by(say: Language, policy: Policy) -> dict[str, object]:
    first, decision = say.civil(policy.valid_from), say.typeset(policy.decision)
    return {"first": first, "version": policy.version, "decision": decision}
