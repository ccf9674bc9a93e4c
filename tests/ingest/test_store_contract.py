"""What every store of the centre has to do (ingest/murmure_ingest/store.py). A new one is a line in STORES."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from murmure_ingest.archive import (
    Archive,
    ArchiveError,
    Enrolment,
    NodeKey,
    StoredHealth,
    StoredPolicy,
    StreamInfo,
    Turn,
    Unfiled,
)
from murmure_ingest.archive.rows import charge_of
from murmure_ingest.integers import NodeRow, Scale, scale_of
from murmure_ingest.store import Store
from murmure_privacy import wire
from murmure_privacy.release import Message, Release
from murmure_privacy.succession import Use, Uses
from murmure_privacy.wire import LEVEL_CODES

MONDAY_S = 1_795_392_000
Opener = Callable[[], Store]

STORES: dict[str, Callable[[Path], Store]] = {"sqlite": lambda folder: Archive.open(folder / "archive.db")}


@pytest.fixture(params=STORES)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the one store of a test, each time for another process or thread."""
    folder = tmp_path / "store"
    folder.mkdir()
    return lambda: STORES[request.param](folder)


@pytest.fixture
def gateway(centre: Any) -> Any:
    """A gateway that seals what a real one would; 12 messages."""
    gateway = centre.gateway()
    gateway.history(12)
    return gateway


def line_of(gateway: Any) -> Enrolment:
    key = wire.public_key(gateway.secret)
    return Enrolment(gateway.name, gateway.quartier, gateway.site, key, (key,), 1)


def opened(gateway: Any, seq: int) -> tuple[Message, bytes]:
    sealed = gateway.sealed[seq - 1]
    return wire.open_message(sealed, wire.public_key(gateway.secret)), sealed


def put(store: Store, gateway: Any, *numbers: int, disposition: Any = "filed", reason: str = "") -> None:
    """Files messages of a gateway in one batch, and its line of the register before the first."""
    with store.transaction():
        line = store.enrolment(gateway.name) or store.enrol(line_of(gateway))
        for seq in numbers:
            message, sealed = opened(gateway, seq)
            store.put(message, sealed, line, disposition, reason)


def there(store: Store, gateway: Any) -> list[int]:
    return [seq for seq in range(1, 30) if store.find(gateway.name, seq)]


