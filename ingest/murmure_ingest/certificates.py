"""The town's own certificates: one authority, whom it vouches for, whom it does not any more, and the enrolment's door.

Keys are P-256, since every broker and every TLS library has it. The authority signs client certificates whose common
name is the gateway's id and nothing else: the broker takes its rights from that name. What it signs is written down
before it is handed out (`certificates.db`), so that it can be taken back.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sqlite3
import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from murmure_privacy.errors import ConfigError, MurmureError

from murmure_ingest.config import Tls

AUTHORITY_DAYS = 20 * 365
GATEWAY_DAYS = 3 * 365
"""A gateway may be without network for months; who must be kept out is revoked, not left to expire."""
OWN_DAYS = 365
"""Of the broker and the centre: they are at hand, and renewed by themselves."""
CRL_DAYS = 7
"""A broker refuses everybody once its revocation list is older: what keeps a list from being held back."""
CRL_ALARM_DAYS = 3.0
ISSUED = "certificates.db"
GATEWAY_ID = re.compile(r"gw-[a-z0-9_-]{1,37}")
CENTRE_NAME = re.compile(r"ingest(-[2-8])?|tail")
"""Common names of the centre's own clients; `ingest-2` and on are further workers."""

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
_PATIENCE_S = 10.0
_PEM = serialization.Encoding.PEM

