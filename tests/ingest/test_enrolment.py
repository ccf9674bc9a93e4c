"""The centre's half of an enrolment: what a new gateway is told of those before it, and claims that are kept apart."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_ingest.config import EnrolmentConfig
from murmure_ingest.enrolment import Claims, Slot, enrolment_open, spent_before
from murmure_privacy.enrolment import HOLDS_S, Claim

DAY_S = 86_400
NOW_S = 1_795_392_000 + 5 * DAY_S + 7 * 3600


class Charged:
    """Stands for an archive in which these nodes were charged: (stream, begin, end, micro-rho)."""

    def __init__(self, charges: Iterable[tuple[str, int, int, int]]) -> None:
        self._charges = sorted(charges)

    def charges(self, site: str, from_s: int, also: Iterable[str]) -> Iterable[tuple[str, int, int, int]]:
        return [charge for charge in self._charges if charge[2] > from_s]

    def streams_of(self, site: str) -> set[str]:
        return {stream for stream, *_ in self._charges}

    def unkept_until(self, site: str) -> None:
        return None


nodes = st.lists(
    st.tuples(
        st.sampled_from(["plaza/footfall", "plaza/noise"]),
        st.integers(-6 * 96, -1).map(lambda quarter: NOW_S + 900 * quarter),
        st.sampled_from([900, 3600, 21_600, DAY_S, 7 * DAY_S]),
        st.integers(1, 9),
    ).map(lambda node: (node[0], node[1], min(node[1] + node[2], NOW_S), node[3])),
    max_size=12,
)


@given(nodes)
def test_what_is_carried_is_never_less_than_what_was_spent(charges: list[tuple[str, int, int, int]]) -> None:
    """At each instant the carried day has at least the sum of the nodes that contain it, exactly the largest such sum
    of its day, and nothing lies in the future."""
    carried = spent_before(Charged(charges), "plaza", NOW_S)  # type: ignore[arg-type]
    for stream, from_s, until_s, most in carried:
        assert from_s < until_s <= NOW_S and most > 0
        for day_s in range(from_s, until_s, DAY_S):
            end_s = min(day_s + DAY_S, until_s)
            instants = {day_s, *(begin_s for name, begin_s, _, _ in charges if name == stream)}
            spends = [
                sum(rho for name, begin_s, e, rho in charges if name == stream and begin_s <= at_s < e)
                for at_s in instants
                if day_s <= at_s < end_s
            ]
            assert max(spends) == most
    for stream, begin_s, end_s, _ in charges:
        covered = [(a, b) for name, a, b, _ in carried if name == stream]
        for at_s in (begin_s, end_s - 1):
            assert any(a <= at_s < b for a, b in covered)


def test_a_door_without_its_claims_stays_shut_and_keeps_nobody_waiting(centre: Any) -> None:
    """What gateways send is filed though claims.db is damaged; the log has one line with the mend."""
    config = replace(centre.config, enrolment=EnrolmentConfig("127.0.0.1", 0))
    (config.data_dir / "claims.db").write_bytes(b"no database" * 100)
    said: list[str] = []
    with enrolment_open(config, lambda: centre.archive, said.append):
        pass
    ((line),) = said
    assert "claims: file is not a database; remove it, and make the offers" in line and "no gateway can enrol" in line


def test_days_that_are_alike_stand_together(centre: Any) -> None:
    """A site's usual days are one line, told from what was filed; another site's are not told."""
    gateway = centre.gateway()
    for topic, sealed in gateway.history(2 * 96):
        centre.accept(topic, sealed)
    now_s = 1_795_392_000 + 2 * DAY_S
    spans = spent_before(centre.archive, "plaza", now_s)
    assert {stream for stream, *_ in spans} == {"plaza/footfall", "plaza/pm2_5"}
    assert all(until_s - from_s >= DAY_S for _, from_s, until_s, _ in spans)
    footfall = [span for span in spans if span[0] == "plaza/footfall"]
    # The first civil day begins at 23:00 UTC on the day before, of which no quarter-hour was filed.
    assert [until_s - from_s for _, from_s, until_s, _ in footfall] == [DAY_S, 2 * DAY_S]
    assert 0 < footfall[0][3] < footfall[1][3] == 24_352
    assert spent_before(centre.archive, "elsewhere", now_s) == []


def test_a_year_of_changing_days_still_fits_one_answer() -> None:
    """Where like days are few, a stream's days are told as one span with the most that any of them cost."""
    charges = [
        (f"plaza/noise_{number}", NOW_S - day * DAY_S - 900, NOW_S - day * DAY_S, 1 + day % 7)
        for number in range(8)
        for day in range(365)
    ]
    told = spent_before(Charged(charges), "plaza", NOW_S)  # type: ignore[arg-type]
    assert [most for *_, most in told] == [7] * 8
    assert all(until_s == NOW_S and until_s - from_s >= 364 * DAY_S for _, from_s, until_s, _ in told)


