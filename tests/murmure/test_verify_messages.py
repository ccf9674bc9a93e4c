"""Second part of a check, the messages: each rule at the number where it begins to hold.

What a gateway said and what the log says of it are put side by side by hand. Whole towns stand in `test_verify.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_privacy import verify_messages, wire
from murmure_privacy.audit import Auditor
from murmure_privacy.errors import WireError
from murmure_privacy.findings import Report
from murmure_privacy.plan import plan
from murmure_privacy.policy import parse
from murmure_privacy.publication import Day, Publication, date_of
from murmure_privacy.release import Message, Node, Noised, Release, Withheld
from murmure_privacy.verify_log import Account, Book, Ruled, Speaker
from murmure_privacy.verify_messages import Heard
from murmure_privacy.window import Window, utc

DAY = 20_780  # 2026-11-23, a Monday
DAY_S = 86_400
BEGIN_S = DAY * DAY_S
STREAM = "plaza/footfall"
POLICY = """policy = 1
site = "{site}"
version = {version}
timezone = "UTC"
decision = "D"
reason = "R."
valid_from = 2026-11-01
valid_until = 2027-11-30

[[stream]]
id = "{site}/footfall"
quantity = "footfall"
protects = {{ crossings = 1 }}
epsilon = 1.0
nodes = {{ "15min" = 1, "1h" = 1 }}
"""
NAME = "gw-plaza"
STEWARD = wire.new_key()
Found = list[tuple[str, str]]
Levels = Mapping[tuple[str, int], Mapping[str, tuple[int, int, int]]]


def text(version: int = 1, site: str = "plaza") -> bytes:
    return POLICY.format(version=version, site=site).encode()


def ruled(version: int = 1, site: str = "plaza", notice_s: int = 0) -> Ruled:
    made = plan(parse(text(version, site), "test"))
    sealed = wire.seal_policy(text(version, site), [("s", STEWARD[0])])
    return Ruled(site, version, made, Auditor(made, made.calendar), sealed, None, notice_s)


class Case:
    """A gateway of a log, and a check that has heard nothing yet."""

    def __init__(self, *, days: Sequence[Day] = (), closing: Sequence[bytes] = (), key: bytes = b"") -> None:
        self.report = Report()
        published = Publication(b"", b"", [], {}, [], closing, days, None)
        self.book = Book(published, self.report)
        self.gateway = Speaker("centre", "plaza", [key], [STEWARD[1]], ceiling_rho_micro=1 << 40)
        self.book.gateways[NAME] = self.gateway
        self.know(ruled())
        self.heard = Heard(published, self.book)

    def know(self, policy: Ruled) -> None:
        self.book.policies[policy.plan.policy.hash] = self.book.versions[policy.site, policy.version] = policy

    def hear(self, numbers: Iterable[int], day: int = DAY) -> None:
        """Messages in their chain."""
        for seq in numbers:
            self.gateway.heard[seq] = digest(seq), digest(seq - 1), day

    def account(
        self, day: int, last: int, nodes: Levels | None = None, without: Sequence[tuple[int, int]] = ()
    ) -> None:
        self.gateway.accounts[day] = Account(last, digest(last), nodes or {}, without)

    @property
    def found(self) -> Found:
        return [(one.kind, one.where) for one in self.report.findings]


def digest(seq: int) -> bytes:
    return seq.to_bytes(32, "big")


# --- numbers ---------------------------------------------------------------------------------------------------------


def numbered(case: Case, *, whole: bool = True, days: Sequence[int] = (DAY,)) -> Found:
    case.report.days = list(days)
    case.heard.sequences(whole=whole)
    return case.found


def test_numbers_without_a_hole_are_settled() -> None:
    """From the first on where all days were looked at, else from the first that was heard."""
    case = Case()
    case.hear(range(1, 6))
    assert (numbered(case), case.gateway.settled) == ([], 5)
    case = Case()
    case.hear(range(4, 6))
    assert (numbered(case, whole=False), case.gateway.settled) == ([], 5)
    assert numbered(Case()) == numbered(Case(), whole=False) == numbered(Case(), whole=False, days=()) == []


def test_the_first_number_is_one() -> None:
    """What lacks before the first message lacks, once an account or a week says so."""
    case = Case()
    case.hear(range(3, 6))
    assert (numbered(case), case.gateway.settled) == ([], 0)
    case.account(DAY, 5)
    assert numbered(case) == [("hole", f"{NAME} 1 < 3")]


def test_a_part_begins_after_the_accounts_before_it() -> None:
    """The largest of them; what an account of the days that were read ends with has to be there."""
    case = Case()
    case.hear(range(10, 13))
    case.account(DAY - 2, 5)
    case.account(DAY - 1, 9)
    case.account(DAY, 12)
    assert (numbered(case, whole=False), case.gateway.settled) == ([], 12)
    case.account(DAY, 14)
    assert numbered(case, whole=False) == [("hole", f"{NAME} 13 < 15")] and case.gateway.settled == 12
    case = Case()
    case.hear(range(10, 13))
    case.account(DAY - 1, 7)
    case.account(DAY, 12)
    assert numbered(case, whole=False) == [("hole", f"{NAME} 8 < 10")] and case.gateway.settled == 7
    case = Case()
    case.hear(range(10, 13))
    case.account(DAY - 1, 7)
    case.account(DAY, 12)
    case.account(DAY + 1, 20)  # of a day that nobody read
    assert numbered(case, whole=False) == [("hole", f"{NAME} 8 < 10")]


def test_the_accounts_before_a_part_are_those_before_its_first_day() -> None:
    """That of its own first day excuses nothing that lacks there."""
    case = Case()
    case.hear([10, 12])
    case.account(DAY - 1, 9)
    case.account(DAY, 12)
    assert numbered(case, whole=False, days=(DAY + 1, DAY)) == [("hole", f"{NAME} 11 < 12")]


def test_what_comes_before_a_part_is_not_gone_through() -> None:
    """A message that an account before it counted stands in it as well: between both nobody looked."""
    case = Case()
    case.hear([5, 10])
    case.account(DAY - 1, 9)
    case.account(DAY, 10)
    assert (numbered(case, whole=False), case.gateway.settled) == ([], 10)


def test_a_part_without_accounts_begins_with_what_was_heard() -> None:
    """And is whole from there on; where nothing was heard, all that the account ends with lacks."""
    case = Case()
    case.hear([4, 6])
    case.account(DAY, 6)
    assert numbered(case, whole=False) == [("hole", f"{NAME} 5 < 6")] and case.gateway.settled == 4
    case = Case()
    case.account(DAY, 3)
    assert numbered(case, whole=False) == [("hole", f"{NAME} 1 < 4")] and case.gateway.settled == 0


def test_refused_numbers_that_lie_apart_excuse_none_between_them() -> None:
    """Ranges that touch are one; a number between two of them lacks."""
    for without, heard, found in (
        ([(3, 3), (5, 5)], [1, 2, 6], [("hole", f"{NAME} 4 < 6")]),
        ([(3, 3), (6, 6)], [1, 2, 4, 7], [("hole", f"{NAME} 5 < 7")]),
        ([(3, 3), (4, 4), (5, 5)], [1, 2, 6], []),
        ([(3, 5), (4, 4)], [1, 2, 6], []),
        ([(2, 2), (4, 7), (5, 5)], [1, 3, 8], []),
    ):
        case = Case()
        case.hear(heard)
        case.account(DAY, heard[-1], without=without)
        assert numbered(case) == found


ranges = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3)).map(lambda one: (one[0], one[0] + one[1])))


@given(ranges, st.integers(1, 12), st.integers(0, 9))
def test_the_first_number_that_lacks_is_the_first_in_no_range(
    told: list[tuple[int, int]], begin: int, length: int
) -> None:
    """However the accounts cut what was refused into ranges, as sets of numbers have it."""
    joined = verify_messages._joined(told)
    refused = {number for first, last in told for number in range(first, last + 1)}
    assert [number for first, last in joined for number in range(first, last + 1)] == sorted(refused)
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(joined))
    lacking = [number for number in range(begin, begin + length) if number not in refused]
    assert verify_messages._first_missing(begin, begin + length, joined) == next(iter(lacking), None)


@pytest.mark.parametrize(
    ("without", "first"),
    [([(3, 4)], None), ([(3, 3), (4, 4)], None), ([(1, 9)], None), ([(3, 3)], 4), ([(4, 4)], 3), ([(5, 6)], 3)],
)
def test_a_number_that_was_refused_is_no_hole(without: Sequence[tuple[int, int]], first: int | None) -> None:
    """The accounts say so, all of them together."""
    case = Case()
    case.hear([1, 2, 5, 6])
    case.account(DAY, 6)
    case.account(DAY - 9, 6, without=without)
    assert numbered(case) == ([] if first is None else [("hole", f"{NAME} {first} < 5")])
    assert case.gateway.settled == (6 if first is None else first - 1)


@pytest.mark.parametrize(("days", "found"), [(6, []), (7, [("hole", f"{NAME} 3 < 4")])])
def test_a_message_may_be_on_its_way_for_a_week(days: int, found: Found) -> None:
    """Counted from the day of the one that came after it to the newest that is there."""
    case = Case()
    case.hear([1, 2])
    case.hear([4, 5])
    case.hear([6], DAY + days)
    assert numbered(case) == found and case.gateway.settled == 2
    case.account(DAY, 2)
    assert numbered(case) == found
    case.account(DAY, 3)
    assert ("hole", f"{NAME} 3 < 4") in numbered(case)


def test_what_an_account_counts_is_on_its_way_no_longer() -> None:
    """Of several accounts, the one with the largest number."""
    case = Case()
    case.hear([1, 2])
    case.hear([4], DAY + 1)
    case.account(DAY, 2)
    case.account(DAY + 1, 4)
    assert numbered(case, days=(DAY, DAY + 1)) == [("hole", f"{NAME} 3 < 4")]


def test_what_is_settled_ends_before_the_first_of_several_holes() -> None:
    """Whatever comes later."""
    case = Case()
    case.hear([1, 2, 4, 6])
    case.account(DAY, 6)
    assert numbered(case) == [("hole", f"{NAME} 3 < 4"), ("hole", f"{NAME} 5 < 6")]
    assert case.gateway.settled == 2


def test_each_message_names_the_one_before_it() -> None:
    """The next number alone: across a hole nobody can say."""
    case = Case()
    case.hear(range(1, 6))
    case.gateway.heard[3] = digest(9), digest(2), DAY
    assert numbered(case) == [("chain", f"{NAME} 4")]
    case = Case()
    case.hear([1, 3])
    assert numbered(case) == []


# --- accounts --------------------------------------------------------------------------------------------------------

RHO = {level: cost for level in ("15min", "1h") if (cost := ruled().plan.streams[STREAM].node(level))}


def node(level: str, start_s: int, policy: Ruled | None = None, **changes: Any) -> Node:
    made = (policy or ruled()).plan
    length_s = {"15min": 900, "1h": 3600}[level]
    part = next(iter(made.streams.values())).stream
    about = start_s, start_s + length_s, start_s, 20, part.cadence_ms, part.bounds, made.policy.hash
    return replace(Node(STREAM, "footfall", level, *about), **changes)


def release(level: str, start_s: int, value: int = 7, sigma_milli: int | None = None, **changes: Any) -> Release:
    (indicator,) = RHO[level].indicators
    noised = Noised("crossings", (value,), sigma_milli or indicator.sigma_milli, indicator.rho_micro)
    return Release(node(level, start_s, **changes), (noised,))


def counted(case: Case, *outcomes: Release | Withheld, days: Sequence[int] = (DAY,)) -> Found:
    for one in outcomes:
        case.heard.nodes[one.node.key] = NAME, 1, one
    case.report.days = list(days)
    case.heard.accounts()
    return case.found


def hours(released: int, withheld: int = 0) -> Levels:
    return {(STREAM, 1): {"1h": (released, withheld, released * RHO["1h"].rho_micro)}}


def test_an_account_is_what_its_nodes_add_up_to() -> None:
    """Released and withheld, by the day on which they end: midnight is of the day before."""
    nodes = [release("1h", BEGIN_S + 3600 * hour) for hour in (0, 1, 23)]
    kept = [Withheld(node("1h", BEGIN_S + 3600 * hour), "clock") for hour in (2, 3)]
    for told, found in ((hours(3, 2), []), (hours(2, 2), ["account_wrong"]), (hours(3, 1), ["account_wrong"])):
        case = Case()
        case.account(DAY, 1, told)
        assert counted(case, *nodes, *kept) == [(kind, f"{NAME} {date_of(DAY)}") for kind in found]
    case = Case()
    case.account(DAY + 1, 1, hours(3, 2))
    assert counted(case, *nodes, *kept, days=(DAY + 2,)) == []  # a day that nobody read
    case = Case()
    case.account(DAY + 1, 1, hours(1))
    assert counted(case, release("1h", BEGIN_S + 23 * 3600, end_s=BEGIN_S + DAY_S + 1), days=(DAY + 1,)) == []
    nameless = Withheld(node("1h", BEGIN_S, policy=ruled(9)), "clock")
    case = Case()
    case.account(DAY, 1, {(STREAM, 0): {"1h": (0, 1, 0)}})
    assert counted(case, nameless) == []


def test_a_day_that_is_over_has_an_account() -> None:
    """It is over once the log has a later one, or once what is settled says more on the next day."""
    one = release("1h", BEGIN_S)
    missing = [("account_missing", f"{NAME} {date_of(DAY)}")]
    for day, settled, found in ((DAY, 9, []), (DAY + 1, 9, missing), (DAY + 1, 2, missing), (DAY + 1, 1, [])):
        case = Case()
        case.hear([2], day)
        case.gateway.settled = settled
        assert counted(case, one) == found
    case = Case()
    case.account(DAY + 1, 1)
    assert counted(case, one) == missing
    case = Case()
    case.account(DAY + 1, 1)
    assert counted(case) == []  # nothing was said that day
    case = Case()
    case.account(DAY - 2, 1)
    case.account(DAY + 1, 1)
    assert counted(case, one) == missing  # between two that are there
    assert counted(Case(), release("1h", 0), days=(0,)) == []  # the first day there is, and none is over


def test_an_account_ends_with_the_message_that_was_heard() -> None:
    """By its hash."""
    case = Case()
    case.hear([1, 2])
    case.account(DAY, 2)
    assert counted(case) == []
    case.gateway.heard[2] = digest(7), digest(1), DAY
    assert counted(case) == [("account_message", f"{NAME} {date_of(DAY)}")]


def test_no_day_has_more_nodes_than_hours() -> None:
    """By one gateway, or by two that share a site; a version that nobody has counts nothing."""
    where = f"{NAME} {date_of(DAY)}: {STREAM} 1h"
    for released, found in ((24, []), (25, [("overspent", where)])):
        case = Case()
        case.account(DAY, 1, hours(released))
        assert counted(case, days=()) == found
    for released, found in ((12, []), (13, [("overspent", f"gw-2 {date_of(DAY)}: {STREAM} 1h")])):
        case = Case()
        case.account(DAY, 1, hours(12))
        case.book.gateways["gw-2"] = Speaker("centre", "plaza")
        case.book.gateways["gw-2"].accounts[DAY] = Account(1, digest(1), hours(released), ())
        assert counted(case, days=()) == found
    case = Case()
    case.account(DAY, 1, {(STREAM, 2): {"1h": (99, 0, 0)}})
    assert counted(case, days=()) == []


# --- noise -----------------------------------------------------------------------------------------------------------


def noisy(total: int, hits: int, sigma_milli: int = 1789, **changes: Any) -> Found:
    """Hours of which so many are the sum of their quarters."""
    case = Case()
    for hour in range(total):
        begin_s = BEGIN_S + 3600 * hour
        quarters = [release("15min", begin_s + 900 * at, 10 + at, sigma_milli) for at in range(4)]
        value = 46 if hour < hits else 47
        for one in (*quarters, release("1h", begin_s, value, sigma_milli, **changes)):
            case.heard.nodes[one.node.key] = NAME, 1, one
    case.heard.noise()
    return case.found


@pytest.mark.parametrize(("total", "hits", "named"), [(8, 8, True), (7, 7, False), (15, 8, True), (16, 8, False)])
def test_a_sum_eight_times_and_mostly_is_no_chance(total: int, hits: int, named: bool) -> None:
    """Fewer, or as often as not, may be."""
    assert noisy(total, hits) == ([("reused_noise", f"{STREAM} 1h")] if named else [])


def test_little_noise_may_have_any_sum() -> None:
    """Below a standard deviation of 4 over all five figures, 1.789 each, nobody is accused."""
    assert noisy(9, 9, 1789) and not noisy(9, 9, 1788)


def test_only_quarters_that_tile_an_hour_are_added_up() -> None:
    """From where it observed, to its end, of its own stream; one quarter alone is no sum."""
    assert noisy(9, 9, covered_from_s=BEGIN_S + 1800) == []
    hour = release("1h", BEGIN_S)
    fine = {one.node.start_s: one for one in (release("15min", BEGIN_S + 900 * at) for at in range(4))}
    tiling = verify_messages._tiling
    assert tiling(hour, fine) == list(fine.values())
    assert tiling(replace(hour, node=replace(hour.node, covered_from_s=BEGIN_S + 1800)), fine) == [*fine.values()][2:]
    for at_s, covered_s in ((BEGIN_S, BEGIN_S + 1), (BEGIN_S + 900, BEGIN_S + 1000)):
        late = {**fine, at_s: replace(fine[at_s], node=replace(fine[at_s].node, covered_from_s=covered_s))}
        assert tiling(hour, late) == []
    assert tiling(hour, {at_s: one for at_s, one in fine.items() if at_s != BEGIN_S + 2700}) == []
    # One quarter alone is no sum of several, whatever it says.
    case = Case()
    for at in range(9):
        begin_s = BEGIN_S + 3600 * at + 2700
        hour = release("1h", begin_s - 2700, 40, 9000, covered_from_s=begin_s)
        for one in (hour, release("15min", begin_s, 40, 9000)):
            case.heard.nodes[one.node.key] = NAME, 1, one
    case.heard.noise()
    assert case.found == []
    case = Case()
    for at in range(9):
        begin_s = BEGIN_S + 3600 * at
        for one in [release("15min", begin_s + 900 * n, 10, stream="plaza/other") for n in range(4)]:
            case.heard.nodes[one.node.key] = NAME, 1, one
        case.heard.nodes[STREAM, "1h", begin_s] = NAME, 1, release("1h", begin_s, 40, 9000)
    case.heard.noise()
    assert case.found == []


def test_hours_without_their_quarters_excuse_nothing() -> None:
    """Eight that are the sum of theirs are named beside nine of which nobody can say, however loud each of them is."""
    case = Case()
    for hour in range(17):
        begin_s = BEGIN_S + 3600 * hour
        quarters = [release("15min", begin_s + 900 * at, 10 + at, 9000) for at in range(4 if hour < 8 else 3)]
        for one in (*quarters, release("1h", begin_s, 46, 9000)):
            case.heard.nodes[one.node.key] = NAME, 1, one
    case.heard.noise()
    assert case.found == [("reused_noise", f"{STREAM} 1h")]


@pytest.mark.parametrize(("sigma_milli", "named"), [(2000, True), (1999, False)])
def test_the_noise_that_says_something_begins_at_four(sigma_milli: int, named: bool) -> None:
    """Over an hour that observed three of its quarters, and those."""
    case = Case()
    for hour in range(8):
        begin_s = BEGIN_S + 3600 * hour + 900
        quarters = [release("15min", begin_s + 900 * at, 10, sigma_milli) for at in range(3)]
        for one in (*quarters, release("1h", begin_s - 900, 30, sigma_milli, covered_from_s=begin_s)):
            case.heard.nodes[one.node.key] = NAME, 1, one
    case.heard.noise()
    assert case.found == ([("reused_noise", f"{STREAM} 1h")] if named else [])


@pytest.mark.parametrize("kinds", [("mean",), ("mean", "highest")])
@pytest.mark.parametrize("odd", [None, 0, 1])
def test_two_quarters_of_each_kind_are_added_up(kinds: tuple[str, ...], odd: int | None) -> None:
    """Of an hour that observed half of itself: each of its figures with those of its own kind, of which no quarter may
    lack one."""
    case = Case()
    for hour in range(8):
        begin_s = BEGIN_S + 3600 * hour + 1800
        for at in range(2):
            named = ["other" if at == odd else kind for kind in kinds]
            figures = tuple(Noised(kind, (number, 1), 9000, 1) for number, kind in enumerate(named, 1))
            one = replace(release("15min", begin_s + 900 * at), noised=figures)
            case.heard.nodes[one.node.key] = NAME, 1, one
        sums = tuple(Noised(kind, (2 * number, 2), 9000, 1) for number, kind in enumerate(kinds, 1))
        if odd is not None:
            sums = tuple(replace(one, integers=(one.integers[0] // 2, 1)) for one in sums)
        whole = replace(release("1h", begin_s - 1800, covered_from_s=begin_s), noised=sums)
        case.heard.nodes[whole.node.key] = NAME, 1, whole
    case.heard.noise()
    assert case.found == ([("reused_noise", f"{STREAM} 1h")] if odd is None else [])


def test_only_figures_of_one_kind_are_added_up() -> None:
    """The same indicator, with as many integers."""
    one = Noised("mean", (1, 2), 1000, 1)
    kind = verify_messages._kind(one)
    assert verify_messages._kind(replace(one, integers=(3, 4), sigma_milli=2)) == kind
    assert verify_messages._kind(replace(one, indicator="energy")) != kind
    assert verify_messages._kind(replace(one, integers=(1,))) != kind


# --- messages --------------------------------------------------------------------------------------------------------


def day_file(day: int, sealed: Sequence[bytes]) -> Day:
    return Day(day, len(sealed), sum(map(len, sealed)), lambda: list(sealed))


@pytest.fixture
def gateway(releases: ModuleType) -> Any:
    return releases.Gateway(NAME, "centre", "plaza", wire.new_key()[0], text())


def said(gateway: Any, quarters: Iterable[int], **changes: Any) -> list[bytes]:
    return [gateway.seal(BEGIN_S + 900 * (quarter + 1), **changes) for quarter in quarters]


def case_of(gateway: Any, *days: Day, closing: Sequence[bytes] = ()) -> Case:
    return Case(days=days, closing=closing, key=wire.public_key(gateway.secret))


def silent(_done: int, _total: int) -> None:
    """Tells nobody."""


def test_a_message_that_stands_twice_is_one(gateway: Any) -> None:
    """In a file, or in those of two days."""
    row = said(gateway, range(4))
    case = case_of(gateway, day_file(DAY, [*row, row[0]]), day_file(DAY + 1, row[:1]))
    case.heard.messages([DAY, DAY + 1], silent, None)
    assert (case.found, case.report.messages, case.report.nodes) == ([], 4, 5)
    assert {seq: day for seq, (_, _, day) in case.gateway.heard.items()} == dict.fromkeys(range(1, 5), DAY)


def test_a_message_at_midnight_is_of_the_day_that_is_over(gateway: Any) -> None:
    """As is its node; one second later it is of the next, whatever a gateway signs."""
    row = said(gateway, [95, 96])
    case = case_of(gateway, day_file(DAY, row[:1]), day_file(DAY + 1, row[1:]))
    case.heard.messages([DAY, DAY + 1], silent, None)
    assert [day for _, _, day in case.gateway.heard.values()] == [DAY, DAY + 1]
    last = (release("15min", BEGIN_S + DAY_S - 900),)
    late = wire.seal_message(gateway.message(BEGIN_S + DAY_S + 1, outcomes=last), gateway.secret)
    case = case_of(gateway, day_file(DAY + 1, [late]))
    case.heard.messages([DAY + 1], silent, None)
    assert [day for _, _, day in case.gateway.heard.values()] == [DAY + 1]


def test_the_newest_days_are_read_up_to_a_limit(gateway: Any) -> None:
    """At least one; the day that passes it is read to its end. Without a limit the oldest comes first."""
    files = [day_file(DAY + at, said(gateway, [96 * at])) for at in range(3)]
    size = files[2].octets
    for most, days in ((0, [2]), (size - 1, [2]), (size, [2, 1]), (3 * size, [2, 1, 0]), (None, [0, 1, 2])):
        case = case_of(gateway, *files)
        case.heard.messages([DAY + 1, DAY + 2, DAY], silent, most)
        assert case.report.days == [DAY + at for at in days]


def test_a_day_without_its_file_is_named(gateway: Any) -> None:
    """Or with one that cannot be read; a file of a day that nobody asked for is left."""

    def broken() -> list[bytes]:
        raise WireError("malformed", "no file")

    row = said(gateway, range(2))
    case = case_of(gateway, day_file(DAY, row), Day(DAY + 1, 9, 9, broken), day_file(DAY + 3, [b"x"]))
    case.heard.messages([DAY, DAY + 1, DAY + 2], silent, None)
    assert case.found == [("account_missing", date_of(DAY + 1)), ("account_missing", date_of(DAY + 2))]


def test_who_waits_is_told_how_far_it_is(gateway: Any) -> None:
    """Every five hundred messages, and at the end."""
    (sealed,) = said(gateway, [0])
    told: list[tuple[int, int]] = []
    case = case_of(gateway, day_file(DAY, [sealed] * 1201))
    case.heard.messages([DAY], lambda done, total: told.append((done, total)), None)
    assert told == [(500, 1201), (1000, 1201), (1201, 1201)]


def test_bytes_that_are_no_message_are_named_by_day_and_place(gateway: Any) -> None:
    """Rubbish, a stranger, another's signature, or a report of health."""
    (good,) = said(gateway, [0])
    opened = wire.open_message(good, wire.public_key(gateway.secret))
    stranger = wire.seal_message(replace(opened, gateway="gw-moon"), gateway.secret)
    forged = wire.seal_message(opened, wire.new_key()[0])
    row = [b"x", stranger, forged, gateway.health(60)[1], good]
    case = case_of(gateway, day_file(DAY, row))
    case.heard.messages([DAY], silent, None)
    date = date_of(DAY)
    assert case.found == [
        ("signature", f"{date} 1"),
        ("stranger", f"{date} 2: 'gw-moon'"),
        ("signature", f"{date} 3: {NAME}"),
        ("signature", f"{date} 4: {NAME}"),
    ]
    assert case.report.messages == 1


