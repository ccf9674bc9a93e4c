"""The register, a gateway's two files, and how a policy comes to be published."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from murmure_edge import config as edge_config
from murmure_ingest import gateways
from murmure_ingest.gateways import Port, RegisterError
from murmure_ingest.receipts import centre_key, load_secret, write_secret
from murmure_privacy import wire
from murmure_privacy.errors import ConfigError, WireError


def enrol(centre: Any, **changes: Any) -> Any:
    wanted: dict[str, Any] = {
        "gateway": "gw-plaza",
        "site": "plaza",
        "quartier": "centre",
        "stewards": [centre.steward[1]],
    }
    return gateways.enrol_local(centre.archive, centre.config, centre.folder / "gw", **{**wanted, **changes})


def test_an_enrolled_gateway_reads_its_files_and_is_heard(centre: Any) -> None:
    """Both halves fit: the edge reads what the centre wrote, and the centre knows the key that the edge holds."""
    ports = [
        gateways.parse_port("name=beam,device=tfluna,path=/dev/ttyUSB0,footfall=plaza/footfall,rate_hz=10"),
        Port("air", "sds011", 'odd " \\ path', {"pm2_5": "plaza/pm2_5", "pm10": "plaza/pm10"}, {"passive": True}),
    ]
    enrolment = enrol(centre, ports=ports, simulated=True)
    config = edge_config.load(centre.folder / "gw" / "gateway.toml")
    trust = edge_config.load_trust(config)
    key = edge_config.load_record_key(config.data / "record.key")
    assert wire.public_key(key) == enrolment.record_key == centre.archive.enrolment("gw-plaza").record_key
    assert (trust.gateway, trust.quartier, trust.site, trust.simulated) == ("gw-plaza", "centre", "plaza", True)
    assert trust.centre == wire.public_key(centre.secret)
    assert trust.stewards == (centre.steward[1],)
    assert config.broker is not None
    assert (config.broker.host, config.broker.port, config.broker.mqtt) == ("127.0.0.1", 1883, 5)
    assert [(p.name, p.device, p.path, dict(p.streams)) for p in config.ports] == [
        ("beam", "tfluna", "/dev/ttyUSB0", {"footfall": "plaza/footfall"}),
        ("air", "sds011", 'odd " \\ path', {"pm2_5": "plaza/pm2_5", "pm10": "plaza/pm10"}),
    ]
    assert [dict(p.options) for p in config.ports] == [{"rate_hz": 10}, {"passive": True}]
    assert stat.S_IMODE((config.data / "record.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(config.data.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"gateway": "plaza"}, "no gateway id"),
        ({"gateway": "gw-" + "x" * 38}, "no gateway id"),
        ({"gateway": "gw-a/b"}, "no gateway id"),
        ({"site": "La Place"}, "--site"),
        ({"quartier": "+"}, "--quartier"),
        ({"stewards": []}, "--signatures"),
        ({"signatures_required": 2}, "--signatures"),
        ({"signatures_required": 0}, "--signatures"),
    ],
)
def test_a_bad_enrolment_leaves_nothing(centre: Any, changes: dict[str, Any], line: str) -> None:
    """Names that would not fit a topic, and signatures that could never be collected, are refused in one line."""
    with pytest.raises(ConfigError, match=line):
        enrol(centre, **changes)
    assert not (centre.folder / "gw").exists()
    assert centre.archive.enrolments() == []


def test_an_id_is_never_given_twice(centre: Any) -> None:
    """Neither while a gateway is active nor after it was revoked; nor is a key file overwritten."""
    enrol(centre)
    with pytest.raises(RegisterError, match="never used twice"):
        enrol(centre)
    gateways.revoke(centre.archive, "gw-plaza")
    with pytest.raises(RegisterError, match="never used twice"):
        enrol(centre)
    with pytest.raises(ConfigError, match="the file exists already"):
        enrol(centre, gateway="gw-other")
    assert gateways.revoke(centre.archive, "gw-plaza").status == "revoked"
    assert len(centre.archive.enrolment_lines()) == 2
    with pytest.raises(RegisterError, match="does not know it"):
        gateways.revoke(centre.archive, "gw-nobody")


@pytest.mark.parametrize(
    "text", ["name=a,device=b", "name=a,device=b,path", "name=a,name=b,device=c,path=d", "name=,device=b,path=c"]
)
def test_a_port_is_described_whole(text: str) -> None:
    """Name, device and path, each once."""
    with pytest.raises(ConfigError, match="--port"):
        gateways.parse_port(text)


def test_a_public_key_is_given_as_hex_or_file(tmp_path: Path) -> None:
    """A steward gives the digits or the .pub file; the secret never leaves its own file, and is never replaced."""
    public = gateways.new_secret(tmp_path / "steward.key")
    assert gateways.parse_public_key(public.hex()) == public
    assert gateways.parse_public_key(str(tmp_path / "steward.key.pub")) == public
    assert wire.public_key(load_secret(tmp_path / "steward.key")) == public
    for wrong in ("", "abc", str(tmp_path / "none"), "zz" * 32):
        with pytest.raises(ConfigError, match="not a public key"):
            gateways.parse_public_key(wrong)
    with pytest.raises(ConfigError, match="keys are not replaced"):
        gateways.new_secret(tmp_path / "steward.key")


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """A key file is 0600 and holds one key; the centre's is made once and then stays."""
    with pytest.raises(ConfigError, match="there is no such file"):
        load_secret(tmp_path / "none")
    path = tmp_path / "key"
    write_secret(path, bytes(32))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_secret(path)
    path.chmod(0o600)
    for content in ("", "ab" * 31, "é" * 64):
        path.write_text(content)
        with pytest.raises(ConfigError, match="not a key"):
            load_secret(path)
    assert centre_key(tmp_path) == centre_key(tmp_path)


