"""Processes that open messages before their turn, so that the one that files them has no other work.

Most of what a message costs is its form and its signature: opener.py looks at both, in as many processes as there are
cores to spare, each with a pipe in and a pipe out. They are started when messages first wait in numbers: a small town
never has one. Whoever has to wait for an answer opens another bundle meanwhile, and if a process dies, what it was
asked is opened here, as everything is where there is only one core. Keys are those of the register as it was copied
last; whoever files looks at the register again, and opens anew what an older copy did not know.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import select
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from murmure_ingest.intake import Arrival, Opened, Refused, open_sealed
from murmure_ingest.opener import LENGTH_BYTES, Answer, Asked, pack

UNSURE = ("unknown_gateway", "bad_signature")
"""Reasons that an older copy of the register, or a message on another gateway's topic, may have: worth another try."""
MOST = 3  # one thread files: more would only wait for it
_PROGRAM: tuple[str, ...] = ("-P", "-m", "murmure_ingest.opener")
_WORTH_A_PROCESS = 100  # messages that wait
_LIVES = 20  # processes that may die of themselves before no other is started
_PIPE_BYTES = 1 << 20
_SILENCE_MS = 10_000

Opening = Sequence[Opened | Refused]


class Bundle:
    """Messages that are opened together. `opened` is None until they are."""

    __slots__ = ("arrivals", "opened")

    def __init__(self, arrivals: Sequence[Arrival]) -> None:
        self.arrivals = arrivals
        self.opened: Opening | None = None


class _Process:
    """One opener at work: what it was asked, in order, and the bytes that its pipes have not taken or brought yet."""

    def __init__(self) -> None:
        command = [sys.executable, *_PROGRAM]
        # A session of its own: what a terminal interrupts is the centre, which then ends its openers.
        self._popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
        )
        assert self._popen.stdin is not None and self._popen.stdout is not None
        self._in, self._out = self._popen.stdin.fileno(), self._popen.stdout.fileno()
        self.pid = self._popen.pid
        for pipe in (self._in, self._out):
            os.set_blocking(pipe, False)
            with suppress(OSError):  # a smaller pipe only makes it wait more often
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self.asked: deque[Bundle] = deque()
        self.messages = 0  # in `asked`
        self._unsent, self._unread = b"", b""

    def ask(self, bundle: Bundle, asked: list[Asked]) -> None:
        """Takes on a bundle. Raises OSError if the process has ended, as the others do."""
        self.asked.append(bundle)
        self.messages += len(bundle.arrivals)
        self._unsent += pack(asked)
        self.send()

    def send(self) -> None:
        """Gives the pipe what it takes."""
        with suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[os.write(self._in, self._unsent) :]

    def receive(self) -> None:
        """Takes what the pipe has. Raises ValueError or EOFError if that is no answer."""
        with suppress(BlockingIOError):
            data = os.read(self._out, _PIPE_BYTES)
            if not data:
                raise EOFError
            self._unread += data
        at, size = 0, len(self._unread)
        while size - at >= LENGTH_BYTES:
            end = at + LENGTH_BYTES + int.from_bytes(self._unread[at : at + LENGTH_BYTES], "big")
            if end > size:
                break
            answers: list[Answer] = marshal.loads(self._unread[at + LENGTH_BYTES : end])
            bundle = self.asked[0]
            bundle.opened = [_read(*both) for both in zip(bundle.arrivals, answers, strict=True)]
            self.messages -= len(bundle.arrivals)
            self.asked.popleft()
            at = end
        self._unread = self._unread[at:]

    def wait(self) -> bool:
        """Returns whether an answer, or the end, has come within the longest silence."""
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        if self._unsent:
            poll.register(self._in, select.POLLOUT)
        return bool(poll.poll(_SILENCE_MS))

    def end(self) -> None:
        """Ends it, whatever it does."""
        assert self._popen.stdin is not None and self._popen.stdout is not None
        self._popen.kill()
        self._popen.stdin.close()
        self._popen.stdout.close()
        self._popen.wait()


def _read(arrival: Arrival, answer: Answer) -> Opened | Refused:
    first, second = answer
    if isinstance(first, bytes):
        return Opened(*arrival, first, second)
    return Refused(first, second)


class Openers:
    """At most `processes` of them, 0 for none; used from one thread. `ahead`: how many messages each is given before it
    has answered; `keys` may be replaced at any time by another copy of the register: gateway to record key."""

    def __init__(self, processes: int, ahead: int, say: Callable[[str], None] = lambda _: None) -> None:
        self.keys: Mapping[str, bytes] = {}
        self._most, self._ahead, self._say = min(processes, MOST), ahead, say
        self._processes: list[_Process] = []
        self._waiting: deque[Bundle] = deque()
        self._messages = 0  # in `_waiting`
        self._deaths = 0

    @property
    def pids(self) -> list[int]:
        """Returns the processes that are there."""
        return [process.pid for process in self._processes]

    def submit(self, arrivals: Sequence[Arrival]) -> Bundle:
        """Returns at once; `result` tells what `open_sealed` makes of each arrival."""
        bundle = Bundle(arrivals)
        self._waiting.append(bundle)
        self._messages += len(arrivals)
        if self._messages > _WORTH_A_PROCESS and len(self._processes) < self._most and self._deaths < _LIVES:
            self._start()
        self.pump()
        return bundle

    def result(self, bundle: Bundle) -> Opening:
        """Returns what has become of a bundle, once it has; opens others meanwhile."""
        while bundle.opened is None:
            self.pump()
            asked = next((process for process in self._processes if bundle in process.asked), None)
            if bundle.opened is not None:
                break
            if asked is None:
                self._waiting.remove(bundle)
                self._open(bundle)
            elif self._waiting:
                self._open(self._waiting.pop())
            elif not asked.wait():
                self._bury(asked)
        return bundle.opened

    def pump(self) -> None:
        """Takes the answers that are there, and gives each process as much as it should have."""
        for process in list(self._processes):
            try:
                process.receive()
                process.send()
                while self._waiting and process.messages < self._ahead:
                    bundle = self._waiting.popleft()
                    self._messages -= len(bundle.arrivals)
                    process.ask(bundle, [self._asked(*arrival) for arrival in bundle.arrivals])
            except (OSError, EOFError, ValueError, TypeError):
                self._bury(process)

    def stop(self) -> None:
        """Ends the processes; what they have not opened is not opened any more."""
        for process in self._processes:
            process.end()
        self._processes.clear()
        self._waiting.clear()

    def _asked(self, topic: str | None, sealed: bytes) -> Asked:
        gateway = topic.split("/")[3] if topic and topic.count("/") > 3 else ""
        return gateway, self.keys.get(gateway, b""), sealed

    def _start(self) -> None:
        try:
            self._processes.append(_Process())
        except OSError as error:
            self._deaths = _LIVES
            self._say(f"no process beside this one can be started ({error.strerror}): messages are opened here")

    def _bury(self, process: _Process) -> None:
        """Takes back what a process was asked."""
        process.end()
        self._processes.remove(process)
        self._deaths += 1
        self._waiting.extendleft(reversed(process.asked))
        self._messages += process.messages
        then = "another takes its place" if self._deaths < _LIVES else "none takes its place: messages are opened here"
        self._say(f"a process that opens messages has ended; {then}")

    def _open(self, bundle: Bundle) -> None:
        self._messages -= len(bundle.arrivals)
        keys = self.keys
        bundle.opened = [
            open_sealed(arrival, lambda gateway: [keys[gateway]] if gateway in keys else [])
            for arrival in bundle.arrivals
        ]
