"""A town whose disk died goes on from the log that the world has seen, with `murmure ingest adopt`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from murmure.cli import main
from murmure_dashboards import config as city_config
from murmure_dashboards import journal, opendata
from murmure_dashboards.site import build
from murmure_ingest import adoption, gateways, logbook
from murmure_ingest.adoption import AdoptionError, adopt
from murmure_ingest.archive import Archive, StoredAnnotation
from murmure_ingest.gateways import RegisterError
from murmure_ingest.inspection import inspect
from murmure_ingest.intake import Intake
from murmure_ingest.receipts import receipt
from murmure_ingest.rules import RuleBook
from murmure_privacy import log, wire
from murmure_privacy.annotation import Annotation
from murmure_privacy.log import Checkpoint
from murmure_privacy.publication import Publication
from murmure_privacy.sources import Site
from murmure_privacy.verify import verify

MONDAY_S = 1_795_392_000
QUARTERS = 96
CITY = b"""city = "Ville"
timezone = "Europe/Paris"
help = "Mairie"

[[quartier]]
slug = "centre"
name = "Centre"

[[site]]
id = "plaza"
name = "Place"
quartier = "centre"
purpose = "P"
owner = "O"
contact = "C"
"""


class Town:
    """A centre with a backup of its first day, and what it has published since."""

    def __init__(self, centre: Any, folder: Path, policy_text: Callable[..., bytes]) -> None:
        self.centre, self.folder = centre, folder
        self.plaza, self.alley = centre.gateway(), centre.gateway("gw-alley", site="alley")
        self.history = self.plaza.history(3 * QUARTERS + 1)
        self.take(self.history[: QUARTERS + 8])
        shutil.copytree(centre.config.data_dir, folder / "backup")
        self.backup = Archive.open(folder / "backup" / "archive.db")
        self.policy = centre.signed(policy_text("plaza", 2))
        self.known = self.checkpoint()

    def checkpoint(self) -> Checkpoint:
        here: Checkpoint = self.centre.archive.log_checkpoint()
        return here

    def take(self, history: list[tuple[str, bytes]]) -> None:
        self.centre.intake.accept_many(history)

    def live_on(self) -> None:
        """Two days more: accounts, a policy, an annotation, a new gateway, and one that is revoked."""
        self.take(self.history[QUARTERS + 8 :])
        gateways.publish_policy(self.centre.archive, self.policy, now_s=MONDAY_S + 4 * 86_400)
        self.note()
        self.centre.gateway("gw-new", site="alley", published=False)
        gateways.revoke(self.centre.archive, "gw-alley")
        self.known = self.checkpoint()

    def note(self, archive: Archive | None = None, number: int = 1, site: str = "plaza") -> None:
        archive, at_s = archive or self.centre.archive, MONDAY_S + 86_400
        note = Annotation(site, number, at_s, "Bâche.", f"{site}/footfall", MONDAY_S, MONDAY_S + 900, "works")
        sealed = wire.seal_annotation(note, [("s", self.centre.steward[0])])
        with archive.transaction():
            archive.put_annotation(StoredAnnotation(note, sealed, 1))

    def publish(self, archive: Archive | None = None, name: str = "site") -> Publication:
        """The site's log, policies and messages as `murmure site build` writes them."""
        archive, site = archive or self.centre.archive, self.folder / name
        archive.sign_log(self.centre.secret)
        files = dict(journal.files(archive, journal.NOTHING, lambda _: None))
        files |= {f"donnees/politiques/{one.hash.hex()}.cose": one.sealed for one in archive.policies()}
        files[opendata.ANNOTATIONS] = opendata.faults(archive.annotations(), ())
        for path, data in files.items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_bytes(data)
        return Site(str(site)).published()

    def adopt(self, published: Publication, archive: Archive | None = None) -> adoption.Adopted:
        key = wire.public_key(self.centre.secret)
        return adopt(archive or self.backup, published, key, "site")

    def intake(self) -> Intake:
        """The restored centre's."""
        return Intake(self.backup, RuleBook(self.backup), lambda: 1 << 40)

    def bring_back(self, published: Publication) -> list[Any]:
        back = adoption.bring_back(self.backup, published, self.intake())
        assert back.unread == []
        return back.words

    def alley_speaks(self) -> list[bytes]:
        """Two days of the gateway that is revoked later, one of them before the backup's newest day. Returns them."""
        said = [self.alley.seal(MONDAY_S + n * 900) for n in range(1, 2 * QUARTERS + 1)]
        self.take([(self.alley.topic, sealed) for sealed in said])
        return said

    def findings(self) -> list[str]:
        return inspect(self.backup, RuleBook(self.backup)).findings