def test_a_policy_needs_the_signatures_that_its_gateways_ask_for(centre: Any, policy_text: Any) -> None:
    """Two of two stewards: one signature is not enough, two are, a stranger's does not count."""
    second, stranger = wire.new_key(), wire.new_key()
    enrol(centre, stewards=[centre.steward[1], second[1]], signatures_required=2)
    toml = policy_text("plaza")
    for signers in ([centre.steward[0]], [centre.steward[0], stranger[0]], [centre.steward[0], centre.steward[0]]):
        with pytest.raises(RegisterError, match="gw-plaza would not believe it"):
            gateways.publish_policy(centre.archive, centre.signed(toml, *signers))
    assert centre.archive.policies() == []
    policy = gateways.publish_policy(centre.archive, centre.signed(toml, centre.steward[0], second[0]))
    assert (policy.site, policy.version, policy.hash) == ("plaza", 1, wire.digest(toml))
    assert gateways.publish_policy(centre.archive, policy.sealed) == policy


def test_a_version_grows(centre: Any, policy_text: Any) -> None:
    """An older or equal version with other content is refused, and so is a site that nobody serves."""
    centre.gateway()
    for version in (3, 7):
        gateways.publish_policy(centre.archive, centre.signed(policy_text("plaza", version)))
    for version in (7, 5):
        with pytest.raises(RegisterError, match="write version = 8"):
            gateways.publish_policy(centre.archive, centre.signed(policy_text("plaza", version, epsilon="0.5")))
    with pytest.raises(RegisterError, match="no gateway serves 'moon'"):
        gateways.publish_policy(centre.archive, centre.signed(policy_text("moon")))
    assert centre.archive.newest_policy("plaza").version == 7
    assert centre.archive.newest_policy("moon") is None


@pytest.mark.parametrize("sealed", [b"", b"rubbish", wire.seal_policy(b"site = 1", [("s", bytes(32))])])
def test_what_is_no_signed_policy_is_refused_in_one_line(centre: Any, sealed: bytes) -> None:
    """Neither rubbish nor a signed text that is no policy is filed."""
    centre.gateway(published=False)
    with pytest.raises(ConfigError, match=r"^plaza\.cose: [^\n]+$"):
        gateways.publish_policy(centre.archive, sealed, "plaza.cose")


def test_stewards_sign_one_after_the_other(tmp_path: Path, policy_text: Any) -> None:
    """Each adds a signature to the same file; the same one twice counts once; other content is not mixed in."""
    keys = [gateways.new_secret(tmp_path / f"{name}.key") for name in ("a", "b")]
    policy, out = tmp_path / "plaza.toml", tmp_path / "plaza.cose"
    policy.write_bytes(policy_text("plaza"))
    gateways.sign_policy(policy, tmp_path / "a.key", out)
    gateways.sign_policy(policy, tmp_path / "a.key", out)
    with pytest.raises(WireError):
        wire.open_policy(out.read_bytes(), keys, 2)
    sealed = gateways.sign_policy(policy, tmp_path / "b.key", out)
    assert wire.open_policy(sealed, keys, 2) == policy.read_bytes() == policy_text("plaza")
    policy.write_bytes(policy_text("plaza", 2))
    with pytest.raises(ConfigError, match="it seals other bytes"):
        gateways.sign_policy(policy, tmp_path / "a.key", out)
    policy.write_bytes(b"version = 1")
    with pytest.raises(ConfigError, match=r"plaza\.toml"):
        gateways.sign_policy(policy, tmp_path / "a.key", tmp_path / "new.cose")
    assert tomllib.loads(wire.policy_bytes(sealed).decode())["version"] == 1
    assert not (tmp_path / "new.cose").exists()
