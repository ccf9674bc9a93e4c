"""Anyone's check of what a town has published: signatures, the log, the policies, every node, every row.

Pure: what was published comes as bytes (`Publication`), and out comes a report. Nobody is believed but the key of the
centre (`verify_log`), the gateways that its log names have signed their messages (`verify_messages`), each policy says
what its figures may cost (`verify_spending`) and how much noise is on them, and what the tables (`verify_tables`) and
the files beside them (`verify_files`) show follows from it. Nothing here has seen an exact value. docs/log.md says what
this proves, and what not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from murmure_privacy import codes
from murmure_privacy.annotation import Annotation
from murmure_privacy.findings import Report
from murmure_privacy.log import Checkpoint
from murmure_privacy.publication import Publication, days_of
from murmure_privacy.release import Outcome
from murmure_privacy.verify_files import Files
from murmure_privacy.verify_log import Book
from murmure_privacy.verify_messages import Heard, Progress
from murmure_privacy.verify_spending import Spending
from murmure_privacy.verify_tables import Tables, figures

_WEEK = 7


class _Check:
    """One check; each part trusts what those before it have found right."""

    def __init__(self, published: Publication) -> None:
        self.report = Report()
        self.book = Book(published, self.report)
        self.heard = Heard(published, self.book)
        self.spending = Spending(published, self.book, self.heard)
        self.tables = Tables(published, self.book, self.heard)
        self.files = Files(published, self.book, self.tables)
        self._published = published

    def log(self, known: Iterable[Checkpoint]) -> bool:
        """Goes through the log; returns False where there is none."""
        if not self.book.log(known):
            return False
        self.book.entries()
        self.book.annotations()
        return True

    def figures(
        self, days: Iterable[int] | None, progress: Progress, most: int | None = None, line: int | None = None
    ) -> None:
        """Goes through the messages of some days, or of all, and whatever is published of their figures."""
        self.heard.closing()
        every = set(days_of(self._published))
        self.heard.messages(every if days is None else every.intersection(days), progress, most)
        unread = every.difference(self.report.days)
        self.heard.sequences(whole=not unread)
        self.heard.accounts()
        self.heard.noise()
        self.spending.caps()
        self.tables.read(unread, line)
        self.spending.ledger(unread, self.tables.shown)
        self.files.sums(line)
        self.files.quartiers(unread)


def _ignored(_done: int, _total: int) -> None:
    """Tells nobody how far it is."""


def verify(
    published: Publication,
    days: Iterable[int] | None = None,
    known: Iterable[Checkpoint] = (),
    progress: Progress = _ignored,
    most: int | None = None,
    line: int | None = None,
) -> Report:
    """Returns the report of a check. `days`: those of which every message and every row is checked, all if None; the
    log, the policies and the account of every day are checked in any case. `known`: what was seen of the log before.
    `most`: the newest of the days first, until so many bytes of messages are read, at least one day. `line`: the tables
    of the months, and then their Parquet files, only where all that came over the line is at most so many bytes with
    them; else the rows of the week in the files by neighbourhood are held against what was signed.

    `progress` is told how many of how many messages are done.
    """
    check = _Check(published)
    if check.log(known):
        check.figures(days, progress, most, line)
    return check.report


@dataclass(frozen=True, slots=True)
class Match:
    """A figure that a code leads to: what its gateway signed in its message `seq`, and the row of the tables, None
    where there is none. `differs`: what of the row is not as it was signed, one of KINDS; `computed`: whether its
    estimate was computed anew; `faulty`: what its stewards marked of the time that it is about."""

    gateway: str
    seq: int
    outcome: Outcome
    indicator: str
    row: Mapping[str, str] | None
    differs: str | None
    computed: bool
    faulty: tuple[Annotation, ...]


def find(published: Publication, text: str, progress: Progress = _ignored) -> tuple[Report, list[Match]]:
    """Returns the report of the day that a code names and of those that its figures are estimated with, and the figures
    that have this code: one, or none, or once in a while two. Raises ValueError for what is no code."""
    wanted, day = codes.read(text)
    check = _Check(published)
    if not check.log(()):
        return check.report, []
    # A civil day has parts of two days (UTC), and the estimates of a week belong together.
    around = _WEEK if check.book.has_weeks() else 1
    check.figures(range(day - around, day + around + 1), progress)
    found = []
    for gateway, seq, outcome in check.heard.nodes.values():
        node = outcome.node
        for indicator in figures(outcome):
            if codes.code(node.stream, node.level, node.start_s, node.end_s, indicator) == wanted:
                at = *node.key, indicator
                row, differs = check.tables.rows.get(at), check.tables.differs.get(at)
                if row is None and published.rows is not None:
                    differs = "row_missing"
                computed = at in check.tables.computed
                found.append(Match(gateway, seq, outcome, indicator, row, differs, computed, check.book.faulty(node)))
    return check.report, found
