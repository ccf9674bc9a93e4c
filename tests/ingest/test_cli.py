"""The centre's commands as an operator types them, in processes of their own where it matters."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from murmure.cli import main
from murmure_ingest import cli, gateways
from murmure_ingest.gateways import publish_policy
from murmure_privacy import wire

MONDAY_S, DAY_S = 1_795_392_000, 86_400
Murmure = Callable[..., tuple[int, str, str]]


@pytest.fixture
def murmure(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Murmure:
    """Runs one command in the test's folder: (exit status, stdout, stderr)."""
    monkeypatch.setenv("LC_ALL", "en_GB.UTF-8")
    monkeypatch.chdir(tmp_path)
    Path("ingest.toml").write_text('data_dir = "centre"\n')

    def run(line: str) -> tuple[int, str, str]:
        status = main(line.split())
        return status, *capsys.readouterr()

    return run


def test_a_policy_goes_from_key_to_publication(murmure: Murmure, policy_text: Any) -> None:
    """key, enrol, sign, sign, publish: the README's path, with nothing but commands."""
    Path("plaza.toml").write_bytes(policy_text("plaza"))
    for name in ("a", "b"):
        status, public, _ = murmure(f"policy key --out {name}.key")
        assert (status, public) == (0, Path(f"{name}.key.pub").read_text())
    enrol = "gateway enrol --gateway gw-plaza --site plaza --quartier centre --steward a.key.pub --steward b.key.pub"
    port = "--port name=beam,device=tfluna,path=/dev/ttyUSB0,footfall=plaza/footfall"
    status, said, _ = murmure(f"{enrol} --signatures 2 --local plaza {port}")
    assert (status, "murmure edge run --config plaza/gateway.toml" in said) == (0, True)
    assert murmure("policy sign plaza.toml --key a.key --out plaza.cose")[0] == 0
    status, _, error = murmure("policy publish plaza.cose")
    assert (status, error.count("\n"), "1 of the 2 signatures" in error) == (1, 1, True)
    assert murmure("policy sign plaza.toml --key b.key --out plaza.cose")[0] == 0
    status, said, _ = murmure("policy publish plaza.cose")
    digest = wire.digest(policy_text("plaza")).hex()
    assert (status, said) == (0, f"version 1 of plaza is published: sha256:{digest}\n")
    status, said, _ = murmure(
        "gateway enrol --local two --gateway gw-two --site plaza --quartier centre --steward a.key.pub "
        "--policy plaza.cose --simulated"
    )
    assert status == 0
    assert "simulated = true" in Path("two/trust.toml").read_text()


@pytest.mark.parametrize(("site", "later_s", "status"), [("plaza", 0, 1), ("gare", 0, 0), ("plaza", 380 * DAY_S, 0)])
def test_a_gateway_that_knows_nothing_of_what_was_spent_is_not_made(
    murmure: Murmure, centre: Any, monkeypatch: pytest.MonkeyPatch, site: str, later_s: int, status: int
) -> None:
    """`--local` begins with an empty ledger: only where no cap can still count anything. Nothing is registered else."""
    gateway = centre.gateway()
    centre.intake.accept_many(gateway.history(3))
    gateways.revoke(centre.archive, gateway.name)
    now = datetime.fromtimestamp(MONDAY_S + DAY_S + later_s, UTC)
    monkeypatch.setattr("murmure_ingest.enrolment.utc_now", lambda: now)
    steward = centre.steward[1].hex()
    line = f"gateway enrol --local new --gateway gw-new --site {site} --quartier centre --steward {steward}"
    found, _, error = murmure(line)
    assert found == status
    assert [centre.archive.enrolment("gw-new") is None, not Path("new").exists()] == [status == 1] * 2
    if status:
        assert error.startswith("murmure: site plaza: ") and error.count("\n") == 1 and "leave --local out" in error


def test_the_register_is_listed(murmure: Murmure, centre: Any) -> None:
    """As lines for people and as one JSON document; an empty register says what to do."""
    status, said, _ = murmure("gateway list")
    assert (status, "murmure gateway enrol" in said) == (0, True)
    gateway = centre.gateway()
    centre.intake.accept_many([*gateway.history(3), gateway.health(60)])
    line = "gw-plaza  centre/plaza  active  settled to 3  heard 2026-11-23T00:00:00Z  one signature loosens\n"
    assert murmure("gateway list")[1] == line
    centre.accept(gateway.topic, wire.seal_message(gateway.message(MONDAY_S, seq=3), gateway.secret))
    assert "gw-plaza  centre/plaza  quarantined  settled to 3" in murmure("gateway list")[1]
    assert murmure("gateway revoke gw-plaza")[0] == 0
    (entry,) = json.loads(murmure("gateway list --json")[1])
    assert (entry["gateway"], entry["status"], entry["settled_seq"]) == ("gw-plaza", "revoked", 3)
    assert (entry["ports"], entry["outbox_depth"], entry["stewards"]) == ({"beam": "ok"}, 0, [centre.steward[1].hex()])


