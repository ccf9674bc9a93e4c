"""A white zone: a stick goes back and forth between a gateway and the centre, and is the whole network."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from murmure.cli import main
from murmure_edge import courier
from murmure_edge.config import load
from murmure_edge.courier import ExportError, Visit, export
from murmure_edge.outbox import ROOM
from murmure_ingest import logbook
from murmure_ingest.archive import Archive, Enrolment, StoredPolicy
from murmure_ingest.courier import import_folder
from murmure_ingest.intake import Intake, Word
from murmure_ingest.rules import RuleBook
from murmure_privacy.errors import ConfigError, MurmureError
from murmure_privacy.window import parse_utc
from murmure_privacy.wire import (
    digest,
    new_key,
    open_health,
    open_receipt,
    public_key,
    seal_health,
    seal_policy,
    seal_receipt,
)

MIDNIGHT_S = parse_utc("2026-01-14T23:00:00Z")
HOUR_S = 3600
NODES = '{ "1h" = 1, "1d" = 24 }'


class Town:
    """The centre, far from the gateway."""

    def __init__(self, folder: Path, enrolled: Any, secret: bytes, toml: bytes) -> None:
        self.archive = Archive.open(folder / "archive.db")
        self.secret = enrolled.centre
        line = Enrolment("gw-plaza", "centre", "plaza", public_key(secret), (public_key(enrolled.steward),), 1)
        with self.archive.transaction():
            self.archive.enrol(line)
            self.archive.put_policy(StoredPolicy(digest(toml), "plaza", 1, toml, enrolled.policy(toml)))

    def take(self, stick: Path) -> list[Word]:
        return import_folder(
            stick, self.archive, Intake(self.archive, RuleBook(self.archive), lambda: 1 << 40), self.secret
        )

    def settled(self) -> int:
        return self.archive.totals("gw-plaza").settled_seq


@pytest.fixture
def town(tmp_path: Path, enrolled: Any, gateway_secret: bytes, write_policy: Callable[..., bytes]) -> Iterator[Town]:
    (tmp_path / "town").mkdir()
    made = Town(tmp_path / "town", enrolled, gateway_secret, write_policy(nodes=NODES))
    yield made
    made.archive.close()


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()
    return folder


@pytest.fixture
def white(turned: Callable[..., Any], enrolled: Any, write_policy: Callable[..., bytes]) -> Any:
    """A gateway without [broker], two hours after midnight; its policy came with the technician."""
    whole = enrolled.write

    def without_broker(*ports: str) -> Path:
        file: Path = whole(*ports)
        text = file.read_text()
        at, port = text.index("[broker]"), text.find("[[port]]")
        file.write_text(text[:at] + (text[port:] if port >= 0 else ""))
        return file

    enrolled.write = without_broker
    gateway = turned()
    assert load(enrolled.file).white_zone
    enrolled.drop("policy-1.cose", enrolled.policy(write_policy(nodes=NODES)))
    gateway.batch("dust", MIDNIGHT_S)
    gateway.live(MIDNIGHT_S, MIDNIGHT_S + 2 * HOUR_S)
    return gateway


def on(stick: Path) -> list[int]:
    """The numbers of the messages on a stick."""
    return sorted(int(path.name[len("gw-plaza-") : -5]) for path in (stick / "outbox").glob("gw-plaza-0*.cose"))


def visit(gateway: Any, stick: Path) -> Visit:
    """Somebody passes, with `sense` running beside: what waits lets a second go by there."""

    def second(_: float) -> None:
        gateway.batch("dust", gateway.sense._now_s + 1)

    return export(gateway.enrolled.file, stick, second)


def test_a_stick_is_the_whole_network(white: Any, town: Town, stick: Path) -> None:
    """Out with messages and health, back with the receipt that empties the outbox; the next tour takes what is new."""
    sent = white.db.rows()
    assert visit(white, stick) == Visit(0, 2, 0, 0, 0, True)
    assert {seq: (stick / "outbox" / f"gw-plaza-{seq:012d}.cose").read_bytes() for seq in on(stick)} == sent
    assert [type(word).__name__ for word in town.take(stick)] == ["Stored", "Stored", "Heard"]
    assert white.db.depth() == 2, "nothing is forgotten before the receipt is back"
    white.live(MIDNIGHT_S + 2 * HOUR_S, MIDNIGHT_S + 5 * HOUR_S)
    back = visit(white, stick)
    assert (back.letters, back.written, back.removed, back.settled_seq) == (2, 3, 2, 2)
    assert on(stick) == [3, 4, 5]
    white.live(MIDNIGHT_S + 5 * HOUR_S, MIDNIGHT_S + 5 * HOUR_S + 60)
    assert white.db.depth() == 3 and len(white.enrolled.outbox()) == 3
    town.take(stick)
    assert town.settled() == 5
    assert visit(white, stick).settled_seq == 5 and on(stick) == []


def test_every_visit_brings_a_receipt_that_is_believed(white: Any, town: Town, stick: Path) -> None:
    """The log of the town grows from visit to visit. The report that goes back was made after the receipt was read, and
    says so: the next receipt proves from there."""
    for number in range(1, 7):
        visit(white, stick)
        word = open_health((stick / "outbox" / "gw-plaza-health.cose").read_bytes(), public_key(white.secret))
        known = white.db.log
        assert word.log == (known.size if known else 0)
        with town.archive.transaction():
            logbook.annotated(town.archive._db, "plaza", number, b"")
        town.take(stick)
        from_s = MIDNIGHT_S + (2 + number) * HOUR_S
        white.live(from_s - HOUR_S, from_s)
    visit(white, stick)
    assert white.db.log == town.archive.log_checkpoint()
    assert [line for line in white.said if "not believed" in line] == []


def test_a_report_of_the_same_moment_is_not_the_one_awaited(
    white: Any, town: Town, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report of the quarter-hour, made while the letters are laid down, knows nothing of them yet: what goes onto
    the stick tells of the log in them. What is no report tells of none."""
    visit(white, stick)
    town.take(stick)
    deliver, place = courier._deliver, white.enrolled.folder / "spool" / "outbox" / "health.cose"

    def meanwhile(*letters: Any) -> None:
        report = open_health(place.read_bytes(), public_key(white.secret))
        place.write_bytes(seal_health(replace(report, uptime_s=report.uptime_s + 1), white.secret))
        deliver(*letters)

    monkeypatch.setattr(courier, "_deliver", meanwhile)
    visit(white, stick)
    word = open_health((stick / "outbox" / "gw-plaza-health.cose").read_bytes(), public_key(white.secret))
    assert word.log == town.archive.log_checkpoint().size
    config = load(white.enrolled.file)
    assert courier._reported(config) == word.log
    for content in (b"rubbish", next((stick / "outbox").glob("gw-plaza-0*.cose"), place).read_bytes()[:-1]):
        place.write_bytes(content)
        assert courier._reported(config) == 0
    place.unlink()
    assert courier._reported(config) == 0


