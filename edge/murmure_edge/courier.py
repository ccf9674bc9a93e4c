"""`murmure edge export DIR`: a visit to a gateway in a white zone, with a USB stick for a network.

First what the centre left on the stick for this gateway goes into the inbox (receipts, policies), then what the centre
has not settled goes onto the stick, as signed and sealed as over the air, with the last health report: one that `sense`
has made since, if the receipt tells of a longer log, for the next receipt has to prove from there. Only copies
leave: messages stay on the gateway until the centre's receipt comes back, on the next visit or by any other way. Reads
`gateway.db` beside a running `sense`, and writes nothing on the gateway but letters into the inbox.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from murmure_privacy import log, wire
from murmure_privacy.errors import ConfigError, MurmureError, WireError
from murmure_privacy.files import names, opened, put_whole, read_regular
from murmure_privacy.release import Health, Receipt

from murmure_edge import clock, inbox, outbox
from murmure_edge.config import GatewayConfig, Trust, load, load_trust
from murmure_edge.folders import write_whole

_REPORT_WAIT_S = 75  # `sense` reads its inbox each second, and makes no two reports in a minute
_WHY = {
    errno.EROFS: "is read-only: move the stick's switch, or mount it so that it can be written to",
    errno.EACCES: "may not be written to: run this as root, or mount the stick for your user",
    errno.EPERM: "may not be written to: run this as root, or mount the stick for your user",
    errno.ENOSPC: "is full: remove something, or take another stick",
    errno.EIO: "does not answer: was it pulled out? Plug it in and run this again",
    errno.ENODEV: "does not answer: was it pulled out? Plug it in and run this again",
    errno.ENOENT: "is not there any more: was it pulled out? Plug it in and run this again",
}


class ExportError(MurmureError):
    """The stick could not be written: nothing is lost, and what was written before is whole."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What a visit came to. `letters`: receipts and policies taken from the stick; `written` and `present`: messages
    put onto it and found there already; `removed`: settled ones that were cleared from it; `settled_seq`: up to where
    the centre has them; `own_disk`: the folder lies on the gateway's own disk, so that no stick may be mounted."""

    letters: int
    written: int
    present: int
    removed: int
    settled_seq: int
    own_disk: bool


def export(config_path: Path, stick: Path, pause: Callable[[float], None] = clock.pause) -> Visit:
    """Exchanges messages for receipts and policies with the folder `stick`. `pause` waits some seconds for `sense`.

    Raises ConfigError for a wrong folder, ExportError if the stick is read-only, full or pulled out, MurmureError if
    gateway.db cannot be read.
    """
    config = load(config_path)
    trust = load_trust(config)
    if not stick.is_dir():
        raise ConfigError("edge export", str(stick), "is no folder", "plug the stick in, and name where it is mounted")
    receipt, policies = _letters(stick, trust)
    longer = None if receipt is None else _longer(config, receipt[0])
    _deliver(config, receipt, policies)
    if longer is not None:
        _await_report(config, longer, pause)
    settled, messages = _messages(config, receipt)
    files = {_name(trust, seq): sealed for seq, sealed in messages.items()}
    health = _health(config)
    if health is not None:
        files[f"{trust.gateway}-{outbox.HEALTH}"] = health
    with _explained(stick):
        (stick / "inbox").mkdir(exist_ok=True)  # where the centre leaves its answer
        (stick / "outbox").mkdir(exist_ok=True)
        removed = _clear(stick / "outbox", trust, settled, files)
        present = _write(stick / "outbox", files)
    own_disk = stick.stat().st_dev == config.data.stat().st_dev
    wrote = len(messages) - present
    return Visit((receipt is not None) + len(policies), wrote, present, removed, settled, own_disk)


def _letters(stick: Path, trust: Trust) -> tuple[tuple[Receipt, bytes] | None, list[bytes]]:
    """Returns the newest receipt and the policies on the stick that are truly for this gateway: it may be a tour of
    several, and anybody may have had it in hand."""
    receipts, policies = [], {}
    for folder in (stick / "inbox", stick / "inbox" / trust.gateway):
        with suppress(OSError), opened(folder) as at:
            for name in sorted(names(at)):
                if name == inbox.RECEIPT:
                    sealed = read_regular(at, name, wire.MESSAGE_LIMIT)
                    receipt = _receipt(sealed, trust)
                    if sealed is not None and receipt is not None:
                        receipts.append((receipt, sealed))
                elif name.startswith("policy-"):
                    sealed = read_regular(at, name, wire.SEALED_POLICY_LIMIT)
                    word = inbox.decide_policy(sealed, trust, None) if sealed is not None else None
                    if isinstance(word, inbox.NewPolicy):
                        # A stick may hold thousands of copies, each with other signatures: one of each version.
                        policies[word.policy.version] = word.sealed
    newest = max(receipts, key=lambda letter: letter[0].settled_seq, default=None)
    kept = sorted(policies)[-inbox.QUOTA["policy"] :]  # the inbox reads no more, and one between may have paused
    return newest, [policies[version] for version in kept]


def _receipt(sealed: bytes | None, trust: Trust) -> Receipt | None:
    """Returns what the centre has signed for this gateway, None for anything else."""
    if sealed is None:
        return None
    try:
        receipt = wire.open_receipt(sealed, trust.centre)
    except WireError:
        return None
    return receipt if (receipt.gateway, receipt.quartier) == (trust.gateway, trust.quartier) else None


