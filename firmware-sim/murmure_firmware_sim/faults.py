"""What goes wrong in the street, by name: `NAME[:ARG][@FROM_S-TO_S]`, the times in simulated seconds since the start.

A fault is drawn from (seed, fault, time), so a run with faults can be repeated byte for byte. Each can begin and end
while the device runs. Those of the host's side (`HOST`) are only kept here; `host.py` does them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple, TypeVar

from .devices.base import MS_PER_S, NO_VALUE, S_PER_MINUTE, SLOT_MS, Device, Piece, Source
from .devices.walkers import Scene, Walk
from .errors import SimError


class Kind(NamedTuple):
    """One kind of fault: its number in the list of the README (0: none of those), what happens, ARG's default."""

    number: int
    what: str
    default: float | None = None


FAULTS: dict[str, Kind] = {
    "unplug": Kind(1, "the plug is pulled for a while; it comes back as another pts, under its own link"),
    "unplug_renamed": Kind(1, "the same, but it comes back under the link LINK-2"),
    "silent": Kind(2, "says and answers nothing; the port stays open"),
    "sleeping": Kind(3, "asleep from then on, as another program left it, if the device has a sleep"),
    "wrong_baud": Kind(4, "its line runs at ARG baud (else half its own): rubbish both ways", 0),
    "bit_flip": Kind(5, "one bit of a byte turns with probability ARG", 0.001),
    "drop": Kind(6, "a byte is lost with probability ARG", 0.001),
    "insert": Kind(7, "a 00 or FF slips in before a byte with probability ARG", 0.001),
    "split": Kind(8, "one byte at a time, 50 ms apart or as close as the frame needs"),
    "joined": Kind(9, "two frames in one write, those of two seconds if it has one a second"),
    "duplicate": Kind(10, "what it said in a second is said twice with probability ARG", 0.1),
    "stuck": Kind(11, "the same value for ever"),
    "warmup_zeros": Kind(12, "zeros for ARG seconds after power, or after it was woken", 30),
    "ffff": Kind(13, "FFFF, or NaN, where a value should be"),
    "out_of_range": Kind(13, "a value that no such device can measure"),
    "late": Kind(14, "answers come ARG ms late", 1500),
    "half": Kind(0, "with probability ARG half of an answer comes 1.5 s late, into the next one", 0.1),
    "echo": Kind(15, "an answer is preceded by the request, as on a two-wire adapter"),
    "other_slave": Kind(16, "another address answers, if the device has one"),
    "exception": Kind(17, "every request is refused with code ARG, if the device can refuse", 4),
    "new_baud": Kind(18, "restarts with another firmware, at ARG baud from then on", 115200),
    "reset": Kind(19, "brown-out: a frame is cut in the middle, unsaved settings are lost"),
    "clock": Kind(20, "bench only: the host's clock is ARG seconds ahead from then on (back: by the next start)", 3600),
    "drift": Kind(21, "the value grows by ARG (dB or ug/m3) a day", 0.1),
    "wrap": Kind(22, "the value has lost what is beyond ARG tenths, as a counter that wrapped", 256),
    "second_reader": Kind(23, "another program has the port open, and takes ARG of what comes", 0.5),
    "burst": Kind(24, "200 ms of electrical noise every ARG seconds", 600),
    "permission": Kind(25, "nobody may open the port (root still may)"),
    "disk_full": Kind(26, "the small tmpfs folder ARG is full"),
    "trickle": Kind(27, "only the share ARG of its frames comes", 0.1),
}
_PROBABILITIES = ("bit_flip", "drop", "insert", "duplicate", "half", "second_reader", "trickle")
_VALUE_FAULTS = ("stuck", "warmup_zeros", "ffff", "out_of_range", "drift", "wrap")
_ONE_SHOTS = ("sleeping", "new_baud", "reset")
PLUGS = ("unplug", "unplug_renamed")
HOST = (*PLUGS, "second_reader", "permission", "disk_full")
_ON_LINE = ("bit_flip", "drop", "insert", "duplicate", "silent", "split", "burst", "second_reader")
SETTING = "set"
"""Names no fault but values that hold for a while, as scenario files give them."""
_SIGNED = ("drift", "clock")
_FAR_DB_TENTHS, _FAR_UG_M3_TENTHS = 5_000, 60_000
_USUAL_RESET_S = 60.0
_SPLIT_GAP_MS = 50
_HALF_LATE_MS = 1500
_BURST_BYTES = 24
_STOLEN_BYTES = 16
FOREVER_S = 10**9
_DAY_MS = 86_400_000