def in_a_process(work: Callable[[], object], stopped: bool = False) -> None:
    """Runs something in a process that ends without closing anything: of itself, or, `stopped`, when it stops itself,
    by SIGKILL."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    if stopped:
        assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
        os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == (signal.SIGKILL if stopped else 0)


# --- batch in --------------------------------------------------------------------------------------------------------


def batches_are_durable(opener: Opener, gateway: Any) -> None:
    """What a batch has put is there after its process is gone, whole and as it was put."""

    def work() -> None:
        put(opener(), gateway, 1, 2, 3)

    in_a_process(work)
    store = opener()
    assert there(store, gateway) == [1, 2, 3]
    found = store.find(gateway.name, 2)
    assert found is not None
    assert (found.sealed, found.hash, found.disposition) == (gateway.sealed[1], wire.digest(gateway.sealed[1]), "filed")
    store.close()


def batches_are_whole(opener: Opener, gateway: Any) -> None:
    """Nothing is left of a batch that raised, nor of one whose process was killed in it."""
    store = opener()
    put(store, gateway, 1)
    with pytest.raises(KeyError), store.transaction():
        line = store.enrolment(gateway.name)
        assert line is not None
        store.put(*opened(gateway, 2), line, "filed")
        store.count("stored")
        raise KeyError
    assert there(store, gateway) == [1]
    store.close()

    def work() -> None:
        mine = opener()
        with mine.transaction():
            line = mine.enrolment(gateway.name)
            assert line is not None
            mine.put(*opened(gateway, 2), line, "filed")
            os.kill(os.getpid(), signal.SIGSTOP)

    in_a_process(work, stopped=True)
    store = opener()
    assert there(store, gateway) == [1]
    assert store.totals(gateway.name).settled_seq == 1
    put(store, gateway, 2)
    store.close()


def nodes_have_one_place(opener: Opener, gateway: Any) -> None:
    """A second message with a node, or with a number, is refused, and its batch with it; the first stays."""
    store = opener()
    put(store, gateway, 1, 2)
    gateway.seal(MONDAY_S + 900)  # number 13, with the nodes of number 1
    again = wire.seal_message(gateway.message(MONDAY_S + 90_000, seq=2), gateway.secret)
    message, _ = opened(gateway, 13)
    assert store.taken(message.outcomes) == message.outcomes[0].node.key
    assert store.released_before(message.outcomes, gateway.name)
    assert not store.released_before(message.outcomes, "gw-other")
    assert store.taken(opened(gateway, 3)[0].outcomes) is None
    for second, sealed in ((message, gateway.sealed[12]), (replace(message, seq=2), again)):
        with pytest.raises(ArchiveError), store.transaction():
            line = store.enrolment(gateway.name)
            assert line is not None
            store.put(*opened(gateway, 3), line, "filed")
            store.put(second, sealed, line, "filed")
        assert there(store, gateway) == [1, 2]
    assert len(store.outcomes("plaza/footfall", 0, 1 << 40)) == 2
    store.close()


def writers_take_turns(opener: Opener, gateway: Any) -> None:
    """What a writer has seen within its batch holds until the end of it, however many there are."""
    put(opener(), gateway, 1)
    won: list[int] = []
    lost: list[ArchiveError] = []

    def work(number: int) -> None:
        store = opener()
        for seq in range(2, 13):
            try:
                with store.transaction():
                    if store.find(gateway.name, seq) is None:
                        line = store.enrolment(gateway.name)
                        assert line is not None
                        store.put(*opened(gateway, seq), line, "filed")
                        won.append(number)
            except ArchiveError as error:
                lost.append(error)
        store.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert len(won) == 11 and there(opener(), gateway) == list(range(1, 13))


def counters_and_health_are_kept(opener: Opener, gateway: Any) -> None:
    """Of health the last that was put of each gateway, which is told at once within a batch; it can be dropped."""
    store = opener()
    newer, older = (StoredHealth(gateway.name, *told) for told in ((2, 5, 9, b"x"), (1 << 53, 0, 5, b"y")))
    other = replace(older, gateway="gw-other")
    with store.transaction():
        assert store.last_health(gateway.name) is None
        for report in (newer, other, older):
            store.put_health(report)
            assert store.last_health(report.gateway) == report
        store.forget_health(gateway.name)
        store.count("refused:malformed", 2)
    assert (store.last_health(gateway.name), store.last_health("gw-other")) == (None, other)
    store.close()


# --- durable up to here ----------------------------------------------------------------------------------------------


def receipts_say_what_is_settled(opener: Opener, gateway: Any) -> None:
    """Contiguous from 1, with the hash of the last and the sum of what was charged; holes are asked for."""
    store = opener()
    assert store.totals(gateway.name).settled_seq == 0
    put(store, gateway, 1, 2, 5, 8)
    totals = store.totals(gateway.name)
    assert (totals.settled_seq, totals.settled_hash) == (2, wire.digest(gateway.sealed[1]))
    assert store.missing(gateway.name) == [(3, 4), (6, 7)]
    charged = sum(
        n.rho_micro for seq in (1, 2, 5, 8) for o in opened(gateway, seq)[0].outcomes for n in getattr(o, "noised", ())
    )
    assert totals.charged_rho_micro == charged > 0
    put(store, gateway, 4, 3)
    assert (store.totals(gateway.name).settled_seq, store.missing(gateway.name)) == (5, [(6, 7)])
    store.close()


def heads_follow_the_order_of_filing(opener: Opener, gateway: Any) -> None:
    """Anybody can compute the running hash from the messages' own."""
    store = opener()
    head = bytes(32)
    assert store.head() == head
    for seq in (1, 3, 2):
        put(store, gateway, seq)
        head = hashlib.sha256(head + wire.digest(gateway.sealed[seq - 1])).digest()
        assert store.head() == head
    store.close()


