"""What any test may ask for: the recordings beside the checkout, and programs that Debian supplies."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from urllib.request import urlopen

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("MURMURE_SHARED", ROOT.parent / "shared"))
PROGRAMS = {
    "alertmanager": "prometheus-alertmanager",
    "broker": "mosquitto",
    "browser": "chromium",
    "debootstrap": "debootstrap",
    "influx": "influxd",
    "java": "java",
    "strace": "strace",
    "mbpoll": "mbpoll",
    "nats": "nats-server",
    "nginx": "nginx",
    "prometheus": "prometheus",
    "systemd": "systemd-analyze",
    "victoria": "victoria-metrics",
    "w3m": "w3m",
}
PACKAGES = {
    "influxd": "influxdb",
    "java": "default-jre-headless",
    "systemd-analyze": "systemd",
}  # where it is not the program's own name
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


def pytest_configure(config: pytest.Config) -> None:
    for marker, program in PROGRAMS.items():
        config.addinivalue_line("markers", f"{marker}: needs Debian's {PACKAGES.get(program, program)}")


def pytest_collection_finish() -> None:
    # What is loaded by now stays to the end: the collector need not look through it again for every test.
    gc.collect()
    gc.freeze()


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
    if item.get_closest_marker("server") and os.geteuid() != 0:
        lacking("a server of one's own needs root", "MURMURE_PACKAGES_REQUIRED")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recordings and real frames, read in place and never copied."""
    if not SHARED.is_dir():
        lacking(f"no folder {SHARED} (MURMURE_SHARED names another)", "MURMURE_SHARED_REQUIRED")
    return SHARED


def loaded(name: str) -> ModuleType:
    """Returns a module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / f"{name}.py")
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def power_loss() -> ModuleType:
    """`power_loss.py`: a disk that loses what was not synced. Only tests that ask for it load apsw."""
    return loaded("power_loss")


@pytest.fixture(scope="session")
def brokers() -> ModuleType:
    """`brokers.py`: Debian's brokers as processes."""
    return loaded("brokers")


@pytest.fixture(scope="session")
def releases() -> ModuleType:
    """`releases.py`: gateways that seal what a real one would."""
    return loaded("releases")


@pytest.fixture(scope="session")
def machines() -> ModuleType:
    """`machine.py`: clean Debians, what installs a gateway on one, and a systemd to run it."""
    return loaded("machine")


class Victoria:
    """Debian's VictoriaMetrics on the loopback, with its data in `folder`."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = port or probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it on what it has; waits until it answers."""
        program = shutil.which("victoria-metrics", path=SEARCH_PATH)
        assert program
        with (self._folder / "victoria.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"-httpListenAddr=127.0.0.1:{self.port}",
                    f"-storageDataPath={self._folder / 'victoria'}",
                    "-dedup.minScrapeInterval=1ms",
                    "-retentionPeriod=100y",
                    "-memory.allowedBytes=256MB",
                    "-loggerLevel=ERROR",
                ],
                stderr=log,
            )
        for _ in range(600):
            try:
                self.get("/health")
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError("VictoriaMetrics does not answer")

    def kill(self) -> None:
        """Ends it as a power cut does."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def empty(self) -> None:
        """Forgets everything; it must not be running."""
        shutil.rmtree(self._folder / "victoria")

    def get(self, path: str) -> bytes:
        """Returns what it answers."""
        with urlopen(f"{self.url}{path}", timeout=20) as answer:
            body: bytes = answer.read()
        return body

    def samples(self) -> dict[tuple[str, str, str, str, str, int], list[float]]:
        """Returns every value of every figure of ours, by (metric, site, stream, node, indicator, second)."""
        return self._exported("node", "indicator")

    def marks(self) -> dict[tuple[str, str, str, str, str, int], list[float]]:
        """Returns every value of what stewards have said, by (metric, site, stream, number, cause, second)."""
        return self._exported("number", "cause")

    def _exported(self, *tags: str) -> dict[tuple[str, str, str, str, str, int], list[float]]:
        self.get("/internal/force_flush")
        found: dict[tuple[str, str, str, str, str, int], list[float]] = {}
        for line in self.get('/api/v1/export?match[]={__name__=~"murmure_.*"}').splitlines():
            series = json.loads(line)
            labels = dict(series["metric"])
            if labels["__name__"].startswith("murmure_annotation_") != ("cause" in tags):
                continue
            key = tuple(labels.pop(name) for name in ("__name__", "site", "stream", *tags))
            assert labels == {}, labels
            for at_ms, value in zip(series["timestamps"], series["values"], strict=True):
                assert at_ms % 1000 == 0
                found.setdefault((*key, at_ms // 1000), []).append(value)
        return found


@pytest.fixture(scope="session")
def victorias() -> Callable[[Path], AbstractContextManager[Victoria]]:
    """Starts a VictoriaMetrics of one's own, with its data in a folder."""

    @contextmanager
    def started(folder: Path) -> Iterator[Victoria]:
        database = Victoria(folder)
        database.start()
        try:
            yield database
        finally:
            database.kill()

    return started


@pytest.fixture
def victoria_at(tmp_path: Path) -> Callable[[int], Victoria]:
    """Returns one that somebody else started on a port."""
    return lambda port: Victoria(tmp_path, port)


@pytest.fixture
def victoria(tmp_path: Path) -> Iterator[Victoria]:
    """Debian's VictoriaMetrics, running and empty (marker `victoria`)."""
    database = Victoria(tmp_path)
    database.start()
    yield database
    database.kill()
