"""What a page knows of one stream over one span, in no language: the figure, how sure it is, and what else it bears."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from murmure_privacy.estimate import Figure
from murmure_privacy.window import Window

from murmure_dashboards.config import Site
from murmure_dashboards.counters import Off, off
from murmure_dashboards.sensors import own_error
from murmure_dashboards.usual import LEAST_COVERAGE, Past, Usual
from murmure_dashboards.views import StreamView

_HARDLY = 1e-9  # of a share: less than a second of a year


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure, in printed units. `indicator`: `crossings`, `mean`, `level_db_mean` or `laeq_db`. `averaging`: `1d`
    for a day that has ended, also one on which the measurement began early enough, "" for any other span: what it may
    be compared with. `low` to `high` is what the noise and
    silent moments leave open; `error` what the sensor adds to either side, None for counts, whose sensor misses a share
    of them, `off`, None where that was not measured. `coverage`: the share of the span that was measured. `usual`: the
    same weekday and hours before, None where nothing can be compared. `apart`: the share that was measured and is in no
    figure but those that reach beyond the span."""

    quantity: str
    indicator: str
    span: Window
    averaging: str
    estimate: float
    low: float
    high: float
    error: float | None
    off: Off | None
    absent: float
    coverage: float
    faulty: bool
    publishable: bool
    usual: Usual | None
    apart: float = 0.0

    @property
    def whole(self) -> bool:
        """Returns whether nothing of it is missing."""
        return self.coverage + self.apart > 1 - _HARDLY

    @property
    def widest(self) -> tuple[float, float]:
        """Returns the interval with the sensor's own error, which may lie wholly on one side and so adds in full."""
        error = self.error or 0.0
        return self.low - error, self.high + error


def of_day(view: StreamView, site: Site, past: Past) -> Fact | None:
    """Returns what is known of the day that a view spans, or of it until its last figure; None where nothing is."""
    day = view.window
    over = view.now_s >= day.end_s
    amount = view.amount(day)
    if amount is None:
        return None
    # What should have come and has not is a hole, also at the end of what has come.
    ends_s = [slot.end_s for slot in view.slots(day) if slot.state not in ("awaited", "left")]
    until_s = min(max([*ends_s, *(figure.end_s for figure in view.scalar.values())]), day.end_s)
    span = Window(max(day.start_s, view.first_s), until_s)
    level = shown_level(view, day)
    name, estimate, low, high = view.quantity.printed, amount.estimate, amount.low, amount.high
    absent, publishable = amount.absent, amount.publishable
    if level is not None and level.low is not None and level.high is not None:
        name, estimate, low, high = level.indicator, level.estimate, level.low, level.high
        absent, publishable = level.absent, True
    counted = view.quantity.kind == "count"
    device = next((sensor.device for sensor in site.sensor if sensor.stream == view.stream), "")
    expected_s = span.end_s - span.start_s - view.left_s(span)
    apart_s = sum(one.end_s - one.start_s for one in view.across(span))
    coverage, apart = (one_s / max(amount.covered_s, expected_s) for one_s in (amount.covered_s, apart_s))
    measured = amount.covered_s / max(amount.covered_s, expected_s - apart_s)
    faulty = bool(view.faulty(span))
    of_day = span == day or (span.end_s == day.end_s and amount.covered_s >= LEAST_COVERAGE * (day.end_s - day.start_s))
    usual = None
    if span.start_s == day.start_s and publishable and not faulty and measured >= (1.0 if counted else LEAST_COVERAGE):
        usual = past.usual(view, name, span)
    return Fact(
        quantity=view.quantity.name,
        indicator=name,
        span=span,
        averaging="1d" if of_day and over else "",
        estimate=estimate,
        low=low,
        high=high,
        error=None if counted else own_error(view.quantity.name, estimate),
        off=off(device),
        absent=absent,
        coverage=coverage,
        faulty=faulty,
        publishable=publishable,
        usual=usual,
        apart=apart,
    )


def daily_levels(view: StreamView, day: Window) -> Sequence[Figure]:
    """Returns the figures that the node of a day gave."""
    return view.figures_of("1d", day.start_s)


def day_level(view: StreamView, day: Window) -> Figure | None:
    """Returns the LAeq of a day, or None where it has none."""
    return next((figure for figure in daily_levels(view, day) if figure.indicator == "laeq_db"), None)


def shown_level(view: StreamView, day: Window) -> Figure | None:
    """Returns the LAeq of a day that has ended, where it is precise enough to be shown."""
    level = day_level(view, day) if view.now_s >= day.end_s else None
    return level if level is not None and level.low is not None and level.publishable else None
