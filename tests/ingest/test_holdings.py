"""What the archive holds of a span, counted without opening a message."""

from __future__ import annotations

from typing import Any

from murmure_ingest.archive import Archive
from murmure_privacy.release import Release

MONDAY_S = 1_795_392_000  # 2026-11-23 00:00 UTC, 01:00 in Paris
HOUR_S = 3600
EVER_S = 1 << 40


def test_what_is_held_of_a_span_is_counted_by_the_end_of_nodes(centre: Any) -> None:
    """A span begins after its first instant and holds its last one; with and without values, and by message once."""
    for topic, sealed in centre.gateway().history(8):
        centre.accept(topic, sealed)
    archive: Archive = centre.archive
    nodes = [
        outcome
        for stream in ("plaza/footfall", "plaza/pm2_5")
        for outcome in archive.outcomes(stream, 0, MONDAY_S + 2 * HOUR_S)
    ]
    for after_s, until_s in ((0, EVER_S), (MONDAY_S + HOUR_S, MONDAY_S + 2 * HOUR_S), (MONDAY_S, MONDAY_S + 899)):
        inside = [one for one in nodes if after_s < one.node.end_s <= until_s]
        told = archive.holdings(after_s, until_s)
        assert set(told) == {one.node.stream for one in inside}
        for stream, held in told.items():
            mine = [one for one in inside if one.node.stream == stream]
            released = sum(isinstance(one, Release) for one in mine)
            assert (held.released, held.withheld) == (released, len(mine) - released)
            assert held.from_s == min(one.node.covered_from_s for one in mine)
            assert held.until_s == max(one.node.end_s for one in mine)
        ends = {one.node.end_s for one in inside}
        assert archive.spoken(after_s, until_s) == ({"gw-plaza": len(ends)} if ends else {})
    assert archive.holdings(MONDAY_S, MONDAY_S + 899) == {}
    assert archive.holdings(0, EVER_S)["plaza/footfall"].released == 8
