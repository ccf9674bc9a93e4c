"""What the centre needs of its store, and no more: batch in, durable up to here, series out.

`archive.Archive` is one (an SQLite file). Another, for several centres that share a database, has to pass the same
contract: tests/ingest/test_store_contract.py, to whose list it is added. The errors are those of `archive`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from murmure_privacy.log import Checkpoint
from murmure_privacy.release import Message, Outcome
from murmure_privacy.succession import Use
from murmure_privacy.wire import Flat

from murmure_ingest.archive import (
    Disposition,
    Enrolment,
    NodeKey,
    StoredHealth,
    StoredMessage,
    StoredPolicy,
    StreamInfo,
    Totals,
    Turn,
    Unfiled,
)
from murmure_ingest.integers import NodeRow, Scale


class Register(Protocol):
    """Who may speak, and with which keys."""

    def enrol(self, enrolment: Enrolment) -> Enrolment:
        """Adds a line (within a transaction) and returns it with its id."""

    def enrolment(self, gateway: str) -> Enrolment | None:
        """Returns the newest line of a gateway."""

    def enrolments(self) -> list[Enrolment]:
        """Returns the newest line of every gateway, by gateway."""

    def newest_line(self) -> int:
        """Returns the id of the last line that was added, whoever did; 0 if there is none."""

    def enrolment_line(self, line: int) -> Enrolment | None:
        """Returns one line, whether or not it still holds."""

    def lines_of(self, gateway: str) -> list[Enrolment]:
        """Returns every line of a gateway, newest first."""

    def named_keys(self, gateway: str) -> list[bytes]:
        """Returns the keys that a gateway has named as its next, newest first."""

    def gateways_of(self, site: str) -> Sequence[str]:
        """Returns every gateway that the register has or had for a site."""

    def rotations(self, gateway: str, record_key: bytes) -> list[tuple[bytes, bytes]]:
        """Returns (statement, signature) of each word by which it named one of them, newest first."""


class Policies(Protocol):
    """What stewards have signed."""

    def put_policy(self, policy: StoredPolicy) -> None:
        """Files a policy (within a transaction)."""

    def policy(self, policy_hash: bytes) -> bytes | None:
        """Returns the exact TOML bytes of the policy with this SHA-256."""

    def policies(self, site: str | None = None) -> list[StoredPolicy]:
        """All policies (of a site), oldest version first."""

    def newest_policy(self, site: str) -> StoredPolicy | None:
        """Returns the policy of a site with the highest version."""

    def newest_version(self, site: str) -> int:
        """Returns that version, 0 without any."""


class Filing(Register, Protocol):
    """Batch in: everything within one `transaction` is durable when it ends, or was never there."""

    def transaction(self) -> AbstractContextManager[None]:
        """The one batch of all writers at a time. Raises ArchiveWaits, ArchiveDamaged; then nothing of it is kept."""

    def find(self, gateway: str, seq: int) -> StoredMessage | None:
        """Returns the settled message of a gateway with this number."""

    def beside(self, gateway: str, seq: int, side: Literal["before", "after"]) -> Message | None:
        """Returns the nearest message that is kept whole before or after a number."""

    def taken(self, outcomes: Iterable[Outcome]) -> tuple[str, str, int] | None:
        """Returns the key of the first node that has its place already."""

    def foresee(self, gateways: Iterable[str], keys: Iterable[NodeKey]) -> None:
        """Says, within a transaction, of whom messages will be judged and with which nodes: a store looks up together
        what it will be asked."""

    def free(self, keys: Collection[NodeKey]) -> bool:
        """Returns whether each of these nodes, which were foreseen, has its place to itself."""

    def turn(self, gateway: str) -> Turn | None:
        """Returns which message of a gateway, foreseen, is the next one; None if numbers are missing before it, or two
        cards speak with its key."""

    def put_next(
        self, said: Flat, keys: Sequence[NodeKey], kept: Sequence[tuple[Scale, int]], sealed: bytes, line: int
    ) -> None:
        """Files the message whose turn it is, all of whose nodes are releases: the same as `put`, and `put_use` for
        each use that it makes of a policy, in one. `said` is the message flattened; `keys` and `kept` are key, scale
        and micro-rho of each node, in their order, `line` is the id of the line of the register."""

    def released_before(self, outcomes: Iterable[Outcome], gateway: str) -> bool:
        """Returns whether a node of these has its place by a message of the same gateway."""

    def largest_spend(self, stream: str, from_s: int, until_s: int) -> int:
        """Returns the most micro-rho that filed nodes cost at any instant of `[from_s, until_s)`."""

    def charged(self, stream: str, since_s: int = 0) -> Iterable[tuple[int, int, int]]:
        """Returns begin, end and micro-rho of every charged node that is filed of a stream and ends after an instant,
        by begin."""

    def notes(self, site: str) -> dict[tuple[str, bytes], Any]:
        """Returns where a judge may keep, from message to message, what it has worked out of those that are filed of a
        site. A store may forget it at any time, and must as soon as another message of it is filed by others."""

    def cloned(self, gateway: str) -> bool:
        """Returns whether two cards have spoken with the gateway's key."""

    def uses(self, gateway: str) -> list[Use]:
        """Returns how a gateway has used the policies of its site."""

    def put_use(self, gateway: str, use: Use) -> None:
        """Keeps the use of a policy for a stream in place of what was known of it."""

    def put(
        self, message: Message, sealed: bytes, enrolment: Enrolment, disposition: Disposition, reason: str = ""
    ) -> None:
        """Settles a message. Raises ArchiveError if its number, or a node of one that is filed, has its place."""

    def unfiled(self, gateway: str) -> Unfiled:
        """Returns how many messages are settled of a gateway and not filed, and how many bytes of them are kept."""

    def waiters(self, reason: str) -> dict[str, int]:
        """Returns the gateways of which messages wait for a mend of `reason`, and a number that grows with each."""

    def quarantined(self, reason: str, gateways: Iterable[str] | None = None) -> list[StoredMessage]:
        """Returns the messages (of some gateways) that wait for a mend of `reason`, by gateway and number."""

    def amend(self, stored: StoredMessage, message: Message, disposition: Disposition, reason: str = "") -> None:
        """Gives a message that waits its last word."""

    def put_conflict(self, message: Message, sealed: bytes, reason: str) -> bool:
        """Keeps a message that contradicts the store as evidence, bounded by gateway and reason; says if it is kept."""

    def note_unkept(self, gateway: str, now_s: int) -> None:
        """Writes down that something that a gateway has signed is not kept today (within a transaction)."""

    def unkept_until(self, site: str) -> int | None:
        """Returns the end of the last day on which something was not kept that a gateway of a site had signed."""

    def last_health(self, gateway: str) -> StoredHealth | None:
        """Returns the report of a gateway that is kept."""

    def put_health(self, report: StoredHealth) -> None:
        """Keeps a report in place of the one before."""

    def forget_health(self, gateway: str) -> None:
        """Drops the last report of a gateway."""

    def count(self, name: str, by: int = 1) -> None:
        """Adds to a counter."""


