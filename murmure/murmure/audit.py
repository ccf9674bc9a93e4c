"""What a stranger can prove from what leaves a gateway: lower bounds on epsilon, held against the policy's claim.

The real windows, gate, ledger, noise and seal run many times on two streets that differ in one unit of privacy; only
the sealed bytes are looked at. See docs/audit.md for the statistics.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import combinations, compress
from math import comb, exp, inf, log2, prod, sqrt
from operator import eq, mul

from murmure_edge.gateway_db import GatewayDb
from murmure_edge.publisher import Identity, Publisher
from murmure_privacy import accountant
from murmure_privacy import audit as signed
from murmure_privacy.gate import Mechanism
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import Plan
from murmure_privacy.policy import Policy
from murmure_privacy.release import Message, Outcome, Release
from murmure_privacy.window import Calendar, utc
from murmure_privacy.wire import digest, new_key, open_message

from murmure import audit_statistics as statistics
from murmure.audit_street import Batch, Canary, Coins, Coordinate, Placement, Script

CONFIDENCE = 0.999
RERUN = 10  # a failed audit is run once more, so many times as large, before it counts
CHECK_RISK = 1e-6  # of each check of the noise itself: to fail a gateway that is right
_READ_OUTS = 3
_ALIKE = 10  # runs with and without each canary from which the noise is judged; fewer fail
_SURELY = 3  # standard errors within half a step of which a mean is taken to be the whole number next to it
_SHOWN = 5  # shares that are named where one is due
_DRAWN = 20_000  # runs that a picture is made of
_PAIRED_RUNS = 5000  # runs in which pairs of integers are compared: there are thousands of pairs
_COINS_FROM = 8  # of noise of at least so many units the lowest bits are looked at


class PlannedOnce(Publisher):
    """The publisher with policies and plans kept from gateway to gateway: they follow from a policy's bytes alone, and
    making them takes longer than all the rest."""

    def __init__(
        self,
        db: GatewayDb,
        who: Identity,
        noise: Mechanism,
        committed: Callable[[Message, bytes], None],
        plans: dict[bytes, Plan],
    ) -> None:
        super().__init__(db, who, noise, committed, say=lambda _: None)
        self._plans = plans

    def _planned(self, policy: Policy) -> Plan:
        if policy.hash not in self._plans:
            self._plans[policy.hash] = super()._planned(policy)
        return self._plans[policy.hash]


class Agent:
    """A gateway's software between readings and sealed bytes, put together as `sense` does it, without ports or disk.

    Each `run` is another gateway, from its first policy to a restart. Tests override a part to break it.
    """

    publisher: type[PlannedOnce] = PlannedOnce

    def __init__(self) -> None:
        self.secret, self.public = new_key()
        self.noise = self.mechanism()
        self._plans: dict[bytes, Plan] = {}

    def mechanism(self) -> Mechanism:
        """Returns the source of noise."""
        return DiscreteGaussian()

    def database(self) -> GatewayDb:
        """Returns a ledger and outbox without a past."""
        return GatewayDb.in_memory()

    def run(self, script: Script, batches: Sequence[Batch]) -> list[tuple[int, bytes]]:
        """Plays one street. Returns (instant, sealed) for everything that left, what was sent again included."""
        left: list[tuple[int, bytes]] = []
        now_s = script.boots_s
        db = self.database()

        def committed(_: Message, sealed: bytes) -> None:
            left.append((now_s, sealed))

        publisher = self._start(db, script.plan.policy.site, committed, now_s)
        publisher.adopt(script.plan.policy, now_s)
        for batch in batches:
            if script.newer is not None and now_s < script.adopts_s <= batch.horizon_s:
                publisher.adopt(script.newer.policy, script.adopts_s)
            ended = now_s <= script.ends_s < batch.horizon_s
            now_s = batch.horizon_s
            for stream, readings in batch.readings:
                publisher.add(stream, readings)
            publisher.advance(now_s)
            if ended:
                publisher = self._start(db, script.plan.policy.site, committed, now_s)
                left += [(now_s, sealed) for sealed in db.rows().values()]
        left += [(now_s, sealed) for sealed in db.rows().values()]
        db.close()
        return left

    def _start(self, db: GatewayDb, site: str, committed: Callable[[Message, bytes], None], now_s: int) -> Publisher:
        who = Identity("gw-audit", "audit", site, self.secret)
        publisher = self.publisher(db, who, self.noise, committed, self._plans)
        stored = [(item.from_s, self._plans[digest(item.toml)].policy) for item in db.policies()]
        publisher.start_under(stored, now_s)
        return publisher


@dataclass(frozen=True, slots=True)
class Slot:
    """One released integer as a message describes it: everything but its value."""

    coordinate: Coordinate
    sigma: float


Shape = tuple[object, ...]
"""What an observer has of a run beside the integers: instants, lengths, heads, nodes, stated noise."""


def observe(left: Sequence[tuple[int, bytes]], public: bytes) -> tuple[Shape, list[Message], array[int]]:
    """Returns shape, messages and integers of what left in one run; the same bytes sent again count once."""
    shape: list[object] = []
    messages = []
    integers = array("q")
    first: dict[bytes, int] = {}
    for left_s, sealed in left:
        first.setdefault(sealed, left_s)
    for sealed, left_s in first.items():
        message = open_message(sealed, public)
        messages.append(message)
        shape += (left_s, len(sealed), message.gateway, message.boot, message.seq, message.closing_s)
        for outcome in message.outcomes:
            shape += (type(outcome), outcome.node, getattr(outcome, "reason", None))
            for noised in getattr(outcome, "noised", ()):
                shape += (noised.indicator, len(noised.integers), noised.sigma_milli, noised.rho_micro)
                integers.extend(noised.integers)
    return tuple(shape), messages, integers


def slots_of(messages: Sequence[Message]) -> list[Slot]:
    """Returns what each integer is, in the order in which `observe` gives them."""
    return [
        Slot((*outcome.node.key, noised.indicator, index), noised.sigma_milli / 1000)
        for message in messages
        for outcome in message.outcomes
        if isinstance(outcome, Release)
        for noised in outcome.noised
        for index in range(len(noised.integers))
    ]


@dataclass(frozen=True, slots=True)
class Claim:
    """What the policy promises for one unit of privacy. `mu`: sqrt(2 rho), with what the steps of a discrete Gaussian
    add to it; infinite, and not judged, where the noise is smaller than one step."""

    rho: float
    epsilon: float
    delta: float
    mu: float


@dataclass(frozen=True, slots=True)
class Run:
    """One size of an audit of one claim: runs of each street, the three proofs, and the statistic in units of its own
    standard deviation, without and with the canary, of at most so many runs as a picture needs."""

    runs: int
    epsilon: statistics.Proof
    mu: statistics.Proof
    rho: statistics.Proof
    without: tuple[float, ...]
    with_canary: tuple[float, ...]

    def exceeds(self, claim: Claim) -> bool:
        """Returns whether a lower bound is above what is claimed."""
        return self.epsilon.bound > claim.epsilon or self.mu.bound > claim.mu or self.rho.bound > claim.rho


@dataclass(frozen=True, slots=True)
class Result:
    """One claim audited: by its first run, and by a larger one if that failed."""

    stream: str
    unit: str
    placement: Placement
    claim: Claim
    mu_of_canary: float  # what this canary can reveal at the noise stated: how tight the audit can be
    runs: tuple[Run, ...]

    @property
    def exceeded(self) -> bool:
        """Returns whether the last run has proved more than the claim."""
        return self.runs[-1].exceeds(self.claim)


@dataclass(frozen=True, slots=True)
class Check:
    """One look at what left in so many `runs` of each street. `chance`: it may fail a right gateway, with a probability
    of at most CHECK_RISK. `risk`: a bound on the probability that a right gateway looks as odd, None if there was
    nothing to look at or nothing left to chance. `final`: it was not done again on a larger run."""

    name: str
    placement: Placement
    runs: int
    chance: bool
    problem: str | None
    risk: float | None = None
    final: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """Everything an audit found."""

    confidence: float
    results: tuple[Result, ...]
    checks: tuple[Check, ...]

    @property
    def problems(self) -> tuple[Check, ...]:
        """Returns the looks that found something and found it for good."""
        return tuple(check for check in self.checks if check.problem and check.final)

    @property
    def failed(self) -> bool:
        """Returns whether the gateway shows more than its policy says, or says something that is not so."""
        return any(result.exceeded for result in self.results) or bool(self.problems)


@dataclass(slots=True)
class Sample:
    """Many runs of one script, in the order in which they were started.

    `coins`, `kinds`: the canaries and the shape of each run; `shapes` with an example each; `integers`: of each shape,
    one run after the other; `statistics`: by canary, of each run.
    """

    script: Script
    coins: list[Coins]
    kinds: list[int]
    shapes: list[tuple[Shape, list[Message]]]
    integers: list[array[int]]
    statistics: list[array[float]]

    @property
    def usual(self) -> int:
        """Returns the shape that came most often: of a right gateway there is one."""
        return Counter(self.kinds).most_common(1)[0][0]


def collect(agent: Agent, script: Script, runs: int, step: Callable[[], None]) -> Sample:
    """Returns what left in `runs` rounds of two streets, on one of which each canary is; `step` follows each run."""
    sample = Sample(script, [], [], [], [], [array("d") for _ in script.canaries])
    weights: list[list[list[tuple[int, float]]]] = []
    streets: dict[Coins, tuple[Batch, ...]] = {}
    for coins in (coins for number in range(runs) for coins in script.rounds(number)):
        if coins not in streets:
            streets[coins] = script.street(coins)
        shape, messages, integers = observe(agent.run(script, streets[coins]), agent.public)
        known = next((at for at, (other, _) in enumerate(sample.shapes) if other == shape), None)
        if known is None:
            known = len(sample.shapes)
            sample.shapes.append((shape, messages))
            sample.integers.append(array("q"))
            weights.append([_weights(canary, slots_of(messages)) for canary in script.canaries])
        sample.coins.append(coins)
        sample.kinds.append(known)
        sample.integers[known].extend(integers)
        for column, weighted in zip(sample.statistics, weights[known], strict=True):
            column.append(sum(weight * integers[at] for at, weight in weighted))
        step()
    return sample


def _weights(canary: Canary, slots: Sequence[Slot]) -> list[tuple[int, float]]:
    """The matched filter: of all linear statistics it tells two Gaussian vectors apart best."""
    return [
        (at, canary.shifts[slot.coordinate] / slot.sigma**2)
        for at, slot in enumerate(slots)
        if canary.shifts.get(slot.coordinate)
    ]


# --- the claims ------------------------------------------------------------------------------------------------------


def claim_of(rho_micro: int, delta: Decimal, least_sigma: float) -> Claim:
    """Returns what is promised at this rho. `least_sigma`: the smallest noise it is made of, in released integers.

    A discrete Gaussian is told from itself one step on as a continuous one with a variance smaller by 1/12 would be;
    1/10 bounds that from sigma 0.7 on.
    """
    rho = rho_micro / accountant.MICRO
    epsilon = float(accountant.epsilon(Decimal(rho_micro) / accountant.MICRO, delta))
    mu = sqrt(2 * rho / (1 - 1 / (10 * least_sigma**2))) if least_sigma >= 1 else inf
    return Claim(rho, epsilon, float(delta), mu)


def judge(sample: Sample, confidence: float) -> list[tuple[Result, Run]]:
    """Returns each claim of a script with what this sample proves: each stream's, and that of all streams together.

    The three proofs of a claim are wrong together with probability at most 1 - `confidence`.
    """
    script = sample.script
    slots = slots_of(sample.shapes[sample.usual][1])
    parts = [(canary.stream.stream.id, canary.unit, [at]) for at, canary in enumerate(script.canaries)]
    if len(parts) > 1:
        parts.append(("all", "one of each", list(range(len(script.canaries)))))
    found = []
    for stream, unit, at in parts:
        canaries = [script.canaries[number] for number in at]
        shifted = [
            (canary.shifts[slot.coordinate], slot.sigma)
            for canary in canaries
            for slot in slots
            if canary.shifts.get(slot.coordinate)
        ]
        mu = sqrt(sum((shift / sigma) ** 2 for shift, sigma in shifted))
        claim = claim_of(
            sum(canary.stream.rho_micro for canary in canaries),
            max(canary.stream.stream.delta for canary in canaries),
            min((sigma for _, sigma in shifted), default=inf),
        )
        # A stream's own canary decides, whatever the others do; of all streams together, all of theirs or none.
        without, with_canary = (
            [
                sum(sample.statistics[number][run] for number in at)
                for run, coins in enumerate(sample.coins)
                if all(coins[number] is played for number in at)
            ]
            for played in (False, True)
        )
        found.append(
            (
                Result(stream, unit, script.placement, claim, mu, ()),
                _proofs(without, with_canary, claim, mu, confidence),
            )
        )
    return found


def _proofs(without: Sequence[float], with_canary: Sequence[float], claim: Claim, mu: float, confidence: float) -> Run:
    # In units of its own standard deviation, from the middle of the runs without the canary.
    middle, scale = sum(without) / len(without), mu or 1.0
    low = [(value - middle) / scale for value in without]
    high = [(value - middle) / scale for value in with_canary]
    risk = (1 - confidence) / _READ_OUTS
    return Run(
        len(low),
        statistics.prove(low, high, lambda hit, alarm: statistics.epsilon_bound(hit, alarm, claim.delta), risk),
        statistics.prove(low, high, statistics.mu_bound, risk),
        statistics.prove(low, high, statistics.rho_bound, risk),
        tuple(low[:_DRAWN]),
        tuple(high[:_DRAWN]),
    )


# --- what leaves beside the values -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Oddity:
    """What looks oddest of what one check compares, and a bound on the probability that a right gateway looks as odd
    anywhere there."""

    risk: float
    what: str


@dataclass(frozen=True, slots=True)
class Noise:
    """The usual runs as columns: of each integer its values, run by run, and the canary of its own stream, None if that
    has none. `mixed`: the runs in which canaries are played independently of each other. `parts`: what is drawn or
    leaves together, as ranges of integers with the name of the largest; of these, `closings` have nothing in common."""

    script: Script
    slots: list[Slot]
    columns: list[array[int]]
    owners: list[int | None]
    coins: list[Coins]
    mixed: list[bool]
    parts: dict[tuple[int, int], str]
    closings: list[tuple[int, int]]

    @property
    def alike(self) -> int:
        """Returns in how many mixed runs at least each canary was played, and in how many it was not."""
        mixed = list(compress(self.coins, self.mixed))
        played = [sum(coins[at] for coins in mixed) for at in range(len(self.script.canaries))]
        return min(min(on, len(mixed) - on) for on in played)

    def sides(self, at: int) -> list[bool]:
        """Returns of each run whether the canary of this integer's stream was played."""
        owner = self.owners[at]
        return [owner is not None and coins[owner] for coins in self.coins]


