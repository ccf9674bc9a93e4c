"""gateway.toml, trust.toml and record.key: read once, exactly, or refused with one line that says what to write."""

from __future__ import annotations

import dataclasses
import re
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_edge import config as module
from murmure_edge.config import Broker, Calibration, PortConfig, load, load_record_key, load_trust
from murmure_ingest import gateways
from murmure_ingest.archive import Archive
from murmure_ingest.config import load as load_centre
from murmure_privacy.decide import Ceiling
from murmure_privacy.errors import ConfigError

PORT = """
[[port]]
name = "beam"
device = "tfluna"
path = "/dev/serial/by-id/usb-1"
streams = { footfall = "plaza/footfall" }
"""
NOISE = PORT.replace("tfluna", "modbus_noise").replace("footfall", "noise")
CALIBRATED = 'calibrated = 2026-10-01\nmethod = "94 dB"\n'
PUBLIC, OTHER = "ab" * 32, "cd" * 32
TRUST = f"""\
gateway = "gw-plaza"
quartier = "centre"
site = "plaza"
centre = "{PUBLIC}"
stewards = ["{PUBLIC}"]
signatures_required = 1
"""


def refusal(read, *arguments) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(*arguments)
    assert caught.value.exit_status == 2 and "\n" not in str(caught.value)
    return caught.value


def test_a_gateway_toml_becomes_frozen_data(gateway):
    """Every key of the format arrives, paths are relative to the file, what is optional has its default."""
    file = gateway.write(18830, 4)
    file.write_text(
        file.read_text()
        + PORT
        + "rate_hz = 10\nbaud = 9600\n"
        + PORT.replace("beam", "b2").replace("usb-1", "usb-2").replace("plaza/footfall", "plaza/second")
    )
    config = load(file)
    assert config.gateway == "gw-plaza"
    assert config.data == gateway.folder / "data" and config.inbox == gateway.folder / "spool" / "inbox"
    assert config.broker == Broker("127.0.0.1", 18830, 4, keepalive_s=60, retry_cap_s=1, resend_s=600)
    streams = {"footfall": "plaza/footfall"}
    assert config.ports[0] == PortConfig("beam", "tfluna", "/dev/serial/by-id/usb-1", streams, 9600, {"rate_hz": 10})
    assert config.ports[1].baud is None and config.ports[1].options == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.gateway = "another"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("offset", "readings"), [("-1.2", -12), ("0", 0), ("20", 200), ("-20.0", -200), ("0.3", 3), ("17.9", 179)]
)
def test_an_offset_is_kept_in_the_readings_unit_with_its_day(gateway, offset: str, readings: int):
    """Tenths of a dB, when it was measured and how; a sensor without the three is read as it is."""
    file = gateway.write()
    file.write_text(file.read_text() + NOISE + f"offset = {{ noise = {offset} }}\n" + CALIBRATED)
    assert load(file).ports[0].calibration == Calibration({"noise": readings}, date(2026, 10, 1), "94 dB")
    file.write_text(gateway.write().read_text() + NOISE)
    assert load(file).ports[0].calibration == Calibration()


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ("offset = { noise = 20.1 }", "offset.noise"),
        ("offset = { noise = -1.25 }", "offset.noise"),
        ("offset = { noise = nan }", "offset.noise"),
        ("offset = { noise = true }", "offset.noise"),
        ('offset = { noise = "-1.2" }', "offset.noise"),
        ("offset = { pm10 = 1 }", "offset.pm10"),
        ("offset = -1.2", "offset"),
        ("offset = { noise = 1 }", "calibrated"),
        ("offset = { noise = 1 }\ncalibrated = 2026-10-01", "method"),
        ('offset = { noise = 1 }\ncalibrated = "2026-10-01"', "calibrated"),
        ("offset = { noise = 1 }\ncalibrated = 2026-10-01T00:00:00Z", "calibrated"),
        ("calibrated = 2026-10-01", "offset"),
    ],
)
def test_an_offset_without_bounds_or_day_is_refused(gateway, lines: str, key: str):
    """At most 20 either way, in tenths, for a level or a concentration of this port; with the day and the method."""
    file = gateway.write()
    file.write_text(file.read_text() + NOISE + lines + "\n")
    assert refusal(load, file).key == f"port 1.{key}"