def test_the_last_message_of_an_account_is_there_and_its_gateway_s_own(gateway: Any) -> None:
    """By hash, name and number; what it says is judged as any message."""
    row = said(gateway, range(2))
    where = [("account_message", f"{NAME} {date_of(DAY)}")]
    for last, sealed, closing, found in (
        (2, row[1], row, []),
        (1, row[1], row, where),
        (2, row[1], row[:1], where),
        (2, b"x", [b"x"], [("signature", f"{NAME} {date_of(DAY)}")]),
    ):
        case = case_of(gateway, closing=closing)
        case.gateway.accounts[DAY] = Account(last, wire.digest(sealed), {}, ())
        case.heard.closing()
        assert case.found == found
    case = case_of(gateway, closing=row)
    case.gateway.accounts[DAY] = Account(2, wire.digest(row[1]), {}, ())
    case.gateway.last = 1
    case.heard.closing()
    assert case.found == [("revoked", f"{NAME} 2")]


def judged(gateway: Any, case: Case, *row: bytes) -> Found:
    key = wire.public_key(gateway.secret)
    for sealed in row:
        case.heard._judged(wire.open_message(sealed, key))
    return case.found


def test_a_gateway_ends_where_it_was_revoked(gateway: Any) -> None:
    """At that number."""
    case = case_of(gateway)
    case.gateway.last = 2
    assert judged(gateway, case, *said(gateway, range(3))) == [("revoked", f"{NAME} 3")]


