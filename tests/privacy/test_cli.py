"""`murmure policy check` and `preview`: what a policy costs and shows, or the one line that says what is wrong."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from murmure_privacy import cli, policy_sheet, recording
from murmure_privacy.errors import ConfigError
from murmure_privacy.window import parse_utc


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that speaks English; what is said in French is looked at in test_french."""
    monkeypatch.setenv("LC_ALL", "en_GB.UTF-8")


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


@pytest.fixture
def preview(tmp_path: Path) -> Callable[..., int]:
    """Runs `policy preview` on a policy's text."""
    parser = argparse.ArgumentParser()
    cli.register(parser.add_subparsers())

    def run(text: str, *options: str) -> int:
        file = tmp_path / "policy.toml"
        file.write_text(text, encoding="utf-8")
        args = parser.parse_args(["policy", "preview", str(file), *options])
        status: int = args.handler(args)
        return status

    return run


@pytest.fixture
def street_file(tmp_path: Path) -> Path:
    """An hour at 50 and 70 dB in turn, recorded at two sites."""
    rows = [
        f"2026-01-05T12:{at // 60:02}:{at % 60:02}Z,{site},laeq_1s,{70 if at % 2 else 50},dB"
        for site in ("pole", "roof")
        for at in range(3600)
    ]
    file = tmp_path / "street.csv"
    file.write_text("\n".join([",".join(recording.HEADER), *rows]) + "\n")
    return file


