"""Each code of the doctor has an exercise, and the exercise meets it: in the simulator, or on a planted machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from murmure_edge.doctor.findings import Entry, catalogue
from murmure_edge.doctor.page import TRUST

ENTRIES = catalogue()
WITH_SENSOR = [code for code, entry in ENTRIES.items() if "sim" in entry.exercise]
ON_A_MACHINE = [code for code, entry in ENTRIES.items() if entry.exercise.keys() & {"plant", "config"}]
BY_HAND = [code for code, entry in ENTRIES.items() if "hand" in entry.exercise]

AT_ONCE = 10  # more would be late on a small machine, and the doctor would rightly say so
TYPED_AFTER_S = 6.0
Found = Mapping[str, Mapping[str, dict[str, Any]]]


@pytest.fixture(scope="session")
def found(large_clinic: Any) -> Found:
    """What the doctor finds in each exercise with a sensor, several at the same time."""

    def visit(code: str) -> dict[str, dict[str, Any]]:
        exercise = ENTRIES[code].exercise
        speed = f" --speed {exercise['faster']}" if "faster" in exercise else ""
        around = {"make_link": large_clinic.faster(exercise["faster"])} if "faster" in exercise else {}
        link = large_clinic.start(exercise["sim"] + speed)
        if "type" in exercise:
            threading.Timer(TYPED_AFTER_S, large_clinic.sensors.type, (link, exercise["type"])).start()
        told: dict[str, dict[str, Any]] = large_clinic.findings(f"--port {link} {exercise['ask']}", **around)
        large_clinic.sensors.stop(link)
        return told

    with ThreadPoolExecutor(AT_ONCE) as pool:
        longest_first = sorted(WITH_SENSOR, key=lambda code: "--seconds" not in ENTRIES[code].exercise["ask"])
        return dict(zip(longest_first, pool.map(visit, longest_first), strict=True))


@pytest.mark.long
@pytest.mark.parametrize("code", WITH_SENSOR)
def test_a_fault_of_a_sensor_gives_its_own_sentence(code: str, found: Found) -> None:
    """The emulated fault of the exercise, and the doctor's words for it and for no other failure of a sensor."""
    if ENTRIES[code].exercise.get("not_as_root") and os.geteuid() == 0:
        pytest.skip("root may open any port")
    told = found[code]
    assert code in told, sorted(told)
    others = {other for other in told if other.startswith(("sensor.", "modbus.", "port.")) and other != code}
    assert not {other for other in others if ENTRIES[other].severity == "failure"} - RELATED.get(code, set())


# What is rightly said as well.
RELATED = {
    "sensor.laser": {"sensor.no_value"},
    "modbus.scan_exception": {"modbus.exception"},
    "modbus.scan_crc": {"modbus.crc"},
    "modbus.scan_other_slave": {"modbus.other_slave"},
    "modbus.scan_answers": {"modbus.silent"},
}


@pytest.mark.parametrize("code", ON_A_MACHINE)
def test_a_fault_of_a_machine_gives_its_own_sentence(code: str, clinic: Any) -> None:
    """The planted machine of the exercise, and the doctor's words for it."""
    entry: Entry = ENTRIES[code]
    machine = clinic.machine(entry.exercise.get("plant", {}), entry.exercise.get("modes"))
    ask = f"--root {machine.root} {entry.exercise['ask']}"
    if "config" in entry.exercise:
        path = entry.exercise["config"]
        if "trust" in entry.exercise:
            (clinic.folder / "trust.toml").write_text("\n".join([*TRUST, entry.exercise["trust"]]))
        ask += f" --config {clinic.gateway(*([('noise', 'nsrt_mk3', path)] if path else []))}"
    assert code in clinic.findings(ask)


def test_an_exercise_without_anything_is_done_as_well(clinic: Any) -> None:
    """A path with nothing behind it."""
    assert "port.absent" in clinic.findings(ENTRIES["port.absent"].exercise["ask"])


def test_every_code_has_an_exercise() -> None:
    """Each is done by a test, or described for a pair of hands in both languages."""
    done = {*WITH_SENSOR, *ON_A_MACHINE, "port.absent"}
    assert [code for code in ENTRIES if code not in done and len(ENTRIES[code].exercise.get("hand", ())) != 2] == []
