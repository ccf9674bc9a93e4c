"""`sense` with a mechanism that adds nothing: the hook by which these tests, and nothing else, see exact aggregates."""

import sys

from murmure.simulated_sense import main
from murmure_privacy.plan import IndicatorPlan


class Exact:
    def prepare(self, indicator: IndicatorPlan) -> None:
        pass

    def draw(self, exact: tuple[int, ...], indicator: IndicatorPlan) -> tuple[int, ...]:
        return exact


if __name__ == "__main__":
    sys.exit(main(Exact()))
