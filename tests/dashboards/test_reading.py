"""French that is read once: short sentences, no word that hides how sure a figure is or plays the judge."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from statistics import mean
from typing import Any

import pytest

MOST_WORDS, MOST_ON_AVERAGE = 20, 14
FRENCH = resources.files("murmure_dashboards").joinpath("locale", "fr")
# Of the pages of operators nothing is asked here.
FILES = sorted(file.name for file in FRENCH.iterdir() if file.name.endswith(".toml") and file.name != "operations.toml")
FORMULA = "method.privacy_3"  # its signs are no words
FORBIDDEN = re.compile(r"\b(environ|à peu près|approximativement|infraction|hors-la-loi)\b", re.IGNORECASE)


def texts(file: str) -> Iterator[tuple[str, str]]:
    """Yields key and text of what one file of the catalogue says."""

    def flat(table: Mapping[str, Any], head: str) -> Iterator[tuple[str, str]]:
        for key, value in table.items():
            if isinstance(value, Mapping):
                yield from flat(value, f"{head}{key}.")
            elif isinstance(value, str):
                yield f"{head}{key}", value

    yield from flat(tomllib.loads(FRENCH.joinpath(file).read_text(encoding="utf-8")), "")


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text: a full stop, a question or an exclamation mark ends one, a colon does not."""
    return re.split(r"(?<=[.!?])\s+(?=[A-ZÀ-Ý«{(0-9])", text)


def words(sentence: str) -> int:
    """Returns how many words a sentence has; what is filled in counts as one."""
    return sum(bool(re.search(r"\w", word)) for word in sentence.split())


@pytest.mark.parametrize("file", FILES)
def test_no_sentence_has_more_than_twenty_words(file: str) -> None:
    """And they are shorter on average, so that who reads with difficulty can hold one in mind."""
    found = [(key, sentence, words(sentence)) for key, text in texts(file) for sentence in sentences(text)]
    assert [(key, sentence) for key, sentence, count in found if count > MOST_WORDS and key != FORMULA] == []
    assert mean(count for _, _, count in found) <= MOST_ON_AVERAGE


@pytest.mark.parametrize("file", FILES)
def test_no_word_blurs_a_figure_or_judges(file: str) -> None:
    """An interval says how sure a figure is, never « environ »; a sensor of ours finds nobody guilty."""
    assert [key for key, text in texts(file) if FORBIDDEN.search(text)] == []


def test_sentences_and_words_are_counted_as_people_do() -> None:
    """A number with a decimal sign ends no sentence, a colon neither; a lone sign is no word."""
    assert sentences("Il passe 1,5 personne. Voilà : c'est tout ! Et après ?") == [
        "Il passe 1,5 personne.",
        "Voilà : c'est tout !",
        "Et après ?",
    ]
    assert words("Voilà : c'est tout !") == 3 and words("de {low} à {high} dB – {what}") == 6
    assert words("un " * 21) > MOST_WORDS
    assert FORBIDDEN.search("Environ 12 passages") and not FORBIDDEN.search("les environs, l'environnement")
