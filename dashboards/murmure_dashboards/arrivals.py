"""When what is told of a day last changed: by the order in which the archive grew, as it keeps no dates of filing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from murmure_privacy.annotation import Annotation, Note
from murmure_privacy.window import Window

from murmure_dashboards.months import OrderedArchive

HOUR_S, LATE_S = 3600, 900


@dataclass(frozen=True, slots=True)
class Arrivals:
    """`instants`: a quarter past every hour; `rows`: the first row of the archive that tells of each, as many as have
    come. A row that comes after one of them came when that instant was over. `notes`: what stewards had said by now.
    `known`: what was answered before."""

    archive: OrderedArchive
    instants: Sequence[int]
    rows: Sequence[int]
    notes: Sequence[Note]
    known: dict[tuple[tuple[str, ...], Window, int], int] = field(default_factory=dict)

    @classmethod
    def of(cls, archive: OrderedArchive, streams: Sequence[str], window: Window, notes: Sequence[Note]) -> Arrivals:
        """Returns the arrivals of a window. `streams`: those by which it is told what is over, one of each site."""
        instants = range(window.start_s // HOUR_S * HOUR_S + LATE_S, window.end_s + 1, HOUR_S)
        told = archive.first_to_tell(streams, instants) if instants else []
        rows = [row for row in told if row is not None]
        return cls(archive, list(instants)[: len(rows)], rows, notes)

    def over(self, settled_s: int) -> bool:
        """Returns whether something has come that tells of a quarter-hour after an instant: what should have come by
        then and has not is late."""
        return bool(self.instants) and self.instants[-1] >= settled_s + LATE_S

    def changed_s(self, streams: Sequence[str], day: Window, settled_s: int) -> int:
        """Returns when what is known of a day at some streams last changed (seconds UTC). `settled_s`: when, if nothing
        was late, all was there. What had waited for its last word counts a second each: nobody knows when it came."""
        asked = (tuple(streams), day, settled_s)
        if asked not in self.known:
            self.known[asked] = self._changed_s(*asked)
        return self.known[asked]

    def _changed_s(self, streams: Sequence[str], day: Window, settled_s: int) -> int:
        place = next((at for at, instant in enumerate(self.instants) if instant >= settled_s + LATE_S), None)
        if place is None:
            return settled_s
        changed = [settled_s]
        late = self.archive.rows_after(self.rows[place] - 1, streams, day.start_s, day.end_s)
        # The last of them came when as much was over as the rows before it tell.
        changed += [self.instants[bisect_right(self.rows, late[-1]) - 1]] if late else []
        marks = {
            (note.site, note.number)
            for note in self.notes
            if isinstance(note, Annotation)
            and note.stream in streams
            and note.from_s < day.end_s
            and note.to_s > day.start_s
        }
        changed += [
            note.issued_s
            for note in self.notes
            if (note.site, note.number if isinstance(note, Annotation) else note.withdraws) in marks
        ]
        waited = self.archive.filed_late()
        if waited:
            waited &= set(self.archive.rows_after(0, streams, day.start_s, day.end_s))
        return max(changed) + len(waited)