def test_a_count_has_no_offset(gateway):
    """People are not calibrated away."""
    file = gateway.write()
    file.write_text(file.read_text() + PORT + "offset = { footfall = 1 }\n" + CALIBRATED)
    assert refusal(load, file).key == "port 1.offset.footfall"


def test_the_shortest_file_has_sensible_defaults(tmp_path: Path):
    """A broker's host and the folders are enough."""
    (tmp_path / "g.toml").write_text(
        'gateway = "gw"\ndata = "a"\noutbox = "b"\ninbox = "c"\nsend_data = "d"\ntrust = "t"\n[broker]\nhost = "h"\n'
    )
    config = load(tmp_path / "g.toml")
    assert config.broker == Broker("h", 1883, 5, 60, 60, 600) and config.ports == ()
    assert config.keep_messages == 8760 and not config.white_zone


def test_without_a_broker_it_is_a_white_zone(gateway):
    """No [broker] at all is a gateway that a courier visits; an empty one is a mistake."""
    file = gateway.write()
    text = file.read_text()
    file.write_text("keep_messages = 0\n" + text[: text.index("[broker]")])
    config = load(file)
    assert config.white_zone and config.broker is None and config.keep_messages == 0
    file.write_text(file.read_text() + "[broker]\n")
    assert refusal(load, file).key == "broker.host"


def test_a_metered_line_has_a_limit(gateway):
    """bytes_per_day, or none."""
    file = gateway.write()
    file.write_text(file.read_text() + "bytes_per_day = 50000\n")
    broker = load(file).broker
    assert broker is not None and broker.bytes_per_day == 50_000


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (('gateway = "gw-plaza"', ""), "gateway"),
        (('gateway = "gw-plaza"', "gateway = 7"), "gateway"),
        (('gateway = "gw-plaza"', 'gateway = "+"'), "gateway"),
        (('gateway = "gw-plaza"', 'gateway = "a/b"'), "gateway"),
        (('gateway = "gw-plaza"', f'gateway = "{"g" * 41}"'), "gateway"),
        (('data = "data"', 'data = ""'), "data"),
        (('data = "data"', 'data = "a\\u0000b"'), "data"),
        (('data = "data"', 'data = "spool/outbox"'), "data"),
        (('data = "data"', 'data = "spool/outbox/deeper"'), "data"),
        (('trust = "trust.toml"', 'trust = "trust.toml"\nclock = "gps"'), "clock"),
        (("[broker]", "[brokers]"), "brokers"),
        (('host = "127.0.0.1"', ""), "broker.host"),
        (("mqtt = 5", "bytes_per_day = 49999"), "broker.bytes_per_day"),
        (("mqtt = 5", "bytes_per_day = -1"), "broker.bytes_per_day"),
        (('data = "data"', 'data = "data"\nkeep_messages = -1'), "keep_messages"),
        (("port = 1883", "port = 70000"), "broker.port"),
        (("port = 1883", "port = true"), "broker.port"),
        (("port = 1883", 'port = "1883"'), "broker.port"),
        (("mqtt = 5", "mqtt = 3"), "broker.mqtt"),
        (("mqtt = 5", "mqttt = 5"), "broker.mqttt"),
        (("mqtt = 5", "mqtt = 5\n[[ports]]"), "ports"),
        (('name = "beam"', 'name = "Beam"'), "port 1.name"),
        (('name = "beam"', ""), "port 1.name"),
        (('device = "tfluna"', "device = []"), "port 1.device"),
        (("{ footfall = ", "{ footfal = "), "port 1.streams.footfal"),
        (('"plaza/footfall"', '"plaza"'), "port 1.streams.footfall"),
        (('"plaza/footfall"', "7"), "port 1.streams.footfall"),
        (("footfall = ", ""), "TOML"),
        (('{ footfall = "plaza/footfall" }', "{}"), "port 1.streams"),
        (('{ footfall = "plaza/footfall" }', '"plaza/footfall"'), "port 1.streams"),
        (("[[port]]", "rate_hz = [1]\n[[port]]\nrate_hz = [1]"), "broker.rate_hz"),
        (("[[port]]", "[[port]]\nrate_hz = [1]"), "port 1.rate_hz"),
        (("[[port]]", "[[port]]\nbaud = -1"), "port 1.baud"),
        (("[[port]]", f"{PORT}[[port]]"), "port.name"),
        (("[[port]]", PORT.replace('"beam"', '"b"') + "[[port]]"), "port.path"),
        (("[[port]]", PORT.replace('"beam"', '"b"').replace("usb-1", "usb-2") + "[[port]]"), "port.streams"),
    ],
)
def test_a_wrong_gateway_toml_is_one_line_with_its_key(gateway, change: tuple[str, str], key: str):
    """Each mistake names the file, the key, what is wrong and what to write."""
    file = gateway.write()
    text = file.read_text() + PORT
    assert change[0] in text
    file.write_text(text.replace(*change))
    error = refusal(load, file)
    assert (error.file, error.key) == (str(file), key) and error.mend


