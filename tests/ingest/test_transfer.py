"""An archive as files: the same bytes each time, readable without us, and the same archive again elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from murmure.cli import main
from murmure_ingest import gateways
from murmure_ingest.archive import Archive
from murmure_ingest.inspection import inspect
from murmure_ingest.intake import Intake, Stored
from murmure_ingest.rules import RuleBook
from murmure_ingest.transfer import TransferError, export, import_export, is_export
from murmure_privacy import wire
from murmure_privacy.errors import ConfigError

MONDAY_S = 1_795_392_000


@pytest.fixture
def lived(centre: Any) -> Any:
    """A centre with refusals, quarantine, conflicts, a late policy, a revoked gateway and health."""
    first, second = centre.gateway("gw-a", "a"), centre.gateway("gw-b", "b", published=False)
    centre.intake.accept_many(first.history(8) + second.history(8))
    centre.accept(first.topic, wire.seal_message(first.message(MONDAY_S, seq=1), first.secret))
    centre.accept(first.topic, first.seal(MONDAY_S + 900 * 20, site="moon", seq=9))
    centre.accept(first.topic, first.seal(MONDAY_S + 900 * 22, seq=13))
    gateways.publish_policy(centre.archive, centre.signed(second.policy))
    centre.intake.reconsider()
    centre.accept(*second.health(60))
    gateways.revoke(centre.archive, "gw-b")
    return centre


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def content(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return sorted(db.iterdump())


def filled(folder: Path, path: Path) -> Archive:
    """A new archive with what an export holds."""
    archive = Archive.open(path)
    import_export(folder, archive)
    return archive


def test_an_archive_goes_through_files_unchanged(lived: Any, tmp_path: Path) -> None:
    """Same head, same series, every row of every table; what is exported from it again is the same to the byte."""
    told = export(lived.archive, tmp_path / "out")
    assert told.head == lived.archive.head()
    again = filled(tmp_path / "out", tmp_path / "again.db")
    assert again.head() == lived.archive.head()
    for info in lived.archive.streams():
        assert again.outcomes(info.stream, 0, 1 << 40) == lived.archive.outcomes(info.stream, 0, 1 << 40)
    assert content(tmp_path / "again.db") == content(lived.config.archive)
    assert inspect(again, RuleBook(again)).findings == []
    export(again, tmp_path / "out2")
    assert files_of(tmp_path / "out2") == files_of(tmp_path / "out")
    again.close()


def test_the_centre_goes_on_from_what_was_imported(lived: Any, tmp_path: Path) -> None:
    """The next message of a gateway is filed as the next."""
    export(lived.archive, tmp_path / "out")
    archive = filled(tmp_path / "out", tmp_path / "again.db")
    lived.archive.close()
    lived.archive, lived.intake = archive, Intake(archive, RuleBook(archive), lambda: 1 << 40)
    other = lived.gateway("gw-c", "c")
    assert [type(word) for word in lived.intake.accept_many(other.history(2))] == [Stored, Stored]
    assert inspect(archive, RuleBook(archive)).findings == []


def test_the_files_are_read_without_us(lived: Any, tmp_path: Path) -> None:
    """`sha256sum -c` proves the copy, and each line has its signed bytes in base64 with the hash beside them."""
    export(lived.archive, tmp_path / "out")
    subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path / "out", check=True, capture_output=True
    )
    head = bytes(32)
    for line in (tmp_path / "out" / "messages.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        head = hashlib.sha256(head + base64.b64decode(row["hash"])).digest()
        if row["sealed"] is not None:
            sealed = base64.b64decode(row["sealed"])
            assert hashlib.sha256(sealed).digest() == base64.b64decode(row["hash"])
            assert sealed[0] == 0xD2  # CBOR tag 18: COSE_Sign1
    assert head.hex() == json.loads((tmp_path / "out" / "export.json").read_text())["head"]


def test_no_secret_is_exported(lived: Any, tmp_path: Path) -> None:
    """What the centre signs with is nowhere in it."""
    export(lived.archive, tmp_path / "out")
    shapes = (lived.secret, lived.secret.hex().encode(), base64.b64encode(lived.secret))
    assert not any(shape in data for data in files_of(tmp_path / "out").values() for shape in shapes)


def test_a_span_has_what_ended_in_it_and_all_that_verifies_it(lived: Any, tmp_path: Path) -> None:
    """(from, to]: filed messages with a node that ends there, register and policies whole; nothing of the rest."""
    told = export(lived.archive, tmp_path / "out", MONDAY_S + 900, MONDAY_S + 2700)
    messages = [json.loads(line) for line in (tmp_path / "out" / "messages.jsonl").read_text().splitlines()]
    assert sorted((row["gateway"], row["seq"]) for row in messages) == [
        (gateway, seq) for gateway in ("gw-a", "gw-b") for seq in (2, 3)
    ]
    assert (told.rows["messages"], told.rows["enrolments"], told.rows["policies"], told.rows["amendments"]) == (
        4,
        3,
        2,
        2,
    )
    assert not {"health", "counters", "conflicts", "totals"} & told.rows.keys()
    with pytest.raises(ConfigError, match=r"^[^\n]*a span of time[^\n]*without --from and --to[^\n]*$"):
        filled(tmp_path / "out", tmp_path / "again.db")


def test_an_archive_that_holds_something_is_left_alone(lived: Any, tmp_path: Path) -> None:
    """Two histories are not mixed."""
    export(lived.archive, tmp_path / "out")
    before = content(lived.config.archive)
    with pytest.raises(ConfigError, match=r"^[^\n]*it holds something[^\n]*$"):
        import_export(tmp_path / "out", lived.archive)
    assert content(lived.config.archive) == before


def resealed(folder: Path) -> None:
    """Whoever edits an export can write the sums anew."""
    names = sorted(path.name for path in folder.iterdir() if path.name != "SHA256SUMS")
    sums = (f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (folder / "SHA256SUMS").write_text("".join(sums))


def edit(folder: Path, table: str, old: str, new: str) -> None:
    text = (folder / f"{table}.jsonl").read_text("utf-8")
    assert old in text
    (folder / f"{table}.jsonl").write_text(text.replace(old, new, 1), "utf-8")


FORGERIES = {
    "a charge": ("totals", '"charged_rho_micro":', '"charged_rho_micro":1', "settled or charged"),
    "a node": ("nodes", '"present":20', '"present":19', "not in the index as it was signed"),
    "a released integer": (
        "nodes",
        '"integers":"Bw=="',
        '"integers":"CA=="',
        "not in the index as it was signed: crossings",
    ),
    "a noise": ("scales", '"parts":"crossings 1 ', '"parts":"crossings 1 1', "as it was signed: what its integers are"),
    "a use": ("uses", '"first_seq":', '"first_seq":1', "policies that it is said to have used"),
    "a message": ("messages", '"reason":"unknown_policy"', '"reason":""', None),
    "signed bytes": ("messages", '"sealed":"0oRJ', '"sealed":"0oRK', "the bytes do not have the hash"),
    "a place": ("enrolments", '"quartier":"centre"', '"quartier":"nord"', "says otherwise"),
    "a type": ("nodes", '"present":20', '"present":"20 people"', "a line of it is none of ours"),
    "a column": ("nodes", '"present":20', '"present":20,"readings":[1,2,3]', "a line of it is none of ours"),
    "a list": ("nodes", '"present":20', '"present":[20]', "a line of it is none of ours"),
    "a number for bytes": ("messages", '"previous":', '"hash":5,"previous":', "a line of it is none of ours"),
    "a depth": ("nodes", "{", "[" * 100_000, "a line of it is none of ours"),
    "no base64": ("messages", '"sealed":"', '"sealed":"§', "a line of it is none of ours"),
    "no JSON": ("nodes", "{", "[", "a line of it is none of ours"),
    "no row": ("amendments", '"message":', '"message":99', "not whole|none of ours|FOREIGN KEY|not sound"),
}


@pytest.mark.parametrize(("table", "old", "new", "finding"), FORGERIES.values(), ids=FORGERIES.keys())
def test_an_edited_export_files_nothing(
    lived: Any, tmp_path: Path, table: str, old: str, new: str, finding: str | None
) -> None:
    """Without new sums any edit is seen; with them what is not sound or has no place is refused, and nothing stays."""
    export(lived.archive, tmp_path / "out")
    edit(tmp_path / "out", table, old, new)
    archive = Archive.open(tmp_path / "again.db")
    with pytest.raises(TransferError, match=r"^[^\n]*are not those of SHA256SUMS[^\n]*$"):
        import_export(tmp_path / "out", archive)
    resealed(tmp_path / "out")
    if finding is not None:
        with pytest.raises(TransferError, match=rf"^[^\n]*({finding})[^\n]*$"):
            import_export(tmp_path / "out", archive)
        assert [archive.row_count(name) for name in archive.tables()] == [0] * len(archive.tables())
    archive.close()


def test_uses_that_were_taken_out_are_missed(lived: Any, tmp_path: Path) -> None:
    """Without them a gateway could go back to a policy that was over: what its messages show has to be there, all of
    it, also where the mark and the sums were made to agree."""
    export(lived.archive, tmp_path / "out")
    mark = json.loads((tmp_path / "out" / "export.json").read_text())
    assert mark["rows"]["uses"] > 1
    lines = (tmp_path / "out" / "uses.jsonl").read_text("utf-8").splitlines(keepends=True)
    archive = Archive.open(tmp_path / "again.db")
    for left in ([], lines[1:]):
        (tmp_path / "out" / "uses.jsonl").write_text("".join(left), "utf-8")
        mark["rows"]["uses"] = len(left)
        (tmp_path / "out" / "export.json").write_text(json.dumps(mark), "utf-8")
        resealed(tmp_path / "out")
        with pytest.raises(TransferError, match=r"^[^\n]*the policies that it is said to have used[^\n]*$"):
            import_export(tmp_path / "out", archive)
        assert archive.row_count("messages") == 0
    archive.close()


def test_a_missing_line_or_file_is_seen(lived: Any, tmp_path: Path) -> None:
    """The mark counts the rows of each table and names the head."""
    export(lived.archive, tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "less")
    text = (tmp_path / "less" / "counters.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "less" / "counters.jsonl").write_text("".join(text[1:]))
    resealed(tmp_path / "less")
    archive = Archive.open(tmp_path / "again.db")
    with pytest.raises(TransferError, match="it is not whole"):
        import_export(tmp_path / "less", archive)
    (tmp_path / "out" / "counters.jsonl").unlink()
    with pytest.raises(TransferError, match="not those of SHA256SUMS"):
        import_export(tmp_path / "out", archive)
    archive.close()


def test_another_version_is_refused(lived: Any, tmp_path: Path) -> None:
    """Nothing is guessed of tables that this version does not know."""
    export(lived.archive, tmp_path / "out")
    mark = json.loads((tmp_path / "out" / "export.json").read_text())
    (tmp_path / "out" / "export.json").write_text(json.dumps({**mark, "schema": mark["schema"] + 1}))
    with pytest.raises(ConfigError, match=r"^[^\n]*another version[^\n]*$"):
        filled(tmp_path / "out", tmp_path / "again.db")


def test_an_export_appears_whole_or_not_at_all(lived: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written over, and what failed leaves nothing."""
    (tmp_path / "there").mkdir()
    for folder, line in (("there", "it is there already"), ("none/out", "there is no such folder")):
        with pytest.raises(ConfigError, match=line):
            export(lived.archive, tmp_path / folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("murmure_ingest.transfer.sync", full)
    with pytest.raises(TransferError, match=r"^[^\n]*No space left on device[^\n]*$"):
        export(lived.archive, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


def test_the_commands_tell_an_export_from_a_stick(
    lived: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ingest import` takes both; a gateway's outbox goes through the intake as before."""
    archive, out = str(lived.config.archive), str(tmp_path / "out")
    assert main(["ingest", "export", "--archive", archive, out]) == 0
    assert f"{out}: 18 messages" in capsys.readouterr().out
    assert is_export(tmp_path / "out")
    (tmp_path / "new.toml").write_text('data_dir = "new"\n')
    new = ["--config", str(tmp_path / "new.toml")]
    assert main(["ingest", "import", out, "--json", *new]) == 0
    assert json.loads(capsys.readouterr().out)["head"] == lived.archive.head().hex()
    assert main(["ingest", "import", out, *new]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / "1.cose").write_bytes(lived.archive.find("gw-a", 1).sealed)
    assert main(["ingest", "import", str(stick), *new]) == 0
    assert "1 files: 1 duplicate" in capsys.readouterr().out
    span = ["--from", "2026-11-23T00:15:00Z", "--to", "2026-11-23T00:45:00Z", "--json"]
    assert main(["ingest", "export", "--archive", archive, str(tmp_path / "span"), *span]) == 0
    assert json.loads(capsys.readouterr().out)["rows"]["messages"] == 4
    assert main(["ingest", "export", "--archive", archive, str(tmp_path / "x"), "--from", "yesterday"]) == 2
    assert "write 2026-11-21T00:00:00Z" in capsys.readouterr().err
