"""What a French steward reads of `policy check`, `preview` and `new`, and of every refusal, with those of `verify`:
complete, and the same."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from murmure.cli import main
from murmure_privacy import french, policy_sheet, policy_words, preview, street
from murmure_privacy.decide import Refuse
from murmure_privacy.errors import ConfigError, MurmureError, WireError
from murmure_privacy.policy_words import LANGS, Both

ROOT = Path(__file__).parents[2]
KERNEL = (
    *("policy", "plan", "preview", "recording", "window", "decide", "cli", "policy_cli", "policy_new"),
    *("verify_cli", "sources", "codes"),
)
SOURCES = [ROOT / f"privacy/murmure_privacy/{name}.py" for name in KERNEL]
SOURCES += [ROOT / f"murmure/murmure/{name}.py" for name in ("studio_cli", "studio/desk", "studio/week")]
SOURCES += [ROOT / f"dashboards/murmure_dashboards/{name}.py" for name in ("dossier_facts", "config", "citymap")]
SOURCES += [ROOT / f"ingest/murmure_ingest/{name}.py" for name in ("config", "archive/errors", "archive/database")]
AT_THE_CENTRE = ("sign_policy", "publish_policy", "_file_policy", "_unsealed", "new_secret", "require_role")
"""What `policy key`, `sign` and `publish` may refuse; the rest of that file is the operator's."""
OF_A_CHECKPOINT = {"log": "open_checkpoint", "wire": "_check"}
"""By module of the kernel: what `verify` says of a checkpoint that is none."""
OF_A_DOSSIER = {
    "dashboards/murmure_dashboards/cli": ("instant",),
    "dashboards/murmure_dashboards/operations": ("require_private",),
    "ingest/murmure_ingest/migrations": ("require_present", "_require_archive"),
}
"""By module: what else the town's own file for the data protection officer may be refused for."""
ARCHIVE = "ArchiveError", "ArchiveFull", "ArchiveBusy", "ArchiveDamaged"
OTHERS = {
    "{} {}": "a text of city.toml that has another form: each form has its own sentence here",
    "{}": "what a machine, a library or another place says: each of those has its own sentence here",
    "{}: {}": "the same",
    "policy = 1": "a line of the file",
    "write {}": "has a sentence, and what is to be written too",
    "{}1{}": "a file of codes, which is no sentence",
    "the file is missing": "of a day's messages, of which the day is said",
    "{} is not UTC with a Z at its end": "an instant of the archive, which no steward writes",
}
FRENCH_TOO = re.compile(r"[\W\d_]*(policy = 1|epsilon = …|SITE|sites|signatures)?[\W\d_]*")
"""What is the same in both languages: lines of the file, and a word or two."""


def skeletons(node: ast.AST, scope: ast.AST, seen: tuple[str, ...] = ()) -> set[str]:
    """Returns what an expression of the sources can say, {} where something of others stands."""
    match node:
        case ast.Constant():
            return {str(node.value)}
        case ast.JoinedStr():
            found = {""}
            for part in node.values:
                inside = part.value if isinstance(part, ast.FormattedValue) else part
                chosen = isinstance(inside, ast.Constant | ast.IfExp) or (
                    isinstance(inside, ast.Name) and inside.id in ("what", "whose", "wanted", "said", "short")
                )
                parts = skeletons(inside, scope, seen) if chosen else {"{}"}
                found = {before + after for before in found for after in parts}
            return found
        case ast.IfExp():
            return skeletons(node.body, scope, seen) | skeletons(node.orelse, scope, seen)
        case ast.BoolOp():
            return set().union(*(skeletons(one, scope, seen) for one in node.values))
        case ast.BinOp():
            ends = skeletons(node.right, scope, seen)
            return {start + end for start in skeletons(node.left, scope, seen) for end in ends}
        case ast.Call(func=ast.Name(id="next"), args=[_, default]):
            return skeletons(default, scope, seen) | {"{}"}
        case ast.Name() if node.id not in seen:
            given = [value for name, value in assigned(scope) if name == node.id]
            found = {one for value in given for one in skeletons(value, scope, (*seen, node.id))}
            return found or {"{}"}
    return {"{}"}


