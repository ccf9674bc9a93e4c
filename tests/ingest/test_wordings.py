"""Policies that differ in their site alone are parsed once, and say what each of them would say."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from murmure_privacy import wordings
from murmure_privacy.errors import ConfigError
from murmure_privacy.policy import Policy, parse
from murmure_privacy.wire import POLICY_LIMIT
from murmure_privacy.wordings import Wordings

LONG = "m" * 40
Read = Callable[[bytes, str], Policy]
Say = Callable[[str], bytes]


def changed(policy_text: Any, *changes: tuple[str, str]) -> Say:
    """Says something else, `{site}` being the name of the site."""

    def say(site: str) -> bytes:
        text: str = policy_text(site).decode()
        for old, new in changes:
            old, new = old.format(site=site), new.format(site=site)
            assert old in text
            text = text.replace(old, new, 1)
        return text.encode()

    return say


def padded(policy_text: Any) -> Say:
    """As long as a policy can be for a site with a name of five letters, and too long for any longer one."""

    def say(site: str) -> bytes:
        text: bytes = policy_text(site)
        return text + b"#" * (POLICY_LIMIT - len(policy_text("plaza")))

    return say


@pytest.fixture
def towns(policy_text: Any) -> list[list[bytes]]:
    """What is said of some sites, one wording after the other; the first of each is what is remembered, if it is."""
    first = 'id = "{site}/footfall"'
    wordings: list[Say] = [
        policy_text,
        changed(policy_text, ("Essai.", "Essai à {site}.")),
        changed(policy_text, ("Essai.", "Essai à quai.")),  # the name of another site
        changed(policy_text, ("policy = 1", "policy = 1 # {site}")),
        changed(policy_text, ("policy = 1", "policy = 1 # {site}"), (first, 'id = "\\u0070laza/footfall"')),
        changed(policy_text, (first, f'id = "{{site}}/{LONG}"')),
        changed(policy_text, ('site = "{site}"', "site = '{site}'")),
        changed(policy_text, ("\n", "\r\n")),
        changed(policy_text, ("cadence_ms = 1000", "cadence_ms = 0")),
        changed(policy_text, (first, 'id = "elsewhere/footfall"')),
        changed(policy_text, (first, 'id = "{site}/pm2_5"')),
        padded(policy_text),
    ]
    sites = ("plaza", "quai", "1", "version", "n" * 40, "place-du-marché", "a" * 41, 'x"', "plaza-2")
    towns = [[say(site) for site in sites] for say in wordings]
    # What stands for the name of a site, in place of one.
    towns.append([policy_text("plaza"), policy_text("quai").replace(b'"quai/footfall', b'"\0/footfall')])
    return towns


def told(read: Read, toml: bytes) -> Policy | str:
    try:
        return read(toml, "policy.toml")
    except ConfigError as error:
        return str(error)


def differs(wordings: type[Wordings], towns: list[list[bytes]]) -> list[bytes]:
    """Returns what it does not read as the parser does."""
    read = wordings()
    return [toml for town in towns for toml in town if told(read, toml) != told(parse, toml)]


def test_a_wording_says_what_its_policies_say(
    towns: list[list[bytes]], monkeypatch: pytest.MonkeyPatch, policy_text: Any
) -> None:
    """Every field of a policy, or every word of why it is none; and a town's are parsed once."""
    assert differs(Wordings, towns) == []
    read = Wordings()
    assert isinstance(told(read, policy_text("plaza")), Policy)
    monkeypatch.setattr(wordings, "parse", lambda *_: pytest.fail("it was parsed again"))
    assert told(read, policy_text("quai")) == told(parse, policy_text("quai"))


def test_what_is_remembered_is_bounded(policy_text: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A town of which each policy says something else of its own costs no more memory than 256 wordings."""
    monkeypatch.setattr(wordings, "_WORDINGS_KEPT", 3)
    read = Wordings()
    for version in range(1, 9):
        toml = policy_text("plaza", version)
        assert told(read, toml) == told(parse, toml)
        assert 0 < len(read._known) <= 3


def _conditions(tree: ast.AST) -> list[tuple[ast.BoolOp, int]]:
    return [
        (question.test, part)
        for question in ast.walk(tree)
        if isinstance(question, ast.If) and isinstance(question.test, ast.BoolOp)
        for part in range(len(question.test.values))
    ]


def _tree() -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(Wordings)))


@pytest.mark.parametrize("number", range(len(_conditions(_tree()))))
def test_no_condition_can_be_left_out(towns: list[list[bytes]], number: int) -> None:
    """The twins: without any one of them another policy is read than stands there, or nothing at all."""
    tree = _tree()
    question, part = _conditions(tree)[number]
    question.values[part] = ast.Constant(True)
    found: dict[str, Any] = {}
    exec(compile(ast.fix_missing_locations(tree), "twin", "exec"), vars(wordings) | found, found)
    try:
        assert differs(found["Wordings"], towns)
    except (AttributeError, TypeError, ValueError):
        return
