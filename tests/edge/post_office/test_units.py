"""The files under edge/systemd and edge/udev, judged by systemd's own tools where they are installed."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path

import pytest
from murmure_edge.config import load
from murmure_edge.gateway_db import DiskFull
from murmure_privacy.errors import ConfigError, LedgerDamaged, MurmureError

EDGE = Path(__file__).resolve().parents[3] / "edge"
SYSTEMD = EDGE / "systemd"


def analysed(*arguments: str) -> str:
    """Returns what systemd-analyze says on both its lines."""
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.systemd
@pytest.mark.parametrize(("unit", "most"), [("murmure-sense", 0.6), ("murmure-send", 1.3)])
def test_a_unit_is_as_closed_as_promised(unit: str, most: float):
    """systemd's own score, without a running systemd: 10 is wide open, `sense` at most 0.6 and `send` at most 1.3."""
    told = analysed("security", "--offline=true", "--no-pager", str(SYSTEMD / f"{unit}.service"))
    (exposure,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", told)
    assert 0 < float(exposure) <= most, told


@pytest.mark.systemd
@pytest.mark.parametrize("unit", ["murmure-sense", "murmure-send"])
def test_systemd_understands_every_line_of_a_unit(unit: str, tmp_path: Path):
    """A misspelt directive is ignored by systemd, and what it should have closed stays open: none is."""
    text = (SYSTEMD / f"{unit}.service").read_text()
    file = tmp_path / f"{unit}.service"
    file.write_text(re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    assert analysed("verify", "--man=no", str(file)) == ""
    file.write_text(file.read_text().replace("NoNewPrivileges", "NoNewPrivilege"))
    assert "NoNewPrivilege" in analysed("verify", "--man=no", str(file))


def directives(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (SYSTEMD / f"{unit}.service").read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not key.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_the_two_units_divide_the_powers():
    """sense has devices and no network; send has the network, no device and no way to the ledger."""
    sense, send = directives("murmure-sense"), directives("murmure-send")
    assert sense["PrivateNetwork"] == ["yes"] and sense["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert send["PrivateDevices"] == ["yes"] and "DeviceAllow" not in send
    assert "murmure-serial" not in " ".join(send["SupplementaryGroups"])
    assert send["InaccessiblePaths"] == ["-/var/lib/murmure"]
    assert sense["MemorySwapMax"] == ["0"] and sense["LimitCORE"] == ["0"]
    assert sense["LimitMEMLOCK"] == ["infinity"]
    for unit in (sense, send):
        assert unit["Type"] == ["notify"] and int(unit["WatchdogSec"][0]) >= 60 and unit["Restart"] == ["always"]
        assert unit["RestartPreventExitStatus"] == ["2"]
    assert sense["User"] != send["User"]


@pytest.mark.parametrize(
    ("error", "stays_down"),
    [
        (LedgerDamaged("gateway.db: damaged"), True),
        (ConfigError("gateway.toml", "port", "no sensor", "write one"), True),
        (DiskFull("gateway.db: no room"), False),
        (MurmureError("gateway.db: disk I/O error"), False),
    ],
)
def test_a_unit_is_not_started_again_for_what_only_a_person_mends(error: MurmureError, stays_down: bool):
    """A damaged ledger, an older copy or a wrong file would fail every five seconds for ever: it waits for a person, or
    the next boot. What may pass by itself is tried again."""
    assert (str(error.exit_status) in directives("murmure-sense")["RestartPreventExitStatus"]) == stays_down


@pytest.mark.systemd
def test_the_declared_folders_are_those_of_the_example_and_of_prepare_folders(tmp_path: Path):
    """systemd-tmpfiles makes what `prepare_folders` makes, at the paths of the example file, for declared users."""
    (tmp_path / "etc").mkdir()
    for program, file in (
        (["systemd-sysusers"], "murmure-edge.sysusers.conf"),
        (["systemd-tmpfiles", "--create"], "murmure-edge.tmpfiles.conf"),
    ):
        subprocess.run(
            [*program, f"--root={tmp_path}", str(SYSTEMD / file)],
            capture_output=True,
            check=True,
        )
    passwd = (tmp_path / "etc" / "passwd").read_text().splitlines()
    uids = {line.split(":")[0]: int(line.split(":")[2]) for line in passwd}
    groups = (tmp_path / "etc" / "group").read_text().splitlines()
    gids = {line.split(":")[0]: int(line.split(":")[2]) for line in groups}
    config = load(EDGE / "gateway.example.toml")
    for folder, user, group, mode in (
        (config.data, "murmure-sense", "murmure-sense", 0o700),
        (config.outbox, "murmure-sense", "murmure-spool", 0o2750),
        (config.inbox, "murmure-sense", "murmure-spool", 0o2770),
        (config.send_data, "murmure-send", "murmure-send", 0o700),
    ):
        status = (tmp_path / folder.relative_to("/")).stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (uids[user], gids[group], mode)
    members = {line.split(":")[0]: set(line.split(":")[3].split(",")) for line in groups}
    assert members["murmure-serial"] == {"murmure-sense"}
    assert members["murmure-spool"] == {"murmure-sense", "murmure-send"}


def test_the_udev_rule_gives_ports_to_sense_alone():
    """Serial adapters belong to the group that the units and the users name."""
    rule = (EDGE / "udev" / "70-murmure.rules").read_text()
    assert 'GROUP="murmure-serial", MODE="0660"' in rule
    assert "murmure-serial" in " ".join(directives("murmure-sense")["SupplementaryGroups"])
