"""`policy new`, `pause` and `diff`: a policy from few answers, and what a change takes, in both languages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from murmure.cli import main
from murmure_privacy import policy_words as words
from murmure_privacy.decide import (
    FLOOR,
    NOTICE_S,
    UNDECIDED,
    Accept,
    Ceiling,
    Difference,
    LogWord,
    Refuse,
    Signed,
    decide,
)
from murmure_privacy.plan import plan
from murmure_privacy.policy import parse
from murmure_privacy.wire import new_key, seal_policy

Run = Callable[..., tuple[int, str, str]]
NEW = ("policy", "new", "--site", "plaza", "--until", "2027-11-30", "--from", "2026-12-01")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """run(words…) -> status, stdout, stderr, in a folder of its own, on a machine that speaks English."""
    monkeypatch.setenv("LC_ALL", "en_GB.UTF-8")
    monkeypatch.chdir(tmp_path)

    def go(*said: str) -> tuple[int, str, str]:
        status = main(list(said))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return go


@pytest.mark.parametrize("lang", ["fr", "en"])
def test_few_answers_make_a_complete_policy(run: Run, lang: str) -> None:
    """Every quantity at once, in both languages: it parses, is priced, and carries a comment for each choice."""
    streams = [part for name in ("footfall", "noise", "pm1", "pm2_5", "pm10") for part in ("--stream", name)]
    status, text, _ = run(*NEW, *streams, "--lang", lang)
    made = parse(text.encode(), "new")
    assert status == 0 and [stream.id for stream in made.streams][:2] == ["plaza/footfall", "plaza/noise"]
    assert (made.version, made.decision, made.reason) == (1, UNDECIDED, UNDECIDED)
    assert text.count("\n# ") > 20 and max(map(len, text.splitlines())) < 120
    Path("new.toml").write_text(text)
    assert run("policy", "check", "new.toml")[0] == 0


def test_what_a_steward_says_stands_in_it(run: Run) -> None:
    """A quoted decision, an epsilon, a unit, a level, and a margin that is solved: what is signed has no target."""
    status, said, _ = run(
        *(*NEW, "--stream", "noise", "--stream", "footfall", "--decision", 'D "42" \\', "--reason", "Compter."),
        *("--epsilon", "noise=0.5", "--protects", "noise=30", "--up-to", "noise=75", "--target", "footfall=1h:15"),
        *("--out", "plaza.toml"),
    )
    assert status == 0 and said == "plaza.toml: version 1 of plaza; next: murmure policy preview plaza.toml\n"
    made = parse(Path("plaza.toml").read_bytes(), "plaza.toml")
    noise, footfall = made.streams
    assert (made.decision, made.reason) == ('D "42" \\', "Compter.")
    assert (noise.epsilon, noise.protects, noise.up_to) == (Decimal("0.5"), ("seconds", 30), 750)
    [row] = [
        one
        for stream in json.loads(run("policy", "preview", "plaza.toml", "--json")[1])["streams"]
        for one in stream["nodes"]
        if stream["id"] == "plaza/footfall" and one["node"] == "1h"
    ]
    assert 14.8 < row["error_95"] <= 15 and footfall.epsilon < 2
    assert run(*NEW, "--stream", "footfall", "--after", "plaza.toml", "--out", "next.toml")[0] == 0
    assert parse(Path("next.toml").read_bytes(), "next.toml").version == 2


@pytest.mark.parametrize(
    ("said", "start"),
    [
        (("--epsilon", "noise=1"), "policy new: --epsilon: 'noise=1' does not do; write QUANTITY="),
        (("--epsilon", "footfall=1", "--epsilon", "footfall=2"), "policy new: --epsilon: "),
        (("--epsilon", "footfall=1", "--target", "footfall=1h:9"), "policy new: --target: footfall has an epsilon too"),
        (("--epsilon", "footfall=much"), "policy new: line "),
        (("--target", "footfall=1h"), "policy new: --target: '1h' is no margin; "),
        (("--target", "footfall=1h:0.0001"), "policy new: stream plaza/footfall: target.error_95: "),
        (("--protects", "footfall=x"), "policy new: --protects: 'x' is no whole number; "),
        (("--from", "1.12.2026"), "policy new: --from: '1.12.2026' is no date; "),
        (("--stream", "footfall"), "policy new: --stream: stands twice; "),
        (("--after", "none.toml"), "none.toml: file: "),
        (("--after", "other.toml"), "other.toml: site: is 'other'; "),
        (("--out", "other.toml"), "other.toml: --out: File exists; "),
    ],
)
def test_a_wrong_answer_is_one_line_with_the_mend(run: Run, said: tuple[str, ...], start: str) -> None:
    """Never a traceback, and never half a file."""
    assert (
        run("policy", "new", "--site", "other", "--stream", "noise", "--until", "2030-01-01", "--out", "other.toml")[0]
        == 0
    )
    status, out, error = run(*NEW, "--stream", "footfall", *said)
    assert (status, out) == (2, "") and error.startswith(f"murmure: {start}") and error.count("\n") == 1


@pytest.mark.parametrize("head", ["paused = false  # true pauses\n", "", "paused=false\r\n"])
@pytest.mark.parametrize("signed", [False, True])
def test_a_pause_is_one_command_and_one_signature(
    run: Run, policy_text: Callable[..., str], head: str, signed: bool
) -> None:
    """The next version, paused, and nothing else: comments stay, one steward is enough, and it holds at once."""
    text = policy_text("footfall", "noise").replace("[[stream]]", f"{head}# first\n[[stream]]", 1)
    Path("old.toml").write_bytes(text.encode())
    old = parse(text.encode(), "old.toml")
    secret, _ = new_key()
    if signed:
        Path("old.cose").write_bytes(seal_policy(text.encode(), [("s", secret)]))
    file = "old.cose" if signed else "old.toml"
    status, said, _ = run("policy", "pause", file, "--out", "new.toml", "--lang", "en")
    following = old.version + 1
    assert status == 0
    assert said == f"new.toml: version {following} of plaza, paused; next: murmure policy sign new.toml --key …\n"
    new = parse(Path("new.toml").read_bytes(), "new.toml")
    assert new == replace(old, version=following, paused=True, hash=new.hash, text=new.text)
    assert b"# first\n[[stream]]" in new.text and (b"# true pauses" in new.text) == ("#" in head)
    ceiling = Ceiling(FLOOR.rho_micro, 1, 2, old.version)
    word = decide(plan(old, "old"), Signed(plan(new, "new"), 1, frozenset({"dpo"})), ceiling, FLOOR, None, 0)
    assert not isinstance(word, Refuse) and word == Accept()
    back = Signed(plan(replace(old, version=following + 1), "back"), 1, frozenset({"dpo"}))
    assert isinstance(decide(plan(new, "new"), back, ceiling, FLOOR, None, 0), Refuse)


def test_a_pause_names_who_decided_it_and_speaks_french(run: Run, policy_text: Callable[..., str]) -> None:
    """Another decision, with quotes in it; without --out it is printed; the words are the steward's."""
    Path("old.toml").write_text(policy_text("footfall"), "utf-8")
    status, said, _ = run("policy", "pause", "old.toml", "--decision", 'Arrêté "7" \\1')
    assert status == 0 and parse(said.encode(), "said").decision == 'Arrêté "7" \\1'
    said = run("policy", "pause", "old.toml", "--out", "new.toml", "--lang", "fr")[1]
    assert said.startswith("new.toml : version ") and ", en pause ; ensuite : murmure policy sign new.toml" in said
    error = run("policy", "pause", "new.toml", "--lang", "fr")[2]
    assert error == "murmure: new.toml : paused : elle suspend déjà ; il n'y a rien à faire\n"
    assert run("policy", "pause", "old.toml", "--out", "new.toml")[0] == 2