class Answers(Register, Policies, Protocol):
    """Durable up to here: what receipts say, and when there is something new to say."""

    def totals(self, gateway: str) -> Totals:
        """Returns up to where everything of a gateway is settled, and what its filed nodes were charged."""

    def missing(self, gateway: str) -> list[tuple[int, int]]:
        """Returns the (first, last) numbers that are not there although later ones are."""

    def exceptions(self, gateway: str, up_to_seq: int) -> list[tuple[int, str]]:
        """Returns the newest settled numbers that are not simply filed, with the word on each."""

    def head(self) -> bytes:
        """Returns the running SHA-256 over all messages in the order of filing."""

    def log_checkpoint(self) -> Checkpoint:
        """Returns how far the transparency log has come."""

    def log_proof(self, since: int, size: int) -> list[bytes]:
        """Returns what proves that the first `since` entries of the log are the beginning of the first `size`."""

    def last_health(self, gateway: str) -> StoredHealth | None:
        """Returns the report of a gateway that is kept."""

    def sign_log(self, secret: bytes) -> Checkpoint:
        """Signs how far the log has come, unless that was done. Returns it. Raises ArchiveWaits."""

    def change_mark(self) -> int:
        """Returns a number that changes whenever another process has filed something."""


class Series(Protocol):
    """Series out."""

    def streams(self) -> list[StreamInfo]:
        """Returns every stream that has a node, with the gateway that began to speak of it last."""

    def outcomes(self, stream: str, from_s: int, to_s: int) -> list[Outcome]:
        """Returns the nodes of a stream that intersect [from_s, to_s), by end, then by level, as they were signed."""

    def nodes(self, stream: str, level: str, from_s: int, to_s: int) -> list[NodeRow]:
        """Returns the nodes of a level of a stream that begin in [from_s, to_s), by begin, without opening them."""

    def scale(self, row: int) -> Scale:
        """Returns what the integers of nodes with this scale are."""


class Store(Filing, Answers, Series, Protocol):
    """All of it."""

    @property
    def path(self) -> object:
        """Returns what an operator knows it by, for a line in the log."""

    def close(self) -> None:
        """Gives it back."""
