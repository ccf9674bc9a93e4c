"""What a working sensor in a living street does not say."""

from __future__ import annotations

import json

import pytest
from murmure_edge.config import PortConfig
from murmure_edge.doctor.ears import calibrated
from murmure_edge.doctor.examine import Examined
from murmure_edge.doctor.plausibility import FLOOR, ORDER, RANGE, STUCK, Judge
from murmure_edge.doctor.report import Report
from murmure_edge.sensors import make_driver

Frame = dict[str, object]


def _dust(fine: float, coarse: float) -> Frame:
    return {"kind": "measurement", "pm2_5_ug_m3": fine, "pm10_ug_m3": coarse, "device_id": "a160"}


def _verdicts(device: str, frames: list[Frame], every_ms: int = 1000) -> list[str]:
    judge = Judge(make_driver(device, {}).PLAUSIBLE)
    for number, frame in enumerate(frames):
        judge.see(frame, number * every_ms)
    return [kind for kind, _ in judge.verdicts()]


@pytest.mark.parametrize(
    ("device", "frames", "verdicts"),
    [
        ("sds011", [_dust(5 + i / 10, 9) for i in range(9)], []),
        ("sds011", [_dust(1200, 1300), _dust(1201, 1301), _dust(1202, 1302)], [RANGE]),
        ("sds011", [_dust(50, 20), _dust(51, 20), _dust(52, 20)], [ORDER]),
        ("sds011", [_dust(0, 0)] * 5, [FLOOR]),
        ("sds011", [_dust(0, 0)] * 4 + [_dust(0, 0.1)], []),
        ("sds011", [_dust(5, 9)] * 601, [STUCK]),
        ("sds011", [_dust(5, 9)] * 599, []),
        ("sds011", [_dust(1200, 1300)] + [_dust(5 + i / 10, 9) for i in range(40)], []),
        ("sds011", [_dust(1200, 1300)] * 2, []),
        ("nsrt_mk3", [{"leq_db": 55.5}] * 62, [STUCK]),
        ("nsrt_mk3", [{"leq_db": 30.0}] * 62, [FLOOR]),
        ("nsrt_mk3", [{"kind": "reply", "model": "NSRT"}] * 9, []),
        ("tfluna", [{"distance_cm": 3000, "strength": 900}] * 4, [RANGE]),
        ("ld2450", [{"targets": [{"x_mm": 0, "y_mm": 20_000}]}] * 4, [RANGE]),
        ("ld2450", [{"targets": []}] * 700, []),
    ],
)
def test_a_verdict_needs_frames_enough(device: str, frames: list[Frame], verdicts: list[str]) -> None:
    """Range and order: two frames and one in ten. Floor: all of them. Stuck: as long as no street stays the same."""
    assert _verdicts(device, frames) == verdicts


def test_a_verdict_names_what_is_wrong_and_never_how_much() -> None:
    """Names of values are in it, values are not."""
    judge = Judge(make_driver("sds011", {}).PLAUSIBLE)
    for at in range(4):
        judge.see(_dust(1234.5 + at, 2345.6), 1000 * at)
    assert judge.verdicts() == [(RANGE, ("pm10_ug_m3", "pm2_5_ug_m3"))]
    assert list(judge.recent) == [RANGE, RANGE, RANGE]


def test_a_warm_up_is_forgotten() -> None:
    """Zeros while the fan starts are no verdict on the time after."""
    judge = Judge(make_driver("sds011", {}).PLAUSIBLE)
    for at in range(5):
        judge.see(_dust(0, 0), 1000 * at)
    assert judge.at_floor
    judge.forget()
    assert not judge.at_floor and judge.verdicts() == []


def test_what_the_screen_shows_is_calibrated() -> None:
    """The port's offset is added as `sense` adds it; what was not measured is left alone."""
    shown = calibrated({"kind": "measurement", "level_db": 95.2, "slave": 1}, {"noise": -12})
    assert dict(shown.items()) == {"kind": "measurement", "level_db": pytest.approx(94.0), "slave": 1}


@pytest.mark.parametrize(("own_screen", "told"), [(True, ["sensor.range", "sensor.ok"]), (False, ["sensor.ok"])])
def test_a_counter_that_sees_somebody_too_far_away_says_so_on_its_own_screen_only(
    own_screen: bool, told: list[str]
) -> None:
    """A distance out of range needs somebody to be there: no document tells of it, nor that something is left out."""
    port = PortConfig("beam", "tfluna", "/nowhere", {"footfall": "plaza/steps"}, None, {})
    examined = Examined(port)
    examined.find("sensor.range", private=True, names="distance_cm")
    examined.find("sensor.ok", frames=3, rejected=0, rate="10.0", identity="-")
    report = Report(sensors=[examined])
    assert [finding.code for finding in report.everything(own_screen)] == told
    text = "\n".join(report.as_text("en", own_screen))
    assert ("sensor.range" in text) is own_screen
    assert "sensor.range" not in json.dumps(report.as_json())
