"""Policies in words, French and English: what differs between two, and what a change takes. Kept beside `decide`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any, Literal

from murmure_privacy import accountant
from murmure_privacy.decide import FLOOR, FLOOR_EPSILON, NOTICE_S, Difference, Way, compare, loosens
from murmure_privacy.plan import Plan
from murmure_privacy.policy import DEFAULT_DELTA

Lang = Literal["fr", "en"]
LANGS: tuple[Lang, ...] = ("fr", "en")
Both = dict[Lang, str]
"""A sentence in each language."""

NOTICE_DAYS = NOTICE_S // 86_400

_NODES: dict[Lang, dict[str, str]] = {
    "fr": {
        "15min": "quart d'heure",
        "1h": "heure",
        "6h": "six heures",
        "1d": "jour",
        "1w": "semaine",
        "day": "journée (6 h à 18 h)",
        "evening": "soirée (18 h à 22 h)",
        "night": "nuit (22 h à 6 h)",
    },
    "en": {
        "15min": "quarter-hour",
        "1h": "hour",
        "6h": "six hours",
        "1d": "day",
        "1w": "week",
        "day": "day (06 to 18)",
        "evening": "evening (18 to 22)",
        "night": "night (22 to 06)",
    },
}
_INDICATORS: dict[Lang, dict[str, str]] = {
    "fr": {"crossings": "passages", "histogram": "histogramme", "mean": "moyenne", "energy": "énergie"},
    "en": {"crossings": "crossings", "histogram": "histogram", "mean": "mean", "energy": "energy"},
}

# By dimension: what is said of a value that changed, of one that is new, of one that is gone.
_SAID: dict[Lang, dict[str, tuple[str, str, str]]] = {
    "fr": {
        "timezone": ("fuseau horaire {now} au lieu de {was} : d'autres jours, d'autres chiffres", "", ""),
        "valid_from": ("commence le {now} au lieu du {was}", "", ""),
        "valid_until": ("s'arrête le {now} au lieu du {was}", "", ""),
        "version": ("version {now} après la {was} : ce qu'il y a entre les deux n'a pas été vu", "", ""),
        "decision": ("décision « {now} » au lieu de « {was} »", "", ""),
        "reason": ("motif « {now} » au lieu de « {was} »", "", ""),
        "stream": ("", "flux nouveau", "le flux n'est plus mesuré"),
        "quantity": ("mesure {now} au lieu de {was}", "", ""),
        "crossings": ("passages protégés ensemble : {now} au lieu de {was}", "", ""),
        "seconds": ("secondes protégées ensemble : {now} au lieu de {was}", "", ""),
        "up_to": (
            "protège jusqu'au niveau {now} au lieu de {was}",
            "ne protège plus que jusqu'au niveau {now} (avant : tous les niveaux)",
            "protège à tous les niveaux (avant : jusqu'à {was})",
        ),
        "cadence_ms": ("une lecture toutes les {now} ms au lieu de {was} ms", "", ""),
        "tail": ("mémoire du capteur comptée : {now} lectures au lieu de {was}", "", ""),
        "epsilon": ("ε = {now} au lieu de {was}", "", ""),
        "delta": ("δ = {now} au lieu de {was}", "", ""),
        "bounds": ("bornes {now} au lieu de {was}", "", ""),
        "figure": ("", "chiffre nouveau : {at}", "chiffre supprimé : {at}"),
        "scale": ("bruit sur {at} : {percent}", "", ""),
        "paused": ("{flag}", "", ""),
        "cap": ("", "plafond annuel nouveau : ε {now}", "plus de plafond (avant : ε {was})"),
        "cap.epsilon": ("plafond ε {now} au lieu de {was}", "", ""),
        "cap.units_per_day": ("plafond compté pour {now} unités par jour au lieu de {was}", "", ""),
        "cap.days": ("plafond sur {now} jours au lieu de {was}", "", ""),
    },
    "en": {
        "timezone": ("time zone {now} instead of {was}: other days, other figures", "", ""),
        "valid_from": ("begins on {now} instead of {was}", "", ""),
        "valid_until": ("ends on {now} instead of {was}", "", ""),
        "version": ("version {now} after {was}: what lies between was never seen", "", ""),
        "decision": ("decision “{now}” instead of “{was}”", "", ""),
        "reason": ("reason “{now}” instead of “{was}”", "", ""),
        "stream": ("", "new stream", "the stream is measured no more"),
        "quantity": ("measures {now} instead of {was}", "", ""),
        "crossings": ("crossings protected together: {now} instead of {was}", "", ""),
        "seconds": ("seconds protected together: {now} instead of {was}", "", ""),
        "up_to": (
            "protects up to level {now} instead of {was}",
            "protects up to level {now} only (before: at any level)",
            "protects at any level (before: up to {was})",
        ),
        "cadence_ms": ("a reading every {now} ms instead of {was} ms", "", ""),
        "tail": ("sensor memory counted: {now} readings instead of {was}", "", ""),
        "epsilon": ("ε = {now} instead of {was}", "", ""),
        "delta": ("δ = {now} instead of {was}", "", ""),
        "bounds": ("bounds {now} instead of {was}", "", ""),
        "figure": ("", "new figure: {at}", "figure dropped: {at}"),
        "scale": ("noise on {at}: {percent}", "", ""),
        "paused": ("{flag}", "", ""),
        "cap": ("", "new cap: ε {now}", "no cap any more (before: ε {was})"),
        "cap.epsilon": ("cap ε {now} instead of {was}", "", ""),
        "cap.units_per_day": ("cap counted for {now} units a day instead of {was}", "", ""),
        "cap.days": ("cap over {now} days instead of {was}", "", ""),
    },
}
_FLAG: dict[Lang, dict[str, str]] = {
    "fr": {"true": "publication suspendue", "false": "publication reprise"},
    "en": {"true": "publication paused", "false": "publication resumed"},
}
HEADS: dict[Lang, dict[Way, str]] = {
    "fr": {
        "looser": "Plus permissif",
        "unlike": "Incomparable, donc compté comme plus permissif",
        "tighter": "Plus protecteur",
        "same": "Sans effet sur la protection",
    },
    "en": {
        "looser": "Looser",
        "unlike": "Cannot be compared, so counts as looser",
        "tighter": "Tighter",
        "same": "Without effect on protection",
    },
}
_NEEDS: dict[Lang, dict[str, str]] = {
    "fr": {
        "looser": (
            f"Il faut deux signatures de rôles différents et {NOTICE_DAYS} jours d'attente à chaque boîtier. Ce qui "
            "protège mieux agit dès la réception ; si vous voulez les deux, faites-en deux règles."
        ),
        "tighter": "Il faut une signature ; agit dès la réception.",
        "same": "Il faut une signature ; rien ne change pour les habitants.",
    },
    "en": {
        "looser": (
            f"It needs two signatures of different roles, and {NOTICE_DAYS} days of notice at each gateway. What "
            "protects better acts as soon as it comes; if you want both, make two policies of it."
        ),
        "tighter": "It needs one signature, and acts as soon as it comes.",
        "same": "It needs one signature; nothing changes for residents.",
    },
}


DIRECTIONS: dict[Lang, dict[str, str]] = {
    "fr": {
        "first": "première",
        "looser": "plus permissive",
        "tighter": "plus protectrice",
        "same": "même protection",
        "valid_from": "date inconnue, valable dès le",
        "none": "aucune règle n'est publiée ; voir 'murmure policy publish --help'",
    },
    "en": {
        "first": "first",
        "looser": "looser",
        "tighter": "tighter",
        "same": "same protection",
        "valid_from": "date unknown, valid from",
        "none": "no policy is published; see 'murmure policy publish --help'",
    },
}

NEXT: Both = {
    "fr": "{file} : version {version} de {site} ; ensuite : murmure policy preview {file}",
    "en": "{file}: version {version} of {site}; next: murmure policy preview {file}",
}

PAUSED: Both = {
    "fr": "{file} : version {version} de {site}, en pause ; ensuite : murmure policy sign {file} --key …",
    "en": "{file}: version {version} of {site}, paused; next: murmure policy sign {file} --key …",
}

CENTRE: dict[str, Both] = {
    "role": {
        "fr": 'dans ingest.toml, sous [deciding.roles] : "{key}" = "{role}"',
        "en": 'in ingest.toml, under [deciding.roles]: "{key}" = "{role}"',
    },
    "signed": {"fr": "{file} est signé", "en": "{file} is signed"},
    "published": {
        "fr": "la version {version} de {site} est publiée : sha256:{hash}",
        "en": "version {version} of {site} is published: sha256:{hash}",
    },
    "loosens": {
        "fr": "elle assouplit : les boîtiers l'appliquent {days} jours après l'avoir vue ({gateways})",
        "en": "it loosens: gateways let it hold {days} days after they first see it ({gateways})",
    },
    "no_first": {
        "fr": "ce n'est pas une version 1 : les boîtiers l'appliquent {days} jours après l'avoir vue ({gateways})",
        "en": "it is no version 1: gateways let it hold {days} days after they first see it ({gateways})",
    },
    "newer": {
        "fr": "{gateway} n'a montré aucun chiffre : s'il n'a pas encore de règle, celle-ci est plus récente que son "
        "enrôlement, et s'y applique {days} jours après qu'il l'a vue ; enrôlez-le de nouveau pour commencer plus tôt",
        "en": "{gateway} has shown no figure: if it has no policy yet, this one is newer than its enrolment, and holds "
        "there {days} days after it first sees it; enrol it anew to begin sooner",
    },
    "not_taken": {
        "fr": "{gateway} n'a montré aucun chiffre : s'il n'a pas encore de règle, celle-ci n'est pas prise ({reason} : "
        "{detail}) ; publiez version = {next} qu'il prenne, et enrôlez-le de nouveau",
        "en": "{gateway} has shown no figure: if it has no policy yet, this one is not taken ({reason}: {detail}); "
        "publish version = {next} that it takes, and enrol it anew",
    },
}
"""What the commands of the centre tell a steward who makes a key, signs, or publishes."""

_CEILING: dict[Lang, str] = {
    "fr": "Ses flux coûtent ensemble ε {epsilon} (δ {delta}) ; le plafond fixé à l'enrôlement doit le permettre.",
    "en": "Its streams cost epsilon {epsilon} together (delta {delta}); the ceiling set at the site's enrolment must "
    "allow it.",
}
# What becomes of a policy that costs more than the floor of the release allows: see `decide`.
_BEYOND: dict[str, Both] = {
    "alone": {
        "fr": "Tout boîtier la refuserait comme première règle ou comme assouplissement, et ne la prend que si elle "
        "n'assouplit rien de celle qu'il a",
        "en": "Every gateway would refuse it as its first policy or as a loosening, and takes it only where it loosens "
        "nothing of the one that it has",
    },
    "looser": {"fr": "Tout boîtier la refuserait", "en": "Every gateway would refuse it"},
    "not looser": {
        "fr": "Un boîtier qui a la règle précédente la prend, car elle n'en assouplit rien ; un boîtier qui n'en a pas "
        "encore la refuserait",
        "en": "A gateway that has the older one takes it, since it loosens nothing of it; one that has none yet would "
        "refuse it",
    },
}
_ABOVE: dict[str, Both] = {
    "rho": {
        "fr": f"ses flux coûtent ensemble plus que ce logiciel ne permet (epsilon {FLOOR_EPSILON} à delta "
        f"{DEFAULT_DELTA:.0e}) ; baissez un epsilon.",
        "en": f"its streams cost more together than this software allows (epsilon {FLOOR_EPSILON} at delta "
        f"{DEFAULT_DELTA:.0e}); lower an epsilon.",
    },
    "delta": {
        "fr": f"le delta d'un flux dépasse ce que ce logiciel permet ({FLOOR.delta:.0e}) ; baissez-le.",
        "en": f"the delta of a stream is above what this software allows ({FLOOR.delta:.0e}); lower it.",
    },
}


def beyond_the_floor(rho_micro: int, delta: Decimal, way: Literal["alone", "looser", "not looser"]) -> list[Both]:
    """Returns what gateways make of a policy whose streams cost `rho_micro` together, the largest `delta` among them,
    where that is more than the release allows; nothing where it is not. `way`: how it compares with the one before, or
    that nobody said which one that is."""
    found = ["rho"] * (rho_micro > FLOOR.rho_micro) + ["delta"] * (delta > FLOOR.delta)
    colon: Both = {"fr": " : ", "en": ": "}
    return [{lang: _BEYOND[way][lang] + colon[lang] + _ABOVE[what][lang] for lang in LANGS} for what in found]


def alone(made: Plan) -> list[Both]:
    """Returns the same of a policy of which nobody said what it follows."""
    return beyond_the_floor(*_most(made), "alone")


def _most(made: Plan) -> tuple[int, Decimal]:
    return sum(one.rho_micro for one in made.streams.values()), max(one.delta for one in made.policy.streams)


def older(version: int) -> Both:
    """Returns why a policy that does not come after this version would be refused."""
    return {
        "fr": f"Tout boîtier la refuserait : écrivez version = {version + 1}, qui vient après la {version}.",
        "en": f"Every gateway would refuse it: write version = {version + 1}, which comes after {version}.",
    }


def language(environment: Mapping[str, str] = os.environ) -> Lang:
    """Returns English where the operator's locale says so, else French, the language of the stewards."""
    named = (environment.get(key) for key in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return "en" if next(filter(None, named), "").startswith("en") else "fr"


def direction(differences: Sequence[Difference]) -> Literal["looser", "tighter", "same"]:
    """Returns which way a change goes, all in all."""
    if loosens(tuple(differences)):
        return "looser"
    return "tighter" if any(one.way == "tighter" for one in differences) else "same"


def needs(differences: Sequence[Difference], lang: Lang) -> str:
    """Returns what a change takes, in a sentence or two. Of a gateway that was enrolled with roles: the signatures."""
    return _NEEDS[lang][direction(differences)]


@dataclass(frozen=True, slots=True)
class Change:
    """From one policy of a site to another: what differs, and what each costs, its streams together, in micro-rho.
    `now_delta`: the largest of the newer one's streams."""

    differences: tuple[Difference, ...]
    versions: tuple[int, int]
    was_rho_micro: int
    now_rho_micro: int
    now_delta: Decimal

    @property
    def direction(self) -> Literal["looser", "tighter", "same"]:
        """Returns which way it goes, all in all."""
        return direction(self.differences)

    def needs(self, lang: Lang) -> list[str]:
        """Returns what it takes, a sentence or two each: signatures and notice, and for a loosening the ceiling."""
        said = [needs(self.differences, lang)]
        if self.direction == "looser":
            epsilon = accountant.epsilon(Decimal(self.now_rho_micro) / accountant.MICRO, DEFAULT_DELTA)
            shown = f"{epsilon.normalize(Context(prec=3, rounding=ROUND_CEILING)):f}"
            said.append(_CEILING[lang].format(epsilon=_number(shown, lang), delta=f"{DEFAULT_DELTA:.0e}"))
        return said

    def refused(self) -> list[Both]:
        """Returns why every gateway would refuse the newer one, whoever signs."""
        was, now = self.versions
        found = [older(was)] if now <= was else []
        return found + (self._beyond("looser") if self.direction == "looser" else [])

    def notes(self) -> list[Both]:
        """Returns what only a gateway would refuse that has no policy yet."""
        return [] if self.direction == "looser" else self._beyond("not looser")

    def _beyond(self, way: Literal["looser", "not looser"]) -> list[Both]:
        return beyond_the_floor(self.now_rho_micro, self.now_delta, way)

    def document(self) -> dict[str, Any]:
        """Returns it for programs, sentences in both languages."""
        looser = self.direction == "looser"
        return {
            "direction": self.direction,
            "needs": {"signatures": 1 + looser, "roles": 1 + looser, "days": NOTICE_DAYS if looser else 0},
            "rho_micro": {"was": self.was_rho_micro, "now": self.now_rho_micro},
            "refused": self.refused(),
            "notes": self.notes(),
            "differences": [
                {"stream": one.stream, "what": one.what, "at": one.at, "way": one.way, "was": one.was, "now": one.now}
                | {lang: said(one, lang) for lang in LANGS}
                for one in self.differences
            ],
        }


def change(old: Plan, new: Plan) -> Change:
    """Returns what differs between two policies of a site."""
    (was_rho_micro, _), now = _most(old), _most(new)
    return Change(compare(old, new), (old.policy.version, new.policy.version), was_rho_micro, *now)


def told(made: Change, lang: Lang) -> list[str]:
    """Returns a change in lines: what becomes looser, what tighter, what that takes, and why it would be refused."""
    lines = []
    for heading in ("looser", "unlike", "tighter", "same"):
        of_it = [said(one, lang) for one in made.differences if one.way == heading]
        if of_it:
            lines += [HEADS[lang][heading] + (" :" if lang == "fr" else ":"), *(f"  - {line}" for line in of_it)]
    return [*lines, *made.needs(lang), *(one[lang] for one in (*made.refused(), *made.notes()))]


def said(one: Difference, lang: Lang) -> str:
    """Returns one difference in words, the stream first if it is of one."""
    changed, new, gone = _SAID[lang][one.what]
    words = (new if not one.was else gone if not one.now else changed).format(
        was=_number(one.was, lang),
        now=_number(one.now, lang),
        at=_at(one.at, lang),
        percent=_number(_percent(one), lang),
        flag=_FLAG[lang].get(one.now, ""),
    )
    colon = " : " if lang == "fr" else ": "
    return f"{one.stream}{colon}{words}" if one.stream else words


def _at(at: str, lang: Lang) -> str:
    level, _, indicator = at.partition(" ")
    return f"{_INDICATORS[lang].get(indicator, '')} ({_NODES[lang].get(level, '')})"


def _number(text: str, lang: Lang) -> str:
    """Returns a number as a sentence has it: a policy writes 0.577, French 0,577. Any other text stays as it is."""
    return text.replace(".", ",") if lang == "fr" and re.fullmatch(r"[-+]?\d+\.\d+( %)?", text) else text


def _percent(one: Difference) -> str:
    """Returns how much more or less noise there is; a difference is never told as none."""
    if one.what != "scale":
        return ""
    change = 100 * (int(one.now) / int(one.was) - 1)
    return f"{change:+.0f} %" if abs(change) >= 1 else f"{change:+.2g} %"
