"""What is taken from a config."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from modelplex.config import Config, load
from modelplex.confinement.rights import needs_unix_sockets, rights_of, socket_paths


def config_of(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "modelplex.toml"
    file.write_text(text)
    return load(str(file), environ=os.environ)


DEMO = '[[providers]]\ntype = "demo"\n'


def test_ports_are_those_of_every_url_and_of_the_listeners(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        """
[server]
http = ["127.0.0.1:11435", "[::1]:0"]
[record]
store = "postgresql://user:secret@db.example/records"
[shared]
url = "redis://:secret@limits.example"
[[providers]]
type = "openai"
name = "a"
base_url = "http://10.0.0.1:8000/v1"
api_key = "k"
[[providers]]
type = "openai"
name = "b"
api_key = "k"
auth = { type = "oidc", token_url = "https://login.example:8443/token", client_id = "c", client_secret = "s" }
[mcp]
enabled = true
servers = [{ name = "t", url = "http://tools.example:9999/mcp" }]
""".replace('api_key = "k"\nauth', "auth"),
    )
    rights = rights_of(config, environ={"HTTPS_THING": "https://other.example:4318", "TERM": "xterm"})
    assert rights.connect == {53, 80, 443, 5432, 6379, 8000, 8443, 9999, 4318}
    assert rights.bind == {11435, 0}


def test_files_of_the_config_are_allowed_with_their_folders(tmp_path: Path) -> None:
    secrets, state, sockets = tmp_path / "secrets", tmp_path / "state", tmp_path / "sockets"
    for folder in (secrets, state, sockets):
        folder.mkdir()
    (secrets / "key").write_text("k")
    config = config_of(
        tmp_path,
        f"""
[server]
state_folder = "{state}"
[log]
file = "{tmp_path / "logs" / "log"}"
[[providers]]
type = "openai"
name = "a"
api_key = "file:{secrets / "key"}"
""",
    )
    rights = rights_of(config, environ={"HOME": str(tmp_path / "home")})
    assert {str(secrets), str(secrets / "key"), "/etc", sys.prefix} <= rights.read
    assert {str(state), str(tmp_path / "logs")} <= rights.write
    assert str(tmp_path) not in rights.read | rights.write


def test_a_home_that_is_written_to_is_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    config = config_of(tmp_path, f'[log]\nfile = "{home / "log"}"\n{DEMO}')
    assert rights_of(config, environ={"HOME": str(home)}).shared == {str(home)}
    assert rights_of(config, environ={"HOME": "/other"}).shared == frozenset()


def test_a_home_is_never_allowed_as_a_whole(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "key").write_text("k")
    text = f'[[providers]]\ntype = "openai"\nname = "a"\napi_key = "file:{home / "key"}"\n'
    rights = rights_of(config_of(tmp_path, text), environ={"HOME": str(home)})
    assert str(home / "key") in rights.read
    assert not {str(home), str(tmp_path), "/", "/tmp"} & (rights.read | rights.write)


@pytest.mark.parametrize(
    ("store", "needed"),
    [
        ("postgresql:///records", True),
        ("postgresql://db.example/records?host=/run/postgresql", True),
        ("postgresql://db.example/records", False),
        ("records.sqlite", False),
    ],
)
def test_postgresql_on_a_unix_socket_needs_unix_sockets(tmp_path: Path, store: str, *, needed: bool) -> None:
    config = config_of(tmp_path, f'[record]\nstore = "{store}"\n{DEMO}')
    assert needs_unix_sockets(config) is needed


def test_the_paths_of_sockets_are_those_of_every_listener(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        f"""
[server]
socket = ["a.sock", "b.sock"]
admin_socket = "admin.sock"
[[agents]]
name = "x"
socket = "x.sock"
[mcp]
enabled = true
stdio_socket = "stdio.sock"
servers = [{{ name = "t", url = "http://tools.example/mcp" }}]
{DEMO}""",
    )
    assert set(socket_paths(config)) == {"a.sock", "b.sock", "admin.sock", "x.sock", "stdio.sock"}


def test_of_systemds_credentials_those_of_the_unit_are_read(tmp_path: Path) -> None:
    """The environment that LoadCredential= sets: systemd.exec(5), read on 2026-12-02."""
    folder = tmp_path / "credentials" / "modelplex.service"
    folder.mkdir(parents=True)
    (folder / "openai").write_text("k")
    (folder / "openai").chmod(0o400)
    environ = {"CREDENTIALS_DIRECTORY": str(folder)}
    file = tmp_path / "modelplex.toml"
    file.write_text('[[providers]]\ntype = "openai"\napi_key = "file:${CREDENTIALS_DIRECTORY}/openai"\n')
    rights = rights_of(load(str(file), environ=environ), environ=environ)
    assert {str(folder), str(folder / "openai")} <= rights.read
    assert str(folder.parent) not in rights.read
