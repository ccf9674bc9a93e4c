"""Nothing is filed of a time that has not come, and nothing is lost by it: whoever is early is filed later.

A stolen key could otherwise close every node of a site for years in minutes, before the town revokes it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from murmure_ingest import gateways, subscriber
from murmure_ingest.archive import Archive, StoredHealth
from murmure_ingest.intake import AHEAD_S, BOOTS, Conflict, Duplicate, Heard, Intake, Refused, Stored, is_early
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.release import Message, Outcome, Withheld
from murmure_privacy.window import Calendar

MONDAY_S = 1_795_392_000  # 2026-11-23 00:00 UTC
QUARTER_S, HOUR_S, DAY_S = 900, 3600, 86_400
NOON_S = MONDAY_S + 12 * HOUR_S
QUARTERS = 8
YEARS_S = 1 << 40
CALENDAR = Calendar("Europe/Paris")


class Clockless(Intake):
    """Broken on purpose: it files whatever is signed, of any time."""

    def __init__(self, archive: Archive, rules: RuleBook, now_s: Callable[[], float]) -> None:
        super().__init__(archive, rules, lambda: YEARS_S)


class Final(Intake):
    """Broken on purpose: what comes early is refused for good."""

    def _objection(self, message: Message, *rest: Any) -> Any:
        found = super()._objection(message, *rest)
        return (*found[:2], "refused") if found and found[0] == "too_early" else found


class Late(Intake):
    """Broken on purpose: a node that was withheld for the clock has to be over as well."""

    def _objection(self, message: Message, *rest: Any) -> Any:
        if max(outcome.node.end_s for outcome in message.outcomes) > self._latest_s:
            return "too_early", "", "counted"
        return super()._objection(message, *rest)


def takes(centre: Any, kind: type[Intake] = Intake) -> None:
    """Gives the centre an intake of this kind, by its own clock."""
    centre.intake = kind(centre.archive, RuleBook(centre.archive), lambda: centre.now_s)


# --- the future ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ahead_s", "filed"), [(0, True), (AHEAD_S, True), (AHEAD_S + 1, False), (DAY_S, False)])
def test_a_quarter_hour_ahead_is_filed_and_no_more(centre: Any, ahead_s: int, filed: bool) -> None:
    """Clocks may differ by so much; beyond, the message is counted and leaves nothing."""
    gateway = centre.gateway()
    centre.now_s = NOON_S - ahead_s
    before = centre.content()
    word = centre.accept(gateway.topic, gateway.seal(NOON_S))
    if filed:
        assert isinstance(word, Stored)
        return
    assert isinstance(word, Refused)
    assert (word.reason, word.fate, word.gateway, word.seq) == ("too_early", "counted", gateway.name, None)
    assert centre.refused() == {"too_early": 1}
    assert centre.content() == before


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, make_centre: Callable[[Path], Any]) -> Iterator[tuple[Any, bytes]]:
    """A centre that was told a gateway's history in order, and its archive as it was before."""
    centre = make_centre(tmp_path_factory.mktemp("told"))
    centre.gateways = [centre.gateway()]
    centre.archive.close()
    blank = centre.config.archive.read_bytes()
    centre.archive = Archive.open(centre.config.archive)
    takes(centre)
    centre.intake.accept_many(centre.gateways[0].history(QUARTERS))
    yield centre, blank
    centre.archive.close()


def lived(told: tuple[Any, bytes], kind: type[Intake], clocks: list[int]) -> bool:
    """Returns whether a gateway that sends all it has whenever it is asked ends up filed whole, as by a right clock."""
    centre, blank = told
    (gateway,) = centre.gateways
    with TemporaryDirectory() as folder:
        path = Path(folder) / "archive.db"
        path.write_bytes(blank)
        archive = Archive.open(path)
        other = replace(centre, archive=archive)
        takes(other, kind)
        for other.now_s in clocks:
            for sealed in gateway.sealed:
                word = other.accept(gateway.topic, sealed)
                early = is_early(wire.open_message(sealed, wire.public_key(gateway.secret)), other.now_s + AHEAD_S)
                if early and not isinstance(word, Duplicate) and kind is Intake:
                    assert isinstance(word, Refused) and (word.reason, word.fate) == ("too_early", "counted")
        same = bool(other.content() == centre.content())
        archive.close()
    return same


