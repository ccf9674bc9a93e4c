"""The full check of an archive: every stored message opened, every hash, place, charge and policy compared again."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from murmure_privacy import log, wire
from murmure_privacy.annotation import Note
from murmure_privacy.errors import ConfigError, MurmureError, WireError
from murmure_privacy.plan import Plan
from murmure_privacy.release import Message, Outcome
from murmure_privacy.succession import Key, Use, Uses
from murmure_privacy.window import utc

from murmure_ingest import logbook
from murmure_ingest.annotations import objection, streams_of
from murmure_ingest.archive import FIRST_HEAD, Archive, Enrolment, StoredMessage, charge_of, index_row, next_head
from murmure_ingest.budgets import Budgets
from murmure_ingest.integers import Scale, scale_of, unpacking
from murmure_ingest.rotation import unsigned_changes
from murmure_ingest.rules import PolicyRules

_FINDINGS_LISTED = 100
_PROGRESS_EVERY = 500

RulesOf = Callable[[bytes], PolicyRules | None]
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Report:
    """What a full check saw. `findings`: one line each, at most 100, the others only counted. `gaps`: by gateway, how
    many messages below its highest are not there; no finding, since they can still be on their way. `forgotten`: of how
    many that were put aside only hash and reason are left."""

    messages: int = 0
    nodes: int = 0
    policies: int = 0
    annotations: int = 0
    forgotten: int = 0
    gaps: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    left_out: int = 0

    def add(self, finding: str) -> None:
        """Notes a finding, or counts it when there are too many to list."""
        if len(self.findings) < _FINDINGS_LISTED:
            self.findings.append(finding)
        else:
            self.left_out += 1


@dataclass(slots=True)
class _Spoken:
    """What a gateway's filed messages say of a stream: where, in which rows, and what is measured."""

    quartier: str
    site: str
    first: int
    last: int = 0
    quantities: set[str] = field(default_factory=set)


def inspect(archive: Archive, rules_of: RulesOf, progress: Progress = lambda _done, _total: None) -> Report:
    """Returns the report of a full check: the file, and four proofs. Everything sealed is signed by whom the register
    names (signatures); nothing was taken out or put in between (chains); each node stands once, as it was signed
    (uniqueness); and no instant or span has cost more than its policies allow (budgets).

    `progress` is told how many of how many messages are done.
    """
    report, total = Report(), archive.message_count()
    for damage in archive.integrity():
        report.add(f"file: {damage}")
    lines, forgotten = {line.id: line for line in archive.enrolment_lines()}, archive.forgotten()
    _check_policies(archive, lines.values(), report)
    for change in unsigned_changes(archive):
        report.add(change)
    charged: dict[str, int] = defaultdict(int)
    budgets = Budgets()
    uses = defaultdict[str, Uses](lambda: Uses(lambda policy: _plan(rules_of(policy))))
    told: dict[str, dict[Key, Use]] = defaultdict(dict)
    spoken: dict[tuple[str, str], _Spoken] = {}
    head = FIRST_HEAD
    for stored in archive.messages():
        report.messages += 1
        head = next_head(head, stored.hash)
        if stored.head != head:
            report.add(f"{_name(stored)}: the running hash breaks here")
            head = stored.head
        gone = stored.sealed == b"" and stored.disposition != "filed" and stored.hash in forgotten
        message = None if gone else _opened(stored, lines, report)
        report.forgotten += gone
        if message is not None and stored.disposition == "filed":
            charged[stored.gateway] += _check_nodes(
                archive, stored, message, rules_of, budgets, uses[stored.gateway], told[stored.gateway], report
            )
            for outcome in message.outcomes:
                key = outcome.node.stream, stored.gateway
                known = spoken.setdefault(key, _Spoken(message.quartier, message.site, stored.id))
                known.quantities.add(outcome.node.quantity)
                known.last = stored.id
        if report.messages % _PROGRESS_EVERY == 0 or report.messages == total:
            progress(report.messages, total)
    for gateway in dict.fromkeys(line.gateway for line in lines.values()):
        _check_sequence(archive, gateway, charged[gateway], report)
        if {use.key: use for use in archive.uses(gateway)} != told[gateway]:
            report.add(f"{gateway}: the policies that it is said to have used are not those of its messages")
    if archive.node_count() != report.nodes:
        report.add(f"index: it holds {archive.node_count()} nodes, the filed messages {report.nodes}")
    _check_streams(archive, spoken, report)
    _check_letters(archive, lines.values(), forgotten, report)
    _check_annotations(archive, lines, report)
    _check_log(archive, lines.values(), report)
    _check_budgets(archive, budgets, report)
    return report


