"""The machine that the doctor looks at: /sys, /proc, /dev and a few files of /etc, below a root that tests may plant.

It reads and never writes, follows what udev made, and takes whatever is missing for "not known".
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SERIAL_NAMES = ("ttyUSB", "ttyACM", "ttyAMA", "ttyS")
_OUTPUT_S = 5.0
_MOST_LOG = 1 << 20


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a device open."""

    pid: int
    program: str


@dataclass(frozen=True, slots=True)
class SerialPort:
    """One serial port. `usb`: the folder of its USB device in /sys, None for one on the board. `interface`: which of
    that device's interfaces it is. `by_id`, `by_path`: the names that udev gave it."""

    node: str
    usb: Path | None
    vid_pid: str
    serial: str
    product: str
    interface: str
    by_id: tuple[str, ...]
    by_path: tuple[str, ...]
    owner: str
    group: str
    mode: int
    holders: tuple[Holder, ...]

    def as_json(self) -> dict[str, object]:
        """Returns what check 1 lists."""
        return {
            "node": self.node,
            "usb": self.vid_pid,
            "serial": self.serial,
            "product": self.product,
            "by_id": list(self.by_id),
            "by_path": list(self.by_path),
            "owner": self.owner,
            "group": self.group,
            "mode": f"{self.mode & 0o777:03o}",
            "held_by": [{"pid": holder.pid, "program": holder.program} for holder in self.holders],
        }


@dataclass(frozen=True, slots=True)
class Account:
    """A user by name, with the numbers of all groups that it is in."""

    name: str
    uid: int
    groups: frozenset[int]


