"""How odd is the noise that left a gateway? Each look compares it with what is stated of it, and bounds the probability
that a right gateway looks as odd.

All of it is of discrete Gaussian noise, at any sigma; see docs/audit.md for the looks.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, compress
from math import comb, exp, log2, prod, sqrt
from operator import eq, mul

from murmure_privacy.release import Message, Release
from murmure_privacy.window import utc

from murmure import audit_statistics as statistics
from murmure.audit_street import Coins, Coordinate, Script

_PAIRED_RUNS = 5000  # runs in which pairs of integers are compared: there are thousands of pairs
_COINS_FROM = 8  # of noise of at least so many units the lowest bits are looked at
_SURELY = 3  # standard errors within half a step of which a mean is taken to be the whole number next to it


@dataclass(frozen=True, slots=True)
class Slot:
    """One released integer as a message describes it: everything but its value."""

    coordinate: Coordinate
    sigma: float


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


def name_of(slot: Slot) -> str:
    """Returns how an integer is spoken of in a report."""
    stream, level, start_s, indicator, index = slot.coordinate
    return f"{indicator}{index or ''} of {stream} {level} {utc(start_s)}"


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


def parts_of(messages: Sequence[Message]) -> Iterator[tuple[tuple[int, int], str, bool]]:
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


@dataclass(frozen=True, slots=True)
class Oddity:
    """What looks oddest of what one check compares, and a bound on the probability that a right gateway looks as odd
    anywhere there."""

    risk: float
    what: str


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
            yield risk, f"{name_of(slot)}: sigma {sqrt(ratio) * slot.sigma:.4g} where {slot.sigma:.4g} is stated"

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
            yield risk, f"{name_of(noise.slots[one])} and {name_of(noise.slots[other])} have noise in common"
        for slot, column, side, sigma in zip(noise.slots, columns, sides, sigmas, strict=True):
            for first in (0, 1):
                pairs = (len(column) - first) // 2
                before, after = (_units(column[at::2], side[at::2], sigma)[:pairs] for at in (first, first + 1))
                product, longer = sum(map(mul, before, after)), max(_size(before), _size(after)) or 1.0
                risk = statistics.subgaussian_risk(product, longer)
                yield risk, f"{name_of(slot)}: its noise tells that of the next start"

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
                    f"{name_of(slot)}: the canary of {canary.stream.stream.id} moves it by {move:.4g}"
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
                yield (
                    min(1.0, 2 * exp(-z * z / 2)),
                    f"{name_of(slot)}: bit {bit} is set in {ones} of {len(column)} runs",
                )

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
