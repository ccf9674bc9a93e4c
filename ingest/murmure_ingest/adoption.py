"""`murmure ingest adopt`: an archive that was restored from an older backup takes over what the town has published.

Gateways and residents remember the log as they have seen it. The centre's own signature stands on what it published, so
that the log can go on from there instead of forking from it. Policies, annotations and messages come with it: what
stewards have signed is filed if it is what the log names, and messages are judged as if they came for the first time.
The log's enrolments and revocations are written into the register in the same transaction as the log: nobody speaks
meanwhile who was revoked, with a key that was changed, or under an id that another has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from murmure_privacy import log, wire
from murmure_privacy.errors import MurmureError, WireError
from murmure_privacy.publication import DAY_S, Publication, date_of
from murmure_privacy.publication import day_of as day_number
from murmure_privacy.sources import SourceError

from murmure_ingest.archive import Archive, Enrolment, StoredAnnotation, StoredPolicy
from murmure_ingest.intake import Intake, Opened, Refused, Word
from murmure_ingest.rules import PolicyRules

_AROUND_DAYS = 8  # nodes of a week stand under the day on which they end


class AdoptionError(MurmureError):
    """Nothing was taken over: the line says why."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """How many entries were taken over, how many the log has now, how many lines of the register came with them, and in
    a line each what the log knows and the archive still lacks."""

    entries: int
    size: int
    register: int
    lacking: list[str]


@dataclass(frozen=True, slots=True)
class BroughtBack:
    """The word on each message that was published, and in a line each the days that cannot be read."""

    words: list[Word] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def adopt(archive: Archive, published: Publication, centre: bytes, source: str) -> Adopted:
    """Takes over the entries that a published log has beyond the archive's, all or none, with the lines of the register
    that they are about, and then its policies and annotations.

    `centre`: the public key that has to have signed it; `source`: what the operator calls it. A log that is not longer
    changes nothing. Raises AdoptionError if another key signed it, if its entries are not those that were signed, and
    if it is not the archive's log grown longer.
    """
    try:
        here = log.open_checkpoint(published.note, centre)
    except WireError as error:
        raise AdoptionError(f"{source}: log: this centre's key has not signed it ({error.detail})") from error
    entries = published.entries[: here.size]
    leaves = [log.leaf_hash(entry) for entry in entries]
    if len(entries) < here.size or log.root(leaves) != here.root:
        raise AdoptionError(f"{source}: log: its entries are not those that were signed; take another copy of it")
    with archive.transaction():
        own = archive.log_checkpoint().size
        for place, (mine, theirs) in enumerate(zip(archive.log_entries(), entries, strict=False), 1):
            if mine != theirs:
                raise AdoptionError(
                    f"{source}: log: it is not the archive's grown longer (entry {place} is another); restore the "
                    "backup once more, and adopt before the centre is started"
                )
        new = entries[own:]
        if new:
            try:
                archive.adopt_log(new, here, centre, published.note)
            except ValueError as error:
                raise AdoptionError(f"{source}: log: it has an entry that cannot be read ({error})") from error
    told = [log.read_entry(entry) for entry in entries if b'"kind":"spend"' not in entry]  # most of a year are accounts
    lines = sum(log.read_entry(entry)["kind"] in ("enrolment", "revocation") for entry in new)
    lacking = [*_publish(archive, published, told), *_annotate(archive, published, told)]
    return Adopted(len(new), max(own, here.size), lines, lacking)


def _publish(archive: Archive, published: Publication, told: Iterable[dict[str, Any]]) -> list[str]:
    """Files the policies of the log that the archive lacks, in its order. Returns what could not be filed, and why.

    Each was judged when it was published, and the entry names text and signatures. It is judged no second time: the
    gateways for which it was may be revoked by now."""
    filed = {policy.hash for policy in archive.policies()}
    lacking = []
    for one in told:
        policy_hash = bytes.fromhex(one["hash"]) if one["kind"] == "policy" else None
        if policy_hash is None or policy_hash in filed:
            continue
        name = f"policy {one['version']} of {one['site']}"
        sealed = published.policies.get(policy_hash)
        if sealed is None:
            lacking.append(f"{name}: is not in the archive, nor on the site; publish it again from its file")
            continue
        try:
            toml = wire.policy_bytes(sealed)
            rules = PolicyRules(toml, name)
        except MurmureError as error:
            lacking.append(f"{name}: {error}; publish it again from its file")
            continue
        said = wire.digest(toml), wire.digest(sealed).hex(), rules.site, rules.version
        if said != (policy_hash, one["sealed"], one["site"], one["version"]):
            lacking.append(f"{name}: the site has another than the log tells; publish it again from its file")
            continue
        with archive.transaction():
            archive.put_policy(StoredPolicy(policy_hash, rules.site, rules.version, toml, sealed))
    return lacking


def _annotate(archive: Archive, published: Publication, told: Iterable[dict[str, Any]]) -> list[str]:
    """Files the annotations of the log that the archive lacks: without them, what stewards marked as faulty would be
    shown as right. Those of a site are counted, so that one is filed only after all before it. Returns what could not
    be filed, and why."""
    known = {(one["site"], one["number"]): bytes.fromhex(one["sealed"]) for one in told if one["kind"] == "annotation"}
    on_site = {wire.digest(sealed): sealed for sealed in published.annotations}
    lines = archive.enrolment_lines()
    lacking = []
    for (site, number), digest in sorted(known.items()):
        name, held = f"annotation {number} of {site}", archive.annotation_rows(site)
        if any(number == other for _, other, _, _ in held):
            continue
        if digest not in on_site:
            lacking.append(f"{name}: is not in the archive, nor on the site; publish it again from its file")
            continue
        sealed = on_site[digest]
        signed = next(filter(None, (_signed(sealed, line) for line in reversed(lines) if line.site == site)), None)
        if signed is None or (signed.note.site, signed.note.number) != (site, number):
            lacking.append(f"{name}: the site has another than the log tells; publish it again from its file")
        elif number != len(held) + 1:
            lacking.append(f"{name}: comes after one that is lacking; publish that one again, then adopt once more")
        else:
            with archive.transaction():
                archive.put_annotation(signed)
    return lacking


def _signed(sealed: bytes, line: Enrolment) -> StoredAnnotation | None:
    """Returns an annotation under a line of the register whose stewards have signed it, None if they have not."""
    try:
        return StoredAnnotation(wire.open_annotation(sealed, line.stewards, line.signatures_required), sealed, line.id)
    except WireError:
        return None


def bring_back(archive: Archive, published: Publication, intake: Intake) -> BroughtBack:
    """Files the published messages of the days from which on the archive may lack some, and then what waits for a
    policy that came back. A day whose file is missing or is none is named and left out.

    What a gateway said before it was revoked, or under its key before the present one, is filed if the log stands for
    it: it is the last message of an account, or one that a message names as the one before it, up to that.
    """
    back = BroughtBack()
    over: dict[bytes, Opened] = {}  # by hash, what was signed with a key that is over
    first = _first_day(archive)
    for day in published.days:
        if day.day < first:
            continue
        try:
            sealed = day.read()
        except (WireError, SourceError) as error:
            back.unread.append(
                f"messages of {date_of(day.day)}: {error}; lay another copy of this file on the site, and adopt again"
            )
            continue
        arrivals, opened = list[tuple[None, bytes]](), list[Opened | Refused]()
        for one in sealed:
            said = intake.open((None, one))
            if isinstance(said, Opened) and _is_over(archive, said):
                over[wire.digest(one)] = said
            else:
                arrivals.append((None, one))
                opened.append(said)
        back.words.extend(intake.file(arrivals, opened))
    stands = _stood_for(archive, over)
    back.words.extend(intake.file_logged([said for one, said in over.items() if one in stands]))
    rest = [said for one, said in over.items() if one not in stands]
    back.words.extend(intake.file([(None, said.sealed) for said in rest], rest))
    back.words.extend(intake.reconsider())
    return back


def _first_day(archive: Archive) -> int:
    """Returns the day (since 1970, UTC) from which on the archive may lack messages: some before its newest one, or
    before the first that the log or a later message shows to be missing."""
    newest_s, days = 0, list[int]()
    settled: dict[str, int] = {}
    for line in archive.enrolments():
        newest = archive.beside(line.gateway, 1 << 60, "before")
        newest_s = max(newest_s, newest.closing_s if newest else 0)
        settled[line.gateway] = archive.totals(line.gateway).settled_seq
        if archive.missing(line.gateway):
            before = archive.beside(line.gateway, settled[line.gateway] + 1, "before")
            days.append(before.closing_s // DAY_S if before else 0)
    for told in _accounts(archive):
        if told["last"] > settled.get(told["gateway"], 0):
            days.append(day_number(told["day"]))
    return min([newest_s // DAY_S, *days]) - _AROUND_DAYS


def _accounts(archive: Archive) -> Iterator[dict[str, Any]]:
    return (log.read_entry(entry) for entry in archive.log_entries() if b'"kind":"spend"' in entry)


def _is_over(archive: Archive, said: Opened) -> bool:
    """Returns whether a message is of a gateway that was revoked, or by a key that is not its present one."""
    line = archive.enrolment(said.flat[0])
    return line is not None and (line.status != "active" or line.record_key != said.key)


def _stood_for(archive: Archive, over: Mapping[bytes, Opened]) -> set[bytes]:
    """Returns the hashes of those messages that the accounts, or what is filed of their gateways, lead back to."""
    speakers = {said.flat[0] for said in over.values()}
    links = [link for one in speakers for link in archive.links(one)]
    wanted = [one for _, message, previous, filed in links for one in (message, previous) if filed]
    if speakers:
        wanted += [bytes.fromhex(told["hash"]) for told in _accounts(archive) if told["gateway"] in speakers]
    found: set[bytes] = set()
    while wanted:
        one = wanted.pop()
        if one in over and one not in found:
            found.add(one)
            wanted.append(over[one].flat[5])
    return found
