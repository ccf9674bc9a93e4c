"""The centre at Debian's NATS with JetStream, by configuration alone (`mqtt = 4`): a broker that keeps on disk what it
has acknowledged, which ours do not promise."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.nats,
    pytest.mark.long,
    pytest.mark.parametrize("broker", ["nats-4"], indirect=True),
]

QUARTERS = 300


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "murmure.cli", "ingest", "run", "--config", "ingest.toml"]
        with (tmp_path / "centre.log").open("ab") as log:
            running.append(subprocess.Popen(command, cwd=tmp_path, stderr=log))
        return running[-1]

    yield start
    for one in running:
        one.kill()
        one.wait()


def test_what_nats_has_acknowledged_waits_for_a_centre_that_is_away(
    tmp_path: Path,
    make_centre: Callable[..., Any],
    broker: Any,
    connect: Any,
    until: Any,
    run: Callable[[], subprocess.Popen[bytes]],
    kill_broker: Callable[[Any], None],
) -> None:
    """The centre is stopped, a gateway speaks and is gone, NATS is killed and started again: all of it is filed, once,
    although nobody says it again. Policy and receipt, retained, are there for the next who comes."""
    centre = make_centre(tmp_path, port=broker.port, mqtt=broker.mqtt)
    broker.start()
    gateway = centre.gateway()
    first = run()
    peer = connect(gateway, broker)
    until(lambda: peer.settled(centre) == 0)
    first.terminate()
    assert first.wait(30) == 0

    acknowledged: list[object] = []
    peer._client.on_publish = lambda *_: acknowledged.append(1)
    peer.publish(*gateway.history(QUARTERS))
    until(lambda: len(acknowledged) == QUARTERS)
    peer.stop()
    kill_broker(broker)
    broker.start()

    second = run()
    until(lambda: centre.archive.totals(gateway.name).settled_seq == QUARTERS)
    second.terminate()
    assert second.wait(30) == 0
    assert (centre.archive.counts()["duplicates"], centre.refused()) == (0, {})
    late = connect(gateway, broker)
    until(lambda: late.settled(centre) == QUARTERS and "policy" in {kind for kind, *_ in late.got})
    centre.archive.close()
