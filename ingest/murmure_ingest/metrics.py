"""`/metrics` of a running centre, in OpenMetrics; docs/metrics.md says what each name means.

A server of its own in a thread of its own, with its own read-only connection to the archive: whoever asks never makes
intake wait. One question at a time, on the loopback. The only file that knows prometheus_client.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from pathlib import Path

from murmure_privacy.errors import ConfigError, MurmureError
from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from murmure_ingest.archive import Archive
from murmure_ingest.archive_watch import GatewayState, Overview, StreamState, Watch
from murmure_ingest.broker import crl_of
from murmure_ingest.certificates import crl_days_left, issued
from murmure_ingest.config import IngestConfig, OperationsConfig
from murmure_ingest.intake import REASONS
from murmure_ingest.meter import Meter, Tally
from murmure_ingest.mirror import mirrored

_PATIENCE_S = 5  # who connects and says nothing holds the one thread no longer
_DAY_S = 86400
_NAMES = 40  # a report has at most 32 ports
_SPENDINGS_AT_ONCE, _CAPS_AT_ONCE = 600, 10  # so that no single answer takes long, even the first
_WAL = ("", "-wal", "-shm")
_GATEWAY = ("gateway", "site")
_STREAM = ("stream", "site", "quantity")

Say = Callable[[str], None]
Now = Callable[[], float]


def gauge(
    name: str, what: str, labels: tuple[str, ...], samples: Iterable[tuple[tuple[str, ...], float | None]]
) -> Metric:
    """Returns a gauge with its samples; what is None is not known, and left out."""
    family = GaugeMetricFamily(f"murmure_{name}", what, labels=labels)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, value)
    return family


def _one(name: str, what: str, value: float | None) -> Metric:
    return gauge(name, what, (), [((), value)])


def _counter(name: str, what: str, label: str, samples: dict[str, int]) -> Metric:
    family = CounterMetricFamily(f"murmure_{name}", what, labels=[label] if label else [])
    for value, count in sorted(samples.items()):
        family.add_metric([value] if label else [], count)
    return family


def _histogram(name: str, what: str, tally: Tally) -> Metric:
    family = HistogramMetricFamily(f"murmure_{name}", what)
    edges = [*(str(float(bound)) for bound in tally.bounds), "+Inf"]
    family.add_metric([], list(zip(edges, accumulate(tally.counts), strict=True)), tally.total)
    return family


class Names:
    """The first few names that each gateway gives its ports and its software. It chooses them itself: whoever invents
    ever more gets no more series."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], set[str]] = {}

    def has(self, gateway: str, kind: str, name: str) -> bool:
        """Returns whether a name is one of the first, or becomes one."""
        known = self._known.setdefault((gateway, kind), set())
        if len(known) < _NAMES:
            known.add(name)
        return name in known


@dataclass(frozen=True, eq=False)
class _Centre(Collector):
    """Gathers everything at the moment of the question."""

    config: IngestConfig
    operations: OperationsConfig
    meter: Meter
    watch: Watch
    now: Now
    names: Names = field(default_factory=Names)

    def collect(self) -> Iterator[Metric]:
        begun = time.monotonic()
        now = self.now()
        seen = self.watch.look(int(now))
        yield from fleet(seen, self.names)
        yield from _streams(seen)
        yield from _intake(self.meter, seen)
        yield from _store(self.config.archive, seen, self.meter)
        if self.config.mirror is not None:
            yield from _mirror(self.config.data_dir, seen)
        yield _certificates(self.config.data_dir, seen)
        yield from _dated(self.config, self.operations, now)
        yield gauge("build_info", "The version that runs.", ("version",), [((_version(),), 1)])
        yield _one("scrape_seconds", "How long it took to gather all this.", time.monotonic() - begun)