@pytest.mark.parametrize("text", ["", "Arrêté\n2026-42", "a\tb", "x" * 1001])
def test_a_decision_that_is_no_line_is_named_by_its_option(
    run: Run, policy_text: Callable[..., str], text: str
) -> None:
    """Not by a key of the file, which is as it should be; to name none is to leave the option out."""
    Path("old.toml").write_text(policy_text("footfall"), "utf-8")
    new = [("--decision", *NEW[2:], "--stream", "footfall"), ("--reason", *NEW[2:], "--stream", "footfall")]
    for command, option, *others in [("pause", "--decision", "old.toml"), *(("new", *one) for one in new if text)]:
        line = f"policy {command}: {option}: empty, too long or not printable; write one line of text"
        assert run("policy", command, *others, option, text, "--lang", "en") == (2, "", f"murmure: {line}\n")
    error = run("policy", "pause", "old.toml", "--decision", text, "--lang", "fr")[2]
    assert error.startswith("murmure: policy pause : --decision : est vide, trop long ou non imprimable ; écrivez une")


def test_a_decision_that_cannot_be_replaced_is_named(run: Run, policy_text: Callable[..., str]) -> None:
    """One of three quotes, say: that line is left to an editor, and it is not the version that is in the way."""
    before = policy_text("footfall")
    text = re.sub('(?m)^decision = (".*")$', r'decision = ""\1""', before)
    assert text != before
    Path("old.toml").write_text(text, "utf-8")
    error = run("policy", "pause", "old.toml", "--decision", "D", "--lang", "en")[2]
    assert error.startswith("murmure: old.toml: decision: it stands in a way that this command cannot change; write v")
    assert run("policy", "pause", "old.toml")[0] == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version = 1\n", "version = 1_0\n"),
        ("version = 1\n", "version = 0x1\n"),
        ("version = 1\n", '"version" = 1\n'),
    ],
)
def test_a_policy_that_cannot_be_changed_safely_is_left_to_an_editor(
    run: Run, policy_text: Callable[..., str], old: str, new: str
) -> None:
    """Whatever the text is, what is written is the same policy paused, or nothing."""
    text = policy_text("footfall")
    assert old in text
    changed = text.replace(old, new, 1)
    version = parse(changed.encode(), "old.toml").version
    Path("old.toml").write_text(changed, "utf-8")
    status, said, error = run("policy", "pause", "old.toml", "--lang", "en")
    assert (status, said) == (2, "") and error.endswith(
        "version: it stands in a way that this command cannot change; "
        f"write version = {version + 1} and paused = true in an editor\n"
    )


