"""Annotations at the centre: stewards' commands, what is filed, and that the archive proves it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from murmure.cli import main
from murmure_ingest import annotation_cli, gateways
from murmure_ingest.annotations import publish_annotation
from murmure_ingest.archive import Archive, ArchiveDamaged
from murmure_ingest.gateways import RegisterError
from murmure_ingest.inspection import inspect
from murmure_ingest.receipts import write_secret
from murmure_ingest.rules import RuleBook
from murmure_ingest.transfer import export, import_export
from murmure_privacy import wire
from murmure_privacy.annotation import Annotation, Note, Withdrawal
from murmure_privacy.errors import ConfigError

MONDAY_S = 1_795_392_000  # 2026-11-23 00:00 UTC
NOW_S = MONDAY_S + 7 * 3600
Murmure = Callable[[str], tuple[int, str, str]]

MARK = Annotation(
    "plaza", 1, NOW_S, "Un échafaudage.", "plaza/footfall", MONDAY_S, MONDAY_S + 3600, "obstructed", "Scaffolding."
)
BACK = Withdrawal("plaza", 2, NOW_S, "Il était ailleurs.", 1)


@pytest.fixture
def plaza(centre: Any) -> Any:
    """A centre that has filed two hours of one gateway."""
    centre.intake.accept_many(centre.gateway().history(8))
    return centre


def signed(centre: Any, note: Note, *secrets: bytes) -> bytes:
    return wire.seal_annotation(note, [(f"s{n}", key) for n, key in enumerate(secrets or (centre.steward[0],))])


def publish(centre: Any, note: Note, *secrets: bytes) -> Note:
    return publish_annotation(centre.archive, signed(centre, note, *secrets), "note.cose", NOW_S).note


def notes(centre: Any) -> list[Note]:
    return [stored.note for stored in centre.archive.annotations()]


# --- what is filed ---------------------------------------------------------------------------------------------------


def test_what_is_filed_stays_with_its_signatures(plaza: Any) -> None:
    """A mark and its withdrawal are both kept, as they were signed, across a restart; the same again is no error."""
    for note in (MARK, BACK, MARK):
        assert publish(plaza, note) == note
    again = Archive.open(plaza.config.archive, read_only=True)
    assert [(stored.note, stored.sealed) for stored in again.annotations("plaza")] == [
        (MARK, signed(plaza, MARK)),
        (BACK, signed(plaza, BACK)),
    ]
    assert again.annotations("elsewhere") == []
    again.close()


def test_no_release_changes(plaza: Any) -> None:
    """An annotation stands beside the releases: nodes, messages, totals, running hash and receipts stay as they are."""
    before = (plaza.content(), plaza.archive.head(), plaza.archive.counts())
    publish(plaza, MARK)
    publish(plaza, BACK)
    assert (plaza.content(), plaza.archive.head(), plaza.archive.counts()) == before


def test_annotations_travel_with_the_archive(plaza: Any, tmp_path: Path) -> None:
    """An export has them, and another centre files them only with the full check."""
    publish(plaza, MARK)
    publish(plaza, BACK)
    export(plaza.archive, tmp_path / "export")
    other = Archive.open(tmp_path / "other.db")
    import_export(tmp_path / "export", other)
    assert other.annotations() == plaza.archive.annotations() != []
    other.close()


@pytest.mark.parametrize("verb", ["UPDATE annotations SET number = 9", "DELETE FROM annotations"])
def test_annotations_only_grow(plaza: Any, verb: str) -> None:
    """Neither edited nor removed."""
    publish(plaza, MARK)
    with pytest.raises(sqlite3.IntegrityError, match="only grows"):
        plaza.archive._db.execute(verb)


REFUSED: dict[str, tuple[tuple[Note, ...], Note, str]] = {
    "a number is left out": ((MARK,), replace(MARK, number=3), "number: 3 does not follow 1"),
    "a number is given twice": ((MARK,), replace(MARK, sentence="Autre."), "number: 1 does not follow 1"),
    "an unknown stream": ((), replace(MARK, stream="plaza/noise"), "stream: the archive has no 'plaza/noise'"),
    "a stream of another site": ((), replace(MARK, stream="other/footfall"), "stream: the archive has no"),
    "an unknown site": ((), replace(MARK, site="moon"), "site: no gateway ever served 'moon'"),
    "a withdrawal is withdrawn": ((MARK, BACK), replace(BACK, number=3, withdraws=2), "is itself a withdrawal"),
    "withdrawn twice": ((MARK, BACK), replace(BACK, number=3), "is withdrawn already"),
    "dated in the future": ((), replace(MARK, issued_s=NOW_S + 301), "issued: 2026-11-23T07:05:01Z has not come yet"),
}


@pytest.mark.parametrize(("before", "note", "problem"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_follow_is_not_filed(plaza: Any, before: tuple[Note, ...], note: Note, problem: str) -> None:
    """Numbered without a hole, about a stream of its site, each mark taken back once: all else is refused in a line."""
    plaza.intake.accept_many(plaza.gateway("gw-other", "other").history(2))
    for earlier in before:
        publish(plaza, earlier)
    with pytest.raises(RegisterError) as error:
        publish(plaza, note)
    assert problem in str(error.value) and "\n" not in str(error.value)
    assert notes(plaza) == list(before)


def test_enough_stewards_of_every_gateway_of_the_site_must_sign(plaza: Any) -> None:
    """As for a policy; another key, too few, or a policy's signature over the same bytes do not do."""
    secret, public = wire.new_key()
    with plaza.archive.transaction():
        line = plaza.archive.enrolment("gw-plaza")
        plaza.archive.enrol(replace(line, stewards=(plaza.steward[1], public), signatures_required=2))
    for secrets in ((plaza.steward[0],), (secret, secret), (wire.new_key()[0], secret)):
        with pytest.raises(RegisterError, match=r"1 of the 2 signatures.*stewards of gw-plaza.*annotation sign"):
            publish(plaza, MARK, *secrets)
    as_policy = wire.seal_policy(wire._document(signed(plaza, MARK), 6144, wire._ANNOTATION)[0], [("s", secret)])
    with pytest.raises(ConfigError, match="not an annotation"):
        publish_annotation(plaza.archive, as_policy, "note.cose", NOW_S)
    assert notes(plaza) == []
    publish(plaza, MARK, plaza.steward[0], secret)
    assert notes(plaza) == [MARK]


