"""A broken twin: no noise, and every reading in the log. The canary test must find what it lets out."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from murmure.simulated_sense import main
from murmure_edge import sense
from murmure_edge.publisher import Publisher
from murmure_privacy.plan import IndicatorPlan


class Leaky(Publisher):
    def add(self, stream: str, readings: Sequence[tuple[int, int]]) -> None:
        for _, value in readings[:5]:
            self._say(f"{stream}: {value / 10}")
        super().add(stream, readings)


class Exact:
    def prepare(self, indicator: IndicatorPlan) -> None:
        pass

    def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        return exact


if __name__ == "__main__":
    setattr(sense, "Publisher", Leaky)  # noqa: B010  (the module does not offer it: that is the point of a twin)
    sys.exit(main(Exact()))
