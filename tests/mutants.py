"""Mutation testing of the privacy kernel and of `verify`: one small fault at a time, and some test of its module must
fail.

The modules are changed in memory only. Each mutant is a forked process in which an import hook hands the changed text
to the module's own tests; the fastest tests come first and the first failure ends the run. A mutant that no test kills
stands in `mutants.toml` with the argument why it does no harm; one without an argument fails the command.
Operators, limits and results: docs/mutants.md.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import importlib
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn

import pytest
from hypothesis import Phase, settings

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "privacy" / "murmure_privacy"
ARGUED = ROOT / "tests" / "mutants.toml"
KERNEL = ("gate", "ledger", "accountant", "windowing", "decide", "log")
VERIFY = ("verify_log", "verify_messages", "verify_spending")
MODULES = (*KERNEL, *VERIFY)
TARGET = 0.95
# Wall-clock tests: a busy machine would seem to kill every mutant.
NOT_JUDGES = "not quick"
# Loaded once, before the forks; nothing of Murmure is.
PRELOADED = (
    *("hypothesis", "opendp.prelude", "dp_accounting.rdp", "pymerkle"),
    *("cbor2", "cryptography.hazmat.primitives.asymmetric"),
)
MEMORY_BYTES = 2 << 30  # of address space: a mutant that never ends would else fill the machine
CPU_TIMES, CPU_MORE_S = 4, 3  # a test may take four times what it takes without the fault, and three seconds more
CPU_LIMIT_S, WALL_LIMIT_S = 300, 900  # of all tests of a mutant; the second for one that waits instead of working
KILLERS_KEPT = 12  # of a module: the tests that saw the latest faults look at the next one first
KILLED = ("killed", "timeout")
UNREADY = 99  # exit status of a child that did not come to its tests
SECTION = "<!-- from here on written by `make mutants` -->\n"


# --- what a mutant is ------------------------------------------------------------------------------------------------


Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class Mutant:
    """One fault: `start` to `end` (bytes of the module's text) become `text`."""

    module: str
    where: str
    line: int
    operator: str
    start: int
    end: int
    text: str
    was: str
    becomes: str
    nth: int = 1  # of those with the same words in the same function

    @property
    def key(self) -> Key:
        """What a mutant is known by while lines around it come and go."""
        return f"{self.module}.{self.where}", self.was, self.becomes, self.nth

    def source(self, original: bytes) -> bytes:
        """Returns the module's text with the fault in it."""
        return original[: self.start] + self.text.encode() + original[self.end :]


_COMPARE: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add, ast.FloorDiv),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
    ast.BitOr: (ast.BitAnd,),
    ast.BitAnd: (ast.BitOr,),
}
# What needs no brackets wherever it stands.
_CLOSED = ast.Constant | ast.Name | ast.Call | ast.Attribute | ast.Subscript | ast.Tuple
_SQL = re.compile(r"\b(SELECT|INSERT INTO|CREATE TABLE| WHERE )\b")
# Patterns of SQL and what each match may become; a parameter stays bound, or SQLite would refuse the statement.
_SQL_RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"\w+ (?:=|<|>|<=|>=) \?", ("? IS NOT NULL",)),
    (r"(?<= )< ", ("<= ", "> ")),
    (r"(?<= )> ", (">= ", "< ")),
    (r"(?<= )>= ", ("> ", "< ")),
    (r"(?<= )<= ", ("< ", "> ")),
    (r"(?<=AND )\w+ > 0", ("1",)),
    (r"IS NOT (?=')", ("IS ",)),
    (r" AND \w+ IS NOT '\w+'", ("",)),
    (r" DESC\b", ("",)),
    (r" ORDER BY \w+(?: DESC)?", ("",)),
    (r"\bmax\(", ("min(",)),
    (r"\bmin\(", ("max(",)),
    (r"\bsum\(", ("max(",)),
    (r" NOT NULL", ("",)),
    (r" CHECK \(.*?\)", ("",)),
    (r",\s+UNIQUE \(.*?\)", ("",)),
    (r" STRICT", ("",)),
    (r"CREATE INDEX .*?;", ("",)),
    (r"CREATE TRIGGER .*?END;", ("",)),
)

