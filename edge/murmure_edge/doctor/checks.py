"""What the machine says of itself: ports, rights, the UART, clock, power, storage, privacy. No port is opened here."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from murmure_privacy.decide import FLOOR
from murmure_privacy.errors import ConfigError, LedgerDamaged, MurmureError

from murmure_edge import clock
from murmure_edge.config import GatewayConfig, PortConfig, load_trust
from murmure_edge.doctor.findings import Finding
from murmure_edge.doctor.machine import Account, Machine, SerialPort
from murmure_edge.enrol import certificate_end_s
from murmure_edge.gateway_db import inspected

SERVICE_USER, SENSE_UNIT = "murmure-sense", "murmure-sense.service"
_BARE = re.compile(r"/dev/tty(USB|ACM)\d+")
_BOARD_UART = re.compile(r"/dev/tty(AMA|S)\d+")

_LOW_MB, _FULL_MB = 1000, 200
_MOST_WRITTEN_MB_PER_DAY = 2000  # a gateway of six streams writes less than 20
_LEAST_UPTIME_S = 6 * 3600  # the hours after a start write more than the others
_SECTOR = 512
_WORN = 0x08  # life_time: each step is a tenth of the card's life; this one says 70 to 80 %

_VOLTAGE_NOW, _VOLTAGE_BEFORE, _HOT = 1 << 0, 1 << 16, 1 << 3 | 1 << 19
_USB_TROUBLE = re.compile(r"USB disconnect|urb stopped|hub \S+: .*(over-current|reset)", re.IGNORECASE)
_LOW_VOLTAGE = re.compile(r"under-?voltage detected", re.IGNORECASE)
_OFTEN = 3  # a sensor that was plugged in by hand leaves a line or two

_TRACES = ("*.trace", "*.spy", "trace.txt", "core", "core.[0-9]*")
_MOST_NAMED = 3
_AUDIO_CLASS = "01"
_ONLY_LISTENS = ("gps", "fm")

_RENEW_BEFORE_MS = 90 * 86_400_000  # a gateway is visited a few times a year


@dataclass(frozen=True, slots=True)
class Place:
    """What the checks look at: the machine, and what is configured. `config`: None before commissioning. `ports`: those
    to look at; `synchronised`: whether the kernel says so of its clock; `wall_ms`: UTC milliseconds."""

    machine: Machine
    config: GatewayConfig | None
    ports: Sequence[PortConfig]
    synchronised: Callable[[], bool]
    wall_ms: Callable[[], int]

    @property
    def data(self) -> Path:
        """Returns where the gateway's files lie, or would."""
        return Path(self.config.data if self.config is not None else "/var/lib/murmure")


def everything(place: Place) -> Iterator[Finding]:
    """Yields what the checks find, in their order; a check that finds nothing wrong says so in one finding."""
    listed = place.machine.serial_ports()
    for group, found in (
        ("ports", [*ports(place, listed), *rights(place), *board_uart(place)]),
        ("clock", [*time(place)]),
        ("power", [*power(place)]),
        ("storage", [*storage(place)]),
        ("privacy", [*radios(place), *privacy(place)]),
    ):
        yield from found or [Finding(f"{group}.ok", about=_about_ok(place, group, listed))]
    yield from trust(place)
    yield from certificate(place)


def _about_ok(place: Place, group: str, listed: Sequence[SerialPort]) -> dict[str, str | int | float]:
    if group == "ports":
        return {"count": len(listed)}
    if group == "clock":
        rtc = clock.rtc_ms(place.machine.at(clock.RTC_TIME))
        return {"rtc": "-" if rtc is None else f"{(rtc - place.wall_ms()) / 1000:+.0f} s"}
    return {}


def trust(place: Place) -> Iterator[Finding]:
    """Whether a policy that loosens has to wait here: in a `trust.toml` from before there was a ceiling it has not. A
    file that cannot be read says nothing; `sense` does not start with it, and says why."""
    if place.config is None:
        return
    try:
        pinned = load_trust(place.config)
    except ConfigError:
        return
    about: dict[str, str | int | float] = {"path": str(place.config.trust), "most": FLOOR.rho_micro}
    yield Finding("trust.ok" if pinned.ceiling is not None else "trust.no_ceiling", about=about)


def certificate(place: Place) -> Iterator[Finding]:
    """For how long the broker will still let `send` in. A file that this user may not read says nothing here."""
    broker = place.config.broker if place.config is not None else None
    if place.config is None or broker is None or broker.tls is None:
        return
    about: dict[str, str | int | float] = {"path": str(broker.tls.certificate), "gateway": place.config.gateway}
    try:
        until_ms = 1000 * certificate_end_s(broker.tls.certificate.read_text("ascii"))
    except PermissionError:
        return
    except (OSError, ValueError):
        yield Finding("certificate.unreadable", about=about)
        return
    about["day"] = datetime.fromtimestamp(until_ms / 1000, UTC).strftime("%Y-%m-%d")
    left_ms = until_ms - place.wall_ms()
    state = "ended" if left_ms <= 0 else "ends" if left_ms < _RENEW_BEFORE_MS else "ok"
    yield Finding(f"certificate.{state}", about=about)