T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """One fault with its argument, active in [from_s, to_s) after the start.

    `text` is the argument of one that takes a path; `values` what a device sees under SETTING.
    """

    name: str
    arg: float = 0
    from_s: float = 0
    to_s: float = FOREVER_S
    text: str = ""
    values: Source | None = field(default=None, compare=False)

    def active(self, since_start_ms: int) -> bool:
        return self.from_s * MS_PER_S <= since_start_ms < self.to_s * MS_PER_S


def parse_fault(text: str, file: str = "--fault", key: str = "NAME", at_once: bool = False) -> Fault:
    """Reads `NAME[:ARG][@FROM_S-TO_S]`, `unplug:AT_S/FOR_S` and `reset:AT_S`. Raises SimError naming what is known.

    `at_once` is for one whose time is told elsewhere: then `unplug` and `reset` need none of their own.
    """
    spec, _, when = text.partition("@")
    name, has_arg, arg = spec.partition(":")
    if name not in FAULTS:
        raise SimError(file, key, f"fault {name!r} is unknown", f"write one of {', '.join(FAULTS)}")
    default = FAULTS[name].default
    form = {"unplug": ":AT_S/FOR_S", "unplug_renamed": ":AT_S/FOR_S", "reset": ":AT_S", "disk_full": ":FOLDER"}.get(
        name, "" if default is None else ":NUMBER"
    )
    try:
        from_s, to_s = (float(part) for part in when.split("-")) if when else (0.0, float(FOREVER_S))
        if has_arg and name in PLUGS:
            from_s, for_s = (float(part) for part in arg.split("/"))
            to_s = from_s + for_s
            if from_s <= 0:
                raise ValueError(text)
        elif name == "reset" and not when and not at_once:
            from_s = float(arg) if has_arg else _USUAL_RESET_S
            if from_s < 1:
                raise ValueError(text)
        elif name == "disk_full":
            return Fault(name, from_s=_checked(from_s, to_s), to_s=to_s, text=_path(arg))
        elif (has_arg and default is None) or (name in PLUGS and not (has_arg or when or at_once)):
            raise ValueError(text)
        arg_text = arg if has_arg and default is not None else None
        return Fault(name, _argument(name, arg_text), _checked(from_s, to_s), to_s)
    except ValueError:
        mend = f"write {name}{form}, with @FROM_S-TO_S behind it if not always"
        raise SimError(file, key, f"fault {text!r} cannot be read", mend) from None


def _argument(name: str, text: str | None) -> float:
    default = FAULTS[name].default
    arg = float(text) if text is not None else float(default or 0)
    if not (name in _SIGNED or arg >= 0) or (name in _PROBABILITIES and arg > 1) or arg != arg:
        raise ValueError(name)
    if (name == "burst" and arg < 1) or (name in ("wrap", "trickle") and arg <= 0):
        raise ValueError(name)
    return arg


def _checked(from_s: float, to_s: float) -> float:
    if not 0 <= from_s < to_s:
        raise ValueError(from_s)
    return from_s


