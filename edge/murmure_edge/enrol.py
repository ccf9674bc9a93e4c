"""`murmure edge enrol CODE`: a gateway makes its own keys and has them registered at the centre that gave the code.

Both keys are made here and never leave: the record key that signs releases (`sense`) and the TLS key (`send`). They are
on the disk before the centre hears of them, so that a cut line or a power cut is mended by the same command again.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID
from murmure_privacy import wire
from murmure_privacy.enrolment import MESSAGE_LIMIT, Claim, canonical, parse_claim, proof, proves, six_words
from murmure_privacy.errors import ConfigError, MurmureError
from murmure_privacy.window import LEVELS

from murmure_edge import config as files
from murmure_edge.gateway_db import GatewayDb
from murmure_edge.wipe import overwrite

_Parsed = TypeVar("_Parsed")

PORT = 8884
VERSION = 1
_PATIENCE_S = 20.0
_PENDING, _DONE, _TRIAL = "enrolment.json", "enrolled.json", ".enrol-"
_YEAR_S, _SOON_S = 373 * 86_400, 3 * 86_400
_MOST_S = 64 * _YEAR_S  # of every stream that a policy can name
_FAR_S = 1 << 40
_TLS_KEY, _TLS_CERTIFICATE, _AUTHORITY = "gateway.key", "gateway.crt", "authority.crt"


class EnrolError(MurmureError):
    """The enrolment did not come about; nothing was changed but keys that the next try will use."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a gateway's files go. `relative`: paths in gateway.toml are relative to it, so that the folder can move."""

    config: Path
    data: Path
    spool: Path
    send_data: Path

    @classmethod
    def beside(cls, config: Path) -> Layout:
        """Returns the layout in which everything lies in the folder of gateway.toml."""
        home = config.absolute().parent
        return cls(config.absolute(), home / "data", home / "spool", home / "send")

    @classmethod
    def installed(cls) -> Layout:
        """Returns the layout of the installed units (edge/systemd)."""
        state = Path("/var/lib")
        return cls(
            Path("/etc/murmure/gateway.toml"), state / "murmure", state / "murmure-spool", state / "murmure-send"
        )


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What came of it. `words`: the six words that the centre shows as well."""

    gateway: str
    site: str
    words: str


def enrol(code: str, centre: str, layout: Layout, software: str) -> Enrolled:
    """Enrols this gateway at `centre` (HOST or HOST:PORT) and writes its files; gateway.toml last, so that a gateway
    that has one is complete. The same code again tells the same words again.

    Raises ConfigError (there is a gateway already, or what one left behind; a folder cannot be written), ClaimError (a
    typing error in the code) or EnrolError (the centre is not there, is another, refuses, or answers what cannot be).
    """
    claim = parse_claim(code)
    where = address(centre)
    if layout.config.exists():
        return _again(claim, layout)
    try:
        for folder in (layout.data, layout.send_data):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout.config.parent.mkdir(parents=True, exist_ok=True)
        for left in layout.config.parent.glob(f"{_TRIAL}*"):
            shutil.rmtree(left)
        _require_no_past(layout.data / "gateway.db")
        keys = new_keys(layout.data / _PENDING, claim)
    except OSError as error:
        mend = "run it as root, or name another --config"
        raise ConfigError(error.filename or str(layout.data), "folder", error.strerror or "no", mend) from error
    told, words = ask(where, claim, keys, software, lambda fields: _parsed(fields, keys))
    try:
        _write_files(layout, told, keys, claim, words)
    except OSError as error:
        raise ConfigError(
            error.filename or str(layout.config),
            "file",
            error.strerror or "cannot be written",
            "mend it, and try again",
        ) from error
    return _again(claim, layout)


def _again(claim: Claim, layout: Layout) -> Enrolled:
    """Returns what came of this code before. Raises ConfigError if the gateway was enrolled with another one."""
    enrolled = done_with(claim, layout.data)
    if enrolled is None:
        mend = "keep it, or take it away with 'murmure edge wipe' first; for new keys write --rotate"
        raise ConfigError(str(layout.config), "file", "this gateway is enrolled already", mend)
    with suppress(FileNotFoundError):
        overwrite(layout.data / _PENDING)  # its blocks held both keys
    return enrolled


def done_with(claim: Claim, data: Path) -> Enrolled | None:
    """Returns what came of this code, if it was the last one that ended well here."""
    try:
        done = json.loads((data / _DONE).read_text("utf-8"))
        enrolled = Enrolled(str(done["gateway"]), str(done["site"]), str(done["words"]))
        return enrolled if done["claim"] == claim.name else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_done(claim: Claim, data: Path, done: Enrolled) -> None:
    """Writes down what came of a code. Raises OSError."""
    fields = {"claim": claim.name, "gateway": done.gateway, "site": done.site, "words": done.words}
    write_private(data / _DONE, json.dumps(fields) + "\n")


def _require_no_past(path: Path) -> None:
    """Raises ConfigError if a ledger lies there that has lived: it would give another id's messages to this one."""
    if not path.exists():
        return
    db = GatewayDb.open(path)
    try:
        lived = db.next_message()[0] > 1 or db.charged_rho_micro() or db.policies()
    finally:
        db.close()
    if lived:
        mend = "if it is not needed any more, take it away with 'murmure edge wipe' first"
        raise ConfigError(str(path), "file", "the ledger of another life of this gateway", mend)


