"""`wrk` against `murmure site serve` and against nginx, on the same files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from murmure_ingest.embedded_broker import free_port

SECONDS, CONNECTIONS = 10, 16
_PATIENCE_S = 30.0
_NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    include /etc/nginx/mime.types;
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {site}; gzip_static on; }}
}}
"""


def served(site: Path, path: str) -> dict[str, float] | str:
    """Returns requests a second for one compressed page, by who serves it, or what is missing here."""
    for program in ("wrk", "nginx"):
        if shutil.which(program) is None:
            return f"{program} is not installed; apt-get install {'nginx-light' if program == 'nginx' else program}"
    found = {}
    with tempfile.TemporaryDirectory() as name:
        ours, theirs = free_port(), free_port()
        conf = Path(name) / "nginx.conf"
        conf.write_text(_NGINX.format(folder=name, port=theirs, site=site.resolve()), encoding="utf-8")
        Path(name).chmod(0o755)
        murmure = [sys.executable, "-m", "murmure.cli", "site", "serve", str(site), "--port", str(ours)]
        for who, command, port in (
            ("murmure site serve", murmure, ours),
            ("nginx, one worker", ["nginx", "-c", str(conf)], theirs),
        ):
            with _running(command, f"http://127.0.0.1:{port}/{path}") as address:
                found[who] = _wrk(address)
    return found


@contextmanager
def _running(command: list[str], address: str) -> Iterator[str]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                with urllib.request.urlopen(address, timeout=5):
                    break
            except OSError:
                if time.monotonic() > until_s or process.poll() is not None:
                    raise
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


def _wrk(address: str) -> float:
    told = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-H", "Accept-Encoding: gzip", address],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (rate,) = re.findall(r"Requests/sec:\s+([\d.]+)", told)
    if "Non-2xx" in told:
        raise SystemExit(f"{address}: not all was answered: {told}")
    return float(rate)
