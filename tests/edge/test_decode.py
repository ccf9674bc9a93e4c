"""`murmure edge decode`: real frames to the JSON that stands beside them, and never a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_edge.decode import decoded_lines, from_hex
from murmure_edge.sensors import DRIVERS, NOT_YET, make_driver
from murmure_edge.sensors.base import PolledDriver
from murmure_privacy.errors import ConfigError

EXAMPLE = "aa c0 d4 04 3a 0a a1 60 1d ab"
MEASUREMENT = {"kind": "measurement", "pm2_5_ug_m3": 123.6, "pm10_ug_m3": 261.8, "device_id": "a160"}


def _decoded(device: str, *chunks: bytes) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    objects = [json.loads(line) for line in decoded_lines(device, chunks)]
    return objects[:-1], objects[-1]


# The one command with the gateway's group alone: what the other floors bring is not this test's business.
COMMAND = [
    sys.executable,
    "-c",
    "import sys, murmure.cli as c; c.GROUPS = ('murmure_edge.cli',); sys.exit(c.main())",
    "edge",
    "decode",
]


def _murmure(*words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *words], input=data, capture_output=True, timeout=60, check=False)


@pytest.mark.shared
@pytest.mark.parametrize("device", sorted(set(DRIVERS) - {"nsrt_mk3"}))
def test_every_collected_frame_gives_what_stands_beside_it(device: str, shared: Path) -> None:
    """Singles give their object, streams their frames and discarded bytes, spoiled frames nothing but a count."""
    entries = json.loads((shared / "frames" / f"{device}.json").read_text("utf-8"))
    sent = [entry for entry in entries if entry["direction"] == "device_to_host"]
    assert sent
    for entry in sent:
        data, expect = bytes.fromhex(entry["hex"]), entry["expect"]
        frames, summary = _decoded(device, data)
        if "frames" not in expect:
            assert frames == [{k: v for k, v in expect.items() if k not in ("note", "flag")}], entry["id"]
            assert summary["discarded_bytes"] == summary["rejected"] == 0, entry["id"]
            continue
        assert frames == expect["frames"], entry["id"]
        if "discarded_bytes" in expect:
            assert summary["discarded_bytes"] == expect["discarded_bytes"], entry["id"]
        if "error" in expect:
            assert summary["rejected"] == 1 and summary["discarded_bytes"] == len(data), entry["id"]


@pytest.mark.shared
def test_every_collected_answer_without_a_frame_gives_what_stands_beside_it(shared: Path) -> None:
    """An NSRT's answers are told by the command before them: each gives its object, and the LEQ a reading."""
    driver = make_driver("nsrt_mk3", {})
    assert isinstance(driver, PolledDriver)
    levels = []
    for entry in json.loads((shared / "frames" / "nsrt_mk3.json").read_text("utf-8")):
        command, reply = bytes.fromhex(entry["hex"]), bytes.fromhex(entry["reply"])
        described = driver.describe(command + reply)
        assert described.pop("kind") in ("measurement", "reply", "ack")
        assert described == entry["reply_expect"], entry["id"]
        if driver.request() == command:
            levels += [reading.value for _, reading in driver.feed(reply, 0)]
    assert levels == [522]


@given(data=st.binary(max_size=400), cut=st.integers(0, 400))
@pytest.mark.parametrize("device", sorted(DRIVERS))
def test_any_bytes_decode_to_json_and_a_summary(device: str, data: bytes, cut: int) -> None:
    """Whatever the bytes and their pieces, there are JSON objects and one summary, the same for all pieces."""
    whole = _decoded(device, data)
    assert whole == _decoded(device, data[:cut], data[cut:])
    frames, summary = whole
    assert summary["kind"] == "summary" and summary["frames"] == len(frames)
    assert 0 <= summary["discarded_bytes"] <= len(data) and summary["rejected"] <= len(data)


def test_a_frame_cut_short_by_the_end_is_rejected() -> None:
    """Half a frame at the end is no frame; a whole one that stands inside it is found."""
    assert _decoded("sds011", bytes.fromhex(EXAMPLE)[:6]) == (
        [],
        {"kind": "summary", "frames": 0, "rejected": 1, "discarded_bytes": 6},
    )
    frames, summary = _decoded("modbus_noise", bytes.fromhex("010302 018302c0f1")[:-1] + b"\xf1")
    assert [frame["kind"] for frame in frames] == ["exception"]
    assert summary["discarded_bytes"] == 3


def test_no_value_has_no_level() -> None:
    """FFFF is a reply without a level."""
    frames, _ = _decoded("modbus_noise", bytes.fromhex("010302ffffb9f4"))
    assert frames == [{"kind": "reply", "slave": 1, "function": 3, "registers": [65535]}]