def _output(command: Sequence[str]) -> str | None:
    """Returns what a command prints, None if there is none such or it fails."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, timeout=_OUTPUT_S, check=True)
        return done.stdout[-_MOST_LOG:].decode("utf-8", "replace")
    return None


class Machine:
    """Everything below `root`. `output` runs a command of the living machine; a planted one has none. `stat` and
    `statvfs` are for tests that may not change owners or fill disks."""

    def __init__(
        self,
        root: Path = Path("/"),
        output: Callable[[Sequence[str]], str | None] | None = None,
        stat: Callable[[Path], os.stat_result] = Path.stat,
        statvfs: Callable[[Path], os.statvfs_result] = os.statvfs,
    ) -> None:
        self.root = root.resolve()
        self.living = self.root == Path("/")
        self.output = output or (_output if self.living else lambda command: None)
        self.stat = stat
        self.statvfs = statvfs

    def at(self, path: str | Path) -> Path:
        """Returns where a path of the machine lies."""
        return self.root / str(path).lstrip("/")

    def there(self, path: str | Path) -> str:
        """Returns the path of the machine for one that lies here."""
        inside = Path(path)
        return f"/{inside.relative_to(self.root)}" if inside.is_relative_to(self.root) else str(path)

    def text(self, path: str | Path) -> str | None:
        """Returns a small file's text without its last line end, None if it cannot be read."""
        with suppress(OSError), self.at(path).open("rb") as file:
            return file.read(_MOST_LOG).decode("utf-8", "replace").rstrip("\0\n")
        return None

    def number(self, path: str | Path, base: int = 10) -> int | None:
        """Returns a small file's number, None if there is none in it."""
        with suppress(ValueError, IndexError):
            return int((self.text(path) or "").split()[0], base)
        return None

    def glob(self, pattern: str) -> list[Path]:
        """Returns where the paths that match lie, in order."""
        return sorted(self.root.glob(pattern.lstrip("/")))

    def real(self, path: str) -> str:
        """Returns the device behind a path of the machine, every link followed."""
        planted = self.at(path)
        return self.there(os.path.realpath(planted if os.path.lexists(planted) else path))

    # --- who ---------------------------------------------------------------------------------------------------------

    def _entries(self, file: str) -> Iterator[list[str]]:
        for line in (self.text(file) or "").splitlines():
            fields = line.split(":")
            if len(fields) >= 4 and fields[2].isdecimal():
                yield fields

    def group_name(self, gid: int) -> str:
        """Returns the group's name, its number if it has none."""
        return next((fields[0] for fields in self._entries("/etc/group") if fields[2] == str(gid)), str(gid))

    def user_name(self, uid: int) -> str:
        """Returns the user's name, its number if it has none."""
        return next((fields[0] for fields in self._entries("/etc/passwd") if fields[2] == str(uid)), str(uid))

    def account(self, name: str, more_groups: Sequence[str] = ()) -> Account | None:
        """Returns the user of that name with its groups and with `more_groups`, those of its unit; None if unknown."""
        user = next((fields for fields in self._entries("/etc/passwd") if fields[0] == name), None)
        if user is None:
            return None
        groups = {int(user[3])} if user[3].isdecimal() else set()
        for fields in self._entries("/etc/group"):
            if name in fields[3].split(",") or fields[0] in more_groups:
                groups.add(int(fields[2]))
        return Account(name, int(user[2]), frozenset(groups))

    def unit(self, name: str) -> dict[str, str]:
        """Returns the settings of a systemd unit and its drop-ins, the last of each name; empty if not installed."""
        settings: dict[str, str] = {}
        for folder in ("usr/lib/systemd/system", "lib/systemd/system", "etc/systemd/system"):
            for path in [*self.glob(f"{folder}/{name}"), *self.glob(f"{folder}/{name}.d/*.conf")]:
                for line in (self.text(self.there(path)) or "").splitlines():
                    key, equals, value = line.partition("=")
                    if equals and not line.startswith("#"):
                        settings[key.strip()] = value.strip()
        return settings

    # --- ports -------------------------------------------------------------------------------------------------------

    def holders(self, node: str) -> tuple[Holder, ...]:
        """Returns who else has a device open, as far as this user may see it."""
        found = []
        for folder in self.glob("proc/[0-9]*"):
            if int(folder.name) == os.getpid() and self.living:
                continue
            with suppress(OSError):
                if any(str(fd.readlink()) == node for fd in (folder / "fd").iterdir()):
                    name = self.text(f"/proc/{folder.name}/comm") or "?"
                    found.append(Holder(int(folder.name), name))
        return tuple(found)

    def names_of(self, node: str, kind: str) -> tuple[str, ...]:
        """Returns the links in /dev/serial/`kind` (by-id, by-path) that lead to a device."""
        links = self.glob(f"dev/serial/{kind}/*")
        return tuple(self.there(link) for link in links if self.there(os.path.realpath(link)) == node)

    def serial_port(self, node: str) -> SerialPort:
        """Returns one port, by the path of its device."""
        device = self.at(f"/sys/class/tty/{Path(node).name}/device")
        usb, interface = None, ""
        with suppress(OSError):
            at = device.resolve(strict=True)
            for folder in (at, *at.parents):
                if not interface and (folder / "bInterfaceNumber").is_file():
                    interface = (folder / "bInterfaceNumber").read_text("ascii").strip()
                if (folder / "idVendor").is_file():
                    usb = folder
                    break

        def tells(name: str) -> str:
            return (self.text(self.there(usb / name)) or "") if usb is not None else ""

        owner, group, mode = "", "", 0
        with suppress(OSError):
            status = self.stat(self.at(node))
            owner, group, mode = self.user_name(status.st_uid), self.group_name(status.st_gid), status.st_mode
        return SerialPort(
            node=node,
            usb=usb,
            vid_pid=f"{tells('idVendor')}:{tells('idProduct')}" if usb is not None else "",
            serial=tells("serial"),
            product=tells("product"),
            interface=interface,
            by_id=self.names_of(node, "by-id"),
            by_path=self.names_of(node, "by-path"),
            owner=owner,
            group=group,
            mode=mode,
            holders=self.holders(node),
        )

    def serial_ports(self) -> list[SerialPort]:
        """Returns every serial port that has hardware behind it."""
        found = []
        for folder in self.glob("sys/class/tty/*"):
            if not folder.name.startswith(SERIAL_NAMES) or not (folder / "device").exists():
                continue
            if folder.name.startswith("ttyS") and self.number(f"/sys/class/tty/{folder.name}/type") == 0:
                continue  # a place on the board with nothing in it
            found.append(self.serial_port(f"/dev/{folder.name}"))
        return found

    # --- what it says of itself --------------------------------------------------------------------------------------

    def kernel_log(self) -> str | None:
        """Returns the kernel's messages since boot, None if this user may not read them."""
        for command in (("dmesg",), ("journalctl", "-k", "-b", "--no-pager", "-q")):
            said = self.output(command)
            if said:
                return said
        return self.text("/var/log/kern.log")

    def mount_of(self, path: Path) -> tuple[str, str, frozenset[str]] | None:
        """Returns device, mount point and options of the file system that a path of the machine lies on."""
        best: tuple[str, str, frozenset[str]] | None = None
        for line in (self.text("/proc/mounts") or "").splitlines():
            fields = line.split()
            if len(fields) < 4 or not path.is_relative_to(fields[1]):
                continue
            if best is None or len(fields[1]) >= len(best[1]):
                best = fields[0], fields[1], frozenset(fields[3].split(","))
        return best

    def ancestors(self) -> Iterator[tuple[str, str]]:
        """Yields name and environment of this process and of those that started it, as far as they may be read."""
        pid = os.getpid()
        while pid > 0:
            status = self.text(f"/proc/{pid}/status") or ""
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            yield fields.get("Name", ""), self.text(f"/proc/{pid}/environ") or ""
            parent = fields.get("PPid", "0")
            pid = int(parent) if parent.isdecimal() else 0
