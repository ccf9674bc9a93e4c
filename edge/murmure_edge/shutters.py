"""Keeps what a process sees inside it: no core dump, no reading by others of the same user, no value in a traceback."""

from __future__ import annotations

import ctypes
import resource
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType

_PR_SET_DUMPABLE = 4


def close_the_shutters(process: str = "sense") -> None:
    """Keeps memory out of files: no core dump, no reading of this process by others of the same user. `process`: its
    name in the line that tells of a defect."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)

    def tell(kind: type[BaseException], _error: BaseException | None, trace: TracebackType | None) -> None:
        # A defect's text could quote a reading: say where it is and what kind, never what it says.
        frames = traceback.extract_tb(trace)
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "somewhere"
        print(f"murmure: {process}: defect at {place}: {kind.__name__}", file=sys.stderr, flush=True)

    sys.excepthook = tell
    threading.excepthook = lambda failure: tell(failure.exc_type, failure.exc_value, failure.exc_traceback)
    sys.unraisablehook = lambda failure: tell(failure.exc_type, failure.exc_value, failure.exc_traceback)
