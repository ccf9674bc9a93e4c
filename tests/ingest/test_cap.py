"""Nothing is filed that a stream's cap has no room for, and nothing else is refused for it.

An honest gateway withholds such days itself; one whose ledger was lost, or that others speak for, does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_ingest import gateways
from murmure_ingest.archive import Archive
from murmure_ingest.inspection import inspect
from murmure_ingest.intake import REASONS, Intake, Stored
from murmure_ingest.rules import PolicyRules, RuleBook
from murmure_privacy import wire
from murmure_privacy.release import Message

MONDAY_S = 1_795_388_400  # 2026-11-23 00:00 in Paris
HOUR_S, DAY_S = 3600, 86_400
STREAM = "plaza/footfall"
ALL = b'{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }'
DAYS, MIXED = b'{ "1d" = 1 }', b'{ "6h" = 1, "1d" = 2, "1w" = 1 }'
CAP = b'\ncap = { units_per_day = 2, span = "1w", epsilon = 4 }'


class Generous(Intake):
    """Broken on purpose: no tank is ever empty."""

    def _over_cap(self, message: Message) -> str | None:
        return None


class Forgetful(Intake):
    """Broken on purpose: what it remembers of a tank is what it was at first."""

    def _note_uses(self, message: Message, uses: Any) -> None:
        first = dict(self._archive.notes(message.gateway))
        super()._note_uses(message, uses)
        self._archive.notes(message.gateway).update(first)


@dataclass
class Town:
    """A site with a capped stream, before anything was said."""

    blank: bytes
    gateway: Any
    fits: int  # days of a week that the cap pays for, if the day has one node

    def told(self, kind: type[Intake], messages: list[bytes], batch: int = 1) -> tuple[list[str], list[str]]:
        """Returns the reason of each word ("" if filed), and what a full check finds then."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "archive.db"
            path.write_bytes(self.blank)
            archive = Archive.open(path)
            intake = kind(archive, RuleBook(archive), lambda: 1 << 40)
            words = [
                "" if isinstance(word, Stored) else str(getattr(word, "reason", "?"))
                for at in range(0, len(messages), batch)
                for word in intake.accept_many([(self.gateway.topic, sealed) for sealed in messages[at : at + batch]])
            ]
            findings = inspect(archive, RuleBook(archive)).findings
            archive.close()
        return words, findings

    def sealed(self, closings: list[int]) -> list[bytes]:
        """Returns a message for each of these instants, in order, with what the stream closes then."""
        found: list[bytes] = []
        for number, end_s in enumerate(closings, 1):
            outcomes = tuple(one for one in self.gateway.outcomes(end_s) if one.node.stream == STREAM)
            before = wire.digest(found[-1]) if found else wire.FIRST_PREVIOUS
            message = self.gateway.message(end_s, seq=number, previous=before, outcomes=outcomes)
            found.append(wire.seal_message(message, self.gateway.secret))
        return found


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, make_centre: Callable[..., Any], policy_text: Any) -> Any:
    """town(nodes) -> a site whose stream has these nodes and a cap."""
    made: dict[bytes, Town] = {}

    def town(nodes: bytes) -> Town:
        if nodes not in made:
            centre = make_centre(tmp_path_factory.mktemp("cap"))
            gateway = centre.gateway(published=False)
            gateway.policy = policy_text("plaza").replace(ALL, nodes + CAP)
            gateways.publish_policy(centre.archive, centre.signed(gateway.policy))
            centre.archive.close()
            stream = PolicyRules(gateway.policy).plan.streams[STREAM]
            assert stream.cap_rho_micro is not None
            fits = stream.cap_rho_micro // (4 * stream.nodes[0].rho_micro)
            made[nodes] = Town(centre.config.archive.read_bytes(), gateway, fits)
        return made[nodes]

    return town