def _name(stored: StoredMessage) -> str:
    return f"{stored.gateway} seq {stored.seq}"


def _check_policies(archive: Archive, lines: Iterable[Enrolment], report: Report) -> None:
    """Signatures are those of some line of the register: stewards may have changed since."""
    trusted = {(e.site, e.stewards, e.signatures_required) for e in lines}
    for policy in archive.policies():
        report.policies += 1
        name = f"policy {policy.site} version {policy.version}"
        if policy.hash != wire.digest(policy.toml):
            report.add(f"{name}: the bytes do not have the hash under which they stand")
        try:
            rules = PolicyRules(policy.toml, name)
        except MurmureError as error:
            report.add(str(error))
            continue
        if (rules.site, rules.version) != (policy.site, policy.version):
            report.add(f"{name}: it says of itself {rules.site} version {rules.version}")
        for site, stewards, required in trusted:
            if site != policy.site:
                continue
            try:
                if wire.open_policy(policy.sealed, stewards, required) == policy.toml:
                    break
            except WireError:
                continue
        else:
            report.add(f"{name}: not enough signatures of the stewards in the register")


def _opened(stored: StoredMessage, lines: Mapping[int, Enrolment], report: Report) -> Message | None:
    """Returns the message if its bytes are kept and are what they must be."""
    if stored.sealed is None:
        return None
    if wire.digest(stored.sealed) != stored.hash:
        report.add(f"{_name(stored)}: the bytes do not have the hash under which they stand")
    enrolment = lines.get(stored.enrolment)
    if enrolment is None:
        report.add(f"{_name(stored)}: its line of the register is missing")
        return None
    try:
        message = wire.open_message(stored.sealed, enrolment.record_key)
    except WireError as error:
        report.add(f"{_name(stored)}: it does not open: {error}")
        return None
    said = (message.gateway, message.seq, message.previous, message.quartier, message.site, len(message.outcomes))
    kept = (stored.gateway, stored.seq, stored.previous, enrolment.quartier, enrolment.site, stored.nodes)
    # One in quarantine may name anything; one that is filed agrees with its row and the register.
    if stored.disposition == "filed" and said != kept:
        report.add(f"{_name(stored)}: its row or the register says otherwise than the message")
    return message


def _plan(rules: PolicyRules | None) -> Plan:
    assert rules is not None  # asked for messages only whose policies were all found
    return rules.plan


def _check_nodes(
    archive: Archive,
    stored: StoredMessage,
    message: Message,
    rules_of: RulesOf,
    budgets: Budgets,
    uses: Uses,
    told: dict[Key, Use],
    report: Report,
) -> int:
    """Returns what the nodes of a filed message cost together, in micro-rho. `uses` judges by the messages of its
    gateway so far, `told` is what they add up to."""
    fits = True
    for place, outcome in enumerate(message.outcomes):
        report.nodes += 1
        wrong = _wrong(outcome, archive.node_row(outcome.node.key), index_row(outcome, stored.id, place))
        if wrong is not None:
            report.add(f"{_name(stored)}: node {place} is not in the index as it was signed{wrong}")
        try:
            rules = rules_of(outcome.node.policy)
            objection = "the policy it names is not in the archive" if rules is None else rules.check(outcome)
        except ConfigError:
            rules, objection = None, "the policy it names is none"
        if objection is not None:
            fits = False
            report.add(f"{_name(stored)}: node {place}: {objection}")
        if rules is not None and charge_of(outcome):
            budgets.note(outcome.node, rules.plan)
    objection = uses.objection(message) if fits else None
    if objection is not None:
        report.add(f"{_name(stored)}: {objection}")
    elif fits:
        told |= {use.key: use for use in uses.add(message)}
    return sum(map(charge_of, message.outcomes))


