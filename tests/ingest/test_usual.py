"""What mostly comes is judged in one look: to the same word, and the same rows, as by every check one after the other.

Two intakes get the same messages, of which one has no shorter way. Each gateway tells eleven good messages and then one
that is otherwise in one thing, each thing that the shorter way looks at; then one more, after it.
"""

from __future__ import annotations

import ast
import inspect
import shutil
import sqlite3
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from murmure_ingest import gateways, intake
from murmure_ingest.archive import Archive, ArchiveError, StoredPolicy
from murmure_ingest.intake import AHEAD_S, Arrival, Conflict, Intake, Opened, Refused, Stored, Word
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.release import Message, Outcome, Release, Withheld
from murmure_privacy.window import QUARTER_S

MONDAY_S = 1_795_392_000
BEFORE = 11
HOUR_S = MONDAY_S + (BEFORE + 1) * QUARTER_S  # the twelfth quarter-hour closes an hour, so that there are more nodes
DAY_S = 86_400
SOON_S = MONDAY_S + 20 * DAY_S + 3600  # an hour ends
NOW_S = SOON_S - AHEAD_S - 1  # a second before any clock may say so
CAP = b'\ncap = { units_per_day = 2, span = "1w", epsilon = 4 }'  # three days of a week, of seven
BATCH = 7  # not in step with anything

Change = Callable[[Message], Message]
Usual = Callable[[Intake, Opened, Sequence[Any]], Stored | None]


def node(place: int, **changes: Any) -> Change:
    """Changes the node of one outcome, which is counted from the first."""

    def changed(message: Message) -> Message:
        outcomes = list(message.outcomes)
        outcomes[place] = replace(outcomes[place], node=replace(outcomes[place].node, **changes))
        return replace(message, outcomes=tuple(outcomes))

    return changed


def noised(place: int, **changes: Any) -> Change:
    """Changes each indicator of one outcome."""

    def changed(message: Message) -> Message:
        outcomes = list(message.outcomes)
        outcome = outcomes[place]
        assert isinstance(outcome, Release)
        outcomes[place] = Release(outcome.node, tuple(replace(one, **changes) for one in outcome.noised))
        return replace(message, outcomes=tuple(outcomes))

    return changed


def doubled(message: Message) -> Message:
    """The same node twice."""
    return replace(message, outcomes=(*message.outcomes, message.outcomes[-1]))


def said_more(message: Message) -> Message:
    """One indicator twice."""
    *others, last = message.outcomes
    assert isinstance(last, Release)
    return replace(message, outcomes=(*others, Release(last.node, last.noised * 2)))


def withheld(message: Message) -> Message:
    """A node without a value."""
    *others, last = message.outcomes
    return replace(message, outcomes=(*others, Withheld(last.node, "sensor_absent")))


def told(message: Message) -> Message:
    """A node that was released before."""
    first, *others = message.outcomes
    there = replace(first.node, start_s=MONDAY_S, end_s=MONDAY_S + 3600, covered_from_s=MONDAY_S)
    return replace(message, outcomes=(replace(first, node=there), *others))


def with_fields(**changes: Any) -> Change:
    return lambda message: replace(message, **changes)


def later(place: int, seconds: int) -> Change:
    """Moves a node in time."""

    def changed(message: Message) -> Message:
        at = message.outcomes[place].node
        moved = {name: getattr(at, name) + seconds for name in ("start_s", "end_s", "covered_from_s")}
        return node(place, **moved)(message)

    return changed


