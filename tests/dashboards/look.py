"""Pictures of the pages, to be looked at: `python tests/dashboards/look.py FOLDER` writes PNGs in both languages, on a
phone and on a desk, light and dark, from the town of the tests."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent))
from murmure_dashboards.config import load
from murmure_dashboards.server import serve
from murmure_dashboards.site import build
from street import NOW_S, town

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
PAGES = {"home": "", "today": "quartiers/centre/", "week": "quartiers/centre/semaine/", "gare": "quartiers/gare/"}
ROOT = Path(__file__).resolve().parent.parent.parent


def main(folder: Path) -> None:
    """Builds the site and photographs it."""
    folder.mkdir(parents=True, exist_ok=True)
    city = load(Path(__file__).parent / "city.toml")
    print(build(town(), city, folder / "site", NOW_S))
    with serve(folder / "site", 0) as server, sync_playwright() as play:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for language in ("", "en/"):
            for name, path in PAGES.items():
                for width in (320, 1280):
                    for scheme in ("light", "dark"):
                        if scheme == "dark" and (language or width == 320):
                            continue
                        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
                        page.goto(f"http://127.0.0.1:{server.server_address[1]}/{language}{path}")
                        page.screenshot(
                            path=folder / f"{name}-{language[:2] or 'fr'}-{width}-{scheme}.png", full_page=True
                        )
                        page.close()
        browser.close()
        server.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
