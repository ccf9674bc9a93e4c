"""The register: who may speak, for which site, under whose policies. And the making of a gateway's two files.

The register is the table `enrolments` of the archive, so that the archive and the keys that open it are one file.
Its lines are never changed: the newest line of a gateway holds.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from murmure_privacy import wire
from murmure_privacy.decide import (
    FLOOR,
    NOTICE_S,
    UNDECIDED,
    Ceiling,
    Refuse,
    Signed,
    Verdict,
    compare,
    decide,
    loosens,
)
from murmure_privacy.errors import ConfigError, MurmureError, WireError
from murmure_privacy.plan import Plan
from murmure_privacy.window import parse_utc, utc

from murmure_ingest.archive import Archive, Enrolment, StoredPolicy
from murmure_ingest.certificates import GATEWAY_ID, Authority, new_private_key, write_file
from murmure_ingest.config import DecidingConfig, IngestConfig
from murmure_ingest.receipts import centre_key, load_secret, write_secret
from murmure_ingest.rules import PolicyRules
from murmure_ingest.store import Store

_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")  # one level of a topic, and a common name
_PORT_KEYS = ("name", "device", "path")
_SEND_DATA = "send"
POLICIES_TOGETHER = 32  # as many as a gateway's inbox reads at once, and some room
_HEX_KEY = re.compile(r"[0-9a-fA-F]{64}")


class RegisterError(MurmureError):
    """The register does not allow this: another gateway, key or policy is needed."""


@dataclass(frozen=True, slots=True)
class Port:
    """One `[[port]]` of gateway.toml. `streams` maps a driver's quantity to a stream id; `options` are the device's
    own settings (e.g. `rate_hz`)."""

    name: str
    device: str
    path: str
    streams: Mapping[str, str]
    options: Mapping[str, int | str | bool]


def parse_port(text: str) -> Port:
    """Returns the port described by `name=beam,device=tfluna,path=/dev/…,footfall=plaza/footfall[,rate_hz=10]`.

    A value with a slash under another key than name, device and path is a stream. Raises ConfigError.
    """
    pairs: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or not key or not value or key in pairs:
            raise ConfigError(
                "--port", part, "not a new KEY=VALUE", "write name=…,device=…,path=…,footfall=SITE/footfall"
            )
        pairs[key] = value
    missing = [key for key in _PORT_KEYS if key not in pairs]
    if missing:
        raise ConfigError("--port", missing[0], "it is missing", f"add {missing[0]}=…")
    rest = {key: value for key, value in pairs.items() if key not in _PORT_KEYS}
    return Port(
        pairs["name"],
        pairs["device"],
        pairs["path"],
        {key: value for key, value in rest.items() if "/" in value},
        {key: int(value) if value.isdecimal() else value for key, value in rest.items() if "/" not in value},
    )


def parse_public_key(text: str) -> bytes:
    """Returns the 32 bytes of a public key given as 64 hexadecimal digits or as a file that holds them."""
    digits = text
    if not _HEX_KEY.fullmatch(text) and Path(text).is_file():
        digits = Path(text).read_text("ascii", "replace").strip()
    if not _HEX_KEY.fullmatch(digits):
        raise ConfigError(
            "--steward", text, "not a public key", "give 64 hexadecimal digits or the file that holds them"
        )
    return bytes.fromhex(digits)


def new_secret(path: Path) -> bytes:
    """Makes a signing key: writes its secret to `path` (0600), its public half beside it (`.pub`). Returns the latter.

    Raises ConfigError if the file exists: keys are not replaced.
    """
    secret, public = wire.new_key()
    write_secret(path, secret)
    path.with_name(path.name + ".pub").write_text(public.hex() + "\n")
    return public


def require_role(role: str) -> None:
    """Raises ConfigError unless this can be the name of a role."""
    if not _SLUG.fullmatch(role):
        raise ConfigError("policy key", "--role", f"{role!r} is no role", 'write a word such as "steward" or "dpo"')


def new_gateway_id() -> str:
    """Returns an id that nobody has: gw- and 16 random letters and digits."""
    return "gw-" + base64.b32encode(secrets.token_bytes(10)).decode("ascii").lower()


def enrol_local(
    archive: Archive,
    config: IngestConfig,
    folder: Path,
    *,
    gateway: str,
    site: str,
    quartier: str,
    stewards: Sequence[bytes],
    signatures_required: int = 1,
    ports: Sequence[Port] = (),
    policies: Sequence[bytes] = (),
    simulated: bool = False,
    now: datetime | None = None,
) -> Enrolment:
    """Makes a gateway on this machine and registers it: both halves of an enrolment.

    Writes into `folder` `gateway.toml`, `trust.toml` and `data/record.key` (0600), files the sealed `policies` of its
    site as `publish_policy` does, and returns the line of the register. Where the broker speaks TLS, `send` gets a
    certificate that begins at `now`. Raises ConfigError for bad names and existing files, RegisterError if the id was
    ever given away; nothing is written if a policy is refused.
    """
    require_slot(archive, gateway, site, quartier, stewards, signatures_required)
    pinned = pinned_now(archive, config.deciding, site, stewards, signatures_required, now)
    first = [_of_site(sealed, site) for sealed in policies]
    if pinned.policy_version == 0:  # what comes to a site that has a policy may loosen it, and has to wait
        pinned = replace(pinned, policy_version=max(first, default=0))
    if config.broker.tls is not None and now is None:
        raise ValueError("a certificate begins at an instant: give `now`")
    secret, public = wire.new_key()
    enrolment = Enrolment(gateway, quartier, site, public, tuple(dict.fromkeys(stewards)), signatures_required)
    with archive.transaction():
        enrolment = archive.enrol(enrolment, pinned.logged)
        for sealed in policies:
            _file_policy(archive, sealed, "policy", None if now is None else int(now.timestamp()), config.deciding)
        problem = first_refused(archive, site, stewards, signatures_required, pinned)
        if policies and problem is not None:
            raise RegisterError(problem)
        data = folder / "data"
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(data / "record.key", secret)
        if config.broker.tls is not None and now is not None:
            _certify(config.data_dir, folder / _SEND_DATA, gateway, now)
        centre = wire.public_key(centre_key(config.data_dir))
        (folder / "gateway.toml").write_text(gateway_toml(gateway, config, ports), "utf-8")
        (folder / "trust.toml").write_text(trust_toml(enrolment, centre, simulated, pinned), "utf-8")
    return enrolment


def _of_site(sealed: bytes, site: str) -> int:
    """Returns the version of a sealed policy. Raises ConfigError if it is none, or one of another site."""
    rules = PolicyRules(_unsealed(sealed, "policy"), "policy")
    if rules.site != site:
        mend = f"give one of {site!r}, and this one to 'murmure policy publish'"
        raise ConfigError("gateway enrol", "--policy", f"it is for {rules.site!r}, not {site!r}", mend)
    return rules.version


def _certify(data_dir: Path, folder: Path, gateway: str, now: datetime) -> None:
    """Writes a gateway's TLS key and certificate, and the authority's, as `murmure edge enrol` does."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority, key = Authority(data_dir, now), new_private_key()
    certificate = authority.issue_client(key, gateway, now)
    write_file(folder / "gateway.key", (key + certificate).encode("ascii"), 0o600)  # both, to be changed in one rename
    write_file(folder / "gateway.crt", certificate.encode("ascii"), 0o644)
    write_file(folder / "authority.crt", authority.pem.encode("ascii"), 0o644)


