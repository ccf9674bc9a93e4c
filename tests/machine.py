"""A machine of its own under a real systemd: a Debian in a folder, started as PID 1 and cut from its power at will.

It has its own processes, devices, mounts and network (a loopback, on which the centre is reached from this side), and
shares kernel and clock with whoever tests it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EPOCH_S = 1_767_225_600
PATIENCE_S = 300.0
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
GROUPS = "murmure-test"

# $1 its root, $2 the name of its control group; what follows is seen in it as it is here, and makes it a layer over
# this machine, in memory. Its devices are those that a container has; settings of the kernel it may read, not change.
POWER_ON = """\
root=$1 group=$2
shift 2
if [ "$#" -gt 0 ]; then
    mount -t tmpfs tmpfs "$root"
    mkdir "$root/upper" "$root/work" "$root/root"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" "$root/root"
    cd "$root/root"
    rm -rf etc/systemd/system/*.wants
    mount -t tmpfs -o mode=1777 tmpfs tmp
    for path; do
        mkdir -p "./$path"
        mount --bind "$path" "./$path"
    done
else
    mount --bind "$root" "$root"
    cd "$root"
fi
for unneeded in systemd-logind.service systemd-networkd.service getty.target apt-daily.timer; do
    ln -sf /dev/null "etc/systemd/system/$unneeded"
done
rm -rf var/log/journal  # it goes to /run then: a boot's own
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch dev/$device
    mount --bind /dev/$device dev/$device
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p "sys/fs/cgroup/$group"
echo $$ >"sys/fs/cgroup/$group/cgroup.procs"
umount sys/fs/cgroup
exec unshare --cgroup sh -ec '
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p .outside
pivot_root . .outside
umount --lazy /.outside
exec env -i container=murmure-test /lib/systemd/systemd --system'
"""
# What a power cut leaves of its control groups: empty folders.
CLEAR = 'mount -t cgroup2 cgroup2 "$1"; find "$1/$2" -depth -type d -exec rmdir {} +'


def debian(root: Path) -> None:
    """Puts Debian's smallest into a folder, with what any Debian has beside it: systemd, udev, Python; from the mirror
    of this machine."""
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    mirror, release = targets.stdout.split()[:2]
    made = subprocess.run(
        ["debootstrap", "--variant=minbase", "--include=python3,systemd,udev", release, str(root), mirror],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]


def bundle(out: Path, architecture: str = platform.machine()) -> Path:
    """Builds one archive for gateways and returns its path."""
    subprocess.run(
        [sys.executable, str(ROOT / "edge" / "bundle" / "build.py"), "--arch", architecture, "--out", str(out)],
        env=os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH_S)},
        check=True,
    )
    (archive,) = out.glob(f"*-{architecture}.tar.gz")
    return archive


class Machine:
    """A Debian in `root`, with systemd. `boot` and `cut` it as often as you like; its files stay. With `seen`, folders
    of this machine, it is a layer over this machine instead, which a cut throws away."""

    def __init__(self, root: Path, seen: Sequence[Path] = ()) -> None:
        self.root = root
        self.first = ""  # its first process, as a number of this machine's
        self._seen = [str(path) for path in seen]
        self._console = root.parent / "console.log"
        self._group = f"{GROUPS}.{os.getpid()}"
        self._power: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Switches it on and waits until systemd has started all that it should."""
        apart = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child"]
        command = [*apart, "sh", "-ec", POWER_ON, "on", str(self.root), self._group, *self._seen]
        with self._console.open("ab") as console:
            self._power = subprocess.Popen(command, stdout=console, stderr=console)
        children = Path(f"/proc/{self._power.pid}/task/{self._power.pid}/children")
        self.until(lambda: self._power is not None and bool(children.read_text().split()))
        self.first = children.read_text().split()[0]
        self.until(lambda: "systemd" in Path("/proc", self.first, "comm").read_text())
        if self._seen:
            self.root = Path("/proc", self.first, "root")
        self.until(lambda: self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"))

    def cut(self) -> None:
        """Switches it off as a power cut does: nothing in it hears of it."""
        if self._power is None:
            return
        waited = [Path("/proc", pid) for pid in self._everybody()]
        self._power.kill()
        self._power.wait()
        self._power = None
        self.until(lambda: not any(path.exists() for path in waited))
        folder = self._console.parent / "groups"
        folder.mkdir(exist_ok=True)
        subprocess.run(["unshare", "--mount", "sh", "-ec", CLEAR, "clear", str(folder), self._group], check=True)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in it, as root."""
        return subprocess.run(
            ["nsenter", f"--target={self.first}", "--all", *command],
            env=ENVIRONMENT | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )

    def start(self, *command: str, log: Path, beside: bool = False) -> subprocess.Popen[bytes]:
        """Starts a program in it, as root; or `beside` it: one of this machine, at the other end of its line."""
        enter = ["--net"] if beside else ["--all"]
        with log.open("ab") as said:
            return subprocess.Popen(
                ["nsenter", f"--target={self.first}", *enter, *command],
                env=(dict(os.environ) if beside else ENVIRONMENT),
                stdout=said,
                stderr=said,
            )

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Returns properties of a unit."""
        lines = self.run("systemctl", "show", unit, *(f"--property={name}" for name in names)).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines)

    def journal(self, unit: str) -> str:
        """Returns what a unit has said since the last boot."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").stdout

    def path(self, pid: str) -> Path:
        """Returns the folder in /proc of one of its processes, seen from this machine."""
        return Path("/proc", self.first, "root", "proc", pid)

    def until(self, good: Callable[[], Any], told: Callable[[], str] = lambda: "") -> None:
        """Waits for something to become true; `told` says what to show if it does not."""
        patience = time.monotonic() + PATIENCE_S
        while not good():
            power = self._power
            assert time.monotonic() < patience and (power is None or power.poll() is None), f"{told()}\n{self._said()}"
            time.sleep(0.1)

    def _everybody(self) -> list[str]:
        space = Path("/proc", self.first, "ns", "pid").readlink()
        return [path.parts[2] for path in Path("/proc").glob("[0-9]*") if _space(path) == space]

    def _said(self) -> str:
        return self._console.read_text("utf-8", "replace")[-2000:]


def _space(process: Path) -> Path | None:
    try:
        return (process / "ns" / "pid").readlink()
    except OSError:
        return None
