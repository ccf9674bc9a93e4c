"""Processes that open messages: the same word as without them, whatever becomes of them."""

from __future__ import annotations

import io
import marshal
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from murmure_ingest import opener, openers
from murmure_ingest.intake import Arrival, Opened, Refused, open_sealed
from murmure_ingest.openers import Bundle, Openers
from murmure_privacy import wire
from murmure_privacy.release import Health

TOGETHER = 10
HEALTH = Health("gw-0", "q0", 1_795_392_000, 60, 1, "0.1", (("a", "ok"),), 0, "ok", None, 512)


@pytest.fixture
def work(centre: Any) -> Iterator[Callable[..., Openers]]:
    """Starts openers that know the register, and ends them."""
    started: list[Openers] = []

    def work(processes: int, say: Callable[[str], None] = lambda _: None) -> Openers:
        started.append(Openers(processes, ahead=4 * TOGETHER, say=say))
        started[-1].keys = keys(centre)
        return started[-1]

    yield work
    for one in started:
        one.stop()


def keys(centre: Any) -> dict[str, bytes]:
    return {line.gateway: line.record_key for line in centre.archive.enrolments()}


def everything(centre: Any) -> list[Arrival]:
    """What a town says, and what others say in its name: in the usual form and not, true and forged, on true topics and
    on none."""
    towns = [centre.gateway(f"gw-{number}", f"site-{number}", f"q{number}") for number in range(3)]
    arrivals: list[Arrival] = [arrival for gateway in towns for arrival in gateway.history(40)]
    topic, sealed = arrivals[0]
    other = towns[1]
    report = wire.seal_health(HEALTH, towns[0].secret)
    message = wire.open_message(sealed, wire.public_key(towns[0].secret))
    return [
        *arrivals,
        ("murmure/v1/q0/gw-0/health", report),
        (topic, wire.seal_message(message, other.secret)),  # forged
        (topic, wire.seal_message(replace(message, gateway="gw-1"), towns[0].secret)),  # in the name of a neighbour
        (other.topic, sealed),
        ("murmure/v1/q0/gw-nobody/release", wire.seal_message(replace(message, gateway="gw-nobody"), other.secret)),
        ("a topic of nobody", sealed),
        (None, sealed),
        (topic, sealed[:-1]),
        (topic, b""),
        (topic, bytes(wire.MESSAGE_LIMIT + 1)),
    ]


def bundles(openers: Openers, arrivals: Sequence[Arrival]) -> list[Bundle]:
    return [openers.submit(arrivals[at : at + TOGETHER]) for at in range(0, len(arrivals), TOGETHER)]


def here(centre: Any, arrivals: Sequence[Arrival]) -> list[object]:
    """What comes of them in this process, by the register."""
    known = keys(centre)
    return [open_sealed(arrival, lambda gateway: [known[gateway]] if gateway in known else []) for arrival in arrivals]


def test_a_process_comes_to_the_same_word(centre: Any, work: Callable[..., Openers]) -> None:
    """What it says is what this process would have said, but for what it has no key: that is asked again of the
    register, by whoever files."""
    arrivals, answers = everything(centre), io.BytesIO()
    asked = [work(0)._asked(*arrival) for arrival in arrivals]
    opener.serve(io.BytesIO(opener.pack(asked)), answers)
    found = marshal.loads(answers.getvalue()[opener.LENGTH_BYTES :])
    words = [openers._read(*both) for both in zip(arrivals, found, strict=True)]
    sure = [
        (one, other)
        for one, other in zip(here(centre, arrivals), words, strict=True)
        if not (isinstance(other, Refused) and other.reason in openers.UNSURE)
    ]
    assert all(one == other for one, other in sure)
    assert Counter(type(one) for one, _ in sure) == {Opened: 3 * 40 + 1, Refused: 3}


