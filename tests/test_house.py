"""The floors of the house, read from the imports with ast (docs/decisions/0001-floors.md)."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What git ignores, or keeps for itself.
NOT_OURS = {
    ".git",
    ".venv",
    "__pycache__",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
    "demo",
    "dist",
}

# Which other packages of ours a package may import.
FLOORS: dict[str, set[str]] = {
    "murmure_privacy": set(),
    "murmure_firmware_sim": set(),
    "murmure_edge": {"murmure_privacy"},
    "murmure_ingest": {"murmure_privacy"},
    "murmure_dashboards": {"murmure_ingest", "murmure_privacy"},
    "murmure": {
        "murmure_privacy",
        "murmure_firmware_sim",
        "murmure_edge",
        "murmure_ingest",
        "murmure_dashboards",
    },
}
FOLDERS = {
    name: ROOT / name.removeprefix("murmure_").replace("_", "-") / name for name in FLOORS if name != "murmure"
} | {"murmure": ROOT / "murmure" / "murmure"}

# Whoever greps an import finds the whole relationship with a library. One not named here is not in the house.
LIBRARIES: dict[str, set[str]] = {
    "opendp": {"murmure_privacy/mechanism.py"},
    "cbor2": {"murmure_privacy/wire.py"},
    "cryptography": {
        "murmure_privacy/wire.py",
        "murmure_edge/enrol.py",
        "murmure_ingest/certificates.py",
    },
    "serial": {"murmure_edge/serial_link.py"},
    "paho": {"murmure_edge/uplink.py", "murmure_ingest/subscriber.py", "murmure_ingest/bulk_mqtt.py"},
    "iotcore": {"murmure_ingest/embedded_broker.py"},
    "influxdb_client": {"murmure_ingest/influx.py"},
    "urllib3": {"murmure_ingest/influx.py"},  # influxdb_client's own transport, whose errors it lets through
    "jinja2": {"murmure_dashboards/pages.py"},
    "grafana_foundation_sdk": {"murmure_dashboards/grafana.py"},
    "grafana_client": {"murmure_dashboards/grafana_push.py"},
    "grafana_api": {"murmure_dashboards/grafana_push.py"},
    "rich": {"murmure/progress.py", "murmure_edge/doctor/screen.py"},
    "segno": {"murmure_ingest/cli.py", "murmure_dashboards/qr.py"},
    "nacl": {"murmure_ingest/signatures.py"},
    "prometheus_client": {"murmure_ingest/metrics.py"},
    "weasyprint": {"murmure_dashboards/pdf.py"},
    "pyarrow": {"murmure_dashboards/parquet.py", "murmure_privacy/columnar.py"},  # to write, and to check who has it
}

# Where the machine's clock may be named; everyone else is told the time.
CLOCK_HOMES = {
    "murmure_edge/clock.py",
    "murmure_edge/serial_link.py",
    "murmure_edge/timeline.py",
    "murmure_edge/uplink.py",
    "murmure_edge/send.py",
    "murmure_ingest/subscriber.py",
    "murmure_ingest/bulk_mqtt.py",
    "murmure_ingest/enrolment.py",
    "murmure_ingest/mirror_cli.py",
    "murmure_ingest/metrics.py",
    "murmure_edge/enrol.py",
    "murmure_privacy/verify_cli.py",
}
CLOCKS = re.compile(
    r"time\.(time|time_ns|monotonic|monotonic_ns|perf_counter|perf_counter_ns|sleep)"
    r"|(datetime\.)?(datetime\.(now|utcnow|today)|date\.today)"
)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def modules(*packages: str) -> Iterator[tuple[str, str, ast.Module]]:
    """Yields package, name as in the tables above, and tree of each module."""
    for package in packages or tuple(FLOORS):
        for path in sorted(FOLDERS[package].rglob("*.py")):
            yield package, f"{package}/{path.relative_to(FOLDERS[package]).as_posix()}", tree(path)


def imports(module: ast.Module) -> Iterator[str]:
    """Yields the dotted names that a module imports from outside its own package."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def root_of(name: str) -> str:
    return name.partition(".")[0]


def files(suffix: str = "") -> Iterator[Path]:
    """Yields what a checkout holds; without git, which refuses the checkout of another user."""
    for folder, names, found in os.walk(ROOT):
        names[:] = [name for name in names if name not in NOT_OURS]
        wanted = [name for name in found if name.endswith(suffix) and not name.startswith(".coverage")]
        yield from (Path(folder, name) for name in sorted(wanted))


def texts() -> Iterator[tuple[str, str]]:
    for path in files():
        if path != Path(__file__).resolve():
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8", errors="ignore")


def test_every_folder_is_where_the_plan_says() -> None:
    """Each package has its folder, so that no rule below passes for want of code."""
    assert [name for name, folder in FOLDERS.items() if not (folder / "__init__.py").is_file()] == []


def test_imports_only_run_downward() -> None:
    """A package imports itself and the floors below it, nothing beside or above."""
    wrong = [
        f"{file} imports {name}"
        for package, file, module in modules()
        for name in imports(module)
        if root_of(name) in FLOORS and root_of(name) not in FLOORS[package] | {package}
    ]
    assert wrong == []


