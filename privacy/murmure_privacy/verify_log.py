"""First part of a check: the log, and what it says of gateways, policies, annotations and accounts.

Nobody is believed but the key of the centre, which has signed the checkpoint of the log. The log says which gateways
there are, which stewards sign for a site, and by what each gateway was told to judge policies at its enrolment; the
stewards have signed everything else.
"""

from __future__ import annotations

from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from murmure_privacy import decide, log, wire
from murmure_privacy.annotation import Annotation, Note, in_force
from murmure_privacy.audit import Auditor
from murmure_privacy.errors import ConfigError, WireError
from murmure_privacy.findings import Report
from murmure_privacy.log import Checkpoint
from murmure_privacy.plan import Plan, plan
from murmure_privacy.policy import parse
from murmure_privacy.publication import ANNOTATIONS, DAY_S, POLICIES, Publication, day_of, rows_of
from murmure_privacy.release import Node
from murmure_privacy.window import calendar, parse_utc, utc

AHEAD_S = 900
"""How far a gateway's clock may be ahead of the centre's."""
_ALWAYS_S = 1 << 40
_NO_CEILING_RHO_MICRO = 1 << 62
"""Above every floor, so that nobody is said to be above a ceiling that no log names."""
_REFUSED = {
    "no_decision": "policy_undecided",
    "roles": "policy_roles",
    "ceiling": "policy_ceiling",
    "floor": "policy_floor",
}


@dataclass(frozen=True, slots=True)
class Ruled:
    """A policy of the log, as its stewards have sealed it. `before`: the one of the site that it follows. `notice_s`:
    nothing may be released under it that was observed before; 0 if it is no loosening, or nobody knows when it was
    published."""

    site: str
    version: int
    plan: Plan
    auditor: Auditor
    sealed: bytes
    before: Plan | None
    notice_s: int


@dataclass(frozen=True, slots=True)
class Account:
    """What the log says of a gateway and day. `nodes`: released, withheld and micro-rho by stream and version, then by
    level; `without`: ranges of numbers that were settled and not filed."""

    last: int
    hash: bytes
    nodes: Mapping[tuple[str, int], Mapping[str, tuple[int, int, int]]]
    without: Sequence[tuple[int, int]]


@dataclass(slots=True)
class Speaker:
    """What the log says of a gateway, and what was found of it. `stewards`: the keys of the newest line; `roles`: one
    for each, or none; `ceiling_rho_micro`: None where the log does not say by what it judges a loosening. `heard`:
    hash, hash of the message before, and the day on which it was closed, by number; `settled`: the number up to which
    none is missing."""

    quartier: str
    site: str
    keys: list[bytes] = field(default_factory=list)
    stewards: list[bytes] = field(default_factory=list)
    required: int = 1
    roles: list[str] = field(default_factory=list)
    ceiling_rho_micro: int | None = None
    last: int | None = None
    settled: int = 0
    accounts: dict[int, Account] = field(default_factory=dict)
    heard: dict[int, tuple[bytes, bytes, int]] = field(default_factory=dict)

    def objection(self, policy: Ruled) -> str | None:
        """Returns why a gateway that keeps to what was pinned at its enrolment uses no such policy: one of KINDS. It
        judges by `murmure_privacy.decide`; without a ceiling, from before there was one, by the floor alone."""
        signers = wire.policy_signers(policy.sealed, self.stewards)
        roles = frozenset(self._role(key) for key in signers)
        ceiling = decide.Ceiling(_NO_CEILING_RHO_MICRO, 0, 0)
        if self.ceiling_rho_micro is not None:
            ceiling = decide.Ceiling(self.ceiling_rho_micro, 0, 2 if self.roles else self.required)
        signed = decide.Signed(policy.plan, len(signers), roles)
        verdict = decide.decide(policy.before, signed, ceiling, decide.FLOOR, decide.LogWord(0), _ALWAYS_S)
        return _REFUSED.get(verdict.reason) if isinstance(verdict, decide.Refuse) else None

    def _role(self, key: bytes) -> str:
        return dict(zip(self.stewards, self.roles, strict=False)).get(key, "") if self.roles else key.hex()


