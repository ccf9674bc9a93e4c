"""`/metrics` as a Prometheus reads it: over HTTP, by prometheus_client's own strict parser."""

from __future__ import annotations

import http.client
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from murmure_ingest import metrics
from murmure_ingest.archive import Archive
from murmure_ingest.archive_watch import Watch
from murmure_ingest.config import MirrorConfig, OperationsConfig, load
from murmure_ingest.intake import REASONS, Intake
from murmure_ingest.meter import Meter
from murmure_ingest.metrics import Names, fleet, metrics_open
from murmure_ingest.rules import RuleBook
from murmure_ingest.subscriber import Subscriber
from murmure_privacy.errors import ConfigError
from prometheus_client.openmetrics.parser import text_string_to_metric_families

MONDAY_S = 1_795_392_000
QUARTER_S = 900
DOCUMENTED = Path(__file__).parents[2] / "docs" / "metrics.md"

Samples = dict[str, list[tuple[dict[str, str], float]]]


@contextmanager
def serving(centre: Any, meter: Meter, now_s: float, **settings: Any) -> Iterator[int]:
    mirror = MirrorConfig("http://127.0.0.1:1") if settings.pop("mirrored", False) else None
    config = replace(centre.config, operations=OperationsConfig(port=0, **settings), mirror=mirror)
    with metrics_open(config, meter, lambda _: None, lambda: now_s) as port:
        assert port
        yield port


def ask(port: int, path: str = "/metrics", method: str = "GET") -> tuple[int, str, str]:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    line.request(method, path)
    answer = line.getresponse()
    content = answer.read().decode()
    line.close()
    return answer.status, answer.headers["Content-Type"] or "", content


