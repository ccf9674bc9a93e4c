"""The devices this version can play, by their name in the contract."""

from __future__ import annotations

from .base import Device
from .ld2450 import Ld2450
from .modbus_noise import ModbusNoise
from .sds011 import Sds011
from .tfluna import TfLuna

DEVICES: dict[str, type[Device]] = {
    "sds011": Sds011,
    "modbus_noise": ModbusNoise,
    "ld2450": Ld2450,
    "tfluna": TfLuna,
}