@pytest.mark.parametrize("changes", [{"quartier": "moon"}, {"site": "alley"}])
def test_a_gateway_speaks_of_its_own_place(gateway: Any, changes: dict[str, Any]) -> None:
    """Of its quartier and its site."""
    case = case_of(gateway)
    case.heard._judged(gateway.message(BEGIN_S + 900, outcomes=(), **changes))
    assert case.found == [("place", f"{NAME} 1")]


def test_a_node_is_one_of_its_policy(gateway: Any) -> None:
    """That is known, of this site and with this stream, with its noise, and not before its notice."""
    at = f"{NAME} {{}}: {STREAM} 15min {utc(BEGIN_S)}"
    right = release("15min", BEGIN_S)

    def found(*outcomes: Release | Withheld, policy: Ruled | None = None) -> tuple[Found, set[str], bool]:
        case = case_of(gateway)
        if policy is not None:
            case.know(policy)
        message = gateway.message(BEGIN_S + 900, seq=1, outcomes=outcomes)
        kept = case.heard._judged(message)
        return case.found, case.heard.astray, kept

    assert found(right) == ([], set(), True)
    assert found(release("15min", BEGIN_S, policy=ruled(9))) == ([("policy_unknown", at.format(1))], {STREAM}, False)
    louder = replace(right, noised=(replace(right.noised[0], sigma_milli=right.noised[0].sigma_milli + 1),))
    assert found(louder) == ([("sigma", at.format(1))], {STREAM}, False)
    assert found(release("15min", BEGIN_S, cadence_ms=500)) == ([("not_in_policy", at.format(1))], {STREAM}, False)
    alley = ruled(1, "alley")
    elsewhere = replace(
        release("15min", BEGIN_S, policy=alley), node=node("15min", BEGIN_S, alley, stream="alley/footfall")
    )
    assert found(elsewhere, policy=alley)[0][0][0] == "stream"
    assert found(release("15min", BEGIN_S, stream="plaza/x"))[0][0][0] == "stream"
    for notice_s, kinds in ((BEGIN_S, []), (BEGIN_S + 1, [("policy_looser", at.format(1))])):
        assert found(right, policy=ruled(notice_s=notice_s))[0] == kinds
    assert found(Withheld(right.node, "clock"), policy=ruled(notice_s=BEGIN_S + 1))[0] == []


