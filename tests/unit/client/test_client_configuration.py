import stat
from pathlib import Path

import pytest

from haulyard.configuration import (
    Configuration,
    checked_url,
    config_path,
    load_configuration,
    save_configuration,
)
from haulyard.errors import ConfigurationError


def test_arguments_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "config.toml"
    save_configuration(Configuration(url="https://file.example", token="of-file"), path)
    env = {"HAULYARD_URL": "https://env.example", "HAULYARD_TOKEN": "of-env"}
    assert load_configuration(env={}, path=path) == Configuration(url="https://file.example", token="of-file")
    assert load_configuration(env=env, path=path) == Configuration(url="https://env.example", token="of-env")
    found = load_configuration(url="https://arg.example/", token="of-arg", env=env, path=path)
    assert found == Configuration(url="https://arg.example", token="of-arg")


def test_a_stored_token_is_not_shown_to_another_server(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    save_configuration(Configuration(url="https://file.example", token="of-file"), path)
    with pytest.raises(ConfigurationError, match="No token for https://other"):
        load_configuration(url="https://other.example", env={}, path=path)
    assert load_configuration(url="https://file.example/", env={}, path=path).token == "of-file"


def test_the_file_is_for_its_owner_only_and_the_token_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("old")
    path.chmod(0o644)
    configuration = Configuration(url="https://file.example", token="secret")
    save_configuration(configuration, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["config.toml"]
    assert "secret" not in repr(configuration)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "haulyard.example",
        "ftp://x",
        "https://",
        "https://x?y",
        "https://u:p@x",
        "https://x:0",
        "https://[",
        "http://a b",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        checked_url(url)


@pytest.mark.parametrize("token", ["a b", "a\nb", 'a"b', "ä"])
def test_what_is_no_token_is_refused(token: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="token"):
        load_configuration(url="https://x", token=token, env={}, path=tmp_path / "none")


def test_nothing_is_known_without_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="HAULYARD_URL"):
        load_configuration(env={}, path=tmp_path / "none")
    broken = tmp_path / "broken"
    broken.write_text("url =")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_configuration(env={}, path=broken)


def test_the_file_is_where_the_environment_says() -> None:
    assert config_path({"HAULYARD_CONFIG": "/x/y"}) == Path("/x/y")
    assert config_path({"XDG_CONFIG_HOME": "/x"}) == Path("/x/haulyard/config.toml")


def test_a_token_over_the_open_network_is_noticed() -> None:
    assert Configuration(url="http://haulyard.example", token="t").is_exposed
    assert not Configuration(url="http://127.0.0.1:8080", token="t").is_exposed
    assert not Configuration(url="https://haulyard.example", token="t").is_exposed