@settings(max_examples=25)
@given(data=st.data())
def test_a_day_is_filed_if_and_only_if_every_week_has_room_for_it(town: Callable[[bytes], Town], data: Any) -> None:
    """Against counting: days in any order, each beside all that are filed by then, before it and after it."""
    site = town(DAYS)
    assert 1 <= site.fits < 6
    days = data.draw(st.lists(st.integers(0, 20), unique=True, min_size=1, max_size=14).map(sorted))
    sealed = site.sealed([MONDAY_S + DAY_S * (day + 1) for day in days])
    order = data.draw(st.permutations(range(len(days))))
    filed: set[int] = set()
    expected = []
    for at in order:
        with_it = filed | {days[at]}
        fits = all(len(with_it & set(range(day, day + 7))) <= site.fits for day in range(days[at] - 6, days[at] + 1))
        filed = with_it if fits else filed
        expected.append("" if fits else "over_cap")
    batch = data.draw(st.sampled_from([1, 3, 100]))
    assert site.told(Intake, [sealed[at] for at in order], batch) == (expected, [])


@settings(max_examples=15)
@given(data=st.data())
def test_what_is_refused_is_what_a_full_check_would_find(town: Callable[[bytes], Town], data: Any) -> None:
    """Nodes of three lengths, weeks that count on each of their days: the first message that is refused would have
    been too much, and none before it was."""
    site = town(MIXED)
    hours = data.draw(st.lists(st.integers(1, 4 * 17), unique=True, min_size=1, max_size=40).map(sorted))
    sealed = site.sealed([MONDAY_S + 6 * HOUR_S * hour for hour in hours])
    words, left = site.told(Intake, sealed, 5)
    assert set(words) <= {"", "over_cap"} and left == []
    first = words.index("over_cap") if "over_cap" in words else len(words)
    _, findings = site.told(Generous, sealed[: first + 1], 100)
    assert bool(findings) == ("over_cap" in words)
    assert all("above the cap" in finding for finding in findings)


def week(site: Town) -> list[bytes]:
    """One day more of a week than the cap pays for."""
    return site.sealed([MONDAY_S + DAY_S * (day + 1) for day in range(site.fits + 1)])


@pytest.mark.parametrize("kind", [Generous, Forgetful])
def test_intakes_that_do_not_count_days_are_found_out(town: Callable[[bytes], Town], kind: type[Intake]) -> None:
    """The twins: a full check of what they have filed finds a day that was too much."""
    words, findings = town(DAYS).told(kind, week(town(DAYS)), 100)
    assert words[-1] == "" and any("above the cap" in finding for finding in findings)


def test_what_a_cap_refuses_is_settled_and_its_site_counts_as_spent(centre: Any, policy_text: Any) -> None:
    """The gateway is told once and for all; what it had signed is not kept, so that its successor begins with nothing
    to spend, and the word says what was too much."""
    gateway = centre.gateway(published=False)
    gateway.policy = policy_text("plaza").replace(ALL, DAYS + CAP)
    gateways.publish_policy(centre.archive, centre.signed(gateway.policy))
    site = Town(b"", gateway, 5)
    words = [
        centre.accept(gateway.topic, sealed) for sealed in site.sealed([MONDAY_S + DAY_S * n for n in range(1, 8)])
    ]
    refused = [word for word in words if not isinstance(word, Stored)]
    assert refused and {word.reason for word in refused} == {"over_cap"} <= set(REASONS)
    assert all("micro-rho in 7 days, its cap is" in word.detail for word in refused)
    assert centre.archive.totals(gateway.name).settled_seq == 7
    assert [reason for _, reason in centre.archive.exceptions(gateway.name, 7)] == ["refused"] * len(refused)
    assert centre.archive.unkept_until("plaza") is not None


def test_a_tank_that_cannot_be_empty_is_not_looked_at(centre: Any, policy_text: Any, monkeypatch: Any) -> None:
    """Where the cap has room for every day of its span, or fewer days have gone by, no charge is read."""
    gateway = centre.gateway(published=False)
    gateway.policy = policy_text("plaza").replace(ALL, DAYS + CAP.replace(b"epsilon = 4", b"epsilon = 40"))
    gateways.publish_policy(centre.archive, centre.signed(gateway.policy))
    monkeypatch.setattr(Archive, "charged", lambda *_: pytest.fail("all charges of a stream were read"))
    sealed = Town(b"", gateway, 0).sealed([MONDAY_S + DAY_S * n for n in range(1, 15)])
    assert all(isinstance(word, Stored) for word in centre.intake.accept_many([(gateway.topic, one) for one in sealed]))
