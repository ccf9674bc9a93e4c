"""Where a town has published what anybody may check: a folder or an address of its site, or an archive as files."""

from __future__ import annotations

import base64
import errno
import json
import re
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from socket import gaierror
from ssl import SSLCertVerificationError, SSLError
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from murmure_privacy import wire
from murmure_privacy.errors import ConfigError, MurmureError, WireError
from murmure_privacy.findings import plain
from murmure_privacy.publication import (
    ANNOTATIONS,
    DAY_S,
    EDITIONS,
    LAST_DAY,
    POLICIES,
    Day,
    Made,
    Publication,
    made,
    rows_of,
    table_file,
)
from murmure_privacy.window import BadTimezone, parse_utc

_JOURNAL, _MESSAGES = "donnees/journal/", "donnees/messages/"
_CHECKPOINT = f"{_JOURNAL}checkpoint.txt"
_TIMEOUT_S = 30.0
_LARGEST = 1 << 30
_PACKED_LIMIT = 1 << 28
_FILES = 100_000
_PIECE, _PATIENCE_S, _SLOWEST, _LONGEST_S = 1 << 16, 60.0, 10_000, 3600.0
_EDITIONS = 100
_NAMED = 40  # signs of what a site calls itself
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")
_HASH = re.compile(rb'"hash":"([0-9a-f]{64})"')
_ENTRIES_FILE = re.compile(_JOURNAL + r"entries-[0-9]+\.jsonl")
_CLOSING_FILE = re.compile(_JOURNAL + r"days-[0-9]{4}-[0-9]{2}\.cose")
_TABLE_FILE = re.compile(r"donnees/releases-[0-9.-]+\.csv")
_MESSAGES_FILE = re.compile(_MESSAGES + r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.cose")


class SourceError(MurmureError):
    """What was published cannot be reached or read: look at the address, or try later."""

    def __init__(self, text: str) -> None:
        super().__init__(plain(text))


class Site:
    """A published site. `octets`: what was read of it so far, as it came over the line. `clock`: seconds, by which all
    of it comes within an hour, and each file at more than 10 kB/s after its first minute. Raises ConfigError for what
    is no address."""

    def __init__(self, source: str, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.source = source.rstrip("/")
        self.octets = 0
        self._clock, self._begun_s = clock, clock()
        self._table = "", b""
        self._begun_with: tuple[bytes | None, ...] = ()
        try:
            address = urlsplit(source)
            self._remote = address.scheme in ("http", "https")
            right = not self._remote or (address.hostname and address.port != 0 and re.fullmatch(r"[!-~]+", source))
        except ValueError:
            right = False
        if not right or "\0" in source:
            raise ConfigError(plain(source), "SOURCE", "this is no address", "write it as https://name/path")

    def read(self, path: str) -> bytes | None:
        """Returns a file below the root, None where there is none. The table that was read last is held, since it is
        asked for again: for its sum, and beside its Parquet file. Raises SourceError."""
        if self._table[0] == path:
            return self._table[1]
        data = self._fetched(path) if self._remote else self._opened(path)
        if data is not None and _TABLE_FILE.fullmatch(path):
            self._table = path, data
        return data

    def _opened(self, path: str) -> bytes | None:
        try:
            packed = Path(self.source, f"{path}.gz")
            data = _regular(Path(self.source, path)).read_bytes()
            self.octets += packed.stat().st_size if packed.is_file() else len(data)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # no file can have a name that is no text
            return None
        except OSError as error:
            raise SourceError(f"{error.filename or path}: {error.strerror or error}; see who may read it") from error
        return data

    def _fetched(self, path: str) -> bytes | None:
        url = f"{self.source}/{path}"
        try:
            with urlopen(Request(url, headers={"Accept-Encoding": "gzip"}), timeout=_TIMEOUT_S) as answer:
                data = self._received(answer)
                packed = answer.headers.get("Content-Encoding") == "gzip"
            self.octets += len(data)
            return _unzipped(data) if packed else data
        except HTTPError as error:
            if error.code in (404, 410):
                return None
            raise SourceError(f"{url}: the server answers {error.code}; try later") from error
        except (URLError, HTTPException, OSError, ValueError, zlib.error) as error:
            raise _unreached(url, error) from error

    def _received(self, answer: HTTPResponse) -> bytes:
        """Returns an answer, piece by piece. Raises ValueError if it is too large, too slow or cut off."""
        data, begun_s = bytearray(), self._clock()
        while piece := answer.read1(_PIECE):
            data += piece
            now_s = self._clock()
            if len(data) > _PACKED_LIMIT:
                raise ValueError(f"more than {_PACKED_LIMIT} bytes")
            if now_s - begun_s > _PATIENCE_S + len(data) / _SLOWEST or now_s - self._begun_s > _LONGEST_S:
                raise ValueError("it comes too slowly")
        if answer.length:
            raise ValueError("it is cut off")
        return bytes(data)

    def published(self, of_format: int | None = None) -> Publication:
        """Returns what this site publishes. `of_format`: a site of another format, or with a timezone that nobody
        knows here, is refused (SourceError). Raises ConfigError if it is no site with a log, SourceError."""
        self._table = "", b""
        self._begun_with = note, editions = self._marks()
        told = made(editions)
        if of_format is not None:
            self._require(told, of_format)
        centre, index = self.read(f"{_JOURNAL}centre.txt"), self.read(f"{_MESSAGES}index.json")
        if note is None or centre is None or index is None:
            mend = "give the folder or the address of a site, or an archive that 'murmure ingest export' wrote"
            raise ConfigError(self.source, "SOURCE", "no log is published there", mend)
        try:
            files = [(str(one["path"]), int(one["messages"]), int(one["octets"])) for one in json.loads(index)["files"]]
            if len(files) > _FILES:
                raise ValueError("too many files")
            key = bytes.fromhex(centre.decode("ascii").strip())
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise SourceError(f"{self.source}: {_MESSAGES}index.json: cannot be read; try later") from error
        entries = self._lines([path for path, _, _ in files if _ENTRIES_FILE.fullmatch(path)])
        named = {policy: self.read(f"{POLICIES}{policy}.cose") for policy in _policies(entries)}
        notes = rows_of(self.read(ANNOTATIONS) or b"")
        closing = [
            sealed for path, _, _ in files if _CLOSING_FILE.fullmatch(path) for sealed in _apart(self.read(path) or b"")
        ]
        days = [
            Day(day, messages, octets, partial(self._messages, path))
            for path, messages, octets in files
            if (day := _day(path)) is not None
        ]
        return Publication(
            note=note,
            centre=key,
            entries=entries,
            policies={bytes.fromhex(policy): sealed for policy, sealed in named.items() if sealed is not None},
            annotations=[_unpacked(one.get("cose_base64") or "") for one in notes],
            closing=closing,
            days=days,
            rows=self._rows,
            months=self._months(editions),
            made=told,
            read=self.read,
            size=self.size,
            used=lambda: self.octets,
        )

    def size(self, path: str) -> int | None:
        """Returns how many bytes a file below the root is on its way, packed where it can be; None where there is none,
        or where the server does not say it."""
        try:
            if not self._remote:
                packed = Path(self.source, f"{path}.gz")
                return (packed if packed.is_file() else Path(self.source, path)).stat().st_size
            asked = Request(f"{self.source}/{path}", headers={"Accept-Encoding": "gzip"}, method="HEAD")
            with urlopen(asked, timeout=_TIMEOUT_S) as answer:
                return int(answer.headers["Content-Length"])
        except (URLError, HTTPException, OSError, ValueError, TypeError):  # reading it tells what is wrong
            return None

    def moved(self) -> bool:
        """Returns whether the site was published anew since `published` began: what was read may be of both. Raises
        SourceError."""
        return self._marks() != self._begun_with

    def _marks(self) -> tuple[bytes | None, bytes | None]:
        """Returns what every build that shows something new writes anew: the end of the log, and the editions."""
        return self.read(_CHECKPOINT), self.read(EDITIONS)

    def _require(self, told: Made, of_format: int) -> None:
        """Raises SourceError for a site of which this version would say what is not so."""
        if told.format not in (None, of_format):
            by = f"{told.software[:_NAMED] or '?'}, format {str(told.format)[:_NAMED]}"
            raise SourceError(
                f"{self.source}: this site was made by another version ({by}), and this one knows format {of_format}; "
                "check it with that one"
            )
        try:
            told.require_known()
        except BadTimezone as error:
            unknown = str(error).partition(";")[0]
            raise SourceError(f"{self.source}: {EDITIONS}: {unknown}; install Debian's package tzdata") from error

    def _lines(self, paths: Sequence[str]) -> list[bytes]:
        return [line for path in sorted(paths) for line in (self.read(path) or b"").split(b"\n") if line]

    def _messages(self, path: str) -> list[bytes]:
        data = self.read(path)
        if data is None:
            raise WireError("malformed", "the file is missing")
        return wire.messages_in(data)

    def _rows(self, month: str, edition: int) -> Iterator[dict[str, str]] | None:
        """Returns the rows of an edition of a month, None where there is none."""
        if edition > _EDITIONS:
            raise SourceError(f"{self.source}: {month} has more editions than months since; look at the address")
        data = self.read(table_file(month, edition))
        return None if data is None else rows_of(data)

    def _months(self, editions: bytes | None) -> list[str]:
        """Returns the months that are said to have tables, or that have some in a folder."""
        try:
            told = set(json.loads(editions or b"{}").get("months", ()))
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise SourceError(f"{self.source}: {EDITIONS}: cannot be read; try later") from error
        here = () if self._remote else Path(self.source, "donnees").glob("releases-*.csv")
        told.update(file.name.removeprefix("releases-")[:7] for file in here)
        return sorted(month for month in told if _MONTH.fullmatch(month))


def archive(folder: Path) -> Publication:
    """Returns what an archive as files holds (docs/archive-export.md): no tables of figures. Raises SourceError."""
    try:
        rows = {name: _table(folder, name) for name in ("log", "checkpoints", "policies", "annotations", "messages")}
        newest = max(rows["checkpoints"], key=lambda row: int(row["size"]), default=None)
        if newest is None:
            raise ConfigError(
                str(folder), "SOURCE", "its centre has signed no log yet", "run the centre once, and export"
            )
        filed = {row["message"] for row in _table(folder, "amendments") if row["disposition"] == "filed"}
        messages = {
            (row["gateway"], row["seq"]): _unpacked(row["sealed"])
            for row in rows["messages"]
            if row["disposition"] == "filed" or row["id"] in filed
        }
        entries = [_unpacked(row["entry"]) for row in rows["log"]]
        last = {
            (told["gateway"], told["day"]): told["last"] for told in map(json.loads, entries) if told["kind"] == "spend"
        }
        ends: dict[int, dict[int, None]] = {}
        place = {row["id"]: (row["gateway"], row["seq"]) for row in rows["messages"]}
        for row in _table(folder, "nodes"):
            day = (int(row["end_s"]) - 1) // DAY_S
            if day not in range(LAST_DAY):
                raise ValueError(day)
            ends.setdefault(day, {})[row["message"]] = None
        days = []
        for day, found in sorted(ends.items()):
            sealed = [messages[key] for key in sorted(place[one] for one in found if place.get(one) in messages)]
            days.append(Day(day, len(sealed), sum(map(len, sealed)), partial(list, sealed)))
        return Publication(
            note=_unpacked(newest["signed"]),
            centre=_unpacked(newest["centre"]),
            entries=entries,
            policies={_unpacked(row["hash"]): _unpacked(row["sealed"]) for row in rows["policies"]},
            annotations=[_unpacked(row["sealed"]) for row in rows["annotations"]],
            closing=[messages[gateway, seq] for (gateway, _), seq in last.items() if (gateway, seq) in messages],
            days=days,
            rows=None,
        )
    except OSError as error:
        raise SourceError(f"{error.filename or folder}: {error.strerror or error}; take another copy of it") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise SourceError(f"{folder}: export: a line of it is none of ours; take another copy of it") from error


def is_archive(source: str) -> bool:
    """Returns whether this is a folder that 'murmure ingest export' wrote."""
    return Path(source, "export.json").is_file()


def _table(folder: Path, name: str) -> list[dict[str, Any]]:
    with _regular(folder / f"{name}.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _policies(entries: Sequence[bytes]) -> Iterator[str]:
    """Yields the hash of each policy that the log names."""
    for entry in entries:
        if b'"kind":"policy"' in entry and (found := _HASH.search(entry)):
            yield found[1].decode("ascii")


def _regular(path: Path) -> Path:
    """Returns the path of a file that has an end. Raises OSError."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST:
        raise OSError(errno.EINVAL, "not a file, or too large", str(path))
    return path


def _unreached(url: str, error: Exception) -> SourceError:
    """Returns what is wrong in words of ours, and behind it what the network or a library calls it."""
    reason = getattr(error, "reason", None) or error
    if type(reason) is ValueError:  # of an answer that was not taken
        return SourceError(f"{url}: {reason}; look at the address and the network")
    match reason:
        case gaierror() | UnicodeError():
            what = "nobody knows a machine of this name"
        case ConnectionRefusedError():
            what = "no server answers there"
        case TimeoutError():
            what = "no answer came in time"
        case SSLCertVerificationError():
            what = "its certificate is not to be believed"
        case SSLError():
            what = "no encrypted connection came about"
        case ConnectionError() | IncompleteRead():
            what = "the connection broke off"
        case HTTPException():
            what = "what answers there is no web server"
        case zlib.error():
            what = "the answer cannot be unpacked"
        case _:
            what = "it cannot be reached"
    return SourceError(f"{url}: {what} ({str(reason) or type(reason).__name__}); look at the address and the network")


def _unzipped(data: bytes) -> bytes:
    """Raises ValueError if it is cut off or too large, zlib.error."""
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    found = stream.decompress(data, _LARGEST)
    if not stream.eof:
        raise ValueError("it is cut off, or too large")
    return found


def _apart(data: bytes) -> list[bytes]:
    """Returns the messages in a file; what cannot be read is missed by who looks for it."""
    try:
        return wire.messages_in(data)
    except WireError:
        return []


def _day(path: str) -> int | None:
    """Returns the day (since 1970, UTC) of a file of messages, None for another file."""
    found = _MESSAGES_FILE.fullmatch(path)
    try:
        day = -1 if found is None else parse_utc(f"{found[1]}T00:00:00Z") // DAY_S
    except ValueError:
        return None
    return day if day in range(LAST_DAY) else None


def _unpacked(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""