def fleet(seen: Overview, names: Names) -> Iterator[Metric]:
    """Yields what is told of each gateway."""
    here = [one for one in seen.gateways if one.state != "revoked"]

    def of(name: str, what: str, value: Callable[[GatewayState], float | None]) -> Metric:
        return gauge(f"gateway_{name}", what, _GATEWAY, (((one.gateway, one.site), value(one)) for one in here))

    def software(one: GatewayState) -> str:
        told = one.health.software if one.health else ""
        return told if names.has(one.gateway, "software", told) else "other"

    states = [one.state for one in seen.gateways]
    yield gauge(
        "gateways",
        "Gateways in the register.",
        ("state",),
        [((state,), states.count(state)) for state in ("active", "quarantined", "revoked")],
    )
    yield gauge(
        "gateway_info",
        "Where it stands and what it runs.",
        (*_GATEWAY, "quartier", "software"),
        (((one.gateway, one.site, one.quartier, software(one)), 1) for one in here),
    )
    yield of("heard_timestamp_seconds", "The latest instant of which it spoke.", lambda one: one.heard_s)
    yield of("newest_node_timestamp_seconds", "The end of its newest filed node.", lambda one: one.newest_end_s)
    yield of("quarantined", "Whether two cards speak with its key.", lambda one: one.state == "quarantined")
    yield of("settled_seq", "All its messages up to this number are settled.", lambda one: one.settled_seq)
    yield of("missing_messages", "Messages that have not come although later ones have.", lambda one: one.missing)
    yield of("outbox_age_seconds", "How old what waits in it is at most.", lambda one: one.outbox_age_s)
    reported = [(one, one.health) for one in here if one.health is not None]

    def told(name: str, what: str, values: Iterable[float | None]) -> Metric:
        labels = ((one.gateway, one.site) for one, _ in reported)
        return gauge(f"gateway_{name}", what, _GATEWAY, zip(labels, values, strict=True))

    yield told("outbox_messages", "Messages in its outbox.", (h.outbox_depth for _, h in reported))
    yield told("boot", "How often it was started.", (h.boot for _, h in reported))
    yield told("log_entries", "Of the transparency log, as it remembers it.", (h.log for _, h in reported))
    yield told("uptime_seconds", "For how long it had run.", (h.uptime_s for _, h in reported))
    yield told("temperature_celsius", "Of its board, in steps of 5.", (h.temperature_c for _, h in reported))
    yield told("free_storage_bytes", "Of its card.", (h.free_storage_mb * 1_000_000 for _, h in reported))
    yield gauge(
        "gateway_port_state",
        "What each port is in.",
        (*_GATEWAY, "port", "state"),
        (
            ((one.gateway, one.site, port, state), 1)
            for one, h in reported
            for port, state in dict(h.ports).items()
            if names.has(one.gateway, "port", port)
        ),
    )
    yield gauge(
        "gateway_clock_state",
        "What its clock is in.",
        (*_GATEWAY, "state"),
        (((one.gateway, one.site, h.clock), 1) for one, h in reported),
    )


def _streams(seen: Overview) -> Iterator[Metric]:
    def of(name: str, what: str, value: Callable[[StreamState], float | None]) -> Metric:
        labelled = (((one.stream, one.site, one.quantity), value(one)) for one in seen.streams)
        return gauge(f"stream_{name}", what, _STREAM, labelled)

    yield of("newest_node_timestamp_seconds", "The end of its newest filed node.", lambda one: one.newest_end_s)
    yield of("late_seconds", "For how long its next node has been awaited.", lambda one: one.late_s(seen.now_s))
    yield of("budget_rho", "What its policy lets one protected unit cost.", lambda one: _rho(one.budget_rho_micro))
    yield of(
        "spent_rho",
        "The largest spend at any instant of yesterday and today.",
        lambda one: _rho(one.spent_rho_micro),
    )
    yield of("cap_spent_ratio", "How full the tank of its cap is.", lambda one: one.cap_share)
    yield gauge(
        "site_policy_end_timestamp_seconds",
        "Until when its policies reach, those announced counted in.",
        ("site",),
        (((site,), until_s) for site, until_s in sorted(seen.policy_ends.items())),
    )


def _rho(micro: int | None) -> float | None:
    return None if micro is None else micro / 1_000_000


def _intake(meter: Meter, seen: Overview) -> Iterator[Metric]:
    yield _counter("intake_messages", "Messages judged since the start, by the word on them.", "word", meter.words)
    yield _counter("intake_nodes", "Nodes filed since the start.", "", {"": meter.nodes})
    yield _counter(
        "intake_refused", "Refusals since the archive began.", "reason", dict.fromkeys(REASONS, 0) | seen.refused
    )
    yield _counter("intake_duplicate_nodes", "Nodes that came again.", "", {"": seen.duplicates})
    yield _histogram("intake_batch_messages", "Messages in one commit.", meter.batch_messages)
    yield _histogram("intake_commit_seconds", "Judging and committing one batch.", meter.commit_s)
    yield _one("intake_queue_messages", "Received and not judged yet.", meter.queued())
    yield _one("broker_connected", "Whether the broker holds the connection.", meter.connected)
    yield _counter("broker_connections", "Connections since the start.", "", {"": meter.connections})


