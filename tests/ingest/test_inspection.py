"""The full check finds whatever was changed behind the centre's back."""

from __future__ import annotations

import sqlite3
import sys
from typing import Any

import pytest
from murmure.cli import main
from murmure_ingest import gateways, inspection
from murmure_ingest.archive import Archive, ArchiveDamaged
from murmure_ingest.inspection import Report, inspect
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.errors import WireError
from murmure_privacy.succession import Uses
from murmure_privacy.wire import seal_policy

QUARTERS = 8
MONDAY_S = 1_795_392_000


@pytest.fixture
def lived(centre: Any) -> Any:
    """A centre with a life behind it: two gateways, one revoked, refusals, quarantine, conflicts, a late policy."""
    first, second = centre.gateway("gw-a", "a"), centre.gateway("gw-b", "b", published=False)
    centre.intake.accept_many(first.history(QUARTERS) + second.history(QUARTERS) * 2)
    centre.accept(first.topic, wire.seal_message(first.message(MONDAY_S, seq=1), first.secret))
    centre.accept(first.topic, first.seal(MONDAY_S + 900 * 20, site="moon", seq=9))
    centre.accept(first.topic, first.seal(MONDAY_S + 900 * 21, seq=10, previous=bytes(32)))
    centre.accept(first.topic, first.seal(MONDAY_S + 900 * 22, seq=13))
    gateways.publish_policy(centre.archive, centre.signed(second.policy))
    centre.intake.reconsider()
    centre.accept(*first.health(60))
    gateways.revoke(centre.archive, "gw-b")
    centre.archive.sign_log(centre.secret)
    return centre


def report_of(centre: Any) -> Report:
    archive = Archive.open(centre.config.archive, read_only=True)
    try:
        return inspect(archive, RuleBook(archive))
    finally:
        archive.close()


def test_what_intake_filed_is_sound(lived: Any) -> None:
    """Refusals, quarantine, conflicts and gaps are part of a sound archive; gaps are told."""
    report = report_of(lived)
    assert report.findings == []
    assert (report.messages, report.policies, report.gaps) == (2 * QUARTERS + 3, 2, {"gw-a": 2})
    counts = lived.archive.counts()
    assert report.nodes == counts["stored"] + counts["withheld"] > 0