_Placed = ast.expr | ast.stmt | ast.ExceptHandler


class _Finder(ast.NodeVisitor):
    """Finds every place of one module where an operator applies."""

    def __init__(self, module: str, source: bytes) -> None:
        self.module, self.source = module, source
        self.found: list[Mutant] = []
        self._scope: list[str] = []
        self._stored: Counter[str] = Counter()
        self._in_raise = False
        self._line_starts = [0]
        for line in source.splitlines(keepends=True):
            self._line_starts.append(self._line_starts[-1] + len(line))

    # What a node becomes.

    def visit_Compare(self, node: ast.Compare) -> None:
        for at, operator in enumerate(node.ops):
            for other in _COMPARE[type(operator)]:
                self._become(node, "comparison", ast.Compare(node.left, _with(node.ops, at, other()), node.comparators))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._become(node, "boolean", ast.BoolOp(other, node.values))
        neutral = ast.Constant(isinstance(node.op, ast.And))
        for at in range(len(node.values)):
            self._become(node, "boolean", ast.BoolOp(node.op, _with(node.values, at, neutral)))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        self._become(node, "sign", node.operand)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        for other in _ARITHMETIC[type(node.op)]:
            self._become(node, "arithmetic", ast.BinOp(node.left, other(), node.right))
        if isinstance(node.op, ast.FloorDiv):
            match node.left:
                case ast.UnaryOp(op=ast.USub(), operand=operand):
                    negative = operand
                case _:
                    negative = ast.UnaryOp(ast.USub(), node.left)
            up = ast.BinOp(negative, ast.FloorDiv(), node.right)
            self._become(node, "rounding", ast.UnaryOp(ast.USub(), up))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._become(node, "constant", ast.Constant(not node.value))
        elif isinstance(node.value, int):
            for step in (1, -1):
                self._become(node, "constant", ast.Constant(node.value + step))
        elif isinstance(node.value, str) and _SQL.search(node.value):
            self._change_sql(node, node.value)
        elif isinstance(node.value, str) and not self._in_raise:  # what an error says is not mutated
            number = re.fullmatch(r"(\d*\.)?\d+", node.value)
            self._become(node, "constant", ast.Constant(f"1{node.value}" if number else f"{node.value}?"))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Words for a reader."""

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._become(node, "condition", node.body)
        self._become(node, "condition", node.orelse)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        for at in range(len(node.keywords)):
            fewer = node.keywords[:at] + node.keywords[at + 1 :]
            self._become(node, "argument", ast.Call(node.func, node.args, fewer))
        unordered = isinstance(node.func, ast.Name) and node.func.id in ("min", "max")
        for at in range(len(node.args) - 1):
            if not (self._in_raise or unordered):
                swapped = [*node.args[:at], node.args[at + 1], node.args[at], *node.args[at + 2 :]]
                self._become(node, "argument", ast.Call(node.func, swapped, node.keywords))
        match node:
            case ast.Call(func=ast.Name("min" | "max" as name)):
                other = ast.Name("max" if name == "min" else "min")
                self._become(node, "call", ast.Call(other, node.args, node.keywords))
                for argument in node.args if len(node.args) > 1 else []:
                    self._become(node, "call", argument)
            case ast.Call(func=ast.Name("sorted" | "int" | "abs"), args=[argument], keywords=[]):
                self._become(node, "call", argument)
            case ast.Call(func=ast.Name("range")):
                for at, argument in enumerate(node.args):
                    for step in (ast.Add(), ast.Sub()) if not isinstance(argument, ast.Constant) else ():
                        beside = ast.BinOp(argument, step, ast.Constant(1))
                        self._become(node, "range", ast.Call(node.func, _with(node.args, at, beside), []))
        self.generic_visit(node)

    def _visit_comprehension_of(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        for at, generator in enumerate(node.generators):
            if generator.ifs:
                other = deepcopy(node)
                other.generators[at].ifs = []
                self._become(node, "condition", other)
        self.generic_visit(node)

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = _visit_comprehension_of

    # What a statement becomes.

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring stays
            self._remove(node)
            self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        match node.value:
            case ast.Call(func=ast.Name("TypeVar")) | ast.Subscript(value=ast.Name("Literal")):
                return  # a name for annotations
        names = {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        plain = all(isinstance(target, ast.Name | ast.Tuple) for target in node.targets)
        # The first binding of a name is not removed: the NameError would be a cheap kill.
        if self._scope and (not plain or all(self._stored[name] > 1 for name in names)):
            self._remove(node)
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._remove(node)
        for other in _ARITHMETIC[type(node.op)]:
            self._become(node, "arithmetic", ast.AugAssign(node.target, other(), node.value), statement=True)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def visit_Return(self, node: ast.Return) -> None:
        # False, None and no value are alike to whoever asks for the truth.
        if node.value and not (isinstance(node.value, ast.Constant) and not node.value.value):
            self._become(node, "return", ast.Return(ast.Constant(None)), statement=True)
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._remove(node)
        self._in_raise = True
        self.generic_visit(node)
        self._in_raise = False

    def visit_Continue(self, node: ast.Continue) -> None:
        self._remove(node)

    def visit_Break(self, node: ast.Break) -> None:
        self._remove(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._remove(node)

    def visit_If(self, node: ast.If) -> None:
        for always in (True, False):
            self._become(node.test, "condition", ast.Constant(always))
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._become(node.test, "condition", ast.Constant(False))
        if not isinstance(node.test, ast.Constant):
            self.visit(node.test)
        for statement in node.body:
            self.visit(statement)

    def visit_For(self, node: ast.For) -> None:
        self._become(node.iter, "loop", ast.Tuple([], ast.Load()))
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self._become(node, "handler", ast.ExceptHandler(node.type, node.name, [ast.Raise()]), statement=True)
        self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        if all(item.optional_vars is None for item in node.items):
            start, end = self._at(node)[0], self._at(node.items[-1].context_expr)[1]
            self._put("context", start, end, "if True")
        self.generic_visit(node)

    # Where a place is.

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        arguments = [argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)]
        stored = [
            name.id
            for inner in node.body
            for name in ast.walk(inner)
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
        ]
        before, self._stored = self._stored, Counter(arguments + stored)
        self._inside(node)
        self._stored = before

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._inside(node)

    def _inside(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        self._scope.append(node.name)
        for inner in node.body:
            self.visit(inner)
        self._scope.pop()

    def _at(self, node: _Placed) -> tuple[int, int]:
        start = self._line_starts[node.lineno - 1] + node.col_offset
        return start, self._line_starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)

    def _become(self, node: _Placed, operator: str, other: ast.AST, statement: bool = False) -> None:
        text = ast.unparse(ast.fix_missing_locations(deepcopy(other)))
        plain = statement or isinstance(other, _CLOSED)
        if statement:
            text = text.replace("\n    ", " ")
        start, end = self._at(node)
        self._put(operator, start, end, text if plain else f"({text})")

    def _remove(self, node: ast.stmt) -> None:
        start, end = self._at(node)
        self._put("removal", start, end, "pass")

    def _change_sql(self, node: ast.Constant, text: str) -> None:
        start, end = self._at(node)
        for pattern, others in _SQL_RULES:
            for match in re.finditer(pattern, text):
                first, last = text.rfind("\n", 0, match.start()) + 1, text.find("\n", match.end())
                last = len(text) if last < 0 else last
                for other in others:
                    changed = text[: match.start()] + other + text[match.end() :]
                    words = text[first:last], text[first : match.start()] + other + text[match.end() : last]
                    self._put("sql", start, end, repr(changed), words)

    def _put(self, operator: str, start: int, end: int, text: str, words: tuple[str, str] | None = None) -> None:
        if words is None:
            first = self.source.rfind(b"\n", 0, start) + 1
            last = self.source.find(b"\n", end)
            head, tail = self.source[first:start].decode(), self.source[end:last].decode()
            words = head + self.source[start:end].decode() + tail, head + text + tail
        was, becomes = (" ".join(part.split()) for part in words)
        where = ".".join(self._scope) or "(module)"
        line = self.source.count(b"\n", 0, start) + 1
        self.found.append(Mutant(self.module, where, line, operator, start, end, text, was, becomes))


def _with(items: Sequence[Any], at: int, item: Any) -> list[Any]:
    return [*items[:at], item, *items[at + 1 :]]


def mutants(module: str, source: bytes) -> list[Mutant]:
    """Returns every mutant of a module's text, in the order of its lines, each a different program that compiles."""
    finder = _Finder(module, source)
    finder.visit(ast.parse(source))
    seen, times = {ast.dump(ast.parse(source))}, Counter[tuple[str, str, str]]()
    different = []
    for mutant in sorted(finder.found, key=lambda mutant: (mutant.start, mutant.end)):
        shape = ast.dump(ast.parse(mutant.source(source)))
        if shape in seen:
            continue
        seen.add(shape)
        words = (mutant.where, mutant.was, mutant.becomes)
        times[words] += 1
        different.append(replace(mutant, nth=times[words]))
    return different