def address(centre: str) -> tuple[str, int]:
    """Returns host and port of HOST or HOST:PORT. Raises ConfigError."""
    host, colon, port = centre.rpartition(":")
    if not colon or "]" in port or (":" in host and not host.startswith("[")):
        host, port = centre, str(PORT)
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError("--centre", centre, "is no address", f"write HOST or HOST:PORT ({PORT} if left out)")
    return host.strip("[]"), int(port)


@dataclass(frozen=True, slots=True)
class Keys:
    """A gateway's two secrets, the one that signs records (Ed25519) and the one of its TLS line, with the request (PEM)
    for the latter's certificate."""

    record_secret: bytes
    tls_key_pem: str
    csr_pem: str


def sign(record_secret: bytes, message: bytes) -> bytes:
    """Returns the Ed25519 signature of a record key."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(record_secret).sign(message)


def new_keys(pending: Path, claim: Claim) -> Keys:
    """Returns the keys of this claim, made and on the disk before anybody hears of them. Raises OSError."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        kept = json.loads(pending.read_text("ascii"))
        if kept["claim"] == claim.name:
            return Keys(bytes.fromhex(kept["record_secret"]), kept["tls_key"], kept["csr"])
    secret, _ = wire.new_key()
    key = ec.generate_private_key(ec.SECP256R1())
    # The centre names the gateway; a request must have some name.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    made = Keys(secret, private.decode("ascii"), request.public_bytes(pem).decode("ascii"))
    text = json.dumps(
        {"claim": claim.name, "record_secret": secret.hex(), "tls_key": made.tls_key_pem, "csr": made.csr_pem}
    )
    write_private(pending, text)
    return made