class Book:
    """The log of a publication, read step by step. `gateways` by their id; `policies` by the hash of their text and
    `versions` by site and version: those that stewards have signed."""

    def __init__(self, published: Publication, report: Report) -> None:
        self.report = report
        self.gateways: dict[str, Speaker] = {}
        self.policies: dict[bytes, Ruled] = {}
        self.versions: dict[tuple[str, int], Ruled] = {}
        self._published = published
        self._entries: list[dict[str, Any]] = []
        self._stewards: dict[str, list[tuple[list[bytes], int]]] = defaultdict(list)
        self._notes: dict[bytes, str] = {}
        self._marks: list[Note] = []
        self._used: set[tuple[str, int, str]] = set()

    def log(self, known: Iterable[Checkpoint]) -> bool:
        """Returns whether there is a log that can be read: the centre has signed exactly these entries. `known`: what
        was seen of it before."""
        found, entries = self.report, self._published.entries
        try:
            here = log.open_checkpoint(self._published.note, self._published.centre)
        except WireError as error:
            found.add("checkpoint", error.detail)
            return False
        found.checkpoint = here
        leaves = [log.leaf_hash(entry) for entry in entries]
        for earlier in known:
            if here.size < earlier.size:
                found.add("log_shrunk", f"{here.size} < {earlier.size}")
            elif log.root(leaves[: earlier.size]) != earlier.root:
                found.add("log_forked", f"{earlier.size}")
        if len(entries) < here.size:
            found.add("log_short", f"{len(entries)} < {here.size}")
        elif log.root(leaves[: here.size]) != here.root:
            found.add("log_root", f"{here.size}")
        for place, entry in enumerate(entries[: here.size], 1):
            try:
                self._entries.append(log.read_entry(entry))
            except ValueError:
                found.add("entry", f"{place}")
        return True

    def entries(self) -> None:
        """Goes through the log in its order: who may speak, what stewards signed, what was spent."""
        latest_s = 0
        kinds: dict[str, Callable[[dict[str, Any]], None]] = {
            "enrolment": self._enrolment,
            "revocation": self._revocation,
            "annotation": self._annotation,
        }
        for place, told in enumerate(self._entries, 1):
            try:
                if told["kind"] == "policy":
                    latest_s = self._policy(told, latest_s)
                elif told["kind"] == "spend":
                    ends_s = self._spend(told)
                    after = self._entries[place] if place < len(self._entries) else {}
                    # The account of a gateway that says no more is closed before its day is over.
                    open_ = (after.get("kind"), after.get("gateway")) == ("revocation", told["gateway"])
                    latest_s = max(latest_s, 0 if open_ else ends_s)
                else:
                    kinds[told["kind"]](told)
            except (LookupError, ValueError, TypeError, AttributeError, OverflowError):
                self.report.add("entry", f"{place}")
        self.report.unpinned = sorted(name for name, one in self.gateways.items() if one.ceiling_rho_micro is None)

    def _enrolment(self, told: dict[str, Any]) -> None:
        stewards, site = [bytes.fromhex(key) for key in told["stewards"]], str(told["site"])
        key, required = bytes.fromhex(told["record_key"]), int(told["signatures_required"])
        gateway = self.gateways.setdefault(str(told["gateway"]), Speaker(str(told["quartier"]), site))
        gateway.keys.insert(0, key)
        gateway.stewards, gateway.required = stewards, required
        self._stewards[site].append((stewards, required))
        if "ceiling_rho_micro" in told:  # a later key changes nothing of it
            gateway.ceiling_rho_micro = int(told["ceiling_rho_micro"])
            gateway.roles = [str(role) for role in told.get("roles", ())]

    def _revocation(self, told: dict[str, Any]) -> None:
        self.gateways[told["gateway"]].last = int(told["last"])

    def _annotation(self, told: dict[str, Any]) -> None:
        self._notes[bytes.fromhex(told["sealed"])] = f"{told['site']} {told['number']}"

    def _policy(self, told: dict[str, Any], latest_s: int) -> int:
        """Returns the latest instant that the log tells of by now."""
        site, version, policy_hash = str(told["site"]), int(told["version"]), bytes.fromhex(told["hash"])
        where = f"{site} {version}"
        at_s = _date(told)
        if at_s is None and latest_s:  # a log that knows instants by now knows this one
            self.report.add("policy_backdated", f"{where}: null > {utc(latest_s)}")
        # Nothing ends, and no account is closed, more than a quarter-hour after the centre's clock.
        if at_s is not None and at_s + AHEAD_S < latest_s:
            self.report.add("policy_backdated", f"{where}: {utc(at_s)} < {utc(latest_s)}")
        before = max((one for one in self.versions.values() if one.site == site), key=_version, default=None)
        if before is not None and version <= before.version:
            self.report.add("policy_order", f"{where} <= {before.version}")
        sealed = self._published.policies.get(policy_hash)
        if sealed is None or wire.digest(sealed).hex() != told["sealed"]:
            self.report.add("policy_missing", where)
            return max(latest_s, at_s or 0)
        self.report.policies += 1
        try:
            text = self._signed(sealed, site)
            made = plan(parse(text, where), where)
        except (WireError, ConfigError):
            self.report.add("policy_signature", where)
            return max(latest_s, at_s or 0)
        if wire.digest(text) != policy_hash or (made.policy.site, made.policy.version) != (site, version):
            self.report.add("policy_missing", where)
            return max(latest_s, at_s or 0)
        beside = self._published.read(f"{POLICIES}{policy_hash.hex()}.toml")  # what residents read of it
        if beside is not None and beside != text:
            self.report.add("policy_text", where)
        follows = None if before is None else before.plan
        loosens = follows is not None and decide.loosens(decide.compare(follows, made))
        notice_s = _notice(before, loosens, latest_s if at_s is None else at_s)
        if loosens and not any(len(wire.policy_signers(sealed, keys)) > 1 for keys, _ in self._stewards[site]):
            self.report.alone.append(where)
        kept = Ruled(site, version, made, Auditor(made, made.calendar), sealed, follows, notice_s)
        self.policies[policy_hash] = self.versions[site, version] = kept
        return max(latest_s, at_s or 0)

    def _signed(self, sealed: bytes, site: str) -> bytes:
        """Returns the text of a policy that stewards of its site have signed, those of any line of the register."""
        refusal = WireError("bad_signature", "no gateway has this site")
        for stewards, required in self._stewards[site]:
            try:
                return wire.open_policy(sealed, stewards, required)
            except WireError as error:
                refusal = error
        raise refusal

    def _spend(self, told: dict[str, Any]) -> int:
        """Returns the end of the day that an account is of."""
        name, day = str(told["gateway"]), day_of(told["day"])
        where, gateway, end_s = f"{name} {told['day']}", self.gateways[name], (day + 1) * DAY_S
        account = _account(told)
        self.report.accounts += 1
        newest = max(gateway.accounts, default=None)
        if newest is not None and (
            (day < newest and day not in gateway.accounts)
            or (day > newest and account.last < gateway.accounts[newest].last)
        ):
            self.report.add("account_order", where)
        if gateway.last is not None and account.last > gateway.last:
            self.report.add("revoked", where)
        gateway.accounts[day] = account
        for (stream, version), levels in account.nodes.items():
            if version == 0:
                # Nothing is released under a policy that the centre has not.
                if any(released or rho_micro or withheld < 0 for released, withheld, rho_micro in levels.values()):
                    self.report.add("account_spend", f"{where}: {stream}")
                continue
            policy = self.versions.get((gateway.site, version))
            if policy is None:
                self.report.add("policy_backdated", f"{where}: {gateway.site} {version}")
                continue
            if any(released for released, _, _ in levels.values()):
                self.used(name, policy)
                if policy.notice_s >= end_s:
                    self.report.add("policy_looser", f"{gateway.site} {version}: {told['day']}")
            for level, (released, withheld, rho_micro) in levels.items():
                costs = charge(policy.plan, stream, level)
                if costs is None or rho_micro != released * costs or min(released, withheld) < 0:
                    self.report.add("account_spend", f"{where}: {stream} {level}")
        return end_s

    def annotations(self) -> None:
        """Every annotation is signed by stewards of its site and in the log, and none of the log is missing; and their
        table says what was signed."""
        found = set()
        shown: dict[str, Note] = {}
        for sealed in self._published.annotations:
            self.report.annotations += 1
            try:
                note = wire.read_annotation(sealed)
            except WireError:
                self.report.add("annotation_signature", "?")
                continue
            where, digest = f"{note.site} {note.number}", wire.digest(sealed)
            shown[b64encode(sealed).decode("ascii")] = note
            if not any(_opens(sealed, *stewards) for stewards in self._stewards[note.site]):
                self.report.add("annotation_signature", where)
            elif digest not in self._notes:
                self.report.add("annotation_unlogged", where)
            else:
                self._marks.append(note)
            found.add(digest)
        for digest, where in self._notes.items():
            if digest not in found:
                self.report.add("annotation_missing", where)
        for row in rows_of(self._published.read(ANNOTATIONS) or b""):
            told = shown.get(row.get("cose_base64") or "")
            if told is not None and not _says(row, told):
                self.report.add("annotation_signature", f"annotations.csv: {told.site} {told.number}")

    def faulty(self, node: Node) -> tuple[Annotation, ...]:
        """Returns what stewards marked of a node: signed, in the log, and not taken back by the newest of them."""
        newest_s = max((note.issued_s for note in self._marks), default=0)
        return tuple(
            mark
            for mark in in_force(self._marks, newest_s)
            if mark.stream == node.stream and mark.from_s < node.end_s and mark.to_s > node.start_s
        )

    def has_weeks(self) -> bool:
        """Returns whether any policy has nodes of a week."""
        return any(part.node("1w") for one in self.policies.values() for part in one.plan.streams.values())

    def used(self, name: str, policy: Ruled) -> None:
        """Notes that a gateway has released something under a policy, which it may never have believed."""
        key = policy.site, policy.version, name
        if key not in self._used:
            self._used.add(key)
            objection = self.gateways[name].objection(policy)
            if objection is not None:
                self.report.add(objection, f"{policy.site} {policy.version}: {name}")


