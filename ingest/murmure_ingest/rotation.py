"""A gateway changes its record key: the old one names its successor, and is over once that has spoken.

The gateway's word (`murmure_privacy.enrolment.Rotation`) is filed when it comes. From then on both keys are believed: a
power cut on the gateway may leave it with either. The first thing that the new key signs makes it the gateway's key,
by a line of its own in the register. Of what the old one signed, only the messages that the word lists are still filed,
for as long as they need to come; whoever has stolen it can say nothing new, not even evidence of a clone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from murmure_privacy import wire
from murmure_privacy.enrolment import CHANGES_KEY, Rotation, read_rotation
from murmure_privacy.release import Health, Message

from murmure_ingest.archive import Archive, Enrolment
from murmure_ingest.certificates import holds_key
from murmure_ingest.gateways import RegisterError
from murmure_ingest.store import Filing, Register


def require_changeable(archive: Archive, gateway: str) -> Enrolment:
    """Returns the gateway's line of the register. Raises RegisterError if it may not change its key."""
    line = archive.enrolment(gateway)
    if line is None:
        raise RegisterError(f"gateway {gateway}: the register does not know it; see 'murmure gateway list'")
    if line.status != "active":
        raise RegisterError(f"gateway {gateway}: it is revoked; enrol a new one with --replaces {gateway}")
    if archive.cloned(gateway):
        raise RegisterError(
            f"gateway {gateway}: two cards have spoken with its key, and a new key would not tell which is the right "
            f"one; enrol a new gateway with --replaces {gateway}"
        )
    return line


def file_rotation(archive: Archive, gateway: str, record_key: bytes, statement: bytes, signature: bytes) -> None:
    """Files a gateway's word that `record_key`, which it has shown to hold, will speak for it (within a transaction).

    The same word again changes nothing; a later one of the same keys, with more messages, takes its place while the new
    key has not spoken. Raises RegisterError if it is not this gateway's word, or comes too late.
    """
    line = require_changeable(archive, gateway)
    try:
        rotation = read_rotation(statement)
    except ValueError as error:
        raise RegisterError("rotation: the request cannot be read; bring both to the same version") from error
    next_key = successor(archive, line)
    if (rotation.gateway, rotation.new) != (gateway, record_key):
        raise RegisterError(f"rotation: the request is not {gateway}'s; give each gateway its own code")
    if rotation.old not in (line.record_key, next_key) or not holds_key(
        rotation.old, signature, CHANGES_KEY + statement
    ):
        raise RegisterError(
            f"rotation: not signed by the key that speaks for {gateway}: this card is another gateway's, or an older "
            f"copy; if it is the right one, enrol it anew with --replaces {gateway}"
        )
    if any(other.record_key == record_key for other in archive.enrolment_lines()):
        raise RegisterError("rotation: the new key stands in the register already; ask for a new code")
    before = _words(archive, gateway, record_key)
    if before and before[0][0].newest > rotation.newest:
        raise RegisterError("rotation: the gateway has sent a later request already; this one is not believed")
    if before and before[0][0].statement == statement:
        return
    if rotation.old == next_key:
        _take_over(archive, line, rotation.old)
    archive.put_rotation(gateway, record_key, statement, signature)


def successor(archive: Register, line: Enrolment) -> bytes | None:
    """Returns the key that a gateway has named and that has not spoken yet, None if there is none."""
    named = archive.named_keys(line.gateway)
    if not named or any(other.record_key == named[0] for other in archive.lines_of(line.gateway)):
        return None
    return named[0]


def told_by_log(archive: Archive, line: Enrolment) -> bool:
    """Returns whether a gateway has changed its key and the archive knows the present one from the published log alone:
    the gateway named it after the backup that was restored."""
    lines = archive.lines_of(line.gateway)
    if all(other.record_key == line.record_key for other in lines):
        return False
    adopted = archive.adopted_lines()
    return line.record_key not in archive.named_keys(line.gateway) and any(
        other.record_key == line.record_key and other.id in adopted for other in lines
    )


def keys_of(archive: Register, line: Enrolment) -> Iterator[bytes]:
    """Yields every key that may have signed for a gateway, the present one first, which mostly is the one."""
    yield line.record_key
    others = [*archive.named_keys(line.gateway), *(other.record_key for other in archive.lines_of(line.gateway))]
    yield from (key for key in dict.fromkeys(others) if key != line.record_key)


def known_keys(archive: Register, gateway: str) -> Iterator[bytes]:
    """Yields `keys_of` a gateway by its name; none of an unknown one."""
    line = archive.enrolment(gateway)
    return iter(()) if line is None else keys_of(archive, line)


def line_of(archive: Filing, line: Enrolment, key: bytes, said: Message | Health, sealed: bytes) -> Enrolment | None:
    """Returns the line of the register to which belongs what `key`, one of `keys_of`, has signed (in a transaction).

    `line` is the newest. A key that was named takes over. None if the key is over, and this did not wait then.
    """
    if key == line.record_key:
        return line
    if key == successor(archive, line):
        return _take_over(archive, line, key)
    if isinstance(said, Message) and _awaited(archive, line, said, wire.digest(sealed)):
        return next((other for other in archive.lines_of(line.gateway) if other.record_key == key), None)
    return None


def unsigned_changes(archive: Archive) -> Iterator[str]:
    """Yields a line for each key in the register that took over without a word by the one before it. Words are not
    published: where a line was added from the published log, the log stands for it."""
    present: dict[str, list[bytes]] = {}
    adopted = archive.adopted_lines()
    for line in archive.enrolment_lines():
        keys = present.setdefault(line.gateway, [line.record_key])
        if line.record_key == keys[-1]:
            continue
        if line.id not in adopted and not any(
            rotation.gateway == line.gateway
            and rotation.old in keys
            and holds_key(rotation.old, signature, CHANGES_KEY + rotation.statement)
            for rotation, signature in _words(archive, line.gateway, line.record_key)
        ):
            yield f"{line.gateway}: line {line.id} of the register has a key that the one before it did not name"
        keys.append(line.record_key)


def _take_over(archive: Filing, line: Enrolment, record_key: bytes) -> Enrolment:
    archive.forget_health(line.gateway)  # whoever has the old key may have dated it so that no later one counts
    return archive.enrol(replace(line, record_key=record_key))


def _words(archive: Register, gateway: str, record_key: bytes) -> list[tuple[Rotation, bytes]]:
    """Returns what was said when this key was named, and the signature, newest first: a gateway asks again after a
    power cut."""
    return [(read_rotation(statement), signature) for statement, signature in archive.rotations(gateway, record_key)]


def _awaited(archive: Filing, line: Enrolment, message: Message, message_hash: bytes) -> bool:
    """Returns whether a message by an earlier key was waiting when the present one was named, or is settled already."""
    known = archive.find(line.gateway, message.seq)
    if known is not None and known.hash == message_hash:
        return True
    words = _words(archive, line.gateway, line.record_key)
    return bool(words) and words[0][0].lists(message.seq, message_hash)
