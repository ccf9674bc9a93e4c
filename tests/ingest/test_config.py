"""The centre's settings: every mistake is one line that names file, key and mend."""

from __future__ import annotations

from pathlib import Path

import pytest
from murmure_ingest.config import BatchConfig, BrokerConfig, MirrorConfig, Tls, load
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


def test_files_of_an_encrypted_line_are_relative_to_the_settings(tmp_path: Path) -> None:
    """All three together, found beside ingest.toml or where a whole path says."""
    path = tmp_path / "ingest.toml"
    path.write_text('data_dir = "x"\n[broker]\nauthority = "a.crt"\ncertificate = "x/c.crt"\nkey = "/etc/k"\n')
    assert load(path).broker.tls == Tls(tmp_path / "a.crt", tmp_path / "x" / "c.crt", Path("/etc/k"))


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
        ('data_dir = "x"\n[broker]\ncertificate = "c"\nkey = "k"', "broker.authority"),
        ('data_dir = "x"\n[broker]\nauthority = "a"\ncertificate = "c"', "broker.key"),
        ('data_dir = "x"\n[broker]\nkey = 7', "broker.key"),
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


def test_settings_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    """A folder in their place, or a file of somebody else: one line with the mend."""
    with pytest.raises(ConfigError, match=f"{tmp_path}: file: Is a directory; name a file that this user may read"):
        load(tmp_path)


def test_a_mirror_is_named_by_the_address_of_its_database(tmp_path: Path) -> None:
    """Only `url` must be given; the example shows the defaults of the rest, and without the table there is none."""
    path = tmp_path / "ingest.toml"
    path.write_text('data_dir = "x"\n[mirror]\nurl = "https://tsdb.example/influx"\ntoken_file = "t"\ntimeout_s = 3\n')
    assert load(path).mirror == MirrorConfig(
        "https://tsdb.example/influx", "murmure", "murmure", tmp_path / "t", timeout_s=3
    )
    example = load(Path(__file__).parents[2] / "ingest" / "ingest.example.toml").mirror
    assert example == MirrorConfig("http://127.0.0.1:8428")
    path.write_text('data_dir = "x"\n')
    assert load(path).mirror is None


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "url"),
        ('url = "127.0.0.1:8428"', "url"),
        ('url = "ftp://127.0.0.1"', "url"),
        ('url = "http://"', "url"),
        ('url = "http://[::1"', "url"),
        ('url = "http://me:secret@127.0.0.1"', "url"),
        ('url = "http://127.0.0.1/?db=x"', "url"),
        ('url = "http://tsdb.example"\ntoken_file = "t"', "url"),
        ('url = "http://127.0.0.1"\ntoken = "t"', "token"),
        ('url = "http://127.0.0.1"\ntimeout_s = 0', "timeout_s"),
    ],
)
def test_a_mirror_that_cannot_be_reached_safely_is_refused(text: str, key: str, tmp_path: Path) -> None:
    """An address is http or https without a password in it, and a token never crosses a network readable."""
    path = tmp_path / "ingest.toml"
    path.write_text(f'data_dir = "x"\n[mirror]\n{text}\n')
    with pytest.raises(ConfigError) as refused:
        load(path)
    assert (refused.value.file, refused.value.key) == (str(path), f"mirror.{key}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("quartiers", ['"centre"', '["centre", "+"]', "[1]", '["Gare"]', '["a/b"]'])
def test_quartiers_are_names_of_topics(tmp_path: Path, quartiers: str) -> None:
    """A wildcard, another type or no slug at all would listen to what others hear."""
    path = tmp_path / "ingest.toml"
    path.write_text(f'data_dir = "centre"\n[broker]\nquartiers = {quartiers}\n')
    with pytest.raises(ConfigError) as error:
        load(path)
    assert "broker.quartiers" in str(error.value)


def test_a_centre_hears_the_quartiers_that_it_names(tmp_path: Path) -> None:
    """Beside them the table is as it was; without them it hears all."""
    path = tmp_path / "ingest.toml"
    path.write_text('data_dir = "centre"\n[broker]\nport = 1884\nquartiers = ["centre", "gare"]\n')
    broker = load(path).broker
    assert (broker.quartiers, broker.port) == (("centre", "gare"), 1884)
    path.write_text('data_dir = "centre"\n')
    assert load(path).broker.quartiers == ()
