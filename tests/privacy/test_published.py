"""The printed form of a node: contract 5, from released integers alone."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_privacy.published import node_json, printed_values
from murmure_privacy.release import Message, Node, Noised, Outcome, Release, Withheld

START_S = 1_795_269_600  # 2026-11-21T14:00:00Z
FOOTFALL = Node("plaza/footfall", "footfall", "1h", START_S, START_S + 3600, START_S, 20, 1000, (0, 0), bytes(32))
NOISE = dataclasses.replace(FOOTFALL, stream="plaza/noise", quantity="noise", bounds=(350, 850))
AIR = dataclasses.replace(FOOTFALL, stream="plaza/pm2_5", quantity="pm2_5", bounds=(0, 1000), cadence_ms=2000)


def printed(outcome: Outcome) -> dict[str, Any]:
    message = Message("gw-a", "centre", "plaza", 1, 812, bytes(32), START_S + 3600, (outcome,))
    shown: dict[str, Any] = json.loads(json.dumps(node_json(message, outcome), allow_nan=False))
    return shown


def test_a_count_is_printed_as_in_the_contract() -> None:
    """The very object of the contract: keys, times with Z, sigma and unit of the printed figure."""
    assert printed(Release(FOOTFALL, (Noised("crossings", (211,), 9458, 5590),))) == {
        "gateway": "gw-a",
        "site": "plaza",
        "stream": "plaza/footfall",
        "quantity": "footfall",
        "node": "1h",
        "start": "2026-11-21T14:00:00Z",
        "end": "2026-11-21T15:00:00Z",
        "covered": ["2026-11-21T14:00:00Z", "2026-11-21T15:00:00Z"],
        "present": 20,
        "status": "released",
        "values": {"crossings": 211},
        "noise": [
            {"of": "crossings", "unit": "1", "mechanism": "discrete_gaussian", "sigma": 9.458, "rho_micro": 5590}
        ],
        "seq": 812,
        "policy": f"sha256:{'0' * 64}",
    }


def test_a_negative_count_stays() -> None:
    """Noise may make a count negative; mending that would lie on average."""
    shown = printed(Release(FOOTFALL, (Noised("crossings", (-4,), 9458, 5590),)))
    assert shown["values"] == {"crossings": -4} and type(shown["values"]["crossings"]) is int


def test_a_withheld_node_has_a_reason_and_no_values() -> None:
    """No values, empty noise, a reason."""
    shown = printed(Withheld(dataclasses.replace(FOOTFALL, covered_from_s=START_S + 900), "sensor_absent"))
    assert (shown["status"], shown["reason"], shown["noise"]) == ("withheld", "sensor_absent", [])
    assert "values" not in shown and "derived" not in shown
    assert shown["covered"] == ["2026-11-21T14:15:00Z", "2026-11-21T15:00:00Z"]


def test_air_is_printed_as_a_mean() -> None:
    """The sum over 1800 slots in tenths becomes a mean in micrograms, and sigma with it."""
    shown = printed(Release(AIR, (Noised("mean", (1800 * 123,), 18_000_000, 7),)))
    assert shown["values"] == {"pm2_5_ug_m3": 12.3}
    assert shown["noise"][0] == {
        "of": "pm2_5_ug_m3",
        "unit": "ug/m3",
        "mechanism": "discrete_gaussian",
        "sigma": 1.0,
        "rho_micro": 7,
    }
    partial = dataclasses.replace(AIR, covered_from_s=START_S + 1800)
    assert printed(Release(partial, (Noised("mean", (900 * 123,), 9_000_000, 7),)))["values"] == {"pm2_5_ug_m3": 12.3}


SECONDS = (0, 0, 600, 1300, 500, 600, 300, 200, 100, 0)


def noise_release(
    seconds: tuple[int, ...] = SECONDS, energy: int = 3600 * 10**6, sigma_milli: tuple[int, int] = (1000, 1000)
) -> Release:
    return Release(
        NOISE,
        (
            Noised("histogram", seconds, sigma_milli[0], 3),
            Noised("mean", (3600 * 521,), 1000, 2),
            Noised("energy", (energy,), sigma_milli[1], 1),
        ),
    )


def test_noise_is_printed_with_what_follows_from_it() -> None:
    """Histogram in seconds with its edges, mean level, mean energy, and the indicators read off them."""
    shown = printed(noise_release())
    assert shown["values"] == {
        "histogram_s": [float(s) for s in SECONDS],
        "histogram_edges_db": [35.0, 40.0, 45.0, 50.0, 55.0, 60.0, 65.0, 70.0, 75.0, 80.0, 85.0],
        "level_db_mean": 52.1,
        "energy_mean": 1_000_000.0,
    }
    assert [(n["of"], n["unit"]) for n in shown["noise"]] == [
        ("histogram_s", "s"),
        ("level_db_mean", "dB"),
        ("energy_mean", "1"),
    ]
    # A tenth of the hour, 360 s, is above a level between 65 and 70 dB: 300 s are above 70 dB, 600 s above 65.
    assert shown["derived"] == {
        "l10_db": 67.5,
        "l50_db": 52.5,
        "l90_db": 47.5,
        "share_over_65_db": 0.1667,
        "laeq_db": 60.0,
    }


def test_a_level_with_a_margin_above_3_db_is_not_shown() -> None:
    """Noise of 200 s on a bin leaves the median of an hour open by more than 3 dB, of 20 s not; the LAeq of an energy
    twice its noise has no lower end; one a tenth of it does; a share is no level."""
    loose = printed(noise_release(sigma_milli=(200_000, 3600 * 5 * 10**8)))["derived"]
    assert loose == {
        **dict.fromkeys(("l10_db", "l50_db", "l90_db", "laeq_db"), None),
        "share_over_65_db": 0.1667,
    }
    firm = printed(noise_release(sigma_milli=(20_000, 3600 * 10**8)))["derived"]
    assert None not in firm.values()


def test_a_level_in_an_end_bin_is_not_derived() -> None:
    """Half of an hour at 31 dB, the other half at 95: of L90 and L10 nothing but a bound follows, so they are null."""
    shown = printed(noise_release((1700, 0, 0, 0, 100, 100, 0, 0, 0, 1700), sigma_milli=(1000, 1000)))["derived"]
    assert (shown["l90_db"], shown["l10_db"]) == (None, None)


def test_silent_moments_widen_what_is_derived() -> None:
    """An hour heard for 11 twentieths: the rest may have been up to 85 dB, so no level of it is known to 3 dB."""
    half = dataclasses.replace(NOISE, present=11)
    shown = printed(dataclasses.replace(noise_release(), node=half))["derived"]
    assert shown["laeq_db"] is None and shown["l10_db"] is None
    assert shown["share_over_65_db"] == 0.1667


def test_nothing_is_derived_from_nothing() -> None:
    """A histogram or an energy that noise made empty gives no level, and no program stumbles."""
    shown = printed(noise_release((-5,) * 10, -1, (1_000_000, 1000)))
    assert shown["derived"] == {
        "l10_db": None,
        "l50_db": None,
        "l90_db": None,
        "share_over_65_db": 0.4,
        "laeq_db": None,
    }


@pytest.mark.parametrize(
    ("bounds", "has"), [((350, 850), True), ((650, 850), False), ((350, 650), False), ((370, 870), False)]
)
def test_a_share_over_65_needs_an_edge_at_65(bounds: tuple[int, int], has: bool) -> None:
    """Where no bin begins at 65 dB, the share above it is not made up; nor where the first does, which holds all that
    is below 65 dB too."""
    width = (bounds[1] - bounds[0]) // 50
    node = dataclasses.replace(NOISE, bounds=bounds)
    shown = printed(Release(node, (Noised("histogram", (1,) * width, 1000, 3),)))
    assert ("share_over_65_db" in shown["derived"]) == has


@given(st.integers(-(1 << 62), 1 << 62))
def test_printed_values_are_a_function_of_the_integers(value: int) -> None:
    """The same integers print the same figures; a count is the integer itself."""
    noised = Noised("crossings", (value,), 9458, 5590)
    assert printed_values(FOOTFALL, noised) == [value]
    assert printed_values(AIR, Noised("mean", (value,), 1, 1)) == [round(value / 18_000, 6)]
