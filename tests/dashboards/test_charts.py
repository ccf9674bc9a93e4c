"""The picture says what the numbers say: paths are parsed back and compared with their source."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from murmure_dashboards.charts import HEIGHT, Axis, Chart, Step, Table, Tick, axis, draw
from murmure_privacy.window import Window

DAY = Window(1_795_215_600, 1_795_215_600 + 86_400)
figures = st.tuples(st.floats(-500, 5000), st.floats(0.1, 400))


def drawn(
    steps: list[Step],
    gaps: list[Window] | None = None,
    from_zero: bool = True,
    faulty: list[Window] | None = None,
) -> Chart:
    return draw(
        title="Passages par heure",
        finding="Rien",
        unit="passages",
        description="Plus haute estimation : 3 passages.",
        table=Table("", (), ()),
        steps=steps,
        gaps=gaps or [],
        faulty=faulty or [],
        window=DAY,
        ticks=[Tick("0 h", 24)],
        from_zero=from_zero,
        name="c0",
    )


def paths(chart: Chart) -> dict[str, str]:
    return dict(re.findall(r'<path class="([\w-]+)"[^>]* d="([^"]*)"', chart.svg))


def runs(d: str) -> list[list[tuple[int, int, int]]]:
    """The horizontal strokes of a path as (from x, to x, y), one list for each M."""
    found: list[list[tuple[int, int, int]]] = []
    x = y = 0
    for command, first, second in re.findall(r"([Mhvz])(-?\d+)?(?:,(-?\d+))?", d):
        if command == "M":
            x, y = int(first), int(second)
            found.append([])
        elif command == "h":
            found[-1].append((x, x + int(first), y))
            x += int(first)
        elif command == "v":
            y += int(first)
    return found


def value(y: int, scale: Axis) -> float:
    return float(scale.bottom) + (1 - y / HEIGHT) * float(scale.top - scale.bottom)


def hourly(values: list[tuple[float, float] | None]) -> list[Step]:
    return [
        Step(DAY.start_s + 3600 * hour, DAY.start_s + 3600 * (hour + 1), one[0], one[0] - one[1], one[0] + one[1])
        for hour, one in enumerate(values)
        if one
    ]


@given(st.lists(st.one_of(st.none(), figures), min_size=1, max_size=24))
def test_line_and_band_are_their_numbers(values: list[tuple[float, float] | None]) -> None:
    """Each stroke, read back, is a value or an end of its interval, cut at zero, to half a unit of the picture."""
    steps = hourly(values)
    chart = drawn(steps)
    tolerance = float(chart.axis.top - chart.axis.bottom) / HEIGHT * 0.51
    lines = [stroke for run in runs(paths(chart).get("line", "")) for stroke in run]
    bands = runs(paths(chart).get("band", ""))
    assert len(lines) == len(steps)
    over = [stroke for run in bands for stroke in run if stroke[1] > stroke[0]]
    under = [stroke for run in bands for stroke in reversed([s for s in run if s[1] < s[0]])]
    for step, line, top, bottom in zip(steps, lines, over, under, strict=True):
        assert step.value is not None
        assert line[:2] == ((step.start_s - DAY.start_s) // 900, (step.end_s - DAY.start_s) // 900)
        assert abs(value(line[2], chart.axis) - max(0.0, step.value)) <= tolerance
        assert abs(value(top[2], chart.axis) - max(0.0, step.high)) <= tolerance
        assert abs(value(bottom[2], chart.axis) - max(0.0, step.low)) <= tolerance


@given(st.lists(st.one_of(st.none(), figures), min_size=1, max_size=24))
def test_a_gap_breaks_line_and_band(values: list[tuple[float, float] | None]) -> None:
    """There are as many strokes of the pen as runs of values without a hole."""
    expected = sum(one is not None and (hour == 0 or values[hour - 1] is None) for hour, one in enumerate(values))
    chart = paths(drawn(hourly(values)))
    assert chart.get("line", "").count("M") == chart.get("band", "").count("M") == expected


def test_a_gap_is_a_state_of_its_own() -> None:
    """What was not measured has its own area and its own line, in the picture and in the legend."""
    gap = Window(DAY.start_s + 7200, DAY.start_s + 18000)
    chart = drawn(hourly([(3, 1), (4, 1)]), [gap])
    assert runs(paths(chart)["gap"])[0][0] == (8, 20, 0)
    assert runs(paths(chart)["gap-line"])[0][0][:2] == (8, 20)
    assert chart.gaps and not drawn([]).gaps


@given(st.lists(st.floats(-100, 1e6), max_size=50), st.booleans())
def test_an_axis_holds_its_values_on_few_round_lines(values: list[float], from_zero: bool) -> None:
    """Every value fits, lines are equally far, their labels exact and at most six."""
    scale = axis(values, from_zero)
    assert all(float(scale.bottom) <= max(one, 0.0 if from_zero else one) <= float(scale.top) for one in values)
    assert 2 <= scale.intervals <= 5
    labels = scale.labels
    assert labels[0] == scale.bottom and labels[-1] == scale.top
    assert len({b - a for a, b in pairwise(labels)}) == 1
    assert (labels[1] - labels[0]).normalize().as_tuple().digits in ((1,), (2,), (2, 5), (5,))
    assert not from_zero or scale.bottom == 0


def test_an_axis_of_passages_has_whole_numbers() -> None:
    """Nobody counts two and a half passages."""
    assert [label for label in axis([0.0, 9.0], True).labels if label != label.to_integral_value()] == []
    assert axis([34.0, 66.0], False) == Axis(Decimal(30), Decimal(70), 4)


def test_the_picture_has_paths_only_and_keeps_its_strokes() -> None:
    """No text, no style, no fraction: labels are HTML, coordinates whole, strokes unstretched."""
    svg = drawn(hourly([(3.3, 1.2)] * 24)).svg
    assert set(re.findall(r"<(\w+)", svg)) == {"svg", "title", "desc", "path"}
    assert "style=" not in svg and 'preserveAspectRatio="none"' in svg
    assert svg.count("<path") == svg.count('vector-effect="non-scaling-stroke"')
    assert not re.search(r'd="[^"]*\.', svg)
    assert re.search(r'viewBox="0 0 96 400"', svg)
    assert re.search(r'role="img" aria-labelledby="c0-t c0-d"', svg)


def test_a_chart_cannot_be_made_without_its_words() -> None:
    """Title, finding, unit, description and table are required: no chart without an alternative."""
    parameters = inspect.signature(draw).parameters
    for name in ("title", "finding", "unit", "description", "table"):
        assert parameters[name].default is inspect.Parameter.empty
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY


def test_what_people_typed_is_escaped() -> None:
    """A name is text, never markup."""
    chart = draw(
        title="<b>&",
        finding="",
        unit="",
        description="<script>",
        table=Table("", (), ()),
        steps=[],
        gaps=[],
        faulty=[],
        window=DAY,
        ticks=[],
        from_zero=True,
        name="c0",
    )
    assert "<b>" not in chart.svg and "<script>" not in chart.svg


@given(st.lists(st.tuples(figures, st.booleans()), min_size=1, max_size=24))
def test_what_is_too_uncertain_to_be_shown_has_a_band_and_no_line(
    values: list[tuple[tuple[float, float], bool]],
) -> None:
    """The line has a run for each stretch of values that may be shown; the band goes on."""
    steps = [
        step if shown else replace(step, value=None)
        for step, (_, shown) in zip(hourly([value for value, _ in values]), values, strict=True)
    ]
    chart = paths(drawn(steps))
    runs_shown = sum(shown and (hour == 0 or not values[hour - 1][1]) for hour, (_, shown) in enumerate(values))
    assert chart.get("line", "").count("M") == runs_shown
    assert chart["band"].count("M") == 1


def test_nothing_is_drawn_outside_of_the_window() -> None:
    """The night before begins at the left edge, the week around a day ends at the right one."""
    spans = ((DAY.start_s - 7200, DAY.start_s + 21_600), (DAY.end_s - 7200, DAY.end_s + 21_600))
    around = [Step(*span, 5, 4, 6) for span in spans]
    edges = [edge for run in runs(paths(drawn(around))["line"]) for left, right, _ in run for edge in (left, right)]
    assert (min(edges), max(edges)) == (0, 96)
