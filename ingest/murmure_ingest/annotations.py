"""The centre's half of annotations: which one may be filed, and the making of the file that stewards sign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from murmure_privacy import wire
from murmure_privacy.annotation import Annotation, Note, Withdrawal, in_force
from murmure_privacy.errors import ConfigError, WireError
from murmure_privacy.window import utc

from murmure_ingest.archive import Archive, Enrolment, StoredAnnotation
from murmure_ingest.gateways import RegisterError, signer, write_beside

_AHEAD_S = 300
"""A steward's clock may be this far ahead of the centre's."""


def streams_of(archive: Archive, site: str) -> list[str]:
    """Returns the streams of a site that have a node in the archive."""
    return sorted(info.stream for info in archive.streams() if info.site == site)


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a note cannot be filed: the field, what is wrong with it, and what to do instead."""

    key: str
    problem: str
    mend: str


def objection(note: Note, before: Sequence[Note], streams: Sequence[str]) -> Objection | None:
    """Returns why a note cannot follow those `before` it on its site, or None. `streams`: those that the site has."""
    if note.number != len(before) + 1:
        problem = f"{note.number} does not follow {len(before)}, the last one of {note.site}"
        return Objection("number", problem, "see 'murmure annotation list' and make it anew")
    if isinstance(note, Annotation):
        if note.stream in streams:
            return None
        mend = f"write one of {', '.join(streams)}" if streams else "see 'murmure gateway list' for the sites"
        return Objection("stream", f"the archive has no {note.stream!r}", mend)
    if not 1 <= note.withdraws <= len(before):
        problem = f"{note.site} has no annotation {note.withdraws}"
        return Objection("withdraws", problem, "see 'murmure annotation list' for its number")
    taken_back = before[note.withdraws - 1]
    if not isinstance(taken_back, Annotation):
        problem = f"{note.withdraws} of {note.site} is itself a withdrawal"
        return Objection("withdraws", problem, "write a new annotation instead")
    if taken_back not in in_force(before, max(earlier.issued_s for earlier in before)):
        return Objection("withdraws", f"{note.withdraws} of {note.site} is withdrawn already", "leave it at that")
    return None


def publish_annotation(archive: Archive, sealed: bytes, source: str, now_s: int) -> StoredAnnotation:
    """Files a signed note, so that every page shows it from the next build on.

    Every active gateway of its site must find enough signatures of its stewards on it, as on a policy; where none is
    active any more, the last one that was. The same note again is no error. Raises RegisterError or ConfigError.
    """
    note = read(sealed, source)
    if note.issued_s > now_s + _AHEAD_S:
        raise RegisterError(f"{source}: issued: {utc(note.issued_s)} has not come yet; set the clock of that machine")
    with archive.transaction():
        lines = _believers(archive, note.site, source)
        for line in lines:
            _require_signatures(sealed, line, source)
        before = archive.annotations(note.site)
        if note in [stored.note for stored in before]:
            return next(stored for stored in before if stored.note == note)
        wrong = objection(note, [stored.note for stored in before], streams_of(archive, note.site))
        if wrong is not None:
            raise RegisterError(f"{source}: {wrong.key}: {wrong.problem}; {wrong.mend}")
        stored = StoredAnnotation(note, sealed, lines[0].id)
        archive.put_annotation(stored)
    return stored


def _believers(archive: Archive, site: str, source: str) -> list[Enrolment]:
    lines = [line for line in archive.enrolments() if line.site == site]
    if not lines:
        raise RegisterError(f"{source}: site: no gateway ever served {site!r}; see 'murmure gateway list'")
    return [line for line in lines if line.status == "active"] or [max(lines, key=lambda line: line.id)]


def _require_signatures(sealed: bytes, line: Enrolment, source: str) -> None:
    try:
        wire.open_annotation(sealed, line.stewards, line.signatures_required)
    except WireError as error:
        raise RegisterError(
            f"{source}: signatures: {error.detail}, by the stewards of {line.gateway}; "
            "let them sign it with 'murmure annotation sign'"
        ) from error


def read(sealed: bytes, source: str) -> Note:
    """Returns the note in a file, not believed yet. Raises ConfigError if there is none."""
    try:
        return wire.read_annotation(sealed)
    except WireError as error:
        mend = "give a file that 'murmure annotation new' wrote"
        raise ConfigError(source, "annotation", f"not an annotation ({error.detail})", mend) from error


def sign_annotation(path: Path, key_path: Path) -> Note:
    """Adds a steward's signature to a note's file, beside those that it has. Returns the note.

    Raises ConfigError if the file is no note or the key none.
    """
    sealed = path.read_bytes()
    note = read(sealed, str(path))
    write_beside(path, wire.sign_annotation(sealed, *signer(key_path)))
    return note


def describe(note: Note) -> str:
    """Returns a note in one line, as a steward reads it before signing."""
    if isinstance(note, Withdrawal):
        said = f"{note.site} {note.number}  withdraws {note.withdraws}  {note.sentence}"
    else:
        period = f"{utc(note.from_s)} – {utc(note.to_s)}"
        said = f"{note.site} {note.number}  {note.stream}  {period}  {note.cause}  {note.sentence}"
    return f"{said} / {note.sentence_en}" if note.sentence_en else said


def as_json(note: Note) -> dict[str, Any]:
    """Returns a note as `murmure annotation list --json` prints it: its fields, instants as UTC text."""
    fields = {name: value for name, value in asdict(note).items() if not name.endswith("_s")}
    instants = {"issued": utc(note.issued_s)}
    if isinstance(note, Annotation):
        instants |= {"from": utc(note.from_s), "to": utc(note.to_s)}
    return fields | instants