def changed(run: Run, **options: str) -> None:
    """Writes old.toml, and new.toml with other options."""
    base = {"epsilon": "footfall=1.0", "until": "2027-11-30", "out": "old.toml", "decision": "D"}
    run("policy", "new", "--site", "plaza", "--from", "2026-12-01", "--stream", "footfall", *_spread(base))
    newer = {**base, "out": "new.toml", "after": "old.toml", **options}
    run("policy", "new", "--site", "plaza", "--from", "2026-12-01", "--stream", "footfall", *_spread(newer))


def _spread(options: dict[str, str]) -> list[str]:
    return [part for key, value in options.items() for part in (f"--{key}", value)]


@pytest.mark.parametrize(
    ("options", "direction", "french"),
    [
        ({"epsilon": "footfall=2"}, "looser", "Plus permissif :\n  - plaza/footfall : ε = 2 au lieu de 1,0\n"),
        ({"epsilon": "footfall=0.5"}, "tighter", "Plus protecteur :\n  - plaza/footfall : ε = 0,5 au lieu de 1,0\n"),
        ({"decision": "E"}, "same", "Sans effet sur la protection :\n  - décision « E » au lieu de « D »\n"),
        # A decision's number stays as it was written.
        (
            {"decision": "n° 4.5"},
            "same",
            "Sans effet sur la protection :\n  - décision « n° 4.5 » au lieu de « D »\n",
        ),
        ({"timezone": "Europe/London"}, "looser", "Incomparable, donc compté comme plus permissif :\n  - fuseau "),
    ],
)
def test_a_change_is_told_in_words_with_what_it_takes(
    run: Run, options: dict[str, str], direction: str, french: str
) -> None:
    """Two signatures and seven days for a loosening, one signature for all else; programs read the same."""
    changed(run, **options)
    status, said, _ = run("policy", "diff", "old.toml", "new.toml", "--lang", "fr")
    assert status == 0 and said.startswith(f"plaza, 1 → 2\n{french}")
    assert ("deux signatures" in said) == (direction == "looser")
    document = json.loads(run("policy", "diff", "old.toml", "new.toml", "--json")[1])
    loosens = direction == "looser"
    assert document["direction"] == direction and document["refused"] == []
    assert document["needs"] == {"signatures": 1 + loosens, "roles": 1 + loosens, "days": 7 * loosens}
    assert all(one["fr"] and one["en"] and one["fr"] != one["en"] for one in document["differences"])
    assert "Cannot be compared" in run("policy", "diff", "old.toml", "new.toml", "--lang", "en")[
        1
    ] or options.keys() != {"timezone"}