@pytest.mark.parametrize("text", ['port = ["x"]', "port = [1]"])
def test_ports_are_tables(gateway, text: str):
    """A list of something else than tables is refused."""
    file = gateway.write()
    file.write_text(f"{text}\n{file.read_text()}")
    assert refusal(load, file).key == "port"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (("site = ", "sites = "), "site"),
        ((PUBLIC, "ab"), "stewards"),
        ((f'["{PUBLIC}"]', "[]"), "stewards"),
        ((f'["{PUBLIC}"]', f'["{PUBLIC}", "{PUBLIC}"]'), "stewards"),
        ((f'["{PUBLIC}"]', "[7]"), "stewards"),
        ((f'centre = "{PUBLIC}"', 'centre = "x"'), "centre"),
        ((f'centre = "{PUBLIC}"', "centre = 1"), "centre"),
        (("signatures_required = 1", "signatures_required = 2"), "signatures_required"),
        (("signatures_required = 1", "signatures_required = 0"), "signatures_required"),
        (("signatures_required = 1", "signatures_required = 1\nsimulated = 1"), "simulated"),
        (("signatures_required = 1", "signatures_required = 1\nadmin = true"), "admin"),
        (('"gw-plaza"', '"gw-other"'), "gateway"),
        (("signatures_required = 1", "signatures_required = 1\nceiling_rho_micro = 99999999"), "ceiling_rho_micro"),
        (("signatures_required = 1", "signatures_required = 1\nceiling_rho_micro = 0"), "ceiling_rho_micro"),
        (("signatures_required = 1", 'signatures_required = 1\nroles = ["dpo"]'), "roles"),
        (("signatures_required = 1", 'signatures_required = 1\nroles = ["Dr. No"]'), "roles"),
        (("signatures_required = 1", "signatures_required = 1\nroles = [1]"), "roles"),
        ((f'["{PUBLIC}"]', f'["{PUBLIC}", "{OTHER}"]\nroles = ["dpo", "dpo"]'), "roles"),
        ((f'["{PUBLIC}"]', f'["{PUBLIC}", "{OTHER}"]\nroles = ["dpo", "steward"]'), "ceiling_rho_micro"),
    ],
)
def test_a_wrong_trust_toml_is_one_line_with_its_key(gateway, change: tuple[str, str], key: str):
    """Whom a gateway believes is exact, and is that very gateway's."""
    gateway.config.trust.write_text(TRUST.replace(*change))
    error = refusal(load_trust, gateway.config)
    assert (error.file, error.key) == (str(gateway.config.trust), key)


def test_a_trust_toml_becomes_frozen_data(gateway):
    """Keys are bytes; simulated data say so."""
    gateway.config.trust.write_text(TRUST + "simulated = true\n")
    trust = load_trust(gateway.config)
    assert trust.centre == bytes.fromhex(PUBLIC) and trust.stewards == (trust.centre,)
    assert trust.signatures_required == 1
    assert trust.simulated and (trust.gateway, trust.quartier, trust.site) == ("gw-plaza", "centre", "plaza")
    gateway.config.trust.write_text(TRUST)
    assert not load_trust(gateway.config).simulated


def test_whom_a_gateway_believes_in_which_role_is_pinned(gateway):
    """A role is that of a key in the file. Without roles each key is one of its own, and a loosening takes as many as
    any policy; a file of before has no ceiling, and judges nothing."""
    gateway.config.trust.write_text(TRUST)
    assert load_trust(gateway.config).ceiling is None
    two = TRUST.replace(f'["{PUBLIC}"]', f'["{PUBLIC}", "{OTHER}"]') + "ceiling_rho_micro = 5000\n"
    gateway.config.trust.write_text(two)
    trust = load_trust(gateway.config)
    assert trust.ceiling == Ceiling(5000, 1, 1, policy_version=0) and trust.roles_of(trust.stewards) == {PUBLIC, OTHER}
    gateway.config.trust.write_text(two + 'roles = ["steward", "dpo"]\n')
    trust = load_trust(gateway.config)
    assert trust.ceiling == Ceiling(5000, 1, 2, policy_version=0)
    assert trust.roles_of(trust.stewards[1:]) == {"dpo"} and trust.roles_of(()) == set()


