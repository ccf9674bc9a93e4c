"""The operators' pages, drawn from a real archive with faults in it."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from murmure_dashboards import operations, unread
from murmure_dashboards.config import City
from murmure_dashboards.operations import draw_once, kept_fresh, require_private
from murmure_dashboards.server import serve
from murmure_dashboards.site import SiteError
from murmure_dashboards.wording import LANGUAGES, language
from murmure_ingest import gateways
from murmure_ingest.archive import Archive, StoredPolicy
from murmure_ingest.archive_watch import Watch
from murmure_ingest.config import IngestConfig
from murmure_ingest.intake import REASONS, Intake
from murmure_ingest.rules import RuleBook
from murmure_privacy import policy as policies
from murmure_privacy import wire
from murmure_privacy.annotation import Annotation
from murmure_privacy.release import Health, Message, Outcome
from murmure_privacy.wire import CLOCK_STATES, PORT_STATES

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ALERTS = Path(__file__).parents[2] / "ingest" / "prometheus" / "alerts.yml"
INDEX, SITE = "exploitation/", "exploitation/station/"
EVERY = [INDEX, SITE, f"en/{INDEX}", f"en/{SITE}"]
MOST_OCTETS, MOST_REQUESTS = 30_000, 3


@dataclass
class Speaker:
    """A gateway that seals what a street brings, closing instant by closing instant."""

    name: str
    quartier: str
    site: str
    secret: bytes

    def messages(self, outcomes: list[Outcome]) -> list[bytes]:
        closing: dict[int, list[Outcome]] = {}
        for outcome in outcomes:
            closing.setdefault(outcome.node.end_s, []).append(outcome)
        sealed: list[bytes] = []
        for end_s, members in sorted(closing.items()):
            previous = wire.digest(sealed[-1]) if sealed else wire.FIRST_PREVIOUS
            message = Message(self.name, self.quartier, self.site, 1, len(sealed) + 1, previous, end_s, tuple(members))
            sealed.append(wire.seal_message(message, self.secret))
        return sealed

    def health(self, at_s: int, **changes: Any) -> bytes:
        ports = (("beam", "ok"), ("dust", "ok"), ("meter", "ok"))
        report = Health(self.name, self.quartier, at_s, 86400, 3, "murmure 0.1", ports, 0, "ok", 25, 4096)
        return wire.seal_health(replace(report, **changes), self.secret)

    def topic(self, kind: str = "release") -> str:
        return f"murmure/v1/{self.quartier}/{self.name}/{kind}"


@pytest.fixture(scope="session")
def fleet(streets: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of the town: plaza is well, station silent for two hours with a broken port, alley lacks a message
    and was cloned, and a stranger has written rubbish."""
    folder = tmp_path_factory.mktemp("fleet")
    config = IngestConfig(data_dir=folder)
    archive = Archive.open(config.archive)
    steward, public = wire.new_key()
    intake = Intake(archive, RuleBook(archive), lambda: 1 << 40)
    town, now_s = streets.town(), streets.NOW_S
    for text in town.signed.values():
        site = re.search(rb'site = "(\w+)"', text)
        assert site
        name = site[1].decode()
        quartier = next(info.quartier for info in town.infos if info.site == name)
        sealed = wire.seal_policy(text, [("s", steward)])
        gateways.enrol_local(
            archive,
            config,
            folder / name,
            gateway=f"gw-{name}",
            site=name,
            quartier=quartier,
            stewards=[public],
            policies=[sealed],
        )
        speaker = Speaker(
            f"gw-{name}", quartier, name, bytes.fromhex((folder / name / "data" / "record.key").read_text())
        )
        until_s = now_s - (7200 if name == "station" else 0)
        outcomes = [o for info in town.infos if info.site == name for o in town.outcomes(info.stream, 0, until_s)]
        messages = speaker.messages([o for o in outcomes if o.node.end_s <= until_s])
        if name == "alley":
            twin = speaker.messages(outcomes[1:2])[0]
            del messages[40]
            messages.append(twin)
        intake.accept_many([(speaker.topic(), sealed) for sealed in messages])
        changes: dict[str, Any] = {"at_s": now_s - 900}
        if name == "station":
            ports = (("beam", "ok"), ("dust", "stalled"), ("meter", "ok"))
            changes = {"at_s": until_s, "ports": ports, "outbox_depth": 12, "log": 1000}
        if name == "alley":
            changes |= {"clock": "unsynced", "log": 2}
        intake.accept(speaker.topic("health"), speaker.health(**changes))
    intake.accept_many([("murmure/v1/x/gw-nobody/release", b"rubbish")] * 37)
    gateways.enrol_local(
        archive, config, folder / "old", gateway="gw-old", site="plaza", quartier="centre", stewards=[public]
    )
    gateways.revoke(archive, "gw-old")
    archive.close()
    return config.archive


