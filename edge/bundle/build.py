"""`make gateway-bundle`: one archive that installs a gateway without any network.

Two builds of the same commit give the same bytes: names are sorted, times are the commit's (or SOURCE_DATE_EPOCH), and
everything belongs to root. Why it is made so: docs/decisions/0027-gateway-bundle.md.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
ARCHITECTURES = ("aarch64", "x86_64")
PYTHONS = ("3.11", "3.12", "3.13")  # Debian 12 has the first, Debian 13 the last
GLIBC_MINORS = range(36, 16, -1)  # Debian 12 has glibc 2.36
LONG_AGO_S = 1_580_601_600  # 2020-02-02, as hatchling's, where there is neither git nor SOURCE_DATE_EPOCH
# What the archive holds of the checkout, at the same places, so that links in the guides lead somewhere.
TAKEN = (
    "LICENSE",
    "edge/README.md",
    "edge/LISEZMOI.md",
    "edge/gateway.example.toml",
    "edge/systemd/*",
    "edge/udev/*",
    "docs/accuracy.md",
    "docs/doctor.md",
    "docs/gateway.md",
    "docs/log.md",
    "docs/pictures/wiring-*.svg",
)


class BundleError(Exception):
    """The archive cannot be made; one line that says why."""


def build(architecture: str, out: Path, epoch_s: int) -> Path:
    """Makes the archive for `architecture` in the folder `out`, all times being `epoch_s` (UTC seconds).

    Raises BundleError: an unknown architecture, or pip could not get a wheel.
    """
    if architecture not in ARCHITECTURES:
        raise BundleError(f"ARCH: {architecture}: no such bundle; write {' or '.join(ARCHITECTURES)}")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    name = f"murmure-gateway-{version}-{architecture}"
    with tempfile.TemporaryDirectory() as temporary:
        stage = Path(temporary, name)
        wheels = stage / "wheels"
        wheels.mkdir(parents=True)
        locked = [*_locked("constraints-edge.txt"), *_locked("constraints-pip.txt")]
        _download(locked, architecture, wheels)
        _build_own(wheels, epoch_s)
        for pattern in TAKEN:
            _take(stage, pattern)
        shutil.copyfile(HERE / "install.sh", stage / "install.sh")
        _write_self_test(stage / "selftest")
        _write(stage / "requirements.txt", _requirements(locked, version, wheels))
        bom = sbom(version, architecture, sorted(wheels.iterdir()), epoch_s)
        _write(stage / "sbom.cdx.json", json.dumps(bom, indent=1, ensure_ascii=False) + "\n")
        _write(stage / "BUNDLE", f"version={version}\narchitecture={architecture}\n")
        files = sorted(path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file())
        _write(stage / "SHA256SUMS", "".join(f"{_sha256(stage / file)}  {file}\n" for file in files))
        out.mkdir(parents=True, exist_ok=True)
        archive = out / f"{name}.tar.gz"
        _pack(stage, archive, epoch_s)
    _write(out / f"{archive.name}.sha256", f"{_sha256(archive)}  {archive.name}\n")
    return archive


def _locked(file: str) -> list[tuple[Requirement, tuple[str, ...]]]:
    """Returns each requirement of a file of pins with its hashes."""
    found = []
    for line in (ROOT / file).read_text("utf-8").replace("\\\n", " ").splitlines():
        wanted, *hashes = re.split(r"\s+--hash=", line.strip())
        if wanted and not wanted.startswith("#"):
            found.append((Requirement(wanted), tuple(hashes)))
    return found


def _environment(python: str, architecture: str) -> dict[str, str]:
    """Returns what markers ask of a gateway, whatever machine the archive is made on."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": architecture,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
        "extra": "",
    }


def _download(locked: Iterable[tuple[Requirement, tuple[str, ...]]], architecture: str, wheels: Path) -> None:
    """Gets the wheels of every Python, each by its hash. pip would judge markers by the Python that runs it."""
    platforms = [f"manylinux_2_{minor}_{architecture}" for minor in GLIBC_MINORS] + [f"manylinux2014_{architecture}"]
    for python in PYTHONS:
        lines = [
            " ".join((f"{wanted.name}{wanted.specifier}", *(f"--hash={known}" for known in hashes)))
            for wanted, hashes in locked
            if wanted.marker is None or wanted.marker.evaluate(_environment(python, architecture))
        ]
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
            pins.write("\n".join(lines))
            pins.flush()
            _pip(
                "download",
                *("--require-hashes", "--no-deps", "--only-binary=:all:"),
                *(f"--platform={name}" for name in platforms),
                *(f"--python-version={python}", "--implementation=cp"),
                *("--dest", str(wheels), "--requirement", pins.name),
            )


def _build_own(wheels: Path, epoch_s: int) -> None:
    """Adds our own wheel, the whole distribution; only its extra `edge` is installed with it."""
    _pip(
        "wheel",
        *("--no-deps", "--no-build-isolation", "--no-index"),
        *("--wheel-dir", str(wheels), str(ROOT)),
        SOURCE_DATE_EPOCH=str(epoch_s),
    )


def _pip(command: str, *arguments: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise BundleError(f"pip {command}: {said[-1] if said else 'failed'}")


def _take(stage: Path, pattern: str) -> None:
    found = sorted(ROOT.glob(pattern))
    if not found:
        raise BundleError(f"{pattern}: no such file in the checkout")
    for path in found:
        to = stage / path.relative_to(ROOT)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)