def test_a_clock_that_is_behind_hides_no_spending() -> None:
    """The newest node ends after the centre's own now: it is told to its end."""
    ahead = [("plaza/noise", NOW_S, NOW_S + 3600, 5)]
    assert spent_before(Charged(ahead), "plaza", NOW_S - DAY_S)[-1][2:] == (NOW_S + 3600, 5)  # type: ignore[arg-type]


def test_what_no_gateway_of_ours_would_say_is_told_as_no_less() -> None:
    """Nodes that a thief has written: between the quarter-hours, before the year, after what is believed, and dear."""
    charges = [
        ("plaza/noise", NOW_S - 901, NOW_S - 899, 5),
        ("plaza/noise", NOW_S - 901, NOW_S - 1, 1 << 62),
        ("plaza/pm10", NOW_S - 500 * DAY_S, NOW_S - 371 * DAY_S, 3),
        ("plaza/pm10", NOW_S - 3600, NOW_S + 9 * DAY_S, 4),
        ("plaza/pm10", NOW_S + 8 * DAY_S, NOW_S + 9 * DAY_S, 4),
    ]
    told = spent_before(Charged(charges), "plaza", NOW_S)  # type: ignore[arg-type]
    midnight_s, end_s = NOW_S - NOW_S % DAY_S, NOW_S + 2 * DAY_S
    assert [span for span in told if span[0] == "plaza/noise"] == [
        ("plaza/noise", midnight_s, midnight_s + DAY_S, 1 << 40)
    ]
    assert [span for span in told if span[0] == "plaza/pm10"] == [
        ("plaza/pm10", midnight_s - 372 * DAY_S, midnight_s - 370 * DAY_S, 3),
        ("plaza/pm10", midnight_s, end_s, 4),
    ]


class Flooded(Charged):
    """Stands for an archive that a thief has filled with nodes, each of another interval."""

    def charges(self, site: str, from_s: int, also: Iterable[str]) -> Iterable[tuple[str, int, int, int]]:
        for number in range(30_000):
            begin_s = NOW_S - 300 * DAY_S + 600 * number
            yield "plaza/noise", begin_s, begin_s + 900, 1


class AllAtOnce(Flooded):
    """Broken on purpose: all of it is read before anything is added up."""

    def charges(self, site: str, from_s: int, also: Iterable[str]) -> Iterable[tuple[str, int, int, int]]:
        return list(super().charges(site, from_s, also))


def peak_of(archive: Charged) -> int:
    """Returns how many bytes it takes at the most to tell what was spent."""
    tracemalloc.start()
    try:
        assert spent_before(archive, "plaza", NOW_S)  # type: ignore[arg-type]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_flood_does_not_fill_the_memory_of_whoever_adds_it_up() -> None:
    """A stream takes as much as its quarter-hours, however many nodes it has; the twin keeps them all."""
    assert peak_of(Flooded([("plaza/noise", 0, 1, 1)])) < 3 << 20
    assert peak_of(AllAtOnce([("plaza/noise", 0, 1, 1)])) > 4 << 20


def test_a_claim_is_forgotten_with_its_key_after_72_hours(tmp_path: Path) -> None:
    """Nothing of a claim that nobody can use any more is left in the file."""
    claims = Claims(tmp_path)
    claim = Claim(bytes(range(15)), bytes(8))
    claims.put(claim, Slot("gw-plaza", "plaza", "centre", (bytes(32),), 1, ()), 1000)
    assert claims.find(claim.name) is not None and [slot.gateway for slot, _ in claims.expected()] == ["gw-plaza"]
    claims.forget(1000 + HOLDS_S - 1)
    assert claims.find(claim.name) is not None
    claims.forget(1000 + HOLDS_S)
    assert claims.find(claim.name) is None and claims.expected() == []
    claims.close()
    assert claim.key not in (tmp_path / "claims.db").read_bytes()


def test_a_claim_is_bound_once(tmp_path: Path) -> None:
    """Of two requests that come together the first one has it."""
    claims = Claims(tmp_path)
    claim = Claim(bytes(15), bytes(8))
    claims.put(claim, Slot("gw-plaza", "plaza", "centre", (bytes(32),), 1, ()), 1000)
    assert claims.bind(claim.name, b"first") and claims.bind(claim.name, b"first")
    assert not claims.bind(claim.name, b"second")
    claims.answered(claim.name, b"answer", "words")
    found = claims.find(claim.name)
    assert found is not None and found[3:] == (b"first", b"answer") and claims.words("gw-plaza") == "words"
    claims.close()


@pytest.mark.parametrize("name", ["claims.db"])
def test_the_file_of_claims_is_private(tmp_path: Path, name: str) -> None:
    """It holds keys: its owner alone may read it."""
    Claims(tmp_path).close()
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
