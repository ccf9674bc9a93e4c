"""Processes that make neighbourhoods beside the one that makes all else: the same site, byte for byte."""

from __future__ import annotations

import os
import signal
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from murmure_dashboards import maker as maker_module
from murmure_dashboards import maker_data, maker_home, maker_quartier, months, pages
from murmure_dashboards import site as site_module
from murmure_dashboards.blocks import Blocks
from murmure_dashboards.config import City
from murmure_dashboards.site import Crew, SiteError, build, render
from murmure_dashboards.views import view
from murmure_ingest.archive import Archive
from murmure_privacy.errors import ConfigError, MurmureError

_OPEN: dict[str, Any] = {}


def again() -> Any:
    """Opens the archive in a process that was forked from this one."""
    return _OPEN["archive"]


def refused() -> Any:
    """Cannot open it."""
    raise MurmureError("no archive")


def missing() -> Any:
    """Does not find it any more."""
    Archive.open(Path("/nowhere/archive.db"), read_only=True)


def killed() -> Any:
    """Is killed as it opens it, as where there is no memory left."""
    os.kill(os.getpid(), signal.SIGKILL)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("workers", [1, 3])
def test_processes_side_by_side_make_the_same_site(
    site: Path, archive: Any, city: City, streets: SimpleNamespace, tmp_path: Path, workers: int
) -> None:
    """Pages, files, compressed twins and what is reported of them; also with what the first build has kept."""
    _OPEN["archive"] = archive
    alone = contents(site.resolve())
    for _ in range(2 if workers > 1 else 1):
        report = build(archive, city, tmp_path / "site", streets.NOW_S, crew=Crew(again, workers))
        found = contents((tmp_path / "site").resolve())
        assert found == alone
        assert report.files == len(found) and report.octets == sum(map(len, found.values()))
        assert report.pages == sum(path.endswith(".html") for path in found)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The town has more neighbourhoods than its page of the day tells line by line."""
    monkeypatch.setattr(maker_home, "MOST_TOLD", 1)
    monkeypatch.setattr("os.sync", lambda: None)


def test_no_stream_of_a_large_town_is_looked_at_twice(
    large: None, brief: Any, city: City, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes the pages of a neighbourhood says what those of the whole town tell of it: the first process, which
    makes these, looks at no stream of today, and they are the same as in one process."""
    _OPEN["archive"] = brief
    build(brief, city, tmp_path / "alone", streets.NOW_S)
    build(brief, city, tmp_path / "site", streets.NOW_S)
    first = os.getpid()

    def watched(*args: Any) -> Any:
        assert os.getpid() != first, "looked at here as well"
        return view(*args)

    for module in ("maker", "blocks"):
        monkeypatch.setattr(f"murmure_dashboards.{module}.view", watched)
    build(brief, city, tmp_path / "site", streets.NOW_S, crew=Crew(again, 2))
    assert contents((tmp_path / "site").resolve()) == contents((tmp_path / "alone").resolve())


def test_the_months_are_worked_out_by_whoever_makes_the_neighbourhoods(
    large: None, brief: Any, city: City, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From nothing that is most of the work, and the first process did all of it alone."""
    _OPEN["archive"] = brief
    build(brief, city, tmp_path / "alone", streets.NOW_S)
    first, real = os.getpid(), Blocks._made

    def watched(*args: Any) -> Any:
        assert os.getpid() != first, "made here"
        return real(*args)

    monkeypatch.setattr(Blocks, "_made", watched)
    build(brief, city, tmp_path / "site", streets.NOW_S, crew=Crew(again, 2))
    assert contents((tmp_path / "site").resolve()) == contents((tmp_path / "alone").resolve())
    monkeypatch.setattr(maker_data, "prepare", lambda ctx, before: None)  # the twin
    with pytest.raises(AssertionError, match="made here"):
        build(brief, city, tmp_path / "other", streets.NOW_S, crew=Crew(again, 2))


def test_what_others_say_of_a_stream_is_told(
    large: None, brief: Any, city: City, streets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it wrong, the page of the day would be: of a town whose processes know of no figure it says so."""
    _OPEN["archive"] = brief
    monkeypatch.setattr(site_module, "MAKERS", (maker_home.MAKER,))
    glance = maker_module.Build.glance

    def blind(ctx: Any, site: Any, info: Any) -> maker_module.Glance:
        found = glance(ctx, site, info)
        return found if ctx.only is None else maker_module.Glance(None, (), None, True)

    build(brief, city, tmp_path / "one", streets.NOW_S, crew=Crew(again, 2))
    monkeypatch.setattr(maker_module.Build, "glance", blind)
    build(brief, city, tmp_path / "two", streets.NOW_S, crew=Crew(again, 2))
    known, unknown = ((tmp_path / name / "index.html").read_text() for name in ("one", "two"))
    assert known != unknown and "prochains chiffres" in known and "prochains chiffres" not in unknown


@pytest.mark.parametrize(
    ("opened", "error", "said"),
    [
        (refused, MurmureError, "no archive"),
        (missing, ConfigError, "/nowhere/archive.db: archive: there is no such file"),
        (killed, SiteError, "was killed; is there memory left"),
    ],
)
def test_a_process_that_fails_leaves_the_site_as_it_was(
    brief: Any,
    city: City,
    streets: SimpleNamespace,
    tmp_path: Path,
    opened: Any,
    error: type[MurmureError],
    said: str,
) -> None:
    """Nothing is switched, nothing is left lying about, and the error is the one that it met."""
    with pytest.raises(error, match=said):
        build(brief, city, tmp_path / "site", streets.NOW_S, crew=Crew(opened, 2))
    assert not (tmp_path / "site").exists()
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_process_that_nobody_waits_for_ends_quietly(city: City, streets: SimpleNamespace, tmp_path: Path) -> None:
    """The first one was killed: its end of the pipe is closed, and there is nobody to say an error to."""
    far, pipe = Pipe()
    order = site_module._Order(tmp_path / "store", tmp_path, months.NOTHING, city, streets.NOW_S, ["centre"], tmp_path)
    site_module._work(order, refused, far, pipe)
    assert far.closed
    with pytest.raises(BrokenPipeError):
        pipe.send(None)


def test_no_process_compiles_a_template(
    brief: Any, city: City, streets: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one has compiled all that pages of neighbourhoods are made with, and no other."""
    monkeypatch.setattr(site_module, "MAKERS", (maker_quartier.MAKER,))
    cache: Any = pages._templates.cache
    cache.clear()
    assert dict(render(brief, city, streets.NOW_S))
    used = {name for _, name in cache}
    cache.clear()
    site_module._ready()
    assert {name for _, name in cache} == used
