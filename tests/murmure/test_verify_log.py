"""First part of a check, the log: each rule at the entry, the second and the number where it begins to hold.

The logs are written by hand and signed by a centre; no gateway has said anything. Whole towns stand in
`test_verify.py`.
"""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import pytest
from murmure_dashboards import opendata
from murmure_ingest.archive import StoredAnnotation
from murmure_privacy import decide, log, wire
from murmure_privacy.annotation import Annotation, Note, Withdrawal
from murmure_privacy.findings import Report
from murmure_privacy.log import Checkpoint
from murmure_privacy.plan import plan
from murmure_privacy.policy import parse
from murmure_privacy.publication import Publication, date_of
from murmure_privacy.release import Node
from murmure_privacy.verify_log import Book, charge, ends_on
from murmure_privacy.window import utc

DAY = 20_780  # 2026-11-23, a Monday
DAY_S = 86_400
POLICY = """policy = 1
site = "{site}"
version = {version}
timezone = "Europe/Paris"
decision = "D"
reason = "R."
valid_from = 2026-11-01
valid_until = 2027-11-30

[[stream]]
id = "{site}/footfall"
quantity = "footfall"
protects = {{ crossings = 1 }}
epsilon = {epsilon}
nodes = {{ "1h" = 1 }}
"""
Found = list[tuple[str, str]]


def text(version: int = 1, epsilon: str = "1.0", site: str = "plaza") -> bytes:
    return POLICY.format(site=site, version=version, epsilon=epsilon).encode()


HOUR_RHO = charge(plan(parse(text(), "test")), "plaza/footfall", "1h") or 0


class Log:
    """A log that grows by hand. `found` reads it as anybody does."""

    def __init__(self) -> None:
        self.centre, self.public = wire.new_key()
        self.stewards = [wire.new_key() for _ in range(3)]
        self.entries: list[dict[str, Any]] = []
        self.policies: dict[bytes, bytes] = {}
        self.annotations: list[bytes] = []
        self.report, self.book = Report(), None

    def enrol(self, gateway: str = "gw-plaza", site: str = "plaza", keys: tuple[int, ...] = (0,), **more: Any) -> Log:
        told = {"kind": "enrolment", "gateway": gateway, "quartier": "centre", "site": site, "signatures_required": 1}
        stewards = [self.stewards[key][1].hex() for key in keys]
        self.entries.append({**told, "record_key": wire.new_key()[1].hex(), "stewards": stewards, **more})
        return self

    def policy(self, toml: bytes, published_s: int | None, keys: tuple[int, ...] = (0,), **more: Any) -> Log:
        sealed = wire.seal_policy(toml, [(str(key), self.stewards[key][0]) for key in keys])
        self.policies[wire.digest(toml)] = sealed
        made = parse(toml, "test")
        told = {"kind": "policy", "site": made.site, "version": made.version, "hash": wire.digest(toml).hex()}
        published = None if published_s is None else utc(published_s)
        self.entries.append({**told, "sealed": wire.digest(sealed).hex(), "published": published, **more})
        return self

    def spend(
        self, day: int, last: int, nodes: dict[str, list[int]] | None = None, version: int = 1, **more: Any
    ) -> Log:
        streams = [] if nodes is None else [{"stream": "plaza/footfall", "policy": version, "nodes": nodes}]
        told = {"kind": "spend", "gateway": "gw-plaza", "day": date_of(day), "last": last, "hash": "00" * 32}
        self.entries.append({**told, "streams": streams, **more})
        return self

    def add(self, **entry: Any) -> Log:
        self.entries.append(entry)
        return self

    def note(self, note: Note, logged: bool = True) -> Log:
        sealed = wire.seal_annotation(note, [("0", self.stewards[0][0])])
        self.annotations.append(sealed)
        if logged:
            self.add(kind="annotation", site=note.site, number=note.number, sealed=wire.digest(sealed).hex())
        return self

    def published(self) -> Publication:
        lines = [log.entry(entry) for entry in self.entries]
        here = Checkpoint(len(lines), log.root([log.leaf_hash(line) for line in lines]))
        note = log.seal_checkpoint(here, self.centre)
        return Publication(note, self.public, lines, self.policies, self.annotations, [], [], None)

    def read(self, *known: Checkpoint, **changes: Any) -> Book:
        book = Book(replace(self.published(), **changes), Report())
        if book.log(known):
            book.entries()
            book.annotations()
        return book

    def found(self, *known: Checkpoint, **changes: Any) -> Found:
        return [(one.kind, one.where) for one in self.read(*known, **changes).report.findings]