@settings(max_examples=15)
@given(clocks=st.lists(st.integers(-2, QUARTERS).map(lambda n: MONDAY_S + n * QUARTER_S - 1), max_size=5))
def test_whatever_our_clock_says_meanwhile_nothing_is_lost(told: tuple[Any, bytes], clocks: list[int]) -> None:
    """Behind, ahead, put back: once it is right, the archive is the one that a right clock would have made."""
    assert lived(told, Intake, [0, *clocks, MONDAY_S + QUARTERS * QUARTER_S])


def test_an_intake_that_refuses_for_good_is_found_out(told: tuple[Any, bytes]) -> None:
    """The twin: one start of the centre before its clock was set, and a gateway's messages are gone."""
    assert not lived(told, Final, [0, MONDAY_S + QUARTERS * QUARTER_S])


# --- what a gateway says before it is over ---------------------------------------------------------------------------


def withheld(outcomes: tuple[Outcome, ...], reason: str) -> tuple[Outcome, ...]:
    return tuple(Withheld(outcome.node, reason) for outcome in outcomes)


@pytest.mark.parametrize("reason", ["clock", "paused", "sensor_absent", "expired"])
def test_only_a_clock_that_was_put_forward_closes_an_open_node(centre: Any, reason: str) -> None:
    """Then the nodes that have begun are withheld at once (contract 5); for any other reason at their end."""
    gateway, midnight_s = centre.gateway(), CALENDAR.day(NOON_S).end_s
    day = withheld(gateway.outcomes(midnight_s), reason)
    open_now = tuple(outcome for outcome in day if outcome.node.start_s <= NOON_S)
    assert 0 < len(open_now) < len(day)
    centre.now_s = NOON_S
    word = centre.accept(gateway.topic, gateway.seal(NOON_S, outcomes=open_now))
    assert getattr(word, "reason", "filed") == ("filed" if reason == "clock" else "too_early")


def test_a_node_that_has_not_begun_is_not_withheld_for_the_clock(centre: Any) -> None:
    """The same word does not close what nobody can have opened."""
    gateway, midnight_s = centre.gateway(), CALENDAR.day(NOON_S).end_s
    day = withheld(gateway.outcomes(midnight_s), "clock")
    centre.now_s = NOON_S
    assert centre.accept(gateway.topic, gateway.seal(NOON_S, outcomes=day)).reason == "too_early"


def test_an_intake_that_waits_for_the_end_is_found_out(centre: Any) -> None:
    """The twin: a gateway whose clock was put forward would not be heard for the rest of the day."""
    gateway, midnight_s = centre.gateway(), CALENDAR.day(NOON_S).end_s
    day = tuple(o for o in withheld(gateway.outcomes(midnight_s), "clock") if o.node.start_s <= NOON_S)
    centre.now_s = NOON_S
    takes(centre, Late)
    assert centre.accept(gateway.topic, gateway.seal(NOON_S, outcomes=day)).reason == "too_early"


def test_the_closing_instant_counts_too(centre: Any) -> None:
    """Nobody can have closed at an instant that has not come."""
    gateway = centre.gateway()
    centre.now_s = NOON_S
    message = replace(gateway.message(NOON_S), closing_s=NOON_S + DAY_S)
    assert centre.accept(gateway.topic, wire.seal_message(message, gateway.secret)).reason == "too_early"


@pytest.mark.parametrize("reason", ["clock", "paused"])
def test_what_is_withheld_before_its_end_completes_no_day(centre: Any, reason: str) -> None:
    """A day of whose nodes one was closed for the clock goes on: its figures may still change, and no mirror has them.
    What is withheld for any other reason has ended."""
    gateway, midnight_s = centre.gateway(), CALENDAR.day(NOON_S).end_s
    day = withheld(gateway.outcomes(midnight_s), reason)
    open_now = tuple(outcome for outcome in day if outcome.node.start_s <= NOON_S)
    assert isinstance(centre.accept(gateway.topic, gateway.seal(NOON_S, outcomes=open_now)), Stored)
    assert centre.archive.complete_until("plaza/footfall", midnight_s) == (reason != "clock")
    assert isinstance(centre.accept(gateway.topic, gateway.seal(midnight_s + QUARTER_S)), Stored)
    assert centre.archive.complete_until("plaza/footfall", midnight_s)


