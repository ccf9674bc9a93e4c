"""`sense` that also writes each health report, before it is sealed, to `health.jsonl` beside its gateway.toml, and
looks around at every turn, so that a replay reports each quarter-hour. With `--leaky` a broken twin: it counts people
in."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from murmure.simulated_sense import main
from murmure_edge import health, sense
from murmure_edge.publisher import Publisher

LEAKY = "--leaky" in sys.argv
FILE = Path(sys.argv[sys.argv.index("--config") + 1]).parent / "health.jsonl"
real_report = health.report
passed = 0


class Counting(Publisher):
    def add(self, stream: str, readings: Sequence[tuple[int, int]]) -> None:
        global passed
        if "footfall" in stream:
            passed += sum(value for _, value in readings)
        super().add(stream, readings)


def report(*args: Any, **fields: Any) -> Any:
    if LEAKY:
        fields["outbox_depth"] += passed // 1000
    made = real_report(*args, **fields)
    told: Mapping[str, object] = {**dataclasses.asdict(made), "gateway": "", "quartier": ""}
    with FILE.open("a") as file:
        file.write(json.dumps(told) + "\n")
    return made


if __name__ == "__main__":
    health.report = report
    for name, value in (("Publisher", Counting), ("_INBOX_S", -1.0)):
        setattr(sense, name, value)
    sys.argv = [word for word in sys.argv if word != "--leaky"]
    sys.exit(main())
