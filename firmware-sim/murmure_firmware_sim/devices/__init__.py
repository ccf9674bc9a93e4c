"""The devices this version can play, by their name in the contract."""

from __future__ import annotations

from .base import Device
from .ld2450 import Ld2450
from .modbus_noise import ModbusNoise
from .nsrt_mk3 import NsrtMk3
from .pmsx003 import Pmsx003
from .sds011 import Sds011
from .sps30 import Sps30
from .tfluna import TfLuna
from .uart_decibel_bbaa import UartDecibelBbaa

DEVICES: dict[str, type[Device]] = {
    "sds011": Sds011,
    "pmsx003": Pmsx003,
    "sps30": Sps30,
    "modbus_noise": ModbusNoise,
    "nsrt_mk3": NsrtMk3,
    "uart_decibel_bbaa": UartDecibelBbaa,
    "ld2450": Ld2450,
    "tfluna": TfLuna,
}
