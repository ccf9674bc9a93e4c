"""Who may loosen: roles and ceilings of ingest.toml, what an enrolment pins of them, and what the centre publishes."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from murmure.cli import main
from murmure_edge import config as edge
from murmure_edge.inbox import Refused, decide_policy
from murmure_ingest import config, enrolment, gateways
from murmure_ingest.archive import Archive
from murmure_ingest.config import DecidingConfig
from murmure_ingest.gateways import Pinned, RegisterError, require_roles
from murmure_privacy import wire
from murmure_privacy.accountant import rho_micro
from murmure_privacy.decide import FLOOR, Accept, Ceiling, Docket, HoldUntil, Signed, Verdict, hear
from murmure_privacy.errors import ConfigError
from murmure_privacy.plan import plan
from murmure_privacy.policy import parse

Murmure = Callable[..., tuple[int, str, str]]


@pytest.fixture
def murmure(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Murmure:
    """Runs one command in the test's folder, whose centre knows a steward and a data protection officer."""
    monkeypatch.setenv("LC_ALL", "en_GB.UTF-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("murmure_ingest.enrolment.utc_now", lambda: datetime(2026, 11, 3, 9, tzinfo=UTC))
    settings = Path("ingest.toml")
    settings.write_text('data_dir = "centre"\n[deciding]\nceiling = 3.0\nceilings = { gare = 1 }\n[deciding.roles]\n')

    def run(line: str) -> tuple[int, str, str]:
        status = main(line.split())
        return status, *capsys.readouterr()

    for role in ("steward", "dpo"):
        status, public, said = run(f"policy key --out {role}.key --role {role}")
        line = f'"{public.strip()}" = "{role}"\n'
        assert status == 0 and said == f"in ingest.toml, under [deciding.roles]: {line}"
        settings.write_text(settings.read_text() + line)
    return run


ENROL = "gateway enrol --local {site} --gateway gw-{site} --site {site} --quartier centre {keys}"
KEYS = "--steward steward.key.pub --steward dpo.key.pub"


def signed(murmure: Murmure, text: bytes, name: str, *roles: str) -> str:
    """Signs a policy by these roles; returns the file."""
    Path(f"{name}.toml").write_bytes(text)
    for role in roles:
        assert murmure(f"policy sign {name}.toml --key {role}.key --out {name}.cose")[0] == 0
    return f"{name}.cose"


def test_roles_and_ceiling_are_pinned_at_the_enrolment(murmure: Murmure) -> None:
    """The gateway reads them in its own trust.toml, and what is written into ingest.toml afterwards changes nothing."""
    for site, epsilon in (("plaza", 3), ("gare", 1)):
        assert murmure(ENROL.format(site=site, keys=KEYS))[0] == 0
        trust = edge.load_trust(edge.load(Path(site) / "gateway.toml"))
        assert trust.ceiling == Ceiling(rho_micro(Decimal(epsilon), Decimal("1e-6")), 1, 2, policy_version=0)
        assert [trust.roles_of([key]) for key in trust.stewards] == [{"steward"}, {"dpo"}]
        entry = logged(site)
        assert (entry["roles"], entry["ceiling_rho_micro"]) == (
            ["steward", "dpo"],
            rho_micro(Decimal(epsilon), Decimal("1e-6")),
        )


def logged(site: str) -> dict[str, Any]:
    """Returns what the log says of the last gateway of a site."""
    with closing(Archive.open(Path("centre/archive.db"))) as archive:
        entries: list[dict[str, Any]] = [json.loads(entry) for entry in archive.log_entries()]
    return [entry for entry in entries if entry["kind"] == "enrolment" and entry["site"] == site][-1]


def test_a_gateway_begins_with_no_policy_that_was_old_when_it_was_enrolled(murmure: Murmure, policy_text: Any) -> None:
    """The second gateway of a site learns which one is the newest from who enrols it, not from the network."""
    assert murmure(ENROL.format(site="plaza", keys=KEYS))[0] == 0
    assert edge.load_trust(edge.load(Path("plaza/gateway.toml"))).policy_version == 0
    text = signed(murmure, policy_text("plaza", 4), "four", "steward", "dpo")
    status, out, _ = murmure(f"policy publish {text}")
    assert status == 0 and "it is no version 1: gateways let it hold 7 days" in out
    line = ENROL.format(site="plaza", keys=KEYS).replace("gw-plaza", "gw-two").replace("--local plaza", "--local two")
    assert murmure(line)[0] == 0
    assert edge.load_trust(edge.load(Path("two/gateway.toml"))).policy_version == 4
    line = ENROL.format(site="market", keys=KEYS)
    text = signed(murmure, policy_text("market", 6), "six", "steward", "dpo")
    assert murmure(f"{line} --policy {text}")[0] == 0  # filed with the enrolment: it holds at once
    assert edge.load_trust(edge.load(Path("market/gateway.toml"))).policy_version == 6


def enrolled_in_a_notice(murmure: Murmure, policy_text: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Returns the statuses of enrolments at a site: while nothing but a tightening was published; a second before the
    notice of a loosening, that a tightening of it follows, is over; and then."""

    def enrol(name: str, seconds: int) -> int:
        now = datetime.fromtimestamp(datetime(2026, 11, 3, 9, tzinfo=UTC).timestamp() + seconds, UTC)
        monkeypatch.setattr("murmure_ingest.enrolment.utc_now", lambda: now)
        line = f"gateway enrol --local {name} --gateway gw-{name} --site plaza --quartier centre {KEYS}"
        status, _, error = murmure(line)
        assert status == 0 or "knows this id" in error or "in its notice until 2026-11-10T09:00:00Z" in error
        return status

    assert enrol("first", 0) == 0
    for version, epsilon in ((1, "1"), (2, "0.5")):
        text = policy_text("plaza", version, epsilon=epsilon)
        assert murmure(f"policy publish {signed(murmure, text, f'v{version}', 'steward', 'dpo')}")[0] == 0
    found = [enrol("second", 0)]
    for version, epsilon in ((3, "0.9"), (4, "0.8")):
        text = policy_text("plaza", version, epsilon=epsilon)
        assert murmure(f"policy publish {signed(murmure, text, f'v{version}', 'steward', 'dpo')}")[0] == 0
    return [*found, enrol("third", 7 * 86_400 - 1), enrol("third", 7 * 86_400)]


def test_no_gateway_is_enrolled_into_a_notice(
    murmure: Murmure, policy_text: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take the looser policy at once, as its first."""
    assert enrolled_in_a_notice(murmure, policy_text, monkeypatch) == [0, 1, 0]


def test_a_centre_that_enrols_into_a_notice_is_caught(
    murmure: Murmure, policy_text: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin does not ask what was published when."""
    monkeypatch.setattr(gateways, "notice_until_s", lambda *_: 0)
    assert enrolled_in_a_notice(murmure, policy_text, monkeypatch) == [0, 0, 1]


ANOTHER = f"gateway enrol --local two --gateway gw-two --site plaza --quartier centre {KEYS}"


def tightened_by_one(murmure: Murmure, policy_text: Any) -> str:
    """Publishes version 1, signed by both, and version 2, tighter and signed by the steward alone. Returns what the
    second said."""
    assert murmure(ENROL.format(site="plaza", keys=KEYS))[0] == 0
    one = signed(murmure, policy_text("plaza"), "one", "steward", "dpo")
    assert murmure(f"policy publish {one}")[0] == 0
    status, said, _ = murmure(
        f"policy publish {signed(murmure, policy_text('plaza', 2, epsilon='0.5'), 'two', 'steward')}"
    )
    assert status == 0
    return said


def first_word(folder: str, *names: str) -> list[Verdict | Refused]:
    """Returns what a gateway, that has seen nothing, makes of each policy."""
    trust = edge.load_trust(edge.load(Path(folder) / "gateway.toml"))
    assert trust.ceiling is not None
    found: list[Verdict | Refused] = []
    for name in names:
        sealed = Path(f"{name}.cose").read_bytes()
        word = decide_policy(sealed, trust, None, trust.policy_version)
        if isinstance(word, Refused):
            found.append(word)
            continue
        keys = wire.policy_signers(sealed, trust.stewards)
        made = plan(parse(wire.policy_bytes(sealed), name))
        heard = Signed(made, len(keys), trust.roles_of(keys))
        found.append(hear(Docket(), heard, trust.ceiling, FLOOR, 0)[1])
    return found


def test_no_gateway_is_enrolled_to_a_policy_that_it_would_refuse(murmure: Murmure, policy_text: Any) -> None:
    """The newest tightens and is signed by one role, which is no first policy; a signature that is added later is not
    taken for one that was published; the next version, signed by both, lets the gateway begin at once."""
    assert "if it has no policy yet, this one is not taken (roles: " in tightened_by_one(murmure, policy_text)
    status, _, error = murmure(ANOTHER)
    assert status == 1 and "would refuse version 2, the newest, as its first policy (roles: " in error
    assert error.endswith("publish version = 3 that it would take, and enrol it then\n") and not Path("two").exists()
    assert murmure("policy sign two.toml --key dpo.key --out two.cose")[0] == 0
    status, said, error = murmure("policy publish two.cose")
    assert status == 1 and said == "" and "write version = 3 and let all of them sign that" in error
    assert murmure(ANOTHER)[0] == 1
    three = signed(murmure, policy_text("plaza", 3, epsilon="0.5"), "three", "steward", "dpo")
    assert murmure(f"policy publish {three}")[0] == 0 and murmure(ANOTHER)[0] == 0
    (word,) = first_word("two", "three")
    assert word == Accept()


def test_a_centre_that_enrols_whoever_asks_is_caught(
    murmure: Murmure, policy_text: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin does not ask: its gateway believes neither the old policy nor the newest."""
    tightened_by_one(murmure, policy_text)
    monkeypatch.setattr(gateways, "first_refused", lambda *_: None)
    assert murmure(ANOTHER)[0] == 0
    assert [word.reason for word in first_word("two", "one", "two")] == ["old_policy", "roles"]  # type: ignore[union-attr]


def test_where_nobody_could_publish_the_next_version_a_gateway_is_enrolled_and_told(
    murmure: Murmure, policy_text: Any
) -> None:
    """A policy needs a gateway that serves its site."""
    tightened_by_one(murmure, policy_text)
    assert murmure("gateway revoke gw-plaza")[0] == 0
    status, _, error = murmure(ANOTHER)
    assert status == 0 and error.endswith(
        "publish version = 3 that it would take: it holds there seven days after it came\n"
    )


def test_a_policy_given_with_the_enrolment_is_judged_before_anything_is_written(
    murmure: Murmure, policy_text: Any
) -> None:
    """One of another site, one above the ceiling, and a first one of one role: no folder, no line, no policy."""
    line = ENROL.format(site="market", keys=KEYS)
    for text, name, roles, why in (
        (policy_text("plaza", 6), "other", ("steward", "dpo"), "--policy: it is for 'plaza', not 'market'"),
        (policy_text("market", 7, epsilon="9"), "high", ("steward", "dpo"), "ceiling: gw-market would not believe it"),
        (policy_text("market", 7), "alone", ("steward",), "roles: gw-market would not believe it"),
    ):
        status, _, error = murmure(f"{line} --policy {signed(murmure, text, name, *roles)}")
        assert status != 0 and why in error and error.count("\n") == 1 and not Path("market").exists()
    with closing(Archive.open(Path("centre/archive.db"))) as archive:
        assert (archive.enrolments(), archive.policies(), list(archive.log_rows())) == ([], [], [])
    one = signed(murmure, policy_text("market"), "one", "steward", "dpo")
    assert murmure(f"{line} --policy {one}")[0] == 0 and first_word("market", "one") == [Accept()]


def test_a_tightening_of_one_role_given_with_the_enrolment_is_no_first_policy(
    murmure: Murmure, policy_text: Any
) -> None:
    """The other gateway would take it; this one begins with it, and would not."""
    assert murmure(ENROL.format(site="plaza", keys=KEYS))[0] == 0
    one = signed(murmure, policy_text("plaza"), "one", "steward", "dpo")
    assert murmure(f"policy publish {one}")[0] == 0
    two = signed(murmure, policy_text("plaza", 2, epsilon="0.5"), "two", "steward")
    status, _, error = murmure(f"{ANOTHER} --policy {two}")
    assert status == 1 and "publish version = 3 that it would take" in error and not Path("two").exists()
    with closing(Archive.open(Path("centre/archive.db"))) as archive:
        assert archive.newest_version("plaza") == 1


def test_a_loosening_given_with_the_enrolment_waits_like_any(murmure: Murmure, policy_text: Any) -> None:
    """The site has a policy: what comes with the gateway is no older than its enrolment, and is in its notice."""
    assert murmure(ENROL.format(site="plaza", keys=KEYS))[0] == 0
    one = signed(murmure, policy_text("plaza", epsilon="0.5"), "one", "steward", "dpo")
    assert murmure(f"policy publish {one}")[0] == 0
    seven = signed(murmure, policy_text("plaza", 7), "seven", "steward", "dpo")
    status, _, error = murmure(f"{ANOTHER} --policy {seven}")
    assert status == 0 and "lets version 7 hold seven days after it first sees it" in error
    assert edge.load_trust(edge.load(Path("two/gateway.toml"))).policy_version == 1
    assert [type(word) for word in first_word("two", "one", "seven")] == [Accept, HoldUntil]
    assert "in its notice until 2026-11-10T09:00:00Z" in murmure(ANOTHER.replace("two", "three"))[2]


def test_who_publishes_is_told_which_gateway_would_wait_for_it_as_its_first(
    murmure: Murmure, policy_text: Any, centre: Any
) -> None:
    """A tightening that comes after the enrolment; those that have shown a figure have begun, and are not named."""
    assert murmure(ENROL.format(site="plaza", keys=KEYS))[0] == 0
    for version, epsilon in ((1, "1"), (2, "0.5")):
        text = policy_text("plaza", version, epsilon=epsilon)
        status, said, _ = murmure(f"policy publish {signed(murmure, text, f'v{version}', 'steward', 'dpo')}")
        assert status == 0 and said.count("\n") == version
    assert said.splitlines()[1].startswith(
        "gw-plaza has shown no figure: if it has no policy yet, this one is newer than"
    )
    gateway = centre.gateway("gw-gare", "gare")
    tight = centre.signed(policy_text("gare", 2, epsilon="0.5"))
    asked = partial(gateways.verdicts, centre.archive, tight, DecidingConfig(), first=True)
    assert [type(word) for _, word in asked()] == [HoldUntil]
    for topic, sealed in gateway.history(4):
        centre.accept(topic, sealed)
    assert asked() == []


def test_without_a_table_all_stewards_count_alike_and_the_floor_is_the_ceiling(murmure: Murmure) -> None:
    """An enrolment of before, or of a town that names no roles; the notice is the same."""
    Path("ingest.toml").write_text('data_dir = "centre"\n')
    assert murmure(ENROL.format(site="plaza", keys=KEYS))[0] == 0
    trust = edge.load_trust(edge.load(Path("plaza/gateway.toml")))
    assert trust.roles == () and trust.ceiling == Ceiling(FLOOR.rho_micro, 1, 1, policy_version=0)
    assert "roles" not in logged("plaza") and logged("plaza")["ceiling_rho_micro"] == FLOOR.rho_micro


@pytest.mark.parametrize(
    ("keys", "takes"), [(KEYS, 1), (f"{KEYS} --signatures 2", 2), ("--steward dpo.key.pub", 1), ("roles", 2)]
)
def test_who_enrols_a_gateway_that_one_signature_loosens_is_told(murmure: Murmure, keys: str, takes: int) -> None:
    """In one line, and again in the list: a small town may want it so, and should know it. Two roles, or two
    signatures of any policy, say nothing."""
    if keys == "roles":
        keys = KEYS
    else:
        Path("ingest.toml").write_text('data_dir = "centre"\n')
    status, _, said = murmure(ENROL.format(site="plaza", keys=keys))
    assert status == 0 and said.count("\n") == (takes == 1)
    assert ("murmure: gateway enrol: --steward: one signature alone will loosen" in said) == (takes == 1)
    assert ("one signature loosens" in murmure("gateway list")[1]) == (takes == 1)
    assert json.loads(murmure("gateway list --json")[1])[0]["loosening_takes"] == takes


def test_a_key_without_a_role_beside_one_that_has_one_is_refused(murmure: Murmure, tmp_path: Path) -> None:
    """And two keys of one role: nobody should find out at the first loosening."""
    stranger = wire.new_key()[1].hex()
    status, _, error = murmure(ENROL.format(site="plaza", keys=f"--steward dpo.key.pub --steward {stranger}"))
    assert status == 2 and error.startswith(f"murmure: gateway enrol: --steward: {stranger[:16]}… has no role; ")
    status, _, error = murmure(ENROL.format(site="plaza", keys="--steward dpo.key.pub"))
    assert status == 2 and "every key has the same role, dpo" in error and not Path("plaza").exists()
    assert require_roles(DecidingConfig(), [bytes(32)]) == ()


def test_an_offer_carries_what_it_pins(murmure: Murmure, tmp_path: Path) -> None:
    """Also through the claim code, whatever ingest.toml says when the gateway comes; one of before pins the floor."""
    pinned = Pinned(("steward", "dpo"), 5000, 7)
    slot = enrolment.Slot("gw-a", "plaza", "centre", (bytes(32), bytes(31) + b"\1"), 1, (), pinned=pinned)
    text = enrolment._slot_text(slot)
    assert enrolment._slot(text) == slot
    before = {key: value for key, value in json.loads(text).items() if key != "pinned"}
    assert enrolment._slot(json.dumps(before)).pinned == Pinned()


def test_a_policy_goes_from_two_keys_to_a_change_that_both_have_signed(murmure: Murmure, policy_text: Any) -> None:
    """The first needs both roles; a tightening one; a loosening both, and the steward is told of the seven days."""
    assert murmure(ENROL.format(site="plaza", keys=KEYS))[0] == 0
    status, _, error = murmure(f"policy publish {signed(murmure, policy_text('plaza'), 'one', 'steward')}")
    assert status == 1 and error.startswith("murmure: one.cose: roles: gw-plaza would not believe it: ")
    assert error.endswith("it is signed by steward; let another role sign it too\n")
    assert murmure("policy publish one.cose --lang fr")[2] == (
        "murmure: one.cose : rôles : gw-plaza ne la croirait pas : la première règle demande des signatures de 2 rôles "
        "différents, et elle est signée par steward ; faites-la signer par un autre rôle aussi\n"
    )
    status, said, _ = murmure("policy sign one.toml --key dpo.key --out one.cose --lang fr")
    assert (status, said) == (0, "one.cose est signé\n")
    status, said, _ = murmure("policy publish one.cose")
    assert status == 0 and said.count("\n") == 1
    tight = signed(murmure, policy_text("plaza", 2, epsilon="0.5"), "two", "dpo")
    assert murmure(f"policy publish {tight}")[0] == 0
    loose = policy_text("plaza", 3, epsilon="0.9")
    assert murmure(f"policy publish {signed(murmure, loose, 'three', 'dpo')}")[0] == 1
    assert murmure("policy sign three.toml --key steward.key --out three.cose")[0] == 0
    status, said, _ = murmure("policy publish three.cose")
    assert status == 0
    assert said.endswith("it loosens: gateways let it hold 7 days after they first see it (gw-plaza)\n")
    status, said, _ = murmure("policy publish three.cose --lang fr")  # once more is no error
    assert status == 0 and said.startswith("la version 3 de plaza est publiée : sha256:")
    high = signed(murmure, policy_text("plaza", 4, epsilon="9"), "four", "dpo", "steward")
    status, _, error = murmure(f"policy publish {high}")
    assert status == 1 and error.startswith("murmure: four.cose: ceiling: gw-plaza would not believe it: ")

    status, said, _ = murmure("policy history plaza --json")
    first, second, third = json.loads(said)
    assert [(one["version"], one["direction"]) for one in (first, second, third)] == [
        (1, "first"),
        (2, "tighter"),
        (3, "looser"),
    ]
    assert [signer["role"] for signer in third["signers"]] == ["steward", "dpo"] and first["differences"] == []
    assert second["published"] == "2026-11-03T09:00:00Z" and second["policy"].startswith("sha256:")
    assert {one["what"] for one in second["differences"]} >= {"epsilon", "scale"}
    status, said, _ = murmure("policy history --lang fr")
    assert status == 0 and said.count("plaza/") >= 4 and "  ! plaza/footfall : ε = 0,9 au lieu de 0,5" in said
    assert "plaza 2  2026-11-03T09:00:00Z  Délibération n° 1  (dpo)  plus protectrice" in said


def test_a_history_of_nothing_says_what_to_do(murmure: Murmure) -> None:
    """An empty archive, for people and for programs."""
    assert murmure("policy history --lang en")[1] == "no policy is published; see 'murmure policy publish --help'\n"
    assert murmure("policy history --json")[1] == "[]\n"


def test_history_names_keys_that_have_no_role_and_days_that_the_log_does_not_know(
    centre: Any, murmure: Murmure
) -> None:
    """What was published before there was a log has no instant there; each site has its own history."""
    centre.gateway()
    centre.gateway("gw-gare", "gare")
    said = murmure("policy history --lang en")[1]
    assert (
        said.count("  date unknown, valid from ") == 2 and said.count(f"({centre.steward[1].hex()[:16]}…)  first") == 2
    )


@pytest.mark.parametrize("decision", ["  ", "à compléter"])
def test_nothing_is_signed_without_a_decision(murmure: Murmure, policy_text: Any, decision: str) -> None:
    """Neither blanks, nor what `policy new` leaves to be filled in."""
    text = policy_text("plaza").decode()
    line = next(line for line in text.splitlines() if line.startswith("decision"))
    Path("plaza.toml").write_text(text.replace(line, f'decision = "{decision}"'))
    status, _, error = murmure("policy sign plaza.toml --key dpo.key --out plaza.cose")
    assert status == 2 and error.startswith("murmure: plaza.toml: decision: no decision is named yet; write the ")
    said = (
        "murmure: plaza.toml : decision : aucune décision n'est encore nommée ; écrivez la référence de la délibération"
    )
    assert murmure("policy sign plaza.toml --key dpo.key --out plaza.cose --lang fr")[2].startswith(said)
    assert not Path("plaza.cose").exists()


def test_a_role_is_a_word(murmure: Murmure) -> None:
    """One that trust.toml could not hold is refused before a key is made."""
    status, _, error = murmure("policy key --out new.key --role D.P.O.")
    assert status == 2 and error.startswith("murmure: policy key: --role: 'D.P.O.' is no role; ")
    assert not Path("new.key").exists()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("deciding = 1", "deciding"),
        ("[deciding]\nx = 1", "deciding.x"),
        ("[deciding]\nroles = 1", "deciding.roles"),
        ('[deciding.roles]\nab = "dpo"', "deciding.roles"),
        (f'[deciding.roles]\n"{"ab" * 32}" = 7', "deciding.roles"),
        (f'[deciding.roles]\n"{"ab" * 32}" = "Dr. No"', "deciding.roles"),
        ("[deciding]\nceiling = 0", "deciding.ceiling"),
        ("[deciding]\nceiling = true", "deciding.ceiling"),
        ("[deciding]\nceiling = 10.5", "deciding.ceiling"),
        ("[deciding]\nceiling = nan", "deciding.ceiling"),
        ("[deciding]\nceilings = []", "deciding.ceilings"),
        ('[deciding.ceilings]\nplaza = "3"', "deciding.ceilings.plaza"),
    ],
)
def test_a_mistake_in_the_table_is_one_line_with_its_key(tmp_path: Path, text: str, key: str) -> None:
    """Roles are words, ceilings are epsilons that no release goes beyond."""
    file = tmp_path / "ingest.toml"
    file.write_text(f'data_dir = "centre"\n{text}\n' if "[" in text else f'{text}\ndata_dir = "centre"\n')
    with pytest.raises(ConfigError) as caught:
        config.load(file)
    assert caught.value.key == key and "\n" not in str(caught.value)


def test_what_the_centre_lets_through_a_gateway_of_before_may_have_to_wait_for(centre: Any, policy_text: Any) -> None:
    """Without the table the centre asks what was always asked: enough signatures, a version above the newest."""
    centre.gateway()
    with closing(Archive.open(centre.config.archive)) as archive:
        gateways.publish_policy(archive, centre.signed(policy_text("plaza", 2, epsilon="2")))
        with pytest.raises(RegisterError, match="ceiling"):
            gateways.publish_policy(archive, centre.signed(policy_text("plaza", 3, epsilon="11")))
