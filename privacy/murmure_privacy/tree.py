"""Nested intervals: weighted least squares over noisy sums of them, exactly, in a time that grows with their number.

Released nodes are a forest: of two nodes of one stream, one contains the other or they share no moment. A node whose
children tile it is merged with their sum by inverse variance, from the leaves up; then each parent's residual goes down
to its children in proportion to their variances. These two passes give the best linear unbiased estimates (Hay et al.
2010, and Honaker 2015 for unequal scales); where children leave a hole, it can hold anything, and neither tells of the
other. The same recursion, with a covariance carried along, gives any sum of whole leaves with its exact variance.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

from murmure_privacy.frozen import quick
from murmure_privacy.window import Window

Sums = list[float]


_window = quick(Window)


@dataclass(frozen=True, slots=True)
class Observation:
    """Noisy sums over one interval, each with noise of this variance. `kind`: only sums of one kind are compared."""

    window: Window
    values: Sequence[float]
    variance: float
    kind: Hashable = None


@dataclass(frozen=True, slots=True)
class Part:
    """The estimated sums over what was asked of one tree: `root` is the number of its largest observation."""

    root: int
    length_s: int
    sums: Sums
    variance: float


class Nest:
    """Windows by what contains them. `order`: numbers of windows, parents before children, children in time.

    `roots` share no moment. A window that overlaps another without being inside it, or lies in one of another kind,
    stands alone among the `apart`: no gateway of ours makes one, and nothing is concluded from it."""

    def __init__(self, windows: Sequence[Window], kinds: Sequence[Hashable] | None = None) -> None:
        self.windows = windows
        self.children: list[list[int]] = [[] for _ in windows]
        self.order: list[int] = []
        self.roots: list[int] = []
        self.apart: list[int] = []
        around: list[int] = []
        for number in sorted(range(len(windows)), key=lambda n: (windows[n].start_s, -windows[n].end_s)):
            window = windows[number]
            while around and windows[around[-1]].end_s <= window.start_s:
                around.pop()
            if around:
                outer = around[-1]
                if window.end_s > windows[outer].end_s or (kinds is not None and kinds[number] != kinds[outer]):
                    self.apart.append(number)
                    continue
                self.children[outer].append(number)
            else:
                self.roots.append(number)
            self.order.append(number)
            around.append(number)

    def touched(self, numbers: Sequence[int], windows: Sequence[Window]) -> Sequence[int]:
        """Returns those of some siblings, which are in order, that can share a moment with windows in order."""
        if not windows:
            return ()
        first = bisect_right(numbers, windows[0].start_s, key=lambda number: self.windows[number].end_s)
        last = bisect_left(numbers, windows[-1].end_s, key=lambda number: self.windows[number].start_s)
        return numbers[first:last]

    def hole_s(self, number: int) -> int:
        """Returns how much of a window no child of it covers."""
        windows = self.windows
        inside_s = sum(windows[child].end_s - windows[child].start_s for child in self.children[number])
        return windows[number].end_s - windows[number].start_s - inside_s


class Forest:
    """Least squares over all observations together."""

    def __init__(self, observations: Sequence[Observation]) -> None:
        self._seen = observations
        self._nest = nest = Nest([one.window for one in observations], [one.kind for one in observations])
        # From a node and what is inside it alone; then from everything.
        self._own: list[tuple[Sums, float]] = [(list(one.values), one.variance) for one in observations]
        self._within: list[tuple[Sums, float] | None] = [None] * len(observations)
        for number in reversed(nest.order):
            children = nest.children[number]
            if not children or nest.hole_s(number):
                continue
            sums = [sum(column) for column in zip(*(self._own[child][0] for child in children), strict=True)]
            variance = sum(self._own[child][1] for child in children)
            self._within[number] = sums, variance
            one = observations[number]
            trust = variance / (variance + one.variance)
            merged = [inner + trust * (value - inner) for inner, value in zip(sums, one.values, strict=True)]
            self._own[number] = merged, trust * one.variance

    @cached_property
    def estimates(self) -> list[tuple[Sums, float]]:
        """Returns the sums of each observation and their variance; `sums` needs none of them."""
        found = list(self._own)
        for number in self._nest.order:
            within = self._within[number]
            if within is None:
                continue
            sums, variance = within
            best, left = found[number]
            residual = [(value - inner) / variance for value, inner in zip(best, sums, strict=True)]
            for child in self._nest.children[number]:
                own, mine = self._own[child]
                share = mine / variance
                found[child] = (
                    [value + mine * rest for value, rest in zip(own, residual, strict=True)],
                    mine * (1 - share * (1 - left / variance)),
                )
        return found

    def sums(self, windows: Sequence[Window]) -> list[Part] | None:
        """Returns, tree by tree, the best estimate of the sums over all the windows together and its variance, or None
        where the observations do not determine them. `windows`: in order, sharing no moment; trees are independent."""
        parts, covered_s = [], 0
        for root in self._nest.touched(self._nest.roots, windows):
            wanted, length_s = _clipped(windows, self._nest.windows[root])
            if length_s:
                found = self._part(root, wanted, length_s)
                if found is None:
                    return None
                parts.append(Part(root, length_s, found[0], found[1]))
                covered_s += length_s
        return parts if covered_s == _length(windows) else None

    def _part(self, number: int, wanted: Sequence[Window], wanted_s: int) -> tuple[Sums, float, float] | None:
        """Returns sums, variance and covariance with the sums of the whole node, from the node and what is inside it
        alone. `wanted` lies in the node; `wanted_s` is its length."""
        window, one = self._nest.windows[number], self._seen[number]
        if wanted_s == window.end_s - window.start_s:
            own, variance = self._own[number]
            return own, variance, variance
        inside = [(child, *_clipped(wanted, self._nest.windows[child])) for child in self._nest.children[number]]
        hole_s = self._nest.hole_s(number)
        wanted_hole_s = wanted_s - sum(length_s for _, _, length_s in inside)
        if wanted_hole_s not in (0, hole_s):
            return None
        if wanted_hole_s:
            # The hole is known as the node less its children: so is what is asked, less what is not asked.
            rest = _without(window, wanted)
            inside = [(child, *_clipped(rest, self._nest.windows[child])) for child in self._nest.children[number]]
        sums, variance, covariance = [0.0] * len(one.values), 0.0, 0.0
        for child, part, length_s in inside:
            if length_s:
                found = self._part(child, part, length_s)
                if found is None:
                    return None
                sums = [a + b for a, b in zip(sums, found[0], strict=True)]
                variance += found[1]
                covariance += found[2]
        if wanted_hole_s:
            return [v - s for v, s in zip(one.values, sums, strict=True)], one.variance + variance, one.variance
        within = self._within[number]
        if within is None:
            return sums, variance, 0.0
        inner, spread = within
        gain = covariance / (spread + one.variance)
        return (
            [s + gain * (v - i) for s, v, i in zip(sums, one.values, inner, strict=True)],
            variance - gain * covariance,
            gain * one.variance,
        )


class Silence:
    """The most seconds that can have gone without a reading, from what each window says of itself and of its parts.

    `most_s[n]`: of window n, at most its own word, and at most the sum of its children's and of what none of them
    covers."""

    def __init__(self, windows: Sequence[Window], own_s: Sequence[float]) -> None:
        self._nest = Nest(windows)
        self.most_s = list(own_s)
        for number in reversed(self._nest.order):
            children = self._nest.children[number]
            if children:
                inner = sum(self.most_s[child] for child in children) + self._nest.hole_s(number)
                self.most_s[number] = min(self.most_s[number], inner)

    def within(self, windows: Sequence[Window]) -> float:
        """Returns the most of the windows, which are in order and share no moment."""
        return self._over(self._nest.roots, windows, _length(windows))

    def _over(self, numbers: Sequence[int], wanted: Sequence[Window], wanted_s: int) -> float:
        silent_s, left_s = 0.0, wanted_s
        for number in self._nest.touched(numbers, wanted):
            part, length_s = _clipped(wanted, self._nest.windows[number])
            if length_s:
                left_s -= length_s
                most_s = self.most_s[number]
                if length_s < _length([self._nest.windows[number]]):
                    most_s = min(most_s, self._over(self._nest.children[number], part, length_s))
                silent_s += most_s
        return silent_s + left_s


def union(windows: Sequence[Window]) -> list[Window]:
    """Returns the moments that are in any of the windows, as few windows in order."""
    found: list[Window] = []
    for window in sorted(windows):
        if found and window.start_s <= found[-1].end_s:
            found[-1] = _window(found[-1].start_s, max(found[-1].end_s, window.end_s))
        else:
            found.append(window)
    return found


def _length(windows: Sequence[Window]) -> int:
    return sum(window.end_s - window.start_s for window in windows)


def _clipped(windows: Sequence[Window], within: Window) -> tuple[list[Window], int]:
    found = [
        _window(max(window.start_s, within.start_s), min(window.end_s, within.end_s))
        for window in windows
        if window.start_s < within.end_s and window.end_s > within.start_s
    ]
    return found, _length(found)


def _without(window: Window, gone: Sequence[Window]) -> list[Window]:
    edges = [window.start_s, *(at_s for one in gone for at_s in (one.start_s, one.end_s)), window.end_s]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [Window(start_s, end_s) for start_s, end_s in pairs if start_s < end_s]
