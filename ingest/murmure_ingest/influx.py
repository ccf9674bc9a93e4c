"""A time-series database as the mirror sees it: lines in, and which run of it is answering.

InfluxDB 2 and 3, and VictoriaMetrics, take the same request (`/api/v2/write`). An answer of 204 is not a promise: of
VictoriaMetrics a `kill -9` loses the last seconds of what it had taken. It is another run that answers then, and the
time at which its process started tells them apart.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException
from murmure_privacy.errors import ConfigError
from urllib3.exceptions import HTTPError

from murmure_ingest.config import MirrorConfig
from murmure_ingest.mirror import DatabaseError

_STARTED = re.compile(rb"^process_start_time_seconds(?:\{[^}]*\})? ([0-9.eE+]+)\s*$", re.MULTILINE)
_YOUNG_S = 2.0  # a second run may start within the second of the first: only from then on do the times differ
_DETAIL = 200
_OF_SAMPLES = (400, 422)
_MENDS = {
    400: "it refuses the samples: is this a database that takes InfluxDB's line protocol?",
    401: "it does not know the token: look at mirror.token_file",
    403: "the token may not write there: look at mirror.token_file, org and bucket",
    404: "there is no such place to write to: look at mirror.url, org and bucket",
}


class Database:
    """One place in one database. `token`: empty where none is asked for. Use from one thread."""

    def __init__(self, config: MirrorConfig, token: str) -> None:
        self._config, self._token = config, token
        self._client = InfluxDBClient(
            url=config.url, token=token, org=config.org, timeout=config.timeout_s * 1000, enable_gzip=True
        )
        self._writer = self._client.write_api(write_options=SYNCHRONOUS)
        where = urlsplit(config.url)
        self.name = f"{where.scheme}://{where.netloc}{where.path}".rstrip("/")

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()  # type: ignore[no-untyped-call]

    def write(self, lines: Sequence[str]) -> None:
        """Sends lines of InfluxDB's protocol, times in seconds; returns once they are acknowledged.

        Raises DatabaseError; some of the lines may have been taken then."""
        data = "\n".join(lines).encode()
        try:
            self._writer.write(self._config.bucket, record=data, write_precision=WritePrecision.S)  # type: ignore[arg-type]
        except (ApiException, HTTPError) as error:
            raise self._explained(error) from error

    def run(self) -> str | None:
        """Returns what tells this run of the database from any other, or None if it does not say: the time at which its
        process started, as `/metrics` has it. Raises DatabaseError if it does not answer, or has only just started."""
        headers = {"Authorization": f"Token {self._token}"} if self._token else {}
        try:
            answer = self._client.api_client.rest_client.pool_manager.request(
                "GET", f"{self.name}/metrics", headers=headers, timeout=float(self._config.timeout_s)
            )
        except HTTPError as error:
            raise self._explained(error) from error
        found = _STARTED.search(answer.data) if answer.status == 200 else None
        if found is None:
            return None
        said_at = answer.headers.get("Date")
        if said_at and parsedate_to_datetime(said_at).timestamp() - float(found[1]) < _YOUNG_S:
            raise DatabaseError(f"database {self.name}: has only just started; trying again")
        return found[1].decode()

    def _explained(self, error: ApiException | HTTPError) -> DatabaseError:
        status = getattr(error, "status", None)
        if not status:
            cause = getattr(error, "reason", None) or error
            what = cause.split()[0] if isinstance(cause, str) else type(cause).__name__
            return DatabaseError(f"database {self.name}: no answer ({what}); trying again")
        told = f"database {self.name}: status {status}: {_MENDS.get(status, 'trying again')}"
        # What it says of samples that it refuses may repeat them: a log has no values.
        detail = "" if status in _OF_SAMPLES else " ".join(str(getattr(error, "body", None) or "").split())[:_DETAIL]
        return DatabaseError(f"{told} ({detail})" if detail else told)


def read_token(file: Path | None) -> str:
    """Returns the token in a file, "" without one. Raises ConfigError unless its owner alone can read it."""
    if file is None:
        return ""
    key = "mirror.token_file"
    try:
        token, mode = file.read_text("utf-8").strip(), stat.S_IMODE(file.stat().st_mode)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), key, f"cannot be read ({error})", "put the token there, mode 0600") from error
    if mode & 0o077:
        raise ConfigError(str(file), key, "others may read it", f"chmod 600 {file}")
    if not token or not token.isprintable():
        raise ConfigError(str(file), key, "holds no token", "put the database's token there, on one line")
    return token