def ledger(data: Path) -> Iterator[Finding]:
    """Whether `gateway.db`, which nobody may have open, reads as it was written: `sense` does not start with another.
    A gateway that never ran has none, and one that this user may not read says nothing here."""
    path = data / "gateway.db"
    about: dict[str, str | int | float] = {"path": str(path)}
    try:
        older_copy = inspected(path)
    except LedgerDamaged:
        yield Finding("ledger.damaged", about=about)
        return
    except (OSError, MurmureError):
        return
    yield Finding("ledger.ok" if older_copy is None else "ledger.older_copy", about=about)


# --- 1 and 2: which ports there are, and whether their names hold ----------------------------------------------------


def ports(place: Place, listed: Sequence[SerialPort]) -> Iterator[Finding]:
    """Names that may change at the next boot, and names that two devices share."""
    if not listed and not place.ports:
        yield Finding("port.none")
    for port in place.ports:
        if _BARE.fullmatch(port.path):
            by_path = place.machine.serial_port(place.machine.real(port.path)).by_path
            yield Finding("port.bare", port.name, {"path": port.path, "by_path": by_path[0] if by_path else "-"})
    twins: dict[tuple[str, ...], list[SerialPort]] = {}
    for device in listed:
        if device.usb is not None:
            twins.setdefault((device.vid_pid, device.serial, device.product, device.interface), []).append(device)
    for group in twins.values():
        if len(group) == 1:
            continue
        shared = {name for device in group for name in device.by_id}
        used = [port for port in place.ports if port.path in shared]
        about = {"nodes": ", ".join(device.node for device in group), "rule": rule_for(group[0], "sensor")}
        for port in used:
            by_path = place.machine.serial_port(place.machine.real(port.path)).by_path
            yield Finding("port.ambiguous", port.name, {**about, "by_path": by_path[0] if by_path else "-"})
        if not used:
            yield Finding("port.collision", about=about)


def rule_for(device: SerialPort, name: str) -> str:
    """Returns the udev rule that names a device by its socket, and gives it to the service's group."""
    socket = device.usb.name if device.usb is not None else "?"
    return f'SUBSYSTEM=="tty", KERNELS=="{socket}", SYMLINK+="murmure/{name}", GROUP="murmure-serial", MODE="0660"'


# --- 3: rights, as the user of the service ---------------------------------------------------------------------------


def service_account(machine: Machine, fallback_uid: int) -> Account | None:
    """Returns the user that `sense` runs as, with the groups of its unit; whoever asks, where it is not installed."""
    more = machine.unit(SENSE_UNIT).get("SupplementaryGroups", "").split()
    return machine.account(SERVICE_USER, more) or machine.account(machine.user_name(fallback_uid))


def rights(place: Place, uid: int | None = None) -> Iterator[Finding]:
    """Whether the service's user may read and write each configured port, by its real owner, group and mode."""
    account = service_account(place.machine, os.geteuid() if uid is None else uid)
    if account is None or account.uid == 0:
        return
    for port in place.ports:
        node = place.machine.real(port.path)
        try:
            status = place.machine.stat(place.machine.at(node))
        except OSError:
            continue  # it is not there: the sensor's own check says so
        if not node.startswith("/dev/tty"):
            continue  # of another machine, or emulated
        group = place.machine.group_name(status.st_gid)
        about = {"user": account.name, "group": group, "path": port.path, "mode": f"{stat.S_IMODE(status.st_mode):03o}"}
        both = stat.S_IRUSR | stat.S_IWUSR
        if status.st_uid == account.uid:
            allowed = status.st_mode & both == both
        elif status.st_gid in account.groups:
            allowed = status.st_mode & both >> 3 == both >> 3
        else:
            allowed = status.st_mode & both >> 6 == both >> 6
            if not allowed and status.st_mode & both >> 3 == both >> 3:
                yield Finding("rights.group", port.name, about)
                continue
        if not allowed:
            yield Finding("rights.mode", port.name, about)


# --- 4: the UART of the board ----------------------------------------------------------------------------------------


