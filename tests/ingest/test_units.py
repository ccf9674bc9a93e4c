"""The centre's units: as closed as promised, understood by systemd, and each with no more than its work needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).resolve().parents[2] / "ingest" / "systemd"
SERVICES = sorted(path.name for path in SYSTEMD.glob("*.service"))
TIMERS = sorted(path.name for path in SYSTEMD.glob("*.timer"))
# Whoever has nothing to say to anybody has no network.
SILENT = {"murmure-backup.service", "murmure-forget.service", "murmure-site.service"}
KEYS = {"centre.key", "authority.key", "enrolment.key", "claims.db"}


def analysed(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as install.sh puts them, with programs that are there."""
    folder = tmp_path / "units"
    shutil.copytree(SYSTEMD, folder)
    for unit in folder.glob("*.service"):
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text("utf-8"), flags=re.MULTILINE)
        unit.write_text(text, "utf-8")
    return folder


@pytest.mark.systemd
@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_is_hardened(unit: str, installed: Path) -> None:
    """systemd's own score is at most 1.5 (10 is wide open), and far above without the drop-in that all units share."""
    check = ["security", "--offline=true", "--threshold=15", "--no-pager", str(installed / unit)]
    done = analysed(*check)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(installed / f"{unit}.d")
    assert analysed(*check).returncode == 1


@pytest.mark.systemd
def test_systemd_understands_every_line(installed: Path) -> None:
    """A misspelt directive is ignored, and what it should have closed stays open: none is."""
    every = [str(installed / unit) for unit in (*SERVICES, *TIMERS)]
    told = analysed("verify", "--man=no", *every)
    assert (told.stdout, told.stderr) == ("", "")
    shared = installed / "murmure-ingest.service.d" / "hardened.conf"
    shared.write_text(shared.read_text("utf-8").replace("NoNewPrivileges", "NoNewPrivilege"), "utf-8")
    assert "NoNewPrivilege" in analysed("verify", "--man=no", *every).stderr


@pytest.mark.parametrize("unit", SERVICES)
def test_hardening_is_written_once(unit: str) -> None:
    """Each unit has the shared file by a link, and repeats or undoes none of it."""
    link = SYSTEMD / f"{unit}.d" / "hardened.conf"
    assert link.resolve() == SYSTEMD / "hardened.conf"
    keys = re.compile(r"^(\w+)=", re.MULTILINE)
    shared = set(keys.findall(link.read_text("utf-8")))
    assert shared & set(keys.findall((SYSTEMD / unit).read_text("utf-8"))) == set()


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_has_a_user_and_comes_back(unit: str) -> None:
    """No service is root's; one that is meant to stay is started again; one that ends has its timer."""
    text = (SYSTEMD / unit).read_text("utf-8")
    assert re.search(r"^(User=murmure-\w+|DynamicUser=yes)$", text, re.MULTILINE)
    if "Type=oneshot" in text:
        assert unit.replace(".service", ".timer") in TIMERS and "[Install]" not in text
    else:
        starts_with = "murmure-ingest.service" if "@" in unit else "multi-user.target"
        assert {"Restart=always", f"WantedBy={starts_with}"} <= set(text.splitlines())
    assert ("PrivateNetwork=yes" in text, "RestrictAddressFamilies=none" in text) == (unit in SILENT, unit in SILENT)


def test_a_further_worker_may_what_the_first_may() -> None:
    """Its service is the first one's but for its settings, and stops and starts with it."""
    first, further = (
        (SYSTEMD / f"murmure-ingest{of}.service").read_text("utf-8").replace("ingest-%i.toml", "ingest.toml")
        for of in ("", "@")
    )
    services = [
        re.findall(r"^\w.*$", text.partition("[Service]")[2].partition("[Install]")[0], re.M)
        for text in (first, further)
    ]
    assert services[0] == services[1] != []
    assert {"PartOf=murmure-ingest.service", "WantedBy=murmure-ingest.service"} <= set(further.splitlines())


def test_only_who_needs_keys_can_read_them() -> None:
    """The mirror has the centre's user and not its keys; whoever draws pages has another user, and none."""
    mirror = (SYSTEMD / "murmure-mirror.service").read_text("utf-8")
    hidden = re.findall(r"^InaccessiblePaths=-/var/lib/murmure-centre/(\S+)$", mirror, re.MULTILINE)
    assert set(hidden) >= KEYS
    for unit in ("murmure-site.service", "murmure-operations.service"):
        text = (SYSTEMD / unit).read_text("utf-8")
        assert "User=murmure-site\n" in text and "murmure-centre" not in re.findall(
            r"^StateDirectory=(.*)$", text, re.M
        )
