"""How the doctor leaves a sensor: as it was found. What it was left in is asked before its driver sets it up.

Only what a power cut would not undo by itself, and what keeps a sensor from speaking, is looked at. A TF-Luna forgets
its settings with its power, a Modbus meter and a BB AA module have none, and of an LD2450 what lasts is withheld.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from murmure_edge.link import Link, LinkError
from murmure_edge.sensors import nsrt_mk3, pmsx003, sds011, sps30
from murmure_edge.sensors.base import Counters, Driver

_ANSWER_MS = 250
_LISTEN_MS = {"pmsx003": 2_500, "sds011": 0, "sps30": 0, "nsrt_mk3": 0, "modbus_noise": 0}
"""For how long who speaks by itself is listened to first: a PMSx003 says something every 2.3 s."""
_USUAL_LISTEN_MS = 1_100
_SPS30_SLEEP = 0x10
_AWAKE, _ACTIVE = 1, 1


@dataclass(slots=True)
class Found:
    """How a sensor was found. `unasked`: it spoke by itself. `asleep`: it had to be woken. `asked_only`: it was set to
    speak only when asked, or with pauses. `put_back`: the commands that leave it as it was."""

    unasked: bool = False
    asleep: bool = False
    asked_only: bool = False
    put_back: list[bytes] = field(default_factory=list)


class Talk:
    """Questions and answers on one open line, before its driver takes it over."""

    def __init__(self, link: Link, driver: Driver) -> None:
        self._link, self._driver = link, driver
        self._scanner = driver.scanner(Counters())

    def listen(self, for_ms: int, enough: Callable[[bytes], bool] = lambda frame: True) -> bytes:
        """Returns the first good frame within so long that is enough, b"" if none comes."""
        until_ms = self._link.now_ms() + for_ms
        while self._link.now_ms() < until_ms:
            data, now_ms = self._link.read(until_ms)
            for frame in self._scanner.feed(data):
                if enough(frame):
                    return frame
            if not data and now_ms >= until_ms:
                break
        return b""

    def ask(self, command: bytes, enough: Callable[[bytes], bool] = lambda frame: True) -> bytes:
        """Returns the frame that answers a command, b"" if none comes."""
        self._link.write(command, self._link.now_ms() + _ANSWER_MS)
        return self.listen(_ANSWER_MS, enough)

    def ask_raw(self, command: bytes) -> bytes:
        """Returns the bytes that answer a command, where answers have no frame."""
        self._link.discard_input()
        until_ms = self._link.now_ms() + _ANSWER_MS
        self._link.write(command, until_ms)
        return self._link.read(until_ms)[0]


def meet(link: Link, driver: Driver) -> Found:
    """Opens the line and finds out how the sensor was left; it may be awake after this. Raises LinkError."""
    link.open()
    talk, found = Talk(link, driver), Found()
    found.unasked = bool(talk.listen(_LISTEN_MS.get(driver.NAME, _USUAL_LISTEN_MS)))
    look = {"sds011": _sds011, "pmsx003": _pmsx003, "sps30": _sps30, "nsrt_mk3": _nsrt_mk3}.get(driver.NAME)
    if look is not None:
        look(talk, found)
    return found


def leave(link: Link, found: Found) -> None:
    """Leaves the sensor as it was found; if it is gone by now there is nobody to tell."""
    if found.put_back:
        with suppress(LinkError):
            link.open()
            for command in found.put_back:
                until_ms = link.now_ms() + _ANSWER_MS
                link.write(command, until_ms)
                while link.now_ms() < until_ms:
                    link.read(until_ms)


def _sds011(talk: Talk, found: Found) -> None:
    def setting(what: int) -> int | None:
        reply = talk.ask(sds011.make_command(what), lambda frame: frame[1] == sds011.REPLY and frame[2] == what)
        return reply[4] if reply else None

    working = setting(sds011.SLEEP_WORK)
    if working is None:
        # Silence may be sleep, or one answer that got lost: awake, it speaks by itself or answers the second question.
        spoke = talk.listen(_USUAL_LISTEN_MS, lambda frame: frame[1] == sds011.MEASUREMENT)
        working = _AWAKE if spoke else setting(sds011.SLEEP_WORK)
    if not working:
        talk.ask(sds011.make_command(sds011.SLEEP_WORK, 1, _AWAKE))
        # Asleep it may answer nothing but this: then it is its answer to the next question that tells.
        found.asleep = working == 0 or setting(sds011.SLEEP_WORK) == _AWAKE
    for what in (sds011.REPORTING_MODE, sds011.WORKING_PERIOD):
        value = setting(what)
        if value:
            found.asked_only = True
            found.put_back.append(sds011.make_command(what, 1, value))
    if found.asleep:
        found.put_back.append(sds011.make_command(sds011.SLEEP_WORK, 1, 0))


def _pmsx003(talk: Talk, found: Found) -> None:
    read = pmsx003.make_command(pmsx003.READ)
    if not found.unasked and not talk.ask(read):
        talk.ask(pmsx003.make_command(pmsx003.SLEEP_WAKE, pmsx003.WAKE))
        found.unasked = bool(talk.listen(_USUAL_LISTEN_MS))
        found.asleep = found.unasked or bool(talk.ask(read))
    if found.unasked:
        found.put_back.append(pmsx003.make_command(pmsx003.SET_MODE, _ACTIVE))
    if found.asleep:
        found.put_back.append(pmsx003.make_command(pmsx003.SLEEP_WAKE, 0))


def _sps30(talk: Talk, found: Found) -> None:
    stop = sps30.make_command(sps30.STOP)
    answer = talk.ask(sps30.make_command(sps30.READ))
    if not answer:
        # It may have been asleep. Two, since the first only opens its ears; it answers the second.
        found.asleep = bool(talk.ask(b"\xff" + sps30.make_command(sps30.WAKE)))
        if found.asleep:
            found.put_back += [stop, sps30.make_command(_SPS30_SLEEP)]
    elif sps30.Sps30.describe(answer).get("error") == sps30.ERRORS[sps30.NOT_IN_THIS_STATE]:
        found.put_back.append(stop)


def _nsrt_mk3(talk: Talk, found: Found) -> None:
    weighting = talk.ask_raw(nsrt_mk3.ASK_WEIGHTING)
    if len(weighting) == 1 and weighting != nsrt_mk3.A_WEIGHTED:
        found.put_back.append(nsrt_mk3.make_command(nsrt_mk3.WEIGHTING, 1, weighting))