_FIRST_S = MONDAY_S - 22 * DAY_S - 3600  # the policy's first day begins, in Paris
CHANGES: dict[str, tuple[Change, str]] = {
    "good": (with_fields(), ""),
    "covered in part": (node(1, covered_from_s=HOUR_S - 1800), ""),
    "withheld": (withheld, ""),
    "another quartier": (with_fields(quartier="elsewhere"), "wrong_site"),
    "another site": (with_fields(site="elsewhere"), "wrong_site"),
    "a number left out": (with_fields(seq=BEFORE + 2), ""),
    "a number that is there": (with_fields(seq=BEFORE), "sequence_conflict"),
    "after another message": (with_fields(previous=b"x" * 32), "chain_broken"),
    "closed in the future": (with_fields(closing_s=NOW_S + AHEAD_S + 1), "too_early"),
    "a node of the future": (later(1, SOON_S - HOUR_S), "too_early"),
    "an unknown policy": (node(1, policy=b"p" * 32), "unknown_policy"),
    "an unknown policy alone": (lambda m: node(0, policy=b"p" * 32)(node(1, policy=b"p" * 32)(m)), "unknown_policy"),
    "an unknown stream": (node(1, stream="nobody/pm2_5"), "not_in_policy"),
    "another stream's quantity": (node(1, quantity="pm10"), "not_in_policy"),
    "another cadence": (node(1, cadence_ms=2000), "not_in_policy"),
    "other bounds": (node(1, bounds=(0, 2000)), "not_in_policy"),
    "not aligned": (later(1, -QUARTER_S), "not_in_policy"),
    "too short": (node(1, start_s=HOUR_S - 1800, covered_from_s=HOUR_S - 1800), "not_in_policy"),
    "ends too soon": (node(1, end_s=HOUR_S - 1), "not_in_policy"),
    "on the first day": (later(1, _FIRST_S + 3600 - HOUR_S), ""),
    "before the first day": (later(1, _FIRST_S - HOUR_S), "not_in_policy"),
    "covered from within a quarter-hour": (node(1, covered_from_s=HOUR_S - 1860), "not_in_policy"),
    "a sensor that was absent": (node(1, present=9), "not_in_policy"),
    "less noise": (noised(1, sigma_milli=1), "not_in_policy"),
    "less cost": (noised(1, rho_micro=1), "not_in_policy"),
    "another indicator": (noised(1, indicator="crossings"), "not_in_policy"),
    "more integers": (noised(1, integers=(1, 2)), "not_in_policy"),
    "an indicator twice": (said_more, "not_in_policy"),
    "one node twice": (doubled, "node_conflict"),
    "a node that is there": (told, "node_conflict"),
}
OTHERWISE = (
    *("cap", "two", "revoked", "policies", "overdue", "key", "cloned", "topics"),
    *("another site's policy", "wholly another site", "misnamed", "paused", "half paused", "backwards", "midnight"),
)
"""Sites at which it is not the message that is otherwise."""


@dataclass
class Town:
    """A centre at rest, and what it is told: in batches, by label."""

    folder: Path
    arrivals: list[tuple[str, Arrival]]

    def hear(self, folder: Path, usual: Usual | None) -> tuple[list[Word], list[str], int]:
        """Returns words, rows, and how many were filed in the shorter way, if there is one."""
        shutil.copytree(self.folder, folder)
        archive = Archive.open(folder / "archive.db")
        shorter: list[Stored] = []

        class Tried(Intake):
            def _file_usual(self, opened: Opened, keys: Sequence[Any]) -> Stored | None:
                word = usual(self, opened, keys) if usual else None
                shorter.extend([word] if word else [])
                return word

        judge = Tried(archive, RuleBook(archive), lambda: NOW_S)
        words = []
        for at in range(0, len(self.arrivals), BATCH):
            words += judge.accept_many([arrival for _, arrival in self.arrivals[at : at + BATCH]])
        archive.close()
        with closing(sqlite3.connect(folder / "archive.db")) as db:
            return words, list(db.iterdump()), len(shorter)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, make_centre: Any, policy_text: Any) -> Iterator[Town]:
    """All of them in one town."""
    centre = make_centre(tmp_path_factory.mktemp("town"))
    labels: dict[str, Any] = {}
    for number, label in enumerate([*CHANGES, *OTHERWISE]):
        labels[label] = centre.gateway(f"gw-{number}", f"s{number}")
    histories: dict[str, list[Arrival]] = {}
    for label, gateway in labels.items():
        histories[label] = list(gateway.history(BEFORE))
        message = gateway.message(HOUR_S, outcomes=_released(gateway, HOUR_S))
        changed = CHANGES[label][0](message) if label in CHANGES else message
        for one in (changed, None):
            sealed = wire.seal_message(one or gateway.message(HOUR_S + QUARTER_S), gateway.secret)
            gateway.sealed.append(sealed)
            histories[label].append((gateway.topic, sealed))
    _arrange(centre, labels, histories, policy_text)
    centre.archive.close()
    # Each message of all before the next of any.
    turns = range(max(map(len, histories.values())))
    arrivals = [(label, its[turn]) for turn in turns for label, its in histories.items() if turn < len(its)]
    yield Town(centre.config.data_dir, arrivals)


def _released(gateway: Any, at_s: int) -> tuple[Release, ...]:
    """Returns what closes at an instant, without what is withheld."""
    return tuple(one for one in gateway.outcomes(at_s) if isinstance(one, Release))