# --- a thief ---------------------------------------------------------------------------------------------------------


def burn(centre: Any, gateway: Any) -> None:
    """Closes with a stolen key whatever it can, of any year, but not what the gateway has spoken of: each node in a
    message of its own, with a number not reached yet; first as withheld for the clock, then for a pause, then released.
    """
    ends_s = [MONDAY_S + n * QUARTER_S for n in range(1, 5 * 96 + 1)]
    ends_s += [DAY_S * n for n in (300, 10_000)] + [MONDAY_S + DAY_S * n for n in (-40, 30, 365, 20_000)]
    left = [outcome for end_s in ends_s if end_s != NOON_S - HOUR_S for outcome in gateway.outcomes(end_s)]
    random.Random(1).shuffle(left)
    for number, reason in enumerate(("clock", "paused", None)):
        sealed = []
        for at, outcome in enumerate(left):
            one = outcome if reason is None else Withheld(outcome.node, reason)
            seq, at_s = 100_000 * (number + 1) + 2 * at, min(outcome.node.end_s, centre.now_s)
            message = gateway.message(at_s, seq=seq, previous=b"x" * 32, outcomes=(one,))
            sealed.append((gateway.topic, wire.seal_message(message, gateway.secret)))
        words = centre.intake.accept_many(sealed)
        left = [outcome for outcome, word in zip(left, words, strict=True) if not isinstance(word, Stored)]


def lost(centre: Any, kind: type[Intake]) -> tuple[list[int], set[str]]:
    """A key is stolen and used at noon, then revoked; a successor speaks from then on for three days. Returns when it
    was not heard, and of which nodes that end after noon and in the past centuries the thief has the place."""
    takes(centre, kind)
    first = centre.gateway("gw-first")
    centre.now_s = NOON_S
    assert isinstance(centre.accept(first.topic, first.seal(NOON_S - HOUR_S)), Stored)
    burn(centre, first)
    taken = {
        f"{outcome.node.level} {'later' if outcome.node.end_s > NOON_S + AHEAD_S else 'before'}"
        for stream in centre.archive.streams()
        for outcome in centre.archive.outcomes(stream.stream, 0, 1 << 32)
        if outcome.node.end_s > NOON_S + AHEAD_S or outcome.node.end_s < MONDAY_S - 30 * DAY_S
    }
    gateways.revoke(centre.archive, first.name)
    second = centre.gateway("gw-second")
    closings = [NOON_S + number * QUARTER_S for number in range(2, 3 * 96)]
    centre.now_s = closings[-1]
    words = centre.intake.accept_many([(second.topic, second.seal(closing_s)) for closing_s in closings])
    assert {type(word) for word in words} <= {Stored, Conflict}
    return [at_s for at_s, word in zip(closings, words, strict=True) if isinstance(word, Conflict)], taken


def test_a_stolen_key_takes_only_what_is_open(centre: Any) -> None:
    """Of the successor's messages only those are refused in which a node ends that was open when the key was revoked
    (or opened within a quarter-hour): one a level, none after the day (with `1w` in a policy: the week). Nothing before
    the policy's days is taken."""
    unheard, taken = lost(centre, Intake)
    quarter_s = NOON_S + AHEAD_S + QUARTER_S
    midnight_s, six_s = CALENDAR.day(NOON_S).end_s, CALENDAR.node("6h", NOON_S).end_s
    assert unheard == [quarter_s, NOON_S + HOUR_S, six_s, midnight_s]
    assert taken == {"15min later", "1h later", "6h later", "1d later"}


def test_an_intake_without_a_clock_is_found_out(centre: Any) -> None:
    """The twin: the thief has taken the successor's first message, and every one for days."""
    unheard, taken = lost(centre, Clockless)
    assert len(unheard) > 2 * 96
    assert "15min later" in taken