def others_see_what_has_changed(opener: Opener, gateway: Any) -> None:
    """Whole batches only, and a mark that tells that there was one."""
    writer, reader = opener(), opener()
    put(writer, gateway, 1)
    mark = reader.change_mark()
    with writer.transaction():
        line = writer.enrolment(gateway.name)
        assert line is not None
        writer.put(*opened(gateway, 2), line, "filed")
        assert (there(reader, gateway), reader.change_mark()) == ([1], mark)
    assert reader.change_mark() != mark
    assert there(reader, gateway) == [1, 2]
    writer.close()
    reader.close()


def what_waits_gets_its_last_word(opener: Opener, gateway: Any) -> None:
    """Kept whole, settled but not filed, until a word files or refuses it; a refused one leaves its hash."""
    store = opener()
    put(store, gateway, 1, 2, disposition="quarantined", reason="unknown_policy")
    put(store, gateway, 3, disposition="refused", reason="wrong_site")
    assert store.exceptions(gateway.name, 9) == [(1, "quarantined"), (2, "quarantined"), (3, "refused")]
    assert store.outcomes("plaza/footfall", 0, 1 << 40) == []
    first, second = store.quarantined("unknown_policy")
    assert store.quarantined("unknown_policy", [gateway.name, "gw-other"]) == [first, second]
    assert store.quarantined("unknown_policy", ["gw-other"]) == []
    assert store.waiters("unknown_policy") == {gateway.name: second.id} and store.waiters("chain_broken") == {}
    assert (first.seq, first.sealed) == (1, gateway.sealed[0])
    with store.transaction():
        store.amend(first, opened(gateway, 1)[0], "filed")
        store.amend(second, opened(gateway, 2)[0], "refused", "not_in_policy")
    assert store.quarantined("unknown_policy") == [] and store.waiters("unknown_policy") == {}
    assert store.exceptions(gateway.name, 9) == [(2, "refused"), (3, "refused")]
    assert [o.node.start_s for o in store.outcomes("plaza/footfall", 0, 1 << 40)] == [MONDAY_S]
    third = store.find(gateway.name, 3)
    assert third is not None and (third.sealed, third.hash) == (None, wire.digest(gateway.sealed[2]))
    store.close()


def evidence_is_bounded_and_not_forgotten(opener: Opener, gateway: Any) -> None:
    """A hundred of a kind are enough; one fork is told for ever."""
    store = opener()
    put(store, gateway, 1, 2)
    assert not store.cloned(gateway.name)
    message = opened(gateway, 2)[0]
    with store.transaction():
        for number in range(150):
            store.put_conflict(message, gateway.sealed[1] + bytes([number]), "sequence_conflict")
    store.close()
    store = opener()
    assert store.cloned(gateway.name)
    assert store.exceptions(gateway.name, 9) == [(2, "forked")]
    store.close()


def what_is_not_kept_is_noted(opener: Opener, gateway: Any) -> None:
    """Whether evidence is kept is said of each, and days on which something was not are those of one site."""
    store = opener()
    put(store, gateway, 1)
    message = opened(gateway, 1)[0]
    with store.transaction():
        evidence = [gateway.sealed[0] + bytes([number]) for number in range(101)]
        kept = [store.put_conflict(message, sealed, "sequence_conflict") for sealed in evidence]
        assert kept == [True] * 100 + [False]
        assert store.put_conflict(message, evidence[99], "sequence_conflict")
    assert store.unkept_until("plaza") is None
    for at_s in (MONDAY_S + 5, MONDAY_S + 86_400, MONDAY_S + 7):
        with store.transaction():
            store.note_unkept(gateway.name, at_s)
    store.close()
    store = opener()
    assert store.unkept_until("plaza") == MONDAY_S + 2 * 86_400
    assert store.unkept_until("other") is None
    store.close()