@pytest.fixture
def town(centre: Any, tmp_path: Path, policy_text: Callable[..., bytes]) -> Iterator[Town]:
    made = Town(centre, tmp_path, policy_text)
    yield made
    made.backup.close()


def test_the_log_goes_on_from_where_the_world_has_seen_it(town: Town) -> None:
    """The very entries, in their order, with the checkpoint that was signed; and whoever remembers any earlier size
    finds it at the beginning, also after more was written."""
    town.live_on()
    published = town.publish()
    before = town.backup.log_checkpoint()
    done = town.adopt(published)
    assert done.size == town.known.size == before.size + done.entries > before.size + 5
    assert list(town.backup.log_entries()) == list(town.centre.archive.log_entries())
    assert town.backup.log_checkpoint() == town.known
    assert town.backup.signed_checkpoint() == town.centre.archive.signed_checkpoint()
    town.bring_back(published)
    assert town.adopt(published).entries == 0
    grown = town.backup.sign_log(town.centre.secret)
    assert town.publish(town.backup, "after").entries[: town.known.size] == published.entries and grown == town.known


def test_nothing_is_written_twice_when_it_comes_back(town: Town) -> None:
    """Messages, policies and annotations that the log knows add no entry; what is new does, once."""
    town.live_on()
    published = town.publish()
    done = town.adopt(published)
    assert done.lacking == [] and done.register == 2
    assert [one.note for one in town.backup.annotations()] == [one.note for one in town.centre.archive.annotations()]
    assert any("that the archive lost and has not got back" in one for one in town.findings())
    words = town.bring_back(published)
    assert {type(word).__name__ for word in words} == {"Stored", "Duplicate"}
    assert town.backup.log_checkpoint() == town.known
    assert town.findings() == []
    assert town.backup.totals("gw-plaza") == town.centre.archive.totals("gw-plaza")
    more = [
        (town.plaza.topic, town.plaza.seal(MONDAY_S + (3 * QUARTERS + 1 + n) * 900)) for n in range(1, QUARTERS + 1)
    ]
    for place in (town.backup, town.centre.archive):
        Intake(place, RuleBook(place), lambda: 1 << 40).accept_many(more)
    assert town.backup.log_checkpoint() == town.centre.archive.log_checkpoint() != town.known
    assert town.findings() == []


def test_what_was_published_afterwards_passes_the_check_of_a_resident(town: Town) -> None:
    """`murmure verify` on the site that is built after all came back, with what was remembered of the old one."""
    town.take(town.history[QUARTERS + 8 :])
    town.note()
    town.known = town.checkpoint()
    published = town.publish()
    town.adopt(published)
    town.bring_back(published)
    again = town.publish(town.backup, "after")
    report = verify(again, known=[town.known])
    # No tables were written beside it: that is the one thing that it misses.
    assert [one.kind for one in report.findings] == ["row_missing"] and report.checkpoint == town.known
    assert report.accounts > 2


