"""No instant of a stream costs more than was signed, whichever gateways of its site have released what.

A gateway's own policies leave it no room to spend more; a successor under a newer policy, with other nodes, could.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_ingest import gateways
from murmure_ingest.archive import Archive
from murmure_ingest.inspection import inspect
from murmure_ingest.intake import Intake, Stored
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.release import Message, Outcome, Withheld
from murmure_privacy.window import Calendar

MONDAY_S = 1_795_388_400  # 2026-11-23 00:00 in Paris
QUARTER_S, DAY_S = 900, 86_400
STREAM = "plaza/footfall"
CALENDAR = Calendar("Europe/Paris")
ALL, COARSE = b'"15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1', b'"6h" = 1, "1d" = 3'


class Careless(Intake):
    """Broken on purpose: it judges each gateway as if no other had been at its site."""

    def _excess(self, message: Message) -> str | None:
        return None


class Priced(Intake):
    """Broken on purpose: whatever is filed already costs the same."""

    price_rho_micro = 0

    def _excess(self, message: Message) -> str | None:
        filed = cast(Any, self._archive)
        filed.largest_spend = lambda *_: self.price_rho_micro
        return super()._excess(message)


class Strict(Priced):
    """Broken on purpose: where another gateway has spent anything there is room for nothing."""

    price_rho_micro = 1 << 40


@dataclass
class Handover:
    """A site whose second gateway is enrolled and has a newer policy; as it is before either of them speaks."""

    centre: Any
    blank: bytes
    first: Any
    second: Any

    def told(self, kind: type[Intake], *messages: tuple[Any, Message]) -> tuple[list[str], list[str]]:
        """Returns the reason of each word ("" if filed), and what a full check finds then."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "archive.db"
            path.write_bytes(self.blank)
            archive = Archive.open(path)
            intake = kind(archive, RuleBook(archive), lambda: 1 << 40)
            words = intake.accept_many([(g.topic, wire.seal_message(message, g.secret)) for g, message in messages])
            findings = inspect(archive, RuleBook(archive)).findings
            archive.close()
        return ["" if isinstance(word, Stored) else getattr(word, "reason", "?") for word in words], findings


@pytest.fixture(scope="module")
def handover(
    tmp_path_factory: pytest.TempPathFactory, make_centre: Callable[..., Any], policy_text: Callable[..., bytes]
) -> Iterator[Callable[[str], Handover]]:
    """handover(epsilon) -> a handover to a policy of that epsilon (the older one's is 1) and of coarse nodes alone."""
    made: dict[str, Handover] = {}

    def handover(epsilon: str = "1.0") -> Handover:
        if epsilon not in made:
            centre = make_centre(tmp_path_factory.mktemp("site"))
            first, second = centre.gateway("gw-first"), centre.gateway("gw-second")
            second.policy = policy_text("plaza", 2, epsilon).replace(ALL, COARSE)
            gateways.publish_policy(centre.archive, centre.signed(second.policy))
            centre.archive.close()
            made[epsilon] = Handover(centre, centre.config.archive.read_bytes(), first, second)
        return made[epsilon]

    yield handover


def footfall(gateway: Any, end_s: int, level: str | None = None, **changes: Any) -> tuple[Outcome, ...]:
    """What closes at an instant of the one stream (at one level), with a changed node."""
    return tuple(
        replace(outcome, node=replace(outcome.node, **changes))
        for outcome in gateway.outcomes(end_s)
        if outcome.node.stream == STREAM and level in (None, outcome.node.level)
    )


def past(gateway: Any, closings: list[int]) -> list[tuple[Any, Message]]:
    """A gateway's messages of these instants, in order; quarter-hours at full hours are withheld."""
    found: list[tuple[Any, Message]] = []
    before = wire.FIRST_PREVIOUS
    for number, end_s in enumerate(closings, 1):
        message = gateway.message(end_s, seq=number, previous=before, outcomes=footfall(gateway, end_s))
        before = wire.digest(wire.seal_message(message, gateway.secret))
        found.append((gateway, message))
    return found


def one(gateway: Any, outcomes: tuple[Outcome, ...]) -> tuple[Any, Message]:
    return gateway, gateway.message(outcomes[0].node.end_s, outcomes=outcomes)