def require_slot(
    archive: Archive, gateway: str, site: str, quartier: str, stewards: Sequence[bytes], signatures_required: int
) -> None:
    """Raises ConfigError for bad names and numbers, RegisterError if the id was ever given away."""
    if not GATEWAY_ID.fullmatch(gateway):
        raise ConfigError("gateway enrol", gateway, "no gateway id", "write gw- and at most 37 of a-z, 0-9, - and _")
    for key, slug in (("--site", site), ("--quartier", quartier)):
        if not _SLUG.fullmatch(slug):
            raise ConfigError("gateway enrol", key, f"{slug!r} is no slug", "write at most 40 of a-z, 0-9, - and _")
    if not 1 <= signatures_required <= len(set(stewards)):
        raise ConfigError(
            "gateway enrol",
            "--signatures",
            f"{signatures_required} of {len(set(stewards))} stewards' keys cannot be required",
            "require at least 1 and at most as many as there are --steward",
        )
    if archive.enrolment(gateway) is not None:
        raise RegisterError(f"gateway {gateway}: the register knows this id already; ids are never used twice")


def gateway_toml(gateway: str, config: IngestConfig, ports: Sequence[Port]) -> str:
    """Returns the text of gateway.toml; its paths are relative to the folder that holds it."""
    lines = [
        f"gateway = {_toml(gateway)}",
        'data = "data"                # gateway.db and record.key: sense only',
        'outbox = "spool/outbox"',
        'inbox = "spool/inbox"',
        f'send_data = "{_SEND_DATA}"           # send.db and gateway.key: send only',
        'trust = "trust.toml"',
        "",
        "[broker]",
        f"host = {_toml(config.broker.host)}",
        f"port = {config.broker.port}",
        f"mqtt = {config.broker.mqtt}",
    ]
    if config.broker.tls is not None:
        files = (("authority", "authority.crt"), ("certificate", "gateway.key"), ("key", "gateway.key"))
        lines += [f'{key} = "{_SEND_DATA}/{name}"' for key, name in files]
    return "\n".join(lines) + "\n" + ports_toml(ports)


