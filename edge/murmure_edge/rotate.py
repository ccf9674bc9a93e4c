"""`murmure edge enrol CODE --rotate`: an enrolled gateway changes both its keys, and its life goes on.

The new keys are made here and are on the disk before the centre hears of them. The request is signed by the old record
key and lists what that has sealed and the centre has not filed; the centre believes both keys until the new one has
spoken. So it does not matter where a power cut falls: one rename makes the new record key the gateway's, before it the
old one speaks and after it the new one, and the same command again goes on from there. `sense` is stopped meanwhile,
lest it seal what the list does not have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from murmure_privacy.enrolment import CHANGES_KEY, WAITING_LIMIT, Claim, Rotation, parse_claim
from murmure_privacy.errors import ConfigError
from murmure_privacy.wire import digest, public_key

from murmure_edge import config as files
from murmure_edge.config import GatewayConfig, Tls
from murmure_edge.enrol import (
    EnrolError,
    Enrolled,
    Keys,
    address,
    ask,
    done_with,
    give_to_owner,
    hand_over,
    new_keys,
    note_done,
    require_own,
    sign,
    write_private,
)
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.wipe import overwrite

_PENDING = "rotation.json"


def rotate(code: str, centre: str, config_path: Path, software: str) -> Enrolled:
    """Gives an enrolled gateway new keys. The same code again goes on where it was cut, and tells the same words.

    Raises ConfigError (no gateway is enrolled there; a file cannot be written), ClaimError (a typing error in the
    code), MurmureError while `sense` runs, or EnrolError (the centre is not there, is another, refuses, or answers what
    cannot be; too much waits to be sent).
    """
    claim = parse_claim(code)
    where = address(centre)
    config = files.load(config_path)
    pending = config.data / _PENDING
    try:
        done = done_with(claim, config.data)
        if done is None:
            with closing(GatewayDb.open(config.data / "gateway.db")) as db:
                for path in config.data.glob("gateway.db*"):  # sense may never have run
                    give_to_owner(path)
                done = _changed(config, db, claim, where, software)
            hand_over(config.data, config.send_data)
        with suppress(FileNotFoundError):
            overwrite(pending)  # its blocks held both keys
    except OSError as error:
        mend = "run it as root, with room on the disk, and try again with the same code"
        raise ConfigError(error.filename or str(pending), "file", error.strerror or "no", mend) from error
    return done


def _changed(config: GatewayConfig, db: GatewayDb, claim: Claim, where: tuple[str, int], software: str) -> Enrolled:
    pending, record_key = config.data / _PENDING, config.data / "record.key"
    trust = files.load_trust(config)
    secret = files.load_record_key(record_key)
    keys = new_keys(pending, claim)
    if secret != keys.record_secret:
        rotation = _rotation(trust.gateway, secret, keys, db)
        more = {
            "rotation": rotation.statement.decode("ascii"),
            "signed": sign(secret, CHANGES_KEY + rotation.statement).hex(),
        }
        tls = config.broker.tls if config.broker else None

        def parse(fields: Mapping[str, Any]) -> str:
            authority = tls.authority.read_text("ascii") if tls else fields["authority"]
            if fields["gateway"] != trust.gateway:
                raise ValueError("gateway")
            require_own(fields["certificate"], authority, keys)
            return str(fields["certificate"])

        certificate, words = ask(where, claim, keys, software, parse, more)
        # What comes after the switch must not need the centre again.
        write_private(pending, json.dumps({**json.loads(pending.read_text("ascii")), "words": words}))
        if tls is not None:
            _place(tls, keys, certificate)
        write_private(record_key, keys.record_secret.hex() + "\n")  # the switch
    done = Enrolled(trust.gateway, trust.site, str(json.loads(pending.read_text("ascii"))["words"]))
    note_done(claim, config.data, done)
    return done


def _rotation(gateway: str, secret: bytes, keys: Keys, db: GatewayDb) -> Rotation:
    """Returns the word of the old key: its successor, and what it has sealed that has no receipt."""
    first, waiting = db.settled + 1, db.next_message()[0] - 1 - db.settled
    if waiting > WAITING_LIMIT:
        raise EnrolError(
            f"{waiting} messages wait for their receipts, and at most {WAITING_LIMIT} may while the keys change: let "
            "`send` or a courier carry them first; nothing was changed"
        )
    hashes = tuple(digest(sealed) for _, sealed in sorted(db.rows().items()))
    return Rotation(gateway, public_key(secret), public_key(keys.record_secret), first, hashes)


def _place(tls: Tls, keys: Keys, certificate: str) -> None:
    """Puts the new TLS key and its certificate in place: in one rename where one file holds both, as enrolment names
    it; the other is a copy to give away. Where a hand has named two, a cut between them is mended by the same command.
    """
    write_private(tls.key, keys.tls_key_pem + certificate)
    copy = tls.key.with_suffix(".crt") if tls.certificate == tls.key else tls.certificate
    write_private(copy, certificate, 0o644)