def _wrong(outcome: Outcome, kept: tuple[tuple[Any, ...], Scale | None] | None, signed: tuple[Any, ...]) -> str | None:
    """Returns what the index says otherwise of a node than was signed, in words that follow a name; None if nothing."""
    if kept is None or kept[0][:-1] != signed[:-1]:
        return ""
    scale, held = scale_of(outcome), kept[0][-1]
    if kept[1] != scale:
        return ": what its integers are"
    if held == signed[-1]:
        return None
    integers = iter(_unpacked(held, scale.width))
    off = [
        one.indicator
        for one in getattr(outcome, "noised", ())
        if tuple(islice(integers, len(one.integers))) != one.integers
    ]
    return f": {', '.join(off) or 'how it is written'}"


def _unpacked(held: bytes | None, width: int) -> tuple[int, ...]:
    try:
        return unpacking(width, len(held or b""))(held or b"")
    except ValueError:
        return ()


def _check_sequence(archive: Archive, gateway: str, charged_rho_micro: int, report: Report) -> None:
    settled = missing = before_seq = 0
    before_hash, before_filed = b"", False
    for seq, message_hash, previous, filed in archive.links(gateway):
        missing += seq - before_seq - 1
        # What was refused or put aside may contradict its neighbours: often that is why.
        if seq == before_seq + 1 and filed and before_filed and previous != before_hash:
            report.add(f"{gateway} seq {seq}: it does not name the message before it")
        if seq == settled + 1:
            settled = seq
        before_seq, before_hash, before_filed = seq, message_hash, filed
    if missing:
        report.gaps[gateway] = missing
    totals = archive.totals(gateway)
    if (totals.settled_seq, totals.charged_rho_micro) != (settled, charged_rho_micro):
        report.add(f"{gateway}: settled or charged in the receipts is not what the messages add up to")


def _check_streams(archive: Archive, spoken: dict[tuple[str, str], _Spoken], report: Report) -> None:
    """Pages find a stream and its place by this table: what is not in it is not shown."""
    listed = {(row["stream"], row["gateway"]): row for row in archive.rows_of("streams")}
    for stream, gateway in sorted(listed.keys() | spoken.keys()):
        row, said = listed.get((stream, gateway)), spoken.get((stream, gateway))
        if (
            row is None
            or said is None
            or (row["quartier"], row["site"]) != (said.quartier, said.site)
            or row["quantity"] not in said.quantities
            or not said.first <= row["since"] <= said.last
        ):
            report.add(f"streams: {stream} by {gateway} is not listed as its filed messages say")


def _check_letters(archive: Archive, lines: Iterable[Enrolment], forgotten: set[bytes], report: Report) -> None:
    """What is kept beside the messages names no line of the register: a key that the gateway ever had must open it."""
    keys: dict[str, list[bytes]] = defaultdict(list)
    for line in lines:
        keys[line.gateway].append(line.record_key)
    for gateway, seq, message_hash, sealed in archive.evidence():
        if sealed == b"" and message_hash in forgotten:
            report.forgotten += 1
            continue
        if wire.digest(sealed) != message_hash:
            report.add(f"evidence of {gateway} seq {seq}: the bytes do not have the hash under which they stand")
        if not any(_opens(wire.open_message, sealed, key) for key in keys[gateway]):
            report.add(f"evidence of {gateway} seq {seq}: it does not open")
    for health in archive.health():
        if not any(_opens(wire.open_health, health.sealed, key) for key in keys[health.gateway]):
            report.add(f"health of {health.gateway}: it does not open")


