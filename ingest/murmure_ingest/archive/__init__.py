"""The centre's memory: an append-only SQLite file in which every node has one place, for ever.

Sealed messages are kept as they arrived; nodes point into them, so that whatever is published was signed by a gateway
and is opened again by the wire. Released integers stand beside their nodes for whoever asks for many (`nodes`), and the
full check holds them against what was signed. Rows of messages, nodes, enrolments, policies, amendments, annotations
and conflicts are never changed nor deleted (triggers see to it); what can be derived from them (`totals`, `streams`)
may be updated within the same transaction.

`Archive` is all of it on one connection; each file beside this one holds what one kind of caller needs:

    errors       what can be wrong, as the line that an operator can act on
    rows         what the rows say
    database     the file: open, write whole or not at all, what a writer remembers
    register     who may speak, with which keys
    stewards     policies and annotations
    filing       messages in, and what each is judged by (intake)
    journal      the transparency log
    answers      durable up to here (receipts)
    series       messages and series out (pages, mirror, policies)
    order        what was known when (the months of the open data)
    watching     counts (metrics, alerts, operators)
    proofs       the full check (`ingest verify`)
    forgetting   retention
    copies       every row, as files (`ingest export`)

The tables themselves are in `murmure_ingest.migrations`.
"""

from __future__ import annotations

from murmure_ingest.archive.answers import Answers
from murmure_ingest.archive.copies import Copies
from murmure_ingest.archive.errors import ArchiveBusy, ArchiveDamaged, ArchiveError, ArchiveFull, ArchiveWaits
from murmure_ingest.archive.filing import CONFLICTS_KEPT
from murmure_ingest.archive.forgetting import Forgetting
from murmure_ingest.archive.journal import Journal
from murmure_ingest.archive.order import Order
from murmure_ingest.archive.proofs import Proofs
from murmure_ingest.archive.rows import (
    FIRST_HEAD,
    Disposition,
    Enrolment,
    Holding,
    NodeKey,
    StoredAnnotation,
    StoredHealth,
    StoredMessage,
    StoredPolicy,
    StreamInfo,
    Totals,
    Turn,
    Unfiled,
    charge_of,
    index_row,
    next_head,
)
from murmure_ingest.archive.stewards import Stewards
from murmure_ingest.archive.watching import Watching

__all__ = [
    "CONFLICTS_KEPT",
    "FIRST_HEAD",
    "Archive",
    "ArchiveBusy",
    "ArchiveDamaged",
    "ArchiveError",
    "ArchiveFull",
    "ArchiveWaits",
    "Disposition",
    "Enrolment",
    "Holding",
    "NodeKey",
    "StoredAnnotation",
    "StoredHealth",
    "StoredMessage",
    "StoredPolicy",
    "StreamInfo",
    "Totals",
    "Turn",
    "Unfiled",
    "charge_of",
    "index_row",
    "next_head",
]


class Archive(Stewards, Journal, Answers, Order, Watching, Proofs, Forgetting, Copies):
    """The store of releases. Open with `Archive.open`; use from one thread."""