# --- the run of one mutant -------------------------------------------------------------------------------------------


class _Changed(SourceFileLoader):
    """Loads a module from a text in memory, under its file's name."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)


class _Hook(MetaPathFinder):
    """Hands out the changed text of one module; everything else is found as usual."""

    def __init__(self, module: str, source: bytes) -> None:
        self._name, self._path, self._source = f"{PACKAGE.name}.{module}", str(PACKAGE / f"{module}.py"), source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        return spec_from_file_location(fullname, self._path, loader=_Changed(fullname, self._path, self._source))


class _Judge:
    """Inside pytest: first the tests that killed a neighbour, then the fastest; no shrinking of failures, and a note of
    time and of the first failure."""

    def __init__(self, notes: Path, seconds: Mapping[str, float], first: Sequence[str]) -> None:
        self._notes, self._seconds = notes, seconds
        self._first = {killer: place for place, killer in enumerate(first)}
        self._measured: dict[str, float] = {}
        self._killer = ""

    def pytest_configure(self) -> None:
        settings.register_profile("mutants", settings(), phases=(Phase.explicit, Phase.generate))
        settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        last = len(self._first)
        items.sort(key=lambda item: (self._first.get(item.nodeid, last), self._seconds.get(item.nodeid, 0.0)))

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        usual_s = self._seconds.get(item.nodeid, float(CPU_LIMIT_S))
        until_s = int(usage.ru_utime + usage.ru_stime + CPU_TIMES * usual_s) + CPU_MORE_S
        resource.setrlimit(resource.RLIMIT_CPU, (min(until_s, CPU_LIMIT_S), CPU_LIMIT_S))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._measured[report.nodeid] = self._measured.get(report.nodeid, 0.0) + report.duration
        if report.failed and not self._killer:
            self._killer = report.nodeid

    def pytest_sessionfinish(self) -> None:
        self._notes.write_text(json.dumps({"seconds": self._measured, "killer": self._killer}), encoding="utf-8")


@dataclass(frozen=True)
class Run:
    """How the tests of a module took one text of it: `killed`, `timeout`, `survived`, or `unjudged` if none ran."""

    outcome: str
    killer: str
    seconds: dict[str, float]


class Fault(Exception):
    """The tests of a module cannot judge its mutants."""


class Forks:
    """Runs texts of modules against tests, each in a process forked from this one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[int, tuple[Path, float, Callable[[Run], None]]] = {}
        self._started = 0

    @property
    def running(self) -> int:
        return len(self._waiting)

    def start(
        self,
        module: str,
        source: bytes,
        tests: Sequence[Path],
        then: Callable[[Run], None],
        seconds: Mapping[str, float],
        first: Sequence[str] = (),
    ) -> None:
        """Begins a run; `then` is called with its end from `wait`. `seconds`: what each test takes without a fault;
        `first`: those to begin with."""
        self._started += 1
        place = self._folder / str(self._started)
        place.mkdir()
        child = os.fork()
        if child == 0:
            _inside_child(place, module, source, tests, _Judge(place / "notes", seconds, first))
        self._waiting[child] = (place, time.monotonic() + WALL_LIMIT_S, then)

    def wait(self) -> None:
        """Waits for one run to end."""
        while True:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child in self._waiting:
                break
            for late, (_, deadline_s, _) in self._waiting.items():
                if time.monotonic() > deadline_s:
                    os.killpg(late, signal.SIGKILL)
            time.sleep(0.01)
        place, _, then = self._waiting.pop(child)
        code = os.waitstatus_to_exitcode(status)
        notes: dict[str, Any] = {"seconds": {}, "killer": ""}
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            notes = json.loads((place / "notes").read_text(encoding="utf-8"))
        # 1: a test failed; 2: a test file could not be loaded; 3: pytest itself broke down, for want of memory for
        # example. A signal is the limit of time, or a crash.
        outcomes = {0: "survived", 1: "killed", 2: "killed", 3: "killed"}
        said = (place / "output").read_text(encoding="utf-8", errors="replace").strip()
        outcome = outcomes.get(code, "unjudged")
        if code < 0:
            outcome = "timeout" if code in (-signal.SIGXCPU, -signal.SIGKILL) else "killed"
        killer = notes["killer"] or f"exit {code}: {said[-300:]}"
        shutil.rmtree(place, ignore_errors=True)
        then(Run(outcome, killer, notes["seconds"]))

    def stop(self) -> None:
        """Ends what still runs."""
        for child in self._waiting:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
        self._waiting.clear()


