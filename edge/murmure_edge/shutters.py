"""Keeps what a process sees inside it: no core dump, no swap, no reading by others of the same user, no value in a
traceback."""

from __future__ import annotations

import ctypes
import re
import resource
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType

_PR_SET_DUMPABLE = 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_IPC_LOCK = 14
_STATUS, _SWAPS = Path("/proc/self/status"), Path("/proc/swaps")


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


def lock_memory(swaps: Path = _SWAPS) -> str:
    """Keeps out of swap whatever this process touches from now on. Returns "" if that is done or if there is no swap
    but in memory itself (zram), else one line for the operator.

    Pages are locked as they are touched: of OpenDP's 260 MB most are only mapped. Under a limit nothing is locked, for
    a later allocation would fail in the middle of a window.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if _may_lock_all() and libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0:
        return ""
    try:
        devices = [line.split()[0] for line in swaps.read_text("utf-8").splitlines()[1:]]
    except OSError:
        devices = ["unknown"]
    if all(device.startswith("/dev/zram") for device in devices):
        return ""
    return (
        f"memory: there is swap ({', '.join(devices)}) and memory cannot be locked: a reading could be written to it; "
        "swapoff, or LimitMEMLOCK=infinity as in murmure-sense.service"
    )


def _may_lock_all() -> bool:
    most = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    if most == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (most, most))
        return True
    rights = re.search(r"^CapEff:\s*([0-9a-f]+)$", _STATUS.read_text("ascii"), re.MULTILINE)
    return rights is not None and bool(int(rights[1], 16) >> _CAP_IPC_LOCK & 1)
