"""`sense` beside a bench: the gateway's own code with links whose time is the bench's. For the demo and the tests only.

A time line can move a gateway's clock, which spends budget; so it is reached through this composition alone, and the
gateway must be enrolled as simulated.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from murmure_edge import sense
from murmure_edge.config import load, load_trust
from murmure_edge.reading import PortHealth
from murmure_edge.timeline import TimelineLink
from murmure_privacy.errors import ConfigError, MurmureError
from murmure_privacy.gate import Mechanism

REPLAY_BATCH_MS = 60_000


class BenchClock:
    """Time comes with the bytes and is never stepped; only pauses between looks at the inbox are real."""

    def monotonic(self) -> float:
        """See murmure_edge.clock.Clock."""
        return time.monotonic()

    def trusted(self) -> bool:
        """See murmure_edge.clock.Clock: the bench vouches for its own time."""
        return True

    def begin(self) -> None:
        """See murmure_edge.clock.Clock."""

    def stepped_forward(self) -> bool:
        """See murmure_edge.clock.Clock."""
        return False

    def now_ms(self) -> int:
        """See murmure_edge.clock.Clock; never asked, since this clock is never stepped."""
        return 0


def _tell_counters(ports: Mapping[str, PortHealth]) -> None:
    """Prints what each port has taken, for the demo's check that no byte was lost; one JSON object."""
    print(
        json.dumps(
            {
                name: {
                    "frames": health.frames,
                    "rejected": health.rejected,
                    "discarded_bytes": health.discarded_bytes,
                    "timeouts": health.timeouts,
                }
                for name, health in ports.items()
            }
        ),
        flush=True,
    )


def main(mechanism: Mechanism | None = None) -> int:
    """Runs one simulated `sense` until SIGTERM. `mechanism` is for tests: nothing outside them gives one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--timeline", type=Path, required=True, help="folder of the bench's time line")
    args = parser.parse_args()
    try:
        config = load(args.config)
        if not load_trust(config).simulated:
            raise ConfigError(str(config.trust), "simulated", "false", "only a simulated gateway may follow a bench")
        return sense.start(
            args.config,
            lambda index, port, baud, stop: TimelineLink(args.timeline, index, port.name, port.path, baud, stop),
            BenchClock(),
            REPLAY_BATCH_MS,
            sense.say,
            mechanism,
            ended=_tell_counters,
        )
    except MurmureError as error:
        print(f"murmure: {error}", file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