def test_a_gateway_believes_the_centre_again(town: Town) -> None:
    """It remembers the log of before the disk died: it refuses the restored one until that was adopted, and then every
    later one with its proof."""
    town.live_on()
    published = town.publish()
    line = next(one for one in town.backup.enrolments() if one.gateway == "gw-plaza")

    def told() -> log.Growth:
        sealed = receipt(town.backup, line, town.centre.secret)
        found = log.of_receipt(wire.open_receipt(sealed, wire.public_key(town.centre.secret)).checkpoint)
        assert found is not None
        return found

    assert "the log has" in str(log.objection(town.known, told()))
    town.adopt(published)
    assert log.is_proved(town.known, told())
    with town.backup.transaction():
        town.backup.put_health(replace(_report(town), gateway="gw-plaza"))
        logbook.annotated(town.backup._db, "plaza", 9, b"")
    assert log.objection(town.known, told()) is None and log.is_proved(town.known, told())


def words(told: list[Any]) -> list[str]:
    return sorted({getattr(word, "reason", "") or type(word).__name__ for word in told})


def test_a_gateway_that_was_revoked_says_no_more(town: Town) -> None:
    """From the moment at which the log is there: nothing that it signs is filed, an end that is said once more adds
    nothing, and residents find nothing of it beyond the number that its revocation names."""
    town.live_on()
    published = town.publish()
    town.adopt(published)
    line = town.backup.enrolment("gw-alley")
    assert line is not None and line.status == "revoked"
    told = town.intake().accept_many([(town.alley.topic, sealed) for sealed in town.alley_speaks()])
    assert words(told) == ["revoked_gateway"]
    gateways.revoke(town.backup, "gw-alley")
    town.bring_back(published)
    assert town.backup.log_checkpoint() == town.known and town.findings() == []
    again = verify(town.publish(town.backup, "after"), known=[town.known])
    assert "revoked" not in [one.kind for one in again.findings]


def test_what_it_said_before_it_was_revoked_comes_back(town: Town) -> None:
    """The log's accounts lead to it, hash by hash. What else lies on the site under its key, they do not lead to."""
    said = town.alley_speaks()
    town.live_on()
    published = town.publish()
    town.adopt(published)
    more = [town.alley.seal(MONDAY_S + (2 * QUARTERS + n) * 900) for n in range(1, 9)]
    day = published.days[2]
    published = replace(published, days=[*published.days[:2], replace(day, read=lambda: more), *published.days[3:]])
    told = town.bring_back(published)
    assert sum(getattr(word, "gateway", "") == "gw-alley" and type(word).__name__ == "Stored" for word in told) == len(
        said
    )
    assert words(told) == ["Duplicate", "Stored", "revoked_gateway"]
    assert town.backup.totals("gw-alley").settled_seq == len(said)


def test_a_policy_of_a_site_whose_gateway_was_revoked_comes_back(town: Town, policy_text: Callable[..., bytes]) -> None:
    """It was published before the gateway was revoked, and what the gateway said under it comes back as well."""
    text = policy_text("alley", 2)
    gateways.publish_policy(town.centre.archive, town.centre.signed(text), now_s=1)
    town.alley.policy = text
    said = town.alley_speaks()
    town.live_on()
    published = town.publish()
    assert town.adopt(published).lacking == []
    town.bring_back(published)
    assert town.backup.policies("alley")[-1].version == 2
    assert town.backup.totals("gw-alley").settled_seq == len(said)


@pytest.mark.parametrize("turn", [lambda sealed, _: sealed[:-1], lambda _, other: other], ids=["cut", "other"])
def test_a_policy_that_is_not_the_logs_is_not_filed(town: Town, turn: Callable[[bytes, bytes], bytes]) -> None:
    """Cut off, or with other signatures than those that were logged."""
    town.live_on()
    published = town.publish()
    other = wire.seal_policy(wire.policy_bytes(town.policy), [("x", wire.new_key()[0])])
    turned = {one: turn(sealed, other) for one, sealed in published.policies.items()}
    lacking = town.adopt(replace(published, policies=turned)).lacking
    assert lacking[0].startswith("policy 2 of plaza: ") and "publish it again from its file" in lacking[0]
    assert town.backup.policies("plaza")[-1].version == 1