def test_unreadable_files_are_one_line(tmp_path: Path):
    """Absent, a folder, not UTF-8, not TOML: each says so."""
    for content, key in ((None, "file"), (b"\xff\xfe", "file"), (b"a = = 1", "TOML")):
        file = tmp_path / f"{key}{len(content or b'')}.toml"
        if content is not None:
            file.write_bytes(content)
        assert refusal(load, file).key == key
    assert refusal(load, tmp_path).key == "file"


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_bring_the_reader_down(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    """Whatever a file holds, it is read or refused in one line."""
    file = tmp_path_factory.mktemp("config") / "gateway.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert "\n" not in str(caught.value)


def test_what_the_centre_writes_at_enrolment_is_read(tmp_path: Path):
    """`murmure gateway enrol --local` and the gateway agree on both files and on the key."""
    centre_file = tmp_path / "ingest.toml"
    centre_file.write_text('data_dir = "centre"\n[broker]\nhost = "127.0.0.1"\nport = 18831\nmqtt = 4\n')
    (tmp_path / "centre").mkdir()
    centre = load_centre(centre_file)
    port = gateways.parse_port("name=beam,device=tfluna,path=/dev/x,footfall=plaza/footfall,rate_hz=10")
    with closing(Archive.open(tmp_path / "centre" / "archive.db")) as archive:
        enrolment = gateways.enrol_local(
            archive,
            centre,
            tmp_path / "gw",
            gateway="gw-plaza",
            site="plaza",
            quartier="centre",
            stewards=[bytes.fromhex(PUBLIC)],
            ports=[port],
            simulated=True,
        )
    config = load(tmp_path / "gw" / "gateway.toml")
    trust = load_trust(config)
    assert (trust.gateway, trust.quartier, trust.site, trust.simulated) == ("gw-plaza", "centre", "plaza", True)
    assert config.broker is not None and (config.broker.port, config.broker.mqtt) == (18831, 4)
    assert config.ports[0].options == {"rate_hz": 10}
    assert module.load_record_key(config.data / "record.key") and enrolment is not None


# --- record.key ------------------------------------------------------------------------------------------------------


def key_file(folder: Path, content: str, mode: int = 0o600) -> Path:
    path = folder / "record.key"
    path.write_text(content)
    path.chmod(mode)
    return path


def test_the_record_key_is_64_hexadecimal_characters(tmp_path: Path):
    """A trailing newline is allowed, nothing else."""
    assert load_record_key(key_file(tmp_path, PUBLIC + "\n")) == bytes.fromhex(PUBLIC)
    for wrong in ("", PUBLIC[:-1], PUBLIC + "a", "g" * 64, "é" * 32):
        assert refusal(load_record_key, key_file(tmp_path, wrong)).key == "key"


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o602, 0o610])
def test_a_record_key_that_others_can_reach_is_refused(tmp_path: Path, mode: int):
    """Any right of group or others is one line with the command that mends it."""
    error = refusal(load_record_key, key_file(tmp_path, PUBLIC, mode))
    assert error.key == "mode" and "chmod 600" in error.mend and PUBLIC not in str(error)


def test_an_absent_record_key_is_one_line(tmp_path: Path):
    """No file: enrol."""
    assert "enrol" in refusal(load_record_key, tmp_path / "record.key").mend


def test_each_key_of_the_config_stands_in_the_example_file():
    """edge/gateway.example.toml shows every key of gateway.toml."""
    example = (Path(__file__).resolve().parents[3] / "edge" / "gateway.example.toml").read_text()
    names = {
        field.name
        for kind in (Broker, module.Tls, PortConfig, module.GatewayConfig)
        for field in dataclasses.fields(kind)
    }
    for name in names - {"file", "ports", "options", "broker", "tls", "calibration"} | {
        "offset",
        "calibrated",
        "method",
    }:
        assert re.search(rf"^(# )?{name} = ", example, re.MULTILINE), name