def test_a_report_is_not_waited_for_in_vain(white: Any, town: Town, stick: Path) -> None:
    """Only where the receipt tells of a longer log, and while `sense` may make one: the messages go in any case."""
    waited: list[float] = []

    def go() -> Visit:
        waited.clear()
        return export(white.enrolled.file, stick, waited.append)

    go()
    assert waited == []
    town.take(stick)
    assert go().settled_seq == 2 and sum(waited) == 75, "a `sense` that hangs"
    visit(white, stick)
    go()
    assert waited == [], "the log is known by now"
    with town.archive.transaction():
        logbook.annotated(town.archive._db, "plaza", 1, b"")
    town.take(stick)
    white.db.close()
    go()
    assert waited == [], "a `sense` that is stopped"
    (white.enrolled.folder / "data" / "gateway.db.lock").unlink()
    go()
    assert waited == []


def test_who_waits_with_the_stick_in_hand_is_told(
    white: Any, town: Town, stick: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, and on stderr: nobody pulls the stick out of what seems to hang."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    visit(white, stick)
    town.take(stick)
    capsys.readouterr()
    assert main(["edge", "export", str(stick), "--config", str(white.enrolled.file)]) == 0
    told = capsys.readouterr()
    assert told.err.count("murmure: waits for `sense` to report, 75 seconds at most: leave the stick in\n") == 1
    assert "settled up to" in told.out


def test_a_ledger_of_before_the_log_is_exported(white: Any, town: Town, stick: Path) -> None:
    """By a newer command, beside a `sense` that was not started anew."""
    visit(white, stick)
    town.take(stick)
    white.db._db.execute("DROP TABLE journal")
    white.db.close()
    assert export(white.enrolled.file, stick).settled_seq == 2


def test_a_visit_without_news_writes_nothing(white: Any, stick: Path) -> None:
    """What lies there already is left alone; a stick without an answer brings no letter."""
    visit(white, stick)
    before = {path: path.stat().st_mtime_ns for path in stick.rglob("*.cose")}
    again = visit(white, stick)
    assert (again.letters, again.written, again.present, again.removed) == (0, 0, 2, 0)
    assert {path: path.stat().st_mtime_ns for path in stick.rglob("*.cose")} == before


def test_the_policy_of_the_town_comes_back_with_the_receipt(
    white: Any, town: Town, stick: Path, write_policy: Callable[..., bytes]
) -> None:
    """A steward's pause reaches a white zone on the next visit."""
    visit(white, stick)
    toml = write_policy(2, nodes=NODES, extra="paused = true")
    with town.archive.transaction():
        town.archive.put_policy(StoredPolicy(digest(toml), "plaza", 2, toml, white.enrolled.policy(toml)))
    town.take(stick)
    assert visit(white, stick).letters == 2
    white.live(MIDNIGHT_S + 2 * HOUR_S, MIDNIGHT_S + 3 * HOUR_S)
    assert "policy 2: accepted" in white.said
    assert white.nodes()[-1][3] == "paused"


def test_what_a_restored_centre_asks_for_goes_on_the_stick(white: Any, town: Town, stick: Path, tmp_path: Path) -> None:
    """The numbers in the receipt are carried again although they were settled long ago."""
    white.live(MIDNIGHT_S + 2 * HOUR_S, MIDNIGHT_S + 6 * HOUR_S)
    sent = white.db.rows()
    visit(white, stick)
    (stick / "outbox" / "gw-plaza-000000000002.cose").unlink()
    town.take(stick)
    white.db.settle(6)  # as a receipt had said before the archive was lost
    white.live(MIDNIGHT_S + 6 * HOUR_S, MIDNIGHT_S + 7 * HOUR_S)
    assert town.settled() == 1
    visit(white, stick)
    assert on(stick) == [2, 7] and (stick / "outbox" / "gw-plaza-000000000002.cose").read_bytes() == sent[2]
    town.take(stick)
    assert town.settled() == 7


def test_a_backlog_beyond_the_folder_is_exported_whole(white: Any, stick: Path) -> None:
    """The outbox folder holds the oldest thousand; a year's visit takes them all, with or without a health report."""
    (load(white.enrolled.file).outbox / "health.cose").unlink()
    following, _ = white.db.next_message()
    for seq in range(following, ROOM + 50):
        with white.db.transaction():
            white.db.put(seq, b"message %d" % seq)
    assert visit(white, stick).written == ROOM + 49
    assert on(stick) == list(range(1, ROOM + 50))


def test_a_tour_of_several_gateways_mixes_nothing(white: Any, town: Town, stick: Path) -> None:
    """Names carry the gateway; another's messages stay, and what is for another, or signed by another, is no letter."""
    visit(white, stick)
    town.take(stick)
    theirs = stick / "outbox" / "gw-market-000000000001.cose"
    theirs.write_bytes(b"theirs")
    own = stick / "inbox" / "gw-plaza"
    own.mkdir()
    receipt = white.enrolled.receipt(1, b"")
    (own / "receipt.cose").write_bytes(receipt[:-1])
    (own / "policy-1.cose").write_bytes(b"no policy")
    (own / "policy-huge.cose").write_bytes(bytes(1 << 20))
    (own / "notes.txt").write_text("see the mayor")
    white.enrolled.centre = new_key()[0]
    (stick / "inbox" / "receipt-9.cose").write_bytes(white.enrolled.receipt(9, b"forged"))
    again = visit(white, stick)
    assert (again.letters, again.settled_seq, again.removed) == (2, 2, 2)
    assert theirs.read_bytes() == b"theirs" and on(stick) == []


@pytest.mark.parametrize("make", ["a stranger's", "for another", "too long", "missing"])
def test_a_receipt_from_a_stranger_settles_nothing(white: Any, stick: Path, make: str) -> None:
    """On a stick that anybody may have had in hand: what is not the centre's word for this gateway moves nothing."""
    (stick / "inbox").mkdir()
    true = white.db.rows()[2]
    right = open_receipt(white.enrolled.receipt(2, true), public_key(white.enrolled.centre))
    sealed = {
        "a stranger's": seal_receipt(right, new_key()[0]),
        "for another": seal_receipt(replace(right, gateway="gw-market"), white.enrolled.centre),
        "too long": seal_receipt(right, white.enrolled.centre) + bytes(5000),
    }
    if make in sealed:
        (stick / "inbox" / "receipt.cose").write_bytes(sealed[make])
    assert visit(white, stick) == Visit(0, 2, 0, 0, 0, True)


def test_a_courier_that_believes_anybody_is_caught(white: Any, stick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: with the signature unread, a stranger's receipt keeps messages away from the centre."""
    forged = open_receipt(white.enrolled.receipt(2, white.db.rows()[2]), public_key(white.enrolled.centre))
    (stick / "inbox").mkdir()
    (stick / "inbox" / "receipt.cose").write_bytes(seal_receipt(forged, new_key()[0]))
    monkeypatch.setattr(courier, "_receipt", lambda sealed, _: sealed and forged)
    assert visit(white, stick).written == 0


# --- sticks ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mounted(stick: Path) -> Iterator[Callable[[str], Path]]:
    """mounted(options) -> the stick as a disk of its own."""
    done = []

    def mount(options: str) -> Path:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(stick)], check=False).returncode:
            pytest.skip("mounting a small disk needs root")
        done.append(stick)
        return stick

    yield mount
    for one in done:
        subprocess.run(["umount", str(one)], check=True)


