"""Least squares over nested intervals: the two passes against dense linear algebra, with holes, repeats and misfits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from murmure_privacy import tree
from murmure_privacy.tree import Forest, Nest, Observation, Silence, union
from murmure_privacy.window import Window
from numpy.typing import NDArray

LEAVES = 14
CLOSE = 1e-7


def windows_of(draw: st.DrawFn, start: int, end: int, depth: int) -> list[Window]:
    """Returns nested windows within a span: any may be missing, be there twice or leave holes."""
    found = [Window(start, end)] * draw(st.sampled_from([0, 1, 1, 1, 2]))
    if depth and end - start > 1:
        cuts = {start, end, *draw(st.lists(st.integers(start, end), max_size=3))}
        for one, other in zip(sorted(cuts), sorted(cuts)[1:], strict=False):
            if draw(st.integers(0, 5)):
                found += windows_of(draw, one, other, depth - 1)
    return found


@st.composite
def observations(draw: st.DrawFn) -> list[Observation]:
    """Returns noisy sums of two series over nested windows of at most 14 leaves, in any order."""
    windows = draw(st.permutations(windows_of(draw, 0, LEAVES, 3)))
    value = st.integers(-1000, 1000)
    return [
        Observation(one, (draw(value), draw(value)), draw(st.sampled_from([0.25, 1.0, 4.0, 30.0]))) for one in windows
    ]


def row(windows: Sequence[Window]) -> NDArray[np.float64]:
    return np.array([float(any(leaf in one for one in windows)) for leaf in range(LEAVES)])


class Dense:
    """The same by pseudo-inverse: atoms are leaves, and what lies in the null space is not determined."""

    def __init__(self, seen: Sequence[Observation]) -> None:
        design = np.array([row([one.window]) for one in seen])
        weight = np.diag([1 / one.variance for one in seen])
        normal = design.T @ weight @ design
        self.covariance = np.linalg.pinv(normal, rcond=1e-11, hermitian=True)
        self.solution = self.covariance @ design.T @ weight @ np.array([one.values for one in seen])
        self.determined = self.covariance @ normal

    def sums(self, windows: Sequence[Window]) -> tuple[NDArray[np.float64], float] | None:
        wanted = row(windows)
        if np.abs(self.determined @ wanted - wanted).max() > CLOSE:
            return None
        return wanted @ self.solution, float(wanted @ self.covariance @ wanted)


def agree(seen: Sequence[Observation], asked: Sequence[Sequence[Window]]) -> None:
    forest, dense = Forest(seen), Dense(seen)
    for one, (sums, variance) in zip(seen, forest.estimates, strict=True):
        wanted = dense.sums([one.window])
        assert wanted is not None
        assert sums == pytest.approx(list(wanted[0]), abs=1e-6)
        assert variance == pytest.approx(wanted[1], abs=CLOSE)
    for windows in asked:
        parts, wanted = forest.sums(windows), dense.sums(windows)
        assert (parts is None) == (wanted is None)
        if parts is not None and wanted is not None:
            assert np.sum([part.sums for part in parts], axis=0) == pytest.approx(wanted[0], abs=1e-6)
            assert sum(part.variance for part in parts) == pytest.approx(wanted[1], abs=CLOSE)
            assert sum(part.length_s for part in parts) == sum(one.end_s - one.start_s for one in windows)


@st.composite
def asked(draw: st.DrawFn) -> list[Window]:
    """Returns one or two windows in order."""
    edges = sorted(draw(st.lists(st.integers(0, LEAVES), min_size=2, max_size=4, unique=True)))
    return [Window(*pair) for pair in zip(edges[::2], edges[1::2], strict=False)]


@settings(max_examples=max(300, settings().max_examples))
@given(observations(), st.lists(asked(), min_size=4, max_size=4))
def test_two_passes_are_least_squares(seen: list[Observation], questions: list[list[Window]]) -> None:
    """Over any forest with holes, repeats and unequal noise: every node's estimate and variance, and every sum of whole
    leaves, or that it is not determined, are those of the pseudo-inverse."""
    if seen:
        agree(seen, questions)


@given(observations())
@settings(max_examples=max(30, settings().max_examples // 3))
def test_a_hole_is_known_by_what_is_around_it(seen: list[Observation]) -> None:
    """What a node holds beside its children is determined as a whole, though nothing observed it."""
    if seen:
        nest = Nest([one.window for one in seen])
        holes = []
        for number, one in enumerate(seen):
            edges = [one.window.start_s]
            for child in nest.children[number]:
                edges += [seen[child].window.start_s, seen[child].window.end_s]
            edges.append(one.window.end_s)
            pairs = zip(edges[::2], edges[1::2], strict=True)
            holes.append([Window(*pair) for pair in pairs if pair[0] < pair[1]])
        agree(seen, [hole for hole in holes if hole])
        assert all(Forest(seen).sums(hole) for hole in holes if hole)


# --- broken twins ----------------------------------------------------------------------------------------------------

QUARTERS = [Observation(Window(at, at + 1), (10.0 * at, 1.0), 4.0) for at in range(4)]
HOUR = Observation(Window(0, 4), (70.0, 5.0), 1.0)


@pytest.mark.parametrize(
    ("seen", "name", "twin"),
    [
        # A hole is taken for nothing.
        ([HOUR, *QUARTERS[:3]], "hole_s", lambda self, number: 0),
        # Children and parent do not hear of each other.
        ([HOUR, *QUARTERS], "hole_s", lambda self, number: 1),
    ],
)
def test_a_wrong_hole_is_found(monkeypatch: pytest.MonkeyPatch, seen: list[Observation], name: str, twin: Any) -> None:
    """Broken twins: the comparison with dense algebra fails for both."""
    questions = [[Window(0, 2)], [Window(1, 3)]]
    agree(seen, questions)
    monkeypatch.setattr(tree.Nest, name, twin)
    with pytest.raises(AssertionError):
        agree(seen, questions)


def test_forgotten_covariance_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken twin: quarters added up as if the hour had not tied their noise together."""

    def independent(self: Forest, number: int, wanted: Sequence[Window], wanted_s: int) -> Any:
        inside = [n for n, one in enumerate(self._seen) if one.window.end_s - one.window.start_s == 1]
        chosen = [self.estimates[n] for n in inside if any(self._seen[n].window.start_s in w for w in wanted)]
        return [sum(column) for column in zip(*(s for s, _ in chosen), strict=True)], sum(v for _, v in chosen), 0.0

    agree([HOUR, *QUARTERS], [[Window(0, 2)]])
    monkeypatch.setattr(Forest, "_part", independent)
    with pytest.raises(AssertionError):
        agree([HOUR, *QUARTERS], [[Window(0, 2)]])


