"""The steward's document: complete or refused, with one line that says what to write."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murmure_privacy.errors import ConfigError
from murmure_privacy.plan import plan
from murmure_privacy.policy import _STREAM, _TOP, DEFAULT_DELTA, Cap, Policy, parse
from murmure_privacy.stream import QUANTITIES
from murmure_privacy.window import LEVELS
from murmure_privacy.wire import POLICY_LIMIT


def refusal(text: str | bytes) -> ConfigError:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as error:
        parse(data, "policy.toml")
    return error.value


def test_a_complete_policy_says_it_all(policy_text: Callable[..., str]) -> None:
    """Every key of the file stands in the parsed policy, whose hash is that of the exact bytes."""
    text = policy_text().encode()
    policy = parse(text, "policy.toml")
    assert (policy.site, policy.version, policy.timezone) == ("plaza", 1, "Europe/Paris")
    assert (policy.decision, policy.reason) == ("Délibération n° 42", "Essai")
    assert (policy.valid_from, policy.valid_until) == (date(2026, 1, 1), date(2028, 12, 31))
    assert (policy.paused, policy.text, policy.hash) == (False, text, hashlib.sha256(text).digest())
    footfall, noise, air = policy.streams
    assert (footfall.quantity, footfall.protects, footfall.unit_readings) == (
        QUANTITIES["footfall"],
        ("crossings", 1),
        1,
    )
    assert (footfall.epsilon, footfall.delta) == (Decimal("1.0"), DEFAULT_DELTA)
    assert footfall.nodes == tuple((level, Decimal(1)) for level in ("15min", "1h", "6h", "1d"))
    assert (noise.bounds, noise.cadence_ms, noise.tail) == ((350, 850), 1000, 11)
    assert noise.indicators == (("histogram", Decimal(6)), ("mean", Decimal(3)), ("energy", Decimal(1)))
    assert (air.bounds, air.nodes) == ((0, 1000), (("1h", Decimal(1)), ("1d", Decimal(24))))
    assert policy.stream("plaza/noise") is noise
    assert policy.stream("plaza/none") is None


@pytest.mark.parametrize(
    ("seconds", "cadence_ms", "tail", "readings"),
    [(15, 1000, 11, 27), (60, 1000, 2, 63), (60, 10_000, 0, 7), (1, 900_000, 0, 2), (15, 1000, 0, 16), (1, 300, 5, 10)],
)
def test_seconds_become_readings(
    policy_text: Callable[..., str], seconds: int, cadence_ms: int, tail: int, readings: int
) -> None:
    """n = ceil(1000 seconds / cadence) + 1 + tail, in integers."""
    swap = (
        ("seconds = 15", f"seconds = {seconds}"),
        ("cadence_ms = 1000, tail = 11", f"cadence_ms = {cadence_ms}, tail = {tail}"),
    )
    policy = parse(policy_text("noise", swap=swap).encode(), "policy.toml")
    assert policy.streams[0].unit_readings == readings


def test_what_may_be_left_out(policy_text: Callable[..., str]) -> None:
    """Indicators, delta and the pauses have defaults; a table may name some of the indicators, in any order."""
    swap = (("indicators = { histogram = 6, mean = 3, energy = 1 }\n", ""),)
    assert parse(policy_text("noise", swap=swap).encode(), "f").streams[0].indicators[1] == ("mean", Decimal(3))
    swap = (("{ histogram = 6, mean = 3, energy = 1 }", "{ energy = 1.5, mean = 2 }"),)
    policy = parse(policy_text("noise", swap=swap).encode(), "f")
    assert policy.streams[0].indicators == (("mean", Decimal(2)), ("energy", Decimal("1.5")))
    both = (
        ("version = 1", "version = 1\npaused = true"),
        ("epsilon = 1.0", "epsilon = 1\ndelta = 1e-9\npaused = true"),
    )
    policy = parse(policy_text("footfall", swap=both).encode(), "f")
    assert policy.paused and policy.streams[0].paused and policy.streams[0].delta == Decimal("1e-9")


def test_a_level_bounds_the_unit(policy_text: Callable[..., str]) -> None:
    """`up_to_db` and `up_to` limit what one unit can bring, and lift the upper clamp of means and energies."""
    noise, air = parse(policy_text("noise", "pm2_5").encode(), "f").streams
    assert (noise.up_to, noise.highest, noise.clamp) == (None, 850, (350, 850))
    assert (air.up_to, air.highest, air.clamp) == (None, 1000, (0, 1000))
    swap = (("seconds = 15", "seconds = 15, up_to_db = 75"), ("seconds = 60", "seconds = 60, up_to = 50"))
    noise, air = parse(policy_text("noise", "pm2_5", swap=swap).encode(), "f").streams
    assert (noise.up_to, noise.highest, noise.clamp, noise.bounds) == (750, 750, (350, 1400), (350, 850))
    assert (air.up_to, air.highest, air.clamp, air.bounds) == (500, 500, (0, 100_000), (0, 1000))


def test_a_cap_has_units_span_and_epsilon(policy_text: Callable[..., str]) -> None:
    """The optional tank of a stream."""
    swap = (("epsilon = 1.0", "epsilon = 1.0\ncap = { units_per_day = 2, span = '1y', epsilon = 90.5 }"),)
    (stream,) = parse(policy_text("footfall", swap=swap).encode(), "f").streams
    assert stream.cap == Cap(2, "1y", Decimal("90.5")) and stream.cap.days == 365


def test_parts_of_the_day_stand_in_their_order(policy_text: Callable[..., str]) -> None:
    """Nodes come finer first, whatever order the file has."""
    swap = (('"1h" = 1, "1d" = 24', 'night = 8, day = 12, "1h" = 1, evening = 4'),)
    (stream,) = parse(policy_text("noise", swap=swap).encode(), "f").streams
    assert stream.nodes == tuple(zip(("1h", "day", "evening", "night"), map(Decimal, (1, 12, 4, 8)), strict=True))


TOP_CASES = [
    # (text to exchange, its replacement, key, problem, mend)
    ("policy = 1", "policy = 2", "policy", "a format this version does not know", "write policy = 1"),
    ("policy = 1", "policy = -1", "policy", "a format this version does not know", "write policy = 1"),
    ("policy = 1\n", "", "policy", "missing", "write policy = 1"),
    ("policy = 1", "policy = true", "policy", "True is not policy = 1", "write policy = 1"),
    ("policy = 1", "policy = 1.5", "policy", "1.5 is not policy = 1", "write policy = 1"),
    ("policy = 1", "policy = 0x" + "f" * 5000, "policy", "a format this version does not know", ""),
    ("version = 1", "version = 0", "version", "0 is not between 1 and 2147483648", ""),
    ("version = 1", "version = 1\nbudget = 3", "budget", "unknown key", "write one of policy, site, version"),
    ("version = 1", 'version = 1\n"a\\nb" = 3', "'a\\nb'", "unknown key", ""),
    ("version = 1", 'version = 1\npaused = "no"', "paused", "'no' is not true or false", "write true or false"),
    ("version = 1", "version = 1\npaused = 1", "paused", "1 is not true or false", ""),
    ('site = "plaza"', 'site = "la plaza"', "site", "'la plaza' is not a name", "use letters, digits and hyphens"),
    ('site = "plaza"', f'site = "{"x" * 41}"', "site", f"'{'x' * 41}' is not a name", ""),
    ('site = "plaza"', 'site = "été"', "site", "'été' is not a name", ""),
    ('site = "plaza"', "site = 5", "site", "5 is not a text in quotes", "write a text in quotes"),
    ('"Essai"', '""', "reason", "empty, too long or not printable", "write one line of text"),
    ('"Essai"', f'"{"x" * 1001}"', "reason", "empty, too long or not printable", ""),
    ('"Essai"', '"a\\nb"', "reason", "empty, too long or not printable", ""),
    ('reason = "Essai"\n', "", "reason", "missing", "write a text in quotes"),
    ('decision = "Délibération n° 42"\n', "", "decision", "missing", ""),
    ("valid_from = 2026-01-01", 'valid_from = "2026-01-01"', "valid_from", "'2026-01-01' is not a date such as", ""),
    ("2028-12-31", "2028-12-31T12:00:00Z", "valid_until", "has a time of day", "write a date such as 2026-12-01"),
    ("2028-12-31", "2025-12-31", "valid_until", "earlier than valid_from", "write a later date"),
    ("2028-12-31", "2036-12-31", "valid_until", "more than ten years after valid_from", "write an earlier date"),
    ("2028-12-31", "9999-12-31", "valid_until", "9999-12-31 is not of this time", "write a date such as"),
    ("2026-01-01", "0001-01-01", "valid_from", "0001-01-01 is not of this time", ""),
    ("Europe/Paris", "Europe/Lutetia", "timezone", "timezone 'Europe/Lutetia' is unknown", ""),
    ("Europe/Paris", "../../etc/passwd", "timezone", "timezone '../../etc/passwd' is unknown", ""),
    ("Europe/Paris", "Europe", "timezone", "timezone 'Europe' is unknown", ""),
    ("Europe/Paris", "Asia/Kolkata", "timezone", "timezone 'Asia/Kolkata' is not whole hours from UTC on 2026-01", ""),
    ("Europe/Paris", "Australia/Lord_Howe", "timezone", "is not whole hours from UTC on 2026-04", ""),
]
STREAM_CASES = [
    ("footfall", 'id = "plaza/footfall"\n', "", "stream 1: id", "missing", "write a text in quotes"),
    ("footfall", '"plaza/footfall"', '"park/footfall"', "stream park/footfall: id", "is not SITE/NAME", ""),
    ("footfall", '"plaza/footfall"', '"plaza/"', "stream plaza/: id", "is not SITE/NAME", 'id = "plaza/footfall"'),
    ("footfall", '"plaza/footfall"', '"plaza"', "stream plaza: id", "is not SITE/NAME", ""),
    ("footfall", '"plaza/footfall"', '"plaza/a b"', "stream plaza/a b: id", "is not SITE/NAME", ""),
    ("footfall", '"plaza/footfall"', '"plaza/a\\u001b[2J"', "stream 1: id", "empty, too long or not printable", ""),
    ("footfall", 'quantity = "footfall"', 'quantity = "radon"', ": quantity", "'radon' is unknown", "footfall, noise"),
    ("footfall", "epsilon = 1.0", "epsilon = -1", ": epsilon", "-1 is not above 0", "a positive number"),
    ("footfall", "epsilon = 1.0", "epsilon = 0", ": epsilon", "0 is not above 0", "e.g. 1.0"),
    ("footfall", "epsilon = 1.0", "epsilon = 100.1", ": epsilon", "100.1 is too large", "write at most 100"),
    ("footfall", "epsilon = 1.0", "epsilon = inf", ": epsilon", "Infinity is no finite number", "such as 1.0"),
    ("footfall", "epsilon = 1.0", "epsilon = nan", ": epsilon", "NaN is no finite number", ""),
    ("footfall", "epsilon = 1.0", 'epsilon = "1"', ": epsilon", "'1' is not a positive number", ""),
    ("footfall", "epsilon = 1.0", "epsilon = true", ": epsilon", "True is not a positive number", ""),
    ("footfall", "epsilon = 1.0\n", "", ": epsilon", "missing", ""),
    ("footfall", "epsilon = 1.0", "epsilon = 1\ndelta = 0.02", ": delta", "0.02 is no small", "leave it out"),
    ("footfall", "epsilon = 1.0", "epsilon = 1\ndelta = 0", ": delta", "0 is not above 0", ""),
    ("footfall", "epsilon = 1.0", "epsilon = 1\ncolour = 1", ": colour", "unknown key", "write one of id, quantity"),
    ("footfall", "epsilon = 1.0", "target = { node = '1h' }", ": target", "solved by `policy preview`", "epsilon ="),
    ("footfall", "epsilon = 1.0", "epsilon = 1\ncap = 30", ": cap", "30 is not a table such as", ""),
    ("footfall", "epsilon = 1.0", "epsilon = 1\ncap = { span = '1y' }", ": cap.units_per_day", "missing", ""),
    *(
        ("footfall", "epsilon = 1.0", f"epsilon = 1\ncap = {{ {cap} }}", f": cap.{key}", problem, mend)
        for cap, key, problem, mend in [
            ("units_per_day = 1, span = '2y', epsilon = 30", "span", "'2y' is unknown", "write one of 1d, 1w, 30d, 1y"),
            ("units_per_day = 0, span = '1y', epsilon = 30", "units_per_day", "0 is not between 1 and 1000", ""),
            ("units_per_day = 1, span = '1y', epsilon = 0", "epsilon", "0 is not above 0", ""),
            ("units_per_day = 1, span = '1y', epsilon = 9, x = 1", "x", "unknown key", "units_per_day, span, epsilon"),
        ]
    ),
    ("footfall", "epsilon = 1.0", "epsilon = 1\nbounds = [0, 1]", ": bounds", "a count has none", "leave the key out"),
    ("footfall", "epsilon = 1.0", "epsilon = 1\nbounds_db = [0, 1]", ": bounds_db", "a count has none", ""),
    ("footfall", "epsilon = 1.0", "epsilon = 1\nreadings = {}", ": readings", "a count has none", ""),
    ("footfall", "epsilon = 1.0", "epsilon = 1\nindicators = {}", ": indicators", "has one indicator only", "leave"),
    ("footfall", "crossings = 1", "crossings = 0", ": protects.crossings", "0 is not between 1 and 10000", ""),
    ("footfall", "crossings = 1", "seconds = 1", ": protects.seconds", "unknown key", "write one of crossings"),
    ("footfall", "{ crossings = 1 }", "5", ": protects", "5 is not a unit of privacy", "{ crossings = 1 }"),
    ("footfall", "{ crossings = 1 }", "{}", ": protects.crossings", "missing", ""),
    (
        "footfall",
        '"6h" = 1',
        '"2h" = 1',
        ": nodes.2h",
        "is none of 15min, 1h, 6h, day, evening, night, 1d, 1w",
        "use those",
    ),
    (
        "footfall",
        '"1d" = 1',
        "day = 1",
        ": nodes.6h",
        "does not nest with day, evening, night",
        "name either it or parts",
    ),
    ("footfall", '"6h" = 1', "evening = 1", ": nodes.1d", "does not nest with day, evening, night", ""),
    ("footfall", '"6h" = 1, "1d" = 1', '"1w" = 1, night = 1', ": nodes.1w", "does not nest with day, evening", ""),
    ("footfall", '"6h" = 1', '"6h" = 0', ": nodes.6h", "0 is not above 0", "a positive number"),
    ("footfall", '"6h" = 1', '"6h" = 1e-999999999', ": nodes.6h", "1E-999999999 is not above 1E-30", ""),
    ("footfall", '{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }', "{}", ": nodes", "empty", "name at least one of"),
    ("footfall", '{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }', "4", ": nodes", "4 is not a table", ""),
    ("noise", "seconds = 15", "seconds = 15, up_to_db = 35", ": protects.up_to_db", "35 is not between 36 and 140", ""),
    ("noise", "seconds = 15", "seconds = 15, up_to = 75", ": protects.up_to", "unknown key", "seconds, up_to_db"),
    ("pm2_5", "seconds = 60", "seconds = 60, up_to_db = 75", ": protects.up_to_db", "unknown key", "seconds, up_to"),
    ("pm2_5", "seconds = 60", "seconds = 60, up_to = 0", ": protects.up_to", "0 is not between 1 and 10000", ""),
    ("noise", "seconds = 15", "seconds = 86401", ": protects.seconds", "86401 is not between 1 and 86400", ""),
    ("noise", "cadence_ms = 1000", "cadence_ms = 99", ": readings.cadence_ms", "99 is not between 100 and 900000", ""),
    ("noise", "cadence_ms = 1000", "cadence_ms = 7000", ": readings.cadence_ms", "7000 does not divide", "1000"),
    ("noise", "tail = 11", "tail = -1", ": readings.tail", "-1 is not between 0 and 10000", ""),
    ("noise", "tail = 11", "tail = 11, rate = 2", ": readings.rate", "unknown key", "write one of cadence_ms, tail"),
    ("noise", "{ cadence_ms = 1000, tail = 11 }", "1", ": readings", "1 is not a table such as", ""),
    ("noise", "{ histogram = 6, mean = 3, energy = 1 }", "{}", ": indicators", "empty", "histogram, mean, energy"),
    ("noise", "energy = 1", "peak = 1", ": indicators.peak", "unknown key", "write one of histogram, mean, energy"),
    ("noise", "bounds_db = [35, 85]", "bounds = [35, 85]", ": bounds", "noise uses bounds_db", "write bounds_db ="),
    ("noise", "[35, 85]", "[35]", ": bounds_db", "[35] is no pair of whole numbers", "write low and high"),
    ("noise", "[35, 85]", "[85, 35]", ": bounds_db", "85 is not below 35", "the lower bound first, e.g. [35, 85]"),
    ("noise", "[35, 85]", "[-5, 85]", ": bounds_db", "[-5, 85] is not within 0 and 140 dB", ""),
    ("noise", "[35, 85]", "[35, 85.0]", ": bounds_db", "[35, 85.0] is no pair of whole numbers", ""),
    ("noise", "[35, 85]", "[false, true]", ": bounds_db", "[False, True] is no pair of whole numbers", ""),
    ("noise", "[35, 85]", f"[0x{'f' * 5000}, 1]", ": bounds_db", "[a number without end, 1] is not within", ""),
    ("noise", "[35, 85]", f"[{'1, ' * 200}]", ": bounds_db", "[1, 1, 1, …] is no pair", "write low and high"),
    ("noise", "[35, 85]", "[35, 84]", ": bounds_db", "[35, 84] does not hold whole bins of 5 dB", "for example"),
    ("noise", "[35, 85]", "[35, 145]", ": bounds_db", "[35, 145] is not within 0 and 140 dB", ""),
    ("noise", "[35, 85]", "[35, 35]", ": bounds_db", "35 is not below 35", "the lower bound first"),
    ("pm2_5", "[0, 100]", "[100, 0]", ": bounds", "100 is not below 0", "the lower bound first, e.g. [0, 100]"),
    ("pm2_5", "{ seconds = 60 }", "60", ": protects", "60 is not a unit of privacy such as { seconds = 15 }", ""),
    (
        "noise",
        "[35, 85]",
        "[35, 85]\nreason = 'x'",
        ": reason",
        "is for the whole policy",
        "above the first [[stream]]",
    ),
    ("pm2_5", "bounds = [0, 100]", "bounds_db = [0, 100]", ": bounds_db", "pm2_5 uses bounds", "write bounds = ["),
    ("pm2_5", "[0, 100]", "[0, 5001]", ": bounds", "[0, 5001] is not within 0 and 5000 ug/m3", "[0, 100]"),
    ("pm2_5", "bounds = [0, 100]\n", "", ": bounds", "missing", "write a pair such as [0, 100]"),
]


@pytest.mark.parametrize(("old", "new", "key", "problem", "mend"), TOP_CASES)
def test_what_is_wrong_at_the_top_is_said(
    policy_text: Callable[..., str], old: str, new: str, key: str, problem: str, mend: str
) -> None:
    """One line names file and key, what is wrong and what to write instead."""
    error = refusal(policy_text("footfall", swap=((old, new),)))
    assert (error.file, error.key) == ("policy.toml", key)
    assert problem in error.problem and mend in error.mend
    assert str(error) == f"policy.toml: {key}: {error.problem}; {error.mend}"
    assert str(error).isprintable() and error.exit_status == 2


@pytest.mark.parametrize(("stream", "old", "new", "key", "problem", "mend"), STREAM_CASES)
def test_what_is_wrong_in_a_stream_is_said(
    policy_text: Callable[..., str], stream: str, old: str, new: str, key: str, problem: str, mend: str
) -> None:
    """The line names the stream by its id, or by its place where the id cannot be shown."""
    error = refusal(policy_text(stream, swap=((old, new),)))
    assert error.key.startswith("stream ") and error.key.endswith(key)
    assert problem in error.problem and mend in error.mend
    assert str(error).isprintable()


def test_streams_are_one_to_thirty_two_tables(policy_text: Callable[..., str]) -> None:
    """No stream, too many, one that is no table, one id twice: each is named."""
    top = policy_text("footfall").partition("\n[[stream]]")[0]
    assert "'none' is not at least one [[stream]]" in str(refusal(top + 'stream = "none"'))
    assert refusal(top).problem == "missing"
    assert refusal(top + "stream = []").problem == "0 streams"
    assert refusal(top + "stream = [1]").problem == "not a table"
    many = [f'\nid = "plaza/s{n}"\nquantity = "footfall"\n' for n in range(33)]
    assert refusal(policy_text(*many)).problem == "33 streams"
    assert "'plaza/noise' stands twice" in str(refusal(policy_text("noise", "noise")))


def test_an_id_fits_the_wire(policy_text: Callable[..., str]) -> None:
    """Site and name together have at most the 64 characters that a message carries."""
    for length, fits in ((23, True), (24, False)):
        stream = "x" * length
        text = policy_text("footfall", swap=(('site = "plaza"', f'site = "{"s" * 40}"'), ("plaza/", "s" * 40 + "/")))
        text = text.replace("/footfall", f"/{stream}")
        if fits:
            assert len(parse(text.encode(), "f").streams[0].id) == 64
        else:
            assert "at most 64 characters" in refusal(text).mend


def test_bytes_that_are_no_policy_are_said_to_be_none(policy_text: Callable[..., str]) -> None:
    """Too long, not UTF-8, not TOML, numbers or nesting without end: one line each."""
    assert refusal(bytes(POLICY_LIMIT + 1)).problem == f"{POLICY_LIMIT + 1} bytes"
    assert "not TOML" in refusal(bytes(POLICY_LIMIT)).problem
    for data in (
        b"\xff\xfe",
        b"policy = ",
        b"x = " + b"1" * 5000,
        b"x = " + b"[" * 8000,
        b"x = 1e99999999999999999999",
    ):
        error = refusal(data)
        assert error.key in {"file", "line 1", "x"} and str(error).isprintable()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("", "file: no policy in it; begin with policy = 1, as in privacy/policy.example.toml"),
        ("\n# to be written\n", "file: no policy in it; begin with policy = 1, as in privacy/policy.example.toml"),
        ("\ufeffpolicy = 1\n", "file: begins with a byte order mark; save it as UTF-8 without one"),
        ("policy = 1\nepsilon = 1,0\n", "line 2: 'epsilon = 1,0': not TOML: "),
        ("policy = 1\r\nepsilon = 1,0\r\n", "line 2: 'epsilon = 1,0': not TOML: "),
        ("policy = 1\nepsilon = 1,0\n", "; write numbers with a point, e.g. 1.0"),
        ("nodes = { '1h' = 2,5 }\n", "; write numbers with a point, e.g. 1.0"),
        ("valid_from = 01/12/2026\n", "; write dates as 2026-12-01"),
        ("paused = oui\n", "line 1: 'paused = oui': not TOML: Invalid value; write true, false or a text in quotes"),
        ("site = plaza # here\n", "; write true, false or a text in quotes"),
        ("a = 1\na = 2\n", "line 2: 'a = 2': the key stands there twice; leave one of the two out"),
        ("a = 1\n[stream]\n\n[stream]\n", "line 2: [stream] in single brackets; begin each stream with [[stream]]"),
        ("a = 1\n[stream]\nb = 1\n[[stream]]\n", "line 2: [stream] in single brackets; begin each stream with [["),
        ("Bonjour\n", "line 1: 'Bonjour': not TOML: "),
        ("Bonjour\n", "; mend that line"),
        ("a = [1, 2", "; close the bracket or the quote that is open"),
        ('a = """', "; close the bracket or the quote that is open"),
        ("x = " + "1" * 5000, "; mend it"),
    ],
)
def test_the_line_that_is_no_toml_is_shown_with_what_to_write(data: str, said: str) -> None:
    """An operator's slips in a text editor: the line, and what to write there, where that can be known."""
    error = str(refusal(data))
    assert error.startswith("policy.toml: ") and said in error and error.isprintable()