def ports_toml(ports: Sequence[Port]) -> str:
    """Returns the `[[port]]` tables of gateway.toml."""
    lines = []
    for port in ports:
        streams = ", ".join(f"{key} = {_toml(value)}" for key, value in port.streams.items())
        lines += ["", "[[port]]", f"name = {_toml(port.name)}", f"device = {_toml(port.device)}"]
        lines += [f"path = {_toml(port.path)}", f"streams = {{ {streams} }}"]
        lines += [f"{key} = {_toml(value)}" for key, value in port.options.items()]
    return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Pinned:
    """By what a gateway judges policies: the role of each of its stewards, in their order, or none; the most that one
    unit in each stream of its site may cost together; and the version of the newest policy that the site has, 0 for
    none, so that the gateway begins with no older one."""

    roles: tuple[str, ...] = ()
    ceiling_rho_micro: int = FLOOR.rho_micro
    policy_version: int = 0

    @property
    def logged(self) -> dict[str, object]:
        """Returns what the log says of it."""
        roles = {"roles": list(self.roles)} if self.roles else {}
        return {**roles, "ceiling_rho_micro": self.ceiling_rho_micro, "policy_version": self.policy_version}


def pinned_now(
    archive: Archive,
    deciding: DecidingConfig,
    site: str,
    stewards: Sequence[bytes],
    signatures_required: int,
    now: datetime | None,
) -> Pinned:
    """Returns what an enrolment pins at this instant; None where nobody asks the time. Raises ConfigError, and
    RegisterError while the site's newest policy is in its notice, since a new gateway takes its first policy at once,
    or if a new gateway would refuse it: see `begin`."""
    until_s = notice_until_s(archive, site)
    if now is not None and now.timestamp() < until_s:
        raise RegisterError(
            f"site {site}: a policy that loosens is in its notice until {utc(until_s)}, and a new gateway would take "
            "it at once; enrol it then"
        )
    pinned = Pinned(require_roles(deciding, stewards), deciding.ceiling_rho_micro(site))
    return begin(archive, site, stewards, signatures_required, pinned)


