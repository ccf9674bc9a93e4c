"""The audit passes the gateway as it is and catches each gateway that is broken in one way.

A broken twin is the real agent with one part exchanged. What the audit looks at is only what leaves.
"""

from __future__ import annotations

import json
import os
import random
import struct
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from math import comb, exp, log, pi, sqrt
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from murmure.audit import Agent, PlannedOnce, Report
from murmure.audit_statistics import chi_square_quantile, near_chance
from murmure.audit_street import PLACEMENTS, Batch, Script, scripts, street
from murmure.cli import main
from murmure_edge import publisher as publishing
from murmure_edge.gateway_db import GatewayDb
from murmure_privacy import accountant
from murmure_privacy.aggregate import Aggregate
from murmure_privacy.gate import Gate, Mechanism
from murmure_privacy.ledger import Ledger
from murmure_privacy.mechanism import DiscreteGaussian
from murmure_privacy.plan import IndicatorPlan, NodePlan, Plan
from murmure_privacy.policy import Policy, parse
from murmure_privacy.release import Message, Node, Outcome, Release
from murmure_privacy.windowing import OpenWindows
from murmure_privacy.wire import seal_message

from murmure import audit, audit_noise, audit_picture

RHO = Decimal(2)
EPSILON = accountant.epsilon(RHO, Decimal("1e-6")).quantize(Decimal("1e-9"))
STREAMS = {
    # At rho 2 four crossings keep sigma above 2, and half of the budget is each level's.
    "beam": 'quantity = "footfall"\nprotects = { crossings = 4 }\nnodes = { "15min" = 1, "1d" = 1 }\n',
    "meter": 'quantity = "noise"\nprotects = { seconds = 15 }\nreadings = { cadence_ms = 5000, tail = 2 }\n'
    'nodes = { "1h" = 1, "1d" = 24 }\nbounds_db = [35, 85]\n',
    "meter_75": 'quantity = "noise"\nprotects = { seconds = 15, up_to_db = 75 }\n'
    'readings = { cadence_ms = 5000, tail = 2 }\nnodes = { "1h" = 1, "1d" = 24 }\nbounds_db = [35, 85]\n',
    "levels": 'quantity = "footfall"\nprotects = { crossings = 4 }\n'
    'nodes = { "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1, "1w" = 1 }\n',
    "crowd": 'quantity = "footfall"\nprotects = { crossings = 8 }\nnodes = { "15min" = 1 }\n',
    "half_step": 'quantity = "footfall"\nprotects = { crossings = 1 }\nnodes = { "15min" = 1 }\n',
    "bins": 'quantity = "noise"\nprotects = { seconds = 15 }\nreadings = { cadence_ms = 5000, tail = 2 }\n'
    'nodes = { "1h" = 1 }\nindicators = { histogram = 1 }\nbounds_db = [35, 85]\n',
    "dust": 'quantity = "pm2_5"\nprotects = { seconds = 60 }\nreadings = { cadence_ms = 10000, tail = 1 }\n'
    'nodes = { "1h" = 1, "1d" = 24 }\nbounds = [0, 100]\n',
}
# For a right gateway each of three bounds is wrong with probability 1e-4, and must be so twice, the second time with
# ten times the runs: a false alarm is rarer than 1e-7.
CONFIDENCE = 0.9999
ONE_CHANCE = 1 - 1e-7  # where the first run fails on purpose
FEW, TWICE, SEVERAL, SOME, MORE = 20, 60, 150, 200, 400
LITTLE_RUNS = 3000
TWIN_RUNS = 1500
SIDE = 24
SIGMA = 8.0  # of noise worked by hand: the two lowest bits are looked at
REAL_RUNS = 5000 if os.environ.get("MURMURE_CAMPAIGN") == "1" else 500


def policy_of(*streams: str, version: int = 1, extra: str = "") -> Policy:
    """A policy of the site `audit` with these streams at RHO."""
    tables = "".join(f'[[stream]]\nid = "audit/{name}"\nepsilon = {EPSILON}\n{STREAMS[name]}' for name in streams)
    return parse(
        f'policy = 1\nsite = "audit"\nversion = {version}\ntimezone = "Europe/Paris"\ndecision = "D"\nreason = "R"\n'
        f"valid_from = 2026-06-01\nvalid_until = 2026-06-21\n{extra}{tables}".encode(),
        "policy",
    )


def scripts_of(*streams: str) -> list[Script]:
    policy = policy_of(*streams)
    return scripts(policy, None, [stream.id for stream in policy.streams], "policy")


def audited(agent: Agent, runs: int, played: Sequence[Script], rerun: int = 0, sure: float = CONFIDENCE) -> Report:
    return audit.audit(agent, played, runs, sure, rerun)


def alarms(report: Report) -> set[str]:
    """What went off: names of checks, and `claim` for a bound above its claim."""
    found = {check.name for check in report.problems}
    return found | ({"claim"} if any(result.exceeded for result in report.results) else set())