@pytest.fixture
def story() -> Log:
    return Log().enrol(ceiling_rho_micro=decide.FLOOR.rho_micro)


# --- the checkpoint --------------------------------------------------------------------------------------------------


def test_a_log_is_what_its_checkpoint_says(story: Log) -> None:
    """The same, one known before it, and one of the same size are fine; one entry fewer is short, and what stands
    behind the last entry is in no log and not read."""
    story.policy(text(), None)
    whole = story.published()
    leaves = [log.leaf_hash(line) for line in whole.entries]
    known = [Checkpoint(size, log.root(leaves[:size])) for size in (0, 1, 2)]
    assert story.found(*known) == []
    assert story.found(replace(known[1], size=3)) == [("log_shrunk", "2 < 3")]
    assert story.found(replace(known[1], root=bytes(32))) == [("log_forked", "1")]
    assert story.found(entries=whole.entries[:1])[0] == ("log_short", "1 < 2")
    assert story.found(entries=[*whole.entries, b"{}"]) == []
    assert ("log_root", "2") in story.found(entries=[whole.entries[0], log.entry({"kind": "x"})])
    assert story.read().report.checkpoint == Checkpoint(2, log.root(leaves))
    assert [Book(replace(whole, note=note), Report()).log(()) for note in (whole.note, b"x")] == [True, False]
    book = story.read(note=b"x")
    assert [one.kind for one in book.report.findings] == ["checkpoint"] and book.gateways == {}


def test_an_entry_is_named_by_its_place(story: Log) -> None:
    """Counted from one, whether it cannot be read or says nothing that an entry says."""
    story.add(kind="policy").add(kind="moon").add(x=1).spend(DAY, 0, {"1h": [1, 2]})
    assert story.found() == [("entry", "2"), ("entry", "3"), ("entry", "4"), ("entry", "5")]
    lines = [*story.published().entries[:1], b"{ }"]
    here = Checkpoint(2, log.root([log.leaf_hash(line) for line in lines]))
    assert story.found(entries=lines, note=log.seal_checkpoint(here, story.centre)) == [("entry", "2")]


INF = float("inf")


@pytest.mark.parametrize(
    "entry",
    [
        *({"kind": "enrolment", "ceiling_rho_micro": INF}, {"kind": "enrolment", "signatures_required": INF}),
        *({"kind": "revocation", "gateway": "gw-plaza", "last": INF}, {"kind": "policy", "version": INF}),
        *({"kind": "spend", "last": INF}, {"kind": "spend", "without": [[INF, 1]]}),
        {"kind": "spend", "without": [[1, INF]]},
        *({"kind": "spend", "nodes": nodes} for nodes in ([INF, 0, 0], [0, INF, 0], [0, 0, INF])),
        {"kind": "spend", "version": INF},
    ],
)
def test_what_is_endless_is_no_number(story: Log, entry: dict[str, Any]) -> None:
    """A ceiling above everything, say: whoever reads JSON may read it as a number."""
    match entry:
        case {"kind": "enrolment", **fields}:
            story.enrol("gw-2", **{"ceiling_rho_micro": 0, **fields})
        case {"kind": "policy", **fields}:
            story.policy(text(), None, **fields)
        case {"kind": "spend", "nodes": [*nodes]}:
            story.spend(DAY, 1, {"1h": nodes}, version=0)
        case {"kind": "spend", "version": version}:
            story.spend(DAY, 1, streams=[{"stream": "plaza/footfall", "policy": version, "nodes": {}}])
        case {"kind": "spend", **fields}:
            story.spend(DAY, fields.pop("last", 1), **fields)
        case other:
            story.add(**other)
    assert story.found() == [("entry", "2")]


