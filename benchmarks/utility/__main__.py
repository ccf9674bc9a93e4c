"""`python -m benchmarks.utility`: measures everything and writes docs/utility.md and docs/pictures/utility-*.svg."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from murmure_privacy.mechanism import DiscreteGaussian

from . import air, footfall, noise, peers, report
from .bound import Gap, gap
from .errors import Error
from .habits import habits, laplace_exact_rmse, least_gaussian_sigma
from .kernel import EPSILONS
from .recorded import ABERDEEN, COLOCATED, MUENSTER, ROOT, ZURICH

REPEATS = {"footfall": 4, "weeks": 12, "air": 8, "noise": 200, "month": 60, "week": 60, "dublin": 60, "level": 200}
LEAST_REPEATS = 2
EVERY_DUBLIN_DAY = 20
MONTH_DAYS = 28
CORES = 2
LOUDER_DB = (-35, -30, -25, -20, -15, -10, -5, 0, 5, 10)
UNITS = tuple(noise.Setting(up_to) for up_to in (None, 60, 65, 70, 75))
WEIGHTINGS: Sequence[tuple[str, bool]] = (
    (footfall.EQUAL, False),
    ('{ "15min" = 1, "1h" = 1, "1d" = 1 }', False),
    ('{ "15min" = 4, "1h" = 2, "6h" = 1, "1d" = 1 }', False),
    ('{ "15min" = 1, "1h" = 2, "6h" = 5, "1d" = 10 }', False),
    ('{ "1h" = 1, "1d" = 1 }', False),
    (footfall.WITH_WEEK, False),
    ('{ "1h" = 1, "1d" = 1, "1w" = 0.1 }', False),
    (air.NODES, True),
    ('{ "1h" = 1, "6h" = 3, "1d" = 1 }', True),
    ('{ "1h" = 1, "1d" = 24, "1w" = 100 }', True),
)
UNEVEN: Sequence[tuple[str, bool]] = (
    (noise.HOURS_AND_PARTS, True),
    ('{ "1h" = 1, day = 1, evening = 1, night = 1 }', False),
)
ASCENT = 200


class Progress:
    """What is being measured, with the time since the start, on stderr."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, what: str) -> None:
        print(f"[{time.monotonic() - self._began:4.0f} s] {what}", file=sys.stderr, flush=True)


def gaps(of: Sequence[tuple[str, bool]], steps: int = 0) -> list[Gap]:
    """Returns the gap of each weighting."""
    return [gap(nodes, means, steps) for nodes, means in of]


def every(name: str, draws: float) -> int:
    """Returns of how many recorded days one is measured: each is drawn twice at least, so that a share of the usual
    draws smaller than that is one of the days."""
    return max(1, round(LEAST_REPEATS / (REPEATS[name] * draws)))


def measure_footfall(say: Progress, repeats: Mapping[str, int], draws: float) -> report.Footfall:
    """Returns the footfall part."""
    mechanism = DiscreteGaussian()
    recorded = {}
    for name, sources in (("Zürich", ZURICH), ("Münster", MUENSTER)):
        say(f"footfall, {name}: windows")
        recorded[name] = footfall.some_of(footfall.streets(sources), every("footfall", draws))
    ours: dict[str, dict[str, dict[str, Error]]] = {}
    for name, streets in recorded.items():
        for epsilon in EPSILONS:
            say(f"footfall, {name}, epsilon {epsilon}")
            ours.setdefault(name, {})[epsilon] = footfall.ours(streets, epsilon, mechanism, repeats["footfall"])
    others = {}
    for epsilon in EPSILONS:
        say(f"footfall, other mechanisms, epsilon {epsilon}")
        others[epsilon] = footfall.peers(recorded["Zürich"], epsilon, mechanism, repeats["footfall"])
    say("footfall, weeks")
    whole_weeks = footfall.some_of(footfall.streets(MUENSTER, footfall.WITH_WEEK), every("weeks", draws))
    weeks = footfall.ours(whole_weeks, "1", mechanism, repeats["weeks"], footfall.WITH_WEEK)
    laplace = laplace_exact_rmse(1.0, tuple(footfall.LENGTHS.values()))
    rho = footfall.plan_for(recorded["Zürich"][0], "1").streams["here/stream"].rho_micro / 1e6
    return report.Footfall(
        ours=ours,
        a_day={name: float(footfall.ordinary_leaves(streets).sum(axis=1).mean()) for name, streets in recorded.items()},
        peers=others,
        weeks=weeks,
        exact=footfall.stated("1"),
        laplace_exact={level: laplace[length] for level, length in footfall.LENGTHS.items()},
        habits=habits("1", laplace[footfall.LENGTHS["1d"]]),
        least_sigma=least_gaussian_sigma(1.0),
        sigma_0=(2 * rho) ** -0.5,
    )


