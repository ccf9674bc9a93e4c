"""Sheets of paper as tagged PDF (PDF/UA-1), each content printed once. The only file that knows weasyprint.

A sheet costs a tenth to a third of a second, and a town may have two thousand a day: two forms, two languages. So what
was printed is kept in a folder beside the site, by the digest of what is on it, and a build prints a few at most; the
others are printed after the site has been switched (`Press.rest`), and stand in the next one.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from importlib import metadata
from pathlib import Path
from typing import Any

from murmure_dashboards.pages import static, template

VARIANT = "pdf/ua-1"
AT_ONCE = 60
"""How many sheets a build prints before it switches the site: some six to twenty seconds."""
PACKAGES = ("libpango-1.0-0", "libpangoft2-1.0-0", "libharfbuzz-subset0", "fonts-dejavu-core")
"""What Debian must supply."""
STYLE = "paper.css"
_SLASHED = re.compile(r"<(?:title|desc)\b.*?</|<[^>]*>|µg/m³", re.DOTALL)


class Press:
    """Prints what is not in `folder` yet. Beyond `at_once` sheets it takes the order and prints at `rest`.

    `missing` is what this machine lacks for printing, "" while nothing is known to be missing; then nothing is printed,
    and what was printed before is still given. `refused` names the sheets of which no form had room."""

    def __init__(self, folder: Path, at_once: int = AT_ONCE) -> None:
        self.missing = ""
        self.refused: list[str] = []
        self._folder, self._left = folder, at_once
        self._waiting: list[tuple[Path, str, int, Callable[[], Iterator[str]]]] = []
        self._known: set[str] = set()
        self._asked: set[str] = set()
        self._spared: set[str] = set()
        self._engine: Callable[[str], Any] | None = None
        # What a sheet looks like follows from these as well as from what is on it.
        made_by = (static(STYLE), template("bulletin.html"), Path(__file__).read_bytes())
        self._edition = hashlib.sha256(b"".join((*made_by, metadata.version("weasyprint").encode()))).digest()

    @property
    def waiting(self) -> int:
        """Returns how many sheets are to be printed by `rest`."""
        return len(self._waiting)

    def spare(self, name: str) -> None:
        """Has what was printed under a name kept by `rest`, unless another sheet of that name is asked for: it stands
        in the site."""
        self._spared.add(_stem(name))

    def sheet(self, name: str, content: bytes, most: int, forms: Callable[[], Iterator[str]]) -> bytes | None:
        """Returns a sheet as PDF, or None where it is printed later or cannot be.

        `content`: everything that is on it; what has the same is not printed again. `forms`: HTML of the sheet, each
        shorter than the one before; the first that fits on `most` pages is printed."""
        stem = _stem(name)
        file = self._folder / f"{stem}-{hashlib.sha256(self._edition + content).hexdigest()}.pdf"
        self._known.add(file.name)
        self._asked.add(stem)
        try:
            return file.read_bytes()
        except FileNotFoundError:
            pass
        if self.missing:
            return None
        if self._left <= 0:
            self._waiting.append((file, name, most, forms))
            return None
        self._left -= 1
        return self._printed(file, name, most, forms)

    def rest(self) -> None:
        """Prints what waits, and forgets the sheets of days before: those that nobody asked this press for, or to
        spare. To be called once the site is switched."""
        for file, name, most, forms in self._waiting:
            if not self.missing:
                self._printed(file, name, most, forms)
        self._waiting.clear()
        for file in self._folder.glob("*.pdf"):
            stem = file.name.partition("-")[0]
            if file.name not in self._known and (stem in self._asked or stem not in self._spared):
                file.unlink(missing_ok=True)

    def _printed(self, file: Path, name: str, most: int, forms: Callable[[], Iterator[str]]) -> bytes | None:
        laid_out = self._started()
        if laid_out is None:
            return None
        for document in map(laid_out, forms()):
            if len(document.pages) <= most:
                pdf: bytes = document.write_pdf(pdf_variant=VARIANT)
                self._folder.mkdir(parents=True, exist_ok=True)
                half = file.with_suffix(".half")
                half.write_bytes(pdf)
                half.replace(file)
                return pdf
        self.refused.append(name)
        return None

    def _started(self) -> Callable[[str], Any] | None:
        """Returns what lays HTML out, or None where libraries of Debian are not there, and says so in `missing`."""
        if self._engine or self.missing:
            return self._engine
        try:
            with redirect_stdout(io.StringIO()):  # it prints advice, and stdout is a program's
                import weasyprint
                from weasyprint.text.fonts import FontConfiguration
                from weasyprint.urls import URLFetcher
        except OSError as error:
            self.missing = str(error).partition(":")[0]
            return None
        fonts = FontConfiguration()
        style = [weasyprint.CSS(string=static(STYLE).decode(), font_config=fonts)]

        nothing = URLFetcher(allowed_protocols=())  # all that a sheet needs is in its text

        def laid_out(html: str) -> Any:
            page = weasyprint.HTML(string=_kept_whole(html), url_fetcher=nothing)
            return page.render(font_config=fonts, stylesheets=style, pdf_variant=VARIANT)

        self._engine = laid_out
        return self._engine


def _kept_whole(html: str) -> str:
    """Returns a sheet of which no line ends within a unit: pango breaks after a slash, chromium does not. An element,
    as a letter that joins would be copied and read out; on a page each would count."""
    return _SLASHED.sub(
        lambda found: found[0] if found[0][0] == "<" else f'<span class="whole">{found[0]}</span>', html
    )


def _stem(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]
