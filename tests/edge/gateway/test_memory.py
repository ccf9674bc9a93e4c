"""A sensor that remembers longer than its policy counts: refused when the policy comes, and when the gateway starts."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any

import pytest
from murmure_edge.reading import Reading
from murmure_edge.sensors import DRIVERS, make_driver
from murmure_privacy.window import parse_utc

MIDNIGHT_S = parse_utc("2026-01-14T23:00:00Z")
HOUR_S = 3600
SOUND = ("sound", "noise", 11)
DUST = ("dust", "pm2_5", 2)
# (setting that gives it more memory, if it has one; stream, quantity, the tail of the policy that the other tests use)
PORTS = {
    device: port
    for device, port in {
        "modbus_noise": ("time_constant_ms = 1000", *SOUND),
        "nsrt_mk3": ("", *SOUND),
        "uart_decibel_bbaa": ("time_constant_ms = 1000", *SOUND),
        "sds011": ("average_s = 10", *DUST),
        "pmsx003": ("average_s = 20", *DUST),
        "sps30": ("average_s = 40", *DUST),
    }.items()
    if device in DRIVERS
}
NODES = '{ "1h" = 1, "1d" = 24 }'


def _port(device: str) -> str:
    _, stream, quantity, _ = PORTS[device]
    streams = f'streams = {{ {quantity} = "plaza/{stream}" }}'
    return f'name = "{stream}"\ndevice = "{device}"\npath = "/nowhere/{stream}"\n{streams}\n'


def _memory(device: str, setting: str) -> int:
    _, _, quantity, _ = PORTS[device]
    return make_driver(device, tomllib.loads(setting)).memory_readings[quantity]


def test_every_driver_with_a_memory_is_tried_here() -> None:
    """A new driver of levels or concentrations is not trusted before its refusals are tried."""
    drivers = {device: make_driver(device, {}) for device in DRIVERS}
    assert PORTS.keys() == {device for device, driver in drivers.items() if any(driver.memory_readings.values())}


@pytest.mark.parametrize("device", PORTS)
@pytest.mark.parametrize("short", [0, 1], ids=["as much", "one less"])
def test_a_policy_is_accepted_with_as_much_tail_as_the_driver_declares(
    turned: Callable[..., Any], write_policy: Callable[..., bytes], device: str, short: int
) -> None:
    """With the settings of the port, whatever they are; one reading less is refused in a line with both figures."""
    setting, stream, _, tail = PORTS[device]
    gateway = turned(_port(device) + setting)
    memory = _memory(device, setting)
    toml = write_policy(1, streams=(stream,), nodes=NODES).replace(b"tail = %d" % tail, b"tail = %d" % (memory - short))
    gateway.enrolled.drop("policy-1.cose", gateway.enrolled.policy(toml))
    gateway.batch(stream, MIDNIGHT_S)
    said = f"refused: plaza/{stream}: the {device} remembers {memory} readings, readings.tail is {memory - 1}"
    assert any(line.startswith(f"policy 1: {said if short else 'accepted'}") for line in gateway.said)
    assert (gateway.sense._publisher.policy is None) is bool(short)


@pytest.mark.parametrize("device", [device for device, (setting, *_) in PORTS.items() if setting])
def test_a_meter_that_was_set_slower_opens_no_node_at_the_next_start(
    turned: Callable[..., Any], write_policy: Callable[..., bytes], device: str
) -> None:
    """The technician puts the meter on SLOW and writes so, with the gateway off: the stored policy no longer counts
    enough, so nothing is opened and nothing leaves under it. Put back, the gateway publishes again."""
    setting, stream, quantity, tail = PORTS[device]
    gateway = turned(_port(device))
    usual = _memory(device, "")
    toml = write_policy(1, streams=(stream,), nodes=NODES).replace(b"tail = %d" % tail, b"tail = %d" % usual)
    policy = gateway.enrolled.policy(toml)
    gateway.enrolled.drop("policy-1.cose", policy)

    def live(from_h: int, until_h: int) -> int:
        gateway.batch(stream, MIDNIGHT_S + from_h * HOUR_S)
        times_s = range(MIDNIGHT_S + from_h * HOUR_S, MIDNIGHT_S + until_h * HOUR_S, 900)
        gateway.batch(
            stream, MIDNIGHT_S + until_h * HOUR_S, {quantity: [Reading(at_s * 1000, 400) for at_s in times_s]}
        )
        return len(gateway.messages())

    assert live(0, 2) == 2
    memory = _memory(device, setting)
    gateway.ports = (_port(device) + setting,)
    gateway.restart()
    assert live(3, 6) == 2
    why = f"plaza/{stream}: the {device} remembers {memory} readings, readings.tail is {usual}"
    assert f"policy 1: no node is opened under it: {why}" in gateway.said
    gateway.ports = (_port(device),)
    gateway.restart()
    assert live(7, 9) == 4
