"""`murmure ingest adopt`: an archive that was restored from an older backup takes over what the town has published.

Gateways and residents remember the log as they have seen it. The centre's own signature stands on what it published, so
that the log can go on from there instead of forking from it. Policies and messages come with it: they are signed by
stewards and gateways, and are judged as if they came for the first time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from murmure_privacy import log
from murmure_privacy.errors import MurmureError, WireError
from murmure_privacy.publication import DAY_S, Publication

from murmure_ingest import gateways
from murmure_ingest.archive import Archive
from murmure_ingest.config import DecidingConfig
from murmure_ingest.intake import Intake, Word

_AROUND_DAYS = 8  # nodes of a week stand under the day on which they end


class AdoptionError(MurmureError):
    """Nothing was taken over: the line says why."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """How many entries were taken over, how many the log has now, and in a line each what the log knows and the archive
    still lacks."""

    entries: int
    size: int
    lacking: list[str]


def adopt(archive: Archive, published: Publication, centre: bytes, deciding: DecidingConfig, source: str) -> Adopted:
    """Takes over the entries that a published log has beyond the archive's, all or none, and its policies.

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
    lacking = [*_publish(archive, published, told, deciding), *_lost(archive, told)]
    return Adopted(len(new), max(own, here.size), lacking)


def _publish(
    archive: Archive, published: Publication, told: Iterable[dict[str, Any]], deciding: DecidingConfig
) -> list[str]:
    """Files the policies of the log that the archive lacks. Returns what could not be filed, and why."""
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
            gateways.publish_policy(archive, sealed, name, None, deciding)
        except MurmureError as error:
            lacking.append(str(error))
    return lacking


def _lost(archive: Archive, told: Iterable[dict[str, Any]]) -> list[str]:
    """Returns what the log says of gateways and annotations and the archive does not hold."""
    keys: dict[str, str] = {}
    revoked: set[str] = set()
    notes = {(site, number) for site, number, _, _ in archive.annotation_rows()}
    lacking = []
    for one in told:
        if one["kind"] == "enrolment":
            keys[one["gateway"]] = one["record_key"]
        elif one["kind"] == "revocation":
            revoked.add(one["gateway"])
        elif one["kind"] == "annotation" and (one["site"], one["number"]) not in notes:
            lacking.append(f"annotation {one['number']} of {one['site']}: is not in the archive; file it again")
    for gateway, key in sorted(keys.items()):
        line = archive.enrolment(gateway)
        if gateway in revoked:
            if line is not None and line.status == "active":
                lacking.append(
                    f"{gateway}: was revoked; run 'murmure gateway revoke {gateway}' before the centre starts"
                )
        elif line is None:
            lacking.append(
                f"{gateway}: was enrolled after the backup; the register lacks it: enrol a new one in its place"
            )
        elif line.record_key.hex() != key:
            lacking.append(f"{gateway}: has had another key since the backup; let it have new ones ('gateway rotate')")
    return lacking


def bring_back(archive: Archive, published: Publication, intake: Intake) -> list[Word]:
    """Files the published messages of the days since the archive's newest one. Returns the word on each.

    Raises WireError where a day's file is missing or is none.
    """
    newest = (archive.beside(line.gateway, 1 << 60, "before") for line in archive.enrolments())
    newest_s = max((one.closing_s for one in newest if one is not None), default=0)
    words: list[Word] = []
    for day in published.days:
        if day.day >= newest_s // DAY_S - _AROUND_DAYS:
            words += intake.accept_many([(None, sealed) for sealed in day.read()])
    return words
