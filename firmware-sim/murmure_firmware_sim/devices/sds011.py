"""Nova SDS011: particles by laser, 9600 baud, one frame a second.

device   AA  C0|C5  data[6]  sum8 of the six  AB
host     AA  B4  command  set  value  0...  [13-14 new id]  [15-16 target]  sum8 of bytes 2-16  AB
"""

from __future__ import annotations

from .base import AIR, S_PER_MINUTE, Device, Source, sum8

_ANY = b"\xff\xff"
_COMMAND_BYTES = 19
_MODE, _QUERY, _ID, _SLEEP, _FIRMWARE, _PERIOD = 2, 4, 5, 6, 7, 8
_ACTIVE, _ASKED = 0, 1
_WORKING_S = 30
_LONGEST_PERIOD_MINUTES = 30
_FRAMES_KEPT = 4096


class Sds011(Device):
    """The device with its whole command set. A power cut wakes it and leaves its settings, kept in flash."""

    name = "sds011"
    quantity = AIR
    baud = 9600
    frame_bytes = 10
    memory = ("average_ms", 1000)

    def __init__(self, source: Source, seed: int = 0, device_id: bytes = b"\xa1\x60") -> None:
        super().__init__(source, seed)
        self.device_id = device_id
        self.mode = _ACTIVE
        self.asleep = False
        self.period_minutes = 0
        self._period_since_s = 0
        self._heard = b""
        self._frame_of: dict[tuple[int, int], bytes] = {}

    def say(self, minute: int) -> list[bytes]:
        """One measurement a second; in a working period one at the end of each 30 s of work."""
        if self.asleep or self.mode != _ACTIVE:
            return [b""] * S_PER_MINUTE
        said = [b"" if pm is None else self._measurement(pm) for pm in self.source.pm_tenths(minute)]
        if self.period_minutes:
            start_s = minute * S_PER_MINUTE
            return [f if self._cycle_s(start_s + s) == _WORKING_S - 1 else b"" for s, f in enumerate(said)]
        return said

    def answer(self, data: bytes, now_ms: int) -> list[bytes]:
        """Answers every whole command; slides by one byte over what is none."""
        heard = self._heard + data
        answers = []
        while True:
            start = heard.find(b"\xaa")
            if start < 0:
                heard = b""
                break
            heard = heard[start:]
            if len(heard) < 2:
                break
            command = heard[:_COMMAND_BYTES]
            if heard[1] != 0xB4:
                heard = heard[1:]
                continue
            if len(command) < _COMMAND_BYTES:
                break
            if command[18] != 0xAB or sum8(command[2:17]) != command[17]:
                heard = heard[1:]
                continue
            heard = heard[_COMMAND_BYTES:]
            if command[15:17] in (_ANY, self.device_id):
                answers += self._obey(command, now_ms // 1000)
        self._heard = heard
        return answers

    def be_passive(self) -> None:
        """In query mode."""
        self.mode = _ASKED

    def be_asleep(self) -> None:
        """As after command 06."""
        self.asleep = True

    def power_cycle(self, now_ms: int) -> None:
        """The fan starts again; mode, id and working period are kept."""
        super().power_cycle(now_ms)
        self.asleep = False
        self._period_since_s = now_ms // 1000
        self._heard = b""

    def _obey(self, command: bytes, now_s: int) -> list[bytes]:
        what, is_set, value = command[2], command[3] == 1, command[4]
        resting = self.period_minutes > 0 and self._cycle_s(now_s) >= _WORKING_S
        if (self.asleep or resting) and what != _SLEEP:
            return []  # asleep it hears nothing but the wake command
        if what == _MODE:
            if is_set:
                self.mode = _ASKED if value == 1 else _ACTIVE
            return [self._reply(what, is_set, self.mode)]
        if what == _QUERY:
            pm = self.pm_at(now_s)
            return [] if pm is None else [self._measurement(pm)]
        if what == _ID:
            self.device_id = command[13:15]
            self._frame_of.clear()
            return [self._reply(what, False, 0)]
        if what == _SLEEP:
            if is_set:
                self.asleep = value == 0
                self._period_since_s = now_s
            return [self._reply(what, is_set, 0 if self.asleep or (resting and not is_set) else 1)]
        if what == _FIRMWARE:
            return [self._frame(0xC5, bytes((what, 15, 7, 10)))]
        if what == _PERIOD:
            if is_set and value <= _LONGEST_PERIOD_MINUTES:
                self.period_minutes = value
                self._period_since_s = now_s
            return [self._reply(what, is_set, self.period_minutes)]
        return []

    def _cycle_s(self, second: int) -> int:
        return (second - self._period_since_s) % (self.period_minutes * 60)

    def _reply(self, what: int, is_set: bool, value: int) -> bytes:
        return self._frame(0xC5, bytes((what, is_set, value, 0)))

    def _measurement(self, pm: tuple[int, int]) -> bytes:
        frame = self._frame_of.get(pm)
        if frame is None:
            if len(self._frame_of) >= _FRAMES_KEPT:
                self._frame_of.clear()
            frame = self._frame_of[pm] = self._frame(0xC0, pm[0].to_bytes(2, "little") + pm[1].to_bytes(2, "little"))
        return frame

    def _frame(self, kind: int, four: bytes) -> bytes:
        data = four + self.device_id
        return bytes((0xAA, kind)) + data + bytes((sum8(data), 0xAB))