def test_a_policy_is_used_by_a_node_that_is_right(gateway: Any) -> None:
    """What it is beside, above a ceiling for example, is told once it has released something, and then once."""
    right = release("15min", BEGIN_S)
    louder = replace(right, noised=(replace(right.noised[0], sigma_milli=right.noised[0].sigma_milli + 1),))
    for outcomes, kinds in (
        ([louder], ["sigma"]),
        ([Withheld(right.node, "clock")], []),
        ([right], ["policy_ceiling"]),
        ([right, release("15min", BEGIN_S + 900)], ["policy_ceiling"]),
    ):
        case = case_of(gateway)
        case.gateway.ceiling_rho_micro = 1
        case.heard._judged(gateway.message(BEGIN_S + 1800, seq=1, outcomes=tuple(outcomes)))
        assert [kind for kind, _ in case.found] == kinds


def test_a_gateway_does_not_go_back_to_an_older_policy(gateway: Any) -> None:
    """Once it has used the newer one; a message that is wrong for another reason tells nothing of it."""
    row = []
    for at, version in enumerate((1, 2, 1)):
        policy = ruled(version)
        row += said(gateway, [at], outcomes=(release("15min", BEGIN_S + 900 * at, policy=policy),))
    for known, kinds in ((True, ["policy_over"]), (False, ["policy_unknown"])):
        case = case_of(gateway, day_file(DAY, row))
        if known:
            case.know(ruled(2))
        case.heard.messages([DAY], silent, None)
        assert [kind for kind, _ in case.found] == kinds