def test_a_file_in_another_encoding_is_told_from_a_broken_one(policy_text: Callable[..., str]) -> None:
    """What an editor saved as Latin-1 is not said to be bad TOML: the byte is named, and the encoding to save in."""
    assert (
        str(refusal("reason = 'été'".encode("latin-1"))) == "policy.toml: file: not UTF-8 at byte 11; save it as UTF-8"
    )


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_config_error(data: bytes) -> None:
    """Arbitrary bytes are refused with one printable line."""
    assert str(refusal(data)).isprintable()


VALUES = """0|-1|1e400|1e-400|nan|inf|true|""|"\\u0000"|[]|{}|[[]]|1979-05-27|1979-05-27T07:32:00Z|07:32:00|4_0"""
TABLES = ["{ a = { b = 1 } }", '[ { "15min" = 1 } ]', "'''x'''", "0x" + "f" * 5000, "9" * 4300]
toml_values = st.sampled_from([*VALUES.split("|"), *TABLES])


@given(st.data(), st.sampled_from(["footfall", "noise", "pm2_5"]))
def test_no_value_raises_anything_but_a_config_error(
    policy_text: Callable[..., str], data: st.DataObject, stream: str
) -> None:
    """With any value in any place a policy parses and plans, or is refused with one printable line."""
    lines = policy_text(stream).splitlines()
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.sampled_from([n for n, line in enumerate(lines) if "=" in line]))
        lines[at] = lines[at].split("=")[0] + "= " + data.draw(toml_values)
    try:
        policy = parse("\n".join(lines).encode(), "policy.toml")
        assert plan(policy).policy is policy
    except ConfigError as error:
        assert str(error).isprintable()


def test_a_policy_is_frozen(write_policy: Callable[..., Policy]) -> None:
    """What was parsed cannot be changed behind its hash."""
    policy = write_policy()
    for target, name in ((policy, "version"), (policy.streams[0], "epsilon")):
        with pytest.raises(AttributeError):
            setattr(target, name, 9)


def test_the_example_shows_every_key() -> None:
    """The example can be copied as it stands and names every key of the format, some of them in comments."""
    text = (Path(__file__).resolve().parents[2] / "privacy" / "policy.example.toml").read_text(encoding="utf-8")
    assert len(plan(parse(text.encode(), "policy.example.toml")).streams) == 3
    for key in (*_TOP, *_STREAM, "crossings", "seconds", "up_to_db", "up_to", "units_per_day", "span", *LEVELS):
        assert re.search(rf'\b{key}\b"? ?=|\[\[{key}\]\]|"{key}"', text), key