def test_a_stick_of_its_own_is_known_as_such(white: Any, mounted: Callable[[str], Path]) -> None:
    """Only a folder on the gateway's own disk makes one ask whether the stick is mounted."""
    assert not visit(white, mounted("size=1m")).own_disk


def test_a_read_only_stick_is_one_line_and_what_it_brings_is_taken(
    white: Any, town: Town, mounted: Callable[[str], Path]
) -> None:
    """The switch on its side was moved: the receipt comes in, nothing is lost, the line says what to do."""
    stick = mounted("size=1m")
    visit(white, stick)
    town.take(stick)
    subprocess.run(["mount", "-o", "remount,ro", str(stick)], check=True)
    with pytest.raises(ExportError, match="is read-only: move the stick's switch") as caught:
        visit(white, stick)
    assert "\n" not in str(caught.value) and caught.value.exit_status == 1
    white.live(MIDNIGHT_S + 2 * HOUR_S, MIDNIGHT_S + 2 * HOUR_S + 60)
    assert white.db.depth() == 0


def test_a_stick_without_room_is_refused_before_anything_is_written(white: Any, mounted: Callable[[str], Path]) -> None:
    """Needed and free are counted in the stick's own blocks; with room made, all goes."""
    stick = mounted("size=48k")
    (stick / "holiday.jpg").write_bytes(bytes(48 * 1024 - 4096 * 2))
    with pytest.raises(ExportError, match=r"kB are free, .* kB are needed for 3 files; nothing was written"):
        visit(white, stick)
    assert on(stick) == []
    (stick / "holiday.jpg").unlink()
    assert visit(white, stick).written == 2


