"""A pair of beams in a gateway: one stream of what both saw, and none while one of them is silent."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from murmure_edge.config import load
from murmure_edge.reading import Reading
from murmure_edge.sense import _driver
from murmure_edge.sensors.ld2450 import Ld2450
from murmure_edge.sensors.tfluna import TfLuna
from murmure_edge.sensors.two_beams import APART_MS
from murmure_privacy.errors import ConfigError
from murmure_privacy.window import parse_utc

MIDNIGHT_S = parse_utc("2026-01-14T23:00:00Z")
HOUR_S = 3600
FIRST = 'name = "left"\ndevice = "tfluna"\npath = "/nowhere/left"\nstreams = { footfall = "plaza/steps" }'
SECOND = 'name = "right"\ndevice = "tfluna"\npath = "/nowhere/right"\nsecond_beam_of = "left"'
RADAR = 'name = "radar"\ndevice = "ld2450"\npath = "/nowhere/radar"\nstreams = { footfall = "plaza/steps" }'
DUST = 'name = "dust"\ndevice = "sds011"\npath = "/nowhere/dust"\nstreams = { pm2_5 = "plaza/dust" }'


@pytest.fixture
def paired(turned: Callable[..., Any], write_policy: Callable[..., bytes]) -> Any:
    """Two beams since midnight, under a policy of hours."""
    gateway = turned(FIRST, SECOND)
    policy = write_policy(streams=("steps",), nodes='{ "1h" = 1 }')
    gateway.enrolled.drop("policy-1.cose", gateway.enrolled.policy(policy))
    gateway.batch("left", MIDNIGHT_S)
    gateway.batch("right", MIDNIGHT_S)
    return gateway


def _hour(passes_s: Sequence[float], alive_s: int = HOUR_S) -> dict[str, list[Reading]]:
    readings = [Reading((MIDNIGHT_S + second) * 1000 + 999, 0) for second in range(alive_s)]
    readings += [Reading(MIDNIGHT_S * 1000 + round(1000 * at), 1) for at in passes_s]
    return {"footfall": sorted(readings)}


def test_a_passage_is_published_if_both_beams_saw_it(paired: Any) -> None:
    """Three both saw, one of either alone: three crossings, released once the pair's own lag is over."""
    paired.batch("left", MIDNIGHT_S + HOUR_S, _hour([10, 20.2, 700, 1500]))
    paired.batch("right", MIDNIGHT_S + HOUR_S, _hour([10.2, 20, 900, 1500.1]))
    assert paired.messages() == []
    late_s = APART_MS // 1000 + 1
    paired.batch("left", MIDNIGHT_S + HOUR_S + late_s)
    paired.batch("right", MIDNIGHT_S + HOUR_S + late_s)
    (message,) = paired.messages()
    assert message.outcomes[0].noised[0].integers == (3,)
    assert message.outcomes[0].node.present == 20


@pytest.mark.parametrize("silent", ["left", "right"])
def test_while_one_beam_is_silent_the_pair_is_absent(paired: Any, silent: str) -> None:
    """The other beam goes on seeing people; the stream has no valid second and is withheld, never half counted."""
    other = "right" if silent == "left" else "left"
    paired.batch(silent, MIDNIGHT_S + HOUR_S + 10, _hour([], alive_s=600), state="stalled")
    paired.batch(other, MIDNIGHT_S + HOUR_S + 10, _hour(range(700, 3600, 10)))
    assert [reason for *_, reason in paired.nodes()] == ["sensor_absent"]


def test_the_lag_of_a_pair_is_the_same_on_an_empty_and_on_a_busy_street(
    turned_kind: Any, enrolled: Any, exact: Any, write_policy: Callable[..., bytes]
) -> None:
    """How far the gateway's time has come depends on the ports' horizons alone."""
    times = []
    for passes in ([], [at / 2 for at in range(7_000)]):
        gateway = turned_kind(enrolled, exact, FIRST, SECOND)
        gateway.batch("left", MIDNIGHT_S)
        gateway.batch("right", MIDNIGHT_S)
        came = []
        for port in ("left", "right"):
            gateway.batch(port, MIDNIGHT_S + HOUR_S, _hour(passes))
            came.append(gateway.sense._now_s)
        times.append(came)
        gateway.db.close()
    assert times[0] == times[1] == [MIDNIGHT_S, MIDNIGHT_S + HOUR_S - APART_MS // 1000 - 1]


def test_a_clock_put_forward_begins_the_pair_anew(paired: Any) -> None:
    """What one beam saw before the step is not paired with what the other sees after it."""
    paired.batch("left", MIDNIGHT_S + 60, _hour([58.0], alive_s=60))
    paired.clock.stepped, paired.clock.wall_s = True, MIDNIGHT_S + 7200
    paired.batch("right", MIDNIGHT_S + 60)
    pair = paired.sense._views["left"].pair
    assert pair is paired.sense._views["right"].pair
    assert all(not beam.passes_ms and not beam.alive for beam in pair._beams.values())


@pytest.mark.parametrize(
    ("ports", "said"),
    [
        ((FIRST, SECOND.replace('"left"', '"middle"')), "port 2.second_beam_of: 'middle' is no port with a stream"),
        (
            (FIRST, SECOND.replace('of = "left"', 'of = "right"')),
            "port 2.second_beam_of: 'right' is no port with a str",
        ),
        ((DUST, SECOND.replace('"left"', '"dust"')), "port 2.second_beam_of: 'dust' is no tfluna that counts"),
        (
            (FIRST, SECOND, SECOND.replace("right", "third")),
            "port 2.second_beam_of: 'left' has two second beams; pair each beam with one other",
        ),
        (
            (FIRST, SECOND + '\nstreams = { footfall = "plaza/back" }'),
            "port 2.streams: is the first beam's; leave it out beside second_beam_of",
        ),
        ((FIRST, SECOND.replace('\nsecond_beam_of = "left"', "")), "port 2.streams: is missing; write streams = "),
    ],
)
def test_a_wrong_pair_is_refused_in_one_line(enrolled: Any, ports: tuple[str, ...], said: str) -> None:
    """File, key, and what to write instead."""
    with pytest.raises(ConfigError) as caught:
        load(enrolled.write(*ports))
    assert f"gateway.toml: {said}" in str(caught.value)


def test_only_beams_are_paired(turned: Callable[..., Any]) -> None:
    """A radar knows directions by itself."""
    second = RADAR.replace("radar", "other").replace(
        'streams = { footfall = "plaza/steps" }', 'second_beam_of = "radar"'
    )
    second = second.replace('device = "other"', 'device = "ld2450"')
    with pytest.raises(ConfigError, match="second_beam_of: a ld2450 is no beam; pair two tfluna"):
        turned(RADAR, second)


def test_the_ports_in_the_example_s_comments_are_right(tmp_path: Path) -> None:
    """Whoever takes the comment signs away has a gateway with a pair of beams and a radar."""
    example = Path(__file__).parents[3] / "edge" / "gateway.example.toml"
    ports = "[[port]]"
    file = tmp_path / "gateway.toml"
    text = example.read_text("utf-8")
    file.write_text(re.sub(r"^# (?=\[\[port|[a-z_0-9]+ = )", "", text, flags=re.MULTILINE), "utf-8")
    config = load(file)
    assert len(config.ports) == len(re.findall(re.escape(ports), text)) == 5
    pair, radar = config.ports[3:]
    assert (pair.second_beam_of, pair.streams) == ("beam", {})
    assert isinstance(_driver(config, pair), TfLuna)
    assert isinstance(_driver(config, radar), Ld2450)
