"""Draws steward-*.svg, the pictures of the steward's handbook: python docs/pictures/steward.py

`preview` and `diff` show what commands print. They are read from the page of each language and typed in an empty
folder, so that a picture shows what its page asks for. `margins` and `habits` are drawn of what the same commands say
as JSON, and `notice` of the notice that gateways keep. tests/test_pictures.py draws all again and compares.

Ink, white and hatching alone, and each bar bears its number: they say the same in black and white.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from html import escape
from math import ceil, floor
from pathlib import Path
from typing import Any

from murmure_privacy.accountant import right_guesses
from murmure_privacy.decide import NOTICE_S

HERE = Path(__file__).resolve().parent
PAGES = {"en": HERE.parents[1] / "privacy" / "README.md", "fr": HERE.parents[1] / "privacy" / "LISEZMOI.md"}
PREPARING = ("murmure policy new",)
SIZE, WIDE, LINE, EDGE = 14, 8.5, 20, 16
INK, FAINT = "#1b1b1b", ' stroke-opacity="0.35"'
NBSP = "\u00a0"  # a picture's ordinary spaces fall together
BOLD = ' font-weight="bold"'
COUNTED = 211  # the hour of the handbook's first example
MARGINS = (5, 15, 25, 45)  # passages an hour, 19 times out of 20: the rows of its worked example
LADDERS = (15, 45)  # of these the habits are drawn
SPANS = ("1d", "1w", "30d", "1y")
WORDS = {
    "margins": (
        "Une heure avec 211 passages : ce que les habitants peuvent lire",
        "An hour with 211 passages: what residents may read",
    ),
    "margin": ("± {margin}  (ε {epsilon})", "± {margin}  (ε {epsilon})"),
    "between": ("de {low} à {high}", "{low} to {high}"),
    "guess": ("{guess} fois sur 100", "{guess} times in 100"),
    "head_margin": ("marge", "margin"),
    "head_read": ("19 fois sur 20, le chiffre est entre", "19 times out of 20 the figure is between"),
    "head_guess": ("on devine juste, au plus", "a guess is right, at most"),
    "counted": ("compté : 211", "counted: 211"),
    "habits": (
        "Qui passe une fois par jour : combien de fois sur 100 on devine juste, au plus",
        "Who passes once a day: how often in 100 a guess is right, at most",
    ),
    "of": ("± {margin} par heure (ε {epsilon})", "± {margin} an hour (ε {epsilon})"),
    "1d": ("un jour", "one day"),
    "1w": ("une semaine", "a week"),
    "30d": ("30 jours", "30 days"),
    "1y": ("un an", "a year"),
    "toss": ("50 : sans nos chiffres", "50: without our figures"),
    "always": ("presque toujours", "nearly always"),
    "notice": (
        "Une règle plus permissive : du vote au premier chiffre",
        "A looser policy: from the vote to the first figure",
    ),
    "old": ("l'ancienne règle tient", "the old policy holds"),
    "new": ("la nouvelle", "the new one"),
    "tighter": ("ce que la nouvelle durcit compte déjà", "what the new one tightens counts already"),
    "regret": ("un regret ? une signature la reprend", "a regret? one signature takes it back"),
    "published": ("publiée, deux signatures", "published, two signatures"),
    "seen": ("jour 0 : le boîtier la voit", "day 0: the box sees it"),
    "lived": ("jour {days} : il a tourné {days} jours", "day {days}: it has run {days} days"),
    "midnight": ("dès que rien n'est en cours", "once nothing is open"),
    "off": (
        "un boîtier éteint deux jours attend deux jours de plus",
        "a box that is off for two days waits two days more",
    ),
}
"""French, English."""


@dataclass(frozen=True)
class Shown:
    """One picture: the command that it shows, and after how many lines it breaks off, with a line of dots."""

    name: str
    command: str
    lines: int | None = None


SHOWN = (
    Shown("preview", "murmure policy preview plaza-1.toml", 15),
    Shown("diff", "murmure policy diff plaza-1.toml plaza-2.toml"),
)
DRAWN = ("margins", "habits", "notice")


@dataclass(frozen=True)
class Choice:
    """What a wanted margin of the hour leads to. `guesses`: for once a day over each of SPANS, the most often in 100
    that a guess is right; None where nothing worth the name is promised."""

    margin: int
    error_95: float
    epsilon: float
    guesses: tuple[int | None, ...]


def commands(page: str) -> list[str]:
    """Returns what the page lets type, one command a line."""
    blocks = "".join(re.findall(r"^ *```sh\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL))
    return [line.strip() for line in re.sub(r"\s*\\\n\s*", " ", blocks).splitlines()]


def pictures(lang: str) -> dict[str, str]:
    """Returns the drawings of a language's page by their file's name. Raises CalledProcessError if a command fails."""
    typed = commands(PAGES[lang].read_text("utf-8"))
    drawn = {}
    with tempfile.TemporaryDirectory() as folder:
        for command in typed:
            shown = [one for one in SHOWN if command.startswith(one.command)]
            if not shown and not command.startswith(PREPARING):
                continue
            printed = _type(shlex.split(command)[1:], folder, lang)
            for one in shown:
                lines = printed.rstrip().splitlines()
                if one.lines is not None:
                    lines = [*lines[: one.lines], "…"]
                drawn[name(one.name, lang)] = svg(command, lines)
        made = {one.margin: one for one in (choice(margin, folder) for margin in MARGINS)}
    drawn[name("margins", lang)] = margins(list(made.values()), lang)
    drawn[name("habits", lang)] = habits([made[margin] for margin in LADDERS], lang)
    drawn[name("notice", lang)] = notice(lang)
    return drawn


def choice(margin: int, folder: str) -> Choice:
    """Returns what `murmure policy new` and `preview` make of a margin of the hour, for footfall alone."""
    file = f"margin-{margin}.toml"
    wanted = f"--site plaza --stream footfall --until 2027-11-30 --target footfall=1h:{margin} --out {file}"
    _type(["policy", "new", *wanted.split()], folder, "en")
    (stream,) = json.loads(_type(["policy", "preview", file, "--json"], folder, "en"))["streams"]
    (hour,) = (node for node in stream["nodes"] if node["node"] == "1h")
    rungs = {rung["span"]: rung for rung in stream["ladder"] if rung["units"] == 1}
    return Choice(
        margin, hour["error_95"], stream["epsilon"], tuple(_guesses(rungs[span], stream["delta"]) for span in SPANS)
    )


def _guesses(rung: dict[str, Any], delta: float) -> int | None:
    if rung["odds"] is None:
        return None
    share = right_guesses(Decimal(str(rung["epsilon"])), Decimal(str(delta)))
    return int((100 * share).to_integral_value(ROUND_CEILING))


def _type(words: Sequence[str], folder: str, lang: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "murmure.cli", *words],
        cwd=folder,
        env={**os.environ, "LC_ALL": {"en": "en_GB.UTF-8", "fr": "fr_FR.UTF-8"}[lang]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def name(picture: str, lang: str) -> str:
    """Returns the file of a picture."""
    return f"steward-{picture}.{'en.' if lang == 'en' else ''}svg"


def say(key: str, lang: str, **holes: object) -> str:
    """Returns the words of a picture; a number has the decimal sign of the language."""
    told = {hole: f"{value:g}" if isinstance(value, float) else str(value) for hole, value in holes.items()}
    if lang == "fr":
        told = {hole: value.replace(".", ",") for hole, value in told.items()}
    return WORDS[key][lang == "en"].format_map(told)


def margins(choices: Sequence[Choice], lang: str) -> str:
    """Returns for each margin the interval in which residents may find the hour, and how often a guess is right."""
    left, right, top, step, end = 170, 560, 92, 40, 760
    most = max(MARGINS)
    bottom = top + step * len(choices)

    def x(count: float) -> float:
        return left + (right - left) * (count - COUNTED + most) / (2 * most)

    drawn = [
        _text(16, 30, say("margins", lang), bold=True),
        _text(16, 62, say("head_margin", lang)),
        _text(left, 62, say("head_read", lang)),
        _text(end - 16, 62, say("head_guess", lang), "end"),
        f'<path d="M{x(COUNTED):g},{top - 14}V{bottom - 4}" stroke="{INK}" stroke-dasharray="4 3"/>',
        _text(x(COUNTED), bottom + 16, say("counted", lang), "middle"),
    ]
    for row, one in enumerate(choices):
        y = top + step * row + 10
        # Outward: what is drawn holds the margin that was computed.
        low, high = floor(COUNTED - one.error_95), ceil(COUNTED + one.error_95)
        drawn += [
            _text(16, y + 5, say("margin", lang, margin=one.margin, epsilon=one.epsilon)),
            f'<path d="M{x(low):.1f},{y}H{x(high):.1f}" stroke="{INK}" stroke-width="9"/>',
            _text(x(low) - 6, y + 5, str(low), "end"),
            _text(x(high) + 6, y + 5, str(high)),
            _text(end - 16, y + 5, say("guess", lang, guess=one.guesses[0]), "end"),
        ]
    return _drawing(end, bottom + 30, say("margins", lang), drawn)


def habits(choices: Sequence[Choice], lang: str) -> str:
    """Returns for each margin how often a guess about a habit is right: bars from 50, the toss of a coin, to 100."""
    left, right, top, step, end = 330, 660, 66, 28, 800
    drawn = [_text(16, 30, say("habits", lang), bold=True)]
    y = top
    for one in choices:
        drawn.append(_text(16, y + 14, say("of", lang, margin=one.margin, epsilon=one.epsilon)))
        for span, guess in zip(SPANS, one.guesses, strict=True):
            wide = (right - left) * ((100 if guess is None else guess) - 50) / 50
            # Hatched: nothing worth the name is promised.
            fill = "url(#hatch)" if guess is None else INK
            drawn += [
                _text(left - 8, y + 14, say(span, lang), "end"),
                f'<rect x="{left}" y="{y}" width="{wide:g}" height="18" fill="{fill}" stroke="{INK}"/>',
                _text(left + wide + 8, y + 14, say("always", lang) if guess is None else str(guess)),
            ]
            y += step
        y += 16
    drawn += [
        f'<path d="M{left},{top - 8}V{y - 18}" stroke="{INK}" stroke-width="2"/>',
        _text(left, y, say("toss", lang), "middle"),
    ]
    return _drawing(end, y + 16, say("habits", lang), drawn)


def notice(lang: str) -> str:
    """Returns the days of a loosening, from the signatures to the first figure under it."""
    days = NOTICE_S // 86_400
    left, each, y, end = 70, 70, 124, 800
    first, last = left + each, left + each * (1 + days)
    drawn = [_text(16, 30, say("notice", lang), bold=True)]
    for number in range(days + 1):
        x = first + each * number
        drawn.append(f'<path d="M{x},{y - 26}V{y + 26}" stroke="{INK}"{"" if number in (0, days) else FAINT}/>')
    drawn += [
        f'<rect x="16" y="{y - 14}" width="{last - 16}" height="28" fill="#ffffff" stroke="{INK}" stroke-width="2"/>',
        f'<rect x="{last}" y="{y - 14}" width="{end - 16 - last}" height="28" fill="{INK}"/>',
        _text((first + last) / 2, y + 5, say("old", lang), "middle"),
        _text((last + end - 16) / 2, y + 5, say("new", lang), "middle", ink="#ffffff"),
        _text(16, y - 60, say("published", lang)),
        f'<path d="M24,{y - 54}V{y - 18}" stroke="{INK}"/>',
        _text(first, y - 34, say("seen", lang)),
        _text(last, y - 34, say("lived", lang, days=days), "end"),
        _text(end - 16, y + 44, say("midnight", lang), "end"),
        _text(first, y + 44, "• " + say("tighter", lang)),
        _text(first, y + 66, "• " + say("regret", lang)),
        _text(first, y + 88, "• " + say("off", lang)),
    ]
    return _drawing(end, y + 106, say("notice", lang), drawn)


def _text(x: float, y: float, text: str, anchor: str = "start", *, bold: bool = False, ink: str = "") -> str:
    fill = f' fill="{ink}"' if ink else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{BOLD if bold else ""}{fill}>{escape(text)}</text>'


def _drawing(width: int, height: float, title: str, drawn: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" width="{width}" height="{height:g}" '
        f'role="img" font-family="DejaVu Sans, Verdana, sans-serif" font-size="{SIZE}" fill="{INK}">'
        f"<title>{escape(title)}</title>"
    )
    hatch = (
        '<defs><pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<path d="M0,0V7" stroke="{INK}" stroke-width="3"/></pattern></defs>'
    )
    frame = (
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1:g}" rx="6" fill="#ffffff" stroke="#767676"/>'
    )
    return "\n".join([head, hatch, frame, *drawn, "</svg>", ""])


def svg(command: str, lines: list[str]) -> str:
    """Returns a terminal: the command, and the lines that it printed. No font but the reader's own."""
    rows = [f"$ {command}", *lines]
    # A reader's font may be wider or narrower than ours: each line says how long it is.
    width = round(max(map(len, rows)) * WIDE) + 2 * EDGE
    height = len(rows) * LINE + 2 * EDGE
    drawn = [
        f'<text x="{EDGE}" y="{EDGE + LINE * number + SIZE}" textLength="{len(row) * WIDE:g}" '
        f'lengthAdjust="spacingAndGlyphs"{"" if number else BOLD}>{escape(row).replace(" ", NBSP)}</text>'
        for number, row in enumerate(rows)
        if row
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{SIZE}" fill="#1b1b1b">'
        f"<title>{escape(command)}</title>"
    )
    frame = f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6" fill="#ffffff" stroke="#767676"/>'
    return "\n".join([head, frame, *drawn, "</svg>", ""])


if __name__ == "__main__":
    for language in PAGES:
        for file, drawing in pictures(language).items():
            (HERE / file).write_text(drawing, "utf-8")
