"""The documentation says what the program does: commands, options, keys, links."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOT_OURS = {".git", ".venv", "demo", "dist", "node_modules", ".pytest_cache"}
BLOCK = re.compile(r"^```(sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
HERE = re.compile(r"(<<'(\w+)'\n).*?^\2$", re.MULTILINE | re.DOTALL)  # what a command is given to read
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)]*)?\)")
# A page for French towns and the same page in English.
PAIRS = ["edge", "ingest", "privacy"]
# Who reads an example file; its keys are the fields of the dataclasses there.
CONFIGURED = {
    "edge/gateway.example.toml": "murmure_edge.config",
    "ingest/ingest.example.toml": "murmure_ingest.config",
    "dashboards/city.example.toml": "murmure_dashboards.config",
}
EXAMPLES = {file: module for file, module in CONFIGURED.items() if find_spec(module)}
# Classes and fields that are spelt otherwise in the file, or do not come from it.
OTHERWISE = {
    "GatewayConfig.file": None,
    "GatewayConfig.ports": "port",
    "PortConfig.options": None,
    "PortConfig.calibration": None,
    "Calibration.offsets": "offset",
    "Calibration.on": "calibrated",
    "Broker.tls": None,  # authority, certificate and key
    "BrokerConfig.tls": None,
    "IngestConfig.source": None,
    "Trust": None,
}


def pages() -> list[Path]:
    found = [path for path in ROOT.rglob("*.md") if not NOT_OURS.intersection(path.relative_to(ROOT).parts)]
    return sorted(found)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands_on(page: Path) -> Iterator[list[str]]:
    """Yields the words of each command line in a page's sh and console blocks, up to a pipe or the next command.

    `murmure-centre` is `murmure`, as the archive's user.
    """
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in HERE.sub(r"\1", block).replace("\\\n", " ").splitlines():
            if language == "console" and not line.startswith("$ "):
                continue  # what the command printed
            lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars="|&;<>")
            lexer.whitespace_split = True
            words: list[str] = []
            file_follows = False
            for word in [*lexer, ";"]:
                if file_follows or word[0] in "<>":
                    file_follows = word[0] in "<>"
                    continue
                if word[0] not in "|&;":
                    words.append(word)
                    continue
                while words and (words[0] == "sudo" or re.fullmatch(r"[A-Z_]+=.*", words[0])):
                    del words[0]
                if words:
                    yield [Path(words[0]).name.removesuffix("-centre"), *words[1:]]
                words = []


@cache
def parser() -> argparse.ArgumentParser:
    from murmure.cli import build_parser

    return build_parser()


def leaves(
    of: argparse.ArgumentParser, path: tuple[str, ...] = (), help_text: str | None = None
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser, str | None]]:
    """Yields each command without commands below it: its words, its parser, its line in the list above it."""
    below = [action for action in of._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield path, of, help_text
    for action in below:
        said = {choice.dest: choice.help for choice in action._choices_actions}
        for word, sub in action.choices.items():
            yield from leaves(sub, (*path, word), said.get(word))


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", pages(), ids=name)
def test_commands_on_a_page_are_understood(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each `murmure` line in a page parses as it stands, and each `make` line names a target."""
    wrong = []
    for words in commands_on(page):
        if words[0] == "make":
            goals = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
            wrong += [shlex.join(words) for goal in goals if goal not in targets()]
        elif words[0] == "murmure":
            try:
                parser().parse_args(words[1:])
            except SystemExit as stop:
                if stop.code:
                    wrong.append(f"{shlex.join(words)}: {capsys.readouterr().err.strip().splitlines()[-1]}")
    assert wrong == []


@pytest.mark.parametrize("page", pages(), ids=name)
def test_a_page_names_no_command_that_is_not_there(page: Path) -> None:
    """What stands as `murmure word word` in running text exists; a plan is not documentation."""
    wrong = []
    for said in re.findall(r"`murmure ((?:[a-z]+ ?)+)", BLOCK.sub("", page.read_text(encoding="utf-8"))):
        at = parser()
        for word in said.split():
            below = [action for action in at._actions if isinstance(action, argparse._SubParsersAction)]
            if not below:
                break
            if word not in below[0].choices:
                wrong.append(said)
                break
            at = below[0].choices[word]
    assert wrong == []


def test_every_command_helps() -> None:
    """Each command has a line in the list, a description, an example and a handler."""
    wrong = [
        f"murmure {' '.join(path)}: no {lack}"
        for path, leaf, help_text in leaves(parser())
        for lack, there in (
            ("help", help_text),
            ("description", leaf.description),
            ("example", "example" in (leaf.epilog or "").lower()),
            ("handler", leaf.get_default("handler")),
        )
        if not there
    ]
    assert wrong == []


