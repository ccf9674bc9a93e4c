"""`send` against real brokers: what is in the outbox arrives, in order, again and again, until the receipt came."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_edge import inbox, outbox
from murmure_edge.config import load
from murmure_edge.inbox import Inbox, OutboxState, Settled, decide_receipt, read
from murmure_edge.send import SentLog, pause_s, repeat_after_s
from murmure_privacy import wire


def fill(gateway, count: int) -> list[bytes]:
    messages = [f"sealed message {seq}".encode() for seq in range(1, count + 1)]
    for seq, sealed in enumerate(messages, 1):
        outbox.materialise(gateway.config.outbox, seq, sealed)
    return messages


def test_what_lies_in_the_outbox_arrives_oldest_first(gateway, every_broker, centre, sender, until):
    """Every message reaches the release topic once, in the order of its number, as application/cose."""
    messages = fill(gateway, 60)
    every_broker.start()
    listener = centre(every_broker)
    sender(gateway.write(every_broker.port, every_broker.mqtt))
    until(lambda: len(listener.releases()) >= 60, "60 messages")
    outbox.materialise(gateway.config.outbox, 61, b"a late one")
    until(lambda: len(listener.releases()) >= 61, "the message that came later")
    assert listener.releases() == [*messages, b"a late one"]
    assert listener.content_types == {"application/cose" if every_broker.mqtt == 5 else None}


def test_a_broker_that_lost_its_memory_gets_everything_without_a_receipt_again(
    gateway, every_broker, centre, sender, until
):
    """Killed with -9 and started empty, the broker is given every message that no receipt has settled, in order."""
    messages = fill(gateway, 30)
    every_broker.start()
    first = centre(every_broker)
    process = sender(gateway.write(every_broker.port, every_broker.mqtt))
    until(lambda: len(first.releases()) >= 30, "the first sending")
    for seq in range(1, 11):
        outbox.remove(gateway.config.outbox, seq)
    every_broker.kill()
    until(lambda: "trying again" in process.log.read_text(), "the loss to be noticed")
    every_broker.start()
    second = centre(every_broker)
    until(lambda: len(second.releases()) >= 20, "the second sending")
    time.sleep(0.5)
    assert second.releases() == messages[10:]
    assert process.stop() == 0


def test_a_broker_absent_at_start_is_one_line_and_a_retry(gateway, broker, centre, sender, until):
    """Without a broker `send` says so once, however often it tries, and delivers when there is one."""
    messages = fill(gateway, 3)
    process = sender(gateway.write(broker.port, broker.mqtt, resend_s=1))
    until(process.lines, "the line")
    time.sleep(2.5)
    assert len(process.lines()) == 1 and "trying again for ever" in process.lines()[0]
    broker.start()
    listener = centre(broker)
    until(lambda: len(set(listener.releases())) >= 3, "the messages")
    assert sorted(set(listener.releases())) == messages
    assert len(process.lines()) == 2 and process.lines()[1].endswith("connected")


def test_a_receipt_clears_what_it_settles(gateway, broker, centre, sender, until):
    """The centre's retained receipt comes through the inbox, is believed, and what it settles is never sent again."""
    messages = fill(gateway, 5)
    hashes = {seq: wire.digest(sealed) for seq, sealed in enumerate(messages, 1)}
    broker.start()
    listener = centre(broker)
    listener.say("receipt", gateway.receipt(2, messages[1]))
    config = gateway.write(broker.port, broker.mqtt)
    process = sender(config)
    box, boxed = Inbox(gateway.config.inbox, pytest.fail), []

    def look() -> bool:
        boxed.extend(box.new())
        return bool(boxed)

    until(look, "the retained receipt")
    settled = decide_receipt(boxed[0].data, gateway.trust, OutboxState(5, hashes.get, 0))
    assert isinstance(settled, Settled) and settled.up_to == 2
    folder = outbox.Outbox(gateway.config.outbox, pytest.fail, lambda seq: messages[seq - 1])
    folder.start(settled.up_to + 1, 5)
    until(lambda: len(listener.releases()) >= 5, "the first sending")
    listener.say("receipt", gateway.receipt(4, messages[3]))
    until(lambda: box.new(), "the newer receipt")
    folder.settle(5, ())
    process.stop()
    listener.heard.clear()
    time.sleep(2.1)
    sender(config)
    until(lambda: len(listener.releases()) >= 1, "the second sending")
    time.sleep(0.5)
    assert listener.releases() == messages[4:]