@settings(max_examples=40)
@given(data=st.data())
def test_what_would_overspend_with_a_forerunner_is_refused_and_nothing_else(
    handover: Callable[[str], Handover], data: st.DataObject
) -> None:
    """A message of a successor, honest or not, is refused if and only if, filed all the same, a full check would find
    that it was too much: an instant at a time, against the larger of the budgets that hold there."""
    site = handover(data.draw(st.sampled_from(["0.5", "1.0", "2.0"])))
    spoken = past(site.first, [MONDAY_S + QUARTER_S * (n + 1) for n in range(data.draw(st.integers(0, 60)))])
    level, at_s = data.draw(st.sampled_from(["6h", "1d"])), MONDAY_S + data.draw(st.integers(0, DAY_S - 1))
    window = CALENDAR.node(level, at_s)
    from_s = window.start_s + QUARTER_S * data.draw(st.integers(0, (window.end_s - window.start_s) // QUARTER_S - 1))
    said = footfall(site.second, window.end_s, level, covered_from_s=from_s)
    told = [*spoken, one(site.second, said)]
    (*_, word), findings = site.told(Careless, *told)
    (*_, now), left = site.told(Intake, *told)
    if word == "":
        assert now == ("not_in_policy" if findings else "")
        assert all("micro-rho" in finding for finding in findings)
    else:
        assert now == word == "node_conflict"
    assert left == []


def overspending(site: Handover) -> list[tuple[Any, Message]]:
    """Half a day under the older policy, then the whole day under the newer one."""
    return [
        *past(site.first, [MONDAY_S + QUARTER_S * (n + 1) for n in range(48)]),
        one(site.second, footfall(site.second, MONDAY_S + DAY_S, "1d")),
    ]


def test_a_successor_that_claims_the_whole_day_is_refused(handover: Callable[[str], Handover]) -> None:
    """It says which instant, how much and of how much; what is honest of the same day is filed."""
    site = handover("1.0")
    (*_, word), findings = site.told(Intake, *overspending(site))
    assert word == "not_in_policy" and findings == []
    rest = footfall(site.second, MONDAY_S + DAY_S, covered_from_s=MONDAY_S + DAY_S // 2 + QUARTER_S)
    late = tuple(outcome for outcome in rest if outcome.node.level == "1d")
    told = [*overspending(site)[:-1], one(site.second, late)]
    assert site.told(Intake, *told) == ([""] * 49, [])


def test_what_is_withheld_spends_nothing(handover: Callable[[str], Handover]) -> None:
    """Neither the forerunner's withheld nodes nor the successor's count."""
    site = handover("1.0")
    *spoken, (second, message) = overspending(site)
    held = replace(message, outcomes=tuple(Withheld(outcome.node, "paused") for outcome in message.outcomes))
    assert site.told(Intake, *spoken, (second, held)) == ([""] * 49, [])
    quiet = [
        (
            gateway,
            replace(
                said,
                previous=wire.FIRST_PREVIOUS,
                seq=1 + 2 * number,
                outcomes=tuple(Withheld(outcome.node, "paused") for outcome in said.outcomes),
            ),
        )
        for number, (gateway, said) in enumerate(spoken)
    ]
    assert site.told(Intake, *quiet, (second, message)) == ([""] * 49, [])


@pytest.mark.parametrize("kind", [Careless, Priced])
def test_intakes_that_do_not_add_up_a_site_are_found_out(
    handover: Callable[[str], Handover], kind: type[Intake]
) -> None:
    """The twins: a full check of what they have filed finds half a day that cost too much."""
    site = handover("1.0")
    words, findings = site.told(kind, *overspending(site))
    assert words[-1] == "" and any("micro-rho" in finding for finding in findings)


def test_where_the_newer_budget_has_room_the_successor_is_heard(handover: Callable[[str], Handover]) -> None:
    """The larger of the budgets that hold at an instant counts, as in a full check; a twin would lose the day."""
    told = overspending(handover("2.0"))
    assert handover("2.0").told(Intake, *told) == ([""] * 49, [])
    assert handover("2.0").told(Strict, *told)[0][-1] == "not_in_policy"
