"""From one policy of a site to the next: where the newer one takes over, and what is withheld until it does.

A gateway that has a newer policy goes on with the old scales until no node of a stream is open, and withholds meanwhile
whatever the newer one would rather not have published. So a tighter policy that is sent out early is a pause.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from murmure_privacy.plan import Plan, StreamPlan
from murmure_privacy.policy_words import Both, Lang
from murmure_privacy.window import Calendar


def takes_over_s(in_force: StreamPlan, calendar: Calendar, from_s: int) -> int:
    """Returns the first instant, not before `from_s`, at which no node of a stream is open: there another policy can
    take over. `calendar` is that of the policy in force."""
    period = calendar.period([node.level for node in in_force.nodes], from_s)
    return from_s if from_s == period.start_s else period.end_s


def last_s(made: Plan) -> int:
    """Returns the instant at which a policy's last day is over."""
    return made.calendar.midnight(made.policy.valid_until + timedelta(days=1))


def protects_better(word: StreamPlan, own: StreamPlan) -> bool:
    """Returns whether a newer policy allows less to be learned of a stream, or hides a larger unit of it."""
    new, old = word.stream, own.stream
    hides_louder = old.up_to is not None and (new.up_to is None or new.up_to > old.up_to)
    hides_longer = new.protects[1] > old.protects[1] or new.tail > old.tail
    return word.rho_micro < own.rho_micro or hides_longer or hides_louder or _caps_tighter(word, own)


def _caps_tighter(word: StreamPlan, own: StreamPlan) -> bool:
    if word.stream.cap is None or word.cap_rho_micro is None:
        return False
    if own.stream.cap is None or own.cap_rho_micro is None:
        return True
    new, old = word.stream.cap, own.stream.cap
    return word.cap_rho_micro < own.cap_rho_micro or new.units_per_day > old.units_per_day or new.days > old.days


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing of a stream is published from `from_s` on (nodes that are open then are withheld whole) until `until_s`,
    or for as long as the newer policy is the newest where that is None. `reason`: the word that stands in the data;
    `why`: a few words for the steward, in each language."""

    stream: str
    reason: str
    why: Both
    from_s: int
    until_s: int | None


def holds(older: Plan, newer: Plan, now_s: int) -> list[Hold]:
    """Returns what a gateway under the older policy withholds if the newer one reaches it at `now_s`, by stream.

    Streams that were withheld anyway, since the older policy pauses them or is over, are left out. What stops a stream
    acts at once on every policy before it: also on the one in force while the older one is yet to come.
    """
    from_s = max(now_s, older.calendar.midnight(older.policy.valid_from))
    begins_s = max(now_s, newer.calendar.midnight(newer.policy.valid_from))
    was, now = older.policy.version, newer.policy.version
    found = []
    for name, own in older.streams.items():
        until_s = min(takes_over_s(own, older.calendar, begins_s), last_s(older))
        word = newer.streams.get(name)
        stops = word is None or newer.policy.paused or word.stream.paused
        held_s = now_s if stops and was > 1 else from_s
        if held_s >= (last_s(older) if stops else until_s) or older.policy.paused or own.stream.paused:
            continue
        if word is None:
            found.append(
                Hold(
                    name,
                    "no_policy",
                    {"fr": f"la règle {now} n'a pas ce flux", "en": f"policy {now} has no such stream"},
                    held_s,
                    None,
                )
            )
        elif newer.policy.paused or word.stream.paused:
            found.append(
                Hold(
                    name, "paused", {"fr": f"la règle {now} le suspend", "en": f"policy {now} pauses it"}, held_s, None
                )
            )
        elif now > was + 1:
            why: Both = {
                "fr": f"la règle {was + 1}, qu'un boîtier doit voir avant la {now}, a pu le suspendre",
                "en": f"policy {was + 1}, which a gateway has to see before {now}, may have paused it",
            }
            found.append(Hold(name, "no_policy", why, from_s, until_s))
        elif protects_better(word, own):
            why = {
                "fr": f"la règle {now} protège mieux que la {was}",
                "en": f"policy {now} protects better than {was}",
            }
            found.append(Hold(name, "paused", why, from_s, until_s))
    return found


_WARNING: dict[Lang, tuple[str, str, str]] = {
    "fr": (
        "{stream} : {why} : publiée maintenant, elle fait retenir ce flux ({reason}) à partir du {from_}",
        " ; à partir de là, rien n'en est publié",
        " et jusqu'au {until} ({zone}) ; plus tard elle est publiée, plus c'est court",
    ),
    "en": (
        "{stream}: {why}: published now, it is withheld ({reason}) from {from_}",
        " on",
        " until {until} ({zone}); the later it is published, the shorter that is",
    ),
}


def warning(hold: Hold, calendar: Calendar) -> Both:
    """Returns a hold in one line, with civil times, in each language."""

    def civil(at_s: int) -> str:
        return datetime.fromtimestamp(at_s, calendar.zone).strftime("%Y-%m-%d %H:%M")

    told: Both = {}
    for lang, (start, endless, until) in _WARNING.items():
        said = start.format(stream=hold.stream, why=hold.why[lang], reason=hold.reason, from_=civil(hold.from_s))
        if hold.until_s is None:
            told[lang] = said + endless
        else:
            told[lang] = said + until.format(until=civil(hold.until_s), zone=calendar.timezone)
    return told