# --- gateways and policies -------------------------------------------------------------------------------------------


def test_gateways_whose_pins_nobody_has_logged_are_told_in_order(story: Log) -> None:
    """And no other."""
    story.enrol("gw-b", "b").enrol("gw-a", "a").enrol("gw-c", "c", ceiling_rho_micro=0)
    report = story.read().report
    assert (report.unpinned, report.findings) == (["gw-a", "gw-b"], [])


def test_a_later_line_of_a_gateway_has_its_keys_and_keeps_its_pins(story: Log) -> None:
    """The newest key is tried first, the newest stewards count; ceiling and roles are those of the first line."""
    story.entries.clear()
    story.enrol(keys=(0, 1), ceiling_rho_micro=7, roles=["steward", "dpo"]).enrol(keys=(2,), signatures_required=2)
    gateway = story.read().gateways["gw-plaza"]
    assert gateway.keys == [bytes.fromhex(one["record_key"]) for one in reversed(story.entries)]
    assert (gateway.stewards, gateway.required) == ([story.stewards[2][1]], 2)
    assert (gateway.ceiling_rho_micro, gateway.roles) == (7, ["steward", "dpo"])


END_S = (DAY + 1) * DAY_S


@pytest.mark.parametrize("late_s", [-900, -901])
@pytest.mark.parametrize("told_by", ["account", "policy", "missing", "signature", "text"])
def test_a_policy_may_be_a_quarter_hour_older_than_what_the_log_tells_before(
    story: Log, told_by: str, late_s: int
) -> None:
    """By the end of an account, or by the date of a policy before, also one that cannot be believed; and the latest of
    all counts, not the last."""
    beside: Found = []
    match told_by:
        case "account":
            story.spend(DAY, 1)
        case "policy":
            story.policy(text(1), END_S)
        case "missing":
            story.policy(text(1), END_S, sealed="00" * 32)
            beside = [("policy_missing", "plaza 1")]
        case "signature":
            story.policy(text(1), END_S, keys=(1,))
            beside = [("policy_signature", "plaza 1")]
        case "text":
            story.policy(text(1), END_S, version=3)
            beside = [("policy_missing", "plaza 3")]
    story.policy(text(4, "0.9"), END_S + 900 + late_s).policy(text(5, "0.8"), END_S + late_s)
    early = [("policy_backdated", f"plaza 5: {utc(END_S + late_s)} < {utc(END_S)}")] if late_s < -900 else []
    assert story.found() == [*beside, *early]


@pytest.mark.parametrize("changes", [{"sealed": "00" * 32}, {"keys": (1,)}, {"version": 3}])
def test_a_policy_that_cannot_be_believed_makes_no_instant_earlier(story: Log, changes: dict[str, Any]) -> None:
    """The account before it still counts."""
    story.spend(DAY, 1).policy(text(1), END_S - 900, **changes).policy(text(4), END_S - 901)
    assert [where[:7] for kind, where in story.found() if kind == "policy_backdated"] == ["plaza 4"]


@pytest.mark.parametrize("changes", [{"sealed": "00" * 32}, {"keys": (1,)}, {"version": 3}])
def test_a_policy_that_cannot_be_believed_and_has_no_date_tells_no_instant(story: Log, changes: dict[str, Any]) -> None:
    """What follows may be without a date too, and is no loosening of it."""
    story.policy(text(1), None, **changes).policy(text(4, "1.1"), None)
    assert [kind for kind, _ in story.found() if kind == "policy_backdated"] == []
    assert [one.version for one in story.read().policies.values()] == [4]


