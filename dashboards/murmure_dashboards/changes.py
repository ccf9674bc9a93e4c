"""What a policy changes for people, in words: from the comparison that every gateway judges by."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from murmure_privacy.decide import Difference, Way, compare
from murmure_privacy.policy import Policy, StreamPolicy

from murmure_dashboards import accounts
from murmure_dashboards.wording import Language, capital

# What a dimension of the comparison is called; the others go together under `rest`.
_WORDS = {
    "epsilon": "epsilon",
    "scale": "noise",
    "figure": "figures",
    "crossings": "unit",
    "seconds": "unit",
    "up_to": "unit",
    "tail": "unit",
    "bounds": "bounds",
    "cap": "cap",
    "cap.epsilon": "cap",
    "cap.units_per_day": "cap",
    "cap.days": "cap",
}
_APART = ("stream", "paused")  # said in sentences of their own


def changes(say: Language, policy: Policy, before: Policy | None) -> list[str]:
    """Returns what is paused and taken up again, which streams come and go, which are protected better and worse and in
    what, and whether it holds longer; of the first policy of a site only what it pauses."""
    paused = [part for part in policy.streams if policy.paused or part.paused]
    lines = [say("privacy.pauses", what=_names(say, paused))] if paused else []
    if before is None:
        return lines
    found = compare(accounts.planned(before), accounts.planned(policy))
    resumed = {one.stream for one in found if one.what == "paused" and one.way == "looser"}
    streams = {part.id: part for part in (*before.streams, *policy.streams)}
    gone = [part for name, part in streams.items() if policy.stream(name) is None]
    come = [part for name, part in streams.items() if before.stream(name) is None]
    for key, parts in (("resumes", [streams[name] for name in streams if name in resumed]), ("added", come)):
        if parts:
            lines.append(say(f"privacy.{key}", what=_names(say, parts)))
    if gone:
        lines.append(say("privacy.dropped", what=_names(say, gone)))
    sides: tuple[tuple[str, Sequence[Way]], ...] = (("stricter", ("tighter",)), ("looser", ("looser", "unlike")))
    for key, ways in sides:
        told = [one for name, part in streams.items() if (one := _told(say, part, found, ways, name))]
        if told:
            lines.append(say(f"privacy.{key}", what=capital(say("key.listed").join(told))))
    ends = [one for one in found if one.what == "valid_until"]
    lines += [
        say(f"privacy.until_{one.way}", was=say.civil(before.valid_until), now=say.civil(policy.valid_until))
        for one in ends
    ]
    return lines


def _told(say: Language, part: StreamPolicy, found: Sequence[Difference], ways: Sequence[Way], name: str) -> str:
    """Returns a stream with what protects it better, or worse; "" where nothing does."""
    mine = [one for one in found if one.stream == name and one.way in ways and one.what not in _APART]
    side = "more" if "tighter" in ways else "less"
    words = dict.fromkeys(
        say("privacy.change_epsilon", was=_number(say, one.was), now=_number(say, one.now))
        if one.what == "epsilon"
        else say(f"privacy.change_{_WORDS.get(one.what, 'rest')}_{side}")
        for one in mine
    )
    name_said = say(f"quantity.{part.quantity.name}")
    return say("privacy.change", what=name_said, how=say("key.listed").join(words)) if words else ""


def _number(say: Language, text: str) -> str:
    return say.number(Decimal(text).normalize())


def _names(say: Language, streams: Sequence[StreamPolicy]) -> str:
    return capital(say("key.listed").join(say(f"quantity.{part.quantity.name}") for part in streams))