def _inside_child(place: Path, module: str, source: bytes, tests: Sequence[Path], judge: _Judge) -> NoReturn:
    code = UNREADY
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        output = os.open(place / "output", os.O_CREAT | os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(output, stream)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.meta_path.insert(0, _Hook(module, source))
        options = ["-x", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:cov", "-W", "ignore"]
        options += ["-m", "not long", "-k", NOT_JUDGES, "--rootdir", str(ROOT), "--basetemp", str(place / "tmp")]
        code = int(pytest.main([*options, *map(str, tests)], plugins=[judge]))
    except BaseException:  # whatever it is, this process must not go on as if it were its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# --- the campaign ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """A mutant and how it ended."""

    mutant: Mutant
    run: Run


def tests_of(module: str) -> list[Path]:
    """Returns the test files that have to kill a module's mutants: its own; for the gate also what many nodes cost."""
    folder = ROOT / "tests" / ("murmure" if module in VERIFY else "privacy")
    also = {"gate": ["composition"]}.get(module, [])
    return [folder / f"test_{name}.py" for name in [module, *also]]


def campaign(
    modules: Sequence[str],
    judges: Callable[[str], Sequence[Path]],
    sample: int | None,
    jobs: int,
    told: Callable[[str], None],
) -> list[Verdict]:
    """Runs the mutants of the modules, or `sample` of them spread evenly, and returns how each ended.

    Raises Fault if a module's tests fail without any fault in it, or if they do not notice that it cannot be loaded.
    """
    for name in PRELOADED:
        importlib.import_module(name)
    if any(name.partition(".")[0] == PACKAGE.name for name in sys.modules):
        raise Fault(f"{PACKAGE.name} is loaded already: a child would not load its mutant")
    sources = {module: (PACKAGE / f"{module}.py").read_bytes() for module in modules}
    chosen = [mutant for module in modules for mutant in mutants(module, sources[module])]
    if sample is not None and sample < len(chosen):
        chosen = [chosen[at * len(chosen) // sample] for at in range(sample)]
    gc.freeze()  # or every child would go through what it shares with this process, and copy it
    verdicts: list[Verdict] = []
    # Faults side by side are mostly seen by the same tests.
    killers: dict[str, list[str]] = {module: [] for module in modules}

    def ended(mutant: Mutant, run: Run) -> None:
        verdicts.append(Verdict(mutant, run))
        if run.outcome == "killed":
            others = [killer for killer in killers[mutant.module] if killer != run.killer]
            killers[mutant.module] = [run.killer, *others][:KILLERS_KEPT]

    # Ledgers are files that sync at every commit: in memory, where there is a file system for it.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        forks = Forks(Path(folder))
        try:
            unchanged = {
                module: _alone(forks, module, sources[module], judges(module), "survived") for module in modules
            }
            for module in modules:
                _alone(forks, module, b"raise ImportError\n", judges(module), "killed")
            began_s = time.monotonic()
            for mutant in chosen:
                while forks.running >= jobs:
                    forks.wait()
                forks.start(
                    mutant.module,
                    mutant.source(sources[mutant.module]),
                    judges(mutant.module),
                    partial(ended, mutant),
                    unchanged[mutant.module].seconds,
                    killers[mutant.module],
                )
                told(_progress(mutant.module, verdicts, len(chosen), time.monotonic() - began_s))
            while forks.running:
                forks.wait()
        finally:
            forks.stop()
    order = {mutant: at for at, mutant in enumerate(chosen)}
    return sorted(verdicts, key=lambda verdict: order[verdict.mutant])


def _alone(forks: Forks, module: str, source: bytes, tests: Sequence[Path], expected: str) -> Run:
    runs: list[Run] = []
    forks.start(module, source, tests, runs.append, {})
    forks.wait()
    if runs[0].outcome != expected:
        raise Fault(f"{module}: control: {runs[0].outcome} ({runs[0].killer}) where it should have {expected}")
    return runs[0]


def _progress(module: str, verdicts: Sequence[Verdict], total: int, passed_s: float) -> str:
    survived = sum(verdict.run.outcome == "survived" for verdict in verdicts)
    left_s = passed_s / max(len(verdicts), 1) * (total - len(verdicts))
    return f"{module}: {len(verdicts)} of {total} mutants, {survived} survived, about {left_s / 60:.0f} min left"


@dataclass(frozen=True)
class Argument:
    """Why a mutant may live. `equal`: no input at all can tell it from the original, so no test could kill it."""

    why: str
    equal: bool


def argued(file: Path = ARGUED) -> dict[Key, Argument]:
    """Returns the arguments by the keys of their mutants."""
    entries = tomllib.loads(file.read_text(encoding="utf-8"))["survivor"]
    return {
        (entry["where"], entry["was"], entry["becomes"], entry.get("nth", 1)): Argument(entry["why"], entry["equal"])
        for entry in entries
    }


def share_killed(verdicts: Sequence[Verdict], arguments: Mapping[Key, Argument]) -> float:
    """Returns the killed share of the mutants that can be killed: those argued to be equal are left out."""
    killed = sum(verdict.run.outcome in KILLED for verdict in verdicts)
    return killed / max(1, len(verdicts) - len(_equal(verdicts, arguments)))


def _equal(verdicts: Sequence[Verdict], arguments: Mapping[Key, Argument]) -> list[Mutant]:
    lived = [verdict.mutant for verdict in verdicts if verdict.run.outcome == "survived"]
    return [mutant for mutant in lived if mutant.key in arguments and arguments[mutant.key].equal]


def complaints(verdicts: Sequence[Verdict], arguments: Mapping[Key, Argument], full: bool) -> list[str]:
    """Returns what is wrong: survivors without argument; at full size also idle arguments and too few killed."""
    survivors = [verdict.mutant for verdict in verdicts if verdict.run.outcome == "survived"]
    found = [
        f"{mutant.module}.py:{mutant.line}: survives without an argument: {mutant.was} -> {mutant.becomes}"
        for mutant in survivors
        if mutant.key not in arguments
    ]
    found += [
        f"{verdict.mutant.module}.py:{verdict.mutant.line}: not judged: {verdict.run.killer}"
        for verdict in verdicts
        if verdict.run.outcome == "unjudged"
    ]
    if full:
        idle = arguments.keys() - {mutant.key for mutant in survivors}
        modules = {verdict.mutant.module for verdict in verdicts}
        found += [
            f"{ARGUED.name}: {where}: no such survivor: {was} -> {becomes}"
            for where, was, becomes, _ in sorted(idle)
            if where.partition(".")[0] in modules
        ]
        share = share_killed(verdicts, arguments)
        if share < TARGET:
            found.append(f"{share:.1%} killed, of which {TARGET:.0%} is the least")
    return found


def table(verdicts: Sequence[Verdict], arguments: Mapping[Key, Argument]) -> list[list[str]]:
    """Returns the rows of the result: a module each, and all together."""
    rows = [
        ["module", "mutants", "killed", "of these by time", "survived", "of these equal", "killed", "without equal"]
    ]
    for module in [*dict.fromkeys(verdict.mutant.module for verdict in verdicts), "all"]:
        some = [verdict for verdict in verdicts if module in (verdict.mutant.module, "all")]
        ends = Counter(verdict.run.outcome for verdict in some)
        killed = sum(ends[outcome] for outcome in KILLED)
        numbers = (len(some), killed, ends["timeout"], ends["survived"], len(_equal(some, arguments)))
        shares = (killed / len(some), share_killed(some, arguments))
        rows.append([module, *map(str, numbers), *(f"{100 * share:.1f} %" for share in shares)])
    return rows


def page(verdicts: Sequence[Verdict], arguments: Mapping[Key, Argument]) -> str:
    """Returns the written part of docs/mutants.md."""
    head, *rows = table(verdicts, arguments)
    lines = ["", "## Result", "", f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", "| operator | mutants | survived |", "| --- | ---: | ---: |"]
    made = Counter(verdict.mutant.operator for verdict in verdicts)
    lived = Counter(verdict.mutant.operator for verdict in verdicts if verdict.run.outcome == "survived")
    lines += [f"| {operator} | {made[operator]} | {lived[operator]} |" for operator in sorted(made)]
    for title, equal in (("Survivors that no test could kill", True), ("Other survivors", False)):
        lines += ["", f"## {title}", ""]
        for verdict in verdicts:
            mutant = verdict.mutant
            argument = arguments.get(mutant.key, Argument("**No argument.**", False))
            if verdict.run.outcome == "survived" and argument.equal == equal:
                lines += [
                    f"- `{mutant.module}.py:{mutant.line}` {mutant.where}: {argument.why}",
                    f"  - `{mutant.was}`",
                    f"  - `{mutant.becomes}`",
                ]
    return "\n".join(lines) + "\n"


def _teller(stream: Any) -> Callable[[str], None]:
    """Returns what shows progress: one line that changes on a terminal, else a line every ten seconds."""
    last_s = [0.0]

    def tell(text: str) -> None:
        if stream.isatty():
            stream.write(f"\r\033[K{text}")
        elif time.monotonic() - last_s[0] >= 10:
            last_s[0] = time.monotonic()
            stream.write(f"{text}\n")
        stream.flush()

    return tell


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if every survivor is argued and, at full size, enough are killed; else 1."""
    parser = argparse.ArgumentParser(
        description="Changes the kernel in one small place at a time and sees whether a test fails.",
        epilog="example: make mutants ARGS='--module ledger --sample 100'",
    )
    parser.add_argument("--module", action="append", choices=MODULES, help="only this module (may be repeated)")
    parser.add_argument("--sample", type=int, metavar="N", help="only N mutants, spread evenly over the modules")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="how many at a time")
    parser.add_argument("--tests", type=Path, action="append", metavar="FILE", help="judge by these tests instead")
    parser.add_argument("--json", action="store_true", help="print every mutant as one JSON document")
    parser.add_argument("--page", type=Path, metavar="FILE", help="at full size, write the result into this page")
    chosen = parser.parse_args(arguments)
    told = _teller(sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was forked ends too
    try:
        verdicts = campaign(
            chosen.module or MODULES, lambda module: chosen.tests or tests_of(module), chosen.sample, chosen.jobs, told
        )
    except Fault as fault:
        print(f"murmure: mutants: {fault}", file=sys.stderr)
        return 2
    reasons = argued()
    full = chosen.sample is None and not chosen.tests
    wrong = complaints(verdicts, reasons, full)
    if chosen.json:
        entries = [
            {**{name: value for name, value in asdict(verdict.mutant).items() if name not in ("start", "end", "text")}}
            | {
                "outcome": verdict.run.outcome,
                "killer": verdict.run.killer,
                "why": reasons[verdict.mutant.key].why if verdict.mutant.key in reasons else None,
            }
            for verdict in verdicts
        ]
        print(json.dumps({"mutants": entries, "complaints": wrong}, indent=1, ensure_ascii=False))
    else:
        for row in table(verdicts, reasons):
            print(f"{row[0]:12}" + "".join(f"{cell:>18}" for cell in row[1:]))
    if chosen.page and full and not chosen.module:
        text = chosen.page.read_text(encoding="utf-8").partition(SECTION)[0]
        chosen.page.write_text(text + SECTION + page(verdicts, reasons), encoding="utf-8")
    for complaint in wrong:
        print(f"murmure: mutants: {complaint}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