def board_uart(place: Place) -> Iterator[Finding]:
    """Who else speaks on the board's own serial pins: a login, kernel messages, Bluetooth; and the weak UART."""
    machine = place.machine
    model = machine.text("/proc/device-tree/model") or ""
    boot = "\n".join(machine.text(f"{folder}/config.txt") or "" for folder in ("/boot/firmware", "/boot"))
    overlays = re.findall(r"^\s*dtoverlay=([\w-]+)", boot, re.MULTILINE)
    consoles = re.findall(r"\bconsole=(\w+)", machine.text("/proc/cmdline") or "")
    nodes = {machine.real(f"/dev/{name}") for name in consoles}
    for port in place.ports:
        node = machine.real(port.path)
        if not _BOARD_UART.fullmatch(node):
            continue
        about = {"path": port.path, "node": node, "tty": Path(node).name}
        if node in nodes:
            yield Finding("uart.console", port.name, about)
        if machine.glob(f"etc/systemd/system/getty.target.wants/serial-getty@{about['tty']}.service") or machine.glob(
            f"run/systemd/generator/getty.target.wants/serial-getty@{about['tty']}.service"
        ):
            yield Finding("uart.login", port.name, about)
        if not model.startswith("Raspberry Pi") or model.startswith("Raspberry Pi 5"):
            continue
        moved = {"disable-bt", "miniuart-bt", "pi3-disable-bt", "pi3-miniuart-bt"} & set(overlays)
        if node == "/dev/ttyS0":
            yield Finding("uart.mini", port.name, about)
        elif node == "/dev/ttyAMA0" and not moved and not model.startswith("Raspberry Pi 2"):
            yield Finding("uart.bluetooth", port.name, about)


# --- 7: the clock ----------------------------------------------------------------------------------------------------


def time(place: Place) -> Iterator[Finding]:
    """Who vouches for the time, and whether it would still be known after a power cut."""
    machine, now_ms = place.machine, place.wall_ms()
    there = bool(machine.glob("sys/class/rtc/rtc0"))
    rtc = clock.rtc_ms(machine.at(clock.RTC_TIME))
    synchronised = machine.at(clock.SYNCHRONISED).exists() or place.synchronised()
    white_zone = place.config is not None and place.config.white_zone
    source = place.config.clock if place.config is not None else clock.AUTO
    if now_ms < clock.EARLIEST_MS:
        yield Finding("clock.unset")
    if rtc is None and white_zone:
        yield Finding("clock.no_rtc")
    elif rtc is None and there:
        yield Finding("clock.battery")
    elif rtc is not None and abs(rtc - now_ms) > clock.STEP_MS:
        yield Finding("clock.rtc_off", about={"offset_s": f"{(rtc - now_ms) / 1000:+.0f}"})
    if now_ms >= clock.EARLIEST_MS and not white_zone and not synchronised:
        vouched = clock.vouched_for(source, lambda: now_ms, lambda: synchronised, lambda: rtc)
        yield Finding("clock.by_rtc" if vouched else "clock.unsynced")


# --- 8: power --------------------------------------------------------------------------------------------------------


def power(place: Place) -> Iterator[Finding]:
    """What the board says of its voltage and heat, and the kernel of USB plugs that let go."""
    machine = place.machine
    flags = machine.number("/sys/devices/platform/soc/soc:firmware/get_throttled", 16)
    if flags is None:
        said = re.search(r"throttled=0x([0-9a-fA-F]+)", machine.output(("vcgencmd", "get_throttled")) or "")
        flags = int(said[1], 16) if said else 0
    log = machine.kernel_log() or ""
    if flags & _VOLTAGE_NOW:
        yield Finding("power.low")
    elif flags & _VOLTAGE_BEFORE or _LOW_VOLTAGE.search(log):
        yield Finding("power.was_low")
    if flags & _HOT:
        yield Finding("power.hot")
    troubles = len(_USB_TROUBLE.findall(log))
    if troubles >= _OFTEN:
        yield Finding("power.usb", about={"times": troubles})


# --- 9: storage ------------------------------------------------------------------------------------------------------


def storage(place: Place) -> Iterator[Finding]:
    """Room, and how long the card will last."""
    machine = place.machine
    folder = machine.at(place.data)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        disk = machine.statvfs(folder)
        free_mb = disk.f_bavail * disk.f_frsize // 1_000_000
    except OSError:
        return
    about: dict[str, str | int | float] = {"folder": str(place.data), "free_mb": free_mb}
    if free_mb < _FULL_MB:
        yield Finding("storage.full", about=about)
    elif free_mb < _LOW_MB:
        yield Finding("storage.low", about=about)
    mount = machine.mount_of(Path(place.data))
    if mount is None:
        return
    device, point, options = mount
    about = {"device": device, "point": point}
    if "ro" in options:
        yield Finding("storage.read_only", about=about)
    disk_name = _disk_of(Path(device).name)
    if disk_name.startswith("mmcblk") and "noatime" not in options:
        yield Finding("storage.atime", about=about)
    yield from _wear(machine, disk_name)