def measure_air(say: Progress, repeats: Mapping[str, int]) -> report.Air:
    """Returns the air part."""
    mechanism = DiscreteGaussian()
    ours: dict[str, dict[str, dict[str, air.Measured]]] = {"Aberdeen": {}, "side by side": {}}
    say("air: windows")
    town, side = air.places(ABERDEEN, air.SETTINGS), air.places(COLOCATED, air.SETTINGS)
    for setting in air.SETTINGS:
        say(f"air, {setting.name}")
        ours["Aberdeen"][setting.name] = {
            epsilon: air.ours(town[setting.name], setting, epsilon, mechanism, repeats["air"]) for epsilon in EPSILONS
        }
        side_by_side = air.ours(side[setting.name], setting, "1", mechanism, 20 * repeats["air"])
        ours["side by side"][setting.name] = {"1": side_by_side}
    say("air, other mechanisms")
    first = air.STREAMING
    spans = [span for place in town[first.name] for span in place.spans]
    hours = np.repeat(peers.hours(spans), repeats["air"], axis=0)
    per_mean = 3_600_000 // first.cadence_ms * 10
    others = peers.of_means(hours, peers.budget_of_mean(first.toml(), "1"), per_mean, mechanism)
    disagreement = air.disagreement_ug_m3(side[first.name])
    return report.Air(ours, others, disagreement)


def measure_mean(
    sound: noise.Sound, mechanism: DiscreteGaussian, repeats: int
) -> tuple[dict[str, Error], dict[str, dict[str, Error]]]:
    """Returns the errors of the mean level with the whole budget on it, unit (a), epsilon 1: ours and the peers'."""
    alone = noise.Setting(None, shares=noise.MEAN_ALONE)
    days = noise.observed(sound, alone)
    table = noise.ours([(sound, days)], alone, "1", mechanism, repeats)
    ours = {level: error for (level, _), measured in table.items() if (error := measured.error) is not None}
    hours = np.repeat(peers.hours(days), repeats, axis=0)
    return ours, peers.of_means(hours, peers.budget_of_mean(alone.toml(), "1"), 3600 * 10, mechanism)


