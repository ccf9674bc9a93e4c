"""Messages on a USB key: a copy of a gateway's outbox in, its receipt and policy out."""

from __future__ import annotations

from pathlib import Path

from murmure_privacy import wire
from murmure_privacy.errors import ConfigError, WireError

from murmure_ingest.archive import Archive, Enrolment
from murmure_ingest.intake import Intake, Word
from murmure_ingest.receipts import receipt

_UNKNOWN = "unknown"
_BATCH = 200


def import_folder(folder: Path, archive: Archive, intake: Intake, secret: bytes) -> list[Word]:
    """Files every `*.cose` of `folder` (or of its `outbox/`), in order of name, as if it had come by MQTT.

    There is no topic on a key: the speaker is whoever's registered key verifies the message. Where an `inbox/` lies
    beside the messages, `receipt.cose` and the newest `policy-….cose` of each speaker are left in it: by speaker, if
    there are several. Returns the word on each file.
    """
    outbox = folder / "outbox" if (folder / "outbox").is_dir() else folder
    files = sorted(path for path in outbox.glob("*.cose") if path.is_file())
    if not files:
        raise ConfigError(str(folder), "folder", "no *.cose in it", "give a copy of a gateway's outbox folder")
    register = [line for line in archive.enrolments() if line.status == "active"]
    words: list[Word] = []
    heard: dict[str, Enrolment] = {}
    for at in range(0, len(files), _BATCH):
        arrivals = []
        for path in files[at : at + _BATCH]:
            with path.open("rb") as file:
                sealed = file.read(wire.MESSAGE_LIMIT + 1)
            speaker, kind = _speaker(sealed, register)
            if speaker is not None:
                heard[speaker.gateway] = speaker
                # A key mostly carries one gateway's messages: its key is tried first for the next.
                register.remove(speaker)
                register.insert(0, speaker)
            place = f"{speaker.quartier}/{speaker.gateway}" if speaker else f"{_UNKNOWN}/{_UNKNOWN}"
            arrivals.append((f"murmure/v1/{place}/{kind}", sealed))
        words += intake.accept_many(arrivals)
    inbox = folder / "inbox"
    if inbox.is_dir():
        for speaker in heard.values():
            places = [inbox, inbox / speaker.gateway]
            _answer(places.pop(0 if len(heard) == 1 else 1), speaker, archive, secret)
            # What an earlier import left in the other place is older, and would be read beside it.
            (places[0] / "receipt.cose").unlink(missing_ok=True)
    return words


def _speaker(sealed: bytes, register: list[Enrolment]) -> tuple[Enrolment | None, str]:
    """Returns whose key verifies the bytes, and whether they are a `release` or a `health` report."""
    for line in register:
        for kind, opened in (("release", wire.open_message), ("health", wire.open_health)):
            try:
                opened(sealed, line.record_key)
            except WireError as error:
                if error.reason == "bad_signature":
                    break
                continue
            return line, kind
    return None, "release"


def _answer(inbox: Path, speaker: Enrolment, archive: Archive, secret: bytes) -> None:
    inbox.mkdir(exist_ok=True)
    newest = archive.newest_policy(speaker.site)
    if newest is not None:
        _write(inbox / f"policy-{newest.hash.hex()[:8]}.cose", newest.sealed)
    _write(inbox / "receipt.cose", receipt(archive, speaker, secret))


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".tmp")
    beside.write_bytes(content)
    beside.replace(path)