def test_openers_open_everything_in_order(centre: Any, work: Callable[..., Openers]) -> None:
    """Each bundle gets its own answers, whoever opened it, and a process is started only where many wait."""
    arrivals = [arrival for arrival in everything(centre) if arrival[0]][:120]
    asker = work(2)
    few = asker.submit(arrivals[:TOGETHER])
    assert asker.result(few) == here(centre, arrivals[:TOGETHER])
    assert asker.pids == []
    found = [one for bundle in bundles(asker, arrivals) for one in asker.result(bundle)]
    assert found == here(centre, arrivals)
    assert len(asker.pids) >= 1


def test_a_process_opens_what_waits(centre: Any, work: Callable[..., Openers], until: Any) -> None:
    """Bundles are opened beside this process, without a word from it but to take the answers."""
    arrivals = everything(centre)[:120]
    asker = work(1)
    sent = bundles(asker, arrivals)

    def opened() -> bool:
        asker.pump()
        return all(bundle.opened is not None for bundle in sent)

    until(opened)
    assert [one for bundle in sent for one in bundle.opened or ()] == here(centre, arrivals)


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_dies_costs_nothing(
    centre: Any, work: Callable[..., Openers], signal_number: signal.Signals
) -> None:
    """What it was asked is opened all the same, in order, it is told once, and another takes its place."""
    arrivals, said = everything(centre)[:120], list[str]()
    asker = work(1, said.append)
    for _ in range(2):
        sent = bundles(asker, arrivals)
        (pid,) = asker.pids
        os.kill(pid, signal_number)
        assert [one for bundle in sent for one in asker.result(bundle)] == here(centre, arrivals)
    assert said == ["a process that opens messages has ended; another takes its place"] * 2


def test_processes_that_cannot_live_are_given_up(
    centre: Any, work: Callable[..., Openers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that ends at once, or is not there, leaves the work here; it is not started without end."""
    arrivals, said = everything(centre)[:120], list[str]()
    monkeypatch.setattr(openers, "_LIVES", 3)
    monkeypatch.setattr(openers, "_PROGRAM", ("-c", ""))
    asker = work(1, said.append)
    for _ in range(6):
        sent = bundles(asker, arrivals)
        assert [one for bundle in sent for one in asker.result(bundle)] == here(centre, arrivals)
    assert asker.pids == []
    assert len(said) == 3 and said[-1].endswith("none takes its place: messages are opened here")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    asker = work(1, said.append)
    sent = bundles(asker, arrivals)
    assert [one for bundle in sent for one in asker.result(bundle)] == here(centre, arrivals)
    assert said[-1] == "no process beside this one can be started (No such file or directory): messages are opened here"


@pytest.mark.parametrize("program", ["import time; time.sleep(600)", "print('x' * 9999, flush=True); input()"])
def test_a_process_that_is_silent_or_mad_is_ended(
    centre: Any, work: Callable[..., Openers], monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """Who does not answer, or not as agreed, is replaced; the queue moves."""
    arrivals, said = everything(centre)[:120], list[str]()
    monkeypatch.setattr(openers, "_SILENCE_MS", 100)
    monkeypatch.setattr(openers, "_LIVES", 1)
    monkeypatch.setattr(openers, "_PROGRAM", ("-c", program))
    asker = work(1, said.append)
    sent = bundles(asker, arrivals)
    assert [one for bundle in sent for one in asker.result(bundle)] == here(centre, arrivals)
    assert asker.pids == [] and len(said) == 1


def test_a_process_ends_with_its_parent(until: Any) -> None:
    """Whatever has ended the centre, even SIGKILL, ends its openers; what a terminal or systemd tells all does not."""
    parent = (
        "import sys, time; from murmure_ingest import openers\n"
        "process = openers._Process(); print(process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        pid = int(started.stdout.readline())
        until(lambda: b"murmure_ingest.opener" in Path(f"/proc/{pid}/cmdline").read_bytes())
        assert os.getsid(pid) != os.getsid(0)
        started.kill()
    until(lambda: not _alive(pid))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