# --- broken twins ----------------------------------------------------------------------------------------------------


class Lax(DiscreteGaussian):
    """Draws at whatever sigma it is told, whatever that costs."""

    def prepare(self, indicator: IndicatorPlan) -> None:
        pass

    def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        return super().draw(exact, replace(indicator, rho_micro=10**12))


class HalfNoise(Agent):
    """Believes that one unit moves a sum half as far as it does."""

    class Half(Lax):
        def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
            return super().draw(exact, replace(indicator, sigma_milli=indicator.sigma_milli // 2))

    def mechanism(self) -> Mechanism:
        return self.Half()


class LevelNotCharged(Agent):
    """Shares the budget among all levels but the longest, which it publishes for nothing."""

    class Planner(PlannedOnce):
        def _planned(self, policy: Policy) -> Plan:
            made = super()._planned(policy)
            streams = {}
            for name, stream in made.streams.items():
                *charged, free = stream.nodes
                whole = sum(node.rho_micro for node in charged)
                nodes = [self._dearer(node, Decimal(stream.rho_micro - 10) / whole) for node in charged]
                nodes.append(replace(free, indicators=tuple(replace(one, rho_micro=1) for one in free.indicators)))
                streams[name] = replace(stream, nodes=tuple(nodes))
            return replace(made, streams=streams)

        @staticmethod
        def _dearer(node: NodePlan, factor: Decimal) -> NodePlan:
            indicators = []
            for one in node.indicators:
                micro = int(one.rho_micro * factor)
                sigma = accountant.sigma_milli(one.sensitivity_sq, micro)
                indicators.append(replace(one, rho_micro=micro, sigma_milli=sigma))
            return replace(node, indicators=tuple(indicators))

    publisher = Planner

    def mechanism(self) -> Mechanism:
        return Lax()


class LevelWithoutNoise(Agent):
    """Forgets the noise of one level."""

    class Forgetful(DiscreteGaussian):
        def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
            noised = super().draw(exact, indicator)
            return exact if indicator.rho_micro == self.least_micro else noised

        def prepare(self, indicator: IndicatorPlan) -> None:
            super().prepare(indicator)
            self.least_micro = min(getattr(self, "least_micro", indicator.rho_micro), indicator.rho_micro)

    def mechanism(self) -> Mechanism:
        return self.Forgetful()


class NoiseAnewOnRetry(Agent):
    """Sends each message a second time, made anew from the exact sums."""

    class Remembering(DiscreteGaussian):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[tuple[tuple[int, ...], IndicatorPlan]] = []

        def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
            self.asked.append((exact, indicator))
            return super().draw(exact, indicator)

    class Retrying(PlannedOnce):
        def _commit(self, closing: Any) -> tuple[Message, bytes] | None:
            assert isinstance(self._mechanism, NoiseAnewOnRetry.Remembering)
            self._mechanism.asked.clear()
            done = super()._commit(closing)
            if done is None:
                return None
            asked = iter(self._mechanism.asked.copy())
            again = replace(done[0], outcomes=tuple(self._anew(outcome, asked) for outcome in done[0].outcomes))
            self._committed(again, seal_message(again, self._identity.secret))
            return done

        def _anew(self, outcome: Outcome, asked: Iterator[tuple[tuple[int, ...], IndicatorPlan]]) -> Outcome:
            if not isinstance(outcome, Release):
                return outcome
            noised = (replace(one, integers=self._mechanism.draw(*next(asked))) for one in outcome.noised)
            return replace(outcome, noised=tuple(noised))

    publisher = Retrying

    def mechanism(self) -> Mechanism:
        return self.Remembering()


class OtherWindows(Agent):
    """Sums in windows that are broken."""

    windows: type[OpenWindows] = OpenWindows

    def run(self, script: Script, batches: Sequence[Batch]) -> list[tuple[int, bytes]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(publishing, "OpenWindows", self.windows)
            return super().run(script, batches)


class ClampAfterSum(OtherWindows):
    """Adds readings as they come and holds the sum, not each reading, within the bounds."""

    class Windows(OpenWindows):
        raw: list[tuple[int, int]]

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.raw = []

        def add(self, stream_id: str, readings: Any) -> None:
            super().add(stream_id, readings)
            if stream_id in self._streams:
                self.raw += readings

        def close_due(self, now_s: int) -> list[tuple[int, list[Aggregate]]]:
            return [(at_s, [self._summed(one) for one in closed]) for at_s, closed in super().close_due(now_s)]

        def _summed(self, aggregate: Aggregate) -> Aggregate:
            node = aggregate.node
            if "mean" not in aggregate.sums:
                return aggregate
            held = [value for at_ms, value in self.raw if node.covered_from_s <= at_ms // 1000 < node.end_s]
            low, high = (bound * node.slots for bound in node.bounds)
            return Aggregate(node, {**aggregate.sums, "mean": (min(max(sum(held), low), high),)})

    windows = Windows


class ClosingWithoutNoise(Agent):
    """Sends one closing in fifty as it is."""

    class Tired(DiscreteGaussian):
        closings = 0

        def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
            return super().draw(exact, indicator) if self.closings % 50 else exact

    class Counting(PlannedOnce):
        def _commit(self, closing: Any) -> tuple[Message, bytes] | None:
            assert isinstance(self._mechanism, ClosingWithoutNoise.Tired)
            self._mechanism.closings += 1
            return super()._commit(closing)

    publisher = Counting

    def mechanism(self) -> Mechanism:
        return self.Tired()


class QuarterNeverReset(OtherWindows):
    """Goes on counting from one quarter-hour into the next."""

    class Windows(OpenWindows):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.counted: Counter[str] = Counter()

        def close_due(self, now_s: int) -> list[tuple[int, list[Aggregate]]]:
            return [(at_s, [self._counted_on(one) for one in closed]) for at_s, closed in super().close_due(now_s)]

        def _counted_on(self, aggregate: Aggregate) -> Aggregate:
            if aggregate.node.level != "15min":
                return aggregate
            self.counted[aggregate.node.stream] += aggregate.sums["crossings"][0]
            return Aggregate(aggregate.node, {"crossings": (self.counted[aggregate.node.stream],)})

    windows = Windows


class CrossingsInAHistogram(OtherWindows):
    """Adds crossings to a bin of the noise meter's histogram, in which its own canary moves nothing."""

    class Windows(OpenWindows):
        place = 7

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.crossings_s: list[int] = []

        def add(self, stream_id: str, readings: Any) -> None:
            super().add(stream_id, readings)
            if stream_id == "audit/crowd":
                self.crossings_s += [at_ms // 1000 for at_ms, value in readings if value]

        def close_due(self, now_s: int) -> list[tuple[int, list[Aggregate]]]:
            return [(at_s, [self._told(one) for one in closed]) for at_s, closed in super().close_due(now_s)]

        def _told(self, aggregate: Aggregate) -> Aggregate:
            node, bins = aggregate.node, list(aggregate.sums.get("histogram", ()))
            if not bins:
                return aggregate
            bins[self.place] += sum(node.covered_from_s <= at_s < node.end_s for at_s in self.crossings_s)
            return Aggregate(node, {**aggregate.sums, "histogram": tuple(bins)})

    windows = Windows


class CrossingsInAMovedBin(CrossingsInAHistogram):
    """The same in a bin that the meter's own canary empties: with both canaries, one hides the other."""

    class Windows(CrossingsInAHistogram.Windows):
        place = 0

    windows = Windows


class FewSeeds(Agent):
    """Draws each start's seed from twenty."""

    def run(self, script: Script, batches: Sequence[Batch]) -> list[tuple[int, bytes]]:
        self.noise = Seeded(random.SystemRandom().randrange(20))
        return super().run(script, batches)


class Seeded:
    """Gaussian noise from a generator that is seeded."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def prepare(self, indicator: IndicatorPlan) -> None:
        pass

    def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        sigma = indicator.sigma_milli / 1000
        return tuple(value + round(self.random.gauss(0, sigma)) for value in exact)


class SeedUsedAgain(Agent):
    """Begins with the same seed at each start."""

    def run(self, script: Script, batches: Sequence[Batch]) -> list[tuple[int, bytes]]:
        self.noise = Seeded(7)
        return super().run(script, batches)


class OneNoiseForTwoNodes(Agent):
    """Draws once for all nodes that close together, scaled to each."""

    class Scaled(Seeded):
        def __init__(self) -> None:
            super().__init__(random.SystemRandom().getrandbits(64))

        def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
            if indicator.width > 1:
                return super().draw(exact, indicator)
            return (exact[0] + round(self.unit * indicator.sigma_milli / 1000),)

        unit = 0.0

    class Closing(PlannedOnce):
        def _commit(self, closing: Any) -> tuple[Message, bytes] | None:
            assert isinstance(self._mechanism, OneNoiseForTwoNodes.Scaled)
            self._mechanism.unit = self._mechanism.random.gauss(0, 1)
            return super()._commit(closing)

    publisher = Closing

    def mechanism(self) -> Mechanism:
        return self.Scaled()


class EdgeCountedTwice(Agent):
    """Counts what happens between two quarter-hours in both."""

    class Both(PlannedOnce):
        def add(self, stream: str, readings: Sequence[tuple[int, int]]) -> None:
            twice = [(at_ms - 1, value) for at_ms, value in readings if value and at_ms % 900_000 == 0]
            super().add(stream, [*readings, *twice])

    publisher = Both


class FloatNoise(Agent):
    """Adds Gaussian noise in 32-bit floats, rounded at the end."""

    class Single(Seeded):
        def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
            sigma = indicator.sigma_milli / 1000
            sums = (value + self.random.gauss(0, sigma) for value in exact)
            return tuple(round(struct.unpack("f", struct.pack("f", value))[0]) for value in sums)

    def mechanism(self) -> Mechanism:
        return self.Single(random.SystemRandom().getrandbits(64))


class DoubleFloatNoise(Agent):
    """Adds Gaussian noise in 64-bit floats, rounded at the end."""

    def mechanism(self) -> Mechanism:
        return Seeded(random.SystemRandom().getrandbits(64))


class SmallCountsHidden(Agent):
    """Says nothing of a node in which few have passed."""

    class Discreet(Gate):
        def release(self, aggregate: Aggregate, plan: Plan, newest: Policy, publish_until_s: int) -> Outcome:
            if aggregate.sums.get("crossings", (6,))[0] < 6:
                return self.withhold(aggregate.node, "sensor_absent")
            return super().release(aggregate, plan, newest, publish_until_s)

    class Hiding(PlannedOnce):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self._gate = SmallCountsHidden.Discreet(self._db.ledger, self._mechanism)

    publisher = Hiding


class FreshNoiseAfterRestart(Agent):
    """Loses its ledger in a restart, keeps the readings, and publishes the same nodes again."""

    def run(self, script: Script, batches: Sequence[Batch]) -> list[tuple[int, bytes]]:
        return super().run(script, batches) + super().run(script, batches)


class Unlimited(Ledger):
    """Charges without looking at the budget."""

    def charge(self, node: Node, rho_micro: int, budget_rho_micro: int) -> None:
        super().charge(node, rho_micro, 1 << 60)


class NewSigmaInsideADay(Agent):
    """Uses a new policy's noise at once for the nodes that open after it, while the day goes on under the old one."""

    class Hasty(PlannedOnce):
        adopted_s = 1 << 60

        def adopt(self, policy: Policy, now_s: int) -> None:
            if self.policy is not None:
                self.adopted_s, self.hasty = now_s, self._planned(policy)
            super().adopt(policy, now_s)

        def _released(self, closed: Any) -> list[Outcome]:
            changed = []
            for era, aggregate in closed:
                if aggregate.node.start_s >= self.adopted_s:
                    node = replace(aggregate.node, policy=self.hasty.policy.hash)
                    era, aggregate = replace(era, plan=self.hasty), Aggregate(node, aggregate.sums)
                changed.append((era, aggregate))
            return super()._released(changed)

    publisher = Hasty

    def database(self) -> GatewayDb:
        db = super().database()
        db.ledger.__class__ = Unlimited
        return db


class Lucky(Agent):
    """Too little noise in its first runs, none amiss later: what chance could do once."""

    def __init__(self, bad_runs: int) -> None:
        self.good, self.bad, self.left = DiscreteGaussian(), HalfNoise.Half(), bad_runs
        super().__init__()

    def run(self, script: Script, batches: Sequence[Batch]) -> list[tuple[int, bytes]]:
        self.left -= 1
        self.noise = self.bad if self.left >= 0 else self.good
        return super().run(script, batches)


# --- what is quick ---------------------------------------------------------------------------------------------------


def test_the_gateway_as_it_is_shows_no_more_than_its_claim() -> None:
    """On footfall, inside and at an edge, every bound is below its claim and nothing else is found."""
    report = audited(Agent(), SOME, scripts_of("beam"), rerun=10)
    assert (report.failed, alarms(report)) == (False, set())
    assert [(result.stream, result.placement) for result in report.results] == [
        ("audit/beam", placement) for placement in PLACEMENTS
    ]
    inside = report.results[0]
    # The canary uses up the whole claim, so that an audit of it is as tight as one can be; and something is proved.
    assert inside.claim.rho == pytest.approx(float(RHO), rel=1e-5)
    assert inside.mu_of_canary == pytest.approx((2 * float(RHO)) ** 0.5, rel=1e-3)
    assert 0 < inside.runs[-1].mu.bound < inside.claim.mu


@pytest.mark.parametrize(
    ("twin", "stream", "runs", "caught"),
    [
        (HalfNoise, "beam", TWICE, {"spread"}),
        (LevelNotCharged, "beam", FEW, {"policy"}),
        (LevelWithoutNoise, "beam", FEW, {"spread"}),
        (NoiseAnewOnRetry, "beam", FEW, {"once"}),
        (ClampAfterSum, "dust", SOME, {"claim"}),
        (SeedUsedAgain, "beam", FEW, {"starts", "spread"}),
        (OneNoiseForTwoNodes, "meter", TWICE, {"correlation"}),
        (FloatNoise, "meter", FEW * 2, {"low bits"}),
        (SmallCountsHidden, "beam", FEW, {"messages", "complete"}),
        (FreshNoiseAfterRestart, "beam", FEW, {"once", "charges"}),
    ],
)
def test_a_broken_twin_is_caught(twin: type[Agent], stream: str, runs: int, caught: set[str]) -> None:
    """Each way of being broken sets off at least the alarms that are named for it."""
    report = audited(twin(), runs, scripts_of(stream)[:1], sure=audit.CONFIDENCE)
    assert caught <= alarms(report)


@pytest.mark.parametrize(
    ("twin", "streams", "placement", "runs", "caught"),
    [
        (ClosingWithoutNoise, ("meter",), "inside", TWICE, {"noiseless", "repeats"}),
        pytest.param(ClosingWithoutNoise, ("levels",), "inside", MORE, {"noiseless"}, marks=pytest.mark.long),
        (QuarterNeverReset, ("beam",), "before", TWICE, {"moves"}),
        (CrossingsInAHistogram, ("crowd", "bins"), "inside", SEVERAL, {"moves"}),
        (CrossingsInAMovedBin, ("crowd", "bins"), "inside", SEVERAL, {"moves"}),
        (FewSeeds, ("meter",), "inside", TWICE, {"repeats"}),
    ],
)
def test_a_twin_that_is_broken_now_and_then_or_elsewhere_is_caught(
    twin: type[Agent], streams: Sequence[str], placement: str, runs: int, caught: set[str]
) -> None:
    """What one run in fifty gives away, and what a canary moves where it must move nothing, is found by the looks that
    are made for it; the gateway as it is passes the same audit."""
    played = [script for script in scripts_of(*streams) if script.placement == placement]
    assert alarms(audited(Agent(), runs, played)) == set()
    assert caught <= alarms(audited(twin(), runs, played))


@pytest.mark.parametrize(
    ("sigma", "runs"),
    [("0.3", SOME), *(pytest.param(sigma, LITTLE_RUNS, marks=pytest.mark.long) for sigma in ("0.5", "0.7"))],
)
def test_a_right_gateway_passes_however_little_noise_it_promises(sigma: str, runs: int) -> None:
    """Below one step the noise has neither variance nor coincidences of a Gaussian, and is judged by its own."""
    rho = 1 / (2 * Decimal(sigma) ** 2)
    epsilon = accountant.epsilon(rho, Decimal("1e-6")).quantize(Decimal("1e-9"))
    text = policy_of("half_step").text.replace(f"epsilon = {EPSILON}".encode(), f"epsilon = {epsilon}".encode())
    played = scripts(parse(text, "policy"), None, ["audit/half_step"], "policy")[:1]
    report = audited(Agent(), runs, played)
    assert report.results[0].claim.rho == pytest.approx(float(rho), rel=0.01)
    assert alarms(report) == set()


def test_each_bound_of_the_audit_has_a_sixth_of_the_risk() -> None:
    """Were the rate at its bound, so many hits or more, so few alarms or fewer, would have a probability of exactly one
    sixth of one in a thousand: two rates and three read-outs share it."""
    report = audit.audit(Agent(), scripts_of("beam")[:1], TWICE, rerun=0)
    (run,) = report.results[0].runs
    for proof in (run.epsilon, run.mu, run.rho):
        assert proof.hits > 0
        assert proof.alarms < proof.runs
        hits = sum(binomial(number, proof.runs, proof.hit_low) for number in range(proof.hits, proof.runs + 1))
        alarms_ = sum(binomial(number, proof.runs, proof.alarm_high) for number in range(proof.alarms + 1))
        assert hits == pytest.approx(0.001 / 6, rel=1e-6)
        assert alarms_ == pytest.approx(0.001 / 6, rel=1e-6)


def binomial(seen: int, tries: int, chance: float) -> float:
    return comb(tries, seen) * chance**seen * (1 - chance) ** (tries - seen)


@pytest.mark.parametrize(("risk", "fails"), [(1.01e-6, False), (0.99e-6, True)])
def test_a_look_fails_at_one_in_a_million(risk: float, fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a right gateway shows once in a million times is a finding, what it shows a little more often is none."""
    monkeypatch.setattr(audit, "LIKELY", {"odd": lambda noise: audit_noise.Oddity(risk, "it is odd")})
    report = audited(Agent(), FEW, scripts_of("beam")[:1])
    assert alarms(report) == ({"odd"} if fails else set())
    assert report.checks[-1].risk == risk


def noise_with(columns: Sequence[Sequence[int]]) -> audit_noise.Noise:
    """So many runs of one stream, in turns without and with its canary, in which these integers left in one closing."""
    (script,) = scripts_of("beam")[:1]
    runs = len(columns[0])
    coordinate = next(iter(script.canaries[0].shifts))
    return audit_noise.Noise(
        script,
        [audit_noise.Slot(coordinate, SIGMA) for _ in columns],
        [array("q", column) for column in columns],
        [0] * len(columns),
        [(bool(run % 2),) for run in range(runs)],
        [True] * runs,
        {(0, len(columns)): "all"},
        [(0, len(columns))],
    )


def two_sided(distance: float) -> float:
    return 2 * exp(-(distance**2) / 2)


def test_each_look_says_how_rarely_a_right_gateway_is_so_odd() -> None:
    """Worked by hand, with every comparison that is made counted: what stands for ten times too rare would be told."""
    equal = 1 / (2 * sqrt(pi) * SIGMA)  # that two draws are
    # 100 runs of each street, of a sawtooth without any common value but one pair in each.
    saw = [run // 2 * 1000 + run % 2 for run in range(200)]
    pair = [*saw[:198], saw[0], saw[1]]
    found = audit_noise.LIKELY["repeats"](noise_with([pair] * 5))
    assert found.risk == pytest.approx(2 * comb(100, 2) * equal**5 / 2, rel=1e-9)
    # Every integer has its double in the next run of its street.
    doubles = [run // 4 * 1000 for run in range(200)]
    due = 2 * 50 * equal
    assert audit_noise.LIKELY["starts"](noise_with([doubles])).risk == pytest.approx(
        exp(100 - due - 100 * log(100 / due)), rel=1e-9
    )
    # One bit is set in every run, of the two that are looked at.
    low = audit_noise.LIKELY["low bits"](noise_with([[1] * 200]))
    assert low.risk == pytest.approx(2 * two_sided(sqrt(200)), rel=1e-9)
    # The canary moves the first integer by 4 as it may, the second by 4 + 2 sigma.
    moved = noise_with(
        [[4 * (run % 2) for run in range(200)], [(4 + 2 * int(SIGMA)) * (run % 2) for run in range(200)]]
    )
    assert audit_noise.LIKELY["moves"](moved).risk == pytest.approx(
        2 * two_sided(2 / sqrt(1 / 100 + 1 / 100)), rel=1e-9
    )
    # Two that are the same, and far from what they were in the run before: one pair, and twice the start before.
    turns = [(-1) ** (run // 2) * 8 for run in range(200)]
    same = audit_noise.LIKELY["correlation"](noise_with([turns, turns]))
    assert same.risk == pytest.approx(5 * two_sided(sqrt(200) * 8 / SIGMA), rel=1e-9)


def test_one_closing_without_noise_is_as_rare_as_said() -> None:
    """Ten integers at their exact sums in one run, three sigma beside them in all others: one half of the runs finds
    it, with the sums as the other half tells them. Of each half there are two comparisons, one of all closings."""
    near = [SIDE * (-1) ** (run // 2) for run in range(200)]
    near[10] = 0
    radius = sqrt(chi_square_quantile(0.99, 10) / 50)  # 50 runs of each street tell where the sums are
    chance = near_chance([SIGMA] * 10, radius)
    assert chance < 1e-4
    quiet = audit_noise.LIKELY["noiseless"](noise_with([near] * 10))
    assert quiet.risk == pytest.approx(4 * (1 - (1 - chance) ** 100), rel=1e-6)


def test_a_new_sigma_inside_a_day_is_caught() -> None:
    """A twin that applies a new policy to nodes that open after it overcharges the instants of the open day."""
    first, second = street(Decimal("0.5"))
    played = scripts(first, second, ["audit/footfall"], "street")[:1]
    assert alarms(audited(Agent(), FEW, played)) == set()
    assert {"charges"} <= alarms(audited(NewSigmaInsideADay(), FEW, played))


def test_what_a_black_box_cannot_see_passes() -> None:
    """64-bit floats, rounded, look like the real noise: that no generator is within reach is for other tests to say."""
    assert alarms(audited(DoubleFloatNoise(), FEW * 2, scripts_of("meter")[:1])) == set()


def test_a_failed_audit_is_run_again_larger_before_it_counts() -> None:
    """What the first run shows and the second does not was chance; both stand in the report."""
    report = audited(Lucky(2 * TWICE), TWICE, scripts_of("beam")[:1], rerun=3, sure=ONE_CHANCE)
    assert [[run.runs for run in result.runs] for result in report.results] == [[TWICE, 3 * TWICE]]
    spread = [(check.runs, check.final, bool(check.problem)) for check in report.checks if check.name == "spread"]
    assert spread == [(TWICE, False, True), (3 * TWICE, True, False)]
    assert (report.failed, alarms(report)) == (False, set())


def test_what_fails_twice_has_failed() -> None:
    """The second run of a twin finds again what the first one found."""
    report = audited(HalfNoise(), TWICE, scripts_of("beam")[:1], rerun=2)
    assert [[run.runs for run in result.runs] for result in report.results] == [[TWICE, 2 * TWICE]]
    assert (report.failed, alarms(report) >= {"spread"}) == (True, True)


def test_what_is_no_matter_of_chance_is_not_run_again() -> None:
    """A node that left twice has left twice: there is no second chance."""
    report = audited(FreshNoiseAfterRestart(), FEW, scripts_of("beam")[:1], rerun=10)
    assert (report.failed, len(report.results[0].runs)) == (True, 1)


class OddFirstRun(Agent):
    """Loses what left before the restart, in its first run only."""

    odd = True

    def run(self, script: Script, batches: Sequence[Batch]) -> list[tuple[int, bytes]]:
        left = super().run(script, batches)
        left, self.odd = left[1:2] if self.odd else left, False
        return left


class NeverTheSame(Agent):
    """No two runs leave at the same instants."""

    late_s = 0

    def run(self, script: Script, batches: Sequence[Batch]) -> list[tuple[int, bytes]]:
        self.late_s += 1
        return [(left_s + self.late_s, sealed) for left_s, sealed in super().run(script, batches)]


def test_one_odd_run_neither_stops_the_audit_nor_hides_in_it() -> None:
    """The noise is judged by the usual runs, whichever comes first, and the odd one is a finding."""
    found = alarms(audited(OddFirstRun(), FEW, scripts_of("beam")[:1]))
    assert "messages" in found
    assert found.isdisjoint({"spread", "correlation", "starts", "low bits"})


def test_noise_that_cannot_be_judged_has_failed() -> None:
    """Where no runs are alike, every look at the noise fails: what was not looked at is not right."""
    found = alarms(audited(NeverTheSame(), FEW, scripts_of("beam")[:1]))
    assert {"messages", "spread", "correlation", "starts", "low bits"} <= found


# --- the two streets -------------------------------------------------------------------------------------------------


def readings_of(batches: Sequence[Batch], stream: str) -> list[tuple[int, int]]:
    return [one for batch in batches for name, readings in batch.readings if name == stream for one in readings]


def test_the_streets_differ_in_one_unit_of_each_stream() -> None:
    """Crossings are added; of the readings of a sensor as many as are protected change, none comes or goes."""
    first, second = street(Decimal("0.5"))
    played = scripts(first, second, [stream.id for stream in first.streams], "street")
    assert {canary.unit for script in played for canary in script.canaries} == {"crossings", "seconds", "up_to"}
    for script in played:
        for canary in script.canaries:
            stream = canary.stream.stream
            without, with_it = (readings_of(side, stream.id) for side in (script.without, script.with_canary))
            if canary.unit == "crossings":
                assert len(with_it) - len(without) == stream.unit_readings
                assert set(without) <= set(with_it)
                continue
            assert [at_ms for at_ms, _ in without] == [at_ms for at_ms, _ in with_it]
            changed = [pair for pair in zip(without, with_it, strict=True) if pair[0] != pair[1]]
            assert len(changed) == stream.unit_readings
            if stream.up_to is not None:
                assert max(value for pair in changed for _, value in pair) <= stream.up_to


def test_the_canary_inside_uses_up_the_whole_claim() -> None:
    """In every stream of the audit's own street, at the noise stated, mu of the canary is sqrt(2 rho) to a thousandth:
    no neighbour could show more, so that a bound can come as near to the claim as the runs allow."""
    first, second = street(Decimal("0.5"))
    played = [
        script
        for script in scripts(first, second, [stream.id for stream in first.streams], "street")
        if script.placement == "inside"
    ]
    report = audited(Agent(), FEW, played)
    assert len(report.results) == len(first.streams) + 1  # and all streams of the first script together
    for result in report.results:
        assert result.mu_of_canary == pytest.approx((2 * result.claim.rho) ** 0.5, rel=1e-3)
    assert alarms(report) == set()


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def policy_file(tmp_path: Path) -> Callable[..., Path]:
    """Returns a policy file of these streams."""

    def write(*streams: str, **words: Any) -> Path:
        path = tmp_path / "policy.toml"
        path.write_bytes(policy_of(*streams, **words).text)
        return path

    return write


def test_the_command_tells_claims_bounds_and_verdict(
    policy_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One JSON document holds what is needed to compute each bound again; the picture shows it."""
    picture = tmp_path / "audit.svg"
    words = ["audit", "--policy", str(policy_file("dust")), "--runs", "100", "--json", "--picture", str(picture)]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["verdict"], said["confidence"]) == ("within", audit.CONFIDENCE)
    assert [(claim["stream"], claim["placement"]) for claim in said["claims"]] == [
        ("audit/dust", placement) for placement in PLACEMENTS
    ]
    claim = said["claims"][0]
    assert claim["claim"] == {
        "rho": pytest.approx(2, rel=1e-5),
        "epsilon": pytest.approx(float(EPSILON), rel=1e-5),
        "delta": 1e-6,
        "mu": pytest.approx(2, rel=1e-4),
    }
    (run,) = claim["runs"]
    assert (run["runs"], run["by"]["mu"]["counted"], claim["reruns"]) == (100, 50, 0)
    for proof in run["by"].values():
        assert proof["tpr_low"] < proof["tpr"] <= 1
        assert proof["fpr_high"] > proof["fpr"] >= 0
    assert {check["verdict"] for check in said["checks"]} == {"ok"}
    root = ElementTree.fromstring(picture.read_text(encoding="utf-8"))
    name = "{http://www.w3.org/2000/svg}"
    labels = [root.find(f"{name}{what}") for what in ("title", "desc")]
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == " ".join(label.get("id", "") for label in labels if label is not None)
    assert "audit/dust, seconds, inside, 100 runs of each street: epsilon at least" in (labels[1].text or "")  # type: ignore[union-attr]


def test_the_command_fails_a_broken_gateway(
    policy_file: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit status 1, the problem in words, and a picture that says so."""
    monkeypatch.setattr(audit, "Agent", NoiseAnewOnRetry)
    picture = tmp_path / "audit.svg"
    assert main(["audit", "--policy", str(policy_file("beam")), "--runs", "100", "--picture", str(picture)]) == 1
    out = capsys.readouterr().out
    assert "once (inside, 100 runs): audit/beam 15min" in out
    assert out.endswith("verdict: EXCEEDED: do not use this software\n")
    assert "above its claim" in picture.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--runs", "99"], "audit: --runs: 99 is out of range; write 100 to 1000000"),
        (["--rho", "much"], "audit: --rho: much is out of range; write 0.001 to 2"),
        (["--rho", "1", "--policy", "FILE"], "audit: --rho: a policy has its own epsilon; leave it out"),
        (["--policy", "nowhere.toml"], "nowhere.toml: file: No such file or directory; give a readable policy"),
        (["--policy", "FILE", "--stream", "no"], "FILE: stream: no 'no'; write one of audit/beam"),
        (["--policy", "FILE", "--unit", "up_to"], "FILE: protects: no such stream protects up_to; leave --unit out"),
        (["--policy", "PAUSED"], "PAUSED: stream audit/beam: paused: nothing leaves; audit another with --stream"),
        (["--policy", "SHORT"], "SHORT: valid_until: no node of audit/beam closes before it; write a later date"),
    ],
)
def test_what_cannot_be_audited_is_said_in_one_line(
    words: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, and the key and the mend named."""
    texts = {
        "FILE": policy_of("beam").text,
        "PAUSED": policy_of("beam", extra="paused = true\n").text,
        "SHORT": policy_of("beam").text.replace(b'"1d" = 1', b'"1w" = 1').replace(b"2026-06-21", b"2026-06-05"),
    }
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    assert main(["audit", *(str(tmp_path / word) if word in texts else word for word in words)]) == 2
    assert capsys.readouterr().err.replace(f"{tmp_path}/", "") == f"murmure: {problem}\n"


def test_a_long_report_still_has_its_picture() -> None:
    """Problems of any length and names of any kind are drawn as text."""
    report = audited(FreshNoiseAfterRestart(), FEW, scripts_of("beam")[:1])
    odd = replace(report, results=(replace(report.results[0], stream="a<b>&c"),), checks=report.checks * 9)
    assert "a&lt;b&gt;&amp;c" in audit_picture.draw(odd)
    ElementTree.fromstring(audit_picture.draw(odd))


# --- what takes minutes ----------------------------------------------------------------------------------------------


@pytest.mark.long
def test_every_unit_of_the_real_gateway_is_within_its_claim() -> None:
    """The audit's own street at rho 0.5, every unit, inside and at edges, with the rule for runs again."""
    first, second = street(Decimal("0.5"))
    played = scripts(first, second, [stream.id for stream in first.streams], "street")
    report = audited(Agent(), REAL_RUNS, played, rerun=10)
    assert (report.failed, alarms(report)) == (False, set())
    assert max(result.runs[-1].mu.bound for result in report.results if result.stream == "all") > 0.5


@pytest.mark.long
def test_too_little_noise_is_caught_by_its_claim() -> None:
    """Half the noise is twice the sensitivity; no look at the noise itself is needed."""
    assert "claim" in alarms(audit.audit(HalfNoise(), scripts_of("beam")[:1], TWIN_RUNS, rerun=0))


@pytest.mark.long
def test_an_edge_that_is_counted_twice_is_caught_by_its_claim() -> None:
    """Twice at one edge is sqrt(2) of the sensitivity: enough for the bound on mu."""
    policy = parse(policy_of("beam").text.replace(b', "1d" = 1', b""), "policy")
    (played,) = (script for script in scripts(policy, None, ["audit/beam"], "policy") if script.placement == "edge")
    assert alarms(audit.audit(Agent(), [played], TWIN_RUNS)) == set()
    assert "claim" in alarms(audit.audit(EdgeCountedTwice(), [played], TWIN_RUNS, rerun=0))


@pytest.mark.long
def test_a_new_sigma_inside_a_day_is_caught_by_its_claim() -> None:
    """Under the old policy the day has the budget, under the new one the quarter-hour: together nearly twice."""
    first, second = (
        parse(policy_of("beam", version=version).text.replace(b'"15min" = 1, "1d" = 1', weights), "policy")
        for version, weights in ((1, b'"15min" = 1, "1d" = 1000'), (2, b'"15min" = 1000000, "1d" = 1'))
    )
    played = scripts(first, second, ["audit/beam"], "policy")[:1]
    assert alarms(audit.audit(Agent(), played, TWIN_RUNS)) == set()
    assert {"claim", "charges"} <= alarms(audit.audit(NewSigmaInsideADay(), played, TWIN_RUNS, rerun=0))
