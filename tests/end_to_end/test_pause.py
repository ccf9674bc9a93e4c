"""A granted objection, and a rule that comes to its end: within one node nothing is published and the pages say why.

Real keys, enrolment, signatures, publication, ledger, publisher, intake, archive and pages; the clock stands where the
test puts it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from murmure_dashboards import config as city_config
from murmure_dashboards.site import render
from murmure_edge import enrol as edge
from murmure_edge.config import load_record_key
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.publisher import Identity, Publisher
from murmure_ingest.archive import Archive
from murmure_ingest.gateways import publish_policy
from murmure_ingest.intake import Intake, Stored
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.policy import parse
from murmure_privacy.release import Withheld
from murmure_privacy.window import Calendar

QUARTER_S, HOUR_S = 900, 3600
GRANTED_S = 2 * HOUR_S + 300  # after the start: in the middle of a quarter-hour
TOPIC = "murmure/v1/centre/gw-plaza/release"
POLICY = b"""policy = 1
site = "plaza"
version = 1
timezone = "Europe/Paris"
decision = "D 1"
reason = "R"
valid_from = 2026-11-01
valid_until = 2027-11-30

[[stream]]
id = "plaza/footfall"
quantity = "footfall"
protects = { crossings = 1 }
epsilon = 1.0
nodes = { "15min" = 1, "1h" = 1 }
"""
PAUSE = POLICY.replace(b"version = 1", b"version = 2").replace(b"D 1", b"D 2").replace(b"R", b"O 7", 1)
PAUSE = PAUSE.replace(b"valid_from", b"paused = true\nvalid_from")
CITY = b"""city = "Ville"
timezone = "Europe/Paris"
help = "Mairie"

[[quartier]]
slug = "centre"
name = "Centre"

[[site]]
id = "plaza"
name = "Place"
quartier = "centre"
purpose = "P"
owner = "O"
contact = "C"
"""
REGISTER, FIGURES, PRIVACY = "capteurs/plaza/", "quartiers/centre/", "vie-privee/plaza/"


def ended(archive: Archive, now_s: int) -> set[str]:
    """Returns which pages say that the signed rule has come to its end."""
    made = dict(render(archive, city_config.parse(CITY, "city.toml"), now_s))
    said = {path: unescape(made[f"{path}index.html"].decode()) for path in (REGISTER, FIGURES)}
    return {path for path, text in said.items() if "la règle signée est arrivée à son terme" in text}


def suspended(archive: Archive, now_s: int) -> set[str]:
    """Returns which pages say that the counter is suspended by decision."""
    made = dict(render(archive, city_config.parse(CITY, "city.toml"), now_s))
    pages = (REGISTER, FIGURES, PRIVACY)
    return {path for path in pages if re.search("uspendue? par décision", made[f"{path}index.html"].decode())}


def lives(centre: Any, folder: Path, heard: Sequence[bytes]) -> tuple[list[set[str]], list[str]]:
    """A gateway counts from noon; after two hours stewards publish a pause. `heard`: the policies that reach the
    gateway at that instant. Returns the pages that tell of the pause before it, at once, and when the next hour is
    over; and what became of the nodes that ended since: "released" or the reason."""
    noon_s = int(centre.now[0].timestamp())
    layout = edge.Layout.beside(folder / "gateway.toml")
    edge.enrol(centre.offer("gw-plaza").text, centre.address, layout, "0.1.0")
    data = folder / "data"
    sent: list[tuple[str, bytes]] = []
    clock_s = noon_s
    with closing(centre.archive()) as archive, closing(GatewayDb.open(data / "gateway.db")) as db:
        intake = Intake(archive, RuleBook(archive), lambda: clock_s)
        who = Identity("gw-plaza", "centre", "plaza", load_record_key(data / "record.key"))
        gateway = Publisher(db, who, DiscreteGaussian(), lambda _, sealed: sent.append((TOPIC, sealed)), pytest.fail)
        publish_policy(archive, wire.seal_policy(POLICY, [("steward", centre.steward[0])]))
        gateway.start(noon_s)
        gateway.adopt(parse(POLICY, "policy"), noon_s)

        def until(end_s: int) -> None:
            nonlocal clock_s
            gateway.add("plaza/footfall", [(at_s * 1000, 0) for at_s in range(clock_s, end_s)])
            while clock_s < end_s:
                clock_s = min(end_s, clock_s - clock_s % QUARTER_S + QUARTER_S)
                gateway.advance(clock_s)
            assert {type(word) for word in intake.accept_many(sent)} <= {Stored}
            sent.clear()

        until(noon_s + GRANTED_S)
        told = [suspended(archive, clock_s)]
        publish_policy(archive, wire.seal_policy(PAUSE, [("steward", centre.steward[0])]))
        for text in heard:
            gateway.adopt(parse(text, "policy"), clock_s)
        told.append(suspended(archive, clock_s))
        until(noon_s + 3 * HOUR_S)
        told.append(suspended(archive, clock_s))
        since = archive.outcomes("plaza/footfall", noon_s + GRANTED_S, clock_s)
        return told, [one.reason if isinstance(one, Withheld) else "released" for one in since]


def test_a_granted_pause_shows_within_one_node(centre: Any, tmp_path: Path) -> None:
    """The register and the privacy page say so as soon as the decision is published; every node that was open then or
    opened later is withheld, and the neighbourhood's page says so once the first of them is over."""
    told, nodes = lives(centre, tmp_path, [PAUSE])
    assert told == [set(), {REGISTER, PRIVACY}, {REGISTER, FIGURES, PRIVACY}]
    assert nodes == ["paused"] * 5  # four quarter-hours and their hour


