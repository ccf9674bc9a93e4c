"""A recorded week, from bytes to pages: published figures stand as far from the recording as the policy predicts."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from murmure_firmware_sim import replay
from murmure_ingest.archive import Archive
from murmure_privacy.estimate import figures

from murmure import city

DAYS = 7
WORST_STANDARD_ERRORS = 4.5  # of 21 days: passed by chance once in ten thousand runs


@pytest.mark.long
@pytest.mark.shared
def test_a_recorded_week_is_published_with_the_error_that_is_promised(shared: Path, tmp_path: Path) -> None:
    """Three sites, seven days: nothing lost, and each day's footfall within its margin of the recorded count."""
    folder = tmp_path / "week"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "murmure.cli", "demo", "--once", "--days", str(DAYS), "--json"),
            *("--recordings", str(shared / "data"), "--dir", str(folder)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["stored"] == summary["releases"] > 4000
    assert (summary["duplicates"], summary["refused"], summary["crossings_over_capacity"]) == (0, 0, 0)
    scenario = json.loads((folder / "scenario.json").read_text())
    archive = Archive.open(folder / "centre" / "data" / "archive.db", read_only=True)
    errors = []
    for gateway in scenario["gateways"]:
        beam = next(port["source"] for port in gateway["ports"] if port["device"] == "tfluna")
        recorded = replay.load(Path(beam["file"]))
        site = gateway["gateway"].removeprefix("gw-")
        daily = [
            figure
            for figure in figures(archive.outcomes(f"{site}/footfall", 0, 1 << 40), city.TIMEZONE, 1 << 40)
            if figure.level == "1d"
        ]
        for (start_ms, end_ms, _), figure in zip(beam["days"][:DAYS], daily, strict=True):
            rows = [recorded[beam["site"], metric] for metric in beam["metrics"]]
            truth = sum(
                value
                for row in rows
                for at_ms, value in zip(row.times_ms, row.values, strict=True)
                if start_ms <= at_ms < end_ms
            )
            errors.append((figure.estimate - truth) / figure.standard_error)
    archive.close()
    assert len(errors) == DAYS * len(city.SITES)
    rms = math.sqrt(sum(error * error for error in errors) / len(errors))
    print(f"daily footfall: {rms:.2f} of the predicted standard error (rms of {len(errors)} days)")
    assert max(map(abs, errors)) < WORST_STANDARD_ERRORS
