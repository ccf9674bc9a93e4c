"""`murmure edge ledger` tells what was charged, while `sense` runs, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from murmure_edge import ledger_view
from murmure_edge.gateway_db import GatewayDb, Told
from murmure_edge.publisher import Identity, Publisher
from murmure_privacy.errors import ConfigError, LedgerDamaged, MurmureError
from murmure_privacy.plan import plan
from murmure_privacy.policy import Policy
from murmure_privacy.release import Message, Withheld
from murmure_privacy.window import parse_utc

NODES = '{ "15min" = 1, "1h" = 1 }'
MIDNIGHT_S = parse_utc("2026-01-14T23:00:00Z")


@pytest.fixture
def charged(enrolled: Any, exact: Any, make_policy: Callable[..., Policy], gateway_secret: bytes) -> GatewayDb:
    """An hour with readings and one without, in a file that is still open."""
    db = GatewayDb.open(enrolled.folder / "data" / "gateway.db")
    who = Identity("gw-plaza", "centre", "plaza", gateway_secret)
    publisher = Publisher(db, who, exact, lambda *_: None, lambda _: None)
    publisher.start(MIDNIGHT_S)
    publisher.adopt(make_policy(nodes=NODES), MIDNIGHT_S)
    publisher.add("plaza/dust", [((MIDNIGHT_S + at_s) * 1000, 200) for at_s in range(0, 3600, 900)])
    publisher.advance(MIDNIGHT_S + 2 * 3600)
    return db


def test_people_read_each_line_and_the_largest_spend(
    enrolled: Any, charged: GatewayDb, make_policy: Callable[..., Policy], capsys: pytest.CaptureFixture[str]
) -> None:
    """When, what, how much; a withheld node with its reason; at last the sum that any instant has."""
    assert ledger_view.show(enrolled.file, as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    whole = plan(make_policy(nodes=NODES)).streams["plaza/dust"]
    quarter, hour = (part.rho_micro for part in whole.nodes)
    assert lines[0] == f"2026-01-14T23:00:00Z to 2026-01-14T23:15:00Z  15min  plaza/dust  {quarter:>7} micro-rho"
    assert lines[4] == f"2026-01-14T23:00:00Z to 2026-01-15T00:00:00Z     1h  plaza/dust  {hour:>7} micro-rho"
    assert lines[-2].endswith("1h  plaza/dust  withheld: sensor_absent")
    assert lines[-1] == f"plaza/dust: at most {quarter + hour} micro-rho spent at any instant"
    assert quarter + hour <= whole.rho_micro
    charged.close()


def test_programs_read_one_object_a_line(
    enrolled: Any, charged: GatewayDb, make_policy: Callable[..., Policy], capsys: pytest.CaptureFixture[str]
) -> None:
    """Released and withheld, with the policy under which each was."""
    assert ledger_view.show(enrolled.file, as_json=True) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["line"] for line in lines] == list(range(1, 11))
    assert lines[4] == {
        "line": 5,
        "stream": "plaza/dust",
        "node": "1h",
        "start": "2026-01-14T23:00:00Z",
        "end": "2026-01-15T00:00:00Z",
        "covered": ["2026-01-14T23:00:00Z", "2026-01-15T00:00:00Z"],
        "rho_micro": lines[4]["rho_micro"],
        "status": "released",
        "reason": None,
        "policy": f"sha256:{make_policy(nodes=NODES).hash.hex()}",
    }
    assert (lines[9]["status"], lines[9]["reason"], lines[9]["rho_micro"]) == ("withheld", "sensor_absent", 0)
    charged.close()


def test_it_only_reads(enrolled: Any, charged: GatewayDb) -> None:
    """Not a byte of the file changes."""
    charged.close()
    file: Path = enrolled.folder / "data" / "gateway.db"
    before = file.read_bytes()
    ledger_view.show(enrolled.file, as_json=True)
    assert file.read_bytes() == before


def test_without_a_ledger_one_line_says_what_to_do(enrolled: Any) -> None:
    """No file is made by looking for it."""
    with pytest.raises(MurmureError, match=r"gateway\.db: cannot be read: .*; run it as sense's user, after a first"):
        ledger_view.show(enrolled.file, as_json=False)
    assert not (enrolled.folder / "data" / "gateway.db").exists()


def test_a_damaged_ledger_is_told_as_such(enrolled: Any, charged: GatewayDb) -> None:
    """Nothing is listed that may be wrong."""
    charged._db.executescript("DROP TRIGGER charges_stay; UPDATE charges SET rho_micro = 1 WHERE line = 2")
    charged.close()
    with pytest.raises(LedgerDamaged, match="line 2: does not follow"):
        ledger_view.show(enrolled.file, as_json=False)


def test_a_folder_with_signs_in_its_name_is_found(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str], enrolled: Any, charged: GatewayDb
) -> None:
    """`?`, `#` and `%` mean something in an address and nothing in a path."""
    charged.close()
    odd = tmp_path_factory.mktemp("odd") / "a?b#c%20d é"
    enrolled.folder.rename(odd)
    assert ledger_view.show(odd / "gateway.toml", as_json=True) == 0
    assert len(capsys.readouterr().out.splitlines()) == 10


# --- at an instant ---------------------------------------------------------------------------------------------------


def at(enrolled: Any, time: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert ledger_view.show_at(enrolled.file, time, as_json=True) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_spent_and_left_at_an_instant_add_up_to_the_budget(
    enrolled: Any, charged: GatewayDb, make_policy: Callable[..., Policy], capsys: pytest.CaptureFixture[str]
) -> None:
    """Spent is the sum of the charged nodes that contain the instant; half-open, so that the end is the next one's."""
    policy = make_policy(nodes=NODES)
    whole = plan(policy).streams["plaza/dust"]
    quarter, hour = (part.rho_micro for part in whole.nodes)
    for time, spent in (
        ("2026-01-14T22:59:59Z", None),
        ("2026-01-14T23:00:00Z", quarter + hour),
        ("2026-01-14T23:59:59Z", quarter + hour),
        ("2026-01-15T00:00:00Z", 0),
        ("2026-01-15T02:00:00Z", 0),
    ):
        document = at(enrolled, time, capsys)
        (stream,) = document["streams"]
        if spent is None:
            assert stream == {"stream": "plaza/dust", "spent_rho_micro": 0, "left_rho_micro": 0, "policy": None}
            continue
        assert (document["at"], stream["stream"], stream["policy"]) == (
            time,
            "plaza/dust",
            f"sha256:{policy.hash.hex()}",
        )
        assert (stream["spent_rho_micro"], stream["left_rho_micro"]) == (spent, whole.rho_micro - spent)
        assert document["site"] == {"spent_rho_micro": spent, "left_rho_micro": whole.rho_micro - spent}
        assert stream["rho_micro"] == whole.rho_micro and stream["spent_epsilon"] <= stream["epsilon"] == 1
        assert bool(stream["spent_epsilon"]) == bool(spent)
    charged.close()