def what_is_not_filed_is_counted(opener: Opener, gateway: Any) -> None:
    """Messages, and the bytes that are kept of them, gateway by gateway, also while a batch is being put, and whoever
    has put them; what is filed in the end does not count."""
    store, other = opener(), opener()
    sizes = [len(sealed) for sealed in gateway.sealed]
    put(store, gateway, 1, 2)
    with store.transaction():
        line = store.enrolment(gateway.name)
        assert line is not None
        assert store.unfiled(gateway.name) == (0, 0)
        for seq in (3, 4):
            store.put(*opened(gateway, seq), line, "quarantined", "unknown_policy")
        store.put(*opened(gateway, 5), line, "refused", "wrong_site")
        assert store.unfiled(gateway.name) == (3, sizes[2] + sizes[3])
    put(other, gateway, 6, disposition="quarantined", reason="chain_broken")
    with store.transaction():
        assert store.unfiled(gateway.name) == (4, sizes[2] + sizes[3] + sizes[5])
        assert store.unfiled("gw-other") == (0, 0)
        store.amend(store.quarantined("unknown_policy")[0], opened(gateway, 3)[0], "filed")
        assert store.unfiled(gateway.name) == (3, sizes[3] + sizes[5])
    assert other.unfiled(gateway.name) == (3, sizes[3] + sizes[5])
    store.close()
    other.close()


# --- register, policies, series --------------------------------------------------------------------------------------


def the_newest_line_holds(opener: Opener, gateway: Any) -> None:
    """Lines are added, never changed; each keeps its number, and the last is told, whoever has added it."""
    store, reader = opener(), opener()
    assert reader.newest_line() == 0
    with store.transaction():
        first = store.enrol(line_of(gateway))
        second = store.enrol(replace(first, status="revoked"))
        third = store.enrol(replace(line_of(gateway), gateway="gw-other"))
    assert first.id < second.id < third.id == store.newest_line() == reader.newest_line()
    reader.close()
    assert store.enrolment(gateway.name) == second != first
    assert store.enrolment_line(first.id) == first and store.enrolment_line(99) is None
    assert store.lines_of(gateway.name) == [second, first]
    assert [line.gateway for line in store.enrolments()] == ["gw-other", gateway.name]
    assert (store.named_keys(gateway.name), store.rotations(gateway.name, first.record_key)) == ([], [])
    store.close()


def a_site_keeps_its_gateways_and_what_they_spent(opener: Opener, gateway: Any) -> None:
    """Every gateway that ever had a line for a site, at once also within a batch; charges add up at an instant."""
    store = opener()
    put(store, gateway, *range(1, 13))
    line = line_of(gateway)
    with store.transaction():
        assert list(store.gateways_of(line.site)) == [line.gateway]
        store.enrol(replace(line, gateway="gw-next"))
        store.enrol(replace(line, gateway="gw-away", site="gare"))
        store.enrol(replace(line, status="revoked"))
        assert sorted(store.gateways_of(line.site)) == ["gw-next", line.gateway]
        assert store.gateways_of("nowhere") == []
        spent = [store.largest_spend("plaza/footfall", MONDAY_S, MONDAY_S + until_s) for until_s in (900, 3 * 3600)]
    charges = {
        outcome.node.level: sum(noised.rho_micro for noised in outcome.noised)
        for seq in (1, 4)
        for outcome in opened(gateway, seq)[0].outcomes
        if outcome.node.stream == "plaza/footfall" and isinstance(outcome, Release)
    }
    assert spent == [charges["15min"] + charges["1h"]] * 2
    assert sorted(store.gateways_of(line.site)) == ["gw-next", line.gateway]
    store.close()