def change_key(town: Town) -> bytes:
    """The plaza's gateway has another key from its second day on. Returns the old one."""
    old, (secret, public) = town.plaza.secret, wire.new_key()
    line = town.centre.archive.enrolment("gw-plaza")
    with town.centre.archive.transaction():
        town.centre.archive.enrol(replace(line, record_key=public))
    town.plaza.secret = secret
    return bytes(old)


def test_a_changed_key_is_the_one_that_is_believed(town: Town) -> None:
    """The register has the line of the log: what the old key signs now is refused, and what it signed in its time comes
    back, as what the new one signed. `ingest verify` finds no key that nobody named."""
    town.take(town.history[QUARTERS + 8 : 2 * QUARTERS])
    # The history was sealed in advance, to its end, which never happened: the new key goes on from here.
    town.plaza.sealed[2 * QUARTERS :] = []
    old = change_key(town)
    town.take([(town.plaza.topic, town.plaza.seal(MONDAY_S + (2 * QUARTERS + n) * 900)) for n in range(1, QUARTERS)])
    town.known = town.checkpoint()
    published = town.publish()
    assert town.adopt(published).register == 1
    assert words(town.bring_back(published)) == ["Duplicate", "Stored"]
    line = town.backup.enrolment("gw-plaza")
    assert line is not None and line.record_key == wire.public_key(town.plaza.secret)
    assert town.backup.totals("gw-plaza") == town.centre.archive.totals("gw-plaza")
    assert town.findings() == [] and town.backup.log_checkpoint() == town.known
    town.plaza.secret = old
    late = town.plaza.seal(MONDAY_S + 3 * QUARTERS * 900)
    assert words(town.intake().accept_many([(town.plaza.topic, late)])) == ["retired_key"]


def test_an_id_that_was_given_after_the_backup_is_not_given_again(town: Town) -> None:
    """The gateway that has it goes on speaking: the register has its line again, whole."""
    town.live_on()
    town.adopt(town.publish())
    mine, theirs = town.backup.enrolment("gw-new"), town.centre.archive.enrolment("gw-new")
    assert mine is not None and replace(mine, id=0) == replace(theirs, id=0)
    with pytest.raises(RegisterError, match="ids are never used twice"):
        gateways.enrol_local(
            town.backup,
            town.centre.config,
            town.folder / "again",
            gateway="gw-new",
            site="alley",
            quartier="centre",
            stewards=[town.centre.steward[1]],
        )


def test_a_line_of_the_register_without_its_entry_is_found(town: Town) -> None:
    """And an entry without its line: a register that says otherwise than the log that was taken over."""
    town.live_on()
    town.adopt(town.publish())
    town.backup._db.execute("DROP TRIGGER enrolments_no_delete")
    town.backup._db.execute("PRAGMA foreign_keys = OFF")
    town.backup._db.execute("DELETE FROM enrolments WHERE status = 'revoked'")
    assert any("the revocation of gw-alley" in one for one in town.findings())


def test_a_waiting_message_does_not_cut_an_account_short(
    centre: Any, tmp_path: Path, policy_text: Callable[..., bytes]
) -> None:
    """What had waited is filed before all that was lost is back: its day's account stays the one that was published,
    which is of more messages, and is right in the end."""
    town = Town.__new__(Town)
    town.centre, town.folder, town.plaza = centre, tmp_path, centre.gateway()
    history = town.plaza.history(QUARTERS + 4)
    town.plaza.policy = policy_text("plaza", 2)
    history += [(town.plaza.topic, town.plaza.seal(MONDAY_S + n * 900)) for n in range(QUARTERS + 5, 3 * QUARTERS + 2)]
    town.take(history[: QUARTERS + 8])
    shutil.copytree(centre.config.data_dir, tmp_path / "backup")
    town.backup = Archive.open(tmp_path / "backup" / "archive.db")
    gateways.publish_policy(centre.archive, centre.signed(town.plaza.policy), now_s=MONDAY_S + 4 * 86_400)
    centre.intake.reconsider()
    town.take(history[QUARTERS + 8 :])
    town.known = town.checkpoint()
    published = town.publish()
    town.adopt(published)
    assert words(town.intake().reconsider()) == ["Stored"]
    assert town.backup.log_checkpoint() == town.known
    town.bring_back(published)
    town.intake().accept_many(history)  # the gateway sends again what was refused, and is on no site
    assert town.backup.log_checkpoint() == town.known and town.findings() == []
    town.backup.close()