_SCHEMA = """
CREATE TABLE IF NOT EXISTS certificates (
  serial TEXT PRIMARY KEY, name TEXT NOT NULL, until_s INTEGER NOT NULL, revoked_s INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS restored (last_row INTEGER NOT NULL) STRICT;
"""


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


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that the authority signed: its serial number (hex), its common name ("" where a revocation list
    alone remembers it), the end of its validity and the instant of its revocation, in seconds since 1970. `restored`:
    whether a backup remembers it, so that others may have been made after it."""

    serial: str
    name: str
    until_s: int
    revoked_s: int | None
    restored: bool


class Authority:
    """The town's certificate authority: `authority.key` and `authority.crt` in the centre's data folder, made at first
    use. Raises ConfigError if the key is missing or spoiled."""

    def __init__(self, data_dir: Path, now: datetime) -> None:
        self._data_dir = data_dir
        self._key, self._certificate = _pair(data_dir, "authority", now, authority=True)

    @property
    def pem(self) -> str:
        """The authority's certificate."""
        return self._certificate.public_bytes(_PEM).decode("ascii")

    def issue(self, request_pem: str, gateway: str, now: datetime) -> str:
        """Returns a gateway's client certificate (PEM) for the key that signed the request; what else the request asks
        for is not looked at. Raises CertificateError if it is no request of a P-256 key, or no gateway's id."""
        try:
            request = x509.load_pem_x509_csr(request_pem.encode("ascii"))
            key = request.public_key()
            sound = request.is_signature_valid
        except (ValueError, UnicodeEncodeError) as error:
            raise CertificateError("certificate request: cannot be read; update the gateway") from error
        if not sound or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise CertificateError("certificate request: not signed by a P-256 key of its own; update the gateway")
        return self._client(key, gateway, now)

    def issue_client(self, key_pem: str, name: str, now: datetime) -> str:
        """Returns a client certificate (PEM) for a key that was made here: of a gateway or of the centre itself.
        Raises CertificateError for any other name."""
        return self._client(_private(key_pem).public_key(), name, now)

    def issue_broker(self, key_pem: str, names: Sequence[str], now: datetime) -> str:
        """Returns a broker's certificate (PEM): it may be reached by these names and addresses, and is nobody's
        client."""
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        builder = self._builder(
            _private(key_pem).public_key(), "broker", now, OWN_DAYS, ExtendedKeyUsageOID.SERVER_AUTH
        )
        return self._sign(builder.add_extension(alternatives, critical=False), "broker")

    def revoke(self, name: str, now: datetime) -> int:
        """Takes back every certificate of a name, for good. Returns how many were valid until then."""
        query = "UPDATE certificates SET revoked_s = ? WHERE name = ? AND revoked_s IS NULL"
        with _issued_db(self._data_dir) as db:
            return db.execute(query, (int(now.timestamp()), name)).rowcount

    def take_back(self, serials: Iterable[str], now: datetime) -> int:
        """Takes back certificates by their numbers, for good. Returns how many were valid until then."""
        query = "UPDATE certificates SET revoked_s = ? WHERE serial = ? AND revoked_s IS NULL"
        with _issued_db(self._data_dir) as db:
            return sum(db.execute(query, (int(now.timestamp()), serial)).rowcount for serial in serials)

    def recall(self, path: Path) -> int:
        """Takes over what a revocation list of this authority has and the table has not: the table may be an older one,
        from a backup. Returns how many certificates that were; 0 without such a list."""
        found = 0
        with _issued_db(self._data_dir) as db:
            for serial, revoked_s in listed(path, self.pem).items():
                # Nobody knows when an unknown one ends: not later than one that was made at its revocation.
                found += db.execute(
                    "INSERT INTO certificates (serial, name, until_s, revoked_s) VALUES (?, '', ?, ?) "
                    "ON CONFLICT (serial) DO UPDATE SET revoked_s = excluded.revoked_s WHERE revoked_s IS NULL",
                    (serial, revoked_s + GATEWAY_DAYS * 86_400, revoked_s),
                ).rowcount
        return found

    def crl(self, now: datetime) -> bytes:
        """Returns the list (PEM) of what was taken back and has not ended by itself; it holds for CRL_DAYS."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - timedelta(hours=1))
            .next_update(now + timedelta(days=CRL_DAYS))
            .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for line in issued(self._data_dir):
            if line.revoked_s is not None and line.until_s > now.timestamp():
                builder = builder.add_revoked_certificate(
                    x509.RevokedCertificateBuilder()
                    .serial_number(int(line.serial, 16))
                    .revocation_date(datetime.fromtimestamp(line.revoked_s, UTC))
                    .build()
                )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM)

    def _client(self, key: ec.EllipticCurvePublicKey, name: str, now: datetime) -> str:
        if GATEWAY_ID.fullmatch(name):
            days = GATEWAY_DAYS
        elif CENTRE_NAME.fullmatch(name):
            days = OWN_DAYS
        else:
            raise CertificateError(f"certificate: {name!r}: no name of a gateway or of the centre; write gw-…")
        return self._sign(self._builder(key, name, now, days, ExtendedKeyUsageOID.CLIENT_AUTH), name)

    def _builder(
        self, key: ec.EllipticCurvePublicKey, name: str, now: datetime, days: int, use: x509.ObjectIdentifier
    ) -> x509.CertificateBuilder:
        return (
            _builder(_name(name), key, self._certificate.subject, now, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=True)
            .add_extension(_USE_GATEWAY, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def _sign(self, builder: x509.CertificateBuilder, name: str) -> str:
        """Signs, and writes down what was signed before anybody has it."""
        certificate = builder.sign(self._key, hashes.SHA256())
        until_s = int(certificate.not_valid_after_utc.timestamp())
        with _issued_db(self._data_dir) as db:
            db.execute(
                "INSERT INTO certificates (serial, name, until_s) VALUES (?, ?, ?)",
                (f"{certificate.serial_number:x}", name, until_s),
            )
        return certificate.public_bytes(_PEM).decode("ascii")


def issued(data_dir: Path) -> list[Issued]:
    """Returns what the authority of this folder signed, in the order in which it did."""
    if not (data_dir / ISSUED).exists():
        return []
    with _issued_db(data_dir) as db:
        rows = db.execute(
            "SELECT serial, name, until_s, revoked_s, rowid <= (SELECT coalesce(max(last_row), 0) FROM restored) "
            "FROM certificates ORDER BY rowid"
        ).fetchall()
    return [Issued(serial, name, until_s, at_s, bool(old)) for serial, name, until_s, at_s, old in rows]


def mark_restored(table: Path) -> None:
    """Writes into a table of certificates that what it has so far comes from a backup. Raises CertificateError."""
    with _opened(table) as db:
        db.execute("INSERT INTO restored SELECT coalesce(max(rowid), 0) FROM certificates")


def _issued_db(data_dir: Path) -> AbstractContextManager[sqlite3.Connection]:
    return _opened(data_dir / ISSUED)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Opens a table of certificates. Raises CertificateError where it is damaged or cannot be written."""
    if not path.exists():
        path.touch(mode=0o600)
        give_to_owner(path)
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=_PATIENCE_S)) as db:
            db.execute("PRAGMA synchronous = FULL")
            db.executescript(_SCHEMA)
            yield db
    except sqlite3.Error as error:
        raise CertificateError(
            f"{path}: {error}; look at the disk, or restore it from the backup of data_dir"
        ) from error