@pytest.fixture(scope="session")
def drawn(fleet: Path, city: City, streets: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("operations") / "operations"
    assert draw_once(fleet, city, out, streets.NOW_S) == 8
    return out


def text_of(drawn: Path, path: str) -> str:
    html = (drawn / path / "index.html").read_text("utf-8")
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).replace("\u00a0", " ").replace("\u202f", " ")


def test_what_is_wrong_stands_first_with_its_gesture(drawn: Path) -> None:
    """Clone, silence, port, clock, hole: a sentence each; who is well is not in the list."""
    told = text_of(drawn, INDEX)
    look = told[told.index("À regarder") : told.index("Passerelles Ce que")]
    assert "gw-alley (Passage des Tanneurs) : deux cartes parlent avec sa clé" in look
    assert "gw-station (Parvis de la gare) : silence depuis 2 h. Vérifier l’alimentation" in look
    assert "port dust : muet" in look and "horloge pas réglée" in look
    assert "messages manquants avant le dernier reçu : 1" in look
    assert "1 passerelle connaît un journal plus long que celui du centre" in look
    assert "gw-plaza" not in look and "gw-old" not in look


def test_the_fleet_is_told_gateway_by_gateway(drawn: Path) -> None:
    """Heard, state, outbox, ports, settled, missing; what is wrong first, a revoked one without alarm."""
    html = (drawn / INDEX / "index.html").read_text("utf-8")
    rows = re.findall(r'<tr><th scope="row">(gw-\w+)</th>(.*?)</tr>', html)
    assert [name for name, _ in rows] == ["gw-alley", "gw-station", "gw-plaza", "gw-old"]
    cells = {name: re.sub(r"<[^>]+>", "|", row) for name, row in rows}
    assert "en quarantaine" in cells["gw-alley"] and "silencieuse" in cells["gw-station"]
    assert "12, de 2\u00a0h au plus" in cells["gw-station"].replace("2 h", "2\u00a0h")
    assert "en service" in cells["gw-plaza"] and "révoquée" in cells["gw-old"]
    assert 'class="trouble"' not in dict(rows)["gw-plaza"] + dict(rows)["gw-old"]
    assert "il y a 0\u00a0min" in cells["gw-plaza"].replace(" min", "\u00a0min")


def test_spending_stands_beside_its_budget(drawn: Path) -> None:
    """Each stream has its bar, and none passes its budget."""
    html = (drawn / INDEX / "index.html").read_text("utf-8")
    shares = [float(value) for value in re.findall(r'<meter min="0" max="1" value="([0-9.]+)"', html)]
    assert len(shares) == 9 and all(0 <= share <= 1 for share in shares) and max(shares) > 0.9


def test_refusals_come_with_their_mend(drawn: Path) -> None:
    """By reason, the most frequent first, with what it means and what to do."""
    for path, mend in ((INDEX, "Rien ;"), (f"en/{INDEX}", "Nothing;")):
        told = text_of(drawn, path)
        assert re.search(rf"(malformed|not_canonical) 37 [^.]+\. {mend}", told)


def test_series_of_a_site_have_their_band(drawn: Path) -> None:
    """A chart of seven days a stream with its interval, as on the public pages, and the gap that is there."""
    html = (drawn / SITE / "index.html").read_text("utf-8")
    assert html.count('class="band"') == 3 and html.count("<h3>") == 3 and 'class="gap"' in html