def test_what_every_gateway_would_refuse_is_said(run: Run) -> None:
    """A version that does not come after, a cost above the floor: with the mend; exit 0, for nothing is wrong yet."""
    changed(run, epsilon="footfall=11")
    status, said, _ = run("policy", "diff", "old.toml", "new.toml", "--lang", "en")
    assert status == 0
    assert said.endswith(
        "\nEvery gateway would refuse it: its streams cost more together than this software allows "
        "(epsilon 10 at delta 1e-6); lower an epsilon.\n"
    )
    assert (
        "warning: Every gateway would refuse it as its first policy or as a loosening, and takes it only where it "
        in (run("policy", "check", "new.toml")[1])
    )
    assert "would refuse" not in run("policy", "check", "old.toml")[1]
    assert (
        "write version = 3, which comes after 2.\n" in run("policy", "diff", "new.toml", "old.toml", "--lang", "en")[1]
    )


BOTH = frozenset({"mayor", "clerk"})


@pytest.mark.parametrize(("epsilon", "delta"), [("11", "1e-6"), ("1", "1e-4"), ("11", "1e-4"), ("1", "1e-6")])
@pytest.mark.parametrize(("before", "way"), [(None, "alone"), ("looser", "not looser"), ("tighter", "looser")])
def test_what_is_said_of_the_floor_is_what_a_gateway_does(
    run: Run, epsilon: str, delta: str, before: str | None, way: str
) -> None:
    """Of a policy above the floor, in epsilon, delta or both, `check`, `preview` and `diff` say what `decide` makes of
    it: with nothing before it and as a loosening it is refused, as a tightening it is taken. Of one within the floor
    nothing is said."""
    run(*NEW, "--stream", "footfall", "--decision", "D", "--out", "one.toml")
    text = Path("one.toml").read_text().replace("epsilon = 1.0", f"epsilon = {epsilon}")
    text = text.replace("delta = 1e-6", f"delta = {delta}").replace("version = 1", "version = 2")
    Path("new.toml").write_text(text)
    older = {"looser": ("20", "1e-3"), "tighter": ("0.5", "1e-7")}.get(before or "")
    after: tuple[str, ...] = ()
    current = None
    if older is not None:
        old = text.replace(f"epsilon = {epsilon}", f"epsilon = {older[0]}").replace(delta, older[1])
        Path("old.toml").write_text(old.replace("version = 2", "version = 1"))
        current, after = plan(parse(Path("old.toml").read_bytes(), "old.toml")), ("--after", "old.toml")
    made = plan(parse(text.encode(), "new.toml"))
    ceiling = Ceiling(FLOOR.rho_micro, signatures=1, roles=2)
    word = decide(current, Signed(made, 2, BOTH), ceiling, FLOOR, LogWord(0), NOTICE_S)
    above = (epsilon != "1") + (delta != "1e-6")
    refused = isinstance(word, Refuse)
    assert refused == (bool(above) and way != "not looser")
    if isinstance(word, Refuse):
        assert word.reason in ("floor", "ceiling")
    first = decide(None, Signed(made, 2, BOTH), ceiling, FLOOR, LogWord(0), NOTICE_S)
    assert isinstance(first, Refuse) == bool(above)
    for lang in words.LANGS:
        said = [words._BEYOND[way][lang] for _ in range(above)]
        others = [words._BEYOND[one][lang] for one in words._BEYOND if one != way]
        for command in ("check", "preview"):
            out = run("policy", command, "new.toml", *after, "--lang", lang)[1]
            assert out.count(said[0] + (":" if lang == "en" else " :") if said else "refuse it:") == above, out
            assert not any(f"{other}:" in out or f"{other} :" in out for other in others)
        if older is not None:
            out = run("policy", "diff", "old.toml", "new.toml", "--lang", lang)[1]
            assert sum(words._BEYOND[way][lang] in line for line in out.splitlines()) == above
    if older is not None:
        document = json.loads(run("policy", "diff", "old.toml", "new.toml", "--json")[1])
        assert (len(document["refused"]), len(document["notes"])) == ((above, 0) if refused else (0, above))


