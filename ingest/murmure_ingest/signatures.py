"""libsodium's check of a signature: half the time of OpenSSL's, without Python's lock, and never more lenient.

Whoever checks our messages with OpenSSL accepts whatever is accepted here (tests/ingest/test_signatures.py holds both
against each other). The other way round libsodium refuses keys and points of small order, which sign everything for
anyone, and keys in a second encoding: no gateway has such a key.
"""

from __future__ import annotations

from murmure_privacy.errors import WireError
from nacl.bindings import crypto_sign_open
from nacl.exceptions import CryptoError

_KEY_BYTES, _SIGNATURE_BYTES = 32, 64


def check(public: bytes, signature: bytes, signed: bytes) -> None:
    """Raises WireError `bad_signature` unless `public` (32 bytes) made `signature` (64 bytes) over `signed`."""
    if len(public) == _KEY_BYTES and len(signature) == _SIGNATURE_BYTES:
        try:
            crypto_sign_open(signature + signed, public)
        except CryptoError:
            pass
        else:
            return
    raise WireError("bad_signature", "the signature is not by the expected key")
