"""`murmure site`: from a real archive on disk to pages, and back to the shell with one line."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from murmure.cli import main
from murmure_dashboards.config import City
from murmure_dashboards.months import STATE  # how far the archive has come: rows of a real one are others
from murmure_dashboards.pdf import Press
from murmure_dashboards.site import render
from murmure_ingest import annotation_cli
from murmure_ingest.archive import Archive, Enrolment, StoredPolicy
from murmure_ingest.receipts import write_secret
from murmure_privacy import wire
from murmure_privacy.release import Message
from murmure_privacy.window import utc

CITY = Path(__file__).parent / "city.toml"
NOW = "2026-11-21T14:15:00Z"
NOW_S = 1_795_270_500
STEWARD = wire.public_key(bytes(range(32)))


@pytest.fixture(scope="session")
def filed(archive: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The town's nodes as gateways would have sent them: sealed messages in a real archive. Nobody is late."""
    path = tmp_path_factory.mktemp("archive") / "archive.db"
    file_all(archive, path, lambda at_s, site: at_s)
    return path


def file_all(archive: Any, path: Path, came_s: Callable[[int, str], int]) -> None:
    """Writes an archive in memory into a real one. `came_s`: when a site's message that closes at an instant came."""
    real = Archive.open(path)
    enrolments: dict[str, Enrolment] = {}
    secrets: dict[str, bytes] = {}
    closings: dict[tuple[int, str], list[Any]] = {}
    for site in dict.fromkeys(info.site for info in archive.streams()):
        infos = [info for info in archive.streams() if info.site == site]
        secrets[site], public = wire.new_key()
        with real.transaction():
            line = Enrolment(infos[0].gateway, infos[0].quartier, site, public, (STEWARD,), 1)
            enrolments[site] = real.enrol(line)
            for policy_hash, text in archive.signed.items():
                if f'site = "{site}"'.encode() in text:
                    sealed = wire.seal_policy(text, [("steward", bytes(range(32)))])
                    real.put_policy(StoredPolicy(policy_hash, site, 7, text, sealed))
        for info in infos:
            for outcome in archive.outcomes(info.stream, 0, 1 << 40):
                closings.setdefault((outcome.node.end_s, site), []).append(outcome)
    sent = dict.fromkeys(enrolments, (0, wire.FIRST_PREVIOUS))
    with real.transaction():
        for (at_s, site), outcomes in sorted(closings.items(), key=lambda one: (came_s(*one[0]), one[0])):
            enrolment, (seq, previous) = enrolments[site], sent[site]
            message = Message(
                gateway=enrolment.gateway,
                quartier=enrolment.quartier,
                site=site,
                boot=1,
                seq=seq + 1,
                previous=previous,
                closing_s=at_s,
                outcomes=tuple(sorted(outcomes, key=lambda outcome: outcome.node.stream)),
            )
            sealed = wire.seal_message(message, secrets[site])
            real.put(message, sealed, enrolment, "filed")
            sent[site] = (seq + 1, wire.digest(sealed))
    real.close()