def samples(text: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def value(found: Samples, name: str, **labels: str) -> float:
    (one,) = [value for of, value in found[name] if labels.items() <= of.items()]
    return one


@pytest.fixture
def told(centre: Any) -> Samples:
    """One gateway after two hours, with a report and one refusal; a second one that was never heard."""
    gateway = centre.gateway()
    centre.gateway("gw-park", "park")
    meter = Meter()
    words = centre.intake.accept_many(gateway.history(8))
    meter.committed(words, 0.02)
    ports = (("beam", "ok"), ("dust", "stalled"))
    report = gateway.health(600, at_s=MONDAY_S + 2 * 3600, ports=ports, outbox_depth=3, temperature_c=35, boot=4, log=2)
    meter.judged([centre.accept(*report), centre.accept("murmure/v1/x/gw-nobody/release", b"")])
    with serving(centre, meter, MONDAY_S + 2 * 3600 + 100.0) as port:
        status, kind, text = ask(port)
    assert status == 200 and kind.startswith("application/openmetrics-text; version=1.0.0")
    return samples(text)


def test_a_gateway_is_told_whole(told: Samples) -> None:
    """Heard, settled, outbox, ports, clock, boots: what a technician asks first."""
    of = {"gateway": "gw-plaza", "site": "plaza"}
    assert value(told, "murmure_gateway_heard_timestamp_seconds", **of) == MONDAY_S + 7200
    assert value(told, "murmure_gateway_newest_node_timestamp_seconds", **of) == MONDAY_S + 7200
    assert value(told, "murmure_gateway_settled_seq", **of) == 8
    assert value(told, "murmure_gateway_missing_messages", **of) == 0
    assert value(told, "murmure_gateway_outbox_messages", **of) == 3
    assert value(told, "murmure_gateway_outbox_age_seconds", **of) == 100
    assert value(told, "murmure_gateway_port_state", port="dust", state="stalled") == 1
    assert value(told, "murmure_gateway_clock_state", state="ok", **of) == 1
    assert value(told, "murmure_gateway_boot", **of) == 4
    assert value(told, "murmure_gateway_log_entries", **of) == 2
    assert value(told, "murmure_gateway_temperature_celsius", **of) == 35
    assert value(told, "murmure_gateways", state="active") == 2


def test_what_is_not_known_is_absent(told: Samples) -> None:
    """A gateway that was never heard has no age, no outbox and no streams, rather than a zero."""
    for name in ("heard_timestamp_seconds", "outbox_messages", "outbox_age_seconds", "uptime_seconds"):
        assert all(labels["gateway"] != "gw-park" for labels, _ in told[f"murmure_gateway_{name}"])
    assert all(labels["site"] != "park" for labels, _ in told["murmure_stream_late_seconds"])
    assert value(told, "murmure_gateway_settled_seq", gateway="gw-park") == 0


def test_the_end_of_each_policy_is_told(told: Samples) -> None:
    """The midnight in Paris after its last day, site by site."""
    ends = {labels["site"]: at_s for labels, at_s in told["murmure_site_policy_end_timestamp_seconds"]}
    assert ends == dict.fromkeys(("plaza", "park"), 1_827_615_600.0)


def test_the_log_is_counted(told: Samples) -> None:
    """As far as the centre has it: two enrolments and a policy of each site. A gateway may remember fewer."""
    assert value(told, "murmure_log_entries") == 4
    assert all(labels["gateway"] != "gw-park" for labels, _ in told["murmure_gateway_log_entries"])


def test_intake_is_counted(told: Samples) -> None:
    """Words, nodes, refusals from zero on by reason, sizes and seconds of batches, the newest node."""
    assert value(told, "murmure_intake_messages_total", word="stored") == 8
    assert value(told, "murmure_intake_messages_total", word="counted") == 1
    assert sum(count for _, count in told["murmure_intake_refused_total"]) == 1
    assert {labels["reason"] for labels, _ in told["murmure_intake_refused_total"]} == set(REASONS)
    assert value(told, "murmure_intake_nodes_total") == 12
    assert value(told, "murmure_intake_batch_messages_bucket", le="10.0") == 1
    assert value(told, "murmure_intake_batch_messages_bucket", le="3.0") == 0
    assert value(told, "murmure_intake_commit_seconds_sum") == pytest.approx(0.02)
    assert value(told, "murmure_archive_newest_node_timestamp_seconds") == MONDAY_S + 7200
    assert value(told, "murmure_archive_bytes") > 10_000 and value(told, "murmure_disk_free_bytes") > 0


def test_the_page_names_every_series(told: Samples, centre: Any, tmp_path: Path) -> None:
    """docs/metrics.md has each name that is served, and serves each name that it has."""
    (tmp_path / "backups").mkdir()
    meter = Meter(words=Counter(stored=1))
    dated = {"crl": tmp_path / "none.pem", "backups": tmp_path / "backups"}
    with serving(centre, meter, time.time(), mirrored=True, **dated) as port:
        text = ask(port)[2]
    served = {family.name for family in text_string_to_metric_families(text) if family.name.startswith("murmure")}
    page = DOCUMENTED.read_text("utf-8")
    named = set(re.findall(r"`(murmure_[a-z_]+[a-z])`", page))
    plain = {name.removesuffix("_total").removesuffix("_info") for name in named}
    assert {name.removesuffix("_info") for name in served} == plain


def test_strangers_add_no_series(centre: Any) -> None:
    """Whatever names are made up on topics and in payloads, the answer has as many lines as before."""
    centre.gateway()
    with serving(centre, Meter(), time.time()) as port:
        before = ask(port)[2].count("\n")
        for number in range(300):
            centre.accept(f"murmure/v1/q{number}/gw-{number}/release", b"x" * number)
            centre.accept(f"other/{number}", b"")
        after = ask(port)[2]
    assert after.count("\n") == before and "gw-7" not in after


def test_nothing_is_told_of_the_street(centre: Any) -> None:
    """Two centres whose gateways released quite different figures tell the same."""

    def answer(centre: Any, shown: int) -> Samples:
        gateway = centre.gateway(f"gw-s{shown}", f"s{shown}")
        for quarter in range(1, 5):
            at_s = MONDAY_S + quarter * QUARTER_S
            centre.accept(gateway.topic, gateway.seal(at_s, outcomes=gateway.outcomes(at_s, value=shown)))
        with serving(centre, Meter(), MONDAY_S + 4000.0) as port:
            return samples(ask(port)[2].replace(f"s{shown}", "s"))

    first = answer(centre, 3)
    second = answer(centre, 9000)
    for name, series in first.items():
        if name.startswith(("murmure_gateway_", "murmure_stream_")):
            assert all(one in second[name] for one in series), name


def test_a_damaged_archive_is_said_with_503(centre: Any) -> None:
    """Prometheus then sees the centre as down, with the reason in the body; the thread goes on."""
    centre.gateway()
    with serving(centre, Meter(), time.time()) as port:
        assert ask(port)[0] == 200
        side = sqlite3.connect(centre.config.archive)
        side.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        side.close()
        with centre.config.archive.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (centre.config.archive.stat().st_size - 4096))
        status, _, text = ask(port)
        assert status == 503 and "restore it from a backup" in text
        assert ask(port, "/")[0] == 404


def test_only_one_page_is_there(centre: Any) -> None:
    """Another path is 404, another verb is refused."""
    with serving(centre, Meter(), time.time()) as port:
        assert ask(port, "/metrics?x=1")[0] == 200
        assert ask(port, "/archive.db")[0] == 404
        assert ask(port, method="POST")[0] == 501


