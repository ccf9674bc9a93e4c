"""The small server: two verbs, strict headers, nothing outside its folder."""

from __future__ import annotations

import gzip
import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest


def ask(address: str, verb: str, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    host = address.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.putrequest(verb, path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer, answer.read()


@pytest.fixture
def secret(site: Path) -> Iterator[str]:
    """A file beside the site, which no address may reach."""
    path = site.parent / "secret.txt"
    path.write_text("raw")
    yield path.name
    path.unlink()


def test_pages_come_compressed_to_those_who_can_and_plain_to_others(address: str, site: Path) -> None:
    """The same page either way, with its length and its language of bytes."""
    plain = (site / "index.html").read_bytes()
    answer, body = ask(address, "GET", "/")
    assert (answer.status, body, answer.headers["Content-Encoding"]) == (200, plain, None)
    answer, body = ask(address, "GET", "/", Accept_Encoding="br, gzip")
    assert (answer.status, answer.headers["Content-Encoding"]) == (200, "gzip")
    assert gzip.decompress(body) == plain and int(answer.headers["Content-Length"]) == len(body)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8" and answer.headers["Vary"] == "Accept-Encoding"


def test_head_is_get_without_its_body(address: str) -> None:
    """A probe learns all headers and no octet more."""
    got, body = ask(address, "GET", "/quartiers/centre/")
    head, nothing = ask(address, "HEAD", "/quartiers/centre/")
    assert nothing == b"" and body
    same = ("Content-Length", "Content-Type", "Last-Modified", "Content-Security-Policy")
    assert [head.headers[name] for name in same] == [got.headers[name] for name in same]


@pytest.mark.parametrize("verb", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_verbs_are_refused(address: str, verb: str) -> None:
    """A static site has nothing to change."""
    answer, _ = ask(address, verb, "/")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_every_answer_is_strict(address: str) -> None:
    """Also an error says that nothing may be loaded from elsewhere, framed or sniffed."""
    for path in ("/", "/nowhere", "/static/murmure.css", "/quartiers/centre"):
        answer, _ = ask(address, "GET", path)
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "Set-Cookie" not in answer.headers and "Python" not in answer.headers["Server"]


@pytest.mark.parametrize(
    "path",
    [
        "/../{secret}",
        "/%2e%2e/{secret}",
        "/quartiers/../../{secret}",
        "/..%2f{secret}",
        "//{folder}/{secret}",
        "/%00",
        "/index.html%00.txt",
        "/..\\{secret}",
        "/%252e%252e/{secret}",
        "/%c0%ae%c0%ae/{secret}",
        "/%uff0e%uff0e/{secret}",
        "/quartiers/centre/..;/..;/..;/{secret}",
        "/" + "a/" * 2000,
        "/static/",
        "/donnees/politiques/",
        "/nowhere",
    ],
)
def test_nothing_outside_the_pages_is_served(address: str, site: Path, secret: str, path: str) -> None:
    """No climbing, no listing, no absolute path: not found, whatever the spelling."""
    answer, body = ask(address, "GET", path.format(secret=secret, folder=site.parent))
    assert answer.status == 404 and b"raw" not in body


def test_a_redirect_stays_on_the_site(address: str) -> None:
    """A folder without its slash is mended; an address that begins with two slashes leads nowhere else."""
    answer, _ = ask(address, "GET", "/quartiers/centre")
    assert (answer.status, answer.headers["Location"]) == (301, "/quartiers/centre/")
    answer, _ = ask(address, "GET", "//quartiers/centre")
    assert answer.headers["Location"] is None or answer.headers["Location"] == "/quartiers/centre/"


def test_an_unchanged_page_is_not_sent_again(address: str) -> None:
    """Readers who come back cost one small answer."""
    answer, _ = ask(address, "GET", "/")
    again, body = ask(address, "GET", "/", If_Modified_Since=answer.headers["Last-Modified"])
    assert (again.status, body) == (304, b"")
    nonsense, _ = ask(address, "GET", "/", If_Modified_Since="yesterday")
    assert nonsense.status == 200
