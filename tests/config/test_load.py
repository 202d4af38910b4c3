"""The file of a config, and the look for an Ollama."""

import os
import socket
from pathlib import Path

import pytest

from modelplex.config import (
    ConfigError,
    load,
    load_without_file,
)
from modelplex.config.load import listens
from tests.config.configs import TYPES


def test_an_unreadable_file_is_a_fault(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(ConfigError) as caught:
            load(str(path), environ={}, types=TYPES)
        assert str(caught.value).startswith(f"{path}: expected a readable file, found ")


def test_an_unreadable_file_of_another_user_names_both_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "c.toml"
    path.touch()
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ConfigError) as caught:
        load(str(path), environ={}, types=TYPES)
    users = f"it belongs to the user {os.geteuid()}, and this process runs as the user {os.geteuid()}"
    assert caught.value.sentence == f"{path}: expected a readable file, found permission denied; {users}"


@pytest.mark.parametrize("url", ["", "http://", "http://h:x", "http://[::1"])
def test_an_invalid_url_does_not_listen(url: str) -> None:
    assert not listens(url)


def test_an_ollama_is_detected_where_its_address_listens(tmp_path: Path) -> None:
    (tmp_path / "c.toml").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        environ = {"OLLAMA_HOST": url}
        assert load_without_file(environ, types=TYPES).providers[0].base_url == url
        assert load(str(tmp_path / "c.toml"), environ=environ, types=TYPES).providers[0].name == "ollama"
    assert not listens(url)
    assert [one.name for one in load_without_file(environ, types=TYPES).providers] == ["demo"]