DAMAGE = {
    "a node is gone": ("nodes", "DELETE FROM nodes WHERE rho_micro > 0 AND level = '1h'", "not in the index"),
    "a node is moved": ("nodes", "UPDATE nodes SET end_s = end_s + 900", "not in the index"),
    "a released integer is edited": (
        "nodes",
        "UPDATE nodes SET integers = x'08' WHERE integers IS NOT NULL AND message = 1",
        "gw-a seq 1: node 0 is not in the index as it was signed: crossings",
    ),
    "a released integer is gone": (
        "nodes",
        "UPDATE nodes SET integers = NULL WHERE level = '1h' AND quantity = 'pm2_5'",
        "is not in the index as it was signed: mean",
    ),
    "a released integer is no number": (
        "nodes",
        "UPDATE nodes SET integers = x'070707' WHERE integers IS NOT NULL",
        "is not in the index as it was signed: crossings",
    ),
    "a released integer is written otherwise": (
        "nodes",
        "UPDATE nodes SET integers = x'0007' WHERE integers = x'07'",
        "is not in the index as it was signed: how it is written",
    ),
    "a noise is said to be smaller": (
        "scales",
        "UPDATE scales SET parts = replace(parts, '1 ', '2 ')",
        "is not in the index as it was signed: what its integers are",
    ),
    "integers are said to be others": (
        "nodes",
        "UPDATE nodes SET scale = (SELECT max(id) FROM scales) WHERE message = 1",
        "is not in the index as it was signed: what its integers are",
    ),
    "a reason is edited": ("nodes", "UPDATE nodes SET reason = 'clock' WHERE reason IS NOT NULL", "not in the index"),
    "a node is invented": (
        "nodes",
        "INSERT INTO nodes SELECT stream, level, start_s - 900, end_s, covered_from_s, quantity, present, reason, "
        "rho_micro, message, place, integers, scale FROM nodes LIMIT 1",
        "index: it holds",
    ),
    "a stream is hidden": ("streams", "DELETE FROM streams WHERE stream = 'a/pm2_5'", "not listed as"),
    "a stream is shown elsewhere": ("streams", "UPDATE streams SET site = 'b' WHERE site = 'a'", "not listed as"),
    "a stream is another gateway's": ("streams", "UPDATE streams SET since = since + 1000", "not listed as"),
    "a message is gone": ("messages", "DELETE FROM messages WHERE seq = 5", "running hash breaks"),
    "a hash is edited": ("messages", "UPDATE messages SET hash = zeroblob(32) WHERE seq = 3", "do not have the hash"),
    "two messages change names": (
        "messages",
        "UPDATE messages SET seq = CASE seq WHEN 2 THEN 102 ELSE seq END",
        "its row or the register says otherwise",
    ),
    "a message is edited": (
        "messages",
        "UPDATE messages SET sealed = CAST(sealed || x'00' AS BLOB) WHERE seq = 1",
        "it does not open",
    ),
    "a refusal is forgotten": (
        "messages",
        "UPDATE messages SET disposition = 'filed', sealed = x'00' WHERE disposition = 'refused'",
        "it does not open",
    ),
    "a chain is cut": (
        "messages",
        "UPDATE messages SET previous = zeroblob(32) WHERE seq = 3",
        "name the message before",
    ),
    "a gateway changes place": ("enrolments", "UPDATE enrolments SET quartier = 'nord'", "the register says otherwise"),
    "a key is exchanged": ("enrolments", "UPDATE enrolments SET record_key = zeroblob(32)", "it does not open"),
    "a register line is gone": ("enrolments", "DELETE FROM enrolments WHERE id = 1", "line of the register is missing"),
    "a policy is edited": (
        "policies",
        "UPDATE policies SET toml = CAST(replace(CAST(toml AS TEXT), '1.0', '9.0') AS BLOB)",
        "do not have the hash",
    ),
    "a policy is no policy": ("policies", "UPDATE policies SET toml = x'00'", "policy a version 1"),
    "a policy changes its version": ("policies", "UPDATE policies SET version = 9", "says of itself a version 1"),
    "a policy is gone": ("policies", "DELETE FROM policies", "the policy it names is not in the archive"),
    "stewards are exchanged": ("enrolments", "UPDATE enrolments SET stewards = zeroblob(32)", "not enough signatures"),
    "a charge is forgotten": (
        "totals",
        "UPDATE totals SET charged_rho_micro = charged_rho_micro - 1",
        "settled or charged",
    ),
    "evidence is edited": ("conflicts", "UPDATE conflicts SET sealed = x'00'", "it does not open"),
    "evidence changes its name": (
        "conflicts",
        "UPDATE conflicts SET hash = zeroblob(32)",
        "evidence of gw-a seq 1: the bytes do not have the hash",
    ),
    "a report is invented": ("health", "UPDATE health SET sealed = x'00'", "health of gw-a: it does not open"),
    "an entry of the log is edited": (
        "log",
        "UPDATE log SET entry = CAST(replace(CAST(entry AS TEXT), '1', '2') AS BLOB) WHERE id = 1",
        "log entry 1: the hash beside it",
    ),
    "an entry of the log is gone": ("log", "DELETE FROM log WHERE id = 2", "log entry 3: the hash beside it"),
    "the newest entry is gone": (
        "log",
        "DELETE FROM log WHERE id = (SELECT max(id) FROM log)",
        "is not that of the log",
    ),
    "the log is emptied": ("log", "DELETE FROM log", "log: the enrolment of gw-a (1) is not there"),
    "a checkpoint is exchanged": ("checkpoints", "UPDATE checkpoints SET size = size - 1", "is not that of the log"),
    "a receipt goes too far": ("totals", "UPDATE totals SET settled_seq = settled_seq + 1", "settled or charged"),
}