def _health(config: GatewayConfig) -> bytes | None:
    with suppress(OSError), opened(config.outbox) as at:
        return read_regular(at, outbox.HEALTH, wire.MESSAGE_LIMIT)
    return None


def _longer(config: GatewayConfig, receipt: Receipt) -> int | None:
    """Returns how many entries a receipt tells of, if that is a log that `sense` will know, and report, once it has
    read it."""
    told = log.of_receipt(receipt.checkpoint)
    with _ledger(config) as db:
        table = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'journal'").fetchone()
        known = db.execute("SELECT size FROM journal").fetchone() if table else None
    return told.here.size if told is not None and (known is None or told.here.size > known[0]) else None


def _await_report(config: GatewayConfig, entries: int, pause: Callable[[float], None]) -> None:
    """Waits until `sense` has made a report of a log of so many entries, as long as it runs and may be about to."""
    for _ in range(_REPORT_WAIT_S):
        if _reported(config) >= entries or not _sense_runs(config):
            return
        pause(1.0)


def _reported(config: GatewayConfig) -> int:
    """Returns how many entries the last report tells of, 0 for none. Whose it is, the centre judges."""
    sealed = _health(config)
    if sealed is None:
        return 0
    try:
        said = wire.open_envelope(wire.unwrap(sealed), b"", lambda *_: None)
    except WireError:
        return 0
    return (said.log or 0) if isinstance(said, Health) else 0


def _sense_runs(config: GatewayConfig) -> bool:
    """Returns whether somebody holds gateway.db. To know it takes its lock for an instant, shared with others who ask;
    a `sense` that starts in that instant tries again (`gateway_db`)."""
    try:
        with (config.data / "gateway.db.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextmanager
def _ledger(config: GatewayConfig) -> Iterator[sqlite3.Connection]:
    path = config.data / "gateway.db"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            yield db
    except sqlite3.Error as error:
        raise MurmureError(f"{path}: cannot be read: {error}; run it as sense's user, after a first start") from error


def _deliver(config: GatewayConfig, receipt: tuple[Receipt, bytes] | None, policies: list[bytes]) -> None:
    try:
        if receipt is not None:
            write_whole(config.inbox, inbox.RECEIPT, receipt[1])
        for sealed in policies:
            write_whole(config.inbox, inbox.policy_name(sealed), sealed)
    except OSError as error:
        mend = "run this as root, and see that its disk has room"
        raise ExportError(f"{config.inbox}: cannot take what the centre sent ({error.strerror}); {mend}") from error


def _messages(config: GatewayConfig, receipt: tuple[Receipt, bytes] | None) -> tuple[int, dict[int, bytes]]:
    """Returns up to where the centre has settled, and every message after that or asked for again, oldest first."""
    settled, again = (receipt[0].settled_seq, receipt[0].again) if receipt else (0, ())
    with _ledger(config) as db:
        (own,) = db.execute("SELECT settled FROM head").fetchone()
        settled = max(settled, own)
        messages: dict[int, bytes] = {}
        for low, high in (*again, (settled + 1, 1 << 62)):
            rows = db.execute("SELECT seq, sealed FROM outbox WHERE seq BETWEEN ? AND ? ORDER BY seq", (low, high))
            messages.update(rows)
    return settled, messages


def _name(trust: Trust, seq: int) -> str:
    """Returns the file name of a message on a stick that several gateways may share."""
    return f"{trust.gateway}-{outbox.name_of(seq)}"


def _clear(folder: Path, trust: Trust, settled: int, wanted: dict[str, bytes]) -> int:
    """Removes this gateway's messages that the centre has. Returns how many."""
    removed = 0
    with opened(folder) as at:
        for name in set(names(at)) - wanted.keys():
            seq = outbox.seq_of(name.removeprefix(f"{trust.gateway}-"))
            if seq is not None and name == _name(trust, seq) and seq <= settled:
                os.unlink(name, dir_fd=at)
                removed += 1
    return removed


def _write(folder: Path, files: dict[str, bytes]) -> int:
    """Writes each file beside, syncs and renames it; what is there already stays. Returns how many messages were there.

    Raises ExportError, before anything is written, if they do not fit.
    """
    with opened(folder) as at:
        missing = {name: data for name, data in files.items() if read_regular(at, name, wire.MESSAGE_LIMIT) != data}
        disk = os.fstatvfs(at)
        blocks = sum(-(-len(data) // disk.f_frsize) for data in missing.values())
        if blocks > disk.f_bavail:
            needed, free = (count * disk.f_frsize // 1000 for count in (blocks, disk.f_bavail))
            raise ExportError(
                f"{folder}: {free} kB are free, {needed} kB are needed for {len(missing)} files; nothing was written: "
                "remove something, or take another stick"
            )
        for name, data in missing.items():
            put_whole(at, name, data)
        os.fsync(at)
    return sum(1 for name in files if name not in missing and not name.endswith(f"-{outbox.HEALTH}"))


@contextmanager
def _explained(stick: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = _WHY.get(error.errno or 0, f"cannot be written to ({error.strerror or error})")
        raise ExportError(f"{stick}: {why}; nothing is lost, all messages are on the gateway still") from error
