"""`murmure policy check`: what a policy costs and shows, or the one line that says what is wrong."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from murmure_privacy import cli
from murmure_privacy.errors import ConfigError


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., int]:
    """Runs the command on a policy's text."""
    parser = argparse.ArgumentParser()
    cli.register(parser.add_subparsers())

    def run(text: str, *options: str) -> int:
        file = tmp_path / "policy.toml"
        file.write_text(text, encoding="utf-8")
        args = parser.parse_args(["policy", "check", str(file), *options])
        status: int = args.handler(args)
        return status

    return run


def test_a_complete_policy_is_priced(
    check: Callable[..., int], policy_text: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The JSON has every node's noise and charge, the site's sum, and the largest message; the text the same."""
    assert check(policy_text(), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    hour = next(n for n in said["streams"][0]["nodes"] if n["node"] == "1h")
    assert hour == {"node": "1h", "indicator": "crossings", "sigma": 9.458, "unit": "1", "rho_micro": 5590}
    assert said["site"]["rho_micro"] == 3 * 24355
    assert said["site"]["epsilon"] == pytest.approx(1.80, abs=0.01)
    assert said["largest_message"] <= 4096
    assert check(policy_text()) == 0
    text = capsys.readouterr().out
    assert "complete. Policy 1 of plaza" in text
    assert re.search(r"1h +crossings +sigma +9\.458 1 +5590 micro-rho", text)


def test_dates_are_warned_about(
    check: Callable[..., int], policy_text: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A policy that is past or still to come is complete, and the warning says so."""
    for years, word in ((("2001", "2002"), "is past"), (("2097", "2099"), "is still to come")):
        swap = (("2026-01-01", f"{years[0]}-01-01"), ("2028-12-31", f"{years[1]}-12-31"))
        assert check(policy_text("footfall", swap=swap)) == 0
        assert word in capsys.readouterr().out


def test_a_plan_beyond_four_kib_is_refused(check: Callable[..., int], policy_text: Callable[..., str]) -> None:
    """A policy whose largest message would exceed 4 KiB is refused before it is signed."""
    noise = """
id = "plaza/noise-{n}"
quantity = "noise"
protects = {{ seconds = 15 }}
readings = {{ cadence_ms = 1000, tail = 11 }}
epsilon = 1.0
nodes = {{ "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 24 }}
bounds_db = [35, 85]
"""
    with pytest.raises(ConfigError, match=r"policy\.toml: stream: the largest message has \d+ bytes of 4096; drop"):
        check(policy_text(*(noise.format(n=n) for n in range(9))))


def test_a_plan_without_budget_names_the_file(check: Callable[..., int], policy_text: Callable[..., str]) -> None:
    """What only planning finds is said as what parsing finds: file, key, mend."""
    with pytest.raises(ConfigError, match=r"policy\.toml: stream plaza/footfall: nodes\.15min: crossings gets less"):
        check(policy_text("footfall", swap=(("epsilon = 1.0", "epsilon = 1e-6"),)))


def test_an_unreadable_policy_is_named(tmp_path: Path) -> None:
    """A file that cannot be read is one line."""
    parser = argparse.ArgumentParser()
    cli.register(parser.add_subparsers())
    args = parser.parse_args(["policy", "check", str(tmp_path / "none.toml")])
    with pytest.raises(ConfigError, match=r"none\.toml: file: No such file or directory; give a readable policy"):
        args.handler(args)
