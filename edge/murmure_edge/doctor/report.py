"""What the doctor hands over: JSON for machines, text for people. Only the text, and only where told so, has values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from murmure_edge.doctor.ears import Values
from murmure_edge.doctor.examine import Examined
from murmure_edge.doctor.findings import Finding, Severity
from murmure_edge.doctor.machine import SerialPort

_SIGNS = {Severity.FAILURE: "✗", Severity.WARNING: "!", Severity.OK: "✓"}
_WORDS = {
    "fr": {
        "ports": "Ports série",
        "held": "tenu par",
        "frames": "trames/s",
        "bad": "fausses",
        "plausible": "vraisemblance",
        "values": "mesures, à cet écran seulement",
        "sum": "{failure} panne(s), {warning} avertissement(s), {ok} point(s) en ordre",
        "ok": "bon",
        "range": "hors limites",
        "order": "ordre",
    },
    "en": {
        "ports": "Serial ports",
        "held": "held by",
        "frames": "frames/s",
        "bad": "bad",
        "plausible": "plausibility",
        "values": "measured, on this screen only",
        "sum": "{failure} failure(s), {warning} warning(s), {ok} point(s) in order",
        "ok": "good",
        "range": "out of range",
        "order": "order",
    },
}


@dataclass(slots=True)
class Report:
    """One visit. `sense`: running, stopped or unknown. `fixes`: what was done or could be, by name and port."""

    sense: str = "stopped"
    findings: list[Finding] = field(default_factory=list)
    ports: Sequence[SerialPort] = ()
    sensors: list[Examined] = field(default_factory=list)
    fixes: list[dict[str, object]] = field(default_factory=list)

    def everything(self, own_screen: bool = False) -> list[Finding]:
        """Returns all findings, the worst first; those that are private for the technician's own screen only."""
        found = [*self.findings, *(finding for sensor in self.sensors for finding in sensor.findings)]
        order = list(Severity)
        told = [finding for finding in found if own_screen or not finding.private]
        return sorted(told, key=lambda finding: order.index(finding.severity))

    @property
    def failed(self) -> bool:
        """Returns whether one finding is a failure."""
        return any(finding.severity is Severity.FAILURE for finding in self.everything())

    def as_json(self) -> dict[str, object]:
        """Returns the one JSON document of `--json`: no value that was measured is in it."""
        return {
            "sense": self.sense,
            "findings": [finding.as_json() for finding in self.everything()],
            "ports": [port.as_json() for port in self.ports],
            "sensors": [sensor.as_json() for sensor in self.sensors],
            "fixes": self.fixes,
        }

    def as_text(self, language: str, with_values: bool) -> Iterator[str]:
        """Yields the lines for a person. `with_values`: it is the technician's own screen, and what sensors said last
        is shown too."""
        word = _WORDS[language]
        if self.ports:
            yield word["ports"]
            for port in self.ports:
                name = (*port.by_path, *port.by_id, "")[0]
                held = f"  {word['held']} {port.holders[0].program}" if port.holders else ""
                yield f"  {port.node}  {port.vid_pid}  {port.product}  {port.group}  {name}{held}".rstrip()
            yield ""
        for finding in self.everything(with_values):
            sentence, gesture = finding.texts(language)
            where = f"{finding.port}: " if finding.port else ""
            yield f"{_SIGNS[finding.severity]} {where}{sentence}  [{finding.code}]"
            if finding.severity is not Severity.OK:
                yield f"    → {gesture}"
        yield ""
        for sensor in self.sensors:
            yield (
                f"{sensor.port.name}: {sensor.state}, {sensor.frames_per_s:.1f} {word['frames']}, "
                f"{sensor.rejected} {word['bad']}"
            )
            if with_values:
                yield f"    {word['plausible']}: {', '.join(word[verdict] for verdict in sensor.recent) or '-'}"
            if with_values and sensor.values:
                yield f"    {word['values']}: {shown(sensor.values)}"
        counts = {str(severity): 0 for severity in Severity}
        for finding in self.everything(with_values):
            counts[str(finding.severity)] += 1
        yield word["sum"].format_map(counts)


def shown(values: Values | Mapping[str, object]) -> str:
    """Returns what a sensor said last, for the technician's own screen: the caller has asked `privacy.is_local`."""
    said = [(name, value) for name, value in values.items() if isinstance(value, int | float)]
    targets = values.get("targets")
    if isinstance(targets, list):
        said.append(("targets", len(targets)))
    return "  ".join(f"{name} {value:g}" for name, value in said)
