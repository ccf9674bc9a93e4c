"""The town's own certificates: one authority, the gateways it vouches for, and the door at which they enrol.

Keys are P-256, since every broker and every TLS library has it. The authority signs client certificates whose common
name is the gateway's id and nothing else: the broker takes its rights from that name.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from murmure_privacy.errors import ConfigError, MurmureError

AUTHORITY_DAYS = 20 * 365
GATEWAY_DAYS = 3 * 365
"""A gateway may be without network for months; who must be kept out is revoked, not left to expire."""

_SMALL_ORDER = frozenset(
    bytes.fromhex(point)
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)
"""The points of order 1, 2, 4 and 8 in every encoding, the sign bit cleared (libsodium's list)."""

_BEFORE = timedelta(days=1)  # a gateway's clock may be behind


def _use(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


_USE_AUTHORITY, _USE_GATEWAY = _use(certificates=True), _use(certificates=False)


class CertificateError(MurmureError):
    """A certificate cannot be made of this: refuse, and say why."""


class Authority:
    """The town's certificate authority: `authority.key` and `authority.crt` in the centre's data folder, made at first
    use. Raises ConfigError if one of the two files is missing or spoiled."""

    def __init__(self, data_dir: Path, now: datetime) -> None:
        self._key, self._certificate = _pair(data_dir, "authority", now, authority=True)

    @property
    def pem(self) -> str:
        """The authority's certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def issue(self, request_pem: str, gateway: str, now: datetime) -> str:
        """Returns a gateway's client certificate (PEM) for the key that signed the request; what else the request asks
        for is not looked at. Raises CertificateError if it is no request of a P-256 key."""
        try:
            request = x509.load_pem_x509_csr(request_pem.encode("ascii"))
            key = request.public_key()
            sound = request.is_signature_valid
        except (ValueError, UnicodeEncodeError) as error:
            raise CertificateError("certificate request: cannot be read; update the gateway") from error
        if not sound or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise CertificateError("certificate request: not signed by a P-256 key of its own; update the gateway")
        certificate = (
            _builder(_name(gateway), key, self._certificate.subject, now, GATEWAY_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
            .add_extension(_USE_GATEWAY, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def holds_key(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Returns whether an Ed25519 signature shows that its maker holds the secret of this key.

    Points of small order are refused: under them one signature fits any message.
    """
    if len(public_key) != 32 or public_key[:31] + bytes([public_key[31] & 0x7F]) in _SMALL_ORDER:
        return False
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def enrolment_door(data_dir: Path, now: datetime) -> tuple[Path, bytes]:
    """Returns the file with key and certificate of the enrolment's TLS server, made at first use, and the SHA-256 of
    the certificate (DER), which claim codes carry. No authority vouches for it: the code does."""
    _, certificate = _pair(data_dir, "enrolment", now, authority=False)
    return data_dir / "enrolment.key", certificate.fingerprint(hashes.SHA256())


def _pair(
    data_dir: Path, name: str, now: datetime, *, authority: bool
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Returns key and self-signed certificate out of NAME.key, which holds both; NAME.crt is a copy to give away."""
    path = data_dir / f"{name}.key"
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(f"Murmure {name}")
        builder = _builder(subject, key.public_key(), subject, now, AUTHORITY_DAYS)
        constraints = x509.BasicConstraints(ca=authority, path_length=0 if authority else None)
        certificate = (
            builder.add_extension(constraints, critical=True)
            .add_extension(_USE_AUTHORITY if authority else _USE_GATEWAY, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = certificate.public_bytes(serialization.Encoding.PEM)
        _write(data_dir / f"{name}.crt", public, 0o644)
        _write(path, private + public, 0o600)
    content = path.read_bytes()
    try:
        loaded = serialization.load_pem_private_key(content, None)
        certificate = x509.load_pem_x509_certificate(content)
    except ValueError as error:
        raise ConfigError(str(path), "key", "cannot be read", "restore it from the backup of data_dir") from error
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise ConfigError(str(path), "key", "is no P-256 key", "restore it from the backup of data_dir")
    return loaded, certificate


def _write(path: Path, content: bytes, mode: int) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, issuer: x509.Name, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + timedelta(days=days))
    )