class Ageless(RuleBook):
    """Broken on purpose: any node may be withheld, of whatever year."""

    def __call__(self, policy_hash: bytes) -> Any:
        rules = super().__call__(policy_hash)
        if rules is None:
            return None
        check = rules.check
        return SimpleNamespace(
            site=rules.site,
            plan=rules.plan,
            capped=False,
            check=lambda one: None if isinstance(one, Withheld) else check(one),
        )


def test_rules_without_a_first_day_are_found_out(centre: Any) -> None:
    """The twin: the thief has closed nodes of 1970."""
    first = centre.gateway()
    centre.now_s = NOON_S
    centre.intake = Intake(centre.archive, Ageless(centre.archive), lambda: centre.now_s)
    burn(centre, first)
    assert [o for s in centre.archive.streams() for o in centre.archive.outcomes(s.stream, 0, DAY_S * 301)]


# --- what waits ------------------------------------------------------------------------------------------------------


class Forgetful(Intake):
    """Broken on purpose: what waits for a policy is filed with it, of whatever time it speaks."""

    def _objection_now(self, message: Message, *rest: Any) -> Any:
        self._latest_s = YEARS_S
        return super()._objection_now(message, *rest)


def waits_for_its_time(centre: Any, kind: type[Intake]) -> list[list[str]]:
    """What came while the centre's clock was a month ahead, and without its policy, is looked at again three times:
    with the clock put right and the policy there, a second before its time, and then. Returns what is filed then."""
    gateway = centre.gateway(published=False)
    centre.now_s = spoken_s = NOON_S + 30 * DAY_S
    takes(centre, kind)
    assert centre.accept(gateway.topic, gateway.seal(NOON_S)).fate == "quarantined"
    assert centre.accept(gateway.topic, gateway.seal(spoken_s)).fate == "quarantined"
    gateways.publish_policy(centre.archive, centre.signed(gateway.policy))
    told = []
    for centre.now_s in (NOON_S, spoken_s - AHEAD_S - 1, spoken_s - AHEAD_S):
        told.append([f"{type(word).__name__} {word.seq}" for word in centre.intake.reconsider()])
        assert centre.intake.left_early == (centre.archive.waiting() != {})
    return told


def test_what_waits_for_a_policy_waits_for_its_time_as_well(centre: Any) -> None:
    """Nothing brings it there sooner, and nothing is lost by it."""
    assert waits_for_its_time(centre, Intake) == [["Stored 1"], [], ["Stored 2"]]
    assert centre.refused() == {"unknown_policy": 2}


def test_an_intake_that_files_what_waited_of_any_time_is_found_out(centre: Any) -> None:
    """The twin: a month is closed before it begins."""
    assert waits_for_its_time(centre, Forgetful)[0] == ["Stored 1", "Stored 2"]


def looked_at_again(centre: Any, after_s: float, monkeypatch: pytest.MonkeyPatch) -> int:
    """Returns how many messages of a gateway are filed once their time has come, without another word of anybody."""
    monkeypatch.setattr(subscriber, "_RETRY_EARLY_S", after_s)
    gateway = centre.gateway(published=False)
    centre.now_s = NOON_S
    centre.accept(gateway.topic, gateway.seal(NOON_S))
    gateways.publish_policy(centre.archive, centre.signed(gateway.policy))
    one = subscriber.Subscriber(centre.config, centre.archive, centre.intake, centre.secret, print)
    for centre.now_s in (NOON_S - DAY_S, NOON_S):
        one._watch()
    return int(centre.archive.counts()["messages"] - centre.archive.counts()["quarantined"])


