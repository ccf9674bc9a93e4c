"""The machinery of `make mutants`: it finds the faults it should, and notices tests that would let them pass."""

from __future__ import annotations

import ast
import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("mutants.py")
SAMPLE = 60

TOY = b'''"""Words."""

LIMIT = 3
QUERY = "SELECT max(a) FROM t WHERE b = ? AND a < ? ORDER BY a DESC"


class Counter:
    def add(self, value: int) -> int:
        """More words."""
        if value < 0 or not self.open:
            raise ValueError("below zero")
        self.total = min(value, LIMIT >> 1)
        for at in range(value):
            self.note(at, value)
        with self.lock:
            self.total += -(-value // 2)
        return self.total


def safely(counter: Counter) -> bool:
    try:
        return all(at for at in [1] if at is not None)
    except ValueError:
        return False
'''
EXPECTED = [
    ("comparison", "if (value <= 0) or not self.open:"),
    ("boolean", "if (value < 0 and (not self.open)):"),
    ("boolean", "if (False or not self.open):"),
    ("sign", "if value < 0 or self.open:"),
    ("condition", "if False:"),
    ("removal", "pass"),
    ("constant", "LIMIT = 4"),
    ("constant", "LIMIT = 2"),
    ("call", "self.total = max(value, LIMIT >> 1)"),
    ("arithmetic", "self.total = min(value, (LIMIT << 1))"),
    ("call", "self.total = value"),
    ("range", "for at in range(value - 1):"),
    ("loop", "for at in ():"),
    ("argument", "self.note(value, at)"),
    ("context", "if True:"),
    ("arithmetic", "self.total -= -(-value // 2)"),
    ("rounding", "self.total += -((-(value // 2)))"),
    ("return", "return None"),
    ("handler", "except ValueError: raise"),
    ("condition", "return all((at for at in [1]))"),
    ("sql", "SELECT min(a) FROM t WHERE b = ? AND a < ? ORDER BY a DESC"),
    ("sql", "SELECT max(a) FROM t WHERE ? IS NOT NULL AND a < ? ORDER BY a DESC"),
    ("sql", "SELECT max(a) FROM t WHERE b = ? AND a <= ? ORDER BY a DESC"),
    ("sql", "SELECT max(a) FROM t WHERE b = ? AND a < ? ORDER BY a"),
]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize(("operator", "becomes"), EXPECTED)
def test_each_operator_applies(script: dict[str, Any], operator: str, becomes: str) -> None:
    """Every kind of fault is made where it can be made, and is told by the line it leaves."""
    made = [(mutant.operator, mutant.becomes) for mutant in script["mutants"]("toy", TOY)]
    assert (operator, becomes) in made


def test_mutants_are_different_programs(script: dict[str, Any]) -> None:
    """Each compiles, none is the original, none comes twice, none changes only words, each has a key of its own."""
    mutants = script["mutants"]("toy", TOY)
    shapes = {ast.dump(ast.parse(mutant.source(TOY))) for mutant in mutants}
    assert len(shapes) == len(mutants) == len({mutant.key for mutant in mutants})
    assert ast.dump(ast.parse(TOY)) not in shapes
    for mutant in mutants:
        compile(mutant.source(TOY), "toy.py", "exec")
        assert all(words in mutant.source(TOY) for words in (b"Words.", b"More words.")), mutant
        assert b"below zero" in mutant.source(TOY) or mutant.becomes == "pass"


def test_names_for_annotations_stay(script: dict[str, Any]) -> None:
    """Only a type checker reads them; the same words as a value are changed."""
    assert script["mutants"]("toy", b'One = TypeVar("One", int, str)\nWay = Literal["a", "b"]\n') == []
    assert len(script["mutants"]("toy", b'WAYS = ("a", "b")\n')) == 2


def test_an_argument_is_known_by_its_words_not_by_its_line(script: dict[str, Any]) -> None:
    """Lines put above a survivor do not make it a new one."""
    moved = TOY.replace(b"LIMIT = 3", b"OTHER: int\nLIMIT = 3")
    before, after = script["mutants"]("toy", TOY), script["mutants"]("toy", moved)
    assert [mutant.key for mutant in before] == [mutant.key for mutant in after]
    assert [mutant.line + 1 for mutant in before] == [mutant.line for mutant in after]


