"""`murmure edge run`: starts `sense` and `send` as two processes, and ends both when one ends or a signal comes.

In a white zone, without a [broker], there is nothing to send: `sense` runs alone.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

from murmure_edge.config import load, load_trust

_LOOK_S = 0.2
_PATIENCE_S = 15


def main(config_path: Path) -> int:
    """Returns 0 after SIGTERM or Ctrl-C, else the status of the process that ended by itself (1 for 0 or a signal)."""
    config = load(config_path)
    load_trust(config)  # one line for a wrong file, not one from each process
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    processes = [
        subprocess.Popen([sys.executable, "-m", "murmure.cli", "edge", name, "--config", str(config_path)])
        for name in (("sense",) if config.white_zone else ("sense", "send"))
    ]
    try:
        while not stop.wait(_LOOK_S):
            for process in processes:
                if process.poll() is not None:
                    return max(1, process.returncode)  # negative: a signal ended it
        return 0
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
