"""A USB key in place of the network: the same intake, the same receipts."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from murmure_ingest import gateways
from murmure_ingest.courier import import_folder
from murmure_ingest.intake import Duplicate, Heard, Refused, Stored
from murmure_privacy import wire
from murmure_privacy.errors import ConfigError

QUARTERS = 5


def bring(centre: Any, folder: Path) -> list[Any]:
    return import_folder(folder, centre.archive, centre.intake, centre.secret)


def fill(folder: Path, *gateways: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for gateway in gateways:
        for _, sealed in gateway.history(QUARTERS):
            number = gateway.sealed.index(sealed) + 1
            (folder / f"{gateway.name}-{number:012d}.cose").write_bytes(sealed)


def test_a_key_gives_what_the_network_would_have(centre: Any, tmp_path: Path) -> None:
    """Messages and health are filed; receipt and policy go back on the key; a second import brings nothing new."""
    gateway = centre.gateway()
    key = tmp_path / "key"
    fill(key / "outbox", gateway)
    (key / "outbox" / "health.cose").write_bytes(gateway.health(60)[1])
    (key / "inbox").mkdir()
    words = bring(centre, key)
    assert [type(word) for word in words] == [Stored] * QUARTERS + [Heard]
    receipt = wire.open_receipt((key / "inbox" / "receipt.cose").read_bytes(), wire.public_key(centre.secret))
    assert (receipt.gateway, receipt.settled_seq) == ("gw-plaza", QUARTERS)
    (policy,) = (key / "inbox").glob("policy-*.cose")
    assert policy.name == f"policy-{wire.digest(gateway.policy).hex()[:8]}.cose"
    assert wire.open_policy(policy.read_bytes(), [centre.steward[1]], 1) == gateway.policy
    assert [type(word) for word in bring(centre, key)] == [Duplicate] * QUARTERS + [Heard]
    assert sorted(path.name for path in (key / "inbox").iterdir()) == [policy.name, "receipt.cose"]


def test_a_key_brings_every_policy_since_the_one_in_use(centre: Any, tmp_path: Path, policy_text: Any) -> None:
    """A gateway judges each beside the one before; one that has made no node begins with the newest."""
    gateway = centre.gateway()
    for version in (2, 3):
        gateways.publish_policy(centre.archive, centre.signed(policy_text("plaza", version)))
    assert [each.version for each in gateways.policies_for(centre.archive, centre.archive.enrolment("gw-plaza"))] == [3]
    key = tmp_path / "key"
    fill(key / "outbox", gateway)
    (key / "inbox").mkdir()
    bring(centre, key)
    left = {wire.policy_bytes(path.read_bytes()) for path in (key / "inbox").glob("policy-*.cose")}
    assert left == {policy_text("plaza", version) for version in (2, 3)}
    nowhere = replace(centre.archive.enrolment("gw-plaza"), site="moon")
    assert gateways.policies_for(centre.archive, nowhere) == []


def test_one_key_can_carry_several_gateways(centre: Any, tmp_path: Path) -> None:
    """Each speaker is known by its key and answered in a folder of its own."""
    first, second = centre.gateway("gw-a", "a"), centre.gateway("gw-b", "b")
    fill(tmp_path / "key", first, second)
    (tmp_path / "key" / "inbox").mkdir()
    assert [type(word) for word in bring(centre, tmp_path / "key")] == [Stored] * 2 * QUARTERS
    for name in ("gw-a", "gw-b"):
        sealed = (tmp_path / "key" / "inbox" / name / "receipt.cose").read_bytes()
        assert wire.open_receipt(sealed, wire.public_key(centre.secret)).gateway == name


def test_an_answer_lies_in_one_place_only(centre: Any, tmp_path: Path) -> None:
    """Whether a tour had one gateway or several: an older receipt in the other place would be read beside it."""
    first, second = centre.gateway("gw-a", "a"), centre.gateway("gw-b", "b")
    key = tmp_path / "key"
    fill(key / "outbox", first)
    (key / "inbox").mkdir()
    bring(centre, key)
    fill(key / "outbox", second)
    bring(centre, key)
    assert sorted(path.parent.name for path in key.rglob("receipt.cose")) == ["gw-a", "gw-b"]
    for path in (key / "outbox").glob("gw-b-*"):
        path.unlink()
    bring(centre, key)
    assert sorted(path.parent.name for path in key.rglob("receipt.cose")) == ["gw-b", "inbox"]


def test_before_there_is_a_policy_the_receipt_goes_alone(centre: Any, tmp_path: Path) -> None:
    """A silent test carries messages too: they wait at the centre, and the key brings the receipt."""
    fill(tmp_path / "key", centre.gateway(published=False))
    (tmp_path / "key" / "inbox").mkdir()
    bring(centre, tmp_path / "key")
    assert [path.name for path in (tmp_path / "key" / "inbox").iterdir()] == ["receipt.cose"]


def test_rubbish_on_a_key_is_counted(centre: Any, tmp_path: Path) -> None:
    """Strangers' messages, huge files and folders with such a name do not stop the rest."""
    gateway, stranger = centre.gateway(published=False), centre.gateway("gw-other", "other")
    stranger.secret = wire.new_key()[0]
    fill(tmp_path / "key", gateway, stranger)
    (tmp_path / "key" / "a.cose").write_bytes(bytes(1 << 20))
    (tmp_path / "key" / "b.cose").mkdir()
    words = bring(centre, tmp_path / "key")
    assert sorted(word.reason for word in words if isinstance(word, Refused)) == (
        ["bad_signature"] * QUARTERS + ["oversized"] + ["unknown_policy"] * QUARTERS
    )
    assert not (tmp_path / "key" / "inbox").exists()


