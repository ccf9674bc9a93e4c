"""The disk that loses what was not synced loses nothing else, and does lose that."""

from __future__ import annotations

from random import Random
from types import ModuleType

DRAWS = 300  # seeds 0 to 299, the same in every run
OLD, NEW = b"o" * 2048, b"n" * 2048


def test_a_sync_is_kept_and_what_follows_it_may_be_lost_or_torn(power_loss: ModuleType) -> None:
    """A synced write is in every image; one after it is there, or not, or in part, at a byte or by sectors."""
    disk = power_loss.Disk()
    file = disk.file("a")
    disk.write(file, OLD, 0)
    disk.sync(file)
    disk.sync_folder()
    disk.write(file, NEW, 0)
    images = [disk.cut(len(disk.journal), Random(seed))["a"] for seed in range(DRAWS)]
    assert {len(image) for image in images} == {len(OLD)}
    assert {OLD, NEW} < set(images)
    torn = [image for image in images if image not in (OLD, NEW)]
    assert any(image.rstrip(b"o").strip(b"n") for image in torn), "by sectors"
    assert any(image.count(b"n") % power_loss.SECTOR_BYTES for image in torn), "at a byte"
    assert {disk.cut(len(disk.journal) - 1, Random(seed))["a"] for seed in range(DRAWS)} == {OLD}


def test_writes_overtake_each_other(power_loss: ModuleType) -> None:
    """Of two writes after the last sync the second may be found without the first, above zeros or rubbish."""
    disk = power_loss.Disk({"a": b""})
    disk.write(disk.file("a"), OLD, 0)
    disk.write(disk.file("a"), NEW, len(OLD))
    images = [disk.cut(2, Random(seed))["a"] for seed in range(DRAWS)]
    assert {b"", OLD, OLD + NEW, bytes(len(OLD)) + NEW} < set(images)
    assert any(image.endswith(NEW) and OLD[:1] not in image[:9] and any(image[:9]) for image in images), "rubbish"


def test_a_name_is_kept_by_a_sync_of_the_folder_alone(power_loss: ModuleType) -> None:
    """A new file may be missing, and a deleted one be back, until the folder is synced."""
    disk = power_loss.Disk({"old": OLD})
    disk.sync(disk.file("new"))
    disk.delete("old")
    names = {frozenset(disk.cut(len(disk.journal), Random(seed))) for seed in range(DRAWS)}
    assert names == {frozenset(some) for some in (["old"], ["new"], ["old", "new"], [])}
    disk.sync_folder()
    assert {frozenset(disk.cut(len(disk.journal), Random(seed))) for seed in range(DRAWS)} == {frozenset(["new"])}