def new_private_key() -> str:
    """Returns a new P-256 key (PEM, not encrypted)."""
    return _private_pem(ec.generate_private_key(ec.SECP256R1())).decode("ascii")


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is asked of a certificate on disk. `names`: its subject alternative names, as written."""

    name: str
    names: tuple[str, ...]
    begin: datetime
    until: datetime


def read_certificate(path: Path, authority_pem: str) -> Certificate | None:
    """Returns what a certificate says, or None if there is none, or none that this authority signed."""
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
        found.verify_directly_issued_by(x509.load_pem_x509_certificate(authority_pem.encode("ascii")))
    except (FileNotFoundError, ValueError, TypeError, InvalidSignature):
        return None
    try:
        alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        alternatives = x509.SubjectAlternativeName([])
    return Certificate(
        str(found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value),
        tuple(str(name.value) for name in alternatives),
        found.not_valid_before_utc,
        found.not_valid_after_utc,
    )


def fingerprint(pem: bytes) -> bytes | None:
    """Returns the SHA-256 of a certificate (PEM); None for what is none."""
    try:
        return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256())
    except ValueError:
        return None


def is_key(path: Path) -> bool:
    """Returns whether a file holds a P-256 key (PEM, not encrypted)."""
    try:
        _private(path.read_text("ascii"))
    except (FileNotFoundError, ValueError, TypeError, CertificateError):
        return False
    return True


def is_key_of(key_path: Path, certificate_path: Path) -> bool:
    """Returns whether both files can be read and belong together."""
    try:
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    except (FileNotFoundError, ValueError, TypeError):
        return False
    return key.public_key() == certificate.public_key()


def crl_days_left(path: Path, now: datetime) -> float | None:
    """Returns how many days a revocation list (PEM) still holds, below 0 if past its date; None without one."""
    try:
        until = x509.load_pem_x509_crl(path.read_bytes()).next_update_utc
    except (OSError, ValueError):
        return None
    return None if until is None else (until - now) / timedelta(days=1)


def listed(path: Path, authority_pem: str) -> dict[str, int]:
    """Returns whom a revocation list (PEM) turns away: by serial number (hex), since when (seconds since 1970). Nobody
    where there is no list, or none that this authority signed."""
    try:
        found = x509.load_pem_x509_crl(path.read_bytes())
        key = x509.load_pem_x509_certificate(authority_pem.encode("ascii")).public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not found.is_signature_valid(key):
            return {}
    except (OSError, ValueError, TypeError):
        return {}
    return {f"{one.serial_number:x}": int(one.revocation_date_utc.timestamp()) for one in found}


def client_context(files: Tls, source: str, now: datetime) -> ssl.SSLContext:
    """Returns how the centre speaks to a broker over TLS. Raises ConfigError, one line, for a mistake in the files."""
    mend = "run 'murmure broker init DIR' and write the lines that it prints"

    def wrong(key: str, path: Path, problem: str, mend: str = mend) -> ConfigError:
        return ConfigError(source, f"broker.{key}", f"{path}: {problem}", mend)

    content: dict[str, bytes] = {}
    for key, path in (("authority", files.authority), ("certificate", files.certificate), ("key", files.key)):
        try:
            content[key] = path.read_bytes()
        except FileNotFoundError:
            raise wrong(key, path, "there is no such file") from None
        except OSError as error:
            reason = error.strerror or "cannot be read"
            raise wrong(key, path, reason, "run as the user of the centre, or let it read this file") from error
    parsed: dict[str, x509.Certificate] = {}
    for key, path in (("authority", files.authority), ("certificate", files.certificate)):
        try:
            parsed[key] = x509.load_pem_x509_certificate(content[key])
        except ValueError:
            raise wrong(key, path, "is no certificate") from None
    try:
        parsed["certificate"].verify_directly_issued_by(parsed["authority"])
    except (ValueError, TypeError, InvalidSignature):
        raise wrong("certificate", files.certificate, f"not signed by {files.authority}") from None
    for key, path in (("authority", files.authority), ("certificate", files.certificate)):
        until = parsed[key].not_valid_after_utc
        if until <= now:
            renew = "run 'murmure broker init DIR', which renews it"
            raise wrong(key, path, f"ended on {until:%Y-%m-%d}", renew)
    if not is_key_of(files.key, files.certificate):
        raise wrong("key", files.key, f"is not the key of {files.certificate}")
    context = ssl.create_default_context(cadata=content["authority"].decode("ascii"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False  # a broker is known by its subject alternative names
    context.load_cert_chain(files.certificate, files.key)
    return context


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
    copy = data_dir / f"{name}.crt"
    if not path.exists():
        if copy.exists():
            raise ConfigError(
                str(path), "key", f"is missing beside {copy.name}", "restore it from the backup of data_dir"
            )
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
        write_file(path, _private_pem(key) + certificate.public_bytes(_PEM), 0o600)
    content = path.read_bytes()
    try:
        loaded = serialization.load_pem_private_key(content, None)
        certificate = x509.load_pem_x509_certificate(content)
    except ValueError as error:
        raise ConfigError(str(path), "key", "cannot be read", "restore it from the backup of data_dir") from error
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise ConfigError(str(path), "key", "is no P-256 key", "restore it from the backup of data_dir")
    if not copy.exists():
        write_file(copy, certificate.public_bytes(_PEM), 0o644)
    return loaded, certificate


def write_file(path: Path, content: bytes, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Puts a file in its place at once, synced, for `owner` (user, group) or for the owner of its folder."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        give_to_owner(beside, owner)
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    beside.replace(path)


def give_to_owner(path: Path, owner: tuple[int, int] | None = None) -> None:
    """Gives what root made to `owner` (user, group), or to whom the folder belongs: the centre does not run as root."""
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.chown(path, *(owner or (folder.st_uid, folder.st_gid)))


def _private(key_pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(key_pem.encode("ascii"), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("key: is no P-256 key; remove it, and it is made anew")
    return key


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


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