def _notice(before: Ruled | None, loosens: bool, at_s: int) -> int:
    """Returns from when on a policy may be used that was published at an instant, 0 for at once. A loosening waits for
    its own notice, and what follows on one that still waits is compared with what nobody uses yet: it waits at least as
    long. At 0, before the log knows instants, nobody knows."""
    if before is None or at_s == 0:
        return 0
    return max(at_s + decide.NOTICE_S if loosens else 0, before.notice_s)


def _date(told: Mapping[str, Any]) -> int | None:
    return None if told["published"] is None else parse_utc(told["published"])


def _account(told: Mapping[str, Any]) -> Account:
    """Returns what an entry says, with the types that it must have. Raises ValueError, KeyError, TypeError."""
    nodes = {}
    for one in told["streams"]:
        levels = {str(level): (int(a), int(b), int(c)) for level, (a, b, c) in one["nodes"].items()}
        key = str(one["stream"]), int(one["policy"])
        if key in nodes:
            raise ValueError("a stream twice: readers would take one or the other")
        nodes[key] = levels
    newest = int(told["last"])
    without = [(int(first), int(last)) for first, last in told.get("without", ())]
    if not all(0 < first <= last <= newest for first, last in without):
        raise ValueError("numbers that were not given")
    return Account(newest, bytes.fromhex(told["hash"]), nodes, without)