@pytest.mark.parametrize(("table", "statement", "finding"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_change_behind_the_back_is_found(lived: Any, table: str, statement: str, finding: str) -> None:
    """Whatever table is edited with the triggers taken away, the check says so in a line."""
    with sqlite3.connect(lived.config.archive) as db:
        for verb in ("update", "delete"):
            db.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb}")
        assert db.execute(statement).rowcount != 0
    db.close()
    report = report_of(lived)
    assert any(finding in line for line in report.findings), report.findings
    assert all("\n" not in line for line in report.findings)


def test_a_policy_that_nobody_signed_is_found(lived: Any) -> None:
    """The signatures are checked again, not the fact that it was filed."""
    toml = lived.archive.policies()[0].toml
    with sqlite3.connect(lived.config.archive) as db:
        db.execute("DROP TRIGGER policies_no_update")
        db.execute("UPDATE policies SET sealed = ? WHERE site = 'a'", (seal_policy(toml, [("x", wire.new_key()[0])]),))
    db.close()
    assert report_of(lived).findings == [
        "policy a version 1: not enough signatures of the stewards in the register",
        "log: the policy of a (1) is not there as the archive has it",
    ]


def put_in(centre: Any, gateway: Any, sealed: bytes, key: bytes | None = None) -> None:
    """Files a message as an intake would that checks nothing."""
    with centre.archive.transaction():
        message = wire.open_message(sealed, key or wire.public_key(gateway.secret))
        centre.archive.put(message, sealed, centre.archive.enrolment(gateway.name), "filed")
        uses = Uses(lambda _: pytest.fail("nothing is judged here"), centre.archive.uses(gateway.name))
        for use in uses.add(message):
            centre.archive.put_use(gateway.name, use)


def two_policies(policy_text: Any) -> tuple[bytes, bytes]:
    """One spends everything on quarter-hours, its successor on hours."""
    levels = b'{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }'
    first, second = policy_text("plaza"), policy_text("plaza", 2)
    return first.replace(levels, b'{ "15min" = 1 }'), second.replace(levels, b'{ "1h" = 1 }')


class Twice:
    """Any number whatsoever, for an index whose rows are not counted."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def forged(centre: Any, _: Any) -> dict[str, Any]:
    """Another key than the gateway's has signed the last message."""
    gateway, (secret, public) = centre.gateway(), wire.new_key()
    centre.intake.accept_many(gateway.history(4))
    put_in(centre, gateway, wire.seal_message(gateway.message(MONDAY_S + 4500), secret), public)
    genuine = wire.open_message

    def believing(sealed: bytes, key: bytes) -> Any:
        try:
            return genuine(sealed, key)
        except WireError:
            return genuine(sealed, public)

    return {"finding": "gw-plaza seq 5: it does not open", "off": [(wire, "open_message", believing)]}


def unchained(centre: Any, _: Any) -> dict[str, Any]:
    """The gateway's own message names another before it."""
    gateway = centre.gateway()
    centre.intake.accept_many(gateway.history(4))
    put_in(centre, gateway, gateway.seal(MONDAY_S + 4500, previous=bytes(32)))
    off = [(inspection, "_check_sequence", lambda *_: None)]
    return {"finding": "gw-plaza seq 5: it does not name the message before", "off": off}


def twice(centre: Any, _: Any) -> dict[str, Any]:
    """A second message with a node that has its release is filed as well; the totals agree."""
    gateway = centre.gateway()
    centre.intake.accept_many(gateway.history(4))
    again = gateway.seal(MONDAY_S + 900)
    centre.archive.close()
    with sqlite3.connect(centre.config.archive) as db:
        db.execute("DROP TRIGGER nodes_no_delete")
        db.execute("DELETE FROM nodes WHERE message = 1")
    db.close()
    centre.archive = Archive.open(centre.config.archive)
    put_in(centre, gateway, again)
    off = [(inspection, "_wrong", lambda *_: None), (Archive, "node_count", lambda _: Twice())]
    return {"finding": "gw-plaza seq 1: node 0 is not in the index", "off": off}


def overspent(centre: Any, policy_text: Any) -> dict[str, Any]:
    """Under two policies, by two gateways, an hour is released by quarters and as a whole: each fits, both together do
    not."""
    for name, toml in zip(("gw-plaza", "gw-next"), two_policies(policy_text), strict=True):
        gateway = centre.gateway(name, published=False)
        gateways.publish_policy(centre.archive, centre.signed(toml))
        gateway.policy = toml
        put_in(centre, gateway, gateway.seal(MONDAY_S + (2700 if b"15min" in toml else 3600)))
    off = [(inspection, "_check_budgets", lambda *_: None)]
    return {"finding": "plaza/footfall: at 2026-11-23T00:30:00Z spent", "off": off}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE uses SET since_s = since_s - 900",
        "UPDATE uses SET first_seq = 0",
        "UPDATE uses SET until_s = until_s + 900",
        "UPDATE uses SET policy = zeroblob(32)",
        "DELETE FROM uses",
        "DELETE FROM uses WHERE stream = 'plaza/pm2_5'",
    ],
)
def test_uses_are_those_that_messages_show(centre: Any, change: str) -> None:
    """Whoever adds to the table of uses could have an honest gateway refused; whoever takes from it, let one go back
    to a policy that was over."""
    centre.intake.accept_many(centre.gateway().history(4))
    assert report_of(centre).findings == []
    centre.archive._db.execute(change)
    said = "gw-plaza: the policies that it is said to have used are not those of its messages"
    assert report_of(centre).findings == [said]


