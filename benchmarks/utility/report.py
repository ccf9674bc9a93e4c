"""docs/utility.md and its pictures, from what was measured."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from math import floor, isfinite, log10
from textwrap import fill

from murmure_privacy.levels import SHARE_OVER

from . import air, footfall, noise
from .bound import Gap, gap
from .errors import Error
from .habits import DAYS, Habit, growth, means_turn
from .kernel import DELTA, EPSILONS
from .peers import PEERS, TOEPLITZ_BITS
from .pictures import Line, Panel, Row, Scale, matrix, plots

PICTURES = ("utility-footfall", "utility-air", "utility-level", "utility-accurate")
WIDTH = 120
OURS = "ours: weighted hierarchy"
NODES = {"15min": "quarter-hour", "1h": "hour", "6h": "six hours", "1d": "day", "1w": "week"}


@dataclass(frozen=True, slots=True)
class Target:
    """One target of the design: what is wanted, what was measured and where."""

    wanted: str
    measured: str
    where: str
    met: bool


@dataclass(frozen=True, slots=True)
class Footfall:
    """Footfall: errors by recording, epsilon and level; the peers' by epsilon, mechanism and level."""

    ours: Mapping[str, Mapping[str, Mapping[str, Error]]]
    a_day: Mapping[str, float]
    peers: Mapping[str, Mapping[str, Mapping[str, Error]]]
    weeks: Mapping[str, Error]
    exact: Mapping[str, float]
    laplace_exact: Mapping[str, float]
    habits: Sequence[Habit]
    least_sigma: float
    sigma_0: float


@dataclass(frozen=True, slots=True)
class Air:
    """PM2.5: errors by recording, setting and epsilon; the peers' on the hourly and the daily mean, at epsilon 1."""

    ours: Mapping[str, Mapping[str, Mapping[str, air.Measured]]]
    peers: Mapping[str, Mapping[str, Error]]
    disagreement_ug_m3: float


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise: indicators by place, setting and epsilon; the daily LAeq of loud days; one street at many levels. `mean`
    and `peers`: the hourly and the daily mean level with the whole budget on it, ours and others', at epsilon 1."""

    truth: Mapping[str, Mapping[str, float]]
    units: Mapping[str, Mapping[str, Mapping[str, noise.Table]]]
    week: Mapping[str, noise.Table]
    mean: Mapping[str, Error]
    peers: Mapping[str, Mapping[str, Error]]
    dublin: Mapping[str, noise.Measured]
    dublin_days: tuple[int, int]
    dublin_sites: str
    at_level: Mapping[str, Sequence[noise.AtLevel]]
    twelve_hours: Mapping[int, noise.Measured]


@dataclass(frozen=True, slots=True)
class Results:
    """All that the report says."""

    gaps: Sequence[Gap]
    uneven: Sequence[Gap]
    footfall: Footfall
    air: Air
    noise: Noise


def _digits(error: float) -> int:
    return 2 if not isfinite(error) or error <= 0 else min(4, max(0, -floor(log10(error))))


def pm(value: float, error: float) -> str:
    """Returns a figure with its standard error, as many decimals as the error has a use for."""
    digits = _digits(error)
    return f"{_signed(value, digits)} ± {error:.{digits}f}"


