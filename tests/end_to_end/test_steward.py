"""Every command of the steward's handbook runs as it is written, in its order, in both languages.

The centre is a folder and the gateway was enrolled in it, with no broker between them; the same commands with one are
benchmarks/steward_walk.py, which reads them with the same function.
"""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from urllib.request import urlopen

import pytest
from murmure.cli import main
from murmure_ingest.archive import Archive
from murmure_ingest.receipts import centre_key

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"en": ROOT / "privacy" / "README.md", "fr": ROOT / "privacy" / "LISEZMOI.md"}
INGEST = 'data_dir = "data"\n[broker]\nhost = "localhost"\nport = 1883\n[deciding]\nceiling = 3\n[deciding.roles]\n'
ENROL = (
    "gateway enrol --gateway gw-plaza --site plaza --quartier centre --steward steward.key.pub --steward dpo.key.pub "
    "--port name=beam,device=tfluna,path=beam,footfall=plaza/footfall --local gateway --config ingest.toml"
)


@pytest.fixture(scope="module")
def walk() -> ModuleType:
    spec = importlib.util.spec_from_file_location("steward_walk", ROOT / "benchmarks" / "steward_walk.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


class Desk:
    """A steward's terminal in a folder of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def copy(self, *commands: str) -> str:
        """Types commands and returns what they print; each of them does what it is for."""
        self._capsys.readouterr()
        for command in commands:
            program, *words = shlex.split(command)
            assert program == "murmure"
            status = main(words)
            printed = self._capsys.readouterr()
            assert status == 0, f"{command}\n{printed.out}{printed.err}"
            sys.stdout.write(printed.out)
        return self._capsys.readouterr().out


@pytest.mark.parametrize("lang", PAGES)
def test_a_steward_decides_and_proves_by_copying_commands(
    walk: ModuleType, lang: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Look, write, decide, change, remember, prove: as written, and what each is said to do has happened."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", {"en": "en_GB.UTF-8", "fr": "fr_FR.UTF-8"}[lang])
    first = datetime.now(UTC).date() - timedelta(days=1)
    days = walk.dates(first)
    page = walk.replaced(walk.handbook(PAGES[lang]), {"port": 0, **days})
    desk = Desk(capsys)

    ((studio,),) = page["looking"]
    words = [sys.executable, "-m", "murmure.cli", *shlex.split(studio)[1:]]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout
            address = running.stdout.readline().strip()
            with urlopen(address.rpartition("/")[0] + "/lieu", timeout=120) as answer:
                assert "ε" in answer.read().decode()
        finally:
            running.terminate()

    (writing,) = page["writing"]
    said = desk.copy(*writing)
    together = {"en": "1.4474", "fr": "1,4474"}[lang]
    assert f"epsilon {together}" in said and f" {together} (delta" in PAGES[lang].read_text("utf-8")

    keys, deciding, changing = page["deciding"]
    public = desk.copy(*keys).split()
    assert [len(key) for key in public] == [64, 64]
    roles = "".join(f'"{key}" = "{role}"\n' for key, role in zip(public, ("steward", "dpo"), strict=True))
    Path("ingest.toml").write_text(INGEST + roles)
    desk.copy(f"murmure {ENROL}")
    desk.copy(*deciding)
    said = desk.copy(*changing)
    one = {"en": "It needs one signature", "fr": "Il faut une signature"}[lang]
    assert one in said
    archive = Archive.open(Path("data/archive.db"))
    assert [policy.version for policy in archive.policies("plaza")] == [1, 2]

    (prolonging,) = page["year"]
    # One role does not prolong: what the page says of the second signature is so.
    *before, last, publishing = prolonging
    desk.copy(*before)
    assert "--key dpo.key" in last and main(shlex.split(publishing)[1:]) == 1
    desk.copy(last, publishing)

    pausing, history = page["afterwards"]
    said = desk.copy(*pausing)
    assert {"en": "paused; next", "fr": "en pause ; ensuite"}[lang] in said
    assert [policy.version for policy in archive.policies("plaza")] == [1, 2, 3, 4]
    archive.sign_log(centre_key(Path("data")))  # as `ingest run` does, which takes a broker
    archive.close()

    said = desk.copy(*history)
    for decided in (
        "2026-11-03 n° 42  (steward, dpo)",
        "2027-02-09 n° 7  (steward)",
        "2027-10-05 n° 61  (steward, dpo)",
    ):
        assert f"Délibération {decided}" in said

    ((verify,),) = page["proving"]
    Path("city.toml").write_text(walk.CITY.format(zone="Europe/Paris", site="plaza", until=days["until"]), "utf-8")
    desk.copy("murmure site build --archive data/archive.db --city city.toml --out site")
    assert "conforme" in desk.copy(verify).lower()


def test_a_spare_key_signs_for_its_role_and_not_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the page says of the envelope in the safe: with the first key lost it tightens alone, and prolongs with the
    other role; it is no second role beside the first key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", "en_GB.UTF-8")
    first = datetime.now(UTC).date() - timedelta(days=1)
    keys = {"steward": "steward", "dpo": "dpo", "spare": "steward"}
    desk = Desk(capsys)
    public = desk.copy(*(f"murmure policy key --out {name}.key --role {role}" for name, role in keys.items())).split()
    roles = "".join(f'"{key}" = "{role}"\n' for key, role in zip(public, keys.values(), strict=True))
    Path("ingest.toml").write_text(INGEST + roles)
    desk.copy(f"murmure {ENROL} --steward spare.key.pub")

    def publish(version: int, days: int, epsilon: float, *signers: str) -> int:
        after = f"--after {version - 1}.toml" if version > 1 else ""
        text = f"--site plaza --stream footfall --from {first} --until {first + timedelta(days=days)} --decision D"
        desk.copy(f"murmure policy new {text} --epsilon footfall={epsilon} {after} --out {version}.toml")
        desk.copy(*(f"murmure policy sign {version}.toml --key {one}.key --out {version}.cose" for one in signers))
        return main(["policy", "publish", f"{version}.cose", "--config", "ingest.toml"])

    assert publish(1, 364, 1.0, "steward", "dpo") == 0
    assert publish(2, 364, 0.5, "spare") == 0
    assert publish(3, 729, 0.5, "steward", "spare") == 1
    assert "different roles" in capsys.readouterr().err
    desk.copy(
        "murmure policy sign 3.toml --key dpo.key --out 3.cose", "murmure policy publish 3.cose --config ingest.toml"
    )


def test_what_the_page_no_longer_has_is_noticed(walk: ModuleType, tmp_path: Path) -> None:
    """What is replaced stands on both pages; a table that has outlived its page would replace nothing. A part that has
    lost its commands is missed."""
    for path in PAGES.values():
        page = walk.handbook(path)
        by = {"port": 1, **walk.dates(date(2026, 1, 1))}
        assert walk.replaced(page, by)["proving"] == [["murmure verify site"]]
        with pytest.raises(ValueError, match="capteurs"):
            walk.replaced({**page, "proving": [["murmure verify"]]}, by)
        shorter = tmp_path / path.name
        shorter.write_text(path.read_text("utf-8").replace("```sh\nmurmure verify", "```text\nmurmure verify"), "utf-8")
        with pytest.raises(ValueError, match="5 parts with commands instead of 6"):
            walk.handbook(shorter)
