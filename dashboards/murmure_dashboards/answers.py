"""What a fact answers, in one language: whether it is as usual, where it lies beside the limits, whence its margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Literal
from zoneinfo import ZoneInfo

from murmure_dashboards.facts import Fact
from murmure_dashboards.limits import Threshold, Verdict, applying, coming, overdue, verdict
from murmure_dashboards.usual import LEAST_COVERAGE, LEAST_WEEKS
from murmure_dashboards.wording import Language

Answered = Literal["whole", "came", "never"]
"""Of the sensors of a neighbourhood: all have answered, what is expected has come, nothing has ever come from one."""
_WORDS: dict[Verdict, str] = {"above": "limit.above", "below": "limit.below", "cannot tell": "limit.cannot"}


def _place(fact: Fact | None) -> str:
    """Returns where a figure lies beside the weeks before; `unknown` where that cannot be told."""
    return "unknown" if fact is None or fact.usual is None else fact.usual.place(fact.low, fact.high)


@dataclass(frozen=True, slots=True)
class Answerer:
    """Answers in one language. `on`: the civil day for which limits must be in force."""

    say: Language
    thresholds: Sequence[Threshold]
    zone: ZoneInfo
    on: date

    def all(self, fact: Fact, dominant: str) -> tuple[str, ...]:
        """Returns the sentences below a figure. `dominant`: what makes most of the noise there, "" where not told."""
        if not fact.publishable:
            return ()
        return tuple(filter(None, (self.usual(fact), self.margin(fact), *self.limit(fact, dominant))))

    def brief(self, facts: Sequence[tuple[str, Fact | None]], answered: Answered = "whole") -> str:
        """Returns the answer of a neighbourhood in some short sentences. `facts`: of each stream that has figures, or
        should have, by its name; `answered`: whether these are all that there are sensors for."""
        if not facts:
            return ""
        if not any(fact for _, fact in facts):
            return self.say("brief.none")
        places = [(name, _place(fact)) for name, fact in facts]
        said = [self._listed(f"brief.{kind}", [n for n, place in places if place == kind]) for kind in ("more", "less")]
        others = {place for _, place in places} - {"more", "less"}
        if others == {"usual"} and answered == "whole":
            said.append(self.say("brief.rest" if any(said) else "brief.usual"))
        elif "usual" in others:
            said.append(self._listed("brief.some", [name for name, place in places if place == "usual"]))
        elif not any(said):
            faulty = all(fact.faulty for _, fact in facts if fact)
            said.append(self.say("usual.faulty" if faulty else "brief.unknown"))
        said.append(self._air([fact for _, fact in facts if fact]))
        holes = [name for name, fact in facts if fact is None or not fact.whole]
        said.append(self._listed("brief.holes", holes) or self.say(f"brief.{answered}"))
        return " ".join(filter(None, said))

    def city(self, quartiers: Sequence[Sequence[Fact]]) -> str:
        """Returns how many neighbourhoods are as usual. `quartiers`: the facts of each."""
        states = [{_place(fact) for fact in facts} for facts in quartiers if facts]
        odd = sum(bool(state & {"more", "less"}) for state in states)
        usual = sum("usual" in state and not state & {"more", "less"} for state in states)
        if not odd and not usual:
            return self.say("brief.city_unknown") if states else ""
        values = {"usual": usual, "odd": odd, "all": len(states)}
        return self.say.counted("brief.city", usual, **values) + (self.say("brief.city_odd", **values) if odd else "")

    def state(self, facts: Sequence[Fact]) -> str:
        """Returns what a map shows of a neighbourhood in one word, one of `citymap.STATES`: what is higher goes before
        what is lower, and both before what is not unusual. That a figure is below a limit does not tell whether it is
        as usual."""
        places = {_place(fact) for fact in facts}
        verdicts = self._verdicts(facts)
        if not facts:
            return "none"
        if "more" in places or "above" in verdicts:
            return "more"
        if "less" in places:
            return "less"
        return "usual" if "usual" in places else "cannot"

    def _listed(self, key: str, names: Sequence[str]) -> str:
        return self.say(key, names=self.say("key.listed").join(names)) if names else ""

    def _air(self, facts: Sequence[Fact]) -> str:
        """Where all that may be compared with limits of a day lies; the worst is said first."""
        found = self._verdicts(facts)
        for state, key in (("above", "above"), ("cannot tell", "cannot"), ("below", "below")):
            if state in found:
                return self.say(f"brief.air_{key}")
        return ""

    def _verdicts(self, facts: Sequence[Fact]) -> set[Verdict | None]:
        return {
            verdict(fact, one, fact.coverage)
            for fact in facts
            if fact.publishable and not fact.faulty
            for one in applying(self.thresholds, fact.quantity, fact.averaging, self.on).values()
        }

    def usual(self, fact: Fact) -> str:
        """Returns how a figure stands beside the same weekday and hours of the weeks before."""
        say, usual = self.say, fact.usual
        if usual is None:
            begun = not self._midnight(fact.span.start_s)
            return say("usual.faulty" if fact.faulty else "usual.begun" if begun else "usual.partial")
        place = usual.place(fact.low, fact.high)
        if usual.low is None or usual.high is None:
            return say.counted("usual.few", usual.weeks, number=usual.weeks, least=LEAST_WEEKS)
        weekday = say.days[datetime.fromtimestamp(fact.span.start_s, self.zone).weekday()]
        when = say("usual.day" if fact.averaging else "usual.hour", weekday=weekday)
        _, between = say.amount(fact.quantity, (usual.low + usual.high) / 2, usual.low, usual.high)
        if place == "usual" or not between:
            return say(f"usual.{place}", when=when)
        return say(f"usual.{place}_than", when=when, between=say.once(between))

    def _midnight(self, at_s: int) -> bool:
        return datetime.fromtimestamp(at_s, self.zone).time() == time(0)

    def limit(self, fact: Fact, dominant: str) -> list[str]:
        """Returns the limits of the same averaging time, of law and WHO together, and where the figure lies."""
        if fact.quantity == "noise":
            return [self._noise(dominant)]
        set_by = applying(self.thresholds, fact.quantity, "1d", self.on)
        if not set_by:
            return []
        said = [self.named(fact.quantity, set_by)]
        verdicts = {by: found for by, one in set_by.items() if (found := verdict(fact, one, fact.coverage))}
        if not fact.averaging:
            begun = not self._midnight(fact.span.start_s)
            said.append(self.say("limit.little" if begun and self._midnight(fact.span.end_s) else "limit.wait"))
        elif fact.faulty:
            said.append(self.say("usual.faulty"))
        elif fact.coverage < LEAST_COVERAGE:
            said.append(self.say("limit.little"))
        elif verdicts:
            said.append(self._placed(verdicts))
        allowed = set_by["law"].days_allowed if verdicts.get("law") == "above" else None
        if allowed:
            said.append(self.say("limit.allowed", days=allowed))
        return [*said, *self.stale(list(set_by.values()))]

    def stale(self, thresholds: Sequence[Threshold]) -> list[str]:
        """Returns that some limits should have been read again, where that is so."""
        due = overdue(thresholds, self.on)
        if not due:
            return []
        at_s = int(datetime.combine(min(t.review for t in due), time(12), self.zone).timestamp())
        return [self.say("limit.stale", date=self.say.date(at_s, self.zone))]

    def margin(self, fact: Fact) -> str:
        """Returns what the protection makes of the interval and what the sensor may add, apart from each other."""
        say = self.say
        noise = say.half(fact.quantity, fact.estimate, fact.low, fact.high)
        source = say("margin.silent" if fact.absent else "margin.noise")
        if fact.error is None:
            if fact.off is None:
                return say("margin.count_unknown", source=source, noise=noise)
            return say("margin.count", source=source, noise=noise, share=say.share(fact.off.street))
        _, between = say.amount(fact.quantity, fact.estimate, *fact.widest)
        if not between:
            return ""
        error = say.reading(fact.quantity, fact.error)
        return say("margin.both", source=source, noise=noise, error=error, between=say.once(between))

    def _noise(self, dominant: str) -> str:
        set_by = applying(self.thresholds, "lden", "1y", self.on, dominant) if dominant else {}
        if set_by.keys() != {"law", "who"}:
            return self.say("limit.noise")
        values = {by: self.say.reading("noise", one.value) for by, one in set_by.items()}
        return self.say("limit.noise_both", source=self.say(f"limit.of_{dominant}"), **values)

    def named(self, quantity: str, set_by: dict[str, Threshold], averaging: str = "1d") -> str:
        """Returns what law and WHO set for a mean over a day or a year."""
        values = {by: self.say.reading(quantity, one.value) for by, one in set_by.items()}
        span = self.say(f"limit.for_{averaging}")
        later = coming(self.thresholds, quantity, averaging, self.on)
        if "law" not in values and later is not None:
            law = self.say.reading(quantity, later.value)
            return self.say("limit.named_later", span=span, law=law, year=later.in_force_from.year, **values)
        return self.say(f"limit.named_{'_'.join(sorted(values))}", span=span, **values)

    def _placed(self, verdicts: dict[str, Verdict]) -> str:
        if len(set(verdicts.values())) == 1:
            (same,) = set(verdicts.values())
            many = "all" if len(verdicts) > 1 else "one"
            return self.say(f"limit.placed_{'cannot' if same == 'cannot tell' else same}_{many}")
        words = {by: self.say(_WORDS[found]) for by, found in verdicts.items()}
        return self.say("limit.placed_apart", **words)