def test_a_preview_is_one_document_or_a_page(
    preview: Callable[..., int], policy_text: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The JSON has the keys of contract 6; the page says errors, prices, odds and what is not shown, in plain lines."""
    assert preview(policy_text(), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert [stream["id"] for stream in said["streams"]] == ["plaza/footfall", "plaza/noise", "plaza/pm2_5"]
    assert said["site"]["rho_micro"] == 3 * 24355
    assert preview(policy_text()) == 0
    text = capsys.readouterr().out
    assert re.search(r"15min +crossings +14\.7 +1 +8\.36 +- +7158\n", text)
    assert re.search(r"1h +level_db_mean +6\.46 +dB +3\.35 +1\.4 +6262 +not shown\n", text)
    assert re.search(r"laeq_db +no +no\n", text)
    assert re.search(r"\n +1 +1 +2\.87 +6\.49 +29\.9\*\n", text)
    assert "who held it for as likely as not before is right at most 74% of the time after" in text
    assert "proposed, the lowest that leaves out at most 1 % of events: up_to_db = 65: laeq_db (1d) not shown" in text
    assert re.search(r"\n +up_to_db +events left out +readings above +margin ± dB\n", text)
    assert re.search(r"\n +60 +up to 1\.78% +0\.07% +", text)
    assert text.endswith("All streams together: epsilon 1.8064, delta 1e-06\n")


def test_a_preview_warns_about_dates_and_goes_on(
    preview: Callable[..., int], policy_text: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A policy that is past is previewed whole, with the warning last."""
    swap = (("2026-01-01", "2001-01-01"), ("2028-12-31", "2002-12-31"))
    assert preview(policy_text("footfall", swap=swap)) == 0
    text = capsys.readouterr().out
    assert "15min" in text and text.endswith("warning: valid_until 2002-12-31 is past: nothing would be published\n")


def test_a_target_is_solved_by_preview_and_refused_by_check(
    preview: Callable[..., int],
    check: Callable[..., int],
    policy_text: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The preview shows the line to write; with it the policy is complete, and with the target it never is."""
    text = policy_text("footfall", swap=(("epsilon = 1.0", 'target = { node = "1h", error_95 = 15 }'),))
    assert preview(text) == 0
    assert "for ± 15 at 1h, write: epsilon = 0.995\n" in capsys.readouterr().out
    assert preview(text, "--json") == 0
    [stream] = json.loads(capsys.readouterr().out)["streams"]
    assert stream["target"] == {"node": "1h", "error_95": 15, "line": "epsilon = 0.995"}
    assert stream["epsilon"] == 0.995
    with pytest.raises(ConfigError, match="target: solved by `policy preview`"):
        check(text)


def test_a_cap_and_a_level_are_said_in_words(
    preview: Callable[..., int], policy_text: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The page says for how many days a cap lasts, and whether the policy's own level fits."""
    level = ("protects = { seconds = 15 }", "protects = { seconds = 15, up_to_db = 70 }")
    cap = ("bounds_db = [35, 85]", 'bounds_db = [35, 85]\ncap = { units_per_day = 2, span = "1y", epsilon = 30 }')
    assert preview(policy_text("noise", swap=(level, cap))) == 0
    text = capsys.readouterr().out
    assert "for any 15 seconds during which no reading is above 70 dB" in text
    assert "the policy has up_to_db = 70: laeq_db (1d) not shown; 0.00% of events left out" in text
    assert "an event is 27 readings in a row: 15 seconds and what the sensor remembers of them; one reading" in text
    assert "cap: 2 a day may cost epsilon 30 over a year:\n    enough for 92 days of it" in text
    assert "the highest with which it is shown: up_to_db = 55: laeq_db (1d) ± " in text


def test_a_recording_takes_the_place_of_the_described_streets(
    preview: Callable[..., int],
    policy_text: Callable[..., str],
    street_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With --readings all that depends on the street is that of the recording, by its site's name."""
    assert preview(policy_text(), "--readings", str(street_file), "--site", "roof", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    noise = said["streams"][1]
    assert {row["at"] for stream in said["streams"] for row in stream["nodes"]} == {None, "roof"}
    assert noise["streets"] == [{"at": "roof", "says": "recorded, one reading every 1 s", "laeq_db": 67.0}]
    assert noise["up_to"][0]["proposed"]["up_to_db"] == 70
    below = next(step for step in noise["up_to"][0]["steps"] if step["up_to_db"] == 65)
    assert (below["events"], below["louder"]) == (1, 0.5), (
        "every event touches a second of 70 dB, half of the seconds are"
    )


def test_a_width_of_a_bin_and_a_bound_are_said_to_be_that(
    preview: Callable[..., int], policy_text: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """ "2.5" beside a percentile is half a bin and not what the noise makes; what lies in an end bin is at most or at
    least, not a number. Without a histogram neither is said."""
    assert preview(policy_text("noise")) == 0
    text = capsys.readouterr().out
    assert "l10, l50, l90: told as the middle of a bin; ± 2.5 dB is half its width, whatever the epsilon" in text
    assert re.search(r"l90_db +no +≤ 40\n", text)
    assert "≤, ≥: at most, at least so many dB" in text
    assert preview(policy_text("noise", swap=(("histogram = 6, ", ""),))) == 0
    text = capsys.readouterr().out
    assert "half its width" not in text and "at most, at least" not in text


def test_a_recording_is_tried_on_each_stream_that_it_feeds(
    preview: Callable[..., int], policy_text: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recording of air says what the level of air leaves out and nothing of noise, one of both says it of both;
    --metric chooses the stream; one that feeds none is one line."""
    file = tmp_path / "both.csv"
    both = [
        f"2026-01-05T12:{at // 60:02}:{at % 60:02}Z,pole,{what}"
        for at in range(600)
        for what in ("pm2_5,7.5,ug/m3", "laeq_1s,50,dB")
    ]
    for lines, options, tried in (
        (both, (), {"plaza/noise", "plaza/pm2_5"}),
        (both[::2], (), {"plaza/pm2_5"}),
        (both, ("--metric", "pm2_5"), {"plaza/pm2_5"}),
        (both, ("--metric", "laeq_1s"), {"plaza/noise"}),
    ):
        file.write_text("\n".join([",".join(recording.HEADER), *lines]) + "\n")
        assert preview(policy_text(), "--readings", str(file), "--json", *options) == 0
        said = json.loads(capsys.readouterr().out)
        assert {stream["id"] for stream in said["streams"] if stream["up_to"]} == tried
    file.write_text("\n".join([",".join(recording.HEADER), *both[::2]]) + "\n")
    assert preview(policy_text("pm2_5"), "--readings", str(file)) == 0
    text = capsys.readouterr().out
    assert "pole: mean 7.5 ug/m3; recorded, one reading every 1 s" in text
    assert "proposed, the lowest that leaves out at most 1 % of events: up_to = 10: pm2_5_ug_m3 (1d) ± " in text
    with pytest.raises(ConfigError, match=r"both\.csv: metric: nothing for noise among pm2_5; give another file"):
        preview(policy_text("noise", "footfall"), "--readings", str(file))


@pytest.mark.parametrize(("share", "said"), [(0, "0.00%"), (0.00004, "< 0.01%"), (0.0001, "0.01%"), (1, "100.00%")])
def test_little_is_not_said_to_be_nothing(share: float, said: str) -> None:
    """A share that would round to nought is told as less than a hundredth of a percent."""
    assert policy_sheet._percent(policy_sheet.Teller("en"), share) == said


def test_what_is_wrong_with_a_preview_is_one_line(
    preview: Callable[..., int], policy_text: Callable[..., str], street_file: Path
) -> None:
    """Readings without a stream of levels, a site without readings, a file that is not there."""
    readings = "--readings", str(street_file)
    for streams, options, said in (
        (("noise",), ("--site", "roof"), "policy preview: --site: without --readings; name the recording too"),
        (("noise",), ("--metric", "x"), "policy preview: --metric: without --readings"),
        (("footfall",), readings, "policy.toml: stream: none measures levels or air; leave --readings out"),
        (("noise",), readings, "street.csv: site: 2 sites; add --site with one of pole, roof"),
        (("noise",), (*readings, "--site", "x"), "street.csv: site: 'x' is not there"),
        (("noise",), ("--readings", "none.csv"), "none.csv: file: No such file"),
    ):
        with pytest.raises(ConfigError) as refused:
            preview(policy_text(*streams), *options)
        assert said in str(refused.value)


def test_parts_of_the_day_have_their_columns_and_lden_its_own(
    preview: Callable[..., int], policy_text: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A cell is empty where an indicator has no such node: Lden belongs to all parts together, Ln to nights."""
    parts = '"day" = 12, "evening" = 12, "night" = 12 }'
    assert preview(policy_text("noise", swap=(('"1h" = 1, "1d" = 24 }', parts),))) == 0
    text = capsys.readouterr().out
    assert re.search(r"margin ± dB +day +evening +night +day\+evening\+night\n", text)
    assert re.search(r"laeq_db +no +no +no\n +lden_db +no\n +mean of 30 days", text)
    assert re.search(r"\n +ln_db +no\n", text)


def test_a_histogram_without_an_edge_at_65_db_has_no_share_over_it(
    preview: Callable[..., int], policy_text: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The share over 65 dB is shown where a bin begins there."""
    for bounds, there in (("[35, 85]", True), ("[70, 85]", False)):
        assert preview(policy_text("noise", swap=(("[35, 85]", bounds),) if not there else ())) == 0
        assert ("share_over_65_db" in capsys.readouterr().out) is there


@pytest.mark.parametrize(
    ("swap", "way", "needs", "said"),
    [
        (("epsilon = 1.0", "epsilon = 1.4"), "looser", (2, 2, 7), "after policy 1 it is a loosening:"),
        (("epsilon = 1.0", "epsilon = 0.4"), "tighter", (1, 1, 0), "after policy 1 it is a tightening:"),
        (("reason = ", "# reason\nreason = "), "same", (1, 1, 0), "after policy 1 it is no change for residents:"),
    ],
)
def test_which_way_a_policy_goes_is_said_with_what_that_needs(
    check: Callable[..., int],
    preview: Callable[..., int],
    policy_text: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    swap: tuple[str, str],
    way: str,
    needs: tuple[int, int, int],
    said: str,
) -> None:
    """`--after` the policy in force: a loosening is called one, with two roles, seven days and the ceiling; what no
    gateway would take is said, too. Without `--after` nothing is said of it."""
    older = tmp_path / "older.toml"
    older.write_text(policy_text("footfall"))
    newer = policy_text("footfall", swap=(("version = 1", "version = 2"), swap))
    for command in (check, preview):
        assert command(newer, "--after", str(older), "--json") == 0
        change = json.loads(capsys.readouterr().out)["change"]
        assert (change["direction"], tuple(change["needs"].values())) == (way, needs) and change["refused"] == []
        assert command(newer, "--after", str(older)) == 0
        text = capsys.readouterr().out
        assert said in text and ("ε = 1.4 instead of 1.0" in text) == (way == "looser")
        assert ("two signatures of different roles, and 7 days of notice" in text) == (way == "looser")
        assert ("cost epsilon 1.4 together (delta 1e-6); the ceiling" in text) == (way == "looser")
        assert command(newer, "--json") == 0
        assert json.loads(capsys.readouterr().out)["change"] is None
    assert check(newer.replace("epsilon = 1.4", "epsilon = 11"), "--after", str(older)) == 0
    assert ("Every gateway would refuse it: " in capsys.readouterr().out) == (way == "looser")


def test_what_a_tighter_policy_withholds_until_it_begins_is_said(
    check: Callable[..., int],
    preview: Callable[..., int],
    policy_text: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--after` the policy in force: which stream, for which reason, from when to when, by `check` and `preview` alike.
    Without it a policy that is still to come is told of the option."""
    today = datetime.now(UTC).date()
    older = tmp_path / "older.toml"
    older.write_text(policy_text("footfall", "noise", swap=(("2028-12-31", f"{today + timedelta(days=900)}"),)))
    days = ("2026-01-01", f"{today + timedelta(days=3)}"), ("2028-12-31", f"{today + timedelta(days=900)}")
    newer = policy_text("footfall", "noise", swap=(("version = 1", "version = 2"), ("tail = 11", "tail = 12"), *days))
    for command in (check, preview):
        assert command(newer, "--after", str(older), "--json") == 0
        said = json.loads(capsys.readouterr().out)
        [hold] = said["withheld"]
        assert (hold["stream"], hold["reason"], hold["why"]) == (
            "plaza/noise", "paused", "policy 2 protects better than 1",
        )  # fmt: skip
        assert parse_utc(hold["from"]) < parse_utc(hold["until"])
        until = datetime.fromtimestamp(parse_utc(hold["until"]), ZoneInfo("Europe/Paris"))
        assert until.isoformat()[:16] == f"{today + timedelta(days=3)}T00:00"
        assert command(newer, "--after", str(older)) == 0
        line = capsys.readouterr().out.splitlines()[-1]
        assert "warning: plaza/noise: policy 2 protects better than 1: published now, it is withheld (paused)" in line
        assert command(newer) == 0
        assert capsys.readouterr().out.endswith(
            "where a policy is in force: --after OLDER says what this one loosens, and withholds before it begins\n"
        )
        assert command(newer.replace("tail = 12", "tail = 11"), "--after", str(older), "--json") == 0
        assert json.loads(capsys.readouterr().out)["withheld"] == []
    older.write_text(policy_text("footfall", swap=(("version = 1", "version = 2"),)))
    with pytest.raises(ConfigError, match=r"policy\.toml: version: 2 does not come after 2; write version = 3$"):
        check(newer, "--after", str(older))
    older.write_text(policy_text("footfall").replace("plaza", "market"))
    with pytest.raises(ConfigError, match=r"older\.toml: site: 'market' is not 'plaza'; give the policy of 'plaza'$"):
        check(newer, "--after", str(older))
