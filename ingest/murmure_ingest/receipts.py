"""The centre's signed word to a gateway: what is settled, and what was not filed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from murmure_privacy import log, wire
from murmure_privacy.errors import ConfigError
from murmure_privacy.release import Receipt

from murmure_ingest.archive import Enrolment
from murmure_ingest.proofs import growth, remembered
from murmure_ingest.store import Answers


def receipt(archive: Answers, enrolment: Enrolment, secret: bytes, of_log: bytes | None = None) -> bytes:
    """Returns the sealed receipt of a gateway as the archive stands.

    Settled is contiguous from 1: a gateway whose earlier messages were lost (a centre restored from an old backup)
    is told the number before the hole, and asked for what is missing, until it has sent that again. The checkpoint is
    the archive's running hash, and how far the log has come: `of_log`, or else with the proof from what the gateway
    last reported.
    """
    if of_log is None:
        of_log = log.growth_bytes(growth(archive, remembered(archive, enrolment)))
    totals = archive.totals(enrolment.gateway)
    return wire.seal_receipt(
        Receipt(
            gateway=enrolment.gateway,
            quartier=enrolment.quartier,
            settled_seq=totals.settled_seq,
            settled_hash=totals.settled_hash,
            exceptions=tuple(archive.exceptions(enrolment.gateway, totals.settled_seq)),
            charged_rho_micro=totals.charged_rho_micro,
            policy_version=archive.newest_version(enrolment.site),
            checkpoint=archive.head() + of_log,
            again=tuple(archive.missing(enrolment.gateway)),
        ),
        secret,
    )


def load_secret(path: Path) -> bytes:
    """Returns the 32-byte secret in a key file (64 hexadecimal digits). Raises ConfigError for any other content, and
    for a file that others than its owner may read."""
    if not path.is_file():
        raise ConfigError(
            str(path), "key", "there is no such file", "make it with 'murmure policy key' or check the path"
        )
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(str(path), "key", "others may read this secret", f"run 'chmod 600 {path}'")
    try:
        secret = bytes.fromhex(path.read_text("ascii").strip())
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise ConfigError(str(path), "key", "not a key", "a key file holds 64 hexadecimal digits")
    return secret


def write_secret(path: Path, secret: bytes) -> None:
    """Writes a key file (0600) that must not exist yet. Raises ConfigError if it does."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ConfigError(
            str(path), "key", "the file exists already", "choose another name; keys are not replaced"
        ) from error
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secret.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink()  # half of a key would be taken for one
        raise OSError(error.errno, error.strerror, str(path)) from error


def centre_key(data_dir: Path) -> bytes:
    """Returns the centre's secret, `centre.key` in its data folder, made at first use."""
    path = data_dir / "centre.key"
    if not path.exists():
        write_secret(path, wire.new_key()[0])
    return load_secret(path)
