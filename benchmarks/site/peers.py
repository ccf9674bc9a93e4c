"""Other people's programs that draw the three charts of a week. Run by a Python that has them, told the points in JSON
on stdin; imports nothing of Murmure, whose own figures come from charts.py."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from typing import Any

Points = list[list[float]]
"""Hour by hour: the hour's number, the value, and the two ends of its margin."""
LEAST_S = 3.0


def with_matplotlib() -> Callable[[Points], bytes]:
    """Draws as SVG with text as text."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    def draw(points: Points) -> bytes:
        figure, axes = pyplot.subplots(figsize=(7, 2.2))
        hours, values, low, high = zip(*points, strict=True)
        axes.fill_between(hours, low, high, alpha=0.3)
        axes.plot(hours, values)
        held = io.BytesIO()
        figure.savefig(held, format="svg")
        pyplot.close(figure)
        return held.getvalue()

    return draw


def with_pygal() -> Callable[[Points], bytes]:
    """Draws the line and the two ends of the margin: it knows no band."""
    import pygal

    def draw(points: Points) -> bytes:
        chart = pygal.XY(show_dots=False, js=[])
        for name, place in (("value", 1), ("low", 2), ("high", 3)):
            chart.add(name, [(point[0], point[place]) for point in points])
        return bytes(chart.render())

    return draw


def with_vega() -> Callable[[Points], bytes]:
    """Draws what Vega-Lite is told, without a browser."""
    import vl_convert

    def draw(points: Points) -> bytes:
        hour, value, low = ({"field": name, "type": "quantitative"} for name in ("hour", "value", "low"))
        spec = {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "data": {"values": [dict(zip(("hour", "value", "low", "high"), point, strict=True)) for point in points]},
            "layer": [
                {"mark": "area", "encoding": {"x": hour, "y": low, "y2": {"field": "high"}}},
                {"mark": "line", "encoding": {"x": hour, "y": value}},
            ],
        }
        return str(vl_convert.vegalite_to_svg(spec)).encode()

    return draw


PEERS = {"matplotlib": with_matplotlib, "pygal": with_pygal, "Vega-Lite (vl-convert)": with_vega}


def pages(draw: Callable[[Any], bytes], charts: list[Any]) -> tuple[float, int]:
    """Returns how many pages of these charts are drawn in a second of CPU, and the bytes of one."""
    octets, count = sum(len(draw(chart)) for chart in charts), 0
    began_s = time.process_time()
    while (took_s := time.process_time() - began_s) < LEAST_S:
        for chart in charts:
            draw(chart)
        count += 1
    return count / took_s, octets


def main() -> None:
    """Prints what each peer that is installed has done."""
    charts: list[Points] = json.load(sys.stdin)
    for name, peer in PEERS.items():
        try:
            draw = peer()
        except ImportError:
            continue
        print(json.dumps([name, *pages(draw, charts)]), flush=True)


if __name__ == "__main__":
    main()
