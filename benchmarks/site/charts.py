"""The three charts of a week, drawn by Murmure and by other people's programs: pages a second of CPU."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import venv
from pathlib import Path

from murmure_dashboards.charts import Step, Table, draw
from murmure_privacy.window import Window

from . import peers

_HOURS, _HOUR_S = 168, 3600
_LIBRARIES = ("matplotlib", "pygal", "vl-convert-python")
_ROOT = Path(__file__).resolve().parents[2]


def made_up() -> list[peers.Points]:
    """Returns three weeks of hours with a daily rhythm and a margin."""
    return [
        [
            [float(hour), value, value - margin, value + margin]
            for hour in range(_HOURS)
            for value in [middle + swing * math.sin(hour / 24 * 2 * math.pi) + hour % 7]
        ]
        for middle, swing, margin in ((210.0, 150.0, 27.0), (55.0, 9.0, 1.6), (14.0, 6.0, 2.2))
    ]


def ours(points: peers.Points) -> bytes:
    """Returns one chart of ours, as it stands on a page."""
    steps = [
        Step(int(hour) * _HOUR_S, (int(hour) + 1) * _HOUR_S, value, low, high) for hour, value, low, high in points
    ]
    return draw(
        title="A week",
        finding="",
        unit="1",
        description="Hour by hour, with its margin",
        table=Table("", (), ()),
        steps=steps,
        gaps=(),
        faulty=(),
        window=Window(0, _HOURS * _HOUR_S),
        ticks=(),
        from_zero=True,
        name="c0",
    ).svg.encode()


def beside(folder: Path) -> dict[str, tuple[float, int]]:
    """Returns pages a second of CPU and bytes of one page, by who drew it. Peers are installed in a folder of their
    own, in the versions of constraints.txt."""
    charts = made_up()
    found = {"Murmure": peers.pages(ours, charts)}
    answer = subprocess.run(
        [str(_python(folder)), str(Path(__file__).with_name("peers.py"))],
        input=json.dumps(charts),
        capture_output=True,
        text=True,
        check=True,
    )
    for line in answer.stdout.splitlines():
        name, rate, octets = json.loads(line)
        found[name] = rate, octets
    return found


def _python(folder: Path) -> Path:
    python = folder / "peers" / "bin" / "python"
    if not (folder / "peers" / "whole").is_file():
        pinned = [
            line.split()[0]
            for line in (_ROOT / "constraints.txt").read_text("utf-8").splitlines()
            if line.startswith(tuple(f"{name}==" for name in _LIBRARIES))
        ]
        venv.create(folder / "peers", with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *pinned], check=True, stdout=sys.stderr)
        (folder / "peers" / "whole").touch()
    return python