def test_a_policy_lands_in_the_inbox_as_it_came(gateway, broker, centre, sender, until):
    """Retained before or said later, each policy is a file whose bytes are those of the topic; the newest two stay."""
    broker.start()
    listener = centre(broker)
    first = gateway.policy(1)
    listener.say("policy", first)
    sender(gateway.write(broker.port, broker.mqtt))
    box = Inbox(gateway.config.inbox, pytest.fail)
    until(lambda: [letter.data for letter in box.new()] == [first], "the retained policy")
    for version in range(2, 14):
        listener.say("policy", gateway.policy(version))
    newest = gateway.policy(13)
    until(lambda: newest in [letter.data for letter in Inbox(gateway.config.inbox, pytest.fail).new()], "the newest")
    until(lambda: len(list(gateway.config.inbox.glob("policy-*"))) <= 2, "old ones to go")


def test_health_is_published_when_it_changes(gateway, broker, centre, sender, until):
    """A health report goes once; the next one goes when it differs."""
    broker.start()
    listener = centre(broker)
    box = outbox.Outbox(gateway.config.outbox, pytest.fail, lambda _: None)
    box.put_health(b"well")
    sender(gateway.write(broker.port, broker.mqtt))
    until(lambda: listener.health() == [b"well"], "the first report")
    box.put_health(b"well")
    time.sleep(0.6)
    box.put_health(b"tired")
    until(lambda: len(listener.health()) > 1, "the second report")
    assert listener.health() == [b"well", b"tired"]


def test_without_a_receipt_a_message_goes_again_over_the_same_connection(gateway, broker, centre, sender, until):
    """A centre that was away longer than the broker remembers is given the message again after resend_s."""
    fill(gateway, 1)
    broker.start()
    listener = centre(broker)
    process = sender(gateway.write(broker.port, broker.mqtt, resend_s=1))
    until(lambda: len(listener.releases()) >= 2, "the second sending", 30)
    assert len(process.lines()) == 1


def test_send_killed_in_the_middle_delivers_all_after_restart(gateway, broker, centre, sender, until):
    """kill -9 of `send` at any moment loses nothing."""
    messages = fill(gateway, 200)
    broker.start()
    listener = centre(broker)
    config = gateway.write(broker.port, broker.mqtt)
    for _ in range(2):
        process = sender(config)
        seen = len(listener.releases())
        until(lambda seen=seen: len(listener.releases()) > seen, "something to arrive")
        process.kill()
        time.sleep(0.2)
    process = sender(config)
    until(lambda: set(listener.releases()) == set(messages), "all messages")
    # It may all have come from its forerunners: only a process that is up can end cleanly.
    until(lambda: sum("connected" in line for line in process.lines()) >= 3, "the third process")
    assert process.stop() == 0


def test_a_full_disk_delays_a_receipt_and_loses_nothing(gateway, broker, centre, sender, until):
    """What has come and does not fit into the inbox is kept and put there when there is room; a line each way."""
    folder = gateway.config.inbox
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(folder)], check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        (folder / "filler").write_bytes(b"x" * 16_384)
        broker.start()
        listener = centre(broker)
        receipt = gateway.receipt(0, b"")
        listener.say("receipt", receipt)
        process = sender(gateway.write(broker.port, broker.mqtt))
        until(lambda: "No space left" in process.log.read_text(), "the line")
        (folder / "filler").unlink()
        until(lambda: [letter.data for letter in read(folder)] == [receipt], "the receipt")
        until(lambda: process.lines()[-1].endswith("inbox: well again"), "the good news")
        assert len(process.lines()) == 3 and process.stop() == 0
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_an_outbox_that_vanishes_is_waited_for(gateway, broker, centre, sender, until):
    """Without its outbox `send` stays connected, says so once, and goes on when the folder is there."""
    broker.start()
    listener = centre(broker)
    process = sender(gateway.write(broker.port, broker.mqtt))
    until(process.lines, "the connection")
    gateway.config.outbox.rmdir()
    until(lambda: len(process.lines()) == 2, "the line")
    time.sleep(0.6)
    gateway.config.outbox.mkdir()
    messages = fill(gateway, 2)
    until(lambda: len(listener.releases()) == 2, "the messages")
    assert listener.releases() == messages and len(process.lines()) == 3


def test_sigterm_ends_with_0_whether_or_not_there_is_a_broker(gateway, sender, until):
    """SIGTERM and SIGINT end `send` cleanly while it waits for a broker."""
    for number in (signal.SIGTERM, signal.SIGINT):
        process = sender(gateway.write(1, 5))
        until(process.lines, "the first line")
        process.process.send_signal(number)
        assert process.process.wait(5) == 0
        process.log.unlink()