def noise_of(sample: Sample) -> Noise:
    """Returns the usual runs of a sample, column by column."""
    messages = sample.shapes[sample.usual][1]
    slots = slots_of(messages)
    streams = [canary.stream.stream.id for canary in sample.script.canaries]
    parts = list(_parts(messages))
    usual = sample.usual
    numbers = [number for number, kind in enumerate(sample.kinds) if kind == usual]
    integers = sample.integers[usual]
    return Noise(
        sample.script,
        slots,
        [integers[at :: len(slots)] for at in range(len(slots))],
        [streams.index(slot.coordinate[0]) if slot.coordinate[0] in streams else None for slot in slots],
        [sample.coins[number] for number in numbers],
        [len(streams) == 1 or number // 2 % 2 == 1 for number in numbers],
        {part: name for part, name, _ in parts},
        [part for part, _, closing in parts if closing],
    )


def _parts(messages: Sequence[Message]) -> Iterator[tuple[tuple[int, int], str, bool]]:
    """Yields indicators, nodes and closings as (range of integers, name, whether it is a closing), small ones first."""
    at = 0
    for message in messages:
        from_closing = at
        for outcome in message.outcomes:
            if isinstance(outcome, Release):
                from_node, name = at, f"{outcome.node.stream} {outcome.node.level} {utc(outcome.node.start_s)}"
                for noised in outcome.noised:
                    yield (at, at + len(noised.integers)), f"{noised.indicator} of {name}", False
                    at += len(noised.integers)
                yield (from_node, at), name, False
        if at > from_closing:
            yield (from_closing, at), f"the closing at {utc(message.closing_s)}", True


def checks(sample: Sample) -> list[Check]:
    """Returns every look at the sample that is no claim about epsilon."""
    runs, placement = len(sample.coins) // 2, sample.script.placement
    certain = {
        "messages": _other_messages(sample),
        "policy": _against_policy(sample),
        "charges": _overcharged(sample),
        "complete": _withheld(sample),
        "once": _twice(sample),
    }
    found = [Check(name, placement, runs, False, problem) for name, problem in certain.items()]
    noise = noise_of(sample)
    if noise.alike < _ALIKE or not noise.slots:
        too_few = (
            f"only {noise.alike} runs with or without a canary are alike and hold {len(noise.slots)} integers:"
            " too few to look at the noise"
        )
        return [*found, *(Check(name, placement, runs, True, too_few) for name in LIKELY)]
    for name, look in LIKELY.items():
        oddity = look(noise)
        problem = oddity.what if oddity.risk < CHECK_RISK else None
        found.append(Check(name, placement, runs, True, problem, oddity.risk))
    return found


def _name(slot: Slot) -> str:
    stream, level, start_s, indicator, index = slot.coordinate
    return f"{indicator}{index or ''} of {stream} {level} {utc(start_s)}"


def _other_messages(sample: Sample) -> str | None:
    """Set, order, instants, lengths and heads of messages, nodes and stated noise are the same in every run."""
    if len(sample.shapes) == 1:
        return None
    shares = sorted(Counter(sample.kinds).values(), reverse=True)
    return f"{len(shares)} kinds of runs where one is due; how often: {', '.join(map(str, shares[:_SHOWN]))}"


def _outcomes(sample: Sample) -> Iterator[Outcome]:
    for _, messages in sample.shapes:
        for message in messages:
            yield from message.outcomes


def _against_policy(sample: Sample) -> str | None:
    """Each node is one that the signed policy allows, with its sigma and charge."""
    plans = {made.policy.hash: made for made in (sample.script.plan, sample.script.newer) if made is not None}
    for outcome in _outcomes(sample):
        made = plans.get(outcome.node.policy)
        calendar = Calendar(sample.script.plan.policy.timezone)
        problem = "an unknown policy" if made is None else signed.check(outcome, made, calendar)
        if problem is not None:
            return f"{outcome.node.stream} {outcome.node.level} {utc(outcome.node.start_s)}: {problem}"
    return None


def _overcharged(sample: Sample) -> str | None:
    """The stated charges of the nodes that contain an instant stay within the budget."""
    for _, messages in sample.shapes:
        releases = [outcome for message in messages for outcome in message.outcomes if isinstance(outcome, Release)]
        for canary in sample.script.canaries:
            for at_s in (canary.from_s, canary.until_s):
                paid = sum(
                    noised.rho_micro
                    for release in releases
                    if release.node.stream == canary.stream.stream.id
                    and release.node.covered_from_s <= at_s < release.node.end_s
                    for noised in release.noised
                )
                if paid > canary.stream.rho_micro:
                    stream, promised = canary.stream.stream.id, canary.stream.rho_micro
                    return f"{stream}: {paid} micro-rho at {utc(at_s)} where {promised} are promised"
    return None


def _withheld(sample: Sample) -> str | None:
    """Every node that the canary touches is released: its sensor was there and nothing was paused."""
    for _, messages in sample.shapes:
        there = {slot.coordinate for slot in slots_of(messages)}
        for canary in sample.script.canaries:
            for coordinate in canary.shifts:
                if coordinate not in there:
                    return f"no release of {_name(Slot(coordinate, 0))}"
    return None


def _twice(sample: Sample) -> str | None:
    """A node leaves once, a number stands for one message."""
    for _, messages in sample.shapes:
        keys = Counter(outcome.node.key for message in messages for outcome in message.outcomes)
        numbers = Counter(message.seq for message in messages)
        for key, count in keys.items():
            if count > 1:
                return f"{key[0]} {key[1]} {utc(key[2])} left {count} times with different values"
        for seq, count in numbers.items():
            if count > 1:
                return f"message {seq} left in {count} forms"
    return None


def _oddest(found: Iterable[tuple[float, str]]) -> Oddity:
    """Of several comparisons the one that a right gateway would show most rarely, and how rarely one of them does."""
    tests, least, what = 0, 1.0, "nothing odd"
    for risk, said in found:
        tests += 1
        if risk < least:
            least, what = risk, said
    return Oddity(min(1.0, least * max(1, tests)), what)


def _spread(noise: Noise) -> Oddity:
    """The noise has the standard deviation that is stated with it, neither less nor more."""

    def found() -> Iterator[tuple[float, str]]:
        for at, (slot, column) in enumerate(zip(noise.slots, noise.columns, strict=True)):
            sides = noise.sides(at)
            groups = [list(compress(column, (side is played for side in sides))) for played in (False, True)]
            risk, ratio = statistics.spread_risk([group for group in groups if group], slot.sigma)
            yield risk, f"{_name(slot)}: sigma {sqrt(ratio) * slot.sigma:.4g} where {slot.sigma:.4g} is stated"

    return _oddest(found())


def _correlated(noise: Noise) -> Oddity:
    """The noise of one integer says nothing of that of another, nor of its own in the next start."""
    runs = slice(_PAIRED_RUNS)
    sides = [noise.sides(at)[runs] for at in range(len(noise.slots))]
    columns = [column[runs] for column in noise.columns]
    sigmas = [slot.sigma for slot in noise.slots]
    units = [_units(*item) for item in zip(columns, sides, sigmas, strict=True)]
    sizes = [_size(unit) for unit in units]

    def found() -> Iterator[tuple[float, str]]:
        for one, other in combinations(range(len(noise.slots)), 2):
            # Given the longer of the two, the product is a sum of the other's noise with fixed weights.
            risk = statistics.subgaussian_risk(
                sum(map(mul, units[one], units[other])), max(sizes[one], sizes[other]) or 1.0
            )
            yield risk, f"{_name(noise.slots[one])} and {_name(noise.slots[other])} have noise in common"
        for slot, column, side, sigma in zip(noise.slots, columns, sides, sigmas, strict=True):
            for first in (0, 1):
                pairs = (len(column) - first) // 2
                before, after = (_units(column[at::2], side[at::2], sigma)[:pairs] for at in (first, first + 1))
                product, longer = sum(map(mul, before, after)), max(_size(before), _size(after)) or 1.0
                risk = statistics.subgaussian_risk(product, longer)
                yield risk, f"{_name(slot)}: its noise tells that of the next start"

    return _oddest(found())


def _units(column: Sequence[int], sides: Sequence[bool], sigma: float) -> list[float]:
    """Returns how many sigma each value lies from the mean of those on its own side."""
    means = {}
    first = column[0]
    for played in set(sides):
        side = list(compress(column, (other is played for other in sides)))
        means[played] = sum(value - first for value in side) / len(side)
    return [(value - first - means[side]) / sigma for value, side in zip(column, sides, strict=True)]


def _size(units: Sequence[float]) -> float:
    return sqrt(sum(map(mul, units, units)))


def _moved(noise: Noise) -> Oddity:
    """A canary moves no integer but those that it may, and none by more or the other way."""
    canaries = noise.script.canaries
    coins = list(compress(noise.coins, noise.mixed))
    columns = [array("q", compress(column, noise.mixed)) for column in noise.columns]

    def found() -> Iterator[tuple[float, str]]:
        for number, canary in enumerate(canaries):
            on = [coin[number] for coin in coins]
            off = [not coin for coin in on]
            runs_on, runs_off = sum(on), sum(off)
            # How much more often another canary was played with this one than without: not at all over a full turn.
            together = [
                sum(coin[other] for coin in compress(coins, on)) / runs_on
                - sum(coin[other] for coin in compress(coins, off)) / runs_off
                for other in range(len(canaries))
            ]
            for slot, owner, column in zip(noise.slots, noise.owners, columns, strict=True):
                first = column[0]
                move = (
                    sum(value - first for value in compress(column, on)) / runs_on
                    - sum(value - first for value in compress(column, off)) / runs_off
                )
                most = 0.0 if owner is None else canaries[owner].shifts.get(slot.coordinate, 0) * together[owner]
                beyond = max(min(0.0, most) - move, move - max(0.0, most), 0.0)
                sigma = slot.sigma * sqrt(1 / runs_on + 1 / runs_off)
                yield (
                    statistics.subgaussian_risk(beyond, sigma),
                    f"{_name(slot)}: the canary of {canary.stream.stream.id} moves it by {move:.4g}"
                    f" where {most:.4g} is allowed",
                )

    return _oddest(found())


def _noiseless(noise: Noise) -> Oddity:
    """What is drawn or leaves together does not lie at the exact sums, all of it, in one run and not in others.

    Where they are is told by one half of the runs, and looked at in the other half. About any other place a right
    gateway's integers would lie even more rarely.
    """
    half = len(noise.coins) // 2
    sides = [noise.sides(at) for at in range(len(noise.slots))]

    def found() -> Iterator[tuple[float, str]]:
        for told, looked_at in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
            away, errors = [], []
            for slot, column, side in zip(noise.slots, noise.columns, sides, strict=True):
                first, sums, fewest = column[0], {}, len(column)
                for played in set(side):
                    # Any place will do where the half that tells has none.
                    values = list(compress(column[told], (other is played for other in side[told]))) or column[:1]
                    sums[played] = sum(value - first for value in values) / len(values)
                    fewest = min(fewest, len(values))
                error = slot.sigma / sqrt(fewest)
                if error * _SURELY < 0.5:
                    sums, error = {played: round(mean) for played, mean in sums.items()}, 0.0
                away.append(
                    [
                        ((value - first - sums[own]) / slot.sigma) ** 2
                        for value, own in zip(column[looked_at], side[looked_at], strict=True)
                    ]
                )
                errors.append((error / slot.sigma) ** 2)
            seen, due = 0, 0.0
            for (begin, end), name in noise.parts.items():
                unsure = [error for error in errors[begin:end] if error]
                # What has no noise lies so near to the sums as they are told in 99 of 100 runs.
                square = max(unsure, default=0.0) * (
                    statistics.chi_square_quantile(0.99, len(unsure)) if unsure else 0.0
                )
                near = sum(sum(row) <= square for row in zip(*away[begin:end], strict=True))
                chance = statistics.near_chance([slot.sigma for slot in noise.slots[begin:end]], sqrt(square))
                runs = len(away[begin])
                yield (
                    statistics.binomial_risk(near, runs, chance),
                    f"{name}: without noise in {near} of {runs} runs where {runs * chance:.2g} are due by chance",
                )
                if (begin, end) in noise.closings:
                    seen, due = seen + near, due + runs * chance
            # One look at all closings together, for those that are too small to tell by themselves.
            what = f"{seen} closings without noise where {due:.4g} are due by chance"
            yield statistics.coincidence_risk(seen, due), what

    return _oddest(found())


def _same_again(noise: Noise) -> Oddity:
    """Two starts, one after the other, do not draw the same noise more often than chance."""
    seen, expected = 0, 0.0
    for at, (slot, column) in enumerate(zip(noise.slots, noise.columns, strict=True)):
        sides = noise.sides(at)
        for played in set(sides):
            values = array("q", compress(column, (side is played for side in sides)))
            seen += sum(map(eq, values[::2], values[1::2]))
            expected += len(values) // 2 * statistics.collision(slot.sigma)
    what = f"{seen} integers stand unchanged after a new start where {expected:.4g} do by chance"
    return Oddity(statistics.coincidence_risk(seen, expected), what)


def _repeated(noise: Noise) -> Oddity:
    """No two runs of one street, whichever, are equal in all that is drawn or leaves together."""
    width = len(noise.slots)
    rows = [array("q", row) for row in zip(*noise.columns, strict=True)]

    def found() -> Iterator[tuple[float, str]]:
        for (begin, end), name in {(0, width): "all of a run", **noise.parts}.items():
            owners = {owner for owner in noise.owners[begin:end] if owner is not None}
            streets = [tuple(coins[owner] for owner in owners) for coins in noise.coins]
            values = [row[begin:end].tobytes() for row in rows]
            pairs = sum(comb(runs, 2) for runs in Counter(streets).values())
            equal = sum(comb(runs, 2) for runs in Counter(zip(streets, values, strict=True)).values())
            due = pairs * prod(statistics.collision(slot.sigma) for slot in noise.slots[begin:end])
            # Markov's inequality: the pairs are not independent of each other.
            risk = min(1.0, due / equal) if equal else 1.0
            yield risk, f"{name}: {equal} pairs of runs are equal where {due:.2g} are by chance"

    return _oddest(found())


def _low_bits(noise: Noise) -> Oddity:
    """The lowest bits of a released integer are as good as coins: noise of another origin often lies on a grid."""

    def found() -> Iterator[tuple[float, str]]:
        for slot, column in zip(noise.slots, noise.columns, strict=True):
            for bit in range(_coins(slot)):
                ones = sum(value >> bit & 1 for value in column)
                z = (2 * ones - len(column)) / sqrt(len(column))
                # Hoeffding's inequality: a normal's tail is not yet that of so few coins.
                yield min(1.0, 2 * exp(-z * z / 2)), f"{_name(slot)}: bit {bit} is set in {ones} of {len(column)} runs"

    return _oddest(found())


def _coins(slot: Slot) -> int:
    """Returns how many of the lowest bits the noise alone makes uniform, to far below what can be counted."""
    return max(0, int(log2(slot.sigma)) - 1) if slot.sigma >= _COINS_FROM else 0


LIKELY: dict[str, Callable[[Noise], Oddity]] = {
    "spread": _spread,
    "correlation": _correlated,
    "starts": _same_again,
    "repeats": _repeated,
    "noiseless": _noiseless,
    "moves": _moved,
    "low bits": _low_bits,
}
"""The looks at the noise, by the name of their check."""


# --- an audit --------------------------------------------------------------------------------------------------------


def audit(
    agent: Agent,
    scripts: Sequence[Script],
    runs: int,
    confidence: float = CONFIDENCE,
    rerun: int = RERUN,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Report:
    """Audits every claim of the scripts with `runs` runs of each street, and once more with `rerun` times as many what
    then seems to exceed its claim (0: no second chance). `progress` is told what runs, how far, of how much."""
    results: list[Result] = []
    looks: list[Check] = []
    for number, script in enumerate(scripts, 1):
        what = f"{script.placement} {number}/{len(scripts)}"
        sample = collect(agent, script, runs, _counter(progress, what, 2 * runs))
        claims, seen = judge(sample, confidence), checks(sample)
        tries = [claims]
        certain = any(check.problem and not check.chance for check in seen)
        doubtful = any(run.exceeds(result.claim) for result, run in claims) or any(check.problem for check in seen)
        if rerun and doubtful and not certain:
            looks += [replace(check, final=False) for check in seen]
            sample = collect(agent, script, runs * rerun, _counter(progress, f"{what} again", 2 * runs * rerun))
            tries.append(judge(sample, confidence))
            seen = checks(sample)
        looks += seen
        for same in zip(*tries, strict=True):
            results.append(replace(same[0][0], runs=tuple(run for _, run in same)))
    return Report(confidence, tuple(results), tuple(looks))


def _counter(progress: Callable[[str, int, int], None], what: str, total: int) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(what, done, total)

    return step