def test_a_silent_reader_does_not_hold_the_page_for_long(centre: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which nothing is asked is dropped, and the next question is answered."""
    monkeypatch.setattr(metrics._Handler, "timeout", 0.2)
    with serving(centre, Meter(), time.time()) as port, socket.create_connection(("127.0.0.1", port)):
        assert ask(port)[0] == 200


def test_the_command_serves_it_and_ends_with_it(centre: Any, until: Any, tmp_path: Path) -> None:
    """`ingest run` says where the page is and answers there although no broker is reachable; SIGTERM ends both."""
    centre.gateway()
    config = tmp_path / "ingest.toml"
    config.write_text(f"{config.read_text()}\n[operations]\nport = 0\n")
    with subprocess.Popen(
        [sys.executable, "-m", "murmure.cli", "ingest", "run", "--config", str(config)],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        port = next(int(found[1]) for line in process.stderr if (found := re.search(r":(\d+)/metrics", line)))
        status, _, text = ask(port)
        process.terminate()
        assert process.wait(30) == 0
    assert status == 200 and value(samples(text), "murmure_gateways", state="active") == 1
    with pytest.raises(OSError):
        ask(port)


def test_without_the_table_there_is_no_page(centre: Any) -> None:
    """A centre that was not told to does not listen."""
    with metrics_open(centre.config, Meter(), lambda _: None) as port:
        assert port is None


def test_a_taken_port_is_one_line(centre: Any) -> None:
    """File, key, problem, mend."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        config = replace(centre.config, operations=OperationsConfig(port=other.getsockname()[1]))
        with pytest.raises(ConfigError, match=r"operations\.port"), metrics_open(config, Meter(), lambda _: None):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "metrics.example.org"])
def test_other_addresses_need_a_reason(tmp_path: Path, host: str) -> None:
    """Beyond the loopback only with words why; the loopback needs none."""
    path = tmp_path / "ingest.toml"
    path.write_text(f'data_dir = "x"\n[operations]\nhost = "{host}"\n')
    with pytest.raises(ConfigError, match=r"operations\.host"):
        load(path)
    path.write_text(f'data_dir = "x"\n[operations]\nhost = "{host}"\nbeyond_loopback = "the inner network"\n')
    found = load(path).operations
    assert found and found.host == host
    for near in ("127.0.0.1", "127.0.0.53", "::1", "localhost"):
        path.write_text(f'data_dir = "x"\n[operations]\nhost = "{near}"\ncrl = "c.pem"\n')
        found = load(path).operations
        assert found and found.crl == tmp_path / "c.pem"


def test_a_centre_tells_of_its_broker(
    centre: Any, broker: Any, make_centre: Callable[..., Any], connect: Any, until: Any, tmp_path: Path
) -> None:
    """What crosses a real broker is counted, and its loss is seen."""
    folder = tmp_path / "lined"
    folder.mkdir()
    lined = make_centre(folder, port=broker.port, mqtt=broker.mqtt)
    gateway = lined.gateway()
    meter, stop = Meter(), threading.Event()

    def run() -> None:
        mine = Archive.open(lined.config.archive)
        intake = Intake(mine, RuleBook(mine), lambda: 1 << 40)
        Subscriber(lined.config, mine, intake, lined.secret, lambda _: None, meter).run(stop)
        mine.close()

    broker.start()
    thread = threading.Thread(target=run)
    thread.start()
    try:
        with serving(lined, meter, MONDAY_S + 3600.0) as port:
            peer = connect(gateway, broker)
            until(lambda: value(samples(ask(port)[2]), "murmure_broker_connected") == 1)
            peer.publish(*gateway.history(4))
            until(lambda: value(samples(ask(port)[2]), "murmure_intake_nodes_total") == 6)
            found = samples(ask(port)[2])
            assert value(found, "murmure_intake_messages_total", word="stored") == 4
            assert value(found, "murmure_broker_connections_total") == 1
            assert value(found, "murmure_intake_queue_messages") == 0
            broker.stop()
            until(lambda: value(samples(ask(port)[2]), "murmure_broker_connected") == 0)
    finally:
        stop.set()
        thread.join()
        lined.archive.close()


def test_a_gateway_that_invents_names_gets_no_series_without_end(centre: Any) -> None:
    """What it says of its ports and its software are labels: of ever new ones the first are told, and of two ports of
    one name one, lest a scrape be refused."""
    gateway = centre.gateway()
    watch, names, seen = Watch(centre.archive), Names(), set[tuple[str, ...]]()
    for number in range(50):
        ports = (("twice", "ok"), ("twice", "ok"), *((f"p{number}-{port}", "ok") for port in range(20)))
        centre.accept(*gateway.health(100 + number, software=f"v{number}", ports=ports))
        told = [
            (sample.name, *sample.labels.values())
            for metric in fleet(watch.look(MONDAY_S), names)
            for sample in metric.samples
        ]
        assert len(told) == len(set(told))
        seen |= set(told)
    assert ("murmure_gateway_port_state", "gw-plaza", "plaza", "p0-0", "ok") in seen
    assert len([one for one in seen if one[0] == "murmure_gateway_port_state"]) == 40
    assert len([one for one in seen if one[0] == "murmure_gateway_info"]) == 41
