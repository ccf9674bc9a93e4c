"""The QR code of an address, as the path of an SVG. The only file here that knows segno."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import segno

_MASK = 3  # readers take any of the eight; to look for the prettiest takes six times as long
QUIET = 4  # the white border that readers need, in modules


@dataclass(frozen=True, slots=True)
class Code:
    """`side`: how many modules the picture has across, its white border included. `path`: rows of dark modules, to be
    stroked one unit wide."""

    side: int
    path: str


@lru_cache(maxsize=1024)  # one language after the other
def code(text: str) -> Code:
    """Returns the QR code of a text, level Q: it is read with a quarter of it scratched or dirty."""
    rows = [bytes(row) for row in segno.make_qr(text, error="q", mask=_MASK, boost_error=False).matrix]
    drawn = []
    for y, row in enumerate(rows):
        x = QUIET
        for dark, run in groupby(row):
            length = len(list(run))
            if dark:
                drawn.append(f"M{x} {y + QUIET}.5h{length}")
            x += length
    return Code(len(rows) + 2 * QUIET, "".join(drawn))
