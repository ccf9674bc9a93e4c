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
        first = dict(self._archive.notes(message.site))
        super()._note_uses(message, uses)
        self._archive.notes(message.site).update(first)


class Stubborn(Intake):
    """Broken on purpose: the tank of a policy that was over is as it was when the policy returns."""

    def _note_uses(self, message: Message, uses: Any) -> None:
        before = dict(self._archive.notes(message.site))
        super()._note_uses(message, uses)
        self._archive.notes(message.site).update(before | self._tanks)


class Alone(Archive):
    """Broken on purpose: it remembers tanks as if nobody else filed anything."""

    def _recall(self) -> None:
        notes = self._remembered.notes
        super()._recall()
        self._remembered.notes = notes


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


# --- a site with several gateways ------------------------------------------------------------------------------------

SIX_HOURS = b'{ "6h" = 1 }\ncap = { units_per_day = 1, span = "1w", epsilon = '


@dataclass
class Relay:
    """A site whose gateways follow each other: each speaks under one of two policies, for some time."""

    blank: bytes
    gateways: list[Any]
    rho: tuple[int, int]  # of one node, by policy
    limits: tuple[int, int]

    def sealed(self, turns: list[tuple[int, list[int]]]) -> list[tuple[str, bytes]]:
        """Returns what each in turn says: of a gateway, the nodes of these six hours, in order."""
        return [
            (gateway.topic, sealed)
            for gateway, (_, slots) in zip(self.gateways, turns, strict=True)
            for sealed in Town(b"", gateway, 0).sealed([MONDAY_S + 6 * HOUR_S * (slot + 1) for slot in slots])
        ]

    def told(
        self, messages: list[tuple[str, bytes]], kind: type[Intake] = Intake, doors: tuple[type[Archive], ...] = ()
    ) -> tuple[list[str], list[str]]:
        """Returns the reason of each word ("" if filed) and what a full check finds then. `doors`: the archives by
        which each in turn is filed, for one centre beside another."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "archive.db"
            path.write_bytes(self.blank)
            archives = [door.open(path) for door in doors or (Archive,)]
            intakes = [kind(archive, RuleBook(archive), lambda: 1 << 40) for archive in archives]
            words = [
                "" if isinstance(word, Stored) else str(getattr(word, "reason", "?"))
                for at, message in enumerate(messages)
                for word in [intakes[at % len(intakes)].accept(*message)]
            ]
            findings = inspect(archives[0], RuleBook(archives[0])).findings
            for archive in archives:
                archive.close()
        return words, findings

    def counted(self, turns: list[tuple[int, list[int]]]) -> list[str]:
        """Returns the words by counting, for less than a week: a node fits if the largest spends of the days are within
        the cap of each policy, up to the last instant that it is released under, unless it came only after that."""
        filed: list[tuple[int, int]] = []
        words = []
        for policy, slots in turns:
            for slot in slots:
                new = [*filed, (slot, policy)]
                fits = True
                for judged in {under for _, under in new}:
                    last = max(at for at, under in new if under == judged)
                    days: dict[int, int] = {}
                    for at, under in new:
                        if at <= last:
                            days[at // 4] = max(days.get(at // 4, 0), self.rho[under])
                    fits = fits and (slot > last or sum(days.values()) <= self.limits[judged])
                filed = new if fits else filed
                words.append("" if fits else "over_cap")
        return words


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory, make_centre: Callable[..., Any], policy_text: Any) -> Any:
    """relay(policy of each gateway, cap of the second policy) -> the site."""
    made: dict[tuple[tuple[int, ...], str], Relay] = {}

    def relay(turns: tuple[int, ...], cap: str = "20") -> Relay:
        if (turns, cap) not in made:
            centre = make_centre(tmp_path_factory.mktemp("relay"))
            texts = [
                policy_text("plaza", version, epsilon).replace(ALL, SIX_HOURS + spent.encode() + b" }")
                for version, epsilon, spent in ((1, "1.0", "2.0"), (2, "2.0", cap))
            ]
            gateways_made = []
            for number, turn in enumerate(turns):
                gateways_made.append(centre.gateway(f"gw-{number}", published=False))
                gateways_made[-1].policy = texts[turn]
            for text in texts:
                gateways.publish_policy(centre.archive, centre.signed(text))
            centre.archive.close()
            streams = [PolicyRules(text).plan.streams[STREAM] for text in texts]
            rho, limits = zip(*((one.rho_micro, one.cap_rho_micro) for one in streams), strict=True)
            made[turns, cap] = Relay(centre.config.archive.read_bytes(), gateways_made, rho, limits)
        return made[turns, cap]

    return relay


def test_on_the_day_of_a_handover_each_policy_counts_what_came_until_it_was_over(relay: Callable[..., Relay]) -> None:
    """The first gateway stops at noon with its cap nearly spent; its successor's policy has room for the afternoon, and
    for what the morning has cost."""
    turns = [(0, [0, 4, 8, 9]), (1, [10, 11, 12])]
    site = relay((0, 1))
    assert 2 * site.rho[0] + site.rho[1] > site.limits[0] >= 3 * site.rho[0]
    assert site.told(site.sealed(turns)) == ([""] * 7, [])
    assert site.told(site.sealed(turns), Generous) == ([""] * 7, [])


def test_a_successor_pays_for_the_morning(relay: Callable[..., Relay]) -> None:
    """Its own cap counts the days before it: with three of them it has room for no more than one of its own."""
    turns = [(0, [0, 4, 8, 9]), (1, [10, 11, 12])]
    site = relay((0, 1), "3.2")
    assert 2 * site.rho[0] + site.rho[1] <= site.limits[1] < 2 * site.rho[0] + 2 * site.rho[1]
    assert site.told(site.sealed(turns)) == (["", "", "", "", "", "", "over_cap"], [])
    assert any("above the cap" in finding for finding in site.told(site.sealed(turns), Generous)[1])


@settings(max_examples=25)
@given(data=st.data())
def test_gateways_that_follow_each_other_share_the_caps(relay: Callable[..., Relay], data: Any) -> None:
    """Against counting, within a week: words, and that a full check finds what was refused and nothing else."""
    order = data.draw(st.sampled_from([(0, 1), (1, 0), (0, 1, 0), (1, 0, 1), (0, 0)]))
    site = relay(order, data.draw(st.sampled_from(["20", "3.2"])))
    slots = data.draw(st.lists(st.integers(0, 27), unique=True, min_size=len(order), max_size=20).map(sorted))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(slots)), min_size=len(order) - 1, max_size=len(order) - 1)))
    edges = [0, *cuts, len(slots)]
    turns = [(policy, slots[edges[at] : edges[at + 1]]) for at, policy in enumerate(order)]
    expected, messages = site.counted(turns), site.sealed(turns)
    assert site.told(messages) == (expected, [])
    first = expected.index("over_cap") + 1 if "over_cap" in expected else len(expected)
    assert bool(site.told(messages[:first], Generous)[1]) == ("over_cap" in expected)


def test_a_policy_that_returns_knows_what_was_spent_meanwhile(relay: Callable[..., Relay]) -> None:
    """And the twin that does not is found out."""
    turns = [(0, [0, 8]), (1, [12]), (0, [16])]
    site = relay((0, 1, 0))
    assert site.counted(turns) == ["", "", "", "over_cap"]
    assert site.told(site.sealed(turns)) == (["", "", "", "over_cap"], [])
    words, findings = site.told(site.sealed(turns), Stubborn)
    assert words[-1] == "" and any("above the cap" in finding for finding in findings)


def test_what_another_centre_files_counts(relay: Callable[..., Relay]) -> None:
    """Two processes file into one archive by turns; the twin that trusts its memory is found out."""
    turns = [(0, [0, 8]), (0, [12, 16, 20])]
    site = relay((0, 0))
    expected = site.counted(turns)
    assert expected == ["", "", "", "over_cap", "over_cap"]
    assert site.told(site.sealed(turns), doors=(Archive, Archive)) == (expected, [])
    words, findings = site.told(site.sealed(turns), doors=(Alone, Alone))
    assert words != expected and any("above the cap" in finding for finding in findings)


def test_days_are_looked_at_once(relay: Callable[..., Relay], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a gateway that was replaced nor one that asks for too much, ever earlier, has them looked at again."""
    looks: list[int] = []
    charged = Archive.charged

    def counted(self: Archive, stream: str, since_s: int = 0) -> Any:
        looks.append(since_s)
        return charged(self, stream, since_s)

    monkeypatch.setattr(Archive, "charged", counted)
    site = relay((0, 0))
    first, successor = list(range(80, 92)), [*range(92, 108), *range(79, 63, -1)]
    words, findings = site.told(site.sealed([(0, first), (0, successor)]))
    assert words == [""] * 12 + ["over_cap"] * 32 and len(looks) == len({*looks}) <= 4
    # The check looks at them as well, once, from the begin.
    assert findings == [] and looks[-1] == 0
