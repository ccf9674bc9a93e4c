"""Draws steward-*.svg, what commands of the steward's handbook print: python docs/pictures/steward.py

The commands are read from the page of each language and typed in an empty folder, so that a picture shows what its page
asks for; tests/test_pictures.py draws them again and compares.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGES = {"en": HERE.parents[1] / "privacy" / "README.md", "fr": HERE.parents[1] / "privacy" / "LISEZMOI.md"}
PREPARING = ("murmure policy new",)
SIZE, WIDE, LINE, EDGE = 14, 8.5, 20, 16
NBSP = "\u00a0"  # a picture's ordinary spaces fall together
BOLD = ' font-weight="bold"'


@dataclass(frozen=True)
class Shown:
    """One picture: the command that it shows, and after how many lines it breaks off, with a line of dots."""

    name: str
    command: str
    lines: int | None = None


SHOWN = (Shown("preview", "murmure policy preview", 15), Shown("diff", "murmure policy diff"))


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
            done = subprocess.run(
                [sys.executable, "-m", "murmure.cli", *shlex.split(command)[1:]],
                cwd=folder,
                env={**os.environ, "LC_ALL": {"en": "en_GB.UTF-8", "fr": "fr_FR.UTF-8"}[lang]},
                capture_output=True,
                text=True,
                check=True,
            )
            for one in shown:
                lines = done.stdout.rstrip().splitlines()
                if one.lines is not None:
                    lines = [*lines[: one.lines], "…"]
                drawn[name(one, lang)] = svg(command, lines)
    return drawn


def name(shown: Shown, lang: str) -> str:
    """Returns the file of a picture."""
    return f"steward-{shown.name}.{'en.' if lang == 'en' else ''}svg"


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
