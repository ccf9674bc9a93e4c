"""A broken twin: no noise, and every reading in the log. The canary test must find what it lets out."""

import sys
from collections.abc import Sequence

from murmure_edge.publisher import Publisher

sys.path.insert(0, str(__import__("pathlib").Path(__file__).parent))
from exact_sense import Exact, main


class Leaky(Publisher):
    def add(self, stream: str, readings: Sequence[tuple[int, int]]) -> None:
        for _, value in readings[:5]:
            self._say(f"{stream}: {value / 10}")
        super().add(stream, readings)


if __name__ == "__main__":
    import murmure_edge.sense

    murmure_edge.sense.Publisher = Leaky  # type: ignore[misc]
    sys.exit(main(Exact()))
