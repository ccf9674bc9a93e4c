"""A complete policy, with comments, from the few answers that a steward has; and the one that pauses another."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from murmure_privacy.decide import UNDECIDED
from murmure_privacy.errors import ConfigError
from murmure_privacy.policy import Policy, is_line, parse
from murmure_privacy.policy_words import Lang


@dataclass(frozen=True, slots=True)
class Answers:
    """What a steward says. `streams`: quantities; their names are those of the streams. By quantity, where it differs
    from the example: `epsilons`; `targets`, (node, 95 % margin) instead of an epsilon; `protects`, crossings or
    seconds; `up_to`, a level below which events are protected."""

    site: str
    streams: Sequence[str]
    valid_from: date
    valid_until: date
    version: int = 1
    timezone: str = "Europe/Paris"
    decision: str = UNDECIDED
    reason: str = UNDECIDED
    epsilons: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    protects: Mapping[str, int] = field(default_factory=dict)
    up_to: Mapping[str, int] = field(default_factory=dict)


_WORDS: dict[Lang, dict[str, str]] = {
    "fr": {
        "head": "Une politique : ce qu'un site peut publier, et ce que cela coûte en vie privée. À relire en entier.",
        "try": "Essayer : murmure policy preview FICHIER    Signer : murmure policy sign FICHIER --key … --out …",
        "version": "augmente de un à chaque changement",
        "timezone": "les jours et les nuits sont ceux de ce lieu",
        "decision": "la référence de la délibération ; sans elle, rien n'est signé",
        "reason": "pourquoi l'on mesure ; les habitants le lisent",
        "valid_until": "la publication s'arrête d'elle-même ; la prolonger est un assouplissement",
        "paused": "true suspend la publication, dès la réception",
        "crossings": "l'unité protégée : autant de passages, n'importe quand",
        "seconds": "l'unité protégée : tout son, toute bouffée de cette durée",
        "readings": "une lecture par créneau ; de combien de lectures le capteur se souvient",
        "epsilon": "pour UNE unité protégée, sur tous les chiffres du flux ensemble",
        "delta": "la probabilité avec laquelle la borne peut être dépassée",
        "nodes": "le poids de l'erreur de chaque chiffre",
        "indicators": "le partage du budget entre les indicateurs",
        "bounds": "les bornes : ce qui est au-delà compte comme la borne",
    },
    "en": {
        "head": "A policy: what a site may publish, and what that may cost in privacy. Read all of it.",
        "try": "Try it: murmure policy preview FILE    Sign it: murmure policy sign FILE --key … --out …",
        "version": "grows by one with each change",
        "timezone": "days and nights are those of this place",
        "decision": "the reference of the deliberation; without it nothing is signed",
        "reason": "why it is measured; residents read it",
        "valid_until": "publication stops by itself; to prolong it is a loosening",
        "paused": "true pauses publication as soon as it comes",
        "crossings": "the unit of privacy: so many crossings, at any time",
        "seconds": "the unit of privacy: any sound, any puff of this length",
        "readings": "one reading a slot; how many readings the sensor remembers",
        "epsilon": "for ONE unit of privacy, over all figures of the stream together",
        "delta": "the probability with which the bound may be passed",
        "nodes": "how much each figure's error weighs",
        "indicators": "how the indicators share the budget",
        "bounds": "the bounds: what is beyond counts as the bound",
    },
}
_AIR = ('{ "1h" = 1, "1d" = 24 }', 60, 2, "bounds = [0, 100]", "up_to")
_KINDS: dict[str, tuple[str, int, int, str, str]] = {
    "noise": ('{ "1h" = 1, day = 12, evening = 12, night = 12 }', 15, 11, "bounds_db = [35, 85]", "up_to_db"),
    "pm1": _AIR,
    "pm2_5": _AIR,
    "pm10": _AIR,
}
"""By quantity: nodes, seconds protected, the sensor's tail, bounds, and how a level is called."""


