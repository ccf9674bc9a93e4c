"""A sensor that remembers longer than its policy counts: refused when the policy comes, and when the gateway starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from murmure_edge.reading import Reading
from murmure_edge.sensors import DRIVERS, make_driver
from murmure_privacy.window import parse_utc

MIDNIGHT_S = parse_utc("2026-01-14T23:00:00Z")
HOUR_S = 3600
SOUND = 'name = "sound"\ndevice = "modbus_noise"\npath = "/nowhere/sound"\nstreams = { noise = "plaza/sound" }\n'
DUST = 'name = "dust"\ndevice = "sds011"\npath = "/nowhere/dust"\nstreams = { pm2_5 = "plaza/dust" }\n'
# (port, settings that give it its memory, stream, quantity, the tail of the policy that the other tests use)
PORTS = {
    "modbus_noise": (SOUND, "time_constant_ms", 1000, "sound", "noise", 11),
    "sds011": (DUST, "average_s", 10, "dust", "pm2_5", 2),
}
NODES = '{ "1h" = 1, "1d" = 24 }'


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
    port, key, value, stream, quantity, tail = PORTS[device]
    gateway = turned(f"{port}{key} = {value}")
    memory = make_driver(device, {key: value}).memory_readings[quantity]
    toml = write_policy(1, streams=(stream,), nodes=NODES).replace(b"tail = %d" % tail, b"tail = %d" % (memory - short))
    gateway.enrolled.drop("policy-1.cose", gateway.enrolled.policy(toml))
    gateway.batch(stream, MIDNIGHT_S)
    said = f"refused: plaza/{stream}: the {device} remembers {memory} readings, readings.tail is {memory - 1}"
    assert f"policy 1: {said if short else 'accepted'}" in gateway.said
    assert (gateway.sense._publisher.policy is None) is bool(short)


@pytest.mark.parametrize("device", PORTS)
def test_a_meter_that_was_set_slower_opens_no_node_at_the_next_start(
    turned: Callable[..., Any], write_policy: Callable[..., bytes], device: str
) -> None:
    """The technician puts the meter on SLOW and writes so, with the gateway off: the stored policy no longer counts
    enough, so nothing is opened and nothing leaves under it. Put back, the gateway publishes again."""
    port, key, value, stream, quantity, tail = PORTS[device]
    gateway = turned(port)
    policy = gateway.enrolled.policy(write_policy(1, streams=(stream,), nodes=NODES))
    gateway.enrolled.drop("policy-1.cose", policy)

    def live(from_h: int, until_h: int) -> int:
        gateway.batch(stream, MIDNIGHT_S + from_h * HOUR_S)
        times_s = range(MIDNIGHT_S + from_h * HOUR_S, MIDNIGHT_S + until_h * HOUR_S, 900)
        gateway.batch(
            stream, MIDNIGHT_S + until_h * HOUR_S, {quantity: [Reading(at_s * 1000, 400) for at_s in times_s]}
        )
        return len(gateway.messages())

    assert live(0, 2) == 2
    memory = make_driver(device, {key: value}).memory_readings[quantity]
    gateway.ports = (f"{port}{key} = {value}",)
    gateway.restart()
    assert live(3, 6) == 2
    why = f"plaza/{stream}: the {device} remembers {memory} readings, readings.tail is {tail}"
    assert f"policy 1: no node is opened under it: {why}" in gateway.said
    gateway.ports = (port,)
    gateway.restart()
    assert live(7, 9) == 4