def _says(row: Mapping[str, str], note: Note) -> bool:
    """Returns whether a row says what was signed, as far as it has a cell for it. Whether a mark is in force changes,
    and is not looked at."""
    due = {"site": note.site, "number": str(note.number), "issued_utc": utc(note.issued_s)}
    due |= {"sentence_fr": note.sentence, "sentence_en": note.sentence_en}
    about = ("stream", "start_utc", "end_utc", "cause", "withdraws")
    if isinstance(note, Annotation):
        cells = note.stream, utc(note.from_s), utc(note.to_s), note.cause, ""
    else:
        cells = "", "", "", "", str(note.withdraws)
    due |= dict(zip(about, cells, strict=True))
    return all(row.get(name, text) == text for name, text in due.items())


def _opens(sealed: bytes, stewards: Sequence[bytes], required: int) -> bool:
    try:
        wire.open_annotation(sealed, stewards, required)
    except WireError:
        return False
    return True


def _version(policy: Ruled) -> int:
    return policy.version


def charge(made: Plan, stream: str, level: str) -> int | None:
    """Returns what one node of a level costs, in micro-rho; None where the policy has none."""
    part = made.streams.get(stream)
    found = part.node(level) if part else None
    return None if found is None else found.rho_micro


def ends_on(made: Plan, level: str, day: int) -> tuple[int, ...]:
    """Returns the instants at which nodes of a level end on a day (since 1970, UTC)."""
    return _ends(made.calendar.timezone, level, day)


@lru_cache(maxsize=65_536)
def _ends(timezone: str, level: str, day: int) -> tuple[int, ...]:
    dates, at_s, found = calendar(timezone), day * DAY_S, []
    while (end_s := dates.node(level, at_s).end_s) <= (day + 1) * DAY_S:
        found.append(end_s)
        at_s = end_s
    return tuple(found)
