"""What goes wrong in the street, by name: `NAME[:ARG][@FROM_S-TO_S]`, the times in simulated seconds since the start.

A fault is drawn from (seed, fault, time), so a run with faults can be repeated byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from .devices.base import MS_PER_S, S_PER_MINUTE, SLOT_MS, Device, Piece, Source
from .devices.modbus_noise import ModbusNoise
from .devices.tfluna import TfLuna, frame
from .errors import SimError

FAULTS: dict[str, tuple[str, float | None]] = {
    "silent": ("says and answers nothing; the port stays open", None),
    "sleeping": ("asleep at the start, as another program left it: sds011, pmsx003, sps30", None),
    "wrong_baud": ("its line runs at ARG baud (else half its own): rubbish both ways", 0),
    "bit_flip": ("one bit of a byte turns with probability ARG", 0.001),
    "drop": ("a byte is lost with probability ARG", 0.001),
    "insert": ("a 00 or FF slips in before a byte with probability ARG", 0.001),
    "duplicate": ("what it said in a second is said twice with probability ARG", 0.1),
    "split": ("one byte at a time, 50 ms apart or as close as the frame needs", None),
    "burst": ("200 ms of electrical noise every ARG seconds", 600),
    "stuck": ("the same value for ever", None),
    "warmup_zeros": ("zeros for ARG seconds after power", 30),
    "ffff": ("FFFF where a value should be", None),
    "late": ("answers come ARG ms late", 1500),
    "echo": ("an answer is preceded by the request, as on a two-wire adapter", None),
    "other_slave": ("modbus_noise: another slave answers", None),
    "exception": ("modbus_noise: every request is refused with exception ARG", 4),
    "reset": ("brown-out ARG seconds after the start: cut in the middle of a frame, unsaved settings lost", 60),
    "unplug": ("ARG is AT_S/FOR_S: the plug is pulled then, for so long", None),
}
_PROBABILITIES = ("bit_flip", "drop", "insert", "duplicate")
_VALUE_FAULTS = ("stuck", "warmup_zeros", "ffff")
_FFFF = 0xFFFF
_SPLIT_GAP_MS = 50
_BURST_BYTES = 24
_MOST_SECONDS = 10**9

T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """One fault with its argument, active in [from_s, to_s) after the start; `for_s` is unplug's duration."""

    name: str
    arg: float
    from_s: float = 0
    to_s: float = _MOST_SECONDS
    for_s: float = 0

    def active(self, since_start_ms: int) -> bool:
        return self.from_s * MS_PER_S <= since_start_ms < self.to_s * MS_PER_S


def parse_fault(text: str, file: str = "--fault", key: str = "NAME") -> Fault:
    """Reads `NAME[:ARG][@FROM_S-TO_S]`. Raises SimError naming what is known."""
    spec, _, when = text.partition("@")
    name, has_arg, arg_text = spec.partition(":")
    if name not in FAULTS:
        raise SimError(file, key, f"fault {name!r} is unknown", f"write one of {', '.join(FAULTS)}")
    mend = f"write {name}{'' if FAULTS[name][1] is None else ':NUMBER'}, with @FROM_S-TO_S behind it if not always"
    try:
        from_s, to_s = (float(part) for part in when.split("-")) if when else (0.0, float(_MOST_SECONDS))
        if name == "unplug":
            at_s, for_s = (float(part) for part in arg_text.split("/"))
            if at_s <= 0 or for_s <= 0:
                raise ValueError(text)
            return Fault(name, at_s, for_s=for_s)
        default = FAULTS[name][1]
        if has_arg and default is None:
            raise ValueError(text)
        arg = float(arg_text) if has_arg else float(default or 0)
        if arg < 0 or (name in _PROBABILITIES and arg > 1) or to_s <= from_s:
            raise ValueError(text)
        if name in ("burst", "reset") and arg < 1:
            raise ValueError(text)
    except ValueError:
        mend = "write unplug:AT_S/FOR_S" if name == "unplug" else mend
        raise SimError(file, key, f"fault {text!r} cannot be read", mend) from None
    return Fault(name, arg, from_s, to_s)