def assigned(scope: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for one in ast.walk(scope):
        if isinstance(one, ast.Assign):
            for target in one.targets:
                pairs = [(target, one.value)]
                if isinstance(target, ast.Tuple) and isinstance(one.value, ast.Tuple):
                    pairs = list(zip(target.elts, one.value.elts, strict=True))
                yield from ((name.id, value) for name, value in pairs if isinstance(name, ast.Name))


@cache
def said_by_the_sources() -> frozenset[tuple[str, str]]:
    """Everything that is refused: ("key" | "text" | "line", the sentence)."""
    found: set[tuple[str, str]] = set()
    for source in SOURCES:
        tree = ast.parse(source.read_text("utf-8"))
        found |= set(said_in(tree, tree))
    centre = ast.parse((ROOT / "ingest/murmure_ingest/gateways.py").read_text("utf-8"))
    parts = [one for one in centre.body if isinstance(one, ast.FunctionDef) and one.name in AT_THE_CENTRE]
    receipts = ast.parse((ROOT / "ingest/murmure_ingest/receipts.py").read_text("utf-8"))
    keys = ("load_secret", "write_secret")
    parts += [one for one in receipts.body if isinstance(one, ast.FunctionDef) and one.name in keys]
    for module, function in OF_A_CHECKPOINT.items():
        body = ast.parse((ROOT / f"privacy/murmure_privacy/{module}.py").read_text("utf-8")).body
        parts += [one for one in body if isinstance(one, ast.FunctionDef) and one.name == function]
    for path, names in OF_A_DOSSIER.items():
        body = ast.parse((ROOT / f"{path}.py").read_text("utf-8")).body
        parts += [one for one in body if isinstance(one, ast.FunctionDef) and one.name in names]
    assert len(parts) == len(AT_THE_CENTRE) + 4 + sum(map(len, OF_A_DOSSIER.values()))
    for part in parts:
        found |= set(said_in(part, part))
    return frozenset(found)


def said_in(tree: ast.AST, whole: ast.AST) -> Iterator[tuple[str, str]]:
    functions = [one for one in ast.walk(whole) if isinstance(one, ast.FunctionDef)]
    for call in (one for one in ast.walk(tree) if isinstance(one, ast.Call)):
        name = getattr(call.func, "id", getattr(call.func, "attr", ""))
        around = [one for one in functions if one.lineno <= call.lineno <= (one.end_lineno or 0)]
        scope = min(around, key=lambda one: (one.end_lineno or 0) - one.lineno) if around else whole
        if name in ("ConfigError", "NoMetric", "fail") and len(call.args) >= 3:
            for key in skeletons(call.args[-3], scope):
                yield "key", key
            for argument in call.args[-2:]:
                yield from (("text", text) for text in skeletons(argument, scope))
        elif name == "Refuse":
            for text in skeletons(call.args[1], scope):
                yield from (("text", part) for part in text.split(": ", 1))
        elif name == "BadTimezone":
            for text in skeletons(call.args[0], scope):
                yield from (("text", part) for part in text.split("; ", 1))
        elif name == "ValueError":
            yield from (("text", text) for text in skeletons(call.args[0], scope))
        elif name == "WireError":
            yield from (("text", text) for text in skeletons(call.args[1], scope))
        elif name in ("shaped", "slug") and len(call.args) >= 4:  # of city.toml: what a text of another form is not
            yield from (("text", f"{{}} {text}") for text in skeletons(call.args[2], scope))
            yield from (("text", text) for text in skeletons(call.args[3], scope))
        elif name in ("RegisterError", "SourceError", "MurmureError", "DossierError", "SiteError", *ARCHIVE):
            yield from (("line", text) for text in skeletons(call.args[0], scope))
        elif isinstance(call.func, ast.Attribute) and len(call.args) == {"get": 3, "sub": 2}.get(name):
            yield from (("text", text) for text in skeletons(call.args[-1], scope))
    for one in ast.walk(tree):  # what people write by mistake, and what to write instead
        if isinstance(one, ast.FunctionDef) and one.name == "damage_text":
            assert isinstance(one.body[0], ast.Return) and one.body[0].value is not None
            yield from (("line", text) for text in skeletons(one.body[0].value, one))
        if isinstance(one, ast.Assign) and getattr(one.targets[0], "id", "") == "_SLIPS":
            assert isinstance(one.value, ast.Tuple)
            for pair in one.value.elts:
                assert isinstance(pair, ast.Tuple)
                yield from (("text", text) for text in skeletons(pair.elts[1], tree))


def test_the_sources_are_read() -> None:
    """A sentence of each kind is among what was found: the walk does look."""
    texts = {text for _, text in said_by_the_sources()}
    assert len(texts) > 180
    assert {
        *("{} is not above {}", "a whole number", "raise its weight, or epsilon", "timezone {} is unknown"),
        *("a loosening needs signatures of {} different roles, and it is signed by {}", "without --readings"),
        *("write numbers with a point, e.g. 1.0", "levels have an error of their own only as means", "time without Z"),
        *("{}: site: no gateway serves {}; enrol one first", "no decision is named yet", "others may read this secret"),
        *("its streams cost {} micro-rho together, and {} are the {} of this release", "name a free port"),
        *("no log is published there", "the centre's key did not sign it", "{}: the server answers {}; try later"),
    } <= texts


@pytest.mark.parametrize(("kind", "text"), sorted(said_by_the_sources()))
def test_every_refusal_has_its_french(kind: str, text: str) -> None:
    """Each sentence with which the sources refuse a policy, a recording, a key or a signature has one in French that
    keeps what is not ours, as it was; a new refusal has to be given one."""
    if text in OTHERS and kind != "key":
        return
    marks = [f"‹{number}›" for number in range(text.count("{}"))]
    filled = text.format(*marks) if "{}" in text and "{ " not in text else text
    if kind == "key":
        said = french.key(filled)
        words = re.sub(r"‹\d›", "", filled).strip(": ")
        assert not re.fullmatch("line|file|stream|key|readings|policy", words) or said != filled
        assert all(mark in said for mark in marks)
        return
    told = french.french(filled)
    assert told is not None, filled
    assert told != filled or FRENCH_TOO.fullmatch(filled), "that is no French"
    dropped = {  # what a library says in English, and a word that the French sentence has
        *("not TOML: {}", "{}: not TOML: {}", "cannot be read: {}", "not a signed policy ({})"),
        *("{} cannot be used ({})", "its streams cost {} micro-rho together, and {} are the {} of this release"),
        "its streams cost {} micro-rho together, and {} are the {} that was set at the enrolment",
    }
    if text not in dropped:
        assert [mark for mark in marks if mark not in told] == []
    assert "{" not in told.replace("{ ", "") or "{ " in filled or "{" in text.replace("{}", "")


def test_every_french_sentence_is_of_something() -> None:
    """No sentence is kept of what nobody says any more; those of machines are said by them."""
    texts = {text for _, text in said_by_the_sources()}
    patterns = {english for english, _ in french._PROBLEMS.items()} | set(french._MENDS) | set(french._LINES)
    patterns |= set(french._WANTED) | set(french._OF_TOWNS) | set(french._NETWORK)
    machines = {
        *("No such file or directory", "Permission denied", "Is a directory", "Not a directory", "File exists"),
        *("No space left on device", "Read-only file system", "File name too long"),
        *("Invalid isoformat string: {}", "{} of the {} signatures required are there", "nobody"),
    }
    compiled = [(one, re.compile("(.*)".join(map(re.escape, one.split("{}"))), re.DOTALL)) for one in patterns]
    unused = {one for one, pattern in compiled if not any(pattern.fullmatch(text) for text in texts)}
    assert unused - machines == set()


def test_a_sentence_without_french_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin: one sentence is taken away, and the walk finds that nothing is left for it."""
    monkeypatch.delitem(french._TEXTS, "{} gets less than a micro-rho")
    french._patterns.cache_clear()
    try:
        with pytest.raises(AssertionError):
            test_every_refusal_has_its_french("text", "{} gets less than a micro-rho")
    finally:
        french._patterns.cache_clear()


def test_each_reason_of_a_refusal_has_its_word() -> None:
    """`decide` names reasons; the centre says them to the steward who publishes."""
    hints = Refuse.__annotations__["reason"]
    assert set(re.findall(r"'(\w+)'", str(hints).replace('"', "'"))) == set(french.REASONS)


WRONG: list[tuple[str, str, str]] = [
    ("epsilon = 1.0", "epsilon = 0", "flux plaza/footfall : epsilon : 0 n'est pas au-dessus de 0 ; écrivez un nombre"),
    ("epsilon = 1.0", "epsilon = 1e-6", "flux plaza/footfall : nodes.15min : crossings reçoit moins d'un micro-rho"),
    ("epsilon = 1.0", "epsilon = 1,0", "'epsilon = 1,0' : ce n'est pas du TOML ; écrivez les nombres avec"),
    ("version = 1", "version = true", "version : True n'est pas un nombre entier ; écrivez un nombre entier"),
    ("version = 1", "verison = 1", "verison : clé inconnue ; écrivez l'un de policy, site, version"),
    (
        "Europe/Paris",
        "Asia/Kolkata",
        "timezone : le fuseau horaire 'Asia/Kolkata' n'est pas à un nombre entier d'heures",
    ),
    ("[[stream]]", "[stream]", "n'est pas au moins un [[stream]] ; écrivez au moins un [[stream]]"),
    ("crossings = 1", "crossings = 0", "protects.crossings : 0 n'est pas entre 1 et 10000 ; écrivez un nombre entier"),
    ('quantity = "footfall"', "", "quantity : manque ; écrivez un texte entre guillemets droits"),
    ("2028-12-31", "2020-12-31", "valid_until : est avant valid_from ; écrivez une date plus tardive"),
]


@pytest.mark.parametrize(("old", "new", "line"), WRONG)
@pytest.mark.parametrize("command", ["check", "preview"])
def test_what_is_wrong_is_one_french_line(
    old: str,
    new: str,
    line: str,
    command: str,
    policy_text: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On stderr, with the file, the key, what is wrong and the mend; the same status as in English."""
    file = tmp_path / "règle.toml"
    file.write_text(policy_text("footfall").replace(old, new, 1), "utf-8")
    assert main(["policy", command, str(file), "--lang", "fr"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    assert told.err.startswith(f"murmure: {file} : ") and line in told.err
    assert main(["policy", command, str(file), "--lang", "en"]) == 2
    assert capsys.readouterr().err.startswith(f"murmure: {file}: ")


def test_what_a_command_cannot_do_is_french_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No such file, no such option, and what a library says in its own words."""
    for words, line in (
        (["check", "none.toml"], "none.toml : fichier : ce fichier n'existe pas ; donnez une règle lisible"),
        (["diff", "none.toml", "b.toml"], "none.toml : fichier : ce fichier n'existe pas"),
        (
            ["preview", str(ROOT / "privacy/policy.example.toml"), "--site", "x"],
            "--site : sans --readings ; nommez aussi",
        ),
    ):
        assert main(["policy", *words, "--lang", "fr"]) == 2
        assert line in capsys.readouterr().err
    strange = ConfigError("a", "b", "what no table knows", "mend it")
    assert french.refusal(strange) == "a : b : « what no table knows » ; corrigez-le"
    assert french.refusal(ConfigError("a", "b", "x", "what no table knows")) is None
    assert french.refusal(MurmureError("what no table knows")) is None and french.french("zz") is None
    assert french.refused(OSError(13, "Permission denied", "f")) == "f : l'accès est refusé"
    assert french.refused(OSError(13, "Permission denied")) == "système : l'accès est refusé"
    assert french.refused(WireError("malformed", "zz")) is None


def test_what_verify_refuses_is_one_french_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Unless `--lang en` is said: of a place without a log, of a code that is none or lacks its site, of an address."""
    for words, line in (
        (["nowhere"], "nowhere : SOURCE : aucun journal n'y est publié ; donnez le dossier ou l'adresse d'un site"),
        (["2ESTY-TPJ0X"], "verify : SOURCE : '2ESTY-TPJ0X' n'est pas un code ; regardez"),
        (["2ESTY-TPJ0Q"], "verify : --site : le code ne dit pas où il a été publié ; nommez son site"),
        (["http://[x"], "http://[x : SOURCE : ce n'est pas une adresse ; écrivez-la comme https://"),
        (["http://127.0.0.1:9"], "; regardez l'adresse et le réseau"),
    ):
        assert main(["verify", *words]) != 0
        told = capsys.readouterr()
        assert told.out == "" and told.err.count("\n") == 1 and line in told.err
    assert main(["verify", "nowhere", "--lang", "en"]) == 2
    assert capsys.readouterr().err.startswith("murmure: nowhere: SOURCE: no log is published there; give")


def test_new_says_in_french_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the file is and which command is next."""
    out = tmp_path / "plaza.toml"
    said = ["policy", "new", "--site", "plaza", "--stream", "footfall", "--until", "2030-11-30", "--out", str(out)]
    assert main([*said, "--lang", "fr"]) == 0
    assert capsys.readouterr().out == f"{out} : version 1 de plaza ; ensuite : murmure policy preview {out}\n"
    assert main([*said, "--lang", "fr"]) == 2
    assert "ce fichier existe déjà ; nommez un fichier qui n'existe pas encore" in capsys.readouterr().err


# The sheets


def places(text: str) -> list[str]:
    return sorted(re.findall(r"\{(\w*)\}", text))


def in_pairs(words: dict[str, Both]) -> dict[str, tuple[str, str]]:
    return {key: (both["fr"], both["en"]) for key, both in words.items()}


OF_POLICIES = in_pairs(
    {**policy_words.CENTRE, **policy_words._BEYOND, **policy_words._ABOVE, "next": policy_words.NEXT}
)


@pytest.mark.parametrize(
    "words", [policy_sheet.WORDS, preview._WARNED, OF_POLICIES], ids=["sheet", "warnings", "policies"]
)
def test_every_sentence_is_in_both_languages(words: dict[str, tuple[str, str]]) -> None:
    """With the same places; the same words only where both languages have them."""
    same = {"column_sigma", "column_cost", "usual_level"}
    for key, (fr, en) in words.items():
        assert places(fr) == places(en), key
        assert (fr == en) == (key in same), key


def test_figures_nodes_and_units_have_french_names(policy_text: Callable[..., str], tmp_path: Path) -> None:
    """Whatever a preview may call something: each quantity, indicator and node there is."""
    from murmure_privacy.policy import parse
    from murmure_privacy.window import LEVELS

    assert set(policy_sheet.NODES) == {*LEVELS, "day+evening+night"}
    names = set()
    parts = ('"1h" = 1, "1d" = 24 }', '"1h" = 1, day = 1, evening = 1, night = 1 }')
    for text in (policy_text(), policy_text("noise", swap=(parts,))):
        policy = parse(text.encode(), "p")
        found = preview.preview(policy, "p", street.described(), policy.valid_from)
        for stream in found["streams"]:
            names |= {row["indicator"] for row in (*stream["nodes"], *stream["monthly"])}
            names |= {name for one in policy.streams for name, _ in one.indicators}
    for quantity in ("pm1", "pm10"):
        names.add(f"{quantity}_ug_m3")
    assert names == set(policy_sheet.FIGURES)
    for where in street.described():
        assert french.french(where.name) and french.french(where.says)
    assert all(french.french(sensor.source) for sensor in preview.SENSORS.values())
    assert french.french("recorded, one reading every 1 s") and french.french(
        "recorded, one reading every 60 s, so that what is shorter is not in it"
    )


ENGLISH = re.compile(
    r"\b(the|of|and|margin|figures?|street|reading|crossings|seconds|day|week|year|shown|noise|warning|would)\b"
)


def test_the_sheets_say_the_same_in_both_languages(
    policy_text: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line for line with the same numbers; no English word in the French one, no decimal point but in what to write."""
    file, older = tmp_path / "new.toml", tmp_path / "old.toml"
    level = ("protects = { seconds = 15 }", "protects = { seconds = 15, up_to_db = 75 }")
    cap = ("bounds_db = [35, 85]", 'bounds_db = [35, 85]\ncap = { units_per_day = 1, span = "1y", epsilon = 9 }')
    solved = ("epsilon = 1.0", 'target = { node = "1h", error_95 = 15 }')
    text = policy_text(swap=(level, cap, ("version = 1", "version = 2")))
    older.write_text(policy_text(swap=(level, ("tail = 11", "tail = 12"))), "utf-8")
    for command, swap in (("check", None), ("preview", None), ("preview", solved)):
        file.write_text(text.replace(*swap, 1) if swap else text, "utf-8")
        for after in ([], ["--after", str(older)]):
            sheets = {}
            for lang in LANGS:
                assert main(["policy", command, str(file), *after, "--lang", lang]) == 0
                sheets[lang] = capsys.readouterr().out.splitlines()
            assert len(sheets["fr"]) == len(sheets["en"]) > 15
            for fr, en in zip(sheets["fr"], sheets["en"], strict=True):
                assert numbers(fr) == numbers(en), (fr, en)
                bare = re.sub(r"\S*\.toml|\S+_\w+|\(\w+\)|plaza/\w+", "", fr)
                if not after:
                    assert not ENGLISH.search(bare), fr
                    assert not re.search(r"\d\.\d", bare.partition("écrivez : ")[0]), fr
            documents = []
            for lang in LANGS:  # programs read the same whatever the language, but for the instant of asking
                assert main(["policy", command, str(file), *after, "--lang", lang, "--json"]) == 0
                found = json.loads(capsys.readouterr().out)
                documents.append({**found, "withheld": len(found["withheld"]), "warnings": len(found["warnings"])})
            assert documents[0] == documents[1]


def numbers(line: str) -> list[str]:
    """The numbers of a line, as English writes them, whatever the order; those in words left out."""
    line = re.sub(r"\b(15 ?min|1 ?h|6 ?h|1d|1w|ug/m3)\b|_ug_m3", "", line)  # what nodes are called
    line = re.sub("50 contre 50|fois sur 100", "", line)  # in words in English
    line = re.sub("(?<= )1 {2,}", "", line)  # the unit of what is counted, which French leaves out
    plain = line.replace("\u202f", ",").replace("PM2,5", "").replace("pm2_5", "")
    if ". " not in plain:
        plain = re.sub(r"(?<=\d),(?=\d{1,2}\b|\d{3}\d|\d+e)", ".", plain)
    found = re.findall(r"\d+(?:[.,]\d+)*", plain)
    return sorted(re.sub(r"\D", "", one) for one in found)
