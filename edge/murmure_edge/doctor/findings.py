"""What the doctor can find: a code, and by it in `catalogue.toml` a sentence and a gesture in both languages."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any

LANGUAGES = ("fr", "en")


class Severity(StrEnum):
    """How bad a finding is. A failure: no figures, or a broken promise. A warning: figures suffer, or will."""

    FAILURE = "failure"
    WARNING = "warning"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Entry:
    """One code of the catalogue. `texts`: language -> (sentence, gesture), with {names} that a finding fills in.
    `exercise`: how to meet it without a broken sensor, for docs/doctor.md and for a test that does it."""

    code: str
    severity: Severity
    texts: Mapping[str, tuple[str, str]]
    exercise: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. `port`: the port's name in gateway.toml, or the device's path; "" for the machine. `about`: what
    the sentence names (paths, groups, speeds, counts of frames); never a value that was measured. `private`: it hangs
    on who passed meanwhile, so it is for the technician's own screen alone."""

    code: str
    port: str = ""
    about: Mapping[str, str | int | float] = field(default_factory=dict)
    private: bool = False

    @property
    def severity(self) -> Severity:
        """Returns what the catalogue says of its code."""
        return catalogue()[self.code].severity

    def texts(self, language: str) -> tuple[str, str]:
        """Returns sentence and gesture in one of LANGUAGES."""
        sentence, gesture = catalogue()[self.code].texts[language]
        return sentence.format_map(self.about), gesture.format_map(self.about)

    def as_json(self) -> dict[str, object]:
        """Returns it as one object: code, severity, port, sentence and gesture in both languages, what they name."""
        texts = {language: self.texts(language) for language in LANGUAGES}
        return {
            "code": self.code,
            "severity": str(self.severity),
            "port": self.port,
            "sentence": {language: sentence for language, (sentence, _) in texts.items()},
            "gesture": {language: gesture for language, (_, gesture) in texts.items()},
            "about": dict(self.about),
        }


@cache
def catalogue() -> Mapping[str, Entry]:
    """Returns every code with what is said of it, in the order of the file."""
    table = tomllib.loads(files("murmure_edge.doctor").joinpath("catalogue.toml").read_text("utf-8"))
    return {
        code: Entry(
            code,
            Severity(entry["severity"]),
            {language: (entry[language][0], entry[language][1]) for language in LANGUAGES},
            entry["exercise"],
        )
        for group, codes in table.items()
        for code, entry in ((f"{group}.{name}", entry) for name, entry in codes.items())
    }


def language_of(environ: Mapping[str, str]) -> str:
    """Returns the language that the environment asks for: French if its locale is, else English."""
    named = next((environ[key] for key in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(key)), "")
    return "fr" if named.lower().startswith("fr") else "en"
