"""What people asked about the sensors: when an answer is due, and how a request is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from murmure_dashboards.config import City, Request
from murmure_dashboards.wording import Language


@dataclass(frozen=True, slots=True)
class Told:
    """One request in words. `place` and `answer` are French, whatever the page; "" where there is none."""

    number: str
    what: str
    place: str
    state: str
    answer: str
    late: bool


def due(city: City, request: Request) -> date | None:
    """Returns the day by which a request is to be answered, None where the town has named no time."""
    return None if city.answer_days is None else request.received + timedelta(days=city.answer_days)


def told(say: Language, city: City, asked: Iterable[Request], today: date) -> list[Told]:
    """Returns these requests in words, the newest first. One that is open after its day is late."""
    names = {site.id: site.name for site in city.site}
    found = []
    for request in sorted(asked, key=lambda one: (one.received, one.number), reverse=True):
        until = due(city, request)
        late = request.answered is None and until is not None and until < today
        if request.answered is not None:
            state = say(f"request.{request.state}", date=say.civil(request.answered))
        elif until is None:
            state = say("request.open")
        else:
            state = say("request.late" if late else "request.awaited", date=say.civil(until))
        found.append(
            Told(
                number=request.number,
                what=say(f"request.of_{request.kind}", date=say.civil(request.received)),
                place=names.get(request.site, ""),
                state=state,
                answer=say.typeset(request.answer),
                late=late,
            )
        )
    return found