@pytest.mark.broker
def test_a_broker_that_forbids_publishing_is_not_hammered(gateway, mosquitto, sender, until, tmp_path):
    """Not authorized is one line; the connection stays, and the message waits as one without a receipt."""
    (tmp_path / "acl").write_text("topic read murmure/#\n")
    broker = mosquitto(f"allow_anonymous true\nacl_file {tmp_path}/acl\nuser root\n")
    broker.start()
    fill(gateway, 3)
    process = sender(gateway.write(broker.port, 5))
    until(lambda: len(process.lines()) >= 2, "the refusal")
    time.sleep(1)
    assert [line.split(": ", 2)[2] for line in process.lines()] == [
        f"broker 127.0.0.1:{broker.port}: connected",
        "broker: it takes no message of ours: Not authorized; trying again",
    ]


@pytest.mark.broker
@pytest.mark.strace
def test_send_opens_neither_ledger_nor_key_nor_device(gateway, mosquitto, sender, until, tmp_path):
    """Seen from the kernel, `send` never touches gateway.db, record.key or anything serial."""
    for name in ("gateway.db", "record.key"):
        (gateway.config.data / name).write_bytes(b"secret")
    broker = mosquitto("allow_anonymous true\n")
    broker.start()
    fill(gateway, 5)
    trace = tmp_path / "trace"
    program = shutil.which("strace")
    process = sender(gateway.write(broker.port, 5), (program, "-D", "-f", "-q", "-e", "trace=file", "-o", str(trace)))
    until(lambda: any(line.endswith("connected") for line in process.lines()), "the connection", 60)
    time.sleep(1)
    process.stop()
    touched = trace.read_text()
    assert "000000000005.cose" in touched
    for forbidden in ("gateway.db", "record.key", "/dev/tty", "/dev/serial", "murmure_edge/sensors"):
        assert forbidden not in touched


ROOT = Path(__file__).resolve().parents[3]
PEEK = """
import sys
for path in sys.argv[1:]:
    try:
        open(path, "rb").close()
        print(path)
    except PermissionError:
        pass
"""


@pytest.mark.broker
def test_send_carries_everything_where_it_can_open_nothing_else(gateway, mosquitto, sender, centre, until):
    """The real process under a rule of the kernel that leaves it the program, its configuration, the outbox, the inbox
    and its own folder: messages arrive, receipts come down, and neither the ledger, the key nor a device can be opened.
    """
    secrets = [gateway.config.data / "gateway.db", gateway.config.data / "record.key"]
    for path in secrets:
        path.write_bytes(b"secret")
    broker = mosquitto("allow_anonymous true\n")
    broker.start()
    there = centre(broker)
    messages = fill(gateway, 20)
    config = gateway.write(broker.port, 5)
    program = {*filter(None, sys.path), sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64", "/etc"}
    readable = [ROOT, *program, config, gateway.config.trust, gateway.config.outbox, "/dev/null", "/dev/urandom"]
    blind = [sys.executable, str(ROOT / "tests" / "confined.py"), "blind"]
    blind += ["-r", *(str(path) for path in readable if Path(path).exists())]
    blind += ["-w", str(gateway.config.inbox), str(gateway.config.send_data)]
    # Here one user owns all four folders, and looks at the modes of what is its own.
    blind += ["-l", str(gateway.config.data), "--"]
    devices = ["/dev/ptmx", "/dev/tty", "/dev/zero"]
    peek = [sys.executable, "-c", PEEK, *map(str, [*secrets, *devices, config, "/dev/urandom"])]
    seen = subprocess.run([*blind, *peek], capture_output=True, text=True, check=False)
    if seen.stderr.startswith("confined: Landlock"):
        (pytest.fail if os.environ.get("MURMURE_PACKAGES_REQUIRED") == "1" else pytest.skip)(seen.stderr)
    assert seen.stdout.split() == [str(config), "/dev/urandom"], seen.stderr
    process = sender(config, tuple(blind))
    until(lambda: len(there.releases()) >= 20, "20 messages", 60)
    assert there.releases() == messages
    there.say("receipt", gateway.receipt(20, messages[-1]))
    until((gateway.config.inbox / inbox.RECEIPT).exists, "the receipt")
    assert process.stop() == 0


def serve_bytes(answer: bytes) -> tuple[socket.socket, threading.Event]:
    """A false broker: takes each connection, says `answer` and waits. Returns it and whether anybody came."""
    server = socket.create_server(("127.0.0.1", 0))
    visited = threading.Event()

    def serve() -> None:
        held = []
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            held.append(client)
            client.recv(4096)
            client.sendall(answer)
            visited.set()

    threading.Thread(target=serve, daemon=True).start()
    return server, visited


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff" * 4000,
        b"\x20\x03\x00\x00\x00" + b"\x30\x05\x00\xff\xff\xff\xff" * 50,
        b"\x20\x03\x00\x00\x00" + b"\x30\x08\x00\x02\xc3\x28\x05\xff\xff\xff",
        b"\x20\x03\x00\x00\x00" + b"\x40\x02\x12\x34" * 9,
        b"\x20\x03\x00\x86\x00",
        b"",
    ],
)
def test_a_broker_that_speaks_nonsense_costs_a_line_and_a_retry(gateway, sender, until, answer):
    """Whatever a false broker answers, `send` lives, says one line per change and still ends with 0."""
    fill(gateway, 2)
    server, visited = serve_bytes(answer)
    with server:
        process = sender(gateway.write(server.getsockname()[1], 5))
        until(visited.is_set, "the connection")
        if answer:
            until(process.lines, "a line")
        time.sleep(0.5)
        assert process.process.poll() is None
        assert process.stop() == 0
        assert "Traceback" not in process.log.read_text()


