"""The devices this version can play, by their name in the contract."""

from __future__ import annotations

from .base import Device
from .modbus_noise import ModbusNoise
from .sds011 import Sds011
from .tfluna import TfLuna

DEVICES: dict[str, type[Device]] = {
    "sds011": Sds011,
    "modbus_noise": ModbusNoise,
    "tfluna": TfLuna,
}