@pytest.fixture
def unlogged(archive: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns the archive in memory as that in the file is: nobody has signed its log yet."""
    monkeypatch.setattr(archive, "signed_checkpoint", lambda: None)
    return archive


def test_a_real_archive_gives_the_pages_of_its_releases(
    filed: Path, unlogged: Any, city: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sealed, filed, opened and drawn, every file is the one that the releases themselves give."""
    out = tmp_path / "site"
    argv = ["site", "build", "--archive", str(filed), "--city", str(CITY), "--out", str(out), "--now", NOW, "--json"]
    assert main(argv) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["pages"] == len(list(out.resolve().rglob("*.html"))) and report["unlisted"] == []
    direct = dict(render(unlogged, city, NOW_S, press=Press(tmp_path / "site.sheets")))
    assert [path for path, content in direct.items() if (out / path).read_bytes() != content] == [STATE]


def test_a_policy_of_another_timezone_is_named(
    archive: Any, city: City, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its estimates would not be those that residents compute; the operator hears of it. Of the same timezone, also
    where it is written otherwise, nothing is said."""
    sites = ("plaza", "alley")
    policies = {one.site: one.toml for one in archive.policies() if one.site in sites}
    other = b'timezone = "Indian/Reunion"'
    told = {"plaza": policies["plaza"].replace(b'timezone = "Europe/Paris"', other)}
    told["alley"] = policies["alley"].replace(b'timezone = "Europe/Paris"', b"timezone='Europe/Paris'")
    assert all(told[site] != policies[site] for site in sites)
    with closing(Archive.open(tmp_path / "archive.db")) as real, real.transaction():
        for site, text in told.items():
            sealed = wire.seal_policy(text, [("steward", bytes(range(32)))])
            real.put_policy(StoredPolicy(wire.digest(text), site, 7, text, sealed))
    argv = ["--archive", str(tmp_path / "archive.db"), "--city", str(CITY), "--out", str(tmp_path / "site")]
    assert main(["site", "build", *argv, "--now", NOW]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "timezone" in line]
    assert len(lines) == 1 and "Indian/Reunion in the newest policy of 'plaza'" in lines[0]


def test_what_stewards_publish_stands_on_the_next_pages(
    filed: Path, unlogged: Any, city: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written, signed, published and drawn by commands: every file is the one that the signed annotation gives."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(annotation_cli, "_now_s", lambda: NOW_S)
    (tmp_path / "ingest.toml").write_text('data_dir = "centre"\n')
    (tmp_path / "centre").mkdir()
    shutil.copy(filed, tmp_path / "centre" / "archive.db")
    write_secret(tmp_path / "steward.key", bytes(range(32)))
    period = ["--from", "2026-11-21T09:00+01:00", "--to", "2026-11-21T11:00+01:00", "--cause", "works"]
    words = ["--sentence", "Des travaux à côté.", "--sentence-en", "Works nearby."]
    assert main(["annotation", "new", "--stream", "plaza/noise", *period, *words, "--out", "a.cose"]) == 0
    assert main(["annotation", "sign", "a.cose", "--key", "steward.key"]) == 0
    assert main(["annotation", "publish", "a.cose"]) == 0
    argv = ["--archive", "centre/archive.db", "--city", str(CITY), "--out", "site", "--now", NOW]
    assert main(["site", "build", *argv]) == 0
    signed = (tmp_path / "a.cose").read_bytes()
    annotated = unlogged.annotate()
    annotated.notes = [SimpleNamespace(note=wire.open_annotation(signed, [STEWARD], 1), sealed=signed)]
    drawn = dict(render(annotated, city, NOW_S, press=Press(tmp_path / "site.sheets")))
    assert [path for path, content in drawn.items() if (tmp_path / "site" / path).read_bytes() != content] == [STATE]
    assert "Des travaux à côté." in drawn["quartiers/centre/index.html"].decode()
    assert b64encode(signed) in drawn["donnees/annotations.csv"]


def test_the_town_in_memory_answers_as_its_archive_does(filed: Path, archive: Any) -> None:
    """What the tests' archive says of policies, charges and completeness is what a real one says of the same nodes."""
    real = Archive.open(filed, read_only=True)
    try:
        for site in dict.fromkeys(info.site for info in archive.infos):
            held = [[(p.hash, p.site, p.version, p.toml) for p in one.policies(site)] for one in (real, archive)]
            assert held[0] == held[1] != []
            for from_s in (0, NOW_S - 86_400):
                assert sorted(real.charges(site, from_s)) == archive.charges(site, from_s) != []
        for stream, nodes in archive.nodes.items():
            last_s = max(outcome.node.end_s for outcome in nodes)
            for at_s in (last_s - 3 * 86_400, last_s, last_s + 1):
                assert real.complete_until(stream, at_s) == archive.complete_until(stream, at_s) == (at_s <= last_s)
    finally:
        real.close()


def test_without_json_a_person_reads_one_line(filed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where, how many pages, how much; a site without an entry is named on stderr."""
    (tmp_path / "city.toml").write_text(
        CITY.read_text(encoding="utf-8").replace('id = "alley"', 'id = "elsewhere"'), encoding="utf-8"
    )
    shutil.copy(CITY.with_name("quartiers.geojson"), tmp_path)
    argv = ["--archive", str(filed), "--city", str(tmp_path / "city.toml"), "--out", str(tmp_path / "site")]
    assert main(["site", "build", *argv, "--now", NOW]) == 0
    said = capsys.readouterr()
    written = [path for path in (tmp_path / "site").resolve().rglob("*") if path.is_file()]
    pages = sum(path.suffix == ".html" for path in written)
    size = said.out.split(", ")[-1]
    assert said.out == f"{tmp_path / 'site'}: {pages} pages, {len(written)} files, {size}"
    assert said.err == f"murmure: {tmp_path / 'city.toml'}: site: 'alley' has data and no entry; add a [[site]]\n"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("--now", "yesterday"), "murmure: site build: --now: 'yesterday' is no instant; write 2026-11-21T15:15:00Z"),
        (("--city", "none.toml"), "murmure: none.toml: file: No such file or directory; name a city.toml that exists"),
        (("--archive", "none.db"), "murmure: none.db: archive: "),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    filed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], line: str
) -> None:
    """No traceback for an operator's mistake, and nothing written."""
    options = {"--archive": str(filed), "--city": str(CITY), "--out": str(tmp_path / "site"), "--now": NOW}
    options[change[0]] = change[1]
    assert main(["site", "build", *(part for pair in options.items() for part in pair)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(line) and said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_site_is_not_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says what DIR should be."""
    assert main(["site", "serve", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"murmure: {tmp_path}: DIR: holds no site; name the --out of `murmure site build`\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_server_ends_cleanly(site: Path, number: signal.Signals) -> None:
    """It prints its address, serves, and leaves with 0 when it is asked to."""
    argv = [sys.executable, "-m", "murmure.cli", "site", "serve", str(site), "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        address = process.stdout.readline().strip()
        connection = http.client.HTTPConnection(address.removeprefix("http://").rstrip("/"), timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        process.send_signal(number)
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""


def test_limits_that_should_have_been_read_again_warn(
    filed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The day after the review of a limit the build says so in one line, and goes on; the day itself it does not."""
    monkeypatch.setattr(Press, "_started", lambda press: None)  # no sheets: they are not what this is about
    build = ["site", "build", "--archive", str(filed), "--city", str(CITY), "--out", str(tmp_path / "site"), "--now"]
    assert main([*build, "2026-12-12T10:00:00Z"]) == 0
    assert capsys.readouterr().err == ""
    assert main([*build, "2026-12-13T10:00:00Z"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("murmure: thresholds.toml: review: ") and "fr_pm10_limit_1d" in line
    assert line.endswith(": to be read again by 2026-12-12; read, then date anew")


def test_a_day_whose_gateway_was_away_is_dated_by_when_it_came(
    city: City, streets: SimpleNamespace, tmp_path: Path
) -> None:
    """In a real archive: the neighbourhood whose messages came two days late is dated anew, the other is not."""
    street = streets.Street()
    for site, quartier in (("plaza", "centre"), ("station", "gare")):
        streets.add(street, site, streets.week_of(NOW_S), streams=("footfall",), quartier=quartier)
    first = streets.PARIS.day(NOW_S - 6 * 86_400)
    away_s = first.end_s + 48 * 3600
    file_all(street, tmp_path / "archive.db", lambda at_s, site: max(at_s, away_s + 600) if site == "station" else at_s)
    with closing(Archive.open(tmp_path / "archive.db", read_only=True)) as real:
        made = dict(render(real, city, NOW_S))
    for slug, updated in (("centre", utc(first.end_s)), ("gare", utc(away_s - 2700))):
        entries = re.findall(r"<entry>.*?</entry>", made[f"quartiers/{slug}/atom.xml"].decode(), re.DOTALL)
        assert f"<published>{utc(first.end_s)}</published><updated>{updated}</updated>" in entries[-1]
        assert (
            re.findall("<published>(.*?)</published><updated>(.*?)</updated>", entries[0])[0]
            == (utc(streets.PARIS.day(NOW_S).start_s),) * 2
        ), "and what came in time keeps its date"