def give_to_owner(path: Path) -> None:
    """Gives what root made to whom its folder belongs: a power cut must leave no file of root's where another reads."""
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.chown(path, folder.st_uid, folder.st_gid, follow_symlinks=False)


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Writes a file that only its owner may read (or `mode`): beside, synced, renamed. It belongs to whom its folder
    belongs to. Raises OSError."""
    beside = path.with_name(f".{path.name}.new")
    with suppress(FileNotFoundError):
        beside.unlink()
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        give_to_owner(beside)
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def ask(
    where: tuple[str, int],
    claim: Claim,
    keys: Keys,
    software: str,
    parse: Callable[[Mapping[str, Any]], _Parsed],
    more: Mapping[str, str] = MappingProxyType({}),
) -> tuple[_Parsed, str]:
    """Asks the centre at host and port to register these keys; `more` goes into the request. Returns what `parse` makes
    of the answer, and the six words.

    Raises EnrolError if the centre is not there, is another, refuses, or answers what `parse` refuses by ValueError,
    KeyError, TypeError, AttributeError or InvalidSignature.
    """
    request, answer, fingerprint = _exchange(*where, claim, keys, {"software": software, **more})
    return _believed(answer, request, claim, fingerprint, parse), six_words(fingerprint, request, answer)


def _exchange(host: str, port: int, claim: Claim, keys: Keys, more: Mapping[str, str]) -> tuple[bytes, bytes, bytes]:
    """Returns the request, the centre's answer and the SHA-256 of the certificate that it came under."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the code vouches for the certificate, not a name or an authority
    context.verify_mode = ssl.CERT_NONE
    try:
        deadline = time.monotonic() + _PATIENCE_S
        with (
            socket.create_connection((host, port), timeout=_PATIENCE_S) as plain,
            context.wrap_socket(plain) as line,
        ):
            certificate = line.getpeercert(binary_form=True) or b""
            digest = hashes.Hash(hashes.SHA256())
            digest.update(certificate)
            fingerprint = digest.finalize()
            if fingerprint[: len(claim.pin)] != claim.pin:
                raise EnrolError(
                    f"{host}:{port}: is not the centre that gave this code; check the address, and that nobody is on "
                    "the line; nothing was sent"
                )
            fields = {
                "v": VERSION,
                "claim": claim.name,
                "record_key": wire.public_key(keys.record_secret).hex(),
                "csr": keys.csr_pem,
                **more,
            }
            fields["possession"] = sign(keys.record_secret, fingerprint + canonical(fields)).hex()
            request = canonical({**fields, "proof": proof(claim.key, "gateway", fingerprint, canonical(fields))})
            line.sendall(len(request).to_bytes(4, "big") + request)
            length = int.from_bytes(_exactly(line, 4, deadline), "big")
            if length > MESSAGE_LIMIT:
                raise EnrolError(f"{host}:{port}: answers with too much; it is no centre of ours")
            return request, _exactly(line, length, deadline), fingerprint
    except (OSError, EOFError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise EnrolError(
            f"{host}:{port}: the centre cannot be reached ({why}); check the network and try again with the same code"
        ) from error


def _exactly(line: socket.socket, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise EOFError("it is too slow")
        line.settimeout(left_s)
        piece = line.recv(size - len(data))
        if not piece:
            raise EOFError("it closed the connection")
        data += piece
    return data


@dataclass(frozen=True, slots=True)
class _Told:
    """What the centre answers: everything that goes into the gateway's files, of the right kind."""

    gateway: str
    trust_toml: str
    ports_toml: str
    host: str
    port: int
    mqtt: int
    certificate: str
    authority: str
    spent: tuple[tuple[str, int, int, int], ...]
    closed: tuple[tuple[str, str, int, int], ...]


def _believed(
    answer: bytes, request: bytes, claim: Claim, fingerprint: bytes, parse: Callable[[Mapping[str, Any]], _Parsed]
) -> _Parsed:
    """Returns an answer whose sender knows the code and whose parts can be. Raises EnrolError."""
    try:
        fields = json.loads(answer)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or fields.get("v") != VERSION:
        raise EnrolError("enrolment: the centre's answer cannot be read; bring both to the same version")
    if "error" in fields:
        said = str(fields["error"])[:300]
        raise EnrolError(f"the centre refuses: {''.join(c if c.isprintable() else '?' for c in said)}")
    given = fields.pop("proof", None)
    try:
        believed = proves(given, claim.key, "centre", fingerprint, request, canonical(fields))
    except ValueError:
        believed = False  # half a character: no centre of ours writes that
    if not believed:
        raise EnrolError("enrolment: whoever answered does not know the code: somebody is on the line; tell the centre")
    try:
        return parse(fields)
    except (ValueError, KeyError, TypeError, AttributeError, InvalidSignature) as error:
        raise EnrolError(
            "enrolment: the centre's answer is not whole or cannot be; bring both to the same version, and tell it"
        ) from error


def _parsed(fields: Mapping[str, Any], keys: Keys) -> _Told:
    """Raises ValueError, KeyError, TypeError, AttributeError or InvalidSignature for what cannot be."""
    broker = fields["broker"]
    told = _Told(
        gateway=_text(fields["gateway"]),
        trust_toml=_text(fields["trust_toml"]),
        ports_toml=_text(fields["ports_toml"]),
        host=_text(broker["host"]),
        port=_number(broker["port"], 1, 65535),
        mqtt=_number(broker["mqtt"], 4, 5),
        certificate=_text(fields["certificate"]),
        authority=_text(fields["authority"]),
        spent=tuple(
            (_text(stream), _number(a, 0, _FAR_S), _number(b, a + 1, _FAR_S), _number(rho, 1, 1 << 40))
            for stream, a, b, rho in fields["spent"]
        ),
        closed=tuple(
            (_text(stream), _level(level), _number(a, 0, _FAR_S), _number(b, a + 1, _FAR_S))
            for stream, level, a, b in fields.get("closed", ())  # a centre of before knew no such word
        ),
    )
    if told.ports_toml.strip() and not told.ports_toml.lstrip().startswith("[[port]]"):
        raise ValueError("ports")  # keys before the first table would be the broker's
    # The centre's own day stands in the certificate: a gateway may not know its own yet.
    now_s = require_own(told.certificate, told.authority, keys)
    spans = [b - a for _, a, b, _ in told.spent]
    if any(b > now_s + _SOON_S for _, _, b, _ in told.spent) or sum(spans) > _MOST_S or max(spans, default=0) > _YEAR_S:
        raise ValueError("spent")
    if len({node[:3] for node in told.closed}) < len(told.closed):
        raise ValueError("closed")
    return told


def require_own(certificate_pem: str, authority_pem: str, keys: Keys) -> int:
    """Returns when a certificate begins (UTC seconds). Raises ValueError, TypeError or InvalidSignature if the
    authority has not signed it, or not for these keys."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode("ascii"))
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority_pem.encode("ascii")))
    if certificate.public_key() != x509.load_pem_x509_csr(keys.csr_pem.encode("ascii")).public_key():
        raise ValueError("certificate")
    return int(certificate.not_valid_before_utc.timestamp())


def certificate_end_s(certificate_pem: str) -> int:
    """Returns when a certificate (PEM) ends (UTC seconds). Raises ValueError for what is none."""
    return int(x509.load_pem_x509_certificate(certificate_pem.encode("ascii")).not_valid_after_utc.timestamp())


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    value.encode("utf-8")
    return value


def _level(value: object) -> str:
    if value not in LEVELS:
        raise ValueError(value)
    return _text(value)


def _number(value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(value)
    return value


def _write_files(layout: Layout, told: _Told, keys: Keys, claim: Claim, words: str) -> None:
    """Checks the files as the gateway will read them, then puts them in their places."""
    home = layout.config.parent

    def place(path: Path) -> str:
        # Inside one folder paths are relative, so that it can be moved as a whole.
        return str(path.relative_to(home) if path.is_relative_to(home) else path)

    toml = "".join(
        f"{key} = {json.dumps(value)}\n"
        for key, value in (
            ("gateway", told.gateway),
            ("data", place(layout.data)),
            ("outbox", place(layout.spool / "outbox")),
            ("inbox", place(layout.spool / "inbox")),
            ("send_data", place(layout.send_data)),
            ("trust", "trust.toml"),
        )
    )
    toml += f"\n[broker]\nhost = {json.dumps(told.host)}\nport = {told.port}\nmqtt = {told.mqtt}\n"
    toml += "".join(
        f"{key} = {json.dumps(place(layout.send_data / name))}\n"
        # The key's file holds the certificate too, so that both can be changed in one rename.
        for key, name in (("authority", _AUTHORITY), ("certificate", _TLS_KEY), ("key", _TLS_KEY))
    )
    toml += told.ports_toml
    with tempfile.TemporaryDirectory(dir=home, prefix=_TRIAL) as trial:
        # Read from the same depth, so that relative paths mean the same.
        (Path(trial) / "gateway.toml").write_text(toml, "utf-8")
        (Path(trial) / "trust.toml").write_text(told.trust_toml, "utf-8")
        site = files.load_trust(files.load(Path(trial) / "gateway.toml")).site
    write_private(layout.data / "record.key", keys.record_secret.hex() + "\n")
    write_private(layout.send_data / _TLS_KEY, keys.tls_key_pem + told.certificate)
    write_private(layout.send_data / _TLS_CERTIFICATE, told.certificate, 0o644)
    write_private(layout.send_data / _AUTHORITY, told.authority, 0o644)
    if told.spent or told.closed:
        _carry(layout.data / "gateway.db", told)
    write_private(home / "trust.toml", told.trust_toml, 0o644)
    note_done(claim, layout.data, Enrolled(told.gateway, site, words))
    hand_over(layout.data, layout.send_data)
    write_private(layout.config, toml, 0o644)


def _carry(path: Path, told: _Told) -> None:
    """Begins the ledger with what earlier gateways of the site spent and closed; begins it anew if a power cut came in
    between."""
    for left in path.parent.glob(f"{path.name}*"):
        left.unlink()
    db = GatewayDb.open(path)
    try:
        db.carry(told.spent, told.closed)
    finally:
        db.close()


def hand_over(data: Path, send_data: Path) -> None:
    """Gives each process its own folder, where their users exist (edge/systemd) and this is root. Links stay links."""
    if os.geteuid() != 0:
        return
    for name, folder in (("murmure-sense", data), ("murmure-send", send_data)):
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            for path in (folder, *folder.iterdir()):
                os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
