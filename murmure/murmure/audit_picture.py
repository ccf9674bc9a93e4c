"""The picture of an audit: how far apart the two streets look, and what is proved beside what is claimed."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import floor, inf

from murmure.audit import Claim, Report, Result, Run

_WIDTH = 990
_ROW = 112
_HEAD = 84
_FOOT = 34
_PLOT_X, _PLOT_W, _PLOT_H = 210, 400, 70
_BAR_X, _BAR_W = 700, 170
_BINS_A_UNIT = 4  # bars of a quarter of a standard deviation
_STYLE = """
.page{fill:#fff}text{fill:#1a1a1a;font:13px sans-serif}.small{font-size:11px;fill:#555}.head{font-size:18px}
.without{fill:#0072b2;fill-opacity:.30;stroke:#0072b2;stroke-width:1.5}
.canary{fill:#d55e00;fill-opacity:.30;stroke:#d55e00;stroke-width:1.5;stroke-dasharray:5 2}
.axis{stroke:#888;fill:none}.threshold{stroke:#1a1a1a;stroke-dasharray:2 3}
.track{fill:#e4e4e4}.proved{fill:#009e73}.over{fill:#b00020}.claim{stroke:#1a1a1a;stroke-width:2}.bad{fill:#b00020}
@media (prefers-color-scheme:dark){.page{fill:#16181c}text{fill:#eee}.small{fill:#b5b5b5}
.without{fill:#56b4e9;stroke:#56b4e9}.canary{fill:#e69f00;stroke:#e69f00}.axis{stroke:#888}
.threshold,.claim{stroke:#eee}.track{fill:#3a3d44}.over,.bad{fill:#ff7b89}}
"""


def draw(report: Report) -> str:
    """Returns the picture as an SVG of its own, for light and dark pages, with its words in title and description."""
    height = _HEAD + _ROW * len(report.results) + _FOOT
    verdict = "above its claim" if report.failed else "within its claims"
    rows = "".join(_row(result, _HEAD + _ROW * number) for number, result in enumerate(report.results))
    problems = [f"{check.name}: {check.problem}" for check in report.problems]
    foot = escape(f"Other looks at what leaves: {'; '.join(problems) or 'nothing found'}"[:150])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="audit-t audit-d"'
        f' viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">'
        f'<title id="audit-t">Privacy audit: the gateway is {verdict}</title>'
        f'<desc id="audit-d">{escape(" ".join(_words(result) for result in report.results))}</desc>'
        f'<style>{_STYLE}</style><rect class="page" width="{_WIDTH}" height="{height}"/>'
        f'<text class="head" x="16" y="30">What a stranger can tell from the sealed messages: {verdict}</text>'
        f'<rect class="without" x="16" y="46" width="14" height="12"/><text x="36" y="57">without the canary</text>'
        f'<rect class="canary" x="176" y="46" width="14" height="12"/><text x="196" y="57">with it: one unit more'
        "</text>"
        f'<text class="small" x="{_PLOT_X}" y="76">best statistic, in its standard deviations; dotted: threshold for mu'
        "</text>"
        f'<text class="small" x="{_BAR_X - 60}" y="76">proved ({report.confidence:.1%}) of what is claimed</text>'
        f'{rows}<text class="small" x="16" y="{height - 12}">{foot}</text></svg>\n'
    )


def _words(result: Result) -> str:
    run, claim = result.runs[-1], result.claim
    return (
        f"{result.stream}, {result.unit}, {result.placement}, {run.runs} runs of each street:"
        f" epsilon at least {run.epsilon.bound:.3f} of {claim.epsilon:.3f},"
        f" mu at least {run.mu.bound:.3f} of {claim.mu:.3f}, rho at least {run.rho.bound:.4f} of {claim.rho:.4f}."
    )


def _row(result: Result, top: int) -> str:
    run, claim = result.runs[-1], result.claim
    state = '<tspan class="bad"> above its claim</tspan>' if result.exceeded else ""
    pairs: Sequence[tuple[str, float, float]] = (
        ("epsilon", run.epsilon.bound, claim.epsilon),
        ("mu", run.mu.bound, claim.mu),
        ("rho", run.rho.bound, claim.rho),
    )
    bars = "".join(_bar(name, bound, claimed, top + 24 * number) for number, (name, bound, claimed) in enumerate(pairs))
    return (
        f'<text x="16" y="{top + 22}">{escape(result.stream)}</text>'
        f'<text class="small" x="16" y="{top + 40}">{escape(result.unit)}, {result.placement}{state}</text>'
        f'<text class="small" x="16" y="{top + 56}">{run.runs:,} runs of each street</text>'
        f"{_plot(run, claim, top)}{bars}"
    )


def _plot(run: Run, claim: Claim, top: int) -> str:
    """Two histograms on one axis, 4 standard deviations beyond the outer middles."""
    middle = sum(run.with_canary) / len(run.with_canary)
    low, high = floor(min(0.0, middle)) - 4, floor(max(0.0, middle)) + 5
    unit = _PLOT_W / (high - low)
    columns = [_histogram(values, low, high) for values in (run.without, run.with_canary)]
    tallest = max(max(column) for column in columns)
    floor_y = top + _PLOT_H + 8
    drawn = []
    for kind, column in zip(("without", "canary"), columns, strict=True):
        steps = "".join(f"V{floor_y - _PLOT_H * count / tallest:.1f}h{unit / _BINS_A_UNIT:.2f}" for count in column)
        drawn.append(f'<path class="{kind}" d="M{_PLOT_X},{floor_y}{steps}V{floor_y}z"/>')
    each = max(1, (high - low) // 8)
    ticks = "".join(
        f'<path class="axis" d="M{_PLOT_X + (at - low) * unit:.1f},{floor_y}v4"/>'
        f'<text class="small" text-anchor="middle" x="{_PLOT_X + (at - low) * unit:.1f}" y="{floor_y + 16}">{at}</text>'
        for at in range(low, high + 1, each)
    )
    threshold_x = _PLOT_X + (min(high, max(low, run.mu.threshold)) - low) * unit
    return (
        f'{"".join(drawn)}<path class="threshold" d="M{threshold_x:.1f},{top}V{floor_y}"/>'
        f'<path class="axis" d="M{_PLOT_X},{floor_y}h{_PLOT_W}"/>{ticks}'
    )


def _histogram(values: Sequence[float], low: int, high: int) -> list[int]:
    """Counts by bin; what lies beyond the axis stands at its ends."""
    counts = [0] * ((high - low) * _BINS_A_UNIT)
    for value in values:
        counts[min(len(counts) - 1, max(0, floor((value - low) * _BINS_A_UNIT)))] += 1
    return counts


def _bar(name: str, bound: float, claimed: float, top: int) -> str:
    """A track as long as one and a quarter of the claim, with a mark at the claim."""
    claim_x = _BAR_W / 1.25
    share = min(1.25, bound / claimed) if claimed < inf else 0.0
    words = f"{bound:.3f} of {claimed:.3f}" if claimed < inf else "not judged"
    return (
        f'<text class="small" text-anchor="end" x="{_BAR_X - 8}" y="{top + 21}">{name}</text>'
        f'<rect class="track" x="{_BAR_X}" y="{top + 12}" width="{_BAR_W}" height="11"/>'
        f'<rect class="{"over" if share > 1 else "proved"}" x="{_BAR_X}" y="{top + 12}" width="{claim_x * share:.1f}"'
        f' height="11"/><path class="claim" d="M{_BAR_X + claim_x:.1f},{top + 9}v17"/>'
        f'<text class="small" x="{_BAR_X + _BAR_W + 6}" y="{top + 21}">{words}</text>'
    )
