"""What a check of published data finds, and how it is told to a terminal."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from murmure_privacy import log
from murmure_privacy.log import Checkpoint

KINDS = (
    *("checkpoint", "log_short", "log_root", "log_shrunk", "log_forked", "entry"),
    *("policy_missing", "policy_signature", "policy_text", "policy_order", "policy_backdated", "policy_looser"),
    *("policy_undecided", "policy_roles", "policy_ceiling", "policy_floor"),
    *("annotation_missing", "annotation_unlogged", "annotation_signature"),
    *("stranger", "signature", "revoked", "place", "forked", "hole", "chain"),
    *("account_order", "account_spend", "account_missing", "account_message", "account_wrong"),
    *("policy_unknown", "stream", "sigma", "not_in_policy", "policy_over", "duplicate", "overspent", "reused_noise"),
    "cap",
    *("row_missing", "row_unsigned", "row_twice", "row_value", "row_sigma", "row_reason", "row_policy"),
    *("row_column", "row_estimate", "row_computed"),
    *("sum_wrong", "columnar_wrong", "quartier_row", "code_wrong", "ledger_wrong"),
)
"""What a finding can be, in the order in which it is told: what is wrong before what follows from it."""

_LISTED = 20
"""So many findings of each kind are listed: one altered row makes a hundred estimates others, and is itself named."""


def plain(text: str) -> str:
    """Returns a text that a terminal shows and does not obey."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was promised: one of KINDS, and what it is about."""

    kind: str
    where: str


@dataclass(slots=True)
class Report:
    """What a check saw. `checkpoint`: how far the log has come; `days`: those of which every message was checked;
    `computed`: rows whose estimate was computed anew; `beside`: rows of the files by neighbourhood, of codes and of the
    ledger; `sums`: files that are as their sums say; `columnar`: rows of Parquet files that were compared, None where
    pyarrow is not installed.

    What is no finding, but should be known: `untold`, sites with figures on these days and not one row in the tables;
    `elsewhere`, sites whose figures were estimated by the days of another timezone than that of their policies, and
    `by_days`, these timezones;
    `left_tables` and `left_columnar`, months of which the tables, or the Parquet files alone, are so large that they
    were not read; `unpinned`, gateways of which the log does not say who loosens and up to where; `alone`, policies
    (`SITE VERSION`) that loosen and have one signature."""

    checkpoint: Checkpoint = field(default_factory=lambda: Checkpoint(0, log.EMPTY_ROOT))
    policies: int = 0
    annotations: int = 0
    accounts: int = 0
    messages: int = 0
    nodes: int = 0
    rows: int = 0
    computed: int = 0
    beside: int = 0
    sums: int = 0
    columnar: int | None = None
    days: list[int] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    by_days: list[str] = field(default_factory=list)
    left_tables: list[str] = field(default_factory=list)
    left_columnar: list[str] = field(default_factory=list)
    unpinned: list[str] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    left_out: int = 0
    _listed: dict[str, set[Finding]] = field(default_factory=lambda: defaultdict(set), repr=False)

    def add(self, kind: str, where: str) -> None:
        """Notes a finding, or counts it when there are too many to list."""
        assert kind in KINDS
        found = Finding(kind, plain(where))
        listed = self._listed[kind]
        if found in listed:
            return
        if len(listed) < _LISTED:
            listed.add(found)
            self.findings.append(found)
        else:
            self.left_out += 1

    @property
    def told(self) -> list[Finding]:
        """Returns the findings that are listed, in the order of KINDS, those of a kind as they were found."""
        return sorted(self.findings, key=lambda one: KINDS.index(one.kind))