def policies_are_found_by_hash(opener: Opener, gateway: Any) -> None:
    """The exact bytes; the newest is that with the highest version; a version is given once."""
    store = opener()
    policies = [StoredPolicy(wire.digest(toml), "plaza", n, toml, b"s") for n, toml in ((2, b"two"), (1, b"one"))]
    with store.transaction():
        for policy in policies:
            store.put_policy(policy)
    assert (store.policy(policies[1].hash), store.policy(bytes(32))) == (b"one", None)
    assert (store.newest_policy("plaza"), store.newest_policy("moon")) == (policies[0], None)
    with pytest.raises(ArchiveError), store.transaction():
        store.put_policy(replace(policies[1], hash=bytes(32)))
    store.close()


def series_come_as_they_were_signed(opener: Opener, gateway: Any) -> None:
    """The nodes that touch [from, to), by end, then by level, equal to what the gateway has sealed."""
    store = opener()
    put(store, gateway, *range(12, 0, -1))
    sealed = [o for seq in range(1, 13) for o in opened(gateway, seq)[0].outcomes if o.node.stream == "plaza/footfall"]
    whole = store.outcomes("plaza/footfall", 0, 1 << 40)
    assert whole == sorted(sealed, key=lambda o: (o.node.end_s, LEVEL_CODES.index(o.node.level)))
    part = store.outcomes("plaza/footfall", MONDAY_S + 900, MONDAY_S + 1800)
    assert part == [o for o in whole if o.node.start_s < MONDAY_S + 1800 and o.node.end_s > MONDAY_S + 900] != []
    assert store.outcomes("plaza/footfall", MONDAY_S, MONDAY_S) == []
    assert store.streams() == [
        StreamInfo(gateway.name, "centre", "plaza", f"plaza/{name}", name) for name in ("footfall", "pm2_5")
    ]
    store.close()


def integers_are_read_as_they_were_signed(opener: Opener, gateway: Any) -> None:
    """Of any size and sign, by begin, each with what it is an integer of; of what was withheld there is none."""
    values = (0, -1, 127, 128, -128, -129, 40_000, -(1 << 31), (1 << 31) - 1, 1 << 31, -(1 << 63), (1 << 63) - 1)
    gateway.sealed.clear()
    for number, value in enumerate(values, 1):
        closing_s = MONDAY_S + 900 * number
        gateway.seal(closing_s, outcomes=gateway.outcomes(closing_s, value))
    store = opener()
    put(store, gateway, *range(12, 0, -1))
    said = {o.node.key: o for seq in range(1, 13) for o in opened(gateway, seq)[0].outcomes}
    found = 0
    for stream, level in (("plaza/footfall", "15min"), ("plaza/footfall", "1h"), ("plaza/pm2_5", "1h")):
        rows = store.nodes(stream, level, MONDAY_S, MONDAY_S + 10_800)
        assert [row[0] for row in rows] == sorted(start_s for s, at, start_s in said if (s, at) == (stream, level))
        for start_s, end_s, covered_from_s, present, reason, number, integers in rows:
            outcome, scale = said[stream, level, start_s], store.scale(number)
            node = outcome.node
            assert (end_s, covered_from_s, present) == (node.end_s, node.covered_from_s, node.present)
            assert (scale.policy, scale.cadence_ms, scale.bounds) == (node.policy, node.cadence_ms, node.bounds)
            noised = getattr(outcome, "noised", ())
            assert scale.parts == tuple((n.indicator, len(n.integers), n.sigma_milli, n.rho_micro) for n in noised)
            assert integers == tuple(integer for n in noised for integer in n.integers)
            assert reason == getattr(outcome, "reason", None)
            found += 1
    assert found == 12 + 3 + 3
    part = store.nodes("plaza/footfall", "15min", MONDAY_S + 900, MONDAY_S + 2700)
    assert [row[0] - MONDAY_S for row in part] == [900, 1800]
    assert store.nodes("plaza/footfall", "15min", MONDAY_S, MONDAY_S) == []
    store.close()


