"""The live page of `--watch`, the gateway's only use of rich. Who may see values was decided before it is drawn."""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from murmure_edge.doctor.report import shown
from murmure_edge.doctor.watch import Row

_TURN_S = 0.5
_COLOURS = {"ok": "green", "warming": "yellow", "opening": "yellow", "degraded": "yellow"}
_WORDS = {
    "fr": {
        "heads": ("port", "appareil", "état", "trames/s", "fausses", "âge", "vraisemblance"),
        "values": "mesures",
        "quit": "q : quitter",
        "hidden": "Les mesures ne s’affichent qu’à l’écran de la passerelle elle-même.",
        "sense": "`sense` est en marche : arrêtez murmure-sense pour en voir plus.",
        "ok": "bon",
        "range": "hors limites",
        "order": "ordre",
        "stuck": "figé",
        "floor": "au plus bas",
    },
    "en": {
        "heads": ("port", "device", "state", "frames/s", "bad", "age", "plausibility"),
        "values": "measured",
        "quit": "q: quit",
        "hidden": "What is measured is shown on the gateway's own screen only.",
        "sense": "`sense` runs: stop murmure-sense to see more.",
        "ok": "good",
        "range": "out of range",
        "order": "order",
        "stuck": "stuck",
        "floor": "at its floor",
    },
}


def show(
    rows: Callable[[], Sequence[Row]],
    language: str,
    *,
    with_values: bool,
    sense_runs: bool,
    stop: threading.Event,
) -> None:
    """Draws the rows twice a second until q is pressed, `stop`, or the terminal is gone. What is left of it is as
    before when it returns."""
    console = Console(file=sys.stdout, highlight=False)
    with suppress(OSError), _keys(stop) as key, Live(console=console, screen=True, auto_refresh=False) as live:
        while not stop.is_set():
            live.update(_page(rows(), language, with_values, sense_runs), refresh=True)
            if key(_TURN_S) in ("q", "Q", "\x03", "\x04"):
                return


def _page(rows: Sequence[Row], language: str, with_values: bool, sense_runs: bool) -> Group:
    word = _WORDS[language]
    table = Table(box=None, pad_edge=False, expand=True)
    for head in word["heads"]:
        table.add_column(head)
    if with_values:
        table.add_column(str(word["values"]))
    for row in rows:
        judged = [str(word[verdict]) for verdict in row.verdicts or row.recent] if with_values else []
        cells = [
            Text(row.port),
            Text(row.device),
            Text(row.state, style=_COLOURS.get(row.state, "red")),
            Text(_number(row.frames_per_s, "")),
            Text(_number(row.bad_percent, " %")),
            Text(_number(row.age_s, " s")),
            Text(", ".join(judged) or "-", style="red" if with_values and row.verdicts else ""),
        ]
        table.add_row(*cells, *([Text(shown(row.values) or "-")] if with_values else []))
    below = [Text(f"{row.port}: {row.advice}", style="yellow") for row in rows if row.advice]
    if sense_runs:
        below.append(Text(str(word["sense"])))
    elif not with_values:
        below.append(Text(str(word["hidden"])))
    return Group(table, *below, Text(str(word["quit"]), style="dim"))


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.1f}{unit}"


@contextmanager
def _keys(stop: threading.Event) -> Iterator[Callable[[float], str]]:
    """Yields a function that waits for a key, at most so many seconds, and returns it or ""."""
    fd = sys.stdin.fileno()
    if not os.isatty(fd):

        def wait(timeout_s: float) -> str:
            stop.wait(timeout_s)
            return ""

        yield wait
        return
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        # The end of input is a terminal that was closed: Ctrl-D, as it were.
        yield (
            lambda timeout_s: (
                (os.read(fd, 1).decode("latin-1") or "\x04") if select.select([fd], [], [], timeout_s)[0] else ""
            )
        )
    finally:
        with suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
