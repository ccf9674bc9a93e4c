"""When nothing of a stream was published by decision: from the days of the ledger and the signed policies alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from murmure_privacy.policy import Policy

from murmure_dashboards.decisions import Decisions
from murmure_dashboards.wording import Language

_PAUSED = b'"paused":'


@dataclass(frozen=True, slots=True)
class Pause:
    """Days on which nodes of a stream were withheld as paused, from `first` to `last`; `last` is None while it goes on,
    and `first` too where no node has ended since. `policy`: which pauses the stream, or, `until_it`, which protects
    better and was waited for; None where no policy says so."""

    stream: str
    first: date | None
    last: date | None
    policy: Policy | None
    until_it: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """A pause in words; `decision`, with the reason, is French and "" where no policy is known."""

    what: str
    when: str
    decision: str


Days = Mapping[str, Mapping[date, str]]
"""By stream the days on which something was withheld as paused, each with the policy that its nodes name."""


def by_site(ledger: Iterable[bytes]) -> dict[str, Days]:
    """Returns the days of a ledger that had a pause, by site."""
    found: dict[str, dict[str, dict[date, str]]] = {}
    for line in ledger:
        if _PAUSED in line:
            told = json.loads(line)
            days = found.setdefault(told["site"], {}).setdefault(told["stream"], {})
            days[date.fromisoformat(told["day"])] = told["policy"] or ""
    return dict(found)


def pauses(days: Days, held: Decisions) -> list[Pause]:
    """Returns the pauses of a site, those that go on first, then the newest."""
    found = []
    for stream, hashes in days.items():
        for first, last in _runs(sorted(hashes)):
            policy, until_it = _by(held, stream, hashes[last])
            goes_on = policy is not None and not until_it and policy is held.pausing(stream)
            found.append(Pause(stream, first, None if goes_on else last, policy, until_it))
    newest = held.policies[0].streams if held.policies else ()
    open_ones = {pause.stream for pause in found if pause.last is None}
    found += [
        Pause(part.id, None, None, policy)
        for part in newest
        if part.id not in open_ones and (policy := held.pausing(part.id))
    ]
    # Of two runs with one policy the second goes on: a gateway was away between them.
    return sorted(found, key=lambda pause: (pause.last or date.max, pause.first or date.max), reverse=True)


def _runs(days: Sequence[date]) -> list[tuple[date, date]]:
    runs: list[tuple[date, date]] = []
    for day in days:
        if runs and runs[-1][1] + timedelta(1) == day:
            runs[-1] = (runs[-1][0], day)
        else:
            runs.append((day, day))
    return runs


def _by(held: Decisions, stream: str, policy_hash: str) -> tuple[Policy | None, bool]:
    """Returns the policy by which nodes were withheld that name one as in force, and whether it was only waited for."""
    named = next((one.version for one in held.policies if f"sha256:{one.hash.hex()}" == policy_hash), 0)
    later = [one for one in reversed(held.policies) if one.version >= named]
    pausing = [one for one in later if one.paused or ((part := one.stream(stream)) is not None and part.paused)]
    if pausing:
        return pausing[0], False
    waited = next((one for one in later if one.version > named), None)
    return waited, waited is not None


def told(say: Language, found: Sequence[Pause], quantities: Mapping[str, str], most: int) -> list[Told]:
    """Returns the first pauses in words. `quantities`: what each stream measures."""
    lines = []
    for pause in found[:most]:
        policy = pause.policy
        values = {"version": policy.version} if policy else {}
        if pause.first is None:
            when = say("pause.soon", **values)
        elif pause.last is None:
            when = say("pause.since", first=say.civil(pause.first), **values)
        elif pause.until_it:
            when = say("pause.waited", first=say.civil(pause.first), last=say.civil(pause.last), **values)
        elif policy is None:
            when = say("pause.unknown", first=say.civil(pause.first), last=say.civil(pause.last))
        else:
            when = say("pause.over", first=say.civil(pause.first), last=say.civil(pause.last), **values)
        what = say(f"quantity.{quantities[pause.stream]}") if pause.stream in quantities else pause.stream
        decision = say.typeset(f"{policy.decision}. {policy.reason}") if policy and not pause.until_it else ""
        lines.append(Told(what, when, decision))
    return lines
