"""What a stranger can prove from what leaves a gateway: lower bounds on epsilon, held against the policy's claim.

The real windows, gate, ledger, noise and seal run many times on two streets that differ in one unit of privacy; only
the sealed bytes are looked at. See docs/audit.md for the statistics.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from math import inf, sqrt

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
from murmure.audit_noise import LIKELY, Noise, Slot, name_of, parts_of, slots_of
from murmure.audit_street import Batch, Canary, Coins, Placement, Script

CONFIDENCE = 0.999
RERUN = 10  # a failed audit is run once more, so many times as large, before it counts
CHECK_RISK = 1e-6  # of each check of the noise itself: to fail a gateway that is right
_READ_OUTS = 3
_ALIKE = 10  # runs with and without each canary from which the noise is judged; fewer fail
_SHOWN = 5  # shares that are named where one is due
_DRAWN = 20_000  # runs that a picture is made of


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


def noise_of(sample: Sample) -> Noise:
    """Returns the usual runs of a sample, column by column."""
    messages = sample.shapes[sample.usual][1]
    slots = slots_of(messages)
    streams = [canary.stream.stream.id for canary in sample.script.canaries]
    parts = list(parts_of(messages))
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
                    return f"no release of {name_of(Slot(coordinate, 0))}"
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