def _signed(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown, its first column to the left."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _db(measured: noise.Measured | None) -> str:
    if measured is None:
        return ""
    if measured.error is None or measured.silent > noise.SILENT_AT_MOST:
        return "no number"
    error = measured.error
    return f"{_signed(error.bias, 2)} / {pm(error.rmse, error.rmse_se)}"


def targets(results: Results) -> list[Target]:
    """Returns the targets of the design with what was measured."""
    worst = max(results.gaps, key=lambda gap: gap.above)
    ours = results.footfall.ours["Zürich"]["1"]
    alone = results.footfall.peers["1"]["independent"]["1d"]
    ratio = alone.rmse / ours["1d"].rmse
    ratio_se = ratio * ((alone.rmse_se / alone.rmse) ** 2 + (ours["1d"].rmse_se / ours["1d"].rmse) ** 2) ** 0.5
    stated = footfall.ORDINARY_LEAVES**0.5 * results.footfall.sigma_0 / results.footfall.exact["1d"]
    loud = results.noise.dublin["1"]
    days, of = results.noise.dublin_days
    daily = results.air.ours["Aberdeen"][air.STREAMING.name]["1"].noise["1d"]
    fine = [ours[level] for level in ("15min", "1h")]
    assert loud.error is not None
    return [
        Target(
            "weighted error of the hierarchy at most 1 % above the matrix-mechanism bound",
            f"{100 * worst.above:.3f} % at worst",
            f"{len(results.gaps)} weightings, computed",
            worst.above <= 0.01,
        ),
        Target(
            "day at least 5 times better than independent noise, equal epsilon",
            f"{pm(ratio, ratio_se)} times ({stated:.2f} by the noise scales)",
            "Zürich, epsilon 1",
            ratio >= 5,
        ),
        Target(
            "quarter-hour and hour below 8 persons, epsilon 1",
            " and ".join(pm(error.rmse, error.rmse_se) for error in fine),
            "Zürich, one crossing, equal weights",
            all(error.rmse < 8 for error in fine),
        ),
        Target(
            "day below 9 persons, epsilon 1",
            pm(ours["1d"].rmse, ours["1d"].rmse_se),
            "Zürich, one crossing, equal weights",
            ours["1d"].rmse < 9,
        ),
        Target(
            "daily LAeq within 0.3 dB (RMSE) on days of 60 dB or more, sounds up to 75 dB",
            f"{pm(loud.error.rmse, loud.error.rmse_se)} dB",
            f"Dublin, {days} of {of} such days, epsilon 1, 60 % of the budget on energy, days only",
            loud.error.rmse < noise.TARGET_LAEQ_DB,
        ),
        Target(
            "noise on daily PM2.5 below a tenth of the sensor's error (10 µg/m³)",
            f"{pm(daily.rmse, daily.rmse_se)} µg/m³",
            "Aberdeen, epsilon 1, a reading a second",
            daily.rmse < air.DATASHEET_UG_M3 / 10,
        ),
    ]


def page(results: Results, repeats: Mapping[str, int]) -> str:
    """Returns docs/utility.md."""
    return _wrapped(
        "\n\n".join(
            [
                "# How far what is published is off",
                _preface(),
                "## Targets",
                table(
                    ["target", "measured", "where", "met"],
                    [[t.wanted, t.measured, t.where, "yes" if t.met else "**no**"] for t in targets(results)],
                ),
                _footfall(results, repeats),
                _noise(results.noise, repeats),
                _air(results.air, repeats),
                _method(),
            ]
        )
    )


def _wrapped(text: str) -> str:
    """Returns the page with its prose broken anew, since figures of any length stand in it."""
    found = []
    for part in text.split("\n\n"):
        if part.startswith(("|", "#", "!")):
            found.append(part)
            continue
        items = part.replace("\n  ", " ").split("\n- ") if part.startswith("- ") else [part]
        found.append("\n".join(_paragraph(item, number) for number, item in enumerate(items)))
    return "\n\n".join(found) + "\n"


def _paragraph(text: str, number: int) -> str:
    item = text.startswith("- ") or number > 0
    words = " ".join(text.removeprefix("- ").split())
    return fill(
        words,
        WIDTH,
        initial_indent="- " if item else "",
        subsequent_indent="  " if item else "",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _preface() -> str:
    made_with = f"Python {platform.python_version()}, OpenDP {version('opendp')}"
    return f"""Noise protects whoever passes. This page says what it costs: how far the published figures are from what
the sensors saw, on recordings of real streets. `make bench-utility` measures everything anew and writes this page and
its pictures; nothing here is written by hand. Last run: {made_with}.

How to read it:

- **epsilon** is the promise to one crossing, or to one event of some seconds; delta is {DELTA} throughout. A smaller
  epsilon protects more and blurs more.
- **RMSE** is the usual size of the error: the root of its mean square. About 2 figures in 3 are closer than that, and
  19 in 20 are closer than twice that. **95 %** is what 19 errors in 20 did not exceed, as measured.
- **±** is one standard error of the measured figure: another run would differ by about that.
- Errors of footfall are in persons, whatever the count. A busy corner's day is thus known to a few per mille, a night's
  quarter-hour not at all."""


def _footfall(results: Results, repeats: Mapping[str, int]) -> str:
    found = results.footfall
    recordings = list(found.ours)
    head = ["epsilon", "node"]
    for name in recordings:
        head += [f"{name}: bias", "RMSE", "95 %"]
    rows = []
    for epsilon in EPSILONS:
        for level in footfall.LENGTHS:
            row = [epsilon, NODES[level]]
            for name in recordings:
                error = found.ours[name][epsilon][level]
                row += [pm(error.bias, error.bias_se), pm(error.rmse, error.rmse_se), pm(error.p95, error.p95_se)]
            rows.append(row)
    peers = [
        [OURS, *(_rmse(found.ours["Zürich"]["1"][level]) for level in footfall.LENGTHS)],
        *([name, *(_rmse(found.peers["1"][name][level]) for level in footfall.LENGTHS)] for name in PEERS),
    ]
    daily = [
        [OURS, *(_rmse(found.ours["Zürich"][epsilon]["1d"]) for epsilon in EPSILONS)],
        *([name, *(_rmse(found.peers[epsilon][name]["1d"]) for epsilon in EPSILONS)] for name in PEERS),
    ]
    counts = " and ".join(
        f"{name} ({found.ours[name]['1']['1d'].clusters // repeats['footfall']} days of its counters, on average "
        f"{found.a_day[name]:,.0f} a day)"
        for name in recordings
    )
    weeks = ", ".join(f"{NODES[level]} {_rmse(error)}" for level, error in found.weeks.items())
    exact = ", ".join(f"{NODES[level]} {value:.2f}" for level, value in found.exact.items())
    gaps = [
        [
            f"`{gap.nodes}`",
            "means" if gap.means else "counts",
            f"{gap.ours:.4f}",
            f"{gap.least:.4f}",
            f"{100 * gap.above:.3f} %",
        ]
        for gap in results.gaps
    ]
    uneven = [
        [
            f"`{gap.nodes}`",
            "means" if gap.means else "counts",
            f"{gap.ours:.4f}",
            f"{gap.least:.4f}",
            f"{100 * gap.above:.2f} %",
        ]
        for gap in results.uneven
    ]
    first = found.habits[0]
    habit_rows = [
        [str(h.days), f"{h.ours:.2f}", f"{h.laplace:.2f}", f"{found.exact['1d']:.1f}", f"{h.laplace_error:.1f}"]
        for h in found.habits
    ]
    weeks_recorded = found.weeks["1w"].count // repeats["weeks"]
    zcdp_cost = found.sigma_0 / found.least_sigma - 1
    window = 2**0.5 * growth(DAYS[-1], 1, "1")
    turn = next((habit.days for habit in found.habits if habit.laplace_error > found.exact["1d"]), None)
    return f"""## Footfall

Unit: one counted crossing. Nodes: quarter-hour, hour, six hours and day, equal weights. Recordings: {counts}, each day
drawn {repeats["footfall"]} times. What is compared with the truth is the final estimate, as on the pages.

{table(head, rows)}

The noise does not depend on the street, so both recordings must agree within their standard errors, and with the errors
that every figure states about itself: at epsilon 1, {exact}. No datasheet of a counter states a counting error to set
beside them.

With a week among the nodes (`"1w" = 1` besides the four, epsilon 1, Münster, {weeks_recorded} weeks of its counters,
each drawn {repeats["weeks"]} times):
{weeks}.

### Beside other mechanisms

![Error of the quarter-hour and of the day against epsilon, for seven mechanisms](pictures/utility-footfall.svg)

Zürich, epsilon 1, RMSE in persons; each of the others drew {found.peers["1"]["independent"]["1d"].count} days.

{table(["mechanism", *(NODES[level] for level in footfall.LENGTHS)], peers)}

The day alone, by epsilon:

{table(["mechanism", *(f"epsilon {epsilon}" for epsilon in EPSILONS)], daily)}

What was assumed:

- *independent*, *binary tree*, *square-root Toeplitz*: integer Gaussian noise from OpenDP at exactly our rho. The tree
  has blocks of 1, 2, 4, 8, 16, 32 quarter-hours and the day, equal noise, and its own least squares afterwards. The
  Toeplitz matrix is rounded to {TOEPLITZ_BITS} bits, and its sensitivity is that of the rounded matrix.
- *Laplace per window*: a float Laplace of scale 1/epsilon on each quarter-hour, longer blocks summed up: what a reader
  of OpenDP's first tutorial does. A crossing is in one quarter-hour, so the whole day costs epsilon, with delta 0.
- *Laplace, epsilon split over the day*: the same by someone who believes that 96 releases cost 96 times as much.
- *Laplace per level*: the same four nodes as ours, a quarter of epsilon each, and least squares.

### When Laplace noise is better

For **one** crossing, Laplace noise is better than ours, and the tables say so: on the same four levels its day is
off by {found.laplace_exact["1d"]:.1f} persons, ours by {found.exact["1d"]:.1f}, and its promise needs no delta. The
reason is not the shape of the tree but the conversion from rho to epsilon: at epsilon 1 and delta {DELTA} it leaves
rho only a twentieth of what pure epsilon would. (A Gaussian tuned to one release alone would have a sigma of
{found.least_sigma:.2f} where ours begins at {found.sigma_0:.2f}: zCDP itself costs {100 * zcdp_cost:.0f} %.)

Nobody crosses once in a life, though. Each mechanism below promises epsilon {first.ours:.2g} for one crossing; this is
what is left for someone who crosses once a day on so many days, and how large Laplace's daily error is if it must
promise her the same as ours does:

{table(HABITS, habit_rows)}

So for the day ours is the better choice from {turn} days on; a policy that means one crossing and nothing else would be
better served by Laplace noise. This holds for the footfall day: at the quarter-hour alone *Laplace per window* stays
closer, off by {window:.1f} at our epsilon for {DAYS[-1]} days (ours {found.exact["15min"]:.1f}), and the day of
[PM2.5](#pm25-beside-other-mechanisms) differs.

### Beside the theoretical limit

Weighted RMSE over all nodes, in units of 1/√(2 rho) and of what one unit moves a quarter-hour (for means: an hour's
mean) by. The bound holds for every unbiased linear mechanism with Gaussian noise; it is computed from the singular
values of the weighted workload alone and knows nothing of our formula. Ours is what the estimator states for the noise
scales as they are rounded for release.

{table(["nodes and weights", "figures", "ours", "bound", "above"], gaps)}

Parts of the day differ in length and share one noise scale, as they share one place in the budget; there
the hierarchy is not optimal:

{table(["nodes and weights", "figures", "ours", "bound", "above"], uneven)}"""


def _rmse(error: Error) -> str:
    return pm(error.rmse, error.rmse_se)


ROWS = (
    ("hour: L10", "1h", "l10_db"),
    ("hour: L50", "1h", "l50_db"),
    ("hour: L90", "1h", "l90_db"),
    ("hour: mean level", "1h", "level_db_mean"),
    ("hour: LAeq", "1h", "laeq_db"),
    ("hour: share over 65 dB", "1h", SHARE_OVER),
    ("day: L10", "1d", "l10_db"),
    ("day: L50", "1d", "l50_db"),
    ("day: L90", "1d", "l90_db"),
    ("day: mean level", "1d", "level_db_mean"),
    ("day: LAeq", "1d", "laeq_db"),
    ("day: share over 65 dB", "1d", SHARE_OVER),
    ("one night: Ln", noise.PERIOD, "ln_db"),
    ("one day: Lden", noise.PERIOD, "lden_db"),
    ("28 days: Ln", noise.MONTH, "ln_db"),
    ("28 days: Lden", noise.MONTH, "lden_db"),
)
HABITS = (
    "days on which she crosses",
    "ours: her epsilon",
    "Laplace per level: hers",
    "ours: daily RMSE",
    "Laplace at our epsilon: daily RMSE",
)
AIR = (
    "sensor and unit",
    "epsilon",
    "hour: noise RMSE",
    "day: noise RMSE",
    "day: noise 95 %",
    "day: of the sensor's error",
    "day: all together, bias",
    "RMSE",
)
SHARE_POINTS = 10.0
"""A share of time is called accurate here up to a 95 % error of so many points; the rule of 3 dB has no say."""


def cell(measured: noise.Measured, indicator: str) -> tuple[str, bool]:
    """Returns the text of a measured 95 % error and whether the indicator is accurate with it."""
    error = measured.error_95
    if not isfinite(error):
        return "–", False
    if indicator == SHARE_OVER:
        return f"{100 * error:.0f} pt", 100 * error <= SHARE_POINTS
    return (f"{error:.2f}" if error < 0.995 else f"{error:.1f}"), measured.accurate


def _noise(found: Noise, repeats: Mapping[str, int]) -> str:
    sections = []
    for place, by_unit in found.units.items():
        exact = found.truth[place]
        rows = []
        for name, level, indicator in ROWS:
            row = [name]
            for by_epsilon in by_unit.values():
                measured = by_epsilon["1"].get((level, indicator))
                if measured is None:
                    measured = next(iter(by_unit.values()))["1"].get((level, indicator))
                row.append(_share(measured) if indicator == SHARE_OVER else _db(measured))
            rows.append(row)
        sections.append(
            f"**{place.capitalize()}**: LAeq {exact['laeq_db']:.1f} dB, L10/L50/L90 {exact['l10_db']:.1f}/"
            f"{exact['l50_db']:.1f}/{exact['l90_db']:.1f}, {100 * exact[SHARE_OVER]:.0f} % over 65 dB.\n\n"
            + table(["bias / RMSE, epsilon 1", *by_unit], rows)
        )
    errors = []
    for place, by_unit in found.units.items():
        for unit, by_epsilon in by_unit.items():
            if unit not in _shown_units(place):
                continue
            rows = [
                [name, *(_cell_text(by_epsilon, by_unit, level, indicator, e) for e in EPSILONS)]
                for name, level, indicator in ROWS
            ]
            errors.append(
                f"{place.capitalize()}, {unit}:\n\n" + table(["95 % error", *(f"epsilon {e}" for e in EPSILONS)], rows)
            )
    summaries = []
    for place, by_unit in found.units.items():
        for unit in _shown_units(place):
            good = [n for n, level, i in ROWS if cell(_of(by_unit[unit], by_unit, level, i, "1"), i)[1]]
            bad = [n for n, _, _ in ROWS if n not in good]
            summaries.append(
                f"At epsilon 1, {place}, {unit}: accurate are {', '.join(good) or 'none'}; "
                f"not accurate are {', '.join(bad) or 'none'}."
            )
    at_60_db = noise.stated_at_db(noise.TARGET_LEAST_DB, noise.TARGET, "1")
    least_share = noise.TARGET_SHARE * (at_60_db / noise.TARGET_LAEQ_DB) ** 2
    held = []
    for name, level, indicator in ROWS[:12]:
        row = [name]
        for by_unit in found.units.values():
            measured = next(iter(by_unit.values()))["1"][level, indicator]
            row += [f"{100 * measured.held:.0f} %", f"{100 * measured.shown:.0f} %"]
        held.append(row)
    week_rows = [
        [
            unit,
            *(
                _db(of.get(key))
                for key in (("1h", "level_db_mean"), ("1h", "laeq_db"), ("1d", "level_db_mean"), ("1d", "laeq_db"))
            ),
        ]
        for unit, of in found.week.items()
    ]
    dublin = [
        [
            epsilon,
            *(
                (pm(m.error.bias, m.error.bias_se), pm(m.error.rmse, m.error.rmse_se), pm(m.error.p95, m.error.p95_se))
                if m.error
                else ("", "no number", "")
            ),
        ]
        for epsilon, m in found.dublin.items()
    ]
    days, of_days = found.dublin_days
    twelve = "; ".join(f"{level} dB: {_db(measured)}" for level, measured in found.twelve_hours.items())
    quiet, loud = list(found.units)
    loud_l90 = found.truth[loud]["l90_db"]
    blank = "\n\n"
    return f"""## Noise levels

Unit: 15 s of sound, so 27 readings of a meter asked every second whose memory is 10 s and whose clock may be one second
off. Nodes hour and day with weights 1 and 24 (for Ln and Lden: hour 1, day 12, evening 4, night 8); the budget within a
node goes 6 : 3 : 1 to histogram, mean level and energy; bounds 35 to 85 dB. Two units are compared:

- **(a)** any sound of 15 s: every reading is clamped to the bounds, LAeq too;
- **(b)** such a sound if no reading that it touches shows more than some level: mean level and energy need no upper
  clamp. The histogram, and so L10, L50, L90 and the share over 65 dB, is the same under both.

Recordings: the *{quiet}* is 12 hours at one reading a second, played twice to fill a day; the *{loud}* is 30 minutes
at a busy road, played 48 times. They are stand-ins for whole days: no longer recording by the second is at hand. Each
day is drawn {repeats["noise"]} times, 28 such days in a row {repeats["month"]} times.

### Which indicator is accurate?

An indicator in dB is called *accurate* on a recording (bold) if 19 measured errors in 20 are at most 3 dB; shares of
time are judged by {SHARE_POINTS:g} points here. Pages and `policy preview` cannot go by that, for nobody knows the
error of a real release: they *show* a level if its margin, computed from policy and released values alone, is at most
3 dB ([below](#does-the-interval-hold-the-truth)). So a level can be accurate and not shown.

– : no number in more than one case in a hundred, since noise left no positive energy, or since a percentile level may
lie in the first or in the last bin. These hold what lies beyond the bounds too, so that it is told as "at most" or
"at least" so many dB.

![Measured 95 % errors by epsilon, two streets, two units](pictures/utility-accurate.svg)

{blank.join(summaries)}

{_monthly(found)}

{blank.join(errors)}

### Bias and error of each unit

Cells: bias / RMSE in dB (shares: points of the time) at epsilon 1.

A low level makes small errors because it promises little: the {loud} shows more than {loud_l90:.1f} dB nine tenths of
the time, so there unit (b) with 60 dB covers next to no sound at all; even 75 dB leaves out nearly every event, as
[sensitivity.md](sensitivity.md#7-the-two-units-side-by-side) counts. Take the level that sounds worth hiding reach, and
see whether its error is bearable, not the other way round.

{blank.join(sections)}

### The level must fit the street

![Bias and error of the daily LAeq of a street made quieter and louder, by unit](pictures/utility-level.svg)

The loud street's recording, raised and lowered as a whole; epsilon 1, days only, six tenths of the budget on energy.
A clamp makes loud streets seem quieter than they are, whatever the noise; a level far above the street drowns it.
On five whole days of a quiet place at one reading a minute (LAeq 49 to 54 dB), bias / RMSE at epsilon 1 and the shares
named above:

{table(["unit", "hour: mean level", "hour: LAeq", "day: mean level", "day: LAeq"], week_rows)}

### Mean level beside other mechanisms

The same five days, unit (a), epsilon 1, RMSE in dB. Each mechanism spends its whole budget on the mean level, so that
none has an advantage. With three tenths of rho, as above, every Gaussian error is 1.83 times as large; with three
tenths of epsilon, every Laplace error 3.33 times.

{_beside(found.mean, found.peers)}

### One energy alone

With the whole budget on one energy, that of the 12 recorded hours (LAeq 46 dB), the bias / RMSE in dB is, for
sounds up to {twelve}.

### Daily LAeq of loud streets

Every twentieth of the {of_days} recorded days of 60 dB or more in Dublin: {days} days ({found.dublin_sites}). Levels by
the hour, held for their hour. Unit (b) up to 75 dB, days only, six tenths of the budget on energy; {repeats["dublin"]}
draws of each day. For a day of exactly 60 dB the noise scale states {at_60_db:.2f} dB at epsilon 1, and
{100 * least_share:.0f} % of the budget would do for 0.3 dB. The meters themselves: about ±2 dB in the middle of their
range (±3 %) for the cheap transmitters, ±0.5 dB at the reference point for the better ones.

{table(["epsilon", "bias, dB", "RMSE, dB", "95 %, dB"], dublin)}

### Does the interval hold the truth?

Every figure carries a 95 % interval computed from policy and released values alone; a level is shown only if that
interval reaches at most 3 dB. Unit (a), epsilon 1: how often the interval held the truth, and how often the level would
have been shown.

{table(["", f"{quiet}: held", "shown", f"{loud}: held", "shown"], held)}

Percentile levels are told as the middle of the 5 dB bins that can hold them, and their interval as the edges of these
bins: nothing is assumed of where in a bin a moment was. So one bin alone is ± 2.5 dB, which may be shown, and two are
± 5 dB, which may not: a level near an edge has no number, however large the budget. Nor has one in the first or in the
last bin: its interval has one end only."""


def _monthly(found: Noise) -> str:
    place = next(iter(found.units))
    clamped, fitting = _shown_units(place)

    def told(unit: str, level: str, indicator: str) -> str:
        measured = found.units[place][unit]["1"][level, indicator]
        text, _ = cell(measured, indicator)
        if not isfinite(measured.error_95):
            return "no number"
        return f"a 95 % error of {text} dB (shown in {100 * measured.shown:.0f} % of the cases)"

    return f"""**Night levels and Lden of a quiet street are often monthly only.** At the {place}, {fitting}, epsilon 1:
Ln of one night has {told(fitting, noise.PERIOD, "ln_db")}, of 28 nights {told(fitting, noise.MONTH, "ln_db")};
Lden of one day has {told(fitting, noise.PERIOD, "lden_db")}, of 28 days {told(fitting, noise.MONTH, "lden_db")}.
Under {clamped}, even 28 days give Ln {told(clamped, noise.MONTH, "ln_db")} and Lden
{told(clamped, noise.MONTH, "lden_db")}."""


def _share(measured: noise.Measured | None) -> str:
    if measured is None or measured.error is None:
        return ""
    error = measured.error
    return f"{_signed(100 * error.bias, 1)} / {pm(100 * error.rmse, 100 * error.rmse_se)} pt"


def _shown_units(place: str) -> tuple[str, str]:
    fits = 60 if place.startswith("quiet") else 75
    return noise.Setting(None).name, noise.Setting(fits).name


def _of(
    by_epsilon: Mapping[str, noise.Table],
    by_unit: Mapping[str, Mapping[str, noise.Table]],
    level: str,
    indicator: str,
    epsilon: str,
) -> noise.Measured:
    """What unit (b) leaves as it is, the histogram's indicators, was measured under unit (a)."""
    key = level, indicator
    own = by_epsilon[epsilon]
    return own[key] if key in own else next(iter(by_unit.values()))[epsilon][key]


def _cell_text(
    by_epsilon: Mapping[str, noise.Table],
    by_unit: Mapping[str, Mapping[str, noise.Table]],
    level: str,
    indicator: str,
    epsilon: str,
) -> str:
    text, good = cell(_of(by_epsilon, by_unit, level, indicator, epsilon), indicator)
    return f"**{text}**" if good else text


def _air(found: Air, repeats: Mapping[str, int]) -> str:
    rows = []
    for setting, by_epsilon in found.ours["Aberdeen"].items():
        for epsilon, measured in by_epsilon.items():
            day = measured.noise["1d"]
            rows.append(
                [
                    setting,
                    epsilon,
                    _rmse(measured.noise["1h"]),
                    _rmse(day),
                    pm(day.p95, day.p95_se),
                    f"{day.rmse / air.DATASHEET_UG_M3:.2f}",
                    pm(measured.whole["1d"].bias, measured.whole["1d"].bias_se),
                    _rmse(measured.whole["1d"]),
                ]
            )
    side = [
        [
            setting,
            _rmse(by_epsilon["1"].noise["1h"]),
            _rmse(by_epsilon["1"].noise["1d"]),
            _rmse(by_epsilon["1"].whole["1d"]),
        ]
        for setting, by_epsilon in found.ours["side by side"].items()
    ]
    first = found.ours["Aberdeen"][air.STREAMING.name]["1"]
    return f"""## Air: PM2.5

Unit: 60 s of smoke or dust. Nodes hour and day, weights 1 and 24. Recording: three SDS011 in Aberdeen, April 2019,
one reading in about 150 s; "every second" holds each for its time, as a sensor that streams would have sent it. Each
of the {first.noise["1d"].clusters // repeats["air"]} days is drawn {repeats["air"]} times. *Noise* is the error against
the exact mean of what the windows held; *all together* is the error against the mean of what was read, so with
clamping and with silent moments, which count as the middle of the bounds. All in µg/m³; the sensor's datasheet says
±{air.DATASHEET_UG_M3:g} (or 15 %, whichever is more).

![Error of the hourly and the daily mean against epsilon, beside the sensor's own error](pictures/utility-air.svg)

{table(AIR, rows)}

A sensor that sleeps and gives one reading in 150 s is no use here: a minute of smoke then touches 4 of 576 readings of
the day instead of 63 of 86,400, ten times the share. Let it stream.

Three such sensors side by side on one day (71 s a reading): their daily means differ with a standard deviation of
{found.disagreement_ug_m3:.1f} µg/m³, which is what one sensor is off by even beside its like. Noise at epsilon 1 on
that day:

{table(["sensor and unit", "hour: noise RMSE", "day: noise RMSE", "day: all together, RMSE"], side)}

### PM2.5 beside other mechanisms

The same hours, epsilon 1, clamped to 0-100, one reading a second; RMSE in µg/m³.

{_beside(first.noise, found.peers)}"""


def _weighted(errors: Mapping[str, Error]) -> float:
    """Returns the weighted RMSE of hourly and daily means, weights 1 and 24."""
    return float(((errors["1h"].rmse ** 2 + 24 * errors["1d"].rmse ** 2) / 25) ** 0.5)


def _beside(ours: Mapping[str, Error], others: Mapping[str, Mapping[str, Error]]) -> str:
    """Returns the table of hourly and daily means, weights 1 and 24, and which mechanism is better at what."""
    rows = [
        [name, _rmse(errors["1h"]), _rmse(errors["1d"]), f"{_weighted(errors):.3g}"]
        for name, errors in {OURS: ours, **others}.items()
    ]
    closer = {
        level: ", ".join(f"*{name}*" for name in others if others[name][level].rmse < ours[level].rmse)
        for level in ours
    }
    habit_days = DAYS[-1]
    grown, still = [], []
    for name, levels in (("Laplace per window", 1), ("Laplace per level", 2)):
        times = growth(habit_days, levels, "1")
        hour, day = (times * others[name][level].rmse for level in ("1h", "1d"))
        weighted = times * _weighted(others[name])
        grown.append(f"*{name}* {times:.2f} times: hour {hour:.3g}, day {day:.2g}, weighted {weighted:.3g}")
        still += [
            f"*{name}* at the {NODES[level]}"
            for level, error in (("1h", hour), ("1d", day))
            if error < ours[level].rmse
        ]
    after = f"Closer than ours even then: {', '.join(still)}" if still else "Then ours is closer"
    weighted_ours = gap(air.NODES, means=True).ours
    turns = [means_turn(weighted_ours, "1", levels) for levels in (2, 1)]
    return f"""{table(["mechanism", "hour", "day", "weighted"], rows)}

*Weighted* is what the policy asks for: the root of the weighted mean square, one part for all hours together and 24 for
the day. There no unbiased linear Gaussian mechanism is better than ours by as much as a hundredth of a per cent
([limit](#beside-the-theoretical-limit)), and only there:
closer at the hour are {closer["1h"] or "none"}; closer at the day {closer["1d"] or "none"}. Independent
noise spends nothing on the day. The tree and the Toeplitz matrix pay for their day with the hour, since they are made
for every range or running total alike and know no weights; who cares for the day alone gives it a larger weight.

Laplace noise, per window or per level, promises delta 0 and is closer for **one** unit. With habits its epsilon adds up
linearly, until zCDP proves less. To promise for one such event on each of {habit_days} days what ours does, it must be
larger: {"; ".join(grown)}. {after}.
By the weighted error, computed from the matrices, ours is better than *Laplace per level* from {turns[0]} days on and
than *Laplace per window* from {turns[1]} days on."""


def _method() -> str:
    return """## How it was measured

Policy text → `parse` → `plan` → `OpenWindows` → OpenDP → `estimate.figures`: the code of a gateway and of the centre,
on readings made of the recordings as `murmure edge replay` makes them. Only two things differ from a street: charges
are not written to a ledger, and OpenDP draws many numbers of one sigma at a time, which is faster than one by one.
Truth comes from the rows of the recording, not from the kernel. Standard errors come from 20 interleaved batches of
whole days, since the figures of one day share noise. A row of a count falls where it starts; a row of a level or of
air is held until the next one, for at most 1.5 usual steps.

The recordings, with their sources and licences: footfall of the Hardbrücke station (VBZ, Open Data Zürich, CC0) and
bicycles of Münster, which pass a counter as persons do (Stadt Münster, Verkehrszählung Fahrradverkehr, dl-de/by-2-0);
SDS011 of Air Aberdeen (sensor.community contributors, ODbL) and three side by side (Binh Ng, MIT); the quiet monitor
(noisemonitor test data, Valérian Fraisse, Apache-2.0), a roadside in Basel (NOISEtools example data, Marloes Eeftens,
GPL-2.0-or-later) and Dublin's ambient sound monitoring network (Dublin City Council, CC BY 4.0)."""


def pictures(results: Results) -> dict[str, str]:
    """Returns the SVG of each picture by name."""
    return {
        "utility-footfall": _footfall_picture(results.footfall),
        "utility-air": _air_picture(results.air),
        "utility-level": _level_picture(results.noise),
        "utility-accurate": _matrix_picture(results.noise),
    }


_EPSILON = Scale("epsilon for one unit of privacy", 0.1, 2, [float(epsilon) for epsilon in EPSILONS], True)


def _footfall_picture(found: Footfall) -> str:
    named = ["independent", "binary tree", "square-root Toeplitz", "Laplace per window", "Laplace per level"]

    def panel(title: str, level: str) -> Panel:
        lines = [Line(OURS, 0, [(float(e), found.ours["Zürich"][e][level].rmse) for e in EPSILONS])]
        for style, name in enumerate(named, 1):
            lines.append(Line(name, style, [(float(e), found.peers[e][name][level].rmse) for e in EPSILONS]))
        return Panel(
            title, _EPSILON, Scale("RMSE, persons", 0.5, 500, (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500), True), lines
        )

    return plots(
        "Footfall: error against epsilon",
        "Two plots, of the quarter-hour and of the day; every error falls as epsilon grows. For the day ours is best "
        "among the Gaussian mechanisms, about five times better than independent noise; for the quarter-hour "
        "independent noise and Laplace per window are better. Laplace per level is below ours in both.",
        [panel("quarter-hour", "15min"), panel("day", "1d")],
    )


def _air_picture(found: Air) -> str:
    def panel(title: str, level: str) -> Panel:
        lines = [
            Line(name, style, [(float(e), found.ours["Aberdeen"][name][e].noise[level].rmse) for e in EPSILONS])
            for style, name in enumerate(found.ours["Aberdeen"])
        ]
        limits = [("the sensor's own error", air.DATASHEET_UG_M3)]
        if level == "1d":
            limits.append(("a tenth of it", air.DATASHEET_UG_M3 / 10))
        y = Scale("noise RMSE, µg/m³", 0.1, 1000, (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000), True)
        return Panel(title, _EPSILON, y, lines, limits)

    return plots(
        "PM2.5: what noise adds to the mean, beside the sensor's own error",
        "Two plots, of the hour and of the day. Read every second, the noise of the daily mean at epsilon 1 is below a "
        "tenth of the sensor's error of 10 µg/m³, that of the hourly mean is about as large as that error. Read every "
        "150 seconds the noise is some ten times larger.",
        [panel("hour", "1h"), panel("day", "1d")],
    )


def _level_picture(found: Noise) -> str:
    lows = [point.laeq_db for points in found.at_level.values() for point in points]
    x = Scale("true LAeq of the day, dB", floor(min(lows) / 5) * 5, -(-max(lows) // 5) * 5, range(40, 95, 10), False)
    bias = [
        Line(name, style, [(p.laeq_db, p.bias_db) for p in points])
        for style, (name, points) in enumerate(found.at_level.items())
    ]
    error = [
        Line(name, style, [(p.laeq_db, p.rmse_db) for p in points if p.rmse_db is not None])
        for style, (name, points) in enumerate(found.at_level.items())
    ]
    return plots(
        "Daily LAeq: bias of the clamp, and error with noise",
        "Left: clamping makes a street of 80 dB seem several dB quieter under unit (a), and is absent under unit (b). "
        "Right: under unit (b) the error falls steeply as the street gets louder than the level chosen; where a line "
        "begins, quieter streets have no number at all.",
        [
            Panel("bias without noise", x, Scale("bias, dB", -14, 2, (-12, -9, -6, -3, 0), False), bias),
            Panel(
                "error with noise, epsilon 1",
                x,
                Scale("RMSE, dB", 0.00001, 20, (0.0001, 0.001, 0.01, 0.1, 1, 10), True),
                error,
                [("3 dB", 3.0)],
            ),
        ],
    )


def _matrix_picture(found: Noise) -> str:
    blocks = []
    for place, by_unit in found.units.items():
        for unit in _shown_units(place):
            rows = [
                Row(name, [cell(_of(by_unit[unit], by_unit, level, indicator, e), indicator) for e in EPSILONS])
                for name, level, indicator in ROWS
            ]
            blocks.append((f"{place}: {unit}", rows))
    return matrix(
        "Which noise indicator is accurate at which epsilon",
        "Four tables of measured 95 % errors in dB (shares in points): quiet place and loud street, each under units "
        "(a) and (b), by epsilon. Shaded and bold: at most 3 dB, or 10 points. The same tables stand in the text.",
        [f"ε {epsilon}" for epsilon in EPSILONS],
        blocks,
    )