@pytest.mark.parametrize(
    ("code", "says"),
    [(errno.EIO, "pulled out"), (errno.ENODEV, "pulled out"), (errno.ENOSPC, "is full"), (errno.EDQUOT, "cannot be")],
)
def test_a_stick_that_is_pulled_out_is_one_line(
    white: Any, stick: Path, monkeypatch: pytest.MonkeyPatch, code: int, says: str
) -> None:
    """Whenever the disk fails: what has its name is whole, the rest waits, and the next visit goes on."""
    calls = 0

    def failing(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(ExportError, match=says) as caught:
        visit(white, stick)
    assert "\n" not in str(caught.value) and "on the gateway still" in str(caught.value)
    monkeypatch.undo()
    rows = white.db.rows()
    for path in (stick / "outbox").glob("gw-plaza-0*.cose"):
        assert path.read_bytes() == rows[int(path.name[9:21])]
    again = visit(white, stick)
    assert again.written + again.present == 2 and on(stick) == [1, 2]
    assert not [path for path in (stick / "outbox").iterdir() if path.name.endswith(".tmp")]


def test_a_link_on_a_stick_leads_nowhere(white: Any, stick: Path, tmp_path: Path) -> None:
    """Whoever prepared the stick does not choose where root writes."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "gw-plaza-000000000001.cose").write_bytes(b"mine")
    (stick / "outbox").symlink_to(elsewhere)
    with pytest.raises(ExportError, match="cannot be written to"):
        visit(white, stick)
    assert [path.read_bytes() for path in elsewhere.iterdir()] == [b"mine"]


@pytest.mark.parametrize("what", ["pipe", "device", "link"])
def test_what_a_stranger_put_beside_is_never_opened(white: Any, stick: Path, tmp_path: Path, what: str) -> None:
    """A pipe, a device or a link stands where a message is written beside: it goes, and the message comes."""
    (stick / "outbox").mkdir()
    beside = stick / "outbox" / ".gw-plaza-000000000001.cose.tmp"
    if what == "pipe":
        os.mkfifo(beside)
    elif what == "link":
        beside.symlink_to(tmp_path / "elsewhere")
    elif os.geteuid() == 0:
        os.mknod(beside, 0o600 | stat.S_IFCHR, os.makedev(1, 7))  # /dev/full: whoever writes into it is told so
    else:
        pytest.skip("a device needs root")
    assert visit(white, stick).written == 2
    assert not os.path.lexists(beside) and not (tmp_path / "elsewhere").exists()


def test_copies_of_one_policy_are_one_letter(white: Any, stick: Path, write_policy: Callable[..., bytes]) -> None:
    """However often a true policy lies on a stick, with whatever signatures, the gateway's card takes it once."""
    (stick / "inbox").mkdir()
    toml = write_policy(2, nodes=NODES)
    for number in range(40):
        sealed = seal_policy(toml, [(f"s{number}", white.enrolled.steward)])
        (stick / "inbox" / f"policy-{number}.cose").write_bytes(sealed)
    letters = load(white.enrolled.file).inbox
    before = len(list(letters.iterdir()))
    assert visit(white, stick).letters == 1
    assert len(list(letters.iterdir())) == before + 1


def test_a_gateway_whose_inbox_refuses_says_so(white: Any, town: Town, stick: Path) -> None:
    """The letters stay on the stick, and the line names the folder."""
    visit(white, stick)
    town.take(stick)
    inbox = load(white.enrolled.file).inbox
    for path in inbox.iterdir():
        path.unlink()
    inbox.rmdir()
    with pytest.raises(ExportError, match="cannot take what the centre sent"):
        visit(white, stick)


def test_before_the_first_start_there_is_nothing_to_carry(enrolled: Any, stick: Path) -> None:
    """No gateway.db is a line, and so is no folder."""
    file = enrolled.write()
    with pytest.raises(MurmureError, match=r"gateway\.db: cannot be read"):
        export(file, stick)
    with pytest.raises(ConfigError, match="is no folder; plug the stick in"):
        export(file, stick / "absent")


# --- commands --------------------------------------------------------------------------------------------------------


def test_the_command_says_what_was_exchanged(white: Any, town: Town, stick: Path, capsys: Any) -> None:
    """One line for people, one document for programs; a folder on the gateway's own disk is wondered at."""
    arguments = ["edge", "export", str(stick), "--config", str(white.enrolled.file)]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert said.out.startswith("2 messages written, 0 were there already; 0 letters of the centre taken")
    assert "is the stick mounted there?" in said.err and said.err.count("\n") == 1
    town.take(stick)
    white.db.close()  # `sense` is stopped: nobody waits for its report
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["letters"], told["removed"], told["settled_seq"]) == (2, 2, 2)
    assert main(["edge", "export", str(stick / "absent"), "--config", str(white.enrolled.file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_a_broker_send_is_refused_and_run_starts_sense_alone(white: Any, tmp_path: Path, capsys: Any) -> None:
    """`edge send` says what to write; `edge run` has one child."""
    white.db.close()
    assert main(["edge", "send", "--config", str(white.enrolled.file)]) == 2
    assert "broker: is missing; write a table [broker] with a host, or carry messages" in capsys.readouterr().err
    process = subprocess.Popen(
        [sys.executable, "-m", "murmure.cli", "edge", "run", "--config", str(white.enrolled.file)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    line = process.stderr.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    commands = [Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0") for child in children]
    process.terminate()
    assert process.wait(20) == 0
    process.stderr.close()
    assert line.startswith("murmure: sense: dust: absent")
    assert [command[4] for command in commands] == [b"sense"]