def test_a_site_without_a_gateway_can_still_be_annotated(plaza: Any) -> None:
    """Its last gateway's stewards sign, for faults are often found when a gateway is taken down; and what was filed
    stays readable when stewards change."""
    publish(plaza, MARK)
    gateways.revoke(plaza.archive, "gw-plaza")
    publish(plaza, BACK)
    with plaza.archive.transaction():
        line = plaza.archive.enrolment("gw-plaza")
        plaza.archive.enrol(replace(line, stewards=(wire.new_key()[1],)))
    assert notes(plaza) == [MARK, BACK]
    with pytest.raises(RegisterError, match="signatures"):
        publish(plaza, replace(MARK, number=3))


# --- proof -----------------------------------------------------------------------------------------------------------


def findings(centre: Any) -> list[str]:
    archive = Archive.open(centre.config.archive, read_only=True)
    report = inspect(archive, RuleBook(archive))
    archive.close()
    assert report.annotations == len(centre.archive.annotation_rows())
    return report.findings


def test_an_archive_with_annotations_is_sound(plaza: Any) -> None:
    """Marks and withdrawals are part of a sound archive, and counted."""
    publish(plaza, MARK)
    publish(plaza, BACK)
    assert findings(plaza) == []


DAMAGE = {
    "the first is gone": (
        "DELETE FROM annotations WHERE number = 1",
        "annotation 2 of plaza: number: 2 does not follow",
    ),
    "one is edited": (
        "UPDATE annotations SET sealed = x'00' WHERE number = 2",
        "annotation 2 of plaza: it does not open",
    ),
    "one changes its number": (
        "UPDATE annotations SET number = 7 WHERE number = 2",
        "annotation 7 of plaza: it says of",
    ),
    "one changes its place": (
        "UPDATE annotations SET site = 'moon' WHERE number = 2",
        "annotation 2 of moon: the register has no such line for this site",
    ),
    "its line is another": ("UPDATE annotations SET enrolment = 9", "the register has no such line for this site"),
    "its stewards are exchanged": (
        "UPDATE enrolments SET stewards = zeroblob(32)",
        "annotation 1 of plaza: it does not",
    ),
    "its stream is gone": ("DELETE FROM streams", "annotation 1 of plaza: stream: the archive has no 'plaza/footfall'"),
}