def _disk_of(partition: str) -> str:
    """Returns the disk that a partition is on."""
    return (
        re.sub(r"(?<=\d)p\d+$", "", partition)
        if partition.startswith(("mmcblk", "nvme"))
        else partition.rstrip("0123456789")
    )


def _wear(machine: Machine, disk: str) -> Iterator[Finding]:
    lives = [int(life, 16) for life in (machine.text(f"/sys/block/{disk}/device/life_time") or "").split()]
    if any(life >= _WORN for life in lives) or (machine.number(f"/sys/block/{disk}/device/pre_eol_info", 16) or 0) > 1:
        yield Finding("storage.worn", about={"disk": disk})
    fields = (machine.text(f"/sys/block/{disk}/stat") or "").split()
    uptime = (machine.text("/proc/uptime") or "0").split(".")[0]
    if len(fields) > 6 and uptime.isdecimal() and int(uptime) >= _LEAST_UPTIME_S:
        mb_per_day = round(int(fields[6]) * _SECTOR / int(uptime) * 86_400 / 1_000_000)
        if mb_per_day > _MOST_WRITTEN_MB_PER_DAY:
            yield Finding("storage.writes", about={"disk": disk, "mb_per_day": mb_per_day})


# --- 10: privacy -----------------------------------------------------------------------------------------------------


def radios(place: Place) -> Iterator[Finding]:
    """What could send or be seen on the air in a white zone, where a town was promised that nothing is."""
    machine = place.machine
    if place.config is None or not place.config.white_zone:
        return
    switches = [machine.there(folder) for folder in machine.glob("sys/class/rfkill/*")]
    names = [
        f"{kind} {machine.text(f'{at}/name') or Path(at).name}"
        for at in switches
        if (kind := machine.text(f"{at}/type") or "?") not in _ONLY_LISTENS and _is_on(machine, at)
    ]
    if not switches:  # a kernel without such switches
        names = [f"wlan {path.parent.name}" for path in machine.glob("sys/class/net/*/phy80211")]
        names += [f"bluetooth {path.name}" for path in machine.glob("sys/class/bluetooth/hci*")]
    if names:
        yield Finding("privacy.radio", about={"radios": ", ".join(names)})


def _is_on(machine: Machine, switch: str) -> bool:
    """Returns whether neither a program nor a button has switched a radio off."""
    blocked = [machine.number(f"{switch}/{lock}") for lock in ("soft", "hard")]
    return not any(blocked) if None not in blocked else machine.number(f"{switch}/state") == 1


def privacy(place: Place) -> Iterator[Finding]:
    """Whatever could hear a voice, or keep a reading."""
    machine = place.machine
    for port in place.ports:
        if port.path.startswith("spy://"):
            yield Finding("privacy.spy", port.name, {"path": port.path})
        usb = machine.serial_port(machine.real(port.path)).usb
        if usb is not None and _has_microphone(machine, usb):
            yield Finding("privacy.microphone", port.name, {"path": port.path})
    traces = list(_traces(place))
    if traces:
        shown = ", ".join(traces[:_MOST_NAMED]) + (", …" if len(traces) > _MOST_NAMED else "")
        yield Finding("privacy.trace", about={"files": shown})
    if (machine.number("/proc/sys/fs/suid_dumpable") or 0) > 0:
        yield Finding("privacy.core", about={"pattern": machine.text("/proc/sys/kernel/core_pattern") or "core"})
    swaps = [line.split()[0] for line in (machine.text("/proc/swaps") or "").splitlines()[1:] if line.strip()]
    swaps = [name for name in swaps if not Path(name).name.startswith("zram")]
    kept = (
        machine.unit(SENSE_UNIT).get("MemorySwapMax") == "0"
        and machine.at("/sys/fs/cgroup/cgroup.controllers").exists()
    )
    if swaps and not kept:
        yield Finding("privacy.swap", about={"swap": ", ".join(swaps)})


def _has_microphone(machine: Machine, usb: Path) -> bool:
    """Returns whether a USB device captures sound, or could once a driver is loaded for it."""
    if any(usb.glob("**/sound/card*/pcm*c")):
        return True
    return any((machine.text(machine.there(file)) or "") == _AUDIO_CLASS for file in usb.glob("*/bInterfaceClass"))


def _traces(place: Place) -> Iterator[str]:
    """Yields files that look like recordings of a line or of a process's memory, where a gateway's files lie."""
    folders = [place.data, Path("/etc/murmure")]
    if place.config is not None:
        folders += [Path(place.config.send_data), Path(place.config.file.parent)]
    for folder in dict.fromkeys(folders):
        for pattern in _TRACES:
            yield from sorted(place.machine.there(path) for path in place.machine.at(folder).glob(pattern))
    yield from (place.machine.there(path) for path in place.machine.glob("var/lib/systemd/coredump/core.murmure*"))
