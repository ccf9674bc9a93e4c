"""Who may see what a sensor says: somebody at this machine's own terminal, while `sense` does not run. Nobody else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from murmure_edge.doctor.machine import Machine

_REMOTE_NAMES = ("sshd", "dropbear", "mosh-server", "telnetd", "in.telnetd", "rlogind", "ttyd", "gotty", "shellinaboxd")
_SHARED_NAMES = ("tmux", "screen", "tmate")
"""Terminals that somebody may look at from elsewhere, whoever started them."""
_REMOTE_VARIABLES = ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")


def is_local(stdout_is_terminal: bool, environ: Mapping[str, str], machine: Machine) -> bool:
    """Returns whether what is printed stays at this machine. `sudo` takes the variables of SSH away: those who started
    this process are asked as well."""
    if not stdout_is_terminal or any(environ.get(name) for name in _REMOTE_VARIABLES):
        return False
    for name, variables in machine.ancestors():
        if name.startswith(_REMOTE_NAMES + _SHARED_NAMES):
            return False
        if any(variable.partition("=")[0] in _REMOTE_VARIABLES for variable in variables.split("\0")):
            return False
    return True


def sense_runs(machine: Machine, data: Path) -> bool | None:
    """Returns whether `sense` holds the lock of the gateway in `data`, None if this user may not know. It looks into
    the kernel's list: who tried the lock itself could keep a `sense` that starts at this instant from it."""
    lock = data / "gateway.db.lock"
    try:
        inode = lock.stat().st_ino
    except FileNotFoundError:
        return False
    except OSError:
        return None
    listed = machine.text("/proc/locks")
    if listed is None:
        return None
    return any(
        len(fields) > 5 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode)
        for fields in map(str.split, listed.splitlines())
    )