def test_a_faulty_period_is_marked_for_operators_too(
    fleet: Path, city: City, streets: Any, tmp_path: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a steward has marked is said beside the series of its site, and of no other."""
    at_s = streets.NOW_S - streets.NOW_S % 3600
    mark = Annotation("plaza", 1, at_s, "Échafaudage.", "plaza/footfall", at_s - 7200, at_s - 3600, "obstructed")
    monkeypatch.setattr(Archive, "annotations", lambda _: [SimpleNamespace(note=mark)])
    draw_once(fleet, city, tmp_path / "marked", streets.NOW_S)
    plaza = SITE.replace("station", "plaza")
    assert "capteur masqué" in text_of(tmp_path / "marked", plaza)
    assert "capteur masqué" not in text_of(drawn, plaza) + text_of(tmp_path / "marked", SITE)


def test_a_series_that_policies_left_out_is_told_as_that(fleet: Path, city: City, streets: Any, tmp_path: Path) -> None:
    """With the rule and its decision, and not as one that its gateway does not send any more."""
    here, now_s = tmp_path / "archive.db", streets.NOW_S + 3 * 86_400
    shutil.copy(fleet, here)
    archive = Archive.open(here)
    text = next(one.toml for one in archive.policies("plaza"))
    block = re.search(rb'(?s)\[\[stream\]\]\nid = "plaza/noise".*?\n\n', text)
    assert block is not None
    newer = text.replace(block[0], b"").replace(b"version = 7", b"version = 8").replace(b"2026-01-01", b"2026-11-22")
    sealed = wire.seal_policy(newer, [("s", wire.new_key()[0])])
    with archive.transaction():
        archive.put_policy(StoredPolicy(policies.parse(newer, "t").hash, "plaza", 8, newer, sealed))
    archive.close()
    draw_once(here, city, tmp_path / "o", now_s)
    page = text_of(tmp_path / "o", SITE.replace("station", "plaza"))
    assert "La ville ne publie plus cette mesure. Règle 8, à partir du 22 novembre 2026" in page
    assert "lundi 23 Publication arrêtée" in page
    assert page.count("Pas de chiffre, sam. 21, 15 h – 24 h : aucun") == 1, (
        "the day before it is missing until midnight"
    )


def test_every_state_and_reason_has_its_words() -> None:
    """Whatever a gateway reports and intake refuses, both languages can tell it."""
    for code in LANGUAGES:
        say = language(code)
        for state in PORT_STATES:
            assert say(f"operations.port_{state}")
        for state in CLOCK_STATES:
            assert say(f"operations.clock_{state}")
        for reason in REASONS:
            assert say(f"refused.{reason}") and say(f"refused.{reason}_mend")


def test_pages_and_alerts_agree_on_what_is_wrong() -> None:
    """The limits of the page are those of the rules."""
    rules = ALERTS.read_text("utf-8")
    for expression in (
        f"murmure_gateway_heard_timestamp_seconds > {operations.SILENT_S}",
        f"murmure_stream_late_seconds > {operations.LATE_S}",
        f"murmure_gateway_outbox_age_seconds > {operations.OLD_OUTBOX_S}",
        f"murmure_gateway_outbox_messages > {operations.OLD_OUTBOX_MESSAGES}",
        f"changes(murmure_gateway_uptime_seconds[{unread.AFTER_S // 86400}d]) > {unread.REPORTS - 1}",
        f"murmure_stream_cap_spent_ratio > {operations.FULL_TANK}",
        f"murmure_site_policy_end_timestamp_seconds < time() + {operations.ENDING_DAYS} * 86400",
        f'state!~"{"|".join(operations.SOUND_PORTS)}"',
    ):
        assert expression in rules, expression


def test_pages_are_as_light_as_the_public_ones(drawn: Path) -> None:
    """30 KB compressed and three files each."""
    for path in EVERY:
        html = (drawn / path / "index.html").read_bytes()
        sent = [html, *((drawn / "static" / name).read_bytes() for name in ("murmure.css", "operations.css"))]
        assert sum(len(gzip.compress(one)) for one in sent) < MOST_OCTETS, path
        assert len(re.findall(rb'<link rel="(?:stylesheet|icon)"', html)) <= MOST_REQUESTS
        assert b"<script" not in html and b"http" not in html.replace(b"http-equiv", b"")


def test_html_validate_finds_nothing(drawn: Path, tmp_path: Path) -> None:
    """No rule that its authors recommend is broken, in either language; a copy with a fault is refused by name."""
    judges = Path(sys.prefix) / "pages-judges" / "node_modules"
    assert judges.is_dir(), "no pages-judges in the environment: make install"
    pages = sorted(drawn.resolve().rglob("*.html"))
    assert len(pages) == 8
    old, new = '<section class="wide" tabindex', '<div class="wide" role="region" tabindex'
    text = (drawn / INDEX / "index.html").read_text("utf-8")
    assert text.count(old) >= 3
    twin = tmp_path / "twin.html"
    twin.write_text(text.replace(old, new).replace("</table>\n</section>", "</table>\n</div>"), "utf-8")
    node = (f"{sys.prefix}/bin/node", f"{judges}/html-validate/bin/html-validate.mjs")
    command = [*node, "--config", f"{Path(__file__).parent}/html-validate.mjs", "--formatter", "json"]
    with (tmp_path / "said").open("w+", encoding="utf-8") as out:
        subprocess.run([*command, *map(str, pages), str(twin)], stdout=out, timeout=600, check=False)
        out.seek(0)
        said = json.load(out)
    found = {one["filePath"]: {message["ruleId"] for message in one["messages"]} for one in said}
    assert {path: rules for path, rules in found.items() if rules} == {str(twin): {"prefer-native-element"}}


def test_a_large_fleet_is_cut_with_a_word(
    fleet: Path, city: City, streets: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    """Beyond what a table holds the page says how many there are; what is wrong is what stays."""
    monkeypatch.setattr(operations, "MOST_ROWS", 2)
    monkeypatch.setattr(operations, "MOST_LOOKS", 1)
    draw_once(fleet, city, tmp_path / "o", streets.NOW_S)
    told = text_of(tmp_path / "o", INDEX)
    assert "2 lignes sur 4." in told and "gw-station" in told and "gw-plaza" not in told
    assert re.search(r"Et \d autres, dans les tableaux", told)


def test_a_healthy_town_has_nothing_to_look_at(
    city: City, streets: Any, tmp_path: Path, fleet: Path, monkeypatch: Any
) -> None:
    """Without faults the list says so."""
    archive = Archive.open(fleet, read_only=True)
    seen = Watch(archive).look(streets.NOW_S)
    archive.close()
    well = tuple(one for one in seen.gateways if one.gateway == "gw-plaza")
    healthy = replace(seen, gateways=well, streams=tuple(s for s in seen.streams if s.site == "plaza"), refused={})
    monkeypatch.setattr(Watch, "look", lambda self, now_s: healthy)
    archive = Archive.open(fleet, read_only=True)
    monkeypatch.setattr(archive, "streams", list)
    pages = dict(operations.render(archive, Watch(archive), city, streets.NOW_S))
    archive.close()
    index = pages[f"{INDEX}index.html"].decode()
    assert "Rien à signaler." in index and "Rien n’a été refusé." in index


@pytest.mark.parametrize(
    ("left_s", "told"),
    [
        (30 * 86400, None),
        (
            30 * 86400 - 1,
            r"République\s: la politique s.arrête après le \w+ \d+ \w+ 2026, et aucune ne la suit",
        ),
        (0, r"République\s: la politique s.est arrêtée après le \w+ \d+ \w+ 2026, plus rien n.est publié"),
    ],
)
def test_the_end_of_a_policy_is_told_thirty_days_before(
    city: City, streets: Any, fleet: Path, monkeypatch: Any, left_s: int, told: str | None
) -> None:
    """With its last day, and after it that nothing is published; before, not a word."""
    archive = Archive.open(fleet, read_only=True)
    watch = Watch(archive)
    seen = replace(watch.look(streets.NOW_S), policy_ends={"plaza": streets.NOW_S + left_s})
    monkeypatch.setattr(watch, "look", lambda now_s: seen)
    index = dict(operations.render(archive, watch, city, streets.NOW_S))[f"{INDEX}index.html"].decode()
    archive.close()
    assert re.search(told, index) if told else not re.search(r"République\s: la politique", index)


def test_who_reads_no_receipt_is_named_by_the_next_command_too(
    city: City, streets: Any, fleet: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """What one look has seen, the next one knows, in whatever process: a message and two reports later, and a day after
    its receipt, a gateway that knows no more than before is named with its gesture, and stands before the others."""
    real = Watch.look

    def look(self: Watch, now_s: int) -> Any:
        seen, past_s = real(self, streets.NOW_S), now_s - streets.NOW_S
        one = next(one for one in seen.gateways if one.gateway == "gw-plaza")
        assert one.health is not None and one.newest_end_s is not None
        report = replace(one.health, at_s=now_s, log=seen.log_entries - 1)
        other = replace(one, heard_s=now_s, newest_end_s=one.newest_end_s + past_s, health=report)
        well = replace(other, gateway="gw-a", health=replace(report, log=seen.log_entries))
        streams = tuple(replace(stream, due_s=None) for stream in seen.streams)
        return replace(seen, now_s=now_s, gateways=(well, other), streams=streams, policy_ends={})

    monkeypatch.setattr(Watch, "look", look)
    out = tmp_path / "operations"
    for hours in (0, 1, 2, 24):
        draw_once(fleet, city, out, streets.NOW_S + hours * 3600)
        assert "aucun" not in text_of(out, INDEX).partition("Passerelles")[0], hours
    draw_once(fleet, city, out, streets.NOW_S + 25 * 3600)
    french, english = text_of(out, INDEX), text_of(out, f"en/{INDEX}")
    assert "gw-plaza (Place de la République) : ses accusés ne l’atteignent pas, ou elle n’en croit aucun." in french
    assert "gw-plaza (Place de la République): its receipts do not reach it, or it believes none." in english
    assert "gw-a (" not in french and french.count("murmure edge forget") == 1
    rows = re.findall(r'<tr><th scope="row">(gw-\w+)</th>', (out / INDEX / "index.html").read_text("utf-8"))
    assert rows == ["gw-plaza", "gw-a"]
    (tmp_path / "operations.receipts").unlink()
    draw_once(fleet, city, out, streets.NOW_S + 26 * 3600)
    assert "murmure edge forget" not in text_of(out, INDEX)


def test_it_is_never_written_where_the_public_reads(site: Path, fleet: Path, city: City, streets: Any) -> None:
    """Neither over a public site nor inside it, by its link or by its folder."""
    for out in (site, site / "exploitation", site / "a" / "b", site.resolve() / "exploitation"):
        with pytest.raises(SiteError, match="public site"):
            draw_once(fleet, city, out, streets.NOW_S)
    assert (site / "index.html").is_file() and not (site / "exploitation").exists()
    require_private(site.parent / "operations")


def test_it_is_kept_fresh_and_served(
    fleet: Path, city: City, streets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is served the page is drawn again with the present instant, by itself."""
    monkeypatch.setattr(operations, "FRESH_S", 0.05)
    instants = iter(range(streets.NOW_S, streets.NOW_S + 10**6, 60))
    out = tmp_path / "operations"

    def written() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/{INDEX}", timeout=20) as answer:
            return str(re.findall(r"État du ([^.]+)\.", answer.read().decode())[0])

    with kept_fresh(fleet, city, out, lambda: next(instants), lambda _: None), serve(out, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        first = written()
        for _ in range(400):
            if written() != first:
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the page stood still")
        server.shutdown()
        thread.join()


def test_a_restored_archive_is_followed(
    fleet: Path, city: City, streets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file under the same name, as a restore leaves it, is what the next page is drawn from."""
    monkeypatch.setattr(operations, "FRESH_S", 0.02)
    here, empty = tmp_path / "archive.db", tmp_path / "empty.db"
    shutil.copy(fleet, here)
    Archive.open(empty).close()
    index = tmp_path / "o" / INDEX / "index.html"
    with kept_fresh(here, city, tmp_path / "o", lambda: streets.NOW_S, lambda _: None):
        assert "gw-station" in index.read_text("utf-8")
        time.sleep(0.5)  # the thread has the first file open by now, or opens the second one at once
        empty.replace(here)
        for _ in range(400):
            if "gw-station" not in index.read_text("utf-8"):
                return
            time.sleep(0.05)
    raise AssertionError("the page is still drawn from the file that was put aside")


def test_an_archive_that_goes_away_is_said_once(
    fleet: Path, city: City, streets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page stays as it was, one line is said, and drawing goes on when it can."""
    monkeypatch.setattr(operations, "FRESH_S", 0.02)
    said: list[str] = []
    calls: list[int] = []
    real = operations.build

    def failing(*args: Any) -> int:
        calls.append(1)
        if 1 < len(calls) < 5:
            raise OSError("the disk is away")
        return real(*args)

    monkeypatch.setattr(operations, "build", failing)
    with kept_fresh(fleet, city, tmp_path / "o", lambda: streets.NOW_S, said.append):
        for _ in range(600):
            if len(calls) > 5:
                break
            time.sleep(0.05)
    assert len(calls) > 5
    assert said == ["the operators' page stays as it was: the disk is away"]


def test_the_command_serves_the_page_until_stopped(fleet: Path, tmp_path: Path) -> None:
    """It says where, answers there, and ends with 0; what is contradictory is one line and 2, a public place 1."""
    city_toml = str(Path(__file__).parent / "city.toml")
    words = ["site", "operations", "--archive", str(fleet), "--city", city_toml, "--out", str(tmp_path / "o")]
    command = [sys.executable, "-m", "murmure.cli", *words]
    with subprocess.Popen([*command, "--serve", "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        where = process.stdout.readline().strip()
        with urllib.request.urlopen(where, timeout=30) as answer:
            page = answer.read().decode()
        process.terminate()
        assert process.wait(30) == 0
    assert where.endswith("/exploitation/") and "gw-station" in page
    (tmp_path / "donnees").mkdir()
    (tmp_path / "index.html").touch()
    for more, status, told in (
        (["--serve", "--now", "2026-11-21T14:15:00Z"], 2, "murmure: site operations: --now:"),
        ([], 1, "is the public site"),
    ):
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr.count("\n")) == (status, 1) and told in done.stderr


@pytest.fixture(scope="session")
def drawn_address(drawn: Path) -> Iterator[str]:
    with serve(drawn, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def opened(browser: Browser, drawn_address: str) -> Iterator[Callable[..., Any]]:
    found: list[Any] = []

    def opening(path: str, width: int = 1280, **settings: Any) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 800}, **settings)
        found.append(page)
        page.goto(f"{drawn_address}/{path}")
        return page

    yield opening
    for page in found:
        page.context.close()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("path", "scheme"), [(INDEX, "light"), (INDEX, "dark"), (SITE, "light"), (f"en/{INDEX}", "light")]
)
def test_axe_finds_nothing(opened: Any, path: str, scheme: str) -> None:
    """No violation of WCAG 2.2 AA that axe knows, in both themes."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(opened(path, color_scheme=scheme, bypass_csp=True))
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.browser
@pytest.mark.parametrize("path", EVERY)
def test_a_phone_scrolls_tables_not_the_page(opened: Any, path: str) -> None:
    """At 320 px nothing but the boxes of tables is wider than the screen, and a keyboard reaches them."""
    page = opened(path, width=320)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert page.evaluate("[...document.querySelectorAll('.wide')].every(e => e.tabIndex === 0)")
    heads = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])")
    assert heads.count(1) == 1 and all(after <= before + 1 for before, after in pairwise(heads))


@pytest.mark.browser
def test_print_shows_whole_tables(opened: Any) -> None:
    """On paper no table is cut at the edge of its box."""
    page = opened(INDEX, width=720)
    page.emulate_media(media="print")
    cut = "[...document.querySelectorAll('.wide')].filter(e => getComputedStyle(e).overflowX !== 'visible').length"
    assert page.evaluate(cut) == 0
