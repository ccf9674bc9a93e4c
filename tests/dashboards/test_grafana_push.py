"""Grafana is told the same by either library, in four calls; a server on the loopback writes down what it hears."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from murmure.cli import main
from murmure_dashboards.grafana_push import ADAPTERS, Grafana, GrafanaError

TOKEN = "glsa_of-a-service-account"


class Recorder(ThreadingHTTPServer):
    """Keeps (method, path, token, document) of each request, and what it was given to remember."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.heard: list[tuple[str, str, str, Any]] = []
        self.kept: set[str] = set()
        self.refuses: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/grafana"


class Handler(BaseHTTPRequestHandler):
    server: Recorder

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        document = json.loads(self.rfile.read(length)) if length else None
        self.server.heard.append((self.command, self.path, self.headers.get("Authorization", ""), document))
        status, told = self.judge(document)
        body = json.dumps(told).encode()
        self.send_response(self.server.refuses or status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def judge(self, document: Any) -> tuple[int, dict[str, Any]]:
        path = self.path.removeprefix("/grafana/api")
        if path == "/health":
            return 200, {"version": "12.1.0", "database": "ok"}
        if self.command == "GET":
            return (200, {"uid": "murmure"}) if path in self.server.kept else (404, {"message": "not found"})
        kept = {"/folders": "/folders/murmure", "/datasources": "/datasources/uid/murmure"}.get(path, path)
        self.server.kept.add(kept)
        uid = document.get("dashboard", {}).get("uid", "")
        return 200, {"url": f"/d/{uid}", "uid": "murmure"}

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    server = Recorder()
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=sorted(ADAPTERS))
def reached(request: pytest.FixtureRequest, recorder: Recorder) -> Grafana:
    adapter: Callable[[str, str], Any] = ADAPTERS[request.param]
    return Grafana(adapter(recorder.url, TOKEN))


def test_the_four_calls_are_the_same_requests(reached: Grafana, recorder: Recorder) -> None:
    """Paths below the server's own, one token, and documents that Grafana's HTTP interface describes."""
    assert reached.version() == "12.1.0"
    reached.put_folder("Murmure")
    reached.put_data_source("http://127.0.0.1:8428")
    assert reached.put_dashboard({"uid": "murmure-fleet-fr", "id": 7, "title": "x"}) == "/d/murmure-fleet-fr"
    source = {"uid": "murmure", "name": "Murmure", "type": "prometheus", "access": "proxy"}
    assert [(method, path.removeprefix("/grafana/api"), document) for method, path, _, document in recorder.heard] == [
        ("GET", "/health", None),
        ("GET", "/folders/murmure", None),
        ("POST", "/folders", {"uid": "murmure", "title": "Murmure"}),
        ("GET", "/datasources/uid/murmure", None),
        ("POST", "/datasources", {**source, "url": "http://127.0.0.1:8428"}),
        (
            "POST",
            "/dashboards/db",
            {
                "dashboard": {"uid": "murmure-fleet-fr", "id": None, "title": "x"},
                "folderUid": "murmure",
                "overwrite": True,
            },
        ),
    ]
    assert {token for _, _, token, _ in recorder.heard} == {f"Bearer {TOKEN}"}


def test_a_second_push_makes_nothing_twice(reached: Grafana, recorder: Recorder) -> None:
    """What is there is left (folder) or renewed (data source, dashboard), never made beside itself."""
    for _ in range(2):
        reached.put_folder("Murmure")
        reached.put_data_source("http://127.0.0.1:8428")
    done = [(method, path.removeprefix("/grafana/api")) for method, path, *_ in recorder.heard if method != "GET"]
    assert done == [("POST", "/folders"), ("POST", "/datasources"), ("PUT", "/datasources/uid/murmure")]


@pytest.mark.parametrize(("status", "mend"), [(401, "token"), (403, "role Admin"), (500, "Grafana's log")])
def test_a_refusal_is_one_line_with_its_mend(reached: Grafana, recorder: Recorder, status: int, mend: str) -> None:
    recorder.refuses = status
    with pytest.raises(GrafanaError) as caught:
        reached.put_folder("Murmure")
    line = str(caught.value)
    assert (f"answers {status}" in line, mend in line, "\n" in line, TOKEN in line) == (True, True, False, False)


@pytest.mark.parametrize("through", sorted(ADAPTERS))
def test_the_command_pushes_every_dashboard(
    through: str, recorder: Recorder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    said = ["grafana", "push", recorder.url, "--token-file", str(token), "--metrics", "http://127.0.0.1:8428"]
    assert main([*said, "--through", through, "--language", "en", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["dashboards"] == {"fleet.en.json": "/d/murmure-fleet-en", "figures.en.json": "/d/murmure-figures-en"}
    recorder.server_close()


def test_a_mistake_of_the_operator_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No address, no token, a token that others may read, a Grafana that is not there."""
    token = tmp_path / "token"
    common = ["--token-file", str(token), "--metrics", "http://127.0.0.1:8428"]
    assert main(["grafana", "push", "127.0.0.1:3000", *common]) == 2
    assert main(["grafana", "push", "http://127.0.0.1:9", *common]) == 2
    token.write_text(TOKEN)
    token.chmod(0o644)
    assert main(["grafana", "push", "http://127.0.0.1:9", *common]) == 2
    token.chmod(0o600)
    token.write_text("\n")
    assert main(["grafana", "push", "http://127.0.0.1:9", *common]) == 2
    token.write_text(TOKEN)
    assert main(["grafana", "push", "http://127.0.0.1:9", *common]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    for line, word in zip(
        lines, ("is no address", "cannot be read", "chmod 600", "holds no token", "nothing"), strict=True
    ):
        assert word in line and TOKEN not in line