def test_an_archive_is_verified(murmure: Murmure, centre: Any) -> None:
    """0 and `sound`, or 1 and a line per finding; with --json one document."""
    gateway = centre.gateway()
    centre.intake.accept_many(gateway.history(4)[1:])
    status, said, _ = murmure("ingest verify --archive centre/archive.db")
    assert (status, said.splitlines()[-1]) == (0, "sound")
    assert "gw-plaza: 1 messages have not come yet" in said
    centre.archive._db.execute("UPDATE totals SET settled_seq = 9")
    status, said, _ = murmure("ingest verify --archive centre/archive.db --json")
    report = json.loads(said)
    assert (status, report["sound"], report["messages"], len(report["findings"])) == (1, False, 3, 1)
    status, said, _ = murmure("ingest verify --archive centre/archive.db")
    assert (status, said.splitlines()[-1].startswith("not sound")) == (1, True)
    status, _, error = murmure("ingest verify --archive none.db")
    assert (status, error.count("\n"), error.startswith("murmure: none.db: archive: ")) == (2, 1, True)


def test_many_findings_are_told_in_part(murmure: Murmure, centre: Any) -> None:
    """The screen stays readable; the rest is counted."""
    centre.intake.accept_many(centre.gateway().history(120))
    db = centre.archive._db
    db.execute("DROP TRIGGER messages_no_update")
    db.execute("UPDATE messages SET head = zeroblob(32)")
    status, said, _ = murmure("ingest verify --archive centre/archive.db")
    assert (status, said.splitlines()[-2]) == (1, "… and 20 more")


def test_the_list_shows_who_has_not_used_the_newest_policy(
    murmure: Murmure, centre: Any, policy_text: Callable[..., bytes]
) -> None:
    """A gateway that is offline, or acts as if it were, stands out by the version that its newest nodes name."""
    first, second = centre.gateway(), centre.gateway("gw-silent", "other")
    centre.accept(first.topic, first.seal(1_795_392_900))
    publish_policy(centre.archive, centre.signed(policy_text("plaza", 2)))
    listed = {entry["gateway"]: entry for entry in json.loads(murmure("gateway list --json")[1])}
    versions = [(listed[one.name]["policy_used"], listed[one.name]["policy_newest"]) for one in (first, second)]
    assert versions == [(1, 2), (None, 1)]
    assert "  policy 1, newest 2" in murmure("gateway list")[1].splitlines()[0]


def test_a_courier_is_imported(murmure: Murmure, centre: Any) -> None:
    """0 if everything was taken, 1 and the reasons if something was not."""
    gateway = centre.gateway()
    Path("key").mkdir()
    for number, (_, sealed) in enumerate(gateway.history(3), 1):
        Path(f"key/{number:012d}.cose").write_bytes(sealed)
    assert murmure("ingest import key")[:2] == (0, "3 files: 3 stored\n")
    for uptime_s, word in ((60, "heard"), (60, "heard"), (0, "refused")):
        Path("key/health.cose").write_bytes(gateway.health(uptime_s)[1])
        status, said, _ = murmure("ingest import key")
        assert (status, f"1 {word}" in said) == (0, True), "the same report twice, or an older one, is no failure"
    Path("key/health.cose").unlink()
    Path("key/bad.cose").write_bytes(b"rubbish")
    status, said, _ = murmure("ingest import key --json")
    assert (status, json.loads(said)) == (
        1,
        {"files": 4, "duplicate": 3, "refused": 1, "reasons": {"malformed": 1}},
    )
    status, said, _ = murmure("ingest import key")
    assert (status, said.splitlines()[1]) == (1, "  refused: malformed: 1")


@pytest.mark.parametrize(
    ("line", "status", "start"),
    [
        ("ingest run --config none.toml", 2, "murmure: none.toml: file: there is no such file"),
        ("tail --config none.toml", 2, "murmure: none.toml: file: "),
        ("tail", 2, "murmure: centre/archive.db: archive: there is no such file"),
        ("ingest import nowhere", 2, "murmure: nowhere: folder: "),
        ("gateway revoke gw-nobody", 1, "murmure: gateway gw-nobody: "),
        ("policy publish ingest.toml", 2, "murmure: ingest.toml: policy: not a signed policy"),
        ("policy publish none.cose", 1, "murmure: none.cose: "),
        ("policy sign ingest.toml --key none --out x", 2, "murmure: ingest.toml: "),
    ],
)
def test_a_mistake_is_one_line(murmure: Murmure, line: str, status: int, start: str) -> None:
    """Exit 2 for what a person must mend in a file or a command, 1 for what failed; never a traceback."""
    was, said, error = murmure(line)
    assert (was, said, error.count("\n")) == (status, "", 1)
    assert error.startswith(start)


