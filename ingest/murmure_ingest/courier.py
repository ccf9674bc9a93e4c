"""Messages on a USB key: a copy of a gateway's outbox in, its receipt and policy out.

Whoever had the key in hand chose its names: no link on it is followed, and nothing on it is waited for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from murmure_privacy import wire
from murmure_privacy.errors import ConfigError
from murmure_privacy.files import names, opened, put_whole, read_beginning

from murmure_ingest.archive import Archive, Enrolment
from murmure_ingest.gateways import policies_for
from murmure_ingest.intake import Intake, Word
from murmure_ingest.receipts import receipt

_BATCH = 200
_RECEIPT = "receipt.cose"


def import_folder(folder: Path, archive: Archive, intake: Intake, secret: bytes) -> list[Word]:
    """Files every `*.cose` of `folder` (or of its `outbox/`), in order of name, as if it had come by MQTT.

    There is no topic on a key: the speaker is whom the message names, if its key has signed. Where an `inbox/` lies
    beside the messages, `receipt.cose` and the newest `policy-….cose` of each speaker are left in it: by speaker, if
    there are several. Returns the word on each file.

    Raises ConfigError if there is no message, or if the key cannot be read or written to.
    """
    with _explained(folder), opened(folder.resolve()) as at:
        present = names(at)
        with opened("outbox" if "outbox" in present else ".", within=at) as outbox:
            words, heard = _file(outbox, archive, intake)
        if not words:
            raise ConfigError(str(folder), "folder", "no *.cose in it", "give a copy of a gateway's outbox folder")
        if "inbox" in present:
            with opened("inbox", within=at) as inbox:
                _answer(inbox, heard, archive, secret)
    return words


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        problem = f"{error.filename or 'it'}: {error.strerror or error}"
        mend = "see what is there and whether it can be written to, then import it again: nothing is filed twice"
        raise ConfigError(str(folder), "folder", problem, mend) from error


def _file(outbox: int, archive: Archive, intake: Intake) -> tuple[list[Word], list[Enrolment]]:
    """Returns the word on each message in the folder with descriptor `outbox`, and who spoke."""
    files = sorted(name for name in names(outbox) if name.endswith(".cose"))
    words: list[Word] = []
    for start in range(0, len(files), _BATCH):
        read = (read_beginning(outbox, name, wire.MESSAGE_LIMIT + 1) for name in files[start : start + _BATCH])
        words += intake.accept_many([(None, sealed) for sealed in read if sealed is not None])
    heard = (archive.enrolment(gateway) for gateway in dict.fromkeys(word.gateway for word in words) if gateway)
    return words, [line for line in heard if line is not None and line.status == "active"]


def _answer(inbox: int, heard: list[Enrolment], archive: Archive, secret: bytes) -> None:
    """Leaves each speaker's letters in the folder with descriptor `inbox`, or in one of its own if there are several.

    What an earlier import left in the other place is older, and would be read beside it: it goes.
    """
    for speaker in heard:
        if len(heard) == 1:
            _leave(inbox, speaker, archive, secret)
            with suppress(FileNotFoundError), opened(speaker.gateway, within=inbox) as own:
                os.unlink(_RECEIPT, dir_fd=own)
            return
        with suppress(FileExistsError):
            os.mkdir(speaker.gateway, dir_fd=inbox)
        with opened(speaker.gateway, within=inbox) as own:
            _leave(own, speaker, archive, secret)
        with suppress(FileNotFoundError):
            os.unlink(_RECEIPT, dir_fd=inbox)


def _leave(at: int, speaker: Enrolment, archive: Archive, secret: bytes) -> None:
    for policy in policies_for(archive, speaker):
        put_whole(at, f"policy-{policy.hash.hex()[:8]}.cose", policy.sealed)
    put_whole(at, _RECEIPT, receipt(archive, speaker, secret))
    os.fsync(at)