def test_what_waited_and_was_taken_back_is_filed_by_the_command(
    centre: Any, tmp_path: Path, policy_text: Callable[..., bytes]
) -> None:
    """The messages of the site come first, then those that wait for the policy that came with it."""
    town = Town.__new__(Town)
    town.centre, town.folder, town.plaza = centre, tmp_path, centre.gateway()
    town.plaza.policy = policy_text("plaza", 2)
    town.take([(town.plaza.topic, town.plaza.seal(MONDAY_S + n * 900)) for n in range(1, 5)])
    shutil.copytree(centre.config.data_dir, tmp_path / "backup")
    town.backup = Archive.open(tmp_path / "backup" / "archive.db")
    gateways.publish_policy(centre.archive, centre.signed(town.plaza.policy), now_s=MONDAY_S + 4 * 86_400)
    centre.intake.reconsider()
    published = town.publish()
    town.adopt(published)
    assert [type(word).__name__ for word in town.bring_back(published)] == ["Duplicate"] * 4 + ["Stored"] * 4
    assert town.backup.waiting() == {}
    town.backup.close()


def test_a_day_that_cannot_be_read_is_named_and_the_others_come_back(
    town: Town, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is lacking is said first; the next run, with a whole copy of that day, brings it back however old it is."""
    town.live_on()
    town.publish()
    town.backup.close()
    file = sorted((town.folder / "site" / "donnees" / "messages").glob("*.cose"))[1]
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    (town.folder / "site" / opendata.ANNOTATIONS).unlink()
    (town.folder / "ingest.toml").write_text('data_dir = "backup"\n')
    command = ["ingest", "adopt", str(town.folder / "site"), "--config", str(town.folder / "ingest.toml")]
    assert main([*command, "--or-nothing"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[2] == "annotation 1 of plaza: is not in the archive, nor on the site; publish it again from its file"
    assert out[-1].startswith(f"messages of {file.stem}: malformed: it ends within a message; lay another copy")
    town.backup = Archive.open(town.folder / "backup" / "archive.db")
    assert town.backup.missing("gw-plaza") and town.backup.log_checkpoint() == town.known
    town.note(town.backup)
    file.write_bytes(whole)
    monkeypatch.setattr(adoption, "_AROUND_DAYS", 0)
    town.bring_back(Site(str(town.folder / "site")).published())
    assert town.findings() == []


def _report(town: Town) -> Any:
    centre = town.centre
    centre.accept(*town.plaza.health(60, log=town.known.size))
    return centre.archive.last_health("gw-plaza")


def forged(town: Town, published: Publication) -> Publication:
    return replace(published, note=log.seal_checkpoint(town.known, wire.new_key()[0]))


def cut(town: Town, published: Publication) -> Publication:
    return replace(published, entries=published.entries[:-1])


def turned(town: Town, published: Publication) -> Publication:
    return replace(published, entries=[*published.entries[:-2], *published.entries[:-3:-1]])


def other(town: Town, published: Publication) -> Publication:
    """The key of the centre stands under another beginning: two logs of one centre."""
    entries = [published.entries[1], published.entries[0], *published.entries[2:]]
    here = Checkpoint(len(entries), log.root([log.leaf_hash(entry) for entry in entries]))
    return replace(published, entries=entries, note=log.seal_checkpoint(here, town.centre.secret))


def strange(town: Town, published: Publication) -> Publication:
    entries = [*published.entries, b'{"kind":"spend"}']
    here = Checkpoint(len(entries), log.root([log.leaf_hash(entry) for entry in entries]))
    return replace(published, entries=entries, note=log.seal_checkpoint(here, town.centre.secret))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (forged, "this centre's key has not signed it"),
        (cut, "its entries are not those that were signed"),
        (turned, "its entries are not those that were signed"),
        (other, "it is not the archive's grown longer (entry 1 is another)"),
        (strange, "an entry that cannot be read"),
    ],
)
def test_a_log_that_is_not_the_archives_grown_longer_is_refused(town: Town, change: Any, why: str) -> None:
    """One line, and nothing was taken over."""
    town.live_on()
    published = town.publish()
    before = town.backup.log_checkpoint()
    with pytest.raises(AdoptionError) as error:
        town.adopt(change(town, published))
    assert why in str(error.value) and "\n" not in str(error.value)
    assert town.backup.log_checkpoint() == before and town.backup.policies("plaza")[-1].version == 1


def test_a_centre_that_went_on_before_it_adopted_is_told_so(town: Town) -> None:
    """Its log has entries of its own by then, and no way leads back but a second restore."""
    town.live_on()
    published = town.publish()
    gateways.publish_policy(town.backup, town.policy, now_s=1)
    with pytest.raises(AdoptionError, match="restore the backup once more, and adopt before the centre is started"):
        town.adopt(published)


def test_a_shorter_log_changes_nothing(town: Town) -> None:
    """What an older build of the site has."""
    published = town.publish()
    town.take(town.history[QUARTERS + 8 :])
    done = town.adopt(published, town.centre.archive)
    assert (done.entries, done.size, done.lacking) == (0, town.checkpoint().size, [])


def test_all_that_was_lost_is_back(town: Town, capsys: pytest.CaptureFixture[str]) -> None:
    """Then the command ends with 0."""
    town.take(town.history[QUARTERS + 8 :])
    town.publish()
    (town.folder / "ingest.toml").write_text('data_dir = "backup"\n')
    site, config = str(town.folder / "site"), str(town.folder / "ingest.toml")
    assert main(["ingest", "adopt", site, "--config", config]) == 0
    assert capsys.readouterr().err == ""


def test_a_policy_that_is_nowhere_is_named(town: Town) -> None:
    """Its entry is taken over; it has to be published again from its file, and is not logged twice then."""
    town.live_on()
    published = replace(town.publish(), policies={})
    lacking = town.adopt(published).lacking
    assert len(lacking) == 1
    assert lacking[0] == "policy 2 of plaza: is not in the archive, nor on the site; publish it again from its file"
    gateways.publish_policy(town.backup, town.policy, now_s=1 << 31)
    assert town.backup.log_checkpoint() == town.known


def test_an_annotation_is_filed_if_it_is_the_logs_and_none_before_it_lacks(town: Town) -> None:
    """Else what stewards marked as faulty would be shown as right, or what another signed as theirs."""
    town.live_on()
    town.note(number=2)
    first, second = (sealed for *_, sealed in town.centre.archive.annotation_rows())
    third = wire.seal_annotation(wire.read_annotation(second), [("s", wire.new_key()[0])])
    with town.centre.archive.transaction():
        logbook.annotated(town.centre.archive._db, "plaza", 3, third)
        logbook.annotated(town.centre.archive._db, "plaza", 4, second)
    published = town.publish()
    assert town.adopt(replace(published, annotations=[third, second, b"no annotation"])).lacking == [
        "annotation 1 of plaza: is not in the archive, nor on the site; publish it again from its file",
        "annotation 2 of plaza: comes after one that is lacking; publish that one again, then adopt once more",
        "annotation 3 of plaza: the site has another than the log tells; publish it again from its file",
        "annotation 4 of plaza: the site has another than the log tells; publish it again from its file",
    ]
    assert town.backup.annotation_rows() == []
    assert len(town.adopt(replace(published, annotations=[second, first])).lacking) == 2
    assert [sealed for *_, sealed in town.backup.annotation_rows()] == [first, second]
    assert town.backup.log_checkpoint() == town.checkpoint()


def test_what_a_place_without_a_page_has_signed_is_on_the_site(town: Town, policy_text: Callable[..., bytes]) -> None:
    """Before it is described in `city.toml`, or when it is no longer: the log names its policies and annotations, so
    that a resident looks for them, and a restored archive gets them back from there alone."""
    town.alley_speaks()
    town.note(site="alley")
    signed = town.centre.signed(policy_text("alley", 2))
    gateways.publish_policy(town.centre.archive, signed, now_s=MONDAY_S + 4 * 86_400)
    town.live_on()
    town.centre.archive.sign_log(town.centre.secret)
    build(town.centre.archive, city_config.parse(CITY, "city.toml"), town.folder / "built", MONDAY_S + 5 * 86_400)
    published = Site(str(town.folder / "built")).published()
    report = verify(published)
    assert (report.findings, report.untold) == ([], ["alley"])
    assert town.adopt(published).lacking == []
    assert town.backup.policies() == town.centre.archive.policies()
    assert [one.note for one in town.backup.annotations()] == [one.note for one in town.centre.archive.annotations()]


def test_the_command_does_it_all(town: Town, capsys: pytest.CaptureFixture[str]) -> None:
    """From the folder of the site; a second time it changes nothing; with another town's site it says why not."""
    town.live_on()
    town.publish()
    town.backup.close()
    (town.folder / "ingest.toml").write_text('data_dir = "backup"\n')
    command = ["ingest", "adopt", str(town.folder / "site"), "--config", str(town.folder / "ingest.toml")]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["log"] == town.known.size and told["entries"] > 5 and told["register"] == 2
    assert told["lacking"] == told["unread"] == []
    assert told["messages"]["stored"] == 2 * QUARTERS - 7
    assert main(command) == 1
    told = capsys.readouterr()
    assert told.out.startswith(f"0 entries of the log taken over; it has {town.known.size}\n")
    assert "has nothing beyond the archive's" in told.err and "built from the restored archive" in told.err
    assert main([*command, "--or-nothing"]) == 0
    assert capsys.readouterr().err == ""
    (town.folder / "backup" / "centre.key").unlink()
    (town.folder / "backup" / "centre.key").touch(0o600)
    (town.folder / "backup" / "centre.key").write_text(wire.new_key()[0].hex())
    assert main([*command, "--or-nothing"]) == 1  # that is no "nothing"
    assert "this centre's key has not signed it" in capsys.readouterr().err
    town.backup = Archive.open(town.folder / "backup" / "archive.db")


@pytest.mark.parametrize("page", ["README.md", "LISEZMOI.md"])
def test_what_an_operator_pastes_starts_no_centre_that_adopted_nothing(page: str, tmp_path: Path) -> None:
    """Whatever `adopt` refuses for, the line that starts the centre is not run."""
    text = (Path(__file__).parents[2] / "ingest" / page).read_text("utf-8")
    blocks = [block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "ingest adopt" in block]
    assert len(blocks) == 2

    def pasted(block: str, status: int) -> list[str]:
        """Pastes it where no program is found but these three. Returns how each of them was called."""
        double = f"murmure-centre() {{ echo $2; test $2 != adopt || return {status}; }}"
        others = "systemctl() { echo $1; }; murmure() { echo $2; }"
        command = ["/bin/bash", "-c", f"{double}; {others}\n{block}"]
        ran = subprocess.run(command, env={"PATH": ""}, cwd=tmp_path, capture_output=True, text=True, check=False)
        return ran.stdout.split()

    for block in blocks:
        assert pasted(block, 1)[-1] == "adopt"
        assert "start" in pasted(block, 0)[pasted(block, 0).index("adopt") :]
