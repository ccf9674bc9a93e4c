"""What the archive knew when: by the order in which messages came, never by a clock."""

from __future__ import annotations

from typing import Any

import pytest
from murmure_ingest.archive import Archive
from murmure_ingest.intake import Stored
from murmure_privacy.release import Withheld

MONDAY_S = 1_795_392_000
HOUR_S, QUARTER_S, DAY_S = 3600, 900, 86_400
STREAMS = ["plaza/footfall", "plaza/pm2_5"]


def bring(centre: Any, gateway: Any, quarters: range) -> None:
    """Seals and files the messages of some quarter-hours of the Monday."""
    for number in quarters:
        assert isinstance(centre.accept(gateway.topic, gateway.seal(MONDAY_S + (number + 1) * QUARTER_S)), Stored)


def test_the_first_to_tell_is_the_first_that_came(centre: Any) -> None:
    """Of an instant the first message that ends at it or later, whatever came before of other hours."""
    gateway = centre.gateway()
    bring(centre, gateway, range(8))
    archive: Archive = centre.archive
    assert archive.newest_row() == 8
    instants = [MONDAY_S + n * QUARTER_S for n in (0, 1, 5, 8, 9)]
    assert archive.first_to_tell(STREAMS, instants) == [1, 1, 5, 8, None]
    assert [archive.first_to_tell(STREAMS, [at_s])[0] for at_s in instants] == [1, 1, 5, 8, None]
    assert archive.first_to_tell(["other/footfall"], instants) == [None] * 5
    assert archive.first_to_tell(STREAMS, []) == []
    assert archive.began_s("plaza/footfall") == MONDAY_S + QUARTER_S and archive.began_s("other/footfall") is None


def test_what_was_closed_for_the_clock_tells_of_nothing(centre: Any) -> None:
    """A day that was withheld for the clock ends in the future: it is no word that the future has come."""
    gateway = centre.gateway()
    bring(centre, gateway, range(2))
    day = tuple(
        Withheld(outcome.node, "clock")
        for outcome in gateway.outcomes(MONDAY_S + 23 * HOUR_S)
        if outcome.node.level == "1d"
    )
    assert day and all(one.node.end_s == MONDAY_S + 23 * HOUR_S for one in day)
    assert isinstance(centre.accept(gateway.topic, gateway.seal(MONDAY_S + 3 * QUARTER_S, outcomes=day)), Stored)
    assert centre.archive.first_to_tell(STREAMS, [MONDAY_S + HOUR_S]) == [None]
    assert not centre.archive.delivered(3, STREAMS, MONDAY_S, MONDAY_S + HOUR_S)


def test_the_archive_of_before_has_what_had_come_by_then(centre: Any) -> None:
    """Nodes up to a row, those beyond it, and the rows that brought them."""
    gateway = centre.gateway()
    bring(centre, gateway, range(8))
    archive: Archive = centre.archive
    everything = archive.outcomes(STREAMS[0], 0, 1 << 40)
    assert archive.outcomes_by(8, STREAMS[0], 0, 1 << 40) == everything
    half = archive.outcomes_by(4, STREAMS[0], 0, 1 << 40)
    assert half == [outcome for outcome in everything if outcome.node.end_s <= MONDAY_S + HOUR_S]
    assert archive.rows_after(4, STREAMS, 0, 1 << 40) == [5, 6, 7, 8]
    assert archive.rows_after(4, STREAMS, 0, MONDAY_S) == []
    told = {(stream, end_s) for stream, _, end_s in archive.told_after(7)}
    assert told == {(stream, MONDAY_S + 2 * HOUR_S) for stream in STREAMS}
    assert sorted(archive.told_by(8)) == sorted(archive.told_after(7))
    assert archive.head_at(8) == archive.head() != archive.head_at(7) and archive.head_at(9) is None


@pytest.mark.parametrize("missing", [None, 3])
def test_a_gateway_has_delivered_when_nothing_before_is_missing(centre: Any, missing: int | None) -> None:
    """A later word, and every number before it: a hole is something that may still come."""
    gateway = centre.gateway()
    for number in range(8):
        sealed = gateway.seal(MONDAY_S + (number + 1) * QUARTER_S)
        if number != missing:
            centre.accept(gateway.topic, sealed)
    archive: Archive = centre.archive
    row = archive.newest_row()
    assert archive.delivered(row, STREAMS, MONDAY_S, MONDAY_S + 2 * HOUR_S) == (missing is None)
    assert not archive.delivered(row, STREAMS, MONDAY_S, MONDAY_S + 3 * HOUR_S), "nobody has told of the third hour"
    assert archive.delivered(row, STREAMS, MONDAY_S + DAY_S, MONDAY_S + 2 * DAY_S), "nobody was there to be awaited"
    if missing is not None:
        assert isinstance(centre.accept(gateway.topic, gateway.sealed[missing]), Stored)
        assert not archive.delivered(row, STREAMS, MONDAY_S, MONDAY_S + 2 * HOUR_S), "by that row it had not come"
        assert archive.delivered(row + 1, STREAMS, MONDAY_S, MONDAY_S + 2 * HOUR_S)


def test_another_gateway_that_is_silent_is_awaited(centre: Any) -> None:
    """Each that told of the span has to have gone on; one of another site is not asked for."""
    plaza, alley = centre.gateway(), centre.gateway("gw-alley", "alley")
    bring(centre, alley, range(2))
    bring(centre, plaza, range(8))
    row = centre.archive.newest_row()
    assert centre.archive.delivered(row, STREAMS, MONDAY_S, MONDAY_S + 2 * HOUR_S)
    assert not centre.archive.delivered(row, [*STREAMS, "alley/footfall"], MONDAY_S, MONDAY_S + 2 * HOUR_S)


def test_what_waits_for_its_word_is_known(centre: Any) -> None:
    """A message that was put aside waits until it is filed or refused, with the nodes that it has."""
    gateway = centre.gateway(published=False)
    assert centre.accept(gateway.topic, gateway.seal(MONDAY_S + QUARTER_S)).reason == "unknown_policy"
    archive: Archive = centre.archive
    assert archive.waits(1, STREAMS, MONDAY_S, MONDAY_S + HOUR_S)
    assert not archive.waits(0, STREAMS, MONDAY_S, MONDAY_S + HOUR_S)
    assert not archive.waits(1, ["other/footfall"], MONDAY_S, MONDAY_S + HOUR_S)
    assert not archive.waits(1, STREAMS, MONDAY_S + HOUR_S, MONDAY_S + DAY_S)