def test_what_is_left_is_that_of_the_policy_in_force_there(
    enrolled: Any, charged: GatewayDb, make_policy: Callable[..., Policy], capsys: pytest.CaptureFixture[str]
) -> None:
    """A newer policy holds from where no node is open, and each instant is held against its own."""
    newer = make_policy(2, nodes=NODES, epsilon="0.5")
    charged.store_policy(2, MIDNIGHT_S + 2 * 3600 + 60, newer.text)
    tonight = plan(newer).streams["plaza/dust"].rho_micro
    assert at(enrolled, "2026-01-15T01:10:00Z", capsys)["streams"][0]["rho_micro"] > tonight
    assert at(enrolled, "2026-01-16T12:00:00Z", capsys)["streams"][0]["left_rho_micro"] == tonight
    charged.close()


@pytest.mark.parametrize(("time", "withheld"), [("2026-12-31T22:59:59Z", None), ("2026-12-31T23:00:00Z", "expired")])
def test_nothing_is_left_after_the_last_day(
    enrolled: Any,
    charged: GatewayDb,
    make_policy: Callable[..., Policy],
    capsys: pytest.CaptureFixture[str],
    time: str,
    withheld: str | None,
) -> None:
    """After a policy's last day nothing more would be published: its budget is not told as left."""
    charged.close()
    (stream,) = at(enrolled, time, capsys)["streams"]
    whole = plan(make_policy(nodes=NODES)).streams["plaza/dust"].rho_micro
    assert (stream["withheld"], stream["left_rho_micro"]) == (withheld, 0 if withheld else whole)
    assert ledger_view.show_at(enrolled.file, time, as_json=False) == 0
    assert ("nothing more is published" in capsys.readouterr().out) == (withheld is not None)


