"""Programs that we did not write read the emulated devices, through the linked pseudo-terminal, on the wall clock."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import minimalmodbus
import pytest
import serial
from nsrt_mk3_dev import NsrtMk3Dev
from pymodbus.client import ModbusSerialClient
from sds011lib import SDS011ActiveReader, SDS011QueryReader
from sds011lib.exceptions import Sds011Exception
from sensirion_shdlc_driver import ShdlcConnection, ShdlcSerialPort
from sensirion_shdlc_driver.command import ShdlcCommand
from sensirion_shdlc_driver.errors import ShdlcDeviceError, ShdlcTimeoutError

SimDevice = Callable[..., Path]
AIR = ("--set", "pm2_5=12.3", "pm10=26.1")
NOISE = ("--set", "level_db=53.6")
PMS = Path(sys.executable).with_name("pms")
START = ShdlcCommand(0x00, b"\x01\x03", 0.5)
STOP, READ, SLEEP, WAKE = (ShdlcCommand(what, b"", 0.5) for what in (0x01, 0x03, 0x10, 0x11))


def pms(link: Path, model: str, *command: str) -> subprocess.Popen[str]:
    """Starts PyPMS on a port: two samples, a second or two apart."""
    options = ["-m", model, "-s", str(link), "-n", "2", "-i", "2"]
    return subprocess.Popen([PMS, *options, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.long
def test_pypms_reads_the_three_sensors_of_dust(sim_device: SimDevice, tmp_path: Path) -> None:
    """`pms -m SDS011|SPS30|PMS5003 ... serial` prints two lines each with the values set, and `csv --capture` a file
    that it decodes again. The PMS5003 has to be passive before: PyPMS looks for an acknowledgement once, at the head of
    everything that came in its ten seconds of pre-heating. The SPS30 has to show values without a byte to be stuffed:
    PyPMS takes 47 bytes for a frame. All at once, for those ten seconds."""
    capture = tmp_path / "capture.csv"
    dust, sps, plantower = (
        sim_device("sds011", *AIR),
        sim_device("sps30", *AIR),
        sim_device("pmsx003", *AIR, "--passive"),
    )
    runs = {
        "PM2.5 12.3, PM10 26.1": pms(dust, "SDS011", "serial"),
        "PM1 8.6, PM2.5 12.3, PM4 19.2, PM10 26.1": pms(sps, "SPS30", "serial"),
        "PM1 9.0, PM2.5 12.0, PM10 26.0": pms(plantower, "PMS5003", "serial"),
        "": pms(sim_device("sds011", *AIR), "SDS011", "csv", "--capture", "--overwrite", str(capture)),
    }
    for values, run in runs.items():
        said, complaints = run.communicate(timeout=60)
        assert run.returncode == 0, complaints
        lines = [line for line in said.splitlines() if "PM" in line and "pre-heating" not in line]
        assert len(lines) == (2 if values else 0), said
        assert all(values in line for line in lines)
    decoding = [str(PMS), "-m", "SDS011", "serial", "-f", "csv", "--decode", str(capture)]
    decoded = subprocess.run(decoding, capture_output=True, text=True, timeout=30, check=True)
    assert decoded.stdout.count("12.3, 26.1") == 2
    for link in (dust, plantower):  # PyPMS leaves them asleep
        with serial.Serial(str(link), 9600, timeout=1.2) as port:
            assert port.read(1) == b""


def opened(reader_class: Any, port: serial.Serial) -> Any:
    """Opens a reader. It takes ten bytes at a time and never looks for a frame's beginning, so one that meets a frame
    half sent, as may happen on copper too, gives up at once: then it is opened again."""
    for _ in range(4):
        try:
            return reader_class(port, send_command_sleep=0)
        except Sds011Exception:
            port.reset_input_buffer()
    return reader_class(port, send_command_sleep=0)


def test_sds011lib_reads_it_in_both_modes(sim_device: SimDevice) -> None:
    """The third-party readers get the values set, the firmware date and the working period."""
    link = sim_device("sds011", *AIR)
    for reader_class in (SDS011ActiveReader, SDS011QueryReader):
        port = serial.Serial(str(link), 9600, timeout=2)
        reader = opened(reader_class, port)
        answer = reader.query()
        assert (answer.pm25, answer.pm10, answer.device_id) == (12.3, 26.1, b"\xa1\x60")
        if isinstance(reader, SDS011QueryReader):
            assert reader.get_working_period().interval == 0
            firmware = reader.get_firmware_version()
            assert (firmware.year, firmware.month, firmware.day) == (15, 7, 10)
        port.close()


def test_minimalmodbus_reads_the_level_and_the_exception(sim_device: SimDevice) -> None:
    """53.6 dB from register 0; an unknown register is refused; the wrong speed gets no answer."""
    instrument = minimalmodbus.Instrument(str(sim_device("modbus_noise", *NOISE)), 1)
    instrument.serial.baudrate = 9600
    instrument.serial.timeout = 1
    assert instrument.read_register(0, 1) == 53.6
    with pytest.raises(minimalmodbus.IllegalRequestError):
        instrument.read_register(5)
    instrument.serial.timeout = 0.2
    instrument.serial.baudrate = 4800
    with pytest.raises(minimalmodbus.NoResponseError):
        instrument.read_register(0, 1)
    instrument.serial.baudrate = 9600
    assert instrument.read_register(0, 1) == 53.6
    instrument.serial.close()


def test_pymodbus_reads_a_slow_meter_and_names_the_exception(sim_device: SimDevice) -> None:
    """At 4800 baud: the level; exception 2 for an unknown register, 3 for a bad value; a written mode is read back."""
    link = sim_device("modbus_noise", *NOISE, "baud=4800", "slave=3")
    client = ModbusSerialClient(str(link), baudrate=4800, timeout=2)
    assert client.connect()
    assert client.read_holding_registers(0, count=1, device_id=3).registers == [536]
    assert client.read_holding_registers(5, count=1, device_id=3).exception_code == 2
    assert client.write_register(0x68, 7, device_id=3).exception_code == 3
    assert not client.write_register(0x68, 1, device_id=3).isError()
    assert client.read_holding_registers(0x64, count=5, device_id=3).registers == [7901, 1, 3, 1, 1]
    client.close()


@pytest.mark.mbpoll
def test_mbpoll_reads_the_level_the_exception_and_the_silence(sim_device: SimDevice) -> None:
    """`mbpoll` prints 536; says what is wrong with an unknown register; times out on another slave."""
    link = sim_device("modbus_noise", *NOISE)
    for options, status, said in (
        (("-a", "1", "-r", "0"), 0, r"\[0\]:\s+536\b"),
        (("-a", "1", "-r", "5"), 1, "Illegal data address"),
        (("-a", "2", "-r", "0", "-o", "0.5"), 1, "Connection timed out"),
    ):
        command = [
            "mbpoll",
            "-m",
            "rtu",
            *options,
            "-b",
            "9600",
            "-P",
            "none",
            "-t",
            "4",
            "-0",
            "-c",
            "1",
            "-1",
            str(link),
        ]
        run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert run.returncode == status, run.stdout + run.stderr
        assert re.search(said, run.stdout + run.stderr)


def test_sensirions_own_driver_reads_the_sps30_and_its_errors(sim_device: SimDevice) -> None:
    """Identity, measurement, status register; error 67 (43h) where the state forbids; asleep it is silent, and a pulse
    and a wake command bring it back."""
    link = sim_device("sps30", *AIR, "--seed", "42")
    with ShdlcSerialPort(str(link), 115200) as port:
        connection = ShdlcConnection(port)

        def ask(command: ShdlcCommand) -> bytes:
            data, has_error = connection.execute(0, command)
            assert not has_error
            return data or b""

        assert ask(ShdlcCommand(0xD0, b"\x00", 0.5)) == b"00080000\0"
        assert ask(ShdlcCommand(0xD0, b"\x03", 0.5)) == b"5A1D000000000042\0"
        assert ask(ShdlcCommand(0xD2, b"\x00", 0.5, 5, 5)) == bytes(5)
        with pytest.raises(ShdlcDeviceError) as refused:
            ask(STOP)
        assert refused.value.error_code == 0x43
        ask(START)
        with pytest.raises(ShdlcDeviceError):
            ask(START)
        values: tuple[float, ...] = ()
        while not values:
            data = ask(READ)
            values = struct.unpack(">10f", data) if data else ()
        assert (values[1], values[3]) == pytest.approx((12.3, 26.1))
        ask(STOP)
        ask(SLEEP)
        with pytest.raises(ShdlcTimeoutError):
            ask(READ)
        for left in range(4, -1, -1):
            # The pulse counts for 100 ms, which a busy machine may miss.
            with link.open("wb", buffering=0) as pulse:
                pulse.write(b"\xff")
            try:
                ask(WAKE)
                break
            except ShdlcTimeoutError:
                assert left
        ask(START)


def test_nsrt_mk3_dev_reads_and_sets_the_meter(sim_device: SimDevice) -> None:
    """Level, LEQ, identity; every setting, also those for which this client counts one byte and sends two or four; at
    9600 baud, since on USB no speed is wrong."""
    meter = NsrtMk3Dev(str(sim_device("nsrt_mk3", *NOISE, "--seed", "7")))
    meter.serial.timeout = 5  # it has none of its own
    assert meter.serial.baudrate == 9600
    assert (meter.read_level(), meter.read_leq(), meter.read_leq()) == pytest.approx((53.6, 53.6, 53.6), abs=1e-4)
    assert (meter.read_model(), meter.read_sn(), meter.read_fw_rev()) == ("NSRT_mk3_Dev", "SIM000007", "1.0")
    assert meter.read_temperature() == 21.5
    assert meter.write_fs(32_000)
    assert meter.write_tau(1.0)
    assert meter.write_user_id("lamp 12")
    assert (meter.read_fs(), meter.read_tau(), meter.read_user_id()) == (32_000, 1.0, "lamp 12")
    assert meter.read_weighting() is meter.Weighting.DB_A
    assert meter.write_weighting(meter.Weighting.DB_C)
    assert meter.read_level() == pytest.approx(61.6, abs=1e-4)
    assert meter.read_doc() > meter.read_dob()
    meter.serial.close()