def test_a_policy_without_a_date_stands_before_every_date(story: Log) -> None:
    """Several may; the first after an account is dated back."""
    assert story.policy(text(1), None).policy(text(2, "0.9"), None).found() == []
    assert story.spend(DAY, 1).policy(text(3, "0.8"), None).found() == [
        ("policy_backdated", f"plaza 3: null > {utc(END_S)}")
    ]


def test_the_account_before_a_revocation_closes_no_day(story: Log) -> None:
    """Of that gateway; the account of another, or a revocation that is not the next entry, is as always."""
    early = END_S - 7200
    backdated = [("policy_backdated", f"plaza 1: {utc(early)} < {utc(END_S)}")]
    revoked = {"kind": "revocation", "gateway": "gw-plaza", "last": 1}
    for between, found in (
        ([revoked], []),
        ([{**revoked, "gateway": "gw-other"}], backdated),
        ([{"kind": "annotation", "site": "plaza", "number": 1, "sealed": "00"}, revoked], backdated),
        ([], backdated),
    ):
        story.entries = story.entries[:1]
        story.enrol("gw-other", "other", ceiling_rho_micro=0).spend(DAY, 1)
        story.entries += between
        assert [one for one in story.policy(text(), early).found() if one[0] == "policy_backdated"] == found
    # An instant that the account does not tell is none: a policy may still be without a date.
    story.entries = story.entries[:1]
    story.spend(DAY, 1).entries.append(revoked)
    assert story.policy(text(), None).found() == []
    # Nothing is forgotten of what was told before.
    story.entries = story.entries[:1]
    story.spend(DAY, 1).spend(DAY + 1, 2).entries.append(revoked)
    assert story.policy(text(), early).found() == backdated


def test_versions_of_a_site_grow(story: Log) -> None:
    """Each above the largest before it, whatever other sites have."""
    story.enrol("gw-b", "b", ceiling_rho_micro=0).policy(text(5, site="b"), None)
    assert story.policy(text(2), None).policy(text(3, "0.9"), None).found() == []
    story.policy(text(1, "0.8"), None).policy(text(3, "0.7"), None)
    assert story.found() == [("policy_order", "plaza 1 <= 3"), ("policy_order", "plaza 3 <= 3")]
    assert story.read().report.policies == 5


@pytest.mark.parametrize("changes", [{"version": 9}, {"site": "b"}])
def test_a_policy_is_of_the_site_and_version_that_the_log_names(story: Log, changes: dict[str, Any]) -> None:
    """Its text is there as the log has it, and says otherwise."""
    story.enrol("gw-b", "b", ceiling_rho_micro=0).policy(text(), None, **changes)
    book = story.read()
    assert [one.kind for one in book.report.findings] == ["policy_missing"]
    assert book.policies == {} and book.versions == {}


def test_a_policy_has_the_text_that_the_log_names(story: Log) -> None:
    """Not another one of the same site and version, though stewards have signed that too; and it is there."""
    story.policy(text(), None)
    other = wire.seal_policy(text(1, "0.5"), [("0", story.stewards[0][0])])
    assert story.found(policies={}) == [("policy_missing", "plaza 1")]
    story.entries[-1]["sealed"] = wire.digest(other).hex()
    assert story.found(policies={wire.digest(text()): other}) == [("policy_missing", "plaza 1")]


def test_the_text_of_a_policy_beside_the_signed_one_is_the_same(story: Log) -> None:
    """Residents read that; where it is not there, nothing is said of it."""
    story.policy(text(), None)
    path = f"donnees/politiques/{wire.digest(text()).hex()}.toml"
    assert story.found(read={path: text()}.get) == story.found(read={}.get) == []
    assert story.found(read={path: text(1, "0.5")}.get) == [("policy_text", "plaza 1")]


