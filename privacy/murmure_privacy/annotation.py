"""What a steward says afterwards of a period of a stream: that something was wrong with it. Pure data.

The release stays as it was signed, and there is never a second value; an annotation stands beside it. Both kinds are
numbered together, 1, 2, 3 … for each site, and all stay on file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

CAUSES = ("device_fault", "calibration", "obstructed", "moved", "works", "other")
"""What can have been wrong: a closed list, so that it can be counted and translated. The sentence says the rest."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """Marks `[from_s, to_s)` of a stream as faulty: whole quarter-hours, seconds UTC, over when it was issued.

    `cause` is one of CAUSES, `sentence` tells residents in French what was wrong, `sentence_en` in English or is empty.
    """

    site: str
    number: int
    issued_s: int
    sentence: str
    stream: str
    from_s: int
    to_s: int
    cause: str
    sentence_en: str = ""


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Takes back the annotation with the number `withdraws` of the same site, and says why."""

    site: str
    number: int
    issued_s: int
    sentence: str
    withdraws: int
    sentence_en: str = ""


Note = Annotation | Withdrawal


def in_force(notes: Iterable[Note], now_s: int) -> list[Annotation]:
    """Returns the marks that hold as of `now_s`: issued by then, and not taken back by then. In the order of `notes`,
    which may be of several sites."""
    known = [note for note in notes if note.issued_s <= now_s]
    taken_back = {(note.site, note.withdraws) for note in known if isinstance(note, Withdrawal)}
    return [note for note in known if isinstance(note, Annotation) and (note.site, note.number) not in taken_back]