def write(answers: Answers, lang: Lang) -> str:
    """Returns the TOML of the policy; with a target, it is one for `policy preview` to solve. Nothing is checked but by
    reading it again."""
    words = _WORDS[lang]
    lines = [
        f"# {words['head']}",
        f"# {words['try']}",
        "",
        "policy = 1",
        f"site = {_text(answers.site)}",
        *_line(f"version = {answers.version}", words["version"]),
        *_line(f"timezone = {_text(answers.timezone)}", words["timezone"]),
        *_line(f"decision = {_text(answers.decision)}", words["decision"]),
        *_line(f"reason = {_text(answers.reason)}", words["reason"]),
        f"valid_from = {answers.valid_from}",
        *_line(f"valid_until = {answers.valid_until}", words["valid_until"]),
        *_line("paused = false", words["paused"]),
    ]
    for quantity in answers.streams:
        lines += ["", "[[stream]]", *_stream(answers, quantity, words)]
    return "\n".join(lines) + "\n"


def paused(older: Policy, source: str, decision: str | None) -> Policy:
    """Returns the version after a policy, which differs in that it pauses the whole site, and names another `decision`
    if one is given; comments stay. Raises ConfigError, with `source`, for a policy that pauses already, for a decision
    that is none, and for a policy whose keys stand in a way that cannot be replaced."""
    require_line("policy pause", "--decision", decision)
    if older.paused:
        raise ConfigError(source, "paused", "it pauses already", "there is nothing to do")
    version = older.version + 1
    head, table, rest = older.text.decode().partition("\n[[")  # keys of the site come before the first stream
    head = re.sub(r"(?m)^version *= *\d+", f"version = {version}", head, count=1)
    named = 1
    if decision is not None:
        quoted = r"""(?m)^decision *= *("([^"\\\n]|\\.)*"|'[^'\n]*')(?=[ \t\r]*(#|$))"""
        head, named = re.subn(quoted, lambda _: f"decision = {_text(decision)}", head, count=1)
    head, stood = re.subn(r"(?m)^paused *= *false\b", "paused = true", head, count=1)
    if not stood:
        head = re.sub(r"(?m)^(version *=.*\n)", r"\1paused = true\n", head, count=1)
    wanted = replace(older, version=version, paused=True, decision=older.decision if decision is None else decision)
    try:
        made = parse(f"{head}{table}{rest}".encode(), source)
    except ConfigError:
        made = older
    if made != replace(wanted, hash=made.hash, text=made.text):
        mend = f"write version = {version} and paused = true in an editor"
        raise ConfigError(
            source, "version" if named else "decision", "it stands in a way that this command cannot change", mend
        )
    return made


def require_line(command: str, option: str, text: str | None) -> None:
    """Raises ConfigError for a text that is given and cannot stand in a policy: what is wrong is the option, and no
    file."""
    if text is not None and not is_line(text):
        raise ConfigError(command, option, "empty, too long or not printable", "write one line of text")


def _stream(answers: Answers, quantity: str, words: Mapping[str, str]) -> list[str]:
    lines = [f"id = {_text(f'{answers.site}/{quantity}')}", f"quantity = {_text(quantity)}"]
    budget = [f"epsilon = {answers.epsilons.get(quantity, '1.0')}"]
    if quantity in answers.targets:
        node, error = answers.targets[quantity]
        budget = [f"target = {{ node = {_text(node)}, error_95 = {error} }}"]
    budget = [*_line(budget[0], words["epsilon"]), *_line("delta = 1e-6", words["delta"])]
    if quantity not in _KINDS:
        return [
            *lines,
            *_line(f"protects = {{ crossings = {answers.protects.get(quantity, 1)} }}", words["crossings"]),
            *budget,
            *_line('nodes = { "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }', words["nodes"]),
        ]
    nodes, seconds, tail, bounds, level = _KINDS[quantity]
    unit = f"seconds = {answers.protects.get(quantity, seconds)}"
    if quantity in answers.up_to:
        unit += f", {level} = {answers.up_to[quantity]}"
    lines += [
        *_line(f"protects = {{ {unit} }}", words["seconds"]),
        *_line(f"readings = {{ cadence_ms = 1000, tail = {tail} }}", words["readings"]),
        *budget,
        *_line(f"nodes = {nodes}", words["nodes"]),
    ]
    if quantity == "noise":
        lines += _line("indicators = { histogram = 6, mean = 3, energy = 1 }", words["indicators"])
    return [*lines, *_line(bounds, words["bounds"])]


def _line(line: str, comment: str) -> list[str]:
    """Returns a line with its comment: above it, so that no line is too long to be read on paper."""
    return [f"# {comment}", line]


def _text(value: str) -> str:
    """Returns a TOML basic string; whatever cannot stand in one is refused when the file is read."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