def begin(archive: Archive, site: str, stewards: Sequence[bytes], signatures_required: int, pinned: Pinned) -> Pinned:
    """Returns what is pinned with the site's newest policy as the one to begin with. Raises RegisterError if the new
    gateway would refuse that one, since it takes none before it, and would wait seven days for the next. Where no
    gateway serves the site, nobody could publish the next: there it is no error."""
    problem = first_refused(archive, site, stewards, signatures_required, pinned)
    if problem is not None and any(line.site == site and line.status == "active" for line in archive.enrolments()):
        raise RegisterError(f"{problem}, and enrol it then")
    return replace(pinned, policy_version=archive.newest_version(site))


def first_refused(
    archive: Archive, site: str, stewards: Sequence[bytes], signatures_required: int, pinned: Pinned
) -> str | None:
    """Returns why a gateway with these pins would refuse the site's newest policy as its first, with the mend."""
    newest = archive.newest_policy(site)
    if newest is None:
        return None
    verdict = _verdict(newest.sealed, PolicyRules(newest.toml).plan, None, stewards, signatures_required, pinned)
    if not isinstance(verdict, Refuse):
        return None
    return (
        f"site {site}: a new gateway would refuse version {newest.version}, the newest, as its first policy "
        f"({verdict.reason}: {verdict.detail.partition(': ')[0]}) and takes no older one; publish version = "
        f"{newest.version + 1} that it would take"
    )


def _verdict(
    sealed: bytes, made: Plan, current: Plan | None, stewards: Sequence[bytes], required: int, pinned: Pinned
) -> Verdict:
    """Returns what a gateway with these pins makes of a policy beside the current one, as it comes."""
    keys = wire.policy_signers(sealed, dict.fromkeys(stewards))
    roles = dict(zip(dict.fromkeys(stewards), pinned.roles, strict=False)) or {key: key.hex() for key in keys}
    ceiling = Ceiling(pinned.ceiling_rho_micro, required, 2 if pinned.roles else required, pinned.policy_version)
    signed = Signed(made, len(keys), frozenset(roles[key] for key in keys if roles[key]))
    return decide(current, signed, ceiling, FLOOR, None, 0)


def notice_until_s(archive: Archive, site: str) -> int:
    """Returns the instant (UTC seconds) at which the notice of every loosening that was published for a site is over,
    by the log; 0 if nothing loosened, or nobody knows when that was published."""
    rows = archive.log_rows()
    told = {
        number: json.loads(entry)["published"]
        for _, kind, subject, number, entry, _ in rows
        if (kind, subject) == ("policy", site)
    }
    until_s = 0
    for before, after in pairwise(archive.policies(site)):
        published = told.get(after.version)
        if published and loosens(compare(PolicyRules(before.toml).plan, PolicyRules(after.toml).plan)):
            until_s = max(until_s, parse_utc(published) + NOTICE_S)
    return until_s


def loosening_takes(deciding: DecidingConfig, stewards: Sequence[bytes], signatures_required: int) -> int:
    """Returns how many keys must sign a loosening: of two roles, or as many as any policy where there are no roles."""
    return 2 if deciding.roles_of(stewards) else signatures_required


def require_roles(deciding: DecidingConfig, stewards: Sequence[bytes]) -> tuple[str, ...]:
    """Returns the role of each steward (each key once), none if none has one. Raises ConfigError if some have none, or
    all the same: such a gateway could never be loosened, or by one person with two keys."""
    keys = tuple(dict.fromkeys(stewards))
    roles = deciding.roles_of(keys)
    if roles and (len(roles) < len(keys) or len(set(roles)) < 2):
        missing = next((key.hex()[:16] for key in keys if key not in deciding.roles), "every key")
        problem = f"{missing}… has no role" if len(roles) < len(keys) else f"{missing} has the same role, {roles[0]}"
        mend = "give each --steward a role under [deciding.roles] in ingest.toml, at least two different ones, or none"
        raise ConfigError("gateway enrol", "--steward", problem, mend)
    return roles