def test_what_saw_the_fault_beside_looks_first(script: dict[str, Any]) -> None:
    """Then the quickest, of which what was never timed is one."""
    items = [SimpleNamespace(nodeid=name) for name in ("slow", "quick", "new", "older", "latest")]
    seconds = {"slow": 3.0, "quick": 1.0, "latest": 9.0, "older": 9.0}
    script["_Judge"](Path(), seconds, ["latest", "older", "gone"]).pytest_collection_modifyitems(items)
    assert [item.nodeid for item in items] == ["latest", "older", "new", "quick", "slow"]


def verdict(script: dict[str, Any], mutant: Any, outcome: str) -> Any:
    return script["Verdict"](mutant, script["Run"](outcome, "", {}))


def test_complaints(script: dict[str, Any]) -> None:
    """A survivor needs an argument; at full size an argument needs a survivor, and 95 of 100 mutants must die."""
    mutants = script["mutants"]("toy", TOY)[:20]
    ends = [verdict(script, mutant, "survived" if at < 2 else "killed") for at, mutant in enumerate(mutants)]
    argument, equal = script["Argument"]("because", False), script["Argument"]("because", True)
    argued = {mutant.key: argument for mutant in mutants[:2]}
    complaints = script["complaints"]
    assert complaints(ends, argued, False) == []
    assert [text.partition(" ")[0] for text in complaints(ends, {}, False)] == ["toy.py:3:"] * 2
    assert complaints(ends, argued, True) == ["90.0% killed, of which 95% is the least"]
    blind = [*ends[:-1], verdict(script, mutants[-1], "unjudged")]
    assert [text for text in complaints(blind, argued, False) if "not judged" not in text] == []
    assert "85.0% killed, of which 95% is the least" in complaints(blind, argued, True)
    assert complaints(ends, {mutants[0].key: equal, mutants[1].key: equal}, True) == []
    idle = argued | {mutants[5].key: equal, ("elsewhere.f", "a", "b", 1): equal}
    assert [text for text in complaints(ends, idle, True) if "no such survivor" in text] == [
        f"mutants.toml: toy.{mutants[5].where}: no such survivor: {mutants[5].was} -> {mutants[5].becomes}"
    ]


def test_arguments_are_arguments(script: dict[str, Any]) -> None:
    """Each survivor is listed once and says why it may live."""
    argued = script["argued"]()
    assert len(argued) == SCRIPT.with_suffix(".toml").read_text(encoding="utf-8").count("[[survivor]]")
    assert [key for key, argument in argued.items() if len(argument.why.split()) < 5] == []


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=900, check=False
    )


@pytest.mark.long
def test_a_sample_of_mutants_is_killed() -> None:
    """Of mutants spread over all modules the tests kill all but those that are argued."""
    done = run("--sample", str(SAMPLE), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["complaints"] == [] and len(found["mutants"]) == SAMPLE
    lived = [mutant for mutant in found["mutants"] if mutant["outcome"] == "survived"]
    assert len(lived) < SAMPLE // 5 and all(mutant["why"] for mutant in lived)
    kernel = {"gate", "ledger", "accountant", "windowing", "decide", "log"}
    assert {mutant["module"] for mutant in found["mutants"]} == {
        *kernel,
        *("verify_log", "verify_messages", "verify_spending"),
    }


@pytest.mark.long
def test_weak_tests_are_noticed(tmp_path: Path) -> None:
    """Tests that load a module and look at nothing let its mutants live, and the command says so and fails."""
    weak = tmp_path / "test_weak.py"
    weak.write_text(
        "from murmure_privacy import ledger\n\n\ndef test_nothing():\n    assert ledger.Ledger\n", encoding="utf-8"
    )
    done = run("--module", "ledger", "--sample", "20", "--tests", str(weak), "--json")
    assert done.returncode == 1, done.stderr
    lived = [mutant for mutant in json.loads(done.stdout)["mutants"] if mutant["outcome"] == "survived"]
    assert len(lived) >= 18  # one that cannot be loaded is noticed by any test
    assert "survives without an argument" in done.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("test", "complaint"),
    [
        ("def test_wrong():\n    assert False\n", "control: killed"),
        ("def test_nothing():\n    assert True\n", "control: survived"),
    ],
)
def test_tests_that_cannot_judge_are_refused(tmp_path: Path, test: str, complaint: str) -> None:
    """Tests that fail without a fault, or that pass where the module cannot even be loaded, are no judges."""
    judge = tmp_path / "test_judge.py"
    judge.write_text(test, encoding="utf-8")
    done = run("--module", "gate", "--sample", "2", "--tests", str(judge))
    assert (done.returncode, done.stdout) == (2, "") and complaint in done.stderr