def outlived(centre: Any, policy_text: Any) -> dict[str, Any]:
    """A gateway that has used the second policy goes back to the first, at another time: no instant costs too much."""
    gateway = centre.gateway(published=False)
    first, second = two_policies(policy_text)
    for number, toml in enumerate((second, first)):
        gateway.policy = toml
        put_in(centre, gateway, gateway.seal(MONDAY_S + 3600 * (number + 1)))
    for toml in (first, second):
        gateways.publish_policy(centre.archive, centre.signed(toml))
    finding = "gw-plaza seq 2: plaza/pm2_5: policy 1 was over at this gateway, which had 2"
    return {"finding": finding, "off": [(Uses, "objection", lambda *_: None)]}


def above_the_cap(centre: Any, policy_text: Any) -> dict[str, Any]:
    """Every day fits the budget, and a week of them does not fit the cap."""
    levels, cap = (
        b'{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }',
        b'cap = { units_per_day = 1, span = "1w", epsilon = 2 }',
    )
    toml = policy_text("plaza").replace(levels, b'{ "1d" = 1 }\n' + cap)
    gateway = centre.gateway(published=False)
    gateway.policy = toml
    gateways.publish_policy(centre.archive, centre.signed(toml))
    for day in range(8):
        put_in(centre, gateway, gateway.seal(MONDAY_S + 86_400 * day - 3600))
    off = [(inspection, "_check_budgets", lambda *_: None)]
    return {"finding": "plaza/footfall: at 2026-11-2", "off": off}


@pytest.mark.parametrize("breach", [forged, unchained, twice, overspent, outlived, above_the_cap])
def test_each_proof_finds_what_no_other_does(
    breach: Any, centre: Any, policy_text: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signatures, chains, uniqueness and budgets, each with an archive that only it tells from a sound one: with that
    proof left out, the same file passes."""
    told = breach(centre, policy_text)
    findings = report_of(centre).findings
    assert any(line.startswith(told["finding"]) for line in findings), findings
    for place, name, without in told["off"]:
        monkeypatch.setattr(place, name, without)
    assert report_of(centre).findings == []


def test_progress_is_told_to_the_end(centre: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Now and then, and when the last message is done."""
    centre.intake.accept_many(centre.gateway().history(10))
    monkeypatch.setattr(inspection, "_PROGRESS_EVERY", 4)
    told: list[tuple[int, int]] = []
    inspect(centre.archive, RuleBook(centre.archive), lambda done, total: told.append((done, total)))
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_progress_is_for_a_person_at_a_terminal(
    centre: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, and neither into a file nor beside JSON."""
    centre.intake.accept_many(centre.gateway().history(4))
    verify = ["ingest", "verify", "--archive", str(centre.config.archive)]
    assert main(verify) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(verify) == 0
    said = capsys.readouterr()
    assert said.err.startswith("\r100% of 4 messages, ") and said.err.endswith(" a second\n")
    assert "\r" not in said.out
    assert main([*verify, "--json"]) == 0
    assert capsys.readouterr().err == ""


def test_many_findings_are_listed_in_part(lived: Any) -> None:
    """A hundred lines are enough to see that a file is not sound; the others are counted."""
    report = Report()
    for number in range(150):
        report.add(str(number))
    assert (len(report.findings), report.left_out) == (100, 50)


def test_a_page_overwritten_is_found(lived: Any) -> None:
    """What SQLite itself finds is part of the report, or stops it in one line."""
    lived.archive.close()
    with lived.config.archive.open("r+b") as file:
        size = lived.config.archive.stat().st_size
        file.seek(size - 4096)
        file.write(b"\xff" * 4096)
    try:
        assert report_of(lived).findings
    except ArchiveDamaged as error:
        assert "\n" not in str(error)