def test_pages_are_drawn_from_the_archive() -> None:
    """Of the centre, the pages know the archive alone; neither intake nor keys."""
    wrong = [
        f"{file} imports {name}"
        for _, file, module in modules("murmure_dashboards")
        for name in imports(module)
        if root_of(name) == "murmure_ingest" and not name.startswith("murmure_ingest.archive")
    ]
    assert wrong == []


def test_one_third_party_library_has_one_home() -> None:
    """A library outside the standard one is imported only in the files named for it."""
    wrong = [
        f"{file} imports {name}"
        for _, file, module in modules()
        for name in imports(module)
        if root_of(name) not in sys.stdlib_module_names | FLOORS.keys()
        and file not in LIBRARIES.get(root_of(name), set())
    ]
    assert wrong == []


def test_folders_are_not_packages() -> None:
    """Nobody imports `edge.murmure_edge`: only the inner folder is a package."""
    outer = {"edge", "privacy", "ingest", "dashboards", "tests"}
    wrong = [f"{path}: {name}" for path in files(".py") for name in imports(tree(path)) if root_of(name) in outer]
    assert wrong == []


def test_the_gateway_never_loads_the_estimator() -> None:
    """What pages need is not carried on a lamp post: whatever edge imports, estimate.py is not reached from it."""
    reached, waiting = set[str](), [file for _, file, _ in modules("murmure_edge")]
    by_name = {file.removesuffix(".py").removesuffix("/__init__"): (file, module) for _, file, module in modules()}
    while waiting:
        file = waiting.pop()
        if file in reached:
            continue
        reached.add(file)
        _, module = by_name[file.removesuffix(".py").removesuffix("/__init__")]
        if file.endswith("/cli.py"):
            continue  # commands of other floors import inside their handlers
        for name in imports(module):
            path = name.replace(".", "/")
            waiting += [by_name[key][0] for key in (path, path.rpartition("/")[0]) if key in by_name]
    assert "murmure_privacy/estimate.py" not in reached


def test_release_has_one_door() -> None:
    """A Release is constructed by the gate, and by the wire from verified bytes; nowhere else."""
    makers = {
        file
        for _, file, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "Release"
    }
    assert makers <= {"murmure_privacy/gate.py", "murmure_privacy/wire.py"}


def test_noise_comes_from_opendp_alone() -> None:
    """No pseudo-random generator is within reach of the kernel or of a gateway."""
    wrong = [
        f"{file} imports {name}"
        for _, file, module in modules("murmure_privacy", "murmure_edge")
        for name in imports(module)
        if root_of(name) == "random" or name.startswith("numpy.random")
    ]
    drawn = [
        file
        for _, file, module in modules("murmure_privacy")
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and ast.unparse(node).endswith(("np.random", "numpy.random"))
    ]
    assert wrong + drawn == []


LIGHT = ["murmure_edge.send", "murmure_edge.cli", "murmure_ingest.subscriber", "murmure_privacy.cli", "murmure.cli"]


@pytest.mark.parametrize("module", [*LIGHT, "murmure_edge.sense"])
def test_opendp_is_imported_where_noise_is_drawn(module: str) -> None:
    """A second and forty megabytes: `sense` pays them once; `send`, the centre and the command line do not."""
    told = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print('opendp' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == str(module not in LIGHT)


def test_opendp_lends_nothing_unproved() -> None:
    """The only feature switched on in OpenDP is "contrib": no mechanism rests on "honest-but-curious" code of ours."""
    asked = [
        argument.value if isinstance(argument, ast.Constant) else ast.unparse(argument)
        for _, _, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("enable_features")
        for argument in node.args
    ]
    assert asked == ["contrib"]


def test_time_is_an_argument() -> None:
    """The machine's clock is named in its listed homes and in composition roots (murmure, the bench, cli.py)."""
    kept = ("murmure_privacy", "murmure_edge", "murmure_ingest", "murmure_dashboards")
    wrong = []
    for _, file, module in modules(*kept):
        if file in CLOCK_HOMES or file.endswith("/cli.py"):
            continue
        wrong += [
            f"{file}:{node.lineno} names {ast.unparse(node)}"
            for node in ast.walk(module)
            if isinstance(node, ast.Attribute) and CLOCKS.fullmatch(ast.unparse(node))
        ]
        wrong += [f"{file} imports {name}" for name in imports(module) if CLOCKS.fullmatch(name)]
    assert wrong == []


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("a registry's host", r"pypi\.org|python" + r"hosted|npmjs\.(org|com)|crates\.io|proxy\.golang"),
        ("a path of one machine", r"(?<![\w.])/(root|tmp/v|work/main|work/shared|work/notes)\b"),
        ("an address of a package index", r"--(extra-)?index-url|--find-links|--trusted-host"),
    ],
)
def test_nothing_committed_names(what: str, pattern: str) -> None:
    """No committed file names a registry's host, an index or a machine's path."""
    assert [file for file, text in texts() if re.search(pattern, text)] == [], what
