"""What the public register says of a sensor and of the end of a site."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time
from zoneinfo import ZoneInfo

from murmure_dashboards.config import Sensor, Site
from murmure_dashboards.counters import UP_TO_AN_HOUR, off
from murmure_dashboards.views import StreamView
from murmure_dashboards.wording import Language


def sensor_lines(
    say: Language, sensor: Sensor, views: Sequence[StreamView], zone: ZoneInfo, now_s: int
) -> tuple[str, str, str]:
    """Returns what a sensor is, how far it is off by itself if it is a counter, how old its calibration, by which
    method, and a warning where it is too old."""
    what = next(
        (say(f"quantity.{view.quantity.name}") for view in views if view.stream == sensor.stream), sensor.stream
    )
    own = off(sensor.device)
    counts = ""
    if own is not None:
        street, doorway = say.share(own.street), say.share(own.doorway)
        counts = " " + say("register.off", street=street, doorway=doorway, most=say.number(UP_TO_AN_HOUR))
    if sensor.calibrated is None:
        return say("register.uncalibrated", what=what, device=sensor.device) + counts, "", ""
    today = datetime.fromtimestamp(now_s, zone).date()
    on = sensor.calibrated
    months = 12 * (today.year - on.year) + today.month - on.month - (today.day < on.day)
    if months < 1:
        age = say("register.age_fresh")
    elif months < 12:
        age = say.counted("register.age", months, number=months)
    else:
        age = say("register.age_old")
    date = say.date(int(datetime.combine(on, time(12), zone).timestamp()), zone)
    line = say("register.calibrated", what=what, device=sensor.device, date=date, age=age) + counts
    return line, say.typeset(sensor.method), say("register.drift") if months >= 12 else ""


def end_date(say: Language, site: Site, zone: ZoneInfo) -> str:
    """Returns the last day for which the sensors of a site are allowed, or that no end is decided."""
    if site.until is None:
        return say("register.no_end")
    return say.date(int(datetime.combine(site.until, time(12), zone).timestamp()), zone)
