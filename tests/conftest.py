"""What any test may ask for: the recordings beside the checkout, and programs that Debian supplies."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("MURMURE_SHARED", ROOT.parent / "shared"))
PROGRAMS = {
    "broker": "mosquitto",
    "browser": "chromium",
    "debootstrap": "debootstrap",
    "strace": "strace",
    "mbpoll": "mbpoll",
    "systemd": "systemd-analyze",
}
PACKAGES = {"systemd-analyze": "systemd"}  # where it is not the program's own name
# Debian keeps daemons where an ordinary user's PATH does not look.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

# A machine busy with other tests is slow, not wrong; and a run must find today what it found yesterday.
settings.register_profile("murmure", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("campaign", deadline=None, max_examples=2000)
settings.load_profile("campaign" if os.environ.get("MURMURE_CAMPAIGN") == "1" else "murmure")


def lacking(what: str, required_by: str) -> None:
    """Skips the test, or fails it where the variable `required_by` is 1."""
    if os.environ.get(required_by) == "1":
        pytest.fail(f"{what}, and {required_by}=1 demands it", pytrace=False)
    pytest.skip(what)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("shared") and not SHARED.is_dir():
        lacking(f"no folder {SHARED} (MURMURE_SHARED names another)", "MURMURE_SHARED_REQUIRED")
    for marker, program in PROGRAMS.items():
        if item.get_closest_marker(marker) and shutil.which(program, path=SEARCH_PATH) is None:
            lacking(
                f"no program {program} (Debian package {PACKAGES.get(program, program)})", "MURMURE_PACKAGES_REQUIRED"
            )
    if item.get_closest_marker("debootstrap") and os.geteuid() != 0:
        lacking("debootstrap and chroot need root", "MURMURE_PACKAGES_REQUIRED")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recordings and real frames, read in place and never copied."""
    if not SHARED.is_dir():
        lacking(f"no folder {SHARED} (MURMURE_SHARED names another)", "MURMURE_SHARED_REQUIRED")
    return SHARED


@pytest.fixture(scope="session")
def power_loss() -> ModuleType:
    """`power_loss.py`: a disk that loses what was not synced. Only tests that ask for it load apsw."""
    spec = importlib.util.spec_from_file_location("power_loss", ROOT / "tests" / "power_loss.py")
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