def test_stewards_of_any_line_of_the_site_may_sign(story: Log) -> None:
    """And as many as that line asks for; those of another site may not."""
    story.enrol("gw-2", keys=(1, 2), signatures_required=2, ceiling_rho_micro=0)
    story.enrol("gw-b", "b", keys=(1,), ceiling_rho_micro=0)
    assert story.policy(text(1), None).policy(text(2, "0.9"), None, keys=(1, 2)).found() == []
    assert story.policy(text(3, "0.8"), None, keys=(1,)).found() == [("policy_signature", "plaza 3")]


def test_one_signature_under_a_loosening_is_told(story: Log) -> None:
    """Two that any line of the site knows are not told, nor a first policy, nor a tightening."""
    story.enrol("gw-2", keys=(0, 1), ceiling_rho_micro=0)
    story.policy(text(1), None).policy(text(2, "1.1"), None).policy(text(3, "1.0"), None)
    report = story.policy(text(4, "1.2"), None, keys=(0, 1)).read().report
    assert (report.findings, report.alone) == ([], ["plaza 2"])


# --- accounts --------------------------------------------------------------------------------------------------------


def released(count: int, rho: int = HOUR_RHO, withheld: int = 0) -> dict[str, list[int]]:
    return {"1h": [count, withheld, count * rho]}


def test_accounts_come_in_order(story: Log) -> None:
    """A later day has at least the number of the newest before it; an earlier day may only be told again."""
    story.spend(DAY, 5).spend(DAY + 1, 9).spend(DAY + 2, 9)
    assert story.spend(DAY, 4).spend(DAY + 2, 7).found() == []
    assert story.spend(DAY - 1, 3).found() == [("account_order", f"gw-plaza {date_of(DAY - 1)}")]
    story.entries.pop()
    assert story.spend(DAY + 3, 6).found() == [("account_order", f"gw-plaza {date_of(DAY + 3)}")]
    assert story.read().report.accounts == 6


def test_an_account_ends_where_its_gateway_was_revoked(story: Log) -> None:
    """At that number, or before it."""
    story.add(kind="revocation", gateway="gw-plaza", last=5)
    assert story.spend(DAY, 4).spend(DAY + 1, 5).found() == []
    assert story.spend(DAY + 2, 6).found() == [("revoked", f"gw-plaza {date_of(DAY + 2)}")]


@pytest.mark.parametrize(
    ("nodes", "right"),
    [
        (released(24), True),
        (released(0, withheld=24), True),
        (released(2, HOUR_RHO + 1), False),
        (released(2, HOUR_RHO - 1), False),
        (released(-1), False),
        (released(1, withheld=-1), False),
        ({"1d": [1, 0, HOUR_RHO]}, False),
    ],
)
def test_a_charge_is_what_its_policy_says(story: Log, nodes: dict[str, list[int]], right: bool) -> None:
    """Each released node costs what its level costs, and no number is below zero."""
    where = f"gw-plaza {date_of(DAY)}: plaza/footfall {next(iter(nodes))}"
    found = story.policy(text(), None).spend(DAY, 1, nodes).found()
    assert found == ([] if right else [("account_spend", where)])


@pytest.mark.parametrize(
    ("nodes", "right"),
    [([0, 0, 0], True), ([0, 5, 0], True), ([1, 0, 0], False), ([0, 0, 1], False), ([0, -1, 0], False)],
)
def test_without_a_policy_nothing_is_charged(story: Log, nodes: list[int], right: bool) -> None:
    """Version 0 is of what was withheld under a policy that nobody has."""
    found = story.spend(DAY, 1, {"1h": nodes}, version=0).found()
    assert found == ([] if right else [("account_spend", f"gw-plaza {date_of(DAY)}: plaza/footfall")])


def test_an_account_names_policies_that_stand_before_it(story: Log) -> None:
    """A version that the log tells of only later, or never, is dated back."""
    story.spend(DAY, 1, released(1)).policy(text(), END_S)
    assert story.found() == [("policy_backdated", f"gw-plaza {date_of(DAY)}: plaza 1")]