def test_every_option_is_explained() -> None:
    """No option or argument is listed without a word on it."""
    wrong = [
        f"murmure {' '.join(path)}: {action.dest}"
        for path, leaf, _ in leaves(parser())
        for action in leaf._actions
        if not action.help
    ]
    assert wrong == []


def test_an_example_in_a_help_text_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    """What an epilog shows can be typed."""
    wrong = []
    for path, leaf, _ in leaves(parser()):
        for line in re.findall(r"(?<![\w.-])murmure [^\n|>&;]+", leaf.epilog or ""):
            try:
                parser().parse_args(shlex.split(line, comments=True)[1:])
            except SystemExit as stop:
                if stop.code:
                    wrong.append(f"{' '.join(path)}: {line}: {capsys.readouterr().err.strip().splitlines()[-1]}")
    assert wrong == []


def test_every_command_stands_on_a_page() -> None:
    """A command that no page mentions is a command that nobody finds."""
    text = re.sub(r"\s+", " ", "\n".join(page.read_text(encoding="utf-8") for page in pages()))
    missing = [" ".join(path) for path, _, _ in leaves(parser()) if f"murmure {' '.join(path)}" not in text]
    assert missing == []


def keys(module: ModuleType) -> Iterator[str]:
    """Yields the keys that a configuration module reads."""
    for kind in vars(module).values():
        if not isinstance(kind, type) or not dataclasses.is_dataclass(kind) or kind.__module__ != module.__name__:
            continue
        for field in (one for one in dataclasses.fields(kind) if one.init):  # no file can set another
            whole = f"{kind.__name__}.{field.name}"
            key = None if kind.__name__ in OTHERWISE else OTHERWISE.get(whole, field.name)
            if key is not None:
                yield key


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_key_stands_in_its_example(example: str) -> None:
    """A setting appears in three places at once: the frozen class, the commented example file, a test."""
    text = (ROOT / example).read_text(encoding="utf-8")
    shown = set(re.findall(r"(?:^|[{,]|^\s*\[+)[\s#]*([A-Za-z0-9_.-]+)\s*(?:=|\]+\s*(?:#|$))", text, re.MULTILINE))
    shown = {part for key in shown for part in key.split(".")}
    assert [key for key in keys(importlib.import_module(EXAMPLES[example])) if key not in shown] == []


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_accepted(example: str) -> None:
    """An example file can be copied and used as it stands."""
    importlib.import_module(EXAMPLES[example]).load(ROOT / example)


@pytest.mark.parametrize("page", pages(), ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link or picture points at a file of the checkout."""
    there = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if ":" not in link]
    assert [link for link in there if not (page.parent / link).exists()] == []


def anchors(page: Path) -> set[str]:
    """Returns by what the headings of a page can be linked to, as code hosts make it."""
    text = re.sub(r"\]\([^)]*\)", "", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text.lower(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=name)
def test_a_link_into_a_page_leads_to_a_heading(page: Path) -> None:
    """Whoever renames a heading mends the links to it."""
    there = re.findall(r"\]\(([^)\s#:]*)#([^)\s]+)\)", page.read_text(encoding="utf-8"))
    targets_of = [(page.parent / file if file else page, anchor) for file, anchor in there]
    assert [(str(to), anchor) for to, anchor in targets_of if to.suffix == ".md" and anchor not in anchors(to)] == []


def test_every_decision_is_in_the_list() -> None:
    """docs/decisions/README.md leads to each page beside it."""
    folder = ROOT / "docs" / "decisions"
    listed = LINK.findall((folder / "README.md").read_text(encoding="utf-8"))
    assert sorted(path.name for path in folder.glob("[0-9]*.md")) == sorted(listed)


@pytest.mark.parametrize("folder", PAIRS)
def test_both_languages_tell_the_same(folder: str) -> None:
    """Same sections, same commands, same words in tables, in the same order; only the language differs, also that of
    the pictures."""
    english, french = ((ROOT / folder / file).read_text("utf-8") for file in ("README.md", "LISEZMOI.md"))
    english, _, _ = english.partition("\n# The privacy kernel\n")  # for researchers, who read English
    for pattern in (
        r"^(#+) (?:\d+\.|\w+$)",
        r"^\| (`[^|]+`) \|",
        r"^!\[[^\]]*\]\(([^)]+?)(?:\.en)?\.(?:png|svg)\)",
        r"^ *(?:-|\d\.) ",
    ):
        assert re.findall(pattern, english, re.MULTILINE) == re.findall(pattern, french, re.MULTILINE)
    assert typed(english) == typed(french)


def typed(text: str) -> list[str]:
    """Returns what a page lets type, without comments and the choice of a language."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    lines = [
        re.sub("--lang (en|fr)", "", line.partition("#")[0]).split() for block in blocks for line in block.splitlines()
    ]
    return [" ".join(line) for line in lines]
