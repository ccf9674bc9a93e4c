"""Threads that open messages before their turn: form and signature need neither the archive nor each other.

Most of what a message costs is the check of its signature, which does not hold Python's lock: while one batch is
filed, the next ones are opened on whatever cores there are. Keys are those of the register as it was copied last;
whoever files looks at the register again, and opens anew what an older copy did not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from murmure_ingest.intake import Arrival, Opened, Refused, open_sealed

Opening = Sequence[Opened | Refused]


class Openers:
    """A few threads. `keys` may be replaced at any time by another copy of the register: gateway to record key."""

    def __init__(self, threads: int) -> None:
        self.keys: Mapping[str, bytes] = {}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="open")

    def submit(self, arrivals: Sequence[Arrival]) -> Future[Opening]:
        """Returns at once; the result is what `open_sealed` makes of each arrival."""
        return self._pool.submit(self._open, arrivals)

    def stop(self) -> None:
        """Ends the threads; what was not begun is not opened any more."""
        self._pool.shutdown(cancel_futures=True)

    def _open(self, arrivals: Sequence[Arrival]) -> Opening:
        keys = self.keys
        return [
            open_sealed(arrival, lambda gateway: [keys[gateway]] if gateway in keys else []) for arrival in arrivals
        ]