def test_a_stream_stands_once_in_an_account(story: Log) -> None:
    """Of two lines for one stream and version, readers would take one or the other."""
    one = {"stream": "plaza/footfall", "policy": 1, "nodes": released(1)}
    story.policy(text(), None)
    assert story.spend(DAY, 1, streams=[one, {**one, "stream": "plaza/x", "policy": 0, "nodes": {}}]).found() == []
    assert story.spend(DAY + 1, 2, streams=[{**one, "nodes": released(9)}, one]).found() == [("entry", "4")]


@pytest.mark.parametrize("without", [[[0, 1]], [[2, 1]], [[4, 6]]])
def test_numbers_that_were_not_filed_are_numbers_that_were_given(story: Log, without: list[list[int]]) -> None:
    """From one up to the last of the account."""
    assert story.spend(DAY, 5, without=[[1, 1], [3, 5]]).found() == []
    assert story.spend(DAY + 1, 5, without=without).found() == [("entry", "3")]


def test_a_loosening_waits_to_the_end_of_the_day_of_its_notice(story: Log) -> None:
    """A day that is over when the notice is, had no figure after it; of the next day nobody can say."""
    published_s = END_S - decide.NOTICE_S
    story.policy(text(1), published_s - DAY_S).policy(text(2, "1.1"), published_s)
    rho = charge(story.read().versions["plaza", 2].plan, "plaza/footfall", "1h")
    assert rho is not None
    assert story.spend(DAY + 1, 1, released(1, rho), version=2).found() == []
    assert story.spend(DAY, 1, released(0, withheld=1), version=2).found()[1:] == []
    story.entries = story.entries[:3]
    assert story.spend(DAY, 1, released(1, rho), version=2).found() == [("policy_looser", f"plaza 2: {date_of(DAY)}")]


def test_before_the_log_knows_instants_nobody_knows_of_a_notice(story: Log) -> None:
    """A loosening without a date after a policy without one."""
    story.policy(text(1), None).policy(text(2, "1.1"), None)
    assert [one.notice_s for one in story.read().policies.values()] == [0, 0]


def test_the_notice_of_a_policy(story: Log) -> None:
    """None for the first and for a tightening; a week for a loosening, counted from its date or, without one, from what
    the log tells before it; whatever follows on one that waits, waits as long."""
    story.policy(text(1), END_S).policy(text(2, "0.9"), END_S + 10).policy(text(3, "1.1"), END_S + 20)
    story.policy(text(4, "1.0"), END_S + 30).policy(text(5, "1.2"), None)
    versions = story.read().versions
    notice_s = [versions["plaza", version].notice_s for version in range(1, 6)]
    week_s = 7 * DAY_S
    assert notice_s == [0, 0, END_S + 20 + week_s, END_S + 20 + week_s, END_S + 30 + week_s]
    assert [versions["plaza", version].before for version in (1, 3)] == [None, versions["plaza", 2].plan]


# --- what a gateway believes -----------------------------------------------------------------------------------------


def objections(story: Log, toml: bytes, keys: tuple[int, ...] = (0,)) -> list[str]:
    rho = charge(plan(parse(toml, "test")), "plaza/footfall", "1h")
    assert rho is not None
    story.policy(toml, None, keys).spend(DAY, 1, released(1, rho))
    return [kind for kind, _ in story.spend(DAY + 1, 2, released(1, rho)).found()]


def test_a_gateway_without_pins_is_judged_by_the_floor_alone() -> None:
    """Whoever signed the policy, were they stewards of another gateway of the site; and a policy at the floor is none
    above it. Each objection is told once, however many days use the policy."""
    for epsilon, found in (("1.0", []), ("20.0", ["policy_floor"])):
        story = Log().enrol(keys=(1,)).enrol("gw-2", keys=(0,), ceiling_rho_micro=0)
        assert objections(story, text(1, epsilon)) == found


