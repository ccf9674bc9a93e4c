"""The table of drivers: one line a device."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from murmure_edge.sensors.base import Driver, SettingError
from murmure_edge.sensors.ld2450 import Ld2450
from murmure_edge.sensors.modbus_noise import ModbusNoise
from murmure_edge.sensors.nsrt_mk3 import NsrtMk3
from murmure_edge.sensors.pmsx003 import PmsX003
from murmure_edge.sensors.sds011 import Sds011
from murmure_edge.sensors.sps30 import Sps30
from murmure_edge.sensors.tfluna import TfLuna
from murmure_edge.sensors.uart_decibel_bbaa import UartDecibelBbaa

DRIVERS: dict[str, type[Driver]] = {
    "sds011": Sds011,
    "pmsx003": PmsX003,
    "sps30": Sps30,
    "modbus_noise": ModbusNoise,
    "nsrt_mk3": NsrtMk3,
    "uart_decibel_bbaa": UartDecibelBbaa,
    "tfluna": TfLuna,
    "ld2450": Ld2450,
}

NAMES = (
    *("sds011", "pmsx003", "sps30", "modbus_noise", "nsrt_mk3", "uart_decibel_bbaa", "ld2450", "tfluna"),
    *("ld2410", "mhz19b", "dt8852"),
)
"""Every device that has a name, now or later."""

NOT_YET = tuple(name for name in NAMES if name not in DRIVERS)
"""Those without a driver in this version."""


def require_known(device: str) -> None:
    """Raises SettingError if there is no driver of this name, and names those there are."""
    if device not in DRIVERS:
        problem = "this version has no driver for it" if device in NOT_YET else "no such device"
        raise SettingError("device", f'"{device}": {problem}', f"write one of {', '.join(DRIVERS)}")


def make_driver(device: str, settings: Mapping[str, object]) -> Driver:
    """Returns a new driver of the device named, with its settings: the parameters of its class, which tells of them.

    Raises SettingError, which names the key, what is wrong with it and what to write instead.
    """
    require_known(device)
    driver = DRIVERS[device]
    allowed = list(inspect.signature(driver).parameters)
    for key in settings:
        if key not in allowed:
            raise SettingError(key, "unknown key", f"{device} knows {', '.join(allowed)}")
    return driver(**settings)