class _FaultySource:
    """The street through a faulty device's eyes: frozen, zero or FFFF. Implements `Source`."""

    def __init__(self, source: Source, faults: Sequence[Fault], start_ms: int) -> None:
        self._source = source
        self._faults = faults
        self._start_ms = start_ms

    @property
    def over_capacity(self) -> int:
        return self._source.over_capacity

    def pm_tenths(self, minute: int) -> Sequence[tuple[int, int] | None]:
        return self._bent(minute, self._source.pm_tenths(minute), (0, 0), (_FFFF, _FFFF), self._first_pm())

    def level_tenths(self, minute: int) -> Sequence[int | None]:
        return self._bent(minute, self._source.level_tenths(minute), 0, _FFFF, self._first_level())

    def dip_slots(self, minute: int) -> Sequence[int]:
        start_ms = minute * S_PER_MINUTE * MS_PER_S
        return [
            slot
            for slot in self._source.dip_slots(minute)
            if not any(fault.active(start_ms + slot * SLOT_MS - self._start_ms) for fault in self._faults)
        ]

    def _first_pm(self) -> tuple[int, int] | None:
        minute, s = divmod(self._start_ms // MS_PER_S, S_PER_MINUTE)
        return self._source.pm_tenths(minute)[s]

    def _first_level(self) -> int | None:
        minute, s = divmod(self._start_ms // MS_PER_S, S_PER_MINUTE)
        return self._source.level_tenths(minute)[s]

    def _bent(self, minute: int, values: Sequence[T | None], zero: T, ffff: T, first: T | None) -> list[T | None]:
        bent = list(values)
        start_ms = minute * S_PER_MINUTE * MS_PER_S - self._start_ms
        for fault in self._faults:
            value = {"stuck": first, "warmup_zeros": zero, "ffff": ffff}[fault.name]
            for s in range(S_PER_MINUTE):
                if fault.active(start_ms + s * MS_PER_S) and bent[s] is not None:
                    bent[s] = value
        return bent


class FaultyDevice(Device):
    """A device with faults on it and on its line; otherwise the device itself."""

    def __init__(self, device: Device, faults: Sequence[Fault], seed: int, start_ms: int) -> None:
        # No super().__init__: every attribute of a Device is the inner one's, by the properties below.
        self._device = device
        self._seed = seed
        self._start_ms = start_ms
        self._now_ms = start_ms
        self._line = [fault for fault in faults if fault.name in _ON_LINE]
        self._faults = {fault.name: fault for fault in faults}
        self._was_reset = False
        self._values = [_limited(fault) for fault in faults if fault.name in _VALUE_FAULTS]
        if self._values:
            device.source = _FaultySource(device.source, self._values, start_ms)
        if "sleeping" in self._faults:
            device.be_asleep()

    @property
    def name(self) -> str:  # type: ignore[override]
        return self._device.name

    @property
    def baud(self) -> int:  # type: ignore[override]
        fault = None if self.usb else self._now("wrong_baud")
        return self._device.baud if fault is None else int(fault.arg) or self._device.baud // 2

    @property
    def usb(self) -> bool:  # type: ignore[override]
        return self._device.usb

    @property
    def polled_only(self) -> bool:  # type: ignore[override]
        return self._device.polled_only

    @property
    def frames(self) -> int:  # type: ignore[override]
        return self._device.frames

    @property
    def crossings(self) -> int:  # type: ignore[override]
        return self._device.crossings

    @property
    def over_capacity(self) -> int:
        return self._device.over_capacity

    @property
    def marks_per_s(self) -> int:  # type: ignore[override]
        device = self._device
        return device.frames_per_s() * device.frame_bytes if "split" in self._faults else 1

    def unplugged(self) -> tuple[int, ...]:
        fault = self._faults.get("unplug")
        if fault is None:
            return ()
        pulled_ms = self._start_ms + round(fault.arg * MS_PER_S)
        return pulled_ms, pulled_ms + round(fault.for_s * MS_PER_S)

    def seek(self, now_ms: int) -> None:
        self._device.seek(now_ms)
        self._now_ms = max(self._now_ms, now_ms)

    def advance(self, to_ms: int) -> list[Piece]:
        reset = self._faults.get("reset")
        reset_ms = None if reset is None else self._start_ms + round(reset.arg * MS_PER_S)
        if reset_ms is not None and not self._was_reset and to_ms >= reset_ms:
            # Up to the brown-out as it was; the second in which it falls is cut in the middle of a frame.
            before = self._device.advance(reset_ms)
            self._brown_out(reset_ms)
            cut = [*before[:-1], (before[-1][0][:-4], before[-1][1])] if before else []
            pieces = cut + self._device.advance(to_ms)
        else:
            pieces = self._device.advance(to_ms)
        self._now_ms = max(self._now_ms, to_ms)
        return self._bent(pieces)

    def frames_of(self, second: int) -> list[Piece]:
        self._now_ms = max(self._now_ms, second * MS_PER_S)
        frames = self._device.frames_of(second)
        reset = self._faults.get("reset")
        if reset is not None and not self._was_reset and self._now_ms >= self._start_ms + reset.arg * MS_PER_S:
            self._brown_out(self._now_ms)
            frames = [(said[:-4], time_ms) for said, time_ms in frames[:1]]
        return self._bent(frames)

    def receive(self, data: bytes, now_ms: int) -> list[Piece]:
        self._now_ms = max(self._now_ms, now_ms)
        if isinstance(self._device, ModbusNoise):
            refusal = self._now("exception")
            self._device.refuses_with = None if refusal is None else int(refusal.arg)
            self._device.answers_as = None if self._now("other_slave") is None else self._device.slave + 1
        pieces = self._device.receive(data, now_ms)
        if pieces and self._now("echo") is not None:
            pieces = [(data + pieces[0][0], pieces[0][1]), *pieces[1:]]
        late = self._now("late")
        if late is not None:
            pieces = [(said, time_ms + int(late.arg)) for said, time_ms in pieces]
        return [piece for piece in self._bent(pieces) if piece[0]]

    def frames_per_s(self) -> int:
        return self._device.frames_per_s()

    def frame_offset_ms(self, index: int) -> int:
        return self._device.frame_offset_ms(index)

    def answer(self, data: bytes, now_ms: int) -> list[bytes]:
        return [said for said, _ in self.receive(data, now_ms)]

    def say(self, minute: int) -> list[bytes]:
        return self._device.say(minute)

    def power_cycle(self, now_ms: int) -> None:
        self._device.power_cycle(now_ms)

    def _brown_out(self, now_ms: int) -> None:
        self._was_reset = True
        self._device.power_cycle(now_ms)
        self._device.seek(now_ms)

    def _now(self, name: str) -> Fault | None:
        fault = self._faults.get(name)
        return fault if fault is not None and fault.active(self._now_ms - self._start_ms) else None

    def _bent(self, pieces: list[Piece]) -> list[Piece]:
        if isinstance(self._device, TfLuna):
            pieces = [self._beam_value(piece) for piece in pieces]
        for fault in self._line:
            bent: list[Piece] = []
            for piece in pieces:
                if fault.active(piece[1] - self._start_ms):
                    bent += _on_line(fault, piece, Random(f"{self._seed}/{fault.name}/{piece[1]}"))
                else:
                    bent.append(piece)
            pieces = bent
        return pieces

    def _beam_value(self, piece: Piece) -> Piece:
        said, time_ms = piece
        for fault in self._values:
            if fault.active(time_ms - self._start_ms) and said[:2] == b"\x59\x59":
                value = {"stuck": (180, 1500), "warmup_zeros": (0, 0), "ffff": (_FFFF, 1500)}[fault.name]
                said = frame(*value) * (len(said) // self._device.frame_bytes)
        return said, time_ms


def _limited(fault: Fault) -> Fault:
    if fault.name == "warmup_zeros":
        return Fault(fault.name, fault.arg, fault.from_s, fault.from_s + fault.arg)
    return fault


def _on_line(fault: Fault, piece: Piece, draw: Random) -> list[Piece]:
    said, time_ms = piece
    if fault.name == "silent":
        return [(b"", time_ms)]
    if fault.name == "bit_flip":
        return [(bytes(b ^ 1 << draw.randrange(8) if draw.random() < fault.arg else b for b in said), time_ms)]
    if fault.name == "drop":
        return [(bytes(b for b in said if draw.random() >= fault.arg), time_ms)]
    if fault.name == "insert":
        slipped = (bytes((draw.choice((0x00, 0xFF)), b)) if draw.random() < fault.arg else bytes((b,)) for b in said)
        return [(b"".join(slipped), time_ms)]
    if fault.name == "duplicate":
        return [(said * 2 if draw.random() < fault.arg else said, time_ms)]
    if fault.name == "split":
        gap_ms = min(_SPLIT_GAP_MS, 900 // max(1, len(said)))
        first_ms = time_ms - gap_ms * (len(said) - 1)
        return [(said[i : i + 1], first_ms + i * gap_ms) for i in range(len(said))] or [piece]
    # A burst lies on whatever is on the line in its second.
    if time_ms // MS_PER_S % int(fault.arg) == 0:
        at = draw.randrange(len(said) + 1)
        return [(said[:at] + draw.randbytes(_BURST_BYTES) + said[at + _BURST_BYTES :], time_ms)]
    return [piece]


_ON_LINE = (*_PROBABILITIES, "silent", "split", "burst")