def _path(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


class _BentSource:
    """The street through a faulty device's eyes. Implements `Source`; which faults there are may change at any time."""

    def __init__(self, source: Source, start_ms: int) -> None:
        self.inner = source
        self.faults: list[Fault] = []
        self.powered_ms: list[int] = [start_ms]
        self._start_ms = start_ms

    @property
    def over_capacity(self) -> int:
        return self.inner.over_capacity

    def bends(self, fault: Fault, time_ms: int) -> bool:
        """Tells whether a fault of the value acts on what is seen at an instant."""
        if not fault.active(time_ms - self._start_ms):
            return False
        if fault.name == "warmup_zeros":
            since_ms = max(self._start_ms + int(fault.from_s * MS_PER_S), *self._powers_before(time_ms))
            return time_ms - since_ms < fault.arg * MS_PER_S
        return True

    def pm_tenths(self, minute: int) -> Sequence[tuple[int, int] | None]:
        return self._bent(minute, lambda source, minute: source.pm_tenths(minute), _bent_pair)

    def level_tenths(self, minute: int) -> Sequence[int | None]:
        return self._bent(minute, lambda source, minute: source.level_tenths(minute), _bent_level)

    def dip_slots(self, minute: int) -> Sequence[int]:
        slots = self.inner.dip_slots(minute)
        if not self.faults:
            return slots
        start_ms = minute * S_PER_MINUTE * MS_PER_S
        for fault in self.faults:
            if fault.values is not None:
                others = fault.values.dip_slots(minute)
                kept = [slot for slot in slots if not self.bends(fault, start_ms + slot * SLOT_MS)]
                slots = sorted(kept + [slot for slot in others if self.bends(fault, start_ms + slot * SLOT_MS)])
        return [slot for slot in slots if not self._hidden(start_ms + slot * SLOT_MS)]

    def _hidden(self, time_ms: int) -> bool:
        """Tells whether nobody is seen at an instant, whoever is there."""
        return any(
            fault.values is None and fault.name not in ("drift", "wrap") and self.bends(fault, time_ms)
            for fault in self.faults
        )

    def _powers_before(self, time_ms: int) -> list[int]:
        return [powered_ms for powered_ms in self.powered_ms if powered_ms <= time_ms] or [self._start_ms]

    def _bent(
        self,
        minute: int,
        ask: Callable[[Source, int], Sequence[T | None]],
        bend: Callable[[Fault, T, T | None, float], T],
    ) -> Sequence[T | None]:
        seen = ask(self.inner, minute)
        if not self.faults:
            return seen
        bent = list(seen)
        start_ms = minute * S_PER_MINUTE * MS_PER_S
        for fault in self.faults:
            if fault.values is not None:
                others = ask(fault.values, minute)
                bent = [
                    other if self.bends(fault, start_ms + s * MS_PER_S) else value
                    for s, (value, other) in enumerate(zip(bent, others, strict=True))
                ]
                continue
            first_minute, first_s = divmod(round(self._start_ms + fault.from_s * MS_PER_S) // MS_PER_S, S_PER_MINUTE)
            first = ask(self.inner, first_minute)[first_s] if fault.name == "stuck" else None
            for s, value in enumerate(bent):
                time_ms = start_ms + s * MS_PER_S
                if value is not None and self.bends(fault, time_ms):
                    days = (time_ms - self._start_ms - fault.from_s * MS_PER_S) / _DAY_MS
                    bent[s] = bend(fault, value, first, days)
        return bent


class _BentScene(_BentSource):
    """The same of a source that knows how its bodies move. Implements `Scene` too."""

    def walks(self, minute: int) -> Sequence[Walk]:
        scene = self.inner
        start_ms = minute * S_PER_MINUTE * MS_PER_S
        walks = scene.walks(minute) if isinstance(scene, Scene) else ()
        return [walk for walk in walks if not self._hidden(start_ms + walk.points[0][0])]


def _bent_level(fault: Fault, tenths: int, first: int | None, days: float) -> int:
    return _bent_tenths(fault, tenths, first, days, _FAR_DB_TENTHS)


def _bent_tenths(fault: Fault, tenths: int, first: int | None, days: float, far: int) -> int:
    if fault.name == "stuck":
        return tenths if first is None else first
    if fault.name == "drift":
        return max(0, min(far, round(tenths + 10 * fault.arg * days)))
    if fault.name == "wrap":
        return tenths % int(fault.arg)
    return {"warmup_zeros": 0, "ffff": NO_VALUE, "out_of_range": far}[fault.name]


def _bent_pair(fault: Fault, pair: tuple[int, int], first: tuple[int, int] | None, days: float) -> tuple[int, int]:
    fine, coarse = (
        _bent_tenths(fault, pair[i], None if first is None else first[i], days, _FAR_UG_M3_TENTHS) for i in (0, 1)
    )
    return fine, coarse


class FaultyDevice:
    """A device with faults on it and on its line: what is played is always one of these, mostly with no fault at all.
    It says and is asked what a `Device` is, whose docstrings hold here too.

    `real_reader` is set by whoever lets a second reader really read; else what it takes is lost here.
    """

    def __init__(self, device: Device, faults: Sequence[Fault], seed: int, start_ms: int) -> None:
        self.real_reader = False
        self._device = device
        self._seed = seed
        self._start_ms = start_ms
        self._now_ms = start_ms
        self._faults: list[Fault] = []
        self._to_come: list[Fault] = []
        self._joined = b""
        kind = _BentScene if isinstance(device.source, Scene) else _BentSource
        device.source = self._source = kind(device.source, start_ms)
        for fault in faults:
            self._take(fault)
        self._let_happen(start_ms)

    @property
    def name(self) -> str:
        return self._device.name

    @property
    def baud(self) -> int:
        fault = None if self.usb else self.fault("wrong_baud", self._now_ms)
        return self._device.baud if fault is None else int(fault.arg) or self._device.baud // 2

    @property
    def usb(self) -> bool:
        return self._device.usb

    @property
    def polled_only(self) -> bool:
        return self._device.polled_only

    @property
    def has_passive_mode(self) -> bool:
        return self._device.has_passive_mode

    def is_quiet(self, second: int) -> bool:
        """See Device; what a fault swallows or adds aside."""
        return self._device.is_quiet(second)

    @property
    def frames(self) -> int:
        return self._device.frames

    @property
    def crossings(self) -> int:
        return self._device.crossings

    @property
    def over_capacity(self) -> int:
        return self._device.over_capacity

    @property
    def marks_per_s(self) -> int:
        device = self._device
        split = any(fault.name == "split" for fault in self._faults)
        return device.frames_per_s() * device.frame_bytes if split else 1

    @property
    def source(self) -> Source:
        """What the device would see without faults."""
        return self._source.inner

    @property
    def has_faults(self) -> bool:
        """Whether anything has ever been, is or will be wrong."""
        return bool(self._faults or self._to_come or self._source.faults)

    @property
    def has_people(self) -> bool:
        """Whether it sees how bodies move, not only that they cross."""
        return isinstance(self._source, Scene)

    def switch(self, fault: Fault, on: bool, now_ms: int = 0) -> int:
        """Lets a fault begin, for as long as it says, or ends all of its name; from `now_ms` on, or from where the
        device has got to, which is returned (ms). A schedule of the fault's own is counted from there."""
        at_ms = max(now_ms, self._now_ms)
        # What is seen is seen by whole seconds: the present one is the first.
        seen = fault.name in (*_VALUE_FAULTS, SETTING)
        at_s = ((at_ms // MS_PER_S * MS_PER_S if seen else at_ms) - self._start_ms) / MS_PER_S
        if on:
            self._take(replace(fault, from_s=at_s + fault.from_s, to_s=min(at_s + fault.to_s, FOREVER_S)))
            self._let_happen(at_ms)
        else:
            for faults in (self._faults, self._source.faults):
                faults[:] = [
                    replace(each, to_s=max(each.from_s, min(each.to_s, at_s))) if each.name == fault.name else each
                    for each in faults
                ]
            self._to_come = [each for each in self._to_come if each.name != fault.name]
        self._device.look_again()
        return at_ms

    def fault(self, name: str, now_ms: int) -> Fault | None:
        """Returns the fault of a name that is active at an instant."""
        since_start_ms = now_ms - self._start_ms
        return next((each for each in self._faults if each.name == name and each.active(since_start_ms)), None)

    def unplugged(self) -> tuple[int, ...]:
        instants_s = [s for each in self._faults if each.name in PLUGS for s in (each.from_s, each.to_s)]
        return tuple(sorted(self._start_ms + round(s * MS_PER_S) for s in instants_s if s < FOREVER_S))

    def seek(self, now_ms: int) -> None:
        self._device.seek(now_ms)
        self._now_ms = max(self._now_ms, now_ms)

    def advance(self, to_ms: int) -> list[Piece]:
        pieces: list[Piece] = []
        for at_ms in sorted(self._instant_ms(fault) for fault in self._to_come):
            if at_ms > to_ms:
                break
            # Up to there as it was; what it says in the second in which it restarts is cut in the middle of a frame.
            before = self._device.advance(at_ms)
            if self._let_happen(at_ms) and before:
                before[-1] = (before[-1][0][:-4], before[-1][1])
            pieces += before
        pieces += self._device.advance(to_ms)
        self._now_ms = max(self._now_ms, to_ms)
        return self._on_line(self._on_stream(pieces))

    def frames_of(self, second: int) -> list[Piece]:
        self._now_ms = max(self._now_ms, second * MS_PER_S)
        frames = self._device.frames_of(second)
        if self._let_happen(self._now_ms):
            frames = [(said[:-4], time_ms) for said, time_ms in frames[:1]]
        joined = self.fault("joined", self._now_ms)
        if joined is not None and len(frames) > 1:
            frames = [
                (b"".join(said for said, _ in frames[at : at + 2]), frames[at : at + 2][-1][1])
                for at in range(0, len(frames), 2)
            ]
        elif joined is not None and second % 2:
            frames = [
                (said + b"".join(last for last, _ in self._device.frames_of(second - 1)), t) for said, t in frames
            ]
        elif joined is not None:
            frames = []
        return self._on_line([self._thinned(piece) for piece in frames])

    def receive(self, data: bytes, now_ms: int) -> list[Piece]:
        self._now_ms = max(self._now_ms, now_ms)
        if not self.has_faults:
            return self._device.receive(data, now_ms)
        self._let_happen(self._now_ms)
        refusal = self.fault("exception", self._now_ms)
        self._device.refuses_with = None if refusal is None else int(refusal.arg)
        self._device.answers_strangely = self.fault("other_slave", self._now_ms) is not None
        slept = self._device.asleep
        pieces = self._device.receive(data, now_ms)
        if slept and not self._device.asleep:
            self._source.powered_ms.append(now_ms)
        if not pieces:
            return pieces
        if self.fault("echo", self._now_ms) is not None:
            pieces = [(data + pieces[0][0], pieces[0][1]), *pieces[1:]]
        late = self.fault("late", self._now_ms)
        if late is not None:
            pieces = [(said, time_ms + int(late.arg)) for said, time_ms in pieces]
        half = self.fault("half", self._now_ms)
        if half is not None and self._draw(half, now_ms).random() < half.arg:
            said, time_ms = pieces[-1]
            middle = len(said) // 2
            pieces[-1:] = [(said[:middle], time_ms), (said[middle:], time_ms + _HALF_LATE_MS)]
        trickle = self.fault("trickle", self._now_ms)
        if trickle is not None and self._draw(trickle, now_ms).random() >= trickle.arg:
            return []
        return [piece for piece in self._on_line(pieces) if piece[0]]

    def power_cycle(self, now_ms: int) -> None:
        self._device.power_cycle(now_ms)
        self._source.powered_ms.append(now_ms)
        self._device.look_again()

    def _take(self, fault: Fault) -> None:
        if fault.name in _ONE_SHOTS:
            self._to_come.append(fault)
        elif fault.name in _VALUE_FAULTS or fault.values is not None:
            self._source.faults.append(fault)
        else:
            self._faults.append(fault)

    def _instant_ms(self, fault: Fault) -> int:
        return self._start_ms + round(fault.from_s * MS_PER_S)

    def _let_happen(self, now_ms: int) -> bool:
        """Lets what happens once happen if it is due; tells whether the device has restarted."""
        due = [fault for fault in self._to_come if self._instant_ms(fault) <= now_ms]
        for fault in due:
            self._to_come.remove(fault)
            if fault.name == "sleeping":
                self._device.be_asleep()
                self._device.look_again()
                continue
            self.power_cycle(now_ms)
            if fault.name == "new_baud":
                self._device.reflash(int(fault.arg))
            self._device.seek(now_ms)
        return any(fault.name != "sleeping" for fault in due)

    def _draw(self, fault: Fault, time_ms: int) -> Random:
        return Random(f"{self._seed}/{fault.name}/{time_ms}")

    def _on_stream(self, pieces: list[Piece]) -> list[Piece]:
        """What befalls only that which it says by itself."""
        if not self._faults:
            return pieces
        bent = []
        for said, time_ms in map(self._thinned, pieces):
            if self.fault("joined", time_ms) is None or time_ms // MS_PER_S % 2:
                bent.append((self._joined + said, time_ms))
                self._joined = b""
            else:
                self._joined += said
                bent.append((b"", time_ms))
        return bent

    def _thinned(self, piece: Piece) -> Piece:
        said, time_ms = piece
        fault = self.fault("trickle", time_ms)
        if fault is None:
            return piece
        draw, size = self._draw(fault, time_ms), self._device.frame_bytes
        kept = [said[at : at + size] for at in range(0, len(said), size) if draw.random() < fault.arg]
        return b"".join(kept), time_ms

    def _on_line(self, pieces: list[Piece]) -> list[Piece]:
        if self._source.faults:
            pieces = [self._bent_frames(piece) for piece in pieces]
        for fault in self._faults:
            if fault.name not in _ON_LINE or (fault.name == "second_reader" and self.real_reader):
                continue
            bent: list[Piece] = []
            for piece in pieces:
                if fault.active(piece[1] - self._start_ms):
                    bent += _spoiled(fault, piece, self._draw(fault, piece[1]))
                else:
                    bent.append(piece)
            pieces = bent
        return pieces

    def _bent_frames(self, piece: Piece) -> Piece:
        said, time_ms = piece
        for fault in self._source.faults:
            if fault.values is None and self._source.bends(fault, time_ms):
                said = self._device.bent(said, fault.name)
        return said, time_ms


def _spoiled(fault: Fault, piece: Piece, draw: Random) -> list[Piece]:
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
    if fault.name == "second_reader":
        runs = [said[at : at + _STOLEN_BYTES] for at in range(0, len(said), _STOLEN_BYTES)]
        return [(b"".join(run for run in runs if draw.random() >= fault.arg), time_ms)]
    if fault.name == "split":
        gap_ms = min(_SPLIT_GAP_MS, 900 // max(1, len(said)))
        first_ms = time_ms - gap_ms * (len(said) - 1)
        return [(said[i : i + 1], first_ms + i * gap_ms) for i in range(len(said))] or [piece]
    # A burst lies on whatever is on the line in its second.
    if time_ms // MS_PER_S % int(fault.arg) == 0:
        at = draw.randrange(len(said) + 1)
        return [(said[:at] + draw.randbytes(_BURST_BYTES) + said[at + _BURST_BYTES :], time_ms)]
    return [piece]
