"""The draft public page of a scenario: one draw, sealed, filed by the centre's intake and drawn by the site itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from murmure_dashboards.config import City, Quartier, Site
from murmure_dashboards.site import build
from murmure_ingest import gateways
from murmure_ingest.archive import Archive
from murmure_ingest.config import IngestConfig
from murmure_ingest.intake import Intake, Stored
from murmure_ingest.rules import RuleBook
from murmure_privacy import wire
from murmure_privacy.errors import MurmureError
from murmure_privacy.policy import Policy
from murmure_privacy.release import Message, Outcome

_GATEWAY = "gw-studio"


class NoDraft(MurmureError):
    """The centre would not publish this: another policy, or other dates, are needed."""


def draft(policy: Policy, outcomes: Sequence[Outcome], quartier: str, city: City, folder: Path, now_s: int) -> Path:
    """Writes the site of one place into `folder` and returns where it stands, as of `now_s` (seconds UTC).

    Keys, archive and pages are made for this draft alone and lie below `folder`. Raises NoDraft where the intake
    refuses what was drawn.
    """
    config = IngestConfig(data_dir=folder / "centre")
    config.data_dir.mkdir(parents=True)
    archive = Archive.open(config.archive)
    try:
        steward, public = wire.new_key()
        gateways.enrol_local(
            archive,
            config,
            folder / "gateway",
            gateway=_GATEWAY,
            site=policy.site,
            quartier=quartier,
            stewards=[public],
            policies=[wire.seal_policy(policy.text, [("draft", steward)])],
            simulated=True,
        )
        secret = bytes.fromhex((folder / "gateway" / "data" / "record.key").read_text("ascii"))
        topic = f"murmure/v1/{quartier}/{_GATEWAY}/release"
        sealed = [(topic, message) for message in _sealed(policy, quartier, outcomes, secret)]
        words = Intake(archive, RuleBook(archive), lambda: now_s).accept_many(sealed)
        refused = [word for word in words if not isinstance(word, Stored)]
        if refused:
            raise NoDraft(f"{policy.site}: the centre would refuse it: {refused[0]}")
        out = folder / "site"
        build(archive, city, out, now_s)
        return out
    finally:
        archive.close()


def town(policy: Policy, quartier: str, words: dict[str, str]) -> City:
    """Returns the description of a town that has this one place. `words`: city, quartier, purpose, owner, help."""
    site = Site(
        id=policy.site,
        name=policy.site,
        quartier=quartier,
        purpose=policy.reason,
        owner=words["owner"],
        contact=words["help"],
        purpose_en="",
        until=policy.valid_until,
        sensor=(),
    )
    return City(words["city"], policy.timezone, words["help"], True, (Quartier(quartier, words["quartier"]),), (site,))


def _sealed(policy: Policy, quartier: str, outcomes: Sequence[Outcome], secret: bytes) -> list[bytes]:
    closing: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        closing.setdefault(outcome.node.end_s, []).append(outcome)
    sealed: list[bytes] = []
    for end_s, members in sorted(closing.items()):
        previous = wire.digest(sealed[-1]) if sealed else wire.FIRST_PREVIOUS
        message = Message(_GATEWAY, quartier, policy.site, 1, len(sealed) + 1, previous, end_s, tuple(members))
        sealed.append(wire.seal_message(message, secret))
    return sealed