def _check_annotations(archive: Archive, lines: Mapping[int, Enrolment], report: Report) -> None:
    """Each is signed by the stewards of its line, and follows from those before it on its site."""
    before: dict[str, list[Note]] = defaultdict(list)
    for site, number, line, sealed in archive.annotation_rows():
        report.annotations += 1
        name = f"annotation {number} of {site}"
        signers = lines.get(line)
        if signers is None or signers.site != site:
            report.add(f"{name}: the register has no such line for this site")
            continue
        try:
            note = wire.open_annotation(sealed, signers.stewards, signers.signatures_required)
        except WireError as error:
            report.add(f"{name}: it does not open: {error}")
            continue
        if (note.site, note.number) != (site, number):
            report.add(f"{name}: it says of itself {note.number} of {note.site}")
        wrong = objection(note, before[site], streams_of(archive, site))
        if wrong is not None:
            report.add(f"{name}: {wrong.key}: {wrong.problem}")
        before[site].append(note)


def _check_log(archive: Archive, lines: Iterable[Enrolment], report: Report) -> None:
    """Every entry has its place under the root, and the log says of the archive what it holds, nothing else."""
    told: dict[tuple[str, str, int], dict[str, Any]] = {}
    peaks: list[bytes] = []
    for place, kind, subject, number, entry, kept in archive.log_rows():
        peaks.append(kept)
        if place != len(peaks) or kept != log.peak(entry, place, lambda at: peaks[at - 1]):
            report.add(f"log entry {place}: the hash beside it is not that of the entries up to it")
            return
        told[kind, subject, number % logbook.ADOPTED] = log.read_entry(entry)
    signed = archive.signed_checkpoint()
    if signed is not None:
        size, _, note = signed
        root = base64.b64encode(log.root_by_peaks(size, lambda at: peaks[at - 1])) if size <= len(peaks) else b""
        if note.split(b"\n")[1:3] != [str(size).encode(), root]:
            report.add(f"log: the checkpoint of {size} entries is not that of the log")
    due: dict[tuple[str, str, int], dict[str, Any]] = {}
    for line in lines:
        if line.status == "revoked":
            due["revocation", line.gateway, line.id] = {}
        else:
            due["enrolment", line.gateway, line.id] = {"record_key": line.record_key.hex()}
        for day, account in archive.accounts_due(line.gateway).items():
            due["spend", line.gateway, day] = log.read_entry(account)
    for policy in archive.policies():
        due["policy", policy.site, policy.version] = {"sealed": wire.digest(policy.sealed).hex()}
    for site, number, _, sealed in archive.annotation_rows():
        due["annotation", site, number] = {"sealed": wire.digest(sealed).hex()}
    wrong = {key for key in due.keys() | told.keys() if not (key in due and key in told and _says(told[key], due[key]))}
    for kind, subject, number in sorted(wrong):
        what, last = f"log: the {kind} of {subject} ({number})", told.get((kind, subject, number), {}).get("last", 0)
        if kind == "spend" and last > archive.totals(subject).settled_seq:
            report.add(f"{what} is of messages up to {last} that the archive lost and has not got back")
        else:
            report.add(f"{what} is not there as the archive has it")


def _says(told: Mapping[str, Any], due: Mapping[str, Any]) -> bool:
    return all(told.get(name) == value for name, value in due.items())


def _opens(opened_as: Callable[[bytes, bytes], object], sealed: bytes, key: bytes) -> bool:
    try:
        opened_as(sealed, key)
    except WireError:
        return False
    return True


def _check_budgets(archive: Archive, budgets: Budgets, report: Report) -> None:
    for stream in budgets.streams():
        for at_s, excess in budgets.excesses(stream, archive.charged(stream)):
            report.add(f"{stream}: at {utc(at_s)} {excess}")
