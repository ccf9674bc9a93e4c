"""Two centres share one archive, each with the quartiers of its own: `ingest run` twice at a real broker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "murmure.cli", "ingest"]
QUARTERS = 60
BOTH = ("centre", "gare")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a centre on the common folder, which hears some quartiers; without any, all of them."""
    running: list[subprocess.Popen[bytes]] = []

    def start(port: int, *quartiers: str) -> subprocess.Popen[bytes]:
        name = "-".join(quartiers) or "all"
        config = tmp_path / f"{name}.toml"
        only = f"quartiers = {list(quartiers)}\n" if quartiers else ""
        config.write_text(f'data_dir = "centre"\n[broker]\nport = {port}\nclient_id = "ingest-{name}"\n{only}')
        with (tmp_path / f"{name}.log").open("ab") as log:
            running.append(subprocess.Popen([*COMMAND, "run", "--config", str(config)], stderr=log))
        return running[-1]

    yield start
    for one in running:
        one.kill()
        one.wait()


@pytest.mark.parametrize("broker", [pytest.param("mosquitto-5", marks=pytest.mark.broker)], indirect=True)
def test_two_centres_share_an_archive_by_quartiers(
    tmp_path: Path, make_centre: Callable[..., Any], broker: Any, connect: Any, until: Any, start: Any
) -> None:
    """Each files what its quartiers say and nobody else's; while one is down the other goes on, and what waited is
    filed when it is back. One archive, sound, with everything once."""
    centre = make_centre(tmp_path, port=broker.port, mqtt=broker.mqtt)
    broker.start()
    gateways = [centre.gateway(f"gw-{quartier}", quartier, quartier) for quartier in BOTH]
    peers = [connect(gateway, broker) for gateway in gateways]
    first, second = (start(broker.port, quartier) for quartier in BOTH)
    until(lambda: all(peer.settled(centre) == 0 for peer in peers))
    histories = [gateway.history(QUARTERS) for gateway in gateways]
    for arrivals in zip(*(history[: QUARTERS // 2] for history in histories), strict=True):
        for peer, arrival in zip(peers, arrivals, strict=True):
            peer.publish(arrival)
    until(lambda: all(peer.settled(centre) == QUARTERS // 2 for peer in peers))
    second.terminate()
    assert second.wait(30) == 0
    for peer, history in zip(peers, histories, strict=True):
        peer.publish(*history[QUARTERS // 2 :])
    until(lambda: peers[0].settled(centre) == QUARTERS)
    assert centre.archive.totals("gw-gare").settled_seq == QUARTERS // 2, "the one heard what is not its own"
    second = start(broker.port, "gare")
    until(lambda: peers[1].settled(centre) == QUARTERS)
    for one in (first, second):
        one.terminate()
        assert one.wait(30) == 0
    centre.archive.close()
    verify = [*COMMAND, "verify", "--archive", str(centre.config.archive), "--json"]
    told = subprocess.run(verify, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stdout
    assert f'"messages": {2 * QUARTERS}' in told.stdout


@pytest.mark.parametrize("broker", ["iotcore-5"], indirect=True)
@pytest.mark.parametrize(("there", "comes"), [(("gare",), ()), ((), ("gare",)), (("gare",), ("gare",))])
def test_a_centre_for_all_shares_with_nobody(
    tmp_path: Path, make_centre: Callable[..., Any], broker: Any, until: Any, start: Any, there: Any, comes: Any
) -> None:
    """Nor do two of one name: the second ends with 2 and one line, the first goes on."""
    make_centre(tmp_path).archive.close()
    broker.start()
    first = start(broker.port, *there)
    log = tmp_path / ("-".join(there) or "all")
    until(lambda: "connected" in log.with_suffix(".log").read_text())
    assert start(broker.port, *comes).wait(30) == 2
    assert "another ingest runs on it" in (tmp_path / f"{'-'.join(comes) or 'all'}.log").read_text()
    assert first.poll() is None
