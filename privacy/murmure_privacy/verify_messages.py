"""Second part of a check: every message of some days is signed by its gateway, in its place, and within its policy; the
accounts are what their messages add up to.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise

from murmure_privacy import wire
from murmure_privacy.errors import WireError
from murmure_privacy.publication import DAY_S, Day, Publication, date_of
from murmure_privacy.release import Message, Noised, Outcome, Release
from murmure_privacy.succession import Uses
from murmure_privacy.verify_log import Book, ends_on
from murmure_privacy.window import Calendar, Window, calendar, utc

Progress = Callable[[int, int], None]

_ON_ITS_WAY = 7
"""How many days a message may be on its way while later ones are there."""
_NOISY, _HITS = 4.0, 8
"""A sum of independent noise of this standard deviation, in integers, is 0 one time in ten; eight times and more often
than not it never is."""


class Heard:
    """What the gateways of a log have said. `nodes`: by stream, level and begin, by whom each was said, in which
    message, and what. `astray`: the streams with a node that is not of its policy."""

    def __init__(self, published: Publication, book: Book) -> None:
        self.report = book.report
        self.nodes: dict[tuple[str, str, int], tuple[str, int, Outcome]] = {}
        self.astray: set[str] = set()
        self._published = published
        self._book = book

    def closing(self) -> None:
        """The last message of each account is there, its gateway has signed it, and its nodes are those of its policy;
        by the chain of hashes it stands for all before it."""
        by_hash = {wire.digest(sealed): sealed for sealed in self._published.closing}
        for name, gateway in self._book.gateways.items():
            for day, account in gateway.accounts.items():
                where = f"{name} {date_of(day)}"
                sealed = by_hash.get(account.hash)
                message = None if sealed is None else self._opened(sealed, where)
                if sealed is None or (message is not None and (message.gateway, message.seq) != (name, account.last)):
                    self.report.add("account_message", where)
                elif message is not None:
                    self._judged(message)

    def messages(self, days: Collection[int], progress: Progress, most: int | None) -> None:
        """Every message of these days is signed by its gateway, and every node of it is one of its policy, once; no day
        is without its file."""
        files: dict[int, list[Day]] = {day: [] for day in days}
        for one in self._published.days:
            files.get(one.day, []).append(one)
        total, done, octets = sum(one.messages for found in files.values() for one in found), 0, 0
        seen: set[bytes] = set()
        uses = {name: Uses(lambda policy: self._book.policies[policy].plan) for name in self._book.gateways}
        for day in sorted(files, reverse=True) if most is not None else sorted(files):
            if most is not None and octets > most:
                break
            self.report.days.append(day)
            row: list[bytes] = []
            try:
                row += [sealed for one in files[day] for sealed in one.read()]
            except WireError:
                self.report.add("account_missing", date_of(day))
            if not files[day]:
                self.report.add("account_missing", date_of(day))
            for sealed in row:
                octets += len(sealed)
                done += 1
                if done % 500 == 0 or done == total:
                    progress(done, total)
                digest = wire.digest(sealed)
                message = None if digest in seen else self._opened(sealed, f"{date_of(day)} {done}")
                seen.add(digest)
                if message is not None:
                    self._heard(message, digest, uses[message.gateway])

    def _opened(self, sealed: bytes, where: str) -> Message | None:
        """Returns what a gateway of the log has signed."""
        try:
            envelope = wire.unwrap(sealed)
        except WireError:
            self.report.add("signature", where)
            return None
        gateway = self._book.gateways.get(envelope.speaker)
        if gateway is None:
            self.report.add("stranger", f"{where}: {envelope.speaker!a}")
            return None
        for key in gateway.keys:
            try:
                said = wire.open_envelope(envelope, key)
            except WireError:
                continue
            if isinstance(said, Message):
                return said
        self.report.add("signature", f"{where}: {envelope.speaker}")
        return None

    def _heard(self, message: Message, digest: bytes, uses: Uses) -> None:
        self.report.messages += 1
        gateway, where = self._book.gateways[message.gateway], _name(message)
        before = gateway.heard.setdefault(message.seq, (digest, message.previous, (message.closing_s - 1) // DAY_S))
        if before[0] != digest:
            self.report.add("forked", where)
        right = self._judged(message)
        for outcome in message.outcomes:
            self.report.nodes += 1
            if outcome.node.key in self.nodes:
                self.report.add("duplicate", f"{where}: {_node(outcome)}")
            else:
                self.nodes[outcome.node.key] = message.gateway, message.seq, outcome
        objection = uses.objection(message) if right else None
        if objection is not None:
            self.report.add("policy_over", f"{where}: {objection}")
        elif right:
            uses.add(message)

    def _judged(self, message: Message) -> bool:
        """Returns whether a message is of its place, and each of its nodes of its policy, that holds for it."""
        gateway, where, right = self._book.gateways[message.gateway], _name(message), True
        if gateway.last is not None and message.seq > gateway.last:
            self.report.add("revoked", where)
        if (message.quartier, message.site) != (gateway.quartier, gateway.site):
            self.report.add("place", where)
        for outcome in message.outcomes:
            node, policy = outcome.node, self._book.policies.get(outcome.node.policy)
            kind = None
            if policy is None:
                kind = "policy_unknown"
            elif policy.site != message.site or node.stream not in policy.plan.streams:
                kind = "stream"
            elif (objection := policy.auditor.check(outcome)) is not None:
                kind = "sigma" if "sigma" in objection else "not_in_policy"
            elif isinstance(outcome, Release):
                if node.covered_from_s >= policy.notice_s:
                    self._book.used(message.gateway, policy)
                else:
                    kind = "policy_looser"
            if kind is not None:
                right = False
                self.astray.add(node.stream)
                self.report.add(kind, f"{where}: {_node(outcome)}")
        return right

    @cached_property
    def _levels(self) -> dict[str, tuple[Calendar, set[str]]]:
        """A calendar and the levels of each stream, of all its policies: first asked when the log has been read."""
        found: dict[str, tuple[Calendar, set[str]]] = {}
        for policy in self._book.policies.values():
            for name, part in policy.plan.streams.items():
                known = found.setdefault(name, (policy.plan.calendar, set()))
                known[1].update(node.level for node in part.nodes)
        return found

    def whole(self, stream: str, span: Window, unread: Collection[int]) -> bool:
        """Returns whether everything was read that is said of a stream in a span and in the periods that it touches,
        from which figures are estimated together."""
        dates, levels = self._levels.get(stream, (calendar("UTC"), set[str]()))
        first, last = (dates.period(levels, at_s) for at_s in (span.start_s, max(span.start_s, span.end_s - 1)))
        touched = range(first.start_s // DAY_S, -(-last.end_s // DAY_S))
        return not any(day in touched for day in unread)

    def sequences(self, *, whole: bool) -> None:
        """No number is missing that the log does not account for, and each message names the one before it. `whole`:
        every day that was published was looked at, so that the first message is number 1. What a gateway has said since
        the newest account may still be on its way, for some days."""
        days = set(self.report.days)
        first_day = min(days, default=0)
        for name, gateway in self._book.gateways.items():
            without = _joined(pair for account in gateway.accounts.values() for pair in account.without)
            heard = sorted(gateway.heard)
            before = [account.last for day, account in gateway.accounts.items() if day < first_day]
            closed = [account.last for day, account in gateway.accounts.items() if day in days]
            begin = 0 if whole else max(before or heard[:1], default=0)
            last = max([begin, *heard, *closed])
            accounted, newest = max(closed, default=0), max((day for _, _, day in gateway.heard.values()), default=0)
            gateway.settled = last
            for earlier, seq in pairwise([begin, *(one for one in heard if one > begin), last + 1]):
                missing = _first_missing(earlier + 1, seq, without)
                if missing is None:
                    continue
                gateway.settled = min(gateway.settled, missing - 1)
                if missing <= accounted or newest - gateway.heard[seq][2] >= _ON_ITS_WAY:
                    self.report.add("hole", f"{name} {missing} < {seq}")
            for earlier, seq in pairwise(heard):
                if seq == earlier + 1 and gateway.heard[seq][1] != gateway.heard[earlier][0]:
                    self.report.add("chain", f"{name} {seq}")

    def accounts(self) -> None:
        """The accounts of the days that were looked at are what their nodes add up to, and none is missing; and nobody
        released a node more often than a day has it."""
        due: dict[tuple[str, int], dict[tuple[str, int], dict[str, tuple[int, int, int]]]]
        due = defaultdict(lambda: defaultdict(dict))
        for name, _, outcome in self.nodes.values():
            node, policy = outcome.node, self._book.policies.get(outcome.node.policy)
            streams = due[name, (node.end_s - 1) // DAY_S][node.stream, policy.version if policy else 0]
            was, kept, rho = streams.get(node.level, (0, 0, 0))
            if isinstance(outcome, Release):
                streams[node.level] = was + 1, kept, rho + sum(noised.rho_micro for noised in outcome.noised)
            else:
                streams[node.level] = was, kept + 1, rho
        released: Counter[tuple[str, int, str, int]] = Counter()
        for name, gateway in self._book.gateways.items():
            settled = [day for seq, (_, _, day) in gateway.heard.items() if seq <= gateway.settled]
            newest = max([*gateway.accounts, *(day - 1 for day in settled)], default=-1)
            for day, one in gateway.accounts.items():
                if one.last in gateway.heard and gateway.heard[one.last][0] != one.hash:
                    self.report.add("account_message", f"{name} {date_of(day)}")
            for day in self.report.days:
                told, where = gateway.accounts.get(day), f"{name} {date_of(day)}"
                if told is None and (name, day) in due and day <= newest:
                    self.report.add("account_missing", where)
                elif told is not None and told.nodes != due[name, day]:
                    self.report.add("account_wrong", where)
            for day, told in gateway.accounts.items():
                for (stream, version), levels in told.nodes.items():
                    policy = self._book.versions.get((gateway.site, version))
                    for level, counts in levels.items():
                        released[stream, version, level, day] += counts[0]
                        if policy and released[stream, version, level, day] > len(ends_on(policy.plan, level, day)):
                            self.report.add("overspent", f"{name} {date_of(day)}: {stream} {level}")

    def noise(self) -> None:
        """A figure over several others of the same stream has noise of its own: it is not always their sum."""
        tried: Counter[tuple[str, str]] = Counter()
        hits: Counter[tuple[str, str]] = Counter()
        by_stream: dict[tuple[str, str], dict[int, Release]] = defaultdict(dict)
        for _, _, outcome in self.nodes.values():
            if isinstance(outcome, Release):
                by_stream[outcome.node.stream, outcome.node.level][outcome.node.start_s] = outcome
        for (stream, level), coarse in by_stream.items():
            for (other, _), fine in by_stream.items():
                if other != stream:
                    continue
                for whole in coarse.values():
                    parts = _tiling(whole, fine)
                    for noised in whole.noised if len(parts) > 1 else ():
                        drawn = [one for part in parts for one in part.noised if _kind(one) == _kind(noised)]
                        error = sum(one.sigma_milli**2 for one in (noised, *drawn))
                        if len(drawn) == len(parts) and error >= (1000 * _NOISY) ** 2:
                            sums = tuple(map(sum, zip(*(one.integers for one in drawn), strict=True)))
                            tried[stream, level] += 1
                            hits[stream, level] += noised.integers == sums
        for (stream, level), count in hits.items():
            if count >= _HITS and 2 * count > tried[stream, level]:
                self.report.add("reused_noise", f"{stream} {level}")


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns the same numbers in ranges that are apart from each other, in order."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(set(ranges)):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


def _first_missing(at: int, end: int, without: Sequence[tuple[int, int]]) -> int | None:
    """Returns the first number of `[at, end)` that is in none of these ranges, as `_joined` returns them; None if all
    are."""
    place = bisect_right(without, at, key=_begin) - 1
    if place >= 0 and at <= without[place][1]:
        at = without[place][1] + 1
    return at if at < end else None


def _begin(pair: tuple[int, int]) -> int:
    return pair[0]


def _name(message: Message) -> str:
    return f"{message.gateway} {message.seq}"


def _node(outcome: Outcome) -> str:
    return f"{outcome.node.stream} {outcome.node.level} {utc(outcome.node.start_s)}"


def _kind(one: Noised) -> tuple[str, int]:
    """Returns by what figures are told apart that can be added up."""
    return one.indicator, len(one.integers)


def _tiling(whole: Release, fine: Mapping[int, Release]) -> list[Release]:
    """Returns the finer releases that tile a coarser one, nothing if they leave a hole."""
    found, at_s = [], whole.node.covered_from_s
    while at_s < whole.node.end_s and at_s in fine and fine[at_s].node.covered_from_s == at_s:
        found.append(fine[at_s])
        at_s = found[-1].node.end_s
    return found if at_s == whole.node.end_s else []