def _arrange(centre: Any, labels: dict[str, Any], histories: dict[str, list[Arrival]], policy_text: Any) -> None:
    """Makes what is not in the messages themselves."""

    def under(label: str, toml: bytes, instants: Sequence[int], first: int = 0) -> None:
        """Says something else from a number on: what closes at some instants, under another policy."""
        gateway, its = labels[label], histories[label]
        gateway.policy = toml
        del gateway.sealed[first:], its[first:]
        its += [(gateway.topic, gateway.seal(at_s)) for at_s in instants]

    def publish(site: str, toml: bytes) -> bytes:
        """Files another version of a site's policy, whatever it says."""
        with centre.archive.transaction():
            centre.archive.put_policy(StoredPolicy(wire.digest(toml), site, 2, toml, centre.signed(toml)))
        return toml

    def say(label: str, *told: tuple[int, Sequence[Outcome]]) -> None:
        """Says these outcomes instead, each when it closes."""
        gateway = labels[label]
        under(label, gateway.policy, [])
        histories[label] = [(gateway.topic, gateway.seal(at_s, outcomes=tuple(its))) for at_s, its in told]

    def second(label: str, *changes: tuple[bytes, bytes]) -> bytes:
        toml: bytes = policy_text(labels[label].site, 2)
        for old, new in changes:
            assert old in toml
            toml = toml.replace(old, new, 1)
        return publish(labels[label].site, toml)

    quarters = [MONDAY_S + (number + 1) * QUARTER_S for number in range(BEFORE + 2)]
    only = b'{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }'
    capped = second("cap", (only, b'{ "15min" = 1 }' + CAP))
    under("cap", capped, [quarters[0] + day * DAY_S for day in range(7)])
    first = labels["policies"].policy
    under("policies", second("policies", (b"epsilon = 1.0", b"epsilon = 0.5")), quarters[5:-1], 5)
    under("policies", first, quarters[-1:], BEFORE + 1)  # which was over by then
    midnight_s = MONDAY_S - 3600  # in Paris
    overdue = second("overdue", (b"2027-11-30", b"2026-11-22"))
    under("overdue", overdue, [midnight_s - QUARTER_S, midnight_s + QUARTER_S, *quarters])
    under("paused", second("paused", (b"\n\n", b"\npaused = true\n\n")), quarters[:1])
    under("half paused", second("half paused", (b"epsilon", b"paused = true\nepsilon")), quarters[:1])
    named = labels["misnamed"].policy.replace(b"version = 1", b"version = 2")
    with centre.archive.transaction():  # as if the bytes had changed since
        centre.archive.put_policy(StoredPolicy(wire.digest(named), labels["misnamed"].site, 2, named + b"\n", b""))
    under("misnamed", named, quarters[:1])
    ends_s = MONDAY_S + DAY_S
    say("midnight", *((at_s, _released(labels["midnight"], at_s)) for at_s in range(ends_s - 900, ends_s + 1800, 900)))
    # An hour and a quarter of it, what was long before, and the last quarter, which ends when the hour did.
    back = labels["backwards"]
    (hour, *_), quarter = _released(back, HOUR_S), back.message(HOUR_S - QUARTER_S)
    last = later(0, QUARTER_S)(quarter)
    say("backwards", *((HOUR_S, its) for its in ([hour, *quarter.outcomes], back.outcomes(quarters[0]), last.outcomes)))
    under("another site's policy", labels["revoked"].policy, quarters[:1])
    stray = labels["wholly another site"]
    stray.policy = labels["revoked"].policy
    message = stray.message(quarters[1], seq=1, previous=wire.FIRST_PREVIOUS, site=labels["revoked"].site)
    histories["wholly another site"] = [(stray.topic, wire.seal_message(message, stray.secret))]
    gateways.revoke(centre.archive, labels["revoked"].name)
    under("two", labels["two"].policy, [], BEFORE)
    beside = centre.gateway("gw-beside", labels["two"].site)
    beside.policy = second("two", (only, b'{ "1h" = 1 }'))
    histories["beside"] = [(beside.topic, beside.seal(HOUR_S))] * 2  # each hour that it tells of costs all once more
    histories["beside"] = [*[("nobody", b"")] * BEFORE, *histories["beside"]]
    changing = labels["key"]
    changing.secret, public = wire.new_key()
    with centre.archive.transaction():
        centre.archive.put_rotation(changing.name, public, b"its word", bytes(64))
    under("key", changing.policy, quarters[9:], 9)
    _, sealed = histories["another quartier"][BEFORE]
    histories["another quartier"][BEFORE] = (None, sealed)
    carried, misplaced = histories["topics"][BEFORE - 1 : BEFORE + 1]
    histories["topics"][BEFORE - 1 : BEFORE + 1] = [(None, carried[1]), (f"{misplaced[0]}s", misplaced[1])]
    twin = labels["cloned"]
    broken = wire.seal_message(twin.message(HOUR_S + 2 * QUARTER_S, seq=BEFORE, previous=b"y" * 32), twin.secret)
    histories["cloned"].insert(BEFORE, (twin.topic, broken))


def reasons(town: Town, words: Sequence[Word]) -> dict[str, list[str]]:
    """Returns the word on each message of each."""
    found: dict[str, list[str]] = {}
    for (label, _), word in zip(town.arrivals, words, strict=True):
        found.setdefault(label, []).append(word.reason if isinstance(word, Refused | Conflict) else "")
    return found