def a_past_is_looked_up(opener: Opener, gateway: Any) -> None:
    """What the next message is judged by: those beside it, however far, and the policies used."""
    store = opener()
    put(store, gateway, 1, 4)
    assert store.beside(gateway.name, 3, "before") == store.beside(gateway.name, 2, "before") == opened(gateway, 1)[0]
    assert store.beside(gateway.name, 3, "after") == store.beside(gateway.name, sys.maxsize, "before")
    assert (store.beside(gateway.name, 4, "after"), store.beside(gateway.name, 1, "before")) == (None, None)
    use = Use("plaza/footfall", bytes(32), 1, 2, 3, 4, 5)
    with store.transaction():
        store.put_use(gateway.name, use)
        store.put_use(gateway.name, replace(use, last_seq=6))
    assert store.uses(gateway.name) == [replace(use, last_seq=6)]
    store.close()


def next_one(store: Store, gateway: Any, line: Enrolment, seq: int) -> list[tuple[str, str, int]]:
    """Files a message as the next one, of which it gives the keys."""
    message, sealed = opened(gateway, seq)
    keys = [outcome.node.key for outcome in message.outcomes]
    store.foresee([gateway.name], keys)
    turn = store.turn(gateway.name)
    assert turn is not None
    assert (turn[0], turn[1]) == (seq, message.previous)
    assert store.free(keys)
    assert not store.free([*keys, keys[0]])
    kept = [(scale_of(outcome), charge_of(outcome)) for outcome in message.outcomes]
    store.put_next(wire.flatten(message), keys, kept, sealed, line.id)
    assert not store.free(keys)
    return keys


def the_next_message_is_filed_in_one(opener: Opener, gateway: Any) -> None:
    """What is put as the next one is there as if it had been put, with how it used its policies; and whose turn it is
    follows from it."""
    store, policy = opener(), opened(gateway, 1)[0].outcomes[0].node.policy
    with store.transaction():
        line = store.enrol(line_of(gateway))
        store.foresee([gateway.name], [])
        assert store.turn(gateway.name) == (1, wire.FIRST_PREVIOUS, set())
        next_one(store, gateway, line, 1)
        assert store.turn(gateway.name) == (2, wire.digest(gateway.sealed[0]), {policy})
    with store.transaction():
        next_one(store, gateway, line, 2)
    told = Uses(lambda _: pytest.fail("nothing is judged here"))
    uses = [told.add(opened(gateway, seq)[0]) for seq in (1, 2)][-1]
    assert store.uses(gateway.name) == uses
    for seq in (1, 2):
        message, sealed = opened(gateway, seq)
        found = store.find(gateway.name, seq)
        assert found is not None
        assert (found.sealed, found.disposition, found.enrolment) == (sealed, "filed", line.id)
        for outcome in message.outcomes:
            node = outcome.node
            assert store.outcomes(node.stream, node.start_s, node.end_s) == [outcome]
            (row,) = store.nodes(node.stream, node.level, node.start_s, node.end_s)
            assert isinstance(outcome, Release)
            assert store.scale(row[5]) == scale_of(outcome)
            assert row[6] == tuple(integer for one in outcome.noised for integer in one.integers)
    totals = store.totals(gateway.name)
    assert totals.settled_seq == 2
    assert totals.charged_rho_micro == sum(charge_of(o) for seq in (1, 2) for o in opened(gateway, seq)[0].outcomes)
    put(store, gateway, 4)
    with store.transaction():
        store.foresee([gateway.name], [])
        assert store.turn(gateway.name) is None  # the third is missing
    store.close()


