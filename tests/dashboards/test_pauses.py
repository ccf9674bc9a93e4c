"""Past and present pauses: every day on which something was withheld by decision, and by which one."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import maker_privacy, maker_register
from murmure_dashboards.config import City
from murmure_dashboards.decisions import decisions
from murmure_dashboards.maker import Build
from murmure_dashboards.pauses import by_site, pauses
from murmure_privacy import policy as policies
from murmure_privacy.policies import Rules
from murmure_privacy.release import Node

DAYS = {day: date(2026, 11, day) for day in range(15, 22)}


def street_of(streets: SimpleNamespace, paused_on: set[date], texts: tuple[tuple[str, str], ...] = ()) -> Any:
    """Returns a square whose air was withheld as paused on some days, with further versions of its policy."""
    street = streets.Street()

    def withheld(stream: str, node: Node) -> str | None:
        on = streets.PARIS.civil_day(node.start_s)
        return "paused" if stream.endswith("/pm2_5") and on in paused_on else None

    streets.add(street, "plaza", streets.week_of(streets.NOW_S), withheld=withheld)
    text = street.policies("plaza")[0].toml.decode()
    for old, new in texts:
        assert old in text
        text = text.replace(old, new)
        if "version" in old:
            data = text.encode()
            street.signed[policies.parse(data, "test").hash] = data
    return street


def found(given: Callable[..., Build], street: Any, city: City) -> list[tuple[Any, ...]]:
    ctx = given(street, city)
    held = decisions(street, Rules(street), "plaza")
    return [
        (one.stream.partition("/")[2], one.first, one.last, one.policy.version if one.policy else None, one.until_it)
        for one in pauses(by_site(ctx.ledger).get("plaza", {}), held)
    ]


PAUSE_AIR = ('quantity = "pm2_5"', 'quantity = "pm2_5"\npaused = true')
VERSION_8, VERSION_9 = ("version = 7", "version = 8"), ("version = 8", "version = 9")


@pytest.mark.parametrize(
    ("days", "texts", "said"),
    [
        (set(), (), []),
        ({16, 17, 19}, (), [("pm2_5", 19, 19, None, False), ("pm2_5", 16, 17, None, False)]),
        # Paused by version 8, which is the newest still: it goes on.
        ({20, 21}, (PAUSE_AIR, VERSION_8), [("pm2_5", 20, None, 8, False)]),
        # Paused by 8 and taken up again by 9.
        ({17, 18}, (PAUSE_AIR, VERSION_8, PAUSE_AIR[::-1], VERSION_9), [("pm2_5", 17, 18, 8, False)]),
        # Nothing ended since the pause was signed.
        (set(), (PAUSE_AIR, VERSION_8), [("pm2_5", None, None, 8, False)]),
        # Nobody paused it: the gateway waited for a stricter rule.
        ({18}, (("epsilon = 1.0", "epsilon = 0.5"), VERSION_8), [("pm2_5", 18, 18, 8, True)]),
    ],
)
def test_pauses_follow_from_withheld_nodes_and_policies(
    streets: SimpleNamespace,
    given: Callable[..., Build],
    city: City,
    days: set[int],
    texts: tuple[tuple[str, str], ...],
    said: list[tuple[Any, ...]],
) -> None:
    """From the first to the last day without a figure, whichever policy the nodes name, and what goes on has no end."""
    street = street_of(streets, {DAYS[day] for day in days}, texts)
    as_days = [(stream, first and DAYS[first], last and DAYS[last], *rest) for stream, first, last, *rest in said]
    assert found(given, street, city) == as_days


def test_a_pause_needs_a_withheld_node_or_a_policy(
    streets: SimpleNamespace, given: Callable[..., Build], city: City
) -> None:
    """What is withheld for another reason is no pause; a ledger that forgets the reasons tells of none."""
    street = street_of(streets, {DAYS[18]})
    ledger = given(street, city).ledger
    assert sum(b'"reasons":{"paused":' in line for line in ledger) == 1
    held = decisions(street, Rules(street), "plaza")
    assert len(pauses(by_site(ledger)["plaza"], held)) == 1
    assert by_site([line.replace(b'"paused"', b'"sensor_absent"') for line in ledger]) == {}


def test_register_and_privacy_page_list_the_pauses(
    streets: SimpleNamespace, given: Callable[..., Build], city: City
) -> None:
    """With their days, the decision and its reason, in both languages; a place without any says so."""
    street = street_of(streets, {DAYS[17], DAYS[18]}, (PAUSE_AIR, VERSION_8, PAUSE_AIR[::-1], VERSION_9))
    ctx = given(street, city)
    pages = dict(maker_register.files(ctx)) | dict(maker_privacy.files(ctx))
    for path in ("vie-privee/plaza/", "capteurs/plaza/", "c/A17/"):
        french, english = (pages[f"{root}{path}index.html"].decode() for root in ("", "en/"))
        line = re.search(r"<h2>Les pauses</h2>\s*<ul>\s*<li>(.*?)</li>", french.replace("\u00a0", " "))
        assert line and line[1] == (
            "Particules PM2,5 : du 17 novembre 2026 au 18 novembre 2026, par la règle 8."
            ' <span lang="fr">Délibération 2026-11-03 n° 42. Mesurer la place.</span>'
        )
        assert re.search(r"<h2>Pauses</h2>\s*<ul>\s*<li>PM2.5 particles: from 17 November 2026 to 18", english)
    assert "Aucune pause pour le moment." in pages["capteurs/station/index.html"].decode()
