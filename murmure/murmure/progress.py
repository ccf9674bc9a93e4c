"""What demo and audit show on a terminal: a bar that moves, or a line now and then where nobody looks."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

_ZONE = ZoneInfo("Europe/Paris")
_LINE_S = 10.0


class Reporter:
    """Tells what each part does, on stderr; the summary goes to stdout. `quiet`: nothing but errors."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True, highlight=False)
        self._live = self._console.is_terminal and not quiet
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task("past days", total=1.0, note="")
        self._next_line = 0.0
        self._began = time.monotonic()

    def __enter__(self) -> Reporter:
        if self._live:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> None:
        """Takes the bar away."""
        self._bar.stop()

    def say(self, line: str) -> None:
        """Says one thing that happened."""
        if not self._quiet:
            self._console.print(line, markup=False, soft_wrap=True)

    def past_days(self, first_s: int, last_s: int, now_s: int) -> None:
        """Shows how far the replay is; times in UTC seconds."""
        share = min(1.0, max(0.0, (now_s - first_s) / (last_s - first_s)))
        pace = (now_s - first_s) / max(0.1, time.monotonic() - self._began)
        self._show(share, f"{_local(now_s)}  x{max(0.0, pace):,.0f}")

    def living(self, now_s: int, nodes: int) -> None:
        """Shows the city's own clock once the past is done."""
        self._show(1.0, f"{_local(now_s)}  {nodes} nodes in the archive")

    def runs(self, what: str, done: int, total: int) -> None:
        """Shows how far an audit is with one of its scripts."""
        self._show(done / total, f"{done:,} of {total:,} runs", what)

    def _show(self, share: float, note: str, what: str = "replay") -> None:
        if self._live:
            self._bar.update(self._task, completed=share, note=note, description=what)
        elif not self._quiet and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_S
            self.say(f"{what:<9} {share:4.0%}  {note}")

    def summary(self, result: dict[str, Any], site: Path) -> None:
        """Prints the figures of a finished run."""
        table = Table(show_header=False, box=None, pad_edge=False)
        for key, value in result.items():
            if key != "spent":
                table.add_row(key.replace("_", " "), f"{value:,}")
        for stream, micro in result["spent"].items():
            table.add_row(f"spent {stream}", f"{micro:,} micro-rho")
        table.add_row("site", str(site))
        Console(file=sys.stdout, highlight=False).print(table)


def _local(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, _ZONE).strftime("%Y-%m-%d %H:%M")
