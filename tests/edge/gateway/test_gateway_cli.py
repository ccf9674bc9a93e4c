"""The gateway's commands as they are typed: help, usage, and what reaches stdout."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from murmure.cli import build_parser, main
from murmure_edge.gateway_db import DiskFull, GatewayDb
from murmure_edge.publisher import Identity, Publisher
from murmure_privacy.log import Checkpoint, Growth, growth_bytes
from murmure_privacy.policy import Policy
from murmure_privacy.window import parse_utc

COMMANDS = ("run", "sense", "send", "ledger", "replay")
MIDNIGHT_S = parse_utc("2026-01-14T23:00:00Z")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` ends with 0 and shows how the command is typed."""
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(["edge", name, "--help"])
    assert ended.value.code == 0
    assert f"example: murmure edge {name} --" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_handler_and_needs_its_file(name: str) -> None:
    """Without what it cannot do without: status 2."""
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(["edge", name])
    assert ended.value.code == 2
    if name != "replay":
        assert callable(build_parser().parse_args(["edge", name, "--config", "gateway.toml"]).handler)


@pytest.mark.parametrize("name", ["run", "sense", "send", "ledger"])
def test_a_missing_file_is_one_line(name: str) -> None:
    """Status 2, nothing on stdout."""
    command = [sys.executable, "-m", "murmure.cli", "edge", name, "--config", "/nowhere/gateway.toml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == "murmure: /nowhere/gateway.toml: file: is not there; write it, or name another with --config\n"
    )


def test_a_log_is_forgotten_only_when_it_is_said_twice(enrolled: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --yes it says what is remembered and what follows; with it that is written down. A gateway that was never
    started has nothing to forget, and none is made by asking."""
    path, command = enrolled.folder / "data" / "gateway.db", ["edge", "forget", "--config", str(enrolled.file)]
    assert main(command) == 2 and not path.exists()
    db = GatewayDb.open(path)
    db.follow(Checkpoint(7, bytes(32)))
    with db.transaction():
        db.put(1, b"message")
    assert main([*command, "--yes"]) == 1, "sense runs"
    assert "stop the other `sense` first" in capsys.readouterr().err
    assert main(command) == 0, "who only asks may, meanwhile"
    assert capsys.readouterr().out.startswith("remembered: 7 entries")
    db.close()
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    assert main(command) == 0
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before, "not one start more is counted"
    assert main([*command, "--yes"]) == 0
    db = GatewayDb.open(path)
    assert db.log is None
    db.close()
    remembered = f"7 entries, root {'A' * 43}="
    first, second, third, last = capsys.readouterr().out.splitlines()
    assert first == f"remembered: {remembered}" and "a forked one too" in second and "says so in public" in third
    assert last == f"forgotten, and written down for good: {remembered}"
    assert main([*command, "--yes"]) == 0
    told, none = capsys.readouterr().out.splitlines()
    assert told.startswith("forgotten at 20") and told.endswith(remembered)
    assert none == "No log is remembered: the next receipt that names one is believed."


def test_a_letter_of_before_does_not_tell_of_the_forgotten_log_again(turned: Callable[..., Any]) -> None:
    """The receipt of the lost log lies in the inbox still; `sense` reads the inbox at its start. Its successor's is
    believed, what waits stays, and so do policies."""
    gateway = turned()
    inbox = gateway.enrolled.folder / "spool" / "inbox"
    command = ["edge", "forget", "--config", str(gateway.enrolled.file), "--yes"]

    def receipt(size: int, root: bytes) -> bytes:
        of_log = growth_bytes(Growth(Checkpoint(size, root)))
        return bytes(gateway.enrolled.receipt(0, b"", checkpoint=bytes(32) + of_log))

    gateway.enrolled.drop("receipt.cose", receipt(100, bytes(32)))
    gateway.batch("dust", MIDNIGHT_S)
    assert gateway.db.log == Checkpoint(100, bytes(32))
    gateway.enrolled.drop("receipt-2.cose", receipt(101, bytes(32)))
    gateway.enrolled.drop("policy-1.cose", b"a policy")
    (inbox / "receipt-3.cose").mkdir()
    gateway.db.close()
    assert main(command) == 0
    assert sorted(path.name for path in inbox.iterdir()) == ["policy-1.cose", "receipt-3.cose"]
    gateway.start()
    gateway.batch("dust", MIDNIGHT_S + 900)
    gateway.enrolled.drop("receipt.cose", receipt(5, b"n" * 32))
    gateway.batch("dust", MIDNIGHT_S + 901)
    assert gateway.db.log == Checkpoint(5, b"n" * 32)
    gateway.db.close()


def test_nothing_is_forgotten_while_the_inbox_cannot_be_used(enrolled: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and the log is remembered as before."""
    path, command = enrolled.folder / "data" / "gateway.db", ["edge", "forget", "--config", str(enrolled.file)]
    db = GatewayDb.open(path)
    db.follow(Checkpoint(7, bytes(32)))
    db.keep_log()
    db.close()
    (enrolled.folder / "spool" / "inbox").rmdir()
    assert main([*command, "--yes"]) == 2
    assert "run it as sense's user" in capsys.readouterr().err
    db = GatewayDb.open(path)
    assert db.log == Checkpoint(7, bytes(32))
    db.close()


@pytest.mark.parametrize("at", ["open", "forget_log"])
def test_a_log_is_not_forgotten_without_room(
    enrolled: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """One line about room, whether it lacks at the start or when the change is written; nothing accuses the card."""
    path, command = enrolled.folder / "data" / "gateway.db", ["edge", "forget", "--config", str(enrolled.file)]
    db = GatewayDb.open(path)
    db.follow(Checkpoint(7, bytes(32)))
    db.keep_log()
    db.close()

    def full(*_: object, **__: object) -> None:
        raise DiskFull(f"{path}: no room on the disk; nothing is lost while there is power, make room")

    with monkeypatch.context() as patched:
        patched.setattr(GatewayDb, at, full)
        assert main([*command, "--yes"]) == 1
    line = f"murmure: {path}: no room on the disk, and nothing was forgotten; make room, then again\n"
    assert capsys.readouterr() == ("", line)
    db = GatewayDb.open(path)
    assert db.log == Checkpoint(7, bytes(32))
    db.close()


def test_the_ledger_is_read_from_the_command_line(
    enrolled: Any,
    exact: Any,
    make_policy: Callable[..., Policy],
    gateway_secret: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--json`: one object a line on stdout, and nothing else there."""
    db = GatewayDb.open(enrolled.folder / "data" / "gateway.db")
    who = Identity("gw-plaza", "centre", "plaza", gateway_secret)
    publisher = Publisher(db, who, exact, lambda *_: None, lambda _: None)
    publisher.start(MIDNIGHT_S)
    publisher.adopt(make_policy(), MIDNIGHT_S)
    publisher.advance(MIDNIGHT_S + 3600)
    assert main(["edge", "ledger", "--config", str(enrolled.file), "--json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["node"] for line in printed] == ["15min"] * 3 + ["15min", "1h"]
    db.close()