def test_a_wrong_config_is_one_line(gateway, sender):
    """`send` refuses to start on a wrong file with the file, the key and the mend."""
    file = gateway.write()
    file.write_text(file.read_text() + "retries = 3\n")
    process = subprocess.run(
        [sys.executable, "-m", "murmure.cli", "edge", "send", "--config", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert process.stderr.startswith(f"murmure: {file}: broker.retries: ") and process.stderr.count("\n") == 1


# --- send.db ---------------------------------------------------------------------------------------------------------


def test_the_log_remembers_over_a_restart_and_forgets_what_has_gone(tmp_path: Path):
    """send.db keeps when and how often; a message whose file has gone is forgotten."""
    log = SentLog(tmp_path, pytest.fail)
    log.note(1, 100)
    log.note(2, 100)
    log.note(2, 150)
    log.close()
    log = SentLog(tmp_path, pytest.fail)
    assert (log.last(1), log.last(2), log.last(3)) == ((100, 1), (150, 2), None)
    log.keep({2, 3})
    log.close()
    assert SentLog(tmp_path, pytest.fail).last(1) is None


@pytest.mark.parametrize("content", [b"rubbish" * 1000, sqlite3.__doc__.encode()])
def test_a_damaged_log_costs_a_line_and_a_resend(tmp_path: Path, content: bytes):
    """A send.db that is none is said once and replaced at the next start."""
    (tmp_path / "send.db").write_bytes(content)
    said: list[str] = []
    log = SentLog(tmp_path, said.append)
    log.note(1, 100)
    log.keep({1})
    assert log.last(1) == (100, 1) and len(said) == 1
    again = SentLog(tmp_path, pytest.fail)
    again.note(1, 100)
    again.close()
    assert SentLog(tmp_path, pytest.fail).last(1) == (100, 1)


def test_a_log_that_cannot_be_written_goes_on_in_memory(tmp_path: Path):
    """A missing folder or a table that refuses is one line; nothing stops."""
    said: list[str] = []
    log = SentLog(tmp_path / "absent", said.append)
    log.note(1, 100)
    assert log.last(1) == (100, 1) and len(said) == 1
    log = SentLog(tmp_path, said.append)
    with sqlite3.connect(tmp_path / "send.db") as other:
        other.execute("DROP TABLE sent")
    log.note(1, 100)
    log.note(2, 100)
    assert log.last(2) == (100, 1) and len(said) == 2


# --- waiting ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(1, 3600), st.text(min_size=1))
def test_the_pause_grows_to_its_cap_and_never_vanishes(attempt: int, cap_s: int, gateway: str):
    """However long the broker is away the pause is between three eighths of a second and the cap."""
    pause = pause_s(attempt, cap_s, gateway)
    assert 0.375 <= pause <= cap_s
    assert pause_s(attempt + 1, cap_s, gateway) >= pause


@given(st.integers(1, 10**6), st.integers(1, 600_000))
def test_a_repeated_message_waits_longer_each_time(times: int, resend_s: int):
    """Repeats thin out, a new connection never waits longer than the old one would, and both end at a cap."""
    for new in (True, False):
        assert 1 <= repeat_after_s(times, resend_s, new) <= repeat_after_s(times + 1, resend_s, new)
        assert repeat_after_s(times, resend_s, new) <= max(resend_s, 21_600)
    assert repeat_after_s(times, resend_s, True) <= repeat_after_s(times, resend_s, False)
    assert repeat_after_s(1, resend_s, False) == resend_s


def test_the_example_file_is_read(gateway):
    """edge/gateway.example.toml is a gateway.toml."""
    example = Path(__file__).resolve().parents[3] / "edge" / "gateway.example.toml"
    config = load(example)
    assert [port.device for port in config.ports] == ["tfluna", "modbus_noise", "sds011"]