def test_a_gateway_with_pins_is_judged_by_its_ceiling() -> None:
    """A policy at the ceiling is none above it; signatures that are too few for this gateway are not what it asks for
    here: the policy was opened by the stewards of a line of the site."""
    rho = HOUR_RHO
    for ceiling, found in ((rho, []), (rho - 1, ["policy_ceiling"])):
        assert objections(Log().enrol(ceiling_rho_micro=ceiling), text()) == found


def test_a_gateway_believes_no_policy_without_a_decision() -> None:
    """Whoever signed it."""
    undecided = text().replace(b'decision = "D"', b'decision = " "')
    assert objections(Log().enrol(ceiling_rho_micro=decide.FLOOR.rho_micro), undecided) == ["policy_undecided"]


@pytest.mark.parametrize(
    ("roles", "keys", "found"),
    [
        ((), (0,), []),
        (("steward", "dpo"), (0, 1), []),
        (("steward", "dpo"), (0,), ["policy_roles"]),
        (("steward", "dpo"), (1,), ["policy_roles"]),
        (("dpo", "dpo"), (0, 1), ["policy_roles"]),
    ],
)
def test_two_roles_sign_where_there_are_roles(roles: tuple[str, ...], keys: tuple[int, ...], found: list[str]) -> None:
    """Two, whatever the number of signatures; without roles that number alone counts."""
    told: dict[str, Any] = {"roles": list(roles)} if roles else {}
    story = Log().enrol(keys=(0, 1), ceiling_rho_micro=decide.FLOOR.rho_micro, **told)
    assert objections(story, text(), keys) == found


def test_without_roles_as_many_keys_sign_as_the_gateway_asks_for() -> None:
    """Two keys are two, though nobody says what role they have; of keys that are not its own none counts."""
    story = Log().enrol(keys=(1,), ceiling_rho_micro=decide.FLOOR.rho_micro).enrol("gw-2", keys=(0,))
    assert objections(story, text()) == ["policy_roles"]
    story = Log().enrol(keys=(0, 1), signatures_required=2, ceiling_rho_micro=decide.FLOOR.rho_micro)
    assert objections(story, text(), (0, 1)) == []


# --- annotations -----------------------------------------------------------------------------------------------------

BEGIN_S = DAY * DAY_S
MARK = Annotation("plaza", 1, END_S, "Bâche.", "plaza/footfall", BEGIN_S + 3600, BEGIN_S + 7200, "works")


def node(start_s: int, stream: str = "plaza/footfall") -> Node:
    return Node(stream, "footfall", "15min", start_s, start_s + 900, start_s, 20, 900_000, (0, 0), bytes(32))


def test_a_mark_is_of_the_nodes_that_share_a_moment_with_it(story: Log) -> None:
    """Of its stream: the first and the last quarter-hour of it, not those beside it."""
    book = story.note(MARK).read()
    assert book.report.findings == []
    found = [bool(book.faulty(node(BEGIN_S + at_s))) for at_s in (2700, 3600, 6300, 7200)]
    assert found == [False, True, True, False]
    assert book.faulty(node(BEGIN_S + 3600, "plaza/noise")) == ()


def test_a_mark_that_was_taken_back_or_not_signed_or_not_logged_is_none(story: Log) -> None:
    """And what is wrong with it is named."""
    at = node(BEGIN_S + 3600)
    assert story.note(MARK).note(Withdrawal("plaza", 2, END_S + 60, "Erreur.", 1)).read().faulty(at) == ()
    book = Log().enrol(ceiling_rho_micro=0).note(MARK, logged=False).read()
    assert ([(one.kind, one.where) for one in book.report.findings], book.faulty(at)) == (
        [("annotation_unlogged", "plaza 1")],
        (),
    )
    book = Log().enrol(keys=(1,), ceiling_rho_micro=0).note(MARK).read()
    assert ([(one.kind, one.where) for one in book.report.findings], book.faulty(at)) == (
        [("annotation_signature", "plaza 1")],
        (),
    )
    story = Log().enrol(ceiling_rho_micro=0).note(MARK)
    assert story.found(annotations=[b"x", *story.annotations]) == [("annotation_signature", "?")]
    assert story.found(annotations=[]) == [("annotation_missing", "plaza 1")]
    book = story.note(replace(MARK, number=2)).read(annotations=story.annotations[1:])
    assert [(one.kind, one.where) for one in book.report.findings] == [("annotation_missing", "plaza 1")]
    assert (book.report.annotations, len(book.faulty(at))) == (1, 1)


