"""Four calls to a Grafana: is it there, a folder, a data source, a dashboard. Two libraries can make them.

`grafana-client` is the default; `grafana-api`, which its authors have archived, serves who has it already. Both carry
the same requests, so that a town may change the one for the other (tests/dashboards/test_grafana_push.py). Not run
against a real Grafana: there is no package of it in Debian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from murmure_privacy.errors import MurmureError

FOLDER_UID, SOURCE_UID = "murmure", "murmure"
_TIMEOUT_S = 10.0
_ABSENT = 404

Send = Callable[[str, str, dict[str, Any] | None], Any]
"""Method, path below /api, JSON document -> JSON answer. Raises GrafanaError."""


class GrafanaError(MurmureError):
    """Grafana did not do as asked. `status` is that of HTTP, 0 if there was no answer."""

    def __init__(self, url: str, status: int, detail: str) -> None:
        mend = {
            0: "see that it runs and that this machine reaches it",
            401: "give the token of a service account with the role Editor or Admin",
            403: "the token's account needs the role Admin to write data sources",
            _ABSENT: "see that the address is Grafana's, with its path if it has one",
        }.get(status, "see Grafana's log")
        super().__init__(f"{url}: Grafana answers {status or 'nothing'} ({detail}); {mend}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Grafana:
    """One Grafana server, reached through one of ADAPTERS."""

    send: Send

    def version(self) -> str:
        """Returns its version. Raises GrafanaError if nobody answers."""
        return str(self.send("GET", "/health", None).get("version", "unknown"))

    def put_folder(self, title: str) -> None:
        """Makes the folder of our dashboards, or leaves the one that is there."""
        if not self._there(f"/folders/{FOLDER_UID}"):
            self.send("POST", "/folders", {"uid": FOLDER_UID, "title": title})

    def put_data_source(self, url: str) -> None:
        """Makes or renews the data source of our dashboards: a Prometheus or VictoriaMetrics that Grafana reaches."""
        source = {"uid": SOURCE_UID, "name": "Murmure", "type": "prometheus", "access": "proxy", "url": url}
        path = f"/datasources/uid/{SOURCE_UID}"
        if self._there(path):
            self.send("PUT", path, source)
        else:
            self.send("POST", "/datasources", source)

    def put_dashboard(self, dashboard: dict[str, Any]) -> str:
        """Makes or replaces a dashboard by its uid, and returns its address below the server's."""
        document = {"dashboard": {**dashboard, "id": None}, "folderUid": FOLDER_UID, "overwrite": True}
        return str(self.send("POST", "/dashboards/db", document).get("url", ""))

    def _there(self, path: str) -> bool:
        try:
            self.send("GET", path, None)
        except GrafanaError as error:
            if error.status != _ABSENT:
                raise
            return False
        return True


def _parts(url: str) -> dict[str, Any]:
    """Returns an address as both libraries want it."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    return {
        "host": parts.hostname or "",
        "port": parts.port,
        "url_path_prefix": f"{prefix}/" if prefix else "",
        "protocol": parts.scheme,
        "timeout": _TIMEOUT_S,
    }


def by_grafana_client(url: str, token: str) -> Send:
    """Returns what sends through grafana-client."""
    from grafana_client.api import GrafanaApi
    from grafana_client.client import GrafanaException

    client = GrafanaApi(auth=token, **_parts(url)).client
    return _sender(url, client, GrafanaException)


def by_grafana_api(url: str, token: str) -> Send:
    """Returns what sends through grafana-api."""
    from grafana_api.grafana_api import GrafanaException
    from grafana_api.grafana_face import GrafanaFace

    return _sender(url, GrafanaFace(auth=token, **_parts(url)).api, GrafanaException)


def _sender(url: str, client: Any, refusal: type[Exception]) -> Send:
    def send(method: str, path: str, document: dict[str, Any] | None) -> Any:
        try:
            return getattr(client, method)(path, json=document)
        except refusal as error:
            status = int(getattr(error, "status_code", 0))
            raise GrafanaError(url, status, str(getattr(error, "message", error))[:200]) from error
        except (OSError, ValueError) as error:  # no connection; an answer that is no JSON
            raise GrafanaError(url, 0, type(error).__name__) from error

    return send


ADAPTERS: dict[str, Callable[[str, str], Send]] = {"grafana-client": by_grafana_client, "grafana-api": by_grafana_api}
"""By the name of the library on PyPI; the first is the default."""