def test_an_empty_folder_is_said(centre: Any, tmp_path: Path) -> None:
    """A wrong path is a mistake of the operator, not an empty import."""
    with pytest.raises(ConfigError, match="copy of a gateway's outbox"):
        bring(centre, tmp_path)


# --- hostile keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["receipt.cose.tmp", ".receipt.cose.tmp", "receipt.cose"])
@pytest.mark.parametrize("what", ["link", "pipe"])
def test_a_hostile_key_does_not_choose_where_the_centre_writes(
    centre: Any, tmp_path: Path, where: str, what: str
) -> None:
    """A link to the centre's key, or a pipe nobody reads, stands where a receipt goes: the key stays, the receipt is
    there, and nothing waits."""
    key, secret = tmp_path / "key", centre.config.data_dir / "centre.key"
    fill(key / "outbox", centre.gateway())
    (key / "inbox").mkdir()
    before = secret.read_bytes()
    if what == "link":
        (key / "inbox" / where).symlink_to(secret)
    else:
        os.mkfifo(key / "inbox" / where)
    assert [type(word) for word in bring(centre, key)] == [Stored] * QUARTERS
    assert secret.read_bytes() == before
    left = key / "inbox" / "receipt.cose"
    assert not left.is_symlink()
    assert wire.open_receipt(left.read_bytes(), wire.public_key(centre.secret)).settled_seq == QUARTERS


def _folder_for_a_receipt(key: Path) -> None:
    (key / "inbox" / "receipt.cose").mkdir(parents=True)


def _file_for_a_folder(key: Path) -> None:
    (key / "inbox").mkdir()
    (key / "inbox" / "gw-a").write_text("")


def _linked(name: str) -> Callable[[Path], None]:
    def make(key: Path) -> None:
        (key / name).rename(key.parent / name) if (key / name).exists() else (key.parent / name).mkdir()
        (key / name).symlink_to(key.parent / name)

    return make


@pytest.mark.parametrize(
    "spoil",
    [_folder_for_a_receipt, _file_for_a_folder, _linked("inbox"), _linked("outbox")],
    ids=["a folder at receipt.cose", "a file at inbox/gw-a", "a link at inbox", "a link at outbox"],
)
def test_a_key_that_cannot_be_answered_is_one_line(centre: Any, tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """A link to another folder, a folder or file in the way: the operator reads what is wrong, and nothing is written
    elsewhere."""
    key = tmp_path / "key"
    fill(key / "outbox", centre.gateway("gw-a", "a"), centre.gateway("gw-b", "b"))
    if spoil is _folder_for_a_receipt:
        for path in (key / "outbox").glob("gw-b-*"):
            path.unlink()
    spoil(key)
    with pytest.raises(ConfigError, match="then import it again: nothing is filed twice") as caught:
        bring(centre, key)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "inbox").exists() or list((tmp_path / "inbox").iterdir()) == []


def test_no_link_among_the_messages_is_followed(centre: Any, tmp_path: Path) -> None:
    """Memory of a process, an endless device, itself: none is a message, and the true ones are filed."""
    key = tmp_path / "key"
    fill(key / "outbox", centre.gateway())
    for name, target in (("a", "/proc/self/mem"), ("b", "/dev/zero"), ("c", "c.cose")):
        (key / "outbox" / f"{name}.cose").symlink_to(target)
    os.mkfifo(key / "outbox" / "d.cose")
    assert [type(word) for word in bring(centre, key)] == [Stored] * QUARTERS