def test_a_list_of_nowhere_makes_no_centre(murmure: Murmure, tmp_path: Path) -> None:
    """A wrong data_dir is told, and not taken for a centre that has no gateway yet."""
    status, said, error = murmure("gateway list")
    assert (status, said, error.count("\n")) == (2, "", 1)
    assert "data_dir: there is no centre/archive.db; see whether the path is right" in error
    assert not (tmp_path / "centre").exists()


def test_claims_that_cannot_be_read_keep_nobody_in(murmure: Murmure, centre: Any) -> None:
    """A damaged claims.db is one line with its mend, and a gateway is revoked all the same."""
    centre.gateway()
    damaged = centre.config.data_dir / "claims.db"
    damaged.write_bytes(b"no database" * 100)
    config = f"--config {centre.config.source}"
    status, said, error = murmure(f"gateway list {config}")
    assert (status, said, error.count("\n"), "claims: file is not a database; remove it" in error) == (1, "", 1, True)
    status, said, error = murmure(f"gateway revoke gw-plaza {config}")
    assert (status, "gw-plaza is revoked" in said, error.count("\n")) == (0, True, 1)
    assert [line.status for line in centre.archive.enrolments()] == ["revoked"]
    damaged.unlink()
    damaged.mkdir()
    assert "claims: unable to open database file; make room, or see who may" in murmure(f"gateway list {config}")[2]


def test_half_a_key_is_not_left_behind(murmure: Murmure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The disk is full while a key is written: one line that says where, and the same command again makes it."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
        status, said, error = murmure("policy key --out steward.key")
    assert (status, said) == (1, "")
    assert error == "murmure: steward.key: No space left on device; make room there\n"
    assert not (tmp_path / "steward.key").exists()
    assert murmure("policy key --out steward.key")[0] == 0


def test_commands_can_be_mounted_alone() -> None:
    """Without the kernel's group `policy` the centre makes one, so that the package can be used by itself."""
    parser = argparse.ArgumentParser()
    cli.register(parser.add_subparsers())
    assert parser.parse_args(["policy", "key", "--out", "x"]).out == "x"


@pytest.mark.parametrize("as_json", [True, False])
def test_tail_shows_what_passes(
    tmp_path: Path, make_centre: Any, broker: Any, connect: Any, until: Any, as_json: bool
) -> None:
    """Verified nodes as they pass, one a line; what does not verify is skipped; SIGTERM ends it with 0."""
    centre = make_centre(tmp_path, port=broker.port, mqtt=broker.mqtt)
    broker.start()
    gateway = centre.gateway()
    command = [sys.executable, "-m", "murmure.cli", "tail", "--config", centre.config.source]
    process = subprocess.Popen(
        command + ["--json"] * as_json, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert "connected" in process.stderr.readline()
    peer = connect(gateway, broker)
    # The first message that comes through shows that the subscription stands; until then rubbish is sent.
    os.set_blocking(process.stderr.fileno(), False)
    until(lambda: peer.publish((gateway.topic, b"rubbish")) or "skipped" in (process.stderr.readline() or ""))
    peer.publish((gateway.topic.replace("gw-plaza", "gw-nobody"), gateway.seal(MONDAY_S + 900)))
    peer.publish((gateway.topic, gateway.sealed[0]))
    peer.publish((gateway.topic, gateway.seal(MONDAY_S + 3600)))
    lines = [process.stdout.readline() for _ in range(4)]
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert process.stdout.read() == ""
    if as_json:
        nodes = [json.loads(line) for line in lines]
        assert [(n["stream"], n["node"], n["status"], n["seq"]) for n in nodes] == [
            ("plaza/footfall", "15min", "released", 1),
            ("plaza/footfall", "15min", "withheld", 2),
            ("plaza/footfall", "1h", "released", 2),
            ("plaza/pm2_5", "1h", "released", 2),
        ]
        assert nodes[0]["values"] == {"crossings": 7}
    else:
        assert lines[0] == "2026-11-23T00:15:00Z  plaza/footfall  15min  {'crossings': 7}\n"
        assert lines[1] == "2026-11-23T01:00:00Z  plaza/footfall  15min  withheld (sensor_absent)\n"
    centre.archive.close()
