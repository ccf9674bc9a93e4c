"""Readings in, closed aggregates out. Pure and in memory only: a power cut costs the open nodes, nothing else.

Readings are clamped one by one as the policy says and added to quarter-hour cells; a node that closes is the sum of
the cells it covers. Publish or drop is never decided by a value: a slot takes its first reading, and only time can
refuse one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from murmure_privacy.aggregate import Aggregate, Cell, energy
from murmure_privacy.plan import VALUE_LIMIT, Plan
from murmure_privacy.policy import Policy, StreamPolicy
from murmure_privacy.release import Node
from murmure_privacy.stream import HISTOGRAM_STEP_TENTHS, histogram_edges_tenths
from murmure_privacy.window import QUARTER_S, Calendar, Window, next_quarter

_QUARTER_MS = QUARTER_S * 1000
_COUNT_LIMIT = 1 << 53  # no street comes near; a broken sensor must not make a sum that noise cannot be drawn for


class _Stream:
    """Open cells and the next node of each level of one stream."""

    def __init__(self, policy: Policy, stream: StreamPolicy, calendar: Calendar, opened_s: int) -> None:
        self.policy, self.stream, self.calendar = policy, stream, calendar
        self.opened_s = opened_s
        self.next: dict[str, Window] = {level: calendar.node(level, opened_s) for level, _ in stream.nodes}
        self.cells: dict[int, Cell] = {}
        self.closed_until_s = opened_s
        self.bins = len(histogram_edges_tenths(*stream.bounds)) - 1 if stream.quantity.kind == "level" else 0
        low, high = stream.clamp
        self.energies = [energy(level) for level in range(low, high + 1)] if self.bins else []

    def add(self, readings: Iterable[tuple[int, int]], from_s: int, until_s: int | None) -> int:
        """Adds readings (time_ms, value); returns how many came outside the time that is open."""
        from_ms = max(self.closed_until_s, from_s) * 1000
        until_ms = (1 << 62) if until_s is None else until_s * 1000
        cadence_ms = self.stream.cadence_ms
        low, high = self.stream.clamp
        counting = self.stream.quantity.kind == "count"
        refused = 0
        cell_start_ms = cell_end_ms = 0
        cell = Cell(0)
        for time_ms, value in readings:
            if not from_ms <= time_ms < until_ms:
                refused += 1
                continue
            if not cell_start_ms <= time_ms < cell_end_ms:
                cell_start_ms = time_ms - time_ms % _QUARTER_MS
                cell_end_ms = cell_start_ms + _QUARTER_MS
                cell = self._cell(cell_start_ms // 1000)
            if counting and value:
                cell.total += value
                continue  # only signs of life, which are 0, make a slot present: `present` tells of no passer-by
            slot = (time_ms - cell_start_ms) // cadence_ms
            fresh = slot > cell.last_slot
            if fresh:
                cell.last_slot = slot
                cell.present += 1
            if counting or not fresh:
                continue
            clamped = low if value < low else high if value > high else value
            cell.total += clamped
            if self.bins:
                cell.bins[min((clamped - low) // HISTOGRAM_STEP_TENTHS, self.bins - 1)] += 1
                cell.energy_sum += self.energies[clamped - low]
        return refused

    def _cell(self, start_s: int) -> Cell:
        cell = self.cells.get(start_s)
        if cell is None:
            cell = self.cells[start_s] = Cell(self.bins)
        return cell

    def _node(self, level: str, window: Window, present: int) -> Node:
        return Node(
            stream=self.stream.id,
            quantity=self.stream.quantity.name,
            level=level,
            start_s=window.start_s,
            end_s=window.end_s,
            covered_from_s=max(window.start_s, self.opened_s),
            present=present,
            cadence_ms=self.stream.cadence_ms,
            bounds=self.stream.bounds,
            policy=self.policy.hash,
        )

    def open_nodes(self) -> list[Node]:
        return [self._node(level, window, 0) for level, window in self.next.items()]

    def close(self, level: str) -> Aggregate:
        """Closes the next node of a level and opens the one after it."""
        window = self.next[level]
        self.next[level] = self.calendar.node(level, window.end_s)
        bare = self._node(level, window, 0)
        cells = [
            self.cells[start_s]
            for start_s in range(bare.covered_from_s, window.end_s, QUARTER_S)
            if start_s in self.cells
        ]
        present = sum(cell.present for cell in cells)
        node = self._node(level, window, 20 * present // bare.slots)
        total = sum(cell.total for cell in cells)
        if self.stream.quantity.kind == "count":
            return Aggregate(node, {"crossings": (min(max(total, 0), _COUNT_LIMIT),)})
        # Slots without a reading take a public constant, so that the denominator is public too. The limit, which hours
        # of a broken sensor can reach where nothing else clamps, moves no sum by more than it would move itself.
        absent = bare.slots - present
        low, high = self.stream.bounds
        middle = (low + high) // 2
        sums: dict[str, tuple[int, ...]] = {"mean": (min(total + absent * middle, VALUE_LIMIT),)}
        if self.bins:
            bins = [sum(cell.bins[at] for cell in cells) for at in range(self.bins)]
            bins[min((middle - low) // HISTOGRAM_STEP_TENTHS, self.bins - 1)] += absent
            sums["histogram"] = tuple(bins)
            sums["energy"] = (min(sum(cell.energy_sum for cell in cells) + absent * energy(low), VALUE_LIMIT),)
        return Aggregate(node, sums)

    def forget(self, closed_s: int) -> None:
        """Drops the cells that no open node needs any more."""
        self.closed_until_s = max(self.closed_until_s, closed_s)
        needed_from_s = min(max(window.start_s, self.opened_s) for window in self.next.values())
        for start_s in [start_s for start_s in self.cells if start_s < needed_from_s]:
            del self.cells[start_s]


class OpenWindows:
    """The open nodes of one policy, from the first quarter-hour not earlier than `from_s` on.

    `streams`: those of the policy that are wanted, or None for all. `until_s`: the end of a period of theirs at which
    another policy takes over, or None. Each level opens, at that quarter-hour, a partial node of whole quarter-hours
    until its normal end.
    """

    def __init__(self, plan: Plan, from_s: int, streams: Collection[str] | None = None) -> None:
        self.plan = plan
        self.calendar = Calendar(plan.policy.timezone)
        self.until_s: int | None = None
        self.refused = 0
        self.opened_s = next_quarter(from_s)
        self._streams = {
            stream.id: _Stream(self.plan.policy, stream, self.calendar, self.opened_s)
            for stream in self.plan.policy.streams
            if streams is None or stream.id in streams
        }

    def add(self, stream_id: str, readings: Iterable[tuple[int, int]]) -> None:
        """Adds readings (time_ms UTC, integer value in the quantity's reading unit), in the order they arrived.

        A reading of a stream without a policy, of time already closed or not yet open, is dropped and counted.
        """
        stream = self._streams.get(stream_id)
        if stream is not None:
            self.refused += stream.add(readings, self.opened_s, self.until_s)

    def close_due(self, now_s: int) -> list[tuple[int, list[Aggregate]]]:
        """Returns, in order, each closing instant up to `now_s` with the aggregates of all nodes that close then."""
        due: list[tuple[int, list[Aggregate]]] = []
        while True:
            ends = [window.end_s for stream in self._streams.values() for window in stream.next.values()]
            closing_s = min(ends)
            if closing_s > now_s or (self.until_s is not None and closing_s > self.until_s):
                return due
            aggregates = []
            for stream in self._streams.values():
                for level in [level for level, window in stream.next.items() if window.end_s == closing_s]:
                    aggregates.append(stream.close(level))
                stream.forget(closing_s)
            due.append((closing_s, aggregates))

    def open_nodes(self) -> list[Node]:
        """Returns the nodes that are open now, with nothing said of what they have seen."""
        return [node for stream in self._streams.values() for node in stream.open_nodes()]