def measure_noise(say: Progress, repeats: Mapping[str, int]) -> report.Noise:
    """Returns the noise part."""
    mechanism = DiscreteGaussian()
    truth: dict[str, Mapping[str, float]] = {}
    units: dict[str, dict[str, dict[str, noise.Table]]] = {}
    for make in (noise.quiet, noise.loud):
        sound, two_days = make(), make(2)  # of two days, one from 06 to 06 is whole
        month = make(MONTH_DAYS + 1)
        truth[sound.name] = noise.truth(sound, noise.whole(sound))
        for setting in UNITS:
            only = None if setting.up_to_db is None else ("mean", "energy")
            parts = noise.Setting(setting.up_to_db, noise.HOURS_AND_PARTS)
            day, night = noise.observed(sound, setting), noise.observed(two_days, parts)
            for epsilon in EPSILONS:
                say(f"noise, {sound.name}, {setting.name}, epsilon {epsilon}")
                found = dict(noise.ours([(sound, day)], setting, epsilon, mechanism, repeats["noise"], only))
                few = noise.ours([(two_days, night)], parts, epsilon, mechanism, repeats["noise"], ("energy",))
                found |= {key: few[key] for key in few if key[0] == noise.PERIOD}
                many = noise.ours(
                    [(month, [noise.repeated(night[0], MONTH_DAYS)])],
                    parts,
                    epsilon,
                    mechanism,
                    repeats["month"],
                    ("energy",),
                )
                found |= {(noise.MONTH, name): many[noise.PERIOD, name] for name in ("ln_db", "lden_db")}
                units.setdefault(sound.name, {}).setdefault(setting.name, {})[epsilon] = found
    say("noise, five quiet days")
    week = noise.quiet_week()
    by_unit = {
        setting.name: noise.ours(
            [(week, noise.observed(week, setting))], setting, "1", mechanism, repeats["week"], ("mean", "energy")
        )
        for setting in UNITS
    }
    say("noise, other mechanisms")
    mean, others = measure_mean(week, mechanism, repeats["week"])
    say("noise, Dublin: windows")
    loud_days, of_days = noise.dublin_days(EVERY_DUBLIN_DAY)
    loud = [(day, noise.observed(day, noise.TARGET)) for day in loud_days]
    dublin = {}
    for epsilon in EPSILONS:
        say(f"noise, Dublin, epsilon {epsilon}")
        table = noise.ours(loud, noise.TARGET, epsilon, mechanism, repeats["dublin"], ("energy",))
        dublin[epsilon] = table["1d", "laeq_db"]
    say("noise, one street at many levels")
    at_level = {
        setting.name: noise.by_level(noise.loud(), LOUDER_DB, setting, "1", mechanism, repeats["level"])
        for setting in (
            noise.Setting(None, noise.DAY_ONLY, noise.TARGET_SHARES, (35, 75)),
            *(noise.Setting(up_to, noise.DAY_ONLY, noise.TARGET_SHARES) for up_to in (None, 60, 65, 70, 75)),
        )
    }
    sites = ", ".join(f"{count} of {name}" for name, count in sorted(Counter(day.name for day in loud_days).items()))
    return report.Noise(
        truth=truth,
        units=units,
        week=by_unit,
        mean=mean,
        peers=others,
        dublin=dublin,
        dublin_days=(len(loud_days), of_days),
        dublin_sites=sites,
        at_level=at_level,
        twelve_hours={up_to: noise.half_day("1", up_to, mechanism, repeats["level"]) for up_to in (60, 65, 70, 75)},
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and writes; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.utility", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder for utility.md and pictures/ (docs)")
    parser.add_argument("--draws", type=float, default=1.0, help="share of the usual number of draws (1)")
    args = parser.parse_args(argv)
    repeats = {name: max(LEAST_REPEATS, round(count * args.draws)) for name, count in REPEATS.items()}
    say = Progress()
    with ProcessPoolExecutor(CORES) as pool:
        of_noise = pool.submit(measure_noise, say, repeats)
        of_footfall = pool.submit(measure_footfall, say, repeats, args.draws)
        of_air = pool.submit(measure_air, say, repeats)
        say("bounds")
        even, uneven = gaps(WEIGHTINGS), gaps(UNEVEN, ASCENT)
        results = report.Results(even, uneven, of_footfall.result(), of_air.result(), of_noise.result())
    (args.out / "pictures").mkdir(parents=True, exist_ok=True)
    (args.out / "utility.md").write_text(report.page(results, repeats), encoding="utf-8")
    for name, svg in report.pictures(results).items():
        (args.out / "pictures" / f"{name}.svg").write_text(svg, encoding="utf-8")
    say(f"written: {args.out / 'utility.md'}")
    missed = [target for target in report.targets(results) if not target.met]
    for target in report.targets(results):
        print(f"{'met   ' if target.met else 'MISSED'} {target.wanted}: {target.measured}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