def places_are_known_ahead(opener: Opener, gateway: Any) -> None:
    """What is foreseen is known to be free or not, whoever put it before, in whichever way, and in which order."""
    store, other = opener(), opener()

    def keys(seq: int) -> list[tuple[str, str, int]]:
        return [outcome.node.key for outcome in opened(gateway, seq)[0].outcomes]

    def free(*numbers: int) -> list[int]:
        store.foresee([gateway.name], [key for seq in range(1, 13) for key in keys(seq)])
        return [seq for seq in numbers if store.free(keys(seq))]

    with store.transaction():
        line = store.enrol(line_of(gateway))
        assert free(1, 2) == [1, 2]
        next_one(store, gateway, line, 1)
        assert free(1, 2) == [2]
    with store.transaction():
        assert free(1, 2) == [2]
        store.put(*opened(gateway, 6), line, "filed")
        assert not store.free(keys(6))
        assert store.taken(opened(gateway, 5)[0].outcomes) is None
        assert free(5, 6, 7) == [5, 7]
        store.put(*opened(gateway, 5), line, "filed")
        assert [seq for seq in (5, 6, 7) if store.free(keys(seq))] == [7]
        assert store.taken(opened(gateway, 5)[0].outcomes) == keys(5)[0]
        assert store.taken(opened(gateway, 7)[0].outcomes) is None
    put(other, gateway, 8, 7)
    with store.transaction():
        assert free(*range(4, 10)) == [4, 9]
        assert store.taken(opened(gateway, 8)[0].outcomes) == keys(8)[0]
        store.put(*opened(gateway, 2), line, "filed")
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.put(*opened(gateway, 10), line, "filed")
        raise ZeroDivisionError
    with store.transaction():
        assert free(*range(1, 13)) == [3, 4, 9, 10, 11, 12]
    store.close()
    other.close()


def what_was_not_committed_has_no_turn(opener: Opener, gateway: Any) -> None:
    """Neither the message nor what its gateway's turn is judged by outlives a transaction that fails."""
    store = opener()
    with store.transaction():
        line = store.enrol(line_of(gateway))
    with pytest.raises(ZeroDivisionError), store.transaction():
        next_one(store, gateway, line, 1)
        raise ZeroDivisionError
    assert there(store, gateway) == []
    with store.transaction():
        next_one(store, gateway, line, 1)
    assert there(store, gateway) == [1]
    store.close()


