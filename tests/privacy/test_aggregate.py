"""What was really counted: not printed, not pickled, not copied."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from decimal import Decimal

import pytest
from murmure_privacy.aggregate import Aggregate, Cell, Secret, energy
from murmure_privacy.release import Node

CANARY = 123_454_321
NODE = Node("plaza/footfall", "footfall", "1h", 0, 3600, 0, 20, 1000, (0, 0), bytes(32))


def secrets() -> list[Secret]:
    cell = Cell(3)
    cell.total = cell.energy_sum = cell.present = CANARY
    cell.bins[1] = CANARY
    return [Aggregate(NODE, {"crossings": (CANARY,)}), cell]


@pytest.mark.parametrize("secret", secrets(), ids=["aggregate", "cell"])
def test_an_exact_value_is_not_printed(secret: Secret, caplog: pytest.LogCaptureFixture) -> None:
    """Text, format, log line and traceback of a secret hold none of its numbers."""
    try:
        raise ValueError(secret)
    except ValueError as error:
        trace = "".join(traceback.format_exception(error))
    logging.getLogger("test").warning("closed %s %r", secret, [secret])
    for text in (repr(secret), str(secret), f"{secret}", repr({"a": secret}), trace, caplog.text):
        assert str(CANARY) not in text and "withheld" in text


@pytest.mark.parametrize("secret", secrets(), ids=["aggregate", "cell"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_exact_value_is_not_pickled(secret: Secret, protocol: int) -> None:
    """No protocol of pickle, no copy and no JSON takes a secret, alone or inside something else."""
    for attempt in (
        lambda: pickle.dumps(secret, protocol),
        lambda: pickle.dumps({"node": [secret]}, protocol),
        lambda: copy.copy(secret),
        lambda: copy.deepcopy([secret]),
        lambda: json.dumps(secret),
    ):
        with pytest.raises(TypeError):
            attempt()


def test_a_secret_has_no_room_for_more() -> None:
    """A secret has no dictionary that a generic dumper would walk."""
    for secret in secrets():
        assert not hasattr(secret, "__dict__")


def test_energy_is_the_power_of_ten() -> None:
    """10^(L/10) rounded to an integer, for every tenth of a decibel, never falling."""
    assert [energy(tenths) for tenths in (0, 100, 350, 850, 1400)] == [1, 10, 3162, 316227766, 10**14]
    powers = [energy(tenths) for tenths in range(1401)]
    assert powers == sorted(powers)
    for tenths in range(0, 1401, 7):
        assert abs(energy(tenths) - Decimal(10) ** (Decimal(tenths) / 100)) <= Decimal("0.5")