@pytest.mark.parametrize(("statement", "finding"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_change_behind_the_back_is_found(plaza: Any, statement: str, finding: str) -> None:
    """With the triggers taken away: the check says so, and a reader refuses what is not as it was signed."""
    publish(plaza, MARK)
    publish(plaza, BACK)
    with closing(sqlite3.connect(plaza.config.archive, isolation_level=None)) as db:
        for table in ("annotations", "enrolments"):
            for verb in ("update", "delete"):
                db.execute(f"DROP TRIGGER {table}_no_{verb}")
        assert db.execute(statement).rowcount != 0
    assert any(finding in line for line in findings(plaza)), findings(plaza)
    if "DELETE" not in statement:
        with pytest.raises(ArchiveDamaged, match=r"annotation \d of (plaza|moon)"):
            plaza.archive.annotations()


def test_a_mark_that_was_filed_without_a_signature_is_found(plaza: Any) -> None:
    """Its twin: an intake that checks nothing files it, the check finds it."""
    unsigned = wire.seal_annotation(MARK, [])
    plaza.archive._db.execute("INSERT INTO annotations VALUES ('plaza', 1, 1, ?)", (unsigned,))
    finding, unlogged = findings(plaza)
    assert unlogged == "log: the annotation of plaza (1) is not there as the archive has it"
    assert finding.startswith("annotation 1 of plaza: it does not open: bad_signature")


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.fixture
def murmure(plaza: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Murmure:
    """Runs one command at seven on Monday: (exit status, stdout, stderr). Words in brackets are one argument."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(annotation_cli, "_now_s", lambda: NOW_S)
    write_secret(Path("steward.key"), plaza.steward[0])

    def run(line: str) -> tuple[int, str, str]:
        words: list[str] = []
        for place, part in enumerate(line.replace("]", "[").split("[")):
            words += [part] if place % 2 else part.split()
        status = main(words)
        return status, *capsys.readouterr()

    return run


NEW = "annotation new --stream plaza/footfall --from 2026-11-23T00:00Z --to 2026-11-23T02:00+01:00 --cause obstructed"
SAID = "plaza 1  plaza/footfall  2026-11-23T00:00:00Z – 2026-11-23T01:00:00Z  obstructed  Un échafaudage."


def test_a_fault_goes_from_a_steward_to_the_archive(murmure: Murmure, plaza: Any) -> None:
    """new, sign, publish, list; then withdraw the same way: nothing but commands, each says what it is about."""
    status, said, _ = murmure(f"{NEW} --sentence [Un échafaudage.] --out a.cose")
    assert (status, said.splitlines()) == (
        0,
        [SAID, "now let its stewards sign it: murmure annotation sign a.cose --key …"],
    )
    status, _, error = murmure("annotation publish a.cose")
    assert (status, error.count("\n"), "0 of the 1 signatures" in error) == (1, 1, True)
    assert murmure("annotation sign a.cose --key steward.key")[:2] == (0, f"{SAID}\na.cose is signed\n")
    assert murmure("annotation publish a.cose")[:2] == (
        0,
        f"{SAID}\nit is published: pages show it from their next build on\n",
    )
    status, _, _ = murmure("annotation withdraw 1 --site plaza --sentence [Erreur.] --sentence-en [Oops.] --out b.cose")
    assert status == 0
    assert murmure("annotation sign b.cose --key steward.key")[0] == 0
    assert murmure("annotation publish b.cose")[0] == 0
    status, said, _ = murmure("annotation list")
    assert (status, said.splitlines()) == (0, [SAID, "plaza 2  withdraws 1  Erreur. / Oops."])
    first, second = json.loads(murmure("annotation list --site plaza --json")[1])
    assert (first["from"], first["to"], first["cause"], first["issued"]) == (
        "2026-11-23T00:00:00Z",
        "2026-11-23T01:00:00Z",
        "obstructed",
        "2026-11-23T07:00:00Z",
    )
    assert (second["withdraws"], second["sentence_en"]) == (1, "Oops.")
    assert "nothing is annotated" in murmure("annotation list --site moon")[1]
    assert [type(note) for note in notes(plaza)] == [Annotation, Withdrawal]


def test_a_steward_needs_no_archive(murmure: Murmure) -> None:
    """With --number the file can be written on any machine; it is judged when it is published."""
    Path("ingest.toml").unlink()
    assert murmure(f"{NEW} --sentence [Un échafaudage.] --out a.cose --number 1")[0] == 0
    assert wire.read_annotation(Path("a.cose").read_bytes()).number == 1


def mistake(*changes: tuple[str, str], rest: str = "--sentence [Essai.] --out a.cose") -> str:
    line = f"{NEW} {rest}"
    for old, new in changes:
        assert old in line
        line = line.replace(old, new)
    return line


FROM, TO = "2026-11-23T00:00Z", "2026-11-23T02:00+01:00"
MISTAKES = {
    "an unknown stream": (
        mistake(("plaza/footfall", "plaza/noise")),
        "stream: the archive has no 'plaza/noise'; write one of plaza/footfall, plaza/pm2_5",
    ),
    "an unknown site": (mistake(("plaza/footfall", "moon/noise")), "stream: the archive has no 'moon/noise'"),
    "reversed": (mistake((TO, "2026-11-22T23:45Z")), "--to: 2026-11-22T23:45:00Z is not after --from"),
    "empty": (mistake((TO, FROM)), "--to: 2026-11-23T00:00:00Z is not after --from"),
    "to come": (mistake((TO, "2026-11-23T07:15Z")), "--to: 2026-11-23T07:15:00Z has not come yet; mark what is over"),
    "no zone": (mistake((FROM, "2026-11-23T00:00")), "--from: '2026-11-23T00:00' does not say in which zone; write "),
    "between quarters": (mistake((TO, "2026-11-23T01:10Z")), "write 2026-11-23T01:00:00Z or 2026-11-23T01:15:00Z"),
    "no instant": (mistake((FROM, "hier")), "--from: 'hier' is no instant; write 2026-11-20T08:00Z"),
    "before all time": (mistake((FROM, "0001-01-01T00:00Z"), rest="--sentence [Essai.] --out a.cose --number 1"), ""),
    "no sentence": (mistake(rest="--sentence [  ] --out a.cose"), "--sentence: it does not begin with a letter"),
    "a formula": (mistake(rest="--sentence [=1+1] --out a.cose"), "--sentence: it does not begin with a letter"),
    "a long sentence": (mistake(rest=f"--sentence {'x' * 201} --out a.cose"), "201 characters where 200 are allowed"),
    "two lines": (mistake(rest="--sentence [a\nb] --out a.cose"), "--sentence: it has a character that cannot"),
    "not UTF-8": (mistake(rest="--sentence a\udcff --out a.cose"), "--sentence: it has a character that cannot"),
    "English in two lines": (mistake(rest="--sentence a --sentence-en [a\tb] --out a.cose"), "--sentence-en: it has"),
    "the file is there": (mistake(rest="--sentence a --out steward.key"), "steward.key: --out: the file exists"),
    "nothing to withdraw": (
        "annotation withdraw 4 --site plaza --sentence a --out a.cose",
        "withdraws: plaza has no annotation 4; see 'murmure annotation list'",
    ),
    "a withdrawal of nothing": (
        "annotation withdraw 0 --site plaza --sentence a --out a.cose --number 1",
        "annotation: options: ",
    ),
    "a policy to sign": ("annotation sign ingest.toml --key steward.key", "ingest.toml: annotation: not an annotation"),
    "a policy to publish": ("annotation publish ingest.toml", "ingest.toml: annotation: not an annotation"),
    "no centre": (f"{mistake()} --config none.toml", "none.toml: file: there is no such file"),
}


@pytest.mark.parametrize(("line", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line(murmure: Murmure, line: str, said: str) -> None:
    """Status 2, one line that says what to write instead, no file written."""
    status, out, error = murmure(line)
    assert (status, out, error.count("\n")) == (2, "", 1), error
    assert error.startswith("murmure: ") and said in error, error
    assert not Path("a.cose").exists()


def test_a_wrong_key_is_told(murmure: Murmure) -> None:
    """A stranger may sign; the centre does not take it, and names whose signature is lacking."""
    write_secret(Path("other.key"), wire.new_key()[0])
    murmure(f"{NEW} --sentence [Un échafaudage.] --out a.cose")
    assert murmure("annotation sign a.cose --key other.key")[0] == 0
    status, _, error = murmure("annotation publish a.cose")
    assert (status, error.count("\n")) == (1, 1)
    assert "a.cose: signatures: 0 of the 1 signatures required are there, by the stewards of gw-plaza" in error
    assert murmure("annotation sign a.cose --key none.key")[0] in (1, 2)
    assert murmure("annotation sign none.cose --key other.key")[0] == 1
