"""What a launcher does for a config, and what it refuses."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from modelplex.config import load
from modelplex.confinement.messages import command_key
from modelplex.confinement.permitted import Permitted, tool_server
from modelplex.mcp.servers.server_process import isolated


@pytest.fixture
def permitted(tmp_path: Path) -> Permitted:
    aws = tmp_path / "aws"
    aws.write_text("[profile p]\ncredential_process = keys --for p\n")
    file = tmp_path / "modelplex.toml"
    file.write_text(
        f"""
[server]
socket = "{tmp_path}/sockets/m.sock"
[[providers]]
type = "openai"
name = "a"
base_url = "unix:{tmp_path}/model.sock:/v1"
api_key = "command:pass show 'a key'"
[[providers]]
type = "openai"
name = "b"
auth = {{ type = "command", command = ["token", "--json"] }}
[[providers]]
type = "bedrock"
name = "c"
region = "eu-central-1"
auth = {{ type = "aws", profile = "p" }}
[mcp]
enabled = true
[[mcp.servers]]
name = "one"
command = "{sys.executable}"
args = ["-c", "pass"]
env = {{ TOKEN = "secret" }}
[[mcp.servers]]
name = "two"
command = "{sys.executable}"
network = false
[[mcp.servers]]
name = "missing"
command = "no-such-program"
"""
    )
    return Permitted(
        load(str(file), environ=os.environ), environ={"PATH": "/bin", "AWS_CONFIG_FILE": str(aws)}
    )


@pytest.mark.parametrize("words", [("pass", "show", "a key"), ("token", "--json"), ("keys", "--for", "p")])
def test_commands_of_credentials_are_known_with_their_words(
    permitted: Permitted, words: tuple[str, ...]
) -> None:
    command = permitted.command(command_key(words, None, None))
    assert command is not None
    assert (command.argv, command.env, command.cwd) == (words, None, None)
    assert permitted.command(command_key((*words, "more"), None, None)) is None
    assert permitted.command(command_key(words, {}, None)) is None


def test_tool_servers_are_known_with_their_environment(permitted: Permitted) -> None:
    argv, env = (sys.executable, "-c", "pass"), {"PATH": "/bin", "TOKEN": "secret"}
    command = permitted.command(command_key(argv, env, None))
    assert command is not None
    assert command.env == env
    assert permitted.command(command_key(argv, {**env, "LD_PRELOAD": "evil.so"}, None)) is None
    assert permitted.command(command_key(argv, env, "/")) is None
    isolated_argv = isolated((sys.executable,))
    assert permitted.command(command_key(isolated_argv, {"PATH": "/bin"}, None)) is not None
    assert permitted.command(command_key((sys.executable,), {"PATH": "/bin"}, None)) is None


def test_a_server_without_a_program_has_no_command(permitted: Permitted) -> None:
    servers = {server.name: server for server in permitted.config.mcp.servers}
    assert tool_server(servers["missing"], {"PATH": "/bin"}) is None


def test_sockets_are_those_of_the_config(permitted: Permitted, tmp_path: Path) -> None:
    assert permitted.may_connect(f"{tmp_path}/model.sock")
    assert not permitted.may_connect("/var/run/docker.sock")
    assert permitted.may_listen_at(f"{tmp_path}/sockets/other.sock")
    assert not permitted.may_listen_at(f"{tmp_path}/m.sock")
    assert not permitted.may_listen_at(f"{tmp_path}/sockets/../m.sock")


def test_a_link_leads_to_no_other_folder(permitted: Permitted, tmp_path: Path) -> None:
    """For the kernel `sockets/link/..` is the parent of where the link leads."""
    (tmp_path / "sockets").mkdir()
    (tmp_path / "elsewhere" / "below").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "sockets"):
        (folder / "link").symlink_to(tmp_path / "elsewhere" / "below")
    assert not permitted.may_listen_at(f"{tmp_path}/sockets/link/../a.sock")
    assert not permitted.may_connect(f"{tmp_path}/link/../model.sock")
