"""The centre's settings: every mistake is one line that names file, key and mend."""

from __future__ import annotations

from pathlib import Path

import pytest
from murmure_ingest.config import BatchConfig, BrokerConfig, load
from murmure_privacy.errors import ConfigError


def test_a_short_file_has_the_documented_defaults(tmp_path: Path) -> None:
    """Only data_dir must be given, relative to the file; the example shows the defaults."""
    path = tmp_path / "ingest.toml"
    path.write_text('data_dir = "centre"\n')
    short = load(path)
    assert short.archive == tmp_path / "centre" / "archive.db"
    assert (short.broker, short.batch, short.source) == (BrokerConfig(), BatchConfig(), str(path))
    example = load(Path(__file__).parents[2] / "ingest" / "ingest.example.toml")
    assert (example.broker, example.batch) == (short.broker, short.batch)


def test_what_is_written_is_what_holds(tmp_path: Path) -> None:
    """Each setting arrives where it belongs."""
    path = tmp_path / "ingest.toml"
    path.write_text(
        'data_dir = "/srv/centre"\n[broker]\nhost = "broker.example"\nport = 8883\nmqtt = 4\nclient_id = "one"\n'
        "keepalive_s = 60\nsession_expiry_s = 3600\n[batch]\nmessages = 10\nwait_ms = 5\n"
    )
    config = load(path)
    assert config.data_dir == Path("/srv/centre")
    assert config.broker == BrokerConfig("broker.example", 8883, 4, "one", 60, 3600)
    assert config.batch == BatchConfig(10, 5)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "data_dir"),
        ("data_dir = 7", "data_dir"),
        ('data_dir = "x"\ncolour = "red"', "colour"),
        ('data_dir = "x"\nbroker = 7', "broker"),
        ('data_dir = "x"\n[broker]\nhots = "x"', "broker.hots"),
        ('data_dir = "x"\n[broker]\nhost = ""', "broker.host"),
        ('data_dir = "x"\n[broker]\nhost = 7', "broker.host"),
        ('data_dir = "x"\n[broker]\nport = 0', "broker.port"),
        ('data_dir = "x"\n[broker]\nport = true', "broker.port"),
        ('data_dir = "x"\n[broker]\nport = 1.5', "broker.port"),
        ('data_dir = "x"\n[broker]\nport = [1]', "broker.port"),
        ('data_dir = "x"\n[broker]\nmqtt = 3', "broker.mqtt"),
        ('data_dir = "x"\n[batch]\nmessages = 0', "batch.messages"),
        ("data_dir = ", "file"),
        ("\xff", "file"),
    ],
)
def test_a_mistake_is_one_line_with_its_mend(tmp_path: Path, text: str, key: str) -> None:
    """File, key, what is wrong and what to write instead; never a traceback."""
    path = tmp_path / "ingest.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.key == key
    assert str(caught.value).startswith(f"{path}: {key}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """The example file is the mend."""
    with pytest.raises(ConfigError, match=r"copy ingest\.example\.toml"):
        load(tmp_path / "none.toml")