@pytest.mark.parametrize(
    ("device", "data", "expected"),
    [
        ("sds011", "aac50601 0100a16009ab", {"reply_to": "sleep_work", "op": "set", "state": "work"}),
        ("sds011", "aac50801 0100a1600bab", {"reply_to": "working_period", "op": "set", "minutes": 1}),
        ("sds011", "aac50500 0000a001a6ab", {"reply_to": "device_id", "device_id": "a001"}),
        ("pmsx003", "424d0004e4000177", {"kind": "ack", "cmd": "sleep"}),
        ("pmsx003", "424d0024" + 34 * "00" + "00b3", {"kind": "other_model", "model": "PMS5003ST"}),
        ("sps30", "7e00030000fc7e", {"cmd": 3, "state": 0}),
        ("sps30", "7e00d000093030303830303030009e7e", {"cmd": 0xD0, "state": 0, "text": "00080000"}),
        ("sps30", "7e000380007c7e", {"cmd": 3, "state": 0x80, "device_error": True}),
        ("tfluna", "5a06030a006d", {"reply_to": "set_rate", "hz": 10}),
        ("tfluna", "5a0701020003 67", {"reply_to": "version", "version": "3.0.2"}),
        ("tfluna", "5a05070167", {"reply_to": "output", "value": 1}),
    ],
)
def test_replies_are_printed_as_replies(device: str, data: str, expected: dict[str, object]) -> None:
    """An acknowledgement never looks like a measurement."""
    assert _decoded(device, bytes.fromhex(data))[0] == [{"kind": "reply"} | expected]


def test_hexadecimal_text_may_be_cut_anywhere() -> None:
    """Blanks, line ends and pieces of an odd number of digits change nothing."""
    text = b"AA c0\nd4 0"
    assert b"".join(from_hex([text, b"4", b" 3a"], "f")) == bytes.fromhex("aac0d4043a")
    assert b"".join(from_hex([b"\xef\xbb\xbfaa\r\n", b"c0\r\n"], "f")) == b"\xaa\xc0"


@pytest.mark.parametrize("text", [b"aa zz", b"aa c", b"\xff\xfe", "aa é".encode(), b"0xaa"])
def test_what_is_no_hexadecimal_text_is_refused(text: bytes) -> None:
    """A wrong character and half a byte are named, with the file."""
    with pytest.raises(ConfigError, match="capture: --hex: "):
        list(from_hex([text], "capture"))


def test_the_command_reads_stdin_and_files(tmp_path: Path) -> None:
    """Raw bytes from a file and text from stdin give the same lines on stdout, and nothing else there."""
    file = tmp_path / "capture.bin"
    file.write_bytes(bytes.fromhex(EXAMPLE))
    for done in (
        _murmure("--device", "sds011", str(file)),
        _murmure("--device", "sds011", "--hex", data=EXAMPLE.encode()),
    ):
        assert done.returncode == 0 and done.stderr == b""
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert lines == [MEASUREMENT, {"kind": "summary", "frames": 1, "rejected": 0, "discarded_bytes": 0}]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--device", "nsrt_mk3"], "no framing"),
        (["--device", "teapot"], "no such device; write one of sds011, pmsx003"),
        (["--device", "sds011", "/no/such/file"], "/no/such/file: FILE: No such file"),
        (["--device", "sds011", "/"], "/: FILE: Is a directory"),
        (["--device", "sds011", "--hex", __file__], "is no hexadecimal digit"),
        *((["--device", name], "") for name in NOT_YET if name != "nsrt_mk3"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(words: list[str], says: str) -> None:
    """No traceback for an operator's mistake: one line that says what to write instead."""
    done = _murmure(*words)
    assert done.returncode == 2 and done.stdout == b""
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("murmure: ") and says in line and "; " in line


def test_a_closed_input_is_a_mistake_like_any_other() -> None:
    """Without standard input and without a file: one line, status 2."""
    command = [*COMMAND, "--device", "sds011"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, preexec_fn=lambda: os.close(0))
    assert done.returncode == 2
    assert done.stderr == b"murmure: stdin: FILE: standard input is closed; name a file, or pipe bytes in\n"


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_living_port_is_summed_up_when_reading_is_stopped(ending: signal.Signals) -> None:
    """Lines appear as frames come, and Ctrl-C or SIGTERM ends with the summary and 0."""
    with subprocess.Popen([*COMMAND, "--device", "sds011"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        os.write(process.stdin.fileno(), bytes.fromhex(EXAMPLE))
        assert json.loads(process.stdout.readline()) == MEASUREMENT
        process.send_signal(ending)
        assert json.loads(process.stdout.readline())["frames"] == 1
        assert process.wait(10) == 0