def test_a_centre_looks_again_at_what_waits_for_its_time(centre: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sleeps otherwise until somebody writes into the archive."""
    assert looked_at_again(centre, 0, monkeypatch) == 1


def test_a_centre_that_waits_for_others_is_found_out(centre: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: the message waits until the next policy."""
    assert looked_at_again(centre, YEARS_S, monkeypatch) == 0


# --- health ----------------------------------------------------------------------------------------------------------


def test_a_report_of_tomorrow_is_not_kept(centre: Any) -> None:
    """Else no later one would count; a clock that is a quarter-hour ahead is one that a technician wants to see."""
    gateway = centre.gateway()
    centre.now_s = NOON_S
    word = centre.accept(*gateway.health(10, boot=9, at_s=NOON_S + AHEAD_S + 1))
    assert isinstance(word, Refused)
    assert (word.reason, word.fate, word.gateway) == ("too_early", "counted", gateway.name)
    assert centre.archive.health() == []
    assert isinstance(centre.accept(*gateway.health(10, at_s=NOON_S + AHEAD_S)), Heard)


HIGHEST = 1 << 53


class ByBoot(Intake):
    """Broken on purpose: whoever has counted most boots is the last to report."""

    def _follows(self, report: StoredHealth, kept: StoredHealth) -> bool:
        return (report.boot, report.at_s) > (kept.boot, kept.at_s)


class ByUptime(Intake):
    """Broken on purpose: within a boot the clock is not looked at."""

    def _follows(self, report: StoredHealth, kept: StoredHealth) -> bool:
        return (report.boot, report.uptime_s) > (kept.boot, kept.uptime_s)


class ByEither(Intake):
    """Broken on purpose: a later date is enough."""

    def _follows(self, report: StoredHealth, kept: StoredHealth) -> bool:
        return (report.boot, report.uptime_s) > (kept.boot, kept.uptime_s) or report.at_s > kept.at_s


def enrolled(centre: Any) -> Any:
    """Returns another gateway, at a site of its own, that has filed its first message and its first report."""
    number = len(centre.archive.enrolments())
    gateway = centre.gateway(f"gw-{number}", f"site{number}")
    assert isinstance(centre.accept(gateway.topic, gateway.seal(NOON_S - HOUR_S)), Stored)
    assert isinstance(centre.accept(*gateway.health(0, at_s=NOON_S - HOUR_S)), Heard)
    return gateway


@pytest.mark.parametrize(("kind", "heard"), [(Intake, 3), (ByEither, 3), (ByUptime, 1)])
def test_uptime_may_begin_anew_within_a_boot(centre: Any, kind: type[Intake], heard: int) -> None:
    """A gateway that starts seconds before a quarter-hour reports twice at no uptime; one whose clock is put forward
    counts it from there. The twin does not hear it for as long as it had been up."""
    takes(centre, kind)
    gateway = enrolled(centre)
    reports = [(2, 0, 0), (2, 0, QUARTER_S), (2, 0, HOUR_S - QUARTER_S)]
    words = [centre.accept(*gateway.health(up_s, boot=boot, at_s=NOON_S + at_s)) for boot, up_s, at_s in reports]
    assert sum(isinstance(word, Heard) for word in words) == heard


def heard_again(centre: Any, kind: type[Intake], boot: int, uptime_s: int, at_s: int, own_boot: int = 1) -> bool:
    """Returns whether a gateway is heard half an hour after a thief spoke in its name, beside its messages."""
    takes(centre, kind)
    centre.now_s = NOON_S
    gateway = enrolled(centre)
    centre.accept(*gateway.health(uptime_s, boot=boot, at_s=at_s))
    centre.now_s += 2 * AHEAD_S
    assert isinstance(centre.accept(gateway.topic, gateway.seal(centre.now_s, boot=own_boot)), Stored)
    report = gateway.health(2 * AHEAD_S, boot=own_boot, at_s=centre.now_s)
    heard = isinstance(centre.accept(*report), Heard)
    # Nor does the thief's report, by whomever it is sent again, take its place.
    again = centre.accept(*gateway.health(uptime_s, boot=boot, at_s=at_s))
    kept = next(one for one in centre.archive.health() if one.gateway == gateway.name)
    return heard and isinstance(again, Refused) and kept.sealed == report[1]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    boot=st.just(1) | st.integers(1 + BOOTS + 1, HIGHEST) | st.sampled_from([100, 1000, HIGHEST - 1, HIGHEST]),
    uptime_s=st.sampled_from([0, 100, HIGHEST]),
    at_s=st.integers(0, NOON_S + AHEAD_S) | st.integers(NOON_S - DAY_S, NOON_S + AHEAD_S),
)
def test_no_report_silences_the_ones_after_it(centre: Any, boot: int, uptime_s: int, at_s: int) -> None:
    """Whatever a stolen key has counted, the gateway's own word is heard as soon as a message of later bears it out."""
    assert heard_again(centre, Intake, boot, uptime_s, at_s)


