"""What the studio answers to a browser on this machine: GET and HEAD, no script, nothing from elsewhere, no log."""

from __future__ import annotations

import ipaddress
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from murmure_dashboards import pages
from murmure_dashboards.packed import compressed
from murmure_dashboards.server import HEADERS, TYPES
from murmure_dashboards.wording import LANGUAGES, language
from murmure_privacy.policy import Policy

from murmure.studio import numbers_page, page, public, week, whole, whole_page
from murmure.studio.desk import Desk
from murmure.studio.form import LETTERS, RULE, Unmet, parse_query

MOST_OCTETS = 8192  # of an address
_DRAFTS_KEPT = 6
_HTML = TYPES[".html"]
_ICON = "murmure.svg"
_FIELDS = {
    **HEADERS,
    # As on the public site, but that the one form may be sent, to this very machine.
    "Content-Security-Policy": HEADERS["Content-Security-Policy"].replace("form-action 'none'", "form-action 'self'"),
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, fields beside the usual ones, and content."""

    status: HTTPStatus
    fields: Mapping[str, str]
    content: bytes


class Studio:
    """The answers of one desk for each site. `folder`: where drafts are kept while it runs."""

    def __init__(self, desks: Sequence[Desk], folder: Path) -> None:
        self._desks, self._folder = {desk.base.site: desk for desk in desks}, folder
        self._drafts: dict[str, Path] = {}
        self._lock = threading.Lock()
        self._pages = {page.PATH: self._scenarios, page.NUMBERS: self._numbers, page.WHOLE: self._whole}

    def answer(self, target: str) -> Answer:
        """Returns what stands at an address, path and query as a browser sends them."""
        parts = urlsplit(target)
        if len(target) > MOST_OCTETS:
            return _plain(HTTPStatus.REQUEST_URI_TOO_LONG)
        path = parts.path.removeprefix("/")
        for code in LANGUAGES:
            for place, answer in self._pages.items():
                if path == pages.address(code, place):
                    return answer(parse_query(parse_qsl(parts.query, keep_blank_values=True)), code)
        if path in ("", "gestion", "gestion/"):
            return Answer(HTTPStatus.SEE_OTHER, {"Location": f"/{page.PATH}"}, b"")
        if path == f"static/{pages.STUDIO_SHEET}":
            return _file(path, pages.studio_sheet())
        if path == f"static/{_ICON}":
            return _file(path, pages.static(_ICON))
        if path.startswith(f"{page.DRAFTS}/"):
            return self._draft(path.removeprefix(f"{page.DRAFTS}/"))
        return _plain(HTTPStatus.NOT_FOUND)

    def _desk(self, query: dict[str, str]) -> Desk:
        """Returns the desk that an address asks for; one of a site that is not open here gets the first, and a mistake
        beside the field, which the page has where there are several."""
        if len(self._desks) == 1:
            query.pop(RULE, None)
        first = next(iter(self._desks))
        return self._desks[query[RULE] if query.get(RULE) in self._desks else first]

    def _scenarios(self, query: dict[str, str], code: str) -> Answer:
        desk = self._desk(query)
        form, look = desk.form(query), None
        if form.asked is not None:
            try:
                if form.save:
                    return _saved(desk.proposal(form.asked, form.save))
                look = desk.look(form.asked)
            except Unmet as error:
                form = form.with_mistake(error)
        weeks = desk.streets.get(form.typed["serie"], week.INVENTED)
        return _html(page.render(form, look, desk.base, weeks, query, code, tuple(self._desks)))

    def _numbers(self, query: dict[str, str], code: str) -> Answer:
        desk = self._desk(query)
        query.pop("garder", None)
        form, look = desk.form(query), None
        if form.asked is not None:
            try:
                look = desk.look(form.asked)
            except Unmet as error:
                form = form.with_mistake(error)
        return _html(numbers_page.render(form, look, desk.base, query, code))

    def _whole(self, query: dict[str, str], code: str) -> Answer:
        desk = self._desk(query)
        form, told = whole.read_whole(query, desk.base, desk.version), None
        if form.asked is not None:
            try:
                if form.save:
                    return _saved(whole.proposal(form.asked, desk.base, form.save).policy)
                others = [other.planned for other in self._desks.values() if other is not desk]
                told = whole.look(form.asked, desk.base, others)
            except Unmet as error:
                form = form.with_mistake(error)
        return _html(whole_page.render(form, told, desk.base, query, code, tuple(self._desks)))

    def _draft(self, rest: str) -> Answer:
        """A file of the draft site: the first part of the path is a scenario's address."""
        key, slash, file = rest.partition("/")
        if not slash or ".." in file.split("/") or "\0" in file:
            return _plain(HTTPStatus.NOT_FOUND)
        root = self._built(key)
        if root is None:
            return _plain(HTTPStatus.NOT_FOUND)
        wanted = root / file
        if wanted.is_dir():
            wanted /= "index.html"
        if not wanted.is_file():
            return _plain(HTTPStatus.NOT_FOUND)
        return _file(wanted.name, wanted.read_bytes())

    def _built(self, key: str) -> Path | None:
        query = parse_query(parse_qsl(key, keep_blank_values=True))
        letter = query.get("lettre", "")
        desk = self._desk(query)
        form = desk.form({name: value for name, value in query.items() if name != "garder"})
        if form.asked is None or letter not in LETTERS:
            return None
        with self._lock:
            if key not in self._drafts:
                try:
                    look = desk.look(form.asked)
                    shown = look.shown[LETTERS.index(letter)]
                    self._drafts[key] = public.draft(
                        shown.scenario.policy,
                        shown.outcomes,
                        page.DRAFT_QUARTIER,
                        public.town(shown.scenario.policy, page.DRAFT_QUARTIER, _words()),
                        Path(tempfile.mkdtemp(dir=self._folder)),
                        look.week.window.end_s,
                    )
                except (Unmet, public.NoDraft):
                    return None
                for old in list(self._drafts)[:-_DRAFTS_KEPT]:
                    shutil.rmtree(self._drafts.pop(old).parent, ignore_errors=True)
            return self._drafts[key]


def _words() -> dict[str, str]:
    say = language(LANGUAGES[0])  # names of places are French on every page
    return {name: say(f"studio.draft_{name}") for name in ("city", "quartier", "owner", "help")}


def _html(content: bytes) -> Answer:
    return Answer(HTTPStatus.OK, {"Content-Type": _HTML}, content)


def _saved(policy: Policy) -> Answer:
    name = f"policy-{policy.site}-{policy.version}.toml"
    fields = {"Content-Type": "application/toml", "Content-Disposition": f'attachment; filename="{name}"'}
    return Answer(HTTPStatus.OK, fields, policy.text)


def _file(name: str, content: bytes) -> Answer:
    kind = TYPES.get(Path(name).suffix, "image/svg+xml" if name.endswith(".svg") else "application/octet-stream")
    return Answer(HTTPStatus.OK, {"Content-Type": kind}, content)


def _plain(status: HTTPStatus) -> Answer:
    """Returns a refusal in both languages: who asks for no page has chosen none."""
    told = (language(code)(f"studio.status_{status.value}") for code in LANGUAGES)
    return Answer(status, {"Content-Type": TYPES[".txt"]}, "".join(f"{line}\n" for line in told).encode())


def is_loopback(host: str) -> bool:
    """Returns whether an address is of this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class StudioServer(ThreadingHTTPServer):
    """Serves one studio. `anywhere`: whether a page may be asked for under any name; else only under one of this
    machine, so that no page of another site can read it through a name that leads here."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, studio: Studio, port: int, host: str, anywhere: bool) -> None:
        super().__init__((host, port), _Handler)
        self.studio, self.anywhere = studio, anywhere

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader that went away in the middle of a page is no event."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "murmure"
    sys_version = ""
    timeout = 15
    server: StudioServer

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _refuse(self) -> None:
        self._send(_plain(HTTPStatus.METHOD_NOT_ALLOWED), {"Allow": "GET, HEAD", "Connection": "close"}, True)

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = _refuse

    def log_message(self, format: str, *args: object) -> None:
        """Keeps no log: what a steward considers is theirs until they propose it."""

    def _answer(self, body: bool) -> None:
        name = self.headers.get("Host", "").rsplit(":", 1)[0].strip("[]")
        if not self.server.anywhere and not is_loopback(name):
            self._send(_plain(HTTPStatus.MISDIRECTED_REQUEST), {}, body)
            return
        self._send(self.server.studio.answer(self.path), {}, body)

    def _send(self, answer: Answer, more: Mapping[str, str], body: bool) -> None:
        self.send_response(answer.status)
        content, fields = answer.content, {**_FIELDS, **answer.fields, "Vary": "Accept-Encoding", **more}
        if content and "gzip" in self.headers.get("Accept-Encoding", ""):
            content, fields["Content-Encoding"] = compressed(content), "gzip"  # as light as the page says of itself
        fields["Content-Length"] = str(len(content))
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)
