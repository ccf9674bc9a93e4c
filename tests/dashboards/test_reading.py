"""French that is read once: short sentences, no word that hides how sure a figure is or plays the judge.

And a page that is easy to read, in both languages: one short idea a sentence, short words."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from murmure_dashboards.wording import LANGUAGES

MOST_WORDS, MOST_ON_AVERAGE = 20, 14
FRENCH = resources.files("murmure_dashboards").joinpath("locale", "fr")
# Of the pages of operators nothing is asked here.
FILES = sorted(file.name for file in FRENCH.iterdir() if file.name.endswith(".toml") and file.name != "operations.toml")
FORMULA = "method.privacy_3"  # its signs are no words
# Of the easy-to-read page. LIX is words a sentence and, of a hundred words, those of more than six letters: below 25 it
# is a book for children (C. H. Björnsson, Läsbarhet, 1968).
EASY_WORDS, EASY_ON_AVERAGE, EASY_LETTERS, EASY_LIX = 11, 8, 10, 25
# Of all other pages, and of the stewards' handbook. From 30 to 40 it is easy, as novels are; newspapers have 40 to 50,
# and what authorities write 50 to 60. The pages have 18 to 35 (most where there are few sentences: bulletin and foot),
# the handbook 29 in English and 35 in French.
MOST_LIX = 36
HANDBOOK = Path(__file__).parents[2] / "privacy"
# Longer ones that say what nothing shorter does.
EASY_LONG = {
    "fr": {"intellectuel", "responsables", "protection"},
    "en": {"intellectual", "disability", "neighbourhood", "protection"},
}
# What folds two ideas into a sentence, or a word that is not said aloud.
FOLDED = re.compile(r"[;()/%±–]|\b(dont|lequel|laquelle|afin|ainsi|cependant|whose|which|thus|however|e\.g|etc)\b")
FORBIDDEN = re.compile(r"\b(environ|à peu près|approximativement|infraction|hors-la-loi)\b", re.IGNORECASE)


def texts(file: str, code: str = "fr") -> Iterator[tuple[str, str]]:
    """Yields key and text of what one file of the catalogue says."""

    def flat(table: Mapping[str, Any], head: str) -> Iterator[tuple[str, str]]:
        for key, value in table.items():
            if isinstance(value, Mapping):
                yield from flat(value, f"{head}{key}.")
            elif isinstance(value, str):
                yield f"{head}{key}", value

    folder = resources.files("murmure_dashboards").joinpath("locale", code)
    yield from flat(tomllib.loads(folder.joinpath(file).read_text(encoding="utf-8")), "")


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


def hard(code: str, text: str) -> str:
    """Returns what makes a text of the easy-to-read page hard, "" for nothing."""
    for sentence in sentences(text):
        if words(sentence) > EASY_WORDS:
            return "long sentence"
        if FOLDED.search(sentence):
            return "two ideas"
        found = (word for word in spoken(sentence) if len(word) > EASY_LETTERS and word.lower() not in EASY_LONG[code])
        if any(found):
            return "long word"
    return ""


def spoken(text: str) -> list[str]:
    """Returns the words of a text, without what is filled in."""
    return re.findall(r"[^\W\d_]+", re.sub(r"\{[^}]*}", "", text))


def lix(told: list[str]) -> float:
    """Returns how hard texts are to read."""
    every = [word for text in told for word in spoken(text)]
    count = sum(len(sentences(text)) for text in told)
    return len(every) / count + 100 * sum(len(word) > 6 for word in every) / len(every)


def prose(page: str) -> list[str]:
    """Returns the paragraphs and the items of a Markdown page; a command or a file inside one is one short word."""
    page = re.sub(r"(?ms)^```.*?^```", "", page)
    page = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "x", page))
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*] |\d+\. ))", page)
    told = [re.sub(r"\s+", " ", re.sub(r"^\s*(?:[-*]|\d+\.) |\*", "", block)).strip() for block in blocks]
    return [block for block in told if block and not block.startswith(("#", "|"))]


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("file", FILES)
def test_every_page_reads_as_easily_as_a_novel(file: str, code: str) -> None:
    """Long words count as well as long sentences; labels are no sentences and are left out."""
    lines = [text for key, text in texts(file, code) if key != FORMULA and text.endswith((".", "?", "!"))]
    assert (lines == []) == (file == "data.toml")
    assert not lines or lix(lines) <= MOST_LIX


@pytest.mark.parametrize("name", ["LISEZMOI.md", "README.md"])
def test_the_handbook_reads_as_easily_as_a_novel(name: str) -> None:
    """What a steward is to read, without its commands and tables."""
    told = prose((HANDBOOK / name).read_text(encoding="utf-8"))
    assert len(told) > 30 and lix(told) <= MOST_LIX


def test_what_an_authority_would_write_is_found() -> None:
    """Broken twins: long words in a short sentence, and short words in a long one; commands and tables are no prose."""
    assert lix(["Les dispositions réglementaires applicables conditionnent la confidentialité."]) > MOST_LIX
    assert lix(["Il " + "va et " * 18 + "vient."]) > MOST_LIX
    assert lix(["Le boîtier compte les gens. Il les oublie aussitôt."]) < MOST_LIX
    page = "# Titre\n\nLisez `murmure verify` et\n[la page](x.md).\n\n```sh\nmurmure\n```\n\n| a |\n\n1. **Un** pas."
    assert prose(page) == ["Lisez x et la page.", "Un pas."]


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_easy_page_is_easy(code: str) -> None:
    """One short idea a sentence, one sentence a line, no long word but a few; as easy as a book for children."""
    told = {key: text for key, text in texts("easy.toml", code) if not key.endswith("title")}
    assert {key: why for key, text in told.items() if (why := hard(code, text))} == {}
    assert [key for key, text in told.items() if len(sentences(text)) > 1] == []
    lines = [text for text in told.values() if text.endswith((".", "?"))]
    assert len(lines) >= 40 and mean(words(line) for line in lines) <= EASY_ON_AVERAGE
    assert lix(lines) < EASY_LIX


def test_what_is_hard_to_read_is_found() -> None:
    """Broken twins of sentences, and texts of the other pages, which are harder."""
    assert hard("fr", "La boîte oublie le reste.") == hard("en", "The box forgets the rest.") == ""
    assert hard("fr", "La boîte " + "et la boîte " * 4 + "oublient.") == "long sentence"
    assert hard("fr", "Une règle, dont la date compte.") == hard("fr", "La boîte (grise).") == "two ideas"
    assert hard("fr", "La confidentialité compte.") == hard("en", "Differential noise.") == "long word"
    method = [text for key, text in texts("statements.toml") if key.startswith("method.figures_")]
    assert lix(method) > EASY_LIX and any(hard("fr", text) for text in method)
