"""What was signed, and with which key: form and signature need neither the archive nor each other.

So it can be done in any process. This file is one as well, `python -m murmure_ingest.opener`, for openers.py alone: it
answers bundle after bundle and ends when its input does, whatever became of who started it. It has no archive, no
network, and of keys only the public one that comes with each message.
"""

from __future__ import annotations

import gc
import marshal
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, TypeVar

from murmure_privacy import wire
from murmure_privacy.errors import WireError

from murmure_ingest import signatures

Asked = tuple[str, bytes, bytes]
"""A gateway, the key that the register has for it, and a message that came on its topic."""
Answer = tuple[bytes | str, Any]
"""The key and, flattened, what it has signed; or reason and detail of why this is no message, for all that is asked."""
LENGTH_BYTES = 4
GARBAGE_AT = 50_000  # objects: what a message is made of has no cycles, and is looked through for them seldom

_T = TypeVar("_T")


def open_by(
    sealed: bytes, keys_of: Callable[[str], Iterable[bytes]], read: Callable[[wire.Envelope, bytes, wire.Check], _T]
) -> tuple[bytes, _T]:
    """Returns which of `keys_of` its speaker has signed a message, and what `read` makes of it.

    Raises WireError: for a gateway without a key `unknown_gateway`.
    """
    envelope = wire.unwrap(sealed)
    refusal = WireError("unknown_gateway", "no such gateway in the register")
    for key in keys_of(envelope.speaker):
        try:
            return key, read(envelope, key, signatures.check)
        except WireError as error:
            if error.reason != "bad_signature":
                raise
            refusal = error
    raise refusal


def pack(bundle: Sequence[Asked] | Sequence[Answer]) -> bytes:
    """Returns a bundle, of Asked or of Answer, as it goes from process to process."""
    body = marshal.dumps(list(bundle))
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def serve(asked: BinaryIO, answered: BinaryIO) -> None:
    """Answers bundles until the input ends."""
    while head := asked.read(LENGTH_BYTES):
        bundle: list[Asked] = marshal.loads(asked.read(int.from_bytes(head, "big")))
        answered.write(pack([_answer(*one) for one in bundle]))
        answered.flush()


def _answer(gateway: str, key: bytes, sealed: bytes) -> Answer:
    try:
        return open_by(sealed, lambda speaker: (key,) if speaker == gateway else (), wire.open_flat)
    except WireError as error:
        return error.reason, error.detail


def main() -> None:
    """Serves whoever started this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who is told to stop is the other one, and may still ask
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.set_threshold(GARBAGE_AT)
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except (BrokenPipeError, EOFError):
        sys.stdout = None  # nobody listens any more


if __name__ == "__main__":
    main()