@pytest.mark.parametrize(
    ("later", "told", "withheld"),
    [
        ({"epsilon": "2.0"}, 0, None),
        ({"epsilon": "2.0"}, 3, "no_policy"),
        ({"epsilon": "0.5"}, 0, "paused"),
        ({"extra": "paused = true"}, 0, "paused"),
        ({"in_stream": "paused = true"}, 0, "paused"),
        ({"streams": ("steps",)}, 0, "no_policy"),
        ({"version": 3, "epsilon": "2.0"}, 0, "no_policy"),
    ],
)
def test_nothing_is_left_where_a_newer_policy_holds_it_back(
    enrolled: Any,
    charged: GatewayDb,
    make_policy: Callable[..., Policy],
    capsys: pytest.CaptureFixture[str],
    later: dict[str, Any],
    told: int,
    withheld: str | None,
) -> None:
    """A pause, a stream that is dropped, better protection, a version that was never seen or is awaited: until the
    newer policy takes over, what the gateway would withhold is not told as left."""
    newer = make_policy(**{"version": 2, "nodes": NODES, **later})
    charged.store_policy(newer.version, MIDNIGHT_S + 2 * 3600 + 60, newer.text)
    if told:
        charged.remember(Told(told, None))
    streams = {entry["stream"]: entry for entry in at(enrolled, "2026-01-15T02:10:00Z", capsys)["streams"]}
    stream = streams["plaza/dust"]
    whole = plan(make_policy(nodes=NODES)).streams["plaza/dust"].rho_micro
    assert (stream["withheld"], stream["left_rho_micro"]) == (withheld, 0 if withheld else whole)
    charged.close()


def test_nothing_is_left_on_a_day_that_the_cap_closes(
    enrolled: Any,
    exact: Any,
    make_policy: Callable[..., Policy],
    gateway_secret: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A day that the gate would withhold for the cap has nothing left; the days before it were told by their spend."""
    policy = make_policy(nodes=NODES, in_stream='cap = { units_per_day = 1, span = "1w", epsilon = 1.45 }')
    whole = plan(policy).streams["plaza/dust"]
    assert whole.cap_rho_micro is not None and 2 * whole.rho_micro > whole.cap_rho_micro
    db = GatewayDb.open(enrolled.folder / "data" / "gateway.db")
    messages: list[Message] = []
    publisher = Publisher(
        db,
        Identity("gw-plaza", "centre", "plaza", gateway_secret),
        exact,
        lambda message, _: messages.append(message),
        lambda _: None,
    )
    publisher.start(MIDNIGHT_S)
    publisher.adopt(policy, MIDNIGHT_S)
    every_quarter = range(0, 26 * 3600, 900)
    publisher.add("plaza/dust", [((MIDNIGHT_S + at_s) * 1000, 200) for at_s in every_quarter])
    publisher.advance(MIDNIGHT_S + 26 * 3600)
    db.close()
    reasons = {
        outcome.reason if isinstance(outcome, Withheld) else None
        for message in messages
        for outcome in message.outcomes
        if outcome.node.start_s >= MIDNIGHT_S + 24 * 3600
    }
    assert reasons == {"cap"}
    (first,) = at(enrolled, "2026-01-15T22:59:59Z", capsys)["streams"]
    assert (first["withheld"], first["left_rho_micro"]) == (None, whole.rho_micro - first["spent_rho_micro"])
    (second,) = at(enrolled, "2026-01-15T23:00:00Z", capsys)["streams"]
    assert (second["withheld"], second["left_rho_micro"], second["spent_rho_micro"]) == ("cap", 0, 0)


def test_people_read_what_is_left_in_one_line_a_stream(
    enrolled: Any, charged: GatewayDb, make_policy: Callable[..., Policy], capsys: pytest.CaptureFixture[str]
) -> None:
    """Micro-rho and epsilon, with its delta; and the sum for the site."""
    whole = plan(make_policy(nodes=NODES)).streams["plaza/dust"]
    spent = sum(part.rho_micro for part in whole.nodes)
    assert ledger_view.show_at(enrolled.file, "2026-01-14T23:30:00Z", as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    left = whole.rho_micro - spent
    assert lines[0].startswith(
        f"plaza/dust: {spent} of {whole.rho_micro} micro-rho spent at 2026-01-14T23:30:00Z, {left} left; epsilon "
    )
    assert lines[0].endswith(" of 1, delta 1e-06")
    assert lines[1] == f"all streams together: {spent} micro-rho spent, {left} left"
    assert ledger_view.show_at(enrolled.file, "2020-01-01T00:00:00Z", as_json=False) == 0
    before = capsys.readouterr().out.splitlines()
    assert before[0] == "plaza/dust: under no policy at 2020-01-01T00:00:00Z; 0 micro-rho spent"
    charged.close()


@pytest.mark.parametrize("time", ["yesterday", "2026-01-14", "2026-01-14T23:30:00", "2026-01-14T23:30:00+01:00", "Z"])
def test_an_instant_that_is_none_is_refused(enrolled: Any, charged: GatewayDb, time: str) -> None:
    """One line with the form to write."""
    with pytest.raises(ConfigError, match=r"--at: .*: is no instant; write it in UTC, as 2026-11-21T14:00:00Z"):
        ledger_view.show_at(enrolled.file, time, as_json=True)
    charged.close()
