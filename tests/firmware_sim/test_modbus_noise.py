"""The noise transmitter speaks Modbus RTU as a slave does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from murmure_firmware_sim.devices.modbus_noise import ModbusNoise, with_crc
from murmure_firmware_sim.steady import Steady

T0_MS = 1_794_600_000_000
REQUEST = bytes.fromhex("01 03 00 00 00 01 84 0a")


def device(level_tenths: int = 536) -> ModbusNoise:
    return ModbusNoise(Steady((0, 0), level_tenths, 0))


def ask(sensor: ModbusNoise, body: str, at_ms: int = T0_MS) -> list[str]:
    return [said.hex(" ") for said, _ in sensor.receive(with_crc(bytes.fromhex(body)), at_ms)]


def test_level_is_the_documented_answer() -> None:
    """53.6 dB is the answer printed on the vendor's page, complete after the line's and the board's time."""
    assert [(bytes.fromhex("01 03 02 02 18 b9 2e"), T0_MS + 20)] == device().receive(REQUEST, T0_MS)


@pytest.mark.shared
def test_requests_are_answered_as_in_the_collected_pairs(shared: Path) -> None:
    """Every request of the collection with a reply gets exactly that reply; another slave's gets none."""
    frames = json.loads((shared / "frames/modbus_noise.json").read_text())
    requests = [frame for frame in frames if frame["direction"] == "host_to_device"]
    assert any("reply" in frame for frame in requests)
    for frame in requests:
        expected = [bytes.fromhex(frame["reply"])] if "reply" in frame else []
        if "reply" in frame or frame["expect"]["slave"] != 1:
            answers = device().receive(bytes.fromhex(frame["hex"]), T0_MS)
            assert expected == [said for said, _ in answers], frame["id"]


def test_exceptions_name_what_was_wrong() -> None:
    """Unknown function 01, unknown register 02, bad count or value 03; the exception has bit 7 of the function."""
    sensor = device()
    assert ask(sensor, "01 03 00 05 00 01") == ["01 83 02 c0 f1"]
    assert ask(sensor, "01 04 00 00 00 01") == ["01 84 01 82 c0"]
    assert ask(sensor, "01 03 00 00 00 00") == ["01 83 03 01 31"]
    assert ask(sensor, "01 06 00 00 00 01") == ["01 86 02 c3 a1"]
    assert ask(sensor, "01 06 00 66 01 00") == ["01 86 03 02 61"]


def test_settings_are_readable_and_a_written_address_holds_from_the_next_power_cycle() -> None:
    """Function 6 echoes the request; address and speed change when the power comes back."""
    sensor = device()
    assert ask(sensor, "01 03 00 64 00 05")[0].startswith("01 03 0a 1e dd 00 01 00 01 00 02 00 00")
    assert ask(sensor, "01 06 00 66 00 07")[0].startswith("01 06 00 66 00 07")
    assert ask(sensor, "01 03 00 00 00 01")
    sensor.power_cycle(T0_MS)
    assert ask(sensor, "01 03 00 00 00 01") == []
    assert ask(sensor, "07 03 00 00 00 01")[0].startswith("07 03 02 02 18")


@pytest.mark.parametrize("heard", [REQUEST[:-1] + b"\x0b", b"\x00" + REQUEST, with_crc(bytes.fromhex("020300000001"))])
def test_what_is_not_for_it_is_not_answered(heard: bytes) -> None:
    """A wrong CRC, a byte too many before it, another address: silence."""
    assert device().receive(heard, T0_MS) == []


def test_request_in_two_halves_is_heard_only_without_a_gap() -> None:
    """3.5 characters of silence end a request, so a half one is forgotten."""
    sensor = device()
    assert sensor.receive(REQUEST[:3], T0_MS) == []
    assert len(sensor.receive(REQUEST[3:], T0_MS + 5)) == 1
    assert sensor.receive(REQUEST[:3], T0_MS + 1000) == []
    assert sensor.receive(REQUEST[3:], T0_MS + 1100) == []
    assert len(sensor.receive(REQUEST, T0_MS + 2000)) == 1
