"""The page that the operator copies for nginx, under Debian's nginx: what it answers is what our own server answers.

The configuration is taken out of ingest/README.md; ports, certificate and folder are this test's own.
"""

from __future__ import annotations

import gzip
import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from murmure_dashboards.server import HEADERS
from murmure_ingest.embedded_broker import free_port

pytestmark = pytest.mark.nginx

PAGE = Path(__file__).resolve().parents[2] / "ingest" / "README.md"
PATIENCE_S = 60.0
# What Debian's nginx.conf says, as far as it matters here, and in files of our own.
MAIN = """\
{user}
pid {folder}/pid;
error_log {folder}/logs/error.log;
events {{ }}
http {{
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log {folder}/logs/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    gzip on;
    include {folder}/site.conf;
}}
"""


def block() -> str:
    """Returns the server that the page has the operator write."""
    (found,) = re.findall(
        r"^cat >/etc/nginx/sites-available/murmure <<'END'\n(.*?)^END$", PAGE.read_text("utf-8"), re.M | re.S
    )
    return str(found)


@dataclass
class Nginx:
    """Debian's nginx with that server, on a plain port and on one with TLS; and certbot's second one, which leads from
    one port more to TLS."""

    folder: Path
    plain: int
    encrypted: int
    redirect: int
    trust: ssl.SSLContext

    def ask(
        self, path: str, verb: str = "GET", tls: bool = False, **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        if tls:
            line: http.client.HTTPConnection = http.client.HTTPSConnection(
                "localhost", self.encrypted, context=self.trust
            )
        else:
            line = http.client.HTTPConnection("127.0.0.1", self.plain, timeout=20)
        line.putrequest(verb, path, skip_accept_encoding=True)
        for name, value in headers.items():
            line.putheader(name.replace("_", "-"), value)
        line.endheaders()
        answer = line.getresponse()
        return answer, answer.read()


def started(folder: Path, text: str, site: Path) -> Iterator[Nginx]:
    """Runs nginx with a server of the page, to which the lines that certbot adds are added."""
    (folder / "logs").mkdir()
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*made, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    plain, encrypted, redirect = free_port(), free_port(), free_port()
    tls = f"listen 127.0.0.1:{encrypted} ssl; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;"
    text = re.sub(
        r"^    listen 80;\n    listen \[::\]:80;$", f"    listen 127.0.0.1:{plain};\n    {tls}", text, flags=re.M
    )
    text = text.replace("/var/lib/murmure-site/public", str(site)).replace("/var/log/nginx", f"{folder}/logs")
    assert tls in text and str(site) in text
    certbots = f"server {{ listen 127.0.0.1:{redirect}; return 301 https://$host$request_uri; }}\n"
    (folder / "site.conf").write_text(text + certbots)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user))
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert program
    words = [program, "-c", str(folder / "nginx.conf"), "-e", str(folder / "logs" / "error.log")]
    checked = subprocess.run([*words, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0 and "[warn]" not in checked.stderr, checked.stderr
    process = subprocess.Popen([*words, "-g", "daemon off;"])
    try:
        patience = time.monotonic() + PATIENCE_S
        while socket.socket().connect_ex(("127.0.0.1", plain)):
            assert process.poll() is None and time.monotonic() < patience
            time.sleep(0.02)
        yield Nginx(folder, plain, encrypted, redirect, ssl.create_default_context(cafile=str(folder / "cert.pem")))
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def nginx(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    yield from started(tmp_path_factory.mktemp("nginx"), block(), site)


def served(address: str, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    line = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    line.request("GET", path, headers={"Accept-Encoding": "identity"} | headers)
    answer = line.getresponse()
    return answer, answer.read()


def paths(site: Path) -> list[str]:
    """Returns the address of one file of each kind."""
    kinds = {
        path.suffix: f"/{path.relative_to(site.resolve())}" for path in site.resolve().rglob("*") if path.is_file()
    }
    return [path for suffix, path in sorted(kinds.items()) if suffix != ".gz"]


@pytest.mark.parametrize("tls", [False, True])
def test_each_kind_of_file_comes_as_from_our_own_server(nginx: Nginx, address: str, site: Path, tls: bool) -> None:
    """Status, octets, type, age and every header: plain and with TLS, compressed for those who can."""
    found = paths(site)
    assert {".html", ".css", ".csv"} <= {Path(path).suffix for path in found}
    for path in found:
        ours, body = served(address, path)
        theirs, same = nginx.ask(path, tls=tls)
        assert (theirs.status, same) == (ours.status, body) == (200, body), path
        for name in HEADERS:
            assert theirs.headers.get_all(name) == ours.headers.get_all(name), (path, name)
        kinds = [answer.headers["Content-Type"].replace("text/xml", "application/xml") for answer in (ours, theirs)]
        assert kinds[0] in (kinds[1], "application/octet-stream"), (path, kinds)
        ages = [re.findall(r"max-age=(\d+)", answer.headers["Cache-Control"]) for answer in (ours, theirs)]
        assert ages[0] == ages[1] != [], (path, ages)
        assert theirs.headers["Last-Modified"] == ours.headers["Last-Modified"]
        assert "Set-Cookie" not in theirs.headers and theirs.headers["Server"] == "nginx"
        if site.joinpath(f"{path[1:]}.gz").is_file():
            packed, small = nginx.ask(path, tls=tls, Accept_Encoding="br, gzip")
            assert packed.headers["Content-Encoding"] == "gzip" and packed.headers["Vary"] == "Accept-Encoding"
            assert gzip.decompress(small) == body and len(small) == int(packed.headers["Content-Length"])
            again, nothing = nginx.ask(path, tls=tls, If_Modified_Since=theirs.headers["Last-Modified"])
            assert (again.status, nothing) == (304, b"")


def test_errors_are_strict_and_list_nothing(nginx: Nginx, address: str, site: Path) -> None:
    """A folder without a page, what is not there, other verbs: the same headers, no listing, nothing from outside."""
    (site.parent / "secret.txt").write_text("raw")
    root = site.resolve()
    bare = [
        f"/{one.relative_to(root)}/" for one in root.rglob("*") if one.is_dir() and not (one / "index.html").exists()
    ]
    assert "/static/" in bare
    for path in (*bare, "/nowhere", "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/%00"):
        answer, body = nginx.ask(path)
        assert answer.status in (400, 403, 404) and b"raw" not in body and b"murmure.css" not in body, path
        if answer.status != 400:  # before nginx knows which server is meant
            assert {name: answer.headers[name] for name in HEADERS} == HEADERS, path
    for verb in ("POST", "PUT", "DELETE"):
        assert nginx.ask("/", verb)[0].status == 405
    for path in ("/quartiers/centre", "//quartiers/centre"):
        assert nginx.ask(path)[0].headers["Location"] == "/quartiers/centre/"
    (site.parent / "secret.txt").unlink()


def asked_in_every_way(nginx: Nginx) -> str:
    """Returns what nginx has written into its logs of a reader, a stray, a stranger to TLS, and the redirect."""
    for path in ("/", "/static/", "/nowhere", "/%00"):
        nginx.ask(path)
    nginx.ask("/", tls=True)
    hello = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for port, said in (
        (nginx.redirect, hello),
        (nginx.encrypted, hello),
        (nginx.plain, b"\x16\x03\x01"),
        (nginx.encrypted, b"\x16\x03\x01\x00\x02xx"),
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
            line.sendall(said)
            line.shutdown(socket.SHUT_WR)
            while line.recv(4096):
                pass
    return "".join(path.read_text() for path in sorted((nginx.folder / "logs").iterdir()))


def test_no_log_says_who_reads(nginx: Nginx) -> None:
    """Neither of the two logs names an address, whatever was asked and however badly."""
    assert asked_in_every_way(nginx) == ""


def test_the_judges_of_the_page_have_teeth(site: Path, tmp_path: Path) -> None:
    """Without the lines about logs both name addresses; without `always` an error comes without its headers."""
    careless = re.sub(r"^(access|error)_log .*;$", "", block(), flags=re.MULTILINE).replace(" always;", ";")
    for nginx in started(tmp_path, careless, site):
        told = asked_in_every_way(nginx)
        assert "client: 127.0.0.1" in told and '"GET / HTTP/1.1" 200' in told and '"GET / HTTP/1.1" 301' in told
        assert nginx.ask("/nowhere")[0].headers["Content-Security-Policy"] is None