def _write_self_test(folder: Path) -> None:
    """Writes a made-up day and a policy for it: before a new version takes over, it has to publish that day."""
    folder.mkdir()
    shutil.copyfile(HERE / "selftest.toml", folder / "policy.toml")
    rows = ["timestamp_utc,site,metric,value,unit"]
    for quarter in range(96):
        hour, minute = divmod(quarter * 15, 60)
        rows.append(f"2026-11-09T{hour:02}:{minute:02}:00Z,selftest,pedestrians,{quarter % 12},1")
    _write(folder / "readings.csv", "\n".join(rows) + "\n")


def _requirements(locked: Iterable[tuple[Requirement, tuple[str, ...]]], version: str, wheels: Path) -> str:
    """Returns what pip is to install: the pins of a gateway with the hashes of the wheels that are here, and us."""
    own = Requirement(f"murmure=={version}")
    lines = []
    for wanted in [*(wanted for wanted, _ in locked if wanted.name != "pip"), own]:
        here = [path for path in sorted(wheels.iterdir()) if _is(path, wanted)]
        if here:
            lines.append(" \\\n".join((str(wanted), *(f"    --hash=sha256:{_sha256(path)}" for path in here))))
    return "\n".join(lines) + "\n"


def _is(wheel: Path, wanted: Requirement) -> bool:
    name, version, *_ = parse_wheel_filename(wheel.name)
    return name == canonicalize_name(wanted.name) and version in wanted.specifier


def sbom(version: str, architecture: str, wheels: Iterable[Path], epoch_s: int) -> dict[str, object]:
    """Returns what the archive is made of: CycloneDX 1.6, a component a wheel, with licence, hash and who asks for it.

    pip installs and is not installed, hence its scope `excluded`.
    """
    components, asks = [], dict[str, set[str]]()
    for wheel in wheels:
        metadata = _metadata(wheel)
        name = canonicalize_name(metadata["Name"])
        reference = f"pkg:pypi/{name}@{metadata['Version']}?file_name={wheel.name}"
        asks[reference] = set(_asked_for(metadata, architecture, "edge" if name == "murmure" else ""))
        components.append(
            {
                "type": "library",
                "bom-ref": reference,
                "name": name,
                "version": metadata["Version"],
                "purl": reference,
                "scope": "excluded" if name == "pip" else "required",
                "licenses": [_licence(metadata)],
                "hashes": [{"alg": "SHA-256", "content": _sha256(wheel)}],
            }
        )
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": "murmure-gateway",
                "name": f"murmure-gateway-{architecture}",
                "version": version,
                "licenses": [{"expression": "EUPL-1.2"}],
            },
        },
        "components": components,
        "dependencies": [
            {
                "ref": reference,
                "dependsOn": [each["bom-ref"] for each in components if each["name"] in wanted],
            }
            for reference, wanted in [("murmure-gateway", {"murmure"}), *asks.items()]
        ],
    }


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as packed:
        name = next(each for each in packed.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", each))
        return BytesParser().parsebytes(packed.read(name), headersonly=True)


def _asked_for(metadata: Message, architecture: str, extra: str) -> Iterator[str]:
    """Yields the names that a distribution needs on a gateway, by any of its Pythons."""
    for wanted in map(Requirement, metadata.get_all("Requires-Dist", [])):
        if wanted.marker is None or any(
            wanted.marker.evaluate(_environment(python, architecture) | {"extra": extra}) for python in PYTHONS
        ):
            yield canonicalize_name(wanted.name)


def _licence(metadata: Message) -> dict[str, object]:
    """Returns what a distribution says of its licence, newest way of saying it first."""
    if metadata["License-Expression"]:
        return {"expression": metadata["License-Expression"]}
    classified = [
        line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if line.startswith("License :: ")
    ]
    said = " / ".join(classified) or (metadata["License"] or "").strip().splitlines()[0]
    return {"license": {"name": said}}


def _pack(stage: Path, archive: Path, epoch_s: int) -> None:
    with (
        archive.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=epoch_s) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for path in [stage, *sorted(stage.rglob("*"))]:
            info = tarfile.TarInfo(path.relative_to(stage.parent).as_posix())
            info.mtime = epoch_s
            info.uname = info.gname = "root"
            if path.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
                continue
            info.size, info.mode = path.stat().st_size, 0o755 if path.suffix == ".sh" else 0o644
            with path.open("rb") as content:
                tar.addfile(info, content)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8", newline="\n")


def _epoch_s() -> int:
    """Returns the time that everything in the archive bears: SOURCE_DATE_EPOCH, else that of the last commit."""
    said = os.environ.get("SOURCE_DATE_EPOCH")
    if said is None:
        asked = subprocess.run(
            ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"], capture_output=True, text=True, check=False
        )
        said = asked.stdout.strip() or str(LONG_AGO_S)
    if not said.isdecimal():
        raise BundleError(f"SOURCE_DATE_EPOCH: {said}: is no time; write seconds since 1970, or nothing")
    return int(said)


def main() -> int:
    """Builds one archive and prints its path, size and SHA-256."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default=platform.machine(), help="aarch64 or x86_64 (default: this machine's)")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the archive (default: dist)")
    args = parser.parse_args()
    try:
        archive = build(args.arch, args.out, _epoch_s())
    except BundleError as error:
        print(f"murmure: gateway-bundle: {error}", file=sys.stderr)
        return 2
    print(f"{archive}  {archive.stat().st_size / 1e6:.1f} MB  sha256:{_sha256(archive)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