def test_one_node_and_one_number_are_given_once(gateway: Any) -> None:
    """Another message with the same node, or with the same number."""
    first, second = said(gateway, [0, 0])
    case = case_of(gateway, day_file(DAY, [first, second]))
    case.heard.messages([DAY], silent, None)
    assert case.found == [("duplicate", f"{NAME} 2: {STREAM} 15min {utc(BEGIN_S)}")]
    assert case.heard.nodes[STREAM, "15min", BEGIN_S][1] == 1
    other = wire.seal_message(gateway.message(BEGIN_S + 1800, seq=1), gateway.secret)
    case = case_of(gateway, day_file(DAY, [first, other]))
    case.heard.messages([DAY], silent, None)
    assert case.found == [("forked", f"{NAME} 1")]


# --- what was read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "span", "needed"),
    [
        ('"1h" = 1', (0, 3600), {0}),
        ('"1h" = 1', (0, DAY_S), {0}),
        ('"1h" = 1', (0, DAY_S + 1), {0, 1}),
        ('"1h" = 1, "1w" = 1', (0, 3600), set(range(7))),
        ('"1h" = 1, "day" = 1, "night" = 1', (0, 3600), {-1, 0}),
        ('"1h" = 1, "day" = 1, "night" = 1', (6 * 3600, 7 * 3600), {0, 1}),
    ],
)
def test_a_figure_needs_all_days_of_its_period(nodes: str, span: tuple[int, int], needed: set[int]) -> None:
    """The civil day, the week with nodes of a week, from six to six with parts of the day."""
    toml = text().replace(b'"15min" = 1, "1h" = 1', nodes.encode())
    made = plan(parse(toml, "test"))
    case = Case()
    case.know(Ruled("plaza", 1, made, Auditor(made, made.calendar), b"", None, 0))
    case.book.policies.pop(ruled().plan.policy.hash)
    window = Window(BEGIN_S + span[0], BEGIN_S + span[1])
    assert case.heard.whole(STREAM, window, ())
    lacking = {day for day in range(-9, 10) if not case.heard.whole(STREAM, window, [DAY + day])}
    assert lacking == needed
    # What a hostile line calls a day may have no moment at all: it is of the day of its begin.
    nothing = Window(BEGIN_S, BEGIN_S)
    assert {day for day in range(-9, 10) if not case.heard.whole(STREAM, nothing, [DAY + day])} >= {0}
    # Of a stream that no policy has, the day of UTC.
    assert case.heard.whole("x/y", Window(BEGIN_S, BEGIN_S + 3600), [DAY - 1, DAY + 1])


def test_the_message_of_a_gateway_is_what_it_says(gateway: Any) -> None:
    """The control of the cases above: an hour of it, by its file alone."""
    case = case_of(gateway, day_file(DAY, said(gateway, range(4))))
    case.heard.messages([DAY], silent, None)
    case.heard.sequences(whole=True)
    case.heard.accounts()
    case.heard.noise()
    assert case.found == [] and isinstance(gateway.message(BEGIN_S + 4500), Message)