def _store(path: Path, seen: Overview, meter: Meter) -> Iterator[Metric]:
    yield _one("archive_messages", "Messages settled.", seen.messages)
    yield _one("archive_conflicts", "Messages kept as evidence.", seen.conflicts)
    yield _one("log_entries", "Of the transparency log.", seen.log_entries)
    waiting = {"unknown_policy": 0, "chain_broken": 0, "cloned": 0} | seen.waiting
    yield gauge(
        "archive_waiting_messages",
        "Messages put aside whole.",
        ("reason",),
        [((reason,), count) for reason, count in sorted(waiting.items())],
    )
    yield _one("archive_newest_node_timestamp_seconds", "The end of the newest node.", seen.newest_end_s)
    yield _one("archive_writable", "Whether the disk has room for the next commit.", meter.writable)
    files = (path.with_name(path.name + suffix) for suffix in _WAL)
    yield _one("archive_bytes", "The archive's files.", sum(file.stat().st_size for file in files if file.exists()))
    disk = os.statvfs(path.parent)
    yield _one("disk_free_bytes", "Of the archive's disk.", disk.f_bavail * disk.f_frsize)
    yield _one("disk_bytes", "Of the archive's disk.", disk.f_blocks * disk.f_frsize)


def _mirror(data_dir: Path, seen: Overview) -> Iterator[Metric]:
    place = mirrored(data_dir) or 0
    yield _one("mirror_messages", "Messages that the mirror has for good.", place)
    yield _one("mirror_lag_messages", "Messages that it does not have yet.", max(0, seen.messages - place))


def _certificates(data_dir: Path, seen: Overview) -> Metric:
    ends: dict[str, int] = {}
    revoked = {one.gateway for one in seen.gateways if one.state == "revoked"}
    for one in issued(data_dir):
        if one.revoked_s is None and one.name not in revoked:
            ends[one.name] = max(one.until_s, ends.get(one.name, 0))
    return gauge(
        "certificate_expiry_timestamp_seconds",
        "The end of the newest certificate of that name.",
        ("name",),
        (((name,), until_s) for name, until_s in sorted(ends.items())),
    )


def _dated(config: IngestConfig, operations: OperationsConfig, now: float) -> Iterator[Metric]:
    """What grows old by itself, as far as this centre wrote it or the settings say where it lies."""
    crl = operations.crl or crl_of(config.data_dir)
    if crl is not None:
        left = crl_days_left(crl, datetime.fromtimestamp(now, UTC))
        yield _one(
            "crl_expiry_timestamp_seconds",
            "Until when the broker accepts the list of revoked certificates.",
            0 if left is None else now + left * _DAY_S,  # without a list the broker lets nobody in
        )
    if operations.backups is not None:
        yield _one("backup_timestamp_seconds", "When the newest backup was written.", _newest_s(operations.backups))


def _newest_s(folder: Path) -> float:
    try:
        # What 'ingest backup' makes is a folder that gets its name last; one that is not finished begins with a dot.
        return max((one.stat().st_mtime for one in folder.iterdir() if one.name[0] != "."), default=0.0)
    except OSError:
        return 0.0


def _version() -> str:
    try:
        return version("murmure")
    except PackageNotFoundError:
        return "unknown"


class _Server(HTTPServer):
    registry: CollectorRegistry

    def handle_error(self, request: object, client_address: object) -> None:
        """Who goes away in the middle of an answer is no event."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "murmure"
    sys_version = ""
    timeout = _PATIENCE_S

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self._answer(HTTPStatus.NOT_FOUND, b"404 Not Found: the page is /metrics\n")
            return
        try:
            told: bytes = generate_latest(self.server.registry)  # type: ignore[no-untyped-call]
        except (MurmureError, OSError) as error:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode())
            return
        self._answer(HTTPStatus.OK, told, CONTENT_TYPE_LATEST)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps no log."""

    def _answer(self, status: HTTPStatus, content: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def metrics_open(config: IngestConfig, meter: Meter, say: Say, now: Now = time.time) -> Iterator[int | None]:
    """Serves `/metrics` while the block runs and gives its port; None without a table `[operations]`.

    Raises ConfigError where the address cannot be listened on.
    """
    operations = config.operations
    if operations is None:
        yield None
        return
    try:
        server = _Server((operations.host, operations.port), _Handler)
    except OSError as error:
        raise ConfigError(
            config.source,
            "operations.port",
            f"cannot listen on {operations.host}:{operations.port} ({error.strerror})",
            "write another port",
        ) from error
    say(f"metrics: http://{operations.host}:{server.server_address[1]}/metrics")

    def work() -> None:
        # An SQLite connection belongs to the thread that opened it.
        archive = Archive.open(config.archive, read_only=True)
        try:
            registry = server.registry = CollectorRegistry()
            ProcessCollector(registry=registry)
            watch = Watch(archive, _SPENDINGS_AT_ONCE, _CAPS_AT_ONCE)
            registry.register(_Centre(config, operations, meter, watch, now))
            server.serve_forever()
        finally:
            server.server_close()
            archive.close()

    thread = threading.Thread(target=work, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        if thread.is_alive():
            server.shutdown()
        thread.join()