def test_signed_policies_are_compared_as_well(run: Run) -> None:
    """As they came from the centre; what is no policy, or of another site, is one line."""
    changed(run, epsilon="footfall=2")
    Path("new.cose").write_bytes(seal_policy(Path("new.toml").read_bytes(), [("k", new_key()[0])]))
    assert "ε = 2 au lieu de 1,0" in run("policy", "diff", "old.toml", "new.cose", "--lang", "fr")[1]
    Path("bad.cose").write_bytes(b"x")
    run("policy", "new", "--site", "gare", "--stream", "noise", "--until", "2030-01-01", "--out", "gare.toml")
    for name, start in (
        ("bad.cose", "bad.cose: policy: not a signed"),
        ("gare.toml", "gare.toml: site: 'gare' is not"),
    ):
        status, _, error = run("policy", "diff", "old.toml", name)
        assert status == 2 and error.startswith(f"murmure: {start}") and error.count("\n") == 1


DIFFERENCES = [
    *(Difference("", what, "unlike", "1", "3") for what in ("timezone", "valid_from", "valid_until", "version")),
    *(Difference("", what, "same", "a", "b") for what in ("decision", "reason")),
    *(Difference("s/x", "stream", "looser", *pair) for pair in (("", "s/x"), ("s/x", ""))),
    *(Difference("s/x", "up_to", "looser", *pair) for pair in (("70", "75"), ("", "75"), ("75", ""))),
    *(Difference("s/x", "figure", "looser", *pair, at="1h mean") for pair in (("", "1h mean"), ("1h mean", ""))),
    *(Difference("s/x", "cap", "looser", *pair) for pair in (("", "30 / 1y"), ("30 / 1y", ""))),
    *(Difference("s/x", "paused", "looser", *pair) for pair in (("true", "false"), ("false", "true"))),
    *(
        Difference("s/x", what, "looser", "3", "1")
        for what in ("quantity", "crossings", "seconds", "cadence_ms", "tail", "epsilon", "delta", "bounds")
    ),
    *(Difference("s/x", f"cap.{what}", "looser", "3", "1") for what in ("epsilon", "units_per_day", "days")),
    *(Difference("s/x", "scale", "looser", "1000", now, at="night energy") for now in ("500", "1001")),
]


@pytest.mark.parametrize("one", DIFFERENCES)
def test_every_difference_has_words(one: Difference) -> None:
    """Of each dimension, whether it changed, is new or gone: a sentence in both languages, with what it was and is."""
    french, english = words.said(one, "fr"), words.said(one, "en")
    assert french != english and "{" not in french + english and "()" not in french + english
    assert french.startswith("s/x : ") == bool(one.stream) == english.startswith("s/x: ")
    assert not french.endswith((" : ", ": "))


@pytest.mark.parametrize(
    ("environment", "lang"),
    [
        ({}, "fr"),
        ({"LANG": "C.UTF-8"}, "fr"),
        ({"LANG": "en_GB.UTF-8"}, "en"),
        ({"LC_ALL": "fr_FR.UTF-8", "LANG": "en_GB.UTF-8"}, "fr"),
        ({"LC_ALL": "", "LANG": "en_GB.UTF-8"}, "en"),
    ],
)
def test_words_are_french_unless_the_machine_speaks_english(environment: dict[str, Any], lang: str) -> None:
    """As other programs read the locale: the first that is set holds."""
    assert words.language(environment) == lang
