"""A small static server for the site: GET and HEAD, pre-compressed files, strict headers. For a desk, a demo or the
inside of a town hall; on the open internet put a web server of your own in front of the folder."""

from __future__ import annotations

import mimetypes
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".geojson": "application/geo+json",
    ".jsonl": "application/jsonl",
    ".jsonld": "application/ld+json",
    ".parquet": "application/vnd.apache.parquet",
    ".txt": "text/plain; charset=utf-8",
    ".xml": "application/atom+xml; charset=utf-8",  # the feeds are all the XML there is
}


class SiteServer(ThreadingHTTPServer):
    """Serves one folder, which may be a link that is switched between two requests."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, directory: Path, port: int, host: str = "127.0.0.1") -> None:
        super().__init__((host, port), _Handler)
        self.directory = directory

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader that went away in the middle of a page is no event."""


def serve(directory: Path, port: int, host: str = "127.0.0.1") -> SiteServer:
    """Returns a bound server: `serve_forever()` runs it, `shutdown()` from another thread ends it. Port 0 takes a free
    one (`server_address`). Raises OSError where the port is taken."""
    return SiteServer(directory, port, host)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "murmure"
    sys_version = ""
    timeout = 15  # a reader that says nothing holds its thread no longer
    server: SiteServer

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _refuse(self) -> None:
        self._plain(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD", "Connection": "close"})

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = _refuse

    def log_message(self, format: str, *args: object) -> None:
        """Keeps no log: who reads the site is nobody's business."""

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        root = self.server.directory.resolve()  # once: the page and its compressed twin are of the same build
        wanted = root / path.lstrip("/")
        if "\0" in path or ".." in path.split("/"):
            self._plain(HTTPStatus.NOT_FOUND, {}, body)
            return
        if wanted.is_dir():
            if not path.endswith("/"):
                # One slash only: `//host` would send the reader to another site.
                self._plain(
                    HTTPStatus.MOVED_PERMANENTLY, {"Location": f"/{urlsplit(self.path).path.strip('/')}/"}, body
                )
                return
            wanted /= "index.html"
        file, encoding = wanted, None
        if "gzip" in self.headers.get("Accept-Encoding", "") and wanted.with_name(f"{wanted.name}.gz").is_file():
            file, encoding = wanted.with_name(f"{wanted.name}.gz"), "gzip"
        try:
            content = file.read_bytes()
            changed_s = int(file.stat().st_mtime)
        except OSError:
            self._plain(HTTPStatus.NOT_FOUND, {}, body)
            return
        fields = {
            "Last-Modified": formatdate(changed_s, usegmt=True),
            "Cache-Control": "public, max-age=31536000" if path.startswith("/static/") else "public, max-age=60",
            "Vary": "Accept-Encoding",
        }
        if self._known(changed_s):
            self._send(HTTPStatus.NOT_MODIFIED, fields, None)
            return
        fields["Content-Type"] = (
            TYPES.get(wanted.suffix) or mimetypes.guess_type(wanted.name)[0] or "application/octet-stream"
        )
        fields["Content-Length"] = str(len(content))
        if encoding:
            fields["Content-Encoding"] = encoding
        self._send(HTTPStatus.OK, fields, content if body else None)

    def _known(self, changed_s: int) -> bool:
        since = self.headers.get("If-Modified-Since")
        if since is None:
            return False
        try:
            return parsedate_to_datetime(since).timestamp() >= changed_s
        except ValueError:
            return False

    def _plain(self, status: HTTPStatus, fields: dict[str, str], body: bool = True) -> None:
        content = f"{status.value} {status.phrase}\n".encode()
        fields = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(content)), **fields}
        self._send(status, fields, content if body else None)

    def _send(self, status: HTTPStatus, fields: dict[str, str], content: bytes | None) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, **fields}.items():
            self.send_header(name, value)
        self.end_headers()
        if content is not None:
            self.wfile.write(content)
