"""How long `murmure site build` takes: from nothing, after every stream has closed a quarter-hour more, and again."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from murmure_dashboards import glances, kept, stories
from murmure_dashboards.store import Store
from murmure_privacy.window import utc

from .town import NOW_S, Town, close_once_more

AFTERWARDS_S = 60
"""When every page is made again: nothing has come, but each page of today says another minute. What tells of days that
are over alone, feeds and bulletins, is no page of these."""
SETTLING = 5
"""Builds until the site is in its ordinary state."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Built:
    """One build until the site was switched. `wall_s` by the clock, `cpu_s` of all its processes."""

    wall_s: float
    cpu_s: float
    pages: int
    files: int
    octets: int


def builds(town: Town, folder: Path, profile: Path | None = None) -> dict[str, Built]:
    """Returns what each build took. `profile`: where that of rendering again is written, which is slower for it."""
    folder.mkdir(parents=True, exist_ok=True)
    later = folder / "later.db"
    for old in folder.glob("site*"):
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    shutil.copyfile(town.archive, later)
    then_s = close_once_more(town, later)
    out = folder / "site"
    found = {"from nothing": build(town.archive, town.city, out, NOW_S, prints=True)}
    # Takes up the sheets that are printed by now, as after each midnight; then there are three folders to fill in turn,
    # and what is kept stands in each.
    for since_s in range(0, AFTERWARDS_S, AFTERWARDS_S // SETTLING):
        build(town.archive, town.city, out, NOW_S + since_s)
    # Not after the next one, of which the other two folders have nothing yet.
    found["a quarter-hour later"] = build(later, town.city, out, then_s)
    # Every page of a period, of a site, of the town is made anew, and so is what they tell of streams; days that are
    # finished, and rows that are the same, are taken from the store.
    with closing(Store(folder / "site.store")) as store:
        store.forget((kept.PAGES, stories.KIND, glances.KIND), kept.EVER.end_s + 1)
    found["rendered again"] = build(later, town.city, out, then_s + AFTERWARDS_S, profile)
    return found


def build(archive: Path, city: Path, out: Path, now_s: int, profile: Path | None = None, prints: bool = False) -> Built:
    """Returns what one build took, until readers had the new site. It then reads through the files of months that it
    has written, for which this waits. `prints`: then come the sheets of paper, a third of a second each; else they are
    left unprinted."""
    command = [sys.executable, *(("-m", "cProfile", "-o", str(profile)) if profile else ()), "-m", "murmure.cli"]
    command += ["site", "build", "--archive", str(archive), "--city", str(city), "--out", str(out)]
    if out.is_symlink():  # as after the quarter-hour between two builds, within which no folder is filled again
        os.utime(out, (0, 0), follow_symlinks=False)
    began_s = time.monotonic()
    with subprocess.Popen([*command, "--now", utc(now_s), "--json"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None, "it is a pipe"
        line = process.stdout.readline()
        wall_s = time.monotonic() - began_s
        # user and system, of the process and of those that it has waited for
        cpu = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:15] if line else []
        if profile is None:
            with out.with_name(f"{out.name}.lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH)
            if not prints:
                process.terminate()
    if not line:
        raise SystemExit(f"{' '.join(command)}: exit {process.returncode}")
    told = json.loads(line)
    return Built(wall_s, sum(map(int, cpu)) / _TICKS, told["pages"], told["files"], told["octets"])