CELLS = {
    "site": "alley",
    "number": "9",
    "issued_utc": utc(BEGIN_S),
    "stream": "plaza/noise",
    "start_utc": utc(BEGIN_S),
    "end_utc": utc(END_S),
    "cause": "other",
    "withdraws": "3",
    "sentence_fr": "Rien.",
    "sentence_en": "Nothing.",
}


def in_a_table(story: Log, note: Note, **changes: str) -> Found:
    """What is found of a note whose row of the table has other cells."""
    story.note(note)
    signed = StoredAnnotation(note, story.annotations[-1], 1)
    marks = [note] if isinstance(note, Annotation) else []
    row = next(csv.DictReader(io.StringIO(opendata.faults([signed], marks).decode(), newline=""))) | changes
    text = io.StringIO()
    csv.writer(text).writerows([row.keys(), row.values()])
    return story.found(read={opendata.ANNOTATIONS: text.getvalue().encode()}.get)


WITHDRAWAL = Withdrawal("plaza", 2, END_S + 60, "Erreur.", 1)


@pytest.mark.parametrize("note", [MARK, replace(MARK, sentence_en="Cover, torn."), WITHDRAWAL])
def test_the_table_of_annotations_of_the_pages_is_right(note: Note) -> None:
    """Also where it says less, or something else than what was signed."""
    assert in_a_table(Log().enrol(ceiling_rho_micro=0), note) == []
    assert in_a_table(Log().enrol(ceiling_rho_micro=0), note, in_force="", other="x") == []


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("note", [MARK, WITHDRAWAL])
def test_the_table_of_annotations_says_what_was_signed(note: Note, name: str) -> None:
    """Who reads the table reads its words, not the signed bytes beside them."""
    found = [("annotation_signature", f"annotations.csv: plaza {note.number}")]
    assert in_a_table(Log().enrol(ceiling_rho_micro=0), note, **{name: CELLS[name]}) == found
    assert in_a_table(Log().enrol(ceiling_rho_micro=0), note, **{name: CELLS[name], "cose_base64": "AAAA"}) == []


# --- days ------------------------------------------------------------------------------------------------------------


def test_nodes_end_on_the_day_of_their_end() -> None:
    """At midnight of UTC the day that is over has them; a week of Paris ends on a Sunday, an hour before."""
    made = plan(parse(text(), "test"))
    hours = ends_on(made, "1h", DAY)
    assert hours == tuple(BEGIN_S + hour * 3600 for hour in range(1, 25))
    assert len(ends_on(made, "15min", DAY)) == 96
    assert ends_on(made, "1d", DAY) == (END_S - 3600,)
    weeks = [ends_on(made, "1w", day) for day in (DAY - 1, DAY, DAY + 6)]
    assert weeks == [(BEGIN_S - 3600,), (), (END_S + 6 * DAY_S - 3600,)]
    assert (charge(made, "plaza/footfall", "1h"), charge(made, "plaza/footfall", "1d")) == (HOUR_RHO, None)
    assert charge(made, "plaza/x", "1h") is None


def test_weeks_of_any_stream_count() -> None:
    """One policy with nodes of a week is enough."""
    weeks = text(2, "0.5").replace(b'"1h" = 1', b'"1h" = 1, "1w" = 1')
    story = Log().enrol(ceiling_rho_micro=0).policy(text(), None)
    assert not story.read().has_weeks() and story.policy(weeks, None).read().has_weeks()