RULES: list[Callable[[Opener, Any], None]] = [
    batches_are_durable,
    batches_are_whole,
    nodes_have_one_place,
    writers_take_turns,
    counters_and_health_are_kept,
    receipts_say_what_is_settled,
    heads_follow_the_order_of_filing,
    others_see_what_has_changed,
    what_waits_gets_its_last_word,
    evidence_is_bounded_and_not_forgotten,
    what_is_not_kept_is_noted,
    what_is_not_filed_is_counted,
    the_newest_line_holds,
    policies_are_found_by_hash,
    a_site_keeps_its_gateways_and_what_they_spent,
    series_come_as_they_were_signed,
    integers_are_read_as_they_were_signed,
    a_past_is_looked_up,
    the_next_message_is_filed_in_one,
    what_was_not_committed_has_no_turn,
    places_are_known_ahead,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_store_keeps_the_contract(rule: Callable[[Opener, Any], None], opener: Opener, gateway: Any) -> None:
    """Each rule on each store."""
    rule(opener, gateway)


class Late(Archive):
    """Broken on purpose: it commits when it is closed."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
        yield

    def close(self) -> None:
        if self._db.in_transaction:
            self._db.execute("COMMIT")
        super().close()


class Eager(Archive):
    """Broken on purpose: every statement is its own commit."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        yield


class Optimist(Archive):
    """Broken on purpose: it looks before it has the right to write."""

    def find(self, gateway: str, seq: int) -> Any:
        if self._db.in_transaction:
            self._db.execute("COMMIT")
            found = super().find(gateway, seq)
            time.sleep(0.005)
            self._db.execute("BEGIN IMMEDIATE")
            return found
        return super().find(gateway, seq)


class Forgiving(Archive):
    """Broken on purpose: the last of two messages with one node stays."""

    def put(self, message: Message, *rest: Any, **named: Any) -> None:
        self._db.execute("DROP TRIGGER IF EXISTS nodes_no_delete")
        for outcome in message.outcomes:
            self._db.execute("DELETE FROM nodes WHERE stream = ? AND level = ? AND start_s = ?", outcome.node.key)
        super().put(message, *rest, **named)


class Deaf(Archive):
    """Broken on purpose: it never hears of another writer."""

    def change_mark(self) -> int:
        return 0


class Remembering(Archive):
    """Broken on purpose: it looks at the register once."""

    @cache  # noqa: B019
    def gateways_of(self, site: str) -> Any:
        return super().gateways_of(site)


class Magnitude(Archive):
    """Broken on purpose: it reads integers without their sign."""

    def nodes(self, stream: str, level: str, from_s: int, to_s: int) -> list[NodeRow]:
        return [(*row[:6], tuple(map(abs, row[6]))) for row in super().nodes(stream, level, from_s, to_s)]


class Absent(Archive):
    """Broken on purpose: it counts what is not filed once, and never again."""

    def unfiled(self, gateway: str) -> Unfiled:
        found = super().unfiled(gateway)
        self._remembered.unfiled.pop(gateway, None)
        first: Unfiled = self.__dict__.setdefault(gateway, found)
        return first


class OneScale(Archive):
    """Broken on purpose: what a level's integers are, it says of all levels."""

    def scale(self, row: int) -> Scale:
        return super().scale(1)


class Careless(Archive):
    """Broken on purpose: it is any message's turn that comes after the last, whatever is missing before."""

    def turn(self, gateway: str) -> Turn | None:
        self._standing(gateway).settled_seq = getattr(self._standing(gateway).last, "seq", 0)
        return super().turn(gateway)


class Onward(Archive):
    """Broken on purpose: of what it has foreseen nothing is there, it believes."""

    def free(self, keys: Collection[NodeKey]) -> bool:
        return len(set(keys)) == len(keys)


class Unshaken(Archive):
    """Broken on purpose: whose turn it is outlives a transaction that fails."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            with super().transaction():
                known = self._remembered
                yield
        except ZeroDivisionError:
            self._remembered = known
            raise


class Wasteful(Archive):
    """Broken on purpose: it does not keep what the next message says of policies."""

    def put_next(self, *args: Any) -> None:
        super().put_next(*args)
        self._later().new_uses.clear()
        self._later().uses.clear()


TWINS = {
    Late: batches_are_durable,
    Eager: batches_are_whole,
    Optimist: writers_take_turns,
    Forgiving: nodes_have_one_place,
    Deaf: others_see_what_has_changed,
    Remembering: a_site_keeps_its_gateways_and_what_they_spent,
    Absent: what_is_not_filed_is_counted,
    Magnitude: integers_are_read_as_they_were_signed,
    OneScale: integers_are_read_as_they_were_signed,
    Careless: the_next_message_is_filed_in_one,
    Wasteful: the_next_message_is_filed_in_one,
    Unshaken: what_was_not_committed_has_no_turn,
    Onward: places_are_known_ahead,
}


@pytest.mark.parametrize(("twin", "rule"), TWINS.items(), ids=lambda one: one.__name__)
def test_a_store_that_breaks_a_rule_is_found_out(
    twin: type[Archive], rule: Callable[[Opener, Any], None], gateway: Any, tmp_path: Path
) -> None:
    """The twins: each is a store that looks like one."""
    with pytest.raises((AssertionError, ArchiveError, pytest.fail.Exception)):
        rule(lambda: twin.open(tmp_path / "twin.db"), gateway)