def trust_toml(enrolment: Enrolment, centre: bytes, simulated: bool, pinned: Pinned) -> str:
    """Returns the text of trust.toml: whom the gateway believes. `sense` reads it at start, never from the inbox."""
    return (
        f"gateway = {_toml(enrolment.gateway)}\n"
        f"quartier = {_toml(enrolment.quartier)}\n"
        f"site = {_toml(enrolment.site)}\n"
        f'centre = "{centre.hex()}"\n'
        f"stewards = {_toml([key.hex() for key in enrolment.stewards])}\n"
        + (f"roles = {_toml(list(pinned.roles))}\n" if pinned.roles else "")
        + f"signatures_required = {enrolment.signatures_required}\n"
        f"ceiling_rho_micro = {pinned.ceiling_rho_micro}\n"
        + (f"policy_version = {pinned.policy_version}\n" if pinned.policy_version else "")
        + ("simulated = true\n" if simulated else "")
    )


def _toml(value: object) -> str:
    """Strings, numbers, truth values and lists of them are written alike in JSON and TOML."""
    return json.dumps(value)


def revoke(archive: Archive, gateway: str) -> Enrolment:
    """Ends a gateway's right to speak, at once; what it said before stays filed. Raises RegisterError if unknown."""
    enrolment = archive.enrolment(gateway)
    if enrolment is None:
        raise RegisterError(f"gateway {gateway}: the register does not know it; see 'murmure gateway list'")
    if enrolment.status == "revoked":
        return enrolment
    with archive.transaction():
        return archive.enrol(replace(enrolment, status="revoked"))


def publish_policy(
    archive: Archive,
    sealed: bytes,
    source: str = "policy",
    now_s: int | None = None,
    deciding: DecidingConfig | None = None,
) -> StoredPolicy:
    """Files a signed policy so that the running centre sends it to the gateways of its site.

    Every active gateway of the site must find enough signatures of its stewards on it, of the roles that `deciding`
    gives them, and the policy must be one that may follow the newest: see `murmure_privacy.decide`. The same policy
    again is no error, unless somebody else has signed it meanwhile: the log stands for the signatures too. `now_s`: the
    instant that the log gives for it. Raises RegisterError or ConfigError.
    """
    with archive.transaction():
        return _file_policy(archive, sealed, source, now_s, deciding or DecidingConfig())


def _file_policy(
    archive: Archive, sealed: bytes, source: str, now_s: int | None, deciding: DecidingConfig
) -> StoredPolicy:
    toml = _unsealed(sealed, source)
    rules = PolicyRules(toml, source)
    gateways = [e for e in archive.enrolments() if e.site == rules.site and e.status == "active"]
    if not gateways:
        raise RegisterError(f"{source}: site: no gateway serves {rules.site!r}; enrol one first")
    for gateway in gateways:
        try:
            wire.open_policy(sealed, gateway.stewards, gateway.signatures_required)
        except WireError as error:
            raise RegisterError(
                f"{source}: signatures: {gateway.gateway} would not believe it ({error.detail}); "
                "let its stewards sign it with 'murmure policy sign'"
            ) from error
    policy = StoredPolicy(wire.digest(toml), rules.site, rules.version, toml, sealed)
    known = next((one for one in archive.policies(rules.site) if one.hash == policy.hash), None)
    if known is not None:
        stewards = dict.fromkeys(key for gateway in gateways for key in gateway.stewards)
        if set(wire.policy_signers(sealed, stewards)) - set(wire.policy_signers(known.sealed, stewards)):
            raise RegisterError(
                f"{source}: signatures: version {rules.version} of {rules.site} is published already with fewer of "
                f"them, and what is published stays as it is; write version = {archive.newest_version(rules.site) + 1} "
                "and let all of them sign that"
            )
        return known
    for name, verdict in verdicts(archive, sealed, deciding, source):
        if isinstance(verdict, Refuse):
            problem, _, mend = verdict.detail.partition(": ")
            raise RegisterError(f"{source}: {verdict.reason}: {name} would not believe it: {problem}; {mend}")
    archive.put_policy(policy, now_s)
    return policy


