"""What the doctor can mend by itself: little, and each named before it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from murmure_edge.doctor.checks import rule_for
from murmure_edge.doctor.machine import Machine
from murmure_edge.doctor.report import Report

RULES = "/etc/udev/rules.d/71-murmure-ports.rules"
_SENSOR = {"sensor.asleep": "wake", "sensor.asked_only": "wake", "sensor.settings": "set", "privacy.bluetooth": "set"}
_RULE = ("rights.group", "rights.mode", "port.collision", "port.ambiguous")
_TEXTS = {
    "wake": ("réveiller le capteur et le laisser parler", "wake the sensor and leave it speaking"),
    "set": (
        "régler le radar comme `sense` le fait, Bluetooth éteint, et le redémarrer",
        "set the radar as `sense` does, Bluetooth off, and restart it",
    ),
    "udev": (f"écrire {RULES} et recharger udev", f"write {RULES} and reload udev"),
}


@dataclass(frozen=True, slots=True)
class Fix:
    """One mend: `name` wake, set or udev; `port` the port that it is for, "" for the machine."""

    name: str
    port: str

    def text(self, language: str) -> str:
        """Returns what it does, in one phrase."""
        return _TEXTS[self.name][language == "en"]

    def as_json(self, done: bool) -> dict[str, object]:
        """Returns it as one object."""
        return {
            "fix": self.name,
            "port": self.port,
            "does": {"fr": self.text("fr"), "en": self.text("en")},
            "done": done,
        }


def fixes_for(report: Report) -> list[Fix]:
    """Returns what could be mended, each once."""
    found = [Fix(_SENSOR[finding.code], finding.port) for finding in report.everything() if finding.code in _SENSOR]
    if any(finding.code in _RULE for finding in report.everything()):
        found.append(Fix("udev", ""))
    return list(dict.fromkeys(found))


def write_rules(machine: Machine, names: Sequence[tuple[str, str]]) -> None:
    """Writes a rule for each port, given as name and path: its socket, a name under /dev/murmure and the service's
    group; and has udev take it. Raises OSError."""
    rules = [rule_for(machine.serial_port(machine.real(path)), name) for name, path in names]
    if not names:
        rules = [
            rule_for(device, f"port{number}")
            for number, device in enumerate(machine.serial_ports(), 1)
            if device.usb is not None
        ]
    file = machine.at(RULES)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.new")
    beside.write_text("# Written by 'murmure edge doctor --fix --yes'.\n" + "\n".join(rules) + "\n", "utf-8")
    beside.chmod(0o644)
    beside.replace(file)
    machine.output(("udevadm", "control", "--reload"))
    machine.output(("udevadm", "trigger", "--subsystem-match=tty"))