def test_a_gateway_that_goes_on_is_found(centre: Any, tmp_path: Path) -> None:
    """The twin: a gateway that never takes the pause publishes on, and its neighbourhood's page does not say it."""
    told, nodes = lives(centre, tmp_path, [])
    assert told[2] == {REGISTER, PRIVACY} and nodes == ["released"] * 5


def comes_to_its_end(centre: Any, folder: Path, judge_dates: bool) -> tuple[list[set[str]], dict[str, set[str]]]:
    """A gateway counts over the midnight at which its policy ends, the last hour of the day and the first of the next.
    Returns which pages tell of the end before midnight, and when the first hour after it is over, of which they tell;
    and, by "before" and "after", what became of the nodes: "released" or the reason."""
    calendar = Calendar("Europe/Paris")
    midnight_s = calendar.day(int(centre.now[0].timestamp())).end_s
    until = calendar.civil_day(midnight_s) - timedelta(days=1)
    text = POLICY.replace(b"valid_until = 2027-11-30", f"valid_until = {until}".encode())
    assert text != POLICY
    layout = edge.Layout.beside(folder / "gateway.toml")
    edge.enrol(centre.offer("gw-plaza").text, centre.address, layout, "0.1.0")
    data, sent, told = folder / "data", list[tuple[str, bytes]](), []
    with closing(centre.archive()) as archive, closing(GatewayDb.open(data / "gateway.db")) as db:
        who = Identity("gw-plaza", "centre", "plaza", load_record_key(data / "record.key"))
        gateway = Publisher(
            *(db, who, DiscreteGaussian(), lambda _, sealed: sent.append((TOPIC, sealed)), pytest.fail), judge_dates
        )
        publish_policy(archive, wire.seal_policy(text, [("steward", centre.steward[0])]))
        gateway.start(midnight_s - HOUR_S)
        gateway.adopt(parse(text, "policy"), midnight_s - HOUR_S)
        for clock_s in range(midnight_s - HOUR_S + QUARTER_S, midnight_s + HOUR_S + 1, QUARTER_S):
            gateway.add("plaza/footfall", [(at_s * 1000, 0) for at_s in range(clock_s - QUARTER_S, clock_s)])
            gateway.advance(clock_s)
            Intake(archive, RuleBook(archive), partial(int, clock_s)).accept_many(sent)
            sent.clear()
            if clock_s in (midnight_s - QUARTER_S, midnight_s + HOUR_S):
                told.append(ended(archive, clock_s))
        spans = {"before": (midnight_s - HOUR_S, midnight_s), "after": (midnight_s, midnight_s + HOUR_S)}
        nodes = {when: archive.outcomes("plaza/footfall", *span) for when, span in spans.items()}
    return told, {
        when: {one.reason if isinstance(one, Withheld) else "released" for one in found}
        for when, found in nodes.items()
    }


def test_a_rule_that_comes_to_its_end_shows_within_one_node(centre: Any, tmp_path: Path) -> None:
    """Up to the last midnight of `valid_until` everything is released and no page speaks of an end; every node after
    it is withheld, and when the first hour is over the register and the neighbourhood's page say why."""
    told, nodes = comes_to_its_end(centre, tmp_path, judge_dates=True)
    assert nodes == {"before": {"released"}, "after": {"expired"}}
    assert told == [set(), {REGISTER, FIGURES}]


def test_a_gateway_that_does_not_look_at_the_date_is_found(centre: Any, tmp_path: Path) -> None:
    """The twin: what it releases after the end is not believed by the centre, and the neighbourhood's page, which goes
    by what came, does not say that the rule has ended."""
    told, nodes = comes_to_its_end(centre, tmp_path, judge_dates=False)
    assert nodes == {"before": {"released"}, "after": set()}
    assert told == [set(), {REGISTER}]
