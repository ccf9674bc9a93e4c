"""Where `sense` and `send` meet as strangers: who owns which folder, and how a file gets into one.

What is read from there is hostile input: see `murmure_privacy.files`.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from murmure_privacy.files import opened, put_whole

from murmure_edge.config import GatewayConfig

FILE_MODE = 0o640  # the other process is in the folder's group: it may read


def write_whole(folder: Path, name: str, data: bytes) -> None:
    """Puts `data` at `folder/name`: written beside, synced, renamed, folder synced. Raises OSError, and then the old
    file, if there was one, is untouched."""
    with opened(folder) as at:
        put_whole(at, name, data, FILE_MODE)
        os.fsync(at)


@dataclass(frozen=True, slots=True)
class Owners:
    """The two users of a gateway and the group in which they meet, as numbers."""

    sense_uid: int
    sense_gid: int
    send_uid: int
    send_gid: int
    spool_gid: int


def prepare_folders(config: GatewayConfig, owners: Owners | None = None) -> None:
    """Makes the four folders of a gateway with their owners and modes (docs/gateway.md has the table).

    With `owners` the caller is root and everything is set right. Without, each process calls it at start: what is
    missing is made as the caller's own, and a folder of another user is left as it is. Folders above them that are
    missing are made too and stay with the caller, so that neither process can move a folder away. Raises OSError.
    """
    sense = spool = send = None
    if owners is not None:
        sense, spool = (owners.sense_uid, owners.sense_gid), (owners.sense_uid, owners.spool_gid)
        send = (owners.send_uid, owners.send_gid)
    for folder, owner, mode in (
        (config.data, sense, 0o700),
        (config.outbox, spool, 0o2750),
        # Owned by sense, not by send: whoever owns a folder could lock the other out of it.
        (config.inbox, spool, 0o2770),
        (config.send_data, send, 0o700),
    ):
        folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if owner is None and folder.lstat().st_uid != os.geteuid():
            continue
        with opened(folder) as at:
            if owner is not None:
                os.fchown(at, *owner)
            # A hardened unit may not set the group bit again, and need not.
            if stat.S_IMODE(os.fstat(at).st_mode) != mode:
                os.fchmod(at, mode)