@pytest.mark.parametrize("ahead", range(1, BOOTS + 1))
def test_a_thief_who_counts_little_more_is_heard_until_the_gateway_has_counted_as_far(centre: Any, ahead: int) -> None:
    """That far a gateway may truly have come, with a clock that is behind; then its later date counts."""
    assert not heard_again(centre, Intake, 1 + ahead, 0, NOON_S)
    assert heard_again(centre, Intake, 1 + ahead, 0, NOON_S, own_boot=1 + ahead)


def test_an_archive_that_counts_boots_alone_is_found_out(centre: Any) -> None:
    """The twin: one report of a thief is the last one of its gateway."""
    assert not heard_again(centre, ByBoot, HIGHEST, 0, NOON_S)


Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(st.just("restart"), st.sampled_from([-5 * DAY_S, -2 * HOUR_S, 0, 600, 2 * HOUR_S, DAY_S]))
    | st.tuples(st.just("forward"), st.sampled_from([600, 2 * HOUR_S, DAY_S]))
    | st.tuples(st.just("quarter"), st.just(0))
    | st.tuples(st.just("replay"), st.integers(0, 30)),
    max_size=30,
)


def went_back(centre: Any, kind: type[Intake], steps: list[Step]) -> bool:
    """Lives through what happens to a gateway: restarts with a clock so far off, a clock that is put so far forward,
    quarter-hours, and somebody who sends its earlier reports again, heard or not. Returns whether an older one ever
    took the place of a newer."""
    takes(centre, kind)
    centre.now_s = NOON_S
    gateway = enrolled(centre)
    boot, starts, off_s, began_s, closed_s, reports = 1, 0, 0, NOON_S, NOON_S - HOUR_S, list[tuple[str, bytes]]()
    newest = -1
    for what, by in [*steps, ("quarter", 0)]:
        if what == "replay":
            if reports:
                centre.accept(*reports[by % len(reports)])
        else:
            if what == "restart" and starts < BOOTS:
                boot, starts, off_s = boot + 1, starts + 1, by
                began_s = centre.now_s + off_s
            elif what == "forward":
                off_s += by
                began_s = centre.now_s + off_s
            else:
                centre.now_s += QUARTER_S
            own_s = centre.now_s + off_s
            quarter_s = own_s - own_s % QUARTER_S
            if what == "quarter" and closed_s < quarter_s <= centre.now_s + AHEAD_S:
                closed_s, starts = quarter_s, 0
                assert isinstance(centre.accept(gateway.topic, gateway.seal(closed_s, boot=boot)), Stored)
            up_s = own_s - began_s
            reports.append(gateway.health(up_s - up_s % 60, boot=boot, at_s=quarter_s, outbox_depth=len(reports)))
            centre.accept(*reports[-1])
        kept = next(one for one in centre.archive.health() if one.gateway == gateway.name)
        place = next((n for n, (_, sealed) in enumerate(reports) if sealed == kept.sealed), -1)
        if place < newest:
            return True
        newest = place
    return False


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_no_replay_takes_the_place_of_a_newer_report(centre: Any, steps: list[Step]) -> None:
    """However the gateway's clock has stepped in between, and whether or not the report was heard when it came."""
    assert not went_back(centre, Intake, steps)


AHEAD_ONCE: list[Step] = [("restart", 600), ("quarter", 0), ("restart", -2 * HOUR_S), ("replay", 1), ("replay", 2)]


def test_an_archive_that_goes_by_the_date_is_found_out(centre: Any) -> None:
    """The twin: a report of before the restart, when the clock was ahead, comes back and back."""
    assert not went_back(centre, Intake, AHEAD_ONCE)
    assert went_back(centre, ByEither, AHEAD_ONCE)
