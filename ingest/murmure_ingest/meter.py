"""What intake does, in plain numbers: one thread writes them, whoever serves `/metrics` reads them beside it.

Nothing here waits for anybody: a reader may see a batch counted whose seconds are not there yet.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from murmure_ingest.intake import Conflict, Duplicate, Heard, Refused, Stored, Word


@dataclass(slots=True)
class Tally:
    """How often a value was at most each of `bounds` (ascending), and above the last; `total` is their sum."""

    bounds: tuple[float, ...]
    total: float = 0.0
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class Meter:
    """Counts since the centre started. `words`: messages by the word on them; `nodes`: filed ones. `queued` tells how
    many messages were received and are not judged yet. `writable` is False while the disk has no room."""

    words: Counter[str] = field(default_factory=Counter)
    nodes: int = 0
    batch_messages: Tally = field(default_factory=lambda: Tally((1, 3, 10, 30, 100, 300, 1000)))
    commit_s: Tally = field(default_factory=lambda: Tally((0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)))
    queued: Callable[[], int] = lambda: 0
    connected: bool = False
    connections: int = 0
    writable: bool = True

    def judged(self, words: Sequence[Word]) -> None:
        """Counts words that are durable."""
        for word in words:
            match word:
                case Stored():
                    self.words["stored"] += 1
                    self.nodes += word.nodes
                case Duplicate():
                    self.words["duplicate"] += 1
                case Heard():
                    self.words["heard"] += 1
                case Conflict():
                    self.words["conflict"] += 1
                case Refused():
                    self.words[word.fate] += 1

    def committed(self, words: Sequence[Word], seconds: float) -> None:
        """Counts one batch from the broker and how long it took to judge and to commit it."""
        self.judged(words)
        self.batch_messages.add(len(words))
        self.commit_s.add(seconds)