# --- what does not nest ----------------------------------------------------------------------------------------------


def test_a_misfit_stands_alone() -> None:
    """A node that half overlaps another, or lies in one measured otherwise, keeps its own value; nothing else moves."""
    across = Observation(Window(3, 6), (1.0, 1.0), 9.0)
    other = Observation(Window(1, 2), (7.0, 7.0), 9.0, "another cadence")
    alone, together = Forest([HOUR, *QUARTERS]), Forest([HOUR, *QUARTERS, across, other])
    assert together.estimates == [*alone.estimates, ([1.0, 1.0], 9.0), ([7.0, 7.0], 9.0)]
    assert together.sums([Window(0, 4)]) == alone.sums([Window(0, 4)])
    assert together.sums([Window(4, 6)]) is None
    nest = Nest([Window(0, 4), Window(3, 6), Window(6, 7)])
    assert (nest.roots, nest.apart) == ([0, 2], [1])


def test_nothing_determines_nothing() -> None:
    """No observation, no sum; what no tree covers is not determined, even beside what is."""
    assert Forest([]).sums([Window(0, 1)]) is None
    assert Forest([HOUR]).sums([Window(0, 5)]) is None
    assert Forest([HOUR]).sums([Window(4, 5)]) is None


def test_a_union_is_as_few_windows_as_possible() -> None:
    """Windows that touch or overlap become one."""
    assert union([Window(4, 6), Window(0, 2), Window(2, 3), Window(5, 6)]) == [Window(0, 3), Window(4, 6)]
    assert union([]) == []


# --- silence ---------------------------------------------------------------------------------------------------------


@given(observations(), st.lists(st.floats(0, 1), min_size=LEAVES, max_size=LEAVES), asked(), st.integers(1, 20))
@settings(max_examples=max(100, settings().max_examples))
def test_silence_is_never_underrated(
    seen: list[Observation], silent: list[float], windows: list[Window], steps: int
) -> None:
    """Whatever leaves were silent, and however coarsely each node says so, the bound holds for every range; and it is
    at most what any node says of itself."""
    nodes = [one.window for one in seen]
    own = [-(-sum(silent[one.start_s : one.end_s]) * steps // 1) / steps for one in nodes]
    bound = Silence(nodes, own)
    true = sum(sum(silent[one.start_s : one.end_s]) for one in windows)
    assert true <= bound.within(windows) + CLOSE
    for node, said, most in zip(nodes, own, bound.most_s, strict=True):
        assert sum(silent[node.start_s : node.end_s]) <= most + CLOSE and most <= said
        assert bound.within([node]) <= most + CLOSE


def test_silence_is_the_least_that_the_nodes_leave_open() -> None:
    """Parts that say more than the whole, and the whole where they say less; what nobody covers may all be silent."""
    hour, first, second = Window(0, 4), Window(0, 1), Window(1, 2)
    assert Silence([hour, first, second], [3.0, 0.25, 0.25]).most_s == [2.5, 0.25, 0.25]
    assert Silence([hour, first, second], [1.0, 0.25, 0.25]).within([Window(0, 3)]) == 1.0
    assert Silence([hour, first, second], [3.0, 0.25, 0.25]).within([Window(1, 3)]) == 1.25
    assert Silence([hour], [0.5]).within([Window(3, 6)]) == 2.5
