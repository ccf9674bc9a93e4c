"""What stewards have signed: policies, and what they say of a period afterwards."""

from __future__ import annotations

from murmure_privacy import wire
from murmure_privacy.errors import WireError

from murmure_ingest import logbook
from murmure_ingest.archive.errors import ArchiveDamaged, damage_text
from murmure_ingest.archive.register import Register
from murmure_ingest.archive.rows import StoredAnnotation, StoredPolicy


class Stewards(Register):
    """Policies and annotations, as they were signed."""

    def put_policy(self, policy: StoredPolicy, now_s: int | None = None) -> None:
        """Files a signed policy (within a transaction); a second one of the same site and version is an error.

        `now_s`: the instant that the log gives for it; None where nobody knows.
        """
        self._db.execute(
            "INSERT INTO policies (hash, site, version, toml, sealed) VALUES (?, ?, ?, ?, ?)",
            (policy.hash, policy.site, policy.version, policy.toml, policy.sealed),
        )
        logbook.published(self._db, policy.site, policy.version, policy.hash, policy.sealed, now_s)

    def policy(self, policy_hash: bytes) -> bytes | None:
        """Returns the exact TOML bytes of the policy with this SHA-256."""
        row = self._row("SELECT toml FROM policies WHERE hash = ?", policy_hash)
        return bytes(row[0]) if row else None

    def policies(self, site: str | None = None) -> list[StoredPolicy]:
        """Returns all filed policies (of a site), oldest version first."""
        columns = "SELECT hash, site, version, toml, sealed FROM policies"
        if site is None:
            rows = self._rows(f"{columns} ORDER BY site, version")
        else:  # by the index: one statement for both would go through the policies of every site
            rows = self._rows(f"{columns} WHERE site = ? ORDER BY version", site)
        return [StoredPolicy(*row) for row in rows]

    def newest_policy(self, site: str) -> StoredPolicy | None:
        """Returns the policy of a site with the highest version."""
        row = self._row(
            "SELECT hash, site, version, toml, sealed FROM policies WHERE site = ? ORDER BY version DESC LIMIT 1", site
        )
        return StoredPolicy(*row) if row else None

    def newest_version(self, site: str) -> int:
        """Returns the highest version of a site's policies, 0 without any."""
        return int(self._rows("SELECT coalesce(max(version), 0) FROM policies WHERE site = ?", site)[0][0])

    def policy_versions(self) -> dict[str, list[bytes]]:
        """Returns by site the hashes of its policies, the newest version first."""
        found: dict[str, list[bytes]] = {}
        for site, policy_hash in self._rows("SELECT site, hash FROM policies ORDER BY site, version DESC"):
            found.setdefault(site, []).append(policy_hash)
        return found

    def put_annotation(self, annotation: StoredAnnotation) -> None:
        """Files a signed note of stewards (within a transaction); a second one of its site and number is an error."""
        self._db.execute(
            "INSERT INTO annotations (site, number, enrolment, sealed) VALUES (?, ?, ?, ?)",
            (annotation.note.site, annotation.note.number, annotation.enrolment, annotation.sealed),
        )
        logbook.annotated(self._db, annotation.note.site, annotation.note.number, annotation.sealed)

    def annotations(self, site: str | None = None) -> list[StoredAnnotation]:
        """Returns all notes of stewards (on a site), by site and number; `annotation.in_force` says which marks hold.

        Raises ArchiveDamaged if one does not open any more with the keys of its line of the register.
        """
        lines = {line.id: line for line in self.enrolment_lines()}
        found = []
        for row_site, number, line, sealed in self.annotation_rows(site):
            name, signers = f"annotation {number} of {row_site}", lines.get(line)
            if signers is None:
                raise ArchiveDamaged(damage_text(self.path, f"{name}: its line of the register is missing"))
            try:
                note = wire.open_annotation(sealed, signers.stewards, signers.signatures_required)
            except WireError as error:
                raise ArchiveDamaged(damage_text(self.path, f"{name}: {error}")) from error
            if (note.site, note.number) != (row_site, number):
                raise ArchiveDamaged(damage_text(self.path, f"{name}: it says of itself {note.number} of {note.site}"))
            found.append(StoredAnnotation(note, sealed, line))
        return found

    def annotation_rows(self, site: str | None = None) -> list[tuple[str, int, int, bytes]]:
        """Returns (site, number, line of the register, sealed bytes) of all notes (on a site), nothing verified."""
        return [
            (str(row[0]), int(row[1]), int(row[2]), bytes(row[3]))
            for row in self._rows(
                "SELECT site, number, enrolment, sealed FROM annotations WHERE site = ? OR ? IS NULL "
                "ORDER BY site, number",
                *(site, site),
            )
        ]
