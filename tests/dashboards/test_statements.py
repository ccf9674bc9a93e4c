"""What the site says of itself is measured, or says that nobody has measured it."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from murmure_dashboards import maker_statements, pages
from murmure_dashboards.wording import language


def everything(site: Path) -> list[Path]:
    return sorted(site.resolve().rglob("*.html"))


def test_every_page_tells_its_own_weight(site: Path) -> None:
    """The number at its foot is the size of its compressed twin, in kilo-octets rounded up."""
    for page in everything(site):
        found = re.search(r"(?:Cette page pèse|This page weighs) (\d+) (?:Ko|kB)\.", page.read_text(encoding="utf-8"))
        assert found is not None, page
        octets = Path(f"{page}.gz").stat().st_size
        assert int(found[1]) == -(-octets // 1000), page


@pytest.mark.parametrize("filling", range(0, 4000, 61))
def test_a_weight_at_the_edge_is_not_too_small(filling: int) -> None:
    """Whatever a digit more does to the compression, the page never weighs more than it says."""
    text = "".join(chr(33 + (number * number * 7919 + number) % 90) for number in range(filling))
    page = pages.weighed(f"{text} pèse \ue000 Ko")
    said = int(page.decode().split("pèse ")[1].split()[0])
    assert len(gzip.compress(page, mtime=0)) <= 1000 * said <= len(gzip.compress(page, mtime=0)) + 1010


def test_the_footprint_is_measured_on_the_pages(site: Path) -> None:
    """Weight, elements and requests of each kind of page are those of its largest page, and all kinds are there."""
    text = (site / "empreinte" / "index.html").read_text(encoding="utf-8")
    rows = re.findall(r'<th scope="row">/([^<]*)</th><td>([^<]*)</td><td>([^<]*)</td><td>([^<]*)</td>', text)
    kinds: dict[str, list[Path]] = {}
    for page in everything(site):
        kind = maker_statements.kind(page.relative_to(site.resolve()).as_posix())
        if kind is not None and kind not in ("methode/", "accessibilite/", "empreinte/"):
            kinds.setdefault(kind, []).append(page)
    assert {row[0] for row in rows} == set(kinds) and len(rows) >= 11
    for name, weight, elements, requests in rows:
        largest = max(kinds[name], key=lambda page: page.stat().st_size)
        octets = Path(f"{largest}.gz").stat().st_size
        markup = re.sub(r"<svg.*?</svg>", "<svg>", largest.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert weight == str(-(-octets // 1000)), name
        assert int(elements) == len(re.findall(r"<[a-z]", markup)), name
        assert int(requests) == 1 + len(re.findall(r'<link rel="(?:stylesheet|icon)"|\ssrc=', markup)) <= 3


def test_nobody_claims_an_audit_that_has_not_been(site: Path) -> None:
    """The statement says "non conforme : audit à faire" in the French form, and no page says more."""
    statement = (site / "accessibilite" / "index.html").read_text(encoding="utf-8")
    heads = (f"{name}_head" for name in ("state", "results", "content", "made", "contact", "remedy"))
    for part in ("not_audited", *heads):
        assert language("fr")(f"access.{part}") in statement
    assert maker_statements.CONFORMITY == "not_audited"
    for page in everything(site):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"(totalement|partiellement) conforme|(fully|partially) compliant", text, re.IGNORECASE)


def test_the_method_names_every_proof(site: Path) -> None:
    """Each line of what the sensors cannot know stands there with its tests."""
    from murmure_dashboards.cannot import proofs

    text = (site / "methode" / "index.html").read_text(encoding="utf-8")
    assert all(test in text for tests in proofs().values() for test in tests)