def test_both_ways_come_to_the_same(town: Town, tmp_path: Path) -> None:
    """Words and every row of every table; and the shorter way is the usual one."""
    words, rows, shorter = town.hear(tmp_path / "usual", Intake._file_usual)
    careful, same_rows, none = town.hear(tmp_path / "careful", None)
    assert words == careful
    assert rows == same_rows
    assert none == 0
    assert shorter > len(words) / 2
    found = reasons(town, words)
    for label, (_, reason) in CHANGES.items():
        assert found[label][: BEFORE + 1] == [""] * BEFORE + [reason], label
    assert found["revoked"] == ["revoked_gateway"] * (BEFORE + 2)
    assert found["overdue"][:2] == ["", "not_in_policy"]
    for label in ("misnamed", "paused", "half paused"):
        assert found[label] == ["not_in_policy"], label
    assert found["backwards"] == found["midnight"] == [""] * 3
    assert found["another site's policy"] == ["not_in_policy"]
    assert found["wholly another site"] == ["wrong_site"]
    assert found["policies"][BEFORE:] == ["", "not_in_policy"]
    assert found["topics"][BEFORE - 1 : BEFORE + 1] == ["", "bad_topic"]
    assert "sequence_conflict" in found["cloned"]
    assert found["cloned"][-1] == "cloned"
    assert found["beside"][BEFORE:] == ["not_in_policy", ""]  # and once more the same is a duplicate
    assert found["cap"] == ["", "", "", "over_cap", "over_cap", "over_cap", "over_cap"]
    assert found["key"] == [""] * (BEFORE + 2)


BESIDE = (  # of which no message tells, or another test does
    "line is None",  # nobody has a key of a gateway that the register does not know
    "isinstance(said, str)",  # a word has more letters than a node has indicators
    "archive.notes(site)",  # test_what_a_cap_has_been_told_is_not_left_behind
)


def _source() -> str:
    return textwrap.dedent(inspect.getsource(Intake._file_usual))


def _questions(tree: ast.AST) -> list[ast.If]:
    return [one for one in ast.walk(tree) if isinstance(one, ast.If)]


def _parts(question: ast.If) -> list[ast.expr]:
    return question.test.values if isinstance(question.test, ast.BoolOp) else [question.test]


def conditions() -> list[tuple[int, int]]:
    """Returns the place of every condition of the shorter way: which question, and which part of it."""
    questions = _questions(ast.parse(_source()))
    return [
        (number, part)
        for number, question in enumerate(questions)
        for part, condition in enumerate(_parts(question))
        if ast.unparse(condition) not in BESIDE
    ]


def without(number: int, part: int) -> Usual:
    """Returns the shorter way without one of its conditions."""
    tree = ast.parse(_source())
    question = _questions(tree)[number]
    if isinstance(question.test, ast.BoolOp):
        question.test.values[part] = ast.Constant(False)
    else:
        question.test = ast.Constant(False)
    found: dict[str, Any] = {}
    exec(compile(ast.fix_missing_locations(tree), "twin", "exec"), vars(intake), found)
    usual: Usual = found["_file_usual"]
    return usual


@pytest.fixture(scope="module")
def by_every_check(town: Town, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Word], list[str]]:
    """What the town comes to without a shorter way."""
    words, rows, _ = town.hear(tmp_path_factory.mktemp("every") / "careful", None)
    return words, rows


@pytest.mark.parametrize(("number", "part"), conditions())
def test_no_condition_can_be_left_out(
    town: Town, by_every_check: tuple[list[Word], list[str]], tmp_path: Path, number: int, part: int
) -> None:
    """The twins: without any one of them something is filed that is not to be, or otherwise, or nothing at all."""
    try:
        words, other_rows, _ = town.hear(tmp_path / "twin", without(number, part))
    except (ArchiveError, AssertionError, AttributeError, LookupError, TypeError, ValueError):
        return
    assert (words, other_rows) != by_every_check


def test_what_a_cap_has_been_told_is_not_left_behind(centre: Any) -> None:
    """What a judge has noted of a site's days does not outlive a message that is not in it."""
    gateway = centre.gateway()
    centre.intake.accept_many(gateway.history(2))
    noted = (f"{gateway.site}/footfall", b"c" * 32)
    opened = [centre.intake.open((gateway.topic, gateway.seal(MONDAY_S + 3 * QUARTER_S)))]
    with centre.archive.transaction():
        centre.archive.notes(gateway.site)[noted] = object()
        (word,) = centre.intake.judge(opened)
        assert noted not in centre.archive.notes(gateway.site)
    assert isinstance(word, Stored)