def verdicts(
    archive: Archive, sealed: bytes, deciding: DecidingConfig, source: str = "policy", *, first: bool = False
) -> list[tuple[str, Verdict]]:
    """Returns what each active gateway of a policy's site makes of it if it has the newest one there is, as far as the
    centre knows what was pinned at its enrolment. `first`: what it makes of it if it took none before, of those that
    have shown no node yet. Raises ConfigError for what is no policy."""
    rules = PolicyRules(_unsealed(sealed, source), source)
    newest = None if first else archive.newest_policy(rules.site)
    current = None if newest is None else PolicyRules(newest.toml).plan
    begun_with = pinned_versions(archive)
    found = []
    for line in archive.enrolments():
        if line.site != rules.site or line.status != "active":
            continue
        if first and (line.gateway not in begun_with or archive.uses(line.gateway)):
            continue
        told_apart = bool(deciding.roles_of(line.stewards))
        roles = tuple(deciding.roles.get(key, "") for key in line.stewards) if told_apart else ()
        pinned = Pinned(roles, deciding.ceiling_rho_micro(line.site), begun_with.get(line.gateway, 0))
        word = _verdict(sealed, rules.plan, current, line.stewards, line.signatures_required, pinned)
        found.append((line.gateway, word))
    return found


def pinned_versions(archive: Archive) -> dict[str, int]:
    """Returns, by gateway, which policy was the newest of its site at its enrolment, where the log says it."""
    entries = (json.loads(entry) for _, kind, _, _, entry, _ in archive.log_rows() if kind == "enrolment")
    return {one["gateway"]: one["policy_version"] for one in entries if "policy_version" in one}


def policies_for(archive: Store, line: Enrolment) -> list[StoredPolicy]:
    """Returns what a gateway is to be sent, oldest first: the newest policy of its site, and before it those that it
    may never have seen, since it judges each beside the one before. A gateway that has made no node yet needs the
    newest only, and is not to begin with an older one."""
    newest = archive.newest_policy(line.site)
    if newest is None or newest.version == 1:
        return [] if newest is None else [newest]
    filed = archive.policies(line.site)
    versions = {policy.hash: policy.version for policy in filed}
    used = max((versions[use.policy] for use in archive.uses(line.gateway)), default=newest.version)
    return [policy for policy in filed if policy.version > used][-POLICIES_TOGETHER:] or [newest]


def _unsealed(sealed: bytes, source: str) -> bytes:
    """Returns the bytes inside a sealed policy, not believed yet. Raises ConfigError if it is none."""
    try:
        return wire.policy_bytes(sealed)
    except WireError as error:
        mend = "give a file that 'murmure policy sign' wrote"
        raise ConfigError(source, "policy", f"not a signed policy ({error.detail})", mend) from error


def sign_policy(toml_path: Path, key_path: Path, out: Path) -> bytes:
    """Signs a policy file into `out`, beside the signatures that it may have already. Returns the sealed policy.

    Raises ConfigError if the policy does not parse or names no decision, or if `out` seals other bytes.
    """
    toml = toml_path.read_bytes()
    decision = PolicyRules(toml, str(toml_path)).plan.policy.decision
    if not decision.strip() or decision == UNDECIDED:
        mend = 'write the reference of the deliberation, such as "Délibération 2026-11-03 n° 42"'
        raise ConfigError(str(toml_path), "decision", "no decision is named yet", mend)
    kid, secret = signer(key_path)
    if not out.exists():
        sealed = wire.seal_policy(toml, [(kid, secret)])
    else:
        sealed = out.read_bytes()
        if _unsealed(sealed, str(out)) != toml:
            raise ConfigError(
                str(out), "policy", "it seals other bytes", "give the file it was made from, or another --out"
            )
        sealed = wire.add_signature(sealed, kid, secret)
    write_beside(out, sealed)
    return sealed


def signer(key_path: Path) -> tuple[str, bytes]:
    """Returns the key id and the secret of a steward's key file."""
    secret = load_secret(key_path)
    return f"steward-{wire.public_key(secret).hex()[:16]}", secret


def write_beside(path: Path, content: bytes) -> None:
    """Puts a file in its place at once: nobody finds half of it."""
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(content)
    beside.replace(path)
